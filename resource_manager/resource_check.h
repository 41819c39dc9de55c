// Is a database server fit to run branches? Everything that Assent needs of it, looked at once and in words.
#ifndef ASSENT_RESOURCE_MANAGER_RESOURCE_CHECK_H_
#define ASSENT_RESOURCE_MANAGER_RESOURCE_CHECK_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "assent/v1/resource_service.pb.h"
#include "resource_manager/mariadb_session.h"

namespace assent {

// How to connect to a resource, with short timeouts: nothing here should take long. INVALID_RESOURCE for an address
// that cannot be read.
absl::StatusOr<ConnectOptions> ConnectOptionsOf(const v1::Resource& resource, absl::string_view password);

// Connects and looks. The findings, in this order: `reachable`; and if it is, `server` (MariaDB, version), `galera`,
// `engine` (InnoDB), `witness` (made if missing and wanted), `xa_recover`, `durability`. A server that cannot be
// reached is a finding. Blocks for the connect timeout at most if nobody answers. The password is in no finding.
std::vector<v1::Finding> CheckResource(const v1::Resource& resource, absl::string_view password);

// True if one of the findings is an ERROR.
bool IsUnfit(const std::vector<v1::Finding>& findings);
// True if the resource could not be connected to.
bool IsUnreachable(const std::vector<v1::Finding>& findings);

// What CheckResource knows of a server; separate, so that servers can be judged that are not at hand.
struct ServerFacts {
  std::string version;         // VERSION()
  std::string wsrep_on;        // "ON", "OFF" or empty: not known to the server.
  std::string innodb_support;  // Of information_schema.ENGINES: "DEFAULT", "YES", "NO", "DISABLED" or empty: none.
  std::string innodb_flush_log_at_trx_commit;
  std::string log_bin;  // "ON" or "OFF"
  std::string sync_binlog;
};
v1::Finding JudgeServer(const ServerFacts& facts);
v1::Finding JudgeGalera(const ServerFacts& facts);
v1::Finding JudgeEngine(const ServerFacts& facts);
v1::Finding JudgeDurability(const ServerFacts& facts);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_RESOURCE_CHECK_H_
