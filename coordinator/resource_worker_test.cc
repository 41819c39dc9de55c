// The worker's own judgement: which branches it takes up, when, and what it makes of a jump of the clock. The database
// is played by a script here; what real ones do is tested in resource_manager/ and tests/recovery/.
#include "coordinator/resource_worker.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/timer.h"
#include "base/timestamp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/sqlite_store.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

using ::testing::HasSubstr;

// What the script says, and what the worker has asked of it.
struct Script {
  Mutex mutex;
  std::vector<RecoveredXid> prepared ABSL_GUARDED_BY(mutex);
  std::vector<BranchTask> finished ABSL_GUARDED_BY(mutex);
  std::vector<Xid> forgotten ABSL_GUARDED_BY(mutex);
  std::vector<Xid> witnesses ABSL_GUARDED_BY(mutex);
  int forced ABSL_GUARDED_BY(mutex) = 0;  // ForceWitnesses was asked for.
  absl::Status force_answer ABSL_GUARDED_BY(mutex);
  v1::BranchOutcome outcome ABSL_GUARDED_BY(mutex) = v1::BRANCH_OUTCOME_STILL_PREPARED;
  absl::optional<Claim> claim ABSL_GUARDED_BY(mutex);
  bool lost ABSL_GUARDED_BY(mutex) = false;
  bool lost_finishing ABSL_GUARDED_BY(mutex) = false;
  int listed ABSL_GUARDED_BY(mutex) = 0;
  bool lose_advance ABSL_GUARDED_BY(mutex) = false;  // The next change of the claim is made and never answered.
  int disputes ABSL_GUARDED_BY(mutex) = 0;
  bool takes_no_writes ABSL_GUARDED_BY(mutex) = false;
  int refused ABSL_GUARDED_BY(mutex) = 0;  // Writes.
  int connects ABSL_GUARDED_BY(mutex) = 0;
  absl::Status witness_table ABSL_GUARDED_BY(mutex);
  std::function<int64_t()> forced_groups;  // Of the store.
  int64_t forced_before_forgetting ABSL_GUARDED_BY(mutex) = 0;
};

class ScriptedRecovery : public BranchRecovery {
 public:
  explicit ScriptedRecovery(Script* script) : script_(script) { identity_.name = "db:1"; }

