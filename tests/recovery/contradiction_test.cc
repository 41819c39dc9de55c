// What an operator said, and what a database shows, need not agree; and some evidence is missing from the start. Assent
// holds on to what it has seen, and never calls proven what is not.
#include <mariadb/mysql.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fixtures/process.h"
#include "tests/recovery/recovery_rig.h"

namespace assent {
namespace {

constexpr char kNoWitness[] = "PostgreSQL's branches leave no witness: see detached_test";
constexpr char kNoGhosts[] =
    "where PREPARE lets go of a branch nobody loses sight of it, and a reset has no part in it";

using ::testing::HasSubstr;

class ContradictionTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = WhyNotHere(); !why.empty()) GTEST_SKIP() << why;
  }
  void Start(RecoveryRig::Options options = {}) {
    auto rig = RecoveryRig::Start(std::move(options));
    ASSERT_TRUE(rig.ok()) << rig.status();
    rig_ = *std::move(rig);
  }

  // Resolves it as it stands, whatever its etag.
  absl::Status Resolve(const Xid& xid, v1::Resolution resolution, const std::string& reason) {
    v1::ResolveBranchRequest request;
    request.set_gtrid(xid.gtrid);
    request.set_bqual(xid.bqual);
    request.set_resolution(resolution);
    request.set_reason(reason);
    absl::Status status;
    EXPECT_TRUE(RecoveryRig::AwaitTrue([&] {
      request.set_etag(rig_->Global(xid.gtrid).etag());
      status = rig_->Resolve(request).status();
      return ReasonOf(status) != Reason::ETAG_MISMATCH;
    }));
    return status;
  }

  // Its line on the on-call page; empty if it has none.
  v1::InDoubtBranch Shown(const Xid& xid) {
    const auto page = rig_->InDoubt();
    for (int i = 0; page.ok() && i < page->branches_size(); ++i) {
      if (page->branches(i).gtrid() == xid.gtrid) return page->branches(i);
    }
    return {};
  }

  v1::BranchOutcome LastOutcome(const Xid& xid) {
    const v1::Branch branch = rig_->BranchOf(xid.gtrid, xid.bqual);
    return branch.evidence().empty() ? v1::BRANCH_OUTCOME_UNSPECIFIED : branch.evidence().rbegin()->outcome();
  }

  // A branch as a careless client prepares it: without its witness.
  void PrepareWithoutWitness(RawBranch* branch) {
    const StartResult started = branch->session->Start(
        branch->xid, absl::StrCat("INSERT INTO app.t VALUES ('", branch->xid.gtrid, "', '", branch->xid.bqual, "')"));
    ASSERT_TRUE(started.xa.ok());
    ASSERT_TRUE(branch->session->Prepare(branch->xid, nullptr).ok());
  }

  // All that Assent keeps on server 0 is gone.
  void ExpectThatItsLossIsSaid() {
    ASSERT_TRUE(rig_->Recover(/*dry_run=*/true).ok());
    const auto page = rig_->InDoubt();
    ASSERT_TRUE(page.ok());
    EXPECT_EQ(page->resources(0).state(), v1::ResourceStatus::STATE_QUARANTINED);
    EXPECT_THAT(page->resources(0).detail(), HasSubstr("has lost what Assent keeps there"));
    EXPECT_EQ(rig_->Sql(0, "SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'assent'").rows().size(), 0U)
        << "looking makes nothing";
  }

  std::unique_ptr<RecoveryRig> rig_;
};

// An operator gives a lost database up, against the decision; and then it comes back, with the branch.
class GivenUpTest : public ContradictionTest, public testing::WithParamInterface<v1::Decision> {
 protected:
  // Declared and acknowledged while the database was away; then it is back.
  RawBranch GivenUp() {
    Start();
    const bool commit = GetParam() == v1::DECISION_COMMIT;
    std::vector<RawBranch> branches = rig_->Begin({0});
    rig_->Prepare(&branches[0]);
    EXPECT_TRUE(rig_->Vote(branches).ok());
    rig_->database(0).Kill9();
    const Xid xid = branches[0].xid;
    EXPECT_TRUE(rig_->Finalize(xid.gtrid, GetParam()).ok());
    EXPECT_TRUE(
        Resolve(xid, commit ? v1::RESOLUTION_ROLLED_BACK : v1::RESOLUTION_COMMITTED, "that server burnt down").ok());
    EXPECT_EQ(rig_->Global(xid.gtrid).global().state(), v1::Global::STATE_HEURISTIC);
    EXPECT_TRUE(Resolve(xid, v1::RESOLUTION_ACKNOWLEDGED, "booked elsewhere").ok());
    EXPECT_EQ(rig_->Global(xid.gtrid).global().state(), v1::Global::STATE_HEURISTIC_CLOSED);
    EXPECT_TRUE(rig_->database(0).Restart().ok());
    // It is neither finished by itself, which could do a second time what was done by hand, nor forgotten.
    EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return Shown(xid).alarm(); })) << "nobody is told that it holds locks";
    EXPECT_THAT(Shown(xid).next_step(), HasSubstr("still has it prepared"));
    EXPECT_EQ(rig_->Prepared(0), 1);
    EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return LastOutcome(xid) == v1::BRANCH_OUTCOME_STILL_PREPARED; }));
    EXPECT_EQ(rig_->Global(xid.gtrid).global().state(), v1::Global::STATE_HEURISTIC_CLOSED);
    return std::move(branches[0]);
  }
};

