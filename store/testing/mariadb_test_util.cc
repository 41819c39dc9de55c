#include "store/testing/mariadb_test_util.h"

#include <glog/logging.h>
#include <gtest/gtest.h>

#include <atomic>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace assent {

std::unique_ptr<PrivateMariaDb> StartStoreServer(std::vector<std::string> extra) {
  PrivateMariaDb::Options options;
  options.extra = std::move(extra);
  auto started = PrivateMariaDb::Start(std::move(options));
  CHECK(started.ok()) << started.status();
  return *std::move(started);
}

PrivateMariaDb& SharedStoreServer() {
  const absl::StatusOr<PrivateMariaDb*> server = PrivateMariaDb::Shared();
  CHECK(server.ok()) << server.status();
  return **server;
}

MariaDbOptions StoreOptions(const PrivateMariaDb& server) {
  static std::atomic<int> next{0};
  MariaDbOptions options;
  options.address.socket = server.socket();
  options.user = server.user();
  options.password = server.password();
  options.database = absl::StrCat("store_", ++next);
  options.cluster = "test";
  return options;
}

std::unique_ptr<MariaDbStore> MustOpenStore(const MariaDbOptions& options) {
  absl::StatusOr<std::unique_ptr<MariaDbStore>> store = MariaDbStore::Open(options);
  CHECK(store.ok()) << store.status();
  return *std::move(store);
}

Admin::Admin(const PrivateMariaDb& server, const MariaDbOptions& options) {
  ConnectOptions connect;
  connect.address.socket = server.socket();
  connect.user = server.user();
  connect.password = server.password();
  auto connection = MariaDbConnection::Connect(connect);
  CHECK(connection.ok()) << connection.status();
  connection_ = *std::move(connection);
  connection_->Query(absl::StrCat("USE `", options.database, "`"));
}

QueryResult Admin::Run(absl::string_view sql) {
  QueryResult result = connection_->Query(sql);
  EXPECT_TRUE(result.ok()) << sql.substr(0, 200) << ": " << result.error.code << " " << result.error.message;
  return result;
}

std::string Admin::One(absl::string_view sql) {
  const QueryResult result = Run(sql);
  return result.rows().empty() || !result.rows()[0][0] ? "NULL" : *result.rows()[0][0];
}

int64_t Admin::Status(absl::string_view name) {
  const QueryResult result = Run(absl::StrCat("SHOW GLOBAL STATUS LIKE '", name, "'"));
  int64_t value = 0;
  CHECK(result.rows().size() == 1 && absl::SimpleAtoi(*result.rows()[0][1], &value)) << name;
  return value;
}

}  // namespace assent
