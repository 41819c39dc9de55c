// Connections that break and a coordinator that goes away: at every step there is either the right answer or IN_DOUBT,
// never a wrong one.
#include <atomic>
#include <thread>

#include "participant_sdk/cpp/sdk_test_rig.h"

namespace assent {
namespace {

class RecoveryTest : public SdkTest {
 protected:
  GlobalTransaction BegunOnBoth(Client* client, const BeginOptions& begin = {}) {
    GlobalTransaction transaction = MustBegin(client, begin);
    orders_ = MustOpen(&transaction, kOrders, session(0));
    payments_ = MustOpen(&transaction, kPayments, session(1));
    EXPECT_TRUE(orders_->Execute(Take(2)).ok());
    EXPECT_TRUE(payments_->Execute(Take(3)).ok());
    return transaction;
  }

  void RestartCoordinator() {
    rig().coordinator().Kill9();
    const absl::Status started = rig().coordinator().Restart();
    ASSERT_TRUE(started.ok()) << started;
  }

  Client client_ = NewClient();
  Branch* orders_ = nullptr;
  Branch* payments_ = nullptr;
};

TEST_F(RecoveryTest, AConnectionKilledBeforePrepareRollsBack) {
  GlobalTransaction transaction = BegunOnBoth(&client_);
  KillConnection(1, session(1));
  const absl::Status told = transaction.Commit();
  EXPECT_TRUE(absl::IsAborted(told)) << told;
  EXPECT_EQ(transaction.outcome(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(Taken(2) + Taken(3), 0);
  EXPECT_TRUE(client_.Flush(absl::Seconds(10)));
  EXPECT_EQ(Global(transaction.gtrid()).outcome(), v1::OUTCOME_ROLLED_BACK) << "PREPARE never left: that is proof";
}

TEST_F(RecoveryTest, AConnectionKilledDuringAStatementRollsBack) {
  GlobalTransaction transaction = BegunOnBoth(&client_);
  KillConnection(1, session(1));
  EXPECT_EQ(ReasonOf(payments_->Execute(Take(5)).status()), Reason::DATABASE_UNREACHABLE);
  EXPECT_TRUE(absl::IsAborted(transaction.Commit()));
  EXPECT_EQ(Taken(2) + Taken(3), 0);
}

TEST_F(RecoveryTest, AConnectionKilledWhilePreparedIsInDoubtAfterCommitAndRightForTheOthers) {
  BeginOptions begin;
  begin.policy = v1::DECISION_POLICY_WHEN_ALL_PREPARED;
  begin.expected_branches = 2;
  GlobalTransaction initiator = MustBegin(&client_, begin);
  absl::Status told;
  std::thread waiting([&] {
    Client own = NewClient();
    auto worker = own.Join(initiator.gtrid());
    Branch* const branch = MustOpen(&*worker, kOrders, session(0));
    ASSERT_TRUE(branch->Execute(Take(2)).ok());
    told = worker->Prepare();
    EXPECT_EQ(worker->outcome(), v1::OUTCOME_IN_DOUBT);
  });
  AwaitPreparedVotes(initiator.gtrid(), 1);
  KillConnection(0, session(0));
  {
    auto worker = client_.Join(initiator.gtrid());
    ASSERT_TRUE(MustOpen(&*worker, kPayments, session(1))->Execute(Take(3)).ok());
    EXPECT_TRUE(worker->Prepare().ok()) << "its own branch is committed, and that is what it is told";
  }
  waiting.join();
  EXPECT_EQ(ReasonOf(told), Reason::OUTCOME_IN_DOUBT) << told;
  EXPECT_TRUE(session(0)->lost());
  EXPECT_TRUE(client_.Flush(absl::Seconds(10)));
  EXPECT_EQ(Taken(3), 1);
  initiator.Leave();
  AwaitOutcome(initiator.gtrid(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(Taken(2), 1) << "nothing was lost";
}

TEST_F(RecoveryTest, AConnectionKilledDuringCommitIsInDoubtUntilRecoveryHasProof) {
  if (IsPostgres(1)) GTEST_SKIP() << "no lock of PostgreSQL holds a COMMIT PREPARED up";
  GlobalTransaction transaction = BegunOnBoth(&client_);
  // The backup lock lets PREPARE pass only if it came before; so the branch is prepared by hand-off: the lock is taken
  // between the two phases, while the vote waits for the coordinator.
  rig().coordinator().Signal(SIGSTOP);
  absl::Status told;
  std::thread committing([&] { told = transaction.Commit(); });
  for (int i = 0; i < 1000 && PreparedOn(1) == 0; ++i) absl::SleepFor(absl::Milliseconds(5));
  const auto backup = Session(1);
  ASSERT_TRUE(backup->Query("FLUSH TABLES WITH READ LOCK").ok());
  rig().coordinator().Signal(SIGCONT);
  AwaitState(1, *session(1), EngineOfServer(1) == v1::Resource::ENGINE_MYSQL ? "%commit lock%" : "%backup lock%");
  KillConnection(1, session(1));
  committing.join();
  // Recovery may have proven the branch committed before the call gave up waiting for that.
  EXPECT_TRUE(told.ok() || ReasonOf(told) == Reason::OUTCOME_IN_DOUBT) << told;
  EXPECT_EQ(transaction.outcome(), told.ok() ? v1::OUTCOME_COMMITTED : v1::OUTCOME_IN_DOUBT);
  ASSERT_TRUE(backup->Query("UNLOCK TABLES").ok());
  EXPECT_EQ(Taken(2), 1) << "the other branch did not wait for it";
  AwaitOutcome(transaction.gtrid(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(Taken(3), 1);
}

TEST_F(RecoveryTest, ACommitThatTheServerCannotDoNowIsRepeated) {
  if (IsPostgres(1)) GTEST_SKIP() << "no lock of PostgreSQL holds a COMMIT PREPARED up";
  ASSERT_TRUE(session(1)->Query("SET SESSION lock_wait_timeout = 1").ok());
  GlobalTransaction transaction = BegunOnBoth(&client_);
  rig().coordinator().Signal(SIGSTOP);
  absl::Status told = absl::InternalError("not told");
  std::thread committing([&] { told = transaction.Commit(); });
  for (int i = 0; i < 1000 && PreparedOn(1) == 0; ++i) absl::SleepFor(absl::Milliseconds(5));
  const auto backup = Session(1);
  ASSERT_TRUE(backup->Query("FLUSH TABLES WITH READ LOCK").ok());
  rig().coordinator().Signal(SIGCONT);
  absl::SleepFor(absl::Milliseconds(2500));  // At least one COMMIT times out.
  ASSERT_TRUE(backup->Query("UNLOCK TABLES").ok());
  committing.join();
  EXPECT_TRUE(told.ok()) << told;
  EXPECT_EQ(Taken(2) + Taken(3), 2);
}

// Recovery, or a DBA, is faster than the participant.
TEST_F(RecoveryTest, ABranchThatSomebodyElseHasCommittedMeanwhileIsProvenByTheCoordinator) {
  if (!session(1)->detaches()) GTEST_SKIP() << "only its own session can commit it while that lives";
  GlobalTransaction transaction = BegunOnBoth(&client_);
  rig().coordinator().Signal(SIGSTOP);
  absl::Status told = absl::InternalError("not told");
  std::thread committing([&] { told = transaction.Commit(); });
  for (int i = 0; i < 1000 && PreparedOn(1) == 0; ++i) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_TRUE(admin(1)->Commit(payments_->xid()).ok());
  rig().coordinator().Signal(SIGCONT);
  committing.join();
  EXPECT_TRUE(told.ok()) << told;
  EXPECT_EQ(transaction.outcome(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(Taken(2) + Taken(3), 2);
  GlobalTransaction next = MustBegin(&client_);
  EXPECT_TRUE(MustOpen(&next, kPayments, session(1))->Execute(Take(3)).ok()) << "the session can be used again";
  EXPECT_TRUE(next.Commit().ok());
  EXPECT_EQ(Taken(3), 2);
}

// A DBA commits by hand what is then decided to be rolled back: that is no rollback, whoever looks.
TEST_F(RecoveryTest, ABranchThatSomebodyElseHasCommittedIsNeverToldRolledBack) {
  if (!session(1)->detaches()) GTEST_SKIP() << "only its own session can commit it while that lives";
  GlobalTransaction initiator = MustBegin(&client_);
  ASSERT_TRUE(MustOpen(&initiator, kOrders, session(0))->Execute(Take(2)).ok());
  absl::Status told = absl::InternalError("not told");
  v1::Outcome outcome = v1::OUTCOME_UNSPECIFIED;
  std::string bqual;
  std::thread waiting([&] {
    ClientOptions options;
    options.decision_patience = absl::Seconds(3);
    Client own = NewClient(options);
    auto worker = own.Join(initiator.gtrid());
    Branch* const branch = MustOpen(&*worker, kPayments, session(1));
    bqual = branch->xid().bqual;
    ASSERT_TRUE(branch->Execute(Take(3)).ok());
    told = worker->Prepare();
    outcome = worker->outcome();
  });
  AwaitPreparedVotes(initiator.gtrid(), 1);
  EXPECT_TRUE(admin(1)->Commit({initiator.gtrid(), bqual}).ok());
  EXPECT_TRUE(initiator.Rollback().ok());
  waiting.join();
  EXPECT_EQ(ReasonOf(told), Reason::OUTCOME_IN_DOUBT) << told;
  EXPECT_EQ(outcome, v1::OUTCOME_IN_DOUBT);
  for (int i = 0; i < 1000 && Global(initiator.gtrid()).global().state() != v1::Global::STATE_HEURISTIC; ++i) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_EQ(Global(initiator.gtrid()).global().state(), v1::Global::STATE_HEURISTIC);
  EXPECT_EQ(Taken(3), 1);
}

TEST_F(RecoveryTest, TheCoordinatorRestartsBeforeTheVote) {
  GlobalTransaction transaction = BegunOnBoth(&client_);
  RestartCoordinator();
  EXPECT_TRUE(transaction.Commit().ok());
  EXPECT_EQ(Taken(2) + Taken(3), 2);
}

TEST_F(RecoveryTest, TheCoordinatorRestartsWhileWorkersWait) {
  BeginOptions begin;
  begin.policy = v1::DECISION_POLICY_WHEN_ALL_PREPARED;
  begin.expected_branches = 2;
  GlobalTransaction initiator = MustBegin(&client_, begin);
  absl::Status told = absl::InternalError("not told");
  std::thread waiting([&] {
    Client own = NewClient();
    auto worker = own.Join(initiator.gtrid());
    ASSERT_TRUE(MustOpen(&*worker, kOrders, session(0))->Execute(Take(2)).ok());
    told = worker->Prepare();
  });
  AwaitPreparedVotes(initiator.gtrid(), 1);
  RestartCoordinator();
  EXPECT_EQ(PreparedOn(0), 1u) << "it waits on, and holds its branch";
  {
    auto worker = client_.Join(initiator.gtrid());
    ASSERT_TRUE(MustOpen(&*worker, kPayments, session(1))->Execute(Take(3)).ok());
    EXPECT_TRUE(worker->Prepare().ok());
  }
  waiting.join();
  EXPECT_TRUE(told.ok()) << told;
  EXPECT_TRUE(initiator.Commit().ok());
  EXPECT_EQ(Taken(2) + Taken(3), 2);
}

TEST_F(RecoveryTest, TheCoordinatorRestartsBeforeItIsToldOfTheEnd) {
  // Two transactions: while the reporter offers the completions of the second, the coordinator is away.
  GlobalTransaction transaction = BegunOnBoth(&client_);
  EXPECT_TRUE(transaction.Commit().ok());
  RestartCoordinator();
  EXPECT_TRUE(client_.Flush(absl::Seconds(20)));
  EXPECT_EQ(Global(transaction.gtrid()).outcome(), v1::OUTCOME_COMMITTED);
}

TEST_F(RecoveryTest, WithoutACoordinatorTheBranchIsHeldAndCommitMayBeCalledAgain) {
  ClientOptions options;
  options.decision_patience = absl::Seconds(1);
  Client client = NewClient(options);
  GlobalTransaction transaction = BegunOnBoth(&client);
  rig().coordinator().Kill9();
  const absl::Status told = transaction.Commit();
  EXPECT_EQ(ReasonOf(told), Reason::OUTCOME_IN_DOUBT) << told;
  EXPECT_EQ(transaction.outcome(), v1::OUTCOME_IN_DOUBT);
  EXPECT_EQ(PreparedOn(0) + PreparedOn(1), 2u);
  EXPECT_EQ(session(0)->holds_branch(), !session(0)->detaches());
  if (session(0)->holds_branch()) {
    EXPECT_EQ(ReasonOf(session(0)->Close()), Reason::SESSION_HOLDS_BRANCH) << "nobody may lose it by accident";
  }
  ASSERT_TRUE(rig().coordinator().Restart().ok());
  EXPECT_TRUE(transaction.Commit().ok()) << "asked again, it goes on where it was";
  EXPECT_EQ(transaction.outcome(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(Taken(2) + Taken(3), 2);
}

TEST_F(RecoveryTest, WithoutACoordinatorTheScopeLeavesTheBranchesAndClosesTheirSessions) {
  ClientOptions options;
  options.decision_patience = absl::Seconds(1);
  Client client = NewClient(options);
  std::string gtrid;
  {
    GlobalTransaction transaction = BegunOnBoth(&client);
    gtrid = transaction.gtrid();
    rig().coordinator().Kill9();
    EXPECT_EQ(ReasonOf(transaction.Commit()), Reason::OUTCOME_IN_DOUBT);
  }
  EXPECT_TRUE(session(0)->lost()) << "a connection with a prepared branch must not be used for anything else";
  EXPECT_TRUE(session(1)->lost());
  EXPECT_EQ(PreparedOn(0) + PreparedOn(1), 2u) << "only the decision may finish them";
  ASSERT_TRUE(rig().coordinator().Restart().ok());
  // Whether the votes arrived before the coordinator went is known to it alone; if not, nobody can vote any more.
  {
    auto joined = client.Join(gtrid);
    joined->Rollback().IgnoreError();
  }
  const bool commit = Global(gtrid).global().decision() == v1::DECISION_COMMIT;
  AwaitOutcome(gtrid, commit ? v1::OUTCOME_COMMITTED : v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(Taken(2) + Taken(3), commit ? 2 : 0);
}

TEST_F(RecoveryTest, WithoutACoordinatorNothingBegins) {
  ClientOptions options;
  options.call_patience = absl::Seconds(1);
  Client client = NewClient(options);
  rig().coordinator().Kill9();
  const absl::Time begin = absl::Now();
  const absl::Status refused = client.Begin().status();
  EXPECT_EQ(ReasonOf(refused), Reason::COORDINATOR_UNREACHABLE) << refused;
  EXPECT_THAT(std::string(refused.message()), testing::HasSubstr("Connection refused")) << "it says why";
  EXPECT_LT(absl::Now() - begin, absl::Seconds(3));
}

TEST_F(RecoveryTest, WithoutACoordinatorAFailedBranchIsStillRolledBackHere) {
  ClientOptions options;
  options.call_patience = absl::Seconds(1);
  Client client = NewClient(options);
  GlobalTransaction transaction = BegunOnBoth(&client);
  EXPECT_FALSE(payments_->Execute("INSERT INTO bank.accounts VALUES (3, 0)").ok());
  rig().coordinator().Kill9();
  EXPECT_TRUE(absl::IsAborted(transaction.Commit())) << "without its vote it can never be decided COMMIT";
  EXPECT_EQ(Taken(2) + Taken(3), 0);
  EXPECT_TRUE(session(0)->Query(Take(2)).ok()) << "the session is free and nothing is locked";
  // What the vote could not say, the completions do as soon as somebody listens.
  ASSERT_TRUE(rig().coordinator().Restart().ok());
  EXPECT_TRUE(client.Flush(absl::Seconds(20)));
  EXPECT_EQ(Global(transaction.gtrid()).outcome(), v1::OUTCOME_ROLLED_BACK);
}

TEST_F(RecoveryTest, ARollbackWithoutACoordinatorIsReportedOnceItIsBack) {
  ClientOptions options;
  options.call_patience = absl::Seconds(1);
  Client client = NewClient(options);
  GlobalTransaction transaction = BegunOnBoth(&client);
  rig().coordinator().Kill9();
  EXPECT_EQ(ReasonOf(transaction.Rollback()), Reason::COORDINATOR_UNREACHABLE);
  EXPECT_EQ(PreparedOn(0) + PreparedOn(1), 0u);
  ASSERT_TRUE(rig().coordinator().Restart().ok());
  EXPECT_TRUE(transaction.Rollback().ok());
  EXPECT_TRUE(client.Flush(absl::Seconds(20)));
  EXPECT_EQ(Global(transaction.gtrid()).outcome(), v1::OUTCOME_ROLLED_BACK);
}

// A vote that an earlier call brought stays out, whatever a later call is told: leaving scope must not roll its branch
// back.
TEST_F(RecoveryTest, AVoteThatIsOutIsNeverTakenBack) {
  ClientOptions options;
  options.decision_patience = absl::Seconds(1);
  Client client = NewClient(options);
  GlobalTransaction initiator = MustBegin(&client);
  ASSERT_TRUE(MustOpen(&initiator, kOrders, session(0))->Execute(Take(2)).ok());
  {
    Client own = NewClient(options);
    auto worker = own.Join(initiator.gtrid());
    Branch* const branch = MustOpen(&*worker, kPayments, session(1));
    ASSERT_TRUE(branch->Execute(Take(3)).ok());
    EXPECT_EQ(ReasonOf(worker->Prepare()), Reason::OUTCOME_IN_DOUBT) << "its vote counts; nobody has decided";
    EXPECT_EQ(ReasonOf(worker->Commit()), Reason::BRANCHES_NOT_PREPARED) << "the initiator has not voted";
  }
  EXPECT_EQ(PreparedOn(1), 1u) << "left to the coordinator, not rolled back";
  // Its session was closed with a prepared branch: the coordinator finishes it, perhaps not before this call gives up.
  const absl::Status committed = initiator.Commit();
  EXPECT_TRUE(committed.ok() || ReasonOf(committed) == Reason::OUTCOME_IN_DOUBT) << committed;
  AwaitOutcome(initiator.gtrid(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(Taken(2) + Taken(3), 2);
}

// SIGTERM in the middle of a stream of transactions: "repeat the call" holds for completions, too.
TEST_F(RecoveryTest, ADrainLosesNoCompletion) {
  std::vector<std::string> gtrids;
  std::atomic<bool> stop{false};
  std::thread committing([&] {
    while (!stop) {
      GlobalTransaction transaction = BegunOnBoth(&client_);
      gtrids.push_back(transaction.gtrid());
      EXPECT_TRUE(transaction.Commit().ok());
    }
  });
  for (int i = 0; i < 8; ++i) {
    absl::SleepFor(absl::Milliseconds(100));
    EXPECT_TRUE(rig().coordinator().Terminate().ok());
    EXPECT_TRUE(rig().coordinator().Restart().ok());
  }
  stop = true;
  committing.join();
  EXPECT_TRUE(client_.Flush(absl::Seconds(20)));
  ASSERT_FALSE(gtrids.empty());
  for (const std::string& gtrid : gtrids) EXPECT_EQ(Global(gtrid).outcome(), v1::OUTCOME_COMMITTED) << gtrid;
}

}  // namespace
}  // namespace assent
