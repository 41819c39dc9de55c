// Ghosts on real servers: made on purpose, found, repaired; with and without a binary log, and across crashes.
#include "resource_manager/ghost_repair.h"

#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/recovery_rig.h"

namespace assent {
namespace {

using testing::HasSubstr;

// On MariaDB only: nothing is repaired on MySQL. The parameter: with a binary log or without.
class GhostRepairTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    PrivateMariaDb::Options options;
    if (GetParam()) options.extra = {"--log-bin", "--sync-binlog=1"};
    auto started = StartServer(options);
    ASSERT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
    options_ = ConnectOptionsFor(*server_);
    Connect();
    witness_ = MustInstall(admin_.get());
  }

  void Connect() {
    admin_ = MustConnect(options_);
    recovery_ = MustConnectRecovery(options_);
  }

  TestBranch ResetBranch(v1::Decision decision) {
    TestBranch branch = StartBranch(options_, recovery_->identity());
    branch.task.witness = witness_;
    branch.task.decision = decision;
    PrepareAndReset(&branch);
    return branch;
  }

  // … and now somebody finishes it, and is told OK although nothing happens.
  TestBranch Ghost(v1::Decision decision) {
    TestBranch branch = ResetBranch(decision);
    EXPECT_TRUE(admin_->Commit(branch.task.xid).ok());
    return branch;
  }

  std::vector<BranchFinding> Finish(const std::vector<BranchTask>& tasks) {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    for (;;) {
      auto findings = recovery_->Finish(tasks);
      EXPECT_TRUE(findings.ok()) << findings.status();
      bool retry = false;
      for (const BranchFinding& finding : *findings) retry = retry || finding.retry;
      if (!retry || absl::Now() > deadline) return *findings;
      absl::SleepFor(absl::Milliseconds(5));
    }
  }

  bool HasRow(const BranchTask& task) {
    return One(admin_.get(), absl::StrCat("SELECT COUNT(*) FROM shop.stock WHERE id = '", task.xid.bqual, "'")) == "1";
  }

  std::unique_ptr<PrivateMariaDb> server_;
  ConnectOptions options_;
  std::unique_ptr<MariaDbSession> admin_;
  WitnessTable witness_ = *WitnessTable::OfSchema("");
  std::unique_ptr<BranchRecovery> recovery_;
};

INSTANTIATE_TEST_SUITE_P(BinaryLog, GhostRepairTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "On" : "Off"; });

TEST_P(GhostRepairTest, CommitsAndRollsBackGhosts) {
  for (const v1::Decision decision : {v1::DECISION_COMMIT, v1::DECISION_ROLLBACK}) {
    TestBranch ghost = Ghost(decision);
    EXPECT_FALSE(IsListed(admin_.get(), ghost.task.xid));
    EXPECT_FALSE(HasRow(ghost.task)) << "the OK was a lie";
    ghost.session->Abandon();
    const BranchFinding finding = Finish({ghost.task})[0];
    const bool commit = decision == v1::DECISION_COMMIT;
    EXPECT_EQ(finding.evidence.outcome(), commit ? v1::BRANCH_OUTCOME_COMMITTED : v1::BRANCH_OUTCOME_ROLLED_BACK)
        << finding.evidence.DebugString();
    EXPECT_THAT(finding.evidence.done(), HasSubstr("of the same xid"));
    EXPECT_EQ(HasRow(ghost.task), commit);
    // Its locks are gone.
    MustQuery(admin_.get(), absl::StrCat("SET innodb_lock_wait_timeout = 1; REPLACE INTO shop.stock VALUES ('",
                                         ghost.task.xid.bqual, "')"));
  }
  EXPECT_EQ(recovery_->CountGhosts()->value().detached, 0);
  // Nothing is left of the rehearsal either.
  EXPECT_EQ(One(admin_.get(), "SELECT COUNT(*) FROM assent.witness WHERE bqual LIKE 'rehearsal%'"), "0");
}

TEST_P(GhostRepairTest, AGhostWhoseSessionLivesIsLeftToItWithinItsLease) {
  TestBranch ghost = Ghost(v1::DECISION_COMMIT);
  BranchFinding finding = (*recovery_->Finish({ghost.task}))[0];
  EXPECT_EQ(finding.evidence.outcome(), v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE) << finding.evidence.DebugString();
  EXPECT_TRUE(finding.retry);
  EXPECT_EQ(finding.evidence.done(), "");
  ghost.task.lease_over = ghost.task.may_kill = true;
  finding = Finish({ghost.task})[0];
  EXPECT_EQ(finding.evidence.outcome(), v1::BRANCH_OUTCOME_COMMITTED) << finding.evidence.DebugString();
  EXPECT_TRUE(HasRow(ghost.task));
}

