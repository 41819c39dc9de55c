// CoordinatorServiceImpl: the gRPC front of the engine. Each RPC validates (requests.h), submits one event and answers.
#ifndef ASSENT_COORDINATOR_COORDINATOR_SERVICE_H_
#define ASSENT_COORDINATOR_COORDINATOR_SERVICE_H_

#include "assent/v1/coordinator_service.grpc.pb.h"
#include "base/clock.h"
#include "base/executor.h"
#include "coordinator/engine.h"
#include "coordinator/requests.h"
#include "coordinator/resource_registry.h"
#include "store/store.h"

namespace assent {

// Thread-safe. Everything passed in must outlive it. A waiting call holds no thread.
class CoordinatorServiceImpl final : public v1::CoordinatorService::CallbackService {
 public:
  CoordinatorServiceImpl(Engine* engine, Store* store, ResourceRegistry* registry, Executor* executor, Clock* clock,
                         RequestLimits limits);

  grpc::ServerUnaryReactor* CreateGlobal(grpc::CallbackServerContext* context, const v1::CreateGlobalRequest* request,
                                         v1::CreateGlobalResponse* response) override;
  grpc::ServerUnaryReactor* CreateBranches(grpc::CallbackServerContext* context,
                                           const v1::CreateBranchesRequest* request,
                                           v1::CreateBranchesResponse* response) override;
  grpc::ServerUnaryReactor* Prepared(grpc::CallbackServerContext* context, const v1::PreparedRequest* request,
                                     v1::PreparedResponse* response) override;
  grpc::ServerUnaryReactor* Finalize(grpc::CallbackServerContext* context, const v1::FinalizeRequest* request,
                                     v1::FinalizeResponse* response) override;
  grpc::ServerUnaryReactor* Completed(grpc::CallbackServerContext* context, const v1::CompletedRequest* request,
                                      v1::CompletedResponse* response) override;
  grpc::ServerUnaryReactor* GetGlobal(grpc::CallbackServerContext* context, const v1::GetGlobalRequest* request,
                                      v1::GetGlobalResponse* response) override;
  grpc::ServerUnaryReactor* ListGlobals(grpc::CallbackServerContext* context, const v1::ListGlobalsRequest* request,
                                        v1::ListGlobalsResponse* response) override;

 private:
  // Submits the request and finishes the call with `fill(record, event)` or the error.
  template <typename Fill>
  grpc::ServerUnaryReactor* Carry(grpc::CallbackServerContext* context, absl::StatusOr<Request> request, Fill fill);

  Engine* const engine_;
  Store* const store_;
  ResourceRegistry* const registry_;
  Executor* const executor_;
  Clock* const clock_;
  const RequestLimits limits_;
};

}  // namespace assent

#endif  // ASSENT_COORDINATOR_COORDINATOR_SERVICE_H_
