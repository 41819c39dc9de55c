#include "store/testing/conformance_suite.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr auto kActive = v1::Global::STATE_ACTIVE;
constexpr auto kCommitting = v1::Global::STATE_COMMITTING;
constexpr auto kCommitted = v1::Global::STATE_COMMITTED;
constexpr auto kRollingBack = v1::Global::STATE_ROLLING_BACK;
constexpr auto kRolledBack = v1::Global::STATE_ROLLED_BACK;
constexpr auto kHeuristic = v1::Global::STATE_HEURISTIC;

std::string Gtrid(int i) { return absl::StrFormat("g-%06d", i); }

std::vector<std::string> Gtrids(const std::vector<GlobalPtr>& globals) {
  std::vector<std::string> gtrids;
  for (const GlobalPtr& global : globals) gtrids.push_back(global->gtrid());
  return gtrids;
}

void ExpectAllApplied(const std::vector<TransitionResult>& results) {
  for (size_t i = 0; i < results.size(); ++i) ASSERT_EQ(ToString(results[i]), "APPLIED") << "transition " << i;
}

// `count` globals in the given state, g-<first> and on. A finished one takes two transitions.
void Fill(Store* store, int first, int count, v1::Global::State state) {
  for (int done = 0; done < count;) {
    const int batch = std::min(count - done, 20000);
    std::vector<Transition> transitions;
    for (int i = 0; i < batch; ++i) {
      const std::string gtrid = Gtrid(first + done + i);
      transitions.push_back(To(MakeGlobal(gtrid, 1, kActive)));
      if (state != kActive) transitions.push_back(To(MakeGlobal(gtrid, 2, state)));
    }
    ExpectAllApplied(SubmitAllAndWait(store, std::move(transitions)));
    done += batch;
  }
}

v1::Resource MakeResource(const std::string& name, const std::string& address) {
  v1::Resource resource;
  resource.set_name(name);
  resource.set_address(address);
  return resource;
}

}  // namespace

std::vector<std::string> ListAll(Store* store, ListQuery query) {
  std::vector<std::string> gtrids;
  for (int pages = 0; pages < 10000; ++pages) {
    const absl::StatusOr<ListPage> page = store->List(query);
    EXPECT_EQ(ReasonName(page.status()), "OK");
    if (!page.ok()) return gtrids;
    EXPECT_LE(page->globals.size(), static_cast<size_t>(query.page_size));
    for (const GlobalPtr& global : page->globals) gtrids.push_back(global->gtrid());
    if (page->next_page_token.empty()) return gtrids;
    query.page_token = page->next_page_token;
  }
  ADD_FAILURE() << "the list does not end";
  return gtrids;
}

void StoreConformanceTest::SetUp() {
  place_ = GetParam()();
  Reopen();
}

void StoreConformanceTest::Reopen(int queue_limit) {
  store_.reset();
  absl::StatusOr<std::unique_ptr<Store>> store = place_->Open(queue_limit);
  ASSERT_TRUE(store.ok()) << store.status();
  store_ = *std::move(store);
}

TEST_P(StoreConformanceTest, AnEmptyStoreHasNothing) {
  const absl::StatusOr<GlobalPtr> global = store_->Read("nobody");
  ASSERT_TRUE(global.ok());
  EXPECT_EQ(*global, nullptr);
  EXPECT_THAT(ListAll(store_.get(), {}), IsEmpty());
  EXPECT_THAT(*store_->ReadOpen("", 10), IsEmpty());
  EXPECT_THAT(*store_->ReadResources(), IsEmpty());
  EXPECT_FALSE(store_->MayHaveLostLazyWrites());
  EXPECT_EQ(store_->Stats().transitions, 0);
}

TEST_P(StoreConformanceTest, ATransitionStoresTheWholeRecord) {
  auto next = std::make_shared<v1::Global>(*MakeGlobal("g", 1, kActive, "r", 1000));
  next->add_branches()->set_bqual("b1");
  next->mutable_create_time()->set_nanos(7);
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(next))), "APPLIED");
  const absl::StatusOr<GlobalPtr> read = store_->Read("g");
  ASSERT_TRUE(read.ok() && *read != nullptr);
  EXPECT_EQ((*read)->SerializeAsString(), next->SerializeAsString());
}

