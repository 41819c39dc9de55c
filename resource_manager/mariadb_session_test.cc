#include "resource_manager/mariadb_session.h"

#include <glog/logging.h>
#include <mariadb/mysql.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/test_server.h"

namespace assent {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Step = XaResult::Step;

class MariaDbSessionTest : public testing::Test {
 protected:
  MariaDbSessionTest() {
    session_ = MustConnect();
    other_ = MustConnect();
    MustQuery(
        other_.get(),
        "CREATE DATABASE IF NOT EXISTS t; USE t;"
        "DROP TABLE IF EXISTS a; CREATE TABLE a (id INT PRIMARY KEY, v INT) ENGINE=InnoDB;"
        "INSERT INTO a VALUES (1, 10), (2, 20);"
        "DROP TABLE IF EXISTS log; CREATE TABLE log (id INT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB;"
        "DROP TABLE IF EXISTS w; CREATE TABLE w (gtrid VARBINARY(64), bqual VARBINARY(64), PRIMARY KEY (gtrid, bqual)) "
        "ENGINE=InnoDB;");
    MustQuery(session_.get(), "USE t");
  }

  std::string Value(int id) { return One(other_.get(), absl::StrCat("SELECT v FROM a WHERE id = ", id)); }
  std::string Witnesses(const Xid& xid) {
    return One(other_.get(),
               absl::StrCat("SELECT COUNT(*) FROM w WHERE gtrid = '", xid.gtrid, "' AND bqual = '", xid.bqual, "'"));
  }

