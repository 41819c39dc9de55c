#include "resource_manager/mariadb_recovery.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/recovery_rig.h"

namespace assent {
namespace {

using testing::HasSubstr;

class MariaDbRecoveryTest : public testing::Test {
 protected:
  MariaDbRecoveryTest()
      : options_(OptionsFor(SharedServer())),
        admin_(MustConnect(options_)),
        witness_(MustInstall(admin_.get())),
        recovery_(MustConnectRecovery(options_)) {}

  TestBranch Prepared(bool with_witness = true) {
    return PrepareBranch(options_, recovery_->identity(), with_witness ? &witness_ : nullptr);
  }

  BranchFinding Finish(const BranchTask& task) {
    const auto findings = recovery_->Finish({task});
    EXPECT_TRUE(findings.ok()) << findings.status();
    return (*findings)[0];
  }

  // As the coordinator does: again while that may come further (the server needs a moment to see that a session ended).
  BranchFinding FinishInTheEnd(const BranchTask& task) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    for (;;) {
      BranchFinding finding = Finish(task);
      if (!finding.retry || absl::Now() > deadline) return finding;
      absl::SleepFor(absl::Milliseconds(5));
    }
  }

  bool HasRow(const BranchTask& task) {
    return One(admin_.get(), absl::StrCat("SELECT COUNT(*) FROM shop.stock WHERE id = '", task.xid.bqual, "'")) == "1";
  }

  const ConnectOptions options_;
  const std::unique_ptr<MariaDbSession> admin_;
  const WitnessTable witness_;
  const std::unique_ptr<BranchRecovery> recovery_;
};

TEST_F(MariaDbRecoveryTest, CommitsWhatItsSessionLeftPrepared) {
  TestBranch branch = Prepared();
  branch.session->Abandon();
  const BranchFinding finding = FinishInTheEnd(branch.task);
  EXPECT_EQ(finding.evidence.outcome(), v1::BRANCH_OUTCOME_COMMITTED) << finding.evidence.DebugString();
  EXPECT_FALSE(finding.retry);
  EXPECT_EQ(finding.evidence.prepared_before(), v1::Evidence::SIGHTING_PRESENT);
  EXPECT_EQ(finding.evidence.prepared_after(), v1::Evidence::SIGHTING_ABSENT);
  EXPECT_EQ(finding.evidence.session(), v1::Evidence::SIGHTING_ABSENT);
  EXPECT_EQ(finding.evidence.witness(), v1::Evidence::SIGHTING_PRESENT);
  EXPECT_EQ(finding.evidence.done(), "XA COMMIT");
  EXPECT_TRUE(HasRow(branch.task));
}

TEST_F(MariaDbRecoveryTest, RollsBackWhatItsSessionLeftPrepared) {
  TestBranch branch = Prepared();
  branch.task.decision = v1::DECISION_ROLLBACK;
  branch.session->Abandon();
  const BranchFinding finding = FinishInTheEnd(branch.task);
  EXPECT_EQ(finding.evidence.outcome(), v1::BRANCH_OUTCOME_ROLLED_BACK) << finding.evidence.DebugString();
  EXPECT_FALSE(finding.retry);
  EXPECT_EQ(finding.evidence.witness(), v1::Evidence::SIGHTING_ABSENT);
  EXPECT_EQ(finding.evidence.done(), "XA ROLLBACK");
  EXPECT_FALSE(HasRow(branch.task));
}

TEST_F(MariaDbRecoveryTest, LeavesASessionWithinItsLeaseAlone) {
  TestBranch branch = Prepared();
  branch.task.may_kill = true;
  const BranchFinding finding = Finish(branch.task);
  EXPECT_EQ(finding.evidence.outcome(), v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE) << finding.evidence.DebugString();
  EXPECT_TRUE(finding.retry);
  EXPECT_EQ(finding.evidence.done(), "");
  EXPECT_TRUE(branch.session->Commit(branch.task.xid).ok());
}

TEST_F(MariaDbRecoveryTest, KillsASessionPastItsLease) {
  TestBranch branch = Prepared();
  branch.task.lease_over = true;
  BranchFinding finding = Finish(branch.task);
  EXPECT_EQ(finding.evidence.outcome(), v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
  EXPECT_THAT(finding.evidence.detail(), HasSubstr("kill_after_lease"));
  EXPECT_EQ(finding.evidence.done(), "");
  branch.task.may_kill = true;
  finding = Finish(branch.task);
  EXPECT_EQ(finding.evidence.outcome(), v1::BRANCH_OUTCOME_COMMITTED) << finding.evidence.DebugString();
  EXPECT_EQ(finding.evidence.done(), absl::StrCat("KILL CONNECTION ", branch.session->connection_id(), "; XA COMMIT"));
  EXPECT_TRUE(HasRow(branch.task));
  EXPECT_EQ(branch.session->Query("DO 1").ok(), false);
}

TEST_F(MariaDbRecoveryTest, WithoutWitnessNothingProvesACommit) {
  TestBranch branch = Prepared(/*with_witness=*/false);
  branch.session->Abandon();
  const BranchFinding finding = FinishInTheEnd(branch.task);
  EXPECT_EQ(finding.evidence.outcome(), v1::BRANCH_OUTCOME_UNSPECIFIED);
  EXPECT_FALSE(finding.retry);
  EXPECT_EQ(finding.evidence.done(), "XA COMMIT");
  EXPECT_TRUE(HasRow(branch.task));
}

}  // namespace
}  // namespace assent