TEST_P(GivenUpTest, IsFinishedAsDecidedOnceAnOperatorSaysSo) {
  const RawBranch branch = GivenUp();
  const bool commit = GetParam() == v1::DECISION_COMMIT;
  const absl::Status again = Resolve(branch.xid, v1::RESOLUTION_ACKNOWLEDGED, "I have seen it");
  EXPECT_EQ(ReasonOf(again), Reason::RESOLUTION_REFUSED) << again;
  EXPECT_THAT(std::string(again.message()), HasSubstr("still has it"))
      << rig_->Global(branch.xid.gtrid).DebugString() << rig_->InDoubt()->DebugString();
  ASSERT_TRUE(Resolve(branch.xid, commit ? v1::RESOLUTION_COMMITTED : v1::RESOLUTION_ROLLED_BACK, "it is back").ok());
  const v1::GetGlobalResponse done =
      rig_->Await(branch.xid.gtrid, commit ? v1::Global::STATE_COMMITTED : v1::Global::STATE_ROLLED_BACK);
  EXPECT_EQ(done.outcome(), commit ? v1::OUTCOME_COMMITTED : v1::OUTCOME_ROLLED_BACK) << done.DebugString();
  EXPECT_EQ(LastOutcome(branch.xid), commit ? v1::BRANCH_OUTCOME_COMMITTED : v1::BRANCH_OUTCOME_ROLLED_BACK);
  EXPECT_EQ(rig_->Rows(0, branch.xid.gtrid), commit ? 1 : 0);
  EXPECT_EQ(rig_->Prepared(0), 0);
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return Shown(branch.xid).gtrid().empty(); }));
}

TEST_P(GivenUpTest, IsQuietOnceItIsEndedByHand) {
  const RawBranch branch = GivenUp();
  rig_->Sql(0, RecoveryRig::FinishSql(0, branch.xid, /*commit=*/GetParam() != v1::DECISION_COMMIT));
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return Shown(branch.xid).gtrid().empty(); }));
  EXPECT_EQ(rig_->Global(branch.xid.gtrid).global().state(), v1::Global::STATE_HEURISTIC_CLOSED);
}

INSTANTIATE_TEST_SUITE_P(All, GivenUpTest, testing::Values(v1::DECISION_COMMIT, v1::DECISION_ROLLBACK),
                         [](const auto& info) { return v1::Decision_Name(info.param).substr(9); });

TEST_F(ContradictionTest, ABranchThatLeftNoWitnessIsCommittedAndNeverCalledRolledBack) {
  if (RecoveryRig::Detaches(0)) GTEST_SKIP() << "where PREPARE lets go of the branch, the OK of any session is proof";
  Start();
  std::vector<RawBranch> branches = rig_->Begin({0});
  ASSERT_NO_FATAL_FAILURE(PrepareWithoutWitness(&branches[0]));
  branches[0].witnessed = true;  // It says so, and it is not true.
  ASSERT_TRUE(rig_->Vote(branches).ok());
  branches[0].session->Abandon();
  const Xid& xid = branches[0].xid;
  ASSERT_TRUE(rig_->Finalize(xid.gtrid, v1::DECISION_COMMIT).ok());
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return rig_->Rows(0, xid.gtrid) == 1; })) << "it is committed";
  const v1::Branch first = rig_->BranchOf(xid.gtrid, xid.bqual);
  EXPECT_TRUE(first.witness_missing()) << first.DebugString();
  // However often it is looked at, and whoever looks: a coordinator that was not there has the record.
  rig_->coordinator().Kill9();
  ASSERT_TRUE(rig_->coordinator().Restart().ok());
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return rig_->Recover().ok(); }));
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return Shown(xid).alarm(); }));
  EXPECT_THAT(Shown(xid).next_step(), HasSubstr("assentctl resolve"));
  EXPECT_EQ(rig_->Global(xid.gtrid).global().state(), v1::Global::STATE_COMMITTING);
  EXPECT_TRUE(Resolve(xid, v1::RESOLUTION_COMMITTED, "the row is there").ok());
  EXPECT_EQ(rig_->Global(xid.gtrid).outcome(), v1::OUTCOME_COMMITTED);
}

