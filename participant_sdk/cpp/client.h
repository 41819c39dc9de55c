// Client: the way in. Holds the connection to the coordinator.
#ifndef ASSENT_PARTICIPANT_SDK_CPP_CLIENT_H_
#define ASSENT_PARTICIPANT_SDK_CPP_CLIENT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "participant_sdk/cpp/completion_reporter.h"
#include "participant_sdk/cpp/coordinator_connection.h"
#include "participant_sdk/cpp/options.h"
#include "participant_sdk/cpp/reservation.h"

namespace assent {

class GlobalTransaction;

// What a client and its transactions share.
struct ClientState {
  ClientState(const std::string& addresses, const ClientOptions& client_options)
      : options(client_options), connection(addresses, options), reservation(&connection), reporter(&connection) {}

  const ClientOptions options;
  CoordinatorConnection connection;
  Reservation reservation;
  CompletionReporter reporter;
};

// Thread-safe. A value: copies share the connection, which ends with the last of them and of their transactions.
class Client {
 public:
  // `addresses`: host:port of assentd, or of several instances that share a store, separated by commas. It begins with
  // any of them, stays with the one that works, and goes on to the next when that does not answer. Connects at the
  // first call.
  explicit Client(const std::string& addresses, const ClientOptions& options = {});
  explicit Client(const std::vector<std::string>& addresses, const ClientOptions& options = {});

  // Begins a global transaction. Errors: the coordinator's, or COORDINATOR_UNREACHABLE after options.call_patience.
  absl::StatusOr<GlobalTransaction> Begin(const BeginOptions& options = {});
  // Takes part in a transaction that another process began. Asks nobody: the first OpenBranch does. INVALID_GTRID.
  absl::StatusOr<GlobalTransaction> Join(const std::string& gtrid);

  // Waits until the coordinator has been told how all finished branches ended, at most `patience`; false if not.
  bool Flush(absl::Duration patience);

  const ClientOptions& options() const { return state_->options; }
  // Calls sent to the coordinator so far, repetitions included; for metrics and benchmarks.
  int64_t calls_sent() const { return state_->connection.attempts(); }
  // The instance that the next call goes to.
  const std::string& current_address() const { return state_->connection.current_address(); }

 private:
  absl::StatusOr<GlobalTransaction> BeginAlone(const BeginOptions& options);

  std::shared_ptr<ClientState> state_;
};

}  // namespace assent

#endif  // ASSENT_PARTICIPANT_SDK_CPP_CLIENT_H_
