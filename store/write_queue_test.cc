#include "store/write_queue.h"

#include <chrono>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using ::testing::ElementsAre;

// A queue whose groups are only counted. The gate holds the writing thread back in the middle of a group.
class WriteQueueTest : public ::testing::Test {
 protected:
  void Open(std::chrono::microseconds gather) {
    WriteQueue::Limits limits;
    limits.busy = 3;
    limits.company = 5;
    limits.gather = gather;
    WriteQueue::Work work;
    work.apply = [this](const std::vector<PendingTransition>& group) {
      MutexLock lock(&mutex_);
      groups_.push_back(group.size());
      changed_.NotifyAll();
      while (closed_) changed_.Wait(&mutex_);
      return std::vector<TransitionResult>(group.size());
    };
    work.after_group = work.idle = [] {};
    queue_ = std::make_unique<WriteQueue>(limits, std::move(work));
  }

  void Submit(int count, Durability durability) {
    for (int i = 0; i < count; ++i) {
      Transition transition;
      transition.next = std::make_shared<const v1::Global>();
      transition.durability = durability;
      queue_->Submit(std::move(transition), [this](TransitionResult) {
        MutexLock lock(&mutex_);
        ++told_;
        changed_.NotifyAll();
      });
    }
  }

  void Close(bool closed) {
    MutexLock lock(&mutex_);
    closed_ = closed;
    changed_.NotifyAll();
  }

  void AwaitGroups(size_t count) {
    MutexLock lock(&mutex_);
    while (groups_.size() < count) changed_.Wait(&mutex_);
  }

  void AwaitTold(int count) {
    MutexLock lock(&mutex_);
    while (told_ < count) changed_.Wait(&mutex_);
  }

  // One group of `count` forced ones behind one of a single one.
  void WriteBusyGroup(int count) {
    Close(true);
    Submit(1, Durability::kForced);
    AwaitGroups(1);
    Submit(count, Durability::kForced);
    Close(false);
    AwaitTold(1 + count);
  }

  std::vector<size_t> Groups() {
    MutexLock lock(&mutex_);
    return groups_;
  }

  static constexpr std::chrono::seconds kForever{1000};
  Mutex mutex_;
  CondVar changed_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  int told_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<size_t> groups_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<WriteQueue> queue_;
};

constexpr std::chrono::seconds WriteQueueTest::kForever;

TEST_F(WriteQueueTest, BehindABusyGroupTheNextWaitsForCompany) {
  Open(kForever);
  WriteBusyGroup(3);
  Submit(4, Durability::kForced);
  Submit(9, Durability::kLazy);  // These are no company: they share a forced write whenever it comes.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_THAT(Groups(), ElementsAre(1, 3));
  Submit(1, Durability::kForced);
  AwaitTold(4 + 14);
  EXPECT_THAT(Groups(), ElementsAre(1, 3, 14));
}

TEST_F(WriteQueueTest, OnlySoLong) {
  Open(std::chrono::milliseconds(1));
  WriteBusyGroup(3);
  Submit(1, Durability::kForced);
  AwaitTold(5);
  EXPECT_THAT(Groups(), ElementsAre(1, 3, 1));
}

TEST_F(WriteQueueTest, BehindAGroupThatIsNotBusyNobodyWaits) {
  Open(kForever);
  WriteBusyGroup(2);
  Submit(1, Durability::kForced);
  AwaitTold(4);
}

TEST_F(WriteQueueTest, NeitherAJobNorTheEndWaits) {
  Open(kForever);
  WriteBusyGroup(3);
  Submit(1, Durability::kForced);
  bool has_run = false;
  queue_->RunBlocking([&] { has_run = true; });
  EXPECT_TRUE(has_run);
  AwaitTold(5);

  Close(true);
  Submit(1, Durability::kForced);
  AwaitGroups(4);
  Submit(3, Durability::kForced);
  Close(false);
  AwaitTold(9);
  Submit(1, Durability::kForced);
  queue_->Finish();
  AwaitTold(10);
}

}  // namespace
}  // namespace assent
