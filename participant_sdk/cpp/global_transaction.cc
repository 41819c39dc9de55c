#include "participant_sdk/cpp/global_transaction.h"

#include <glog/logging.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/types/optional.h"
#include "base/errors.h"
#include "base/fault_point.h"
#include "base/grpc_status.h"
#include "base/timestamp.h"
#include "base/utf8.h"
#include "base/xid.h"
#include "participant_sdk/cpp/two_phase.h"
#include "resource_manager/session_server.h"

namespace assent {
namespace {

// A destructor does not wait for long: what it could not tell the coordinator ends by its deadline.
constexpr absl::Duration kScopePatience = absl::Seconds(5);
// The coordinator refuses longer ones, and a reason must not be what a rollback fails for.
constexpr size_t kMaxReasonBytes = 1000;
// How long the age of a sole participant's transaction is good enough.
constexpr absl::Duration kAgeHolds = absl::Seconds(1);
// Between two tries to tell the coordinator what only it can look into.
constexpr absl::Duration kTellPause = absl::Milliseconds(50);
// As the coordinator's limit: what it would refuse when it is too late is refused before.
constexpr size_t kMaxSoleBranches = 1000;

bool AnyFailed(const std::vector<v1::Vote>& votes) {
  return std::any_of(votes.begin(), votes.end(),
                     [](const v1::Vote& vote) { return vote.kind() == v1::VOTE_KIND_FAILED; });
}

}  // namespace

GlobalTransaction::GlobalTransaction(std::shared_ptr<ClientState> client, std::string gtrid, v1::DecisionPolicy policy,
                                     bool joined)
    : client_(std::move(client)),
      gtrid_(std::move(gtrid)),
      policy_(policy),
      joined_(joined),
      rollback_patience_(client_->options.call_patience) {}

void GlobalTransaction::BecomeSole(absl::Duration timeout, bool one_phase_commit) {
  sole_ = true;
  one_phase_allowed_ = one_phase_commit;
  timeout_ = timeout;
}

GlobalTransaction::~GlobalTransaction() {
  if (client_ == nullptr) return;  // Moved from.
  const std::vector<Branch*> branches = Branches();
  if (!concluded_) {
    // While a vote is out only the decision finishes that branch, and asking for one here could wait for long.
    if (left_) created_.clear();  // Whoever it was left to may have taken them up.
    if (left_ || ((joined_ || sole_) && branches.empty()) || one_phase_ != nullptr ||
        TwoPhase::AwaitsDecision(branches)) {
      Report(RollBackUnvoted());
    } else {
      rollback_patience_ = kScopePatience;
      const absl::Status status = Rollback("left its scope without a decision");
      LOG_IF(WARNING, !status.ok()) << "gtrid=" << gtrid_ << " rollback at the end of scope: " << ToText(status);
    }
  }
  TwoPhase::Abandon(branches);
}

std::vector<Branch*> GlobalTransaction::Branches() const {
  std::vector<Branch*> branches;
  for (const std::unique_ptr<Branch>& branch : branches_) branches.push_back(branch.get());
  return branches;
}

absl::StatusOr<Branch*> GlobalTransaction::OpenBranch(absl::string_view resource, BranchSession* session) {
  if (ended_) {
    return MakeError(Reason::BRANCH_ENDED,
                     absl::StrCat("global transaction '", gtrid_, "' has ended here; begin a new one"),
                     {{"gtrid", gtrid_}});
  }
  absl::StatusOr<Branch*> branch = MakeBranch(resource, session);
  if (branch.ok()) {
    refused_.erase(std::string(resource));
  } else {
    refused_[std::string(resource)] = branch.status();
  }
  return branch;
}

absl::StatusOr<Branch*> GlobalTransaction::MakeBranch(absl::string_view resource, BranchSession* session) {
  const bool taken = std::any_of(branches_.begin(), branches_.end(),
                                 [session](const auto& branch) { return branch->session() == session; });
  if (taken || session->branch_state() != BranchState::kNone) {
    return MakeError(Reason::SESSION_HOLDS_BRANCH,
                     "the session carries a branch already: a session runs one branch at a time, and must not be "
                     "reused before that one is finished",
                     {{"gtrid", session->branch_xid().gtrid}, {"bqual", session->branch_xid().bqual}});
  }
  absl::StatusOr<v1::Branch> made = DescribeBranch(resource, *session);
  if (!made.ok()) return made.status();
  absl::Status status = CheckServer(session->Describe(), made->resource(), made->server(), made->timeline());
  if (!status.ok()) {
    // For the right session; or it is voted on, or rolled back, as unused.
    if (!sole_) created_.push_back(*std::move(made));
    return status;
  }
  absl::optional<WitnessTable> witness;
  if (!made->witness_table().empty()) {
    absl::StatusOr<WitnessTable> parsed = WitnessTable::Parse(made->witness_table());
    if (!parsed.ok()) return parsed.status();
    witness = *std::move(parsed);
  }
  branches_.push_back(
      std::make_unique<Branch>(Xid{gtrid_, made->bqual()}, made->resource(), std::move(witness), session));
  return branches_.back().get();
}

absl::StatusOr<v1::Branch> GlobalTransaction::DescribeBranch(absl::string_view resource, const BranchSession& session) {
  const absl::Time give_up = absl::Now() + client_->options.call_patience;
  v1::Branch made;
  if (sole_) {
    if (branches_.size() >= kMaxSoleBranches) {
      return MakeError(Reason::TOO_MANY_BRANCHES,
                       absl::StrCat("a global transaction has at most ", kMaxSoleBranches, " branches"),
                       {{"gtrid", gtrid_}, {"limit", absl::StrCat(kMaxSoleBranches)}});
    }
    absl::StatusOr<v1::BranchTerms> terms = client_->reservation.TermsOf(resource, give_up);
    if (!terms.ok()) return terms.status();
    made.set_bqual(absl::StrCat("b", branches_.size() + 1));
    made.set_resource(terms->resource());
    made.set_witness_table(terms->witness_table());
    made.set_server(terms->server());
    made.set_timeline(terms->timeline());
    return made;
  }
  const auto it = std::find_if(created_.begin(), created_.end(),
                               [resource](const v1::Branch& branch) { return branch.resource() == resource; });
  if (it != created_.end()) {
    made = std::move(*it);
    created_.erase(it);
    return made;
  }
  v1::CreateBranchesRequest request;
  request.set_gtrid(gtrid_);
  request.set_request_id(NewRequestId());
  v1::BranchSpec* spec = request.add_branches();
  spec->set_resource(std::string(resource));
  *spec->mutable_session() = session.Describe();
  absl::StatusOr<v1::CreateBranchesResponse> response = client_->connection.CreateBranches(request, give_up);
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_branches(0));
}

