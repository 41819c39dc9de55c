#include "store/mariadb_schema.h"

#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "assent/v1/global.pb.h"
#include "base/errors.h"
#include "base/xid.h"
#include "store/mariadb_link.h"

namespace assent {
namespace {

// Migrating a large table takes its time, and the others wait for it.
constexpr int kMigrationLockSeconds = 30;
// Records are at most as large as messages (4 MiB), plus history; quoting can double them.
constexpr int64_t kMinPacketBytes = 12 << 20;
constexpr int kErUnknownSystemVariable = 1193;

// Only ever appended to. Step i takes a database from schema i to i + 1. A DDL statement cannot be undone, so each step
// can be applied again over a part of itself.
const char* const kMigrations[] = {
    // 1: the first schema. `record` of globals comes last and off the page, so that walking over rows stays cheap.
    R"sql(
    CREATE TABLE IF NOT EXISTS store_globals (
      id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
      gtrid VARBINARY(64) NOT NULL,
      request_id VARBINARY(255) NULL,
      revision BIGINT NOT NULL,
      state TINYINT UNSIGNED NOT NULL,
      ended BIGINT NOT NULL,
      record LONGBLOB NOT NULL,
      UNIQUE KEY by_gtrid (gtrid),
      UNIQUE KEY by_request_id (request_id),
      KEY by_ended_gtrid (ended, gtrid),
      KEY by_ended_id (ended, id)
    ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=binary;
    CREATE TABLE IF NOT EXISTS store_resources (
      name VARBINARY(255) NOT NULL PRIMARY KEY,
      record LONGBLOB NOT NULL
    ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=binary;
    CREATE TABLE IF NOT EXISTS store_instances (
      id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
      address VARBINARY(255) NOT NULL,
      epoch BIGINT NOT NULL,
      alive TINYINT NOT NULL,
      version VARBINARY(64) NOT NULL,
      writer VARBINARY(64) NOT NULL,
      joined DATETIME(6) NOT NULL,
      ended DATETIME(6) NULL,
      UNIQUE KEY by_address (address)
    ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=binary;
    CREATE TABLE IF NOT EXISTS store_heartbeats (
      instance BIGINT UNSIGNED NOT NULL PRIMARY KEY,
      epoch BIGINT NOT NULL,
      seen DATETIME(6) NOT NULL,
      lease_us BIGINT NOT NULL,
      load_now BIGINT NOT NULL
    ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=binary;
    CREATE TABLE IF NOT EXISTS store_leases (
      work VARBINARY(128) NOT NULL PRIMARY KEY,
      epoch BIGINT NOT NULL,
      instance BIGINT UNSIGNED NOT NULL,
      instance_epoch BIGINT NOT NULL,
      KEY by_instance (instance)
    ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=binary;
    INSERT IGNORE INTO store_meta (name, value, number) VALUES ('barrier', '', 0), ('server_life', '', 0),
      ('lossy_until_id', '', 0)
    )sql",
    // 2: the horizon. A new store knows nothing of what was born before it. One that somebody has worked on may have
    // deleted what had ended an hour before, which was the shortest retention; what is younger must still be decided.
    // Where one is there, an older program may have worked on the store after the schema was set back by hand: it has
    // deleted, and left it as it was.
    R"sql(
    INSERT INTO store_meta (name, value, number) SELECT 'horizon', '',
      (UNIX_TIMESTAMP() - IF(EXISTS (SELECT 1 FROM store_instances), 3600, 0)) * 1000000
      ON DUPLICATE KEY UPDATE number=GREATEST(number, VALUES(number))
    )sql",
};

// What the store rests on, as the migrations make it: without a unique index two records could have one gtrid or one
// request id, and a column of another type could take two of them for the same. Name and type of the columns; `unique`,
// or not, name and columns of the indexes.
constexpr absl::string_view kParts[] = {
    "store_globals.id bigint",
    "store_globals.gtrid varbinary",
    "store_globals.request_id varbinary",
    "store_globals.revision bigint",
    "store_globals.state tinyint",
    "store_globals.ended bigint",
    "store_globals.record longblob",
    "store_globals: unique PRIMARY (id)",
    "store_globals: unique by_gtrid (gtrid)",
    "store_globals: unique by_request_id (request_id)",
    "store_globals: by_ended_gtrid (ended,gtrid)",
    "store_globals: by_ended_id (ended,id)",
    "store_resources.name varbinary",
    "store_resources.record longblob",
    "store_resources: unique PRIMARY (name)",
    "store_instances.id bigint",
    "store_instances.address varbinary",
    "store_instances.epoch bigint",
    "store_instances.alive tinyint",
    "store_instances.version varbinary",
    "store_instances.writer varbinary",
    "store_instances.joined datetime",
    "store_instances.ended datetime",
    "store_instances: unique PRIMARY (id)",
    "store_instances: unique by_address (address)",
    "store_heartbeats.instance bigint",
    "store_heartbeats.epoch bigint",
    "store_heartbeats.seen datetime",
    "store_heartbeats.lease_us bigint",
    "store_heartbeats.load_now bigint",
    "store_heartbeats: unique PRIMARY (instance)",
    "store_leases.work varbinary",
    "store_leases.epoch bigint",
    "store_leases.instance bigint",
    "store_leases.instance_epoch bigint",
    "store_leases: unique PRIMARY (work)",
    "store_meta.name varbinary",
    "store_meta.value varbinary",
    "store_meta.number bigint",
    "store_meta: unique PRIMARY (name)",
};
constexpr absl::string_view kMetaRows[] = {"schema",      "cluster",        "store_id", "barrier",
                                           "server_life", "lossy_until_id", "horizon"};

constexpr absl::string_view kTables[] = {"store_globals",    "store_resources", "store_instances",
                                         "store_heartbeats", "store_leases",    "store_meta"};

struct Meta {
  std::string value;
  int64_t number = 0;
};

// Everything in store_meta; nothing if there is no such table.
absl::StatusOr<std::map<std::string, Meta>> ReadMeta(MariaDbConnection* connection) {
  const QueryResult result = connection->Query("SELECT name, value, number FROM store_meta");
  std::map<std::string, Meta> meta;
  if (result.error.code == kErNoSuchTable) return meta;
  if (!result.ok()) return StoreError(result.error, "read the store's meta data");
  for (const auto& row : result.rows()) meta[TextOf(row[0])] = {TextOf(row[1]), IntOf(row[2])};
  return meta;
}

absl::StatusOr<std::unique_ptr<MariaDbConnection>> ConnectAndCreate(const MariaDbOptions& options) {
  absl::StatusOr<std::unique_ptr<MariaDbConnection>> connection = ConnectToStore(options, /*database=*/true);
  if (connection.ok() || IntOf(MetadataOf(connection.status())["error_code"]) != kErBadDb) return connection;
  connection = ConnectToStore(options, /*database=*/false);
  if (!connection.ok()) return connection;
  const QueryResult created =
      (*connection)
          ->Query(absl::StrCat("CREATE DATABASE IF NOT EXISTS `", options.database, "`;USE `", options.database, "`"));
  if (!created.ok()) return StoreError(created.error, absl::StrCat("create the database '", options.database, "'"));
  return connection;
}

absl::Status CheckImport(const MariaDbOptions& options, const std::map<std::string, Meta>& meta) {
  const auto id = meta.find("store_id");
  if (id == meta.end()) return absl::OkStatus();
  if (options.import_as.empty() && meta.count("importing") > 0) {
    return MakeError(Reason::STORE_HALF_IMPORTED,
                     absl::StrCat("an import into the store in the database '", options.database,
                                  "' has not finished, so it would deny what was decided: run the same `assentctl "
                                  "store import` again, or drop the database and begin anew"),
                     {{"database", options.database}});
  }
  if (options.import_as.empty() || id->second.value == options.import_as) return absl::OkStatus();
  return MakeError(Reason::STORE_DIFFERS,
                   absl::StrCat("the store in the database '", options.database, "' is another one (", id->second.value,
                                ") than the file's (", options.import_as, "): import into a database without a store"),
                   {{"database", options.database}, {"stored", id->second.value}, {"file", options.import_as}});
}

absl::Status CheckMeta(const MariaDbOptions& options, const std::map<std::string, Meta>& meta) {
  const auto schema = meta.find("schema");
  const auto cluster = meta.find("cluster");
  if (schema != meta.end() && schema->second.number > NewestMariaDbSchema()) {
    return MakeError(
        Reason::STORE_SCHEMA_NEWER,
        absl::StrCat("the store in the database '", options.database, "' has schema ", schema->second.number,
                     ", this program knows up to ", NewestMariaDbSchema(), ": run the newer program that wrote it"),
        {{"database", options.database},
         {"found", absl::StrCat(schema->second.number)},
         {"supported", absl::StrCat(NewestMariaDbSchema())}});
  }
  if (cluster != meta.end() && cluster->second.value != options.cluster) {
    return MakeError(Reason::STORE_OTHER_CLUSTER,
                     absl::StrCat("the store in the database '", options.database, "' belongs to the cluster '",
                                  cluster->second.value, "', not to '", options.cluster,
                                  "': give the right database, or the right cluster name"),
                     {{"database", options.database}, {"stored", cluster->second.value}, {"cluster", options.cluster}});
  }
  return CheckImport(options, meta);
}

absl::Status Missing(absl::string_view what, absl::string_view table) {
  return MakeError(Reason::STORE_CORRUPT,
                   absl::StrCat("the store's ", what,
                                " is missing, or is not as it was made: restore the store from a copy, its tables are "
                                "not for editing"),
                   {{"table", std::string(table)}});
}

absl::Status Migrate(MariaDbConnection* connection, const MariaDbOptions& options) {
  absl::StatusOr<std::map<std::string, Meta>> meta = ReadMeta(connection);
  if (!meta.ok()) return meta.status();
  if (meta->count("schema") == 0) {
    // The rows are made before any other table: this is no new store, and another id would make a stranger of it.
    const QueryResult others = connection->Query(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA=DATABASE() AND "
        "TABLE_NAME='store_globals'");
    if (!others.ok()) return StoreError(others.error, "look at the store's tables");
    if (!others.rows().empty()) return Missing("row 'schema' of store_meta", "store_meta");
    const QueryResult result = connection->Query(
        absl::StrCat("CREATE TABLE IF NOT EXISTS store_meta (name VARBINARY(64) NOT NULL PRIMARY KEY, value "
                     "VARBINARY(255) NOT NULL, "
                     "number BIGINT NOT NULL) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=binary;"
                     "INSERT IGNORE INTO store_meta (name, value, number) VALUES ('cluster', ",
                     Quote(options.cluster), ", 0), ('store_id', ",
                     Quote(options.import_as.empty() ? NewRequestId() : options.import_as), ", 0), ('schema', '', 0)",
                     options.import_as.empty() ? "" : ", ('importing', '', 1)"));
    if (!result.ok()) return StoreError(result.error, "create the store's tables");
    meta = ReadMeta(connection);
    if (!meta.ok()) return meta.status();
  }
  // Again, under the lock: somebody else may have come first.
  if (absl::Status status = CheckMeta(options, *meta); !status.ok()) return status;
  for (int64_t step = (*meta)["schema"].number; step < NewestMariaDbSchema(); ++step) {
    QueryResult result = connection->Query(kMigrations[step]);
    if (result.ok()) {
      result = connection->Query(absl::StrCat("UPDATE store_meta SET number=", step + 1, " WHERE name='schema'"));
    }
    if (!result.ok()) return StoreError(result.error, absl::StrCat("migrate the store to schema ", step + 1));
  }
  return absl::OkStatus();
}

// STORE_LOCKED if an instance lives: an older program could not be started again on what it works on now.
absl::Status CheckNobodyWorks(MariaDbConnection* connection) {
  const QueryResult found = connection->Query(
      absl::StrCat("SELECT i.address FROM store_instances i JOIN store_heartbeats h ON h.instance=i.id AND "
                   "h.epoch=i.epoch WHERE NOT (",
                   kOverdueSql, ") ORDER BY i.id"));
  if (found.error.code == kErNoSuchTable) return absl::OkStatus();
  if (!found.ok()) return StoreError(found.error, "look for instances");
  if (found.rows().empty()) return absl::OkStatus();
  std::vector<std::string> alive;
  for (const auto& row : found.rows()) alive.push_back(TextOf(row[0]));
  return MakeError(
      Reason::STORE_LOCKED,
      absl::StrCat("the store is of an older program, and coordinators work on it: ", absl::StrJoin(alive, ", "),
                   "; stop them first: opened by this program it becomes one that older programs refuse"),
      {{"instances", absl::StrJoin(alive, ",")}});
}

absl::Status CheckTables(MariaDbConnection* connection) {
  const QueryResult result = connection->Query(
      "SELECT TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA=DATABASE() AND TABLE_NAME LIKE "
      "'store\\_%'");
  if (!result.ok()) return StoreError(result.error, "look at the store's tables");
  std::map<std::string, std::string> engines;
  for (const auto& row : result.rows()) engines[TextOf(row[0])] = TextOf(row[1]);
  for (const absl::string_view table : kTables) {
    const auto found = engines.find(std::string(table));
    if (found == engines.end()) {
      return MakeError(Reason::STORE_CORRUPT,
                       absl::StrCat("the store's table '", table, "' is missing: restore it from a copy"),
                       {{"table", std::string(table)}});
    }
    if (found->second != "InnoDB") {
      return MakeError(Reason::STORE_UNFIT,
                       absl::StrCat("the store's table '", table, "' is kept by the engine '", found->second,
                                    "', which cannot keep the store's promises: ALTER TABLE ", table, " ENGINE=InnoDB"),
                       {{"table", std::string(table)}, {"engine", found->second}});
    }
  }
  return absl::OkStatus();
}

// Columns, indexes, and the rows of store_meta; the tables are there (CheckTables).
absl::Status CheckParts(MariaDbConnection* connection) {
  const QueryResult columns = connection->Query(
      "SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA=DATABASE() AND "
      "TABLE_NAME LIKE 'store\\_%'");
  if (!columns.ok()) return StoreError(columns.error, "look at the store's columns");
  const QueryResult indexes = connection->Query(
      "SELECT TABLE_NAME, INDEX_NAME, NON_UNIQUE, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS WHERE "
      "TABLE_SCHEMA=DATABASE() AND TABLE_NAME LIKE 'store\\_%' ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX");
  if (!indexes.ok()) return StoreError(indexes.error, "look at the store's indexes");
  std::set<std::string, std::less<>> found;
  for (const auto& row : columns.rows()) {
    found.insert(absl::StrCat(TextOf(row[0]), ".", TextOf(row[1]), " ", TextOf(row[2])));
  }
  std::map<std::string, std::vector<std::string>> indexed;
  for (const auto& row : indexes.rows()) {
    // Of a part of a column: another one.
    const std::string part = row[4] ? absl::StrCat("(", *row[4], ")") : "";
    indexed[absl::StrCat(TextOf(row[0]), ": ", IntOf(row[2]) == 0 ? "unique " : "", TextOf(row[1]))].push_back(
        absl::StrCat(TextOf(row[3]), part));
  }
  for (const auto& index : indexed) {
    found.insert(absl::StrCat(index.first, " (", absl::StrJoin(index.second, ","), ")"));
  }
  for (const absl::string_view part : kParts) {
    if (found.count(part) > 0) continue;
    const absl::string_view table = part.substr(0, part.find_first_of(".:"));
    return Missing(absl::StrCat(part[table.size()] == '.' ? "column " : "index ", part), table);
  }
  const absl::StatusOr<std::map<std::string, Meta>> meta = ReadMeta(connection);
  if (!meta.ok()) return meta.status();
  for (const absl::string_view row : kMetaRows) {
    if (meta->count(std::string(row)) == 0) return Missing(absl::StrCat("row '", row, "' of store_meta"), "store_meta");
  }
  return absl::OkStatus();
}

// See NoteBoot in sqlite_schema.h: the same for a server that can lose what it has acknowledged when it goes down.
absl::StatusOr<bool> NoteServerLife(MariaDbConnection* connection, bool lossy) {
  const QueryResult result = connection->Query(
      "SELECT CONCAT(@@hostname, ':', @@port, ' ', CAST(UNIX_TIMESTAMP() - VARIABLE_VALUE AS SIGNED)) FROM "
      "information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='UPTIME'");
  if (!result.ok()) return StoreError(result.error, "read the server's start time");
  const std::string life = result.rows().empty() ? "" : TextOf(result.rows()[0][0]);
  absl::StatusOr<std::map<std::string, Meta>> meta = ReadMeta(connection);
  if (!meta.ok()) return meta.status();
  const std::string noted = (*meta)["server_life"].value;
  if (noted != life) {
    // The start time is computed from the uptime: one second of difference is none.
    const auto seconds = [](const std::string& text) { return IntOf(text.substr(text.rfind(' ') + 1)); };
    const bool same = !noted.empty() && noted.substr(0, noted.rfind(' ')) == life.substr(0, life.rfind(' ')) &&
                      std::abs(seconds(noted) - seconds(life)) <= 1;
    if (!same) {
      const QueryResult written = connection->Query(absl::StrCat(
          "START TRANSACTION;UPDATE store_meta SET value=", Quote(life), " WHERE name='server_life';",
          lossy && !noted.empty() ? "UPDATE store_meta SET number=(SELECT IFNULL(MAX(id), 0) FROM store_globals) WHERE "
                                    "name='lossy_until_id';"
                                  : "",
          "COMMIT"));
      if (!written.ok()) return StoreError(written.error, "note the server's start time");
    }
  }
  const QueryResult left =
      connection->Query(absl::StrCat("SELECT EXISTS (SELECT 1 FROM store_globals FORCE INDEX (by_ended_id) WHERE "
                                     "ended=0 AND id <= (SELECT number FROM "
                                     "store_meta WHERE name='lossy_until_id') AND state=",
                                     static_cast<int>(v1::Global::STATE_ACTIVE), ")"));
  if (!left.ok()) return StoreError(left.error, "look for what may have been lost");
  return IntOf(left.rows()[0][0]) != 0;
}

}  // namespace

int64_t NewestMariaDbSchema() { return std::size(kMigrations); }

absl::StatusOr<std::vector<StoreFinding>> ExamineServer(MariaDbConnection* connection) {
  const QueryResult result = connection->Query(
      "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('read_only', 'innodb_read_only', "
      "'innodb_flush_log_at_trx_commit', "
      "'sync_binlog', 'log_bin', 'innodb_doublewrite', 'binlog_format', 'wsrep_on', 'max_allowed_packet', "
      "'rpl_semi_sync_master_enabled', 'rpl_semi_sync_master_wait_point')");
  if (!result.ok()) return StoreError(result.error, "read the server's settings");
  std::map<std::string, std::string> is;
  for (const auto& row : result.rows()) is[TextOf(row[0])] = TextOf(row[1]);
  if (is["read_only"] == "ON" || is["innodb_read_only"] == "ON") {
    return MakeError(Reason::STORE_READ_ONLY,
                     "the server at the store's address is read only (a replica?): give the address of the one that "
                     "takes writes, or unset read_only there");
  }
  if (is["log_bin"] == "ON" && is["binlog_format"] == "STATEMENT") {
    return MakeError(Reason::STORE_UNFIT,
                     "the store's server writes its binary log as statements, which READ COMMITTED transactions cannot "
                     "be: set binlog_format to ROW or MIXED there",
                     {{"setting", "binlog_format=STATEMENT"}});
  }
  if (IntOf(is["max_allowed_packet"]) < kMinPacketBytes) {
    return MakeError(Reason::STORE_UNFIT,
                     absl::StrCat("the largest records do not fit into the store server's max_allowed_packet of ",
                                  is["max_allowed_packet"], " bytes: set it to 16M or more there"),
                     {{"setting", absl::StrCat("max_allowed_packet=", is["max_allowed_packet"])}});
  }
  std::vector<StoreFinding> findings;
  const auto add = [&](const std::string& name, absl::string_view problem) {
    findings.push_back({absl::StrCat(name, "=", is[name]), std::string(problem)});
  };
  if (is["innodb_flush_log_at_trx_commit"] != "1" && is["innodb_flush_log_at_trx_commit"] != "3") {
    add("innodb_flush_log_at_trx_commit", "decisions are lost when the server or its machine goes down: set it to 1");
  }
  if (is["log_bin"] == "ON" && is["sync_binlog"] != "1") {
    add("sync_binlog", "decisions are lost when the machine goes down: set it to 1");
  }
  if (is["innodb_doublewrite"] == "OFF") {
    add("innodb_doublewrite",
        "a page that was half written when the machine went down cannot be repaired: set it to ON");
  }
  if (is["rpl_semi_sync_master_enabled"] == "ON" && is["rpl_semi_sync_master_wait_point"] != "AFTER_SYNC") {
    add("rpl_semi_sync_master_wait_point",
        "a decision is visible before the replica has it, and lost if that takes over then: set it to AFTER_SYNC");
  }
  if (is["wsrep_on"] == "ON") {
    add("wsrep_on", "user locks, by which a stale writer is ended, hold on one node only: let all use the same node");
  }
  return findings;
}

absl::StatusOr<MariaDbStoreFacts> PrepareMariaDbStore(const MariaDbOptions& options, bool lossy) {
  absl::StatusOr<std::unique_ptr<MariaDbConnection>> connected =
      options.must_exist ? ConnectToStore(options, /*database=*/true) : ConnectAndCreate(options);
  if (!connected.ok()) return connected.status();
  MariaDbConnection* const connection = connected->get();
  // Before anything is changed in a store that is not ours to change.
  absl::StatusOr<std::map<std::string, Meta>> meta = ReadMeta(connection);
  if (!meta.ok()) return meta.status();
  if (absl::Status status = CheckMeta(options, *meta); !status.ok()) return status;
  if (options.must_exist && meta->count("schema") == 0) {
    return MakeError(Reason::STORE_UNAVAILABLE,
                     absl::StrCat("there is no store in the database '", options.database, "': give the right one"),
                     {{"database", options.database}});
  }
  if ((*meta)["schema"].number < NewestMariaDbSchema()) {
    if (options.must_exist || !options.import_as.empty()) {  // A tool: it is not to change what others work on.
      if (absl::Status status = CheckNobodyWorks(connection); !status.ok()) return status;
    }
    const std::string lock = Quote(absl::StrCat("assent.migrate.", options.database));
    // Longer than one answer may take: asked for in pieces.
    bool locked = false;
    for (int second = 0; second < kMigrationLockSeconds && !locked; ++second) {
      const QueryResult got = connection->Query(absl::StrCat("SELECT GET_LOCK(", lock, ", 1)"));
      if (!got.ok()) return StoreError(got.error, "lock the store for migrating it");
      locked = !got.rows().empty() && IntOf(got.rows()[0][0]) == 1;
    }
    if (!locked) {
      return MakeError(Reason::STORE_UNAVAILABLE, "another program has been migrating the store for too long: repeat");
    }
    const absl::Status status = Migrate(connection, options);
    connection->Query(absl::StrCat("DO RELEASE_LOCK(", lock, ")"));
    if (!status.ok()) return status;
  }
  if (absl::Status status = CheckTables(connection); !status.ok()) return status;
  if (absl::Status status = CheckParts(connection); !status.ok()) return status;
  const absl::StatusOr<bool> lost = NoteServerLife(connection, lossy);
  if (!lost.ok()) return lost.status();
  // Forces everything that was read here, and proves that the user may write.
  const DbError barrier = WriteBarrier(connection);
  if (!barrier.ok()) return StoreError(barrier, "write to the store");
  meta = ReadMeta(connection);
  if (!meta.ok()) return meta.status();
  return MariaDbStoreFacts{(*meta)["store_id"].value, *lost, meta->count("importing") > 0, (*meta)["horizon"].number};
}

}  // namespace assent
