// BankRig: all that a bank needs, started: two private database servers, the coordinator, schema, accounts, resources.
#ifndef ASSENT_TESTS_BANK_RIG_H_
#define ASSENT_TESTS_BANK_RIG_H_

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "tests/bank/bank.h"
#include "tests/fixtures/assentd.h"
#include "tests/fixtures/assentd_cluster.h"
#include "tests/fixtures/databases.h"

namespace assent {

struct BankRigOptions {
  // Where the store, the passwords and bank.conf go. It must exist, and outlive the rig.
  std::string folder;
  std::string cluster = "bank";
  int64_t accounts = 1000;
  int64_t initial_balance = 1000;
  std::array<v1::Resource::Engine, kBankServers> engines = {EngineOfServer(0), EngineOfServer(1)};
  // Further options of the database servers.
  DatabaseOptions database_options;
  // Further settings of the coordinator's process.
  Assentd::Options coordinator;
  // Several instances of the coordinator over one MariaDB store; then coordinator() is the first of them. 0: one,
  // alone.
  int instances = 0;
  // Gives up with CANCELLED between two steps once it is true; may be null.
  const std::atomic<bool>* stop = nullptr;
};

// Gone with all its processes when it is destroyed. Thread-compatible.
class BankRig {
 public:
  static absl::StatusOr<std::unique_ptr<BankRig>> Start(const BankRigOptions& options);

  const BankConfig& config() const { return config_; }
  // The configuration as a file, for worker processes.
  std::string config_path() const { return folder_ + "/bank.conf"; }
  Assentd& coordinator() { return coordinator_ != nullptr ? *coordinator_ : cluster_->instance(0); }
  AssentdCluster& cluster() { return *cluster_; }
  PrivateDatabase& database(int i) { return *databases_[static_cast<size_t>(i)]; }

 private:
  explicit BankRig(std::string folder) : folder_(std::move(folder)) {}
  absl::Status StartCoordinator(const BankRigOptions& options);

  const std::string folder_;
  BankConfig config_;
  // In this order: the coordinator goes first, and the databases last.
  std::array<std::unique_ptr<PrivateDatabase>, kBankServers> databases_;
  std::unique_ptr<Assentd> coordinator_;     // One of the two is there.
  std::unique_ptr<AssentdCluster> cluster_;  //
};

}  // namespace assent

#endif  // ASSENT_TESTS_BANK_RIG_H_