  std::unique_ptr<MariaDbSession> session_;
  std::unique_ptr<MariaDbSession> other_;
  const WitnessTable witness_ = *WitnessTable::Parse("t.w");
};

TEST_F(MariaDbSessionTest, PreparesAndCommitsWithWitness) {
  const Xid xid = NewXid();
  const StartResult start = session_->Start(xid, "UPDATE a SET v = v + 1 WHERE id = 1");
  ASSERT_TRUE(start.xa.ok()) << start.xa.error.message;
  EXPECT_EQ(start.xa.branch, BranchState::kActive);
  ASSERT_TRUE(start.first.has_value());
  EXPECT_TRUE(start.first->ok());
  EXPECT_EQ(start.first->affected_rows(), 1u);
  EXPECT_TRUE(session_->has_written());
  EXPECT_FALSE(session_->holds_branch());

  const XaResult prepared = session_->Prepare(xid, &witness_);
  ASSERT_TRUE(prepared.ok()) << prepared.error.message;
  EXPECT_EQ(prepared.branch, BranchState::kPrepared);
  EXPECT_EQ(prepared.failed_step, Step::kNone);
  EXPECT_EQ(session_->holds_branch(), !Detaches());
  EXPECT_EQ(session_->branch_xid(), xid);
  EXPECT_TRUE(IsListed(other_.get(), xid));
  EXPECT_EQ(Value(1), "10");
  EXPECT_EQ(Witnesses(xid), "0");

  ASSERT_TRUE(session_->Commit(xid).ok());
  EXPECT_EQ(session_->branch_state(), BranchState::kNone);
  EXPECT_FALSE(session_->holds_branch());
  EXPECT_EQ(Value(1), "11");
  EXPECT_EQ(Witnesses(xid), "1");
  EXPECT_FALSE(IsListed(other_.get(), xid));
}

TEST_F(MariaDbSessionTest, RollsBackInEveryState) {
  for (int stage = 0; stage < 3; ++stage) {
    const Xid xid = NewXid();
    ASSERT_TRUE(session_->Start(xid, "UPDATE a SET v = 99").xa.ok());
    if (stage == 1) {
      ASSERT_TRUE(session_->End(xid).ok());
      EXPECT_EQ(session_->branch_state(), BranchState::kEnded);
    }
    if (stage == 2) {
      ASSERT_TRUE(session_->Prepare(xid, &witness_).ok());
    }
    const XaResult rolled_back = session_->Rollback(xid);
    ASSERT_TRUE(rolled_back.ok()) << stage << " " << rolled_back.error.message;
    EXPECT_EQ(rolled_back.branch, BranchState::kNone);
    EXPECT_EQ(Value(1), "10");
    EXPECT_EQ(Witnesses(xid), "0");
  }
}

TEST_F(MariaDbSessionTest, CommitsInOnePhase) {
  const Xid xid = NewXid();
  ASSERT_TRUE(session_->Start(xid, "UPDATE a SET v = 77 WHERE id = 2").xa.ok());
  const XaResult committed = session_->CommitOnePhase(xid, &witness_);
  ASSERT_TRUE(committed.ok()) << committed.error.message;
  EXPECT_EQ(committed.branch, BranchState::kNone);
  EXPECT_EQ(Value(2), "77");
  EXPECT_EQ(Witnesses(WitnessOf(xid, /*one_phase=*/true)), "1");
  EXPECT_EQ(Witnesses(xid), "0") << "only what was prepared leaves that";
}

TEST_F(MariaDbSessionTest, OnePhaseNeedsRoomForTheMark) {
  for (const size_t bytes : {63u, 64u}) {
    Xid xid = NewXid();
    xid.bqual.resize(bytes, 'x');
    ASSERT_TRUE(session_->Start(xid, "UPDATE a SET v = 77 WHERE id = 2").xa.ok());
    const XaResult result = session_->CommitOnePhase(xid, &witness_);
    EXPECT_EQ(result.outcome, bytes == 63 ? XaOutcome::kOk : XaOutcome::kInvalid) << result.error.message;
    if (bytes == 64) {
      EXPECT_EQ(result.failed_step, Step::kRefused);
      ASSERT_TRUE(session_->Rollback(xid).ok());
    }
  }
}

TEST_F(MariaDbSessionTest, FirstStatementDoesNotRunIfStartFails) {
  MustQuery(session_.get(), "BEGIN");
  const StartResult start = session_->Start(NewXid(), "UPDATE a SET v = 99");
  EXPECT_EQ(start.xa.outcome, XaOutcome::kOutside);
  EXPECT_EQ(start.xa.failed_step, Step::kStart);
  EXPECT_EQ(start.xa.branch, BranchState::kNone);
  EXPECT_FALSE(start.first.has_value());
  MustQuery(session_.get(), "COMMIT");
  EXPECT_EQ(Value(1), "10");
}

TEST_F(MariaDbSessionTest, FirstStatementThatFailsLeavesTheBranchActive) {
  const Xid xid = NewXid();
  const StartResult start = session_->Start(xid, "INSERT INTO a VALUES (1, 1)");
  EXPECT_TRUE(start.xa.ok());
  EXPECT_EQ(start.xa.branch, BranchState::kActive);
  ASSERT_TRUE(start.first.has_value());
  EXPECT_EQ(start.first->error.code, 1062);
  EXPECT_EQ(start.first->error.sqlstate, "23000");
  EXPECT_TRUE(session_->Rollback(xid).ok());
}

TEST_F(MariaDbSessionTest, QueryKeepsRowsNullsBytesAndSeveralResults) {
  const QueryResult result = session_->Query(
      "SELECT id, NULL AS n, X'00ff00' AS raw FROM a ORDER BY id; UPDATE a SET v = 5; SELECT 'last' AS l");
  ASSERT_TRUE(result.ok()) << result.error.message;
  ASSERT_EQ(result.results.size(), 3u);
  EXPECT_THAT(result.results[0].columns, testing::ElementsAre("id", "n", "raw"));
  ASSERT_EQ(result.rows().size(), 2u);
  EXPECT_EQ(result.rows()[1][0], std::string("2"));
  EXPECT_EQ(result.rows()[1][1], absl::nullopt);
  EXPECT_EQ(result.rows()[1][2], std::string("\0\xff\0", 3));
  EXPECT_EQ(result.affected_rows(), 2u);
  EXPECT_EQ(*result.results[2].rows[0][0], "last");
  const QueryResult insert = session_->Query("INSERT INTO log VALUES (NULL), (NULL)");
  EXPECT_EQ(insert.affected_rows(), 2u);
  EXPECT_EQ(insert.results[0].last_insert_id, 1u);
}

TEST_F(MariaDbSessionTest, QueryStopsAtTheFirstErrorAndStaysUsable) {
  const QueryResult result = session_->Query("SELECT 1; SELECT nonsense; UPDATE a SET v = 99");
  EXPECT_EQ(result.error.code, 1054);
  EXPECT_EQ(result.error.sqlstate, "42S22");
  EXPECT_THAT(result.error.message, HasSubstr("nonsense"));
  EXPECT_EQ(result.results.size(), 1u);
  EXPECT_EQ(Value(1), "10");
  EXPECT_EQ(One(session_.get(), "SELECT 7"), "7");
}

TEST_F(MariaDbSessionTest, BatchThatFailsSaysWhichStepAndStaysUsable) {
  // The witness table does not exist.
  const WitnessTable missing = *WitnessTable::Parse("t.missing");
  const Xid xid = NewXid();
  ASSERT_TRUE(session_->Start(xid, "UPDATE a SET v = 99").xa.ok());
  XaResult result = session_->Prepare(xid, &missing);
  EXPECT_EQ(result.failed_step, Step::kWitness);
  EXPECT_EQ(result.outcome, XaOutcome::kError);
  EXPECT_EQ(result.error.code, 1146);
  EXPECT_EQ(result.branch, BranchState::kActive);
  EXPECT_FALSE(session_->holds_branch());
  // The branch is ended behind the session's back: the batch fails at END.
  ASSERT_TRUE(session_->Query(absl::StrCat("XA END ", XidSqlLiteral(xid))).ok());
  result = session_->Prepare(xid, nullptr);
  EXPECT_EQ(result.failed_step, Step::kEnd);
  EXPECT_EQ(result.outcome, XaOutcome::kWrongState);
  EXPECT_EQ(result.error.code, 1399);
  EXPECT_TRUE(session_->Rollback(xid).ok());
  EXPECT_EQ(session_->branch_state(), BranchState::kNone);
  // No branch at all: PREPARE itself fails.
  result = session_->Prepare(xid, nullptr);
  EXPECT_EQ(result.failed_step, Step::kPrepare);
  EXPECT_EQ(result.branch, BranchState::kNone);
  EXPECT_EQ(One(session_.get(), "SELECT v FROM a WHERE id = 1"), "10");
}

// A witness outside of its branch would be a lie that is committed at once.
TEST_F(MariaDbSessionTest, WitnessIsNeverLeftOutsideOfItsBranch) {
  const Xid xid = NewXid();
  EXPECT_EQ(session_->Prepare(xid, &witness_).failed_step, Step::kRefused);
  EXPECT_EQ(session_->CommitOnePhase(xid, &witness_).outcome, XaOutcome::kWrongState);
  ASSERT_TRUE(session_->Start(xid).xa.ok());
  const Xid stranger = NewXid();
  EXPECT_EQ(session_->Prepare(stranger, &witness_).failed_step, Step::kRefused);
  // The application finishes the branch itself, which it must not.
  MustQuery(session_.get(), absl::StrCat("XA END ", XidSqlLiteral(xid), "; XA ROLLBACK ", XidSqlLiteral(xid)));
  EXPECT_EQ(session_->Prepare(xid, &witness_).failed_step, Step::kRefused);
  EXPECT_EQ(Witnesses(xid), "0");
  EXPECT_EQ(Witnesses(stranger), "0");
}

TEST_F(MariaDbSessionTest, RefusesBadIdsBeforeAnythingIsSent) {
  const std::string longest(64, 'x');
  EXPECT_TRUE(session_->Start(Xid{longest, longest}).xa.ok());
  EXPECT_TRUE(session_->Rollback(Xid{longest, longest}).ok());
  for (const Xid& xid : {Xid{"", "b"}, Xid{"g", ""}, Xid{longest + "x", "b"}, Xid{"g", longest + "x"}, Xid{"g'", "b"},
                         Xid{std::string("g\0", 2), "b"}}) {
    const StartResult start = session_->Start(xid, "UPDATE a SET v = 99");
    EXPECT_EQ(start.xa.outcome, XaOutcome::kInvalid);
    EXPECT_EQ(start.xa.failed_step, Step::kRefused);
    EXPECT_FALSE(start.first.has_value());
    for (const XaResult& result :
         {session_->End(xid), session_->Prepare(xid, nullptr), session_->CommitOnePhase(xid, nullptr),
          session_->Commit(xid), session_->Rollback(xid)}) {
      EXPECT_EQ(result.outcome, XaOutcome::kInvalid);
      EXPECT_EQ(result.failed_step, Step::kRefused);
    }
  }
  EXPECT_EQ(Value(1), "10");
}

TEST_F(MariaDbSessionTest, CloseIsRefusedWhileABranchIsHeld) {
  const Xid xid = NewXid();
  ASSERT_TRUE(session_->Start(xid, "UPDATE a SET v = 55 WHERE id = 1").xa.ok());
  ASSERT_NE(session_->BorrowHandle(), nullptr);
  session_->SendPrepare(xid, &witness_);
  EXPECT_TRUE(session_->holds_branch());
  EXPECT_EQ(session_->BorrowHandle(), nullptr);
  EXPECT_EQ(ReasonOf(session_->Close()), Reason::SESSION_HOLDS_BRANCH);
  ASSERT_TRUE(session_->Receive().ok());
  // A branch that PREPARE has let go of is not held.
  EXPECT_EQ(session_->holds_branch(), !Detaches());
  if (!Detaches()) {
    EXPECT_EQ(ReasonOf(session_->Close()), Reason::SESSION_HOLDS_BRANCH);
  }
  EXPECT_EQ(session_->BorrowHandle(), nullptr);
  ASSERT_TRUE(session_->Commit(xid).ok());
  EXPECT_TRUE(session_->Close().ok());
  EXPECT_TRUE(session_->lost());
  EXPECT_EQ(session_->Query("SELECT 1").error.code, 2013);
  EXPECT_EQ(session_->Commit(xid).outcome, XaOutcome::kConnectionLost);
  EXPECT_EQ(session_->Start(xid).xa.outcome, XaOutcome::kConnectionLost);
  EXPECT_TRUE(session_->MayHaveWritten());
}

TEST_F(MariaDbSessionTest, AbandonedBranchIsDetachedAndCanBeFinishedElsewhere) {
  const Xid xid = NewXid();
  ASSERT_TRUE(session_->Start(xid, "UPDATE a SET v = 56 WHERE id = 1").xa.ok());
  ASSERT_TRUE(session_->Prepare(xid, &witness_).ok());
  const std::string id = absl::StrCat(session_->connection_id());
  session_->Abandon();
  EXPECT_EQ(session_->branch_state(), BranchState::kUnknown);
  EXPECT_FALSE(session_->holds_branch());
  // Long enough for the server to let go of it on an idle machine; what a coordinator has to do is another matter.
  for (int i = 0;
       i < 500 && One(other_.get(), "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = " + id) != "0";
       ++i) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  absl::SleepFor(absl::Milliseconds(200));
  EXPECT_TRUE(IsListed(other_.get(), xid));
  EXPECT_TRUE(other_->Commit(xid).ok());
  EXPECT_EQ(Value(1), "56");
  EXPECT_EQ(Witnesses(xid), "1");
}

TEST_F(MariaDbSessionTest, SaysWhetherPrepareLetsGoOfTheBranch) {
  EXPECT_EQ(session_->is_mysql(), OnMySql());
  EXPECT_EQ(session_->detaches(), Detaches());
  const Xid xid = NewXid();
  ASSERT_TRUE(session_->Start(xid, "UPDATE a SET v = v + 1 WHERE id = 1").xa.ok());
  EXPECT_FALSE(session_->Describe().detached()) << "it is not prepared yet";
  ASSERT_TRUE(session_->Prepare(xid, &witness_).ok());
  EXPECT_EQ(session_->Describe().detached(), Detaches());
  EXPECT_EQ(session_->Describe().connection_id(), static_cast<int64_t>(session_->connection_id()));
  // Said and done: another session can finish it while this one is there, or it cannot.
  EXPECT_EQ(other_->Commit(xid).outcome, Detaches() ? XaOutcome::kOk : XaOutcome::kUnknownXid);
  EXPECT_EQ(session_->Commit(xid).outcome, Detaches() ? XaOutcome::kUnknownXid : XaOutcome::kOk);
  EXPECT_EQ(Value(1), "11");
}

// What the application does to its session between two branches is seen, and costs no round trip.
TEST_F(MariaDbSessionTest, SeesThatTheApplicationChangedWhetherPrepareLetsGo) {
  if (!OnMySql()) GTEST_SKIP() << "MariaDB always holds its branches";
  for (const bool on : {false, true, false}) {
    MustQuery(session_.get(), absl::StrCat("SET SESSION xa_detach_on_prepare = ", on ? "ON" : "OFF"));
    const Xid xid = NewXid();
    ASSERT_TRUE(session_->Start(xid, "UPDATE a SET v = v + 1 WHERE id = 1").xa.ok());
    // It cannot be changed any more.
    EXPECT_EQ(session_->Query("SET SESSION xa_detach_on_prepare = ON").error.code, 1766);
    const int64_t before = session_->round_trips();
    ASSERT_TRUE(session_->Prepare(xid, &witness_).ok());
    EXPECT_EQ(session_->round_trips(), before + 1);
    EXPECT_EQ(session_->detaches(), on);
    EXPECT_EQ(session_->Describe().detached(), on);
    EXPECT_EQ(session_->holds_branch(), !on);
    EXPECT_EQ(other_->Commit(xid).outcome, on ? XaOutcome::kOk : XaOutcome::kUnknownXid);
    if (!on) {
      EXPECT_TRUE(session_->Commit(xid).ok());
    }
  }
  EXPECT_EQ(Value(1), "13");
}

// A session that PREPARE has made free may be given back to a pool, reset, and used again; the branch is not its any
// more.
TEST_F(MariaDbSessionTest, FreeSessionCanBeResetAndUsedAgain) {
  if (!Detaches()) GTEST_SKIP() << "the session holds the branch";
  MYSQL* const handle = mysql_init(nullptr);
  ASSERT_NE(mysql_real_connect(handle, nullptr, "root", SharedServer().password().c_str(), "t", 0,
                               SharedServer().socket().c_str(), 0),
            nullptr);
  auto session = *MariaDbSession::Adopt(handle);
  const Xid first = NewXid();
  ASSERT_TRUE(session->Start(first, "UPDATE a SET v = v + 1 WHERE id = 1").xa.ok());
  ASSERT_TRUE(session->Prepare(first, &witness_).ok());
  ASSERT_EQ(mysql_reset_connection(handle), 0);
  EXPECT_FALSE(session->was_reset());
  EXPECT_TRUE(session->Describe().detached());
  // The next branch on it, while the first is still prepared.
  const Xid second = NewXid();
  ASSERT_TRUE(session->Start(second, "UPDATE t.a SET v = v + 1 WHERE id = 2").xa.ok());
  EXPECT_EQ(session->branch_xid(), second);
  ASSERT_TRUE(session->Prepare(second, &witness_).ok());
  EXPECT_TRUE(IsListed(other_.get(), first));
  EXPECT_TRUE(session->Commit(second).ok());
  EXPECT_TRUE(session->Commit(first).ok());
  EXPECT_EQ(Value(1), "11");
  EXPECT_EQ(Value(2), "21");
  session.reset();
  mysql_close(handle);
}

// A statement outside of a branch would open a transaction there, in which none can start.
TEST(AutocommitTest, IsOnInSessionsOfOurOwnAndLeftAloneInOthers) {
  PrivateMariaDb::Options options;
  options.extra = {"--autocommit=0", "--completion-type=CHAIN"};
  auto server = StartServer(options);
  ASSERT_TRUE(server.ok()) << server.status();
  auto session = MustConnect(**server);
  MustQuery(session.get(), "CREATE DATABASE own; CREATE TABLE own.t (i INT PRIMARY KEY)");
  MustQuery(session.get(), "INSERT INTO own.t VALUES (1)");
  EXPECT_EQ(One(session.get(), "SELECT COUNT(*) FROM own.t"), "1");
  MustQuery(session.get(), "START TRANSACTION; INSERT INTO own.t VALUES (2); COMMIT");
  const Xid xid = NewXid();
  ASSERT_TRUE(session->Start(xid, "INSERT INTO own.t VALUES (3)").xa.ok());
  ASSERT_TRUE(session->CommitOnePhase(xid, nullptr).ok());
  auto other = MustConnect(**server);
  EXPECT_EQ(One(other.get(), "SELECT COUNT(*) FROM own.t"), "3");

  MYSQL* const handle = mysql_init(nullptr);
  ASSERT_NE(mysql_real_connect(handle, nullptr, "root", (*server)->password().c_str(), nullptr, 0,
                               (*server)->socket().c_str(), 0),
            nullptr);
  {
    auto lent = MariaDbSession::Adopt(handle);
    ASSERT_TRUE(lent.ok()) << lent.status();
    EXPECT_EQ(One(lent->get(), "SELECT CONCAT(@@autocommit + 0, @@completion_type)"), "0CHAIN");
  }
  mysql_close(handle);
}

TEST_F(MariaDbSessionTest, AdoptsAConnectionAndLeavesItOpen) {
  MYSQL* const handle = mysql_init(nullptr);
  ASSERT_NE(mysql_real_connect(handle, nullptr, "root", SharedServer().password().c_str(), "t", 0,
                               SharedServer().socket().c_str(), 0),
            nullptr);
  {
    auto session = MariaDbSession::Adopt(handle);
    ASSERT_TRUE(session.ok()) << session.status();
    EXPECT_EQ((*session)->connection_id(), mysql_thread_id(handle));
    const Xid xid = NewXid();
    ASSERT_TRUE((*session)->Start(xid, "UPDATE a SET v = 42 WHERE id = 2").xa.ok());
    EXPECT_TRUE((*session)->has_written());
    ASSERT_TRUE((*session)->Prepare(xid, &witness_).ok());
    ASSERT_TRUE((*session)->Commit(xid).ok());
    EXPECT_TRUE((*session)->Close().ok());
  }
  EXPECT_EQ(mysql_query(handle, "SELECT v FROM a WHERE id = 2"), 0);
  mysql_free_result(mysql_store_result(handle));
  mysql_close(handle);
  EXPECT_EQ(Value(2), "42");
}

TEST_F(MariaDbSessionTest, BothPhasesRunOnAllSessionsAtOnce) {
  constexpr int kBranches = 8;
  std::vector<std::unique_ptr<MariaDbSession>> sessions;
  std::vector<BranchSession*> waiting;
  const std::string gtrid = NewGtrid("test", absl::Now());
  for (int i = 0; i < kBranches; ++i) {
    sessions.push_back(MustConnect());
    const Xid xid{gtrid, absl::StrCat("p", i)};
    ASSERT_TRUE(sessions[i]->Start(xid, absl::StrCat("INSERT INTO t.a VALUES (", 100 + i, ", 1)")).xa.ok());
    sessions[i]->SendQuery("DO SLEEP(0.3)");
    waiting.push_back(sessions[i].get());
  }
  const absl::Time start = absl::Now();
  while (!waiting.empty()) {
    for (BranchSession* ready : BranchSession::WaitAny(waiting, absl::Seconds(10))) {
      EXPECT_TRUE(ready->ReceiveQuery().ok());
      waiting.erase(std::find(waiting.begin(), waiting.end(), ready));
    }
  }
  EXPECT_LT(absl::Now() - start, absl::Seconds(2));  // In sequence: 2.4 s.
  for (auto& s : sessions) s->SendPrepare(s->branch_xid(), &witness_);
  for (auto& s : sessions) EXPECT_TRUE(s->Receive().ok());
  for (auto& s : sessions) s->SendCommit(s->branch_xid());
  for (auto& s : sessions) EXPECT_TRUE(s->Receive().ok());
  EXPECT_EQ(One(other_.get(), "SELECT COUNT(*) FROM a WHERE id >= 100"), absl::StrCat(kBranches));
  EXPECT_EQ(One(other_.get(), absl::StrCat("SELECT COUNT(*) FROM w WHERE gtrid = '", gtrid, "'")),
            absl::StrCat(kBranches));
}

TEST_F(MariaDbSessionTest, WaitAnyReturnsAfterTheTimeout) {
  session_->SendQuery("DO SLEEP(0.5)");
  const absl::Time start = absl::Now();
  EXPECT_TRUE(BranchSession::WaitAny({session_.get()}, absl::Milliseconds(50)).empty());
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(50));
  EXPECT_LT(absl::Now() - start, absl::Milliseconds(400));
  // A session with nothing on the wire does not block.
  EXPECT_THAT(BranchSession::WaitAny({session_.get(), other_.get()}, absl::Seconds(5)),
              testing::ElementsAre(other_.get()));
  EXPECT_THAT(BranchSession::WaitAny({session_.get()}, absl::Seconds(5)), testing::ElementsAre(session_.get()));
  EXPECT_TRUE(session_->ReceiveQuery().ok());
}

