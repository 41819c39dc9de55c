// MariaDbRecovery: finishes detached branches on a MariaDB server, and proves how they ended.
//
// Its rounds (recovery_rounds.h): look (sessions, detach barrier, XA RECOVER, witnesses), and act (KILL, XA COMMIT and
// ROLLBACK over several connections at once). What is slow, the barrier above all, happens once per batch of branches
// and not once per branch.
#ifndef ASSENT_RESOURCE_MANAGER_MARIADB_RECOVERY_H_
#define ASSENT_RESOURCE_MANAGER_MARIADB_RECOVERY_H_

#include <memory>
#include <set>
#include <vector>

#include "absl/status/statusor.h"
#include "resource_manager/branch_case.h"
#include "resource_manager/branch_recovery.h"
#include "resource_manager/ghost_repair.h"
#include "resource_manager/mariadb_session.h"
#include "resource_manager/recovery_rounds.h"
#include "resource_manager/worker_pool.h"

namespace assent {

class MariaDbRecovery : public RecoveryRounds {
 public:
  static constexpr int kDefaultConnections = 8;

  // Connects one session now, and up to `connections` more (at least one) when there is work for them. Any account can
  // finish branches; to see other accounts' sessions it needs PROCESS, to end them CONNECTION ADMIN. Without PROCESS a
  // session that is not seen counts as unknown, and a settle time takes the place of the detach barrier.
  // DATABASE_UNREACHABLE, DATABASE_ERROR.
  static absl::StatusOr<std::unique_ptr<BranchRecovery>> Connect(const ConnectOptions& options,
                                                                 int connections = kDefaultConnections);

  const ServerIdentity& identity() const override { return identity_; }
  absl::StatusOr<std::vector<RecoveredXid>> ListPrepared() override;
  absl::StatusOr<absl::optional<GhostCount>> CountGhosts() override;
  absl::StatusOr<std::vector<Xid>> ListOpenWitnesses(const WitnessTable& witness, absl::string_view gtrid_prefix,
                                                     const std::set<Xid>& except) override;
  absl::StatusOr<std::vector<v1::LockWait>> LockWaits(absl::Span<const BranchTask> branches, int limit) override;
  absl::Status Install(const absl::optional<WitnessTable>& witness) override;
  absl::Status CheckWitness(const WitnessTable& witness) override;
  absl::StatusOr<absl::optional<Claim>> ReadClaim(absl::string_view cluster) override;
  absl::StatusOr<bool> WriteClaim(absl::string_view cluster, const absl::optional<Claim>& expected,
                                  const Claim& claim) override;
  absl::Status ForgetWitnesses(const WitnessTable& witness, absl::Span<const Xid> xids) override;
  absl::StatusOr<std::vector<Xid>> ListWitnesses(const WitnessTable& witness, absl::string_view gtrid_prefix,
                                                 const Xid& after, int limit) override;
  absl::Status ForceWitnesses(const WitnessTable& witness) override;

 private:
  MariaDbRecovery(const ConnectOptions& options, int connections, std::unique_ptr<MariaDbSession> control,
                  ServerIdentity identity);

  absl::Status LookAtAll(bool may_act, absl::Span<BranchCase* const> cases) override;
  absl::Status ActOn(const std::vector<BranchCase*>& cases) override;
  // Each over all cases that have the act.
  absl::Status Kill(const std::vector<BranchCase*>& cases);
  std::string KillGrant();  // What a denied KILL needs.
  absl::Status Probe(const std::vector<BranchCase*>& cases);
  absl::Status FinishPrepared(const std::vector<BranchCase*>& cases);

  WorkerPool workers_;
  const std::unique_ptr<MariaDbSession> control_;
  const ServerIdentity identity_;
  GhostRepair ghosts_;
};

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_MARIADB_RECOVERY_H_
