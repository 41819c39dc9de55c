#include "resource_manager/mariadb_session.h"

#include <glog/logging.h>
#include <mariadb/errmsg.h>
#include <mariadb/mysql.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"

namespace assent {
namespace {

using Step = XaResult::Step;

// Makes the server report the state of the transaction with every change. A report comes only with an answer without
// rows. One that falls due with rows or with an error is kept, and sent neither then nor with the next answer, but with
// the next change, or when this statement is repeated.
constexpr absl::string_view kTrackSql = "SET SESSION session_track_transaction_info='STATE'";
// Brings an overdue report; and, as FOUND_ROWS() is "unsafe" ('s') to the server, one on that change if there was no
// unsafe statement before.
constexpr absl::string_view kProbeSql = "SET SESSION session_track_transaction_info='STATE';DO FOUND_ROWS()";

constexpr absl::string_view kIdentitySql =
    "SELECT CONCAT(@@hostname, ':', @@port), VERSION(), UNIX_TIMESTAMP() - VARIABLE_VALUE "
    "FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'UPTIME'";

constexpr int kErUnknownSystemVariable = 1193;
constexpr int kErLockDeadlock = 1213;
constexpr int kErXaerRmfail = 1399;

// How to prove the password without showing it, as Connector/C calls the plugins. Without this list a server could ask
// for the password in clear (mysql_clear_password, dialog), or for one that is sealed with a key of the server's own
// choice (caching_sha2_password, sha256_password), and everybody may pose as a server where there is no TLS.
constexpr char kAuthPlugins[] = "mysql_native_password,client_ed25519";

unsigned int WholeSeconds(absl::Duration duration) {
  return static_cast<unsigned int>(
      std::min<int64_t>(std::max<int64_t>(1, absl::ToInt64Seconds(absl::Ceil(duration, absl::Seconds(1)))), 31536000));
}

void InitLibrary() {
  static std::once_flag once;
  std::call_once(once, [] { mysql_library_init(0, nullptr, nullptr); });
}

// The statement of one step of a batch.
std::string SqlOf(Step step, XaVerb verb, const std::string& literal, const Xid& xid, const WitnessTable* witness) {
  switch (step) {
    case Step::kWitness: return witness->InsertSql(xid);
    case Step::kStart: return absl::StrCat("XA START ", literal);
    case Step::kEnd: return absl::StrCat("XA END ", literal);
    case Step::kPrepare: return absl::StrCat("XA PREPARE ", literal);
    case Step::kCommit: return absl::StrCat("XA COMMIT ", literal, verb == XaVerb::kCommitOnePhase ? " ONE PHASE" : "");
    case Step::kRollback: return absl::StrCat("XA ROLLBACK ", literal);
    case Step::kNone:
    case Step::kRefused: break;
  }
  LOG(FATAL) << "not a step: " << ToString(step);
  return "";
}

XaVerb VerbOf(Step step, XaVerb verb) {
  switch (step) {
    case Step::kStart: return XaVerb::kStart;
    case Step::kEnd: return XaVerb::kEnd;
    case Step::kPrepare: return XaVerb::kPrepare;
    default: return verb;
  }
}

DbError CheckXid(const Xid& xid) {
  for (const absl::Status& status : {ValidateGtrid(xid.gtrid), ValidateBqual(xid.bqual)}) {
    if (!status.ok()) return DbError{0, "", std::string(status.message())};
  }
  return DbError{};
}

DbError LostError() { return DbError{CR_SERVER_LOST, "HY000", "the connection is lost or closed"}; }

// What kIdentitySql answered; nullopt if that cannot be read.
absl::optional<ServerIdentity> ReadIdentity(const QueryResult& result) {
  const auto& rows = result.rows();
  double start_s = 0;
  if (rows.size() != 1 || rows[0].size() != 3 || !rows[0][0] || !rows[0][1] || !rows[0][2] ||
      !absl::SimpleAtod(*rows[0][2], &start_s)) {
    return absl::nullopt;
  }
  return ServerIdentity{*rows[0][0], *rows[0][1], absl::FromUnixSeconds(static_cast<int64_t>(start_s))};
}

}  // namespace

const std::vector<std::vector<absl::optional<std::string>>>& QueryResult::rows() const {
  static const auto* const kNone = new std::vector<std::vector<absl::optional<std::string>>>();
  for (const ResultSet& result : results) {
    if (!result.columns.empty()) return result.rows;
  }
  return *kNone;
}

uint64_t QueryResult::affected_rows() const {
  for (auto result = results.rbegin(); result != results.rend(); ++result) {
    if (result->columns.empty()) return result->affected_rows;
  }
  return 0;
}

absl::string_view ToString(BranchState state) {
  switch (state) {
    case BranchState::kNone: return "NONE";
    case BranchState::kActive: return "ACTIVE";
    case BranchState::kEnded: return "ENDED";
    case BranchState::kRollbackOnly: return "ROLLBACK_ONLY";
    case BranchState::kPrepared: return "PREPARED";
    case BranchState::kUnknown: return "UNKNOWN";
  }
  return "?";
}

absl::string_view ToString(XaResult::Step step) {
  switch (step) {
    case Step::kNone: return "NONE";
    case Step::kRefused: return "REFUSED";
    case Step::kStart: return "START";
    case Step::kWitness: return "WITNESS";
    case Step::kEnd: return "END";
    case Step::kPrepare: return "PREPARE";
    case Step::kCommit: return "COMMIT";
    case Step::kRollback: return "ROLLBACK";
  }
  return "?";
}

// ---------------------------------------------------------------------------------------------------------------------
// Life of a session.

MariaDbSession::MariaDbSession(st_mysql* mysql, bool owned) : mysql_(mysql), owned_(owned) {}

absl::StatusOr<std::unique_ptr<MariaDbSession>> MariaDbSession::Connect(const ConnectOptions& options) {
  InitLibrary();
  MYSQL* const mysql = mysql_init(nullptr);
  if (mysql == nullptr) return MakeError(Reason::DATABASE_ERROR, "out of memory for a connection");
  std::unique_ptr<MariaDbSession> session(new MariaDbSession(mysql, /*owned=*/true));
  const unsigned int connect_s = WholeSeconds(options.connect_timeout);
  const unsigned int read_s = WholeSeconds(options.read_timeout);
  const unsigned int write_s = WholeSeconds(options.write_timeout);
  const unsigned int no_local_infile = 0;  // A server must not be able to ask for this host's files.
  const my_bool no_reconnect = 0;
  // "localhost" would silently mean the default Unix socket.
  const unsigned int protocol = options.address.socket.empty() ? MYSQL_PROTOCOL_TCP : MYSQL_PROTOCOL_SOCKET;
  mysql_options(mysql, MYSQL_OPT_CONNECT_TIMEOUT, &connect_s);
  mysql_options(mysql, MYSQL_OPT_READ_TIMEOUT, &read_s);
  mysql_options(mysql, MYSQL_OPT_WRITE_TIMEOUT, &write_s);
  mysql_options(mysql, MYSQL_OPT_LOCAL_INFILE, &no_local_infile);
  mysql_options(mysql, MYSQL_OPT_RECONNECT, &no_reconnect);
  mysql_options(mysql, MYSQL_OPT_PROTOCOL, &protocol);
  mysql_options(mysql, MARIADB_OPT_RESTRICTED_AUTH, kAuthPlugins);
  mysql_options(mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4");
  const Address& address = options.address;
  DbError error;
  if (mysql_real_connect(mysql, address.socket.empty() ? address.host.c_str() : nullptr, options.user.c_str(),
                         options.password.c_str(), options.database.empty() ? nullptr : options.database.c_str(),
                         static_cast<unsigned int>(address.port),
                         address.socket.empty() ? nullptr : address.socket.c_str(),
                         CLIENT_MULTI_STATEMENTS) == nullptr) {
    error = session->TakeError();
  } else {
    error = session->SetUp(options.lock_wait_timeout);
  }
  const absl::Status status = StatusOf(error, absl::StrCat("connecting to ", ToString(address)));
  if (!status.ok()) return status;
  return session;
}

absl::StatusOr<std::unique_ptr<MariaDbSession>> MariaDbSession::Adopt(st_mysql* handle) {
  std::unique_ptr<MariaDbSession> session(new MariaDbSession(handle, /*owned=*/false));
  DbError error;
  if (mysql_set_server_option(handle, MYSQL_OPTION_MULTI_STATEMENTS_ON) != 0) {
    error = session->TakeError();
  } else {
    error = session->SetUp(absl::nullopt);
  }
  const absl::Status status = StatusOf(error, "setting up the session");
  if (!status.ok()) return status;
  return session;
}

DbError MariaDbSession::SetUp(absl::optional<absl::Duration> lock_wait_timeout) {
  connection_id_ = mysql_thread_id(mysql_);
  std::string sql(kTrackSql);
  if (lock_wait_timeout) absl::StrAppend(&sql, ", SESSION lock_wait_timeout=", WholeSeconds(*lock_wait_timeout));
  absl::StrAppend(&sql, ";", kIdentitySql);
  const QueryResult result = Query(sql);
  if (result.ok()) server_ = ReadIdentity(result);
  // A server without the detector (then every branch counts as written), or one that does not say who it is, can still
  // be connected to, and checked.
  const bool set_up = !result.results.empty() || result.error.code == kErUnknownSystemVariable;
  return set_up && !lost_ ? DbError{} : result.error;
}

MariaDbSession::~MariaDbSession() {
  if (mysql_ == nullptr) return;
  if (holds_branch()) {
    LOG(WARNING) << "a session ends while it holds a branch: gtrid=" << branch_xid_.gtrid
                 << " bqual=" << branch_xid_.bqual << " connection_id=" << connection_id_;
  }
  if (owned_) mysql_close(mysql_);
}

bool MariaDbSession::holds_branch() const {
  return !lost_ && (branch_state_ == BranchState::kPrepared || prepare_sent_);
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
  if (mysql_ != nullptr && owned_) mysql_close(mysql_);
  mysql_ = nullptr;
  due_ = Due::kNothing;
  MarkLost();
}

st_mysql* MariaDbSession::BorrowHandle() {
  if (lost_ || answer_due() || branch_state_ == BranchState::kPrepared) return nullptr;
  reported_clean_ = false;  // Reports may arrive without this object's seeing them.
  return mysql_;
}

void MariaDbSession::MarkLost() {
  lost_ = true;
  if (branch_state_ != BranchState::kNone || prepare_sent_) branch_state_ = BranchState::kUnknown;
}

bool MariaDbSession::PeerHasClosed() const {
  pollfd fd = {static_cast<int>(mysql_get_socket(mysql_)), POLLRDHUP, 0};
  return poll(&fd, 1, 0) > 0 && (fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// One batch on the wire.

void MariaDbSession::Send(Due due, absl::string_view sql) {
  CHECK(due_ == Due::kNothing) << "the answer to an earlier statement was not received; connection_id="
                               << connection_id_;
  due_ = due;
  refusal_ = DbError{};
  sent_ = false;
  if (lost_) return;
  ++round_trips_;
  sent_ = mysql_send_query(mysql_, sql.data(), sql.size()) == 0;
  if (!sent_) MarkLost();
}

void MariaDbSession::Refuse(Due due, DbError refusal) {
  CHECK(due_ == Due::kNothing) << "the answer to an earlier statement was not received; connection_id="
                               << connection_id_;
  due_ = due;
  refusal_ = std::move(refusal);
  sent_ = false;
}

MariaDbSession::Batch MariaDbSession::ReceiveBatch(Due due) {
  CHECK(due_ == due) << "no such answer is due; connection_id=" << connection_id_;
  due_ = Due::kNothing;
  Batch batch;
  if (!sent_) {
    batch.error = refusal_.ok() ? LostError() : refusal_;
    return batch;
  }
  bool more = mysql_read_query_result(mysql_) == 0;
  if (!more) batch.error = TakeError();
  while (more) {
    ResultSet result;
    if (!ReceiveOne(&result, &batch.error)) break;
    batch.results.push_back(std::move(result));
    const int next = mysql_next_result(mysql_);
    if (next > 0) batch.error = TakeError();
    more = next == 0;
  }
  if (IsConnectionLost(batch.error.code)) MarkLost();
  return batch;
}

bool MariaDbSession::ReceiveOne(ResultSet* result, DbError* error) {
  if (mysql_field_count(mysql_) == 0) {
    result->affected_rows = mysql_affected_rows(mysql_);
    result->last_insert_id = mysql_insert_id(mysql_);
    result->warnings = mysql_warning_count(mysql_);
    ObserveState();
    return true;
  }
  MYSQL_RES* const rows = mysql_store_result(mysql_);
  if (rows == nullptr) {
    *error = TakeError();
    return false;
  }
  result->warnings = mysql_warning_count(mysql_);
  const unsigned int columns = mysql_num_fields(rows);
  const MYSQL_FIELD* const fields = mysql_fetch_fields(rows);
  for (unsigned int i = 0; i < columns; ++i) result->columns.emplace_back(fields[i].name, fields[i].name_length);
  result->rows.reserve(mysql_num_rows(rows));
  while (const MYSQL_ROW row = mysql_fetch_row(rows)) {
    const unsigned long* const lengths = mysql_fetch_lengths(rows);  // NOLINT: Connector/C's type.
    result->rows.emplace_back(columns);
    for (unsigned int i = 0; i < columns; ++i) {
      if (row[i] != nullptr) result->rows.back()[i].emplace(row[i], lengths[i]);
    }
  }
  mysql_free_result(rows);
  return true;
}

void MariaDbSession::ObserveState() {
  const char* data = nullptr;
  size_t size = 0;
  if (mysql_session_track_get_first(mysql_, SESSION_TRACK_TRANSACTION_STATE, &data, &size) != 0) return;
  // Eight characters: 'T' first in an explicit transaction; 'w' or 'W' somewhere if a table without or with
  // transactions was written. Without 'T' the report is not about a branch (somebody switched the reports off and on
  // again).
  const absl::string_view state(data, size);
  if (state.find_first_of("wW") != absl::string_view::npos) written_ = true;
  report_arrived_ = true;
  reported_clean_ = !written_ && !state.empty() && state[0] == 'T';
  reported_unsafe_ = state.find('s') != absl::string_view::npos;
}

// As of the server's last answer that was not an error.
bool MariaDbSession::InTransaction() const { return !lost_ && (mysql_->server_status & SERVER_STATUS_IN_TRANS) != 0; }

DbError MariaDbSession::TakeError() {
  DbError error{static_cast<int>(mysql_errno(mysql_)), mysql_sqlstate(mysql_), mysql_error(mysql_)};
  if (error.code == 0) error = LostError();  // Connector/C failed without saying why.
  return error;
}

// ---------------------------------------------------------------------------------------------------------------------
// Statements of the application.

void MariaDbSession::SendQuery(absl::string_view sql) { Send(Due::kQuery, sql); }

QueryResult MariaDbSession::ReceiveQuery() {
  Batch batch = ReceiveBatch(Due::kQuery);
  if (batch.error.code == kErLockDeadlock && branch_state_ == BranchState::kActive) {
    branch_state_ = BranchState::kRollbackOnly;
  }
  return QueryResult{std::move(batch.error), std::move(batch.results)};
}

QueryResult MariaDbSession::Query(absl::string_view sql) {
  SendQuery(sql);
  return ReceiveQuery();
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
  const Batch batch = ReceiveBatch(Due::kProbe);
  if (!asked || !batch.error.ok()) return true;
  // A report tells. Without one nothing has changed since the last, which must then have told of an unsafe statement:
  // if it did not, a report has gone astray (somebody else used the connection).
  return !(reported_clean_ && (report_arrived_ || reported_unsafe_));
}

bool MariaDbSession::MayHaveWritten() {
  SendProbe();
  return ReceiveProbe();
}

// ---------------------------------------------------------------------------------------------------------------------
// XA verbs.

void MariaDbSession::SendStart(const Xid& xid, absl::string_view first_sql) {
  due_xid_ = xid;
  with_first_ = !first_sql.empty();
  const DbError refusal = CheckXid(xid);
  if (!refusal.ok()) return Refuse(Due::kStart, refusal);
  // A report on the new branch may come with the very answer to XA START. If there is a branch already, START must
  // fail.
  if (branch_state_ == BranchState::kNone) written_ = reported_clean_ = reported_unsafe_ = false;
  Send(Due::kStart, absl::StrCat("XA START ", XidSqlLiteral(xid), with_first_ ? ";" : "", first_sql));
}

StartResult MariaDbSession::ReceiveStart() {
  const bool refused = !refusal_.ok();
  Batch batch = ReceiveBatch(Due::kStart);
  StartResult result;
  if (batch.results.empty()) {
    result.xa.outcome = refused ? XaOutcome::kInvalid : OutcomeOf(XaVerb::kStart, batch.error.code);
    result.xa.failed_step = refused ? Step::kRefused : Step::kStart;
    result.xa.error = std::move(batch.error);
    result.xa.branch = branch_state_;
    return result;
  }
  branch_xid_ = due_xid_;
  branch_state_ = lost_ ? BranchState::kUnknown : BranchState::kActive;
  if (with_first_) {
    if (batch.error.code == kErLockDeadlock) branch_state_ = BranchState::kRollbackOnly;
    batch.results.erase(batch.results.begin());  // The answer to XA START.
    result.first = QueryResult{std::move(batch.error), std::move(batch.results)};
  }
  result.xa.branch = branch_state_;
  return result;
}

StartResult MariaDbSession::Start(const Xid& xid, absl::string_view first_sql) {
  SendStart(xid, first_sql);
  return ReceiveStart();
}

void MariaDbSession::SendXa(XaVerb verb, const Xid& xid, const WitnessTable* witness, std::vector<Step> steps) {
  due_verb_ = verb;
  due_xid_ = xid;
  due_steps_ = std::move(steps);
  refusal_outcome_ = XaOutcome::kInvalid;
  const DbError refusal = CheckXid(xid);
  if (!refusal.ok()) return Refuse(Due::kXa, refusal);
  if (witness != nullptr && !(IsOwn(xid) && branch_state_ == BranchState::kActive && InTransaction())) {
    // Outside of its branch the witness would be committed at once: evidence of a commit that never was.
    if (lost_) return Send(Due::kXa, "");
    refusal_outcome_ = XaOutcome::kWrongState;
    return Refuse(Due::kXa, DbError{0, "",
                                    absl::StrCat("the branch is not active on this session but ",
                                                 ToString(IsOwn(xid) ? branch_state_ : BranchState::kNone))});
  }
  const std::string literal = XidSqlLiteral(xid);
  std::string sql;
  for (const Step step : due_steps_) {
    absl::StrAppend(&sql, sql.empty() ? "" : ";", SqlOf(step, verb, literal, xid, witness));
  }
  // A PREPARE that is written to a connection that the server has closed gets no answer, and nobody could know whether
  // it arrived. Looking first makes most of these cases certain.
  if ((verb == XaVerb::kPrepare || verb == XaVerb::kCommitOnePhase) && !lost_ && PeerHasClosed()) MarkLost();
  prepare_sent_ = verb == XaVerb::kPrepare && !lost_;
  Send(Due::kXa, sql);
}

void MariaDbSession::SendEnd(const Xid& xid) { SendXa(XaVerb::kEnd, xid, nullptr, {Step::kEnd}); }

void MariaDbSession::SendPrepare(const Xid& xid, const WitnessTable* witness) {
  std::vector<Step> steps;
  if (witness != nullptr) steps.push_back(Step::kWitness);
  if (branch_state_ == BranchState::kActive) steps.push_back(Step::kEnd);
  steps.push_back(Step::kPrepare);
  SendXa(XaVerb::kPrepare, xid, witness, std::move(steps));
}

void MariaDbSession::SendCommitOnePhase(const Xid& xid, const WitnessTable* witness) {
  std::vector<Step> steps;
  if (witness != nullptr) steps.push_back(Step::kWitness);
  if (branch_state_ == BranchState::kActive) steps.push_back(Step::kEnd);
  steps.push_back(Step::kCommit);
  SendXa(XaVerb::kCommitOnePhase, xid, witness, std::move(steps));
}

void MariaDbSession::SendCommit(const Xid& xid) { SendXa(XaVerb::kCommit, xid, nullptr, {Step::kCommit}); }

void MariaDbSession::SendRollback(const Xid& xid) {
  if (IsOwn(xid) && branch_state_ == BranchState::kActive) {
    SendXa(XaVerb::kRollback, xid, nullptr, {Step::kEnd, Step::kRollback});
  } else {
    SendXa(XaVerb::kRollback, xid, nullptr, {Step::kRollback});
  }
}

XaResult MariaDbSession::Receive() {
  XaResult result = ReceiveXa();
  if (due_verb_ == XaVerb::kRollback && result.failed_step == Step::kEnd && !lost_) {
    // The database had ended the branch already (a deadlock that a procedure's handler swallowed, for one).
    SendXa(XaVerb::kRollback, due_xid_, nullptr, {Step::kRollback});
    result = ReceiveXa();
  }
  return result;
}

XaResult MariaDbSession::ReceiveXa() {
  const bool refused = !refusal_.ok();
  Batch batch = ReceiveBatch(Due::kXa);
  prepare_sent_ = false;
  XaResult result;
  if (refused) {
    result.outcome = refusal_outcome_;
    result.failed_step = Step::kRefused;
  } else {
    const size_t done = std::min(batch.results.size(), due_steps_.size());
    for (size_t i = 0; i < done; ++i) StepDone(due_steps_[i]);
    if (!batch.error.ok()) {
      result.failed_step = due_steps_[std::min(done, due_steps_.size() - 1)];
      if (result.failed_step == Step::kWitness) {
        result.outcome = IsConnectionLost(batch.error.code) ? XaOutcome::kConnectionLost : XaOutcome::kError;
      } else {
        result.outcome = OutcomeOf(VerbOf(result.failed_step, due_verb_), batch.error.code);
      }
      StepFailed(result.failed_step, result.outcome, batch.error.code);
    }
  }
  result.error = std::move(batch.error);
  result.branch = branch_state_;
  result.sent = sent_;
  return result;
}

void MariaDbSession::StepDone(Step step) {
  if (!IsOwn(due_xid_) || lost_) return;
  switch (step) {
    case Step::kEnd: branch_state_ = BranchState::kEnded; break;
    case Step::kPrepare: branch_state_ = BranchState::kPrepared; break;
    case Step::kCommit:
    case Step::kRollback: branch_state_ = BranchState::kNone; break;
    case Step::kNone:
    case Step::kRefused:
    case Step::kStart:
    case Step::kWitness: break;
  }
}

void MariaDbSession::StepFailed(Step step, XaOutcome outcome, int code) {
  if (!IsOwn(due_xid_) || lost_) return;
  switch (step) {
    case Step::kWitness:
      if (code == kErLockDeadlock) branch_state_ = BranchState::kRollbackOnly;
      break;
    case Step::kEnd:
      // An active branch that cannot be ended has been marked by the database.
      if (branch_state_ == BranchState::kActive && (code == kErXaerRmfail || outcome == XaOutcome::kRolledBack)) {
        branch_state_ = BranchState::kRollbackOnly;
      }
      break;
    case Step::kPrepare:
      if (outcome == XaOutcome::kRolledBack) branch_state_ = BranchState::kNone;
      if (outcome == XaOutcome::kWrongState && branch_state_ == BranchState::kEnded) {
        branch_state_ = BranchState::kRollbackOnly;
      }
      break;
    case Step::kCommit:
      if (outcome == XaOutcome::kRolledBack) branch_state_ = BranchState::kNone;
      break;
    case Step::kRollback:
      if (outcome == XaOutcome::kRolledBack || outcome == XaOutcome::kUnknownXid) branch_state_ = BranchState::kNone;
      break;
    case Step::kNone:
    case Step::kRefused:
    case Step::kStart: break;
  }
}

XaResult MariaDbSession::End(const Xid& xid) {
  SendEnd(xid);
  return Receive();
}

XaResult MariaDbSession::EndAndPrepare(const Xid& xid, const WitnessTable* witness) {
  SendPrepare(xid, witness);
  return Receive();
}

XaResult MariaDbSession::CommitOnePhase(const Xid& xid, const WitnessTable* witness) {
  SendCommitOnePhase(xid, witness);
  return Receive();
}

XaResult MariaDbSession::Commit(const Xid& xid) {
  SendCommit(xid);
  return Receive();
}

XaResult MariaDbSession::Rollback(const Xid& xid) {
  SendRollback(xid);
  return Receive();
}

// ---------------------------------------------------------------------------------------------------------------------
// Questions to the server.

absl::StatusOr<std::vector<RecoveredXid>> MariaDbSession::Recover() {
  const QueryResult result = Query("XA RECOVER");
  if (!result.ok()) return StatusOf(XaVerb::kRecover, OutcomeOf(XaVerb::kRecover, result.error.code), result.error);
  std::vector<RecoveredXid> xids;
  for (const auto& row : result.rows()) {
    RecoveredXid xid;
    size_t gtrid_size = 0;
    size_t bqual_size = 0;
    if (row.size() != 4 || !row[0] || !row[1] || !row[2] || !row[3] || !absl::SimpleAtoi(*row[0], &xid.format_id) ||
        !absl::SimpleAtoi(*row[1], &gtrid_size) || !absl::SimpleAtoi(*row[2], &bqual_size) ||
        row[3]->size() != gtrid_size + bqual_size) {
      return MakeError(Reason::DATABASE_ERROR, "XA RECOVER has a row that cannot be read");
    }
    xid.gtrid = row[3]->substr(0, gtrid_size);
    xid.bqual = row[3]->substr(gtrid_size);
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

std::vector<MariaDbSession*> MariaDbSession::WaitAny(absl::Span<MariaDbSession* const> sessions,
                                                     absl::Duration timeout) {
  std::vector<MariaDbSession*> ready;
  std::vector<pollfd> fds;
  std::vector<MariaDbSession*> polled;
  for (MariaDbSession* session : sessions) {
    if (!session->answer_due() || !session->sent_) {
      ready.push_back(session);
    } else {
      fds.push_back(pollfd{static_cast<int>(mysql_get_socket(session->mysql_)), POLLIN, 0});
      polled.push_back(session);
    }
  }
  const absl::Time deadline = absl::Now() + timeout;
  for (;;) {
    const absl::Duration left =
        ready.empty() ? std::max(absl::ZeroDuration(), deadline - absl::Now()) : absl::ZeroDuration();
    // poll counts in int milliseconds; round up, or the last fraction would be a busy loop.
    const int64_t ms = std::min<int64_t>(absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))), 86400000);
    const int got = poll(fds.data(), fds.size(), static_cast<int>(ms));
    if (got < 0 && errno == EINTR) continue;
    for (size_t i = 0; i < fds.size(); ++i) {
      if (got < 0 || fds[i].revents != 0) ready.push_back(polled[i]);
    }
    if (!ready.empty() || absl::Now() >= deadline) return ready;
  }
}

}  // namespace assent
