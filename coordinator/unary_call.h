// UnaryCall: a unary RPC on its way, in gRPC's callback API.
#ifndef ASSENT_COORDINATOR_UNARY_CALL_H_
#define ASSENT_COORDINATOR_UNARY_CALL_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/errors.h"
#include "base/executor.h"
#include "base/grpc_status.h"

namespace assent {

// The calls of this process, unary or on a stream, whose answer is not sent yet.
class CallsInFlight {
 public:
  static void Add(int calls) { count_ += calls; }
  static int Count() { return count_; }

 private:
  static inline std::atomic<int> count_{0};
};

// Deletes itself when gRPC is done with it. Finish once; gRPC keeps the object until the handler has returned, so what
// is set up in the handler is in place before OnCancel can run.
class UnaryCall : public grpc::ServerUnaryReactor {
 public:
  UnaryCall() { CallsInFlight::Add(1); }
  ~UnaryCall() override { CallsInFlight::Add(-1); }

  void Done(const absl::Status& status) { Finish(ToGrpcStatus(status)); }
  // What to do when the caller goes away before the answer. The call must still be finished.
  void OnGone(std::function<void()> fn) { on_gone_ = std::move(fn); }

 private:
  void OnDone() override { delete this; }
  void OnCancel() override {
    if (on_gone_) on_gone_();
  }

  std::function<void()> on_gone_;
};

// How long the caller waits for its answer.
inline absl::Duration Patience(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteDuration();
  return absl::FromChrono(deadline) - absl::Now();
}

// Runs what blocks on the executor: `fn() -> absl::Status` fills the response.
template <typename Fn>
grpc::ServerUnaryReactor* RunBlocking(Executor* executor, Fn fn) {
  auto* call = new UnaryCall;
  const bool accepted = executor->Run([call, fn = std::move(fn)] { call->Done(fn()); });
  if (!accepted) call->Done(MakeError(Reason::OVERLOADED, "too many calls are waiting; repeat the call after a pause"));
  return call;
}

}  // namespace assent

#endif  // ASSENT_COORDINATOR_UNARY_CALL_H_
