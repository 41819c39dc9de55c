// Timer: runs functions at a time of day, on one thread of its own.
#ifndef ASSENT_BASE_TIMER_H_
#define ASSENT_BASE_TIMER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <thread>
#include <utility>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"

namespace assent {

// Thread-safe. Resolution about a millisecond; a jump of the clock is noticed within kMaxSleep.
class Timer {
 public:
  static constexpr absl::Duration kMaxSleep = absl::Milliseconds(500);
  using Id = std::pair<absl::Time, uint64_t>;

  // `clock` must outlive the timer.
  explicit Timer(Clock* clock);
  // Stops.
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // Runs `fn` once, at `when` or as soon after as possible, with no lock held. It must not block. May be called from
  // within a running function.
  Id Schedule(absl::Time when, std::function<void()> fn);
  // The function will not start any more, unless it has already started. Unknown or finished ids are ignored.
  void Cancel(const Id& id);
  // Waits for the function that is running. From then on nothing runs, and Schedule does nothing. May be repeated, by
  // one thread.
  void Stop();
  // Looks at the clock now. For tests that move a FakeClock.
  void Poke();

 private:
  void Run();

  Clock* const clock_;
  Mutex mutex_;
  CondVar changed_;
  std::map<Id, std::function<void()>> pending_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 1;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // Last: it uses everything above.
};

}  // namespace assent

#endif  // ASSENT_BASE_TIMER_H_
