// What a real MariaDB server answers in every awkward case, and what the session makes of it. These are the facts the
// coordinator's reasoning rests on: if a newer server answers otherwise, this is where it shows. And what MySQL answers
// where its sessions hold their branches.
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "gtest/gtest.h"
#include "resource_manager/mariadb_session.h"
#include "resource_manager/test_server.h"

namespace assent {
namespace {

using Step = XaResult::Step;

// How long the server may take to do what it does after a connection is gone.
constexpr absl::Duration kPatience = absl::Seconds(10);
constexpr absl::Duration kPoll = absl::Milliseconds(5);

class MariaDbErrorsTest : public testing::Test {
 protected:
  explicit MariaDbErrorsTest(PrivateMariaDb* server = &SharedServer()) : server_(server) {
    a_ = Connect();
    b_ = Connect();
    MustQuery(
        b_.get(),
        "CREATE DATABASE IF NOT EXISTS e; USE e;"
        "DROP TABLE IF EXISTS t; CREATE TABLE t (id INT PRIMARY KEY, v INT) ENGINE=InnoDB;"
        "INSERT INTO t VALUES (1, 10), (2, 20), (3, 30);"
        "DROP TABLE IF EXISTS w; CREATE TABLE w (gtrid VARBINARY(64), bqual VARBINARY(64), PRIMARY KEY (gtrid, bqual)) "
        "ENGINE=InnoDB");
    MustQuery(a_.get(), "USE e");
  }

  std::unique_ptr<MariaDbSession> Connect(absl::Duration lock_wait_timeout = absl::Seconds(1)) {
    ConnectOptions options = ConnectOptionsFor(*server_);
    options.lock_wait_timeout = lock_wait_timeout;
    return MustConnect(options);
  }

  // A prepared branch on `session` that has written.
  Xid Prepared(MariaDbSession* session, int id = 1) {
    const Xid xid = NewXid();
    EXPECT_TRUE(session->Start(xid, absl::StrCat("UPDATE e.t SET v = v + 1 WHERE id = ", id)).first->ok());
    const XaResult result = session->Prepare(xid, nullptr);
    EXPECT_TRUE(result.ok()) << result.error.message;
    return xid;
  }

  // Ends a session that holds a branch, and waits until the server has certainly let go of it.
  void Detach(std::unique_ptr<MariaDbSession>* session, MariaDbSession* observer) {
    const std::string id = absl::StrCat((*session)->connection_id());
    (*session)->Abandon();
    session->reset();
    WaitUntilGone(observer, id);
  }

