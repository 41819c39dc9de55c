// The SQLite store keeps the contract of every store, and its own promises about files. What needs faults of the disk
// is in sqlite_fault_test.cc, what needs the death of a process in sqlite_crash_test.cc.
#include "store/sqlite_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/xid.h"
#include "store/sqlite_schema.h"
#include "store/testing/conformance_suite.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

using testing::HasSubstr;

constexpr auto kActive = v1::Global::STATE_ACTIVE;
constexpr auto kCommitting = v1::Global::STATE_COMMITTING;
constexpr auto kCommitted = v1::Global::STATE_COMMITTED;
constexpr auto kRolledBack = v1::Global::STATE_ROLLED_BACK;

class SqliteUnderTest : public StoreUnderTest {
 public:
  absl::StatusOr<std::unique_ptr<Store>> Open(int queue_limit) override {
    SqliteOptions options;
    options.path = folder_.File("store.db");
    options.cluster = "test";
    options.queue_limit = queue_limit;
    absl::StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open(options);
    if (!store.ok()) return store.status();
    return std::unique_ptr<Store>(*std::move(store));
  }

 private:
  TempFolder folder_;
};

INSTANTIATE_TEST_SUITE_P(Sqlite, StoreConformanceTest, testing::Values([]() -> std::unique_ptr<StoreUnderTest> {
                           return std::make_unique<SqliteUnderTest>();
                         }));

class SqliteStoreTest : public testing::Test {
 protected:
  SqliteStoreTest() {
    options_.path = folder_.File("store.db");
    options_.cluster = "test";
  }

  // Opens the store; the reason's name.
  std::string Open() {
    store_.reset();
    absl::StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open(options_);
    status_ = store.status();
    if (store.ok()) store_ = *std::move(store);
    return ReasonName(status_);
  }

  // Runs SQL on the closed file as another program would.
  void Sql(const std::string& sql) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(options_.path.c_str(), &db), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(db);
    sqlite3_close(db);
  }

  std::string Put(const std::string& gtrid, int64_t revision, v1::Global::State state = kActive, size_t bytes = 0) {
    return ToString(SubmitAndWait(store_.get(), To(MakeGlobal(gtrid, revision, state, "", bytes))));
  }

  void Write(const std::string& content) { std::ofstream(options_.path, std::ios::binary) << content; }

  TempFolder folder_;
  SqliteOptions options_;
  absl::Status status_;
  std::unique_ptr<SqliteStore> store_;
};

TEST_F(SqliteStoreTest, OptionsAreChecked) {
  for (const char* const cluster : {"", "a-b", "a b", "0123456789012345678901234567890123"}) {
    options_.cluster = cluster;
    EXPECT_EQ(Open(), "INVALID_FIELD") << cluster;
  }
  options_.cluster = "test";
  options_.queue_limit = 0;
  EXPECT_EQ(Open(), "INVALID_FIELD");
  EXPECT_EQ(MetadataOf(status_)["field"], "queue_limit");
}

TEST_F(SqliteStoreTest, PathsThatCannotHoldAStoreAreExplained) {
  options_.path = "";
  EXPECT_EQ(Open(), "STORE_UNAVAILABLE");
  options_.path = std::string("a\0b", 3);
  EXPECT_EQ(Open(), "STORE_UNAVAILABLE");
  options_.path = folder_.File("missing/store.db");
  EXPECT_EQ(Open(), "STORE_UNAVAILABLE");
  EXPECT_THAT(std::string(status_.message()), HasSubstr("create the folder first"));
  options_.path = folder_.path();
  EXPECT_EQ(Open(), "STORE_UNAVAILABLE");
  EXPECT_THAT(std::string(status_.message()), HasSubstr("is not a file"));
  options_.path = folder_.path() + "/";
  EXPECT_EQ(Open(), "STORE_UNAVAILABLE");
}

TEST_F(SqliteStoreTest, AnEmptyFileBecomesAStore) {
  Write("");
  EXPECT_EQ(Open(), "OK") << status_;
  EXPECT_FALSE(store_->MayHaveLostLazyWrites());
}

