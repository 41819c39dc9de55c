// Is a MariaDB or MySQL server fit to run branches? Everything that Assent needs of it, looked at once and in words.
#ifndef ASSENT_RESOURCE_MANAGER_RESOURCE_CHECK_H_
#define ASSENT_RESOURCE_MANAGER_RESOURCE_CHECK_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "assent/v1/resource_service.pb.h"
#include "resource_manager/mariadb_session.h"
#include "resource_manager/server_facts.h"

namespace assent {

// Connects and looks. The findings, always in this order:
//
//   reachable      it answers, and takes the account
//   server         MariaDB 10.5 or MySQL 8.0, or later, as the resource says
//   galera         not a Galera node
//   engine         InnoDB, not in forced recovery
//   witness        the table is there and may be used
//   xa_recover     XA RECOVER works; how many branches are prepared, and how many of them nobody runs any more
//   detach         MySQL only: whether PREPARE lets go of branches
//   privileges     what taking branches over needs: KILL, the process list, the engine's status
//   durability     what is prepared or committed is forced to disk
//   binlog         no filters that lose parts of branches
//   replication    not a replica; no replica's settings that break XA
//   read_only      branches may be finished
//   lock_wait      XA PREPARE does not wait for hours
//   timeouts       sessions that hold branches are not closed within the lease
//   connections    there is room for the coordinator's
//   clock          it shows our time
//   tables         nothing that no rollback undoes
//
// They end after `reachable`, or after `engine`, if one of the findings up to there is an ERROR. Severities, remedies
// and `install` as of CheckResource (database_engine.h).
std::vector<v1::Finding> CheckMariaDb(const v1::Resource& resource, const ConnectOptions& options,
                                      const std::function<absl::Status()>& install);

// The findings that follow from facts alone.
v1::Finding JudgeServer(const ServerFacts& facts, const v1::Resource& resource);
v1::Finding JudgeGalera(const ServerFacts& facts);
v1::Finding JudgeEngine(const ServerFacts& facts);
// `prepared`: how many branches XA RECOVER lists.
v1::Finding JudgePrepared(const ServerFacts& facts, const v1::Resource& resource, size_t prepared);
v1::Finding JudgeDetach(const ServerFacts& facts);
v1::Finding JudgePrivileges(const ServerFacts& facts, const v1::Resource& resource);
v1::Finding JudgeDurability(const ServerFacts& facts);
v1::Finding JudgeBinlog(const ServerFacts& facts);
v1::Finding JudgeReplication(const ServerFacts& facts);
v1::Finding JudgeReadOnly(const ServerFacts& facts);
v1::Finding JudgeLockWait(const ServerFacts& facts);
v1::Finding JudgeTimeouts(const ServerFacts& facts, const v1::Resource& resource);
v1::Finding JudgeConnections(const ServerFacts& facts);
v1::Finding JudgeClock(const ServerFacts& facts);
v1::Finding JudgeTables(const ServerFacts& facts);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_RESOURCE_CHECK_H_
