// The protocol of a global transaction as a pure function: (state, event) -> (state', answer, actions).
//
// No locks, no clock, no I/O: the engine (engine.h) feeds it, stores what it says and then acts. RuleFor is the one
// switch over every state and every event; docs/protocol.md prints it, protocol_laws_test.cc tries every pair.
#ifndef ASSENT_COORDINATOR_PROTOCOL_H_
#define ASSENT_COORDINATOR_PROTOCOL_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "assent/v1/coordinator_service.pb.h"
#include "assent/v1/global.pb.h"
#include "store/proof.h"
#include "store/store.h"

namespace assent {

// More than this in one transaction is refused (TOO_MANY_BRANCHES).
constexpr int kMaxBranches = 1000;

// v1::Global::State, with "there is no record" spelt out.
enum class State {
  kAbsent,
  kActive,
  kOnePhase,
  kCommitting,
  kCommitted,
  kRollingBack,
  kRolledBack,
  kHeuristic,
  kClosed
};
constexpr State kAllStates[] = {State::kAbsent,     State::kActive,    State::kOnePhase,
                                State::kCommitting, State::kCommitted, State::kRollingBack,
                                State::kRolledBack, State::kHeuristic, State::kClosed};

enum class EventKind {
  kCreate,
  kAddBranches,
  kVote,
  kFinalize,
  kComplete,
  kEvidence,
  kResolve,
  kDeadline,
  kPresumeAbort,
  kOrphan
};
constexpr EventKind kAllEvents[] = {
    EventKind::kCreate,   EventKind::kAddBranches, EventKind::kVote,     EventKind::kFinalize,     EventKind::kComplete,
    EventKind::kEvidence, EventKind::kResolve,     EventKind::kDeadline, EventKind::kPresumeAbort, EventKind::kOrphan};

// What a state does with an event.
enum class Rule {
  kCreate,             // Make the record, ACTIVE.
  kNotFound,           // Refuse: GLOBAL_NOT_FOUND.
  kDecideWhole,        // Make the record with its decision, if the call brings all of it; else GLOBAL_NOT_FOUND.
  kRepeatCreate,       // Same content: the same answer. Else REQUEST_ID_REUSED or GTRID_IN_USE.
  kAddBranches,        // Add them, or answer the same for a repetition.
  kRepeatAddBranches,  // Answer the same for a repetition, else GLOBAL_ROLLED_BACK or GLOBAL_COMMITTED.
  kCountVotes,         // Count them; a FAILED vote decides ROLLBACK; the policy may decide COMMIT.
  kLateVotes,          // After the decision: repetitions get the decision; a new PREPARED gets GLOBAL_ROLLED_BACK.
  kDecide,             // COMMIT if every branch is prepared, else BRANCHES_NOT_PREPARED; ROLLBACK always.
  kCompareDecision,    // The same decision: the same answer. The other one: GLOBAL_ROLLED_BACK or GLOBAL_COMMITTED.
  kRecordWhole,  // Make the record of what was committed in one phase, if the report brings it; else GLOBAL_NOT_FOUND.
  kEarlyCompletion,    // Rolled back before the decision: decides ROLLBACK. Committed: GLOBAL_NOT_DECIDED.
  kRecordCompletion,   // Record the proof; the last one finishes; a contradiction makes HEURISTIC.
  kRecordEvidence,     // Record what recovery found, if it is new; what it proves counts like a completion.
  kResolve,            // An operator's word, if the etag fits and the evidence does not contradict it.
  kRefuseResolve,      // Refuse: RESOLUTION_REFUSED. Nothing is in doubt.
  kRollBackIfExpired,  // Decide ROLLBACK if it is past its expire_time.
  kPresumeAbort,       // Decide ROLLBACK: what led here may have been lost.
  kBury,               // Make the record, ROLLED_BACK and without branches: it can never be decided COMMIT now.
  kIgnore,             // Nothing.
};

// The legality table.
Rule RuleFor(State state, EventKind event);

// A branch to be created, its resource already looked up.
struct NewBranch {
  std::string bqual;  // Valid, or empty: the protocol chooses one that is free.
  std::string resource;
  std::string witness_table;
  std::string server{};                   // The resource's; empty: not known.
  int64_t timeline = 0;                   // The resource's; 0: not known.
  absl::optional<v1::Session> session{};  // That will run it, if known.
};

// Something that happens to a global transaction. Which fields count depends on `kind`; ids and sizes are validated.
struct Event {
  EventKind kind = EventKind::kDeadline;
  absl::Time now;     // When the coordinator saw it.
  std::string actor;  // Who: a peer address; empty for the coordinator itself.