absl::Status GlobalTransaction::Commit() {
  return Decide(policy_ == v1::DECISION_POLICY_WHEN_ALL_PREPARED ? Ask::kDecision : Ask::kCommit, Scope::kAllBranches,
                client_->options.decision_patience);
}

absl::Status GlobalTransaction::Prepare(absl::Duration patience) {
  return Decide(Ask::kDecision, Scope::kOwnBranches, patience);
}

absl::Status GlobalTransaction::Vote() {
  return Decide(Ask::kNothing, Scope::kOwnBranches, client_->options.decision_patience);
}

absl::Status GlobalTransaction::Decide(Ask ask, Scope scope, absl::Duration patience) {
  if (concluded_) return result_;
  if (one_phase_ != nullptr) return AwaitOnePhase();
  if (!refused_.empty()) {
    return RollBackBecause(absl::StrCat("no branch could be opened on '", refused_.begin()->first,
                                        "': ", refused_.begin()->second.message()),
                           refused_.begin()->second);
  }
  ended_ = true;
  const std::vector<Branch*> branches = Branches();
  // Past its timeout, the coordinator says so.
  const bool in_time = timeout_ == absl::ZeroDuration() || Age() < timeout_;
  if (one_phase_allowed_ && in_time && ask == Ask::kCommit) {
    if (Branch* const writer = TwoPhase::OnlyWriter(branches)) return CommitInOnePhase(writer);
  }
  std::vector<v1::Vote> votes = TwoPhase::Prepare(branches);
  for (const v1::Branch& unused : created_) {  // Nobody opened them: they have done nothing.
    v1::Vote vote;
    vote.set_bqual(unused.bqual());
    vote.set_kind(v1::VOTE_KIND_READ_ONLY);
    votes.push_back(std::move(vote));
  }
  if (AnyFailed(votes)) return FailedToPrepare(votes);
  const std::vector<Branch*> fresh = TwoPhase::MarkVoted(branches);
  const absl::Time give_up = absl::Now() + patience;
  ASSENT_FAULT_POINT(kSdkVoteBefore);
  const absl::StatusOr<v1::GlobalStatus> answer =
      ask == Ask::kCommit ? SendFinalize(votes, give_up)
                          : SendVotes(votes, ask == Ask::kDecision ? v1::WAIT_DECIDED : v1::WAIT_NONE, give_up);
  const absl::optional<Reason> reason = ReasonOf(answer.status());
  if (reason == Reason::BRANCHES_NOT_PREPARED || reason == Reason::WRONG_SERVER) {
    // Nothing of this call was counted, so what voted in it for the first time may still be rolled back. A vote that an
    // earlier call may have brought stays out.
    TwoPhase::UnmarkVoted(fresh);
    return reason == Reason::WRONG_SERVER ? RollBackBecause(answer.status().message(), answer.status())
                                          : answer.status();
  }
  if (sole_ && reason && IsRefusedByItself(*reason)) {
    // No attempt of such a call is ever carried out: it has not been decided, and never will be.
    TwoPhase::UnmarkVoted(fresh);
    Report(RollBackUnvoted());
    result_ = answer.status();
    outcome_ = TwoPhase::AllFinished(branches) ? v1::OUTCOME_ROLLED_BACK : v1::OUTCOME_IN_DOUBT;
    concluded_ = true;
    return result_;
  }
  // What it was run on counts no more, perhaps.
  if (answer.ok() && answer->cause() == v1::DECISION_CAUSE_REFUSED) client_->reservation.Forget();
  if (ask == Ask::kNothing && answer.ok() && answer->decision() == v1::DECISION_UNSPECIFIED) return absl::OkStatus();
  return Conclude(VerdictOf(answer), scope);
}

