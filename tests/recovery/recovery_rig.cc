#include "tests/recovery/recovery_rig.h"

#include <mariadb/mysql.h>

#include <fstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/grpc_status.h"
#include "base/timestamp.h"
#include "glog/logging.h"
#include "grpcpp/grpcpp.h"
#include "participant_sdk/cpp/branch.h"
#include "resource_manager/database_engine.h"

namespace assent {
namespace {

template <typename Stub, typename Request, typename Response>
absl::StatusOr<Response> Call(Stub* stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                              const Request& request) {
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(70));
  Response response;
  const absl::Status status = FromGrpcStatus((stub->*method)(&context, request, &response));
  if (!status.ok()) return status;
  return response;
}

using Service = v1::CoordinatorService::Stub;

bool LeavesWitnesses(int server) { return FindDatabaseEngine(EngineOfServer(server))->leaves_witnesses; }

}  // namespace

absl::StatusOr<std::unique_ptr<RecoveryRig>> RecoveryRig::Start(Options options) {
  absl::StatusOr<TempDir> folder = TempDir::Create();
  if (!folder.ok()) return folder.status();
  std::unique_ptr<RecoveryRig> rig(new RecoveryRig(*std::move(folder), std::move(options)));
  for (int i = 0; i < 2; ++i) {
    auto started = StartDatabase(EngineOfServer(i), rig->options_.database_options);
    if (!started.ok()) return started.status();
    rig->databases_[static_cast<size_t>(i)] = *std::move(started);
    std::ofstream(rig->PasswordFile(i)) << rig->database(i).password() << "\n";
    rig->Sql(
        i, "CREATE SCHEMA app; CREATE TABLE app.t (gtrid VARCHAR(64), bqual VARCHAR(64), PRIMARY KEY (gtrid, bqual))");
  }
  Assentd::Options coordinator = rig->options_.coordinator;
  coordinator.extra.insert(coordinator.extra.begin(), "--sweep-interval=500ms");
  auto started = Assentd::Start(std::move(coordinator));
  if (!started.ok()) return started.status();
  rig->coordinator_ = *std::move(started);
  rig->api_ = std::make_unique<CoordinatorApi>(rig->coordinator_->address());
  for (int i = 0; i < 2; ++i) {
    if (absl::Status status = rig->Register(i); !status.ok()) return status;
  }
  return rig;
}

absl::Status RecoveryRig::Register(int server, const std::function<void(v1::RegisterResourceRequest*)>& change) {
  return RegisterAt(&api(), server, change);
}

v1::Session RecoveryRig::Describe(const BranchSession& session) { return session.Describe(); }

absl::Status RecoveryRig::RegisterAt(CoordinatorApi* api, int server,
                                     const std::function<void(v1::RegisterResourceRequest*)>& change) {
  v1::RegisterResourceRequest request;
  request.set_replace(true);
  v1::Resource* resource = request.mutable_resource();
  resource->set_name(ResourceName(server));
  DescribeResource(database(server), resource);
  resource->set_password_file(PasswordFile(server));
  if (LeavesWitnesses(server)) resource->set_witness(options_.witness);
  resource->set_kill_after_lease(options_.kill_after_lease);
  SetDuration(options_.lease, resource->mutable_lease());
  SetDuration(options_.orphan_age, resource->mutable_orphan_age());
  if (change) change(&request);
  return Call(api->resources(), &v1::ResourceService::Stub::RegisterResource, request).status();
}

absl::StatusOr<std::unique_ptr<BranchSession>> RecoveryRig::TryConnect(int server) {
  return OpenSession(database(server));
}

std::unique_ptr<BranchSession> RecoveryRig::Connect(int server) {
  auto session = TryConnect(server);
  CHECK(session.ok()) << session.status() << "\n" << database(server).LogTail();
  return *std::move(session);
}

std::vector<RawBranch> RecoveryRig::Begin(const std::vector<int>& servers, absl::Duration timeout) {
  v1::CreateGlobalRequest request;
  SetDuration(timeout, request.mutable_timeout());
  std::vector<RawBranch> branches;
  for (const int server : servers) {
    branches.push_back({server, {}, Connect(server)});
    branches.back().handle = branches.back().session->BorrowHandle();
    request.add_branches()->set_resource(ResourceName(server));
    *request.mutable_branches()->rbegin()->mutable_session() = Describe(*branches.back().session);
  }
  const auto created = TryCreate(request);
  CHECK(created.ok()) << created.status();
  for (size_t i = 0; i < servers.size(); ++i) {
    branches[i].xid = {created->global().gtrid(), created->global().branches(static_cast<int>(i)).bqual()};
  }
  return branches;
}

