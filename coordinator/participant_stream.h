// ParticipantStream: the calls of one participant on one stream (CoordinatorService.Converse), in gRPC's callback API.
#ifndef ASSENT_COORDINATOR_PARTICIPANT_STREAM_H_
#define ASSENT_COORDINATOR_PARTICIPANT_STREAM_H_

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <string>
#include <unordered_set>

#include "absl/status/status.h"
#include "assent/v1/coordinator_service.pb.h"
#include "base/mutex.h"
#include "coordinator/participant_calls.h"

namespace assent {

// Deletes itself when gRPC is done with it, which is not before all of its calls are answered. Answers that come
// together, or while others are being written, leave in one message.
class ParticipantStream : public grpc::ServerBidiReactor<v1::ConverseRequest, v1::ConverseResponse> {
 public:
  // `calls` must outlive it.
  ParticipantStream(ParticipantCalls* calls, std::string peer);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override { delete this; }

 private:
  static constexpr size_t kMaxUnanswered = 10000;
  // Of one message; a single answer may be larger.
  static constexpr size_t kMaxMessageBytes = 1 << 20;

  struct Exchange;
  using ExchangePtr = std::shared_ptr<Exchange>;

  void Begin(const ExchangePtr& exchange);
  // Gives the call to ParticipantCalls; null if it does not wait.
  Engine::CallPtr Dispatch(const ExchangePtr& exchange);
  void Answer(const ExchangePtr& exchange, const absl::Status& status);
  // Writes what is there, or ends the stream if nothing more will come. `due`: it was put off until now (flush_due_).
  void Flush(bool due);

  ParticipantCalls* const calls_;
  const std::string peer_;
  std::shared_ptr<v1::ConverseRequest> reading_;

  Mutex mutex_;
  v1::ConverseResponse writing_ ABSL_GUARDED_BY(mutex_);
  std::unordered_set<ExchangePtr> unanswered_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::unique_ptr<v1::StreamAnswer>> answers_ ABSL_GUARDED_BY(mutex_);
  bool flush_due_ ABSL_GUARDED_BY(mutex_) = false;
  bool write_in_flight_ ABSL_GUARDED_BY(mutex_) = false;
  bool read_all_ ABSL_GUARDED_BY(mutex_) = false;  // No more calls will come.
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;      // Nobody reads the answers any more.
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace assent

#endif  // ASSENT_COORDINATOR_PARTICIPANT_STREAM_H_