  const ServerIdentity& identity() const override { return identity_; }
  absl::StatusOr<std::vector<RecoveredXid>> ListPrepared() override {
    MutexLock lock(&script_->mutex);
    if (script_->lost) return MakeError(Reason::DATABASE_UNREACHABLE, "gone");
    ++script_->listed;
    return script_->prepared;
  }
  absl::StatusOr<std::vector<BranchFinding>> Examine(absl::Span<const BranchTask> tasks) override {
    return std::vector<BranchFinding>(tasks.size());
  }
  absl::StatusOr<std::vector<BranchFinding>> Finish(absl::Span<const BranchTask> tasks) override {
    MutexLock lock(&script_->mutex);
    if (script_->lost_finishing) return MakeError(Reason::DATABASE_UNREACHABLE, "gone");
    script_->finished.insert(script_->finished.end(), tasks.begin(), tasks.end());
    std::vector<BranchFinding> findings(tasks.size());
    for (BranchFinding& finding : findings) finding.evidence.set_outcome(script_->outcome);
    return findings;
  }
  absl::StatusOr<absl::optional<GhostCount>> CountGhosts() override {
    return absl::optional<GhostCount>(GhostCount{0, /*surely_none=*/true});
  }
  absl::StatusOr<std::vector<Xid>> ListOpenWitnesses(const WitnessTable&, absl::string_view,
                                                     const std::set<Xid>&) override {
    return std::vector<Xid>();
  }
  absl::StatusOr<std::vector<v1::LockWait>> LockWaits(absl::Span<const BranchTask>, int) override {
    return std::vector<v1::LockWait>();
  }
  absl::Status Install(const absl::optional<WitnessTable>&) override { return absl::OkStatus(); }
  absl::Status CheckWitness(const WitnessTable&) override {
    MutexLock lock(&script_->mutex);
    return script_->witness_table;
  }
  absl::StatusOr<absl::optional<Claim>> ReadClaim(absl::string_view) override {
    MutexLock lock(&script_->mutex);
    return script_->claim;
  }
  absl::StatusOr<bool> WriteClaim(absl::string_view, const absl::optional<Claim>& expected,
                                  const Claim& claim) override {
    MutexLock lock(&script_->mutex);
    if (script_->takes_no_writes) {
      ++script_->refused;
      return MakeError(Reason::DATABASE_ERROR, "1290");
    }
    if (!(script_->claim == expected)) return false;
    script_->disputes += claim.store_id == "disputed" ? 1 : 0;
    script_->claim = claim;
    if (!expected || !script_->lose_advance) return true;
    script_->lose_advance = false;
    return MakeError(Reason::DATABASE_UNREACHABLE, "gone");
  }
  absl::Status ForgetWitnesses(const WitnessTable&, absl::Span<const Xid> xids) override {
    MutexLock lock(&script_->mutex);
    if (script_->takes_no_writes) {
      ++script_->refused;
      return MakeError(Reason::DATABASE_ERROR, "1290");
    }
    script_->forced_before_forgetting = script_->forced_groups();
    script_->forgotten.insert(script_->forgotten.end(), xids.begin(), xids.end());
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<Xid>> ListWitnesses(const WitnessTable&, absl::string_view, const Xid&, int) override {
    MutexLock lock(&script_->mutex);
    return script_->witnesses;
  }
  absl::Status ForceWitnesses(const WitnessTable&) override {
    MutexLock lock(&script_->mutex);
    ++script_->forced;
    return script_->force_answer;
  }

 private:
  Script* const script_;
  ServerIdentity identity_;
};

class ResourceWorkerTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = std::make_unique<TempDir>(*TempDir::Create());
    SqliteOptions options;
    options.path = dir_->path() + "/store";
    options.cluster = "c";
    auto store = SqliteStore::Open(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    registry_ = std::make_unique<ResourceRegistry>(store_.get(), &clock_);
    engine_ = std::make_unique<Engine>(store_.get(), &clock_, &timer_, &executor_, EngineOptions());
    ASSERT_TRUE(engine_->Start().ok());
    v1::Resource resource;
    resource.set_name("db");
    resource.set_engine(v1::Resource::ENGINE_MARIADB);
    resource.set_address("h:1");
    resource.set_user("u");
    SetDuration(absl::Hours(1), resource.mutable_lease());
    SetDuration(absl::Seconds(1), resource.mutable_orphan_age());
    ASSERT_TRUE(registry_->Validate(false, &resource).ok());
    ASSERT_TRUE(registry_->Put(false, resource).ok());
    script_.forced_groups = [this] { return store_->Stats().forced_groups; };
    options_.claimant = {"c", store_->Id(), nullptr};
    options_.sweep_interval = absl::Milliseconds(50);
    options_.patience = absl::Milliseconds(10);
    options_.connect = [this](const v1::Resource&) -> absl::StatusOr<std::unique_ptr<BranchRecovery>> {
      MutexLock lock(&script_.mutex);
      ++script_.connects;
      return std::unique_ptr<BranchRecovery>(new ScriptedRecovery(&script_));
    };
  }

  void TearDown() override {
    worker_.reset();
    timer_.Stop();
    executor_.Stop();
  }

  void StartWorker() {
    worker_ = std::make_unique<ResourceWorker>("db", options_, engine_.get(), registry_.get(), &clock_, [] {});
  }

  OpenBranch Decided(const std::string& gtrid, v1::Decision decision = v1::DECISION_ROLLBACK) {
    Event event;
    event.gtrid = gtrid;
    event.now = clock_.Now();
    event.kind = EventKind::kCreate;
    event.timeout = absl::Minutes(1);
    event.branches = {{"b", "db", "assent.witness"}};
    EXPECT_TRUE(engine_->SubmitAndWait(event).ok());
    event.kind = EventKind::kFinalize;
    event.decision = decision;
    if (decision == v1::DECISION_COMMIT) {
      v1::Vote vote;
      vote.set_bqual("b");
      vote.set_kind(v1::VOTE_KIND_PREPARED);
      event.votes = {vote};
    }
    const auto record = engine_->SubmitAndWait(event);
    EXPECT_TRUE(record.ok()) << record.status();
    return {*record, 0};
  }

