// UnaryCall: a unary RPC on its way, in gRPC's callback API.
#ifndef ASSENT_COORDINATOR_UNARY_CALL_H_
#define ASSENT_COORDINATOR_UNARY_CALL_H_

#include <grpcpp/grpcpp.h>

#include <algorithm>
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

// Deletes itself when gRPC is done with it. Finish once; gRPC keeps the object until the handler has returned, so what
// is set up in the handler is in place before OnCancel can run.
class UnaryCall : public grpc::ServerUnaryReactor {
 public:
  UnaryCall() { ++in_flight_; }
  ~UnaryCall() override { --in_flight_; }

  // The calls of this process whose answer is not sent yet.
  static int InFlight() { return in_flight_; }

  void Done(const absl::Status& status) { Finish(ToGrpcStatus(status)); }
  // What to do when the caller goes away before the answer. The call must still be finished.
  void OnGone(std::function<void()> fn) { on_gone_ = std::move(fn); }

 private:
  void OnDone() override { delete this; }
  void OnCancel() override {
    if (on_gone_) on_gone_();
  }

  static inline std::atomic<int> in_flight_{0};
  std::function<void()> on_gone_;
};

// When a waiting call has to answer: a little before the caller's deadline, and never later than the server's own
// limit.
inline absl::Time GiveUpTime(const grpc::CallbackServerContext& context, absl::Time now) {
  constexpr absl::Duration kMaxWait = absl::Seconds(60);
  constexpr absl::Duration kMargin = absl::Milliseconds(50);
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return now + kMaxWait;
  const absl::Duration left = absl::FromChrono(deadline) - absl::Now();
  return now + std::min(kMaxWait, std::max(left - kMargin, left / 2));
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
