// Callee: makes the handler of a call that carries a global transaction (carry.h) a part of it by itself.
//
//   grpc::Status Reserve(grpc::ServerContext* context, const ReserveRequest* request, ReserveResponse* response)
//   override {
//     return callee_.Serve(*context, [&](Part* part) -> absl::Status {
//       absl::StatusOr<Branch*> stock = part->OpenBranch("stock", pool_.Take());
//       if (!stock.ok()) return stock.status();
//       return (*stock)->Execute("UPDATE …").status();
//     });
//   }
#ifndef ASSENT_PARTICIPANT_SDK_CPP_CALLEE_H_
#define ASSENT_PARTICIPANT_SDK_CPP_CALLEE_H_

#include <grpcpp/support/status.h>

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "participant_sdk/cpp/carry.h"
#include "participant_sdk/cpp/client.h"
#include "participant_sdk/cpp/global_transaction.h"

namespace assent {

// What a handler has of the transaction that its call carries. Thread-compatible.
class Part {
 public:
  Part(GlobalTransaction transaction, std::string traceparent)
      : traceparent_(std::move(traceparent)), transaction_(std::move(transaction)) {}

  // As GlobalTransaction::OpenBranch, and keeps the session until the branch is finished, which is after the handler
  // has returned. It is let go then, by another thread (a pool gives it a deleter of its own, which must look whether
  // it is lost()); at once if the branch could not be made.
  absl::StatusOr<Branch*> OpenBranch(absl::string_view resource, std::shared_ptr<BranchSession> session);

  // For Carry, to calls that the handler makes. Callee votes and ends it: the handler must not.
  const GlobalTransaction& transaction() const { return transaction_; }
  const std::string& traceparent() const { return traceparent_; }

 private:
  friend class Callee;

  const std::string traceparent_;
  std::vector<std::shared_ptr<BranchSession>> sessions_;  // Outlive the transaction.
  GlobalTransaction transaction_;
  bool used_ = false;  // OpenBranch was called, with whatever success.
};

// Thread-safe.
class Callee {
 public:
  // `part` is null if the call carries no transaction.
  using Handler = std::function<absl::Status(Part* part)>;

  explicit Callee(Client client) : client_(std::move(client)) {}
  // Waits for the decision on what was voted for, at most kClosePatience, and leaves the rest to the coordinator: those
  // sessions are closed and lost(). Handlers must have returned.
  ~Callee();
  Callee(const Callee&) = delete;
  Callee& operator=(const Callee&) = delete;

  // Runs `handler` as a part of the transaction. OK: its branches are prepared and their votes count; they are finished
  // on their sessions, in the background, once it is decided. If the handler answers an error, or throws, the
  // transaction is rolled back and that is what is answered (or thrown). ABORTED (GLOBAL_ROLLED_BACK) if it was rolled
  // back already, UNKNOWN (OUTCOME_IN_DOUBT) if nobody answered the vote: the caller's own Commit tells how it ended.
  // A handler that opens no branch has no vote. The handler must not be run again in the same call.
  absl::Status TakePart(const Carried& call, const Handler& handler);

  // The same, for a handler of gRPC's: reads what the call carries. INVALID_ARGUMENT (INVALID_GTRID) if that is none.
  grpc::Status Serve(const grpc::ServerContextBase& context, const Handler& handler);

  // Waits until everything voted for is finished or given up, at most `patience`; false if not.
  bool Flush(absl::Duration patience);

 private:
  static constexpr absl::Duration kClosePatience = absl::Seconds(5);

  struct Waiting {
    std::thread thread;
    bool over = false;
  };

  // Waits for the decision, and finishes the branches.
  void FinishInBackground(std::unique_ptr<Part> part);
  void Finish(Part* part);
  // Ends the threads that are over.
  void JoinOver();

  Client client_;
  Mutex mutex_;
  CondVar changed_;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::list<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace assent

#endif  // ASSENT_PARTICIPANT_SDK_CPP_CALLEE_H_
