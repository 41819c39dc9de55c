#include "resource_manager/engine_view.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/test_server.h"

namespace assent {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;
using testing::Pair;

// As MariaDB 10.11.19 writes it, shortened: an old deadlock of connections 90 and 91, an active and a prepared
// transaction, a detached one, a session without a transaction.
constexpr char kStatus[] = R"(
=====================================
2026-11-23 10:00:00 0x7f8170cc5b80 INNODB MONITOR OUTPUT
=====================================
------------------------
LATEST DETECTED DEADLOCK
------------------------
*** (1) TRANSACTION:
TRANSACTION 11, ACTIVE 1 sec starting index read
MariaDB thread id 90, OS thread handle 140193907865280, query id 10 localhost root Updating
*** (2) TRANSACTION:
TRANSACTION 12, ACTIVE 1 sec starting index read
MariaDB thread id 91, OS thread handle 140193907865281, query id 11 localhost root Updating
------------
TRANSACTIONS
------------
Trx id counter 26
LIST OF TRANSACTIONS FOR EACH SESSION:
---TRANSACTION 25, ACTIVE 3 sec inserting
mysql tables in use 1, locked 1
2 lock struct(s), heap size 1128, 0 row lock(s), undo log entries 2
MariaDB thread id 7, OS thread handle 140193907865282, query id 12 localhost root Update
INSERT INTO t VALUES ('a query')
---TRANSACTION 24, ACTIVE (PREPARED) 0 sec
2 lock struct(s), heap size 1128, 0 row lock(s), undo log entries 2
MariaDB thread id 5, OS thread handle 140193907865280, query id 10 localhost root 
---TRANSACTION 23, ACTIVE (PREPARED) 1 sec recovered trx
2 lock struct(s), heap size 1128, 0 row lock(s), undo log entries 2
---TRANSACTION (0x7f8170cc5b80), not started
0 lock struct(s), heap size 1128, 0 row lock(s)
--------
FILE I/O
--------
I/O thread 0 state: (null) ((null))
----------------------------
END OF INNODB MONITOR OUTPUT
============================
)";

TEST(ParseInnodbStatusTest, ReadsTransactionsAndNotOldDeadlocks) {
  const auto view = ParseInnodbStatus(kStatus);
  ASSERT_TRUE(view);
  EXPECT_THAT(view->connections, ElementsAre(5, 7));
  EXPECT_THAT(view->prepared, ElementsAre(Pair(5, "---TRANSACTION 24")));
  EXPECT_EQ(view->prepared_detached, 1);
}

TEST(ParseInnodbStatusTest, NothingRunning) {
  const auto view =
      ParseInnodbStatus("\nLIST OF TRANSACTIONS FOR EACH SESSION:\n--------\nEND OF INNODB MONITOR OUTPUT\n");
  ASSERT_TRUE(view);
  EXPECT_THAT(view->connections, IsEmpty());
  EXPECT_EQ(view->prepared_detached, 0);
}

TEST(ParseInnodbStatusTest, WhatIsNotCompleteProvesNothing) {
  const std::string status = kStatus;
  EXPECT_FALSE(ParseInnodbStatus(""));
  EXPECT_FALSE(ParseInnodbStatus(status.substr(0, status.find("---TRANSACTION 23"))));
  EXPECT_FALSE(
      ParseInnodbStatus(absl::StrReplaceAll(status, {{"---TRANSACTION 25", "... truncated...\n---TRANSACTION 25"}})));
  EXPECT_FALSE(ParseInnodbStatus(absl::StrReplaceAll(
      status, {{"LIST OF TRANSACTIONS FOR EACH SESSION:", "FAIL TO OBTAIN LOCK MUTEX, SKIP LOCK INFO PRINTING"}})));
}

TEST(ParseInnodbStatusTest, TextsOfUsersHideNothing) {
  const auto view = ParseInnodbStatus(absl::StrReplaceAll(
      kStatus,
      {{"INSERT INTO t VALUES ('a query')",
        "SELECT '\n---TRANSACTION 99, not started\nLIST OF TRANSACTIONS FOR EACH SESSION:\n--------\nFILE I/O\n'"}}));
  ASSERT_TRUE(view);
  EXPECT_THAT(view->connections, ElementsAre(5, 7));
  EXPECT_THAT(view->prepared, ElementsAre(Pair(5, "---TRANSACTION 24")));
}

