// The participant of the crash matrix: one global transaction with a branch on each of two servers, and a row in each.
//
//   crash_participant COORDINATOR GTRID FLOW TIMEOUT_MS RESULT_FILE
//       ENGINE_A ADDRESS_A USER_A DATABASE_A PASSWORD_FILE_A  ENGINE_B …
//
// With commit-one the coordinator chooses another gtrid, which RESULT_FILE.gtrid gets. RESULT_FILE gets what the
// application was told for certain: COMMITTED, ROLLED_BACK, or UNKNOWN; then the words.
#include <glog/logging.h>

#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/address.h"
#include "participant_sdk/cpp/client.h"
#include "participant_sdk/cpp/global_transaction.h"
#include "resource_manager/database_engine.h"
#include "tests/fixtures/coordinator_api.h"
#include "tests/fixtures/databases.h"
#include "tests/recovery/crash_matrix.h"

namespace assent {
namespace {

constexpr absl::Duration kPollInterval = absl::Milliseconds(5);

struct Arguments {
  std::string coordinator;
  std::string gtrid;
  std::string result;
  Flow flow = Flow::kCommit;
  absl::Duration timeout;
  std::vector<std::unique_ptr<BranchSession>> sessions;
};

// A branch on each server with a row in it.
absl::Status Work(const Arguments& arguments, GlobalTransaction* transaction) {
  for (size_t i = 0; i < arguments.sessions.size(); ++i) {
    const absl::StatusOr<Branch*> branch = transaction->OpenBranch(i == 0 ? "a" : "b", arguments.sessions[i].get());
    if (!branch.ok()) return branch.status();
    const Xid& xid = (*branch)->xid();
    if (arguments.flow == Flow::kCommitOne && i == 1)
      return (*branch)->Execute("SELECT gtrid FROM app.t LIMIT 1").status();
    const absl::Status inserted =
        (*branch)->Execute(absl::StrCat("INSERT INTO app.t VALUES ('", xid.gtrid, "', '", xid.bqual, "')")).status();
    if (!inserted.ok()) return inserted;
    // A duplicate key, which the application does not mind: Commit must.
    if ((arguments.flow == Flow::kFail || arguments.flow == Flow::kFailAlone) && i == 1) {
      (*branch)->Execute("INSERT INTO app.t SELECT * FROM app.t WHERE gtrid = '" + xid.gtrid + "'").IgnoreError();
    }
  }
  return absl::OkStatus();
}

absl::Status CommitFlow(const Arguments& arguments, GlobalTransaction* transaction) {
  absl::Status status = Work(arguments, transaction);
  return status.ok() ? transaction->Commit() : status;
}

// OK: rolled back.
absl::Status AbortFlow(const Arguments& arguments, GlobalTransaction* transaction) {
  absl::Status status = Work(arguments, transaction);
  return status.ok() ? transaction->Rollback("the test wants it so") : status;
}

// Waits until both votes are on record, or the decision is.
void AwaitVotes(const Arguments& arguments) {
  CoordinatorApi api(arguments.coordinator);
  for (;; absl::SleepFor(kPollInterval)) {
    const absl::StatusOr<v1::GetGlobalResponse> now = api.GetGlobal(arguments.gtrid);
    if (!now.ok()) continue;
    int prepared = 0;
    for (const v1::Branch& branch : now->global().branches()) prepared += branch.vote() == v1::VOTE_KIND_PREPARED;
    if (prepared == 2 || now->global().decision() != v1::DECISION_UNSPECIFIED) return;
  }
}

// What the worker is told, and the initiator after it.
std::vector<absl::Status> VoteFlow(const Arguments& arguments, Client* client, GlobalTransaction* initiator) {
  absl::StatusOr<GlobalTransaction> worker = client->Join(arguments.gtrid);
  if (!worker.ok()) return {worker.status()};
  if (absl::Status status = Work(arguments, &*worker); !status.ok()) return {status};
  std::vector<absl::Status> told(2);
  std::thread voting([&] { told[0] = worker->Prepare(); });
  AwaitVotes(arguments);
  told[1] = arguments.flow == Flow::kVoteThenCommit ? initiator->Commit() : initiator->Rollback("the test wants it so");
  voting.join();
  return told;
}

std::string Told(const absl::Status& status, bool wants_commit) {
  if (status.ok()) return wants_commit ? "COMMITTED" : "ROLLED_BACK";
  return absl::IsAborted(status) ? "ROLLED_BACK" : "UNKNOWN";
}

std::string Run(const Arguments& arguments) {
  ClientOptions options;
  options.call_patience = absl::Seconds(30);
  options.decision_patience = absl::Seconds(30);
  Client client(arguments.coordinator, options);
  BeginOptions begin;
  // One phase is for ids of the coordinator's only.
  if (arguments.flow != Flow::kCommitOne) begin.gtrid = arguments.gtrid;
  begin.timeout = arguments.timeout;
  begin.sole_participant = IsAlone(arguments.flow);
  absl::StatusOr<GlobalTransaction> transaction = client.Begin(begin);
  if (!transaction.ok()) return absl::StrCat("UNKNOWN ", ToText(transaction.status()));
  if (arguments.flow == Flow::kCommitOne) std::ofstream(arguments.result + ".gtrid") << transaction->gtrid();
  std::vector<absl::Status> told;
  bool wants_commit = true;
  switch (arguments.flow) {
    case Flow::kCommit:
    case Flow::kFail:
    case Flow::kCommitAlone:
    case Flow::kCommitOne:
    case Flow::kFailAlone: told = {CommitFlow(arguments, &*transaction)}; break;
    case Flow::kAbort:
    case Flow::kAbortAlone:
      told = {AbortFlow(arguments, &*transaction)};
      wants_commit = false;
      break;
    default: told = VoteFlow(arguments, &client, &*transaction); break;
  }
  // The worker is told how its branches ended, the initiator that what it asked for is so.
  std::string result = Told(told[0], wants_commit);
  if (told.size() > 1) {
    const std::string initiators = Told(told[1], arguments.flow == Flow::kVoteThenCommit);
    if (result == "UNKNOWN") result = initiators;
    if (initiators != "UNKNOWN" && initiators != result) result = "CONTRADICTION";
  }
  for (const absl::Status& status : told) absl::StrAppend(&result, " ", ToText(status));
  return result;
}

int Main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  constexpr int kFirstServer = 6;
  constexpr int kOfServer = 5;
  CHECK_EQ(argc, kFirstServer + kTestServers * kOfServer);
  Arguments arguments;
  arguments.coordinator = argv[1];
  arguments.gtrid = argv[2];
  arguments.result = argv[5];
  arguments.flow = FlowOf(argv[3]).value();
  int64_t timeout_ms = 0;
  CHECK(absl::SimpleAtoi(argv[4], &timeout_ms));
  arguments.timeout = absl::Milliseconds(timeout_ms);
  for (int i = kFirstServer; i < argc; i += kOfServer) {
    ConnectOptions options;
    options.address = ParseAddress(argv[i + 1]).value();
    options.user = argv[i + 2];
    options.database = argv[i + 3];
    std::ifstream(argv[i + 4]) >> options.password;
    auto session = FindDatabaseEngine(EnginesOf(argv[i])[0])->connect(options);
    CHECK(session.ok()) << session.status();
    arguments.sessions.push_back(*std::move(session));
  }
  const std::string result = Run(arguments);
  LOG(INFO) << arguments.gtrid << " " << result;
  std::ofstream(argv[5]) << result << "\n";
  return 0;
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) { return assent::Main(argc, argv); }
