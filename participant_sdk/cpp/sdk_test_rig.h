// What the SDK's tests share: two real servers, a real coordinator, and short ways to look at them.
#ifndef ASSENT_PARTICIPANT_SDK_CPP_SDK_TEST_RIG_H_
#define ASSENT_PARTICIPANT_SDK_CPP_SDK_TEST_RIG_H_

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "participant_sdk/cpp/client.h"
#include "participant_sdk/cpp/global_transaction.h"
#include "tests/bank/bank.h"
#include "tests/bank/rig.h"
#include "tests/fixtures/coordinator_api.h"
#include "tests/fixtures/databases.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {

constexpr char kOrders[] = "orders";      // Server 0: accounts 0, 2, 4, …
constexpr char kPayments[] = "payments";  // Server 1: accounts 1, 3, 5, …
constexpr int64_t kInitialBalance = 1000;

// The rig is started once per test program. Every test gets fresh balances, and must leave nothing prepared.
class SdkTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!WhyNotHere().empty()) GTEST_SKIP() << WhyNotHere();
    if (!rig().coordinator().running()) {
      ASSERT_TRUE(rig().coordinator().Restart().ok());
    }
    for (int i = 0; i < kBankServers; ++i) {
      admin_[static_cast<size_t>(i)] = Session(i);
      Sql(i, absl::StrCat("UPDATE bank.accounts SET balance = ", kInitialBalance));
      sessions_[static_cast<size_t>(i)] = Session(i);
    }
  }

  void TearDown() override {
    if (IsSkipped()) return;
    for (int i = 0; i < kBankServers; ++i) EXPECT_EQ(PreparedOn(i), 0u) << "left behind on server " << i;
  }

  static BankRig& rig() {
    static BankRig* const rig = [] {
      static TempDir* const dir = new TempDir(*TempDir::Create());
      BankRigOptions options;
      options.folder = dir->path();
      options.accounts = 20;
      options.initial_balance = kInitialBalance;
      auto started = BankRig::Start(options);
      CHECK(started.ok()) << started.status();
      static std::unique_ptr<BankRig> owner = *std::move(started);
      std::atexit([] {
        owner.reset();
        delete dir;
      });
      return owner.get();
    }();
    return *rig;
  }

  static std::unique_ptr<BranchSession> Session(int server) {
    auto session = ConnectTo(rig().config().servers[static_cast<size_t>(server)]);
    CHECK(session.ok()) << session.status();
    return *std::move(session);
  }
  static bool IsPostgres(int server) { return EngineOfServer(server) == v1::Resource::ENGINE_POSTGRESQL; }
  static Client NewClient(const ClientOptions& options = {}) {
    // A test that will skip itself has no rig.
    return Client(WhyNotHere().empty() ? rig().config().coordinator : "127.0.0.1:1", options);
  }

  BranchSession* session(int server) { return sessions_[static_cast<size_t>(server)].get(); }
  BranchSession* admin(int server) { return admin_[static_cast<size_t>(server)].get(); }

  // Takes one from an account of the server.
  static std::string Take(int account) {
    return absl::StrCat("UPDATE bank.accounts SET balance = balance - 1 WHERE id = ", account);
  }

  QueryResult Sql(int server, absl::string_view sql) {
    QueryResult result = admin(server)->Query(sql);
    EXPECT_TRUE(result.ok()) << sql << ": " << result.error.code << " " << result.error.message;
    return result;
  }
  int64_t Number(int server, absl::string_view sql, size_t column = 0) {
    const QueryResult result = Sql(server, sql);
    int64_t number = -1;
    if (result.rows().empty() || !absl::SimpleAtoi(result.rows()[0][column].value_or(""), &number)) return -1;
    return number;
  }
  // What was taken from an account.
  int64_t Taken(int account) {
    return kInitialBalance -
           Number(account % kBankServers, absl::StrCat("SELECT balance FROM bank.accounts WHERE id = ", account));
  }
  // 0 on a server whose branches leave none.
  int64_t Witnesses(int server, const std::string& gtrid) {
    if (IsPostgres(server)) return 0;
    return Number(server, absl::StrCat("SELECT COUNT(*) FROM assent.witness WHERE gtrid = '", gtrid, "'"));
  }
  // 0 on a server that does not count.
  int64_t Counter(int server, const std::string& name) {
    if (IsPostgres(server)) return 0;
    return Number(server, absl::StrCat("SHOW GLOBAL STATUS LIKE '", name, "'"), 1);
  }
  size_t PreparedOn(int server) {
    const auto xids = admin(server)->Recover();
    EXPECT_TRUE(xids.ok()) << xids.status();
    return xids.ok() ? xids->size() : 999;
  }
  // The coordinator finishes what a test has left in doubt on purpose, by itself.
  void AwaitOutcome(const std::string& gtrid, v1::Outcome outcome) {
    for (int i = 0; i < 3000 && Global(gtrid).outcome() != outcome; ++i) absl::SleepFor(absl::Milliseconds(20));
    EXPECT_EQ(Global(gtrid).outcome(), outcome) << Global(gtrid).DebugString();
  }
  void KillConnection(int server, BranchSession* victim) {
    Sql(server, KillSql(*victim, EngineOfServer(server)));
    while (!Sql(server, SessionSql(victim->connection_id(), EngineOfServer(server))).rows().empty()) {
      absl::SleepFor(absl::Milliseconds(2));
    }
  }
  // Waits until the statement of that session waits for something.
  void AwaitState(int server, const BranchSession& waiting, absl::string_view state) {
    for (int i = 0; i < 1000; ++i) {
      if (Number(server, absl::StrCat("SELECT COUNT(*) FROM information_schema.processlist WHERE id = ",
                                      waiting.connection_id(), " AND state LIKE '", state, "'")) == 1) {
        return;
      }
      absl::SleepFor(absl::Milliseconds(5));
    }
    ADD_FAILURE() << "never in state " << state;
  }

  v1::GetGlobalResponse Global(const std::string& gtrid) {
    const auto response = CoordinatorApi(rig().config().coordinator).GetGlobal(gtrid);
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? *response : v1::GetGlobalResponse();
  }
  void AwaitPreparedVotes(const std::string& gtrid, int votes) {
    for (int i = 0; i < 1000; ++i) {
      const v1::GetGlobalResponse now = Global(gtrid);
      int prepared = 0;
      for (const v1::Branch& branch : now.global().branches()) prepared += branch.state() == v1::Branch::STATE_PREPARED;
      if (prepared >= votes) return;
      absl::SleepFor(absl::Milliseconds(5));
    }
    ADD_FAILURE() << "not " << votes << " votes";
  }

 private:
  std::array<std::unique_ptr<BranchSession>, kBankServers> admin_;
  std::array<std::unique_ptr<BranchSession>, kBankServers> sessions_;
};

// The branch, or the end of the program.
inline Branch* MustOpen(GlobalTransaction* transaction, absl::string_view resource, BranchSession* session) {
  const absl::StatusOr<Branch*> branch = transaction->OpenBranch(resource, session);
  CHECK(branch.ok()) << branch.status();
  return *branch;
}

inline GlobalTransaction MustBegin(Client* client, const BeginOptions& options = {}) {
  absl::StatusOr<GlobalTransaction> transaction = client->Begin(options);
  CHECK(transaction.ok()) << transaction.status();
  return *std::move(transaction);
}

}  // namespace assent

#endif  // ASSENT_PARTICIPANT_SDK_CPP_SDK_TEST_RIG_H_
