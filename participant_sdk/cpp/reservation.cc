#include "participant_sdk/cpp/reservation.h"

#include <unistd.h>

#include <utility>

#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "base/xid.h"

namespace assent {

bool Reservation::IsValid() const { return next_ < count_ && owner_ == getpid() && absl::Now() < until_; }

absl::Status Reservation::Renew(absl::string_view resource, absl::Time give_up) {
  v1::ReserveGtridsRequest request;
  for (const auto& known : terms_) request.add_resources(known.first);
  if (!resource.empty()) request.add_resources(std::string(resource));
  const absl::Time asked = absl::Now();
  absl::StatusOr<v1::ReserveGtridsResponse> response = connection_->ReserveGtrids(request, give_up);
  if (!response.ok() && request.resources_size() > (resource.empty() ? 0 : 1)) {
    // One that was used before may be what is refused now; it is asked for again by whoever needs it.
    terms_.clear();
    request.clear_resources();
    if (!resource.empty()) request.add_resources(std::string(resource));
    response = connection_->ReserveGtrids(request, give_up);
  }
  if (!response.ok()) return response.status();
  terms_.clear();
  for (v1::BranchTerms& terms : *response->mutable_terms()) terms_[terms.resource()] = std::move(terms);
  block_ = response->prefix();
  next_ = 0;
  count_ = response->count();
  owner_ = getpid();
  until_ = asked + GetDuration(response->lifetime());
  return absl::OkStatus();
}

absl::StatusOr<std::string> Reservation::TakeGtrid(absl::Time give_up) {
  MutexLock lock(&mutex_);
  if (!IsValid()) {
    if (absl::Status status = Renew("", give_up); !status.ok()) return status;
  }
  return GtridOfBlock(block_, next_++);
}

absl::StatusOr<v1::BranchTerms> Reservation::TermsOf(absl::string_view resource, absl::Time give_up) {
  MutexLock lock(&mutex_);
  auto found = terms_.find(resource);
  if (!IsValid() || found == terms_.end()) {
    if (absl::Status status = Renew(found == terms_.end() ? resource : "", give_up); !status.ok()) return status;
    found = terms_.find(resource);
    // Its terms were refused among others'.
    if (found == terms_.end()) {
      if (absl::Status status = Renew(resource, give_up); !status.ok()) return status;
      found = terms_.find(resource);
    }
  }
  if (found == terms_.end()) {
    return MakeError(Reason::RESOURCE_NOT_FOUND, "the coordinator did not answer the terms of the resource",
                     {{"resource", std::string(resource)}});
  }
  return found->second;
}

void Reservation::Forget() {
  MutexLock lock(&mutex_);
  until_ = absl::InfinitePast();
}

}  // namespace assent