TEST_P(GhostRepairTest, AResetSessionIsNoReasonToMakeAGhost) {
  TestBranch branch = ResetBranch(v1::DECISION_COMMIT);
  EXPECT_TRUE(IsListed(admin_.get(), branch.task.xid));
  const BranchFinding waiting = (*recovery_->Finish({branch.task}))[0];
  EXPECT_EQ(waiting.evidence.outcome(), v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE) << waiting.evidence.DebugString();
  branch.task.lease_over = branch.task.may_kill = true;
  const BranchFinding finding = Finish({branch.task})[0];
  EXPECT_EQ(finding.evidence.outcome(), v1::BRANCH_OUTCOME_COMMITTED) << finding.evidence.DebugString();
  EXPECT_EQ(finding.evidence.done(),
            absl::StrCat("KILL CONNECTION ", branch.task.session->connection_id(), "; XA COMMIT"))
      << "no repair was needed";
  EXPECT_TRUE(HasRow(branch.task));
}

TEST_P(GhostRepairTest, CountsGhosts) {
  TestBranch held = PrepareBranch(options_, recovery_->identity(), &witness_);
  TestBranch detached = PrepareBranch(options_, recovery_->identity(), &witness_);
  detached.session->Abandon();
  EXPECT_EQ(recovery_->CountGhosts()->value().detached, 0);
  std::vector<TestBranch> ghosts;
  for (int i = 0; i < 3; ++i) {
    ghosts.push_back(Ghost(v1::DECISION_ROLLBACK));
    ghosts.back().session->Abandon();
  }
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (recovery_->CountGhosts()->value().detached != 3 && absl::Now() < deadline) {
  }
  EXPECT_EQ(recovery_->CountGhosts()->value().detached, 3);
  EXPECT_TRUE(held.session->Rollback(held.task.xid).ok());
}

TEST_P(GhostRepairTest, ManyGhostsAtOnceAndWhatACrashLeavesOfThem) {
  constexpr int kGhosts = 60;
  std::vector<TestBranch> ghosts;
  std::vector<BranchTask> tasks;
  for (int i = 0; i < kGhosts; ++i) {
    ghosts.push_back(Ghost(i % 3 == 0 ? v1::DECISION_ROLLBACK : v1::DECISION_COMMIT));
    ghosts.back().session->Abandon();
    tasks.push_back(ghosts.back().task);
  }
  const absl::Time start = absl::Now();
  const std::vector<BranchFinding> findings = Finish(tasks);
  std::cout << kGhosts << " ghosts repaired in " << absl::Now() - start << "\n";
  server_->Kill9();
  ASSERT_TRUE(server_->Restart().ok());
  Connect();
  for (int i = 0; i < kGhosts; ++i) {
    const bool commit = tasks[i].decision == v1::DECISION_COMMIT;
    EXPECT_EQ(findings[i].evidence.outcome(), commit ? v1::BRANCH_OUTCOME_COMMITTED : v1::BRANCH_OUTCOME_ROLLED_BACK)
        << findings[i].evidence.DebugString();
    // A commit stays. A rollback may have come back as prepared: then it is rolled back again.
    EXPECT_FALSE(commit && IsListed(admin_.get(), tasks[i].xid));
    EXPECT_EQ(HasRow(tasks[i]), commit);
  }
  for (const BranchFinding& again : Finish(tasks)) EXPECT_FALSE(again.retry) << again.evidence.DebugString();
  EXPECT_THAT(*recovery_->ListPrepared(), testing::IsEmpty());
  EXPECT_EQ(recovery_->CountGhosts()->value().detached, 0);
}

TEST_P(GhostRepairTest, WithoutItsBirthRowNothingIsCommitted) {
  TestBranch ghost = Ghost(v1::DECISION_COMMIT);
  ghost.session->Abandon();
  MustQuery(admin_.get(), "DELETE FROM assent.witness WHERE gtrid = '' AND bqual = ''");
  BranchFinding finding;
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  do {
    finding = (*recovery_->Finish({ghost.task}))[0];
  } while (finding.evidence.outcome() == v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE && absl::Now() < deadline);
  EXPECT_EQ(finding.evidence.outcome(), v1::BRANCH_OUTCOME_STILL_PREPARED) << finding.evidence.DebugString();
  EXPECT_TRUE(finding.evidence.ghost());
  EXPECT_TRUE(finding.retry);
  EXPECT_THAT(finding.evidence.detail(), HasSubstr("restart the server"));
  // As it says.
  ASSERT_TRUE(server_->Restart().ok());
  Connect();
  finding = Finish({ghost.task})[0];
  EXPECT_EQ(finding.evidence.outcome(), v1::BRANCH_OUTCOME_COMMITTED) << finding.evidence.DebugString();
  EXPECT_EQ(finding.evidence.done(), "XA COMMIT");
  EXPECT_TRUE(HasRow(ghost.task));
}

TEST_P(GhostRepairTest, ACheckedWitnessTableIsOfUseAgain) {
  TestBranch ghost = Ghost(v1::DECISION_COMMIT);
  ghost.session->Abandon();
  MustQuery(admin_.get(), "DELETE FROM assent.witness WHERE gtrid = '' AND bqual = ''");
  (void)recovery_->Finish({ghost.task});
  MustInstall(admin_.get());
  const BranchFinding finding = Finish({ghost.task})[0];
  EXPECT_EQ(finding.evidence.outcome(), v1::BRANCH_OUTCOME_COMMITTED) << finding.evidence.DebugString();
  EXPECT_TRUE(HasRow(ghost.task));
}

}  // namespace
}  // namespace assent
