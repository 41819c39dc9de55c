#include "base/executor.h"

#include <atomic>
#include <memory>
#include <thread>

#include "gtest/gtest.h"

namespace assent {
namespace {

// Holds whoever comes until it is opened.
class Gate {
 public:
  void Wait() {
    MutexLock lock(&mutex_);
    ++waiting_;
    changed_.NotifyAll();
    while (!open_) changed_.Wait(&mutex_);
  }
  void AwaitWaiting(int count) {
    MutexLock lock(&mutex_);
    while (waiting_ < count) changed_.Wait(&mutex_);
  }
  void Open() {
    MutexLock lock(&mutex_);
    open_ = true;
    changed_.NotifyAll();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
};

TEST(ExecutorTest, RunsAsManyAtOnceAsItHasThreads) {
  Executor executor(3, 10);
  Gate gate;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(executor.Run([&gate] { gate.Wait(); }));
  gate.AwaitWaiting(3);  // Would hang if one waited behind another.
  gate.Open();
}

TEST(ExecutorTest, RefusesWhatExceedsItsQueueAndTakesMoreLater) {
  Gate gate;
  std::atomic<int> ran{0};
  Executor executor(1, 2);
  ASSERT_TRUE(executor.Run([&gate] { gate.Wait(); }));
  gate.AwaitWaiting(1);  // It runs, so it is not in the queue.
  EXPECT_TRUE(executor.Run([&ran] { ++ran; }));
  EXPECT_TRUE(executor.Run([&ran] { ++ran; }));
  EXPECT_FALSE(executor.Run([&ran] { ran += 100; }));
  gate.Open();
  while (ran < 2) std::this_thread::yield();
  EXPECT_TRUE(executor.Run([&ran] { ++ran; }));
  executor.Stop();
  EXPECT_EQ(ran, 3);
}

TEST(ExecutorTest, StopRunsWhatWasAcceptedAndRefusesTheRest) {
  std::atomic<int> ran{0};
  Executor executor(2, 1000);
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(executor.Run([&ran] { ++ran; }));
  executor.Stop();
  EXPECT_EQ(ran, 500);
  EXPECT_FALSE(executor.Run([&ran] { ++ran; }));
  executor.Stop();
  EXPECT_EQ(ran, 500);
}

TEST(ExecutorTest, WhatAFunctionHoldsIsReleasedOnceItHasRun) {
  Executor executor(1, 10);
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watch = held;
  ASSERT_TRUE(executor.Run([held = std::move(held)] {}));
  while (!watch.expired()) std::this_thread::yield();  // Not only at the end, or with the next function.
}

}  // namespace
}  // namespace assent
