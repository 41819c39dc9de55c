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
#include "coordinator/resource_worker.h"
#include "resource_manager/witness.h"

namespace assent {
namespace {

constexpr int kMaxReported = 1000;
// The first branches must not wait for thousands of others.
constexpr size_t kFirstBatch = 100;
constexpr int kWitnessPage = 1000;
constexpr absl::Duration kFirstRetry = absl::Seconds(1);
constexpr absl::Duration kLongestRetry = absl::Seconds(30);
constexpr absl::Duration kEpochInterval = absl::Minutes(1);

bool IsProven(v1::BranchOutcome outcome) {
  return outcome != v1::BRANCH_OUTCOME_UNSPECIFIED && outcome != v1::BRANCH_OUTCOME_STILL_PREPARED &&
         outcome != v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE;
}

// Ours by all three signs: the format id, the cluster's prefix, and ids as we make and accept them.
bool IsOurs(const RecoveredXid& xid, absl::string_view cluster) {
  return xid.format_id == kFormatId && HasClusterPrefix(xid.gtrid, cluster) && IsValidId(xid.gtrid) &&
         IsValidId(xid.bqual);
}

// As XidReport shows foreign bytes.
std::string Shown(const std::string& bytes) {
  for (const char c : bytes) {
    if (c < 0x20 || c > 0x7e) return absl::StrCat("0x", absl::BytesToHexString(bytes));
  }
  return bytes;
}

v1::XidReport* Report(const std::string& gtrid, const std::string& bqual, int64_t format_id, v1::XidReport::Kind kind,
                      v1::ResourceReport* report) {
  if (report == nullptr) return nullptr;
  if (report->xids_size() >= kMaxReported) {
    report->set_xids_omitted(report->xids_omitted() + 1);
    return nullptr;
  }
  v1::XidReport* entry = report->add_xids();
  entry->set_format_id(format_id);
  entry->set_gtrid(Shown(gtrid));
  entry->set_bqual(Shown(bqual));
  entry->set_kind(kind);
  entry->mutable_evidence()->set_prepared_before(v1::Evidence::SIGHTING_PRESENT);
  return entry;
}

// An xid of this cluster without a record is as one that was decided ROLLBACK (presumed abort).
OpenBranch PresumedAborted(const RecoveredXid& xid, const v1::Resource& resource) {
  auto global = std::make_shared<v1::Global>();
  global->set_gtrid(xid.gtrid);
  global->set_decision(v1::DECISION_ROLLBACK);
  v1::Branch* branch = global->add_branches();
  branch->set_bqual(xid.bqual);
  branch->set_resource(resource.name());
  if (const absl::optional<WitnessTable> witness = WitnessOf(resource)) branch->set_witness_table(witness->name());
  return {std::move(global), 0};
}

bool IsOrphan(const OpenBranch& open) { return open.global->revision() == 0; }

bool IsHeuristic(const v1::Branch& branch) {
  return branch.state() == v1::Branch::STATE_HEURISTIC_COMMITTED ||
         branch.state() == v1::Branch::STATE_HEURISTIC_ROLLED_BACK;
}

}  // namespace

BranchTask ResourceWorker::TaskOf(const OpenBranch& open) {
  const v1::Branch& branch = open.branch();
  BranchTask task;
  task.xid = {open.global->gtrid(), branch.bqual()};
  task.decision = open.global->decision();
  task.voted_prepared = branch.vote() == v1::VOTE_KIND_PREPARED;
  if (branch.has_session()) task.session = branch.session();
  if (!branch.witness_table().empty()) {
    absl::StatusOr<WitnessTable> witness = WitnessTable::Parse(branch.witness_table());
    if (witness.ok()) task.witness = *std::move(witness);
  }
  task.created = GetTime(branch.create_time());
  task.may_kill = resource_.kill_after_lease() != v1::KILL_AFTER_LEASE_DISABLED;
  MutexLock lock(&mutex_);
  const auto attempt = attempts_.find(open.key());
  // A branch that is finished, or never was on record, has no participant that could claim a lease.
  task.lease_over = attempt == attempts_.end() || Mono::now() - attempt->second.first_seen >=
                                                      absl::ToChronoNanoseconds(GetDuration(resource_.lease()));
  return task;
}

absl::Status ResourceWorker::SweepOnce(bool dry_run, v1::ResourceReport* report) {
  const absl::StatusOr<std::vector<RecoveredXid>> prepared = recovery_->ListPrepared();
  if (!prepared.ok()) return prepared.status();
  if (absl::Status status = FinishStray(*prepared, dry_run, report); !status.ok()) return status;
  const absl::StatusOr<absl::optional<int>> ghosts = recovery_->CountGhosts();
  if (!ghosts.ok()) return ghosts.status();
  LOG_IF(WARNING, *ghosts && **ghosts > 0) << "resource=" << name_ << " ghosts=" << **ghosts
                                           << " prepared engine transactions that the server has lost sight of; they "
                                              "hold their locks until they are repaired, "
                                              "or the server restarts";
  report->set_ghosts(*ghosts ? **ghosts : -1);
  if (!refilled_) {
    if (absl::Status status = RefillForget(); !status.ok()) return status;
    refilled_ = true;
  }
  const absl::Duration pause = Jittered(options_.sweep_interval);
  next_sweep_ = Mono::now() + absl::ToChronoNanoseconds(pause);
  SetState(v1::ResourceStatus::STATE_OK, "");
  MutexLock lock(&mutex_);
  SetTime(clock_->Now(), status_.mutable_last_sweep_time());
  SetTime(clock_->Now() + pause, status_.mutable_next_attempt_time());
  return absl::OkStatus();
}

absl::Status ResourceWorker::FinishStray(const std::vector<RecoveredXid>& prepared, bool dry_run,
                                         v1::ResourceReport* report) {
  const Mono::time_point now = Mono::now();
  std::map<Key, Mono::time_point> orphans;
  std::vector<OpenBranch> stray;
  std::vector<OpenBranch> only_look;
  for (const RecoveredXid& xid : prepared) {
    if (!IsOurs(xid, options_.claimant.cluster)) {
      if (v1::XidReport* entry = Report(xid.gtrid, xid.bqual, xid.format_id, v1::XidReport::KIND_FOREIGN, report)) {
        entry->set_action("not ours: left alone");
      }
      continue;
    }
    const absl::StatusOr<GlobalPtr> read = engine_->ReadAndWait(xid.gtrid);
    if (!read.ok()) return absl::OkStatus();  // Without the store nothing may be concluded; the connection is good.
    const GlobalPtr& record = *read;
    int index = 0;
    while (record != nullptr && index < record->branches_size() && record->branches(index).bqual() != xid.bqual)
      ++index;
    const bool on_record = record != nullptr && index < record->branches_size();
    if (on_record && record->branches(index).resource() != name_) {
      // This server has another name as well, or is a replica of the one it is on: whoever it belongs to finishes it.
      if (v1::XidReport* entry = Report(xid.gtrid, xid.bqual, xid.format_id, v1::XidReport::KIND_OURS, report)) {
        entry->set_state(record->state());
        entry->set_decision(record->decision());
        entry->set_action(
            absl::StrCat("a branch of resource '", record->branches(index).resource(), "': left to that"));
      }
    } else if (on_record && record->decision() == v1::DECISION_UNSPECIFIED) {
      if (v1::XidReport* entry = Report(xid.gtrid, xid.bqual, xid.format_id, v1::XidReport::KIND_OURS, report)) {
        entry->set_state(record->state());
        entry->set_action("undecided: left to its participants, or to the deadline");
      }
    } else if (on_record) {
      if (IsOpen(record->branches(index))) continue;  // It is offered, or will be in a moment.
      (IsHeuristic(record->branches(index)) ? only_look : stray).push_back({record, index});
    } else {
      const Key key = {xid.gtrid, xid.bqual};
      const auto seen = orphans_seen_.find(key);
      const Mono::time_point first = seen == orphans_seen_.end() ? now : seen->second;
      orphans[key] = first;
      if (now - first >= absl::ToChronoNanoseconds(GetDuration(resource_.orphan_age()))) {
        stray.push_back(PresumedAborted(xid, resource_));
      } else if (v1::XidReport* entry =
                     Report(xid.gtrid, xid.bqual, xid.format_id, v1::XidReport::KIND_ORPHAN, report)) {
        entry->set_action(absl::StrCat("no record: rolled back once it has been seen for ",
                                       absl::FormatDuration(GetDuration(resource_.orphan_age()))));
      }
    }
  }
  orphans_seen_ = std::move(orphans);
  if (absl::Status status = Carry(only_look, /*dry_run=*/true, report); !status.ok()) return status;
  if (!stray.empty()) ASSENT_FAULT_POINT(kRecoverySweepListed);
  return Carry(stray, dry_run, report);
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
  std::sort(due.begin(), due.end(), [](const OpenBranch& a, const OpenBranch& b) {
    return GetTime(a.global->decide_time()) < GetTime(b.global->decide_time());
  });
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
    const v1::Evidence& evidence = (*findings)[i].evidence;
    const v1::XidReport::Kind kind = IsOrphan(open[i]) ? v1::XidReport::KIND_ORPHAN : v1::XidReport::KIND_OURS;
    if (v1::XidReport* entry = Report(open[i].global->gtrid(), open[i].branch().bqual(), kFormatId, kind, report)) {
      entry->set_state(open[i].global->state());
      entry->set_decision(open[i].global->decision());
      *entry->mutable_evidence() = evidence;
      entry->set_action(evidence.done().empty()
                            ? evidence.detail()
                            : absl::StrCat(evidence.done(), evidence.detail().empty() ? "" : ": ", evidence.detail()));
    }
    if (!dry_run) Conclude(open[i], (*findings)[i]);
  }
  worked_ = worked_ || !dry_run;
  return absl::OkStatus();
}

