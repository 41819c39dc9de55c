// The purge horizon: how a gtrid that never had a record is told from one whose record was deleted.
//
// Of every gtrid that was born (BirthOf) at or after the horizon, no record was ever deleted. A purge raises it behind
// the birth and the end of all that it deletes, in the same transaction; it never falls. No clock is in this argument,
// nor how long anything was to be kept. (Ends are put down as no earlier than births, EndedMicros, so that what is
// deleted was born long ago; older programs did not do that.)
#ifndef ASSENT_STORE_HORIZON_H_
#define ASSENT_STORE_HORIZON_H_

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace assent {

// All of them are in microseconds since 1970. A horizon is a whole millisecond, as births are: a gtrid that is born at
// it is not before it.
int64_t HorizonBehind(absl::string_view gtrid, int64_t ended);
// No earlier than `time`, nor than 1970.
int64_t HorizonAt(absl::Time time);
// True if a record of the gtrid may have been deleted; also for one whose birth nobody knows.
bool IsBeforeHorizon(absl::string_view gtrid, int64_t horizon);
// What is said of such a gtrid: OUTCOME_IN_DOUBT.
absl::Status MayHaveBeenDeleted(absl::string_view gtrid);

// The latest horizon that was seen. Thread-safe.
class SeenHorizon {
 public:
  void Raise(int64_t horizon) {
    int64_t seen = micros_;
    while (seen < horizon && !micros_.compare_exchange_weak(seen, horizon)) {
    }
  }
  int64_t micros() const { return micros_; }
  absl::Time time() const { return absl::FromUnixMicros(micros_); }

 private:
  std::atomic<int64_t> micros_{0};
};

}  // namespace assent

#endif  // ASSENT_STORE_HORIZON_H_
