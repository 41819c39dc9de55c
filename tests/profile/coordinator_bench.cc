// What a decision costs on each store, from end to end: real assentd processes, callers over gRPC, and branches that
// nobody runs at any database, so that the coordinator and its store are all there is to measure.
//
//   coordinator_bench [rounds [seconds]]    The folder for the stores is TMPDIR; 3 rounds of windows of 4 s.
//
// Each caller makes one two-branch transaction after the other: CreateGlobal with both branches, Finalize(COMMIT) with
// both votes, which returns when that is decided, and Completed for 16 transactions at a time, as an SDK reports them.
// The stores take turns within each round, so that the machine's moods meet them alike.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/address.h"
#include "glog/logging.h"
#include "mariadb/connection.h"
#include "tests/bench/noop_caller.h"
#include "tests/bench/window.h"
#include "tests/fixtures/assentd.h"
#include "tests/fixtures/coordinator_api.h"
#include "tests/fixtures/private_mariadb.h"
#include "tests/fixtures/temp_dir.h"
#include "tests/profile/sync_counter.h"

namespace assent {
namespace {

// A store, and the coordinators on it.
struct Contender {
  std::string name;
  std::shared_ptr<SyncCounter> syncs;  // Of the process that forces the store's writes.
  std::vector<std::unique_ptr<Assentd>> instances;
  std::unique_ptr<MariaDbConnection> statements;  // Null: not counted.
};

struct StoreWindow {
  double per_second = 0;
  double finalize_p50_ms = 0;
  double syncs = 0;   // For each transaction.
  double writes = 0;  // Likewise; -1: not counted.
};

// The server's count of statements that write rows.
int64_t WritingStatements(MariaDbConnection* connection) {
  const QueryResult answer = connection->Query(
      "SHOW GLOBAL STATUS WHERE Variable_name IN ('Com_insert', 'Com_update', 'Com_delete', 'Com_replace')");
  CHECK(answer.ok()) << answer.error.message;
  int64_t count = 0;
  for (const auto& row : answer.rows()) count += std::stoll(row[1].value());
  return count;
}

// What one caller does until `stop`: one transaction after the other.
class Caller {
 public:
  explicit Caller(ClientState* client) : caller_(client) {}

  void Run(const std::atomic<bool>& stop) {
    while (!stop) finalize_.push_back(caller_.Transact());
  }
  const std::vector<absl::Duration>& finalize() const { return finalize_; }

