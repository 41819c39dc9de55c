// BranchSession: one connection to a database, and the branch that it runs: how a participant speaks two-phase commit,
// in words that are the same for every engine.
//
// Each verb is there twice: whole, and split into Send… and Receive…, so that one thread can send PREPARE or COMMIT to
// many sessions at once and then collect the answers:
//
//   for (BranchSession* s : sessions) s->SendCommit(xid_of[s]);
//   while (!waiting.empty()) for (BranchSession* s : BranchSession::WaitAny(waiting, timeout)) … s->Receive() …
//
// After a Send the answer is due: the matching Receive must be next (anything else is a programming error and dies). A
// Send never fails and never waits for the server; what goes wrong is in the answer.
//
// What differs from engine to engine is told by detaches() and Describe(), and by the outcomes (xa_outcome.h). There is
// no automatic reconnect: a new connection would not have the branch.
#ifndef ASSENT_RESOURCE_MANAGER_BRANCH_SESSION_H_
#define ASSENT_RESOURCE_MANAGER_BRANCH_SESSION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "assent/v1/global.pb.h"
#include "base/query_result.h"
#include "base/xid.h"
#include "resource_manager/witness_table.h"
#include "resource_manager/xa_outcome.h"

struct st_mysql;  // Connector/C's MYSQL.
struct pg_conn;   // libpq's PGconn.

namespace assent {

// Where the branch of a session stands.
enum class BranchState {
  kNone,          // There is no branch.
  kActive,        // Between XA START and XA END.
  kEnded,         // After XA END (not on PostgreSQL).
  kRollbackOnly,  // The database has marked it (deadlock victim): only Rollback is possible.
  kPrepared,
  kUnknown,  // The connection is lost; see XaOutcome::kConnectionLost for what that leaves.
};
absl::string_view ToString(BranchState state);

// The answer to a verb or to a batch of verbs.
struct XaResult {
  // The part of a batch that failed; what came before it was done, what comes after it did not run.
  // kGuard: the question whether this is still the branch's session, in front of every verb of its own branch that
  // would do harm on another one.
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

// A prepared branch as the database lists it (XA RECOVER, pg_prepared_xacts). Raw bytes: it may be anybody's. What
// PostgreSQL lists with a gid that is not made of an xid (xid.h) has the format id kNoFormatId, the gid as gtrid and no
// bqual.
constexpr int64_t kNoFormatId = -1;
struct RecoveredXid {
  int64_t format_id = 0;
  std::string gtrid;
  std::string bqual;
};

// Names the server and this life of it.
struct ServerIdentity {
  std::string name;     // As Session.server: @@hostname:@@port, or PostgreSQL's system identifier and database.
  std::string version;  // e.g. "10.11.6-MariaDB-log"
  // By the server's clock; MariaDB's and MySQL's is computed from the uptime, so one second of difference is none.
  // Moves when it restarts.
  absl::Time start_time;
  int64_t timeline = 0;  // PostgreSQL: of its WAL; a failover begins a new one. 0: not known, or there is none.
};

// Thread-compatible: one thread at a time.
class BranchSession {
 public:
  // Closes an owned connection, an adopted one stays open. If a branch is held, that is logged: use Close or Abandon.
  virtual ~BranchSession() = default;
  BranchSession(const BranchSession&) = delete;
  BranchSession& operator=(const BranchSession&) = delete;

  // The server's id of this connection, as in its process list.
  virtual uint64_t connection_id() const = 0;
  // How the coordinator finds the session again at the server, for BranchSpec and Vote; once the branch is prepared
  // also what proves how it ends. Without `server` if that would not say who it is.
  virtual v1::Session Describe() const = 0;
  // True if PREPARE lets go of this session's branch: then any session may finish it.
  virtual bool detaches() const = 0;

  virtual BranchState branch_state() const = 0;
  // The branch; meaningful unless branch_state() is kNone.
  virtual const Xid& branch_xid() const = 0;
  // True from the moment PREPARE is sent until the branch is known to be finished: the connection must not be handed
  // back, reset, reused or closed.
  virtual bool holds_branch() const = 0;
  // True once the connection cannot be used any more. All later verbs answer kConnectionLost (kSessionReset if
  // was_reset()).
  virtual bool lost() const = 0;
  // True once it was noticed that somebody took the connection away from the branch: reset it, gave it to another user,
  // or (PostgreSQL) ended the transaction under it. An owned connection is closed then, an adopted one shut down, so
  // that nobody takes what is left of it for the branch.
  virtual bool was_reset() const = 0;
  // After was_reset(): false if certainly no statement reached the server between that and its being noticed. True:
  // some may have run outside of the branch, and committed by themselves.
  virtual bool ran_outside() const = 0;
  // Messages sent to the server through this object, each of which has one answer; for metrics and benchmarks.
  virtual int64_t round_trips() const = 0;
  // True between a Send and its Receive.
  virtual bool answer_due() const = 0;

