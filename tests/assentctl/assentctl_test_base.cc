#include "tests/assentctl/assentctl_test_base.h"

#include <fstream>
#include <iostream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "google/protobuf/util/json_util.h"
#include "tests/fixtures/process.h"

namespace assent {

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

void AssentctlTest::SetUp() {
  absl::StatusOr<TempDir> folder = TempDir::Create("assentctl-");
  ASSERT_TRUE(folder.ok()) << folder.status();
  folder_ = std::make_unique<TempDir>(*std::move(folder));
  const absl::StatusOr<std::string> program = FindBuiltProgram("tools/assentctl/assentctl");
  ASSERT_TRUE(program.ok()) << program.status();
  program_ = *program;
  StartDaemon(daemon_options_);
}

int AssentctlTest::Ctl(const std::vector<std::string>& args, const std::vector<std::string>& environment) {
  std::vector<std::string> argv = {"/usr/bin/env", absl::StrCat("ASSENTCTL_ADDRESS=", daemon_->address())};
  argv.insert(argv.end(), environment.begin(), environment.end());
  const std::string base = absl::StrCat(folder_->path(), "/run", ++runs_);
  std::ofstream(base + ".in") << typed_;
  argv.insert(argv.end(),
              {"/bin/sh", "-c", "base=$1; shift; exec \"$@\" <\"$base.in\" >\"$base.out\"", "sh", base, program_});
  argv.insert(argv.end(), args.begin(), args.end());
  SpawnOptions options;
  options.output_path = base + ".err";
  const absl::StatusOr<int> code = assent::Run(argv, options);
  out_ = ReadAll(base + ".out");
  err_ = ReadAll(base + ".err");
  constexpr int kNoAnswer = 4;
  if (code.ok() && *code == kNoAnswer)
    std::cerr << "assentctl " << args[0] << ": " << err_;  // Rarely what a test wants.
  return code.ok() ? *code : -1;
}

int AssentctlTest::Shell(const std::string& shell, const std::vector<std::string>& args) {
  const absl::StatusOr<std::string> path = FindProgram(shell);
  if (!path.ok()) return -1;
  std::vector<std::string> argv = {*path};
  argv.insert(argv.end(), args.begin(), args.end());
  SpawnOptions options;
  options.output_path = absl::StrCat(folder_->path(), "/shell", ++runs_);
  const absl::StatusOr<int> code = assent::Run(argv, options);
  out_ = ReadAll(options.output_path);
  return code.ok() ? *code : -1;
}

google::protobuf::Struct AssentctlTest::Json() {
  google::protobuf::Struct object;
  const auto status = google::protobuf::util::JsonStringToMessage(out_, &object);
  EXPECT_TRUE(status.ok()) << status << "\n" << out_;
  return object;
}

int AssentctlTest::RegisterServer(const std::string& name, const PrivateMariaDb& server,
                                  const std::vector<std::string>& flags) {
  std::ofstream(PasswordFile(name)) << server.password() << "\n";
  std::vector<std::string> args = {"resources",   "register",           name,
                                   "--address",   server.tcp_address(), "--user",
                                   server.user(), "--password-file",    PasswordFile(name)};
  args.insert(args.end(), flags.begin(), flags.end());
  return Ctl(args);
}

void AssentctlTest::Begin(const std::string& gtrid, const std::vector<std::string>& bquals) {
  const auto created = stubs_->Create(CreateOf(gtrid, bquals));
  ASSERT_TRUE(created.ok()) << created.status();
}

void AssentctlTest::RollBack(const std::string& gtrid, const std::string& reason) {
  v1::FinalizeRequest finalize = FinalizeOf(gtrid, v1::DECISION_ROLLBACK);
  finalize.set_reason(reason);
  ASSERT_TRUE(stubs_->Finalize(finalize).ok());
}

}  // namespace assent
