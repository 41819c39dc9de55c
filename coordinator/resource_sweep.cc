// What a ResourceWorker does with its connection: sweeps, finishing branches, forgetting witnesses.
//
// The order is the law (docs/decisions/0007-how-recovery-proves.md): first the prepared list, then the records, and the
// act itself looks at the prepared list again. So a branch without a record when it is looked up never had one when it
// was prepared.
#include <glog/logging.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/fault_point.h"
#include "base/timestamp.h"
#include "base/xid.h"
#include "coordinator/resource_strays.h"
#include "coordinator/resource_worker.h"
#include "resource_manager/witness.h"

namespace assent {
namespace {

constexpr int kMaxReported = 1000;
// The first branches must not wait for thousands of others.
constexpr size_t kFirstBatch = 100;
constexpr int kWitnessPage = 1000;
// Witnesses that whoever should have deleted them did not live to delete are found within this.
constexpr absl::Duration kRefillInterval = absl::Minutes(10);
constexpr absl::Duration kFirstRetry = absl::Seconds(1);
constexpr absl::Duration kLongestRetry = absl::Seconds(30);
// Until a server that took no writes is asked for one again.
constexpr absl::Duration kWriteRetry = absl::Minutes(1);
constexpr absl::Duration kEpochInterval = absl::Minutes(1);
constexpr absl::Duration kNoteRetry = absl::Seconds(5);

}  // namespace

BranchTask ResourceWorker::TaskOf(const OpenBranch& open) {
  const v1::Branch& branch = open.branch();
  BranchTask task;
  task.xid = {open.global->gtrid(), branch.bqual()};
  task.one_phase = branch.one_phase();
  task.decision = branch.one_phase() ? v1::DECISION_COMMIT : open.global->decision();
  task.voted_prepared = branch.vote() == v1::VOTE_KIND_PREPARED;
  task.of_other_server = !branch.server().empty() && branch.server() != resource_.server();
  task.before_acceptance =
      resource_.has_accept_time() && GetTime(branch.create_time()) < GetTime(resource_.accept_time());
  // Of a record that is closed nothing more can be put down, and nothing more is said. Who says that he has prepared
  // must also say that he has left a witness.
  task.unwitnessed =
      branch.witness_missing() || (!IsOrphan(open) && !IsOpen(branch)) || (task.voted_prepared && !branch.witnessed());
  if (branch.has_session()) task.session = branch.session();
  if (!branch.witness_table().empty()) {
    absl::StatusOr<WitnessTable> witness = WitnessTable::Parse(branch.witness_table());
    if (witness.ok()) task.witness = *std::move(witness);
  }
  task.created = GetTime(branch.create_time());
  task.may_kill = resource_.kill_after_lease() != v1::KILL_AFTER_LEASE_DISABLED;
  MutexLock lock(&mutex_);
  const auto attempt = attempts_.find(open.key());
  const auto ghost = ghosts_seen_.find(open.key());
  // A branch that is finished, or never was on record, has no participant that could claim a lease; but one that is not
  // prepared may be about to be.
  const Mono::time_point since = attempt != attempts_.end()    ? attempt->second.first_seen
                                 : ghost != ghosts_seen_.end() ? ghost->second
                                                               : Mono::time_point::min();
  task.lease_over = since == Mono::time_point::min() ||
                    Mono::now() - since >= absl::ToChronoNanoseconds(GetDuration(resource_.lease()));
  return task;
}

absl::Status ResourceWorker::SweepOnce(bool dry_run, v1::ResourceReport* report) {
  // Before anything that has no record is rolled back, and soon after somebody has taken the server over.
  absl::optional<absl::Status> unfit;
  if (absl::Status status = LookAtServer(&unfit); !status.ok()) return status;
  absl::StatusOr<std::vector<RecoveredXid>> prepared = recovery_->ListPrepared();
  if (!prepared.ok()) return prepared.status();
  const absl::StatusOr<absl::optional<GhostCount>> ghosts = recovery_->CountGhosts();
  if (!ghosts.ok()) return ghosts.status();
  const int detached = *ghosts ? (*ghosts)->detached : -1;
  LOG_IF(WARNING, detached > 0) << "resource=" << name_ << " ghosts=" << detached
                                << " prepared engine transactions that the server has lost sight of; they hold their "
                                   "locks until they are repaired, or the server restarts";
  report->set_ghosts(detached);
  {
    MutexLock lock(&mutex_);
    status_.set_ghosts(detached);
  }
  // A witness table that cannot be read now would only be waited for again.
  if (unfit) {
    if (absl::Status status = AddGhosts(*ghosts, &*prepared); !status.ok()) return status;
  }
  if (absl::Status status = FinishStray(*prepared, dry_run, report); !status.ok()) return status;
  if (unfit && !dry_run) {
    const bool all = Mono::now() >= next_refill_;
    if (absl::Status status = ReadWitnesses(all); !status.ok()) return status;
    if (all) next_refill_ = Mono::now() + absl::ToChronoNanoseconds(kRefillInterval);
  }
  EndSweep(unfit);
  MutexLock lock(&mutex_);
  SetTime(clock_->Now(), status_.mutable_last_sweep_time());
  return absl::OkStatus();
}

absl::Status ResourceWorker::LookAtServer(absl::optional<absl::Status>* unfit) {
  if (absl::Status status = Claim(recovery_.get()); !status.ok()) return status;
  const absl::optional<WitnessTable> witness = WitnessOf(resource_);
  const absl::Status checked = witness ? recovery_->CheckWitness(*witness) : absl::OkStatus();
  if (checked.ok() || ReasonOf(checked) == Reason::RESOURCE_UNFIT) {
    *unfit = checked;
    return absl::OkStatus();
  }
  if (ReasonOf(checked) == Reason::DATABASE_UNREACHABLE) return checked;
  unfit->reset();
  LOG(WARNING) << "resource=" << name_ << " its witness table is looked at again later: " << ToText(checked);
  return absl::OkStatus();
}

void ResourceWorker::EndSweep(const absl::optional<absl::Status>& unfit) {
  const absl::Duration pause = Jittered(options_.sweep_interval);
  next_sweep_ = Mono::now() + absl::ToChronoNanoseconds(pause);
  if (!unfit) {
    // As it was; but it answers, and is the right one.
    if (Status().state() != v1::ResourceStatus::STATE_QUARANTINED) SetState(v1::ResourceStatus::STATE_OK, "");
  } else if (unfit->ok()) {
    registry_->SetQuarantine(name_, absl::OkStatus());
    SetState(v1::ResourceStatus::STATE_OK, "");
  } else {
    // Recovery goes on, but what begins here from now on could never be proven.
    const absl::Status why =
        MakeError(Reason::RESOURCE_QUARANTINED,
                  absl::StrCat(unfit->message(), ": no new branches there; `assentctl resources register ", name_,
                               " --replace` makes it again, and what is in doubt from before needs an operator's word"),
                  {{"resource", name_}});
    registry_->SetQuarantine(name_, why);
    SetState(v1::ResourceStatus::STATE_QUARANTINED, std::string(why.message()));
  }
  MutexLock lock(&mutex_);
  SetTime(clock_->Now() + pause, status_.mutable_next_attempt_time());
}

absl::Status ResourceWorker::FinishDue(bool all, bool dry_run, v1::ResourceReport* report) {
  std::vector<OpenBranch> due;
  {
    const Mono::time_point now = Mono::now();
    MutexLock lock(&mutex_);
    for (const auto& each : open_) {
      if (all || attempts_[each.first].next <= now) due.push_back(each.second);
    }
  }
  std::sort(due.begin(), due.end(), [](const OpenBranch& a, const OpenBranch& b) { return a.since() < b.since(); });
  size_t batch = kFirstBatch;
  for (size_t begin = 0; begin < due.size(); begin += batch, batch = BranchRecovery::kMaxTasks) {
    const std::vector<OpenBranch> part(due.begin() + begin, due.begin() + std::min(due.size(), begin + batch));
    ASSENT_FAULT_POINT(kRecoveryTaken);
    if (absl::Status status = Carry(part, dry_run, report); !status.ok()) return status;
    MutexLock lock(&mutex_);
    if (stopping_) break;
  }
  return absl::OkStatus();
}

absl::Status ResourceWorker::Carry(const std::vector<OpenBranch>& open, bool dry_run, v1::ResourceReport* report) {
  if (open.empty()) return absl::OkStatus();
  if (open.size() > BranchRecovery::kMaxTasks) {
    for (size_t begin = 0; begin < open.size(); begin += BranchRecovery::kMaxTasks) {
      const size_t end = std::min(open.size(), begin + BranchRecovery::kMaxTasks);
      if (absl::Status status = Carry({open.begin() + begin, open.begin() + end}, dry_run, report); !status.ok())
        return status;
    }
    return absl::OkStatus();
  }
  std::vector<BranchTask> tasks;
  for (const OpenBranch& each : open) tasks.push_back(TaskOf(each));
  const absl::StatusOr<std::vector<BranchFinding>> findings =
      dry_run ? recovery_->Examine(tasks) : recovery_->Finish(tasks);
  if (!findings.ok()) return findings.status();
  for (size_t i = 0; i < open.size(); ++i) {
    Report(open[i], (*findings)[i].evidence, report);
    renew_ = renew_ || (*findings)[i].lacks_privilege;
    if (!dry_run) Conclude(open[i], (*findings)[i]);
  }
  worked_ = worked_ || !dry_run;
  return absl::OkStatus();
}

void ResourceWorker::Report(const OpenBranch& open, const v1::Evidence& evidence, v1::ResourceReport* report) {
  const v1::XidReport::Kind kind = IsOrphan(open) ? v1::XidReport::KIND_ORPHAN : v1::XidReport::KIND_OURS;
  v1::XidReport* entry = AddReport(open.global->gtrid(), open.branch().bqual(), kFormatId, kind, report);
  if (entry == nullptr) return;
  entry->set_state(open.global->state());
  entry->set_decision(open.global->decision());
  *entry->mutable_evidence() = evidence;
  entry->set_action(evidence.done().empty()
                        ? evidence.detail()
                        : absl::StrCat(evidence.done(), evidence.detail().empty() ? "" : ": ", evidence.detail()));
}

void ResourceWorker::Conclude(const OpenBranch& open, const BranchFinding& finding) {
  const v1::Evidence& evidence = finding.evidence;
  const bool proven = ProvenCommitted(evidence.outcome()).has_value();
  if (!IsOpen(open.branch()) || IsOrphan(open)) {
    ConcludeStray(open, evidence);
    return;
  }
  {
    MutexLock lock(&mutex_);
    const auto attempt = attempts_.find(open.key());
    if (attempt != attempts_.end() && proven) {
      attempts_.erase(attempt);
      open_.erase(open.key());
    } else if (attempt != attempts_.end()) {
      Attempt& next = attempt->second;
      const absl::Duration pause =
          Jittered(std::min(kLongestRetry, kFirstRetry * std::pow(2.0, std::min(next.count, 10))));
      ++next.count;
      next.next = Mono::now() + absl::ToChronoNanoseconds(pause);
      const Mono::time_point lease_end = next.first_seen + absl::ToChronoNanoseconds(GetDuration(resource_.lease()));
      if (Mono::now() < lease_end) next.next = std::min(next.next, lease_end);
      next.next_step = evidence.detail().empty() ? "tries again" : evidence.detail();
      next.needs_operator = !finding.retry || finding.by_hand;
      if (!finding.retry) {
        absl::StrAppend(&next.next_step, "; then `assentctl resolve ", open.global->gtrid(), " ", open.branch().bqual(),
                        " --as committed|rolled-back`");
      }
      if (!next.alarmed && (next.needs_operator || clock_->Now() - open.since() > options_.alarm_age)) {
        next.alarmed = true;
        LOG(ERROR) << "gtrid=" << open.global->gtrid() << " bqual=" << open.branch().bqual() << " resource=" << name_
                   << " ALARM: in doubt since " << absl::FormatTime(open.since(), absl::UTCTimeZone()) << ": "
                   << next.next_step;
      }
    }
  }
  Store(open, evidence);
}

void ResourceWorker::Store(const OpenBranch& open, const v1::Evidence& evidence) {
  Event event;
  event.kind = EventKind::kEvidence;
  event.gtrid = open.global->gtrid();
  event.now = clock_->Now();
  event.bqual = open.branch().bqual();
  event.evidence = evidence;
  event.of_open_branch = IsOpen(open.branch());
  engine_->Submit(std::move(event), v1::WAIT_NONE, absl::InfiniteFuture(),
                  [gtrid = open.global->gtrid()](const absl::Status& status, const GlobalPtr&) {
                    LOG_IF(WARNING, !status.ok())
                        << "gtrid=" << gtrid << " evidence not stored yet: " << ToText(status);
                  });
}

absl::Status ResourceWorker::ForgetDue() {
  if (Mono::now() >= next_forget_) {
    if (absl::Status status = DeleteForgotten(); !status.ok()) return status;
  }
  if (!worked_ || Mono::now() < next_epoch_ || !IsActive()) return absl::OkStatus();
  return CountEpochUp();
}

absl::Status ResourceWorker::DeleteForgotten() {
  const absl::optional<WitnessTable> witness = WitnessOf(resource_);
  for (;;) {
    std::vector<Xid> batch;
    {
      MutexLock lock(&mutex_);
      const size_t count = std::min<size_t>(forget_.size(), kMaxWitnessesPerDelete);
      batch.assign(forget_.begin(), forget_.begin() + count);
      forget_.erase(forget_.begin(), forget_.begin() + count);
      if (stopping_) return absl::OkStatus();
    }
    if (batch.empty() || !witness) return absl::OkStatus();
    worked_ = true;
    ASSENT_FAULT_POINT(kRecoveryForgetBefore);
    // That they have ended was not forced to disk. A store that has lost that with its machine would look for these.
    absl::Status status = engine_->MakeDurable(batch.back().gtrid);
    if (status.ok()) status = recovery_->ForgetWitnesses(*witness, batch);
    if (!status.ok()) {
      // Found again by the next sweep after that.
      next_forget_ = next_refill_ = Mono::now() + absl::ToChronoNanoseconds(Jittered(kWriteRetry));
      if (ReasonOf(status) == Reason::DATABASE_UNREACHABLE) return status;
      LOG(WARNING) << "resource=" << name_ << " witnesses not deleted, tried again later: " << ToText(status);
      return absl::OkStatus();
    }
    ASSENT_FAULT_POINT(kRecoveryForgetOk);
  }
}

absl::Status ResourceWorker::CountEpochUp() {
  next_epoch_ = Mono::now() + absl::ToChronoNanoseconds(kEpochInterval);
  v1::Resource advanced = resource_;
  advanced.set_next_epoch(NextEpoch(resource_));
  absl::Status noted = Note(advanced);
  if (!noted.ok()) {
    // The store is away, or this instance has been: what was done here is to be counted all the same.
    next_epoch_ = Mono::now() + absl::ToChronoNanoseconds(kNoteRetry);
  } else {
    const absl::Status status = AdvanceEpoch(options_.claimant, recovery_.get(), &advanced);
    const absl::optional<Reason> reason = ReasonOf(status);
    if (reason == Reason::DATABASE_ERROR || reason == Reason::RESOURCE_UNFIT) {
      // The server answers, and takes no writes now (it is read-only, or a backup has it locked): what needs none goes
      // on. It stays the server that it was, and the epoch that it did not take is one that the store knows.
      LOG(WARNING) << "resource=" << name_ << " epoch not counted up, tried again later: " << ToText(status);
      return absl::OkStatus();
    }
    if (!status.ok()) return status;
    advanced.clear_next_epoch();
    noted = Note(advanced);
    worked_ = false;
  }
  // What the store knows is enough to know the server again.
  LOG_IF(WARNING, !noted.ok()) << "resource=" << name_ << " epoch not noted: " << ToText(noted);
  return absl::OkStatus();
}

absl::Status ResourceWorker::ReadWitnesses(bool all) {
  const absl::optional<WitnessTable> witness = WitnessOf(resource_);
  if (!witness) return absl::OkStatus();
  if (all) suspects_.clear();
  Xid after;
  for (;;) {
    const absl::StatusOr<std::vector<Xid>> page =
        recovery_->ListWitnesses(*witness, absl::StrCat(options_.claimant.cluster, "-"), after, kWitnessPage);
    if (!page.ok()) {
      if (ReasonOf(page.status()) == Reason::DATABASE_UNREACHABLE) return page.status();
      LOG(WARNING) << "resource=" << name_ << " witnesses cannot be listed: " << ToText(page.status());
      return absl::OkStatus();
    }
    bool forced = false;
    for (const Xid& xid : *page) {
      after = xid;
      if (!all && !IsOnePhaseWitness(xid) && suspects_.count(xid) == 0) continue;
      const absl::StatusOr<GlobalPtr> record = engine_->ReadAndWait(xid.gtrid);
      if (!record.ok()) return absl::OkStatus();
      if (*record != nullptr) {
        JudgeWitness(xid, *record);
      } else if (IsOnePhaseWitness(xid)) {
        const absl::Status status = forced ? absl::OkStatus() : recovery_->ForceWitnesses(*witness);
        if (ReasonOf(status) == Reason::DATABASE_UNREACHABLE) return status;
        LOG_IF(WARNING, !status.ok()) << "resource=" << name_
                                      << " one-phase commits are not recorded yet: " << ToText(status);
        if (!status.ok()) continue;
        forced = true;
        RecordOnePhase(xid);
      }
    }
    if (static_cast<int>(page->size()) < kWitnessPage) break;
  }
  MutexLock lock(&mutex_);
  contradicted_.insert(contradictions_.begin(), contradictions_.end());
  return absl::OkStatus();
}

void ResourceWorker::JudgeWitness(const Xid& witness, const GlobalPtr& record) {
  if (!IsFinished(record->state())) return;  // It is looked at for itself.
  const bool one_phase = IsOnePhaseWitness(witness);
  const std::string bqual = BranchOfOnePhase(witness).bqual;
  const absl::optional<int> index = IndexOf(record, bqual);
  const auto state = index ? record->branches(*index).state() : v1::Branch::STATE_UNSPECIFIED;
  // (What was HEURISTIC has been closed by somebody who knew.)
  const bool known = state == v1::Branch::STATE_COMMITTED || state == v1::Branch::STATE_HEURISTIC_COMMITTED ||
                     state == v1::Branch::STATE_HEURISTIC_ROLLED_BACK;
  if (known && record->branches(*index).one_phase() == one_phase) return Forget(witness);
  suspects_.insert(witness);
  auto shown = std::make_shared<v1::Global>(*record);
  if (!index) {
    v1::Branch* const unknown = shown->add_branches();
    unknown->set_bqual(bqual);
    unknown->set_resource(name_);
  }
  Contradict({std::move(shown), index.value_or(record->branches_size())},
             absl::StrCat("an operator must look: ",
                          one_phase ? "its participant committed it in one phase" : "somebody has committed it",
                          " (the witness is there), and its record says ", v1::Global::State_Name(record->state()),
                          "; correct the data by hand, and delete the row (", record->gtrid(), ", ", witness.bqual,
                          ") from ", WitnessOf(resource_)->name()));
}

// Its participant told its client, or died before it could; the report is on its way, or lost.
void ResourceWorker::RecordOnePhase(const Xid& witness) {
  Event event;
  event.kind = EventKind::kComplete;
  event.gtrid = witness.gtrid;
  event.now = clock_->Now();
  event.bqual = BranchOfOnePhase(witness).bqual;
  event.result = v1::Completion::RESULT_COMMITTED;
  event.creates = true;
  event.age = std::max(absl::ZeroDuration(), event.now - BirthOf(witness.gtrid).value_or(event.now));
  NewBranch branch;
  branch.bqual = event.bqual;
  branch.resource = name_;
  branch.witness_table = WitnessOf(resource_)->name();
  branch.server = resource_.server();
  event.branches.push_back(std::move(branch));
  engine_->Submit(std::move(event), v1::WAIT_NONE, absl::InfiniteFuture(),
                  [gtrid = witness.gtrid](const absl::Status& status, const GlobalPtr&) {
                    LOG_IF(WARNING, !status.ok())
                        << "gtrid=" << gtrid << " one-phase commit not recorded yet: " << ToText(status);
                  });
}

}  // namespace assent