class EngineViewTest : public testing::Test {
 protected:
  EngineView Must(absl::StatusOr<EngineViewResult> result) {
    EXPECT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->kind, EngineViewResult::Kind::kOk);
    return result->view;
  }
  const std::unique_ptr<MariaDbSession> admin_ = MustConnect();
};

TEST_F(EngineViewTest, SeesWhoHoldsABranch) {
  MustQuery(admin_.get(),
            "CREATE DATABASE IF NOT EXISTS view; DROP TABLE IF EXISTS view.t; CREATE TABLE view.t (id INT PRIMARY KEY) "
            "ENGINE=InnoDB");
  auto session = MustConnect();
  const uint64_t id = session->connection_id();
  const Xid xid = NewXid();
  ASSERT_TRUE(session->Start(xid, "INSERT INTO view.t VALUES (1)").xa.ok());
  for (const bool whole : {true, false}) {
    const EngineView view = Must(whole ? ReadEngineView(admin_.get()) : ReadInnodbTrx(admin_.get()));
    EXPECT_THAT(view.connections, Contains(id));
    EXPECT_EQ(view.prepared.count(id), whole ? 0u : 1u) << "INNODB_TRX does not tell";
  }
  ASSERT_TRUE(session->Prepare(xid, nullptr).ok());
  for (const bool whole : {true, false}) {
    const EngineView view = Must(whole ? ReadEngineView(admin_.get()) : ReadInnodbTrx(admin_.get()));
    EXPECT_EQ(view.prepared.count(id), Detaches() ? 0u : 1u);
  }
  session->Abandon();
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (Must(ReadEngineView(admin_.get())).connections.count(id) != 0 && absl::Now() < deadline) {
  }
  EXPECT_THAT(Must(ReadEngineView(admin_.get())).prepared_detached, 1);
  EXPECT_THAT(Must(ReadInnodbTrx(admin_.get())).connections, Not(Contains(id)));
  EXPECT_TRUE(admin_->Rollback(xid).ok());
}

// INNODB_TRX is served from a cache that anybody's reading keeps alive: an old answer must not pass for a new one.
TEST_F(EngineViewTest, AnOldAnswerIsNotTakenForANewOne) {
  MustQuery(admin_.get(), "SELECT COUNT(*) FROM information_schema.INNODB_TRX");  // Fills the cache: nobody is in it.
  auto session = MustConnect();
  MustQuery(session.get(), "START TRANSACTION WITH CONSISTENT SNAPSHOT");
  EXPECT_THAT(Must(ReadInnodbTrx(admin_.get())).connections, Contains(session->connection_id()));

  // A monitor that reads all the time keeps it as it is for ever: then there is no answer.
  std::atomic<bool> stop{false};
  std::thread monitor([&] {
    auto reader = MustConnect();
    while (!stop) reader->Query("SELECT COUNT(*) FROM information_schema.INNODB_TRX");
  });
  absl::SleepFor(absl::Milliseconds(200));
  const auto starved = ReadInnodbTrx(admin_.get());
  stop = true;
  monitor.join();
  ASSERT_TRUE(starved.ok()) << starved.status();
  // On a machine that stops the monitor for 100 ms the answer may be fresh; then it must be right.
  if (starved->kind == EngineViewResult::Kind::kOk) {
    EXPECT_THAT(starved->view.connections, Contains(session->connection_id()));
  } else {
    EXPECT_EQ(starved->kind, EngineViewResult::Kind::kNotNow);
  }
}

TEST_F(EngineViewTest, NeedsProcess) {
  MustQuery(admin_.get(), "DROP USER IF EXISTS nobody@localhost; CREATE USER nobody@localhost IDENTIFIED BY 'p'");
  ConnectOptions options = ConnectOptionsFor(SharedServer());
  options.user = "nobody";
  options.password = "p";
  const auto session = MustConnect(options);
  EXPECT_EQ(ReadEngineView(session.get())->kind, EngineViewResult::Kind::kForbidden);
  EXPECT_EQ(ReadInnodbTrx(session.get())->kind, EngineViewResult::Kind::kForbidden);
}

}  // namespace
}  // namespace assent
