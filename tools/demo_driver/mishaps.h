// The demo's acts in which something goes wrong between the two phases, and the coordinator has to find out how things
// stand: a worker that dies, an orphan, a ghost, a DBA who knows better, and all of it over two engines.
#ifndef ASSENT_TOOLS_DEMO_DRIVER_MISHAPS_H_
#define ASSENT_TOOLS_DEMO_DRIVER_MISHAPS_H_

#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "participant_sdk/cpp/client.h"
#include "tests/bank/rig.h"
#include "tests/fixtures/coordinator_api.h"
#include "tools/demo_driver/shop.h"

namespace assent {

// Thread-compatible.
class Mishaps {
 public:
  // Everything must outlive it. The shop's tables must be there.
  Mishaps(BankRig* rig, std::string folder, const std::atomic<bool>* stop);

  // Plays all five. An error: it could not go on.
  absl::Status Play();

  // The global transactions that took part.
  const std::set<std::string>& gtrids() const { return gtrids_; }
  // What did not end as told.
  const std::vector<std::string>& violations() const { return violations_; }

 private:
  absl::Status KilledWorker();
  absl::Status Orphan();
  absl::Status Ghost();
  absl::Status HandOfADba();
  // Of mixed_engines.cc.
  absl::Status MixedEngines();
  absl::Status BuyOverBoth(const Purchase& purchase, bool should_succeed);
  absl::Status BothDieBeforeCommit(const Purchase& purchase);
  absl::Status CheckBoth(const Purchase& purchase, bool bought);
  absl::StatusOr<QueryResult> ShowStock(const std::string& sql);

  // A purchase whose worker on `orders` has prepared, voted and been killed, and whose other worker has not begun. The
  // gtrid.
  absl::StatusOr<std::string> HalfAPurchase(const Purchase& purchase);
  // … and now the other worker does its part, which decides COMMIT.
  absl::Status OtherHalf(const std::string& gtrid, const Purchase& purchase);
  // Waits until the transaction is in the state, and shows what assentctl says of it: the evidence, and if asked for
  // the history. An error if that takes longer than a minute.
  absl::Status AwaitState(const std::string& gtrid, v1::Global::State state, bool with_history = false);
  absl::Status AwaitTrue(const std::function<absl::StatusOr<bool>()>& condition, absl::string_view what);
  // Runs assentctl as an operator would, and shows the lines of what it says that are `worth` it.
  absl::Status Assentctl(const std::vector<std::string>& arguments,
                         const std::function<bool(absl::string_view line)>& worth);
  // A statement on a session of its own, shown with its answer.
  absl::StatusOr<QueryResult> Show(size_t server, const std::string& sql);
  void Expect(bool good, absl::string_view what);

  BankRig* const rig_;
  const std::string folder_;
  const std::atomic<bool>* const stop_;
  Client client_;
  CoordinatorApi api_;
  std::set<std::string> gtrids_;
  std::vector<std::string> violations_;
  std::unique_ptr<PrivateDatabase> stock_;
  int chairs_ = 5;
};

}  // namespace assent

#endif  // ASSENT_TOOLS_DEMO_DRIVER_MISHAPS_H_
