// A client that knows several instances of the coordinator: whichever dies, the others go on with its transactions.
#include <signal.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "participant_sdk/cpp/client.h"
#include "participant_sdk/cpp/global_transaction.h"
#include "tests/bank/checker.h"
#include "tests/bank/rig.h"
#include "tests/fixtures/process.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

class FailoverTest : public testing::Test {
 protected:
  void SetUp() override {
    BankRigOptions options;
    options.folder = dir_.path();
    options.accounts = 200;
    options.instances = 3;
    auto started = BankRig::Start(options);
    ASSERT_TRUE(started.ok()) << started.status();
    rig_ = *std::move(started);
  }

  AssentdCluster& cluster() { return rig_->cluster(); }
  Client NewClient() { return Client(rig_->config().coordinator); }
  Assentd& InUse(const Client& client) { return cluster().instance(cluster().IndexOf(client.current_address())); }

  // No transfer may be in doubt, and all must be as it was told.
  void ExpectInOrder(const std::vector<JournalEntry>& journal) {
    const absl::Time give_up = absl::Now() + absl::Seconds(60);
    CoordinatorApi api(rig_->config().coordinator);
    const std::vector<v1::Global::State> open = {v1::Global::STATE_ACTIVE, v1::Global::STATE_COMMITTING,
                                                 v1::Global::STATE_ROLLING_BACK, v1::Global::STATE_HEURISTIC};
    for (;;) {
      const auto unfinished = api.ListAllGlobals(open);
      if (absl::Now() > give_up || (unfinished.ok() && unfinished->empty())) break;
      absl::SleepFor(absl::Milliseconds(100));
    }
    const auto report = CheckBank(rig_->config(), journal);
    ASSERT_TRUE(report.ok()) << report.status();
    for (const CheckLine& check : report->checks) {
      for (const std::string& violation : check.violations) ADD_FAILURE() << check.what << ": " << violation;
    }
    EXPECT_EQ(report->violations, 0);
  }

  // Fair enough to be used up: two accounts on the two servers.
  static TransferRequest TransferOf(int64_t id) { return {id, 2 * (id % 100), 2 * (id % 97) + 1, 1, FailHalfWay::kNo}; }

  TempDir dir_ = *TempDir::Create();
  std::unique_ptr<BankRig> rig_;
};

TEST_F(FailoverTest, AddressesWhereNobodyIsCostNextToNothing) {
  const std::string nobody = absl::StrCat("127.0.0.1:", FreePort());
  const std::string live = cluster().instance(0).address();
  for (int i = 0; i < 8; ++i) {  // It begins with any of them.
    Client client(absl::StrCat(" ", nobody, ",, ", nobody, ",", live, " "));
    const absl::Time began = absl::Now();
    auto transaction = client.Begin();
    ASSERT_TRUE(transaction.ok()) << transaction.status();
    EXPECT_LT(absl::Now() - began, absl::Seconds(1));
    EXPECT_EQ(client.current_address(), live);
    EXPECT_LE(client.calls_sent(), 2);
    transaction->Leave();
    ASSERT_TRUE(client.Begin().ok());
    EXPECT_EQ(client.current_address(), live) << "it stays with the one that works";
  }
}

TEST_F(FailoverTest, ClientsSpread) {
  std::set<std::string> used;
  const std::vector<std::string> addresses = {cluster().instance(0).address(), cluster().instance(1).address(),
                                              cluster().instance(2).address()};
  for (int i = 0; i < 64; ++i) used.insert(Client(addresses).current_address());
  EXPECT_EQ(used.size(), 3u);
}

TEST_F(FailoverTest, AllAwayIsSaidAndAnyThatComesBackIsFound) {
  for (int i = 0; i < 3; ++i) cluster().instance(i).Kill9();
  ClientOptions options;
  options.call_patience = absl::Seconds(1);
  Client client(rig_->config().coordinator, options);
  const absl::Status refused = client.Begin().status();
  EXPECT_EQ(ReasonOf(refused), Reason::COORDINATOR_UNREACHABLE) << refused;
  EXPECT_THAT(std::string(refused.message()), testing::HasSubstr(rig_->config().coordinator));
  for (int i = 0; i < 3; ++i) {
    // One alone is there, wherever the client looks first.
    Client waiting = NewClient();
    absl::Time back;
    std::thread later([&] {
      absl::SleepFor(absl::Milliseconds(700));
      EXPECT_TRUE(cluster().instance(i).Restart().ok());
      back = absl::Now();
    });
    EXPECT_TRUE(waiting.Begin().ok());
    const absl::Time found = absl::Now();
    later.join();
    EXPECT_LT(found - back, absl::Seconds(2));
    cluster().instance(i).Kill9();
  }
}

