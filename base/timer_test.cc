#include "base/timer.h"

#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

// What ran, in order.
class Log {
 public:
  void Add(int what) {
    MutexLock lock(&mutex_);
    entries_.push_back(what);
    changed_.NotifyAll();
  }
  std::vector<int> Await(size_t count) {
    MutexLock lock(&mutex_);
    while (entries_.size() < count) changed_.Wait(&mutex_);
    return entries_;
  }
  std::vector<int> Now() {
    MutexLock lock(&mutex_);
    return entries_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<int> entries_ ABSL_GUARDED_BY(mutex_);
};

constexpr absl::Time kStart = absl::UnixEpoch();

TEST(TimerTest, RunsInOrderOfTimeAndNothingEarly) {
  FakeClock clock(kStart);
  Log log;
  Timer timer(&clock);
  timer.Schedule(kStart + absl::Seconds(3), [&log] { log.Add(3); });
  timer.Schedule(kStart + absl::Seconds(1), [&log] { log.Add(1); });
  timer.Schedule(kStart + absl::Seconds(2), [&log] { log.Add(2); });
  clock.Advance(absl::Milliseconds(1999));
  timer.Poke();
  EXPECT_EQ(log.Await(1), (std::vector<int>{1}));
  clock.Advance(absl::Milliseconds(1001));
  timer.Poke();
  EXPECT_EQ(log.Await(3), (std::vector<int>{1, 2, 3}));
}

TEST(TimerTest, SameTimeRunsInOrderOfSchedule) {
  FakeClock clock(kStart);
  Log log;
  Timer timer(&clock);
  for (int i = 0; i < 5; ++i) timer.Schedule(kStart + absl::Seconds(1), [&log, i] { log.Add(i); });
  clock.Advance(absl::Seconds(1));
  timer.Poke();
  EXPECT_EQ(log.Await(5), (std::vector<int>{0, 1, 2, 3, 4}));
}

TEST(TimerTest, ACancelledFunctionNeverRuns) {
  FakeClock clock(kStart);
  Log log;
  Timer timer(&clock);
  const Timer::Id id = timer.Schedule(kStart + absl::Seconds(1), [&log] { log.Add(1); });
  timer.Schedule(kStart + absl::Seconds(2), [&log] { log.Add(2); });
  timer.Cancel(id);
  timer.Cancel(id);
  clock.Advance(absl::Seconds(2));
  timer.Poke();
  EXPECT_EQ(log.Await(1), (std::vector<int>{2}));
  timer.Cancel(id);
}

TEST(TimerTest, AFunctionMayScheduleAndCancel) {
  FakeClock clock(kStart);
  Log log;
  Timer timer(&clock);
  const Timer::Id victim = timer.Schedule(kStart + absl::Seconds(1), [&log] { log.Add(99); });
  timer.Schedule(kStart, [&] {
    timer.Cancel(victim);
    timer.Schedule(kStart + absl::Seconds(1), [&log] { log.Add(2); });
    log.Add(1);
  });
  EXPECT_EQ(log.Await(1), (std::vector<int>{1}));
  clock.Advance(absl::Seconds(1));
  timer.Poke();
  EXPECT_EQ(log.Await(2), (std::vector<int>{1, 2}));
}

TEST(TimerTest, WhatIsDueRunsAtOnceOnTheRealClock) {
  Log log;
  Timer timer(Clock::Real());
  timer.Schedule(absl::Now() + absl::Hours(1), [&log] { log.Add(99); });
  const absl::Time begin = absl::Now();
  timer.Schedule(begin + absl::Milliseconds(20), [&log] { log.Add(1); });
  EXPECT_EQ(log.Await(1), (std::vector<int>{1}));
  const absl::Duration took = absl::Now() - begin;
  EXPECT_GE(took, absl::Milliseconds(20));
  // The later function put the thread to sleep for up to kMaxSleep: the earlier one must have woken it.
  EXPECT_LT(took, Timer::kMaxSleep - absl::Milliseconds(100));
}

TEST(TimerTest, AJumpOfTheClockIsNoticedWithoutBeingTold) {
  FakeClock clock(kStart);
  Log log;
  Timer timer(&clock);
  timer.Schedule(kStart + absl::Hours(1), [&log] { log.Add(1); });
  clock.Advance(absl::Hours(2));  // No Poke.
  EXPECT_EQ(log.Await(1), (std::vector<int>{1}));
}

TEST(TimerTest, AfterStopNothingRuns) {
  FakeClock clock(kStart);
  Log log;
  Timer timer(&clock);
  timer.Schedule(kStart + absl::Seconds(1), [&log] { log.Add(1); });
  timer.Stop();
  clock.Advance(absl::Hours(1));
  timer.Schedule(kStart, [&log] { log.Add(2); });
  timer.Poke();
  timer.Stop();
  EXPECT_TRUE(log.Now().empty());
}

}  // namespace
}  // namespace assent