TEST_P(StoreConformanceTest, TransitionsFollowEachOtherThroughEveryState) {
  int64_t revision = 0;
  for (const auto state : {kActive, kActive, kCommitting, kCommitted, kHeuristic, kRollingBack, kRolledBack}) {
    ++revision;
    ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("g", revision, state)))), "APPLIED");
    const absl::StatusOr<GlobalPtr> read = store_->Read("g");
    ASSERT_TRUE(read.ok() && *read != nullptr);
    EXPECT_EQ((*read)->state(), state);
    EXPECT_EQ((*read)->revision(), revision);
    EXPECT_EQ(store_->ReadOpen("", 10)->size(), IsFinished(state) ? 0 : 1);
    ListQuery query;
    query.states = {state};
    EXPECT_THAT(ListAll(store_.get(), query), ElementsAre("g"));
  }
  EXPECT_EQ(store_->Stats().transitions, revision);
}

TEST_P(StoreConformanceTest, AnotherRevisionConflictsAndShowsWhatIsThere) {
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("g", 1, kActive)))), "APPLIED");
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("g", 2, kCommitting)))), "APPLIED");
  for (const int64_t revision : {2, 4, 100}) {
    const TransitionResult result = SubmitAndWait(store_.get(), To(MakeGlobal("g", revision, kRollingBack)));
    EXPECT_EQ(ToString(result), "CONFLICT");
    ASSERT_NE(result.current, nullptr);
    EXPECT_EQ(result.current->revision(), 2);
    EXPECT_EQ(result.current->state(), kCommitting);
  }
  EXPECT_EQ((*store_->Read("g"))->state(), kCommitting);
}

TEST_P(StoreConformanceTest, AChangeOfWhatIsNotThereConflictsWithNothing) {
  const TransitionResult result = SubmitAndWait(store_.get(), To(MakeGlobal("g", 5, kActive)));
  EXPECT_EQ(ToString(result), "CONFLICT");
  EXPECT_EQ(result.current, nullptr);
  EXPECT_EQ(*store_->Read("g"), nullptr);
}

TEST_P(StoreConformanceTest, ARequestIdNamesOneRecord) {
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("g1", 1, kActive, "r1")))), "APPLIED");
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("g2", 1, kActive, "r2")))), "APPLIED");
  const TransitionResult same_request = SubmitAndWait(store_.get(), To(MakeGlobal("g3", 1, kActive, "r1")));
  EXPECT_EQ(ToString(same_request), "CONFLICT");
  ASSERT_NE(same_request.current, nullptr);
  EXPECT_EQ(same_request.current->gtrid(), "g1");
  // By gtrid first.
  const TransitionResult both = SubmitAndWait(store_.get(), To(MakeGlobal("g2", 1, kActive, "r1")));
  EXPECT_EQ(ToString(both), "CONFLICT");
  ASSERT_NE(both.current, nullptr);
  EXPECT_EQ(both.current->gtrid(), "g2");
  EXPECT_EQ(*store_->Read("g3"), nullptr);
  // No request id is not a request id.
  EXPECT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("g4", 1, kActive)))), "APPLIED");
  EXPECT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("g5", 1, kActive)))), "APPLIED");
}

TEST_P(StoreConformanceTest, AConflictDoesNotDisturbItsNeighbours) {
  std::vector<Transition> transitions;
  for (int i = 0; i < 300; ++i) {
    transitions.push_back(To(MakeGlobal(Gtrid(i), 1, kActive, absl::StrCat("r", i))));
    transitions.push_back(To(MakeGlobal(Gtrid(i), 1, kRollingBack)));                               // Exists.
    transitions.push_back(To(MakeGlobal(absl::StrCat("x", i), 1, kActive, absl::StrCat("r", i))));  // Same request.
    transitions.push_back(To(MakeGlobal(Gtrid(i), 9, kRolledBack)));                                // Wrong revision.
    transitions.push_back(To(MakeGlobal(Gtrid(i), 2, kCommitting), Durability::kForced));
  }
  const std::vector<TransitionResult> results = SubmitAllAndWait(store_.get(), std::move(transitions));
  for (size_t i = 0; i < results.size(); ++i) {
    const bool good = i % 5 == 0 || i % 5 == 4;
    ASSERT_EQ(ToString(results[i]), good ? "APPLIED" : "CONFLICT") << i;
    if (!good) {
      ASSERT_EQ(results[i].current->gtrid(), Gtrid(i / 5)) << i;
    }
  }
  EXPECT_EQ(store_->Stats().transitions, 600);
}

