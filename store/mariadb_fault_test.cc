// What networks do to the MariaDB store: lost requests, lost answers, slowness, cut connections; and what becomes of a
// writer that was stopped in the middle of a write.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "store/mariadb_store.h"
#include "store/testing/mariadb_test_util.h"
#include "store/testing/store_test_util.h"
#include "store/testing/tcp_proxy.h"

namespace assent {
namespace {

using Commit = TcpProxy::Commit;
using Code = TransitionResult::Code;

constexpr auto kActive = v1::Global::STATE_ACTIVE;
constexpr auto kCommitting = v1::Global::STATE_COMMITTING;

class MariaDbFaultTest : public testing::Test {
 protected:
  MariaDbFaultTest()
      : direct_options_(StoreOptions(SharedStoreServer())),
        proxy_(SharedStoreServer().port()),
        options_(direct_options_) {
    options_.address.socket.clear();
    options_.address.host = "127.0.0.1";
    options_.address.port = proxy_.port();
    options_.answer_timeout = absl::Seconds(1);
    options_.connect_timeout = absl::Seconds(1);
  }

  std::string Put(Store* store, const std::string& gtrid, int64_t revision, v1::Global::State state = kActive) {
    return ToString(SubmitAndWait(store, To(MakeGlobal(gtrid, revision, state), Durability::kForced)));
  }

  // Asks until it knows.
  GlobalPtr MustSettle(Store* store, const std::string& gtrid) {
    for (const absl::Time give_up = absl::Now() + absl::Seconds(20); absl::Now() < give_up;) {
      const absl::StatusOr<GlobalPtr> global = store->Settle(gtrid);
      if (global.ok()) return *global;
      EXPECT_EQ(ReasonName(global.status()), "STORE_UNAVAILABLE") << global.status();
      absl::SleepFor(absl::Milliseconds(20));
    }
    ADD_FAILURE() << "never settled";
    return nullptr;
  }

