// The soak: adversarial load of any size on private servers. tools/soak builds and starts it.
//
// Exit codes: 0 everything holds; 1 something was violated or went wrong; 2 usage. Nothing is left running or behind,
// however it ends: children die with this process, and so do temporary folders.
#include <glog/logging.h>

#include <cstdio>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/errors.h"
#include "tests/race/race.h"

namespace assent {
namespace {

constexpr int kExitUsage = 2;
constexpr size_t kMaxShown = 20;

constexpr char kUsage[] =
    "usage: tools/soak race [--threads N] [--transactions M] [--binlog on|off|both] [--ghosts PERCENT] [--seed S]\n"
    "\n"
    "The close-and-reset race. N threads (32) run M transactions (8000) with a branch on each of two private MariaDB\n"
    "servers, and close or reset every connection as soon as its branch has voted PREPARED; assentd has to finish "
    "them\n"
    "all. Then both servers are killed with -9 and started again. A violation is a transaction that was reported\n"
    "COMMITTED with a row missing or ROLLED_BACK with a row present, or that has left something prepared.\n"
    "  --binlog   the servers' binary log: on (as set if not given), off, or both, one after the other\n"
    "  --ghosts   percent of branches (0.5) that are reset and then finished by somebody else, so that the server "
    "loses\n"
    "             sight of them: assentd has to heal those\n"
    "  --seed     of the random choices; if not given it differs each time, and is printed\n"
    "\n"
    "Ends with a line `race: M transactions, V violations, G ghosts healed`; exits with 1 if V > 0 or if a "
    "transaction\n"
    "did not finish.\n";

void Say(absl::string_view text) {
  absl::PrintF("%s\n", text);
  std::fflush(stdout);
}

struct Command {
  RaceLoad load;
  std::vector<bool> binlog = {true};
};

bool ParseBinlog(const std::string& value, std::vector<bool>* binlog) {
  if (value == "on") *binlog = {true};
  if (value == "off") *binlog = {false};
  if (value == "both") *binlog = {true, false};
  return value == "on" || value == "off" || value == "both";
}

// False: not a command line of ours.
bool Parse(const std::vector<std::string>& arguments, Command* command) {
  if (arguments.empty() || arguments[0] != "race") return false;
  for (size_t i = 1; i < arguments.size(); ++i) {
    std::string name = arguments[i];
    std::string value;
    if (const size_t equals = name.find('='); equals != std::string::npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    } else if (++i < arguments.size()) {
      value = arguments[i];
    }
    bool good = false;
    if (name == "--threads") {
      good = absl::SimpleAtoi(value, &command->load.threads) && command->load.threads >= 1 &&
             command->load.threads <= 1000;
    } else if (name == "--transactions") {
      good = absl::SimpleAtoi(value, &command->load.transactions) && command->load.transactions >= 1;
    } else if (name == "--seed") {
      good = absl::SimpleAtoi(value, &command->load.seed);
    } else if (name == "--ghosts") {
      double percent = 0;
      good = absl::SimpleAtod(value, &percent) && percent >= 0 && percent <= 100;
      command->load.ghost_fraction = percent / 100;
    } else if (name == "--binlog") {
      good = ParseBinlog(value, &command->binlog);
    }
    if (!good) return false;
  }
  return true;
}

void ShowLines(absl::string_view heading, const std::vector<std::string>& lines) {
  for (size_t i = 0; i < lines.size() && i < kMaxShown; ++i) Say(absl::StrCat("    ", heading, ": ", lines[i]));
  if (lines.size() > kMaxShown) Say(absl::StrCat("    … and ", lines.size() - kMaxShown, " more"));
}

absl::StatusOr<RaceReport> RunOne(const Command& command, bool binlog) {
  RaceOptions options;
  options.load = command.load;
  options.binlog = binlog;
  options.progress = [](const std::string& line) { Say(absl::StrCat("    ", line)); };
  Say(absl::StrFormat("%d threads, %d transactions, binary log %s, seed %d", options.load.threads,
                      options.load.transactions, binlog ? "on" : "off", options.load.seed));
  absl::StatusOr<RaceReport> report = RunRace(options);
  if (!report.ok()) return report;
  Say(absl::StrFormat(
      "    %d committed, %d rolled back in %.1f s (%.0f transactions/s until the last was finished)\n"
      "    %d branches finished by somebody else, %d ghosts healed, %d transactions had to wait for the restart\n"
      "    %d branches came back prepared after the restart (an XA ROLLBACK is not durable) and were rolled back again",
      report->committed, report->rolled_back, absl::ToDoubleSeconds(report->elapsed),
      static_cast<double>(report->transactions) / absl::ToDoubleSeconds(report->elapsed), report->meddled,
      report->ghosts_healed, report->waited_for_restart, report->came_back));
  ShowLines("VIOLATION", report->violations);
  ShowLines("NOT FINISHED", report->unfinished);
  return report;
}

int Main(int argc, char** argv) {
  FLAGS_logtostderr = true;
  FLAGS_minloglevel = google::GLOG_ERROR;
  google::InitGoogleLogging(argv[0]);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  for (const std::string& argument : arguments) {
    if (argument != "--help" && argument != "-h") continue;
    std::fputs(kUsage, stdout);
    return 0;
  }
  Command command;
  command.load.seed = std::random_device()();
  if (!Parse(arguments, &command)) {
    std::fputs(kUsage, stderr);
    return kExitUsage;
  }
  bool ok = true;
  int64_t transactions = 0;
  int64_t violations = 0;
  int64_t healed = 0;
  for (const bool binlog : command.binlog) {
    const absl::StatusOr<RaceReport> report = RunOne(command, binlog);
    if (!report.ok()) {
      Say(absl::StrCat("the race could not go on: ", ToText(report.status())));
      return 1;
    }
    ok = ok && report->ok();
    transactions += report->transactions;
    violations += static_cast<int64_t>(report->violations.size());
    healed += report->ghosts_healed;
  }
  Say(absl::StrFormat("race: %d transactions, %d violations, %d ghosts healed", transactions, violations, healed));
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) { return assent::Main(argc, argv); }
