// How many ghosts a server has: prepared transactions that it does not list in XA RECOVER any more.
#ifndef ASSENT_RESOURCE_MANAGER_GHOST_COUNT_H_
#define ASSENT_RESOURCE_MANAGER_GHOST_COUNT_H_

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "resource_manager/branch_recovery.h"
#include "resource_manager/mariadb_session.h"

namespace assent {

// nullopt: it cannot be seen (the account may not look, or the server has more transactions than it shows). Blocks.
absl::StatusOr<absl::optional<GhostCount>> CountGhosts(MariaDbSession* session);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_GHOST_COUNT_H_
