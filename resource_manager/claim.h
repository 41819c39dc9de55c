// The claim on a resource: one row per cluster and resource, on the resource's own server, that says which
// coordinator's store keeps the decisions about the branches there. Two stores of one cluster would roll back each
// other's branches.
//
//   CREATE TABLE <witness_schema>.claim (cluster, resource, store_id, epoch, updated, PRIMARY KEY (cluster, resource))
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
#include "resource_manager/mariadb_session.h"
#include "resource_manager/witness_table.h"

namespace assent {

struct Claim {
  std::string store_id;  // At most 64 bytes.
  int64_t epoch = 0;

  bool operator==(const Claim& other) const { return store_id == other.store_id && epoch == other.epoch; }
};

// The table beside the witness table, as BringUpToDate in table_migration.h makes it.
absl::Status InstallClaims(MariaDbSession* session, const WitnessTable& witness);

// nullopt: there is no claim, or no table for it.
absl::StatusOr<absl::optional<Claim>> ReadClaim(MariaDbSession* session, const WitnessTable& witness,
                                                absl::string_view cluster, absl::string_view resource);

// Replaces what is there by `claim` if it is `expected` (nullopt: nothing), in one durable transaction. False, and
// nothing happens, if it is something else.
absl::StatusOr<bool> WriteClaim(MariaDbSession* session, const WitnessTable& witness, absl::string_view cluster,
                                absl::string_view resource, const absl::optional<Claim>& expected, const Claim& claim);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_CLAIM_H_
