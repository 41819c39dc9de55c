// A connection that is not the branch's session any more: nothing may be finished on it, and nothing be reported.
#include <mariadb/mysql.h>

#include <memory>
#include <string>
#include <tuple>

#include "gtest/gtest.h"
#include "resource_manager/mariadb_session.h"
#include "resource_manager/reset_connection.h"
#include "resource_manager/test_server.h"

namespace assent {
namespace {

using Step = XaResult::Step;

// A branch on an adopted connection, which writes row 1.
class SessionResetTest : public testing::Test {
 protected:
  void SetUp() override {
    MustQuery(admin_.get(),
              "SET SESSION lock_wait_timeout = 5; CREATE DATABASE IF NOT EXISTS t; DROP TABLE IF EXISTS t.a; CREATE "
              "TABLE t.a (id INT "
              "PRIMARY KEY, v INT) ENGINE=InnoDB;"
              "INSERT INTO t.a VALUES (1, 0), (2, 0)");
    handle_ = mysql_init(nullptr);
    ASSERT_NE(mysql_real_connect(handle_, nullptr, "root", SharedServer().password().c_str(), "t", 0,
                                 SharedServer().socket().c_str(), 0),
              nullptr);
    auto session = MariaDbSession::Adopt(handle_);
    ASSERT_TRUE(session.ok()) << session.status();
    session_ = *std::move(session);
    ASSERT_TRUE(session_->Start(xid_, "UPDATE t.a SET v = 1 WHERE id = 1").xa.ok());
  }
  void TearDown() override {
    session_.reset();
    if (handle_ != nullptr) mysql_close(handle_);
  }

  void ResetIt(ResetBy how) { Reset(how, handle_, SharedServer().user(), SharedServer().password()); }

  // The server has let go of the session, so the branch is nobody's.
  void AwaitGone(uint64_t connection_id) {
    for (int i = 0; i < 500; ++i) {
      if (One(admin_.get(),
              absl::StrCat("SELECT COUNT(*) FROM information_schema.processlist WHERE id = ", connection_id)) == "0") {
        return absl::SleepFor(absl::Milliseconds(100));  // Longer than InnoDB takes (the detach barrier is not here).
      }
      absl::SleepFor(absl::Milliseconds(10));
    }
    ADD_FAILURE() << "the session is still there";
  }
  std::string Value(int id) { return One(admin_.get(), absl::StrCat("SELECT v FROM t.a WHERE id = ", id)); }

  Xid xid_ = NewXid();
  std::unique_ptr<MariaDbSession> admin_ = MustConnect();
  MYSQL* handle_ = nullptr;
  std::unique_ptr<MariaDbSession> session_;
};

class WhenAndHow : public SessionResetTest, public testing::WithParamInterface<std::tuple<BranchState, ResetBy>> {
 protected:
  void SetUp() override {
    SessionResetTest::SetUp();
    const BranchState state = std::get<0>(GetParam());
    // With ON the session is free then (mariadb_session_test); with OFF this can crash MySQL.
    if (OnMySql() && state == BranchState::kPrepared) GTEST_SKIP() << "not for MySQL";
    if (state == BranchState::kEnded) {
      ASSERT_TRUE(session_->End(xid_).ok());
    }
    if (state == BranchState::kPrepared) {
      ASSERT_TRUE(session_->Prepare(xid_, nullptr).ok());
    }
    ASSERT_EQ(session_->branch_state(), state);
    ResetIt(std::get<1>(GetParam()));
  }

  bool prepared() const { return std::get<0>(GetParam()) == BranchState::kPrepared; }

