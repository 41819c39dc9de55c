// Whoever else has a hand in it: DBAs, pools, backups, second coordinators, wrong passwords. Assent never reports what
// is not proven, and says what it found.
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/grpc_status.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/fixtures/process.h"
#include "tests/recovery/recovery_rig.h"

namespace assent {
namespace {

using ::testing::HasSubstr;

class AdversaryTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = WhyNotHere(); !why.empty()) GTEST_SKIP() << why;
  }
  void Start(RecoveryRig::Options options = {}) {
    auto rig = RecoveryRig::Start(std::move(options));
    ASSERT_TRUE(rig.ok()) << rig.status();
    rig_ = *std::move(rig);
  }

  // Nothing that is decided is finished by recovery for now, while its session lives.
  void StartUnhurried() {
    RecoveryRig::Options options;
    options.lease = absl::Seconds(60);
    // The lease is no reason to wait where the session does not hold the branch.
    if (RecoveryRig::Detaches(0)) options.coordinator.extra = {"--recovery-patience=60s"};
    Start(std::move(options));
  }

  // A decided transaction on server 0 whose session is gone, while the coordinator is stopped so that it cannot act.
  RawBranch LeftAlone(v1::Decision decision) {
    std::vector<RawBranch> branches = rig_->Decided({0}, decision);
    rig_->coordinator().Signal(SIGSTOP);
    branches[0].session->Abandon();
    return std::move(branches[0]);
  }

  // A DBA finishes it, which may have to wait until the server has let go of the session.
  void ByHand(const RawBranch& branch, bool commit) {
    const std::string sql = RecoveryRig::FinishSql(0, branch.xid, commit);
    EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return rig_->Connect(0)->Query(sql).ok(); })) << sql;
  }

  static std::string SocketOf(const PrivateDatabase& database) { return database.unix_address().substr(5); }

  v1::ResourceStatus StatusOfA() {
    const auto page = rig_->InDoubt();  // Not OK while the coordinator is away.
    return page.ok() && page->resources_size() > 0 ? page->resources(0) : v1::ResourceStatus();
  }
  bool AwaitStateOfA(v1::ResourceStatus::State state) {
    return RecoveryRig::AwaitTrue([&] { return StatusOfA().state() == state; });
  }

  std::unique_ptr<RecoveryRig> rig_;
};

// --- A DBA's hand ---------------------------------------------------------------------------------------------------

struct ByHandCase {
  v1::Decision decision;
  const char* verb;
  v1::Branch::State branch;
  v1::Global::State global;
};

class ByHandTest : public AdversaryTest, public testing::WithParamInterface<ByHandCase> {};

TEST_P(ByHandTest, IsSeenForWhatItIs) {
  const ByHandCase& it = GetParam();
  Start();
  const RawBranch branch = LeftAlone(it.decision);
  const bool commit = std::string(it.verb) == "COMMIT";
  ByHand(branch, commit);
  rig_->coordinator().Signal(SIGCONT);
  const v1::GetGlobalResponse found = rig_->Await(branch.xid.gtrid, it.global);
  EXPECT_EQ(found.global().state(), it.global) << found.DebugString();
  EXPECT_EQ(found.global().branches(0).state(), it.branch);
  EXPECT_EQ(rig_->Rows(0, branch.xid.gtrid), commit ? 1 : 0);
  if (it.global != v1::Global::STATE_HEURISTIC) return;
  EXPECT_EQ(found.outcome(), v1::OUTCOME_IN_DOUBT);
  const auto page = rig_->InDoubt();
  ASSERT_TRUE(page.ok());
  ASSERT_EQ(page->branches_size(), 1);
  EXPECT_TRUE(page->branches(0).alarm());
  EXPECT_FALSE(page->branches(0).has_next_attempt_time()) << "never retried into silence";
}

INSTANTIATE_TEST_SUITE_P(
    All, ByHandTest,
    testing::Values(ByHandCase{v1::DECISION_COMMIT, "COMMIT", v1::Branch::STATE_COMMITTED, v1::Global::STATE_COMMITTED},
                    ByHandCase{v1::DECISION_COMMIT, "ROLLBACK", v1::Branch::STATE_HEURISTIC_ROLLED_BACK,
                               v1::Global::STATE_HEURISTIC},
                    ByHandCase{v1::DECISION_ROLLBACK, "ROLLBACK", v1::Branch::STATE_ROLLED_BACK,
                               v1::Global::STATE_ROLLED_BACK},
                    ByHandCase{v1::DECISION_ROLLBACK, "COMMIT", v1::Branch::STATE_HEURISTIC_COMMITTED,
                               v1::Global::STATE_HEURISTIC}),
    [](const auto& info) {
      return absl::StrCat(v1::Decision_Name(info.param.decision).substr(9), "_met_by_", info.param.verb);
    });