TEST_F(MariaDbSessionTest, DeadServerDoesNotHoldUpTheOthers) {
  auto started = StartServer();
  ASSERT_TRUE(started.ok()) << started.status();
  PrivateMariaDb& mortal = **started;
  ConnectOptions options = ConnectOptionsFor(mortal);
  options.read_timeout = absl::Seconds(1);
  auto dying = MustConnect(options);
  MustQuery(dying.get(), "CREATE DATABASE t; USE t; CREATE TABLE a (id INT PRIMARY KEY)");
  const Xid xid = NewXid();
  ASSERT_TRUE(session_->Start(xid, "UPDATE a SET v = 66 WHERE id = 1").xa.ok());
  ASSERT_TRUE(dying->Start(xid, "INSERT INTO a VALUES (1)").xa.ok());
  ASSERT_TRUE(session_->Prepare(xid, nullptr).ok());
  ASSERT_TRUE(dying->Prepare(xid, nullptr).ok());
  mortal.Suspend();
  const absl::Time start = absl::Now();
  dying->SendCommit(xid);
  session_->SendCommit(xid);
  ASSERT_THAT(BranchSession::WaitAny({dying.get(), session_.get()}, absl::Seconds(10)),
              testing::ElementsAre(session_.get()));
  EXPECT_TRUE(session_->Receive().ok());
  EXPECT_LT(absl::Now() - start, absl::Milliseconds(800));
  const XaResult lost = dying->Receive();
  EXPECT_EQ(lost.outcome, XaOutcome::kConnectionLost);
  EXPECT_EQ(lost.branch, BranchState::kUnknown);
  EXPECT_TRUE(dying->lost());
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
  mortal.Kill9();
  ASSERT_TRUE(mortal.Restart().ok());
  // The server never saw the COMMIT, or did: both are possible, and only looking tells.
  auto later = MustConnect(mortal);
  const std::string committed = One(later.get(), "SELECT COUNT(*) FROM t.a");
  EXPECT_EQ(committed, IsListed(later.get(), xid) ? "0" : "1");
  if (committed == "0") {
    EXPECT_TRUE(later->Commit(xid).ok());
  }
}

