// kill -9 at random moments: nothing that was told is lost, and nothing is there that was not asked for.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "store/sqlite_store.h"
#include "store/testing/crash_rig.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

constexpr int kRounds = 50;

TEST(SqliteCrashTest, WhatWasToldSurvivesKillAtAnyMoment) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  TempFolder folder;
  std::map<std::string, int64_t> told;
  for (int round = 0; round < kRounds; ++round) {
    const CrashWriter child = StartCrashWriter({folder.File("store.db")}, round);
    std::ostringstream output;
    char buffer[65536];
    // The moment counts from when it is ready, except in some rounds that hit the opening.
    const bool hit_opening = round % 10 == 9;
    if (!hit_opening) {
      const ssize_t size = read(child.output, buffer, sizeof(buffer));
      ASSERT_GT(size, 0);
      output.write(buffer, size);
    }
    std::thread killer([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % (hit_opening ? 20000 : 40000)));
      kill(child.pid, SIGKILL);
    });
    for (ssize_t size; (size = read(child.output, buffer, sizeof(buffer))) > 0;) output.write(buffer, size);
    killer.join();
    int status = 0;
    waitpid(child.pid, &status, 0);
    close(child.output);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << output.str();
    ReadTold(output.str(), &told);
    if (HasFatalFailure()) return;

    SqliteOptions options;
    options.path = folder.File("store.db");
    options.cluster = "crash";
    absl::StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open(options);
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_FALSE((*store)->MayHaveLostLazyWrites());
    CheckToldIsStored(store->get(), told);
    if (HasFailure()) return;
  }
  EXPECT_GT(told.size(), 200u);  // Else it was killed before it did anything.
}

}  // namespace
}  // namespace assent
