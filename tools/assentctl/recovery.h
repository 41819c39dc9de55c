// assentctl recover, retry, resolve: what an operator can do about branches in doubt.
#ifndef ASSENT_TOOLS_ASSENTCTL_RECOVERY_H_
#define ASSENT_TOOLS_ASSENTCTL_RECOVERY_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "assent/v1/coordinator_service.pb.h"
#include "tools/assentctl/session.h"

namespace assent {

// Sweeps and reports. kExitError if a resource could not be swept.
int Recover(Session* session, const v1::RecoverRequest& request);

int RetryNow(Session* session, const v1::RetryNowRequest& request);

// Looks at the database, shows what it found and what would come of it, asks (unless `yes`) and only then declares how
// the branch ended. kExitError if the coordinator refuses, or if the answer is not "yes". `request` lacks etag and
// validate_only.
int ResolveBranch(Session* session, v1::ResolveBranchRequest request, bool yes);

// What --as takes.
std::vector<std::string> ResolutionWords();
v1::Resolution ResolutionOf(const std::string& word);

std::string RenderReport(const v1::RecoverResponse& response, bool dry_run, absl::Time now);
// What is now, what the look found, and what would be.
std::string RenderResolution(const v1::GetGlobalResponse& before, const v1::ResolveBranchResponse& validated,
                             const v1::ResolveBranchRequest& request, absl::Time now);

}  // namespace assent

#endif  // ASSENT_TOOLS_ASSENTCTL_RECOVERY_H_
