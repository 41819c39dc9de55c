#include "tests/race/race_rig.h"

#include <fstream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"
#include "base/timestamp.h"
#include "grpcpp/grpcpp.h"
#include "tests/fixtures/assentd.h"

namespace assent {
namespace {

class RealCoordinator : public RaceCoordinator {
 public:
  explicit RealCoordinator(std::unique_ptr<Assentd> assentd) : assentd_(std::move(assentd)) {}
  std::string address() const override { return assentd_->address(); }
  void Stop() override { assentd_->Kill9(); }
  absl::Status Start() override { return assentd_->Restart(); }
  std::string LastWords() const override { return assentd_->OutputTail(); }

 private:
  const std::unique_ptr<Assentd> assentd_;
};

}  // namespace

bool MakesGhosts(v1::Resource::Engine engine) { return engine == v1::Resource::ENGINE_MARIADB; }

absl::StatusOr<std::unique_ptr<RaceCoordinator>> StartAssentd() {
  Assentd::Options options;
  options.cluster = kRaceCluster;
  options.extra = {"--sweep-interval=1s", "--recovery-patience=0s", "--log-level=warning"};
  absl::StatusOr<std::unique_ptr<Assentd>> assentd = Assentd::Start(std::move(options));
  if (!assentd.ok()) return assentd.status();
  return std::make_unique<RealCoordinator>(*std::move(assentd));
}

absl::StatusOr<std::unique_ptr<RaceRig>> RaceRig::Start(const RaceEngines& engines, bool binlog,
                                                        const StartRaceCoordinator& start_coordinator) {
  absl::StatusOr<TempDir> folder = TempDir::Create();
  if (!folder.ok()) return folder.status();
  std::unique_ptr<RaceRig> rig(new RaceRig(*std::move(folder)));
  for (int i = 0; i < kRaceServers; ++i) {
    DatabaseOptions options;
    options.mariadb = {"--max-connections=5000", "--innodb-buffer-pool-size=128M"};
    if (binlog) {
      options.mariadb.insert(options.mariadb.end(), {"--log-bin=binlog", absl::StrCat("--server-id=", i + 1)});
    }
    // The coordinator may fall behind the participants, and what it has not finished is prepared until then. Fewer
    // locks for each, so that the table of all locks stays small.
    options.postgres = {"max_connections=1000", "max_prepared_transactions=5000", "max_locks_per_transaction=16"};
    absl::StatusOr<std::unique_ptr<PrivateDatabase>> database = StartDatabase(engines[static_cast<size_t>(i)], options);
    if (!database.ok()) return database.status();
    rig->databases_[static_cast<size_t>(i)] = *std::move(database);
  }
  absl::StatusOr<std::unique_ptr<RaceCoordinator>> coordinator = start_coordinator();
  if (!coordinator.ok()) return coordinator.status();
  rig->coordinator_ = *std::move(coordinator);
  rig->api_ = std::make_unique<CoordinatorApi>(rig->coordinator_->address());
  for (int i = 0; i < kRaceServers; ++i) {
    if (absl::Status status = rig->SetUp(i); !status.ok()) return status;
  }
  return rig;
}

absl::Status RaceRig::StartCoordinator() {
  const absl::Status status = coordinator_->Start();
  api_ = std::make_unique<CoordinatorApi>(coordinator_->address());  // The old one's connection is broken.
  return status;
}

absl::Status RaceRig::SetUp(int server) {
  // `t` holds the transactions' rows; `noise` takes what is written over sessions that were reset.
  const absl::StatusOr<QueryResult> made =
      Sql(server,
          "CREATE SCHEMA race; CREATE TABLE race.t (gtrid VARCHAR(64) PRIMARY KEY);"
          "CREATE TABLE race.noise (made TIMESTAMP)");
  if (!made.ok()) return made.status();
  const std::string password_file = absl::StrCat(folder_.path(), "/", ResourceName(server), ".password");
  std::ofstream(password_file) << database(server).password() << "\n";
  v1::RegisterResourceRequest request;
  v1::Resource* const resource = request.mutable_resource();
  resource->set_name(ResourceName(server));
  DescribeResource(database(server), resource);
  resource->set_password_file(password_file);
  SetDuration(kRaceLease, resource->mutable_lease());
  grpc::ClientContext context;
  v1::RegisterResourceResponse response;
  return FromGrpcStatus(api_->resources()->RegisterResource(&context, request, &response));
}

absl::StatusOr<QueryResult> RaceRig::Sql(int server, absl::string_view sql) {
  absl::StatusOr<std::unique_ptr<BranchSession>> session = Connect(server);
  if (!session.ok()) return session.status();
  QueryResult result = (*session)->Query(sql);
  if (!result.ok()) return StatusOf(result.error, absl::StrCat("a statement on ", ResourceName(server)));
  return result;
}

}  // namespace assent
