#include "store/mariadb_store.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/errors.h"
#include "base/xid.h"
#include "store/page_token.h"
#include "store/record.h"

namespace assent {
namespace {

absl::Status InvalidOption(absl::string_view field, absl::string_view message) {
  return MakeError(Reason::INVALID_FIELD, message, {{"field", std::string(field)}});
}

absl::Status CheckOptions(const MariaDbOptions& options) {
  if (!IsValidCluster(options.cluster)) {
    return InvalidOption("cluster", "the cluster's name must be 1 to 32 characters of [A-Za-z0-9._:]");
  }
  const bool plain = std::all_of(options.database.begin(), options.database.end(),
                                 [](char c) { return absl::ascii_isalnum(c) || c == '_' || c == '$' || c == '-'; });
  if (!plain || options.database.empty() || options.database.size() > 64) {
    return InvalidOption("database", "the database's name must be 1 to 64 characters of [A-Za-z0-9_$-]");
  }
  if (options.queue_limit < 1) return InvalidOption("queue_limit", "queue_limit must be at least 1");
  if (options.max_group < 1) return InvalidOption("max_group", "max_group must be at least 1");
  if (options.max_readers < 1) return InvalidOption("max_readers", "max_readers must be at least 1");
  return absl::OkStatus();
}

absl::Status CheckFindings(const MariaDbOptions& options, const std::vector<StoreFinding>& findings) {
  for (const StoreFinding& finding : findings) {
    LOG(WARNING) << "store: its server has " << finding.setting << ": " << finding.problem;
  }
  if (findings.empty() || options.unsafe == MariaDbOptions::Unsafe::kWarn) return absl::OkStatus();
  return MakeError(Reason::STORE_UNFIT,
                   absl::StrCat("the store's server can lose what it has acknowledged: ",
                                absl::StrJoin(findings, "; ",
                                              [](std::string* out, const StoreFinding& finding) {
                                                absl::StrAppend(out, finding.setting, ": ", finding.problem);
                                              })),
                   {{"setting", findings[0].setting}});
}

std::string StatesSql(const std::vector<v1::Global::State>& states) {
  if (states.empty()) return "";
  return absl::StrCat(
      " AND state IN (",
      absl::StrJoin(states, ",",
                    [](std::string* out, v1::Global::State state) { absl::StrAppend(out, static_cast<int>(state)); }),
      ")");
}

// Where the rows of a List are, and how far it came: a page of ids, without their records.
struct PageRows {
  int64_t first = 0;  // 0: none.
  int64_t last = 0;
  absl::optional<int64_t> continue_behind;  // There may be more.
};

absl::string_view OrderSql(const ListQuery& query) {
  return query.order == ListOrder::kOldestFirst ? " ORDER BY id" : " ORDER BY id DESC";
}

DbError FindPage(MariaDbConnection* connection, const ListQuery& query, int64_t behind, PageRows* page) {
  *page = PageRows();
  const auto& states = query.states;
  const bool only_open = !states.empty() && std::none_of(states.begin(), states.end(), IsFinished);
  const bool oldest_first = query.order == ListOrder::kOldestFirst;
  const std::string from = absl::StrCat(oldest_first ? "id>" : "id<", behind);
  std::string where =
      absl::StrCat(only_open ? "FORCE INDEX (by_ended_id) WHERE ended=0 AND " : "FORCE INDEX (PRIMARY) WHERE ", from);
  absl::optional<int64_t> scanned_to;
  if (!states.empty() && !only_open) {
    // A filter may skip no more than so many rows.
    const QueryResult scan =
        connection->Query(absl::StrCat("SELECT id FROM store_globals FORCE INDEX (PRIMARY) WHERE ", from,
                                       OrderSql(query), " LIMIT 1 OFFSET ", kMaxScannedRows - 1));
    if (!scan.ok()) return scan.error;
    if (!scan.rows().empty()) {
      scanned_to = IntOf(scan.rows()[0][0]);
      absl::StrAppend(&where, oldest_first ? " AND id<=" : " AND id>=", *scanned_to);
    }
  }
  const QueryResult found =
      connection->Query(absl::StrCat("SELECT id, LENGTH(record) FROM store_globals ", where, StatesSql(states),
                                     OrderSql(query), " LIMIT ", query.page_size + 1));
  if (!found.ok()) return found.error;
  size_t bytes = 0;
  int rows = 0;
  for (const auto& row : found.rows()) {
    if (rows == query.page_size || bytes > kMaxPageBytes) {
      page->continue_behind = page->last;
      return DbError{};
    }
    if (rows++ == 0) page->first = IntOf(row[0]);
    page->last = IntOf(row[0]);
    bytes += IntOf(row[1]);
  }
  page->continue_behind = scanned_to;
  return DbError{};
}

}  // namespace

MariaDbStore::MariaDbStore(const MariaDbOptions& options, MariaDbStoreFacts facts, std::vector<StoreFinding> findings)
    : facts_(std::move(facts)),
      findings_(std::move(findings)),
      half_imported_(facts_.half_imported),
      pool_(options, facts_.store_id),
      writer_(std::make_unique<MariaDbWriter>(options, facts_.store_id, absl::StrCat("assent.writer.", NewRequestId()),
                                              &fence_, &horizon_)),
      members_(&pool_, &fence_, writer_->name()) {
  horizon_.Raise(facts_.horizon);
}

absl::StatusOr<std::unique_ptr<MariaDbStore>> MariaDbStore::Open(const MariaDbOptions& options) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  std::vector<StoreFinding> findings;
  {
    absl::StatusOr<std::unique_ptr<MariaDbConnection>> connection = ConnectToStore(options, /*database=*/false);
    if (!connection.ok()) return connection.status();
    absl::StatusOr<std::vector<StoreFinding>> found = ExamineServer(connection->get());
    if (!found.ok()) return found.status();
    findings = *std::move(found);
  }
  if (absl::Status status = CheckFindings(options, findings); !status.ok()) return status;
  absl::StatusOr<MariaDbStoreFacts> facts = PrepareMariaDbStore(options, !findings.empty());
  if (!facts.ok()) return facts.status();
  std::unique_ptr<MariaDbStore> store(new MariaDbStore(options, *std::move(facts), std::move(findings)));
  if (absl::Status status = store->writer_->Ensure(); !status.ok()) return status;
  MariaDbWriter* const writer = store->writer_.get();
  WriteQueue::Work work;
  work.apply = [writer](const std::vector<PendingTransition>& group) { return writer->Apply(group); };
  work.after_group = [] {};
  work.idle = [] {};
  store->queue_ = std::make_unique<WriteQueue>(WriteQueue::Limits{options.queue_limit, options.max_group}, work);
  return store;
}

