// The engine's views of all transactions at once, what it does about those that others work on, too, and whether its
// store works.
#include <glog/logging.h>

#include "base/errors.h"
#include "base/timestamp.h"
#include "coordinator/engine.h"
#include "coordinator/engine_state.h"

namespace assent {

std::vector<GlobalPtr> Engine::Undone() {
  std::vector<GlobalPtr> undone;
  if (options_.shared) {
    const absl::Status status = ForEachOpen([&](const GlobalPtr& record) {
      if (IsUndecided(*record)) {
        ExpireOverdue(*record);
      } else {
        undone.push_back(record);
      }
    });
    LOG_IF_EVERY_N(WARNING, !status.ok(), 20) << "unfinished transactions cannot be read: " << ToText(status);
    return undone;
  }
  for (Shard& shard : shards_) {
    MutexLock lock(&shard.mutex);
    for (const auto& entry : shard.lives) {
      const GlobalPtr& record = entry.second->record;
      if (record == nullptr || IsUndecided(*record) || IsFinished(record->state())) continue;
      undone.push_back(record);
    }
  }
  return undone;
}

// The deadline is kept by the instance that knows the transaction. It may be gone, or have forgotten it.
void Engine::ExpireOverdue(const v1::Global& record) {
  const absl::Time now = clock_->Now();
  if (now < GetTime(record.expire_time()) + kRetryDelay) return;
  Submit(DeadlineOf(record.gtrid(), now), v1::WAIT_NONE, absl::InfiniteFuture(),
         [](const absl::Status&, const GlobalPtr&) {});
}

absl::Status Engine::ForEachOpen(const std::function<void(const GlobalPtr&)>& visit) {
  for (std::string after;;) {
    const absl::StatusOr<std::vector<GlobalPtr>> page = store_->ReadOpen(after, kPage);
    if (!page.ok()) return page.status();
    for (const GlobalPtr& record : *page) {
      after = record->gtrid();
      visit(record);
    }
    if (page->size() < kPage) return absl::OkStatus();
  }
}

bool Engine::UsesResource(absl::string_view resource) {
  if (options_.shared) {
    bool used = false;
    const absl::Status status = ForEachOpen([&](const GlobalPtr& record) {
      for (const v1::Branch& branch : record->branches()) used = used || branch.resource() == resource;
    });
    return used || !status.ok();
  }
  for (Shard& shard : shards_) {
    MutexLock lock(&shard.mutex);
    for (const auto& entry : shard.lives) {
      for (const GlobalPtr& record : {entry.second->record, entry.second->next}) {
        if (record == nullptr || IsFinished(record->state())) continue;
        for (const v1::Branch& branch : record->branches()) {
          if (branch.resource() == resource) return true;
        }
      }
    }
  }
  return false;
}

absl::Status Engine::LearnFromOthers() {
  std::vector<KnownRevision> known;
  for (Shard& shard : shards_) {
    MutexLock lock(&shard.mutex);
    for (const auto& entry : shard.lives) {
      const Live& live = *entry.second;
      if (live.waiters.empty() || live.busy != Live::Busy::kIdle || live.record == nullptr) continue;
      known.push_back({live.gtrid, live.record->revision()});
    }
  }
  for (size_t begin = 0; begin < known.size(); begin += kPage) {
    const absl::StatusOr<std::vector<GlobalPtr>> changed =
        store_->ReadChanged(absl::MakeSpan(known).subspan(begin, kPage));
    if (!changed.ok()) return changed.status();
    for (const GlobalPtr& record : *changed) {
      Effects effects;
      {
        Shard& shard = ShardOf(record->gtrid());
        MutexLock lock(&shard.mutex);
        const auto it = shard.lives.find(record->gtrid());
        if (it == shard.lives.end()) continue;
        Live* live = it->second.get();
        // What is under way tells more.
        if (live->busy != Live::Busy::kIdle || live->record == nullptr ||
            live->record->revision() >= record->revision()) {
          continue;
        }
        Adopt(record, live, &effects);
        MaybeRetire(&shard, live, &effects);
      }
      Run(&effects);
    }
  }
  return absl::OkStatus();
}

void Engine::ForgetIdle() {
  const int64_t age = ++age_;
  for (Shard& shard : shards_) {
    Effects effects;
    {
      MutexLock lock(&shard.mutex);
      for (auto it = shard.lives.begin(); it != shard.lives.end();) {
        Live* live = it->second.get();
        const bool idle = live->busy == Live::Busy::kIdle && live->queue.empty() && live->waiters.empty();
        if (!idle || live->age + 1 >= age) {
          ++it;
          continue;
        }
        if (live->deadline) effects.cancelled_timers.push_back(*live->deadline);
        it = shard.lives.erase(it);
        --open_;
      }
    }
    Run(&effects);
  }
}

void Engine::ReportStore(const absl::Status& status) {
  const absl::optional<Reason> reason = ReasonOf(status);
  // Busy is not lost, and a store that refuses what it may have forgotten works as it should.
  if (reason == Reason::OVERLOADED || reason == Reason::OUTCOME_IN_DOUBT) return;
  const bool healthy = status.ok();
  if (store_healthy_.exchange(healthy) == healthy) return;
  if (healthy) {
    LOG(INFO) << "the store is back";
  } else {
    LOG(ERROR) << "the store is lost: " << ToText(status);
    timer_->Schedule(clock_->Now() + kRetryDelay, [this] { ProbeStore(); });
  }
  options_.on_store_health(healthy);
}

// Until the store is back somebody has to ask: a server that is not serving gets no calls.
void Engine::ProbeStore() {
  if (store_healthy_ || draining_) return;
  executor_->Run([this] {
    const absl::Status status = store_->Settle("probe").status();
    if (status.ok()) ReportStore(status);
  });
  timer_->Schedule(clock_->Now() + kRetryDelay, [this] { ProbeStore(); });
}

}  // namespace assent
