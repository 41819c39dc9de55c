#include "tools/assentctl/in_doubt.h"

#include "base/timestamp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const absl::Time kNow = absl::FromUnixSeconds(1700000000);

v1::ResourceStatus* AddResource(const std::string& name, v1::ResourceStatus::State state,
                                v1::ListInDoubtResponse* response) {
  v1::ResourceStatus* status = response->add_resources();
  status->set_resource(name);
  status->set_state(state);
  return status;
}

v1::InDoubtBranch* AddBranch(const std::string& gtrid, const std::string& bqual, absl::Duration age,
                             v1::ListInDoubtResponse* response) {
  v1::InDoubtBranch* in_doubt = response->add_branches();
  in_doubt->set_gtrid(gtrid);
  in_doubt->set_state(v1::Global::STATE_COMMITTING);
  in_doubt->set_decision(v1::DECISION_COMMIT);
  SetTime(kNow - age, in_doubt->mutable_since());
  in_doubt->set_next_step("it is looked at again");
  v1::Branch* branch = in_doubt->mutable_branch();
  branch->set_bqual(bqual);
  branch->set_resource("orders");
  branch->set_state(v1::Branch::STATE_PREPARED);
  return in_doubt;
}

TEST(InDoubtTest, NothingIsSaidPlainly) {
  v1::ListInDoubtResponse response;
  EXPECT_EQ(RenderInDoubt(response, {}, kNow), "Nothing is in doubt.\n\nNo resources are registered.\n");
  AddResource("orders", v1::ResourceStatus::STATE_OK, &response);
  EXPECT_EQ(RenderInDoubt(response, {}, kNow), "Nothing is in doubt.\n\nThe one resource is well.\n");
  AddResource("payments", v1::ResourceStatus::STATE_OK, &response);
  EXPECT_EQ(RenderInDoubt(response, {}, kNow), "Nothing is in doubt.\n\nAll 2 resources are well.\n");
  EXPECT_FALSE(HasAlarm(response));
}

