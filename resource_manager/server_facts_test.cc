#include "resource_manager/server_facts.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/test_server.h"

namespace assent {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::IsSupersetOf;

ServerFacts MustRead(MariaDbSession* session) {
  const absl::StatusOr<ServerFacts> facts = ReadServerFacts(session);
  EXPECT_TRUE(facts.ok()) << facts.status();
  return facts.ok() ? *facts : ServerFacts();
}

// A session of a new account with these statements run for it, `$` being the account.
std::unique_ptr<MariaDbSession> ConnectAs(const std::string& name, const std::vector<std::string>& statements) {
  auto admin = MustConnect();
  const std::string account = absl::StrCat("'", name, "'@'localhost'");
  MustQuery(admin.get(),
            absl::StrCat("DROP USER IF EXISTS ", account, "; CREATE USER ", account, " IDENTIFIED BY 'w'"));
  for (const std::string& statement : statements) MustQuery(admin.get(), absl::StrCat(statement, account));
  ConnectOptions options = ConnectOptionsFor(SharedServer());
  options.user = name;
  options.password = "w";
  return MustConnect(options);
}

TEST(ServerFactsTest, AnAdministratorSeesEverything) {
  auto session = MustConnect();
  const ServerFacts facts = MustRead(session.get());
  EXPECT_EQ(facts.Variable("version"), One(session.get(), "SELECT VERSION()"));
  EXPECT_EQ(facts.Number("max_connections"), 500);
  EXPECT_EQ(facts.Variable("no_such_variable"), "");
  EXPECT_EQ(facts.Number("version"), 0);
  EXPECT_EQ(facts.innodb_support, "DEFAULT");
  EXPECT_EQ(facts.account, "'root'@'localhost'");
  EXPECT_EQ(facts.is_mysql(), OnMySql());
  EXPECT_TRUE(facts.sees_locks);
  ASSERT_TRUE(facts.privileges.has_value());
  if (OnMySql()) {  // It lists what ALL stands for.
    EXPECT_THAT(*facts.privileges, IsSupersetOf({"SELECT", "PROCESS", "CONNECTION_ADMIN", "XA_RECOVER_ADMIN"}));
  } else {
    EXPECT_EQ(facts.privileges->count("ALL PRIVILEGES"), 1);
  }
  EXPECT_GE(facts.threads_connected, 1);
  EXPECT_LE(absl::AbsDuration(facts.clock_offset), facts.clock_error + absl::Milliseconds(5))
      << "one machine, one clock";
  EXPECT_LT(facts.clock_error, absl::Seconds(60));
  EXPECT_THAT(facts.masters.value(), IsEmpty());
  EXPECT_EQ(facts.binlog_do_db.value(), "");
}

TEST(ServerFactsTest, AWeakAccountIsToldWhatItMayNotSee) {
  auto session = ConnectAs("weak", {});
  const ServerFacts facts = MustRead(session.get());
  EXPECT_EQ(facts.account, "'weak'@'localhost'");
  EXPECT_THAT(facts.privileges.value(), ElementsAre("USAGE"));
  EXPECT_FALSE(facts.masters.has_value());
  EXPECT_FALSE(facts.binlog_do_db.has_value());
  EXPECT_FALSE(facts.detached.has_value());
  EXPECT_EQ(facts.sees_locks, !OnMySql());
  EXPECT_TRUE(facts.plain_tables.has_value());
  EXPECT_EQ(facts.innodb_support, "DEFAULT");
}

TEST(ServerFactsTest, TheAccountIsTheOneThatAGrantTakes) {
  auto admin = MustConnect();
  const std::string odd = "'o''d@d\\\\'@'localhost'";
  MustQuery(admin.get(), absl::StrCat("DROP USER IF EXISTS ", odd, "; CREATE USER ", odd, " IDENTIFIED BY 'w'"));
  ConnectOptions options = ConnectOptionsFor(SharedServer());
  options.user = "o'd@d\\";
  options.password = "w";
  auto session = MustConnect(options);
  const std::string account = MustRead(session.get()).account;
  EXPECT_EQ(account, odd);
  MustQuery(admin.get(), absl::StrCat("GRANT PROCESS ON *.* TO ", account));
}

TEST(ServerFactsTest, PrivilegesOfActiveRolesCountAndThoseOfOthersDoNot) {
  auto admin = MustConnect();
  MustQuery(admin.get(), "DROP ROLE IF EXISTS inner_role; CREATE ROLE inner_role");
  MustQuery(admin.get(), "DROP ROLE IF EXISTS outer_role; CREATE ROLE outer_role");
  const std::string kill_privilege = OnMySql() ? "CONNECTION_ADMIN" : "CONNECTION ADMIN";
  MustQuery(admin.get(), absl::StrCat("GRANT ", kill_privilege, " ON *.* TO inner_role"));
  MustQuery(admin.get(), "GRANT PROCESS ON *.* TO outer_role");
  MustQuery(admin.get(), "GRANT inner_role TO outer_role");
  const std::string grant = "GRANT outer_role TO ";
  auto idle = ConnectAs("idle_role", {grant});
  EXPECT_THAT(MustRead(idle.get()).privileges.value(), ElementsAre("USAGE"));
  EXPECT_FALSE(MustRead(idle.get()).detached.has_value());
  auto active = ConnectAs("active_role",
                          {grant, OnMySql() ? "SET DEFAULT ROLE outer_role TO " : "SET DEFAULT ROLE outer_role FOR "});
  const ServerFacts facts = MustRead(active.get());
  EXPECT_THAT(facts.privileges.value(), IsSupersetOf({kill_privilege, std::string("PROCESS")}));
  EXPECT_TRUE(facts.detached.has_value());
  // What SHOW GRANTS says is what KILL asks for.
  auto victim = ConnectAs("victim", {});  // On MySQL, root's sessions are for accounts with SYSTEM_USER to end.
  const std::string kill = absl::StrCat("KILL ", victim->connection_id());
  EXPECT_EQ(idle->Query(kill).error.code, 1095);
  EXPECT_TRUE(active->Query(kill).ok());
}

TEST(ServerFactsTest, GrantsThatAreNotGlobalAreNone) {
  EXPECT_THAT(GlobalPrivilegesOf("GRANT PROCESS, CONNECTION ADMIN ON *.* TO `a`@`b` IDENTIFIED BY PASSWORD '*19A'"),
              ElementsAre("PROCESS", "CONNECTION ADMIN"));
  EXPECT_THAT(GlobalPrivilegesOf("GRANT CONNECTION_ADMIN,XA_RECOVER_ADMIN ON *.* TO `a`@`b` WITH GRANT OPTION"),
              ElementsAre("CONNECTION_ADMIN", "XA_RECOVER_ADMIN"));
  EXPECT_THAT(GlobalPrivilegesOf("GRANT ALL PRIVILEGES ON *.* TO `a`@`b` WITH GRANT OPTION"),
              ElementsAre("ALL PRIVILEGES"));
  EXPECT_THAT(GlobalPrivilegesOf("GRANT ALL PRIVILEGES ON `x`.* TO `a`@`b`"), IsEmpty());
  EXPECT_THAT(GlobalPrivilegesOf("GRANT `SUPER` TO `a`@`b`"), IsEmpty());
  EXPECT_THAT(GlobalPrivilegesOf("SET DEFAULT ROLE `PROCESS` FOR `a`@`b`"), IsEmpty());
  EXPECT_THAT(GlobalPrivilegesOf(""), IsEmpty());
}

TEST(ServerFactsTest, DetachedBranchesAreCountedAndHeldOnesAreNot) {
  auto started = StartServer();
  ASSERT_TRUE(started.ok()) << started.status();
  auto admin = MustConnect(**started);
  MustQuery(admin.get(), "CREATE DATABASE t");
  MustQuery(admin.get(), "CREATE TABLE t.t (i INT PRIMARY KEY) ENGINE=InnoDB");
  EXPECT_EQ(MustRead(admin.get()).detached.value().count, 0);
  auto holder = MustConnect(**started);
  const Xid xid = NewXid();
  ASSERT_TRUE(holder->Start(xid, "INSERT INTO t.t VALUES (1)").xa.ok());
  ASSERT_TRUE(holder->Prepare(xid, nullptr).ok());
  absl::SleepFor(absl::Milliseconds(200));  // INNODB_TRX is refreshed every 100 ms.
  EXPECT_EQ(MustRead(admin.get()).detached.value().count, Detaches() ? 1 : 0);
  holder->Abandon();
  ServerFacts::Detached detached;
  for (int i = 0; i < 600 && (detached.count == 0 || detached.oldest < absl::Seconds(1)); ++i) {
    absl::SleepFor(absl::Milliseconds(150));
    detached = MustRead(admin.get()).detached.value();
  }
  EXPECT_EQ(detached.count, 1);
  EXPECT_GE(detached.oldest, absl::Seconds(1));
  EXPECT_LT(detached.oldest, absl::Hours(1));
}

TEST(ServerFactsTest, TablesThatCannotRollBackAreFoundAndOnlyThose) {
  auto admin = MustConnect();
  EXPECT_THAT(MustRead(admin.get()).plain_tables.value(), IsEmpty()) << "the server's own do not count";
  MustQuery(admin.get(), "CREATE DATABASE plain");
  MustQuery(admin.get(), "CREATE TABLE plain.good (i INT) ENGINE=InnoDB");
  MustQuery(admin.get(), "CREATE VIEW plain.view AS SELECT * FROM plain.good");
  MustQuery(admin.get(), "CREATE TABLE plain.bad (i INT) ENGINE=MyISAM");
  EXPECT_THAT(MustRead(admin.get()).plain_tables.value(), ElementsAre("plain.bad (MyISAM)"));
  auto weak = ConnectAs("blind", {});
  EXPECT_THAT(MustRead(weak.get()).plain_tables.value(), IsEmpty());
  for (size_t i = 0; i < kMaxPlainTables; ++i) {
    MustQuery(admin.get(), absl::StrCat("CREATE TABLE plain.t", i, " (i INT) ENGINE=MyISAM"));
  }
  EXPECT_EQ(MustRead(admin.get()).plain_tables->size(), kMaxPlainTables);
  MustQuery(admin.get(), "DROP DATABASE plain");
}

TEST(ServerFactsTest, AReplicaNamesItsMastersAndTheBinaryLogItsFilters) {
  PrivateMariaDb::Options options;
  options.extra = {"--log-bin", "--server-id=7", "--binlog-do-db=shop", "--binlog-ignore-db=scratch"};
  auto started = StartServer(options);
  ASSERT_TRUE(started.ok()) << started.status();
  auto admin = MustConnect(**started);
  if (OnMySql()) {
    MustQuery(admin.get(),
              "CHANGE REPLICATION SOURCE TO source_host='127.0.0.1', source_port=1;"
              "CHANGE REPLICATION SOURCE TO source_host='127.0.0.2', source_port=2 FOR CHANNEL 'second';"
              "CHANGE REPLICATION FILTER REPLICATE_DO_DB = (shop) FOR CHANNEL 'second'");
  } else {
    MustQuery(admin.get(), "CHANGE MASTER TO master_host='127.0.0.1', master_port=1, master_user='x'");
    MustQuery(admin.get(), "CHANGE MASTER 'second' TO master_host='127.0.0.2', master_port=2, master_user='x'");
  }
  const ServerFacts facts = MustRead(admin.get());
  if (OnMySql()) {
    EXPECT_THAT(facts.replica_filters, ElementsAre("replicate_do_db"));
  }
  EXPECT_THAT(facts.masters.value(), testing::UnorderedElementsAre("127.0.0.1:1", "127.0.0.2:2"));
  EXPECT_EQ(facts.binlog_do_db.value(), "shop");
  EXPECT_EQ(facts.binlog_ignore_db.value(), "scratch");
}

TEST(ServerFactsTest, ALostConnectionIsAnError) {
  auto victim = MustConnect();
  MustQuery(MustConnect().get(), absl::StrCat("KILL ", victim->connection_id()));
  EXPECT_FALSE(ReadServerFacts(victim.get()).ok());
}

}  // namespace
}  // namespace assent