  const MariaDbOptions direct_options_;
  TcpProxy proxy_;
  MariaDbOptions options_;
};

TEST_F(MariaDbFaultTest, ACommitWhoseAnswerIsLostIsUnknownAndThenKnownToBeThere) {
  for (const Commit what : {Commit::kLoseAnswer, Commit::kCutAfter}) {
    const std::string gtrid = absl::StrCat("g", static_cast<int>(what));
    const std::unique_ptr<MariaDbStore> store = MustOpenStore(options_);
    ASSERT_EQ(Put(store.get(), gtrid, 1), "APPLIED");
    proxy_.OnCommit(what);
    EXPECT_EQ(Put(store.get(), gtrid, 2, kCommitting), "UNKNOWN STORE_UNAVAILABLE");
    const GlobalPtr settled = MustSettle(store.get(), gtrid);
    ASSERT_NE(settled, nullptr);
    EXPECT_EQ(settled->revision(), 2);
    EXPECT_EQ(Put(store.get(), gtrid, 3), "APPLIED");
  }
  EXPECT_EQ(proxy_.commits_hit(), 2);
}

TEST_F(MariaDbFaultTest, ACommitThatNeverArrivedIsUnknownAndThenImpossible) {
  const std::unique_ptr<MariaDbStore> store = MustOpenStore(options_);
  ASSERT_EQ(Put(store.get(), "g", 1), "APPLIED");
  proxy_.OnCommit(Commit::kHoldRequest);
  EXPECT_EQ(Put(store.get(), "g", 2, kCommitting), "UNKNOWN STORE_UNAVAILABLE");
  EXPECT_EQ(MustSettle(store.get(), "g")->revision(), 1);
  // It arrives after all, far too late.
  proxy_.ReleaseHeld();
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_EQ((*store->Read("g"))->revision(), 1);
  EXPECT_EQ(Put(store.get(), "g", 2, v1::Global::STATE_ROLLING_BACK), "APPLIED");
  EXPECT_EQ((*store->Read("g"))->state(), v1::Global::STATE_ROLLING_BACK);
}

TEST_F(MariaDbFaultTest, AConnectionThatIsCutBeforeTheCommitIsUnknownAndNothingOfItIsThere) {
  const std::unique_ptr<MariaDbStore> store = MustOpenStore(options_);
  ASSERT_EQ(Put(store.get(), "g", 1), "APPLIED");
  proxy_.OnCommit(Commit::kCutBefore);
  EXPECT_EQ(Put(store.get(), "g", 2), "UNKNOWN STORE_UNAVAILABLE");
  EXPECT_EQ(MustSettle(store.get(), "g")->revision(), 1);
}

TEST_F(MariaDbFaultTest, AConnectionThatIsLostInTheMiddleOfAConflictIsMadeAgain) {
  const std::unique_ptr<MariaDbStore> store = MustOpenStore(options_);
  const std::unique_ptr<MariaDbStore> other = MustOpenStore(direct_options_);
  ASSERT_EQ(Put(other.get(), "g", 1), "APPLIED");
  proxy_.On("ROLLBACK", Commit::kCutBefore);
  // A duplicate key, and a row that has moved on.
  EXPECT_EQ(Put(store.get(), "g", 1), "CONFLICT");
  EXPECT_EQ(proxy_.commits_hit(), 1);
  ASSERT_EQ(Put(other.get(), "g", 2), "APPLIED");
  proxy_.On("ROLLBACK", Commit::kCutAfter);
  EXPECT_EQ(Put(store.get(), "g", 2), "CONFLICT");
  EXPECT_EQ(proxy_.commits_hit(), 2);
  EXPECT_EQ(Put(store.get(), "g", 3), "APPLIED");
}

TEST_F(MariaDbFaultTest, TheSecondInstanceSettlesWhatTheFirstLeftInTheAir) {
  const std::unique_ptr<MariaDbStore> first = MustOpenStore(options_);
  const std::unique_ptr<MariaDbStore> second = MustOpenStore(direct_options_);
  InstanceInfo info;
  info.address = "a";
  info.lease = absl::Milliseconds(200);
  ASSERT_TRUE(first->Members().Join(info).ok());
  info.address = "b";
  info.lease = absl::Minutes(1);
  ASSERT_TRUE(second->Members().Join(info).ok());
  ASSERT_EQ(Put(first.get(), "g", 1), "APPLIED");
  // The first stands still in the middle of its write, with the row locked and its fence held.
  proxy_.OnCommit(Commit::kHoldRequest);
  Results results;
  first->Submit(To(MakeGlobal("g", 2, kCommitting), Durability::kForced), results.Next());
  while (proxy_.commits_hit() == 0) absl::SleepFor(absl::Milliseconds(5));
  absl::SleepFor(absl::Milliseconds(300));
  const absl::Time begin = absl::Now();
  ASSERT_TRUE(second->Members().Renew(0).ok());
  EXPECT_FALSE((*second->Members().Instances())[0].alive);
  const absl::StatusOr<GlobalPtr> settled = second->Settle("g");
  ASSERT_TRUE(settled.ok()) << settled.status();
  EXPECT_EQ((*settled)->revision(), 1);
  EXPECT_LT(absl::Now() - begin, absl::Seconds(2));
  EXPECT_EQ(Put(second.get(), "g", 2, v1::Global::STATE_ROLLING_BACK), "APPLIED");
  proxy_.ReleaseHeld();
  EXPECT_EQ(ToString(results.Wait()[0]), "UNKNOWN STORE_UNAVAILABLE");
  EXPECT_EQ(MustSettle(first.get(), "g")->state(), v1::Global::STATE_ROLLING_BACK);
  EXPECT_EQ(Put(first.get(), "g", 3), "NOT_APPLIED INSTANCE_FENCED");
}

// What is told about chains of transitions under a fault must fit what is stored.
class Chains {
 public:
  Chains(Store* store, int count) : store_(store) {
    for (int i = 0; i < count; ++i) threads_.emplace_back([this, i] { Run(absl::StrCat("chain", i)); });
  }
  void Stop() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  int64_t applied() const { return applied_; }
  int64_t unknown() const { return unknown_; }
  int64_t refused() const { return refused_; }

 private:
  void Run(const std::string& gtrid) {
    int64_t revision = 0;
    while (!stop_) {
      const TransitionResult result =
          SubmitAndWait(store_, To(MakeGlobal(gtrid, revision + 1, kActive, "", 200), Durability::kForced));
      switch (result.code) {
        case Code::kApplied:
          ++applied_;
          ++revision;
          break;
        case Code::kConflict: ADD_FAILURE() << gtrid << " has only one writer"; return;
        case Code::kNotApplied:
          EXPECT_EQ(ReasonName(result.status), "STORE_UNAVAILABLE") << result.status;
          ++refused_;
          absl::SleepFor(absl::Milliseconds(5));
          break;
        case Code::kUnknown: {
          ++unknown_;
          absl::StatusOr<GlobalPtr> settled = store_->Settle(gtrid);
          for (const absl::Time give_up = absl::Now() + absl::Seconds(30); !settled.ok() && absl::Now() < give_up;) {
            absl::SleepFor(absl::Milliseconds(5));
            settled = store_->Settle(gtrid);
          }
          ASSERT_TRUE(settled.ok()) << settled.status();
          const int64_t stored = *settled == nullptr ? 0 : (*settled)->revision();
          EXPECT_TRUE(stored == revision || stored == revision + 1) << gtrid << " " << stored << " " << revision;
          revision = stored;
          break;
        }
      }
    }
    const absl::StatusOr<GlobalPtr> settled = store_->Settle(gtrid);
    ASSERT_TRUE(settled.ok()) << settled.status();
    EXPECT_EQ(*settled == nullptr ? 0 : (*settled)->revision(), revision) << gtrid;
  }

