#include "resource_manager/lock_waits.h"

#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "resource_manager/branch_case.h"
#include "resource_manager/table_migration.h"

namespace assent {
namespace {

constexpr int kErTableAccessDenied = 1142;
constexpr int kErSpecificAccessDenied = 1227;

// (What is locked; what joins the transaction w that waits, b that it waits for, and the lock l.)
constexpr absl::string_view kMariaDbLock = "l.lock_table, l.lock_index";
constexpr absl::string_view kMariaDbWaits =
    "information_schema.INNODB_LOCK_WAITS AS e"
    " JOIN information_schema.INNODB_TRX AS w ON w.trx_id = e.requesting_trx_id"
    " JOIN information_schema.INNODB_TRX AS b ON b.trx_id = e.blocking_trx_id"
    " LEFT JOIN information_schema.INNODB_LOCKS AS l ON l.lock_id = e.requested_lock_id";
constexpr absl::string_view kMySqlLock = "CONCAT(l.OBJECT_SCHEMA, '.', l.OBJECT_NAME), l.INDEX_NAME";
constexpr absl::string_view kMySqlWaits =
    "performance_schema.data_lock_waits AS e"
    " JOIN information_schema.INNODB_TRX AS w ON w.trx_id = e.REQUESTING_ENGINE_TRANSACTION_ID"
    " JOIN information_schema.INNODB_TRX AS b ON b.trx_id = e.BLOCKING_ENGINE_TRANSACTION_ID"
    " LEFT JOIN performance_schema.data_locks AS l"
    " ON l.ENGINE_LOCK_ID = e.REQUESTING_ENGINE_LOCK_ID AND l.ENGINE = e.ENGINE";

// The waits of which the blocker has no connection or one of `holders`, the longest first.
std::string WaitsSql(bool mysql, const std::string& holders, int limit) {
  return absl::StrCat("SELECT w.trx_mysql_thread_id, p.USER, TIMESTAMPDIFF(MICROSECOND, w.trx_wait_started, NOW(6)), ",
                      mysql ? kMySqlLock : kMariaDbLock, ", b.trx_mysql_thread_id FROM ",
                      mysql ? kMySqlWaits : kMariaDbWaits,
                      " LEFT JOIN information_schema.PROCESSLIST AS p ON p.ID = w.trx_mysql_thread_id"
                      " WHERE b.trx_mysql_thread_id IN (0",
                      holders, ") ORDER BY w.trx_wait_started LIMIT ", limit,
                      ";SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id = 0");
}

}  // namespace

absl::StatusOr<std::vector<v1::LockWait>> ReadLockWaits(MariaDbSession* session, const ServerIdentity& identity,
                                                        absl::Span<const BranchTask> branches, int limit) {
  std::map<int64_t, const Xid*> by_connection;
  std::string holders;
  for (const BranchTask& branch : branches) {
    if (!branch.session || !IsOfThisLife(*branch.session, identity)) continue;
    by_connection[branch.session->connection_id()] = &branch.xid;
    absl::StrAppend(&holders, ",", branch.session->connection_id());
  }
  const QueryResult result = session->Query(WaitsSql(session->is_mysql(), holders, limit));
  if (result.error.code == kErSpecificAccessDenied || result.error.code == kErTableAccessDenied) {
    const std::string account = AccountOf(session);
    // MySQL asks for the tables first, for PROCESS when they are read.
    const std::string grant = result.error.code == kErSpecificAccessDenied
                                  ? absl::StrCat("GRANT PROCESS ON *.* TO ", account)
                                  : absl::StrCat("GRANT SELECT ON performance_schema.data_lock_waits TO ", account,
                                                 "; GRANT SELECT ON performance_schema.data_locks TO ", account);
    return MakeError(Reason::RESOURCE_UNFIT, absl::StrCat("reading lock waits needs a privilege: ", grant),
                     {{"grant", grant}});
  }
  if (!result.ok() || result.results.size() != 2) return StatusOf(result.error, "reading lock waits");

  // A detached transaction cannot be told from another; if there is but one, it is the one listed.
  const Xid* only_detached = nullptr;
  auto listed = session->Recover();
  if (!listed.ok()) return listed.status();
  if (listed->size() == 1 && NumberIn(result.results[1].rows[0][0]) == 1) {
    for (const BranchTask& branch : branches) {
      if (branch.xid == Xid{listed->front().gtrid, listed->front().bqual}) only_detached = &branch.xid;
    }
  }

  std::vector<v1::LockWait> waits;
  for (const auto& row : result.results[0].rows) {
    v1::LockWait wait;
    wait.set_waiting_connection_id(NumberIn(row[0]));
    wait.set_waiting_user(row[1].value_or(""));
    SetDuration(absl::Microseconds(NumberIn(row[2])), wait.mutable_waited());
    wait.set_table(absl::StrReplaceAll(row[3].value_or(""), {{"`", ""}}));
    wait.set_index(row[4].value_or(""));
    wait.set_blocking_connection_id(NumberIn(row[5]));
    const auto holder = by_connection.find(wait.blocking_connection_id());
    const Xid* const xid = wait.blocking_connection_id() == 0 ? only_detached
                           : holder != by_connection.end()    ? holder->second
                                                              : nullptr;
    if (xid != nullptr) {
      wait.set_gtrid(xid->gtrid);
      wait.set_bqual(xid->bqual);
    }
    waits.push_back(std::move(wait));
  }
  return waits;
}

}  // namespace assent
