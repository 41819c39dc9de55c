// What a transaction over two databases costs with Assent, beside the raw loop, on each pair of engines, in one run.
//
//   engines_bench [rounds [seconds]]    3 rounds of windows of 3 s
//
// The raw loop: the same statement on each of two servers over the same number of connections, prepared on both, then
// committed on both, each phase sent to both before either answer is awaited; no coordinator, no record, no witness:
// who dies between the phases leaves locks that nobody frees. Assent: the C++ SDK in one process, assentd on SQLite.
// Both take turns within each round, so that the machine's moods meet them alike; the table has medians.
#include <glog/logging.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/xid.h"
#include "participant_sdk/cpp/client.h"
#include "participant_sdk/cpp/global_transaction.h"
#include "resource_manager/database_engine.h"
#include "tests/bank/bank.h"
#include "tests/bank/rig.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

using Sessions = std::vector<std::unique_ptr<BranchSession>>;

struct Window {
  double per_second = 0;
  double p50_ms = 0;
  double p99_ms = 0;
};

constexpr int kAccounts = 2000;

Sessions ConnectBoth(const BankConfig& config) {
  Sessions sessions;
  for (const BankServer& server : config.servers) {
    auto session = ConnectTo(server);
    CHECK(session.ok()) << session.status();
    sessions.push_back(*std::move(session));
  }
  return sessions;
}

std::string Statement(int server, std::mt19937_64* random) {
  const int account =
      std::uniform_int_distribution<int>(0, kAccounts / kBankServers - 1)(*random) * kBankServers + server;
  return absl::StrCat("UPDATE bank.accounts SET balance = balance + 1 WHERE id = ", account);
}

void RawTransaction(const Sessions& sessions, std::mt19937_64* random) {
  const std::string gtrid = NewGtrid("raw", absl::Now());
  std::vector<Xid> xids;
  for (int i = 0; i < kBankServers; ++i) {
    xids.push_back({gtrid, absl::StrCat("b", i)});
    const StartResult started = sessions[static_cast<size_t>(i)]->Start(xids.back(), Statement(i, random));
    CHECK(started.xa.ok() && started.first->ok()) << started.xa.error.message;
  }
  for (size_t i = 0; i < sessions.size(); ++i) sessions[i]->SendPrepare(xids[i], nullptr);
  for (const auto& session : sessions) CHECK(session->Receive().ok());
  for (size_t i = 0; i < sessions.size(); ++i) sessions[i]->SendCommit(xids[i]);
  for (const auto& session : sessions) CHECK(session->Receive().ok());
}

void AssentTransaction(const BankConfig& config, Client* client, const Sessions& sessions, std::mt19937_64* random) {
  BeginOptions begin;
  for (const BankServer& server : config.servers) begin.resources.push_back(server.resource);
  absl::StatusOr<GlobalTransaction> transaction = client->Begin(begin);
  CHECK(transaction.ok()) << transaction.status();
  for (int i = 0; i < kBankServers; ++i) {
    const auto branch =
        transaction->OpenBranch(begin.resources[static_cast<size_t>(i)], sessions[static_cast<size_t>(i)].get());
    CHECK(branch.ok()) << branch.status();
    CHECK((*branch)->Execute(Statement(i, random)).ok());
  }
  const absl::Status committed = transaction->Commit();
  CHECK(committed.ok()) << committed;
}