TEST_P(StoreConformanceTest, OfRacingTransitionsExactlyOneWins) {
  constexpr int kThreads = 8;
  constexpr int kRounds = 200;
  for (int i = 0; i < kRounds; ++i) {
    ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal(Gtrid(i), 1, kActive)))), "APPLIED");
  }
  std::vector<std::atomic<int>> winners(kRounds);
  std::vector<std::atomic<int>> winner_state(kRounds);
  std::atomic<int> losers_told_wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const auto mine = t % 2 == 0 ? kCommitting : kRollingBack;
      for (int i = 0; i < kRounds; ++i) {
        const TransitionResult result =
            SubmitAndWait(store_.get(), To(MakeGlobal(Gtrid(i), 2, mine, "", t), Durability::kForced));
        if (result.code == TransitionResult::Code::kApplied) {
          ++winners[i];
          winner_state[i] = mine;
        } else if (result.code != TransitionResult::Code::kConflict || result.current->revision() != 2) {
          ++losers_told_wrong;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(losers_told_wrong, 0);
  for (int i = 0; i < kRounds; ++i) {
    EXPECT_EQ(winners[i], 1) << i;
    EXPECT_EQ((*store_->Read(Gtrid(i)))->state(), winner_state[i]) << i;
  }
}

TEST_P(StoreConformanceTest, OfRacingCreationsExactlyOneWins) {
  constexpr int kThreads = 8;
  constexpr int kRounds = 100;
  std::vector<std::atomic<int>> winners(kRounds);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRounds; ++i) {
        // Half of them race for the gtrid, half for the request id.
        const std::string gtrid = i % 2 == 0 ? Gtrid(i) : absl::StrCat("t", t, "-", i);
        const TransitionResult result =
            SubmitAndWait(store_.get(), To(MakeGlobal(gtrid, 1, kActive, absl::StrCat("r", i))));
        if (result.code == TransitionResult::Code::kApplied) ++winners[i];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < kRounds; ++i) EXPECT_EQ(winners[i], 1) << i;
  EXPECT_EQ(ListAll(store_.get(), {}).size(), static_cast<size_t>(kRounds));
}

TEST_P(StoreConformanceTest, TransitionsOfOneGtridTakeEffectInOrder) {
  constexpr int kChains = 20;
  constexpr int kLength = 100;
  Results results;
  for (int revision = 1; revision <= kLength; ++revision) {
    for (int chain = 0; chain < kChains; ++chain) {
      const auto durability = (revision + chain) % 17 == 0 ? Durability::kForced : Durability::kLazy;
      store_->Submit(To(MakeGlobal(Gtrid(chain), revision, kActive), durability), results.Next());
    }
  }
  ExpectAllApplied(results.Wait());
  std::vector<int> last(kChains, -1);
  for (const int index : results.Order()) {
    EXPECT_EQ(index / kChains, last[index % kChains] + 1) << "done out of order";
    last[index % kChains] = index / kChains;
  }
  for (int chain = 0; chain < kChains; ++chain) EXPECT_EQ((*store_->Read(Gtrid(chain)))->revision(), kLength);
}

TEST_P(StoreConformanceTest, WhatIsDoneIsVisibleAtOnce) {
  Results results;
  std::atomic<int> stale{0};
  for (int i = 0; i < 200; ++i) {
    Store::Done done = results.Next();
    store_->Submit(To(MakeGlobal(Gtrid(i), 1, kActive)), [&, i, done](TransitionResult result) {
      const absl::StatusOr<GlobalPtr> read = store_->Read(Gtrid(i));
      if (!read.ok() || *read == nullptr) ++stale;
      done(std::move(result));
    });
  }
  ExpectAllApplied(results.Wait());
  EXPECT_EQ(stale, 0);
}

TEST_P(StoreConformanceTest, DoneMaySubmitAgain) {
  constexpr int kLength = 200;
  Results results;
  Store::Done finished = results.Next();
  std::function<void(int64_t)> step = [&](int64_t revision) {
    store_->Submit(To(MakeGlobal("g", revision, kActive)), [&, revision](TransitionResult result) {
      if (revision == kLength || result.code != TransitionResult::Code::kApplied) {
        finished(std::move(result));
      } else {
        step(revision + 1);
      }
    });
  };
  step(1);
  ExpectAllApplied(results.Wait());
  EXPECT_EQ((*store_->Read("g"))->revision(), kLength);
}

