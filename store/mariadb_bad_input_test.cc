// The MariaDB store on servers, databases and accounts that are not as they should be: a clear error, and nothing lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/xid.h"
#include "store/mariadb_store.h"
#include "store/testing/mariadb_test_util.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr auto kActive = v1::Global::STATE_ACTIVE;
constexpr auto kCommitting = v1::Global::STATE_COMMITTING;

class MariaDbBadInputTest : public testing::Test {
 protected:
  MariaDbBadInputTest() : options_(StoreOptions(SharedStoreServer())), admin_(SharedStoreServer(), options_) {}

  // Opens the store; the reason's name.
  std::string Open() { return Open(options_); }
  std::string Open(const MariaDbOptions& options) {
    store_.reset();
    absl::StatusOr<std::unique_ptr<MariaDbStore>> store = MariaDbStore::Open(options);
    status_ = store.status();
    if (store.ok()) store_ = *std::move(store);
    return ReasonName(status_);
  }
  std::string message() const { return std::string(status_.message()); }

  std::string Put(const std::string& gtrid, int64_t revision, size_t bytes = 0) {
    const TransitionResult result =
        SubmitAndWait(store_.get(), To(MakeGlobal(gtrid, revision, kActive, "", bytes), Durability::kForced));
    status_ = result.status;
    return ToString(result);
  }
  void Sql(absl::string_view sql) { admin_.Run(absl::StrCat("USE `", options_.database, "`;", sql)); }

  MariaDbOptions options_;
  Admin admin_;
  absl::Status status_;
  std::unique_ptr<MariaDbStore> store_;
};

TEST_F(MariaDbBadInputTest, OptionsAreChecked) {
  for (const char* const cluster : {"", "a-b", "a b"}) {
    MariaDbOptions options = options_;
    options.cluster = cluster;
    EXPECT_EQ(Open(options), "INVALID_FIELD") << cluster;
  }
  for (const std::string& database : {std::string(), std::string("a`b"), std::string("a b"), std::string(65, 'x')}) {
    MariaDbOptions options = options_;
    options.database = database;
    EXPECT_EQ(Open(options), "INVALID_FIELD") << database;
  }
}

TEST_F(MariaDbBadInputTest, AServerThatIsNotThereIsUnavailable) {
  options_.address.socket = "/nowhere/socket";
  EXPECT_EQ(Open(), "STORE_UNAVAILABLE");
  options_.address.socket.clear();
  options_.address.host = "127.0.0.1";
  options_.address.port = 1;
  EXPECT_EQ(Open(), "STORE_UNAVAILABLE");
  EXPECT_THAT(message(), HasSubstr("127.0.0.1:1"));
}

TEST_F(MariaDbBadInputTest, AWrongPasswordIsExplainedAndNotRepeated) {
  options_.password = "wrong-secret";
  EXPECT_EQ(Open(), "STORE_UNFIT");
  EXPECT_THAT(message(), HasSubstr("check user and password"));
  EXPECT_THAT(message(), testing::Not(HasSubstr("wrong-secret")));
}

