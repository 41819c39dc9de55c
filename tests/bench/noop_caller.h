// NoopCaller: asks for two-branch transactions as an SDK does, with branches that nobody runs at any database, so that
// the coordinator and its store are all there is to measure.
#ifndef ASSENT_TESTS_BENCH_NOOP_CALLER_H_
#define ASSENT_TESTS_BENCH_NOOP_CALLER_H_

#include <grpcpp/grpcpp.h>

#include <array>
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "assent/v1/coordinator_service.grpc.pb.h"
#include "glog/logging.h"

namespace assent {

// Waits for the server to be there; dies of an error.
template <typename Call>
void MustCall(const Call& call) {
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  const grpc::Status status = call(&context);
  CHECK(status.ok()) << status.error_message();
}

// Thread-compatible.
class NoopCaller {
 public:
  static constexpr int kReported = 16;  // Transactions in one Completed, as an SDK under load reports them.
  // The resource of the branches; see CoordinatorApi::RegisterNowhere.
  static constexpr char kNowhere[] = "nowhere";
  // The bytes of the calls of one transaction: request, response.
  struct Sizes {
    std::array<size_t, 2> create{}, finalize{}, completed{};
  };

  explicit NoopCaller(const std::string& address);
  // Reports what is left.
  ~NoopCaller();

  static v1::CreateGlobalRequest TwoBranches();
  // CreateGlobal with both branches; Finalize(COMMIT) with both votes, which returns when that is decided; and now and
  // then Completed. How long Finalize took.
  absl::Duration Transact();
  // Of the latest calls.
  const Sizes& sizes() const { return sizes_; }

 private:
  void Report();

  std::unique_ptr<v1::CoordinatorService::Stub> stub_;
  v1::CompletedRequest completed_;
  int unreported_ = 0;
  Sizes sizes_;
};

}  // namespace assent

#endif  // ASSENT_TESTS_BENCH_NOOP_CALLER_H_