TEST_F(MariaDbSessionTest, RecoverReadsAnybodysRawBytes) {
  auto stranger = MustConnect();
  MustQuery(stranger.get(),
            "XA START X'00ff27',X'c328',7; INSERT INTO t.log VALUES (NULL); XA END X'00ff27',X'c328',7; "
            "XA PREPARE X'00ff27',X'c328',7");
  const auto xids = session_->Recover();
  ASSERT_TRUE(xids.ok()) << xids.status();
  ASSERT_EQ(xids->size(), 1u);
  EXPECT_EQ((*xids)[0].format_id, 7);
  EXPECT_EQ((*xids)[0].gtrid, std::string("\0\xff'", 3));
  EXPECT_EQ((*xids)[0].bqual, "\xc3(");
  MustQuery(stranger.get(), "XA ROLLBACK X'00ff27',X'c328',7");
  EXPECT_TRUE(session_->Recover()->empty());
}

TEST_F(MariaDbSessionTest, IdentityTellsARestart) {
  auto started = StartServer();
  ASSERT_TRUE(started.ok()) << started.status();
  const auto before = MustConnect(**started)->Identity();
  ASSERT_TRUE(before.ok()) << before.status();
  EXPECT_THAT(before->name, HasSubstr(absl::StrCat(":", (*started)->port())));
  EXPECT_EQ(absl::StrContains(before->version, "MariaDB"), !OnMySql()) << before->version;
  EXPECT_LT(absl::AbsDuration(before->start_time - absl::Now()), absl::Minutes(1));
  absl::SleepFor(absl::Milliseconds(2100));
  ASSERT_TRUE((*started)->Restart().ok());
  const auto after = MustConnect(**started)->Identity();
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(after->name, before->name);
  EXPECT_GT(after->start_time, before->start_time);
}

