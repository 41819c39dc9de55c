// How branches end: what participants report, what recovery finds, and what operators say.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "coordinator/protocol_draft.h"
#include "google/protobuf/util/message_differencer.h"

namespace assent {
namespace {

using Branch = v1::Branch;
using Global = v1::Global;

// A short form such as HEURISTIC_ROLLED_BACK.
std::string ShortName(v1::BranchOutcome outcome) {
  if (outcome == v1::BRANCH_OUTCOME_UNSPECIFIED) return "nothing proven";
  constexpr absl::string_view kPrefix = "BRANCH_OUTCOME_";
  return v1::BranchOutcome_Name(outcome).substr(kPrefix.size());
}

// The same finding at another time is nothing new.
bool SameFinding(v1::Evidence a, v1::Evidence b) {
  a.clear_time();
  b.clear_time();
  return google::protobuf::util::MessageDifferencer::Equals(a, b);
}

void AddEvidence(const Event& event, v1::Evidence evidence, Branch* branch) {
  SetTime(event.now, evidence.mutable_time());
  evidence.set_detail(CutText(evidence.detail()));
  if (branch->evidence_size() >= kMaxEvidence) {
    // Not what the branch may rest on: an operator's word is forgotten for more words only.
    auto* const all = branch->mutable_evidence();
    const auto old =
        std::find_if(all->begin() + 1, all->end(), [](const v1::Evidence& e) { return e.resolved_by().empty(); });
    all->erase(old == all->end() ? all->begin() + 1 : old);
  }
  *branch->add_evidence() = std::move(evidence);
}

Step RefuseResolution(const Global& global, const Event& event, absl::string_view why) {
  return Refuse(MakeError(Reason::RESOLUTION_REFUSED,
                          absl::StrCat("branch '", event.bqual, "' of '", global.gtrid(), "' cannot be resolved as ",
                                       v1::Resolution_Name(event.resolution).substr(11), ": ", why),
                          {{"gtrid", global.gtrid()}, {"bqual", event.bqual}}));
}

// Whether this very call was carried out before.
bool IsRepetition(const Branch& branch, const Event& event) {
  if (branch.evidence().empty()) return false;
  const v1::Evidence& last = *branch.evidence().rbegin();
  return last.resolved_by() == event.actor && last.detail() == CutText(event.reason);
}

bool IsStillThere(const v1::Evidence& evidence) {
  return evidence.outcome() == v1::BRANCH_OUTCOME_STILL_PREPARED ||
         evidence.outcome() == v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE;
}

// Why the branch cannot be resolved so; empty if it can.
std::string Objection(const Global& global, const Branch& branch, const Event& event) {
  const bool acknowledge = event.resolution == v1::RESOLUTION_ACKNOWLEDGED;
  const bool committed = event.resolution == v1::RESOLUTION_COMMITTED;
  const bool as_decided = committed == (global.decision() == v1::DECISION_COMMIT);  // (ONE_PHASE: all are open.)
  const std::string found = ShortName(event.evidence.outcome());
  if (!IsHeuristic(branch)) {
    if (!IsOpen(branch)) {
      const bool reopens = RestsOnWord(branch) && IsStillThere(event.evidence) && !acknowledge && as_decided;
      return reopens ? "" : "it is finished as decided";
    }
    if (acknowledge) return "no evidence contradicts the decision";
    if (IsStillThere(event.evidence)) {
      return absl::StrCat("its database still has it (", found, "); recovery finishes it, see `assentctl in-doubt`");
    }
    const absl::optional<bool> proven = ProvenCommitted(event.evidence.outcome());
    if (!proven || *proven == committed) return "";
    return absl::StrCat("its database proves that it is ", found, "; recovery records that itself");
  }
  if (!acknowledge && !as_decided) return "that it ended against the decision is known; acknowledge it instead";
  if (acknowledge && IsStillThere(event.evidence)) {
    return absl::StrCat("its database still has it (", found, "), so it has not ended at all: resolve it as ",
                        global.decision() == v1::DECISION_COMMIT ? "COMMITTED" : "ROLLED_BACK",
                        ", and recovery finishes it, or end it there by hand first");
  }
  if (branch.acknowledged() && !IsStillThere(event.evidence)) return "it is acknowledged";
  return "";
}

}  // namespace

bool IsHeuristic(const Branch& branch) {
  return branch.state() == Branch::STATE_HEURISTIC_COMMITTED || branch.state() == Branch::STATE_HEURISTIC_ROLLED_BACK;
}

Step RecordWhole(const Event& event) {
  if (!event.creates || !event.fence.ok()) return Refuse(GlobalNotFound(event));
  Draft draft(nullptr, event);
  if (absl::Status status = BeginGlobal(event, event.now - event.age, &draft); !status.ok())
    return Refuse(std::move(status));
  if (FindBranch(draft.now(), event.bqual) == nullptr) return Refuse(BranchNotFound(draft.now(), event.bqual));
  for (const NewBranch& each : event.branches) {
    Branch* branch = draft.EditBranch(each.bqual);
    if (each.bqual == event.bqual) {
      branch->set_one_phase(true);
      branch->set_witnessed(true);
    } else {
      branch->set_vote(v1::VOTE_KIND_READ_ONLY);
      branch->set_state(Branch::STATE_READ_ONLY);
    }
  }
  draft.edit()->set_state(Global::STATE_ONE_PHASE);
  draft.Note(absl::StrCat(event.bqual, " asked to commit in one phase"));
  draft.Force();
  if (event.result == v1::Completion::RESULT_COMMITTED) {
    draft.Prove(draft.EditBranch(event.bqual), /*committed=*/true);
    draft.Settle();
  } else {
    draft.Note("the answer was lost");
  }
  return draft.Done();
}

Step EarlyCompletion(const Global& global, const Event& event) {
  if (FindBranch(global, event.bqual) == nullptr) return Refuse(BranchNotFound(global, event.bqual));
  if (event.result != v1::Completion::RESULT_ROLLED_BACK) {
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
  if (event.result == v1::Completion::RESULT_UNKNOWN) return Step();  // Recovery knows, or will.
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
  draft.Prove(draft.EditBranch(event.bqual), committed);
  draft.Note(absl::StrCat(event.bqual, committed ? " COMMITTED" : " ROLLED_BACK"));
  draft.Settle();
  return draft.Done();
}

Step RecordEvidence(const Global& global, const Event& event) {
  const Branch* branch = FindBranch(global, event.bqual);
  if (branch == nullptr) return Refuse(BranchNotFound(global, event.bqual));
  if (event.of_open_branch && !IsOpen(*branch)) return Step();
  const absl::optional<bool> committed = ProvenCommitted(event.evidence.outcome());
  const bool ends = IsOpen(*branch) && committed.has_value();
  // What is done to a branch that has ended is an event of its own, however often it comes.
  const bool is_new = branch->evidence().empty() || !SameFinding(*branch->evidence().rbegin(), event.evidence) ||
                      (!IsOpen(*branch) && !event.evidence.done().empty());
  if (!ends && !is_new) return Step();
  Draft draft(&global, event);
  Branch* edited = draft.EditBranch(event.bqual);
  if (is_new) AddEvidence(event, event.evidence, edited);
  if (event.evidence.prepared_after() == v1::Evidence::SIGHTING_PRESENT &&
      event.evidence.witness() == v1::Evidence::SIGHTING_ABSENT) {
    edited->set_witness_missing(true);
  }
  if (ends) draft.Prove(edited, *committed);
  draft.Note(absl::StrCat(event.bqual, " on ", branch->resource(), ": ", ShortName(event.evidence.outcome()),
                          event.evidence.done().empty() ? "" : " after ", event.evidence.done(),
                          event.evidence.detail().empty() ? "" : ": ", event.evidence.detail()));
  draft.Settle();
  return draft.Done();
}

Step Resolve(const Global& global, const Event& event) {
  const Branch* branch = FindBranch(global, event.bqual);
  if (branch == nullptr) return Refuse(BranchNotFound(global, event.bqual));
  if (event.etag != EtagOf(global)) {
    if (IsRepetition(*branch, event)) return Step();
    return Refuse(MakeError(Reason::ETAG_MISMATCH,
                            absl::StrCat("global transaction '", global.gtrid(), "' has moved on (etag ",
                                         EtagOf(global), ", not ", event.etag, "): look at it again before you decide"),
                            {{"gtrid", global.gtrid()}, {"etag", EtagOf(global)}}));
  }
  if (const std::string why = Objection(global, *branch, event); !why.empty()) {
    return RefuseResolution(global, event, why);
  }
  Draft draft(&global, event);
  Branch* edited = draft.EditBranch(event.bqual);
  v1::Evidence evidence = event.evidence;
  evidence.set_resolved_by(event.actor);
  evidence.set_detail(event.reason);
  AddEvidence(event, std::move(evidence), edited);
  if (event.resolution == v1::RESOLUTION_ACKNOWLEDGED) {
    edited->set_acknowledged(true);
  } else if (IsStillThere(event.evidence)) {
    // It stood as ended, and has not ended: recovery finishes it.
    edited->set_state(edited->vote() == v1::VOTE_KIND_PREPARED ? Branch::STATE_PREPARED : Branch::STATE_ACTIVE);
    edited->set_acknowledged(false);
    draft.Note("reopened");
  } else {
    draft.Prove(edited, event.resolution == v1::RESOLUTION_COMMITTED);
  }
  draft.Note(absl::StrCat(event.bqual, " ", v1::Resolution_Name(event.resolution).substr(11), ": ", event.reason));
  draft.Settle();
  return draft.Done();
}

Step RefuseResolve(const Global& global, const Event& event) {
  const Branch* branch = FindBranch(global, event.bqual);
  if (branch == nullptr) return Refuse(BranchNotFound(global, event.bqual));
  if (IsRepetition(*branch, event)) return Step();
  return RefuseResolution(
      global, event,
      IsUndecided(global) ? "the transaction is undecided; finalize it instead" : "the transaction is finished");
}

}  // namespace assent