void ResourceWorker::Conclude(const OpenBranch& open, const BranchFinding& finding) {
  const v1::Evidence& evidence = finding.evidence;
  const bool proven = IsProven(evidence.outcome());
  if (!IsOpen(open.branch()) || IsOrphan(open)) {
    LOG(WARNING) << "gtrid=" << open.global->gtrid() << " bqual=" << open.branch().bqual() << " resource=" << name_
                 << (IsOrphan(open) ? " without a record" : " came back prepared") << ": "
                 << v1::BranchOutcome_Name(evidence.outcome()) << " " << evidence.done() << " " << evidence.detail();
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
      if (!next.alarmed && clock_->Now() - GetTime(open.global->decide_time()) > options_.alarm_age) {
        next.alarmed = true;
        LOG(ERROR) << "gtrid=" << open.global->gtrid() << " bqual=" << open.branch().bqual() << " resource=" << name_
                   << " ALARM: in doubt since " << FormatTime(open.global->decide_time()) << ": " << next.next_step;
      }
    }
  }
  Event event;
  event.kind = EventKind::kEvidence;
  event.gtrid = open.global->gtrid();
  event.now = clock_->Now();
  event.bqual = open.branch().bqual();
  event.evidence = evidence;
  engine_->Submit(std::move(event), v1::WAIT_NONE, absl::InfiniteFuture(),
                  [gtrid = open.global->gtrid()](const absl::Status& status, const GlobalPtr&) {
                    LOG_IF(WARNING, !status.ok())
                        << "gtrid=" << gtrid << " evidence not stored yet: " << ToText(status);
                  });
}