MariaDbStore::~MariaDbStore() {
  // Not by destroying it: until the last `done` has run, they may Submit.
  if (queue_ != nullptr) queue_->Finish();
}

void MariaDbStore::Submit(Transition transition, Done done) {
  CHECK(transition.next != nullptr);
  CHECK_GT(transition.next->revision(), transition.expected_revision) << transition.next->gtrid();
  queue_->Submit(std::move(transition), std::move(done));
}

absl::StatusOr<GlobalPtr> MariaDbStore::Settle(absl::string_view gtrid) {
  absl::StatusOr<GlobalPtr> global = GlobalPtr();
  queue_->RunBlocking([&] { global = writer_->Settle(gtrid); });
  return global;
}

absl::StatusOr<std::vector<GlobalPtr>> MariaDbStore::ReadForced(absl::string_view doing, const std::string& sql) {
  std::vector<StoredRecord> records;
  const absl::Status status = pool_.Run(doing, [&](MariaDbConnection* connection) {
    records.clear();
    const QueryResult answer = connection->Query(sql);
    if (!answer.ok()) return answer.error;
    for (const auto& row : answer.rows()) records.push_back(StoredOf(row));
    return records.empty() ? DbError{} : ForceWhatWasRead(connection);
  });
  if (!status.ok()) return status;
  return ParseGlobals(records);
}

