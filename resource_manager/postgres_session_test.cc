#include "resource_manager/postgres_session.h"

#include <postgresql/libpq-fe.h>

#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/address.h"
#include "base/errors.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/postgres_gid.h"
#include "resource_manager/postgres_test_server.h"

namespace assent {
namespace {

using testing::HasSubstr;

class PostgresSessionTest : public testing::Test {
 protected:
  PostgresSessionTest() : session_(MustConnectPostgres()), other_(MustConnectPostgres()) {
    MustQuery(other_.get(), "CREATE TABLE IF NOT EXISTS a (id INT PRIMARY KEY, v INT);DELETE FROM a");
    MustQuery(other_.get(), "INSERT INTO a VALUES (1, 0), (2, 0)");
  }

  void Begin(absl::string_view sql = "UPDATE a SET v = v + 1 WHERE id = 1") {
    xid_ = NewXid();
    const StartResult started = session_->Start(xid_, sql);
    ASSERT_TRUE(started.xa.ok()) << started.xa.error.message;
  }
  std::string Value(int id = 1) { return One(other_.get(), absl::StrCat("SELECT v FROM a WHERE id = ", id)); }
  std::string StatusOfTransaction(int64_t id) {
    return One(other_.get(), absl::StrCat("SELECT pg_xact_status('", id, "')"));
  }

