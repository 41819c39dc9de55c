#include "coordinator/protocol.h"

#include <fstream>
#include <random>
#include <sstream>

#include "base/errors.h"
#include "base/timestamp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using ::testing::HasSubstr;
using Branch = v1::Branch;
using Global = v1::Global;

const absl::Time kNow = absl::FromUnixSeconds(1700000000);

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

v1::Vote MakeVote(const std::string& bqual, v1::VoteKind kind, bool rolled_back = false) {
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

Event VoteFor(const std::string& bqual, v1::VoteKind kind, bool rolled_back = false) {
  Event event = NewEvent(EventKind::kVote);
  event.votes = {MakeVote(bqual, kind, rolled_back)};
  return event;
}

Event FinalizeTo(v1::Decision decision) {
  Event event = NewEvent(EventKind::kFinalize);
  event.decision = decision;
  return event;
}

// A Finalize that brings its transaction, all of its branches prepared.
Event WholeTo(v1::Decision decision, const std::vector<std::string>& bquals) {
  Event event = CreateWith(bquals);
  event.kind = EventKind::kFinalize;
  event.decision = decision;
  event.creates = true;
  event.age = absl::Seconds(1);
  for (const std::string& bqual : bquals) event.votes.push_back(MakeVote(bqual, v1::VOTE_KIND_PREPARED));
  return event;
}

// The report on a branch that was to be committed in one phase, with its transaction.
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

Event EvidenceOf(const std::string& bqual, v1::BranchOutcome outcome, const std::string& detail = "") {
  Event event = NewEvent(EventKind::kEvidence);
  event.actor = "";
  event.bqual = bqual;
  event.evidence.set_outcome(outcome);
  event.evidence.set_detail(detail);
  return event;
}

// With the etag of `record`, if there is one.
Event ResolveAs(const GlobalPtr& record, const std::string& bqual, v1::Resolution resolution) {
  Event event = NewEvent(EventKind::kResolve);
  event.bqual = bqual;
  event.resolution = resolution;
  event.reason = "seen with my own eyes";
  event.etag = record == nullptr ? "1" : EtagOf(*record);
  return event;
}

constexpr auto kPrepared = v1::VOTE_KIND_PREPARED;
constexpr auto kReadOnly = v1::VOTE_KIND_READ_ONLY;
constexpr auto kFailed = v1::VOTE_KIND_FAILED;
constexpr auto kCommittedResult = v1::Completion::RESULT_COMMITTED;
constexpr auto kRolledBackResult = v1::Completion::RESULT_ROLLED_BACK;
constexpr auto kUnknownResult = v1::Completion::RESULT_UNKNOWN;

// Carries events through, each of which must be accepted.
GlobalPtr After(std::vector<Event> events) {
  GlobalPtr record;
  for (const Event& event : events) {
    Step step = Apply(record.get(), event);
    EXPECT_TRUE(step.answer.ok()) << step.answer;
    if (step.next) record = step.next;
  }
  return record;
}

// A record of two branches in each state.
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

// What holds for every step, whatever it is.
void CheckLaws(const Global* before, const Event& event, const Step& step) {
  SCOPED_TRACE(std::string(Name(StateOf(before))) + " x " + std::string(Name(event.kind)) + " -> " +
               step.answer.ToString() + (step.next ? step.next->ShortDebugString() : ""));
  if (!step.answer.ok()) {
    EXPECT_EQ(step.next, nullptr) << "a refusal changes nothing";
    EXPECT_TRUE(ReasonOf(step.answer).has_value()) << "every refusal has a reason";
    return;
  }
  if (step.next == nullptr) return;
  const Global& after = *step.next;
  EXPECT_EQ(after.revision(), (before ? before->revision() : 0) + 1);
  EXPECT_EQ(step.actions, ActionsOf(after));
  const v1::Decision decided = before ? before->decision() : v1::DECISION_UNSPECIFIED;
  if (decided != v1::DECISION_UNSPECIFIED) {
    EXPECT_EQ(after.decision(), decided) << "a decision never changes";
    EXPECT_EQ(step.durability, Durability::kLazy) << "one forced write per commit";
  } else if (after.cause() == v1::DECISION_CAUSE_ONE_PHASE || (!before && after.state() == Global::STATE_ONE_PHASE)) {
    EXPECT_EQ(step.durability, Durability::kForced) << "what shows it at its database is deleted afterwards";
  } else if (after.decision() == v1::DECISION_COMMIT) {
    bool any_prepared = false;
    for (const Branch& branch : after.branches()) {
      EXPECT_TRUE(branch.vote() == kPrepared || branch.vote() == kReadOnly) << "COMMIT only when all have voted for it";
      any_prepared |= branch.vote() == kPrepared;
    }
    EXPECT_EQ(step.durability == Durability::kForced, any_prepared);
    EXPECT_FALSE(after.expected_branches() > 0 && after.branches_size() != after.expected_branches());
  } else if (event.kind == EventKind::kOrphan) {
    EXPECT_EQ(step.durability, Durability::kForced) << "what keeps a late COMMIT out must not be lost";
  } else {
    EXPECT_EQ(step.durability, Durability::kLazy) << "presumed abort: nothing but COMMIT is forced";
  }
  if (after.state() == Global::STATE_COMMITTED) {
    for (const Branch& branch : after.branches()) {
      EXPECT_TRUE(branch.state() == Branch::STATE_COMMITTED || branch.state() == Branch::STATE_READ_ONLY);
    }
  }
  if (after.state() == Global::STATE_ROLLED_BACK) {
    for (const Branch& branch : after.branches()) {
      EXPECT_TRUE(branch.state() == Branch::STATE_ROLLED_BACK || branch.state() == Branch::STATE_READ_ONLY);
    }
  }
  EXPECT_EQ(after.has_decide_time(), after.decision() != v1::DECISION_UNSPECIFIED);
  EXPECT_EQ(after.has_end_time(), IsFinished(after.state()));
  if (before != nullptr && IsFinished(before->state())) {
    EXPECT_EQ(after.state(), before->state()) << "what is finished stays finished";
  }
  // The same event again: the same answer, and nothing changes any more.
  const Step again = Apply(&after, event);
  EXPECT_TRUE(again.answer.ok()) << again.answer;
  EXPECT_EQ(again.next, nullptr) << "every event is idempotent";
}

TEST(ProtocolTest, SamplesAreWhatTheySay) {
  for (const State state : kAllStates) EXPECT_EQ(StateOf(Sample(state).get()), state) << Name(state);
}

TEST(ProtocolTest, EveryStateWithEveryEventKeepsTheLaws) {
  for (const State state : kAllStates) {
    for (const EventKind kind : kAllEvents) {
      const GlobalPtr record = Sample(state);
      for (const Event& event : SampleEvents(kind)) {
        const Step step = Apply(record.get(), event);
        CheckLaws(record.get(), event, step);
        if (RuleFor(state, kind) == Rule::kNotFound) {
          EXPECT_EQ(ReasonOf(step.answer), Reason::GLOBAL_NOT_FOUND);
        }
        if (RuleFor(state, kind) == Rule::kIgnore) {
          EXPECT_TRUE(step.answer.ok());
          EXPECT_EQ(step.next, nullptr);
        }
      }
    }
  }
}

// What exactly each pair does to the state and answers, for the first sample event of each kind that says most about
// it.
TEST(ProtocolTest, DecidedStatesAnswerTheDecision) {
  for (const State state : {State::kCommitting, State::kCommitted, State::kHeuristic}) {
    const GlobalPtr record = Sample(state);
    EXPECT_EQ(ReasonOf(Apply(record.get(), FinalizeTo(v1::DECISION_ROLLBACK)).answer), Reason::GLOBAL_COMMITTED)
        << Name(state);
    EXPECT_TRUE(Apply(record.get(), FinalizeTo(v1::DECISION_COMMIT)).answer.ok()) << Name(state);
    EXPECT_TRUE(Apply(record.get(), VoteFor("b", kPrepared)).answer.ok()) << Name(state);
    EXPECT_EQ(ReasonOf(Apply(record.get(), SampleEvents(EventKind::kAddBranches)[0]).answer), Reason::GLOBAL_COMMITTED);
  }
  for (const State state : {State::kRollingBack, State::kRolledBack}) {
    const GlobalPtr record = Sample(state);
    EXPECT_EQ(ReasonOf(Apply(record.get(), FinalizeTo(v1::DECISION_COMMIT)).answer), Reason::GLOBAL_ROLLED_BACK)
        << Name(state);
    EXPECT_TRUE(Apply(record.get(), FinalizeTo(v1::DECISION_ROLLBACK)).answer.ok()) << Name(state);
    EXPECT_TRUE(Apply(record.get(), VoteFor("a", kPrepared)).answer.ok()) << "a repeated vote learns the decision";
    EXPECT_EQ(ReasonOf(Apply(record.get(), SampleEvents(EventKind::kAddBranches)[0]).answer),
              Reason::GLOBAL_ROLLED_BACK);
  }
}

// A random walk over events: the laws hold on every path, and a decision that was taken stands to the end.
TEST(ProtocolTest, RandomWalksKeepTheLaws) {
  std::vector<Event> all;
  for (const EventKind kind : kAllEvents) {
    for (Event& event : SampleEvents(kind)) all.push_back(std::move(event));
  }
  for (const v1::DecisionPolicy policy : {v1::DECISION_POLICY_ON_FINALIZE, v1::DECISION_POLICY_WHEN_ALL_PREPARED}) {
    Event create = CreateWith({"a", "b"});
    create.policy = policy;
    create.expected_branches = policy == v1::DECISION_POLICY_WHEN_ALL_PREPARED ? 2 : 0;
    for (int seed = 0; seed < 3000; ++seed) {
      SCOPED_TRACE(seed);
      std::mt19937 random(seed);
      GlobalPtr record = Apply(nullptr, create).next;
      for (int i = 0; i < 12; ++i) {
        const Event& event = all[random() % all.size()];
        const Step step = Apply(record.get(), event);
        CheckLaws(record.get(), event, step);
        if (HasFailure()) return;
        if (step.next) record = step.next;
      }
    }
  }
}

TEST(ProtocolTest, CommitNamesTheMissingBranches) {
  const GlobalPtr record = After({CreateWith({"a", "b", "c"}), VoteFor("b", kPrepared)});
  const Step step = Apply(record.get(), FinalizeTo(v1::DECISION_COMMIT));
  EXPECT_EQ(ReasonOf(step.answer), Reason::BRANCHES_NOT_PREPARED);
  EXPECT_EQ(MetadataOf(step.answer)["missing"], "a,c");
  EXPECT_EQ(MetadataOf(step.answer)["branches"], "3");
}

TEST(ProtocolTest, CommitWaitsForTheExpectedNumberOfBranches) {
  Event create = CreateWith({"a"});
  create.expected_branches = 2;
  const GlobalPtr record = After({create, VoteFor("a", kPrepared)});
  EXPECT_EQ(ReasonOf(Apply(record.get(), FinalizeTo(v1::DECISION_COMMIT)).answer), Reason::BRANCHES_NOT_PREPARED);
  Event two_more = NewEvent(EventKind::kAddBranches);
  two_more.branches = {{"b", "db", ""}, {"c", "db", ""}};
  EXPECT_EQ(ReasonOf(Apply(record.get(), two_more).answer), Reason::TOO_MANY_BRANCHES);
}

TEST(ProtocolTest, LastVoteDecidesByPolicy) {
  Event create = CreateWith({"a", "b"});
  create.policy = v1::DECISION_POLICY_WHEN_ALL_PREPARED;
  create.expected_branches = 2;
  GlobalPtr record = After({create, VoteFor("a", kPrepared)});
  EXPECT_EQ(record->state(), Global::STATE_ACTIVE);
  const Step last = Apply(record.get(), VoteFor("b", kReadOnly));
  EXPECT_EQ(last.next->state(), Global::STATE_COMMITTING);
  EXPECT_EQ(last.next->cause(), v1::DECISION_CAUSE_ALL_PREPARED);
  EXPECT_EQ(last.durability, Durability::kForced);
}

TEST(ProtocolTest, ReadOnlyTransactionEndsAtOnceAndUnforced) {
  const GlobalPtr record = After({CreateWith({"a", "b"}), VoteFor("a", kReadOnly), VoteFor("b", kReadOnly)});
  const Step step = Apply(record.get(), FinalizeTo(v1::DECISION_COMMIT));
  EXPECT_EQ(step.next->state(), Global::STATE_COMMITTED);
  EXPECT_EQ(step.durability, Durability::kLazy);
}

TEST(ProtocolTest, FailedVoteRollsBackAtOnceAndSaysWhy) {
  const GlobalPtr record = After({CreateWith({"a", "b"}), VoteFor("a", kPrepared), VoteFor("b", kFailed, true)});
  EXPECT_EQ(record->state(), Global::STATE_ROLLING_BACK);
  EXPECT_EQ(record->cause(), v1::DECISION_CAUSE_BRANCH_FAILED);
  EXPECT_THAT(record->cause_detail(), HasSubstr("branch 'b' on 'db-b' voted FAILED: 1213 (40001) Deadlock found"));
  EXPECT_EQ(record->branches(1).state(), Branch::STATE_ROLLED_BACK);
  EXPECT_EQ(After({CreateWith({"b"}), VoteFor("b", kFailed, true)})->state(), Global::STATE_ROLLED_BACK);
}

// A record that is not UTF-8 can be stored and never be read again.
TEST(ProtocolTest, LongFailuresAreCutBetweenCharacters) {
  Event vote = VoteFor("b", kFailed);
  vote.votes[0].mutable_failure()->set_message(std::string(999, 'x') + "ü");
  const GlobalPtr record = After({CreateWith({"b"}), vote});
  EXPECT_EQ(record->branches(0).failure().message(), std::string(999, 'x'));
  Global parsed;
  EXPECT_TRUE(parsed.ParseFromString(record->SerializeAsString()));
  vote.votes[0].mutable_failure()->set_message("");
  for (int i = 0; i < 600; ++i) vote.votes[0].mutable_failure()->mutable_message()->append("ü");
  EXPECT_TRUE(parsed.ParseFromString(After({CreateWith({"b"}), vote})->SerializeAsString()));
}

TEST(ProtocolTest, VoteAfterRollbackIsAbortedWithTheReason) {
  Event late = NewEvent(EventKind::kDeadline);
  late.now = kNow + absl::Seconds(61);
  const GlobalPtr record = After({CreateWith({"a", "b"}), late});
  const Step step = Apply(record.get(), VoteFor("a", kPrepared));
  EXPECT_EQ(ReasonOf(step.answer), Reason::GLOBAL_ROLLED_BACK);
  EXPECT_TRUE(absl::IsAborted(step.answer));
  EXPECT_THAT(std::string(step.answer.message()), HasSubstr("undecided after its timeout of 1m"));
}

TEST(ProtocolTest, ContradictionIsHeuristicAndTheOthersStillFinish) {
  GlobalPtr record =
      After({CreateWith({"a", "b"}), VoteFor("a", kPrepared), VoteFor("b", kPrepared), FinalizeTo(v1::DECISION_COMMIT),
             CompleteAs("b", kRolledBackResult), CompleteAs("a", kCommittedResult)});
  EXPECT_EQ(record->state(), Global::STATE_HEURISTIC);
  EXPECT_EQ(record->branches(0).state(), Branch::STATE_COMMITTED);
  EXPECT_EQ(record->branches(1).state(), Branch::STATE_HEURISTIC_ROLLED_BACK);
  EXPECT_EQ(OutcomeOf(*record), v1::OUTCOME_IN_DOUBT);
  EXPECT_EQ(ReasonOf(Apply(record.get(), CompleteAs("a", kRolledBackResult)).answer), Reason::COMPLETION_CHANGED);
}

TEST(ProtocolTest, CompletionBeforeTheDecision) {
  const GlobalPtr record = After({CreateWith({"a", "b"}), VoteFor("a", kPrepared)});
  EXPECT_EQ(ReasonOf(Apply(record.get(), CompleteAs("a", kCommittedResult)).answer), Reason::GLOBAL_NOT_DECIDED);
  const Step gone = Apply(record.get(), CompleteAs("b", kRolledBackResult));
  EXPECT_EQ(gone.next->state(), Global::STATE_ROLLING_BACK);
}

TEST(ProtocolTest, RepeatedCreateNamesTheFieldThatDiffers) {
  Event create = CreateWith({"a", "b"});
  create.request_id = "r1";
  const GlobalPtr record = After({create});
  EXPECT_TRUE(Apply(record.get(), create).answer.ok());
  auto differs = [&](Event event) {
    const absl::Status answer = Apply(record.get(), event).answer;
    EXPECT_EQ(ReasonOf(answer), Reason::REQUEST_ID_REUSED) << answer;
    return MetadataOf(answer)["field"];
  };
  Event other = create;
  other.timeout = absl::Seconds(5);
  EXPECT_EQ(differs(other), "timeout");
  other = create;
  other.policy = v1::DECISION_POLICY_WHEN_ALL_PREPARED;
  EXPECT_EQ(differs(other), "policy");
  other = create;
  other.expected_branches = 7;
  EXPECT_EQ(differs(other), "expected_branches");
  other = create;
  other.branches.pop_back();
  EXPECT_EQ(differs(other), "number of branches");
  other = create;
  other.branches[1].resource = "elsewhere";
  EXPECT_EQ(differs(other), "branches.resource");
  other = create;
  other.branches[1].bqual = "z";
  EXPECT_EQ(differs(other), "branches.bqual");
  other = create;
  other.request_id = "r2";
  EXPECT_EQ(ReasonOf(Apply(record.get(), other).answer), Reason::GTRID_IN_USE);
}

TEST(ProtocolTest, ChosenBqualsAreFreeAndRepeatable) {
  const GlobalPtr record = After({CreateWith({"b2"})});
  Event add = NewEvent(EventKind::kAddBranches);
  add.request_id = "r";
  add.branches = {{"", "x", ""}, {"", "y", ""}};
  const Step step = Apply(record.get(), add);
  const std::vector<Branch> made = BranchesOf(*step.next, add);
  ASSERT_EQ(made.size(), 2u);
  EXPECT_EQ(made[0].bqual(), "b3") << "b2 is taken";
  EXPECT_EQ(made[1].bqual(), "b4");
  add.branches[1].resource = "z";
  EXPECT_EQ(ReasonOf(Apply(step.next.get(), add).answer), Reason::REQUEST_ID_REUSED);
  Event other = NewEvent(EventKind::kAddBranches);
  other.request_id = "other worker";
  other.branches = {{"b3", "x", ""}};
  EXPECT_EQ(ReasonOf(Apply(step.next.get(), other).answer), Reason::BRANCH_EXISTS)
      << "two workers never share a branch";
}

TEST(ProtocolTest, AllVotesOfACallCountOrNone) {
  const GlobalPtr record = After({CreateWith({"a", "b"})});
  Event votes = NewEvent(EventKind::kVote);
  votes.votes = {MakeVote("a", kPrepared), MakeVote("nobody", kPrepared)};
  const Step step = Apply(record.get(), votes);
  EXPECT_EQ(ReasonOf(step.answer), Reason::BRANCH_NOT_FOUND);
  EXPECT_EQ(step.next, nullptr);
}

TEST(ProtocolTest, VoteCannotChange) {
  const GlobalPtr record = After({CreateWith({"a", "b"}), VoteFor("a", kPrepared)});
  EXPECT_EQ(ReasonOf(Apply(record.get(), VoteFor("a", kFailed)).answer), Reason::VOTE_CHANGED);
}

TEST(ProtocolTest, ThousandBranchesAreTheLimit) {
  Event create = CreateWith({});
  for (int i = 0; i < kMaxBranches; ++i) create.branches.push_back({"", "db", ""});
  const Step step = Apply(nullptr, create);
  ASSERT_TRUE(step.answer.ok());
  Event add = NewEvent(EventKind::kAddBranches);
  add.request_id = "one more";
  add.branches = {{"", "db", ""}};
  EXPECT_EQ(ReasonOf(Apply(step.next.get(), add).answer), Reason::TOO_MANY_BRANCHES);
}

// --- History, evidence and operators --------------------------------------------------------------------------------

TEST(ProtocolTest, EveryTransitionIsInTheHistory) {
  const GlobalPtr record = Sample(State::kCommitted);
  std::vector<std::string> told;
  for (const v1::HistoryEntry& entry : record->history()) {
    told.push_back(v1::HistoryEntry::Event_Name(entry.event()) + " " + entry.detail() + " by " + entry.actor() + " #" +
                   std::to_string(entry.revision()));
  }
  EXPECT_THAT(told, testing::ElementsAre(
                        "EVENT_CREATED a on db-a; b on db-b by tester #1", "EVENT_VOTED a PREPARED by tester #2",
                        "EVENT_VOTED b PREPARED by tester #3", "EVENT_DECIDED COMMIT by tester #4",
                        "EVENT_COMPLETED a COMMITTED by tester #5", "EVENT_COMPLETED b COMMITTED by tester #6"));
}

TEST(ProtocolTest, LongHistoriesKeepWhatMatters) {
  Event create = CreateWith({});
  for (int i = 0; i < 500; ++i) create.branches.push_back({"b" + std::to_string(i), "db", ""});
  std::vector<Event> events = {create};
  for (int i = 0; i < 500; ++i) events.push_back(VoteFor("b" + std::to_string(i), kPrepared));
  events.push_back(FinalizeTo(v1::DECISION_COMMIT));
  for (int i = 0; i < 500; ++i) events.push_back(CompleteAs("b" + std::to_string(i), kCommittedResult));
  const GlobalPtr record = After(events);
  EXPECT_EQ(record->history_size(), 200);
  EXPECT_EQ(record->history_omitted(), 1002 - 200);
  EXPECT_EQ(record->history(0).event(), v1::HistoryEntry::EVENT_CREATED);
  EXPECT_EQ(record->history(1).event(), v1::HistoryEntry::EVENT_DECIDED);
  EXPECT_EQ(record->history(199).detail(), "b499 COMMITTED");
}

TEST(ProtocolTest, ProvenEvidenceEndsBranches) {
  GlobalPtr record = After({CreateWith({"a", "b"}), VoteFor("a", kPrepared), VoteFor("b", kPrepared),
                            FinalizeTo(v1::DECISION_COMMIT), EvidenceOf("a", v1::BRANCH_OUTCOME_STILL_PREPARED),
                            EvidenceOf("a", v1::BRANCH_OUTCOME_COMMITTED, "witness")});
  EXPECT_EQ(record->state(), Global::STATE_COMMITTING);
  EXPECT_EQ(record->branches(0).state(), Branch::STATE_COMMITTED);
  EXPECT_EQ(record->branches(0).evidence_size(), 2);
  EXPECT_EQ(record->branches(0).evidence(1).detail(), "witness");
  record = Apply(record.get(), EvidenceOf("b", v1::BRANCH_OUTCOME_COMMITTED)).next;
  EXPECT_EQ(record->state(), Global::STATE_COMMITTED);
  EXPECT_TRUE(record->has_end_time());
}

TEST(ProtocolTest, TheSameEvidenceAgainIsNoTransition) {
  const GlobalPtr record = After({CreateWith({"a"}), VoteFor("a", kPrepared), FinalizeTo(v1::DECISION_COMMIT),
                                  EvidenceOf("a", v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE)});
  Event again = EvidenceOf("a", v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
  again.now += absl::Seconds(30);
  EXPECT_EQ(Apply(record.get(), again).next, nullptr);
}

TEST(ProtocolTest, WhatIsDoneToABranchThatHasEndedIsAlwaysRecorded) {
  Event event = EvidenceOf("a", v1::BRANCH_OUTCOME_ROLLED_BACK);
  event.evidence.set_done("XA ROLLBACK");
  GlobalPtr record = After({CreateWith({"a"}), VoteFor("a", kPrepared), FinalizeTo(v1::DECISION_ROLLBACK), event});
  ASSERT_EQ(record->state(), Global::STATE_ROLLED_BACK);
  const int before = record->history_size();
  record = Apply(record.get(), event).next;  // Its server forgot it in a crash, and it was rolled back again.
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(record->state(), Global::STATE_ROLLED_BACK);
  EXPECT_EQ(record->history_size(), before + 1);
  event.evidence.clear_done();
  EXPECT_NE(Apply(record.get(), event).next, nullptr) << "another finding";
}

// Who was overtaken finds neither the branch nor its witness, which was removed when the transaction had ended.
TEST(ProtocolTest, ALookThatBeganBeforeTheEndSaysNothingAfterIt) {
  const GlobalPtr record = After({CreateWith({"a", "b"}), VoteFor("a", kPrepared), VoteFor("b", kPrepared),
                                  FinalizeTo(v1::DECISION_COMMIT), EvidenceOf("a", v1::BRANCH_OUTCOME_COMMITTED)});
  for (int outcome = 0; outcome < v1::BranchOutcome_ARRAYSIZE; ++outcome) {
    Event late = EvidenceOf("a", static_cast<v1::BranchOutcome>(outcome), "no witness");
    late.of_open_branch = true;
    const Step step = Apply(record.get(), late);
    EXPECT_EQ(step.next, nullptr) << outcome;
    EXPECT_TRUE(step.answer.ok()) << step.answer;
    late.bqual = "b";
    EXPECT_NE(Apply(record.get(), late).next, nullptr) << outcome;
  }
}

TEST(ProtocolTest, EvidenceIsBounded) {
  GlobalPtr record = After({CreateWith({"a"}), VoteFor("a", kPrepared), FinalizeTo(v1::DECISION_COMMIT)});
  for (int i = 0; i < 100; ++i) {
    record = Apply(record.get(), EvidenceOf("a", v1::BRANCH_OUTCOME_STILL_PREPARED, std::to_string(i))).next;
  }
  ASSERT_EQ(record->branches(0).evidence_size(), 8);
  EXPECT_EQ(record->branches(0).evidence(0).detail(), "0");
  EXPECT_EQ(record->branches(0).evidence(7).detail(), "99");
}

// The record is kept for its sake (EndedMicros).
TEST(ProtocolTest, AnOperatorsWordIsNotForgottenForFindings) {
  GlobalPtr record = After({CreateWith({"a"}), VoteFor("a", kPrepared), FinalizeTo(v1::DECISION_COMMIT),
                            EvidenceOf("a", v1::BRANCH_OUTCOME_UNSPECIFIED, "it does not answer")});
  record = Apply(record.get(), ResolveAs(record, "a", v1::RESOLUTION_COMMITTED)).next;
  ASSERT_EQ(record->state(), Global::STATE_COMMITTED);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(RestsOnWord(record->branches(0))) << i;
    record = Apply(record.get(), EvidenceOf("a", v1::BRANCH_OUTCOME_STILL_PREPARED, std::to_string(i))).next;
  }
  EXPECT_EQ(record->branches(0).evidence_size(), 8);
}

TEST(ProtocolTest, EvidenceAgainstTheDecisionIsHeuristicAndStaysSo) {
  GlobalPtr record =
      After({CreateWith({"a", "b"}), VoteFor("a", kPrepared), VoteFor("b", kPrepared), FinalizeTo(v1::DECISION_COMMIT),
             EvidenceOf("a", v1::BRANCH_OUTCOME_HEURISTIC_ROLLED_BACK), EvidenceOf("b", v1::BRANCH_OUTCOME_COMMITTED)});
  EXPECT_EQ(record->state(), Global::STATE_HEURISTIC);
  EXPECT_EQ(record->branches(0).state(), Branch::STATE_HEURISTIC_ROLLED_BACK);
  EXPECT_EQ(record->branches(1).state(), Branch::STATE_COMMITTED) << "the others still finish";
  record = Apply(record.get(), EvidenceOf("a", v1::BRANCH_OUTCOME_COMMITTED)).next;
  EXPECT_EQ(record->state(), Global::STATE_HEURISTIC) << "only an operator closes it";
  EXPECT_EQ(OutcomeOf(*record), v1::OUTCOME_IN_DOUBT);
}

TEST(ProtocolTest, NeverPreparedIsAsGoodAsRolledBack) {
  const GlobalPtr record =
      After({CreateWith({"a"}), FinalizeTo(v1::DECISION_ROLLBACK), EvidenceOf("a", v1::BRANCH_OUTCOME_NEVER_PREPARED)});
  EXPECT_EQ(record->state(), Global::STATE_ROLLED_BACK);
}

TEST(ProtocolTest, OperatorCorrectsByHandOrAcknowledges) {
  const GlobalPtr heuristic = After({CreateWith({"a"}), VoteFor("a", kPrepared), FinalizeTo(v1::DECISION_COMMIT),
                                     EvidenceOf("a", v1::BRANCH_OUTCOME_HEURISTIC_ROLLED_BACK)});
  const Step corrected = Apply(heuristic.get(), ResolveAs(heuristic, "a", v1::RESOLUTION_COMMITTED));
  ASSERT_TRUE(corrected.answer.ok()) << corrected.answer;
  EXPECT_EQ(corrected.next->state(), Global::STATE_COMMITTED);
  EXPECT_EQ(corrected.next->branches(0).evidence().rbegin()->resolved_by(), "tester");
  EXPECT_EQ(corrected.next->history().rbegin()->event(), v1::HistoryEntry::EVENT_RESOLVED);

  const Step acknowledged = Apply(heuristic.get(), ResolveAs(heuristic, "a", v1::RESOLUTION_ACKNOWLEDGED));
  ASSERT_TRUE(acknowledged.answer.ok());
  EXPECT_EQ(acknowledged.next->state(), Global::STATE_HEURISTIC_CLOSED);
  EXPECT_EQ(OutcomeOf(*acknowledged.next), v1::OUTCOME_IN_DOUBT) << "neither all nor nothing";
  const Step again = Apply(acknowledged.next.get(), ResolveAs(heuristic, "a", v1::RESOLUTION_ACKNOWLEDGED));
  EXPECT_TRUE(again.answer.ok()) << "a repetition is answered the same: " << again.answer;
  EXPECT_EQ(again.next, nullptr);

  EXPECT_EQ(ReasonOf(Apply(heuristic.get(), ResolveAs(heuristic, "a", v1::RESOLUTION_ROLLED_BACK)).answer),
            Reason::RESOLUTION_REFUSED)
      << "that is known; it must be acknowledged as what it is";
}

TEST(ProtocolTest, OperatorsWordNeedsTheEtagAndMustNotContradictEvidence) {
  const GlobalPtr record = After({CreateWith({"a"}), VoteFor("a", kPrepared), FinalizeTo(v1::DECISION_COMMIT)});
  Event stale = ResolveAs(record, "a", v1::RESOLUTION_COMMITTED);
  stale.etag = "1";
  EXPECT_EQ(ReasonOf(Apply(record.get(), stale).answer), Reason::ETAG_MISMATCH);
  for (const auto outcome : {v1::BRANCH_OUTCOME_STILL_PREPARED, v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE,
                             v1::BRANCH_OUTCOME_HEURISTIC_ROLLED_BACK}) {
    Event contradicted = ResolveAs(record, "a", v1::RESOLUTION_COMMITTED);
    contradicted.evidence.set_outcome(outcome);
    EXPECT_EQ(ReasonOf(Apply(record.get(), contradicted).answer), Reason::RESOLUTION_REFUSED) << outcome;
  }
  const Step resolved = Apply(record.get(), ResolveAs(record, "a", v1::RESOLUTION_ROLLED_BACK));
  ASSERT_TRUE(resolved.answer.ok());
  EXPECT_EQ(resolved.next->state(), Global::STATE_HEURISTIC) << "said to have ended against the decision";
}

TEST(ProtocolTest, VotesFromAnotherServerAreRefused) {
  Event create = CreateWith({"a"});
  create.branches[0].server = "db1:3306";
  const GlobalPtr record = After({create});
  Event vote = VoteFor("a", kPrepared);
  vote.votes[0].mutable_session()->set_server("db2:3306");
  EXPECT_EQ(ReasonOf(Apply(record.get(), vote).answer), Reason::WRONG_SERVER);
  vote.votes[0].mutable_session()->set_server("db1:3306");
  vote.votes[0].mutable_session()->set_connection_id(17);
  const Step step = Apply(record.get(), vote);
  ASSERT_TRUE(step.answer.ok());
  EXPECT_EQ(step.next->branches(0).session().connection_id(), 17);
}

// A participant that did not notice a failover: what it prepares on the old primary nobody will find.
TEST(ProtocolTest, VotesFromAnOlderTimelineAreRefused) {
  Event create = CreateWith({"a"});
  create.branches[0].server = "7/app";
  create.branches[0].timeline = 2;
  const GlobalPtr record = After({create});
  Event vote = VoteFor("a", kPrepared);
  vote.votes[0].mutable_session()->set_server("7/app");
  vote.votes[0].mutable_session()->set_timeline(1);
  const absl::Status refused = Apply(record.get(), vote).answer;
  EXPECT_EQ(ReasonOf(refused), Reason::WRONG_SERVER);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("failover"));
  for (const int64_t timeline : {0, 2, 3}) {  // Not told; the same; of a failover that the coordinator has not seen.
    vote.votes[0].mutable_session()->set_timeline(timeline);
    EXPECT_TRUE(Apply(record.get(), vote).answer.ok()) << timeline;
  }
}

