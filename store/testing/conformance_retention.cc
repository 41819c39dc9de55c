// The contract of ReadChanged, Purge, Sizes and of a single member.
#include <gmock/gmock.h>

#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "base/xid.h"
#include "store/testing/conformance_suite.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

constexpr auto kActive = v1::Global::STATE_ACTIVE;
constexpr auto kCommitting = v1::Global::STATE_COMMITTING;
constexpr auto kCommitted = v1::Global::STATE_COMMITTED;

const absl::Time kNoon = absl::FromUnixSeconds(1700000000);

GlobalPtr Ended(const std::string& gtrid, int64_t revision, absl::Time end) {
  auto global = std::make_shared<v1::Global>(*MakeGlobal(gtrid, revision, kCommitted));
  SetTime(end, global->mutable_end_time());
  return global;
}

// Creates it and lets it end.
void Finish(Store* store, const std::string& gtrid, absl::Time end, const std::string& request_id = "") {
  ASSERT_EQ(ToString(SubmitAndWait(store, To(MakeGlobal(gtrid, 1, kActive, request_id)))), "APPLIED");
  ASSERT_EQ(ToString(SubmitAndWait(store, To(Ended(gtrid, 2, end)))), "APPLIED");
}

std::vector<std::string> MustPurge(Store* store, absl::Time before, int limit) {
  const absl::StatusOr<std::vector<std::string>> purged = store->Purge(before, limit);
  EXPECT_EQ(ReasonName(purged.status()), "OK") << purged.status();
  return purged.ok() ? *purged : std::vector<std::string>();
}

std::map<std::string, int64_t> MustReadChanged(Store* store, const std::vector<KnownRevision>& known) {
  const absl::StatusOr<std::vector<GlobalPtr>> changed = store->ReadChanged(known);
  EXPECT_EQ(ReasonName(changed.status()), "OK") << changed.status();
  std::map<std::string, int64_t> revisions;
  if (!changed.ok()) return revisions;
  for (const GlobalPtr& global : *changed) {
    EXPECT_TRUE(revisions.emplace(global->gtrid(), global->revision()).second) << global->gtrid() << " twice";
  }
  return revisions;
}

TEST_P(StoreConformanceTest, ReadChangedShowsWhatIsNewerThanKnown) {
  for (const char* const gtrid : {"a", "b", "c"}) {
    ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal(gtrid, 1, kActive)))), "APPLIED");
  }
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("b", 2, kCommitting)))), "APPLIED");
  using Revisions = std::map<std::string, int64_t>;
  EXPECT_EQ(MustReadChanged(store_.get(), {}), Revisions());
  EXPECT_EQ(MustReadChanged(store_.get(), {{"a", 1}, {"b", 1}, {"c", 1}, {"nobody", 0}}), (Revisions{{"b", 2}}));
  EXPECT_EQ(MustReadChanged(store_.get(), {{"a", 0}, {"b", 2}, {"c", 7}}), (Revisions{{"a", 1}}));
}

TEST_P(StoreConformanceTest, ReadChangedTakesAThousandAndNoMore) {
  std::vector<Transition> transitions;
  std::vector<KnownRevision> known;
  for (int i = 0; i < 1000; ++i) {
    const std::string gtrid = absl::StrFormat("'\\g%04d", i);
    transitions.push_back(To(MakeGlobal(gtrid, 1, kActive)));
    if (i % 3 == 0) transitions.push_back(To(MakeGlobal(gtrid, 2, kCommitting)));
    known.push_back({gtrid, 1});
  }
  SubmitAllAndWait(store_.get(), std::move(transitions));
  EXPECT_EQ(MustReadChanged(store_.get(), known).size(), 334u);
  known.push_back({"one too many", 0});
  EXPECT_EQ(ReasonName(store_->ReadChanged(known).status()), "INVALID_FIELD");
}

