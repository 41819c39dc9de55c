#include "tests/race/race.h"

#include <map>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "tests/race/referee.h"

namespace assent {
namespace {

constexpr absl::Duration kLook = absl::Milliseconds(200);
constexpr absl::Duration kProgress = absl::Seconds(3);

class Race {
 public:
  explicit Race(const RaceOptions& options) : options_(options) {}

  absl::StatusOr<RaceReport> Run() {
    absl::StatusOr<std::unique_ptr<RaceRig>> rig =
        RaceRig::Start(options_.engines, options_.binlog, options_.start_coordinator);
    if (!rig.ok()) return rig.status();
    rig_ = *std::move(rig);
    referee_ = std::make_unique<RaceReferee>(rig_.get());
    absl::Status status = Load();
    if (status.ok()) status = Restart();
    if (!status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat(ToText(status), "\nthe coordinator's last words: ", rig_->LastWords()));
    }
    for (const auto& [gtrid, what] : referee_->violations()) {
      report_.violations.push_back(absl::StrCat(gtrid, ": ", what));
    }
    for (const auto& [gtrid, what] : unfinished_) report_.unfinished.push_back(absl::StrCat(gtrid, ": ", what));
    report_.committed = referee_->committed();
    report_.rolled_back = referee_->rolled_back();
    report_.ghosts_healed = referee_->healed();
    report_.came_back = referee_->came_back();
    return report_;
  }

 private:
  // The participants' part, until all has finished as far as it can without a restart.
  absl::Status Load() {
    begin_ = absl::Now();
    RaceParticipants participants(rig_.get(), options_.load);
    absl::Status joined;
    std::thread joiner([&] { joined = participants.Join(); });
    absl::Status status;
    while (status.ok()) {
      const bool last = participants.done();
      referee_->Expect(participants.TakeDecided());
      status = referee_->LookAtReports();
      ShowProgress(participants.decided());
      if (last) break;
      absl::SleepFor(kLook);
    }
    joiner.join();
    if (!joined.ok()) return joined;
    // A ghost that cannot be finished online is the one thing that may wait, and only where there is no binary log.
    if (status.ok()) status = AwaitAll(/*or_waiting=*/!options_.binlog);
    report_.transactions = participants.decided();
    report_.meddled = participants.meddled();
    report_.disturbed = participants.disturbed();
    report_.elapsed = absl::Now() - begin_;
    report_.waited_for_restart = participants.decided() - referee_->finished();
    if (status.ok()) status = referee_->CheckRows("before the restart");
    if (status.ok()) status = referee_->CheckGhosts();
    return status;
  }

  absl::Status Restart() {
    rig_->StopCoordinator();
    for (int i = 0; i < kRaceServers; ++i) rig_->database(i).Kill9();
    for (int i = 0; i < kRaceServers; ++i) {
      if (absl::Status status = rig_->database(i).Restart(); !status.ok()) return status;
    }
    absl::Status status = referee_->CheckPreparedAfterRestart();
    if (status.ok()) status = rig_->StartCoordinator();
    if (status.ok()) status = AwaitAll(/*or_waiting=*/false);
    if (status.ok()) status = AwaitNothingPrepared();
    if (status.ok()) status = referee_->CheckNothingPrepared();
    if (status.ok()) status = referee_->CheckRows("after the restart");
    return status;
  }

  absl::Status AwaitAll(bool or_waiting) {
    const absl::Time give_up = absl::Now() + options_.patience;
    for (;;) {
      if (absl::Status status = referee_->LookAtReports(); !status.ok()) return status;
      ShowProgress(options_.load.transactions);
      const absl::StatusOr<bool> finished = referee_->AllFinished(or_waiting);
      if (!finished.ok() || *finished) return finished.status();
      if (absl::Now() > give_up) break;
      absl::SleepFor(kLook);
    }
    const absl::StatusOr<std::map<std::string, std::string>> unfinished = referee_->Unfinished();
    if (!unfinished.ok()) return unfinished.status();
    unfinished_.insert(unfinished->begin(), unfinished->end());
    return absl::OkStatus();
  }

  absl::Status AwaitNothingPrepared() {
    const absl::Time give_up = absl::Now() + options_.patience;
    for (;;) {
      const absl::StatusOr<int> prepared = referee_->CountPrepared();
      if (!prepared.ok() || *prepared == 0 || absl::Now() > give_up) return prepared.status();
      absl::SleepFor(kLook);
    }
  }

  void ShowProgress(int64_t decided) {
    if (absl::Now() - shown_ < kProgress) return;
    const double seconds = absl::ToDoubleSeconds(absl::Now() - begin_);
    if (shown_ != absl::InfinitePast()) {
      options_.progress(absl::StrFormat(
          "%.0f s: %d of %d decided, %d finished (%.0f transactions/s since the last line), %d violations", seconds,
          decided, options_.load.transactions, referee_->finished(),
          static_cast<double>(referee_->finished() - shown_finished_) / absl::ToDoubleSeconds(absl::Now() - shown_),
          referee_->violations().size()));
    }
    shown_ = absl::Now();
    shown_finished_ = referee_->finished();
  }

  const RaceOptions& options_;
  std::unique_ptr<RaceRig> rig_;
  std::unique_ptr<RaceReferee> referee_;
  RaceReport report_;
  std::map<std::string, std::string> unfinished_;
  absl::Time begin_;
  absl::Time shown_ = absl::InfinitePast();
  int64_t shown_finished_ = 0;
};

}  // namespace

absl::StatusOr<RaceReport> RunRace(const RaceOptions& options) { return Race(options).Run(); }

}  // namespace assent