absl::StatusOr<GlobalPtr> MariaDbStore::Read(absl::string_view gtrid) {
  absl::StatusOr<std::vector<GlobalPtr>> globals =
      ReadForced("read a transaction",
                 absl::StrCat("SELECT gtrid, revision, record FROM store_globals WHERE gtrid=", Quote(gtrid)));
  if (!globals.ok()) return globals.status();
  if (!globals->empty()) return std::move((*globals)[0]);
  // Another instance may have deleted it, with the horizon that it has left behind.
  if (const absl::StatusOr<absl::Time> horizon = ReadHorizon(); !horizon.ok()) return horizon.status();
  return GlobalPtr();
}

absl::StatusOr<std::vector<GlobalPtr>> MariaDbStore::ReadOpen(absl::string_view after, int limit) {
  return ReadForced(
      "read open transactions",
      absl::StrCat(
          "SELECT gtrid, revision, record FROM store_globals FORCE INDEX (by_ended_gtrid) WHERE ended=0 AND gtrid>",
          Quote(after), " ORDER BY gtrid LIMIT ", limit));
}

absl::StatusOr<std::vector<GlobalPtr>> MariaDbStore::ReadChanged(absl::Span<const KnownRevision> known) {
  if (absl::Status status = CheckKnown(known); !status.ok()) return status;
  if (known.empty()) return std::vector<GlobalPtr>();
  std::string sql = "SELECT gtrid, revision, record FROM store_globals FORCE INDEX (by_gtrid) WHERE ";
  for (size_t i = 0; i < known.size(); ++i) {
    absl::StrAppend(&sql, i == 0 ? "" : " OR ", "(gtrid=", Quote(known[i].gtrid), " AND revision>", known[i].revision,
                    ")");
  }
  return ReadForced("read changed transactions", sql);
}

absl::StatusOr<ListPage> MariaDbStore::List(const ListQuery& query) {
  if (absl::Status status = CheckPageSize(query.page_size); !status.ok()) return status;
  const absl::StatusOr<int64_t> behind = DecodePageToken(query);
  if (!behind.ok()) return behind.status();
  std::vector<StoredRecord> records;
  PageRows rows;
  const absl::Status status = pool_.Run("list transactions", [&](MariaDbConnection* connection) {
    records.clear();
    const DbError error = FindPage(connection, query, *behind, &rows);
    if (!error.ok() || rows.first == 0) return error;
    // Whose state has changed in between is left out, as if it had changed before.
    const QueryResult answer = connection->Query(
        absl::StrCat("SELECT gtrid, revision, record FROM store_globals FORCE INDEX (PRIMARY) WHERE id BETWEEN ",
                     std::min(rows.first, rows.last), " AND ", std::max(rows.first, rows.last), StatesSql(query.states),
                     OrderSql(query), " LIMIT ", query.page_size));
    for (const auto& row : answer.rows()) records.push_back(StoredOf(row));
    return answer.error;
  });
  if (!status.ok()) return status;
  absl::StatusOr<std::vector<GlobalPtr>> globals = ParseGlobals(records);
  if (!globals.ok()) return globals.status();
  ListPage page;
  page.globals = *std::move(globals);
  if (rows.continue_behind) page.next_page_token = EncodePageToken(*rows.continue_behind, query);
  return page;
}

