// MariaDbSession: one connection to a MariaDB or MySQL server, and the branch that it runs.
//
// What must never happen to a session while it has a branch: mysql_reset_connection, mysql_change_user, or a silent
// close. The first two roll an active branch back, and make MariaDB forget a prepared one although its locks stay (a
// later XA COMMIT, also here, answers OK and commits nothing); the last makes it detached. Hence holds_branch(),
// Close() and Abandon(); and if a pool does it behind this object's back it is noticed before anything is reported or
// finished (was_reset()).
//
// None of this is true of a prepared branch on MySQL 8.0.29 or later whose session has xa_detach_on_prepare=ON, which
// is the default: PREPARE lets go of it, and the session is free (detaches()). Where that is OFF, or not known, MySQL
// is like MariaDB, and a reset can even crash it.
#ifndef ASSENT_RESOURCE_MANAGER_MARIADB_SESSION_H_
#define ASSENT_RESOURCE_MANAGER_MARIADB_SESSION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "base/xid.h"
#include "mariadb/connection.h"
#include "resource_manager/branch_session.h"
#include "resource_manager/session_guard.h"

namespace assent {

// Thread-compatible: one thread at a time.
class MariaDbSession : public BranchSession {
 public:
  // Connects and prepares the session (multi-statements, the write detector, lock_wait_timeout; autocommit on and
  // completion_type 0, whatever the server's globals are: within a transaction no branch can start).
  // DATABASE_UNREACHABLE or, if the server refuses, DATABASE_ERROR with its error.
  static absl::StatusOr<std::unique_ptr<MariaDbSession>> Connect(const ConnectOptions& options);
  // The same for statements of Assent's own: sets everything that they rest on and that a global of the server's can
  // change.
  static absl::StatusOr<std::unique_ptr<MariaDbSession>> ConnectForCoordinator(const ConnectOptions& options);
  // Uses a connection of the application's, which stays its owner and must keep it open, unused and unchanged while the
  // session lives. Switches on multi-statements and the write detector on it (two round trips) and leaves both on, and
  // Connector/C's reconnect off. If it is reset while it holds a branch it is shut down, not closed: nobody else could
  // use it.
  static absl::StatusOr<std::unique_ptr<MariaDbSession>> Adopt(st_mysql* handle);

  ~MariaDbSession() override;

  // The server, as it was when the connection was made. nullopt if it would not say.
  const absl::optional<ServerIdentity>& server() const { return server_; }

  uint64_t connection_id() const override { return connection_id_ != 0 ? connection_id_ : connection_->id(); }
  v1::Session Describe() const override;
  // True if this is MySQL; false also if the server would not say who it is.
  bool is_mysql() const;
  // As of the connecting, and then of the last PREPARE. (It cannot be changed within a branch.)
  bool detaches() const override { return detaches_; }
  BranchState branch_state() const override { return branch_state_; }
  const Xid& branch_xid() const override { return branch_xid_; }
  bool holds_branch() const override;
  bool lost() const override { return connection_->lost(); }
  bool was_reset() const override { return reset_; }
  bool ran_outside() const override { return ran_outside_; }
  int64_t round_trips() const override { return connection_->round_trips(); }
  bool answer_due() const override { return due_ != Due::kNothing; }

  // XA START.
  void SendStart(const Xid& xid, absl::string_view first_sql = {}) override;
  StartResult ReceiveStart() override;

  // After a lost connection the error code is Connector/C's; after a reset kSessionResetCode, also for the statement
  // that ran after it unnoticed.
  void SendQuery(absl::string_view sql, bool keep = false) override;
  QueryResult ReceiveQuery() override;

  // True if the server has reported that the branch wrote, or tried to (a no-op UPDATE counts, and SELECT … FOR
  // UPDATE). False proves nothing: the server does not report with answers that have rows, nor with errors.
  bool has_written() const override { return written_; }
  void SendProbe() override;
  bool ReceiveProbe() override;

  // With a witness, PREPARE and one-phase COMMIT are refused (kWrongState) unless the branch is active: outside of it
  // the row would be false evidence.
  void SendEnd(const Xid& xid);
  void SendPrepare(const Xid& xid, const WitnessTable* witness) override;  // Witness row, XA END, XA PREPARE.
  // Not with a binary log: a crash of MariaDB (10.11) brings what it has answered OK to back as prepared, synced or not
  // (recovery_restart_test). MySQL: not measured.
  bool commits_in_one_phase() const override { return commits_in_one_phase_; }
  // Witness row (null: none), XA END, XA COMMIT ONE PHASE.
  void SendCommitOnePhase(const Xid& xid, const WitnessTable* witness) override;
  void SendCommit(const Xid& xid) override;
  // XA ROLLBACK, with XA END first if the branch is active.
  void SendRollback(const Xid& xid) override;
  XaResult Receive() override;

