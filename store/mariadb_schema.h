// What the store's database contains, how an older one becomes a current one, and whether its server keeps promises.
//
// Schema (`number` of store_meta.schema counts the migrations that were applied):
//   store_globals     one row for each global transaction; `id` is the order of creation, `record` the
//   assent.v1.Global,
//                     `ended` its EndedMicros, 0 while it is unfinished: whatever looks for unfinished ones, or for
//                     old ones, walks an index that begins with it, and never the history.
//   store_resources   the registry; `record` is the assent.v1.Resource.
//   store_instances   who joined, one row for each address; (id, epoch, alive) is the fence of every write, and changes
//                     only with joins and deaths.
//   store_heartbeats  one row for each living instance; apart, so that saying "I live" never waits for a write.
//   store_leases      one row for each piece of work.
//   store_meta        single values: schema, cluster, store_id, barrier, server_life, lossy_until_id, horizon (in
//                     microseconds); and, while an import into it has not finished, importing.
#ifndef ASSENT_STORE_MARIADB_SCHEMA_H_
#define ASSENT_STORE_MARIADB_SCHEMA_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mariadb/connection.h"
#include "store/mariadb_options.h"

namespace assent {

// The newest schema that this program knows.
int64_t NewestMariaDbSchema();

struct MariaDbStoreFacts {
  std::string store_id;
  // True if what was acknowledged before may be lost (Store::MayHaveLostLazyWrites).
  bool may_have_lost = false;
  // An import into it has not finished.
  bool half_imported = false;
  int64_t horizon = 0;  // In microseconds (horizon.h).
};

// Something about the server that can lose what it has acknowledged.
struct StoreFinding {
  std::string setting;  // e.g. "innodb_flush_log_at_trx_commit=2"
  std::string problem;  // What can be lost, and what to set.
};

// Looks at what the server promises about COMMIT: flushing of the log and of the binary log, torn pages, Galera.
// STORE_READ_ONLY if it takes no writes; STORE_UNFIT if the store cannot work on it at all.
absl::StatusOr<std::vector<StoreFinding>> ExamineServer(MariaDbConnection* connection);

// Makes sure that the database exists (created if it may be), holds our tables or none of them, is of this cluster and
// of the newest schema. Migrates an older one, under a lock, each step repeatable. STORE_SCHEMA_NEWER,
// STORE_OTHER_CLUSTER, STORE_UNFIT (rights; a table that is not InnoDB's), STORE_CORRUPT (a table, a column, an index
// or a row that the store rests on is not there; the message names it), STORE_UNAVAILABLE;
// STORE_HALF_IMPORTED and STORE_DIFFERS as `options.import_as` says; STORE_LOCKED if it would have to be migrated for a
// tool (must_exist, import_as) while an instance lives. `lossy`: the server can lose what it has acknowledged.
// Everything that can be read afterwards is forced.
absl::StatusOr<MariaDbStoreFacts> PrepareMariaDbStore(const MariaDbOptions& options, bool lossy);

}  // namespace assent

#endif  // ASSENT_STORE_MARIADB_SCHEMA_H_
