// kill -9 at random moments: nothing that was told is lost, and nothing is there that was not asked for.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "store/sqlite_store.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

constexpr int kRounds = 50;

struct Child {
  pid_t pid;
  int output;
};

Child StartWriter(const std::string& store, int round) {
  const std::string program = absl::StrCat(std::getenv("TEST_SRCDIR"), "/assent/store/testing/crash_writer");
  const std::string round_text = absl::StrCat(round);
  int pipe_ends[2];
  if (pipe(pipe_ends) != 0) std::abort();
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(pipe_ends[1], STDOUT_FILENO);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    execl(program.c_str(), program.c_str(), store.c_str(), round_text.c_str(), static_cast<char*>(nullptr));
    _exit(127);
  }
  close(pipe_ends[1]);
  return {pid, pipe_ends[0]};
}

// What the child told before it died: the highest revision of each gtrid.
void ReadTold(std::istream* lines, std::map<std::string, int64_t>* told) {
  std::string line;
  while (std::getline(*lines, line)) {
    if (line == "ready") continue;
    ASSERT_NE(line[0], '!') << line;
    std::istringstream words(line);
    std::string gtrid;
    int64_t revision = 0;
    ASSERT_TRUE(words >> gtrid >> revision) << line;
    EXPECT_EQ(revision, (*told)[gtrid] + 1) << "told out of order: " << line;
    (*told)[gtrid] = revision;
  }
}

void CheckStore(Store* store, const std::map<std::string, int64_t>& told) {
  std::map<std::string, int64_t> stored;
  ListQuery query;
  query.page_size = 1000;
  do {
    const absl::StatusOr<ListPage> page = store->List(query);
    ASSERT_TRUE(page.ok()) << page.status();
    for (const GlobalPtr& global : page->globals) stored[global->gtrid()] = global->revision();
    query.page_token = page->next_page_token;
  } while (!query.page_token.empty());
  for (const auto& [gtrid, revision] : told) {
    ASSERT_TRUE(stored.count(gtrid)) << gtrid << " was told APPLIED and is gone";
    EXPECT_GE(stored[gtrid], revision) << gtrid;
  }
  for (const auto& [gtrid, revision] : stored) {
    // At most the one transition that was on its way.
    const auto found = told.find(gtrid);
    EXPECT_LE(revision, found == told.end() ? 1 : found->second + 1) << gtrid;
  }
}

TEST(SqliteCrashTest, WhatWasToldSurvivesKillAtAnyMoment) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  TempFolder folder;
  std::map<std::string, int64_t> told;
  for (int round = 0; round < kRounds; ++round) {
    const Child child = StartWriter(folder.File("store.db"), round);
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
    std::istringstream lines(output.str());
    ReadTold(&lines, &told);
    if (HasFatalFailure()) return;

    SqliteOptions options;
    options.path = folder.File("store.db");
    options.cluster = "crash";
    absl::StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open(options);
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_FALSE((*store)->MayHaveLostLazyWrites());
    CheckStore(store->get(), told);
    if (HasFailure()) return;
  }
  EXPECT_GT(told.size(), 200u);  // Else it was killed before it did anything.
}

}  // namespace
}  // namespace assent
