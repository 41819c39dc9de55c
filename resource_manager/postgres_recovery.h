// PostgresRecovery: finishes prepared branches in a PostgreSQL database, and proves how they ended.
//
// PREPARE TRANSACTION lets go of a branch, so there is no barrier to pass and there are no ghosts. The evidence is
// pg_xact_status of the transaction id that the participant reported: in Evidence, `witness` is what was seen of that
// (PRESENT: committed, ABSENT: aborted, UNCOMMITTED: in progress). It counts only on the timeline of the server's WAL
// on which the id was given: after a failover or a restore the same number may be another transaction's.
#ifndef ASSENT_RESOURCE_MANAGER_POSTGRES_RECOVERY_H_
#define ASSENT_RESOURCE_MANAGER_POSTGRES_RECOVERY_H_

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "resource_manager/postgres_session.h"
#include "resource_manager/recovery_rounds.h"
#include "resource_manager/worker_pool.h"

namespace assent {

class PostgresRecovery : public RecoveryRounds {
 public:
  // Connects one session now, and up to `connections` more (at least one) when there is work for them. A branch can be
  // finished by a superuser, by the role that prepared it, and by members of that role. To see when other roles'
  // sessions began it needs pg_read_all_stats, to end them pg_signal_backend. DATABASE_UNREACHABLE (also of a standby,
  // which may lag behind what it would be asked to prove), DATABASE_ERROR.
  static absl::StatusOr<std::unique_ptr<BranchRecovery>> Connect(const ConnectOptions& options, int connections);

  const ServerIdentity& identity() const override { return control_->facts().identity; }
  absl::StatusOr<std::vector<RecoveredXid>> ListPrepared() override { return control_->Recover(); }
  absl::StatusOr<absl::optional<GhostCount>> CountGhosts() override;
  absl::StatusOr<std::vector<v1::LockWait>> LockWaits(absl::Span<const BranchTask> branches, int limit) override;
  absl::Status Install(const absl::optional<WitnessTable>& witness) override;
  absl::StatusOr<absl::optional<Claim>> ReadClaim(absl::string_view cluster) override;
  absl::StatusOr<bool> WriteClaim(absl::string_view cluster, const absl::optional<Claim>& expected,
                                  const Claim& claim) override;
  // There are no witnesses.
  absl::StatusOr<std::vector<Xid>> ListOpenWitnesses(const WitnessTable&, absl::string_view,
                                                     const std::set<Xid>&) override;
  absl::Status CheckWitness(const WitnessTable&) override { return absl::OkStatus(); }
  absl::Status ForgetWitnesses(const WitnessTable&, absl::Span<const Xid>) override { return absl::OkStatus(); }
  absl::Status ForceWitnesses(const WitnessTable&) override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<Xid>> ListWitnesses(const WitnessTable&, absl::string_view, const Xid&, int) override;

 private:
  PostgresRecovery(const ConnectOptions& options, int connections, std::unique_ptr<PostgresSession> control);

  absl::Status LookAtAll(bool may_act, absl::Span<BranchCase* const> cases) override;
  absl::Status ActOn(const std::vector<BranchCase*>& cases) override;
  void Translate(BranchFinding* finding) const override;
  absl::Status LookAtSessions(absl::Span<BranchCase* const> cases);
  absl::Status LookAtPrepared(absl::Span<BranchCase* const> cases);
  absl::Status LookAtTransactions(absl::Span<BranchCase* const> cases);
  absl::Status Kill(const std::vector<BranchCase*>& cases);
  absl::Status FinishPrepared(const std::vector<BranchCase*>& cases);

  WorkerPool workers_;
  const std::unique_ptr<PostgresSession> control_;
  // As of the last look: who prepared the branches that are listed.
  std::map<Xid, std::string> owners_;
};

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_POSTGRES_RECOVERY_H_