TEST_F(AdversaryTest, AnOperatorClosesAHeuristicWithReasonAndEtag) {
  Start();
  const RawBranch branch = LeftAlone(v1::DECISION_COMMIT);
  ByHand(branch, /*commit=*/false);
  rig_->coordinator().Signal(SIGCONT);
  const v1::GetGlobalResponse found = rig_->Await(branch.xid.gtrid, v1::Global::STATE_HEURISTIC);
  v1::ResolveBranchRequest request;
  request.set_gtrid(branch.xid.gtrid);
  request.set_bqual(branch.xid.bqual);
  request.set_resolution(v1::RESOLUTION_ACKNOWLEDGED);
  request.set_reason("booked by hand, ticket 17");
  request.set_etag("0");
  EXPECT_EQ(ReasonOf(rig_->Resolve(request).status()), Reason::ETAG_MISMATCH);
  request.set_etag(found.etag());
  request.set_validate_only(true);
  const auto looked = rig_->Resolve(request);
  ASSERT_TRUE(looked.ok()) << looked.status();
  EXPECT_EQ(looked->global().state(), v1::Global::STATE_HEURISTIC_CLOSED);
  EXPECT_EQ(looked->evidence().prepared_before(), v1::Evidence::SIGHTING_ABSENT) << "it looked at the database";
  EXPECT_EQ(rig_->Global(branch.xid.gtrid).global().state(), v1::Global::STATE_HEURISTIC) << "only validated";
  request.set_validate_only(false);
  ASSERT_TRUE(rig_->Resolve(request).ok());
  EXPECT_TRUE(rig_->Resolve(request).ok()) << "idempotent";
  const v1::Global closed = rig_->Global(branch.xid.gtrid).global();
  EXPECT_EQ(closed.state(), v1::Global::STATE_HEURISTIC_CLOSED);
  const v1::HistoryEntry& last = *closed.history().rbegin();
  EXPECT_EQ(last.event(), v1::HistoryEntry::EVENT_RESOLVED);
  EXPECT_THAT(last.detail(), HasSubstr("ticket 17"));
  EXPECT_THAT(last.actor(), HasSubstr("127.0.0.1"));
  EXPECT_EQ(rig_->InDoubt()->branches_size(), 0) << "no more alarms";
}

TEST_F(AdversaryTest, AnOperatorCannotDeclareWhatTheDatabaseContradicts) {
  StartUnhurried();
  std::vector<RawBranch> branches = rig_->Decided({0}, v1::DECISION_COMMIT);  // Its session lives.
  v1::ResolveBranchRequest request;
  request.set_gtrid(branches[0].xid.gtrid);
  request.set_bqual(branches[0].xid.bqual);
  request.set_resolution(v1::RESOLUTION_COMMITTED);
  request.set_reason("I am sure");
  request.set_validate_only(true);
  absl::Status refused;
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] {
    request.set_etag(rig_->Global(branches[0].xid.gtrid).etag());
    refused = rig_->Resolve(request).status();
    return ReasonOf(refused) != Reason::ETAG_MISMATCH;
  }));
  EXPECT_EQ(ReasonOf(refused), Reason::RESOLUTION_REFUSED) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("still has it"));
  ASSERT_TRUE(branches[0].session->Commit(branches[0].xid).ok());
}

// --- Sessions killed at each state ----------------------------------------------------------------------------------

