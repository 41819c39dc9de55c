// What is different where PREPARE lets go of a branch (PostgreSQL): the branch is finished over any session, what was
// not prepared still is its session's, and the proof of how it ended is its transaction id.
#include <csignal>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fixtures/private_postgres.h"
#include "tests/recovery/recovery_rig.h"

namespace assent {
namespace {

using ::testing::HasSubstr;

class DetachedTest : public testing::Test {
 protected:
  void Start(RecoveryRig::Options options = {}) {
    ASSERT_TRUE(RecoveryRig::IsPostgres(0));
    auto rig = RecoveryRig::Start(std::move(options));
    ASSERT_TRUE(rig.ok()) << rig.status();
    rig_ = *std::move(rig);
  }

  // It has begun and written, and is not prepared.
  void Work(RawBranch* branch) {
    const StartResult started = branch->session->Start(
        branch->xid, absl::StrCat("INSERT INTO app.t VALUES ('", branch->xid.gtrid, "', '", branch->xid.bqual, "')"));
    ASSERT_TRUE(started.xa.ok() && started.first->ok()) << started.xa.error.message;
  }
  v1::InDoubtBranch OnlyOneInDoubt() {
    const auto page = rig_->InDoubt();
    return page.ok() && page->branches_size() == 1 ? page->branches(0) : v1::InDoubtBranch();
  }

