#include "resource_manager/ghost_repair.h"

#include <glog/logging.h>
#include <mariadb/mysql.h>

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/errors.h"
#include "resource_manager/detach_barrier.h"
#include "resource_manager/witness.h"

namespace assent {
namespace {

constexpr int kErLockWaitTimeout = 1205;
constexpr int kErOptionPreventsStatement = 1290;

}  // namespace

absl::Status GhostRepair::Repair(absl::Span<BranchCase* const> cases) {
  std::vector<Ghost> ghosts;
  std::vector<BranchCase*> owners;
  for (BranchCase* branch : cases) {
    if (control_->is_mysql()) {
      // Never measured there; and what the rehearsal does can crash it.
      branch->facts.repair = RepairResult::kImpossible;
      continue;
    }
    const bool commit = branch->facts.decision == v1::DECISION_COMMIT;
    if (commit) {
      const absl::StatusOr<bool> may_commit = MayCommit(*branch->task, &branch->hint);
      if (!may_commit.ok()) return may_commit.status();
      if (!*may_commit) {
        branch->facts.repair = RepairResult::kImpossible;
        continue;
      }
    }
    Ghost ghost;
    ghost.xid = branch->task->xid;
    ghost.commit = commit;
    ghost.witness = &*branch->task->witness;
    ghosts.push_back(ghost);
    owners.push_back(branch);
  }
  const absl::Status status = Finish(&ghosts);
  if (!status.ok()) return status;
  for (size_t i = 0; i < ghosts.size(); ++i) {
    owners[i]->facts.repair = ghosts[i].result;
    NoteDone(owners[i],
             absl::StrCat("XA START … XA PREPARE of the same xid; XA ", ghosts[i].commit ? "COMMIT" : "ROLLBACK"),
             ghosts[i].error);
  }
  return absl::OkStatus();
}

absl::Status GhostRepair::Finish(std::vector<Ghost>* ghosts) {
  if (ghosts->empty()) return absl::OkStatus();
  const absl::Status adopted = Adopt(ghosts);
  if (!adopted.ok()) return adopted;
  return workers_->ForEach(
      ghosts->size(),
      [&](BranchSession* session, size_t i) {
        const Ghost& ghost = (*ghosts)[i];
        if (!ghost.adopted) return false;
        if (ghost.commit) {
          session->SendCommit(ghost.xid);
        } else {
          session->SendRollback(ghost.xid);
        }
        return true;
      },
      [&](BranchSession* session, size_t i) {
        Ghost& ghost = (*ghosts)[i];
        const XaResult result = session->Receive();
        // The empty branch of a rollback wrote nothing, which the server reports with 1402.
        const bool done = result.ok() || (!ghost.commit && result.outcome == XaOutcome::kRolledBack);
        ghost.result = done ? RepairResult::kDone : RepairResult::kFailed;
        if (!done) ghost.error = result.error;
      });
}

absl::Status GhostRepair::Adopt(std::vector<Ghost>* ghosts) {
  std::set<uint64_t> connections;
  // A connection holds one branch, and lets go of it when it is closed: so as many at a time as there are workers.
  for (size_t begin = 0; begin < ghosts->size(); begin += workers_->connections()) {
    const size_t count = std::min(workers_->connections(), ghosts->size() - begin);
    workers_->Disconnect();
    const absl::Status status = workers_->ForEach(
        count,
        [&](BranchSession* session, size_t i) {
          const Ghost& ghost = (*ghosts)[begin + i];
          const std::string literal = XidSqlLiteral(ghost.xid);
          session->SendQuery(
              absl::StrCat("XA START ", literal,
                           ghost.commit ? absl::StrCat(";", ghost.witness->InsertIgnoreSql(WitnessBirth())) : "",
                           ";XA END ", literal, ";XA PREPARE ", literal));
          return true;
        },
        [&](BranchSession* session, size_t i) {
          Ghost& ghost = (*ghosts)[begin + i];
          const QueryResult result = session->ReceiveQuery();
          ghost.adopted = result.ok();
          ghost.error = result.error;
          connections.insert(session->connection_id());
        });
    workers_->Disconnect();
    if (!status.ok()) return status;
  }
  const absl::StatusOr<bool> detached = WaitUntilDetached(control_, connections);
  if (!detached.ok()) return detached.status();
  if (!*detached) {
    // Their branches are listed as prepared now; the next round of recovery finishes them as such.
    for (Ghost& ghost : *ghosts) ghost.adopted = false;
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> GhostRepair::MayCommit(const BranchTask& like, std::string* hint) {
  // Without its birth row an INSERT IGNORE would insert one.
  const absl::StatusOr<bool> born = HasWitness(control_, *like.witness, WitnessBirth());
  if (!born.ok()) return born;
  if (!*born) {
    *hint = "or check the resource, which makes the row that is missing in its witness table, and try again";
    return false;
  }
  if (!rehearsed_) {
    Xid xid = like.xid;  // Of the same transaction, so that whatever is left of it is an orphan of the cluster.
    xid.bqual = absl::StrCat("rehearsal-", NewRequestId());
    const absl::StatusOr<absl::optional<bool>> passed = Rehearse(*like.witness, xid);
    if (!passed.ok()) return passed.status();
    if (!*passed) {
      *hint = "or wait until the server takes writes again (it is read-only, or a backup has it locked)";
      return false;
    }
    rehearsed_ = **passed;
    LOG_IF(WARNING, !**passed) << "committing a ghost was rehearsed on this server and failed: gtrid=" << xid.gtrid
                               << " bqual=" << xid.bqual;
  }
  return *rehearsed_;
}

absl::StatusOr<absl::optional<bool>> GhostRepair::Rehearse(const WitnessTable& witness, const Xid& xid) {
  DbError refusal;
  const absl::Status made = MakeGhost(witness, xid, &refusal);
  if (!made.ok()) return made;
  if (refusal.code == kErOptionPreventsStatement || refusal.code == kErLockWaitTimeout) {
    return absl::optional<bool>();
  }
  const auto sight = [&]() -> absl::StatusOr<WitnessSight> {
    const auto answers = ReadWitnesses(control_, witness, {WitnessQuestion{xid, absl::InfiniteFuture()}});
    if (!answers.ok()) return answers.status();
    return answers->sights[0];
  };
  const absl::StatusOr<WitnessSight> before = sight();
  if (!before.ok()) return before.status();
  const auto listed = control_->Recover();
  if (!listed.ok()) return listed.status();
  const bool is_ghost = *before == WitnessSight::kUncommitted &&
                        std::none_of(listed->begin(), listed->end(), [&](const RecoveredXid& recovered) {
                          return Xid{recovered.gtrid, recovered.bqual} == xid;
                        });
  bool passed = false;
  if (is_ghost) {
    std::vector<Ghost> ghosts(1);
    ghosts[0].xid = xid;
    ghosts[0].commit = true;
    ghosts[0].witness = &witness;
    const absl::Status finished = Finish(&ghosts);
    if (!finished.ok()) return finished;
    const absl::StatusOr<WitnessSight> after = sight();
    if (!after.ok()) return after.status();
    passed = *after == WitnessSight::kCommitted;
  }
  // What is left of a rehearsal that failed: a branch of the xid, a ghost (until the server restarts), or nothing.
  if (!passed) control_->Rollback(xid);
  const absl::Status forgotten = DeleteWitnesses(control_, witness, {xid});
  if (passed && !forgotten.ok()) return forgotten;
  return absl::optional<bool>(passed);
}

absl::Status GhostRepair::MakeGhost(const WitnessTable& witness, const Xid& xid, DbError* refusal) {
  const std::string literal = XidSqlLiteral(xid);
  std::set<uint64_t> connections;
  workers_->Disconnect();
  const absl::Status status = workers_->ForEach(
      1,
      [&](BranchSession* session, size_t) {
        session->SendQuery(absl::StrCat("XA START ", literal, ";", witness.InsertSql(xid), ";XA END ", literal,
                                        ";XA PREPARE ", literal));
        return true;
      },
      [&](BranchSession* session, size_t) {
        connections.insert(session->connection_id());
        // What no pool must ever do to a prepared branch: the server publishes it, and InnoDB keeps it with the
        // session.
        *refusal = session->ReceiveQuery().error;
        if (refusal->ok() && mysql_reset_connection(session->BorrowHandle()) == 0) control_->Commit(xid);
      });
  workers_->Disconnect();
  if (!status.ok()) return status;
  return WaitUntilDetached(control_, connections).status();
}

}  // namespace assent
