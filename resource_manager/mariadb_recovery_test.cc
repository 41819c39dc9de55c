// The rules of recovery on a real server, one by one. See also recovery_privileges_test.cc, recovery_restart_test.cc
// and ghost_repair_test.cc.
#include "resource_manager/mariadb_recovery.h"

#include <string>
#include <vector>

#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/recovery_rig.h"

namespace assent {
namespace {

using testing::HasSubstr;

class MariaDbRecoveryTest : public RecoveryTest {};

TEST_F(MariaDbRecoveryTest, CommitsWhatItsSessionLeftPrepared) {
  const BranchTask task = Detached(v1::DECISION_COMMIT);
  const BranchFinding finding = Finish(task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_COMMITTED);
  EXPECT_FALSE(finding.retry);
  EXPECT_EQ(finding.evidence.prepared_before(), v1::Evidence::SIGHTING_PRESENT);
  EXPECT_EQ(finding.evidence.prepared_after(), v1::Evidence::SIGHTING_ABSENT);
  EXPECT_EQ(finding.evidence.session(), v1::Evidence::SIGHTING_ABSENT);
  EXPECT_EQ(finding.evidence.witness(), v1::Evidence::SIGHTING_PRESENT);
  EXPECT_EQ(finding.evidence.done(), "XA COMMIT");
  EXPECT_EQ(finding.evidence.server(), recovery_->identity().name);
  EXPECT_TRUE(HasRow(task));
  // Again: the same proof, nothing to do.
  const BranchFinding again = Finish(task);
  EXPECT_OUTCOME(again, BRANCH_OUTCOME_COMMITTED);
  EXPECT_EQ(again.evidence.done(), "");
}

TEST_F(MariaDbRecoveryTest, RollsBackWhatItsSessionLeftPrepared) {
  const BranchTask task = Detached(v1::DECISION_ROLLBACK);
  const BranchFinding finding = Finish(task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_ROLLED_BACK);
  EXPECT_FALSE(finding.retry);
  EXPECT_EQ(finding.evidence.witness(), v1::Evidence::SIGHTING_ABSENT);
  EXPECT_EQ(finding.evidence.done(), "XA ROLLBACK");
  EXPECT_FALSE(HasRow(task));
  EXPECT_OUTCOME(Finish(task), BRANCH_OUTCOME_ROLLED_BACK);
}

TEST_F(MariaDbRecoveryTest, ExamineTouchesNothing) {
  BranchTask task = Detached(v1::DECISION_COMMIT);
  task.lease_over = task.may_kill = true;
  const BranchFinding finding = Examine(task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_STILL_PREPARED);
  EXPECT_THAT(finding.evidence.detail(), HasSubstr("next: XA COMMIT"));
  EXPECT_EQ(finding.evidence.done(), "");
  EXPECT_TRUE(IsListed(admin_.get(), task.xid));
  EXPECT_EQ(finding.evidence.witness(), v1::Evidence::SIGHTING_UNCOMMITTED);
  EXPECT_OUTCOME(Finish(task), BRANCH_OUTCOME_COMMITTED);
}

TEST_F(MariaDbRecoveryTest, ManyAtOnceEachItsOwnWay) {
  std::vector<BranchTask> tasks;
  for (int i = 0; i < 40; ++i) {
    tasks.push_back(Detached(i % 2 == 0 ? v1::DECISION_COMMIT : v1::DECISION_ROLLBACK, /*with_witness=*/i % 4 < 2));
  }
  const auto findings = recovery_->Finish(tasks);
  ASSERT_TRUE(findings.ok()) << findings.status();
  for (int i = 0; i < 40; ++i) {
    const v1::BranchOutcome expected = i % 2 != 0  ? v1::BRANCH_OUTCOME_ROLLED_BACK
                                       : i % 4 < 2 ? v1::BRANCH_OUTCOME_COMMITTED
                                                   : v1::BRANCH_OUTCOME_UNSPECIFIED;
    EXPECT_EQ((*findings)[i].evidence.outcome(), expected) << (*findings)[i].evidence.DebugString();
    EXPECT_EQ(HasRow(tasks[i]), i % 2 == 0);
  }
  EXPECT_TRUE(recovery_->Finish({})->empty());
  const std::vector<BranchTask> too_many(BranchRecovery::kMaxTasks + 1, tasks[0]);
  EXPECT_EQ(ReasonOf(recovery_->Finish(too_many).status()), Reason::INVALID_FIELD);
}

// ---------------------------------------------------------------------------------------------------------------------
// Sessions that live.

TEST_F(MariaDbRecoveryTest, LeavesASessionWithinItsLeaseAlone) {
  if (Detaches()) GTEST_SKIP() << "the engine shows that the session does not hold its branch";
  for (const v1::Decision decision : {v1::DECISION_COMMIT, v1::DECISION_ROLLBACK}) {
    TestBranch branch = Prepared();
    branch.task.decision = decision;
    branch.task.may_kill = true;
    const BranchFinding finding = Finish(branch.task);
    EXPECT_OUTCOME(finding, BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
    EXPECT_TRUE(finding.retry);
    EXPECT_EQ(finding.evidence.done(), "");
    EXPECT_TRUE(branch.session->Commit(branch.task.xid).ok());
  }
}

TEST_F(MariaDbRecoveryTest, KillsASessionPastItsLeaseIfThePolicyLetsIt) {
  if (Detaches()) GTEST_SKIP() << "the engine shows that the session does not hold its branch";
  TestBranch branch = Prepared();
  branch.task.lease_over = true;
  BranchFinding finding = Finish(branch.task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
  EXPECT_THAT(finding.evidence.detail(), HasSubstr("kill_after_lease"));
  EXPECT_EQ(finding.evidence.done(), "");
  branch.task.may_kill = true;
  finding = FinishInTheEnd(branch.task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_COMMITTED);
  EXPECT_TRUE(HasRow(branch.task));
  EXPECT_FALSE(branch.session->Query("DO 1").ok());
}

TEST_F(MariaDbRecoveryTest, FinishedByItsOwnSessionWhichLivesOn) {
  TestBranch branch = Prepared();
  ASSERT_TRUE(branch.session->Commit(branch.task.xid).ok());
  EXPECT_OUTCOME(Finish(branch.task), BRANCH_OUTCOME_COMMITTED);
  branch = Prepared();
  branch.task.decision = v1::DECISION_ROLLBACK;
  ASSERT_TRUE(branch.session->Rollback(branch.task.xid).ok());
  EXPECT_OUTCOME(Finish(branch.task), BRANCH_OUTCOME_ROLLED_BACK);
}

TEST_F(MariaDbRecoveryTest, AnActiveBranchIsEndedOnlyPastItsLease) {
  TestBranch branch = Active();
  branch.task.decision = v1::DECISION_ROLLBACK;
  branch.task.witness = witness_;
  branch.task.may_kill = true;
  EXPECT_OUTCOME(Finish(branch.task), BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
  branch.task.lease_over = true;
  const BranchFinding finding = FinishInTheEnd(branch.task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_NEVER_PREPARED);
  EXPECT_FALSE(branch.session->Query("DO 1").ok());
  EXPECT_FALSE(HasRow(branch.task));
}

TEST_F(MariaDbRecoveryTest, AnIdleSessionIsNotKilledForABranchThatItNoLongerHas) {
  TestBranch branch = Active();
  ASSERT_TRUE(branch.session->Rollback(branch.task.xid).ok());
  branch.task.decision = v1::DECISION_ROLLBACK;
  branch.task.witness = witness_;
  branch.task.lease_over = branch.task.may_kill = true;
  const BranchFinding finding = Finish(branch.task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_NEVER_PREPARED);
  EXPECT_THAT(finding.evidence.done(), testing::Not(HasSubstr("KILL")));
  EXPECT_TRUE(branch.session->Query("DO 1").ok());
}

TEST_F(MariaDbRecoveryTest, ASessionOfAnotherLifeIsNeverKilled) {
  // The id is in use again, by somebody else.
  auto bystander = MustConnect(options_);
  MustQuery(bystander.get(), "BEGIN; INSERT INTO shop.stock VALUES ('bystander')");
  for (const bool other_server : {false, true}) {
    TestBranch branch = Prepared();
    branch.session->Abandon();
    branch.task.session = SessionOf(*bystander, recovery_->identity());
    if (other_server) {
      branch.task.session->set_server("elsewhere:3306");
    } else {
      branch.task.session->mutable_server_start_time()->set_seconds(branch.task.session->server_start_time().seconds() -
                                                                    60);
    }
    branch.task.lease_over = branch.task.may_kill = true;
    const BranchFinding finding = FinishInTheEnd(branch.task);
    EXPECT_OUTCOME(finding, BRANCH_OUTCOME_COMMITTED);
    EXPECT_THAT(finding.evidence.done(), testing::Not(HasSubstr("KILL")));
    EXPECT_TRUE(bystander->Query("DO 1").ok());
  }
}

// PREPARE has let go of it, and its session says so: nobody has to wait for that, or to end it.
TEST_F(MariaDbRecoveryTest, ADetachedBranchIsFinishedWhileItsSessionLives) {
  if (!Detaches()) GTEST_SKIP() << "the session holds the branch";
  for (const bool commit : {true, false}) {
    for (const bool with_witness : {true, false}) {
      TestBranch branch = Prepared(with_witness);
      branch.task.decision = commit ? v1::DECISION_COMMIT : v1::DECISION_ROLLBACK;
      branch.task.session = branch.session->Describe();
      ASSERT_TRUE(branch.task.session->detached());
      // The session works on something else, within its lease.
      const Xid next = NewXid();
      ASSERT_TRUE(branch.session->Start(next, "INSERT INTO shop.stock VALUES ('next')").xa.ok());
      const BranchFinding finding = Finish(branch.task);
      EXPECT_EQ(finding.evidence.outcome(), commit ? v1::BRANCH_OUTCOME_COMMITTED : v1::BRANCH_OUTCOME_ROLLED_BACK)
          << finding.evidence.DebugString();
      EXPECT_FALSE(finding.retry);
      EXPECT_THAT(finding.evidence.done(), testing::Not(HasSubstr("KILL")));
      EXPECT_EQ(HasRow(branch.task), commit);
      EXPECT_TRUE(branch.session->Rollback(next).ok());
    }
  }
}

TEST_F(MariaDbRecoveryTest, ASessionThatNobodyNamed) {
  // MySQL's detached branches have none; see above.
  if (Detaches()) GTEST_SKIP() << "no session holds a prepared branch";
  // Attached: only its session can finish it.
  TestBranch branch = Prepared();
  branch.task.session.reset();
  branch.task.lease_over = branch.task.may_kill = true;
  BranchFinding finding = Finish(branch.task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
  EXPECT_EQ(finding.evidence.error_code(), 1397);
  EXPECT_EQ(finding.evidence.sqlstate(), "XAE04");
  EXPECT_EQ(finding.evidence.session(), v1::Evidence::SIGHTING_UNSPECIFIED);
  // Detached.
  branch.session->Abandon();
  EXPECT_OUTCOME(FinishInTheEnd(branch.task), BRANCH_OUTCOME_COMMITTED);

  // A name that is none is none.
  TestBranch misnamed = Prepared();
  misnamed.task.session->set_connection_id(-1);
  misnamed.task.lease_over = misnamed.task.may_kill = true;
  EXPECT_OUTCOME(Finish(misnamed.task), BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
  EXPECT_TRUE(misnamed.session->Commit(misnamed.task.xid).ok());

  // Active: it may become prepared within its lease.
  TestBranch active = Active();
  active.task.session.reset();
  active.task.witness = witness_;
  active.task.decision = v1::DECISION_ROLLBACK;
  finding = Finish(active.task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_UNSPECIFIED);
  EXPECT_TRUE(finding.retry);
  active.task.lease_over = true;
  EXPECT_OUTCOME(Finish(active.task), BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
  ASSERT_TRUE(active.session->Rollback(active.task.xid).ok());
  EXPECT_OUTCOME(Finish(active.task), BRANCH_OUTCOME_NEVER_PREPARED);
}

// ---------------------------------------------------------------------------------------------------------------------
// What people do by hand.

TEST_F(MariaDbRecoveryTest, FinishedByHand) {
  for (const bool by_commit : {true, false}) {
    for (const v1::Decision decision : {v1::DECISION_COMMIT, v1::DECISION_ROLLBACK}) {
      const BranchTask task = Detached(decision);
      ASSERT_TRUE((by_commit ? admin_->Commit(task.xid) : admin_->Rollback(task.xid)).ok());
      const BranchFinding finding = Finish(task);
      EXPECT_FALSE(finding.retry);
      EXPECT_EQ(finding.evidence.done(), "");
      if (decision == v1::DECISION_COMMIT) {
        EXPECT_EQ(finding.evidence.outcome(),
                  by_commit ? v1::BRANCH_OUTCOME_COMMITTED : v1::BRANCH_OUTCOME_HEURISTIC_ROLLED_BACK);
      } else {
        EXPECT_EQ(finding.evidence.outcome(),
                  by_commit ? v1::BRANCH_OUTCOME_HEURISTIC_COMMITTED : v1::BRANCH_OUTCOME_ROLLED_BACK);
      }
    }
  }
}

TEST_F(MariaDbRecoveryTest, ALostWitnessTableProvesNothing) {
  for (const char* loss : {"DROP TABLE assent.witness", "DELETE FROM assent.witness", "TRUNCATE TABLE assent.witness",
                           "ALTER TABLE assent.witness COMMENT = 'mine now'"}) {
    for (const bool made_anew : {false, true}) {
      SCOPED_TRACE(absl::StrCat(loss, made_anew ? ", and made anew" : ""));
      for (const v1::Decision decision : {v1::DECISION_COMMIT, v1::DECISION_ROLLBACK}) {
        const BranchTask task = Detached(decision);
        ASSERT_TRUE(admin_->Commit(task.xid).ok());
        MustQuery(admin_.get(), loss);
        if (made_anew) (void)InstallWitness(admin_.get(), witness_);
        const BranchFinding finding = Finish(task);
        EXPECT_OUTCOME(finding, BRANCH_OUTCOME_UNSPECIFIED);
        EXPECT_FALSE(finding.retry);
        EXPECT_THAT(finding.evidence.detail(), HasSubstr("assent.witness"));
        MustQuery(admin_.get(), "DROP TABLE IF EXISTS assent.witness");
        MustInstall(admin_.get());
      }
    }
  }
}

TEST_F(MariaDbRecoveryTest, RecoveryDoesNotMakeALostWitnessTable) {
  const BranchTask task = Detached(v1::DECISION_COMMIT);
  ASSERT_TRUE(admin_->Commit(task.xid).ok());
  MustQuery(admin_.get(), "DROP TABLE assent.witness");
  (void)Finish(task);
  EXPECT_TRUE(recovery_->ForgetWitnesses(witness_, {task.xid}).ok());
  EXPECT_TRUE(recovery_->ListWitnesses(witness_, "test-", Xid{}, 10)->empty());
  EXPECT_FALSE(recovery_->ReadClaim("c")->has_value());
  EXPECT_EQ(One(admin_.get(), "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'assent'"), "0");
  MustInstall(admin_.get());
}

TEST_F(MariaDbRecoveryTest, WithoutWitness) {
  // Nothing proves a commit …
  BranchTask task = Detached(v1::DECISION_COMMIT, /*with_witness=*/false);
  BranchFinding finding = Finish(task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_UNSPECIFIED);
  EXPECT_FALSE(finding.retry);
  EXPECT_EQ(finding.evidence.done(), "XA COMMIT");
  EXPECT_TRUE(HasRow(task)) << "it is committed all the same";
  // … and a rollback is over when its server knows no such branch.
  task = Detached(v1::DECISION_ROLLBACK, /*with_witness=*/false);
  EXPECT_OUTCOME(Finish(task), BRANCH_OUTCOME_ROLLED_BACK);
  EXPECT_OUTCOME(Finish(task), BRANCH_OUTCOME_ROLLED_BACK);
}

TEST_F(MariaDbRecoveryTest, ABackupIsWaitedForOnceAndNotPerBranch) {
  ConnectOptions impatient = options_;
  impatient.lock_wait_timeout = absl::Seconds(1);
  auto recovery = MustConnectRecovery(impatient, 2);
  std::vector<BranchTask> tasks;
  for (int i = 0; i < 30; ++i) tasks.push_back(Detached(v1::DECISION_COMMIT));
  MustQuery(admin_.get(), "FLUSH TABLES WITH READ LOCK");
  const absl::Time start = absl::Now();
  const auto findings = recovery->Finish(tasks);
  EXPECT_LT(absl::Now() - start, absl::Seconds(12)) << "30 waits of a second over 2 connections would be 15 s";
  ASSERT_TRUE(findings.ok()) << findings.status();
  for (const BranchFinding& finding : *findings) {
    EXPECT_OUTCOME(finding, BRANCH_OUTCOME_STILL_PREPARED);
    EXPECT_TRUE(finding.retry);
  }
  EXPECT_EQ((*findings)[0].evidence.error_code(), 1205);
  MustQuery(admin_.get(), "UNLOCK TABLES");
  for (const BranchTask& task : tasks) EXPECT_OUTCOME(FinishBy(recovery.get(), task), BRANCH_OUTCOME_COMMITTED);
}

TEST_F(MariaDbRecoveryTest, NamesWhoHoldsALock) {
  const BranchTask detached = Detached(v1::DECISION_COMMIT);
  TestBranch held = Prepared();
  const std::vector<BranchTask> branches = {detached, held.task};
  std::vector<std::unique_ptr<MariaDbSession>> waiting;
  for (const BranchTask& task : branches) {
    waiting.push_back(MustConnect(options_));
    waiting.back()->SendQuery(absl::StrCat("DELETE FROM shop.stock WHERE id = '", task.xid.bqual, "'"));
  }
  std::vector<v1::LockWait> waits;
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (waits.size() < 2 && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(120));
    waits = *recovery_->LockWaits(branches, 10);
  }
  ASSERT_EQ(waits.size(), 2u);
  for (const v1::LockWait& wait : waits) {
    EXPECT_EQ(wait.table(), "shop.stock");
    EXPECT_EQ(wait.index(), "PRIMARY");
    EXPECT_EQ(wait.waiting_user(), "root");
    const bool of_held = Detaches() ? wait.waiting_connection_id() == static_cast<int64_t>(waiting[1]->connection_id())
                                    : wait.blocking_connection_id() != 0;
    EXPECT_EQ(wait.waiting_connection_id(), static_cast<int64_t>(waiting[of_held ? 1 : 0]->connection_id()));
    // Two are prepared: the detached one could be anybody's.
    EXPECT_EQ(wait.bqual(), of_held && !Detaches() ? held.task.xid.bqual : "");
  }
  EXPECT_EQ(recovery_->LockWaits(branches, 1)->size(), 1u);
  ASSERT_TRUE(held.session->Commit(held.task.xid).ok());
  EXPECT_TRUE(waiting[1]->ReceiveQuery().ok());
  // One is prepared: that is who holds the lock.
  absl::SleepFor(absl::Milliseconds(120));
  waits = *recovery_->LockWaits(branches, 10);
  ASSERT_EQ(waits.size(), 1u);
  EXPECT_EQ(waits[0].bqual(), detached.xid.bqual);
  EXPECT_OUTCOME(Finish(detached), BRANCH_OUTCOME_COMMITTED);
  EXPECT_TRUE(waiting[0]->ReceiveQuery().ok());
}

}  // namespace
}  // namespace assent
