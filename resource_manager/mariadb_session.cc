#include "resource_manager/mariadb_session.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/timestamp.h"

namespace assent {
namespace {

// Makes the server report the state of the transaction with every change. A report comes only with an answer without
// rows. One that falls due with rows or with an error is kept, and sent neither then nor with the next answer, but with
// the next change, or when this statement is repeated.
constexpr absl::string_view kTrackSql = "SET SESSION session_track_transaction_info='STATE'";
// Brings an overdue report; and, as FOUND_ROWS() is "unsafe" ('s') to the server, one on that change if there was no
// unsafe statement before.
constexpr absl::string_view kProbeSql = "SET SESSION session_track_transaction_info='STATE';DO FOUND_ROWS()";

// Where the two servers differ: MariaDB alone runs what is in /*M! */ and, of the version comments, passes over those
// of MySQL's releases (50700 to 99999). A MySQL that does not know xa_detach_on_prepare says NULL of it.
// The session's id is asked for, because a proxy tells one of its own in the handshake. In one phase (column 4: not) a
// branch may be committed only where the server has nothing to agree on: neither with a binary log nor between two
// engines that can prepare.
constexpr absl::string_view kIdentitySql =
    "SELECT CONCAT(@@hostname, ':', @@port), VERSION(), UNIX_TIMESTAMP() - VARIABLE_VALUE, CONNECTION_ID(),"
    "/*M! @@log_bin OR EXISTS (SELECT * FROM information_schema.ENGINES WHERE XA = 'YES' AND ENGINE <> 'InnoDB')*/"
    "/*!80000 1*/"
    "/*!80000 , (SELECT VARIABLE_VALUE FROM performance_schema.session_variables"
    " WHERE VARIABLE_NAME = 'xa_detach_on_prepare')*/"
    " FROM /*M! information_schema.GLOBAL_STATUS*/ /*!80000 performance_schema.global_status*/"
    " WHERE VARIABLE_NAME = 'UPTIME'";

// Of sessions that are ours to set up, the application's among them. A transaction that no branch is in the middle of
// would refuse XA START, and keep what Assent writes from ever being committed.
std::string BranchSettings(const ConnectOptions& options) {
  return absl::StrCat("SET SESSION autocommit=1, completion_type=0, lock_wait_timeout=",
                      WholeSeconds(options.lock_wait_timeout));
}

// What else the statements of recovery rest on. A limit on rows would make what is cut off look absent; READ
// UNCOMMITTED what is prepared look committed; READ COMMITTED refuses writes where binlog_format is STATEMENT. The
// times of InnoDB's views are in the server's own zone.
std::string CoordinatorSettings(const ConnectOptions& options) {
  return absl::StrCat(BranchSettings(options),
                      ";SET SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone='SYSTEM', "
                      "sql_select_limit=18446744073709551615, sql_safe_updates=0, sql_big_selects=1, "
                      "wait_timeout=28800, innodb_lock_wait_timeout=",
                      WholeSeconds(options.lock_wait_timeout),
                      ";SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE"
                      ";SET SESSION /*M! max_statement_time=0*/ /*!80000 max_execution_time=0*/");
}

// Of kIdentitySql.
constexpr size_t kConnectionColumn = 3;
constexpr size_t kTwoPhasesColumn = 4;
constexpr size_t kDetachColumn = 5;

constexpr int kErUnknownSystemVariable = 1193;
constexpr int kErLockDeadlock = 1213;
constexpr int kErXaerRmerr = 1401;

// The bytes of an xid in XA RECOVER's list: MariaDB sends them raw, MySQL as 0x… of twice the size (and two).
std::string DataOf(const std::string& sent, size_t size) {
  if (sent.size() != 2 * size + 2 || !absl::StartsWith(sent, "0x")) return sent;
  const std::string digits = sent.substr(2);
  if (!std::all_of(digits.begin(), digits.end(), [](char c) { return absl::ascii_isxdigit(c); })) return "";
  return absl::HexStringToBytes(digits);
}

// What kIdentitySql answered; nullopt if that cannot be read.
absl::optional<ServerIdentity> ReadIdentity(const QueryResult& result) {
  const auto& rows = result.rows();
  double start_s = 0;
  if (rows.size() != 1 || rows[0].size() <= kTwoPhasesColumn || !rows[0][0] || !rows[0][1] || !rows[0][2] ||
      !absl::SimpleAtod(*rows[0][2], &start_s)) {
    return absl::nullopt;
  }
  return ServerIdentity{*rows[0][0], *rows[0][1], absl::FromUnixSeconds(static_cast<int64_t>(start_s))};
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------------------
// Life of a session.

MariaDbSession::MariaDbSession(std::unique_ptr<MariaDbConnection> connection) : connection_(std::move(connection)) {}

absl::StatusOr<std::unique_ptr<MariaDbSession>> MariaDbSession::Connect(const ConnectOptions& options) {
  return ConnectWith(options, BranchSettings(options));
}

absl::StatusOr<std::unique_ptr<MariaDbSession>> MariaDbSession::ConnectForCoordinator(const ConnectOptions& options) {
  return ConnectWith(options, CoordinatorSettings(options));
}

absl::StatusOr<std::unique_ptr<MariaDbSession>> MariaDbSession::ConnectWith(const ConnectOptions& options,
                                                                            const std::string& settings) {
  absl::StatusOr<std::unique_ptr<MariaDbConnection>> connection = MariaDbConnection::Connect(options);
  if (!connection.ok()) return connection.status();
  std::unique_ptr<MariaDbSession> session(new MariaDbSession(*std::move(connection)));
  const DbError error = session->SetUp(settings);
  const absl::Status status = StatusOf(error, absl::StrCat("connecting to ", ToString(options.address)));
  if (!status.ok()) return status;
  return session;
}

absl::StatusOr<std::unique_ptr<MariaDbSession>> MariaDbSession::Adopt(st_mysql* handle) {
  absl::StatusOr<std::unique_ptr<MariaDbConnection>> connection = MariaDbConnection::Adopt(handle);
  if (!connection.ok()) return connection.status();
  std::unique_ptr<MariaDbSession> session(new MariaDbSession(*std::move(connection)));
  const absl::Status status = StatusOf(session->SetUp(""), "setting up the session");
  if (!status.ok()) return status;
  return session;
}

DbError MariaDbSession::SetUp(const std::string& settings) {
  const QueryResult result = Query(absl::StrCat(settings, settings.empty() ? "" : ";", kTrackSql, ";", kIdentitySql));
  if (result.ok()) server_ = ReadIdentity(result);
  if (server_) (void)absl::SimpleAtoi(result.rows()[0][kConnectionColumn].value_or(""), &connection_id_);
  commits_in_one_phase_ = server_ && result.rows()[0][kTwoPhasesColumn] == std::string("0");
  if (server_ && result.rows()[0].size() > kDetachColumn && result.rows()[0][kDetachColumn]) {
    knows_detach_ = true;
    detaches_ = *result.rows()[0][kDetachColumn] == "ON";
  }
  // A server without the detector (then every branch counts as written), or one that does not say who it is, can still
  // be connected to, and checked.
  const auto wanted =
      static_cast<size_t>(std::count(settings.begin(), settings.end(), ';')) + (settings.empty() ? 0 : 1);
  const bool set_up = result.results.size() > wanted || result.error.code == kErUnknownSystemVariable;
  return set_up && !lost() ? DbError{} : result.error;
}

MariaDbSession::~MariaDbSession() {
  if (connection_->handle() == nullptr || !holds_branch()) return;
  LOG(WARNING) << "a session ends while it holds a branch: gtrid=" << branch_xid_.gtrid
               << " bqual=" << branch_xid_.bqual << " connection_id=" << connection_id();
}

bool MariaDbSession::is_mysql() const { return server_ && !absl::StrContains(server_->version, "MariaDB"); }

v1::Session MariaDbSession::Describe() const {
  v1::Session described;
  if (!server_) return described;  // A connection id means nothing without its server.
  described.set_server(server_->name);
  described.set_connection_id(static_cast<int64_t>(connection_id()));
  SetTime(server_->start_time, described.mutable_server_start_time());
  described.set_detached(is_detached());
  return described;
}

bool MariaDbSession::holds_branch() const {
  return !lost() && ((branch_state_ == BranchState::kPrepared && !detaches_) || prepare_sent_);
}

absl::Status MariaDbSession::Close() {
  if (holds_branch() || answer_due()) {
    return MakeError(Reason::SESSION_HOLDS_BRANCH,
                     absl::StrCat("the session ", answer_due() ? "waits for an answer" : "holds a prepared branch",
                                  ": finish it before the connection is closed"),
                     {{"gtrid", branch_xid_.gtrid}, {"bqual", branch_xid_.bqual}});
  }
  Abandon();
  return absl::OkStatus();
}

void MariaDbSession::Abandon() {
  connection_->Close();
  due_ = Due::kNothing;
  NoteLoss();
}

st_mysql* MariaDbSession::BorrowHandle() {
  NoticeReset();
  if (lost() || answer_due() || branch_state_ == BranchState::kPrepared) return nullptr;
  reported_clean_ = false;  // Reports may arrive without this object's seeing them.
  borrowed_ = true;
  return connection_->handle();
}

DbError MariaDbSession::LostError() const {
  if (!reset_) return MariaDbConnection::LostError();
  return DbError{
      kSessionResetCode, "",
      "the connection was reset or given to another user while it held a branch; whoever lends the connection "
      "must not do that before the global transaction has ended. It is closed"};
}

void MariaDbSession::NoticeReset() {
  if (lost()) return;
  switch (guard_.Look()) {
    case SessionGuard::Handle::kUntouched: return;
    case SessionGuard::Handle::kReset:
      if (branch_state_ != BranchState::kNone && !is_detached()) MarkReset(/*in_time=*/!borrowed_);
      return;
    case SessionGuard::Handle::kClosed:
      connection_->Forget();
      NoteLoss();
      return;
  }
}

void MariaDbSession::MarkReset(bool in_time) {
  LOG(ERROR) << "the connection was reset while it held a branch, and is closed: gtrid=" << branch_xid_.gtrid
             << " bqual=" << branch_xid_.bqual << " branch=" << ToString(branch_state_)
             << " connection_id=" << connection_id();
  reset_ = true;
  // A prepared branch refuses statements, and so does this object then.
  ran_outside_ = !in_time && branch_state_ != BranchState::kPrepared;
  connection_->Shutdown();
  NoteLoss();
}

void MariaDbSession::NoteLoss() {
  if (branch_state_ != BranchState::kNone || prepare_sent_) branch_state_ = BranchState::kUnknown;
}

// ---------------------------------------------------------------------------------------------------------------------
// One batch on the wire.

void MariaDbSession::Send(Due due, absl::string_view sql) {
  CHECK(due_ == Due::kNothing) << "the answer to an earlier statement was not received; connection_id="
                               << connection_id();
  due_ = due;
  refusal_.reset();
  NoticeReset();
  connection_->Send(sql);
  sent_ = connection_->sent();
  if (lost()) NoteLoss();
}

void MariaDbSession::Refuse(Due due, DbError refusal) {
  CHECK(due_ == Due::kNothing) << "the answer to an earlier statement was not received; connection_id="
                               << connection_id();
  due_ = due;
  refusal_ = std::move(refusal);
  sent_ = false;
}

QueryResult MariaDbSession::ReceiveBatch(Due due) {
  CHECK(due_ == due) << "no such answer is due; connection_id=" << connection_id();
  due_ = Due::kNothing;
  if (refusal_) return QueryResult{*refusal_, {}};
  QueryResult batch = connection_->Receive();
  if (!sent_) batch.error = LostError();
  for (const ResultSet& result : batch.results) {
    if (result.transaction_state) ObserveState(*result.transaction_state);
  }
  if (lost()) NoteLoss();
  return batch;
}

void MariaDbSession::ObserveState(absl::string_view state) {
  // Eight characters: 'T' first in an explicit transaction; 'w' or 'W' somewhere if a table without or with
  // transactions was written. Without 'T' the report is not about a branch (somebody switched the reports off and on
  // again).
  if (state.find_first_of("wW") != absl::string_view::npos) written_ = true;
  report_arrived_ = true;
  reported_clean_ = !written_ && !state.empty() && state[0] == 'T';
  reported_unsafe_ = state.find('s') != absl::string_view::npos;
}

// ---------------------------------------------------------------------------------------------------------------------
// Statements of the application.

void MariaDbSession::SendQuery(absl::string_view sql, bool) { Send(Due::kQuery, sql); }

QueryResult MariaDbSession::ReceiveQuery() {
  QueryResult batch = ReceiveBatch(Due::kQuery);
  if (batch.error.code == kErLockDeadlock && branch_state_ == BranchState::kActive) {
    branch_state_ = BranchState::kRollbackOnly;
  }
  if (batch.error.ok() && branch_state_ == BranchState::kActive && !connection_->InTransaction()) {
    AskForReset();
    if (reset_) batch.error = LostError();
  }
  return batch;
}

void MariaDbSession::AskForReset() {
  Send(Due::kQuery, guard_.CheckSql());
  const QueryResult batch = ReceiveBatch(Due::kQuery);
  // If it is still the session, the database has ended the branch (a deadlock that a procedure's handler swallowed).
  if (SessionGuard::IsRefusal(batch.error.code) && !lost()) MarkReset(/*in_time=*/false);
}

void MariaDbSession::SendProbe() {
  report_arrived_ = false;
  if (written_) {
    Refuse(Due::kProbe, DbError{});
  } else {
    Send(Due::kProbe, kProbeSql);
  }
}

bool MariaDbSession::ReceiveProbe() {
  const bool asked = sent_;
  const QueryResult batch = ReceiveBatch(Due::kProbe);
  if (!asked || !batch.error.ok()) return true;
  // A report tells. Without one nothing has changed since the last, which must then have told of an unsafe statement:
  // if it did not, a report has gone astray (somebody else used the connection).
  return !(reported_clean_ && (report_arrived_ || reported_unsafe_));
}

// ---------------------------------------------------------------------------------------------------------------------
// Questions to the server.

absl::StatusOr<std::vector<RecoveredXid>> MariaDbSession::Recover() {
  // MySQL declares the raw bytes to be text.
  const QueryResult result = Query("XA RECOVER /*!80000 CONVERT XID*/");
  if (!result.ok()) {
    DbError error = result.error;
    // What MySQL says instead ("check your data for consistency") would alarm people.
    if (error.code == kErXaerRmerr && is_mysql()) error.message = "the account needs the privilege XA_RECOVER_ADMIN";
    return StatusOf(XaVerb::kRecover, OutcomeOf(XaVerb::kRecover, error.code), error);
  }
  std::vector<RecoveredXid> xids;
  for (const auto& row : result.rows()) {
    RecoveredXid xid;
    size_t gtrid_size = 0;
    size_t bqual_size = 0;
    if (row.size() != 4 || !row[0] || !row[1] || !row[2] || !row[3] || !absl::SimpleAtoi(*row[0], &xid.format_id) ||
        !absl::SimpleAtoi(*row[1], &gtrid_size) || !absl::SimpleAtoi(*row[2], &bqual_size)) {
      return MakeError(Reason::DATABASE_ERROR, "XA RECOVER has a row that cannot be read");
    }
    const std::string data = DataOf(*row[3], gtrid_size + bqual_size);
    if (data.size() != gtrid_size + bqual_size) {
      return MakeError(Reason::DATABASE_ERROR, "XA RECOVER has a row that cannot be read");
    }
    xid.gtrid = data.substr(0, gtrid_size);
    xid.bqual = data.substr(gtrid_size);
    xids.push_back(std::move(xid));
  }
  return xids;
}

absl::StatusOr<ServerIdentity> MariaDbSession::Identity() {
  const QueryResult result = Query(kIdentitySql);
  if (!result.ok()) return StatusOf(result.error, "reading the server's identity");
  const absl::optional<ServerIdentity> identity = ReadIdentity(result);
  if (!identity) return MakeError(Reason::DATABASE_ERROR, "the server's identity cannot be read");
  return *identity;
}

int MariaDbSession::SocketDue() const { return answer_due() && sent_ ? connection_->Socket() : -1; }

}  // namespace assent