TEST_F(MariaDbBadInputTest, AUserWithoutRightsIsTold) {
  admin_.Run("CREATE OR REPLACE USER poor@localhost IDENTIFIED BY 'p'");
  MariaDbOptions poor = options_;
  poor.user = "poor";
  poor.password = "p";
  EXPECT_EQ(Open(poor), "STORE_UNFIT") << "may not create the database";
  EXPECT_THAT(message(), HasSubstr("grant"));
  ASSERT_EQ(Open(), "OK");
  ASSERT_EQ(Put("g", 1), "APPLIED");
  EXPECT_EQ(Open(poor), "STORE_UNFIT") << "may not even use it";
  admin_.Run(absl::StrCat("GRANT SELECT ON `", options_.database, "`.* TO poor@localhost"));
  EXPECT_EQ(Open(poor), "STORE_UNFIT") << "may only read";
  admin_.Run(absl::StrCat("GRANT ALL ON `", options_.database, "`.* TO poor@localhost"));
  ASSERT_EQ(Open(poor), "OK") << message() << "; needs nothing but its own database";
  ASSERT_EQ(Put("g", 2), "APPLIED");
  // Taken away while it runs. A connection keeps the rights it was made with.
  admin_.Run(absl::StrCat("REVOKE ALL ON `", options_.database, "`.* FROM poor@localhost;GRANT SELECT ON `",
                          options_.database, "`.* TO poor@localhost;KILL USER poor"));
  EXPECT_EQ(Put("g", 3), "NOT_APPLIED STORE_UNFIT");
  EXPECT_EQ(ReasonName(store_->PutResource(v1::Resource())), "STORE_UNFIT");
  admin_.Run(absl::StrCat("GRANT ALL ON `", options_.database, "`.* TO poor@localhost"));
  EXPECT_EQ(Put("g", 3), "APPLIED") << "and nothing needs to be restarted";
  EXPECT_EQ(ReasonName(store_->PutResource(v1::Resource())), "OK");
  store_.reset();
  admin_.Run("DROP USER poor@localhost");
}

TEST_F(MariaDbBadInputTest, AReadOnlyServerIsRefusedAndOneThatTurnsSoIsBearable) {
  ASSERT_EQ(Open(), "OK");
  ASSERT_EQ(Put("g", 1), "APPLIED");
  store_.reset();
  admin_.Run(
      "CREATE OR REPLACE USER plain@localhost IDENTIFIED BY 'p';GRANT ALL ON *.* TO plain@localhost;"
      "REVOKE READ_ONLY ADMIN ON *.* FROM plain@localhost");
  options_.user = "plain";
  options_.password = "p";
  ASSERT_EQ(Open(), "OK") << message();
  admin_.Run("SET GLOBAL read_only=1");
  EXPECT_EQ(Put("g", 2), "NOT_APPLIED STORE_READ_ONLY");
  EXPECT_EQ(ReasonName(store_->Read("g").status()), "OK") << "reads go on";
  EXPECT_EQ(Open(), "STORE_READ_ONLY");
  EXPECT_THAT(message(), HasSubstr("takes writes"));
  admin_.Run("SET GLOBAL read_only=0");
  ASSERT_EQ(Open(), "OK");
  EXPECT_EQ(Put("g", 2), "APPLIED");
  store_.reset();
  admin_.Run("DROP USER plain@localhost");
}

TEST_F(MariaDbBadInputTest, TwoClustersDoNotShareADatabase) {
  ASSERT_EQ(Open(), "OK");
  MariaDbOptions other = options_;
  other.cluster = "other";
  EXPECT_EQ(Open(other), "STORE_OTHER_CLUSTER");
  EXPECT_THAT(message(), HasSubstr("'test'"));
  EXPECT_EQ(Open(), "OK");
}

TEST_F(MariaDbBadInputTest, ANewerSchemaIsRefusedAndAnOlderOneMigrated) {
  ASSERT_EQ(Open(), "OK");
  ASSERT_EQ(Put("g", 1), "APPLIED");
  store_.reset();
  Sql("UPDATE store_meta SET number=number+1 WHERE name='schema'");
  EXPECT_EQ(Open(), "STORE_SCHEMA_NEWER");
  // As if the migration had been broken off anywhere: its steps can be repeated.
  Sql("UPDATE store_meta SET number=0 WHERE name='schema';DROP TABLE store_leases");
  ASSERT_EQ(Open(), "OK") << message();
  EXPECT_EQ(Put("g", 2), "APPLIED");
}

