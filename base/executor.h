// Executor: a few threads that run what may block, so that nobody else has to.
#ifndef ASSENT_BASE_EXECUTOR_H_
#define ASSENT_BASE_EXECUTOR_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "base/mutex.h"

namespace assent {

// Thread-safe.
class Executor {
 public:
  Executor(int threads, size_t queue_limit);
  // Stops.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Runs everything that was accepted, then returns. From then on nothing is accepted. May be repeated, by one thread.
  void Stop();

  // False, and `fn` is dropped, if the queue is full or the executor has stopped.
  bool Run(std::function<void()> fn);

 private:
  void Work();

  const size_t queue_limit_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace assent

#endif  // ASSENT_BASE_EXECUTOR_H_
