// What the tests of recovery share: branches in every state that a participant can leave them in.
#ifndef ASSENT_RESOURCE_MANAGER_RECOVERY_RIG_H_
#define ASSENT_RESOURCE_MANAGER_RECOVERY_RIG_H_

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
  proto.set_server(identity.host_and_port);
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
  const XaResult prepared = branch.session->EndAndPrepare(branch.task.xid, witness);
  CHECK(prepared.ok()) << prepared.error.message;
  branch.task.voted_prepared = true;
  if (witness != nullptr) branch.task.witness = *witness;
  return branch;
}

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_RECOVERY_RIG_H_