// Who does not say that he has left a witness is not taken at a word that he has not given: here he has committed
// himself, and died before he could say so.
TEST_F(ContradictionTest, WhoDidNotSayThatHeLeftAWitnessIsNeverSaidToBeRolledBack) {
  if (RecoveryRig::IsPostgres(0)) GTEST_SKIP() << kNoWitness;
  Start();
  std::vector<RawBranch> branches = rig_->Begin({0});
  ASSERT_NO_FATAL_FAILURE(PrepareWithoutWitness(&branches[0]));
  ASSERT_TRUE(rig_->Vote(branches).ok());
  const Xid& xid = branches[0].xid;
  ASSERT_TRUE(rig_->Finalize(xid.gtrid, v1::DECISION_COMMIT).ok());
  ASSERT_TRUE(branches[0].session->Commit(xid).ok());
  branches[0].session->Abandon();
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return Shown(xid).alarm(); }));
  EXPECT_THAT(Shown(xid).next_step(), HasSubstr("nothing tells how it ended"));
  EXPECT_EQ(LastOutcome(xid), v1::BRANCH_OUTCOME_UNSPECIFIED);
  EXPECT_EQ(rig_->Global(xid.gtrid).global().state(), v1::Global::STATE_COMMITTING);
  EXPECT_TRUE(Resolve(xid, v1::RESOLUTION_COMMITTED, "the row is there").ok());
  EXPECT_EQ(rig_->Global(xid.gtrid).outcome(), v1::OUTCOME_COMMITTED);
}

// The same, with the other decision: somebody's XA ROLLBACK has made a ghost of it, which no witness shows.
TEST_F(ContradictionTest, AGhostWithoutItsWitnessIsNotCalledRolledBackWhateverTheResourceWants) {
  if (RecoveryRig::Detaches(0)) GTEST_SKIP() << kNoGhosts;
  Start();
  std::vector<RawBranch> branches = rig_->Begin({0});
  ASSERT_NO_FATAL_FAILURE(PrepareWithoutWitness(&branches[0]));
  const Xid xid = branches[0].xid;
  ASSERT_TRUE(rig_->Vote(branches).ok());
  rig_->Reset(&branches[0], /*finish=*/true);
  ASSERT_TRUE(rig_->Finalize(xid.gtrid, v1::DECISION_ROLLBACK).ok());
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return Shown(xid).alarm(); }));
  EXPECT_THAT(Shown(xid).next_step(), HasSubstr("restart the server"));
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] {
    const auto page = rig_->InDoubt();
    return page.ok() && page->resources(0).ghosts() == 1;
  })) << "the page counts them";
  EXPECT_EQ(rig_->Global(xid.gtrid).global().state(), v1::Global::STATE_ROLLING_BACK);
  ASSERT_TRUE(rig_->database(0).Restart().ok());
  EXPECT_EQ(rig_->Await(xid.gtrid, v1::Global::STATE_ROLLED_BACK).outcome(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(rig_->Prepared(0), 0);
  EXPECT_EQ(rig_->Rows(0, xid.gtrid), 0);
}

// The server compares without the format id; what has another one is not ours to touch, and not to be overlooked.
class OtherFormatTest : public ContradictionTest, public testing::WithParamInterface<v1::Decision> {};

TEST_P(OtherFormatTest, IsLeftAloneAndShown) {
  Start();
  std::vector<RawBranch> branches = rig_->Begin({0});
  const Xid xid = branches[0].xid;
  // Format id 1.
  const bool on_postgres = RecoveryRig::IsPostgres(0);
  const std::string literal = on_postgres ? absl::StrCat("'1/", xid.gtrid, "/", xid.bqual, "'")
                                          : absl::StrCat("'", xid.gtrid, "','", xid.bqual, "'");
  BranchSession* const session = branches[0].session.get();
  ASSERT_TRUE(session->Query(on_postgres ? "BEGIN" : absl::StrCat("XA START ", literal)).ok());
  ASSERT_TRUE(session->Query(absl::StrCat("INSERT INTO app.t VALUES ('", xid.gtrid, "', 'b')")).ok());
  if (!on_postgres) {
    ASSERT_TRUE(session->Query(absl::StrCat("XA END ", literal)).ok());
  }
  ASSERT_TRUE(session->Query(absl::StrCat(on_postgres ? "PREPARE TRANSACTION " : "XA PREPARE ", literal)).ok());
  ASSERT_TRUE(rig_->Vote(branches).ok());
  session->Abandon();
  ASSERT_TRUE(rig_->Finalize(xid.gtrid, GetParam()).ok());
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return Shown(xid).alarm(); }));
  EXPECT_THAT(Shown(xid).next_step(), HasSubstr("another format id"));
  EXPECT_EQ(rig_->Prepared(0), 1);
  const bool commit = GetParam() == v1::DECISION_COMMIT;
  const std::string verb = commit ? "COMMIT " : "ROLLBACK ";
  rig_->Sql(0, on_postgres ? absl::StrCat(verb, "PREPARED ", literal) : absl::StrCat("XA ", verb, literal));
  if (commit) {
    EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return LastOutcome(xid) == v1::BRANCH_OUTCOME_UNSPECIFIED; }));
    EXPECT_TRUE(
        RecoveryRig::AwaitTrue([&] { return Resolve(xid, v1::RESOLUTION_COMMITTED, "the row is there").ok(); }));
  }
  const v1::Global::State end = commit ? v1::Global::STATE_COMMITTED : v1::Global::STATE_ROLLED_BACK;
  EXPECT_EQ(rig_->Await(xid.gtrid, end).global().state(), end);
  EXPECT_EQ(rig_->Rows(0, xid.gtrid), commit ? 1 : 0);
}

