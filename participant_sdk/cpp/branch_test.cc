// What goes wrong inside a branch: it poisons the branch, and the coordinator keeps the database's own words.
#include "participant_sdk/cpp/branch.h"

#include <mariadb/mysql.h>
#include <postgresql/libpq-fe.h>

#include <thread>

#include "participant_sdk/cpp/sdk_test_rig.h"

namespace assent {
namespace {

using ::testing::HasSubstr;

// What the server of the payments answers.
struct ErrorOf {
  int code;  // 0: the engine has no numbers.
  const char* sqlstate;
};

class BranchTest : public SdkTest {
 protected:
  static ErrorOf DuplicateKey() { return IsPostgres(1) ? ErrorOf{0, "23505"} : ErrorOf{1062, "23000"}; }
  static ErrorOf LockWaitTimeout() { return IsPostgres(1) ? ErrorOf{0, "55P03"} : ErrorOf{1205, "HY000"}; }
  static ErrorOf Killed() { return IsPostgres(1) ? ErrorOf{0, "57014"} : ErrorOf{1317, "70100"}; }
  static ErrorOf Deadlock() { return IsPostgres(1) ? ErrorOf{0, "40P01"} : ErrorOf{1213, "40001"}; }
  static void ExpectError(const absl::Status& status, const ErrorOf& error) {
    EXPECT_EQ(ReasonOf(status), Reason::DATABASE_ERROR) << status;
    EXPECT_EQ(MetadataOf(status)["sqlstate"], error.sqlstate) << status;
    EXPECT_EQ(MetadataOf(status)["error_code"], error.code == 0 ? "" : absl::StrCat(error.code));
  }
  static ExecuteOptions Expecting(const ErrorOf& error) {
    ExecuteOptions options;
    if (error.code == 0) {
      options.expected_sqlstates = {error.sqlstate};
    } else {
      options.expected_errors = {error.code};
    }
    return options;
  }

  // Commits, expects it to be refused because of this error, and that nothing of it is left.
  void ExpectPoisoned(GlobalTransaction* transaction, const ErrorOf& error) {
    const absl::Status told = transaction->Commit();
    EXPECT_TRUE(absl::IsAborted(told)) << told;
    EXPECT_EQ(transaction->outcome(), v1::OUTCOME_ROLLED_BACK);
    EXPECT_EQ(transaction->Commit(), told) << "repeated, it answers the same";
    const v1::GetGlobalResponse global = Global(transaction->gtrid());
    EXPECT_EQ(global.global().decision(), v1::DECISION_ROLLBACK);
    EXPECT_EQ(global.global().cause(), v1::DECISION_CAUSE_BRANCH_FAILED);
    const v1::BranchFailure* failure = nullptr;
    for (const v1::Branch& branch : global.global().branches()) {
      if (branch.vote() == v1::VOTE_KIND_FAILED) failure = &branch.failure();
    }
    ASSERT_NE(failure, nullptr);
    EXPECT_EQ(failure->error_code(), error.code);
    EXPECT_EQ(failure->sqlstate(), error.sqlstate);
    EXPECT_FALSE(failure->message().empty());
    EXPECT_EQ(Taken(2) + Taken(3), 0);
    EXPECT_EQ(Witnesses(0, transaction->gtrid()) + Witnesses(1, transaction->gtrid()), 0);
  }

  // A branch that has worked on each server.
  GlobalTransaction BegunOnBoth(Client* client, Branch** payments) {
    GlobalTransaction transaction = MustBegin(client);
    EXPECT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
    *payments = MustOpen(&transaction, kPayments, session(1));
    EXPECT_TRUE((*payments)->Execute(Take(3)).ok());
    return transaction;
  }

