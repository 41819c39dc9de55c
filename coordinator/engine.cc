#include "coordinator/engine.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "base/xid.h"
#include "coordinator/engine_fault_points.h"
#include "coordinator/engine_state.h"
#include "store/horizon.h"

namespace assent {

constexpr absl::Duration Engine::kRetryDelay;

namespace {

bool IsSatisfied(v1::Wait wait, const GlobalPtr& record) {
  if (record == nullptr) return true;
  switch (wait) {
    case v1::WAIT_DECIDED: return record->decision() != v1::DECISION_UNSPECIFIED;
    case v1::WAIT_APPLIED: return IsSettled(*record);
    default: return true;
  }
}

absl::Status ShuttingDown() {
  return MakeError(Reason::SHUTTING_DOWN,
                   "the coordinator is shutting down; repeat the call, it will be answered after the restart");
}

absl::Status FateUnknown() {
  return MakeError(Reason::STORE_UNAVAILABLE,
                   "the store did not confirm a write, so it is not known yet whether it happened; repeat the call");
}

}  // namespace

Engine::Engine(Store* store, Clock* clock, Timer* timer, Executor* executor, EngineOptions options)
    : store_(store), clock_(clock), timer_(timer), executor_(executor), options_(std::move(options)) {}

Engine::~Engine() = default;

Engine::Shard& Engine::ShardOf(absl::string_view gtrid) {
  return shards_[absl::Hash<absl::string_view>()(gtrid) % kShards];
}

absl::Status Engine::Start() {
  if (options_.shared) return absl::OkStatus();
  const bool presume_abort = store_->MayHaveLostLazyWrites();
  int64_t aborted = 0;
  for (std::string after;;) {
    absl::StatusOr<std::vector<GlobalPtr>> page = store_->ReadOpen(after, kPage);
    if (!page.ok()) return page.status();
    std::vector<std::string> undecided;
    for (GlobalPtr& record : *page) {
      after = record->gtrid();
      if (presume_abort && record->state() == v1::Global::STATE_ACTIVE) undecided.push_back(after);
      Effects effects;
      {
        Shard& shard = ShardOf(after);
        MutexLock lock(&shard.mutex);
        std::unique_ptr<Live>& live = shard.lives[after];
        live = std::make_unique<Live>(after);
        ++open_;
        Adopt(std::move(record), live.get(), &effects);
      }
      Run(&effects);
    }
    aborted += static_cast<int64_t>(undecided.size());
    if (absl::Status status = PresumeAbort(undecided); !status.ok()) return status;
    if (page->size() < kPage) break;
  }
  LOG(INFO) << "open_globals=" << open_ << " presumed_aborted=" << aborted;
  return absl::OkStatus();
}

// Nothing may be served before this is done: a caller could decide COMMIT where a lost ROLLBACK had been told.
absl::Status Engine::PresumeAbort(const std::vector<std::string>& undecided) {
  std::vector<Event> events;
  for (const std::string& gtrid : undecided) {
    Event event;
    event.kind = EventKind::kPresumeAbort;
    event.gtrid = gtrid;
    event.now = clock_->Now();
    events.push_back(std::move(event));
  }
  for (const absl::StatusOr<GlobalPtr>& answer : SubmitAllAndWait(std::move(events))) {
    if (!answer.ok()) return answer.status();
  }
  return absl::OkStatus();
}

Engine::CallPtr Engine::Submit(Event event, v1::Wait wait, absl::Time give_up, Reply reply) {
  auto call = std::make_shared<Call>();
  call->gtrid = event.gtrid;
  call->event = std::move(event);
  call->wait = wait;
  call->give_up = give_up;
  call->reply = std::move(reply);
  Effects effects;
  {
    Shard& shard = ShardOf(call->gtrid);
    MutexLock lock(&shard.mutex);
    Enqueue(&shard, {call}, &effects);
  }
  Run(&effects);
  return call;
}

void Engine::SubmitAll(std::vector<Submission> submissions) {
  for (size_t begin = 0; begin < submissions.size();) {
    const std::string gtrid = submissions[begin].event.gtrid;
    std::vector<CallPtr> calls;
    for (; begin < submissions.size() && submissions[begin].event.gtrid == gtrid; ++begin) {
      auto call = std::make_shared<Call>();
      call->gtrid = gtrid;
      call->event = std::move(submissions[begin].event);
      call->reply = std::move(submissions[begin].reply);
      calls.push_back(std::move(call));
    }
    Effects effects;
    {
      Shard& shard = ShardOf(gtrid);
      MutexLock lock(&shard.mutex);
      Enqueue(&shard, calls, &effects);
    }
    Run(&effects);
  }
}

void Engine::Read(const std::string& gtrid, Reply reply) {
  auto call = std::make_shared<Call>();
  call->gtrid = gtrid;
  call->reply = std::move(reply);
  Effects effects;
  {
    Shard& shard = ShardOf(gtrid);
    MutexLock lock(&shard.mutex);
    const auto it = shard.lives.find(gtrid);
    if (!options_.shared && it != shard.lives.end() && it->second->busy == Live::Busy::kWriting && it->second->known) {
      effects.answers.push_back({call, absl::OkStatus(), it->second->record});  // What is stored, not what may come.
    } else {
      Enqueue(&shard, {call}, &effects);
    }
  }
  Run(&effects);
}

namespace {

// Waits for one Reply.
class Answer {
 public:
  Engine::Reply Reply() {
    return [state = state_](const absl::Status& status, const GlobalPtr& record) {
      MutexLock lock(&state->mutex);
      state->status = status;
      state->record = record;
      state->done = true;
      state->changed.NotifyAll();
    };
  }
  absl::StatusOr<GlobalPtr> Wait() {
    MutexLock lock(&state_->mutex);
    while (!state_->done) state_->changed.Wait(&state_->mutex);
    if (!state_->status.ok()) return state_->status;
    return state_->record;
  }