  size_t Finished() {
    MutexLock lock(&script_.mutex);
    return script_.finished.size();
  }
  static bool Await(const std::function<bool()>& condition) {
    for (int i = 0; i < 1000 && !condition(); ++i) absl::SleepFor(absl::Milliseconds(10));
    return condition();
  }

  std::unique_ptr<TempDir> dir_;
  FakeClock clock_{absl::FromUnixSeconds(1700000000)};
  Timer timer_{&clock_};
  Executor executor_{2, 100};
  std::unique_ptr<Store> store_;
  std::unique_ptr<ResourceRegistry> registry_;
  std::unique_ptr<Engine> engine_;
  RecoveryOptions options_;
  Script script_;
  std::unique_ptr<ResourceWorker> worker_;
};

TEST_F(ResourceWorkerTest, AJumpOfTheClockEndsNoLeaseAndDelaysNothing) {
  StartWorker();
  const OpenBranch open = Decided("c-1");
  worker_->Offer({open});
  ASSERT_TRUE(Await([&] { return Finished() >= 1; }));
  clock_.Advance(absl::Hours(24));
  worker_->RetryNow("");
  ASSERT_TRUE(Await([&] { return Finished() >= 2; }));
  clock_.Advance(-absl::Hours(72));
  worker_->RetryNow("");
  ASSERT_TRUE(Await([&] { return Finished() >= 3; })) << "it waits for a clock that went back";
  MutexLock lock(&script_.mutex);
  for (const BranchTask& task : script_.finished) EXPECT_FALSE(task.lease_over) << "a living session would be killed";
}

TEST_F(ResourceWorkerTest, ProvenBranchesEndAndOthersAreTriedAgain) {
  StartWorker();
  const OpenBranch open = Decided("c-1");
  worker_->Offer({open});
  ASSERT_TRUE(Await([&] { return Finished() >= 2; })) << "retries never stop";
  ASSERT_EQ(worker_->InDoubt().size(), 1u);
  EXPECT_GE(worker_->InDoubt()[0].attempts(), 1);
  {
    MutexLock lock(&script_.mutex);
    script_.outcome = v1::BRANCH_OUTCOME_NEVER_PREPARED;
  }
  worker_->RetryNow("c-1");
  EXPECT_TRUE(Await([&] { return (*engine_->ReadAndWait("c-1"))->state() == v1::Global::STATE_ROLLED_BACK; }));
  EXPECT_TRUE(worker_->InDoubt().empty());
}

TEST_F(ResourceWorkerTest, OnlyOrphansOfOursAreFinishedAndOnlyAfterTheirAge) {
  {
    MutexLock lock(&script_.mutex);
    script_.prepared = {{kFormatId, "c-orphan", "b"}, {kFormatId, "cc-1", "b"},    {kFormatId, "c", "b"},
                        {kFormatId + 1, "c-2", "b"},  {kFormatId, "c-3\x01", "b"}, {kFormatId, "c-4", ""}};
  }
  StartWorker();
  const absl::Time begin = absl::Now();
  ASSERT_TRUE(Await([&] { return Finished() >= 1; }));
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(900));
  absl::SleepFor(absl::Milliseconds(200));
  MutexLock lock(&script_.mutex);
  for (const BranchTask& task : script_.finished) {
    EXPECT_EQ(task.xid.gtrid, "c-orphan");
    EXPECT_EQ(task.decision, v1::DECISION_ROLLBACK);
  }
}

TEST_F(ResourceWorkerTest, AFinishedBranchThatIsPreparedAgainIsFinishedAgain) {
  const OpenBranch open = Decided("c-1");
  Event event;
  event.gtrid = "c-1";
  event.now = clock_.Now();
  event.kind = EventKind::kComplete;
  event.bqual = "b";
  event.result = v1::Completion::RESULT_ROLLED_BACK;
  ASSERT_TRUE(engine_->SubmitAndWait(event).ok());
  {
    MutexLock lock(&script_.mutex);
    script_.prepared = {{kFormatId, "c-1", "b"}};
  }
  StartWorker();
  EXPECT_TRUE(Await([&] { return Finished() >= 1; }));
}

