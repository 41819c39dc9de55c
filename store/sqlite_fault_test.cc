// The SQLite store when the disk fails: what is told, what is there afterwards, and how many forced writes it costs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "store/sqlite_store.h"
#include "store/testing/fault_vfs.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

constexpr auto kActive = v1::Global::STATE_ACTIVE;
constexpr auto kCommitting = v1::Global::STATE_COMMITTING;
constexpr auto kCommitted = v1::Global::STATE_COMMITTED;
constexpr auto kRollingBack = v1::Global::STATE_ROLLING_BACK;
constexpr auto kRolledBack = v1::Global::STATE_ROLLED_BACK;

using Kind = FaultVfs::FileKind;
using Op = FaultVfs::Op;

constexpr FaultVfs::Fault kLogSyncFails = {Kind::kLog, Op::kSync, 0, FaultVfs::kForever, SQLITE_IOERR_FSYNC};
constexpr FaultVfs::Fault kLogIsFull = {Kind::kLog, Op::kWrite, 0, FaultVfs::kForever, SQLITE_FULL};

FaultVfs::Fault Skip(FaultVfs::Fault fault, int skip, int times) {
  fault.skip = skip;
  fault.times = times;
  return fault;
}

class SqliteFaultTest : public testing::Test {
 protected:
  void SetUp() override { Open(); }
  void TearDown() override { store_.reset(); }

  void Open(int wal_limit_pages = 16384) {
    store_.reset();
    store_ = OpenIn(folder_, vfs_.name(), wal_limit_pages);
    ASSERT_NE(store_, nullptr);
    vfs_.ResetCounts();
  }

  static std::unique_ptr<SqliteStore> OpenIn(const TempFolder& folder, const std::string& vfs = "",
                                             int wal_limit_pages = 16384) {
    SqliteOptions options;
    options.path = folder.File("store.db");
    options.cluster = "test";
    options.vfs = vfs;
    options.wal_limit_pages = wal_limit_pages;
    absl::StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open(options);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }

  std::string Put(const std::string& gtrid, int64_t revision, v1::Global::State state = kActive,
                  Durability durability = Durability::kLazy) {
    return ToString(SubmitAndWait(store_.get(), To(MakeGlobal(gtrid, revision, state, "", 200), durability)));
  }
  std::string Force(const std::string& gtrid, int64_t revision, v1::Global::State state = kCommitting) {
    return Put(gtrid, revision, state, Durability::kForced);
  }

  // The revision of a record (0: none), as this store sees it,
  int64_t Revision(const std::string& gtrid) { return RevisionIn(store_.get(), gtrid); }
  static int64_t RevisionIn(Store* store, const std::string& gtrid) {
    const absl::StatusOr<GlobalPtr> global = store->Read(gtrid);
    EXPECT_TRUE(global.ok()) << global.status();
    return global.ok() && *global != nullptr ? (*global)->revision() : 0;
  }
  // as the next process would, if this one were killed now,
  int64_t RevisionAfterKill(const std::string& gtrid) {
    TempFolder copy;
    CopyFiles(copy);
    const std::unique_ptr<SqliteStore> store = OpenIn(copy);
    return RevisionIn(store.get(), gtrid);
  }
  // and after a loss of power.
  int64_t RevisionAfterPowerLoss(const std::string& gtrid, uint64_t seed = 0) {
    TempFolder copy;
    vfs_.SaveAfterPowerLoss(copy.path(), seed);
    const std::unique_ptr<SqliteStore> store = OpenIn(copy);
    return RevisionIn(store.get(), gtrid);
  }
  void CopyFiles(const TempFolder& to) {
    for (const char* const name : {"store.db", "store.db-wal"}) {
      if (std::filesystem::exists(folder_.File(name))) std::filesystem::copy_file(folder_.File(name), to.File(name));
    }
  }

  TempFolder folder_;
  FaultVfs vfs_;
  std::unique_ptr<SqliteStore> store_;
};

TEST_F(SqliteFaultTest, LazyTransitionsForceNothing) {
  for (int i = 0; i < 100; ++i) {
    const std::string gtrid = absl::StrCat("g", i);
    ASSERT_EQ(Put(gtrid, 1), "APPLIED");
    ASSERT_EQ(Put(gtrid, 2, kRollingBack), "APPLIED");
    ASSERT_EQ(Put(gtrid, 3, kRolledBack), "APPLIED");
  }
  EXPECT_EQ(vfs_.CountSyncs(), 0);
  EXPECT_GT(vfs_.Count(Kind::kLog, Op::kWrite), 0);
  EXPECT_EQ(store_->Stats().forced_groups, 0);
}

