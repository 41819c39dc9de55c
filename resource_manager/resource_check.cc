#include "resource_manager/resource_check.h"

#include <algorithm>
#include <memory>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "resource_manager/finding.h"
#include "resource_manager/table_migration.h"
#include "resource_manager/witness.h"

namespace assent {
namespace {

constexpr int kOldestMajor = 10;
constexpr int kOldestMinor = 5;
constexpr int kOldestMySqlMajor = 8;
// From this one on a MySQL's binary log and its engine agree about branches after a crash.
constexpr int kMySqlOfSafeBinlog[] = {8, 0, 30};
// From this one on SUPER does not stand for CONNECTION ADMIN any more.
constexpr int kMajorOfNarrowSuper = 11;
constexpr absl::Duration kLongDetached = absl::Minutes(10);
constexpr int64_t kLongLockWaitSeconds = 3600;
constexpr int kFullPercent = 80;
constexpr absl::Duration kDefaultLease = absl::Seconds(30);
constexpr size_t kNamedTables = kMaxPlainTables - 1;  // One more tells that there are more.
constexpr absl::string_view kErXaerRmerr = "1401";

bool IsOff(absl::string_view value) { return value.empty() || value == "OFF" || value == "0"; }

absl::Duration LeaseOf(const v1::Resource& resource) {
  const absl::Duration lease = GetDuration(resource.lease());
  return lease > absl::ZeroDuration() ? lease : kDefaultLease;
}

// The two first numbers of the version; false if they cannot be read.
bool ParseVersion(const ServerFacts& facts, int* major, int* minor) {
  const std::string version = facts.Variable("version");
  const std::vector<absl::string_view> parts = absl::StrSplit(version, absl::ByAnyChar(".-"));
  return parts.size() >= 2 && absl::SimpleAtoi(parts[0], major) && absl::SimpleAtoi(parts[1], minor);
}

bool Has(const std::set<std::string>& privileges, const char* privilege) {
  return privileges.count("ALL PRIVILEGES") > 0 || privileges.count(privilege) > 0;
}

// True if the version is this or later; also if it cannot be read.
bool IsAtLeast(const ServerFacts& facts, absl::Span<const int> wanted) {
  const std::string version = facts.Variable("version");
  const std::vector<absl::string_view> parts = absl::StrSplit(version, absl::ByAnyChar(".-"));
  for (size_t i = 0; i < wanted.size() && i < parts.size(); ++i) {
    int part = 0;
    if (!absl::SimpleAtoi(parts[i], &part)) return true;
    if (part != wanted[i]) return part > wanted[i];
  }
  return true;
}

// Of what ends other accounts' connections.
const char* KillPrivilege(const ServerFacts& facts) {
  return facts.is_mysql() ? "CONNECTION_ADMIN" : "CONNECTION ADMIN";
}

bool MayKill(const ServerFacts& facts) {
  int major = 0;
  int minor = 0;
  const bool wide_super = facts.is_mysql() || (ParseVersion(facts, &major, &minor) && major < kMajorOfNarrowSuper);
  return Has(*facts.privileges, KillPrivilege(facts)) || (wide_super && Has(*facts.privileges, "SUPER"));
}

// The finding of an error, with the GRANT that helps if one does, or `remedy`.
v1::Finding Unfit(const absl::Status& status, absl::string_view remedy) {
  const std::string grant = MetadataOf(status)["grant"];
  if (grant.empty()) return ErrorFinding("witness", status.message(), remedy);
  return ErrorFinding("witness", absl::StripSuffix(status.message(), absl::StrCat(": ", grant)),
                      absl::StrCat("Run as an administrator: ", grant, ";"));
}

// All that making the tables needs, in every schema that has one: whoever has to ask an administrator asks once.
std::string InstallGrants(MariaDbSession* session, const v1::Resource& resource) {
  std::set<std::string> schemas = {std::string(kDefaultWitnessSchema)};  // Where the claim is.
  const absl::StatusOr<WitnessTable> table = WitnessTable::OfSchema(resource.witness_schema());
  if (resource.witness() != v1::WITNESS_DISABLED && table.ok()) schemas.insert(table->schema());
  std::string remedy = "Run as an administrator:";
  for (const std::string& schema : schemas) {
    absl::StrAppend(&remedy, " GRANT CREATE, ALTER, ", kKeptTablePrivileges, " ON `", schema, "`.* TO ",
                    AccountOf(session), ";");
  }
  return remedy;
}

v1::Finding CheckWitness(MariaDbSession* session, const v1::Resource& resource,
                         const std::function<absl::Status()>& install) {
  constexpr absl::string_view kCheck = "witness";
  if (absl::Status status = install ? install() : absl::OkStatus(); !status.ok()) {
    v1::Finding finding = Unfit(status, "Remove the cause and try again.");
    if (!MetadataOf(status)["grant"].empty()) finding.set_remedy(InstallGrants(session, resource));
    return finding;
  }
  if (resource.witness() == v1::WITNESS_DISABLED) {
    return WarningFinding(
        kCheck, "branches leave no witness (witness is DISABLED)",
        "Enable the witness, or accept that a branch whose session is lost while it commits stays in doubt "
        "until an operator looks.");
  }
  const absl::StatusOr<WitnessTable> table = WitnessTable::OfSchema(resource.witness_schema());
  if (!table.ok()) return ErrorFinding(kCheck, table.status().message(), "Correct witness_schema.");
  if (const absl::Status status = assent::CheckWitness(session, *table); !status.ok()) {
    return Unfit(status, absl::StrCat("If it is the right server, `assentctl resources register ", resource.name(),
                                      " … --replace` makes what is missing."));
  }
  return OkFinding(kCheck, absl::StrCat("the table ", table->name(), " is there, version ", kWitnessVersion,
                                        "; the accounts that run branches need INSERT on it"));
}

v1::Finding CheckRecover(MariaDbSession* session, const ServerFacts& facts, const v1::Resource& resource) {
  const auto xids = session->Recover();
  if (!xids.ok() && MetadataOf(xids.status())["error_code"] == kErXaerRmerr) {
    // MySQL's words for it are about lost data.
    return ErrorFinding("xa_recover",
                        "the account may not list what is prepared (XA RECOVER), so no branch can be taken over",
                        absl::StrCat("Run as an administrator: GRANT XA_RECOVER_ADMIN ON *.* TO ", facts.account, ";"));
  }
  if (!xids.ok()) return ErrorFinding("xa_recover", xids.status().message(), "Give the account what XA RECOVER needs.");
  return JudgePrepared(facts, resource, xids->size());
}

}  // namespace

v1::Finding JudgeServer(const ServerFacts& facts, const v1::Resource& resource) {
  constexpr absl::string_view kCheck = "server";
  const std::string version = facts.Variable("version");
  const bool mysql = facts.is_mysql();
  if (!version.empty() && mysql != (resource.engine() == v1::Resource::ENGINE_MYSQL)) {
    const absl::string_view word = mysql ? "mysql" : "mariadb";
    return ErrorFinding(
        kCheck,
        absl::StrCat("version ", version, mysql ? " is not MariaDB (it may be MySQL)" : " is MariaDB, not MySQL",
                     ": register it as ", word),
        absl::StrCat("assentctl resources register ", resource.name(), " … --engine ", word,
                     " --replace  # if it is the right server."));
  }
  int major = 0;
  int minor = 0;
  if (mysql) {
    if (ParseVersion(facts, &major, &minor) && major >= kOldestMySqlMajor) return OkFinding(kCheck, version);
    return ErrorFinding(kCheck, absl::StrCat("version ", version, " is too old, or cannot be read"),
                        "Upgrade to MySQL 8.0.29 or later.");
  }
  if (!ParseVersion(facts, &major, &minor)) {
    return ErrorFinding(kCheck, absl::StrCat("version ", version, " cannot be read"), "Use MariaDB 10.5 or later.");
  }
  if (major < kOldestMajor || (major == kOldestMajor && minor < kOldestMinor)) {
    return ErrorFinding(kCheck,
                        absl::StrCat("version ", version, " rolls prepared branches back when their session ends"),
                        "Upgrade to MariaDB 10.5 or later.");
  }
  return OkFinding(kCheck, version);
}

v1::Finding JudgeDetach(const ServerFacts& facts) {
  constexpr absl::string_view kCheck = "detach";
  constexpr absl::string_view kHeld =
      "sessions hold their prepared branches: an XA COMMIT from elsewhere can answer OK and commit nothing while a "
      "session ends, recovery has to wait for that, and a connection that is reset while it holds one can crash the "
      "server";
  const std::string value = facts.Variable("xa_detach_on_prepare");
  if (value.empty()) {
    return WarningFinding(kCheck, absl::StrCat("this version has no xa_detach_on_prepare: ", kHeld),
                          "Upgrade to MySQL 8.0.29 or later.");
  }
  if (IsOff(value)) {
    return WarningFinding(kCheck, absl::StrCat("xa_detach_on_prepare is OFF: ", kHeld),
                          "SET PERSIST xa_detach_on_prepare = ON; and new sessions.");
  }
  return OkFinding(kCheck,
                   "xa_detach_on_prepare is ON: PREPARE lets go of a branch, and any session can finish it at once (a "
                   "branch must not use temporary tables)");
}

v1::Finding JudgeGalera(const ServerFacts& facts) {
  constexpr absl::string_view kCheck = "galera";
  if (!IsOff(facts.Variable("wsrep_on"))) {
    return ErrorFinding(kCheck, "wsrep_on is ON: this server is a Galera node, and Galera refuses XA",
                        "Register a server that is not part of a Galera cluster.");
  }
  return OkFinding(kCheck, "not a Galera node");
}

v1::Finding JudgeEngine(const ServerFacts& facts) {
  constexpr absl::string_view kCheck = "engine";
  if (const int64_t recovery = facts.Number("innodb_force_recovery"); recovery > 0) {
    return ErrorFinding(kCheck,
                        absl::StrCat("innodb_force_recovery is ", recovery,
                                     ": InnoDB runs to rescue data, not to commit or roll back branches"),
                        "Rescue the data, remove innodb_force_recovery from the configuration and restart the server.");
  }
  if (facts.innodb_support == "DEFAULT") return OkFinding(kCheck, "InnoDB is the default engine");
  if (facts.innodb_support == "YES") {
    return WarningFinding(
        kCheck,
        "InnoDB is there but not the default engine: a table made without ENGINE=InnoDB may be of an "
        "engine whose writes no rollback undoes",
        "SET GLOBAL default_storage_engine = InnoDB; (and in the configuration), and make the tables of "
        "branches with ENGINE=InnoDB.");
  }
  return ErrorFinding(kCheck, "the server has no InnoDB", "Enable InnoDB: no other engine can prepare a branch.");
}

v1::Finding JudgePrepared(const ServerFacts& facts, const v1::Resource& resource, size_t prepared) {
  constexpr absl::string_view kCheck = "xa_recover";
  const std::string listed = absl::StrCat("XA RECOVER lists ", prepared, " prepared branches, whoever's");
  if (!facts.detached) return OkFinding(kCheck, absl::StrCat(listed, "; since when is not known (that needs PROCESS)"));
  if (facts.detached->count == 0) return OkFinding(kCheck, listed);
  const std::string detached =
      absl::StrCat(listed, "; no session runs ", facts.detached->count,
                   " of the engine's transactions, the oldest for ", absl::FormatDuration(facts.detached->oldest));
  if (facts.detached->oldest < kLongDetached) return OkFinding(kCheck, detached);
  return WarningFinding(
      kCheck, absl::StrCat(detached, ": their locks stay until somebody finishes them"),
      absl::StrCat("assentctl recover --resource ", resource.name(),
                   " --dry-run  # whose they are. Those of others are for their owners to finish: XA RECOVER ",
                   facts.is_mysql() ? "CONVERT XID." : "FORMAT='SQL'."));
}

v1::Finding JudgePrivileges(const ServerFacts& facts, const v1::Resource& resource) {
  constexpr absl::string_view kCheck = "privileges";
  if (!facts.privileges) {
    return WarningFinding(kCheck, "the server does not say what the account may do",
                          absl::StrCat("SHOW GRANTS FOR ", facts.account, ";"));
  }
  std::vector<std::string> missing;
  std::vector<std::string> details;
  if (resource.kill_after_lease() != v1::KILL_AFTER_LEASE_DISABLED && !MayKill(facts)) {
    missing.push_back(KillPrivilege(facts));
    details.push_back(
        "the account may not end other accounts' connections: a branch whose session lives on past its lease stays in "
        "doubt");
  }
  if (!Has(*facts.privileges, "PROCESS")) {
    missing.push_back("PROCESS");
    details.push_back(
        "the account does not see other accounts' sessions and the engine's transactions: taking branches over is "
        "slower, and ghosts and who waits for locks are not seen");
  }
  if (facts.is_mysql() && !Has(*facts.privileges, "XA_RECOVER_ADMIN")) {
    missing.push_back("XA_RECOVER_ADMIN");
    details.push_back("the account may not list what is prepared");
  }
  std::vector<std::string> grants;
  if (!missing.empty()) {
    grants.push_back(absl::StrCat("GRANT ", absl::StrJoin(missing, ", "), " ON *.* TO ", facts.account, ";"));
  }
  if (!facts.sees_locks) {
    details.push_back("the account does not see who waits for which lock");
    for (const char* table : {"data_lock_waits", "data_locks"}) {
      grants.push_back(absl::StrCat("GRANT SELECT ON performance_schema.", table, " TO ", facts.account, ";"));
    }
  }
  if (grants.empty()) return OkFinding(kCheck, "all that taking branches over needs");
  return WarningFinding(kCheck, absl::StrJoin(details, "; "),
                        absl::StrCat("Run as an administrator: ", absl::StrJoin(grants, " ")));
}

v1::Finding JudgeDurability(const ServerFacts& facts) {
  Risks risks("durability");
  if (const std::string flush = facts.Variable("innodb_flush_log_at_trx_commit"); flush != "1") {
    risks.Add(absl::StrCat("innodb_flush_log_at_trx_commit is ", flush,
                           ": a crash of the machine can lose branches that were prepared or committed"),
              "SET GLOBAL innodb_flush_log_at_trx_commit = 1; (and in the configuration).");
  }
  if (const std::string sync = facts.Variable("sync_binlog"); facts.Variable("log_bin") == "ON" && sync != "1") {
    risks.Add(absl::StrCat("the binary log is on and sync_binlog is ", sync,
                           ": a crash of the machine can lose commits and make replicas differ"),
              "SET GLOBAL sync_binlog = 1; (and in the configuration).");
  }
  return risks.Judge("what is prepared or committed is forced to disk");
}

v1::Finding JudgeBinlog(const ServerFacts& facts) {
  Risks risks("binlog");
  if (facts.Variable("log_bin") != "ON") return OkFinding("binlog", "the binary log is off");
  for (const auto& filter : {std::make_pair("binlog_do_db", &facts.binlog_do_db),
                             std::make_pair("binlog_ignore_db", &facts.binlog_ignore_db)}) {
    if (!filter.second->value_or("").empty()) {
      risks.Add(absl::StrCat(filter.first, " is ", **filter.second,
                             ": replicas get XA PREPARE and COMMIT of branches without what they wrote"),
                absl::StrCat("Remove ", filter.first, " from the server's configuration and restart it."));
    }
  }
  if (facts.Variable("binlog_storage_engine") == "innodb") {
    risks.Add("binlog_storage_engine is innodb: XA PREPARE is not replicated, so a failover loses prepared branches",
              "Remove binlog_storage_engine from the server's configuration and restart it, or never fail over to a "
              "replica while branches are prepared.");
  }
  if (facts.is_mysql() && !IsAtLeast(facts, kMySqlOfSafeBinlog)) {
    risks.Add(absl::StrCat("version ", facts.Variable("version"),
                           " can lose the agreement of its binary log and its engine about branches when it crashes"),
              "Upgrade to MySQL 8.0.30 or later.");
  }
  if (facts.is_mysql()) {
    return risks.Judge(
        absl::StrCat("the binary log is on",
                     facts.binlog_do_db ? "" : "; its filters are not known (that needs REPLICATION CLIENT)"));
  }
  return risks.Judge(absl::StrCat(
      "the binary log is on; after a crash of this server its replicas can differ in the branches that were under way",
      facts.binlog_do_db ? "" : "; its filters are not known (that needs BINLOG MONITOR)"));
}

v1::Finding JudgeReplication(const ServerFacts& facts) {
  Risks risks("replication");
  if (facts.masters && !facts.masters->empty()) {
    risks.Add(
        absl::StrCat("this server is a replica of ", absl::StrJoin(*facts.masters, ", "),
                     ": branches that were prepared there are prepared here, too, and what branches write here "
                     "is not known there"),
        facts.is_mysql()
            ? "Register the source instead, or, if this server is its own source now: STOP REPLICA; RESET REPLICA ALL;"
            : "Register the master instead, or, if this server is its own master now: STOP ALL SLAVES; RESET SLAVE "
              "ALL;");
    if (facts.Variable("gtid_strict_mode") == "ON") {
      risks.Add("gtid_strict_mode is ON: replication stops when a branch here took a number that the master uses",
                "Give this server a gtid_domain_id of its own.");
    }
  }
  std::vector<std::string> filters;
  for (const auto& variable : facts.variables) {
    const bool filters_replication =
        absl::StartsWith(variable.first, "replicate_") &&
        (absl::StrContains(variable.first, "_do_") || absl::StrContains(variable.first, "_ignore_"));
    if (filters_replication && !variable.second.empty()) filters.push_back(variable.first);
  }
  if (!filters.empty()) {
    risks.Add(absl::StrCat("as a replica this server filters (", absl::StrJoin(filters, ", "),
                           "): it applies XA PREPARE and COMMIT of branches without what they wrote (MDEV-33921)"),
              absl::StrCat("STOP ALL SLAVES; SET GLOBAL ", absl::StrJoin(filters, " = '', GLOBAL "),
                           " = ''; START ALL SLAVES; (and in the configuration)."));
  }
  if (!facts.replica_filters.empty()) {
    std::string remedy = "STOP REPLICA SQL_THREAD;";
    for (const std::string& filter : facts.replica_filters) {
      absl::StrAppend(&remedy, " CHANGE REPLICATION FILTER ", absl::AsciiStrToUpper(filter), " = ();");
    }
    risks.Add(absl::StrCat("as a replica this server filters (", absl::StrJoin(facts.replica_filters, ", "),
                           "), which MySQL does not support together with XA: what is left of a branch can be empty"),
              absl::StrCat(remedy, " START REPLICA SQL_THREAD; (and in the configuration)."));
  }
  if (facts.Number("slave_parallel_threads") > 0 && facts.Variable("slave_parallel_mode") != "none") {
    risks.Add(absl::StrCat("as a replica this server applies in parallel (slave_parallel_threads is ",
                           facts.Variable("slave_parallel_threads"), ", slave_parallel_mode ",
                           facts.Variable("slave_parallel_mode"), "): XA PREPARE can make it stop (MDEV-31038)"),
              "STOP ALL SLAVES; SET GLOBAL slave_parallel_threads = 0; START ALL SLAVES; (and in the configuration).");
  }
  return risks.Judge(facts.masters
                         ? "not a replica"
                         : absl::StrCat("no settings of a replica that break XA; whether it is one is not known (that "
                                        "needs ",
                                        facts.is_mysql() ? "REPLICATION CLIENT" : "SLAVE MONITOR", ")"));
}

v1::Finding JudgeReadOnly(const ServerFacts& facts) {
  constexpr absl::string_view kCheck = "read_only";
  const std::string value = facts.Variable("read_only");
  if (IsOff(value)) return OkFinding(kCheck, "not read-only");
  if (facts.is_mysql()) {
    return WarningFinding(
        kCheck, absl::StrCat("read_only is ", value, ": what ordinary accounts write in branches fails (1290)"),
        "SET GLOBAL read_only = OFF; once this server is the one to write to.");
  }
  return WarningFinding(
      kCheck,
      absl::StrCat("read_only is ", value,
                   ": ordinary accounts can neither write nor commit or roll back what is prepared (1290), so "
                   "branches stay in doubt"),
      "SET GLOBAL read_only = OFF; once this server is the one to write to.");
}

v1::Finding JudgeLockWait(const ServerFacts& facts) {
  constexpr absl::string_view kCheck = "lock_wait";
  const int64_t seconds = facts.Number("lock_wait_timeout");
  const std::string detail = absl::StrCat("lock_wait_timeout is ", absl::FormatDuration(absl::Seconds(seconds)));
  if (seconds <= kLongLockWaitSeconds) return OkFinding(kCheck, detail);
  return WarningFinding(
      kCheck,
      absl::StrCat(detail,
                   ": XA PREPARE and COMMIT can hang that long behind a backup or FLUSH TABLES WITH READ LOCK "
                   "(sessions of the C++ SDK set 50s of their own)"),
      "SET GLOBAL lock_wait_timeout = 50; (and in the configuration).");
}

v1::Finding JudgeTimeouts(const ServerFacts& facts, const v1::Resource& resource) {
  Risks risks("timeouts");
  const absl::Duration lease = LeaseOf(resource);
  for (const char* name : {"wait_timeout", "idle_transaction_timeout", "idle_write_transaction_timeout"}) {
    const absl::Duration timeout = absl::Seconds(facts.Number(name));
    if (timeout == absl::ZeroDuration() || timeout >= lease) continue;  // 0 switches it off.
    if (facts.Variable("xa_detach_on_prepare") == "ON") continue;       // Sessions hold no prepared branches.
    risks.Add(
        absl::StrCat(name, " is ", absl::FormatDuration(timeout), ", less than the lease (",
                     absl::FormatDuration(lease),
                     "): the server closes sessions that hold prepared branches, and the coordinator has to "
                     "finish those"),
        absl::StrCat("SET GLOBAL ", name, " = ", absl::ToInt64Seconds(2 * lease), "; (and in the configuration)."));
  }
  return risks.Judge(absl::StrCat(
      "sessions may be silent for ", absl::FormatDuration(absl::Seconds(facts.Number("wait_timeout"))),
      "; innodb_lock_wait_timeout is ", absl::FormatDuration(absl::Seconds(facts.Number("innodb_lock_wait_timeout"))),
      ", innodb_rollback_on_timeout ", facts.Variable("innodb_rollback_on_timeout"),
      " (either way the SDK votes FAILED after a lock wait timeout)"));
}

v1::Finding JudgeConnections(const ServerFacts& facts) {
  constexpr absl::string_view kCheck = "connections";
  const int64_t max = facts.Number("max_connections");
  std::string detail = absl::StrCat(facts.threads_connected, " of ", max, " connections are taken");
  if (const std::string handling = facts.Variable("thread_handling"); handling == "pool-of-threads") {
    absl::StrAppend(
        &detail, "; thread_handling is ", handling,
        ": sessions that wait for locks take threads of the pool, and extra_port is the way past a full one");
  }
  if (facts.threads_connected * 100 < max * kFullPercent) return OkFinding(kCheck, detail);
  return WarningFinding(
      kCheck, absl::StrCat(detail, ": without a free one the coordinator can finish no branch whose session is gone"),
      absl::StrCat("SET GLOBAL max_connections = ", 2 * max, "; (and in the configuration)."));
}

v1::Finding JudgeClock(const ServerFacts& facts) { return ClockFinding(facts.clock_offset, facts.clock_error); }

v1::Finding JudgeTables(const ServerFacts& facts) {
  constexpr absl::string_view kCheck = "tables";
  if (!facts.plain_tables) return OkFinding(kCheck, "the tables could not be looked through in time");
  if (facts.plain_tables->empty()) return OkFinding(kCheck, "all tables that the account sees can be rolled back");
  const std::vector<std::string>& tables = *facts.plain_tables;
  const auto end = tables.begin() + static_cast<std::ptrdiff_t>(std::min(tables.size(), kNamedTables));
  return WarningFinding(
      kCheck,
      absl::StrCat("no rollback undoes what branches write to ", absl::StrJoin(tables.begin(), end, ", "),
                   end == tables.end() ? "" : " and others"),
      "ALTER TABLE … ENGINE=InnoDB; for those that branches write to.");
}

std::vector<v1::Finding> CheckMariaDb(const v1::Resource& resource, const ConnectOptions& options,
                                      const std::function<absl::Status()>& install) {
  constexpr absl::string_view kReachable = "reachable";
  const auto session = MariaDbSession::ConnectForCoordinator(options);
  if (!session.ok()) {
    return {ErrorFinding(kReachable, session.status().message(),
                         "Check that the server runs and listens on this address, and the account and its password.")};
  }
  const absl::StatusOr<ServerFacts> facts = ReadServerFacts(session->get());
  if (!facts.ok()) return {ErrorFinding(kReachable, facts.status().message(), "Check the server's log.")};
  std::vector<v1::Finding> findings = {
      OkFinding(kReachable, absl::StrCat("connected to ", resource.address(), " as ", resource.user())),
      JudgeServer(*facts, resource), JudgeGalera(*facts), JudgeEngine(*facts)};
  // Nothing is made on a server that is of no use.
  const bool unfit = std::any_of(findings.begin(), findings.end(), [](const v1::Finding& finding) {
    return finding.severity() == v1::Finding::SEVERITY_ERROR;
  });
  if (unfit) return findings;
  findings.push_back(CheckWitness(session->get(), resource, install));
  findings.push_back(CheckRecover(session->get(), *facts, resource));
  if (facts->is_mysql()) findings.push_back(JudgeDetach(*facts));
  findings.push_back(JudgePrivileges(*facts, resource));
  findings.push_back(JudgeDurability(*facts));
  findings.push_back(JudgeBinlog(*facts));
  findings.push_back(JudgeReplication(*facts));
  findings.push_back(JudgeReadOnly(*facts));
  findings.push_back(JudgeLockWait(*facts));
  findings.push_back(JudgeTimeouts(*facts, resource));
  findings.push_back(JudgeConnections(*facts));
  findings.push_back(JudgeClock(*facts));
  findings.push_back(JudgeTables(*facts));
  return findings;
}

}  // namespace assent
