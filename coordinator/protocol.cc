#include "coordinator/protocol.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "coordinator/protocol_draft.h"
#include "resource_manager/session_server.h"

namespace assent {
namespace {

// An error names at most this many branches; the rest is a count.
constexpr size_t kMaxNamedBranches = 20;

using Branch = v1::Branch;
using Global = v1::Global;

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

absl::Status AppendBranches(const Event& event, absl::string_view request_id, Draft* draft) {
  Global* global = draft->edit();
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
    branch->set_server(asked.server);
    branch->set_timeline(asked.timeline);
    if (asked.session) *branch->mutable_session() = *asked.session;
    branch->set_request_id(std::string(request_id));
    branch->set_state(Branch::STATE_ACTIVE);
    SetTime(event.now, branch->mutable_create_time());
    SetTime(event.now, branch->mutable_update_time());
    draft->Note(absl::StrCat(bqual, " on ", asked.resource));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status BeginGlobal(const Event& event, absl::Time begun, Draft* draft) {
  Global* global = draft->edit();
  global->set_gtrid(event.gtrid);
  global->set_request_id(event.request_id);
  global->set_state(Global::STATE_ACTIVE);
  global->set_policy(event.policy);
  global->set_expected_branches(event.expected_branches);
  SetDuration(event.timeout, global->mutable_timeout());
  SetTime(begun, global->mutable_create_time());
  SetTime(begun + event.timeout, global->mutable_expire_time());
  if (absl::Status status = AppendBranches(event, "", draft); !status.ok()) return status;
  // Whether a witness table is older than a branch is told by this. How old it was when the report was written is no
  // proof of how old it is: but its gtrid was handed out before. Of what nobody knows when it was created, no witness
  // table is known to be older.
  for (Branch& branch : *global->mutable_branches()) {
    if (event.creates && event.born == absl::InfinitePast()) {
      branch.clear_create_time();
    } else {
      SetTime(event.creates ? std::min(begun, event.born) : begun, branch.mutable_create_time());
    }
  }
  global->set_created_with(global->branches_size());
  return absl::OkStatus();
}

namespace {

Step Create(const Event& event) {
  Draft draft(nullptr, event);
  if (absl::Status status = BeginGlobal(event, event.now, &draft); !status.ok()) return Refuse(std::move(status));
  return draft.Done();
}

absl::Status GtridInUse(const Global& global) {
  return MakeError(Reason::GTRID_IN_USE,
                   absl::StrCat("global transaction '", global.gtrid(), "' exists already (", Name(StateOf(&global)),
                                ", created ", FormatTime(global.create_time()), "); a gtrid is never used twice"),
                   {{"gtrid", global.gtrid()}, {"state", std::string(Name(StateOf(&global)))}});
}

Step RepeatCreate(const Global& global, const Event& event) {
  if (global.request_id() != event.request_id) return Refuse(GtridInUse(global));
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
  if (absl::Status status = AppendBranches(event, event.request_id, &draft); !status.ok())
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

std::string ShortName(v1::VoteKind kind) {
  constexpr absl::string_view kPrefix = "VOTE_KIND_";
  return v1::VoteKind_Name(kind).substr(kPrefix.size());
}

void RecordVote(const v1::Vote& vote, Draft* draft) {
  Branch* branch = draft->EditBranch(vote.bqual());
  branch->set_vote(vote.kind());
  branch->set_witnessed(vote.witnessed());
  if (vote.has_session()) *branch->mutable_session() = vote.session();
  draft->Note(absl::StrCat(vote.bqual(), " ", ShortName(vote.kind())));
  switch (vote.kind()) {
    case v1::VOTE_KIND_PREPARED: branch->set_state(Branch::STATE_PREPARED); return;
    case v1::VOTE_KIND_READ_ONLY: branch->set_state(Branch::STATE_READ_ONLY); return;
    default: break;
  }
  *branch->mutable_failure() = vote.failure();
  branch->mutable_failure()->set_message(CutText(vote.failure().message()));
  branch->set_state(vote.rolled_back() ? Branch::STATE_ROLLED_BACK : Branch::STATE_FAILED);
}

enum class NewPrepared { kCount, kRefuse, kSkip };

// Records what is new in the votes. `new_prepared`: what a first PREPARED vote gets.
absl::Status RecordVotes(const std::vector<v1::Vote>& votes, NewPrepared new_prepared, Draft* draft) {
  for (const v1::Vote& vote : votes) {
    const Branch* branch = FindBranch(draft->now(), vote.bqual());
    if (branch == nullptr) return BranchNotFound(draft->now(), vote.bqual());
    if (vote.kind() == v1::VOTE_KIND_PREPARED) {
      absl::Status status = CheckServer(vote.session(), branch->resource(), branch->server(), branch->timeline());
      if (!status.ok()) return status;
    }
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
  if (StateOf(&global) == State::kOnePhase && !event.votes.empty()) return Refuse(AlreadyDecided(global));
  Draft draft(&global, event);
  if (absl::Status status = RecordVotes(event.votes, new_prepared, &draft); !status.ok())
    return Refuse(std::move(status));
  if (draft.changed()) draft.Settle();  // Something was proven: it may have been the last thing.
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
  if (event.creates) return Refuse(GtridInUse(global));
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

Step RollBack(const Global& global, const Event& event, v1::DecisionCause cause, absl::string_view detail) {
  Draft draft(&global, event);
  draft.Decide(v1::DECISION_ROLLBACK, cause, detail);
  return draft.Done();
}

std::string DescribeTimeout(absl::Duration timeout) {
  return absl::StrCat("undecided after its timeout of ", absl::FormatDuration(timeout));
}

// Everything in one step. A refusal of what it asks for would not be the last word: an earlier attempt of the same call
// may still be on its way to the store, through another instance. A decision is.
Step DecideWhole(const Event& event) {
  if (!event.creates || !event.fence.ok()) return Refuse(GlobalNotFound(event));
  Draft draft(nullptr, event);
  if (absl::Status status = BeginGlobal(event, event.now - event.age, &draft); !status.ok())
    return Refuse(std::move(status));
  absl::Status problem = RecordVotes(event.votes, NewPrepared::kCount, &draft);
  if (ReasonOf(problem) == Reason::BRANCH_NOT_FOUND) return Refuse(std::move(problem));
  problem.Update(event.problem);
  if (event.decision == v1::DECISION_ROLLBACK) {
    const Branch* failed = FirstFailed(draft.now());
    draft.Decide(v1::DECISION_ROLLBACK,
                 failed != nullptr ? v1::DECISION_CAUSE_BRANCH_FAILED : v1::DECISION_CAUSE_FINALIZE,
                 event.reason.empty() && failed != nullptr ? DescribeFailure(*failed) : event.reason);
    return draft.Done();
  }
  if (!AllExpectedPrepared(draft.now())) problem.Update(NotAllPrepared(draft.now()));
  if (!problem.ok()) {
    draft.Decide(v1::DECISION_ROLLBACK, v1::DECISION_CAUSE_REFUSED, problem.message());
  } else if (event.age >= event.timeout) {
    draft.Decide(v1::DECISION_ROLLBACK, v1::DECISION_CAUSE_DEADLINE, DescribeTimeout(event.timeout));
  } else {
    draft.Decide(v1::DECISION_COMMIT, v1::DECISION_CAUSE_FINALIZE, event.reason);
  }
  // If the record of a ROLLBACK were lost, the same call, repeated when the problem is gone, would decide COMMIT.
  if (draft.now().decision() == v1::DECISION_ROLLBACK) draft.Force();
  return draft.Done();
}

// Whether the record is what the call brings.
bool IsWhatItBrings(const Global& global, const Event& event) {
  if (global.branches_size() != static_cast<int>(event.branches.size())) return false;
  for (int i = 0; i < global.branches_size(); ++i) {
    const Branch& branch = global.branches(i);
    const NewBranch& brought = event.branches[static_cast<size_t>(i)];
    if (branch.bqual() != brought.bqual || branch.resource() != brought.resource) return false;
  }
  return true;
}

Step CompareDecision(const Global& global, const Event& event) {
  if (event.creates) {
    // What was buried has no branches, and no such call can have been answered.
    const bool buried = global.cause() == v1::DECISION_CAUSE_PRESUMED_ABORT && global.branches().empty();
    if (!buried && !IsWhatItBrings(global, event)) return Refuse(GtridInUse(global));
    // A COMMIT that could not be granted was answered with the ROLLBACK that was decided instead, and so is its
    // repetition.
    if (event.decision == v1::DECISION_COMMIT || global.decision() == v1::DECISION_ROLLBACK) return Step();
  }
  if (event.decision != global.decision()) return Refuse(AlreadyDecided(global));
  return LateVotes(global, event, NewPrepared::kSkip);
}

Step Bury(const Event& event) {
  Draft draft(nullptr, event);
  if (absl::Status status = BeginGlobal(event, event.now, &draft); !status.ok()) return Refuse(std::move(status));
  draft.Decide(v1::DECISION_ROLLBACK, v1::DECISION_CAUSE_PRESUMED_ABORT,
               "a branch of it was found prepared, and nobody had created the transaction");
  draft.Force();
  return draft.Done();
}

}  // namespace

Step Apply(const Global* current, const Event& event) {
  switch (RuleFor(StateOf(current), event.kind)) {
    case Rule::kCreate: return Create(event);
    case Rule::kNotFound: return Refuse(GlobalNotFound(event));
    case Rule::kRepeatCreate: return RepeatCreate(*current, event);
    case Rule::kAddBranches: return AddBranches(*current, event, /*decided=*/false);
    case Rule::kRepeatAddBranches: return AddBranches(*current, event, /*decided=*/true);
    case Rule::kCountVotes: return CountVotes(*current, event);
    case Rule::kLateVotes: return LateVotes(*current, event, NewPrepared::kRefuse);
    case Rule::kDecide: return Decide(*current, event);
    case Rule::kDecideWhole: return DecideWhole(event);
    case Rule::kCompareDecision: return CompareDecision(*current, event);
    case Rule::kRecordWhole: return RecordWhole(event);
    case Rule::kEarlyCompletion: return EarlyCompletion(*current, event);
    case Rule::kRecordCompletion: return RecordCompletion(*current, event);
    case Rule::kRecordEvidence: return RecordEvidence(*current, event);
    case Rule::kResolve: return Resolve(*current, event);
    case Rule::kRefuseResolve: return RefuseResolve(*current, event);
    case Rule::kRollBackIfExpired:
      if (event.now < GetTime(current->expire_time())) return Step();
      return RollBack(*current, event, v1::DECISION_CAUSE_DEADLINE, DescribeTimeout(GetDuration(current->timeout())));
    case Rule::kPresumeAbort:
      return RollBack(*current, event, v1::DECISION_CAUSE_PRESUMED_ABORT,
                      "undecided when the coordinator started again after its machine went down");
    case Rule::kBury: return Bury(event);
    case Rule::kIgnore: return Step();
  }
  __builtin_unreachable();
}

std::vector<Action> ActionsOf(const Global& global) {
  switch (StateOf(&global)) {
    case State::kAbsent: return {};
    case State::kActive: return {Action::kArmDeadline};
    case State::kOnePhase: return {};  // Whoever waits, waits for what its database has done.
    case State::kCommitting:
    case State::kRollingBack: return {Action::kDisarmDeadline, Action::kAnswerDecided};
    case State::kHeuristic: return {Action::kDisarmDeadline, Action::kAnswerDecided, Action::kAnswerApplied};
    case State::kCommitted:
    case State::kRolledBack:
    case State::kClosed:
      return {Action::kDisarmDeadline, Action::kAnswerDecided, Action::kAnswerApplied, Action::kRetire};
  }
  __builtin_unreachable();
}

State StateOf(const Global* current) {
  if (current == nullptr) return State::kAbsent;
  switch (current->state()) {
    case Global::STATE_ACTIVE: return State::kActive;
    case Global::STATE_ONE_PHASE: return State::kOnePhase;
    case Global::STATE_COMMITTING: return State::kCommitting;
    case Global::STATE_COMMITTED: return State::kCommitted;
    case Global::STATE_ROLLING_BACK: return State::kRollingBack;
    case Global::STATE_ROLLED_BACK: return State::kRolledBack;
    case Global::STATE_HEURISTIC_CLOSED: return State::kClosed;
    default: return State::kHeuristic;  // A state we do not know (a newer version's) is for an operator, too.
  }
}

bool IsUndecided(const Global& global) { return global.state() == Global::STATE_ACTIVE; }

v1::Outcome OutcomeOf(const Global& global) {
  switch (StateOf(&global)) {
    case State::kAbsent:
    case State::kActive: return v1::OUTCOME_UNSPECIFIED;
    case State::kCommitted: return v1::OUTCOME_COMMITTED;
    case State::kRolledBack: return v1::OUTCOME_ROLLED_BACK;
    case State::kOnePhase:
    case State::kCommitting:
    case State::kRollingBack:
    case State::kHeuristic:
    case State::kClosed: return v1::OUTCOME_IN_DOUBT;  // Neither all nor nothing: not for us to call either.
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

std::string EtagOf(const Global& global) { return absl::StrCat(global.revision()); }

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
