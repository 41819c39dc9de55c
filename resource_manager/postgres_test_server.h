// What the tests of PostgreSQL share: one private server per test program, and short ways to talk to it.
#ifndef ASSENT_RESOURCE_MANAGER_POSTGRES_TEST_SERVER_H_
#define ASSENT_RESOURCE_MANAGER_POSTGRES_TEST_SERVER_H_

#include <postgresql/libpq-fe.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/address.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "resource_manager/postgres_session.h"
#include "tests/fixtures/private_postgres.h"

namespace assent {

// Started by the first call, gone when the program ends. Tests that stop or reconfigure a server start their own.
inline PrivatePostgres& SharedPostgres() {
  static PrivatePostgres* const server = [] {
    auto started = PrivatePostgres::Start();
    CHECK(started.ok()) << started.status();
    static std::unique_ptr<PrivatePostgres> owner = *std::move(started);
    std::atexit([] { owner.reset(); });
    return owner.get();
  }();
  return *server;
}

inline ConnectOptions PostgresOptionsOf(const PrivatePostgres& server) {
  ConnectOptions options;
  options.address = *ParseAddress(server.unix_address());
  options.user = server.user();
  options.password = server.password();
  options.database = server.database();
  return options;
}
inline ConnectOptions PostgresOptions() { return PostgresOptionsOf(SharedPostgres()); }

inline std::unique_ptr<PostgresSession> MustConnectPostgres(const ConnectOptions& options = PostgresOptions()) {
  auto session = PostgresSession::Connect(options);
  CHECK(session.ok()) << session.status();
  return *std::move(session);
}

// Kills the server and starts it as a standby (of nobody): until it is promoted it only reads.
inline void RestartAsStandby(PrivatePostgres* server) {
  server->Kill9();
  std::ofstream(server->folder() + "/data/standby.signal").close();
  const absl::Status status = server->Restart();
  CHECK(status.ok()) << status;
}

// The caller closes it.
inline PGconn* MustConnectLibpq() {
  PGconn* const handle =
      PQconnectdb(absl::StrCat("host=", SharedPostgres().folder(), " port=", SharedPostgres().port(),
                               " user=postgres dbname=postgres password=", SharedPostgres().password())
                      .c_str());
  CHECK_EQ(PQstatus(handle), CONNECTION_OK) << PQerrorMessage(handle);
  return handle;
}

inline QueryResult MustQuery(BranchSession* session, absl::string_view sql) {
  QueryResult result = session->Query(sql);
  EXPECT_TRUE(result.ok()) << sql << ": " << result.error.sqlstate << " " << result.error.message;
  return result;
}

// The first value of the first row; "NULL" for none.
inline std::string One(BranchSession* session, absl::string_view sql) {
  const QueryResult result = MustQuery(session, sql);
  if (result.rows().empty() || !result.rows()[0][0]) return "NULL";
  return *result.rows()[0][0];
}

inline Xid NewXid() {
  static std::atomic<int> next{0};
  return Xid{NewGtrid("test", absl::Now()), absl::StrCat("b", ++next)};
}

inline bool IsListed(BranchSession* session, const Xid& xid) {
  const auto xids = session->Recover();
  EXPECT_TRUE(xids.ok()) << xids.status();
  for (const RecoveredXid& listed : *xids) {
    if (listed.gtrid == xid.gtrid && listed.bqual == xid.bqual && listed.format_id == kFormatId) return true;
  }
  return false;
}

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_POSTGRES_TEST_SERVER_H_
