// ConnectOptions: how to reach a database server.
#ifndef ASSENT_BASE_CONNECT_OPTIONS_H_
#define ASSENT_BASE_CONNECT_OPTIONS_H_

#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "base/address.h"

namespace assent {

// TLS to the server. All paths are of PEM files.
struct ConnectTls {
  bool required = false;  // False: plain text.
  std::string ca;         // Who signs the server's certificate; empty: the machine's own list.
  std::string cert;       // What this client shows, with its key; may be empty.
  std::string key;
  bool verify = true;  // The certificate must be signed, and made out for the host. False: only against listeners.
};

struct ConnectOptions {
  Address address;
  std::string user;
  std::string password;  // Never logged, never part of a message.
  std::string database;  // May be empty: none, or on PostgreSQL the user's.
  ConnectTls tls;
  absl::Duration connect_timeout = absl::Seconds(10);
  // How long a read may wait for the server before the connection counts as lost; also bounds every statement of the
  // application, so it is generous. Whole seconds, at least one.
  absl::Duration read_timeout = absl::Minutes(10);
  absl::Duration write_timeout = absl::Seconds(30);
  // In whole seconds: how long XA PREPARE and COMMIT (and DDL locks) wait for a backup or FLUSH TABLES WITH READ LOCK
  // (MariaDB's and MySQL's lock_wait_timeout, whose default is a day), or a statement of the coordinator's for any lock
  // (PostgreSQL's lock_timeout). Set by whoever sets the session up.
  absl::Duration lock_wait_timeout = absl::Seconds(50);
};

// The duration as servers and their client libraries count it: whole seconds, rounded up, one to a year.
inline unsigned int WholeSeconds(absl::Duration duration) {
  return static_cast<unsigned int>(
      std::min<int64_t>(std::max<int64_t>(1, absl::ToInt64Seconds(absl::Ceil(duration, absl::Seconds(1)))), 31536000));
}

}  // namespace assent

#endif  // ASSENT_BASE_CONNECT_OPTIONS_H_
