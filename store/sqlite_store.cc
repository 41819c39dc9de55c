#include "store/sqlite_store.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/xid.h"
#include "store/page_token.h"
#include "store/record.h"

namespace assent {
namespace {

absl::Status InvalidOption(absl::string_view field, absl::string_view message) {
  return MakeError(Reason::INVALID_FIELD, message, {{"field", std::string(field)}});
}

absl::Status CheckOptions(const SqliteOptions& options) {
  if (!IsValidCluster(options.cluster)) {
    return InvalidOption("cluster", "the cluster's name must be 1 to 32 characters of [A-Za-z0-9._:]");
  }
  if (options.queue_limit < 1) return InvalidOption("queue_limit", "queue_limit must be at least 1");
  if (options.max_group < 1) return InvalidOption("max_group", "max_group must be at least 1");
  if (options.wal_limit_pages < 1) return InvalidOption("wal_limit_pages", "wal_limit_pages must be at least 1");
  return absl::OkStatus();
}

int64_t StepsOf(SqliteStatement* statement) {
  return sqlite3_stmt_status(statement->get(), SQLITE_STMTSTATUS_VM_STEP, /*resetFlg=*/1);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(const SqliteOptions& options) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  if (options.must_exist) {
    if (absl::Status status = CheckStoreExists(options.path); !status.ok()) return status;
  }
  const absl::StatusOr<std::string> path = ResolveStorePath(options.path);
  if (!path.ok()) return path.status();
  absl::StatusOr<StoreLock> lock = StoreLock::Acquire(*path);
  if (!lock.ok()) return lock.status();

  const bool new_file = lock->store_bytes() == 0;
  // An empty store answers NOT_FOUND for everything that another one knows: whoever mistyped a path must see it here.
  LOG_IF(WARNING, new_file && options.import_as.empty())
      << "store: " << options.path << " is new and empty; it knows of no earlier transaction";
  std::unique_ptr<SqliteStore> store(new SqliteStore(*std::move(lock)));
  SqliteWriter::Options writer_options;
  writer_options.path = *path;
  writer_options.vfs = options.vfs;
  writer_options.cluster = options.cluster;
  writer_options.import_as = options.import_as;
  writer_options.boot_id = options.boot_id.empty() ? ReadBootId() : options.boot_id;
  writer_options.new_file = new_file;
  writer_options.wal_limit_pages = options.wal_limit_pages;
  absl::StatusOr<std::unique_ptr<SqliteWriter>> writer = SqliteWriter::Open(writer_options, &store->reader_mu_);
  if (!writer.ok()) return writer.status();
  store->writer_ = *std::move(writer);
  store->half_imported_ = store->writer_->half_imported();
  if (absl::Status status = store->OpenReader(*path, options.vfs); !status.ok()) return status;

  SqliteWriter* const raw = store->writer_.get();
  WriteQueue::Work work;
  work.apply = [raw](const std::vector<PendingTransition>& group) { return raw->Apply(group); };
  work.after_group = [raw] { raw->CheckpointIfDue(); };
  work.idle = [raw] { raw->CheckpointIfWorthwhile(); };
  store->queue_ = std::make_unique<WriteQueue>(WriteQueue::Limits{options.queue_limit, options.max_group}, work);
  SqliteStore* const self = store.get();
  store->members_ = std::make_unique<SoleMembership>([self] {
    absl::StatusOr<int64_t> epoch = int64_t{0};
    self->queue_->RunBlocking([&] { epoch = self->writer_->BumpEpoch(); });
    return epoch;
  });
  return store;
}

SqliteStore::~SqliteStore() {
  // Not by destroying it: until the last `done` has run, they may Submit.
  if (queue_ != nullptr) queue_->Finish();
}

absl::Status SqliteStore::OpenReader(const std::string& path, const std::string& vfs) {
  MutexLock lock(&reader_mu_);
  absl::StatusOr<SqliteConnection> db = SqliteConnection::Open(path, vfs);
  if (!db.ok()) return db.status();
  reader_ = *std::move(db);
  // Without this hook SQLite would have its own ideas about checkpoints. A reader may have to wait for recovery locks.
  if (absl::Status status = reader_.Execute("PRAGMA query_only = ON; PRAGMA wal_autocheckpoint = 0", "configure");
      !status.ok()) {
    return status;
  }
  sqlite3_busy_timeout(reader_.get(), 1000);
  absl::StatusOr<std::string> id = reader_.QueryText("SELECT value FROM meta WHERE key = 'store_id'");
  if (!id.ok()) return id.status();
  id_ = *std::move(id);
  const struct {
    SqliteStatement* statement;
    absl::string_view sql;
  } kStatements[] = {
      {&read_, "SELECT gtrid, revision, record FROM globals WHERE gtrid = ?1"},
      {&read_open_,
       "SELECT gtrid, revision, record FROM globals INDEXED BY globals_open_gtrid WHERE open = 1 AND gtrid > ?1 ORDER "
       "BY gtrid LIMIT "
       "?2"},
      {&list_all_, "SELECT id, state, gtrid, revision, record FROM globals WHERE id < ?1 ORDER BY id DESC"},
      {&list_open_,
       "SELECT id, state, gtrid, revision, record FROM globals INDEXED BY globals_open_id WHERE open = 1 AND id < ?1 "
       "ORDER BY id DESC"},
      {&list_all_oldest_, "SELECT id, state, gtrid, revision, record FROM globals WHERE id > ?1 ORDER BY id"},
      {&list_open_oldest_,
       "SELECT id, state, gtrid, revision, record FROM globals INDEXED BY globals_open_id WHERE open = 1 AND id > ?1 "
       "ORDER BY id"},
      {&read_resources_, "SELECT record FROM resources ORDER BY name"},
      {&read_changed_, "SELECT gtrid, revision, record FROM globals WHERE gtrid = ?1 AND revision > ?2"},
      {&sizes_,
       "SELECT (SELECT count(*) FROM globals INDEXED BY globals_open_id WHERE open = 1), "
       "ifnull((SELECT max(id) FROM globals) - (SELECT min(id) FROM globals) + 1, 0), "
       "(SELECT page_count FROM pragma_page_count()) * (SELECT page_size FROM pragma_page_size())"},
  };
  for (const auto& entry : kStatements) {
    absl::StatusOr<SqliteStatement> prepared = reader_.Prepare(entry.sql);
    if (!prepared.ok()) return prepared.status();
    *entry.statement = *std::move(prepared);
  }
  return absl::OkStatus();
}

void SqliteStore::Submit(Transition transition, Done done) {
  CHECK(transition.next != nullptr);
  CHECK_GT(transition.next->revision(), transition.expected_revision) << transition.next->gtrid();
  queue_->Submit(std::move(transition), std::move(done));
}

absl::StatusOr<GlobalPtr> SqliteStore::Settle(absl::string_view gtrid) {
  absl::StatusOr<GlobalPtr> global = GlobalPtr();
  queue_->RunBlocking([&] { global = writer_->Settle(gtrid); });
  return global;
}

absl::StatusOr<GlobalPtr> SqliteStore::Read(absl::string_view gtrid) {
  StoredRecord record;
  {
    MutexLock lock(&reader_mu_);
    StatementReset reset(&read_);
    read_.BindText(1, gtrid);
    const int code = read_.Step();
    if (code == SQLITE_DONE) return GlobalPtr();
    if (code != SQLITE_ROW) return reader_.Error(code, "read a transaction");
    record = StoredOf(&read_, 0);
  }
  return ParseGlobal(record);
}

absl::StatusOr<ListPage> SqliteStore::List(const ListQuery& query) {
  if (absl::Status status = CheckPageSize(query.page_size); !status.ok()) return status;
  const absl::StatusOr<int64_t> behind = DecodePageToken(query);
  if (!behind.ok()) return behind.status();
  std::vector<StoredRecord> records;
  ListPage page;
  if (absl::Status status = ReadPage(query, *behind, &records, &page.next_page_token); !status.ok()) return status;
  absl::StatusOr<std::vector<GlobalPtr>> globals = ParseGlobals(records);
  if (!globals.ok()) return globals.status();
  page.globals = *std::move(globals);
  return page;
}

absl::Status SqliteStore::ReadPage(const ListQuery& query, int64_t behind, std::vector<StoredRecord>* records,
                                   std::string* token) {
  const auto& states = query.states;
  const bool only_open = !states.empty() && std::none_of(states.begin(), states.end(), IsFinished);

  MutexLock lock(&reader_mu_);
  SqliteStatement* const list = query.order == ListOrder::kOldestFirst
                                    ? (only_open ? &list_open_oldest_ : &list_all_oldest_)
                                    : (only_open ? &list_open_ : &list_all_);
  StatementReset reset(list);
  list->BindInt(1, behind);
  int64_t last_id = behind;
  int scanned = 0;
  size_t bytes = 0;
  int code;
  while ((code = list->Step()) == SQLITE_ROW) {
    // There is another row, and no room for it (or for looking at it).
    if (records->size() == static_cast<size_t>(query.page_size) || scanned == kMaxScannedRows ||
        bytes > kMaxPageBytes) {
      *token = EncodePageToken(last_id, query);
      break;
    }
    ++scanned;
    last_id = list->ColumnInt(0);
    const auto state = static_cast<v1::Global::State>(list->ColumnInt(1));
    if (!states.empty() && std::find(states.begin(), states.end(), state) == states.end()) continue;
    records->push_back(StoredOf(list, 2));
    bytes += records->back().record.size();
  }
  last_read_steps_ = StepsOf(list);
  if (code != SQLITE_ROW && code != SQLITE_DONE) return reader_.Error(code, "list transactions");
  return absl::OkStatus();
}

absl::StatusOr<std::vector<GlobalPtr>> SqliteStore::ReadOpen(absl::string_view after, int limit) {
  std::vector<StoredRecord> records;
  {
    MutexLock lock(&reader_mu_);
    StatementReset reset(&read_open_);
    read_open_.BindText(1, after);
    read_open_.BindInt(2, limit);
    int code;
    while ((code = read_open_.Step()) == SQLITE_ROW) records.push_back(StoredOf(&read_open_, 0));
    last_read_steps_ = StepsOf(&read_open_);
    if (code != SQLITE_DONE) return reader_.Error(code, "read open transactions");
  }
  return ParseGlobals(records);
}

absl::StatusOr<std::vector<GlobalPtr>> SqliteStore::ReadChanged(absl::Span<const KnownRevision> known) {
  if (absl::Status status = CheckKnown(known); !status.ok()) return status;
  std::vector<StoredRecord> records;
  {
    MutexLock lock(&reader_mu_);
    for (const KnownRevision& one : known) {
      StatementReset reset(&read_changed_);
      read_changed_.BindText(1, one.gtrid);
      read_changed_.BindInt(2, one.revision);
      const int code = read_changed_.Step();
      if (code == SQLITE_ROW) records.push_back(StoredOf(&read_changed_, 0));
      if (code != SQLITE_ROW && code != SQLITE_DONE) return reader_.Error(code, "read changed transactions");
    }
  }
  return ParseGlobals(records);
}

absl::StatusOr<std::vector<std::string>> SqliteStore::Purge(absl::Time ended_before, int limit) {
  if (absl::Status status = CheckPurgeLimit(limit); !status.ok()) return status;
  absl::StatusOr<std::vector<std::string>> gtrids = std::vector<std::string>();
  queue_->RunBlocking([&] { gtrids = writer_->Purge(ended_before, limit); });
  return gtrids;
}

absl::StatusOr<StoreSizes> SqliteStore::Sizes() {
  MutexLock lock(&reader_mu_);
  StatementReset reset(&sizes_);
  const int code = sizes_.Step();
  last_read_steps_ = StepsOf(&sizes_);
  if (code != SQLITE_ROW) return reader_.Error(code, "read the sizes");
  StoreSizes sizes;
  sizes.open = sizes_.ColumnInt(0);
  sizes.records = sizes_.ColumnInt(1);
  sizes.bytes = sizes_.ColumnInt(2);
  return sizes;
}

absl::Status SqliteStore::PutResource(const v1::Resource& resource) {
  absl::Status status;
  queue_->RunBlocking([&] { status = writer_->PutResource(resource); });
  return status;
}

absl::StatusOr<bool> SqliteStore::ReplaceResource(const v1::Resource* expected, const v1::Resource& resource) {
  absl::StatusOr<bool> replaced = false;
  queue_->RunBlocking([&] { replaced = writer_->ReplaceResource(expected, resource); });
  return replaced;
}

absl::Status SqliteStore::FinishImport(absl::Time horizon) {
  absl::Status status;
  queue_->RunBlocking([&] { status = writer_->FinishImport(horizon); });
  if (status.ok()) half_imported_ = false;
  return status;
}

absl::Status SqliteStore::RemoveResource(absl::string_view name) {
  absl::Status status;
  queue_->RunBlocking([&] { status = writer_->RemoveResource(name); });
  return status;
}

absl::StatusOr<std::vector<v1::Resource>> SqliteStore::ReadResources() {
  MutexLock lock(&reader_mu_);
  StatementReset reset(&read_resources_);
  std::vector<v1::Resource> resources;
  int code;
  while ((code = read_resources_.Step()) == SQLITE_ROW) {
    absl::StatusOr<v1::Resource> resource = ParseResource(read_resources_.ColumnBytes(0));
    if (!resource.ok()) return resource.status();
    resources.push_back(*std::move(resource));
  }
  if (code != SQLITE_DONE) return reader_.Error(code, "read resources");
  return resources;
}

int64_t SqliteStore::LastReadStepsForTest() {
  MutexLock lock(&reader_mu_);
  return last_read_steps_;
}

}  // namespace assent
