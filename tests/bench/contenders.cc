#include "tests/bench/contenders.h"

#include <glog/logging.h>
#include <signal.h>
#include <sys/wait.h>

#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "base/xid.h"
#include "participant_sdk/cpp/client.h"
#include "participant_sdk/cpp/global_transaction.h"
#include "tests/bench/participant_line.h"
#include "tests/bench/statement.h"
#include "tests/fixtures/process.h"

namespace assent {
namespace {

using Sessions = std::vector<std::unique_ptr<BranchSession>>;
// The next one of a worker for a server.
using Statements = std::function<std::string(size_t)>;

Statements StatementsOf(int worker) {
  const auto random = std::make_shared<std::mt19937_64>(static_cast<uint64_t>(worker) + 1);
  return [worker, random](size_t server) { return BenchStatement(server, worker, random.get()); };
}

constexpr absl::Duration kFlushPatience = absl::Seconds(30);

// To the first `count` servers.
Sessions Connect(const BankConfig& config, size_t count) {
  Sessions sessions;
  for (size_t i = 0; i < count; ++i) {
    auto session = ConnectTo(config.servers[i]);
    CHECK(session.ok()) << session.status();
    sessions.push_back(*std::move(session));
  }
  return sessions;
}

void RawTransaction(const Sessions& sessions, const Statements& statements) {
  const std::string gtrid = NewGtrid("raw", absl::Now());
  std::vector<Xid> xids;
  for (size_t i = 0; i < sessions.size(); ++i) {
    xids.push_back({gtrid, absl::StrCat("b", i)});
    const StartResult started = sessions[i]->Start(xids.back(), statements(i));
    CHECK(started.xa.ok() && started.first->ok()) << started.xa.error.message;
  }
  for (size_t i = 0; i < sessions.size(); ++i) sessions[i]->SendPrepare(xids[i], nullptr);
  for (const auto& session : sessions) CHECK(session->Receive().ok());
  for (size_t i = 0; i < sessions.size(); ++i) sessions[i]->SendCommit(xids[i]);
  for (const auto& session : sessions) CHECK(session->Receive().ok());
}

void LocalTransactions(const Sessions& sessions, const Statements& statements) {
  for (size_t i = 0; i < sessions.size(); ++i) sessions[i]->SendQuery(statements(i));
  for (const auto& session : sessions) {
    const QueryResult result = session->ReceiveQuery();
    CHECK(result.ok()) << result.error.message;
  }
}

void AssentTransaction(const BankConfig& config, Client* client, const Sessions& sessions,
                       const Statements& statements) {
  BeginOptions begin;
  begin.sole_participant = true;
  absl::StatusOr<GlobalTransaction> transaction = client->Begin(begin);
  CHECK(transaction.ok()) << transaction.status();
  for (size_t i = 0; i < sessions.size(); ++i) {
    const auto branch = transaction->OpenBranch(config.servers[i].resource, sessions[i].get());
    CHECK(branch.ok()) << branch.status();
    const absl::Status done = (*branch)->Execute(statements(i)).status();
    CHECK(done.ok()) << done;
  }
  const absl::Status committed = transaction->Commit();
  CHECK(committed.ok()) << committed;
}

void SplitTransaction(Client* client, const std::vector<std::unique_ptr<ParticipantLine>>& lines,
                      const Statements& statements) {
  BeginOptions begin;
  begin.policy = v1::DECISION_POLICY_WHEN_ALL_PREPARED;
  begin.expected_branches = kBankServers;
  absl::StatusOr<GlobalTransaction> transaction = client->Begin(begin);
  CHECK(transaction.ok()) << transaction.status();
  for (size_t i = 0; i < lines.size(); ++i) lines[i]->Send(absl::StrCat(transaction->gtrid(), " ", statements(i)));
  for (const auto& line : lines) {
    const std::string told = line->Receive();
    CHECK_EQ(told, "ok");
  }
  transaction->Leave();
}

}  // namespace

std::string NameOf(Contender contender) {
  switch (contender) {
    case Contender::kRaw: return "raw";
    case Contender::kOneProcess: return "one process";
    case Contender::kSplitProcesses: return "split processes";
    case Contender::kLocal: return "local, not atomic";
    case Contender::kOneLocal: return "one local commit";
    case Contender::kOneBranch: return "one branch";
  }
  return "?";
}

struct BenchRig::Costs {
  absl::Duration worker_cpu, coordinator_cpu, database_cpu;
  int64_t coordinator_syncs = 0, database_syncs = 0, calls = 0, round_trips = 0;
};

// What the workers of this process have sent.
class BenchRig::Counters {
 public:
  explicit Counters(const std::string& coordinator) : client(coordinator) {}

  // Of this worker's sessions, which it owns from now on.
  const Sessions* Add(Sessions sessions) {
    MutexLock lock(&mutex_);
    all_.push_back(std::make_unique<Sessions>(std::move(sessions)));
    return all_.back().get();
  }
  int64_t round_trips() const {
    MutexLock lock(&mutex_);
    int64_t count = 0;
    for (const auto& sessions : all_) {
      for (const auto& session : *sessions) count += session->round_trips();
    }
    return count;
  }

  Client client;

