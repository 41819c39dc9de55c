#include "participant_sdk/cpp/two_phase.h"

#include <glog/logging.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/fault_point.h"
#include "base/utf8.h"

namespace assent {
namespace {

constexpr size_t kMaxFailureBytes = 1000;
constexpr absl::Duration kRetryPause = absl::Milliseconds(100);

v1::Vote MakeVote(const Branch& branch, v1::VoteKind kind) {
  v1::Vote vote;
  vote.set_bqual(branch.xid().bqual);
  vote.set_kind(kind);
  if (kind != v1::VOTE_KIND_PREPARED) return vote;
  *vote.mutable_session() = branch.session()->Describe();
  vote.set_witnessed(branch.has_witness());
  return vote;
}

v1::Completion MakeCompletion(const Branch& branch, v1::Completion::Result result) {
  v1::Completion completion;
  completion.set_gtrid(branch.xid().gtrid);
  completion.set_bqual(branch.xid().bqual);
  completion.set_result(result);
  return completion;
}

}  // namespace

// What a ROLLBACK's answer proves on the branch's own session. After a reset of the session: nothing.
bool TwoPhase::ProvesRolledBack(const Branch& branch, const XaResult& result, bool prepare_was_sent) {
  switch (result.outcome) {
    case XaOutcome::kOk:
    case XaOutcome::kRolledBack: return true;
    // Once PREPARE has let go of it anybody may have finished it, and also have committed it.
    case XaOutcome::kUnknownXid: return !(prepare_was_sent && branch.session_->detaches());
    // The server rolls a branch back that was never prepared when it notices the end of its session; nobody can commit
    // it.
    case XaOutcome::kConnectionLost: return !prepare_was_sent;
    default: return false;
  }
}

v1::Vote TwoPhase::Failed(Branch* branch, bool rolled_back) {
  v1::Vote vote = MakeVote(*branch, v1::VOTE_KIND_FAILED);
  vote.set_rolled_back(rolled_back);
  std::map<std::string, std::string> metadata = MetadataOf(branch->poison_);
  int code = 0;
  if (absl::SimpleAtoi(metadata["error_code"], &code)) vote.mutable_failure()->set_error_code(code);
  vote.mutable_failure()->set_sqlstate(metadata["sqlstate"]);
  vote.mutable_failure()->set_message(ToUtf8(branch->poison_.message(), kMaxFailureBytes));
  branch->stage_ = rolled_back ? Branch::Stage::kFinished : Branch::Stage::kInDoubt;
  branch->vote_ = vote;
  return vote;
}

bool TwoPhase::HasWritten(const Branch& branch) { return branch.counts_as_written_ || branch.session_->has_written(); }

void TwoPhase::SendPhaseOne(Branch* branch) {
  const bool wrote = HasWritten(*branch);
  if (!branch->poison_.ok()) {
    branch->session_->SendRollback(branch->xid_);
  } else if (!wrote) {
    branch->session_->SendEndReadOnly(branch->xid_);
  } else {
    ASSENT_FAULT_POINT(kSdkPrepareBefore);
    branch->session_->SendPrepare(branch->xid_, branch->witness_ ? &*branch->witness_ : nullptr);
    ASSENT_FAULT_POINT(kSdkPrepareSent);
  }
}

v1::Vote TwoPhase::ReceivePhaseOne(Branch* branch) {
  const bool wrote = HasWritten(*branch);
  const XaResult result = branch->session_->Receive();
  if (!branch->poison_.ok()) return Failed(branch, ProvesRolledBack(*branch, result, false));
  if (!wrote && (result.failed_step == XaResult::Step::kCommit || branch->session_->was_reset())) {
    branch->poison_ = StatusOf(result.error, "ending the branch, which has only read");
    return Failed(branch, ProvesRolledBack(*branch, branch->session_->Rollback(branch->xid_), false));
  }
  if (!wrote) {
    // It wrote nothing: even if the session broke there is nothing that could be kept or lost.
    branch->stage_ = Branch::Stage::kFinished;
    branch->vote_ = MakeVote(*branch, v1::VOTE_KIND_READ_ONLY);
    return *branch->vote_;
  }
  if (result.ok()) {
    ASSENT_FAULT_POINT(kSdkPrepareOk);
    branch->stage_ = Branch::Stage::kPrepared;
    branch->vote_ = MakeVote(*branch, v1::VOTE_KIND_PREPARED);
    return *branch->vote_;
  }
  return FailedBy(branch, XaVerb::kPrepare, result);
}

v1::Vote TwoPhase::FailedBy(Branch* branch, XaVerb verb, const XaResult& result) {
  branch->poison_ = StatusOf(verb, result.outcome, result.error);
  if (result.failed_step == XaResult::Step::kWitness) {
    branch->poison_ = StatusOf(result.error, branch->witness_->WhyRefused(result.error.code));
  }
  // If the verb never reached the server, the end of the session was the end of the branch.
  if (result.outcome == XaOutcome::kConnectionLost) return Failed(branch, /*rolled_back=*/!result.sent);
  // Its database rolls it back with the reset, or, behind a proxy, with the end of its session: not proven here.
  if (result.outcome == XaOutcome::kSessionReset) return Failed(branch, /*rolled_back=*/false);
  return Failed(branch,
                ProvesRolledBack(*branch, branch->session_->Rollback(branch->xid_), /*prepare_was_sent=*/false));
}

std::vector<Branch*> TwoPhase::FindActive(absl::Span<Branch* const> branches) {
  std::vector<Branch*> unsure;
  std::vector<Branch*> active;
  for (Branch* branch : branches) {
    if (branch->vote_) continue;
    if (branch->stage_ == Branch::Stage::kIdle) {
      if (branch->poison_.ok()) branch->poison_ = branch->unstarted_;  // What was asked of it was not done.
      if (branch->poison_.ok()) {
        branch->stage_ = Branch::Stage::kFinished;
        branch->vote_ = MakeVote(*branch, v1::VOTE_KIND_READ_ONLY);
      } else {
        Failed(branch, /*rolled_back=*/true);  // XA START itself failed: there never was a branch.
      }
      continue;
    }
    active.push_back(branch);
    if (branch->poison_.ok() && !branch->asked_ && !HasWritten(*branch)) unsure.push_back(branch);
  }
  for (Branch* branch : unsure) branch->session_->SendProbe();
  for (Branch* branch : unsure) {
    branch->counts_as_written_ = branch->session_->ReceiveProbe();
    branch->asked_ = true;
  }
  return active;
}

std::vector<v1::Vote> TwoPhase::Prepare(absl::Span<Branch* const> branches) {
  const std::vector<Branch*> active = FindActive(branches);
  for (Branch* branch : active) SendPhaseOne(branch);
  for (Branch* branch : active) ReceivePhaseOne(branch);
  std::vector<v1::Vote> votes;
  for (Branch* branch : branches) votes.push_back(*branch->vote_);
  return votes;
}

Branch* TwoPhase::OnlyWriter(absl::Span<Branch* const> branches) {
  FindActive(branches);
  Branch* writer = nullptr;
  for (Branch* branch : branches) {
    if (branch->vote_ && branch->vote_->kind() == v1::VOTE_KIND_READ_ONLY) continue;
    if (branch->vote_ || !branch->poison_.ok()) return nullptr;
    if (!HasWritten(*branch)) continue;
    if (writer != nullptr) return nullptr;
    writer = branch;
  }
  const bool fits = writer != nullptr && writer->has_witness() && writer->session_->commits_in_one_phase();
  return fits ? writer : nullptr;
}

TwoPhase::OnePhase TwoPhase::CommitInOnePhase(Branch* branch) {
  ASSENT_FAULT_POINT(kSdkOnePhaseBefore);
  branch->session_->SendCommitOnePhase(branch->xid_, &*branch->witness_);
  ASSENT_FAULT_POINT(kSdkOnePhaseSent);
  const XaResult result = branch->session_->Receive();
  if (result.ok()) {
    ASSENT_FAULT_POINT(kSdkOnePhaseOk);
    branch->stage_ = Branch::Stage::kFinished;
    return OnePhase::kCommitted;
  }
  const bool lost = result.outcome == XaOutcome::kConnectionLost && result.sent;
  const bool unclear = result.failed_step == XaResult::Step::kCommit && result.outcome != XaOutcome::kRolledBack;
  if (!lost && !unclear) {
    FailedBy(branch, XaVerb::kCommitOnePhase, result);
    return OnePhase::kFailed;
  }
  LOG(WARNING) << "gtrid=" << branch->xid_.gtrid << " bqual=" << branch->xid_.bqual << " resource=" << branch->resource_
               << " one-phase commit in doubt: " << ToString(result.outcome) << " " << result.error.code;
  branch->stage_ = Branch::Stage::kInDoubt;
  branch->session_->Abandon();
  return OnePhase::kUnknown;
}

std::vector<Branch*> TwoPhase::MarkVoted(absl::Span<Branch* const> branches) {
  std::vector<Branch*> fresh;
  for (Branch* branch : branches) {
    if (!branch->voted_) fresh.push_back(branch);
    branch->voted_ = true;
  }
  return fresh;
}

void TwoPhase::UnmarkVoted(absl::Span<Branch* const> branches) {
  for (Branch* branch : branches) branch->voted_ = false;
}

bool TwoPhase::AwaitsDecision(absl::Span<Branch* const> branches) {
  return std::any_of(branches.begin(), branches.end(),
                     [](Branch* branch) { return branch->stage_ == Branch::Stage::kPrepared && branch->voted_; });
}

std::vector<v1::Completion> TwoPhase::RollBackUnvoted(absl::Span<Branch* const> branches) {
  std::vector<Branch*> open;
  std::vector<v1::Completion> completions;
  for (Branch* branch : branches) {
    if (branch->voted_) continue;
    if (branch->stage_ == Branch::Stage::kIdle) {
      branch->stage_ = Branch::Stage::kFinished;
      completions.push_back(MakeCompletion(*branch, v1::Completion::RESULT_ROLLED_BACK));
    } else if (branch->stage_ == Branch::Stage::kActive || branch->stage_ == Branch::Stage::kPrepared) {
      open.push_back(branch);
      ASSENT_FAULT_POINT(kSdkAbortBefore);
      branch->session_->SendRollback(branch->xid_);
      ASSENT_FAULT_POINT(kSdkAbortSent);
    }
  }
  for (Branch* branch : open) {
    const bool prepared = branch->stage_ == Branch::Stage::kPrepared;
    if (ProvesRolledBack(*branch, branch->session_->Receive(), prepared)) {
      ASSENT_FAULT_POINT(kSdkAbortOk);
      branch->stage_ = Branch::Stage::kFinished;
      completions.push_back(MakeCompletion(*branch, v1::Completion::RESULT_ROLLED_BACK));
    } else {
      branch->stage_ = Branch::Stage::kInDoubt;
    }
  }
  return completions;
}

std::vector<v1::Completion> TwoPhase::Finish(absl::Span<Branch* const> branches, v1::Decision decision,
                                             absl::Time give_up) {
  const bool commit = decision == v1::DECISION_COMMIT;
  std::vector<Branch*> open;
  for (Branch* branch : branches) {
    if (branch->stage_ == Branch::Stage::kPrepared) open.push_back(branch);
  }
  std::vector<v1::Completion> completions;
  while (!open.empty()) {
    for (Branch* branch : open) {
      ASSENT_FAULT_POINT(kSdkFinishBefore);
      commit ? branch->session_->SendCommit(branch->xid_) : branch->session_->SendRollback(branch->xid_);
      ASSENT_FAULT_POINT(kSdkFinishSent);
    }
    std::vector<Branch*> again;
    for (Branch* branch : open) {
      const XaResult result = branch->session_->Receive();
      absl::optional<v1::Completion::Result> proven;
      if (commit && result.ok()) proven = v1::Completion::RESULT_COMMITTED;
      // A branch that wrote answers 1402 only if somebody or something rolled it back.
      if (commit && result.outcome == XaOutcome::kRolledBack) proven = v1::Completion::RESULT_ROLLED_BACK;
      if (!commit && ProvesRolledBack(*branch, result, /*prepare_was_sent=*/true))
        proven = v1::Completion::RESULT_ROLLED_BACK;
      if (proven) {
        ASSENT_FAULT_POINT(kSdkFinishOk);
        completions.push_back(MakeCompletion(*branch, *proven));
        branch->stage_ = Branch::Stage::kFinished;
      } else if (result.outcome == XaOutcome::kRetryLater && absl::Now() < give_up) {
        again.push_back(branch);
      } else if (result.outcome == XaOutcome::kUnknownXid && branch->session_->detaches()) {
        branch->stage_ = Branch::Stage::kElsewhere;
      } else {
        LOG(WARNING) << "gtrid=" << branch->xid_.gtrid << " bqual=" << branch->xid_.bqual
                     << " resource=" << branch->resource_ << (commit ? " commit" : " rollback")
                     << " in doubt: " << ToString(result.outcome) << " " << result.error.code;
        branch->stage_ = Branch::Stage::kInDoubt;
      }
    }
    open = std::move(again);
    if (!open.empty()) absl::SleepFor(kRetryPause);
  }
  return completions;
}

bool TwoPhase::AllFinished(absl::Span<Branch* const> branches) {
  return std::all_of(branches.begin(), branches.end(), [](Branch* branch) {
    return branch->stage_ == Branch::Stage::kFinished || branch->stage_ == Branch::Stage::kElsewhere;
  });
}

bool TwoPhase::AnyElsewhere(absl::Span<Branch* const> branches) {
  return std::any_of(branches.begin(), branches.end(),
                     [](Branch* branch) { return branch->stage_ == Branch::Stage::kElsewhere; });
}

void TwoPhase::Abandon(absl::Span<Branch* const> branches) {
  for (Branch* branch : branches) {
    const Branch::Stage stage = branch->stage_;
    if (stage == Branch::Stage::kFinished || stage == Branch::Stage::kElsewhere || stage == Branch::Stage::kIdle)
      continue;
    LOG(WARNING) << "gtrid=" << branch->xid_.gtrid << " bqual=" << branch->xid_.bqual
                 << " resource=" << branch->resource_ << " left to the coordinator; its session is closed";
    branch->session_->Abandon();
  }
}

}  // namespace assent
