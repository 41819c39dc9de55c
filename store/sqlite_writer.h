// The one connection that writes: groups of transitions, the registry, settling, checkpoints.
//
// What SQLite's write-ahead log (WAL) gives and does not give, on which all of this rests:
//
//  - A transaction is a run of frames (pages) behind the last committed frame; its last frame carries the commit mark.
//    Every frame has a checksum over itself and all frames before it. After a crash, SQLite takes the longest run of
//    frames with right checksums up to a commit mark. Unsynced frames may reach the disk in any order, but what is
//    recovered is a prefix: that is law S3's suffix rule.
//  - With synchronous=FULL a COMMIT writes the frames, syncs the file, and only then publishes the frames to readers
//    (the wal-index in shared memory). With NORMAL it does not sync. A sync makes all earlier frames durable too.
//  - When a COMMIT fails, nothing was published and SQLite rolls back. Yet the frames may stand in the file complete
//    with their commit mark (a failed sync comes after the writes). If the process dies then, the next open recovers
//    them: the transaction that "failed" is there. That is UNKNOWN.
//  - The next transaction that commits here is written over those frames, from the same position on. As soon as it has
//    been synced, the failed one is impossible: the frames it left behind the new commit mark do not continue the new
//    chain of checksums. (If the new frames were byte for byte those of the failed one, it would be the same
//    transaction. The barrier's counter rules out even that.) If the log was begun anew in between, its header has
//    another salt, which invalidates all older frames alike; SQLite syncs that header before it writes frames.
//  - A failed sync has a second victim. Linux marks pages clean although they were not written, and the next sync
//    succeeds without them. Earlier frames, lazy or forced with this very sync, would then be missing under a later one
//    that was reported durable, and recovery would stop at the gap. So after any failed commit or checkpoint, before
//    anything else is written, the whole log is read (the kernel still has what was written) and written again as it
//    is, which makes it dirty again, and then synced by the barrier. Whoever opens a log that another process left
//    behind does the same, because nobody knows which of it had been synced, and what is shown must be durable before
//    anybody acts on it: a COMMIT decision seen in the kernel's cache, acted upon, and then lost with the machine would
//    be a guessed outcome.
//
// Barrier: a forced transaction of its own that increments meta.barrier. Repair: rewriting the log, then the barrier.
//
// Not thread-safe: belongs to one thread at a time, except where a comment says otherwise.
#ifndef ASSENT_STORE_SQLITE_WRITER_H_
#define ASSENT_STORE_SQLITE_WRITER_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "store/horizon.h"
#include "store/pending_transition.h"
#include "store/sqlite_handle.h"
#include "store/store.h"

namespace assent {

class SqliteWriter {
 public:
  struct Options {
    std::string path;  // Absolute, resolved.
    std::string vfs;
    std::string cluster;
    std::string boot_id;
    std::string import_as;  // SqliteOptions.
    bool new_file = false;
    // The log is checkpointed as soon as it is longer, idle or not.
    int wal_limit_pages = 16384;
  };

  // Opens, checks and migrates the file and leaves everything in it durable. `readers` is held by whoever reads on
  // another connection of this process; it must outlive the writer.
  static absl::StatusOr<std::unique_ptr<SqliteWriter>> Open(const Options& options, Mutex* readers);
  ~SqliteWriter();

  // Writes the group in one SQLite transaction, forced if any member asks for it, and answers each member in order.
  // A member that conflicts does not disturb the others.
  std::vector<TransitionResult> Apply(const std::vector<PendingTransition>& group);

  // See Store. Each is one forced transaction.
  absl::StatusOr<GlobalPtr> Settle(absl::string_view gtrid);
  absl::Status PutResource(const v1::Resource& resource);
  absl::StatusOr<bool> ReplaceResource(const v1::Resource* expected, const v1::Resource& resource);
  absl::Status RemoveResource(absl::string_view name);
  absl::StatusOr<std::vector<std::string>> Purge(absl::Time ended_before, int limit);
  absl::Status FinishImport(absl::Time horizon);
  // Counts the instances of this store that joined; answers the new number.
  absl::StatusOr<int64_t> BumpEpoch();

