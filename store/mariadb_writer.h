// The one connection of a store object that writes transitions: groups of them, and settling.
//
// A group is one database transaction: the fence, one INSERT of all that is new, UPDATEs of all that changes (many rows
// each, guarded by the expected revisions), COMMIT. The database's count of rows must be exactly what was sent: if it
// is not, somebody's expectation was wrong, the whole is rolled back, and the group is written again one statement for
// each transition, so that each gets its own answer. An error that stems from one member (a record too large, a row
// that cannot be stored) is found by writing the members one by one, each in a transaction of its own.
//
// What COMMIT gives: with innodb_flush_log_at_trx_commit=1 (and sync_binlog=1 where there is a binary log) its OK means
// forced, whatever was asked for; lazy costs the same here. Without a binary log a transaction becomes visible to
// others a moment before it is forced. Therefore whoever shows a row of somebody else's forces a write of its own after
// having read it (the barrier: store_meta.barrier): the log is forced up to there, and the row was before (law S6).
//
// What must be the first of its gtrid is inserted, and then the horizon is looked at, in the same transaction and by a
// statement of its own. If an earlier record was deleted, the INSERT has waited for that purge to be committed (its
// unique key sees to it), and what is read afterwards (READ COMMITTED) is the horizon that this purge has left behind
// the record. So the horizon's row need not be locked, and purges keep nobody waiting. What is before the horizon as it
// is known already is not inserted at all: who repeats an old call disturbs no others.
//
// A COMMIT whose answer does not come is UNKNOWN. The writer holds a user lock of its own name at the server. Before it
// does anything else, on a new connection, it ends the old one and takes the lock, which the server gives only when the
// old connection's transaction has ended, one way or the other (EndHolder). The same way others end a dead instance's.
//
// Not thread-safe: belongs to one thread at a time, except where a comment says otherwise.
#ifndef ASSENT_STORE_MARIADB_WRITER_H_
#define ASSENT_STORE_MARIADB_WRITER_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/horizon.h"
#include "store/mariadb_fence.h"
#include "store/mariadb_link.h"
#include "store/mariadb_options.h"
#include "store/pending_transition.h"
#include "store/store.h"

namespace assent {

class MariaDbWriter {
 public:
  // `name`: of this writer among all of the server's, at most 64 bytes. `horizon` is told what is seen of it. Both
  // pointers must outlive the writer.
  MariaDbWriter(MariaDbOptions options, std::string store_id, std::string name, const Fence* fence,
                SeenHorizon* horizon);

  // Connects, unless there is a connection. STORE_UNAVAILABLE at once if it is too early to try again.
  absl::Status Ensure();

  // Answers each member in order.
  std::vector<TransitionResult> Apply(const std::vector<PendingTransition>& group);
  // See Store.
  absl::StatusOr<GlobalPtr> Settle(absl::string_view gtrid);

  const std::string& name() const { return name_; }
  // Any thread.
  StoreStats Stats() const;

 private:
  enum class End {
    kApplied,   // Committed; `results` are the answers.
    kConflict,  // Rolled back: not all expectations hold.
    kAgain,     // Rolled back by the database or with the connection: try again.
    kFenced,    // Rolled back: this instance is dead.
    kFailed,    // Rolled back: `status` says why.
    kUnknown,   // COMMIT did not answer.
  };
  using Group = absl::Span<const PendingTransition>;
  using Results = absl::Span<TransitionResult>;

  void ApplyGroup(Group group, Results results);
  void ApplyEachAlone(Group group, Results results, const absl::Status& status);
  // One attempt; both leave no transaction open.
  End TryTogether(Group group, Results results, absl::Status* status);
  End TryInOrder(Group group, Results results, absl::Status* status);
  // One transition inside the open transaction: its answer in *result, or an error.
  DbError WriteOne(const PendingTransition& pending, TransitionResult* result);
  DbError ReadConflict(const v1::Global& next, bool creating, TransitionResult* result);
  // The answer to one that must be the first of its gtrid and is born before the horizon.
  DbError RefuseSecond(const v1::Global& next, TransitionResult* result);
  DbError RefuseAll(const std::vector<size_t>& refused, Group group, Results results);
  // Whether a record that was inserted just now in the open transaction may be the first of its gtrid; else takes it
  // back.
  DbError CheckFirst(const std::string& gtrid, TransitionResult* result);
  DbError ReadHorizon(const ResultSet& answer);
  End Commit(Group group, Results results, absl::Status* status);
  // What an error before COMMIT means; rolls back.
  End Failed(const DbError& error, absl::Status* status);
  void Rollback();
  void Drop(const absl::Status& status);

  const MariaDbOptions options_;
  const std::string store_id_;
  const std::string name_;
  const Fence* const fence_;
  SeenHorizon* const horizon_;
  std::unique_ptr<MariaDbConnection> connection_;  // Null: lost.
  Backoff backoff_;
  absl::Status last_error_;

  std::atomic<int64_t> transitions_{0};
  std::atomic<int64_t> groups_{0};
  std::atomic<int64_t> forced_groups_{0};
};

}  // namespace assent

#endif  // ASSENT_STORE_MARIADB_WRITER_H_