TEST_F(SqliteFaultTest, ACommittedTransactionForcesOnce) {
  for (int i = 0; i < 50; ++i) {
    const std::string gtrid = absl::StrCat("g", i);
    ASSERT_EQ(Put(gtrid, 1), "APPLIED");
    ASSERT_EQ(Force(gtrid, 2, kCommitting), "APPLIED");
    ASSERT_EQ(Put(gtrid, 3, kCommitted), "APPLIED");
  }
  EXPECT_EQ(vfs_.CountSyncs(), 50);
  EXPECT_EQ(store_->Stats().forced_groups, 50);
}

TEST_F(SqliteFaultTest, ConcurrentForcedTransitionsShareSyncs) {
  std::vector<Transition> transitions;
  for (int i = 0; i < 2000; ++i) {
    transitions.push_back(To(MakeGlobal(absl::StrCat("g", i), 1, kCommitting), Durability::kForced));
  }
  for (const TransitionResult& result : SubmitAllAndWait(store_.get(), std::move(transitions))) {
    ASSERT_EQ(ToString(result), "APPLIED");
  }
  EXPECT_EQ(vfs_.CountSyncs(), store_->Stats().forced_groups);
  EXPECT_LT(vfs_.CountSyncs(), 1000);
}

TEST_F(SqliteFaultTest, StatsCountEverySync) {
  Open(/*wal_limit_pages=*/40);
  for (int i = 0; i < 400; ++i) {
    ASSERT_EQ(Put(absl::StrCat("g", i), 1, kActive, i % 7 == 0 ? Durability::kForced : Durability::kLazy), "APPLIED");
    if (i % 50 == 0) {
      ASSERT_TRUE(store_->Settle("g0").ok());
    }
  }
  const StoreStats stats = store_->Stats();
  EXPECT_EQ(vfs_.CountSyncs(), stats.forced_groups + stats.checkpoint_syncs);
  EXPECT_GT(stats.checkpoint_syncs, 10);
  // Checkpoints kept the log short: it began anew many times.
  EXPECT_LT(std::filesystem::file_size(folder_.File("store.db-wal")), 4u * 40 * 4120);
}

TEST_F(SqliteFaultTest, AFullDiskRefusesAndRecovers) {
  ASSERT_EQ(Put("before", 1), "APPLIED");
  vfs_.Inject(kLogIsFull);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(Put("lazy", 1), "NOT_APPLIED STORE_FULL");
    EXPECT_EQ(Force("before", 2), "NOT_APPLIED STORE_FULL");
    EXPECT_EQ(ReasonName(store_->Settle("before").status()), "STORE_FULL");
    EXPECT_EQ(ReasonName(store_->PutResource({})), "STORE_FULL");
  }
  // Reading goes on.
  EXPECT_EQ(Revision("before"), 1);
  EXPECT_EQ(Revision("lazy"), 0);
  EXPECT_EQ(RevisionAfterKill("before"), 1);
  vfs_.Heal();
  EXPECT_EQ(Force("before", 2), "APPLIED");
  EXPECT_EQ(Put("lazy", 1), "APPLIED");
  EXPECT_EQ(RevisionAfterPowerLoss("before"), 2);
}

// Every single write of a commit, one after the other, finds the disk full.
TEST_F(SqliteFaultTest, NotAppliedNeverComesBack) {
  int refused = 0;
  for (int k = 0; k < 40; ++k) {
    const std::string gtrid = absl::StrCat("g", k);
    vfs_.Inject(Skip(kLogIsFull, k, 1));
    const std::string result = Force(gtrid, 1);
    vfs_.Heal();
    if (result == "APPLIED") continue;
    ASSERT_EQ(result, "NOT_APPLIED STORE_FULL");
    ++refused;
    EXPECT_EQ(Revision(gtrid), 0) << k;
    EXPECT_EQ(RevisionAfterKill(gtrid), 0) << k;
    EXPECT_EQ(RevisionAfterPowerLoss(gtrid, k), 0) << k;
    ASSERT_EQ(Force(gtrid, 1), "APPLIED") << k;
  }
  EXPECT_GE(refused, 4);
}

