// What the tests of recovery share: branches in every state that a participant can leave them in.
#ifndef ASSENT_RESOURCE_MANAGER_RECOVERY_RIG_H_
#define ASSENT_RESOURCE_MANAGER_RECOVERY_RIG_H_

#include <mariadb/mysql.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/timestamp.h"
#include "resource_manager/mariadb_recovery.h"
#include "resource_manager/test_server.h"
#include "resource_manager/witness.h"

namespace assent {

// A server's witness and a table `shop.stock` for the branches to write.
inline WitnessTable MustInstall(MariaDbSession* admin) {
  const WitnessTable table = *WitnessTable::OfSchema("");
  const absl::Status installed = InstallWitness(admin, table);
  CHECK(installed.ok()) << installed;
  MustQuery(admin,
            "CREATE DATABASE IF NOT EXISTS shop;"
            "CREATE TABLE IF NOT EXISTS shop.stock (id VARCHAR(64) PRIMARY KEY) ENGINE=InnoDB");
  return table;
}

inline std::unique_ptr<BranchRecovery> MustConnectRecovery(const ConnectOptions& options, int connections = 8) {
  auto recovery = MariaDbRecovery::Connect(options, connections);
  CHECK(recovery.ok()) << recovery.status();
  return *std::move(recovery);
}

inline v1::Session SessionOf(const MariaDbSession& session, const ServerIdentity& identity) {
  v1::Session proto;
  proto.set_server(identity.name);
  proto.set_connection_id(static_cast<int64_t>(session.connection_id()));
  SetTime(identity.start_time, proto.mutable_server_start_time());
  return proto;
}

// A branch that wrote one row of shop.stock, whose id is its bqual, and where it stands.
struct TestBranch {
  std::unique_ptr<MariaDbSession> session;
  BranchTask task;
};

// Starts a branch on a session of its own and writes. The task says COMMIT, within the lease, no vote.
inline TestBranch StartBranch(const ConnectOptions& options, const ServerIdentity& identity) {
  TestBranch branch;
  branch.session = MustConnect(options);
  branch.task.xid = NewXid();
  branch.task.decision = v1::DECISION_COMMIT;
  branch.task.session = SessionOf(*branch.session, identity);
  branch.task.created = absl::Now();
  const StartResult started = branch.session->Start(
      branch.task.xid, absl::StrCat("INSERT INTO shop.stock VALUES ('", branch.task.xid.bqual, "')"));
  CHECK(started.xa.ok() && started.first->ok()) << started.xa.error.message;
  return branch;
}

// … and prepares it, with its witness if there is a table for it.
inline TestBranch PrepareBranch(const ConnectOptions& options, const ServerIdentity& identity,
                                const WitnessTable* witness) {
  TestBranch branch = StartBranch(options, identity);
  const XaResult prepared = branch.session->Prepare(branch.task.xid, witness);
  CHECK(prepared.ok()) << prepared.error.message;
  branch.task.voted_prepared = true;
  if (witness != nullptr) branch.task.witness = *witness;
  return branch;
}

// Prepares an active branch with the witness of its task and resets its session, as some connection pools do: the
// server forgets whose the branch is, and InnoDB does not.
inline void PrepareAndReset(TestBranch* branch) {
  // A session does not hand out its connection while it holds a prepared branch: so it is prepared beside its
  // knowledge.
  MYSQL* const handle = branch->session->BorrowHandle();
  CHECK(handle != nullptr);
  const std::string literal = XidSqlLiteral(branch->task.xid);
  const std::string sql =
      absl::StrCat(branch->task.witness->InsertSql(branch->task.xid), ";XA END ", literal, ";XA PREPARE ", literal);
  CHECK_EQ(mysql_real_query(handle, sql.data(), sql.size()), 0) << mysql_error(handle);
  while (mysql_next_result(handle) == 0) {
  }
  CHECK_EQ(mysql_errno(handle), 0u) << mysql_error(handle);
  CHECK_EQ(mysql_reset_connection(handle), 0) << mysql_error(handle);
  branch->task.voted_prepared = true;
}

// What the tests of one server's recovery begin with, and what they ask for.
class RecoveryTest : public testing::Test {
 protected:
  // Tests that stop, restart or reconfigure the server pass one of their own.
  explicit RecoveryTest(PrivateMariaDb* server = &SharedServer())
      : options_(ConnectOptionsFor(*server)), admin_(MustConnect(options_)), witness_(MustInstall(admin_.get())) {
    recovery_ = MustConnectRecovery(options_);
  }

