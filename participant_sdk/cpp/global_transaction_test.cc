// Transactions that end as they should: one process, many workers, rollbacks, read-only branches, scopes.
#include "participant_sdk/cpp/global_transaction.h"

#include <thread>

#include "participant_sdk/cpp/sdk_test_rig.h"

namespace assent {
namespace {

using ::testing::HasSubstr;

class GlobalTransactionTest : public SdkTest {};

TEST_F(GlobalTransactionTest, CommitMakesAllOfItVisible) {
  Client client = NewClient();
  GlobalTransaction transaction = MustBegin(&client);
  EXPECT_EQ(transaction.outcome(), v1::OUTCOME_UNSPECIFIED);
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  ASSERT_TRUE(MustOpen(&transaction, kPayments, session(1))->Execute(Take(3)).ok());
  EXPECT_EQ(Taken(2) + Taken(3), 0) << "visible before the commit";
  EXPECT_TRUE(transaction.Commit().ok());
  EXPECT_EQ(transaction.outcome(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(Taken(2), 1);
  EXPECT_EQ(Taken(3), 1);
  EXPECT_TRUE(client.Flush(absl::Seconds(10)));
  EXPECT_EQ(Global(transaction.gtrid()).outcome(), v1::OUTCOME_COMMITTED);
  for (int i = 0; i < kBankServers; ++i) EXPECT_EQ(Witnesses(i, transaction.gtrid()), IsPostgres(i) ? 0 : 1);
  EXPECT_TRUE(transaction.Commit().ok()) << "repeated, it answers the same";
  EXPECT_EQ(Taken(2), 1);
}

TEST_F(GlobalTransactionTest, RollbackLeavesNothing) {
  Client client = NewClient();
  GlobalTransaction transaction = MustBegin(&client);
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  ASSERT_TRUE(MustOpen(&transaction, kPayments, session(1))->Execute(Take(3)).ok());
  EXPECT_TRUE(transaction.Rollback("the customer left").ok());
  EXPECT_EQ(transaction.outcome(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(Taken(2) + Taken(3), 0);
  EXPECT_EQ(Witnesses(0, transaction.gtrid()) + Witnesses(1, transaction.gtrid()), 0);
  EXPECT_TRUE(client.Flush(absl::Seconds(10)));
  const v1::GetGlobalResponse global = Global(transaction.gtrid());
  EXPECT_EQ(global.outcome(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_THAT(global.global().cause_detail(), HasSubstr("the customer left"));
  EXPECT_TRUE(transaction.Rollback().ok()) << "repeated, it answers the same";
}

TEST_F(GlobalTransactionTest, SessionsServeOneTransactionAfterTheOther) {
  Client client = NewClient();
  for (int i = 0; i < 3; ++i) {
    BeginOptions begin;
    begin.resources = {kOrders, kPayments};
    GlobalTransaction transaction = MustBegin(&client, begin);
    ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
    ASSERT_TRUE(MustOpen(&transaction, kPayments, session(1))->Execute(Take(3)).ok());
    EXPECT_EQ(i == 1 ? transaction.Rollback() : transaction.Commit(), absl::OkStatus());
  }
  EXPECT_EQ(Taken(2), 2);
}

// Begun here, done by two workers that know only the gtrid; the last vote decides.
TEST_F(GlobalTransactionTest, WorkersJoinPrepareAndFinishOnTheirOwnSessions) {
  Client client = NewClient();
  BeginOptions begin;
  begin.policy = v1::DECISION_POLICY_WHEN_ALL_PREPARED;
  begin.expected_branches = 2;
  GlobalTransaction initiator = MustBegin(&client, begin);
  std::vector<absl::Status> told(2, absl::InternalError("not told"));
  const auto work = [&](int server, const char* resource) {
    Client own = NewClient();
    auto transaction = own.Join(initiator.gtrid());
    ASSERT_TRUE(MustOpen(&*transaction, resource, session(server))->Execute(Take(2 + server)).ok());
    told[static_cast<size_t>(server)] = transaction->Prepare();
    EXPECT_EQ(transaction->outcome(), v1::OUTCOME_COMMITTED);
  };
  std::thread first([&] { work(0, kOrders); });
  AwaitPreparedVotes(initiator.gtrid(), 1);
  EXPECT_EQ(PreparedOn(0), 1u) << "the first worker waits for a decision, prepared";
  std::thread second([&] { work(1, kPayments); });
  EXPECT_TRUE(initiator.Commit().ok()) << "the initiator learns the outcome of all branches";
  first.join();
  second.join();
  EXPECT_TRUE(told[0].ok()) << told[0];
  EXPECT_TRUE(told[1].ok()) << told[1];
  EXPECT_EQ(Taken(2) + Taken(3), 2);
}

TEST_F(GlobalTransactionTest, CommitNamesWhoHasNotVotedAndMayBeCalledAgain) {
  Client client = NewClient();
  GlobalTransaction initiator = MustBegin(&client);
  ASSERT_TRUE(MustOpen(&initiator, kOrders, session(0))->Execute(Take(2)).ok());
  Client other = NewClient();
  auto worker = other.Join(initiator.gtrid());
  Branch* const branch = MustOpen(&*worker, kPayments, session(1));
  ASSERT_TRUE(branch->Execute(Take(3)).ok());
  const absl::Status early = initiator.Commit();
  EXPECT_EQ(ReasonOf(early), Reason::BRANCHES_NOT_PREPARED) << early;
  EXPECT_THAT(MetadataOf(early)["missing"], HasSubstr(branch->xid().bqual));
  absl::Status told;
  std::thread waiting([&] { told = worker->Prepare(); });
  AwaitPreparedVotes(initiator.gtrid(), 1);
  EXPECT_TRUE(initiator.Commit().ok());
  waiting.join();
  EXPECT_TRUE(told.ok()) << told;
  EXPECT_EQ(Taken(2) + Taken(3), 2);
}

TEST_F(GlobalTransactionTest, OneWorkersFailureRollsTheOthersBack) {
  Client client = NewClient();
  GlobalTransaction initiator = MustBegin(&client);
  Client other = NewClient();
  absl::Status told;
  std::thread waiting([&] {
    auto worker = other.Join(initiator.gtrid());
    ASSERT_TRUE(MustOpen(&*worker, kOrders, session(0))->Execute(Take(2)).ok());
    told = worker->Prepare();
    EXPECT_EQ(worker->outcome(), v1::OUTCOME_ROLLED_BACK);
  });
  AwaitPreparedVotes(initiator.gtrid(), 1);
  {
    auto failing = client.Join(initiator.gtrid());
    EXPECT_FALSE(MustOpen(&*failing, kPayments, session(1))->Execute("INSERT INTO bank.accounts VALUES (3, 0)").ok());
    EXPECT_TRUE(absl::IsAborted(failing->Prepare()));
  }
  waiting.join();
  EXPECT_EQ(ReasonOf(told), Reason::GLOBAL_ROLLED_BACK) << told;
  EXPECT_THAT(std::string(told.message()), HasSubstr(IsPostgres(1) ? "23505" : "1062"));
  EXPECT_EQ(Taken(2), 0);
  EXPECT_TRUE(absl::IsAborted(initiator.Commit()));
}

TEST_F(GlobalTransactionTest, ABranchThatOnlyReadsIsNeverPrepared) {
  Client client = NewClient();
  const int64_t prepared = Counter(1, "Com_xa_prepare");
  const int64_t committed = Counter(1, "Com_xa_commit");
  GlobalTransaction transaction = MustBegin(&client);
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  const auto rows = MustOpen(&transaction, kPayments, session(1))->Execute("SELECT * FROM bank.accounts WHERE id = 3");
  ASSERT_TRUE(rows.ok());
  EXPECT_EQ(rows->rows().size(), 1u);
  EXPECT_TRUE(transaction.Commit().ok());
  EXPECT_EQ(Counter(1, "Com_xa_prepare"), prepared);
  EXPECT_EQ(Counter(1, "Com_xa_commit"), committed);
  EXPECT_EQ(Witnesses(1, transaction.gtrid()), 0);
  EXPECT_EQ(Global(transaction.gtrid()).global().branches(1).vote(), v1::VOTE_KIND_READ_ONLY);
  EXPECT_EQ(Taken(2), 1);
}

TEST_F(GlobalTransactionTest, WhatASerializableBranchHasReadCountsForOthers) {
  if (!IsPostgres(1)) GTEST_SKIP() << "of PostgreSQL";
  for (int i = 0; i < 2; ++i) {
    const auto other = i == 0 ? session(1) : admin(1);
    ASSERT_TRUE(other->Query("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE").ok());
  }
  Client client = NewClient();
  GlobalTransaction transaction = MustBegin(&client);
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  // It has only read what another one, that began before, reads and writes the other way round.
  const auto writer = Session(1);
  ASSERT_TRUE(writer->Query("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT balance FROM bank.accounts WHERE id = 3").ok());
  ASSERT_TRUE(admin(1)->Query(absl::StrCat("BEGIN ISOLATION LEVEL SERIALIZABLE;", Take(3), ";COMMIT")).ok());
  ASSERT_TRUE(MustOpen(&transaction, kPayments, session(1))
                  ->Execute("SELECT id, balance FROM bank.accounts WHERE id IN (3, 5)")
                  .ok());
  EXPECT_TRUE(transaction.Commit().ok());
  // The reader saw 3 as it was after that one and 5 as it is before this one, which has not seen 3 so: no order is
  // left.
  const QueryResult wrote = writer->Query(Take(5));
  const QueryResult committed = wrote.ok() ? writer->Query("COMMIT") : wrote;
  EXPECT_EQ(committed.error.sqlstate, "40001") << committed.error.message;
  writer->Query("ROLLBACK");
}

TEST_F(GlobalTransactionTest, ABranchThatIsNeverUsedCostsNothing) {
  Client client = NewClient();
  const int64_t started = Counter(1, "Com_xa_start");
  BeginOptions begin;
  begin.resources = {kOrders, kPayments, kPayments};  // The third is not even opened.
  GlobalTransaction transaction = MustBegin(&client, begin);
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  MustOpen(&transaction, kPayments, session(1));
  EXPECT_TRUE(transaction.Commit().ok());
  EXPECT_EQ(Counter(1, "Com_xa_start"), started);
  EXPECT_TRUE(client.Flush(absl::Seconds(10)));
  EXPECT_EQ(Global(transaction.gtrid()).outcome(), v1::OUTCOME_COMMITTED);
}

TEST_F(GlobalTransactionTest, LeavingScopeRollsBack) {
  Client client = NewClient();
  std::string gtrid;
  {
    GlobalTransaction transaction = MustBegin(&client);
    gtrid = transaction.gtrid();
    ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  }
  EXPECT_TRUE(client.Flush(absl::Seconds(10)));
  EXPECT_EQ(Global(gtrid).outcome(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(Taken(2), 0);
  EXPECT_TRUE(session(0)->Query(Take(2)).ok()) << "the session is free, and the row is not locked";
}

TEST_F(GlobalTransactionTest, AMovedFromTransactionDoesNothing) {
  Client client = NewClient();
  auto first = std::make_unique<GlobalTransaction>(MustBegin(&client));
  ASSERT_TRUE(MustOpen(first.get(), kOrders, session(0))->Execute(Take(2)).ok());
  GlobalTransaction second = std::move(*first);
  first.reset();
  EXPECT_TRUE(second.Commit().ok()) << "the end of the first rolled it back";
  EXPECT_EQ(Taken(2), 1);
}

TEST_F(GlobalTransactionTest, TheClientMayGoFirst) {
  auto client = std::make_unique<Client>(NewClient());
  GlobalTransaction transaction = MustBegin(client.get());
  client.reset();
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  EXPECT_TRUE(transaction.Commit().ok());
}

TEST_F(GlobalTransactionTest, RollbackAfterCommitWasDecidedSaysSo) {
  Client client = NewClient();
  GlobalTransaction transaction = MustBegin(&client);
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  auto late = client.Join(transaction.gtrid());
  ASSERT_TRUE(transaction.Commit().ok());
  EXPECT_EQ(ReasonOf(late->Rollback()), Reason::GLOBAL_COMMITTED);
  EXPECT_TRUE(transaction.Rollback().code() != absl::StatusCode::kAborted);
  EXPECT_EQ(transaction.outcome(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(Taken(2), 1);
}

TEST_F(GlobalTransactionTest, NoBranchAfterTheEndAndNoneOnAnUnknownResource) {
  Client client = NewClient();
  GlobalTransaction transaction = MustBegin(&client);
  EXPECT_EQ(ReasonOf(transaction.OpenBranch("nowhere", session(0)).status()), Reason::RESOURCE_NOT_FOUND);
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  ASSERT_TRUE(transaction.Rollback().ok());
  EXPECT_EQ(ReasonOf(transaction.OpenBranch(kPayments, session(1)).status()), Reason::BRANCH_ENDED);
  EXPECT_EQ(ReasonOf(client.Join("not valid!").status()), Reason::INVALID_GTRID);
  auto unknown = client.Join("bank-unknown");
  EXPECT_EQ(ReasonOf(unknown->OpenBranch(kOrders, session(0)).status()), Reason::GLOBAL_NOT_FOUND);
}

TEST_F(GlobalTransactionTest, PastItsDeadlineItIsRolledBack) {
  Client client = NewClient();
  BeginOptions begin;
  begin.timeout = absl::Milliseconds(200);
  GlobalTransaction transaction = MustBegin(&client, begin);
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  absl::SleepFor(absl::Milliseconds(400));
  const absl::Status told = transaction.Commit();
  EXPECT_EQ(ReasonOf(told), Reason::GLOBAL_ROLLED_BACK) << told;
  EXPECT_EQ(transaction.outcome(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(Global(transaction.gtrid()).global().cause(), v1::DECISION_CAUSE_DEADLINE);
  EXPECT_EQ(Taken(2), 0);
}

TEST_F(GlobalTransactionTest, ALeftTransactionIsLeftAsItIs) {
  Client client = NewClient();
  BeginOptions begin;
  begin.resources = {kOrders, kPayments};
  std::string gtrid;
  {
    GlobalTransaction transaction = MustBegin(&client, begin);
    gtrid = transaction.gtrid();
    transaction.Leave();
  }
  EXPECT_TRUE(client.Flush(absl::Seconds(10)));
  EXPECT_EQ(Global(gtrid).global().state(), v1::Global::STATE_ACTIVE) << "others may have taken up its branches";
  auto joined = client.Join(gtrid);
  EXPECT_TRUE(joined->Rollback().ok());
}

}  // namespace
}  // namespace assent