TEST(ProtocolTest, AWholeTransactionIsCreatedWithItsDecision) {
  const Step step = Apply(nullptr, WholeTo(v1::DECISION_COMMIT, {"a", "b"}));
  ASSERT_TRUE(step.answer.ok()) << step.answer;
  EXPECT_EQ(step.next->state(), Global::STATE_COMMITTING);
  EXPECT_EQ(step.durability, Durability::kForced);
  EXPECT_EQ(step.next->revision(), 1);
  EXPECT_EQ(step.next->branches(1).state(), Branch::STATE_PREPARED);
  EXPECT_EQ(step.next->branches(1).witness_table(), "assent.witness");
  EXPECT_EQ(GetTime(step.next->create_time()), kNow - absl::Seconds(1)) << "when it was begun, not when it came";
  EXPECT_EQ(step.next->history(0).event(), v1::HistoryEntry::EVENT_DECIDED);
}

// A refusal would not be the last word: an earlier attempt of the same call may be on its way through another instance.
TEST(ProtocolTest, AWholeTransactionThatCannotCommitIsDecidedRollback) {
  const Event good = WholeTo(v1::DECISION_COMMIT, {"a", "b"});
  std::vector<Event> bad(5, good);
  bad[0].votes.pop_back();
  bad[1].votes[0] = MakeVote("a", kFailed);
  bad[2].problem = MakeError(Reason::RESOURCE_QUARANTINED, "the server is another one");
  bad[3].branches[0].server = "db1:3306";
  bad[3].votes[0].mutable_session()->set_server("db2:3306");
  bad[4].age = bad[4].timeout;
  for (size_t i = 0; i < bad.size(); ++i) {
    const Step step = Apply(nullptr, bad[i]);
    ASSERT_TRUE(step.answer.ok()) << i << step.answer;
    EXPECT_EQ(step.next->decision(), v1::DECISION_ROLLBACK) << i;
    EXPECT_EQ(step.next->cause(), i == 4 ? v1::DECISION_CAUSE_DEADLINE : v1::DECISION_CAUSE_REFUSED) << i;
    EXPECT_FALSE(step.next->cause_detail().empty()) << i;
    EXPECT_EQ(step.durability, Durability::kLazy) << i;
    // Its repetition is answered the same, also where it would be granted by now; and the other way round.
    EXPECT_TRUE(Apply(step.next.get(), good).answer.ok()) << i;
    EXPECT_EQ(Apply(step.next.get(), good).next, nullptr) << i;
    const GlobalPtr committed = Apply(nullptr, good).next;
    EXPECT_TRUE(Apply(committed.get(), bad[i]).answer.ok()) << i;
    EXPECT_EQ(Apply(committed.get(), bad[i]).next, nullptr) << i;
  }
}

