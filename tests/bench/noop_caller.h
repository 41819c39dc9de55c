// NoopCaller: commits two-branch transactions as the SDK's sole participant does, with branches that nobody runs at any
// database, so that the coordinator, its store and the way to it are all there is to measure.
#ifndef ASSENT_TESTS_BENCH_NOOP_CALLER_H_
#define ASSENT_TESTS_BENCH_NOOP_CALLER_H_

#include <array>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "assent/v1/coordinator_service.pb.h"
#include "participant_sdk/cpp/client.h"

namespace assent {

// Thread-compatible; callers may share a ClientState, as the workers of a process do, which must outlive them.
class NoopCaller {
 public:
  static constexpr int kReported = 16;  // Transactions in one Completed, as an SDK under load reports them.
  // The resource of the branches; see CoordinatorApi::RegisterNowhere.
  static constexpr char kNowhere[] = "nowhere";
  // The bytes of the calls: request, response.
  struct Sizes {
    std::array<size_t, 2> finalize{}, completed{};
  };

  explicit NoopCaller(ClientState* client) : client_(client) {}

  // Finalize(COMMIT) with both branches and both votes, which returns when that is decided; how both branches ended is
  // reported along with others, later. How long Finalize took. Dies of an error.
  absl::Duration Transact();
  // Of a Finalize, and of a Completed of kReported transactions.
  static Sizes Measure(ClientState* client);

 private:
  static v1::FinalizeRequest Commit(const std::string& gtrid);
  static std::vector<v1::Completion> Committed(const std::string& gtrid);

  ClientState* const client_;
};

}  // namespace assent

#endif  // ASSENT_TESTS_BENCH_NOOP_CALLER_H_
