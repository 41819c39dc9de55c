// What the stores cost: transitions a second, the time until a decision is durable, statements and forced writes;
// SQLite and MariaDB (a private server; one, two and three instances) in one run, on one disk.
//
//   store_bench [folder]     The folder (default /tmp) should lie on the disk in question; TMPDIR on the same.
//
// One transition in five creates a global transaction, three change it, one finishes it: what a two-branch transaction
// asks of its store. Each chain waits for its own last transition, so "in flight" is the number of chains.
#include <glog/logging.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/xid.h"
#include "store/mariadb_store.h"
#include "store/sqlite_store.h"
#include "tests/fixtures/private_mariadb.h"

namespace assent {
namespace {

constexpr int kTransitionsPerGlobal = 5;
constexpr int kDecision = 4;

using Clock = std::chrono::steady_clock;

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

enum class Mode { kLazy, kDecisions, kForced };

// What the chains of one measurement share.
struct Run {
  Mode mode = Mode::kLazy;
  std::vector<GlobalPtr> records;
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> failed{0};
  Mutex mu;
  CondVar changed;
  int running = 0;
  std::vector<double> decision_ms;
};

// One global transaction after the other until none is left.
class Chain {
 public:
  Chain(Run* run, Store* store) : run_(run), store_(store) {}

  void Step() {
    if (revision_ == 0) first_ = run_->next.fetch_add(kTransitionsPerGlobal);
    if (first_ >= static_cast<int64_t>(run_->records.size())) return End();
    ++revision_;
    Transition transition;
    transition.next = run_->records[first_ + revision_ - 1];
    transition.expected_revision = revision_ - 1;
    const bool decision = revision_ == kDecision;
    const bool forced = run_->mode == Mode::kForced || (run_->mode == Mode::kDecisions && decision);
    transition.durability = forced ? Durability::kForced : Durability::kLazy;
    if (revision_ == kTransitionsPerGlobal) revision_ = 0;
    const Clock::time_point begin = Clock::now();
    store_->Submit(std::move(transition), [this, decision, begin](TransitionResult result) {
      if (result.code != TransitionResult::Code::kApplied) ++run_->failed;
      if (decision) took_ms_.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
      Step();
    });
  }

 private:
  void End() {
    MutexLock lock(&run_->mu);
    run_->decision_ms.insert(run_->decision_ms.end(), took_ms_.begin(), took_ms_.end());
    --run_->running;
    run_->changed.NotifyAll();
  }

