#include "coordinator/resource_worker.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/errors.h"
#include "base/timestamp.h"

namespace assent {
namespace {

constexpr absl::Duration kFirstPause = absl::Milliseconds(200);
constexpr absl::Duration kLongestPause = absl::Seconds(15);
constexpr absl::Duration kIdle = absl::Seconds(1);
constexpr size_t kMaxForget = 100000;

std::string AddressOf(const v1::Resource& resource) {
  return absl::StrCat(resource.address(), "\n", resource.user(), "\n", resource.password_env(), "\n",
                      resource.password_file(), "\n", resource.witness_schema(), "\n", resource.witness());
}

bool IsQuarantine(const absl::Status& status) {
  return ReasonOf(status) == Reason::RESOURCE_QUARANTINED || ReasonOf(status) == Reason::RESOURCE_CLAIMED;
}

}  // namespace

ResourceWorker::ResourceWorker(std::string resource, const RecoveryOptions& options, Engine* engine,
                               ResourceRegistry* registry, Clock* clock, std::function<void()> on_first_sweep)
    : name_(std::move(resource)),
      options_(options),
      engine_(engine),
      registry_(registry),
      clock_(clock),
      on_first_sweep_(std::move(on_first_sweep)),
      random_(std::random_device()()) {
  status_.set_resource(name_);
  SetState(v1::ResourceStatus::STATE_UNKNOWN, "");
  thread_ = std::thread([this] { Loop(); });
}

ResourceWorker::~ResourceWorker() {
  BeginStop();
  thread_.join();
}

void ResourceWorker::BeginStop() {
  MutexLock lock(&mutex_);
  stopping_ = true;
  changed_.NotifyAll();
}

void ResourceWorker::SetActive(bool active) {
  MutexLock lock(&mutex_);
  if (active == active_) return;
  LOG(INFO) << "resource=" << name_
            << (active ? " is recovered by this instance" : " is recovered by another instance");
  active_ = active;
  hurry_ = hurry_ || active;
  taken_over_ = taken_over_ || active;
  changed_.NotifyAll();
}

bool ResourceWorker::IsActive() {
  MutexLock lock(&mutex_);
  return active_;
}

void ResourceWorker::Offer(std::vector<OpenBranch> open) {
  const Mono::time_point now = Mono::now();
  MutexLock lock(&mutex_);
  const Mono::time_point first_look = offered_ ? now + absl::ToChronoNanoseconds(options_.patience) : now;
  offered_ = true;
  std::map<Key, OpenBranch> before;
  before.swap(open_);
  for (OpenBranch& each : open) {
    Key key = each.key();
    if (before.count(key) == 0) attempts_[key] = Attempt{now, first_look, 0, false, false, "looks at its database"};
    open_.emplace(std::move(key), std::move(each));
  }
  for (const auto& gone : before) {
    if (open_.count(gone.first) == 0) attempts_.erase(gone.first);
  }
  if (!open_.empty()) changed_.NotifyAll();
}

void ResourceWorker::Forget(const Xid& xid) {
  MutexLock lock(&mutex_);
  if (forget_.size() < kMaxForget) forget_.push_back(xid);
}

int64_t ResourceWorker::WitnessesWaiting() {
  MutexLock lock(&mutex_);
  return static_cast<int64_t>(forget_.size());
}

int ResourceWorker::RetryNow(absl::string_view gtrid) {
  MutexLock lock(&mutex_);
  int count = 0;
  for (const auto& each : open_) {
    if (!gtrid.empty() && each.first.first != gtrid) continue;
    attempts_[each.first].next = Mono::now();
    ++count;
  }
  hurry_ = true;
  changed_.NotifyAll();
  return count;
}

v1::ResourceReport ResourceWorker::Sweep(bool dry_run, absl::Duration patience) {
  auto report = std::make_shared<v1::ResourceReport>();
  const absl::Status status = Do(
      [this, dry_run, report](BranchRecovery*) {
        absl::Status swept = SweepOnce(dry_run, report.get());
        if (swept.ok()) swept = FinishDue(/*all=*/true, dry_run, report.get());
        return swept;
      },
      patience);
  if (!status.ok()) {
    // Whatever was found before it failed may be incomplete, and is perhaps still being written.
    v1::ResourceReport failed;
    *failed.mutable_status() = Status();
    if (failed.status().state() == v1::ResourceStatus::STATE_OK) {
      failed.mutable_status()->set_detail(std::string(status.message()));
    }
    failed.set_ghosts(-1);
    return failed;
  }
  *report->mutable_status() = Status();
  return *report;
}

absl::StatusOr<v1::Evidence> ResourceWorker::LookAt(OpenBranch open, absl::Duration patience) {
  auto found = std::make_shared<v1::Evidence>();
  const absl::Status status = Do(
      [this, open = std::move(open), found](BranchRecovery* recovery) {
        const absl::StatusOr<std::vector<BranchFinding>> findings = recovery->Examine({TaskOf(open)});
        if (findings.ok()) *found = (*findings)[0].evidence;
        return findings.status();
      },
      patience);
  if (!status.ok()) return status;
  return *found;
}

absl::StatusOr<std::vector<v1::LockWait>> ResourceWorker::LockWaits(int limit, absl::Duration patience) {
  auto waits = std::make_shared<std::vector<v1::LockWait>>();
  const absl::Status status = Do(
      [this, limit, waits](BranchRecovery* recovery) {
        std::vector<BranchTask> tasks;
        std::vector<OpenBranch> open;
        {
          MutexLock lock(&mutex_);
          for (const auto& each : open_) open.push_back(each.second);
        }
        for (const OpenBranch& each : open) tasks.push_back(TaskOf(each));
        absl::StatusOr<std::vector<v1::LockWait>> found = recovery->LockWaits(tasks, limit);
        if (found.ok()) *waits = *std::move(found);
        return found.status();
      },
      patience);
  if (!status.ok()) return status;
  return *waits;
}

v1::ResourceStatus ResourceWorker::Status() {
  const Mono::time_point now = Mono::now();
  MutexLock lock(&mutex_);
  v1::ResourceStatus status = status_;
  int in_doubt = 0;
  for (const auto& open : open_) in_doubt += IsOnItsWay(attempts_[open.first], now) ? 0 : 1;
  status.set_in_doubt(in_doubt);
  return status;
}

bool ResourceWorker::IsOnItsWay(const Attempt& attempt, Mono::time_point now) const {
  return attempt.count == 0 && now < attempt.first_seen + absl::ToChronoNanoseconds(options_.patience);
}

std::vector<v1::InDoubtBranch> ResourceWorker::InDoubt() {
  const Mono::time_point now = Mono::now();
  const absl::Time wall = clock_->Now();
  std::vector<v1::InDoubtBranch> all;
  MutexLock lock(&mutex_);
  for (const auto& each : open_) {
    const OpenBranch& open = each.second;
    const Attempt& attempt = attempts_[each.first];
    if (IsOnItsWay(attempt, now)) continue;
    v1::InDoubtBranch shown;
    shown.set_gtrid(open.global->gtrid());
    *shown.mutable_branch() = open.branch();
    shown.set_state(open.global->state());
    shown.set_decision(open.global->decision());
    SetTime(open.since(), shown.mutable_since());
    shown.set_attempts(attempt.count);
    const auto left = std::max(attempt.next, next_connect_hint_) - now;
    SetTime(wall + absl::FromChrono(std::max(left, Mono::duration::zero())), shown.mutable_next_attempt_time());
    shown.set_next_step(!status_.detail().empty() ? status_.detail()
                        : active_                 ? attempt.next_step
                                                  : "another instance recovers this resource (`assentctl instances`)");
    shown.set_alarm(attempt.needs_operator || status_.state() == v1::ResourceStatus::STATE_QUARANTINED ||
                    wall - open.since() > options_.alarm_age);
    all.push_back(std::move(shown));
  }
  for (const auto& each : contradicted_) {
    if (open_.count(each.first) == 0) all.push_back(each.second);
  }
  return all;
}

absl::Status ResourceWorker::Do(std::function<absl::Status(BranchRecovery*)> body, absl::Duration patience) {
  auto job = std::make_shared<Job>();
  job->body = std::move(body);
  const auto give_up = Mono::now() + absl::ToChronoNanoseconds(patience);
  MutexLock lock(&mutex_);
  jobs_.push_back(job);
  changed_.NotifyAll();
  while (job->state != Job::kDone && !stopping_ && Mono::now() < give_up) changed_.WaitUntil(&mutex_, give_up);
  if (job->state == Job::kDone) return job->result;
  job->state = Job::kAbandoned;
  return MakeError(
      Reason::RESOURCE_UNREACHABLE,
      absl::StrCat("resource '", name_, "' did not answer in time; ask again, or see `assentctl in-doubt`"),
      {{"resource", name_}});
}

ResourceWorker::Mono::time_point ResourceWorker::NextWake() {
  const Mono::time_point now = Mono::now();
  if (recovery_ == nullptr) return next_connect_;
  Mono::time_point wake = std::min(next_sweep_, now + absl::ToChronoNanoseconds(kIdle));
  if (!active_) return wake;
  for (const auto& each : attempts_) wake = std::min(wake, each.second.next);
  return wake;
}

void ResourceWorker::Loop() {
  for (;;) {
    bool hurry = false;
    {
      MutexLock lock(&mutex_);
      while (!stopping_ && jobs_.empty() && !hurry_) {
        const Mono::time_point wake = NextWake();
        if (Mono::now() >= wake) break;
        changed_.WaitUntil(&mutex_, wake);
      }
      if (stopping_) break;
      hurry = hurry_ || !jobs_.empty();
      if (hurry_) next_sweep_ = Mono::now();
      hurry_ = false;
      // Whoever had it before may have left witnesses.
      if (taken_over_) next_refill_ = Mono::now();
      taken_over_ = false;
      // Nothing is tried twice with privileges that have not been enough.
      const Mono::time_point now = Mono::now();
      const bool due = std::any_of(attempts_.begin(), attempts_.end(),
                                   [now](const auto& attempt) { return attempt.second.next <= now; });
      if (renew_ && (hurry || (active_ && due))) recovery_.reset();
    }
    absl::Status status = EnsureConnected(hurry);
    RunJobs();
    if (status.ok() && recovery_ != nullptr) {
      status = WorkOnce();
      if (!status.ok()) Fail(status);
    }
    if (on_first_sweep_) {
      on_first_sweep_();
      on_first_sweep_ = nullptr;
    }
  }
  MutexLock lock(&mutex_);
  for (const std::shared_ptr<Job>& job : jobs_) {
    job->state = Job::kDone;
    job->result = MakeError(Reason::SHUTTING_DOWN, "the coordinator is shutting down, or the resource was removed");
  }
  jobs_.clear();
  changed_.NotifyAll();
}

absl::Status ResourceWorker::WorkOnce() {
  if (!IsActive()) {
    if (Mono::now() >= next_sweep_) {
      absl::optional<absl::Status> unfit;
      if (absl::Status status = LookAtServer(&unfit); !status.ok()) return status;
      EndSweep(unfit);
    }
    absl::Status status = ForgetDue();
    if (status.ok()) failures_ = 0;
    return status;
  }
  const auto finish = [this] {
    absl::Status status = FinishDue(/*all=*/false, /*dry_run=*/false, nullptr);
    lost_finishing_ = !status.ok();
    return status;
  };
  const auto sweep = [this] {
    if (Mono::now() < next_sweep_) return absl::OkStatus();
    v1::ResourceReport report;
    return SweepOnce(/*dry_run=*/false, &report);
  };
  // Branches that are known to be in doubt come first: a sweep looks at everything, and thousands of them make it long.
  // But those that cost the connection must not keep the sweep from ever coming.
  const bool sweep_first = lost_finishing_;
  absl::Status status = sweep_first ? sweep() : finish();
  if (status.ok()) status = sweep_first ? finish() : sweep();
  if (status.ok()) status = ForgetDue();
  // Not before: what fails behind every good sweep would be tried without a pause.
  if (status.ok()) failures_ = 0;
  return status;
}

void ResourceWorker::RunJobs() {
  for (;;) {
    std::shared_ptr<Job> job;
    {
      MutexLock lock(&mutex_);
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
      if (job->state == Job::kAbandoned) continue;
      job->state = Job::kRunning;
    }
    absl::Status result;
    if (recovery_ != nullptr) {
      result = job->body(recovery_.get());
      if (ReasonOf(result) == Reason::DATABASE_UNREACHABLE || IsQuarantine(result)) Fail(result);
    } else {
      result = MakeError(Reason::RESOURCE_UNREACHABLE, Status().detail(), {{"resource", name_}});
    }
    MutexLock lock(&mutex_);
    job->result = std::move(result);
    job->state = Job::kDone;
    changed_.NotifyAll();
  }
}

absl::Status ResourceWorker::EnsureConnected(bool now) {
  const absl::StatusOr<ResourcePtr> registered = registry_->Find(name_);
  if (!registered.ok()) return registered.status();  // Being removed.
  if (recovery_ != nullptr && AddressOf(**registered) != AddressOf(resource_)) {
    recovery_.reset();
    next_connect_ = Mono::now();
  }
  if (recovery_ != nullptr) {
    // What does not need another connection is taken over as it is: the lease, the policy, what an operator accepted.
    resource_ = **registered;
    return absl::OkStatus();
  }
  if (!now && Mono::now() < next_connect_) return absl::OkStatus();
  resource_ = **registered;
  const absl::Status status = Connect();
  if (!status.ok()) Fail(status);
  return status;
}

absl::Status ResourceWorker::Connect() {
  absl::StatusOr<std::unique_ptr<BranchRecovery>> recovery = options_.connect(resource_);
  if (!recovery.ok()) return recovery.status();
  if (absl::Status status = Claim(recovery->get()); !status.ok()) return status;
  recovery_ = *std::move(recovery);
  renew_ = false;
  next_sweep_ = next_epoch_ = next_forget_ = Mono::now();
  worked_ = true;  // A copy of this store that is at work there is to see that somebody else is.
  registry_->SetQuarantine(name_, absl::OkStatus());
  const ServerIdentity& identity = recovery_->identity();
  LOG(INFO) << "resource=" << name_ << " connected server=" << identity.name << " version=" << identity.version
            << " started=" << absl::FormatTime(identity.start_time, absl::UTCTimeZone());
  MutexLock lock(&mutex_);
  status_.set_server(identity.name);
  SetTime(identity.start_time, status_.mutable_server_start_time());
  // A server that is back may have brought branches back, too: whatever waits is tried at once.
  for (auto& attempt : attempts_) attempt.second.next = Mono::now();
  return absl::OkStatus();
}

absl::Status ResourceWorker::Claim(BranchRecovery* recovery) {
  v1::Resource known = resource_;
  if (absl::Status status = EstablishClaim(options_.claimant, {}, recovery, &known); !status.ok()) return status;
  if (!IsActive()) {  // What is noted of the server is for the instance that recovers it.
    resource_ = std::move(known);
    return absl::OkStatus();
  }
  known.clear_next_epoch();  // It has been left, or never will be: this thread alone leaves it.
  return Note(known);
}

absl::Status ResourceWorker::Note(const v1::Resource& known) {
  const absl::Status noted = registry_->NoteServer(resource_, known);
  if (noted.ok()) resource_ = known;
  return noted;
}

void ResourceWorker::Fail(const absl::Status& why) {
  recovery_.reset();
  const absl::Duration pause = Jittered(std::min(kLongestPause, kFirstPause * std::pow(2.0, std::min(failures_, 10))));
  ++failures_;
  next_connect_ = Mono::now() + absl::ToChronoNanoseconds(pause);
  const bool quarantined = IsQuarantine(why);
  if (quarantined) registry_->SetQuarantine(name_, why);  // Only a good answer ends it, not silence.
  SetState(quarantined ? v1::ResourceStatus::STATE_QUARANTINED : v1::ResourceStatus::STATE_UNREACHABLE,
           std::string(why.message()));
  MutexLock lock(&mutex_);
  next_connect_hint_ = next_connect_;
  SetTime(clock_->Now() + pause, status_.mutable_next_attempt_time());
}

void ResourceWorker::SetState(v1::ResourceStatus::State state, const std::string& detail) {
  MutexLock lock(&mutex_);
  if (status_.state() != state || status_.detail() != detail) {
    if (state == v1::ResourceStatus::STATE_OK) {
      LOG(INFO) << "resource=" << name_ << " is well";
    } else if (state != v1::ResourceStatus::STATE_UNKNOWN) {
      LOG(ERROR) << "resource=" << name_ << " " << v1::ResourceStatus::State_Name(state) << ": " << detail;
    }
  }
  if (status_.state() != state) SetTime(clock_->Now(), status_.mutable_since());
  status_.set_state(state);
  status_.set_detail(detail);
}

absl::Duration ResourceWorker::Jittered(absl::Duration pause) {
  return pause * std::uniform_real_distribution<double>(0.7, 1.0)(random_);
}

}  // namespace assent
