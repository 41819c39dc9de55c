#include "coordinator/protocol.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "base/utf8.h"

namespace assent {
namespace {

// Texts that people wrote are kept up to this length.
constexpr size_t kMaxDetailBytes = 1000;
// An error names at most this many branches; the rest is a count.
constexpr size_t kMaxNamedBranches = 20;

using Branch = v1::Branch;
using Global = v1::Global;

// Never half a character: a record that is not UTF-8 could not be read again.
std::string Cut(absl::string_view text) { return ToUtf8(text, kMaxDetailBytes); }

const Branch* FindBranch(const Global& global, absl::string_view bqual) {
  for (const Branch& branch : global.branches()) {
    if (branch.bqual() == bqual) return &branch;
  }
  return nullptr;
}

// A step in the making: the old record, and the new one from the first change on.
class Draft {
 public:
  Draft(const Global* before, const Event& event) : before_(before), event_(event) {}

  const Global& now() const { return after_ ? *after_ : *before_; }

  Global* edit() {
    if (!after_) {
      after_ = before_ != nullptr ? std::make_shared<Global>(*before_) : std::make_shared<Global>();
      after_->set_revision(after_->revision() + 1);
    }
    return after_.get();
  }

  Branch* EditBranch(absl::string_view bqual) {
    for (Branch& branch : *edit()->mutable_branches()) {
      if (branch.bqual() == bqual) {
        SetTime(event_.now, branch.mutable_update_time());
        return &branch;
      }
    }
    return nullptr;
  }

  bool changed() const { return after_ != nullptr; }

  // Takes the decision, which the caller has found to be allowed.
  void Decide(v1::Decision decision, v1::DecisionCause cause, absl::string_view detail) {
    Global* global = edit();
    global->set_decision(decision);
    global->set_cause(cause);
    global->set_cause_detail(Cut(detail));
    global->set_decided_by(event_.actor);
    SetTime(event_.now, global->mutable_decide_time());
    global->set_state(decision == v1::DECISION_COMMIT ? Global::STATE_COMMITTING : Global::STATE_ROLLING_BACK);
    if (decision == v1::DECISION_COMMIT &&
        std::any_of(global->branches().begin(), global->branches().end(),
                    [](const Branch& branch) { return branch.state() == Branch::STATE_PREPARED; })) {
      durability_ = Durability::kForced;
    }
    FinishIfProven();
  }

  // Ends the transaction if every branch is proven to have followed the decision.
  void FinishIfProven() {
    Global* global = edit();
    const bool committing = global->state() == Global::STATE_COMMITTING;
    if (!committing && global->state() != Global::STATE_ROLLING_BACK) return;
    const Branch::State goal = committing ? Branch::STATE_COMMITTED : Branch::STATE_ROLLED_BACK;
    for (const Branch& branch : global->branches()) {
      if (branch.state() != goal && branch.state() != Branch::STATE_READ_ONLY) return;
    }
    global->set_state(committing ? Global::STATE_COMMITTED : Global::STATE_ROLLED_BACK);
    SetTime(event_.now, global->mutable_end_time());
  }

  // Evidence contradicts the decision: only an operator closes this. The other branches still finish.
  void Contradict() { edit()->set_state(Global::STATE_HEURISTIC); }

  Step Done() {
    Step step;
    step.next = std::move(after_);
    step.durability = durability_;
    if (step.next) step.actions = ActionsOf(*step.next);
    return step;
  }

