// What moving a store to another place rests on: records in order of creation.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "store/testing/conformance_suite.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

constexpr auto kActive = v1::Global::STATE_ACTIVE;
constexpr auto kCommitted = v1::Global::STATE_COMMITTED;

ListQuery OldestFirst(int page_size) {
  ListQuery query;
  query.page_size = page_size;
  query.order = ListOrder::kOldestFirst;
  return query;
}

// Ids whose order by name is not that of creation.
std::vector<std::string> Create(Store* store, int first, int count) {
  std::vector<std::string> gtrids;
  std::vector<Transition> transitions;
  for (int i = first; i < first + count; ++i) {
    gtrids.push_back(std::to_string(i * 7919 % 100003));
    transitions.push_back(To(MakeGlobal(gtrids.back(), 1, kActive)));
    if (i % 3 != 0) transitions.push_back(To(MakeGlobal(gtrids.back(), 2, kCommitted)));
  }
  for (const TransitionResult& result : SubmitAllAndWait(store, std::move(transitions))) {
    EXPECT_EQ(ToString(result), "APPLIED");
  }
  return gtrids;
}

}  // namespace

TEST_P(StoreConformanceTest, PagesCanBeOldestFirst) {
  const std::vector<std::string> created = Create(store_.get(), 0, 250);
  for (const int page_size : {1, 7, 250, 1000}) EXPECT_EQ(ListAll(store_.get(), OldestFirst(page_size)), created);
  ListQuery open = OldestFirst(10);
  open.states = {kActive};
  ListQuery finished = OldestFirst(10);
  finished.states = {kCommitted, v1::Global::STATE_ROLLED_BACK};
  std::vector<std::string> expected_open, expected_finished;
  for (size_t i = 0; i < created.size(); ++i) (i % 3 == 0 ? expected_open : expected_finished).push_back(created[i]);
  EXPECT_EQ(ListAll(store_.get(), open), expected_open);
  EXPECT_EQ(ListAll(store_.get(), finished), expected_finished);
}

TEST_P(StoreConformanceTest, CreationsBetweenOldestFirstPagesComeAtTheEnd) {
  std::vector<std::string> expected = Create(store_.get(), 0, 30);
  ListQuery query = OldestFirst(10);
  std::vector<std::string> seen;
  for (int created = 30; seen.size() < expected.size(); created += 5) {
    const absl::StatusOr<ListPage> page = store_->List(query);
    ASSERT_TRUE(page.ok());
    for (const GlobalPtr& global : page->globals) seen.push_back(global->gtrid());
    query.page_token = page->next_page_token;
    if (created >= 45) continue;
    for (const std::string& gtrid : Create(store_.get(), created, 5)) expected.push_back(gtrid);
  }
  EXPECT_EQ(seen, expected);
}

TEST_P(StoreConformanceTest, AFilterOverALongHistoryEndsOldestFirst) {
  Create(store_.get(), 0, 12000);
  ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("newest", 1, v1::Global::STATE_ROLLED_BACK)))),
            "APPLIED");
  ListQuery query = OldestFirst(100);
  query.states = {v1::Global::STATE_ROLLED_BACK};
  EXPECT_THAT(ListAll(store_.get(), query), testing::ElementsAre("newest"));
}

TEST_P(StoreConformanceTest, PageTokensOfTheOtherOrderAreRefused) {
  Create(store_.get(), 0, 30);
  for (const ListOrder order : {ListOrder::kNewestFirst, ListOrder::kOldestFirst}) {
    ListQuery query = OldestFirst(10);
    query.order = order;
    query.page_token = store_->List(query)->next_page_token;
    ASSERT_FALSE(query.page_token.empty());
    EXPECT_TRUE(store_->List(query).ok());
    query.order = order == ListOrder::kOldestFirst ? ListOrder::kNewestFirst : ListOrder::kOldestFirst;
    EXPECT_EQ(ReasonName(store_->List(query).status()), "INVALID_PAGE_TOKEN");
  }
}

}  // namespace assent
