// What goes wrong inside a branch: it poisons the branch, and the coordinator keeps the database's own words.
#include "participant_sdk/cpp/branch.h"

#include <mariadb/mysql.h>

#include <thread>

#include "participant_sdk/cpp/sdk_test_rig.h"

namespace assent {
namespace {

using ::testing::HasSubstr;

class BranchTest : public SdkTest {
 protected:
  // Commits, expects it to be refused because of this error, and that nothing of it is left.
  void ExpectPoisoned(GlobalTransaction* transaction, int code, const std::string& sqlstate) {
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
    EXPECT_EQ(failure->error_code(), code);
    EXPECT_EQ(failure->sqlstate(), sqlstate);
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
  EXPECT_EQ(ReasonOf(error), Reason::DATABASE_ERROR) << error;
  EXPECT_EQ(MetadataOf(error)["error_code"], "1062");
  EXPECT_EQ(ReasonOf(branch_->Execute(Take(5)).status()), Reason::BRANCH_POISONED);
  ExpectPoisoned(&transaction, 1062, "23000");
}

TEST_F(BranchTest, AnExpectedErrorDoesNotPoison) {
  GlobalTransaction transaction = BegunOnBoth(&client_, &branch_);
  ExecuteOptions options;
  options.expected_errors = {1062};
  EXPECT_EQ(MetadataOf(branch_->Execute("INSERT INTO bank.accounts VALUES (3, 0)", options).status())["error_code"],
            "1062");
  EXPECT_TRUE(branch_->poison().ok());
  EXPECT_TRUE(branch_->Execute(Take(5)).ok());
  EXPECT_TRUE(transaction.Commit().ok());
  EXPECT_EQ(Taken(3) + Taken(5), 2);
}

TEST_F(BranchTest, ALockWaitTimeoutPoisons) {
  ASSERT_TRUE(session(1)->Query("SET SESSION innodb_lock_wait_timeout = 1").ok());
  GlobalTransaction transaction = BegunOnBoth(&client_, &branch_);
  const auto holder = Session(1);
  ASSERT_TRUE(holder->Query(absl::StrCat("BEGIN; ", Take(5))).ok());
  EXPECT_EQ(MetadataOf(branch_->Execute(Take(5)).status())["error_code"], "1205");
  ExpectPoisoned(&transaction, 1205, "HY000");
}

TEST_F(BranchTest, AKilledQueryPoisons) {
  GlobalTransaction transaction = BegunOnBoth(&client_, &branch_);
  const auto holder = Session(1);
  ASSERT_TRUE(holder->Query(absl::StrCat("BEGIN; ", Take(5))).ok());
  std::thread killer([this] {
    absl::SleepFor(absl::Milliseconds(200));
    Sql(1, absl::StrCat("KILL QUERY ", session(1)->connection_id()));
  });
  const absl::Status error = branch_->Execute(Take(5)).status();
  killer.join();
  EXPECT_EQ(MetadataOf(error)["error_code"], "1317") << error;
  ExpectPoisoned(&transaction, 1317, "70100");
}

TEST_F(BranchTest, ADeadlocksVictimIsRolledBackEvenIfTheErrorWasExpected) {
  GlobalTransaction transaction = BegunOnBoth(&client_, &branch_);
  const auto other = Session(1);
  // Heavier than the branch, so that the branch is the victim.
  ASSERT_TRUE(other->Query("BEGIN; UPDATE bank.accounts SET balance = balance + 1 WHERE id BETWEEN 5 AND 19").ok());
  other->SendQuery(Take(3));
  absl::SleepFor(absl::Milliseconds(200));
  ExecuteOptions options;
  options.expected_errors = {1213};
  const absl::Status error = branch_->Execute(Take(5), options).status();
  EXPECT_EQ(MetadataOf(error)["error_code"], "1213") << error;
  EXPECT_TRUE(other->ReceiveQuery().ok());
  ASSERT_TRUE(other->Query("ROLLBACK").ok());
  ExpectPoisoned(&transaction, 1213, "40001");
}

TEST_F(BranchTest, AMissingWitnessTableFailsThePrepare) {
  Sql(1, "RENAME TABLE assent.witness TO assent.hidden");
  GlobalTransaction transaction = BegunOnBoth(&client_, &branch_);
  const absl::Status told = transaction.Commit();
  Sql(1, "RENAME TABLE assent.hidden TO assent.witness");
  EXPECT_TRUE(absl::IsAborted(told)) << told;
  EXPECT_THAT(std::string(told.message()), HasSubstr("witness"));
  ExpectPoisoned(&transaction, 1146, "42S02");
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

TEST_F(BranchTest, ASessionCarriesOneBranchAtATime) {
  GlobalTransaction transaction = BegunOnBoth(&client_, &branch_);
  EXPECT_EQ(ReasonOf(transaction.OpenBranch(kPayments, session(1)).status()), Reason::SESSION_HOLDS_BRANCH);
  GlobalTransaction other = MustBegin(&client_);
  EXPECT_EQ(ReasonOf(other.OpenBranch(kPayments, session(1)).status()), Reason::SESSION_HOLDS_BRANCH);
  EXPECT_TRUE(transaction.Commit().ok());
  EXPECT_TRUE(other.OpenBranch(kPayments, session(1)).ok());
}

TEST_F(BranchTest, WhatRunDoesIsPartOfTheBranch) {
  GlobalTransaction transaction = MustBegin(&client_);
  Branch* const branch = MustOpen(&transaction, kPayments, session(1));
  EXPECT_TRUE(branch
                  ->Run([](st_mysql* mysql) {
                    const std::string sql = Take(3);
                    return mysql_query(mysql, sql.c_str()) == 0 ? absl::OkStatus()
                                                                : absl::InternalError(mysql_error(mysql));
                  })
                  .ok());
  EXPECT_TRUE(transaction.Commit().ok());
  EXPECT_EQ(Taken(3), 1);
}

TEST_F(BranchTest, AnErrorOfRunPoisons) {
  GlobalTransaction transaction = BegunOnBoth(&client_, &branch_);
  EXPECT_FALSE(branch_->Run([](st_mysql*) { return absl::InternalError("my own"); }).ok());
  const absl::Status told = transaction.Commit();
  EXPECT_TRUE(absl::IsAborted(told)) << told;
  EXPECT_THAT(std::string(told.message()), HasSubstr("my own"));
  EXPECT_EQ(Taken(2) + Taken(3), 0);
}

}  // namespace
}  // namespace assent
