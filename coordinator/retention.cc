#include "coordinator/retention.h"

#include <glog/logging.h>

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "base/errors.h"

namespace assent {
namespace {

// An instance that takes over begins within this.
constexpr absl::Duration kIdle = absl::Seconds(1);

}  // namespace

Retention::Retention(const RetentionOptions& options, Store* store, Clock* clock, std::function<bool()> is_ours)
    : options_(options), store_(store), clock_(clock), is_ours_(std::move(is_ours)) {}

Retention::~Retention() { Stop(); }

void Retention::Start() {
  if (options_.keep > absl::ZeroDuration()) thread_ = std::thread([this] { Run(); });
}

void Retention::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

absl::Duration Retention::DeleteBatch() {
  if (!is_ours_()) return std::min(kIdle, options_.interval);
  const auto began = std::chrono::steady_clock::now();
  const absl::StatusOr<std::vector<std::string>> gone = store_->Purge(clock_->Now() - options_.keep, options_.batch);
  if (!gone.ok()) {
    LOG(WARNING) << "finished transactions could not be deleted yet: " << ToText(gone.status());
    return options_.interval;
  }
  deleted_ += static_cast<int64_t>(gone->size());
  deleted_total_ += static_cast<int64_t>(gone->size());
  if (static_cast<int>(gone->size()) < options_.batch) {
    LOG_IF(INFO, deleted_ > 0) << "deleted " << deleted_ << " transactions that ended more than " << options_.keep
                               << " ago";
    deleted_ = 0;
    return options_.interval;
  }
  const absl::Duration took = absl::FromChrono(std::chrono::steady_clock::now() - began);
  return took * (1 / options_.share - 1);
}

void Retention::Run() {
  for (;;) {
    const auto wake = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(DeleteBatch());
    MutexLock lock(&mutex_);
    while (!stopping_ && std::chrono::steady_clock::now() < wake) changed_.WaitUntil(&mutex_, wake);
    if (stopping_) return;
  }
}

}  // namespace assent