Window Measure(const BankConfig& config, int workers, absl::Duration duration, bool raw) {
  Client client(config.coordinator);
  std::atomic<bool> stop{false};
  std::vector<std::vector<double>> latencies(static_cast<size_t>(workers));
  std::vector<std::thread> threads;
  const absl::Time begin = absl::Now();
  for (int i = 0; i < workers; ++i) {
    threads.emplace_back([&, i] {
      const Sessions sessions = ConnectBoth(config);
      std::mt19937_64 random(static_cast<uint64_t>(i) + 1);
      while (!stop) {
        const absl::Time start = absl::Now();
        if (raw) {
          RawTransaction(sessions, &random);
        } else {
          AssentTransaction(config, &client, sessions, &random);
        }
        latencies[static_cast<size_t>(i)].push_back(absl::ToDoubleMilliseconds(absl::Now() - start));
      }
    });
  }
  absl::SleepFor(duration);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  CHECK(client.Flush(absl::Seconds(30)));
  std::vector<double> all;
  for (const auto& each : latencies) all.insert(all.end(), each.begin(), each.end());
  std::sort(all.begin(), all.end());
  CHECK(!all.empty());
  return {static_cast<double>(all.size()) / seconds, all[all.size() / 2], all[all.size() * 99 / 100]};
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double MedianOf(const std::vector<Window>& windows, double Window::*field) {
  std::vector<double> values;
  for (const Window& window : windows) values.push_back(window.*field);
  return Median(std::move(values));
}

void Compare(const BankConfig& config, const std::string& pair, int rounds, absl::Duration duration) {
  for (const int workers : {1, 16}) {
    Measure(config, workers, absl::Milliseconds(500), true);  // Warms up.
    Measure(config, workers, absl::Milliseconds(500), false);
    std::vector<Window> raw;
    std::vector<Window> assent;
    std::vector<double> ratios;
    for (int round = 0; round < rounds; ++round) {
      raw.push_back(Measure(config, workers, duration, true));
      assent.push_back(Measure(config, workers, duration, false));
      ratios.push_back(assent.back().per_second / raw.back().per_second);
    }
    const auto field = [&](double Window::*f) { return std::make_pair(MedianOf(raw, f), MedianOf(assent, f)); };
    const auto per_second = field(&Window::per_second);
    const auto p50 = field(&Window::p50_ms);
    const auto p99 = field(&Window::p99_ms);
    std::printf("| %-24s | %2d | %6.0f | %6.0f | %4.2f | %5.2f | %5.2f | %4.2f | %6.2f | %6.2f | %4.2f |\n",
                pair.c_str(), workers, per_second.first, per_second.second, Median(ratios), p50.first, p50.second,
                p50.second / p50.first, p99.first, p99.second, p99.second / p99.first);
    std::fflush(stdout);
  }
}

int Main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  FLAGS_minloglevel = google::GLOG_ERROR;
  int rounds = 3;
  double seconds = 3;
  if ((argc > 1 && !absl::SimpleAtoi(argv[1], &rounds)) || (argc > 2 && !absl::SimpleAtod(argv[2], &seconds)) ||
      rounds < 1 || seconds <= 0) {
    std::fprintf(stderr, "usage: engines_bench [rounds [seconds]]\n");
    return 2;
  }
  std::printf(
      "| databases                | workers | raw/s | Assent/s | ratio | raw p50 ms | p50 ms | ratio | raw p99 ms | "
      "p99 ms | "
      "ratio |\n|---|---|---|---|---|---|---|---|---|---|---|\n");
  constexpr v1::Resource::Engine kMariaDb = v1::Resource::ENGINE_MARIADB;
  constexpr v1::Resource::Engine kPostgres = v1::Resource::ENGINE_POSTGRESQL;
  for (const auto& engines : std::vector<std::array<v1::Resource::Engine, kBankServers>>{
           {kMariaDb, kMariaDb}, {kPostgres, kPostgres}, {kMariaDb, kPostgres}}) {
    const absl::StatusOr<TempDir> folder = TempDir::Create();
    CHECK(folder.ok()) << folder.status();
    BankRigOptions options;
    options.folder = folder->path();
    options.accounts = kAccounts;
    options.engines = engines;
    options.coordinator.extra = {"--log-level=error"};
    const auto rig = BankRig::Start(options);
    CHECK(rig.ok()) << rig.status();
    const std::string pair =
        absl::StrCat(FindDatabaseEngine(engines[0])->name, " + ", FindDatabaseEngine(engines[1])->name);
    Compare((*rig)->config(), pair, rounds, absl::Seconds(seconds));
  }
  return 0;
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) { return assent::Main(argc, argv); }
