#include "participant_sdk/cpp/carry.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/xid.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr char kTrace[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

// Nothing here asks the coordinator anything.
GlobalTransaction Joined() { return *Client("127.0.0.1:1").Join("bank-1"); }

GlobalTransaction Sole() {
  BeginOptions options;
  options.sole_participant = true;
  options.gtrid = NewGtrid("bank", absl::Now());
  return *Client("127.0.0.1:1").Begin(options);
}

TEST(CarryTest, WhatIsPutIsFound) {
  const GlobalTransaction transaction = Joined();
  const absl::StatusOr<Headers> headers = HeadersOf(transaction, kTrace);
  ASSERT_TRUE(headers.ok()) << headers.status();
  EXPECT_THAT(*headers, ElementsAre(Pair("Assent-Gtrid", "bank-1"), Pair("traceparent", kTrace)));
  const absl::StatusOr<Carried> carried = CarriedBy(*headers);
  ASSERT_TRUE(carried.ok()) << carried.status();
  EXPECT_EQ(carried->gtrid, "bank-1");
  EXPECT_EQ(carried->traceparent, kTrace);
}

TEST(CarryTest, NamesInAnyCaseAndNothingElse) {
  const absl::StatusOr<Carried> carried = CarriedBy({{"ASSENT-gtrid", "g"}, {"Cookie", "x"}, {"TraceParent", kTrace}});
  ASSERT_TRUE(carried.ok()) << carried.status();
  EXPECT_EQ(carried->gtrid, "g");
  EXPECT_EQ(carried->traceparent, kTrace);
  const absl::StatusOr<Carried> none = CarriedBy(Headers{{"Assent-Gtrid-2", "g"}});
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_EQ(none->gtrid + none->traceparent, "");
}

TEST(CarryTest, WhatIsNoGtridIsRefused) {
  for (const std::string& bad : {std::string(), std::string("a'b"), std::string("a\0b", 3), std::string(65, 'a')}) {
    EXPECT_EQ(ReasonOf(CarriedBy(Headers{{kGtridHeader, bad}}).status()), Reason::INVALID_GTRID) << bad;
  }
  const absl::Status two = CarriedBy(Headers{{kGtridHeader, "a"}, {"assent-gtrid", "b"}}).status();
  EXPECT_EQ(ReasonOf(two), Reason::INVALID_GTRID);
  EXPECT_THAT(std::string(two.message()), HasSubstr("2 global transactions"));
}

TEST(CarryTest, WhatIsNoTraceparentIsLeftOut) {
  for (const std::string bad : {"", "x", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", "00-1-2-3",
                                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"}) {
    EXPECT_EQ(HeadersOf(Joined(), bad)->size(), 1u) << bad;
    const absl::StatusOr<Carried> carried = CarriedBy(Headers{{kTraceparentMetadata, bad}});
    ASSERT_TRUE(carried.ok()) << carried.status();
    EXPECT_EQ(carried->traceparent, "") << bad;
  }
  EXPECT_EQ(CarriedBy(Headers{{kTraceparentMetadata, kTrace}, {kTraceparentMetadata, kTrace}})->traceparent, "");
  const std::string later = absl::StrCat(kTrace, "-what-comes-later");
  EXPECT_EQ(CarriedBy(Headers{{kTraceparentMetadata, later}})->traceparent, later);
}

TEST(CarryTest, ASoleParticipantsIsNotPassedOn) {
  const GlobalTransaction sole = Sole();
  const absl::Status refused = HeadersOf(sole).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr(sole.gtrid()));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("Begin it without that"));
}

}  // namespace
}  // namespace assent