  std::unique_ptr<RecoveryRig> rig_;
};

TEST_F(DetachedTest, TheSessionOfAnActiveBranchIsEndedAfterItsLeaseAndNoOtherIs) {
  RecoveryRig::Options options;
  options.lease = absl::Seconds(3);
  Start(std::move(options));
  const auto bystander = rig_->Connect(0);
  ASSERT_TRUE(bystander->Query("BEGIN").ok());
  ASSERT_TRUE(bystander->Query("INSERT INTO app.t VALUES ('by', 'stander')").ok());
  std::vector<RawBranch> branches = rig_->Begin({0});
  ASSERT_NO_FATAL_FAILURE(Work(&branches[0]));
  const std::string gtrid = branches[0].xid.gtrid;
  ASSERT_TRUE(rig_->Finalize(gtrid, v1::DECISION_ROLLBACK).ok());
  const absl::Time decided = absl::Now();
  const v1::GetGlobalResponse done = rig_->Await(gtrid, v1::Global::STATE_ROLLED_BACK);
  ASSERT_EQ(done.outcome(), v1::OUTCOME_ROLLED_BACK) << done.DebugString();
  EXPECT_GE(absl::Now() - decided, absl::Seconds(3)) << "disturbed within its lease";
  EXPECT_EQ(done.global().branches(0).evidence(0).outcome(), v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
  bool ended = false;
  for (const v1::Evidence& evidence : done.global().branches(0).evidence()) {
    ended = ended || testing::Value(evidence.done(), HasSubstr("pg_terminate_backend"));
  }
  EXPECT_TRUE(ended) << done.DebugString();
  EXPECT_FALSE(branches[0].session->Query("SELECT 1").ok());
  EXPECT_TRUE(bystander->Query("COMMIT").ok()) << "somebody else's session was ended";
  EXPECT_EQ(rig_->Rows(0, "by"), 1);
  EXPECT_EQ(rig_->Rows(0, gtrid), 0);
}

TEST_F(DetachedTest, WithoutLeaveToEndTheSessionOfAnActiveBranchItIsSaid) {
  RecoveryRig::Options options;
  options.lease = absl::Seconds(1);
  options.kill_after_lease = v1::KILL_AFTER_LEASE_DISABLED;
  Start(std::move(options));
  std::vector<RawBranch> branches = rig_->Begin({0});
  ASSERT_NO_FATAL_FAILURE(Work(&branches[0]));
  const std::string gtrid = branches[0].xid.gtrid;
  ASSERT_TRUE(rig_->Finalize(gtrid, v1::DECISION_ROLLBACK).ok());
  EXPECT_TRUE(RecoveryRig::AwaitTrue(
      [&] { return testing::Value(OnlyOneInDoubt().next_step(), HasSubstr("must not be killed")); }));
  EXPECT_EQ(rig_->Global(gtrid).global().state(), v1::Global::STATE_ROLLING_BACK);
  ASSERT_TRUE(branches[0].session->Rollback(branches[0].xid).ok()) << "it was ended";
  ASSERT_TRUE(rig_->Complete(branches[0], v1::Completion::RESULT_ROLLED_BACK).ok());
  EXPECT_EQ(rig_->Global(gtrid).outcome(), v1::OUTCOME_ROLLED_BACK);
}

// Somebody who has slept through the decision. It may be on record as rolled back already: then nobody looks for it any
// more but the sweep.
class LatePrepareTest : public DetachedTest, public testing::WithParamInterface<bool> {};

TEST_P(LatePrepareTest, DoesNotStayPrepared) {
  RecoveryRig::Options options;
  options.lease = absl::Seconds(60);
  Start(std::move(options));
  std::vector<RawBranch> branches = rig_->Begin({0});
  ASSERT_NO_FATAL_FAILURE(Work(&branches[0]));
  const std::string gtrid = branches[0].xid.gtrid;
  ASSERT_TRUE(rig_->Finalize(gtrid, v1::DECISION_ROLLBACK).ok());
  if (GetParam()) {
    ASSERT_TRUE(rig_->Complete(branches[0], v1::Completion::RESULT_ROLLED_BACK).ok());
    ASSERT_EQ(rig_->Global(gtrid).outcome(), v1::OUTCOME_ROLLED_BACK);
  } else {
    ASSERT_TRUE(RecoveryRig::AwaitTrue([&] { return rig_->Global(gtrid).global().branches(0).evidence_size() > 0; }));
    ASSERT_EQ(rig_->Global(gtrid).global().state(), v1::Global::STATE_ROLLING_BACK);
  }
  ASSERT_TRUE(branches[0].session->Prepare(branches[0].xid, nullptr).ok());
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return rig_->Prepared(0) == 0; }));
  EXPECT_EQ(ReasonOf(rig_->Vote(branches)), Reason::GLOBAL_ROLLED_BACK);
  EXPECT_EQ(rig_->Await(gtrid, v1::Global::STATE_ROLLED_BACK).outcome(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(rig_->Rows(0, gtrid), 0);
  rig_->Sql(0, RecoveryRig::OverwriteSql(0, branches[0].xid));  // Its locks are gone.
}

INSTANTIATE_TEST_SUITE_P(All, LatePrepareTest, testing::Bool(), [](const auto& info) {
  return info.param ? "reported_rolled_back" : "while_it_is_rolled_back";
});

// Who votes without the transaction id leaves nothing that tells what somebody else did.
TEST_F(DetachedTest, WithoutItsTransactionIdWhatSomebodyElseDidIsNeitherClaimedNorDenied) {
  Start();
  std::vector<RawBranch> branches = rig_->Begin({0});
  rig_->Prepare(&branches[0]);
  const Xid xid = branches[0].xid;
  branches[0].session = rig_->Connect(0);  // It has prepared nothing, and so knows no id.
  ASSERT_TRUE(rig_->Vote(branches).ok());
  ASSERT_TRUE(rig_->Finalize(xid.gtrid, v1::DECISION_COMMIT).ok());
  rig_->coordinator().Signal(SIGSTOP);
  rig_->Sql(0, RecoveryRig::FinishSql(0, xid, /*commit=*/true));
  rig_->coordinator().Signal(SIGCONT);
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return OnlyOneInDoubt().alarm(); }));
  EXPECT_THAT(OnlyOneInDoubt().next_step(), HasSubstr("Session.transaction_id")) << rig_->InDoubt()->DebugString();
  ASSERT_TRUE(rig_->Recover().ok());
  const v1::GetGlobalResponse seen = rig_->Global(xid.gtrid);
  EXPECT_EQ(seen.global().state(), v1::Global::STATE_COMMITTING);
  EXPECT_EQ(seen.global().branches(0).evidence().rbegin()->outcome(), v1::BRANCH_OUTCOME_UNSPECIFIED);
  v1::ResolveBranchRequest request;
  request.set_gtrid(xid.gtrid);
  request.set_bqual(xid.bqual);
  request.set_resolution(v1::RESOLUTION_COMMITTED);
  request.set_reason("the row is there");
  absl::Status resolved;
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] {
    request.set_etag(rig_->Global(xid.gtrid).etag());
    resolved = rig_->Resolve(request).status();
    return ReasonOf(resolved) != Reason::ETAG_MISMATCH;
  }));
  EXPECT_TRUE(resolved.ok()) << resolved;
  EXPECT_EQ(rig_->Global(xid.gtrid).outcome(), v1::OUTCOME_COMMITTED);
}

