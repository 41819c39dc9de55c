#include "resource_manager/postgres_session.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "resource_manager/postgres_gid.h"

namespace assent {
namespace {

// A parameter that no server has: to ask for it is an error that nothing else raises.
constexpr absl::string_view kRefusal = "assent.not_in_this_branch";
// Set with SET LOCAL, so it ends with the transaction.
constexpr absl::string_view kBranchParameter = "assent.branch";
constexpr absl::string_view kSavepoint = "assent_keep";
constexpr size_t kStartResults = 2;  // BEGIN, and its guard.

// Of the WAL that the server writes; 0: it writes none, being in recovery.
constexpr absl::string_view kTimelineSql =
    "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 0 ELSE ('x'||pg_catalog.substr(pg_catalog.pg_walfile_name("
    "pg_catalog.pg_current_wal_lsn()),1,8))::bit(32)::int8 END";

constexpr absl::string_view kFactsSql =
    "SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()),current_database(),"
    "current_setting('server_version'),(extract(epoch from pg_postmaster_start_time())*1000000)::int8,"
    "pg_backend_pid(),(SELECT (extract(epoch from backend_start)*1000000)::int8 FROM "
    "pg_stat_get_activity(pg_backend_pid())),current_setting('max_prepared_transactions')::int8,"
    "current_user,(SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname=current_user)";

// What statements of Assent's own rest on: names mean what they are called, nothing ends them early or late, and no
// bytes of other people's gids are refused for being no text.
std::string CoordinatorSettings(const ConnectOptions& options) {
  return absl::StrCat(
      "SET search_path=pg_catalog;SET client_encoding='SQL_ASCII';SET statement_timeout=0;SET lock_timeout=",
      absl::ToInt64Milliseconds(options.lock_wait_timeout),
      ";SET idle_in_transaction_session_timeout=0;SET default_transaction_read_only=off;SET "
      "default_transaction_isolation='read committed';SET synchronous_commit=on;SET standard_conforming_strings=on;");
}

// What such a verb sends behind its guard.
XaResult::Step StepOf(XaVerb verb) {
  if (verb == XaVerb::kPrepare) return XaResult::Step::kPrepare;
  return verb == XaVerb::kRollback ? XaResult::Step::kRollback : XaResult::Step::kCommit;
}

bool Finishes(XaVerb verb) { return verb == XaVerb::kCommit || verb == XaVerb::kRollback; }

DbError CheckXid(const Xid& xid) {
  for (const absl::Status& status : {ValidateGtrid(xid.gtrid), ValidateBqual(xid.bqual)}) {
    if (!status.ok()) return DbError{0, "", std::string(status.message())};
  }
  return DbError{};
}

// A command that has changed rows, or anything else than rows.
bool Writes(const ResultSet& result) {
  for (const char* reads : {"SELECT", "FETCH", "MOVE", "SET", "SHOW", "BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK",
                            "DECLARE", "CLOSE", "EXPLAIN", "LOCK", "PREPARE", "DEALLOCATE", "DISCARD", "DO", "CALL"}) {
    if (absl::StartsWith(result.command_tag, reads)) return false;
  }
  return !absl::EndsWith(result.command_tag, " 0");
}

std::string AdviceOn(const DbError& error) {
  if (error.sqlstate == "53200" && absl::StrContains(error.message, "prepared transactions")) {
    return ": raise max_prepared_transactions (with max_connections it is usually safe) and restart the server";
  }
  if (error.sqlstate == "0A000") return ": leave it out of the branch, or do it on another session";
  return "";
}

}  // namespace

XaOutcome PostgresOutcomeOf(XaVerb verb, const DbError& error) {
  if (error.ok()) return XaOutcome::kOk;
  if (IsConnectionLost(error.code)) return XaOutcome::kConnectionLost;
  if (error.code == kSessionResetCode) return XaOutcome::kSessionReset;
  const std::string& state = error.sqlstate;
  if (state == "25P02") return XaOutcome::kWrongState;  // The transaction has failed before.
  // Whatever PREPARE TRANSACTION fails for, the transaction is rolled back.
  if (verb == XaVerb::kPrepare) return state == "42710" ? XaOutcome::kDuplicateXid : XaOutcome::kRolledBack;
  if (!Finishes(verb)) return XaOutcome::kError;
  if (state == "42704") return XaOutcome::kUnknownXid;
  if (state == "25001") return XaOutcome::kOutside;
  // Somebody is just finishing it; a standby, or read-only; cancelled; a lock; the server is out of something.
  for (const char* later : {"55000", "25006", "57014", "55P03"}) {
    if (state == later) return XaOutcome::kRetryLater;
  }
  return absl::StartsWith(state, "53") ? XaOutcome::kRetryLater : XaOutcome::kError;
}

// ---------------------------------------------------------------------------------------------------------------------
// Life of a session.

PostgresSession::PostgresSession(std::unique_ptr<PostgresConnection> connection)
    : connection_(std::move(connection)), handshake_pid_(connection_->HandshakePid()) {}

absl::StatusOr<std::unique_ptr<PostgresSession>> PostgresSession::Connect(const ConnectOptions& options) {
  absl::StatusOr<std::unique_ptr<PostgresConnection>> connection = PostgresConnection::Connect(options);
  return connection.ok() ? SetUp(*std::move(connection), "") : connection.status();
}

absl::StatusOr<std::unique_ptr<PostgresSession>> PostgresSession::ConnectForCoordinator(const ConnectOptions& options) {
  absl::StatusOr<std::unique_ptr<PostgresConnection>> connection = PostgresConnection::Connect(options);
  return connection.ok() ? SetUp(*std::move(connection), CoordinatorSettings(options)) : connection.status();
}

absl::StatusOr<std::unique_ptr<PostgresSession>> PostgresSession::Adopt(pg_conn* handle) {
  absl::StatusOr<std::unique_ptr<PostgresConnection>> connection = PostgresConnection::Adopt(handle);
  return connection.ok() ? SetUp(*std::move(connection), "") : connection.status();
}

absl::StatusOr<std::unique_ptr<PostgresSession>> PostgresSession::SetUp(std::unique_ptr<PostgresConnection> connection,
                                                                        absl::string_view settings) {
  std::unique_ptr<PostgresSession> session(new PostgresSession(std::move(connection)));
  const QueryResult result = session->Query(absl::StrCat(settings, kFactsSql, ",(", kTimelineSql, ")"));
  if (!result.ok()) return StatusOf(result.error, "setting up the session");
  const auto& row = result.rows()[0];
  PostgresFacts& facts = session->facts_;
  facts.identity.name = absl::StrCat(row[0].value_or("?"), "/", row[1].value_or("?"));
  facts.identity.version = absl::StrCat("PostgreSQL ", row[2].value_or("?"));
  facts.identity.start_time = absl::FromUnixMicros(NumberIn(row[3]));
  facts.pid = NumberIn(row[4]);
  facts.session_start = absl::FromUnixMicros(NumberIn(row[5]));
  facts.max_prepared_transactions = NumberIn(row[6]);
  facts.user = row[7].value_or("");
  facts.is_superuser = row[8] == std::string("t");
  facts.identity.timeline = NumberIn(row[9]);
  return session;
}

PostgresSession::~PostgresSession() {
  if (connection_->handle() == nullptr || !holds_branch()) return;
  LOG(WARNING) << "a session ends while it prepares a branch: gtrid=" << branch_xid_.gtrid
               << " bqual=" << branch_xid_.bqual << " pid=" << facts_.pid;
}

v1::Session PostgresSession::Describe() const {
  v1::Session described;
  described.set_server(facts_.identity.name);
  described.set_connection_id(facts_.pid);
  SetTime(facts_.identity.start_time, described.mutable_server_start_time());
  SetTime(facts_.session_start, described.mutable_session_start_time());
  if (branch_state_ != BranchState::kPrepared) return described;
  described.set_detached(true);
  described.set_transaction_id(transaction_id_);
  described.set_timeline(facts_.identity.timeline);
  return described;
}

absl::Status PostgresSession::Close() {
  if (holds_branch() || answer_due()) {
    return MakeError(Reason::SESSION_HOLDS_BRANCH, "the session waits for an answer: receive it before it is closed",
                     {{"gtrid", branch_xid_.gtrid}, {"bqual", branch_xid_.bqual}});
  }
  Abandon();
  return absl::OkStatus();
}

void PostgresSession::Abandon() {
  connection_->Close();
  due_ = Due::kNothing;
  NoteLoss();
}

pg_conn* PostgresSession::BorrowPgHandle() {
  if (lost() || answer_due() || branch_state_ == BranchState::kPrepared) return nullptr;
  return connection_->handle();
}

void PostgresSession::NoteLoss() {
  if (branch_state_ != BranchState::kNone || prepare_sent_) branch_state_ = BranchState::kUnknown;
}

void PostgresSession::MarkReset() {
  LOG(ERROR) << "the transaction of a branch was ended beside its participant, and the connection is closed: gtrid="
             << branch_xid_.gtrid << " bqual=" << branch_xid_.bqual << " pid=" << facts_.pid;
  reset_ = true;
  ran_outside_ = true;
  connection_->Shutdown();
  NoteLoss();
}

// ---------------------------------------------------------------------------------------------------------------------
// One message on the wire.

void PostgresSession::Send(Due due, absl::string_view sql) {
  CHECK(due_ == Due::kNothing) << "the answer to an earlier statement was not received; pid=" << facts_.pid;
  due_ = due;
  refused_ = false;
  // Made anew by whoever owns it (PQreset): another session, without the branch.
  if (!lost() && connection_->HandshakePid() != handshake_pid_) {
    if (branch_state_ == BranchState::kNone) {
      connection_->MarkLost();
    } else {
      MarkReset();
    }
  }
  connection_->Send(sql);
  sent_ = connection_->sent();
  if (lost()) NoteLoss();
}

void PostgresSession::Refuse(Due due, XaOutcome outcome, DbError refusal) {
  CHECK(due_ == Due::kNothing) << "the answer to an earlier statement was not received; pid=" << facts_.pid;
  due_ = due;
  refused_ = true;
  refusal_ = std::move(refusal);
  refusal_outcome_ = outcome;
  sent_ = false;
}

QueryResult PostgresSession::ReceiveBatch(Due due) {
  CHECK(due_ == due) << "no such answer is due; pid=" << facts_.pid;
  due_ = Due::kNothing;
  if (refused_) return QueryResult{refusal_, {}};
  QueryResult batch = connection_->Receive();
  if (lost()) NoteLoss();
  if (reset_) {
    batch.error =
        DbError{kSessionResetCode, "",
                "the transaction of the branch was ended beside it, by COMMIT or ROLLBACK in a statement or by "
                "whoever lends the connection. It is closed"};
  }
  return batch;
}

std::string PostgresSession::GuardSql(absl::string_view column) const {
  return absl::StrCat("SELECT CASE WHEN pg_catalog.pg_backend_pid()=", facts_.pid, " AND pg_catalog.current_setting('",
                      kBranchParameter, "',true)='", GidOf(branch_xid_), "' THEN ", column,
                      " ELSE pg_catalog.current_setting('", kRefusal, "') END");
}

bool PostgresSession::IsRefusal(const DbError& error) {
  return error.sqlstate == "42704" && absl::StrContains(error.message, kRefusal);
}

void PostgresSession::Observe(QueryResult* batch) {
  if (branch_state_ != BranchState::kActive && branch_state_ != BranchState::kRollbackOnly) return;
  bool ended = false;
  for (const ResultSet& result : batch->results) {
    written_ = written_ || Writes(result);
    ended = ended || result.command_tag == "COMMIT" || result.command_tag == "PREPARE TRANSACTION";
  }
  const PostgresConnection::Transaction transaction = connection_->transaction();
  if (ended || transaction == PostgresConnection::Transaction::kNone) {
    MarkReset();
    batch->error = DbError{kSessionResetCode, "",
                           "the statement has ended the transaction of the branch: COMMIT, ROLLBACK and PREPARE "
                           "TRANSACTION are for the global transaction to order. The connection is closed"};
  } else if (transaction == PostgresConnection::Transaction::kFailed) {
    branch_state_ = BranchState::kRollbackOnly;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Statements of the application.

void PostgresSession::SendQuery(absl::string_view sql, bool keep) {
  keep_ = keep && branch_state_ == BranchState::kActive;
  if (!keep_) return Send(Due::kQuery, sql);
  // The line break ends a comment that the statement may end with.
  Send(Due::kQuery, absl::StrCat("SAVEPOINT ", kSavepoint, ";", sql, "\n;RELEASE SAVEPOINT ", kSavepoint));
}

QueryResult PostgresSession::ReceiveQuery() {
  QueryResult batch = ReceiveBatch(Due::kQuery);
  if (keep_ && !lost()) {
    if (!batch.results.empty()) batch.results.erase(batch.results.begin());
    if (batch.ok() && !batch.results.empty()) batch.results.pop_back();
    if (!batch.ok() && connection_->transaction() == PostgresConnection::Transaction::kFailed) {
      // If that fails, too, the transaction stays failed.
      connection_->Query(absl::StrCat("ROLLBACK TO SAVEPOINT ", kSavepoint, ";RELEASE SAVEPOINT ", kSavepoint));
      if (lost()) NoteLoss();
    }
  }
  if (!lost()) Observe(&batch);
  return batch;
}

// Not empty if the transaction has an id, which whatever writes or locks rows gets; or if it has written a foreign
// table, for which the other server's transaction gets one. (Nobody else's locks are looked at where there is no such
// table.)
constexpr absl::string_view kHasWrittenSql =
    "COALESCE(pg_catalog.pg_current_xact_id_if_assigned()::text,"
    "CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_foreign_table) THEN "
    "(SELECT 'foreign' FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_class AS c ON c.oid=l.relation "
    "WHERE l.pid=pg_catalog.pg_backend_pid() AND l.mode='RowExclusiveLock' AND c.relkind='f' LIMIT 1) END,'')";

void PostgresSession::SendProbe() {
  if (written_) {
    Refuse(Due::kProbe, XaOutcome::kOk, DbError{});
  } else {
    Send(Due::kProbe, GuardSql(kHasWrittenSql));
  }
}

bool PostgresSession::ReceiveProbe() {
  const bool asked = sent_;
  const QueryResult batch = ReceiveBatch(Due::kProbe);
  if (asked && IsRefusal(batch.error) && !lost()) MarkReset();
  return !asked || !batch.ok() || batch.rows().empty() || batch.rows()[0][0] != std::string();
}

// ---------------------------------------------------------------------------------------------------------------------
// The verbs.

void PostgresSession::SendStart(const Xid& xid, absl::string_view first_sql) {
  due_xid_ = xid;
  with_first_ = !first_sql.empty();
  if (const DbError refusal = CheckXid(xid); !refusal.ok()) return Refuse(Due::kStart, XaOutcome::kInvalid, refusal);
  if (!lost() &&
      (branch_state_ != BranchState::kNone || connection_->transaction() != PostgresConnection::Transaction::kNone)) {
    return Refuse(Due::kStart, XaOutcome::kOutside, DbError{0, "25001", "there is a transaction in progress"});
  }
  if (!lost() && facts_.max_prepared_transactions == 0) {
    return Refuse(Due::kStart, XaOutcome::kNotSupported,
                  DbError{0, "55000",
                          "prepared transactions are disabled: set max_prepared_transactions (to max_connections or "
                          "more) in postgresql.conf and restart the server"});
  }
  Send(Due::kStart,
       absl::StrCat("BEGIN;SELECT CASE WHEN pg_catalog.pg_backend_pid()=", facts_.pid, " THEN pg_catalog.set_config('",
                    kBranchParameter, "','", GidOf(xid), "',true) ELSE pg_catalog.current_setting('", kRefusal,
                    "') END,pg_catalog.pg_advisory_xact_lock_shared(", kFormatId, ",",
                    static_cast<int32_t>(BranchLockOf(xid)), ")", with_first_ ? ";" : "", first_sql));
}

StartResult PostgresSession::ReceiveStart() {
  StartResult start;
  const bool refused = refused_;
  QueryResult batch = ReceiveBatch(Due::kStart);
  start.xa.sent = sent_;
  start.xa.branch = branch_state_;
  if (refused || (!batch.ok() && batch.results.size() < kStartResults)) {
    start.xa.failed_step = refused ? Step::kRefused : Step::kStart;
    start.xa.outcome = refused ? refusal_outcome_ : PostgresOutcomeOf(XaVerb::kStart, batch.error);
    if (IsRefusal(batch.error)) {
      start.xa.outcome = XaOutcome::kSessionReset;
      batch.error =
          DbError{kSessionResetCode, "",
                  "the connection leads to another server process than before: something hands its statements "
                  "out to several (pgbouncer with pool_mode transaction or statement). Use session pooling, or "
                  "connect to the server itself"};
    }
    start.xa.error = std::move(batch.error);
    if (sent_ && !lost() && connection_->transaction() != PostgresConnection::Transaction::kNone) {
      connection_->Query("ROLLBACK");
    }
    return start;
  }
  branch_xid_ = due_xid_;
  branch_state_ = BranchState::kActive;
  written_ = false;
  transaction_id_ = 0;
  batch.results.erase(batch.results.begin(), batch.results.begin() + kStartResults);
  if (lost()) {
    NoteLoss();
  } else {
    Observe(&batch);
  }
  start.xa.branch = branch_state_;
  if (with_first_) start.first = std::move(batch);
  return start;
}

void PostgresSession::SendXa(const std::string& sql) {
  if (const DbError refusal = CheckXid(due_xid_); !refusal.ok()) return Refuse(Due::kXa, XaOutcome::kInvalid, refusal);
  Send(Due::kXa, sql);
}

void PostgresSession::SendPrepare(const Xid& xid, const WitnessTable*) {
  due_verb_ = XaVerb::kPrepare;
  due_xid_ = xid;
  if (!lost() && !(IsOwn(xid) && branch_state_ == BranchState::kActive)) {
    return Refuse(
        Due::kXa, XaOutcome::kWrongState,
        DbError{0, "", absl::StrCat("the branch is not active on this session but ", ToString(branch_state_))});
  }
  // A PREPARE that is written to a connection that the server has closed gets no answer, and nobody could know whether
  // it arrived. Looking first makes most of these cases certain.
  if (!lost() && connection_->PeerHasClosed()) connection_->MarkLost();
  prepare_sent_ = !lost();
  asks_timeline_ = facts_.identity.timeline == 0;
  SendXa(absl::StrCat(GuardSql("pg_catalog.pg_current_xact_id()::text"), ";", asks_timeline_ ? kTimelineSql : "",
                      asks_timeline_ ? ";" : "", "PREPARE TRANSACTION '", GidOf(xid), "'"));
}

void PostgresSession::SendCommit(const Xid& xid) {
  due_verb_ = XaVerb::kCommit;
  due_xid_ = xid;
  if (!lost() && branch_state_ != BranchState::kNone && !(IsOwn(xid) && branch_state_ == BranchState::kPrepared)) {
    return Refuse(Due::kXa, XaOutcome::kWrongState,
                  DbError{0, "", absl::StrCat("the session has a branch that is ", ToString(branch_state_))});
  }
  SendXa(absl::StrCat("COMMIT PREPARED '", GidOf(xid), "'"));
}

void PostgresSession::SendRollback(const Xid& xid) {
  due_verb_ = XaVerb::kRollback;
  due_xid_ = xid;
  if (lost() || !IsOwn(xid) || branch_state_ == BranchState::kPrepared) {
    return SendXa(absl::StrCat("ROLLBACK PREPARED '", GidOf(xid), "'"));
  }
  if (connection_->transaction() == PostgresConnection::Transaction::kNone) {
    if (branch_state_ == BranchState::kRollbackOnly) {  // Already: by the failure of PREPARE.
      return Refuse(Due::kXa, XaOutcome::kOk, DbError{});
    }
    MarkReset();
  }
  const bool guarded = branch_state_ == BranchState::kActive;
  SendXa(guarded ? absl::StrCat(GuardSql("''"), ";ROLLBACK") : "ROLLBACK");
}

void PostgresSession::SendEndReadOnly(const Xid& xid) {
  if (lost() || !IsOwn(xid) || branch_state_ != BranchState::kActive) return SendRollback(xid);
  // Not ROLLBACK: under SERIALIZABLE what a transaction has read counts for others only if it commits.
  due_verb_ = XaVerb::kEnd;
  due_xid_ = xid;
  SendXa(absl::StrCat(GuardSql("''"), ";COMMIT"));
}

XaResult PostgresSession::Receive() {
  const bool refused = refused_;
  const bool own = IsOwn(due_xid_);
  QueryResult batch = ReceiveBatch(Due::kXa);
  prepare_sent_ = false;
  const bool prepared_before = branch_state_ == BranchState::kPrepared;
  XaResult result;
  result.sent = sent_;
  result.outcome = refused ? refusal_outcome_ : PostgresOutcomeOf(due_verb_, batch.error);
  if (refused && result.outcome != XaOutcome::kOk) {
    result.failed_step = Step::kRefused;
  } else if (!batch.ok()) {
    const bool in_guard = batch.results.empty() && (due_verb_ == XaVerb::kPrepare || due_verb_ == XaVerb::kEnd ||
                                                    (due_verb_ == XaVerb::kRollback && own && !prepared_before));
    result.failed_step = in_guard ? Step::kGuard : StepOf(due_verb_);
    if (in_guard && IsRefusal(batch.error) && !lost()) {
      MarkReset();
      batch.error = DbError{kSessionResetCode, "", "the transaction of the branch was ended beside it"};
      result.outcome = XaOutcome::kSessionReset;
    } else if (in_guard && due_verb_ == XaVerb::kRollback && !lost()) {
      // Cancelled, or the transaction had failed unseen: without the question then.
      branch_state_ = BranchState::kRollbackOnly;
      SendRollback(due_xid_);
      return Receive();
    } else if (in_guard && !lost()) {
      result.outcome = XaOutcome::kWrongState;
    }
    batch.error.message += AdviceOn(batch.error);
  } else if (due_verb_ == XaVerb::kPrepare && batch.results.back().command_tag != "PREPARE TRANSACTION") {
    // PostgreSQL answers so to PREPARE TRANSACTION of a failed transaction: it is rolled back.
    batch.error = DbError{0, "25P02", "the transaction had failed, and was rolled back instead of prepared"};
    result.failed_step = Step::kPrepare;
    result.outcome = XaOutcome::kRolledBack;
  }
  if (own && !lost()) {
    if (due_verb_ == XaVerb::kPrepare) {
      branch_state_ = result.ok() ? BranchState::kPrepared : BranchState::kRollbackOnly;
      if (result.ok()) transaction_id_ = NumberIn(batch.rows()[0][0]);
      if (result.ok() && asks_timeline_) facts_.identity.timeline = NumberIn(batch.results[1].rows[0][0]);
    } else if (result.ok() || result.outcome == XaOutcome::kUnknownXid) {
      branch_state_ = BranchState::kNone;
    } else if (due_verb_ == XaVerb::kEnd) {
      branch_state_ = BranchState::kRollbackOnly;
    }
  }
  result.error = std::move(batch.error);
  result.branch = branch_state_;
  return result;
}

absl::StatusOr<std::vector<RecoveredXid>> PostgresSession::Recover() {
  const QueryResult result =
      Query("SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database=pg_catalog.current_database()");
  if (!result.ok()) return StatusOf(result.error, "reading pg_prepared_xacts");
  std::vector<RecoveredXid> xids;
  for (const auto& row : result.rows()) xids.push_back(ParseGid(row[0].value_or("")));
  return xids;
}

}  // namespace assent
