#include "tests/bench/report.h"

#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

using ::testing::HasSubstr;

std::vector<Row> SomeRows() {
  Row raw;
  raw.workers = 16;
  raw.ratio = 1;
  Row one;
  one.contender = Contender::kOneProcess;
  one.workers = 16;
  one.ratio = 0.5;
  one.p50_ratio = 1.25;
  one.p99_ratio = 1.5;
  one.window.coordinator_syncs = 0.25;
  Row split = one;
  split.contender = Contender::kSplitProcesses;
  return {raw, one, split};
}

TEST(ReportTest, FiguresGoToAFileAndBack) {
  Figures figures;
  AddFigures(SomeRows(), "", &figures);
  EXPECT_EQ(figures, (Figures{{"one_process_16", 0.5},
                              {"p50_ratio_16", 1.25},
                              {"p99_ratio_16", 1.5},
                              {"forced_writes_per_commit_16", 0.25},
                              {"split_processes_16", 0.5}}));
  const TempDir dir = *TempDir::Create();
  ASSERT_TRUE(WriteJson(figures, dir.path() + "/a.json").ok());
  const absl::StatusOr<Figures> read = ReadJson(dir.path() + "/a.json");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, figures);
  EXPECT_THAT(Compare({{"one_process_16", 0.75}, {"new", 1}}, figures), HasSubstr("0.750, was        0.500: 1.50"));
}

TEST(ReportTest, WhatIsNotAReportIsRefused) {
  const TempDir dir = *TempDir::Create();
  EXPECT_EQ(ReadJson(dir.path() + "/nothing").status().code(), absl::StatusCode::kInvalidArgument);
  std::ofstream(dir.path() + "/text") << "one_process_16: 0.5";
  EXPECT_EQ(ReadJson(dir.path() + "/text").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(WriteJson({}, dir.path() + "/no/such/folder").code(), absl::StatusCode::kInternal);
}

TEST(ReportTest, TheChartHasABarForEachRow) {
  const std::string svg = Svg(SomeRows(), "title");
  EXPECT_THAT(svg, HasSubstr("one process, 16 workers"));
  EXPECT_THAT(svg, HasSubstr("width='200'"));  // Half of the raw loop's 400.
}

}  // namespace
}  // namespace assent
