// The one way between absl::Status and grpc::Status (and google.rpc.Status inside messages), in both directions, with
// all details kept. gRPC 1.51 converts neither by itself.
#ifndef ASSENT_BASE_GRPC_STATUS_H_
#define ASSENT_BASE_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "google/rpc/status.pb.h"

namespace assent {

// Adds RetryInfo where repeating the call helps.
google::rpc::Status ToRpcStatus(const absl::Status& status);
absl::Status FromRpcStatus(const google::rpc::Status& status);

grpc::Status ToGrpcStatus(const absl::Status& status);
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace assent

#endif  // ASSENT_BASE_GRPC_STATUS_H_