  void WaitUntilGone(MariaDbSession* observer, const std::string& id) {
    for (int quiet = 0; quiet < 3;) {
      const bool listed = One(observer, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = " + id) != "0";
      const std::string status = *MustQuery(observer, "SHOW ENGINE INNODB STATUS").rows()[0][2];
      quiet = listed || status.find(absl::StrCat("thread id ", id, ",")) != std::string::npos ? 0 : quiet + 1;
      absl::SleepFor(kPoll);
    }
  }

  std::string Value(int id) { return One(b_.get(), absl::StrCat("SELECT v FROM e.t WHERE id = ", id)); }

  PrivateMariaDb* const server_;
  std::unique_ptr<MariaDbSession> a_;
  std::unique_ptr<MariaDbSession> b_;
  const WitnessTable witness_ = *WitnessTable::Parse("e.w");
};

// The reason why a held branch is finished by its own session, and why 1397 on COMMIT proves nothing.
TEST_F(MariaDbErrorsTest, ForeignFinishOfAHeldBranchIsUnknownXid) {
  const Xid xid = Prepared(a_.get());
  EXPECT_TRUE(IsListed(b_.get(), xid));
  EXPECT_EQ(b_->Commit(xid).outcome, XaOutcome::kUnknownXid);
  EXPECT_EQ(b_->Rollback(xid).outcome, XaOutcome::kUnknownXid);
  ASSERT_TRUE(a_->Commit(xid).ok());
  EXPECT_EQ(Value(1), "11");
}

TEST_F(MariaDbErrorsTest, PreparedSessionRefusesOtherWork) {
  const Xid xid = Prepared(a_.get());
  for (const char* sql : {"UPDATE e.t SET v = 0 WHERE id = 2", "SELECT * FROM e.t", "BEGIN", "COMMIT", "ROLLBACK",
                          "CREATE TABLE e.x (id INT)"}) {
    const QueryResult result = a_->Query(sql);
    EXPECT_EQ(result.error.code, 1399) << sql;
    EXPECT_EQ(result.error.sqlstate, "XAE07") << sql;
  }
  EXPECT_EQ(a_->Start(NewXid()).xa.outcome, XaOutcome::kWrongState);
  EXPECT_TRUE(a_->Query("SELECT 1").ok());
  EXPECT_TRUE(a_->Recover().ok());
  EXPECT_EQ(a_->branch_state(), BranchState::kPrepared);
  EXPECT_EQ(a_->branch_xid(), xid);
  EXPECT_TRUE(a_->Rollback(xid).ok());
}

TEST_F(MariaDbErrorsTest, DetachedBranchIsFinishedByAnyoneOnce) {
  auto holder = Connect();
  const Xid xid = Prepared(holder.get());
  Detach(&holder, b_.get());
  EXPECT_TRUE(IsListed(b_.get(), xid));
  EXPECT_TRUE(b_->Commit(xid).ok());
  EXPECT_EQ(Value(1), "11");
  EXPECT_EQ(b_->Commit(xid).outcome, XaOutcome::kUnknownXid);
  EXPECT_EQ(b_->Rollback(xid).outcome, XaOutcome::kUnknownXid);
}

// A client that is stopped or cut off never lets go; its connection has to be killed.
TEST_F(MariaDbErrorsTest, KillOfTheConnectionDetaches) {
  auto holder = Connect();
  const Xid xid = Prepared(holder.get());
  const std::string id = absl::StrCat(holder->connection_id());
  MustQuery(b_.get(), "KILL CONNECTION " + id);
  WaitUntilGone(b_.get(), id);
  EXPECT_TRUE(b_->Rollback(xid).ok());
  EXPECT_EQ(Value(1), "10");
  const XaResult result = holder->Commit(xid);
  EXPECT_EQ(result.outcome, XaOutcome::kConnectionLost);
  EXPECT_EQ(result.branch, BranchState::kUnknown);
}

TEST_F(MariaDbErrorsTest, UnfinishedBranchIsRolledBackWithItsSession) {
  for (const bool ended : {false, true}) {
    auto session = Connect();
    const Xid xid = NewXid();
    ASSERT_TRUE(session->Start(xid, "UPDATE e.t SET v = 99 WHERE id = 1").xa.ok());
    if (ended) {
      ASSERT_TRUE(session->End(xid).ok());
    }
    Detach(&session, b_.get());
    EXPECT_FALSE(IsListed(b_.get(), xid));
    EXPECT_EQ(Value(1), "10");
    EXPECT_TRUE(b_->Query("UPDATE e.t SET v = v WHERE id = 1").ok());
  }
}

TEST_F(MariaDbErrorsTest, UnknownXid) {
  const Xid xid = NewXid();
  EXPECT_EQ(a_->Commit(xid).outcome, XaOutcome::kUnknownXid);
  EXPECT_EQ(a_->Rollback(xid).outcome, XaOutcome::kUnknownXid);
  // On MariaDB not XAER_NOTA.
  EXPECT_EQ(a_->CommitOnePhase(xid, nullptr).outcome, OnMySql() ? XaOutcome::kUnknownXid : XaOutcome::kInvalid);
  const XaResult result = a_->Commit(xid);
  EXPECT_EQ(result.error.code, 1397);
  EXPECT_EQ(result.error.sqlstate, "XAE04");
  // Of an own branch under another name.
  const Xid own = NewXid();
  ASSERT_TRUE(a_->Start(own).xa.ok());
  EXPECT_EQ(a_->Query(absl::StrCat("XA END ", XidSqlLiteral(xid))).error.code, 1397);
  ASSERT_TRUE(a_->End(own).ok());
  EXPECT_EQ(a_->Query(absl::StrCat("XA PREPARE ", XidSqlLiteral(xid))).error.code, 1397);
  EXPECT_TRUE(a_->Rollback(own).ok());
}

TEST_F(MariaDbErrorsTest, OutsideOfALocalTransaction) {
  for (const char* begin : {"BEGIN", "SET autocommit = 0; SELECT * FROM e.t", "LOCK TABLES e.t WRITE"}) {
    auto session = Connect();
    MustQuery(session.get(), begin);
    const XaResult result = session->Start(NewXid()).xa;
    EXPECT_EQ(result.outcome, XaOutcome::kOutside) << begin;
    EXPECT_EQ(result.error.code, 1400) << begin;
    EXPECT_EQ(result.error.sqlstate, "XAE09") << begin;
    EXPECT_EQ(result.branch, BranchState::kNone) << begin;
  }
  auto holder = Connect();
  const Xid detached = Prepared(holder.get());
  Detach(&holder, b_.get());
  // MySQL calls what is outside at XA START a wrong state at XA COMMIT.
  const XaOutcome outside = OnMySql() ? XaOutcome::kWrongState : XaOutcome::kOutside;
  MustQuery(a_.get(), "BEGIN");
  EXPECT_EQ(a_->Commit(detached).outcome, outside);
  MustQuery(a_.get(), "COMMIT");
  const Xid own = NewXid();
  ASSERT_TRUE(a_->Start(own).xa.ok());
  EXPECT_EQ(a_->Commit(detached).outcome, outside);
  EXPECT_EQ(a_->branch_state(), BranchState::kActive);
  EXPECT_TRUE(a_->Rollback(own).ok());
  EXPECT_TRUE(a_->Rollback(detached).ok());
}

TEST_F(MariaDbErrorsTest, DuplicateXidInEveryState) {
  const Xid xid = NewXid();
  auto holder = Connect();
  const auto expect_duplicate = [&](absl::string_view state) {
    const StartResult result = b_->Start(xid, "UPDATE e.t SET v = 0");
    EXPECT_EQ(result.xa.outcome, XaOutcome::kDuplicateXid) << state;
    EXPECT_EQ(result.xa.error.code, 1440) << state;
    EXPECT_EQ(result.xa.error.sqlstate, "XAE08") << state;
    EXPECT_FALSE(result.first.has_value()) << state;
    // The format id makes no difference.
    EXPECT_EQ(b_->Query(absl::StrCat("XA START X'", absl::BytesToHexString(xid.gtrid), "',X'",
                                     absl::BytesToHexString(xid.bqual), "',1"))
                  .error.code,
              1440)
        << state;
  };
  ASSERT_TRUE(holder->Start(xid, "UPDATE e.t SET v = v + 1 WHERE id = 1").xa.ok());
  expect_duplicate("active");
  ASSERT_TRUE(holder->End(xid).ok());
  expect_duplicate("ended");
  ASSERT_TRUE(holder->Prepare(xid, nullptr).ok());
  expect_duplicate("prepared");
  Detach(&holder, b_.get());
  expect_duplicate("detached");
  // Nor does it, on MariaDB, protect a branch from those who use another one.
  const QueryResult other = b_->Query(absl::StrCat("XA COMMIT X'", absl::BytesToHexString(xid.gtrid), "',X'",
                                                   absl::BytesToHexString(xid.bqual), "',6"));
  EXPECT_EQ(other.error.code, OnMySql() ? 1397 : 0);
  EXPECT_EQ(Value(1), OnMySql() ? "10" : "11");
  if (OnMySql()) {
    EXPECT_TRUE(b_->Commit(xid).ok());
  }
}

TEST_F(MariaDbErrorsTest, WrongStates) {
  const Xid xid = NewXid();
  ASSERT_TRUE(a_->Start(xid, "UPDATE e.t SET v = 77 WHERE id = 1").xa.ok());
  EXPECT_EQ(a_->Start(NewXid()).xa.outcome, XaOutcome::kWrongState);
  EXPECT_EQ(a_->Commit(xid).outcome, XaOutcome::kWrongState);
  EXPECT_EQ(a_->Query(absl::StrCat("XA PREPARE ", XidSqlLiteral(xid))).error.code, 1399);
  for (const char* sql : {"CREATE TABLE e.x (id INT)", "ALTER TABLE e.t ADD c INT", "BEGIN", "COMMIT", "ROLLBACK"}) {
    EXPECT_EQ(a_->Query(sql).error.code, 1399) << sql;
  }
  EXPECT_EQ(a_->branch_state(), BranchState::kActive);
  EXPECT_EQ(Value(1), "10") << "DDL must not commit";
  ASSERT_TRUE(a_->End(xid).ok());
  EXPECT_EQ(a_->End(xid).outcome, XaOutcome::kWrongState);
  EXPECT_EQ(a_->branch_state(), BranchState::kEnded);
  EXPECT_EQ(a_->Commit(xid).outcome, XaOutcome::kWrongState);
  EXPECT_EQ(a_->Query("UPDATE e.t SET v = 0").error.code, 1399);
  EXPECT_TRUE(a_->Prepare(xid, nullptr).ok());
  EXPECT_EQ(a_->Prepare(xid, nullptr).outcome, XaOutcome::kWrongState);
  EXPECT_EQ(a_->End(xid).outcome, XaOutcome::kWrongState);
  EXPECT_EQ(a_->branch_state(), BranchState::kPrepared);
  EXPECT_TRUE(a_->Commit(xid).ok());
  EXPECT_EQ(Value(1), "77");
}

TEST_F(MariaDbErrorsTest, InvalidVerbs) {
  const Xid xid = Prepared(a_.get());
  const XaResult one_phase = a_->CommitOnePhase(xid, nullptr);
  EXPECT_EQ(one_phase.outcome, OnMySql() ? XaOutcome::kWrongState : XaOutcome::kInvalid);
  EXPECT_EQ(one_phase.error.code, OnMySql() ? 1399 : 1398);
  EXPECT_EQ(one_phase.error.sqlstate, OnMySql() ? "XAE07" : "XAE05");
  EXPECT_EQ(a_->branch_state(), BranchState::kPrepared);
  ASSERT_TRUE(a_->Rollback(xid).ok());
  EXPECT_EQ(a_->Query(absl::StrCat("XA START ", XidSqlLiteral(xid), " JOIN")).error.code, 1398);
  ASSERT_TRUE(a_->Start(xid).xa.ok());
  EXPECT_EQ(a_->Query(absl::StrCat("XA END ", XidSqlLiteral(xid), " SUSPEND")).error.code, 1398);
  EXPECT_TRUE(a_->Rollback(xid).ok());
}

TEST_F(MariaDbErrorsTest, ResumeGoesBackToActive) {
  const Xid xid = NewXid();
  ASSERT_TRUE(a_->Start(xid).xa.ok());
  ASSERT_TRUE(a_->End(xid).ok());
  ASSERT_TRUE(a_->Query(absl::StrCat("XA START ", XidSqlLiteral(xid), " RESUME")).ok());
  EXPECT_TRUE(a_->Query("UPDATE e.t SET v = 78 WHERE id = 1").ok());
  // The session does not know; the batch says so, and rolling back still works.
  EXPECT_EQ(a_->Prepare(xid, nullptr).outcome, XaOutcome::kWrongState);
  a_->Query(absl::StrCat("XA END ", XidSqlLiteral(xid)));
  EXPECT_TRUE(a_->Rollback(xid).ok());
  EXPECT_EQ(Value(1), "10");
}

TEST_F(MariaDbErrorsTest, LiteralsThatTheServerRefuses) {
  const std::string longest(64, 'x');
  const auto literal = [](const std::string& gtrid, const std::string& bqual, absl::string_view format) {
    return absl::StrCat("X'", absl::BytesToHexString(gtrid), "',X'", absl::BytesToHexString(bqual), "',", format);
  };
  std::vector<std::string> all_bad = {literal(longest + "x", "b", "1"), literal("g", longest + "x", "1"),
                                      literal("g", "b", "-1"), "X'abc',X'62',1", "?,?,1"};
  // MySQL takes an empty gtrid, and format ids up to 2^32 - 1.
  if (!OnMySql()) all_bad.insert(all_bad.end(), {literal("", "b", "1"), literal("g", "b", "2147483648")});
  for (const std::string& bad : all_bad) {
    const int code = a_->Query(absl::StrCat("XA START ", bad)).error.code;
    EXPECT_EQ(OutcomeOf(XaVerb::kStart, code), XaOutcome::kInvalid) << bad << " " << code;
  }
  for (const std::string& good : {literal(longest, longest, "2147483647"), literal("g", "", "0")}) {
    EXPECT_TRUE(a_->Query(absl::StrCat("XA START ", good)).ok()) << good;
    EXPECT_TRUE(a_->Query(absl::StrCat("XA END ", good, "; XA ROLLBACK ", good)).ok()) << good;
  }
}

// Runs two branches into a deadlock; `victim` gets 1213. The other one is left active.
void Deadlock(MariaDbSession* victim, const Xid& victim_xid, MariaDbSession* other, const Xid& other_xid) {
  ASSERT_TRUE(victim->Start(victim_xid, "UPDATE e.t SET v = v + 1 WHERE id = 1").first->ok());
  // More rows changed: the heavier transaction is not the victim.
  ASSERT_TRUE(
      other->Start(other_xid, "UPDATE e.t SET v = v + 1 WHERE id IN (2, 3); INSERT INTO e.t VALUES (4, 1), (5, 1)")
          .first->ok());
  other->SendQuery("UPDATE e.t SET v = v + 1 WHERE id = 1");
  absl::SleepFor(absl::Milliseconds(100));
  const QueryResult result = victim->Query("UPDATE e.t SET v = v + 1 WHERE id = 2");
  EXPECT_EQ(result.error.code, 1213);
  EXPECT_EQ(result.error.sqlstate, "40001");
  EXPECT_TRUE(other->ReceiveQuery().ok());
}

TEST_F(MariaDbErrorsTest, DeadlockVictimIsRollbackOnly) {
  const Xid victim = NewXid();
  const Xid other = NewXid();
  ASSERT_NO_FATAL_FAILURE(Deadlock(a_.get(), victim, b_.get(), other));
  EXPECT_EQ(a_->branch_state(), BranchState::kRollbackOnly);
  EXPECT_EQ(a_->Query("UPDATE e.t SET v = 0 WHERE id = 3").error.code, OnMySql() ? 1614 : 1399);
  EXPECT_EQ(a_->End(victim).outcome, XaOutcome::kWrongState);
  const XaResult prepared = a_->Prepare(victim, nullptr);
  EXPECT_EQ(prepared.outcome, XaOutcome::kWrongState);
  EXPECT_EQ(prepared.branch, BranchState::kRollbackOnly);
  EXPECT_EQ(a_->Prepare(victim, &witness_).failed_step, Step::kRefused);
  EXPECT_TRUE(a_->Rollback(victim).ok());
  EXPECT_TRUE(b_->Rollback(other).ok());
  EXPECT_EQ(One(a_.get(), "SELECT COUNT(*) FROM e.w"), "0");
  EXPECT_EQ(Value(1), "10");
}

TEST_F(MariaDbErrorsTest, ADeadlockVictimThatNobodyEndedRollsBack) {
  const Xid victim = NewXid();
  const Xid other = NewXid();
  ASSERT_NO_FATAL_FAILURE(Deadlock(a_.get(), victim, b_.get(), other));
  const XaResult rolled_back = a_->Rollback(victim);
  EXPECT_TRUE(rolled_back.ok()) << rolled_back.error.message;
  EXPECT_EQ(rolled_back.branch, BranchState::kNone);
  EXPECT_TRUE(a_->Start(NewXid()).xa.ok()) << "the session must be free";
  EXPECT_TRUE(b_->Rollback(other).ok());
}

TEST_F(MariaDbErrorsTest, CommitOfADeadlockVictimAnswersRolledBack) {
  const Xid victim = NewXid();
  const Xid other = NewXid();
  ASSERT_NO_FATAL_FAILURE(Deadlock(a_.get(), victim, b_.get(), other));
  const XaResult result = a_->Commit(victim);
  EXPECT_EQ(result.outcome, XaOutcome::kRolledBack);
  EXPECT_EQ(result.error.code, 1614);
  EXPECT_EQ(result.error.sqlstate, "XA102");
  EXPECT_EQ(result.branch, BranchState::kNone);
  EXPECT_TRUE(a_->Start(NewXid()).xa.ok()) << "the session must be free";
  EXPECT_TRUE(b_->Rollback(other).ok());
}

// A handler in a procedure hides the deadlock from the client: no error is seen, and yet nothing may be prepared, and
// above all no witness be left.
TEST_F(MariaDbErrorsTest, SwallowedDeadlockIsFoundAtPrepare) {
  MustQuery(b_.get(),
            "DROP PROCEDURE IF EXISTS e.swallow; CREATE PROCEDURE e.swallow() BEGIN DECLARE CONTINUE HANDLER FOR "
            "SQLEXCEPTION BEGIN END; "
            "UPDATE e.t SET v = v + 1 WHERE id = 2; END;");
  const Xid victim = NewXid();
  const Xid other = NewXid();
  ASSERT_TRUE(a_->Start(victim, "UPDATE e.t SET v = v + 1 WHERE id = 1").first->ok());
  ASSERT_TRUE(b_->Start(other, "UPDATE e.t SET v = v + 1 WHERE id IN (2, 3); INSERT INTO e.t VALUES (4, 1), (5, 1)")
                  .first->ok());
  b_->SendQuery("UPDATE e.t SET v = v + 1 WHERE id = 1");
  absl::SleepFor(absl::Milliseconds(100));
  a_->Query("CALL e.swallow()");
  EXPECT_TRUE(b_->ReceiveQuery().ok());
  const XaResult prepared = a_->Prepare(victim, &witness_);
  EXPECT_FALSE(prepared.ok());
  EXPECT_NE(prepared.branch, BranchState::kPrepared);
  EXPECT_TRUE(a_->Rollback(victim).ok());
  EXPECT_TRUE(b_->Rollback(other).ok());
  EXPECT_EQ(One(a_.get(), "SELECT COUNT(*) FROM e.w"), "0");
  EXPECT_EQ(Value(1), "10");
}

// Why a failed statement must poison its branch: the server would prepare what is left of it.
TEST_F(MariaDbErrorsTest, LockWaitTimeoutUndoesOnlyTheStatement) {
  MustQuery(a_.get(), "SET SESSION innodb_lock_wait_timeout = 1");
  MustQuery(b_.get(), "BEGIN; UPDATE e.t SET v = 0 WHERE id = 2");
  const Xid xid = NewXid();
  ASSERT_TRUE(a_->Start(xid, "UPDATE e.t SET v = 55 WHERE id = 1").first->ok());
  const QueryResult timeout = a_->Query("UPDATE e.t SET v = 55 WHERE id = 2");
  EXPECT_EQ(timeout.error.code, 1205);
  EXPECT_EQ(timeout.error.sqlstate, "HY000");
  EXPECT_EQ(a_->branch_state(), BranchState::kActive);
  MustQuery(b_.get(), "ROLLBACK");
  ASSERT_TRUE(a_->Prepare(xid, nullptr).ok());
  ASSERT_TRUE(a_->Commit(xid).ok());
  EXPECT_EQ(Value(1), "55");
  EXPECT_EQ(Value(2), "20");
}

TEST_F(MariaDbErrorsTest, InterruptedStatementsLeaveTheBranchActive) {
  const Xid xid = NewXid();
  ASSERT_TRUE(a_->Start(xid, "UPDATE e.t SET v = 56 WHERE id = 1").first->ok());
  a_->SendQuery("SELECT * FROM e.t WHERE SLEEP(5)");
  absl::SleepFor(absl::Milliseconds(100));
  MustQuery(b_.get(), absl::StrCat("KILL QUERY ", a_->connection_id()));
  const QueryResult killed = a_->ReceiveQuery();
  EXPECT_EQ(killed.error.code, 1317);
  EXPECT_EQ(killed.error.sqlstate, "70100");
  // MySQL's limit ends SLEEP without an error, and other statements with one of its own.
  const QueryResult late =
      a_->Query(OnMySql() ? "SELECT /*+ MAX_EXECUTION_TIME(50) */ COUNT(*) FROM information_schema.COLUMNS AS a,"
                            " information_schema.COLUMNS AS b, information_schema.COLUMNS AS c WHERE a.COLUMN_NAME ="
                            " REVERSE(CONCAT(b.COLUMN_NAME, c.COLUMN_NAME))"
                          : "SET STATEMENT max_statement_time = 0.05 FOR SELECT * FROM e.t WHERE SLEEP(5)");
  EXPECT_EQ(late.error.code, OnMySql() ? 3024 : 1969);
  EXPECT_EQ(late.error.sqlstate, OnMySql() ? "HY000" : "70100");
  const QueryResult duplicate = a_->Query("INSERT INTO e.t VALUES (1, 1)");
  EXPECT_EQ(duplicate.error.code, 1062);
  EXPECT_EQ(duplicate.error.sqlstate, "23000");
  EXPECT_EQ(a_->branch_state(), BranchState::kActive);
  EXPECT_TRUE(a_->Prepare(xid, nullptr).ok());
  EXPECT_TRUE(a_->Rollback(xid).ok());
}

// FLUSH TABLES WITH READ LOCK, as backups take it. The sessions wait one second for it (lock_wait_timeout).
TEST_F(MariaDbErrorsTest, PrepareUnderGlobalReadLockRollsBack) {
  const Xid xid = NewXid();
  ASSERT_TRUE(a_->Start(xid, "UPDATE e.t SET v = 57 WHERE id = 1").first->ok());
  auto backup = Connect();
  MustQuery(backup.get(), "FLUSH TABLES WITH READ LOCK");
  const XaResult result = a_->Prepare(xid, nullptr);
  EXPECT_EQ(result.outcome, XaOutcome::kRolledBack) << result.error.code << result.error.message;
  EXPECT_EQ(result.error.code, 1205);
  EXPECT_EQ(result.failed_step, Step::kPrepare);
  EXPECT_EQ(result.branch, BranchState::kNone);
  EXPECT_FALSE(a_->holds_branch());
  MustQuery(backup.get(), "UNLOCK TABLES");
  EXPECT_FALSE(IsListed(b_.get(), xid));
  EXPECT_EQ(Value(1), "10");
  EXPECT_TRUE(b_->Query("UPDATE e.t SET v = v WHERE id = 1").ok()) << "its locks must be gone";
  EXPECT_TRUE(a_->Start(NewXid()).xa.ok()) << "the session must be free";
}

TEST_F(MariaDbErrorsTest, WitnessUnderGlobalReadLockLeavesTheBranchActive) {
  const Xid xid = NewXid();
  ASSERT_TRUE(a_->Start(xid, "UPDATE e.t SET v = 57 WHERE id = 1").first->ok());
  auto backup = Connect();
  MustQuery(backup.get(), "FLUSH TABLES WITH READ LOCK");
  const XaResult result = a_->Prepare(xid, &witness_);
  EXPECT_EQ(result.failed_step, Step::kWitness);
  EXPECT_EQ(result.error.code, 1205);
  EXPECT_EQ(result.branch, BranchState::kActive);
  MustQuery(backup.get(), "UNLOCK TABLES");
  EXPECT_TRUE(a_->Prepare(xid, &witness_).ok());
  EXPECT_TRUE(a_->Rollback(xid).ok());
}

TEST_F(MariaDbErrorsTest, FinishUnderGlobalReadLockMustBeRetried) {
  for (const bool commit : {true, false}) {
    const Xid xid = Prepared(a_.get());
    auto backup = Connect();
    MustQuery(backup.get(), "FLUSH TABLES WITH READ LOCK");
    const XaResult result = commit ? a_->Commit(xid) : a_->Rollback(xid);
    EXPECT_EQ(result.outcome, XaOutcome::kRetryLater) << result.error.code << result.error.message;
    EXPECT_EQ(result.error.code, 1205);
    EXPECT_EQ(result.branch, BranchState::kPrepared);
    EXPECT_TRUE(a_->holds_branch());
    EXPECT_TRUE(IsListed(b_.get(), xid));
    MustQuery(backup.get(), "UNLOCK TABLES");
    EXPECT_TRUE((commit ? a_->Commit(xid) : a_->Rollback(xid)).ok());
    EXPECT_EQ(Value(1), "11");  // Committed the first time, rolled back the second.
  }
}

TEST_F(MariaDbErrorsTest, OnePhaseCommitUnderGlobalReadLockRollsBack) {
  const Xid xid = NewXid();
  ASSERT_TRUE(a_->Start(xid, "UPDATE e.t SET v = 58 WHERE id = 1").first->ok());
  auto backup = Connect();
  MustQuery(backup.get(), "FLUSH TABLES WITH READ LOCK");
  const XaResult result = a_->CommitOnePhase(xid, nullptr);
  EXPECT_EQ(result.outcome, XaOutcome::kRolledBack) << result.error.code << result.error.message;
  EXPECT_EQ(result.failed_step, Step::kCommit);
  EXPECT_EQ(result.branch, BranchState::kNone);
  MustQuery(backup.get(), "UNLOCK TABLES");
  EXPECT_EQ(Value(1), "10");
  EXPECT_TRUE(b_->Query("UPDATE e.t SET v = v WHERE id = 1").ok()) << "its locks must be gone";
  EXPECT_TRUE(a_->Start(NewXid()).xa.ok()) << "the session must be free";
}

// Killed while it waits for the lock: the same as timing out.
TEST_F(MariaDbErrorsTest, KillQueryWhileWaitingForTheCommitLock) {
  auto patient = Connect(absl::Seconds(60));
  auto backup = Connect();
  const Xid xid = Prepared(patient.get());
  MustQuery(backup.get(), "FLUSH TABLES WITH READ LOCK");
  patient->SendCommit(xid);
  absl::SleepFor(absl::Milliseconds(200));
  MustQuery(b_.get(), absl::StrCat("KILL QUERY ", patient->connection_id()));
  XaResult result = patient->Receive();
  EXPECT_EQ(result.outcome, XaOutcome::kRetryLater) << result.error.code << result.error.message;
  EXPECT_EQ(result.branch, BranchState::kPrepared);
  MustQuery(backup.get(), "UNLOCK TABLES");
  EXPECT_TRUE(patient->Commit(xid).ok());
  EXPECT_EQ(Value(1), "11");

  const Xid second = NewXid();
  ASSERT_TRUE(patient->Start(second, "UPDATE e.t SET v = 59 WHERE id = 1").first->ok());
  MustQuery(backup.get(), "FLUSH TABLES WITH READ LOCK");
  patient->SendPrepare(second, nullptr);
  absl::SleepFor(absl::Milliseconds(200));
  MustQuery(b_.get(), absl::StrCat("KILL QUERY ", patient->connection_id()));
  result = patient->Receive();
  EXPECT_EQ(result.outcome, XaOutcome::kRolledBack) << result.error.code << result.error.message;
  EXPECT_EQ(result.branch, BranchState::kNone);
  MustQuery(backup.get(), "UNLOCK TABLES");
  EXPECT_FALSE(IsListed(b_.get(), second));
  EXPECT_EQ(Value(1), "11");
}

// A read-only branch is never prepared by the SDK (MayHaveWritten); this is what happens to those who do it.
TEST_F(MariaDbErrorsTest, PreparedReadOnlyBranch) {
  const Xid held = NewXid();
  ASSERT_TRUE(a_->Start(held, "SELECT * FROM e.t").xa.ok());
  ASSERT_TRUE(a_->Prepare(held, nullptr).ok());
  EXPECT_TRUE(IsListed(b_.get(), held));
  EXPECT_TRUE(a_->Commit(held).ok());
  for (const bool commit : {true, false}) {
    for (const char* sql : {"SELECT * FROM e.t FOR UPDATE", "DO 0", "UPDATE e.t SET v = v WHERE id = 1",
                            "SAVEPOINT s; UPDATE e.t SET v = 9 WHERE id = 1; ROLLBACK TO s"}) {
      auto holder = Connect();
      const Xid xid = NewXid();
      ASSERT_TRUE(holder->Start(xid, sql).xa.ok());
      ASSERT_TRUE(holder->Prepare(xid, nullptr).ok());
      Detach(&holder, b_.get());
      EXPECT_TRUE(IsListed(b_.get(), xid)) << sql;
      EXPECT_TRUE(b_->Query("UPDATE e.t SET v = v + 1 WHERE id = 1").ok()) << "locks are gone: " << sql;
      const XaResult result = commit ? b_->Commit(xid) : b_->Rollback(xid);
      EXPECT_EQ(result.outcome, OnMySql() ? XaOutcome::kOk : XaOutcome::kRolledBack) << sql;
      EXPECT_EQ(result.error.code, OnMySql() ? 0 : 1402) << sql;
      EXPECT_EQ(result.error.sqlstate, OnMySql() ? "" : "XA100") << sql;
      EXPECT_FALSE(IsListed(b_.get(), xid)) << sql;
    }
  }
}

TEST_F(MariaDbErrorsTest, TablesWithoutTransactionsAreNotUndone) {
  MustQuery(b_.get(), "DROP TABLE IF EXISTS e.m; CREATE TABLE e.m (id INT) ENGINE=MyISAM");
  const Xid xid = NewXid();
  ASSERT_TRUE(a_->Start(xid, "INSERT INTO e.m VALUES (1)").first->ok());
  EXPECT_TRUE(a_->has_written());
  ASSERT_TRUE(a_->Rollback(xid).ok());
  EXPECT_EQ(One(b_.get(), "SELECT COUNT(*) FROM e.m"), "1");
}

TEST_F(MariaDbErrorsTest, TemporaryTableInABranch) {
  const Xid xid = NewXid();
  ASSERT_TRUE(
      a_->Start(xid, "CREATE TEMPORARY TABLE e.tmp (id INT); INSERT INTO e.tmp VALUES (1); UPDATE e.t SET v = 1")
          .first->ok());
  ASSERT_TRUE(a_->Prepare(xid, nullptr).ok());
  EXPECT_TRUE(a_->Rollback(xid).ok());
}

TEST_F(MariaDbErrorsTest, DdlWaitsForAPreparedBranch) {
  const Xid xid = Prepared(a_.get());
  EXPECT_EQ(b_->Query("ALTER TABLE e.t ADD c INT").error.code, 1205);
  EXPECT_TRUE(a_->Commit(xid).ok());
  EXPECT_TRUE(b_->Query("ALTER TABLE e.t ADD c INT").ok());
}

TEST_F(MariaDbErrorsTest, TwoBranchesOfOneGlobalLockEachOtherOut) {
  const Xid first = NewXid();
  const Xid second{first.gtrid, first.bqual + "x"};
  MustQuery(b_.get(), "SET SESSION innodb_lock_wait_timeout = 1");
  ASSERT_TRUE(a_->Start(first, "UPDATE e.t SET v = 1 WHERE id = 1").first->ok());
  EXPECT_EQ(b_->Start(second, "UPDATE e.t SET v = 1 WHERE id = 1").first->error.code, 1205);
  EXPECT_TRUE(a_->Rollback(first).ok());
  EXPECT_TRUE(b_->Rollback(second).ok());
}

// XA RECOVER (on MariaDB) and XA COMMIT ask for no privilege: only the cluster's prefix keeps clusters apart.
TEST_F(MariaDbErrorsTest, AccountWithoutPrivilegesSeesAndFinishesBranches) {
  MustQuery(b_.get(), "DROP USER IF EXISTS nobody@localhost; CREATE USER nobody@localhost IDENTIFIED BY 'n'");
  auto holder = Connect();
  const Xid xid = Prepared(holder.get());
  Detach(&holder, b_.get());
  ConnectOptions options = ConnectOptionsFor(*server_);
  options.user = "nobody";
  options.password = "n";
  auto nobody = MustConnect(options);
  if (OnMySql()) {
    EXPECT_EQ(MetadataOf(nobody->Recover().status())["error_code"], "1401");
  } else {
    EXPECT_TRUE(IsListed(nobody.get(), xid));
  }
  EXPECT_TRUE(nobody->Commit(xid).ok());
  EXPECT_EQ(Value(1), "11");
}

// Tests that restart or reconfigure a server of their own.
class MariaDbServerTest : public MariaDbErrorsTest {
 protected:
  MariaDbServerTest() : MariaDbErrorsTest(StartOwn()) {}

