#include "resource_manager/detach_barrier.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "base/errors.h"

namespace assent {

absl::StatusOr<ConnectionsView> LookAtConnections(MariaDbSession* session) {
  ConnectionsView view;
  const QueryResult result = session->Query("SELECT ID FROM information_schema.PROCESSLIST");
  if (!result.ok()) return StatusOf(result.error, "reading the process list");
  for (const auto& row : result.rows()) {
    uint64_t id = 0;
    if (!row[0] || !absl::SimpleAtoi(*row[0], &id)) {
      return MakeError(Reason::DATABASE_ERROR, "the process list cannot be read");
    }
    view.alive.insert(id);
  }
  absl::StatusOr<EngineViewResult> engine = ReadEngineView(session);
  if (!engine.ok()) return engine.status();
  view.engine = *std::move(engine);
  return view;
}

absl::StatusOr<bool> WaitUntilDetached(MariaDbSession* session, const std::set<uint64_t>& connections) {
  const absl::Time deadline = absl::Now() + kBarrierPatience;
  for (;;) {
    const absl::StatusOr<ConnectionsView> view = LookAtConnections(session);
    if (!view.ok()) return view.status();
    if (view->engine.kind == EngineViewResult::Kind::kForbidden) {
      absl::SleepFor(kSettle);
      return true;
    }
    const bool detached = view->engine.kind == EngineViewResult::Kind::kOk &&
                          std::none_of(connections.begin(), connections.end(), [&](uint64_t id) {
                            return view->alive.count(id) != 0 || view->engine.view.connections.count(id) != 0;
                          });
    if (detached) {
      absl::SleepFor(kAfterBarrier);
      return true;
    }
    if (absl::Now() >= deadline) return false;
    absl::SleepFor(kBarrierPoll);
  }
}

}  // namespace assent
