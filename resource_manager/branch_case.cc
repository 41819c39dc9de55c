#include "resource_manager/branch_case.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "resource_manager/detach_barrier.h"
#include "resource_manager/ghost_count.h"
#include "resource_manager/table_migration.h"
#include "resource_manager/witness.h"

namespace assent {
namespace {

// Server start times are computed from whole seconds of uptime.
constexpr absl::Duration kSameLife = absl::Seconds(2);
using Cases = absl::Span<BranchCase* const>;

// XA RECOVER's list: what is ours, and what only looks so. (The server does not look at the format id when it
// compares.)
struct PreparedList {
  std::set<Xid> ours;
  std::set<Xid> other_format;
};

absl::StatusOr<PreparedList> ReadListed(MariaDbSession* session) {
  auto recovered = session->Recover();
  if (!recovered.ok()) return recovered.status();
  PreparedList listed;
  for (RecoveredXid& xid : *recovered) {
    auto& list = xid.format_id == kFormatId ? listed.ours : listed.other_format;
    list.insert(Xid{std::move(xid.gtrid), std::move(xid.bqual)});
  }
  return listed;
}

// The connections, and their transactions, that may hold the branches of sessions that nobody named.
using Suspects = std::map<uint64_t, std::string>;

// What is left of the suspects in a later view.
Suspects StillThere(const Suspects& suspects, const EngineView& engine) {
  Suspects left;
  std::set_intersection(suspects.begin(), suspects.end(), engine.prepared.begin(), engine.prepared.end(),
                        std::inserter(left, left.end()));
  return left;
}

// Of a session that is named.
SessionSight SightOfNamed(uint64_t id, const ConnectionsView& connections) {
  if (connections.alive.count(id) != 0) return SessionSight::kAlive;
  if (connections.engine.kind == EngineViewResult::Kind::kForbidden) return SessionSight::kUnknown;
  const bool engine_known = connections.engine.kind == EngineViewResult::Kind::kOk;
  if (!engine_known || connections.engine.view.connections.count(id) != 0) return SessionSight::kLeaving;
  return SessionSight::kGone;
}

// Of a session that nobody named. `was_prepared`: its branch was, before the first suspects were listed.
SessionSight SightOfUnnamed(bool was_prepared, const Suspects& suspects, const ConnectionsView& connections,
                            bool out_of_patience) {
  if (connections.engine.kind == EngineViewResult::Kind::kForbidden || !was_prepared) return SessionSight::kUnknown;
  if (connections.engine.kind != EngineViewResult::Kind::kOk) return SessionSight::kLeaving;
  // A prepared branch is attached to a connection with a prepared transaction, if to any.
  if (suspects.empty()) return SessionSight::kGone;
  // A suspect that ends just now would make a ghost of it, so they get the time to do so. Those that have stayed all
  // the time are not about to end.
  const bool all_alive = std::all_of(suspects.begin(), suspects.end(),
                                     [&](const auto& suspect) { return connections.alive.count(suspect.first) != 0; });
  return all_alive && out_of_patience ? SessionSight::kUnknown : SessionSight::kLeaving;
}

// True if waiting a moment may change what was seen.
bool MayGoSoon(const BranchCase& branch) {
  return branch.facts.session == SessionSight::kLeaving ||
         (branch.facts.session == SessionSight::kAlive && branch.facts.kill == KillResult::kDone);
}

// The account may see neither other accounts' sessions nor the engine.
absl::Status DoWithout(MariaDbSession* session, bool patient, Cases cases) {
  std::string hint;
  for (BranchCase* branch : cases) {
    if (branch->facts.session != SessionSight::kUnknown || !branch->hint.empty()) continue;
    if (hint.empty()) hint = absl::StrCat("to see sessions: GRANT PROCESS ON *.* TO ", AccountOf(session));
    branch->hint = hint;
    branch->lacks_privilege = true;
  }
  if (!hint.empty() && patient) absl::SleepFor(kSettle);
  return absl::OkStatus();
}

// MySQL's PREPARE may let go of a branch, and a vote says whether it did: that is believed unless the engine shows the
// branch's session with a prepared transaction. Where no vote has said so, the engine's word is enough for the other
// way: a session without one does not hold what is prepared, whatever else it runs now.
void LookWithEngine(const ConnectionsView& connections, bool was_prepared, BranchCase* branch) {
  if (!branch->facts.session_named || connections.engine.kind != EngineViewResult::Kind::kOk) return;
  const auto id = static_cast<uint64_t>(branch->task->session->connection_id());
  const bool has_prepared = connections.engine.view.prepared.count(id) != 0;
  if (branch->facts.detached && has_prepared) {
    branch->facts.detached = false;
    branch->facts.session = SightOfNamed(id, connections);
    branch->facts.may_kill = false;  // It may be another transaction's, which is just being committed.
    branch->hint = "its vote said that PREPARE let go of it, and its session has a prepared transaction";
  } else if (!branch->facts.detached && was_prepared && !has_prepared &&
             branch->facts.session == SessionSight::kAlive) {
    branch->facts.session = SessionSight::kGone;
  }
}

absl::Status LookAtSessions(MariaDbSession* session, const ServerIdentity& identity, bool patient, Cases cases) {
  std::vector<BranchCase*> open;
  for (BranchCase* branch : cases) {
    // MariaDB's PREPARE never lets go, whatever a vote says.
    branch->facts.detached = session->is_mysql() && branch->task->session && branch->task->session->detached();
    branch->facts.may_kill = branch->task->may_kill;
    if (branch->task->session && LifeOf(*branch->task->session, identity) == SessionLife::kAnother) {
      branch->facts.session = SessionSight::kGone;
    }
    // Where PREPARE has let go of a branch, what its session does now is no matter: it may run others.
    branch->session_covered = branch->session_covered || branch->facts.detached;
    if (branch->facts.session != SessionSight::kGone && !(branch->facts.detached && !branch->facts.session_named)) {
      open.push_back(branch);
    }
  }
  if (open.empty()) return absl::OkStatus();
  // Of a branch that may have left its session, or whose session nobody named, the engine is to be asked after the
  // list.
  const bool list_first = std::any_of(open.begin(), open.end(), [session](const BranchCase* branch) {
    return !branch->facts.session_named || (session->is_mysql() && !branch->facts.detached);
  });
  std::set<Xid> listed_before;
  if (list_first) {
    absl::StatusOr<PreparedList> listed = ReadListed(session);
    if (!listed.ok()) return listed.status();
    listed_before = std::move(listed->ours);
  }
  const absl::Time deadline = absl::Now() + kBarrierPatience;
  absl::optional<Suspects> suspects;
  for (;;) {
    const absl::StatusOr<ConnectionsView> connections = LookAtConnections(session);
    if (!connections.ok()) return connections.status();
    const EngineView& engine = connections->engine.view;
    const bool out_of_patience = absl::Now() >= deadline;
    if (connections->engine.kind == EngineViewResult::Kind::kOk) {
      suspects = suspects ? StillThere(*suspects, engine) : engine.prepared;
    }
    for (BranchCase* branch : open) {
      const bool is_ghost =
          branch->facts.probe == ProbeResult::kFree && branch->facts.witness == WitnessSight::kUncommitted;
      const bool was_prepared = branch->task->voted_prepared || listed_before.count(branch->task->xid) != 0 || is_ghost;
      branch->session_covered = branch->facts.session_named || was_prepared;
      if (!branch->facts.detached) {
        branch->facts.session =
            branch->facts.session_named
                ? SightOfNamed(static_cast<uint64_t>(branch->task->session->connection_id()), *connections)
                : SightOfUnnamed(was_prepared, suspects.value_or(Suspects()), *connections, out_of_patience);
      }
      if (session->is_mysql()) LookWithEngine(*connections, was_prepared, branch);
    }
    if (connections->engine.kind == EngineViewResult::Kind::kForbidden) return DoWithout(session, patient, open);
    if (out_of_patience ||
        std::none_of(open.begin(), open.end(), [](const BranchCase* branch) { return MayGoSoon(*branch); })) {
      break;
    }
    absl::SleepFor(kBarrierPoll);
  }
  absl::SleepFor(kAfterBarrier);
  return absl::OkStatus();
}

absl::Status LookAtWitnesses(MariaDbSession* session, Cases cases) {
  std::map<std::string, std::vector<BranchCase*>> by_table;
  for (BranchCase* branch : cases) {
    if (branch->task->witness) by_table[branch->task->witness->name()].push_back(branch);
  }
  for (const auto& entry : by_table) {
    std::vector<WitnessQuestion> questions;
    for (const BranchCase* branch : entry.second) {
      const Xid& xid = branch->task->xid;
      questions.push_back(WitnessQuestion{WitnessOf(xid, branch->task->one_phase), branch->task->created});
    }
    const absl::StatusOr<WitnessAnswers> answers = ReadWitnesses(session, *entry.second[0]->task->witness, questions);
    if (!answers.ok()) return answers.status();
    std::vector<BranchCase*> alone;  // What they did rests on nothing but their witness.
    for (size_t i = 0; i < questions.size(); ++i) {
      BranchCase* const branch = entry.second[i];
      branch->facts.witness = answers->sights[i];
      if (answers->sights[i] == WitnessSight::kUnknowable) branch->hint = answers->problem;
      if (answers->sights[i] == WitnessSight::kCommitted && branch->task->one_phase) alone.push_back(branch);
    }
    if (alone.empty()) continue;
    const absl::Status forced = ForceWitnesses(session, *entry.second[0]->task->witness);
    if (ReasonOf(forced) == Reason::DATABASE_UNREACHABLE) return forced;
    if (forced.ok()) continue;
    for (BranchCase* branch : alone) {
      branch->facts.witness = WitnessSight::kUncommitted;
      branch->hint = absl::StrCat("its witness is there, but not surely on its server's disk: ", forced.message());
    }
  }
  return absl::OkStatus();
}

// Of those that are not listed, and of which no witness will tell.
absl::Status LookAtGhosts(MariaDbSession* session, Cases cases) {
  std::vector<BranchCase*> untold;
  for (BranchCase* branch : cases) {
    const bool told = branch->facts.witness != WitnessSight::kNone &&
                      branch->facts.witness != WitnessSight::kUnknowable && !branch->facts.unwitnessed;
    // (What PREPARE has let go of is never lost sight of.)
    if (!told && !branch->facts.listed && !branch->facts.detached) untold.push_back(branch);
  }
  if (untold.empty()) return absl::OkStatus();
  const absl::StatusOr<absl::optional<GhostCount>> ghosts = CountGhosts(session);
  if (!ghosts.ok()) return ghosts.status();
  for (BranchCase* branch : untold) {
    branch->facts.ghosts = !*ghosts                  ? GhostSight::kUnknown
                           : (*ghosts)->surely_none  ? GhostSight::kNone
                           : (*ghosts)->detached > 0 ? GhostSight::kSome
                                                     : GhostSight::kUnknown;
  }
  return absl::OkStatus();
}

v1::Evidence::Sighting SightingOf(SessionSight session) {
  switch (session) {
    case SessionSight::kGone: return v1::Evidence::SIGHTING_ABSENT;
    case SessionSight::kLeaving:
    case SessionSight::kAlive: return v1::Evidence::SIGHTING_PRESENT;
    case SessionSight::kUnknown: break;
  }
  return v1::Evidence::SIGHTING_UNSPECIFIED;
}

v1::Evidence::Sighting SightingOf(WitnessSight witness) {
  switch (witness) {
    case WitnessSight::kCommitted: return v1::Evidence::SIGHTING_PRESENT;
    case WitnessSight::kUncommitted: return v1::Evidence::SIGHTING_UNCOMMITTED;
    case WitnessSight::kAbsent: return v1::Evidence::SIGHTING_ABSENT;
    case WitnessSight::kUnknowable:
    case WitnessSight::kNone: break;
  }
  return v1::Evidence::SIGHTING_UNSPECIFIED;
}

v1::Evidence::Sighting SightingOf(bool listed) {
  return listed ? v1::Evidence::SIGHTING_PRESENT : v1::Evidence::SIGHTING_ABSENT;
}

}  // namespace

SessionLife LifeOf(const v1::Session& session, const ServerIdentity& identity) {
  if (session.server() != identity.name) return SessionLife::kAnother;
  const absl::Time start = GetTime(session.server_start_time());
  if (absl::AbsDuration(start - identity.start_time) <= kSameLife) return SessionLife::kThis;
  // A server whose clock is set back to before its start answers an uptime that makes no sense.
  const bool earlier = start < identity.start_time && start > absl::UnixEpoch();
  return earlier ? SessionLife::kAnother : SessionLife::kUnclear;
}

BranchCase OpenCase(const BranchTask& task, const ServerIdentity& identity) {
  BranchCase branch;
  branch.task = &task;
  branch.facts.decision = task.decision;
  branch.facts.voted_prepared = task.voted_prepared;
  branch.facts.one_phase = task.one_phase;
  branch.facts.unwitnessed = task.unwitnessed;
  branch.facts.of_other_server = task.of_other_server;
  branch.facts.detached = task.session && task.session->detached();
  branch.facts.lease_over = task.lease_over;
  branch.facts.may_kill = task.may_kill;
  branch.facts.session_named =
      task.session && task.session->connection_id() > 0 && IsOfThisLife(*task.session, identity);
  return branch;
}

void NoteDone(BranchCase* branch, absl::string_view statement, const DbError& error) {
  absl::StrAppend(&branch->done, branch->done.empty() ? "" : "; ", statement);
  if (!error.ok()) branch->error = error;
}

BranchFinding FindingOf(const BranchCase& branch, const ServerIdentity& identity) {
  BranchFinding finding;
  finding.retry = branch.verdict.retry;
  finding.by_hand = branch.verdict.by_hand;
  finding.lacks_privilege = branch.lacks_privilege;
  v1::Evidence& evidence = finding.evidence;
  evidence.set_outcome(branch.verdict.outcome);
  evidence.set_server(identity.name);
  SetTime(identity.start_time, evidence.mutable_server_start_time());
  evidence.set_prepared_before(SightingOf(branch.facts.was_listed));
  evidence.set_prepared_after(SightingOf(branch.facts.listed));
  evidence.set_session(SightingOf(branch.facts.session));
  evidence.set_witness(SightingOf(branch.facts.witness));
  evidence.set_done(branch.done);
  evidence.set_error_code(branch.error.code);
  evidence.set_sqlstate(branch.error.sqlstate);
  evidence.set_ghost(branch.verdict.ghost || branch.facts.repair != RepairResult::kNotTried);
  evidence.set_detail(std::string(branch.verdict.detail));
  if (branch.verdict.act != Act::kNothing) {
    absl::StrAppend(evidence.mutable_detail(), "; next: ", ToString(branch.verdict.act));
  }
  const bool proven = !branch.verdict.retry && branch.verdict.outcome != v1::BRANCH_OUTCOME_UNSPECIFIED;
  if (!branch.hint.empty() && !proven) absl::StrAppend(evidence.mutable_detail(), "; ", branch.hint);
  return finding;
}

absl::Status LookAt(MariaDbSession* session, const ServerIdentity& identity, bool patient, Cases cases) {
  const absl::Status sessions = LookAtSessions(session, identity, patient, cases);
  if (!sessions.ok()) return sessions;
  const absl::StatusOr<PreparedList> listed = ReadListed(session);
  if (!listed.ok()) return listed.status();
  for (BranchCase* branch : cases) {
    branch->facts.listed = listed->ours.count(branch->task->xid) != 0;
    branch->facts.other_format = listed->other_format.count(branch->task->xid) != 0;
    if (!branch->looked) branch->facts.was_listed = branch->facts.listed;
    // Prepared just now, by a session of which nothing is known yet.
    if (branch->facts.listed && !branch->session_covered && branch->facts.session == SessionSight::kUnknown) {
      branch->facts.session = SessionSight::kLeaving;
    }
    branch->looked = true;
  }
  if (absl::Status status = LookAtWitnesses(session, cases); !status.ok()) return status;
  for (BranchCase* branch : cases) {
    // Whoever is just finishing what PREPARE has let go of does not take that long: a ghost, and so it was held.
    if (branch->facts.detached && branch->facts.lease_over && !branch->facts.listed &&
        branch->facts.witness == WitnessSight::kUncommitted) {
      branch->facts.detached = false;
    }
    // Once it is rolled back, nothing tells any more whether it had left one. (Before a COMMIT it is put on record.)
    if (branch->facts.listed && branch->facts.witness == WitnessSight::kAbsent &&
        branch->facts.decision == v1::DECISION_ROLLBACK) {
      branch->facts.unwitnessed = true;
    }
  }
  return LookAtGhosts(session, cases);
}

}  // namespace assent
