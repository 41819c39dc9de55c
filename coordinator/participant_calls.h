// ParticipantCalls: what participants call, whichever way the call came: as a unary RPC or on a stream. Each call
// validates (requests.h), submits its events and answers.
#ifndef ASSENT_COORDINATOR_PARTICIPANT_CALLS_H_
#define ASSENT_COORDINATOR_PARTICIPANT_CALLS_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "assent/v1/coordinator_service.pb.h"
#include "base/clock.h"
#include "base/executor.h"
#include "coordinator/engine.h"
#include "coordinator/recovery.h"
#include "coordinator/requests.h"
#include "coordinator/resource_registry.h"

namespace assent {

// Thread-safe. Everything passed in must outlive it. A waiting call holds no thread.
//
// Request and response must live until `done` has been told how the call ended, which happens exactly once, on any
// thread, perhaps before the call returns. What is returned can be given to Cancel when the caller has gone; null: the
// call does not wait.
class ParticipantCalls {
 public:
  struct Caller {
    std::string peer;         // Who it is, for the record.
    absl::Duration patience;  // How long it waits, as it says.
  };
  using Done = std::function<void(const absl::Status&)>;

  // `executor`: for what reads the store.
  ParticipantCalls(Engine* engine, const Store* store, ResourceRegistry* registry, Recovery* recovery,
                   Executor* executor, Clock* clock, RequestLimits limits);

  Engine::CallPtr Run(const Caller& caller, const v1::CreateGlobalRequest& request, v1::CreateGlobalResponse* response,
                      Done done);
  Engine::CallPtr Run(const Caller& caller, const v1::CreateBranchesRequest& request,
                      v1::CreateBranchesResponse* response, Done done);
  Engine::CallPtr Run(const Caller& caller, const v1::PreparedRequest& request, v1::PreparedResponse* response,
                      Done done);
  Engine::CallPtr Run(const Caller& caller, const v1::FinalizeRequest& request, v1::FinalizeResponse* response,
                      Done done);
  Engine::CallPtr Run(const Caller& caller, const v1::CompletedRequest& request, v1::CompletedResponse* response,
                      Done done);
  Engine::CallPtr Run(const Caller& caller, const v1::ReserveGtridsRequest& request,
                      v1::ReserveGtridsResponse* response, Done done);

  // See Engine::Cancel.
  void Cancel(const Engine::CallPtr& call) { engine_->Cancel(call); }

 private:
  // Submits the request, and is done when `fill(record)` has run or with the error.
  template <typename Fill>
  Engine::CallPtr Carry(const Caller& caller, absl::StatusOr<Request> request, Fill fill, Done done);
  // The same for what names resources: one that is not known here may have been registered at another instance just
  // now.
  template <typename Convert, typename Fill>
  Engine::CallPtr CarryWithResources(const Caller& caller, Convert convert, Fill fill, Done done);
  // `fn` on the executor, once what others registered is known here.
  void WithFreshResources(std::function<void(const absl::Status&)> fn);

  Engine* const engine_;
  const Store* const store_;
  ResourceRegistry* const registry_;
  Recovery* const recovery_;
  Executor* const executor_;
  Clock* const clock_;
  const RequestLimits limits_;
  Births births_;
};

}  // namespace assent

#endif  // ASSENT_COORDINATOR_PARTICIPANT_CALLS_H_
