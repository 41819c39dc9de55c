// Branch: one database's part of a global transaction, run over a session of the application's.
#ifndef ASSENT_PARTICIPANT_SDK_CPP_BRANCH_H_
#define ASSENT_PARTICIPANT_SDK_CPP_BRANCH_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "assent/v1/coordinator_service.pb.h"
#include "base/xid.h"
#include "resource_manager/branch_session.h"

namespace assent {

struct ExecuteOptions {
  // Database errors that the application is ready for: they are answered and do not poison the branch. The statement
  // itself had no effect then. By number (MariaDB, MySQL: 1062, duplicate key) and by SQLSTATE (every engine: "23505",
  // unique_violation, on PostgreSQL; "23000" on MariaDB). On PostgreSQL the statement runs behind a savepoint of its
  // own.
  std::vector<int> expected_errors;
  std::vector<std::string> expected_sqlstates;
};

// Thread-compatible; branches of one transaction may be used by different threads at the same time. Owned by its
// GlobalTransaction.
class Branch {
 public:
  // `session` must outlive the branch and carry no other one. `witness`: where to leave the witness row, if anywhere.
  Branch(Xid xid, std::string resource, absl::optional<WitnessTable> witness, BranchSession* session);
  Branch(const Branch&) = delete;
  Branch& operator=(const Branch&) = delete;

  // Runs the application's SQL inside the branch. The first statement starts the branch, in the same round trip.
  //
  // Any error poisons the branch: it will vote FAILED, because MariaDB and MySQL would still prepare what is left of it
  // after a lock wait timeout, a killed query or a duplicate key. Errors: DATABASE_ERROR (metadata error_code,
  // sqlstate) for the database's own, also the expected ones; DATABASE_UNREACHABLE; SESSION_IN_TRANSACTION if the
  // session has an open local transaction (finish it with COMMIT or ROLLBACK first; the statement did not run and the
  // branch can be used afterwards); SESSION_RESET if somebody reset the connection or gave it to another user since the
  // branch was started (the statement did not run, unless a proxy did it: then it may have run and committed by itself,
  // and Commit answers OUTCOME_IN_DOUBT); XA_NOT_SUPPORTED; BRANCH_POISONED after an earlier error; BRANCH_ENDED after
  // prepare, commit or rollback.
  absl::StatusOr<QueryResult> Execute(absl::string_view sql, const ExecuteOptions& options = {});

  // Runs `fn` with the connection's own handle, for what Execute cannot do (prepared statements, streaming). The branch
  // has been started. If `fn` answers an error the branch is poisoned. The branch counts as one that has written. `fn`
  // must read all its results and must not change the connection's transaction, user or options. INVALID_FIELD, and the
  // branch is as it was, if the session's handle is of the other kind.
  absl::Status Run(const std::function<absl::Status(st_mysql*)>& fn);  // MariaDB, MySQL.
  absl::Status Run(const std::function<absl::Status(pg_conn*)>& fn);   // PostgreSQL.

  const Xid& xid() const { return xid_; }
  const std::string& resource() const { return resource_; }
  const BranchSession* session() const { return session_; }
  // Whether it leaves a witness row when it prepares.
  bool has_witness() const { return witness_.has_value(); }
  std::string witness_table() const { return witness_ ? witness_->name() : ""; }
  // The error that poisoned it; OK if none has.
  const absl::Status& poison() const { return poison_; }

 private:
  friend class TwoPhase;

  enum class Stage {
    kIdle,       // No statement yet: the database knows nothing of it.
    kActive,     // XA START answered OK.
    kPrepared,   // XA PREPARE answered OK.
    kElsewhere,  // PREPARE let go of it, and somebody else, the coordinator's recovery, has finished it.
    kInDoubt,    // The session was lost with PREPARE or the finishing statement on its way.
    kFinished,   // Proven finished, or ended without having written.
  };

  absl::Status CheckUsable() const;
  template <typename Handle>
  absl::Status RunWith(Handle* (BranchSession::*borrow)(), const std::function<absl::Status(Handle*)>& fn);
  // Starts it, with `first_sql` if there is one; the answer to that, or the error that nothing was started with.
  absl::StatusOr<QueryResult> Start(absl::string_view first_sql);
  // Records the error of a statement as the reason for a FAILED vote.
  absl::Status Poison(absl::Status why);

  const Xid xid_;
  const std::string resource_;
  const absl::optional<WitnessTable> witness_;
  BranchSession* const session_;
  Stage stage_ = Stage::kIdle;
  bool counts_as_written_ = false;
  bool asked_ = false;  // Whether it has written, when it was to vote.
  absl::Status poison_;
  absl::Status unstarted_;  // While idle: the error of the last statement, which found nothing started to run in.
  bool voted_ = false;      // The coordinator may count on its vote: only the decision finishes it.
  absl::optional<v1::Vote> vote_;
};

}  // namespace assent

#endif  // ASSENT_PARTICIPANT_SDK_CPP_BRANCH_H_