TEST_F(AdversaryTest, SessionsKilledAtEachStateEndAsTheyMust) {
  Start();
  const auto kill = [&](RawBranch* branch) {
    rig_->Sql(0, KillSql(*branch->session, EngineOfServer(0)));
    branch->session->Abandon();
  };
  // Active.
  std::vector<RawBranch> active = rig_->Begin({0}, absl::Seconds(3));
  ASSERT_TRUE(active[0].session->Start(active[0].xid, "INSERT INTO app.t VALUES ('x', 'x')").xa.ok());
  kill(&active[0]);
  // Prepared, not voted.
  std::vector<RawBranch> prepared = rig_->Begin({0}, absl::Seconds(3));
  rig_->Prepare(&prepared[0]);
  kill(&prepared[0]);
  // Voted, not decided.
  std::vector<RawBranch> voted = rig_->Begin({0}, absl::Seconds(3));
  rig_->Prepare(&voted[0]);
  ASSERT_TRUE(rig_->Vote(voted).ok());
  kill(&voted[0]);
  // Decided.
  std::vector<RawBranch> committed = rig_->Decided({0}, v1::DECISION_COMMIT);
  kill(&committed[0]);
  std::vector<RawBranch> rolled_back = rig_->Decided({0}, v1::DECISION_ROLLBACK);
  kill(&rolled_back[0]);

  for (const auto* branches : {&active, &prepared, &voted, &rolled_back}) {
    const std::string& gtrid = (*branches)[0].xid.gtrid;
    EXPECT_EQ(rig_->Await(gtrid, v1::Global::STATE_ROLLED_BACK).outcome(), v1::OUTCOME_ROLLED_BACK);
    EXPECT_EQ(rig_->Rows(0, gtrid), 0);
  }
  EXPECT_EQ(rig_->Await(committed[0].xid.gtrid, v1::Global::STATE_COMMITTED).outcome(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(rig_->Rows(0, committed[0].xid.gtrid), 1);
  EXPECT_EQ(rig_->Prepared(0), 0);
}

TEST_F(AdversaryTest, AParticipantThatSleepsBetweenPrepareAndVoteIsToldToRollBack) {
  Start();
  std::vector<RawBranch> branches = rig_->Begin({0}, absl::Seconds(1));
  rig_->Prepare(&branches[0]);
  const v1::GetGlobalResponse done = rig_->Await(branches[0].xid.gtrid, v1::Global::STATE_ROLLED_BACK);
  EXPECT_EQ(done.outcome(), v1::OUTCOME_ROLLED_BACK) << done.DebugString();
  EXPECT_EQ(ReasonOf(rig_->Vote(branches)), Reason::GLOBAL_ROLLED_BACK) << "it wakes up and votes";
  EXPECT_EQ(rig_->Prepared(0), 0);
}

// --- Pools ----------------------------------------------------------------------------------------------------------

// With the binary log, and with a ghost: the branch was also committed by hand meanwhile.
class PoolTest : public AdversaryTest, public testing::WithParamInterface<std::tuple<bool, bool>> {};

TEST_P(PoolTest, AResetOfAPreparedSessionIsHealed) {
  const auto [binlog, ghost] = GetParam();
  if (RecoveryRig::Detaches(0) && (binlog || ghost)) {
    GTEST_SKIP() << "what is committed by hand is committed: see ByHandTest";
  }
  RecoveryRig::Options options;
  if (binlog) options.database_options.mariadb = {"--log-bin"};
  Start(std::move(options));
  for (const v1::Decision decision : {v1::DECISION_COMMIT, v1::DECISION_ROLLBACK}) {
    std::vector<RawBranch> branches = rig_->Begin({0});
    rig_->Prepare(&branches[0]);
    const std::string gtrid = branches[0].xid.gtrid;
    ASSERT_TRUE(rig_->Vote(branches).ok());
    rig_->Reset(&branches[0], /*finish=*/ghost);
    EXPECT_EQ(rig_->Prepared(0), ghost ? 0 : 1) << "what was committed by hand is lost sight of, and not committed";
    EXPECT_EQ(rig_->Rows(0, gtrid), 0);
    ASSERT_TRUE(rig_->Finalize(gtrid, decision).ok());
    const bool commit = decision == v1::DECISION_COMMIT;
    const v1::GetGlobalResponse done =
        rig_->Await(gtrid, commit ? v1::Global::STATE_COMMITTED : v1::Global::STATE_ROLLED_BACK);
    EXPECT_EQ(done.outcome(), commit ? v1::OUTCOME_COMMITTED : v1::OUTCOME_ROLLED_BACK) << done.DebugString();
    EXPECT_EQ(rig_->Rows(0, gtrid), commit ? 1 : 0);
    rig_->Sql(0, RecoveryRig::OverwriteSql(0, branches[0].xid));  // Its locks are gone.
  }
  rig_->database(0).Kill9();
  ASSERT_TRUE(rig_->database(0).Restart().ok());
  EXPECT_EQ(rig_->Prepared(0), 0) << "nothing comes back";
}

INSTANTIATE_TEST_SUITE_P(All, PoolTest, testing::Combine(testing::Bool(), testing::Bool()), [](const auto& info) {
  return absl::StrCat(std::get<0>(info.param) ? "with_binlog" : "without_binlog",
                      std::get<1>(info.param) ? "_and_a_ghost" : "");
});

// --- The witness ----------------------------------------------------------------------------------------------------

TEST_F(AdversaryTest, WithoutItsWitnessTableACommitIsNeitherClaimedNorDenied) {
  if (RecoveryRig::IsPostgres(0)) GTEST_SKIP() << "there is no such table: see detached_test, a vote without an id";
  Start();
  const RawBranch branch = LeftAlone(v1::DECISION_COMMIT);
  ByHand(branch, /*commit=*/true);
  rig_->Sql(0, "DROP TABLE assent.witness");
  rig_->coordinator().Signal(SIGCONT);
  v1::Branch seen;
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] {
    seen = rig_->BranchOf(branch.xid.gtrid, branch.xid.bqual);
    return seen.evidence_size() > 0;
  }));
  absl::SleepFor(absl::Seconds(2));
  const v1::GetGlobalResponse global = rig_->Global(branch.xid.gtrid);
  EXPECT_EQ(global.global().state(), v1::Global::STATE_COMMITTING) << global.DebugString();
  EXPECT_EQ(seen.evidence().rbegin()->outcome(), v1::BRANCH_OUTCOME_UNSPECIFIED);
  // Made anew, the table proves no more than before: what it says begins with its birth.
  ASSERT_TRUE(rig_->Register(0).ok());
  absl::SleepFor(absl::Seconds(2));
  EXPECT_EQ(rig_->Global(branch.xid.gtrid).global().state(), v1::Global::STATE_COMMITTING);
  // An operator who has looked at the rows says so.
  v1::ResolveBranchRequest request;
  request.set_gtrid(branch.xid.gtrid);
  request.set_bqual(branch.xid.bqual);
  request.set_resolution(v1::RESOLUTION_COMMITTED);
  request.set_reason("the row is there");
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] {
    request.set_etag(rig_->Global(branch.xid.gtrid).etag());
    return rig_->Resolve(request).ok();
  }));
  EXPECT_EQ(rig_->Global(branch.xid.gtrid).outcome(), v1::OUTCOME_COMMITTED);
}

