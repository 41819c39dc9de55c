#include "tests/failover/failover.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/mutex.h"
#include "tests/bank/checker.h"
#include "tests/bank/rig.h"
#include "tests/failover/stalls.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

constexpr int kStoreRestarts = 2;
constexpr absl::Duration kEndPatience = absl::Minutes(2);
constexpr absl::Duration kRestartPatience = absl::Minutes(1);

class Failover {
 public:
  explicit Failover(const FailoverOptions& options) : options_(options), random_(options.seed) {}

  absl::StatusOr<FailoverReport> Run() {
    if (absl::Status status = Start(); !status.ok()) return status;
    const absl::Status troubled = MakeTrouble();
    stalls_.Finish(absl::Now());
    stop_ = true;
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
    report_.longest_stall = stalls_.longest();
    report_.longest_stall_of_store = stalls_.longest_of_store();
    if (!troubled.ok()) return troubled;
    if (absl::Status status = AwaitEnd(); !status.ok()) return status;
    if (absl::Status status = Check(); !status.ok()) return status;
    return report_;
  }

  ~Failover() {
    stop_ = true;
    for (std::thread& worker : workers_) worker.join();
  }

 private:
  absl::Status Start() {
    BankRigOptions bank;
    bank.folder = dir_.path();
    bank.instances = options_.instances;
    bank.coordinator.extra = {absl::StrCat("--instance-lease=", absl::FormatDuration(options_.lease))};
    absl::StatusOr<std::unique_ptr<BankRig>> rig = BankRig::Start(bank);
    if (!rig.ok()) return rig.status();
    rig_ = *std::move(rig);
    for (int i = 0; i < options_.workers; ++i) {
      workers_.emplace_back([this, i] { Work(i); });
    }
    return absl::OkStatus();
  }

  std::string JournalOf(int worker) const { return absl::StrCat(dir_.path(), "/journal.", worker); }

  void Work(int worker) {
    WorkloadOptions work;
    work.first_id = worker + 1;
    work.last_id = std::numeric_limits<int64_t>::max() / 2;
    work.stride = options_.workers;
    work.seed = options_.seed * 1000003 + static_cast<uint64_t>(worker);
    work.stop = &stop_;
    work.on_told = [this](const JournalEntry& entry) {
      if (entry.told == Told::kCommitted) stalls_.Committed(absl::Now());
    };
    const absl::Status status = RunWorkload(rig_->config(), work, JournalOf(worker));
    if (!status.ok()) Violation(absl::StrCat("worker ", worker, ": ", ToText(status)));
  }

  void Violation(std::string text) {
    MutexLock lock(&mutex_);
    ++report_.violation_count;
    report_.violations.push_back(std::move(text));
  }

  absl::Duration Between(absl::Duration low, absl::Duration high) {
    return low + (high - low) * std::uniform_real_distribution<double>(0, 1)(random_);
  }

  absl::Status MakeTrouble() {
    const absl::Time began = absl::Now();
    const absl::Time end = began + options_.duration;
    for (absl::Time next = began + options_.interval / 2; next < end; next += options_.interval) {
      absl::SleepFor(next - absl::Now());
      const bool store =
          (absl::Now() - began) * (kStoreRestarts + 1) > options_.duration * (report_.store_restarts + 1);
      const absl::Status status = store && report_.store_restarts < kStoreRestarts ? RestartStore() : LoseInstance();
      if (!status.ok()) return status;
      options_.progress(absl::StrFormat("%3.0f s: %d killed, %d frozen, %d restarts of the store, longest stall %.2f s",
                                        absl::ToDoubleSeconds(absl::Now() - began), report_.killed, report_.frozen,
                                        report_.store_restarts, absl::ToDoubleSeconds(stalls_.longest())));
    }
    absl::SleepFor(end - absl::Now());
    return absl::OkStatus();
  }

  Assentd& AnyInstance() {
    return rig_->cluster().instance(std::uniform_int_distribution<int>(0, rig_->cluster().size() - 1)(random_));
  }

