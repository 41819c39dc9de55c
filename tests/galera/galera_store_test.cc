// The store on a Galera cluster, with all coordinators at one of its nodes: what becomes of decisions that callers were
// told when a node is killed, that very node, or all three at once. docs/store.md shows the table that this prints.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/grpc_status.h"
#include "base/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/testing/tcp_proxy.h"
#include "tests/fixtures/assentd.h"
#include "tests/fixtures/coordinator_api.h"
#include "tests/fixtures/temp_dir.h"
#include "tests/galera/galera_cluster.h"

namespace assent {
namespace {

constexpr int kCallers = 8;
constexpr absl::Duration kWarmUp = absl::Seconds(1);
constexpr absl::Duration kPatience = absl::Seconds(60);

// What callers were told, and when. Thread-safe.
class Book {
 public:
  void Told(const std::string& gtrid, v1::Decision decision) {
    const absl::Time now = absl::Now();
    MutexLock lock(&mu_);
    told_[gtrid] = decision;
    longest_pause_ = std::max(longest_pause_, now - last_);
    last_ = now;
  }
  std::map<std::string, v1::Decision> told() {
    MutexLock lock(&mu_);
    return told_;
  }
  size_t size() {
    MutexLock lock(&mu_);
    return told_.size();
  }
  // Since the last call.
  absl::Duration TakeLongestPause() {
    MutexLock lock(&mu_);
    return std::exchange(longest_pause_, absl::ZeroDuration());
  }

 private:
  Mutex mu_;
  std::map<std::string, v1::Decision> told_ ABSL_GUARDED_BY(mu_);
  absl::Time last_ ABSL_GUARDED_BY(mu_) = absl::Now();
  absl::Duration longest_pause_ ABSL_GUARDED_BY(mu_);
};

// Decides one transaction after the other, whatever happens to the store; one in four is rolled back.
class Caller {
 public:
  Caller(const std::string& address, int number, Book* book, const std::atomic<bool>* stop)
      : api_(address), number_(number), book_(book), stop_(stop), thread_([this] { Run(); }) {}
  ~Caller() { thread_.join(); }

 private:
  void Run() {
    for (int i = 0; !*stop_; ++i) {
      v1::CreateGlobalRequest create;
      create.set_gtrid(absl::StrCat("test-", number_, "-", i));
      create.mutable_timeout()->set_seconds(3600);
      for (const char* bqual : {"a", "b"}) {
        create.add_branches()->set_bqual(bqual);
        create.mutable_branches()->rbegin()->set_resource("nowhere");
      }
      v1::CreateGlobalResponse created;
      if (!Repeat([&](grpc::ClientContext* c) { return api_.coordinator()->CreateGlobal(c, create, &created); }))
        continue;
      v1::FinalizeRequest finalize;
      finalize.set_gtrid(create.gtrid());
      finalize.set_decision(i % 4 == 3 ? v1::DECISION_ROLLBACK : v1::DECISION_COMMIT);
      finalize.set_wait(v1::WAIT_DECIDED);
      for (const auto& branch : create.branches()) {
        finalize.add_votes()->set_bqual(branch.bqual());
        finalize.mutable_votes()->rbegin()->set_kind(v1::VOTE_KIND_PREPARED);
      }
      v1::FinalizeResponse finalized;
      if (Repeat([&](grpc::ClientContext* c) { return api_.coordinator()->Finalize(c, finalize, &finalized); })) {
        book_->Told(create.gtrid(), finalized.status().decision());
      }
    }
  }
  // Until it is answered; false if it never was, or was refused.
  bool Repeat(const std::function<grpc::Status(grpc::ClientContext*)>& call) {
    while (!*stop_) {
      grpc::ClientContext context;
      context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
      const absl::Status status = FromGrpcStatus(call(&context));
      if (status.ok()) return true;
      if (!absl::IsUnavailable(status) && !absl::IsDeadlineExceeded(status)) return false;
      absl::SleepFor(absl::Milliseconds(20));
    }
    return false;
  }

  CoordinatorApi api_;
  const int number_;
  Book* const book_;
  const std::atomic<bool>* const stop_;
  std::thread thread_;
};

class GaleraStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    auto cluster = GaleraCluster::Start();
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    cluster_ = *std::move(cluster);
    auto dir = TempDir::Create("galera");
    ASSERT_TRUE(dir.ok()) << dir.status();
    dir_ = std::make_unique<TempDir>(*std::move(dir));
    std::ofstream(dir_->path() + "/password") << cluster_->password();
    // Operators move an address; here a proxy does.
    proxy_ = std::make_unique<TcpProxy>(cluster_->node(0).port());
    options_.store = absl::StrCat("mariadb://", cluster_->user(), "@127.0.0.1:", proxy_->port(), "/assent");
    options_.store_password_file = dir_->path() + "/password";
    options_.extra = {"--recovery-patience=1h", "--sweep-interval=1h"};
  }