INSTANTIATE_TEST_SUITE_P(All, OtherFormatTest, testing::Values(v1::DECISION_COMMIT, v1::DECISION_ROLLBACK),
                         [](const auto& info) { return v1::Decision_Name(info.param).substr(9); });

TEST_F(ContradictionTest, WhatIsDoneToAFinishedTransactionIsInItsHistory) {
  Start();
  std::vector<RawBranch> branches = rig_->Begin({0});
  const Xid xid = branches[0].xid;
  rig_->Prepare(&branches[0]);
  ASSERT_TRUE(rig_->Vote(branches).ok());
  branches[0].session->Abandon();
  ASSERT_TRUE(rig_->Finalize(xid.gtrid, v1::DECISION_COMMIT).ok());
  rig_->Await(xid.gtrid, v1::Global::STATE_COMMITTED);
  const int before = rig_->Global(xid.gtrid).global().history_size();
  // Somebody prepares its xid a second time.
  const std::unique_ptr<BranchSession> second = rig_->Connect(0);
  ASSERT_TRUE(second->Start(xid, "INSERT INTO app.t VALUES ('again', 'b')").xa.ok());
  ASSERT_TRUE(second->Prepare(xid, nullptr).ok());
  second->Abandon();
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return rig_->Global(xid.gtrid).global().history_size() > before; }));
  const v1::Global global = rig_->Global(xid.gtrid).global();
  EXPECT_THAT(global.history().rbegin()->detail(),
              HasSubstr(RecoveryRig::IsPostgres(0) ? "COMMIT PREPARED" : "XA COMMIT"));
  EXPECT_EQ(global.state(), v1::Global::STATE_COMMITTED);
}

TEST_F(ContradictionTest, WithoutAWitnessAGhostIsNotTakenForARollback) {
  if (RecoveryRig::Detaches(0)) GTEST_SKIP() << kNoGhosts;
  RecoveryRig::Options options;
  options.witness = v1::WITNESS_DISABLED;
  Start(std::move(options));
  std::vector<RawBranch> branches = rig_->Begin({0});
  rig_->Prepare(&branches[0]);
  ASSERT_TRUE(rig_->Vote(branches).ok());
  rig_->Reset(&branches[0], /*finish=*/true);
  const Xid& xid = branches[0].xid;
  ASSERT_TRUE(rig_->Finalize(xid.gtrid, v1::DECISION_ROLLBACK).ok());
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return !rig_->BranchOf(xid.gtrid, xid.bqual).evidence().empty(); }));
  ASSERT_TRUE(rig_->Recover().ok());
  EXPECT_EQ(rig_->Global(xid.gtrid).global().state(), v1::Global::STATE_ROLLING_BACK) << "its locks are still there";
  EXPECT_THAT(Shown(xid).next_step(), HasSubstr("restart the server"));
  rig_->database(0).Kill9();
  ASSERT_TRUE(rig_->database(0).Restart().ok());
  EXPECT_EQ(rig_->Await(xid.gtrid, v1::Global::STATE_ROLLED_BACK).outcome(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(rig_->Prepared(0), 0);
}

// A pool resets the connection of a prepared branch, and its own client commits there: the server says OK and commits
// nothing. The client cannot know; the witness does.
class ResetTest : public ContradictionTest, public testing::WithParamInterface<std::tuple<v1::Decision, bool>> {};

TEST_P(ResetTest, WhatIsReportedIsMadeTrue) {
  if (RecoveryRig::Detaches(0)) GTEST_SKIP() << kNoGhosts;
  const auto [decision, lives_on] = GetParam();
  const bool commit = decision == v1::DECISION_COMMIT;
  Start();
  std::vector<RawBranch> branches = rig_->Begin({0});
  rig_->Prepare(&branches[0]);
  const Xid xid = branches[0].xid;
  ASSERT_TRUE(rig_->Vote(branches).ok());
  ASSERT_EQ(mysql_reset_connection(branches[0].handle), 0);
  ASSERT_TRUE(rig_->Finalize(xid.gtrid, decision).ok());
  // As a client of its own does, that does not ask whether it is still the session.
  const std::string finish = absl::StrCat("XA ", commit ? "COMMIT " : "ROLLBACK ", XidSqlLiteral(xid));
  ASSERT_EQ(mysql_query(branches[0].handle, finish.c_str()), 0) << "the server would have told";
  ASSERT_TRUE(
      rig_->Complete(branches[0], commit ? v1::Completion::RESULT_COMMITTED : v1::Completion::RESULT_ROLLED_BACK).ok());
  ASSERT_EQ(rig_->Rows(0, xid.gtrid), 0) << "it is a ghost";
  if (!lives_on) branches[0].session->Abandon();
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return rig_->Rows(0, xid.gtrid) == (commit ? 1 : 0); }));
  // Its locks are gone.
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] {
    return rig_->Connect(0)
        ->Query(absl::StrCat("SET innodb_lock_wait_timeout = 1; REPLACE INTO app.t VALUES ('", xid.gtrid, "', 'b1')"))
        .ok();
  }));
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return Shown(xid).gtrid().empty(); }));
  rig_->database(0).Kill9();
  ASSERT_TRUE(rig_->database(0).Restart().ok());
  EXPECT_EQ(rig_->Rows(0, xid.gtrid), 1) << "as it was, or as it was replaced";
  EXPECT_EQ(rig_->Prepared(0), 0);
}

