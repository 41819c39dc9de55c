// The close-and-reset race at its full size; and the same against a coordinator without evidence, which must be caught.
#include "tests/race/race.h"

#include <iostream>

#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "tests/race/naive_coordinator.h"

namespace assent {
namespace {

// PostgreSQL starts a process for each of two connections a transaction.
int64_t FullSize() { return RunsOn(v1::Resource::ENGINE_POSTGRESQL) ? 2000 : 8000; }

class RaceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = WhyNotHere(); !why.empty()) GTEST_SKIP() << why;
  }
};

RaceOptions Sized(int64_t transactions, bool binlog) {
  RaceOptions options;
  options.load.transactions = transactions;
  options.load.seed = static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed());
  options.binlog = binlog;
  // They are fewer, and where it is honest it is often too late: the coordinator is as quick.
  if (RunsOn(v1::Resource::ENGINE_POSTGRESQL)) options.load.ghost_fraction = 0.05;
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
  if (RunsOn(v1::Resource::ENGINE_MARIADB)) {
    EXPECT_GT(report->ghosts_healed, 0);
  } else {
    EXPECT_EQ(report->ghosts_healed, 0) << "PostgreSQL has none";
    EXPECT_EQ(report->came_back, 0);
  }
}

TEST_F(RaceTest, NothingIsReportedThatIsNotSo) { ExpectNoViolation(Sized(FullSize(), /*binlog=*/true)); }

TEST_F(RaceTest, NothingIsReportedThatIsNotSoWithoutABinaryLog) {
  if (!RunsOn(v1::Resource::ENGINE_MARIADB)) GTEST_SKIP() << "PostgreSQL has no binary log";
  ExpectNoViolation(Sized(FullSize() / 4, /*binlog=*/false));
}

TEST_F(RaceTest, WithoutEvidenceTheRaceIsLost) {
  if (RunsOn(v1::Resource::ENGINE_POSTGRESQL)) {
    GTEST_SKIP() << "on PostgreSQL a prepared branch may be finished at once, and an OK is true: naive is right there";
  }
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