TEST_F(AdversaryTest, ALostWitnessRowIsAnAlarmAndNeverSuccess) {
  if (RecoveryRig::IsPostgres(0)) GTEST_SKIP() << "there are no such rows";
  Start();
  const RawBranch branch = LeftAlone(v1::DECISION_COMMIT);
  ByHand(branch, /*commit=*/true);
  rig_->Sql(0, absl::StrCat("DELETE FROM assent.witness WHERE gtrid = '", branch.xid.gtrid, "'"));
  rig_->coordinator().Signal(SIGCONT);
  EXPECT_EQ(rig_->Await(branch.xid.gtrid, v1::Global::STATE_HEURISTIC).outcome(), v1::OUTCOME_IN_DOUBT);
}

TEST_F(AdversaryTest, ADdlStatementThatWaitsForABranchNeitherQuarantinesNorHoldsItUp) {
  if (RecoveryRig::IsPostgres(0)) GTEST_SKIP() << "branches write nothing into Assent's tables";
  Start();
  std::vector<RawBranch> branches = rig_->Begin({0});
  rig_->Prepare(&branches[0]);
  const std::string gtrid = branches[0].xid.gtrid;
  // Without its session it has no metadata lock on MariaDB, and the statement gets so far that nobody else can open the
  // table. MySQL's branch keeps it, and who comes after the statement waits for that.
  const absl::string_view state = RecoveryRig::IsMySql(0) ? "%metadata lock%" : "preparing%";
  ASSERT_TRUE(rig_->Vote(branches).ok());
  branches[0].session->Abandon();
  auto dba = rig_->Connect(0);
  dba->SendQuery("SET lock_wait_timeout = 120, innodb_lock_wait_timeout = 120; OPTIMIZE TABLE assent.witness");
  ASSERT_TRUE(RecoveryRig::AwaitTrue([&] {
    return !rig_->Sql(0,
                      absl::StrCat("SELECT 1 FROM information_schema.PROCESSLIST WHERE INFO LIKE 'OPTIMIZE%' AND STATE "
                                   "LIKE '",
                                   state, "'"))
                .rows()
                .empty();
  }));
  const absl::Time end = absl::Now() + absl::Seconds(25);
  while (absl::Now() < end) {
    const v1::ResourceStatus status = StatusOfA();
    ASSERT_NE(status.state(), v1::ResourceStatus::STATE_QUARANTINED) << status.DebugString();
    ASSERT_NE(status.state(), v1::ResourceStatus::STATE_UNREACHABLE) << status.DebugString();
    absl::SleepFor(absl::Milliseconds(200));
  }
  EXPECT_TRUE(rig_->TryBegin({0}).ok());
  // The statement waits for the branch, so the branch must not wait for the statement.
  ASSERT_TRUE(rig_->Finalize(gtrid, v1::DECISION_COMMIT).ok());
  const v1::GetGlobalResponse done = rig_->Await(gtrid, v1::Global::STATE_COMMITTED, absl::Seconds(100));
  EXPECT_EQ(done.outcome(), v1::OUTCOME_COMMITTED) << done.DebugString();
  EXPECT_TRUE(dba->ReceiveQuery().ok());
  EXPECT_EQ(rig_->Rows(0, gtrid), 1);
}

