// Ten thousand branches that nobody holds any more, finished in batches; beside it the raw loop: the same number of XA
// COMMIT over the same number of connections, with no look and no proof.
#include <iostream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "resource_manager/recovery_rig.h"
#include "resource_manager/worker_pool.h"

namespace assent {
namespace {

constexpr int kBranches = 10000;
constexpr int kAfterRestart = 2000;
constexpr int kConnections = 8;

class RecoveryBacklogTest : public testing::Test {
 protected:
  RecoveryBacklogTest()
      : server_(MustStart()),
        options_(ConnectOptionsFor(*server_)),
        admin_(MustConnect(options_)),
        witness_(MustInstall(admin_.get())) {}

  static std::unique_ptr<PrivateMariaDb> MustStart() {
    auto started = StartServer();
    CHECK(started.ok()) << started.status();
    return *std::move(started);
  }

  std::vector<BranchTask> LeavePrepared(const ServerIdentity& identity, int count) {
    std::vector<BranchTask> tasks;
    for (int i = 0; i < count; ++i) {
      TestBranch branch = PrepareBranch(options_, identity, &witness_);
      branch.session->Abandon();
      tasks.push_back(branch.task);
    }
    return tasks;
  }

  absl::Duration CommitRaw(const std::vector<BranchTask>& tasks) {
    WorkerPool pool([this] { return MariaDbSession::ConnectForCoordinator(options_); }, kConnections, absl::Minutes(1));
    int committed = 0;
    const absl::Time start = absl::Now();
    const absl::Status status = pool.ForEach(
        tasks.size(),
        [&](BranchSession* session, size_t i) {
          session->SendCommit(tasks[i].xid);
          return true;
        },
        [&](BranchSession* session, size_t) { committed += session->Receive().ok() ? 1 : 0; });
    const absl::Duration took = absl::Now() - start;
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(committed, kBranches);
    return took;
  }

  // Finishes all in batches; prints how long the first took.
  absl::Duration Finish(const std::vector<BranchTask>& tasks, BranchRecovery* recovery) {
    absl::Duration first;
    const absl::Time start = absl::Now();
    for (size_t i = 0; i < tasks.size(); i += BranchRecovery::kMaxTasks) {
      const auto findings = recovery->Finish(absl::MakeSpan(tasks).subspan(i, BranchRecovery::kMaxTasks));
      EXPECT_TRUE(findings.ok()) << findings.status();
      for (const BranchFinding& finding : *findings) {
        EXPECT_EQ(finding.evidence.outcome(), v1::BRANCH_OUTCOME_COMMITTED) << finding.evidence.DebugString();
      }
      if (i == 0) first = absl::Now() - start;
    }
    const absl::Duration took = absl::Now() - start;
    std::cout << "the first " << BranchRecovery::kMaxTasks << " were finished after " << first << "\n";
    return took;
  }

  const std::unique_ptr<PrivateMariaDb> server_;
  const ConnectOptions options_;
  std::unique_ptr<MariaDbSession> admin_;
  const WitnessTable witness_;
};

TEST_F(RecoveryBacklogTest, FinishesTenThousandBranches) {
  auto recovery = MustConnectRecovery(options_, kConnections);
  std::vector<BranchTask> tasks = LeavePrepared(recovery->identity(), kBranches);
  const absl::Duration raw = CommitRaw(tasks);
  tasks = LeavePrepared(recovery->identity(), kBranches);
  const absl::Duration took = Finish(tasks, recovery.get());
  std::cout << kBranches << " branches: " << took << ", the raw loop " << raw << ", ratio "
            << absl::FDivDuration(took, raw) << "\n";
  EXPECT_EQ(One(admin_.get(), "SELECT COUNT(*) FROM shop.stock"), absl::StrCat(2 * kBranches));

  // The same after a restart of the server, when no session can be left.
  tasks = LeavePrepared(recovery->identity(), kAfterRestart);
  ASSERT_TRUE(server_->Restart().ok());
  admin_ = MustConnect(options_);
  recovery = MustConnectRecovery(options_, kConnections);
  std::cout << kAfterRestart << " branches after a restart: " << Finish(tasks, recovery.get()) << "\n";
  EXPECT_EQ(One(admin_.get(), "SELECT COUNT(*) FROM shop.stock"), absl::StrCat(2 * kBranches + kAfterRestart));
  EXPECT_TRUE(recovery->ListPrepared()->empty());
}

}  // namespace
}  // namespace assent
