// Judge: what the facts about one branch prove, and what is to be done next. Pure: the law of recovery in one place.
//
// Whoever finishes branches goes round: facts, verdict, act, and again, until there is nothing left to do.
#ifndef ASSENT_RESOURCE_MANAGER_BRANCH_JUDGE_H_
#define ASSENT_RESOURCE_MANAGER_BRANCH_JUDGE_H_

#include <string>

#include "absl/strings/string_view.h"
#include "assent/v1/global.pb.h"
#include "resource_manager/witness.h"

namespace assent {

// The session that ran the branch.
enum class SessionSight {
  kGone,     // It does not exist, and the engine has let go of whatever it had (the detach barrier).
  kLeaving,  // Not, or not surely, gone: nothing may be done yet.
  kAlive,
  kUnknown,  // Nobody told which it was, or the account may not look.
};

// What was done to the branch in this round of recovery, and what came of it.
enum class KillResult { kNotTried, kDone, kFailed };
enum class VerbResult {
  kNotTried,
  kOk,
  kUnknownXid,  // 1397
  kRolledBack,  // 1402 and its like
  kRetryLater,  // Backup lock, read-only server, killed.
  kOtherError,
};
enum class ProbeResult { kNotTried, kFree, kTaken, kFailed };
enum class RepairResult { kNotTried, kDone, kImpossible, kFailed };
// Whether the server holds prepared transactions that it has lost sight of, anybody's. Asked only about branches of
// which no witness will tell.
enum class GhostSight {
  kNotLooked,
  kNone,     // Surely none.
  kSome,     // Some without a session.
  kUnknown,  // It cannot be seen, or only not now.
};

struct BranchFacts {
  v1::Decision decision = v1::DECISION_ROLLBACK;
  bool voted_prepared = false;
  // It was to be committed in one phase: its database decides. `decision` is COMMIT, for one that is prepared after
  // all.
  bool one_phase = false;
  // It may have been prepared without leaving its witness, so that the absence of that proves nothing.
  bool unwitnessed = false;
  // Its PREPARE let go of it (PostgreSQL; MySQL with xa_detach_on_prepare): any session may finish it at once, the OK
  // of any session is proof, and the server never loses sight of it.
  bool detached = false;
  // It was to run on another server than the one that is looked at.
  bool of_other_server = false;
  bool lease_over = false;
  bool may_kill = false;
  // Which session runs the branch is known, and that it is of this life of the server: so it may be killed.
  bool session_named = false;

  // In this order in time: session, list, witness; so that a later absence holds against an earlier sighting.
  SessionSight session = SessionSight::kUnknown;
  bool listed = false;
  bool other_format = false;  // Not so, but its gtrid and bqual are, under another format id.
  bool elsewhere = false;     // Not so, but it is prepared in another database of the server.
  WitnessSight witness = WitnessSight::kNone;

  bool was_listed = false;  // Before anything was done.
  KillResult kill = KillResult::kNotTried;
  VerbResult verb = VerbResult::kNotTried;
  ProbeResult probe = ProbeResult::kNotTried;
  RepairResult repair = RepairResult::kNotTried;
  GhostSight ghosts = GhostSight::kNotLooked;
};

enum class Act {
  kNothing,
  kKill,      // KILL CONNECTION of its session.
  kCommit,    // XA COMMIT.
  kRollback,  // XA ROLLBACK.
  kProbe,     // XA START of the same xid, ended at once: does anybody have it?
  kRepair,    // Makes the ghost a branch again and finishes it.
};
absl::string_view ToString(Act act);

struct Verdict {
  Act act = Act::kNothing;
  // What is proven if nothing more is done.
  v1::BranchOutcome outcome = v1::BRANCH_OUTCOME_UNSPECIFIED;
  // True if trying again later may come further.
  bool retry = true;
  // Somebody must do something at the server, or to the account there; trying again finds out whether it was done.
  bool by_hand = false;
  bool ghost = false;
  // In words, for people.
  absl::string_view detail;
};

// Total: every combination of facts has a verdict. Following the verdicts ends: no act is ordered twice.
Verdict Judge(const BranchFacts& facts);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_BRANCH_JUDGE_H_
