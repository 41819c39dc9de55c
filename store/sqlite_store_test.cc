// The SQLite store keeps the contract of every store, and its own promises about files. What needs faults of the disk
// is in sqlite_fault_test.cc, what needs the death of a process in sqlite_crash_test.cc.
#include "store/sqlite_store.h"

#include <gtest/gtest.h>

#include "store/testing/conformance_suite.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

class SqliteUnderTest : public StoreUnderTest {
 public:
  absl::StatusOr<std::unique_ptr<Store>> Open(int queue_limit) override {
    SqliteOptions options;
    options.path = folder_.File("store.db");
    options.cluster = "test";
    options.queue_limit = queue_limit;
    absl::StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open(options);
    if (!store.ok()) return store.status();
    return std::unique_ptr<Store>(*std::move(store));
  }

 private:
  TempFolder folder_;
};

INSTANTIATE_TEST_SUITE_P(Sqlite, StoreConformanceTest, testing::Values([]() -> std::unique_ptr<StoreUnderTest> {
                           return std::make_unique<SqliteUnderTest>();
                         }));

}  // namespace
}  // namespace assent
