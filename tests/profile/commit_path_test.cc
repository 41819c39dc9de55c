// What a two-branch transaction costs, counted: calls to the coordinator, round trips to the databases, forced writes
// of each process. docs/performance.md shows the table that this prints. Counts do not depend on the machine; times
// would.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/address.h"
#include "gtest/gtest.h"
#include "participant_sdk/cpp/global_transaction.h"
#include "resource_manager/mariadb_session.h"
#include "tests/fixtures/assentd.h"
#include "tests/fixtures/coordinator_api.h"
#include "tests/fixtures/private_mariadb.h"
#include "tests/fixtures/temp_dir.h"
#include "tests/profile/sync_counter.h"

namespace assent {
namespace {

constexpr int kTransactions = 200;
constexpr int kServers = 2;

class CommitPathTest : public ::testing::Test {
 protected:
  struct Database {
    std::unique_ptr<SyncCounter> syncs;
    std::unique_ptr<PrivateMariaDb> server;
    std::unique_ptr<MariaDbSession> session;
  };
  struct Counts {
    int64_t calls = 0, round_trips = 0, coordinator_syncs = 0, database_syncs = 0;
    int seconds = 0;  // That it took, rounded up.
  };

  void SetUp() override {
    absl::StatusOr<TempDir> dir = TempDir::Create("commit_path");
    ASSERT_TRUE(dir.ok()) << dir.status();
    dir_ = std::make_unique<TempDir>(*std::move(dir));
    coordinator_syncs_ = std::make_unique<SyncCounter>(dir_->path() + "/coordinator");
    Assentd::Options options;
    options.store = dir_->path() + "/assent.db";  // Its own forced writes are counted.
    options.environment = coordinator_syncs_->Environment();
    absl::StatusOr<std::unique_ptr<Assentd>> assentd = Assentd::Start(options);
    ASSERT_TRUE(assentd.ok()) << assentd.status();
    assentd_ = *std::move(assentd);
    StartDatabase("orders", &orders_);
    StartDatabase("payments", &payments_);
  }

  void StartDatabase(const std::string& name, Database* database) {
    database->syncs = std::make_unique<SyncCounter>(dir_->path() + "/" + name);
    {
      ScopedEnvironment environment(database->syncs->Environment());
      absl::StatusOr<std::unique_ptr<PrivateMariaDb>> server = PrivateMariaDb::Start();
      ASSERT_TRUE(server.ok()) << server.status();
      database->server = *std::move(server);
    }
    ConnectOptions options;
    options.address = *ParseAddress(database->server->unix_address());
    options.user = database->server->user();
    options.password = database->server->password();
    absl::StatusOr<std::unique_ptr<MariaDbSession>> session = MariaDbSession::Connect(options);
    ASSERT_TRUE(session.ok()) << session.status();
    database->session = *std::move(session);
    ASSERT_TRUE(
        database->session
            ->Query("CREATE DATABASE t; CREATE TABLE t.t(id INT PRIMARY KEY, v INT); INSERT INTO t.t VALUES (1, 0)")
            .ok());

    const std::string password_file = dir_->path() + "/" + name + ".password";
    std::ofstream(password_file) << database->server->password();
    const absl::Status registered =
        CoordinatorApi(assentd_->address())
            .RegisterMariaDb(name, database->server->tcp_address(), database->server->user(), password_file);
    ASSERT_TRUE(registered.ok()) << registered;
  }

  Counts Now(const Client& client) const {
    Counts counts;
    counts.calls = client.calls_sent();
    counts.round_trips = orders_.session->round_trips() + payments_.session->round_trips();
    counts.coordinator_syncs = coordinator_syncs_->Count();
    counts.database_syncs = orders_.syncs->Count() + payments_.syncs->Count();
    return counts;
  }

