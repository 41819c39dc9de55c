// The bank over real databases and a real coordinator: every way to fail half-way, the coordinator killed again and
// again, and a checker that is shown to notice what is wrong.
#include "tests/bank/bank.h"

#include <cstdlib>
#include <functional>
#include <random>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/database_engine.h"
#include "tests/bank/chaos.h"
#include "tests/bank/checker.h"
#include "tests/bank/rig.h"
#include "tests/fixtures/coordinator_api.h"
#include "tests/fixtures/databases.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

using ::testing::HasSubstr;

class BankTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!WhyNotHere().empty()) GTEST_SKIP() << WhyNotHere();
    BankRigOptions options;
    options.folder = dir_.path();
    options.accounts = 40;
    auto rig = BankRig::Start(options);
    ASSERT_TRUE(rig.ok()) << rig.status();
    rig_ = *std::move(rig);
  }

  const BankConfig& config() { return rig_->config(); }

  BankReport Check(const std::vector<JournalEntry>& journal) {
    const absl::StatusOr<BankReport> report = CheckBank(config(), journal);
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *report : BankReport();
  }

  void Sql(int server, absl::string_view sql) {
    const auto session = ConnectTo(config().servers[static_cast<size_t>(server)]);
    ASSERT_TRUE(session.ok()) << session.status();
    const QueryResult result = (*session)->Query(sql);
    ASSERT_TRUE(result.ok()) << sql << ": " << result.error.message;
  }

  TempDir dir_ = *TempDir::Create();
  std::unique_ptr<BankRig> rig_;
};

TEST_F(BankTest, EveryWayToFailHalfWayRollsBackAndTheNextTransferGoesThrough) {
  std::vector<JournalEntry> journal;
  {
    Client client(config().coordinator);
    Teller teller(&config(), &client);
    int64_t id = 0;
    for (const FailHalfWay fail : kAllFailures) {
      journal.push_back(teller.Transfer({++id, 2, 3, 10, fail}));
      EXPECT_EQ(journal.back().told, Told::kRolledBack) << static_cast<int>(fail) << " " << journal.back().why;
      EXPECT_FALSE(journal.back().gtrid.empty());
      journal.push_back(teller.Transfer({++id, 2, 3, 10, FailHalfWay::kNo}));
      EXPECT_EQ(journal.back().told, Told::kCommitted) << static_cast<int>(fail) << " " << journal.back().why;
    }
    EXPECT_TRUE(client.Flush(absl::Seconds(10)));
  }
  const BankReport report = Check(journal);
  EXPECT_EQ(report.violations, 0) << TextOf(report);
  EXPECT_EQ(report.committed, static_cast<int64_t>(std::size(kAllFailures)));
  EXPECT_EQ(report.rolled_back, static_cast<int64_t>(std::size(kAllFailures)));
}

TEST_F(BankTest, TheCoordinatorKeepsTheDatabasesOwnWordsForAFailure) {
  Client client(config().coordinator);
  Teller teller(&config(), &client);
  const JournalEntry entry = teller.Transfer({1, 2, 3, 10, FailHalfWay::kOverdraft});
  const auto global = CoordinatorApi(config().coordinator).GetGlobal(entry.gtrid);
  ASSERT_TRUE(global.ok()) << global.status();
  EXPECT_EQ(global->global().cause(), v1::DECISION_CAUSE_BRANCH_FAILED);
  EXPECT_THAT(global->global().cause_detail(), HasSubstr("balance_not_negative"));
  const v1::BranchFailure& failure = global->global().branches(1).failure();
  switch (EngineOfServer(1)) {
    case v1::Resource::ENGINE_POSTGRESQL: EXPECT_EQ(failure.sqlstate(), "23514"); break;
    case v1::Resource::ENGINE_MYSQL: EXPECT_EQ(failure.error_code(), 3819); break;
    default: EXPECT_EQ(failure.error_code(), 4025); EXPECT_EQ(failure.sqlstate(), "23000");
  }
}

