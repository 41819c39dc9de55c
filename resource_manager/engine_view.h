// EngineView: which connections InnoDB's transactions belong to, at one moment.
//
// It is what the detach barrier rests on. MariaDB lists a branch in XA RECOVER, and lets others finish it, a moment
// before InnoDB lets go of the branch's transaction; whoever acts in that moment is told OK, and nothing happens (a
// ghost). Only InnoDB itself can tell when it has let go.
//
// SHOW ENGINE INNODB STATUS says it best, but is cut at 1 MB (about 8,000 transactions). Then INNODB_TRX is asked,
// which is served from a cache that is only renewed if nobody has read it for 100 ms: that an answer is fresh shows by
// the asking statement's own text in it.
#ifndef ASSENT_RESOURCE_MANAGER_ENGINE_VIEW_H_
#define ASSENT_RESOURCE_MANAGER_ENGINE_VIEW_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "resource_manager/mariadb_session.h"

namespace assent {

struct EngineView {
  // Connections that have a transaction in the engine, whether or not they still exist.
  std::set<uint64_t> connections;
  // Those of them whose transaction may be prepared (INNODB_TRX does not tell: all of them), and its engine's id, which
  // tells it from a later one of the same connection.
  std::map<uint64_t, std::string> prepared;
  // Prepared transactions without a connection: detached branches and ghosts. nullopt: not told apart from transactions
  // that are being rolled back after a crash.
  absl::optional<int> prepared_detached;
};

// Reads the text of SHOW ENGINE INNODB STATUS. nullopt if it is not complete (cut, or without its list of
// transactions): then it proves nothing. Texts that users put into their statements can make connections appear, never
// disappear. Pure.
absl::optional<EngineView> ParseInnodbStatus(absl::string_view text);

struct EngineViewResult {
  enum class Kind {
    kOk,
    kForbidden,  // The account lacks PROCESS.
    kNotNow,     // The server has not given a complete and fresh answer in time: ask again later.
  };
  Kind kind = Kind::kNotNow;
  EngineView view;
};

// Asks the server; the view is of a moment during the call. Needs a session without branch or transaction. Takes at
// most about a second. DATABASE_ERROR, DATABASE_UNREACHABLE.
absl::StatusOr<EngineViewResult> ReadEngineView(MariaDbSession* session);
// The second way of ReadEngineView alone: INNODB_TRX.
absl::StatusOr<EngineViewResult> ReadInnodbTrx(MariaDbSession* session);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_ENGINE_VIEW_H_
