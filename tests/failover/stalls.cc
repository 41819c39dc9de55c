#include "tests/failover/stalls.h"

#include <algorithm>

namespace assent {

void Stalls::End(absl::Time now) {
  if (last_ != absl::InfinitePast()) {
    absl::Duration& longest = touches_store_ ? longest_of_store_ : longest_;
    longest = std::max(longest, now - last_);
  }
  touches_store_ = store_away_;
}

void Stalls::Committed(absl::Time now) {
  MutexLock lock(&mutex_);
  End(now);
  last_ = std::max(last_, now);
}

void Stalls::StoreWentAway(absl::Time now) {
  MutexLock lock(&mutex_);
  // What went before was not the store's.
  if (!touches_store_ && last_ != absl::InfinitePast()) longest_ = std::max(longest_, now - last_);
  store_away_ = true;
  touches_store_ = true;
}

void Stalls::StoreIsBack() {
  MutexLock lock(&mutex_);
  store_away_ = false;
}

void Stalls::Finish(absl::Time now) {
  MutexLock lock(&mutex_);
  End(now);
  last_ = absl::InfinitePast();
}

absl::Duration Stalls::longest() const {
  MutexLock lock(&mutex_);
  return longest_;
}

absl::Duration Stalls::longest_of_store() const {
  MutexLock lock(&mutex_);
  return longest_of_store_;
}

}  // namespace assent