TEST_F(SqliteStoreTest, WhatIsNoDatabaseIsRefusedAndLeftAlone) {
  const std::string text(5000, 'x');
  Write(text);
  EXPECT_EQ(Open(), "STORE_CORRUPT");
  std::ifstream file(options_.path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), text);
}

TEST_F(SqliteStoreTest, AnotherProgramsDatabaseIsRefusedAndLeftAlone) {
  Sql("CREATE TABLE precious (x); INSERT INTO precious VALUES (1)");
  EXPECT_EQ(Open(), "STORE_CORRUPT");
  EXPECT_THAT(std::string(status_.message()), HasSubstr("another program"));
  Sql("INSERT INTO precious VALUES (2); PRAGMA application_id = 77; PRAGMA user_version = 1");
  EXPECT_EQ(Open(), "STORE_CORRUPT");
  Sql("INSERT INTO precious VALUES (3)");
}

TEST_F(SqliteStoreTest, ANewerSchemaIsRefusedWithBothVersions) {
  ASSERT_EQ(Open(), "OK");
  store_.reset();
  Sql("PRAGMA user_version = 99");
  EXPECT_EQ(Open(), "STORE_SCHEMA_NEWER");
  EXPECT_EQ(MetadataOf(status_)["found"], "99");
  EXPECT_EQ(MetadataOf(status_)["supported"], absl::StrCat(NewestSchemaVersion()));
}

TEST_F(SqliteStoreTest, TheHorizonOfAnOlderFileIsAnHourAgo) {
  const std::string kOlder = "DELETE FROM meta WHERE key = 'horizon'; PRAGMA user_version = 3";
  ASSERT_EQ(Open(), "OK");
  EXPECT_LT(absl::AbsDuration(absl::Now() - store_->Horizon()), absl::Minutes(1)) << "a new one";
  store_.reset();
  Sql(kOlder);
  ASSERT_EQ(Open(), "OK") << status_;
  EXPECT_LT(absl::AbsDuration(absl::Now() - store_->Horizon()), absl::Minutes(1)) << "nobody has worked on it";
  InstanceInfo info;
  info.address = "10.0.0.1:7411";
  ASSERT_TRUE(store_->Members().Join(info).ok());
  store_.reset();
  Sql(kOlder);
  ASSERT_EQ(Open(), "OK") << status_;
  const absl::Time horizon = store_->Horizon();
  EXPECT_LT(absl::AbsDuration(absl::Now() - absl::Hours(1) - horizon), absl::Minutes(1));
  // Set back by hand, for an older program, which has deleted since.
  for (const bool later : {false, true}) {
    store_.reset();
    const absl::Time there = later ? absl::FromUnixSeconds(7000000000) : absl::FromUnixSeconds(17);
    Sql(absl::StrCat("UPDATE meta SET value = ", absl::ToUnixMicros(there),
                     " WHERE key = 'horizon'; PRAGMA user_version = 3"));
    ASSERT_EQ(Open(), "OK") << status_;
    EXPECT_EQ(store_->Horizon() == there, later) << "it never falls";
    EXPECT_GE(store_->Horizon(), horizon);
  }
}

// As older programs put it down, with the clock of an instance behind that of another.
TEST_F(SqliteStoreTest, WhatHadEndedBeforeItWasBornIsBehindTheHorizonToo) {
  ASSERT_EQ(Open(), "OK");
  const absl::Time birth = store_->Horizon() + absl::Hours(1);
  const std::string gtrid = NewGtrid("test", birth);
  ASSERT_EQ(Put(gtrid, 1, v1::Global::STATE_COMMITTED), "APPLIED");
  store_.reset();
  Sql("UPDATE globals SET ended = 1");
  ASSERT_EQ(Open(), "OK");
  ASSERT_EQ(store_->Purge(absl::Now(), 10)->size(), 1u);
  EXPECT_EQ(store_->Horizon(), birth + absl::Milliseconds(1));
  store_.reset();
  ASSERT_EQ(Open(), "OK");
  EXPECT_EQ(store_->Horizon(), birth + absl::Milliseconds(1));
}

TEST_F(SqliteStoreTest, WithoutItsHorizonAFileIsDamaged) {
  ASSERT_EQ(Open(), "OK");
  store_.reset();
  Sql("DELETE FROM meta WHERE key = 'horizon'");
  EXPECT_EQ(Open(), "STORE_CORRUPT");
  EXPECT_THAT(std::string(status_.message()), HasSubstr("'horizon'"));
}

