// RecoveryRounds: how every engine's recovery goes: look, judge (branch_judge.h: the rules), act, and look again, until
// there is nothing left to do. What an engine adds is how it looks and how it acts.
#ifndef ASSENT_RESOURCE_MANAGER_RECOVERY_ROUNDS_H_
#define ASSENT_RESOURCE_MANAGER_RECOVERY_ROUNDS_H_

#include <initializer_list>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "resource_manager/branch_case.h"
#include "resource_manager/branch_recovery.h"

namespace assent {

class RecoveryRounds : public BranchRecovery {
 public:
  absl::StatusOr<std::vector<BranchFinding>> Examine(absl::Span<const BranchTask> tasks) final;
  absl::StatusOr<std::vector<BranchFinding>> Finish(absl::Span<const BranchTask> tasks) final;

 protected:
  // Brings the facts of all cases up to date. `may_act`: acts may follow, so it may wait a moment for what is about to
  // change.
  virtual absl::Status LookAtAll(bool may_act, absl::Span<BranchCase* const> cases) = 0;
  // Does what the verdicts order, and puts down what came of it.
  virtual absl::Status ActOn(const std::vector<BranchCase*>& cases) = 0;
  // In the engine's own words.
  virtual void Translate(BranchFinding*) const {}

  static std::vector<BranchCase*> WithAct(const std::vector<BranchCase*>& cases, std::initializer_list<Act> acts);
  static VerbResult VerbResultOf(XaOutcome outcome);

 private:
  absl::StatusOr<std::vector<BranchFinding>> Work(absl::Span<const BranchTask> tasks, bool may_act);
};

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_RECOVERY_ROUNDS_H_
