// MariaDbSession: one connection to a MariaDB server, and the branch that it runs.
//
// Each verb is there twice: whole, and split into Send… and Receive…, so that one thread can send PREPARE or COMMIT to
// many sessions at once and then collect the answers:
//
//   for (MariaDbSession* s : sessions) s->SendCommit(xid_of[s]);
//   while (!waiting.empty()) for (MariaDbSession* s : MariaDbSession::WaitAny(waiting, timeout)) … s->Receive() …
//
// After a Send the answer is due: the matching Receive must be next (anything else is a programming error and dies). A
// Send never fails and never waits for the server; what goes wrong is in the answer.
//
// What must never happen to a session while it has a branch: mysql_reset_connection, mysql_change_user, or a silent
// close. The first two roll an active branch back, and make MariaDB forget a prepared one although its locks stay (a
// later XA COMMIT, also here, answers OK and commits nothing); the last makes it detached. Hence holds_branch(),
// Close() and Abandon(); and if a pool does it behind this object's back it is noticed before anything is reported or
// finished (was_reset()). There is no automatic reconnect: a new connection would not have the branch.
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
#include "resource_manager/session_guard.h"
#include "resource_manager/witness_table.h"
#include "resource_manager/xa_outcome.h"

namespace assent {

// Where the branch of a session stands.
enum class BranchState {
  kNone,          // There is no branch.
  kActive,        // Between XA START and XA END.
  kEnded,         // After XA END.
  kRollbackOnly,  // The database has marked it (deadlock victim): only Rollback is possible.
  kPrepared,
  kUnknown,  // The connection is lost; see XaOutcome::kConnectionLost for what that leaves.
};
absl::string_view ToString(BranchState state);

// The answer to a verb or to a batch of verbs.
struct XaResult {
  // The part of a batch that failed; what came before it was done, what comes after it did not run.
  // kGuard: the question whether this is still the branch's session, in front of every verb of its own branch.
  enum class Step { kNone, kRefused, kGuard, kStart, kWitness, kEnd, kPrepare, kCommit, kRollback };

  // Of the failed step, or kOk. A failed witness INSERT is kError (or kConnectionLost). kRefused: nothing was sent (an
  // invalid xid is kInvalid).
  XaOutcome outcome = XaOutcome::kOk;
  Step failed_step = Step::kNone;
  DbError error;
  // The state of this session's branch now.
  BranchState branch = BranchState::kNone;
  // False: the server certainly saw nothing of it (the connection was found closed before or while it was sent).
  bool sent = false;

  bool ok() const { return outcome == XaOutcome::kOk; }
};
absl::string_view ToString(XaResult::Step step);

struct StartResult {
  XaResult xa;
  // What the first statement answered; nullopt if none was given or XA START failed (then it did not run).
  absl::optional<QueryResult> first;
};

// A prepared branch as XA RECOVER lists it. Raw bytes: it may be anybody's.
struct RecoveredXid {
  int64_t format_id = 0;
  std::string gtrid;
  std::string bqual;
};

// Names the server and this life of it.
struct ServerIdentity {
  std::string host_and_port;  // @@hostname:@@port
  std::string version;        // e.g. "10.11.6-MariaDB-log"
  // By the server's clock; computed from its uptime, so one second of difference is none. Moves when it restarts.
  absl::Time start_time;
};

// Thread-compatible: one thread at a time.
class MariaDbSession {
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

  // Closes an owned connection, an adopted one stays open. If a branch is held, that is logged: use Close or Abandon.
  ~MariaDbSession();
  MariaDbSession(const MariaDbSession&) = delete;
  MariaDbSession& operator=(const MariaDbSession&) = delete;

  // The server's id of this connection, as in its process list.
  uint64_t connection_id() const { return connection_->id(); }
  // The server, as it was when the connection was made. nullopt if it would not say.
  const absl::optional<ServerIdentity>& server() const { return server_; }
  BranchState branch_state() const { return branch_state_; }
  // The branch; meaningful unless branch_state() is kNone.
  const Xid& branch_xid() const { return branch_xid_; }
  // True from the moment PREPARE is sent until the branch is known to be finished: the connection must not be handed
  // back, reset, reused or closed.
  bool holds_branch() const;
  // True once the connection cannot be used any more. All later verbs answer kConnectionLost (kSessionReset if
  // was_reset()).
  bool lost() const { return connection_->lost(); }
  // True once it was noticed that somebody reset the connection, or gave it to another user, while it held a branch. An
  // owned connection is closed then, an adopted one shut down, so that recovery finds the branch without a session.
  bool was_reset() const { return reset_; }
  // After was_reset(): false if certainly no statement reached the server between the reset and its being noticed.
  // True: some may have run outside of the branch, and committed by themselves.
  bool ran_outside() const { return ran_outside_; }
  // Messages sent to the server through this object, each of which has one answer; for metrics and benchmarks.
  int64_t round_trips() const { return connection_->round_trips(); }
  // True between a Send and its Receive.
  bool answer_due() const { return due_ != Due::kNothing; }