TEST_F(SqliteStoreTest, AnotherClustersStoreIsRefusedByName) {
  ASSERT_EQ(Open(), "OK");
  ASSERT_EQ(Put("g", 1), "APPLIED");
  options_.cluster = "other";
  EXPECT_EQ(Open(), "STORE_OTHER_CLUSTER");
  EXPECT_EQ(MetadataOf(status_)["stored"], "test");
  options_.cluster = "test";
  EXPECT_EQ(Open(), "OK");
  EXPECT_NE(*store_->Read("g"), nullptr);
}

TEST_F(SqliteStoreTest, ADamagedFileIsRefused) {
  ASSERT_EQ(Open(), "OK");
  for (int i = 0; i < 200; ++i) ASSERT_EQ(Put(absl::StrCat("g", i), 1, kActive, 300), "APPLIED");
  store_.reset();
  const auto size = std::filesystem::file_size(options_.path);
  std::fstream file(options_.path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(4096 * 6);
  file << std::string(4096 * 4, '\xee');
  file.close();
  EXPECT_EQ(Open(), "STORE_CORRUPT");
  EXPECT_THAT(std::string(status_.message()), HasSubstr("restore the file"));
  std::filesystem::resize_file(options_.path, size / 2 / 4096 * 4096);
  EXPECT_EQ(Open(), "STORE_CORRUPT");
}

TEST_F(SqliteStoreTest, ASecondOwnerIsRefusedAndToldTheFirst) {
  ASSERT_EQ(Open(), "OK");
  const std::string link = folder_.File("link.db");
  std::filesystem::create_symlink(options_.path, link);
  for (const std::string& path : {options_.path, link, absl::StrCat(folder_.path(), "/./store.db")}) {
    SqliteOptions second = options_;
    second.path = path;
    const absl::Status status = SqliteStore::Open(second).status();
    EXPECT_EQ(ReasonName(status), "STORE_LOCKED") << path;
    EXPECT_EQ(MetadataOf(status)["pid"], absl::StrCat(getpid()));
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("process ", getpid())));
  }
  EXPECT_EQ(Open(), "OK");
}

TEST_F(SqliteStoreTest, ALinkToAStoreThatIsYetToBeMadeIsNoSecondStore) {
  const std::string link = folder_.File("link.db");
  std::filesystem::create_symlink(options_.path, link);
  SqliteOptions first = options_;
  first.path = link;
  const auto owner = SqliteStore::Open(first);
  ASSERT_TRUE(owner.ok()) << owner.status();
  for (const std::string& path : {options_.path, link}) {
    first.path = path;
    const absl::Status status = SqliteStore::Open(first).status();
    EXPECT_EQ(ReasonName(status), "STORE_LOCKED") << path;
    EXPECT_EQ(MetadataOf(status)["pid"], absl::StrCat(getpid()));
  }
}

TEST_F(SqliteStoreTest, ASecondNameIsRefused) {
  ASSERT_EQ(Open(), "OK");
  SqliteOptions second = options_;
  second.path = folder_.File("hard.db");
  std::filesystem::create_hard_link(options_.path, second.path);
  const absl::Status status = SqliteStore::Open(second).status();
  EXPECT_EQ(ReasonName(status), "STORE_UNAVAILABLE");
  EXPECT_THAT(std::string(status.message()), HasSubstr("has 2 names (hard links)"));
  std::filesystem::remove(second.path);
  // The same database where nothing beside it tells: the lock is on the file itself.
  store_.reset();
  ASSERT_EQ(Open(), "OK");
  std::filesystem::rename(options_.path, second.path);
  EXPECT_EQ(ReasonName(SqliteStore::Open(second).status()), "STORE_LOCKED");
  std::filesystem::rename(second.path, options_.path);
}

