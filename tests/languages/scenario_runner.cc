// Does the steps of participant_sdk/scenarios.txt with the C++ SDK: reads one a line, and answers each with a line
// `OK`, `OK TEXT`, or `CODE REASON`.
//
//   scenario_runner ASSENTD (RESOURCE ENGINE ADDRESS USER PASSWORD_FILE DATABASE)…
#include <glog/logging.h>

#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/address.h"
#include "base/errors.h"
#include "base/grpc_status.h"
#include "participant_sdk/cpp/client.h"
#include "participant_sdk/cpp/global_transaction.h"
#include "resource_manager/database_engine.h"
#include "tests/fixtures/databases.h"

namespace assent {
namespace {

struct Server {
  std::string engine;
  ConnectOptions options;
};

std::string CodeOf(const absl::Status& status) { return absl::StatusCodeToString(status.code()); }

std::string Answer(const absl::Status& status) {
  if (status.ok()) return "OK";
  const absl::optional<Reason> reason = ReasonOf(status);
  return absl::StrCat(CodeOf(status), reason ? absl::StrCat(" ", InfoOf(*reason).name) : "");
}

class Runner {
 public:
  Runner(const std::string& assentd, std::map<std::string, Server> servers)
      : client_(assentd, Options()), servers_(std::move(servers)) {}

  std::string Do(const std::string& line) {
    const std::vector<std::string> words = absl::StrSplit(line, absl::MaxSplits(' ', 2));
    const std::string& verb = words[0];
    if (verb == "begin") return Begin(words);
    if (verb == "join") return Take(client_.Join(words[1]));
    if (verb == "work") return Answer(Work(words[1], words[2]));
    if (verb == "commit") return Answer(transaction_->Commit());
    if (verb == "prepare") return Answer(transaction_->Prepare());
    if (verb == "vote") return Answer(transaction_->Vote());
    if (verb == "rollback") return Answer(transaction_->Rollback());
    if (verb == "outcome")
      return absl::StrCat("OK ", absl::StripPrefix(v1::Outcome_Name(transaction_->outcome()), "OUTCOME_"));
    CHECK_EQ(verb, "leave");
    transaction_.reset();
    return "OK";
  }

 private:
  static ClientOptions Options() {
    ClientOptions options;
    options.call_patience = options.decision_patience = absl::Seconds(2);
    return options;
  }

  std::string Begin(const std::vector<std::string>& words) {
    BeginOptions begin;
    for (size_t i = 1; i < words.size(); ++i) {
      for (const std::string& word : std::vector<std::string>(absl::StrSplit(words[i], ' '))) {
        absl::string_view value = word;
        int number = 0;
        if (word == "sole") begin.sole_participant = true;
        if (absl::ConsumePrefix(&value, "timeout=") && absl::SimpleAtoi(value, &number)) {
          begin.timeout = absl::Milliseconds(number);
        }
        if (absl::ConsumePrefix(&value, "expected=") && absl::SimpleAtoi(value, &number)) {
          begin.policy = v1::DECISION_POLICY_WHEN_ALL_PREPARED;
          begin.expected_branches = number;
        }
        if (absl::ConsumePrefix(&value, "gtrid=")) begin.gtrid = std::string(value);
        if (absl::ConsumePrefix(&value, "resources=")) begin.resources = absl::StrSplit(value, ',');
      }
    }
    return Take(client_.Begin(begin));
  }

  std::string Take(absl::StatusOr<GlobalTransaction> transaction) {
    transaction_.reset();
    sessions_.clear();
    if (!transaction.ok()) return Answer(transaction.status());
    transaction_ = std::make_unique<GlobalTransaction>(*std::move(transaction));
    return absl::StrCat("OK ", transaction_->gtrid());
  }

  absl::Status Work(const std::string& resource, const std::string& sql) {
    // A resource that is not registered is on some server all the same.
    const auto found = servers_.find(resource);
    const Server& server = found == servers_.end() ? servers_.begin()->second : found->second;
    auto session = FindDatabaseEngine(EnginesOf(server.engine)[0])->connect(server.options);
    if (!session.ok()) return session.status();
    sessions_.push_back(*std::move(session));
    const absl::StatusOr<Branch*> branch = transaction_->OpenBranch(resource, sessions_.back().get());
    return branch.ok() ? (*branch)->Execute(sql).status() : branch.status();
  }

  Client client_;
  const std::map<std::string, Server> servers_;
  std::vector<std::unique_ptr<BranchSession>> sessions_;  // Outlive the transaction.
  std::unique_ptr<GlobalTransaction> transaction_;
};

int Main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  constexpr int kFields = 6;
  CHECK_EQ((argc - 2) % kFields, 0);
  std::map<std::string, Server> servers;
  for (int i = 2; i < argc; i += kFields) {
    Server server;
    server.engine = argv[i + 1];
    server.options.address = ParseAddress(argv[i + 2]).value();
    server.options.user = argv[i + 3];
    std::ifstream(argv[i + 4]) >> server.options.password;
    server.options.database = argv[i + 5];
    servers[argv[i]] = std::move(server);
  }
  Runner runner(argv[1], std::move(servers));
  for (std::string line; std::getline(std::cin, line);) std::cout << runner.Do(line) << std::endl;
  return 0;
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) { return assent::Main(argc, argv); }
