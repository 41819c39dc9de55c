// Requests: from the messages of the API to events of the protocol. Everything that can be refused by looking at a
// request alone is refused here, before anything is looked up or stored.
#ifndef ASSENT_COORDINATOR_REQUESTS_H_
#define ASSENT_COORDINATOR_REQUESTS_H_

#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "assent/v1/coordinator_service.pb.h"
#include "base/mutex.h"
#include "coordinator/protocol.h"
#include "coordinator/resource_registry.h"

namespace assent {

// Votes, branches and completions in one call.
constexpr int kMaxItemsPerCall = 1000;

struct RequestLimits {
  std::string cluster;  // The prefix of generated gtrids.
  absl::Duration default_timeout = absl::Seconds(60);
  absl::Duration max_timeout = absl::Hours(24);
};

// An event, and the resources that must not be removed until it is stored.
struct Request {
  Event event;
  v1::Wait wait = v1::WAIT_NONE;
  std::vector<ResourcePtr> pinned;
};

// OK for a gtrid of this cluster, whoever chose the rest of it. INVALID_GTRID for what is none, and for another
// cluster's: that there is no record of it here says nothing about how it ended, so it must not be taken for presumed
// abort.
absl::Status ValidateOwnGtrid(absl::string_view gtrid, absl::string_view cluster);

// `now` and `actor` go into the event. All of them: INVALID_GTRID as above.
absl::StatusOr<Request> ToRequest(const v1::CreateGlobalRequest& message, const RequestLimits& limits,
                                  ResourceRegistry* registry, absl::Time now, const std::string& actor);
absl::StatusOr<Request> ToRequest(const v1::CreateBranchesRequest& message, const RequestLimits& limits,
                                  ResourceRegistry* registry, absl::Time now, const std::string& actor);
absl::StatusOr<Request> ToRequest(const v1::PreparedRequest& message, const RequestLimits& limits, absl::Time now,
                                  const std::string& actor);
// With `create`, what it is about is not refused but comes as the event's `problem`.
absl::StatusOr<Request> ToRequest(const v1::FinalizeRequest& message, const RequestLimits& limits,
                                  ResourceRegistry* registry, absl::Time now, const std::string& actor);
// With `create`, nothing speaks against what has happened.
absl::StatusOr<Request> ToRequest(const v1::Completion& message, const RequestLimits& limits,
                                  ResourceRegistry* registry, absl::Time now, const std::string& actor);
// Without the evidence, which comes from a look at the database.
absl::StatusOr<Request> ToRequest(const v1::ResolveBranchRequest& message, const RequestLimits& limits, absl::Time now,
                                  const std::string& actor);

// How long ids that are handed out may be used for new transactions.
constexpr absl::Duration kReservationLifetime = absl::Seconds(10);
// What is handed out is born at least this much later than a horizon that has come near, which moves on while it is
// used: what takes longer may find itself overtaken, and is in doubt.
constexpr absl::Duration kBirthMargin = absl::Minutes(5);

// When the ids are born that are handed out. Thread-safe.
class Births {
 public:
  // Now; or later, while the store's horizon is in the future, or near and moving: a clock that was ahead has left it
  // there, or this one is behind that of the instance that deletes. (One that stays where it was, like a new store's,
  // overtakes nothing.) Born before it, they could never be used; born later than now, they are only kept for longer.
  // Whatever they are ahead, they stay so: ids that were all born at one moment would be overtaken all at once, by the
  // purge of the first of them.
  absl::Time Next(absl::Time now, absl::Time horizon);

 private:
  Mutex mutex_;
  absl::Time first_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();  // The horizon when it was first asked.
  absl::Duration ahead_ ABSL_GUARDED_BY(mutex_);
};

// `birth`: of the ids.
absl::StatusOr<v1::ReserveGtridsResponse> Reserve(const v1::ReserveGtridsRequest& message, const RequestLimits& limits,
                                                  ResourceRegistry* registry, absl::Time birth);

// The size of a page that was asked for: 0 means 100, more than 1,000 means 1,000. INVALID_PAGE_SIZE if negative.
absl::StatusOr<int> PageSize(int asked);

}  // namespace assent

#endif  // ASSENT_COORDINATOR_REQUESTS_H_
