// The rules of recovery on a real PostgreSQL server, one by one.
#include "resource_manager/postgres_recovery.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/postgres_gid.h"
#include "resource_manager/postgres_test_server.h"

namespace assent {
namespace {

using testing::HasSubstr;

// The outcome, and the whole evidence if it is another.
#define EXPECT_OUTCOME(finding, expected)                                                               \
  EXPECT_EQ(v1::BranchOutcome_Name((finding).evidence.outcome()), v1::BranchOutcome_Name(v1::expected)) \
      << (finding).evidence.DebugString()

// A branch that wrote one row of `stock`, whose id is its bqual.
struct TestBranch {
  std::unique_ptr<PostgresSession> session;
  BranchTask task;
};

class PostgresRecoveryTest : public testing::Test {
 protected:
  explicit PostgresRecoveryTest(PrivatePostgres* server = &SharedPostgres()) : options_(ConnectOptionsFor(*server)) {
    Reconnect();
    MustQuery(admin_.get(), "CREATE TABLE IF NOT EXISTS stock (id TEXT PRIMARY KEY)");
  }

  void Reconnect() {
    admin_ = MustConnectPostgres(options_);
    recovery_ = Connect(options_);
  }
  static std::unique_ptr<BranchRecovery> Connect(const ConnectOptions& options) {
    auto recovery = PostgresRecovery::Connect(options, 4);
    CHECK(recovery.ok()) << recovery.status();
    return *std::move(recovery);
  }

  TestBranch Active(v1::Decision decision = v1::DECISION_ROLLBACK) { return ActiveBy(options_, decision); }
  static TestBranch ActiveBy(const ConnectOptions& options, v1::Decision decision) {
    TestBranch branch;
    branch.session = MustConnectPostgres(options);
    branch.task.xid = NewXid();
    branch.task.decision = decision;
    branch.task.session = branch.session->Describe();
    branch.task.created = absl::Now();
    branch.task.may_kill = true;
    const StartResult started = branch.session->Start(
        branch.task.xid, absl::StrCat("INSERT INTO stock VALUES ('", branch.task.xid.bqual, "')"));
    CHECK(started.xa.ok() && started.first->ok()) << started.xa.error.message;
    return branch;
  }
  TestBranch Prepared(v1::Decision decision) { return PreparedBy(options_, decision); }
  static TestBranch PreparedBy(const ConnectOptions& options, v1::Decision decision) {
    TestBranch branch = ActiveBy(options, decision);
    const XaResult prepared = branch.session->Prepare(branch.task.xid, nullptr);
    CHECK(prepared.ok()) << prepared.error.message;
    branch.task.session = branch.session->Describe();
    branch.task.voted_prepared = true;
    return branch;
  }

  BranchFinding Finish(const BranchTask& task) { return FinishBy(recovery_.get(), task); }
  static BranchFinding FinishBy(BranchRecovery* recovery, const BranchTask& task) {
    const auto findings = recovery->Finish({task});
    CHECK(findings.ok()) << findings.status();
    return (*findings)[0];
  }
  BranchFinding Examine(const BranchTask& task) {
    const auto findings = recovery_->Examine({task});
    CHECK(findings.ok()) << findings.status();
    return (*findings)[0];
  }
  bool HasRow(const BranchTask& task) {
    return One(admin_.get(), absl::StrCat("SELECT COUNT(*) FROM stock WHERE id = '", task.xid.bqual, "'")) == "1";
  }
  // An account that may work with the tables, and what else is granted.
  ConnectOptions Account(const std::string& name, const std::string& grants = "") {
    MustQuery(admin_.get(), absl::StrCat("CREATE ROLE ", name, " LOGIN PASSWORD 'p'"));
    MustQuery(admin_.get(), absl::StrCat("GRANT ALL ON stock TO ", name));
    if (!grants.empty()) MustQuery(admin_.get(), absl::StrCat("GRANT ", grants, " TO ", name));
    ConnectOptions options = options_;
    options.user = name;
    options.password = "p";
    return options;
  }