  XaResult End(const Xid& xid);
  XaResult CommitOnePhase(const Xid& xid, const WitnessTable* witness);

  absl::StatusOr<std::vector<RecoveredXid>> Recover() override;
  absl::StatusOr<ServerIdentity> Identity();

  absl::Status Close() override;
  void Abandon() override;
  st_mysql* BorrowHandle() override;

 protected:
  int SocketDue() const override;

 private:
  enum class Due { kNothing, kStart, kQuery, kProbe, kXa };
  explicit MariaDbSession(std::unique_ptr<MariaDbConnection> connection);

  static absl::StatusOr<std::unique_ptr<MariaDbSession>> ConnectWith(const ConnectOptions& options,
                                                                     const std::string& settings);
  // Switches on what every session needs, after `settings` (statements; may be empty).
  DbError SetUp(const std::string& settings);
  void Send(Due due, absl::string_view sql);
  std::string CheckSql(XaVerb verb) const;  // The guard in front of a verb.
  // Leaves the witness; without a guard in front of it, only if this is still the branch's session.
  std::string WitnessSql(const WitnessTable& witness, const Xid& xid) const;
  void SendXa(XaVerb verb, const Xid& xid, const WitnessTable* witness, std::vector<XaResult::Step> steps);
  // Reads everything that was sent for. Leaves the connection ready for the next batch.
  QueryResult ReceiveBatch(Due due);
  // Reads the server's report on the transaction.
  void ObserveState(absl::string_view state);
  // What the loss of the connection means for the branch.
  void NoteLoss();
  DbError LostError() const;
  // Looks, without asking the server, whether somebody has reset or closed the connection; then it is lost.
  void NoticeReset();
  // Asks the server the same, after an answer that does not look like one inside a branch.
  void AskForReset();
  // `in_time`: nothing was sent since.
  void MarkReset(bool in_time);
  // There is a branch, and PREPARE has let go of it.
  bool is_detached() const { return branch_state_ == BranchState::kPrepared && detaches_; }
  bool IsOwn(const Xid& xid) const { return branch_state_ != BranchState::kNone && branch_xid_ == xid; }
  // An answer is due without anything having been sent.
  void Refuse(Due due, DbError refusal);
  XaResult ReceiveXa();
  // What a step that succeeded or failed means for the branch.
  void StepDone(XaResult::Step step);
  void StepFailed(XaResult::Step step, XaOutcome outcome, int code);

  const std::unique_ptr<MariaDbConnection> connection_;
  bool reset_ = false;
  bool ran_outside_ = false;
  SessionGuard guard_;
  absl::optional<ServerIdentity> server_;
  bool commits_in_one_phase_ = false;
  uint64_t connection_id_ = 0;  // As the server itself says; 0: it does not.
  bool knows_detach_ = false;   // The server has the variable xa_detach_on_prepare.
  bool detaches_ = false;

  Due due_ = Due::kNothing;
  bool sent_ = false;                // False: nothing is on the wire; refusal_ or the loss of the connection says why.
  absl::optional<DbError> refusal_;  // Why nothing was sent, although the connection is good.
  XaOutcome refusal_outcome_ = XaOutcome::kInvalid;
  size_t due_before_first_ = 0;  // kStart: the answers due before that of the first statement.
  bool with_first_ = false;      // kStart: a first statement was sent along.
  XaVerb due_verb_ = XaVerb::kStart;
  Xid due_xid_;
  std::vector<XaResult::Step> due_steps_;

  BranchState branch_state_ = BranchState::kNone;
  Xid branch_xid_;
  bool prepare_sent_ = false;  // PREPARE is on the wire.
  bool borrowed_ = false;      // The handle was lent during this branch.
  bool written_ = false;
  // The last report of the server on the branch that arrived: in a branch and nothing written; an unsafe statement ran.
  bool reported_clean_ = false;
  bool reported_unsafe_ = false;
  bool report_arrived_ = false;  // Since the last SendProbe.
};

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_MARIADB_SESSION_H_
