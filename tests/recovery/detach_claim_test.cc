// Whether PREPARE has let go of a branch is told by its vote (Session.detached), and not every vote tells the truth: an
// own client may ask the wrong variable, or not know of the field. What the server shows counts for more.
#include <mariadb/mysql.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/recovery/recovery_rig.h"

namespace assent {
namespace {

class DetachClaimTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!WhyNotHere().empty()) GTEST_SKIP() << WhyNotHere();
  }
  void Start(v1::Witness witness, absl::Duration lease) {
    RecoveryRig::Options options;
    options.witness = witness;
    options.lease = lease;
    auto rig = RecoveryRig::Start(std::move(options));
    ASSERT_TRUE(rig.ok()) << rig.status();
    rig_ = *std::move(rig);
  }
  absl::Status Vote(const RawBranch& branch, bool detached) {
    v1::PreparedRequest request;
    request.set_gtrid(branch.xid.gtrid);
    request.set_wait(v1::WAIT_NONE);
    v1::Vote* const vote = request.add_votes();
    vote->set_bqual(branch.xid.bqual);
    vote->set_kind(v1::VOTE_KIND_PREPARED);
    vote->set_witnessed(branch.witnessed);
    *vote->mutable_session() = branch.session->Describe();
    vote->mutable_session()->set_detached(detached);
    grpc::ClientContext context;
    v1::PreparedResponse response;
    const grpc::Status status = rig_->api().coordinator()->Prepared(&context, request, &response);
    return status.ok() ? absl::OkStatus() : absl::InternalError(status.error_message());
  }

  std::unique_ptr<RecoveryRig> rig_;
};

class FalseClaimTest : public DetachClaimTest, public testing::WithParamInterface<v1::Witness> {};

// A reset makes a ghost of it: the next XA COMMIT, from anywhere, answers OK and commits nothing.
TEST_P(FalseClaimTest, IsNotTakenForProof) {
  ASSERT_NO_FATAL_FAILURE(Start(GetParam(), absl::Seconds(60)));
  std::vector<RawBranch> branches = rig_->Begin({0});
  const std::string gtrid = branches[0].xid.gtrid;
  if (RecoveryRig::IsMySql(0)) {
    ASSERT_TRUE(branches[0].session->Query("SET SESSION xa_detach_on_prepare=OFF").ok());
  }
  rig_->Prepare(&branches[0]);
  ASSERT_TRUE(Vote(branches[0], /*detached=*/true).ok());
  ASSERT_EQ(mysql_reset_connection(branches[0].handle), 0);
  ASSERT_TRUE(rig_->Finalize(gtrid, v1::DECISION_COMMIT).ok());
  for (int i = 0; i < 20; ++i) {
    const bool told = rig_->Global(gtrid).outcome() == v1::OUTCOME_COMMITTED;
    ASSERT_TRUE(!told || rig_->Rows(0, gtrid) == 1) << "told COMMITTED, and it is not there";
    absl::SleepFor(absl::Milliseconds(200));
  }
  branches[0].session->Abandon();
  if (GetParam() == v1::WITNESS_DISABLED) return;  // Then nobody can tell any more, and it says so.
  EXPECT_EQ(rig_->Await(gtrid, v1::Global::STATE_COMMITTED).outcome(), v1::OUTCOME_COMMITTED)
      << rig_->InDoubt()->DebugString();
  EXPECT_EQ(rig_->Rows(0, gtrid), 1);
}

INSTANTIATE_TEST_SUITE_P(All, FalseClaimTest, testing::Values(v1::WITNESS_ENABLED, v1::WITNESS_DISABLED),
                         [](const auto& info) { return v1::Witness_Name(info.param).substr(8); });

// The vote was lost, or does not tell: the session is free all the same, and its pool has given it other work.
TEST_F(DetachClaimTest, ASessionThatIsFreeIsNotEndedForABranchThatItHasNot) {
  if (!RecoveryRig::IsMySql(0)) GTEST_SKIP() << "MariaDB's session is never free";
  ASSERT_NO_FATAL_FAILURE(Start(v1::WITNESS_ENABLED, absl::Seconds(2)));
  for (const bool voted : {false, true}) {
    std::vector<RawBranch> branches = rig_->Begin({0});
    const std::string gtrid = branches[0].xid.gtrid;
    rig_->Prepare(&branches[0]);
    if (voted) {
      ASSERT_TRUE(Vote(branches[0], /*detached=*/false).ok());
    }
    BranchSession* const session = branches[0].session.get();
    const std::string other = absl::StrCat("other", voted);
    ASSERT_TRUE(session->Query(absl::StrCat("BEGIN; INSERT INTO app.t VALUES ('", other, "', '1')")).ok());
    ASSERT_TRUE(rig_->Finalize(gtrid, voted ? v1::DECISION_COMMIT : v1::DECISION_ROLLBACK).ok());
    const v1::Global::State end = voted ? v1::Global::STATE_COMMITTED : v1::Global::STATE_ROLLED_BACK;
    EXPECT_EQ(rig_->Await(gtrid, end).global().state(), end) << rig_->InDoubt()->DebugString();
    EXPECT_TRUE(session->Query("COMMIT").ok()) << "what the session did meanwhile was ended";
    EXPECT_EQ(rig_->Rows(0, other), 1);
    EXPECT_EQ(rig_->Rows(0, gtrid), voted ? 1 : 0);
  }
}

}  // namespace
}  // namespace assent