  // XA START; `first_sql`, if not empty, rides in the same round trip and runs only if XA START succeeded.
  void SendStart(const Xid& xid, absl::string_view first_sql = {});
  StartResult ReceiveStart();
  StartResult Start(const Xid& xid, absl::string_view first_sql = {});

  // Any statement, or several, of the application. While a branch is active an error leaves it active (except
  // deadlocks: kRollbackOnly): whether that poisons the branch is the caller's decision. After a lost connection the
  // error code is Connector/C's; after a reset kSessionResetCode, also for the statement that ran after it unnoticed.
  void SendQuery(absl::string_view sql);
  QueryResult ReceiveQuery();
  QueryResult Query(absl::string_view sql);

  // True if the server has reported that the branch wrote, or tried to (a no-op UPDATE counts, and SELECT … FOR
  // UPDATE). False proves nothing: the server does not report with answers that have rows, nor with errors.
  bool has_written() const { return written_; }
  // The proof: asks the server (one round trip; none if has_written()). False: the branch has certainly not written and
  // needs no PREPARE. What the server does not tell, for whatever reason, counts as written.
  void SendProbe();
  bool ReceiveProbe();
  bool MayHaveWritten();

  // The verbs of this session's own branch. All that a verb needs first rides in the same round trip; the batch stops
  // at the first error, of which XaResult tells the step. A null `witness` leaves none.
  void SendEnd(const Xid& xid);
  void SendPrepare(const Xid& xid, const WitnessTable* witness);         // Witness row, XA END, XA PREPARE.
  void SendCommitOnePhase(const Xid& xid, const WitnessTable* witness);  // Witness row, XA END, XA COMMIT ONE PHASE.
  // With a witness both are refused (kWrongState) unless the branch is active: outside of it the row would be false
  // evidence.
  // XA COMMIT of a prepared branch: this session's or, if it has none, a detached one (see XaOutcome for what that
  // proves).
  void SendCommit(const Xid& xid);
  // XA ROLLBACK, with XA END first if the branch is active. Works in every state; of a detached branch if this session
  // has none.
  void SendRollback(const Xid& xid);
  // The answer to any of these.
  XaResult Receive();

  XaResult End(const Xid& xid);
  XaResult EndAndPrepare(const Xid& xid, const WitnessTable* witness);
  XaResult CommitOnePhase(const Xid& xid, const WitnessTable* witness);
  XaResult Commit(const Xid& xid);
  XaResult Rollback(const Xid& xid);

  // Everything that XA RECOVER lists on the server, whoever's. DATABASE_ERROR if an answer cannot be read: a partial
  // list proves nothing.
  absl::StatusOr<std::vector<RecoveredXid>> Recover();
  absl::StatusOr<ServerIdentity> Identity();

  // Waits until at least one of the sessions has an answer (or its end) to receive, at most `timeout`; returns all that
  // have, none after the timeout. Sessions whose Receive would not block at all (nothing sent, lost) count as ready.
  static std::vector<MariaDbSession*> WaitAny(absl::Span<MariaDbSession* const> sessions, absl::Duration timeout);

  // Closes an owned connection or lets go of an adopted one; lost() from then on. SESSION_HOLDS_BRANCH, and nothing
  // happens, while a branch is held or an answer is due.
  absl::Status Close();
  // The same without asking: a held branch becomes detached, and only the coordinator can finish it. An adopted
  // connection stays open (its owner must close it).
  void Abandon();

  // For what Query cannot do (Connector/C's prepared statements, streaming): runs on the connection beside this
  // object's knowledge. Null while an answer is due, a branch is prepared or the connection is lost. The caller must
  // read all its results, and must not change the connection's transaction, user or options.
  st_mysql* BorrowHandle();

 private:
  enum class Due { kNothing, kStart, kQuery, kProbe, kXa };
  explicit MariaDbSession(std::unique_ptr<MariaDbConnection> connection);

  static absl::StatusOr<std::unique_ptr<MariaDbSession>> ConnectWith(const ConnectOptions& options,
                                                                     const std::string& settings);
  // Switches on what every session needs, after `settings` (statements; may be empty).
  DbError SetUp(const std::string& settings);
  void Send(Due due, absl::string_view sql);
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