  absl::Status LoseInstance() {
    Assentd& victim = AnyInstance();
    if (++lost_ % 2 == 0) {
      victim.Kill9();
      ++report_.killed;
      absl::SleepFor(Between(absl::ZeroDuration(), options_.lease * 1.5));
      return BringBack(&victim);
    }
    victim.Signal(SIGSTOP);
    absl::SleepFor(options_.lease + Between(absl::Milliseconds(500), absl::Milliseconds(1500)));
    victim.Signal(SIGCONT);
    ++report_.frozen;
    return absl::OkStatus();
  }

  static absl::Status BringBack(Assentd* instance) {
    const absl::Time give_up = absl::Now() + kRestartPatience;
    for (;;) {
      absl::Status status = instance->Restart();
      if (status.ok() || absl::Now() > give_up) return status;
    }
  }

  absl::Status RestartStore() {
    PrivateMariaDb& server = rig_->cluster().store_server();
    stalls_.StoreWentAway(absl::Now());
    const bool first = ++report_.store_restarts == 1;
    server.Kill9();
    Assentd* victim = nullptr;
    if (!first) {
      victim = &AnyInstance();
      victim->Kill9();
      ++report_.killed;
    }
    absl::Status status = server.Restart();
    stalls_.StoreIsBack();
    if (status.ok() && victim != nullptr) status = BringBack(victim);
    return status;
  }

  // Recovery may still be busy with what the last ones left.
  absl::Status AwaitEnd() {
    CoordinatorApi api(rig_->config().coordinator);
    const absl::Time give_up = absl::Now() + kEndPatience;
    const std::vector<v1::Global::State> open = {v1::Global::STATE_ACTIVE, v1::Global::STATE_COMMITTING,
                                                 v1::Global::STATE_ROLLING_BACK, v1::Global::STATE_HEURISTIC};
    for (;;) {
      const auto unfinished = api.ListAllGlobals(open);
      if (unfinished.ok() && unfinished->empty()) return absl::OkStatus();
      if (absl::Now() > give_up && !unfinished.ok()) return unfinished.status();
      if (absl::Now() > give_up) return absl::OkStatus();  // The checker says which.
      absl::SleepFor(absl::Milliseconds(200));
    }
  }

  absl::Status Check() {
    std::vector<JournalEntry> journal;
    for (int i = 0; i < options_.workers; ++i) {
      absl::StatusOr<std::vector<JournalEntry>> entries = JournalReader(JournalOf(i)).ReadNew();
      if (!entries.ok()) return entries.status();
      journal.insert(journal.end(), entries->begin(), entries->end());
    }
    const absl::StatusOr<BankReport> bank = CheckBank(rig_->config(), journal);
    if (!bank.ok()) return bank.status();
    report_.committed = bank->committed;
    report_.rolled_back = bank->rolled_back;
    report_.violation_count += bank->violations;
    for (const CheckLine& check : bank->checks) {
      for (const std::string& violation : check.violations) {
        report_.violations.push_back(absl::StrCat(check.what, ": ", violation));
      }
    }
    const auto instances = AssentdCluster::List(rig_->cluster().instance(0));
    if (!instances.ok()) return instances.status();
    const auto alive = std::count_if(instances->begin(), instances->end(),
                                     [](const v1::Instance& instance) { return instance.alive(); });
    if (alive != options_.instances) Violation(absl::StrCat(alive, " instances count as alive at the end"));
    return absl::OkStatus();
  }

  const FailoverOptions options_;
  std::mt19937_64 random_;
  int64_t lost_ = 0;
  TempDir dir_ = *TempDir::Create("failover-");
  Stalls stalls_;
  std::atomic<bool> stop_{false};
  Mutex mutex_;
  FailoverReport report_;  // Its violations under the mutex, until the workers have ended.
  std::unique_ptr<BankRig> rig_;
  std::vector<std::thread> workers_;
};

}  // namespace

absl::StatusOr<FailoverReport> RunFailover(const FailoverOptions& options) { return Failover(options).Run(); }

}  // namespace assent
