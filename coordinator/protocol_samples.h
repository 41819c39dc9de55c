// Events and records for the tests of the protocol.
#ifndef ASSENT_COORDINATOR_PROTOCOL_SAMPLES_H_
#define ASSENT_COORDINATOR_PROTOCOL_SAMPLES_H_

#include <string>
#include <vector>

#include "coordinator/protocol.h"

namespace assent {

constexpr absl::Time kNow = absl::FromUnixSeconds(1700000000);  // When all of them happen.

constexpr auto kPrepared = v1::VOTE_KIND_PREPARED;
constexpr auto kReadOnly = v1::VOTE_KIND_READ_ONLY;
constexpr auto kFailed = v1::VOTE_KIND_FAILED;
constexpr auto kCommittedResult = v1::Completion::RESULT_COMMITTED;
constexpr auto kRolledBackResult = v1::Completion::RESULT_ROLLED_BACK;
constexpr auto kUnknownResult = v1::Completion::RESULT_UNKNOWN;

Event NewEvent(EventKind kind);
Event CreateWith(std::vector<std::string> bquals);
v1::Vote MakeVote(const std::string& bqual, v1::VoteKind kind, bool rolled_back = false);
Event VoteFor(const std::string& bqual, v1::VoteKind kind, bool rolled_back = false);
Event FinalizeTo(v1::Decision decision);
// A Finalize that brings its transaction, all of its branches prepared.
Event WholeTo(v1::Decision decision, const std::vector<std::string>& bquals);
// The report on a branch that was to be committed in one phase, with its transaction.
Event OnePhaseReport(const std::vector<std::string>& bquals, const std::string& bqual, v1::Completion::Result result);
Event CompleteAs(const std::string& bqual, v1::Completion::Result result);
Event EvidenceOf(const std::string& bqual, v1::BranchOutcome outcome, const std::string& detail = "");
// With the etag of `record`, if there is one.
Event ResolveAs(const GlobalPtr& record, const std::string& bqual, v1::Resolution resolution);
// Carries events through, each of which must be accepted.
GlobalPtr After(std::vector<Event> events);
// A record of two branches in each state.
GlobalPtr Sample(State state);
// At least one of each sort that the table tells apart.
std::vector<Event> SampleEvents(EventKind kind);

}  // namespace assent

#endif  // ASSENT_COORDINATOR_PROTOCOL_SAMPLES_H_
