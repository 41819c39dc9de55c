// The question a READ_ONLY vote rests on: a branch that wrote and is taken for a reader is a lost write.
#include <mariadb/mysql.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "resource_manager/mariadb_session.h"
#include "resource_manager/test_server.h"

namespace assent {
namespace {

struct ServerKind {
  const char* name;
  std::vector<std::string> extra;
};

void MustPrepare(MariaDbSession* session, const Xid& xid) { ASSERT_TRUE(session->Prepare(xid, nullptr).ok()); }

class WriteDetectorTest : public testing::TestWithParam<ServerKind> {
 protected:
  void SetUp() override {
    PrivateMariaDb::Options options;
    options.extra = GetParam().extra;
    auto started = StartServer(options);
    ASSERT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
    auto session = MustConnect(*server_);
    MustQuery(
        session.get(),
        "CREATE DATABASE t; USE t;"
        "CREATE TABLE a (id INT PRIMARY KEY, v INT) ENGINE=InnoDB;"
        "INSERT INTO a VALUES (1, 10), (2, 20);"
        "CREATE TABLE log (id INT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB;"
        "CREATE TABLE myisam (id INT) ENGINE=MyISAM;"
        "CREATE FUNCTION writes() RETURNS INT MODIFIES SQL DATA BEGIN INSERT INTO log VALUES (NULL); RETURN 1; END;"
        "CREATE TABLE triggering (id INT) ENGINE=InnoDB;"
        "CREATE TRIGGER tr AFTER INSERT ON triggering FOR EACH ROW INSERT INTO log VALUES (NULL);"
        "CREATE PROCEDURE rows_then_write() BEGIN SELECT 1; INSERT INTO log VALUES (NULL); END;"
        "CREATE PROCEDURE write_then_rows() BEGIN INSERT INTO log VALUES (NULL); SELECT 1; END;"
        "CREATE PROCEDURE dynamic() BEGIN PREPARE p FROM 'INSERT INTO log VALUES (NULL)'; EXECUTE p; SELECT 1; END;"
        "CREATE PROCEDURE half() BEGIN INSERT INTO a VALUES (50, 1); INSERT INTO a VALUES (50, 1); END;"
        "CREATE PROCEDURE reading() BEGIN SELECT * FROM a; END;");
  }

  std::unique_ptr<MariaDbSession> Connect() {
    ConnectOptions options = ConnectOptionsFor(*server_);
    options.database = "t";
    return MustConnect(options);
  }