TEST_P(StoreConformanceTest, PurgeTakesTheOldestFinishedOnesInBatches) {
  for (int i = 0; i < 10; ++i)
    Finish(store_.get(), absl::StrCat("g", (i * 7) % 10), kNoon + absl::Seconds((i * 7) % 10));
  EXPECT_THAT(MustPurge(store_.get(), kNoon, 100), IsEmpty()) << "not the one that ended just then";
  EXPECT_THAT(MustPurge(store_.get(), kNoon + absl::Seconds(5), 3), UnorderedElementsAre("g0", "g1", "g2"));
  EXPECT_THAT(MustPurge(store_.get(), kNoon + absl::Seconds(5), 3), UnorderedElementsAre("g3", "g4"));
  EXPECT_THAT(MustPurge(store_.get(), kNoon + absl::Seconds(5), 3), IsEmpty());
  EXPECT_EQ(*store_->Read("g3"), nullptr);
  EXPECT_NE(*store_->Read("g5"), nullptr);
  ListQuery query;
  EXPECT_EQ(store_->List(query)->globals.size(), 5u);
  Reopen();
  EXPECT_EQ(*store_->Read("g4"), nullptr);
  EXPECT_EQ(store_->List(query)->globals.size(), 5u);
}

TEST_P(StoreConformanceTest, PurgeLeavesTheUnfinishedAlone) {
  int i = 0;
  for (const auto state : {kActive, kCommitting, v1::Global::STATE_ROLLING_BACK, v1::Global::STATE_HEURISTIC}) {
    auto global = std::make_shared<v1::Global>(*MakeGlobal(absl::StrCat("open", ++i), 1, state));
    SetTime(kNoon, global->mutable_end_time());  // Whatever it says.
    ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(std::move(global)))), "APPLIED");
  }
  Finish(store_.get(), "back", kNoon);
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("back", 3, v1::Global::STATE_HEURISTIC)))), "APPLIED");
  EXPECT_THAT(MustPurge(store_.get(), absl::Now() + absl::Hours(24), 1000), IsEmpty());
  EXPECT_EQ(store_->ReadOpen("", 10)->size(), 5u);
}

// Its database may come back with the branch still prepared.
TEST_P(StoreConformanceTest, PurgeLeavesWhatRestsOnAnOperatorsWord) {
  auto global = std::make_shared<v1::Global>(*Ended("word", 1, kNoon));
  v1::Branch* const branch = global->add_branches();
  branch->set_state(v1::Branch::STATE_COMMITTED);
  branch->add_evidence()->set_resolved_by("the DBA");
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(global))), "APPLIED");
  EXPECT_THAT(MustPurge(store_.get(), absl::InfiniteFuture(), 10), IsEmpty());
  Reopen();
  EXPECT_THAT(MustPurge(store_.get(), absl::Now() + absl::Hours(100000), 10), IsEmpty());
  EXPECT_THAT(*store_->ReadOpen("", 10), IsEmpty()) << "it is finished";
  // Proven since.
  global = std::make_shared<v1::Global>(*global);
  global->set_revision(2);
  global->mutable_branches(0)->add_evidence()->set_outcome(v1::BRANCH_OUTCOME_COMMITTED);
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(global))), "APPLIED");
  EXPECT_THAT(MustPurge(store_.get(), kNoon + absl::Seconds(1), 10), ElementsAre("word"));
}

TEST_P(StoreConformanceTest, APurgedRequestIdAndGtridAreFree) {
  Finish(store_.get(), "g", kNoon, "r");
  EXPECT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("h", 1, kActive, "r")))), "CONFLICT");
  EXPECT_THAT(MustPurge(store_.get(), kNoon + absl::Seconds(1), 1), ElementsAre("g"));
  EXPECT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("g", 3, kActive)))), "CONFLICT");
  EXPECT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("h", 1, kActive, "r")))), "APPLIED");
  EXPECT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("g", 1, kActive)))), "APPLIED");
}

// One that has ended, born then.
GlobalPtr Born(absl::Time birth, absl::Time end) { return Ended(NewGtrid("test", birth), 1, end); }

Transition First(GlobalPtr next) {
  Transition transition = To(std::move(next));
  transition.must_be_first = true;
  return transition;
}

std::string PutFirst(Store* store, GlobalPtr next) { return ToString(SubmitAndWait(store, First(std::move(next)))); }

// A moment behind the horizon of a new store.
absl::Time Later(absl::Duration by) {
  return absl::FromUnixMillis(absl::ToUnixMillis(absl::Now())) + absl::Seconds(10) + by;
}

