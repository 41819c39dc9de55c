#include "tests/race/naive_coordinator.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/resource_password.h"
#include "coordinator/server.h"
#include "resource_manager/database_engine.h"
#include "resource_manager/mariadb_recovery.h"
#include "resource_manager/mariadb_session.h"
#include "store/sqlite_store.h"
#include "tests/fixtures/process.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

// MariaDbRecovery in everything but in how it finishes branches.
class NaiveRecovery : public BranchRecovery {
 public:
  NaiveRecovery(std::unique_ptr<BranchRecovery> real, std::unique_ptr<MariaDbSession> session)
      : real_(std::move(real)), session_(std::move(session)) {}

  absl::StatusOr<std::vector<BranchFinding>> Finish(absl::Span<const BranchTask> tasks) override {
    std::vector<BranchFinding> findings;
    for (const BranchTask& task : tasks) {
      const bool commit = task.decision == v1::DECISION_COMMIT;
      const XaResult result = commit ? session_->Commit(task.xid) : session_->Rollback(task.xid);
      BranchFinding finding;
      if (result.ok() || result.outcome == XaOutcome::kUnknownXid || result.outcome == XaOutcome::kRolledBack) {
        finding.evidence.set_outcome(commit ? v1::BRANCH_OUTCOME_COMMITTED : v1::BRANCH_OUTCOME_ROLLED_BACK);
        finding.retry = false;
      }
      findings.push_back(std::move(finding));
    }
    return findings;
  }

  const ServerIdentity& identity() const override { return real_->identity(); }
  absl::StatusOr<std::vector<RecoveredXid>> ListPrepared() override { return real_->ListPrepared(); }
  absl::StatusOr<std::vector<BranchFinding>> Examine(absl::Span<const BranchTask> tasks) override {
    return real_->Examine(tasks);
  }
  absl::StatusOr<absl::optional<GhostCount>> CountGhosts() override {
    return absl::optional<GhostCount>(GhostCount{0, /*surely_none=*/true});
  }
  absl::StatusOr<std::vector<Xid>> ListOpenWitnesses(const WitnessTable&, absl::string_view,
                                                     const std::set<Xid>&) override {
    return std::vector<Xid>();
  }
  absl::StatusOr<std::vector<v1::LockWait>> LockWaits(absl::Span<const BranchTask> branches, int limit) override {
    return real_->LockWaits(branches, limit);
  }
  absl::Status Install(const absl::optional<WitnessTable>& witness) override { return real_->Install(witness); }
  absl::Status CheckWitness(const WitnessTable& witness) override { return real_->CheckWitness(witness); }
  absl::StatusOr<absl::optional<Claim>> ReadClaim(absl::string_view cluster) override {
    return real_->ReadClaim(cluster);
  }
  absl::StatusOr<bool> WriteClaim(absl::string_view cluster, const absl::optional<Claim>& expected,
                                  const Claim& claim) override {
    return real_->WriteClaim(cluster, expected, claim);
  }
  // The ghosts that it leaves hold their witnesses locked, and it has no use for them anyway.
  absl::Status ForgetWitnesses(const WitnessTable&, absl::Span<const Xid>) override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<Xid>> ListWitnesses(const WitnessTable& witness, absl::string_view gtrid_prefix,
                                                 const Xid& after, int limit) override {
    return real_->ListWitnesses(witness, gtrid_prefix, after, limit);
  }
  absl::Status ForceWitnesses(const WitnessTable& witness) override { return real_->ForceWitnesses(witness); }

 private:
  const std::unique_ptr<BranchRecovery> real_;
  const std::unique_ptr<MariaDbSession> session_;
};

absl::StatusOr<std::unique_ptr<BranchRecovery>> ConnectNaively(const v1::Resource& resource) {
  const absl::StatusOr<std::string> password = PasswordOf(resource);
  if (!password.ok()) return password.status();
  const absl::StatusOr<ConnectOptions> options = ConnectOptionsOf(resource, *password);
  if (!options.ok()) return options.status();
  auto real = MariaDbRecovery::Connect(*options);
  if (!real.ok()) return real.status();
  auto session = MariaDbSession::Connect(*options);
  if (!session.ok()) return session.status();
  return std::make_unique<NaiveRecovery>(*std::move(real), *std::move(session));
}

class NaiveCoordinator : public RaceCoordinator {
 public:
  explicit NaiveCoordinator(TempDir folder)
      : folder_(std::move(folder)), address_(absl::StrCat("127.0.0.1:", FreePort())) {}
  ~NaiveCoordinator() override { Stop(); }

  std::string address() const override { return address_; }
  void Stop() override { server_.reset(); }
  std::string LastWords() const override { return "(it runs in this process)"; }
  absl::Status Start() override {
    SqliteOptions store_options;
    store_options.path = folder_.path() + "/store.db";
    store_options.cluster = kRaceCluster;
    absl::StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open(store_options);
    if (!store.ok()) return store.status();
    ServerOptions options;
    options.listen = address_;
    options.limits.cluster = kRaceCluster;
    options.sweep_interval = absl::Seconds(1);
    options.recovery_patience = absl::ZeroDuration();
    options.connect = ConnectNaively;
    absl::StatusOr<std::unique_ptr<CoordinatorServer>> server = CoordinatorServer::Start(*std::move(store), options);
    if (!server.ok()) return server.status();
    server_ = *std::move(server);
    return absl::OkStatus();
  }

 private:
  const TempDir folder_;
  const std::string address_;
  std::unique_ptr<CoordinatorServer> server_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RaceCoordinator>> StartNaiveCoordinator() {
  absl::StatusOr<TempDir> folder = TempDir::Create();
  if (!folder.ok()) return folder.status();
  auto coordinator = std::make_unique<NaiveCoordinator>(*std::move(folder));
  if (absl::Status status = coordinator->Start(); !status.ok()) return status;
  return coordinator;
}

}  // namespace assent
