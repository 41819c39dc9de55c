#include "coordinator/retention.h"

#include <atomic>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/timestamp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/sqlite_store.h"
#include "store/testing/mariadb_test_util.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

class RetentionTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam()) {
      store_ = MustOpenStore(StoreOptions(SharedStoreServer()));
    } else {
      SqliteOptions options;
      options.path = folder_.File("store");
      options.cluster = "test";
      auto store = SqliteStore::Open(options);
      ASSERT_TRUE(store.ok()) << store.status();
      store_ = *std::move(store);
    }
  }

  void Put(const std::string& gtrid, v1::Global::State state, absl::Duration age) {
    v1::Global global = *MakeGlobal(gtrid, 1, state);
    if (IsFinished(state)) SetTime(absl::Now() - age, global.mutable_end_time());
    Transition transition = To(std::make_shared<const v1::Global>(std::move(global)));
    ASSERT_EQ(ToString(SubmitAndWait(store_.get(), std::move(transition))), "APPLIED");
  }
  bool Has(const std::string& gtrid) {
    const auto record = store_->Read(gtrid);
    EXPECT_TRUE(record.ok()) << record.status();
    return record.ok() && *record != nullptr;
  }
  bool AwaitGone(const std::string& gtrid) {
    for (int i = 0; i < 500 && Has(gtrid); ++i) absl::SleepFor(absl::Milliseconds(20));
    return !Has(gtrid);
  }
  static RetentionOptions Options() {
    RetentionOptions options;
    options.keep = absl::Hours(1);
    options.interval = absl::Milliseconds(50);
    options.batch = 7;
    return options;
  }

  TempFolder folder_;
  std::unique_ptr<Store> store_;
  std::atomic<bool> ours_{true};
};

TEST_P(RetentionTest, WhatEndedLongAgoGoesBatchByBatchAndNothingElse) {
  for (int i = 0; i < 50; ++i) {
    Put(absl::StrCat("test-old-", i), i % 3 == 0 ? v1::Global::STATE_ROLLED_BACK : v1::Global::STATE_COMMITTED,
        absl::Minutes(61 + i));
  }
  Put("test-young", v1::Global::STATE_COMMITTED, absl::Minutes(59));
  Put("test-open", v1::Global::STATE_COMMITTING, absl::Hours(100));
  Put("test-heuristic", v1::Global::STATE_HEURISTIC, absl::Hours(100));
  Retention retention(Options(), store_.get(), Clock::Real(), [this] { return ours_.load(); });
  retention.Start();
  EXPECT_TRUE(AwaitGone("test-old-0"));  // The youngest of them.
  for (int i = 0; i < 50; ++i) EXPECT_FALSE(Has(absl::StrCat("test-old-", i))) << i;
  EXPECT_TRUE(Has("test-young") && Has("test-open") && Has("test-heuristic"));
  // It goes on.
  Put("test-late", v1::Global::STATE_COMMITTED, absl::Hours(2));
  EXPECT_TRUE(AwaitGone("test-late"));
}

TEST_P(RetentionTest, OnlyWhoHoldsTheLeaseDeletes) {
  ours_ = false;
  Put("test-old", v1::Global::STATE_COMMITTED, absl::Hours(2));
  Retention retention(Options(), store_.get(), Clock::Real(), [this] { return ours_.load(); });
  retention.Start();
  absl::SleepFor(absl::Milliseconds(500));
  EXPECT_TRUE(Has("test-old"));
  ours_ = true;
  EXPECT_TRUE(AwaitGone("test-old"));
}

TEST_P(RetentionTest, ZeroKeepsAll) {
  Put("test-old", v1::Global::STATE_COMMITTED, absl::Hours(100000));
  RetentionOptions options = Options();
  options.keep = absl::ZeroDuration();
  Retention retention(options, store_.get(), Clock::Real(), [] { return true; });
  retention.Start();
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_TRUE(Has("test-old"));
}

INSTANTIATE_TEST_SUITE_P(Stores, RetentionTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "MariaDb" : "Sqlite"; });

}  // namespace
}  // namespace assent
