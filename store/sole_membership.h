// The membership of a store that one process owns: that process is its only instance, and nobody can take its place.
#ifndef ASSENT_STORE_SOLE_MEMBERSHIP_H_
#define ASSENT_STORE_SOLE_MEMBERSHIP_H_

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "store/membership.h"

namespace assent {

// Thread-safe.
class SoleMembership : public Membership {
 public:
  // `next_epoch` counts the joins of this store durably.
  explicit SoleMembership(std::function<absl::StatusOr<int64_t>()> next_epoch) : next_epoch_(std::move(next_epoch)) {}

  absl::StatusOr<InstanceKey> Join(const InstanceInfo& info) override;
  absl::Status Renew(int64_t load) override;
  absl::Status DeclareSilentDead() override { return absl::OkStatus(); }
  absl::Status Leave() override;
  absl::StatusOr<std::vector<Instance>> Instances() override;
  absl::StatusOr<std::vector<Lease>> Claim(absl::Span<const std::string> work) override;
  absl::Status Release(absl::Span<const std::string> work) override;

 private:
  const std::function<absl::StatusOr<int64_t>()> next_epoch_;

  Mutex mu_;
  Instance self_ ABSL_GUARDED_BY(mu_);  // Epoch 0: not joined yet.
  // Leases die with the process. So that their epochs grow all the same, they begin with the instance's.
  std::map<std::string, int64_t> leases_ ABSL_GUARDED_BY(mu_);
  int64_t grants_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace assent

#endif  // ASSENT_STORE_SOLE_MEMBERSHIP_H_
