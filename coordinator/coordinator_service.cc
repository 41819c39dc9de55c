#include "coordinator/coordinator_service.h"

#include <atomic>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/grpc_status.h"
#include "base/xid.h"
#include "coordinator/unary_call.h"

namespace assent {

CoordinatorServiceImpl::CoordinatorServiceImpl(Engine* engine, Store* store, ResourceRegistry* registry,
                                               Executor* executor, Clock* clock, RequestLimits limits)
    : engine_(engine),
      store_(store),
      registry_(registry),
      executor_(executor),
      clock_(clock),
      limits_(std::move(limits)) {}

template <typename Fill>
grpc::ServerUnaryReactor* CoordinatorServiceImpl::Carry(grpc::CallbackServerContext* context,
                                                        absl::StatusOr<Request> request, Fill fill) {
  auto* call = new UnaryCall;
  if (!request.ok()) {
    call->Done(request.status());
    return call;
  }
  const absl::Time give_up = GiveUpTime(*context, request->event.now);
  Engine::CallPtr handle = engine_->Submit(std::move(request->event), request->wait, give_up,
                                           [call, fill = std::move(fill), pinned = std::move(request->pinned)](
                                               const absl::Status& status, const GlobalPtr& record) {
                                             if (status.ok()) fill(*record);
                                             call->Done(status);
                                           });
  call->OnGone([this, handle] { engine_->Cancel(handle); });
  return call;
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::CreateGlobal(grpc::CallbackServerContext* context,
                                                               const v1::CreateGlobalRequest* request,
                                                               v1::CreateGlobalResponse* response) {
  return Carry(context, ToRequest(*request, limits_, registry_, clock_->Now(), context->peer()),
               [response](const v1::Global& global) { *response->mutable_global() = global; });
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::CreateBranches(grpc::CallbackServerContext* context,
                                                                 const v1::CreateBranchesRequest* request,
                                                                 v1::CreateBranchesResponse* response) {
  absl::StatusOr<Request> converted = ToRequest(*request, registry_, clock_->Now(), context->peer());
  Event event = converted.ok() ? converted->event : Event();
  return Carry(context, std::move(converted), [response, event = std::move(event)](const v1::Global& global) {
    for (v1::Branch& branch : BranchesOf(global, event)) *response->add_branches() = std::move(branch);
  });
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::Prepared(grpc::CallbackServerContext* context,
                                                           const v1::PreparedRequest* request,
                                                           v1::PreparedResponse* response) {
  return Carry(context, ToRequest(*request, clock_->Now(), context->peer()),
               [response](const v1::Global& global) { *response->mutable_status() = StatusOf(global); });
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::Finalize(grpc::CallbackServerContext* context,
                                                           const v1::FinalizeRequest* request,
                                                           v1::FinalizeResponse* response) {
  return Carry(context, ToRequest(*request, clock_->Now(), context->peer()),
               [response](const v1::Global& global) { *response->mutable_status() = StatusOf(global); });
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::Completed(grpc::CallbackServerContext* context,
                                                            const v1::CompletedRequest* request,
                                                            v1::CompletedResponse* response) {
  auto* call = new UnaryCall;
  const int count = request->completions_size();
  if (count == 0 || count > kMaxItemsPerCall) {
    call->Done(MakeError(count == 0 ? Reason::INVALID_FIELD : Reason::TOO_MANY_ITEMS,
                         absl::StrCat("completions must hold 1 to ", kMaxItemsPerCall, " items, not ", count),
                         {{"field", "completions"}, {"limit", absl::StrCat(kMaxItemsPerCall)}}));
    return call;
  }
  // All results exist before the first is filled in: from then on each answer touches its own only.
  for (int i = 0; i < count; ++i) response->add_results();
  auto left = std::make_shared<std::atomic<int>>(count);
  for (int i = 0; i < count; ++i) {
    auto answer = [call, left, result = response->mutable_results(i)](const absl::Status& status,
                                                                      const GlobalPtr& record) {
      if (status.ok()) {
        *result->mutable_status() = StatusOf(*record);
      } else {
        *result->mutable_error() = ToRpcStatus(status);
      }
      if (left->fetch_sub(1) == 1) call->Done(absl::OkStatus());
    };
    absl::StatusOr<Request> converted = ToRequest(request->completions(i), clock_->Now(), context->peer());
    if (converted.ok()) {
      engine_->Submit(std::move(converted->event), v1::WAIT_NONE, absl::InfiniteFuture(), std::move(answer));
    } else {
      answer(converted.status(), nullptr);
    }
  }
  return call;
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::GetGlobal(grpc::CallbackServerContext*,
                                                            const v1::GetGlobalRequest* request,
                                                            v1::GetGlobalResponse* response) {
  auto* call = new UnaryCall;
  if (absl::Status status = ValidateGtrid(request->gtrid()); !status.ok()) {
    call->Done(status);
    return call;
  }
  engine_->Read(request->gtrid(), [call, request, response](const absl::Status& status, const GlobalPtr& record) {
    if (status.ok() && record == nullptr) {
      Event unknown;
      unknown.kind = EventKind::kVote;
      unknown.gtrid = request->gtrid();
      call->Done(Apply(nullptr, unknown).answer);  // The protocol's own words for "no record".
      return;
    }
    if (status.ok()) {
      *response->mutable_global() = *record;
      response->set_outcome(OutcomeOf(*record));
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

}  // namespace assent