TEST(ProtocolTest, AWholeTransactionDoesNotTouchAnotherOne) {
  const GlobalPtr active = After({CreateWith({"a", "b"}), VoteFor("a", kPrepared), VoteFor("b", kPrepared)});
  const GlobalPtr committed = Apply(nullptr, WholeTo(v1::DECISION_COMMIT, {"a", "b"})).next;
  EXPECT_EQ(ReasonOf(Apply(active.get(), WholeTo(v1::DECISION_COMMIT, {"a", "b"})).answer), Reason::GTRID_IN_USE);
  EXPECT_EQ(ReasonOf(Apply(committed.get(), WholeTo(v1::DECISION_COMMIT, {"a"})).answer), Reason::GTRID_IN_USE);
  EXPECT_EQ(ReasonOf(Apply(committed.get(), WholeTo(v1::DECISION_COMMIT, {"a", "c"})).answer), Reason::GTRID_IN_USE);
}

// Who asked for ROLLBACK must not read OK as "rolled back".
TEST(ProtocolTest, AWholeRollbackOfWhatWasCommittedIsRefused) {
  const GlobalPtr committed = Apply(nullptr, WholeTo(v1::DECISION_COMMIT, {"a", "b"})).next;
  EXPECT_EQ(ReasonOf(Apply(committed.get(), WholeTo(v1::DECISION_ROLLBACK, {"a", "b"})).answer),
            Reason::GLOBAL_COMMITTED);
}

