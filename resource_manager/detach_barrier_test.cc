// The barrier under fire: sessions close right after their branch is prepared, and recovery comes at once. Without the
// barrier some of the commits would be answered OK and not happen.
#include "resource_manager/detach_barrier.h"

#include <atomic>
#include <iostream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/recovery_rig.h"

namespace assent {
namespace {

constexpr int kThreads = 8;
constexpr int kBranchesPerThread = 150;
// Branches that one call finishes: their sessions close while the first of them is looked at.
constexpr int kBatch = 5;

class DetachBarrierTest : public RecoveryTest {};

TEST_F(DetachBarrierTest, NoGhostIsBorn) {
  std::atomic<int> wrong{0};
  std::atomic<int> ghosts{0};
  const auto run = [&](int thread) {
    auto recovery = MustConnectRecovery(options_, 2);
    for (int i = 0; i < kBranchesPerThread; i += kBatch) {
      std::vector<TestBranch> branches;
      std::vector<BranchTask> open;
      for (int j = 0; j < kBatch; ++j) {
        branches.push_back(PrepareBranch(options_, recovery->identity(), &witness_));
        open.push_back(branches.back().task);
        // Some are unknown, some past their lease and killed rather than closed.
        if (j == 1) open.back().session.reset();
        open.back().lease_over = open.back().may_kill = j == 2;
        open.back().decision = j == 3 ? v1::DECISION_ROLLBACK : v1::DECISION_COMMIT;
      }
      for (int j = 0; j < kBatch; ++j) {
        if (j != 2) branches[j].session->Abandon();
      }
      const absl::Time deadline = absl::Now() + absl::Seconds(60);
      while (!open.empty()) {
        const auto findings = recovery->Finish(open);
        CHECK(findings.ok()) << findings.status();
        std::vector<BranchTask> again;
        for (size_t j = 0; j < open.size(); ++j) {
          const v1::Evidence& evidence = (*findings)[j].evidence;
          if (evidence.ghost() || evidence.done().find("same xid") != std::string::npos) ++ghosts;
          if ((*findings)[j].retry && absl::Now() < deadline) {
            again.push_back(open[j]);
            continue;
          }
          const bool commit = open[j].decision == v1::DECISION_COMMIT;
          if (evidence.outcome() != (commit ? v1::BRANCH_OUTCOME_COMMITTED : v1::BRANCH_OUTCOME_ROLLED_BACK)) {
            ++wrong;
            ADD_FAILURE() << "thread " << thread << ": " << evidence.DebugString();
          }
        }
        open = std::move(again);
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(run, i);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(ghosts, 0);
  constexpr int kCommitted = kThreads * kBranchesPerThread / kBatch * (kBatch - 1);
  EXPECT_EQ(One(admin_.get(), "SELECT COUNT(*) FROM shop.stock"), absl::StrCat(kCommitted));
  EXPECT_EQ(recovery_->CountGhosts()->value().detached, 0);
}

TEST_F(DetachBarrierTest, ALivingConnectionDoesNotPass) {
  TestBranch branch = Prepared();
  const std::set<uint64_t> ids = {branch.session->connection_id()};
  EXPECT_FALSE(*WaitUntilDetached(admin_.get(), ids));
  branch.session->Abandon();
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  bool detached = false;
  while (!detached && absl::Now() < deadline) detached = *WaitUntilDetached(admin_.get(), ids);
  EXPECT_TRUE(detached);
  EXPECT_TRUE(admin_->Commit(branch.task.xid).ok());
  EXPECT_TRUE(HasRow(branch.task));
}

}  // namespace
}  // namespace assent
