// A participant dies or stalls: the coordinator finishes its branch, and never disturbs a session within its lease.
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/recovery/recovery_rig.h"

namespace assent {
namespace {

using ::testing::HasSubstr;

class TakeoverTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = WhyNotHere(); !why.empty()) GTEST_SKIP() << why;
  }
  void Start(RecoveryRig::Options options = {}) {
    auto rig = RecoveryRig::Start(std::move(options));
    ASSERT_TRUE(rig.ok()) << rig.status();
    rig_ = *std::move(rig);
  }

  std::unique_ptr<RecoveryRig> rig_;
};

TEST_F(TakeoverTest, ADeadParticipantsBranchIsCommittedWithEvidence) {
  Start();
  std::vector<RawBranch> branches = rig_->Decided({0, 1}, v1::DECISION_COMMIT);
  const std::string gtrid = branches[0].xid.gtrid;
  for (RawBranch& branch : branches) branch.session->Abandon();
  const v1::GetGlobalResponse done = rig_->Await(gtrid, v1::Global::STATE_COMMITTED);
  ASSERT_EQ(done.outcome(), v1::OUTCOME_COMMITTED) << done.DebugString();
  EXPECT_EQ(rig_->Rows(0, gtrid) + rig_->Rows(1, gtrid), 2);
  for (const v1::Branch& branch : done.global().branches()) {
    ASSERT_GE(branch.evidence_size(), 1);
    const v1::Evidence& last = *branch.evidence().rbegin();
    EXPECT_EQ(last.outcome(), v1::BRANCH_OUTCOME_COMMITTED);
    EXPECT_EQ(last.witness(), v1::Evidence::SIGHTING_PRESENT) << last.DebugString();
    EXPECT_EQ(last.prepared_after(), v1::Evidence::SIGHTING_ABSENT);
    EXPECT_FALSE(last.server().empty());
  }
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return rig_->Witnesses(0, gtrid) + rig_->Witnesses(1, gtrid) == 0; }))
      << "witnesses of finished transactions are deleted";
}

