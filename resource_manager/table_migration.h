// TableMigration: a table that Assent keeps on a resource's server, made and kept up to date here. Its version stands
// in its comment (`<kind> v<number>`), so that the data and what reads it cannot be mistaken for each other.
//
// All functions block and need a session without branch or transaction.
#ifndef ASSENT_RESOURCE_MANAGER_TABLE_MIGRATION_H_
#define ASSENT_RESOURCE_MANAGER_TABLE_MIGRATION_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "resource_manager/mariadb_session.h"

namespace assent {

// What the coordinator needs on the schema of its tables, so that one GRANT is enough.
constexpr absl::string_view kKeptTablePrivileges = "SELECT, INSERT, UPDATE, DELETE";

struct KeptTable {
  std::string schema;  // Checked names: they go into SQL as they are.
  std::string table;
  absl::string_view kind;  // e.g. "assent witness": begins the comment.
  // What makes version i + 1 out of version i; the comment of the new version is CommentOf(i + 1).
  std::vector<std::string> migrations;

  int version() const { return static_cast<int>(migrations.size()); }
  std::string name() const { return schema + "." + table; }
};
std::string TableComment(absl::string_view kind, int version);

// The version of the table that is there; 0: none (or the account may not see it). RESOURCE_UNFIT if a table of that
// name is not of this kind; DATABASE_ERROR if that cannot be seen now (a DDL statement waits for it).
absl::StatusOr<int> ReadTableVersion(MariaDbSession* session, const KeptTable& table);

// Makes the schema and the table, or brings an older one up to date, unless all is well already. Safe to repeat, and
// for two coordinators at once. RESOURCE_UNFIT: a privilege is missing (metadata `grant` has the statement that gives
// it), the table is newer than this library or of another kind; DATABASE_ERROR, DATABASE_UNREACHABLE. After an error
// there is the old table, the new one or none: repeat.
absl::Status BringUpToDate(MariaDbSession* session, const KeptTable& table);

// The error of a statement on a table of `schema`: if a privilege is missing, RESOURCE_UNFIT with the GRANT that helps.
absl::Status Refused(MariaDbSession* session, absl::string_view schema, const DbError& error, absl::string_view doing);
// The same of a statement that makes one.
absl::Status RefusedToMake(MariaDbSession* session, absl::string_view schema, const DbError& error,
                           absl::string_view doing);

// The session's account as GRANT takes it: 'user'@'host'; "the account" if it cannot be read.
std::string AccountOf(MariaDbSession* session);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_TABLE_MIGRATION_H_
