#include "store/mariadb_link.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"

namespace assent {
namespace {

constexpr int kErKeyNotFound = 1032;
constexpr int kErAccessDenied = 1045;
constexpr int kErUnknownSystemVariable = 1193;
constexpr int kErLockWaitTimeout = 1205;
constexpr int kErLockDeadlock = 1213;
constexpr int kErCheckRead = 1020;  // "Record has changed since last read": the newer InnoDB's word for a lost race.
constexpr int kErTryAgain = 1412;   // The table was altered in between.
constexpr int kErAccessDeniedNoPassword = 1698;
constexpr int kErSecureTransportRequired = 3159;

// Locks are waited for a little less long than answers, so that the database says so before the connection counts as
// lost.
constexpr absl::Duration kLockWait = absl::Seconds(2);
// A transaction that neither goes on nor ends holds locks that others wait for: of a frozen process, or one behind a
// network that is gone.
constexpr absl::Duration kMaxIdleInTransaction = absl::Seconds(3);
constexpr absl::Duration kFirstPause = absl::Milliseconds(20);
constexpr absl::Duration kLongestPause = absl::Seconds(1);
constexpr int kEndHolderWaitSeconds = 2;
constexpr absl::Duration kLongestFlush = absl::Seconds(3);
constexpr int kTries = 5;

Reason ReasonOfCode(const DbError& error) {
  switch (error.code) {
    case 1021:  // ER_DISK_FULL
    case 1114:  // ER_RECORD_FILE_FULL
      return Reason::STORE_FULL;
    case 1030:  // ER_GET_ERRNO: of the handler, e.g. 28, ENOSPC.
      return error.message.find(" 28 ") != std::string::npos ? Reason::STORE_FULL : Reason::STORE_UNAVAILABLE;
    case 1036:  // ER_OPEN_AS_READONLY
    case 1290:  // ER_OPTION_PREVENTS_STATEMENT: --read-only
    case 1792:  // ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
    case 1836:  // ER_READ_ONLY_MODE
      return Reason::STORE_READ_ONLY;
    case 1044:  // ER_DBACCESS_DENIED_ERROR
    case kErAccessDenied:
    case 1142:  // ER_TABLEACCESS_DENIED_ERROR
    case 1143:  // ER_COLUMNACCESS_DENIED_ERROR
    case 1227:  // ER_SPECIFIC_ACCESS_DENIED_ERROR
    case 1251:  // ER_NOT_SUPPORTED_AUTH_MODE
    case 1665:  // ER_BINLOG_STMT_MODE_AND_ROW_ENGINE
    case kErAccessDeniedNoPassword:
    case kErSecureTransportRequired: return Reason::STORE_UNFIT;
    case kErKeyNotFound:
    case 1034:  // ER_NOT_KEYFILE
    case kErBadDb:
    case 1054:  // ER_BAD_FIELD_ERROR
    case 1136:  // ER_WRONG_VALUE_COUNT_ON_ROW
    case kErNoSuchTable:
    case 1176:  // ER_KEY_DOES_NOT_EXIST
    case 1194:  // ER_CRASHED_ON_USAGE
    case 1264:  // ER_WARN_DATA_OUT_OF_RANGE
    case 1364:  // ER_NO_DEFAULT_FOR_FIELD
    case 1366:  // ER_TRUNCATED_WRONG_VALUE_FOR_FIELD
    case 1406:  // ER_DATA_TOO_LONG
    case 1712:  // ER_INDEX_CORRUPT
    case 1932:  // ER_NO_SUCH_TABLE_IN_ENGINE
      return Reason::STORE_CORRUPT;
    default: return Reason::STORE_UNAVAILABLE;
  }
}

absl::string_view Remedy(const DbError& error, Reason reason) {
  if (error.code == 1665) return "; set binlog_format to ROW or MIXED on the store's server";
  switch (reason) {
    case Reason::STORE_FULL: return "; make room on the store's disk, nothing needs to be restarted";
    case Reason::STORE_READ_ONLY: return "; give the address of the server that takes writes, or unset read_only there";
    case Reason::STORE_UNFIT: return "; check user and password, and grant that user ALL on the store's database";
    case Reason::STORE_CORRUPT:
      return "; a table of the store was dropped or altered: restore it from a copy, its tables are not for editing";
    default: return "";
  }
}

// A server that wants TLS (require_secure_transport, or REQUIRE SSL of the account) says no more than that access is
// denied.
absl::string_view TlsRemedy(const DbError& error, bool tls) {
  const bool denied = error.code == kErAccessDenied || error.code == kErAccessDeniedNoPassword ||
                      error.code == kErSecureTransportRequired;
  return denied && !tls ? "; if the server or the account takes TLS only, set store-tls (it is off)" : "";
}

// Values, not DEFAULT, which is the server's global. A limit on rows would make what is cut off look absent; the others
// refuse statements that are meant.
absl::Status SetUp(MariaDbConnection* connection) {
  const QueryResult result = connection->Query(
      absl::StrCat("SET NAMES binary;"
                   "SET SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone='+00:00', autocommit=1, "
                   "completion_type=0, unique_checks=1, sql_select_limit=18446744073709551615, sql_safe_updates=0, "
                   "sql_big_selects=1, lock_wait_timeout=",
                   WholeSeconds(kLockWait), ", innodb_lock_wait_timeout=", WholeSeconds(kLockWait),
                   ";SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;SET SESSION TRANSACTION READ WRITE"));
  if (!result.ok()) return StoreError(result.error, "set up a session at the store");
  for (const std::string& sql :
       {absl::StrCat("SET SESSION idle_transaction_timeout=", WholeSeconds(kMaxIdleInTransaction)),
        std::string("SET SESSION max_statement_time=0"), std::string("SET SESSION wsrep_sync_wait=1")}) {
    const QueryResult optional = connection->Query(sql);
    if (!optional.ok() && optional.error.code != kErUnknownSystemVariable) {
      return StoreError(optional.error, "set up a session at the store");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status StoreError(const DbError& error, absl::string_view doing) {
  if (error.ok()) return absl::OkStatus();
  const Reason reason = IsConnectionLost(error.code) ? Reason::STORE_UNAVAILABLE : ReasonOfCode(error);
  return MakeError(reason, absl::StrCat("cannot ", Describe(doing, error), Remedy(error, reason)), MetadataOf(error));
}

bool IsContention(int code) {
  return code == kErLockWaitTimeout || code == kErLockDeadlock || code == kErCheckRead || code == kErTryAgain;
}

std::string Quote(absl::string_view text) {
  std::string quoted;
  quoted.reserve(text.size() + text.size() / 8 + 2);
  quoted.push_back('\'');
  for (const char c : text) {
    switch (c) {
      case '\0': quoted.append("\\0"); break;
      case '\n': quoted.append("\\n"); break;
      case '\r': quoted.append("\\r"); break;
      case '\x1a': quoted.append("\\Z"); break;
      case '\\':
      case '\'':
        quoted.push_back('\\');
        quoted.push_back(c);
        break;
      default: quoted.push_back(c);
    }
  }
  quoted.push_back('\'');
  return quoted;
}

int64_t IntOf(const absl::optional<std::string>& column) {
  int64_t value = 0;
  return column && absl::SimpleAtoi(*column, &value) ? value : 0;
}

StoredRecord StoredOf(const std::vector<absl::optional<std::string>>& row) {
  return {TextOf(row[0]), IntOf(row[1]), TextOf(row[2])};
}

std::string TextOf(const absl::optional<std::string>& column) { return column ? *column : ""; }

absl::StatusOr<std::unique_ptr<MariaDbConnection>> ConnectToStore(const MariaDbOptions& options, bool database) {
  ConnectOptions connect;
  connect.address = options.address;
  connect.user = options.user;
  connect.password = options.password;
  if (database) connect.database = options.database;
  connect.tls = options.tls;
  connect.connect_timeout = options.connect_timeout;
  connect.read_timeout = connect.write_timeout = options.answer_timeout;
  absl::StatusOr<std::unique_ptr<MariaDbConnection>> connection = MariaDbConnection::Connect(connect);
  if (!connection.ok()) {
    const auto metadata = MetadataOf(connection.status());
    DbError error{0, "", std::string(connection.status().message())};
    const auto code = metadata.find("error_code");
    if (code != metadata.end()) error.code = static_cast<int>(IntOf(code->second));
    const Reason reason = IsConnectionLost(error.code) ? Reason::STORE_UNAVAILABLE : ReasonOfCode(error);
    return MakeError(reason,
                     absl::StrCat("cannot use the store: ", error.message, Remedy(error, reason),
                                  TlsRemedy(error, options.tls.required)),
                     metadata);
  }
  if (absl::Status status = SetUp(connection->get()); !status.ok()) return status;
  return connection;
}

void Backoff::Failed() {
  pause_ = std::min(kLongestPause, std::max(kFirstPause, 2 * pause_));
  next_ = absl::Now() + pause_ * std::uniform_real_distribution<double>(0.5, 1.0)(random_);
}

DbError EndHolder(MariaDbConnection* connection, absl::string_view name, bool take) {
  const std::string lock = Quote(name);
  QueryResult holder = connection->Query(absl::StrCat("SELECT IS_USED_LOCK(", lock, ")"));
  if (!holder.ok()) return holder.error;
  const int64_t id = holder.rows().empty() ? 0 : IntOf(holder.rows()[0][0]);
  if (id == static_cast<int64_t>(connection->id())) return DbError{};
  if (id == 0 && !take) return DbError{};
  // It may be gone by now (ER_NO_SUCH_THREAD): the lock will tell.
  if (id != 0) connection->Query(absl::StrCat("KILL CONNECTION ", id));
  const QueryResult got = connection->Query(absl::StrCat("SELECT GET_LOCK(", lock, ",", kEndHolderWaitSeconds, ")"));
  if (!got.ok()) return got.error;
  if (got.rows().empty() || IntOf(got.rows()[0][0]) != 1) {
    return DbError{kErLockWaitTimeout, "HY000", "an earlier connection of this store has not ended yet"};
  }
  if (take) return DbError{};
  return connection->Query(absl::StrCat("DO RELEASE_LOCK(", lock, ")")).error;
}

DbError NoBarrierError() { return DbError{kErKeyNotFound, "HY000", "store_meta has no row 'barrier'"}; }

DbError NoHorizonError() { return DbError{kErKeyNotFound, "HY000", "store_meta has no row 'horizon'"}; }

DbError WriteBarrier(MariaDbConnection* connection) {
  const QueryResult written = connection->Query(kBarrierSql);
  return written.ok() && written.affected_rows() != 1 ? NoBarrierError() : written.error;
}

DbError ForceWhatWasRead(MariaDbConnection* connection) {
  const DbError error = WriteBarrier(connection);
  const Reason reason = ReasonOfCode(error);
  if (error.ok() || (reason != Reason::STORE_FULL && reason != Reason::STORE_READ_ONLY)) return error;
  // The server flushes once a second in any case.
  int64_t written = 0;
  for (const absl::Time give_up = absl::Now() + kLongestFlush; absl::Now() < give_up;) {
    const QueryResult lsn =
        connection->Query("SHOW GLOBAL STATUS WHERE Variable_name IN ('Innodb_lsn_current', 'Innodb_lsn_flushed')");
    if (!lsn.ok() || lsn.rows().size() != 2) return error;
    const bool first_is_current = TextOf(lsn.rows()[0][0]) == "Innodb_lsn_current";
    if (written == 0) written = IntOf(lsn.rows()[first_is_current ? 0 : 1][1]);
    if (IntOf(lsn.rows()[first_is_current ? 1 : 0][1]) >= written) return DbError{};
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return error;
}

absl::Status CheckStoreId(MariaDbConnection* connection, const std::string& store_id) {
  const QueryResult result = connection->Query("SELECT value FROM store_meta WHERE name='store_id'");
  if (!result.ok()) return StoreError(result.error, "read the store's id");
  if (result.rows().size() == 1 && TextOf(result.rows()[0][0]) == store_id) return absl::OkStatus();
  return MakeError(Reason::STORE_CORRUPT,
                   "the server at the store's address has another store now than when it was opened: restore the right "
                   "one, or restart this program if the change is meant");
}

MariaDbPool::MariaDbPool(MariaDbOptions options, std::string store_id)
    : options_(std::move(options)), store_id_(std::move(store_id)) {}

absl::Status MariaDbPool::Run(absl::string_view doing, const std::function<DbError(MariaDbConnection*)>& body) {
  DbError error;
  const absl::Time give_up = absl::Now() + options_.answer_timeout;
  for (int i = 0; i < kTries && (i == 0 || absl::Now() < give_up); ++i) {
    absl::StatusOr<std::unique_ptr<MariaDbConnection>> connection = Take();
    if (!connection.ok()) return connection.status();
    error = body(connection->get());
    if (!(*connection)->lost() && (*connection)->InTransaction()) (*connection)->Query("ROLLBACK");
    // A connection keeps the rights it was made with: another one may have better.
    if (ReasonOf(StoreError(error, doing)) == Reason::STORE_UNFIT) (*connection)->Close();
    Give(*std::move(connection));
    if (!IsConnectionLost(error.code) && !IsContention(error.code)) break;
    if (i > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1 << i));
  }
  return StoreError(error, doing);
}

absl::StatusOr<std::unique_ptr<MariaDbConnection>> MariaDbPool::Take() {
  {
    MutexLock lock(&mu_);
    while (idle_.empty() && used_ >= options_.max_readers) given_.Wait(&mu_);
    while (!idle_.empty()) {
      std::unique_ptr<MariaDbConnection> connection = std::move(idle_.back());
      idle_.pop_back();
      if (connection->PeerHasClosed()) continue;
      ++used_;
      return connection;
    }
    if (!backoff_.MayTry()) return last_error_;
    ++used_;
  }
  absl::StatusOr<std::unique_ptr<MariaDbConnection>> connection = ConnectToStore(options_, /*database=*/true);
  if (connection.ok()) {
    if (absl::Status status = CheckStoreId(connection->get(), store_id_); !status.ok()) connection = status;
  }
  MutexLock lock(&mu_);
  if (connection.ok()) {
    backoff_.Succeeded();
    return connection;
  }
  --used_;
  backoff_.Failed();
  last_error_ = connection.status();
  given_.NotifyOne();
  return connection.status();
}

void MariaDbPool::Give(std::unique_ptr<MariaDbConnection> connection) {
  if (connection->lost()) connection.reset();
  MutexLock lock(&mu_);
  --used_;
  if (connection != nullptr) idle_.push_back(std::move(connection));
  given_.NotifyOne();
}

}  // namespace assent