TEST_F(MariaDbBadInputTest, ToolsDoNotMigrateWhatOthersWorkOn) {
  ASSERT_EQ(Open(), "OK");
  const std::unique_ptr<MariaDbStore> working = std::move(store_);
  InstanceInfo info;
  info.address = "10.0.0.1:7411";
  info.lease = absl::Seconds(3);
  ASSERT_TRUE(working->Members().Join(info).ok());
  Sql("UPDATE store_meta SET number=1 WHERE name='schema'");
  MariaDbOptions reading = options_;
  reading.must_exist = true;
  MariaDbOptions importing = options_;
  importing.import_as = working->Id();
  for (const MariaDbOptions& tool : {reading, importing}) {
    EXPECT_EQ(Open(tool), "STORE_LOCKED");
    EXPECT_THAT(message(), HasSubstr("10.0.0.1:7411"));
    EXPECT_EQ(admin_.One("SELECT number FROM store_meta WHERE name='schema'"), "1");
  }
  // A new instance does: the older ones go on. One that was killed is no hindrance once its lease has ended.
  ASSERT_EQ(Open(), "OK") << message();
  Sql("UPDATE store_meta SET number=1 WHERE name='schema'");
  Sql("UPDATE store_heartbeats SET seen=seen - INTERVAL 1 HOUR");
  EXPECT_EQ(Open(reading), "OK") << message();
}

TEST_F(MariaDbBadInputTest, TheHorizonOfAnOlderStoreIsAnHourAgo) {
  const std::string kOlder =
      "UPDATE store_meta SET number=1 WHERE name='schema';DELETE FROM store_meta WHERE name='horizon'";
  ASSERT_EQ(Open(), "OK");
  EXPECT_LT(absl::AbsDuration(absl::Now() - store_->Horizon()), absl::Minutes(1)) << "a new one";
  store_.reset();
  Sql(kOlder);
  ASSERT_EQ(Open(), "OK") << message();
  EXPECT_LT(absl::AbsDuration(absl::Now() - store_->Horizon()), absl::Minutes(1)) << "nobody has worked on it";
  InstanceInfo info;
  info.address = "10.0.0.1:7411";
  ASSERT_TRUE(store_->Members().Join(info).ok());
  store_.reset();
  Sql(kOlder);
  ASSERT_EQ(Open(), "OK") << message();
  const absl::Time horizon = store_->Horizon();
  EXPECT_LT(absl::AbsDuration(absl::Now() - absl::Hours(1) - horizon), absl::Minutes(1));
  // Set back by hand, for an older program, which has deleted since; or broken off before it was noted.
  for (const bool later : {false, true}) {
    store_.reset();
    const absl::Time there = later ? absl::FromUnixSeconds(7000000000) : absl::FromUnixSeconds(17);
    Sql(absl::StrCat("UPDATE store_meta SET number=1 WHERE name='schema';UPDATE store_meta SET number=",
                     absl::ToUnixMicros(there), " WHERE name='horizon'"));
    ASSERT_EQ(Open(), "OK") << message();
    EXPECT_EQ(store_->Horizon() == there, later) << "it never falls";
    EXPECT_GE(store_->Horizon(), horizon);
  }
}

TEST_F(MariaDbBadInputTest, WithoutAHorizonNothingIsTheFirst) {
  ASSERT_EQ(Open(), "OK");
  Sql("DELETE FROM store_meta WHERE name='horizon'");
  for (const int count : {1, 2}) {
    std::vector<Transition> transitions;
    for (int i = 0; i < count; ++i) {
      transitions.push_back(To(MakeGlobal(NewGtrid("test", absl::Now() + absl::Hours(1)), 1, kActive)));
      transitions.back().must_be_first = true;
    }
    for (const TransitionResult& result : SubmitAllAndWait(store_.get(), std::move(transitions))) {
      EXPECT_EQ(ToString(result), "NOT_APPLIED STORE_CORRUPT");
    }
  }
  EXPECT_EQ(Put("g", 1), "APPLIED");
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("g", 2, v1::Global::STATE_COMMITTED)))), "APPLIED");
  EXPECT_EQ(ReasonName(store_->Purge(absl::Now(), 10).status()), "STORE_CORRUPT") << "it is not made again";
  EXPECT_EQ((*store_->Read("g"))->revision(), 2);
}

