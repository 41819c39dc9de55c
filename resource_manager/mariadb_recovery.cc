#include "resource_manager/mariadb_recovery.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/fault_point.h"
#include "resource_manager/claim.h"
#include "resource_manager/ghost_count.h"
#include "resource_manager/lock_waits.h"
#include "resource_manager/table_migration.h"
#include "resource_manager/witness.h"

namespace assent {
namespace {

constexpr int kErNoSuchThread = 1094;
constexpr int kErKillDenied = 1095;
constexpr int kErSpecificAccessDenied = 1227;

}  // namespace

MariaDbRecovery::MariaDbRecovery(const ConnectOptions& options, int connections,
                                 std::unique_ptr<MariaDbSession> control, ServerIdentity identity)
    : workers_([options] { return MariaDbSession::ConnectForCoordinator(options); }, connections, options.read_timeout),
      control_(std::move(control)),
      identity_(std::move(identity)),
      ghosts_(control_.get(), &workers_) {}

absl::StatusOr<std::unique_ptr<BranchRecovery>> MariaDbRecovery::Connect(const ConnectOptions& options,
                                                                         int connections) {
  auto control = MariaDbSession::ConnectForCoordinator(options);
  if (!control.ok()) return control.status();
  absl::StatusOr<ServerIdentity> identity = (*control)->Identity();
  if (!identity.ok()) return identity.status();
  return std::unique_ptr<BranchRecovery>(
      new MariaDbRecovery(options, connections, *std::move(control), *std::move(identity)));
}

absl::StatusOr<std::vector<RecoveredXid>> MariaDbRecovery::ListPrepared() { return control_->Recover(); }

absl::Status MariaDbRecovery::LookAtAll(bool may_act, absl::Span<BranchCase* const> cases) {
  return LookAt(control_.get(), identity_, may_act, cases);
}

absl::Status MariaDbRecovery::ActOn(const std::vector<BranchCase*>& cases) {
  absl::Status status = Kill(WithAct(cases, {Act::kKill}));
  if (status.ok()) status = Probe(WithAct(cases, {Act::kProbe}));
  if (status.ok()) status = FinishPrepared(WithAct(cases, {Act::kCommit, Act::kRollback}));
  if (status.ok()) status = ghosts_.Repair(WithAct(cases, {Act::kRepair}));
  return status;
}

absl::Status MariaDbRecovery::Kill(const std::vector<BranchCase*>& cases) {
  std::string grant;
  for (BranchCase* branch : cases) {
    const std::string sql = absl::StrCat("KILL CONNECTION ", branch->task->session->connection_id());
    const QueryResult result = control_->Query(sql);
    NoteDone(branch, sql, result.error);
    if (IsConnectionLost(result.error.code)) return StatusOf(result.error, sql);
    if (result.ok() || result.error.code == kErNoSuchThread) {
      ASSENT_FAULT_POINT(kRecoveryKilled);
      branch->facts.kill = KillResult::kDone;
      continue;
    }
    branch->facts.kill = KillResult::kFailed;
    if (result.error.code != kErKillDenied && result.error.code != kErSpecificAccessDenied) continue;
    if (grant.empty()) grant = KillGrant();
    branch->hint = grant;
    branch->lacks_privilege = true;
  }
  return absl::OkStatus();
}

std::string MariaDbRecovery::KillGrant() {
  const std::string account = AccountOf(control_.get());
  if (!control_->is_mysql()) return absl::StrCat("GRANT CONNECTION ADMIN ON *.* TO ", account);
  return absl::StrCat("GRANT CONNECTION_ADMIN ON *.* TO ", account,
                      " (if the session's account has SYSTEM_USER, that is needed, too)");
}

absl::Status MariaDbRecovery::FinishPrepared(const std::vector<BranchCase*>& cases) {
  bool not_now = false;  // What makes one branch wait (a backup) makes all of them wait: do not wait for each.
  return workers_.ForEach(
      cases.size(),
      [&](BranchSession* session, size_t i) {
        if (not_now) {
          cases[i]->facts.verb = VerbResult::kRetryLater;
          return false;
        }
        ASSENT_FAULT_POINT(kRecoveryActBefore);
        if (cases[i]->verdict.act == Act::kCommit) {
          session->SendCommit(cases[i]->task->xid);
        } else {
          session->SendRollback(cases[i]->task->xid);
        }
        return true;
      },
      [&](BranchSession* session, size_t i) {
        const XaResult result = session->Receive();
        ASSENT_FAULT_POINT(kRecoveryActOk);
        NoteDone(cases[i], ToString(cases[i]->verdict.act), result.error);
        cases[i]->facts.verb = VerbResultOf(result.outcome);
        not_now = not_now || result.outcome == XaOutcome::kRetryLater;
      });
}

absl::Status MariaDbRecovery::Probe(const std::vector<BranchCase*>& cases) {
  return workers_.ForEach(
      cases.size(),
      [&](BranchSession* session, size_t i) {
        session->SendStart(cases[i]->task->xid);
        return true;
      },
      [&](BranchSession* session, size_t i) {
        const XaResult started = session->ReceiveStart().xa;
        NoteDone(cases[i], "XA START (probe)", started.error);
        ProbeResult& probe = cases[i]->facts.probe;
        if (started.outcome == XaOutcome::kDuplicateXid) {
          probe = ProbeResult::kTaken;
        } else if (started.ok() && session->Rollback(cases[i]->task->xid).ok()) {
          probe = ProbeResult::kFree;
        } else {
          probe = ProbeResult::kFailed;
        }
      });
}

absl::StatusOr<absl::optional<GhostCount>> MariaDbRecovery::CountGhosts() {
  return assent::CountGhosts(control_.get());
}

absl::StatusOr<std::vector<Xid>> MariaDbRecovery::ListOpenWitnesses(const WitnessTable& witness,
                                                                    absl::string_view gtrid_prefix,
                                                                    const std::set<Xid>& except) {
  return assent::ListOpenWitnesses(control_.get(), witness, gtrid_prefix, except);
}

absl::StatusOr<std::vector<v1::LockWait>> MariaDbRecovery::LockWaits(absl::Span<const BranchTask> branches, int limit) {
  return ReadLockWaits(control_.get(), identity_, branches, limit);
}

absl::Status MariaDbRecovery::Install(const absl::optional<WitnessTable>& witness) {
  if (absl::Status status = InstallClaims(control_.get()); !status.ok()) return status;
  return witness ? InstallWitness(control_.get(), *witness) : absl::OkStatus();
}

absl::Status MariaDbRecovery::CheckWitness(const WitnessTable& witness) {
  return assent::CheckWitness(control_.get(), witness);
}

absl::StatusOr<absl::optional<Claim>> MariaDbRecovery::ReadClaim(absl::string_view cluster) {
  return assent::ReadClaim(control_.get(), cluster);
}

absl::StatusOr<bool> MariaDbRecovery::WriteClaim(absl::string_view cluster, const absl::optional<Claim>& expected,
                                                 const Claim& claim) {
  return assent::WriteClaim(control_.get(), cluster, expected, claim);
}

absl::Status MariaDbRecovery::ForgetWitnesses(const WitnessTable& witness, absl::Span<const Xid> xids) {
  return DeleteWitnesses(control_.get(), witness, xids);
}

absl::StatusOr<std::vector<Xid>> MariaDbRecovery::ListWitnesses(const WitnessTable& witness,
                                                                absl::string_view gtrid_prefix, const Xid& after,
                                                                int limit) {
  return assent::ListWitnesses(control_.get(), witness, gtrid_prefix, after, limit);
}

absl::Status MariaDbRecovery::ForceWitnesses(const WitnessTable& witness) {
  return assent::ForceWitnesses(control_.get(), witness);
}

}  // namespace assent
