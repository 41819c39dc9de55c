#include "tests/bench/noop_caller.h"

#include <glog/logging.h>

#include "absl/time/clock.h"
#include "base/timestamp.h"

namespace assent {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);

template <typename T>
T Must(absl::StatusOr<T> answer) {
  CHECK(answer.ok()) << answer.status();
  return *std::move(answer);
}

}  // namespace

constexpr char NoopCaller::kNowhere[];

v1::FinalizeRequest NoopCaller::Commit(const std::string& gtrid) {
  v1::FinalizeRequest request;
  request.set_gtrid(gtrid);
  request.set_decision(v1::DECISION_COMMIT);
  request.set_wait(v1::WAIT_DECIDED);
  SetDuration(absl::Milliseconds(1), request.mutable_create()->mutable_age());
  for (const char* bqual : {"1", "2"}) {
    v1::BranchSpec* const branch = request.mutable_create()->add_branches();
    branch->set_bqual(bqual);
    branch->set_resource(kNowhere);
    v1::Vote* const vote = request.add_votes();
    vote->set_bqual(bqual);
    vote->set_kind(v1::VOTE_KIND_PREPARED);
  }
  return request;
}

std::vector<v1::Completion> NoopCaller::Committed(const std::string& gtrid) {
  std::vector<v1::Completion> completions;
  for (const char* bqual : {"1", "2"}) {
    completions.emplace_back();
    completions.back().set_gtrid(gtrid);
    completions.back().set_bqual(bqual);
    completions.back().set_result(v1::Completion::RESULT_COMMITTED);
  }
  return completions;
}

absl::Duration NoopCaller::Transact() {
  const absl::Time begin = absl::Now();
  const absl::Time give_up = begin + kPatience;
  const v1::FinalizeRequest request = Commit(Must(client_->reservation.TakeGtrid(give_up)));
  const v1::GlobalStatus status = Must(client_->connection.Finalize(request, give_up));
  CHECK_EQ(status.decision(), v1::DECISION_COMMIT) << status.ShortDebugString();
  const absl::Duration took = absl::Now() - begin;
  client_->reporter.Report(Committed(request.gtrid()), /*awaited=*/false);
  return took;
}

NoopCaller::Sizes NoopCaller::Measure(ClientState* client) {
  const absl::Time give_up = absl::Now() + kPatience;
  Sizes sizes;
  v1::CompletedRequest completed;
  for (int i = 0; i < kReported; ++i) {
    const v1::FinalizeRequest request = Commit(Must(client->reservation.TakeGtrid(give_up)));
    v1::FinalizeResponse response;
    *response.mutable_status() = Must(client->connection.Finalize(request, give_up));
    sizes.finalize = {request.ByteSizeLong(), response.ByteSizeLong()};
    for (const v1::Completion& one : Committed(request.gtrid())) *completed.add_completions() = one;
  }
  const v1::CompletedResponse response = Must(client->connection.Completed(completed, give_up));
  sizes.completed = {completed.ByteSizeLong(), response.ByteSizeLong()};
  return sizes;
}

}  // namespace assent
