#include "postgres/connection.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "base/address.h"
#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fixtures/private_postgres.h"

namespace assent {
namespace {

using testing::HasSubstr;

class PostgresConnectionTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto started = PrivatePostgres::Start();
    ASSERT_TRUE(started.ok()) << started.status();
    server_ = started->release();
  }
  static void TearDownTestSuite() { delete server_; }

  static ConnectOptions Options() {
    ConnectOptions options;
    options.address = *ParseAddress(server_->unix_address());
    options.user = server_->user();
    options.password = server_->password();
    options.database = server_->database();
    return options;
  }
  static std::unique_ptr<PostgresConnection> Connect(const ConnectOptions& options = Options()) {
    auto connection = PostgresConnection::Connect(options);
    EXPECT_TRUE(connection.ok()) << connection.status();
    return connection.ok() ? *std::move(connection) : nullptr;
  }

  static PrivatePostgres* server_;
};
PrivatePostgres* PostgresConnectionTest::server_ = nullptr;

TEST_F(PostgresConnectionTest, AnswersOfAMessageComeOneByOneUpToTheFirstError) {
  auto connection = Connect();
  const QueryResult result =
      connection->Query("CREATE TABLE t (id INT, v TEXT); INSERT INTO t VALUES (1, 'a'), (2, NULL); SELECT * FROM t");
  ASSERT_TRUE(result.ok()) << result.error.message;
  ASSERT_EQ(result.results.size(), 3u);
  EXPECT_EQ(result.results[1].command_tag, "INSERT 0 2");
  EXPECT_EQ(result.affected_rows(), 2u);
  EXPECT_EQ(result.results[2].columns, (std::vector<std::string>{"id", "v"}));
  EXPECT_EQ(result.rows()[1][1], absl::nullopt);
  const QueryResult failed = connection->Query("SELECT 1; SELECT nowhere; SELECT 2");
  EXPECT_EQ(failed.results.size(), 1u);
  EXPECT_EQ(failed.error.sqlstate, "42703");
  EXPECT_EQ(failed.error.code, 0);
  EXPECT_TRUE(connection->Query("SELECT 1").ok()) << "an error is not the end";
  EXPECT_EQ(connection->round_trips(), 3);
}

TEST_F(PostgresConnectionTest, TheServerTellsWhereTheTransactionStands) {
  using Transaction = PostgresConnection::Transaction;
  auto connection = Connect();
  EXPECT_EQ(connection->transaction(), Transaction::kNone);
  connection->Query("BEGIN");
  EXPECT_EQ(connection->transaction(), Transaction::kOpen);
  connection->Query("SELECT 1/0");
  EXPECT_EQ(connection->transaction(), Transaction::kFailed);
  connection->Query("ROLLBACK");
  EXPECT_EQ(connection->transaction(), Transaction::kNone);
}

TEST_F(PostgresConnectionTest, AnyBytesOfTextComeBackAsTheyWere) {
  auto connection = Connect();
  for (const std::string text : {"it's", "a\\b", "\\'; DROP TABLE t; --", "\"", "ä€", ""}) {
    for (const char* standard : {"on", "off"}) {
      ASSERT_TRUE(connection->Query(absl::StrCat("SET standard_conforming_strings = ", standard)).ok());
      const QueryResult result = connection->Query(absl::StrCat("SELECT ", QuoteLiteral(text)));
      ASSERT_TRUE(result.ok()) << text << " " << result.error.message;
      EXPECT_EQ(result.rows()[0][0], text) << standard;
    }
    if (text.empty()) continue;
    const QueryResult named = connection->Query(absl::StrCat("SELECT 1 AS ", QuoteIdentifier(text)));
    ASSERT_TRUE(named.ok()) << text << " " << named.error.message;
    EXPECT_EQ(named.results[0].columns[0], text);
  }
  EXPECT_EQ(QuoteLiteral(std::string("a\0b", 3)), "'a'");
}

TEST_F(PostgresConnectionTest, WhatHoldsANulIsNotSentInPart) {
  auto connection = Connect();
  ASSERT_TRUE(connection->Query("CREATE TABLE n (v INT); INSERT INTO n VALUES (1), (2)").ok());
  const QueryResult refused = connection->Query(absl::string_view("UPDATE n SET v = 0 \0WHERE v = 1", 32));
  EXPECT_EQ(refused.error.sqlstate, "22021");
  EXPECT_FALSE(connection->sent());
  EXPECT_EQ(connection->Query("SELECT COUNT(*) FROM n WHERE v = 0").rows()[0][0], std::string("0"));
}

TEST_F(PostgresConnectionTest, ASilentServerIsGivenUp) {
  ConnectOptions options = Options();
  options.read_timeout = absl::Seconds(1);
  auto connection = Connect(options);
  const QueryResult result = connection->Query("SELECT pg_sleep(30)");
  EXPECT_EQ(result.error.code, kConnectionLostCode);
  EXPECT_TRUE(connection->lost());
  EXPECT_FALSE(connection->Query("SELECT 1").ok());
  EXPECT_FALSE(connection->sent());
}

TEST_F(PostgresConnectionTest, AddressesAndRefusals) {
  ConnectOptions options = Options();
  options.address = *ParseAddress(server_->tcp_address());
  EXPECT_TRUE(Connect(options)->Query("SELECT 1").ok());
  options.tls.required = true;
  options.tls.verify = false;
  const absl::Status no_tls = PostgresConnection::Connect(options).status();
  EXPECT_EQ(ReasonOf(no_tls), Reason::DATABASE_UNREACHABLE) << no_tls;
  EXPECT_THAT(std::string(no_tls.message()), HasSubstr("SSL"));
  options = Options();
  options.user = "nobody'\\";
  EXPECT_EQ(ReasonOf(PostgresConnection::Connect(options).status()), Reason::DATABASE_ERROR);
  options = Options();
  options.database = "no such'database";
  EXPECT_EQ(ReasonOf(PostgresConnection::Connect(options).status()), Reason::DATABASE_ERROR);
  options.address = *ParseAddress("unix:/nowhere/.s.PGSQL.1");
  EXPECT_EQ(ReasonOf(PostgresConnection::Connect(options).status()), Reason::DATABASE_UNREACHABLE);
}

}  // namespace
}  // namespace assent
