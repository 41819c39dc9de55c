// Transactions that come whole, with their decision or after it.
#include "base/errors.h"
#include "base/timestamp.h"
#include "coordinator/protocol.h"
#include "coordinator/protocol_samples.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using Branch = v1::Branch;
using Global = v1::Global;

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
    EXPECT_EQ(step.durability, Durability::kForced) << "or its repetition would be granted after a crash";
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

}  // namespace
}  // namespace assent
