// What the tests of PostgreSQL share: one private server per test program, and short ways to talk to it.
#ifndef ASSENT_RESOURCE_MANAGER_POSTGRES_TEST_SERVER_H_
#define ASSENT_RESOURCE_MANAGER_POSTGRES_TEST_SERVER_H_

#include <postgresql/libpq-fe.h>

#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "resource_manager/postgres_session.h"
#include "resource_manager/session_test_util.h"
#include "tests/fixtures/private_postgres.h"

namespace assent {

inline std::unique_ptr<PrivatePostgres> MustStartPostgres() {
  auto started = PrivatePostgres::Start();
  CHECK(started.ok()) << started.status();
  return *std::move(started);
}

// Started by the first call, gone when the program ends. Tests that stop or reconfigure a server start their own.
inline PrivatePostgres& SharedPostgres() {
  static const std::unique_ptr<PrivatePostgres> server = MustStartPostgres();
  return *server;
}

inline ConnectOptions PostgresOptions() { return ConnectOptionsFor(SharedPostgres()); }

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

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_POSTGRES_TEST_SERVER_H_
