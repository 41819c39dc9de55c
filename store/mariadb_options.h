// How to reach and use a store in a MariaDB server.
#ifndef ASSENT_STORE_MARIADB_OPTIONS_H_
#define ASSENT_STORE_MARIADB_OPTIONS_H_

#include <string>

#include "absl/time/time.h"
#include "base/address.h"
#include "mariadb/connection.h"

namespace assent {

struct MariaDbOptions {
  Address address;
  std::string user;
  std::string password;
  // The database (schema) that holds the tables; created if it is missing and the user may. 1 to 64 bytes of
  // [A-Za-z0-9_$-].
  std::string database = "assent_store";
  ConnectTls tls;
  // The cluster's name (base/xid.h). Kept in the store; a store of another cluster is refused.
  std::string cluster;
  // For tools: a database without a store is an error (STORE_UNAVAILABLE) and nothing is made; and a store of an older
  // program on which instances live is STORE_LOCKED.
  bool must_exist = false;
  // Opens it for an import of the store with this id: makes it, half imported, or continues such a one; one that is
  // complete opens, too. STORE_DIFFERS if it has another id. Empty: for service.
  std::string import_as;
  // What to do with a server whose settings can lose what it has acknowledged (store/mariadb_findings.h).
  enum class Unsafe { kRefuse, kWarn };
  Unsafe unsafe = Unsafe::kRefuse;
  // Whole seconds, at least one. How long making a connection, and one answer, may take. After that the store counts as
  // lost (and what a COMMIT did as unknown).
  absl::Duration connect_timeout = absl::Seconds(2);
  absl::Duration answer_timeout = absl::Seconds(5);
  // Connections of those who read; there is one more, which writes.
  int max_readers = 4;
  // Transitions that may wait; beyond it Submit answers OVERLOADED.
  int queue_limit = 65536;
  // Transitions of one database transaction.
  int max_group = 1024;
};

}  // namespace assent

#endif  // ASSENT_STORE_MARIADB_OPTIONS_H_