INSTANTIATE_TEST_SUITE_P(All, ResetTest,
                         testing::Combine(testing::Values(v1::DECISION_COMMIT, v1::DECISION_ROLLBACK), testing::Bool()),
                         [](const auto& info) {
                           return absl::StrCat(v1::Decision_Name(std::get<0>(info.param)).substr(9),
                                               std::get<1>(info.param) ? "_and_the_session_lives_on" : "");
                         });

TEST_F(ContradictionTest, AnOrphanThatIsAGhostIsRolledBack) {
  if (RecoveryRig::Detaches(0)) GTEST_SKIP() << kNoGhosts;
  Start();
  RawBranch branch = std::move(rig_->Begin({0})[0]);
  branch.xid.gtrid = "test-nobody-knows-it";
  rig_->Prepare(&branch);
  rig_->Reset(&branch, /*finish=*/true);
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] {
    return rig_->Connect(0)
        ->Query("SET innodb_lock_wait_timeout = 1; REPLACE INTO app.t VALUES ('test-nobody-knows-it', 'b1')")
        .ok();
  }));
  EXPECT_EQ(rig_->Witnesses(0, branch.xid.gtrid), 0);
}

// Its witness is the last of more than a thousand that are open.
TEST_F(ContradictionTest, AGhostBehindAThousandPreparedBranchesIsRepaired) {
  if (RecoveryRig::Detaches(0)) GTEST_SKIP() << kNoGhosts;
  RecoveryRig::Options options;
  options.orphan_age = absl::Hours(1);
  Start(std::move(options));
  for (int i = 0; i <= 1000; ++i) {
    RawBranch other;
    other.xid = {absl::StrCat("test--", i), "b1"};
    other.session = rig_->Connect(0);
    other.handle = other.session->BorrowHandle();
    rig_->Prepare(&other);
    other.session->Abandon();
  }
  std::vector<RawBranch> branches = rig_->Begin({0});
  rig_->Prepare(&branches[0]);
  const Xid xid = branches[0].xid;
  ASSERT_GT(xid.gtrid, "test--999");
  ASSERT_TRUE(rig_->Vote(branches).ok());
  ASSERT_TRUE(rig_->Finalize(xid.gtrid, v1::DECISION_ROLLBACK).ok());
  ASSERT_EQ(mysql_reset_connection(branches[0].handle), 0);
  const std::string finish = absl::StrCat("XA ROLLBACK ", XidSqlLiteral(xid));
  ASSERT_EQ(mysql_query(branches[0].handle, finish.c_str()), 0);
  ASSERT_TRUE(rig_->Complete(branches[0], v1::Completion::RESULT_ROLLED_BACK).ok());
  branches[0].session->Abandon();
  EXPECT_TRUE(RecoveryRig::AwaitTrue(
      [&] {
        return rig_->Connect(0)
            ->Query(
                absl::StrCat("SET innodb_lock_wait_timeout = 1; REPLACE INTO app.t VALUES ('", xid.gtrid, "', 'b1')"))
            .ok();
      },
      absl::Seconds(40)))
      << "its locks are still there";
}

TEST_F(ContradictionTest, WithoutAWitnessAnOkToARollbackIsNotBelievedWhileAGhostIsAbout) {
  if (RecoveryRig::Detaches(0)) GTEST_SKIP() << kNoGhosts;
  RecoveryRig::Options options;
  options.witness = v1::WITNESS_DISABLED;
  Start(std::move(options));
  RawBranch named = std::move(rig_->Begin({0})[0]);
  RawBranch branch = std::move(rig_->Begin({0})[0]);  // Whose session really runs it.
  const Xid xid = named.xid;
  branch.xid = xid;
  named.session->Abandon();
  rig_->Prepare(&branch);
  ASSERT_EQ(mysql_reset_connection(branch.handle), 0);
  ASSERT_TRUE(rig_->Finalize(xid.gtrid, v1::DECISION_ROLLBACK).ok());
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return !rig_->BranchOf(xid.gtrid, xid.bqual).evidence().empty(); }));
  ASSERT_TRUE(rig_->Recover().ok());
  EXPECT_EQ(rig_->Global(xid.gtrid).global().state(), v1::Global::STATE_ROLLING_BACK) << "its locks are still there";
  branch.session->Abandon();
  rig_->database(0).Kill9();
  ASSERT_TRUE(rig_->database(0).Restart().ok());
  EXPECT_EQ(rig_->Await(xid.gtrid, v1::Global::STATE_ROLLED_BACK).outcome(), v1::OUTCOME_ROLLED_BACK);
}

