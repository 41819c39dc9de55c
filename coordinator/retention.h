// Retention: what has been finished for long enough is deleted from the store, in small batches that hurt nobody.
//
// Only by the instance that holds the lease kRetentionWork, so that several do not get in each other's way; should two
// of them think so, one finds nothing left to do. Nothing unfinished is ever deleted (Store::Purge).
#ifndef ASSENT_COORDINATOR_RETENTION_H_
#define ASSENT_COORDINATOR_RETENTION_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "store/store.h"

namespace assent {

// The name of the lease.
constexpr absl::string_view kRetentionWork = "retention";

struct RetentionOptions {
  // How long finished transactions are kept. Zero: for ever.
  //
  // Callers ask again until they have their answer, and without a record the answer is that nothing was committed: it
  // must be longer than the patience of any of them.
  absl::Duration keep = absl::Hours(24 * 7);
  // Between two looks, once nothing is left to delete.
  absl::Duration interval = absl::Minutes(1);
  int batch = 200;
  // Deleting takes at most this part of the time.
  double share = 0.1;
};

// Thread-safe.
class Retention {
 public:
  // `is_ours`: whether this instance holds the lease; called often, must not block. Everything must outlive it.
  Retention(const RetentionOptions& options, Store* store, Clock* clock, std::function<bool()> is_ours);
  ~Retention();

  void Start();
  // Bounded by the timeouts of the store. Idempotent.
  void Stop();
  // How many transactions it has deleted since it was made.
  int64_t deleted_total() const { return deleted_total_; }

 private:
  void Run();
  // How long to pause then.
  absl::Duration DeleteBatch();

  const RetentionOptions options_;
  Store* const store_;
  Clock* const clock_;
  const std::function<bool()> is_ours_;

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<int64_t> deleted_total_{0};
  int64_t deleted_ = 0;  // Of the thread: since it last said so.
  std::thread thread_;
};

}  // namespace assent

#endif  // ASSENT_COORDINATOR_RETENTION_H_