// --- The server's settings ------------------------------------------------------------------------------------------

TEST_F(AdversaryTest, WhatTheServerHasForGlobalsIsNotWhatRecoveryRestsOn) {
  RecoveryRig::Options options;
  options.database_options.mariadb = {"--autocommit=0", "--completion-type=CHAIN",
                                      "--transaction-isolation=READ-UNCOMMITTED"};
  options.database_options.postgres = {"default_transaction_isolation=serializable",
                                       "standard_conforming_strings=off",
                                       "DateStyle=German",
                                       "IntervalStyle=sql_standard",
                                       "row_security=off",
                                       "synchronous_commit=off",
                                       "extra_float_digits=-15",
                                       "search_path=app"};
  Start(std::move(options));
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(AwaitStateOfA(v1::ResourceStatus::STATE_OK)) << StatusOfA().DebugString();
    std::vector<RawBranch> branches = rig_->Decided({0}, v1::DECISION_COMMIT);
    branches[0].session->Abandon();
    const std::string gtrid = branches[0].xid.gtrid;
    EXPECT_EQ(rig_->Await(gtrid, v1::Global::STATE_COMMITTED).outcome(), v1::OUTCOME_COMMITTED);
    EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return rig_->Witnesses(0, gtrid) == 0; }));
    rig_->coordinator().Kill9();
    ASSERT_TRUE(rig_->coordinator().Restart().ok());
  }
  ASSERT_TRUE(AwaitStateOfA(v1::ResourceStatus::STATE_OK)) << StatusOfA().DebugString();
}

TEST_F(AdversaryTest, AReadOnlyServerIsWellAndWaitedForWithPauses) {
  if (RecoveryRig::IsPostgres(0)) GTEST_SKIP() << "PostgreSQL has no switch that makes a running server read-only";
  Start();
  rig_->Sql(
      0, absl::StrCat("CREATE USER ordinary@localhost IDENTIFIED BY 'p'; GRANT ALL ON assent.* TO ordinary@localhost; "
                      "GRANT PROCESS, ",
                      RecoveryRig::IsMySql(0) ? "XA_RECOVER_ADMIN, CONNECTION_ADMIN" : "CONNECTION ADMIN",
                      " ON *.* TO ordinary@localhost"));
  std::ofstream(rig_->folder() + "/ordinary.password") << "p";
  ASSERT_TRUE(rig_->Register(0,
                             [&](v1::RegisterResourceRequest* r) {
                               r->mutable_resource()->set_user("ordinary");
                               r->mutable_resource()->set_password_file(rig_->folder() + "/ordinary.password");
                             })
                  .ok());
  std::vector<RawBranch> branches = rig_->Decided({0}, v1::DECISION_COMMIT);
  const std::string gtrid = branches[0].xid.gtrid;
  ASSERT_TRUE(AwaitStateOfA(v1::ResourceStatus::STATE_OK));
  rig_->Sql(0, "SET GLOBAL read_only = 1");
  branches[0].session->Abandon();
  rig_->coordinator().Kill9();  // The first thing that it wants of a new connection is to count the epoch up.
  ASSERT_TRUE(rig_->coordinator().Restart().ok());
  ASSERT_TRUE(AwaitStateOfA(v1::ResourceStatus::STATE_OK));
  const auto connections = [&] {
    return std::stoi(*rig_->Sql(0, "SHOW GLOBAL STATUS LIKE 'Connections'").rows()[0][1]);
  };
  const int before = connections();
  for (int i = 0; i < 100; ++i) {
    const v1::ResourceStatus status = StatusOfA();
    ASSERT_EQ(status.state(), v1::ResourceStatus::STATE_OK) << status.DebugString();
    absl::SleepFor(absl::Milliseconds(100));
  }
  EXPECT_LT(connections() - before, 20);
  if (!RecoveryRig::IsMySql(0)) {  // Which lets XA COMMIT pass.
    EXPECT_EQ(rig_->Global(gtrid).global().state(), v1::Global::STATE_COMMITTING);
  }
  rig_->Sql(0, "SET GLOBAL read_only = 0");
  EXPECT_EQ(rig_->Await(gtrid, v1::Global::STATE_COMMITTED).outcome(), v1::OUTCOME_COMMITTED);
  EXPECT_TRUE(AwaitStateOfA(v1::ResourceStatus::STATE_OK));
}