TEST(ConnectTest, FailuresHaveReasonsAndNoPassword) {
  ConnectOptions options = ConnectOptionsFor(SharedServer());
  options.password = "not-the-secret";
  auto session = MariaDbSession::Connect(options);
  EXPECT_EQ(ReasonOf(session.status()), Reason::DATABASE_ERROR);
  EXPECT_EQ(MetadataOf(session.status())["error_code"], "1045");
  EXPECT_THAT(session.status().ToString(), testing::Not(HasSubstr("not-the-secret")));
  options.address.socket = "/nonexistent/socket";
  EXPECT_EQ(ReasonOf(MariaDbSession::Connect(options).status()), Reason::DATABASE_UNREACHABLE);
  options.address = Address{"127.0.0.1", 1, ""};
  EXPECT_EQ(ReasonOf(MariaDbSession::Connect(options).status()), Reason::DATABASE_UNREACHABLE);
}

TEST(ConnectTest, TcpToLocalhostIsTcp) {
  ConnectOptions options = ConnectOptionsFor(SharedServer());
  options.address = Address{"localhost", SharedServer().port(), ""};
  auto session = MustConnect(options);
  EXPECT_THAT(One(session.get(), "SELECT HOST FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()"),
              HasSubstr("127.0.0.1:"));
  EXPECT_EQ(One(session.get(), "SELECT @@lock_wait_timeout"), "50");
}

