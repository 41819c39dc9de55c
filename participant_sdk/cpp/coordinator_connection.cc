#include "participant_sdk/cpp/coordinator_connection.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/grpc_status.h"

namespace assent {
namespace {

// One attempt of a call; a waiting call answers well before it (the server's limit for one wait is 60 s).
constexpr absl::Duration kAttempt = absl::Seconds(20);
// After the last attempt, to learn why nobody answers.
constexpr absl::Duration kLastLook = absl::Milliseconds(100);
constexpr absl::Duration kFirstPause = absl::Milliseconds(10);
constexpr absl::Duration kMaxPause = absl::Seconds(1);

// Full jitter: between half the pause and all of it, so that callers do not come back together.
absl::Duration Jitter(absl::Duration pause) {
  thread_local std::minstd_rand random{std::random_device{}()};
  return pause * std::uniform_real_distribution<double>(0.5, 1.0)(random);
}

bool MayRepeat(const absl::Status& status) {
  // An attempt that ran out of time, or that the transport cut off, says nothing about the call.
  return IsRetryable(status) || absl::IsDeadlineExceeded(status) || absl::IsCancelled(status);
}

bool IsWaitOver(v1::Wait wait, const v1::GlobalStatus& status) {
  switch (wait) {
    case v1::WAIT_NONE: return true;
    case v1::WAIT_APPLIED:
      return status.outcome() == v1::OUTCOME_COMMITTED || status.outcome() == v1::OUTCOME_ROLLED_BACK ||
             status.state() == v1::Global::STATE_HEURISTIC || status.state() == v1::Global::STATE_HEURISTIC_CLOSED;
    default: return status.decision() != v1::DECISION_UNSPECIFIED;
  }
}

}  // namespace

CoordinatorConnection::CoordinatorConnection(const std::string& address, const ClientOptions& options)
    : address_(address) {
  grpc::ChannelArguments arguments;
  // A restarting coordinator is away for a second: look for it often. MIN_RECONNECT_BACKOFF is how long an attempt may
  // take, and how long the next one waits at least: too little of it and a busy machine never gets a connection.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 250);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);  // The loop below is the one that repeats.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  stub_ = v1::CoordinatorService::NewStub(grpc::CreateCustomChannel(
      address, options.credentials ? options.credentials : grpc::InsecureChannelCredentials(), arguments));
}

template <typename Request, typename Response>
absl::StatusOr<Response> CoordinatorConnection::Call(Method<Request, Response> method, const Request& request,
                                                     absl::Time give_up) {
  absl::Duration pause = kFirstPause;
  bool last_look = false;
  for (;;) {
    grpc::ClientContext context;
    // Not only saves repetitions: gRPC brings a connection up while a call waits for it. Between calls that fail at
    // once nobody drives it but a timer of five seconds. But only a call that does not wait is told why there is none.
    context.set_wait_for_ready(!last_look);
    const absl::Time now = absl::Now();
    context.set_deadline(absl::ToChronoTime(last_look ? now + kLastLook : std::min(give_up, now + kAttempt)));
    Response response;
    ++attempts_;
    const absl::Status status = FromGrpcStatus((stub_.get()->*method)(&context, request, &response));
    if (status.ok()) return response;
    if (!MayRepeat(status)) return status;
    const absl::Duration wait = Jitter(pause);
    if (absl::Now() + wait >= give_up) {
      if (absl::IsDeadlineExceeded(status) && !last_look) {
        last_look = true;
        continue;
      }
      return MakeError(Reason::COORDINATOR_UNREACHABLE,
                       absl::StrCat("the coordinator at ", address_, " does not answer: ", status.message(),
                                    "; whether the call had its effect is not known"),
                       {{"address", address_}, {"last_error", std::string(status.message())}});
    }
    absl::SleepFor(wait);
    pause = std::min(pause * 2, kMaxPause);
  }
}

template <typename Request, typename Response>
absl::StatusOr<v1::GlobalStatus> CoordinatorConnection::CallAndWait(Method<Request, Response> method,
                                                                    const Request& request, absl::Time give_up) {
  for (;;) {
    absl::StatusOr<Response> response = Call(method, request, give_up);
    if (!response.ok()) return response.status();
    if (IsWaitOver(request.wait(), response->status()) || absl::Now() >= give_up) return response->status();
  }
}

absl::StatusOr<v1::Global> CoordinatorConnection::CreateGlobal(const v1::CreateGlobalRequest& request,
                                                               absl::Time give_up) {
  absl::StatusOr<v1::CreateGlobalResponse> response =
      Call(&v1::CoordinatorService::Stub::CreateGlobal, request, give_up);
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_global());
}

absl::StatusOr<v1::CreateBranchesResponse> CoordinatorConnection::CreateBranches(
    const v1::CreateBranchesRequest& request, absl::Time give_up) {
  return Call(&v1::CoordinatorService::Stub::CreateBranches, request, give_up);
}

absl::StatusOr<v1::GlobalStatus> CoordinatorConnection::Prepared(const v1::PreparedRequest& request,
                                                                 absl::Time give_up) {
  return CallAndWait(&v1::CoordinatorService::Stub::Prepared, request, give_up);
}

absl::StatusOr<v1::GlobalStatus> CoordinatorConnection::Finalize(const v1::FinalizeRequest& request,
                                                                 absl::Time give_up) {
  return CallAndWait(&v1::CoordinatorService::Stub::Finalize, request, give_up);
}

absl::StatusOr<v1::CompletedResponse> CoordinatorConnection::Completed(const v1::CompletedRequest& request,
                                                                       absl::Time give_up) {
  return Call(&v1::CoordinatorService::Stub::Completed, request, give_up);
}

}  // namespace assent