  // Runs the transactions one after the other and prints what each cost.
  Counts Measure(const char* title, bool commit) {
    Client client(assentd_->address());
    const Counts before = Now(client);
    const absl::Time began = absl::Now();
    for (int i = 0; i < kTransactions; ++i) {
      BeginOptions options;
      options.resources = {"orders", "payments"};
      absl::StatusOr<GlobalTransaction> transaction = client.Begin(options);
      EXPECT_TRUE(transaction.ok()) << transaction.status();
      for (Database* database : {&orders_, &payments_}) {
        const std::string name = database == &orders_ ? "orders" : "payments";
        absl::StatusOr<Branch*> branch = transaction->OpenBranch(name, database->session.get());
        EXPECT_TRUE(branch.ok()) << branch.status();
        EXPECT_TRUE((*branch)->Execute("UPDATE t.t SET v = v + 1 WHERE id = 1").ok());
      }
      const absl::Status status = commit ? transaction->Commit() : transaction->Rollback();
      EXPECT_TRUE(status.ok()) << status;
      // So that completions of different transactions do not share a call: the worst case.
      EXPECT_TRUE(client.Flush(absl::Seconds(10)));
    }
    Counts used = Now(client);
    used.calls -= before.calls;
    used.round_trips -= before.round_trips;
    used.coordinator_syncs -= before.coordinator_syncs;
    used.database_syncs -= before.database_syncs;
    used.seconds = static_cast<int>(absl::ToInt64Seconds(absl::Now() - began)) + 1;
    std::printf("| %s | %.2f | %.2f | %.2f | %.2f |\n", title, 1.0 * used.calls / kTransactions,
                1.0 * used.round_trips / kTransactions, 1.0 * used.coordinator_syncs / kTransactions,
                1.0 * used.database_syncs / kTransactions);
    return used;
  }

  std::unique_ptr<TempDir> dir_;
  std::unique_ptr<SyncCounter> coordinator_syncs_;
  std::unique_ptr<Assentd> assentd_;
  Database orders_, payments_;
};

TEST_F(CommitPathTest, Counts) {
  std::printf(
      "\n| 2 branches, 1 statement each | calls to assentd | database round trips | forced writes, assentd | forced "
      "writes, databases |\n|---|---|---|---|---|\n");
  const Counts committed = Measure("committed", true);
  const Counts rolled_back = Measure("rolled back", false);
  std::printf("\n");
  EXPECT_EQ(committed.calls, 3 * kTransactions) << "CreateGlobal, Finalize, Completed";
  EXPECT_EQ(rolled_back.calls, 3 * kTransactions);
  EXPECT_EQ(committed.round_trips, 6 * kTransactions) << "per branch: START+statement, witness+END+PREPARE, COMMIT";
  EXPECT_EQ(rolled_back.round_trips, 4 * kTransactions) << "per branch: START+statement, END+ROLLBACK";
  // Besides, recovery counts the epoch of each server up, at most once a minute: noted before and after. And before it
  // deletes witnesses, at most once a second, it makes sure that what has ended is on disk.
  const auto besides = [](const Counts& counts) { return kServers * (2 + counts.seconds); };
  EXPECT_LE(committed.coordinator_syncs, kTransactions + besides(committed)) << "at most one per committed transaction";
  EXPECT_GE(committed.coordinator_syncs, kTransactions) << "and, one after the other, no decision without one";
  EXPECT_LE(rolled_back.coordinator_syncs, besides(rolled_back)) << "none per rolled back transaction";
}

// Decisions that wait together share a forced write.
TEST_F(CommitPathTest, GroupCommit) {
  constexpr int kThreads = 32, kEach = 50;
  const int64_t before = coordinator_syncs_->Count();
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this] {
      CoordinatorConnection connection(assentd_->address(), ClientOptions());
      const absl::Time give_up = absl::Now() + absl::Minutes(5);
      for (int i = 0; i < kEach; ++i) {
        v1::CreateGlobalRequest create;
        create.add_branches()->set_resource("orders");
        create.add_branches()->set_resource("payments");
        absl::StatusOr<v1::Global> global = connection.CreateGlobal(create, give_up);
        ASSERT_TRUE(global.ok()) << global.status();
        v1::FinalizeRequest finalize;
        finalize.set_gtrid(global->gtrid());
        finalize.set_decision(v1::DECISION_COMMIT);
        finalize.set_wait(v1::WAIT_DECIDED);
        for (const v1::Branch& branch : global->branches()) {
          v1::Vote* vote = finalize.add_votes();
          vote->set_bqual(branch.bqual());
          vote->set_kind(v1::VOTE_KIND_PREPARED);
        }
        ASSERT_TRUE(connection.Finalize(finalize, give_up).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const int64_t syncs = coordinator_syncs_->Count() - before;
  std::printf("%d callers: %.2f forced writes of assentd per committed transaction\n", kThreads,
              1.0 * syncs / (kThreads * kEach));
  EXPECT_LT(syncs, kThreads * kEach);
}

}  // namespace
}  // namespace assent
