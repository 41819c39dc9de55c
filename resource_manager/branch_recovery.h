// BranchRecovery: finishes branches whose sessions are gone, over the coordinator's own connections, and proves how
// they ended. One implementation per engine; the coordinator's recovery knows only this.
//
// It never guesses: an outcome other than UNSPECIFIED, STILL_PREPARED and ATTACHED_ELSEWHERE is proven by the evidence
// that comes with it. It touches only the branches it is asked to finish, and never a session that is alive within its
// lease.
#ifndef ASSENT_RESOURCE_MANAGER_BRANCH_RECOVERY_H_
#define ASSENT_RESOURCE_MANAGER_BRANCH_RECOVERY_H_

#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "assent/v1/coordinator_service.pb.h"
#include "assent/v1/global.pb.h"
#include "base/xid.h"
#include "resource_manager/branch_session.h"
#include "resource_manager/witness_table.h"

namespace assent {

// A branch of a decided transaction that is not proven finished, or an orphan (decision ROLLBACK).
struct BranchTask {
  Xid xid;
  v1::Decision decision = v1::DECISION_ROLLBACK;
  // It voted PREPARED, so it was prepared once.
  bool voted_prepared = false;
  // Its participant sent XA COMMIT … ONE PHASE and got no answer: its witness is that of one phase (WitnessOf), and
  // what it did is the decision. (`decision` is COMMIT: should a crash have brought it back as prepared, its
  // participant may have had the OK.)
  bool one_phase = false;
  // It may have been prepared without leaving its witness: nobody has said otherwise, or it was seen so.
  bool unwitnessed = false;
  // The session that runs or ran it; nullopt: not known.
  absl::optional<v1::Session> session;
  // The lease is over: a session that still holds it may be killed if `may_kill`.
  bool lease_over = false;
  bool may_kill = false;
  // Where its witness is; nullopt: it leaves none.
  absl::optional<WitnessTable> witness;
  // Its session was to be on another server than this one.
  bool of_other_server = false;
  // Other data has been accepted in the server's place since the branch was created.
  bool before_acceptance = false;
  // When the branch was created, by the coordinator's clock: a witness table that is younger proves nothing.
  absl::Time created;
};

// What came of a task.
struct BranchFinding {
  v1::Evidence evidence;  // With the outcome; `time` is left to the caller.
  // True if trying again may come further; false if only an operator, or a restart of the server, can.
  bool retry = true;
  // Somebody must do something at the server (the evidence says what); trying again finds out whether it was done.
  bool by_hand = false;
  // The account lacks a privilege that would have helped (the evidence names it). What is granted counts from the next
  // connection on.
  bool lacks_privilege = false;
};

// Which coordinator's store keeps the decisions about a cluster's branches on a server; see claim.h.
struct Claim {
  std::string store_id;  // At most 64 bytes.
  int64_t epoch = 0;

  bool operator==(const Claim& other) const { return store_id == other.store_id && epoch == other.epoch; }
};

// Prepared transactions that the server has lost sight of (ghosts).
struct GhostCount {
  // At least this many without a session, whoever's (what was prepared and wrote nothing hides one each).
  int detached = 0;
  // True if there is none at all, not even one that a living session still has. False: perhaps; what comes and goes
  // meanwhile cannot be told apart.
  bool surely_none = false;
};

// Thread-compatible: one thread at a time. All calls block, each for a bounded time. A call that loses its connection
// answers DATABASE_UNREACHABLE; the object is then of no more use.
class BranchRecovery {
 public:
  virtual ~BranchRecovery() = default;

  virtual const ServerIdentity& identity() const = 0;

  // Everything that is prepared on the server, whoever's: complete, or an error.
  virtual absl::StatusOr<std::vector<RecoveredXid>> ListPrepared() = 0;

  // Looks only; at most kMaxTasks at once. One finding per task, in order: what is proven now, and what Finish would
  // do.
  virtual absl::StatusOr<std::vector<BranchFinding>> Examine(absl::Span<const BranchTask> tasks) = 0;

  // Finishes what can be finished and proves it; at most kMaxTasks at once. One finding per task, in order. An error
  // means that nothing is known about any of them: look again later.
  virtual absl::StatusOr<std::vector<BranchFinding>> Finish(absl::Span<const BranchTask> tasks) = 0;
  static constexpr size_t kMaxTasks = 1000;

  // nullopt: it cannot be seen (the account may not look, or the server has more transactions than it shows).
  virtual absl::StatusOr<absl::optional<GhostCount>> CountGhosts() = 0;
  // The witnesses whose gtrid has this prefix and whose transactions are open, all that are not in `except`: branches
  // that are about to prepare, are prepared, or were and are not listed any more (ghosts).
  virtual absl::StatusOr<std::vector<Xid>> ListOpenWitnesses(const WitnessTable& witness,
                                                             absl::string_view gtrid_prefix,
                                                             const std::set<Xid>& except) = 0;

  // Who waits for locks that branches hold; at most `limit`. The branch is named if `sessions` tells whose connection
  // holds the lock, or if nothing else is prepared there. RESOURCE_UNFIT (metadata `grant`): the account may not look.
  virtual absl::StatusOr<std::vector<v1::LockWait>> LockWaits(absl::Span<const BranchTask> branches, int limit) = 0;

  // Makes what Assent keeps on the server, the table of claims and that of witnesses (nullopt: none is wanted), or
  // brings it up to date. Only for a server that is known to be the right one: a table that is made anew would hide
  // that the old one is lost. RESOURCE_UNFIT (metadata `grant`), DATABASE_ERROR, DATABASE_UNREACHABLE.
  virtual absl::Status Install(const absl::optional<WitnessTable>& witness) = 0;
  // OK if branches can leave witnesses, and their absence will prove something. RESOURCE_UNFIT says what is missing.
  virtual absl::Status CheckWitness(const WitnessTable& witness) = 0;

  // The cluster's claim on the server; nullopt: there is none.
  virtual absl::StatusOr<absl::optional<Claim>> ReadClaim(absl::string_view cluster) = 0;
  // Writes the claim, durably, if what is there is `expected` (nullopt: nothing). False if it is something else.
  virtual absl::StatusOr<bool> WriteClaim(absl::string_view cluster, const absl::optional<Claim>& expected,
                                          const Claim& claim) = 0;

  // Deletes the witnesses of branches whose transactions are finished; see witness.h.
  virtual absl::Status ForgetWitnesses(const WitnessTable& witness, absl::Span<const Xid> xids) = 0;
  // The committed witnesses whose gtrid has this prefix, beginning behind `after`, at most `limit`: what is left to
  // forget.
  virtual absl::StatusOr<std::vector<Xid>> ListWitnesses(const WitnessTable& witness, absl::string_view gtrid_prefix,
                                                         const Xid& after, int limit) = 0;
  // OK: the witnesses that could be seen before the call outlive a crash of the server; see witness.h.
  virtual absl::Status ForceWitnesses(const WitnessTable& witness) = 0;
};

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_BRANCH_RECOVERY_H_
