// The store in one SQLite file: the embedded default. One coordinator at a time, on a local file system.
#ifndef ASSENT_STORE_SQLITE_STORE_H_
#define ASSENT_STORE_SQLITE_STORE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "store/record.h"
#include "store/sole_membership.h"
#include "store/sqlite_handle.h"
#include "store/sqlite_writer.h"
#include "store/store.h"
#include "store/store_file.h"
#include "store/write_queue.h"

namespace assent {

struct SqliteOptions {
  // The file; created if it is missing, its folder is not. `<path>.lock`, `<path>-wal` and `<path>-shm` appear beside
  // it.
  std::string path;
  // The cluster's name (base/xid.h). Kept in the file; a file of another cluster is refused.
  std::string cluster;
  // For tools: a file that is missing or empty is an error (STORE_UNAVAILABLE) and not made into a store.
  bool must_exist = false;
  // Opens it for an import of the store with this id: makes it, half imported, or continues such a one; one that is
  // complete opens, too. STORE_DIFFERS if it has another id. Empty: for service.
  std::string import_as;
  // Transitions that may wait; beyond it Submit answers OVERLOADED.
  int queue_limit = 65536;
  // Transitions of one SQLite transaction.
  int max_group = 4096;
  // The write-ahead log (4 KiB pages) is moved into the database when it is longer, even under load.
  int wal_limit_pages = 16384;
  // For tests: the SQLite VFS to use (empty: the default), and the boot id to believe (empty: the machine's).
  std::string vfs;
  std::string boot_id;
};

class SqliteStore : public Store {
 public:
  // Everything that can be read afterwards is durable. Errors, none of which changes an existing store: STORE_LOCKED,
  // STORE_READ_ONLY, STORE_CORRUPT (damaged, or no store of Assent's), STORE_SCHEMA_NEWER, STORE_OTHER_CLUSTER,
  // STORE_FULL, STORE_UNAVAILABLE (no such folder, not a file, …), STORE_HALF_IMPORTED, STORE_DIFFERS (see import_as),
  // INVALID_FIELD (the options). They say what to do.
  static absl::StatusOr<std::unique_ptr<SqliteStore>> Open(const SqliteOptions& options);
  ~SqliteStore() override;

  void Submit(Transition transition, Done done) override;
  absl::StatusOr<GlobalPtr> Settle(absl::string_view gtrid) override;
  absl::StatusOr<GlobalPtr> Read(absl::string_view gtrid) override;
  absl::StatusOr<ListPage> List(const ListQuery& query) override;
  absl::StatusOr<std::vector<GlobalPtr>> ReadOpen(absl::string_view after, int limit) override;
  absl::StatusOr<std::vector<GlobalPtr>> ReadChanged(absl::Span<const KnownRevision> known) override;
  absl::StatusOr<std::vector<std::string>> Purge(absl::Time ended_before, int limit) override;
  absl::Time Horizon() const override { return writer_->horizon(); }
  absl::StatusOr<absl::Time> ReadHorizon() override { return Horizon(); }  // Nobody else moves it.
  absl::StatusOr<StoreSizes> Sizes() override;
  absl::Status PutResource(const v1::Resource& resource) override;
  absl::StatusOr<bool> ReplaceResource(const v1::Resource* expected, const v1::Resource& resource) override;
  absl::Status RemoveResource(absl::string_view name) override;
  absl::StatusOr<std::vector<v1::Resource>> ReadResources() override;
  bool IsShared() const override { return false; }
  std::string Id() const override { return id_; }
  bool MayHaveLostLazyWrites() const override { return writer_->may_have_lost_lazy_writes(); }
  bool IsHalfImported() const override { return half_imported_; }
  absl::Status FinishImport(absl::Time horizon) override;
  StoreStats Stats() const override { return writer_->Stats(); }
  Membership& Members() override { return *members_; }

  // The steps of SQLite's virtual machine that the last List or ReadOpen took: what it cost, whatever the machine.
  int64_t LastReadStepsForTest();

 private:
  explicit SqliteStore(StoreLock lock) : lock_(std::move(lock)) {}
  absl::Status OpenReader(const std::string& path, const std::string& vfs);
  // The rows of List as they are stored; the page's records are parsed without the lock.
  absl::Status ReadPage(const ListQuery& query, int64_t behind, std::vector<StoredRecord>* records, std::string* token);

  StoreLock lock_;
  std::string id_;
  std::atomic<bool> half_imported_{false};

  // Whoever reads; and the writer, when it wants nobody to read.
  Mutex reader_mu_;
  // Closed after the reader, so that its close is the one that empties the log.
  std::unique_ptr<SqliteWriter> writer_;
  SqliteConnection reader_ ABSL_GUARDED_BY(reader_mu_);
  SqliteStatement read_ ABSL_GUARDED_BY(reader_mu_);
  SqliteStatement read_open_ ABSL_GUARDED_BY(reader_mu_);
  SqliteStatement list_all_ ABSL_GUARDED_BY(reader_mu_);
  SqliteStatement list_open_ ABSL_GUARDED_BY(reader_mu_);
  SqliteStatement list_all_oldest_ ABSL_GUARDED_BY(reader_mu_);
  SqliteStatement list_open_oldest_ ABSL_GUARDED_BY(reader_mu_);
  SqliteStatement read_resources_ ABSL_GUARDED_BY(reader_mu_);
  SqliteStatement read_changed_ ABSL_GUARDED_BY(reader_mu_);
  SqliteStatement sizes_ ABSL_GUARDED_BY(reader_mu_);
  int64_t last_read_steps_ ABSL_GUARDED_BY(reader_mu_) = 0;

  std::unique_ptr<WriteQueue> queue_;
  std::unique_ptr<SoleMembership> members_;
};

}  // namespace assent

#endif  // ASSENT_STORE_SQLITE_STORE_H_