TEST_F(MariaDbBadInputTest, ManyOpenAnEmptyDatabaseAtOnce) {
  std::vector<std::thread> threads;
  std::vector<std::string> ids(6);
  for (size_t i = 0; i < ids.size(); ++i) {
    threads.emplace_back([&, i] { ids[i] = MustOpenStore(options_)->Id(); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& id : ids) EXPECT_EQ(id, ids[0]);
  EXPECT_FALSE(ids[0].empty());
}

TEST_F(MariaDbBadInputTest, ATableThatWasDroppedIsNamed) {
  ASSERT_EQ(Open(), "OK");
  ASSERT_EQ(Put("g", 1), "APPLIED");
  Sql("RENAME TABLE store_globals TO kept");
  EXPECT_EQ(Put("g", 2), "NOT_APPLIED STORE_CORRUPT");
  EXPECT_THAT(std::string(status_.message()), HasSubstr("store_globals"));
  EXPECT_EQ(ReasonName(store_->Read("g").status()), "STORE_CORRUPT");
  EXPECT_EQ(ReasonName(store_->Settle("g").status()), "STORE_CORRUPT");
  EXPECT_EQ(Open(), "STORE_CORRUPT") << "it must not be made anew, and empty";
  EXPECT_THAT(message(), HasSubstr("store_globals"));
  Sql("RENAME TABLE kept TO store_globals");
  ASSERT_EQ(Open(), "OK");
  EXPECT_EQ(Put("g", 2), "APPLIED");
}

TEST_F(MariaDbBadInputTest, AColumnThatWasAlteredLosesNothing) {
  ASSERT_EQ(Open(), "OK");
  ASSERT_EQ(Put("g", 1), "APPLIED");
  Sql("ALTER TABLE store_globals MODIFY record VARBINARY(300) NOT NULL");
  // Only what does not fit is refused, not what was written with it; and nothing is cut.
  std::vector<Transition> group;
  group.push_back(To(MakeGlobal("g", 2, kCommitting)));
  group.push_back(To(MakeGlobal("large", 1, kActive, "", 1000)));
  group.push_back(To(MakeGlobal("small", 1, kActive)));
  const std::vector<TransitionResult> results = SubmitAllAndWait(store_.get(), std::move(group));
  EXPECT_EQ(ToString(results[0]), "APPLIED");
  EXPECT_EQ(ToString(results[1]), "NOT_APPLIED STORE_CORRUPT");
  EXPECT_EQ(ToString(results[2]), "APPLIED");
  EXPECT_EQ(*store_->Read("large"), nullptr);
  Sql("ALTER TABLE store_globals MODIFY record LONGBLOB NOT NULL");
  EXPECT_EQ(Put("large", 1, 1000), "APPLIED");
  Sql("ALTER TABLE store_globals DROP COLUMN ended");
  EXPECT_EQ(Put("g", 3), "NOT_APPLIED STORE_CORRUPT");
  EXPECT_EQ((*store_->Read("g"))->revision(), 2);
}

TEST_F(MariaDbBadInputTest, WhatTheStoreRestsOnIsLookedForAtTheStart) {
  ASSERT_EQ(Open(), "OK");
  ASSERT_EQ(Put("g", 1), "APPLIED");
  store_.reset();
  const struct {
    const char* damage;
    const char* repair;
    const char* named;
  } kCases[] = {
      {"ALTER TABLE store_globals DROP INDEX by_gtrid", "ALTER TABLE store_globals ADD UNIQUE KEY by_gtrid (gtrid)",
       "by_gtrid (gtrid)"},
      {"ALTER TABLE store_globals DROP INDEX by_request_id, ADD KEY by_request_id (request_id)",
       "ALTER TABLE store_globals DROP INDEX by_request_id, ADD UNIQUE KEY by_request_id (request_id)",
       "unique by_request_id"},
      {"ALTER TABLE store_globals DROP INDEX by_request_id, ADD UNIQUE KEY by_request_id (request_id(8))",
       "ALTER TABLE store_globals DROP INDEX by_request_id, ADD UNIQUE KEY by_request_id (request_id)",
       "unique by_request_id"},
      {"ALTER TABLE store_globals DROP INDEX by_ended_id", "ALTER TABLE store_globals ADD KEY by_ended_id (ended, id)",
       "by_ended_id"},
      {"ALTER TABLE store_globals MODIFY gtrid VARCHAR(64) CHARACTER SET utf8mb4 NOT NULL",
       "ALTER TABLE store_globals MODIFY gtrid VARBINARY(64) NOT NULL", "store_globals.gtrid"},
      {"ALTER TABLE store_globals CHANGE revision version BIGINT NOT NULL",
       "ALTER TABLE store_globals CHANGE version revision BIGINT NOT NULL", "store_globals.revision"},
      {"ALTER TABLE store_leases DROP PRIMARY KEY", "ALTER TABLE store_leases ADD PRIMARY KEY (work)", "store_leases"},
      {"ALTER TABLE store_instances DROP INDEX by_address",
       "ALTER TABLE store_instances ADD UNIQUE KEY by_address (address)", "by_address"},
  };
  for (const auto& c : kCases) {
    Sql(c.damage);
    EXPECT_EQ(Open(), "STORE_CORRUPT") << c.damage;
    EXPECT_THAT(message(), HasSubstr(c.named));
    Sql(c.repair);
    ASSERT_EQ(Open(), "OK") << c.repair << ": " << message();
  }
  store_.reset();
  Sql("CREATE TABLE kept LIKE store_meta;INSERT INTO kept SELECT * FROM store_meta");
  for (const char* const row :
       {"schema", "cluster", "store_id", "barrier", "server_life", "lossy_until_id", "horizon"}) {
    Sql(absl::StrCat("DELETE FROM store_meta WHERE name='", row, "'"));
    EXPECT_EQ(Open(), "STORE_CORRUPT") << row;
    EXPECT_THAT(message(), HasSubstr(absl::StrCat("'", row, "'")));
    Sql("REPLACE INTO store_meta SELECT * FROM kept");
    ASSERT_EQ(Open(), "OK") << message();
  }
  store_.reset();
  Sql("DROP TABLE store_meta");
  EXPECT_EQ(Open(), "STORE_CORRUPT") << "not a new store with another id";
  Sql("RENAME TABLE kept TO store_meta");
  ASSERT_EQ(Open(), "OK") << message();
  EXPECT_EQ((*store_->Read("g"))->revision(), 1);
}

TEST_F(MariaDbBadInputTest, WithoutABarrierNothingOfOthersIsShown) {
  ASSERT_EQ(Open(), "OK");
  ASSERT_EQ(Put("g", 1), "APPLIED");
  Sql("DELETE FROM store_meta WHERE name='barrier'");
  EXPECT_EQ(ReasonName(store_->Read("g").status()), "STORE_CORRUPT");
  EXPECT_EQ(ReasonName(store_->ReadOpen("", 10).status()), "STORE_CORRUPT");
  EXPECT_EQ(ReasonName(store_->Settle("g").status()), "STORE_CORRUPT");
  EXPECT_EQ(Put("g", 1), "NOT_APPLIED STORE_CORRUPT") << "a conflict shows what is there";
  EXPECT_THAT(std::string(status_.message()), HasSubstr("'barrier'"));
  EXPECT_EQ(Put("g", 2), "APPLIED") << "and shows nothing";
  Sql("INSERT INTO store_meta VALUES ('barrier', '', 0)");
  EXPECT_EQ((*store_->Read("g"))->revision(), 2);
}

TEST_F(MariaDbBadInputTest, ATableOfAnotherEngineIsRefused) {
  ASSERT_EQ(Open(), "OK");
  store_.reset();
  Sql("ALTER TABLE store_globals ENGINE=MyISAM");
  EXPECT_EQ(Open(), "STORE_UNFIT");
  EXPECT_THAT(message(), HasSubstr("ENGINE=InnoDB"));
}

TEST_F(MariaDbBadInputTest, AnUnreadableRecordIsCorruptAndItsNeighboursAreNot) {
  ASSERT_EQ(Open(), "OK");
  ASSERT_EQ(Put("g", 1), "APPLIED");
  ASSERT_EQ(Put("h", 1), "APPLIED");
  Sql("UPDATE store_globals SET record=x'ff00ff' WHERE gtrid='g'");
  EXPECT_EQ(ReasonName(store_->Read("g").status()), "STORE_CORRUPT");
  EXPECT_EQ((*store_->Read("h"))->revision(), 1);
  EXPECT_EQ(Put("g", 9), "NOT_APPLIED STORE_CORRUPT") << "what is in the way cannot be shown";
}

// It can be parsed, and says something else than was stored.
TEST_F(MariaDbBadInputTest, ARecordThatIsNotThatOfItsRowIsCorrupt) {
  const std::unique_ptr<MariaDbStore> store = MustOpenStore(options_);
  for (const char* const gtrid : {"a", "b"}) {
    ASSERT_EQ(ToString(SubmitAndWait(store.get(), To(MakeGlobal(gtrid, 1, kActive)))), "APPLIED");
  }
  for (const char* const record : {"''", "(SELECT record FROM (SELECT * FROM store_globals) AS o WHERE gtrid='b')"}) {
    Sql(absl::StrCat("UPDATE store_globals SET record=", record, " WHERE gtrid='a'"));
    EXPECT_EQ(ReasonName(store->Read("a").status()), "STORE_CORRUPT") << record;
    EXPECT_EQ(ReasonName(store->ReadOpen("", 10).status()), "STORE_CORRUPT") << record;
    EXPECT_EQ(ReasonName(store->List(ListQuery()).status()), "STORE_CORRUPT") << record;
    EXPECT_EQ(ReasonName(store->Settle("a").status()), "STORE_CORRUPT") << record;
    EXPECT_EQ(ToString(SubmitAndWait(store.get(), To(MakeGlobal("a", 1, kActive)))), "NOT_APPLIED STORE_CORRUPT");
    EXPECT_TRUE(store->Read("b").ok());
  }
}

TEST_F(MariaDbBadInputTest, ADatabaseOfAnotherProgramIsLeftAlone) {
  admin_.Run(absl::StrCat("CREATE DATABASE `", options_.database, "`"));
  Sql("CREATE TABLE globals (x INT);INSERT INTO globals VALUES (1)");
  ASSERT_EQ(Open(), "OK") << "side by side: all of ours are store_*";
  EXPECT_EQ(admin_.One("SELECT COUNT(*) FROM globals"), "1");
}

// Whatever the server's defaults are, the session sets its own.
TEST(MariaDbServersTest, OddDefaultsAreOverruled) {
  const std::unique_ptr<PrivateMariaDb> server =
      StartStoreServer({"--lower-case-table-names=1", "--log-bin", "--binlog-format=MIXED", "--sync-binlog=1"});
  const MariaDbOptions options = StoreOptions(*server);
  Admin admin(*server, options);
  admin.Run(
      "SET GLOBAL tx_isolation='SERIALIZABLE', character_set_server=utf16, collation_server=utf16_general_ci, "
      "sql_mode='NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH', default_storage_engine=MyISAM, "
      "completion_type=CHAIN, time_zone='+11:00', tx_read_only=1, autocommit=0, "
      "sql_safe_updates=1, sql_select_limit=1, max_join_size=1, sql_big_selects=0");
  const std::unique_ptr<MariaDbStore> store = MustOpenStore(options);
  EXPECT_THAT(store->Findings(), IsEmpty());
  const std::string nasty("\\'\"\0\n\r\x1a%_\xc3\xa4", 11);
  auto global = std::make_shared<v1::Global>(*MakeGlobal("a.:_-", 1, kActive, "r\\'"));
  global->set_cause_detail("\\'\" \n \x1a %_ \xc3\xa4");
  ASSERT_EQ(ToString(SubmitAndWait(store.get(), To(global))), "APPLIED");
  ASSERT_EQ(ToString(SubmitAndWait(store.get(), To(MakeGlobal(nasty, 1, kActive, nasty)))), "APPLIED");
  ASSERT_EQ(ToString(SubmitAndWait(store.get(), To(MakeGlobal("A.:_-", 1, kActive, "R\\'")))), "APPLIED");
  EXPECT_EQ((*store->Read("a.:_-"))->SerializeAsString(), global->SerializeAsString());
  EXPECT_EQ((*store->Read(nasty))->request_id(), nasty);
  EXPECT_EQ(ToString(SubmitAndWait(store.get(), To(MakeGlobal("x", 1, kActive, nasty)))), "CONFLICT");
  InstanceInfo info;
  info.address = "a'\\";
  ASSERT_TRUE(store->Members().Join(info).ok());
  ASSERT_TRUE(store->Members().Renew(1).ok());
  const std::vector<Instance> instances = *store->Members().Instances();
  ASSERT_EQ(instances.size(), 1u);
  EXPECT_TRUE(instances[0].alive);
  EXPECT_LT(absl::AbsDuration(instances[0].last_seen - absl::Now()), absl::Minutes(1)) << "UTC";
  ASSERT_EQ(ToString(SubmitAndWait(store.get(), To(MakeGlobal("a.:_-", 2, kCommitting), Durability::kForced))),
            "APPLIED");
}

TEST(MariaDbServersTest, AServerWithoutTlsIsRefusedWhereItIsWanted) {
  const std::unique_ptr<PrivateMariaDb> server = StartStoreServer({"--skip-ssl"});
  MariaDbOptions options = StoreOptions(*server);
  options.tls.required = true;
  options.tls.verify = false;
  const absl::Status refused = MariaDbStore::Open(options).status();
  EXPECT_EQ(ReasonName(refused), "STORE_UNAVAILABLE");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("TLS is required"));
}

TEST(MariaDbServersTest, AServerThatWantsTlsIsAReasonToSetIt) {
  const std::unique_ptr<PrivateMariaDb> server = StartStoreServer({"--require-secure-transport=ON"});
  MariaDbOptions options = StoreOptions(*server);
  options.address = Address();
  options.address.host = "127.0.0.1";
  options.address.port = server->port();
  const absl::Status refused = MariaDbStore::Open(options).status();
  EXPECT_EQ(ReasonName(refused), "STORE_UNFIT");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("set store-tls"));
}