TEST(ProtocolTest, OfAnOrphanAndAWholeTransactionTheFirstWins) {
  const GlobalPtr buried = Apply(nullptr, NewEvent(EventKind::kOrphan)).next;
  EXPECT_EQ(buried->state(), Global::STATE_ROLLED_BACK);
  const Step late = Apply(buried.get(), WholeTo(v1::DECISION_COMMIT, {"a", "b"}));
  EXPECT_TRUE(late.answer.ok()) << "told what stands: " << late.answer;
  EXPECT_EQ(late.next, nullptr);
  const GlobalPtr whole = Apply(nullptr, WholeTo(v1::DECISION_COMMIT, {"a", "b"})).next;
  EXPECT_EQ(Apply(whole.get(), NewEvent(EventKind::kOrphan)).next, nullptr);
}

TEST(ProtocolTest, WhereThereMayHaveBeenARecordNothingIsDecidedAnew) {
  const absl::Status fence = MakeError(Reason::OUTCOME_IN_DOUBT, "too old");
  for (Event event : {WholeTo(v1::DECISION_COMMIT, {"a", "b"}), WholeTo(v1::DECISION_ROLLBACK, {"a", "b"}),
                      OnePhaseReport({"a", "b"}, "b", kUnknownResult)}) {
    EXPECT_FALSE(Apply(nullptr, event).must_be_first);
    event.must_be_first = true;
    const GlobalPtr record = Apply(nullptr, event).next;
    EXPECT_TRUE(Apply(nullptr, event).must_be_first);
    event.fence = fence;
    const Step late = Apply(nullptr, event);
    EXPECT_EQ(late.answer, fence);
    EXPECT_EQ(late.next, nullptr);
    EXPECT_TRUE(Apply(record.get(), event).answer.ok()) << "what is on record can be told for ever";
  }
}

