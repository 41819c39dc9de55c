// RaceReferee: holds what the coordinator reports against what the databases hold.
#ifndef ASSENT_TESTS_RACE_REFEREE_H_
#define ASSENT_TESTS_RACE_REFEREE_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "tests/race/participants.h"
#include "tests/race/race_rig.h"

namespace assent {

// Thread-compatible.
class RaceReferee {
 public:
  // `rig` must outlive it.
  explicit RaceReferee(RaceRig* rig) : rig_(rig) {}

  // From now on these are to finish.
  void Expect(const std::vector<DecidedRace>& decided);
  // Asks the coordinator which have finished since the last call, and the databases for their rows at once: a report is
  // wrong even if the rows come later.
  absl::Status LookAtReports();
  // Compares all rows with all reports.
  absl::Status CheckRows(absl::string_view when);
  // Counts ghosts: once everything has finished there must be none but of those that wait for a restart.
  absl::Status CheckGhosts();
  // After the servers' restart and before the coordinator's: nothing that was reported may be prepared. But what was
  // rolled back may be on MariaDB, which does not keep XA ROLLBACK through a crash.
  absl::Status CheckPreparedAfterRestart();
  // In the end nothing is prepared.
  absl::Status CheckNothingPrepared();
  // The number of branches that both servers list as prepared.
  absl::StatusOr<int> CountPrepared();

  // True once all that were expected have finished, or, if `or_waiting`, wait for a restart of their server as their
  // reports say.
  absl::StatusOr<bool> AllFinished(bool or_waiting);
  // Those that have not finished, with what the coordinator says of them.
  absl::StatusOr<std::map<std::string, std::string>> Unfinished();

  int64_t finished() const { return static_cast<int64_t>(committed_.size() + rolled_back_.size()); }
  int64_t committed() const { return static_cast<int64_t>(committed_.size()); }
  int64_t rolled_back() const { return static_cast<int64_t>(rolled_back_.size()); }
  // Branches that were ghosts and have finished as decided.
  int64_t healed() const { return healed_; }
  int64_t came_back() const { return came_back_; }
  // At most one for each transaction.
  const std::map<std::string, std::string>& violations() const { return violations_; }

 private:
  void Violate(const std::string& gtrid, const std::string& what) { violations_.emplace(gtrid, what); }
  absl::Status CheckFresh(const std::vector<std::string>& committed, const std::vector<std::string>& rolled_back);
  absl::StatusOr<std::vector<Xid>> Prepared(int server);

  RaceRig* const rig_;
  std::map<std::string, v1::Decision> open_;
  std::set<std::string> committed_;
  std::set<std::string> rolled_back_;
  int64_t healed_ = 0;
  int64_t came_back_ = 0;
  std::map<std::string, std::string> violations_;
};

}  // namespace assent

#endif  // ASSENT_TESTS_RACE_REFEREE_H_