TEST_P(StoreConformanceTest, ClosingRunsEveryDoneAlsoOfWhatADoneSubmitted) {
  std::atomic<int> first{0};
  std::atomic<int> second{0};
  for (int i = 0; i < 1000; ++i) {
    Store* const store = store_.get();
    store->Submit(To(MakeGlobal(Gtrid(i), 1, kActive)), [&, store, i](TransitionResult result) {
      if (result.code == TransitionResult::Code::kApplied) ++first;
      store->Submit(To(MakeGlobal(Gtrid(i), 2, kRolledBack)), [&](TransitionResult next) {
        if (next.code == TransitionResult::Code::kApplied) ++second;
      });
    });
  }
  store_.reset();
  EXPECT_EQ(first, 1000);
  EXPECT_EQ(second, 1000);
  Reopen();
  EXPECT_EQ((*store_->Read(Gtrid(999)))->revision(), 2);
}

TEST_P(StoreConformanceTest, AFullQueueRefusesAndSaysSo) {
  Reopen(/*queue_limit=*/100);
  // The store cannot go on before the first `done` returns, so it is certain that the queue fills.
  Mutex mu;
  CondVar changed;
  bool held = false;
  bool release = false;
  store_->Submit(To(MakeGlobal("holder", 1, kActive)), [&](TransitionResult) {
    MutexLock lock(&mu);
    held = true;
    changed.NotifyAll();
    while (!release) changed.Wait(&mu);
  });
  {
    MutexLock lock(&mu);
    while (!held) changed.Wait(&mu);
  }
  Results results;
  for (int i = 0; i < 400; ++i) store_->Submit(To(MakeGlobal(Gtrid(i), 1, kActive)), results.Next());
  {
    MutexLock lock(&mu);
    release = true;
    changed.NotifyAll();
  }
  int applied = 0;
  int overloaded = 0;
  const std::vector<TransitionResult> outcome = results.Wait();
  for (size_t i = 0; i < outcome.size(); ++i) {
    const std::string text = ToString(outcome[i]);
    const bool stored = *store_->Read(Gtrid(i)) != nullptr;
    EXPECT_EQ(stored, text == "APPLIED") << i;
    if (text == "APPLIED") ++applied;
    if (text == "NOT_APPLIED OVERLOADED") ++overloaded;
  }
  EXPECT_EQ(applied + overloaded, 400);
  EXPECT_GE(applied, 99);
  EXPECT_GE(overloaded, 100);
  // And afterwards all is well.
  EXPECT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("later", 1, kActive)))), "APPLIED");
}

TEST_P(StoreConformanceTest, EverythingIsThereAfterReopening) {
  std::vector<Transition> transitions;
  for (int i = 0; i < 500; ++i) {
    transitions.push_back(To(MakeGlobal(Gtrid(i), 1, kActive, absl::StrCat("r", i), 300)));
    if (i % 3 == 0) transitions.push_back(To(MakeGlobal(Gtrid(i), 2, kCommitted, absl::StrCat("r", i))));
  }
  ExpectAllApplied(SubmitAllAndWait(store_.get(), std::move(transitions)));
  ASSERT_TRUE(store_->PutResource(MakeResource("orders", "a:1")).ok());
  const std::vector<std::string> before = ListAll(store_.get(), {});
  Reopen();
  EXPECT_FALSE(store_->MayHaveLostLazyWrites());
  EXPECT_EQ(ListAll(store_.get(), {}), before);
  EXPECT_EQ((*store_->Read(Gtrid(3)))->revision(), 2);
  EXPECT_EQ((*store_->Read(Gtrid(4)))->revision(), 1);
  EXPECT_EQ(store_->ReadOpen("", 1000)->size(), 333u);
  EXPECT_EQ(store_->ReadResources()->size(), 1u);
  const TransitionResult conflict = SubmitAndWait(store_.get(), To(MakeGlobal("new", 1, kActive, "r7")));
  EXPECT_EQ(ToString(conflict), "CONFLICT");
  EXPECT_EQ(conflict.current->gtrid(), Gtrid(7));
}