TEST(ProtocolTest, ABranchIsNotYoungerThanItsGtrid) {
  Event report = OnePhaseReport({"a"}, "a", kUnknownResult);
  report.born = kNow - absl::Minutes(1);
  EXPECT_EQ(GetTime(After({report})->branches(0).create_time()), report.born) << "the report may have waited for long";
  report.born = absl::InfinitePast();
  EXPECT_FALSE(After({report})->branches(0).has_create_time());
}

TEST(ProtocolTest, WhatWasCommittedInOnePhaseIsRecordedAfterwards) {
  const GlobalPtr record = After({OnePhaseReport({"a", "b"}, "b", kCommittedResult)});
  EXPECT_EQ(record->state(), Global::STATE_COMMITTED);
  EXPECT_EQ(record->cause(), v1::DECISION_CAUSE_ONE_PHASE);
  EXPECT_EQ(record->branches(0).state(), Branch::STATE_READ_ONLY);
  EXPECT_EQ(record->branches(1).state(), Branch::STATE_COMMITTED);
  EXPECT_TRUE(record->branches(1).one_phase() && !record->branches(0).one_phase());
  EXPECT_EQ(GetTime(record->create_time()), kNow - absl::Seconds(1));
  EXPECT_EQ(GetTime(record->branches(1).create_time()), kNow - absl::Seconds(1))
      << "a younger witness table is no proof";
  // Whoever wants the opposite is told what is.
  EXPECT_EQ(ReasonOf(Apply(record.get(), FinalizeTo(v1::DECISION_ROLLBACK)).answer), Reason::GLOBAL_COMMITTED);
  EXPECT_EQ(ReasonOf(Apply(record.get(), CompleteAs("b", kRolledBackResult)).answer), Reason::COMPLETION_CHANGED);
  // A late report that the answer was lost says nothing new.
  const Step late = Apply(record.get(), OnePhaseReport({"a", "b"}, "b", kUnknownResult));
  EXPECT_TRUE(late.answer.ok() && late.next == nullptr);
}

