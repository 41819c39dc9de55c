#include "resource_manager/table_migration.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "base/errors.h"

namespace assent {
namespace {

constexpr int kLockTimeoutSeconds = 30;

constexpr int kErDbAccessDenied = 1044;
constexpr int kErTableAccessDenied = 1142;
constexpr int kErColumnAccessDenied = 1143;
constexpr int kErSpecificAccessDenied = 1227;
constexpr int kErLockWaitTimeout = 1205;
constexpr int kErQueryInterrupted = 1317;
constexpr int kErSkippedTable = 1684;  // "… its definition is being modified by concurrent DDL statement".

bool IsAccessDenied(int code) {
  return code == kErDbAccessDenied || code == kErTableAccessDenied || code == kErColumnAccessDenied ||
         code == kErSpecificAccessDenied;
}

// Names of accounts may hold any character; those of schemas and tables were checked.
std::string Quoted(absl::string_view text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "''"}, {"\\", "\\\\"}}), "'");
}

absl::Status RefusedFor(MariaDbSession* session, absl::string_view schema, const DbError& error,
                        absl::string_view privileges, absl::string_view doing) {
  if (!IsAccessDenied(error.code)) return StatusOf(error, doing);
  const std::string grant = absl::StrCat("GRANT ", privileges, " ON `", schema, "`.* TO ", AccountOf(session));
  return MakeError(Reason::RESOURCE_UNFIT, absl::StrCat(doing, " needs a privilege that is missing: ", grant),
                   {{"grant", grant}, {"error_code", absl::StrCat(error.code)}, {"sqlstate", error.sqlstate}});
}

absl::Status NewerVersion(const KeptTable& table, int version) {
  return MakeError(Reason::RESOURCE_UNFIT,
                   absl::StrCat("the table ", table.name(), " has version ", version, ", which is newer than the ",
                                table.version(), " of this program: use a newer Assent"),
                   {{"version", absl::StrCat(version)}});
}

// A table that the server cannot open has no engine, and an error message for a comment; its number is in the warnings
// (level, code, message).
absl::Status CannotBeOpened(const KeptTable& table, absl::string_view why,
                            const std::vector<std::vector<absl::optional<std::string>>>& warnings) {
  for (const auto& warning : warnings) {
    int code = 0;
    if (warning.size() < 2 || !warning[1] || !absl::SimpleAtoi(*warning[1], &code)) continue;
    if (code != kErLockWaitTimeout && code != kErSkippedTable && code != kErQueryInterrupted) continue;
    return MakeError(Reason::DATABASE_ERROR,
                     absl::StrCat("the table ", table.name(),
                                  " cannot be looked at now, a DDL statement has it or waits for it: ", why),
                     {{"error_code", absl::StrCat(code)}});
  }
  return MakeError(Reason::RESOURCE_UNFIT,
                   absl::StrCat("the table ", table.name(), " cannot be opened, repair it or drop it: ", why));
}

absl::Status Migrate(MariaDbSession* session, const KeptTable& table) {
  // Again, now that nobody else migrates.
  const absl::StatusOr<int> version = ReadTableVersion(session, table);
  if (!version.ok()) return version.status();
  if (*version > table.version()) return NewerVersion(table, *version);
  for (size_t i = static_cast<size_t>(*version); i < table.migrations.size(); ++i) {
    const QueryResult result = session->Query(table.migrations[i]);
    if (!result.ok()) {
      return RefusedToMake(session, table.schema, result.error, absl::StrCat("making the table ", table.name()));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string TableComment(absl::string_view kind, int version) { return absl::StrCat(kind, " v", version); }

absl::StatusOr<int> ReadTableVersion(MariaDbSession* session, const KeptTable& table) {
  const QueryResult result = session->Query(
      absl::StrCat("SELECT TABLE_COMMENT, ENGINE, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = ",
                   Quoted(table.schema), " AND TABLE_NAME = ", Quoted(table.table), ";SHOW WARNINGS"));
  if (!result.ok()) return StatusOf(result.error, absl::StrCat("reading the version of the table ", table.name()));
  if (result.rows().empty()) return 0;
  if (!result.rows()[0][1] && result.rows()[0][2] == std::string("BASE TABLE")) {
    return CannotBeOpened(table, result.rows()[0][0].value_or(""), result.results.back().rows);
  }
  absl::string_view comment = result.rows()[0][0] ? absl::string_view(*result.rows()[0][0]) : absl::string_view();
  int version = 0;
  if (!absl::ConsumePrefix(&comment, table.kind) || !absl::ConsumePrefix(&comment, " v") ||
      !absl::SimpleAtoi(comment, &version) || version < 1 || result.rows()[0][1] != std::string("InnoDB")) {
    return MakeError(Reason::RESOURCE_UNFIT,
                     absl::StrCat("the table ", table.name(), " is not the ", table.kind,
                                  " table that Assent made: drop it or use another witness_schema"));
  }
  return version;
}

absl::Status BringUpToDate(MariaDbSession* session, const KeptTable& table) {
  const absl::StatusOr<int> version = ReadTableVersion(session, table);
  if (!version.ok()) return version.status();
  if (*version > table.version()) return NewerVersion(table, *version);
  if (*version == table.version()) return absl::OkStatus();
  // Names of locks are at most 64 characters long. (MySQL 9 has no MD5 any more.)
  const std::string lock = absl::StrCat("CONCAT('assent.', LEFT(SHA2(", Quoted(table.name()), ", 256), 32))");
  const QueryResult locked = session->Query(absl::StrCat("SELECT GET_LOCK(", lock, ",", kLockTimeoutSeconds, ")"));
  if (!locked.ok()) return StatusOf(locked.error, absl::StrCat("locking the migration of the table ", table.name()));
  if (locked.rows().empty() || locked.rows()[0][0] != std::string("1")) {
    return MakeError(Reason::DATABASE_ERROR,
                     absl::StrCat("another session has been migrating the table ", table.name(), " for too long"));
  }
  const absl::Status status = Migrate(session, table);
  // If that fails the connection is lost, and with it the lock.
  session->Query(absl::StrCat("DO RELEASE_LOCK(", lock, ")"));
  return status;
}

absl::Status Refused(MariaDbSession* session, absl::string_view schema, const DbError& error, absl::string_view doing) {
  return RefusedFor(session, schema, error, kKeptTablePrivileges, doing);
}

absl::Status RefusedToMake(MariaDbSession* session, absl::string_view schema, const DbError& error,
                           absl::string_view doing) {
  return RefusedFor(session, schema, error, absl::StrCat("CREATE, ALTER, ", kKeptTablePrivileges), doing);
}

std::string AccountOf(MariaDbSession* session) {
  const QueryResult result = session->Query("SELECT CURRENT_USER()");
  if (!result.ok() || result.rows().empty() || !result.rows()[0][0]) return "the account";
  const std::string& account = *result.rows()[0][0];
  const size_t at = account.rfind('@');
  if (at == std::string::npos) return "the account";
  return absl::StrCat(Quoted(account.substr(0, at)), "@", Quoted(account.substr(at + 1)));
}

}  // namespace assent