TEST_F(FailoverTest, AFrozenInstanceIsLeftAndItsTransactionGoesOnElsewhere) {
  Client client = NewClient();
  Teller teller(&rig_->config(), &client);
  std::vector<JournalEntry> journal = {teller.Transfer(TransferOf(1))};
  for (int64_t id = 2; id <= 4; ++id) {
    Assentd& frozen = InUse(client);
    frozen.Signal(SIGSTOP);
    const absl::Time began = absl::Now();
    journal.push_back(teller.Transfer(TransferOf(id)));
    EXPECT_EQ(journal.back().told, Told::kCommitted) << journal.back().why;
    EXPECT_LT(absl::Now() - began, absl::Seconds(6));
    EXPECT_NE(client.current_address(), frozen.address());
    frozen.Signal(SIGCONT);
  }
  EXPECT_TRUE(client.Flush(absl::Seconds(20)));
  ExpectInOrder(journal);
}

TEST_F(FailoverTest, AWaitSurvivesTheDeathOfItsInstanceAndLearnsWhatWasDecidedAtAnother) {
  for (int round = 0; round < 3; ++round) {
    BeginOptions begin;
    begin.policy = v1::DECISION_POLICY_WHEN_ALL_PREPARED;
    begin.expected_branches = 2;
    Client initiator = NewClient();
    auto transaction = initiator.Begin(begin);
    ASSERT_TRUE(transaction.ok()) << transaction.status();
    Client waits = NewClient();
    absl::Status told = absl::InternalError("not told");
    absl::Time told_at;
    std::thread waiting([&] {
      const auto session = ConnectTo(rig_->config().servers[0]);
      ASSERT_TRUE(session.ok());
      auto worker = waits.Join(transaction->gtrid());
      const auto branch = worker->OpenBranch("orders", session->get());
      ASSERT_TRUE(branch.ok()) << branch.status();
      ASSERT_TRUE((*branch)->Execute("UPDATE bank.accounts SET balance = balance - 1 WHERE id = 2").ok());
      told = worker->Prepare();
      told_at = absl::Now();
    });
    CoordinatorApi api(rig_->config().coordinator);
    for (int i = 0; i < 1000; ++i) {
      const auto now = api.GetGlobal(transaction->gtrid());
      if (now.ok() && now->global().branches_size() == 1 &&
          now->global().branches(0).state() == v1::Branch::STATE_PREPARED) {
        break;
      }
      absl::SleepFor(absl::Milliseconds(5));
    }
    Assentd& in_use = InUse(waits);
    in_use.Kill9();
    if (round == 1) absl::SleepFor(absl::Milliseconds(500));
    Client votes = NewClient();
    const auto session = ConnectTo(rig_->config().servers[1]);
    auto worker = votes.Join(transaction->gtrid());
    const auto branch = worker->OpenBranch("payments", session->get());
    ASSERT_TRUE(branch.ok()) << branch.status();
    ASSERT_TRUE((*branch)->Execute("UPDATE bank.accounts SET balance = balance + 1 WHERE id = 3").ok());
    EXPECT_TRUE(worker->Prepare().ok());
    const absl::Time decided = absl::Now();
    waiting.join();
    EXPECT_TRUE(told.ok()) << told;
    EXPECT_LT(told_at - decided, absl::Seconds(2));
    transaction->Leave();
    ASSERT_TRUE(in_use.Restart().ok());
  }
}

TEST_F(FailoverTest, NobodyIsToldAnythingWrongWhileTheInstanceInUseIsKilledAgainAndAgain) {
  constexpr int kWorkers = 6;
  std::atomic<bool> stop{false};
  std::vector<std::vector<JournalEntry>> journals(kWorkers);
  std::vector<std::thread> workers;
  Client watched = NewClient();  // Of the first worker: the one in whose votes and waits the instance dies.
  for (int w = 0; w < kWorkers; ++w) {
    workers.emplace_back([&, w] {
      Client client = w == 0 ? watched : NewClient();
      Teller teller(&rig_->config(), &client);
      for (int64_t id = w + 1; !stop; id += kWorkers) journals[w].push_back(teller.Transfer(TransferOf(id)));
      EXPECT_TRUE(client.Flush(absl::Seconds(30)));
    });
  }
  for (int kill = 0; kill < 12; ++kill) {
    absl::SleepFor(absl::Milliseconds(300 + 37 * kill));
    Assentd& victim = InUse(watched);
    victim.Kill9();
    absl::SleepFor(absl::Milliseconds(100));
    EXPECT_TRUE(victim.Restart().ok()) << victim.OutputTail();
  }
  stop = true;
  for (std::thread& worker : workers) worker.join();
  std::vector<JournalEntry> journal;
  for (const auto& one : journals) {
    for (const JournalEntry& entry : one) {
      EXPECT_EQ(entry.told, Told::kCommitted) << entry.why;
      journal.push_back(entry);
    }
  }
  EXPECT_GT(journal.size(), 100u);
  ExpectInOrder(journal);
}

}  // namespace
}  // namespace assent
