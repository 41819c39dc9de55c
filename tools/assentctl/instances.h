// assentctl instances: the coordinators that share a store.
#ifndef ASSENT_TOOLS_ASSENTCTL_INSTANCES_H_
#define ASSENT_TOOLS_ASSENTCTL_INSTANCES_H_

#include <string>

#include "absl/time/time.h"
#include "assent/v1/coordinator_service.pb.h"
#include "tools/assentctl/session.h"

namespace assent {

// Answers the exit code.
int ListInstances(Session* session);

// A table, the living first.
std::string RenderInstances(const v1::ListInstancesResponse& response, absl::Time now);

}  // namespace assent

#endif  // ASSENT_TOOLS_ASSENTCTL_INSTANCES_H_
