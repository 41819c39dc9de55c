// assentctl in-doubt: the page for whoever is on call. What is stuck, since when, on what, and what happens next.
#ifndef ASSENT_TOOLS_ASSENTCTL_IN_DOUBT_H_
#define ASSENT_TOOLS_ASSENTCTL_IN_DOUBT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "assent/v1/coordinator_service.pb.h"
#include "tools/assentctl/session.h"

namespace assent {

struct InDoubtOptions {
  std::string resource;     // Empty: all.
  bool with_locks = false;  // Also ask the databases who waits for whom.
  int limit = 50;           // Show at most this many branches; 0: all. Alarms come first.
  bool exit_code = false;   // kExitError if an alarm is on.
};

int ShowInDoubt(Session* session, const InDoubtOptions& options);

// All pages in one; `with_locks` may take seconds.
absl::Status FetchInDoubt(Session* session, const std::string& resource, bool with_locks, v1::ListInDoubtResponse* all);
// A branch has been in doubt for too long or is HEURISTIC, or a resource is quarantined: somebody has to look.
bool HasAlarm(const v1::ListInDoubtResponse& response);
// `response` holds everything; alarms first, then the oldest.
std::string RenderInDoubt(const v1::ListInDoubtResponse& response, const InDoubtOptions& options, absl::Time now);
// The sessions that wait for locks of branches.
std::string RenderLockWaits(const google::protobuf::RepeatedPtrField<v1::LockWait>& waits);

}  // namespace assent

#endif  // ASSENT_TOOLS_ASSENTCTL_IN_DOUBT_H_
