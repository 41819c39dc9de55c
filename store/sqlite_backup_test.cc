#include "store/sqlite_backup.h"

#include <sys/stat.h>

#include <atomic>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/sqlite_store.h"
#include "store/testing/store_test_util.h"
#include "store/testing/transfer_test_util.h"

namespace assent {
namespace {

class SqliteBackupTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<SqliteStore>> Open(const std::string& name) {
    SqliteOptions options;
    options.path = folder_.File(name);
    options.cluster = "test";
    return SqliteStore::Open(options);
  }
  absl::Status Backup(const std::string& name) {
    return BackupSqliteStore({folder_.File("store.db"), folder_.File(name), nullptr}).status();
  }
  bool Exists(const std::string& name) {
    struct stat info;
    return stat(folder_.File(name).c_str(), &info) == 0;
  }

  TempFolder folder_;
};

TEST_F(SqliteBackupTest, OfAnOpenStoreIsThatStore) {
  auto store = Open("store.db");
  ASSERT_TRUE(store.ok());
  FillWithHistory(store->get(), 0, 5000);
  v1::Resource resource;
  resource.set_name("orders");
  ASSERT_TRUE((*store)->PutResource(resource).ok());
  ASSERT_TRUE((*store)->FinishImport(absl::FromUnixSeconds(1700000000)).ok());
  ASSERT_TRUE(Backup("copy.db").ok());
  for (const char* left : {"copy.db.part", "copy.db-wal", "copy.db-shm", "copy.db.part-wal", "copy.db.part-shm"}) {
    EXPECT_FALSE(Exists(left)) << left;
  }
  // The store is not disturbed, and still locked.
  EXPECT_EQ(ReasonName(Open("store.db").status()), "STORE_LOCKED");
  FillWithHistory(store->get(), 5000, 10);

  auto copy = Open("copy.db");
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_EQ((*copy)->Id(), (*store)->Id());
  EXPECT_EQ((*copy)->Horizon(), absl::FromUnixSeconds(1700000000));
  EXPECT_EQ((*copy)->ReadResources()->size(), 1u);
  std::vector<std::string> expected = AllRecords(store->get());
  expected.resize(5000);
  EXPECT_EQ(AllRecords(copy->get()), expected);
  // What came after it is lost in it, and it knows.
  EXPECT_TRUE((*copy)->MayHaveLostLazyWrites());
  EXPECT_FALSE((*store)->MayHaveLostLazyWrites());
}

TEST_F(SqliteBackupTest, OfAClosedStoreToo) {
  {
    auto store = Open("store.db");
    ASSERT_TRUE(store.ok());
    FillWithHistory(store->get(), 0, 100);
  }
  ASSERT_TRUE(Backup("copy.db").ok());
  EXPECT_EQ(AllRecords(Open("copy.db")->get()).size(), 100u);
  EXPECT_EQ(AllRecords(Open("store.db")->get()).size(), 100u);
}

// Each group of transitions is written together, so a copy holds all of one or none of it; and what was APPLIED before
// the copy began is in it.
TEST_F(SqliteBackupTest, UnderLoadIsOneMoment) {
  auto store = Open("store.db");
  ASSERT_TRUE(store.ok());
  FillWithHistory(store->get(), 0, 20000);
  constexpr int kRecords = 50;
  std::atomic<bool> stop{false};
  std::atomic<int64_t> applied{0};
  std::thread writer([&] {
    for (int64_t revision = 1; !stop; ++revision) {
      std::vector<Transition> transitions;
      for (int i = 0; i < kRecords; ++i) {
        transitions.push_back(To(MakeGlobal(absl::StrCat("load-", i), revision, v1::Global::STATE_COMMITTING, "", 500),
                                 i == 0 ? Durability::kForced : Durability::kLazy));
      }
      for (const TransitionResult& result : SubmitAllAndWait(store->get(), std::move(transitions))) {
        ASSERT_EQ(ToString(result), "APPLIED");
      }
      applied = revision;
    }
  });
  while (applied == 0) std::this_thread::yield();
  int went_on = 0;  // During one copy a busy machine may let nobody else run.
  for (int round = 0; round < 5; ++round) {
    const int64_t before = applied;
    const std::string name = absl::StrCat("copy", round, ".db");
    ASSERT_TRUE(Backup(name).ok());
    if (applied > before) ++went_on;
    auto copy = Open(name);
    ASSERT_TRUE(copy.ok()) << copy.status();
    // Submitted in order, so at any moment each record is at the revision of the one before it or one behind.
    int64_t revision = 0;
    for (int i = 0; i < kRecords; ++i) {
      const auto record = (*copy)->Read(absl::StrCat("load-", i));
      ASSERT_TRUE(record.ok() && *record != nullptr);
      EXPECT_GE((*record)->revision(), before);
      if (i > 0) {
        EXPECT_TRUE((*record)->revision() == revision || (*record)->revision() == revision - 1);
      }
      revision = (*record)->revision();
    }
  }
  EXPECT_GT(went_on, 0) << "the writer was held up";
  stop = true;
  writer.join();
}

TEST_F(SqliteBackupTest, WhatIsThereIsLeftAlone) {
  ASSERT_TRUE(Open("store.db").ok());
  std::ofstream(folder_.File("taken")) << "mine";
  EXPECT_TRUE(absl::IsAlreadyExists(Backup("taken")));
  EXPECT_TRUE(absl::IsNotFound(Backup("no/such/folder")));
  EXPECT_FALSE(Exists("taken.part"));
  // A part of an earlier run is begun anew.
  std::ofstream(folder_.File("copy.db.part")) << "rest";
  EXPECT_TRUE(Backup("copy.db").ok());
  EXPECT_TRUE(Open("copy.db").ok());
}

TEST_F(SqliteBackupTest, WhatIsNoStoreIsRefused) {
  EXPECT_EQ(ReasonName(Backup("copy")), "STORE_UNAVAILABLE");
  EXPECT_FALSE(Exists("store.db"));
  std::ofstream(folder_.File("store.db")) << std::string(10000, 'x');
  EXPECT_EQ(ReasonName(Backup("copy")), "STORE_CORRUPT");
  EXPECT_FALSE(Exists("copy"));
  EXPECT_FALSE(Exists("copy.part"));
}

}  // namespace
}  // namespace assent
