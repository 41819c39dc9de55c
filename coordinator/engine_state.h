// What the engine keeps in memory. Private to engine.cc and engine_survey.cc.
#ifndef ASSENT_COORDINATOR_ENGINE_STATE_H_
#define ASSENT_COORDINATOR_ENGINE_STATE_H_

#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/engine.h"

namespace assent {

constexpr int kPage = 1000;  // Records read at once.

// One call on its way through: queued, then in flight with a write, then perhaps waiting.
struct Engine::Call {
  std::string gtrid;
  absl::optional<Event> event;  // None: only reads.
  v1::Wait wait = v1::WAIT_NONE;
  absl::Time give_up;
  Reply reply;
  bool creates() const { return event && Creates(*event); }
  int64_t came_at = 0;                      // Live::begun when it came.
  absl::optional<Timer::Id> give_up_timer;  // Guarded by the shard's mutex.
};

// An unfinished (or just asked for) transaction. Guarded by its shard's mutex.
struct Engine::Live {
  enum class Busy {
    kIdle,
    kReading,   // Its record is being read; calls queue.
    kWriting,   // A transition is in flight; calls queue.
    kSettling,  // The last write's fate is unknown; calls are refused until it is known.
  };
  struct InFlight {
    CallPtr call;
    absl::Status answer;
  };

  explicit Live(std::string id) : gtrid(std::move(id)) {}

  const std::string gtrid;
  GlobalPtr record;    // As stored; null: no record, or not known.
  bool known = false;  // False until the store has said what is there: a Create does not look first.
  Busy busy = Busy::kIdle;
  // Reads and writes of the record, one at a time: how many have begun, and the last one that told what is stored.
  int64_t begun = 0;
  int64_t told = 0;
  int64_t age = 0;  // Engine::age_ when it was last asked for.
  std::deque<CallPtr> queue;
  std::vector<InFlight> in_flight;
  GlobalPtr next;  // What the write in flight stores.
  std::vector<CallPtr> waiters;
  absl::optional<Timer::Id> deadline;
};

// What is to be done once the lock is released.
struct Engine::Effects {
  struct Answer {
    CallPtr call;
    absl::Status status;
    GlobalPtr record;
  };
  std::vector<Answer> answers;
  absl::optional<Transition> write;
  std::string write_gtrid;
  std::string read_gtrid;  // Read its record.
  GlobalPtr finished;      // Has just ended.
  bool settle = false;     // …after the fate of everything in flight is known.
  std::vector<Timer::Id> cancelled_timers;
};

// The event that the deadline has passed.
inline Event DeadlineOf(const std::string& gtrid, absl::Time now) {
  Event event;
  event.kind = EventKind::kDeadline;
  event.gtrid = gtrid;
  event.now = now;
  return event;
}

}  // namespace assent

#endif  // ASSENT_COORDINATOR_ENGINE_STATE_H_
