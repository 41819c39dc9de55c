// Recovery across the end of its server.
#include <memory>
#include <utility>
#include <vector>

#include "base/errors.h"
#include "gtest/gtest.h"
#include "resource_manager/recovery_rig.h"

namespace assent {
namespace {

std::unique_ptr<PrivateMariaDb> MustStart() {
  auto started = StartServer();
  CHECK(started.ok()) << started.status();
  return *std::move(started);
}

class RecoveryRestartTest : public RecoveryTest {
 protected:
  RecoveryRestartTest() : RecoveryRestartTest(MustStart()) {}
  explicit RecoveryRestartTest(std::unique_ptr<PrivateMariaDb> server)
      : RecoveryTest(server.get()), server_(std::move(server)) {}

  void Restart() {
    ASSERT_TRUE(server_->Restart().ok()) << server_->LogTail();
    Reconnect();
  }

  const std::unique_ptr<PrivateMariaDb> server_;
};

TEST_F(RecoveryRestartTest, NoSessionSurvivesItsServer) {
  TestBranch committed = Prepared();
  TestBranch rolled_back = Prepared();
  rolled_back.task.decision = v1::DECISION_ROLLBACK;
  TestBranch active = Active();
  active.task.decision = v1::DECISION_ROLLBACK;
  active.task.witness = witness_;
  // Start times are whole seconds, and lives closer together than two of them count as one.
  absl::SleepFor(absl::Seconds(3));
  Restart();
  // Sessions are numbered anew: take all the ids that the branches had.
  std::vector<std::unique_ptr<MariaDbSession>> bystanders;
  do {
    bystanders.push_back(MustConnect(options_));
  } while (static_cast<int64_t>(bystanders.back()->connection_id()) < active.task.session->connection_id());
  for (TestBranch* branch : {&committed, &rolled_back, &active}) {
    branch->task.lease_over = branch->task.may_kill = true;
  }
  EXPECT_OUTCOME(Finish(committed.task), BRANCH_OUTCOME_COMMITTED);
  EXPECT_OUTCOME(Finish(rolled_back.task), BRANCH_OUTCOME_ROLLED_BACK);
  EXPECT_OUTCOME(FinishInTheEnd(active.task), BRANCH_OUTCOME_NEVER_PREPARED);
  EXPECT_TRUE(HasRow(committed.task));
  EXPECT_FALSE(HasRow(rolled_back.task));
  for (const auto& bystander : bystanders) EXPECT_TRUE(bystander->Query("DO 1").ok());
}

// XA ROLLBACK was answered OK, and the branch is prepared again after a restart: a crash can do that (the rollback is
// not forced to disk), and a rollback that met its session's end does so surely.
TEST_F(RecoveryRestartTest, ARolledBackBranchThatComesBackIsRolledBackAgain) {
  // With ON there is no such rollback; with OFF the reset that makes one can crash MySQL.
  if (OnMySql()) GTEST_SKIP() << "MariaDB's way to lose a rollback";
  TestBranch branch = Active();
  branch.task.decision = v1::DECISION_ROLLBACK;
  branch.task.witness = witness_;
  PrepareAndReset(&branch);
  ASSERT_TRUE(admin_->Rollback(branch.task.xid).ok());
  ASSERT_FALSE(IsListed(admin_.get(), branch.task.xid));
  Restart();
  ASSERT_TRUE(IsListed(admin_.get(), branch.task.xid));
  // Perhaps the restart took less than the second in which start times are told.
  branch.task.session.reset();
  EXPECT_OUTCOME(FinishInTheEnd(branch.task), BRANCH_OUTCOME_ROLLED_BACK);
  EXPECT_FALSE(IsListed(admin_.get(), branch.task.xid));
  EXPECT_FALSE(HasRow(branch.task));
}

// Whatever a DBA has set for everybody.
TEST_F(RecoveryRestartTest, TheServersGlobalsChangeNothing) {
  const BranchTask committed = Detached(v1::DECISION_COMMIT);
  const BranchTask rolled_back = Detached(v1::DECISION_ROLLBACK);
  const BranchTask waiting = Detached(v1::DECISION_COMMIT);
  TestBranch living = Prepared();
  std::vector<std::string> globals = {"autocommit = 0",       "completion_type = 1", "sql_select_limit = 1",
                                      "sql_safe_updates = 1", "max_join_size = 1",   "sql_big_selects = 0",
                                      "time_zone = '+05:00'"};
  const std::vector<std::string> own =
      OnMySql() ? std::vector<std::string>{"transaction_read_only = 1",
                                           "transaction_isolation = 'READ-UNCOMMITTED'",
                                           "sql_mode = 'ANSI,PAD_CHAR_TO_FULL_LENGTH'",
                                           "max_execution_time = 1",
                                           "default_table_encryption = 0",
                                           "sql_require_primary_key = 1"}
                : std::vector<std::string>{"tx_read_only = 1", "tx_isolation = 'READ-UNCOMMITTED'",
                                           "sql_mode = 'ORACLE,EMPTY_STRING_IS_NULL'", "max_statement_time = 0.0001"};
  globals.insert(globals.end(), own.begin(), own.end());
  for (const std::string& global : globals) {
    MustQuery(admin_.get(), absl::StrCat("SET GLOBAL ", global));
  }
  recovery_ = MustConnectRecovery(options_);
  const absl::Status installed = recovery_->Install(witness_);
  EXPECT_TRUE(installed.ok()) << installed;
  const auto written = recovery_->WriteClaim("c", absl::nullopt, Claim{"s", 7});
  EXPECT_TRUE(written.ok() && *written) << written.status();
  EXPECT_EQ(One(admin_.get(), "SELECT epoch FROM assent.claim"), "7") << "it is not committed";
  const auto prepared = recovery_->ListPrepared();
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  EXPECT_EQ(prepared->size(), 4u);
  EXPECT_EQ(Finish(living.task).evidence.outcome(),
            Detaches() ? v1::BRANCH_OUTCOME_COMMITTED : v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
  EXPECT_OUTCOME(Examine(waiting), BRANCH_OUTCOME_STILL_PREPARED);
  const auto findings = recovery_->Finish({committed, rolled_back});
  ASSERT_TRUE(findings.ok()) << findings.status();
  EXPECT_OUTCOME((*findings)[0], BRANCH_OUTCOME_COMMITTED);
  EXPECT_OUTCOME((*findings)[1], BRANCH_OUTCOME_ROLLED_BACK);
  EXPECT_TRUE(HasRow(committed));
  EXPECT_FALSE(HasRow(rolled_back));
  const absl::Status forgotten = recovery_->ForgetWitnesses(witness_, {committed.xid});
  EXPECT_TRUE(forgotten.ok()) << forgotten;
  EXPECT_FALSE(*HasWitness(admin_.get(), witness_, committed.xid));
  living.session->Abandon();
}

TEST_F(RecoveryRestartTest, ALostConnectionIsAnError) {
  const BranchTask task = Detached(v1::DECISION_COMMIT);
  server_->Kill9();
  const auto findings = recovery_->Finish({task});
  EXPECT_EQ(ReasonOf(findings.status()), Reason::DATABASE_UNREACHABLE) << findings.status();
  EXPECT_EQ(ReasonOf(recovery_->ListPrepared().status()), Reason::DATABASE_UNREACHABLE);
  EXPECT_EQ(ReasonOf(MariaDbRecovery::Connect(options_).status()), Reason::DATABASE_UNREACHABLE);
  Restart();
  EXPECT_OUTCOME(Finish(task), BRANCH_OUTCOME_COMMITTED);
}

std::unique_ptr<PrivateMariaDb> MustStartWith(std::vector<std::string> extra) {
  PrivateMariaDb::Options options;
  options.extra = std::move(extra);
  auto started = StartServer(std::move(options));
  CHECK(started.ok()) << started.status();
  return *std::move(started);
}

class OnePhaseTest : public RecoveryRestartTest, public testing::WithParamInterface<bool> {
 protected:
  OnePhaseTest()
      : RecoveryRestartTest(MustStartWith(GetParam() ? std::vector<std::string>{"--log-bin", "--sync-binlog=1"}
                                                     : std::vector<std::string>{})) {}
};

// Why a branch is committed in one phase only where there is no binary log.
TEST_P(OnePhaseTest, OutlivesACrashOnlyWithoutABinaryLog) {
  if (OnMySql()) GTEST_SKIP() << "always two phases there";
  const bool binary_log = GetParam();
  bool outlived = true;
  // Without its flush the commit is lost only if the server dies before the next one, which others cause.
  for (int attempt = 0; attempt < (binary_log ? 10 : 1) && outlived; ++attempt) {
    TestBranch branch = Active();
    EXPECT_EQ(branch.session->commits_in_one_phase(), !binary_log);
    branch.task.witness = witness_;
    branch.task.one_phase = true;
    branch.task.decision = v1::DECISION_COMMIT;
    ASSERT_TRUE(branch.session->CommitOnePhase(branch.task.xid, &witness_).ok());
    server_->Kill9();
    Restart();
    outlived = HasRow(branch.task);
    EXPECT_EQ(IsListed(admin_.get(), branch.task.xid), !outlived);
    // Perhaps the restart took less than the second in which start times are told.
    branch.task.session.reset();
    // Whoever does it all the same does not lose it.
    EXPECT_OUTCOME(FinishInTheEnd(branch.task), BRANCH_OUTCOME_COMMITTED);
    EXPECT_TRUE(HasRow(branch.task));
    branch.session->Abandon();
  }
  EXPECT_EQ(outlived, !binary_log) << "MariaDB has changed: perhaps it can be committed in one phase now";
}

INSTANTIATE_TEST_SUITE_P(, OnePhaseTest, testing::Bool(), [](const testing::TestParamInfo<bool>& info) {
  return info.param ? "WithBinaryLog" : "WithoutBinaryLog";
});

}  // namespace
}  // namespace assent
