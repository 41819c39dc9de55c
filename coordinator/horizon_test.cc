// The fence of decision 0010: what may have had a record that was deleted since is never decided anew, whatever became
// of the retention and of the clocks; and what is new is decided, whatever became of them.
#include "base/clock.h"
#include "base/errors.h"
#include "base/executor.h"
#include "base/timer.h"
#include "base/timestamp.h"
#include "base/xid.h"
#include "coordinator/engine.h"
#include "coordinator/requests.h"
#include "gtest/gtest.h"
#include "store/sqlite_store.h"
#include "store/testing/mariadb_test_util.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

constexpr absl::Duration kKeep = absl::Hours(1);

class HorizonTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    limits_.cluster = "test";
    if (GetParam()) mariadb_ = StoreOptions(SharedStoreServer());
    store_ = Open();
    // So that the horizon of a new store is past.
    clock_.Advance(absl::Now() + 2 * kBirthMargin - clock_.Now());
    EngineOptions options;
    options.shared = store_->IsShared();
    engine_ = std::make_unique<Engine>(store_.get(), &clock_, &timer_, &executor_, options);
    ASSERT_TRUE(engine_->Start().ok());
    v1::Resource resource;
    resource.set_name("db");
    resource.set_engine(v1::Resource::ENGINE_MARIADB);
    resource.set_address("db:3306");
    ASSERT_TRUE(store_->PutResource(resource).ok());
    registry_ = std::make_unique<ResourceRegistry>(store_.get(), &clock_);
    ASSERT_TRUE(registry_->Load().ok());
  }
  void TearDown() override {
    timer_.Stop();
    executor_.Stop();
  }

  std::unique_ptr<Store> Open() {
    if (mariadb_) return MustOpenStore(*mariadb_);
    SqliteOptions options;
    options.path = folder_.File("store");
    options.cluster = "test";
    auto store = SqliteStore::Open(options);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }

  std::string Reserve() {
    const auto reserved = assent::Reserve({}, limits_, registry_.get(), births_.Next(clock_.Now(), store_->Horizon()));
    EXPECT_TRUE(reserved.ok()) << reserved.status();
    return GtridOfBlock(reserved->prefix(), 7);
  }
  static v1::NewGlobal Whole() {
    v1::NewGlobal whole;
    v1::BranchSpec* const branch = whole.add_branches();
    branch->set_bqual("b1");
    branch->set_resource("db");
    return whole;
  }
  static v1::Completion Report(const std::string& gtrid, v1::Completion::Result result) {
    v1::Completion report;
    report.set_gtrid(gtrid);
    report.set_bqual("b1");
    report.set_result(result);
    *report.mutable_create() = Whole();
    return report;
  }
  absl::Status Do(absl::StatusOr<Request> request) {
    if (!request.ok()) return request.status();
    return engine_->SubmitAndWait(std::move(request->event)).status();
  }
  absl::Status Finalize(const std::string& gtrid, v1::Decision decision) {
    v1::FinalizeRequest finalize;
    finalize.set_gtrid(gtrid);
    finalize.set_decision(decision);
    *finalize.mutable_create() = Whole();
    v1::Vote* const vote = finalize.add_votes();
    vote->set_bqual("b1");
    vote->set_kind(v1::VOTE_KIND_PREPARED);
    return Do(ToRequest(finalize, limits_, registry_.get(), clock_.Now(), "tester"));
  }
  // A report that brings its transaction if `one_phase`.
  absl::Status Complete(const std::string& gtrid, v1::Completion::Result result, bool one_phase = false) {
    v1::Completion report = Report(gtrid, result);
    if (!one_phase) report.clear_create();
    return Do(ToRequest(report, limits_, registry_.get(), clock_.Now(), "tester"));
  }
  // Decides COMMIT in one call, and ends it.
  void CommitNow(const std::string& gtrid) {
    ASSERT_TRUE(Finalize(gtrid, v1::DECISION_COMMIT).ok());
    ASSERT_TRUE(Complete(gtrid, v1::Completion::RESULT_COMMITTED).ok());
    ASSERT_EQ(StateOf(gtrid), v1::Global::STATE_COMMITTED);
  }
  v1::Global::State StateOf(const std::string& gtrid) {
    const auto record = store_->Read(gtrid);
    EXPECT_TRUE(record.ok()) << record.status();
    return record.ok() && *record != nullptr ? (*record)->state() : v1::Global::STATE_UNSPECIFIED;
  }
  // What Retention does.
  size_t Purge() {
    const auto gone = store_->Purge(clock_.Now() - kKeep, 1000);
    EXPECT_TRUE(gone.ok()) << gone.status();
    return gone.ok() ? gone->size() : 0;
  }
  // Of calls that do not bring the transaction.
  absl::Status FinalizeMade(const std::string& gtrid) {
    v1::FinalizeRequest finalize;
    finalize.set_gtrid(gtrid);
    finalize.set_decision(v1::DECISION_COMMIT);
    return Do(ToRequest(finalize, limits_, registry_.get(), clock_.Now(), "tester"));
  }
  absl::Status VoteOn(const std::string& gtrid) {
    v1::PreparedRequest vote;
    vote.set_gtrid(gtrid);
    vote.add_votes()->set_bqual("b1");
    vote.mutable_votes(0)->set_kind(v1::VOTE_KIND_PREPARED);
    return Do(ToRequest(vote, limits_, clock_.Now(), "tester"));
  }
  void ExpectPastTheFence(const std::string& gtrid) {
    EXPECT_EQ(ReasonOf(FinalizeMade(gtrid)), Reason::OUTCOME_IN_DOUBT) << "it may have been decided COMMIT";
    EXPECT_EQ(ReasonOf(VoteOn(gtrid)), Reason::OUTCOME_IN_DOUBT);
    EXPECT_EQ(ReasonOf(Complete(gtrid, v1::Completion::RESULT_ROLLED_BACK)), Reason::OUTCOME_IN_DOUBT);
    for (const v1::Decision decision : {v1::DECISION_COMMIT, v1::DECISION_ROLLBACK}) {
      EXPECT_EQ(ReasonOf(Finalize(gtrid, decision)), Reason::OUTCOME_IN_DOUBT);
    }
    EXPECT_EQ(ReasonOf(Complete(gtrid, v1::Completion::RESULT_UNKNOWN, /*one_phase=*/true)), Reason::OUTCOME_IN_DOUBT);
    EXPECT_EQ(StateOf(gtrid), v1::Global::STATE_UNSPECIFIED) << "nothing is recorded";
  }

  TempFolder folder_;
  FakeClock clock_{absl::Now()};
  absl::optional<MariaDbOptions> mariadb_;
  RequestLimits limits_;
  Births births_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<ResourceRegistry> registry_;
  Timer timer_{Clock::Real()};
  Executor executor_{4, 1000};
  std::unique_ptr<Engine> engine_;
};

