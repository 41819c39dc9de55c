// The demo: two private database servers, a coordinator, and worker processes that move money between the servers while
// the coordinator is killed again and again. tools/demo builds and starts it.
//
// Exit codes: 0 everything holds; 1 something was violated or went wrong; 2 usage; 130 stopped by a signal. Nothing is
// left running or behind, however it ends: children die with this process, and so do temporary folders.
#include <glog/logging.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "participant_sdk/cpp/client.h"
#include "participant_sdk/cpp/global_transaction.h"
#include "tests/bank/bank.h"
#include "tests/bank/checker.h"
#include "tests/bank/journal.h"
#include "tests/bank/rig.h"
#include "tests/fixtures/assentd.h"
#include "tests/fixtures/coordinator_api.h"
#include "tests/fixtures/process.h"
#include "tests/fixtures/temp_dir.h"
#include "tools/demo_driver/mishaps.h"
#include "tools/demo_driver/shop.h"
#include "tools/demo_driver/show.h"
#include "tools/demo_driver/workers.h"

namespace assent {
namespace {

constexpr int kExitUsage = 2;
constexpr int kExitStopped = 130;
constexpr absl::Duration kTick = absl::Milliseconds(20);
// A demo in which little goes through would show nothing, however correct.
constexpr double kMinCommittedFraction = 0.9;
constexpr char kFailPercent[] = "2";

constexpr char kUsage[] =
    "usage: tools/demo [--quick] [--keep]\n"
    "\n"
    "Moves money between two private MariaDB servers, all or nothing, and checks that it was; then shows what becomes\n"
    "of transactions that something happens to between PREPARE and COMMIT, and one over MariaDB and PostgreSQL.\n"
    "  --quick  a tenth of the transfers\n"
    "  --keep   keep the folder with journals, logs and the coordinator's store\n";

std::atomic<bool> g_stop{false};

struct Sizes {
  int64_t transfers = 10000;
  int64_t accounts = 1000;
  int workers = 16;
  int kills = 5;
};

void Say(absl::string_view text) {
  absl::PrintF("%s\n", text);
  std::fflush(stdout);
}

// Signals become a flag that every loop looks at, so that all destructors run; a second one ends it at once.
void HandleSignals() {
  static sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  std::thread([] {
    int number = 0;
    sigwait(&signals, &number);
    g_stop = true;
    sigwait(&signals, &number);
    _exit(kExitStopped);
  }).detach();
}

absl::Status Stopped() { return absl::CancelledError("stopped"); }

class Demo {
 public:
  Demo(Sizes sizes, std::string folder) : sizes_(sizes), folder_(std::move(folder)) {}

  // The number of violations.
  absl::StatusOr<int64_t> Run();

 private:
  // A worker process of the third act.
  struct Worker {
    pid_t pid = 0;
    bool running = true;
    int exit_code = 0;
    std::string log;
    JournalReader journal;
  };

  absl::Status StartEverything();
  absl::Status Act(const Purchase& purchase, absl::string_view title, bool should_succeed);
  absl::Status StartWorkers();
  absl::Status MoveMoney();
  // Reads what workers have written and notices those that have ended.
  absl::Status LookAtWorkers();
  absl::Status KillCoordinator(ProgressLine* progress);
  absl::Status Close();
  void Violate(std::string text) { violations_.push_back(std::move(text)); }
  // What the two workers of a purchase said, once both have ended. The second starts when the first has prepared, so
  // that the first is seen waiting for a decision.
  absl::StatusOr<std::string> RunWorkers(const std::string& gtrid, const Purchase& purchase);
  absl::Status PlayMishaps();

  const BankConfig& config() const { return rig_->config(); }
  Assentd& coordinator() { return rig_->coordinator(); }

