// What is asked of a transaction until it is decided.
#include "coordinator/protocol.h"

#include "base/errors.h"
#include "coordinator/protocol_samples.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using ::testing::HasSubstr;
using Branch = v1::Branch;
using Global = v1::Global;

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

}  // namespace
}  // namespace assent