TEST_F(SqliteFaultTest, AFailedSyncIsUnknownAndSettleFindsItWasNot) {
  ASSERT_EQ(Put("g", 1), "APPLIED");
  vfs_.Inject(kLogSyncFails);
  ASSERT_EQ(Force("g", 2), "UNKNOWN STORE_UNAVAILABLE");
  EXPECT_EQ(Revision("g"), 1);
  // Really unknown: the frames are in the file, so a process that dies now leaves them to the next,
  EXPECT_EQ(RevisionAfterKill("g"), 2);
  // but the disk has not got them.
  EXPECT_LT(RevisionAfterPowerLoss("g"), 2);

  EXPECT_EQ(ReasonName(store_->Settle("g").status()), "STORE_UNAVAILABLE");
  EXPECT_EQ(Put("other", 1), "NOT_APPLIED STORE_UNAVAILABLE");
  vfs_.Heal();
  const absl::StatusOr<GlobalPtr> settled = store_->Settle("g");
  ASSERT_TRUE(settled.ok()) << settled.status();
  EXPECT_EQ((*settled)->revision(), 1);
  EXPECT_EQ(RevisionAfterKill("g"), 1);
  for (uint64_t seed = 0; seed < 5; ++seed) EXPECT_EQ(RevisionAfterPowerLoss("g", seed), 1) << seed;

  EXPECT_EQ(Force("g", 2, kRollingBack), "APPLIED");
  EXPECT_EQ(RevisionAfterPowerLoss("g"), 2);
}

TEST_F(SqliteFaultTest, AfterAFailedSyncTheNextProcessMayFindItWas) {
  ASSERT_EQ(Put("g", 1), "APPLIED");
  vfs_.Inject({Kind::kLog, Op::kSync, 0, 1, SQLITE_IOERR_FSYNC, /*after_work=*/true});
  ASSERT_EQ(Force("g", 2), "UNKNOWN STORE_UNAVAILABLE");
  TempFolder copy;
  vfs_.SaveAfterPowerLoss(copy.path(), 0);
  const std::unique_ptr<SqliteStore> next = OpenIn(copy);
  const absl::StatusOr<GlobalPtr> settled = next->Settle("g");
  ASSERT_TRUE(settled.ok());
  EXPECT_EQ((*settled)->revision(), 2);
  EXPECT_EQ((*settled)->state(), kCommitting);
}

// Without a Settle, too: whatever is written next makes the unknown impossible before it is told.
TEST_F(SqliteFaultTest, WhatComesAfterAnUnknownIsNotEndangeredByIt) {
  for (int k = 0; k < 10; ++k) {
    const std::string gtrid = absl::StrCat("g", k);
    const bool after_work = k % 2 == 1;
    vfs_.Inject({Kind::kLog, Op::kSync, 0, 1, SQLITE_IOERR_FSYNC, after_work});
    ASSERT_EQ(Force(gtrid, 1), "UNKNOWN STORE_UNAVAILABLE");
    ASSERT_EQ(Put(absl::StrCat("next", k), 1), "APPLIED");
    for (uint64_t seed = 0; seed < 4; ++seed) EXPECT_EQ(RevisionAfterPowerLoss(gtrid, seed), 0) << k;
    EXPECT_EQ(RevisionAfterKill(gtrid), 0) << k;
    EXPECT_EQ(RevisionAfterKill(absl::StrCat("next", k)), 1) << k;
    EXPECT_EQ(Force(gtrid, 1, kRollingBack), "APPLIED");
  }
}

TEST_F(SqliteFaultTest, AnUnknownGroupIsUnknownForEveryMember) {
  ASSERT_EQ(Put("g", 1), "APPLIED");
  Results results;
  // While the writer is held in the first one's write, the others gather and become one group.
  Mutex mu;
  CondVar changed;
  bool held = false;
  bool release = false;
  vfs_.Before(1, [&] {
    MutexLock lock(&mu);
    held = true;
    changed.NotifyAll();
    while (!release) changed.Wait(&mu);
  });
  store_->Submit(To(MakeGlobal("first", 1, kActive)), results.Next());
  {
    MutexLock lock(&mu);
    while (!held) changed.Wait(&mu);
  }
  vfs_.Inject(Skip(kLogSyncFails, 0, 1));
  store_->Submit(To(MakeGlobal("lazy", 1, kActive)), results.Next());
  store_->Submit(To(MakeGlobal("g", 2, kCommitting), Durability::kForced), results.Next());
  store_->Submit(To(MakeGlobal("g", 2, kRollingBack)), results.Next());  // Conflicts with a member that may not be.
  {
    MutexLock lock(&mu);
    release = true;
    changed.NotifyAll();
  }
  std::vector<std::string> told;
  for (const TransitionResult& result : results.Wait()) told.push_back(ToString(result));
  const std::string unknown = "UNKNOWN STORE_UNAVAILABLE";
  EXPECT_THAT(told, testing::ElementsAre("APPLIED", unknown, unknown, unknown));
  EXPECT_EQ((*store_->Settle("g"))->revision(), 1);
  EXPECT_EQ(*store_->Settle("lazy"), nullptr);
}