TEST_P(StoreConformanceTest, WhatWasDeletedIsNotTakenForWhatNeverWas) {
  const absl::Time made = store_->Horizon();
  EXPECT_LT(absl::AbsDuration(absl::Now() - made), absl::Seconds(10)) << "a new store knows nothing of earlier ones";
  EXPECT_EQ(PutFirst(store_.get(), Born(made - absl::Seconds(1), made)), "NOT_APPLIED OUTCOME_IN_DOUBT");
  const GlobalPtr gone = Born(Later({}), Later(absl::Seconds(5)));
  const GlobalPtr kept = Born(Later({}), Later(absl::Seconds(7)));
  ASSERT_EQ(PutFirst(store_.get(), gone), "APPLIED");
  ASSERT_EQ(PutFirst(store_.get(), kept), "APPLIED");
  EXPECT_THAT(MustPurge(store_.get(), GetTime(gone->end_time()), 10), IsEmpty());
  EXPECT_EQ(store_->Horizon(), made) << "nothing was deleted";
  EXPECT_THAT(MustPurge(store_.get(), Later(absl::Hours(100)), 1), ElementsAre(gone->gtrid()));
  const absl::Time horizon = store_->Horizon();
  EXPECT_GT(horizon, GetTime(gone->end_time()));
  EXPECT_LE(horizon, GetTime(gone->end_time()) + absl::Milliseconds(1)) << "not as far as might have been deleted";
  const auto expect_told_apart = [&] {
    EXPECT_EQ(PutFirst(store_.get(), gone), "NOT_APPLIED OUTCOME_IN_DOUBT");
    EXPECT_EQ(PutFirst(store_.get(), Born(horizon - absl::Milliseconds(1), horizon)), "NOT_APPLIED OUTCOME_IN_DOUBT");
    EXPECT_EQ(PutFirst(store_.get(), Ended("nobody-knows", 1, horizon)), "NOT_APPLIED OUTCOME_IN_DOUBT");
    EXPECT_EQ(*store_->Read(gone->gtrid()), nullptr);
    EXPECT_EQ(PutFirst(store_.get(), kept), "CONFLICT") << "what is there is shown";
    EXPECT_EQ(PutFirst(store_.get(), Born(horizon, horizon)), "APPLIED");
  };
  expect_told_apart();
  Reopen();
  EXPECT_EQ(store_->Horizon(), horizon);
  expect_told_apart();
  // What need not be the first is as free as ever, and what ended long ago does not bring the horizon back.
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(gone))), "APPLIED");
  Finish(store_.get(), "old", kNoon);
  EXPECT_THAT(MustPurge(store_.get(), kNoon + absl::Seconds(1), 10), ElementsAre("old"));
  EXPECT_EQ(store_->Horizon(), horizon);
  Reopen();
  EXPECT_EQ(store_->Horizon(), horizon);
}

// By a coordinator whose clock was behind that of the one that had handed out its gtrid.
TEST_P(StoreConformanceTest, NothingEndsBeforeItIsBorn) {
  const absl::Time birth = Later(absl::Hours(1));
  const GlobalPtr global = Born(birth, kNoon);
  ASSERT_EQ(PutFirst(store_.get(), global), "APPLIED");
  EXPECT_THAT(MustPurge(store_.get(), birth, 10), IsEmpty());
  EXPECT_THAT(MustPurge(store_.get(), birth + absl::Seconds(1), 10), ElementsAre(global->gtrid()));
  EXPECT_EQ(PutFirst(store_.get(), global), "NOT_APPLIED OUTCOME_IN_DOUBT");
}

TEST_P(StoreConformanceTest, OneThatMayHaveBeenDeletedDisturbsNoOther) {
  ASSERT_EQ(PutFirst(store_.get(), Born(Later({}), Later({}))), "APPLIED");
  ASSERT_EQ(MustPurge(store_.get(), Later(absl::Hours(1)), 10).size(), 1u);
  const absl::Time horizon = store_->Horizon();
  std::vector<Transition> transitions;
  std::vector<std::string> expected;
  for (int i = 0; i < 300; ++i) {
    const bool is_new = i % 7 != 3;
    transitions.push_back(First(Born(horizon + absl::Milliseconds(is_new ? i : i - 1000), horizon)));
    expected.push_back(is_new ? "APPLIED" : "NOT_APPLIED OUTCOME_IN_DOUBT");
    if (i % 5 != 0) continue;
    // What follows on it.
    auto next = std::make_shared<v1::Global>(*transitions.back().next);
    next->set_revision(2);
    transitions.push_back(To(std::move(next)));
    expected.push_back(is_new ? "APPLIED" : "CONFLICT");
  }
  std::vector<std::string> found;
  for (const TransitionResult& result : SubmitAllAndWait(store_.get(), std::move(transitions))) {
    found.push_back(ToString(result));
  }
  EXPECT_EQ(found, expected);
}

