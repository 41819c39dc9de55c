// The claim on a server: one row per cluster, on the server itself, that says which coordinator's store keeps the
// decisions about the cluster's branches there. Two stores of one cluster would roll back each other's branches.
//
//   CREATE TABLE assent.claim (cluster, store_id, epoch, updated, PRIMARY KEY (cluster))
//
// It is always in the schema `assent`, wherever a resource keeps its witnesses and whether it has any: coordinators
// that call the server by other names and keep their witnesses elsewhere must meet here.
//
// All functions block and need a session without branch or transaction.
#ifndef ASSENT_RESOURCE_MANAGER_CLAIM_H_
#define ASSENT_RESOURCE_MANAGER_CLAIM_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "resource_manager/branch_recovery.h"
#include "resource_manager/mariadb_session.h"

namespace assent {

// Makes the table if it is missing; errors as of BringUpToDate in table_migration.h.
absl::Status InstallClaims(MariaDbSession* session);

// nullopt: there is no claim, or no table for it.
absl::StatusOr<absl::optional<Claim>> ReadClaim(MariaDbSession* session, absl::string_view cluster);

// Replaces what is there by `claim` if it is `expected` (nullopt: nothing), in one durable transaction. False, and
// nothing happens, if it is something else.
absl::StatusOr<bool> WriteClaim(MariaDbSession* session, absl::string_view cluster,
                                const absl::optional<Claim>& expected, const Claim& claim);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_CLAIM_H_
