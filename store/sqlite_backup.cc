#include "store/sqlite_backup.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "store/durable_file.h"
#include "store/sqlite_handle.h"
#include "store/sqlite_schema.h"
#include "store/store_file.h"

namespace assent {
namespace {

// Between two looks at the progress.
constexpr int kPagesPerStep = 4096;
// How long the beginning of the copy may wait for whoever opens or closes the store at the same moment.
constexpr int kBusyTimeoutMs = 10000;

// The store's connection, with a read transaction that stays open: the moment that is copied.
absl::StatusOr<SqliteConnection> BeginReading(const std::string& path) {
  absl::StatusOr<SqliteConnection> db = SqliteConnection::Open(path, /*vfs=*/"");
  if (!db.ok()) return db;
  sqlite3_busy_timeout(db->get(), kBusyTimeoutMs);
  // If nobody else has it open, closing it leaves the log as it is: what to make of that is for whoever opens the
  // store.
  sqlite3_db_config(db->get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  absl::Status status = db->Execute("PRAGMA query_only = ON; PRAGMA wal_autocheckpoint = 0; BEGIN", "begin reading");
  if (!status.ok()) return status;
  // The first statement that reads fixes the moment.
  const absl::StatusOr<int64_t> application_id = db->QueryInt("PRAGMA application_id");
  if (!application_id.ok()) return application_id.status();
  const absl::StatusOr<int64_t> version = db->QueryInt("PRAGMA user_version");
  if (!version.ok()) return version.status();
  status = CheckIsStore(path, *application_id, *version);
  if (!status.ok()) return status;
  const absl::StatusOr<int64_t> tables = db->QueryInt("SELECT count(*) FROM sqlite_schema");
  if (!tables.ok()) return tables.status();
  return db;
}

absl::Status Copy(SqliteConnection* from, SqliteConnection* to, const BackupOptions& options, BackupCounts* counts) {
  const absl::StatusOr<int64_t> page_bytes = from->QueryInt("PRAGMA page_size");
  if (!page_bytes.ok()) return page_bytes.status();
  sqlite3_backup* const backup = sqlite3_backup_init(to->get(), "main", from->get(), "main");
  if (backup == nullptr) return to->Error(sqlite3_extended_errcode(to->get()), "begin the copy");
  int code;
  do {
    code = sqlite3_backup_step(backup, kPagesPerStep);
    counts->total = sqlite3_backup_pagecount(backup) * *page_bytes;
    counts->bytes = counts->total - sqlite3_backup_remaining(backup) * *page_bytes;
    if (options.progress != nullptr) options.progress(*counts);
  } while (code == SQLITE_OK);
  const int finished = sqlite3_backup_finish(backup);
  if (code == SQLITE_DONE && finished == SQLITE_OK) return absl::OkStatus();
  return SqliteError(code == SQLITE_DONE ? finished : code, nullptr, "copy the store");
}

// What came after this moment is not in the copy, and whoever opens it must know. Checks the whole of it, too.
absl::Status MarkAndCheck(SqliteConnection* copy, const std::string& path) {
  absl::Status status = copy->Execute("UPDATE meta SET value = '' WHERE key = 'boot_id'", "mark the copy");
  if (!status.ok()) return status;
  const absl::StatusOr<std::string> verdict = copy->QueryText("PRAGMA quick_check(1)");
  if (!verdict.ok()) return verdict.status();
  if (*verdict == "ok") return absl::OkStatus();
  return MakeError(Reason::STORE_CORRUPT,
                   absl::StrCat("the copy of '", path, "' is damaged, and so is the store, it seems: ", *verdict),
                   {{"path", path}});
}

void RemoveWithLogs(const std::string& path) {
  for (const char* suffix : {"", "-wal", "-shm", "-journal"}) unlink((path + suffix).c_str());
}

absl::Status CopyInto(const std::string& store, const std::string& path, const BackupOptions& options,
                      BackupCounts* counts) {
  // It is forced as a whole when it is whole; until then nobody needs it.
  const std::string kUnforced = "PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY";
  {
    absl::StatusOr<SqliteConnection> from = BeginReading(store);
    if (!from.ok()) return from.status();
    absl::StatusOr<SqliteConnection> to = SqliteConnection::Open(path, /*vfs=*/"");
    if (!to.ok()) return to.status();
    absl::Status status = to->Execute(kUnforced + "; PRAGMA journal_mode = OFF", "configure");
    if (status.ok()) status = Copy(&*from, &*to, options, counts);
    if (!status.ok()) return status;
  }
  absl::StatusOr<SqliteConnection> copy = SqliteConnection::Open(path, /*vfs=*/"");
  if (!copy.ok()) return copy.status();
  absl::Status status = copy->Execute(kUnforced, "configure");
  if (status.ok()) status = MarkAndCheck(&*copy, store);
  return status;
}

}  // namespace

absl::StatusOr<BackupCounts> BackupSqliteStore(const BackupOptions& options) {
  if (absl::Status status = CheckStoreExists(options.store); !status.ok()) return status;
  const absl::StatusOr<std::string> store = ResolveStorePath(options.store);
  if (!store.ok()) return store.status();
  // A part that an earlier run left is no use: it is of another moment.
  absl::StatusOr<PartFile> part = PartFile::Open(options.path, /*force=*/false, /*resume=*/true);
  if (!part.ok()) return part.status();
  BackupCounts counts;
  absl::Status status;
  if (ftruncate(part->fd(), 0) != 0) status = TransferFileError(errno, "empty", part->path());
  for (const char* suffix : {"-wal", "-shm", "-journal"}) unlink((part->path() + suffix).c_str());
  if (status.ok()) status = CopyInto(*store, part->path(), options, &counts);
  if (status.ok()) status = part->Publish();
  if (!status.ok()) {
    RemoveWithLogs(part->path());
    return status;
  }
  for (const char* suffix : {"-wal", "-shm"}) unlink((part->path() + suffix).c_str());
  return counts;
}

}  // namespace assent
