#include "store/proof.h"

namespace assent {

bool IsOpen(const v1::Branch& branch) {
  switch (branch.state()) {
    case v1::Branch::STATE_READ_ONLY:
    case v1::Branch::STATE_COMMITTED:
    case v1::Branch::STATE_ROLLED_BACK:
    case v1::Branch::STATE_HEURISTIC_COMMITTED:
    case v1::Branch::STATE_HEURISTIC_ROLLED_BACK: return false;
    default: return true;
  }
}

bool RestsOnWord(const v1::Branch& branch) {
  if (IsOpen(branch)) return false;
  for (auto it = branch.evidence().rbegin(); it != branch.evidence().rend(); ++it) {
    if (ProvenCommitted(it->outcome())) return false;
    if (!it->resolved_by().empty()) return true;
  }
  return false;
}

absl::optional<bool> ProvenCommitted(v1::BranchOutcome outcome) {
  switch (outcome) {
    case v1::BRANCH_OUTCOME_COMMITTED:
    case v1::BRANCH_OUTCOME_HEURISTIC_COMMITTED: return true;
    case v1::BRANCH_OUTCOME_ROLLED_BACK:
    case v1::BRANCH_OUTCOME_HEURISTIC_ROLLED_BACK:
    case v1::BRANCH_OUTCOME_NEVER_PREPARED: return false;
    default: return absl::nullopt;
  }
}

}  // namespace assent