absl::Status GlobalTransaction::CommitInOnePhase(Branch* writer) {
  std::vector<Branch*> readers = Branches();
  readers.erase(std::find(readers.begin(), readers.end(), writer));
  const std::vector<v1::Vote> votes = TwoPhase::Prepare(readers);
  if (AnyFailed(votes)) return FailedToPrepare(votes);
  // Before it: from now on nobody may say that it was rolled back but its database.
  one_phase_ = writer;
  switch (TwoPhase::CommitInOnePhase(writer)) {
    case TwoPhase::OnePhase::kCommitted:
      Report({OnePhaseReport(v1::Completion::RESULT_COMMITTED)});
      concluded_ = true;
      outcome_ = v1::OUTCOME_COMMITTED;
      return result_;
    case TwoPhase::OnePhase::kFailed: one_phase_ = nullptr; return FailedToPrepare(TwoPhase::Prepare(Branches()));
    case TwoPhase::OnePhase::kUnknown: break;
  }
  return AwaitOnePhase();
}

v1::Completion GlobalTransaction::OnePhaseReport(v1::Completion::Result result) const {
  v1::Completion completion;
  completion.set_gtrid(gtrid_);
  completion.set_bqual(one_phase_->xid().bqual);
  completion.set_result(result);
  *completion.mutable_create() = Whole(/*with_sessions=*/result == v1::Completion::RESULT_UNKNOWN);
  return completion;
}