 private:
  mutable Mutex mutex_;
  std::vector<std::unique_ptr<Sessions>> all_ ABSL_GUARDED_BY(mutex_);
};

BenchRig::BenchRig(const BenchRigOptions& options) {
  const auto environment = [&](const SyncCounter& counter) {
    std::vector<std::string> variables = counter.Environment();
    if (options.slow_disk > absl::ZeroDuration()) {
      variables.push_back(absl::StrCat("SYNC_SHIM_DELAY_US=", absl::ToInt64Microseconds(options.slow_disk)));
    }
    return variables;
  };
  BankRigOptions bank;
  bank.folder = folder_.path();
  bank.cluster = "bench";
  bank.accounts = kBenchAccounts;
  bank.engines = options.engines;
  bank.coordinator.extra = {"--log-level=error"};
  bank.coordinator.environment = environment(coordinator_syncs_);
  {
    ScopedEnvironment databases(environment(database_syncs_));
    auto started = BankRig::Start(bank);
    CHECK(started.ok()) << started.status();
    bank_ = *std::move(started);
  }
  const absl::StatusOr<std::string> program = FindBuiltProgram("tests/bench/participant");
  CHECK(program.ok()) << program.status();
  for (size_t i = 0; i < kBankServers; ++i) {
    const auto pid = Spawn({*program, bank_->config_path(), absl::StrCat(i), ParticipantSocket(i)}, {});
    CHECK(pid.ok()) << pid.status();
    participants_[i] = *pid;
  }
}

BenchRig::~BenchRig() {
  for (const pid_t pid : participants_) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
}

std::string BenchRig::ParticipantSocket(size_t server) const {
  return absl::StrCat(folder_.path(), "/participant.", server);
}

std::function<std::function<void()>(int)> BenchRig::StarterOf(Contender contender, Counters* counters) {
  if (contender == Contender::kSplitProcesses) {
    return [this, counters](int worker) {
      auto lines = std::make_shared<std::vector<std::unique_ptr<ParticipantLine>>>();
      for (size_t i = 0; i < kBankServers; ++i) {
        lines->push_back(std::make_unique<ParticipantLine>(ParticipantSocket(i)));
        lines->back()->Send(kStats);  // It connects to its server first.
        lines->back()->Receive();
      }
      return [counters, lines, statements = StatementsOf(worker)] {
        SplitTransaction(&counters->client, *lines, statements);
      };
    };
  }
  return [this, contender, counters](int worker) -> std::function<void()> {
    const bool one = contender == Contender::kOneLocal || contender == Contender::kOneBranch;
    const Sessions* const sessions = counters->Add(Connect(bank_->config(), one ? 1 : kBankServers));
    const Statements statements = StatementsOf(worker);
    switch (contender) {
      case Contender::kRaw: return [sessions, statements] { RawTransaction(*sessions, statements); };
      case Contender::kLocal:
      case Contender::kOneLocal: return [sessions, statements] { LocalTransactions(*sessions, statements); };
      default:
        return [this, counters, sessions, statements] {
          AssentTransaction(bank_->config(), &counters->client, *sessions, statements);
        };
    }
  };
}

BenchRig::Costs BenchRig::CostsSoFar(const Counters& counters) const {
  Costs costs;
  costs.worker_cpu = OwnCpu();
  for (const pid_t pid : participants_) costs.worker_cpu += CpuOf(pid);
  costs.coordinator_cpu = CpuOf(bank_->coordinator().pid());
  for (int i = 0; i < kBankServers; ++i) costs.database_cpu += CpuOf(bank_->database(i).pid());
  costs.coordinator_syncs = coordinator_syncs_.Count();
  costs.database_syncs = database_syncs_.Count();
  costs.calls = counters.client.calls_sent();
  costs.round_trips = counters.round_trips();
  for (size_t i = 0; i < kBankServers; ++i) {
    ParticipantLine line(ParticipantSocket(i));
    line.Send(kStats);
    const std::pair<std::string, std::string> sent = absl::StrSplit(line.Receive(), ' ');
    costs.calls += std::stoll(sent.first);
    costs.round_trips += std::stoll(sent.second);
  }
  return costs;
}

Window BenchRig::Measure(Contender contender, int workers, absl::Duration length) {
  CHECK_LE(workers, kMaxBenchWorkers);
  Counters counters(bank_->config().coordinator);
  Costs before;
  Samples samples =
      RunWorkers(workers, length, StarterOf(contender, &counters), [&] { before = CostsSoFar(counters); });
  CHECK(counters.client.Flush(kFlushPatience));
  const Costs after = CostsSoFar(counters);
  Window window;
  FillLatencies(&samples.milliseconds, samples.seconds, &window);
  const auto count = static_cast<double>(samples.milliseconds.size());
  const auto each_us = [count](absl::Duration used) { return absl::ToDoubleMicroseconds(used) / count; };
  const auto each = [count](int64_t used) { return static_cast<double>(used) / count; };
  window.worker_cpu_us = each_us(after.worker_cpu - before.worker_cpu);
  window.coordinator_cpu_us = each_us(after.coordinator_cpu - before.coordinator_cpu);
  window.database_cpu_us = each_us(after.database_cpu - before.database_cpu);
  window.coordinator_syncs = each(after.coordinator_syncs - before.coordinator_syncs);
  window.database_syncs = each(after.database_syncs - before.database_syncs);
  window.calls = each(after.calls - before.calls);
  window.round_trips = each(after.round_trips - before.round_trips);
  return window;
}

}  // namespace assent
