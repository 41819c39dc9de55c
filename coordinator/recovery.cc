#include "coordinator/recovery.h"

#include <glog/logging.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "base/utf8.h"
#include "base/xid.h"
#include "coordinator/requests.h"

namespace assent {
namespace {

constexpr std::chrono::milliseconds kCensusInterval{500};
constexpr absl::Duration kSweepPatience = absl::Seconds(60);
constexpr absl::Duration kLookPatience = absl::Seconds(10);
constexpr int kMaxLockWaits = 100;
constexpr size_t kMaxDetailBytes = 1000;

bool IsBefore(const v1::InDoubtBranch& a, const v1::InDoubtBranch& b) {
  const absl::Time since_a = GetTime(a.since());
  const absl::Time since_b = GetTime(b.since());
  if (since_a != since_b) return since_a < since_b;
  return std::make_pair(a.gtrid(), a.branch().bqual()) < std::make_pair(b.gtrid(), b.branch().bqual());
}

// The place of a branch in the list, as a page token.
std::string TokenOf(const v1::InDoubtBranch& branch) {
  return absl::StrCat(absl::ToUnixMicros(GetTime(branch.since())), "/", branch.gtrid(), "/", branch.branch().bqual());
}

absl::Status ReadToken(const std::string& token, v1::InDoubtBranch* last) {
  const std::vector<std::string> parts = absl::StrSplit(token, '/');
  int64_t since = 0;
  if (parts.size() != 3 || !absl::SimpleAtoi(parts[0], &since) || !IsValidId(parts[1]) || !IsValidId(parts[2])) {
    return MakeError(Reason::INVALID_PAGE_TOKEN, "the page token is not one that ListInDoubt has answered");
  }
  SetTime(absl::FromUnixMicros(since), last->mutable_since());
  last->set_gtrid(parts[1]);
  last->mutable_branch()->set_bqual(parts[2]);
  return absl::OkStatus();
}

}  // namespace

Recovery::Recovery(RecoveryOptions options, Engine* engine, ResourceRegistry* registry, Clock* clock)
    : options_(std::move(options)), engine_(engine), registry_(registry), clock_(clock) {}

Recovery::~Recovery() { Stop(); }

void Recovery::Start(std::function<void()> on_ready) {
  const std::vector<ResourcePtr> resources = registry_->List();
  if (resources.empty()) on_ready();
  auto left = std::make_shared<std::atomic<size_t>>(resources.size());
  auto ready = std::make_shared<std::function<void()>>(std::move(on_ready));
  {
    MutexLock lock(&mutex_);
    for (const ResourcePtr& resource : resources) {
      AddWorker(resource->name(), [left, ready] {
        if (left->fetch_sub(1) == 1) (*ready)();
      });
    }
  }
  census_ = std::thread([this] { RunCensus(); });
}

void Recovery::AddWorker(const std::string& name, std::function<void()> on_first_sweep) {
  workers_[name] =
      std::make_shared<ResourceWorker>(name, options_, engine_, registry_, clock_, std::move(on_first_sweep));
  workers_[name]->SetActive(!held_ || held_->count(name) != 0);
}

void Recovery::SetHeld(std::set<std::string> resources) {
  MutexLock lock(&mutex_);
  held_ = std::move(resources);
  for (const auto& worker : workers_) worker.second->SetActive(held_->count(worker.first) != 0);
}

void Recovery::Stop() {
  std::map<std::string, WorkerPtr> workers;
  std::vector<WorkerPtr> leaving;
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    workers.swap(workers_);
    leaving.swap(leaving_);
    changed_.NotifyAll();
  }
  for (auto& worker : workers) worker.second->BeginStop();  // All at once; the destructors wait one by one.
  if (census_.joinable()) census_.join();
}

void Recovery::ResourceChanged(const std::string& name) {
  const bool registered = registry_->Find(name).ok();
  MutexLock lock(&mutex_);
  if (stopping_) return;
  const auto it = workers_.find(name);
  if (registered && it == workers_.end()) {
    AddWorker(name, [] {});
  } else if (registered) {
    it->second->RetryNow("");
  } else if (it != workers_.end()) {
    it->second->BeginStop();
    leaving_.push_back(std::move(it->second));
    workers_.erase(it);
  }
  census_due_ = true;
  changed_.NotifyAll();
}

absl::Status Recovery::TakeUpResources() {
  const absl::Status refreshed = registry_->Refresh();
  for (const std::string& name : registry_->TakeChanges()) ResourceChanged(name);
  return refreshed;
}

