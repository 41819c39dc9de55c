#include "coordinator/engine.h"

#include <cstdlib>
#include <filesystem>
#include <set>
#include <thread>

#include "base/errors.h"
#include "base/timestamp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/sqlite_store.h"

namespace assent {
namespace {

using ::testing::HasSubstr;

// A real store whose answers can be held back or replaced, to see what the engine does meanwhile and afterwards.
class ScriptedStore : public Store {
 public:
  explicit ScriptedStore(std::unique_ptr<Store> real) : real_(std::move(real)) {}
  ~ScriptedStore() override { Release(); }

  // From now on writes are kept until Release.
  void Hold() {
    MutexLock lock(&mutex_);
    holding_ = true;
  }
  int held() {
    MutexLock lock(&mutex_);
    return static_cast<int>(held_.size());
  }
  void Release() {
    std::vector<std::pair<Transition, Done>> held;
    {
      MutexLock lock(&mutex_);
      holding_ = false;
      held.swap(held_);
    }
    for (auto& each : held) Submit(std::move(each.first), std::move(each.second));
  }
  // The next write gets this answer; it is really applied if `apply`.
  void FailNext(TransitionResult::Code code, bool apply) {
    MutexLock lock(&mutex_);
    fail_next_ = true;
    fail_code_ = code;
    fail_apply_ = apply;
  }
  void FailSettle(bool fail) { fail_settle_ = fail; }
  void PretendPowerLoss() { power_loss_ = true; }

  void Submit(Transition transition, Done done) override {
    TransitionResult failure;
    {
      MutexLock lock(&mutex_);
      if (holding_) {
        held_.emplace_back(std::move(transition), std::move(done));
        return;
      }
      if (!fail_next_) {
        real_->Submit(std::move(transition), std::move(done));
        return;
      }
      fail_next_ = false;
      failure.code = fail_code_;
      failure.status = MakeError(Reason::STORE_UNAVAILABLE, "scripted");
      if (!fail_apply_) {
        std::thread([done, failure] { done(failure); }).detach();
        return;
      }
    }
    real_->Submit(std::move(transition), [done, failure](TransitionResult) { done(failure); });
  }
  absl::StatusOr<GlobalPtr> Settle(absl::string_view gtrid) override {
    if (fail_settle_) return MakeError(Reason::STORE_UNAVAILABLE, "scripted");
    return real_->Settle(gtrid);
  }
  absl::StatusOr<GlobalPtr> Read(absl::string_view gtrid) override { return real_->Read(gtrid); }
  absl::StatusOr<ListPage> List(const ListQuery& query) override { return real_->List(query); }
  absl::StatusOr<std::vector<GlobalPtr>> ReadOpen(absl::string_view after, int limit) override {
    return real_->ReadOpen(after, limit);
  }
  absl::StatusOr<std::vector<GlobalPtr>> ReadChanged(absl::Span<const KnownRevision> known) override {
    return real_->ReadChanged(known);
  }
  absl::StatusOr<std::vector<std::string>> Purge(absl::Time ended_before, int limit) override {
    return real_->Purge(ended_before, limit);
  }
  absl::StatusOr<StoreSizes> Sizes() override { return real_->Sizes(); }
  Membership& Members() override { return real_->Members(); }
  absl::Status PutResource(const v1::Resource& resource) override { return real_->PutResource(resource); }
  absl::StatusOr<bool> ReplaceResource(const v1::Resource* expected, const v1::Resource& resource) override {
    return real_->ReplaceResource(expected, resource);
  }
  absl::Status RemoveResource(absl::string_view name) override { return real_->RemoveResource(name); }
  absl::StatusOr<std::vector<v1::Resource>> ReadResources() override { return real_->ReadResources(); }
  bool IsShared() const override { return real_->IsShared(); }
  std::string Id() const override { return real_->Id(); }
  bool MayHaveLostLazyWrites() const override { return power_loss_ || real_->MayHaveLostLazyWrites(); }
  bool IsHalfImported() const override { return false; }
  absl::Time Horizon() const override { return real_->Horizon(); }
  absl::StatusOr<absl::Time> ReadHorizon() override { return real_->ReadHorizon(); }
  absl::Status FinishImport(absl::Time) override { return absl::OkStatus(); }
  StoreStats Stats() const override { return real_->Stats(); }

