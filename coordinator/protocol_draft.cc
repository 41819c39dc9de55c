#include "coordinator/protocol_draft.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "base/utf8.h"

namespace assent {
namespace {

constexpr size_t kMaxDetailBytes = 1000;
constexpr size_t kMaxNoteBytes = 300;

using Branch = v1::Branch;
using Global = v1::Global;
using HistoryEntry = v1::HistoryEntry;

HistoryEntry::Event HistoryEventOf(EventKind kind) {
  switch (kind) {
    case EventKind::kCreate: return HistoryEntry::EVENT_CREATED;
    case EventKind::kAddBranches: return HistoryEntry::EVENT_BRANCHES_ADDED;
    case EventKind::kVote:
    case EventKind::kFinalize: return HistoryEntry::EVENT_VOTED;
    case EventKind::kComplete: return HistoryEntry::EVENT_COMPLETED;
    case EventKind::kEvidence: return HistoryEntry::EVENT_RECOVERED;
    case EventKind::kResolve: return HistoryEntry::EVENT_RESOLVED;
    case EventKind::kDeadline:
    case EventKind::kPresumeAbort:
    case EventKind::kOrphan: return HistoryEntry::EVENT_DECIDED;
  }
  __builtin_unreachable();
}

bool IsAlwaysKept(const HistoryEntry& entry) {
  return entry.event() == HistoryEntry::EVENT_CREATED || entry.event() == HistoryEntry::EVENT_DECIDED ||
         entry.event() == HistoryEntry::EVENT_RESOLVED;
}

}  // namespace

Global* Draft::edit() {
  if (!after_) {
    after_ = before_ != nullptr ? std::make_shared<Global>(*before_) : std::make_shared<Global>();
    after_->set_revision(after_->revision() + 1);
  }
  return after_.get();
}

Branch* Draft::EditBranch(absl::string_view bqual) {
  for (Branch& branch : *edit()->mutable_branches()) {
    if (branch.bqual() == bqual) {
      SetTime(event_.now, branch.mutable_update_time());
      return &branch;
    }
  }
  return nullptr;
}

void Draft::Note(absl::string_view words) {
  if (words.empty() || note_.size() > kMaxNoteBytes) return;
  absl::StrAppend(&note_, note_.empty() ? "" : "; ", words);
}

void Draft::Decide(v1::Decision decision, v1::DecisionCause cause, absl::string_view detail) {
  Global* global = edit();
  global->set_decision(decision);
  global->set_cause(cause);
  global->set_cause_detail(CutText(detail));
  global->set_decided_by(event_.actor);
  SetTime(event_.now, global->mutable_decide_time());
  decided_ = true;
  const bool commit = decision == v1::DECISION_COMMIT;
  Note(absl::StrCat(commit ? "COMMIT" : "ROLLBACK", detail.empty() ? "" : ": ", detail));
  if (commit && std::any_of(global->branches().begin(), global->branches().end(),
                            [](const Branch& branch) { return branch.state() == Branch::STATE_PREPARED; })) {
    Force();
  }
  Settle();
}

void Draft::Prove(Branch* branch, bool committed) {
  if (now().state() == Global::STATE_ONE_PHASE) {
    // What shows it may be gone from its database before an unforced record is safe.
    Force();
    Decide(committed ? v1::DECISION_COMMIT : v1::DECISION_ROLLBACK, v1::DECISION_CAUSE_ONE_PHASE, "");
  }
  const bool as_decided = committed == (now().decision() == v1::DECISION_COMMIT);
  if (as_decided) {
    branch->set_state(committed ? Branch::STATE_COMMITTED : Branch::STATE_ROLLED_BACK);
  } else {
    branch->set_state(committed ? Branch::STATE_HEURISTIC_COMMITTED : Branch::STATE_HEURISTIC_ROLLED_BACK);
  }
}

void Draft::Settle() {
  Global* global = edit();
  if (global->decision() == v1::DECISION_UNSPECIFIED) return;  // ONE_PHASE, and nothing is proven yet.
  const bool commit = global->decision() == v1::DECISION_COMMIT;
  bool open = false;
  bool mixed = false;
  bool contradicted = false;
  for (const Branch& branch : global->branches()) {
    if (IsOpen(branch)) open = true;
    const Branch::State against = commit ? Branch::STATE_HEURISTIC_ROLLED_BACK : Branch::STATE_HEURISTIC_COMMITTED;
    if (branch.state() == against) (branch.acknowledged() ? mixed : contradicted) = true;
  }
  if (contradicted || (mixed && open)) {
    global->set_state(Global::STATE_HEURISTIC);
  } else if (open) {
    global->set_state(commit ? Global::STATE_COMMITTING : Global::STATE_ROLLING_BACK);
  } else {
    global->set_state(mixed ? Global::STATE_HEURISTIC_CLOSED
                            : (commit ? Global::STATE_COMMITTED : Global::STATE_ROLLED_BACK));
    SetTime(event_.now, global->mutable_end_time());
  }
}

void Draft::AppendHistory() {
  if (after_->history_size() >= kMaxHistory) {
    auto* history = after_->mutable_history();
    const auto oldest =
        std::find_if(history->begin(), history->end(), [](const HistoryEntry& entry) { return !IsAlwaysKept(entry); });
    if (oldest != history->end()) history->erase(oldest);
    after_->set_history_omitted(after_->history_omitted() + 1);
  }
  HistoryEntry* entry = after_->add_history();
  entry->set_revision(after_->revision());
  SetTime(event_.now, entry->mutable_time());
  entry->set_actor(event_.actor);
  entry->set_event(decided_ ? HistoryEntry::EVENT_DECIDED : HistoryEventOf(event_.kind));
  entry->set_state(after_->state());
  entry->set_detail(ToUtf8(note_, kMaxNoteBytes));
}

Step Draft::Done() {
  Step step;
  if (after_) {
    AppendHistory();
    step.actions = ActionsOf(*after_);
  }
  step.next = std::move(after_);
  step.durability = durability_;
  step.must_be_first = before_ == nullptr && event_.must_be_first;
  return step;
}

const Branch* FindBranch(const Global& global, absl::string_view bqual) {
  for (const Branch& branch : global.branches()) {
    if (branch.bqual() == bqual) return &branch;
  }
  return nullptr;
}

std::string CutText(absl::string_view text) { return ToUtf8(text, kMaxDetailBytes); }

Step Refuse(absl::Status why) {
  Step step;
  step.answer = std::move(why);
  return step;
}

absl::Status GlobalNotFound(const Event& event) {
  if (!event.fence.ok()) return event.fence;
  return MakeError(
      Reason::GLOBAL_NOT_FOUND,
      absl::StrCat("there is no record of global transaction '", event.gtrid,
                   "': it was never created here, or it has ended long ago and its record was deleted. It "
                   "has not been decided COMMIT: what is still prepared of it must be rolled back. But one "
                   "that was to be committed in one phase is on record only afterwards: look at its rows "
                   "before you do it again"),
      {{"gtrid", event.gtrid}});
}

absl::Status BranchNotFound(const Global& global, absl::string_view bqual) {
  return MakeError(Reason::BRANCH_NOT_FOUND,
                   absl::StrCat("global transaction '", global.gtrid(), "' has no branch '", bqual,
                                "'; create it with CreateBranches first"),
                   {{"gtrid", global.gtrid()}, {"bqual", std::string(bqual)}});
}

absl::Status AlreadyDecided(const Global& global) {
  if (global.state() == Global::STATE_ONE_PHASE) {
    return MakeError(
        Reason::GLOBAL_NOT_DECIDED,
        absl::StrCat("global transaction '", global.gtrid(),
                     "' is in doubt: its only branch was to be committed in one phase, and what its database "
                     "did decides it; see `assentctl in-doubt`"),
        {{"gtrid", global.gtrid()}, {"state", std::string(Name(StateOf(&global)))}});
  }
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

}  // namespace assent
