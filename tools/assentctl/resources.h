// assentctl resources: register, get, list, check, remove.
#ifndef ASSENT_TOOLS_ASSENTCTL_RESOURCES_H_
#define ASSENT_TOOLS_ASSENTCTL_RESOURCES_H_

#include <string>

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

}  // namespace assent

#endif  // ASSENT_TOOLS_ASSENTCTL_RESOURCES_H_
