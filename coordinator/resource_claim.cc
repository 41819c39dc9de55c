#include "coordinator/resource_claim.h"

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"
#include "base/errors.h"

namespace assent {
namespace {

// Instead of a store's id. No store is called so.
constexpr char kDisputed[] = "disputed";
constexpr int64_t kLongestStep = 1 << 20;

absl::Status Quarantine(const v1::Resource& resource, absl::string_view what) {
  return MakeError(Reason::RESOURCE_QUARANTINED,
                   absl::StrCat(what,
                                "; correct the address, or, if this is how it is meant to be, accept it: `assentctl "
                                "resources register ",
                                resource.name(), " --replace --accept-server`"),
                   {{"resource", resource.name()}});
}

absl::Status ClaimedByAnother(const v1::Resource& resource, const Claimant& claimant, const Claim& claim) {
  return MakeError(
      Reason::RESOURCE_CLAIMED,
      absl::StrCat("the server of resource '", resource.name(), "' is used by another coordinator store (",
                   claim.store_id, ") of a cluster that is also called '", claimant.cluster,
                   "': two coordinators with separate stores must not share a cluster name; give one of them "
                   "another `cluster`, or, if that store is gone for good, take it over: `assentctl resources "
                   "register ",
                   resource.name(), " --replace --take-over`"),
      {{"resource", resource.name()}, {"cluster", claimant.cluster}, {"store_id", claim.store_id}});
}

absl::Status Disputed(const v1::Resource& resource) {
  return MakeError(
      Reason::RESOURCE_CLAIMED,
      absl::StrCat("the server of resource '", resource.name(),
                   "' was used with another copy of this coordinator's store: either two copies of one store are at "
                   "work, or one of them is an old copy, which does not know what was decided since. Nothing is done "
                   "there by either. Find out which store is the right one, stop all others for good, and take the "
                   "server over with the right one: `assentctl resources register ",
                   resource.name(), " --replace --take-over`"),
      {{"resource", resource.name()}});
}

bool IsOurs(const Claimant& claimant, const absl::optional<Claim>& claim) {
  return claim && claim->store_id == claimant.store_id;
}

// The claim bears our store's name, and an epoch that our store has not given it.
bool IsOfACopy(const Claimant& claimant, const v1::Resource& resource, const absl::optional<Claim>& claim,
               const std::string& server) {
  if (!IsOurs(claimant, claim) || resource.epoch() == 0 || claim->epoch <= resource.epoch()) return false;
  if (!resource.server().empty() && resource.server() != server) return false;  // Another server's; see below.
  return claim->epoch != resource.next_epoch() && !(claimant.knows_epoch && claimant.knows_epoch(server, claim->epoch));
}

// What speaks against the server as it is; OK if nothing does.
absl::Status Judge(const Claimant& claimant, const ClaimConsent& consent, const v1::Resource& resource,
                   const absl::optional<Claim>& claim, const std::string& server) {
  if (claim && claim->store_id == kDisputed && !consent.take_over) return Disputed(resource);
  if (claim && !IsOurs(claimant, claim) && !consent.take_over) return ClaimedByAnother(resource, claimant, *claim);
  if (IsOfACopy(claimant, resource, claim, server) && !consent.take_over) return Disputed(resource);
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
                                   "emptied the schema assent"));
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

int64_t NextEpoch(const v1::Resource& resource) {
  // By chance, so that two copies of one store do not take the same step.
  thread_local std::mt19937_64 random(std::random_device{}());
  return resource.epoch() + std::uniform_int_distribution<int64_t>(1, kLongestStep)(random);
}

absl::Status EstablishClaim(const Claimant& claimant, const ClaimConsent& consent, BranchRecovery* recovery,
                            v1::Resource* resource) {
  const std::string& server = recovery->identity().name;
  for (;;) {
    absl::StatusOr<absl::optional<Claim>> claim = recovery->ReadClaim(claimant.cluster);
    if (!claim.ok()) return claim.status();
    const bool of_a_copy = IsOfACopy(claimant, *resource, *claim, server);
    if (absl::Status status = Judge(claimant, consent, *resource, *claim, server); !status.ok()) {
      // The other copy may not know yet; if this fails, the next look does it.
      if (of_a_copy) (void)recovery->WriteClaim(claimant.cluster, *claim, Claim{kDisputed, (*claim)->epoch});
      return status;
    }
    const bool stands = IsOurs(claimant, *claim) && !of_a_copy;
    if (consent.install || !stands) {
      if (absl::Status status = recovery->Install(WitnessOf(*resource)); !status.ok()) return status;
    }
    v1::Resource before = *resource;
    if (*claim) before.set_epoch(std::max(resource->epoch(), (*claim)->epoch));
    const Claim ours = {claimant.store_id, stands ? (*claim)->epoch : NextEpoch(before)};
    if (!stands && consent.before_writing) {
      if (absl::Status status = consent.before_writing(ours.epoch); !status.ok()) return status;
    }
    const absl::StatusOr<bool> written = stands ? true : recovery->WriteClaim(claimant.cluster, *claim, ours);
    if (!written.ok()) return written.status();
    if (!*written)
      continue;  // Somebody was faster: another coordinator, or we ourselves by another name of the server.
    resource->set_server(server);
    resource->set_timeline(recovery->identity().timeline);
    resource->set_epoch(ours.epoch);
    return absl::OkStatus();
  }
}

absl::Status AdvanceEpoch(const Claimant& claimant, BranchRecovery* recovery, v1::Resource* resource) {
  const Claim before = {claimant.store_id, resource->epoch()};
  const Claim after = {claimant.store_id, resource->next_epoch()};
  const absl::StatusOr<bool> written = recovery->WriteClaim(claimant.cluster, before, after);
  if (!written.ok()) return written.status();
  // Another name of the server has left its own, or an earlier call of ours was never answered.
  if (!*written) return EstablishClaim(claimant, {}, recovery, resource);
  resource->set_epoch(after.epoch);
  return absl::OkStatus();
}

}  // namespace assent
