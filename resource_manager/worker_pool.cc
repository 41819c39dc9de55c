#include "resource_manager/worker_pool.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/errors.h"

namespace assent {

WorkerPool::WorkerPool(Connector connect, int connections, absl::Duration patience)
    : connect_(std::move(connect)), patience_(patience), connections_(static_cast<size_t>(std::max(1, connections))) {}

absl::Status WorkerPool::ConnectAtLeast(size_t count) {
  while (sessions_.size() < std::min(count, connections_)) {
    auto session = connect_();
    if (!session.ok()) return session.status();
    sessions_.push_back(*std::move(session));
  }
  return absl::OkStatus();
}

absl::Status WorkerPool::ForEach(size_t count, const std::function<bool(BranchSession*, size_t)>& send,
                                 const std::function<void(BranchSession*, size_t)>& receive) {
  const absl::Status connected = ConnectAtLeast(count);
  if (!connected.ok()) return connected;
  std::vector<BranchSession*> idle;
  for (const auto& session : sessions_) idle.push_back(session.get());
  std::map<BranchSession*, size_t> busy;
  size_t next = 0;
  for (;;) {
    while (next < count && !idle.empty()) {
      const size_t i = next++;
      if (!send(idle.back(), i)) continue;
      busy[idle.back()] = i;
      idle.pop_back();
    }
    if (busy.empty()) return absl::OkStatus();
    std::vector<BranchSession*> waiting;
    for (const auto& entry : busy) waiting.push_back(entry.first);
    const std::vector<BranchSession*> ready = BranchSession::WaitAny(waiting, patience_);
    for (BranchSession* session : ready) {
      receive(session, busy[session]);
      busy.erase(session);
      idle.push_back(session);
    }
    if (ready.empty() || std::any_of(ready.begin(), ready.end(), [](BranchSession* s) { return s->lost(); })) {
      Disconnect();
      return MakeError(Reason::DATABASE_UNREACHABLE, "a connection of the recovery was lost or had no answer in time");
    }
  }
}

void WorkerPool::Disconnect() {
  for (const auto& session : sessions_) session->Abandon();
  sessions_.clear();
}

}  // namespace assent