  // Housekeeping after a group: checkpoints if the log has outgrown its limit.
  void CheckpointIfDue();
  // Housekeeping while nothing waits: checkpoints if that saves later work.
  void CheckpointIfWorthwhile();

  // Any thread. Never lower than the file's.
  absl::Time horizon() const { return horizon_.time(); }
  bool may_have_lost_lazy_writes() const { return may_have_lost_lazy_writes_; }
  // When it was opened.
  bool half_imported() const { return half_imported_; }
  // Any thread.
  StoreStats Stats() const;

 private:
  // How a COMMIT ended. kNotCommitted: it never will be there.
  enum class CommitEnd { kCommitted, kNotCommitted, kUnknown };

  explicit SqliteWriter(Mutex* readers) : readers_(readers) {}
  absl::Status Configure(const Options& options);
  absl::Status PrepareStatements();

  // Begins a transaction, after a repair if one is due. An error leaves none open.
  absl::Status Begin(bool forced);
  CommitEnd Commit(bool forced, absl::Status* status);
  void Rollback();
  // Begin, `body`, Commit, forced. An unknown end is an error like every other: these are repeatable.
  template <typename Body>
  absl::Status ForcedTransaction(absl::string_view doing, Body body);
  // Commits with the readers kept out if the log can begin anew, which one reader at the wrong moment would prevent.
  int RunCommit();

  // SQLITE_DONE, or the error that ends the group.
  int ApplyOne(const PendingTransition& pending, TransitionResult* result);
  int Insert(const PendingTransition& pending, bool* applied);
  // What stands in the way of a record that is not certainly the first of its gtrid.
  int RefuseSecond(const v1::Global& next, TransitionResult* result);
  int Update(const PendingTransition& pending, bool* applied);
  int ReadConflict(const v1::Global& next, bool creating, TransitionResult* result);

  absl::Status Repair();
  // Writes every byte of the log again, as it is.
  absl::Status RewriteLog();
  // Takes note of an error that may have been a failed sync.
  absl::Status Failed(int code, absl::string_view doing);
  void Checkpoint();
  void LogBeganAnew();
  // Since the connection was opened.
  int PagesWritten();
  static int OnCommit(void* writer, sqlite3* db, const char* name, int pages);

  Mutex* const readers_;
  SqliteConnection db_;
  SqliteStatement begin_, commit_, rollback_;
  SqliteStatement insert_, update_open_, update_any_, read_by_gtrid_, read_by_request_id_;
  SqliteStatement bump_barrier_, read_resource_, put_resource_, remove_resource_, bump_epoch_, finish_import_;
  SqliteStatement purge_, raise_horizon_, set_horizon_;

  // Nobody else writes to the file, so this is enough to look at. Behind what a purge that failed was to delete, too:
  // that may be gone all the same, and if it is not, no more than a gtrid is refused.
  SeenHorizon horizon_;
  bool may_have_lost_lazy_writes_ = false;
  bool half_imported_ = false;
  bool full_sync_ = false;  // What the connection's synchronous is set to.
  // What is wrong with the log since the last repair. At first: everything, another process may have left it.
  bool ready_ = false;        // The file is ours, and sound: it may be written.
  bool repair_due_ = true;    // Frames of a failed commit may stand behind the last good one: a barrier is due.
  bool sync_suspect_ = true;  // A sync may have failed: the log must be written again, too.
  bool restart_due_ = false;  // Everything in the log is in the database: the next commit may begin it anew.
  int wal_limit_pages_ = 0;
  int wal_pages_ = 0;           // The log's length after the last commit.
  int checkpointed_pages_ = 0;  // Of these, what the last checkpoint moved.
  int checkpoint_at_pages_ = 0;

  std::atomic<int64_t> transitions_{0};
  std::atomic<int64_t> groups_{0};
  std::atomic<int64_t> forced_groups_{0};
  std::atomic<int64_t> checkpoint_syncs_{0};
};

}  // namespace assent

#endif  // ASSENT_STORE_SQLITE_WRITER_H_
