// The benchmark. tools/bench builds and starts it.
//
// Exit codes: 0 done; 1 something went wrong; 2 usage. Nothing is left running or behind, however it ends.
#include <glog/logging.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/types/span.h"
#include "tests/bench/contenders.h"
#include "tests/bench/coordinator_alone.h"
#include "tests/bench/report.h"

namespace assent {
namespace {

constexpr char kUsage[] =
    "usage: tools/bench [OPTION]...\n"
    "\n"
    "Changes a row on each of two private servers, again and again, in four ways that take turns: the raw loop of\n"
    "two-phase commit without any coordinator or record; Assent's C++ SDK in one process; Assent with each branch in\n"
    "a process of its own; and two local commits, which are not atomic, for scale. Then on one of them only: a local\n"
    "commit, and Assent with one branch. Then the coordinator alone with branches that nobody runs, beside a gRPC\n"
    "server that only echoes messages of the same sizes; and the memory of 5,000 transactions that are open at once.\n"
    "Figures are medians; ratios are those of one round.\n"
    "\n"
    "  --quick          1, 16 and 64 workers, 3 rounds of 2 s: under five minutes (else 1, 4, 16, 64; 5 of 3 s)\n"
    "  --engines A,B    mariadb,mariadb; also postgresql, and mysql with ASSENT_TEST_MYSQLD\n"
    "  --slow-disk MS   the delay of the part in which every forced write takes longer (1; 0: leave it out)\n"
    "  --json FILE      writes the figures there\n"
    "  --svg FILE       writes a chart there\n"
    "  --compare FILE   shows ratios to the figures of an earlier --json\n";

constexpr int kCallersAlone = 64;
constexpr int kOpenTransactions = 5000;

struct Options {
  bool quick = false;
  BenchRigOptions rig;
  absl::Duration slow_disk = absl::Milliseconds(1);
  std::string json, svg, compare;
};

bool ParseEngines(const std::string& value, BenchRigOptions* rig) {
  const std::vector<std::string> words = absl::StrSplit(value, ',');
  if (words.size() != rig->engines.size()) return false;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string name = absl::StrCat("ENGINE_", absl::AsciiStrToUpper(words[i]));
    if (!v1::Resource::Engine_Parse(name, &rig->engines[i])) return false;
  }
  return true;
}

bool Parse(const std::vector<std::string>& arguments, Options* options) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& name = arguments[i];
    if (name == "--quick") {
      options->quick = true;
      continue;
    }
    if (++i == arguments.size()) return false;
    const std::string& value = arguments[i];
    double milliseconds = 0;
    if (name == "--engines") {
      if (!ParseEngines(value, &options->rig)) return false;
    } else if (name == "--slow-disk") {
      if (!absl::SimpleAtod(value, &milliseconds) || milliseconds < 0 || milliseconds > 1000) return false;
      options->slow_disk = absl::Milliseconds(milliseconds);
    } else if (name == "--json") {
      options->json = value;
    } else if (name == "--svg") {
      options->svg = value;
    } else if (name == "--compare") {
      options->compare = value;
    } else {
      return false;
    }
  }
  return true;
}

void Say(absl::string_view text) {
  absl::PrintF("%s", text);
  std::fflush(stdout);
}

// The contenders by turns, so that the machine's moods meet them alike. The first is what they are compared to.
std::vector<Row> Race(BenchRig* rig, absl::Span<const Contender> contenders, int workers, int rounds,
                      absl::Duration length) {
  std::vector<std::vector<Window>> windows(contenders.size());
  for (const Contender contender : contenders) {  // Warms up.
    (void)rig->Measure(contender, workers, absl::Milliseconds(300));
  }
  for (int round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < contenders.size(); ++i) {
      windows[i].push_back(rig->Measure(contenders[i], workers, length));
    }
  }
  const auto ratio = [&](size_t i, double Window::*number) {
    std::vector<double> ratios;
    for (int round = 0; round < rounds; ++round) {
      const auto r = static_cast<size_t>(round);
      ratios.push_back(windows[i][r].*number / (windows[0][r].*number));
    }
    return Median(std::move(ratios));
  };
  std::vector<Row> rows;
  for (size_t i = 0; i < contenders.size(); ++i) {
    rows.push_back({contenders[i], workers, MedianOf(windows[i]), ratio(i, &Window::per_second),
                    ratio(i, &Window::p50_ms), ratio(i, &Window::p99_ms)});
    Say(TableRow(rows.back()));
  }
  return rows;
}