TEST_P(HorizonTest, ARetentionThatWasRaisedForgetsNotWhatItHasDeleted) {
  const std::string gtrid = Reserve();
  clock_.Advance(absl::Minutes(1));
  CommitNow(gtrid);
  clock_.Advance(absl::Minutes(90));
  ASSERT_EQ(Purge(), 1u);
  // From here on nothing is deleted for a week.
  ExpectPastTheFence(gtrid);
}

// What is deleted too early is known to have been; what comes afterwards is as good as ever.
TEST_P(HorizonTest, AClockThatWasAheadForgetsNotWhatItHasDeleted) {
  const std::string gtrid = Reserve();
  clock_.Advance(absl::Minutes(1));
  CommitNow(gtrid);
  clock_.Advance(absl::Hours(72));
  ASSERT_EQ(Purge(), 1u);
  clock_.Advance(-absl::Hours(72));
  ExpectPastTheFence(gtrid);
  clock_.Advance(absl::Milliseconds(2));
  EXPECT_LE(store_->Horizon(), clock_.Now()) << "no further than what was deleted";
  CommitNow(Reserve());
}

// The same, and transactions have ended while it was ahead.
TEST_P(HorizonTest, AHorizonInTheFutureStopsNothing) {
  const std::string before = Reserve();
  clock_.Advance(absl::Hours(72));
  const std::string gtrid = Reserve();
  CommitNow(gtrid);
  clock_.Advance(absl::Minutes(61));
  ASSERT_EQ(Purge(), 1u);
  clock_.Advance(-absl::Hours(73));
  ASSERT_GT(store_->Horizon(), clock_.Now() + absl::Hours(70));
  ExpectPastTheFence(gtrid);
  ExpectPastTheFence(before);
  for (int i = 0; i < 3; ++i) {
    CommitNow(Reserve());
    EXPECT_EQ(Purge(), 0u);
    clock_.Advance(absl::Hours(30));
  }
  ASSERT_LT(store_->Horizon(), clock_.Now());
  // They count as born as much later as the horizon was ahead.
  EXPECT_EQ(Purge(), 1u);
  clock_.Advance(absl::Hours(72));
  EXPECT_EQ(Purge(), 2u);
  ExpectPastTheFence(gtrid);
  CommitNow(Reserve());
}

