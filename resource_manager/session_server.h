// Whether a session is where a branch is to run.
#ifndef ASSENT_RESOURCE_MANAGER_SESSION_SERVER_H_
#define ASSENT_RESOURCE_MANAGER_SESSION_SERVER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "assent/v1/global.pb.h"

namespace assent {

// WRONG_SERVER if the session says that it is not on the server of the branch's resource (empty: not known), or that it
// is on an older timeline of it (0: not known): what runs there could never be found again.
absl::Status CheckServer(const v1::Session& session, absl::string_view resource, absl::string_view server,
                         int64_t timeline);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_SESSION_SERVER_H_
