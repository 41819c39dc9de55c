// The legality table of the protocol, its names, and its printed form. What each rule does is in protocol.cc.
#include "absl/strings/str_cat.h"
#include "coordinator/protocol.h"

namespace assent {

// Every state and every event is spelt out; a new one does not compile until it has its line here.
Rule RuleFor(State state, EventKind event) {
  switch (event) {
    case EventKind::kCreate:
      switch (state) {
        case State::kAbsent: return Rule::kCreate;
        case State::kActive: return Rule::kRepeatCreate;
        case State::kOnePhase: return Rule::kRepeatCreate;
        case State::kCommitting: return Rule::kRepeatCreate;
        case State::kCommitted: return Rule::kRepeatCreate;
        case State::kRollingBack: return Rule::kRepeatCreate;
        case State::kRolledBack: return Rule::kRepeatCreate;
        case State::kHeuristic: return Rule::kRepeatCreate;
        case State::kClosed: return Rule::kRepeatCreate;
      }
      break;
    case EventKind::kAddBranches:
      switch (state) {
        case State::kAbsent: return Rule::kNotFound;
        case State::kActive: return Rule::kAddBranches;
        case State::kOnePhase: return Rule::kRepeatAddBranches;
        case State::kCommitting: return Rule::kRepeatAddBranches;
        case State::kCommitted: return Rule::kRepeatAddBranches;
        case State::kRollingBack: return Rule::kRepeatAddBranches;
        case State::kRolledBack: return Rule::kRepeatAddBranches;
        case State::kHeuristic: return Rule::kRepeatAddBranches;
        case State::kClosed: return Rule::kRepeatAddBranches;
      }
      break;
    case EventKind::kVote:
      switch (state) {
        case State::kAbsent: return Rule::kNotFound;
        case State::kActive: return Rule::kCountVotes;
        case State::kOnePhase: return Rule::kLateVotes;
        case State::kCommitting: return Rule::kLateVotes;
        case State::kCommitted: return Rule::kLateVotes;
        case State::kRollingBack: return Rule::kLateVotes;
        case State::kRolledBack: return Rule::kLateVotes;
        case State::kHeuristic: return Rule::kLateVotes;
        case State::kClosed: return Rule::kLateVotes;
      }
      break;
    case EventKind::kFinalize:
      switch (state) {
        case State::kAbsent: return Rule::kDecideWhole;
        case State::kActive: return Rule::kDecide;
        case State::kOnePhase: return Rule::kCompareDecision;
        case State::kCommitting: return Rule::kCompareDecision;
        case State::kCommitted: return Rule::kCompareDecision;
        case State::kRollingBack: return Rule::kCompareDecision;
        case State::kRolledBack: return Rule::kCompareDecision;
        case State::kHeuristic: return Rule::kCompareDecision;
        case State::kClosed: return Rule::kCompareDecision;
      }
      break;
    case EventKind::kComplete:
      switch (state) {
        case State::kAbsent: return Rule::kRecordWhole;
        case State::kActive: return Rule::kEarlyCompletion;
        case State::kOnePhase: return Rule::kRecordCompletion;
        case State::kCommitting: return Rule::kRecordCompletion;
        case State::kCommitted: return Rule::kRecordCompletion;
        case State::kRollingBack: return Rule::kRecordCompletion;
        case State::kRolledBack: return Rule::kRecordCompletion;
        case State::kHeuristic: return Rule::kRecordCompletion;
        case State::kClosed: return Rule::kRecordCompletion;
      }
      break;
    case EventKind::kEvidence:
      switch (state) {
        case State::kAbsent: return Rule::kIgnore;
        case State::kActive: return Rule::kIgnore;
        case State::kOnePhase: return Rule::kRecordEvidence;
        case State::kCommitting: return Rule::kRecordEvidence;
        case State::kCommitted: return Rule::kRecordEvidence;
        case State::kRollingBack: return Rule::kRecordEvidence;
        case State::kRolledBack: return Rule::kRecordEvidence;
        case State::kHeuristic: return Rule::kRecordEvidence;
        case State::kClosed: return Rule::kRecordEvidence;
      }
      break;
    case EventKind::kResolve:
      switch (state) {
        case State::kAbsent: return Rule::kNotFound;
        case State::kActive: return Rule::kRefuseResolve;
        case State::kOnePhase: return Rule::kResolve;
        case State::kCommitting: return Rule::kResolve;
        case State::kCommitted: return Rule::kResolve;
        case State::kRollingBack: return Rule::kResolve;
        case State::kRolledBack: return Rule::kResolve;
        case State::kHeuristic: return Rule::kResolve;
        case State::kClosed: return Rule::kResolve;
      }
      break;
    case EventKind::kDeadline:
      switch (state) {
        case State::kAbsent: return Rule::kIgnore;
        case State::kActive: return Rule::kRollBackIfExpired;
        case State::kOnePhase: return Rule::kIgnore;
        case State::kCommitting: return Rule::kIgnore;
        case State::kCommitted: return Rule::kIgnore;
        case State::kRollingBack: return Rule::kIgnore;
        case State::kRolledBack: return Rule::kIgnore;
        case State::kHeuristic: return Rule::kIgnore;
        case State::kClosed: return Rule::kIgnore;
      }
      break;
    case EventKind::kPresumeAbort:
      switch (state) {
        case State::kAbsent: return Rule::kIgnore;
        case State::kActive: return Rule::kPresumeAbort;
        case State::kOnePhase: return Rule::kIgnore;
        case State::kCommitting: return Rule::kIgnore;
        case State::kCommitted: return Rule::kIgnore;
        case State::kRollingBack: return Rule::kIgnore;
        case State::kRolledBack: return Rule::kIgnore;
        case State::kHeuristic: return Rule::kIgnore;
        case State::kClosed: return Rule::kIgnore;
      }
      break;
    case EventKind::kOrphan:
      switch (state) {
        case State::kAbsent: return Rule::kBury;
        case State::kActive: return Rule::kIgnore;
        case State::kOnePhase: return Rule::kIgnore;
        case State::kCommitting: return Rule::kIgnore;
        case State::kCommitted: return Rule::kIgnore;
        case State::kRollingBack: return Rule::kIgnore;
        case State::kRolledBack: return Rule::kIgnore;
        case State::kHeuristic: return Rule::kIgnore;
        case State::kClosed: return Rule::kIgnore;
      }
      break;
  }
  __builtin_unreachable();
}

absl::string_view Name(State state) {
  switch (state) {
    case State::kAbsent: return "ABSENT";
    case State::kActive: return "ACTIVE";
    case State::kOnePhase: return "ONE_PHASE";
    case State::kCommitting: return "COMMITTING";
    case State::kCommitted: return "COMMITTED";
    case State::kRollingBack: return "ROLLING_BACK";
    case State::kRolledBack: return "ROLLED_BACK";
    case State::kHeuristic: return "HEURISTIC";
    case State::kClosed: return "HEURISTIC_CLOSED";
  }
  __builtin_unreachable();
}

absl::string_view Name(EventKind event) {
  switch (event) {
    case EventKind::kCreate: return "Create";
    case EventKind::kAddBranches: return "AddBranches";
    case EventKind::kVote: return "Vote";
    case EventKind::kFinalize: return "Finalize";
    case EventKind::kComplete: return "Complete";
    case EventKind::kEvidence: return "Evidence";
    case EventKind::kResolve: return "Resolve";
    case EventKind::kDeadline: return "Deadline";
    case EventKind::kPresumeAbort: return "PresumeAbort";
    case EventKind::kOrphan: return "Orphan";
  }
  __builtin_unreachable();
}

absl::string_view Name(Rule rule) {
  switch (rule) {
    case Rule::kCreate: return "create";
    case Rule::kNotFound: return "not found";
    case Rule::kDecideWhole: return "decide whole";
    case Rule::kRepeatCreate: return "repeat create";
    case Rule::kAddBranches: return "add branches";
    case Rule::kRepeatAddBranches: return "repeat add";
    case Rule::kCountVotes: return "count votes";
    case Rule::kLateVotes: return "late votes";
    case Rule::kDecide: return "decide";
    case Rule::kCompareDecision: return "compare decision";
    case Rule::kRecordWhole: return "record whole";
    case Rule::kEarlyCompletion: return "early completion";
    case Rule::kRecordCompletion: return "record completion";
    case Rule::kRecordEvidence: return "record evidence";
    case Rule::kResolve: return "resolve";
    case Rule::kRefuseResolve: return "refuse resolve";
    case Rule::kRollBackIfExpired: return "roll back if expired";
    case Rule::kPresumeAbort: return "presume abort";
    case Rule::kBury: return "bury";
    case Rule::kIgnore: return "ignore";
  }
  __builtin_unreachable();
}

absl::string_view Describe(Rule rule) {
  switch (rule) {
    case Rule::kCreate: return "Makes the record: ACTIVE, its deadline armed.";
    case Rule::kNotFound:
      return "Refuses with GLOBAL_NOT_FOUND: without a record it has not been decided COMMIT (presumed abort). With "
             "OUTCOME_IN_DOUBT if there may have been a record: it was born before the store's horizon.";
    case Rule::kDecideWhole:
      return "If the call brings the whole transaction: makes its record, and decides COMMIT if every branch voted "
             "PREPARED or READ_ONLY and nothing speaks against it, else ROLLBACK. Refused only if there may have been "
             "a "
             "record (OUTCOME_IN_DOUBT: it was born before the store's horizon). If it does not: GLOBAL_NOT_FOUND.";
    case Rule::kRepeatCreate:
      return "Same content and request id: the same answer. Otherwise REQUEST_ID_REUSED (names the field) or "
             "GTRID_IN_USE.";
    case Rule::kAddBranches:
      return "Adds all branches or none; a repetition gets the same branches. BRANCH_EXISTS, REQUEST_ID_REUSED, "
             "TOO_MANY_BRANCHES.";
    case Rule::kRepeatAddBranches:
      return "A repetition gets the same branches; new ones get GLOBAL_ROLLED_BACK or GLOBAL_COMMITTED "
             "(GLOBAL_NOT_DECIDED in ONE_PHASE).";
    case Rule::kCountVotes:
      return "Counts all votes of the call or none. A FAILED vote decides ROLLBACK at once; with WHEN_ALL_PREPARED the "
             "last vote decides "
             "COMMIT. BRANCH_NOT_FOUND, VOTE_CHANGED.";
    case Rule::kLateVotes:
      return "A repeated vote gets the decision; READ_ONLY and FAILED are recorded as proof; a new PREPARED gets "
             "GLOBAL_ROLLED_BACK. In ONE_PHASE every vote gets GLOBAL_NOT_DECIDED.";
    case Rule::kDecide:
      return "COMMIT if every created (and expected) branch voted PREPARED or READ_ONLY, else BRANCHES_NOT_PREPARED "
             "and nothing changes. "
             "ROLLBACK always. A call that brings the whole transaction: GTRID_IN_USE.";
    case Rule::kCompareDecision:
      return "The decision that stands, asked for again: the same answer. The other one: GLOBAL_ROLLED_BACK or "
             "GLOBAL_COMMITTED (GLOBAL_NOT_DECIDED in ONE_PHASE, where only the database decides). A COMMIT that "
             "brings the whole transaction is answered what stands; GTRID_IN_USE if "
             "that is another one.";
    case Rule::kRecordWhole:
      return "If the report brings the whole transaction, which was committed in one phase: makes its record, forced: "
             "COMMITTED, or ONE_PHASE if the answer was lost (OUTCOME_IN_DOUBT if there may have been a record). If it "
             "does "
             "not: GLOBAL_NOT_FOUND.";
    case Rule::kEarlyCompletion:
      return "Rolled back before any decision: decides ROLLBACK. Committed before any decision: refused with "
             "GLOBAL_NOT_DECIDED.";
    case Rule::kRecordCompletion:
      return "Records the proof; with the last one the transaction is finished. Proof against the decision makes it "
             "HEURISTIC. (ONE_PHASE has none: what is proven first becomes it.) A second, different proof gets "
             "COMPLETION_CHANGED.";
    case Rule::kRecordEvidence:
      return "Records what recovery found, if it differs from the latest evidence. What it proves ends the branch; "
             "proof against the decision makes it HEURISTIC. (ONE_PHASE has none: what is proven first becomes it.) A "
             "look that began before the branch ended is ignored.";
    case Rule::kResolve:
      return "An operator's word ends the branch, or acknowledges that it ended against the decision; with the last "
             "one "
             "the transaction is finished. ETAG_MISMATCH, BRANCH_NOT_FOUND, RESOLUTION_REFUSED.";
    case Rule::kRefuseResolve:
      return "Refuses with RESOLUTION_REFUSED: it is undecided, or finished. A repetition of what finished it is OK.";
    case Rule::kRollBackIfExpired: return "Decides ROLLBACK if now >= expire_time.";
    case Rule::kPresumeAbort:
      return "Decides ROLLBACK: unforced writes that led here may have been lost with the machine.";
    case Rule::kBury:
      return "Makes the record, ROLLED_BACK and without branches, forced: a branch was found prepared that nobody has "
             "created, and from now on no late Finalize can decide COMMIT.";
    case Rule::kIgnore: return "Nothing.";
  }
  __builtin_unreachable();
}

std::string ProtocolTableMarkdown() {
  std::string out = "| state |";
  for (const EventKind event : kAllEvents) absl::StrAppend(&out, " ", Name(event), " |");
  absl::StrAppend(&out, "\n|---|");
  for (size_t i = 0; i < std::size(kAllEvents); ++i) absl::StrAppend(&out, "---|");
  absl::StrAppend(&out, "\n");
  for (const State state : kAllStates) {
    absl::StrAppend(&out, "| **", Name(state), "** |");
    for (const EventKind event : kAllEvents) absl::StrAppend(&out, " ", Name(RuleFor(state, event)), " |");
    absl::StrAppend(&out, "\n");
  }
  absl::StrAppend(&out, "\n| rule | what it does |\n|---|---|\n");
  for (int i = 0; i <= static_cast<int>(Rule::kIgnore); ++i) {
    absl::StrAppend(&out, "| ", Name(static_cast<Rule>(i)), " | ", Describe(static_cast<Rule>(i)), " |\n");
  }
  return out;
}

}  // namespace assent