absl::Status GlobalTransaction::TellOfLostAnswer(absl::Time give_up) {
  for (;;) {
    v1::CompletedRequest report;
    *report.add_completions() = OnePhaseReport(v1::Completion::RESULT_UNKNOWN);
    const absl::StatusOr<v1::CompletedResponse> told =
        client_->connection.Completed(report, std::min(give_up, absl::Now() + kAgeHolds));
    if (told.ok() && !told->results(0).has_error()) return absl::OkStatus();
    absl::Status why = told.ok() ? FromRpcStatus(told->results(0).error()) : told.status();
    if (!IsRetryable(why)) return why;
    if (absl::Now() >= give_up) {
      Report({report.completions(0)});  // Offered until it is taken.
      return why;
    }
    absl::SleepFor(kTellPause);
  }
}

absl::Status GlobalTransaction::AwaitOnePhase() {
  constexpr char kLost[] = "it was to be committed in one phase, and the answer of its database was lost";
  const absl::Time give_up = absl::Now() + client_->options.decision_patience;
  if (absl::Status told = TellOfLostAnswer(give_up); !told.ok()) {
    return InDoubt(absl::StrCat(kLost, "; the coordinator could not be asked to look: ", told.message()));
  }
  const absl::StatusOr<v1::GlobalStatus> seen = SendVotes({}, v1::WAIT_APPLIED, give_up);
  if (!seen.ok()) return InDoubt(absl::StrCat(kLost, "; not known yet what that did: ", seen.status().message()));
  if (seen->outcome() == v1::OUTCOME_COMMITTED) {
    result_ = absl::OkStatus();
  } else if (seen->outcome() == v1::OUTCOME_ROLLED_BACK) {
    result_ = MakeError(Reason::GLOBAL_ROLLED_BACK, absl::StrCat("rolled back: ", kLost, ", which has not done it"),
                        {{"gtrid", gtrid_}, {"cause", v1::DecisionCause_Name(seen->cause())}});
  } else {
    return InDoubt(absl::StrCat(kLost, ", which has not been seen yet: ", v1::Global::State_Name(seen->state())));
  }
  outcome_ = seen->outcome();
  concluded_ = true;
  return result_;
}

absl::StatusOr<v1::GlobalStatus> GlobalTransaction::SendVotes(const std::vector<v1::Vote>& votes, v1::Wait wait,
                                                              absl::Time give_up) {
  v1::PreparedRequest request;
  request.set_gtrid(gtrid_);
  *request.mutable_votes() = {votes.begin(), votes.end()};
  request.set_wait(wait);
  return client_->connection.Prepared(request, give_up);
}

absl::StatusOr<v1::GlobalStatus> GlobalTransaction::SendFinalize(const std::vector<v1::Vote>& votes,
                                                                 absl::Time give_up) {
  for (;;) {
    v1::FinalizeRequest request = FinalizeWith(v1::DECISION_COMMIT);
    *request.mutable_votes() = {votes.begin(), votes.end()};
    // What creates it says how old it is, which must stay true while nobody answers.
    const absl::Time until = sole_ ? std::min(give_up, absl::Now() + kAgeHolds) : give_up;
    absl::StatusOr<v1::GlobalStatus> answer = client_->connection.Finalize(request, until);
    if (answer.ok() || !IsRetryable(answer.status()) || absl::Now() >= give_up) return answer;
  }
}

v1::FinalizeRequest GlobalTransaction::FinalizeWith(v1::Decision decision) const {
  v1::FinalizeRequest request;
  request.set_gtrid(gtrid_);
  request.set_decision(decision);
  request.set_wait(v1::WAIT_DECIDED);
  // With COMMIT the sessions come with the votes.
  if (sole_) *request.mutable_create() = Whole(/*with_sessions=*/decision == v1::DECISION_ROLLBACK);
  return request;
}

v1::NewGlobal GlobalTransaction::Whole(bool with_sessions) const {
  v1::NewGlobal whole;
  SetDuration(Age(), whole.mutable_age());
  if (timeout_ != absl::ZeroDuration()) SetDuration(timeout_, whole.mutable_timeout());
  for (const std::unique_ptr<Branch>& branch : branches_) {
    v1::BranchSpec* const spec = whole.add_branches();
    spec->set_bqual(branch->xid().bqual);
    spec->set_resource(branch->resource());
    if (with_sessions) *spec->mutable_session() = branch->session()->Describe();
    spec->set_witness_table(branch->witness_table());
  }
  return whole;
}