 private:
  struct State {
    Mutex mutex;
    CondVar changed;
    bool done = false;
    absl::Status status;
    GlobalPtr record;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace

absl::StatusOr<GlobalPtr> Engine::SubmitAndWait(Event event) {
  Answer answer;
  Submit(std::move(event), v1::WAIT_NONE, absl::InfiniteFuture(), answer.Reply());
  return answer.Wait();
}

std::vector<absl::StatusOr<GlobalPtr>> Engine::SubmitAllAndWait(std::vector<Event> events) {
  std::vector<Answer> answers(events.size());
  std::vector<Submission> submissions;
  for (size_t i = 0; i < events.size(); ++i) submissions.push_back({std::move(events[i]), answers[i].Reply()});
  SubmitAll(std::move(submissions));
  std::vector<absl::StatusOr<GlobalPtr>> records;
  for (Answer& answer : answers) records.push_back(answer.Wait());
  return records;
}

absl::StatusOr<GlobalPtr> Engine::ReadAndWait(const std::string& gtrid) {
  Answer answer;
  Read(gtrid, answer.Reply());
  return answer.Wait();
}

Engine::Live* Engine::Admit(Shard* shard, const CallPtr& call, Effects* effects) {
  if (draining_) {
    effects->answers.push_back({call, ShuttingDown(), nullptr});
    return nullptr;
  }
  auto it = shard->lives.find(call->gtrid);
  if (it == shard->lives.end()) {
    // What brings its decision is about to end, not to begin.
    const bool opens = call->event && call->event->kind == EventKind::kCreate;
    if (opens && open_ >= options_.max_open_globals) {
      const std::string limit = absl::StrCat(options_.max_open_globals);
      effects->answers.push_back(
          {call,
           MakeError(
               Reason::TOO_MANY_OPEN_GLOBALS,
               absl::StrCat(limit, " global transactions are unfinished, which is the limit (--max-open-globals)"),
               {{"limit", limit}}),
           nullptr});
      return nullptr;
    }
    it = shard->lives.emplace(call->gtrid, std::make_unique<Live>(call->gtrid)).first;
    ++open_;
    if (!call->creates()) BeginRead(it->second.get(), effects);
  } else {
    call->came_at = it->second->begun;
  }
  Live* const live = it->second.get();
  live->age = age_;
  if (live->busy != Live::Busy::kSettling) return live;
  effects->answers.push_back({call, FateUnknown(), nullptr});
  return nullptr;
}

void Engine::Enqueue(Shard* shard, absl::Span<const CallPtr> calls, Effects* effects) {
  Live* live = nullptr;
  for (const CallPtr& call : calls) {
    Live* const admitted = Admit(shard, call, effects);
    if (admitted == nullptr) continue;
    live = admitted;
    call->came_at = calls.front()->came_at;  // They came together.
    live->queue.push_back(call);
  }
  if (live == nullptr) return;
  Pump(live, effects);
  MaybeRetire(shard, live, effects);
}

void Engine::BeginRead(Live* live, Effects* effects) {
  live->busy = Live::Busy::kReading;
  ++live->begun;
  effects->read_gtrid = live->gtrid;
}

// True if what is in memory was stored at some moment since the call came.
bool Engine::IsFresh(const Call& call, const Live& live) const { return !options_.shared || live.told > call.came_at; }

// What creates nothing may find nothing because it was deleted, and then nobody may say how it ended. (Where the caller
// chose the gtrid its birth is not known: what he had made is then taken for what never was.)
absl::Status Engine::WhetherDeleted(const std::string& gtrid) const {
  const absl::optional<absl::Time> birth = BirthOf(gtrid);
  return birth && *birth < store_->Horizon() ? MayHaveBeenDeleted(gtrid) : absl::OkStatus();
}

// Folds what is queued into one write, or answers it at once if nothing changes.
void Engine::Pump(Live* live, Effects* effects) {
  while (live->busy == Live::Busy::kIdle && !live->queue.empty()) {
    const Call& first = *live->queue.front();
    if (!live->known && !first.creates()) {
      BeginRead(live, effects);  // A Create was not stored: nothing is known of this id yet.
      return;
    }
    GlobalPtr folded = live->record;
    Durability durability = Durability::kLazy;
    bool must_be_first = false;
    const bool fresh = IsFresh(first, *live);
    for (size_t i = 0; i < kMaxFold && !live->queue.empty(); ++i) {
      if (IsFresh(*live->queue.front(), *live) != fresh) break;  // The older ones must not wait for the younger.
      CallPtr call = std::move(live->queue.front());
      live->queue.pop_front();
      absl::Status answer;
      if (call->event) {
        // A deadline that has passed comes before whatever arrives after it, even if the timer is late.
        if (folded != nullptr && folded->state() == v1::Global::STATE_ACTIVE &&
            call->event->now >= GetTime(folded->expire_time())) {
          if (Step expired = Apply(folded.get(), DeadlineOf(live->gtrid, call->event->now)); expired.next != nullptr) {
            folded = std::move(expired.next);
          }
        }
        if (folded == nullptr && !call->creates()) call->event->fence = WhetherDeleted(live->gtrid);
        Step step = Apply(folded.get(), *call->event);
        answer = std::move(step.answer);
        if (step.next != nullptr) {
          folded = std::move(step.next);
          if (step.durability == Durability::kForced) durability = Durability::kForced;
          must_be_first = must_be_first || step.must_be_first;
        }
      }
      live->in_flight.push_back({std::move(call), std::move(answer)});
    }
    if (folded == live->record && !fresh && live->known) {
      for (auto it = live->in_flight.rbegin(); it != live->in_flight.rend(); ++it) live->queue.push_front(it->call);
      live->in_flight.clear();
      BeginRead(live, effects);
      return;
    }
    if (folded == live->record) {
      std::vector<Live::InFlight> answered;
      answered.swap(live->in_flight);
      for (Live::InFlight& done : answered) Deliver(done.call, done.answer, live, effects);
      continue;
    }
    live->next = folded;
    live->busy = Live::Busy::kWriting;
    ++live->begun;
    effects->write =
        Transition{std::move(folded), live->record ? live->record->revision() : 0, durability, must_be_first};
    effects->write_gtrid = live->gtrid;
  }
}

// Takes over a stored record and does what its state asks for.
void Engine::Adopt(GlobalPtr record, Live* live, Effects* effects) {
  live->record = std::move(record);
  live->known = true;
  if (live->record == nullptr) return;
  for (const Action action : ActionsOf(*live->record)) {
    switch (action) {
      case Action::kArmDeadline:
        if (!live->deadline) {
          live->deadline = timer_->Schedule(GetTime(live->record->expire_time()),
                                            [this, gtrid = live->gtrid] { OnDeadline(gtrid); });
        }
        break;
      case Action::kDisarmDeadline:
        if (live->deadline) effects->cancelled_timers.push_back(*live->deadline);
        live->deadline.reset();
        break;
      case Action::kAnswerDecided:
      case Action::kAnswerApplied: {
        const auto first =
            std::stable_partition(live->waiters.begin(), live->waiters.end(),
                                  [live](const CallPtr& call) { return !IsSatisfied(call->wait, live->record); });
        for (auto it = first; it != live->waiters.end(); ++it) {
          if ((*it)->give_up_timer) effects->cancelled_timers.push_back(*(*it)->give_up_timer);
          effects->answers.push_back({*it, absl::OkStatus(), live->record});
        }
        live->waiters.erase(first, live->waiters.end());
        break;
      }
      case Action::kRetire: break;  // MaybeRetire does, once nobody is in the middle of it.
    }
  }
}

// Answers a call whose part is done, or lets it wait.
void Engine::Deliver(const CallPtr& call, const absl::Status& answer, Live* live, Effects* effects) {
  if (!answer.ok() || IsSatisfied(call->wait, live->record)) {
    effects->answers.push_back({call, answer, live->record});
  } else if (draining_) {
    effects->answers.push_back({call, ShuttingDown(), nullptr});
  } else {
    live->waiters.push_back(call);
    call->give_up_timer = timer_->Schedule(call->give_up, [this, call] { GiveUp(call, absl::OkStatus()); });
  }
}

// Forgets the transaction if there is nothing left to do for it.
void Engine::MaybeRetire(Shard* shard, Live* live, Effects* effects) {
  if (live->busy != Live::Busy::kIdle || !live->queue.empty() || !live->waiters.empty()) return;
  if (live->record != nullptr && !IsFinished(live->record->state())) return;
  if (live->deadline) effects->cancelled_timers.push_back(*live->deadline);
  shard->lives.erase(live->gtrid);
  --open_;
}

void Engine::Run(Effects* effects) {
  for (const Timer::Id& id : effects->cancelled_timers) timer_->Cancel(id);
  if (effects->write) {
    ASSENT_FAULT_POINT_OF(PointBeforeStoring(*effects->write->next));
    store_->Submit(std::move(*effects->write), [this, gtrid = effects->write_gtrid](TransitionResult result) {
      OnWritten(gtrid, std::move(result));
    });
  }
  if (!effects->read_gtrid.empty()) StartRead(effects->read_gtrid, effects->settle);
  if (effects->finished != nullptr) options_.on_finished(effects->finished);
  for (Effects::Answer& answer : effects->answers) {
    answer.call->reply(answer.status, answer.record);
    answer.call->reply = nullptr;  // Whatever it holds is released now, even if a timer still knows the call.
  }
}

void Engine::OnWritten(const std::string& gtrid, TransitionResult result) {
  ReportStore(result.status);
  Effects effects;
  {
    Shard& shard = ShardOf(gtrid);
    MutexLock lock(&shard.mutex);
    Live* live = shard.lives.at(gtrid).get();
    ASSENT_FAULT_POINT_OF(result.code == TransitionResult::Code::kApplied ? PointOnceStored(*live->next)
                                                                          : FaultPoint::kNone);
    HandleWritten(live, std::move(result), &effects);
    Pump(live, &effects);
    MaybeRetire(&shard, live, &effects);
  }
  Run(&effects);
}

void Engine::HandleWritten(Live* live, TransitionResult result, Effects* effects) {
  live->busy = Live::Busy::kIdle;
  GlobalPtr next = std::move(live->next);
  switch (result.code) {
    case TransitionResult::Code::kApplied: {
      if (next->decision() != v1::DECISION_UNSPECIFIED &&
          (!live->record || live->record->decision() == v1::DECISION_UNSPECIFIED)) {
        VLOG(1) << "gtrid=" << live->gtrid << " decision=" << v1::Decision_Name(next->decision())
                << " cause=" << v1::DecisionCause_Name(next->cause()) << " detail=\"" << next->cause_detail() << "\"";
      }
      LOG_IF(ERROR,
             next->state() == v1::Global::STATE_HEURISTIC && live->record->state() != v1::Global::STATE_HEURISTIC)
          << "gtrid=" << live->gtrid << " HEURISTIC: evidence contradicts the decision "
          << v1::Decision_Name(next->decision());
      if (IsFinished(next->state())) effects->finished = next;
      live->told = live->begun;
      Adopt(std::move(next), live, effects);
      std::vector<Live::InFlight> done;
      done.swap(live->in_flight);
      for (Live::InFlight& each : done) Deliver(each.call, each.answer, live, effects);
      return;
    }
    case TransitionResult::Code::kConflict: HandleConflict(live, std::move(result.current), effects); return;
    case TransitionResult::Code::kNotApplied: {
      if (ReasonOf(result.status) == Reason::OUTCOME_IN_DOUBT) return HandleFence(live, result.status, effects);
      for (Live::InFlight& each : live->in_flight) effects->answers.push_back({each.call, result.status, nullptr});
      live->in_flight.clear();
      return;
    }
    case TransitionResult::Code::kUnknown: {
      LOG(WARNING) << "gtrid=" << live->gtrid << " fate of a write unknown: " << ToText(result.status);
      live->busy = Live::Busy::kSettling;
      for (Live::InFlight& each : live->in_flight) effects->answers.push_back({each.call, FateUnknown(), nullptr});
      for (CallPtr& call : live->queue) effects->answers.push_back({call, FateUnknown(), nullptr});
      live->in_flight.clear();
      live->queue.clear();
      ++live->begun;
      effects->read_gtrid = live->gtrid;
      effects->settle = true;
      return;
    }
  }
}

void Engine::HandleConflict(Live* live, GlobalPtr current, Effects* effects) {
  std::vector<Live::InFlight> again;
  again.swap(live->in_flight);
  if (current != nullptr && current->gtrid() != live->gtrid) {
    // The request id belongs to another transaction: whoever creates gets that one, and this one never was.
    live->known = true;
    for (Live::InFlight& each : again) {
      const bool creates = each.call->creates();
      const absl::Status answer =
          each.call->event ? Apply(creates ? current.get() : nullptr, *each.call->event).answer : absl::OkStatus();
      effects->answers.push_back({each.call, answer, creates ? current : nullptr});
    }
    return;
  }
  live->told = live->begun;
  Adopt(std::move(current), live, effects);
  for (auto it = again.rbegin(); it != again.rend(); ++it) live->queue.push_front(std::move(it->call));
}

// There is no record, and there may have been one. Each call is asked again what it makes of that: what is proven may
// still be put down.
void Engine::HandleFence(Live* live, const absl::Status& fence, Effects* effects) {
  for (Live::InFlight& each : live->in_flight) {
    if (each.call->event && each.call->event->must_be_first) each.call->event->fence = fence;
  }
  HandleConflict(live, nullptr, effects);
}

void Engine::StartRead(const std::string& gtrid, bool settle) {
  const bool accepted = executor_->Run(
      [this, gtrid, settle] { OnRead(gtrid, settle, settle ? store_->Settle(gtrid) : store_->Read(gtrid)); });
  if (!accepted)
    OnRead(gtrid, settle, MakeError(Reason::OVERLOADED, "too many reads of the store are waiting; repeat the call"));
}

void Engine::OnRead(const std::string& gtrid, bool settle, absl::StatusOr<GlobalPtr> record) {
  if (settle && !record.ok()) {
    LOG(WARNING) << "gtrid=" << gtrid << " fate of a write still unknown: " << ToText(record.status());
    timer_->Schedule(clock_->Now() + kRetryDelay, [this, gtrid] { StartRead(gtrid, true); });
    return;
  }
  // That it can be read does not mean that it can be written: only a write, or a probe, turns the health to good.
  if (!record.ok() && ReasonOf(record.status()) != Reason::STORE_CORRUPT) ReportStore(record.status());
  Effects effects;
  {
    Shard& shard = ShardOf(gtrid);
    MutexLock lock(&shard.mutex);
    Live* live = shard.lives.at(gtrid).get();
    live->busy = Live::Busy::kIdle;
    if (record.ok()) {
      live->told = live->begun;
      Adopt(std::move(*record), live, &effects);
      if (live->record == nullptr) {  // A write that turned out not to have been: whoever waited for it learns that.
        for (CallPtr& call : live->waiters) live->queue.push_back(std::move(call));
        live->waiters.clear();
      }
      Pump(live, &effects);
    } else {
      for (CallPtr& call : live->queue) effects.answers.push_back({call, record.status(), nullptr});
      live->queue.clear();
    }
    MaybeRetire(&shard, live, &effects);
  }
  Run(&effects);
}

void Engine::OnDeadline(const std::string& gtrid) {
  Submit(DeadlineOf(gtrid, clock_->Now()), v1::WAIT_NONE, absl::InfiniteFuture(),
         [this, gtrid](const absl::Status& status, const GlobalPtr& record) {
           // Not stored, or the clock went back: again.
           if (!status.ok() || (record != nullptr && record->state() == v1::Global::STATE_ACTIVE)) RearmDeadline(gtrid);
         });
}

void Engine::RearmDeadline(const std::string& gtrid) {
  if (draining_) return;
  Shard& shard = ShardOf(gtrid);
  MutexLock lock(&shard.mutex);
  const auto it = shard.lives.find(gtrid);
  if (it == shard.lives.end() || !it->second->deadline) return;
  const GlobalPtr& record = it->second->record;
  absl::Time when = clock_->Now() + kRetryDelay;
  if (record != nullptr) when = std::max(when, GetTime(record->expire_time()));
  it->second->deadline = timer_->Schedule(when, [this, gtrid] { OnDeadline(gtrid); });
}

void Engine::GiveUp(const CallPtr& call, const absl::Status& status) {
  Effects effects;
  {
    Shard& shard = ShardOf(call->gtrid);
    MutexLock lock(&shard.mutex);
    const auto it = shard.lives.find(call->gtrid);
    if (it == shard.lives.end()) return;
    Live* live = it->second.get();
    const auto waiter = std::find(live->waiters.begin(), live->waiters.end(), call);
    if (waiter == live->waiters.end()) return;
    if (call->give_up_timer) effects.cancelled_timers.push_back(*call->give_up_timer);
    live->waiters.erase(waiter);
    if (options_.shared && status.ok() && live->busy != Live::Busy::kSettling) {
      // Somebody else may have written since: it is told what is stored now.
      call->give_up_timer.reset();
      call->event.reset();
      call->wait = v1::WAIT_NONE;
      call->came_at = live->begun;
      live->queue.push_back(call);
      Pump(live, &effects);
    } else {
      effects.answers.push_back({call, live->record != nullptr ? status : FateUnknown(), live->record});
    }
    MaybeRetire(&shard, live, &effects);
  }
  Run(&effects);
}

void Engine::Cancel(const CallPtr& call) { GiveUp(call, absl::CancelledError("the caller has gone")); }

void Engine::Drain() {
  draining_ = true;
  for (Shard& shard : shards_) {
    Effects effects;
    {
      MutexLock lock(&shard.mutex);
      for (auto& entry : shard.lives) {
        for (CallPtr& call : entry.second->waiters) {
          if (call->give_up_timer) effects.cancelled_timers.push_back(*call->give_up_timer);
          effects.answers.push_back({std::move(call), ShuttingDown(), nullptr});
        }
        entry.second->waiters.clear();
      }
    }
    Run(&effects);
  }
}

}  // namespace assent