 private:
  std::unique_ptr<Store> real_;
  Mutex mutex_;
  bool holding_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::pair<Transition, Done>> held_ ABSL_GUARDED_BY(mutex_);
  bool fail_next_ ABSL_GUARDED_BY(mutex_) = false;
  TransitionResult::Code fail_code_ ABSL_GUARDED_BY(mutex_) = TransitionResult::Code::kUnknown;
  bool fail_apply_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> fail_settle_{false};
  std::atomic<bool> power_loss_{false};
};

// The answer to one call.
class Answer {
 public:
  Engine::Reply Reply() {
    return [state = state_](const absl::Status& status, const GlobalPtr& record) {
      MutexLock lock(&state->mutex);
      state->status = status;
      state->record = record;
      ++state->count;
      state->changed.NotifyAll();
    };
  }
  absl::Status Wait() {
    MutexLock lock(&state_->mutex);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (state_->count == 0) {
      if (!state_->changed.WaitUntil(&state_->mutex, deadline)) return absl::DeadlineExceededError("no answer");
    }
    return state_->status;
  }
  GlobalPtr record() {
    MutexLock lock(&state_->mutex);
    return state_->record;
  }
  int count() {
    MutexLock lock(&state_->mutex);
    return state_->count;
  }

 private:
  struct State {
    Mutex mutex;
    CondVar changed;
    absl::Status status;
    GlobalPtr record;
    int count = 0;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() {
    std::string folder = (std::filesystem::temp_directory_path() / "engine_test.XXXXXX").string();
    folder_ = mkdtemp(folder.data());
    Open();
  }
  ~EngineTest() override {
    Close();
    std::filesystem::remove_all(folder_);
  }

  void Open(bool power_loss = false, int64_t max_open = 1000) {
    SqliteOptions options;
    options.path = folder_ + "/store.db";
    options.cluster = "test";
    absl::StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = std::make_unique<ScriptedStore>(*std::move(store));
    if (power_loss) store_->PretendPowerLoss();
    timer_ = std::make_unique<Timer>(&clock_);
    executor_ = std::make_unique<Executor>(2, 100);
    EngineOptions engine_options;
    engine_options.max_open_globals = max_open;
    engine_options.on_store_health = [this](bool healthy) { healthy_ = healthy; };
    engine_ = std::make_unique<Engine>(store_.get(), &clock_, timer_.get(), executor_.get(), engine_options);
    ASSERT_TRUE(engine_->Start().ok());
  }
  void Close() {
    if (engine_ == nullptr) return;
    engine_->Drain();
    timer_->Stop();
    executor_->Stop();
    store_.reset();
    engine_.reset();
  }

  Event NewEvent(EventKind kind, const std::string& gtrid) {
    Event event;
    event.kind = kind;
    event.gtrid = gtrid;
    event.now = clock_.Now();
    return event;
  }
  Event Create(const std::string& gtrid, std::vector<std::string> bquals) {
    Event event = NewEvent(EventKind::kCreate, gtrid);
    event.timeout = absl::Seconds(60);
    for (const std::string& bqual : bquals) event.branches.push_back({bqual, "db", ""});
    return event;
  }
  Event Vote(const std::string& gtrid, const std::string& bqual, v1::VoteKind kind = v1::VOTE_KIND_PREPARED) {
    Event event = NewEvent(EventKind::kVote, gtrid);
    event.votes.emplace_back();
    event.votes[0].set_bqual(bqual);
    event.votes[0].set_kind(kind);
    return event;
  }
  Event Finalize(const std::string& gtrid, v1::Decision decision) {
    Event event = NewEvent(EventKind::kFinalize, gtrid);
    event.decision = decision;
    return event;
  }
  Event Complete(const std::string& gtrid, const std::string& bqual) {
    Event event = NewEvent(EventKind::kComplete, gtrid);
    event.bqual = bqual;
    event.result = v1::Completion::RESULT_COMMITTED;
    return event;
  }

  Answer Start(Event event, v1::Wait wait = v1::WAIT_NONE) {
    Answer answer;
    engine_->Submit(std::move(event), wait, absl::InfiniteFuture(), answer.Reply());
    return answer;
  }
  absl::Status Do(Event event) { return Start(std::move(event)).Wait(); }
  GlobalPtr Read(const std::string& gtrid) {
    Answer answer;
    engine_->Read(gtrid, answer.Reply());
    EXPECT_TRUE(answer.Wait().ok());
    return answer.record();
  }
  void Prepare(const std::string& gtrid) {
    ASSERT_TRUE(Do(Create(gtrid, {"a", "b"})).ok());
    ASSERT_TRUE(Do(Vote(gtrid, "a")).ok());
    ASSERT_TRUE(Do(Vote(gtrid, "b")).ok());
  }

