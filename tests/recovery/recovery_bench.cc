// What recovery costs, and what it costs others. On private servers; loopback, this machine's disk.
//
//   recovery_bench backlog [branches [rounds]]   Branches in doubt on two servers, their participants gone, the
//                      coordinator started: how long until all are finished, next to the raw loop: XA COMMIT over as
//                      many connections on branches prepared the same way.
//   recovery_bench dead [windows]                Commit latency on two healthy servers, while a third one is well, and
//                      while it is dead (connections refused; connections that hang) with branches in doubt on it.
//
// Both things that are compared are measured in turns, so that the machine's moods meet them alike.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "base/timestamp.h"
#include "glog/logging.h"
#include "participant_sdk/cpp/client.h"
#include "participant_sdk/cpp/global_transaction.h"
#include "tests/fixtures/private_mariadb.h"
#include "tests/recovery/recovery_rig.h"

namespace assent {
namespace {

constexpr int kServers = 2;
constexpr int kPreparers = 16;
constexpr int kConnections = 8;  // To each server, as recovery has.
constexpr absl::Duration kPatience = absl::Minutes(5);

absl::Duration Percentile(std::vector<absl::Duration>* sorted, double fraction) {
  std::sort(sorted->begin(), sorted->end());
  if (sorted->empty()) return absl::ZeroDuration();
  return (*sorted)[static_cast<size_t>(static_cast<double>(sorted->size() - 1) * fraction)];
}

double Ms(absl::Duration duration) { return absl::ToDoubleMilliseconds(duration); }

// Runs `body(i)` for each i below `count`, on `threads` threads.
void InParallel(int threads, int count, const std::function<void(int)>& body) {
  std::atomic<int> next{0};
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t) {
    all.emplace_back([&] {
      for (int i = next++; i < count; i = next++) body(i);
    });
  }
  for (std::thread& thread : all) thread.join();
}

std::unique_ptr<RecoveryRig> MustStart(RecoveryRig::Options options) {
  auto rig = RecoveryRig::Start(std::move(options));
  CHECK(rig.ok()) << rig.status();
  return *std::move(rig);
}

void AwaitUnfinished(RecoveryRig* rig, size_t count) {
  const bool reached = RecoveryRig::AwaitTrue(
      [&] {
        const auto open = rig->InDoubt();
        return open.ok() && static_cast<size_t>(open->branches_size()) == count;
      },
      kPatience);
  CHECK(reached) << "still in doubt";
}

// --- backlog ---

struct BacklogResult {
  absl::Duration serving, first, all;
};

// In doubt, and then the coordinator is started.
BacklogResult MeasureRecovery(int branches) {
  RecoveryRig::Options options;
  options.coordinator.extra = {"--recovery-patience=1h"};  // Nobody looks before it is killed.
  const std::unique_ptr<RecoveryRig> rig = MustStart(std::move(options));
  InParallel(kPreparers, branches / kServers, [&](int) {
    for (RawBranch& branch : rig->Decided({0, 1}, v1::DECISION_COMMIT)) branch.session->Abandon();
  });
  rig->coordinator().Kill9();
  CHECK_EQ(rig->Prepared(0) + rig->Prepared(1), branches);
  rig->coordinator().set_extra({"--log-level=error"});
  const absl::Time started = absl::Now();
  const absl::Status status = rig->coordinator().Restart();
  CHECK(status.ok()) << status;
  BacklogResult result;
  result.serving = rig->coordinator().start_duration();
  CoordinatorApi api(rig->coordinator().address());
  CHECK(RecoveryRig::AwaitTrue(
      [&] {
        absl::SleepFor(absl::Milliseconds(200));  // Asking costs the coordinator, too.
        const auto open = api.ListAllGlobals({v1::Global::STATE_COMMITTING});
        return open.ok() && open->empty();
      },
      kPatience));
  // The records tell when, without anybody's having looked.
  const auto globals = api.ListAllGlobals({v1::Global::STATE_COMMITTED});
  CHECK(globals.ok()) << globals.status();
  CHECK_EQ(static_cast<int>(globals->size()), branches / kServers);
  absl::Time first = absl::InfiniteFuture();
  absl::Time last = absl::InfinitePast();
  for (const v1::Global& global : *globals) {
    last = std::max(last, GetTime(global.end_time()));
    for (const v1::Branch& branch : global.branches()) first = std::min(first, GetTime(branch.update_time()));
  }
  result.first = first - started;
  result.all = last - started;
  for (int i = 0; i < kServers; ++i) {
    CHECK_EQ(rig->Sql(i, "SELECT COUNT(*) FROM app.t").rows()[0][0].value_or(""), absl::StrCat(branches / kServers));
  }
  return result;
}

// The same branches, prepared the same way, finished by XA COMMIT and nothing else.
absl::Duration MeasureRaw(int branches) {
  const std::unique_ptr<RecoveryRig> rig = MustStart({});
  Mutex mutex;
  std::array<std::vector<Xid>, kServers> prepared;
  InParallel(kPreparers, branches, [&](int i) {
    const int server = i % kServers;
    RawBranch branch{server, {NewGtrid("raw", absl::Now()), "b1"}, rig->Connect(server)};
    rig->Prepare(&branch);
    branch.session->Abandon();
    MutexLock lock(&mutex);
    prepared[static_cast<size_t>(server)].push_back(branch.xid);
  });
  rig->coordinator().Kill9();
  absl::SleepFor(absl::Seconds(1));  // The last ones' connections go.
  std::vector<std::unique_ptr<BranchSession>> sessions;
  for (int i = 0; i < kServers * kConnections; ++i) sessions.push_back(rig->Connect(i % kServers));
  std::array<std::atomic<size_t>, kServers> next{};
  const absl::Time begin = absl::Now();
  InParallel(kServers * kConnections, kServers * kConnections, [&](int i) {
    const size_t server = static_cast<size_t>(i % kServers);
    for (size_t n = next[server]++; n < prepared[server].size(); n = next[server]++) {
      const XaResult result = sessions[static_cast<size_t>(i)]->Commit(prepared[server][n]);
      CHECK(result.ok()) << result.error.message;
    }
  });
  return absl::Now() - begin;
}

void Backlog(int branches, int rounds) {
  std::printf("%d branches in doubt on %d servers, %d connections to each\n", branches, kServers, kConnections);
  std::printf("%6s %10s %12s %12s %8s %12s %14s\n", "round", "raw ms", "recovery ms", "per second", "ratio", "first ms",
              "serving ms");
  for (int round = 1; round <= rounds; ++round) {
    const absl::Duration raw = MeasureRaw(branches);
    const BacklogResult recovery = MeasureRecovery(branches);
    std::printf("%6d %10.0f %12.0f %12.0f %8.2f %12.0f %14.0f\n", round, Ms(raw), Ms(recovery.all),
                branches / absl::ToDoubleSeconds(recovery.all), absl::FDivDuration(recovery.all, raw),
                Ms(recovery.first), Ms(recovery.serving));
    std::fflush(stdout);
  }
}

// --- dead ---

constexpr int kCallers = 4;
constexpr int kInDoubt = 200;
constexpr absl::Duration kWindow = absl::Seconds(4);

// Two healthy servers, and a third one, "c".
class ThirdDead {
 public:
  ThirdDead() : rig_(MustStart({})), third_(*PrivateMariaDb::Start()) {
    const std::string password_file = rig_->coordinator().folder() + "/c.password";
    std::ofstream(password_file) << third_->password() << "\n";
    const absl::Status status = rig_->api().RegisterMariaDb("c", third_->unix_address(), third_->user(), password_file);
    CHECK(status.ok()) << status;
    Sql("CREATE DATABASE app; CREATE TABLE app.t (gtrid VARCHAR(64) PRIMARY KEY) ENGINE=InnoDB");
  }

