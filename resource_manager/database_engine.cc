#include "resource_manager/database_engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/address.h"
#include "base/errors.h"
#include "resource_manager/finding.h"
#include "resource_manager/mariadb_recovery.h"
#include "resource_manager/postgres_check.h"
#include "resource_manager/postgres_gid.h"
#include "resource_manager/postgres_recovery.h"
#include "resource_manager/resource_check.h"

namespace assent {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(5);
constexpr absl::Duration kReadTimeout = absl::Seconds(15);
constexpr absl::Duration kLockWaitTimeout = absl::Seconds(5);

template <typename Session>
absl::StatusOr<std::unique_ptr<BranchSession>> Connect(const ConnectOptions& options) {
  absl::StatusOr<std::unique_ptr<Session>> session = Session::Connect(options);
  if (!session.ok()) return session.status();
  return std::unique_ptr<BranchSession>(*std::move(session));
}

std::string XaSql(const Xid& xid, bool commit) {
  return absl::StrCat("XA ", commit ? "COMMIT " : "ROLLBACK ", XidSqlLiteral(xid));
}

std::string PostgresSql(const Xid& xid, bool commit) {
  return absl::StrCat(commit ? "COMMIT" : "ROLLBACK", " PREPARED '", GidOf(xid), "'");
}

constexpr DatabaseEngine kEngines[] = {
    {v1::Resource::ENGINE_MARIADB, "MariaDB", "mariadb", /*leaves_witnesses=*/true, /*has_databases=*/false,
     MariaDbRecovery::Connect, Connect<MariaDbSession>, CheckMariaDb, XaSql},
    {v1::Resource::ENGINE_MYSQL, "MySQL", "mysql", /*leaves_witnesses=*/true, /*has_databases=*/false,
     MariaDbRecovery::Connect, Connect<MariaDbSession>, CheckMariaDb, XaSql},
    {v1::Resource::ENGINE_POSTGRESQL, "PostgreSQL", "postgresql", /*leaves_witnesses=*/false, /*has_databases=*/true,
     PostgresRecovery::Connect, Connect<PostgresSession>, CheckPostgres, PostgresSql},
};

}  // namespace

absl::Span<const DatabaseEngine> AllDatabaseEngines() { return kEngines; }

const DatabaseEngine* FindDatabaseEngine(v1::Resource::Engine id) {
  const auto found = std::find_if(std::begin(kEngines), std::end(kEngines),
                                  [id](const DatabaseEngine& engine) { return engine.id == id; });
  return found == std::end(kEngines) ? nullptr : found;
}

absl::StatusOr<ConnectOptions> ConnectOptionsOf(const v1::Resource& resource, absl::string_view password) {
  absl::StatusOr<Address> address = ParseAddress(resource.address());
  if (!address.ok()) return address.status();
  ConnectOptions options;
  options.address = *std::move(address);
  options.user = resource.user();
  options.password = std::string(password);
  options.database = resource.database();
  options.connect_timeout = kConnectTimeout;
  options.read_timeout = kReadTimeout;
  options.lock_wait_timeout = kLockWaitTimeout;
  return options;
}

std::vector<v1::Finding> CheckResource(const v1::Resource& resource, absl::string_view password,
                                       const std::function<absl::Status()>& install) {
  const absl::StatusOr<ConnectOptions> options = ConnectOptionsOf(resource, password);
  if (!options.ok()) return {ErrorFinding("reachable", options.status().message(), "Correct the address.")};
  const DatabaseEngine* const engine = FindDatabaseEngine(resource.engine());
  if (engine == nullptr) return {ErrorFinding("reachable", "its engine is unknown", "Register it with another one.")};
  return engine->check(resource, *options, install);
}

bool IsUnfit(const std::vector<v1::Finding>& findings) {
  return std::any_of(findings.begin(), findings.end(),
                     [](const v1::Finding& finding) { return finding.severity() == v1::Finding::SEVERITY_ERROR; });
}

bool IsUnreachable(const std::vector<v1::Finding>& findings) {
  return !findings.empty() && findings[0].severity() == v1::Finding::SEVERITY_ERROR;
}

}  // namespace assent
