#include "coordinator/resource_claim.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/errors.h"

namespace assent {
namespace {

absl::Status Quarantine(const v1::Resource& resource, absl::string_view what) {
  return MakeError(Reason::RESOURCE_QUARANTINED,
                   absl::StrCat(what,
                                "; correct the address, or, if this is how it is meant to be, accept it: `assentctl "
                                "resources register --replace --accept-server`"),
                   {{"resource", resource.name()}});
}

absl::Status ClaimedByAnother(const v1::Resource& resource, const Claimant& claimant, const Claim& claim) {
  return MakeError(
      Reason::RESOURCE_CLAIMED,
      absl::StrCat("the server of resource '", resource.name(), "' is used by another coordinator store (",
                   claim.store_id, ") of a cluster that is also called '", claimant.cluster,
                   "': two coordinators with separate stores must not share a cluster name; give one of them "
                   "another `cluster`, or, if that store is gone for good, take it over: `assentctl resources "
                   "register --replace --take-over`"),
      {{"resource", resource.name()}, {"cluster", claimant.cluster}, {"store_id", claim.store_id}});
}

// What speaks against the server as it is; OK if nothing does.
absl::Status Judge(const Claimant& claimant, const ClaimConsent& consent, const v1::Resource& resource,
                   const absl::optional<Claim>& claim, const std::string& server) {
  if (claim && claim->store_id != claimant.store_id && !consent.take_over) {
    return ClaimedByAnother(resource, claimant, *claim);
  }
  if (consent.accept_server) return absl::OkStatus();
  if (!resource.server().empty() && resource.server() != server) {
    return Quarantine(resource, absl::StrCat("another server answers at ", resource.address(), ": ", server,
                                             " instead of ", resource.server()));
  }
  if (resource.epoch() == 0) return absl::OkStatus();
  if (!claim) {
    return Quarantine(resource,
                      absl::StrCat("the server ", server,
                                   " has lost what Assent keeps there: its data was replaced, or somebody has "
                                   "emptied the schema ",
                                   resource.witness_schema()));
  }
  if (claim->epoch < resource.epoch()) {
    return Quarantine(resource,
                      absl::StrCat("the server ", server, " holds an older copy of its data (epoch ", claim->epoch,
                                   ", was ", resource.epoch(),
                                   "): it was restored from a backup; transactions that were committed since are "
                                   "missing there, and only there"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::optional<WitnessTable> WitnessOf(const v1::Resource& resource) {
  if (resource.witness() == v1::WITNESS_DISABLED) return absl::nullopt;
  absl::StatusOr<WitnessTable> table = WitnessTable::OfSchema(resource.witness_schema());
  if (!table.ok()) return absl::nullopt;  // The registry has validated it.
  return *table;
}

absl::Status EstablishClaim(const Claimant& claimant, const ClaimConsent& consent, BranchRecovery* recovery,
                            v1::Resource* resource) {
  const std::string& server = recovery->identity().host_and_port;
  const absl::optional<WitnessTable> witness = WitnessOf(*resource);
  absl::optional<Claim> claim;
  if (witness) {
    absl::StatusOr<absl::optional<Claim>> read = recovery->ReadClaim(*witness, claimant.cluster, resource->name());
    if (!read.ok()) return read.status();
    claim = *std::move(read);
  }
  if (absl::Status status = Judge(claimant, consent, *resource, claim, server); !status.ok()) return status;
  if (witness && (!claim || claim->store_id != claimant.store_id)) {
    const Claim ours = {claimant.store_id, std::max<int64_t>(claim ? claim->epoch : 0, resource->epoch()) + 1};
    const absl::StatusOr<bool> written =
        recovery->WriteClaim(*witness, claimant.cluster, resource->name(), claim, ours);
    if (!written.ok()) return written.status();
    if (!*written) return ClaimedByAnother(*resource, claimant, claim ? *claim : Claim());
    claim = ours;
  }
  resource->set_server(server);
  if (claim) resource->set_epoch(claim->epoch);
  return absl::OkStatus();
}

absl::Status AdvanceEpoch(const Claimant& claimant, BranchRecovery* recovery, v1::Resource* resource) {
  const absl::optional<WitnessTable> witness = WitnessOf(*resource);
  if (!witness) return absl::OkStatus();
  const Claim before = {claimant.store_id, resource->epoch()};
  const Claim after = {claimant.store_id, resource->epoch() + 1};
  const absl::StatusOr<bool> written =
      recovery->WriteClaim(*witness, claimant.cluster, resource->name(), before, after);
  if (!written.ok()) return written.status();
  // Only this store writes claims of its id. If there is a newer one, it is of an earlier call whose answer was lost.
  if (!*written) return EstablishClaim(claimant, {}, recovery, resource);
  resource->set_epoch(after.epoch);
  return absl::OkStatus();
}

}  // namespace assent
