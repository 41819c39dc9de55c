// What can be read of a database server, before anybody judges it (resource_check.h does).
#ifndef ASSENT_RESOURCE_MANAGER_SERVER_FACTS_H_
#define ASSENT_RESOURCE_MANAGER_SERVER_FACTS_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "resource_manager/mariadb_session.h"

namespace assent {

// A plain struct, so that servers can be judged that are not at hand. What is nullopt could not be looked at: the
// account lacks the privilege, or it took too long.
struct ServerFacts {
  // SHOW GLOBAL VARIABLES; use Variable() and Number().
  std::map<std::string, std::string> variables;
  std::string innodb_support;  // Of information_schema.ENGINES: "DEFAULT", "YES", "NO", "DISABLED" or empty: none.
  // The account of the session as a GRANT names it: 'user'@'host'.
  std::string account;
  // What it may do on *.*, as SHOW GRANTS says it, its active roles and PUBLIC included: "PROCESS", "ALL PRIVILEGES".
  // (MySQL lists what ALL stands for, and its dynamic privileges with underscores: "CONNECTION_ADMIN".)
  absl::optional<std::set<std::string>> privileges;
  // The account may see who waits for which lock. MySQL wants a privilege of its own for that.
  bool sees_locks = true;
  int64_t threads_connected = 0;
  // The server's clock minus this machine's, and how wrong that may be at most (half a round trip).
  absl::Duration clock_offset;
  absl::Duration clock_error;
  // host:port of the servers that it is a replica of.
  absl::optional<std::vector<std::string>> masters;
  // MySQL: what it filters as a replica, as its options are called: "replicate_do_db". (MariaDB's are variables.)
  std::set<std::string> replica_filters;
  // binlog_do_db and binlog_ignore_db, as the server writes them; empty: no filter.
  absl::optional<std::string> binlog_do_db;
  absl::optional<std::string> binlog_ignore_db;
  // Engine transactions that no session runs: prepared and detached (or lost sight of), whoever's.
  struct Detached {
    int64_t count = 0;
    absl::Duration oldest;  // Since its begin, or since the server's start if that is later.
  };
  absl::optional<Detached> detached;
  // Tables outside the server's own schemas whose engine cannot roll back, as `schema.table (engine)`: those that the
  // account sees, at most kMaxPlainTables.
  absl::optional<std::vector<std::string>> plain_tables;

  // MySQL, or what calls itself so; else MariaDB.
  bool is_mysql() const;
  // The value of a variable; empty if the server does not know it.
  std::string Variable(const std::string& name) const;
  // The value of a variable; 0 if it is no whole number.
  int64_t Number(const std::string& name) const;
};
constexpr size_t kMaxPlainTables = 6;

// Reads all of them: about ten statements, none of which changes anything. An error if the variables or the engines
// cannot be read or the connection is lost.
absl::StatusOr<ServerFacts> ReadServerFacts(MariaDbSession* session);

// The global privileges that one line of SHOW GRANTS names; none if it is about something else.
std::vector<std::string> GlobalPrivilegesOf(absl::string_view grant);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_SERVER_FACTS_H_