  static PrivateMariaDb* StartOwn() {
    auto started = StartServer();
    CHECK(started.ok()) << started.status();
    return started->release();
  }

  std::unique_ptr<PrivateMariaDb> own_{server_};
};

TEST_F(MariaDbServerTest, PreparedSurvivesKillAndCleanRestartActiveDoesNot) {
  for (const bool clean : {false, true}) {
    auto holder = Connect();
    auto active = Connect();
    const Xid prepared = Prepared(holder.get(), 1);
    const Xid unprepared = NewXid();
    ASSERT_TRUE(active->Start(unprepared, "UPDATE e.t SET v = 99 WHERE id = 2").first->ok());
    if (clean) {
      ASSERT_TRUE(server_->Stop().ok());
    } else {
      server_->Kill9();
    }
    ASSERT_TRUE(server_->Restart().ok());
    const XaResult lost = holder->Commit(prepared);
    EXPECT_EQ(lost.outcome, XaOutcome::kConnectionLost);
    EXPECT_EQ(lost.branch, BranchState::kUnknown);
    EXPECT_EQ(active->Rollback(unprepared).outcome, XaOutcome::kConnectionLost);
    b_ = Connect();
    EXPECT_TRUE(IsListed(b_.get(), prepared));
    EXPECT_FALSE(IsListed(b_.get(), unprepared));
    EXPECT_EQ(Value(2), "20");
    const std::string before = Value(1);
    // Nobody has it: the first who asks finishes it.
    EXPECT_TRUE(b_->Commit(prepared).ok());
    EXPECT_EQ(Value(1), absl::StrCat(std::stoi(before) + 1));
    EXPECT_EQ(b_->Commit(prepared).outcome, XaOutcome::kUnknownXid);
  }
}

// A dead read-only branch is not even listed.
TEST_F(MariaDbServerTest, PreparedReadOnlyBranchIsGoneAfterACrash) {
  const Xid xid = NewXid();
  ASSERT_TRUE(a_->Start(xid, "SELECT * FROM e.t").xa.ok());
  ASSERT_TRUE(a_->Prepare(xid, nullptr).ok());
  ASSERT_TRUE(server_->Restart().ok());
  b_ = Connect();
  EXPECT_FALSE(IsListed(b_.get(), xid));
  EXPECT_EQ(b_->Commit(xid).outcome, XaOutcome::kUnknownXid);
}

TEST_F(MariaDbServerTest, ReadOnlyServerPreparesButDoesNotFinish) {
  MustQuery(b_.get(), "CREATE USER app@localhost IDENTIFIED BY 'a'; GRANT ALL ON e.* TO app@localhost");
  ConnectOptions options = ConnectOptionsFor(*server_);
  options.user = "app";
  options.password = "a";
  auto app = MustConnect(options);
  const Xid first = NewXid();
  ASSERT_TRUE(app->Start(first, "UPDATE e.t SET v = v + 1 WHERE id = 1").first->ok());
  MustQuery(b_.get(), "SET GLOBAL read_only = 1");
  ASSERT_TRUE(app->Prepare(first, nullptr).ok());
  if (OnMySql()) {
    EXPECT_TRUE(app->Commit(first).ok()) << "there it is only writing that is forbidden";
    EXPECT_EQ(Value(1), "11");
    return;
  }
  for (const bool commit : {true, false}) {
    const XaResult result = commit ? app->Commit(first) : app->Rollback(first);
    EXPECT_EQ(result.outcome, XaOutcome::kRetryLater);
    EXPECT_EQ(result.error.code, 1290);
    EXPECT_EQ(result.branch, BranchState::kPrepared);
  }
  MustQuery(b_.get(), "SET GLOBAL read_only = 0");
  EXPECT_TRUE(app->Commit(first).ok());
  EXPECT_EQ(Value(1), "11");
}

TEST_F(MariaDbServerTest, RollbackOnTimeoutMarksTheBranch) {
  ASSERT_TRUE(server_->Restart(ServerOptions({"--innodb-rollback-on-timeout=1", "--innodb-lock-wait-timeout=1"})).ok());
  a_ = Connect();
  b_ = Connect();
  MustQuery(b_.get(), "BEGIN; UPDATE e.t SET v = 0 WHERE id = 2");
  for (int round = 0; round < 2; ++round) {
    const Xid xid = NewXid();
    ASSERT_TRUE(a_->Start(xid, "UPDATE e.t SET v = 1 WHERE id = 1").first->ok());
    EXPECT_EQ(a_->Query("UPDATE e.t SET v = 1 WHERE id = 2").error.code, 1205);
    if (round == 0) {
      // Nothing was said of the whole branch; the witness must not slip out of it, and the batch finds out.
      const XaResult prepared = a_->Prepare(xid, &witness_);
      EXPECT_FALSE(prepared.ok());
      EXPECT_NE(prepared.branch, BranchState::kPrepared);
      EXPECT_EQ(a_->Prepare(xid, nullptr).outcome, XaOutcome::kWrongState);
      EXPECT_EQ(a_->branch_state(), BranchState::kRollbackOnly);
      EXPECT_TRUE(a_->Rollback(xid).ok());
    } else {
      const XaResult committed = a_->Commit(xid);
      EXPECT_EQ(committed.outcome, XaOutcome::kRolledBack);
      EXPECT_EQ(committed.error.code, 1613);
      EXPECT_EQ(committed.error.sqlstate, "XA106");
      EXPECT_EQ(committed.branch, BranchState::kNone);
    }
    EXPECT_EQ(One(a_.get(), "SELECT COUNT(*) FROM e.w"), "0");
    EXPECT_EQ(One(a_.get(), "SELECT v FROM e.t WHERE id = 1"), "10");
  }
}

}  // namespace
}  // namespace assent
