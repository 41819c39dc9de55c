#include "coordinator/resource_registry.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "base/xid.h"
#include "google/protobuf/util/message_differencer.h"
#include "resource_manager/address.h"

namespace assent {
namespace {

constexpr size_t kMaxTextBytes = 255;

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

// A schema is quoted with backticks wherever it is used; these bytes never need escaping.
bool IsValidSchema(absl::string_view schema) {
  if (schema.empty() || schema.size() > 64) return false;
  for (const char c : schema) {
    if (!(absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$')) return false;
  }
  return true;
}

// The first field in which they differ, times aside; empty if none.
std::string DifferingField(v1::Resource a, v1::Resource b) {
  for (v1::Resource* r : {&a, &b}) {
    r->clear_create_time();
    r->clear_update_time();
  }
  const google::protobuf::Descriptor* descriptor = v1::Resource::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    google::protobuf::util::MessageDifferencer differencer;
    if (!differencer.CompareWithFields(a, b, {descriptor->field(i)}, {descriptor->field(i)}))
      return descriptor->field(i)->name();
  }
  return "";
}

}  // namespace

ResourceRegistry::ResourceRegistry(Store* store, Clock* clock) : store_(store), clock_(clock) {}

absl::Status ResourceRegistry::Load() {
  absl::StatusOr<std::vector<v1::Resource>> stored = store_->ReadResources();
  if (!stored.ok()) return stored.status();
  MutexLock lock(&mutex_);
  for (v1::Resource& resource : *stored) {
    resources_[resource.name()] = std::make_shared<const v1::Resource>(resource);
  }
  return absl::OkStatus();
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
  resource->clear_create_time();
  resource->clear_update_time();
  if (!IsValidId(resource->name())) return Invalid("name", "must be 1 to 64 bytes of [A-Za-z0-9._:-]");
  if (resource->engine() != v1::Resource::ENGINE_MARIADB) return Invalid("engine", "must be ENGINE_MARIADB");
  if (resource->user().empty()) return Invalid("user", "is required");
  if (const absl::Status status = ParseAddress(resource->address()).status(); !status.ok()) {
    return Invalid("address", absl::StripPrefix(status.message(), "address "));
  }
  if (!resource->password_env().empty() && !resource->password_file().empty()) {
    return Invalid("password_file", "and resource.password_env cannot both be given");
  }
  for (const auto& field : {std::make_pair("user", &resource->user()), std::make_pair("address", &resource->address()),
                            std::make_pair("password_env", &resource->password_env()),
                            std::make_pair("password_file", &resource->password_file())}) {
    if (field.second->size() > kMaxTextBytes) return Invalid(field.first, "is longer than 255 bytes");
    if (field.second->find('\0') != std::string::npos) return Invalid(field.first, "contains a NUL byte");
  }
  if (resource->witness() == v1::WITNESS_UNSPECIFIED) resource->set_witness(v1::WITNESS_ENABLED);
  if (!v1::Witness_IsValid(resource->witness())) return Invalid("witness", "has an unknown value");
  if (resource->witness_schema().empty()) resource->set_witness_schema("assent");
  if (!IsValidSchema(resource->witness_schema())) return Invalid("witness_schema", "must be 1 to 64 of [A-Za-z0-9_$]");
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

absl::StatusOr<ResourcePtr> ResourceRegistry::Put(bool replace, v1::Resource resource) {
  MutexLock change(&change_mutex_);
  {
    MutexLock lock(&mutex_);
    if (absl::Status status = CheckReplace(replace, resource); !status.ok()) return status;
    const auto it = resources_.find(resource.name());
    if (it != resources_.end() && DifferingField(*it->second, resource).empty()) return it->second;
    SetTime(clock_->Now(), resource.mutable_update_time());
    *resource.mutable_create_time() = it == resources_.end() ? resource.update_time() : it->second->create_time();
  }
  if (absl::Status status = store_->PutResource(resource); !status.ok()) return status;
  auto stored = std::make_shared<const v1::Resource>(std::move(resource));
  MutexLock lock(&mutex_);
  resources_[stored->name()] = stored;
  return stored;
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
  if (status.ok()) return status;
  MutexLock lock(&mutex_);
  resources_[name] = std::move(removed);
  return status;
}

}  // namespace assent
