#include "tests/recovery/crash_matrix.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace assent {
namespace {

using P = FaultPoint;
constexpr Scene kRuns = Scene::kParticipantRuns;
constexpr Scene kDied = Scene::kParticipantDied;
constexpr Scene kStopped = Scene::kParticipantStopped;
constexpr Scene kStoppedEarly = Scene::kParticipantStoppedBeforePrepare;
constexpr Scene kEnded = Scene::kParticipantEnded;

// Endings by: participant killed, coordinator killed, database killed, connections dropped, participant suspended.
// Without a decision to COMMIT on record a transaction whose participant is gone ends ROLLED_BACK, by its deadline;
// with one it ends COMMITTED, whatever happens. The database that is killed is that of the branch at which the point is
// reached (the first, if it is no branch's; both, once recovery is at work).
constexpr Row kRows[] = {
    {P::kSdkStartBefore, 1, Flow::kCommit, kRuns, "RCRRR"},
    {P::kSdkStartOk, 1, Flow::kCommit, kRuns, "RCRRR"},
    {P::kSdkStartOk, 2, Flow::kCommit, kRuns, "RCRRR"},
    {P::kSdkPrepareBefore, 1, Flow::kCommit, kRuns, "RCRRR"},
    {P::kSdkPrepareSent, 1, Flow::kCommit, kRuns, "RC?RR"},
    {P::kSdkPrepareSent, 2, Flow::kCommit, kRuns, "RC??R"},
    {P::kSdkPrepareOk, 1, Flow::kCommit, kRuns, "RCC?R"},
    {P::kSdkPrepareOk, 2, Flow::kCommit, kRuns, "RCCCR"},
    {P::kSdkVoteBefore, 1, Flow::kCommit, kRuns, "RCCCR"},
    {P::kSdkVoteBefore, 1, Flow::kVoteThenCommit, kRuns, "RCCCR"},
    {P::kSdkFinishBefore, 1, Flow::kCommit, kRuns, "CCCCC"},
    {P::kSdkFinishSent, 1, Flow::kCommit, kRuns, "CCCCC"},
    {P::kSdkFinishSent, 2, Flow::kCommit, kRuns, "CCCCC"},
    {P::kSdkFinishOk, 1, Flow::kCommit, kRuns, "CCCCC"},
    {P::kSdkFinishOk, 2, Flow::kCommit, kRuns, "CCCCC"},
    {P::kSdkReportBefore, 1, Flow::kCommit, kRuns, "CCCCC"},
    {P::kSdkReportOk, 1, Flow::kCommit, kRuns, "CCCCC"},
    {P::kSdkFinishBefore, 1, Flow::kVoteThenRollBack, kRuns, "RRRRR"},
    {P::kSdkFinishSent, 1, Flow::kVoteThenRollBack, kRuns, "RRRRR"},
    {P::kSdkFinishSent, 2, Flow::kVoteThenRollBack, kRuns, "RRRRR"},
    {P::kSdkFinishOk, 1, Flow::kVoteThenRollBack, kRuns, "RRRRR"},
    {P::kSdkFinishOk, 2, Flow::kVoteThenRollBack, kRuns, "RRRRR"},
    {P::kSdkReportBefore, 1, Flow::kVoteThenRollBack, kRuns, "RRRRR"},
    {P::kSdkPrepareSent, 1, Flow::kFail, kRuns, "RRRRR"},
    {P::kSdkPrepareOk, 1, Flow::kFail, kRuns, "RRRRR"},
    {P::kSdkAbortSent, 1, Flow::kFail, kRuns, "RRRRR"},
    {P::kSdkAbortOk, 1, Flow::kFail, kRuns, "RRRRR"},
    {P::kSdkFailBefore, 1, Flow::kFail, kRuns, "RRRRR"},
    {P::kSdkFailOk, 1, Flow::kFail, kRuns, "RRRRR"},
    {P::kSdkAbortBefore, 1, Flow::kAbort, kRuns, "RRRRR"},
    {P::kSdkAbortSent, 1, Flow::kAbort, kRuns, "RRRRR"},
    {P::kSdkAbortSent, 2, Flow::kAbort, kRuns, "RRRRR"},
    {P::kSdkAbortOk, 1, Flow::kAbort, kRuns, "RRRRR"},
    {P::kSdkAbortOk, 2, Flow::kAbort, kRuns, "RRRRR"},
    {P::kSdkStartOk, 2, Flow::kCommitAlone, kRuns, "RCRRC"},
    {P::kSdkPrepareBefore, 1, Flow::kCommitAlone, kRuns, "RCRRC"},
    {P::kSdkPrepareSent, 1, Flow::kCommitAlone, kRuns, "RC?RR"},
    {P::kSdkPrepareSent, 2, Flow::kCommitAlone, kRuns, "RC??R"},
    {P::kSdkPrepareOk, 1, Flow::kCommitAlone, kRuns, "RCC?R"},
    {P::kSdkPrepareOk, 2, Flow::kCommitAlone, kRuns, "RCCCR"},
    {P::kSdkVoteBefore, 1, Flow::kCommitAlone, kRuns, "RCCCR"},
    {P::kSdkFinishBefore, 1, Flow::kCommitAlone, kRuns, "CCCCC"},
    {P::kSdkFinishSent, 2, Flow::kCommitAlone, kRuns, "CCCCC"},
    {P::kSdkFinishOk, 1, Flow::kCommitAlone, kRuns, "CCCCC"},
    {P::kSdkReportBefore, 1, Flow::kCommitAlone, kRuns, "CCCCC"},
    {P::kSdkOnePhaseBefore, 1, Flow::kCommitOne, kRuns, "RCRRC", false, /*only_one_phase=*/true},
    {P::kSdkOnePhaseSent, 1, Flow::kCommitOne, kRuns, "CC?CC", false, /*only_one_phase=*/true},
    {P::kSdkOnePhaseOk, 1, Flow::kCommitOne, kRuns, "CCCCC", false, /*only_one_phase=*/true},
    {P::kSdkReportBefore, 1, Flow::kCommitOne, kRuns, "CCCCC", false, /*only_one_phase=*/true},
    {P::kSdkAbortOk, 1, Flow::kFailAlone, kRuns, "RRRRR"},
    {P::kSdkFailBefore, 1, Flow::kFailAlone, kRuns, "RRRRR"},
    {P::kSdkFailOk, 1, Flow::kFailAlone, kRuns, "RRRRR"},
    {P::kSdkAbortSent, 1, Flow::kAbortAlone, kRuns, "RRRRR"},
    {P::kSdkAbortOk, 2, Flow::kAbortAlone, kRuns, "RRRRR"},

    {P::kCoordinatorCreateBefore, 1, Flow::kCommit, kRuns, "RCRRR"},
    {P::kCoordinatorCreateStored, 1, Flow::kCommit, kRuns, "RCRRR"},
    {P::kCoordinatorBranchBefore, 1, Flow::kCommit, kRuns, "RCRRR"},
    {P::kCoordinatorBranchStored, 1, Flow::kCommit, kRuns, "RCRRR"},
    {P::kCoordinatorBranchBefore, 2, Flow::kCommit, kRuns, "RCRRR"},
    {P::kCoordinatorBranchStored, 2, Flow::kCommit, kRuns, "RCRRR"},
    {P::kCoordinatorVotesBefore, 1, Flow::kVoteThenCommit, kRuns, "RCCCR"},
    {P::kCoordinatorVotesStored, 1, Flow::kVoteThenCommit, kRuns, "RCCCR"},
    {P::kCoordinatorDecisionBefore, 1, Flow::kCommit, kRuns, "CCCCC"},
    {P::kCoordinatorDecisionStored, 1, Flow::kCommit, kRuns, "CCCCC"},
    {P::kCoordinatorDecisionBefore, 1, Flow::kVoteThenRollBack, kRuns, "RRRRR"},
    {P::kCoordinatorDecisionStored, 1, Flow::kVoteThenRollBack, kRuns, "RRRRR"},
    {P::kCoordinatorDecisionBefore, 1, Flow::kFail, kRuns, "RRRRR"},
    {P::kCoordinatorDecisionStored, 1, Flow::kFail, kRuns, "RRRRR"},
    {P::kCoordinatorDecisionBefore, 1, Flow::kCommitAlone, kRuns, "CCCCC"},
    {P::kCoordinatorDecisionStored, 1, Flow::kCommitAlone, kRuns, "CCCCC"},
    {P::kCoordinatorDecisionBefore, 1, Flow::kCommitOne, kRuns, "CCCCC", false, /*only_one_phase=*/true},
    {P::kCoordinatorDecisionStored, 1, Flow::kCommitOne, kRuns, "CCCCC", false, /*only_one_phase=*/true},
    {P::kCoordinatorDecisionBefore, 1, Flow::kFailAlone, kRuns, "RRRRR"},
    {P::kCoordinatorDecisionStored, 1, Flow::kAbortAlone, kRuns, "RRRRR"},
    {P::kCoordinatorCompletionStored, 1, Flow::kCommitAlone, kRuns, "CCCCC"},
    {P::kCoordinatorCompletionBefore, 1, Flow::kCommit, kRuns, "CCCCC"},
    {P::kCoordinatorCompletionStored, 1, Flow::kCommit, kRuns, "CCCCC"},
    {P::kCoordinatorCompletionBefore, 1, Flow::kVoteThenRollBack, kRuns, "RRRRR"},
    {P::kCoordinatorCompletionStored, 1, Flow::kVoteThenRollBack, kRuns, "RRRRR"},
    {P::kStoreGroupBefore, 1, Flow::kCommit, kRuns, "RCRRR"},
    {P::kStoreGroupCommitted, 1, Flow::kCommit, kRuns, "RCRRR"},
    {P::kStoreForcedBefore, 1, Flow::kCommit, kRuns, "CCCCC"},
    {P::kStoreForcedCommitted, 1, Flow::kCommit, kRuns, "CCCCC"},
    {P::kStoreForcedBefore, 1, Flow::kCommitAlone, kRuns, "CCCCC"},
    {P::kStoreForcedCommitted, 1, Flow::kCommitAlone, kRuns, "CCCCC"},

    {P::kRecoveryTaken, 1, Flow::kCommit, kDied, "-CCC-"},
    {P::kRecoveryTaken, 1, Flow::kVoteThenRollBack, kDied, "-RRR-"},
    {P::kRecoveryLooked, 1, Flow::kCommit, kDied, "-CCC-"},
    {P::kRecoveryLooked, 1, Flow::kVoteThenRollBack, kDied, "-RRR-"},
    {P::kRecoveryActBefore, 1, Flow::kCommit, kDied, "-CCC-"},
    {P::kRecoveryActBefore, 1, Flow::kVoteThenRollBack, kDied, "-RRR-"},
    {P::kRecoveryActOk, 1, Flow::kCommit, kDied, "-CCC-"},
    {P::kRecoveryActOk, 1, Flow::kCommitAlone, kDied, "-CCC-"},
    {P::kRecoveryActOk, 1, Flow::kVoteThenRollBack, kDied, "-RRR-"},
    {P::kCoordinatorEvidenceBefore, 1, Flow::kCommit, kDied, "-CCC-"},
    {P::kCoordinatorEvidenceBefore, 1, Flow::kVoteThenRollBack, kDied, "-RRR-"},
    {P::kCoordinatorEvidenceStored, 1, Flow::kCommit, kDied, "-CCC-"},
    {P::kCoordinatorEvidenceStored, 1, Flow::kVoteThenRollBack, kDied, "-RRR-"},
    {P::kRecoveryKilled, 1, Flow::kCommit, kStopped, "CCCC-", /*only_attached=*/true},
    {P::kRecoveryKilled, 1, Flow::kVoteThenRollBack, kStopped, "RRRR-", /*only_attached=*/true},
    {P::kRecoveryKilled, 1, Flow::kCommit, kStoppedEarly, "RRRR-"},
    {P::kRecoveryForgetBefore, 1, Flow::kCommit, kEnded, "-CCC-", /*only_attached=*/true},
    {P::kRecoveryForgetOk, 1, Flow::kCommit, kEnded, "-CCC-", /*only_attached=*/true},
    {P::kRecoverySweepListed, 1, Flow::kOrphan, kEnded, "-RRR-"},
};

struct FlowName {
  Flow flow;
  absl::string_view name;
};
constexpr FlowName kFlowNames[] = {{Flow::kCommit, "commit"},
                                   {Flow::kVoteThenCommit, "vote-then-commit"},
                                   {Flow::kVoteThenRollBack, "vote-then-roll-back"},
                                   {Flow::kFail, "fail"},
                                   {Flow::kAbort, "abort"},
                                   {Flow::kCommitAlone, "commit-alone"},
                                   {Flow::kCommitOne, "commit-one"},
                                   {Flow::kFailAlone, "fail-alone"},
                                   {Flow::kAbortAlone, "abort-alone"},
                                   {Flow::kOrphan, "orphan"}};

absl::string_view Name(Scene scene) {
  switch (scene) {
    case Scene::kParticipantRuns: return "runs";
    case Scene::kParticipantDied: return "was killed after the decision";
    case Scene::kParticipantStopped: return "was stopped after the decision";
    case Scene::kParticipantStoppedBeforePrepare: return "was stopped before it prepared";
    case Scene::kParticipantEnded: return "has ended";
  }
  return "?";
}

constexpr absl::string_view kPage = R"(# The crash matrix

What became of a global transaction with two branches, on two real MariaDB servers (half of the cells with their binary log, half
without), when disaster struck at each step of it.
This page is the result of `tests/recovery/crash_matrix_test.cc`, which runs every cell with real processes and fails if the
result is another one, or if one of the named fault points (`base/fault_point.h`) is missing here or is never reached. To write it anew:
`bazel run -c opt //tests/recovery:crash_matrix_test -- --update=$PWD/docs/crash-matrix.md`.

The process that reaches the point is held there; disaster strikes; then it goes on, if it still can. A killed participant does
not come back; a killed coordinator or database is back after a moment. Nobody helps. In every cell the test requires:

- both databases hold all rows or none, as decided, and as the participant was told if it was told anything for certain;
  all of them as soon as the record says COMMITTED;
- the record says COMMITTED or ROLLED_BACK, with evidence for every branch that its participant has not reported, and never
  HEURISTIC;
- `XA RECOVER` lists nothing of the transaction on either server, also after both were killed with -9 and started again;
- no witness row is left.

Columns: **participant** and **coordinator** are killed with -9; **database**: that of the branch at which the point is reached
(the first, where it is no branch's; both, once recovery is at work) is killed with -9; **connections**: every connection to
both databases is ended; **asleep**: the participant is stopped (SIGSTOP) until long after its lease, and then goes on.

Cells: **C** all committed, **R** all rolled back, **C/R** either, the same on both (whether the participant still reads the
answer of a server that is going down is luck; what it has read counts). **–**: there is no participant any more that could be
struck, or it is asleep already.

Flows: `commit`: one process begins, works, commits. `vote-then-commit` and `vote-then-roll-back`: a worker votes and waits, the
initiator decides later. `fail`: as `commit`, but the second branch's SQL fails. `abort`: the application rolls back before it votes. `commit-alone`,
`fail-alone`, `abort-alone`: the same by a sole participant, of whose transaction nothing is on record before the decision; what it leaves
prepared is rolled back as an orphan, and where it was never prepared no record is made at all. `commit-one`: likewise, but the second branch
only reads, so that the first is committed in one phase, and is on record afterwards (only without the binary log). `orphan`: a prepared branch of which no record exists.

| point | where | flow | the participant | participant | coordinator | database | connections | asleep |
|---|---|---|---|---|---|---|---|---|
)";

}  // namespace

