// CrashLane: runs cells of the crash matrix one after the other, with two database servers and a coordinator of its
// own.
#ifndef ASSENT_TESTS_RECOVERY_CRASH_LANE_H_
#define ASSENT_TESTS_RECOVERY_CRASH_LANE_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "tests/recovery/crash_matrix.h"
#include "tests/recovery/recovery_rig.h"

namespace assent {

// What came of a cell.
struct CellResult {
  Ending ending = Ending::kNoSuchCell;  // kCommitted or kRolledBack; kNoSuchCell: it did not end.
  std::string gtrid;
  bool first_only = false;  // Only the first branch has written.
  std::string problem;      // Empty: it ended as it must.
};

// Thread-compatible; lanes are independent of each other.
class CrashLane {
 public:
  // `binary_log`: whether both servers write one.
  static absl::StatusOr<std::unique_ptr<CrashLane>> Start(bool binary_log);

  CellResult Run(const Row& row, Disaster disaster);
  // Once all cells have run: kills both servers with -9, starts them again, and looks at everything once more. Answers
  // the problems.
  std::vector<std::string> LookAgain();

 private:
  // The transaction in the middle of its disaster.
  struct Cell {
    const Row& row;
    Disaster disaster;
    std::string gtrid;
    std::string hold;       // The file that says "here I am", and keeps the process there.
    std::string result;     // The participant's.
    pid_t participant = 0;  // 0: it does not run.
  };

  CrashLane(std::unique_ptr<RecoveryRig> rig, bool binary_log) : rig_(std::move(rig)), binary_log_(binary_log) {}

  // An error says what went wrong.
  absl::Status Begin(Cell* cell);
  absl::Status SpawnParticipant(Cell* cell, const std::string& fault);
  absl::Status SetScene(Cell* cell);
  void PrepareOrphan(const Cell& cell);
  // Strikes, lets the held process go on, and brings back what was killed.
  absl::Status Strike(Cell* cell);
  void DropConnections(int server);
  absl::Status AwaitEnd(Cell* cell);
  // What the databases and the record say in the end.
  absl::Status Judge(const Cell& cell, CellResult* result);
  absl::Status JudgeRecord(const v1::GetGlobalResponse& record, Ending ending);
  absl::Status AwaitHeld(const std::string& file);
  void KillParticipant(Cell* cell);
  absl::Status SuspendParticipant(Cell* cell);
  bool IsPrepared(int server, const std::string& gtrid);
  // Of the second branch, or as many as the first one has if that only reads; -1: it has written all the same.
  int RowsOfSecond(const Cell& cell);
  absl::Status BringBackEverything();

  const std::unique_ptr<RecoveryRig> rig_;
  const bool binary_log_;
  std::vector<CellResult> results_;
};

}  // namespace assent

#endif  // ASSENT_TESTS_RECOVERY_CRASH_LANE_H_