absl::StatusOr<v1::GlobalStatus> GlobalTransaction::SendFailed(const std::vector<v1::Vote>& votes, absl::Time give_up) {
  if (sole_) {
    v1::FinalizeRequest request = FinalizeWith(v1::DECISION_ROLLBACK);
    *request.mutable_votes() = {votes.begin(), votes.end()};
    return client_->connection.Finalize(request, give_up);
  }
  v1::PreparedRequest request;
  request.set_gtrid(gtrid_);
  *request.mutable_votes() = {votes.begin(), votes.end()};
  request.set_wait(v1::WAIT_NONE);
  return client_->connection.Prepared(request, give_up);
}

absl::Status GlobalTransaction::RollBackBecause(absl::string_view why, const absl::Status& cause) {
  const std::string reason(why);
  std::map<std::string, std::string> metadata = {{"gtrid", gtrid_},
                                                 {"cause", v1::DecisionCause_Name(v1::DECISION_CAUSE_FINALIZE)}};
  if (const auto because = ReasonOf(cause)) metadata["because"] = std::string(InfoOf(*because).name);
  if (absl::Status status = Rollback(reason); !status.ok()) return status;
  result_ = MakeError(Reason::GLOBAL_ROLLED_BACK, absl::StrCat("rolled back: ", reason), metadata);
  return result_;
}

absl::Status GlobalTransaction::FailedToPrepare(const std::vector<v1::Vote>& votes) {
  // COMMIT cannot be decided without our votes, so the locks of the others go first.
  std::vector<v1::Completion> completions = RollBackUnvoted();
  std::vector<v1::Vote> failed;
  std::copy_if(votes.begin(), votes.end(), std::back_inserter(failed),
               [](const v1::Vote& vote) { return vote.kind() == v1::VOTE_KIND_FAILED; });
  ASSENT_FAULT_POINT(kSdkFailBefore);
  const absl::StatusOr<v1::GlobalStatus> told = SendFailed(failed, absl::Now() + rollback_patience_);
  ASSENT_FAULT_POINT(kSdkFailOk);
  if (!told.ok()) {
    // The vote may not have arrived. The proofs behind it say the same, and they are offered until they are taken.
    LOG(WARNING) << "gtrid=" << gtrid_ << " FAILED vote not confirmed: " << ToText(told.status());
    for (const v1::Vote& vote : votes) {
      if (vote.rolled_back()) completions.push_back(RolledBack(vote.bqual()));
    }
  }
  Report(completions);
  for (const std::unique_ptr<Branch>& branch : branches_) {
    if (result_.ok()) result_ = branch->poison();
  }
  // Whatever the database's error was, the transaction is rolled back.
  if (!absl::IsAborted(result_)) {
    result_ =
        MakeError(Reason::GLOBAL_ROLLED_BACK, absl::StrCat("rolled back: ", result_.message()), MetadataOf(result_));
  }
  concluded_ = true;
  outcome_ = TwoPhase::AllFinished(Branches()) ? v1::OUTCOME_ROLLED_BACK : v1::OUTCOME_IN_DOUBT;
  const Branch* const reset = ResetBranch();
  // Doing it all again would do that part twice.
  if (reset != nullptr && reset->session()->ran_outside()) result_ = NotFinished("ROLLBACK");
  return result_;
}