TEST_F(ResourceWorkerTest, AnotherStoresClaimQuarantinesAndNothingIsTouched) {
  {
    MutexLock lock(&script_.mutex);
    script_.claim = Claim{"somebody else", 7};
    script_.prepared = {{kFormatId, "c-orphan", "b"}};
  }
  StartWorker();
  worker_->Offer({Decided("c-1")});
  ASSERT_TRUE(Await([&] { return worker_->Status().state() == v1::ResourceStatus::STATE_QUARANTINED; }));
  absl::SleepFor(absl::Milliseconds(1500));
  EXPECT_EQ(Finished(), 0u);
  EXPECT_EQ(ReasonOf(registry_->FindUsable("db").status()), Reason::RESOURCE_QUARANTINED);
  EXPECT_THAT(worker_->InDoubt()[0].next_step(), HasSubstr("must not share a cluster name"));
  {
    MutexLock lock(&script_.mutex);
    script_.claim = absl::nullopt;
  }
  EXPECT_TRUE(Await([&] { return Finished() >= 1; })) << "all is well again by itself";
  EXPECT_TRUE(registry_->FindUsable("db").ok());
}

TEST_F(ResourceWorkerTest, ALostConnectionIsMadeAnewAndReported) {
  StartWorker();
  ASSERT_TRUE(Await([&] { return worker_->Status().state() == v1::ResourceStatus::STATE_OK; }));
  {
    MutexLock lock(&script_.mutex);
    script_.lost = true;
  }
  ASSERT_TRUE(Await([&] { return worker_->Status().state() == v1::ResourceStatus::STATE_UNREACHABLE; }));
  EXPECT_EQ(worker_->Sweep(/*dry_run=*/true, absl::Seconds(5)).status().state(), v1::ResourceStatus::STATE_UNREACHABLE);
  {
    MutexLock lock(&script_.mutex);
    script_.lost = false;
  }
  EXPECT_TRUE(Await([&] { return worker_->Status().state() == v1::ResourceStatus::STATE_OK; }));
}

TEST_F(ResourceWorkerTest, WitnessesOfFinishedTransactionsAreForgotten) {
  StartWorker();
  worker_->Forget({"c-1", "b"});
  EXPECT_TRUE(Await([&] {
    MutexLock lock(&script_.mutex);
    return script_.forgotten.size() == 1;
  }));
  EXPECT_TRUE(Await([&] {
    MutexLock lock(&script_.mutex);
    return script_.claim && script_.claim->epoch > 1;
  })) << "the epoch counts what was done there";
  EXPECT_TRUE(Await([&] {
    const v1::Resource known = **registry_->Find("db");
    MutexLock lock(&script_.mutex);
    return known.epoch() == script_.claim->epoch && known.next_epoch() == 0;
  })) << "and the registry knows it";
}

// A record that has ended may still be lost with its machine; then its witness is looked for.
TEST_F(ResourceWorkerTest, WhatHasEndedIsOnDiskBeforeItsWitnessIsForgotten) {
  StartWorker();
  ASSERT_TRUE(Await([&] { return worker_->Status().state() == v1::ResourceStatus::STATE_OK; }));
  absl::SleepFor(absl::Milliseconds(200));  // What a start forces is done.
  const int64_t before = store_->Stats().forced_groups;
  Decided("c-1");
  ASSERT_EQ(store_->Stats().forced_groups, before) << "a rollback is not forced";
  worker_->Forget({"c-1", "b"});
  ASSERT_TRUE(Await([&] {
    MutexLock lock(&script_.mutex);
    return script_.forgotten.size() == 1;
  }));
  MutexLock lock(&script_.mutex);
  EXPECT_GT(script_.forced_before_forgetting, before);
}

