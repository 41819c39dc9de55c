// The close-and-reset race: participants that leave their connections as soon as they have voted, on servers that (as
// MariaDB does) answer OK to a commit that comes too early and commit nothing. Whatever happens, the coordinator must
// finish every transaction and must not report one as something that it is not.
#ifndef ASSENT_TESTS_RACE_RACE_H_
#define ASSENT_TESTS_RACE_RACE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/race/participants.h"
#include "tests/race/race_rig.h"

namespace assent {

struct RaceOptions {
  RaceLoad load;
  RaceEngines engines = {EngineOfServer(0), EngineOfServer(1)};
  // Of the servers that are MariaDB's.
  bool binlog = true;
  // How long the last transactions may take to finish, once nobody holds anything any more.
  absl::Duration patience = absl::Minutes(2);
  StartRaceCoordinator start_coordinator = StartAssentd;
  // Is told every few seconds how far it is; one line, without its end.
  std::function<void(const std::string&)> progress = [](const std::string&) {};
};

struct RaceReport {
  int64_t transactions = 0;  // Decided.
  int64_t committed = 0;
  int64_t rolled_back = 0;
  // A line each: a report that is not so, or what a finished transaction has left behind.
  std::vector<std::string> violations;
  // A line each: transactions that did not finish in time.
  std::vector<std::string> unfinished;
  int64_t waited_for_restart = 0;  // Ghosts that could be finished only after a restart, as their reports said.
  int64_t meddled = 0;             // Branches that somebody else finished, as he was told.
  int64_t disturbed = 0;           // Sessions that were ended though PREPARE had let go of their branches.
  int64_t ghosts_healed = 0;
  int64_t came_back = 0;   // Rolled back, and prepared again after the restart of the servers.
  absl::Duration elapsed;  // Of the load, until the last one finished.

  bool ok() const { return violations.empty() && unfinished.empty(); }
};

// Runs it: load, checks, kill -9 and restart of both servers, checks. Blocks. An error: it could not be run to its end.
absl::StatusOr<RaceReport> RunRace(const RaceOptions& options);

}  // namespace assent

#endif  // ASSENT_TESTS_RACE_RACE_H_