absl::Status GlobalTransaction::Rollback(absl::string_view reason) {
  if (one_phase_ != nullptr && !concluded_) {
    const absl::Status known = AwaitOnePhase();
    if (!concluded_) return known;
  }
  if (concluded_ && outcome_ == v1::OUTCOME_COMMITTED) {
    return MakeError(Reason::GLOBAL_COMMITTED,
                     absl::StrCat("global transaction '", gtrid_, "' has been committed; it cannot be rolled back"),
                     {{"gtrid", gtrid_}});
  }
  if (concluded_) return outcome_ == v1::OUTCOME_ROLLED_BACK ? absl::OkStatus() : result_;
  ended_ = true;
  const std::vector<v1::Completion> completions = RollBackUnvoted();
  v1::FinalizeRequest request = FinalizeWith(v1::DECISION_ROLLBACK);
  request.set_reason(ToUtf8(reason.empty() ? "rolled back by the application" : reason, kMaxReasonBytes));
  const absl::StatusOr<v1::GlobalStatus> answer =
      client_->connection.Finalize(request, absl::Now() + rollback_patience_);
  const Verdict verdict = VerdictOf(answer);
  Report(completions);  // Also if nobody answered: they are offered until they are taken, and say the same.
  if (verdict.decision == v1::DECISION_UNSPECIFIED) return verdict.why;  // May be called again.
  const absl::Status concluded = Conclude(verdict, Scope::kOwnBranches);
  if (verdict.decision == v1::DECISION_COMMIT) return verdict.why;
  return absl::IsUnknown(concluded) ? concluded : absl::OkStatus();
}

GlobalTransaction::Verdict GlobalTransaction::VerdictOf(const absl::StatusOr<v1::GlobalStatus>& answer) {
  Verdict verdict;
  if (answer.ok()) {
    verdict.decision = answer->decision();
    verdict.branches = answer->branches();
    if (verdict.decision == v1::DECISION_ROLLBACK) {
      const std::string detail =
          answer->cause_detail().empty() ? v1::DecisionCause_Name(answer->cause()) : answer->cause_detail();
      verdict.why = MakeError(Reason::GLOBAL_ROLLED_BACK,
                              absl::StrCat("global transaction '", answer->gtrid(), "' was rolled back: ", detail),
                              {{"gtrid", answer->gtrid()},
                               {"cause", v1::DecisionCause_Name(answer->cause())},
                               {"detail", answer->cause_detail()}});
    } else if (verdict.decision == v1::DECISION_UNSPECIFIED) {
      verdict.why = MakeError(Reason::OUTCOME_IN_DOUBT, "no decision came in time", {{"gtrid", answer->gtrid()}});
    }
    return verdict;
  }
  verdict.why = answer.status();
  const absl::optional<Reason> reason = ReasonOf(answer.status());
  if (reason == Reason::GLOBAL_COMMITTED) verdict.decision = v1::DECISION_COMMIT;
  if (reason == Reason::GLOBAL_ROLLED_BACK) verdict.decision = v1::DECISION_ROLLBACK;
  if (reason == Reason::GLOBAL_NOT_FOUND) {  // Presumed abort: without a record there is no decision to COMMIT.
    verdict.decision = v1::DECISION_ROLLBACK;
    verdict.why = MakeError(Reason::GLOBAL_ROLLED_BACK, answer.status().message(), MetadataOf(answer.status()));
  }
  return verdict;
}

absl::Status GlobalTransaction::Conclude(const Verdict& verdict, Scope scope) {
  if (verdict.decision == v1::DECISION_UNSPECIFIED) return InDoubt(verdict.why.message());
  const std::vector<Branch*> branches = Branches();
  const absl::Time give_up = absl::Now() + client_->options.decision_patience;
  const std::vector<v1::Completion> completions = TwoPhase::Finish(branches, verdict.decision, give_up);
  Report(completions);
  concluded_ = true;
  if (verdict.decision == v1::DECISION_COMMIT) {
    result_ = ConcludeCommit(completions, verdict.branches, scope);
  } else if (TwoPhase::AllFinished(branches)) {
    result_ = TwoPhase::AnyElsewhere(branches) ? AwaitApplied("ROLLBACK", v1::OUTCOME_ROLLED_BACK) : absl::OkStatus();
    if (result_.ok()) {
      outcome_ = v1::OUTCOME_ROLLED_BACK;
      result_ = verdict.why;
    }
  } else {
    result_ = NotFinished("ROLLBACK");
  }
  return result_;
}

