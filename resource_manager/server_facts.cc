#include "resource_manager/server_facts.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "resource_manager/table_migration.h"

namespace assent {
namespace {

// A server with very many tables must not hold up the check.
constexpr int kTablesSeconds = 5;

constexpr int kErParseError = 1064;
constexpr int kErTableAccessDenied = 1142;

std::string Cell(const std::vector<absl::optional<std::string>>& row, size_t i) {
  return i < row.size() && row[i] ? *row[i] : std::string();
}

// The cell of the first row in the column of that name, whatever the version's order of columns.
std::string Cell(const ResultSet& result, size_t row, absl::string_view column) {
  const auto found = std::find(result.columns.begin(), result.columns.end(), column);
  return Cell(result.rows[row], static_cast<size_t>(found - result.columns.begin()));
}

void ReadClock(MariaDbSession* session, ServerFacts* facts) {
  const absl::Time before = absl::Now();
  const QueryResult result =
      session->Query("SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))");
  const absl::Time after = absl::Now();
  if (!result.ok() || result.rows().empty()) return;
  facts->clock_error = (after - before) / 2;
  facts->clock_offset = absl::FromUnixMicros(NumberIn(Cell(result.rows()[0], 0))) - (before + facts->clock_error);
}

void ReadPrivileges(MariaDbSession* session, ServerFacts* facts) {
  facts->account = AccountOf(session);
  const QueryResult grants = session->Query("SHOW GRANTS");
  if (!grants.ok()) return;
  facts->privileges.emplace();
  for (const auto& row : grants.rows()) {
    for (std::string& privilege : GlobalPrivilegesOf(Cell(row, 0))) facts->privileges->insert(std::move(privilege));
  }
}

// MySQL has new words for replication since 8.0.22 and 8.2, and forgot the old ones in 8.4.
QueryResult QueryInWords(MariaDbSession* session, absl::string_view newer, absl::string_view older) {
  QueryResult result = session->Query(newer);
  return result.error.code == kErParseError ? session->Query(older) : std::move(result);
}

// The filters of a replica that a row of MySQL's tells.
std::set<std::string> FiltersIn(const ResultSet& result, size_t row) {
  std::set<std::string> filters;
  for (const char* filter : {"Replicate_Do_DB", "Replicate_Ignore_DB", "Replicate_Do_Table", "Replicate_Ignore_Table",
                             "Replicate_Wild_Do_Table", "Replicate_Wild_Ignore_Table"}) {
    if (!Cell(result, row, filter).empty()) filters.insert(absl::AsciiStrToLower(filter));
  }
  return filters;
}

void ReadReplication(MariaDbSession* session, ServerFacts* facts) {
  const bool mysql = facts->is_mysql();
  const QueryResult replicas = mysql ? QueryInWords(session, "SHOW REPLICA STATUS", "SHOW SLAVE STATUS")
                                     : session->Query("SHOW ALL SLAVES STATUS");
  if (replicas.ok() && !replicas.results.empty()) {
    facts->masters.emplace();
    const ResultSet& result = replicas.results[0];
    for (size_t row = 0; row < result.rows.size(); ++row) {
      // The one that is not there is empty.
      facts->masters->push_back(absl::StrCat(Cell(result, row, "Master_Host"), Cell(result, row, "Source_Host"), ":",
                                             Cell(result, row, "Master_Port"), Cell(result, row, "Source_Port")));
      if (mysql) facts->replica_filters.merge(FiltersIn(result, row));
    }
  }
  const QueryResult binlog = mysql ? QueryInWords(session, "SHOW BINARY LOG STATUS", "SHOW MASTER STATUS")
                                   : session->Query("SHOW MASTER STATUS");
  if (binlog.ok() && !binlog.results.empty()) {
    const ResultSet& result = binlog.results[0];
    facts->binlog_do_db = result.rows.empty() ? "" : Cell(result, 0, "Binlog_Do_DB");
    facts->binlog_ignore_db = result.rows.empty() ? "" : Cell(result, 0, "Binlog_Ignore_DB");
  }
}

void ReadDetached(MariaDbSession* session, ServerFacts* facts) {
  const QueryResult result = session->Query(
      "SELECT COUNT(*), COALESCE(MAX(TIMESTAMPDIFF(SECOND, trx_started, NOW())), 0) FROM information_schema.INNODB_TRX "
      "WHERE trx_mysql_thread_id = 0");
  if (!result.ok() || result.rows().empty()) return;
  facts->detached = ServerFacts::Detached{NumberIn(Cell(result.rows()[0], 0)),
                                          absl::Seconds(std::max<int64_t>(NumberIn(Cell(result.rows()[0], 1)), 0))};
}

void ReadPlainTables(MariaDbSession* session, ServerFacts* facts) {
  const QueryResult result = session->Query(absl::StrCat(
      "/*M! SET STATEMENT max_statement_time = ", kTablesSeconds, " FOR*/ SELECT /*+ MAX_EXECUTION_TIME(",
      kTablesSeconds * 1000,
      ") */ TABLE_SCHEMA, TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND "
      "TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') AND ENGINE IN (SELECT ENGINE "
      "FROM information_schema.ENGINES WHERE TRANSACTIONS = 'NO') LIMIT ",
      kMaxPlainTables));
  if (!result.ok()) return;
  facts->plain_tables.emplace();
  for (const auto& row : result.rows()) {
    facts->plain_tables->push_back(absl::StrCat(Cell(row, 0), ".", Cell(row, 1), " (", Cell(row, 2), ")"));
  }
}

}  // namespace

bool ServerFacts::is_mysql() const {
  const std::string version = Variable("version");
  return !version.empty() && !absl::StrContains(version, "MariaDB");
}

std::string ServerFacts::Variable(const std::string& name) const {
  const auto found = variables.find(name);
  return found == variables.end() ? std::string() : found->second;
}

int64_t ServerFacts::Number(const std::string& name) const { return NumberIn(Variable(name)); }

std::vector<std::string> GlobalPrivilegesOf(absl::string_view grant) {
  if (!absl::ConsumePrefix(&grant, "GRANT ")) return {};
  const size_t end = grant.find(" ON *.* TO ");
  if (end == absl::string_view::npos) return {};
  std::vector<std::string> privileges;
  // MySQL puts no space between its dynamic ones.
  for (const absl::string_view privilege : absl::StrSplit(grant.substr(0, end), ',')) {
    privileges.emplace_back(absl::StripAsciiWhitespace(privilege));
  }
  return privileges;
}

absl::StatusOr<ServerFacts> ReadServerFacts(MariaDbSession* session) {
  const QueryResult variables = session->Query("SHOW GLOBAL VARIABLES");
  if (!variables.ok()) return StatusOf(variables.error, "reading the server's variables");
  ServerFacts facts;
  for (const auto& row : variables.rows()) facts.variables[Cell(row, 0)] = Cell(row, 1);
  const QueryResult engine = session->Query("SELECT SUPPORT FROM information_schema.ENGINES WHERE ENGINE = 'InnoDB'");
  if (!engine.ok()) return StatusOf(engine.error, "reading the server's engines");
  if (!engine.rows().empty()) facts.innodb_support = Cell(engine.rows()[0], 0);
  ReadClock(session, &facts);
  ReadPrivileges(session, &facts);
  if (facts.is_mysql()) {
    const QueryResult locks = session->Query("SELECT 1 FROM performance_schema.data_lock_waits LIMIT 0");
    facts.sees_locks = locks.error.code != kErTableAccessDenied;
  }
  ReadReplication(session, &facts);
  ReadDetached(session, &facts);
  ReadPlainTables(session, &facts);
  const QueryResult threads = session->Query("SHOW GLOBAL STATUS LIKE 'Threads_connected'");
  if (threads.ok() && !threads.rows().empty()) facts.threads_connected = NumberIn(Cell(threads.rows()[0], 1));
  if (session->lost()) return StatusOf(threads.error, "reading what the server says about itself");
  return facts;
}

}  // namespace assent
