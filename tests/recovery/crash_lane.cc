#include "tests/recovery/crash_lane.h"

#include <glog/logging.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/xid.h"
#include "resource_manager/database_engine.h"
#include "tests/fixtures/process.h"

namespace assent {
namespace {

constexpr absl::Duration kLease = absl::Seconds(1);
// Longer than a cell holds a participant that is prepared and goes on.
constexpr absl::Duration kOrphanAge = absl::Seconds(3);
// How long a sleeper sleeps at least.
constexpr absl::Duration kSleep = absl::Seconds(2);
constexpr absl::Duration kRestartDelay = absl::Milliseconds(200);
// Of a transaction that nobody will decide, so that the deadline must; and of one for which it must not come.
constexpr absl::Duration kShortTimeout = absl::Seconds(5);
constexpr absl::Duration kLongTimeout = absl::Minutes(5);
constexpr absl::Duration kPatience = absl::Seconds(60);

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

std::string FaultAt(FaultPoint point, int nth, const std::string& file) {
  return absl::StrCat("ASSENT_FAULT_POINT=", InfoOf(point).name, ":", nth, ":", file);
}

bool StrikesParticipant(Disaster disaster) {
  return disaster == Disaster::kKillParticipant || disaster == Disaster::kSuspendParticipant;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

absl::StatusOr<std::unique_ptr<CrashLane>> CrashLane::Start(bool binary_log) {
  RecoveryRig::Options options;
  if (binary_log) options.database_options.mariadb = {"--log-bin"};
  options.lease = kLease;
  options.orphan_age = kOrphanAge;
  options.coordinator.program = "tests/recovery/assentd_with_fault_points";
  options.coordinator.extra = {"--sweep-interval=200ms"};
  absl::StatusOr<std::unique_ptr<RecoveryRig>> rig = RecoveryRig::Start(std::move(options));
  if (!rig.ok()) return rig.status();
  return std::unique_ptr<CrashLane>(new CrashLane(*std::move(rig), binary_log));
}

CellResult CrashLane::Run(const Row& row, Disaster disaster) {
  const std::string gtrid = NewGtrid("test", absl::Now());
  const std::string path = absl::StrCat(rig_->folder(), "/", gtrid);
  Cell cell{row, disaster, gtrid, path + ".hold", path + ".result", 0};
  CellResult result;
  result.gtrid = cell.gtrid;
  result.first_only = row.flow == Flow::kCommitOne;
  absl::Status status = Begin(&cell);
  if (status.ok()) status = AwaitHeld(cell.hold);
  if (row.flow == Flow::kCommitOne) cell.gtrid = result.gtrid = ReadFile(cell.result + ".gtrid");
  if (status.ok()) status = Strike(&cell);
  if (status.ok()) status = AwaitEnd(&cell);
  if (status.ok()) status = Judge(cell, &result);
  if (!status.ok()) {
    result.problem = absl::StrCat(
        status.message(), binary_log_ ? " (with binary log)" : "", "\n", rig_->Global(cell.gtrid).DebugString(),
        "\nparticipant: ", ReadTail(cell.result + ".log"), "\ncoordinator: ", rig_->coordinator().OutputTail());
    KillParticipant(&cell);
    std::remove(cell.hold.c_str());
    BringBackEverything().IgnoreError();
  }
  results_.push_back(result);
  return result;
}

absl::Status CrashLane::Begin(Cell* cell) {
  if (absl::Status status = BringBackEverything(); !status.ok()) return status;
  const std::string fault = FaultAt(cell->row.point, cell->row.nth, cell->hold);
  const bool of_participant = IsOfParticipant(cell->row.point);
  // What the cell before left to be forgotten would pass recovery's points, too.
  const bool forgotten =
      RecoveryRig::AwaitTrue([this] { return rig_->AllWitnesses(0) + rig_->AllWitnesses(1) == 0; }, kPatience);
  if (!forgotten) return absl::InternalError("witnesses of finished transactions are left");
  if (!of_participant) {
    rig_->coordinator().set_environment({fault});
    if (absl::Status status = rig_->coordinator().Restart(); !status.ok()) return status;
    rig_->coordinator().set_environment({});
  }
  if (cell->row.flow == Flow::kOrphan) {
    PrepareOrphan(*cell);
    return absl::OkStatus();
  }
  const bool before_prepare = cell->row.scene == Scene::kParticipantStoppedBeforePrepare;
  const bool set_scene =
      before_prepare || cell->row.scene == Scene::kParticipantDied || cell->row.scene == Scene::kParticipantStopped;
  const std::string scene =
      FaultAt(before_prepare ? FaultPoint::kSdkPrepareBefore : FaultPoint::kSdkFinishBefore, 1, cell->hold + ".scene");
  if (absl::Status status = SpawnParticipant(cell, of_participant ? fault : set_scene ? scene : ""); !status.ok()) {
    return status;
  }
  return set_scene ? SetScene(cell) : absl::OkStatus();
}

absl::Status CrashLane::SpawnParticipant(Cell* cell, const std::string& fault) {
  const absl::StatusOr<std::string> program = FindBuiltProgram("tests/recovery/crash_participant_with_fault_points");
  if (!program.ok()) return program.status();
  // Only where the deadline must end it is it short.
  const bool deadline_ends_it = cell->row.scene == Scene::kParticipantStoppedBeforePrepare ||
                                (EndingOf(cell->row, cell->disaster) == Ending::kRolledBack &&
                                 cell->row.scene == Scene::kParticipantRuns && StrikesParticipant(cell->disaster));
  std::vector<std::string> argv = {"/usr/bin/env"};
  if (!fault.empty()) argv.push_back(fault);
  argv.insert(argv.end(),
              {*program, rig_->coordinator().address(), cell->gtrid, std::string(Name(cell->row.flow)),
               absl::StrCat(absl::ToInt64Milliseconds(deadline_ends_it ? kShortTimeout : kLongTimeout)), cell->result});
  for (int i = 0; i < 2; ++i) {
    const PrivateDatabase& database = rig_->database(i);
    argv.insert(argv.end(), {std::string(FindDatabaseEngine(database.engine())->word), database.unix_address(),
                             database.user(), database.database(), rig_->PasswordFile(i)});
  }
  SpawnOptions options;
  options.output_path = cell->result + ".log";
  const absl::StatusOr<pid_t> pid = Spawn(argv, options);
  if (!pid.ok()) return pid.status();
  cell->participant = *pid;
  return absl::OkStatus();
}

absl::Status CrashLane::SetScene(Cell* cell) {
  const std::string file = cell->hold + ".scene";
  if (absl::Status status = AwaitHeld(file); !status.ok()) return status;
  if (cell->row.scene == Scene::kParticipantDied) {
    KillParticipant(cell);
  } else if (absl::Status status = SuspendParticipant(cell); !status.ok()) {
    return status;
  }
  std::remove(file.c_str());
  return absl::OkStatus();
}

void CrashLane::PrepareOrphan(const Cell& cell) {
  RawBranch orphan{0, {cell.gtrid, "b1"}, rig_->Connect(0)};
  rig_->Prepare(&orphan);
  orphan.session->Abandon();
}

absl::Status CrashLane::AwaitHeld(const std::string& file) {
  if (RecoveryRig::AwaitTrue([&] { return Exists(file); }, kPatience)) return absl::OkStatus();
  return absl::InternalError("the point was never reached");
}

absl::Status CrashLane::Strike(Cell* cell) {
  const bool both = cell->row.scene != Scene::kParticipantRuns;
  const int first = cell->row.nth == 1 ? 0 : 1;
  switch (cell->disaster) {
    case Disaster::kKillParticipant: KillParticipant(cell); break;
    case Disaster::kSuspendParticipant:
      if (absl::Status status = SuspendParticipant(cell); !status.ok()) return status;
      break;
    case Disaster::kKillCoordinator: rig_->coordinator().Kill9(); break;
    case Disaster::kKillDatabase:
      rig_->database(first).Kill9();
      if (both) rig_->database(1 - first).Kill9();
      break;
    case Disaster::kDropConnections:
      for (int i = 0; i < 2; ++i) DropConnections(i);
      break;
  }
  std::remove(cell->hold.c_str());
  absl::SleepFor(kRestartDelay);
  return BringBackEverything();
}

absl::Status CrashLane::BringBackEverything() {
  for (int i = 0; i < 2; ++i) {
    if (rig_->database(i).running()) continue;
    if (absl::Status status = rig_->database(i).Restart(); !status.ok()) return status;
  }
  return rig_->coordinator().running() ? absl::OkStatus() : rig_->coordinator().Restart();
}

void CrashLane::DropConnections(int server) {
  const v1::Resource::Engine engine = EngineOfServer(server);
  const std::unique_ptr<BranchSession> session = rig_->Connect(server);
  const QueryResult others = session->Query(OtherSessionsSql(engine));
  CHECK(others.ok()) << others.error.message;
  for (const auto& row : others.rows()) session->Query(KillSql(*row[0], engine));
}

absl::Status CrashLane::AwaitEnd(Cell* cell) {
  // Whoever sleeps sleeps until everything is over without him.
  const absl::Time awake = absl::Now() + kSleep;
  v1::GetGlobalResponse last;
  const auto over = [&] {
    if (cell->row.flow == Flow::kOrphan) return !IsPrepared(0, cell->gtrid);
    const absl::StatusOr<v1::GetGlobalResponse> now = rig_->api().GetGlobal(cell->gtrid);
    if (now.ok()) last = *now;
    const bool idle = cell->participant == 0 || cell->disaster == Disaster::kSuspendParticipant;
    if (IsAlone(cell->row.flow) && idle && ReasonOf(now.status()) == Reason::GLOBAL_NOT_FOUND) {
      // Never to be on record; or not yet.
      return !IsPrepared(0, cell->gtrid) && !IsPrepared(1, cell->gtrid) &&
             (cell->row.flow != Flow::kCommitOne || rig_->Rows(0, cell->gtrid) == 0);
    }
    return last.outcome() == v1::OUTCOME_COMMITTED || last.outcome() == v1::OUTCOME_ROLLED_BACK ||
           last.global().state() == v1::Global::STATE_HEURISTIC;
  };
  if (!RecoveryRig::AwaitTrue(over, kPatience)) return absl::InternalError("the transaction has not ended");
  // At once, not some time later: a false report is not made good by a sweep.
  if (last.outcome() == v1::OUTCOME_COMMITTED && rig_->Rows(0, cell->gtrid) + RowsOfSecond(*cell) != 2) {
    return absl::InternalError("the record said COMMITTED before the rows were there");
  }
  if (cell->participant == 0) return absl::OkStatus();
  if (cell->disaster == Disaster::kSuspendParticipant || cell->row.scene == Scene::kParticipantStopped ||
      cell->row.scene == Scene::kParticipantStoppedBeforePrepare) {
    absl::SleepFor(awake - absl::Now());
    kill(cell->participant, SIGCONT);
  }
  const absl::optional<int> code = WaitForExit(cell->participant, kPatience);
  if (!code) return absl::InternalError("the participant has not ended");
  cell->participant = 0;
  return *code == 0 ? absl::OkStatus() : absl::InternalError(absl::StrCat("the participant ended with ", *code));
}

absl::Status CrashLane::Judge(const Cell& cell, CellResult* result) {
  const auto nothing_prepared = [&] { return !IsPrepared(0, cell.gtrid) && !IsPrepared(1, cell.gtrid); };
  if (!RecoveryRig::AwaitTrue(nothing_prepared, kPatience)) return absl::InternalError("a branch is still prepared");
  const int rows[] = {rig_->Rows(0, cell.gtrid), RowsOfSecond(cell)};
  if (rows[0] != rows[1]) return absl::InternalError(absl::StrCat("rows: ", rows[0], " and ", rows[1]));
  const Ending ending = rows[0] == 1 ? Ending::kCommitted : Ending::kRolledBack;
  result->ending = ending;
  const bool has_record = rig_->api().GetGlobal(cell.gtrid).ok();
  const bool may_have_none = IsAlone(cell.row.flow) && ending == Ending::kRolledBack;
  if (cell.row.flow != Flow::kOrphan && (has_record || !may_have_none)) {
    if (absl::Status status = JudgeRecord(rig_->Global(cell.gtrid), ending); !status.ok()) return status;
  }
  const std::string told = ReadFile(cell.result);
  const absl::string_view contrary = ending == Ending::kCommitted ? "ROLLED_BACK" : "COMMITTED";
  if (absl::StartsWith(told, contrary) || absl::StartsWith(told, "CONTRADICTION")) {
    return absl::InternalError(absl::StrCat("it ended ", Shown(ending), ", but the participant was told ", told));
  }
  const Ending expected = EndingOf(cell.row, cell.disaster);
  if (expected != Ending::kEither && expected != ending) {
    return absl::InternalError(absl::StrCat("it ended ", Shown(ending), ", not ", Shown(expected), "; told ", told));
  }
  return absl::OkStatus();
}

absl::Status CrashLane::JudgeRecord(const v1::GetGlobalResponse& record, Ending ending) {
  const v1::Outcome outcome = ending == Ending::kCommitted ? v1::OUTCOME_COMMITTED : v1::OUTCOME_ROLLED_BACK;
  if (record.outcome() != outcome) {
    return absl::InternalError(
        absl::StrCat("the record says ", v1::Outcome_Name(record.outcome()), ", the rows ", v1::Outcome_Name(outcome)));
  }
  for (const v1::Branch& branch : record.global().branches()) {
    if (branch.vote() != v1::VOTE_KIND_PREPARED && !branch.one_phase()) continue;
    // On record because it was reported, or found, committed.
    if (branch.one_phase() && branch.evidence().empty() && ending == Ending::kCommitted) continue;
    const bool reported = std::any_of(record.global().history().begin(), record.global().history().end(),
                                      [&](const v1::HistoryEntry& entry) {
                                        return entry.event() == v1::HistoryEntry::EVENT_COMPLETED &&
                                               absl::StartsWith(entry.detail(), absl::StrCat(branch.bqual(), " "));
                                      });
    if (reported) continue;
    if (branch.evidence().empty()) return absl::InternalError("no evidence for " + branch.bqual());
    const v1::BranchOutcome found = branch.evidence().rbegin()->outcome();
    const bool proven = ending == Ending::kCommitted
                            ? found == v1::BRANCH_OUTCOME_COMMITTED
                            : found == v1::BRANCH_OUTCOME_ROLLED_BACK || found == v1::BRANCH_OUTCOME_NEVER_PREPARED;
    if (!proven) return absl::InternalError("evidence of another outcome for " + branch.bqual());
  }
  return absl::OkStatus();
}

int CrashLane::RowsOfSecond(const Cell& cell) {
  const int rows = rig_->Rows(1, cell.gtrid);
  if (cell.row.flow != Flow::kCommitOne) return rows;
  return rows == 0 ? rig_->Rows(0, cell.gtrid) : -1;
}

void CrashLane::KillParticipant(Cell* cell) {
  if (cell->participant == 0) return;
  kill(cell->participant, SIGKILL);
  WaitForExit(cell->participant, absl::InfiniteDuration());
  cell->participant = 0;
}

absl::Status CrashLane::SuspendParticipant(Cell* cell) {
  if (Suspend(cell->participant)) return absl::OkStatus();
  KillParticipant(cell);
  return absl::InternalError("the participant ended instead of stopping");
}

bool CrashLane::IsPrepared(int server, const std::string& gtrid) {
  const auto session = rig_->TryConnect(server);
  if (!session.ok()) return true;
  const auto xids = (*session)->Recover();
  return !xids.ok() ||
         std::any_of(xids->begin(), xids->end(), [&](const RecoveredXid& xid) { return xid.gtrid == gtrid; });
}

std::vector<std::string> CrashLane::LookAgain() {
  for (int i = 0; i < 2; ++i) rig_->database(i).Kill9();
  std::vector<std::string> problems;
  if (absl::Status status = BringBackEverything(); !status.ok()) return {std::string(status.message())};
  // Rollbacks need not have been on disk: what came back is rolled back once more.
  for (const CellResult& cell : results_) {
    const auto gone = [&] { return !IsPrepared(0, cell.gtrid) && !IsPrepared(1, cell.gtrid); };
    if (!RecoveryRig::AwaitTrue(gone, kPatience)) problems.push_back(cell.gtrid + " is prepared after a restart");
    if (cell.ending == Ending::kNoSuchCell) continue;
    const int expected = cell.ending == Ending::kCommitted ? 1 : 0;
    for (int i = 0; i < 2; ++i) {
      const int here = cell.first_only && i == 1 ? 0 : expected;
      if (rig_->Rows(i, cell.gtrid) != here) problems.push_back(cell.gtrid + " has changed after a restart");
    }
  }
  if (!RecoveryRig::AwaitTrue([this] { return rig_->AllWitnesses(0) + rig_->AllWitnesses(1) == 0; }, kPatience)) {
    problems.push_back("witnesses of finished transactions are left");
  }
  return problems;
}

}  // namespace assent