  FakeClock clock_{absl::FromUnixSeconds(1700000000)};
  std::string folder_;
  std::unique_ptr<ScriptedStore> store_;
  std::unique_ptr<Timer> timer_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Engine> engine_;
  std::atomic<bool> healthy_{true};
};

TEST_F(EngineTest, CommitsAndForgets) {
  Prepare("g");
  Answer worker = Start(Vote("g", "a"), v1::WAIT_DECIDED);
  Answer applied = Start(Vote("g", "a"), v1::WAIT_APPLIED);
  EXPECT_EQ(worker.count(), 0);
  ASSERT_TRUE(Do(Finalize("g", v1::DECISION_COMMIT)).ok());
  ASSERT_TRUE(worker.Wait().ok());
  EXPECT_EQ(worker.record()->decision(), v1::DECISION_COMMIT);
  EXPECT_EQ(applied.count(), 0) << "not before the last proof";
  ASSERT_TRUE(Do(Complete("g", "a")).ok());
  ASSERT_TRUE(Do(Complete("g", "b")).ok());
  ASSERT_TRUE(applied.Wait().ok());
  EXPECT_EQ(applied.record()->state(), v1::Global::STATE_COMMITTED);
  EXPECT_EQ(engine_->OpenGlobals(), 0) << "finished transactions are not kept in memory";
  EXPECT_EQ(Read("g")->state(), v1::Global::STATE_COMMITTED) << "but they are answered";
  EXPECT_TRUE(Do(Finalize("g", v1::DECISION_COMMIT)).ok()) << "also when asked again";
  EXPECT_EQ(ReasonOf(Do(Finalize("g", v1::DECISION_ROLLBACK))), Reason::GLOBAL_COMMITTED);
  EXPECT_EQ(engine_->OpenGlobals(), 0);
}

TEST_F(EngineTest, NothingIsAnsweredBeforeItIsStored) {
  Prepare("g");
  Answer worker = Start(Vote("g", "a"), v1::WAIT_DECIDED);
  store_->Hold();
  Answer commit = Start(Finalize("g", v1::DECISION_COMMIT));
  Answer refused = Start(Finalize("g", v1::DECISION_ROLLBACK));
  while (store_->held() < 1) std::this_thread::yield();
  EXPECT_EQ(Read("g")->decision(), v1::DECISION_UNSPECIFIED) << "memory changes after the store";
  EXPECT_EQ(worker.count(), 0);
  EXPECT_EQ(commit.count(), 0);
  EXPECT_EQ(refused.count(), 0) << "a refusal waits for what it rests on, too";
  store_->Release();
  EXPECT_TRUE(commit.Wait().ok());
  EXPECT_TRUE(worker.Wait().ok());
  EXPECT_EQ(ReasonOf(refused.Wait()), Reason::GLOBAL_COMMITTED);
}

TEST_F(EngineTest, CommitsAreForcedAndNothingElse) {
  Prepare("g");
  EXPECT_EQ(store_->Stats().forced_groups, 0);
  ASSERT_TRUE(Do(Finalize("g", v1::DECISION_COMMIT)).ok());
  EXPECT_EQ(store_->Stats().forced_groups, 1);
  ASSERT_TRUE(Do(Complete("g", "a")).ok());
  ASSERT_TRUE(Do(Complete("g", "b")).ok());
  Prepare("h");
  ASSERT_TRUE(Do(Finalize("h", v1::DECISION_ROLLBACK)).ok());
  EXPECT_EQ(store_->Stats().forced_groups, 1);
}

TEST_F(EngineTest, ManyCallersRaceAndOneDecisionWins) {
  for (int round = 0; round < 50; ++round) {
    const std::string gtrid = "g" + std::to_string(round);
    Prepare(gtrid);
    std::vector<Answer> answers(8);
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&, i] {
        engine_->Submit(Finalize(gtrid, i % 2 ? v1::DECISION_COMMIT : v1::DECISION_ROLLBACK), v1::WAIT_DECIDED,
                        absl::InfiniteFuture(), answers[i].Reply());
      });
    }
    for (std::thread& thread : threads) thread.join();
    std::set<v1::Decision> told;
    for (int i = 0; i < 8; ++i) {
      const absl::Status status = answers[i].Wait();
      if (status.ok()) told.insert(answers[i].record()->decision());
      if (ReasonOf(status) == Reason::GLOBAL_COMMITTED) told.insert(v1::DECISION_COMMIT);
      if (ReasonOf(status) == Reason::GLOBAL_ROLLED_BACK) told.insert(v1::DECISION_ROLLBACK);
    }
    EXPECT_EQ(told.size(), 1u) << "everybody is told the one decision";
    EXPECT_EQ(*told.begin(), Read(gtrid)->decision());
  }
}

