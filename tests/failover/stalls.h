// Stalls: how long nobody committed anything.
#ifndef ASSENT_TESTS_FAILOVER_STALLS_H_
#define ASSENT_TESTS_FAILOVER_STALLS_H_

#include "absl/time/time.h"
#include "base/mutex.h"

namespace assent {

// Thread-safe. A time between two commits counts as a stall of the store if the store was away during any part of it.
class Stalls {
 public:
  void Committed(absl::Time now);
  void StoreWentAway(absl::Time now);
  void StoreIsBack();
  // Ends the last one: after this nobody is expected to commit.
  void Finish(absl::Time now);

  absl::Duration longest() const;
  absl::Duration longest_of_store() const;

 private:
  void End(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  absl::Time last_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();  // No commit yet.
  bool store_away_ ABSL_GUARDED_BY(mutex_) = false;
  bool touches_store_ ABSL_GUARDED_BY(mutex_) = false;  // It was away since the last commit.
  absl::Duration longest_ ABSL_GUARDED_BY(mutex_);
  absl::Duration longest_of_store_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace assent

#endif  // ASSENT_TESTS_FAILOVER_STALLS_H_