  Store* const store_;
  std::atomic<bool> stop_{false};
  std::atomic<int64_t> applied_{0};
  std::atomic<int64_t> unknown_{0};
  std::atomic<int64_t> refused_{0};
  std::vector<std::thread> threads_;
};

TEST_F(MariaDbFaultTest, EveryTenthConnectionIsCut) {
  const std::unique_ptr<MariaDbStore> store = MustOpenStore(options_);
  proxy_.CutEvery(10);
  Chains chains(store.get(), 8);
  for (const absl::Time give_up = absl::Now() + absl::Seconds(20); proxy_.cut() < 3 && absl::Now() < give_up;) {
    // A cut connection costs one; to come to the tenth, others have to go, too.
    proxy_.OnCommit(Commit::kCutAfter);
    absl::SleepFor(absl::Milliseconds(20));
  }
  proxy_.CutEvery(0);
  proxy_.OnCommit(Commit::kPass);
  absl::SleepFor(absl::Milliseconds(200));
  chains.Stop();
  EXPECT_GE(proxy_.cut(), 3);
  EXPECT_GT(chains.unknown(), 10);
  EXPECT_GT(chains.applied(), 100);
}

TEST_F(MariaDbFaultTest, ASlowStoreAnswersInBoundedTimeAndResumes) {
  const std::unique_ptr<MariaDbStore> store = MustOpenStore(options_);
  ASSERT_EQ(Put(store.get(), "g", 1), "APPLIED");
  proxy_.Delay(absl::Seconds(5));
  const absl::Time begin = absl::Now();
  const TransitionResult result = SubmitAndWait(store.get(), To(MakeGlobal("g", 2, kCommitting)));
  EXPECT_EQ(ReasonName(result.status), "STORE_UNAVAILABLE");
  const absl::StatusOr<GlobalPtr> read = store->Read("g");
  EXPECT_EQ(ReasonName(read.status()), "STORE_UNAVAILABLE");
  EXPECT_LT(absl::Now() - begin, absl::Seconds(20));
  proxy_.Delay(absl::ZeroDuration());
  EXPECT_EQ(MustSettle(store.get(), "g")->revision(), 1);
  std::string put = "";
  for (const absl::Time give_up = absl::Now() + absl::Seconds(20); put != "APPLIED" && absl::Now() < give_up;) {
    put = Put(store.get(), "g", 2, kCommitting);
  }
  EXPECT_EQ(put, "APPLIED");
}

TEST(MariaDbServerTest, AServerThatIsKilledAgainAndAgainLosesNothing) {
  const std::unique_ptr<PrivateMariaDb> server = StartStoreServer();
  const MariaDbOptions options = StoreOptions(*server);
  const std::unique_ptr<MariaDbStore> store = MustOpenStore(options);
  Chains chains(store.get(), 16);
  int64_t applied = 0;
  for (int round = 0; round < 4; ++round) {
    absl::SleepFor(absl::Milliseconds(500 + 130 * round));
    EXPECT_GT(chains.applied(), applied) << "it did not resume";
    server->Kill9();
    absl::SleepFor(absl::Milliseconds(200));
    const absl::Time begin = absl::Now();
    EXPECT_EQ(ReasonName(store->Read("x").status()), "STORE_UNAVAILABLE");
    EXPECT_LT(absl::Now() - begin, absl::Seconds(2));
    applied = chains.applied();
    ASSERT_TRUE(server->Restart().ok());
  }
  for (const absl::Time give_up = absl::Now() + absl::Seconds(20); absl::Now() < give_up;) {
    if (chains.applied() > applied + 50) break;
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_GT(chains.applied(), applied) << "it did not resume";
  chains.Stop();
  EXPECT_GT(chains.refused(), 0);
  EXPECT_FALSE(store->MayHaveLostLazyWrites());
}

TEST(MariaDbServerTest, AServerThatStandsStillIsUnavailableAndResumes) {
  const std::unique_ptr<PrivateMariaDb> server = StartStoreServer();
  MariaDbOptions options = StoreOptions(*server);
  options.answer_timeout = options.connect_timeout = absl::Seconds(1);
  const std::unique_ptr<MariaDbStore> store = MustOpenStore(options);
  Chains chains(store.get(), 4);
  absl::SleepFor(absl::Milliseconds(300));
  server->Suspend();
  absl::SleepFor(absl::Milliseconds(2500));
  const int64_t applied = chains.applied();
  server->Resume();
  for (const absl::Time give_up = absl::Now() + absl::Seconds(20); absl::Now() < give_up;) {
    if (chains.applied() > applied + 50) break;
    absl::SleepFor(absl::Milliseconds(20));
  }
  chains.Stop();
  EXPECT_GT(chains.applied(), applied) << "it did not resume";
  EXPECT_GT(chains.unknown() + chains.refused(), 0);
}

}  // namespace
}  // namespace assent
