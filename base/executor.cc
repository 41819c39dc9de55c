#include "base/executor.h"

#include <utility>

namespace assent {

Executor::Executor(int threads, size_t queue_limit) : queue_limit_(queue_limit) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

Executor::~Executor() { Stop(); }

void Executor::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  changed_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

bool Executor::Run(std::function<void()> fn) {
  {
    MutexLock lock(&mutex_);
    if (stopping_ || queue_.size() >= queue_limit_) return false;
    queue_.push_back(std::move(fn));
  }
  changed_.NotifyOne();
  return true;
}

void Executor::Work() {
  mutex_.Lock();
  for (;;) {
    while (queue_.empty() && !stopping_) changed_.Wait(&mutex_);
    if (queue_.empty()) break;
    std::function<void()> fn = std::move(queue_.front());
    queue_.pop_front();
    mutex_.Unlock();
    fn();
    fn = nullptr;
    mutex_.Lock();
  }
  mutex_.Unlock();
}

}  // namespace assent