absl::string_view Name(Disaster disaster) {
  switch (disaster) {
    case Disaster::kKillParticipant: return "participant";
    case Disaster::kKillCoordinator: return "coordinator";
    case Disaster::kKillDatabase: return "database";
    case Disaster::kDropConnections: return "connections";
    case Disaster::kSuspendParticipant: return "asleep";
  }
  return "?";
}

absl::string_view Name(Flow flow) {
  for (const FlowName& each : kFlowNames) {
    if (each.flow == flow) return each.name;
  }
  return "?";
}

bool IsAlone(Flow flow) {
  return flow == Flow::kCommitAlone || flow == Flow::kCommitOne || flow == Flow::kFailAlone ||
         flow == Flow::kAbortAlone;
}

absl::optional<Flow> FlowOf(absl::string_view name) {
  for (const FlowName& each : kFlowNames) {
    if (each.name == name) return each.flow;
  }
  return absl::nullopt;
}

absl::Span<const Row> AllRows() { return kRows; }

Ending EndingOf(const Row& row, Disaster disaster) {
  switch (row.endings[static_cast<size_t>(disaster)]) {
    case 'C': return Ending::kCommitted;
    case 'R': return Ending::kRolledBack;
    case '?': return Ending::kEither;
    default: return Ending::kNoSuchCell;
  }
}

std::string NameOf(const Row& row) { return absl::StrCat(InfoOf(row.point).name, row.nth == 1 ? "" : " (2nd)"); }

bool IsOfParticipant(FaultPoint point) { return absl::StartsWith(InfoOf(point).name, "sdk."); }

absl::string_view Shown(Ending ending) {
  switch (ending) {
    case Ending::kCommitted: return "C";
    case Ending::kRolledBack: return "R";
    case Ending::kEither: return "C/R";
    case Ending::kNoSuchCell: return "–";
  }
  return "?";
}

std::string CrashMatrixMarkdown(const std::vector<std::vector<std::string>>& cells) {
  std::string page(kPage);
  for (size_t i = 0; i < cells.size(); ++i) {
    const Row& row = kRows[i];
    absl::StrAppend(&page, "| `", InfoOf(row.point).name, "`", row.nth == 1 ? "" : ", 2nd time", " | ",
                    InfoOf(row.point).where, " | ", Name(row.flow), " | ", Name(row.scene));
    for (const std::string& cell : cells[i]) absl::StrAppend(&page, " | ", cell);
    absl::StrAppend(&page, " |\n");
  }
  return page;
}

}  // namespace assent