absl::StatusOr<std::vector<std::string>> MariaDbStore::Purge(absl::Time ended_before, int limit) {
  if (absl::Status status = CheckPurgeLimit(limit); !status.ok()) return status;
  std::vector<std::string> gtrids;
  bool fenced = false;
  absl::Status unknown;
  const absl::Status status = pool_.Run("purge finished transactions", [&](MariaDbConnection* connection) {
    gtrids.clear();
    const QueryResult found = connection->Query(
        absl::StrCat("START TRANSACTION;", fence_.Sql(),
                     ";SELECT id, gtrid, ended FROM store_globals FORCE INDEX (by_ended_id) WHERE ended>0 "
                     "AND ended<",
                     absl::ToUnixMicros(ended_before), " ORDER BY ended LIMIT ", limit, " FOR UPDATE"));
    if (!found.ok()) return found.error;
    fenced = !Fence::Holds(found.results[1]);
    const auto& rows = found.results[2].rows;
    if (fenced || rows.empty()) return connection->Query("ROLLBACK").error;
    std::vector<std::string> ids;
    std::vector<std::string> names;
    int64_t horizon = 0;
    for (const auto& row : rows) {
      ids.push_back(TextOf(row[0]));
      gtrids.push_back(TextOf(row[1]));
      names.push_back(Quote(gtrids.back()));
      horizon = std::max(horizon, HorizonBehind(gtrids.back(), IntOf(row[2])));
    }
    // Together: whoever finds a row gone finds the horizon behind it. Locked by the key that an insert meets: of a
    // deletion that locks it only by having happened, InnoDB may forget the lock just before others see what it did.
    const QueryResult deleted = connection->Query(absl::StrCat(
        "UPDATE store_meta SET number=GREATEST(number, ", horizon, ") WHERE name='horizon';", kHorizonSql,
        ";SELECT COUNT(*) FROM store_globals FORCE INDEX (by_gtrid) WHERE gtrid IN (", absl::StrJoin(names, ","),
        ") FOR UPDATE;DELETE FROM store_globals WHERE id IN (", absl::StrJoin(ids, ","), ")"));
    if (!deleted.ok()) return deleted.error;
    // One that was lost is not made again: nobody knows how far it had come.
    if (deleted.results[1].rows.size() != 1) return NoHorizonError();
    horizon_.Raise(horizon);
    unknown = StoreError(connection->Query("COMMIT").error, "purge finished transactions");
    return DbError{};
  });
  if (!status.ok()) return status;
  if (fenced) return Fence::Fenced();
  if (!unknown.ok()) return unknown;
  return gtrids;
}

absl::StatusOr<absl::Time> MariaDbStore::ReadHorizon() {
  int64_t horizon = 0;
  const absl::Status status = pool_.Run("read the horizon", [&](MariaDbConnection* connection) {
    const QueryResult answer = connection->Query(kHorizonSql);
    if (!answer.ok()) return answer.error;
    if (answer.rows().size() != 1) return NoHorizonError();
    horizon = IntOf(answer.rows()[0][0]);
    return DbError{};
  });
  if (!status.ok()) return status;
  horizon_.Raise(horizon);
  return absl::FromUnixMicros(horizon);
}

absl::StatusOr<StoreSizes> MariaDbStore::Sizes() {
  StoreSizes sizes;
  const absl::Status status = pool_.Run("read the sizes", [&](MariaDbConnection* connection) {
    const QueryResult answer = connection->Query(
        "SELECT COUNT(*) FROM store_globals FORCE INDEX (by_ended_id) WHERE ended=0;"
        "SELECT SUM(IF(TABLE_NAME='store_globals', TABLE_ROWS, 0)), SUM(DATA_LENGTH + INDEX_LENGTH) FROM "
        "information_schema.TABLES WHERE TABLE_SCHEMA=DATABASE() AND TABLE_NAME LIKE 'store\\_%'");
    if (!answer.ok()) return answer.error;
    sizes.open = IntOf(answer.results[0].rows[0][0]);
    sizes.records = IntOf(answer.results[1].rows[0][0]);
    sizes.bytes = IntOf(answer.results[1].rows[0][1]);
    return DbError{};
  });
  if (!status.ok()) return status;
  return sizes;
}

absl::Status MariaDbStore::Change(absl::string_view doing, const std::string& sql) {
  bool fenced = false;
  const absl::Status status = pool_.Run(doing, [&](MariaDbConnection* connection) {
    const QueryResult answer = connection->Query(absl::StrCat("START TRANSACTION;", fence_.Sql(), ";", sql));
    if (!answer.ok()) return answer.error;
    fenced = !Fence::Holds(answer.results[1]);
    return connection->Query(fenced ? "ROLLBACK" : "COMMIT").error;
  });
  return status.ok() && fenced ? Fence::Fenced() : status;
}

