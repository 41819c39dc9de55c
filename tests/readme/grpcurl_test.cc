// Replays the grpcurl session of README.md against a real assentd. Needs grpcurl: $TEST_GRPCURL (tools/test sets it),
// else in $PATH.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"
#include "tests/fixtures/assentd.h"
#include "tests/readme/readme_session.h"

namespace assent {
namespace {

std::string RunShell(const std::string& command) {
  std::string output;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return "cannot run a shell";
  char buffer[4096];
  while (const size_t got = std::fread(buffer, 1, sizeof(buffer), pipe)) output.append(buffer, got);
  pclose(pipe);
  return output;
}

// The README speaks of an assentd without settings.
Assentd::Options WithDefaultCluster() {
  Assentd::Options options;
  options.cluster = "assent";
  return options;
}

TEST(GrpcurlTest, ReadmeSessionIsTrue) {
  std::ifstream file("README.md");
  std::stringstream readme;
  readme << file.rdbuf();
  const std::vector<ConsoleStep> steps = ConsoleSteps(FencedBlock(readme.str(), "console"));
  ASSERT_GE(steps.size(), 10u);

  const char* configured = std::getenv("TEST_GRPCURL");
  const std::string grpcurl = configured != nullptr ? configured : "grpcurl";
  ASSERT_TRUE(absl::StartsWith(RunShell(grpcurl + " -version"), "grpcurl"))
      << "grpcurl is not installed; tools/test does that";

  absl::StatusOr<std::unique_ptr<Assentd>> assentd = Assentd::Start(WithDefaultCluster());
  ASSERT_TRUE(assentd.ok()) << assentd.status();
  for (const ConsoleStep& step : steps) {
    ASSERT_TRUE(absl::StartsWith(step.command, "grpcurl ")) << step.command;
    EXPECT_FALSE(step.shown.empty()) << "a step that shows nothing proves nothing: " << step.command;
    const std::string command =
        absl::StrCat(grpcurl, absl::StrReplaceAll(step.command.substr(7), {{"127.0.0.1:7411", (*assentd)->address()}}));
    const std::string output = RunShell(command);
    for (const std::string& line : step.shown) {
      EXPECT_TRUE(absl::StrContains(output, line))
          << "README shows: " << line << "\nafter: " << step.command << "\nbut it is:\n"
          << output;
    }
  }
}

}  // namespace
}  // namespace assent
