// The crash matrix as data: at which fault points a global transaction is struck, by what, and how it must end.
//
// crash_matrix_test.cc runs every cell; docs/crash-matrix.md is its result.
#ifndef ASSENT_TESTS_RECOVERY_CRASH_MATRIX_H_
#define ASSENT_TESTS_RECOVERY_CRASH_MATRIX_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "base/fault_point.h"

namespace assent {

// What strikes while the process that reached the point is held there.
enum class Disaster {
  kKillParticipant,    // kill -9; it does not come back.
  kKillCoordinator,    // kill -9; it is back after kRestartDelay.
  kKillDatabase,       // kill -9 of a database; likewise.
  kDropConnections,    // Every connection to both databases ends.
  kSuspendParticipant  // SIGSTOP, until the coordinator is through with the transaction and the lease is long over.
};
constexpr Disaster kAllDisasters[] = {Disaster::kKillParticipant, Disaster::kKillCoordinator, Disaster::kKillDatabase,
                                      Disaster::kDropConnections, Disaster::kSuspendParticipant};
absl::string_view Name(Disaster disaster);

// What the participant (crash_participant.cc) does with its two branches.
enum class Flow {
  kCommit,            // Begin, branches, SQL, Commit: the votes travel with the wish to commit.
  kVoteThenCommit,    // A worker votes and waits; the initiator commits once both votes are on record.
  kVoteThenRollBack,  // The same, but the initiator rolls back.
  kFail,              // As kCommit, but the second branch's SQL fails, so that it votes FAILED.
  kAbort,             // The application rolls back before any vote.
  kCommitAlone,       // As kCommit, by a sole participant: nothing is on record before the decision.
  kCommitOne,         // Likewise, but the second branch only reads: it is committed in one phase.
  kFailAlone,         // Likewise.
  kAbortAlone,        // Likewise.
  kOrphan,            // No participant: a branch is prepared on a database that no record knows of.
};
absl::string_view Name(Flow flow);
// True if the transaction is on record only once it is decided.
bool IsAlone(Flow flow);
absl::optional<Flow> FlowOf(absl::string_view name);

// Where the participant is when a point of the coordinator is reached.
enum class Scene {
  kParticipantRuns,
  kParticipantDied,                  // kill -9 between the decision and its first XA COMMIT or ROLLBACK.
  kParticipantStopped,               // SIGSTOP there.
  kParticipantStoppedBeforePrepare,  // SIGSTOP before its first PREPARE, so that the deadline decides.
  kParticipantEnded,                 // It has done all it had to do.
};

// How a cell must end.
enum class Ending {
  kCommitted,
  kRolledBack,
  kEither,  // Both are right: whether the database's answer was still read is a matter of luck.
  kNoSuchCell
};

struct Row {
  FaultPoint point;
  int nth;  // The time that the point is reached, e.g. 2: at the second branch.
  Flow flow;
  Scene scene;
  // One letter for each disaster, in order: C, R, ? or -.
  absl::string_view endings;
  // The point is reached only where PREPARE does not let go of a branch (MariaDB): a prepared branch's session is
  // killed, its witness is forgotten.
  bool only_attached = false;
  // The point is reached only where a branch can be committed in one phase (MariaDB without a binary log).
  bool only_one_phase = false;
};
absl::Span<const Row> AllRows();
Ending EndingOf(const Row& row, Disaster disaster);
// What the row's point is, in words, e.g. "after XA PREPARE answered OK (2nd)".
std::string NameOf(const Row& row);

// True if the participant's process passes the point, false if assentd does.
bool IsOfParticipant(FaultPoint point);

// docs/crash-matrix.md. `cells`: what each cell shows, row by row, disaster by disaster.
std::string CrashMatrixMarkdown(const std::vector<std::vector<std::string>>& cells);
// What a cell that ended as it must shows.
absl::string_view Shown(Ending ending);

}  // namespace assent

#endif  // ASSENT_TESTS_RECOVERY_CRASH_MATRIX_H_
