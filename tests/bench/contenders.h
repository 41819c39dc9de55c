// The ways to change a row on each of two servers, side by side on the same servers.
#ifndef ASSENT_TESTS_BENCH_CONTENDERS_H_
#define ASSENT_TESTS_BENCH_CONTENDERS_H_

#include <sys/types.h>

#include <array>
#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "tests/bank/rig.h"
#include "tests/bench/window.h"
#include "tests/fixtures/temp_dir.h"
#include "tests/profile/sync_counter.h"

namespace assent {

enum class Contender {
  // The same SQL and two-phase verbs over the same number of connections, each phase sent to both servers before an
  // answer is awaited: no coordinator, no record, no witness. Who dies between the phases leaves locks that nobody
  // frees.
  kRaw,
  kOneProcess,      // The C++ SDK; both branches in the process that commits.
  kSplitProcesses,  // The C++ SDK; each branch in a process of its own, and a third that begins and waits for both.
  kLocal,           // Two local commits: not atomic, for scale.
  kOneLocal,        // One local commit, on the first server.
  kOneBranch,       // The C++ SDK with a branch there and no other: committed in one phase where that can be.
};
// Those that change a row on both servers, and those that change one on the first only. The first of each is what the
// others are compared to.
constexpr std::array<Contender, 4> kTwoBranches = {Contender::kRaw, Contender::kOneProcess, Contender::kSplitProcesses,
                                                   Contender::kLocal};
constexpr std::array<Contender, 2> kOneBranches = {Contender::kOneLocal, Contender::kOneBranch};
// "raw", "one process", …
std::string NameOf(Contender contender);

struct BenchRigOptions {
  std::array<v1::Resource::Engine, kBankServers> engines = {v1::Resource::ENGINE_MARIADB, v1::Resource::ENGINE_MARIADB};
  // Added to every forced write of the servers and of assentd.
  absl::Duration slow_disk = absl::ZeroDuration();
};

// Two servers and assentd on an SQLite store, whose forced writes are counted, and a participant process for each
// server. Dies if something cannot be started or fails. Thread-compatible.
class BenchRig {
 public:
  explicit BenchRig(const BenchRigOptions& options);
  ~BenchRig();

  // One of them for some time, by up to 64 workers, and what it costs.
  Window Measure(Contender contender, int workers, absl::Duration length);

 private:
  struct Costs;
  class Counters;
  // What makes a worker's transaction, in the worker's own thread.
  std::function<std::function<void()>(int)> StarterOf(Contender contender, Counters* counters);
  Costs CostsSoFar(const Counters& counters) const;
  std::string ParticipantSocket(size_t server) const;

  const TempDir folder_ = *TempDir::Create("bench");
  const SyncCounter coordinator_syncs_{folder_.path() + "/coordinator.syncs"};
  const SyncCounter database_syncs_{folder_.path() + "/database.syncs"};
  std::unique_ptr<BankRig> bank_;
  std::array<pid_t, kBankServers> participants_ = {};
};

}  // namespace assent

#endif  // ASSENT_TESTS_BENCH_CONTENDERS_H_