TEST(MariaDbServersTest, AFullDiskRefusesWhatItCannotKeepAndNothingElse) {
  // A tablespace that may not grow is what the server makes of a full disk.
  const std::string space = "--innodb-data-file-path=ibdata1:12M:autoextend:max:";
  const std::unique_ptr<PrivateMariaDb> server = StartStoreServer({"--innodb-file-per-table=0", space + "26M"});
  const MariaDbOptions options = StoreOptions(*server);
  const std::unique_ptr<MariaDbStore> store = MustOpenStore(options);
  int stored = 0;
  TransitionResult result;
  for (; stored < 1000; ++stored) {
    result = SubmitAndWait(store.get(),
                           To(MakeGlobal(absl::StrCat("g", stored), 1, kActive, "", 200000), Durability::kForced));
    if (result.code != TransitionResult::Code::kApplied) break;
  }
  ASSERT_EQ(ToString(result), "NOT_APPLIED STORE_FULL") << result.status;
  EXPECT_GT(stored, 5);
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("make room"));
  EXPECT_EQ(*store->Read(absl::StrCat("g", stored)), nullptr);
  EXPECT_EQ(store->ReadOpen("", 1000)->size(), static_cast<size_t>(stored)) << "reads go on";
  ASSERT_TRUE(server->Restart({"--innodb-file-per-table=0", space + "60M"}).ok());
  std::string put;
  for (int i = 0; i < 200 && put != "APPLIED"; ++i) {
    put = ToString(SubmitAndWait(store.get(), To(MakeGlobal(absl::StrCat("g", stored), 1, kActive, "", 200000))));
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_EQ(put, "APPLIED");
  for (int i = 0; i <= stored; ++i) EXPECT_NE(*store->Read(absl::StrCat("g", i)), nullptr) << i;
}

