#include "base/fault_point.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/fixtures/process.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

constexpr char kProduct[] = "base/fault_point_probe";
constexpr char kWithFaultPoints[] = "base/fault_point_probe_with_fault_points";

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class FaultPointTest : public testing::Test {
 protected:
  // Starts the probe, which passes sdk.vote.before three times, with `fault` in its environment.
  void StartProbe(const std::string& program, const std::string& fault) {
    SpawnOptions options;
    options.output_path = output_;
    const auto pid = Spawn({"/usr/bin/env", absl::StrCat("ASSENT_FAULT_POINT=", fault), program, "3"}, options);
    ASSERT_TRUE(pid.ok()) << pid.status();
    pid_ = *pid;
  }
  int ExitCode() { return WaitForExit(pid_, absl::Minutes(1)).value_or(-1); }
  bool Held() const { return access(file_.c_str(), F_OK) == 0; }
  bool AwaitHeld() const {
    for (int i = 0; i < 6000 && !Held(); ++i) absl::SleepFor(absl::Milliseconds(10));
    return Held();
  }

  const TempDir dir_ = *TempDir::Create();
  const std::string file_ = dir_.path() + "/here";
  const std::string output_ = dir_.path() + "/output";
  pid_t pid_ = 0;
};

TEST_F(FaultPointTest, HoldsTheNthTimeUntilTheFileIsGone) {
  StartProbe(kWithFaultPoints, absl::StrCat("sdk.vote.before:2:", file_));
  ASSERT_TRUE(AwaitHeld());
  EXPECT_EQ(ReadAll(output_), "1\n");
  EXPECT_FALSE(WaitForExit(pid_, absl::Milliseconds(200)));
  EXPECT_EQ(ReadAll(output_), "1\n");
  std::remove(file_.c_str());
  EXPECT_EQ(ExitCode(), 0);
  EXPECT_EQ(ReadAll(output_), "1\n2\n3\n");
}

TEST_F(FaultPointTest, OtherPointsAndOtherTimesArePassed) {
  for (const char* fault : {"sdk.start.before:1:", "sdk.vote.before:4:"}) {
    std::remove(output_.c_str());
    StartProbe(kWithFaultPoints, fault + file_);
    EXPECT_EQ(ExitCode(), 0);
    EXPECT_EQ(ReadAll(output_), "1\n2\n3\n");
    EXPECT_FALSE(Held());
  }
}

TEST_F(FaultPointTest, WhatCannotBeReadIsAnError) {
  StartProbe(kWithFaultPoints, "sdk.vote.before");
  EXPECT_EQ(ExitCode(), 128 + 6);  // SIGABRT
}

TEST_F(FaultPointTest, TheProductPassesThemAll) {
  StartProbe(kProduct, absl::StrCat("sdk.vote.before:1:", file_));
  EXPECT_EQ(ExitCode(), 0);
  EXPECT_FALSE(Held());
}

TEST_F(FaultPointTest, NamesAreUniqueAndTheProductHoldsNoneOfThem) {
  const std::string product = ReadAll("coordinator/assentd");
  const std::string with_fault_points = ReadAll(kWithFaultPoints);
  ASSERT_GT(product.size(), 100000u);
  std::set<absl::string_view> names;
  for (const FaultPointInfo& info : AllFaultPoints()) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_EQ(&InfoOf(info.point), &info);
    EXPECT_FALSE(absl::StrContains(product, info.name)) << info.name;
    EXPECT_TRUE(absl::StrContains(with_fault_points, info.name)) << info.name;
  }
  EXPECT_FALSE(absl::StrContains(product, "ASSENT_FAULT_POINT"));
  EXPECT_TRUE(absl::StrContains(with_fault_points, "ASSENT_FAULT_POINT"));
}

}  // namespace
}  // namespace assent
