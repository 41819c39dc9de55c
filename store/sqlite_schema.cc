#include "store/sqlite_schema.h"

#include <iterator>

#include "absl/strings/str_cat.h"
#include "assent/v1/global.pb.h"
#include "base/errors.h"

namespace assent {
namespace {

// Only ever appended to. Step i takes a file from user_version i to i + 1.
const char* const kMigrations[] = {
    // 1: the first schema.
    // `record` comes last: rows that a filter skips are skipped without reading it.
    // The two indexes on open rows are what keeps ReadOpen and the listing of unfinished transactions independent of
    // history; `open` is not part of `state` so that moving between open states touches neither.
    R"sql(
    CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE globals (
      id INTEGER PRIMARY KEY,
      gtrid TEXT NOT NULL UNIQUE,
      request_id TEXT,
      revision INTEGER NOT NULL,
      state INTEGER NOT NULL,
      open INTEGER NOT NULL,
      record BLOB NOT NULL
    );
    CREATE UNIQUE INDEX globals_request_id ON globals (request_id) WHERE request_id IS NOT NULL;
    CREATE INDEX globals_open_gtrid ON globals (gtrid) WHERE open = 1;
    CREATE INDEX globals_open_id ON globals (id) WHERE open = 1;
    CREATE TABLE resources (name TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
    INSERT INTO meta (key, value) VALUES ('barrier', 0);
    )sql",
    // 2: what names this store among all stores.
    "INSERT INTO meta (key, value) VALUES ('store_id', lower(hex(randomblob(16))))",
    // 3: when finished ones ended, for purging them; what had ended before counts as ended now. And the epoch.
    R"sql(
    ALTER TABLE globals ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;
    UPDATE globals SET ended = CAST(strftime('%s', 'now') AS INTEGER) * 1000000 WHERE open = 0;
    CREATE INDEX globals_ended ON globals (ended) WHERE open = 0;
    INSERT INTO meta (key, value) VALUES ('epoch', 0);
    )sql",
    // 4: the horizon. A new store knows nothing of what was born before it. One that somebody has worked on may have
    // deleted what had ended an hour before, which was the shortest retention; what is younger must still be decided.
    // Where one is there, an older program may have worked on the file after the schema was set back by hand: it has
    // deleted, and left it as it was.
    R"sql(
    INSERT INTO meta (key, value) SELECT 'horizon', (CAST(strftime('%s', 'now') AS INTEGER) -
      CASE WHEN value > 0 THEN 3600 ELSE 0 END) * 1000000 FROM meta WHERE key = 'epoch'
      ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value);
    )sql",
};

// The text of a meta value; empty if there is none.
absl::StatusOr<std::string> ReadMeta(SqliteConnection* db, absl::string_view key) {
  absl::StatusOr<SqliteStatement> statement = db->Prepare("SELECT value FROM meta WHERE key = ?");
  if (!statement.ok()) return statement.status();
  statement->BindText(1, key);
  const int code = statement->Step();
  if (code == SQLITE_DONE) return std::string();
  if (code != SQLITE_ROW) return db->Error(code, absl::StrCat("read meta.", key));
  return statement->ColumnBytes(0);
}

absl::Status WriteMeta(SqliteConnection* db, absl::string_view key, absl::string_view value) {
  absl::StatusOr<SqliteStatement> statement = db->Prepare("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)");
  if (!statement.ok()) return statement.status();
  statement->BindText(1, key);
  statement->BindText(2, value);
  const int code = statement->Run();
  return code == SQLITE_DONE ? absl::OkStatus() : db->Error(code, absl::StrCat("write meta.", key));
}

// Runs `body` in one transaction.
template <typename Body>
absl::Status InTransaction(SqliteConnection* db, Body body) {
  if (absl::Status status = db->Execute("BEGIN IMMEDIATE", "begin a transaction"); !status.ok()) return status;
  absl::Status status = body();
  if (status.ok()) status = db->Execute("COMMIT", "commit");
  if (!status.ok() && !sqlite3_get_autocommit(db->get())) db->Exec("ROLLBACK");
  return status;
}

absl::Status CheckCluster(SqliteConnection* db, absl::string_view path, absl::string_view cluster) {
  absl::StatusOr<std::string> stored = ReadMeta(db, "cluster");
  if (!stored.ok()) return stored.status();
  if (*stored == cluster) return absl::OkStatus();
  return MakeError(Reason::STORE_OTHER_CLUSTER,
                   absl::StrCat("the store '", path, "' belongs to the cluster '", *stored, "', not to '", cluster,
                                "': give the right path, or the right cluster name"),
                   {{"path", std::string(path)}, {"stored", *stored}, {"cluster", std::string(cluster)}});
}

