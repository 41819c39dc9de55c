// How branches end: history, evidence and operators.
#include "base/errors.h"
#include "coordinator/protocol.h"
#include "coordinator/protocol_samples.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using Branch = v1::Branch;
using Global = v1::Global;

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

}  // namespace
}  // namespace assent
