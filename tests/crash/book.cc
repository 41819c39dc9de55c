#include "tests/crash/book.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "base/errors.h"
#include "base/timestamp.h"

namespace assent {
namespace {

constexpr size_t kMaxViolations = 50;
// How late a deadline may be noticed on a machine that is busy with being killed.
constexpr absl::Duration kDeadlineSlack = absl::Seconds(10);

std::string Name(v1::Decision decision) { return v1::Decision_Name(decision); }

}  // namespace

Book::Entry& Book::Touch(const std::string& gtrid) {
  touched_.insert(gtrid);
  return entries_[gtrid];
}

void Book::ViolateLocked(const std::string& text) {
  if (violations_.size() < kMaxViolations) violations_.push_back(text);
}

void Book::Violate(const std::string& text) {
  MutexLock lock(&mutex_);
  ViolateLocked(text);
}

void Book::SendCreate(const v1::CreateGlobalRequest& request) {
  MutexLock lock(&mutex_);
  Entry& entry = Touch(request.gtrid());
  entry.policy = request.policy();
  entry.expected_branches = request.expected_branches();
}

void Book::SendVotes(const std::string& gtrid, const google::protobuf::RepeatedPtrField<v1::Vote>& votes) {
  MutexLock lock(&mutex_);
  Entry& entry = Touch(gtrid);
  for (const v1::Vote& vote : votes) entry.sent_votes[vote.bqual()] = vote.kind();
}

void Book::SendDecision(const std::string& gtrid, v1::Decision decision) {
  MutexLock lock(&mutex_);
  Entry& entry = Touch(gtrid);
  (decision == v1::DECISION_COMMIT ? entry.commit_sent : entry.rollback_sent) = true;
}

void Book::ToldCreated(const std::string& gtrid) {
  MutexLock lock(&mutex_);
  Touch(gtrid).told.exists = true;
  ++counts_["created"];
}

void Book::ToldVotes(const std::string& gtrid, const google::protobuf::RepeatedPtrField<v1::Vote>& votes) {
  MutexLock lock(&mutex_);
  Entry& entry = Touch(gtrid);
  for (const v1::Vote& vote : votes) entry.told.votes[vote.bqual()] = vote.kind();
}

void Book::Told(Entry* entry, const std::string& gtrid, v1::Decision decision, absl::string_view by) {
  if (decision == v1::DECISION_UNSPECIFIED) {
    if (entry->told.decision != v1::DECISION_UNSPECIFIED && by == "record") {
      ViolateLocked(
          absl::StrCat("LOST: ", gtrid, " was decided ", Name(entry->told.decision), " and is undecided now"));
    }
    return;
  }
  if (entry->told.decision == v1::DECISION_UNSPECIFIED) {
    ++counts_[absl::StrCat("decided ", Name(decision).substr(9))];
    entry->told.decision = decision;
  } else if (entry->told.decision != decision) {
    ViolateLocked(absl::StrCat("CHANGED: ", gtrid, " was ", Name(entry->told.decision), " and is ", Name(decision),
                               " now, says ", by));
  }
}

void Book::ToldStatus(const v1::GlobalStatus& status) {
  MutexLock lock(&mutex_);
  Told(&Touch(status.gtrid()), status.gtrid(), status.decision(), "an answer");
}

void Book::ToldError(const std::string& gtrid, absl::string_view call, const absl::Status& error,
                     const Expectation& before) {
  MutexLock lock(&mutex_);
  Entry& entry = Touch(gtrid);
  ++counts_[absl::StrCat("refused ", InfoOf(*ReasonOf(error)).name)];
  switch (*ReasonOf(error)) {
    case Reason::GLOBAL_ROLLED_BACK: return Told(&entry, gtrid, v1::DECISION_ROLLBACK, call);
    case Reason::GLOBAL_COMMITTED: return Told(&entry, gtrid, v1::DECISION_COMMIT, call);
    case Reason::BRANCHES_NOT_PREPARED:
      if (before.votes.size() < static_cast<size_t>(entry.expected_branches)) return;
      return ViolateLocked(
          absl::StrCat("LOST: all votes of ", gtrid, " were counted, but ", call, ": ", ToText(error)));
    default: return ViolateLocked(absl::StrCat("UNEXPECTED: ", gtrid, " ", call, ": ", ToText(error)));
  }
}

void Book::ToldAllCompleted(const std::string& gtrid) {
  MutexLock lock(&mutex_);
  Touch(gtrid).told.finished = true;
  ++counts_["finished"];
}

Book::Expectation Book::Expect(const std::string& gtrid) {
  MutexLock lock(&mutex_);
  return entries_[gtrid].told;
}

std::string Book::Unjustified(const Entry& entry, const v1::Global& record) {
  if (record.decision() == v1::DECISION_COMMIT) {
    for (const v1::Branch& branch : record.branches()) {
      const auto it = entry.sent_votes.find(branch.bqual());
      if (it == entry.sent_votes.end()) return absl::StrCat("branch ", branch.bqual(), " never voted");
      if (it->second == v1::VOTE_KIND_FAILED) return absl::StrCat("branch ", branch.bqual(), " voted FAILED");
    }
    if (record.branches_size() < entry.expected_branches) return "branches are missing";
    const bool asked = entry.commit_sent || entry.policy == v1::DECISION_POLICY_WHEN_ALL_PREPARED;
    return asked ? "" : "nobody asked for COMMIT";
  }
  const bool failed = std::any_of(entry.sent_votes.begin(), entry.sent_votes.end(),
                                  [](const auto& vote) { return vote.second == v1::VOTE_KIND_FAILED; });
  switch (record.cause()) {
    case v1::DECISION_CAUSE_FINALIZE: return entry.rollback_sent ? "" : "nobody asked for ROLLBACK";
    case v1::DECISION_CAUSE_BRANCH_FAILED: return failed ? "" : "no branch voted FAILED";
    case v1::DECISION_CAUSE_DEADLINE:
      return GetTime(record.decide_time()) >= GetTime(record.expire_time()) ? "" : "its deadline had not passed";
    default: return absl::StrCat("its cause is ", v1::DecisionCause_Name(record.cause()));
  }
}

void Book::Check(const std::string& gtrid, const Expectation& expectation, const v1::Global* record) {
  MutexLock lock(&mutex_);
  const auto it = entries_.find(gtrid);
  if (it == entries_.end()) return ViolateLocked(absl::StrCat("INVENTED: nobody created ", gtrid));
  Entry& entry = it->second;
  if (record == nullptr) {
    if (expectation.exists) ViolateLocked(absl::StrCat("LOST: ", gtrid, " was created and is not known any more"));
    return;
  }
  // The expectation is older than the record, so the record may only have more.
  Told(&entry, gtrid, record->decision(), expectation.decision == v1::DECISION_UNSPECIFIED ? "a look" : "record");
  if (record->decision() != v1::DECISION_UNSPECIFIED) {
    const std::string why = Unjustified(entry, *record);
    if (!why.empty()) ViolateLocked(absl::StrCat("INVENTED: ", gtrid, " ", Name(record->decision()), ", but ", why));
  }
  if (record->revision() < expectation.revision) {
    ViolateLocked(absl::StrCat("LOST: ", gtrid, " was at revision ", expectation.revision, " and is at ",
                               record->revision(), " now"));
  }
  entry.told.revision = std::max(entry.told.revision, record->revision());
  const bool final_state =
      record->state() == v1::Global::STATE_COMMITTED || record->state() == v1::Global::STATE_ROLLED_BACK;
  if (expectation.finished && !final_state) {
    ViolateLocked(absl::StrCat("LOST: ", gtrid, " was finished and is ", v1::Global::State_Name(record->state())));
  }
  std::map<std::string, v1::VoteKind> votes;
  for (const v1::Branch& branch : record->branches()) votes[branch.bqual()] = branch.vote();
  for (const auto& vote : expectation.votes) {
    if (votes.count(vote.first) > 0 && votes[vote.first] == vote.second) continue;
    ViolateLocked(absl::StrCat("LOST: the vote of ", vote.first, " in ", gtrid));
  }
}

void Book::CheckDeadline(const v1::Global& record, absl::Time now) {
  if (record.decision() != v1::DECISION_UNSPECIFIED || GetTime(record.expire_time()) + kDeadlineSlack > now) return;
  Violate(absl::StrCat("LOST: the deadline of ", record.gtrid(), " passed and it is undecided"));
}

std::vector<std::string> Book::TakeTouched(size_t limit) {
  MutexLock lock(&mutex_);
  std::vector<std::string> names;
  while (!touched_.empty() && names.size() < limit) {
    names.push_back(*touched_.begin());
    touched_.erase(touched_.begin());
  }
  return names;
}

std::vector<std::string> Book::AllNames() {
  MutexLock lock(&mutex_);
  std::vector<std::string> names;
  for (const auto& entry : entries_) names.push_back(entry.first);
  return names;
}

std::vector<std::string> Book::Violations() {
  MutexLock lock(&mutex_);
  return violations_;
}

std::map<std::string, int64_t> Book::Counts() {
  MutexLock lock(&mutex_);
  return counts_;
}

}  // namespace assent