absl::Status MariaDbStore::PutResource(const v1::Resource& resource) {
  return Change("write a resource",
                absl::StrCat("REPLACE INTO store_resources (name, record) VALUES (", Quote(resource.name()), ",",
                             Quote(resource.SerializeAsString()), ")"));
}

absl::StatusOr<bool> MariaDbStore::ReplaceResource(const v1::Resource* expected, const v1::Resource& resource) {
  constexpr absl::string_view kDoing = "write a resource";
  const std::string name = Quote(resource.name());
  const std::string wanted = resource.SerializeAsString();
  bool fenced = false;
  bool replaced = false;
  absl::Status parsed;
  const absl::Status status = pool_.Run(kDoing, [&](MariaDbConnection* connection) {
    replaced = false;
    const QueryResult found = connection->Query(absl::StrCat(
        "START TRANSACTION;", fence_.Sql(), ";SELECT record FROM store_resources WHERE name=", name, " FOR UPDATE"));
    if (!found.ok()) return found.error;
    fenced = !Fence::Holds(found.results[1]);
    const auto& rows = found.results[2].rows;
    absl::optional<std::string> now;
    parsed = absl::OkStatus();
    if (!rows.empty()) {
      // Compared as this program writes it, which another version may do otherwise.
      const absl::StatusOr<v1::Resource> stored = ParseResource(TextOf(rows[0][0]));
      parsed = stored.status();
      if (stored.ok()) now = stored->SerializeAsString();
    }
    const bool as_expected = expected == nullptr ? !now : now == expected->SerializeAsString();
    if (fenced || !parsed.ok() || (!as_expected && now != wanted)) return connection->Query("ROLLBACK").error;
    const QueryResult written = connection->Query(
        now ? absl::StrCat("UPDATE store_resources SET record=", Quote(wanted), " WHERE name=", name)
            : absl::StrCat("INSERT INTO store_resources (name, record) VALUES (", name, ",", Quote(wanted), ")"));
    // There was nothing to lock, and somebody else was first.
    if (written.error.code == kErDupEntry) return connection->Query("ROLLBACK").error;
    if (!written.ok()) return written.error;
    replaced = true;
    return connection->Query("COMMIT").error;
  });
  if (!status.ok()) return status;
  if (fenced) return Fence::Fenced();
  if (!parsed.ok()) return parsed;
  return replaced;
}

absl::Status MariaDbStore::FinishImport(absl::Time horizon) {
  const int64_t micros = HorizonAt(horizon);
  horizon_.Raise(micros);
  // Everything that may have been lost was compared, and written again.
  const absl::Status status = Change(
      "finish the import", absl::StrCat("UPDATE store_meta SET number=0 WHERE name='lossy_until_id';"
                                        "UPDATE store_meta SET number=",
                                        micros, " WHERE name='horizon';DELETE FROM store_meta WHERE name='importing'"));
  if (status.ok()) half_imported_ = false;
  return status;
}

absl::Status MariaDbStore::RemoveResource(absl::string_view name) {
  return Change("remove a resource", absl::StrCat("DELETE FROM store_resources WHERE name=", Quote(name)));
}

absl::StatusOr<std::vector<v1::Resource>> MariaDbStore::ReadResources() {
  std::vector<std::string> records;
  const absl::Status status = pool_.Run("read resources", [&](MariaDbConnection* connection) {
    records.clear();
    const QueryResult answer = connection->Query("SELECT record FROM store_resources ORDER BY name");
    for (const auto& row : answer.rows()) records.push_back(TextOf(row[0]));
    return answer.error;
  });
  if (!status.ok()) return status;
  std::vector<v1::Resource> resources;
  for (const std::string& record : records) {
    absl::StatusOr<v1::Resource> resource = ParseResource(record);
    if (!resource.ok()) return resource.status();
    resources.push_back(*std::move(resource));
  }
  return resources;
}

}  // namespace assent