// Tried in a child without capabilities, because root may write everywhere.
TEST_F(SqliteStoreTest, WhatCannotBeWrittenIsRefused) {
  ASSERT_EQ(Open(), "OK");
  ASSERT_EQ(Put("g", 1), "APPLIED");
  store_.reset();
  std::filesystem::remove(options_.path + ".lock");
  const auto open_without_capabilities = [&] {
    const pid_t child = fork();
    if (child == 0) {
      __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
      __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
      if (syscall(SYS_capset, &header, none) != 0) _exit(100);
      const absl::optional<Reason> reason = ReasonOf(SqliteStore::Open(options_).status());
      _exit(reason ? static_cast<int>(*reason) : 101);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  // The control: nothing is forbidden.
  ASSERT_EQ(open_without_capabilities(), 101);
  std::filesystem::remove(options_.path + ".lock");
  ASSERT_EQ(chmod(options_.path.c_str(), 0444), 0);
  EXPECT_EQ(open_without_capabilities(), static_cast<int>(Reason::STORE_READ_ONLY));
  std::filesystem::remove(options_.path + ".lock");
  ASSERT_EQ(chmod(options_.path.c_str(), 0644), 0);
  ASSERT_EQ(chmod(folder_.path().c_str(), 0555), 0);
  EXPECT_EQ(open_without_capabilities(), static_cast<int>(Reason::STORE_READ_ONLY));
  ASSERT_EQ(chmod(folder_.path().c_str(), 0755), 0);
}

TEST_F(SqliteStoreTest, AnotherBootMayHaveLostWritesUntilTheyAreDealtWith) {
  options_.boot_id = "boot-1";
  ASSERT_EQ(Open(), "OK");
  EXPECT_FALSE(store_->MayHaveLostLazyWrites()) << "a new store has lost nothing";
  ASSERT_EQ(Put("a", 1), "APPLIED");
  ASSERT_EQ(Put("b", 1), "APPLIED");
  ASSERT_EQ(Put("b", 2, kCommitting), "APPLIED");
  ASSERT_EQ(Open(), "OK");
  EXPECT_FALSE(store_->MayHaveLostLazyWrites()) << "the machine did not restart";

  options_.boot_id = "boot-2";
  ASSERT_EQ(Open(), "OK");
  EXPECT_TRUE(store_->MayHaveLostLazyWrites());
  // Died before it dealt with `a`: the next open must not forget.
  ASSERT_EQ(Open(), "OK");
  EXPECT_TRUE(store_->MayHaveLostLazyWrites());
  ASSERT_EQ(Put("a", 2, kRolledBack), "APPLIED");
  ASSERT_EQ(Put("young", 1), "APPLIED");
  ASSERT_EQ(Open(), "OK");
  EXPECT_FALSE(store_->MayHaveLostLazyWrites()) << "only what is younger is undecided";
}

TEST_F(SqliteStoreTest, WithoutABootIdNobodyCanTell) {
  ASSERT_EQ(Open(), "OK");
  store_.reset();
  Sql("DELETE FROM meta WHERE key = 'boot_id'");
  ASSERT_EQ(Open(), "OK");
  EXPECT_TRUE(store_->MayHaveLostLazyWrites());
}

TEST_F(SqliteStoreTest, HistoryCostsNothing) {
  ASSERT_EQ(Open(), "OK");
  const auto fill = [&](const std::string& prefix, int count, v1::Global::State state) {
    std::vector<Transition> transitions;
    for (int i = 0; i < count; ++i) {
      transitions.push_back(To(MakeGlobal(absl::StrCat(prefix, i), 1, kActive)));
      if (state != kActive) transitions.push_back(To(MakeGlobal(absl::StrCat(prefix, i), 2, state)));
    }
    for (const TransitionResult& result : SubmitAllAndWait(store_.get(), std::move(transitions))) {
      ASSERT_EQ(ToString(result), "APPLIED");
    }
  };
  ListQuery all;
  ListQuery open;
  open.states = {kActive, kCommitting};
  const auto steps = [&] {
    std::vector<int64_t> costs;
    EXPECT_EQ(store_->ReadOpen("", 100)->size(), 100u);
    costs.push_back(store_->LastReadStepsForTest());
    EXPECT_EQ(store_->List(all)->globals.size(), 100u);
    costs.push_back(store_->LastReadStepsForTest());
    EXPECT_EQ(store_->List(open)->globals.size(), 100u);
    costs.push_back(store_->LastReadStepsForTest());
    return costs;
  };
  // The open ones oldest, so that the history lies between them and the newest end.
  fill("a", 100, kActive);
  fill("c", 100, kCommitted);
  const std::vector<int64_t> before = steps();
  for (int i = 0; i < 5; ++i) fill(absl::StrCat("d", i, "-"), 20000, i % 2 == 0 ? kCommitted : kRolledBack);
  const std::vector<int64_t> after = steps();
  EXPECT_EQ(after, before);
  for (const int64_t cost : before) EXPECT_LT(cost, 3000);

  // A filter that finds nothing looks at a bounded number of rows for each page.
  ListQuery rare;
  rare.states = {kCommitted, v1::Global::STATE_HEURISTIC};
  rare.page_size = 1000;
  ASSERT_TRUE(store_->List(rare).ok());
  rare.states = {kRolledBack};
  absl::StatusOr<ListPage> page = store_->List(rare);
  ASSERT_TRUE(page.ok());
  EXPECT_TRUE(page->globals.empty()) << "the newest 20,000 are committed";
  EXPECT_FALSE(page->next_page_token.empty());
  EXPECT_LT(store_->LastReadStepsForTest(), 100000);
}

TEST_F(SqliteStoreTest, APageOfLargeRecordsIsShort) {
  ASSERT_EQ(Open(), "OK");
  for (int i = 0; i < 10; ++i) ASSERT_EQ(Put(absl::StrCat("g", i), 1, kActive, 1 << 20), "APPLIED");
  ListQuery query;
  size_t seen = 0;
  do {
    const absl::StatusOr<ListPage> page = store_->List(query);
    ASSERT_TRUE(page.ok());
    EXPECT_GE(page->globals.size(), 1u);
    EXPECT_LE(page->globals.size(), 4u);
    seen += page->globals.size();
    query.page_token = page->next_page_token;
  } while (!query.page_token.empty());
  EXPECT_EQ(seen, 10u);
}

TEST_F(SqliteStoreTest, ARecordThatCannotBeReadIsReportedNotInvented) {
  ASSERT_EQ(Open(), "OK");
  ASSERT_EQ(Put("g", 1), "APPLIED");
  store_.reset();
  Sql("UPDATE globals SET record = x'ff'");
  ASSERT_EQ(Open(), "OK");
  EXPECT_EQ(ReasonName(store_->Read("g").status()), "STORE_CORRUPT");
  EXPECT_EQ(ReasonName(store_->Settle("g").status()), "STORE_CORRUPT");
  EXPECT_EQ(ReasonName(store_->List({}).status()), "STORE_CORRUPT");
  EXPECT_EQ(ReasonName(store_->ReadOpen("", 1).status()), "STORE_CORRUPT");
  EXPECT_EQ(Put("g", 1), "NOT_APPLIED STORE_CORRUPT");
  EXPECT_EQ(Put("other", 1), "APPLIED");
}

TEST_F(SqliteStoreTest, ALongLogIsEmptiedUnderLoadAndByReadersUndisturbed) {
  options_.wal_limit_pages = 50;
  ASSERT_EQ(Open(), "OK");
  for (int i = 0; i < 600; ++i) {
    ASSERT_EQ(Put(absl::StrCat("g", i), 1, kActive, 500), "APPLIED");
    ASSERT_TRUE(store_->Read("g0").ok());
  }
  EXPECT_LT(std::filesystem::file_size(options_.path + "-wal"), 4u * 50 * 4120);
  EXPECT_GT(store_->Stats().checkpoint_syncs, 0);
}

TEST_F(SqliteStoreTest, AnIdleStoreEmptiesItsLog) {
  options_.wal_limit_pages = 1000000;
  ASSERT_EQ(Open(), "OK");
  for (int i = 0; i < 8; ++i) ASSERT_EQ(Put(absl::StrCat("g", i), 1, kActive, 1 << 20), "APPLIED");
  for (int i = 0; i < 1000 && store_->Stats().checkpoint_syncs == 0; ++i) usleep(10000);
  EXPECT_EQ(store_->Stats().checkpoint_syncs, 2);
  EXPECT_EQ(store_->Stats().forced_groups, 0);
}

}  // namespace
}  // namespace assent
