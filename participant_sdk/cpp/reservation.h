// Reservation: ids for transactions that are begun without asking the coordinator, and the terms on which their
// branches run (ReserveGtrids). Both are good for some seconds; then the next who needs them asks again.
#ifndef ASSENT_PARTICIPANT_SDK_CPP_RESERVATION_H_
#define ASSENT_PARTICIPANT_SDK_CPP_RESERVATION_H_

#include <sys/types.h>

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "assent/v1/coordinator_service.pb.h"
#include "base/mutex.h"
#include "participant_sdk/cpp/coordinator_connection.h"

namespace assent {

// Thread-safe. Both calls may block until the coordinator has answered. Errors: its own, or COORDINATOR_UNREACHABLE.
class Reservation {
 public:
  // `connection` must outlive it.
  explicit Reservation(CoordinatorConnection* connection) : connection_(connection) {}

  // An id that nobody else has, also not a process that was forked off.
  absl::StatusOr<std::string> TakeGtrid(absl::Time give_up);
  // RESOURCE_NOT_FOUND, RESOURCE_QUARANTINED.
  absl::StatusOr<v1::BranchTerms> TermsOf(absl::string_view resource, absl::Time give_up);
  // Something was refused on these terms: nothing that was answered before is used again.
  void Forget();

 private:
  bool IsValid() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Asks for all resources known so far, and one more if it is not empty.
  absl::Status Renew(absl::string_view resource, absl::Time give_up) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  CoordinatorConnection* const connection_;
  Mutex mutex_;
  std::string block_ ABSL_GUARDED_BY(mutex_);
  int next_ ABSL_GUARDED_BY(mutex_) = 0;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
  pid_t owner_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time until_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  std::map<std::string, v1::BranchTerms, std::less<>> terms_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace assent

#endif  // ASSENT_PARTICIPANT_SDK_CPP_RESERVATION_H_
