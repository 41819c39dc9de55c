#include "resource_manager/witness.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/test_server.h"
#include "tests/fixtures/temp_dir.h"
#include "tests/profile/sync_counter.h"

namespace assent {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class WitnessTest : public testing::Test {
 protected:
  void SetUp() override {
    admin_ = MustConnect();
    MustQuery(admin_.get(), "DROP DATABASE IF EXISTS `wit-ness`");
  }

  std::unique_ptr<MariaDbSession> ConnectAs(const std::string& user, const std::string& grants) {
    MustQuery(admin_.get(), absl::StrCat("DROP USER IF EXISTS `", user, "`@localhost; CREATE USER `", user,
                                         "`@localhost IDENTIFIED BY 'p'"));
    if (!grants.empty()) MustQuery(admin_.get(), absl::StrCat(grants, " TO `", user, "`@localhost"));
    ConnectOptions options = ConnectOptionsFor(SharedServer());
    options.user = user;
    options.password = "p";
    return MustConnect(options);
  }

  std::unique_ptr<MariaDbSession> admin_;
  const WitnessTable table_ = *WitnessTable::OfSchema("wit-ness");
};

TEST_F(WitnessTest, InstallsOnceAndAgain) {
  EXPECT_EQ(*ReadWitnessVersion(admin_.get(), table_), 0);
  ASSERT_TRUE(InstallWitness(admin_.get(), table_).ok());
  EXPECT_EQ(*ReadWitnessVersion(admin_.get(), table_), kWitnessVersion);
  MustQuery(admin_.get(), table_.InsertSql(Xid{"g", "b"}));
  ASSERT_TRUE(InstallWitness(admin_.get(), table_).ok());
  EXPECT_EQ(*HasWitness(admin_.get(), table_, Xid{"g", "b"}), true);
  // Ids are bytes: neither case nor trailing spaces are the same.
  EXPECT_EQ(*HasWitness(admin_.get(), table_, Xid{"G", "b"}), false);
  EXPECT_EQ(*HasWitness(admin_.get(), table_, Xid{"g ", "b"}), false);
  EXPECT_EQ(One(admin_.get(), "SELECT ABS(TIMESTAMPDIFF(SECOND, created, NOW())) < 60 FROM `wit-ness`.witness"), "1");
}

TEST_F(WitnessTest, ManyMayInstallAtOnce) {
  std::vector<std::thread> threads;
  std::vector<absl::Status> results(8, absl::UnknownError("did not run"));
  for (absl::Status& result : results) {
    threads.emplace_back([&result, this] { result = InstallWitness(MustConnect().get(), table_); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& result : results) EXPECT_TRUE(result.ok()) << result;
}

TEST_F(WitnessTest, VisibleExactlyWhenTheBranchCommitted) {
  ASSERT_TRUE(InstallWitness(admin_.get(), table_).ok());
  for (const bool commit : {true, false}) {
    auto session = MustConnect();
    const Xid xid = NewXid();
    ASSERT_TRUE(session->Start(xid).xa.ok());
    EXPECT_FALSE(*HasWitness(admin_.get(), table_, xid));
    ASSERT_TRUE(session->Prepare(xid, &table_).ok());
    EXPECT_FALSE(*HasWitness(admin_.get(), table_, xid));
    ASSERT_TRUE((commit ? session->Commit(xid) : session->Rollback(xid)).ok());
    EXPECT_EQ(*HasWitness(admin_.get(), table_, xid), commit);
  }
}

TEST_F(WitnessTest, ReadsManyAtOnce) {
  const auto sights = [this](const std::vector<WitnessQuestion>& questions) {
    const auto answers = ReadWitnesses(admin_.get(), table_, questions);
    EXPECT_TRUE(answers.ok()) << answers.status();
    EXPECT_EQ(answers->problem.empty(),
              std::count(answers->sights.begin(), answers->sights.end(), WitnessSight::kUnknowable) == 0);
    return answers->sights;
  };
  const absl::Time before = absl::Now();
  const Xid committed = NewXid();
  EXPECT_THAT(sights({{committed, absl::InfiniteFuture()}}), ElementsAre(WitnessSight::kUnknowable)) << "no table";
  ASSERT_TRUE(InstallWitness(admin_.get(), table_).ok());
  const absl::Time after = absl::Now();
  MustQuery(admin_.get(), table_.InsertSql(committed));
  auto holder = MustConnect();
  const Xid open = NewXid();
  ASSERT_TRUE(holder->Start(open).xa.ok());
  ASSERT_TRUE(holder->Prepare(open, &table_).ok());
  EXPECT_THAT(sights({{NewXid(), after}, {open, after}, {committed, after}, {NewXid(), before}, {committed, before}}),
              ElementsAre(WitnessSight::kAbsent, WitnessSight::kUncommitted, WitnessSight::kCommitted,
                          WitnessSight::kUnknowable, WitnessSight::kCommitted));
  // What somebody is deleting is still committed.
  auto deleter = MustConnect();
  MustQuery(deleter.get(), absl::StrCat("BEGIN; DELETE FROM `wit-ness`.witness WHERE gtrid = '", committed.gtrid, "'"));
  EXPECT_THAT(sights({{committed, after}}), ElementsAre(WitnessSight::kCommitted));
  ASSERT_TRUE(holder->Rollback(open).ok());
  EXPECT_THAT(sights({{open, after}}), ElementsAre(WitnessSight::kAbsent));
  // The session's next transaction is as it was.
  EXPECT_EQ(One(admin_.get(), OnMySql() ? "SELECT @@transaction_isolation" : "SELECT @@tx_isolation"),
            "REPEATABLE-READ");
  EXPECT_THAT(sights({}), IsEmpty());
  EXPECT_EQ(ReasonOf(ReadWitnesses(admin_.get(), table_,
                                   std::vector<WitnessQuestion>(kMaxWitnessesPerRead + 1, {open, after}))
                         .status()),
            Reason::INVALID_FIELD);
}

TEST_F(WitnessTest, ListsByPrefixAndPage) {
  EXPECT_TRUE(ListWitnesses(admin_.get(), table_, "c-", Xid{}, 10)->empty());
  ASSERT_TRUE(InstallWitness(admin_.get(), table_).ok());
  std::vector<Xid> xids;
  for (const char* gtrid : {"c-1", "c-2", "c-z"}) {
    for (const char* bqual : {"1", "2", "3"}) xids.push_back(Xid{gtrid, bqual});
  }
  for (const Xid& xid : xids) MustQuery(admin_.get(), table_.InsertSql(xid));
  for (const char* other : {"c", "b-9", "c.1", "d-1", "C-1"}) {
    MustQuery(admin_.get(), table_.InsertSql(Xid{other, "1"}));
  }
  for (const int limit : {1, 2, 4, 100}) {
    std::vector<Xid> listed;
    Xid after;
    for (;;) {
      const auto page = ListWitnesses(admin_.get(), table_, "c-", after, limit);
      ASSERT_TRUE(page.ok()) << page.status();
      ASSERT_LE(page->size(), static_cast<size_t>(limit));
      if (page->empty()) break;
      listed.insert(listed.end(), page->begin(), page->end());
      after = listed.back();
    }
    EXPECT_EQ(listed, xids) << limit;
  }
  // The page that comes behind an id of another prefix.
  EXPECT_EQ(ListWitnesses(admin_.get(), table_, "c-", Xid{"b-9", "1"}, 100)->size(), xids.size());
  EXPECT_EQ(ListWitnesses(admin_.get(), table_, "c-", Xid{"d", "1"}, 100)->size(), 0u);
  EXPECT_THAT(ListWitnesses(admin_.get(), table_, "", Xid{}, 100)->size(), xids.size() + 5) << "and no birth row";
}

TEST_F(WitnessTest, ListsWhatIsOpenBehindAnyNumberOfOthers) {
  ASSERT_TRUE(InstallWitness(admin_.get(), table_).ok());
  auto open = MustConnect();
  MustQuery(open.get(), "START TRANSACTION");
  const auto insert = [&](MariaDbSession* session, const char* prefix, int count) {
    MustQuery(session, absl::StrCat("INSERT INTO ", table_.quoted(),
                                    " (gtrid, bqual) WITH RECURSIVE seq (n) AS (SELECT 1 UNION ALL SELECT n + 1 "
                                    "FROM seq WHERE n < ",
                                    count, ") SELECT CONCAT('", prefix, "', LPAD(n, 5, '0')), 'b' FROM seq"));
  };
  for (MariaDbSession* session : {open.get(), admin_.get()}) {
    MustQuery(session, absl::StrCat("SET SESSION ", OnMySql() ? "cte_max_recursion_depth" : "max_recursive_iterations",
                                    " = 10000"));
  }
  insert(open.get(), "c-1", 2500);
  insert(admin_.get(), "c-2", 2500);
  MustQuery(open.get(), table_.InsertSql(Xid{"c-3", "b"}));
  MustQuery(open.get(), table_.InsertSql(Xid{"c-3", "b2"}));
  MustQuery(open.get(), table_.InsertSql(Xid{"d-1", "b"}));
  const auto list = [&](const std::set<Xid>& except) {
    const auto xids = ListOpenWitnesses(admin_.get(), table_, "c-", except);
    EXPECT_TRUE(xids.ok()) << xids.status();
    return *xids;
  };
  std::vector<Xid> all = list({});
  ASSERT_EQ(all.size(), 2502u);
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end()));
  EXPECT_THAT(list({all.begin(), all.begin() + 2500}), ElementsAre(Xid{"c-3", "b"}, Xid{"c-3", "b2"}));
  MustQuery(open.get(), "COMMIT");
  EXPECT_THAT(list({}), IsEmpty());
}

TEST_F(WitnessTest, ATableThatADdlStatementHasIsNeitherMissingNorForeign) {
  ASSERT_TRUE(InstallWitness(admin_.get(), table_).ok());
  auto holder = MustConnect();
  auto ddl = MustConnect();
  const Xid xid{"c-1", "b"};
  ASSERT_TRUE(holder->Start(xid).xa.ok());
  ASSERT_TRUE(holder->Prepare(xid, &table_).ok());
  holder->Abandon();
  ddl->SendQuery(absl::StrCat("SET innodb_lock_wait_timeout = 60; OPTIMIZE TABLE ", table_.quoted()));
  auto asker = MustConnect();
  MustQuery(asker.get(), "SET lock_wait_timeout = 1");
  absl::Status checked;
  for (int i = 0; i < 100 && checked.ok(); ++i) {
    absl::SleepFor(absl::Milliseconds(50));
    checked = CheckWitness(asker.get(), table_);
  }
  EXPECT_EQ(ReasonOf(checked), Reason::DATABASE_ERROR) << checked;
  EXPECT_THAT(std::string(checked.message()), testing::Not(HasSubstr("drop")));
  const auto answers = ReadWitnesses(asker.get(), table_, {WitnessQuestion{xid, absl::Now()}});
  ASSERT_TRUE(answers.ok()) << answers.status();
  EXPECT_EQ(answers->sights[0], WitnessSight::kUnknowable);
  ASSERT_TRUE(admin_->Commit(xid).ok());
  EXPECT_TRUE(ddl->ReceiveQuery().ok());
  EXPECT_TRUE(CheckWitness(asker.get(), table_).ok());
}

TEST_F(WitnessTest, DeletesInBatchesWithoutWaitingForOthers) {
  ASSERT_TRUE(InstallWitness(admin_.get(), table_).ok());
  std::vector<Xid> xids;
  std::string sql;
  for (int i = 0; i < kMaxWitnessesPerDelete; ++i) {
    xids.push_back(Xid{"g", absl::StrCat(i)});
    absl::StrAppend(&sql, table_.InsertSql(xids.back()), ";");
  }
  MustQuery(admin_.get(), sql);
  // Unfinished neighbours, in the middle of the table and at both ends.
  std::vector<std::unique_ptr<MariaDbSession>> holders;
  std::vector<Xid> held;
  for (const char* gtrid : {"a", "g", "z"}) {
    holders.push_back(MustConnect());
    held.push_back(Xid{gtrid, "500x"});
    ASSERT_TRUE(holders.back()->Start(held.back()).xa.ok());
    ASSERT_TRUE(holders.back()->Prepare(held.back(), &table_).ok());
  }
  MustQuery(admin_.get(), "SET SESSION innodb_lock_wait_timeout = 1");
  const absl::Status deleted = DeleteWitnesses(admin_.get(), table_, xids);
  EXPECT_TRUE(deleted.ok()) << deleted;
  EXPECT_EQ(One(admin_.get(), "SELECT COUNT(*) FROM `wit-ness`.witness WHERE gtrid > ''"), "0");
  // Missing ones are no error, and a table that is nearly empty is not scanned either.
  const absl::Status again = DeleteWitnesses(admin_.get(), table_, absl::MakeSpan(xids).subspan(499, 3));
  EXPECT_TRUE(again.ok()) << again;
  EXPECT_TRUE(DeleteWitnesses(admin_.get(), table_, held).ok()) << "it must not wait for what is prepared";
  for (size_t i = 0; i < held.size(); ++i) EXPECT_TRUE(holders[i]->Commit(held[i]).ok());
  EXPECT_EQ(One(admin_.get(), "SELECT COUNT(*) FROM `wit-ness`.witness WHERE gtrid > ''"), "3");
  EXPECT_TRUE(DeleteWitnesses(admin_.get(), table_, held).ok());
  EXPECT_EQ(One(admin_.get(), "SELECT COUNT(*) FROM `wit-ness`.witness WHERE gtrid > ''"), "0");
  EXPECT_TRUE(DeleteWitnesses(admin_.get(), table_, {}).ok());
  xids.push_back(Xid{"g", "one-too-many"});
  EXPECT_EQ(ReasonOf(DeleteWitnesses(admin_.get(), table_, xids)), Reason::INVALID_FIELD);
}

TEST_F(WitnessTest, DeleteIsAllOrNothing) {
  ASSERT_TRUE(InstallWitness(admin_.get(), table_).ok());
  MustQuery(admin_.get(), absl::StrCat(table_.InsertSql(Xid{"g", "1"}), ";", table_.InsertSql(Xid{"g", "2"})));
  auto other = MustConnect();
  MustQuery(other.get(), "BEGIN; SELECT * FROM `wit-ness`.witness WHERE gtrid = 'g' AND bqual = '2' FOR UPDATE");
  MustQuery(admin_.get(), "SET SESSION innodb_lock_wait_timeout = 1");
  const absl::Status status = DeleteWitnesses(admin_.get(), table_, {Xid{"g", "1"}, Xid{"g", "2"}});
  EXPECT_EQ(ReasonOf(status), Reason::DATABASE_ERROR);
  EXPECT_EQ(MetadataOf(status)["error_code"], "1205");
  EXPECT_TRUE(*HasWitness(other.get(), table_, Xid{"g", "1"}));
  // The session is out of its transaction again.
  EXPECT_TRUE(admin_->Start(NewXid()).xa.ok());
}

// InnoDB shows a transaction before its log is on disk; a server that dies in between has never committed it.
TEST(ForceWitnessesTest, WaitsForTheDiskThatWhatIsSeenIsNotOnYet) {
  const TempDir dir = *TempDir::Create();
  const SyncCounter counter(dir.path() + "/count");
  const std::string hold = dir.path() + "/hold";
  std::unique_ptr<PrivateMariaDb> server;
  {
    std::vector<std::string> variables = counter.Environment();
    variables.push_back("SYNC_SHIM_HOLD=" + hold);
    const ScopedEnvironment scoped(variables);
    // Statistics of a new table are saved in the background, with the dictionary locked until they are on the disk:
    // then no table could be opened for as long as it is held.
    PrivateMariaDb::Options options;
    options.extra = {"--innodb-stats-persistent=OFF"};
    server = *StartServer(std::move(options));
  }
  const WitnessTable table = *WitnessTable::OfSchema("assent");
  auto admin = MustConnect(ConnectOptionsFor(*server));
  auto other = MustConnect(ConnectOptionsFor(*server));
  auto session = MustConnect(ConnectOptionsFor(*server));
  ASSERT_TRUE(InstallWitness(admin.get(), table).ok());
  for (int again = 0; again < 2; ++again) EXPECT_TRUE(ForceWitnesses(admin.get(), table).ok());
  const Xid xid = NewXid();
  ASSERT_TRUE(session->Start(xid).xa.ok());
  std::ofstream(hold).flush();
  std::thread committing([&] { EXPECT_TRUE(session->CommitOnePhase(xid, &table).ok()); });
  const absl::Time give_up = absl::Now() + absl::Seconds(20);
  while (!*HasWitness(admin.get(), table, WitnessOf(xid, /*one_phase=*/true)) && absl::Now() < give_up) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_TRUE(*HasWitness(admin.get(), table, WitnessOf(xid, true)));
  std::atomic<bool> forced{false};
  std::thread forcing([&] {
    EXPECT_TRUE(ForceWitnesses(other.get(), table).ok());
    forced = true;
  });
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_FALSE(forced);
  std::remove(hold.c_str());
  forcing.join();
  committing.join();
  // It leaves nothing that is taken for a branch's.
  EXPECT_THAT(*ListWitnesses(admin.get(), table, "", Xid(), 10), ElementsAre(WitnessOf(xid, true)));
}

TEST_F(WitnessTest, WhatCannotBeForcedSaysWhy) {
  EXPECT_EQ(ReasonOf(ForceWitnesses(admin_.get(), table_)), Reason::DATABASE_ERROR);  // There is none.
  ASSERT_TRUE(InstallWitness(admin_.get(), table_).ok());
  auto reader = ConnectAs("reader", "GRANT SELECT ON `wit-ness`.*");
  const absl::Status refused = ForceWitnesses(reader.get(), table_);
  EXPECT_EQ(ReasonOf(refused), Reason::RESOURCE_UNFIT);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("GRANT"));
}