  // Starts a branch; `first_sql`, if not empty, rides in the same round trip and runs only if that succeeded.
  virtual void SendStart(const Xid& xid, absl::string_view first_sql = {}) = 0;
  virtual StartResult ReceiveStart() = 0;
  StartResult Start(const Xid& xid, absl::string_view first_sql = {});

  // Any statement, or several, of the application. After an error the branch may be active still (on MariaDB and MySQL;
  // except deadlocks: kRollbackOnly): whether that poisons the branch is the caller's decision. On PostgreSQL an error
  // leaves it kRollbackOnly, unless the statement was sent with `keep`: then it is as it was before the statement.
  virtual void SendQuery(absl::string_view sql, bool keep = false) = 0;
  virtual QueryResult ReceiveQuery() = 0;
  QueryResult Query(absl::string_view sql, bool keep = false);

  // True if the branch has certainly written, or tried to. False proves nothing.
  virtual bool has_written() const = 0;
  // The proof: asks the server (one round trip; none if has_written()). False: the branch has certainly not written and
  // needs no PREPARE. What the server does not tell, for whatever reason, counts as written.
  virtual void SendProbe() = 0;
  virtual bool ReceiveProbe() = 0;
  bool MayHaveWritten();

  // The verbs of this session's own branch. All that a verb needs first rides in the same round trip; the batch stops
  // at the first error, of which XaResult tells the step. `witness`: where the branch leaves its witness row; null, and
  // always on engines that need none: nowhere.
  virtual void SendPrepare(const Xid& xid, const WitnessTable* witness) = 0;
  // Commits a branch that is not prepared, without a second phase, and leaves its witness (WitnessOf)
  // with it. kConnectionLost with `sent`, and any other error than kRolledBack of the step kCommit, leave it committed
  // or rolled back: once the session is gone, the witness tells. Only if commits_in_one_phase(): an OK outlives a crash
  // of the server.
  virtual bool commits_in_one_phase() const { return false; }
  virtual void SendCommitOnePhase(const Xid& xid, const WitnessTable* witness);
  // Commits a prepared branch: this session's or, if it has none, a detached one (see XaOutcome for what that proves).
  virtual void SendCommit(const Xid& xid) = 0;
  // Rolls back, in every state; a detached branch if this session has none.
  virtual void SendRollback(const Xid& xid) = 0;
  // Ends a branch that has written nothing. If the failed step is kCommit, what it has read does not hold.
  virtual void SendEndReadOnly(const Xid& xid) { SendRollback(xid); }
  // The answer to any of these.
  virtual XaResult Receive() = 0;
  XaResult Prepare(const Xid& xid, const WitnessTable* witness);
  XaResult Commit(const Xid& xid);
  XaResult Rollback(const Xid& xid);

  // Everything that is prepared on the server (PostgreSQL: in this database), whoever's. DATABASE_ERROR if an answer
  // cannot be read: a partial list proves nothing.
  virtual absl::StatusOr<std::vector<RecoveredXid>> Recover() = 0;

  // Waits until at least one of the sessions has an answer (or its end) to receive, at most `timeout`; returns all that
  // have, none after the timeout. Sessions whose Receive would not block at all (nothing sent, lost) count as ready.
  static std::vector<BranchSession*> WaitAny(absl::Span<BranchSession* const> sessions, absl::Duration timeout);

  // Closes an owned connection or lets go of an adopted one; lost() from then on. SESSION_HOLDS_BRANCH, and nothing
  // happens, while a branch is held or an answer is due.
  virtual absl::Status Close() = 0;
  // The same without asking: a held branch becomes detached, and only the coordinator can finish it. An adopted
  // connection stays open (its owner must close it).
  virtual void Abandon() = 0;

  // For what Query cannot do (prepared statements, streaming): runs on the connection beside this object's knowledge.
  // Null if it is another engine's, while an answer is due, a branch is prepared or the connection is lost. The caller
  // must read all its results, and must not change the connection's transaction, user or options.
  virtual st_mysql* BorrowHandle() { return nullptr; }
  virtual pg_conn* BorrowPgHandle() { return nullptr; }

 protected:
  BranchSession() = default;
  // What WaitAny polls; -1: Receive would not block.
  virtual int SocketDue() const = 0;
};

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_BRANCH_SESSION_H_
