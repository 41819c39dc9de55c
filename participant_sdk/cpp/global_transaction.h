// GlobalTransaction: the unit that is atomic, as one process sees it.
//
// One process that owns all connections: Begin, OpenBranch for each database, Execute, Commit.
// Many processes: Begin here and hand gtrid() to the workers over any channel; each worker calls Client::Join,
// OpenBranch, Execute, Prepare. Prepare votes, waits for the decision and finishes on the same sessions.
//
// There are three outcomes, and no fourth:
//   OK                          committed, proven on every branch
//   ABORTED                     rolled back (reason GLOBAL_ROLLED_BACK, or why a branch could not go on): do it again
//                               if RetryOf (base/errors.h) says that it helps
//   UNKNOWN (OUTCOME_IN_DOUBT)  decided or perhaps decided, not proven; the coordinator goes on with it. Metadata
//                               `cause` SESSION_RESET: a connection was reset while it held a branch
// Every other error comes before any decision; the transaction is still open, and is rolled back when it leaves scope.
#ifndef ASSENT_PARTICIPANT_SDK_CPP_GLOBAL_TRANSACTION_H_
#define ASSENT_PARTICIPANT_SDK_CPP_GLOBAL_TRANSACTION_H_

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "assent/v1/global.pb.h"
#include "base/errors.h"  // ReasonOf, ToText: how to read what a call answers.
#include "participant_sdk/cpp/branch.h"
#include "participant_sdk/cpp/client.h"

namespace assent {

// Thread-compatible. Movable. Sessions must outlive it. The client may go first.
class GlobalTransaction {
 public:
  GlobalTransaction(GlobalTransaction&&) = default;
  GlobalTransaction& operator=(GlobalTransaction&&) = delete;
  // Without a decision: rolls back, which for a joined transaction means its FAILED vote. Branches in doubt are left to
  // the coordinator and their sessions closed, because a connection with a prepared branch must never be used for
  // anything else.
  ~GlobalTransaction();

  const std::string& gtrid() const { return gtrid_; }

  // Makes a branch on a registered resource that runs over `session`. No SQL is sent before the first statement. The
  // branch belongs to the transaction. Errors: SESSION_HOLDS_BRANCH if the session carries a branch already;
  // BRANCH_ENDED once Prepare, Commit or Rollback was called; the coordinator's (RESOURCE_NOT_FOUND,
  // GLOBAL_ROLLED_BACK, …). After an error it may be tried again; while a resource's last try has failed, Commit and
  // Prepare roll back, because what was to be done there was not.
  absl::StatusOr<Branch*> OpenBranch(absl::string_view resource, BranchSession* session);

  // Prepares this process's branches in parallel, asks for COMMIT, and commits them in parallel.
  //
  // If another process's branch has not voted yet: FAILED_PRECONDITION (BRANCHES_NOT_PREPARED), and Commit may be
  // called again. After OUTCOME_IN_DOUBT because the coordinator was away it may be called again, too. Otherwise
  // repeating it answers the same.
  absl::Status Commit();

  // For a worker that joined: prepares this process's branches, votes, waits for the decision, and finishes them on the
  // same sessions. OK: decided COMMIT and committed on every branch of this process. `patience`: how long to wait for
  // the decision before it is in doubt; Prepare may be called again then.
  absl::Status Prepare() { return Prepare(client_->options.decision_patience); }
  absl::Status Prepare(absl::Duration patience);

  // For a worker that must answer before the decision, like the handler of a call (callee.h): prepares this process's
  // branches and votes. OK: the votes count, and whoever decides may decide COMMIT. Prepare must follow: it waits for
  // the decision, finishes the branches and answers how it ended. Errors as Prepare's; if it has been decided already,
  // Vote answers what Prepare would.
  absl::Status Vote();

  // Rolls this process's branches back at once and everybody else's through the coordinator. OK: ROLLBACK is decided.
  // FAILED_PRECONDITION (GLOBAL_COMMITTED) if COMMIT had been decided before: then the branches have been committed.
  absl::Status Rollback(absl::string_view reason = "");

  // COMMITTED, ROLLED_BACK or IN_DOUBT as far as this process knows; OUTCOME_UNSPECIFIED before any decision.
  v1::Outcome outcome() const { return outcome_; }

  // The end is known, and Commit, Prepare and Rollback have nothing left to do.
  bool concluded() const { return concluded_; }
  // Begun as sole_participant: no other process can take part.
  bool is_sole() const { return sole_; }

  // Leaves it as it is: the destructor will not roll back. For an initiator whose workers decide by WHEN_ALL_PREPARED.
  void Leave() { left_ = true; }

 private:
  friend class Client;

  enum class Scope {
    kOwnBranches,  // Done when this process's branches are.
    kAllBranches,  // Done when every branch is.
  };

  GlobalTransaction(std::shared_ptr<ClientState> client, std::string gtrid, v1::DecisionPolicy policy, bool joined);

