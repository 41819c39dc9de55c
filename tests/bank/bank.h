// The bank: the one workload of the demo, the end-to-end tests and the benchmark. Accounts live on two database
// servers, half on each; every transfer moves money from an account on one to an account on the other, in one global
// transaction.
//
// On each server, schema `bank`:
//   accounts (id, balance)                      balance never negative, by a CHECK
//   ledger   (transfer, account, amount, gtrid) what each transfer did to an account of this server
// Account i lives on server i % 2. checker.h says what must hold.
#ifndef ASSENT_TESTS_BANK_BANK_H_
#define ASSENT_TESTS_BANK_BANK_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "assent/v1/resource_service.pb.h"
#include "participant_sdk/cpp/client.h"
#include "participant_sdk/cpp/global_transaction.h"
#include "resource_manager/branch_session.h"
#include "tests/bank/journal.h"

namespace assent {

constexpr int kBankServers = 2;

struct BankServer {
  std::string resource;                                            // Its name at the coordinator.
  std::string address;                                             // As Resource.address.
  std::string user;                                                //
  std::string password_file;                                       // Readable here and for the coordinator.
  v1::Resource::Engine engine = v1::Resource::ENGINE_UNSPECIFIED;  //
  std::string database;                                            // As Resource.database.
};

struct BankConfig {
  std::string coordinator;  // host:port, or several, separated by commas.
  std::array<BankServer, kBankServers> servers;
  int64_t accounts = 1000;
  int64_t initial_balance = 1000;

  // A text file, for worker processes; readable by the owner only.
  absl::Status Save(const std::string& path) const;
  static absl::StatusOr<BankConfig> Load(const std::string& path);
};

// A session with the server. Errors as of connecting, or NOT_FOUND for the password file.
absl::StatusOr<std::unique_ptr<BranchSession>> ConnectTo(const BankServer& server);

// Makes the schemas and accounts (replacing what is there) and registers both servers with the coordinator.
absl::Status SetUpBank(const BankConfig& config);

// How a transfer is made to fail when the first server has done its part and the second has not.
enum class FailHalfWay {
  kNo,
  kRollback,      // The application calls Rollback.
  kDuplicateKey,  // A statement on the second server fails, and the application asks for COMMIT all the same.
  kOverdraft,     // A CHECK on the second server refuses the new balance.
  kLeaveScope,    // The application forgets about the transaction.
  kLoseSession,   // The session with the second server is killed.
};
constexpr FailHalfWay kAllFailures[] = {FailHalfWay::kRollback, FailHalfWay::kDuplicateKey, FailHalfWay::kOverdraft,
                                        FailHalfWay::kLeaveScope, FailHalfWay::kLoseSession};

struct TransferRequest {
  int64_t id = 0;    // Unique in this bank's life.
  int64_t from = 0;  // Accounts on different servers.
  int64_t to = 0;
  int64_t amount = 0;
  FailHalfWay fail = FailHalfWay::kNo;
};

// Makes transfers, one at a time, over one session per server, in one process. Thread-compatible.
class Teller {
 public:
  // `config` and `client` must outlive it. Connects when needed.
  Teller(const BankConfig* config, Client* client) : config_(config), client_(client) {}

  // What the caller is told, ready for the journal.
  JournalEntry Transfer(const TransferRequest& request);

 private:
  // Makes sure that there is a usable session with each server.
  absl::Status Connect();
  // One server's part of the transfer, or what makes it fail there.
  absl::Status DoPart(const TransferRequest& request, int server, FailHalfWay fail, GlobalTransaction* transaction);
  static JournalEntry Conclude(const TransferRequest& request, const GlobalTransaction& transaction,
                               const absl::Status& answer);

  const BankConfig* const config_;
  Client* const client_;
  std::array<std::unique_ptr<BranchSession>, kBankServers> sessions_;
};

struct WorkloadOptions {
  int64_t first_id = 1;  // The transfers made are first_id, first_id + stride, … up to last_id.
  int64_t last_id = 0;
  int64_t stride = 1;
  double fail_fraction = 0.02;
  uint64_t seed = 1;
  // Ends after the current transfer once it is true; may be null.
  const std::atomic<bool>* stop = nullptr;
  // Called with what the caller of each transfer was told; may be null.
  std::function<void(const JournalEntry&)> on_told;
};

// Random transfers, each written to the journal. Returns when all are made and the coordinator knows how they ended.
absl::Status RunWorkload(const BankConfig& config, const WorkloadOptions& options, const std::string& journal_path);

}  // namespace assent

#endif  // ASSENT_TESTS_BANK_BANK_H_