TEST_P(StoreConformanceTest, AnImportBringsItsHorizon) {
  const absl::Time horizon = Later(absl::Hours(24));
  ASSERT_TRUE(store_->FinishImport(horizon - absl::Microseconds(1)).ok());
  EXPECT_EQ(store_->Horizon(), horizon) << "as births are, to the millisecond";
  EXPECT_EQ(PutFirst(store_.get(), Born(Later({}), Later({}))), "NOT_APPLIED OUTCOME_IN_DOUBT");
  EXPECT_EQ(PutFirst(store_.get(), Born(horizon, horizon)), "APPLIED");
  Reopen();
  EXPECT_EQ(store_->Horizon(), horizon);
}

// Whoever is first makes the record, however soon it is deleted again.
TEST_P(StoreConformanceTest, RacingWithPurgesEachIsTheFirstOnce) {
  constexpr int kRecords = 400;
  constexpr int kWriters = 4;
  std::unique_ptr<Store> other;
  if (place_->shared()) other = OpenAnother();
  const absl::Time begin = Later({});
  std::vector<GlobalPtr> globals;
  for (int i = 0; i < kRecords; ++i) {
    globals.push_back(Born(begin + absl::Milliseconds(i), begin + absl::Milliseconds(i)));
  }
  std::vector<std::atomic<int>> applied(kRecords);
  std::atomic<int> writing{kWriters};
  std::vector<std::thread> threads;
  for (int t = 0; t < kWriters; ++t) {
    threads.emplace_back([&, t] {
      Store* const store = t % 2 == 1 && other != nullptr ? other.get() : store_.get();
      for (int i = 0; i < kRecords; ++i) {
        const TransitionResult result = SubmitAndWait(store, First(globals[static_cast<size_t>(i)]));
        EXPECT_TRUE(result.status.ok() || ReasonOf(result.status) == Reason::OUTCOME_IN_DOUBT) << result.status;
        if (result.code == TransitionResult::Code::kApplied) ++applied[static_cast<size_t>(i)];
      }
      --writing;
    });
  }
  size_t purged = 0;
  threads.emplace_back([&] {
    while (writing > 0) purged += MustPurge(store_.get(), begin + absl::Hours(1), 1000).size();
  });
  for (std::thread& thread : threads) thread.join();
  purged += MustPurge(store_.get(), begin + absl::Hours(1), 1000).size();
  int made = 0;
  for (int i = 0; i < kRecords; ++i) {
    EXPECT_LE(applied[static_cast<size_t>(i)], 1) << i;
    made += applied[static_cast<size_t>(i)];
  }
  EXPECT_GT(made, 0);
  EXPECT_EQ(purged, static_cast<size_t>(made));
}

TEST_P(StoreConformanceTest, PurgeLimitsAreChecked) {
  for (const int limit : {-1, 0, 1001}) {
    EXPECT_EQ(ReasonName(store_->Purge(kNoon, limit).status()), "INVALID_FIELD") << limit;
  }
}

TEST_P(StoreConformanceTest, SizesCountWhatIsOpen) {
  absl::StatusOr<StoreSizes> sizes = store_->Sizes();
  ASSERT_TRUE(sizes.ok()) << sizes.status();
  EXPECT_EQ(sizes->open, 0);
  for (int i = 0; i < 20; ++i) Finish(store_.get(), absl::StrCat("g", i), kNoon);
  for (int i = 0; i < 7; ++i) SubmitAndWait(store_.get(), To(MakeGlobal(absl::StrCat("o", i), 1, kActive)));
  sizes = store_->Sizes();
  ASSERT_TRUE(sizes.ok()) << sizes.status();
  EXPECT_EQ(sizes->open, 7);
  EXPECT_GT(sizes->bytes, 0);
}