  // After a restart of the server.
  void Reconnect() {
    admin_ = MustConnect(options_);
    recovery_ = MustConnectRecovery(options_);
  }

  TestBranch Active() { return StartBranch(options_, recovery_->identity()); }
  TestBranch Prepared(bool with_witness = true) {
    return PrepareBranch(options_, recovery_->identity(), with_witness ? &witness_ : nullptr);
  }
  // A branch that its session left prepared; the server is done with the session.
  BranchTask Detached(v1::Decision decision, bool with_witness = true) {
    TestBranch branch = Prepared(with_witness);
    branch.task.decision = decision;
    branch.session->Abandon();
    WaitUntilGone(branch.task);
    return branch.task;
  }

  void WaitUntilGone(const BranchTask& task) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (Examine(task).evidence.session() != v1::Evidence::SIGHTING_ABSENT) {
      ASSERT_LT(absl::Now(), deadline) << "the session does not end";
    }
  }

  BranchFinding Examine(const BranchTask& task) {
    const auto findings = recovery_->Examine({task});
    CHECK(findings.ok()) << findings.status();
    return (*findings)[0];
  }
  BranchFinding Finish(const BranchTask& task) { return FinishBy(recovery_.get(), task); }
  static BranchFinding FinishBy(BranchRecovery* recovery, const BranchTask& task) {
    const auto findings = recovery->Finish({task});
    CHECK(findings.ok()) << findings.status();
    return (*findings)[0];
  }
  // As the coordinator does: again while that may come further (killed sessions need a moment to end).
  BranchFinding FinishInTheEnd(const BranchTask& task) { return FinishInTheEndBy(recovery_.get(), task); }
  static BranchFinding FinishInTheEndBy(BranchRecovery* recovery, const BranchTask& task) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    for (;;) {
      BranchFinding finding = FinishBy(recovery, task);
      if (!finding.retry || absl::Now() > deadline) return finding;
      absl::SleepFor(absl::Milliseconds(5));
    }
  }

  bool HasRow(const BranchTask& task) {
    return One(admin_.get(), absl::StrCat("SELECT COUNT(*) FROM shop.stock WHERE id = '", task.xid.bqual, "'")) == "1";
  }

  // An account with these privileges and those on the witness' schema; and on MySQL what XA RECOVER needs.
  ConnectOptions AccountWith(const std::string& user, const std::string& privileges) {
    MustQuery(admin_.get(), absl::StrCat("DROP USER IF EXISTS ", user, "@localhost; CREATE USER ", user,
                                         "@localhost IDENTIFIED BY 'p'; GRANT SELECT, "
                                         "INSERT, UPDATE, DELETE ON assent.* TO ",
                                         user, "@localhost"));
    for (const std::string& list : {privileges, std::string(OnMySql() ? "XA_RECOVER_ADMIN" : "")}) {
      if (!list.empty()) MustQuery(admin_.get(), absl::StrCat("GRANT ", list, " ON *.* TO ", user, "@localhost"));
    }
    ConnectOptions options = options_;
    options.user = user;
    options.password = "p";
    return options;
  }

  const ConnectOptions options_;
  std::unique_ptr<MariaDbSession> admin_;
  const WitnessTable witness_;
  std::unique_ptr<BranchRecovery> recovery_;
};

// The outcome, and the whole evidence if it is another.
#define EXPECT_OUTCOME(finding, expected)                                                               \
  EXPECT_EQ(v1::BranchOutcome_Name((finding).evidence.outcome()), v1::BranchOutcome_Name(v1::expected)) \
      << (finding).evidence.DebugString()

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_RECOVERY_RIG_H_
