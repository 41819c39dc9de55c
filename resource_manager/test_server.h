// What the tests of this folder share: one private server per test program, and short ways to talk to it.
#ifndef ASSENT_RESOURCE_MANAGER_TEST_SERVER_H_
#define ASSENT_RESOURCE_MANAGER_TEST_SERVER_H_

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "resource_manager/mariadb_session.h"
#include "resource_manager/session_test_util.h"
#include "tests/fixtures/private_mariadb.h"

namespace assent {

// The server that the tests run on: MariaDB, or by TEST_SERVER (servers.bzl sets it) `mysql` as it comes, or
// `mysql_held`: with xa_detach_on_prepare=OFF, so that sessions hold their prepared branches as on MariaDB.
inline std::string TestServerWord() {
  const char* const word = std::getenv("TEST_SERVER");
  return word == nullptr ? "mariadb" : word;
}
inline bool OnMySql() { return TestServerWord() != "mariadb"; }
// True if PREPARE lets go of branches.
inline bool Detaches() { return TestServerWord() == "mysql"; }

// Skips all tests if that server cannot be had.
class WithoutMySql : public testing::Environment {
  void SetUp() override {
    if (OnMySql() && std::getenv("ASSENT_TEST_MYSQLD") == nullptr) {
      GTEST_SKIP() << "set ASSENT_TEST_MYSQLD to the path of a MySQL server's mysqld, 8.0.29 or later";
    }
  }
};
inline testing::Environment* const kWithoutMySql = testing::AddGlobalTestEnvironment(new WithoutMySql);

// These, and what makes the server the one that it is.
inline std::vector<std::string> ServerOptions(std::vector<std::string> options) {
  if (TestServerWord() == "mysql_held") options.push_back("--xa-detach-on-prepare=OFF");
  return options;
}

inline absl::StatusOr<std::unique_ptr<PrivateMariaDb>> StartServer(PrivateMariaDb::Options options = {}) {
  options.engine = OnMySql() ? v1::Resource::ENGINE_MYSQL : v1::Resource::ENGINE_MARIADB;
  options.extra = ServerOptions(std::move(options.extra));
  return PrivateMariaDb::Start(std::move(options));
}

// Started by the first call, gone when the program ends. Tests that stop or reconfigure a server start their own.
inline PrivateMariaDb& SharedServer() {
  static PrivateMariaDb* const server = [] {
    auto started = StartServer();
    CHECK(started.ok()) << started.status();
    static std::unique_ptr<PrivateMariaDb> owner = *std::move(started);
    std::atexit([] { owner.reset(); });
    return owner.get();
  }();
  return *server;
}

inline std::unique_ptr<MariaDbSession> MustConnect(const ConnectOptions& options) {
  auto session = MariaDbSession::Connect(options);
  CHECK(session.ok()) << session.status();
  return *std::move(session);
}

inline std::unique_ptr<MariaDbSession> MustConnect(const PrivateMariaDb& server = SharedServer()) {
  return MustConnect(ConnectOptionsFor(server));
}

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_TEST_SERVER_H_