  std::string gtrid;
  // kCreate
  bool brings_gtrid = false;  // The caller chose the gtrid.
  // kCreate, and what creates
  absl::Duration timeout;
  v1::DecisionPolicy policy = v1::DECISION_POLICY_ON_FINALIZE;
  int expected_branches = 0;
  // kCreate, kAddBranches. With kAddBranches it is not empty if any bqual is.
  std::string request_id;
  // kCreate, kAddBranches, and what creates
  std::vector<NewBranch> branches;
  // kVote, kFinalize
  std::vector<v1::Vote> votes;
  // kFinalize
  v1::Decision decision = v1::DECISION_UNSPECIFIED;
  std::string reason;
  // kFinalize, kComplete: the call brings the whole transaction, and makes its record if there is none.
  bool creates = false;
  absl::Duration age;                        // Since its participant began it.
  absl::Time born = absl::InfiniteFuture();  // Its gtrid; nothing of it is older. InfinitePast: nobody knows.
  absl::Status problem;                      // Why it must not be decided COMMIT, whatever the votes say.
  bool must_be_first = false;  // It makes a record only if there certainly never was one; the store knows (law S8).
  // Without a record: that there may have been one. Then nothing is decided, or presumed, any more.
  absl::Status fence;
  // kComplete, kEvidence, kResolve
  std::string bqual;
  // kComplete
  v1::Completion::Result result = v1::Completion::RESULT_UNSPECIFIED;
  // kEvidence; kResolve: what the look at the database found
  v1::Evidence evidence;
  // kEvidence: the branch was open when the look began. If it has ended since, the look says nothing of it: whoever
  // ended it may have removed its witness already.
  bool of_open_branch = false;
  // kResolve, with `reason`
  v1::Resolution resolution = v1::RESOLUTION_UNSPECIFIED;
  std::string etag;
};

// True if the event makes the record that is not there.
inline bool Creates(const Event& event) { return event.kind == EventKind::kCreate || event.creates; }

// What a stored state asks of the engine. Level-triggered and idempotent: they follow from the state alone, so that a
// state that was read (at start, after a conflict) asks for the same as one that was just written.
enum class Action {
  kArmDeadline,     // ACTIVE: expire it at expire_time.
  kDisarmDeadline,  // It is decided.
  kAnswerDecided,   // Answer everybody who waits for the decision.
  kAnswerApplied,   // Answer everybody who waits for the end.
  kRetire,          // Nothing is left to do: forget it in memory.
};
std::vector<Action> ActionsOf(const v1::Global& global);

struct Step {
  // What the caller is told: OK (with the state that stands), or a refusal. A refusal changes nothing.
  absl::Status answer;
  // The new record, its revision counted up; null if nothing changes.
  GlobalPtr next;
  // kForced for a decision to COMMIT that some prepared branch rests on, and for what must keep a COMMIT out of a
  // transaction of which nothing else is on record; the rest needs no forcing (presumed abort).
  Durability durability = Durability::kLazy;
  bool must_be_first = false;  // The event's, if `next` is a new record.
  // ActionsOf(*next): what to do once `next` is stored.
  std::vector<Action> actions;
};

// The protocol. `current`: the record as stored, or null. Pure.
Step Apply(const v1::Global* current, const Event& event);

State StateOf(const v1::Global* current);
// True while it is still to be decided here: by its participants, or its deadline.
bool IsUndecided(const v1::Global& global);
// The outcome as far as it is proven.
v1::Outcome OutcomeOf(const v1::Global& global);
v1::GlobalStatus StatusOf(const v1::Global& global);
// Names this state of the transaction (ResolveBranchRequest.etag).
std::string EtagOf(const v1::Global& global);
// True if it is proven to have ended against the decision.
bool IsHeuristic(const v1::Branch& branch);
// True once nothing more will happen without an operator: COMMITTED, ROLLED_BACK, HEURISTIC, HEURISTIC_CLOSED.
bool IsSettled(const v1::Global& global);
// The branches that a kAddBranches event made or found, in the order of the event.
std::vector<v1::Branch> BranchesOf(const v1::Global& global, const Event& event);

absl::string_view Name(State state);
absl::string_view Name(EventKind event);
absl::string_view Name(Rule rule);
// One line of what the rule does, as in docs/protocol.md.
absl::string_view Describe(Rule rule);
// docs/protocol.md's table, from RuleFor.
std::string ProtocolTableMarkdown();

}  // namespace assent

#endif  // ASSENT_COORDINATOR_PROTOCOL_H_
