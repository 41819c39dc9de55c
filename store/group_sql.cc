#include "store/group_sql.h"

#include <algorithm>
#include <functional>
#include <unordered_map>

#include "absl/strings/str_cat.h"
#include "base/xid.h"
#include "store/horizon.h"
#include "store/mariadb_link.h"
#include "store/record.h"

namespace assent {
namespace {

// Of one statement. The UPDATE compares each row with each other's gtrid.
constexpr size_t kMaxInsertRows = 256;
constexpr size_t kMaxUpdateRows = 64;
constexpr size_t kMaxStatementBytes = size_t{1} << 20;

// What the group does to one row.
struct Row {
  const PendingTransition* first;
  const PendingTransition* last;

  int64_t expected() const { return first->transition.expected_revision; }
  const v1::Global& next() const { return *last->transition.next; }
};

std::string InsertValues(const Row& row) {
  const std::string& request_id = row.first->transition.next->request_id();
  const v1::Global& next = row.next();
  return absl::StrCat("(", Quote(next.gtrid()), ",", request_id.empty() ? "NULL" : Quote(request_id), ",",
                      next.revision(), ",", static_cast<int>(next.state()), ",", EndedMicros(next), ",",
                      Quote(row.last->record), ")");
}

constexpr absl::string_view kInsert =
    "INSERT INTO store_globals (gtrid, request_id, revision, state, ended, record) VALUES ";

std::string InsertSql(absl::Span<const Row> rows) {
  std::string sql(kInsert);
  for (size_t i = 0; i < rows.size(); ++i) absl::StrAppend(&sql, i == 0 ? "" : ",", InsertValues(rows[i]));
  return sql;
}

std::string UpdateOneSql(const Row& row) {
  const v1::Global& next = row.next();
  return absl::StrCat("UPDATE store_globals FORCE INDEX (by_gtrid) SET record=", Quote(row.last->record),
                      ",state=", static_cast<int>(next.state()), ",ended=", EndedMicros(next),
                      ",revision=", next.revision(), " WHERE gtrid=", Quote(next.gtrid()),
                      " AND revision=", row.expected());
}

std::string UpdateSql(absl::Span<const Row> rows) {
  if (rows.size() == 1) return UpdateOneSql(rows[0]);
  std::vector<std::string> gtrids;
  for (const Row& row : rows) gtrids.push_back(Quote(row.next().gtrid()));
  std::string sql = "UPDATE store_globals FORCE INDEX (by_gtrid) SET ";
  const auto set = [&](absl::string_view column, const std::function<std::string(const Row&)>& value) {
    absl::StrAppend(&sql, column, "=CASE gtrid");
    for (size_t i = 0; i < rows.size(); ++i) absl::StrAppend(&sql, " WHEN ", gtrids[i], " THEN ", value(rows[i]));
    absl::StrAppend(&sql, " END");
  };
  set("record", [](const Row& row) { return Quote(row.last->record); });
  set(",state", [](const Row& row) { return absl::StrCat(static_cast<int>(row.next().state())); });
  set(",ended", [](const Row& row) { return absl::StrCat(EndedMicros(row.next())); });
  set(",revision", [](const Row& row) { return absl::StrCat(row.next().revision()); });
  for (size_t i = 0; i < rows.size(); ++i) {
    absl::StrAppend(&sql, i == 0 ? " WHERE " : " OR ", "(gtrid=", gtrids[i], " AND revision=", rows[i].expected(), ")");
  }
  return sql;
}

// Cuts `rows` into statements.
void AddStatements(const std::vector<Row>& rows, size_t max_rows, std::string (*sql_of)(absl::Span<const Row>),
                   GroupSql* plan) {
  for (size_t begin = 0; begin < rows.size();) {
    size_t end = begin;
    size_t bytes = 0;
    while (end < rows.size() && end - begin < max_rows && (end == begin || bytes < kMaxStatementBytes)) {
      bytes += rows[end].last->record.size();
      ++end;
    }
    plan->statements.push_back({sql_of(absl::MakeConstSpan(rows).subspan(begin, end - begin)), end - begin});
    begin = end;
  }
}

}  // namespace

GroupSql PlanGroup(absl::Span<const PendingTransition> group, absl::Span<TransitionResult> results, int64_t horizon) {
  GroupSql plan;
  std::vector<Row> rows;
  std::unordered_map<std::string, size_t> index;
  for (size_t i = 0; i < group.size(); ++i) {
    const Transition& transition = group[i].transition;
    results[i] = TransitionResult();
    if (transition.must_be_first && IsBeforeHorizon(transition.next->gtrid(), horizon)) {
      plan.refused.push_back(i);
      continue;
    }
    const auto [found, added] = index.emplace(transition.next->gtrid(), rows.size());
    if (added) {
      rows.push_back({&group[i], &group[i]});
      continue;
    }
    Row* const row = &rows[found->second];
    if (transition.expected_revision == row->next().revision()) {
      row->last = &group[i];
    } else {
      results[i].code = TransitionResult::Code::kConflict;
      results[i].current = row->last->transition.next;
    }
  }
  std::vector<Row> created;
  std::vector<Row> changed;
  for (const Row& row : rows) {
    (row.expected() == 0 ? created : changed).push_back(row);
    if (!row.first->transition.must_be_first) continue;
    const absl::Time birth = BirthOf(row.next().gtrid()).value_or(absl::InfinitePast());
    plan.oldest_first = std::min(birth, plan.oldest_first.value_or(birth));
  }
  AddStatements(created, kMaxInsertRows, &InsertSql, &plan);
  AddStatements(changed, kMaxUpdateRows, &UpdateSql, &plan);
  return plan;
}

std::string SqlOf(const PendingTransition& pending) {
  const Row row = {&pending, &pending};
  return row.expected() == 0 ? absl::StrCat(kInsert, InsertValues(row)) : UpdateOneSql(row);
}

}  // namespace assent
