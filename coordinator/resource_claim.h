// Is the server that answers the one that the resource was registered as, with data that is not older, and is it ours?
//
// Each cluster keeps one row on each server (claim.h): cluster -> (store id, epoch). Another store's id means that two
// coordinators share a cluster name; no row, a smaller epoch or another server name means that this is not the server
// it was. The epoch grows by random steps while Assent works there, and the store knows each step before it is taken:
// so an older copy of the data is behind, and an epoch that the store does not know is of a copy of the store, or the
// store is an old copy itself. Resources that are names of one server share its row.
#ifndef ASSENT_COORDINATOR_RESOURCE_CLAIM_H_
#define ASSENT_COORDINATOR_RESOURCE_CLAIM_H_

#include <cstdint>
#include <functional>
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
  // Whether a resource on the server has, or is about to leave, this epoch. Asked after the server was.
  std::function<bool(const std::string& server, int64_t epoch)> knows_epoch;
};

// What an operator allows (RegisterResourceRequest).
struct ClaimConsent {
  bool accept_server = false;
  bool take_over = false;
  // Make what is missing of the tables that Assent keeps there, once nothing speaks against the server.
  bool install = false;
  // Called with the epoch that is about to be left, so that whoever looks at the server meanwhile knows it; its error
  // ends it.
  std::function<absl::Status(int64_t next_epoch)> before_writing{};
};

// Looks, and makes the claim (with its table) if there is none yet and there never was one. Fills in resource->server
// and resource->epoch. `resource`: with the server and epochs it was known by; empty and 0 if it is new.
// RESOURCE_CLAIMED, RESOURCE_QUARANTINED (the message says what to do), RESOURCE_UNFIT (a privilege is missing), or the
// database's error. After the first two nothing was changed there, except that a claim of two copies of one store is
// marked as disputed, so that both of them see it. Blocks.
absl::Status EstablishClaim(const Claimant& claimant, const ClaimConsent& consent, BranchRecovery* recovery,
                            v1::Resource* resource);

// The epoch after the present one; a resource must be stored with it (next_epoch) before AdvanceEpoch.
int64_t NextEpoch(const v1::Resource& resource);

// Leaves resource->next_epoch on the server; then it is resource->epoch. If the claim is not as it was left: as
// EstablishClaim. Blocks.
absl::Status AdvanceEpoch(const Claimant& claimant, BranchRecovery* recovery, v1::Resource* resource);

// The witness table of a resource; nullopt if it has none.
absl::optional<WitnessTable> WitnessOf(const v1::Resource& resource);

}  // namespace assent

#endif  // ASSENT_COORDINATOR_RESOURCE_CLAIM_H_
