// assentctl resources: register, get, list, check, remove.
#ifndef ASSENT_TOOLS_ASSENTCTL_RESOURCES_H_
#define ASSENT_TOOLS_ASSENTCTL_RESOURCES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "assent/v1/resource_service.pb.h"
#include "tools/assentctl/session.h"

namespace assent {

// All answer the exit code.
int RegisterResource(Session* session, const v1::RegisterResourceRequest& request);
int GetResource(Session* session, const std::string& name);
int ListResources(Session* session);
// kExitError if a finding is an error.
int CheckResource(Session* session, const std::string& name);
int RemoveResource(Session* session, const std::string& name);

using Findings = google::protobuf::RepeatedPtrField<v1::Finding>;
// A table; each remedy stands under its finding.
std::string RenderFindings(const Findings& findings);
bool HasError(const Findings& findings);
std::string RenderResource(const v1::Resource& resource, absl::Time now);
// All pages.
absl::Status FetchResources(Session* session, v1::ListResourcesResponse* all);

}  // namespace assent

#endif  // ASSENT_TOOLS_ASSENTCTL_RESOURCES_H_
