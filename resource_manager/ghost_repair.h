// The repair of ghosts: branches whose transactions are prepared in InnoDB, belong to no connection, and are not known
// to the server (COMMIT or ROLLBACK of another session came while the connection was being closed, or after it was
// reset, and was answered OK). Their locks stay, and only a restart of the server would bring them back to XA RECOVER.
//
// The way back: a connection starts, ends and prepares a branch of the same xid, and leaves. What is then finished
// under that xid is looked up in InnoDB by the xid, which finds the ghost. To ROLL BACK, an empty branch will do. To
// COMMIT, the server must believe that the branch has written (or it answers 1402 and rolls the ghost back), but InnoDB
// must have nothing of it to keep (or there are two prepared transactions of one xid, and either is committed). An
// INSERT IGNORE of a row that is there already is exactly that: the birth row of the witness table. It works with and
// without a binary log, and was measured on MariaDB 10.11 (docs/decisions/0006-ghosts-are-repaired-online.md).
//
// Because other versions may differ, and a commit that turns into a rollback cannot be mended, the first commit on
// every connection is rehearsed: with a ghost made on purpose, that holds nothing but its own witness. On MySQL, which
// makes ghosts only with xa_detach_on_prepare=OFF, nothing is repaired.
#ifndef ASSENT_RESOURCE_MANAGER_GHOST_REPAIR_H_
#define ASSENT_RESOURCE_MANAGER_GHOST_REPAIR_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "resource_manager/branch_case.h"
#include "resource_manager/mariadb_session.h"
#include "resource_manager/witness_table.h"
#include "resource_manager/worker_pool.h"

namespace assent {

// Thread-compatible.
class GhostRepair {
 public:
  // Both must outlive it.
  GhostRepair(MariaDbSession* control, WorkerPool* workers) : control_(control), workers_(workers) {}

  // Tries to finish the cases, ghosts with a witness by their facts, as decided: sets facts.repair of each and notes
  // what was done. What came of it is for the next look to see. All steps are taken for all ghosts together, so that
  // there is one barrier and not one per ghost. An error: a connection is lost, and nothing is known. Disconnects the
  // workers.
  absl::Status Repair(absl::Span<BranchCase* const> cases);

 private:
  // A ghost, and how far its repair has come.
  struct Ghost {
    Xid xid;
    bool commit = false;
    const WitnessTable* witness = nullptr;
    bool adopted = false;  // A branch of its xid is prepared.
    RepairResult result = RepairResult::kFailed;
    DbError error;
  };

  // Takes all steps for all ghosts.
  absl::Status Finish(std::vector<Ghost>* ghosts);
  absl::Status Adopt(std::vector<Ghost>* ghosts);
  // True if a ghost's commit works on this server; else *hint may say what helps. `like`: a ghost that is to be
  // committed.
  absl::StatusOr<bool> MayCommit(const BranchTask& like, std::string* hint);
  // nullopt: the server takes no writes now, which shows nothing.
  absl::StatusOr<absl::optional<bool>> Rehearse(const WitnessTable& witness, const Xid& xid);
  // Tries to make a ghost of a branch that holds nothing but its witness; OK also if the server would not have it.
  // `refusal`: what it said to the branch.
  absl::Status MakeGhost(const WitnessTable& witness, const Xid& xid, DbError* refusal);

  MariaDbSession* const control_;
  WorkerPool* const workers_;
  absl::optional<bool> rehearsed_;  // What the rehearsal on this connection has shown.
};

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_GHOST_REPAIR_H_