TEST_F(ResourceWorkerTest, WhoTakesOverForgetsTheWitnessesThatItsPredecessorLeft) {
  StartWorker();
  EXPECT_TRUE(Await([&] { return worker_->Status().state() == v1::ResourceStatus::STATE_OK; }));
  worker_->SetActive(false);
  Decided("c-1", v1::DECISION_COMMIT);
  Decided("c-0");
  for (const auto& ended : {std::make_pair("c-1", v1::Completion::RESULT_COMMITTED),
                            std::make_pair("c-0", v1::Completion::RESULT_ROLLED_BACK)}) {
    Event end;
    end.gtrid = ended.first;
    end.now = clock_.Now();
    end.kind = EventKind::kComplete;
    end.bqual = "b";
    end.result = ended.second;
    ASSERT_TRUE(engine_->SubmitAndWait(end).ok());
  }
  {
    MutexLock lock(&script_.mutex);
    script_.witnesses = {{"c-0", "b"}, {"c-1", "b"}};
  }
  worker_->SetActive(true);
  EXPECT_TRUE(Await([&] {
    MutexLock lock(&script_.mutex);
    return !script_.forgotten.empty();
  }));
  EXPECT_TRUE(Await([&] { return !worker_->InDoubt().empty(); })) << "a witness of what was rolled back is no rubbish";
  EXPECT_EQ(worker_->InDoubt()[0].gtrid(), "c-0");
  MutexLock lock(&script_.mutex);
  EXPECT_EQ(script_.forgotten, std::vector<Xid>({{"c-1", "b"}}));
}

TEST_F(ResourceWorkerTest, AOnePhaseCommitIsRecordedOnlyOnceItIsSurelyOnDisk) {
  const std::string gtrid = NewGtrid("c", clock_.Now());
  {
    MutexLock lock(&script_.mutex);
    script_.witnesses = {{gtrid, "b!"}};
    script_.force_answer = MakeError(Reason::DATABASE_ERROR, "no writes now");
  }
  StartWorker();
  ASSERT_TRUE(Await([&] {
    MutexLock lock(&script_.mutex);
    return script_.forced >= 2;
  })) << "it is tried again";
  EXPECT_EQ(*engine_->ReadAndWait(gtrid), nullptr);
  {
    MutexLock lock(&script_.mutex);
    script_.force_answer = absl::OkStatus();
  }
  EXPECT_TRUE(Await([&] {
    const auto record = *engine_->ReadAndWait(gtrid);
    return record != nullptr && record->state() == v1::Global::STATE_COMMITTED;
  }));
}

TEST_F(ResourceWorkerTest, BranchesThatCostTheConnectionDoNotKeepTheSweepFromComing) {
  {
    MutexLock lock(&script_.mutex);
    script_.lost_finishing = true;
  }
  StartWorker();
  worker_->Offer({Decided("c-1")});
  const auto listed = [&] {
    MutexLock lock(&script_.mutex);
    return script_.listed;
  };
  ASSERT_TRUE(Await([&] { return worker_->Status().state() == v1::ResourceStatus::STATE_UNREACHABLE; }));
  const int before = listed();
  EXPECT_TRUE(Await([&] { return listed() >= before + 2; }));
  // Nor does a good sweep in front of them take their pauses away.
  const auto connects = [&] {
    MutexLock lock(&script_.mutex);
    return script_.connects;
  };
  const int connects_before = connects();
  absl::SleepFor(absl::Seconds(3));
  EXPECT_LE(connects() - connects_before, 5);
}

TEST_F(ResourceWorkerTest, AServerThatTakesNoWritesIsWellAndAskedAgainLater) {
  {
    MutexLock lock(&script_.mutex);
    script_.takes_no_writes = true;
    script_.claim = Claim{store_->Id(), 5};
  }
  const ResourcePtr before = *registry_->Find("db");
  v1::Resource known = *before;
  known.set_server("db:1");
  known.set_epoch(5);
  ASSERT_TRUE(registry_->NoteServer(*before, known).ok());
  StartWorker();
  worker_->Offer({Decided("c-1")});
  ASSERT_TRUE(Await([&] { return Finished() >= 1; }));
  worker_->Forget({"c-2", "b"});
  ASSERT_TRUE(Await([&] {
    MutexLock lock(&script_.mutex);
    return script_.refused >= 2;
  }));
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(worker_->Status().state(), v1::ResourceStatus::STATE_OK) << worker_->Status().DebugString();
    absl::SleepFor(absl::Milliseconds(10));
  }
  MutexLock lock(&script_.mutex);
  EXPECT_EQ(script_.refused, 2) << "once for the epoch, once for the witness";
  EXPECT_EQ(script_.connects, 1);
  EXPECT_EQ(script_.disputes, 0);
}