TEST_F(AdversaryTest, ARegistrationAsksOnceForAllThatItLacks) {
  Start();
  rig_->Sql(0, RecoveryRig::IsPostgres(0) ? "DROP SCHEMA assent CASCADE; CREATE ROLE poor LOGIN PASSWORD 'p'"
                                          : "DROP DATABASE assent; CREATE USER poor@localhost IDENTIFIED BY 'p'");
  std::ofstream(rig_->folder() + "/poor.password") << "p";
  const auto as_poor = [&](v1::RegisterResourceRequest* r) {
    r->mutable_resource()->set_name("c");
    r->mutable_resource()->set_user("poor");
    r->mutable_resource()->set_password_file(rig_->folder() + "/poor.password");
    if (!RecoveryRig::IsPostgres(0)) r->mutable_resource()->set_witness_schema("elsewhere");
  };
  // One for each scope. PostgreSQL's further ones are for a schema that somebody else has made; MySQL's are for its two
  // tables of locks.
  const int needed = RecoveryRig::IsPostgres(0) ? 1 : RecoveryRig::IsMySql(0) ? 5 : 3;
  const absl::Status refused = rig_->Register(0, as_poor);
  ASSERT_EQ(ReasonOf(refused), Reason::RESOURCE_UNFIT) << refused;
  std::string text(refused.message());
  int grants = 0;
  for (size_t at = text.find("GRANT "); at != std::string::npos; at = text.find("GRANT ", at + 1), ++grants) {
    if (RecoveryRig::IsPostgres(0) && grants == needed) break;
    rig_->Sql(0, text.substr(at, text.find(';', at) - at));
  }
  EXPECT_EQ(grants, needed) << text;
  const absl::Status registered = rig_->Register(0, as_poor);
  EXPECT_TRUE(registered.ok()) << registered;
}

// --- Other servers, other data, other coordinators ------------------------------------------------------------------

TEST_F(AdversaryTest, AServerRestoredFromABackupIsQuarantined) {
  Start();
  const auto epoch = [this] {
    const QueryResult claim = rig_->Connect(0)->Query("SELECT epoch FROM assent.claim");
    return claim.rows().empty() ? std::string() : claim.rows()[0][0].value_or("");
  };
  // A finished transaction counts the epoch up; the backup is from before it.
  const std::string epoch_of_backup = epoch();
  ASSERT_TRUE(rig_->database(0).Stop().ok());
  const std::string socket = SocketOf(rig_->database(0));
  const std::string data = socket.substr(0, socket.rfind('/')) + "/data";
  const std::string backup = data + ".backup";
  ASSERT_EQ(*assent::Run({*FindProgram("cp"), "-a", data, backup}, {}), 0);
  ASSERT_TRUE(rig_->database(0).Restart().ok());
  ASSERT_TRUE(AwaitStateOfA(v1::ResourceStatus::STATE_OK));
  const RawBranch branch = LeftAlone(v1::DECISION_COMMIT);
  rig_->coordinator().Signal(SIGCONT);
  ASSERT_EQ(rig_->Await(branch.xid.gtrid, v1::Global::STATE_COMMITTED).outcome(), v1::OUTCOME_COMMITTED);
  ASSERT_TRUE(RecoveryRig::AwaitTrue([&] { return rig_->Witnesses(0, branch.xid.gtrid) == 0; }));
  ASSERT_TRUE(RecoveryRig::AwaitTrue([&] { return epoch() != epoch_of_backup; }));
  ASSERT_TRUE(rig_->database(0).Stop().ok());
  ASSERT_EQ(*assent::Run({*FindProgram("rm"), "-rf", data}, {}), 0);
  ASSERT_EQ(*assent::Run({*FindProgram("mv"), backup, data}, {}), 0);
  ASSERT_TRUE(rig_->database(0).Restart().ok());
  EXPECT_TRUE(AwaitStateOfA(v1::ResourceStatus::STATE_QUARANTINED)) << StatusOfA().DebugString();
  EXPECT_THAT(StatusOfA().detail(), HasSubstr("older copy of its data"));
  EXPECT_EQ(ReasonOf(rig_->TryBegin({0}).status()), Reason::RESOURCE_QUARANTINED) << "no new branches there";
  EXPECT_TRUE(rig_->TryBegin({1}).ok()) << "and nobody else suffers";
  EXPECT_EQ(ReasonOf(rig_->Register(0)), Reason::RESOURCE_QUARANTINED);
  ASSERT_TRUE(rig_->Register(0, [](v1::RegisterResourceRequest* r) { r->set_accept_server(true); }).ok());
  EXPECT_TRUE(AwaitStateOfA(v1::ResourceStatus::STATE_OK));
  EXPECT_TRUE(rig_->TryBegin({0}).ok());
}

