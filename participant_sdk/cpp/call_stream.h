// CallStream: the calls of this process to one coordinator on one stream (CoordinatorService.Converse). Calls that are
// made while others are being sent travel together.
//
// No thread of its own: of the callers that wait for their answers one reads for all of them, and hands that on when
// its own answer has come. So a caller that is alone is woken by nobody but the network.
#ifndef ASSENT_PARTICIPANT_SDK_CPP_CALL_STREAM_H_
#define ASSENT_PARTICIPANT_SDK_CPP_CALL_STREAM_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "assent/v1/coordinator_service.grpc.pb.h"
#include "base/mutex.h"

namespace assent {

// Thread-safe.
class CallStream {
 public:
  // A call that is larger is better made as a unary one: a message of the stream holds no more than this.
  static constexpr size_t kMaxCallBytes = 1 << 20;

  // `stub` must outlive it. Connects at the first call, and again after the stream broke. `wait_for_ready`: calls wait
  // for a coordinator that is away, until their deadline; else they fail at once.
  CallStream(v1::CoordinatorService::Stub* stub, bool wait_for_ready);
  // Nobody may be in a call.
  ~CallStream();

  // Sends the call, whose id and patience are set here, and waits. OK: the answer, which may hold an error of the
  // coordinator's. UNAVAILABLE: the stream broke, or there is none; DEADLINE_EXCEEDED: no answer came in time; after
  // both it is not known whether the call had its effect. UNIMPLEMENTED: this coordinator, or what is in between, has
  // no stream. Others, as the transport says: UNAUTHENTICATED, PERMISSION_DENIED.
  absl::StatusOr<v1::StreamAnswer> Call(std::unique_ptr<v1::StreamCall> call, absl::Time deadline);

 private:
  struct Wire;
  struct Pending;

  // Starts a stream if there is none.
  void Open() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What is to be written next, if anything can be now. It must then be written, which is done without the lock.
  struct Batch {
    std::shared_ptr<Wire> wire;  // Null: nothing.
    v1::ConverseRequest message;

    void Write();
  };
  Batch TakeWrite() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Waits for one event of the stream, and does what follows from it.
  void Poll(absl::Time deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnEvent(const std::shared_ptr<Wire>& wire, void* tag, bool ok) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Deliver(v1::ConverseResponse* message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The stream has ended: so have the calls that were on it.
  void Fail(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  v1::CoordinatorService::Stub* const stub_;
  const bool wait_for_ready_;

  Mutex mutex_;
  std::shared_ptr<Wire> wire_ ABSL_GUARDED_BY(mutex_);
  int64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<int64_t, Pending*> pending_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::unique_ptr<v1::StreamCall>> unsent_ ABSL_GUARDED_BY(mutex_);
  bool polled_ ABSL_GUARDED_BY(mutex_) = false;  // Some caller is in Poll.
};

}  // namespace assent

#endif  // ASSENT_PARTICIPANT_SDK_CPP_CALL_STREAM_H_
