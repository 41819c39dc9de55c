// What the record of a branch says of its end, and what that rests on.
#ifndef ASSENT_STORE_PROOF_H_
#define ASSENT_STORE_PROOF_H_

#include "absl/types/optional.h"
#include "assent/v1/global.pb.h"

namespace assent {

// True while the branch is not proven finished, and so is for recovery to look at. Its transaction must not be
// undecided.
bool IsOpen(const v1::Branch& branch);
// True if it is finished because an operator said so, and no evidence proves it.
bool RestsOnWord(const v1::Branch& branch);
// What an outcome proves of a branch: that it is committed, or that it never will be; nullopt: nothing.
absl::optional<bool> ProvenCommitted(v1::BranchOutcome outcome);

}  // namespace assent

#endif  // ASSENT_STORE_PROOF_H_
