// XaOutcome: what a database's answer to an XA verb proves, in words that are the same for every engine.
#ifndef ASSENT_RESOURCE_MANAGER_XA_OUTCOME_H_
#define ASSENT_RESOURCE_MANAGER_XA_OUTCOME_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/db_error.h"

namespace assent {

// A new verb needs its row in OutcomeOf and in the tests.
enum class XaVerb { kStart, kEnd, kPrepare, kCommit, kCommitOnePhase, kRollback, kRecover };

enum class XaOutcome {
  // Done. On the session that prepared it is proof. After COMMIT or ROLLBACK from another session it is proof on
  // PostgreSQL and detaching MySQL, but on MariaDB only together with the witness row; and no ROLLBACK is durable
  // there:
  // after a restart of the server the branch may be prepared again.
  kOk,
  // The branch is rolled back (XA_RB*, or a PREPARE or one-phase COMMIT that could not get the commit lock). Proof for
  // a
  // held branch. For a detached branch that wrote nothing, 1402 answers COMMIT and ROLLBACK alike and means only that
  // its session is gone.
  kRolledBack,
  // The server says it knows no such branch. After ROLLBACK: finished. After COMMIT it proves NOTHING: still attached
  // to
  // its session, already committed, never prepared and rolled back all answer the same. After END or PREPARE: this
  // session has no such branch.
  kUnknownXid,
  // START: a branch with this gtrid and bqual exists (active, prepared or detached; MariaDB ignores the format id).
  // Nothing was started.
  kDuplicateXid,
  // The branch is in a state in which this verb is not allowed; nothing changed. END and PREPARE of a branch that the
  // database has marked rollback-only (deadlock victim) answer this: roll it back.
  kWrongState,
  // The session has a local transaction, locked tables or another branch open; nothing changed.
  kOutside,
  // The verb or its arguments are not acceptable (also: one-phase COMMIT of a prepared branch, an xid that is too
  // long);
  // nothing changed.
  kInvalid,
  // The server does not do XA (Galera). Nothing was started; a statement sent later would run in autocommit.
  kNotSupported,
  // COMMIT or ROLLBACK of a prepared branch could not be done now (read-only server, backup lock, killed while
  // waiting):
  // it is still prepared; ask again.
  kRetryLater,
  // The connection broke or timed out. An ACTIVE or ENDED branch is rolled back once the server notices; after PREPARE
  // was sent it is either rolled back or prepared and detached; after COMMIT or ROLLBACK was sent it is finished or
  // still
  // prepared; after a one-phase COMMIT it is committed or rolled back. Nothing more is known.
  kConnectionLost,
  // The connection is not the session any more that the branch was started on: it was reset, given to another user, or
  // replaced. The verb was not sent, or the server stopped in front of it. An ACTIVE or ENDED branch is rolled back by
  // the server; a prepared one waits for the end of its session, and then for recovery.
  kSessionReset,
  // Any other error. Proves nothing about the branch.
  kError,
};

// Pure. `code` is MariaDB's error number, or Connector/C's own; 0 is kOk.
XaOutcome OutcomeOf(XaVerb verb, int code);

absl::string_view ToString(XaVerb verb);
absl::string_view ToString(XaOutcome outcome);

// What StatusOf of db_error.h answers, with the more precise reasons where there are some: SESSION_IN_TRANSACTION
// (kOutside), XA_NOT_SUPPORTED (kNotSupported); metadata also `outcome`. OK for kOk.
absl::Status StatusOf(XaVerb verb, XaOutcome outcome, const DbError& error);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_XA_OUTCOME_H_
