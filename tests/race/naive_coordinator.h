// A coordinator like assentd, with evidence switched off: it finishes a detached branch at once, believes the OK of
// another session, and takes an unknown xid for one that is finished, as others do.
#ifndef ASSENT_TESTS_RACE_NAIVE_COORDINATOR_H_
#define ASSENT_TESTS_RACE_NAIVE_COORDINATOR_H_

#include <memory>

#include "absl/status/statusor.h"
#include "tests/race/race_rig.h"

namespace assent {

// In this process; Stop drains it.
absl::StatusOr<std::unique_ptr<RaceCoordinator>> StartNaiveCoordinator();

}  // namespace assent

#endif  // ASSENT_TESTS_RACE_NAIVE_COORDINATOR_H_