  // Branches on c that are decided when nobody can reach them any more.
  void Kill(bool hangs) {
    std::vector<std::string> gtrids;
    Mutex mutex;
    Client client(rig_->coordinator().address());
    InParallel(kCallers, kInDoubt, [&](int) {
      v1::CreateGlobalRequest create;
      create.add_branches()->set_resource("c");
      grpc::ClientContext create_context;
      v1::CreateGlobalResponse global;
      CHECK(rig_->api().coordinator()->CreateGlobal(&create_context, create, &global).ok());
      const Xid xid{global.global().gtrid(), global.global().branches(0).bqual()};
      const std::unique_ptr<BranchSession> session = Connect();
      CHECK(session->Start(xid, absl::StrCat("INSERT INTO app.t VALUES ('", xid.gtrid, "')")).xa.ok());
      const WitnessTable witness = *WitnessTable::OfSchema("");
      CHECK(session->Prepare(xid, &witness).ok());
      v1::PreparedRequest prepared;
      prepared.set_gtrid(xid.gtrid);
      v1::Vote* const vote = prepared.add_votes();
      vote->set_bqual(xid.bqual);
      vote->set_kind(v1::VOTE_KIND_PREPARED);
      vote->set_witnessed(true);
      *vote->mutable_session() = session->Describe();
      prepared.set_wait(v1::WAIT_NONE);
      grpc::ClientContext vote_context;
      v1::PreparedResponse voted;
      CHECK(rig_->api().coordinator()->Prepared(&vote_context, prepared, &voted).ok());
      session->Abandon();
      MutexLock lock(&mutex);
      gtrids.push_back(xid.gtrid);
    });
    if (hangs) {
      third_->Suspend();
    } else {
      third_->Kill9();
    }
    for (const std::string& gtrid : gtrids) CHECK(rig_->Finalize(gtrid, v1::DECISION_COMMIT).ok());
    AwaitUnfinished(rig_.get(), kInDoubt);
  }

