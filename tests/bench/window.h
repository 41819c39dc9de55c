// Window: what was measured while some workers did transactions for some time; and medians over several of them.
#ifndef ASSENT_TESTS_BENCH_WINDOW_H_
#define ASSENT_TESTS_BENCH_WINDOW_H_

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace assent {

struct Window {
  double per_second = 0;
  double p50_ms = 0;
  double p99_ms = 0;
  double p999_ms = 0;
  // Processor time per transaction, in microseconds: of whoever does the SQL, of assentd, of both database servers.
  double worker_cpu_us = 0;
  double coordinator_cpu_us = 0;
  double database_cpu_us = 0;
  // Per transaction.
  double coordinator_syncs = 0;
  double database_syncs = 0;
  double calls = 0;        // To the coordinator.
  double round_trips = 0;  // To the databases.
};

// Sorts them.
void FillLatencies(std::vector<double>* milliseconds, double seconds, Window* window);

double Median(std::vector<double> values);
// Each number is the median of its own; `windows` is not empty.
Window MedianOf(const std::vector<Window>& windows);

// Processor time, user and system, that a process and its living and reaped children have used; zero if it is gone.
absl::Duration CpuOf(pid_t pid);
// That this process has used, without children.
absl::Duration OwnCpu();
// Resident memory in bytes.
int64_t ResidentBytes(pid_t pid);

// How long each transaction took, and all together.
struct Samples {
  std::vector<double> milliseconds;
  double seconds = 0;
};
// Threads that do one transaction after the other until `length` is over. `start(i)` runs first in each of them, and
// makes what does one; when all are ready `begun` is called, and the clock starts.
Samples RunWorkers(int workers, absl::Duration length, const std::function<std::function<void()>(int)>& start,
                   const std::function<void()>& begun);

}  // namespace assent

#endif  // ASSENT_TESTS_BENCH_WINDOW_H_
