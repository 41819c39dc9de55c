#include "coordinator/protocol_samples.h"

#include "base/errors.h"
#include "gtest/gtest.h"

namespace assent {

Event NewEvent(EventKind kind) {
  Event event;
  event.kind = kind;
  event.gtrid = "g";
  event.now = kNow;
  event.actor = "tester";
  return event;
}

Event CreateWith(std::vector<std::string> bquals) {
  Event event = NewEvent(EventKind::kCreate);
  event.timeout = absl::Seconds(60);
  for (const std::string& bqual : bquals) event.branches.push_back({bqual, "db-" + bqual, "assent.witness"});
  return event;
}

v1::Vote MakeVote(const std::string& bqual, v1::VoteKind kind, bool rolled_back) {
  v1::Vote vote;
  vote.set_bqual(bqual);
  vote.set_kind(kind);
  vote.set_rolled_back(rolled_back);
  if (kind == v1::VOTE_KIND_FAILED) {
    vote.mutable_failure()->set_error_code(1213);
    vote.mutable_failure()->set_sqlstate("40001");
    vote.mutable_failure()->set_message("Deadlock found");
  }
  return vote;
}

Event VoteFor(const std::string& bqual, v1::VoteKind kind, bool rolled_back) {
  Event event = NewEvent(EventKind::kVote);
  event.votes = {MakeVote(bqual, kind, rolled_back)};
  return event;
}

Event FinalizeTo(v1::Decision decision) {
  Event event = NewEvent(EventKind::kFinalize);
  event.decision = decision;
  return event;
}

Event WholeTo(v1::Decision decision, const std::vector<std::string>& bquals) {
  Event event = CreateWith(bquals);
  event.kind = EventKind::kFinalize;
  event.decision = decision;
  event.creates = true;
  event.age = absl::Seconds(1);
  for (const std::string& bqual : bquals) event.votes.push_back(MakeVote(bqual, v1::VOTE_KIND_PREPARED));
  return event;
}

Event OnePhaseReport(const std::vector<std::string>& bquals, const std::string& bqual, v1::Completion::Result result) {
  Event event = CreateWith(bquals);
  event.kind = EventKind::kComplete;
  event.creates = true;
  event.age = absl::Seconds(1);
  event.bqual = bqual;
  event.result = result;
  return event;
}

Event CompleteAs(const std::string& bqual, v1::Completion::Result result) {
  Event event = NewEvent(EventKind::kComplete);
  event.bqual = bqual;
  event.result = result;
  return event;
}

Event EvidenceOf(const std::string& bqual, v1::BranchOutcome outcome, const std::string& detail) {
  Event event = NewEvent(EventKind::kEvidence);
  event.actor = "";
  event.bqual = bqual;
  event.evidence.set_outcome(outcome);
  event.evidence.set_detail(detail);
  return event;
}

Event ResolveAs(const GlobalPtr& record, const std::string& bqual, v1::Resolution resolution) {
  Event event = NewEvent(EventKind::kResolve);
  event.bqual = bqual;
  event.resolution = resolution;
  event.reason = "seen with my own eyes";
  event.etag = record == nullptr ? "1" : EtagOf(*record);
  return event;
}

GlobalPtr After(std::vector<Event> events) {
  GlobalPtr record;
  for (const Event& event : events) {
    Step step = Apply(record.get(), event);
    EXPECT_TRUE(step.answer.ok()) << step.answer;
    if (step.next) record = step.next;
  }
  return record;
}

GlobalPtr Sample(State state) {
  const Event create = CreateWith({"a", "b"});
  const Event a = VoteFor("a", kPrepared), b = VoteFor("b", kPrepared);
  const Event commit = FinalizeTo(v1::DECISION_COMMIT), rollback = FinalizeTo(v1::DECISION_ROLLBACK);
  switch (state) {
    case State::kAbsent: return nullptr;
    case State::kActive: return After({create, a});
    case State::kOnePhase: return After({OnePhaseReport({"a", "b"}, "a", kUnknownResult)});
    case State::kCommitting: return After({create, a, b, commit});
    case State::kCommitted:
      return After({create, a, b, commit, CompleteAs("a", kCommittedResult), CompleteAs("b", kCommittedResult)});
    case State::kRollingBack: return After({create, a, rollback});
    case State::kRolledBack:
      return After({create, a, rollback, CompleteAs("a", kRolledBackResult), CompleteAs("b", kRolledBackResult)});
    case State::kHeuristic: return After({create, a, b, commit, CompleteAs("a", kRolledBackResult)});
    case State::kClosed: {
      const GlobalPtr mixed =
          After({create, a, b, commit, CompleteAs("a", kRolledBackResult), CompleteAs("b", kCommittedResult)});
      return Apply(mixed.get(), ResolveAs(mixed, "a", v1::RESOLUTION_ACKNOWLEDGED)).next;
    }
  }
  return nullptr;
}

std::vector<Event> SampleEvents(EventKind kind) {
  std::vector<Event> events;
  switch (kind) {
    case EventKind::kCreate: {
      events = {CreateWith({"a", "b"}), CreateWith({"a"}), CreateWith({})};
      Event other = CreateWith({"a", "b"});
      other.request_id = "r";
      events.push_back(other);
      return events;
    }
    case EventKind::kAddBranches: {
      Event event = NewEvent(kind);
      event.request_id = "add";
      event.branches = {{"", "db-x", ""}};
      events.push_back(event);
      event.request_id = "";
      event.branches = {{"a", "db-a", ""}};
      events.push_back(event);
      return events;
    }
    case EventKind::kVote:
      for (const std::string bqual : {"a", "b", "nobody"}) {
        for (const auto vote : {kPrepared, kReadOnly, kFailed}) events.push_back(VoteFor(bqual, vote));
      }
      events.push_back(VoteFor("b", kFailed, true));
      events.push_back(NewEvent(kind));
      return events;
    case EventKind::kFinalize:
      events = {FinalizeTo(v1::DECISION_COMMIT), FinalizeTo(v1::DECISION_ROLLBACK)};
      for (Event event : {events[0], events[1]}) {
        event.votes = {MakeVote("b", kPrepared)};
        events.push_back(event);
        event.votes = {MakeVote("b", kFailed, true)};
        events.push_back(event);
      }
      for (const auto decision : {v1::DECISION_COMMIT, v1::DECISION_ROLLBACK}) {
        for (const auto vote : {kPrepared, kReadOnly, kFailed}) {
          events.push_back(WholeTo(decision, {"a", "b"}));
          events.back().votes[1] = MakeVote("b", vote);
        }
        events.push_back(WholeTo(decision, {"a", "b"}));
        events.back().votes.pop_back();
        events.push_back(WholeTo(decision, {"a", "b"}));
        events.back().problem = MakeError(Reason::RESOURCE_QUARANTINED, "a sample");
        events.push_back(WholeTo(decision, {"a"}));
        events.push_back(WholeTo(decision, {}));
      }
      return events;
    case EventKind::kComplete:
      for (const std::string bqual : {"a", "b", "nobody"}) {
        for (const auto result : {kCommittedResult, kRolledBackResult}) events.push_back(CompleteAs(bqual, result));
        for (const auto result : {kCommittedResult, kUnknownResult}) {
          events.push_back(OnePhaseReport({"a", "b"}, bqual, result));
        }
      }
      return events;
    case EventKind::kEvidence:
      for (const std::string bqual : {"a", "b", "nobody"}) {
        for (int outcome = 0; outcome < v1::BranchOutcome_ARRAYSIZE; ++outcome) {
          events.push_back(EvidenceOf(bqual, static_cast<v1::BranchOutcome>(outcome)));
        }
      }
      return events;
    case EventKind::kResolve:
      for (const std::string bqual : {"a", "b", "nobody"}) {
        for (int etag = 1; etag < 8; ++etag) {
          for (const auto resolution :
               {v1::RESOLUTION_COMMITTED, v1::RESOLUTION_ROLLED_BACK, v1::RESOLUTION_ACKNOWLEDGED}) {
            events.push_back(ResolveAs(nullptr, bqual, resolution));
            events.back().etag = std::to_string(etag);
          }
        }
      }
      return events;
    case EventKind::kDeadline: {
      events = {NewEvent(kind), NewEvent(kind)};
      events[1].now = kNow + absl::Seconds(60);
      return events;
    }
    case EventKind::kPresumeAbort:
    case EventKind::kOrphan: return {NewEvent(kind)};
  }
  return events;
}

}  // namespace assent
