// The purge horizon on MariaDB, where others purge at the same time: what a transition waits for, and what it need not.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/timestamp.h"
#include "base/xid.h"
#include "store/horizon.h"
#include "store/mariadb_store.h"
#include "store/testing/mariadb_test_util.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

class MariaDbHorizonTest : public testing::Test {
 protected:
  // Born, and ended, so much later than the store was made.
  GlobalPtr Born(absl::Duration later) const {
    const absl::Time birth = made_ + later;
    auto global = std::make_shared<v1::Global>(*MakeGlobal(NewGtrid("test", birth), 1, v1::Global::STATE_COMMITTED));
    SetTime(birth, global->mutable_end_time());
    return global;
  }
  static Transition First(GlobalPtr next) {
    Transition transition = To(std::move(next), Durability::kForced);
    transition.must_be_first = true;
    return transition;
  }
  std::string PutFirst(GlobalPtr next) { return ToString(SubmitAndWait(store_.get(), First(std::move(next)))); }

  const MariaDbOptions options_ = StoreOptions(SharedStoreServer());
  const std::unique_ptr<MariaDbStore> store_ = MustOpenStore(options_);
  const absl::Time made_ = store_->Horizon();
  Admin admin_{SharedStoreServer(), options_};
};

// What mariadb_writer.h rests on: the INSERT waits for the purge, and only then the horizon is read.
TEST_F(MariaDbHorizonTest, WhoeverIsInsertedBehindAPurgeSeesItsHorizon) {
  const GlobalPtr global = Born(absl::Seconds(10));
  ASSERT_EQ(PutFirst(global), "APPLIED");
  admin_.Run(absl::StrCat("START TRANSACTION;UPDATE store_meta SET number=", HorizonBehind(global->gtrid(), 0),
                          " WHERE name='horizon';DELETE FROM store_globals WHERE gtrid='", global->gtrid(), "'"));
  Results results;
  store_->Submit(First(global), results.Next());
  Admin onlooker(SharedStoreServer(), options_);
  const auto waits = [&] { return onlooker.One("SELECT COUNT(*) FROM information_schema.INNODB_LOCK_WAITS") != "0"; };
  const absl::Time give_up = absl::Now() + absl::Seconds(10);
  while (!waits() && absl::Now() < give_up) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_TRUE(waits());
  EXPECT_TRUE(results.Order().empty()) << "it has not been answered";
  admin_.Run("COMMIT");
  EXPECT_EQ(ToString(results.Wait()[0]), "NOT_APPLIED OUTCOME_IN_DOUBT");
  EXPECT_EQ(*store_->Read(global->gtrid()), nullptr);
}

// As older programs put it down, with the clock of an instance behind that of another.
TEST_F(MariaDbHorizonTest, WhatHadEndedBeforeItWasBornIsBehindTheHorizonToo) {
  const GlobalPtr global = Born(absl::Hours(1));
  ASSERT_EQ(PutFirst(global), "APPLIED");
  admin_.Run("UPDATE store_globals SET ended=1");
  ASSERT_EQ(store_->Purge(absl::Now(), 10)->size(), 1u);
  EXPECT_EQ(PutFirst(global), "NOT_APPLIED OUTCOME_IN_DOUBT");
  EXPECT_EQ(admin_.One("SELECT number FROM store_meta WHERE name='horizon'"),
            absl::StrCat(absl::ToUnixMicros(made_ + absl::Hours(1) + absl::Milliseconds(1))));
}

TEST_F(MariaDbHorizonTest, WhatOthersHaveDeletedIsReadFromTheStore) {
  const std::unique_ptr<MariaDbStore> other = MustOpenStore(options_);
  ASSERT_EQ(PutFirst(Born(absl::Hours(1))), "APPLIED");
  ASSERT_EQ(other->Purge(made_ + absl::Hours(2), 10)->size(), 1u);
  EXPECT_EQ(store_->Horizon(), made_);
  const absl::StatusOr<absl::Time> horizon = store_->ReadHorizon();
  ASSERT_TRUE(horizon.ok()) << horizon.status();
  EXPECT_EQ(*horizon, other->Horizon());
  EXPECT_EQ(store_->Horizon(), other->Horizon());
  admin_.Run("DELETE FROM store_meta WHERE name='horizon'");
  EXPECT_EQ(ReasonName(store_->ReadHorizon().status()), "STORE_CORRUPT");
}

TEST_F(MariaDbHorizonTest, WhoRepeatsAnOldCallDisturbsNoOthers) {
  const GlobalPtr kept = Born(absl::Seconds(10));
  ASSERT_EQ(PutFirst(kept), "APPLIED");
  ASSERT_TRUE(store_->FinishImport(made_ + absl::Seconds(20)).ok());
  const int64_t inserts = admin_.Status("Com_insert");
  const int64_t deletes = admin_.Status("Com_delete");
  std::vector<Transition> transitions;
  std::vector<std::string> expected;
  for (int i = 0; i < 500; ++i) {
    const std::string old = i % 10 == 0 ? "NOT_APPLIED OUTCOME_IN_DOUBT" : i % 10 == 5 ? "CONFLICT" : "";
    transitions.push_back(First(old.empty() ? Born(absl::Minutes(1)) : old == "CONFLICT" ? kept : Born({})));
    expected.push_back(old.empty() ? "APPLIED" : old);
  }
  std::vector<std::string> found;
  for (const TransitionResult& result : SubmitAllAndWait(store_.get(), std::move(transitions))) {
    found.push_back(ToString(result));
  }
  EXPECT_EQ(found, expected);
  EXPECT_LT(admin_.Status("Com_insert") - inserts, 50) << "many to a statement";
  EXPECT_EQ(admin_.Status("Com_delete") - deletes, 0) << "none was inserted and taken back";
}

}  // namespace
}  // namespace assent
