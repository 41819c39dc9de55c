// CompletionReporter: tells the coordinator how branches ended, in batches and off everybody's way.
#ifndef ASSENT_PARTICIPANT_SDK_CPP_COMPLETION_REPORTER_H_
#define ASSENT_PARTICIPANT_SDK_CPP_COMPLETION_REPORTER_H_

#include <deque>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "assent/v1/coordinator_service.pb.h"
#include "base/mutex.h"
#include "participant_sdk/cpp/coordinator_connection.h"

namespace assent {

// Thread-safe. A report that is lost (the process dies first) costs the coordinator a look at the database, nothing
// else.
class CompletionReporter {
 public:
  static constexpr size_t kMaxBatch = 1000;
  // The same in bytes, for those that bring their transaction; gRPC takes four times as much in one message.
  static constexpr size_t kMaxBatchBytes = 1 << 20;
  // Reports that may wait while the coordinator is away; Report blocks beyond it.
  static constexpr size_t kMaxWaiting = 100000;
  // How long a report waits for others to travel with.
  static constexpr absl::Duration kLinger = absl::Milliseconds(5);

  // `connection` must outlive it.
  explicit CompletionReporter(CoordinatorConnection* connection);
  // Flushes for up to kFlushPatience.
  ~CompletionReporter();

  // The completions of one transaction travel together. `awaited`: somebody may wait for what they prove (another
  // participant's Commit, an operator); else they wait kLinger for others to travel with.
  void Report(const std::vector<v1::Completion>& completions, bool awaited);
  // Waits until everything reported so far has been answered, or `give_up`; then false.
  bool Flush(absl::Time give_up);

 private:
  static constexpr absl::Duration kFlushPatience = absl::Seconds(5);
  struct Waiting {
    v1::Completion completion;
    absl::Time since;  // When `completion.create.age` was true.
  };

  void Run();
  // Until more has come to travel along, or it must not wait any longer.
  void Linger() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The first of those that wait, as old as they are now.
  v1::CompletedRequest NextBatch() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sends a batch; answers the indices of what has to be offered again.
  std::vector<int> Offer(const v1::CompletedRequest& batch);

  CoordinatorConnection* const connection_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
  uint64_t reported_ ABSL_GUARDED_BY(mutex_) = 0;  // Ever passed to Report.
  uint64_t answered_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t awaited_ ABSL_GUARDED_BY(mutex_) = 0;  // Up to this one they must not linger.
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace assent

#endif  // ASSENT_PARTICIPANT_SDK_CPP_COMPLETION_REPORTER_H_
