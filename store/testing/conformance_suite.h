// The tests that every implementation of Store must pass: the laws S1 to S5 as far as they can be seen from outside,
// and the contract of every verb. A store's own test links this library and instantiates it:
//
//   INSTANTIATE_TEST_SUITE_P(Sqlite, StoreConformanceTest, testing::Values(&MakeSqliteUnderTest));
#ifndef ASSENT_STORE_TESTING_CONFORMANCE_SUITE_H_
#define ASSENT_STORE_TESTING_CONFORMANCE_SUITE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "store/store.h"

namespace assent {

// A place where one store lives, empty at first.
class StoreUnderTest {
 public:
  virtual ~StoreUnderTest() = default;
  // Opens the store at this place; what an earlier one left there is still there. At most one is open at a time, unless
  // it is shared().
  virtual absl::StatusOr<std::unique_ptr<Store>> Open(int queue_limit) = 0;
  // True if several can be open at once, here or in other processes.
  virtual bool shared() const { return false; }
};

using StoreUnderTestFactory = std::unique_ptr<StoreUnderTest> (*)();

class StoreConformanceTest : public testing::TestWithParam<StoreUnderTestFactory> {
 protected:
  static constexpr int kQueueLimit = 65536;

  void SetUp() override;
  void TearDown() override { store_.reset(); }
  // One more at the same place. Only of a shared store.
  std::unique_ptr<Store> OpenAnother();
  // Closes the store and opens it again.
  void Reopen(int queue_limit = kQueueLimit);

  std::unique_ptr<StoreUnderTest> place_;
  std::unique_ptr<Store> store_;
};

// The gtrids of every page of a query, each page checked against its size.
std::vector<std::string> ListAll(Store* store, ListQuery query);

}  // namespace assent

#endif  // ASSENT_STORE_TESTING_CONFORMANCE_SUITE_H_
