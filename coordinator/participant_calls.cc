#include "coordinator/participant_calls.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/grpc_status.h"

namespace assent {
namespace {

// When a waiting call has to answer: a little before its caller gives up, and never later than the server's own limit.
absl::Time GiveUpTime(absl::Duration patience, absl::Time now) {
  constexpr absl::Duration kMaxWait = absl::Seconds(60);
  constexpr absl::Duration kMargin = absl::Milliseconds(50);
  return now + std::min(kMaxWait, std::max(patience - kMargin, patience / 2));
}

}  // namespace

ParticipantCalls::ParticipantCalls(Engine* engine, const Store* store, ResourceRegistry* registry, Recovery* recovery,
                                   Executor* executor, Clock* clock, RequestLimits limits)
    : engine_(engine),
      store_(store),
      registry_(registry),
      recovery_(recovery),
      executor_(executor),
      clock_(clock),
      limits_(std::move(limits)) {}

template <typename Fill>
Engine::CallPtr ParticipantCalls::Carry(const Caller& caller, absl::StatusOr<Request> request, Fill fill, Done done) {
  if (!request.ok()) {
    done(request.status());
    return nullptr;
  }
  const absl::Time give_up = GiveUpTime(caller.patience, request->event.now);
  return engine_->Submit(std::move(request->event), request->wait, give_up,
                         [fill = std::move(fill), done = std::move(done), pinned = std::move(request->pinned)](
                             const absl::Status& status, const GlobalPtr& record) {
                           if (status.ok()) fill(*record);
                           done(status);
                         });
}

template <typename Convert, typename Fill>
Engine::CallPtr ParticipantCalls::CarryWithResources(const Caller& caller, Convert convert, Fill fill, Done done) {
  absl::StatusOr<Request> request = convert(caller);
  const absl::Status& missing = request.ok() ? request->event.problem : request.status();
  if (!store_->IsShared() || ReasonOf(missing) != Reason::RESOURCE_NOT_FOUND) {
    return Carry(caller, std::move(request), std::move(fill), std::move(done));
  }
  WithFreshResources([this, caller, convert, fill, done](const absl::Status& status) {
    Carry(caller, status.ok() ? convert(caller) : absl::StatusOr<Request>(status), fill, done);
  });
  return nullptr;
}

void ParticipantCalls::WithFreshResources(std::function<void(const absl::Status&)> fn) {
  if (!executor_->Run([this, fn] { fn(recovery_->TakeUpResources()); })) {
    fn(MakeError(Reason::OVERLOADED, "too many reads of the store are waiting; repeat the call"));
  }
}

Engine::CallPtr ParticipantCalls::Run(const Caller& caller, const v1::CreateGlobalRequest& request,
                                      v1::CreateGlobalResponse* response, Done done) {
  return CarryWithResources(
      caller,
      [this, &request](const Caller& from) { return ToRequest(request, limits_, registry_, clock_->Now(), from.peer); },
      [response](const v1::Global& global) { *response->mutable_global() = global; }, std::move(done));
}

Engine::CallPtr ParticipantCalls::Run(const Caller& caller, const v1::CreateBranchesRequest& request,
                                      v1::CreateBranchesResponse* response, Done done) {
  auto event = std::make_shared<Event>();
  return CarryWithResources(
      caller,
      [this, &request, event](const Caller& from) {
        absl::StatusOr<Request> converted = ToRequest(request, limits_, registry_, clock_->Now(), from.peer);
        if (converted.ok()) *event = converted->event;
        return converted;
      },
      [response, event](const v1::Global& global) {
        for (v1::Branch& branch : BranchesOf(global, *event)) *response->add_branches() = std::move(branch);
      },
      std::move(done));
}

Engine::CallPtr ParticipantCalls::Run(const Caller& caller, const v1::PreparedRequest& request,
                                      v1::PreparedResponse* response, Done done) {
  return Carry(
      caller, ToRequest(request, limits_, clock_->Now(), caller.peer),
      [response](const v1::Global& global) { *response->mutable_status() = StatusOf(global); }, std::move(done));
}

Engine::CallPtr ParticipantCalls::Run(const Caller& caller, const v1::FinalizeRequest& request,
                                      v1::FinalizeResponse* response, Done done) {
  return CarryWithResources(
      caller,
      [this, &request](const Caller& from) { return ToRequest(request, limits_, registry_, clock_->Now(), from.peer); },
      [response](const v1::Global& global) { *response->mutable_status() = StatusOf(global); }, std::move(done));
}

Engine::CallPtr ParticipantCalls::Run(const Caller&, const v1::ReserveGtridsRequest& request,
                                      v1::ReserveGtridsResponse* response, Done done) {
  const auto reserve = [this, &request, response] {
    absl::StatusOr<v1::ReserveGtridsResponse> reserved =
        Reserve(request, limits_, registry_, births_.Next(clock_->Now(), store_->Horizon()));
    if (reserved.ok()) *response = *std::move(reserved);
    return reserved.status();
  };
  const absl::Status status = reserve();
  if (store_->IsShared() && ReasonOf(status) == Reason::RESOURCE_NOT_FOUND) {
    WithFreshResources([reserve, done](const absl::Status& fresh) { done(fresh.ok() ? reserve() : fresh); });
  } else {
    done(status);
  }
  return nullptr;
}

Engine::CallPtr ParticipantCalls::Run(const Caller& caller, const v1::CompletedRequest& request,
                                      v1::CompletedResponse* response, Done done) {
  const int count = request.completions_size();
  if (count == 0 || count > kMaxItemsPerCall) {
    done(MakeError(count == 0 ? Reason::INVALID_FIELD : Reason::TOO_MANY_ITEMS,
                   absl::StrCat("completions must hold 1 to ", kMaxItemsPerCall, " items, not ", count),
                   {{"field", "completions"}, {"limit", absl::StrCat(kMaxItemsPerCall)}}));
    return nullptr;
  }
  // All results exist before the first is filled in: from then on each answer touches its own only.
  for (int i = 0; i < count; ++i) response->add_results();
  struct Rest {
    std::atomic<int> left;
    Done done;
  };
  auto rest = std::make_shared<Rest>();
  rest->left = count;
  rest->done = std::move(done);
  std::vector<Engine::Submission> submissions;
  for (int i = 0; i < count; ++i) {
    absl::StatusOr<Request> converted =
        ToRequest(request.completions(i), limits_, registry_, clock_->Now(), caller.peer);
    auto answer = [rest, result = response->mutable_results(i),
                   pinned = converted.ok() ? std::move(converted->pinned) : std::vector<ResourcePtr>()](
                      const absl::Status& status, const GlobalPtr& record) {
      if (status.ok()) {
        *result->mutable_status() = StatusOf(*record);
      } else {
        *result->mutable_error() = ToRpcStatus(status);
      }
      if (rest->left.fetch_sub(1) == 1) rest->done(absl::OkStatus());
    };
    if (converted.ok()) {
      submissions.push_back({std::move(converted->event), std::move(answer)});
    } else {
      answer(converted.status(), nullptr);
    }
  }
  engine_->SubmitAll(std::move(submissions));
  return nullptr;
}

}  // namespace assent
