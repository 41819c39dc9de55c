// Transactions of a process that owns all of their branches: begun without a call, created with their decision.
#include <thread>

#include "base/timestamp.h"
#include "base/xid.h"
#include "participant_sdk/cpp/sdk_test_rig.h"

namespace assent {
namespace {

using ::testing::HasSubstr;

class SoleParticipantTest : public SdkTest {
 protected:
  static GlobalTransaction Begin(Client* client, BeginOptions begin = {}) {
    begin.sole_participant = true;
    return MustBegin(client, begin);
  }
  // Takes one on each server.
  void Work(GlobalTransaction* transaction) {
    ASSERT_TRUE(MustOpen(transaction, kOrders, session(0))->Execute(Take(2)).ok());
    ASSERT_TRUE(MustOpen(transaction, kPayments, session(1))->Execute(Take(3)).ok());
  }
  static absl::Status GetGlobal(const std::string& gtrid) {
    return CoordinatorApi(rig().config().coordinator).GetGlobal(gtrid).status();
  }
};

TEST_F(SoleParticipantTest, CommitIsOneCall) {
  Client client = NewClient();
  for (int i = 0; i < 3; ++i) {
    const int64_t before = client.calls_sent();
    GlobalTransaction transaction = Begin(&client);
    Work(&transaction);
    if (i > 0) {
      EXPECT_EQ(client.calls_sent(), before) << "nobody was asked";
    }
    EXPECT_EQ(ReasonOf(GetGlobal(transaction.gtrid())), Reason::GLOBAL_NOT_FOUND) << "nothing is on record";
    EXPECT_EQ(transaction.Commit(), absl::OkStatus());
    EXPECT_EQ(transaction.outcome(), v1::OUTCOME_COMMITTED);
    EXPECT_TRUE(client.Flush(absl::Seconds(10)));
    if (i > 0) {
      EXPECT_EQ(client.calls_sent() - before, 2) << "Finalize, and Completed behind it";
    }
    const v1::GetGlobalResponse global = Global(transaction.gtrid());
    EXPECT_EQ(global.outcome(), v1::OUTCOME_COMMITTED);
    EXPECT_EQ(global.global().branches_size(), 2);
    EXPECT_NE(global.global().branches(0).session().connection_id(), 0);
    EXPECT_TRUE(transaction.Commit().ok()) << "repeated, it answers the same";
  }
  EXPECT_EQ(Taken(2) + Taken(3), 6);
}

TEST_F(SoleParticipantTest, RollbackIsOnRecordWithItsReason) {
  Client client = NewClient();
  GlobalTransaction transaction = Begin(&client);
  Work(&transaction);
  EXPECT_TRUE(transaction.Rollback("the customer left").ok());
  EXPECT_EQ(transaction.outcome(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(Taken(2) + Taken(3), 0);
  EXPECT_TRUE(client.Flush(absl::Seconds(10)));
  EXPECT_EQ(Global(transaction.gtrid()).outcome(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_THAT(Global(transaction.gtrid()).global().cause_detail(), HasSubstr("the customer left"));
}

TEST_F(SoleParticipantTest, AFailedStatementRollsBackAndSaysWhy) {
  Client client = NewClient();
  GlobalTransaction transaction = Begin(&client);
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  EXPECT_FALSE(MustOpen(&transaction, kPayments, session(1))->Execute("SELECT nonsense").ok());
  EXPECT_TRUE(absl::IsAborted(transaction.Commit()));
  EXPECT_EQ(Taken(2), 0);
  EXPECT_TRUE(client.Flush(absl::Seconds(10)));
  const v1::GetGlobalResponse global = Global(transaction.gtrid());
  EXPECT_EQ(global.outcome(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(global.global().cause(), v1::DECISION_CAUSE_BRANCH_FAILED);
}

TEST_F(SoleParticipantTest, ScopeAndReadersAndNothingAtAll) {
  Client client = NewClient();
  std::string left;
  {
    GlobalTransaction transaction = Begin(&client);
    Work(&transaction);
    left = transaction.gtrid();
  }
  EXPECT_EQ(Taken(2) + Taken(3), 0);
  EXPECT_TRUE(client.Flush(absl::Seconds(10)));
  EXPECT_EQ(Global(left).outcome(), v1::OUTCOME_ROLLED_BACK);
  GlobalTransaction reader = Begin(&client);
  ASSERT_TRUE(MustOpen(&reader, kOrders, session(0))->Execute("SELECT balance FROM bank.accounts").ok());
  ASSERT_TRUE(MustOpen(&reader, kPayments, session(1))->Execute(Take(3)).ok());
  EXPECT_EQ(reader.Commit(), absl::OkStatus());
  EXPECT_EQ(Taken(3), 1);
  GlobalTransaction empty = Begin(&client);
  EXPECT_EQ(empty.Commit(), absl::OkStatus());
}

TEST_F(SoleParticipantTest, ItsTimeoutCountsFromBegin) {
  Client client = NewClient();
  BeginOptions begin;
  begin.timeout = absl::Milliseconds(50);
  GlobalTransaction transaction = Begin(&client, begin);
  Work(&transaction);
  absl::SleepFor(absl::Milliseconds(100));
  const absl::Status late = transaction.Commit();
  EXPECT_EQ(ReasonOf(late), Reason::GLOBAL_ROLLED_BACK) << late;
  EXPECT_THAT(std::string(late.message()), HasSubstr("timeout"));
  EXPECT_EQ(Taken(2) + Taken(3), 0);
}

TEST_F(SoleParticipantTest, TheCoordinatorMayDieBetweenBeginAndCommit) {
  Client client = NewClient();
  GlobalTransaction transaction = Begin(&client);
  Work(&transaction);
  rig().coordinator().Kill9();
  ASSERT_TRUE(rig().coordinator().Restart().ok());
  EXPECT_EQ(transaction.Commit(), absl::OkStatus());
  EXPECT_EQ(Taken(2) + Taken(3), 2);
}

TEST_F(SoleParticipantTest, NobodyElseCanTakePart) {
  Client client = NewClient();
  GlobalTransaction transaction = Begin(&client);
  Work(&transaction);
  auto other = NewClient().Join(transaction.gtrid());
  const std::unique_ptr<BranchSession> own = Session(0);
  EXPECT_EQ(ReasonOf(other->OpenBranch(kOrders, own.get()).status()), Reason::GLOBAL_NOT_FOUND);
  EXPECT_EQ(transaction.Commit(), absl::OkStatus());
  for (const bool policy : {true, false}) {
    BeginOptions begin;
    begin.sole_participant = true;
    begin.expected_branches = policy ? 0 : 2;
    if (policy) begin.policy = v1::DECISION_POLICY_WHEN_ALL_PREPARED;
    EXPECT_EQ(ReasonOf(client.Begin(begin).status()), Reason::INVALID_FIELD);
  }
}

TEST_F(SoleParticipantTest, AGtridOfOnesOwnMustLookLikeTheCoordinators) {
  Client client = NewClient();
  BeginOptions begin;
  begin.sole_participant = true;
  begin.gtrid = "bank-mine";
  EXPECT_EQ(ReasonOf(client.Begin(begin).status()), Reason::INVALID_FIELD);
  begin.gtrid = NewGtrid("bank", absl::Now() - absl::Hours(24 * 365));
  {
    GlobalTransaction old = Begin(&client, begin);
    Work(&old);
    const absl::Status status = old.Commit();
    EXPECT_EQ(ReasonOf(status), Reason::OUTCOME_IN_DOUBT) << "it may have been decided and forgotten since: " << status;
  }
  // Recovery finds two branches that nobody has created.
  for (int i = 0; i < 9000 && PreparedOn(0) + PreparedOn(1) != 0; ++i) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_EQ(PreparedOn(0) + PreparedOn(1), 0u);
  EXPECT_EQ(Taken(2) + Taken(3), 0);
}

TEST_F(SoleParticipantTest, AnUnknownResourceIsRefusedBeforeAnySql) {
  Client client = NewClient();
  GlobalTransaction transaction = Begin(&client);
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  EXPECT_EQ(ReasonOf(transaction.OpenBranch("nowhere", session(1)).status()), Reason::RESOURCE_NOT_FOUND);
  EXPECT_TRUE(absl::IsAborted(transaction.Commit())) << "what was to be done there was not";
  EXPECT_EQ(Taken(2), 0);
}

// The terms that a branch was run on are held against those that count when it is decided.
TEST_F(SoleParticipantTest, TermsThatHaveChangedRollBack) {
  if (IsPostgres(0)) GTEST_SKIP() << "its branches leave no witness";
  CoordinatorApi api(rig().config().coordinator);
  v1::GetResourceRequest get;
  get.set_name(kOrders);
  v1::GetResourceResponse got;
  grpc::ClientContext context;
  ASSERT_TRUE(api.resources()->GetResource(&context, get, &got).ok());
  v1::RegisterResourceRequest as_it_was;
  *as_it_was.mutable_resource() = got.resource();
  as_it_was.set_replace(true);
  Client client = NewClient();
  GlobalTransaction transaction = Begin(&client);
  Work(&transaction);
  v1::RegisterResourceRequest without = as_it_was;
  without.mutable_resource()->set_witness(v1::WITNESS_DISABLED);
  ASSERT_EQ(api.Register(without), absl::OkStatus());
  const absl::Status refused = transaction.Commit();
  EXPECT_EQ(ReasonOf(refused), Reason::GLOBAL_ROLLED_BACK) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("witness table"));
  EXPECT_EQ(Taken(2) + Taken(3), 0);
  GlobalTransaction again = Begin(&client);
  Work(&again);
  EXPECT_EQ(again.Commit(), absl::OkStatus()) << "on the new terms";
  ASSERT_EQ(api.Register(as_it_was), absl::OkStatus());
}

TEST_F(SoleParticipantTest, ItsTimeoutAlsoCountsWhileTheCoordinatorIsAway) {
  Client client = NewClient();
  BeginOptions begin;
  begin.timeout = absl::Seconds(2);
  GlobalTransaction transaction = Begin(&client, begin);
  Work(&transaction);
  rig().coordinator().Kill9();
  absl::Status told;
  std::thread committing([&] { told = transaction.Commit(); });
  absl::SleepFor(absl::Seconds(4));
  ASSERT_TRUE(rig().coordinator().Restart().ok());
  committing.join();
  EXPECT_TRUE(absl::IsAborted(told)) << told;
  EXPECT_EQ(Global(transaction.gtrid()).global().cause(), v1::DECISION_CAUSE_DEADLINE);
  EXPECT_EQ(Taken(2) + Taken(3), 0);
}

TEST_F(SoleParticipantTest, WhatCannotBeGrantedLeavesNothingPrepared) {
  Client client = NewClient();
  BeginOptions too_long;
  too_long.timeout = absl::Hours(48);
  BeginOptions of_another_cluster;
  of_another_cluster.gtrid = NewGtrid("wrong", absl::Now());
  for (const BeginOptions& begin : {too_long, of_another_cluster}) {
    GlobalTransaction transaction = Begin(&client, begin);
    Work(&transaction);
    const absl::Status told = transaction.Commit();
    EXPECT_EQ(ReasonOf(told), begin.gtrid.empty() ? Reason::GLOBAL_ROLLED_BACK : Reason::INVALID_GTRID) << told;
    EXPECT_EQ(transaction.outcome(), v1::OUTCOME_ROLLED_BACK);
    EXPECT_EQ(PreparedOn(0) + PreparedOn(1), 0u);
    EXPECT_TRUE(transaction.Rollback().ok());
  }
  EXPECT_EQ(Taken(2) + Taken(3), 0);
  for (const absl::Duration none : {absl::Nanoseconds(1), -absl::Seconds(1), absl::InfiniteDuration()}) {
    BeginOptions begin;
    begin.sole_participant = true;
    begin.timeout = none;
    EXPECT_EQ(ReasonOf(client.Begin(begin).status()), Reason::INVALID_TIMEOUT) << none;
  }
}

}  // namespace
}  // namespace assent
