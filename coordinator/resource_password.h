// The password of a resource's account: read where the resource says, never stored or logged.
#ifndef ASSENT_COORDINATOR_RESOURCE_PASSWORD_H_
#define ASSENT_COORDINATOR_RESOURCE_PASSWORD_H_

#include <string>

#include "absl/status/statusor.h"
#include "assent/v1/resource_service.pb.h"

namespace assent {

// Read afresh each time, so that it can be changed without a restart. Empty if the resource names no place.
// INVALID_RESOURCE if the variable or the file cannot be read. Thread-safe; reads a small file at most.
absl::StatusOr<std::string> PasswordOf(const v1::Resource& resource);

}  // namespace assent

#endif  // ASSENT_COORDINATOR_RESOURCE_PASSWORD_H_
