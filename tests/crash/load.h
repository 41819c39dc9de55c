// Load: many clients that run transactions without databases against a coordinator that keeps being killed.
#ifndef ASSENT_TESTS_CRASH_LOAD_H_
#define ASSENT_TESTS_CRASH_LOAD_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "assent/v1/coordinator_service.grpc.pb.h"
#include "base/mutex.h"
#include "tests/crash/book.h"

namespace assent {

// The resource that the load's branches are on.
constexpr char kCrashResource[] = "nowhere";

// Clients repeat every call until it is answered, as participants do, and book what they send and are told.
// Thread-safe.
class Load {
 public:
  // `book` must outlive it. `address`: of the coordinator.
  Load(Book* book, std::string address, int clients, uint64_t seed);
  ~Load();

  // The coordinator has been started again: new connections, without waiting for back-off.
  void Reconnect();
  // No new transactions; ends the calls that are running.
  void Stop();

  // How often which transport error was seen, by code.
  std::map<std::string, int64_t> TransportErrors();

 private:
  using Stub = v1::CoordinatorService::Stub;
  using Random = std::mt19937_64;
  // One transaction as it was drawn.
  struct Plan;

  void RunClient(int client);
  void RunTransaction(const std::string& gtrid, Random* random);
  static Plan Draw(const std::string& gtrid, Random* random);
  // Each answers what it was told; nullopt: the load stopped, or the call was refused.
  bool Create(const Plan& plan);
  absl::optional<v1::GlobalStatus> Vote(const std::string& gtrid, const std::vector<v1::Vote>& votes, v1::Wait wait);
  absl::optional<v1::GlobalStatus> Finalize(const std::string& gtrid, v1::Decision decision,
                                            const std::vector<v1::Vote>& votes);
  // The ways to a decision.
  absl::optional<v1::GlobalStatus> DecideWithVotes(const Plan& plan);
  absl::optional<v1::GlobalStatus> DecideAfterVotes(const Plan& plan);
  absl::optional<v1::GlobalStatus> DecideWithWaiters(const Plan& plan, Random* random);
  absl::optional<v1::GlobalStatus> DecideWithRival(const Plan& plan);
  void Complete(const Plan& plan, v1::Decision decision);

  // Repeats a call until it has an answer: OK or the coordinator's own error. CANCELLED once the load stops.
  template <typename Request, typename Response>
  absl::Status Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response);
  // An answer to a vote or a Finalize, booked.
  absl::optional<v1::GlobalStatus> Booked(const std::string& gtrid, absl::string_view call, const absl::Status& status,
                                          const v1::GlobalStatus& answer, const Book::Expectation& before);
  std::shared_ptr<Stub> CurrentStub();

  Book* const book_;
  const std::string address_;
  const uint64_t seed_;
  std::atomic<bool> stop_{false};
  Mutex mutex_;
  CondVar changed_;
  std::shared_ptr<Stub> stub_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int64_t> transport_errors_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> clients_;
};

}  // namespace assent

#endif  // ASSENT_TESTS_CRASH_LOAD_H_
