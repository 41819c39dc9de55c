#include "resource_manager/postgres_check.h"

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/address.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/database_engine.h"
#include "resource_manager/postgres_test_server.h"

namespace assent {
namespace {

using testing::HasSubstr;

v1::Resource ResourceOf(const PrivatePostgres& server) {
  v1::Resource resource;
  resource.set_name("stock");
  resource.set_engine(v1::Resource::ENGINE_POSTGRESQL);
  resource.set_address(server.unix_address());
  resource.set_user(server.user());
  resource.set_database(server.database());
  return resource;
}

std::vector<v1::Finding> Check(const PrivatePostgres& server, const v1::Resource& resource) {
  return CheckResource(resource, server.password(), [&]() -> absl::Status {
    const DatabaseEngine* const engine = FindDatabaseEngine(resource.engine());
    auto recovery = engine->recover(*ConnectOptionsOf(resource, server.password()), 1);
    return recovery.ok() ? (*recovery)->Install(absl::nullopt) : recovery.status();
  });
}

v1::Finding Get(const std::vector<v1::Finding>& findings, const std::string& check) {
  for (const v1::Finding& finding : findings) {
    if (finding.check() == check) return finding;
  }
  ADD_FAILURE() << "no finding " << check;
  return v1::Finding();
}

TEST(PostgresCheckTest, AGoodServerIsWellInEveryPoint) {
  const std::vector<v1::Finding> findings = Check(SharedPostgres(), ResourceOf(SharedPostgres()));
  std::string checks;
  for (const v1::Finding& finding : findings) {
    absl::StrAppend(&checks, finding.check(), " ");
    EXPECT_EQ(finding.severity(), v1::Finding::SEVERITY_OK) << finding.DebugString();
    EXPECT_EQ(finding.DebugString().find(SharedPostgres().password()), std::string::npos);
  }
  EXPECT_EQ(
      checks,
      "reachable server standby prepared claim pg_prepared_xacts privileges durability timeouts connections pooler "
      "clock ");
}

TEST(PostgresCheckTest, WithoutPreparedTransactionsItIsUnfitAndNothingIsMade) {
  PrivatePostgres::Options options;
  options.settings = {"max_prepared_transactions=0", "fsync=off", "idle_in_transaction_session_timeout=5s"};
  auto server = PrivatePostgres::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  const v1::Resource resource = ResourceOf(**server);
  std::vector<v1::Finding> findings = Check(**server, resource);
  EXPECT_TRUE(IsUnfit(findings));
  EXPECT_EQ(findings.size(), 4u);
  EXPECT_THAT(Get(findings, "prepared").remedy(), HasSubstr("ALTER SYSTEM SET max_prepared_transactions"));
  auto session = MustConnectPostgres(ConnectOptionsFor(**server));
  EXPECT_EQ(One(session.get(), "SELECT to_regnamespace('assent')"), "NULL");
  ASSERT_TRUE((*server)
                  ->Restart({"max_prepared_transactions=5", "fsync=off", "idle_session_timeout=5s",
                             "idle_in_transaction_session_timeout=3s"})
                  .ok());
  findings = Check(**server, resource);
  EXPECT_FALSE(IsUnfit(findings));
  EXPECT_EQ(Get(findings, "prepared").severity(), v1::Finding::SEVERITY_WARNING);
  EXPECT_THAT(Get(findings, "durability").remedy(), HasSubstr("fsync = on"));
  EXPECT_THAT(Get(findings, "timeouts").detail(), HasSubstr("idle_session_timeout is 5s"));
  EXPECT_THAT(Get(findings, "timeouts").detail(), HasSubstr("idle_in_transaction_session_timeout is 3s"));
}

TEST(PostgresCheckTest, WhatCannotBeReachedIsSaid) {
  v1::Resource resource = ResourceOf(SharedPostgres());
  resource.set_database("nowhere");
  EXPECT_THAT(CheckResource(resource, SharedPostgres().password())[0].detail(),
              HasSubstr("\"nowhere\" does not exist"));
  resource = ResourceOf(SharedPostgres());
  EXPECT_THAT(CheckResource(resource, "wrong")[0].detail(), HasSubstr("password authentication failed"));
  resource.set_address("127.0.0.1:1");
  EXPECT_TRUE(IsUnreachable(CheckResource(resource, "")));
  resource.set_address("unix:/nowhere");
  EXPECT_TRUE(IsUnreachable(CheckResource(resource, "")));
}

TEST(PostgresCheckTest, AnOrdinaryAccountIsToldWhatItLacks) {
  auto admin = MustConnectPostgres();
  MustQuery(admin.get(), "CREATE ROLE plain LOGIN PASSWORD 'p'");
  v1::Resource resource = ResourceOf(SharedPostgres());
  resource.set_user("plain");
  const auto check = [&] {
    return CheckResource(resource, "p", [&]() -> absl::Status {
      auto recovery = FindDatabaseEngine(resource.engine())->recover(*ConnectOptionsOf(resource, "p"), 1);
      return recovery.ok() ? (*recovery)->Install(absl::nullopt) : recovery.status();
    });
  };
  MustQuery(admin.get(), "DROP SCHEMA IF EXISTS assent CASCADE");
  std::vector<v1::Finding> findings = check();
  EXPECT_EQ(Get(findings, "claim").severity(), v1::Finding::SEVERITY_ERROR);
  // What the remedy says helps.
  EXPECT_THAT(Get(findings, "claim").remedy(), HasSubstr("GRANT CREATE ON DATABASE \"postgres\" TO \"plain\""));
  MustQuery(admin.get(), "GRANT CREATE ON DATABASE \"postgres\" TO \"plain\"");
  findings = check();
  EXPECT_EQ(Get(findings, "claim").severity(), v1::Finding::SEVERITY_OK) << Get(findings, "claim").DebugString();
  const v1::Finding privileges = Get(findings, "privileges");
  EXPECT_EQ(privileges.severity(), v1::Finding::SEVERITY_WARNING);
  for (const char* grant : {"GRANT <role>", "GRANT pg_read_all_stats", "GRANT pg_signal_backend"}) {
    EXPECT_THAT(privileges.remedy(), HasSubstr(grant));
  }
}

PostgresServer Good() {
  PostgresServer server;
  server.version_number = 150018;
  server.settings = {{"max_connections", "100"},
                     {"max_prepared_transactions", "100"},
                     {"superuser_reserved_connections", "3"},
                     {"fsync", "on"}};
  server.is_superuser = true;
  return server;
}

TEST(PostgresCheckTest, WhatFollowsFromFactsAlone) {
  PostgresServer server = Good();
  EXPECT_EQ(JudgePostgresVersion(server).severity(), v1::Finding::SEVERITY_OK);
  server.version_number = 130004;
  EXPECT_EQ(JudgePostgresVersion(server).severity(), v1::Finding::SEVERITY_ERROR);
  server.in_recovery = true;
  EXPECT_EQ(JudgeStandby(server).severity(), v1::Finding::SEVERITY_ERROR);
  server.prepared = 3;
  server.oldest_prepared = absl::Hours(1);
  EXPECT_EQ(JudgePreparedXacts(server, {}).severity(), v1::Finding::SEVERITY_WARNING);
  server.connections = 90;
  EXPECT_EQ(JudgePostgresConnections(server).severity(), v1::Finding::SEVERITY_WARNING);
  server.connections = 10;
  EXPECT_EQ(JudgePostgresConnections(server).severity(), v1::Finding::SEVERITY_OK);
  server.behind_a_pooler = true;
  EXPECT_EQ(JudgePooler(server).severity(), v1::Finding::SEVERITY_WARNING);
}

}  // namespace
}  // namespace assent
