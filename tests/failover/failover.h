// The failover test: money is transferred between two servers through several coordinators over one MariaDB store,
// while one after the other is killed or frozen, and the store's server restarts; nobody may be told anything wrong,
// and nobody may stand still for long.
#ifndef ASSENT_TESTS_FAILOVER_FAILOVER_H_
#define ASSENT_TESTS_FAILOVER_FAILOVER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace assent {

struct FailoverOptions {
  absl::Duration duration = absl::Minutes(10);
  int instances = 3;
  int workers = 32;
  absl::Duration lease = absl::Seconds(2);
  // From the loss of one instance to the loss of the next.
  absl::Duration interval = absl::Seconds(5);
  uint64_t seed = 1;
  // A line for people, now and then, from any thread.
  std::function<void(const std::string&)> progress = [](const std::string&) {};
};

struct FailoverReport {
  int64_t killed = 0;  // With SIGKILL.
  int64_t frozen = 0;  // With SIGSTOP, past the lease, and woken.
  int64_t store_restarts = 0;
  int64_t committed = 0;  // What callers were told.
  int64_t rolled_back = 0;
  std::vector<std::string> violations;  // The first of each kind.
  int64_t violation_count = 0;
  // The longest times during which no caller was told of a commit: but for, and because of, restarts of the store.
  absl::Duration longest_stall;
  absl::Duration longest_stall_of_store;
};

// Instances are lost in turn by kill and by freezing, any of them each time. Two restarts of the store's server at one
// and two thirds of the time; at the second an instance dies as well. An error means that something could not be looked
// at.
absl::StatusOr<FailoverReport> RunFailover(const FailoverOptions& options);

}  // namespace assent

#endif  // ASSENT_TESTS_FAILOVER_FAILOVER_H_