absl::StatusOr<v1::CreateGlobalResponse> RecoveryRig::TryCreate(const v1::CreateGlobalRequest& request) {
  return Call(api().coordinator(), &Service::CreateGlobal, request);
}

absl::StatusOr<v1::CreateGlobalResponse> RecoveryRig::TryBegin(const std::vector<int>& servers) {
  v1::CreateGlobalRequest request;
  for (const int server : servers) request.add_branches()->set_resource(ResourceName(server));
  return TryCreate(request);
}

void RecoveryRig::Reset(RawBranch* branch, bool finish) {
  const uint64_t id = branch->session->connection_id();
  if (IsPostgres(branch->server)) {
    CHECK(!finish);
    CHECK(branch->session->Query("DISCARD ALL").ok());
  } else {
    CHECK_EQ(mysql_reset_connection(branch->handle), 0);
  }
  if (finish) {
    CHECK(AwaitTrue([&] { return Connect(branch->server)->Commit(branch->xid).ok(); }));
  }
  branch->session->Abandon();
  CHECK(AwaitTrue(
      [&] { return Connect(branch->server)->Query(SessionSql(id, EngineOfServer(branch->server))).rows().empty(); }));
}

void RecoveryRig::Prepare(RawBranch* branch) {
  const StartResult started = branch->session->Start(
      branch->xid, absl::StrCat("INSERT INTO app.t VALUES ('", branch->xid.gtrid, "', '", branch->xid.bqual, "')"));
  CHECK(started.xa.ok() && started.first->ok()) << started.xa.error.message;
  const WitnessTable witness = *WitnessTable::OfSchema("");
  branch->witnessed = options_.witness != v1::WITNESS_DISABLED && LeavesWitnesses(branch->server);
  const XaResult prepared = branch->session->Prepare(branch->xid, branch->witnessed ? &witness : nullptr);
  CHECK(prepared.ok()) << prepared.error.message;
}

absl::Status RecoveryRig::Vote(const std::vector<RawBranch>& branches) {
  v1::PreparedRequest request;
  request.set_gtrid(branches[0].xid.gtrid);
  request.set_wait(v1::WAIT_NONE);
  for (const RawBranch& branch : branches) {
    v1::Vote* vote = request.add_votes();
    vote->set_bqual(branch.xid.bqual);
    vote->set_kind(v1::VOTE_KIND_PREPARED);
    vote->set_witnessed(branch.witnessed);
    *vote->mutable_session() = branch.session->Describe();
  }
  return Call(api().coordinator(), &Service::Prepared, request).status();
}

absl::StatusOr<v1::GlobalStatus> RecoveryRig::Finalize(const std::string& gtrid, v1::Decision decision, v1::Wait wait) {
  v1::FinalizeRequest request;
  request.set_gtrid(gtrid);
  request.set_decision(decision);
  request.set_wait(wait);
  const auto response = Call(api().coordinator(), &Service::Finalize, request);
  if (!response.ok()) return response.status();
  return response->status();
}

absl::Status RecoveryRig::Complete(const RawBranch& branch, v1::Completion::Result result) {
  v1::CompletedRequest request;
  v1::Completion* completion = request.add_completions();
  completion->set_gtrid(branch.xid.gtrid);
  completion->set_bqual(branch.xid.bqual);
  completion->set_result(result);
  const auto response = Call(api().coordinator(), &Service::Completed, request);
  if (!response.ok()) return response.status();
  return response->results(0).has_error() ? FromRpcStatus(response->results(0).error()) : absl::OkStatus();
}

std::vector<RawBranch> RecoveryRig::Decided(const std::vector<int>& servers, v1::Decision decision) {
  std::vector<RawBranch> branches = Begin(servers);
  for (RawBranch& branch : branches) Prepare(&branch);
  absl::Status status = Vote(branches);
  CHECK(status.ok()) << status;
  status = Finalize(branches[0].xid.gtrid, decision).status();
  CHECK(status.ok()) << status;
  return branches;
}

