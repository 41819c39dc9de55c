// What holds for every state with every event, and on every path.
#include <fstream>
#include <random>
#include <sstream>

#include "base/errors.h"
#include "coordinator/protocol.h"
#include "coordinator/protocol_samples.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using ::testing::HasSubstr;
using Branch = v1::Branch;
using Global = v1::Global;

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
  } else if (event.kind == EventKind::kOrphan || (!before && event.decision == v1::DECISION_COMMIT)) {
    EXPECT_EQ(step.durability, Durability::kForced) << "what keeps a late COMMIT out must not be lost";
  } else {
    EXPECT_EQ(step.durability, Durability::kLazy) << "presumed abort: nothing else is forced";
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

TEST(ProtocolTest, DocumentationShowsThisTable) {
  std::ifstream file("docs/protocol.md");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_THAT(text.str(), HasSubstr(ProtocolTableMarkdown()))
      << "docs/protocol.md must hold the output of `bazel run //coordinator:print_protocol_table`";
}

}  // namespace
}  // namespace assent
