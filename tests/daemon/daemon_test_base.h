// What the tests of the real assentd share: a running coordinator, short ways to call it, and a normal transaction.
#ifndef ASSENT_TESTS_DAEMON_DAEMON_TEST_BASE_H_
#define ASSENT_TESTS_DAEMON_DAEMON_TEST_BASE_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "assent/v1/coordinator_service.grpc.pb.h"
#include "assent/v1/resource_service.grpc.pb.h"
#include "base/errors.h"
#include "base/grpc_status.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "gtest/gtest.h"
#include "tests/fixtures/assentd.h"

namespace assent {

// Sanitizers multiply memory: what a test says about that holds for real builds only.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

// Stubs of one channel to one coordinator. Thread-safe.
class Stubs {
 public:
  explicit Stubs(const std::string& address);

  // One call; a transport that is not there (yet) is an error at once unless `wait_for_ready`.
  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(Stub* stub,
                                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                                const Request& request, absl::Duration timeout = absl::Seconds(30)) {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoNanoseconds(timeout));
    Response response;
    const absl::Status status = FromGrpcStatus((stub->*method)(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }

  absl::StatusOr<v1::CreateGlobalResponse> Create(const v1::CreateGlobalRequest& request);
  absl::StatusOr<v1::CreateBranchesResponse> AddBranches(const v1::CreateBranchesRequest& request);
  absl::StatusOr<v1::PreparedResponse> Prepared(const v1::PreparedRequest& request,
                                                absl::Duration timeout = absl::Seconds(30));
  absl::StatusOr<v1::FinalizeResponse> Finalize(const v1::FinalizeRequest& request);
  absl::StatusOr<v1::CompletedResponse> Completed(const v1::CompletedRequest& request);
  absl::StatusOr<v1::GetGlobalResponse> Get(const std::string& gtrid);
  absl::StatusOr<v1::ListGlobalsResponse> List(const v1::ListGlobalsRequest& request);
  absl::StatusOr<v1::RegisterResourceResponse> Register(const v1::RegisterResourceRequest& request);

  v1::CoordinatorService::StubInterface* coordinator() { return coordinator_.get(); }
  v1::ResourceService::StubInterface* resources() { return resources_.get(); }
  grpc::health::v1::Health::StubInterface* health() { return health_.get(); }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

 private:
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::CoordinatorService::StubInterface> coordinator_;
  const std::unique_ptr<v1::ResourceService::StubInterface> resources_;
  const std::unique_ptr<grpc::health::v1::Health::StubInterface> health_;
};

// Requests in one line.
v1::CreateGlobalRequest CreateOf(const std::string& gtrid, const std::vector<std::string>& bquals,
                                 absl::Duration timeout = absl::Minutes(5));
v1::PreparedRequest VotesOf(const std::string& gtrid, const std::vector<std::string>& bquals,
                            v1::VoteKind kind = v1::VOTE_KIND_PREPARED, v1::Wait wait = v1::WAIT_NONE);
v1::FinalizeRequest FinalizeOf(const std::string& gtrid, v1::Decision decision, v1::Wait wait = v1::WAIT_DECIDED);
v1::CompletedRequest CompletionsOf(const std::string& gtrid, const std::vector<std::string>& bquals,
                                   v1::Completion::Result result = v1::Completion::RESULT_COMMITTED);

// A coordinator with a resource "db" that is not there: its branches exist only in the protocol.
class DaemonTest : public testing::Test {
 protected:
  // Starts it and registers "db".
  void StartDaemon(Assentd::Options options = {});
  // New channels to the same coordinator, after a restart or a change of its port.
  void Connect();

  // A whole transaction with two branches: created, voted, decided, completed, read. Fails the test if anything is not
  // as it should be.
  void ExpectNormalTransaction();
  // The reason of the refusal; fails the test if there is none, or the words are missing.
  static std::string ReasonName(const absl::Status& status);

  std::unique_ptr<Assentd> daemon_;
  std::unique_ptr<Stubs> stubs_;
};

}  // namespace assent

#endif  // ASSENT_TESTS_DAEMON_DAEMON_TEST_BASE_H_