int Run(const Options& options) {
  Figures before;
  if (!options.compare.empty()) {
    const absl::StatusOr<Figures> read = ReadJson(options.compare);
    if (!read.ok()) {
      absl::FPrintF(stderr, "tools/bench: %s\n", read.status().message());
      return 2;
    }
    before = *read;
  }
  const int rounds = options.quick ? 3 : 5;
  const absl::Duration length = absl::Seconds(options.quick ? 2 : 3);
  Figures figures;
  std::vector<Row> rows;
  Say(TableHead("raw"));
  {
    BenchRig rig(options.rig);
    for (const int workers : options.quick ? std::vector<int>{1, 16, 64} : std::vector<int>{1, 4, 16, 64}) {
      const std::vector<Row> own = Race(&rig, kTwoBranches, workers, rounds, length);
      rows.insert(rows.end(), own.begin(), own.end());
    }
    Say(absl::StrCat("\nOne server only, where one phase can do:\n", TableHead("local")));
    for (const int workers : {1, 16}) AddFigures(Race(&rig, kOneBranches, workers, rounds, length), "", &figures);
  }
  AddFigures(rows, "", &figures);
  if (options.slow_disk > absl::ZeroDuration()) {
    Say(absl::StrCat("\nEvery forced write takes ", absl::FormatDuration(options.slow_disk), " longer:\n"));
    BenchRigOptions slow = options.rig;
    slow.slow_disk = options.slow_disk;
    BenchRig rig(slow);
    for (const Row& row : Race(&rig, kTwoBranches, 16, rounds, length)) {
      if (row.contender == Contender::kOneProcess) figures["slow_disk_16"] = row.ratio;
    }
  }
  const AloneResult alone = MeasureAlone(kCallersAlone, rounds, length);
  figures["noop_per_second"] = alone.noop_per_second;
  figures["echo_per_second"] = alone.echo_per_second;
  figures["noop_forced_writes_per_commit"] = alone.forced_writes_per_commit;
  figures["bytes_per_open_transaction"] = BytesPerOpenTransaction(kOpenTransactions);
  Say(absl::StrFormat(
      "\nThe coordinator alone, %d callers: %.0f durable two-branch transactions/s (%.3f forced writes each); an echo\n"
      "server for the same messages: %.0f/s. %d open transactions: %.0f bytes each.\n",
      kCallersAlone, alone.noop_per_second, alone.forced_writes_per_commit, alone.echo_per_second, kOpenTransactions,
      figures["bytes_per_open_transaction"]));
  if (!before.empty()) Say(absl::StrCat("\n", Compare(figures, before)));
  if (!options.svg.empty()) std::ofstream(options.svg) << Svg(rows, "Throughput as a share of the raw loop's");
  const absl::Status written = options.json.empty() ? absl::OkStatus() : WriteJson(figures, options.json);
  if (!written.ok()) absl::FPrintF(stderr, "tools/bench: %s\n", written.message());
  return written.ok() ? 0 : 1;
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  FLAGS_minloglevel = google::GLOG_ERROR;
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  assent::Options options;
  for (const std::string& argument : arguments) {
    if (argument == "--help" || argument == "-h") {
      std::fputs(assent::kUsage, stdout);
      return 0;
    }
  }
  if (!assent::Parse(arguments, &options)) {
    std::fputs(assent::kUsage, stderr);
    return 2;
  }
  return assent::Run(options);
}
