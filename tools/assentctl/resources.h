// assentctl resources: register, get, list, check, remove.
#ifndef ASSENT_TOOLS_ASSENTCTL_RESOURCES_H_
#define ASSENT_TOOLS_ASSENTCTL_RESOURCES_H_

#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "assent/v1/resource_service.pb.h"
#include "tools/assentctl/session.h"

namespace assent {

// What the command line asks for.
struct Registration {
  v1::RegisterResourceRequest request;
  // The fields of request.resource, by their names in the proto, that were given. With `replace` all others stay as
  // they are registered.
  std::set<std::string> given;
};

// All answer the exit code.
int RegisterResource(Session* session, const Registration& registration);
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
// What is registered, with what was given in its place; without what only the coordinator sets. A password that was
// given replaces the other kind, too.
v1::Resource Merge(const v1::Resource& registered, const Registration& registration);
// What differs between two states of a resource, line by line, or that nothing does.
std::string RenderChanges(const v1::Resource& before, const v1::Resource& now);
// All pages.
absl::Status FetchResources(Session* session, v1::ListResourcesResponse* all);

}  // namespace assent

#endif  // ASSENT_TOOLS_ASSENTCTL_RESOURCES_H_
