#include "tests/bank/rig.h"

#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"

namespace assent {
namespace {

constexpr std::array<const char*, kBankServers> kNames = {"orders", "payments"};

}  // namespace

absl::Status BankRig::StartCoordinator(const BankRigOptions& options) {
  Assentd::Options coordinator_options = options.coordinator;
  coordinator_options.cluster = options.cluster;
  if (options.instances > 0) {
    AssentdCluster::Options cluster_options;
    cluster_options.instances = options.instances;
    cluster_options.instance = std::move(coordinator_options);
    absl::StatusOr<std::unique_ptr<AssentdCluster>> cluster = AssentdCluster::Start(std::move(cluster_options));
    if (!cluster.ok()) return cluster.status();
    cluster_ = *std::move(cluster);
    config_.coordinator = cluster_->addresses();
    return absl::OkStatus();
  }
  if (coordinator_options.store.empty() && !StoresAreMariaDb()) coordinator_options.store = folder_ + "/assent.db";
  absl::StatusOr<std::unique_ptr<Assentd>> coordinator = Assentd::Start(std::move(coordinator_options));
  if (!coordinator.ok()) return coordinator.status();
  coordinator_ = *std::move(coordinator);
  config_.coordinator = coordinator_->address();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<BankRig>> BankRig::Start(const BankRigOptions& options) {
  std::unique_ptr<BankRig> rig(new BankRig(options.folder));
  for (size_t i = 0; i < kBankServers; ++i) {
    absl::StatusOr<std::unique_ptr<PrivateDatabase>> database =
        StartDatabase(options.engines[i], options.database_options);
    if (!database.ok()) return database.status();
    if (options.stop != nullptr && *options.stop) return absl::CancelledError("stopped");
    rig->databases_[i] = *std::move(database);
    BankServer& server = rig->config_.servers[i];
    server = {kNames[i],
              rig->databases_[i]->unix_address(),
              rig->databases_[i]->user(),
              absl::StrCat(options.folder, "/", kNames[i], ".password"),
              options.engines[i],
              rig->databases_[i]->database()};
    std::ofstream file(server.password_file);
    file << rig->databases_[i]->password() << "\n";
    file.close();
    if (!file) return absl::InternalError(absl::StrCat("cannot write ", server.password_file));
  }
  if (absl::Status status = rig->StartCoordinator(options); !status.ok()) return status;
  rig->config_.accounts = options.accounts;
  rig->config_.initial_balance = options.initial_balance;
  absl::Status status = SetUpBank(rig->config_);
  if (status.ok()) status = rig->config_.Save(rig->config_path());
  if (!status.ok()) return status;
  return rig;
}

}  // namespace assent
