#include "participant_sdk/cpp/callee.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/grpc_status.h"

namespace assent {
namespace {

// How long one call waits for the decision: so soon a Callee that closes is noticed.
constexpr absl::Duration kSlice = absl::Seconds(1);

}  // namespace

absl::StatusOr<Branch*> Part::OpenBranch(absl::string_view resource, std::shared_ptr<BranchSession> session) {
  used_ = true;
  absl::StatusOr<Branch*> branch = transaction_.OpenBranch(resource, session.get());
  if (branch.ok()) sessions_.push_back(std::move(session));
  return branch;
}

Callee::~Callee() {
  Flush(kClosePatience);
  std::list<Waiting> left;
  {
    MutexLock lock(&mutex_);
    closing_ = true;
    left.swap(waiting_);
  }
  for (Waiting& waiting : left) waiting.thread.join();
}

absl::Status Callee::TakePart(const Carried& call, const Handler& handler) {
  if (call.gtrid.empty()) return handler(nullptr);
  absl::StatusOr<GlobalTransaction> joined = client_.Join(call.gtrid);
  if (!joined.ok()) return joined.status();
  auto part = std::make_unique<Part>(*std::move(joined), call.traceparent);
  absl::Status done;
  try {
    done = handler(part.get());
  } catch (...) {
    (void)part->transaction_.Rollback("the handler threw an exception");
    throw;
  }
  if (!done.ok()) {
    // What becomes of it is the caller's to ask; here the handler's error says more.
    (void)part->transaction_.Rollback(absl::StrCat("the handler failed: ", done.message()));
    return done;
  }
  if (!part->used_) return done;
  done = part->transaction_.Vote();
  // A vote that nobody answered may count all the same: those branches wait for the decision as well.
  if (!part->transaction_.concluded()) FinishInBackground(std::move(part));
  return done;
}

grpc::Status Callee::Serve(const grpc::ServerContextBase& context, const Handler& handler) {
  const absl::StatusOr<Carried> call = CarriedBy(context);
  return ToGrpcStatus(call.ok() ? TakePart(*call, handler) : call.status());
}

void Callee::FinishInBackground(std::unique_ptr<Part> part) {
  JoinOver();
  MutexLock lock(&mutex_);
  waiting_.emplace_back();
  Waiting* const waiting = &waiting_.back();
  waiting->thread = std::thread([this, waiting, owned = std::move(part)]() mutable {
    Finish(owned.get());
    owned.reset();
    MutexLock done(&mutex_);
    waiting->over = true;
    changed_.NotifyAll();
  });
}

void Callee::Finish(Part* part) {
  const absl::Time give_up = absl::Now() + client_.options().decision_patience;
  while (!part->transaction_.concluded() && absl::Now() < give_up) {
    {
      MutexLock lock(&mutex_);
      if (closing_) return;
    }
    (void)part->transaction_.Prepare(std::min(kSlice, give_up - absl::Now()));
  }
}

void Callee::JoinOver() {
  std::list<Waiting> over;
  {
    MutexLock lock(&mutex_);
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      const auto next = std::next(it);
      if (it->over) over.splice(over.end(), waiting_, it);
      it = next;
    }
  }
  for (Waiting& waiting : over) waiting.thread.join();
}

bool Callee::Flush(absl::Duration patience) {
  const absl::Time give_up = absl::Now() + patience;
  MutexLock lock(&mutex_);
  while (!std::all_of(waiting_.begin(), waiting_.end(), [](const Waiting& waiting) { return waiting.over; })) {
    if (absl::Now() >= give_up) return false;
    changed_.WaitUntil(&mutex_, absl::ToChronoTime(give_up));
  }
  return true;
}

}  // namespace assent
