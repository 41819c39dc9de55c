// CoordinatorServer: everything that assentd is, put together: store, engine, gRPC services, health, reflection.
#ifndef ASSENT_COORDINATOR_SERVER_H_
#define ASSENT_COORDINATOR_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/engine.h"
#include "coordinator/requests.h"
#include "coordinator/resource_worker.h"
#include "store/store.h"

namespace assent {

struct ServerTlsOptions {
  // Paths of PEM files. The certificate and key of the server; both or none.
  std::string cert_file;
  std::string key_file;
  // If set, clients must show a certificate that this CA has signed.
  std::string client_ca_file;
};

// Reads the files. INVALID_FIELD names the one that cannot be read or is empty; what is in them is not looked at.
absl::Status CheckTls(const ServerTlsOptions& tls);

struct ServerOptions {
  std::string listen = "127.0.0.1:7411";  // host:port; port 0 takes a free one.
  // Where clients reach this instance; empty: `listen`, with the port that it took. Names it among those that share its
  // store.
  std::string advertise;
  // How long the others believe in this instance without a word from it.
  absl::Duration instance_lease = absl::Seconds(2);
  RequestLimits limits;
  int64_t max_open_globals = 1000000;
  ServerTlsOptions tls;
  std::string metrics_listen;  // host:port of the metrics' plain HTTP; port 0 takes a free one. Empty: none.
  // See RecoveryOptions.
  absl::Duration sweep_interval = absl::Seconds(10);
  absl::Duration recovery_patience = absl::Seconds(1);
  absl::Duration alarm_age = absl::Minutes(5);
  // See RetentionOptions.
  absl::Duration retention = absl::Hours(24 * 7);
  // How recovery gets at a resource; empty: MariaDbRecovery over a connection of its own.
  RecoveryConnector connect;
};

class CoordinatorServer {
 public:
  // Takes up what the store holds, then serves. Blocks until calls are accepted. Errors of the store, or INVALID_FIELD
  // (the address cannot be used, a certificate cannot be read).
  static absl::StatusOr<std::unique_ptr<CoordinatorServer>> Start(std::unique_ptr<Store> store,
                                                                  const ServerOptions& options);
  // As Shutdown with no grace.
  ~CoordinatorServer();

  int port() const;
  int metrics_port() const;  // 0: there are none.
  Store* store();

  // Turns NOT_SERVING, answers whoever waits with SHUTTING_DOWN, lets running calls end for up to `grace` (connections
  // without a call are not waited for), stores what is on its way, and stops. Once.
  void Shutdown(absl::Duration grace);

 private:
  class Impl;
  explicit CoordinatorServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace assent

#endif  // ASSENT_COORDINATOR_SERVER_H_
