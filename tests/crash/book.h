// The book of a crash test: what clients have sent to a coordinator and what they were told, against what it says
// later.
//
// Three kinds of wrong are looked for. Lost: something that was told (created, voted, decided, finished) is not there
// any more. Changed: a decision is another one than was told before. Invented: something is there that nobody sent,
// above all a COMMIT without every vote or without anybody's wish.
#ifndef ASSENT_TESTS_CRASH_BOOK_H_
#define ASSENT_TESTS_CRASH_BOOK_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "assent/v1/coordinator_service.pb.h"
#include "base/mutex.h"

namespace assent {

// Thread-safe. What is sent is booked before it is sent, what is told after it arrived.
class Book {
 public:
  // How it was when the look began; the look itself may come later.
  struct Expectation {
    bool exists = false;
    v1::Decision decision = v1::DECISION_UNSPECIFIED;
    bool finished = false;
    int64_t revision = 0;
    std::map<std::string, v1::VoteKind> votes;  // By bqual.
  };

  void SendCreate(const v1::CreateGlobalRequest& request);
  void SendVotes(const std::string& gtrid, const google::protobuf::RepeatedPtrField<v1::Vote>& votes);
  void SendDecision(const std::string& gtrid, v1::Decision decision);

  void ToldCreated(const std::string& gtrid);
  void ToldVotes(const std::string& gtrid, const google::protobuf::RepeatedPtrField<v1::Vote>& votes);
  // Any answer to a vote, a Finalize or a completion.
  void ToldStatus(const v1::GlobalStatus& status);
  // An error that no correct coordinator gives here is a violation. `before`: what Expect answered before the call.
  void ToldError(const std::string& gtrid, absl::string_view call, const absl::Status& error,
                 const Expectation& before);
  // Every branch's completion was accepted.
  void ToldAllCompleted(const std::string& gtrid);

  Expectation Expect(const std::string& gtrid);
  // Holds a record against it. Null: the coordinator knows no such transaction.
  void Check(const std::string& gtrid, const Expectation& expectation, const v1::Global* record);
  // Also that it has been decided by now, if its time was over long ago.
  void CheckDeadline(const v1::Global& record, absl::Time now);

  // The transactions that something was booked for since the last call, at most `limit` (the others stay for the next).
  std::vector<std::string> TakeTouched(size_t limit);
  std::vector<std::string> AllNames();
  void Violate(const std::string& text);
  std::vector<std::string> Violations();
  // How often what was told, for the summary.
  std::map<std::string, int64_t> Counts();

 private:
  struct Entry {
    v1::DecisionPolicy policy = v1::DECISION_POLICY_ON_FINALIZE;
    int expected_branches = 0;
    std::map<std::string, v1::VoteKind> sent_votes;
    bool commit_sent = false;
    bool rollback_sent = false;
    Expectation told;
  };

  Entry& Touch(const std::string& gtrid) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ViolateLocked(const std::string& text) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Told(Entry* entry, const std::string& gtrid, v1::Decision decision, absl::string_view by)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Why the record's decision is wrong, or empty: nobody asked for it, or not all had voted for it.
  static std::string Unjustified(const Entry& entry, const v1::Global& record);

  Mutex mutex_;
  std::unordered_map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> touched_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> violations_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int64_t> counts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace assent

#endif  // ASSENT_TESTS_CRASH_BOOK_H_
