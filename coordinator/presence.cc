#include "coordinator/presence.h"

#include <glog/logging.h>

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/errors.h"
#include "coordinator/retention.h"

namespace assent {
namespace {

// Breaths per lease: some may be lost. However long that is, what others do is seen within kMaxPause.
constexpr int kBreaths = 5;
constexpr absl::Duration kMaxPause = absl::Seconds(1);
// Decisions of others reach who waits here within this, and a read.
constexpr absl::Duration kWatchInterval = absl::Milliseconds(40);
// Between being replaced under one's own address and trying to take it back, doubled each time.
constexpr absl::Duration kFirstRejoinPause = absl::Seconds(1);
constexpr absl::Duration kLongestRejoinPause = absl::Seconds(30);
constexpr absl::Duration kForgetInterval = absl::Seconds(10);

// The same on every machine and in every build: FNV-1a, and a finalizer so that near names do not go together.
uint64_t Hash(const std::string& text) {
  uint64_t hash = 14695981039346656037ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  hash ^= hash >> 33;
  hash *= 0xff51afd7ed558ccdULL;
  return hash ^ (hash >> 33);
}

}  // namespace

InstanceKey WhoIsToDo(const std::string& work, const std::vector<Instance>& living) {
  const auto weight = [&work](const Instance& instance) {
    return std::make_pair(Hash(absl::StrCat(work, "/", instance.key.id)), instance.key.id);
  };
  return std::max_element(living.begin(), living.end(),
                          [&](const Instance& a, const Instance& b) { return weight(a) < weight(b); })
      ->key;
}

Presence::Presence(Store* store, Engine* engine, ResourceRegistry* registry, Recovery* recovery,
                   std::function<void(bool)> on_health)
    : store_(store), engine_(engine), registry_(registry), recovery_(recovery), on_health_(std::move(on_health)) {}

Presence::~Presence() { Stop(); }

absl::Status Presence::Start(const InstanceInfo& info) {
  info_ = info;
  if (absl::Status status = Breathe(); !status.ok()) return status;
  breath_ = std::thread([this] { RunBreath(); });
  if (store_->IsShared()) watch_ = std::thread([this] { RunWatch(); });
  return absl::OkStatus();
}

void Presence::Stop() {
  {
    MutexLock lock(&mutex_);
    if (stopping_) return;
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (breath_.joinable()) breath_.join();
  if (watch_.joinable()) watch_.join();
  if (!joined_) return;
  const absl::Status left = store_->Members().Leave();
  LOG_IF(WARNING, !left.ok()) << "the others will notice only in a moment that this instance has gone: "
                              << ToText(left);
}

absl::Status Presence::Breathe() {
  if (joined_) {
    const absl::Status renewed = store_->Members().Renew(engine_->OpenGlobals());
    if (!renewed.ok() && ReasonOf(renewed) != Reason::INSTANCE_FENCED) return renewed;
    if (!renewed.ok()) {
      const bool usurped = ExplainDeath();
      rejoin_pause_ = usurped ? std::min(kLongestRejoinPause, std::max(kFirstRejoinPause, 2 * rejoin_pause_))
                              : absl::ZeroDuration();
      rejoin_at_ = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(rejoin_pause_);
      joined_ = false;
      Hold({});
    }
  }
  if (!joined_) {
    if (std::chrono::steady_clock::now() < rejoin_at_) {
      return MakeError(Reason::INSTANCE_FENCED, absl::StrCat("another process has joined as ", info_.address,
                                                             "; this one waits before it tries again"));
    }
    const absl::StatusOr<InstanceKey> key = store_->Members().Join(info_);
    if (!key.ok()) return key.status();
    joined_ = true;
    LOG(INFO) << "instance=" << key->id << " epoch=" << key->epoch << " address=" << info_.address << " joined";
  }
  if (absl::Status status = recovery_->TakeUpResources(); !status.ok()) return status;
  return ShareWork();
}

bool Presence::ExplainDeath() {
  const absl::StatusOr<std::vector<Instance>> instances = store_->Members().Instances();
  const bool usurped =
      instances.ok() && std::any_of(instances->begin(), instances->end(), [this](const Instance& other) {
        return other.alive && other.address == info_.address;
      });
  if (usurped) {
    LOG(ERROR) << "another process has joined as " << info_.address
               << ", and this instance was declared dead for it: each needs an address of its own; set `advertise`";
  } else {
    LOG(WARNING) << "this instance was declared dead, because it did not say in time that it lives: it joins again";
  }
  return usurped;
}

absl::Status Presence::ShareWork() {
  const absl::StatusOr<std::vector<Instance>> instances = store_->Members().Instances();
  if (!instances.ok()) return instances.status();
  std::vector<Instance> living;
  std::copy_if(instances->begin(), instances->end(), std::back_inserter(living),
               [](const Instance& instance) { return instance.alive; });
  if (living.empty()) return absl::OkStatus();  // Not even this one: the next breath joins again.
  const auto self = std::find_if(living.begin(), living.end(),
                                 [this](const Instance& instance) { return instance.address == info_.address; });
  std::vector<std::string> wanted;
  std::vector<std::string> unwanted;
  std::set<std::string> held;
  if (self != living.end()) {
    std::vector<std::string> all = {std::string(kRetentionWork)};
    for (const ResourcePtr& resource : registry_->List()) all.push_back(absl::StrCat(kRecoveryOf, resource->name()));
    for (const std::string& work : all) {
      if (WhoIsToDo(work, living).id == self->key.id) {
        wanted.push_back(work);
      } else if (std::count(self->leases.begin(), self->leases.end(), work) != 0) {
        unwanted.push_back(work);
      }
    }
    const absl::StatusOr<std::vector<Lease>> leases = store_->Members().Claim(wanted);
    if (!leases.ok()) return leases.status();
    for (const Lease& lease : *leases) {
      if (lease.holder.id == self->key.id && lease.holder.epoch == self->key.epoch) {
        held.insert(lease.work);
      }
    }
  }
  // First nobody works on it here any more, then somebody else may.
  Hold(held);
  return unwanted.empty() ? absl::OkStatus() : store_->Members().Release(unwanted);
}

void Presence::Hold(const std::set<std::string>& work) {
  holds_retention_ = work.count(std::string(kRetentionWork)) != 0;
  std::set<std::string> resources;
  for (absl::string_view name : work) {
    if (absl::ConsumePrefix(&name, kRecoveryOf)) resources.insert(std::string(name));
  }
  recovery_->SetHeld(std::move(resources));
}

void Presence::RunBreath() {
  using Mono = std::chrono::steady_clock;  // Goes on while the process is stopped, and never jumps.
  const absl::Duration pause = std::min(info_.lease / kBreaths, kMaxPause);
  Mono::time_point last = Mono::now();
  Mono::time_point forget = last + absl::ToChronoNanoseconds(kForgetInterval);
  bool told = false;
  while (Pause(pause)) {
    const Mono::time_point began = Mono::now();
    const absl::Status status = Breathe();
    on_health_(status.ok());
    if (status.ok()) {
      last = began;
    } else if (absl::FromChrono(Mono::now() - last) > info_.lease) {
      // The others may think that it is dead.
      Hold({});
    }
    LOG_IF(WARNING, !status.ok() && !told) << "the store cannot be told that this instance lives: " << ToText(status);
    told = !status.ok();
    if (store_->IsShared() && Mono::now() >= forget) {
      engine_->ForgetIdle();
      forget = Mono::now() + absl::ToChronoNanoseconds(kForgetInterval);
    }
  }
}

void Presence::RunWatch() {
  while (Pause(kWatchInterval)) (void)engine_->LearnFromOthers();  // The breath finds out whether the store is well.
}

bool Presence::Pause(absl::Duration pause) {
  const auto wake = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(pause);
  MutexLock lock(&mutex_);
  while (!stopping_ && std::chrono::steady_clock::now() < wake) changed_.WaitUntil(&mutex_, wake);
  return !stopping_;
}

}  // namespace assent
