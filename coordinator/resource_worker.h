// ResourceWorker: the recovery of one resource, on a thread of its own, so that a resource that hangs delays no other.
//
// It keeps a connection to the server as long as the server lets it, sweeps it when it connects and from time to time,
// finishes the branches it is offered once they are due, and deletes the witnesses of finished transactions.
#ifndef ASSENT_COORDINATOR_RESOURCE_WORKER_H_
#define ASSENT_COORDINATOR_RESOURCE_WORKER_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "assent/v1/coordinator_service.pb.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/timestamp.h"
#include "coordinator/engine.h"
#include "coordinator/resource_claim.h"
#include "coordinator/resource_registry.h"
#include "resource_manager/branch_recovery.h"

namespace assent {

// Makes the connection to a resource, with its password; blocks for a bounded time.
using RecoveryConnector = std::function<absl::StatusOr<std::unique_ptr<BranchRecovery>>(const v1::Resource&)>;

struct RecoveryOptions {
  Claimant claimant;
  // Between two sweeps of a healthy resource.
  absl::Duration sweep_interval = absl::Seconds(10);
  // How long after the decision a branch is left to its participant before recovery looks at all. (What is undone when
  // the coordinator starts has been left for long enough.)
  absl::Duration patience = absl::Seconds(1);
  // A branch that is in doubt for longer raises an alarm (once in the log, and wherever it is shown).
  absl::Duration alarm_age = absl::Minutes(5);
  RecoveryConnector connect;
};

// A branch of a decided transaction that is not proven finished.
struct OpenBranch {
  GlobalPtr global;
  int index = 0;  // In global->branches().

  const v1::Branch& branch() const { return global->branches(index); }
  // In doubt since when.
  absl::Time since() const {
    if (global->has_decide_time() || global->history().empty()) return GetTime(global->decide_time());
    return GetTime(global->history(0).time());  // ONE_PHASE, from the first.
  }
  std::pair<std::string, std::string> key() const { return {global->gtrid(), branch().bqual()}; }
};

// Thread-safe.
class ResourceWorker {
 public:
  // Everything must outlive it. Starts at once; `on_first_sweep` runs once, when the first sweep has ended or could not
  // be made, on its thread.
  ResourceWorker(std::string resource, const RecoveryOptions& options, Engine* engine, ResourceRegistry* registry,
                 Clock* clock, std::function<void()> on_first_sweep);
  // Ends what it is doing (bounded by the timeouts of its connection), then the thread.
  ~ResourceWorker();

  // All branches that are in doubt here now; replaces what was offered before.
  void Offer(std::vector<OpenBranch> open);
  // A transaction has ended: its witness here is no longer needed. Forgotten if too many wait; a sweep finds it again.
  void Forget(const Xid& xid);
  // Begins to stop; the destructor waits.
  void BeginStop();
  // Whether this instance is the one that recovers the resource (it is, until it is told otherwise). If not, nothing is
  // done here but what is asked for; and the server is still looked at, to know whether it is the right one.
  void SetActive(bool active);

  // Tries again now: what is in doubt of `gtrid`, or everything if it is empty. Answers how many branches that is.
  int RetryNow(absl::string_view gtrid);
  // A sweep now; also what waits for its next attempt is tried. Blocks, at most `patience`: then, or if the resource
  // cannot be asked, the report's status says why.
  v1::ResourceReport Sweep(bool dry_run, absl::Duration patience);
  // Looks at a branch and changes nothing. Blocks likewise. UNAVAILABLE if the resource could not be asked.
  absl::StatusOr<v1::Evidence> LookAt(OpenBranch open, absl::Duration patience);
  absl::StatusOr<std::vector<v1::LockWait>> LockWaits(int limit, absl::Duration patience);

  v1::ResourceStatus Status();
  // Witnesses of finished transactions that are still to be deleted here, as far as this worker knows.
  int64_t WitnessesWaiting();
  // The branches in doubt here as they are known, in no order; also those that stand as ended against the decision, by
  // an operator's word, and that the last sweep found prepared.
  std::vector<v1::InDoubtBranch> InDoubt();

 private:
  // Leases and pauses are measured by the clock that never jumps.
  using Mono = std::chrono::steady_clock;
  using Key = std::pair<std::string, std::string>;
  struct Attempt {
    Mono::time_point first_seen;
    Mono::time_point next;
    int count = 0;
    bool alarmed = false;
    bool needs_operator = false;
    std::string next_step;
  };
  // What a caller waits for. Guarded by the worker's mutex, except `result` while `running`.
  struct Job {
    std::function<absl::Status(BranchRecovery*)> body;
    enum { kWaiting, kRunning, kDone, kAbandoned } state = kWaiting;
    absl::Status result;
  };

  // Just decided, and nobody has looked: it is on its way, not in doubt.
  bool IsOnItsWay(const Attempt& attempt, Mono::time_point now) const;
  void Loop();
  // Runs `body` with the connection, on the worker's thread, and waits for it. `body` must own what it touches: after
  // `patience` (then UNAVAILABLE) it may still be running.
  absl::Status Do(std::function<absl::Status(BranchRecovery*)> body, absl::Duration patience);
  Mono::time_point NextWake() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunJobs();
  // Whatever is due: branches in doubt, a sweep, witnesses. An error means that the connection is of no more use.
  absl::Status WorkOnce();
  bool IsActive();
  // Makes the connection if there is none and it is time to try, or `now`. OK: there is one.
  absl::Status EnsureConnected(bool now);
  absl::Status Connect();
  // Whether the server is still the right one, and ours; fills in resource_.
  absl::Status Claim(BranchRecovery* recovery);
  // Stores what is known of the server, and takes it over.
  absl::Status Note(const v1::Resource& known);
  // The connection failed, or the server is not what it should be.
  void Fail(const absl::Status& why);
  void SetState(v1::ResourceStatus::State state, const std::string& detail);
  absl::Duration Jittered(absl::Duration pause);

