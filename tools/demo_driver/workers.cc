#include "tools/demo_driver/workers.h"

#include <signal.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/fixtures/coordinator_api.h"
#include "tests/fixtures/process.h"

namespace assent {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(20);

absl::Status Stopped() { return absl::CancelledError("stopped"); }

}  // namespace

absl::StatusOr<pid_t> SpawnWorker(std::vector<std::string> arguments, const std::string& log) {
  arguments.insert(arguments.begin(), {"/proc/self/exe", "worker"});
  SpawnOptions options;
  options.output_path = log;
  return Spawn(arguments, options);
}

absl::Status ShopWorkers::Start(const std::string& which, const std::string& gtrid, const Purchase& purchase) {
  const std::string log = absl::StrCat(folder_, "/", which, "-", purchase.item, ".log");
  const absl::StatusOr<pid_t> pid = SpawnWorker(
      {which, rig_->config_path(), gtrid, absl::StrCat(purchase.user), purchase.item, absl::StrCat(purchase.price)},
      log);
  if (!pid.ok()) return pid.status();
  workers_.push_back({*pid, log});
  return absl::OkStatus();
}

absl::Status ShopWorkers::AwaitFirstVote(const std::string& gtrid) {
  CoordinatorApi api(rig_->config().coordinator);
  for (;;) {
    const absl::StatusOr<v1::GetGlobalResponse> now = api.GetGlobal(gtrid);
    if (!now.ok()) return now.status();
    if (now->global().branches_size() > 0 && now->global().branches(0).state() != v1::Branch::STATE_ACTIVE) break;
    if (*stop_) return Stopped();
    if (now->global().decision() != v1::DECISION_UNSPECIFIED) break;  // The worker is gone, and the deadline passed.
    absl::SleepFor(kTick);
  }
  return absl::OkStatus();
}

pid_t ShopWorkers::KillLast() {
  const Worker worker = workers_.back();
  workers_.pop_back();
  kill(worker.pid, SIGKILL);
  WaitForExit(worker.pid, absl::InfiniteDuration());
  said_ += ReadTail(worker.log);
  return worker.pid;
}

absl::StatusOr<std::string> ShopWorkers::Finish() {
  std::string said = std::exchange(said_, "");
  for (const Worker& worker : std::exchange(workers_, {})) {
    absl::optional<int> code;
    while (!(code = WaitForExit(worker.pid, kTick))) {
      if (*stop_) return Stopped();
    }
    said += ReadTail(worker.log);
    if (*code != 0) return absl::InternalError(absl::StrCat("a worker ended with ", *code, ": ", said));
  }
  return said;
}

}  // namespace assent