v1::GetGlobalResponse RecoveryRig::Global(const std::string& gtrid) {
  const auto response = api().GetGlobal(gtrid);
  LOG_IF(ERROR, !response.ok()) << response.status();
  return response.ok() ? *response : v1::GetGlobalResponse();
}

v1::Branch RecoveryRig::BranchOf(const std::string& gtrid, const std::string& bqual) {
  const v1::GetGlobalResponse global = Global(gtrid);
  for (const v1::Branch& branch : global.global().branches()) {
    if (branch.bqual() == bqual) return branch;
  }
  return {};
}

bool RecoveryRig::AwaitTrue(const std::function<bool()>& condition, absl::Duration patience) {
  const absl::Time give_up = absl::Now() + patience;
  while (!condition()) {
    if (absl::Now() > give_up) return false;
    absl::SleepFor(absl::Milliseconds(20));
  }
  return true;
}

v1::GetGlobalResponse RecoveryRig::Await(const std::string& gtrid, v1::Global::State state, absl::Duration patience) {
  v1::GetGlobalResponse last;
  AwaitTrue(
      [&] {
        last = Global(gtrid);
        return last.global().state() == state;
      },
      patience);
  return last;
}

int RecoveryRig::Rows(int server, const std::string& gtrid) {
  int count = -1;
  const QueryResult result = Sql(server, absl::StrCat("SELECT COUNT(*) FROM app.t WHERE gtrid = '", gtrid, "'"));
  CHECK(absl::SimpleAtoi(result.rows()[0][0].value_or(""), &count));
  return count;
}

int RecoveryRig::Witnesses(int server, const std::string& gtrid) {
  if (!LeavesWitnesses(server)) return 0;
  int count = -1;
  const QueryResult result =
      Sql(server, absl::StrCat("SELECT COUNT(*) FROM assent.witness WHERE gtrid = '", gtrid, "'"));
  CHECK(absl::SimpleAtoi(result.rows()[0][0].value_or(""), &count));
  return count;
}

int RecoveryRig::AllWitnesses(int server) {
  if (!LeavesWitnesses(server)) return 0;
  int count = -1;
  CHECK(absl::SimpleAtoi(Sql(server, "SELECT COUNT(*) FROM assent.witness WHERE gtrid > ''").rows()[0][0].value_or(""),
                         &count));
  return count;
}

int RecoveryRig::Prepared(int server) {
  const auto session = TryConnect(server);
  if (!session.ok()) return -1;
  const auto xids = (*session)->Recover();
  return xids.ok() ? static_cast<int>(xids->size()) : -1;
}

absl::StatusOr<v1::RecoverResponse> RecoveryRig::Recover(bool dry_run, const std::string& resource) {
  v1::RecoverRequest request;
  request.set_dry_run(dry_run);
  request.set_resource(resource);
  return Call(api().coordinator(), &Service::Recover, request);
}

absl::StatusOr<v1::ListInDoubtResponse> RecoveryRig::InDoubt(bool with_locks) {
  v1::ListInDoubtRequest request;
  request.set_page_size(1000);
  request.set_with_locks(with_locks);
  return Call(api().coordinator(), &Service::ListInDoubt, request);
}

absl::StatusOr<v1::ResolveBranchResponse> RecoveryRig::Resolve(const v1::ResolveBranchRequest& request) {
  return Call(api().coordinator(), &Service::ResolveBranch, request);
}

QueryResult RecoveryRig::Sql(int server, absl::string_view sql) {
  const QueryResult result = Connect(server)->Query(sql);
  CHECK(result.ok()) << sql << ": " << result.error.code << " " << result.error.message;
  return result;
}

std::string RecoveryRig::FinishSql(int server, const Xid& xid, bool commit) {
  return FindDatabaseEngine(EngineOfServer(server))->finish_sql(xid, commit);
}

std::string RecoveryRig::OverwriteSql(int server, const Xid& xid) {
  const std::string row = absl::StrCat("INTO app.t VALUES ('", xid.gtrid, "', '", xid.bqual, "')");
  if (EngineOfServer(server) != v1::Resource::ENGINE_POSTGRESQL) return "REPLACE " + row;
  return absl::StrCat("INSERT ", row, " ON CONFLICT (gtrid, bqual) DO UPDATE SET bqual = excluded.bqual");
}

}  // namespace assent
