#include "coordinator/coordinator_service.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/errors.h"
#include "base/grpc_status.h"
#include "base/timestamp.h"
#include "base/xid.h"
#include "coordinator/participant_stream.h"
#include "coordinator/presence.h"
#include "coordinator/unary_call.h"

namespace assent {

namespace {

// The protocol's own words for "there is no record".
absl::Status NoRecord(const std::string& gtrid) {
  Event unknown;
  unknown.kind = EventKind::kVote;
  unknown.gtrid = gtrid;
  return Apply(nullptr, unknown).answer;
}

}  // namespace

CoordinatorServiceImpl::CoordinatorServiceImpl(Engine* engine, Store* store, ResourceRegistry* registry,
                                               Recovery* recovery, Executor* executor, Executor* resource_executor,
                                               Clock* clock, RequestLimits limits)
    : engine_(engine),
      store_(store),
      recovery_(recovery),
      executor_(executor),
      resource_executor_(resource_executor),
      clock_(clock),
      limits_(std::move(limits)),
      calls_(engine, store, registry, recovery, executor, clock, limits_) {}

template <typename Request, typename Response>
grpc::ServerUnaryReactor* CoordinatorServiceImpl::Unary(grpc::CallbackServerContext* context, const Request* request,
                                                        Response* response) {
  auto* call = new UnaryCall;
  Engine::CallPtr handle = calls_.Run({context->peer(), Patience(*context)}, *request, response,
                                      [call](const absl::Status& status) { call->Done(status); });
  if (handle != nullptr) call->OnGone([this, handle] { calls_.Cancel(handle); });
  return call;
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::CreateGlobal(grpc::CallbackServerContext* context,
                                                               const v1::CreateGlobalRequest* request,
                                                               v1::CreateGlobalResponse* response) {
  return Unary(context, request, response);
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::CreateBranches(grpc::CallbackServerContext* context,
                                                                 const v1::CreateBranchesRequest* request,
                                                                 v1::CreateBranchesResponse* response) {
  return Unary(context, request, response);
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::Prepared(grpc::CallbackServerContext* context,
                                                           const v1::PreparedRequest* request,
                                                           v1::PreparedResponse* response) {
  return Unary(context, request, response);
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::Finalize(grpc::CallbackServerContext* context,
                                                           const v1::FinalizeRequest* request,
                                                           v1::FinalizeResponse* response) {
  return Unary(context, request, response);
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::ReserveGtrids(grpc::CallbackServerContext* context,
                                                                const v1::ReserveGtridsRequest* request,
                                                                v1::ReserveGtridsResponse* response) {
  return Unary(context, request, response);
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::Completed(grpc::CallbackServerContext* context,
                                                            const v1::CompletedRequest* request,
                                                            v1::CompletedResponse* response) {
  return Unary(context, request, response);
}

grpc::ServerBidiReactor<v1::ConverseRequest, v1::ConverseResponse>* CoordinatorServiceImpl::Converse(
    grpc::CallbackServerContext* context) {
  return new ParticipantStream(&calls_, context->peer());
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::GetGlobal(grpc::CallbackServerContext*,
                                                            const v1::GetGlobalRequest* request,
                                                            v1::GetGlobalResponse* response) {
  auto* call = new UnaryCall;
  if (absl::Status status = ValidateOwnGtrid(request->gtrid(), limits_.cluster); !status.ok()) {
    call->Done(status);
    return call;
  }
  engine_->Read(request->gtrid(), [call, request, response](const absl::Status& status, const GlobalPtr& record) {
    if (status.ok() && record == nullptr) {
      call->Done(NoRecord(request->gtrid()));
      return;
    }
    if (status.ok()) {
      *response->mutable_global() = *record;
      response->set_outcome(OutcomeOf(*record));
      response->set_etag(EtagOf(*record));
    }
    call->Done(status);
  });
  return call;
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::ListGlobals(grpc::CallbackServerContext*,
                                                              const v1::ListGlobalsRequest* request,
                                                              v1::ListGlobalsResponse* response) {
  return RunBlocking(executor_, [this, request, response]() -> absl::Status {
    absl::StatusOr<int> page_size = PageSize(request->page_size());
    if (!page_size.ok()) return page_size.status();
    ListQuery query;
    query.page_size = *page_size;
    query.page_token = request->page_token();
    for (const int state : request->states()) {
      if (state == v1::Global::STATE_UNSPECIFIED || !v1::Global::State_IsValid(state)) {
        return MakeError(Reason::INVALID_FIELD, "states holds an unknown value", {{"field", "states"}});
      }
      query.states.push_back(static_cast<v1::Global::State>(state));
    }
    absl::StatusOr<ListPage> page = store_->List(query);
    if (!page.ok()) return page.status();
    for (const GlobalPtr& global : page->globals) *response->add_globals() = *global;
    response->set_next_page_token(page->next_page_token);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::Recover(grpc::CallbackServerContext*,
                                                          const v1::RecoverRequest* request,
                                                          v1::RecoverResponse* response) {
  return RunBlocking(resource_executor_, [this, request, response] {
    absl::StatusOr<v1::RecoverResponse> answer = recovery_->Recover(*request);
    if (answer.ok()) *response = *std::move(answer);
    return answer.status();
  });
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::ListInDoubt(grpc::CallbackServerContext*,
                                                              const v1::ListInDoubtRequest* request,
                                                              v1::ListInDoubtResponse* response) {
  // The page for whoever is on call must come even if every database hangs.
  return RunBlocking(request->with_locks() ? resource_executor_ : executor_, [this, request, response] {
    absl::StatusOr<v1::ListInDoubtResponse> answer = recovery_->ListInDoubt(*request);
    if (answer.ok()) *response = *std::move(answer);
    return answer.status();
  });
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::RetryNow(grpc::CallbackServerContext*,
                                                           const v1::RetryNowRequest* request,
                                                           v1::RetryNowResponse* response) {
  // Not the executor that the engine's own reads need.
  return RunBlocking(resource_executor_, [this, request, response]() -> absl::Status {
    if (!request->gtrid().empty()) {
      if (absl::Status status = ValidateOwnGtrid(request->gtrid(), limits_.cluster); !status.ok()) return status;
      if (absl::Status status = Lookup(request->gtrid()).status(); !status.ok()) return status;
    }
    absl::StatusOr<v1::RetryNowResponse> answer = recovery_->RetryNow(*request);
    if (answer.ok()) *response = *std::move(answer);
    return answer.status();
  });
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::ResolveBranch(grpc::CallbackServerContext* context,
                                                                const v1::ResolveBranchRequest* request,
                                                                v1::ResolveBranchResponse* response) {
  absl::StatusOr<Request> resolve = ToRequest(*request, limits_, clock_->Now(), context->peer());
  return RunBlocking(resource_executor_, [this, request, response, resolve = std::move(resolve)]() -> absl::Status {
    if (!resolve.ok()) return resolve.status();
    return Resolve(*resolve, request->validate_only(), response);
  });
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::ListInstances(grpc::CallbackServerContext*,
                                                                const v1::ListInstancesRequest*,
                                                                v1::ListInstancesResponse* response) {
  return RunBlocking(executor_, [this, response]() -> absl::Status {
    const absl::StatusOr<std::vector<Instance>> instances = store_->Members().Instances();
    if (!instances.ok()) return instances.status();
    for (const Instance& instance : *instances) {
      v1::Instance* shown = response->add_instances();
      shown->set_id(instance.key.id);
      shown->set_epoch(instance.key.epoch);
      shown->set_address(instance.address);
      shown->set_version(instance.version);
      shown->set_load(instance.load);
      SetTime(instance.joined, shown->mutable_join_time());
      SetTime(instance.last_seen, shown->mutable_last_seen_time());
      shown->set_alive(instance.alive);
      for (const std::string& work : instance.leases) {
        absl::string_view resource = work;
        if (absl::ConsumePrefix(&resource, kRecoveryOf)) shown->add_resources(std::string(resource));
      }
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<GlobalPtr> CoordinatorServiceImpl::Lookup(const std::string& gtrid) {
  absl::StatusOr<GlobalPtr> record = engine_->ReadAndWait(gtrid);
  if (record.ok() && *record == nullptr) return NoRecord(gtrid);
  return record;
}

absl::Status CoordinatorServiceImpl::Resolve(Request resolve, bool validate_only, v1::ResolveBranchResponse* response) {
  const absl::StatusOr<GlobalPtr> before = Lookup(resolve.event.gtrid);
  if (!before.ok()) return before.status();
  resolve.event.evidence = recovery_->LookAt(*before, resolve.event.bqual);
  *response->mutable_evidence() = resolve.event.evidence;
  GlobalPtr after;
  if (validate_only) {
    Step step = Apply(before->get(), resolve.event);
    if (!step.answer.ok()) return step.answer;
    after = step.next != nullptr ? step.next : *before;
  } else {
    absl::StatusOr<GlobalPtr> done = engine_->SubmitAndWait(std::move(resolve.event));
    if (!done.ok()) return done.status();
    after = *std::move(done);
  }
  *response->mutable_global() = *after;
  response->set_etag(EtagOf(*after));
  return absl::OkStatus();
}

}  // namespace assent