TEST_F(WitnessTest, MissingPrivilegesAreNamed) {
  auto nobody = ConnectAs("no'body", "");
  absl::Status status = InstallWitness(nobody.get(), table_);
  EXPECT_EQ(ReasonOf(status), Reason::RESOURCE_UNFIT);
  EXPECT_EQ(MetadataOf(status)["grant"],
            "GRANT CREATE, ALTER, SELECT, INSERT, UPDATE, DELETE ON `wit-ness`.* TO 'no''body'@'localhost'");
  // The statement that the error names is all it takes.
  MustQuery(admin_.get(), MetadataOf(status)["grant"]);
  status = InstallWitness(nobody.get(), table_);
  EXPECT_TRUE(status.ok()) << status;

  // Who may only look at it cannot sweep it.
  auto reader = ConnectAs("reader", "GRANT SELECT ON `wit-ness`.*");
  status = InstallWitness(reader.get(), table_);
  EXPECT_EQ(ReasonOf(status), Reason::RESOURCE_UNFIT);
  EXPECT_EQ(MetadataOf(status)["grant"],
            "GRANT SELECT, INSERT, UPDATE, DELETE ON `wit-ness`.* TO 'reader'@'localhost'");

  // A table that is there needs no CREATE.
  auto sweeper = ConnectAs("sweeper", "GRANT SELECT, INSERT, UPDATE, DELETE ON `wit-ness`.*");
  EXPECT_TRUE(InstallWitness(sweeper.get(), table_).ok());

  // A branch whose account may not insert fails at its witness, and only there.
  const Xid xid = NewXid();
  ASSERT_TRUE(reader->Start(xid).xa.ok());
  const XaResult prepared = reader->Prepare(xid, &table_);
  EXPECT_EQ(prepared.failed_step, XaResult::Step::kWitness);
  EXPECT_EQ(prepared.error.code, 1142);
  EXPECT_EQ(prepared.branch, BranchState::kActive);
  EXPECT_TRUE(reader->Rollback(xid).ok());
}

TEST_F(WitnessTest, RefusesForeignAndNewerTables) {
  ASSERT_TRUE(InstallWitness(admin_.get(), table_).ok());
  MustQuery(admin_.get(), "ALTER TABLE `wit-ness`.witness COMMENT = 'assent witness v2'");
  absl::Status status = InstallWitness(admin_.get(), table_);
  EXPECT_EQ(ReasonOf(status), Reason::RESOURCE_UNFIT);
  EXPECT_THAT(std::string(status.message()), HasSubstr("newer"));
  for (const char* change : {"COMMENT = ''", "COMMENT = 'assent witness vX'", "COMMENT = 'assent witness v0'",
                             "COMMENT = 'assent witness v1' ENGINE = MyISAM"}) {
    MustQuery(admin_.get(), absl::StrCat("ALTER TABLE `wit-ness`.witness ", change));
    status = InstallWitness(admin_.get(), table_);
    EXPECT_EQ(ReasonOf(status), Reason::RESOURCE_UNFIT) << change;
    EXPECT_THAT(std::string(status.message()), HasSubstr("is not the assent witness table")) << change;
  }
}

}  // namespace
}  // namespace assent