void Recovery::Finished(const v1::Global& global) {
  for (const v1::Branch& branch : global.branches()) {
    // Only a branch that committed has left one.
    if (branch.witness_table().empty() || (branch.vote() != v1::VOTE_KIND_PREPARED && !branch.one_phase()) ||
        branch.state() == v1::Branch::STATE_ROLLED_BACK || branch.state() == v1::Branch::STATE_HEURISTIC_ROLLED_BACK) {
      continue;
    }
    if (const WorkerPtr worker = Find(branch.resource())) {
      const Xid xid = {global.gtrid(), branch.bqual()};
      worker->Forget(WitnessOf(xid, branch.one_phase()));
    }
  }
}

void Recovery::RunCensus() {
  for (;;) {
    TakeCensus();
    std::vector<WorkerPtr> leaving;
    MutexLock lock(&mutex_);
    leaving.swap(leaving_);  // Those who hold one still keep it; the last one ends it.
    const auto wake = std::chrono::steady_clock::now() + kCensusInterval;
    while (!stopping_ && !census_due_ && std::chrono::steady_clock::now() < wake) changed_.WaitUntil(&mutex_, wake);
    census_due_ = false;
    if (stopping_) return;
  }
}

void Recovery::TakeCensus() {
  std::map<std::string, std::vector<OpenBranch>> by_resource;
  for (const GlobalPtr& global : engine_->Undone()) {
    for (int i = 0; i < global->branches_size(); ++i) {
      if (IsOpen(global->branches(i))) by_resource[global->branches(i).resource()].push_back({global, i});
    }
  }
  std::map<std::string, WorkerPtr> workers;
  {
    MutexLock lock(&mutex_);
    workers = workers_;
  }
  for (const auto& worker : workers) worker.second->Offer(std::move(by_resource[worker.first]));
}

Recovery::WorkerPtr Recovery::Find(absl::string_view name) {
  MutexLock lock(&mutex_);
  const auto it = workers_.find(std::string(name));
  return it == workers_.end() ? nullptr : it->second;
}

absl::StatusOr<std::map<std::string, Recovery::WorkerPtr>> Recovery::Select(const std::string& name) {
  if (!name.empty()) {
    if (absl::Status status = registry_->Find(name).status(); !status.ok()) return status;
  }
  MutexLock lock(&mutex_);
  std::map<std::string, WorkerPtr> selected;
  for (const auto& worker : workers_) {
    if (name.empty() || worker.first == name) selected.insert(worker);
  }
  return selected;
}

absl::StatusOr<v1::RecoverResponse> Recovery::Recover(const v1::RecoverRequest& request) {
  const auto workers = Select(request.resource());
  if (!workers.ok()) return workers.status();
  TakeCensus();
  // Side by side: a resource that hangs must not delay the report on the others.
  std::map<std::string, v1::ResourceReport> reports;
  std::vector<std::thread> threads;
  for (const auto& worker : *workers) reports[worker.first];
  for (const auto& worker : *workers) {
    threads.emplace_back([&worker, &request, report = &reports[worker.first]] {
      *report = worker.second->Sweep(request.dry_run(), kSweepPatience);
    });
  }
  for (std::thread& thread : threads) thread.join();
  v1::RecoverResponse response;
  for (auto& report : reports) *response.add_resources() = std::move(report.second);
  return response;
}

std::vector<v1::InDoubtBranch> Recovery::NobodysInDoubt(const std::string& resource) {
  std::vector<v1::InDoubtBranch> all;
  for (const GlobalPtr& global : engine_->Undone()) {
    for (int i = 0; i < global->branches_size(); ++i) {
      const v1::Branch& branch = global->branches(i);
      if (!resource.empty() && branch.resource() != resource) continue;
      const bool heuristic = IsHeuristic(branch) && !branch.acknowledged();
      if (!heuristic && !(IsOpen(branch) && Find(branch.resource()) == nullptr)) continue;
      v1::InDoubtBranch shown;
      shown.set_gtrid(global->gtrid());
      *shown.mutable_branch() = branch;
      shown.set_state(global->state());
      shown.set_decision(global->decision());
      SetTime(OpenBranch{global, i}.since(), shown.mutable_since());
      shown.set_next_step(
          heuristic ? "an operator must look: correct the data by hand and resolve the branch as decided, or "
                      "acknowledge that it "
                      "stays so (`assentctl resolve`)"
                    : absl::StrCat("an operator must look: resource '", branch.resource(),
                                   "' is not registered, so nobody can; register it (again) under that name"));
      shown.set_alarm(true);
      all.push_back(std::move(shown));
    }
  }
  return all;
}