  std::unique_ptr<PrivateMariaDb> server_;
};

TEST_P(WriteDetectorTest, EveryWayToWriteIsSeenAndNoWayToReadLooksLikeOne) {
  struct Case {
    const char* sql;
    bool writes;
    bool only_mariadb = false;  // MySQL does not know the syntax.
  };
  const Case kCases[] = {
      {"INSERT INTO a VALUES (3, 3)", true},
      {"UPDATE a SET v = v + 1", true},
      {"DELETE FROM a WHERE id = 1", true},
      {"REPLACE INTO a VALUES (1, 1)", true},
      {"INSERT IGNORE INTO a VALUES (1, 1)", true},
      {"UPDATE a SET v = 1 WHERE id = 99", true},  // Changes nothing; counts as written.
      {"INSERT INTO triggering VALUES (1)", true},
      {"CALL rows_then_write()", true},
      {"CALL write_then_rows()", true},
      {"CALL dynamic()", true},
      {"CALL half()", true},                  // Fails in its second statement; its first one stays.
      {"INSERT INTO a VALUES (1, 1)", true},  // Fails.
      {"DO writes()", true},
      {"SELECT writes() INTO @x", true},
      {"PREPARE p FROM 'UPDATE a SET v = v + 1'; EXECUTE p", true},
      {"UPDATE a SET v = v + 1; SELECT 1", true},
      {"SAVEPOINT s; UPDATE a SET v = v + 1; ROLLBACK TO s", true},
      {"INSERT INTO myisam VALUES (1)", true},
      // With these the report is lost with the rows: the probe must bring it back.
      {"SELECT writes()", true},
      {"INSERT INTO a VALUES (4, 4) RETURNING id", true, true},
      {"DELETE FROM a WHERE id = 1 RETURNING id", true, true},
      {"SELECT writes(); SELECT 1; SELECT 2", true},
      {"EXECUTE IMMEDIATE 'SELECT writes()'", true, true},
      // Somebody who switches the reports off gets no read-only branches, but no lost ones either.
      {"SET SESSION session_track_transaction_info = 'OFF'; UPDATE a SET v = v + 1", true},
      {"SET SESSION session_track_transaction_info = 'OFF'; UPDATE a SET v = v + 1; "
       "SET SESSION session_track_transaction_info = 'STATE'",
       true},
      {"SELECT * FROM a", false},
      {"SELECT * FROM a FOR UPDATE", true},  // Counts as written, and so keeps its locks.
      {"SELECT * FROM a LOCK IN SHARE MODE", false},
      {"SELECT nonsense", false},
      {"CALL reading()", false},
      {"SET @x = 1", false},
      {"DO SLEEP(0)", false},
      {"SELECT UUID(), NOW(), RAND()", false},
      {"SELECT * FROM myisam", false},
      {"SAVEPOINT s; SELECT * FROM a; ROLLBACK TO s", false},
  };
  for (const Case& c : kCases) {
    if (OnMySql() && c.only_mariadb) continue;
    auto session = Connect();
    // A branch that wrote before must not colour this one.
    const Xid earlier = NewXid();
    ASSERT_TRUE(session->Start(earlier, "UPDATE a SET v = v + 1").xa.ok());
    ASSERT_TRUE(session->Rollback(earlier).ok());
    for (const bool rides_with_start : {true, false}) {
      const Xid xid = NewXid();
      if (rides_with_start) {
        ASSERT_TRUE(session->Start(xid, c.sql).xa.ok());
      } else {
        ASSERT_TRUE(session->Start(xid).xa.ok());
        session->Query(c.sql);
      }
      EXPECT_EQ(session->MayHaveWritten(), c.writes) << c.sql;
      EXPECT_EQ(session->MayHaveWritten(), c.writes) << "asked again: " << c.sql;
      if (!c.writes) {
        EXPECT_FALSE(session->has_written()) << c.sql;
      }
      EXPECT_TRUE(session->Rollback(xid).ok()) << c.sql;
    }
  }
  auto session = Connect();
  const Xid empty = NewXid();
  ASSERT_TRUE(session->Start(empty).xa.ok());
  EXPECT_FALSE(session->MayHaveWritten());
  ASSERT_TRUE(session->Rollback(empty).ok());
}

// However a branch ended, the next one on its session is watched from its beginning. (A server that lets go of a branch
// at PREPARE may never be told on this session that it has ended.)
TEST_P(WriteDetectorTest, WhateverBecameOfTheBranchBeforeTheNextOneIsWatched) {
  struct Ending {
    const char* name;
    std::function<void(MariaDbSession*, MariaDbSession*, const Xid&)> end;
    bool needs_detach = false;
  };
  const Ending kEndings[] = {
      {"committed",
       [](MariaDbSession* own, MariaDbSession*, const Xid& xid) {
         MustPrepare(own, xid);
         ASSERT_TRUE(own->Commit(xid).ok());
       }},
      {"rolled back",
       [](MariaDbSession* own, MariaDbSession*, const Xid& xid) {
         MustPrepare(own, xid);
         ASSERT_TRUE(own->Rollback(xid).ok());
       }},
      {"rolled back unprepared",
       [](MariaDbSession* own, MariaDbSession*, const Xid& xid) { ASSERT_TRUE(own->Rollback(xid).ok()); }},
      {"committed in one phase", [](MariaDbSession* own, MariaDbSession*,
                                    const Xid& xid) { ASSERT_TRUE(own->CommitOnePhase(xid, nullptr).ok()); }},
      {"left", [](MariaDbSession* own, MariaDbSession*, const Xid& xid) { MustPrepare(own, xid); }, true},
      {"committed by another",
       [](MariaDbSession* own, MariaDbSession* other, const Xid& xid) {
         MustPrepare(own, xid);
         ASSERT_TRUE(other->Commit(xid).ok());
       },
       true},
      {"committed by another and asked for",
       [](MariaDbSession* own, MariaDbSession* other, const Xid& xid) {
         MustPrepare(own, xid);
         ASSERT_TRUE(other->Commit(xid).ok());
         ASSERT_FALSE(own->Commit(xid).ok());
       },
       true},
      {"rolled back by another and asked for",
       [](MariaDbSession* own, MariaDbSession* other, const Xid& xid) {
         MustPrepare(own, xid);
         ASSERT_TRUE(other->Rollback(xid).ok());
         ASSERT_FALSE(own->Rollback(xid).ok());
       },
       true},
  };
  for (const Ending& ending : kEndings) {
    auto session = Connect();
    auto other = Connect();
    if (ending.needs_detach && !session->detaches()) continue;
    const Xid before = NewXid();
    ASSERT_TRUE(session->Start(before, "UPDATE a SET v = v + 1 WHERE id = 1").xa.ok()) << ending.name;
    ending.end(session.get(), other.get(), before);
    for (const bool rides_with_start : {true, false, true}) {
      const Xid xid = NewXid();
      if (rides_with_start) {
        ASSERT_TRUE(session->Start(xid, "UPDATE a SET v = v + 1 WHERE id = 2").xa.ok()) << ending.name;
      } else {
        ASSERT_TRUE(session->Start(xid).xa.ok()) << ending.name;
        MustQuery(session.get(), "UPDATE a SET v = v + 1 WHERE id = 2");
      }
      EXPECT_TRUE(session->MayHaveWritten()) << ending.name;
      ASSERT_TRUE(session->Rollback(xid).ok()) << ending.name;
    }
    other->Rollback(before);
  }
}

TEST_P(WriteDetectorTest, SeesPreparedStatementsOnTheBorrowedHandle) {
  auto session = Connect();
  for (const bool writes : {true, false, true}) {
    const Xid xid = NewXid();
    ASSERT_TRUE(session->Start(xid).xa.ok());
    MYSQL* const handle = session->BorrowHandle();
    ASSERT_NE(handle, nullptr);
    MYSQL_STMT* const statement = mysql_stmt_init(handle);
    const std::string sql = writes ? "UPDATE a SET v = v + 1" : "SELECT v FROM a";
    ASSERT_EQ(mysql_stmt_prepare(statement, sql.data(), sql.size()), 0);
    ASSERT_EQ(mysql_stmt_execute(statement), 0);
    ASSERT_EQ(mysql_stmt_store_result(statement), 0);
    mysql_stmt_close(statement);
    EXPECT_EQ(session->MayHaveWritten(), writes);
    ASSERT_TRUE(session->Rollback(xid).ok());
  }
}

// Against the rules, and yet it must not lose the write.
TEST_P(WriteDetectorTest, SeesStatementsOfAnOwnerWhoKeepsUsingHisConnection) {
  MYSQL* const handle = mysql_init(nullptr);
  ASSERT_NE(
      mysql_real_connect(handle, nullptr, "root", server_->password().c_str(), "t", 0, server_->socket().c_str(), 0),
      nullptr);
  {
    auto session = MariaDbSession::Adopt(handle);
    ASSERT_TRUE(session.ok()) << session.status();
    const Xid xid = NewXid();
    ASSERT_TRUE((*session)->Start(xid, "SELECT * FROM a").xa.ok());
    ASSERT_EQ(mysql_query(handle, "UPDATE a SET v = v + 1"), 0);
    EXPECT_TRUE((*session)->MayHaveWritten());
    ASSERT_TRUE((*session)->Rollback(xid).ok());
  }
  mysql_close(handle);
}

INSTANTIATE_TEST_SUITE_P(
    Servers, WriteDetectorTest,
    testing::Values(
        ServerKind{"NoBinlog", {"--skip-log-bin"}},
        ServerKind{"BinlogRow", {"--log-bin", "--binlog-format=ROW", "--log-bin-trust-function-creators=1"}},
        ServerKind{"BinlogMixed", {"--log-bin", "--binlog-format=MIXED", "--log-bin-trust-function-creators=1"}},
        ServerKind{"BinlogStatement",
                   {"--log-bin", "--binlog-format=STATEMENT", "--log-bin-trust-function-creators=1"}}),
    [](const testing::TestParamInfo<ServerKind>& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace assent