TEST(ConnectTest, SuspendedServerIsUnreachableInTime) {
  auto started = StartServer();
  ASSERT_TRUE(started.ok()) << started.status();
  (*started)->Suspend();
  ConnectOptions options = ConnectOptionsFor(**started);
  options.connect_timeout = absl::Seconds(1);
  const absl::Time start = absl::Now();
  EXPECT_EQ(ReasonOf(MariaDbSession::Connect(options).status()), Reason::DATABASE_UNREACHABLE);
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
}

TEST(SessionDeathTest, AnswersMustBeReceivedInOrder) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  auto session = MustConnect();
  session->SendQuery("SELECT 1");
  EXPECT_DEATH(session->SendQuery("SELECT 2"), "was not received");
  EXPECT_DEATH(session->Receive(), "no such answer is due");
  EXPECT_TRUE(session->ReceiveQuery().ok());
}

// Poses as a server that wants the password by `plugin`; answers what the client said to that.
class FakeServer {
 public:
  explicit FakeServer(std::string plugin) : plugin_(std::move(plugin)), listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    CHECK_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    CHECK_EQ(listen(listener_, 1), 0);
    CHECK_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Serve(); });
  }
  ~FakeServer() { Heard(); }
  int port() const { return port_; }
  // All bytes that the client sent until it went away.
  const std::string& Heard() {
    if (thread_.joinable()) thread_.join();
    return heard_;
  }

 private:
  static std::string Packet(char sequence, const std::string& body) {
    return std::string{static_cast<char>(body.size()), '\0', '\0', sequence} + body;
  }
  void Serve() {
    const int fd = accept(listener_, nullptr, nullptr);
    close(listener_);
    const std::string zero(1, '\0');
    // Protocol 10; CLIENT_PROTOCOL_41, SECURE_CONNECTION, MULTI_STATEMENTS and PLUGIN_AUTH; a salt of 8 + 12 bytes.
    const std::string hello =
        "\x0a"
        "5.5.5-10.11.6-MariaDB" +
        zero + std::string(4, '\1') + "saltsalt" + zero +
        "\xff\xf7"
        "\x08" +
        std::string{2, '\0'} +
        "\x0f\x80"
        "\x15" +
        std::string(10, '\0') + "saltsaltsalt" + zero + "mysql_native_password" + zero;
    Say(fd, Packet(0, hello));
    Hear(fd);
    Say(fd, Packet(2, "\xfe" + plugin_ + zero + "saltsaltsaltsaltsalt" + zero));
    while (Hear(fd)) {
    }
    close(fd);
  }
  static void Say(int fd, const std::string& bytes) { send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  bool Hear(int fd) {
    pollfd wait = {fd, POLLIN, 0};
    char bytes[4096];
    const ssize_t size = poll(&wait, 1, 3000) == 1 ? recv(fd, bytes, sizeof(bytes), 0) : 0;
    if (size > 0) heard_.append(bytes, static_cast<size_t>(size));
    return size > 0;
  }

  const std::string plugin_;
  const int listener_;
  int port_ = 0;
  std::string heard_;
  std::thread thread_;
};

