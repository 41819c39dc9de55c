// Strays: what is prepared at a server, or lost sight of by it, and is not about to be finished because its transaction
// is: orphans, branches that came back, and branches that are not where their records say.
#include "coordinator/resource_strays.h"

#include <glog/logging.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/fault_point.h"
#include "base/timestamp.h"
#include "base/xid.h"
#include "coordinator/resource_worker.h"
#include "resource_manager/database_engine.h"

namespace assent {
namespace {

constexpr int kMaxReported = 1000;

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

OpenBranch PresumedAborted(const RecoveredXid& xid, const v1::Resource& resource, absl::Time now) {
  auto global = std::make_shared<v1::Global>();
  global->set_gtrid(xid.gtrid);
  global->set_decision(v1::DECISION_ROLLBACK);
  v1::Branch* branch = global->add_branches();
  branch->set_bqual(xid.bqual);
  branch->set_resource(resource.name());
  // Of what nobody knows when it was created, no witness table is known to be older.
  const absl::optional<absl::Time> birth = BirthOf(xid.gtrid);
  if (birth && *birth <= now) SetTime(*birth, branch->mutable_create_time());
  if (const absl::optional<WitnessTable> witness = WitnessOf(resource)) branch->set_witness_table(witness->name());
  return {std::move(global), 0};
}

// What finishes it, as an operator may type it.
std::string ByHand(bool commit, const OpenBranch& open, const v1::Resource& resource) {
  return FindDatabaseEngine(resource.engine())->finish_sql({open.global->gtrid(), open.branch().bqual()}, commit);
}

// What an operator is told of a branch whose end was declared, or found to be against the decision, and that is there.
std::string Contradicted(const OpenBranch& open, const v1::Resource& resource) {
  const v1::Branch& branch = open.branch();
  const bool commit = open.global->decision() == v1::DECISION_COMMIT;
  const bool as_decided = !IsHeuristic(branch);
  const bool ended_committed = commit == as_decided;
  return absl::StrCat("an operator must say: it was ", RestsOnWord(branch) ? "declared " : "found ",
                      ended_committed ? "committed" : "rolled back",
                      ", and its database still has it prepared, with its locks; `assentctl resolve ",
                      open.global->gtrid(), " ", branch.bqual(), " --as ", commit ? "committed" : "rolled-back",
                      "` lets recovery finish it as decided; or end it there by hand, ",
                      ByHand(!commit, open, resource));
}

}  // namespace

absl::optional<int> IndexOf(const GlobalPtr& record, const std::string& bqual) {
  for (int i = 0; record != nullptr && i < record->branches_size(); ++i) {
    if (record->branches(i).bqual() == bqual) return i;
  }
  return absl::nullopt;
}

v1::XidReport* AddReport(const std::string& gtrid, const std::string& bqual, int64_t format_id,
                         v1::XidReport::Kind kind, v1::ResourceReport* report) {
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

absl::Status ResourceWorker::AddGhosts(const absl::optional<GhostCount>& ghosts, std::vector<RecoveredXid>* prepared) {
  const absl::optional<WitnessTable> witness = WitnessOf(resource_);
  std::map<Key, Mono::time_point> seen;
  if (witness && !(ghosts && ghosts->surely_none)) {
    std::set<Xid> listed;
    // Under whatever format id: the server does not look at it when it compares.
    for (const RecoveredXid& xid : *prepared) listed.insert({xid.gtrid, xid.bqual});
    const absl::StatusOr<std::vector<Xid>> open =
        recovery_->ListOpenWitnesses(*witness, absl::StrCat(options_.claimant.cluster, "-"), listed);
    if (!open.ok()) {
      if (ReasonOf(open.status()) == Reason::DATABASE_UNREACHABLE) return open.status();
      // What is listed can be looked at all the same.
      LOG(WARNING) << "resource=" << name_ << " ghosts cannot be looked for: " << ToText(open.status());
      return absl::OkStatus();
    }
    for (const Xid& xid : *open) {
      if (IsOnePhaseWitness(xid)) continue;  // It is being committed, or has just been lost with its session.
      Key key = {xid.gtrid, xid.bqual};
      const auto before = ghosts_seen_.find(key);
      seen[key] = before == ghosts_seen_.end() ? Mono::now() : before->second;
      prepared->push_back(RecoveredXid{kFormatId, xid.gtrid, xid.bqual});
    }
  }
  ghosts_seen_ = std::move(seen);
  return absl::OkStatus();
}

absl::Status ResourceWorker::FinishStray(const std::vector<RecoveredXid>& prepared, bool dry_run,
                                         v1::ResourceReport* report) {
  contradictions_.clear();
  std::map<Key, Mono::time_point> orphans;
  std::vector<OpenBranch> stray;
  for (const RecoveredXid& xid : prepared) {
    if (!IsOurs(xid, options_.claimant.cluster)) {
      if (!SortForeign(xid, report)) return absl::OkStatus();
      continue;
    }
    const absl::StatusOr<GlobalPtr> record = engine_->ReadAndWait(xid.gtrid);
    if (!record.ok()) return absl::OkStatus();  // Without the store nothing may be concluded; the connection is good.
    if (const absl::optional<int> index = IndexOf(*record, xid.bqual)) {
      if (absl::Status status = SortRecorded({*record, *index}, &stray, report); !status.ok()) return status;
    } else {
      SortOrphan(xid, &orphans, &stray, report);
    }
  }
  orphans_seen_ = std::move(orphans);
  if (!dry_run && !BuryOrphans(&stray)) return absl::OkStatus();
  if (!stray.empty()) ASSENT_FAULT_POINT(kRecoverySweepListed);
  if (absl::Status status = Carry(stray, dry_run, report); !status.ok()) return status;
  if (dry_run) return absl::OkStatus();  // It has seen less than a sweep that acts.
  MutexLock lock(&mutex_);
  contradicted_ = std::move(contradictions_);
  contradictions_.clear();
  return absl::OkStatus();
}

// A Finalize that brings its transaction with it may be on its way: from now on it cannot be decided COMMIT, or it has
// been and its branch is no orphan.
bool ResourceWorker::BuryOrphans(std::vector<OpenBranch>* stray) {
  std::vector<Event> events;
  for (const OpenBranch& open : *stray) {
    if (!IsOrphan(open)) continue;
    Event event;
    event.kind = EventKind::kOrphan;
    event.gtrid = open.global->gtrid();
    event.now = clock_->Now();
    events.push_back(std::move(event));
  }
  const std::vector<absl::StatusOr<GlobalPtr>> records = engine_->SubmitAllAndWait(std::move(events));
  size_t next = 0;
  std::vector<OpenBranch> left;
  for (OpenBranch& open : *stray) {
    if (IsOrphan(open)) {
      const absl::StatusOr<GlobalPtr>& record = records[next++];
      if (!record.ok()) return false;
      if (IndexOf(*record, open.branch().bqual())) continue;
    }
    left.push_back(std::move(open));
  }
  *stray = std::move(left);
  return true;
}

bool ResourceWorker::SortForeign(const RecoveredXid& xid, v1::ResourceReport* report) {
  std::string action = "not ours: left alone";
  if (xid.format_id != kFormatId && IsOurs({kFormatId, xid.gtrid, xid.bqual}, options_.claimant.cluster)) {
    const absl::StatusOr<GlobalPtr> record = engine_->ReadAndWait(xid.gtrid);
    if (!record.ok()) return false;
    if (const absl::optional<int> index = IndexOf(*record, xid.bqual)) {
      const OpenBranch open = {*record, *index};
      action = absl::StrCat("a branch on record, prepared under the format id ", xid.format_id, " instead of ",
                            kFormatId, ": left alone");
      // Of an open one recovery says so itself.
      if (!IsOpen(open.branch())) {
        Contradict(open, absl::StrCat("an operator must look: its record is closed, and its gtrid and bqual are ",
                                      action, "; end it there by hand, ",
                                      ByHand(open.global->decision() == v1::DECISION_COMMIT, open, resource_)));
      }
    }
  }
  if (v1::XidReport* entry = AddReport(xid.gtrid, xid.bqual, xid.format_id, v1::XidReport::KIND_FOREIGN, report)) {
    entry->set_action(action);
  }
  return true;
}

absl::Status ResourceWorker::SortRecorded(const OpenBranch& open, std::vector<OpenBranch>* stray,
                                          v1::ResourceReport* report) {
  const v1::Branch& branch = open.branch();
  const auto report_action = [&](const std::string& action) {
    v1::XidReport* entry = AddReport(open.global->gtrid(), branch.bqual(), kFormatId, v1::XidReport::KIND_OURS, report);
    if (entry == nullptr) return;
    entry->set_state(open.global->state());
    entry->set_decision(open.global->decision());
    entry->set_action(action);
  };
  if (branch.resource() != name_) {
    // This server has another name as well, or is a replica of the one it is on: whoever it belongs to finishes it.
    report_action(absl::StrCat("a branch of resource '", branch.resource(), "': left to that"));
    const absl::StatusOr<ResourcePtr> owner = registry_->Find(branch.resource());
    const bool is_alias = owner.ok() && (*owner)->server() == resource_.server();
    if (!is_alias && !IsOpen(branch)) {
      Contradict(open, absl::StrCat("an operator must look: it is prepared on resource '", name_,
                                    "', and its record, which is closed, says that it ran on '", branch.resource(), "'",
                                    owner.ok() ? "" : " (which is not registered)",
                                    ": if its participant was connected to the wrong server, end it there by hand, ",
                                    ByHand(open.global->decision() == v1::DECISION_COMMIT, open, resource_)));
    }
  } else if (IsUndecided(*open.global)) {
    report_action("undecided: left to its participants, or to the deadline");
  } else if (IsOpen(branch)) {
    return absl::OkStatus();  // It is offered, or will be in a moment.
  } else if (IsHeuristic(branch) || RestsOnWord(branch)) {
    return LookAtContradicted(open, report);
  } else {
    stray->push_back(open);
  }
  return absl::OkStatus();
}

void ResourceWorker::SortOrphan(const RecoveredXid& xid, std::map<Key, Mono::time_point>* orphans,
                                std::vector<OpenBranch>* stray, v1::ResourceReport* report) {
  const Mono::time_point now = Mono::now();
  const Key key = {xid.gtrid, xid.bqual};
  const auto seen = orphans_seen_.find(key);
  const Mono::time_point first = seen == orphans_seen_.end() ? now : seen->second;
  (*orphans)[key] = first;
  if (now - first >= absl::ToChronoNanoseconds(GetDuration(resource_.orphan_age()))) {
    stray->push_back(PresumedAborted(xid, resource_, clock_->Now()));
  } else if (v1::XidReport* entry =
                 AddReport(xid.gtrid, xid.bqual, xid.format_id, v1::XidReport::KIND_ORPHAN, report)) {
    entry->set_action(absl::StrCat("no record: rolled back once it has been seen for ",
                                   absl::FormatDuration(GetDuration(resource_.orphan_age()))));
  }
}

// What may be done twice by hand and by recovery is not done by recovery unasked.
absl::Status ResourceWorker::LookAtContradicted(const OpenBranch& open, v1::ResourceReport* report) {
  const absl::StatusOr<std::vector<BranchFinding>> findings = recovery_->Examine({TaskOf(open)});
  if (!findings.ok()) return findings.status();
  const v1::Evidence& evidence = (*findings)[0].evidence;
  Report(open, evidence, report);
  // Finished meanwhile, or not there after all.
  if (ProvenCommitted(evidence.outcome())) return absl::OkStatus();
  Store(open, evidence);
  Contradict(open, Contradicted(open, resource_));
  return absl::OkStatus();
}

void ResourceWorker::ConcludeStray(const OpenBranch& open, const v1::Evidence& evidence) {
  LOG(WARNING) << "gtrid=" << open.global->gtrid() << " bqual=" << open.branch().bqual() << " resource=" << name_
               << (IsOrphan(open) ? " without a record" : " was there though its transaction is finished") << ": "
               << v1::BranchOutcome_Name(evidence.outcome()) << " " << evidence.done() << " " << evidence.detail();
  // What is done to a transaction that has ended belongs into its history.
  if (!IsOrphan(open) && !evidence.done().empty()) Store(open, evidence);
  if (ProvenCommitted(evidence.outcome())) return;
  const bool still_there = evidence.outcome() == v1::BRANCH_OUTCOME_STILL_PREPARED ||
                           evidence.outcome() == v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE;
  if (!still_there && IsOrphan(open)) return;  // Rolled back, as far as can be seen; ghosts are counted for themselves.
  Contradict(open, absl::StrCat(IsOrphan(open) ? "it has no record" : "its transaction is finished",
                                still_there ? ", and its database still has it: " : ", and was prepared again: ",
                                evidence.detail()));
}

void ResourceWorker::Contradict(const OpenBranch& open, const std::string& next_step) {
  v1::InDoubtBranch shown;
  shown.set_gtrid(open.global->gtrid());
  *shown.mutable_branch() = open.branch();
  shown.set_state(open.global->state());
  shown.set_decision(open.global->decision());
  *shown.mutable_since() = open.global->decide_time();
  shown.set_next_step(next_step);
  shown.set_alarm(true);
  LOG(ERROR) << "gtrid=" << shown.gtrid() << " bqual=" << shown.branch().bqual() << " resource=" << name_
             << " ALARM: " << next_step;
  contradictions_[open.key()] = std::move(shown);
}

}  // namespace assent
