// Draft: a step of the protocol in the making. Internal to protocol*.cc.
#ifndef ASSENT_COORDINATOR_PROTOCOL_DRAFT_H_
#define ASSENT_COORDINATOR_PROTOCOL_DRAFT_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "coordinator/protocol.h"

namespace assent {

// The entries of a record's history, at most.
constexpr int kMaxHistory = 200;
// The findings kept for a branch: the first one and the latest.
constexpr int kMaxEvidence = 8;

// The old record, and the new one from the first change on. Whoever changes something also notes it: the note becomes
// the entry in the record's history.
class Draft {
 public:
  // Both must outlive it. `before` may be null.
  Draft(const v1::Global* before, const Event& event) : before_(before), event_(event) {}

  const v1::Global& now() const { return after_ ? *after_ : *before_; }
  v1::Global* edit();
  // Null if there is no such branch.
  v1::Branch* EditBranch(absl::string_view bqual);
  bool changed() const { return after_ != nullptr; }
  // Adds words to the entry in the history.
  void Note(absl::string_view words);

  // The record must not be lost.
  void Force() { durability_ = Durability::kForced; }

  // Takes the decision, which the caller has found to be allowed.
  void Decide(v1::Decision decision, v1::DecisionCause cause, absl::string_view detail);
  // Sets the branch to what is proven: as decided, or HEURISTIC_*. In ONE_PHASE that is the decision.
  void Prove(v1::Branch* branch, bool committed);
  // After the decision: where the transaction stands follows from its branches alone. Ends it if every branch is proven
  // to have followed the decision, makes it HEURISTIC if one is proven not to have (the others still finish), and
  // closes that once an operator has acknowledged every contradiction.
  void Settle();

  Step Done();

 private:
  void AppendHistory();

  const v1::Global* const before_;
  const Event& event_;
  std::shared_ptr<v1::Global> after_;
  Durability durability_ = Durability::kLazy;
  std::string note_;
  bool decided_ = false;
};

const v1::Branch* FindBranch(const v1::Global& global, absl::string_view bqual);
// A text that people wrote, cut to what is kept of it; never half a character, for a record that is not UTF-8 could not
// be read again.
std::string CutText(absl::string_view text);
// A step that changes nothing and answers this.
Step Refuse(absl::Status why);

// A new record, ACTIVE, with the event's branches. It was begun at `begun`.
absl::Status BeginGlobal(const Event& event, absl::Time begun, Draft* draft);
absl::Status GlobalNotFound(const Event& event);
absl::Status BranchNotFound(const v1::Global& global, absl::string_view bqual);
// The refusal for whoever asks for the opposite of the decision that stands, or for one where only the database
// decides.
absl::Status AlreadyDecided(const v1::Global& global);

// What a branch's end does (protocol_endings.cc).
Step RecordWhole(const Event& event);
Step EarlyCompletion(const v1::Global& global, const Event& event);
Step RecordCompletion(const v1::Global& global, const Event& event);
Step RecordEvidence(const v1::Global& global, const Event& event);
Step Resolve(const v1::Global& global, const Event& event);
Step RefuseResolve(const v1::Global& global, const Event& event);

}  // namespace assent

#endif  // ASSENT_COORDINATOR_PROTOCOL_DRAFT_H_
