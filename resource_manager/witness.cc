#include "resource_manager/witness.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "base/errors.h"

namespace assent {
namespace {

constexpr absl::string_view kCommentPrefix = "assent witness v";
constexpr int kLockTimeoutSeconds = 30;

constexpr int kErDbAccessDenied = 1044;
constexpr int kErTableAccessDenied = 1142;
constexpr int kErColumnAccessDenied = 1143;
constexpr int kErSpecificAccessDenied = 1227;

bool IsAccessDenied(int code) {
  return code == kErDbAccessDenied || code == kErTableAccessDenied || code == kErColumnAccessDenied ||
         code == kErSpecificAccessDenied;
}

// Names of accounts may hold any character; those of schemas and tables were checked.
std::string Quoted(absl::string_view text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "''"}, {"\\", "\\\\"}}), "'");
}

// 'user'@'host' of this session's account.
std::string Account(MariaDbSession* session) {
  const QueryResult result = session->Query("SELECT CURRENT_USER()");
  if (!result.ok() || result.rows().empty() || !result.rows()[0][0]) return "the account";
  const std::string& account = *result.rows()[0][0];
  const size_t at = account.rfind('@');
  if (at == std::string::npos) return "the account";
  return absl::StrCat(Quoted(account.substr(0, at)), "@", Quoted(account.substr(at + 1)));
}

// The error of a statement that needs `privileges` on the schema.
absl::Status Refused(MariaDbSession* session, const WitnessTable& table, const DbError& error,
                     absl::string_view privileges, absl::string_view doing) {
  if (!IsAccessDenied(error.code)) return StatusOf(error, doing);
  const std::string grant = absl::StrCat("GRANT ", privileges, " ON `", table.schema(), "`.* TO ", Account(session));
  return MakeError(Reason::RESOURCE_UNFIT, absl::StrCat(doing, " needs a privilege that is missing: ", grant),
                   {{"grant", grant}, {"error_code", absl::StrCat(error.code)}, {"sqlstate", error.sqlstate}});
}

// What makes version i + 1 out of version i. A new version is a new entry that is an ALTER TABLE with the new comment.
std::vector<std::string> Migrations(const WitnessTable& table) {
  return {absl::StrCat("CREATE DATABASE IF NOT EXISTS `", table.schema(), "`;CREATE TABLE IF NOT EXISTS ",
                       table.quoted(),
                       " (gtrid VARBINARY(64) NOT NULL, bqual VARBINARY(64) NOT NULL,"
                       " created TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), PRIMARY KEY (gtrid, bqual))"
                       " ENGINE=InnoDB COMMENT='",
                       kCommentPrefix, 1, "'")};
}

absl::Status NewerVersion(const WitnessTable& table, int version) {
  return MakeError(Reason::RESOURCE_UNFIT,
                   absl::StrCat("the table ", table.name(), " has version ", version, ", which is newer than the ",
                                kWitnessVersion, " of this program: use a newer Assent"),
                   {{"version", absl::StrCat(version)}});
}

absl::Status Migrate(MariaDbSession* session, const WitnessTable& table) {
  // Again, now that nobody else migrates.
  const absl::StatusOr<int> version = ReadWitnessVersion(session, table);
  if (!version.ok()) return version.status();
  if (*version > kWitnessVersion) return NewerVersion(table, *version);
  const std::vector<std::string> migrations = Migrations(table);
  for (size_t i = static_cast<size_t>(*version); i < migrations.size(); ++i) {
    const QueryResult result = session->Query(migrations[i]);
    if (!result.ok()) {
      return Refused(session, table, result.error, "CREATE, ALTER, SELECT, DELETE",
                     absl::StrCat("making the table ", table.name()));
    }
  }
  return absl::OkStatus();
}

absl::Status MigrateUnderLock(MariaDbSession* session, const WitnessTable& table) {
  const std::string lock = absl::StrCat("CONCAT('assent.', MD5(", Quoted(table.name()), "))");
  const QueryResult locked = session->Query(absl::StrCat("SELECT GET_LOCK(", lock, ",", kLockTimeoutSeconds, ")"));
  if (!locked.ok()) return StatusOf(locked.error, "locking the migration of the witness table");
  if (locked.rows().empty() || locked.rows()[0][0] != std::string("1")) {
    return MakeError(Reason::DATABASE_ERROR, "another session has been migrating the witness table for too long");
  }
  const absl::Status status = Migrate(session, table);
  session->Query(
      absl::StrCat("DO RELEASE_LOCK(", lock, ")"));  // If that fails the connection is lost, and with it the lock.
  return status;
}

