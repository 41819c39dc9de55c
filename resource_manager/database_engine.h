// DatabaseEngine: what differs from one database engine to the next, as the coordinator and the tools need it. One row
// an engine; whoever adds one adds its row, and nothing else has to know.
#ifndef ASSENT_RESOURCE_MANAGER_DATABASE_ENGINE_H_
#define ASSENT_RESOURCE_MANAGER_DATABASE_ENGINE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "assent/v1/resource_service.pb.h"
#include "base/connect_options.h"
#include "base/xid.h"
#include "resource_manager/branch_recovery.h"
#include "resource_manager/branch_session.h"

namespace assent {

struct DatabaseEngine {
  v1::Resource::Engine id;
  // As people write it, and as `--engine` takes it.
  absl::string_view name;
  absl::string_view word;
  // Its branches leave witnesses: the server does not tell by itself how a branch ended.
  bool leaves_witnesses;
  // A resource is one database of the server (Resource.database is required), not the whole server.
  bool has_databases;
  // The coordinator's way to finish branches; at most `connections` at once beside the first.
  absl::StatusOr<std::unique_ptr<BranchRecovery>> (*recover)(const ConnectOptions& options, int connections);
  // A participant's session.
  absl::StatusOr<std::unique_ptr<BranchSession>> (*connect)(const ConnectOptions& options);
  // Is the server fit to run branches; see CheckResource.
  std::vector<v1::Finding> (*check)(const v1::Resource& resource, const ConnectOptions& options,
                                    const std::function<absl::Status()>& install);
  // The statement that finishes a prepared branch, as an operator may type it.
  std::string (*finish_sql)(const Xid& xid, bool commit);
};

// All that there are, in the order of their ids.
absl::Span<const DatabaseEngine> AllDatabaseEngines();
// Null if there is none.
const DatabaseEngine* FindDatabaseEngine(v1::Resource::Engine id);

// How to connect to a resource, with short timeouts: nothing that the coordinator does there should take long.
// INVALID_RESOURCE for an address that cannot be read.
absl::StatusOr<ConnectOptions> ConnectOptionsOf(const v1::Resource& resource, absl::string_view password);

// Is the resource's server fit to run branches? Connects and looks; the findings are in a fixed order that each
// engine's check tells (resource_check.h, postgres_check.h), and begin with `reachable`. Only what makes the resource
// unfit is an ERROR; a risk is a WARNING. Each that is not OK has a remedy to paste. Blocks for the connect timeout at
// most if nobody answers. The password is in no finding.
//
// Changes nothing on the server; `install`, if given, does: it is called before what Assent keeps there is looked at,
// if nothing up to there is an ERROR, and its error is the finding.
std::vector<v1::Finding> CheckResource(const v1::Resource& resource, absl::string_view password,
                                       const std::function<absl::Status()>& install = nullptr);

// True if one of the findings is an ERROR.
bool IsUnfit(const std::vector<v1::Finding>& findings);
// True if the resource could not be connected to.
bool IsUnreachable(const std::vector<v1::Finding>& findings);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_DATABASE_ENGINE_H_
