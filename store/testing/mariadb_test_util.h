// What the tests of the MariaDB store share: a private server per test program, a database per test, and a way to talk
// to the server beside the store.
#ifndef ASSENT_STORE_TESTING_MARIADB_TEST_UTIL_H_
#define ASSENT_STORE_TESTING_MARIADB_TEST_UTIL_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "mariadb/connection.h"
#include "store/mariadb_store.h"
#include "tests/fixtures/private_mariadb.h"

namespace assent {

// Started by the first call, gone when the program ends. Tests that stop or reconfigure a server start their own.
PrivateMariaDb& SharedStoreServer();
std::unique_ptr<PrivateMariaDb> StartStoreServer(std::vector<std::string> extra = {});

// A database that no other test of this program uses.
MariaDbOptions StoreOptions(const PrivateMariaDb& server);
std::unique_ptr<MariaDbStore> MustOpenStore(const MariaDbOptions& options);

// An administrator's connection to the server, in the store's database if there is one.
class Admin {
 public:
  Admin(const PrivateMariaDb& server, const MariaDbOptions& options);
  // Fails the test if the statement does.
  QueryResult Run(absl::string_view sql);
  // The first value of the first row; "NULL" for none.
  std::string One(absl::string_view sql);
  // A counter of SHOW GLOBAL STATUS.
  int64_t Status(absl::string_view name);
  MariaDbConnection* connection() { return connection_.get(); }

 private:
  std::unique_ptr<MariaDbConnection> connection_;
};

}  // namespace assent

#endif  // ASSENT_STORE_TESTING_MARIADB_TEST_UTIL_H_
