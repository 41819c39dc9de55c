// The demo's worker processes: this program, started again.
#ifndef ASSENT_TOOLS_DEMO_DRIVER_WORKERS_H_
#define ASSENT_TOOLS_DEMO_DRIVER_WORKERS_H_

#include <sys/types.h>

#include <atomic>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tests/bank/rig.h"
#include "tools/demo_driver/shop.h"

namespace assent {

// Starts `worker <arguments…>`; its output is appended to `log`.
absl::StatusOr<pid_t> SpawnWorker(std::vector<std::string> arguments, const std::string& log);

// The two workers of one purchase. Thread-compatible. A worker that nobody has waited for dies with this process.
class ShopWorkers {
 public:
  // Everything must outlive it. Gives up with CANCELLED once `stop` is true.
  ShopWorkers(BankRig* rig, std::string folder, const std::atomic<bool>* stop)
      : rig_(rig), folder_(std::move(folder)), stop_(stop) {}

  // `which`: "orders" or "payments".
  absl::Status Start(const std::string& which, const std::string& gtrid, const Purchase& purchase);
  // Waits until the first worker has voted; it waits for the decision then, with its branch prepared.
  absl::Status AwaitFirstVote(const std::string& gtrid);
  // Kills the worker that was started last with SIGKILL; returns its process id.
  pid_t KillLast();
  // Waits for the others' end. What they said, one after the other; an error if one did not end well.
  absl::StatusOr<std::string> Finish();

 private:
  struct Worker {
    pid_t pid = 0;
    std::string log;
  };

  BankRig* const rig_;
  const std::string folder_;
  const std::atomic<bool>* const stop_;
  std::vector<Worker> workers_;
  std::string said_;  // By one that was killed.
};

}  // namespace assent

#endif  // ASSENT_TOOLS_DEMO_DRIVER_WORKERS_H_