// With it, the server tells even after a crash.
TEST_F(DetachedTest, WhatSomebodyElseCommittedIsProvenAfterARestartOfTheServer) {
  Start();
  std::vector<RawBranch> branches = rig_->Decided({0, 1}, v1::DECISION_COMMIT);
  rig_->coordinator().Signal(SIGSTOP);
  const std::string gtrid = branches[0].xid.gtrid;
  for (const RawBranch& branch : branches) {
    rig_->Sql(branch.server, RecoveryRig::FinishSql(branch.server, branch.xid, /*commit=*/true));
    rig_->database(branch.server).Kill9();
    ASSERT_TRUE(rig_->database(branch.server).Restart().ok());
  }
  rig_->coordinator().Signal(SIGCONT);
  const v1::GetGlobalResponse done = rig_->Await(gtrid, v1::Global::STATE_COMMITTED);
  ASSERT_EQ(done.outcome(), v1::OUTCOME_COMMITTED) << done.DebugString();
  for (const v1::Branch& branch : done.global().branches()) {
    EXPECT_EQ(branch.evidence().rbegin()->witness(), v1::Evidence::SIGHTING_PRESENT) << done.DebugString();
  }
  EXPECT_EQ(rig_->Rows(0, gtrid) + rig_->Rows(1, gtrid), 2);
}

// A participant that a failover has passed by is still connected to the old primary, and may prepare there: nobody
// would ever finish that.
TEST_F(DetachedTest, AParticipantOnTheOldPrimaryIsRefusedAfterAFailover) {
  Start();
  const std::unique_ptr<BranchSession> old = rig_->Connect(0);
  v1::Session described = RecoveryRig::Describe(*old);
  described.set_timeline(1);  // As it is told after PREPARE.
  auto* const server = dynamic_cast<PrivatePostgres*>(&rig_->database(0));
  ASSERT_NE(server, nullptr);
  server->Kill9();
  std::ofstream(server->folder() + "/data/standby.signal").close();
  ASSERT_TRUE(server->Restart().ok());
  rig_->Sql(0, "SELECT pg_promote()");
  std::vector<RawBranch> branches;
  ASSERT_TRUE(RecoveryRig::AwaitTrue([&] {  // The coordinator has to have seen the new one.
    branches = rig_->Begin({0});
    return rig_->BranchOf(branches[0].xid.gtrid, branches[0].xid.bqual).timeline() == 2;
  }));
  v1::CreateGlobalRequest request;
  request.add_branches()->set_resource("a");
  *request.mutable_branches(0)->mutable_session() = described;
  EXPECT_EQ(ReasonOf(rig_->TryCreate(request).status()), Reason::WRONG_SERVER);
  request.mutable_branches(0)->mutable_session()->set_timeline(2);
  EXPECT_TRUE(rig_->TryCreate(request).ok());
  rig_->Prepare(&branches[0]);
  EXPECT_TRUE(rig_->Vote(branches).ok());
  EXPECT_TRUE(rig_->Finalize(branches[0].xid.gtrid, v1::DECISION_COMMIT).ok());
  EXPECT_EQ(rig_->Await(branches[0].xid.gtrid, v1::Global::STATE_COMMITTED).outcome(), v1::OUTCOME_COMMITTED);
}

}  // namespace
}  // namespace assent
