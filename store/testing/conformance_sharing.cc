// The laws where several store objects work on one store. Skipped by stores that one process owns.
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/timestamp.h"
#include "store/testing/conformance_suite.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

using testing::IsEmpty;

constexpr auto kActive = v1::Global::STATE_ACTIVE;
constexpr auto kCommitting = v1::Global::STATE_COMMITTING;
constexpr auto kCommitted = v1::Global::STATE_COMMITTED;
constexpr auto kRollingBack = v1::Global::STATE_ROLLING_BACK;

constexpr absl::Duration kLease = absl::Milliseconds(300);

InstanceInfo Info(const std::string& address, absl::Duration lease) {
  InstanceInfo info;
  info.address = address;
  info.version = "test";
  info.lease = lease;
  return info;
}

InstanceKey MustJoin(Store* store, const std::string& address, absl::Duration lease = kLease) {
  const absl::StatusOr<InstanceKey> key = store->Members().Join(Info(address, lease));
  EXPECT_TRUE(key.ok()) << key.status();
  return key.ok() ? *key : InstanceKey();
}

Lease MustClaim(Store* store, const std::string& work) {
  const absl::StatusOr<std::vector<Lease>> leases = store->Members().Claim({work});
  EXPECT_TRUE(leases.ok() && leases->size() == 1) << leases.status();
  return leases.ok() && !leases->empty() ? (*leases)[0] : Lease();
}

std::string Put(Store* store, const std::string& gtrid, int64_t revision, v1::Global::State state = kActive) {
  return ToString(SubmitAndWait(store, To(MakeGlobal(gtrid, revision, state))));
}

#define SKIP_UNLESS_SHARED() \
  if (!place_->shared()) GTEST_SKIP() << "one process owns this store"

TEST_P(StoreConformanceTest, WhatOneWritesTheOtherSees) {
  SKIP_UNLESS_SHARED();
  const std::unique_ptr<Store> other = OpenAnother();
  EXPECT_EQ(other->Id(), store_->Id());
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("g", 1, kActive, "r")))), "APPLIED");
  EXPECT_EQ((*other->Read("g"))->revision(), 1);
  ASSERT_EQ(Put(other.get(), "g", 2, kCommitting), "APPLIED");
  EXPECT_EQ((*store_->ReadChanged({{"g", 1}}))[0]->state(), kCommitting);
  EXPECT_THAT(*store_->ReadChanged({{"g", 2}}), IsEmpty());
  const TransitionResult late = SubmitAndWait(store_.get(), To(MakeGlobal("g", 2, kRollingBack)));
  EXPECT_EQ(ToString(late), "CONFLICT");
  EXPECT_EQ(late.current->state(), kCommitting);
  const TransitionResult same_request = SubmitAndWait(other.get(), To(MakeGlobal("h", 1, kActive, "r")));
  EXPECT_EQ(ToString(same_request), "CONFLICT");
  EXPECT_EQ(same_request.current->gtrid(), "g");
}

TEST_P(StoreConformanceTest, OfRacingRegistrationsExactlyOneWins) {
  SKIP_UNLESS_SHARED();
  const std::unique_ptr<Store> other = OpenAnother();
  Store* const stores[] = {store_.get(), other.get()};
  v1::Resource known;
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> won{0};
    v1::Resource next[2];
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
      next[i].set_name("orders");
      next[i].set_address(absl::StrCat("db", i, ":", round + 1));
      threads.emplace_back([&, i] {
        const absl::StatusOr<bool> replaced = stores[i]->ReplaceResource(round == 0 ? nullptr : &known, next[i]);
        EXPECT_TRUE(replaced.ok()) << replaced.status();
        if (replaced.ok() && *replaced) won += 1 + i;
      });
    }
    for (std::thread& thread : threads) thread.join();
    ASSERT_TRUE(won == 1 || won == 2) << won;
    known = next[won - 1];
    ASSERT_EQ((*store_->ReadResources())[0].address(), known.address());
  }
}