std::string WhereIs(const Xid& xid) {
  return absl::StrCat(" WHERE gtrid = X'", absl::BytesToHexString(xid.gtrid), "' AND bqual = X'",
                      absl::BytesToHexString(xid.bqual), "'");
}

}  // namespace

absl::StatusOr<int> ReadWitnessVersion(MariaDbSession* session, const WitnessTable& table) {
  const QueryResult result = session->Query(absl::StrCat(
      "SELECT TABLE_COMMENT, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = ", Quoted(table.schema()),
      " AND TABLE_NAME = ", Quoted(table.table())));
  if (!result.ok()) return StatusOf(result.error, "reading the version of the witness table");
  if (result.rows().empty()) return 0;
  absl::string_view comment = result.rows()[0][0] ? absl::string_view(*result.rows()[0][0]) : absl::string_view();
  int version = 0;
  if (!absl::ConsumePrefix(&comment, kCommentPrefix) || !absl::SimpleAtoi(comment, &version) || version < 1 ||
      result.rows()[0][1] != std::string("InnoDB")) {
    return MakeError(Reason::RESOURCE_UNFIT,
                     absl::StrCat("the table ", table.name(),
                                  " is not a witness table that Assent made: drop it or use another witness_schema"));
  }
  return version;
}

absl::Status InstallWitness(MariaDbSession* session, const WitnessTable& table) {
  const absl::StatusOr<int> version = ReadWitnessVersion(session, table);
  if (!version.ok()) return version.status();
  if (*version > kWitnessVersion) return NewerVersion(table, *version);
  if (*version < kWitnessVersion) {
    const absl::Status status = MigrateUnderLock(session, table);
    if (!status.ok()) return status;
  }
  const Xid nobody;  // Its ids are empty, so no branch has them.
  for (absl::string_view verb : {"SELECT gtrid FROM ", "DELETE FROM "}) {
    const QueryResult result = session->Query(absl::StrCat(verb, table.quoted(), WhereIs(nobody)));
    if (!result.ok()) {
      return Refused(session, table, result.error, "SELECT, DELETE", absl::StrCat("using the table ", table.name()));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> HasWitness(MariaDbSession* session, const WitnessTable& table, const Xid& xid) {
  const QueryResult result = session->Query(absl::StrCat("SELECT 1 FROM ", table.quoted(), WhereIs(xid)));
  if (!result.ok()) return Refused(session, table, result.error, "SELECT, DELETE", "looking for a witness");
  return !result.rows().empty();
}

absl::Status DeleteWitnesses(MariaDbSession* session, const WitnessTable& table, absl::Span<const Xid> xids) {
  if (xids.empty()) return absl::OkStatus();
  if (xids.size() > kMaxWitnessesPerDelete) {
    return MakeError(Reason::INVALID_FIELD, absl::StrCat("at most ", kMaxWitnessesPerDelete, " witnesses at once"),
                     {{"field", "xids"}});
  }
  // In order, so that two coordinators that sweep the same rows wait for and do not deadlock each other. One statement
  // per row, because a list can make the server scan the table, and wait for the rows of unfinished branches.
  std::vector<Xid> sorted(xids.begin(), xids.end());
  std::sort(sorted.begin(), sorted.end());
  std::string sql = "START TRANSACTION";
  for (const Xid& xid : sorted) absl::StrAppend(&sql, ";DELETE FROM ", table.quoted(), WhereIs(xid));
  absl::StrAppend(&sql, ";COMMIT");
  const QueryResult result = session->Query(sql);
  if (result.ok()) return absl::OkStatus();
  const absl::Status status = Refused(session, table, result.error, "SELECT, DELETE", "deleting witnesses");
  session->Query("ROLLBACK");  // If that fails the connection is lost, and the server rolls back.
  return status;
}

}  // namespace assent
