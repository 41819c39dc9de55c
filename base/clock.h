// Clock: the time of day as an interface, so that tests decide what time it is.
#ifndef ASSENT_BASE_CLOCK_H_
#define ASSENT_BASE_CLOCK_H_

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace assent {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() = 0;

  // The machine's clock.
  static Clock* Real() {
    class RealClock : public Clock {
      absl::Time Now() override { return absl::Now(); }
    };
    static Clock* const kClock = new RealClock;
    return kClock;
  }
};

// Stands still until told.
class FakeClock : public Clock {
 public:
  explicit FakeClock(absl::Time now) : now_(now) {}
  absl::Time Now() override {
    MutexLock lock(&mutex_);
    return now_;
  }
  void Advance(absl::Duration by) {
    MutexLock lock(&mutex_);
    now_ += by;
  }

 private:
  Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace assent

#endif  // ASSENT_BASE_CLOCK_H_
