// How values of the API are called in front of people: one word for each, and the number for one that a newer
// coordinator knows.
#ifndef ASSENT_TOOLS_ASSENTCTL_WORDS_H_
#define ASSENT_TOOLS_ASSENTCTL_WORDS_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "assent/v1/coordinator_service.pb.h"
#include "assent/v1/resource_service.pb.h"

namespace assent {

std::string StateWord(v1::Global::State state);
std::string StateWord(v1::Branch::State state);
std::string StateWord(v1::ResourceStatus::State state);
std::string VoteWord(v1::VoteKind kind);                    // "none" if there is no vote.
std::string DecisionWord(v1::Decision decision);            // "none" if there is none.
std::string OutcomeWord(v1::BranchOutcome outcome);         // "nothing proven" if there is none.
std::string SightingWord(v1::Evidence::Sighting sighting);  // "absent", …; "?" if nobody looked.
std::string EventWord(v1::HistoryEntry::Event event);
std::string KindWord(v1::XidReport::Kind kind);
std::string SeverityWord(v1::Finding::Severity severity);
std::string EngineWord(v1::Resource::Engine engine);     // In small letters, as the command line takes it.
std::vector<std::string> EngineWords();                  // All that the command line takes.
v1::Resource::Engine EngineOf(const std::string& word);  // ENGINE_UNSPECIFIED for none of these.

// "2026-01-07T10:00:01.250Z (3s ago)"; empty for an unset time.
std::string At(const google::protobuf::Timestamp& time, absl::Time now);
// "17 on db1:3306"; empty if the session is not known.
std::string SessionText(const v1::Session& session);
// "1213 (40001) Deadlock found": what there is of it.
std::string ErrorText(int code, const std::string& sqlstate, const std::string& message);
// What was seen and done: "prepared present → absent, session absent, witness present; KILL 17; XA COMMIT". Only what
// was looked at.
std::string EvidenceText(const v1::Evidence& evidence);
// The latest evidence of a branch, or null if there is none.
const v1::Evidence* LatestEvidence(const v1::Branch& branch);

// It ended as decided, or took no part: nothing is left to do.
bool IsDone(const v1::Branch& branch);
// It ended against the decision.
bool IsHeuristic(const v1::Branch& branch);

}  // namespace assent

#endif  // ASSENT_TOOLS_ASSENTCTL_WORDS_H_
