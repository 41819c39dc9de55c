// The contract of ReadChanged, Purge, Sizes and of a single member.
#include <gmock/gmock.h>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/timestamp.h"
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

TEST_P(StoreConformanceTest, APurgedRequestIdAndGtridAreFree) {
  Finish(store_.get(), "g", kNoon, "r");
  EXPECT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("h", 1, kActive, "r")))), "CONFLICT");
  EXPECT_THAT(MustPurge(store_.get(), kNoon + absl::Seconds(1), 1), ElementsAre("g"));
  EXPECT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("g", 3, kActive)))), "CONFLICT");
  EXPECT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("h", 1, kActive, "r")))), "APPLIED");
  EXPECT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("g", 1, kActive)))), "APPLIED");
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
