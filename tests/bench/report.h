// What a run of the benchmark says: a table for people, JSON for programs, a chart, and ratios to an earlier run.
#ifndef ASSENT_TESTS_BENCH_REPORT_H_
#define ASSENT_TESTS_BENCH_REPORT_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/bench/contenders.h"
#include "tests/bench/window.h"

namespace assent {

struct Row {
  Contender contender = Contender::kRaw;
  int workers = 0;
  Window window;         // Medians.
  double ratio = 0;      // Of throughput to that of what it is compared to: the median of the rounds' ratios.
  double p50_ratio = 0;  // Likewise of latencies.
  double p99_ratio = 0;
};

// `base`: the name of what the rows are compared to.
std::string TableHead(const std::string& base);
std::string TableRow(const Row& row);

// Names and numbers, e.g. "one_process_16": the ratio of its throughput at 16 workers.
using Figures = std::map<std::string, double>;
// Those of the rows. Names have the prefix.
void AddFigures(const std::vector<Row>& rows, const std::string& prefix, Figures* figures);

absl::Status WriteJson(const Figures& figures, const std::string& path);
// INVALID_ARGUMENT if the file is not one of WriteJson's.
absl::StatusOr<Figures> ReadJson(const std::string& path);
// A line for each figure that both have: now, then, and the ratio.
std::string Compare(const Figures& now, const Figures& then);

// Bars of throughput for each number of workers, as a share of the raw loop's.
std::string Svg(const std::vector<Row>& rows, const std::string& title);

}  // namespace assent

#endif  // ASSENT_TESTS_BENCH_REPORT_H_
