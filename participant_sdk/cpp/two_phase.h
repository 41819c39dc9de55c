// TwoPhase: both phases over any number of branches of this process, in parallel and without threads: the statement is
// sent to every session, then the answers are collected.
#ifndef ASSENT_PARTICIPANT_SDK_CPP_TWO_PHASE_H_
#define ASSENT_PARTICIPANT_SDK_CPP_TWO_PHASE_H_

#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "assent/v1/coordinator_service.pb.h"
#include "participant_sdk/cpp/branch.h"

namespace assent {

class TwoPhase {
 public:
  // Phase one. Every branch that has not voted yet is prepared, or ended if it wrote nothing (READ_ONLY), or rolled
  // back if it is poisoned or PREPARE fails (FAILED). Answers one vote for each branch, in order, old ones included.
  static std::vector<v1::Vote> Prepare(absl::Span<Branch* const> branches);

  // The branch that has written, or may have, if there is only one, it leaves a witness and can be committed in one
  // phase, and nothing has failed; else null. Asks the databases that have not said whether they were written to.
  static Branch* OnlyWriter(absl::Span<Branch* const> branches);
  enum class OnePhase {
    kCommitted,
    kFailed,   // As after a failed PREPARE: it has a vote FAILED.
    kUnknown,  // Committed or rolled back; its session is let go, so that recovery can see which.
  };
  // Instead of both phases, for what OnlyWriter has answered. The other branches must have ended before.
  static OnePhase CommitInOnePhase(Branch* branch);

  // From now on only the decision may finish these branches.
  // Answers those of which that was not so yet.
  static std::vector<Branch*> MarkVoted(absl::Span<Branch* const> branches);
  // These votes were certainly not counted.
  static void UnmarkVoted(absl::Span<Branch* const> branches);
  // True if some branch is prepared and its vote is out.
  static bool AwaitsDecision(absl::Span<Branch* const> branches);

  // Rolls back every branch whose vote is not out, whatever it has done (no decision to COMMIT can exist without that
  // vote), and answers what is proven. Branches that have ended, or whose vote is out, are left alone.
  static std::vector<v1::Completion> RollBackUnvoted(absl::Span<Branch* const> branches);

  // Phase two. Finishes every prepared branch on the session that prepared it, and answers what is proven. What the
  // database cannot do right now (read-only, backup lock) is repeated until `give_up`. A branch whose answer was lost
  // stays in doubt and is not in the list.
  static std::vector<v1::Completion> Finish(absl::Span<Branch* const> branches, v1::Decision decision,
                                            absl::Time give_up);
  // True if every branch is finished, by whomever.
  static bool AllFinished(absl::Span<Branch* const> branches);
  // True if some branch was finished by somebody else, so that how it ended is not proven here.
  static bool AnyElsewhere(absl::Span<Branch* const> branches);

  // Lets go of the sessions of branches that are not finished: they become detached, for the coordinator to finish.
  static void Abandon(absl::Span<Branch* const> branches);

 private:
  // Those that have begun and not voted. What has not begun votes at once; what may not have written is asked.
  static std::vector<Branch*> FindActive(absl::Span<Branch* const> branches);
  static bool HasWritten(const Branch& branch);
  // The vote of a branch that could not be prepared or committed.
  static v1::Vote FailedBy(Branch* branch, XaVerb verb, const XaResult& result);
  static void SendPhaseOne(Branch* branch);
  static v1::Vote ReceivePhaseOne(Branch* branch);
  static v1::Vote Failed(Branch* branch, bool rolled_back);
  static bool ProvesRolledBack(const Branch& branch, const XaResult& result, bool prepare_was_sent);
};

}  // namespace assent

#endif  // ASSENT_PARTICIPANT_SDK_CPP_TWO_PHASE_H_
