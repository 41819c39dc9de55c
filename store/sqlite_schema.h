// What the store's SQLite file contains, and how an older file becomes a current one.
//
// Schema (docs/operating.md shows it to operators; user_version counts the migrations that were applied):
//   globals    one row for each global transaction; `id` is the order of creation, `record` the assent.v1.Global,
//              `ended` its EndedMicros.
//   resources  the registry; `record` is the assent.v1.Resource.
//   meta       single values: cluster, store_id, boot_id, lossy_until_id, barrier, epoch, horizon (in microseconds),
//              and, while an import into it has not finished, importing.
#ifndef ASSENT_STORE_SQLITE_SCHEMA_H_
#define ASSENT_STORE_SQLITE_SCHEMA_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/sqlite_handle.h"

namespace assent {

// "ASNT": how a file says that it is ours. Never changes.
constexpr int64_t kSqliteApplicationId = 0x41534E54;

// The newest schema that this program knows.
int64_t NewestSchemaVersion();

// Makes sure that the file is ours (or empty), of this cluster and of the newest schema. Migrates an older one, each
// step in one transaction: after an error or a crash the file is of an older schema, never in between.
// STORE_CORRUPT: another program's database. STORE_SCHEMA_NEWER. STORE_OTHER_CLUSTER. Or an error of SQLite's.
// `import_as` is SqliteOptions': STORE_HALF_IMPORTED, STORE_DIFFERS.
struct SchemaFacts {
  bool half_imported = false;
};
absl::StatusOr<SchemaFacts> PrepareSchema(SqliteConnection* db, absl::string_view path, absl::string_view cluster,
                                          absl::string_view import_as);

// OK if a file of application id `application_id` and schema `version` is a store of ours that this program can read.
absl::Status CheckIsStore(absl::string_view path, int64_t application_id, int64_t version);

// True if lazy writes of the time before this boot of the machine may be missing from what is still undecided. Notes
// the boot (forced if the connection's synchronous is FULL).
//
// A boot other than the noted one means that unforced writes may be lost. Whoever opens the store then has to deal with
// every ACTIVE record it finds; dying half-way must not make the next open forget about the rest. Therefore the highest
// id of that moment is kept, and the answer stays "true" while a record up to it is ACTIVE.
absl::StatusOr<bool> NoteBoot(SqliteConnection* db, bool new_file, absl::string_view boot_id);

}  // namespace assent

#endif  // ASSENT_STORE_SQLITE_SCHEMA_H_