  std::unique_ptr<PostgresSession> session_;
  std::unique_ptr<PostgresSession> other_;
  Xid xid_;
};

TEST_F(PostgresSessionTest, CommitsInTwoPhases) {
  Begin();
  EXPECT_EQ(session_->branch_state(), BranchState::kActive);
  EXPECT_TRUE(session_->has_written());
  EXPECT_FALSE(session_->Describe().detached());
  const int64_t before = session_->round_trips();
  ASSERT_TRUE(session_->Prepare(xid_, nullptr).ok());
  EXPECT_EQ(session_->round_trips(), before + 1);
  EXPECT_TRUE(IsListed(other_.get(), xid_));
  EXPECT_EQ(Value(), "0");
  const v1::Session described = session_->Describe();
  EXPECT_TRUE(described.detached());
  EXPECT_EQ(StatusOfTransaction(described.transaction_id()), "in progress");
  EXPECT_EQ(described.timeline(), 1);
  EXPECT_THAT(described.server(), HasSubstr("/postgres"));
  ASSERT_TRUE(session_->Commit(xid_).ok());
  EXPECT_EQ(Value(), "1");
  EXPECT_EQ(StatusOfTransaction(described.transaction_id()), "committed");
  EXPECT_EQ(session_->branch_state(), BranchState::kNone);
  Begin();  // The session can be used again.
  ASSERT_TRUE(session_->Rollback(xid_).ok());
}

TEST_F(PostgresSessionTest, RollsBackInEveryState) {
  Begin();
  ASSERT_TRUE(session_->Rollback(xid_).ok());
  Begin("");
  ASSERT_TRUE(session_->Rollback(xid_).ok());
  Begin();
  EXPECT_FALSE(session_->Query("SELECT 1/0").ok());
  EXPECT_EQ(session_->branch_state(), BranchState::kRollbackOnly);
  ASSERT_TRUE(session_->Rollback(xid_).ok());
  Begin();
  ASSERT_TRUE(session_->Prepare(xid_, nullptr).ok());
  const int64_t id = session_->Describe().transaction_id();
  ASSERT_TRUE(session_->Rollback(xid_).ok());
  EXPECT_EQ(StatusOfTransaction(id), "aborted");
  EXPECT_EQ(Value(), "0");
  EXPECT_EQ(session_->branch_state(), BranchState::kNone);
}

TEST_F(PostgresSessionTest, AnySessionFinishesAtOnce) {
  Begin();
  ASSERT_TRUE(session_->Prepare(xid_, nullptr).ok());
  ASSERT_TRUE(other_->Commit(xid_).ok());
  EXPECT_EQ(Value(), "1");
  EXPECT_EQ(session_->Commit(xid_).outcome, XaOutcome::kUnknownXid);
  EXPECT_EQ(session_->branch_state(), BranchState::kNone) << "nothing is left of it here";
  EXPECT_EQ(other_->Rollback(xid_).outcome, XaOutcome::kUnknownXid);
}

TEST_F(PostgresSessionTest, SurvivesItsSession) {
  Begin();
  ASSERT_TRUE(session_->Prepare(xid_, nullptr).ok());
  EXPECT_TRUE(session_->Close().ok()) << "PREPARE has let go of it";
  EXPECT_TRUE(IsListed(other_.get(), xid_));
  ASSERT_TRUE(other_->Rollback(xid_).ok());
}

TEST_F(PostgresSessionTest, WhatHasWrittenNothingIsKnown) {
  Begin("SELECT v FROM a");
  EXPECT_FALSE(session_->has_written());
  EXPECT_FALSE(session_->MayHaveWritten());
  ASSERT_TRUE(session_->Rollback(xid_).ok());
  for (const char* sql :
       {"SELECT v FROM a WHERE id = 1 FOR UPDATE", "SELECT setval('s', 5), nextval('s'), lo_create(0)",
        "WITH x AS (UPDATE a SET v = 9 WHERE id = 2 RETURNING v) SELECT * FROM x",
        "DO $$ BEGIN UPDATE a SET v = 9 WHERE id = 2; END $$"}) {
    MustQuery(other_.get(), "CREATE SEQUENCE IF NOT EXISTS s");
    Begin(sql);
    EXPECT_TRUE(session_->MayHaveWritten()) << sql;
    ASSERT_TRUE(session_->Rollback(xid_).ok());
  }
  Begin("UPDATE a SET v = 1 WHERE id = 77");
  EXPECT_FALSE(session_->MayHaveWritten()) << "no row";
  ASSERT_TRUE(session_->Rollback(xid_).ok());
}

// The writing transaction gets its id at the other server, which is why PREPARE refuses it.
TEST_F(PostgresSessionTest, AForeignTableThatItHasWrittenCounts) {
  const auto server = MustStartPostgres();
  const ConnectOptions options = ConnectOptionsFor(*server);
  const auto admin = MustConnectPostgres(options);
  MustQuery(admin.get(), "CREATE EXTENSION postgres_fdw");
  MustQuery(admin.get(), absl::StrCat("CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '",
                                      server->folder(), "', port '", server->port(), "')"));
  MustQuery(admin.get(),
            absl::StrCat("CREATE USER MAPPING FOR postgres SERVER far OPTIONS (user 'postgres', password '",
                         server->password(), "')"));
  MustQuery(admin.get(), "CREATE TABLE near (id BIGINT)");
  MustQuery(admin.get(), "CREATE FOREIGN TABLE far (id BIGINT) SERVER far OPTIONS (table_name 'near')");
  session_ = MustConnectPostgres(options);
  Begin("SELECT * FROM near");
  EXPECT_FALSE(session_->MayHaveWritten()) << "a foreign table is there, and was not touched";
  ASSERT_TRUE(session_->Rollback(xid_).ok());
  Begin("WITH w AS (INSERT INTO far VALUES (1) RETURNING id) SELECT * FROM w");
  EXPECT_TRUE(session_->MayHaveWritten());
  const XaResult prepared = session_->Prepare(xid_, nullptr);
  EXPECT_FALSE(prepared.ok());
  EXPECT_THAT(prepared.error.message, HasSubstr("postgres_fdw"));
  session_->Rollback(xid_);
  EXPECT_EQ(One(admin.get(), "SELECT COUNT(*) FROM near"), "0");
}

TEST_F(PostgresSessionTest, AnExpectedErrorUndoesItsStatementOnly) {
  Begin();
  const QueryResult duplicate = session_->Query("INSERT INTO a VALUES (3, 3), (1, 1) -- twice", /*keep=*/true);
  EXPECT_EQ(duplicate.error.sqlstate, "23505");
  EXPECT_EQ(session_->branch_state(), BranchState::kActive);
  const QueryResult good = session_->Query("SELECT v FROM a WHERE id = 1 -- mine", /*keep=*/true);
  ASSERT_TRUE(good.ok()) << good.error.message;
  ASSERT_EQ(good.results.size(), 1u);
  EXPECT_EQ(good.rows()[0][0], std::string("1"));
  ASSERT_TRUE(session_->Prepare(xid_, nullptr).ok());
  ASSERT_TRUE(session_->Commit(xid_).ok());
  EXPECT_EQ(Value(), "1");
  EXPECT_EQ(One(other_.get(), "SELECT COUNT(*) FROM a"), "2");
}

TEST_F(PostgresSessionTest, AFailedTransactionIsNeverPrepared) {
  Begin();
  // As a driver on the same connection does it, beside this object.
  PQclear(PQexec(session_->BorrowPgHandle(), "SELECT 1/0"));
  const XaResult prepared = session_->Prepare(xid_, nullptr);
  EXPECT_EQ(prepared.outcome, XaOutcome::kWrongState);
  EXPECT_FALSE(IsListed(other_.get(), xid_));
  EXPECT_TRUE(session_->Rollback(xid_).ok());
  EXPECT_EQ(Value(), "0");
}

TEST_F(PostgresSessionTest, WhatCannotBePreparedIsSaidAndRolledBack) {
  for (const char* sql :
       {"CREATE TEMPORARY TABLE t (id INT)", "LISTEN news", "NOTIFY news", "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "SELECT pg_advisory_lock(5), pg_advisory_xact_lock(5)"}) {
    Begin();
    ASSERT_TRUE(session_->Query(sql).ok()) << sql;
    const XaResult prepared = session_->Prepare(xid_, nullptr);
    EXPECT_EQ(prepared.outcome, XaOutcome::kRolledBack) << sql;
    EXPECT_EQ(prepared.error.sqlstate, "0A000") << sql;
    EXPECT_THAT(prepared.error.message, HasSubstr("leave it out of the branch")) << sql;
    EXPECT_TRUE(session_->Rollback(xid_).ok()) << sql;
    EXPECT_EQ(session_->branch_state(), BranchState::kNone);
    EXPECT_FALSE(IsListed(other_.get(), xid_));
    EXPECT_EQ(Value(), "0");
    MustQuery(session_.get(), "SELECT pg_advisory_unlock_all()");
  }
}

TEST_F(PostgresSessionTest, ABranchThatEndsItsOwnTransactionIsNoticed) {
  for (const char* sql : {"COMMIT", "ROLLBACK", "COMMIT; BEGIN; UPDATE a SET v = 5 WHERE id = 2", "COMMIT AND CHAIN",
                          "PREPARE TRANSACTION 'x'"}) {
    session_ = MustConnectPostgres();
    Begin();
    const QueryResult result = session_->Query(sql);
    EXPECT_EQ(result.error.code, kSessionResetCode) << sql;
    EXPECT_TRUE(session_->was_reset() && session_->ran_outside()) << sql;
    EXPECT_EQ(session_->Prepare(xid_, nullptr).outcome, XaOutcome::kSessionReset) << sql;
    EXPECT_FALSE(IsListed(other_.get(), xid_));
  }
  MustQuery(other_.get(), "ROLLBACK PREPARED 'x'");
}

// What this object cannot see is asked for in front of whatever would take it for the branch.
TEST_F(PostgresSessionTest, ABranchThatIsEndedBesideItsSessionIsNoticed) {
  for (const char* sql :
       {"COMMIT", "ROLLBACK", "COMMIT; BEGIN; UPDATE a SET v = 5 WHERE id = 2", "ROLLBACK AND CHAIN"}) {
    for (const char* verb : {"prepare", "rollback", "probe"}) {
      session_ = MustConnectPostgres();
      Begin("SELECT 1");
      PQclear(PQexec(session_->BorrowPgHandle(), sql));
      XaResult result;
      if (verb == std::string("prepare")) result = session_->Prepare(xid_, nullptr);
      if (verb == std::string("rollback")) result = session_->Rollback(xid_);
      if (verb == std::string("probe")) {
        EXPECT_TRUE(session_->MayHaveWritten());
        result = session_->Prepare(xid_, nullptr);
      }
      EXPECT_EQ(result.outcome, XaOutcome::kSessionReset) << sql << " " << verb;
      EXPECT_TRUE(session_->was_reset() && session_->ran_outside());
    }
  }
}

TEST_F(PostgresSessionTest, ALocalTransactionIsNotTakenOver) {
  MustQuery(session_.get(), "BEGIN");
  const StartResult started = session_->Start(NewXid(), "UPDATE a SET v = 7 WHERE id = 1");
  EXPECT_EQ(started.xa.outcome, XaOutcome::kOutside);
  EXPECT_FALSE(started.first);
  MustQuery(session_.get(), "COMMIT");
  EXPECT_EQ(Value(), "0");
}

TEST_F(PostgresSessionTest, AdoptsAConnection) {
  PGconn* const handle = MustConnectLibpq();
  auto adopted = PostgresSession::Adopt(handle);
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  xid_ = NewXid();
  ASSERT_TRUE((*adopted)->Start(xid_, "UPDATE a SET v = 4 WHERE id = 1").xa.ok());
  ASSERT_TRUE((*adopted)->Prepare(xid_, nullptr).ok());
  ASSERT_TRUE((*adopted)->Commit(xid_).ok());
  EXPECT_EQ(Value(), "4");
  // Made anew under a branch: its server process, and the branch, are gone.
  ASSERT_TRUE((*adopted)->Start(NewXid(), "UPDATE a SET v = 5 WHERE id = 1").xa.ok());
  PQreset(handle);
  EXPECT_EQ((*adopted)->Query("UPDATE a SET v = 6 WHERE id = 1").error.code, kSessionResetCode);
  EXPECT_TRUE((*adopted)->was_reset());
  adopted->reset();
  PQfinish(handle);
  EXPECT_EQ(Value(), "4");
}

TEST_F(PostgresSessionTest, ALostConnectionIsToldFromARefusal) {
  Begin();
  MustQuery(other_.get(), absl::StrCat("SELECT pg_terminate_backend(", session_->connection_id(), ")"));
  EXPECT_EQ(session_->Prepare(xid_, nullptr).outcome, XaOutcome::kConnectionLost);
  EXPECT_TRUE(session_->lost());
  EXPECT_EQ(session_->branch_state(), BranchState::kUnknown);
  EXPECT_EQ(session_->Commit(xid_).outcome, XaOutcome::kConnectionLost);
  EXPECT_EQ(session_->Query("SELECT 1").error.code, kConnectionLostCode);
  EXPECT_EQ(Value(), "0");
  ConnectOptions options = PostgresOptions();
  options.password = "wrong";
  EXPECT_EQ(ReasonOf(PostgresSession::Connect(options).status()), Reason::DATABASE_ERROR);
  options.address = *ParseAddress("127.0.0.1:1");
  EXPECT_EQ(ReasonOf(PostgresSession::Connect(options).status()), Reason::DATABASE_UNREACHABLE);
}

TEST_F(PostgresSessionTest, WithoutPreparedTransactionsNothingBegins) {
  PrivatePostgres::Options options;
  options.settings = {"max_prepared_transactions=0"};
  auto server = PrivatePostgres::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  auto session = MustConnectPostgres(ConnectOptionsFor(**server));
  const StartResult started = session->Start(NewXid(), "CREATE TABLE t (id INT)");
  EXPECT_EQ(started.xa.outcome, XaOutcome::kNotSupported);
  EXPECT_THAT(started.xa.error.message, HasSubstr("max_prepared_transactions"));
  ASSERT_TRUE((*server)->Restart({"max_prepared_transactions=1"}).ok());
  session = MustConnectPostgres(ConnectOptionsFor(**server));
  const Xid first = NewXid();
  ASSERT_TRUE(session->Start(first, "CREATE TABLE t (id INT)").xa.ok());
  ASSERT_TRUE(session->Prepare(first, nullptr).ok());
  auto second = MustConnectPostgres(ConnectOptionsFor(**server));
  const Xid xid = NewXid();
  ASSERT_TRUE(second->Start(xid, "CREATE TABLE u (id INT)").xa.ok());
  const XaResult full = second->Prepare(xid, nullptr);
  EXPECT_EQ(full.outcome, XaOutcome::kRolledBack);
  EXPECT_THAT(full.error.message, HasSubstr("raise max_prepared_transactions"));
  EXPECT_TRUE(second->Rollback(xid).ok());
  // And what was prepared survives the server's death.
  ASSERT_TRUE((*server)->Restart().ok());
  session = MustConnectPostgres(ConnectOptionsFor(**server));
  EXPECT_TRUE(IsListed(session.get(), first));
  EXPECT_TRUE(session->Commit(first).ok());
}

TEST_F(PostgresSessionTest, ASessionOfAStandbyTellsTheTimelineThatThePromotionBegan) {
  auto server = PrivatePostgres::Start();
  ASSERT_TRUE(server.ok()) << server.status();
  RestartAsStandby(server->get());
  auto session = MustConnectPostgres(ConnectOptionsFor(**server));  // A pool's, for what only reads.
  ASSERT_EQ(One(session.get(), "SELECT pg_promote()"), "t");
  const Xid xid = NewXid();
  ASSERT_TRUE(session->Start(xid, "CREATE TABLE t (id INT)").xa.ok());
  const int64_t before = session->round_trips();
  ASSERT_TRUE(session->Prepare(xid, nullptr).ok());
  EXPECT_EQ(session->round_trips(), before + 1);
  EXPECT_EQ(session->Describe().timeline(), 2) << "its transaction id proves nothing without the timeline";
  EXPECT_EQ(One(session.get(), absl::StrCat("SELECT pg_xact_status('", session->Describe().transaction_id(), "')")),
            "in progress");
  EXPECT_TRUE(session->Commit(xid).ok());
}

TEST_F(PostgresSessionTest, IdsThatAreNoneNeverReachTheServer) {
  for (const Xid& xid : {Xid{"a'b", "c"}, Xid{std::string(65, 'g'), "b"}, Xid{"", "b"}, Xid{"a/b", "c"}}) {
    EXPECT_EQ(session_->Start(xid).xa.outcome, XaOutcome::kInvalid);
    EXPECT_EQ(session_->Commit(xid).outcome, XaOutcome::kInvalid);
    EXPECT_EQ(session_->Rollback(xid).outcome, XaOutcome::kInvalid);
  }
  Begin();
  ASSERT_TRUE(session_->Rollback(xid_).ok());
}

TEST_F(PostgresSessionTest, TwoOfOneNameCannotBothBePrepared) {
  Begin();
  ASSERT_TRUE(session_->Prepare(xid_, nullptr).ok());
  ASSERT_TRUE(other_->Start(xid_, "UPDATE a SET v = 9 WHERE id = 2").xa.ok());
  EXPECT_EQ(other_->Prepare(xid_, nullptr).outcome, XaOutcome::kDuplicateXid);
  EXPECT_TRUE(other_->Rollback(xid_).ok()) << "its own transaction, not the other one's";
  EXPECT_TRUE(IsListed(other_.get(), xid_));
  ASSERT_TRUE(session_->Commit(xid_).ok());
  EXPECT_EQ(Value(2), "0");
}

TEST_F(PostgresSessionTest, CopyIsRefused) {
  Begin();
  EXPECT_FALSE(session_->Query("COPY a FROM STDIN").ok());
  ASSERT_TRUE(session_->Rollback(xid_).ok());
  Begin();
  EXPECT_FALSE(session_->Query("COPY a TO STDOUT").ok());
  ASSERT_TRUE(session_->Rollback(xid_).ok());
}

}  // namespace
}  // namespace assent