absl::Status ResourceWorker::ForgetDue() {
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
    if (batch.empty() || !witness) break;
    worked_ = true;
    ASSENT_FAULT_POINT(kRecoveryForgetBefore);
    if (absl::Status status = recovery_->ForgetWitnesses(*witness, batch); !status.ok()) {
      refilled_ = false;  // Found again by the next sweep.
      if (ReasonOf(status) == Reason::DATABASE_UNREACHABLE) return status;
      LOG(WARNING) << "resource=" << name_ << " witnesses not deleted: " << ToText(status);
      break;
    }
    ASSENT_FAULT_POINT(kRecoveryForgetOk);
  }
  if (!worked_ || Mono::now() < next_epoch_) return absl::OkStatus();
  next_epoch_ = Mono::now() + absl::ToChronoNanoseconds(kEpochInterval);
  worked_ = false;
  v1::Resource advanced = resource_;
  if (absl::Status status = AdvanceEpoch(options_.claimant, recovery_.get(), &advanced); !status.ok()) return status;
  const absl::Status noted = registry_->NoteServer(resource_, advanced.server(), advanced.epoch());
  LOG_IF(WARNING, !noted.ok()) << "resource=" << name_ << " epoch not noted: " << ToText(noted);
  resource_.set_epoch(advanced.epoch());
  return absl::OkStatus();
}

absl::Status ResourceWorker::RefillForget() {
  const absl::optional<WitnessTable> witness = WitnessOf(resource_);
  if (!witness) return absl::OkStatus();
  Xid after;
  for (;;) {
    const absl::StatusOr<std::vector<Xid>> page =
        recovery_->ListWitnesses(*witness, absl::StrCat(options_.claimant.cluster, "-"), after, kWitnessPage);
    if (!page.ok()) {
      if (ReasonOf(page.status()) == Reason::DATABASE_UNREACHABLE) return page.status();
      LOG(WARNING) << "resource=" << name_ << " witnesses cannot be listed: " << ToText(page.status());
      return absl::OkStatus();
    }
    for (const Xid& xid : *page) {
      const absl::StatusOr<GlobalPtr> record = engine_->ReadAndWait(xid.gtrid);
      if (!record.ok()) return absl::OkStatus();
      if (*record != nullptr && IsFinished((*record)->state())) Forget(xid);
      after = xid;
    }
    if (static_cast<int>(page->size()) < kWitnessPage) return absl::OkStatus();
  }
}

}  // namespace assent