  const ConnectOptions options_;
  std::unique_ptr<PostgresSession> admin_;
  std::unique_ptr<BranchRecovery> recovery_;
};

TEST_F(PostgresRecoveryTest, CommitsWhatIsPreparedAtOnceAndProvesIt) {
  const TestBranch branch = Prepared(v1::DECISION_COMMIT);  // Its session lives, within its lease.
  const BranchFinding looked = Examine(branch.task);
  EXPECT_OUTCOME(looked, BRANCH_OUTCOME_STILL_PREPARED);
  EXPECT_THAT(looked.evidence.detail(), HasSubstr("next: COMMIT PREPARED"));
  EXPECT_EQ(looked.evidence.witness(), v1::Evidence::SIGHTING_UNCOMMITTED);
  EXPECT_FALSE(HasRow(branch.task));
  const BranchFinding finding = Finish(branch.task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_COMMITTED);
  EXPECT_FALSE(finding.retry);
  EXPECT_EQ(finding.evidence.prepared_before(), v1::Evidence::SIGHTING_PRESENT);
  EXPECT_EQ(finding.evidence.prepared_after(), v1::Evidence::SIGHTING_ABSENT);
  EXPECT_EQ(finding.evidence.witness(), v1::Evidence::SIGHTING_PRESENT);
  EXPECT_EQ(finding.evidence.done(), "COMMIT PREPARED");
  EXPECT_THAT(finding.evidence.server(), HasSubstr("/postgres"));
  EXPECT_TRUE(HasRow(branch.task));
  // Again: the same proof, nothing to do.
  const BranchFinding again = Finish(branch.task);
  EXPECT_OUTCOME(again, BRANCH_OUTCOME_COMMITTED);
  EXPECT_EQ(again.evidence.done(), "");
}

TEST_F(PostgresRecoveryTest, RollsBackWhatIsPrepared) {
  const TestBranch branch = Prepared(v1::DECISION_ROLLBACK);
  const BranchFinding finding = Finish(branch.task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_ROLLED_BACK);
  EXPECT_EQ(finding.evidence.done(), "ROLLBACK PREPARED");
  EXPECT_EQ(finding.evidence.witness(), v1::Evidence::SIGHTING_ABSENT);
  EXPECT_OUTCOME(Finish(branch.task), BRANCH_OUTCOME_ROLLED_BACK);
  EXPECT_FALSE(HasRow(branch.task));
}

TEST_F(PostgresRecoveryTest, WhatIsDoneByHandIsSeenForWhatItIs) {
  for (const bool commit : {true, false}) {
    for (const bool by_hand : {true, false}) {
      TestBranch branch = Prepared(commit ? v1::DECISION_COMMIT : v1::DECISION_ROLLBACK);
      MustQuery(admin_.get(),
                absl::StrCat(by_hand ? "COMMIT" : "ROLLBACK", " PREPARED '", GidOf(branch.task.xid), "'"));
      const BranchFinding finding = Finish(branch.task);
      EXPECT_EQ(v1::BranchOutcome_Name(finding.evidence.outcome()),
                v1::BranchOutcome_Name(
                    by_hand ? (commit ? v1::BRANCH_OUTCOME_COMMITTED : v1::BRANCH_OUTCOME_HEURISTIC_COMMITTED)
                            : (commit ? v1::BRANCH_OUTCOME_HEURISTIC_ROLLED_BACK : v1::BRANCH_OUTCOME_ROLLED_BACK)))
          << finding.evidence.DebugString();
      EXPECT_FALSE(finding.retry);
    }
  }
}

TEST_F(PostgresRecoveryTest, WithoutItsTransactionIdACommitIsNeitherClaimedNorDenied) {
  TestBranch branch = Prepared(v1::DECISION_COMMIT);
  branch.task.session->clear_transaction_id();
  // Its own OK is proof, whoever prepared it.
  TestBranch listed = Prepared(v1::DECISION_COMMIT);
  listed.task.session->clear_transaction_id();
  EXPECT_OUTCOME(Finish(listed.task), BRANCH_OUTCOME_COMMITTED);
  // But what somebody else did leaves nothing that tells.
  MustQuery(admin_.get(), absl::StrCat("COMMIT PREPARED '", GidOf(branch.task.xid), "'"));
  const BranchFinding finding = Finish(branch.task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_UNSPECIFIED);
  EXPECT_FALSE(finding.retry) << "only an operator can tell";
  EXPECT_THAT(finding.evidence.detail(), HasSubstr("Session.transaction_id"));
}

TEST_F(PostgresRecoveryTest, AnIdOfAnotherTimelineOrOfTheFutureProvesNothing) {
  TestBranch branch = Prepared(v1::DECISION_COMMIT);
  MustQuery(admin_.get(), absl::StrCat("COMMIT PREPARED '", GidOf(branch.task.xid), "'"));
  BranchTask other = branch.task;
  other.session->set_timeline(other.session->timeline() + 1);
  EXPECT_OUTCOME(Finish(other), BRANCH_OUTCOME_UNSPECIFIED);
  EXPECT_THAT(Finish(other).evidence.detail(), HasSubstr("timeline"));
  other = branch.task;
  other.session->set_transaction_id(other.session->transaction_id() + 1000000);
  EXPECT_OUTCOME(Finish(other), BRANCH_OUTCOME_UNSPECIFIED);
  EXPECT_THAT(Finish(other).evidence.detail(), HasSubstr("older copy"));
  other = branch.task;
  other.before_acceptance = true;  // On an older copy of the data the number is given again, on the same timeline.
  EXPECT_OUTCOME(Finish(other), BRANCH_OUTCOME_UNSPECIFIED);
  EXPECT_THAT(Finish(other).evidence.detail(), HasSubstr("accepted"));
  EXPECT_OUTCOME(Finish(branch.task), BRANCH_OUTCOME_COMMITTED);
}

TEST_F(PostgresRecoveryTest, AnIdOfAnotherTransactionIsNotTakenForTheBranchs) {
  // As an own client may tell it that asks outside of the branch: the id of a transaction that has committed.
  const int64_t committed = std::stoll(One(admin_.get(), "SELECT pg_current_xact_id()"));
  for (const v1::Decision decision : {v1::DECISION_COMMIT, v1::DECISION_ROLLBACK}) {
    TestBranch branch = Prepared(decision);
    branch.task.session->set_transaction_id(committed);
    const BranchFinding finding = Finish(branch.task);
    EXPECT_EQ(finding.evidence.outcome(),
              decision == v1::DECISION_COMMIT ? v1::BRANCH_OUTCOME_COMMITTED : v1::BRANCH_OUTCOME_ROLLED_BACK)
        << finding.evidence.DebugString();
    EXPECT_FALSE(IsListed(admin_.get(), branch.task.xid));
    EXPECT_EQ(HasRow(branch.task), decision == v1::DECISION_COMMIT);
  }
}

TEST_F(PostgresRecoveryTest, AnActiveBranchIsLeftAloneWithinItsLeaseAndItsSessionEndedAfterIt) {
  TestBranch branch = Active();
  EXPECT_OUTCOME(Finish(branch.task), BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
  EXPECT_TRUE(branch.session->Query("SELECT 1").ok());
  branch.task.lease_over = true;
  BranchTask left_alone = branch.task;
  left_alone.may_kill = false;
  EXPECT_TRUE(Finish(left_alone).by_hand);
  EXPECT_TRUE(branch.session->Query("SELECT 1").ok());
  BranchFinding finding;
  for (int i = 0; i < 200 && finding.retry; ++i) {
    finding = Finish(branch.task);
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_FALSE(finding.retry) << finding.evidence.DebugString();
  EXPECT_FALSE(branch.session->Query("SELECT 1").ok()) << "its session was ended";
  EXPECT_FALSE(HasRow(branch.task));
}

TEST_F(PostgresRecoveryTest, ASessionThatDoesOtherWorkByNowIsNotDisturbed) {
  TestBranch branch = Active();
  branch.task.lease_over = true;
  ASSERT_TRUE(branch.session->Rollback(branch.task.xid).ok());
  MustQuery(branch.session.get(), "BEGIN");
  const BranchFinding finding = Finish(branch.task);
  EXPECT_FALSE(finding.retry) << finding.evidence.DebugString();
  EXPECT_EQ(finding.evidence.done(), "");
  EXPECT_TRUE(branch.session->Query("SELECT 1").ok());
}

TEST_F(PostgresRecoveryTest, ABranchOfASessionThatNobodyNamedIsFoundByItsLock) {
  TestBranch branch = Active();
  branch.task.session.reset();
  EXPECT_OUTCOME(Finish(branch.task), BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
  ASSERT_TRUE(branch.session->Close().ok());
  branch.task.lease_over = true;
  BranchFinding finding;
  for (int i = 0; i < 200 && finding.retry; ++i) {
    finding = Finish(branch.task);
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_FALSE(finding.retry) << finding.evidence.DebugString();
}

TEST_F(PostgresRecoveryTest, ABranchInTheWrongDatabaseIsSaidToBeThere) {
  MustQuery(admin_.get(), "CREATE DATABASE elsewhere");
  ConnectOptions wrong = options_;
  wrong.database = "elsewhere";
  auto session = MustConnectPostgres(wrong);
  BranchTask task;
  task.xid = NewXid();
  task.decision = v1::DECISION_COMMIT;
  task.voted_prepared = true;
  ASSERT_TRUE(session->Start(task.xid, "CREATE TABLE t (id INT)").xa.ok());
  ASSERT_TRUE(session->Prepare(task.xid, nullptr).ok());
  task.session = session->Describe();
  for (const v1::Decision decision : {v1::DECISION_COMMIT, v1::DECISION_ROLLBACK}) {
    for (const bool named : {true, false}) {
      BranchTask each = task;
      each.decision = decision;
      if (!named) each.session.reset();
      const BranchFinding finding = Finish(each);
      EXPECT_OUTCOME(finding, BRANCH_OUTCOME_STILL_PREPARED);
      EXPECT_TRUE(finding.by_hand);
      EXPECT_THAT(finding.evidence.detail(), HasSubstr("prepared in the database 'elsewhere'"));
    }
  }
  EXPECT_TRUE(recovery_->ListPrepared()->empty()) << "it is another resource's";
  ASSERT_TRUE(session->Commit(task.xid).ok());
}

TEST_F(PostgresRecoveryTest, AnotherFormatIdIsNeverTouched) {
  TestBranch branch = Active();
  const Xid xid = branch.task.xid;
  const std::string gid = absl::StrCat("7/", xid.gtrid, "/", xid.bqual);
  ASSERT_TRUE(branch.session->Rollback(xid).ok());
  MustQuery(branch.session.get(),
            absl::StrCat("BEGIN;INSERT INTO stock VALUES ('", xid.bqual, "');PREPARE TRANSACTION '", gid, "'"));
  BranchTask task = branch.task;
  task.decision = v1::DECISION_COMMIT;
  task.voted_prepared = true;
  EXPECT_TRUE(Finish(task).by_hand);
  MustQuery(admin_.get(), absl::StrCat("ROLLBACK PREPARED '", gid, "'"));
}

TEST_F(PostgresRecoveryTest, AnOrdinaryAccountFinishesWhatItsRolesPrepared) {
  const ConnectOptions shop = Account("shop");
  const ConnectOptions stranger = Account("stranger");
  const ConnectOptions member = Account("member", "shop");
  TestBranch branch = PreparedBy(shop, v1::DECISION_COMMIT);
  const BranchFinding refused = FinishBy(Connect(stranger).get(), branch.task);
  EXPECT_OUTCOME(refused, BRANCH_OUTCOME_STILL_PREPARED);
  EXPECT_TRUE(refused.lacks_privilege);
  EXPECT_THAT(refused.evidence.detail(), HasSubstr("GRANT \"shop\" TO \"stranger\""));
  EXPECT_OUTCOME(FinishBy(Connect(member).get(), branch.task), BRANCH_OUTCOME_COMMITTED);
  TestBranch own = PreparedBy(shop, v1::DECISION_ROLLBACK);
  EXPECT_OUTCOME(FinishBy(Connect(shop).get(), own.task), BRANCH_OUTCOME_ROLLED_BACK);
  // It ends nobody's session without the privilege, and says which.
  TestBranch active = Active();
  active.task.lease_over = true;
  const BranchFinding alive = FinishBy(Connect(stranger).get(), active.task);
  EXPECT_THAT(alive.evidence.detail(), HasSubstr("GRANT pg_signal_backend TO \"stranger\""));
  EXPECT_TRUE(active.session->Query("SELECT 1").ok());
}

TEST_F(PostgresRecoveryTest, ManyAtOnceEachItsOwnWay) {
  std::vector<BranchTask> tasks;
  for (int i = 0; i < 40; ++i) tasks.push_back(Prepared(i % 2 == 0 ? v1::DECISION_COMMIT : v1::DECISION_ROLLBACK).task);
  const auto findings = recovery_->Finish(tasks);
  ASSERT_TRUE(findings.ok()) << findings.status();
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ((*findings)[i].evidence.outcome(),
              i % 2 == 0 ? v1::BRANCH_OUTCOME_COMMITTED : v1::BRANCH_OUTCOME_ROLLED_BACK);
    EXPECT_EQ(HasRow(tasks[i]), i % 2 == 0);
  }
  const std::vector<BranchTask> too_many(BranchRecovery::kMaxTasks + 1, tasks[0]);
  EXPECT_EQ(ReasonOf(recovery_->Finish(too_many).status()), Reason::INVALID_FIELD);
}

TEST_F(PostgresRecoveryTest, LockWaitsNameTheBranchThatHoldsThem) {
  const TestBranch branch = Prepared(v1::DECISION_COMMIT);
  auto waiting = MustConnectPostgres(options_);
  waiting->SendQuery(absl::StrCat("INSERT INTO stock VALUES ('", branch.task.xid.bqual, "')"));
  std::vector<v1::LockWait> waits;
  for (int i = 0; i < 500 && waits.empty(); ++i) {
    auto read = recovery_->LockWaits({branch.task}, 10);
    ASSERT_TRUE(read.ok()) << read.status();
    waits = *std::move(read);
    absl::SleepFor(absl::Milliseconds(10));
  }
  ASSERT_EQ(waits.size(), 1u);
  EXPECT_EQ(waits[0].gtrid(), branch.task.xid.gtrid);
  EXPECT_EQ(waits[0].bqual(), branch.task.xid.bqual);
  EXPECT_EQ(waits[0].waiting_connection_id(), static_cast<int64_t>(waiting->connection_id()));
  EXPECT_EQ(waits[0].waiting_user(), "postgres");
  EXPECT_THAT(waits[0].table(), HasSubstr("stock"));
  EXPECT_OUTCOME(Finish(branch.task), BRANCH_OUTCOME_COMMITTED);
  EXPECT_EQ(waiting->ReceiveQuery().error.sqlstate, "23505");
}

TEST_F(PostgresRecoveryTest, TheClaimIsComparedAndSet) {
  ASSERT_TRUE(recovery_->Install(absl::nullopt).ok());
  ASSERT_TRUE(recovery_->Install(absl::nullopt).ok()) << "safe to repeat";
  EXPECT_FALSE(recovery_->ReadClaim("c'1")->has_value());
  EXPECT_TRUE(*recovery_->WriteClaim("c'1", absl::nullopt, Claim{"store", 5}));
  EXPECT_FALSE(*recovery_->WriteClaim("c'1", absl::nullopt, Claim{"other", 1})) << "there is one";
  EXPECT_FALSE(*recovery_->WriteClaim("c'1", Claim{"store", 4}, Claim{"store", 6}));
  EXPECT_TRUE(*recovery_->WriteClaim("c'1", Claim{"store", 5}, Claim{"store", 6}));
  const auto claim = recovery_->ReadClaim("c'1");
  ASSERT_TRUE(claim.ok() && claim->has_value());
  EXPECT_EQ((*claim)->store_id, "store");
  EXPECT_EQ((*claim)->epoch, 6);
  const auto stranger = Connect(Account("no_rights"));
  const absl::Status refused = stranger->ReadClaim("c'1").status();
  EXPECT_EQ(ReasonOf(refused), Reason::RESOURCE_UNFIT) << refused;
  EXPECT_THAT(MetadataOf(refused)["grant"], HasSubstr("TO \"no_rights\""));
  MustQuery(admin_.get(), "COMMENT ON TABLE assent.claim IS 'assent claim v99'");
  EXPECT_EQ(ReasonOf(recovery_->Install(absl::nullopt)), Reason::RESOURCE_UNFIT);
  MustQuery(admin_.get(), "COMMENT ON TABLE assent.claim IS 'assent claim v1'");
}

TEST_F(PostgresRecoveryTest, AClaimTableOfSomebodyElsesIsNotWritten) {
  MustQuery(admin_.get(), "CREATE DATABASE trap");
  MustQuery(admin_.get(), "CREATE ROLE eve LOGIN PASSWORD 'p'; GRANT CREATE ON DATABASE trap TO eve");
  ConnectOptions trap = options_;
  trap.database = "trap";
  ConnectOptions eve = trap;
  eve.user = "eve";
  eve.password = "p";
  MustQuery(
      MustConnectPostgres(eve).get(),
      "CREATE SCHEMA assent; CREATE TABLE assent.claim (cluster text PRIMARY KEY, store_id text, epoch int8, updated "
      "timestamptz DEFAULT now()); COMMENT ON TABLE assent.claim IS 'assent claim v1'; GRANT ALL ON SCHEMA assent TO "
      "PUBLIC; GRANT ALL ON assent.claim TO PUBLIC");
  const auto recovery = Connect(trap);
  for (const absl::Status& status : {recovery->Install(absl::nullopt), recovery->ReadClaim("c").status()}) {
    EXPECT_EQ(ReasonOf(status), Reason::RESOURCE_UNFIT) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("\"eve\""));
  }
}

TEST_F(PostgresRecoveryTest, BytesThatAreNoTextInGidsOfOthersHinderNothing) {
  MustQuery(admin_.get(), "CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0");
  ConnectOptions bytes = options_;
  bytes.database = "bytes";
  auto session = MustConnectPostgres(bytes);
  MustQuery(session.get(), "SET client_encoding='SQL_ASCII'; CREATE TABLE t (id INT)");
  MustQuery(session.get(), "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'caf\xe9''\\'");
  const auto recovery = Connect(bytes);
  EXPECT_EQ(recovery->ListPrepared()->size(), 1u);
  EXPECT_EQ(recovery->ListPrepared()->at(0).format_id, kNoFormatId);
  EXPECT_FALSE(Finish(Active().task).evidence.detail().empty()) << "nor in the other databases of the server";
  MustQuery(session.get(), "ROLLBACK PREPARED 'caf\xe9''\\'");
}

class RestartTest : public PostgresRecoveryTest {
 protected:
  RestartTest() : PostgresRecoveryTest(Own()) {}
  static PrivatePostgres* Own() {
    static const std::unique_ptr<PrivatePostgres> server = MustStartPostgres();
    return server.get();
  }
};

TEST_F(RestartTest, WhatIsPreparedSurvivesTheServerAndWhatIsNotDoesNot) {
  TestBranch prepared = Prepared(v1::DECISION_COMMIT);
  TestBranch committed = Prepared(v1::DECISION_COMMIT);
  ASSERT_TRUE(committed.session->Commit(committed.task.xid).ok());
  TestBranch active = Active();
  ASSERT_TRUE(Own()->Restart().ok());
  Reconnect();
  EXPECT_OUTCOME(Finish(prepared.task), BRANCH_OUTCOME_COMMITTED);
  EXPECT_OUTCOME(Finish(committed.task), BRANCH_OUTCOME_COMMITTED);
  const BranchFinding gone = Finish(active.task);
  EXPECT_FALSE(gone.retry) << gone.evidence.DebugString();
  EXPECT_TRUE(HasRow(prepared.task) && HasRow(committed.task) && !HasRow(active.task));
}

// It may lag behind its primary: what it does not list may be prepared there.
TEST_F(RestartTest, AStandbyIsNotTakenForAProof) {
  TestBranch prepared = Prepared(v1::DECISION_COMMIT);
  RestartAsStandby(Own());
  const absl::Status refused = PostgresRecovery::Connect(options_, 4).status();
  EXPECT_EQ(ReasonOf(refused), Reason::DATABASE_UNREACHABLE) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("standby"));
  // Whoever comes after the promotion knows the timeline that it began.
  MustQuery(MustConnectPostgres(options_).get(), "SELECT pg_promote()");
  Reconnect();
  EXPECT_OUTCOME(Finish(prepared.task), BRANCH_OUTCOME_COMMITTED);
  TestBranch later = Prepared(v1::DECISION_COMMIT);
  ASSERT_TRUE(later.session->Commit(later.task.xid).ok());
  EXPECT_OUTCOME(Finish(later.task), BRANCH_OUTCOME_COMMITTED);
}

}  // namespace
}  // namespace assent
