#include "coordinator/participant_stream.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/deferred.h"
#include "base/errors.h"
#include "base/grpc_status.h"
#include "base/timestamp.h"
#include "coordinator/unary_call.h"

namespace assent {

constexpr size_t ParticipantStream::kMaxUnanswered;
constexpr size_t ParticipantStream::kMaxMessageBytes;

// One call and its answer.
struct ParticipantStream::Exchange {
  std::shared_ptr<v1::ConverseRequest> message;  // Holds the call.
  const v1::StreamCall* call = nullptr;
  std::unique_ptr<v1::StreamAnswer> answer = std::make_unique<v1::StreamAnswer>();
  Engine::CallPtr handle;  // Guarded by the stream's mutex.
};

ParticipantStream::ParticipantStream(ParticipantCalls* calls, std::string peer)
    : calls_(calls), peer_(std::move(peer)), reading_(std::make_shared<v1::ConverseRequest>()) {
  StartRead(reading_.get());
}

void ParticipantStream::OnReadDone(bool ok) {
  if (!ok) {
    {
      MutexLock lock(&mutex_);
      read_all_ = true;
    }
    Flush(/*due=*/false);
    return;
  }
  const std::shared_ptr<v1::ConverseRequest> message = std::move(reading_);
  {
    // What can be answered at once is answered in one message.
    DeferScope scope;
    for (const v1::StreamCall& call : message->calls()) {
      auto exchange = std::make_shared<Exchange>();
      exchange->message = message;
      exchange->call = &call;
      Begin(exchange);
    }
  }
  // Only now: the stream lives at least until the read that follows has ended.
  reading_ = std::make_shared<v1::ConverseRequest>();
  StartRead(reading_.get());
}

void ParticipantStream::Begin(const ExchangePtr& exchange) {
  CallsInFlight::Add(1);
  exchange->answer->set_id(exchange->call->id());
  bool overloaded;
  {
    MutexLock lock(&mutex_);
    overloaded = unanswered_.size() >= kMaxUnanswered;
    unanswered_.insert(exchange);
  }
  if (overloaded) {
    Answer(exchange, MakeError(Reason::OVERLOADED,
                               absl::StrCat("more than ", kMaxUnanswered,
                                            " calls of this stream wait for their answers; repeat the call later")));
    return;
  }
  const Engine::CallPtr handle = Dispatch(exchange);
  if (handle == nullptr) return;
  bool cancel;
  {
    MutexLock lock(&mutex_);
    exchange->handle = handle;
    cancel = gone_;
  }
  if (cancel) calls_->Cancel(handle);
}

Engine::CallPtr ParticipantStream::Dispatch(const ExchangePtr& exchange) {
  const v1::StreamCall& call = *exchange->call;
  v1::StreamAnswer* const answer = exchange->answer.get();
  ParticipantCalls::Caller caller{peer_, absl::InfiniteDuration()};
  if (call.has_patience()) caller.patience = GetDuration(call.patience());
  auto done = [this, exchange](const absl::Status& status) { Answer(exchange, status); };
  switch (call.request_case()) {
    case v1::StreamCall::kCreateGlobal:
      return calls_->Run(caller, call.create_global(), answer->mutable_create_global(), std::move(done));
    case v1::StreamCall::kCreateBranches:
      return calls_->Run(caller, call.create_branches(), answer->mutable_create_branches(), std::move(done));
    case v1::StreamCall::kPrepared:
      return calls_->Run(caller, call.prepared(), answer->mutable_prepared(), std::move(done));
    case v1::StreamCall::kFinalize:
      return calls_->Run(caller, call.finalize(), answer->mutable_finalize(), std::move(done));
    case v1::StreamCall::kCompleted:
      return calls_->Run(caller, call.completed(), answer->mutable_completed(), std::move(done));
    case v1::StreamCall::kReserveGtrids:
      return calls_->Run(caller, call.reserve_gtrids(), answer->mutable_reserve_gtrids(), std::move(done));
    case v1::StreamCall::REQUEST_NOT_SET: break;
  }
  done(MakeError(Reason::INVALID_FIELD,
                 "a call on the stream names no request, or one that this coordinator does not know",
                 {{"field", "request"}}));
  return nullptr;
}

void ParticipantStream::Answer(const ExchangePtr& exchange, const absl::Status& status) {
  if (!status.ok()) {
    exchange->answer->clear_response();
    *exchange->answer->mutable_error() = ToRpcStatus(status);
  }
  {
    MutexLock lock(&mutex_);
    unanswered_.erase(exchange);
    exchange->handle = nullptr;
    answers_.push_back(std::move(exchange->answer));
    if (flush_due_) return;
    flush_due_ = true;
  }
  Defer([this] { Flush(/*due=*/true); });
}

void ParticipantStream::Flush(bool due) {
  int dropped = 0;
  bool finish = false;
  {
    MutexLock lock(&mutex_);
    if (!due && flush_due_) return;  // Who put it off will do it, and needs the stream to be there then.
    flush_due_ = false;
    if (gone_) {
      dropped = static_cast<int>(answers_.size());
      answers_.clear();
    }
    if (!write_in_flight_ && !answers_.empty()) {
      write_in_flight_ = true;
      size_t bytes = 0;
      while (!answers_.empty() && bytes < kMaxMessageBytes) {
        bytes += answers_.front()->ByteSizeLong();
        writing_.mutable_answers()->AddAllocated(answers_.front().release());
        answers_.pop_front();
      }
      StartWrite(&writing_);  // Calls nobody back from here.
    } else if (!write_in_flight_ && read_all_ && unanswered_.empty() && !finished_) {
      finish = finished_ = true;
    }
  }
  CallsInFlight::Add(-dropped);
  // From here on gRPC may delete it at any moment.
  if (finish) Finish(grpc::Status::OK);
}

void ParticipantStream::OnWriteDone(bool ok) {
  {
    MutexLock lock(&mutex_);
    CallsInFlight::Add(-writing_.answers_size());
    writing_.Clear();
    write_in_flight_ = false;
    if (!ok) gone_ = true;
  }
  Flush(/*due=*/false);
}

void ParticipantStream::OnCancel() {
  std::vector<Engine::CallPtr> waiting;
  {
    MutexLock lock(&mutex_);
    gone_ = true;
    for (const ExchangePtr& exchange : unanswered_) {
      if (exchange->handle != nullptr) waiting.push_back(exchange->handle);
    }
  }
  for (const Engine::CallPtr& handle : waiting) calls_->Cancel(handle);
}

}  // namespace assent