  void Revive(bool hangs) {
    if (hangs) {
      third_->Resume();
    } else {
      const absl::Status status = third_->Restart();
      CHECK(status.ok()) << status << third_->LogTail();
    }
    AwaitUnfinished(rig_.get(), 0);
  }

  // Commits on the healthy two for a while, and how long each took.
  std::vector<absl::Duration> Window() {
    std::vector<absl::Duration> all;
    Mutex mutex;
    const absl::Time end = absl::Now() + kWindow;
    InParallel(kCallers, kCallers, [&](int) {
      Client client(rig_->coordinator().address());
      const std::array<std::unique_ptr<BranchSession>, kServers> sessions = {rig_->Connect(0), rig_->Connect(1)};
      std::vector<absl::Duration> own;
      while (absl::Now() < end) {
        BeginOptions begin;
        begin.resources = {"a", "b"};
        absl::StatusOr<GlobalTransaction> transaction = client.Begin(begin);
        CHECK(transaction.ok()) << transaction.status();
        for (int i = 0; i < kServers; ++i) {
          const auto branch =
              transaction->OpenBranch(RecoveryRig::ResourceName(i), sessions[static_cast<size_t>(i)].get());
          CHECK(branch.ok()) << branch.status();
          CHECK((*branch)->Execute(absl::StrCat("INSERT INTO app.t VALUES ('", transaction->gtrid(), "', '')")).ok());
        }
        const absl::Time asked = absl::Now();
        const absl::Status status = transaction->Commit();
        CHECK(status.ok()) << status;
        own.push_back(absl::Now() - asked);
      }
      MutexLock lock(&mutex);
      all.insert(all.end(), own.begin(), own.end());
    });
    return all;
  }

 private:
  std::unique_ptr<BranchSession> Connect() {
    auto session = OpenSession(*third_);
    CHECK(session.ok()) << session.status();
    return *std::move(session);
  }
  void Sql(absl::string_view sql) { CHECK(Connect()->Query(sql).ok()) << sql; }

  const std::unique_ptr<RecoveryRig> rig_;
  const std::unique_ptr<PrivateMariaDb> third_;
};

void ShowWindow(const char* what, std::vector<absl::Duration> latencies, absl::Duration* p99) {
  *p99 = Percentile(&latencies, 0.99);
  std::printf("  %-8s %7zu commits, p50 %6.2f ms, p99 %6.2f ms\n", what, latencies.size(),
              Ms(Percentile(&latencies, 0.5)), Ms(*p99));
  std::fflush(stdout);
}

void Dead(int windows) {
  ThirdDead bench;
  bench.Window();  // Warms up.
  for (const bool hangs : {false, true}) {
    std::printf("a third server that %s, with %d branches in doubt on it; %d callers, %d windows of %.0f s each\n",
                hangs ? "hangs" : "refuses connections", kInDoubt, kCallers, windows, absl::ToDoubleSeconds(kWindow));
    std::vector<absl::Duration> well;
    std::vector<absl::Duration> dead;
    absl::Duration p99;
    for (int i = 0; i < windows; ++i) {
      // Which comes first changes, too.
      for (const bool is_dead : {i % 2 == 0, i % 2 != 0}) {
        if (is_dead) bench.Kill(hangs);
        const std::vector<absl::Duration> window = bench.Window();
        if (is_dead) bench.Revive(hangs);
        ShowWindow(is_dead ? "dead" : "well", window, &p99);
        std::vector<absl::Duration>& all = is_dead ? dead : well;
        all.insert(all.end(), window.begin(), window.end());
      }
    }
    absl::Duration well_p99;
    absl::Duration dead_p99;
    std::printf(" all windows\n");
    ShowWindow("well", well, &well_p99);
    ShowWindow("dead", dead, &dead_p99);
    std::printf("  ratio of p99: %.2f\n", absl::FDivDuration(dead_p99, well_p99));
  }
}

int Main(int argc, char** argv) {
  FLAGS_logtostderr = true;
  FLAGS_minloglevel = google::GLOG_ERROR;
  google::InitGoogleLogging(argv[0]);
  const std::string what = argc > 1 ? argv[1] : "";
  int first = 0;
  int second = 0;
  if (argc > 2 && (!absl::SimpleAtoi(argv[2], &first) || first < 1)) return 2;
  if (argc > 3 && (!absl::SimpleAtoi(argv[3], &second) || second < 1)) return 2;
  if (what == "backlog") {
    Backlog(first > 0 ? first : 10000, second > 0 ? second : 3);
  } else if (what == "dead") {
    Dead(first > 0 ? first : 6);
  } else {
    std::fprintf(stderr, "usage: recovery_bench backlog [branches [rounds]] | dead [windows]\n");
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) { return assent::Main(argc, argv); }
