#include "participant_sdk/cpp/completion_reporter.h"

#include <glog/logging.h>

#include <utility>

#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/grpc_status.h"

namespace assent {

constexpr absl::Duration CompletionReporter::kFlushPatience;

namespace {

// How long a batch is offered before newer ones join it in the next attempt.
constexpr absl::Duration kAttempt = absl::Seconds(2);

}  // namespace

CompletionReporter::CompletionReporter(CoordinatorConnection* connection)
    : connection_(connection), thread_([this] { Run(); }) {}

CompletionReporter::~CompletionReporter() {
  if (!Flush(absl::Now() + kFlushPatience)) {
    LOG(WARNING) << "completions could not be reported; the coordinator will find them out at the databases";
  }
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  changed_.NotifyAll();
  thread_.join();
}

void CompletionReporter::Report(const std::vector<v1::Completion>& completions) {
  if (completions.empty()) return;
  {
    MutexLock lock(&mutex_);
    while (waiting_.size() >= kMaxWaiting) changed_.Wait(&mutex_);
    waiting_.insert(waiting_.end(), completions.begin(), completions.end());
    reported_ += completions.size();
  }
  changed_.NotifyAll();
}

bool CompletionReporter::Flush(absl::Time give_up) {
  MutexLock lock(&mutex_);
  const uint64_t goal = reported_;
  while (answered_ < goal) {
    if (!changed_.WaitUntil(&mutex_, absl::ToChronoTime(give_up)) && absl::Now() >= give_up) return answered_ >= goal;
  }
  return true;
}

void CompletionReporter::Run() {
  mutex_.Lock();
  for (;;) {
    while (waiting_.empty() && !stopping_) changed_.Wait(&mutex_);
    if (stopping_) break;
    v1::CompletedRequest batch;
    for (size_t i = 0; i < kMaxBatch && i < waiting_.size(); ++i) *batch.add_completions() = waiting_[i];
    mutex_.Unlock();
    const absl::Time give_up = absl::Now() + kAttempt;
    const absl::StatusOr<v1::CompletedResponse> response = connection_->Completed(batch, give_up);
    if (response.ok()) {
      for (int i = 0; i < response->results_size(); ++i) {
        const v1::CompletionResult& result = response->results(i);
        if (!result.has_error()) continue;
        LOG(ERROR) << "gtrid=" << batch.completions(i).gtrid() << " bqual=" << batch.completions(i).bqual()
                   << " completion " << v1::Completion::Result_Name(batch.completions(i).result())
                   << " refused: " << ToText(FromRpcStatus(result.error()));
      }
    } else {
      LOG(WARNING) << batch.completions_size() << " completions not reported yet: " << ToText(response.status());
    }
    mutex_.Lock();
    // Whatever has an answer is done; without one (the coordinator is away) it is offered again. A batch that is
    // refused as a whole would be refused for ever.
    if (response.ok() || !absl::IsUnavailable(response.status())) {
      waiting_.erase(waiting_.begin(), waiting_.begin() + batch.completions_size());
      answered_ += static_cast<uint64_t>(batch.completions_size());
      changed_.NotifyAll();
    }
  }
  mutex_.Unlock();
}

}  // namespace assent