TEST_P(StoreConformanceTest, PagesAreNewestFirstAndComplete) {
  Fill(store_.get(), 0, 250, kActive);
  std::vector<std::string> expected;
  for (int i = 249; i >= 0; --i) expected.push_back(Gtrid(i));
  for (const int page_size : {1, 7, 100, 250, 1000}) {
    ListQuery query;
    query.page_size = page_size;
    EXPECT_EQ(ListAll(store_.get(), query), expected) << page_size;
  }
  // A change does not move a record: the order is that of creation.
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal(Gtrid(0), 2, kCommitted)))), "APPLIED");
  EXPECT_EQ(ListAll(store_.get(), {}), expected);
}

TEST_P(StoreConformanceTest, PagesKeepToTheirFilter) {
  const std::vector<v1::Global::State> states = {kActive,      kCommitting, kCommitted,
                                                 kRollingBack, kRolledBack, kHeuristic};
  std::vector<Transition> transitions;
  for (int i = 0; i < 120; ++i) {
    transitions.push_back(To(MakeGlobal(Gtrid(i), 1, kActive)));
    if (i % 6 != 0) transitions.push_back(To(MakeGlobal(Gtrid(i), 2, states[i % 6])));
  }
  ExpectAllApplied(SubmitAllAndWait(store_.get(), std::move(transitions)));
  for (int mask = 1; mask < 64; ++mask) {
    ListQuery query;
    query.page_size = 7;
    std::vector<std::string> expected;
    for (int s = 0; s < 6; ++s) {
      if (mask >> s & 1) query.states.push_back(states[s]);
    }
    for (int i = 119; i >= 0; --i) {
      if (mask >> (i % 6) & 1) expected.push_back(Gtrid(i));
    }
    EXPECT_EQ(ListAll(store_.get(), query), expected) << mask;
  }
}

TEST_P(StoreConformanceTest, AFilterOverALongHistoryEnds) {
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("oldest", 1, kRolledBack)))), "APPLIED");
  Fill(store_.get(), 0, 25000, kCommitted);
  ListQuery query;
  query.states = {kRolledBack};
  EXPECT_THAT(ListAll(store_.get(), query), ElementsAre("oldest"));
}

TEST_P(StoreConformanceTest, CreationsBetweenPagesNeitherRepeatNorHideAnything) {
  Fill(store_.get(), 0, 50, kActive);
  ListQuery query;
  query.page_size = 10;
  std::vector<std::string> seen;
  int created = 50;
  do {
    const absl::StatusOr<ListPage> page = store_->List(query);
    ASSERT_TRUE(page.ok());
    for (const GlobalPtr& global : page->globals) seen.push_back(global->gtrid());
    query.page_token = page->next_page_token;
    Fill(store_.get(), created, 5, kActive);
    created += 5;
  } while (!query.page_token.empty());
  std::vector<std::string> expected;
  for (int i = 49; i >= 0; --i) expected.push_back(Gtrid(i));
  EXPECT_EQ(seen, expected);
}

TEST_P(StoreConformanceTest, ForeignPageTokensAreRefused) {
  Fill(store_.get(), 0, 30, kActive);
  ListQuery query;
  query.page_size = 10;
  query.states = {kActive, kCommitting};
  const std::string token = store_->List(query)->next_page_token;
  ASSERT_FALSE(token.empty());
  query.states = {kCommitting, kActive, kActive};  // The same filter, said differently.
  query.page_token = token;
  EXPECT_TRUE(store_->List(query).ok());

  std::string flipped = token;
  flipped[flipped.size() / 2] ^= 1;
  for (const std::string& bad : {std::string("x"), token + "0", token.substr(1), flipped, std::string("'; DROP TABLE"),
                                 std::string(1000000, 'a'), std::string(token.size(), '\0')}) {
    query.page_token = bad;
    EXPECT_EQ(ReasonName(store_->List(query).status()), "INVALID_PAGE_TOKEN") << bad.substr(0, 100);
  }
  query.page_token = token;
  query.states = {kActive};
  EXPECT_EQ(ReasonName(store_->List(query).status()), "INVALID_PAGE_TOKEN");
  query.states.clear();
  EXPECT_EQ(ReasonName(store_->List(query).status()), "INVALID_PAGE_TOKEN");
}

