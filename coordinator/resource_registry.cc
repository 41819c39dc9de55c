#include "coordinator/resource_registry.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/address.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "base/xid.h"
#include "google/protobuf/util/message_differencer.h"
#include "resource_manager/database_engine.h"

namespace assent {
namespace {

constexpr size_t kMaxTextBytes = 255;
// How often a change is applied again to what another instance has stored in between.
constexpr int kTries = 10;

absl::Status Invalid(absl::string_view field, absl::string_view problem) {
  return MakeError(Reason::INVALID_RESOURCE, absl::StrCat("resource.", field, " ", problem),
                   {{"field", absl::StrCat("resource.", field)}});
}

absl::Status NotFound(absl::string_view name) {
  const std::string shown = IsValidId(name) ? std::string(name) : "(not a valid name)";
  return MakeError(
      Reason::RESOURCE_NOT_FOUND,
      absl::StrCat("no resource is registered as '", shown, "'; register it with `assentctl resources register`"),
      {{"resource", shown}});
}

absl::Status ChangedTooOften(const std::string& name) {
  return MakeError(
      Reason::STORE_UNAVAILABLE,
      absl::StrCat("other instances change the registration of resource '", name, "' all the time: repeat"),
      {{"resource", name}});
}

// A schema is quoted with backticks wherever it is used; these bytes never need escaping.
bool IsValidSchema(absl::string_view schema) {
  if (schema.empty() || schema.size() > 64) return false;
  for (const char c : schema) {
    if (!(absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$')) return false;
  }
  return true;
}

constexpr absl::Duration kDefaultLease = absl::Seconds(30);
constexpr absl::Duration kMaxLease = absl::Hours(1);
constexpr absl::Duration kDefaultOrphanAge = absl::Seconds(60);
constexpr absl::Duration kMaxOrphanAge = absl::Hours(24);

void ClearOutputFields(v1::Resource* resource) {
  resource->clear_create_time();
  resource->clear_update_time();
  resource->clear_accept_time();
  CopyNotes(v1::Resource(), resource);
}

bool SameServer(const v1::Resource& a, const v1::Resource& b) {
  return a.server() == b.server() && a.timeline() == b.timeline() && a.epoch() == b.epoch() &&
         a.next_epoch() == b.next_epoch();
}

// Also for what an older version stored without them.
void SetRecoveryDefaults(v1::Resource* resource) {
  if (!resource->has_lease()) SetDuration(kDefaultLease, resource->mutable_lease());
  if (!resource->has_orphan_age()) SetDuration(kDefaultOrphanAge, resource->mutable_orphan_age());
  if (resource->kill_after_lease() == v1::KILL_AFTER_LEASE_UNSPECIFIED) {
    resource->set_kill_after_lease(v1::KILL_AFTER_LEASE_ENABLED);
  }
}

// True if every machine has its own server at this address.
bool IsLocal(const Address& address) {
  return !address.socket.empty() || address.host == "localhost" || address.host == "::1" ||
         absl::StartsWith(address.host, "127.");
}

absl::Status ValidateAddresses(const v1::Resource& resource) {
  const absl::StatusOr<Address> own = ParseAddress(resource.address());
  if (!own.ok()) return Invalid("address", absl::StripPrefix(own.status().message(), "address "));
  if (resource.participant_address().empty()) return absl::OkStatus();
  const absl::StatusOr<Address> theirs = ParseAddress(resource.participant_address());
  if (!theirs.ok()) return Invalid("participant_address", absl::StripPrefix(theirs.status().message(), "address "));
  // Some clients take `localhost` for the socket of their own machine, whatever the port.
  const bool is_localhost = own->host == "localhost" || theirs->host == "localhost";
  if (IsLocal(*own) != IsLocal(*theirs) || (is_localhost && resource.address() != resource.participant_address())) {
    return Invalid(
        IsLocal(*own) ? "address" : "participant_address",
        "is this machine's own server for whoever reads it, and the other address is another one: the coordinator and "
        "the participants could talk to different servers; give an address that means the same everywhere");
  }
  return absl::OkStatus();
}

// What depends on the engine; fills in defaults.
absl::Status ValidateForEngine(const DatabaseEngine& engine, v1::Resource* resource) {
  if (engine.has_databases != !resource->database().empty()) {
    return Invalid("database", engine.has_databases
                                   ? absl::StrCat("is required: a resource is one database of a ", engine.name,
                                                  " server, which finishes a prepared transaction only in the database "
                                                  "that prepared it")
                                   : absl::StrCat("must be empty: a resource is a whole ", engine.name, " server"));
  }
  if (!v1::Witness_IsValid(resource->witness())) return Invalid("witness", "has an unknown value");
  if (!engine.leaves_witnesses) {
    if (resource->witness() == v1::WITNESS_ENABLED || !resource->witness_schema().empty()) {
      return Invalid(resource->witness() == v1::WITNESS_ENABLED ? "witness" : "witness_schema",
                     absl::StrCat("must be left out: ", engine.name,
                                  " tells by itself how a branch ended, and its branches leave no witness"));
    }
    resource->set_witness(v1::WITNESS_DISABLED);
    return absl::OkStatus();
  }
  if (resource->witness() == v1::WITNESS_UNSPECIFIED) resource->set_witness(v1::WITNESS_ENABLED);
  if (resource->witness_schema().empty()) resource->set_witness_schema("assent");
  if (!IsValidSchema(resource->witness_schema())) return Invalid("witness_schema", "must be 1 to 64 of [A-Za-z0-9_$]");
  return absl::OkStatus();
}

// The first field in which they differ, what the coordinator notes aside; empty if none.
std::string DifferingField(v1::Resource a, v1::Resource b) {
  for (v1::Resource* r : {&a, &b}) ClearOutputFields(r);
  const google::protobuf::Descriptor* descriptor = v1::Resource::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    google::protobuf::util::MessageDifferencer differencer;
    if (!differencer.CompareWithFields(a, b, {descriptor->field(i)}, {descriptor->field(i)}))
      return descriptor->field(i)->name();
  }
  return "";
}

}  // namespace

void CopyNotes(const v1::Resource& from, v1::Resource* to) {
  to->set_server(from.server());
  to->set_timeline(from.timeline());
  to->set_epoch(from.epoch());
  to->set_next_epoch(from.next_epoch());
}

ResourceRegistry::ResourceRegistry(Store* store, Clock* clock) : store_(store), clock_(clock) {}

absl::Status ResourceRegistry::Load() {
  absl::StatusOr<std::vector<v1::Resource>> stored = store_->ReadResources();
  if (!stored.ok()) return stored.status();
  MutexLock change(&change_mutex_);
  MutexLock lock(&mutex_);
  for (v1::Resource& resource : *stored) {
    stored_[resource.name()] = resource;
    SetRecoveryDefaults(&resource);
    resources_[resource.name()] = std::make_shared<const v1::Resource>(resource);
  }
  return absl::OkStatus();
}

absl::Status ResourceRegistry::Refresh() {
  MutexLock change(&change_mutex_);
  return Reread();
}

absl::Status ResourceRegistry::Reread() {
  absl::StatusOr<std::vector<v1::Resource>> stored = store_->ReadResources();
  if (!stored.ok()) return stored.status();
  std::map<std::string, ResourcePtr, std::less<>> now;
  MutexLock lock(&mutex_);
  stored_.clear();
  for (v1::Resource& resource : *stored) {
    stored_[resource.name()] = resource;
    SetRecoveryDefaults(&resource);
    const auto it = resources_.find(resource.name());
    if (it == resources_.end() || !DifferingField(*it->second, resource).empty()) changed_.insert(resource.name());
    const std::string name = resource.name();
    // Who is creating a branch keeps the pointer, which must stay the same as long as nothing changes.
    const bool same =
        it != resources_.end() && google::protobuf::util::MessageDifferencer::Equals(*it->second, resource);
    now[name] = same ? it->second : std::make_shared<const v1::Resource>(std::move(resource));
  }
  for (const auto& before : resources_) {
    if (now.count(before.first) == 0) changed_.insert(before.first);
  }
  resources_ = std::move(now);
  return absl::OkStatus();
}

absl::StatusOr<bool> ResourceRegistry::Replace(const v1::Resource& resource) {
  const auto known = stored_.find(resource.name());
  absl::StatusOr<bool> replaced = store_->ReplaceResource(known == stored_.end() ? nullptr : &known->second, resource);
  if (!replaced.ok()) return replaced;
  if (!*replaced) {
    if (absl::Status status = Reread(); !status.ok()) return status;
    return false;
  }
  stored_[resource.name()] = resource;
  MutexLock lock(&mutex_);
  resources_[resource.name()] = std::make_shared<const v1::Resource>(resource);
  return true;
}

std::set<std::string> ResourceRegistry::TakeChanges() {
  std::set<std::string> changed;
  MutexLock lock(&mutex_);
  changed.swap(changed_);
  return changed;
}

absl::StatusOr<ResourcePtr> ResourceRegistry::Find(absl::string_view name) {
  MutexLock lock(&mutex_);
  const auto it = resources_.find(std::string(name));
  if (it == resources_.end()) return NotFound(name);
  return it->second;
}

std::vector<ResourcePtr> ResourceRegistry::List() {
  MutexLock lock(&mutex_);
  std::vector<ResourcePtr> all;
  for (const auto& entry : resources_) all.push_back(entry.second);
  return all;
}

absl::Status ResourceRegistry::Validate(bool replace, v1::Resource* resource) {
  ClearOutputFields(resource);
  if (!IsValidId(resource->name())) return Invalid("name", "must be 1 to 64 bytes of [A-Za-z0-9._:-]");
  const DatabaseEngine* const engine = FindDatabaseEngine(resource->engine());
  if (engine == nullptr) return Invalid("engine", "must be ENGINE_MARIADB, ENGINE_MYSQL or ENGINE_POSTGRESQL");
  if (resource->user().empty()) return Invalid("user", "is required");
  if (absl::Status status = ValidateAddresses(*resource); !status.ok()) return status;
  if (!resource->password_env().empty() && !resource->password_file().empty()) {
    return Invalid("password_file", "and resource.password_env cannot both be given");
  }
  for (const auto& field : {std::make_pair("user", &resource->user()), std::make_pair("address", &resource->address()),
                            std::make_pair("participant_address", &resource->participant_address()),
                            std::make_pair("password_env", &resource->password_env()),
                            std::make_pair("password_file", &resource->password_file()),
                            std::make_pair("database", &resource->database())}) {
    if (field.second->size() > kMaxTextBytes) return Invalid(field.first, "is longer than 255 bytes");
    if (field.second->find('\0') != std::string::npos) return Invalid(field.first, "contains a NUL byte");
  }
  if (absl::Status status = ValidateForEngine(*engine, resource); !status.ok()) return status;
  SetRecoveryDefaults(resource);
  for (const auto& limit : {std::make_tuple("lease", GetDuration(resource->lease()), kMaxLease),
                            std::make_tuple("orphan_age", GetDuration(resource->orphan_age()), kMaxOrphanAge)}) {
    if (std::get<1>(limit) < absl::Seconds(1) || std::get<1>(limit) > std::get<2>(limit)) {
      return Invalid(std::get<0>(limit), absl::StrCat("must be 1s to ", absl::FormatDuration(std::get<2>(limit))));
    }
  }
  if (!v1::KillAfterLease_IsValid(resource->kill_after_lease()))
    return Invalid("kill_after_lease", "has an unknown value");
  MutexLock lock(&mutex_);
  return CheckReplace(replace, *resource);
}

absl::Status ResourceRegistry::CheckReplace(bool replace, const v1::Resource& resource) {
  const auto it = resources_.find(resource.name());
  if (it == resources_.end()) {
    if (resources_.size() < kMaxResources) return absl::OkStatus();
    return Invalid("name",
                   absl::StrCat("cannot be added: ", kMaxResources, " resources are registered, which is the limit"));
  }
  const std::string field = DifferingField(*it->second, resource);
  if (replace || field.empty()) return absl::OkStatus();
  return MakeError(Reason::RESOURCE_EXISTS,
                   absl::StrCat("resource '", resource.name(), "' is registered with another ", field,
                                "; set `replace` to change it"),
                   {{"resource", resource.name()}, {"field", field}});
}

absl::StatusOr<ResourcePtr> ResourceRegistry::Put(bool replace, v1::Resource resource, bool accepted) {
  MutexLock change(&change_mutex_);
  for (int i = 0; i < kTries; ++i) {
    {
      MutexLock lock(&mutex_);
      if (absl::Status status = CheckReplace(replace, resource); !status.ok()) return status;
      const auto it = resources_.find(resource.name());
      if (it != resources_.end() && !accepted && DifferingField(*it->second, resource).empty() &&
          it->second->server() == resource.server() && it->second->epoch() == resource.epoch()) {
        return it->second;
      }
      SetTime(clock_->Now(), resource.mutable_update_time());
      if (accepted) {
        *resource.mutable_accept_time() = resource.update_time();
      } else if (it != resources_.end() && it->second->has_accept_time()) {
        *resource.mutable_accept_time() = it->second->accept_time();
      }
      *resource.mutable_create_time() = it == resources_.end() ? resource.update_time() : it->second->create_time();
    }
    const absl::StatusOr<bool> replaced = Replace(resource);
    if (!replaced.ok()) return replaced.status();
    if (*replaced) return Find(resource.name());
  }
  return ChangedTooOften(resource.name());
}

bool ResourceRegistry::KnowsEpoch(const std::string& server, int64_t epoch) {
  const auto knows = [&] {
    MutexLock lock(&mutex_);
    return std::any_of(resources_.begin(), resources_.end(), [&](const auto& entry) {
      const v1::Resource& resource = *entry.second;
      return resource.server() == server && (resource.epoch() == epoch || resource.next_epoch() == epoch);
    });
  };
  if (knows()) return true;
  if (!store_->IsShared()) return false;
  // Another instance may have stored it just now. While the store is away nobody can tell.
  return !Refresh().ok() || knows();
}

absl::Status ResourceRegistry::NoteServer(const v1::Resource& resource, const v1::Resource& known) {
  MutexLock change(&change_mutex_);
  if (store_->IsShared()) {
    // Another instance may have registered it anew.
    if (absl::Status status = Reread(); !status.ok()) return status;
  }
  for (int i = 0; i < kTries; ++i) {
    v1::Resource noted;
    {
      MutexLock lock(&mutex_);
      const auto it = resources_.find(resource.name());
      if (it == resources_.end() || FormatTime(it->second->update_time()) != FormatTime(resource.update_time())) {
        return MakeError(Reason::RESOURCE_NOT_FOUND,
                         absl::StrCat("the registration of resource '", resource.name(), "' was changed meanwhile"),
                         {{"resource", resource.name()}});
      }
      noted = *it->second;
    }
    if (SameServer(noted, known)) return absl::OkStatus();
    CopyNotes(known, &noted);
    const absl::StatusOr<bool> replaced = Replace(noted);
    if (!replaced.ok()) return replaced.status();
    if (*replaced) return absl::OkStatus();
  }
  return ChangedTooOften(resource.name());
}

void ResourceRegistry::SetQuarantine(const std::string& name, absl::Status why) {
  MutexLock lock(&mutex_);
  if (why.ok()) {
    quarantined_.erase(name);
  } else {
    quarantined_[name] = std::move(why);
  }
}

absl::StatusOr<ResourcePtr> ResourceRegistry::FindUsable(absl::string_view name) {
  absl::StatusOr<ResourcePtr> resource = Find(name);
  if (!resource.ok()) return resource;
  MutexLock lock(&mutex_);
  const auto it = quarantined_.find(name);
  if (it == quarantined_.end()) return resource;
  return MakeError(Reason::RESOURCE_QUARANTINED,
                   absl::StrCat("resource '", std::string(name), "' is quarantined: ", it->second.message()),
                   {{"resource", std::string(name)}});
}

absl::Status ResourceRegistry::Remove(const std::string& name, const std::function<bool()>& in_use) {
  const absl::Status used = MakeError(Reason::RESOURCE_IN_USE,
                                      absl::StrCat("an unfinished global transaction has a branch on resource '", name,
                                                   "'; see `assentctl globals list`"),
                                      {{"resource", name}});
  MutexLock change(&change_mutex_);
  if (in_use()) return used;  // The usual refusal, which nobody else notices.
  ResourcePtr removed;
  {
    MutexLock lock(&mutex_);
    const auto it = resources_.find(name);
    if (it == resources_.end()) return NotFound(name);
    removed = std::move(it->second);
    resources_.erase(it);  // From here on nobody can begin to use it; who had begun still holds a pointer.
  }
  // A call that only looks at it is gone in a moment; one that creates a branch is, too, and then the branch is seen.
  for (int i = 0; i < 100 && removed.use_count() > 1; ++i) absl::SleepFor(absl::Milliseconds(10));
  absl::Status status;
  if (removed.use_count() > 1 || in_use()) {
    status = used;
  } else {
    status = store_->RemoveResource(name);
  }
  if (status.ok()) {
    stored_.erase(name);
    return status;
  }
  MutexLock lock(&mutex_);
  resources_[name] = std::move(removed);
  return status;
}

}  // namespace assent