TEST_P(StoreConformanceTest, AnInstanceJoinsRenewsAndLeaves) {
  Membership& members = store_->Members();
  EXPECT_THAT(*members.Instances(), IsEmpty());
  InstanceInfo info;
  EXPECT_EQ(ReasonName(members.Join(info).status()), "INVALID_FIELD") << "no address";
  info.address = "10.0.0.1:7447";
  info.version = "1.2";
  const absl::StatusOr<InstanceKey> key = members.Join(info);
  ASSERT_TRUE(key.ok()) << key.status();
  EXPECT_GT(key->id, 0);
  EXPECT_GT(key->epoch, 0);
  EXPECT_TRUE(members.Renew(17).ok());
  absl::StatusOr<std::vector<Instance>> instances = members.Instances();
  ASSERT_TRUE(instances.ok()) << instances.status();
  ASSERT_EQ(instances->size(), 1u);
  const Instance& self = (*instances)[0];
  EXPECT_EQ(self.key.id, key->id);
  EXPECT_EQ(self.key.epoch, key->epoch);
  EXPECT_EQ(self.address, info.address);
  EXPECT_EQ(self.version, info.version);
  EXPECT_EQ(self.load, 17);
  EXPECT_TRUE(self.alive);
  EXPECT_LT(absl::AbsDuration(absl::Now() - self.last_seen), absl::Minutes(1));
  EXPECT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("g", 1, kActive)))), "APPLIED");
  EXPECT_TRUE(members.Leave().ok());
  instances = members.Instances();
  ASSERT_TRUE(instances.ok()) << instances.status();
  ASSERT_EQ(instances->size(), 1u);
  EXPECT_FALSE((*instances)[0].alive);
  EXPECT_EQ(ReasonName(members.Renew(0)), "INSTANCE_FENCED");

  Reopen();
  const absl::StatusOr<InstanceKey> again = store_->Members().Join(info);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->id, key->id);
  EXPECT_GT(again->epoch, key->epoch);
}

TEST_P(StoreConformanceTest, LeasesCountTheirHolders) {
  Membership& members = store_->Members();
  EXPECT_EQ(ReasonName(members.Claim({"w"}).status()), "INSTANCE_FENCED") << "not joined";
  InstanceInfo info;
  info.address = "a:1";
  const absl::StatusOr<InstanceKey> key = members.Join(info);
  ASSERT_TRUE(key.ok()) << key.status();
  EXPECT_EQ(ReasonName(members.Claim({""}).status()), "INVALID_FIELD");
  EXPECT_EQ(ReasonName(members.Claim({std::string(129, 'x')}).status()), "INVALID_FIELD");
  const absl::StatusOr<std::vector<Lease>> first = members.Claim({"recover:b'", "recover:a"});
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_EQ(first->size(), 2u);
  EXPECT_EQ((*first)[0].work, "recover:b'") << "in the order asked for";
  EXPECT_EQ((*first)[0].holder.id, key->id);
  EXPECT_EQ((*first)[0].holder.epoch, key->epoch);
  EXPECT_GT((*first)[0].epoch, 0);
  EXPECT_THAT((*members.Instances())[0].leases, ElementsAre("recover:a", "recover:b'"));
  const absl::StatusOr<std::vector<Lease>> same = members.Claim({"recover:a"});
  ASSERT_TRUE(same.ok());
  EXPECT_EQ((*same)[0].epoch, (*first)[1].epoch) << "it has it already";
  EXPECT_TRUE(members.Release({"recover:a"}).ok());
  EXPECT_THAT((*members.Instances())[0].leases, ElementsAre("recover:b'"));
  const absl::StatusOr<std::vector<Lease>> later = members.Claim({"recover:a"});
  ASSERT_TRUE(later.ok());
  EXPECT_GT((*later)[0].epoch, (*first)[1].epoch);

  // Of a new life, with other leases first.
  Reopen();
  ASSERT_TRUE(store_->Members().Join(info).ok());
  const absl::StatusOr<std::vector<Lease>> next = store_->Members().Claim({"recover:a", "recover:b'"});
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_GT((*next)[0].epoch, (*later)[0].epoch);
  EXPECT_GT((*next)[1].epoch, (*first)[0].epoch);
}

}  // namespace
}  // namespace assent
