// Recovery with an account that may not see or not kill: it does what it can, and says what helps.
#include <string>

#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/recovery_rig.h"

namespace assent {
namespace {

using testing::HasSubstr;

// The sessions are root's, which on MySQL has SYSTEM_USER.
const char* const kMayKill = OnMySql() ? "CONNECTION_ADMIN, SYSTEM_USER" : "CONNECTION ADMIN";

class RecoveryPrivilegesTest : public RecoveryTest {};

TEST_F(RecoveryPrivilegesTest, MaySeeButNotKill) {
  if (Detaches()) GTEST_SKIP() << "the engine shows that the session does not hold its branch";
  const ConnectOptions options = AccountWith("watcher", "PROCESS");
  auto recovery = MustConnectRecovery(options);
  TestBranch branch = Prepared();
  branch.task.lease_over = branch.task.may_kill = true;
  BranchFinding finding = FinishBy(recovery.get(), branch.task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
  EXPECT_TRUE(finding.retry);
  EXPECT_EQ(finding.evidence.error_code(), 1095);
  const std::string grant = OnMySql() ? "GRANT CONNECTION_ADMIN ON *.* TO 'watcher'@'localhost'"
                                      : "GRANT CONNECTION ADMIN ON *.* TO 'watcher'@'localhost'";
  EXPECT_THAT(finding.evidence.detail(), HasSubstr(grant));
  EXPECT_TRUE(branch.session->Query("DO 1").ok());
  // As it says.
  MustQuery(admin_.get(), grant);
  if (OnMySql()) MustQuery(admin_.get(), "GRANT SYSTEM_USER ON *.* TO 'watcher'@'localhost'");  // It is root's session.
  recovery = MustConnectRecovery(options);
  finding = FinishInTheEndBy(recovery.get(), branch.task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_COMMITTED);
}

TEST_F(RecoveryPrivilegesTest, MayNotSee) {
  auto recovery = MustConnectRecovery(AccountWith("blind", ""));
  EXPECT_FALSE(recovery->CountGhosts()->has_value());
  const auto waits = recovery->LockWaits({}, 10);
  EXPECT_EQ(ReasonOf(waits.status()), Reason::RESOURCE_UNFIT);
  EXPECT_EQ(MetadataOf(waits.status())["grant"],
            OnMySql() ? "GRANT SELECT ON performance_schema.data_lock_waits TO 'blind'@'localhost'; GRANT SELECT ON "
                        "performance_schema.data_locks TO 'blind'@'localhost'"
                      : "GRANT PROCESS ON *.* TO 'blind'@'localhost'");

  BranchFinding finding;
  // A live session is found out by its branch, which nobody else can finish (unless PREPARE let go of it); it cannot be
  // killed.
  if (!Detaches()) {
    TestBranch branch = Prepared();
    branch.task.lease_over = branch.task.may_kill = true;
    finding = FinishBy(recovery.get(), branch.task);
    EXPECT_OUTCOME(finding, BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
    EXPECT_EQ(finding.evidence.error_code(), 1095);
    EXPECT_EQ(finding.evidence.session(), v1::Evidence::SIGHTING_UNSPECIFIED);
    EXPECT_TRUE(branch.session->Commit(branch.task.xid).ok());
  }

  // One that is gone needs a settle time, and the witness.
  finding = FinishBy(recovery.get(), Detached(v1::DECISION_COMMIT));
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_COMMITTED);
  finding = FinishBy(recovery.get(), Detached(v1::DECISION_ROLLBACK));
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_ROLLED_BACK);
}

TEST_F(RecoveryPrivilegesTest, MayKillButNotSee) {
  auto recovery = MustConnectRecovery(AccountWith("killer", kMayKill));
  TestBranch branch = Prepared();
  BranchFinding finding = FinishBy(recovery.get(), branch.task);
  EXPECT_EQ(finding.evidence.outcome(),
            Detaches() ? v1::BRANCH_OUTCOME_COMMITTED : v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
  EXPECT_TRUE(branch.session->Query("DO 1").ok()) << "within its lease";
  branch.task.lease_over = branch.task.may_kill = true;
  finding = FinishInTheEndBy(recovery.get(), branch.task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_COMMITTED);

  TestBranch active = Active();
  active.task.witness = witness_;
  active.task.decision = v1::DECISION_ROLLBACK;
  finding = FinishBy(recovery.get(), active.task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_UNSPECIFIED);
  EXPECT_THAT(finding.evidence.detail(), HasSubstr("GRANT PROCESS ON *.* TO 'killer'@'localhost'"));
  active.task.lease_over = active.task.may_kill = true;
  finding = FinishInTheEndBy(recovery.get(), active.task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_NEVER_PREPARED);
  EXPECT_FALSE(active.session->Query("DO 1").ok());
}

TEST_F(RecoveryPrivilegesTest, MayNotReadTheWitness) {
  MustQuery(
      admin_.get(),
      "DROP USER IF EXISTS stranger@localhost; CREATE USER stranger@localhost IDENTIFIED BY 'p'; GRANT PROCESS ON "
      "*.* TO stranger@localhost");
  if (OnMySql()) MustQuery(admin_.get(), "GRANT XA_RECOVER_ADMIN ON *.* TO stranger@localhost");
  ConnectOptions options = options_;
  options.user = "stranger";
  options.password = "p";
  auto recovery = MustConnectRecovery(options);
  const BranchTask task = Detached(v1::DECISION_COMMIT);
  BranchFinding finding = FinishBy(recovery.get(), task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_UNSPECIFIED);
  EXPECT_THAT(finding.evidence.detail(), HasSubstr("may not see it"));
  // Who may has the proof.
  EXPECT_OUTCOME(Finish(task), BRANCH_OUTCOME_COMMITTED);
}

TEST_F(RecoveryPrivilegesTest, AReadOnlyServerFinishesNothing) {
  auto recovery = MustConnectRecovery(AccountWith("ordinary", "PROCESS"));
  const BranchTask task = Detached(v1::DECISION_COMMIT);
  MustQuery(admin_.get(), "SET GLOBAL read_only = 1");
  if (OnMySql()) {
    // There it is only writing that is forbidden.
    EXPECT_OUTCOME(FinishBy(recovery.get(), task), BRANCH_OUTCOME_COMMITTED);
    MustQuery(admin_.get(), "SET GLOBAL read_only = 0");
    return;
  }
  const BranchFinding finding = FinishBy(recovery.get(), task);
  EXPECT_OUTCOME(finding, BRANCH_OUTCOME_STILL_PREPARED);
  EXPECT_TRUE(finding.retry);
  EXPECT_EQ(finding.evidence.error_code(), 1290);
  MustQuery(admin_.get(), "SET GLOBAL read_only = 0");
  EXPECT_OUTCOME(FinishBy(recovery.get(), task), BRANCH_OUTCOME_COMMITTED);
}

}  // namespace
}  // namespace assent
