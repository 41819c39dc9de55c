// ResourceServiceImpl: the gRPC front of the resource registry. Its calls are rare and may block, on the executor.
#ifndef ASSENT_COORDINATOR_RESOURCE_SERVICE_H_
#define ASSENT_COORDINATOR_RESOURCE_SERVICE_H_

#include "assent/v1/resource_service.grpc.pb.h"
#include "base/executor.h"
#include "coordinator/engine.h"
#include "coordinator/recovery.h"
#include "coordinator/resource_registry.h"

namespace assent {

// Thread-safe. Everything passed in must outlive it.
class ResourceServiceImpl final : public v1::ResourceService::CallbackService {
 public:
  ResourceServiceImpl(ResourceRegistry* registry, Engine* engine, Recovery* recovery, Executor* executor)
      : registry_(registry), engine_(engine), recovery_(recovery), executor_(executor) {}

  grpc::ServerUnaryReactor* RegisterResource(grpc::CallbackServerContext* context,
                                             const v1::RegisterResourceRequest* request,
                                             v1::RegisterResourceResponse* response) override;
  grpc::ServerUnaryReactor* GetResource(grpc::CallbackServerContext* context, const v1::GetResourceRequest* request,
                                        v1::GetResourceResponse* response) override;
  grpc::ServerUnaryReactor* ListResources(grpc::CallbackServerContext* context, const v1::ListResourcesRequest* request,
                                          v1::ListResourcesResponse* response) override;
  grpc::ServerUnaryReactor* CheckResource(grpc::CallbackServerContext* context, const v1::CheckResourceRequest* request,
                                          v1::CheckResourceResponse* response) override;
  grpc::ServerUnaryReactor* RemoveResource(grpc::CallbackServerContext* context,
                                           const v1::RemoveResourceRequest* request,
                                           v1::RemoveResourceResponse* response) override;

 private:
  // Is it the server that it was, and ours? Fills in what it says of itself.
  absl::Status Claim(const v1::RegisterResourceRequest& request, v1::Resource* resource);
  absl::Status Register(const v1::RegisterResourceRequest& request, v1::RegisterResourceResponse* response);

  ResourceRegistry* const registry_;
  Engine* const engine_;
  Recovery* const recovery_;
  Executor* const executor_;
};

}  // namespace assent

#endif  // ASSENT_COORDINATOR_RESOURCE_SERVICE_H_
