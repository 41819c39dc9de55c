// Transactions of a sole participant of which only one branch has written: committed in one phase, and on record
// afterwards.
#include <grpcpp/client_context.h>
#include <mariadb/mysql.h>
#include <sys/socket.h>

#include <thread>

#include "assent/v1/coordinator_service.grpc.pb.h"
#include "base/timestamp.h"
#include "base/xid.h"
#include "participant_sdk/cpp/sdk_test_rig.h"
#include "resource_manager/witness_table.h"
#include "tests/fixtures/private_mariadb.h"

namespace assent {
namespace {

using ::testing::HasSubstr;

constexpr char kRead[] = "SELECT balance FROM bank.accounts WHERE id = 3";

class OnePhaseTest : public SdkTest {
 protected:
  GlobalTransaction Begin(BeginOptions begin = {}) {
    begin.sole_participant = true;
    return MustBegin(&client_, begin);
  }
  // Takes one on the first server, and reads on the second.
  void Work(GlobalTransaction* transaction) {
    ASSERT_TRUE(MustOpen(transaction, kOrders, session(0))->Execute(Take(2)).ok());
    ASSERT_TRUE(MustOpen(transaction, kPayments, session(1))->Execute(kRead).ok());
  }
  int64_t Prepares() { return Counter(0, "Com_xa_prepare"); }
  static absl::Status GetGlobal(const std::string& gtrid) {
    return CoordinatorApi(rig().config().coordinator).GetGlobal(gtrid).status();
  }
  void ExpectRecord(const std::string& gtrid, v1::Outcome outcome) {
    const v1::Global global = Global(gtrid).global();
    EXPECT_EQ(Global(gtrid).outcome(), outcome) << global.DebugString();
    EXPECT_EQ(global.cause(), v1::DECISION_CAUSE_ONE_PHASE);
    ASSERT_GE(global.branches_size(), 1);
    EXPECT_TRUE(global.branches(0).one_phase());
    // Unless a sweep came before the report.
    if (global.branches_size() == 2) {
      EXPECT_EQ(global.branches(1).state(), v1::Branch::STATE_READ_ONLY);
    }
  }
  void Sweep() {
    grpc::ClientContext context;
    v1::RecoverResponse response;
    const grpc::Status status =
        CoordinatorApi(rig().config().coordinator).coordinator()->Recover(&context, {}, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  v1::ListInDoubtResponse InDoubt() {
    grpc::ClientContext context;
    v1::ListInDoubtResponse in_doubt;
    EXPECT_TRUE(CoordinatorApi(rig().config().coordinator).coordinator()->ListInDoubt(&context, {}, &in_doubt).ok());
    return in_doubt;
  }
  void AwaitNoWitness(const std::string& gtrid) {
    for (int i = 0; i < 1000 && Witnesses(0, gtrid) != 0; ++i) absl::SleepFor(absl::Milliseconds(10));
    EXPECT_EQ(Witnesses(0, gtrid), 0);
  }
  // Commits while the server cannot: `meanwhile` runs when its session waits for that.
  absl::Status CommitUnderReadLock(GlobalTransaction* transaction, const std::function<void()>& meanwhile) {
    Sql(0, "FLUSH TABLES WITH READ LOCK");
    socket_ = mysql_get_socket(session(0)->BorrowHandle());
    absl::Status told;
    std::thread committing([&] { told = transaction->Commit(); });
    AwaitState(0, *session(0), "Waiting for backup lock");
    meanwhile();
    Sql(0, "UNLOCK TABLES");
    committing.join();
    return told;
  }

  // Of the statement that is on its way; the server does not notice.
  void LoseAnswer() {
    ASSERT_EQ(shutdown(socket_, SHUT_RD), 0);
    absl::SleepFor(absl::Milliseconds(300));
  }

  Client client_ = NewClient();
  int socket_ = -1;  // Of session(0), while it commits on another thread.
};

TEST_F(OnePhaseTest, OneWriterIsCommittedInOnePhaseAndRecordedAfterwards) {
  {
    GlobalTransaction first = Begin();
    Work(&first);
    ASSERT_TRUE(first.Commit().ok());
  }
  ASSERT_TRUE(client_.Flush(absl::Seconds(10)));
  const int64_t prepares = Prepares(), calls = client_.calls_sent();
  GlobalTransaction transaction = Begin();
  Work(&transaction);
  const absl::Status told = transaction.Commit();
  ASSERT_TRUE(told.ok()) << told;
  EXPECT_EQ(transaction.outcome(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(Taken(2), 2);
  EXPECT_TRUE(transaction.Commit().ok()) << "repeated, it answers the same";
  EXPECT_EQ(ReasonOf(transaction.Rollback()), Reason::GLOBAL_COMMITTED);
  ASSERT_TRUE(client_.Flush(absl::Seconds(10)));
  EXPECT_EQ(Prepares(), prepares);
  EXPECT_EQ(client_.calls_sent() - calls, 1) << "only the report";
  ExpectRecord(transaction.gtrid(), v1::OUTCOME_COMMITTED);
  AwaitNoWitness(transaction.gtrid());
}

TEST_F(OnePhaseTest, TwoWritersOrTheOptionMeanTwoPhases) {
  for (const bool option : {true, false}) {
    const int64_t prepares = Prepares();
    BeginOptions begin;
    begin.one_phase_commit = option;
    GlobalTransaction transaction = Begin(begin);
    Work(&transaction);
    if (option) {
      ASSERT_TRUE(session(1)->Query(Take(3)).ok());
    }
    ASSERT_TRUE(transaction.Commit().ok());
    EXPECT_EQ(Prepares(), prepares + 1);
    EXPECT_EQ(Global(transaction.gtrid()).global().cause(), v1::DECISION_CAUSE_FINALIZE);
  }
  EXPECT_EQ(Taken(2), 2);
  EXPECT_EQ(Taken(3), 1);
}

TEST_F(OnePhaseTest, PastItsTimeoutItIsRolledBack) {
  BeginOptions begin;
  begin.timeout = absl::Milliseconds(300);
  GlobalTransaction transaction = Begin(begin);
  Work(&transaction);
  absl::SleepFor(absl::Milliseconds(400));
  EXPECT_TRUE(absl::IsAborted(transaction.Commit()));
  EXPECT_EQ(Global(transaction.gtrid()).global().cause(), v1::DECISION_CAUSE_DEADLINE);
  EXPECT_EQ(Taken(2), 0);
}

TEST_F(OnePhaseTest, TheCoordinatorNeedNotBeThere) {
  {
    GlobalTransaction first = Begin();
    Work(&first);
    ASSERT_TRUE(first.Commit().ok());
  }
  ASSERT_TRUE(client_.Flush(absl::Seconds(10)));
  GlobalTransaction transaction = Begin();
  Work(&transaction);
  rig().coordinator().Kill9();
  const absl::Status told = transaction.Commit();
  EXPECT_TRUE(told.ok()) << told;
  EXPECT_EQ(Taken(2), 2);
  ASSERT_TRUE(rig().coordinator().Restart().ok());
  ASSERT_TRUE(client_.Flush(absl::Seconds(20)));
  // By the report or, without the reader, by the sweep after the start.
  EXPECT_EQ(Global(transaction.gtrid()).outcome(), v1::OUTCOME_COMMITTED);
  EXPECT_TRUE(Global(transaction.gtrid()).global().branches(0).one_phase());
}

TEST_F(OnePhaseTest, AReaderThatIsLostRollsTheWriterBack) {
  GlobalTransaction transaction = Begin();
  Work(&transaction);
  // It has read under its own lock, so what the writer relied on may not hold any more: as with two phases.
  ASSERT_TRUE(session(1)->Query("SELECT balance FROM bank.accounts WHERE id = 5 LOCK IN SHARE MODE").ok());
  KillConnection(1, session(1));
  const absl::Status told = transaction.Commit();
  EXPECT_TRUE(absl::IsAborted(told)) << told;
  EXPECT_EQ(Taken(2), 0);
}

TEST_F(OnePhaseTest, AConnectionThatEndedBeforeItWasSentIsARollback) {
  GlobalTransaction transaction = Begin();
  Work(&transaction);
  KillConnection(0, session(0));
  const absl::Status told = transaction.Commit();
  EXPECT_TRUE(absl::IsAborted(told)) << told;
  EXPECT_EQ(transaction.outcome(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(Taken(2), 0);
}

TEST_F(OnePhaseTest, ALostAnswerIsAskedForAndMayMeanCommitted) {
  GlobalTransaction transaction = Begin();
  Work(&transaction);
  const absl::Status told = CommitUnderReadLock(&transaction, [this] { LoseAnswer(); });
  EXPECT_TRUE(told.ok()) << told;
  EXPECT_EQ(transaction.outcome(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(Taken(2), 1);
  ExpectRecord(transaction.gtrid(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(Global(transaction.gtrid()).global().branches(0).evidence_size(), 1);
  AwaitNoWitness(transaction.gtrid());
}

TEST_F(OnePhaseTest, ALostAnswerIsAskedForAndMayMeanRolledBack) {
  GlobalTransaction transaction = Begin();
  Work(&transaction);
  const absl::Status told = CommitUnderReadLock(&transaction, [this] { KillConnection(0, session(0)); });
  EXPECT_TRUE(absl::IsAborted(told)) << told;
  EXPECT_EQ(transaction.outcome(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(Taken(2), 0);
  ExpectRecord(transaction.gtrid(), v1::OUTCOME_ROLLED_BACK);
}

TEST_F(OnePhaseTest, ALostAnswerWithoutACoordinatorIsInDoubtUntilThereIsOne) {
  ClientOptions impatient;
  impatient.decision_patience = absl::Seconds(1);
  client_ = NewClient(impatient);
  GlobalTransaction transaction = Begin();
  Work(&transaction);
  const absl::Status told = CommitUnderReadLock(&transaction, [this] {
    rig().coordinator().Kill9();
    LoseAnswer();
  });
  EXPECT_EQ(ReasonOf(told), Reason::OUTCOME_IN_DOUBT) << told;
  EXPECT_THAT(std::string(told.message()), HasSubstr("the answer of its database was lost"));
  EXPECT_EQ(ReasonOf(transaction.Rollback()), Reason::OUTCOME_IN_DOUBT) << "nobody may roll it back any more";
  ASSERT_TRUE(rig().coordinator().Restart().ok());
  absl::Status again;
  for (int i = 0; i < 30; ++i) {
    again = transaction.Commit();
    if (again.ok()) break;
  }
  EXPECT_TRUE(again.ok()) << again;
  ExpectRecord(transaction.gtrid(), v1::OUTCOME_COMMITTED);
}

// As if the process had died: nobody reports.
TEST_F(OnePhaseTest, WhatNobodyReportsIsFoundByItsWitness) {
  const std::string gtrid = NewGtrid("bank", absl::Now());
  const Xid xid = {gtrid, "b1"};
  const auto own = Session(0);
  const WitnessTable witness = *WitnessTable::OfSchema("");
  ASSERT_TRUE(own->Start(xid, Take(2)).xa.ok());
  own->SendCommitOnePhase(xid, &witness);
  ASSERT_TRUE(own->Receive().ok());
  for (int i = 0; i < 3000 && !GetGlobal(gtrid).ok(); ++i) absl::SleepFor(absl::Milliseconds(10));
  AwaitOutcome(gtrid, v1::OUTCOME_COMMITTED);
  EXPECT_EQ(Global(gtrid).global().cause(), v1::DECISION_CAUSE_ONE_PHASE);
  AwaitNoWitness(gtrid);
}

// A witness of a prepared branch without a record proves nothing of the kind: a DBA may have committed an orphan.
TEST_F(OnePhaseTest, AnOrphanCommittedByHandIsNotTakenForOne) {
  const std::string gtrid = NewGtrid("bank", absl::Now());
  const Xid xid = {gtrid, "b1"};
  const auto own = Session(0);
  const WitnessTable witness = *WitnessTable::OfSchema("");
  ASSERT_TRUE(own->Start(xid, Take(2)).xa.ok());
  ASSERT_TRUE(own->Prepare(xid, &witness).ok());
  ASSERT_TRUE(own->Commit(xid).ok());
  Sweep();
  EXPECT_EQ(ReasonOf(GetGlobal(gtrid)), Reason::GLOBAL_NOT_FOUND);
  Sql(0, absl::StrCat("DELETE FROM assent.witness WHERE gtrid = '", gtrid, "'"));
}

// What is not on the server that answers under the resource's name now proves nothing of what is on the other one.
TEST_F(OnePhaseTest, AResourceThatMovesMeanwhileProvesNothing) {
  CoordinatorApi api(rig().config().coordinator);
  const auto get = [&api](const char* name) {
    grpc::ClientContext context;
    v1::GetResourceRequest request;
    v1::GetResourceResponse response;
    request.set_name(name);
    EXPECT_TRUE(api.resources()->GetResource(&context, request, &response).ok());
    return response.resource();
  };
  v1::RegisterResourceRequest back, away;
  back.set_replace(true);
  back.set_accept_server(true);
  *back.mutable_resource() = get(kOrders);
  away = back;
  const auto elsewhere = PrivateMariaDb::Start();
  ASSERT_TRUE(elsewhere.ok()) << elsewhere.status();
  away.mutable_resource()->set_address((*elsewhere)->unix_address());
  away.mutable_resource()->set_user((*elsewhere)->user());
  away.mutable_resource()->set_password_file((*elsewhere)->password_file());
  GlobalTransaction transaction = Begin();
  Work(&transaction);
  std::thread operator_at_work;
  const absl::Status told = CommitUnderReadLock(&transaction, [&] {
    ASSERT_TRUE(api.Register(away).ok());
    LoseAnswer();
    operator_at_work = std::thread([&] {
      absl::SleepFor(absl::Seconds(5));
      EXPECT_EQ(Global(transaction.gtrid()).outcome(), v1::OUTCOME_IN_DOUBT);
      EXPECT_TRUE(api.Register(back).ok());
    });
  });
  operator_at_work.join();
  EXPECT_TRUE(told.ok()) << told;
  EXPECT_EQ(Taken(2), 1);
}

// A report that had to wait does not make its branch look younger than a witness table that was made anew.
TEST_F(OnePhaseTest, AYoungerWitnessTableProvesNothingHoweverLateTheReport) {
  ClientOptions impatient;
  impatient.decision_patience = absl::Seconds(1);
  client_ = NewClient(impatient);
  GlobalTransaction transaction = Begin();
  Work(&transaction);
  absl::Status told = CommitUnderReadLock(&transaction, [this] {
    rig().coordinator().Kill9();
    LoseAnswer();
  });
  ASSERT_EQ(ReasonOf(told), Reason::OUTCOME_IN_DOUBT) << told;
  ASSERT_EQ(Taken(2), 1);
  Sql(0, "DELETE FROM assent.witness; INSERT INTO assent.witness (gtrid, bqual) VALUES ('', '')");
  absl::SleepFor(absl::Seconds(2));
  ASSERT_TRUE(rig().coordinator().Restart().ok());
  for (int i = 0; i < 4; ++i) told = transaction.Commit();
  EXPECT_EQ(ReasonOf(told), Reason::OUTCOME_IN_DOUBT) << told;
  EXPECT_EQ(transaction.outcome(), v1::OUTCOME_IN_DOUBT);
  // The backup is read back.
  Sql(0, absl::StrCat("INSERT INTO assent.witness (gtrid, bqual) VALUES ('", transaction.gtrid(), "', 'b1!')"));
  AwaitOutcome(transaction.gtrid(), v1::OUTCOME_COMMITTED);
}

TEST_F(OnePhaseTest, AReportThatHadToWaitIsAsOldAsItsTransaction) {
  GlobalTransaction transaction = Begin();
  const absl::Time begun = absl::Now();
  Work(&transaction);
  rig().coordinator().Kill9();
  ASSERT_TRUE(transaction.Commit().ok()) << "its database has";
  absl::SleepFor(absl::Seconds(3));
  ASSERT_TRUE(rig().coordinator().Restart().ok());
  for (int i = 0; i < 3000 && !GetGlobal(transaction.gtrid()).ok(); ++i) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_LT(GetTime(Global(transaction.gtrid()).global().create_time()), begun + absl::Seconds(1));
}

TEST_F(OnePhaseTest, AGtridOfOnesOwnMeansTwoPhases) {
  BeginOptions begin;
  begin.gtrid = NewGtrid("bank", absl::Now());
  {
    GlobalTransaction first = Begin(begin);
    Work(&first);
    ASSERT_TRUE(first.Rollback("the first try").ok());
  }
  // It must never be used again; who does it all the same is told so.
  GlobalTransaction second = Begin(begin);
  Work(&second);
  EXPECT_TRUE(absl::IsAborted(second.Commit()));
  EXPECT_EQ(Taken(2), 0);
}

// Of one phase, and of two: a server that crashed has brought the branch back, and somebody has committed it by hand.
TEST_F(OnePhaseTest, AWitnessAgainstItsRecordStaysAndIsAnAlarm) {
  for (const char* left : {"b1!", "b1"}) {
    GlobalTransaction transaction = Begin();
    Work(&transaction);
    ASSERT_TRUE(transaction.Rollback("no").ok());
    ASSERT_TRUE(client_.Flush(absl::Seconds(10)));
    AwaitOutcome(transaction.gtrid(), v1::OUTCOME_ROLLED_BACK);
    Sql(0,
        absl::StrCat("INSERT INTO assent.witness (gtrid, bqual) VALUES ('", transaction.gtrid(), "', '", left, "')"));
    // Those of two phases are looked at when the coordinator comes to the server, and every ten minutes.
    ASSERT_TRUE(rig().coordinator().Restart().ok());
    for (int i = 0; i < 1000 && InDoubt().branches_size() == 0; ++i) absl::SleepFor(absl::Milliseconds(10));
    for (int sweeps = 0; sweeps < 3; ++sweeps) {
      const v1::ListInDoubtResponse in_doubt = InDoubt();
      ASSERT_EQ(in_doubt.branches_size(), 1) << left << sweeps << in_doubt.DebugString();
      EXPECT_EQ(in_doubt.branches(0).gtrid(), transaction.gtrid());
      EXPECT_TRUE(in_doubt.branches(0).alarm());
      Sweep();
    }
    EXPECT_EQ(Witnesses(0, transaction.gtrid()), 1);
    Sql(0, absl::StrCat("DELETE FROM assent.witness WHERE gtrid = '", transaction.gtrid(), "'"));
  }
}

}  // namespace
}  // namespace assent
