// ResourceRegistry: the database servers that branches may be created on, in memory and in the store.
#ifndef ASSENT_COORDINATOR_RESOURCE_REGISTRY_H_
#define ASSENT_COORDINATOR_RESOURCE_REGISTRY_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "assent/v1/resource_service.pb.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "store/store.h"

namespace assent {

constexpr size_t kMaxResources = 1000;

using ResourcePtr = std::shared_ptr<const v1::Resource>;

// What a server has said of itself, and what Assent has left there: `server`, `timeline`, `epoch`, `next_epoch`.
void CopyNotes(const v1::Resource& from, v1::Resource* to);

// Thread-safe. Put and Remove block on the store; Find and List never do.
class ResourceRegistry {
 public:
  // Both must outlive it.
  ResourceRegistry(Store* store, Clock* clock);

  // Reads the store. Call once, before anything else.
  absl::Status Load();
  // Of a shared store: takes over what others changed. Blocks.
  absl::Status Refresh();
  // The names of the resources that others have registered, changed or removed since the last call.
  std::set<std::string> TakeChanges();

  // RESOURCE_NOT_FOUND if there is none. Whoever creates branches keeps the pointer until they are stored: it keeps the
  // resource from being removed meanwhile.
  absl::StatusOr<ResourcePtr> Find(absl::string_view name);
  // In order of name.
  std::vector<ResourcePtr> List();

  // INVALID_RESOURCE, or what the content of a registration would be answered with: RESOURCE_EXISTS if there is another
  // one of this name and `replace` is false; else OK. Fills in defaults.
  absl::Status Validate(bool replace, v1::Resource* resource);
  // Stores it (Validate first) and answers what is registered now. RESOURCE_EXISTS as of Validate, also if another
  // instance was first in this moment; STORE_UNAVAILABLE if others change it all the time.
  // `accepted`: an operator has accepted the server as it is (Resource.accept_time).
  absl::StatusOr<ResourcePtr> Put(bool replace, v1::Resource resource, bool accepted = false);
  // Notes what the server said of itself (CopyNotes of `known`), if the resource
  // is still registered as in `resource` (its update_time). Stored. RESOURCE_NOT_FOUND if it was changed meanwhile.
  absl::Status NoteServer(const v1::Resource& resource, const v1::Resource& known);
  // True if a resource on the server has this epoch, or is about to. May block if the store is shared.
  bool KnowsEpoch(const std::string& server, int64_t epoch);

  // While it is quarantined no branch can be created on it. OK ends it.
  void SetQuarantine(const std::string& name, absl::Status why);
  // Find, or RESOURCE_QUARANTINED.
  absl::StatusOr<ResourcePtr> FindUsable(absl::string_view name);

  // RESOURCE_NOT_FOUND, or RESOURCE_IN_USE if somebody is creating a branch on it or `in_use` says so.
  absl::Status Remove(const std::string& name, const std::function<bool()>& in_use);

 private:
  // With change_mutex_ held.
  absl::Status Reread();
  // Stores it, with change_mutex_ held, if nobody has changed what this instance knows; false: somebody has, and it was
  // read again.
  absl::StatusOr<bool> Replace(const v1::Resource& resource);
  absl::Status CheckReplace(bool replace, const v1::Resource& resource) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Store* const store_;
  Clock* const clock_;
  Mutex change_mutex_;  // One change at a time; taken before mutex_.
  // As stored: without the defaults that an older version left out.
  std::map<std::string, v1::Resource, std::less<>> stored_ ABSL_GUARDED_BY(change_mutex_);
  Mutex mutex_;
  std::map<std::string, ResourcePtr, std::less<>> resources_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> changed_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Status, std::less<>> quarantined_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace assent

#endif  // ASSENT_COORDINATOR_RESOURCE_REGISTRY_H_
