// RaceRig: what a race is run on: two private database servers, and a coordinator that is told of them.
#ifndef ASSENT_TESTS_RACE_RACE_RIG_H_
#define ASSENT_TESTS_RACE_RACE_RIG_H_

#include <array>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "resource_manager/branch_session.h"
#include "tests/fixtures/coordinator_api.h"
#include "tests/fixtures/databases.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {

constexpr int kRaceServers = kTestServers;
using RaceEngines = std::array<v1::Resource::Engine, kRaceServers>;
constexpr char kRaceCluster[] = "race";
// Of the resources. Short, so that a race sees sessions end by themselves and others being killed.
constexpr absl::Duration kRaceLease = absl::Seconds(1);

// The coordinator that a race is run against. Thread-compatible.
class RaceCoordinator {
 public:
  virtual ~RaceCoordinator() = default;
  // host:port; stays the same.
  virtual std::string address() const = 0;
  // Nothing of it is left running when it returns.
  virtual void Stop() = 0;
  // Starts it again, on the same store.
  virtual absl::Status Start() = 0;
  // The end of its log, for messages.
  virtual std::string LastWords() const = 0;
};
// Starts one with the cluster kRaceCluster.
using StartRaceCoordinator = std::function<absl::StatusOr<std::unique_ptr<RaceCoordinator>>()>;

// True if a server of this engine can lose sight of a prepared branch: PREPARE does not let go of it, and so a reset
// makes a ghost.
bool MakesGhosts(v1::Resource::Engine engine);

// assentd, as a process of its own, that looks after branches as soon as they are decided. Stop is kill -9.
absl::StatusOr<std::unique_ptr<RaceCoordinator>> StartAssentd();

// Thread-compatible, but Connect may be called from any thread. All processes end with it.
class RaceRig {
 public:
  // `binlog`: of the servers that are MariaDB's.
  static absl::StatusOr<std::unique_ptr<RaceRig>> Start(const RaceEngines& engines, bool binlog,
                                                        const StartRaceCoordinator& start_coordinator);

  std::string coordinator_address() const { return coordinator_->address(); }
  void StopCoordinator() { coordinator_->Stop(); }
  absl::Status StartCoordinator();
  std::string LastWords() const { return coordinator_->LastWords(); }
  PrivateDatabase& database(int server) { return *databases_[static_cast<size_t>(server)]; }
  CoordinatorApi& api() { return *api_; }
  v1::Resource::Engine engine(int server) const { return databases_[static_cast<size_t>(server)]->engine(); }
  static std::string ResourceName(int server) { return server == 0 ? "left" : "right"; }

  absl::StatusOr<std::unique_ptr<BranchSession>> Connect(int server) { return OpenSession(database(server)); }
  ConnectOptions ConnectAs(int server) { return ConnectOptionsFor(database(server)); }
  // A statement on a session of its own.
  absl::StatusOr<QueryResult> Sql(int server, absl::string_view sql);

 private:
  explicit RaceRig(TempDir folder) : folder_(std::move(folder)) {}
  absl::Status SetUp(int server);

  const TempDir folder_;
  std::array<std::unique_ptr<PrivateDatabase>, kRaceServers> databases_;
  std::unique_ptr<RaceCoordinator> coordinator_;
  std::unique_ptr<CoordinatorApi> api_;
};

}  // namespace assent

#endif  // ASSENT_TESTS_RACE_RACE_RIG_H_
