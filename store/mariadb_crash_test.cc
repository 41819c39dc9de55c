// kill -9 of the writing process, at random moments and at every fault point of a write: nothing that was told is lost,
// nothing is there that was not asked for, and the next one is not kept waiting.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "store/mariadb_store.h"
#include "store/testing/crash_rig.h"
#include "store/testing/mariadb_test_util.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

class MariaDbCrashTest : public testing::Test {
 protected:
  MariaDbCrashTest() : options_(StoreOptions(SharedStoreServer())) {}

  CrashWriter Start(int round, const std::string& environment = "") {
    return StartCrashWriter({options_.address.socket, options_.password, options_.database}, round, environment);
  }

  // Kills the writer when `moment` returns; checks what is stored against what it told.
  template <typename Moment>
  void KillAndCheck(const CrashWriter& child, Moment moment) {
    std::string output;
    char buffer[65536];
    const ssize_t first = read(child.output, buffer, sizeof(buffer));
    ASSERT_GT(first, 0);
    output.assign(buffer, static_cast<size_t>(first));
    std::thread killer([&] {
      moment();
      kill(child.pid, SIGKILL);
    });
    for (ssize_t size; (size = read(child.output, buffer, sizeof(buffer))) > 0;) {
      output.append(buffer, static_cast<size_t>(size));
    }
    killer.join();
    int status = 0;
    waitpid(child.pid, &status, 0);
    close(child.output);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << output;
    ReadTold(output, &told_);
    if (HasFatalFailure()) return;
    const std::unique_ptr<MariaDbStore> store = MustOpenStore(options_);
    const absl::Time begin = absl::Now();
    // What the dead one had in flight is rolled back, or will be in a moment: settling waits for it.
    for (const auto& [gtrid, revision] : told_) {
      if (last_settled_ >= gtrid) continue;
      ASSERT_TRUE(store->Settle(gtrid).ok());
    }
    if (!told_.empty()) last_settled_ = told_.rbegin()->first;
    EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
    CheckToldIsStored(store.get(), told_);
  }

  MariaDbOptions options_;
  std::map<std::string, int64_t> told_;
  std::string last_settled_;
};

TEST_F(MariaDbCrashTest, WhatWasToldSurvivesKillAtAnyMoment) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 15; ++round) {
    KillAndCheck(Start(1000 + round),
                 [&] { std::this_thread::sleep_for(std::chrono::microseconds(random() % 60000)); });
    if (HasFailure()) return;
  }
  EXPECT_GT(told_.size(), 100u);  // Else it was killed before it did anything.
}

TEST_F(MariaDbCrashTest, KilledAtEveryPointOfAWrite) {
  TempFolder folder;
  int round = 2000;
  for (const char* const point :
       {"store.group.before", "store.group.committed", "store.forced.before", "store.forced.committed"}) {
    for (const int time : {1, 2, 7}) {
      SCOPED_TRACE(absl::StrCat(point, " ", time));
      const std::string file = folder.File(absl::StrCat("reached", ++round));
      bool reached = false;
      KillAndCheck(Start(round, absl::StrCat("ASSENT_FAULT_POINT=", point, ":", time, ":", file)), [&] {
        for (int i = 0; i < 2000 && !reached; ++i) {
          reached = std::ifstream(file).good();
          std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
      });
      EXPECT_TRUE(reached) << "the writer never came there";
      if (HasFailure()) return;
    }
  }
}

// A process that stands still in the middle of its writes, is overtaken, and wakes up.
TEST_F(MariaDbCrashTest, TheStoppedWriterIsOvertakenAndWritesNothingWhenItWakes) {
  const std::unique_ptr<MariaDbStore> next = MustOpenStore(options_);
  InstanceInfo info;
  info.address = "next";
  info.lease = absl::Minutes(10);
  ASSERT_TRUE(next->Members().Join(info).ok());
  const CrashWriter child =
      StartCrashWriter({options_.address.socket, options_.password, options_.database, "stale"}, /*round=*/3000);
  std::string output;
  char buffer[65536];
  const auto read_some = [&] {
    pollfd fd = {child.output, POLLIN, 0};
    if (poll(&fd, 1, /*timeout=*/5000) <= 0) return false;
    const ssize_t size = read(child.output, buffer, sizeof(buffer));
    if (size > 0) output.append(buffer, static_cast<size_t>(size));
    return size > 0;
  };
  while (output.size() < 2000 && read_some()) {
  }
  kill(child.pid, SIGSTOP);
  absl::SleepFor(absl::Milliseconds(700));
  const absl::Time begin = absl::Now();
  ASSERT_TRUE(next->Members().Renew(0).ok());
  EXPECT_LT(absl::Now() - begin, absl::Seconds(2));
  const std::vector<Instance> instances = *next->Members().Instances();
  ASSERT_EQ(instances.size(), 2u);
  EXPECT_FALSE(instances[1].alive);

  // From here on nothing changes but by us.
  const auto open = [&] {
    std::map<std::string, int64_t> revisions;
    const absl::StatusOr<std::vector<GlobalPtr>> globals = next->ReadOpen("", 1000);
    EXPECT_TRUE(globals.ok()) << globals.status();
    if (!globals.ok()) return revisions;
    for (const GlobalPtr& global : *globals) revisions[global->gtrid()] = global->revision();
    return revisions;
  };
  const std::map<std::string, int64_t> overtaken = open();
  EXPECT_GT(overtaken.size(), 10u);
  kill(child.pid, SIGCONT);
  for (const absl::Time give_up = absl::Now() + absl::Seconds(20); absl::Now() < give_up;) {
    if (output.find("INSTANCE_FENCED") != std::string::npos || !read_some()) break;
  }
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_EQ(open(), overtaken);
  // What it had in the air is unknown to it, and what came later refused; nothing is told as applied that is not there.
  kill(child.pid, SIGKILL);
  while (read_some()) {
  }
  waitpid(child.pid, nullptr, 0);
  close(child.output);
  EXPECT_NE(output.find("INSTANCE_FENCED"), std::string::npos)
      << output.substr(output.size() - std::min<size_t>(output.size(), 500));
  std::istringstream lines(output);
  std::map<std::string, int64_t> told;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string gtrid;
    int64_t revision = 0;
    if (line[0] != '!' && words >> gtrid >> revision) told[gtrid] = revision;
  }
  for (const auto& [gtrid, revision] : told) {
    const GlobalPtr stored = *next->Read(gtrid);
    ASSERT_NE(stored, nullptr) << gtrid;
    EXPECT_GE(stored->revision(), revision) << gtrid;
  }
}

}  // namespace
}  // namespace assent
