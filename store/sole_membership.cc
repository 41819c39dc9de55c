#include "store/sole_membership.h"

#include "absl/time/clock.h"
#include "base/errors.h"
#include "store/record.h"

namespace assent {
namespace {

constexpr int64_t kOnlyId = 1;
// Grants of leases in one epoch of the instance, which keep their epochs apart from those of the next.
constexpr int64_t kGrantsPerEpoch = int64_t{1} << 32;

absl::Status NotJoined() { return MakeError(Reason::INSTANCE_FENCED, "this instance has not joined the store"); }

}  // namespace

absl::StatusOr<InstanceKey> SoleMembership::Join(const InstanceInfo& info) {
  if (absl::Status status = CheckInstanceInfo(info); !status.ok()) return status;
  const absl::StatusOr<int64_t> epoch = next_epoch_();
  if (!epoch.ok()) return epoch.status();
  MutexLock lock(&mu_);
  self_ = Instance();
  self_.key = {kOnlyId, *epoch};
  self_.address = info.address;
  self_.version = info.version;
  self_.joined = self_.last_seen = absl::Now();
  self_.alive = true;
  leases_.clear();
  grants_ = 0;
  return self_.key;
}

absl::Status SoleMembership::Renew(int64_t load) {
  MutexLock lock(&mu_);
  if (!self_.alive) return NotJoined();
  self_.load = load;
  self_.last_seen = absl::Now();
  return absl::OkStatus();
}

absl::Status SoleMembership::Leave() {
  MutexLock lock(&mu_);
  if (self_.alive) self_.last_seen = absl::Now();
  self_.alive = false;
  leases_.clear();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Instance>> SoleMembership::Instances() {
  MutexLock lock(&mu_);
  if (self_.key.epoch == 0) return std::vector<Instance>();
  Instance self = self_;
  for (const auto& [work, epoch] : leases_) self.leases.push_back(work);
  return std::vector<Instance>{self};
}

absl::StatusOr<std::vector<Lease>> SoleMembership::Claim(absl::Span<const std::string> work) {
  if (absl::Status status = CheckWork(work); !status.ok()) return status;
  MutexLock lock(&mu_);
  if (!self_.alive) return NotJoined();
  std::vector<Lease> leases;
  for (const std::string& name : work) {
    const auto found = leases_.find(name);
    const int64_t epoch = found != leases_.end() ? found->second : self_.key.epoch * kGrantsPerEpoch + ++grants_;
    leases_[name] = epoch;
    leases.push_back({name, self_.key, epoch});
  }
  return leases;
}

absl::Status SoleMembership::Release(absl::Span<const std::string> work) {
  if (absl::Status status = CheckWork(work); !status.ok()) return status;
  MutexLock lock(&mu_);
  for (const std::string& name : work) leases_.erase(name);
  return absl::OkStatus();
}

}  // namespace assent
