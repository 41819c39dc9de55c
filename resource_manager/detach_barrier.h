// The detach barrier: when has a connection let go of its branch?
//
// MariaDB publishes the branch of an ending connection before InnoDB lets go of its transaction, and takes the
// connection off the process list at about that time. So a connection is gone when it does not stand in the process
// list and, asked after that, has no transaction in the engine. A connection that was reset while its branch was
// prepared stands in both until it ends.
#ifndef ASSENT_RESOURCE_MANAGER_DETACH_BARRIER_H_
#define ASSENT_RESOURCE_MANAGER_DETACH_BARRIER_H_

#include <cstdint>
#include <set>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "resource_manager/engine_view.h"
#include "resource_manager/mariadb_session.h"

namespace assent {

// How long to wait for connections that are about to go, and how often to look.
constexpr absl::Duration kBarrierPatience = absl::Milliseconds(500);
constexpr absl::Duration kBarrierPoll = absl::Milliseconds(10);
// After the engine has let go of a transaction its thread still touches it once more; a server has crashed there.
constexpr absl::Duration kAfterBarrier = absl::Milliseconds(2);
// Where the engine cannot be asked: a connection needs less than 5 ms to end unless the machine is overloaded.
constexpr absl::Duration kSettle = absl::Seconds(1);

// What the server and then the engine say about connections. All functions block and need a session without branch or
// transaction.
struct ConnectionsView {
  std::set<uint64_t> alive;  // Only those of the same account if the engine's view is kForbidden.
  EngineViewResult engine;
};
absl::StatusOr<ConnectionsView> LookAtConnections(MariaDbSession* session);

// Waits until none of the connections, which must be ending, holds anything any more; false if some still do after
// kBarrierPatience. Without PROCESS it waits kSettle instead.
absl::StatusOr<bool> WaitUntilDetached(MariaDbSession* session, const std::set<uint64_t>& connections);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_DETACH_BARRIER_H_