TEST_F(EngineTest, DeadlineRollsBack) {
  ASSERT_TRUE(Do(Create("g", {"a"})).ok());
  Answer worker = Start(Vote("g", "a"), v1::WAIT_DECIDED);
  clock_.Advance(absl::Milliseconds(59999));
  timer_->Poke();
  EXPECT_EQ(Read("g")->state(), v1::Global::STATE_ACTIVE);
  clock_.Advance(absl::Milliseconds(1));
  timer_->Poke();
  ASSERT_TRUE(worker.Wait().ok());
  EXPECT_EQ(worker.record()->decision(), v1::DECISION_ROLLBACK);
  EXPECT_EQ(worker.record()->cause(), v1::DECISION_CAUSE_DEADLINE);
}

TEST_F(EngineTest, ALateTimerDoesNotExtendTheDeadline) {
  Prepare("g");
  clock_.Advance(absl::Seconds(60));  // Nobody pokes the timer.
  EXPECT_EQ(ReasonOf(Do(Finalize("g", v1::DECISION_COMMIT))), Reason::GLOBAL_ROLLED_BACK);
  EXPECT_EQ(Read("g")->cause(), v1::DECISION_CAUSE_DEADLINE);
}

TEST_F(EngineTest, DeadlineIsRepeatedUntilTheStoreTakesIt) {
  ASSERT_TRUE(Do(Create("g", {"a"})).ok());
  store_->FailNext(TransitionResult::Code::kNotApplied, false);
  clock_.Advance(absl::Seconds(61));
  timer_->Poke();
  while (healthy_) absl::SleepFor(absl::Milliseconds(1));  // The first attempt has met its refusal.
  Answer worker = Start(Vote("g", "a"), v1::WAIT_DECIDED);
  for (int i = 0; i < 100 && worker.count() == 0; ++i) {
    clock_.Advance(absl::Seconds(1));
    timer_->Poke();
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_EQ(Read("g")->decision(), v1::DECISION_ROLLBACK);
}

TEST_F(EngineTest, NotAppliedChangesNothingAndIsSaid) {
  Prepare("g");
  store_->FailNext(TransitionResult::Code::kNotApplied, false);
  EXPECT_EQ(ReasonOf(Do(Finalize("g", v1::DECISION_COMMIT))), Reason::STORE_UNAVAILABLE);
  EXPECT_FALSE(healthy_);
  EXPECT_EQ(Read("g")->state(), v1::Global::STATE_ACTIVE);
  EXPECT_TRUE(Do(Finalize("g", v1::DECISION_COMMIT)).ok());
  EXPECT_TRUE(healthy_);
}

TEST_F(EngineTest, UnknownFateIsReadBackBeforeAnybodyIsTold) {
  for (const bool applied : {true, false}) {
    const std::string gtrid = applied ? "applied" : "lost";
    Prepare(gtrid);
    Answer worker = Start(Vote(gtrid, "a"), v1::WAIT_DECIDED);
    store_->FailSettle(true);
    store_->FailNext(TransitionResult::Code::kUnknown, applied);
    EXPECT_EQ(ReasonOf(Do(Finalize(gtrid, v1::DECISION_COMMIT))), Reason::STORE_UNAVAILABLE);
    EXPECT_EQ(worker.count(), 0);
    EXPECT_EQ(ReasonOf(Do(Finalize(gtrid, v1::DECISION_ROLLBACK))), Reason::STORE_UNAVAILABLE)
        << "nothing is decided meanwhile";
    store_->FailSettle(false);
    absl::Status status = MakeError(Reason::STORE_UNAVAILABLE, "");
    for (int i = 0; i < 1000 && ReasonOf(status) == Reason::STORE_UNAVAILABLE; ++i) {
      clock_.Advance(absl::Seconds(1));
      timer_->Poke();
      absl::SleepFor(absl::Milliseconds(5));
      status = Do(Finalize(gtrid, v1::DECISION_ROLLBACK));
    }
    if (applied) {
      EXPECT_EQ(ReasonOf(status), Reason::GLOBAL_COMMITTED) << status;
    } else {
      EXPECT_TRUE(status.ok()) << status;
    }
    ASSERT_TRUE(worker.Wait().ok());
    EXPECT_EQ(worker.record()->decision(), applied ? v1::DECISION_COMMIT : v1::DECISION_ROLLBACK);
  }
}

TEST_F(EngineTest, RestartKeepsDecisionsAndUndecided) {
  Prepare("committed");
  ASSERT_TRUE(Do(Finalize("committed", v1::DECISION_COMMIT)).ok());
  Prepare("undecided");
  Close();
  Open();
  EXPECT_EQ(Read("committed")->decision(), v1::DECISION_COMMIT);
  Answer worker = Start(Vote("undecided", "a"), v1::WAIT_DECIDED);
  EXPECT_EQ(worker.count(), 0);
  ASSERT_TRUE(Do(Finalize("undecided", v1::DECISION_COMMIT)).ok());
  ASSERT_TRUE(worker.Wait().ok());
  Prepare("late");
  Close();
  clock_.Advance(absl::Seconds(61));
  Open();
  Answer late = Start(Vote("late", "a"), v1::WAIT_DECIDED);
  ASSERT_TRUE(late.Wait().ok());
  EXPECT_EQ(late.record()->cause(), v1::DECISION_CAUSE_DEADLINE) << "deadlines go on after a restart";
}

TEST_F(EngineTest, AfterPowerLossTheUndecidedIsRolledBack) {
  Prepare("undecided");
  Prepare("committed");
  ASSERT_TRUE(Do(Finalize("committed", v1::DECISION_COMMIT)).ok());
  Close();
  Open(/*power_loss=*/true);
  EXPECT_EQ(ReasonOf(Do(Finalize("undecided", v1::DECISION_COMMIT))), Reason::GLOBAL_ROLLED_BACK);
  EXPECT_EQ(Read("undecided")->cause(), v1::DECISION_CAUSE_PRESUMED_ABORT);
  EXPECT_EQ(Read("committed")->decision(), v1::DECISION_COMMIT);
}

TEST_F(EngineTest, RequestIdFindsTheSameTransaction) {
  Event first = Create("g1", {"a"});
  first.request_id = "r";
  ASSERT_TRUE(Do(first).ok());
  Event again = Create("g2", {"a"});
  again.request_id = "r";
  Answer answer = Start(again);
  ASSERT_TRUE(answer.Wait().ok());
  EXPECT_EQ(answer.record()->gtrid(), "g1");
  EXPECT_EQ(Read("g2"), nullptr);
  again.timeout = absl::Seconds(1);
  again.gtrid = "g3";
  EXPECT_EQ(ReasonOf(Do(again)), Reason::REQUEST_ID_REUSED);
  EXPECT_EQ(engine_->OpenGlobals(), 1);
}

TEST_F(EngineTest, RequestIdWithAnotherGtridIsRefused) {
  Event first = Create("g1", {"a"});
  first.request_id = "r";
  first.brings_gtrid = true;
  ASSERT_TRUE(Do(first).ok());
  Event other = Create("g2", {"a"});
  other.request_id = "r";
  other.brings_gtrid = true;
  const absl::Status status = Do(other);
  EXPECT_EQ(ReasonOf(status), Reason::REQUEST_ID_REUSED) << status;
  EXPECT_EQ(MetadataOf(status)["field"], "gtrid");
}

// A Create does not look first: until the store has answered, what is there is not known, which is not the same as
// nothing.
TEST_F(EngineTest, DuplicateCreateOfAFinishedTransactionHidesNothing) {
  Prepare("fin");
  ASSERT_TRUE(Do(Finalize("fin", v1::DECISION_COMMIT)).ok());
  ASSERT_TRUE(Do(Complete("fin", "a")).ok());
  ASSERT_TRUE(Do(Complete("fin", "b")).ok());
  ASSERT_EQ(engine_->OpenGlobals(), 0);
  for (const bool store_refuses : {false, true}) {
    store_->Hold();
    Answer create = Start(Create("fin", {"a", "b"}));
    Answer read;
    engine_->Read("fin", read.Reply());
    Answer vote = Start(Vote("fin", "a"), v1::WAIT_DECIDED);
    EXPECT_EQ(read.count(), 0);
    if (store_refuses) store_->FailNext(TransitionResult::Code::kNotApplied, false);
    store_->Release();
    if (store_refuses) {
      EXPECT_EQ(ReasonOf(create.Wait()), Reason::STORE_UNAVAILABLE);
    } else {
      EXPECT_TRUE(create.Wait().ok());
    }
    ASSERT_TRUE(read.Wait().ok());
    ASSERT_NE(read.record(), nullptr);
    EXPECT_EQ(read.record()->state(), v1::Global::STATE_COMMITTED);
    ASSERT_TRUE(vote.Wait().ok());
    EXPECT_EQ(vote.record()->decision(), v1::DECISION_COMMIT);
  }
}

TEST_F(EngineTest, StartFailsWithWordsIfItCannotRollBack) {
  Prepare("undecided");
  Close();
  Open();  // Its engine has started; a second one on the same store is what is tried here.
  store_->PretendPowerLoss();
  store_->FailNext(TransitionResult::Code::kNotApplied, false);
  Engine second(store_.get(), &clock_, timer_.get(), executor_.get(), EngineOptions());
  EXPECT_EQ(ReasonOf(second.Start()), Reason::STORE_UNAVAILABLE);
  second.Drain();
  timer_->Stop();  // They hold timers of both engines.
}

TEST_F(EngineTest, WaitersGiveUpAreCancelledAndDrained) {
  ASSERT_TRUE(Do(Create("g", {"a"})).ok());
  Answer gives_up;
  engine_->Submit(Vote("g", "a"), v1::WAIT_DECIDED, clock_.Now() + absl::Seconds(5), gives_up.Reply());
  Answer cancelled;
  Engine::CallPtr call = engine_->Submit(Vote("g", "a"), v1::WAIT_DECIDED, absl::InfiniteFuture(), cancelled.Reply());
  Answer drained = Start(Vote("g", "a"), v1::WAIT_DECIDED);
  ASSERT_TRUE(Do(Vote("g", "a")).ok());
  clock_.Advance(absl::Seconds(5));
  timer_->Poke();
  ASSERT_TRUE(gives_up.Wait().ok());
  EXPECT_EQ(gives_up.record()->decision(), v1::DECISION_UNSPECIFIED);
  engine_->Cancel(call);
  EXPECT_TRUE(absl::IsCancelled(cancelled.Wait()));
  EXPECT_EQ(drained.count(), 0);
  engine_->Drain();
  EXPECT_EQ(ReasonOf(drained.Wait()), Reason::SHUTTING_DOWN);
  EXPECT_EQ(ReasonOf(Do(Vote("g", "a"))), Reason::SHUTTING_DOWN);
  engine_->Cancel(call);
  EXPECT_EQ(cancelled.count(), 1);
}

TEST_F(EngineTest, OpenTransactionsAreLimited) {
  Close();
  Open(false, 2);
  ASSERT_TRUE(Do(Create("g1", {"a"})).ok());
  ASSERT_TRUE(Do(Create("g2", {"a"})).ok());
  const absl::Status status = Do(Create("g3", {"a"}));
  EXPECT_EQ(ReasonOf(status), Reason::TOO_MANY_OPEN_GLOBALS);
  ASSERT_TRUE(Do(Finalize("g1", v1::DECISION_ROLLBACK)).ok());
  Event gone = Complete("g1", "a");
  gone.result = v1::Completion::RESULT_ROLLED_BACK;
  ASSERT_TRUE(Do(gone).ok());
  EXPECT_TRUE(Do(Create("g3", {"a"})).ok()) << "room again";
}

TEST_F(EngineTest, KnowsWhichResourcesAreInUse) {
  EXPECT_FALSE(engine_->UsesResource("db"));
  ASSERT_TRUE(Do(Create("g", {"a"})).ok());
  EXPECT_TRUE(engine_->UsesResource("db"));
  EXPECT_FALSE(engine_->UsesResource("other"));
}

TEST_F(EngineTest, UnknownTransactionIsNotFoundAndNotKept) {
  EXPECT_EQ(ReasonOf(Do(Finalize("nobody", v1::DECISION_COMMIT))), Reason::GLOBAL_NOT_FOUND);
  EXPECT_EQ(Read("nobody"), nullptr);
  EXPECT_EQ(engine_->OpenGlobals(), 0);
}

TEST_F(EngineTest, ManyTransactionsFromManyThreads) {
  constexpr int kThreads = 8, kEach = 300;
  std::vector<std::thread> threads;
  std::atomic<int> committed{0};
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        const std::string gtrid = "g" + std::to_string(t) + "." + std::to_string(i);
        ASSERT_TRUE(Do(Create(gtrid, {"a", "b"})).ok());
        Answer a = Start(Vote(gtrid, "a"), v1::WAIT_DECIDED);
        Answer b = Start(Vote(gtrid, "b"), v1::WAIT_DECIDED);
        absl::Status status;
        do status = Do(Finalize(gtrid, v1::DECISION_COMMIT));
        while (ReasonOf(status) == Reason::BRANCHES_NOT_PREPARED);
        ASSERT_TRUE(status.ok()) << status;
        ASSERT_TRUE(a.Wait().ok());
        ASSERT_TRUE(b.Wait().ok());
        ASSERT_TRUE(Do(Complete(gtrid, "a")).ok());
        Answer last = Start(Complete(gtrid, "b"));
        ASSERT_TRUE(last.Wait().ok());
        committed += last.record()->state() == v1::Global::STATE_COMMITTED;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(committed, kThreads * kEach);
  EXPECT_EQ(engine_->OpenGlobals(), 0);
  EXPECT_LT(store_->Stats().forced_groups, kThreads * kEach) << "commits share forced writes";
}

TEST_F(EngineTest, AWholeTransactionIsOneForcedWrite) {
  Event whole = Create("g", {"a", "b"});
  whole.kind = EventKind::kFinalize;
  whole.creates = true;
  whole.decision = v1::DECISION_COMMIT;
  for (const char* bqual : {"a", "b"}) whole.votes.push_back(Vote("g", bqual).votes[0]);
  const StoreStats before = store_->Stats();
  for (int repetition = 0; repetition < 2; ++repetition) {
    const absl::StatusOr<GlobalPtr> record = engine_->SubmitAndWait(whole);
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_EQ((*record)->state(), v1::Global::STATE_COMMITTING);
  }
  EXPECT_EQ(store_->Stats().transitions - before.transitions, 1);
  EXPECT_EQ(store_->Stats().forced_groups - before.forced_groups, 1);
}

TEST_F(EngineTest, AWholeTransactionThatComesAfterItsOrphanWasBuriedLoses) {
  ASSERT_TRUE(engine_->SubmitAndWait(NewEvent(EventKind::kOrphan, "g")).ok());
  Event whole = Create("g", {});
  whole.kind = EventKind::kFinalize;
  whole.creates = true;
  whole.decision = v1::DECISION_COMMIT;
  const absl::StatusOr<GlobalPtr> record = engine_->SubmitAndWait(whole);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ((*record)->state(), v1::Global::STATE_ROLLED_BACK);
}

TEST_F(EngineTest, NeighboursOfOneTransactionBecomeOneWrite) {
  ASSERT_TRUE(engine_->SubmitAndWait(Create("g", {"a", "b"})).ok());
  ASSERT_TRUE(engine_->SubmitAndWait(Create("h", {"a"})).ok());
  const StoreStats before = store_->Stats();
  const auto answers = engine_->SubmitAllAndWait(
      {Vote("g", "a"), Vote("g", "nobody"), Vote("g", "b"), Vote("h", "a"), Vote("absent", "a")});
  ASSERT_EQ(answers.size(), 5u);
  EXPECT_EQ((*answers[0])->revision(), 3) << "both of its votes";
  EXPECT_EQ(ReasonOf(answers[1].status()), Reason::BRANCH_NOT_FOUND) << "each is answered for itself";
  EXPECT_EQ((*answers[2])->branches(1).state(), v1::Branch::STATE_PREPARED);
  EXPECT_EQ((*answers[3])->gtrid(), "h");
  EXPECT_EQ(ReasonOf(answers[4].status()), Reason::GLOBAL_NOT_FOUND);
  EXPECT_EQ(store_->Stats().transitions - before.transitions, 2);
}

}  // namespace
}  // namespace assent
