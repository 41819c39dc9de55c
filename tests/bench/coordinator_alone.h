// The coordinator without any database: branches that nobody runs, beside a server that only echoes.
#ifndef ASSENT_TESTS_BENCH_COORDINATOR_ALONE_H_
#define ASSENT_TESTS_BENCH_COORDINATOR_ALONE_H_

#include <cstdint>

#include "absl/time/time.h"

namespace assent {

struct AloneResult {
  // Two-branch transactions that were decided COMMIT, durably, on SQLite, as an SDK asks for them.
  double noop_per_second = 0;
  double forced_writes_per_commit = 0;
  // The same number of calls with messages of the same sizes to a bare gRPC server, of as many callers.
  double echo_per_second = 0;
};
// Both by turns, `rounds` windows of `length` each; medians.
AloneResult MeasureAlone(int callers, int rounds, absl::Duration length);

// Memory of assentd for each two-branch transaction, while `transactions` are open at once.
double BytesPerOpenTransaction(int transactions);

}  // namespace assent

#endif  // ASSENT_TESTS_BENCH_COORDINATOR_ALONE_H_