  void ExpectReset(const XaResult& result) {
    EXPECT_EQ(result.outcome, XaOutcome::kSessionReset) << result.error.code << " " << result.error.message;
    EXPECT_EQ(result.failed_step, Step::kGuard);
    EXPECT_EQ(result.branch, BranchState::kUnknown);
    EXPECT_TRUE(session_->was_reset());
    EXPECT_TRUE(session_->lost());
    EXPECT_FALSE(session_->holds_branch());
    EXPECT_EQ(session_->Commit(xid_).outcome, XaOutcome::kSessionReset) << "and it stays so";
    EXPECT_EQ(session_->Query("SELECT 1").error.code, kSessionResetCode);
    EXPECT_EQ(session_->BorrowHandle(), nullptr);
    EXPECT_NE(mysql_query(handle_, "SELECT 1"), 0) << "its owner must not be able to go on with it";
    AwaitGone(session_->connection_id());
    // Not a ghost: it is where anybody finds it, or properly rolled back.
    EXPECT_EQ(IsListed(admin_.get(), xid_), prepared());
    if (prepared()) {
      EXPECT_TRUE(admin_->Commit(xid_).ok());
    }
    EXPECT_EQ(Value(1), prepared() ? "1" : "0");
    MustQuery(admin_.get(), "SET SESSION innodb_lock_wait_timeout = 1; UPDATE t.a SET v = 5");
  }
};

TEST_P(WhenAndHow, CommitIsNotSent) { ExpectReset(session_->Commit(xid_)); }
TEST_P(WhenAndHow, RollbackIsNotSent) { ExpectReset(session_->Rollback(xid_)); }
// Of a prepared branch both would be errors anyway; here they are not even asked.
TEST_P(WhenAndHow, PrepareIsNotSent) { ExpectReset(session_->Prepare(xid_, nullptr)); }
TEST_P(WhenAndHow, CommitOnePhaseIsNotSent) { ExpectReset(session_->CommitOnePhase(xid_, nullptr)); }

INSTANTIATE_TEST_SUITE_P(All, WhenAndHow,
                         testing::Combine(testing::Values(BranchState::kActive, BranchState::kEnded,
                                                          BranchState::kPrepared),
                                          testing::ValuesIn(kAllResets)),
                         [](const testing::TestParamInfo<WhenAndHow::ParamType>& info) {
                           return absl::StrCat(std::string(ToString(std::get<0>(info.param))),
                                               ToString(std::get<1>(info.param)));
                         });

TEST_F(SessionResetTest, NoWitnessIsLeftOutsideOfTheBranch) {
  const WitnessTable witness = *WitnessTable::Parse("t.w");
  MustQuery(admin_.get(),
            "DROP TABLE IF EXISTS t.w; CREATE TABLE t.w (gtrid VARBINARY(64), bqual VARBINARY(64)) ENGINE=InnoDB");
  ResetIt(ResetBy::kBehindTheLibrary);
  EXPECT_EQ(session_->Prepare(xid_, &witness).outcome, XaOutcome::kSessionReset);
  EXPECT_EQ(One(admin_.get(), "SELECT COUNT(*) FROM t.w"), "0");
}

TEST_F(SessionResetTest, BetweenTwoBranchesNoResetDoesHarm) {
  for (const ResetBy by : kAllResets) {
    ASSERT_TRUE(session_->Prepare(xid_, nullptr).ok()) << ToString(by);
    ASSERT_TRUE(session_->Commit(xid_).ok()) << ToString(by);
    ResetIt(by);
    xid_ = NewXid();
    ASSERT_TRUE(session_->Start(xid_, "UPDATE t.a SET v = v + 1 WHERE id = 1").xa.ok()) << ToString(by);
  }
  ASSERT_TRUE(session_->Prepare(xid_, nullptr).ok());
  ASSERT_TRUE(session_->Commit(xid_).ok());
  EXPECT_EQ(Value(1), "4");
}

TEST_F(SessionResetTest, AStatementDoesNotReachTheServerAfterAResetByTheLibrary) {
  ResetIt(ResetBy::kResetConnection);
  const int64_t before = session_->round_trips();
  EXPECT_EQ(session_->Query("UPDATE t.a SET v = 7 WHERE id = 2").error.code, kSessionResetCode);
  EXPECT_EQ(session_->round_trips(), before);
  EXPECT_FALSE(session_->ran_outside());
  EXPECT_EQ(Value(2), "0");
}

TEST_F(SessionResetTest, AStatementThatRanOutsideIsNotAnsweredAsDone) {
  ResetIt(ResetBy::kBehindTheLibrary);
  EXPECT_EQ(session_->Query("UPDATE t.a SET v = 7 WHERE id = 2").error.code, kSessionResetCode);
  EXPECT_TRUE(session_->ran_outside());
  EXPECT_EQ(session_->Query("UPDATE t.a SET v = 8 WHERE id = 2").error.code, kSessionResetCode);
  EXPECT_EQ(Value(2), "7");
}

// The next user of a shared connection has a branch of his own on it: it must be neither finished nor taken for ours.
TEST_F(SessionResetTest, TheBranchOfTheNextUserIsLeftAlone) {
  ResetIt(ResetBy::kBehindTheLibrary);
  auto next = MariaDbSession::Adopt(handle_);
  ASSERT_TRUE(next.ok()) << next.status();
  ASSERT_TRUE((*next)->Start(NewXid(), "UPDATE t.a SET v = 9 WHERE id = 2").xa.ok());
  EXPECT_EQ(session_->Rollback(xid_).outcome, XaOutcome::kSessionReset);
  EXPECT_EQ(Value(2), "0");
}

TEST_F(SessionResetTest, AForgottenMarkIsAReset) {
  MustQuery(session_.get(), "SET @assent_branch = NULL");
  EXPECT_EQ(session_->Prepare(xid_, nullptr).outcome, XaOutcome::kSessionReset);
}

TEST_F(SessionResetTest, AFailedStartLeavesTheMarkOfTheBranchThatIsThere) {
  EXPECT_FALSE(session_->Start(NewXid()).xa.ok());
  EXPECT_FALSE(session_->Start(NewXid(), "SELECT 1").xa.ok());
  EXPECT_TRUE(session_->Prepare(xid_, nullptr).ok());
  EXPECT_TRUE(session_->Commit(xid_).ok());
  EXPECT_EQ(Value(1), "1");
}

TEST_F(SessionResetTest, AConnectionThatItsOwnerHasClosedIsLost) {
  ASSERT_TRUE(session_->Prepare(xid_, nullptr).ok());
  mysql_close(handle_);
  handle_ = nullptr;
  EXPECT_EQ(session_->Commit(xid_).outcome, XaOutcome::kConnectionLost);
  EXPECT_FALSE(session_->was_reset());
  AwaitGone(session_->connection_id());
  EXPECT_TRUE(admin_->Commit(xid_).ok());
  EXPECT_EQ(Value(1), "1");
}

TEST_F(SessionResetTest, AConnectionOfWhichTheOwnerWantedReconnectsIsLostAndNotReplaced) {
  const my_bool reconnect = 1;
  ASSERT_TRUE(session_->Rollback(xid_).ok());
  session_.reset();
  mysql_options(handle_, MYSQL_OPT_RECONNECT, &reconnect);
  session_ = *MariaDbSession::Adopt(handle_);
  ASSERT_TRUE(session_->Start(xid_, "UPDATE t.a SET v = 1 WHERE id = 1").xa.ok());
  MustQuery(admin_.get(), absl::StrCat("KILL CONNECTION ", session_->connection_id()));
  AwaitGone(session_->connection_id());
  EXPECT_FALSE(session_->Query("UPDATE t.a SET v = 7 WHERE id = 2").ok());
  EXPECT_TRUE(session_->lost());
  EXPECT_EQ(Value(2), "0");
}

// In every sql_mode that changes what an expression does with NULL, overflow or names.
TEST_F(SessionResetTest, TheModesOfTheApplicationChangeNothing) {
  ASSERT_TRUE(session_->Rollback(xid_).ok());
  std::vector<std::string> modes = {"", "TRADITIONAL", "ANSI", "NO_UNSIGNED_SUBTRACTION", "HIGH_NOT_PRECEDENCE"};
  if (!OnMySql()) modes.insert(modes.end(), {"ORACLE", "MSSQL"});
  for (const std::string& mode : modes) {
    const Xid xid = NewXid();
    MustQuery(session_.get(), absl::StrCat("SET sql_mode = '", mode, "'"));
    ASSERT_TRUE(session_->Start(xid, "UPDATE t.a SET v = v + 1 WHERE id = 1").xa.ok()) << mode;
    ASSERT_TRUE(session_->Prepare(xid, nullptr).ok()) << mode;
    ASSERT_TRUE(session_->Commit(xid).ok()) << mode;
  }
  const Xid xid = NewXid();
  MustQuery(session_.get(), "SET sql_mode = '', autocommit = 1, character_set_client = latin1");
  ASSERT_TRUE(session_->Start(xid, "UPDATE t.a SET v = v + 1 WHERE id = 1").xa.ok());
  MustQuery(session_.get(), "SET @assent_branch = 'abc'");
  EXPECT_EQ(session_->Prepare(xid, nullptr).outcome, XaOutcome::kSessionReset);
}

}  // namespace
}  // namespace assent
