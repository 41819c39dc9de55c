#include "resource_manager/ghost_count.h"

#include <algorithm>
#include <set>

#include "absl/time/clock.h"
#include "base/xid.h"
#include "resource_manager/engine_view.h"

namespace assent {
namespace {

// How often is looked, at least and at most: branches come and go meanwhile, ghosts stay.
constexpr int kFewLooks = 3;
constexpr int kManyLooks = 6;
constexpr absl::Duration kPause = absl::Milliseconds(20);

std::set<Xid> XidsOf(const std::vector<RecoveredXid>& list) {
  std::set<Xid> xids;
  for (const RecoveredXid& xid : list) xids.insert(Xid{xid.gtrid, xid.bqual});
  return xids;
}

}  // namespace

absl::StatusOr<absl::optional<GhostCount>> CountGhosts(MariaDbSession* session) {
  absl::optional<int> fewest;
  GhostCount count;
  for (int i = 0; i < kFewLooks || (i < kManyLooks && !count.surely_none); ++i) {
    if (i > 0) absl::SleepFor(kPause);
    const auto before = session->Recover();
    if (!before.ok()) return before.status();
    const absl::StatusOr<EngineViewResult> engine = ReadEngineView(session);
    if (!engine.ok()) return engine.status();
    const auto after = session->Recover();
    if (!after.ok()) return after.status();
    if (engine->kind != EngineViewResult::Kind::kOk || !engine->view.prepared_detached) {
      return absl::optional<GhostCount>();
    }
    const std::set<Xid> first = XidsOf(*before);
    const std::set<Xid> last = XidsOf(*after);
    int in_both = 0;
    for (const Xid& xid : first) in_both += static_cast<int>(last.count(xid));
    const int in_either = static_cast<int>(first.size() + last.size()) - in_both;
    const int detached = *engine->view.prepared_detached;
    const int in_engine = detached + static_cast<int>(engine->view.prepared.size());
    // Whatever was prepared when the engine was asked is in one of the lists, unless it came and went in between; and
    // what is in both lists was prepared then.
    fewest = std::min(fewest.value_or(detached), std::min(detached, in_engine - in_either));
    count.surely_none = count.surely_none || in_engine <= in_both;
  }
  count.detached = std::max(0, *fewest);
  return absl::optional<GhostCount>(count);
}

}  // namespace assent