// What connecting to a server said that wants the password by `plugin`, and what that heard.
struct Refusal {
  std::string message;
  std::string heard;
};
Refusal ConnectTo(const std::string& plugin, const std::string& host) {
  FakeServer server(plugin);
  ConnectOptions options;
  options.address.host = host;
  options.address.port = server.port();
  options.user = "teller";
  options.password = "open sesame";
  options.connect_timeout = absl::Seconds(5);
  options.read_timeout = absl::Seconds(5);
  const absl::Status status = MariaDbSession::Connect(options).status();
  return Refusal{std::string(status.message()), server.Heard()};
}

TEST(AuthenticationTest, NoServerGetsThePasswordInClear) {
  for (const char* plugin : {"mysql_clear_password", "dialog", "sha256_password"}) {
    const Refusal refusal = ConnectTo(plugin, "127.0.0.1");
    EXPECT_THAT(refusal.message, HasSubstr("restricted_auth plugin list")) << plugin;
    EXPECT_THAT(refusal.heard, AllOf(HasSubstr("teller"), Not(HasSubstr("open sesame")))) << plugin;
  }
}

// The client would seal the password with any key that it is sent.
TEST(AuthenticationTest, CachingSha2IsOnlyForServersThatNobodyCanPoseAs) {
  // To the kernel this is the loopback interface, to the rule it is an address like any other.
  const Refusal far = ConnectTo("caching_sha2_password", "0.0.0.0");
  EXPECT_THAT(far.message, AllOf(HasSubstr("connect with TLS that verifies"), HasSubstr("loopback")));
  EXPECT_THAT(far.heard, AllOf(HasSubstr("teller"), Not(HasSubstr("open sesame"))));
  for (const char* host : {"127.0.0.1", "localhost"}) {
    const Refusal near = ConnectTo("caching_sha2_password", host);
    EXPECT_FALSE(near.message.empty());  // The fake server does not go on.
    EXPECT_THAT(near.message, Not(HasSubstr("restricted_auth"))) << host;
    EXPECT_THAT(near.heard, Not(HasSubstr("open sesame"))) << host;
  }
}

// The name is the one that servers use (the shared server has no such accounts, and its logins are native).
TEST(AuthenticationTest, Ed25519IsAllowed) {
  const Refusal refusal = ConnectTo("client_ed25519", "127.0.0.1");
  EXPECT_FALSE(refusal.message.empty());  // The fake server does not go on.
  EXPECT_THAT(refusal.message, Not(HasSubstr("restricted_auth")));
  EXPECT_THAT(refusal.heard, Not(HasSubstr("open sesame")));
}

}  // namespace
}  // namespace assent