absl::Status GlobalTransaction::ConcludeCommit(const std::vector<v1::Completion>& completions, int all_branches,
                                               Scope scope) {
  for (const v1::Completion& completion : completions) {
    if (completion.result() == v1::Completion::RESULT_COMMITTED) continue;
    return InDoubt(absl::StrCat("decided COMMIT, but branch '", completion.bqual(),
                                "' was found rolled back: somebody finished it by hand"));
  }
  if (!TwoPhase::AllFinished(Branches())) {
    return NotFinished("COMMIT");
  }
  const size_t own = branches_.size() + created_.size();
  const bool others = scope == Scope::kAllBranches && static_cast<size_t>(all_branches) != own;
  if (others || TwoPhase::AnyElsewhere(Branches())) {
    // Other processes have a part in it, whose completions prove the rest; or recovery has finished a part of ours.
    if (absl::Status status = AwaitApplied("COMMIT", v1::OUTCOME_COMMITTED); !status.ok()) return status;
  }
  outcome_ = v1::OUTCOME_COMMITTED;
  return absl::OkStatus();
}

absl::Status GlobalTransaction::AwaitApplied(absl::string_view decided, v1::Outcome outcome) {
  const absl::StatusOr<v1::GlobalStatus> applied =
      SendVotes({}, v1::WAIT_APPLIED, absl::Now() + client_->options.decision_patience);
  if (applied.ok() && applied->outcome() == outcome) return absl::OkStatus();
  if (!applied.ok()) {
    return InDoubt(absl::StrCat("decided ", decided,
                                "; not known whether every branch has ended so: ", applied.status().message()));
  }
  return InDoubt(absl::StrCat("decided ", decided,
                              ", but not proven on every branch: ", v1::Global::State_Name(applied->state())));
}

const Branch* GlobalTransaction::ResetBranch() const {
  const auto it = std::find_if(branches_.begin(), branches_.end(),
                               [](const auto& branch) { return branch->session()->was_reset(); });
  return it == branches_.end() ? nullptr : it->get();
}

absl::Status GlobalTransaction::NotFinished(absl::string_view decided) {
  const Branch* const reset = ResetBranch();
  if (reset == nullptr) {
    return InDoubt(
        absl::StrCat("decided ", decided, ", but the answer of a database was lost; the coordinator goes on with it"));
  }
  return InDoubt(absl::StrCat(
      "decided ", decided, ", but the connection of branch '", reset->xid().bqual, "' on '", reset->resource(),
      "' was reset while it held the branch, which a pool must never do; it is closed, and the coordinator goes on "
      "with the branch",
      reset->session()->ran_outside() ? ". Statements may have run after the reset, outside of the transaction, and "
                                        "then what they wrote is committed: look at the rows"
                                      : ""));
}

absl::Status GlobalTransaction::InDoubt(absl::string_view what) {
  outcome_ = v1::OUTCOME_IN_DOUBT;
  std::map<std::string, std::string> metadata = {{"gtrid", gtrid_}};
  if (ResetBranch() != nullptr) metadata["cause"] = std::string(InfoOf(Reason::SESSION_RESET).name);
  return MakeError(Reason::OUTCOME_IN_DOUBT,
                   absl::StrCat("the outcome of global transaction '", gtrid_, "' is in doubt: ", what,
                                "; ask with `assentctl globals get ", gtrid_, "`"),
                   metadata);
}

std::vector<v1::Completion> GlobalTransaction::RollBackUnvoted() {
  std::vector<v1::Completion> completions = TwoPhase::RollBackUnvoted(Branches());
  for (const v1::Branch& unused : created_) completions.push_back(RolledBack(unused.bqual()));
  return completions;
}

v1::Completion GlobalTransaction::RolledBack(const std::string& bqual) const {
  v1::Completion completion;
  completion.set_gtrid(gtrid_);
  completion.set_bqual(bqual);
  completion.set_result(v1::Completion::RESULT_ROLLED_BACK);
  return completion;
}

void GlobalTransaction::Report(const std::vector<v1::Completion>& completions) {
  client_->reporter.Report(completions, /*awaited=*/!sole_);
}

}  // namespace assent