// Whether an import into it has not finished; an error if it may not be opened for `import_as`.
absl::StatusOr<bool> CheckImport(SqliteConnection* db, absl::string_view path, absl::string_view import_as) {
  absl::StatusOr<std::string> importing = ReadMeta(db, "importing");
  if (!importing.ok()) return importing.status();
  if (import_as.empty()) {
    if (importing->empty()) return false;
    return MakeError(Reason::STORE_HALF_IMPORTED,
                     absl::StrCat("an import into the store '", path,
                                  "' has not finished, so it would deny what was decided: run the same `assentctl "
                                  "store import` again, or remove the file and begin anew"),
                     {{"path", std::string(path)}});
  }
  absl::StatusOr<std::string> id = ReadMeta(db, "store_id");
  if (!id.ok()) return id.status();
  // The one that makes the store may have been killed before its id was there.
  if (id->empty() && !importing->empty()) id = importing;
  if (*id == import_as) return !importing->empty();
  return MakeError(Reason::STORE_DIFFERS,
                   absl::StrCat("the store '", path, "' is another one (", *id, ") than the file's (", import_as,
                                "): import into a path where there is none"),
                   {{"path", std::string(path)}, {"stored", *id}, {"file", std::string(import_as)}});
}

// Step `step` of the migrations, inside its transaction.
absl::Status ApplyMigration(SqliteConnection* db, int64_t step, absl::string_view cluster,
                            absl::string_view importing) {
  absl::Status applied = db->Execute(kMigrations[step], absl::StrCat("migrate to schema ", step + 1));
  if (applied.ok() && step == 0) applied = WriteMeta(db, "cluster", cluster);
  // Before there is an id: at no moment is it a complete store of another id.
  if (applied.ok() && step == 0 && !importing.empty()) applied = WriteMeta(db, "importing", importing);
  if (applied.ok() && step == 1 && !importing.empty()) applied = WriteMeta(db, "store_id", importing);
  if (!applied.ok()) return applied;
  return db->Execute(
      absl::StrCat("PRAGMA application_id = ", kSqliteApplicationId, "; PRAGMA user_version = ", step + 1),
      "note the schema version");
}

}  // namespace

int64_t NewestSchemaVersion() { return std::size(kMigrations); }

absl::Status CheckIsStore(absl::string_view path, int64_t application_id, int64_t version) {
  if (application_id != kSqliteApplicationId) {
    return MakeError(Reason::STORE_CORRUPT,
                     absl::StrCat("'", path, "' is an SQLite database of another program (application id ",
                                  application_id, "), not a store of Assent: give another path"),
                     {{"path", std::string(path)}});
  }
  if (version <= NewestSchemaVersion()) return absl::OkStatus();
  return MakeError(Reason::STORE_SCHEMA_NEWER,
                   absl::StrCat("the store '", path, "' has schema ", version, ", this program knows up to ",
                                NewestSchemaVersion(), ": run the newer program that wrote it"),
                   {{"path", std::string(path)},
                    {"found", absl::StrCat(version)},
                    {"supported", absl::StrCat(NewestSchemaVersion())}});
}

absl::StatusOr<SchemaFacts> PrepareSchema(SqliteConnection* db, absl::string_view path, absl::string_view cluster,
                                          absl::string_view import_as) {
  const absl::StatusOr<int64_t> application_id = db->QueryInt("PRAGMA application_id");
  if (!application_id.ok()) return application_id.status();
  const absl::StatusOr<int64_t> version = db->QueryInt("PRAGMA user_version");
  if (!version.ok()) return version.status();
  const absl::StatusOr<int64_t> objects = db->QueryInt("SELECT count(*) FROM sqlite_schema");
  if (!objects.ok()) return objects.status();

  const bool empty = *objects == 0 && *version == 0 && *application_id == 0;
  SchemaFacts facts;
  facts.half_imported = empty && !import_as.empty();
  // Before anything is changed in a file that is not ours to change.
  if (!empty) {
    if (absl::Status status = CheckIsStore(path, *application_id, *version); !status.ok()) return status;
    if (absl::Status status = CheckCluster(db, path, cluster); !status.ok()) return status;
    const absl::StatusOr<bool> half_imported = CheckImport(db, path, import_as);
    if (!half_imported.ok()) return half_imported.status();
    facts.half_imported = *half_imported;
  }
  const absl::string_view importing = facts.half_imported ? import_as : absl::string_view();
  for (int64_t step = *version; step < NewestSchemaVersion(); ++step) {
    absl::Status status = InTransaction(db, [&] { return ApplyMigration(db, step, cluster, importing); });
    if (!status.ok()) return status;
  }
  return facts;
}

absl::StatusOr<bool> NoteBoot(SqliteConnection* db, bool new_file, absl::string_view boot_id) {
  absl::StatusOr<std::string> noted = ReadMeta(db, "boot_id");
  if (!noted.ok()) return noted.status();
  // An unreadable boot id is never equal: nobody can tell.
  if (*noted != boot_id || boot_id.empty()) {
    absl::Status status = InTransaction(db, [&] {
      absl::Status written = WriteMeta(db, "boot_id", boot_id);
      if (!written.ok()) return written;
      return db->Execute(
          "INSERT OR REPLACE INTO meta (key, value) VALUES ('lossy_until_id', "
          "(SELECT ifnull(max(id), 0) FROM globals))",
          "note what may have lost writes");
    });
    if (!status.ok()) return status;
    return !new_file;
  }
  const absl::StatusOr<int64_t> left = db->QueryInt(absl::StrCat(
      "SELECT EXISTS (SELECT 1 FROM globals INDEXED BY globals_open_id WHERE open = 1 AND id <= ",
      "(SELECT value FROM meta WHERE key = 'lossy_until_id') AND state = ", v1::Global::STATE_ACTIVE, ")"));
  if (!left.ok()) return left.status();
  return *left != 0;
}

}  // namespace assent
