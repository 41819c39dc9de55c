// The membership of a store in a MariaDB server (membership.h).
#ifndef ASSENT_STORE_MARIADB_MEMBERSHIP_H_
#define ASSENT_STORE_MARIADB_MEMBERSHIP_H_

#include <string>
#include <vector>

#include "store/mariadb_fence.h"
#include "store/mariadb_link.h"
#include "store/membership.h"

namespace assent {

// Thread-safe.
class MariaDbMembership : public Membership {
 public:
  // `writer`: the name of this store object's writer (mariadb_writer.h), by which others end what it has in flight.
  // Both pointers must outlive this object.
  MariaDbMembership(MariaDbPool* pool, Fence* fence, std::string writer);

  absl::StatusOr<InstanceKey> Join(const InstanceInfo& info) override;
  absl::Status Renew(int64_t load) override;
  absl::Status DeclareSilentDead() override;
  absl::Status Leave() override;
  absl::StatusOr<std::vector<Instance>> Instances() override;
  absl::StatusOr<std::vector<Lease>> Claim(absl::Span<const std::string> work) override;
  absl::Status Release(absl::Span<const std::string> work) override;

 private:
  struct Silent {
    InstanceKey key;
    std::string writer;
  };
  DbError TryJoin(MariaDbConnection* connection, const InstanceInfo& info, InstanceKey* key);
  DbError FindSilent(MariaDbConnection* connection, std::vector<Silent>* silent);
  DbError Bury(MariaDbConnection* connection, const Silent& silent);
  DbError TryClaim(MariaDbConnection* connection, absl::Span<const std::string> work, bool* fenced,
                   std::vector<Lease>* leases);

  MariaDbPool* const pool_;
  Fence* const fence_;
  const std::string writer_;
};

}  // namespace assent

#endif  // ASSENT_STORE_MARIADB_MEMBERSHIP_H_
