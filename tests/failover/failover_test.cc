// A short version of `tools/soak failover`.
#include "tests/failover/failover.h"

#include "gtest/gtest.h"
#include "tests/failover/stalls.h"

namespace assent {
namespace {

TEST(StallsTest, TheStoresStallsAreItsOwnAndNothingElse) {
  const absl::Time zero = absl::FromUnixSeconds(1000);
  const auto at = [zero](int seconds) { return zero + absl::Seconds(seconds); };
  Stalls stalls;
  stalls.Committed(at(0));
  stalls.Committed(at(2));
  EXPECT_EQ(stalls.longest(), absl::Seconds(2));
  stalls.StoreWentAway(at(5));  // Three seconds were not the store's.
  EXPECT_EQ(stalls.longest(), absl::Seconds(3));
  stalls.StoreIsBack();
  stalls.Committed(at(12));  // The first one after it.
  EXPECT_EQ(stalls.longest(), absl::Seconds(3));
  EXPECT_EQ(stalls.longest_of_store(), absl::Seconds(10));
  stalls.Finish(at(16));
  EXPECT_EQ(stalls.longest(), absl::Seconds(4));
}

TEST(FailoverTest, NobodyIsToldAnythingWrongAndNobodyStandsStillForLong) {
  FailoverOptions options;
  options.duration = absl::Seconds(40);
  options.interval = absl::Seconds(4);
  options.progress = [](const std::string& line) { std::cout << line << std::endl; };
  const auto report = RunFailover(options);
  ASSERT_TRUE(report.ok()) << report.status();
  for (const std::string& violation : report->violations) ADD_FAILURE() << violation;
  EXPECT_EQ(report->violation_count, 0);
  EXPECT_GE(report->killed, 3);
  EXPECT_GE(report->frozen, 3);
  EXPECT_EQ(report->store_restarts, 2);
  EXPECT_GT(report->committed, 500);
  EXPECT_LT(report->longest_stall, absl::Seconds(6)) << "3 s where nobody else keeps the machine busy";
  RecordProperty("longest_stall_ms", static_cast<int>(absl::ToInt64Milliseconds(report->longest_stall)));
  RecordProperty("longest_stall_of_store_ms",
                 static_cast<int>(absl::ToInt64Milliseconds(report->longest_stall_of_store)));
  RecordProperty("committed", static_cast<int>(report->committed));
}

}  // namespace
}  // namespace assent
