// A pool resets a connection while it holds a branch, behind the SDK's back. MariaDB would answer OK to a later XA
// COMMIT or XA ROLLBACK and do nothing: so nobody may be told anything before recovery has seen to it.
#include <signal.h>

#include <thread>

#include "participant_sdk/cpp/sdk_test_rig.h"
#include "resource_manager/reset_connection.h"

namespace assent {
namespace {

using ::testing::HasSubstr;

class SessionResetTest : public SdkTest, public testing::WithParamInterface<ResetBy> {
 protected:
  void SetUp() override {
    SdkTest::SetUp();
    // The pool's own pointers.
    for (int i = 0; i < kBankServers; ++i) handles_[i] = session(i)->BorrowHandle();
  }

  void ResetConnection(int server) {
    Reset(GetParam(), handles_[server], rig().database(server).user(), rig().database(server).password());
  }

  // Nothing of the account's row is locked any more, also by what nobody sees. (What has just become visible may still
  // be on its way to the disk.)
  void ExpectUnlocked(int account) {
    const int server = account % kBankServers;
    for (int i = 0; i < 500 && PreparedOn(server) != 0; ++i) absl::SleepFor(absl::Milliseconds(10));
    Sql(server, "SET SESSION innodb_lock_wait_timeout = 1");
    Sql(server, absl::StrCat("UPDATE bank.accounts SET balance = balance + 0 WHERE id = ", account));
    EXPECT_EQ(PreparedOn(server), 0u);
    EXPECT_EQ(Number(server, "SELECT COUNT(*) FROM information_schema.innodb_trx"), 0);
  }

  void ExpectInDoubtBecauseOfTheReset(const absl::Status& told, int server) {
    EXPECT_EQ(ReasonOf(told), Reason::OUTCOME_IN_DOUBT) << told;
    EXPECT_THAT(std::string(told.message()), HasSubstr("was reset"));
    EXPECT_EQ(MetadataOf(told)["cause"], "SESSION_RESET");
    EXPECT_TRUE(session(server)->lost()) << "recovery needs the end of that session";
  }

  // A worker holds its prepared branch on `orders` and waits for the decision; then its connection is reset and
  // `decide` is called. Answers what the worker was told.
  template <typename Decide>
  absl::Status ResetWhileWaiting(const std::string& gtrid, Decide decide) {
    absl::Status told;
    std::thread waiting([&] {
      Client own = NewClient();
      auto worker = own.Join(gtrid);
      ASSERT_TRUE(MustOpen(&*worker, kOrders, session(0))->Execute(Take(2)).ok());
      told = worker->Prepare();
      EXPECT_EQ(worker->outcome(), v1::OUTCOME_IN_DOUBT);
      EXPECT_TRUE(own.Flush(absl::Seconds(10)));
    });
    AwaitPreparedVotes(gtrid, 1);
    ResetConnection(0);
    decide();
    waiting.join();
    return told;
  }

  // The owner of both branches is in Commit; one connection is reset between the two phases.
  absl::Status CommitAndReset(GlobalTransaction* transaction, int server) {
    rig().coordinator().Signal(SIGSTOP);
    absl::Status told;
    std::thread committing([&] { told = transaction->Commit(); });
    for (int i = 0; i < 1000 && PreparedOn(0) + PreparedOn(1) < 2; ++i) absl::SleepFor(absl::Milliseconds(5));
    absl::SleepFor(absl::Milliseconds(100));  // The answers to PREPARE have arrived.
    ResetConnection(server);
    rig().coordinator().Signal(SIGCONT);
    committing.join();
    return told;
  }

