// How many transitions a second the SQLite store takes, lazy and forced, at several numbers in flight.
//
//   store_bench [folder]     The folder (default /tmp) should lie on the disk in question.
//
// One transition in five creates a global transaction, three change it, one finishes it: what a two-branch transaction
// asks of its store. Each chain waits for its own last transition, so "in flight" is the number of chains.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/xid.h"
#include "store/sqlite_store.h"

namespace assent {
namespace {

constexpr int kTransitionsPerGlobal = 5;

GlobalPtr Record(const std::string& gtrid, const std::string& request_id, int64_t revision) {
  auto global = std::make_shared<v1::Global>();
  global->set_gtrid(gtrid);
  global->set_request_id(request_id);
  global->set_revision(revision);
  global->set_state(revision == kTransitionsPerGlobal ? v1::Global::STATE_COMMITTED : v1::Global::STATE_ACTIVE);
  global->mutable_create_time()->set_seconds(1700000000);
  global->mutable_expire_time()->set_seconds(1700000060);
  for (const char* const name : {"orders", "payments"}) {
    v1::Branch* const branch = global->add_branches();
    branch->set_bqual(absl::StrCat(name, "-1"));
    branch->set_resource(name);
    branch->set_state(revision > 2 ? v1::Branch::STATE_PREPARED : v1::Branch::STATE_ACTIVE);
    branch->set_witness_table("assent.witness");
    branch->mutable_create_time()->set_seconds(1700000000);
    branch->mutable_update_time()->set_seconds(1700000001);
  }
  return global;
}

// The records of `count` global transactions, in order of revision: made beforehand, so that the store is what is
// measured.
std::vector<GlobalPtr> MakeRecords(int64_t count) {
  std::vector<GlobalPtr> records;
  records.reserve(count * kTransitionsPerGlobal);
  for (int64_t i = 0; i < count; ++i) {
    const std::string gtrid = NewGtrid("bench", absl::Now());
    const std::string request_id = NewRequestId();
    for (int revision = 1; revision <= kTransitionsPerGlobal; ++revision) {
      records.push_back(Record(gtrid, request_id, revision));
    }
  }
  return records;
}

// One global transaction after the other until none is left.
class Chain {
 public:
  Chain(Store* store, const std::vector<GlobalPtr>* records, std::atomic<int64_t>* next, std::atomic<int64_t>* failed,
        std::function<void()> ended, bool all_forced, bool decisions_forced)
      : store_(store),
        records_(records),
        next_(next),
        failed_(failed),
        ended_(std::move(ended)),
        all_forced_(all_forced),
        decisions_forced_(decisions_forced) {}

  void Step() {
    if (revision_ == 0) first_ = next_->fetch_add(kTransitionsPerGlobal);
    if (first_ >= static_cast<int64_t>(records_->size())) return ended_();
    ++revision_;
    Transition transition;
    transition.next = (*records_)[first_ + revision_ - 1];
    transition.expected_revision = revision_ - 1;
    const bool forced = all_forced_ || (decisions_forced_ && revision_ == 4);
    transition.durability = forced ? Durability::kForced : Durability::kLazy;
    if (revision_ == kTransitionsPerGlobal) revision_ = 0;
    store_->Submit(std::move(transition), [this](TransitionResult result) {
      if (result.code != TransitionResult::Code::kApplied) ++*failed_;
      Step();
    });
  }

 private:
  Store* const store_;
  const std::vector<GlobalPtr>* const records_;
  std::atomic<int64_t>* const next_;
  std::atomic<int64_t>* const failed_;
  const std::function<void()> ended_;
  const bool all_forced_;
  const bool decisions_forced_;
  int64_t first_ = 0;
  int64_t revision_ = 0;
};

enum class Mode { kLazy, kDecisions, kForced };

void Measure(const std::string& folder, Mode mode, int in_flight, int64_t globals) {
  const std::string path = absl::StrCat(folder, "/bench.db");
  SqliteOptions options;
  options.path = path;
  options.cluster = "bench";
  absl::StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open(options);
  if (!store.ok()) {
    std::fprintf(stderr, "%s\n", store.status().ToString().c_str());
    return;
  }
  const std::vector<GlobalPtr> records = MakeRecords(globals);
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> failed{0};
  Mutex mu;
  CondVar changed;
  int running = in_flight;
  std::vector<std::unique_ptr<Chain>> chains;
  for (int i = 0; i < in_flight; ++i) {
    chains.push_back(std::make_unique<Chain>(
        store->get(), &records, &next, &failed,
        [&] {
          MutexLock lock(&mu);
          --running;
          changed.NotifyAll();
        },
        mode == Mode::kForced, mode == Mode::kDecisions));
  }
  const auto begin = std::chrono::steady_clock::now();
  for (const auto& chain : chains) chain->Step();
  {
    MutexLock lock(&mu);
    while (running > 0) changed.Wait(&mu);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const StoreStats stats = (*store)->Stats();
  static constexpr const char* kModes[] = {"lazy", "decisions forced", "forced"};
  std::printf("%-17s %6d %12.0f %12.1f %10lld %10lld %8lld\n", kModes[static_cast<int>(mode)], in_flight,
              stats.transitions / seconds, static_cast<double>(stats.transitions) / std::max<int64_t>(1, stats.groups),
              static_cast<long long>(stats.forced_groups), static_cast<long long>(stats.checkpoint_syncs),
              static_cast<long long>(failed));
  std::fflush(stdout);
  store->reset();
  for (const char* const suffix : {"", ".lock", "-wal", "-shm"}) std::filesystem::remove(path + suffix);
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) {
  std::string folder = absl::StrCat(argc > 1 ? argv[1] : "/tmp", "/assent_store_bench_XXXXXX");
  if (mkdtemp(&folder[0]) == nullptr) {
    std::perror(folder.c_str());
    return 1;
  }
  std::printf("%-17s %6s %12s %12s %10s %10s %8s\n", "durability", "flight", "changes/s", "per group", "forced",
              "housekeep", "failed");
  for (const auto mode : {assent::Mode::kLazy, assent::Mode::kDecisions, assent::Mode::kForced}) {
    for (const int in_flight : {1, 16, 64, 256, 1024, 4096}) {
      const int64_t globals = in_flight == 1 ? 4000 : in_flight == 16 ? 20000 : 50000;
      assent::Measure(folder, mode, in_flight, globals);
    }
  }
  std::filesystem::remove_all(folder);
  return 0;
}