// The clock of the instance that deletes is so far ahead that all that is decided here has been kept for long enough.
TEST_P(HorizonTest, AClockThatIsBehindByMoreThanTheRetentionStopsNothing) {
  const std::unique_ptr<Store> another = store_->IsShared() ? Open() : nullptr;
  Store* const other = another != nullptr ? another.get() : store_.get();
  size_t purged = 0;
  for (int minute = 0; minute < 90; ++minute) {
    const std::string under_way = Reserve();
    const std::string quick = Reserve();
    // Until the ids that are handed out have got ahead of what the other one deletes.
    const bool ahead = minute >= 60;
    if (ahead) {
      CommitNow(quick);
    } else if (Finalize(quick, v1::DECISION_COMMIT).ok()) {
      ASSERT_TRUE(Complete(quick, v1::Completion::RESULT_COMMITTED).ok());
    }
    const auto gone = other->Purge(clock_.Now() + kKeep, 1000);
    ASSERT_TRUE(gone.ok()) << gone.status();
    purged += gone->size();
    if (ahead) CommitNow(under_way);
    clock_.Advance(absl::Minutes(1));
  }
  EXPECT_GT(purged, 30u);
}

TEST_P(HorizonTest, WhatNeverWasIsNotFound) {
  EXPECT_EQ(ReasonOf(FinalizeMade(Reserve())), Reason::GLOBAL_NOT_FOUND);
  EXPECT_EQ(ReasonOf(VoteOn("test-of-the-callers-choice")), Reason::GLOBAL_NOT_FOUND) << "its birth is not known";
}

TEST_P(HorizonTest, WhatIsProvenIsPutDownOnBothSidesOfTheFence) {
  const std::string gtrid = Reserve();
  CommitNow(gtrid);
  clock_.Advance(absl::Hours(2));
  ASSERT_EQ(Purge(), 1u);
  EXPECT_EQ(ReasonOf(Complete(gtrid, v1::Completion::RESULT_UNKNOWN, /*one_phase=*/true)), Reason::OUTCOME_IN_DOUBT);
  EXPECT_TRUE(Complete(gtrid, v1::Completion::RESULT_COMMITTED, /*one_phase=*/true).ok());
  EXPECT_EQ(StateOf(gtrid), v1::Global::STATE_COMMITTED);
  EXPECT_TRUE(Complete(gtrid, v1::Completion::RESULT_UNKNOWN, /*one_phase=*/true).ok()) << "what is on record is told";
}

// Calls of one transaction become one write: the fence is for each of them.
TEST_P(HorizonTest, TheFenceIsForWhomItIsAmongCallsThatComeTogether) {
  const std::string gtrid = Reserve();
  CommitNow(gtrid);
  clock_.Advance(absl::Hours(2));
  ASSERT_EQ(Purge(), 1u);
  std::vector<Event> events;
  for (const auto result : {v1::Completion::RESULT_UNKNOWN, v1::Completion::RESULT_COMMITTED}) {
    absl::StatusOr<Request> request =
        ToRequest(Report(gtrid, result), limits_, registry_.get(), clock_.Now(), "tester");
    ASSERT_TRUE(request.ok()) << request.status();
    events.push_back(std::move(request->event));
  }
  const auto answers = engine_->SubmitAllAndWait(std::move(events));
  EXPECT_EQ(ReasonOf(answers[0].status()), Reason::OUTCOME_IN_DOUBT);
  EXPECT_TRUE(answers[1].ok()) << answers[1].status();
  EXPECT_EQ(StateOf(gtrid), v1::Global::STATE_COMMITTED);
}

// Another instance deletes; this one has not heard of it.
TEST_P(HorizonTest, AnotherInstanceMayDeleteMeanwhile) {
  if (!store_->IsShared()) GTEST_SKIP() << "one process owns this store";
  const std::unique_ptr<Store> other = Open();
  const std::string gtrid = Reserve();
  CommitNow(gtrid);
  clock_.Advance(absl::Hours(72));
  CommitNow(Reserve());
  ASSERT_EQ(other->Purge(clock_.Now() + absl::Hours(1), 1000)->size(), 2u);
  clock_.Advance(-absl::Hours(72));
  ASSERT_LT(store_->Horizon(), clock_.Now());
  const std::string unlucky = Reserve();
  EXPECT_EQ(ReasonOf(FinalizeMade(gtrid)), Reason::OUTCOME_IN_DOUBT);
  ExpectPastTheFence(gtrid);
  EXPECT_EQ(ReasonOf(Finalize(unlucky, v1::DECISION_COMMIT)), Reason::OUTCOME_IN_DOUBT);
  CommitNow(Reserve());
}

INSTANTIATE_TEST_SUITE_P(Stores, HorizonTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "MariaDb" : "Sqlite"; });

}  // namespace
}  // namespace assent