TEST(InDoubtTest, SaysWhatIsStuckSinceWhenAndWhatHappensNext) {
  v1::ListInDoubtResponse response;
  v1::InDoubtBranch* stuck = AddBranch("shop-1", "b2", absl::Seconds(192), &response);
  stuck->set_attempts(12);
  SetTime(kNow + absl::Seconds(65), stuck->mutable_next_attempt_time());
  stuck->set_next_step("session 17 is killed when its lease ends");
  stuck->mutable_branch()->mutable_session()->set_connection_id(17);
  stuck->mutable_branch()->mutable_session()->set_server("db1:3306");
  v1::Evidence* evidence = stuck->mutable_branch()->add_evidence();
  evidence->set_outcome(v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
  evidence->set_session(v1::Evidence::SIGHTING_PRESENT);
  evidence->set_detail("the account may not KILL");
  const std::string text = RenderInDoubt(response, {}, kNow);
  EXPECT_THAT(text, StartsWith("1 branch of 1 transaction is in doubt; no alarm.\n"));
  EXPECT_THAT(text, ContainsRegex("\n +2023-11-14T22:10:08.000Z \\(3m12s\\) +shop-1 +b2 +orders +COMMIT +PREPARED "
                                  "+ATTACHED_ELSEWHERE +in 1m5s, 12 so far +session 17 is killed when its lease ends\n"
                                  " +the account may not KILL\n +session present\n +ran in session 17 on db1:3306\n"));
}

TEST(InDoubtTest, WhatTheEvidenceSaysIsNotSaidTwice) {
  v1::ListInDoubtResponse response;
  v1::InDoubtBranch* stuck = AddBranch("shop-1", "b2", absl::Seconds(192), &response);
  stuck->set_next_step("its session is alive");
  stuck->mutable_branch()->add_evidence()->set_detail("its session is alive");
  const std::string text = RenderInDoubt(response, {}, kNow);
  EXPECT_EQ(text.find("its session is alive"), text.rfind("its session is alive"));
}

TEST(InDoubtTest, AlarmsComeFirstAndTheRestStaysInOrder) {
  v1::ListInDoubtResponse response;
  AddBranch("old", "b1", absl::Minutes(3), &response);
  AddBranch("middle", "b1", absl::Minutes(2), &response);
  v1::InDoubtBranch* heuristic = AddBranch("new", "b1", absl::Minutes(1), &response);
  heuristic->set_alarm(true);
  heuristic->mutable_branch()->set_state(v1::Branch::STATE_HEURISTIC_ROLLED_BACK);
  const std::string text = RenderInDoubt(response, {}, kNow);
  EXPECT_THAT(text, StartsWith("3 branches of 3 transactions are in doubt; 1 alarm.\n"));
  EXPECT_LT(text.find("new"), text.find("old"));
  EXPECT_LT(text.find("old"), text.find("middle"));
  EXPECT_THAT(text, ContainsRegex("ALARM +2023-[^\n]* new +b1 +orders +COMMIT +HEURISTIC_ROLLED_BACK +not looked yet "
                                  "+never by itself, 0 so far"));
  EXPECT_TRUE(HasAlarm(response));
  InDoubtOptions options;
  options.limit = 2;
  EXPECT_THAT(RenderInDoubt(response, options, kNow),
              AllOf(StartsWith("3 branches"), HasSubstr("new"), HasSubstr("old"), Not(HasSubstr("middle"))));
  options.limit = 0;
  EXPECT_THAT(RenderInDoubt(response, options, kNow), HasSubstr("middle"));
}

TEST(InDoubtTest, ResourcesThatAreNotWellAreNamedAndAQuarantineIsAnAlarm) {
  v1::ListInDoubtResponse response;
  AddResource("orders", v1::ResourceStatus::STATE_OK, &response);
  v1::ResourceStatus* bad = AddResource("payments", v1::ResourceStatus::STATE_UNREACHABLE, &response);
  bad->set_in_doubt(7);
  bad->set_detail("connection refused\x1b[31m");
  SetTime(kNow - absl::Hours(2), bad->mutable_since());
  SetTime(kNow - absl::Hours(2), bad->mutable_last_sweep_time());
  SetTime(kNow - absl::Seconds(1), bad->mutable_next_attempt_time());
  const std::string text = RenderInDoubt(response, {}, kNow);
  EXPECT_THAT(text,
              ContainsRegex("payments +UNREACHABLE +2023-11-14T20:13:20.000Z \\(2h\\) +7 +2h ago +now +connection "
                            "refused.x1b.31m\n1 other is well.\n"));
  EXPECT_FALSE(HasAlarm(response)) << "its branches are, when it has lasted";
  bad->set_state(v1::ResourceStatus::STATE_QUARANTINED);
  EXPECT_TRUE(HasAlarm(response));
}

TEST(InDoubtTest, GhostsAreCountedEvenWhereNothingElseIsWrong) {
  v1::ListInDoubtResponse response;
  v1::ResourceStatus* const status = response.add_resources();
  status->set_resource("orders");
  status->set_state(v1::ResourceStatus::STATE_OK);
  status->set_ghosts(-1);
  EXPECT_THAT(RenderInDoubt(response, InDoubtOptions(), absl::UnixEpoch()), testing::Not(HasSubstr("ghosts")));
  status->set_ghosts(2);
  EXPECT_THAT(RenderInDoubt(response, InDoubtOptions(), absl::UnixEpoch()),
              HasSubstr("orders has lost sight of 2 prepared transactions (ghosts), which keep their locks."));
}

TEST(InDoubtTest, LocksAreShownIfAskedFor) {
  v1::ListInDoubtResponse response;
  InDoubtOptions options;
  EXPECT_THAT(RenderInDoubt(response, options, kNow), Not(HasSubstr("lock")));
  options.with_locks = true;
  EXPECT_THAT(RenderInDoubt(response, options, kNow), HasSubstr("No session waits for a lock of a branch.\n"));
  v1::LockWait* wait = response.add_lock_waits();
  wait->set_waiting_connection_id(21);
  wait->set_waiting_user("shop@10.0.0.7");
  wait->mutable_waited()->set_seconds(75);
  wait->set_table("shop.stock");
  wait->set_index("PRIMARY");
  wait->set_gtrid("shop-1");
  wait->set_bqual("b2");
  response.add_lock_waits()->set_blocking_connection_id(9);
  const std::string text = RenderInDoubt(response, options, kNow);
  EXPECT_THAT(text, ContainsRegex("21 +shop@10.0.0.7 +1m15s +shop.stock +PRIMARY +none .detached. +shop-1 +b2\n"));
  EXPECT_THAT(text, ContainsRegex("\\? +0s +9 +\\? +\\?\n"));
}

// What could not be asked is not "nobody".
TEST(InDoubtTest, ResourcesWhoseLocksCouldNotBeAskedForAreNamed) {
  v1::ListInDoubtResponse response;
  InDoubtOptions options;
  options.with_locks = true;
  AddResource("orders", v1::ResourceStatus::STATE_OK, &response);
  AddResource("payments", v1::ResourceStatus::STATE_UNREACHABLE, &response);
  v1::LocksUnknown* unknown = response.add_locks_unknown();
  unknown->set_resource("payments");
  unknown->set_detail("connection refused\x1b[31m");
  const std::string said = "Who waits for locks on payments is not known: connection refused\\x1b[31m\n";
  EXPECT_THAT(RenderInDoubt(response, options, kNow),
              AllOf(HasSubstr("On the other resources no session waits for a lock of a branch.\n" + said),
                    Not(HasSubstr("No session waits"))));
  response.add_lock_waits()->set_waiting_connection_id(21);
  EXPECT_THAT(RenderInDoubt(response, options, kNow),
              AllOf(HasSubstr(said), ContainsRegex("\n21 "), Not(HasSubstr("no session waits"))));
  response.clear_lock_waits();
  response.add_locks_unknown()->set_resource("orders");
  EXPECT_THAT(RenderInDoubt(response, options, kNow),
              AllOf(HasSubstr(said), HasSubstr("locks on orders is not known"), Not(HasSubstr("o session waits"))));
}

}  // namespace
}  // namespace assent