 private:
  const Global* const before_;
  const Event& event_;
  std::shared_ptr<Global> after_;
  Durability durability_ = Durability::kLazy;
};

Step Refuse(absl::Status why) {
  Step step;
  step.answer = std::move(why);
  return step;
}

absl::Status NotFound(const Event& event) {
  return MakeError(
      Reason::GLOBAL_NOT_FOUND,
      absl::StrCat("there is no record of global transaction '", event.gtrid,
                   "': if it ever existed it has not been decided COMMIT, so its branches must be rolled back"),
      {{"gtrid", event.gtrid}});
}

absl::Status BranchNotFound(const Global& global, absl::string_view bqual) {
  return MakeError(Reason::BRANCH_NOT_FOUND,
                   absl::StrCat("global transaction '", global.gtrid(), "' has no branch '", bqual,
                                "'; create it with CreateBranches first"),
                   {{"gtrid", global.gtrid()}, {"bqual", std::string(bqual)}});
}

// The refusal for whoever asks for the opposite of the decision that stands.
absl::Status AlreadyDecided(const Global& global) {
  std::map<std::string, std::string> metadata = {{"gtrid", global.gtrid()},
                                                 {"state", std::string(Name(StateOf(&global)))},
                                                 {"cause", v1::DecisionCause_Name(global.cause())},
                                                 {"detail", global.cause_detail()},
                                                 {"decided_by", global.decided_by()},
                                                 {"decide_time", FormatTime(global.decide_time())}};
  const std::string when = absl::StrCat(" at ", FormatTime(global.decide_time()),
                                        global.cause_detail().empty() ? "" : ": ", global.cause_detail());
  if (global.decision() == v1::DECISION_COMMIT) {
    return MakeError(Reason::GLOBAL_COMMITTED,
                     absl::StrCat("global transaction '", global.gtrid(), "' was decided COMMIT", when), metadata);
  }
  return MakeError(Reason::GLOBAL_ROLLED_BACK,
                   absl::StrCat("global transaction '", global.gtrid(), "' was decided ROLLBACK", when), metadata);
}

// --- Create and AddBranches -----------------------------------------------------------------------------------------

absl::Status BranchesDiffer(Reason reason, const Global& global, absl::string_view field) {
  return MakeError(
      reason,
      absl::StrCat("the request id was used before for global transaction '", global.gtrid(), "' with another ", field),
      {{"gtrid", global.gtrid()}, {"field", std::string(field)}});
}

// Whether the same call made these branches. An empty bqual in the call matches whatever was chosen then.
absl::Status CompareBranches(const Global& global, const std::vector<const Branch*>& made,
                             const std::vector<NewBranch>& asked) {
  if (made.size() != asked.size()) return BranchesDiffer(Reason::REQUEST_ID_REUSED, global, "number of branches");
  for (size_t i = 0; i < asked.size(); ++i) {
    if (made[i]->resource() != asked[i].resource)
      return BranchesDiffer(Reason::REQUEST_ID_REUSED, global, "branches.resource");
    if (!asked[i].bqual.empty() && made[i]->bqual() != asked[i].bqual) {
      return BranchesDiffer(Reason::REQUEST_ID_REUSED, global, "branches.bqual");
    }
  }
  return absl::OkStatus();
}

std::string FreeBqual(const Global& global) {
  for (int i = global.branches_size() + 1;; ++i) {
    std::string bqual = absl::StrCat("b", i);
    if (FindBranch(global, bqual) == nullptr) return bqual;
  }
}

absl::Status AppendBranches(const Event& event, absl::string_view request_id, Global* global) {
  const size_t total = global->branches_size() + event.branches.size();
  const int expected = global->expected_branches();
  if (total > kMaxBranches || (expected > 0 && total > static_cast<size_t>(expected))) {
    const int limit = expected > 0 ? expected : kMaxBranches;
    return MakeError(Reason::TOO_MANY_BRANCHES,
                     absl::StrCat("this would make ", total, " branches; ",
                                  expected > 0 ? "expected_branches is " : "the limit is ", limit),
                     {{"gtrid", global->gtrid()}, {"branches", absl::StrCat(total)}, {"limit", absl::StrCat(limit)}});
  }
  for (const NewBranch& asked : event.branches) {
    if (!asked.bqual.empty() && FindBranch(*global, asked.bqual) != nullptr) {
      return MakeError(Reason::BRANCH_EXISTS,
                       absl::StrCat("global transaction '", global->gtrid(), "' already has a branch '", asked.bqual,
                                    "' that another call made; leave bqual empty to get a free one"),
                       {{"gtrid", global->gtrid()}, {"bqual", asked.bqual}});
    }
    const std::string bqual = asked.bqual.empty() ? FreeBqual(*global) : asked.bqual;
    Branch* branch = global->add_branches();
    branch->set_bqual(bqual);
    branch->set_resource(asked.resource);
    branch->set_witness_table(asked.witness_table);
    branch->set_request_id(std::string(request_id));
    branch->set_state(Branch::STATE_ACTIVE);
    SetTime(event.now, branch->mutable_create_time());
    SetTime(event.now, branch->mutable_update_time());
  }
  return absl::OkStatus();
}

Step Create(const Event& event) {
  Draft draft(nullptr, event);
  Global* global = draft.edit();
  global->set_gtrid(event.gtrid);
  global->set_request_id(event.request_id);
  global->set_state(Global::STATE_ACTIVE);
  global->set_policy(event.policy);
  global->set_expected_branches(event.expected_branches);
  SetDuration(event.timeout, global->mutable_timeout());
  SetTime(event.now, global->mutable_create_time());
  SetTime(event.now + event.timeout, global->mutable_expire_time());
  if (absl::Status status = AppendBranches(event, "", global); !status.ok()) return Refuse(std::move(status));
  global->set_created_with(global->branches_size());
  return draft.Done();
}

Step RepeatCreate(const Global& global, const Event& event) {
  if (global.request_id() != event.request_id) {
    return Refuse(
        MakeError(Reason::GTRID_IN_USE,
                  absl::StrCat("global transaction '", global.gtrid(), "' exists already (", Name(StateOf(&global)),
                               ", created ", FormatTime(global.create_time()), "); a gtrid is never used twice"),
                  {{"gtrid", global.gtrid()}, {"state", std::string(Name(StateOf(&global)))}}));
  }
  // Without a request id the gtrid is the caller's own word for "the same call".
  const Reason reason = event.request_id.empty() ? Reason::GTRID_IN_USE : Reason::REQUEST_ID_REUSED;
  absl::string_view field;
  if (event.brings_gtrid && global.gtrid() != event.gtrid) field = "gtrid";
  if (GetDuration(global.timeout()) != event.timeout) field = "timeout";
  if (global.policy() != event.policy) field = "policy";
  if (global.expected_branches() != event.expected_branches) field = "expected_branches";
  if (!field.empty()) return Refuse(BranchesDiffer(reason, global, field));
  std::vector<const Branch*> made;
  for (int i = 0; i < global.created_with(); ++i) made.push_back(&global.branches(i));
  if (absl::Status status = CompareBranches(global, made, event.branches); !status.ok()) {
    return Refuse(BranchesDiffer(reason, global, MetadataOf(status)["field"]));
  }
  return Step();
}

// True in *repeated if all that the event asks for was made by the same call before.
absl::Status FindRepetition(const Global& global, const Event& event, bool* repeated) {
  *repeated = false;
  std::vector<const Branch*> made;
  if (!event.request_id.empty()) {
    for (const Branch& branch : global.branches()) {
      if (branch.request_id() == event.request_id) made.push_back(&branch);
    }
    if (made.empty()) return absl::OkStatus();
  } else {
    for (const NewBranch& asked : event.branches) {
      const Branch* branch = FindBranch(global, asked.bqual);
      if (branch == nullptr || !branch->request_id().empty()) return absl::OkStatus();
      if (branch->resource() != asked.resource) {
        return MakeError(
            Reason::BRANCH_EXISTS,
            absl::StrCat("branch '", asked.bqual, "' exists already on resource '", branch->resource(), "'"),
            {{"gtrid", global.gtrid()}, {"bqual", asked.bqual}, {"field", "resource"}});
      }
      made.push_back(branch);
    }
  }
  *repeated = true;
  return CompareBranches(global, made, event.branches);
}

Step AddBranches(const Global& global, const Event& event, bool decided) {
  bool repeated = false;
  if (absl::Status status = FindRepetition(global, event, &repeated); !status.ok()) return Refuse(std::move(status));
  if (repeated) return Step();
  if (decided) return Refuse(AlreadyDecided(global));
  Draft draft(&global, event);
  if (absl::Status status = AppendBranches(event, event.request_id, draft.edit()); !status.ok())
    return Refuse(std::move(status));
  return draft.Done();
}

// --- Votes and the decision -----------------------------------------------------------------------------------------

std::string DescribeFailure(const Branch& branch) {
  const v1::BranchFailure& failure = branch.failure();
  std::string text = absl::StrCat("branch '", branch.bqual(), "' on '", branch.resource(), "' voted FAILED");
  if (failure.error_code() != 0) absl::StrAppend(&text, ": ", failure.error_code(), " (", failure.sqlstate(), ")");
  if (!failure.message().empty()) absl::StrAppend(&text, failure.error_code() != 0 ? " " : ": ", failure.message());
  return text;
}

void RecordVote(const v1::Vote& vote, Draft* draft) {
  Branch* branch = draft->EditBranch(vote.bqual());
  branch->set_vote(vote.kind());
  switch (vote.kind()) {
    case v1::VOTE_KIND_PREPARED: branch->set_state(Branch::STATE_PREPARED); return;
    case v1::VOTE_KIND_READ_ONLY: branch->set_state(Branch::STATE_READ_ONLY); return;
    default: break;
  }
  *branch->mutable_failure() = vote.failure();
  branch->mutable_failure()->set_message(Cut(vote.failure().message()));
  branch->set_state(vote.rolled_back() ? Branch::STATE_ROLLED_BACK : Branch::STATE_FAILED);
}

enum class NewPrepared { kCount, kRefuse, kSkip };

// Records what is new in the votes. `new_prepared`: what a first PREPARED vote gets.
absl::Status RecordVotes(const std::vector<v1::Vote>& votes, NewPrepared new_prepared, Draft* draft) {
  for (const v1::Vote& vote : votes) {
    const Branch* branch = FindBranch(draft->now(), vote.bqual());
    if (branch == nullptr) return BranchNotFound(draft->now(), vote.bqual());
    if (branch->vote() == vote.kind()) {
      // The same vote again; the only thing it can add is the proof that the branch is gone.
      if (vote.rolled_back() && branch->state() == Branch::STATE_FAILED) {
        draft->EditBranch(vote.bqual())->set_state(Branch::STATE_ROLLED_BACK);
      }
      continue;
    }
    if (branch->vote() != v1::VOTE_KIND_UNSPECIFIED) {
      return MakeError(
          Reason::VOTE_CHANGED,
          absl::StrCat("branch '", vote.bqual(), "' has voted ", v1::VoteKind_Name(branch->vote()), " and cannot vote ",
                       v1::VoteKind_Name(vote.kind()), " now"),
          {{"gtrid", draft->now().gtrid()}, {"bqual", vote.bqual()}, {"vote", v1::VoteKind_Name(branch->vote())}});
    }
    if (vote.kind() == v1::VOTE_KIND_PREPARED && new_prepared == NewPrepared::kRefuse)
      return AlreadyDecided(draft->now());
    if (vote.kind() == v1::VOTE_KIND_PREPARED && new_prepared == NewPrepared::kSkip) continue;
    // A branch that was finished without a vote (rolled back before it could give one) stays finished.
    if (branch->state() != Branch::STATE_ACTIVE) continue;
    RecordVote(vote, draft);
  }
  return absl::OkStatus();
}

std::vector<std::string> NotPrepared(const Global& global) {
  std::vector<std::string> missing;
  for (const Branch& branch : global.branches()) {
    if (branch.state() != Branch::STATE_PREPARED && branch.state() != Branch::STATE_READ_ONLY)
      missing.push_back(branch.bqual());
  }
  return missing;
}

bool AllExpectedPrepared(const Global& global) {
  return (global.expected_branches() == 0 || global.branches_size() == global.expected_branches()) &&
         NotPrepared(global).empty();
}

const Branch* FirstFailed(const Global& global) {
  for (const Branch& branch : global.branches()) {
    if (branch.vote() == v1::VOTE_KIND_FAILED) return &branch;
  }
  return nullptr;
}

Step CountVotes(const Global& global, const Event& event) {
  Draft draft(&global, event);
  if (absl::Status status = RecordVotes(event.votes, NewPrepared::kCount, &draft); !status.ok())
    return Refuse(std::move(status));
  if (const Branch* failed = FirstFailed(draft.now())) {
    draft.Decide(v1::DECISION_ROLLBACK, v1::DECISION_CAUSE_BRANCH_FAILED, DescribeFailure(*failed));
  } else if (global.policy() == v1::DECISION_POLICY_WHEN_ALL_PREPARED && AllExpectedPrepared(draft.now())) {
    draft.Decide(v1::DECISION_COMMIT, v1::DECISION_CAUSE_ALL_PREPARED, "");
  }
  return draft.Done();
}

Step LateVotes(const Global& global, const Event& event, NewPrepared new_prepared) {
  Draft draft(&global, event);
  if (absl::Status status = RecordVotes(event.votes, new_prepared, &draft); !status.ok())
    return Refuse(std::move(status));
  if (draft.changed()) draft.FinishIfProven();  // Something was proven: it may have been the last thing.
  return draft.Done();
}

absl::Status NotAllPrepared(const Global& global) {
  std::vector<std::string> missing = NotPrepared(global);
  const size_t count = missing.size();
  if (missing.size() > kMaxNamedBranches) missing.resize(kMaxNamedBranches);
  std::string names = absl::StrJoin(missing, ",");
  std::string text = absl::StrCat("COMMIT needs every branch prepared; ");
  if (count > 0) {
    absl::StrAppend(&text, count, " of ", global.branches_size(), " are not: ", names,
                    count > missing.size() ? ",…" : "");
  } else {
    absl::StrAppend(&text, "only ", global.branches_size(), " of ", global.expected_branches(),
                    " expected branches were created");
  }
  return MakeError(Reason::BRANCHES_NOT_PREPARED, text,
                   {{"gtrid", global.gtrid()},
                    {"missing", names},
                    {"missing_count", absl::StrCat(count)},
                    {"branches", absl::StrCat(global.branches_size())},
                    {"expected_branches", absl::StrCat(global.expected_branches())}});
}

Step Decide(const Global& global, const Event& event) {
  Draft draft(&global, event);
  if (absl::Status status = RecordVotes(event.votes, NewPrepared::kCount, &draft); !status.ok())
    return Refuse(std::move(status));
  if (event.decision == v1::DECISION_COMMIT) {
    if (!AllExpectedPrepared(draft.now())) return Refuse(NotAllPrepared(draft.now()));
    draft.Decide(v1::DECISION_COMMIT, v1::DECISION_CAUSE_FINALIZE, event.reason);
    return draft.Done();
  }
  std::string detail = event.reason;
  const Branch* failed = FirstFailed(draft.now());
  if (detail.empty() && failed != nullptr) detail = DescribeFailure(*failed);
  draft.Decide(v1::DECISION_ROLLBACK, v1::DECISION_CAUSE_FINALIZE, detail);
  return draft.Done();
}

// --- Completions ----------------------------------------------------------------------------------------------------

Step EarlyCompletion(const Global& global, const Event& event) {
  if (FindBranch(global, event.bqual) == nullptr) return Refuse(BranchNotFound(global, event.bqual));
  if (event.result == v1::Completion::RESULT_COMMITTED) {
    return Refuse(
        MakeError(Reason::GLOBAL_NOT_DECIDED,
                  absl::StrCat("branch '", event.bqual, "' is reported committed, but global transaction '",
                               global.gtrid(), "' is not decided; a participant commits only after the decision"),
                  {{"gtrid", global.gtrid()}, {"bqual", event.bqual}}));
  }
  Draft draft(&global, event);
  draft.EditBranch(event.bqual)->set_state(Branch::STATE_ROLLED_BACK);
  draft.Decide(v1::DECISION_ROLLBACK, v1::DECISION_CAUSE_BRANCH_FAILED,
               absl::StrCat("branch '", event.bqual, "' was rolled back by its participant"));
  return draft.Done();
}

Step RecordCompletion(const Global& global, const Event& event) {
  const Branch* branch = FindBranch(global, event.bqual);
  if (branch == nullptr) return Refuse(BranchNotFound(global, event.bqual));
  const bool committed = event.result == v1::Completion::RESULT_COMMITTED;
  switch (branch->state()) {
    case Branch::STATE_READ_ONLY: return Step();  // Nothing was written: however it ended, it is the same.
    case Branch::STATE_COMMITTED:
    case Branch::STATE_ROLLED_BACK:
    case Branch::STATE_HEURISTIC_COMMITTED:
    case Branch::STATE_HEURISTIC_ROLLED_BACK: {
      const bool was_committed =
          branch->state() == Branch::STATE_COMMITTED || branch->state() == Branch::STATE_HEURISTIC_COMMITTED;
      if (was_committed == committed) return Step();
      return Refuse(MakeError(
          Reason::COMPLETION_CHANGED,
          absl::StrCat("branch '", event.bqual, "' is proven ", was_committed ? "committed" : "rolled back",
                       "; a report of the opposite is refused"),
          {{"gtrid", global.gtrid()}, {"bqual", event.bqual}, {"state", Branch::State_Name(branch->state())}}));
    }
    default: break;
  }
  Draft draft(&global, event);
  Branch* edited = draft.EditBranch(event.bqual);
  if (committed == (global.decision() == v1::DECISION_COMMIT)) {
    edited->set_state(committed ? Branch::STATE_COMMITTED : Branch::STATE_ROLLED_BACK);
    draft.FinishIfProven();
  } else {
    edited->set_state(committed ? Branch::STATE_HEURISTIC_COMMITTED : Branch::STATE_HEURISTIC_ROLLED_BACK);
    draft.Contradict();
  }
  return draft.Done();
}

Step RollBack(const Global& global, const Event& event, v1::DecisionCause cause, absl::string_view detail) {
  Draft draft(&global, event);
  draft.Decide(v1::DECISION_ROLLBACK, cause, detail);
  return draft.Done();
}

}  // namespace

Step Apply(const Global* current, const Event& event) {
  switch (RuleFor(StateOf(current), event.kind)) {
    case Rule::kCreate: return Create(event);
    case Rule::kNotFound: return Refuse(NotFound(event));
    case Rule::kRepeatCreate: return RepeatCreate(*current, event);
    case Rule::kAddBranches: return AddBranches(*current, event, /*decided=*/false);
    case Rule::kRepeatAddBranches: return AddBranches(*current, event, /*decided=*/true);
    case Rule::kCountVotes: return CountVotes(*current, event);
    case Rule::kLateVotes: return LateVotes(*current, event, NewPrepared::kRefuse);
    case Rule::kDecide: return Decide(*current, event);
    case Rule::kCompareDecision:
      if (event.decision != current->decision()) return Refuse(AlreadyDecided(*current));
      return LateVotes(*current, event, NewPrepared::kSkip);
    case Rule::kEarlyCompletion: return EarlyCompletion(*current, event);
    case Rule::kRecordCompletion: return RecordCompletion(*current, event);
    case Rule::kRollBackIfExpired:
      if (event.now < GetTime(current->expire_time())) return Step();
      return RollBack(
          *current, event, v1::DECISION_CAUSE_DEADLINE,
          absl::StrCat("undecided after its timeout of ", absl::FormatDuration(GetDuration(current->timeout()))));
    case Rule::kPresumeAbort:
      return RollBack(*current, event, v1::DECISION_CAUSE_PRESUMED_ABORT,
                      "undecided when the coordinator started again after its machine went down");
    case Rule::kIgnore: return Step();
  }
  __builtin_unreachable();
}

std::vector<Action> ActionsOf(const Global& global) {
  switch (StateOf(&global)) {
    case State::kAbsent: return {};
    case State::kActive: return {Action::kArmDeadline};
    case State::kCommitting:
    case State::kRollingBack: return {Action::kDisarmDeadline, Action::kAnswerDecided};
    case State::kHeuristic: return {Action::kDisarmDeadline, Action::kAnswerDecided, Action::kAnswerApplied};
    case State::kCommitted:
    case State::kRolledBack:
      return {Action::kDisarmDeadline, Action::kAnswerDecided, Action::kAnswerApplied, Action::kRetire};
  }
  __builtin_unreachable();
}

State StateOf(const Global* current) {
  if (current == nullptr) return State::kAbsent;
  switch (current->state()) {
    case Global::STATE_ACTIVE: return State::kActive;
    case Global::STATE_COMMITTING: return State::kCommitting;
    case Global::STATE_COMMITTED: return State::kCommitted;
    case Global::STATE_ROLLING_BACK: return State::kRollingBack;
    case Global::STATE_ROLLED_BACK: return State::kRolledBack;
    default: return State::kHeuristic;  // A state we do not know (a newer version's) is for an operator, too.
  }
}

v1::Outcome OutcomeOf(const Global& global) {
  switch (StateOf(&global)) {
    case State::kAbsent:
    case State::kActive: return v1::OUTCOME_UNSPECIFIED;
    case State::kCommitted: return v1::OUTCOME_COMMITTED;
    case State::kRolledBack: return v1::OUTCOME_ROLLED_BACK;
    case State::kCommitting:
    case State::kRollingBack:
    case State::kHeuristic: return v1::OUTCOME_IN_DOUBT;
  }
  __builtin_unreachable();
}

v1::GlobalStatus StatusOf(const Global& global) {
  v1::GlobalStatus status;
  status.set_gtrid(global.gtrid());
  status.set_state(global.state());
  status.set_decision(global.decision());
  status.set_outcome(OutcomeOf(global));
  status.set_cause(global.cause());
  status.set_cause_detail(global.cause_detail());
  status.set_branches(global.branches_size());
  return status;
}

bool IsSettled(const Global& global) { return IsFinished(global.state()) || global.state() == Global::STATE_HEURISTIC; }

std::vector<Branch> BranchesOf(const Global& global, const Event& event) {
  std::vector<Branch> branches;
  if (event.request_id.empty()) {
    for (const NewBranch& asked : event.branches) {
      if (const Branch* branch = FindBranch(global, asked.bqual)) branches.push_back(*branch);
    }
    return branches;
  }
  for (const Branch& branch : global.branches()) {
    if (branch.request_id() == event.request_id) branches.push_back(branch);
  }
  return branches;
}

}  // namespace assent