TEST_P(StoreConformanceTest, OfRacingStoresExactlyOneWins) {
  SKIP_UNLESS_SHARED();
  constexpr int kThreads = 8;
  constexpr int kRounds = 150;
  const std::unique_ptr<Store> other = OpenAnother();
  std::vector<std::atomic<int>> created(kRounds);
  std::vector<std::atomic<int>> decided(kRounds);
  std::vector<std::atomic<int>> decision(kRounds);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Store* const store = t % 2 == 0 ? store_.get() : other.get();
      const auto mine = t % 4 < 2 ? kCommitting : kRollingBack;
      for (int i = 0; i < kRounds; ++i) {
        const std::string gtrid = absl::StrCat("g", i);
        const TransitionResult made =
            SubmitAndWait(store, To(MakeGlobal(gtrid, 1, kActive, absl::StrCat("r", i), 100 + t)));
        if (made.code == TransitionResult::Code::kApplied)
          ++created[i];
        else if (made.code != TransitionResult::Code::kConflict || made.current == nullptr)
          ++wrong;
        const TransitionResult done =
            SubmitAndWait(store, To(MakeGlobal(gtrid, 2, mine, "", 100), Durability::kForced));
        if (done.code == TransitionResult::Code::kApplied) {
          ++decided[i];
          decision[i] = mine;
        } else if (done.code != TransitionResult::Code::kConflict || done.current->revision() != 2) {
          ++wrong;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  for (int i = 0; i < kRounds; ++i) {
    EXPECT_EQ(created[i], 1) << i;
    EXPECT_EQ(decided[i], 1) << i;
    EXPECT_EQ((*other->Read(absl::StrCat("g", i)))->state(), decision[i]) << i;
  }
}

// Eight threads on three stores push the same few records, in groups that overlap in every order: what deadlocks.
TEST_P(StoreConformanceTest, EveryRevisionIsAppliedOnceWhoeverPushes) {
  SKIP_UNLESS_SHARED();
  constexpr int kThreads = 8;
  constexpr int kRecords = 12;
  constexpr int64_t kLast = 40;
  const std::unique_ptr<Store> second = OpenAnother();
  const std::unique_ptr<Store> third = OpenAnother();
  Store* const stores[] = {store_.get(), second.get(), third.get()};
  for (int i = 0; i < kRecords; ++i) ASSERT_EQ(Put(store_.get(), absl::StrCat("g", i), 1), "APPLIED");
  std::vector<std::vector<std::atomic<int>>> applied(kRecords);
  for (auto& revisions : applied) revisions = std::vector<std::atomic<int>>(kLast + 1);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Store* const store = stores[t % 3];
      std::vector<int64_t> known(kRecords, 1);
      for (bool done = false; !done;) {
        done = true;
        std::vector<Transition> transitions;
        std::vector<int> records;
        for (int i = 0; i < kRecords; ++i) {
          const int record = t % 2 == 0 ? i : kRecords - 1 - i;
          if (known[record] == kLast) continue;
          done = false;
          records.push_back(record);
          transitions.push_back(To(MakeGlobal(absl::StrCat("g", record), known[record] + 1, kActive, "", 50)));
        }
        const std::vector<TransitionResult> results = SubmitAllAndWait(store, std::move(transitions));
        for (size_t k = 0; k < results.size(); ++k) {
          const int record = records[k];
          if (results[k].code == TransitionResult::Code::kApplied) {
            ++applied[record][++known[record]];
          } else if (results[k].code == TransitionResult::Code::kConflict) {
            known[record] = results[k].current->revision();
          } else {
            ++wrong;
            ADD_FAILURE() << ToString(results[k]) << " " << results[k].status;
          }
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  for (int i = 0; i < kRecords; ++i) {
    for (int64_t revision = 2; revision <= kLast; ++revision)
      EXPECT_EQ(applied[i][revision], 1) << i << " " << revision;
  }
}

TEST_P(StoreConformanceTest, InstancesSeeEachOther) {
  SKIP_UNLESS_SHARED();
  const std::unique_ptr<Store> other = OpenAnother();
  const InstanceKey a = MustJoin(store_.get(), "a:1");
  const InstanceKey b = MustJoin(other.get(), "b:1");
  EXPECT_NE(a.id, b.id);
  EXPECT_TRUE(other->Members().Renew(5).ok());
  const std::vector<Instance> instances = *store_->Members().Instances();
  ASSERT_EQ(instances.size(), 2u);
  EXPECT_EQ(instances[0].address, "a:1");
  EXPECT_EQ(instances[1].address, "b:1");
  EXPECT_EQ(instances[1].load, 5);
  EXPECT_TRUE(instances[0].alive && instances[1].alive);
}

TEST_P(StoreConformanceTest, TheSilentAreDeclaredDeadAndWriteNothingMore) {
  SKIP_UNLESS_SHARED();
  const std::unique_ptr<Store> other = OpenAnother();
  const InstanceKey stale = MustJoin(store_.get(), "a:1");
  MustJoin(other.get(), "b:1", absl::Minutes(1));
  ASSERT_EQ(Put(store_.get(), "g", 1), "APPLIED");
  // Silence alone is not death: nobody has declared it.
  absl::SleepFor(2 * kLease);
  EXPECT_EQ(Put(store_.get(), "g", 2), "APPLIED");
  EXPECT_TRUE(store_->Members().Renew(0).ok());
  EXPECT_TRUE(other->Members().Renew(0).ok());
  EXPECT_EQ(Put(store_.get(), "g", 3), "APPLIED") << "it had renewed";
  absl::SleepFor(2 * kLease);
  EXPECT_TRUE(other->Members().Renew(0).ok());
  const std::vector<Instance> instances = *other->Members().Instances();
  ASSERT_EQ(instances.size(), 2u);
  EXPECT_FALSE(instances[0].alive);
  EXPECT_TRUE(instances[1].alive);

  EXPECT_EQ(Put(store_.get(), "g", 4, kCommitting), "NOT_APPLIED INSTANCE_FENCED");
  EXPECT_EQ(Put(store_.get(), "new", 1), "NOT_APPLIED INSTANCE_FENCED");
  EXPECT_EQ(ReasonName(store_->Members().Renew(0)), "INSTANCE_FENCED");
  EXPECT_EQ(ReasonName(store_->Members().Claim({"w"}).status()), "INSTANCE_FENCED");
  EXPECT_EQ(ReasonName(store_->PutResource(v1::Resource())), "INSTANCE_FENCED");
  EXPECT_EQ(ReasonName(store_->ReplaceResource(nullptr, v1::Resource()).status()), "INSTANCE_FENCED");
  EXPECT_EQ(ReasonName(store_->RemoveResource("x")), "INSTANCE_FENCED");
  EXPECT_EQ(ReasonName(store_->Purge(absl::Now(), 10).status()), "INSTANCE_FENCED");
  EXPECT_EQ((*other->Read("g"))->revision(), 3);
  EXPECT_EQ(*other->Read("new"), nullptr);
  EXPECT_EQ((*store_->Settle("g"))->revision(), 3) << "it may look";
  EXPECT_EQ(Put(other.get(), "g", 4), "APPLIED");

  const InstanceKey again = MustJoin(store_.get(), "a:1");
  EXPECT_EQ(again.id, stale.id);
  EXPECT_GT(again.epoch, stale.epoch);
  EXPECT_EQ(Put(store_.get(), "g", 5), "APPLIED");
}

TEST_P(StoreConformanceTest, WhoTakesAnAddressFencesItsPredecessor) {
  SKIP_UNLESS_SHARED();
  const std::unique_ptr<Store> next = OpenAnother();
  const InstanceKey before = MustJoin(store_.get(), "a:1");
  MustClaim(store_.get(), "w");
  const InstanceKey after = MustJoin(next.get(), "a:1");
  EXPECT_EQ(after.id, before.id);
  EXPECT_GT(after.epoch, before.epoch);
  EXPECT_EQ(Put(store_.get(), "g", 1), "NOT_APPLIED INSTANCE_FENCED");
  EXPECT_EQ(ReasonName(store_->Members().Renew(0)), "INSTANCE_FENCED");
  EXPECT_EQ(Put(next.get(), "g", 1), "APPLIED");
  EXPECT_EQ(MustClaim(next.get(), "w").holder.epoch, after.epoch) << "the predecessor is dead, and so is its lease";
  // Leaving late does no harm to the successor.
  EXPECT_TRUE(store_->Members().Leave().ok());
  EXPECT_EQ(Put(next.get(), "g", 2), "APPLIED");
  EXPECT_EQ(MustClaim(next.get(), "w").holder.epoch, after.epoch);
}

TEST_P(StoreConformanceTest, ALeaseHasOneLivingHolder) {
  SKIP_UNLESS_SHARED();
  const std::unique_ptr<Store> other = OpenAnother();
  const InstanceKey a = MustJoin(store_.get(), "a:1");
  const InstanceKey b = MustJoin(other.get(), "b:1");
  const Lease first = MustClaim(store_.get(), "w");
  EXPECT_EQ(first.holder.id, a.id);
  absl::SleepFor(2 * kLease);
  EXPECT_EQ(MustClaim(other.get(), "w").holder.id, a.id) << "silent, but not declared dead";
  EXPECT_TRUE(other->Members().Release({"w"}).ok()) << "not its own: nothing happens";
  EXPECT_EQ(MustClaim(other.get(), "w").holder.id, a.id);
  EXPECT_TRUE(other->Members().Renew(0).ok());
  const Lease second = MustClaim(other.get(), "w");
  EXPECT_EQ(second.holder.id, b.id);
  EXPECT_GT(second.epoch, first.epoch);
  MustJoin(store_.get(), "a:1");
  EXPECT_EQ(MustClaim(store_.get(), "w").holder.id, b.id);
  EXPECT_TRUE(other->Members().Release({"w"}).ok());
  EXPECT_GT(MustClaim(store_.get(), "w").epoch, second.epoch);
  EXPECT_TRUE(store_->Members().Leave().ok());
  EXPECT_EQ(MustClaim(other.get(), "w").holder.id, b.id);
}

TEST_P(StoreConformanceTest, RacingClaimsHaveOneHolderEach) {
  SKIP_UNLESS_SHARED();
  constexpr int kStores = 4;
  std::vector<std::unique_ptr<Store>> stores;
  std::vector<InstanceKey> keys;
  for (int i = 0; i < kStores; ++i) {
    stores.push_back(OpenAnother());
    keys.push_back(MustJoin(stores[i].get(), absl::StrCat("i", i)));
  }
  for (int round = 0; round < 20; ++round) {
    std::vector<std::string> work;
    for (int k = 0; k < 10; ++k) work.push_back(absl::StrCat("w", round, "-", k));
    std::vector<std::vector<Lease>> answers(kStores);
    std::vector<std::thread> threads;
    for (int i = 0; i < kStores; ++i) {
      threads.emplace_back([&, i] {
        std::vector<std::string> mine(work);
        if (i % 2 == 1) std::reverse(mine.begin(), mine.end());
        const absl::StatusOr<std::vector<Lease>> leases = stores[i]->Members().Claim(mine);
        EXPECT_TRUE(leases.ok()) << leases.status();
        if (leases.ok()) answers[i] = *leases;
      });
    }
    for (std::thread& thread : threads) thread.join();
    std::map<std::string, std::set<int64_t>> holders;
    for (const auto& answer : answers) {
      for (const Lease& lease : answer) holders[lease.work].insert(lease.holder.id);
    }
    ASSERT_EQ(holders.size(), work.size());
    for (const auto& [name, ids] : holders) EXPECT_EQ(ids.size(), 1u) << name;
  }
}

TEST_P(StoreConformanceTest, RacingPurgesDeleteEachOnce) {
  SKIP_UNLESS_SHARED();
  constexpr int kRecords = 300;
  const absl::Time end = absl::FromUnixSeconds(1700000000);
  std::vector<Transition> transitions;
  for (int i = 0; i < kRecords; ++i) {
    auto global = std::make_shared<v1::Global>(*MakeGlobal(absl::StrCat("g", i), 1, kCommitted));
    SetTime(end, global->mutable_end_time());
    transitions.push_back(To(std::move(global)));
  }
  SubmitAllAndWait(store_.get(), std::move(transitions));
  const std::unique_ptr<Store> other = OpenAnother();
  std::vector<std::vector<std::string>> purged(4);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Store* const store = t % 2 == 0 ? store_.get() : other.get();
      for (int empty = 0; empty < 2;) {
        const absl::StatusOr<std::vector<std::string>> batch = store->Purge(end + absl::Seconds(1), 17);
        EXPECT_TRUE(batch.ok()) << batch.status();
        if (!batch.ok()) return;
        empty = batch->empty() ? empty + 1 : 0;
        purged[t].insert(purged[t].end(), batch->begin(), batch->end());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<std::string> all;
  size_t total = 0;
  for (const auto& batch : purged) {
    all.insert(batch.begin(), batch.end());
    total += batch.size();
  }
  EXPECT_EQ(all.size(), static_cast<size_t>(kRecords));
  EXPECT_EQ(total, all.size());
  EXPECT_THAT(store_->List({})->globals, IsEmpty());
}

}  // namespace

std::unique_ptr<Store> StoreConformanceTest::OpenAnother() {
  absl::StatusOr<std::unique_ptr<Store>> store = place_->Open(kQueueLimit);
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *std::move(store) : nullptr;
}

}  // namespace assent
