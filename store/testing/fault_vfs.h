// An SQLite VFS for tests, over the default one: counts what is written and synced, fails on request, and knows what a
// loss of power would leave of the files.
//
// The model of the disk: what was written and not synced since may be there or not, write by write in any order, torn
// between sectors of 512 bytes; a sync makes everything before it durable; deleting a file is durable at once.
#ifndef ASSENT_STORE_TESTING_FAULT_VFS_H_
#define ASSENT_STORE_TESTING_FAULT_VFS_H_

#include <sqlite3.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"

namespace assent {

// Thread-safe. Outlives every connection that uses it.
class FaultVfs {
 public:
  enum class FileKind { kDatabase, kLog, kOther };
  enum class Op { kWrite, kSync };

  struct Fault {
    FileKind kind = FileKind::kLog;
    Op op = Op::kSync;
    int skip = 0;                   // So many matching operations go well first.
    int times = 1;                  // Then so many fail.
    int code = SQLITE_IOERR_FSYNC;  // With this.
    bool after_work = false;        // After having done the real work: the failure is a lie.
    // A failed sync for which the kernel forgets what it could not write: it stays readable, is never written by a
    // later sync, and only writing it again helps.
    bool forget_unsynced = false;
  };
  static constexpr int kForever = 1 << 30;

  FaultVfs();  // Registers itself with SQLite.
  ~FaultVfs();
  FaultVfs(const FaultVfs&) = delete;
  FaultVfs& operator=(const FaultVfs&) = delete;

  // For SqliteOptions::vfs.
  const std::string& name() const { return name_; }

  void Inject(const Fault& fault);
  // All operations go well again.
  void Heal();
  // Database files can only be opened for reading from now on.
  void MakeReadOnly();

  // Logs that are opened for the first time from now on count as never synced, and the kernel has forgotten that they
  // need to be: what a process may leave behind that died after a failed sync.
  void DistrustExistingLogs();

  int64_t Count(FileKind kind, Op op);
  int64_t CountSyncs();
  void ResetCounts();

  // Calls `action` just before the n-th write or sync from now (1: the next one), on the thread that makes it. `action`
  // may call SaveAfterPowerLoss.
  void Before(int64_t n, std::function<void()> action);

  // Writes to `folder` what would be left of the files if the power went now: everything synced, and of the rest what
  // `seed` decides. Seed 0: nothing of the rest.
  void SaveAfterPowerLoss(const std::string& folder, uint64_t seed);

 private:
  struct Write {
    int64_t offset;
    std::string bytes;
    bool truncate;  // To `offset`.
  };
  // What is known of one path.
  struct FileState {
    FileKind kind;
    std::string durable;
    std::vector<Write> unsynced;
  };
  struct File;  // The sqlite3_file.
  struct Methods;

  // The code of the fault that hits this operation (SQLITE_OK: none); *hit is the fault.
  int Strike(FileKind kind, Op op, Fault* hit);
  static void Apply(const Write& write, std::string* content);

  sqlite3_vfs* const real_;
  std::string name_;
  std::unique_ptr<sqlite3_vfs> vfs_;

  Mutex mu_;
  std::map<std::string, std::shared_ptr<FileState>> files_ ABSL_GUARDED_BY(mu_);
  std::vector<Fault> faults_ ABSL_GUARDED_BY(mu_);
  std::map<std::pair<FileKind, Op>, int64_t> counts_ ABSL_GUARDED_BY(mu_);
  bool read_only_ ABSL_GUARDED_BY(mu_) = false;
  bool distrust_logs_ ABSL_GUARDED_BY(mu_) = false;
  int64_t action_in_ ABSL_GUARDED_BY(mu_) = 0;
  std::function<void()> action_ ABSL_GUARDED_BY(mu_);
};

}  // namespace assent

#endif  // ASSENT_STORE_TESTING_FAULT_VFS_H_