TEST(MariaDbServersTest, ServersThatLoseWhatTheyAcknowledgeAreRefusedUnlessWanted) {
  const std::unique_ptr<PrivateMariaDb> server =
      StartStoreServer({"--innodb-flush-log-at-trx-commit=2", "--innodb-doublewrite=0", "--log-bin", "--sync-binlog=0",
                        "--rpl-semi-sync-master-enabled=ON", "--rpl-semi-sync-master-wait-point=AFTER_COMMIT"});
  MariaDbOptions options = StoreOptions(*server);
  const absl::Status refused = MariaDbStore::Open(options).status();
  EXPECT_EQ(ReasonName(refused), "STORE_UNFIT");
  for (const char* const setting : {"innodb_flush_log_at_trx_commit=2", "sync_binlog=0", "innodb_doublewrite=OFF",
                                    "rpl_semi_sync_master_wait_point=AFTER_COMMIT"}) {
    EXPECT_THAT(std::string(refused.message()), HasSubstr(setting));
  }
  options.unsafe = MariaDbOptions::Unsafe::kWarn;
  std::unique_ptr<MariaDbStore> store = MustOpenStore(options);
  EXPECT_EQ(store->Findings().size(), 4u);
  EXPECT_FALSE(store->MayHaveLostLazyWrites()) << "new";
  ASSERT_EQ(ToString(SubmitAndWait(store.get(), To(MakeGlobal("g", 1, kActive)))), "APPLIED");
  store = MustOpenStore(options);
  EXPECT_FALSE(store->MayHaveLostLazyWrites()) << "the same life of the server";
  store.reset();
  absl::SleepFor(absl::Seconds(3));  // A start time is known to the second.
  ASSERT_TRUE(server->Restart().ok());
  store = MustOpenStore(options);
  EXPECT_TRUE(store->MayHaveLostLazyWrites()) << "it was restarted, and nobody can tell";
  store = MustOpenStore(options);
  EXPECT_TRUE(store->MayHaveLostLazyWrites()) << "not dealt with yet";
  ASSERT_EQ(ToString(SubmitAndWait(store.get(), To(MakeGlobal("g", 2, v1::Global::STATE_ROLLED_BACK)))), "APPLIED");
  store = MustOpenStore(options);
  EXPECT_FALSE(store->MayHaveLostLazyWrites());
}

TEST(MariaDbServersTest, ServersThatCannotWorkAreRefusedWithARemedy) {
  std::unique_ptr<PrivateMariaDb> server =
      StartStoreServer({"--log-bin", "--binlog-format=STATEMENT", "--sync-binlog=1"});
  absl::Status refused = MariaDbStore::Open(StoreOptions(*server)).status();
  EXPECT_EQ(ReasonName(refused), "STORE_UNFIT");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("ROW or MIXED"));
  ASSERT_TRUE(server->Restart({"--max-allowed-packet=1M"}).ok());
  refused = MariaDbStore::Open(StoreOptions(*server)).status();
  EXPECT_EQ(ReasonName(refused), "STORE_UNFIT");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("max_allowed_packet"));
}

}  // namespace
}  // namespace assent