  void StartCoordinator() {
    options_.extra.push_back("--store-allow-unsafe");
    auto daemon = Assentd::Start(options_);
    ASSERT_TRUE(daemon.ok()) << daemon.status();
    daemon_ = *std::move(daemon);
    const absl::Status registered = CoordinatorApi(daemon_->address()).RegisterNowhere("nowhere");
    ASSERT_TRUE(registered.ok()) << registered;
  }

  // Under load: does `harm`, waits until decisions are made again, and holds what callers were told against the store.
  template <typename Harm>
  void Strike(const char* what, const Harm& harm) {
    std::atomic<bool> stop{false};
    Book book;
    size_t before = 0;
    {
      std::vector<std::unique_ptr<Caller>> callers;
      for (int i = 0; i < kCallers; ++i) {
        callers.push_back(std::make_unique<Caller>(daemon_->address(), strikes_ * 100 + i, &book, &stop));
      }
      absl::SleepFor(kWarmUp);
      before = book.size();
      (void)book.TakeLongestPause();
      harm();
      const size_t after_harm = book.size();
      for (const absl::Time give_up = absl::Now() + kPatience;
           book.size() < after_harm + 10 * kCallers && absl::Now() < give_up;) {
        absl::SleepFor(absl::Milliseconds(50));
      }
      EXPECT_GE(book.size(), after_harm + 10 * kCallers) << what << ": nothing is decided any more\n"
                                                         << daemon_->OutputTail();
      stop = true;
    }
    ++strikes_;
    Check(what, before, book.TakeLongestPause(), book.told());
  }

  void Check(const char* what, size_t before, absl::Duration pause, const std::map<std::string, v1::Decision>& told) {
    CoordinatorApi api(daemon_->address());
    int lost = 0;
    int changed = 0;
    for (const auto& one : told) {
      const auto found = api.GetGlobal(one.first);
      lost += !found.ok();
      changed += found.ok() && found->global().decision() != one.second;
    }
    std::printf("| %s | %zu | %zu | %d | %d | %.1f s |\n", what, before, told.size() - before, lost, changed,
                absl::ToDoubleSeconds(pause));
    std::fflush(stdout);
    EXPECT_GT(before, 0u);
    EXPECT_EQ(lost, 0) << what;
    EXPECT_EQ(changed, 0) << what;
  }

  std::unique_ptr<GaleraCluster> cluster_;
  std::unique_ptr<TempDir> dir_;
  std::unique_ptr<TcpProxy> proxy_;
  Assentd::Options options_;
  std::unique_ptr<Assentd> daemon_;
  int strikes_ = 0;
};

TEST_F(GaleraStoreTest, IsRefusedUnlessItIsMeant) {
  const auto daemon = Assentd::Start(options_);
  ASSERT_FALSE(daemon.ok());
  EXPECT_THAT(std::string(daemon.status().message()), testing::HasSubstr("wsrep_on=ON"));
}

TEST_F(GaleraStoreTest, WhatCallersWereToldSurvivesTheLossOfNodes) {
  ASSERT_NO_FATAL_FAILURE(StartCoordinator());
  std::printf(
      "| killed with -9, under load | told before | told after | lost | changed | longest pause |\n"
      "|---|---|---|---|---|---|\n");
  Strike("a node that is not the store's", [&] { cluster_->node(2).Kill9(); });
  absl::Status joined = cluster_->Rejoin(2);
  ASSERT_TRUE(joined.ok()) << joined;
  Strike("the store's node; its address moves to another one", [&] {
    cluster_->node(0).Kill9();
    proxy_->Retarget(cluster_->node(1).port());
  });
  joined = cluster_->Rejoin(0);
  ASSERT_TRUE(joined.ok()) << joined;
  Strike("all three at once; started again from the one that had come furthest", [&] {
    for (int i = 0; i < GaleraCluster::kNodes; ++i) cluster_->node(i).Kill9();
    const absl::StatusOr<int> first = cluster_->Bootstrap();
    ASSERT_TRUE(first.ok()) << first.status();
    proxy_->Retarget(cluster_->node(*first).port());
  });
}

}  // namespace
}  // namespace assent
