// The bank under kills of everything. tools/soak bank makes it longer.
#include "tests/bank/chaos.h"

#include <iostream>
#include <random>

#include "gtest/gtest.h"

namespace assent {
namespace {

TEST(ChaosTest, WhateverIsKilledNothingIsLostOrHalfDone) {
  if (!WhyNotHere().empty()) GTEST_SKIP() << WhyNotHere();
  ChaosOptions options;
  options.seed = std::random_device{}();
  std::cout << "seed " << options.seed << "\n";
  const absl::StatusOr<ChaosReport> report = RunChaos(options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->bank.violations, 0) << TextOf(report->bank);
  EXPECT_GT(report->bank.committed, 20) << "hardly anything went through";
  EXPECT_GT(report->coordinator_kills, 0);
  EXPECT_GT(report->database_kills, 0);
  EXPECT_GT(report->worker_kills, 0);
  std::cout << report->coordinator_kills << "/" << report->database_kills << "/" << report->worker_kills
            << " kills of the coordinator, databases and workers; " << report->bank.committed << " committed, "
            << report->bank.rolled_back << " rolled back, " << report->bank.in_doubt << " in doubt\n";
}

}  // namespace
}  // namespace assent