TEST_F(ContradictionTest, WhatAnotherServerDoesNotKnowProvesNothing) {
  Start();
  std::vector<RawBranch> branches = rig_->Begin({0});
  rig_->Prepare(&branches[0]);
  const Xid xid = branches[0].xid;
  ASSERT_TRUE(rig_->Vote(branches).ok());
  branches[0].session->Abandon();
  rig_->database(0).Kill9();
  ASSERT_TRUE(rig_->Finalize(xid.gtrid, v1::DECISION_COMMIT).ok());
  // Somebody takes the other server for it, or a third one if that speaks another language.
  std::unique_ptr<PrivateDatabase> third;
  if (EngineOfServer(1) != EngineOfServer(0)) third = *StartDatabase(EngineOfServer(0));
  const PrivateDatabase& wrong = third != nullptr ? *third : rig_->database(1);
  std::ofstream(rig_->folder() + "/b.password.copy") << wrong.password();
  ASSERT_TRUE(rig_->Register(0,
                             [&](v1::RegisterResourceRequest* r) {
                               r->mutable_resource()->set_address(wrong.unix_address());
                               r->mutable_resource()->set_password_file(rig_->folder() + "/b.password.copy");
                               r->set_accept_server(true);
                             })
                  .ok());
  EXPECT_TRUE(RecoveryRig::AwaitTrue(
      [&] { return Shown(xid).alarm() && testing::Value(Shown(xid).next_step(), HasSubstr("another server")); }));
  EXPECT_EQ(rig_->Global(xid.gtrid).global().state(), v1::Global::STATE_COMMITTING);
  // And corrects it.
  ASSERT_TRUE(rig_->database(0).Restart().ok());
  ASSERT_TRUE(rig_->Register(0, [](v1::RegisterResourceRequest* r) { r->set_accept_server(true); }).ok());
  EXPECT_EQ(rig_->Await(xid.gtrid, v1::Global::STATE_COMMITTED).outcome(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(rig_->Rows(0, xid.gtrid), 1);
}

TEST_F(ContradictionTest, ABranchOnTheWrongServerIsShown) {
  Start();
  std::vector<RawBranch> branches = rig_->Begin({0});
  RawBranch strayed = std::move(branches[0]);
  strayed.server = 1;
  strayed.session = rig_->Connect(1);
  rig_->Prepare(&strayed);
  const Xid xid = strayed.xid;
  strayed.session->Abandon();
  ASSERT_TRUE(rig_->Finalize(xid.gtrid, v1::DECISION_ROLLBACK).ok());
  EXPECT_EQ(rig_->Await(xid.gtrid, v1::Global::STATE_ROLLED_BACK).outcome(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return Shown(xid).alarm(); }));
  EXPECT_THAT(Shown(xid).next_step(), HasSubstr("prepared on resource 'b'"));
  const std::string text = Shown(xid).next_step();
  const std::string remedy = RecoveryRig::FinishSql(1, xid, /*commit=*/false);
  ASSERT_THAT(text, HasSubstr(remedy));
  rig_->Sql(1, remedy);  // As it says.
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return Shown(xid).gtrid().empty(); }));
}

// Declared as decided, "because it was done again by hand"; then the server is back, and the branch with it.
TEST_F(ContradictionTest, WhatWasDeclaredIsNotDoneASecondTime) {
  Start();
  std::vector<RawBranch> branches = rig_->Begin({0});
  rig_->Prepare(&branches[0]);
  const Xid xid = branches[0].xid;
  ASSERT_TRUE(rig_->Vote(branches).ok());
  rig_->database(0).Kill9();
  ASSERT_TRUE(rig_->Finalize(xid.gtrid, v1::DECISION_COMMIT).ok());
  ASSERT_TRUE(Resolve(xid, v1::RESOLUTION_COMMITTED, "booked again on the new server").ok());
  EXPECT_EQ(rig_->Global(xid.gtrid).global().state(), v1::Global::STATE_COMMITTED);
  ASSERT_TRUE(rig_->database(0).Restart().ok());
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return Shown(xid).alarm(); }));
  EXPECT_THAT(Shown(xid).next_step(), HasSubstr("declared committed"));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(rig_->Recover().ok());
  EXPECT_EQ(rig_->Rows(0, xid.gtrid), 0) << "it would be there twice";
  ASSERT_TRUE(Resolve(xid, v1::RESOLUTION_COMMITTED, "it was not, let it commit").ok());
  EXPECT_EQ(rig_->Await(xid.gtrid, v1::Global::STATE_COMMITTED).outcome(), v1::OUTCOME_COMMITTED);
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return rig_->Rows(0, xid.gtrid) == 1; }));
}