  Run* const run_;
  Store* const store_;
  int64_t first_ = 0;
  int64_t revision_ = 0;
  std::vector<double> took_ms_;
};

struct Measured {
  double per_second = 0;
  double decision_p50_ms = 0;
  int64_t globals = 0;
};

StoreStats Sum(const std::vector<Store*>& stores) {
  StoreStats sum;
  for (Store* const store : stores) {
    sum.transitions += store->Stats().transitions;
    sum.groups += store->Stats().groups;
  }
  return sum;
}

// One line, but for its end: the stores differ in what else there is to tell.
Measured Measure(absl::string_view name, const std::vector<Store*>& stores, Mode mode, int in_flight, int64_t globals) {
  Run run;
  run.mode = mode;
  run.records = MakeRecords(globals);
  run.running = in_flight;
  const StoreStats before = Sum(stores);
  std::vector<std::unique_ptr<Chain>> chains;
  for (int i = 0; i < in_flight; ++i) chains.push_back(std::make_unique<Chain>(&run, stores[i % stores.size()]));
  const Clock::time_point begin = Clock::now();
  for (const auto& chain : chains) chain->Step();
  {
    MutexLock lock(&run.mu);
    while (run.running > 0) run.changed.Wait(&run.mu);
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const StoreStats after = Sum(stores);
  std::sort(run.decision_ms.begin(), run.decision_ms.end());
  Measured measured = {(after.transitions - before.transitions) / seconds, run.decision_ms[run.decision_ms.size() / 2],
                       globals};
  static constexpr const char* kModes[] = {"lazy", "decisions", "forced"};
  std::printf(
      "%-8s %-10s %6d %11.0f %10.1f %10.3f %8lld", std::string(name).c_str(), kModes[static_cast<int>(mode)], in_flight,
      measured.per_second,
      static_cast<double>(after.transitions - before.transitions) / std::max<int64_t>(1, after.groups - before.groups),
      measured.decision_p50_ms, static_cast<long long>(run.failed));
  return measured;
}

Measured MeasureSqlite(const std::string& folder, Mode mode, int in_flight, int64_t globals) {
  const std::string path = absl::StrCat(folder, "/bench.db");
  SqliteOptions options;
  options.path = path;
  options.cluster = "bench";
  absl::StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open(options);
  if (!store.ok()) {
    std::fprintf(stderr, "%s\n", store.status().ToString().c_str());
    std::exit(1);
  }
  const Measured measured = Measure("SQLite", {store->get()}, mode, in_flight, globals);
  const StoreStats stats = (*store)->Stats();
  // Its own count: SQLite has no other.
  std::printf(" %10.2f\n", static_cast<double>(stats.forced_groups + stats.checkpoint_syncs) / globals);
  std::fflush(stdout);
  store->reset();
  for (const char* const suffix : {"", ".lock", "-wal", "-shm"}) std::filesystem::remove(path + suffix);
  return measured;
}

// What the server counts.
class ServerCounters {
 public:
  explicit ServerCounters(const MariaDbOptions& options) : connection_(*ConnectToStore(options, /*database=*/false)) {}
  // Statements that write rows, and forced writes of its log and its files.
  void Read(int64_t* writes, int64_t* syncs) {
    const QueryResult answer = connection_->Query(
        "SHOW GLOBAL STATUS WHERE Variable_name IN ('Com_insert', 'Com_update', 'Com_delete', 'Com_replace', "
        "'Innodb_data_fsyncs')");
    *writes = *syncs = 0;
    for (const auto& row : answer.rows()) *(TextOf(row[0]) == "Innodb_data_fsyncs" ? syncs : writes) += IntOf(row[1]);
  }

 private:
  std::unique_ptr<MariaDbConnection> connection_;
};

// `instances` that have joined, each with its share of what is in flight.
Measured MeasureMariaDb(MariaDbOptions options, int instances, Mode mode, int in_flight, int64_t globals) {
  static int number = 0;
  options.database = absl::StrCat("bench_", ++number);
  std::vector<std::unique_ptr<MariaDbStore>> owned;
  std::vector<Store*> stores;
  for (int i = 0; i < instances; ++i) {
    absl::StatusOr<std::unique_ptr<MariaDbStore>> store = MariaDbStore::Open(options);
    InstanceInfo info;
    info.address = absl::StrCat("instance", i);
    info.lease = absl::Minutes(10);
    absl::Status status = store.status();
    if (status.ok()) status = (*store)->Members().Join(info).status();
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
      std::exit(1);
    }
    stores.push_back(store->get());
    owned.push_back(*std::move(store));
  }
  ServerCounters counters(options);
  int64_t writes_before, syncs_before, writes, syncs;
  counters.Read(&writes_before, &syncs_before);
  const Measured measured = Measure(absl::StrCat("MariaDB", instances), stores, mode, in_flight, globals);
  counters.Read(&writes, &syncs);
  std::printf(" %10.2f %10.2f", static_cast<double>(syncs - syncs_before) / globals,
              static_cast<double>(writes - writes_before) / globals);
  return measured;
}

int Main(const std::string& folder) {
  PrivateMariaDb::Options server_options;
  server_options.extra = {"--innodb-buffer-pool-size=512M", "--innodb-log-file-size=512M"};
  auto server = PrivateMariaDb::Start(server_options);
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", server.status().ToString().c_str());
    return 1;
  }
  MariaDbOptions options;
  options.address.socket = (*server)->socket();
  options.user = (*server)->user();
  options.password = (*server)->password();
  options.cluster = "bench";
  std::printf("%-8s %-10s %6s %11s %10s %10s %8s %10s %10s %s\n", "store", "durability", "flight", "changes/s",
              "per group", "p50 ms", "failed", "syncs/tx", "writes/tx", "of SQLite: changes/s, p50");
  for (const auto mode : {Mode::kDecisions, Mode::kLazy, Mode::kForced}) {
    for (const int in_flight : {1, 16, 64, 256, 1024}) {
      const int64_t globals = in_flight == 1 ? 1000 : in_flight == 16 ? 4000 : 10000;
      const Measured sqlite = MeasureSqlite(folder, mode, in_flight, globals);
      for (const int instances : {1, 2, 3}) {
        if (instances > in_flight || (instances > 1 && mode != Mode::kDecisions)) continue;
        const Measured mariadb = MeasureMariaDb(options, instances, mode, in_flight, globals);
        std::printf(" %.2f %.2f\n", mariadb.per_second / sqlite.per_second,
                    mariadb.decision_p50_ms / sqlite.decision_p50_ms);
        std::fflush(stdout);
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) {
  FLAGS_minloglevel = google::GLOG_ERROR;  // Every new store is worth a warning, but not here.
  std::string folder = absl::StrCat(argc > 1 ? argv[1] : "/tmp", "/assent_store_bench_XXXXXX");
  if (mkdtemp(&folder[0]) == nullptr) {
    std::perror(folder.c_str());
    return 1;
  }
  const int code = assent::Main(folder);
  std::filesystem::remove_all(folder);
  return code;
}