// After a failed fsync, Linux forgets what it could not write, and the next fsync says OK.
TEST_F(SqliteFaultTest, WhatTheKernelForgotIsWrittenAgain) {
  ASSERT_EQ(Put("lazy", 1), "APPLIED");
  vfs_.Inject({Kind::kLog, Op::kSync, 0, 1, SQLITE_IOERR_FSYNC, /*after_work=*/false, /*forget_unsynced=*/true});
  ASSERT_EQ(Force("unknown", 1), "UNKNOWN STORE_UNAVAILABLE");
  ASSERT_EQ(Force("forced", 1), "APPLIED");
  EXPECT_EQ(RevisionAfterPowerLoss("forced"), 1);
  EXPECT_EQ(RevisionAfterPowerLoss("lazy"), 1);
  EXPECT_EQ(RevisionAfterPowerLoss("unknown"), 0);
}

TEST_F(SqliteFaultTest, WhatAnotherProcessLeftUnsyncedIsDurableOnceItCanBeRead) {
  ASSERT_EQ(Put("lazy", 1), "APPLIED");
  vfs_.Inject({Kind::kLog, Op::kSync, 0, 1, SQLITE_IOERR_FSYNC});
  ASSERT_EQ(Force("g", 1), "UNKNOWN STORE_UNAVAILABLE");
  TempFolder left;
  CopyFiles(left);

  FaultVfs second;
  second.DistrustExistingLogs();
  const std::unique_ptr<SqliteStore> next = OpenIn(left, second.name());
  ASSERT_EQ(RevisionIn(next.get(), "g"), 1);
  TempFolder after_power_loss;
  second.SaveAfterPowerLoss(after_power_loss.path(), 0);
  const std::unique_ptr<SqliteStore> third = OpenIn(after_power_loss);
  EXPECT_EQ(RevisionIn(third.get(), "g"), 1);
  EXPECT_EQ(RevisionIn(third.get(), "lazy"), 1);
}

TEST_F(SqliteFaultTest, AFailedCheckpointLosesNothing) {
  for (const Kind kind : {Kind::kLog, Kind::kDatabase}) {
    for (const bool after_work : {false, true}) {
      Open(/*wal_limit_pages=*/20);
      const std::string prefix = absl::StrCat("k", static_cast<int>(kind), after_work ? "a" : "b");
      vfs_.Inject({kind, Op::kSync, 1, 3, SQLITE_IOERR_FSYNC, after_work, /*forget_unsynced=*/!after_work});
      int applied = 0;
      for (int i = 0; i < 60; ++i) {
        const std::string result = Put(absl::StrCat(prefix, i), 1);
        ASSERT_THAT(result, testing::AnyOf("APPLIED", "NOT_APPLIED STORE_UNAVAILABLE", "UNKNOWN STORE_UNAVAILABLE"));
        if (result != "APPLIED") continue;
        EXPECT_EQ(Revision(absl::StrCat(prefix, i)), 1);
        ++applied;
      }
      EXPECT_GT(applied, 40);
      ASSERT_EQ(Force(prefix, 1), "APPLIED");
      EXPECT_EQ(RevisionAfterPowerLoss(prefix, 1), 1);
      TempFolder copy;
      vfs_.SaveAfterPowerLoss(copy.path(), 0);
      const std::unique_ptr<SqliteStore> next = OpenIn(copy);
      int there = 0;
      for (int i = 0; i < 60; ++i) there += RevisionIn(next.get(), absl::StrCat(prefix, i)) == 1;
      EXPECT_GE(there, applied);
      vfs_.Heal();
    }
  }
}

TEST_F(SqliteFaultTest, AStoreThatCannotBeRepairedClosesWithoutHarm) {
  ASSERT_EQ(Force("g", 1), "APPLIED");
  ASSERT_EQ(Put("lazy", 1), "APPLIED");
  vfs_.Inject(kLogSyncFails);
  ASSERT_EQ(Force("g", 2), "UNKNOWN STORE_UNAVAILABLE");
  vfs_.ResetCounts();
  store_.reset();
  EXPECT_EQ(vfs_.Count(Kind::kDatabase, Op::kWrite), 0) << "moved a log into the database that was not synced";
  vfs_.Heal();
  Open();
  EXPECT_EQ(Revision("lazy"), 1);
  EXPECT_GE(Revision("g"), 1);
  EXPECT_EQ(RevisionAfterPowerLoss("g"), Revision("g"));
}

