#include "tools/assentctl/globals.h"

#include "base/timestamp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(1700000000);

v1::GetGlobalResponse Undecided() {
  v1::GetGlobalResponse response;
  v1::Global* global = response.mutable_global();
  global->set_gtrid("shop-1");
  global->set_state(v1::Global::STATE_ACTIVE);
  SetTime(kNow - absl::Seconds(3), global->mutable_create_time());
  SetTime(kNow + absl::Seconds(57), global->mutable_expire_time());
  SetDuration(absl::Seconds(60), global->mutable_timeout());
  for (const char* bqual : {"b1", "b2"}) {
    v1::Branch* branch = global->add_branches();
    branch->set_bqual(bqual);
    branch->set_resource("orders");
    branch->set_state(v1::Branch::STATE_ACTIVE);
    SetTime(kNow - absl::Seconds(2), branch->mutable_update_time());
  }
  return response;
}

v1::ListGlobalsResponse ListOf(const v1::GetGlobalResponse& response) {
  v1::ListGlobalsResponse list;
  *list.add_globals() = response.global();
  return list;
}

TEST(GlobalsTest, StatesAreWordsAndOpenIsAllThatIsUnfinished) {
  EXPECT_THAT(StateWords(), ElementsAre("open", "active", "committing", "committed", "rolling-back", "rolled-back",
                                        "heuristic", "heuristic-closed", "one-phase"));
  EXPECT_THAT(StatesOf({"rolled-back", "active", "open"}),
              ElementsAre(v1::Global::STATE_ACTIVE, v1::Global::STATE_COMMITTING, v1::Global::STATE_ROLLING_BACK,
                          v1::Global::STATE_ROLLED_BACK, v1::Global::STATE_HEURISTIC, v1::Global::STATE_ONE_PHASE));
  EXPECT_TRUE(StatesOf({"nonsense"}).empty());
}

TEST(GlobalsTest, AOnePhaseCommitWithoutAnAnswerIsInDoubtAndDoesNotRollBack) {
  v1::GetGlobalResponse response = Undecided();
  response.mutable_global()->set_state(v1::Global::STATE_ONE_PHASE);
  response.set_outcome(v1::OUTCOME_IN_DOUBT);
  const std::string text = RenderGlobal(response, kNow);
  EXPECT_THAT(text, HasSubstr("its database decides"));
  EXPECT_THAT(text, Not(HasSubstr("Rolls back")));
  EXPECT_THAT(RenderGlobals(ListOf(response), kNow), HasSubstr("committed in one phase, or not"));
}

TEST(GlobalsTest, AnUndecidedOneSaysWhenItRollsBack) {
  v1::GetGlobalResponse response = Undecided();
  response.mutable_global()->mutable_branches(0)->set_state(v1::Branch::STATE_PREPARED);
  EXPECT_EQ(RenderGlobals(ListOf(response), kNow),
            "GTRID   STATE   BRANCHES      CREATED  WHY\n"
            "shop-1  ACTIVE  1/2 prepared  3s ago   undecided; rolls back in 57s\n");
  const std::string text = RenderGlobal(response, kNow);
  EXPECT_THAT(text, HasSubstr("Outcome     none yet: undecided\n"));
  EXPECT_THAT(text, HasSubstr("Rolls back  2023-11-14T22:14:17.000Z (in 57s)\n"));
  EXPECT_THAT(text, HasSubstr("Timeout     1m\n"));
  EXPECT_THAT(text, Not(HasSubstr("Decision ")));
}