TEST_F(ContradictionTest, ATableThatIsMissingIsSaidBeforeAnybodyNeedsIt) {
  Start();
  if (RecoveryRig::IsPostgres(0)) {
    rig_->Sql(0, "DROP SCHEMA assent CASCADE");
    ASSERT_NO_FATAL_FAILURE(ExpectThatItsLossIsSaid());
    ASSERT_TRUE(rig_->Register(0, [](v1::RegisterResourceRequest* r) { r->set_accept_server(true); }).ok());
    EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return rig_->TryBegin({0}).ok(); }));
    return;
  }
  rig_->Sql(0, "DROP TABLE assent.witness");
  ASSERT_TRUE(rig_->Recover(/*dry_run=*/true).ok());
  auto page = rig_->InDoubt();
  ASSERT_TRUE(page.ok());
  EXPECT_EQ(page->resources(0).state(), v1::ResourceStatus::STATE_QUARANTINED) << page->DebugString();
  EXPECT_THAT(page->resources(0).detail(), HasSubstr("assent.witness is missing"));
  EXPECT_EQ(ReasonOf(rig_->TryBegin({0}).status()), Reason::RESOURCE_QUARANTINED);
  ASSERT_TRUE(rig_->Register(0).ok());
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] {
    page = rig_->InDoubt();
    return page.ok() && page->resources(0).state() == v1::ResourceStatus::STATE_OK;
  }));
  EXPECT_TRUE(rig_->TryBegin({0}).ok());
  rig_->Sql(0, "DROP DATABASE assent");
  ExpectThatItsLossIsSaid();
}

