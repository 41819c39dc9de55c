#include "resource_manager/recovery_rounds.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/fault_point.h"

namespace assent {

VerbResult RecoveryRounds::VerbResultOf(XaOutcome outcome) {
  switch (outcome) {
    case XaOutcome::kOk: return VerbResult::kOk;
    case XaOutcome::kUnknownXid: return VerbResult::kUnknownXid;
    case XaOutcome::kRolledBack: return VerbResult::kRolledBack;
    case XaOutcome::kRetryLater: return VerbResult::kRetryLater;
    default: return VerbResult::kOtherError;
  }
}

std::vector<BranchCase*> RecoveryRounds::WithAct(const std::vector<BranchCase*>& cases,
                                                 std::initializer_list<Act> acts) {
  std::vector<BranchCase*> found;
  for (BranchCase* branch : cases) {
    for (const Act act : acts) {
      if (branch->verdict.act == act) found.push_back(branch);
    }
  }
  return found;
}

absl::StatusOr<std::vector<BranchFinding>> RecoveryRounds::Examine(absl::Span<const BranchTask> tasks) {
  return Work(tasks, /*may_act=*/false);
}

absl::StatusOr<std::vector<BranchFinding>> RecoveryRounds::Finish(absl::Span<const BranchTask> tasks) {
  return Work(tasks, /*may_act=*/true);
}

absl::StatusOr<std::vector<BranchFinding>> RecoveryRounds::Work(absl::Span<const BranchTask> tasks, bool may_act) {
  if (tasks.size() > kMaxTasks) {
    return MakeError(Reason::INVALID_FIELD, absl::StrCat("at most ", kMaxTasks, " branches at once"),
                     {{"field", "tasks"}});
  }
  std::vector<BranchCase> cases;
  cases.reserve(tasks.size());
  std::vector<BranchCase*> open;
  for (const BranchTask& task : tasks) {
    cases.push_back(OpenCase(task, identity()));
    open.push_back(&cases.back());
  }
  // Ends, because no verdict orders an act twice.
  while (!open.empty()) {
    const absl::Status looked = LookAtAll(may_act, open);
    if (!looked.ok()) return looked;
    std::vector<BranchCase*> ordered;
    for (BranchCase* branch : open) {
      branch->verdict = Judge(branch->facts);
      if (branch->verdict.act != Act::kNothing) ordered.push_back(branch);
    }
    if (!may_act) break;
    ASSENT_FAULT_POINT(kRecoveryLooked);
    const absl::Status acted = ActOn(ordered);
    if (!acted.ok()) return acted;
    open = std::move(ordered);
  }
  std::vector<BranchFinding> findings;
  for (const BranchCase& branch : cases) {
    findings.push_back(FindingOf(branch, identity()));
    Translate(&findings.back());
  }
  return findings;
}

}  // namespace assent