  const Sizes sizes_;
  const std::string folder_;
  std::unique_ptr<BankRig> rig_;
  std::set<std::string> shop_gtrids_;
  std::vector<Worker> workers_;
  std::vector<JournalEntry> journal_;
  int kills_ = 0;
  absl::Duration slowest_start_;
  absl::Duration elapsed_;
  std::vector<std::string> violations_;  // Of the demo's own; the checker has its own.
  int64_t checked_violations_ = 0;
};

absl::StatusOr<int64_t> Demo::Run() {
  absl::Status status = StartEverything();
  if (status.ok()) status = Act({1, "laptop", 800}, "(a) User 1 has 1000 and buys a laptop for 800", true);
  if (status.ok()) status = Act({2, "phone", 500}, "(b) User 2 has 50 and wants a phone for 500", false);
  if (status.ok()) status = MoveMoney();
  if (status.ok()) status = PlayMishaps();
  if (status.ok()) status = Close();
  if (!status.ok()) return status;
  return checked_violations_ + static_cast<int64_t>(violations_.size());
}

absl::Status Demo::StartEverything() {
  Say("Starting two private MariaDB servers, `orders` and `payments`, and the coordinator");
  BankRigOptions options;
  options.folder = folder_;
  options.cluster = "demo";
  options.accounts = sizes_.accounts;
  options.stop = &g_stop;
  options.coordinator.extra = {"--sweep-interval=1s"};  // The default is 10 s, which is long to look on.
  absl::StatusOr<std::unique_ptr<BankRig>> rig = BankRig::Start(options);
  if (!rig.ok()) return rig.status();
  rig_ = *std::move(rig);
  for (int i = 0; i < kBankServers; ++i) {
    Say(absl::StrCat("    ", config().servers[static_cast<size_t>(i)].resource, ": process ", rig_->database(i).pid(),
                     ", socket ", rig_->database(i).unix_address().substr(5)));
  }
  Say(absl::StrCat("    assentd: process ", coordinator().pid(), ", ", config().coordinator, ", store ",
                   coordinator().store()));
  return SetUpShop(config());
}

absl::StatusOr<std::string> Demo::RunWorkers(const std::string& gtrid, const Purchase& purchase) {
  ShopWorkers workers(rig_.get(), folder_, &g_stop);
  absl::Status status = workers.Start("orders", gtrid, purchase);
  if (status.ok()) status = workers.AwaitFirstVote(gtrid);
  if (status.ok()) status = workers.Start("payments", gtrid, purchase);
  if (!status.ok()) return status;
  return workers.Finish();
}

absl::Status Demo::Act(const Purchase& purchase, absl::string_view title, bool should_succeed) {
  Say(absl::StrCat("\n", title));
  Client client(config().coordinator);
  BeginOptions begin;
  begin.policy = v1::DECISION_POLICY_WHEN_ALL_PREPARED;
  begin.expected_branches = kBankServers;
  absl::StatusOr<GlobalTransaction> transaction = client.Begin(begin);
  if (!transaction.ok()) return transaction.status();
  shop_gtrids_.insert(transaction->gtrid());
  Say(absl::StrCat("      begun: global transaction ", transaction->gtrid(), "; the workers are given this id"));
  const absl::StatusOr<std::string> said = RunWorkers(transaction->gtrid(), purchase);
  if (!said.ok()) return said.status();
  std::fputs(said->c_str(), stdout);
  const absl::Status answer = transaction->Commit();
  Say(absl::StrCat("      outcome: ", v1::Outcome_Name(transaction->outcome()).substr(8)));
  if (answer.ok() != should_succeed) Violate(absl::StrCat(title, ": ", ToText(answer)));
  const absl::StatusOr<bool> as_expected = ShowShop(config(), purchase, should_succeed);
  if (!as_expected.ok()) return as_expected.status();
  if (!*as_expected) Violate(absl::StrCat(title, ": the rows are not what they should be"));
  Say(should_succeed ? "    Both rows are there." : "    Neither row is there, and user 2 still has the 50.");
  return absl::OkStatus();
}

absl::Status Demo::StartWorkers() {
  for (int i = 0; i < sizes_.workers; ++i) {
    const std::string journal = absl::StrCat(folder_, "/journal.", i);
    const std::string log = absl::StrCat(folder_, "/worker.", i, ".log");
    const absl::StatusOr<pid_t> pid = SpawnWorker({"bank", rig_->config_path(), journal, absl::StrCat(i + 1),
                                                   absl::StrCat(sizes_.transfers), absl::StrCat(sizes_.workers)},
                                                  log);
    if (!pid.ok()) return pid.status();
    workers_.push_back({*pid, true, 0, log, JournalReader(journal)});
  }
  return absl::OkStatus();
}

absl::Status Demo::LookAtWorkers() {
  for (Worker& worker : workers_) {
    // First the end and then the journal, so that nothing that it wrote is missed.
    if (worker.running) {
      if (const absl::optional<int> code = WaitForExit(worker.pid, absl::ZeroDuration()); code.has_value()) {
        worker.running = false;
        worker.exit_code = *code;
      }
    }
    const absl::StatusOr<std::vector<JournalEntry>> entries = worker.journal.ReadNew();
    if (!entries.ok()) return entries.status();
    journal_.insert(journal_.end(), entries->begin(), entries->end());
  }
  return absl::OkStatus();
}

absl::Status Demo::KillCoordinator(ProgressLine* progress) {
  const pid_t old = coordinator().pid();
  coordinator().Kill9();
  if (absl::Status status = coordinator().Restart(); !status.ok()) return status;
  ++kills_;
  slowest_start_ = std::max(slowest_start_, coordinator().start_duration());
  progress->Note(absl::StrFormat("kill -9 %d: assentd is gone; started again as %d, which served after %d ms", old,
                                 coordinator().pid(), coordinator().start_duration() / absl::Milliseconds(1)));
  return absl::OkStatus();
}

absl::Status Demo::MoveMoney() {
  Say(absl::StrFormat(
      "\n(c) %d workers make %s transfers between %s accounts spread over both servers; %s %% of them\n"
      "    are made to fail half-way; meanwhile assentd is killed with -9 %d times",
      sizes_.workers, WithCommas(sizes_.transfers), WithCommas(sizes_.accounts), kFailPercent, sizes_.kills));
  const absl::Time begin = absl::Now();
  if (absl::Status status = StartWorkers(); !status.ok()) return status;
  ProgressLine progress;
  for (;;) {
    if (g_stop) {
      progress.Finish("stopped");
      return Stopped();
    }
    if (absl::Status status = LookAtWorkers(); !status.ok()) return status;
    const int64_t done = static_cast<int64_t>(journal_.size());
    elapsed_ = absl::Now() - begin;
    if (std::none_of(workers_.begin(), workers_.end(), [](const Worker& worker) { return worker.running; })) break;
    if (kills_ < sizes_.kills && done >= sizes_.transfers * (kills_ + 1) / (sizes_.kills + 1)) {
      if (absl::Status status = KillCoordinator(&progress); !status.ok()) return status;
    }
    progress.Update(absl::StrFormat("%s of %s transfers, %s a second, assentd killed %d of %d times", WithCommas(done),
                                    WithCommas(sizes_.transfers),
                                    WithCommas(static_cast<int64_t>(done / absl::ToDoubleSeconds(elapsed_))), kills_,
                                    sizes_.kills));
    absl::SleepFor(kTick);
  }
  progress.Finish(absl::StrFormat("%s of %s transfers in %.1f s", WithCommas(static_cast<int64_t>(journal_.size())),
                                  WithCommas(sizes_.transfers), absl::ToDoubleSeconds(elapsed_)));
  for (const Worker& worker : workers_) {
    if (worker.exit_code == 0) continue;
    Violate(absl::StrCat("a worker ended with ", worker.exit_code, ": ", ReadTail(worker.log)));
  }
  return absl::OkStatus();
}

absl::Status Demo::PlayMishaps() {
  Mishaps mishaps(rig_.get(), folder_, &g_stop);
  const absl::Status status = mishaps.Play();
  shop_gtrids_.insert(mishaps.gtrids().begin(), mishaps.gtrids().end());
  for (const std::string& violation : mishaps.violations()) Violate(violation);
  return status;
}

absl::Status Demo::Close() {
  CheckOptions options;
  options.foreign = shop_gtrids_;
  const absl::StatusOr<BankReport> report = CheckBank(config(), journal_, options);
  if (!report.ok()) return report.status();
  checked_violations_ = report->violations;
  const int64_t told = static_cast<int64_t>(journal_.size());
  if (told != sizes_.transfers) {
    Violate(absl::StrCat(told, " of ", sizes_.transfers, " callers were told how their transfer ended"));
  }
  if (static_cast<double>(report->committed) < kMinCommittedFraction * static_cast<double>(sizes_.transfers)) {
    Violate(absl::StrCat("only ", report->committed, " transfers went through"));
  }
  if (kills_ != sizes_.kills) Violate(absl::StrCat("assentd was killed ", kills_, " times only"));
  Say("");
  std::vector<std::vector<std::string>> rows;
  for (const CheckLine& check : report->checks) {
    rows.push_back({check.what, check.detail, check.count == 0 ? "holds" : absl::StrCat(check.count, " violations")});
  }
  rows.push_back({"every caller was answered", absl::StrCat(told, " of ", sizes_.transfers),
                  told == sizes_.transfers ? "holds" : "violated"});
  ShowTable({"what was checked", "found", ""}, rows);
  for (const CheckLine& check : report->checks) {
    for (const std::string& violation : check.violations) Say(absl::StrCat("    VIOLATION: ", violation));
  }
  for (const std::string& violation : violations_) Say(absl::StrCat("    VIOLATION: ", violation));
  Say(absl::StrFormat(
      "\n    throughput: %s transfers in %.1f s, %s a second, over 2 databases; assentd was killed %d times\n"
      "    and served again after %d ms at most",
      WithCommas(told), absl::ToDoubleSeconds(elapsed_),
      WithCommas(static_cast<int64_t>(static_cast<double>(told) / absl::ToDoubleSeconds(elapsed_))), kills_,
      slowest_start_ / absl::Milliseconds(1)));
  return absl::OkStatus();
}

// What a worker process does: `worker <kind> <config> <arguments…>`.
absl::Status RunWorker(const std::vector<std::string>& arguments) {
  if (arguments.size() != 6) return absl::InvalidArgumentError("a worker needs six arguments");
  const absl::StatusOr<BankConfig> config = BankConfig::Load(arguments[1]);
  if (!config.ok()) return config.status();
  if (arguments[0] == "bank") {
    WorkloadOptions options;
    if (!absl::SimpleAtoi(arguments[3], &options.first_id) || !absl::SimpleAtoi(arguments[4], &options.last_id) ||
        !absl::SimpleAtoi(arguments[5], &options.stride)) {
      return absl::InvalidArgumentError("not a number");
    }
    options.seed = static_cast<uint64_t>(options.first_id);
    return RunWorkload(*config, options, arguments[2]);
  }
  Purchase purchase;
  purchase.item = arguments[4];
  if (!absl::SimpleAtoi(arguments[3], &purchase.user) || !absl::SimpleAtoi(arguments[5], &purchase.price)) {
    return absl::InvalidArgumentError("not a number");
  }
  if (arguments[0] == "orders") return RunOrdersWorker(*config, arguments[2], purchase);
  if (arguments[0] == "payments") return RunPaymentsWorker(*config, arguments[2], purchase);
  return absl::InvalidArgumentError(absl::StrCat("no such worker: ", arguments[0]));
}

int RunDemo(Sizes sizes, bool keep) {
  HandleSignals();
  absl::StatusOr<TempDir> temporary = TempDir::Create("assent-demo-");
  if (!temporary.ok()) {
    Say(ToText(temporary.status()));
    return 1;
  }
  std::string folder = temporary->path();
  if (keep) {
    folder = "/tmp/assent-demo-kept-XXXXXX";
    if (mkdtemp(&folder[0]) == nullptr) {
      Say("cannot make a folder in /tmp");
      return 1;
    }
  }
  const absl::StatusOr<int64_t> violations = Demo(sizes, folder).Run();
  if (keep) Say(absl::StrCat("    kept: ", folder));
  if (g_stop) {
    Say("stopped; nothing is left running or behind");
    return kExitStopped;
  }
  if (!violations.ok()) {
    Say(absl::StrCat("the demo could not go on: ", ToText(violations.status())));
    return 1;
  }
  Say(absl::StrCat("    ", *violations, " violations"));
  return *violations == 0 ? 0 : 1;
}

int Main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  FLAGS_logtostderr = true;
  if (!arguments.empty() && arguments[0] == "worker") {
    google::InitGoogleLogging(argv[0]);
    const absl::Status status = RunWorker({arguments.begin() + 1, arguments.end()});
    if (!status.ok()) absl::FPrintF(stderr, "%s\n", ToText(status));
    return status.ok() ? 0 : 1;
  }
  FLAGS_minloglevel = google::GLOG_ERROR;
  google::InitGoogleLogging(argv[0]);
  Sizes sizes;
  bool keep = false;
  for (const std::string& argument : arguments) {
    if (argument == "--quick") {
      sizes = {1000, 100, 8, 2};
    } else if (argument == "--keep") {
      keep = true;
    } else {
      const bool help = argument == "--help" || argument == "-h";
      std::fputs(kUsage, help ? stdout : stderr);
      return help ? 0 : kExitUsage;
    }
  }
  return RunDemo(sizes, keep);
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) { return assent::Main(argc, argv); }