TEST_F(AdversaryTest, AnotherServerAtTheAddressIsQuarantined) {
  Start();
  const auto link = TempDir::Create();
  const std::string socket = SocketOf(rig_->database(0));
  const std::string path = link->path() + socket.substr(socket.rfind('/'));
  ASSERT_EQ(symlink(socket.c_str(), path.c_str()), 0);
  const auto through_link = [&](v1::RegisterResourceRequest* r) {
    r->mutable_resource()->set_address("unix:" + path);
    r->mutable_resource()->set_password_file(path + ".password");
  };
  std::ofstream(path + ".password") << rig_->database(0).password();
  ASSERT_TRUE(rig_->Register(0, through_link).ok());
  ASSERT_TRUE(AwaitStateOfA(v1::ResourceStatus::STATE_OK));
  ASSERT_EQ(unlink(path.c_str()), 0);
  // One that speaks the same language; who does not is not understood, and so unreachable.
  const auto another = StartDatabase(EngineOfServer(0));
  ASSERT_TRUE(another.ok()) << another.status();
  ASSERT_EQ(symlink(SocketOf(**another).c_str(), path.c_str()), 0);
  std::ofstream(path + ".password") << (*another)->password();
  rig_->database(0).Kill9();
  EXPECT_TRUE(AwaitStateOfA(v1::ResourceStatus::STATE_QUARANTINED)) << StatusOfA().DebugString();
  EXPECT_THAT(StatusOfA().detail(), HasSubstr("another server answers"));
}

TEST_F(AdversaryTest, ASecondCoordinatorOfTheSameNameIsRefused) {
  Start();
  auto second = Assentd::Start();  // The same cluster, a store of its own.
  ASSERT_TRUE(second.ok()) << second.status();
  CoordinatorApi api((*second)->address());
  const absl::Status refused = rig_->RegisterAt(&api, 0, [](v1::RegisterResourceRequest* r) { r->set_replace(false); });
  EXPECT_EQ(ReasonOf(refused), Reason::RESOURCE_CLAIMED) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("must not share a cluster name"));
  // The first one goes on as if nothing had been.
  std::vector<RawBranch> branches = rig_->Decided({0}, v1::DECISION_COMMIT);
  branches[0].session->Abandon();
  EXPECT_EQ(rig_->Await(branches[0].xid.gtrid, v1::Global::STATE_COMMITTED).outcome(), v1::OUTCOME_COMMITTED);
  // It is gone for good: the second takes over, and that ends the first one's rights.
  ASSERT_TRUE(rig_->RegisterAt(&api, 0, [](v1::RegisterResourceRequest* r) { r->set_take_over(true); }).ok());
  rig_->coordinator().Kill9();
  ASSERT_TRUE(rig_->coordinator().Restart().ok());
  EXPECT_TRUE(AwaitStateOfA(v1::ResourceStatus::STATE_QUARANTINED)) << StatusOfA().DebugString();
}

TEST_F(AdversaryTest, AParticipantOnTheWrongServerIsRefusedBeforeItCanPrepare) {
  Start();
  v1::CreateGlobalRequest request;
  v1::BranchSpec* spec = request.add_branches();
  spec->set_resource("a");
  *spec->mutable_session() = RecoveryRig::Describe(*rig_->Connect(1));
  EXPECT_EQ(ReasonOf(rig_->TryCreate(request).status()), Reason::WRONG_SERVER);
  std::vector<RawBranch> branches = rig_->Begin({0});
  branches[0].session = rig_->Connect(1);
  EXPECT_EQ(ReasonOf(rig_->Vote(branches)), Reason::WRONG_SERVER) << "nor can it vote";
}

TEST_F(AdversaryTest, LocalhostIsRefusedWhenParticipantsHaveAnotherAddress) {
  Start();
  for (const char* theirs : {"db1.example:3306", "127.0.0.1:3306", "localhost:3307"}) {
    const absl::Status refused = rig_->Register(0, [theirs](v1::RegisterResourceRequest* r) {
      r->mutable_resource()->set_address("localhost:3306");
      r->mutable_resource()->set_participant_address(theirs);
    });
    EXPECT_EQ(ReasonOf(refused), Reason::INVALID_RESOURCE) << theirs;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("could talk to different servers")) << theirs;
  }
}

// --- Databases that are away ----------------------------------------------------------------------------------------

