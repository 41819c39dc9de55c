#include "tests/bench/noop_caller.h"

namespace assent {

constexpr char NoopCaller::kNowhere[];

NoopCaller::NoopCaller(const std::string& address)
    : stub_(v1::CoordinatorService::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))) {}

NoopCaller::~NoopCaller() { Report(); }

v1::CreateGlobalRequest NoopCaller::TwoBranches() {
  v1::CreateGlobalRequest create;
  create.add_branches()->set_resource(kNowhere);
  create.add_branches()->set_resource(kNowhere);
  return create;
}

absl::Duration NoopCaller::Transact() {
  const v1::CreateGlobalRequest create = TwoBranches();
  v1::CreateGlobalResponse created;
  MustCall([&](grpc::ClientContext* context) { return stub_->CreateGlobal(context, create, &created); });
  v1::FinalizeRequest finalize;
  finalize.set_gtrid(created.global().gtrid());
  finalize.set_decision(v1::DECISION_COMMIT);
  finalize.set_wait(v1::WAIT_DECIDED);
  for (const v1::Branch& branch : created.global().branches()) {
    v1::Vote* const vote = finalize.add_votes();
    vote->set_bqual(branch.bqual());
    vote->set_kind(v1::VOTE_KIND_PREPARED);
    v1::Completion* const completion = completed_.add_completions();
    completion->set_gtrid(created.global().gtrid());
    completion->set_bqual(branch.bqual());
    completion->set_result(v1::Completion::RESULT_COMMITTED);
  }
  const absl::Time begin = absl::Now();
  v1::FinalizeResponse finalized;
  MustCall([&](grpc::ClientContext* context) { return stub_->Finalize(context, finalize, &finalized); });
  const absl::Duration took = absl::Now() - begin;
  sizes_.create = {create.ByteSizeLong(), created.ByteSizeLong()};
  sizes_.finalize = {finalize.ByteSizeLong(), finalized.ByteSizeLong()};
  if (++unreported_ == kReported) Report();
  return took;
}

void NoopCaller::Report() {
  if (completed_.completions().empty()) return;
  v1::CompletedResponse response;
  MustCall([&](grpc::ClientContext* context) { return stub_->Completed(context, completed_, &response); });
  if (unreported_ == kReported) sizes_.completed = {completed_.ByteSizeLong(), response.ByteSizeLong()};
  completed_.Clear();
  unreported_ = 0;
}

}  // namespace assent