  // Of resource_sweep.cc; an error means that the connection is of no more use.
  absl::Status SweepOnce(bool dry_run, v1::ResourceReport* report);
  // The part of a sweep that looks at the server itself. `unfit`: why no new branches may begin there, though it is the
  // right one; nullopt: that cannot be seen now.
  absl::Status LookAtServer(absl::optional<absl::Status>* unfit);
  void EndSweep(const absl::optional<absl::Status>& unfit);
  absl::Status FinishDue(bool all, bool dry_run, v1::ResourceReport* report);
  // Finishes the branches (or only looks at them), stores what was found, and reports it.
  absl::Status Carry(const std::vector<OpenBranch>& open, bool dry_run, v1::ResourceReport* report);
  void Report(const OpenBranch& open, const v1::Evidence& evidence, v1::ResourceReport* report);
  void Store(const OpenBranch& open, const v1::Evidence& evidence);
  void Conclude(const OpenBranch& open, const BranchFinding& finding);
  // Deletes witnesses of finished transactions, and counts the epoch up if it is time to. If the server takes no writes
  // now, all else goes on, and both are tried again later.
  absl::Status ForgetDue();
  absl::Status DeleteForgotten();
  absl::Status CountEpochUp();
  // Records what was committed in one phase and never reported. `all`: also finds the witnesses of transactions that
  // finished while nobody took note.
  absl::Status ReadWitnesses(bool all);
  // A branch of a finished transaction has left its witness: forgets it if the record says so, and raises an alarm if
  // that says something else.
  void JudgeWitness(const Xid& witness, const GlobalPtr& record);
  void RecordOnePhase(const Xid& witness);
  BranchTask TaskOf(const OpenBranch& open);

  // Of resource_strays.cc.
  // Adds what is not listed, but has left its witness in a transaction that is still open.
  absl::Status AddGhosts(const absl::optional<GhostCount>& ghosts, std::vector<RecoveredXid>* prepared);
  // Looks at the xids that nobody is in the middle of: orphans, and branches that came back.
  absl::Status FinishStray(const std::vector<RecoveredXid>& prepared, bool dry_run, v1::ResourceReport* report);
  // Makes sure that no orphan can be decided COMMIT any more; leaves out those that are none by now. False: the store
  // cannot be asked.
  bool BuryOrphans(std::vector<OpenBranch>* stray);
  // False: the store cannot be asked.
  bool SortForeign(const RecoveredXid& xid, v1::ResourceReport* report);
  absl::Status SortRecorded(const OpenBranch& open, std::vector<OpenBranch>* stray, v1::ResourceReport* report);
  void SortOrphan(const RecoveredXid& xid, std::map<Key, Mono::time_point>* orphans, std::vector<OpenBranch>* stray,
                  v1::ResourceReport* report);
  absl::Status LookAtContradicted(const OpenBranch& open, v1::ResourceReport* report);
  void ConcludeStray(const OpenBranch& open, const v1::Evidence& evidence);
  // Shown as an alarm until the next sweep has looked.
  void Contradict(const OpenBranch& open, const std::string& next_step);

  const std::string name_;
  const RecoveryOptions& options_;
  Engine* const engine_;
  ResourceRegistry* const registry_;
  Clock* const clock_;
  std::function<void()> on_first_sweep_;

  // Only the worker's thread touches these.
  v1::Resource resource_;  // As the connection was made with.
  std::unique_ptr<BranchRecovery> recovery_;
  int failures_ = 0;
  Mono::time_point next_connect_;
  Mono::time_point next_sweep_;
  Mono::time_point next_epoch_;
  Mono::time_point next_forget_;
  bool renew_ = false;           // Privileges were missing; they count from the next connection on.
  bool lost_finishing_ = false;  // The last attempt at what was due cost the connection.
  Mono::time_point next_refill_;
  bool worked_ = false;  // Since the epoch was counted up.
  std::map<Key, Mono::time_point> orphans_seen_;
  std::map<Key, Mono::time_point> ghosts_seen_;
  std::map<Key, v1::InDoubtBranch> contradictions_;  // Of the sweep that is under way.
  std::set<Xid> suspects_;  // Witnesses that contradicted their records; judged at every sweep until they are gone.
  std::minstd_rand random_;

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool active_ ABSL_GUARDED_BY(mutex_) = true;
  bool hurry_ ABSL_GUARDED_BY(mutex_) = false;
  bool taken_over_ ABSL_GUARDED_BY(mutex_) = false;  // Not yet seen by the thread.
  bool offered_ ABSL_GUARDED_BY(mutex_) = false;     // Offer was called before.
  std::map<Key, OpenBranch> open_ ABSL_GUARDED_BY(mutex_);
  std::map<Key, Attempt> attempts_ ABSL_GUARDED_BY(mutex_);
  std::map<Key, v1::InDoubtBranch> contradicted_ ABSL_GUARDED_BY(mutex_);
  std::deque<Xid> forget_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<Job>> jobs_ ABSL_GUARDED_BY(mutex_);
  v1::ResourceStatus status_ ABSL_GUARDED_BY(mutex_);
  Mono::time_point next_connect_hint_ ABSL_GUARDED_BY(mutex_);  // For those who ask when.

  std::thread thread_;
};

}  // namespace assent

#endif  // ASSENT_COORDINATOR_RESOURCE_WORKER_H_
