// The soak: adversarial load of any size on private servers. tools/soak builds and starts it.
//
// Exit codes: 0 everything holds; 1 something was violated or went wrong; 2 usage. Nothing is left running or behind,
// however it ends: children die with this process, and so do temporary folders.
#include <glog/logging.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "base/errors.h"
#include "tests/bank/chaos.h"
#include "tests/failover/failover.h"
#include "tests/fixtures/assentd.h"
#include "tests/race/race.h"

namespace assent {
namespace {

constexpr int kExitUsage = 2;
constexpr size_t kMaxShown = 20;

constexpr char kUsage[] =
    "usage: tools/soak race|failover|bank [OPTION]...\n"
    "\n"
    "tools/soak race [--threads N] [--transactions M] [--binlog on|off|both] [--ghosts PERCENT] [--seed S]\n"
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
    "did not finish.\n"
    "\n"
    "tools/soak failover [--minutes N] [--seed S]\n"
    "\n"
    "The loss of coordinators. Three assentd on one MariaDB store; 32 workers transfer money between two servers; for "
    "N\n"
    "minutes (10) every 5 s any of the three is killed with -9 or frozen past its lease, and the store's server is "
    "killed\n"
    "and started again twice, the second time with an instance. Then balances, ledgers, and what callers were told "
    "are\n"
    "held against each other.\n"
    "\n"
    "Ends with a line `failover: K kills, V violations, longest stall S s`: how many instances were lost, and the "
    "longest\n"
    "time during which no instance committed anything, but for restarts of the store; exits with 1 if V > 0.\n"
    "\n"
    "tools/soak bank [--engines A,B] [--languages L,M] [--minutes N] [--workers W] [--seed S]\n"
    "\n"
    "Kills of everything. W worker processes (8) transfer money between a server of engine A and one of engine B\n"
    "(mariadb,postgresql; also mysql with ASSENT_TEST_MYSQLD) for N minutes (10), while the coordinator, either "
    "server\n"
    "and any worker are killed with -9 and started again. Then the same is held against each other.\n"
    "\n"
    "  --languages   the SDKs that the workers use, by turns: cpp (as set if not given), python, go\n"
    "\n"
    "Ends with a line `bank: K kills, C committed, V violations`; exits with 1 if V > 0, or if no worker of some "
    "language\n"
    "committed anything.\n";

// What tools/soak has built for us: ASSENT_BANK_WORKER_PYTHON and …_GO.
constexpr char kWorkerVariable[] = "ASSENT_BANK_WORKER_";

void Say(absl::string_view text) {
  absl::PrintF("%s\n", text);
  std::fflush(stdout);
}

struct Command {
  enum class Kind { kRace, kFailover, kBank };
  Kind kind = Kind::kRace;
  RaceLoad load;
  std::vector<bool> binlog = {true};
  FailoverOptions failover;
  ChaosOptions chaos;
};

bool ParseBinlog(const std::string& value, std::vector<bool>* binlog) {
  if (value == "on") *binlog = {true};
  if (value == "off") *binlog = {false};
  if (value == "both") *binlog = {true, false};
  return value == "on" || value == "off" || value == "both";
}

bool ParseRaceOption(const std::string& name, const std::string& value, Command* command) {
  if (name == "--threads") {
    return absl::SimpleAtoi(value, &command->load.threads) && command->load.threads >= 1 &&
           command->load.threads <= 1000;
  }
  if (name == "--transactions") {
    return absl::SimpleAtoi(value, &command->load.transactions) && command->load.transactions >= 1;
  }
  if (name == "--seed") return absl::SimpleAtoi(value, &command->load.seed);
  if (name == "--ghosts") {
    double percent = 0;
    if (!absl::SimpleAtod(value, &percent) || percent < 0 || percent > 100) return false;
    command->load.ghost_fraction = percent / 100;
    return true;
  }
  return name == "--binlog" && ParseBinlog(value, &command->binlog);
}

bool ParseMinutes(const std::string& value, absl::Duration* duration) {
  double minutes = 0;
  if (!absl::SimpleAtod(value, &minutes) || minutes < 0.1 || minutes > 10000) return false;
  *duration = absl::Minutes(minutes);
  return true;
}

bool ParseFailoverOption(const std::string& name, const std::string& value, Command* command) {
  if (name == "--seed") return absl::SimpleAtoi(value, &command->failover.seed);
  return name == "--minutes" && ParseMinutes(value, &command->failover.duration);
}

bool ParseEngines(const std::string& value, std::array<v1::Resource::Engine, kBankServers>* engines) {
  const std::vector<std::string> words = absl::StrSplit(value, ',');
  if (words.size() != engines->size()) return false;
  for (size_t i = 0; i < words.size(); ++i) {
    if (!v1::Resource::Engine_Parse(absl::StrCat("ENGINE_", absl::AsciiStrToUpper(words[i])), &(*engines)[i]))
      return false;
  }
  return true;
}

// Exits where a language's worker is not there: that is not the command line's fault.
bool ParseLanguages(const std::string& value, std::vector<BankWorkerProgram>* programs) {
  for (const std::string& language : std::vector<std::string>(absl::StrSplit(value, ','))) {
    if (language == "cpp") {
      programs->push_back({language, FindBuiltProgram("tests/bank/bank_worker").value()});
      continue;
    }
    if (language != "python" && language != "go") return false;
    const std::string variable = absl::StrCat(kWorkerVariable, absl::AsciiStrToUpper(language));
    const char* const path = std::getenv(variable.c_str());
    if (path == nullptr) {
      Say(absl::StrCat("the ", language, " worker is not there (", variable, "); start this with tools/soak"));
      std::exit(1);
    }
    programs->push_back({language, path});
  }
  return true;
}

bool ParseBankOption(const std::string& name, const std::string& value, Command* command) {
  if (name == "--seed") return absl::SimpleAtoi(value, &command->chaos.seed);
  if (name == "--minutes") return ParseMinutes(value, &command->chaos.duration);
  if (name == "--engines") return ParseEngines(value, &command->chaos.engines);
  if (name == "--languages") return ParseLanguages(value, &command->chaos.programs);
  return name == "--workers" && absl::SimpleAtoi(value, &command->chaos.workers) && command->chaos.workers >= 1 &&
         command->chaos.workers <= 200;
}

// False: not a command line of ours.
bool Parse(const std::vector<std::string>& arguments, Command* command) {
  if (arguments.empty()) return false;
  if (arguments[0] == "race") {
    command->kind = Command::Kind::kRace;
  } else if (arguments[0] == "failover") {
    command->kind = Command::Kind::kFailover;
  } else if (arguments[0] == "bank") {
    command->kind = Command::Kind::kBank;
  } else {
    return false;
  }
  for (size_t i = 1; i < arguments.size(); ++i) {
    std::string name = arguments[i];
    std::string value;
    if (const size_t equals = name.find('='); equals != std::string::npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    } else if (++i < arguments.size()) {
      value = arguments[i];
    }
    const bool good = command->kind == Command::Kind::kRace       ? ParseRaceOption(name, value, command)
                      : command->kind == Command::Kind::kFailover ? ParseFailoverOption(name, value, command)
                                                                  : ParseBankOption(name, value, command);
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

int Race(const Command& command) {
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

int Failover(FailoverOptions options) {
  options.progress = [](const std::string& line) { Say(absl::StrCat("    ", line)); };
  Say(absl::StrFormat("%d coordinators, %d workers, %s, seed %d", options.instances, options.workers,
                      absl::FormatDuration(options.duration), options.seed));
  const absl::StatusOr<FailoverReport> report = RunFailover(options);
  if (!report.ok()) {
    Say(absl::StrCat("it could not go on: ", ToText(report.status())));
    return 1;
  }
  Say(
      absl::StrFormat("    %d committed, %d rolled back; %d instances killed, %d frozen past their lease\n"
                      "    %d restarts of the store, longest stall for them %.2f s",
                      report->committed, report->rolled_back, report->killed, report->frozen, report->store_restarts,
                      absl::ToDoubleSeconds(report->longest_stall_of_store)));
  ShowLines("VIOLATION", report->violations);
  Say(absl::StrFormat("failover: %d kills, %d violations, longest stall %.2f s", report->killed + report->frozen,
                      report->violation_count, absl::ToDoubleSeconds(report->longest_stall)));
  return report->violation_count == 0 ? 0 : 1;
}

int Bank(ChaosOptions options) {
  options.progress = [](const std::string& line) { Say(absl::StrCat("    ", line)); };
  Say(absl::StrFormat("%d workers, %s, seed %d", options.workers, absl::FormatDuration(options.duration),
                      options.seed));
  const absl::StatusOr<ChaosReport> report = RunChaos(options);
  if (!report.ok()) {
    Say(absl::StrCat("it could not go on: ", ToText(report.status())));
    return 1;
  }
  const BankReport& bank = report->bank;
  Say(absl::StrFormat(
      "    %d kills of the coordinator, %d of databases, %d of workers; %d rolled back, %d told in doubt",
      report->coordinator_kills, report->database_kills, report->worker_kills, bank.rolled_back, bank.in_doubt));
  bool all_work = true;
  for (const auto& [language, of] : report->languages) {
    Say(absl::StrFormat("    %s: %d kills, %d told committed", language, of.kills, of.committed));
    all_work = all_work && of.committed > 0;
  }
  for (const CheckLine& check : bank.checks) ShowLines(absl::StrCat("VIOLATION: ", check.what), check.violations);
  Say(absl::StrFormat("bank: %d kills, %d committed, %d violations",
                      report->coordinator_kills + report->database_kills + report->worker_kills, bank.committed,
                      bank.violations));
  return bank.violations == 0 && all_work ? 0 : 1;
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
  command.failover.seed = command.chaos.seed = command.load.seed;
  command.chaos.duration = absl::Minutes(10);
  command.chaos.engines = {v1::Resource::ENGINE_MARIADB, v1::Resource::ENGINE_POSTGRESQL};
  if (!Parse(arguments, &command)) {
    std::fputs(kUsage, stderr);
    return kExitUsage;
  }
  switch (command.kind) {
    case Command::Kind::kRace: return Race(command);
    case Command::Kind::kFailover: return Failover(command.failover);
    case Command::Kind::kBank: break;
  }
  return Bank(command.chaos);
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) { return assent::Main(argc, argv); }
