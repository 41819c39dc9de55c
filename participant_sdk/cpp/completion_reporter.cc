#include "participant_sdk/cpp/completion_reporter.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/fault_point.h"
#include "base/grpc_status.h"
#include "base/timestamp.h"

namespace assent {

constexpr absl::Duration CompletionReporter::kFlushPatience;
constexpr absl::Duration CompletionReporter::kLinger;

namespace {

// How long a batch is offered before newer ones join it in the next attempt.
constexpr absl::Duration kAttempt = absl::Seconds(2);
// Between a refusal that asks for a repetition and that.
constexpr absl::Duration kPause = absl::Milliseconds(50);

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

void CompletionReporter::Report(const std::vector<v1::Completion>& completions, bool awaited) {
  if (completions.empty()) return;
  {
    MutexLock lock(&mutex_);
    while (waiting_.size() >= kMaxWaiting) changed_.Wait(&mutex_);
    const bool first = waiting_.empty();
    for (const v1::Completion& completion : completions) waiting_.push_back({completion, absl::Now()});
    reported_ += completions.size();
    if (awaited) awaited_ = reported_;
    if (!first && !awaited && waiting_.size() < kMaxBatch) return;  // Those that are there take it along.
  }
  changed_.NotifyAll();
}

bool CompletionReporter::Flush(absl::Time give_up) {
  MutexLock lock(&mutex_);
  const uint64_t goal = awaited_ = reported_;
  changed_.NotifyAll();
  while (answered_ < goal) {
    if (!changed_.WaitUntil(&mutex_, absl::ToChronoTime(give_up)) && absl::Now() >= give_up) return answered_ >= goal;
  }
  return true;
}

std::vector<int> CompletionReporter::Offer(const v1::CompletedRequest& batch) {
  ASSENT_FAULT_POINT(kSdkReportBefore);
  const absl::StatusOr<v1::CompletedResponse> response = connection_->Completed(batch, absl::Now() + kAttempt);
  if (!response.ok()) {
    LOG(WARNING) << batch.completions_size() << " completions not reported yet: " << ToText(response.status());
    // A batch that is refused as a whole would be refused for ever.
    std::vector<int> all;
    for (int i = 0; IsRetryable(response.status()) && i < batch.completions_size(); ++i) all.push_back(i);
    return all;
  }
  ASSENT_FAULT_POINT(kSdkReportOk);
  std::vector<int> again;
  for (int i = 0; i < response->results_size(); ++i) {
    const v1::CompletionResult& result = response->results(i);
    if (!result.has_error()) continue;
    const absl::Status error = FromRpcStatus(result.error());
    if (IsRetryable(error)) {  // The coordinator is going down, or its store is away: its word is "repeat".
      again.push_back(i);
      continue;
    }
    LOG(ERROR) << "gtrid=" << batch.completions(i).gtrid() << " bqual=" << batch.completions(i).bqual()
               << " completion " << v1::Completion::Result_Name(batch.completions(i).result())
               << " refused: " << ToText(error);
  }
  return again;
}

void CompletionReporter::Linger() {
  const absl::Time until = absl::Now() + kLinger;
  while (awaited_ <= answered_ && waiting_.size() < kMaxBatch && !stopping_ && absl::Now() < until) {
    changed_.WaitUntil(&mutex_, absl::ToChronoTime(until));
  }
}

v1::CompletedRequest CompletionReporter::NextBatch() const {
  v1::CompletedRequest batch;
  const absl::Time now = absl::Now();
  for (size_t i = 0, bytes = 0; i < kMaxBatch && i < waiting_.size(); ++i) {
    bytes += waiting_[i].completion.ByteSizeLong();
    if (i > 0 && bytes > kMaxBatchBytes) break;
    v1::Completion* const completion = batch.add_completions();
    *completion = waiting_[i].completion;
    // However long the coordinator is away, its branch must not look younger than it is.
    if (completion->has_create()) {
      google::protobuf::Duration* const age = completion->mutable_create()->mutable_age();
      SetDuration(GetDuration(*age) + std::max(absl::ZeroDuration(), now - waiting_[i].since), age);
    }
  }
  return batch;
}

void CompletionReporter::Run() {
  mutex_.Lock();
  for (;;) {
    while (waiting_.empty() && !stopping_) changed_.Wait(&mutex_);
    if (stopping_) break;
    Linger();
    const v1::CompletedRequest batch = NextBatch();
    mutex_.Unlock();
    const std::vector<int> again = Offer(batch);
    if (!again.empty()) absl::SleepFor(kPause);
    mutex_.Lock();
    std::vector<Waiting> kept;
    for (const int i : again) kept.push_back(std::move(waiting_[static_cast<size_t>(i)]));
    waiting_.erase(waiting_.begin(), waiting_.begin() + batch.completions_size());
    waiting_.insert(waiting_.begin(), kept.begin(), kept.end());
    answered_ += static_cast<uint64_t>(batch.completions_size()) - again.size();
    changed_.NotifyAll();
  }
  mutex_.Unlock();
}

}  // namespace assent
