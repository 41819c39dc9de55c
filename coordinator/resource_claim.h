// Is the server that answers the one that the resource was registered as, with data that is not older, and is it ours?
//
// Each coordinator's store keeps one row on each server, beside the witnesses: (cluster, resource) -> (store id,
// epoch). Another store's id means that two coordinators share a cluster name; no row, a smaller epoch or another
// server name means that this is not the server it was. The epoch counts up while Assent works there, so an older copy
// of the data is behind.
#ifndef ASSENT_COORDINATOR_RESOURCE_CLAIM_H_
#define ASSENT_COORDINATOR_RESOURCE_CLAIM_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "assent/v1/resource_service.pb.h"
#include "resource_manager/branch_recovery.h"

namespace assent {

// Who claims.
struct Claimant {
  std::string cluster;
  std::string store_id;
};

// What an operator allows (RegisterResourceRequest).
struct ClaimConsent {
  bool accept_server = false;
  bool take_over = false;
};

// Looks, and makes the claim if there is none yet and there never was one. Fills in resource->server and
// resource->epoch. `resource`: with the server and epoch it was known by; empty and 0 if it is new. RESOURCE_CLAIMED,
// RESOURCE_QUARANTINED (the message says what to do), or the database's error. Without a witness only the server's name
// is compared. Blocks.
absl::Status EstablishClaim(const Claimant& claimant, const ClaimConsent& consent, BranchRecovery* recovery,
                            v1::Resource* resource);

// Counts the epoch up and fills it in. If the claim is not as it was left: as EstablishClaim. Blocks.
absl::Status AdvanceEpoch(const Claimant& claimant, BranchRecovery* recovery, v1::Resource* resource);

// The witness table of a resource; nullopt if it has none.
absl::optional<WitnessTable> WitnessOf(const v1::Resource& resource);

}  // namespace assent

#endif  // ASSENT_COORDINATOR_RESOURCE_CLAIM_H_
