// The close-and-reset race at its full size; and the same against a coordinator without evidence, which must be caught.
#include "tests/race/race.h"

#include <iostream>

#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "tests/race/naive_coordinator.h"

namespace assent {
namespace {

constexpr double kMoreGhosts = 0.02;  // So that a short race has some.

class RaceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!WhyNotHere().empty()) GTEST_SKIP() << WhyNotHere();
  }

  static bool AnyMakesGhosts() { return MakesGhosts(EngineOfServer(0)) || MakesGhosts(EngineOfServer(1)); }
  static bool BothMakeGhosts() { return MakesGhosts(EngineOfServer(0)) && MakesGhosts(EngineOfServer(1)); }

  static RaceOptions Sized(int64_t transactions, bool binlog) {
    RaceOptions options;
    options.load.transactions = transactions;
    options.load.seed = static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed());
    options.binlog = binlog;
    options.progress = [](const std::string& line) { std::cout << line << std::endl; };
    return options;
  }

  static void ExpectNoViolation(const RaceOptions& options) {
    const absl::StatusOr<RaceReport> report = RunRace(options);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->transactions, options.load.transactions);
    EXPECT_EQ(report->violations.size(), 0u) << absl::StrJoin(report->violations, "\n");
    EXPECT_EQ(report->unfinished.size(), 0u) << absl::StrJoin(report->unfinished, "\n");
    EXPECT_EQ(report->committed + report->rolled_back, options.load.transactions);
    EXPECT_GT(report->committed, 0);
    EXPECT_GT(report->rolled_back, 0);
    EXPECT_GT(report->meddled, 0) << "nobody finished a branch of others, so nothing was proven about that";
    EXPECT_EQ(report->disturbed, 0) << "sessions were ended that had no branch any more";
    if (AnyMakesGhosts()) {
      EXPECT_GT(report->ghosts_healed, 0);
    } else {
      EXPECT_EQ(report->ghosts_healed, 0) << "where PREPARE lets go of a branch nothing can be lost sight of";
      EXPECT_EQ(report->came_back, 0);
    }
  }
};

TEST_F(RaceTest, NothingIsReportedThatIsNotSo) {
  RaceOptions options = Sized(8000, /*binlog=*/true);
  if (!BothMakeGhosts()) {
    // PostgreSQL starts a process for each connection, so this one takes longer, and proves the same with fewer.
    options.load.transactions = 2000;
    options.load.ghost_fraction = kMoreGhosts;
  }
  ExpectNoViolation(options);
}

TEST_F(RaceTest, NothingIsReportedThatIsNotSoWithoutABinaryLog) {
  if (!AnyMakesGhosts()) GTEST_SKIP() << "the binary log is what MariaDB heals ghosts with, and none can be made here";
  RaceOptions options = Sized(2000, /*binlog=*/false);
  if (!BothMakeGhosts()) {
    options.load.transactions = 500;
    options.load.ghost_fraction = kMoreGhosts;
  }
  ExpectNoViolation(options);
}

TEST_F(RaceTest, WithoutEvidenceTheRaceIsLost) {
  if (!BothMakeGhosts()) GTEST_SKIP() << "where PREPARE lets go of a branch, the OK that it believes is proof";
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
