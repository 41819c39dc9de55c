// Engine: carries events through the protocol, stores what it says, and then acts. There is this one way for every RPC.
//
// For each unfinished global transaction it keeps the record as stored, and at most one write is in flight. Events that
// arrive meanwhile queue up and are folded into the next write. Memory changes only after the store has the new record,
// and every answer waits for what it rests on (persist, then change memory, then act). Nothing calls out with a lock
// held.
#ifndef ASSENT_COORDINATOR_ENGINE_H_
#define ASSENT_COORDINATOR_ENGINE_H_

#include <array>
#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "assent/v1/coordinator_service.pb.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/mutex.h"
#include "base/timer.h"
#include "coordinator/protocol.h"
#include "store/store.h"

namespace assent {

struct EngineOptions {
  // Unfinished transactions in memory; more are refused with TOO_MANY_OPEN_GLOBALS.
  int64_t max_open_globals = 1000000;
  // Others write to the store as well. Then nothing is answered from memory alone: an answer that rests on no write of
  // its own rests on a read that began after the call came.
  bool shared = false;
  // Called when the store is lost (false) and when it is back (true), from any thread.
  std::function<void(bool)> on_store_health = [](bool) {};
  // Called once with each transaction that has just been stored as finished, from any thread; must not block.
  std::function<void(const GlobalPtr&)> on_finished = [](const GlobalPtr&) {};
};

// Thread-safe. Store, clock, timer and executor must outlive it; the timer and the executor must have stopped before it
// is destroyed (they call back into it).
class Engine {
 public:
  // OK: the state that stands, at least as far as was waited for or could be waited. Otherwise why not; then the record
  // may be null. Runs exactly once, on any thread, and must not block.
  using Reply = std::function<void(const absl::Status& status, const GlobalPtr& record)>;
  struct Call;
  using CallPtr = std::shared_ptr<Call>;

  Engine(Store* store, Clock* clock, Timer* timer, Executor* executor, EngineOptions options);
  ~Engine();

  // Takes up what the store holds unfinished (a shared one: nothing, what is asked for is read then). If the store may
  // have lost unforced writes, everything undecided is rolled back (presumed abort). Call once, before anything else.
  // An error of the store ends it: nothing may be served. Blocks.
  absl::Status Start();

  // Carries one event through. `wait`: what to wait for, at most until `give_up`; then the answer is OK and says how
  // far it got. The event's gtrid names the transaction.
  CallPtr Submit(Event event, v1::Wait wait, absl::Time give_up, Reply reply);
  // Carries several events through and waits for nothing but their own writes. Neighbours of one transaction become one
  // write.
  struct Submission {
    Event event;
    Reply reply;
  };
  void SubmitAll(std::vector<Submission> submissions);
  // Reads the record as stored; null if there is none.
  void Read(const std::string& gtrid, Reply reply);
  // The same, and wait for the answer: for threads that may block. Not from a Reply.
  absl::StatusOr<GlobalPtr> SubmitAndWait(Event event);
  // The answers are in the order of the events.
  std::vector<absl::StatusOr<GlobalPtr>> SubmitAllAndWait(std::vector<Event> events);
  absl::StatusOr<GlobalPtr> ReadAndWait(const std::string& gtrid);
  // OK: what is known of this transaction, and of all that were known before, is on disk. One forced write. Blocks.
  absl::Status MakeDurable(const std::string& gtrid) { return store_->Settle(gtrid).status(); }
  // Whoever asked has gone: if the call only waits, it is answered with CANCELLED now. What it did stays done.
  void Cancel(const CallPtr& call);

  // Answers everybody who waits with SHUTTING_DOWN, and everybody who comes from now on.
  void Drain();

  // The transactions that are decided and not finished, as far as the store can be asked. The time it takes grows with
  // the number of open transactions; no lock is held for long. Of a shared store: whoever decided them, and those whose
  // deadline passed without anybody noticing are rolled back on the way. Blocks.
  std::vector<GlobalPtr> Undone();
  // True if an unfinished transaction has a branch on the resource, or the store cannot be asked. Blocks.
  bool UsesResource(absl::string_view resource);
  int64_t OpenGlobals() const { return open_; }

  // Of a shared store: learns what others did with the transactions that somebody waits for here. Blocks.
  absl::Status LearnFromOthers();
  // Of a shared store: forgets what nobody has asked for since the call before last.
  void ForgetIdle();

 private:
  static constexpr size_t kShards = 64;
  static constexpr size_t kMaxFold = 1024;  // Events in one write.
  static constexpr absl::Duration kRetryDelay = absl::Seconds(1);

  struct Live;
  struct Effects;
  struct Shard {
    Mutex mutex;
    std::unordered_map<std::string, std::unique_ptr<Live>> lives ABSL_GUARDED_BY(mutex);
  };

  Shard& ShardOf(absl::string_view gtrid);
  // Locked parts: they change the shard and collect effects.
  // Calls of one transaction.
  void Enqueue(Shard* shard, absl::Span<const CallPtr> calls, Effects* effects)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard->mutex);
  // Where the call may queue up; null: it has been answered.
  Live* Admit(Shard* shard, const CallPtr& call, Effects* effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard->mutex);
  void Pump(Live* live, Effects* effects);
  void BeginRead(Live* live, Effects* effects);
  bool IsFresh(const Call& call, const Live& live) const;
  void ExpireOverdue(const v1::Global& record);
  absl::Status ForEachOpen(const std::function<void(const GlobalPtr&)>& visit);
  void Adopt(GlobalPtr record, Live* live, Effects* effects);
  void Deliver(const CallPtr& call, const absl::Status& answer, Live* live, Effects* effects);
  void MaybeRetire(Shard* shard, Live* live, Effects* effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard->mutex);
  void HandleWritten(Live* live, TransitionResult result, Effects* effects);
  void HandleConflict(Live* live, GlobalPtr current, Effects* effects);
  absl::Status WhetherDeleted(const std::string& gtrid) const;
  void HandleFence(Live* live, const absl::Status& fence, Effects* effects);
  // Unlocked parts.
  void Run(Effects* effects);
  void OnWritten(const std::string& gtrid, TransitionResult result);
  void StartRead(const std::string& gtrid, bool settle);
  void OnRead(const std::string& gtrid, bool settle, absl::StatusOr<GlobalPtr> record);
  void OnDeadline(const std::string& gtrid);
  absl::Status PresumeAbort(const std::vector<std::string>& undecided);
  void RearmDeadline(const std::string& gtrid);
  void GiveUp(const CallPtr& call, const absl::Status& status);
  void ReportStore(const absl::Status& status);
  void ProbeStore();

  Store* const store_;
  Clock* const clock_;
  Timer* const timer_;
  Executor* const executor_;
  const EngineOptions options_;
  std::atomic<bool> draining_{false};
  std::atomic<bool> store_healthy_{true};
  std::atomic<int64_t> open_{0};
  std::atomic<int64_t> age_{0};  // Counts ForgetIdle.
  std::array<Shard, kShards> shards_;
};

}  // namespace assent

#endif  // ASSENT_COORDINATOR_ENGINE_H_
