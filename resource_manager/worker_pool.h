// WorkerPool: several connections to one server, and one thread that keeps them all busy.
#ifndef ASSENT_RESOURCE_MANAGER_WORKER_POOL_H_
#define ASSENT_RESOURCE_MANAGER_WORKER_POOL_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "resource_manager/branch_session.h"

namespace assent {

// Thread-compatible.
class WorkerPool {
 public:
  using Connector = std::function<absl::StatusOr<std::unique_ptr<BranchSession>>()>;

  // Connects nothing yet. `connections`: at least one. `patience`: how long an answer may take.
  WorkerPool(Connector connect, int connections, absl::Duration patience);

  // The number of connections that it may have.
  size_t connections() const { return connections_; }

  // For each i below `count`, in order and on whichever session is free: `send(session, i)`, which must send exactly
  // one statement or batch, or return false to leave i out; and, when its answer has come, `receive(session, i)`, which
  // must receive it. DATABASE_UNREACHABLE, or the error of connecting: then some were not sent, and the answers to
  // others were not received; the pool is of no more use.
  absl::Status ForEach(size_t count, const std::function<bool(BranchSession*, size_t)>& send,
                       const std::function<void(BranchSession*, size_t)>& receive);

  // Closes all connections, and with them whatever they hold: later calls connect anew.
  void Disconnect();

 private:
  absl::Status ConnectAtLeast(size_t count);

  const Connector connect_;
  const absl::Duration patience_;
  const size_t connections_;
  std::vector<std::unique_ptr<BranchSession>> sessions_;
};

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_WORKER_POOL_H_
