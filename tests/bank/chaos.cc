#include "tests/bank/chaos.h"

#include <signal.h>

#include <algorithm>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/bank/journal.h"
#include "tests/bank/rig.h"
#include "tests/fixtures/assentd.h"
#include "tests/fixtures/coordinator_api.h"
#include "tests/fixtures/process.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

// Of transfers, for one life of a worker: more than it can make.
constexpr int64_t kIdsPerLife = 1000000;
constexpr absl::Duration kProgress = absl::Seconds(10);

class Chaos {
 public:
  Chaos(const ChaosOptions& options, TempDir folder)
      : options_(options), folder_(std::move(folder)), random_(options.seed) {}

  absl::StatusOr<ChaosReport> Run();

 private:
  struct Worker {
    pid_t pid = 0;
    BankWorkerProgram program;
  };
  struct Journal {
    std::string path;
    std::string language;
  };

  absl::Status Start();
  absl::Status StartWorker(Worker* worker);
  // Kills something and brings it back.
  absl::Status Strike();
  absl::Status StopWorkers();
  absl::Status AwaitEnd();
  int Draw(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

  const ChaosOptions options_;
  const TempDir folder_;
  std::mt19937_64 random_;
  std::unique_ptr<BankRig> rig_;
  std::vector<Worker> workers_;
  std::vector<Journal> journals_;
  ChaosReport report_;
};

absl::Status Chaos::Start() {
  BankRigOptions options;
  options.folder = folder_.path();
  options.accounts = options_.accounts;
  options.engines = options_.engines;
  options.coordinator.extra = {"--sweep-interval=1s", "--default-timeout=5s", "--log-level=error"};
  absl::StatusOr<std::unique_ptr<BankRig>> rig = BankRig::Start(options);
  if (!rig.ok()) return rig.status();
  rig_ = *std::move(rig);
  std::vector<BankWorkerProgram> programs = options_.programs;
  if (programs.empty()) {
    absl::StatusOr<std::string> built = FindBuiltProgram("tests/bank/bank_worker");
    if (!built.ok()) return built.status();
    programs.push_back({"cpp", *std::move(built)});
  }
  workers_.resize(static_cast<size_t>(options_.workers));
  for (size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = workers_[i];
    worker.program = programs[i % programs.size()];
    if (absl::Status status = StartWorker(&worker); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Chaos::StartWorker(Worker* worker) {
  const int64_t life = static_cast<int64_t>(journals_.size());
  journals_.push_back({absl::StrCat(folder_.path(), "/journal.", life), worker->program.language});
  SpawnOptions spawn;
  spawn.output_path = absl::StrCat(folder_.path(), "/workers.log");
  const absl::StatusOr<pid_t> pid =
      Spawn({worker->program.path, rig_->config_path(), journals_.back().path, absl::StrCat(life * kIdsPerLife + 1),
             absl::StrCat((life + 1) * kIdsPerLife), absl::StrCat(random_() >> 1)},
            spawn);
  if (!pid.ok()) return pid.status();
  worker->pid = *pid;
  return absl::OkStatus();
}

absl::Status Chaos::Strike() {
  const int what = Draw(0, 9);
  if (what < 3) {
    rig_->coordinator().Kill9();
    ++report_.coordinator_kills;
    absl::SleepFor(absl::Milliseconds(Draw(0, 300)));
    return rig_->coordinator().Restart();
  }
  if (what < 6) {
    const int which = Draw(0, kBankServers - 1);
    rig_->database(which).Kill9();
    ++report_.database_kills;
    absl::SleepFor(absl::Milliseconds(Draw(0, 300)));
    return rig_->database(which).Restart();
  }
  Worker& worker = workers_[static_cast<size_t>(Draw(0, options_.workers - 1))];
  kill(worker.pid, SIGKILL);
  WaitForExit(worker.pid, absl::InfiniteDuration());
  ++report_.worker_kills;
  ++report_.languages[worker.program.language].kills;
  return StartWorker(&worker);
}

absl::Status Chaos::StopWorkers() {
  for (const Worker& worker : workers_) kill(worker.pid, SIGTERM);
  for (const Worker& worker : workers_) {
    const absl::optional<int> code = WaitForExit(worker.pid, options_.patience);
    // One that was started just before may not have come to its handler yet: it has done nothing then.
    const bool ended_at_start = code == 128 + SIGTERM;
    if (!code || (*code != 0 && !ended_at_start)) {
      kill(worker.pid, SIGKILL);
      return absl::InternalError(
          absl::StrCat("a worker did not end well: ", ReadTail(absl::StrCat(folder_.path(), "/workers.log"))));
    }
  }
  return absl::OkStatus();
}

absl::Status Chaos::AwaitEnd() {
  const absl::Time give_up = absl::Now() + options_.patience;
  for (;;) {
    const absl::StatusOr<std::vector<v1::Global>> open =
        CoordinatorApi(rig_->config().coordinator)
            .ListAllGlobals({v1::Global::STATE_ACTIVE, v1::Global::STATE_ONE_PHASE, v1::Global::STATE_COMMITTING,
                             v1::Global::STATE_ROLLING_BACK});
    if (open.ok() && open->empty()) return absl::OkStatus();
    if (absl::Now() > give_up) {
      return absl::DeadlineExceededError(absl::StrCat(
          "not finished: ", open.ok() ? (*open)[0].ShortDebugString() : std::string(open.status().message())));
    }
    absl::SleepFor(absl::Milliseconds(200));
  }
}

absl::StatusOr<ChaosReport> Chaos::Run() {
  if (absl::Status status = Start(); !status.ok()) return status;
  absl::Time told = absl::Now();
  for (const absl::Time end = absl::Now() + options_.duration; absl::Now() < end;) {
    absl::SleepFor(absl::Milliseconds(Draw(50, 900)));
    if (absl::Status status = Strike(); !status.ok()) return status;
    if (absl::Now() - told < kProgress) continue;
    told = absl::Now();
    options_.progress(absl::StrCat(report_.coordinator_kills, " kills of the coordinator, ", report_.database_kills,
                                   " of databases, ", report_.worker_kills, " of workers"));
  }
  if (absl::Status status = StopWorkers(); !status.ok()) return status;
  if (absl::Status status = AwaitEnd(); !status.ok()) return status;
  std::vector<JournalEntry> journal;
  for (const Journal& each : journals_) {
    const absl::StatusOr<std::vector<JournalEntry>> entries = JournalReader(each.path).ReadNew();
    if (!entries.ok()) return entries.status();
    report_.languages[each.language].committed += std::count_if(
        entries->begin(), entries->end(), [](const JournalEntry& entry) { return entry.told == Told::kCommitted; });
    journal.insert(journal.end(), entries->begin(), entries->end());
  }
  CheckOptions check;
  check.may_be_in_doubt = true;  // Whose database dies while it commits is told so.
  absl::StatusOr<BankReport> report = CheckBank(rig_->config(), journal, check);
  if (!report.ok()) return report.status();
  report_.bank = *std::move(report);
  return report_;
}

}  // namespace

absl::StatusOr<ChaosReport> RunChaos(const ChaosOptions& options) {
  absl::StatusOr<TempDir> folder = TempDir::Create();
  if (!folder.ok()) return folder.status();
  return Chaos(options, *std::move(folder)).Run();
}

std::string TextOf(const BankReport& report) {
  std::string text;
  for (const CheckLine& check : report.checks) {
    for (const std::string& violation : check.violations) absl::StrAppend(&text, check.what, ": ", violation, "\n");
  }
  return text;
}

}  // namespace assent
