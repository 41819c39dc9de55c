// Disaster at every step: kills, cuts and delays at each fault point, and every transaction ends as it must, by itself.
#include "tests/recovery/crash_matrix.h"

#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "gtest/gtest.h"
#include "tests/fixtures/databases.h"
#include "tests/recovery/crash_lane.h"

namespace assent {
namespace {

// Cells wait most of the time: for leases, deadlines and servers that start.
constexpr int kMaxLanes = 8;

std::string& update_path() {
  static auto* const path = new std::string();
  return *path;
}
// Only cells whose name contains it.
std::string& only() {
  static auto* const name = new std::string();
  return *name;
}

struct Job {
  size_t row;
  Disaster disaster;
};

std::string CellName(const Row& row, Disaster disaster) {
  return absl::StrCat(NameOf(row), " ", Name(row.flow), " x ", Name(disaster));
}

bool EveryServerDetaches() { return RecoveryRig::Detaches(0) && RecoveryRig::Detaches(1); }

// With two engines each cell strikes what the runs with one engine have struck, too: a random half of them, another one
// each time, is enough.
bool TakesAllCells() { return EngineOfServer(0) == EngineOfServer(1) || !only().empty(); }

// Cells that have not run yet, given out to the lanes one by one; and what came of those that have.
class Board {
 public:
  explicit Board(uint64_t seed) {
    const absl::Span<const Row> rows = AllRows();
    cells_.resize(rows.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      for (const Disaster disaster : kAllDisasters) {
        const bool exists = EndingOf(rows[i], disaster) != Ending::kNoSuchCell &&
                            !(rows[i].only_attached && EveryServerDetaches()) &&
                            !(rows[i].only_one_phase && EngineOfServer(0) != v1::Resource::ENGINE_MARIADB);
        cells_[i].emplace_back(exists ? "not run" : Shown(Ending::kNoSuchCell));
        if (!exists) continue;
        if (absl::StrContains(CellName(rows[i], disaster), only())) waiting_.push_back({i, disaster});
      }
    }
    if (!TakesAllCells()) {
      std::shuffle(waiting_.begin(), waiting_.end(), std::mt19937_64(seed));
      waiting_.resize((waiting_.size() + 1) / 2);
    }
    jobs_ = waiting_.size();
  }

  // One that has not been given out, for servers with or without a binary log.
  absl::optional<Job> Take(bool binary_log) {
    MutexLock lock(&mutex_);
    const auto fits = [&](const Job& job) { return !binary_log || !AllRows()[job.row].only_one_phase; };
    const auto it = std::find_if(waiting_.begin(), waiting_.end(), fits);
    if (it == waiting_.end()) return absl::nullopt;
    const Job job = *it;
    waiting_.erase(it);
    return job;
  }
  void Note(const Job& job, const CellResult& result, absl::Duration took) {
    const Row& row = AllRows()[job.row];
    MutexLock lock(&mutex_);
    std::cout << CellName(row, job.disaster) << ": " << Shown(result.ending) << " in "
              << absl::FormatDuration(absl::Trunc(took, absl::Milliseconds(1)))
              << (result.problem.empty() ? "" : " FAILED: ") << result.problem << std::endl;
    std::string& cell = cells_[job.row][static_cast<size_t>(job.disaster)];
    if (result.problem.empty()) {
      cell = std::string(Shown(EndingOf(row, job.disaster)));
      return;
    }
    cell = absl::StrCat(Shown(result.ending), "!");
    problems_.push_back(absl::StrCat(CellName(row, job.disaster), " (", result.gtrid, "): ", result.problem));
  }
  void Complain(const std::string& problem) {
    MutexLock lock(&mutex_);
    problems_.push_back(problem);
  }

  // Once the lanes have ended.
  size_t jobs() const { return jobs_; }
  const std::vector<std::vector<std::string>>& cells() const { return cells_; }
  const std::vector<std::string>& problems() const { return problems_; }

 private:
  size_t jobs_ = 0;
  Mutex mutex_;
  std::vector<Job> waiting_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::vector<std::string>> cells_;
  std::vector<std::string> problems_;
};

void RunLane(bool binary_log, Board* board) {
  const absl::StatusOr<std::unique_ptr<CrashLane>> lane = CrashLane::Start(binary_log);
  if (!lane.ok()) {
    board->Complain(lane.status().ToString());
    return;
  }
  while (const absl::optional<Job> job = board->Take(binary_log)) {
    const absl::Time begin = absl::Now();
    const CellResult result = (*lane)->Run(AllRows()[job->row], job->disaster);
    board->Note(*job, result, absl::Now() - begin);
  }
  for (const std::string& problem : (*lane)->LookAgain()) board->Complain(problem);
}

TEST(CrashMatrixTest, EveryFaultPointHasARow) {
  std::set<FaultPoint> struck;
  for (const Row& row : AllRows()) {
    struck.insert(row.point);
    ASSERT_EQ(row.endings.size(), std::size(kAllDisasters)) << NameOf(row);
  }
  for (const FaultPointInfo& info : AllFaultPoints()) EXPECT_EQ(struck.count(info.point), 1u) << info.name;
}

TEST(CrashMatrixTest, EveryCellEndsAsItMust) {
  if (const std::string why = WhyNotHere(); !why.empty()) GTEST_SKIP() << why;
  const auto seed = static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed());
  if (!TakesAllCells()) std::cout << "half of the cells, by the seed " << seed << std::endl;
  Board board(seed);
  std::vector<std::thread> lanes;
  for (size_t i = 0; i < std::min<size_t>(kMaxLanes, board.jobs()); ++i)
    lanes.emplace_back([&board, i] { RunLane(/*binary_log=*/i % 2 == 1, &board); });
  for (std::thread& lane : lanes) lane.join();
  for (const std::string& problem : board.problems()) ADD_FAILURE() << problem;
  ASSERT_GT(board.jobs(), 0u);

  const std::string page = CrashMatrixMarkdown(board.cells());
  std::cout << page << board.jobs() << " cells, " << board.problems().size() << " problems" << std::endl;
  // The page is about MariaDB.
  if (!only().empty() || RunsOn(v1::Resource::ENGINE_POSTGRESQL) || RunsOn(v1::Resource::ENGINE_MYSQL)) return;
  if (!update_path().empty()) {
    std::ofstream(update_path()) << page;
    return;
  }
  std::ifstream file("docs/crash-matrix.md");
  const std::string committed((std::istreambuf_iterator<char>(file)), {});
  EXPECT_EQ(committed, page)
      << "docs/crash-matrix.md is not what this run has shown; its top says how to write it anew";
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (absl::ConsumePrefix(&argument, "--update=")) assent::update_path() = std::string(argument);
    if (absl::ConsumePrefix(&argument, "--only=")) assent::only() = std::string(argument);
  }
  return RUN_ALL_TESTS();
}
