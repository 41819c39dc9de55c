#include "store/write_queue.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/deferred.h"
#include "base/errors.h"

namespace assent {
namespace {

constexpr std::chrono::milliseconds kIdleDelay(200);
// Up to this many the writing thread tells by itself if nothing waits.
constexpr size_t kSmallGroup = 8;

bool IsForced(const PendingTransition& pending) { return pending.transition.durability == Durability::kForced; }

}  // namespace

WriteQueue::WriteQueue(Limits limits, Work work) : limits_(limits), work_(std::move(work)) {
  writing_ = std::thread([this] { WriteLoop(); });
  telling_thread_ = std::thread([this] { TellLoop(); });
}

void WriteQueue::Finish() {
  if (!writing_.joinable()) return;
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    work_arrived_.NotifyOne();
  }
  writing_.join();
  telling_thread_.join();
}

void WriteQueue::Submit(Transition transition, Store::Done done) {
  Item item;
  item.pending.record = transition.next->SerializeAsString();
  item.pending.transition = std::move(transition);
  item.done = std::move(done);

  MutexLock lock(&mu_);
  if (unwritten_ + static_cast<int64_t>(told_.size()) >= limits_.queue) {
    TransitionResult result;
    result.code = TransitionResult::Code::kNotApplied;
    result.status = MakeError(Reason::OVERLOADED,
                              absl::StrCat("more than ", limits_.queue, " changes wait for the store: repeat later"));
    told_.push_back({std::move(item.done), std::move(result), std::move(item.pending)});
    told_arrived_.NotifyOne();
    return;
  }
  ++unwritten_;
  if (IsForced(item.pending)) ++queued_forced_;
  queue_.push_back(std::move(item));
  if (writer_waits_ && queued_forced_ >= awaited_) work_arrived_.NotifyOne();
}

void WriteQueue::RunBlocking(const std::function<void()>& job) {
  Mutex mu;
  CondVar ended;
  bool has_ended = false;
  Item item;
  item.job = [&] {
    job();
    // Under the lock: the waiting thread destroys all this as soon as it can see has_ended.
    MutexLock lock(&mu);
    has_ended = true;
    ended.NotifyOne();
  };
  {
    MutexLock lock(&mu_);
    ++queued_jobs_;
    queue_.push_back(std::move(item));
    if (writer_waits_) work_arrived_.NotifyOne();
  }
  MutexLock lock(&mu);
  while (!has_ended) ended.Wait(&mu);
}

bool WriteQueue::WaitForWork() {
  bool idle_due = true;
  auto idle_at = std::chrono::steady_clock::now() + kIdleDelay;
  while (queue_.empty()) {
    // What is being told may still submit.
    if (stopping_ && TellingDone()) return false;
    writer_waits_ = true;
    if (idle_due) {
      idle_due = work_arrived_.WaitUntil(&mu_, idle_at);
      writer_waits_ = false;
      if (!idle_due && queue_.empty()) {
        mu_.Unlock();
        work_.idle();
        mu_.Lock();
      }
    } else {
      work_arrived_.Wait(&mu_);
      writer_waits_ = false;
    }
  }
  return true;
}

void WriteQueue::Gather() {
  if (last_forced_ < limits_.busy) return;
  const auto until = std::chrono::steady_clock::now() + limits_.gather;
  writer_waits_ = true;
  awaited_ = limits_.company;
  bool in_time = true;
  while (in_time && queued_forced_ < limits_.company && queued_jobs_ == 0 && !stopping_) {
    in_time = work_arrived_.WaitUntil(&mu_, until);
  }
  writer_waits_ = false;
  awaited_ = 0;
}

std::vector<WriteQueue::Item> WriteQueue::TakeGroup() {
  std::vector<Item> items;
  last_forced_ = 0;
  while (!queue_.empty() && items.size() < static_cast<size_t>(limits_.group)) {
    const bool is_job = queue_.front().job != nullptr;
    if (is_job && !items.empty()) break;
    if (is_job) {
      --queued_jobs_;
    } else if (IsForced(queue_.front().pending)) {
      ++last_forced_;
    }
    items.push_back(std::move(queue_.front()));
    queue_.pop_front();
    if (is_job) break;
  }
  queued_forced_ -= last_forced_;
  return items;
}

void WriteQueue::WriteLoop() {
  mu_.Lock();
  while (WaitForWork()) {
    Gather();
    std::vector<Item> items = TakeGroup();
    mu_.Unlock();
    if (items.front().job != nullptr) {
      items.front().job();
    } else {
      WriteGroup(std::move(items));
    }
    work_.after_group();
    mu_.Lock();
  }
  written_out_ = true;
  told_arrived_.NotifyOne();
  mu_.Unlock();
}

void WriteQueue::WriteGroup(std::vector<Item> items) {
  std::vector<PendingTransition> group;
  group.reserve(items.size());
  for (Item& item : items) group.push_back(std::move(item.pending));
  std::vector<TransitionResult> results = work_.apply(group);
  std::vector<Told> told;
  told.reserve(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    told.push_back({std::move(items[i].done), std::move(results[i]), std::move(group[i])});
  }

  {
    MutexLock lock(&mu_);
    unwritten_ -= static_cast<int>(told.size());
    if (!queue_.empty() || !TellingDone() || told.size() > kSmallGroup) {
      for (Told& one : told) told_.push_back(std::move(one));
      told_arrived_.NotifyOne();
      return;
    }
    telling_ = true;
  }
  Tell(std::move(told));
  MutexLock lock(&mu_);
  telling_ = false;
  if (!told_.empty()) told_arrived_.NotifyOne();
}

void WriteQueue::TellLoop() {
  MutexLock lock(&mu_);
  while (true) {
    while (told_.empty() || telling_) {
      if (written_out_ && TellingDone()) return;
      told_arrived_.Wait(&mu_);
    }
    std::vector<Told> told;
    told.swap(told_);
    telling_ = true;
    mu_.Unlock();
    Tell(std::move(told));
    mu_.Lock();
    telling_ = false;
    if (stopping_) work_arrived_.NotifyOne();
  }
}

void WriteQueue::Tell(std::vector<Told> told) {
  DeferScope scope;  // What is told together may be passed on together.
  for (Told& one : told) {
    one.done(std::move(one.result));
    one.done = nullptr;  // What it holds on to is released with no lock held, and as early as can be.
    one.pending = {};
  }
}

}  // namespace assent