TEST(ProtocolTest, OfALostOnePhaseCommitTheDatabaseDecides) {
  const GlobalPtr record = Sample(State::kOnePhase);
  EXPECT_EQ(record->decision(), v1::DECISION_UNSPECIFIED);
  EXPECT_EQ(OutcomeOf(*record), v1::OUTCOME_IN_DOUBT);
  EXPECT_TRUE(IsOpen(record->branches(0)) && !IsUndecided(*record));
  // Nobody else does.
  for (const Event& event : {VoteFor("a", kFailed, true), VoteFor("b", kPrepared), FinalizeTo(v1::DECISION_ROLLBACK),
                             FinalizeTo(v1::DECISION_COMMIT), WholeTo(v1::DECISION_ROLLBACK, {"a", "b"})}) {
    EXPECT_EQ(ReasonOf(Apply(record.get(), event).answer), Reason::GLOBAL_NOT_DECIDED) << Name(event.kind);
  }
  Event late = NewEvent(EventKind::kDeadline);
  late.now = kNow + absl::Hours(1);
  EXPECT_EQ(Apply(record.get(), late).next, nullptr);
  EXPECT_EQ(Apply(record.get(), NewEvent(EventKind::kPresumeAbort)).next, nullptr);
  EXPECT_EQ(Apply(record.get(), NewEvent(EventKind::kOrphan)).next, nullptr);

  const GlobalPtr held =
      After({OnePhaseReport({"a", "b"}, "a", kUnknownResult), EvidenceOf("a", v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE)});
  EXPECT_EQ(held->state(), Global::STATE_ONE_PHASE) << "a look that proves nothing decides nothing";

  const GlobalPtr committed = Apply(held.get(), EvidenceOf("a", v1::BRANCH_OUTCOME_COMMITTED)).next;
  EXPECT_EQ(committed->state(), Global::STATE_COMMITTED);
  EXPECT_EQ(committed->decision(), v1::DECISION_COMMIT);
  EXPECT_EQ(committed->cause(), v1::DECISION_CAUSE_ONE_PHASE);
  const GlobalPtr rolled_back = Apply(held.get(), EvidenceOf("a", v1::BRANCH_OUTCOME_ROLLED_BACK)).next;
  EXPECT_EQ(rolled_back->state(), Global::STATE_ROLLED_BACK);
  EXPECT_EQ(rolled_back->decision(), v1::DECISION_ROLLBACK);
  // The participant's own word, late; and an operator's.
  EXPECT_EQ(Apply(held.get(), CompleteAs("a", kCommittedResult)).next->state(), Global::STATE_COMMITTED);
  EXPECT_EQ(Apply(record.get(), ResolveAs(record, "a", v1::RESOLUTION_ROLLED_BACK)).next->state(),
            Global::STATE_ROLLED_BACK);
}

TEST(ProtocolTest, DocumentationShowsThisTable) {
  std::ifstream file("docs/protocol.md");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_THAT(text.str(), HasSubstr(ProtocolTableMarkdown()))
      << "docs/protocol.md must hold the output of `bazel run //coordinator:print_protocol_table`";
}

}  // namespace
}  // namespace assent
