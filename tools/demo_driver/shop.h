// The shop of the demo's acts: an order is a row on the server `orders`, its payment a row on the server
// `payments`, and a worker process of its own writes each. They know of each other only through the gtrid.
#ifndef ASSENT_TOOLS_DEMO_DRIVER_SHOP_H_
#define ASSENT_TOOLS_DEMO_DRIVER_SHOP_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/bank/bank.h"

namespace assent {

struct Purchase {
  int64_t user = 0;
  std::string item;
  int64_t price = 0;
};

// Makes the shop's tables: user 2 has 50, the others have 1000.
absl::Status SetUpShop(const BankConfig& config);

// One worker's part: joins, writes its rows, prepares, waits for the decision and finishes. Prints what it does. OK if
// it ended as decided, whichever way.
absl::Status RunOrdersWorker(const BankConfig& config, const std::string& gtrid, const Purchase& purchase);
absl::Status RunPaymentsWorker(const BankConfig& config, const std::string& gtrid, const Purchase& purchase);

// Shows what the shop's tables hold. True if they hold the purchase on both servers (`bought`) or on neither.
absl::StatusOr<bool> ShowShop(const BankConfig& config, const Purchase& purchase, bool bought);

}  // namespace assent

#endif  // ASSENT_TOOLS_DEMO_DRIVER_SHOP_H_