  Client client_ = NewClient();
  st_mysql* handles_[kBankServers] = {};
};

TEST_P(SessionResetTest, WhileAWorkerWaitsForWhatBecomesCommit) {
  BeginOptions begin;
  begin.policy = v1::DECISION_POLICY_WHEN_ALL_PREPARED;
  begin.expected_branches = 2;
  GlobalTransaction initiator = MustBegin(&client_, begin);
  const absl::Status told = ResetWhileWaiting(initiator.gtrid(), [&] {
    auto worker = client_.Join(initiator.gtrid());
    ASSERT_TRUE(MustOpen(&*worker, kPayments, session(1))->Execute(Take(3)).ok());
    EXPECT_TRUE(worker->Prepare().ok()) << "its own branch is committed, and that is what it is told";
  });
  ExpectInDoubtBecauseOfTheReset(told, 0);
  initiator.Leave();
  AwaitOutcome(initiator.gtrid(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(Taken(2), 1);
  EXPECT_EQ(Taken(3), 1);
  ExpectUnlocked(2);
}

TEST_P(SessionResetTest, WhileAWorkerWaitsForWhatBecomesRollback) {
  GlobalTransaction initiator = MustBegin(&client_);
  const absl::Status told = ResetWhileWaiting(initiator.gtrid(), [&] { EXPECT_TRUE(initiator.Rollback("no").ok()); });
  ExpectInDoubtBecauseOfTheReset(told, 0);
  AwaitOutcome(initiator.gtrid(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(Taken(2), 0);
  ExpectUnlocked(2);
}

TEST_P(SessionResetTest, WhileTheOwnerIsInCommit) {
  GlobalTransaction transaction = MustBegin(&client_);
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  ASSERT_TRUE(MustOpen(&transaction, kPayments, session(1))->Execute(Take(3)).ok());
  ExpectInDoubtBecauseOfTheReset(CommitAndReset(&transaction, 1), 1);
  EXPECT_EQ(transaction.outcome(), v1::OUTCOME_IN_DOUBT);
  EXPECT_EQ(Taken(2), 1) << "the other branch is not affected";
  AwaitOutcome(transaction.gtrid(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(Taken(3), 1);
  ExpectUnlocked(3);
}

TEST_P(SessionResetTest, WithoutAWitnessItStaysInDoubt) {
  const BankServer& server = rig().config().servers[0];
  ASSERT_TRUE(
      CoordinatorApi(rig().config().coordinator)
          .RegisterMariaDb("unwitnessed", server.address, server.user, server.password_file, v1::WITNESS_DISABLED)
          .ok());
  GlobalTransaction transaction = MustBegin(&client_);
  ASSERT_TRUE(MustOpen(&transaction, "unwitnessed", session(0))->Execute(Take(2)).ok());
  ASSERT_TRUE(MustOpen(&transaction, kPayments, session(1))->Execute(Take(3)).ok());
  ExpectInDoubtBecauseOfTheReset(CommitAndReset(&transaction, 0), 0);
  for (int i = 0; i < 3000 && Taken(2) == 0; ++i) absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(Taken(2), 1) << "recovery has committed it";
  ExpectUnlocked(2);
  absl::SleepFor(absl::Seconds(3));
  EXPECT_EQ(Global(transaction.gtrid()).outcome(), v1::OUTCOME_IN_DOUBT) << "there is nothing to prove it with";
  const v1::GetGlobalResponse global = Global(transaction.gtrid());
  ASSERT_EQ(global.global().branches_size(), 2);
  EXPECT_EQ(global.global().branches(0).resource(), "unwitnessed");
  EXPECT_EQ(global.global().branches(0).state(), v1::Branch::STATE_PREPARED) << global.DebugString();
}

TEST_P(SessionResetTest, OfAnActiveBranchBeforeAStatement) {
  GlobalTransaction transaction = MustBegin(&client_);
  ASSERT_TRUE(MustOpen(&transaction, kPayments, session(1))->Execute(Take(3)).ok());
  Branch* const orders = MustOpen(&transaction, kOrders, session(0));
  ASSERT_TRUE(orders->Execute(Take(2)).ok());
  ResetConnection(0);
  const absl::Status refused = orders->Execute(Take(4)).status();
  EXPECT_EQ(ReasonOf(refused), Reason::SESSION_RESET) << refused;
  EXPECT_EQ(ReasonOf(orders->Execute(Take(6)).status()), Reason::BRANCH_POISONED);
  const absl::Status told = transaction.Commit();
  if (GetParam() == ResetBy::kBehindTheLibrary) {
    ExpectInDoubtBecauseOfTheReset(told, 0);
    EXPECT_THAT(std::string(told.message()), HasSubstr("look at the rows"));
    EXPECT_EQ(Taken(4), 1) << "it committed by itself before anybody could know";
  } else {
    EXPECT_TRUE(absl::IsAborted(told)) << told;
    EXPECT_EQ(Taken(4), 0) << "it ran outside of the branch";
  }
  AwaitOutcome(transaction.gtrid(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(Taken(2) + Taken(3) + Taken(6), 0);
  EXPECT_EQ(Witnesses(0, transaction.gtrid()), 0);
  ExpectUnlocked(2);
}

TEST_P(SessionResetTest, OfAnActiveBranchBeforePrepare) {
  GlobalTransaction transaction = MustBegin(&client_);
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  ResetConnection(0);
  const absl::Status told = transaction.Commit();
  // Behind the library nobody knows whether the last statement ran before the reset: it did not answer like one
  // outside.
  EXPECT_TRUE(absl::IsAborted(told) || ReasonOf(told) == Reason::OUTCOME_IN_DOUBT) << told;
  EXPECT_EQ(absl::IsAborted(told), GetParam() != ResetBy::kBehindTheLibrary) << told;
  EXPECT_THAT(std::string(told.message()), HasSubstr("was reset"));
  EXPECT_EQ(Witnesses(0, transaction.gtrid()), 0) << "false evidence of a commit";
  AwaitOutcome(transaction.gtrid(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(Taken(2), 0);
  ExpectUnlocked(2);
}

TEST_P(SessionResetTest, OfAnActiveBranchBeforeRollback) {
  GlobalTransaction transaction = MustBegin(&client_);
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  ResetConnection(0);
  ExpectInDoubtBecauseOfTheReset(transaction.Rollback(), 0);
  AwaitOutcome(transaction.gtrid(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(Taken(2), 0);
  ExpectUnlocked(2);
}

TEST_P(SessionResetTest, InsideRun) {
  GlobalTransaction transaction = MustBegin(&client_);
  Branch* const orders = MustOpen(&transaction, kOrders, session(0));
  EXPECT_TRUE(orders
                  ->Run([&](st_mysql* mysql) {
                    ResetConnection(0);
                    return mysql_query(mysql, Take(4).c_str()) == 0 ? absl::OkStatus()
                                                                    : absl::InternalError(mysql_error(mysql));
                  })
                  .ok());
  ExpectInDoubtBecauseOfTheReset(transaction.Commit(), 0);
  EXPECT_EQ(Taken(4), 1) << "it committed by itself";
  AwaitOutcome(transaction.gtrid(), v1::OUTCOME_ROLLED_BACK);
}

// Between two transactions a pool may do what it wants.
TEST_P(SessionResetTest, BetweenTwoTransactionsItIsNoOnesBusiness) {
  for (int i = 1; i <= 3; ++i) {
    ResetConnection(0);
    GlobalTransaction transaction = MustBegin(&client_);
    ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
    ASSERT_TRUE(MustOpen(&transaction, kPayments, session(1))->Execute(Take(3)).ok());
    const absl::Status told = transaction.Commit();
    EXPECT_TRUE(told.ok()) << told;
    EXPECT_EQ(Taken(2), i);
  }
}

INSTANTIATE_TEST_SUITE_P(By, SessionResetTest, testing::ValuesIn(kAllResets),
                         [](const testing::TestParamInfo<ResetBy>& info) { return ToString(info.param); });

}  // namespace
}  // namespace assent