TEST_F(ContradictionTest, WhatIsGrantedHelpsAtTheNextTry) {
  if (RecoveryRig::IsMySql(0))
    GTEST_SKIP() << "what MySQL wants for a detached branch is asked for at the registration";
  RecoveryRig::Options options;
  options.lease = absl::Seconds(1);
  Start(std::move(options));
  const bool on_postgres = RecoveryRig::IsPostgres(0);
  rig_->Sql(0, on_postgres
                   ? "CREATE ROLE worker LOGIN PASSWORD 'w'; GRANT pg_read_all_stats TO worker;"
                     "GRANT USAGE ON SCHEMA assent TO worker; GRANT SELECT, INSERT, UPDATE ON assent.claim TO worker"
                   : "CREATE USER worker@localhost IDENTIFIED BY 'w'; GRANT PROCESS ON *.* TO worker@localhost;"
                     "GRANT CREATE, ALTER, SELECT, INSERT, UPDATE, DELETE ON assent.* TO worker@localhost");
  const std::string file = rig_->folder() + "/worker.password";
  std::ofstream(file) << "w";
  ASSERT_TRUE(rig_->Register(0,
                             [&](v1::RegisterResourceRequest* r) {
                               r->mutable_resource()->set_user("worker");
                               r->mutable_resource()->set_password_file(file);
                             })
                  .ok());
  std::vector<RawBranch> branches = rig_->Decided({0}, v1::DECISION_COMMIT);  // Its session lives on past its lease.
  const Xid& xid = branches[0].xid;
  // To kill the session; or to finish what another role has prepared.
  const std::string grant = on_postgres ? "GRANT \"postgres\" TO \"worker\"" : "GRANT CONNECTION ADMIN";
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] {
    const v1::Branch branch = rig_->BranchOf(xid.gtrid, xid.bqual);
    return !branch.evidence().empty() && testing::Value(branch.evidence().rbegin()->detail(), HasSubstr(grant));
  })) << rig_->Global(xid.gtrid).DebugString()
      << rig_->InDoubt()->DebugString();
  rig_->Sql(0, on_postgres ? grant : grant + " ON *.* TO worker@localhost");
  EXPECT_EQ(rig_->Await(xid.gtrid, v1::Global::STATE_COMMITTED).outcome(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(rig_->Rows(0, xid.gtrid), 1);
}

// Whatever it calls the server, and wherever it wants the witnesses: a second store of the cluster would roll back what
// the first one has decided to commit.
TEST_F(ContradictionTest, ASecondStoreIsRefusedUnderEveryNameOfTheServer) {
  Start();
  std::vector<RawBranch> branches = rig_->Begin({0});
  rig_->Prepare(&branches[0]);
  ASSERT_TRUE(rig_->Vote(branches).ok());
  branches[0].session->Abandon();
  rig_->coordinator().Kill9();
  auto second = Assentd::Start();
  ASSERT_TRUE(second.ok()) << second.status();
  CoordinatorApi api((*second)->address());
  const auto name = [](v1::RegisterResourceRequest* r) { r->mutable_resource()->set_name("other"); };
  const auto schema = [](v1::RegisterResourceRequest* r) { r->mutable_resource()->set_witness_schema("elsewhere"); };
  const auto none = [](v1::RegisterResourceRequest* r) { r->mutable_resource()->set_witness(v1::WITNESS_DISABLED); };
  std::vector<std::function<void(v1::RegisterResourceRequest*)>> changes = {name};
  if (!RecoveryRig::IsPostgres(0)) changes.insert(changes.end(), {schema, none});  // What wants a witness.
  for (const std::function<void(v1::RegisterResourceRequest*)>& change : changes) {
    const absl::Status refused = rig_->RegisterAt(&api, 0, [&](v1::RegisterResourceRequest* r) {
      name(r);
      change(r);
    });
    EXPECT_EQ(ReasonOf(refused), Reason::RESOURCE_CLAIMED) << refused;
  }
  EXPECT_EQ(rig_->Sql(0, "SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'elsewhere'").rows().size(), 0U)
      << "who is refused leaves nothing";
  ASSERT_TRUE(rig_->coordinator().Restart().ok());
  ASSERT_TRUE(rig_->Finalize(branches[0].xid.gtrid, v1::DECISION_COMMIT).ok());
  EXPECT_EQ(rig_->Await(branches[0].xid.gtrid, v1::Global::STATE_COMMITTED).outcome(), v1::OUTCOME_COMMITTED);
}

// Two coordinators on copies of one store, or one on an old copy: what the other one decided is not known here.
TEST_F(ContradictionTest, CopiesOfAStoreDoNothingUntilAnOperatorSaysWhichIsRight) {
  RecoveryRig::Options options;
  options.orphan_age = absl::Seconds(10);
  Start(std::move(options));
  rig_->coordinator().Kill9();
  const std::string copy = rig_->folder() + "/copy.db";
  for (const char* part : {"", "-wal"}) {
    (void)assent::Run({*FindProgram("cp"), rig_->coordinator().store() + part, copy + part}, {});
  }
  ASSERT_TRUE(rig_->coordinator().Restart().ok());
  ASSERT_TRUE(RecoveryRig::AwaitTrue([&] { return rig_->InDoubt().ok(); }));
  std::vector<RawBranch> branches = rig_->Begin({0});
  rig_->Prepare(&branches[0]);
  const Xid xid = branches[0].xid;
  ASSERT_TRUE(rig_->Vote(branches).ok());
  branches[0].session->Abandon();
  Assentd::Options second;
  second.store = copy;
  auto other = Assentd::Start(second);
  ASSERT_TRUE(other.ok()) << other.status();
  const auto state = [&] {
    const auto page = rig_->InDoubt();
    return page.ok() && page->resources_size() > 0 ? page->resources(0) : v1::ResourceStatus();
  };
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return state().state() == v1::ResourceStatus::STATE_QUARANTINED; }));
  EXPECT_THAT(state().detail(), HasSubstr("another copy of this coordinator's store"));
  absl::SleepFor(absl::Seconds(12));
  EXPECT_EQ(rig_->Prepared(0), 1) << "the copy rolled it back";
  // The first one is the right one.
  (*other)->Kill9();
  ASSERT_TRUE(rig_->Register(0, [](v1::RegisterResourceRequest* r) { r->set_take_over(true); }).ok());
  ASSERT_TRUE(rig_->Finalize(xid.gtrid, v1::DECISION_COMMIT).ok());
  EXPECT_EQ(rig_->Await(xid.gtrid, v1::Global::STATE_COMMITTED).outcome(), v1::OUTCOME_COMMITTED);
  // The copy alone: it is too old, and does not touch what it does not know.
  std::vector<RawBranch> late = rig_->Begin({0});
  rig_->Prepare(&late[0]);
  ASSERT_TRUE(rig_->Vote(late).ok());
  late[0].session->Abandon();
  rig_->coordinator().Kill9();
  ASSERT_TRUE((*other)->Restart().ok());
  absl::SleepFor(absl::Seconds(12));
  EXPECT_EQ(rig_->Prepared(0), 1) << "an old store knew nothing of it, and rolled it back";
}

TEST_F(ContradictionTest, WhoTakesOverIsNoticedByTheOneThatWasThere) {
  Start();
  auto second = Assentd::Start();
  ASSERT_TRUE(second.ok()) << second.status();
  CoordinatorApi api((*second)->address());
  ASSERT_TRUE(rig_->RegisterAt(&api, 0,
                               [](v1::RegisterResourceRequest* r) {
                                 r->mutable_resource()->set_name("mine");
                                 r->set_take_over(true);
                               })
                  .ok());
  ASSERT_TRUE(rig_->Recover(/*dry_run=*/true).ok());
  const auto page = rig_->InDoubt();
  ASSERT_TRUE(page.ok());
  EXPECT_EQ(page->resources(0).state(), v1::ResourceStatus::STATE_QUARANTINED) << page->DebugString();
  EXPECT_EQ(ReasonOf(rig_->TryBegin({0}).status()), Reason::RESOURCE_QUARANTINED);
}

}  // namespace
}  // namespace assent
