// Recovery: no branch is ever left behind, and none is closed by a guess.
//
// One worker per resource (resource_worker.h) does the work; this gives them the branches that are in doubt, and speaks
// for all of them.
#ifndef ASSENT_COORDINATOR_RECOVERY_H_
#define ASSENT_COORDINATOR_RECOVERY_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "assent/v1/coordinator_service.pb.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "coordinator/engine.h"
#include "coordinator/resource_registry.h"
#include "coordinator/resource_worker.h"

namespace assent {

// How one resource stands.
struct ResourceSurvey {
  v1::ResourceStatus status;
  int64_t in_doubt = 0;
  int64_t alarms = 0;
  absl::Time oldest = absl::InfiniteFuture();  // Since when the oldest of them is in doubt.
  int64_t witnesses_waiting = 0;
};

// Thread-safe.
class Recovery {
 public:
  // Everything must outlive it.
  Recovery(RecoveryOptions options, Engine* engine, ResourceRegistry* registry, Clock* clock);
  ~Recovery();

  // Begins with every registered resource. Call once, after Engine::Start. `on_ready` runs once, from any thread, when
  // the first sweep of every resource has ended or could not be made.
  void Start(std::function<void()> on_ready);
  // Ends all work; bounded by the timeouts of the connections. The engine must still answer meanwhile. Idempotent.
  void Stop();

  // The resources that this instance recovers, of those that are registered or will be; all of them until this is
  // called. Does not block.
  void SetHeld(std::set<std::string> resources);
  // A resource was registered, replaced or removed. Does not block.
  void ResourceChanged(const std::string& name);
  // Takes up what other instances have registered, replaced or removed. Blocks.
  absl::Status TakeUpResources();
  // A transaction has ended: its witnesses can go. Does not block.
  void Finished(const v1::Global& global);

  const Claimant& claimant() const { return options_.claimant; }
  const RecoveryConnector& connect() const { return options_.connect; }

  // The RPCs of the same names (coordinator_service.proto). They block.
  absl::StatusOr<v1::RecoverResponse> Recover(const v1::RecoverRequest& request);
  absl::StatusOr<v1::ListInDoubtResponse> ListInDoubt(const v1::ListInDoubtRequest& request);
  // What ListInDoubt would show, counted, by resource in order of name. Blocks.
  std::vector<ResourceSurvey> Survey();
  absl::StatusOr<v1::RetryNowResponse> RetryNow(const v1::RetryNowRequest& request);
  // What the branch's database shows; if that cannot be asked, evidence that says so.
  v1::Evidence LookAt(const GlobalPtr& global, absl::string_view bqual);

 private:
  using WorkerPtr = std::shared_ptr<ResourceWorker>;

  void RunCensus();
  // Gives every worker the branches that are in doubt on its resource.
  void TakeCensus();
  void AddWorker(const std::string& name, std::function<void()> on_first_sweep) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  WorkerPtr Find(absl::string_view name);
  // The one that is named, or all. RESOURCE_NOT_FOUND.
  absl::StatusOr<std::map<std::string, WorkerPtr>> Select(const std::string& name);
  // What no worker shows: contradicted branches, and those of resources that are not registered (any more).
  std::vector<v1::InDoubtBranch> NobodysInDoubt(const std::string& resource);
  // Each branch in doubt once, alarms first.
  std::vector<v1::InDoubtBranch> AllInDoubt(const std::map<std::string, WorkerPtr>& workers,
                                            const std::string& resource);

  const RecoveryOptions options_;
  Engine* const engine_;
  ResourceRegistry* const registry_;
  Clock* const clock_;

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool census_due_ ABSL_GUARDED_BY(mutex_) = false;
  absl::optional<std::set<std::string>> held_ ABSL_GUARDED_BY(mutex_);  // nullopt: all.
  std::map<std::string, WorkerPtr> workers_ ABSL_GUARDED_BY(mutex_);
  std::vector<WorkerPtr> leaving_ ABSL_GUARDED_BY(mutex_);  // Removed; their threads end in their own time.
  std::thread census_;
};

}  // namespace assent

#endif  // ASSENT_COORDINATOR_RECOVERY_H_
