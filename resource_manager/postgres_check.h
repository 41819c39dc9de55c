// Is a PostgreSQL database fit to run branches? Everything that Assent needs of it, looked at once and in words.
#ifndef ASSENT_RESOURCE_MANAGER_POSTGRES_CHECK_H_
#define ASSENT_RESOURCE_MANAGER_POSTGRES_CHECK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "assent/v1/resource_service.pb.h"
#include "base/connect_options.h"

namespace assent {

// What the check looks at.
struct PostgresServer {
  std::map<std::string, std::string> settings;  // pg_settings, in the units of SHOW.
  int64_t version_number = 0;                   // 150018: 15.18
  std::string version;
  bool in_recovery = false;
  bool behind_a_pooler = false;
  std::string user;
  std::string database;
  bool is_superuser = false;
  bool sees_sessions = false;  // pg_read_all_stats.
  bool ends_sessions = false;  // pg_signal_backend.
  int64_t connections = 0;
  int64_t prepared = 0;            // In all databases, whoever's.
  int64_t prepared_here = 0;       // In this one.
  absl::Duration oldest_prepared;  // Of all.
  absl::Duration clock_offset;     // The server's clock minus this machine's.
  absl::Duration clock_error;

  // The value of a setting; empty, or 0, if the server does not know it.
  std::string Setting(const std::string& name) const;
  int64_t Number(const std::string& name) const;
};

// Connects and looks. The findings, always in this order:
//
//   reachable      it answers, and takes the account
//   server         PostgreSQL 14 or later
//   standby        it takes writes
//   prepared       it prepares transactions, and as many as it has connections
//   claim          the table assent.claim is there and may be used (the claim of another cluster is no finding)
//   pg_prepared_xacts  how many are prepared, and since when
//   privileges     what taking branches over needs
//   durability     what is prepared or committed is forced to disk
//   timeouts       nothing ends the coordinator's or the participants' sessions early
//   connections    there is room for the coordinator's
//   pooler         whether something is in between
//   clock          it shows our time
//
// They end after `reachable`, or after `prepared`, if one of the findings up to there is an ERROR. Severities, remedies
// and `install` as of CheckResource.
std::vector<v1::Finding> CheckPostgres(const v1::Resource& resource, const ConnectOptions& options,
                                       const std::function<absl::Status()>& install);

// The findings that follow from what was read alone.
v1::Finding JudgePostgresVersion(const PostgresServer& server);
v1::Finding JudgeStandby(const PostgresServer& server);
v1::Finding JudgePreparing(const PostgresServer& server);
v1::Finding JudgePreparedXacts(const PostgresServer& server, const v1::Resource& resource);
v1::Finding JudgePostgresPrivileges(const PostgresServer& server, const v1::Resource& resource);
v1::Finding JudgePostgresDurability(const PostgresServer& server);
v1::Finding JudgePostgresTimeouts(const PostgresServer& server);
v1::Finding JudgePostgresConnections(const PostgresServer& server);
v1::Finding JudgePooler(const PostgresServer& server);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_POSTGRES_CHECK_H_
