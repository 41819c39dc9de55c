// The MariaDB store keeps the contract of every store.
#include "store/mariadb_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "store/testing/conformance_suite.h"
#include "store/testing/mariadb_test_util.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

class MariaDbUnderTest : public StoreUnderTest {
 public:
  MariaDbUnderTest() : options_(StoreOptions(SharedStoreServer())) {}
  absl::StatusOr<std::unique_ptr<Store>> Open(int queue_limit) override {
    options_.queue_limit = queue_limit;
    absl::StatusOr<std::unique_ptr<MariaDbStore>> store = MariaDbStore::Open(options_);
    if (!store.ok()) return store.status();
    return std::unique_ptr<Store>(*std::move(store));
  }
  bool shared() const override { return true; }

 private:
  MariaDbOptions options_;
};

INSTANTIATE_TEST_SUITE_P(MariaDb, StoreConformanceTest, testing::Values([]() -> std::unique_ptr<StoreUnderTest> {
                           return std::make_unique<MariaDbUnderTest>();
                         }));

}  // namespace
}  // namespace assent