TEST(GlobalsTest, ARollBackSaysWhoWhenWhyAndWhichBranchFailedHow) {
  v1::GetGlobalResponse response = Undecided();
  v1::Global* global = response.mutable_global();
  response.set_outcome(v1::OUTCOME_ROLLED_BACK);
  global->set_state(v1::Global::STATE_ROLLED_BACK);
  global->set_decision(v1::DECISION_ROLLBACK);
  global->set_cause(v1::DECISION_CAUSE_BRANCH_FAILED);
  global->set_cause_detail("branch 'b2' voted FAILED:\x1b[31m\n1213");
  global->set_decided_by("ipv4:10.0.0.7:4711");
  SetTime(kNow - absl::Seconds(1), global->mutable_decide_time());
  SetTime(kNow - absl::Seconds(1), global->mutable_end_time());
  v1::Branch* failed = global->mutable_branches(1);
  failed->set_state(v1::Branch::STATE_ROLLED_BACK);
  failed->set_vote(v1::VOTE_KIND_FAILED);
  failed->mutable_failure()->set_error_code(1213);
  failed->mutable_failure()->set_sqlstate("40001");
  failed->mutable_failure()->set_message("Deadlock found");
  const std::string text = RenderGlobal(response, kNow);
  EXPECT_THAT(text, HasSubstr("Outcome     rolled back: every branch is proven rolled back\n"));
  EXPECT_THAT(text, HasSubstr("Decision    ROLLBACK at 2023-11-14T22:13:19.000Z (1s ago)\n"));
  EXPECT_THAT(text, HasSubstr("Decided by  a branch that failed, reported from ipv4:10.0.0.7:4711\n"));
  EXPECT_THAT(text, HasSubstr("Why         branch 'b2' voted FAILED:\\x1b[31m\\n1213\n"));
  EXPECT_THAT(text, HasSubstr("Ended       2023-11-14T22:13:19.000Z (1s ago)\n"));
  EXPECT_THAT(text, HasSubstr("b2      orders    ROLLED_BACK  FAILED  2023-11-14T22:13:18.000Z (2s ago)         "
                              "  1213 (40001) Deadlock found\n"));
}

TEST(GlobalsTest, InDoubtNamesTheBranchesThatAreNotProven) {
  v1::GetGlobalResponse response = Undecided();
  v1::Global* global = response.mutable_global();
  response.set_outcome(v1::OUTCOME_IN_DOUBT);
  global->set_state(v1::Global::STATE_COMMITTING);
  global->set_decision(v1::DECISION_COMMIT);
  global->set_cause(v1::DECISION_CAUSE_ALL_PREPARED);
  global->mutable_branches(0)->set_state(v1::Branch::STATE_COMMITTED);
  global->mutable_branches(1)->set_state(v1::Branch::STATE_PREPARED);
  EXPECT_THAT(RenderGlobal(response, kNow), HasSubstr("in doubt: decided COMMIT, not yet proven for b2\n"));
  EXPECT_THAT(RenderGlobals(ListOf(response), kNow), HasSubstr("COMMITTING  1/2 committed"));
  global->set_state(v1::Global::STATE_HEURISTIC);
  global->mutable_branches(1)->set_state(v1::Branch::STATE_HEURISTIC_ROLLED_BACK);
  EXPECT_THAT(RenderGlobal(response, kNow), HasSubstr("in doubt: somebody finished b2 against the decision"));
}

TEST(GlobalsTest, AClosedContradictionIsMixedAndNotInDoubt) {
  v1::GetGlobalResponse response = Undecided();
  v1::Global* global = response.mutable_global();
  response.set_outcome(v1::OUTCOME_IN_DOUBT);
  global->set_state(v1::Global::STATE_HEURISTIC_CLOSED);
  global->set_decision(v1::DECISION_COMMIT);
  global->mutable_branches(0)->set_state(v1::Branch::STATE_COMMITTED);
  global->mutable_branches(1)->set_state(v1::Branch::STATE_HEURISTIC_ROLLED_BACK);
  global->mutable_branches(1)->set_acknowledged(true);
  const std::string text = RenderGlobal(response, kNow);
  EXPECT_THAT(text, HasSubstr("State     HEURISTIC_CLOSED\n"));
  EXPECT_THAT(text, HasSubstr("Outcome   mixed: b2 ended against the decision COMMIT, and an operator has closed it"));
  EXPECT_THAT(text, HasSubstr("HEURISTIC_ROLLED_BACK, acknowledged"));
  EXPECT_THAT(StatesOf({"open"}), Not(testing::Contains(v1::Global::STATE_HEURISTIC_CLOSED)));
  EXPECT_THAT(StatesOf({"heuristic-closed"}), ElementsAre(v1::Global::STATE_HEURISTIC_CLOSED));
}

