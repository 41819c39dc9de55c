// Who waits for locks that branches hold, as InnoDB tells it.
#ifndef ASSENT_RESOURCE_MANAGER_LOCK_WAITS_H_
#define ASSENT_RESOURCE_MANAGER_LOCK_WAITS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "assent/v1/coordinator_service.pb.h"
#include "resource_manager/branch_recovery.h"
#include "resource_manager/mariadb_session.h"

namespace assent {

// See BranchRecovery::LockWaits.
absl::StatusOr<std::vector<v1::LockWait>> ReadLockWaits(MariaDbSession* session, const ServerIdentity& identity,
                                                        absl::Span<const BranchTask> branches, int limit);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_LOCK_WAITS_H_