  // What this process's votes come with.
  enum class Ask {
    kCommit,    // The wish to decide COMMIT, by Finalize.
    kDecision,  // The wish to be told the decision.
    kNothing,
  };

  // What the coordinator's answer to a vote or a Finalize says about the decision.
  struct Verdict {
    v1::Decision decision = v1::DECISION_UNSPECIFIED;  // UNSPECIFIED: not known.
    absl::Status why;  // For ROLLBACK: the error that says why. For UNSPECIFIED: why it is not known.
    int branches = 0;  // Of the whole transaction; 0: not known.
  };
  static Verdict VerdictOf(const absl::StatusOr<v1::GlobalStatus>& answer);

  // Nobody else takes part, and nothing is on record yet.
  void BecomeSole(absl::Duration timeout, bool one_phase_commit);
  std::vector<Branch*> Branches() const;
  absl::StatusOr<Branch*> MakeBranch(absl::string_view resource, BranchSession* session);
  // What the branch is to be like: made by Begin, or by the coordinator now, or, for a sole participant, here.
  absl::StatusOr<v1::Branch> DescribeBranch(absl::string_view resource, const BranchSession& session);
  v1::FinalizeRequest FinalizeWith(v1::Decision decision) const;
  absl::Duration Age() const { return absl::FromChrono(std::chrono::steady_clock::now() - begun_); }
  // All of it, for a record to be made of; with the sessions if nothing else brings them.
  v1::NewGlobal Whole(bool with_sessions) const;
  absl::Status Decide(Ask ask, Scope scope, absl::Duration patience);
  // The other branches have written nothing.
  absl::Status CommitInOnePhase(Branch* writer);
  v1::Completion OnePhaseReport(v1::Completion::Result result) const;
  // Puts a one-phase commit without an answer on record.
  absl::Status TellOfLostAnswer(absl::Time give_up);
  // Of such a one: waits until the coordinator has seen what the database did.
  absl::Status AwaitOnePhase();
  // No votes: only waits.
  absl::StatusOr<v1::GlobalStatus> SendVotes(const std::vector<v1::Vote>& votes, v1::Wait wait, absl::Time give_up);
  absl::StatusOr<v1::GlobalStatus> SendFinalize(const std::vector<v1::Vote>& votes, absl::Time give_up);
  absl::StatusOr<v1::GlobalStatus> SendFailed(const std::vector<v1::Vote>& votes, absl::Time give_up);
  // What was wanted cannot be committed: rolls back, and says why.
  absl::Status RollBackBecause(absl::string_view why, const absl::Status& cause);
  // Some vote is FAILED: rolls the others back, tells the coordinator, answers the error behind the failed vote.
  absl::Status FailedToPrepare(const std::vector<v1::Vote>& votes);
  // Finishes the branches as decided, reports, and answers the outcome.
  absl::Status Conclude(const Verdict& verdict, Scope scope);
  absl::Status ConcludeCommit(const std::vector<v1::Completion>& completions, int all_branches, Scope scope);
  // Waits until the coordinator has proof of every branch; in doubt if that takes too long or proves something else.
  absl::Status AwaitApplied(absl::string_view decided, v1::Outcome outcome);
  absl::Status InDoubt(absl::string_view what);
  // The branch of a session that was reset under it; null if there is none.
  const Branch* ResetBranch() const;
  // In doubt, although `decided`, because some branch here is not proven finished.
  absl::Status NotFinished(absl::string_view decided);
  // Rolls back what no vote is out for; also counts the branches that Begin made and nobody opened.
  std::vector<v1::Completion> RollBackUnvoted();
  v1::Completion RolledBack(const std::string& bqual) const;
  void Report(const std::vector<v1::Completion>& completions);

  std::shared_ptr<ClientState> client_;
  std::string gtrid_;
  v1::DecisionPolicy policy_;
  bool joined_;        // Begun by another process.
  bool sole_ = false;  // Finalize creates it.
  bool one_phase_allowed_ = false;
  const Branch* one_phase_ = nullptr;  // Was told to commit in one phase, and is not known to have failed.
  absl::Duration timeout_ = absl::ZeroDuration();
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  std::vector<v1::Branch> created_;  // By Begin, not yet opened.
  std::vector<std::unique_ptr<Branch>> branches_;
  std::map<std::string, absl::Status> refused_;  // The resources whose last OpenBranch failed.
  bool ended_ = false;                           // Prepare, Commit or Rollback was called.
  bool concluded_ = false;                       // result_ is final.
  bool left_ = false;
  absl::Duration rollback_patience_;
  absl::Status result_;
  v1::Outcome outcome_ = v1::OUTCOME_UNSPECIFIED;
};

}  // namespace assent

#endif  // ASSENT_PARTICIPANT_SDK_CPP_GLOBAL_TRANSACTION_H_