TEST_F(TakeoverTest, ADeadParticipantsBranchIsRolledBack) {
  Start();
  std::vector<RawBranch> branches = rig_->Begin({0, 1});
  const std::string gtrid = branches[0].xid.gtrid;
  for (RawBranch& branch : branches) rig_->Prepare(&branch);
  for (RawBranch& branch : branches) branch.session->Abandon();
  ASSERT_TRUE(rig_->Finalize(gtrid, v1::DECISION_ROLLBACK).ok());
  EXPECT_EQ(rig_->Await(gtrid, v1::Global::STATE_ROLLED_BACK).outcome(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(rig_->Rows(0, gtrid) + rig_->Rows(1, gtrid), 0);
  EXPECT_EQ(rig_->Prepared(0) + rig_->Prepared(1), 0);
}

TEST_F(TakeoverTest, ALivingSessionIsLeftAloneWithinItsLeaseAndKilledAfterIt) {
  RecoveryRig::Options options;
  options.lease = absl::Seconds(4);
  Start(std::move(options));
  std::vector<RawBranch> branches = rig_->Decided({0}, v1::DECISION_COMMIT);
  const absl::Time decided = absl::Now();
  const std::string gtrid = branches[0].xid.gtrid;
  const v1::GetGlobalResponse done = rig_->Await(gtrid, v1::Global::STATE_COMMITTED);
  ASSERT_EQ(done.outcome(), v1::OUTCOME_COMMITTED) << done.DebugString();
  if (RecoveryRig::Detaches(0)) {
    // The session has no part in it any more: there is nothing to wait for, and nothing to disturb.
    EXPECT_LT(absl::Now() - decided, absl::Seconds(4)) << "a prepared branch needs no lease";
    EXPECT_EQ(done.global().branches(0).evidence().rbegin()->done(),
              RecoveryRig::IsPostgres(0) ? "COMMIT PREPARED" : "XA COMMIT");
    EXPECT_EQ(rig_->Rows(0, gtrid), 1);
    EXPECT_EQ(branches[0].session->Commit(branches[0].xid).outcome, XaOutcome::kUnknownXid);
    absl::SleepFor(absl::Seconds(5));
    EXPECT_TRUE(branches[0].session->Query("SELECT 1").ok()) << "ended, though it holds nothing";
    return;
  }
  EXPECT_GE(absl::Now() - decided, absl::Seconds(4)) << "disturbed within its lease";
  EXPECT_THAT(done.global().branches(0).evidence().rbegin()->done(), HasSubstr("KILL"));
  EXPECT_EQ(done.global().branches(0).evidence(0).outcome(), v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
  EXPECT_EQ(rig_->Rows(0, gtrid), 1);
  EXPECT_EQ(branches[0].session->Commit(branches[0].xid).outcome, XaOutcome::kConnectionLost);
}

TEST_F(TakeoverTest, WithoutLeaveToKillItStaysInDoubtAndSaysSo) {
  if (RecoveryRig::Detaches(0)) GTEST_SKIP() << "nobody needs to be killed: PREPARE lets go of the branch";
  RecoveryRig::Options options;
  options.lease = absl::Seconds(1);
  options.kill_after_lease = v1::KILL_AFTER_LEASE_DISABLED;
  Start(std::move(options));
  std::vector<RawBranch> branches = rig_->Decided({0}, v1::DECISION_COMMIT);
  const std::string gtrid = branches[0].xid.gtrid;
  absl::SleepFor(absl::Seconds(4));
  EXPECT_EQ(rig_->Global(gtrid).global().state(), v1::Global::STATE_COMMITTING);
  const auto page = rig_->InDoubt();
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->branches_size(), 1);
  EXPECT_THAT(page->branches(0).next_step(), HasSubstr("kill")) << page->DebugString();
  // The participant wakes up and does what it was to do.
  ASSERT_TRUE(branches[0].session->Commit(branches[0].xid).ok());
  ASSERT_TRUE(rig_->Complete(branches[0], v1::Completion::RESULT_COMMITTED).ok());
  EXPECT_EQ(rig_->Global(gtrid).outcome(), v1::OUTCOME_COMMITTED);
}

TEST_F(TakeoverTest, AnUnknownSessionIsNeverKilledAndItsEndIsNoticed) {
  Start();
  v1::CreateGlobalRequest request;
  request.add_branches()->set_resource("a");  // By a participant that does not say where it works.
  const auto created = rig_->TryCreate(request);
  ASSERT_TRUE(created.ok());
  const std::string gtrid = created->global().gtrid();
  RawBranch branch{0, {gtrid, created->global().branches(0).bqual()}, rig_->Connect(0)};
  rig_->Prepare(&branch);
  ASSERT_TRUE(rig_->Finalize(gtrid, v1::DECISION_ROLLBACK).ok());
  absl::SleepFor(absl::Seconds(5));  // Well past the lease.
  if (RecoveryRig::Detaches(0)) {
    // Whoever prepared it, it is in the list and nobody's.
    EXPECT_TRUE(branch.session->Query("SELECT 1").ok()) << "killed";
  } else {
    EXPECT_EQ(rig_->Global(gtrid).global().state(), v1::Global::STATE_ROLLING_BACK);
    EXPECT_EQ(rig_->BranchOf(gtrid, branch.xid.bqual).evidence().rbegin()->outcome(),
              v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
    branch.session->Abandon();
  }
  EXPECT_EQ(rig_->Await(gtrid, v1::Global::STATE_ROLLED_BACK).outcome(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(rig_->Prepared(0), 0);
}

TEST_F(TakeoverTest, AnOrphanIsRolledBackAfterItsAgeAndForeignXidsNever) {
  Start();
  RawBranch orphan{0, {NewGtrid("test", absl::Now()), "b1"}, rig_->Connect(0), nullptr};
  RawBranch foreign{0, {NewGtrid("other", absl::Now()), "b1"}, rig_->Connect(0), nullptr};
  for (RawBranch* branch : {&orphan, &foreign}) {
    rig_->Prepare(branch);
    branch->session->Abandon();
  }
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return rig_->Prepared(0) == 1; }));
  const auto report = rig_->Recover(/*dry_run=*/true, "a");
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_EQ(report->resources(0).xids_size(), 1) << report->DebugString();
  EXPECT_EQ(report->resources(0).xids(0).kind(), v1::XidReport::KIND_FOREIGN);
  EXPECT_EQ(report->resources(0).xids(0).gtrid(), foreign.xid.gtrid);
  rig_->Sql(0, RecoveryRig::FinishSql(0, foreign.xid, /*commit=*/false));
}

TEST_F(TakeoverTest, AServerWithTwoNamesHasNoOrphans) {
  Start();
  ASSERT_TRUE(rig_->Register(0, [](v1::RegisterResourceRequest* r) { r->mutable_resource()->set_name("alias"); }).ok());
  std::vector<RawBranch> branches = rig_->Begin({0});
  rig_->Prepare(&branches[0]);
  ASSERT_TRUE(rig_->Vote(branches).ok());
  branches[0].session->Abandon();
  absl::SleepFor(absl::Seconds(4));  // Well past the orphan age.
  const auto report = rig_->Recover(/*dry_run=*/false, "alias");
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_EQ(report->resources(0).xids_size(), 1);
  EXPECT_THAT(report->resources(0).xids(0).action(), HasSubstr("'a'"));
  EXPECT_EQ(rig_->Prepared(0), 1);
  ASSERT_TRUE(rig_->Finalize(branches[0].xid.gtrid, v1::DECISION_COMMIT).ok());
  EXPECT_EQ(rig_->Await(branches[0].xid.gtrid, v1::Global::STATE_COMMITTED).outcome(), v1::OUTCOME_COMMITTED);
}

TEST_F(TakeoverTest, ARolledBackBranchThatComesBackIsRolledBackAgain) {
  Start();
  std::vector<RawBranch> branches = rig_->Decided({0}, v1::DECISION_ROLLBACK);
  const std::string gtrid = branches[0].xid.gtrid;
  // As if the server had forgotten XA ROLLBACK in a crash (PostgreSQL never does): reported as rolled back, and still
  // prepared.
  ASSERT_TRUE(rig_->Complete(branches[0], v1::Completion::RESULT_ROLLED_BACK).ok());
  ASSERT_EQ(rig_->Global(gtrid).outcome(), v1::OUTCOME_ROLLED_BACK);
  rig_->database(0).Kill9();
  ASSERT_TRUE(rig_->database(0).Restart().ok());
  ASSERT_EQ(rig_->Connect(0)->Recover().ok(), true);
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return rig_->Prepared(0) == 0; }));
  EXPECT_EQ(rig_->Rows(0, gtrid), 0);
}

}  // namespace
}  // namespace assent
