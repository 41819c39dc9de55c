#include "participant_sdk/cpp/call_stream.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/grpc_status.h"
#include "base/timestamp.h"

namespace assent {

constexpr size_t CallStream::kMaxCallBytes;

namespace {

// What gRPC says has ended.
enum class Operation : intptr_t { kStart = 1, kWrite, kRead, kFinish };

void* TagOf(Operation operation) { return reinterpret_cast<void*>(operation); }

// What the end of a stream says about the calls on it.
absl::Status Broken(const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::UNIMPLEMENTED:
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::PERMISSION_DENIED: return FromGrpcStatus(status);
    default: break;
  }
  return absl::UnavailableError(status.error_message().empty() ? "the stream to the coordinator has ended"
                                                               : status.error_message());
}

}  // namespace

// One stream, from its start to its end.
struct CallStream::Wire {
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  std::unique_ptr<grpc::ClientAsyncReaderWriter<v1::ConverseRequest, v1::ConverseResponse>> stream;
  v1::ConverseResponse reading;
  grpc::Status status;
  // Guarded by the CallStream's mutex, like what follows: operations that have begun and not ended.
  int operations = 0;
  bool started = false;
  bool write_in_flight = false;
  bool ending = false;

  ~Wire() {
    queue.Shutdown();
    void* tag;
    bool ok;
    while (queue.Next(&tag, &ok)) {
    }
  }

  void Read() { stream->Read(&reading, TagOf(Operation::kRead)); }
  void End() {
    if (ending) return;
    ending = true;
    ++operations;
    stream->Finish(&status, TagOf(Operation::kFinish));
  }
};

void CallStream::Batch::Write() {
  if (wire != nullptr) wire->stream->Write(message, TagOf(Operation::kWrite));
}

struct CallStream::Pending {
  CondVar changed;
  bool done = false;
  absl::Status status;
  v1::StreamAnswer answer;
};

CallStream::CallStream(v1::CoordinatorService::Stub* stub, bool wait_for_ready)
    : stub_(stub), wait_for_ready_(wait_for_ready) {}

CallStream::~CallStream() {
  MutexLock lock(&mutex_);
  if (wire_ == nullptr) return;
  wire_->context.TryCancel();
  while (wire_ != nullptr) Poll(absl::InfiniteFuture());
}

absl::StatusOr<v1::StreamAnswer> CallStream::Call(std::unique_ptr<v1::StreamCall> call, absl::Time deadline) {
  SetDuration(deadline - absl::Now(), call->mutable_patience());
  Pending mine;
  mutex_.Lock();
  const int64_t id = ++last_id_;
  call->set_id(id);
  pending_[id] = &mine;
  unsent_.push_back(std::move(call));
  Open();
  if (Batch batch = TakeWrite(); batch.wire != nullptr) {
    mutex_.Unlock();
    batch.Write();
    mutex_.Lock();
  }
  while (!mine.done) {
    if (!polled_) {
      Poll(deadline);
    } else {
      mine.changed.WaitUntil(&mutex_, absl::ToChronoTime(deadline));
    }
    if (!mine.done && absl::Now() >= deadline) {
      mine.done = true;
      mine.status = absl::DeadlineExceededError("no answer came in time");
      pending_.erase(id);
      const auto unsent =
          std::find_if(unsent_.begin(), unsent_.end(), [id](const auto& one) { return one->id() == id; });
      if (unsent != unsent_.end()) unsent_.erase(unsent);
    }
  }
  if (!polled_ && !pending_.empty()) pending_.begin()->second->changed.NotifyOne();
  mutex_.Unlock();
  if (!mine.status.ok()) return mine.status;
  return std::move(mine.answer);
}

void CallStream::Open() {
  if (wire_ != nullptr) return;
  wire_ = std::make_shared<Wire>();
  wire_->context.set_wait_for_ready(wait_for_ready_);
  wire_->stream = stub_->PrepareAsyncConverse(&wire_->context, &wire_->queue);
  ++wire_->operations;
  wire_->stream->StartCall(TagOf(Operation::kStart));
}

CallStream::Batch CallStream::TakeWrite() {
  Batch batch;
  if (wire_ == nullptr || !wire_->started || wire_->ending || wire_->write_in_flight || unsent_.empty()) return batch;
  for (size_t bytes = 0; !unsent_.empty() && bytes < kMaxCallBytes;) {
    bytes += unsent_.front()->ByteSizeLong();
    batch.message.mutable_calls()->AddAllocated(unsent_.front().release());
    unsent_.pop_front();
  }
  wire_->write_in_flight = true;
  ++wire_->operations;
  batch.wire = wire_;
  return batch;
}

void CallStream::Poll(absl::Time deadline) {
  const std::shared_ptr<Wire> wire = wire_;
  polled_ = true;
  mutex_.Unlock();
  void* tag;
  bool ok;
  const auto next = wire->queue.AsyncNext(&tag, &ok, absl::ToChronoTime(deadline));
  mutex_.Lock();
  if (next == grpc::CompletionQueue::GOT_EVENT) OnEvent(wire, tag, ok);
  polled_ = false;
}

void CallStream::OnEvent(const std::shared_ptr<Wire>& wire, void* tag, bool ok) {
  --wire->operations;
  bool read = false;
  switch (static_cast<Operation>(reinterpret_cast<intptr_t>(tag))) {
    case Operation::kStart: wire->started = read = ok; break;
    case Operation::kWrite: wire->write_in_flight = false; break;
    case Operation::kRead:
      if (ok) Deliver(&wire->reading);
      read = ok;
      break;
    case Operation::kFinish: ok = true; break;
  }
  if (!ok) wire->End();
  read = read && !wire->ending;
  if (read) ++wire->operations;
  Batch batch = TakeWrite();
  if (read || batch.wire != nullptr) {
    mutex_.Unlock();
    if (read) wire->Read();
    batch.Write();
    mutex_.Lock();
  }
  if (wire->operations > 0) return;
  wire_ = nullptr;
  Fail(Broken(wire->status));
}

void CallStream::Deliver(v1::ConverseResponse* message) {
  for (v1::StreamAnswer& answer : *message->mutable_answers()) {
    const auto it = pending_.find(answer.id());
    if (it == pending_.end()) continue;  // Its caller has given up.
    Pending* const pending = it->second;
    pending_.erase(it);
    pending->answer.Swap(&answer);
    pending->done = true;
    pending->changed.NotifyOne();
  }
}

void CallStream::Fail(const absl::Status& status) {
  unsent_.clear();
  for (auto& entry : pending_) {
    entry.second->status = status;
    entry.second->done = true;
    entry.second->changed.NotifyOne();
  }
  pending_.clear();
}

}  // namespace assent