TEST_F(SqliteFaultTest, AFullDiskOrABrokenOneAtOpenSaysSo) {
  store_.reset();
  const auto open = [&](const std::string& vfs, const std::string& name) {
    SqliteOptions options;
    options.path = folder_.File(name);
    options.cluster = "test";
    options.vfs = vfs;
    return ReasonName(SqliteStore::Open(options).status());
  };
  for (const char* const name : {"store.db", "new.db"}) {
    vfs_.Inject({Kind::kDatabase, Op::kWrite, 0, FaultVfs::kForever, SQLITE_FULL});
    vfs_.Inject(kLogIsFull);
    EXPECT_EQ(open(vfs_.name(), name), "STORE_FULL") << name;
    vfs_.Heal();
    vfs_.Inject(kLogSyncFails);
    vfs_.Inject({Kind::kDatabase, Op::kSync, 0, FaultVfs::kForever, SQLITE_IOERR_FSYNC});
    EXPECT_EQ(open(vfs_.name(), name), "STORE_UNAVAILABLE") << name;
    vfs_.Heal();
    vfs_.MakeReadOnly();
    EXPECT_EQ(open(vfs_.name(), name), "STORE_READ_ONLY") << name;
    vfs_.Heal();
    EXPECT_EQ(open(vfs_.name(), name), "OK") << name;
  }
}

// The power goes at every single write and sync of a run with checkpoints, and leaves a random part of what was not
// synced. What was forced is there; what is there is a prefix of what was applied.
TEST_F(SqliteFaultTest, PowerLossAtAnyMomentLeavesAPrefixWithAllThatWasForced) {
  constexpr int kGlobals = 30;
  int losses_seen = 0;
  int64_t operations = 0;
  for (int64_t moment = 1; moment < 400; moment += 4) {
    TempFolder folder;
    TempFolder after;
    FaultVfs vfs;
    std::unique_ptr<SqliteStore> store = OpenIn(folder, vfs.name(), /*wal_limit_pages=*/12);
    ASSERT_NE(store, nullptr);
    std::atomic<int> applied{0};
    std::atomic<int> forced{0};
    int applied_then = -1;
    int forced_then = -1;
    vfs.Before(moment, [&] {
      applied_then = applied;
      forced_then = forced;
      vfs.SaveAfterPowerLoss(after.path(), moment);
    });
    std::vector<std::pair<std::string, int64_t>> history;
    for (int i = 0; i < kGlobals; ++i) {
      for (int64_t revision = 1; revision <= 2; ++revision) {
        const bool force = revision == 2 && i % 3 == 0;
        history.emplace_back(absl::StrCat("g", i), revision);
        const auto durability = force ? Durability::kForced : Durability::kLazy;
        const auto state = revision == 1 ? kActive : kCommitting;
        const TransitionResult result =
            SubmitAndWait(store.get(), To(MakeGlobal(history.back().first, revision, state, "", 400), durability));
        ASSERT_EQ(ToString(result), "APPLIED");
        ++applied;
        if (force) forced = applied.load();
      }
    }
    store.reset();
    if (applied_then < 0) break;  // The run has no more moments than this.
    operations = moment;

    const std::unique_ptr<SqliteStore> left = OpenIn(after);
    ASSERT_NE(left, nullptr) << moment;
    int prefix = 0;
    while (prefix < static_cast<int>(history.size()) &&
           RevisionIn(left.get(), history[prefix].first) >= history[prefix].second) {
      ++prefix;
    }
    EXPECT_GE(prefix, forced_then) << "a forced transition was lost at moment " << moment;
    EXPECT_LE(prefix, applied_then + 1) << "more than was submitted at moment " << moment;
    for (int i = prefix; i < static_cast<int>(history.size()); ++i) {
      EXPECT_LT(RevisionIn(left.get(), history[i].first), history[i].second) << "not a prefix at moment " << moment;
    }
    if (prefix < applied_then) ++losses_seen;
  }
  // Else the test shows nothing.
  EXPECT_GT(losses_seen, 5);
  EXPECT_GT(operations, 200);
}

}  // namespace
}  // namespace assent
