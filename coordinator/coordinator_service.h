// CoordinatorServiceImpl: the gRPC front of the engine and of recovery: unary calls and the stream of participants
// (participant_calls.h), and the calls of operators, which ask recovery.
#ifndef ASSENT_COORDINATOR_COORDINATOR_SERVICE_H_
#define ASSENT_COORDINATOR_COORDINATOR_SERVICE_H_

#include "assent/v1/coordinator_service.grpc.pb.h"
#include "base/clock.h"
#include "base/executor.h"
#include "coordinator/engine.h"
#include "coordinator/participant_calls.h"
#include "coordinator/recovery.h"
#include "coordinator/requests.h"
#include "coordinator/resource_registry.h"
#include "coordinator/unary_call.h"
#include "store/store.h"

namespace assent {

// Thread-safe. Everything passed in must outlive it. A waiting call holds no thread.
class CoordinatorServiceImpl final : public v1::CoordinatorService::CallbackService {
 public:
  // `executor`: for what reads the store. `resource_executor`: for what may wait for a database.
  CoordinatorServiceImpl(Engine* engine, Store* store, ResourceRegistry* registry, Recovery* recovery,
                         Executor* executor, Executor* resource_executor, Clock* clock, RequestLimits limits);

  grpc::ServerUnaryReactor* CreateGlobal(grpc::CallbackServerContext* context, const v1::CreateGlobalRequest* request,
                                         v1::CreateGlobalResponse* response) override;
  grpc::ServerUnaryReactor* CreateBranches(grpc::CallbackServerContext* context,
                                           const v1::CreateBranchesRequest* request,
                                           v1::CreateBranchesResponse* response) override;
  grpc::ServerUnaryReactor* Prepared(grpc::CallbackServerContext* context, const v1::PreparedRequest* request,
                                     v1::PreparedResponse* response) override;
  grpc::ServerUnaryReactor* Finalize(grpc::CallbackServerContext* context, const v1::FinalizeRequest* request,
                                     v1::FinalizeResponse* response) override;
  grpc::ServerUnaryReactor* ReserveGtrids(grpc::CallbackServerContext* context, const v1::ReserveGtridsRequest* request,
                                          v1::ReserveGtridsResponse* response) override;
  grpc::ServerUnaryReactor* Completed(grpc::CallbackServerContext* context, const v1::CompletedRequest* request,
                                      v1::CompletedResponse* response) override;
  grpc::ServerBidiReactor<v1::ConverseRequest, v1::ConverseResponse>* Converse(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* GetGlobal(grpc::CallbackServerContext* context, const v1::GetGlobalRequest* request,
                                      v1::GetGlobalResponse* response) override;
  grpc::ServerUnaryReactor* ListGlobals(grpc::CallbackServerContext* context, const v1::ListGlobalsRequest* request,
                                        v1::ListGlobalsResponse* response) override;
  grpc::ServerUnaryReactor* Recover(grpc::CallbackServerContext* context, const v1::RecoverRequest* request,
                                    v1::RecoverResponse* response) override;
  grpc::ServerUnaryReactor* ListInDoubt(grpc::CallbackServerContext* context, const v1::ListInDoubtRequest* request,
                                        v1::ListInDoubtResponse* response) override;
  grpc::ServerUnaryReactor* RetryNow(grpc::CallbackServerContext* context, const v1::RetryNowRequest* request,
                                     v1::RetryNowResponse* response) override;
  grpc::ServerUnaryReactor* ResolveBranch(grpc::CallbackServerContext* context, const v1::ResolveBranchRequest* request,
                                          v1::ResolveBranchResponse* response) override;
  grpc::ServerUnaryReactor* ListInstances(grpc::CallbackServerContext* context, const v1::ListInstancesRequest* request,
                                          v1::ListInstancesResponse* response) override;

 private:
  // A participant's call.
  template <typename Request, typename Response>
  grpc::ServerUnaryReactor* Unary(grpc::CallbackServerContext* context, const Request* request, Response* response);
  // The record; GLOBAL_NOT_FOUND. Blocks.
  absl::StatusOr<GlobalPtr> Lookup(const std::string& gtrid);
  absl::Status Resolve(Request resolve, bool validate_only, v1::ResolveBranchResponse* response);

  Engine* const engine_;
  Store* const store_;
  Recovery* const recovery_;
  Executor* const executor_;
  Executor* const resource_executor_;
  Clock* const clock_;
  const RequestLimits limits_;
  ParticipantCalls calls_;
};

}  // namespace assent

#endif  // ASSENT_COORDINATOR_COORDINATOR_SERVICE_H_
