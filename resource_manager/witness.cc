#include "resource_manager/witness.h"

#include <set>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "resource_manager/table_migration.h"

namespace assent {
namespace {

constexpr absl::string_view kKind = "assent witness";
constexpr int kErNoSuchDatabase = 1049;
constexpr int kErNoSuchTable = 1146;
constexpr int kErLockWaitTimeout = 1205;
constexpr int kOpenPage = 1000;
// By one statement.
constexpr size_t kDeletedAtOnce = 100;

bool IsMissing(const DbError& error) { return error.code == kErNoSuchTable || error.code == kErNoSuchDatabase; }

KeptTable Kept(const WitnessTable& table) {
  return KeptTable{
      table.schema(),
      table.table(),
      kKind,
      {absl::StrCat("CREATE DATABASE IF NOT EXISTS `", table.schema(), "`;CREATE TABLE IF NOT EXISTS ", table.quoted(),
                    " (gtrid VARBINARY(64) NOT NULL, bqual VARBINARY(64) NOT NULL,"
                    " created TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), PRIMARY KEY (gtrid,"
                    " bqual)) ENGINE=InnoDB COMMENT='",
                    TableComment(kKind, 1), "'")}};
}

std::string Hex(absl::string_view bytes) { return absl::StrCat("X'", absl::BytesToHexString(bytes), "'"); }

std::string WhereIs(const Xid& xid) {
  return absl::StrCat(" WHERE gtrid = ", Hex(xid.gtrid), " AND bqual = ", Hex(xid.bqual));
}

using Rows = std::vector<std::vector<absl::optional<std::string>>>;

std::set<Xid> XidsOf(const Rows& rows) {
  std::set<Xid> xids;
  for (const auto& row : rows) xids.insert(Xid{row[0].value_or(""), row[1].value_or("")});
  return xids;
}

std::vector<Xid> InOrder(const Rows& rows) {
  std::vector<Xid> xids;
  for (const auto& row : rows) xids.push_back(Xid{row[0].value_or(""), row[1].value_or("")});
  return xids;
}

// When the table's contents begin, on this machine's clock, at the earliest; nullopt: it does not tell. `rows` are
// (birth, now) by the server's clock, and were asked for at `asked`.
absl::optional<absl::Time> BornAt(const Rows& rows, absl::Time asked) {
  double birth_s = 0;
  double now_s = 0;
  if (rows.size() != 1 || !rows[0][0] || !rows[0][1] || !absl::SimpleAtod(*rows[0][0], &birth_s) ||
      !absl::SimpleAtod(*rows[0][1], &now_s)) {
    return absl::nullopt;
  }
  return asked - absl::Seconds(now_s - birth_s);
}

std::string Pair(const Xid& xid) { return absl::StrCat("(", Hex(xid.gtrid), ",", Hex(xid.bqual), ")"); }

std::string SelectSql(const WitnessTable& table, const std::vector<std::string>& pairs) {
  return absl::StrCat("SELECT gtrid, bqual FROM ", table.quoted(), " WHERE (gtrid, bqual) IN (",
                      absl::StrJoin(pairs, ","), ")");
}

// Deletes these. A join that reads the list first and looks each of them up by its key: given the list as a condition
// the server may scan the table instead, and wait for the rows of unfinished branches. In the list's order, so that two
// coordinators that sweep the same rows wait for and do not deadlock each other.
std::string DeleteSql(const WitnessTable& table, absl::Span<const Xid> xids) {
  std::string list;
  for (const Xid& xid : xids) {
    absl::StrAppend(&list, list.empty() ? "SELECT " : " UNION ALL SELECT ", Hex(xid.gtrid),
                    list.empty() ? " AS gtrid, " : ", ", Hex(xid.bqual), list.empty() ? " AS bqual" : "");
  }
  const std::string name = table.quoted();
  return absl::StrCat("DELETE ", name, " FROM (", list, ") AS gone STRAIGHT_JOIN ", name, " FORCE INDEX (PRIMARY) ON ",
                      name, ".gtrid = gone.gtrid AND ", name, ".bqual = gone.bqual");
}

// The witnesses whose gtrid has this prefix, in order, beginning behind `after`. Two ranges of the primary key, so that
// nothing is scanned: the rest of `after`'s transaction, and what follows.
std::string PageSql(const WitnessTable& table, absl::string_view gtrid_prefix, const Xid& after, int limit) {
  std::string sql;
  const Xid first = std::max(after, WitnessBirth());
  if (absl::StartsWith(first.gtrid, gtrid_prefix) && !first.gtrid.empty()) {
    absl::StrAppend(&sql, "(SELECT gtrid, bqual FROM ", table.quoted(), " WHERE gtrid = ", Hex(first.gtrid),
                    " AND bqual > ", Hex(first.bqual), " ORDER BY gtrid, bqual LIMIT ", limit, ") UNION ALL ");
  }
  return absl::StrCat(sql, "(SELECT gtrid, bqual FROM ", table.quoted(), " WHERE gtrid > ", Hex(first.gtrid),
                      " AND gtrid >= ", Hex(gtrid_prefix), " AND gtrid < ", Hex(absl::StrCat(gtrid_prefix, "\x7f")),
                      " ORDER BY gtrid, bqual LIMIT ", limit, ") ORDER BY gtrid, bqual LIMIT ", limit);
}

std::string ReadSql(const WitnessTable& table, absl::Span<const WitnessQuestion> questions) {
  std::vector<std::string> pairs;
  for (const WitnessQuestion& question : questions) pairs.push_back(Pair(question.xid));
  const std::string select = SelectSql(table, pairs);
  // What is committed is asked for after what is open: a branch that commits in between is then seen to be committed.
  // The birth comes last: a table that was made anew in between is then seen to be young.
  return absl::StrCat(
      "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED;", select, ";SET TRANSACTION ISOLATION LEVEL READ COMMITTED;",
      select, ";SELECT UNIX_TIMESTAMP(created), UNIX_TIMESTAMP(NOW(6)) FROM ", table.quoted(), WhereIs(WitnessBirth()));
}

std::string Missing(const WitnessTable& table) {
  return absl::StrCat("the table ", table.name(), " is missing, or the account may not see it");
}

absl::Status RefusedToUse(MariaDbSession* session, const WitnessTable& table, const DbError& error) {
  return Refused(session, table.schema(), error, absl::StrCat("using the table ", table.name()));
}

}  // namespace

const Xid& WitnessBirth() {
  static const Xid* const kBirth = new Xid;
  return *kBirth;
}

absl::StatusOr<int> ReadWitnessVersion(MariaDbSession* session, const WitnessTable& table) {
  return ReadTableVersion(session, Kept(table));
}

absl::Status InstallWitness(MariaDbSession* session, const WitnessTable& table) {
  if (absl::Status status = BringUpToDate(session, Kept(table)); !status.ok()) return status;
  const QueryResult born = session->Query(table.InsertIgnoreSql(WitnessBirth()));
  if (!born.ok()) return RefusedToUse(session, table, born.error);
  // Finds nothing; shows whether the account may.
  const QueryResult swept = session->Query(absl::StrCat("DELETE FROM ", table.quoted(), WhereIs(Xid{"", "?"})));
  if (!swept.ok()) return RefusedToUse(session, table, swept.error);
  return CheckWitness(session, table);
}

absl::Status CheckWitness(MariaDbSession* session, const WitnessTable& table) {
  const absl::StatusOr<int> version = ReadWitnessVersion(session, table);
  if (!version.ok()) return version.status();
  if (*version == 0) return MakeError(Reason::RESOURCE_UNFIT, Missing(table));
  const QueryResult birth = session->Query(absl::StrCat("SELECT 1 FROM ", table.quoted(), WhereIs(WitnessBirth())));
  if (!birth.ok()) return RefusedToUse(session, table, birth.error);
  if (birth.rows().empty()) {
    return MakeError(Reason::RESOURCE_UNFIT, absl::StrCat("the table ", table.name(), " was emptied"));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> HasWitness(MariaDbSession* session, const WitnessTable& table, const Xid& xid) {
  const QueryResult result = session->Query(absl::StrCat("SELECT 1 FROM ", table.quoted(), WhereIs(xid)));
  if (!result.ok()) return Refused(session, table.schema(), result.error, "looking for a witness");
  return !result.rows().empty();
}

absl::StatusOr<WitnessAnswers> ReadWitnesses(MariaDbSession* session, const WitnessTable& table,
                                             absl::Span<const WitnessQuestion> questions) {
  WitnessAnswers answers;
  if (questions.empty()) return answers;
  if (questions.size() > kMaxWitnessesPerRead) {
    return MakeError(Reason::INVALID_FIELD, absl::StrCat("at most ", kMaxWitnessesPerRead, " witnesses at once"),
                     {{"field", "xids"}});
  }
  answers.sights.assign(questions.size(), WitnessSight::kUnknowable);
  const absl::StatusOr<int> version = ReadWitnessVersion(session, table);
  // A table that cannot be read now is no reason to leave a branch that is prepared: it may be the one that the DDL
  // statement waits for.
  if (!version.ok() && ReasonOf(version.status()) == Reason::DATABASE_UNREACHABLE) return version.status();
  if (!version.ok() || *version == 0) {
    answers.problem = version.ok() ? Missing(table) : std::string(version.status().message());
    return answers;
  }
  const absl::Time asked = absl::Now();
  const QueryResult result = session->Query(ReadSql(table, questions));
  if (!result.ok()) {
    const absl::Status status = Refused(session, table.schema(), result.error, "looking for witnesses");
    const bool not_now = result.error.code == kErLockWaitTimeout;
    if (!IsMissing(result.error) && !not_now && ReasonOf(status) != Reason::RESOURCE_UNFIT) return status;
    answers.problem = std::string(status.message());
    return answers;
  }
  if (result.results.size() != 5) return MakeError(Reason::DATABASE_ERROR, "the witnesses cannot be read");
  const std::set<Xid> open = XidsOf(result.results[1].rows);
  const std::set<Xid> committed = XidsOf(result.results[3].rows);
  const absl::optional<absl::Time> born = BornAt(result.results[4].rows, asked);
  for (size_t i = 0; i < questions.size(); ++i) {
    if (committed.count(questions[i].xid) != 0) {
      answers.sights[i] = WitnessSight::kCommitted;
    } else if (open.count(questions[i].xid) != 0) {
      answers.sights[i] = WitnessSight::kUncommitted;
    } else if (born && *born <= questions[i].created) {
      answers.sights[i] = WitnessSight::kAbsent;
    } else {
      answers.problem = absl::StrCat("the table ", table.name(),
                                     " was made or emptied after the branch was created, so its witness may be lost");
    }
  }
  return answers;
}

absl::Status ForceWitnesses(MariaDbSession* session, const WitnessTable& table) {
  // One of the two changes something, commits it, and so writes all of the log up to there.
  const Xid mark = WitnessOf(WitnessBirth(), /*one_phase=*/true);
  const QueryResult forced =
      session->Query(absl::StrCat("DELETE FROM ", table.quoted(), WhereIs(mark), ";", table.InsertIgnoreSql(mark)));
  return forced.ok() ? absl::OkStatus() : RefusedToUse(session, table, forced.error);
}

absl::StatusOr<std::vector<Xid>> ListWitnesses(MariaDbSession* session, const WitnessTable& table,
                                               absl::string_view gtrid_prefix, const Xid& after, int limit) {
  const QueryResult result = session->Query(PageSql(table, gtrid_prefix, after, limit));
  if (IsMissing(result.error)) return std::vector<Xid>();
  if (!result.ok()) return Refused(session, table.schema(), result.error, "listing witnesses");
  return InOrder(result.rows());
}

absl::StatusOr<std::vector<Xid>> ListOpenWitnesses(MariaDbSession* session, const WitnessTable& table,
                                                   absl::string_view gtrid_prefix, const std::set<Xid>& except) {
  std::vector<Xid> open;
  Xid after;
  for (;;) {
    const QueryResult page = session->Query(absl::StrCat("SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED;",
                                                         PageSql(table, gtrid_prefix, after, kOpenPage)));
    if (IsMissing(page.error)) return std::vector<Xid>();
    if (!page.ok()) return Refused(session, table.schema(), page.error, "listing witnesses");
    const std::vector<Xid> seen = InOrder(page.rows());
    std::vector<Xid> candidates;
    std::vector<std::string> pairs;
    for (const Xid& xid : seen) {
      if (except.count(xid) != 0) continue;
      candidates.push_back(xid);
      pairs.push_back(Pair(xid));
    }
    if (!candidates.empty()) {
      // Asked for afterwards: what commits in between is in both.
      const QueryResult result =
          session->Query(absl::StrCat("SET TRANSACTION ISOLATION LEVEL READ COMMITTED;", SelectSql(table, pairs)));
      if (IsMissing(result.error)) return std::vector<Xid>();
      if (!result.ok()) return Refused(session, table.schema(), result.error, "listing witnesses");
      const std::set<Xid> committed = XidsOf(result.rows());
      for (const Xid& xid : candidates) {
        if (committed.count(xid) == 0) open.push_back(xid);
      }
    }
    if (static_cast<int>(seen.size()) < kOpenPage) return open;
    after = seen.back();
  }
}

absl::Status DeleteWitnesses(MariaDbSession* session, const WitnessTable& table, absl::Span<const Xid> xids) {
  if (xids.empty()) return absl::OkStatus();
  if (xids.size() > kMaxWitnessesPerDelete) {
    return MakeError(Reason::INVALID_FIELD, absl::StrCat("at most ", kMaxWitnessesPerDelete, " witnesses at once"),
                     {{"field", "xids"}});
  }
  // Only those that are committed: to delete one of a branch that is prepared (again) would wait for that.
  std::vector<std::string> ids;
  for (const Xid& xid : xids) ids.push_back(Pair(xid));
  const QueryResult there = session->Query(SelectSql(table, ids));
  if (IsMissing(there.error)) return absl::OkStatus();
  if (!there.ok()) return Refused(session, table.schema(), there.error, "looking for witnesses");
  const std::set<Xid> found = XidsOf(there.rows());
  const std::vector<Xid> due(found.begin(), found.end());
  std::string sql = "START TRANSACTION";
  for (size_t begin = 0; begin < due.size(); begin += kDeletedAtOnce) {
    absl::StrAppend(&sql, ";", DeleteSql(table, absl::MakeSpan(due).subspan(begin, kDeletedAtOnce)));
  }
  absl::StrAppend(&sql, ";COMMIT");
  const QueryResult result = session->Query(sql);
  if (result.ok()) return absl::OkStatus();
  session->Query("ROLLBACK");  // If that fails the connection is lost, and the server rolls back.
  if (IsMissing(result.error)) return absl::OkStatus();
  return Refused(session, table.schema(), result.error, "deleting witnesses");
}

}  // namespace assent