TEST_F(ResourceWorkerTest, AWitnessTableThatCannotBeLookedAtChangesNothing) {
  const auto table_is = [&](absl::Status status) {
    MutexLock lock(&script_.mutex);
    script_.witness_table = std::move(status);
    script_.listed = 0;
  };
  const auto swept_again = [&] {
    return Await([&] {
      MutexLock lock(&script_.mutex);
      return script_.listed >= 3;
    });
  };
  table_is(MakeError(Reason::DATABASE_ERROR, "1205"));
  StartWorker();
  ASSERT_TRUE(swept_again());
  EXPECT_EQ(worker_->Status().state(), v1::ResourceStatus::STATE_OK) << worker_->Status().DebugString();
  EXPECT_TRUE(registry_->FindUsable("db").ok());
  table_is(MakeError(Reason::RESOURCE_UNFIT, "it is missing"));
  ASSERT_TRUE(Await([&] { return worker_->Status().state() == v1::ResourceStatus::STATE_QUARANTINED; }));
  table_is(MakeError(Reason::DATABASE_ERROR, "1205"));
  ASSERT_TRUE(swept_again());
  EXPECT_EQ(worker_->Status().state(), v1::ResourceStatus::STATE_QUARANTINED) << "nobody has seen that it is back";
  EXPECT_FALSE(registry_->FindUsable("db").ok());
  MutexLock lock(&script_.mutex);
  EXPECT_EQ(script_.connects, 1);
}

TEST_F(ResourceWorkerTest, AnEpochThatWasWrittenAndNeverAnsweredIsTakenUp) {
  {
    MutexLock lock(&script_.mutex);
    script_.lose_advance = true;
  }
  StartWorker();
  EXPECT_TRUE(Await([&] {
    const v1::Resource known = **registry_->Find("db");
    MutexLock lock(&script_.mutex);
    return !script_.lose_advance && script_.claim && known.epoch() == script_.claim->epoch;
  }));
  EXPECT_TRUE(Await([&] { return worker_->Status().state() == v1::ResourceStatus::STATE_OK; }))
      << worker_->Status().DebugString();
  MutexLock lock(&script_.mutex);
  EXPECT_EQ(script_.disputes, 0);
}

TEST_F(ResourceWorkerTest, AnEpochThatTheStoreDoesNotKnowIsOfACopyAndBothAreTold) {
  StartWorker();
  ASSERT_TRUE(Await([&] { return worker_->Status().state() == v1::ResourceStatus::STATE_OK; }));
  ASSERT_TRUE(Await([&] { return (*registry_->Find("db"))->epoch() > 1; }));
  {
    MutexLock lock(&script_.mutex);
    script_.claim->epoch += 1 << 21;
  }
  EXPECT_TRUE(Await([&] { return worker_->Status().state() == v1::ResourceStatus::STATE_QUARANTINED; }));
  EXPECT_THAT(worker_->Status().detail(), testing::HasSubstr("another copy of this coordinator's store"));
  MutexLock lock(&script_.mutex);
  EXPECT_EQ(script_.claim->store_id, "disputed");
}

TEST_F(ResourceWorkerTest, AClaimThatAnotherStoreTakesMeanwhileQuarantines) {
  StartWorker();
  ASSERT_TRUE(Await([&] { return worker_->Status().state() == v1::ResourceStatus::STATE_OK; }));
  {
    MutexLock lock(&script_.mutex);
    script_.claim = Claim{"somebody else", 5};
  }
  worker_->Forget({"c-1", "b"});
  EXPECT_TRUE(Await([&] { return worker_->Status().state() == v1::ResourceStatus::STATE_QUARANTINED; }));
  EXPECT_THAT(worker_->Status().detail(), HasSubstr("must not share a cluster name"));
}

}  // namespace
}  // namespace assent
