#include "base/timer.h"

#include <algorithm>
#include <chrono>

namespace assent {

constexpr absl::Duration Timer::kMaxSleep;

Timer::Timer(Clock* clock) : clock_(clock), thread_([this] { Run(); }) {}

Timer::~Timer() { Stop(); }

void Timer::Stop() {
  if (!thread_.joinable()) return;
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  changed_.NotifyAll();
  thread_.join();
}

Timer::Id Timer::Schedule(absl::Time when, std::function<void()> fn) {
  bool first = false;
  Id id;
  {
    MutexLock lock(&mutex_);
    id = Id(when, next_++);
    first = pending_.emplace(id, std::move(fn)).first == pending_.begin();
  }
  if (first) changed_.NotifyAll();  // Otherwise the thread wakes early enough by itself.
  return id;
}

void Timer::Cancel(const Id& id) {
  std::function<void()> dropped;  // Declared before the lock, so destroyed after it: it may own anything.
  MutexLock lock(&mutex_);
  const auto it = pending_.find(id);
  if (it == pending_.end()) return;
  dropped = std::move(it->second);
  pending_.erase(it);
}

void Timer::Poke() { changed_.NotifyAll(); }

void Timer::Run() {
  mutex_.Lock();
  while (!stopping_) {
    const absl::Time now = clock_->Now();
    if (!pending_.empty() && pending_.begin()->first.first <= now) {
      std::function<void()> fn = std::move(pending_.begin()->second);
      pending_.erase(pending_.begin());
      mutex_.Unlock();
      fn();
      fn = nullptr;  // Its captures go without the lock, too.
      mutex_.Lock();
      continue;
    }
    const absl::Duration sleep =
        pending_.empty() ? kMaxSleep : std::min(kMaxSleep, pending_.begin()->first.first - now);
    changed_.WaitUntil(&mutex_, std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(sleep));
  }
  mutex_.Unlock();
}

}  // namespace assent