  Client client_ = NewClient();
  Branch* branch_ = nullptr;
};

TEST_F(BranchTest, ADuplicateKeyPoisons) {
  GlobalTransaction transaction = BegunOnBoth(&client_, &branch_);
  const absl::Status error = branch_->Execute("INSERT INTO bank.accounts VALUES (3, 0)").status();
  ExpectError(error, DuplicateKey());
  EXPECT_EQ(ReasonOf(branch_->Execute(Take(5)).status()), Reason::BRANCH_POISONED);
  ExpectPoisoned(&transaction, DuplicateKey());
}

TEST_F(BranchTest, AnExpectedErrorDoesNotPoison) {
  GlobalTransaction transaction = BegunOnBoth(&client_, &branch_);
  ExpectError(branch_->Execute("INSERT INTO bank.accounts VALUES (3, 0)", Expecting(DuplicateKey())).status(),
              DuplicateKey());
  EXPECT_TRUE(branch_->poison().ok());
  EXPECT_TRUE(branch_->Execute(Take(5)).ok());
  EXPECT_TRUE(transaction.Commit().ok());
  EXPECT_EQ(Taken(3) + Taken(5), 2);
}

TEST_F(BranchTest, ALockWaitTimeoutPoisons) {
  ASSERT_TRUE(
      session(1)->Query(IsPostgres(1) ? "SET lock_timeout = '1s'" : "SET SESSION innodb_lock_wait_timeout = 1").ok());
  GlobalTransaction transaction = BegunOnBoth(&client_, &branch_);
  const auto holder = Session(1);
  ASSERT_TRUE(holder->Query(absl::StrCat("BEGIN; ", Take(5))).ok());
  ExpectError(branch_->Execute(Take(5)).status(), LockWaitTimeout());
  ExpectPoisoned(&transaction, LockWaitTimeout());
}

TEST_F(BranchTest, AKilledQueryPoisons) {
  GlobalTransaction transaction = BegunOnBoth(&client_, &branch_);
  const auto holder = Session(1);
  ASSERT_TRUE(holder->Query(absl::StrCat("BEGIN; ", Take(5))).ok());
  std::thread killer([this] {
    absl::SleepFor(absl::Milliseconds(200));
    Sql(1, absl::StrCat(IsPostgres(1) ? "SELECT pg_cancel_backend(" : "KILL QUERY ", session(1)->connection_id(),
                        IsPostgres(1) ? ")" : ""));
  });
  const absl::Status error = branch_->Execute(Take(5)).status();
  killer.join();
  ExpectError(error, Killed());
  ExpectPoisoned(&transaction, Killed());
}

TEST_F(BranchTest, ADeadlocksVictimIsRolledBackEvenIfTheErrorWasExpected) {
  const auto other = Session(1);
  if (IsPostgres(1)) {  // The victim is who looks first.
    ASSERT_TRUE(session(1)->Query("SET deadlock_timeout = '100ms'").ok());
    ASSERT_TRUE(other->Query("SET deadlock_timeout = '1min'").ok());
  }
  GlobalTransaction transaction = BegunOnBoth(&client_, &branch_);
  // Heavier than the branch, so that the branch is the victim.
  ASSERT_TRUE(other->Query("BEGIN; UPDATE bank.accounts SET balance = balance + 1 WHERE id BETWEEN 5 AND 19").ok());
  other->SendQuery(Take(3));
  absl::SleepFor(absl::Milliseconds(200));
  // PostgreSQL undoes an expected error's statement alone, whatever the error is.
  const absl::Status error =
      branch_->Execute(Take(5), IsPostgres(1) ? ExecuteOptions() : Expecting(Deadlock())).status();
  ExpectError(error, Deadlock());
  ExpectPoisoned(&transaction, Deadlock());  // PostgreSQL keeps the victim's locks until it is rolled back.
  EXPECT_TRUE(other->ReceiveQuery().ok());
  ASSERT_TRUE(other->Query("ROLLBACK").ok());
}

TEST_F(BranchTest, AMissingWitnessTableFailsThePrepare) {
  if (IsPostgres(1)) GTEST_SKIP() << "its branches leave no witness";
  Sql(1, "RENAME TABLE assent.witness TO assent.hidden");
  GlobalTransaction transaction = BegunOnBoth(&client_, &branch_);
  const absl::Status told = transaction.Commit();
  Sql(1, "RENAME TABLE assent.hidden TO assent.witness");
  EXPECT_TRUE(absl::IsAborted(told)) << told;
  EXPECT_THAT(std::string(told.message()), HasSubstr("resources register NAME --replace"));
  ExpectPoisoned(&transaction, ErrorOf{1146, "42S02"});
}

TEST_F(BranchTest, AnAccountThatMayNotLeaveTheWitnessIsToldItsGrant) {
  if (IsPostgres(1)) GTEST_SKIP() << "its branches leave no witness";
  Sql(1, "CREATE USER clerk; GRANT SELECT, UPDATE ON bank.* TO clerk");
  BankServer server = rig().config().servers[1];
  server.user = "clerk";
  server.password_file = "/dev/null";
  const auto clerk = ConnectTo(server);
  ASSERT_TRUE(clerk.ok()) << clerk.status();
  GlobalTransaction transaction = MustBegin(&client_);
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  ASSERT_TRUE(MustOpen(&transaction, kPayments, clerk->get())->Execute(Take(3)).ok());
  const absl::Status told = transaction.Commit();
  Sql(1, "DROP USER clerk");
  EXPECT_TRUE(absl::IsAborted(told)) << told;
  EXPECT_THAT(std::string(told.message()), HasSubstr("GRANT INSERT ON `assent`.`witness`"));
  ExpectPoisoned(&transaction, ErrorOf{1142, "42000"});
}

TEST_F(BranchTest, ASessionWithAnOpenTransactionIsRefusedAndUsableOnceThatIsFinished) {
  ASSERT_TRUE(session(1)->Query(absl::StrCat("BEGIN; ", Take(5))).ok());
  GlobalTransaction transaction = MustBegin(&client_);
  Branch* const branch = MustOpen(&transaction, kPayments, session(1));
  const absl::Status refused = branch->Execute(Take(3)).status();
  EXPECT_EQ(ReasonOf(refused), Reason::SESSION_IN_TRANSACTION) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("commit, roll back"));
  EXPECT_TRUE(branch->poison().ok());
  ASSERT_TRUE(session(1)->Query("ROLLBACK").ok());
  EXPECT_TRUE(branch->Execute(Take(3)).ok());
  EXPECT_TRUE(transaction.Commit().ok());
  EXPECT_EQ(Taken(3), 1);
  EXPECT_EQ(Taken(5), 0);
}

// Whoever overlooks an error is not told COMMITTED: what he asked for was not done.
TEST_F(BranchTest, WithoutTheStatementThatFoundNothingStartedItDoesNotCommit) {
  ASSERT_TRUE(session(1)->Query("BEGIN").ok());
  GlobalTransaction transaction = MustBegin(&client_);
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  EXPECT_FALSE(MustOpen(&transaction, kPayments, session(1))->Execute(Take(3)).ok());
  ASSERT_TRUE(session(1)->Query("ROLLBACK").ok());
  const absl::Status told = transaction.Commit();
  EXPECT_TRUE(absl::IsAborted(told)) << told;
  EXPECT_THAT(std::string(told.message()), HasSubstr("commit, roll back"));
  EXPECT_EQ(transaction.Commit(), told);
  EXPECT_EQ(Global(transaction.gtrid()).global().decision(), v1::DECISION_ROLLBACK);
  EXPECT_EQ(Taken(2) + Taken(3), 0);
}

TEST_F(BranchTest, WithoutTheBranchThatWasRefusedItDoesNotCommit) {
  GlobalTransaction other = MustBegin(&client_);
  MustOpen(&other, kPayments, session(1))->Execute(Take(5)).IgnoreError();
  GlobalTransaction transaction = MustBegin(&client_);
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  EXPECT_EQ(ReasonOf(transaction.OpenBranch(kPayments, session(1)).status()), Reason::SESSION_HOLDS_BRANCH);
  const absl::Status told = transaction.Commit();
  EXPECT_EQ(ReasonOf(told), Reason::GLOBAL_ROLLED_BACK) << told;
  EXPECT_THAT(std::string(told.message()), HasSubstr("one branch at a time"));
  EXPECT_EQ(transaction.outcome(), v1::OUTCOME_ROLLED_BACK);
  EXPECT_EQ(transaction.Commit(), told);
  const v1::Global global = Global(transaction.gtrid()).global();
  EXPECT_EQ(global.decision(), v1::DECISION_ROLLBACK);
  EXPECT_THAT(global.cause_detail(), HasSubstr("one branch at a time"));
  EXPECT_EQ(Taken(2), 0);
}

// Begin has made the branches, and does not know the sessions.
TEST_F(BranchTest, ASessionOnTheWrongServerIsRefusedAndNothingIsLeft) {
  BeginOptions begin;
  begin.resources = {kOrders, kPayments};
  for (const bool mended : {false, true}) {
    absl::StatusOr<GlobalTransaction> transaction = client_.Begin(begin);
    ASSERT_TRUE(transaction.ok()) << transaction.status();
    EXPECT_EQ(ReasonOf(transaction->OpenBranch(kOrders, session(1)).status()), Reason::WRONG_SERVER);
    EXPECT_EQ(ReasonOf(transaction->OpenBranch(kPayments, session(0)).status()), Reason::WRONG_SERVER);
    if (mended) {
      ASSERT_TRUE(MustOpen(&*transaction, kOrders, session(0))->Execute(Take(2)).ok());
      ASSERT_TRUE(MustOpen(&*transaction, kPayments, session(1))->Execute(Take(3)).ok());
    }
    const absl::Status told = transaction->Commit();
    EXPECT_EQ(told.ok(), mended) << told;
    EXPECT_EQ(absl::IsAborted(told), !mended) << told;
    EXPECT_EQ(Taken(2) + Taken(3), mended ? 2 : 0);
  }
}

TEST_F(BranchTest, ASessionCarriesOneBranchAtATime) {
  GlobalTransaction transaction = MustBegin(&client_);
  ASSERT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
  EXPECT_EQ(ReasonOf(transaction.OpenBranch(kPayments, session(0)).status()), Reason::SESSION_HOLDS_BRANCH);
  ASSERT_TRUE(MustOpen(&transaction, kPayments, session(1))->Execute(Take(3)).ok());  // The right one this time.
  GlobalTransaction other = MustBegin(&client_);
  EXPECT_EQ(ReasonOf(other.OpenBranch(kPayments, session(1)).status()), Reason::SESSION_HOLDS_BRANCH);
  EXPECT_TRUE(transaction.Commit().ok());
  EXPECT_EQ(Taken(2) + Taken(3), 2);
  EXPECT_TRUE(other.OpenBranch(kPayments, session(1)).ok());
}

TEST_F(BranchTest, WhatRunDoesIsPartOfTheBranch) {
  GlobalTransaction transaction = MustBegin(&client_);
  Branch* const branch = MustOpen(&transaction, kPayments, session(1));
  const std::string sql = Take(3);
  const auto in_mysql = [&sql](st_mysql* mysql) {
    return mysql_query(mysql, sql.c_str()) == 0 ? absl::OkStatus() : absl::InternalError(mysql_error(mysql));
  };
  const auto in_postgres = [&sql](pg_conn* connection) {
    PGresult* const result = PQexec(connection, sql.c_str());
    const bool done = PQresultStatus(result) == PGRES_COMMAND_OK;
    PQclear(result);
    return done ? absl::OkStatus() : absl::InternalError(PQerrorMessage(connection));
  };
  const absl::Status other_kind = IsPostgres(1) ? branch->Run(in_mysql) : branch->Run(in_postgres);
  EXPECT_EQ(ReasonOf(other_kind), Reason::INVALID_FIELD) << other_kind;
  EXPECT_TRUE(branch->poison().ok());
  const absl::Status run = IsPostgres(1) ? branch->Run(in_postgres) : branch->Run(in_mysql);
  EXPECT_TRUE(run.ok()) << run;
  EXPECT_TRUE(transaction.Commit().ok());
  EXPECT_EQ(Taken(3), 1);
}

TEST_F(BranchTest, AnErrorOfRunPoisons) {
  GlobalTransaction transaction = BegunOnBoth(&client_, &branch_);
  const absl::Status failed = IsPostgres(1) ? branch_->Run([](pg_conn*) { return absl::InternalError("my own"); })
                                            : branch_->Run([](st_mysql*) { return absl::InternalError("my own"); });
  EXPECT_FALSE(failed.ok());
  const absl::Status told = transaction.Commit();
  EXPECT_TRUE(absl::IsAborted(told)) << told;
  EXPECT_THAT(std::string(told.message()), HasSubstr("my own"));
  EXPECT_EQ(Taken(2) + Taken(3), 0);
}

TEST_F(BranchTest, WhatPostgresCannotPrepareIsSaidBeforeAnythingIsDecided) {
  if (!IsPostgres(1)) GTEST_SKIP() << "of PostgreSQL";
  for (const char* sql :
       {"CREATE TEMPORARY TABLE t (id INT)", "NOTIFY news", "DECLARE c CURSOR WITH HOLD FOR SELECT 1"}) {
    GlobalTransaction transaction = BegunOnBoth(&client_, &branch_);
    ASSERT_TRUE(branch_->Execute(sql).ok()) << sql;
    const absl::Status told = transaction.Commit();
    EXPECT_TRUE(absl::IsAborted(told)) << told;
    EXPECT_THAT(std::string(told.message()), HasSubstr("leave it out of the branch"));
    ExpectPoisoned(&transaction, ErrorOf{0, "0A000"});
  }
}

TEST_F(BranchTest, AStatementThatEndsItsTransactionIsToldAndLeavesItInDoubt) {
  if (!IsPostgres(1)) GTEST_SKIP() << "MariaDB and MySQL refuse it (1399)";
  GlobalTransaction transaction = BegunOnBoth(&client_, &branch_);
  EXPECT_EQ(ReasonOf(branch_->Execute("COMMIT").status()), Reason::SESSION_RESET);
  const absl::Status told = transaction.Commit();
  EXPECT_EQ(ReasonOf(told), Reason::OUTCOME_IN_DOUBT) << "what ran before it is committed: " << told;
  EXPECT_EQ(Taken(2), 0);
  EXPECT_EQ(Taken(3), 1);
}

}  // namespace
}  // namespace assent
