#include "resource_manager/engine_view.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/xid.h"

namespace assent {
namespace {

constexpr int kErSpecificAccessDenied = 1227;
// INNODB_TRX silently leaves out what does not fit into 16 MB, about 90,000 transactions.
constexpr size_t kMaxCompleteRows = 50000;
// Longer than the 100 ms for which a read keeps INNODB_TRX as it is.
constexpr absl::Duration kCachePause = absl::Milliseconds(120);
constexpr int kCacheTries = 7;

// The number behind `thread id ` in a line like "MariaDB thread id 17, OS thread handle …".
absl::optional<uint64_t> ThreadIdIn(absl::string_view line) {
  constexpr absl::string_view kMark = "thread id ";
  const size_t at = line.find(kMark);
  if (at == absl::string_view::npos) return absl::nullopt;
  const absl::string_view rest = line.substr(at + kMark.size());
  uint64_t id = 0;
  if (!absl::SimpleAtoi(rest.substr(0, rest.find_first_not_of("0123456789")), &id)) return absl::nullopt;
  return id;
}

}  // namespace

absl::optional<EngineView> ParseInnodbStatus(absl::string_view text) {
  // Old deadlocks, which name connections too, stand before the list.
  const size_t list = text.find("\nLIST OF TRANSACTIONS FOR EACH SESSION:\n");
  if (list == absl::string_view::npos || absl::StrContains(text, "... truncated...") ||
      absl::StrContains(text, "FAIL TO OBTAIN LOCK MUTEX") ||
      !absl::StrContains(text, "\nEND OF INNODB MONITOR OUTPUT\n")) {
    return absl::nullopt;
  }
  EngineView view;
  std::string transaction;    // The id of the one that is being read.
  bool prepared = false;      // It is.
  bool detached = false;      // No connection was found for it so far.
  int prepared_detached = 0;  // Of those that were read.
  for (absl::string_view line : absl::StrSplit(text.substr(list), '\n')) {
    if (absl::StartsWith(line, "---TRANSACTION ")) {
      if (prepared && detached) ++prepared_detached;
      transaction = std::string(line.substr(0, line.find(',')));
      prepared = absl::StrContains(line, " ACTIVE (PREPARED)");
      detached = true;
    } else if (const absl::optional<uint64_t> id = ThreadIdIn(line)) {
      detached = false;
      view.connections.insert(*id);
      if (prepared) view.prepared[*id] = transaction;
    }
  }
  if (prepared && detached) ++prepared_detached;
  view.prepared_detached = prepared_detached;
  return view;
}

absl::StatusOr<EngineViewResult> ReadInnodbTrx(MariaDbSession* session) {
  EngineViewResult result;
  for (int i = 0; i < kCacheTries; ++i) {
    if (i > 0) absl::SleepFor(kCachePause);
    // The snapshot makes this session one of those that have a transaction, so that its statement is in a fresh answer.
    const std::string nonce = NewRequestId();
    const QueryResult answer =
        session->Query(absl::StrCat("START TRANSACTION WITH CONSISTENT SNAPSHOT;SELECT /* ", nonce,
                                    " */ trx_mysql_thread_id, trx_id, INSTR(COALESCE(trx_query, ''), '", nonce,
                                    "') > 0 FROM information_schema.INNODB_TRX"));
    session->Query("COMMIT");  // If that fails the connection is lost, and the next statement says so.
    if (answer.error.code == kErSpecificAccessDenied) {
      result.kind = EngineViewResult::Kind::kForbidden;
      return result;
    }
    if (!answer.ok()) return StatusOf(answer.error, "reading INNODB_TRX");
    bool fresh = false;
    result.view = EngineView();
    for (const auto& row : answer.rows()) {
      uint64_t id = 0;
      if (row[2] == std::string("1")) {
        fresh = true;
      } else if (row[0] && absl::SimpleAtoi(*row[0], &id) && id != 0) {
        result.view.connections.insert(id);
        result.view.prepared[id] = row[1].value_or("");
      }
    }
    if (answer.rows().size() > kMaxCompleteRows) return result;
    if (fresh) {
      result.kind = EngineViewResult::Kind::kOk;
      return result;
    }
  }
  return result;
}

absl::StatusOr<EngineViewResult> ReadEngineView(MariaDbSession* session) {
  const QueryResult answer = session->Query("SHOW ENGINE INNODB STATUS");
  EngineViewResult result;
  if (answer.error.code == kErSpecificAccessDenied) {
    result.kind = EngineViewResult::Kind::kForbidden;
    return result;
  }
  if (!answer.ok()) return StatusOf(answer.error, "reading the state of InnoDB");
  if (!answer.rows().empty() && answer.rows()[0].size() == 3 && answer.rows()[0][2]) {
    absl::optional<EngineView> view = ParseInnodbStatus(*answer.rows()[0][2]);
    if (view) {
      result.kind = EngineViewResult::Kind::kOk;
      result.view = *std::move(view);
      return result;
    }
  }
  return ReadInnodbTrx(session);
}

}  // namespace assent