TEST_F(AdversaryTest, AWrongPasswordIsSaidAndItsCorrectionNoticed) {
  Start();
  const auto folder = TempDir::Create();
  const std::string file = folder->path() + "/password";
  std::ofstream(file) << rig_->database(0).password();
  const auto with_file = [&](v1::RegisterResourceRequest* r) { r->mutable_resource()->set_password_file(file); };
  ASSERT_TRUE(rig_->Register(0, with_file).ok());
  std::ofstream(file) << "wrong";
  const RawBranch branch = LeftAlone(v1::DECISION_COMMIT);
  rig_->coordinator().Kill9();
  ASSERT_TRUE(rig_->coordinator().Restart().ok());
  ASSERT_TRUE(AwaitStateOfA(v1::ResourceStatus::STATE_UNREACHABLE));
  EXPECT_THAT(StatusOfA().detail(),
              HasSubstr(RecoveryRig::IsPostgres(0) ? "password authentication failed" : "Access denied"));
  EXPECT_EQ(StatusOfA().detail().find("wrong"), std::string::npos);
  const v1::GetGlobalResponse meanwhile = rig_->Global(branch.xid.gtrid);
  EXPECT_EQ(meanwhile.outcome(), v1::OUTCOME_IN_DOUBT);
  std::ofstream(file) << rig_->database(0).password();
  EXPECT_EQ(rig_->Await(branch.xid.gtrid, v1::Global::STATE_COMMITTED).outcome(), v1::OUTCOME_COMMITTED);
}

TEST_F(AdversaryTest, ADatabaseThatComesBackLateIsFinishedThenAndDelaysNobody) {
  RecoveryRig::Options options;
  options.coordinator.extra = {"--alarm-age=1s"};
  Start(std::move(options));
  std::vector<RawBranch> branches = rig_->Decided({0, 1}, v1::DECISION_COMMIT);
  const std::string gtrid = branches[0].xid.gtrid;
  rig_->database(0).Kill9();
  for (RawBranch& branch : branches) branch.session->Abandon();
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] { return rig_->Rows(1, gtrid) == 1; })) << "the other one does not wait";
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] {
    const auto page = rig_->InDoubt();
    return page.ok() && page->branches_size() == 1 && page->branches(0).alarm() &&
           page->branches(0).branch().resource() == "a" && page->branches(0).has_next_attempt_time();
  })) << rig_->InDoubt()->DebugString();
  ASSERT_TRUE(rig_->database(0).Restart().ok());
  EXPECT_EQ(rig_->Await(gtrid, v1::Global::STATE_COMMITTED).outcome(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(rig_->Rows(0, gtrid), 1);
}

TEST_F(AdversaryTest, ADatabaseThatHangsDelaysNobody) {
  Start();
  rig_->database(0).Suspend();
  std::vector<RawBranch> branches = rig_->Decided({1}, v1::DECISION_COMMIT);
  branches[0].session->Abandon();
  EXPECT_EQ(rig_->Await(branches[0].xid.gtrid, v1::Global::STATE_COMMITTED).outcome(), v1::OUTCOME_COMMITTED);
  rig_->database(0).Resume();
}

TEST_F(AdversaryTest, LockWaitsNameTheBranchThatHoldsThem) {
  StartUnhurried();
  std::vector<RawBranch> branches = rig_->Decided({0}, v1::DECISION_COMMIT);
  const auto waiting = rig_->Connect(0);
  ASSERT_TRUE(
      waiting->Query(RecoveryRig::IsPostgres(0) ? "SET lock_timeout = '60s'" : "SET innodb_lock_wait_timeout = 60")
          .ok());
  waiting->SendQuery(RecoveryRig::OverwriteSql(0, branches[0].xid));
  v1::ListInDoubtResponse page;
  EXPECT_TRUE(RecoveryRig::AwaitTrue([&] {
    absl::SleepFor(absl::Milliseconds(300));  // The server keeps its answer as long as it is asked every 100 ms.
    const auto answer = rig_->InDoubt(/*with_locks=*/true);
    if (answer.ok()) page = *answer;
    return page.lock_waits_size() == 1;
  })) << page.DebugString();
  ASSERT_EQ(page.lock_waits_size(), 1);
  EXPECT_EQ(page.lock_waits(0).gtrid(), branches[0].xid.gtrid);
  EXPECT_EQ(page.lock_waits(0).waiting_connection_id(), static_cast<int64_t>(waiting->connection_id()));
  EXPECT_THAT(page.lock_waits(0).table(), HasSubstr("t"));
  ASSERT_TRUE(branches[0].session->Commit(branches[0].xid).ok());
  EXPECT_TRUE(waiting->ReceiveQuery().ok());
}

}  // namespace
}  // namespace assent