 private:
  NoopCaller caller_;
  std::vector<absl::Duration> finalize_;
};

StoreWindow Measure(const Contender& contender, int callers, absl::Duration length) {
  const int64_t syncs_before = contender.syncs->Count();
  const int64_t writes_before = contender.statements == nullptr ? 0 : WritingStatements(contender.statements.get());
  std::atomic<bool> stop{false};
  std::vector<std::unique_ptr<ClientState>> clients;
  for (const auto& instance : contender.instances) {
    clients.push_back(std::make_unique<ClientState>(instance->address(), ClientOptions()));
  }
  std::vector<std::unique_ptr<Caller>> all;
  std::vector<std::thread> threads;
  const absl::Time begin = absl::Now();
  for (int i = 0; i < callers; ++i) {
    all.push_back(std::make_unique<Caller>(clients[static_cast<size_t>(i) % clients.size()].get()));
    threads.emplace_back([caller = all.back().get(), &stop] { caller->Run(stop); });
  }
  absl::SleepFor(length);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  std::vector<absl::Duration> finalize;
  for (const auto& caller : all) finalize.insert(finalize.end(), caller->finalize().begin(), caller->finalize().end());
  std::sort(finalize.begin(), finalize.end());
  const auto count = static_cast<double>(finalize.size());
  StoreWindow window;
  window.per_second = count / seconds;
  window.finalize_p50_ms = absl::ToDoubleMilliseconds(finalize[finalize.size() / 2]);
  window.syncs = static_cast<double>(contender.syncs->Count() - syncs_before) / count;
  window.writes = contender.statements == nullptr
                      ? -1
                      : static_cast<double>(WritingStatements(contender.statements.get()) - writes_before) / count;
  return window;
}

void StartInstance(Assentd::Options options, Contender* contender) {
  // No branch is ever at a database, so none is to be looked for.
  options.extra = {"--recovery-patience=1h", "--sweep-interval=1h"};
  auto instance = Assentd::Start(std::move(options));
  CHECK(instance.ok()) << instance.status();
  const absl::Status registered = CoordinatorApi((*instance)->address()).RegisterNowhere(NoopCaller::kNowhere);
  CHECK(registered.ok()) << registered;
  contender->instances.push_back(*std::move(instance));
}

Contender OnSqlite(const TempDir& dir) {
  Contender contender;
  contender.name = "SQLite, 1 instance";
  contender.syncs = std::make_shared<SyncCounter>(dir.path() + "/sqlite.syncs");
  Assentd::Options options;
  options.store = dir.path() + "/bench.db";
  options.environment = contender.syncs->Environment();
  StartInstance(std::move(options), &contender);
  return contender;
}

Contender OnMariaDb(const PrivateMariaDb& server, const std::shared_ptr<SyncCounter>& syncs, int instances) {
  Contender contender;
  contender.name = absl::StrCat("MariaDB, ", instances, instances == 1 ? " instance" : " instances");
  contender.syncs = syncs;
  for (int i = 0; i < instances; ++i) {
    Assentd::Options options;
    options.UseStore(server, absl::StrCat("bench", instances));
    StartInstance(std::move(options), &contender);
  }
  ConnectOptions options;
  options.address = *ParseAddress(server.unix_address());
  options.user = server.user();
  options.password = server.password();
  auto connection = MariaDbConnection::Connect(options);
  CHECK(connection.ok()) << connection.status();
  contender.statements = *std::move(connection);
  return contender;
}

int Main(int rounds, absl::Duration length) {
  const absl::StatusOr<TempDir> dir = TempDir::Create("coordinator_bench");
  CHECK(dir.ok()) << dir.status();
  const auto syncs = std::make_shared<SyncCounter>(dir->path() + "/mariadb.syncs");
  std::unique_ptr<PrivateMariaDb> server;
  {
    ScopedEnvironment environment(syncs->Environment());
    PrivateMariaDb::Options options;
    options.extra = {"--innodb-buffer-pool-size=512M", "--innodb-log-file-size=512M"};
    auto started = PrivateMariaDb::Start(options);
    CHECK(started.ok()) << started.status();
    server = *std::move(started);
  }
  std::vector<Contender> contenders;
  contenders.push_back(OnSqlite(*dir));
  for (const int instances : {1, 2, 3}) contenders.push_back(OnMariaDb(*server, syncs, instances));

  std::printf("%-22s %8s %14s %16s %10s %10s %10s %10s\n", "store", "callers", "decided/s", "Finalize p50 ms",
              "syncs/tx", "writes/tx", "of SQLite", "its p50");
  for (const int callers : {1, 16, 64}) {
    std::vector<std::vector<StoreWindow>> windows(contenders.size());
    for (int round = 0; round < rounds; ++round) {
      for (size_t i = 0; i < contenders.size(); ++i) windows[i].push_back(Measure(contenders[i], callers, length));
    }
    const auto median = [&](size_t contender, double StoreWindow::*what) {
      std::vector<double> values;
      for (const StoreWindow& window : windows[contender]) values.push_back(window.*what);
      return Median(values);
    };
    for (size_t i = 0; i < contenders.size(); ++i) {
      if (static_cast<int>(contenders[i].instances.size()) > callers) continue;
      const double writes = median(i, &StoreWindow::writes);
      std::printf("%-22s %8d %14.0f %16.3f %10.2f %10s %10.2f %10.2f\n", contenders[i].name.c_str(), callers,
                  median(i, &StoreWindow::per_second), median(i, &StoreWindow::finalize_p50_ms),
                  median(i, &StoreWindow::syncs),
                  writes < 0 ? "-" : absl::StrCat(std::round(writes * 100) / 100).c_str(),
                  median(i, &StoreWindow::per_second) / median(0, &StoreWindow::per_second),
                  median(i, &StoreWindow::finalize_p50_ms) / median(0, &StoreWindow::finalize_p50_ms));
      std::fflush(stdout);
    }
  }
  return 0;
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) {
  FLAGS_minloglevel = google::GLOG_ERROR;
  int rounds = 3;
  int seconds = 4;
  if ((argc > 1 && (!absl::SimpleAtoi(argv[1], &rounds) || rounds < 1)) ||
      (argc > 2 && (!absl::SimpleAtoi(argv[2], &seconds) || seconds < 1)) || argc > 3) {
    std::fprintf(stderr, "usage: coordinator_bench [rounds [seconds]]\n");
    return 2;
  }
  return assent::Main(rounds, absl::Seconds(seconds));
}
