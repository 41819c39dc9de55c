// The close-and-reset race at its full size; and the same against a coordinator without evidence, which must be caught.
#include "tests/race/race.h"

#include <iostream>

#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "tests/race/naive_coordinator.h"

namespace assent {
namespace {

RaceOptions Sized(int64_t transactions, bool binlog) {
  RaceOptions options;
  options.load.transactions = transactions;
  options.load.seed = static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed());
  options.binlog = binlog;
  options.progress = [](const std::string& line) { std::cout << line << std::endl; };
  return options;
}

void ExpectNoViolation(const RaceOptions& options) {
  const absl::StatusOr<RaceReport> report = RunRace(options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->transactions, options.load.transactions);
  EXPECT_EQ(report->violations.size(), 0u) << absl::StrJoin(report->violations, "\n");
  EXPECT_EQ(report->unfinished.size(), 0u) << absl::StrJoin(report->unfinished, "\n");
  EXPECT_EQ(report->committed + report->rolled_back, options.load.transactions);
  EXPECT_GT(report->committed, 0);
  EXPECT_GT(report->rolled_back, 0);
  EXPECT_GT(report->meddled, 0) << "nobody made a ghost, so nothing was proven about them";
  EXPECT_GT(report->ghosts_healed, 0);
}

TEST(RaceTest, NothingIsReportedThatIsNotSo) { ExpectNoViolation(Sized(8000, /*binlog=*/true)); }

TEST(RaceTest, NothingIsReportedThatIsNotSoWithoutABinaryLog) { ExpectNoViolation(Sized(2000, /*binlog=*/false)); }

TEST(RaceTest, WithoutEvidenceTheRaceIsLost) {
  RaceOptions options = Sized(500, /*binlog=*/false);
  options.load.ghost_fraction = 0;  // Nobody meddles: it is the coordinator's own doing.
  options.start_coordinator = StartNaiveCoordinator;
  FLAGS_minloglevel = google::GLOG_ERROR;  // It runs in this process, and has a lot to say.
  const absl::StatusOr<RaceReport> report = RunRace(options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_GT(report->violations.size(), 0u)
      << "the race finds nothing, so that it finds nothing elsewhere means nothing";
}

}  // namespace
}  // namespace assent
