#include "tests/race/referee.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "resource_manager/database_engine.h"

namespace assent {
namespace {

constexpr size_t kMaxListed = 500;  // Ids in one statement.

bool IsFinal(v1::Global::State state) {
  return state == v1::Global::STATE_COMMITTED || state == v1::Global::STATE_ROLLED_BACK ||
         state == v1::Global::STATE_HEURISTIC || state == v1::Global::STATE_HEURISTIC_CLOSED;
}

// A ghost that this server cannot finish online, and says so.
bool WaitsForRestart(const v1::Global& global) {
  for (const v1::Branch& branch : global.branches()) {
    if (branch.state() == v1::Branch::STATE_COMMITTED || branch.state() == v1::Branch::STATE_ROLLED_BACK) continue;
    if (branch.evidence_size() == 0) return false;
    const v1::Evidence& latest = *branch.evidence().rbegin();
    if (!latest.ghost() || !absl::StrContains(latest.detail(), "restart the server")) return false;
  }
  return true;
}

// The rows of `gtrids` that are there.
absl::StatusOr<std::set<std::string>> ReadRows(RaceRig* rig, int server, const std::string& where) {
  const absl::StatusOr<QueryResult> result = rig->Sql(server, absl::StrCat("SELECT gtrid FROM race.t", where));
  if (!result.ok()) return result.status();
  std::set<std::string> rows;
  for (const auto& row : result->rows()) rows.insert(row[0].value_or(""));
  return rows;
}

}  // namespace

void RaceReferee::Expect(const std::vector<DecidedRace>& decided) {
  for (const DecidedRace& race : decided) open_[race.gtrid] = race.decision;
}

absl::Status RaceReferee::LookAtReports() {
  // What is not among the unfinished when they are listed afterwards has finished.
  const absl::StatusOr<std::vector<v1::Global>> unfinished = rig_->api().ListAllGlobals(
      {v1::Global::STATE_ACTIVE, v1::Global::STATE_COMMITTING, v1::Global::STATE_ROLLING_BACK});
  if (!unfinished.ok()) return unfinished.status();
  std::set<std::string> still;
  for (const v1::Global& global : *unfinished) still.insert(global.gtrid());
  std::vector<std::string> committed;
  std::vector<std::string> rolled_back;
  for (auto it = open_.begin(); it != open_.end();) {
    const auto& [gtrid, decision] = *it;
    if (still.count(gtrid) != 0) {
      ++it;
      continue;
    }
    const absl::StatusOr<v1::GetGlobalResponse> global = rig_->api().GetGlobal(gtrid);
    if (!global.ok()) return global.status();
    const v1::Global::State state = global->global().state();
    if (!IsFinal(state)) {  // The list was not of one moment.
      ++it;
      continue;
    }
    if (state == v1::Global::STATE_COMMITTED) committed.push_back(gtrid);
    if (state == v1::Global::STATE_ROLLED_BACK) rolled_back.push_back(gtrid);
    const v1::Global::State expected =
        decision == v1::DECISION_COMMIT ? v1::Global::STATE_COMMITTED : v1::Global::STATE_ROLLED_BACK;
    if (state != expected) {
      Violate(gtrid, absl::StrCat("decided ", v1::Decision_Name(decision), ", reported ", v1::Global::State_Name(state),
                                  ": ", global->global().ShortDebugString()));
    }
    for (const v1::Branch& branch : global->global().branches()) {
      healed_ += std::any_of(branch.evidence().begin(), branch.evidence().end(),
                             [](const v1::Evidence& evidence) { return evidence.ghost(); });
    }
    it = open_.erase(it);
  }
  return CheckFresh(committed, rolled_back);
}

absl::Status RaceReferee::CheckFresh(const std::vector<std::string>& committed,
                                     const std::vector<std::string>& rolled_back) {
  for (const auto* gtrids : {&committed, &rolled_back}) {
    for (size_t begin = 0; begin < gtrids->size(); begin += kMaxListed) {
      const auto first = gtrids->begin() + static_cast<std::ptrdiff_t>(begin);
      const auto last = gtrids->begin() + static_cast<std::ptrdiff_t>(std::min(gtrids->size(), begin + kMaxListed));
      const std::string where = absl::StrCat(" WHERE gtrid IN ('", absl::StrJoin(first, last, "','"), "')");
      for (int i = 0; i < kRaceServers; ++i) {
        const absl::StatusOr<std::set<std::string>> rows = ReadRows(rig_, i, where);
        if (!rows.ok()) return rows.status();
        for (auto it = first; it != last; ++it) {
          const bool there = rows->count(*it) != 0;
          if (gtrids == &committed && !there) {
            Violate(*it, absl::StrCat("reported COMMITTED, and its row is missing on ", RaceRig::ResourceName(i)));
          } else if (gtrids == &rolled_back && there) {
            Violate(*it, absl::StrCat("reported ROLLED_BACK, and its row is there on ", RaceRig::ResourceName(i)));
          }
        }
      }
    }
  }
  committed_.insert(committed.begin(), committed.end());
  rolled_back_.insert(rolled_back.begin(), rolled_back.end());
  return absl::OkStatus();
}

absl::Status RaceReferee::CheckRows(absl::string_view when) {
  for (int i = 0; i < kRaceServers; ++i) {
    const absl::StatusOr<std::set<std::string>> rows = ReadRows(rig_, i, "");
    if (!rows.ok()) return rows.status();
    const std::string where = absl::StrCat(" on ", RaceRig::ResourceName(i), " ", when);
    for (const std::string& gtrid : committed_) {
      if (rows->count(gtrid) == 0) Violate(gtrid, absl::StrCat("reported COMMITTED, and its row is missing", where));
    }
    for (const std::string& gtrid : *rows) {
      if (rolled_back_.count(gtrid) != 0) {
        Violate(gtrid, absl::StrCat("reported ROLLED_BACK, and its row is there", where));
      } else if (committed_.count(gtrid) == 0 && open_.count(gtrid) == 0) {
        Violate(gtrid, absl::StrCat("nobody knows of it, and its row is there", where));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status RaceReferee::CheckGhosts() {
  for (int i = 0; i < kRaceServers; ++i) {
    const auto recovery = FindDatabaseEngine(rig_->engine(i))->recover(rig_->ConnectAs(i), 1);
    if (!recovery.ok()) return recovery.status();
    const absl::StatusOr<absl::optional<GhostCount>> ghosts = (*recovery)->CountGhosts();
    if (!ghosts.ok()) return ghosts.status();
    const int count = *ghosts ? (*ghosts)->detached : -1;
    if (count < 0 || count > static_cast<int>(open_.size())) {
      Violate(absl::StrCat("ghosts on ", RaceRig::ResourceName(i)),
              absl::StrCat(count, " ghosts are left (-1: cannot be seen), and ", open_.size(),
                           " transactions are unfinished"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Xid>> RaceReferee::Prepared(int server) {
  const auto session = rig_->Connect(server);
  if (!session.ok()) return session.status();
  const absl::StatusOr<std::vector<RecoveredXid>> listed = (*session)->Recover();
  if (!listed.ok()) return listed.status();
  std::vector<Xid> xids;
  for (const RecoveredXid& xid : *listed) xids.push_back({xid.gtrid, xid.bqual});
  return xids;
}

absl::Status RaceReferee::CheckPreparedAfterRestart() {
  for (int i = 0; i < kRaceServers; ++i) {
    const absl::StatusOr<std::vector<Xid>> xids = Prepared(i);
    if (!xids.ok()) return xids.status();
    for (const Xid& xid : *xids) {
      if (committed_.count(xid.gtrid) != 0) {
        Violate(xid.gtrid,
                absl::StrCat("reported COMMITTED, and prepared after the restart of ", RaceRig::ResourceName(i)));
      } else if (rolled_back_.count(xid.gtrid) != 0 && rig_->engine(i) == v1::Resource::ENGINE_MARIADB) {
        ++came_back_;
      } else if (rolled_back_.count(xid.gtrid) != 0) {
        Violate(xid.gtrid,
                absl::StrCat("reported ROLLED_BACK, and prepared after the restart of ", RaceRig::ResourceName(i)));
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<int> RaceReferee::CountPrepared() {
  int count = 0;
  for (int i = 0; i < kRaceServers; ++i) {
    const absl::StatusOr<std::vector<Xid>> xids = Prepared(i);
    if (!xids.ok()) return xids.status();
    count += static_cast<int>(xids->size());
  }
  return count;
}

absl::Status RaceReferee::CheckNothingPrepared() {
  for (int i = 0; i < kRaceServers; ++i) {
    const absl::StatusOr<std::vector<Xid>> xids = Prepared(i);
    if (!xids.ok()) return xids.status();
    for (const Xid& xid : *xids) {
      if (open_.count(xid.gtrid) != 0) continue;  // Told of as unfinished.
      Violate(xid.gtrid, absl::StrCat("finished, and still prepared in the end on ", RaceRig::ResourceName(i)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> RaceReferee::AllFinished(bool or_waiting) {
  if (!or_waiting) return open_.empty();
  for (const auto& [gtrid, decision] : open_) {
    const absl::StatusOr<v1::GetGlobalResponse> global = rig_->api().GetGlobal(gtrid);
    if (!global.ok()) return global.status();
    if (!WaitsForRestart(global->global())) return false;
  }
  return true;
}

absl::StatusOr<std::map<std::string, std::string>> RaceReferee::Unfinished() {
  std::map<std::string, std::string> lines;
  for (const auto& [gtrid, decision] : open_) {
    const absl::StatusOr<v1::GetGlobalResponse> global = rig_->api().GetGlobal(gtrid);
    if (!global.ok()) return global.status();
    std::string line(v1::Global::State_Name(global->global().state()));
    for (const v1::Branch& branch : global->global().branches()) {
      absl::StrAppend(&line, "; ", branch.resource(), " ", v1::Branch::State_Name(branch.state()));
      if (branch.evidence_size() > 0) absl::StrAppend(&line, " (", branch.evidence().rbegin()->detail(), ")");
    }
    lines[gtrid] = std::move(line);
  }
  return lines;
}

}  // namespace assent
