// PostgresSession: one connection to a PostgreSQL server, and the branch that it runs.
//
// A branch is an ordinary transaction until PREPARE TRANSACTION, which lets go of it: the session is free at once, and
// any session of the same database and role, or a superuser's, may finish it. How it ended can be asked for afterwards:
// pg_xact_status of the transaction id that Describe() tells, so no witness row is needed (and none is left).
//
// What a branch must not do is end its transaction itself (COMMIT, ROLLBACK, BEGIN): it is noticed, at the latest in
// front of PREPARE, and what ran outside of the branch is told (ran_outside()). What PREPARE TRANSACTION cannot take
// along (temporary tables, LISTEN and NOTIFY, cursors WITH HOLD) makes it fail, and the branch is rolled back.
//
// Poolers: one that keeps a session on one server process (pgbouncer's pool_mode=session) does no harm. Behind one that
// does not, the branch is refused when its first statement meets another process than the session was set up on.
#ifndef ASSENT_RESOURCE_MANAGER_POSTGRES_SESSION_H_
#define ASSENT_RESOURCE_MANAGER_POSTGRES_SESSION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/connect_options.h"
#include "postgres/connection.h"
#include "resource_manager/branch_session.h"

namespace assent {

// Pure. What an error's SQLSTATE proves about a branch after `verb`; an error that is ok() is kOk.
XaOutcome PostgresOutcomeOf(XaVerb verb, const DbError& error);

// The server's word on itself and on the session, when the session was set up.
struct PostgresFacts {
  // The timeline is 0 on a server in recovery. A promotion, which begins another one, leaves its sessions as they are;
  // on a server that writes no other one begins without a restart.
  ServerIdentity identity;
  std::string user;
  bool is_superuser = false;
  int64_t pid = 0;
  absl::Time session_start;
  int64_t max_prepared_transactions = 0;
};

// Thread-compatible: one thread at a time.
class PostgresSession : public BranchSession {
 public:
  // Connects to options.database. DATABASE_UNREACHABLE or, if the server refuses, DATABASE_ERROR with its SQLSTATE.
  static absl::StatusOr<std::unique_ptr<PostgresSession>> Connect(const ConnectOptions& options);
  // The same for statements of Assent's own: sets everything that they rest on and that a setting of the server, the
  // database or the role can change.
  static absl::StatusOr<std::unique_ptr<PostgresSession>> ConnectForCoordinator(const ConnectOptions& options);
  // Uses a connection of the application's, which stays its owner and must keep it open and unused while the session
  // has a branch. Costs one round trip and changes nothing on it.
  static absl::StatusOr<std::unique_ptr<PostgresSession>> Adopt(pg_conn* handle);

  ~PostgresSession() override;

  const PostgresFacts& facts() const { return facts_; }
  // True if something between this program and the server answers in its name: a pooler.
  bool behind_a_pooler() const { return connection_->HandshakePid() != facts_.pid; }

  uint64_t connection_id() const override { return static_cast<uint64_t>(facts_.pid); }
  v1::Session Describe() const override;
  bool detaches() const override { return true; }
  BranchState branch_state() const override { return branch_state_; }
  const Xid& branch_xid() const override { return branch_xid_; }
  // Only while PREPARE is on its way: a prepared branch needs its session no more.
  bool holds_branch() const override { return !lost() && prepare_sent_; }
  bool lost() const override { return connection_->lost(); }
  bool was_reset() const override { return reset_; }
  bool ran_outside() const override { return ran_outside_; }
  int64_t round_trips() const override { return connection_->round_trips(); }
  bool answer_due() const override { return due_ != Due::kNothing; }

  // BEGIN. Refused (kOutside) within a transaction, and (kNotSupported) if the server prepares none.
  void SendStart(const Xid& xid, absl::string_view first_sql = {}) override;
  StartResult ReceiveStart() override;
  void SendQuery(absl::string_view sql, bool keep = false) override;
  QueryResult ReceiveQuery() override;
  // By the command tags: what an INSERT, UPDATE, … with rows, or DDL, has done. A function that writes is not seen.
  bool has_written() const override { return written_; }
  // By whether the transaction has an id, which whatever writes or locks rows gets.
  void SendProbe() override;
  bool ReceiveProbe() override;
  void SendPrepare(const Xid& xid, const WitnessTable* witness) override;
  void SendCommit(const Xid& xid) override;
  void SendRollback(const Xid& xid) override;
  // COMMIT. What failed (a serialization failure, say) is in the step kCommit, and is rolled back.
  void SendEndReadOnly(const Xid& xid) override;
  XaResult Receive() override;
  absl::StatusOr<std::vector<RecoveredXid>> Recover() override;
  absl::Status Close() override;
  void Abandon() override;
  pg_conn* BorrowPgHandle() override;

 protected:
  int SocketDue() const override { return answer_due() && sent_ ? connection_->Socket() : -1; }

 private:
  enum class Due { kNothing, kStart, kQuery, kProbe, kXa };
  using Step = XaResult::Step;
  explicit PostgresSession(std::unique_ptr<PostgresConnection> connection);

  static absl::StatusOr<std::unique_ptr<PostgresSession>> SetUp(std::unique_ptr<PostgresConnection> connection,
                                                                absl::string_view settings);
  void Send(Due due, absl::string_view sql);
  // An answer is due without anything having been sent; an OK one if `refusal` is ok().
  void Refuse(Due due, XaOutcome outcome, DbError refusal);
  QueryResult ReceiveBatch(Due due);
  // Of the verb and branch that are due.
  void SendXa(const std::string& sql);
  // In front of what must only run inside the branch: fails with IsRefusal on any other transaction; else its one
  // column is `column`.
  std::string GuardSql(absl::string_view column) const;
  static bool IsRefusal(const DbError& error);
  // Takes down what the answers tell of the branch, and whether its transaction is still there.
  void Observe(QueryResult* batch);
  void MarkReset();
  void NoteLoss();
  bool IsOwn(const Xid& xid) const { return branch_state_ != BranchState::kNone && branch_xid_ == xid; }

  const std::unique_ptr<PostgresConnection> connection_;
  PostgresFacts facts_;
  int handshake_pid_ = 0;
  bool reset_ = false;
  bool ran_outside_ = false;

  Due due_ = Due::kNothing;
  bool sent_ = false;  // False: nothing is on the wire; refusal_ or the loss of the connection says why.
  bool refused_ = false;
  DbError refusal_;
  XaOutcome refusal_outcome_ = XaOutcome::kInvalid;
  bool with_first_ = false;  // kStart: a first statement was sent along.
  bool keep_ = false;        // kQuery: the statement stands behind a savepoint.
  XaVerb due_verb_ = XaVerb::kStart;
  Xid due_xid_;

  BranchState branch_state_ = BranchState::kNone;
  Xid branch_xid_;
  bool prepare_sent_ = false;   // PREPARE is on the wire.
  bool asks_timeline_ = false;  // And the question for the timeline with it: the session is of a standby's time.
  bool written_ = false;
  int64_t transaction_id_ = 0;  // Of the prepared branch.
};

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_POSTGRES_SESSION_H_
