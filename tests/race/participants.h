// RaceParticipants: threads that run transactions with a branch on each server, and leave every branch as soon as it is
// prepared and voted: they close its connection, drop it, or reset it and go on with it (on PostgreSQL: DISCARD ALL, as
// its poolers do). None is finished by them.
#ifndef ASSENT_TESTS_RACE_PARTICIPANTS_H_
#define ASSENT_TESTS_RACE_PARTICIPANTS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/xid.h"
#include "participant_sdk/cpp/coordinator_connection.h"
#include "tests/race/race_rig.h"

namespace assent {

struct RaceLoad {
  int threads = 32;
  int64_t transactions = 8000;
  uint64_t seed = 1;
  // Of all transactions.
  double rollback_fraction = 0.15;
  // Of all branches: reset, and then finished, as decided, by somebody on another session who knows nothing of Assent.
  // MariaDB answers OK to that and does nothing: a ghost. PostgreSQL does it.
  double ghost_fraction = 0.005;
};

// A transaction whose initiator was told of the decision.
struct DecidedRace {
  std::string gtrid;
  v1::Decision decision = v1::DECISION_UNSPECIFIED;
};

// Thread-safe.
class RaceParticipants {
 public:
  // Starts at once. `rig` must outlive it.
  RaceParticipants(RaceRig* rig, const RaceLoad& load);
  // Stops early if it must.
  ~RaceParticipants();

  // Waits until all transactions are decided and all connections closed. The first error, if a participant could not go
  // on.
  absl::Status Join();
  // Those that were decided since the last call.
  std::vector<DecidedRace> TakeDecided();
  int64_t decided() const { return decided_; }
  // OKs to XA COMMIT and XA ROLLBACK (COMMIT PREPARED, …) of somebody else.
  int64_t meddled() const { return meddled_; }
  // Sessions that were ended while they were used for something else, though PREPARE had let go of their branches.
  int64_t disturbed() const { return disturbed_; }
  bool done() const { return done_; }

 private:
  using SessionPtr = std::unique_ptr<BranchSession>;
  // A branch that is prepared. MariaDB's session must not know, or it would refuse to be misused.
  struct Prepared {
    int server = 0;
    Xid xid;
    SessionPtr session;
    int socket = -1;  // The session's.
    bool meddle = false;
  };
  // A reset session that is used for something else, and closed later.
  struct Lingering {
    absl::Time until;
    std::shared_ptr<BranchSession> session;
    bool operator<(const Lingering& other) const { return until > other.until; }  // The earliest comes first.
  };

  void RunThread(int number);
  absl::Status RunOne(std::mt19937_64* random);
  static absl::Status PrepareXa(const v1::Branch& branch, Prepared* prepared);
  static absl::Status PreparePostgres(Prepared* prepared);
  absl::StatusOr<Prepared> Prepare(int server, const v1::Global& global, const v1::Branch& branch);
  absl::Status Vote(const std::vector<Prepared>& branches);
  absl::StatusOr<v1::Decision> Decide(const std::string& gtrid, v1::Decision decision);
  void Leave(Prepared* branch, std::mt19937_64* random);
  void Meddle(const Prepared& branch, v1::Decision decision);
  void LingerOn(SessionPtr session, absl::Duration time);
  void RunLingering();

  RaceRig* const rig_;
  const RaceLoad load_;
  CoordinatorConnection coordinator_;
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> decided_{0};
  std::atomic<int64_t> meddled_{0};
  std::atomic<int64_t> disturbed_{0};
  std::atomic<bool> stop_{false};
  std::atomic<bool> done_{false};

  Mutex mutex_;
  CondVar changed_;
  absl::Status error_ ABSL_GUARDED_BY(mutex_);
  std::vector<DecidedRace> fresh_ ABSL_GUARDED_BY(mutex_);
  std::priority_queue<Lingering> lingering_ ABSL_GUARDED_BY(mutex_);
  bool no_more_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
  std::thread lingerer_;
};

}  // namespace assent

#endif  // ASSENT_TESTS_RACE_PARTICIPANTS_H_
