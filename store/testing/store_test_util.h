// What the tests of stores share: records, waiting for results, temporary folders.
#ifndef ASSENT_STORE_TESTING_STORE_TEST_UTIL_H_
#define ASSENT_STORE_TESTING_STORE_TEST_UTIL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/errors.h"
#include "base/mutex.h"
#include "store/store.h"

namespace assent {

// A record as the engine would make it: `bytes` pads it to a realistic size.
GlobalPtr MakeGlobal(absl::string_view gtrid, int64_t revision, v1::Global::State state,
                     absl::string_view request_id = "", size_t bytes = 0);

// The transition to `next` from the revision before it.
Transition To(GlobalPtr next, Durability durability = Durability::kLazy);

// Collects the results of transitions that were submitted through it, in the order of their `done`. Thread-safe.
class Results {
 public:
  // A `done` that keeps the result under `index` (0, 1, 2, … in order of the calls).
  Store::Done Next();
  // Waits until every `done` handed out has run; answers the results by index.
  std::vector<TransitionResult> Wait();
  // The indexes in the order in which they were done.
  std::vector<int> Order();

 private:
  Mutex mu_;
  CondVar arrived_;
  std::vector<TransitionResult> results_;
  std::vector<int> order_;
};

// Submits and waits.
TransitionResult SubmitAndWait(Store* store, Transition transition);
// The same for many at once.
std::vector<TransitionResult> SubmitAllAndWait(Store* store, std::vector<Transition> transitions);

// "APPLIED", "CONFLICT", …, with the reason if there is one: for comparing and printing.
std::string ToString(const TransitionResult& result);
// The reason's name; "OK" for OK, the status as text if it has no reason.
std::string ReasonName(const absl::Status& status);

// A fresh folder below TEST_TMPDIR, removed at the end.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string File(absl::string_view name) const;

 private:
  std::string path_;
};

}  // namespace assent

#endif  // ASSENT_STORE_TESTING_STORE_TEST_UTIL_H_
