// Presence: this instance among the others that share its store. It joins, says again and again that it lives, takes
// its share of the work (the recovery of resources, and the retention), and learns what the others did.
//
// Who does which work follows from who is alive, by the same rule for all (rendezvous hashing), and is held as
// a lease (store/membership.h), so that it is never done by two at a time in the long run. In the short run it may be:
// an instance that was stopped in the middle of its work and wakes up goes on with what it had begun. That is harmless
// at the databases, because a decision never changes, and its writes to the store are refused.
#ifndef ASSENT_COORDINATOR_PRESENCE_H_
#define ASSENT_COORDINATOR_PRESENCE_H_

#include <atomic>
#include <chrono>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "coordinator/engine.h"
#include "coordinator/recovery.h"
#include "coordinator/resource_registry.h"
#include "store/store.h"

namespace assent {

// The name of the lease on the recovery of a resource begins with this.
constexpr absl::string_view kRecoveryOf = "recovery/";

// Which of the living is to do a piece of work: all of them answer the same, and when one goes only its work moves.
// `living` must not be empty.
InstanceKey WhoIsToDo(const std::string& work, const std::vector<Instance>& living);

// Thread-safe.
class Presence {
 public:
  // Everything must outlive it.
  // `on_health`: told after each breath whether it succeeded: the store could be written to, and this instance lives.
  Presence(Store* store, Engine* engine, ResourceRegistry* registry, Recovery* recovery,
           std::function<void(bool)> on_health);
  ~Presence();

  // Joins, and takes its share: what it holds when this returns is known to the recovery. Then goes on by itself.
  // Blocks.
  absl::Status Start(const InstanceInfo& info);
  // Leaves in good order, so that the others need not wait for its lease to run out. Blocks. Idempotent.
  void Stop();

  // True if the lease kRetentionWork is this instance's, as far as it knows. Does not block.
  bool HoldsRetention() const { return holds_retention_; }

 private:
  // One breath: says that it lives, sees who else does, and takes or gives back work.
  absl::Status Breathe();
  absl::Status ShareWork();
  // Why this instance is dead. True: another process has taken its address.
  bool ExplainDeath();
  // The work that this instance does from now on.
  void Hold(const std::set<std::string>& work);
  void RunBreath();
  void RunWatch();
  // Sleeps; false if it is to stop.
  bool Pause(absl::Duration pause);

  Store* const store_;
  Engine* const engine_;
  ResourceRegistry* const registry_;
  Recovery* const recovery_;
  InstanceInfo info_;
  std::atomic<bool> holds_retention_{false};
  const std::function<void(bool)> on_health_;
  // When somebody else has joined under this address: not at once again, or the two would fight for ever.
  std::chrono::steady_clock::time_point rejoin_at_;
  absl::Duration rejoin_pause_ = absl::ZeroDuration();
  bool joined_ = false;  // Of the breathing thread, once that runs.

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread breath_;
  std::thread watch_;
};

}  // namespace assent

#endif  // ASSENT_COORDINATOR_PRESENCE_H_