std::vector<v1::InDoubtBranch> Recovery::AllInDoubt(const std::map<std::string, WorkerPtr>& workers,
                                                    const std::string& resource) {
  TakeCensus();
  // What a worker knows of a branch is more than what its record says, so it comes first.
  std::vector<v1::InDoubtBranch> all;
  for (const auto& worker : workers) {
    for (v1::InDoubtBranch& branch : worker.second->InDoubt()) all.push_back(std::move(branch));
  }
  for (v1::InDoubtBranch& branch : NobodysInDoubt(resource)) all.push_back(std::move(branch));
  std::stable_sort(all.begin(), all.end(), IsBefore);
  all.erase(std::unique(all.begin(), all.end(),
                        [](const auto& a, const auto& b) {
                          return a.gtrid() == b.gtrid() && a.branch().bqual() == b.branch().bqual();
                        }),
            all.end());
  return all;
}

absl::StatusOr<v1::ListInDoubtResponse> Recovery::ListInDoubt(const v1::ListInDoubtRequest& request) {
  const absl::StatusOr<int> page_size = PageSize(request.page_size());
  if (!page_size.ok()) return page_size.status();
  v1::InDoubtBranch last;
  const bool first_page = request.page_token().empty();
  if (!first_page) {
    if (absl::Status status = ReadToken(request.page_token(), &last); !status.ok()) return status;
  }
  const auto workers = Select(request.resource());
  if (!workers.ok()) return workers.status();
  std::vector<v1::InDoubtBranch> all = AllInDoubt(*workers, request.resource());
  v1::ListInDoubtResponse response;
  auto next = first_page ? all.begin() : std::upper_bound(all.begin(), all.end(), last, IsBefore);
  for (; next != all.end() && response.branches_size() < *page_size; ++next)
    *response.add_branches() = std::move(*next);
  if (next != all.end()) response.set_next_page_token(TokenOf(*response.branches().rbegin()));
  if (!first_page) return response;
  for (const auto& worker : *workers) {
    *response.add_resources() = worker.second->Status();
    if (!request.with_locks()) continue;
    const absl::StatusOr<std::vector<v1::LockWait>> waits = worker.second->LockWaits(kMaxLockWaits, kLookPatience);
    if (!waits.ok()) {
      v1::LocksUnknown* const unknown = response.add_locks_unknown();
      unknown->set_resource(worker.first);
      unknown->set_detail(ToUtf8(waits.status().message(), kMaxDetailBytes));
      continue;
    }
    for (const v1::LockWait& wait : *waits) *response.add_lock_waits() = wait;
  }
  return response;
}

std::vector<ResourceSurvey> Recovery::Survey() {
  std::map<std::string, WorkerPtr> workers;
  {
    MutexLock lock(&mutex_);
    workers = workers_;
  }
  std::map<std::string, ResourceSurvey> surveys;
  for (const auto& worker : workers) {
    surveys[worker.first].status = worker.second->Status();
    surveys[worker.first].witnesses_waiting = worker.second->WitnessesWaiting();
  }
  for (const v1::InDoubtBranch& branch : AllInDoubt(workers, "")) {
    ResourceSurvey& survey = surveys[branch.branch().resource()];
    survey.status.set_resource(branch.branch().resource());
    ++survey.in_doubt;
    survey.alarms += branch.alarm();
    survey.oldest = std::min(survey.oldest, GetTime(branch.since()));
  }
  std::vector<ResourceSurvey> all;
  for (auto& survey : surveys) all.push_back(std::move(survey.second));
  return all;
}

absl::StatusOr<v1::RetryNowResponse> Recovery::RetryNow(const v1::RetryNowRequest& request) {
  const auto workers = Select(request.resource());
  if (!workers.ok()) return workers.status();
  TakeCensus();
  v1::RetryNowResponse response;
  for (const auto& worker : *workers) {
    response.set_branches(response.branches() + worker.second->RetryNow(request.gtrid()));
  }
  return response;
}

v1::Evidence Recovery::LookAt(const GlobalPtr& global, absl::string_view bqual) {
  v1::Evidence none;
  for (int i = 0; i < global->branches_size(); ++i) {
    if (global->branches(i).bqual() != bqual) continue;
    const WorkerPtr worker = Find(global->branches(i).resource());
    if (worker == nullptr) break;
    absl::StatusOr<v1::Evidence> evidence = worker->LookAt({global, i}, kLookPatience);
    if (evidence.ok()) return *std::move(evidence);
    none.set_detail(std::string(evidence.status().message()));
    return none;
  }
  none.set_detail("the resource is not registered");
  return none;
}

}  // namespace assent