TEST_P(StoreConformanceTest, PageSizesOutOfRangeAreRefused) {
  for (const int page_size : {-1, 0, 1001}) {
    ListQuery query;
    query.page_size = page_size;
    EXPECT_EQ(ReasonName(store_->List(query).status()), "INVALID_PAGE_SIZE") << page_size;
  }
}

TEST_P(StoreConformanceTest, ReadOpenGivesTheUnfinishedInOrderOfGtrid) {
  const std::vector<v1::Global::State> states = {kActive,      kCommitting, kCommitted,
                                                 kRollingBack, kRolledBack, kHeuristic};
  std::vector<Transition> transitions;
  for (int i = 59; i >= 0; --i) {
    transitions.push_back(To(MakeGlobal(Gtrid(i), 1, kActive)));
    if (i % 6 != 0) transitions.push_back(To(MakeGlobal(Gtrid(i), 2, states[i % 6])));
  }
  ExpectAllApplied(SubmitAllAndWait(store_.get(), std::move(transitions)));
  std::vector<std::string> expected;
  for (int i = 0; i < 60; ++i) {
    if (!IsFinished(states[i % 6])) expected.push_back(Gtrid(i));
  }
  std::vector<std::string> seen;
  while (true) {
    const absl::StatusOr<std::vector<GlobalPtr>> batch = store_->ReadOpen(seen.empty() ? "" : seen.back(), 7);
    ASSERT_TRUE(batch.ok());
    ASSERT_LE(batch->size(), 7u);
    for (const std::string& gtrid : Gtrids(*batch)) seen.push_back(gtrid);
    if (batch->empty()) break;
  }
  EXPECT_EQ(seen, expected);
}

TEST_P(StoreConformanceTest, SettleAnswersWhatIsThere) {
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("g", 1, kActive)))), "APPLIED");
  const absl::StatusOr<GlobalPtr> there = store_->Settle("g");
  ASSERT_TRUE(there.ok());
  ASSERT_NE(*there, nullptr);
  EXPECT_EQ((*there)->revision(), 1);
  const absl::StatusOr<GlobalPtr> absent = store_->Settle("nobody");
  ASSERT_TRUE(absent.ok());
  EXPECT_EQ(*absent, nullptr);
}

TEST_P(StoreConformanceTest, SettleComesAfterWhatWasSubmitted) {
  Results results;
  for (int i = 0; i < 500; ++i) store_->Submit(To(MakeGlobal("g", i + 1, kActive)), results.Next());
  const absl::StatusOr<GlobalPtr> there = store_->Settle("g");
  ASSERT_TRUE(there.ok());
  ASSERT_NE(*there, nullptr);
  EXPECT_EQ((*there)->revision(), 500);
  ExpectAllApplied(results.Wait());
}

TEST_P(StoreConformanceTest, ResourcesArePutReplacedAndRemoved) {
  EXPECT_TRUE(store_->PutResource(MakeResource("payments", "b:1")).ok());
  EXPECT_TRUE(store_->PutResource(MakeResource("orders", "a:1")).ok());
  EXPECT_TRUE(store_->PutResource(MakeResource("orders", "a:2")).ok());
  EXPECT_TRUE(store_->RemoveResource("nobody").ok());
  absl::StatusOr<std::vector<v1::Resource>> resources = store_->ReadResources();
  ASSERT_TRUE(resources.ok());
  ASSERT_EQ(resources->size(), 2u);
  EXPECT_EQ((*resources)[0].name(), "orders");
  EXPECT_EQ((*resources)[0].address(), "a:2");
  EXPECT_TRUE(store_->RemoveResource("orders").ok());
  Reopen();
  resources = store_->ReadResources();
  ASSERT_TRUE(resources.ok());
  ASSERT_EQ(resources->size(), 1u);
  EXPECT_EQ((*resources)[0].name(), "payments");
}

