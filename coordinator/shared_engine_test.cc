// Several engines over one store: any of them serves any call, and none answers what is no longer true.
#include <atomic>
#include <random>
#include <thread>

#include "base/errors.h"
#include "base/timestamp.h"
#include "coordinator/engine.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/sqlite_store.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

class SharedEngineTest : public testing::Test {
 protected:
  void SetUp() override {
    SqliteOptions options;
    options.path = dir_.path() + "/store";
    options.cluster = "c";
    auto store = SqliteStore::Open(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    EngineOptions shared;
    shared.shared = true;
    for (int i = 0; i < 3; ++i) {
      engines_.push_back(std::make_unique<Engine>(store_.get(), Clock::Real(), &timer_, &executor_, shared));
      ASSERT_TRUE(engines_.back()->Start().ok());
    }
  }
  void TearDown() override {
    timer_.Stop();
    executor_.Stop();
  }

  static Event Of(EventKind kind, const std::string& gtrid) {
    Event event;
    event.kind = kind;
    event.gtrid = gtrid;
    event.now = absl::Now();
    event.timeout = absl::Minutes(1);
    return event;
  }
  static Event Create(const std::string& gtrid, absl::Duration timeout = absl::Minutes(1)) {
    Event event = Of(EventKind::kCreate, gtrid);
    event.timeout = timeout;
    event.branches = {NewBranch{"b1", "r1", ""}, NewBranch{"b2", "r2", ""}};
    return event;
  }
  static Event VoteOf(const std::string& gtrid, const std::string& bqual) {
    Event event = Of(EventKind::kVote, gtrid);
    v1::Vote vote;
    vote.set_bqual(bqual);
    vote.set_kind(v1::VOTE_KIND_PREPARED);
    event.votes = {vote};
    return event;
  }
  static Event Finalize(const std::string& gtrid, v1::Decision decision) {
    Event event = Of(EventKind::kFinalize, gtrid);
    event.decision = decision;
    return event;
  }
  static Event Completed(const std::string& gtrid, const std::string& bqual) {
    Event event = Of(EventKind::kComplete, gtrid);
    event.bqual = bqual;
    event.result = v1::Completion::RESULT_COMMITTED;
    return event;
  }
  v1::Global::State StateAt(int i, const std::string& gtrid) {
    const auto record = engines_[static_cast<size_t>(i)]->ReadAndWait(gtrid);
    EXPECT_TRUE(record.ok()) << record.status();
    return record.ok() && *record != nullptr ? (*record)->state() : v1::Global::STATE_UNSPECIFIED;
  }
  absl::Status Do(int i, Event event) {
    return engines_[static_cast<size_t>(i)]->SubmitAndWait(std::move(event)).status();
  }

  const TempDir dir_ = *TempDir::Create();
  std::unique_ptr<SqliteStore> store_;
  Timer timer_{Clock::Real()};
  Executor executor_{4, 10000};
  std::vector<std::unique_ptr<Engine>> engines_;
};

TEST_F(SharedEngineTest, EveryCallMayGoToAnotherInstance) {
  ASSERT_TRUE(Do(0, Create("c-1")).ok());
  EXPECT_EQ(StateAt(1, "c-1"), v1::Global::STATE_ACTIVE);
  EXPECT_TRUE(Do(1, VoteOf("c-1", "b1")).ok());
  EXPECT_EQ(ReasonOf(Do(2, Finalize("c-1", v1::DECISION_COMMIT))), Reason::BRANCHES_NOT_PREPARED);
  EXPECT_TRUE(Do(0, VoteOf("c-1", "b2")).ok());
  // This one was told that b2 is missing, and remembers that.
  EXPECT_TRUE(Do(2, Finalize("c-1", v1::DECISION_COMMIT)).ok());
  EXPECT_EQ(ReasonOf(Do(1, Finalize("c-1", v1::DECISION_ROLLBACK))), Reason::GLOBAL_COMMITTED);
  EXPECT_EQ(StateAt(0, "c-1"), v1::Global::STATE_COMMITTING);
  EXPECT_TRUE(Do(0, Completed("c-1", "b1")).ok());
  EXPECT_TRUE(Do(1, Completed("c-1", "b2")).ok());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(StateAt(i, "c-1"), v1::Global::STATE_COMMITTED) << i;
  EXPECT_EQ(ReasonOf(Do(2, VoteOf("c-none", "b1"))), Reason::GLOBAL_NOT_FOUND);
}

TEST_F(SharedEngineTest, WhoWaitsElsewhereLearnsOfTheDecision) {
  ASSERT_TRUE(Do(0, Create("c-1")).ok());
  std::atomic<int> answered{0};
  GlobalPtr seen;
  engines_[1]->Submit(VoteOf("c-1", "b1"), v1::WAIT_DECIDED, absl::InfiniteFuture(),
                      [&](const absl::Status& status, const GlobalPtr& record) {
                        EXPECT_TRUE(status.ok()) << status;
                        seen = record;
                        ++answered;
                      });
  ASSERT_TRUE(Do(2, VoteOf("c-1", "b2")).ok());
  ASSERT_TRUE(engines_[1]->LearnFromOthers().ok());
  EXPECT_EQ(answered, 0);
  while (ReasonOf(Do(2, Finalize("c-1", v1::DECISION_COMMIT))) == Reason::BRANCHES_NOT_PREPARED)
    absl::SleepFor(absl::Milliseconds(1));
  while (answered == 0) {
    ASSERT_TRUE(engines_[1]->LearnFromOthers().ok());
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(seen->decision(), v1::DECISION_COMMIT);
}

TEST_F(SharedEngineTest, WhoHasWaitedForLongEnoughIsToldWhatIsStoredNow) {
  ASSERT_TRUE(Do(0, Create("c-1")).ok());
  std::atomic<bool> answered{false};
  GlobalPtr seen;
  engines_[1]->Submit(VoteOf("c-1", "b1"), v1::WAIT_DECIDED, absl::Now() + absl::Milliseconds(500),
                      [&](const absl::Status& status, const GlobalPtr& record) {
                        EXPECT_TRUE(status.ok()) << status;
                        seen = record;
                        answered = true;
                      });
  // Nobody tells the first engine: it is up to the answer itself.
  ASSERT_TRUE(Do(2, VoteOf("c-1", "b2")).ok());
  while (ReasonOf(Do(2, Finalize("c-1", v1::DECISION_COMMIT))) == Reason::BRANCHES_NOT_PREPARED)
    absl::SleepFor(absl::Milliseconds(1));
  ASSERT_FALSE(answered) << "too slow to show anything";
  while (!answered) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(seen->decision(), v1::DECISION_COMMIT);
}

TEST_F(SharedEngineTest, DeadlinesAreKeptWhoeverIsGone) {
  ASSERT_TRUE(Do(0, Create("c-1", absl::Milliseconds(100))).ok());
  engines_[0]->ForgetIdle();
  engines_[0]->ForgetIdle();
  EXPECT_EQ(engines_[0]->OpenGlobals(), 0) << "as if it had died";
  const absl::Time give_up = absl::Now() + absl::Seconds(20);
  while (engines_[1]->Undone().empty() && absl::Now() < give_up) absl::SleepFor(absl::Milliseconds(50));
  EXPECT_EQ(StateAt(2, "c-1"), v1::Global::STATE_ROLLING_BACK);
}

TEST_F(SharedEngineTest, WhatIsDecidedIsSeenByAllAndWhatIsIdleIsForgotten) {
  ASSERT_TRUE(Do(0, Create("c-1")).ok());
  ASSERT_TRUE(Do(0, Finalize("c-1", v1::DECISION_ROLLBACK)).ok());
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(engines_[static_cast<size_t>(i)]->Undone().size(), 1U) << i;
    EXPECT_TRUE(engines_[static_cast<size_t>(i)]->UsesResource("r1"));
    EXPECT_FALSE(engines_[static_cast<size_t>(i)]->UsesResource("r3"));
  }
  EXPECT_EQ(engines_[0]->OpenGlobals(), 1);
  engines_[0]->ForgetIdle();
  EXPECT_EQ(engines_[0]->OpenGlobals(), 1) << "asked for since the last time";
  engines_[0]->ForgetIdle();
  EXPECT_EQ(engines_[0]->OpenGlobals(), 0);
  EXPECT_EQ(StateAt(0, "c-1"), v1::Global::STATE_ROLLING_BACK);
}

// Many threads, each with the same transactions at any instance: one decision each, and everybody is told that one.
TEST_F(SharedEngineTest, OneDecisionWhoeverIsAsked) {
  constexpr int kGlobals = 40;
  std::vector<std::vector<v1::Decision>> told(kGlobals);
  Mutex mutex;
  std::atomic<bool> stop{false};
  std::thread learner([&] {
    while (!stop) {
      for (const auto& engine : engines_) EXPECT_TRUE(engine->LearnFromOthers().ok());
      engines_[1]->ForgetIdle();
    }
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      std::minstd_rand random(static_cast<unsigned>(t) + 1);
      for (int n = 0; n < kGlobals; ++n) {
        const std::string gtrid = absl::StrCat("c-", n);
        const auto at = [&] { return static_cast<int>(random() % engines_.size()); };
        EXPECT_TRUE(Do(at(), Create(gtrid)).ok() || true);
        (void)Do(at(), VoteOf(gtrid, "b1"));
        if (t % 2 == 0) (void)Do(at(), VoteOf(gtrid, "b2"));
        (void)Do(at(), Finalize(gtrid, t % 3 == 0 ? v1::DECISION_ROLLBACK : v1::DECISION_COMMIT));
        const auto record = engines_[static_cast<size_t>(at())]->ReadAndWait(gtrid);
        ASSERT_TRUE(record.ok() && *record != nullptr);
        MutexLock lock(&mutex);
        if ((*record)->decision() != v1::DECISION_UNSPECIFIED)
          told[static_cast<size_t>(n)].push_back((*record)->decision());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  stop = true;
  learner.join();
  for (int n = 0; n < kGlobals; ++n) {
    const auto record = store_->Read(absl::StrCat("c-", n));
    ASSERT_TRUE(record.ok());
    EXPECT_FALSE(told[static_cast<size_t>(n)].empty());
    for (const v1::Decision decision : told[static_cast<size_t>(n)]) EXPECT_EQ(decision, (*record)->decision()) << n;
  }
}

}  // namespace
}  // namespace assent
