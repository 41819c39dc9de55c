#include "store/testing/crash_rig.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace assent {

CrashWriter StartCrashWriter(const std::vector<std::string>& arguments, int round, const std::string& environment) {
  const std::string program = absl::StrCat(std::getenv("TEST_SRCDIR"), "/assent/store/testing/crash_writer",
                                           environment.empty() ? "" : "_with_fault_points");
  std::vector<std::string> words = {program, absl::StrCat(round)};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(&word[0]);
  argv.push_back(nullptr);
  std::string variable = environment;
  int pipe_ends[2];
  if (pipe(pipe_ends) != 0) std::abort();
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(pipe_ends[1], STDOUT_FILENO);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    if (!variable.empty()) putenv(&variable[0]);
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  close(pipe_ends[1]);
  return {pid, pipe_ends[0]};
}

void ReadTold(const std::string& output, std::map<std::string, int64_t>* told) {
  std::istringstream lines(output);
  std::string line;
  while (std::getline(lines, line)) {
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

void CheckToldIsStored(Store* store, const std::map<std::string, int64_t>& told) {
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

}  // namespace assent