// Each kind of damage is done to a bank that is in order, and must be found under its own heading.
TEST_F(BankTest, TheCheckerNoticesEveryKindOfDamage) {
  std::vector<JournalEntry> journal;
  {
    Client client(config().coordinator);
    Teller teller(&config(), &client);
    journal.push_back(teller.Transfer({1, 2, 3, 10, FailHalfWay::kNo}));
    journal.push_back(teller.Transfer({2, 4, 5, 10, FailHalfWay::kRollback}));
    ASSERT_TRUE(client.Flush(absl::Seconds(10)));
  }
  ASSERT_EQ(Check(journal).violations, 0) << TextOf(Check(journal));
  const auto expect_found = [&](absl::string_view what, const std::function<void()>& damage,
                                const std::function<void()>& repair) {
    damage();
    const BankReport report = Check(journal);
    repair();
    int64_t found = 0;
    for (const CheckLine& check : report.checks) {
      if (absl::StrContains(check.what, what)) found += check.count;
    }
    EXPECT_GT(found, 0) << what << " was not noticed; what was: " << TextOf(report);
    EXPECT_EQ(Check(journal).violations, 0) << "the repair is not one";
  };
  expect_found(
      "sum of all balances", [&] { Sql(0, "UPDATE bank.accounts SET balance = balance + 1 WHERE id = 8"); },
      [&] { Sql(0, "UPDATE bank.accounts SET balance = balance - 1 WHERE id = 8"); });
  expect_found(
      "every balance is explained",
      [&] {
        Sql(0, "UPDATE bank.accounts SET balance = balance + CASE WHEN id = 8 THEN 1 ELSE -1 END WHERE id IN (8, 10)");
      },
      [&] {
        Sql(0, "UPDATE bank.accounts SET balance = balance - CASE WHEN id = 8 THEN 1 ELSE -1 END WHERE id IN (8, 10)");
      });
  expect_found(
      "on both servers or on neither", [&] { Sql(1, "UPDATE bank.ledger SET transfer = 99"); },
      [&] { Sql(1, "UPDATE bank.ledger SET transfer = 1"); });
  expect_found(
      "on both servers or on neither", [&] { Sql(1, "UPDATE bank.ledger SET amount = amount + 1"); },
      [&] { Sql(1, "UPDATE bank.ledger SET amount = amount - 1"); });
  expect_found(
      "told", [&] { journal[0].told = Told::kRolledBack; }, [&] { journal[0].told = Told::kCommitted; });
  expect_found(
      "told", [&] { journal[1].told = Told::kCommitted; }, [&] { journal[1].told = Told::kRolledBack; });
  expect_found(
      "told", [&] { journal[0].told = Told::kInDoubt; }, [&] { journal[0].told = Told::kCommitted; });
  expect_found(
      "told", [&] { journal.push_back(journal[0]); }, [&] { journal.pop_back(); });
  expect_found(
      "nothing is prepared",
      [&] {
        const auto session = ConnectTo(config().servers[1]);
        ASSERT_TRUE(session.ok());
        ASSERT_TRUE((*session)->Start({"x", "y"}, "INSERT INTO bank.ledger VALUES (77, 9, 0, 'x')").xa.ok());
        ASSERT_TRUE((*session)->Prepare({"x", "y"}, nullptr).ok());
        (*session)->Abandon();
      },
      [&] {
        absl::SleepFor(absl::Milliseconds(100));  // The session that prepared has to be gone.
        Sql(1, FindDatabaseEngine(EngineOfServer(1))->finish_sql({"x", "y"}, /*commit=*/false));
      });
  expect_found(
      "coordinator says the same",
      [&] {
        Sql(0, "UPDATE bank.ledger SET gtrid = 'bank-unknown'");
        Sql(1, "UPDATE bank.ledger SET gtrid = 'bank-unknown'");
      },
      [&] {
        Sql(0, absl::StrCat("UPDATE bank.ledger SET gtrid = '", journal[0].gtrid, "'"));
        Sql(1, absl::StrCat("UPDATE bank.ledger SET gtrid = '", journal[0].gtrid, "'"));
      });
  if (!FindDatabaseEngine(EngineOfServer(0))->leaves_witnesses) return;
  expect_found(
      "witness",
      [&] {
        Sql(0, absl::StrCat("INSERT INTO assent.witness (gtrid, bqual) VALUES ('", journal[1].gtrid, "', 'b1')"));
      },
      [&] { Sql(0, absl::StrCat("DELETE FROM assent.witness WHERE gtrid = '", journal[1].gtrid, "'")); });
}

// ASSENT_BANK_SECONDS makes it longer: a soak.
TEST_F(BankTest, ChaosTheCoordinatorIsKilledAgainAndAgain) {
  constexpr int kWorkers = 8;
  int64_t seconds = 20;
  if (const char* value = std::getenv("ASSENT_BANK_SECONDS")) {
    ASSERT_TRUE(absl::SimpleAtoi(value, &seconds));
  }
  const uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << ", " << seconds << " s\n";
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;
  std::vector<absl::Status> ended(kWorkers);
  const auto journal_of = [this](int i) { return absl::StrCat(dir_.path(), "/journal.", i); };
  for (int i = 0; i < kWorkers; ++i) {
    workers.emplace_back([&, i] {
      WorkloadOptions options;
      options.first_id = i + 1;
      options.last_id = 1000000000;
      options.stride = kWorkers;
      options.fail_fraction = 0.1;
      options.seed = seed + static_cast<uint64_t>(i);
      options.stop = &stop;
      ended[static_cast<size_t>(i)] = RunWorkload(config(), options, journal_of(i));
    });
  }
  std::mt19937_64 random(seed);
  int kills = 0;
  for (const absl::Time end = absl::Now() + absl::Seconds(seconds); absl::Now() < end; ++kills) {
    absl::SleepFor(absl::Milliseconds(std::uniform_int_distribution<int>(50, 1500)(random)));
    rig_->coordinator().Kill9();
    absl::SleepFor(absl::Milliseconds(std::uniform_int_distribution<int>(0, 300)(random)));
    const absl::Status started = rig_->coordinator().Restart();
    EXPECT_TRUE(started.ok()) << started;
  }
  stop = true;
  for (std::thread& worker : workers) worker.join();
  std::vector<JournalEntry> journal;
  for (int i = 0; i < kWorkers; ++i) {
    EXPECT_TRUE(ended[static_cast<size_t>(i)].ok()) << ended[static_cast<size_t>(i)];
    const auto entries = JournalReader(journal_of(i)).ReadNew();
    ASSERT_TRUE(entries.ok()) << entries.status();
    journal.insert(journal.end(), entries->begin(), entries->end());
  }
  const BankReport report = Check(journal);
  EXPECT_EQ(report.violations, 0) << TextOf(report);
  EXPECT_GT(report.committed, seconds) << "hardly anything went through";
  EXPECT_GT(report.rolled_back, 0);
  std::cout << kills << " kills, " << report.committed << " committed, " << report.rolled_back << " rolled back\n";
}

}  // namespace
}  // namespace assent