TEST_P(StoreConformanceTest, AResourceIsReplacedOnlyIfItIsAsExpected) {
  const v1::Resource first = MakeResource("orders", "a:1");
  const v1::Resource second = MakeResource("orders", "a:2");
  const v1::Resource third = MakeResource("orders", "a:3");
  EXPECT_FALSE(*store_->ReplaceResource(&first, second)) << "nothing is there";
  EXPECT_THAT(*store_->ReadResources(), IsEmpty());
  EXPECT_TRUE(*store_->ReplaceResource(nullptr, first));
  EXPECT_FALSE(*store_->ReplaceResource(nullptr, second)) << "something is there";
  EXPECT_FALSE(*store_->ReplaceResource(&second, third));
  EXPECT_EQ((*store_->ReadResources())[0].address(), "a:1");
  EXPECT_TRUE(*store_->ReplaceResource(&first, second));
  EXPECT_TRUE(*store_->ReplaceResource(&first, second)) << "it is there already";
  Reopen();
  ASSERT_EQ(store_->ReadResources()->size(), 1u);
  EXPECT_EQ((*store_->ReadResources())[0].address(), "a:2");
}

TEST_P(StoreConformanceTest, StatsCountWhatWasApplied) {
  const StoreStats before = store_->Stats();
  ExpectAllApplied(SubmitAllAndWait(store_.get(), {To(MakeGlobal("a", 1, kActive)), To(MakeGlobal("b", 1, kActive)),
                                                   To(MakeGlobal("b", 2, kActive))}));
  const StoreStats lazy = store_->Stats();
  EXPECT_EQ(lazy.transitions - before.transitions, 3);
  EXPECT_GE(lazy.groups - before.groups, 1);
  EXPECT_LE(lazy.groups - before.groups, 3);
  EXPECT_EQ(lazy.forced_groups, before.forced_groups);

  EXPECT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("a", 9, kActive)))), "CONFLICT");
  EXPECT_EQ(store_->Stats().transitions, lazy.transitions);
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("a", 2, kCommitting), Durability::kForced))), "APPLIED");
  EXPECT_EQ(store_->Stats().forced_groups, lazy.forced_groups + 1);
}

TEST_P(StoreConformanceTest, ForcedTransitionsShareTheirGroups) {
  const StoreStats before = store_->Stats();
  std::vector<Transition> transitions;
  for (int i = 0; i < 1000; ++i) transitions.push_back(To(MakeGlobal(Gtrid(i), 1, kCommitting), Durability::kForced));
  ExpectAllApplied(SubmitAllAndWait(store_.get(), std::move(transitions)));
  const StoreStats after = store_->Stats();
  EXPECT_EQ(after.transitions - before.transitions, 1000);
  EXPECT_LT(after.forced_groups - before.forced_groups, 500);
}

TEST_P(StoreConformanceTest, LargeRecordsAndOddIdsAreKept) {
  const std::string long_id(64, 'z');
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal(long_id, 1, kActive, "", 3 << 20)))), "APPLIED");
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("A.:_-", 1, kActive)))), "APPLIED");
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("a.:_-", 1, kActive)))), "APPLIED");
  EXPECT_EQ((*store_->Read(long_id))->cause_detail().size(), size_t{3} << 20);
  EXPECT_EQ((*store_->Read("A.:_-"))->gtrid(), "A.:_-");
  EXPECT_EQ(*store_->Read("a.:_"), nullptr);
  EXPECT_THAT(ListAll(store_.get(), {}), ElementsAre("a.:_-", "A.:_-", long_id));
}

TEST_P(StoreConformanceTest, ReadersAndWritersDoNotDisturbEachOther) {
  Fill(store_.get(), 0, 200, kActive);
  std::atomic<bool> stop{false};
  std::atomic<int> errors{0};
  std::vector<std::thread> readers;
  for (int t = 0; t < 2; ++t) {
    readers.emplace_back([&] {
      while (!stop) {
        const absl::StatusOr<GlobalPtr> one = store_->Read(Gtrid(7));
        if (!one.ok() || *one == nullptr) ++errors;
        ListQuery query;
        query.page_size = 50;
        if (!store_->List(query).ok()) ++errors;
        const auto open = store_->ReadOpen("", 300);
        if (!open.ok() || open->size() != 200) ++errors;
      }
    });
  }
  for (int64_t revision = 2; revision <= 30; ++revision) {
    std::vector<Transition> transitions;
    for (int i = 0; i < 200; ++i) {
      const auto durability = i % 50 == 0 ? Durability::kForced : Durability::kLazy;
      transitions.push_back(To(MakeGlobal(Gtrid(i), revision, kActive), durability));
    }
    ExpectAllApplied(SubmitAllAndWait(store_.get(), std::move(transitions)));
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(errors, 0);
}

}  // namespace assent
