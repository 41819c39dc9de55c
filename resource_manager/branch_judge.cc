#include "resource_manager/branch_judge.h"

namespace assent {
namespace {

Verdict Proven(v1::BranchOutcome outcome, absl::string_view detail) {
  return Verdict{Act::kNothing, outcome, /*retry=*/false, /*by_hand=*/false, /*ghost=*/false, detail};
}

Verdict OnlyAnOperator(absl::string_view detail) {
  return Verdict{Act::kNothing, v1::BRANCH_OUTCOME_UNSPECIFIED, /*retry=*/false, /*by_hand=*/false, /*ghost=*/false,
                 detail};
}

Verdict Later(v1::BranchOutcome outcome, absl::string_view detail) {
  return Verdict{Act::kNothing, outcome, /*retry=*/true, /*by_hand=*/false, /*ghost=*/false, detail};
}

Verdict ByHand(v1::BranchOutcome outcome, absl::string_view detail) {
  return Verdict{Act::kNothing, outcome, /*retry=*/true, /*by_hand=*/true, /*ghost=*/false, detail};
}

Verdict Do(Act act, v1::BranchOutcome meanwhile, absl::string_view detail) {
  return Verdict{act, meanwhile, /*retry=*/true, /*by_hand=*/false, /*ghost=*/false, detail};
}

bool MayHoldIt(SessionSight session) { return session == SessionSight::kAlive || session == SessionSight::kLeaving; }

// A session that is not gone holds the branch, as far as one can see.
Verdict Attached(const BranchFacts& facts) {
  constexpr v1::BranchOutcome kAttached = v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE;
  if (facts.kill == KillResult::kDone) return Later(kAttached, "its session was killed and is not gone yet");
  if (facts.session == SessionSight::kLeaving && !facts.session_named) {
    return Later(kAttached, "a session that is just ending may hold it");
  }
  if (facts.session == SessionSight::kLeaving) {
    return Later(kAttached, "its session has ended, and the database has not let go of the branch yet");
  }
  if (!facts.lease_over) return Later(kAttached, "its session is alive and within its lease");
  if (!facts.may_kill) {
    return ByHand(kAttached,
                  "its session is alive past its lease, and must not be killed (kill_after_lease is off for this "
                  "resource): end it by hand");
  }
  if (facts.kill == KillResult::kFailed) {
    return ByHand(kAttached, "its session is alive past its lease, and could not be killed");
  }
  return Do(Act::kKill, kAttached, "its session is alive past its lease");
}

// XA RECOVER lists it.
Verdict Listed(const BranchFacts& facts) {
  if (MayHoldIt(facts.session) && !facts.detached) return Attached(facts);
  constexpr v1::BranchOutcome kPrepared = v1::BRANCH_OUTCOME_STILL_PREPARED;
  switch (facts.verb) {
    case VerbResult::kNotTried:
      if (facts.decision == v1::DECISION_COMMIT && facts.witness == WitnessSight::kAbsent && !facts.detached) {
        // Once it is known to whoever asks that this one leaves no witness; afterwards nobody could tell.
        return Later(kPrepared,
                     "it is prepared, and has not left its witness: it is committed next, and nothing will "
                     "prove that it was");
      }
      return Do(facts.decision == v1::DECISION_COMMIT ? Act::kCommit : Act::kRollback, kPrepared,
                "it is prepared, and no session holds it");
    case VerbResult::kUnknownXid:
      if (facts.detached)
        return Later(
            kPrepared,
            "somebody else is just finishing it, or a session holds it though its vote said that PREPARE let go of it");
      if (facts.session == SessionSight::kUnknown && facts.session_named) return Attached(facts);
      if (!facts.lease_over) {
        return Later(v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE,
                     "a session unknown here holds it (its participant did not name it), within its lease");
      }
      return ByHand(v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE,
                    "a session unknown here holds it (its participant did not name it): end that session, see SHOW "
                    "PROCESSLIST on the server");
    case VerbResult::kRetryLater:
      return Later(kPrepared, "the database does not finish branches now (a backup, or it is read-only)");
    case VerbResult::kOtherError: return Later(kPrepared, "the database refused to finish it");
    case VerbResult::kOk:
    case VerbResult::kRolledBack: break;
  }
  return Later(kPrepared, "it was finished, and is prepared again");
}

// Not listed, and the witness is there but not committed: by a transaction that is still open.
Verdict Uncommitted(const BranchFacts& facts) {
  if (facts.detached) {
    return Later(v1::BRANCH_OUTCOME_UNSPECIFIED, "its transaction is still open, though it is not listed as prepared");
  }
  if (MayHoldIt(facts.session)) return Attached(facts);
  // The server knows nobody who has its xid, so it is not active any more.
  const bool was_prepared = facts.voted_prepared || facts.was_listed || facts.probe == ProbeResult::kFree;
  Verdict ghost = Later(v1::BRANCH_OUTCOME_STILL_PREPARED, "");
  ghost.ghost = true;
  if (facts.session == SessionSight::kUnknown) {
    if (!was_prepared) {
      const Verdict active = Later(v1::BRANCH_OUTCOME_UNSPECIFIED, "it may still be active on a session unknown here");
      const bool probe = facts.lease_over && facts.probe == ProbeResult::kNotTried;
      return probe ? Do(Act::kProbe, active.outcome, active.detail) : active;
    }
    ghost.detail =
        "the database has lost sight of it (a ghost), and a session unknown here may still hold it: end that session, "
        "or restart the server, which brings the branch back as prepared";
    ghost.by_hand = facts.lease_over;
    return ghost;
  }
  switch (facts.repair) {
    case RepairResult::kNotTried:
      ghost.act = Act::kRepair;
      ghost.detail = "the database has lost sight of it (a ghost)";
      break;
    case RepairResult::kImpossible:
      ghost.by_hand = true;
      ghost.detail =
          "the database has lost sight of it (a ghost), and this server cannot finish it online: restart the server, "
          "which brings it back as prepared; it is finished then";
      break;
    case RepairResult::kDone:
    case RepairResult::kFailed:
      ghost.detail =
          "the database has lost sight of it (a ghost), and the repair has not succeeded: it is tried again; a restart "
          "of the server brings the branch back as prepared";
      break;
  }
  return ghost;
}

// Not listed, never seen prepared, and no open transaction has left its witness. `finished`: what it is if no session
// can have it any more.
Verdict Unprepared(const BranchFacts& facts, const Verdict& finished) {
  if (facts.session == SessionSight::kGone) return finished;
  if (facts.session == SessionSight::kLeaving) return Attached(facts);
  if (!facts.lease_over) {
    if (facts.session == SessionSight::kAlive) return Attached(facts);
    return Later(v1::BRANCH_OUTCOME_UNSPECIFIED, "it may still be active on a session unknown here");
  }
  switch (facts.probe) {
    case ProbeResult::kNotTried:
      return Do(Act::kProbe, v1::BRANCH_OUTCOME_UNSPECIFIED, "it is not prepared, and may still be active");
    case ProbeResult::kFree: return finished;
    case ProbeResult::kTaken:
      if (facts.session == SessionSight::kAlive || facts.session_named) return Attached(facts);
      return Later(v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE, "it is active on a session unknown here");
    case ProbeResult::kFailed: break;
  }
  return Later(v1::BRANCH_OUTCOME_UNSPECIFIED, "whether it is still active could not be seen");
}

// Not listed, and no witness tells: `finished`, unless it may be one of those that the server has lost sight of.
Verdict UnlessAGhost(const BranchFacts& facts, const Verdict& finished) {
  switch (facts.ghosts) {
    case GhostSight::kNone: return finished;
    case GhostSight::kSome:
      return ByHand(v1::BRANCH_OUTCOME_UNSPECIFIED,
                    "its server has lost sight of prepared transactions (ghosts), and without a witness nothing tells "
                    "whether it is one of them: restart the server, which brings them back as prepared");
    case GhostSight::kNotLooked:
    case GhostSight::kUnknown: break;
  }
  return Later(v1::BRANCH_OUTCOME_UNSPECIFIED,
               "it is not prepared, and whether its server has merely lost sight of it (a ghost, perhaps of a session "
               "that lives) cannot be seen now");
}

Verdict JudgeCommit(const BranchFacts& facts) {
  const bool told = facts.witness == WitnessSight::kCommitted || facts.witness == WitnessSight::kUncommitted ||
                    facts.witness == WitnessSight::kAbsent;
  if (facts.verb == VerbResult::kOk && facts.detached && !told) {
    return Proven(v1::BRANCH_OUTCOME_COMMITTED, "it was committed");
  }
  switch (facts.witness) {
    case WitnessSight::kCommitted: return Proven(v1::BRANCH_OUTCOME_COMMITTED, "its witness is committed");
    case WitnessSight::kUncommitted: return Uncommitted(facts);
    case WitnessSight::kAbsent:
      if (facts.verb == VerbResult::kOk) {
        return OnlyAnOperator("XA COMMIT answered OK, but the branch has left no witness of it: look at its rows");
      }
      if (facts.voted_prepared || facts.was_listed) {
        return Proven(v1::BRANCH_OUTCOME_HEURISTIC_ROLLED_BACK,
                      "it is not prepared any more and its witness is not there: somebody rolled it back");
      }
      return Unprepared(facts, Proven(v1::BRANCH_OUTCOME_NEVER_PREPARED, "it was never prepared"));
    case WitnessSight::kUnknowable:
    case WitnessSight::kNone: break;
  }
  if (facts.verb == VerbResult::kOk) {
    return OnlyAnOperator(
        "XA COMMIT answered OK on another session, which proves nothing without a witness: look at its rows");
  }
  if (facts.voted_prepared || facts.was_listed) {
    if (facts.ghosts == GhostSight::kSome) {
      return OnlyAnOperator(
          "it is not prepared any more, and without a witness nothing tells how it ended: look at its rows. If they "
          "are "
          "there and locked, its server has lost sight of it (a ghost): restart that, which brings it back as "
          "prepared");
    }
    return OnlyAnOperator("it is not prepared any more, and without a witness nothing tells how it ended");
  }
  return Unprepared(facts, OnlyAnOperator("it is not prepared, and without a witness nothing tells whether it was"));
}

Verdict JudgeRollback(const BranchFacts& facts) {
  if (facts.witness == WitnessSight::kCommitted) {
    return Proven(v1::BRANCH_OUTCOME_HEURISTIC_COMMITTED, "its witness is committed: somebody committed it");
  }
  if (facts.witness == WitnessSight::kUncommitted) return Uncommitted(facts);
  const bool rolled_back_here = facts.verb == VerbResult::kOk || facts.verb == VerbResult::kRolledBack;
  if (rolled_back_here) {
    const Verdict done = Proven(v1::BRANCH_OUTCOME_ROLLED_BACK, "it was rolled back");
    // The answer OK alone proves nothing if a session had it that nobody could see.
    const bool told = facts.witness == WitnessSight::kAbsent;
    return told ? done : UnlessAGhost(facts, done);
  }
  const bool was_prepared = facts.voted_prepared || facts.was_listed;
  switch (facts.witness) {
    case WitnessSight::kAbsent:
      if (was_prepared) {
        return Proven(v1::BRANCH_OUTCOME_ROLLED_BACK, "it is not prepared any more and its witness is not there");
      }
      return Unprepared(facts, Proven(v1::BRANCH_OUTCOME_NEVER_PREPARED, "it was never prepared"));
    case WitnessSight::kNone: {
      const Verdict finished =
          UnlessAGhost(facts, Proven(v1::BRANCH_OUTCOME_ROLLED_BACK, "its server knows no such branch"));
      return was_prepared ? finished : Unprepared(facts, finished);
    }
    default: break;
  }
  const Verdict unknowable = OnlyAnOperator(
      "it is not prepared, and its witness table cannot tell whether somebody committed it: look at its rows");
  return was_prepared ? unknowable : Unprepared(facts, unknowable);
}

// What was sent to it was XA COMMIT … ONE PHASE, without PREPARE: once its session is gone, the witness tells.
Verdict JudgeOnePhase(const BranchFacts& facts) {
  switch (facts.witness) {
    case WitnessSight::kCommitted: return Proven(v1::BRANCH_OUTCOME_COMMITTED, "its witness is committed");
    case WitnessSight::kUncommitted:
      if (MayHoldIt(facts.session)) return Attached(facts);
      return Later(v1::BRANCH_OUTCOME_UNSPECIFIED, "its transaction is still open");
    case WitnessSight::kAbsent:
      return Unprepared(facts, Proven(v1::BRANCH_OUTCOME_ROLLED_BACK,
                                      "it was to be committed in one phase, and its witness is not there"));
    case WitnessSight::kUnknowable:
    case WitnessSight::kNone: break;
  }
  return Unprepared(facts, OnlyAnOperator("it was to be committed in one phase, and its witness table cannot tell "
                                          "whether it was: look at its rows"));
}

Verdict JudgeAsDecided(const BranchFacts& facts) {
  if (facts.one_phase) return JudgeOnePhase(facts);
  return facts.decision == v1::DECISION_COMMIT ? JudgeCommit(facts) : JudgeRollback(facts);
}

}  // namespace

absl::string_view ToString(Act act) {
  switch (act) {
    case Act::kNothing: return "nothing";
    case Act::kKill: return "KILL CONNECTION";
    case Act::kCommit: return "XA COMMIT";
    case Act::kRollback: return "XA ROLLBACK";
    case Act::kProbe: return "XA START to see whether anybody has it";
    case Act::kRepair: return "repair of the ghost";
  }
  return "?";
}

Verdict Judge(const BranchFacts& all) {
  BranchFacts facts = all;
  if (facts.unwitnessed && facts.witness == WitnessSight::kAbsent) facts.witness = WitnessSight::kNone;
  if (facts.detached) facts.ghosts = GhostSight::kNone;
  const bool seen_here = facts.listed || facts.was_listed || facts.witness == WitnessSight::kCommitted ||
                         facts.witness == WitnessSight::kUncommitted;
  if (facts.of_other_server && !seen_here) {
    return OnlyAnOperator(
        "it ran on another server than the one that answers now, and what is not here proves nothing of what is there");
  }
  if (facts.other_format && !facts.listed && facts.witness != WitnessSight::kCommitted) {
    return ByHand(v1::BRANCH_OUTCOME_STILL_PREPARED,
                  "its gtrid and bqual are prepared there under another format id than Assent's, and what has another "
                  "one is never touched: its participant must use format id 1095978580, and somebody must end this one "
                  "by hand, as decided");
  }
  if (facts.elsewhere && !facts.listed) {
    return ByHand(
        v1::BRANCH_OUTCOME_STILL_PREPARED,
        "it is prepared in another database of its server than its resource's, where it cannot be finished from "
        "here");
  }
  if (facts.listed) {
    // A committed witness is proof even so: somebody has finished the branch since the list was read.
    if (facts.witness != WitnessSight::kCommitted) return Listed(facts);
    Verdict proven = JudgeAsDecided(facts);
    if ((facts.detached || !MayHoldIt(facts.session)) && facts.verb == VerbResult::kNotTried) {
      // … or an interrupted repair of a ghost has left an empty branch of its name; or somebody has prepared its xid a
      // second time.
      proven.act = Listed(facts).act;
    }
    return proven;
  }
  return JudgeAsDecided(facts);
}

}  // namespace assent
