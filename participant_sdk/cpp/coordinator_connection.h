// CoordinatorConnection: calls to the coordinator, repeated while it is away. Every call of the API is idempotent, so a
// repetition is always safe, at whichever instance of the coordinator: they share what they know.
//
// The calls to an instance share one stream (call_stream.h), unless it offers none.
//
// It stays with one instance as long as that answers, and goes on to the next when it does not, or says UNAVAILABLE.
#ifndef ASSENT_PARTICIPANT_SDK_CPP_COORDINATOR_CONNECTION_H_
#define ASSENT_PARTICIPANT_SDK_CPP_COORDINATOR_CONNECTION_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "assent/v1/coordinator_service.grpc.pb.h"
#include "participant_sdk/cpp/call_stream.h"
#include "participant_sdk/cpp/options.h"

namespace assent {

// OK unless one of the addresses cannot be one, or there is none: INVALID_FIELD, metadata `field` = `addresses`. An
// address is host:port (1..65535), [ipv6]:port, unix:PATH, or a target of gRPC's with a scheme of its own
// (dns:///host:port).
absl::Status CheckCoordinatorAddresses(absl::string_view addresses);

// Thread-safe. All calls block.
//
// Errors are the coordinator's own (base/errors.h), INVALID_FIELD for all calls if the addresses cannot be used, or
// COORDINATOR_UNREACHABLE once `give_up` has passed without an answer; then it is not known whether the call had its
// effect.
class CoordinatorConnection {
 public:
  // `addresses`: host:port of each instance, separated by commas. It begins with any of them, so that clients spread.
  // Connects lazily.
  CoordinatorConnection(const std::string& addresses, const ClientOptions& options);
  ~CoordinatorConnection();

  absl::StatusOr<v1::Global> CreateGlobal(const v1::CreateGlobalRequest& request, absl::Time give_up);
  absl::StatusOr<v1::CreateBranchesResponse> CreateBranches(const v1::CreateBranchesRequest& request,
                                                            absl::Time give_up);
  // Both go on until what request.wait() asks for has come, or `give_up`: then OK with the state that stands.
  absl::StatusOr<v1::GlobalStatus> Prepared(const v1::PreparedRequest& request, absl::Time give_up);
  absl::StatusOr<v1::GlobalStatus> Finalize(const v1::FinalizeRequest& request, absl::Time give_up);
  absl::StatusOr<v1::ReserveGtridsResponse> ReserveGtrids(const v1::ReserveGtridsRequest& request, absl::Time give_up);
  absl::StatusOr<v1::CompletedResponse> Completed(const v1::CompletedRequest& request, absl::Time give_up);

  // Attempts made so far, answered or not; for metrics and benchmarks.
  int64_t attempts() const { return attempts_; }
  // The instance that the next call goes to.
  const std::string& current_address() const;

 private:
  struct Instance;

  template <typename Request, typename Response>
  using Method = grpc::Status (v1::CoordinatorService::Stub::*)(grpc::ClientContext*, const Request&, Response*);
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(Method<Request, Response> method, const Request& request, absl::Time give_up);
  template <typename Request, typename Response>
  absl::StatusOr<v1::GlobalStatus> CallAndWait(Method<Request, Response> method, const Request& request,
                                               absl::Time give_up);

  // One attempt at one instance: on its stream, or, where there is none, as a unary call.
  template <typename Request, typename Response>
  absl::Status Attempt(Instance* instance, Method<Request, Response> method, const Request& request,
                       absl::Time deadline, bool wait_for_ready, Response* response);
  bool IsAlone() const { return instances_.size() == 1; }

  // From now on calls go to the next one, unless they have left this one already.
  void LeaveInstance(size_t instance);
  // Sleeps; meanwhile the connection to the instance comes up, if it can.
  void Pause(Instance* next, absl::Duration pause);
  std::string AllAddresses() const;

  const absl::Status usable_;
  std::vector<std::unique_ptr<Instance>> instances_;  // At least one.
  std::atomic<size_t> current_{0};
  std::atomic<int64_t> attempts_{0};
};

}  // namespace assent

#endif  // ASSENT_PARTICIPANT_SDK_CPP_COORDINATOR_CONNECTION_H_