TEST(GlobalsTest, GetShowsSessionsEvidenceAndTheLatestHistory) {
  v1::GetGlobalResponse response = Undecided();
  v1::Global* global = response.mutable_global();
  EXPECT_THAT(RenderGlobal(response, kNow), Not(HasSubstr("EVIDENCE")));
  EXPECT_THAT(RenderGlobal(response, kNow), Not(HasSubstr("REVISION")));
  v1::Branch* branch = global->mutable_branches(1);
  branch->mutable_session()->set_connection_id(17);
  branch->mutable_session()->set_server("db1:3306");
  v1::Evidence* evidence = branch->add_evidence();
  SetTime(kNow - absl::Seconds(1), evidence->mutable_time());
  evidence->set_outcome(v1::BRANCH_OUTCOME_COMMITTED);
  evidence->set_server("db1:3306");
  evidence->set_witness(v1::Evidence::SIGHTING_PRESENT);
  evidence->set_done("XA COMMIT");
  evidence->set_detail("the witness\nis there");
  for (int revision = 1; revision <= 25; ++revision) {
    v1::HistoryEntry* entry = global->add_history();
    entry->set_revision(revision);
    entry->set_event(v1::HistoryEntry::EVENT_VOTED);
    entry->set_state(v1::Global::STATE_ACTIVE);
    entry->set_detail("b1 PREPARED");
  }
  global->mutable_history(24)->set_actor("ipv4:10.0.0.7:4711");
  global->set_history_omitted(2);
  const std::string text = RenderGlobal(response, kNow);
  EXPECT_THAT(text, HasSubstr("(2s ago)  17 on db1:3306\n"));
  EXPECT_THAT(text, HasSubstr("\nBRANCH  FOUND AT                           OUTCOME    EVIDENCE\n"
                              "b2      2023-11-14T22:13:19.000Z (1s ago)  COMMITTED  witness present; XA COMMIT\n"
                              "                                                      the witness\\nis there\n"
                              "                                                      answered by db1:3306\n"));
  EXPECT_THAT(text, Not(testing::ContainsRegex("\n5 +VOTED")));
  EXPECT_THAT(text, testing::ContainsRegex("\n6 +VOTED +ACTIVE +the coordinator +b1 PREPARED\n"));
  EXPECT_THAT(text, testing::ContainsRegex("\n25 +VOTED +ACTIVE +ipv4:10.0.0.7:4711 +b1 PREPARED\n"));
  EXPECT_THAT(text, HasSubstr("\n5 earlier ones: assentctl globals history shop-1\n"
                              "2 votes and completions are not kept: there were too many\n"));
  const std::string history = RenderHistory(*global, 0, kNow);
  EXPECT_THAT(history, testing::ContainsRegex("\n1 +VOTED"));
  EXPECT_THAT(history, Not(HasSubstr("earlier ones")));
}

TEST(GlobalsTest, ValuesOfANewerCoordinatorAreShownAsNumbers) {
  v1::GetGlobalResponse response = Undecided();
  response.mutable_global()->set_state(static_cast<v1::Global::State>(17));
  response.mutable_global()->set_cause(static_cast<v1::DecisionCause>(18));
  EXPECT_THAT(RenderGlobals(ListOf(response), kNow), HasSubstr("shop-1  17"));
  EXPECT_THAT(RenderGlobals(ListOf(response), kNow), HasSubstr("cause 18"));
}

TEST(GlobalsTest, LongReasonsAreCutInTheListOnly) {
  v1::GetGlobalResponse response = Undecided();
  response.mutable_global()->set_state(v1::Global::STATE_ROLLED_BACK);
  response.mutable_global()->set_decision(v1::DECISION_ROLLBACK);
  response.mutable_global()->set_cause_detail(std::string(1000, 'x'));
  EXPECT_THAT(RenderGlobals(ListOf(response), kNow), HasSubstr("  " + std::string(71, 'x') + "…\n"));
  EXPECT_THAT(RenderGlobal(response, kNow), HasSubstr(std::string(1000, 'x')));
}

}  // namespace
}  // namespace assent
