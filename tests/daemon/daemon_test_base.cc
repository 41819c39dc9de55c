#include "tests/daemon/daemon_test_base.h"

#include "base/timestamp.h"
#include "base/xid.h"
#include "tests/fixtures/coordinator_api.h"

namespace assent {
namespace {

using CoordinatorStub = v1::CoordinatorService::StubInterface;

std::shared_ptr<grpc::Channel> NewChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

Stubs::Stubs(const std::string& address)
    : channel_(NewChannel(address)),
      coordinator_(v1::CoordinatorService::NewStub(channel_)),
      resources_(v1::ResourceService::NewStub(channel_)),
      health_(grpc::health::v1::Health::NewStub(channel_)) {}

absl::StatusOr<v1::CreateGlobalResponse> Stubs::Create(const v1::CreateGlobalRequest& request) {
  return Call(coordinator(), &CoordinatorStub::CreateGlobal, request);
}
absl::StatusOr<v1::CreateBranchesResponse> Stubs::AddBranches(const v1::CreateBranchesRequest& request) {
  return Call(coordinator(), &CoordinatorStub::CreateBranches, request);
}
absl::StatusOr<v1::PreparedResponse> Stubs::Prepared(const v1::PreparedRequest& request, absl::Duration timeout) {
  return Call(coordinator(), &CoordinatorStub::Prepared, request, timeout);
}
absl::StatusOr<v1::FinalizeResponse> Stubs::Finalize(const v1::FinalizeRequest& request) {
  return Call(coordinator(), &CoordinatorStub::Finalize, request);
}
absl::StatusOr<v1::CompletedResponse> Stubs::Completed(const v1::CompletedRequest& request) {
  return Call(coordinator(), &CoordinatorStub::Completed, request);
}
absl::StatusOr<v1::GetGlobalResponse> Stubs::Get(const std::string& gtrid) {
  v1::GetGlobalRequest request;
  request.set_gtrid(gtrid);
  return Call(coordinator(), &CoordinatorStub::GetGlobal, request);
}
absl::StatusOr<v1::ListGlobalsResponse> Stubs::List(const v1::ListGlobalsRequest& request) {
  return Call(coordinator(), &CoordinatorStub::ListGlobals, request);
}
absl::StatusOr<v1::RegisterResourceResponse> Stubs::Register(const v1::RegisterResourceRequest& request) {
  return Call(resources(), &v1::ResourceService::StubInterface::RegisterResource, request);
}

v1::CreateGlobalRequest CreateOf(const std::string& gtrid, const std::vector<std::string>& bquals,
                                 absl::Duration timeout) {
  v1::CreateGlobalRequest request;
  request.set_gtrid(gtrid);
  SetDuration(timeout, request.mutable_timeout());
  for (const std::string& bqual : bquals) {
    v1::BranchSpec* branch = request.add_branches();
    branch->set_bqual(bqual);
    branch->set_resource("db");
  }
  return request;
}

v1::PreparedRequest VotesOf(const std::string& gtrid, const std::vector<std::string>& bquals, v1::VoteKind kind,
                            v1::Wait wait) {
  v1::PreparedRequest request;
  request.set_gtrid(gtrid);
  request.set_wait(wait);
  for (const std::string& bqual : bquals) {
    v1::Vote* vote = request.add_votes();
    vote->set_bqual(bqual);
    vote->set_kind(kind);
  }
  return request;
}

v1::FinalizeRequest FinalizeOf(const std::string& gtrid, v1::Decision decision, v1::Wait wait) {
  v1::FinalizeRequest request;
  request.set_gtrid(gtrid);
  request.set_decision(decision);
  request.set_wait(wait);
  return request;
}

v1::CompletedRequest CompletionsOf(const std::string& gtrid, const std::vector<std::string>& bquals,
                                   v1::Completion::Result result) {
  v1::CompletedRequest request;
  for (const std::string& bqual : bquals) {
    v1::Completion* completion = request.add_completions();
    completion->set_gtrid(gtrid);
    completion->set_bqual(bqual);
    completion->set_result(result);
  }
  return request;
}

void DaemonTest::StartDaemon(Assentd::Options options) {
  absl::StatusOr<std::unique_ptr<Assentd>> daemon = Assentd::Start(std::move(options));
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  daemon_ = *std::move(daemon);
  Connect();
  const absl::Status registered = CoordinatorApi(daemon_->address()).RegisterNowhere("db");
  ASSERT_TRUE(registered.ok()) << registered;
}

void DaemonTest::Connect() { stubs_ = std::make_unique<Stubs>(daemon_->address()); }

void DaemonTest::ExpectNormalTransaction() {
  const std::string gtrid = NewGtrid("test", absl::Now());
  const auto created = stubs_->Create(CreateOf(gtrid, {"a", "b"}));
  ASSERT_TRUE(created.ok()) << created.status();
  const auto voted = stubs_->Prepared(VotesOf(gtrid, {"a", "b"}));
  ASSERT_TRUE(voted.ok()) << voted.status();
  const auto decided = stubs_->Finalize(FinalizeOf(gtrid, v1::DECISION_COMMIT));
  ASSERT_TRUE(decided.ok()) << decided.status();
  EXPECT_EQ(decided->status().decision(), v1::DECISION_COMMIT);
  const auto completed = stubs_->Completed(CompletionsOf(gtrid, {"a", "b"}));
  ASSERT_TRUE(completed.ok()) << completed.status();
  const auto found = stubs_->Get(gtrid);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->outcome(), v1::OUTCOME_COMMITTED);
}

std::string DaemonTest::ReasonName(const absl::Status& status) {
  if (status.ok()) return "OK";
  EXPECT_FALSE(status.message().empty());
  const absl::optional<Reason> reason = ReasonOf(status);
  return reason ? std::string(InfoOf(*reason).name) : absl::StatusCodeToString(status.code());
}

}  // namespace assent
