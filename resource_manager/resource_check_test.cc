#include "resource_manager/resource_check.h"

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/db_error.h"
#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/database_engine.h"
#include "resource_manager/test_server.h"
#include "resource_manager/witness.h"

namespace assent {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;

constexpr auto kOk = v1::Finding::SEVERITY_OK;
constexpr auto kWarning = v1::Finding::SEVERITY_WARNING;
constexpr auto kError = v1::Finding::SEVERITY_ERROR;

v1::Resource ResourceOf(const PrivateMariaDb& server) {
  v1::Resource resource;
  resource.set_name("r");
  resource.set_engine(server.engine());
  resource.set_address(server.tcp_address());
  resource.set_user(server.user());
  return resource;
}

std::vector<std::string> Checks(const std::vector<v1::Finding>& findings) {
  std::vector<std::string> checks;
  for (const v1::Finding& finding : findings) {
    checks.push_back(finding.check());
    // Whatever is not well comes with what to do about it.
    EXPECT_EQ(finding.remedy().empty(), finding.severity() == kOk) << finding.ShortDebugString();
    EXPECT_FALSE(finding.detail().empty());
  }
  return checks;
}

v1::Finding Get(const std::vector<v1::Finding>& findings, const std::string& check) {
  for (const v1::Finding& finding : findings) {
    if (finding.check() == check) return finding;
  }
  ADD_FAILURE() << "no finding " << check;
  return {};
}

// As a registration does.
std::vector<v1::Finding> CheckAndInstall(const v1::Resource& resource, const std::string& password) {
  return CheckResource(resource, password, [&]() -> absl::Status {
    auto session = MariaDbSession::Connect(*ConnectOptionsOf(resource, password));
    if (!session.ok()) return session.status();
    return InstallWitness(session->get(), *WitnessTable::OfSchema(resource.witness_schema()));
  });
}

TEST(ResourceCheckTest, GoodServerAllInOrder) {
  PrivateMariaDb::Options options;
  options.extra = {"--log-bin", "--sync-binlog=1", "--lock-wait-timeout=50"};
  auto started = StartServer(options);
  ASSERT_TRUE(started.ok()) << started.status();
  v1::Resource resource = ResourceOf(**started);
  for (const std::string& address : {(*started)->tcp_address(), (*started)->unix_address()}) {
    resource.set_address(address);
    const auto findings = CheckAndInstall(resource, (*started)->password());
    std::vector<std::string> expected = {"reachable", "server", "galera", "engine", "witness", "xa_recover"};
    if (OnMySql()) expected.push_back("detach");
    for (const char* check : {"privileges", "durability", "binlog", "replication", "read_only", "lock_wait", "timeouts",
                              "connections", "clock", "tables"}) {
      expected.push_back(check);
    }
    EXPECT_THAT(Checks(findings), ElementsAreArray(expected));
    for (const v1::Finding& finding : findings) {
      // A MySQL that holds branches is as fit as MariaDB, but could do better.
      const bool held = OnMySql() && !Detaches() && finding.check() == "detach";
      EXPECT_EQ(finding.severity(), held ? kWarning : kOk) << finding.ShortDebugString();
    }
    EXPECT_FALSE(IsUnfit(findings));
    EXPECT_FALSE(IsUnreachable(findings));
    EXPECT_THAT(Get(findings, "witness").detail(), HasSubstr("is there"));
  }
}

TEST(ResourceCheckTest, LookingMakesNothing) {
  auto admin = MustConnect();
  MustQuery(admin.get(), "DROP DATABASE IF EXISTS assent");
  const v1::Resource resource = ResourceOf(SharedServer());
  const v1::Finding missing = Get(CheckResource(resource, SharedServer().password()), "witness");
  EXPECT_EQ(missing.severity(), kError);
  EXPECT_THAT(missing.detail(), HasSubstr("is missing"));
  EXPECT_THAT(missing.remedy(), HasSubstr("resources register"));
  EXPECT_EQ(One(admin.get(), "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'assent'"), "0");
  EXPECT_EQ(Get(CheckAndInstall(resource, SharedServer().password()), "witness").severity(), kOk);
  MustQuery(admin.get(), "DELETE FROM assent.witness");
  EXPECT_THAT(Get(CheckResource(resource, SharedServer().password()), "witness").detail(), HasSubstr("was emptied"));
}

TEST(ResourceCheckTest, AServerAsItIsInstalledHasRisksAndIsNotRefused) {
  const auto findings = CheckAndInstall(ResourceOf(SharedServer()), SharedServer().password());
  EXPECT_FALSE(IsUnfit(findings));
  std::vector<std::string> risks;
  for (const v1::Finding& finding : findings) {
    if (finding.severity() != kOk) risks.push_back(finding.check());
  }
  if (OnMySql() && !Detaches()) {
    EXPECT_THAT(risks, ElementsAre("detach", "lock_wait"));
  } else {
    EXPECT_THAT(risks, ElementsAre("lock_wait"));
  }
  // MySQL's default is a year.
  EXPECT_THAT(Get(findings, "lock_wait").detail(), HasSubstr(OnMySql() ? "8760h" : "24h"));
}

TEST(ResourceCheckTest, AServerOfTheOtherEngineIsRefused) {
  v1::Resource resource = ResourceOf(SharedServer());
  resource.set_engine(OnMySql() ? v1::Resource::ENGINE_MARIADB : v1::Resource::ENGINE_MYSQL);
  const v1::Finding server = Get(CheckResource(resource, SharedServer().password()), "server");
  EXPECT_EQ(server.severity(), kError);
  EXPECT_THAT(server.detail(), HasSubstr(OnMySql() ? "register it as mysql" : "register it as mariadb"));
}

TEST(ResourceCheckTest, UnreachableIsAFinding) {
  v1::Resource resource = ResourceOf(SharedServer());
  for (const char* address : {"127.0.0.1:1", "unix:/nonexistent", "nonsense", "no-such-host.invalid:3306"}) {
    resource.set_address(address);
    const auto findings = CheckResource(resource, SharedServer().password());
    EXPECT_THAT(Checks(findings), ElementsAre("reachable")) << address;
    EXPECT_TRUE(IsUnreachable(findings));
    EXPECT_TRUE(IsUnfit(findings));
  }
  EXPECT_EQ(ReasonOf(ConnectOptionsOf(ResourceOf(SharedServer()), "").status()), absl::nullopt);
  resource.set_address("nonsense");
  EXPECT_EQ(ReasonOf(ConnectOptionsOf(resource, "").status()), Reason::INVALID_RESOURCE);
}

TEST(ResourceCheckTest, SuspendedServerIsUnreachableInTime) {
  auto started = StartServer();
  ASSERT_TRUE(started.ok()) << started.status();
  (*started)->Suspend();
  const absl::Time start = absl::Now();
  EXPECT_TRUE(IsUnreachable(CheckResource(ResourceOf(**started), (*started)->password())));
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
}

TEST(ResourceCheckTest, WrongPasswordIsNotRepeated) {
  const auto findings = CheckResource(ResourceOf(SharedServer()), "wrong-secret");
  EXPECT_TRUE(IsUnreachable(findings));
  EXPECT_THAT(findings[0].detail(), HasSubstr("1045"));
  for (const v1::Finding& finding : findings) {
    EXPECT_THAT(finding.ShortDebugString(), testing::Not(HasSubstr("wrong-secret")));
  }
}

TEST(ResourceCheckTest, WitnessDisabledBadOrForbidden) {
  v1::Resource resource = ResourceOf(SharedServer());
  resource.set_witness(v1::WITNESS_DISABLED);
  EXPECT_EQ(Get(CheckResource(resource, SharedServer().password()), "witness").severity(), kWarning);
  resource.set_witness(v1::WITNESS_ENABLED);
  resource.set_witness_schema("no;schema");
  EXPECT_EQ(Get(CheckResource(resource, SharedServer().password()), "witness").severity(), kError);

  auto admin = MustConnect();
  MustQuery(admin.get(), "DROP USER IF EXISTS weak@'127.0.0.1'; CREATE USER weak@'127.0.0.1' IDENTIFIED BY 'w'");
  resource.set_witness_schema("other");
  resource.set_user("weak");
  const auto findings = CheckAndInstall(resource, "w");
  EXPECT_TRUE(IsUnfit(findings));
  EXPECT_FALSE(IsUnreachable(findings));
  EXPECT_THAT(Get(findings, "witness").remedy(),
              HasSubstr("GRANT CREATE, ALTER, SELECT, INSERT, UPDATE, DELETE ON `other`.* TO 'weak'@'127.0.0.1'"));
  const v1::Finding privileges = Get(findings, "privileges");
  EXPECT_EQ(privileges.severity(), kWarning);
  std::string grant;
  if (OnMySql()) {
    const v1::Finding recover = Get(findings, "xa_recover");
    EXPECT_EQ(recover.severity(), kError);
    EXPECT_THAT(recover.remedy(), HasSubstr("GRANT XA_RECOVER_ADMIN ON *.* TO 'weak'@'127.0.0.1';"));
    grant =
        "GRANT CONNECTION_ADMIN, PROCESS, XA_RECOVER_ADMIN ON *.* TO 'weak'@'127.0.0.1'; "
        "GRANT SELECT ON performance_schema.data_lock_waits TO 'weak'@'127.0.0.1'; "
        "GRANT SELECT ON performance_schema.data_locks TO 'weak'@'127.0.0.1';";
  } else {
    EXPECT_EQ(Get(findings, "xa_recover").severity(), kOk) << "needs no privilege";
    grant = "GRANT CONNECTION ADMIN, PROCESS ON *.* TO 'weak'@'127.0.0.1';";
  }
  EXPECT_THAT(privileges.remedy(), HasSubstr(grant));
  EXPECT_THAT(Get(findings, "replication").detail(), HasSubstr(OnMySql() ? "REPLICATION CLIENT" : "SLAVE MONITOR"));
  // The remedy does what it says.
  MustQuery(admin.get(), grant);
  const auto after = CheckResource(resource, "w");
  EXPECT_EQ(Get(after, "privileges").severity(), kOk);
  EXPECT_EQ(Get(after, "xa_recover").severity(), kOk);
}

TEST(ResourceCheckTest, AMySqlWithWeakSettings) {
  if (!OnMySql()) GTEST_SKIP() << "the next one is MariaDB's";
  PrivateMariaDb::Options options;
  options.extra = {"--innodb-flush-log-at-trx-commit=2",
                   "--sync-binlog=0",
                   "--default-storage-engine=MyISAM",
                   "--binlog-do-db=shop",
                   "--wait-timeout=20",
                   "--max-connections=12",
                   "--xa-detach-on-prepare=OFF"};
  auto started = StartServer(options);
  ASSERT_TRUE(started.ok()) << started.status();
  auto admin = MustConnect(**started);
  MustQuery(admin.get(), "CREATE DATABASE shop; CREATE TABLE shop.log (i INT) ENGINE=MyISAM");
  MustQuery(admin.get(),
            "CHANGE REPLICATION SOURCE TO source_host='127.0.0.1', source_port=1;"
            "CHANGE REPLICATION FILTER REPLICATE_IGNORE_DB = (scratch)");
  MustQuery(admin.get(), "SET GLOBAL read_only = ON");
  std::vector<std::unique_ptr<MariaDbSession>> crowd;
  for (int i = 0; i < 8; ++i) crowd.push_back(MustConnect(**started));
  // As an administrator whom read_only does not stop.
  const auto findings = CheckAndInstall(ResourceOf(**started), (*started)->password());
  EXPECT_FALSE(IsUnfit(findings));
  const std::pair<const char*, std::vector<const char*>> kExpected[] = {
      {"engine", {"not the default engine"}},
      {"detach", {"xa_detach_on_prepare is OFF", "hold their prepared branches"}},
      {"durability", {"innodb_flush_log_at_trx_commit is 2", "sync_binlog is 0"}},
      {"binlog", {"binlog_do_db is shop"}},
      {"replication", {"a replica of 127.0.0.1:1", "(replicate_ignore_db)"}},
      {"read_only", {"read_only is ON", "1290"}},
      {"lock_wait", {"lock_wait_timeout is 8760h"}},
      {"timeouts", {"wait_timeout is 20s, less than the lease (30s)"}},
      {"connections", {" of 12 connections"}},
      {"tables", {"shop.log (MyISAM)"}}};
  for (const auto& expected : kExpected) {
    const v1::Finding finding = Get(findings, expected.first);
    EXPECT_EQ(finding.severity(), kWarning) << finding.ShortDebugString();
    for (const char* part : expected.second) EXPECT_THAT(finding.detail(), HasSubstr(part));
  }
  // The remedies do what they say.
  ASSERT_THAT(Get(findings, "detach").remedy(), HasSubstr("SET PERSIST xa_detach_on_prepare = ON;"));
  MustQuery(admin.get(), "SET PERSIST xa_detach_on_prepare = ON");
  MustQuery(
      admin.get(),
      "STOP REPLICA SQL_THREAD; CHANGE REPLICATION FILTER REPLICATE_IGNORE_DB = ();STOP REPLICA; RESET REPLICA ALL;");
  const auto after = CheckResource(ResourceOf(**started), (*started)->password());
  for (const char* check : {"detach", "replication", "timeouts"}) {
    EXPECT_EQ(Get(after, check).severity(), kOk) << Get(after, check).ShortDebugString();
  }
}

TEST(ResourceCheckTest, RealServerWithWeakSettings) {
  if (OnMySql()) GTEST_SKIP() << "these settings are MariaDB's";
  PrivateMariaDb::Options options;
  options.extra = {
      "--innodb-flush-log-at-trx-commit=2", "--log-bin",           "--server-id=7",     "--sync-binlog=0",
      "--default-storage-engine=MyISAM",    "--binlog-do-db=shop", "--wait-timeout=20", "--innodb-lock-wait-timeout=7",
      "--innodb-rollback-on-timeout=ON",    "--max-connections=12"};
  // What MySQL does not have, or not as a variable.
  const std::vector<std::string> only_mariadb = {"--replicate-ignore-db=scratch", "--slave-parallel-threads=2",
                                                 "--gtid-strict-mode=ON", "--idle-write-transaction-timeout=5",
                                                 "--thread-handling=pool-of-threads"};
  if (!OnMySql()) options.extra.insert(options.extra.end(), only_mariadb.begin(), only_mariadb.end());
  auto started = StartServer(options);
  ASSERT_TRUE(started.ok()) << started.status();
  auto admin = MustConnect(**started);
  MustQuery(admin.get(), "CREATE DATABASE shop");
  MustQuery(admin.get(), "CREATE TABLE shop.log (i INT) ENGINE=MyISAM");
  MustQuery(admin.get(), OnMySql() ? "CHANGE REPLICATION SOURCE TO source_host='127.0.0.1', source_port=1"
                                   : "CHANGE MASTER TO master_host='127.0.0.1', master_port=1, master_user='x'");
  MustQuery(admin.get(), "SET GLOBAL read_only = ON");
  std::vector<std::unique_ptr<MariaDbSession>> crowd;
  for (int i = 0; i < 8; ++i) crowd.push_back(MustConnect(**started));
  const auto findings = CheckAndInstall(ResourceOf(**started), (*started)->password());
  EXPECT_FALSE(IsUnfit(findings));
  std::vector<std::pair<const char*, std::vector<const char*>>> expectations = {
      {"engine", {"not the default engine"}},
      {"durability", {"innodb_flush_log_at_trx_commit is 2", "sync_binlog is 0"}},
      {"binlog", {"binlog_do_db is shop"}},
      {"replication", {"a replica of 127.0.0.1:1"}},
      {"read_only", {"read_only is ON", "1290"}},
      {"lock_wait", {OnMySql() ? "lock_wait_timeout is 8760h" : "lock_wait_timeout is 24h"}},
      {"timeouts", {"wait_timeout is 20s, less than the lease (30s)"}},
      {"connections", {" of 12 connections"}},
      {"tables", {"shop.log (MyISAM)"}}};
  if (!OnMySql()) {
    expectations.push_back(
        {"replication", {"gtid_strict_mode is ON", "(replicate_ignore_db)", "slave_parallel_threads is 2"}});
    expectations.push_back({"timeouts", {"idle_write_transaction_timeout is 5s"}});
    expectations.push_back({"connections", {"pool-of-threads"}});
  }
  for (const auto& expected : expectations) {
    const v1::Finding finding = Get(findings, expected.first);
    EXPECT_EQ(finding.severity(), kWarning) << finding.ShortDebugString();
    for (const char* part : expected.second) EXPECT_THAT(finding.detail(), HasSubstr(part));
  }
  v1::Resource hasty = ResourceOf(**started);
  hasty.mutable_lease()->set_seconds(5);
  EXPECT_THAT(Get(CheckResource(hasty, (*started)->password()), "timeouts").detail(),
              HasSubstr("innodb_lock_wait_timeout is 7s, innodb_rollback_on_timeout ON"));
}

// What JudgeTimeouts warns of.
TEST(ResourceCheckTest, ASessionThatIsSilentForTooLongLosesItsPreparedBranch) {
  auto started = StartServer();
  ASSERT_TRUE(started.ok()) << started.status();
  auto admin = MustConnect(**started);
  MustQuery(admin.get(), "CREATE DATABASE t; CREATE TABLE t.t (s VARCHAR(64) PRIMARY KEY)");
  std::vector<std::string> timeouts = {"wait_timeout"};
  if (!OnMySql()) {
    timeouts.push_back("idle_transaction_timeout");
    timeouts.push_back("idle_write_transaction_timeout");
  }
  for (const std::string& timeout : timeouts) {
    ConnectOptions options = ConnectOptionsFor(**started);  // Over TCP, where what the server said last is still read.
    options.address = Address{"127.0.0.1", (*started)->port(), ""};
    auto holder = MustConnect(options);
    MustQuery(holder.get(), absl::StrCat("SET SESSION ", timeout, " = 1"));
    const Xid xid = NewXid();
    ASSERT_TRUE(holder->Start(xid, absl::StrCat("INSERT INTO t.t VALUES ('", timeout, "')")).xa.ok());
    ASSERT_TRUE(holder->Prepare(xid, nullptr).ok());
    const std::string count =
        absl::StrCat("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = ", holder->connection_id());
    for (int i = 0; i < 600 && One(admin.get(), count) != "0"; ++i) absl::SleepFor(absl::Milliseconds(100));
    EXPECT_EQ(One(admin.get(), count), "0") << timeout;
    EXPECT_TRUE(IsListed(admin.get(), xid)) << timeout;
    // MySQL leaves a last word, which is not an answer.
    EXPECT_TRUE(IsConnectionLost(holder->Query("DO 1").error.code)) << timeout;
    EXPECT_TRUE(holder->lost());
    holder->Abandon();
  }
}

TEST(ResourceCheckTest, AServerInForcedRecoveryIsUnfitAndNothingIsMadeThere) {
  auto started = StartServer();
  ASSERT_TRUE(started.ok()) << started.status();
  ASSERT_TRUE((*started)->Stop().ok());
  ASSERT_TRUE((*started)->Restart(ServerOptions({"--innodb-force-recovery=1"})).ok());
  const auto findings = CheckResource(ResourceOf(**started), (*started)->password());
  EXPECT_THAT(Checks(findings), ElementsAre("reachable", "server", "galera", "engine"));
  EXPECT_THAT(Get(findings, "engine").detail(), HasSubstr("innodb_force_recovery is 1"));
  EXPECT_TRUE(IsUnfit(findings));
}

ServerFacts FactsOf(std::map<std::string, std::string> variables) {
  ServerFacts facts;
  facts.variables = std::move(variables);
  return facts;
}

void ExpectFinding(const v1::Finding& finding, v1::Finding::Severity severity, const std::string& detail) {
  EXPECT_EQ(finding.severity(), severity) << finding.ShortDebugString();
  EXPECT_EQ(finding.remedy().empty(), severity == kOk) << finding.ShortDebugString();
  EXPECT_THAT(finding.detail(), HasSubstr(detail));
}

TEST(JudgeTest, Servers) {
  v1::Resource resource;
  resource.set_engine(v1::Resource::ENGINE_MARIADB);
  const auto judge = [&](const char* version) {
    return JudgeServer(FactsOf({{"version", version}}), resource).severity();
  };
  for (const char* good :
       {"10.5.1-MariaDB", "10.11.19-MariaDB-0+deb12u1-log", "11.8.9-MariaDB", "12.0.2-MariaDB-ubu"}) {
    EXPECT_EQ(judge(good), kOk) << good;
  }
  for (const char* bad :
       {"10.4.34-MariaDB", "5.5.68-MariaDB", "8.4.0", "9.7.4-commercial", "", "MariaDB", "x.y-MariaDB"}) {
    EXPECT_EQ(judge(bad), kError) << bad;
  }
}

TEST(JudgeTest, WhatDiffersOnMySql) {
  v1::Resource resource;
  ServerFacts facts = FactsOf({{"version", "8.0.29"}, {"log_bin", "ON"}, {"wait_timeout", "3"}});
  facts.account = "'a'@'h'";
  facts.privileges = std::set<std::string>{"PROCESS", "CONNECTION ADMIN"};
  EXPECT_THAT(JudgePrivileges(facts, resource).remedy(),
              HasSubstr("GRANT CONNECTION_ADMIN, XA_RECOVER_ADMIN ON *.* TO 'a'@'h';"));
  facts.privileges = std::set<std::string>{"PROCESS", "CONNECTION_ADMIN", "XA_RECOVER_ADMIN"};
  EXPECT_EQ(JudgePrivileges(facts, resource).severity(), kOk);
  facts.sees_locks = false;
  ExpectFinding(JudgePrivileges(facts, resource), kWarning, "who waits for which lock");
  EXPECT_THAT(JudgePrivileges(facts, resource).remedy(), testing::Not(HasSubstr("*.*")));
  ExpectFinding(JudgeBinlog(facts), kWarning, "version 8.0.29 can lose the agreement");
  for (const char* version : {"8.0.30", "8.0.36-28", "8.4.0", "9.0.1"}) {
    facts.variables["version"] = version;
    ExpectFinding(JudgeBinlog(facts), kOk, "REPLICATION CLIENT");
  }
  ExpectFinding(JudgeTimeouts(facts, resource), kWarning, "wait_timeout is 3s");
  facts.variables["xa_detach_on_prepare"] = "ON";
  EXPECT_EQ(JudgeTimeouts(facts, resource).severity(), kOk) << "no session holds a prepared branch";
}

TEST(JudgeTest, AServerIsWhatItsResourceSays) {
  v1::Resource resource;
  resource.set_name("orders");
  resource.set_engine(v1::Resource::ENGINE_MYSQL);
  for (const char* good : {"8.0.11", "8.0.28-log", "8.4.0", "9.7.4-commercial"}) {
    EXPECT_EQ(JudgeServer(FactsOf({{"version", good}}), resource).severity(), kOk) << good;
  }
  for (const char* bad : {"5.7.44-log", "", "x.y"}) {
    EXPECT_EQ(JudgeServer(FactsOf({{"version", bad}}), resource).severity(), kError) << bad;
  }
  const v1::Finding maria = JudgeServer(FactsOf({{"version", "10.11.6-MariaDB"}}), resource);
  ExpectFinding(maria, kError, "is MariaDB, not MySQL");
  EXPECT_THAT(maria.remedy(), HasSubstr("assentctl resources register orders … --engine mariadb"));
  resource.set_engine(v1::Resource::ENGINE_MARIADB);
  const v1::Finding mysql = JudgeServer(FactsOf({{"version", "8.4.0"}}), resource);
  ExpectFinding(mysql, kError, "is not MariaDB");
  EXPECT_THAT(mysql.remedy(), HasSubstr("assentctl resources register orders … --engine mysql"));
}

TEST(JudgeTest, WhetherPrepareLetsGo) {
  ExpectFinding(JudgeDetach(FactsOf({{"version", "8.4.0"}, {"xa_detach_on_prepare", "ON"}})), kOk, "lets go");
  ExpectFinding(JudgeDetach(FactsOf({{"version", "8.4.0"}, {"xa_detach_on_prepare", "OFF"}})), kWarning, "is OFF");
  ExpectFinding(JudgeDetach(FactsOf({{"version", "8.0.28"}})), kWarning, "has no xa_detach_on_prepare");
}

TEST(JudgeTest, GaleraAndEngine) {
  EXPECT_EQ(JudgeGalera(FactsOf({})).severity(), kOk);
  EXPECT_EQ(JudgeGalera(FactsOf({{"wsrep_on", "OFF"}})).severity(), kOk);
  EXPECT_EQ(JudgeGalera(FactsOf({{"wsrep_on", "ON"}})).severity(), kError);
  ServerFacts facts;
  EXPECT_EQ(JudgeEngine(facts).severity(), kError);
  facts.innodb_support = "DISABLED";
  EXPECT_EQ(JudgeEngine(facts).severity(), kError);
  facts.innodb_support = "DEFAULT";
  facts.variables["innodb_force_recovery"] = "0";
  EXPECT_EQ(JudgeEngine(facts).severity(), kOk);
  facts.variables["innodb_force_recovery"] = "3";
  ExpectFinding(JudgeEngine(facts), kError, "innodb_force_recovery is 3");
}

TEST(JudgeTest, PreparedBranchesThatNobodyRunsForLong) {
  v1::Resource resource;
  resource.set_name("orders");
  ServerFacts facts;
  ExpectFinding(JudgePrepared(facts, resource, 3), kOk,
                "lists 3 prepared branches, whoever's; since when is not known");
  facts.detached = ServerFacts::Detached{};
  ExpectFinding(JudgePrepared(facts, resource, 3), kOk, "lists 3");
  facts.detached = ServerFacts::Detached{2, absl::Minutes(9)};
  ExpectFinding(JudgePrepared(facts, resource, 3), kOk, "no session runs 2");
  facts.detached = ServerFacts::Detached{2, absl::Minutes(11)};
  ExpectFinding(JudgePrepared(facts, resource, 3), kWarning, "the oldest for 11m");
  EXPECT_THAT(JudgePrepared(facts, resource, 3).remedy(), HasSubstr("assentctl recover --resource orders --dry-run"));
}

TEST(JudgeTest, Privileges) {
  v1::Resource resource;
  ServerFacts facts = FactsOf({{"version", "10.11.6-MariaDB"}});
  facts.account = "'a'@'h'";
  ExpectFinding(JudgePrivileges(facts, resource), kWarning, "does not say");
  const auto judge = [&](std::set<std::string> privileges) {
    facts.privileges = std::move(privileges);
    return JudgePrivileges(facts, resource);
  };
  EXPECT_EQ(judge({"ALL PRIVILEGES"}).severity(), kOk);
  EXPECT_EQ(judge({"CONNECTION ADMIN", "PROCESS"}).severity(), kOk);
  facts.variables["version"] = "8.4.0";
  EXPECT_EQ(judge({"CONNECTION_ADMIN", "PROCESS", "XA_RECOVER_ADMIN"}).severity(), kOk);
  EXPECT_EQ(judge({"SUPER", "PROCESS", "XA_RECOVER_ADMIN"}).severity(), kOk);
  EXPECT_THAT(judge({"SUPER", "PROCESS"}).remedy(), HasSubstr("GRANT XA_RECOVER_ADMIN ON"));
  EXPECT_THAT(judge({"PROCESS", "XA_RECOVER_ADMIN"}).remedy(), HasSubstr("GRANT CONNECTION_ADMIN ON *.* TO 'a'@'h'"));
  facts.variables["version"] = "10.11.6-MariaDB";
  EXPECT_EQ(judge({"SUPER", "PROCESS"}).severity(), kOk);
  EXPECT_THAT(judge({"CONNECTION ADMIN"}).remedy(), HasSubstr("GRANT PROCESS ON *.* TO 'a'@'h';"));
  EXPECT_THAT(judge({"PROCESS"}).remedy(), HasSubstr("GRANT CONNECTION ADMIN ON *.* TO 'a'@'h';"));
  EXPECT_EQ(judge({"PROCESS", "READ ONLY ADMIN", "CONNECTION ADMINISTRATOR"}).severity(), kWarning);
  facts.variables["version"] = "11.4.2-MariaDB";
  EXPECT_EQ(judge({"SUPER", "PROCESS"}).severity(), kWarning);
  resource.set_kill_after_lease(v1::KILL_AFTER_LEASE_DISABLED);
  EXPECT_EQ(judge({"PROCESS"}).severity(), kOk);
  EXPECT_EQ(judge({"USAGE"}).severity(), kWarning);
}

TEST(JudgeTest, Durability) {
  ServerFacts facts = FactsOf({{"innodb_flush_log_at_trx_commit", "1"}, {"log_bin", "OFF"}, {"sync_binlog", "0"}});
  EXPECT_EQ(JudgeDurability(facts).severity(), kOk) << "of no interest without a binary log";
  facts.variables["log_bin"] = "ON";
  ExpectFinding(JudgeDurability(facts), kWarning, "sync_binlog is 0");
  facts.variables["sync_binlog"] = "1";
  EXPECT_EQ(JudgeDurability(facts).severity(), kOk);
  facts.variables["innodb_flush_log_at_trx_commit"] = "0";
  ExpectFinding(JudgeDurability(facts), kWarning, "innodb_flush_log_at_trx_commit is 0");
}

TEST(JudgeTest, Binlog) {
  ServerFacts facts = FactsOf({{"log_bin", "OFF"}});
  EXPECT_EQ(JudgeBinlog(facts).severity(), kOk);
  facts.variables["log_bin"] = "ON";
  ExpectFinding(JudgeBinlog(facts), kOk, "BINLOG MONITOR");
  facts.binlog_do_db = "";
  facts.binlog_ignore_db = "";
  EXPECT_EQ(JudgeBinlog(facts).severity(), kOk);
  facts.binlog_ignore_db = "scratch";
  ExpectFinding(JudgeBinlog(facts), kWarning, "binlog_ignore_db is scratch");
  facts.binlog_ignore_db = "";
  facts.variables["binlog_storage_engine"] = "innodb";
  ExpectFinding(JudgeBinlog(facts), kWarning, "failover");
}

TEST(JudgeTest, Replication) {
  ServerFacts facts = FactsOf({{"gtid_strict_mode", "ON"},
                               {"replicate_do_db", ""},
                               {"replicate_annotate_row_events", "ON"},
                               {"slave_parallel_mode", "optimistic"},
                               {"slave_parallel_threads", "0"}});
  ExpectFinding(JudgeReplication(facts), kOk, "not known");
  facts.masters.emplace();
  ExpectFinding(JudgeReplication(facts), kOk, "not a replica");
  facts.variables["slave_parallel_threads"] = "4";
  ExpectFinding(JudgeReplication(facts), kWarning, "MDEV-31038");
  facts.variables["slave_parallel_mode"] = "none";
  EXPECT_EQ(JudgeReplication(facts).severity(), kOk);
  facts.masters->push_back("m:3306");
  ExpectFinding(JudgeReplication(facts), kWarning, "a replica of m:3306");
  facts.masters->clear();
  facts.variables["replicate_do_db"] = "shop";
  facts.variables["replicate_wild_ignore_table"] = "x.%";
  ExpectFinding(JudgeReplication(facts), kWarning, "(replicate_do_db, replicate_wild_ignore_table)");
  EXPECT_THAT(JudgeReplication(facts).remedy(),
              HasSubstr("SET GLOBAL replicate_do_db = '', GLOBAL replicate_wild_ignore_table = '';"));
}

TEST(JudgeTest, ReadOnlyAndLockWait) {
  EXPECT_EQ(JudgeReadOnly(FactsOf({{"read_only", "OFF"}})).severity(), kOk);
  for (const char* value : {"ON", "1", "NO_LOCK", "NO_LOCK_NO_ADMIN"}) {
    ExpectFinding(JudgeReadOnly(FactsOf({{"read_only", value}})), kWarning, value);
  }
  ExpectFinding(JudgeLockWait(FactsOf({{"lock_wait_timeout", "3600"}})), kOk, "1h");
  ExpectFinding(JudgeLockWait(FactsOf({{"lock_wait_timeout", "3601"}})), kWarning, "1h1s");
}

TEST(JudgeTest, TimeoutsAreMeasuredByTheLease) {
  v1::Resource resource;
  ServerFacts facts = FactsOf({{"wait_timeout", "30"}, {"idle_transaction_timeout", "0"}});
  ExpectFinding(JudgeTimeouts(facts, resource), kOk, "silent for 30s");
  facts.variables["idle_transaction_timeout"] = "29";
  ExpectFinding(JudgeTimeouts(facts, resource), kWarning, "idle_transaction_timeout is 29s, less than the lease (30s)");
  resource.mutable_lease()->set_seconds(29);
  EXPECT_EQ(JudgeTimeouts(facts, resource).severity(), kOk);
  resource.mutable_lease()->set_seconds(3600);
  ExpectFinding(JudgeTimeouts(facts, resource), kWarning, "wait_timeout is 30s, less than the lease (1h)");
  EXPECT_THAT(JudgeTimeouts(facts, resource).remedy(), HasSubstr("SET GLOBAL wait_timeout = 7200;"));
}

TEST(JudgeTest, Connections) {
  ServerFacts facts = FactsOf({{"max_connections", "100"}});
  facts.threads_connected = 79;
  ExpectFinding(JudgeConnections(facts), kOk, "79 of 100");
  facts.threads_connected = 80;
  ExpectFinding(JudgeConnections(facts), kWarning, "80 of 100");
  facts.threads_connected = 1;
  facts.variables["thread_handling"] = "pool-of-threads";
  ExpectFinding(JudgeConnections(facts), kOk, "extra_port");
}

TEST(JudgeTest, ClocksAreWrongOnlyBeyondTheErrorOfTheMeasurement) {
  ServerFacts facts;
  facts.clock_error = absl::Milliseconds(500);
  facts.clock_offset = absl::Milliseconds(2500);
  EXPECT_EQ(JudgeClock(facts).severity(), kOk);
  facts.clock_offset = absl::Milliseconds(2501);
  ExpectFinding(JudgeClock(facts), kWarning, "is 2.501s ahead of");
  facts.clock_offset = -absl::Hours(2);
  ExpectFinding(JudgeClock(facts), kWarning, "is 2h behind the");
}

TEST(JudgeTest, TablesAreNamedUpToFive) {
  ServerFacts facts;
  ExpectFinding(JudgeTables(facts), kOk, "could not be looked through");
  facts.plain_tables = std::vector<std::string>{};
  EXPECT_EQ(JudgeTables(facts).severity(), kOk);
  facts.plain_tables = std::vector<std::string>{"a.1", "a.2", "a.3", "a.4", "a.5"};
  ExpectFinding(JudgeTables(facts), kWarning, "write to a.1, a.2, a.3, a.4, a.5");
  EXPECT_THAT(JudgeTables(facts).detail(), testing::Not(HasSubstr("others")));
  facts.plain_tables->push_back("a.6");
  ExpectFinding(JudgeTables(facts), kWarning, "a.5 and others");
}

}  // namespace
}  // namespace assent
