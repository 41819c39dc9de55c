// An online backup of an SQLite store: a copy of one moment, taken while assentd works on it or not.
//
// It reads through a connection of its own. In WAL mode a reader holds up no writer, and no writer holds up a reader:
// the copy is of the moment at which it began. Only the log cannot begin anew until the copy is done, so it grows by
// what is written meanwhile. The locks of store_file.h are not touched: they are flock's, SQLite's are fcntl's.
#ifndef ASSENT_STORE_SQLITE_BACKUP_H_
#define ASSENT_STORE_SQLITE_BACKUP_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace assent {

struct BackupCounts {
  int64_t bytes = 0;  // Copied.
  int64_t total = 0;
};

struct BackupOptions {
  std::string store;  // The path of the store…
  std::string path;   // …and of the copy, which must not exist. Written as `<path>.part` first.
  std::function<void(const BackupCounts&)> progress;
};

// Everything in the copy is durable, the copy was checked, and has its name, when this answers OK. Whatever was APPLIED
// in the store when it began is in it. The copy says of itself that it may have lost what came later
// (Store::MayHaveLostLazyWrites), because it has. ALREADY_EXISTS, FAILED_PRECONDITION, RESOURCE_EXHAUSTED (no reason)
// for the copy's file; STORE_UNAVAILABLE, STORE_CORRUPT, STORE_SCHEMA_NEWER for the store. Blocks.
absl::StatusOr<BackupCounts> BackupSqliteStore(const BackupOptions& options);

}  // namespace assent

#endif  // ASSENT_STORE_SQLITE_BACKUP_H_
