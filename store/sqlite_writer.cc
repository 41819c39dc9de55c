#include "store/sqlite_writer.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/fault_point.h"
#include "store/record.h"
#include "store/sqlite_schema.h"

namespace assent {
namespace {

// Above this size the check at open would delay the start for too long (it reads everything).
constexpr int64_t kQuickCheckMaxBytes = int64_t{64} << 20;
// The writer's page cache. A group's changes should fit, or SQLite spills them into the log more than once.
constexpr int kCacheKib = 64 * 1024;
// How long another program (an operator's sqlite3 shell) may hold the write lock.
constexpr int kBusyTimeoutMs = 2000;
// A checkpoint while idle is worth its two syncs from here on.
constexpr int kIdleCheckpointPages = 1000;
// SQLite's unix VFS cannot write 128 KiB or more at once (it takes the size modulo that, and calls nothing written a
// full disk).
constexpr int kRewriteChunkBytes = 64 << 10;

}  // namespace

absl::StatusOr<std::unique_ptr<SqliteWriter>> SqliteWriter::Open(const Options& options, Mutex* readers) {
  std::unique_ptr<SqliteWriter> writer(new SqliteWriter(readers));
  writer->wal_limit_pages_ = options.wal_limit_pages;
  writer->checkpoint_at_pages_ = options.wal_limit_pages;
  if (absl::Status status = writer->Configure(options); !status.ok()) return status;
  if (absl::Status status = writer->PrepareStatements(); !status.ok()) return status;
  const absl::StatusOr<int64_t> horizon =
      writer->db_.QueryInt("SELECT ifnull((SELECT value FROM meta WHERE key = 'horizon'), -1)");
  if (!horizon.ok()) return horizon.status();
  if (*horizon < 0) {
    return SqliteError(SQLITE_CORRUPT, nullptr,
                       absl::StrCat("use '", options.path, "', its meta has no row 'horizon'"));
  }
  writer->horizon_.Raise(*horizon);
  writer->ready_ = true;
  if (absl::Status status = writer->Repair(); !status.ok()) return status;
  const absl::StatusOr<bool> lossy = NoteBoot(&writer->db_, options.new_file, options.boot_id);
  if (!lossy.ok()) return lossy.status();
  writer->may_have_lost_lazy_writes_ = *lossy;
  // The counters begin with the open store.
  writer->groups_ = writer->forced_groups_ = writer->checkpoint_syncs_ = 0;
  return writer;
}

absl::Status SqliteWriter::Configure(const Options& options) {
  absl::StatusOr<SqliteConnection> db = SqliteConnection::Open(options.path, options.vfs);
  if (!db.ok()) return db.status();
  db_ = *std::move(db);
  sqlite3_busy_timeout(db_.get(), kBusyTimeoutMs);
  sqlite3_wal_hook(db_.get(), &SqliteWriter::OnCommit, this);  // Also switches SQLite's own checkpoints off.

  // The first statements that read: whatever is wrong with the file shows here.
  const absl::StatusOr<int64_t> pages = db_.QueryInt("PRAGMA page_count");
  if (!pages.ok()) return pages.status();
  const absl::StatusOr<int64_t> page_bytes = db_.QueryInt("PRAGMA page_size");
  if (!page_bytes.ok()) return page_bytes.status();
  if (sqlite3_db_readonly(db_.get(), "main") != 0) {
    return SqliteError(SQLITE_READONLY, nullptr, absl::StrCat("write to '", options.path, "'"));
  }
  if (*pages > 0 && *pages * *page_bytes <= kQuickCheckMaxBytes) {
    const absl::StatusOr<std::string> verdict = db_.QueryText("PRAGMA quick_check(1)");
    if (!verdict.ok()) return verdict.status();
    if (*verdict != "ok") {
      return SqliteError(SQLITE_CORRUPT, nullptr, absl::StrCat("use '", options.path, "', it is damaged: ", *verdict));
    }
  }
  // secure_delete is on in Debian's build and would write every freed byte; nothing here is secret.
  const std::string settings =
      absl::StrCat("PRAGMA secure_delete = OFF; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -", kCacheKib,
                   "; PRAGMA synchronous = FULL");
  if (absl::Status status = db_.Execute(settings, "configure"); !status.ok()) return status;
  full_sync_ = true;
  // Not before the file is known to be ours: it changes the file.
  const absl::StatusOr<SchemaFacts> facts = PrepareSchema(&db_, options.path, options.cluster, options.import_as);
  if (!facts.ok()) return facts.status();
  half_imported_ = facts->half_imported;
  const absl::StatusOr<std::string> mode = db_.QueryText("PRAGMA journal_mode = WAL");
  if (!mode.ok()) return mode.status();
  if (*mode != "wal") {
    return MakeError(Reason::STORE_UNAVAILABLE,
                     absl::StrCat("'", options.path,
                                  "' lies on a file system without shared memory maps (SQLite's "
                                  "journal mode stays '",
                                  *mode, "'): use a local file system"));
  }
  return absl::OkStatus();
}

absl::Status SqliteWriter::PrepareStatements() {
  const struct {
    SqliteStatement* statement;
    absl::string_view sql;
  } kStatements[] = {
      {&begin_, "BEGIN IMMEDIATE"},
      {&commit_, "COMMIT"},
      {&rollback_, "ROLLBACK"},
      {&insert_,
       "INSERT INTO globals (gtrid, request_id, revision, state, open, record, ended) "
       "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) "
       "ON CONFLICT DO NOTHING"},
      // From open to open: `open` is not assigned, so no index is touched.
      {&update_open_,
       "UPDATE globals SET revision = ?1, state = ?2, record = ?3 WHERE gtrid = ?4 AND revision = ?5 AND open = 1"},
      {&update_any_,
       "UPDATE globals SET revision = ?1, state = ?2, record = ?3, open = ?6, ended = ?7 "
       "WHERE gtrid = ?4 AND revision = ?5"},
      {&read_by_gtrid_, "SELECT gtrid, revision, record FROM globals WHERE gtrid = ?1"},
      {&read_by_request_id_, "SELECT gtrid, revision, record FROM globals WHERE request_id = ?1"},
      {&bump_barrier_, "UPDATE meta SET value = value + 1 WHERE key = 'barrier'"},
      {&read_resource_, "SELECT record FROM resources WHERE name = ?1"},
      {&put_resource_, "INSERT OR REPLACE INTO resources (name, record) VALUES (?1, ?2)"},
      {&remove_resource_, "DELETE FROM resources WHERE name = ?1"},
      {&purge_,
       "DELETE FROM globals WHERE id IN (SELECT id FROM globals INDEXED BY globals_ended WHERE open = 0 AND ended < ?1 "
       "ORDER BY ended LIMIT ?2) RETURNING gtrid, ended"},
      {&raise_horizon_, "UPDATE meta SET value = max(value, ?1) WHERE key = 'horizon'"},
      {&set_horizon_, "UPDATE meta SET value = ?1 WHERE key = 'horizon'"},
      // Everything that may have been lost was compared, and written again.
      {&finish_import_, "DELETE FROM meta WHERE key IN ('importing', 'lossy_until_id')"},
      {&bump_epoch_, "UPDATE meta SET value = value + 1 WHERE key = 'epoch' RETURNING value"},
  };
  for (const auto& entry : kStatements) {
    absl::StatusOr<SqliteStatement> prepared = db_.Prepare(entry.sql);
    if (!prepared.ok()) return prepared.status();
    *entry.statement = *std::move(prepared);
  }
  return absl::OkStatus();
}

SqliteWriter::~SqliteWriter() {
  if (db_.get() == nullptr) return;
  // A file that was refused is left alone; it may not even be ours.
  if (repair_due_ && (!ready_ || !Repair().ok())) {
    // Closing would move the log into the database and delete it, trusting a sync that may lie. The next open repairs.
    sqlite3_db_config(db_.get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  }
}

std::vector<TransitionResult> SqliteWriter::Apply(const std::vector<PendingTransition>& group) {
  std::vector<TransitionResult> results(group.size());
  const auto answer_all = [&](TransitionResult::Code code, const absl::Status& status) {
    for (TransitionResult& result : results) result = {code, nullptr, status};
    return results;
  };
  const bool forced = std::any_of(group.begin(), group.end(), [](const PendingTransition& pending) {
    return pending.transition.durability == Durability::kForced;
  });
  if (absl::Status status = Begin(forced); !status.ok()) {
    return answer_all(TransitionResult::Code::kNotApplied, status);
  }
  int64_t applied = 0;
  for (size_t i = 0; i < group.size(); ++i) {
    const int code = ApplyOne(group[i], &results[i]);
    if (code != SQLITE_DONE) {
      const absl::Status status = Failed(code, "write transitions");
      Rollback();
      return answer_all(TransitionResult::Code::kNotApplied, status);
    }
    if (results[i].code == TransitionResult::Code::kApplied) ++applied;
  }
  absl::Status status;
  ASSENT_FAULT_POINT_OF(forced ? FaultPoint::kStoreForcedBefore : FaultPoint::kStoreGroupBefore);
  switch (Commit(forced, &status)) {
    case CommitEnd::kCommitted:
      ASSENT_FAULT_POINT_OF(forced ? FaultPoint::kStoreForcedCommitted : FaultPoint::kStoreGroupCommitted);
      transitions_ += applied;
      if (applied > 0) {
        ++groups_;
        if (forced) ++forced_groups_;
      }
      return results;
    case CommitEnd::kNotCommitted: return answer_all(TransitionResult::Code::kNotApplied, status);
    case CommitEnd::kUnknown:
      // Members that conflicted, too: what stood in their way may be another member, and then it is as unknown.
      return answer_all(TransitionResult::Code::kUnknown, status);
  }
  return results;
}

int SqliteWriter::ApplyOne(const PendingTransition& pending, TransitionResult* result) {
  const bool creating = pending.transition.expected_revision == 0;
  if (pending.transition.must_be_first && IsBeforeHorizon(pending.transition.next->gtrid(), horizon_.micros())) {
    return RefuseSecond(*pending.transition.next, result);
  }
  bool applied = false;
  const int code = creating ? Insert(pending, &applied) : Update(pending, &applied);
  if (code != SQLITE_DONE || applied) return code;
  return ReadConflict(*pending.transition.next, creating, result);
}

int SqliteWriter::Insert(const PendingTransition& pending, bool* applied) {
  const v1::Global& next = *pending.transition.next;
  insert_.BindText(1, next.gtrid());
  if (next.request_id().empty()) {
    insert_.BindNull(2);
  } else {
    insert_.BindText(2, next.request_id());
  }
  insert_.BindInt(3, next.revision());
  insert_.BindInt(4, next.state());
  insert_.BindInt(5, IsFinished(next.state()) ? 0 : 1);
  insert_.BindBlob(6, pending.record);
  insert_.BindInt(7, EndedMicros(next));
  const int code = insert_.Run();
  *applied = code == SQLITE_DONE && sqlite3_changes(db_.get()) == 1;
  return code;
}

int SqliteWriter::RefuseSecond(const v1::Global& next, TransitionResult* result) {
  const int code = ReadConflict(next, /*creating=*/true, result);
  if (code == SQLITE_DONE && result->code == TransitionResult::Code::kConflict && result->current == nullptr) {
    *result = {TransitionResult::Code::kNotApplied, nullptr, MayHaveBeenDeleted(next.gtrid())};
  }
  return code;
}

int SqliteWriter::Update(const PendingTransition& pending, bool* applied) {
  const v1::Global& next = *pending.transition.next;
  const auto run = [&](SqliteStatement* statement) {
    statement->BindInt(1, next.revision());
    statement->BindInt(2, next.state());
    statement->BindBlob(3, pending.record);
    statement->BindText(4, next.gtrid());
    statement->BindInt(5, pending.transition.expected_revision);
    const int code = statement->Run();
    *applied = code == SQLITE_DONE && sqlite3_changes(db_.get()) == 1;
    return code;
  };
  const bool open = !IsFinished(next.state());
  if (open) {
    const int code = run(&update_open_);
    if (code != SQLITE_DONE || *applied) return code;
  }
  update_any_.BindInt(6, open ? 1 : 0);
  update_any_.BindInt(7, EndedMicros(next));
  return run(&update_any_);
}

int SqliteWriter::ReadConflict(const v1::Global& next, bool creating, TransitionResult* result) {
  result->code = TransitionResult::Code::kConflict;
  const auto read = [&](SqliteStatement* statement, absl::string_view key) {
    StatementReset reset(statement);
    statement->BindText(1, key);
    const int code = statement->Step();
    if (code != SQLITE_ROW) return code;
    absl::StatusOr<GlobalPtr> current = ParseGlobal(StoredOf(statement, 0));
    if (current.ok()) {
      result->current = *std::move(current);
    } else {
      *result = {TransitionResult::Code::kNotApplied, nullptr, current.status()};
    }
    return SQLITE_ROW;
  };
  int code = read(&read_by_gtrid_, next.gtrid());
  if (code == SQLITE_DONE && creating) code = read(&read_by_request_id_, next.request_id());
  return code == SQLITE_ROW ? SQLITE_DONE : code;
}

absl::Status SqliteWriter::Begin(bool forced) {
  if (repair_due_) {
    if (absl::Status status = Repair(); !status.ok()) return status;
  }
  if (forced != full_sync_) {
    // Cannot be prepared: the pragma takes effect while it is compiled.
    const int code = db_.Exec(forced ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
    if (code != SQLITE_OK) return db_.Error(code, "set the durability");
    full_sync_ = forced;
  }
  const int code = begin_.Run();
  if (code == SQLITE_DONE) return absl::OkStatus();
  absl::Status status = Failed(code, "begin a transaction");
  Rollback();
  return status;
}

SqliteWriter::CommitEnd SqliteWriter::Commit(bool forced, absl::Status* status) {
  const int code = RunCommit();
  if (code == SQLITE_DONE) return CommitEnd::kCommitted;
  *status = Failed(code, "commit");
  Rollback();
  repair_due_ = true;
  if ((code & 0xff) == SQLITE_FULL) {
    // A frame that did not fit was not completely written, and no frame behind it was: there is no commit mark that
    // recovery could find, and the barrier that comes before anything else leaves nothing of it. No sync was tried.
    checkpoint_at_pages_ = 0;  // The log's own room may be used again after a checkpoint.
    return CommitEnd::kNotCommitted;
  }
  sync_suspect_ = true;
  LOG(WARNING) << "store: a " << (forced ? "forced" : "lazy") << " commit ended unknown: " << status->message();
  return CommitEnd::kUnknown;
}

int SqliteWriter::RunCommit() {
  if (!restart_due_) return commit_.Run();
  restart_due_ = false;
  MutexLock lock(readers_);
  const int pages_before = PagesWritten();
  const int code = commit_.Run();
  // The log is exactly what this commit wrote, so it began anew.
  if (code == SQLITE_DONE && wal_pages_ == PagesWritten() - pages_before) LogBeganAnew();
  return code;
}

void SqliteWriter::Rollback() {
  // After many errors SQLite has rolled back by itself.
  if (!sqlite3_get_autocommit(db_.get())) rollback_.Run();
}

template <typename Body>
absl::Status SqliteWriter::ForcedTransaction(absl::string_view doing, Body body) {
  if (absl::Status status = Begin(/*forced=*/true); !status.ok()) return status;
  const int code = body();
  if (code != SQLITE_DONE) {
    absl::Status status = Failed(code, doing);
    Rollback();
    return status;
  }
  absl::Status status;
  if (Commit(/*forced=*/true, &status) == CommitEnd::kCommitted) {
    ++groups_;
    ++forced_groups_;
  }
  return status;
}

absl::StatusOr<GlobalPtr> SqliteWriter::Settle(absl::string_view gtrid) {
  // Begin repairs if need be; the barrier of our own is for callers who ask after somebody else's repair: what is
  // answered is forced to disk in any case.
  GlobalPtr global;
  absl::Status parsed;
  absl::Status status = ForcedTransaction("settle", [&] {
    const int code = bump_barrier_.Run();
    if (code != SQLITE_DONE) return code;
    StatementReset reset(&read_by_gtrid_);
    read_by_gtrid_.BindText(1, gtrid);
    const int read = read_by_gtrid_.Step();
    if (read != SQLITE_ROW) return read;
    absl::StatusOr<GlobalPtr> found = ParseGlobal(StoredOf(&read_by_gtrid_, 0));
    parsed = found.status();
    if (found.ok()) global = *std::move(found);
    return SQLITE_DONE;
  });
  if (!status.ok()) return status;
  if (!parsed.ok()) return parsed;
  return global;
}

absl::Status SqliteWriter::PutResource(const v1::Resource& resource) {
  const std::string record = resource.SerializeAsString();
  return ForcedTransaction("write a resource", [&] {
    put_resource_.BindText(1, resource.name());
    put_resource_.BindBlob(2, record);
    return put_resource_.Run();
  });
}

absl::StatusOr<bool> SqliteWriter::ReplaceResource(const v1::Resource* expected, const v1::Resource& resource) {
  const std::string record = resource.SerializeAsString();
  bool replaced = false;
  absl::Status parsed;
  absl::Status status = ForcedTransaction("write a resource", [&] {
    absl::optional<std::string> now;
    {
      StatementReset reset(&read_resource_);
      read_resource_.BindText(1, resource.name());
      const int read = read_resource_.Step();
      if (read != SQLITE_ROW && read != SQLITE_DONE) return read;
      if (read == SQLITE_ROW) {
        const absl::StatusOr<v1::Resource> stored = ParseResource(read_resource_.ColumnBytes(0));
        parsed = stored.status();
        if (!parsed.ok()) return SQLITE_DONE;
        now = stored->SerializeAsString();
      }
    }
    replaced = (expected == nullptr ? !now : now == expected->SerializeAsString()) || now == record;
    if (!replaced) return SQLITE_DONE;
    put_resource_.BindText(1, resource.name());
    put_resource_.BindBlob(2, record);
    return put_resource_.Run();
  });
  if (!status.ok()) return status;
  if (!parsed.ok()) return parsed;
  return replaced;
}

absl::Status SqliteWriter::RemoveResource(absl::string_view name) {
  return ForcedTransaction("remove a resource", [&] {
    remove_resource_.BindText(1, name);
    return remove_resource_.Run();
  });
}

absl::StatusOr<std::vector<std::string>> SqliteWriter::Purge(absl::Time ended_before, int limit) {
  std::vector<std::string> gtrids;
  absl::Status status = ForcedTransaction("purge finished transactions", [&] {
    StatementReset reset(&purge_);
    purge_.BindInt(1, absl::ToUnixMicros(ended_before));
    purge_.BindInt(2, limit);
    int64_t horizon = 0;
    int code;
    while ((code = purge_.Step()) == SQLITE_ROW) {
      gtrids.push_back(purge_.ColumnBytes(0));
      horizon = std::max(horizon, HorizonBehind(gtrids.back(), purge_.ColumnInt(1)));
    }
    if (code != SQLITE_DONE || gtrids.empty()) return code;
    horizon_.Raise(horizon);
    raise_horizon_.BindInt(1, horizon_.micros());
    return raise_horizon_.Run();
  });
  if (!status.ok()) return status;
  return gtrids;
}

absl::Status SqliteWriter::FinishImport(absl::Time horizon) {
  const int64_t micros = HorizonAt(horizon);
  horizon_.Raise(micros);
  return ForcedTransaction("finish the import", [&] {
    set_horizon_.BindInt(1, micros);
    const int code = set_horizon_.Run();
    return code == SQLITE_DONE ? finish_import_.Run() : code;
  });
}

absl::StatusOr<int64_t> SqliteWriter::BumpEpoch() {
  int64_t epoch = 0;
  absl::Status status = ForcedTransaction("count the epoch", [&] {
    StatementReset reset(&bump_epoch_);
    int code;
    while ((code = bump_epoch_.Step()) == SQLITE_ROW) epoch = bump_epoch_.ColumnInt(0);
    return code;
  });
  if (!status.ok()) return status;
  return epoch;
}

absl::Status SqliteWriter::Failed(int code, absl::string_view doing) {
  // Any I/O error may have been, or have hidden, a failed sync.
  if ((code & 0xff) == SQLITE_IOERR) repair_due_ = sync_suspect_ = true;
  return db_.Error(code, doing);
}

absl::Status SqliteWriter::Repair() {
  repair_due_ = false;  // Else Begin would come back here.
  absl::Status status = sync_suspect_ ? RewriteLog() : absl::OkStatus();
  if (status.ok()) status = ForcedTransaction("write the barrier", [&] { return bump_barrier_.Run(); });
  repair_due_ = !status.ok();
  if (status.ok()) sync_suspect_ = false;
  if (repair_due_) LOG(WARNING) << "store: not usable until its log can be written again: " << status.message();
  return status;
}

absl::Status SqliteWriter::RewriteLog() {
  // In WAL mode this is the log's file (null or closed before the first access).
  sqlite3_file* log = nullptr;
  int code = sqlite3_file_control(db_.get(), "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
  if (code != SQLITE_OK || log == nullptr || log->pMethods == nullptr) return absl::OkStatus();
  sqlite3_int64 size = 0;
  code = log->pMethods->xFileSize(log, &size);
  std::string chunk;
  for (sqlite3_int64 offset = 0; code == SQLITE_OK && offset < size; offset += chunk.size()) {
    chunk.resize(std::min<sqlite3_int64>(kRewriteChunkBytes, size - offset));
    const int bytes = static_cast<int>(chunk.size());
    code = log->pMethods->xRead(log, &chunk[0], bytes, offset);
    if (code == SQLITE_OK) code = log->pMethods->xWrite(log, chunk.data(), bytes, offset);
  }
  return code == SQLITE_OK ? absl::OkStatus() : SqliteError(code, nullptr, "write the log again");
}

void SqliteWriter::CheckpointIfDue() {
  if (wal_pages_ > checkpoint_at_pages_) Checkpoint();
}

void SqliteWriter::CheckpointIfWorthwhile() {
  if (wal_pages_ - checkpointed_pages_ >= std::min(kIdleCheckpointPages, wal_limit_pages_)) Checkpoint();
}

void SqliteWriter::Checkpoint() {
  if (sync_suspect_ && !Repair().ok()) return;
  int pages = 0;
  int moved = 0;
  // PASSIVE waits for nobody: a reader in the middle of an old state only means that less is moved.
  const int code = sqlite3_wal_checkpoint_v2(db_.get(), "main", SQLITE_CHECKPOINT_PASSIVE, &pages, &moved);
  // Not at every group if it did not help: after another stretch of the log.
  checkpoint_at_pages_ = wal_pages_ + wal_limit_pages_ / 4;
  if (code != SQLITE_OK) {
    LOG(WARNING) << "store: " << Failed(code, "checkpoint").message();
    return;
  }
  if (moved > checkpointed_pages_) checkpoint_syncs_ += 2;  // The log before, the database after.
  checkpointed_pages_ = moved;
  restart_due_ = moved == pages;
}

void SqliteWriter::LogBeganAnew() {
  ++checkpoint_syncs_;  // SQLite syncs the new header.
  checkpointed_pages_ = 0;
  checkpoint_at_pages_ = wal_limit_pages_;
}

int SqliteWriter::PagesWritten() {
  int pages = 0;
  int unused = 0;
  sqlite3_db_status(db_.get(), SQLITE_DBSTATUS_CACHE_WRITE, &pages, &unused, /*resetFlg=*/0);
  return pages;
}

int SqliteWriter::OnCommit(void* writer, sqlite3*, const char*, int pages) {
  static_cast<SqliteWriter*>(writer)->wal_pages_ = pages;
  return SQLITE_OK;
}

StoreStats SqliteWriter::Stats() const {
  StoreStats stats;
  stats.transitions = transitions_;
  stats.groups = groups_;
  stats.forced_groups = forced_groups_;
  stats.checkpoint_syncs = checkpoint_syncs_;
  return stats;
}

}  // namespace assent
