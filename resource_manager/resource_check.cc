#include "resource_manager/resource_check.h"

#include <algorithm>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/errors.h"
#include "resource_manager/address.h"
#include "resource_manager/witness.h"

namespace assent {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(5);
constexpr absl::Duration kReadTimeout = absl::Seconds(15);
constexpr absl::Duration kLockWaitTimeout = absl::Seconds(5);
constexpr int kOldestMajor = 10;
constexpr int kOldestMinor = 5;

v1::Finding MakeFinding(absl::string_view check, v1::Finding::Severity severity, absl::string_view detail,
                        absl::string_view remedy = {}) {
  v1::Finding finding;
  finding.set_check(std::string(check));
  finding.set_severity(severity);
  finding.set_detail(std::string(detail));
  finding.set_remedy(std::string(remedy));
  return finding;
}

v1::Finding Ok(absl::string_view check, absl::string_view detail) {
  return MakeFinding(check, v1::Finding::SEVERITY_OK, detail);
}
v1::Finding Warning(absl::string_view check, absl::string_view detail, absl::string_view remedy) {
  return MakeFinding(check, v1::Finding::SEVERITY_WARNING, detail, remedy);
}
v1::Finding Error(absl::string_view check, absl::string_view detail, absl::string_view remedy) {
  return MakeFinding(check, v1::Finding::SEVERITY_ERROR, detail, remedy);
}

absl::StatusOr<ServerFacts> ReadFacts(MariaDbSession* session) {
  const QueryResult variables = session->Query(
      "SHOW GLOBAL VARIABLES WHERE Variable_name IN "
      "('version', 'wsrep_on', 'innodb_flush_log_at_trx_commit', 'log_bin', 'sync_binlog')");
  if (!variables.ok()) return StatusOf(variables.error, "reading the server's variables");
  ServerFacts facts;
  for (const auto& row : variables.rows()) {
    const std::string name = row[0].value_or("");
    const std::string value = row[1].value_or("");
    if (name == "version") facts.version = value;
    if (name == "wsrep_on") facts.wsrep_on = value;
    if (name == "innodb_flush_log_at_trx_commit") facts.innodb_flush_log_at_trx_commit = value;
    if (name == "log_bin") facts.log_bin = value;
    if (name == "sync_binlog") facts.sync_binlog = value;
  }
  const QueryResult engine = session->Query("SELECT SUPPORT FROM information_schema.ENGINES WHERE ENGINE = 'InnoDB'");
  if (!engine.ok()) return StatusOf(engine.error, "reading the server's engines");
  if (!engine.rows().empty()) facts.innodb_support = engine.rows()[0][0].value_or("");
  return facts;
}

v1::Finding CheckWitness(MariaDbSession* session, const v1::Resource& resource) {
  if (resource.witness() == v1::WITNESS_DISABLED) {
    return Warning("witness", "branches leave no witness (witness is DISABLED)",
                   "Enable the witness, or accept that a branch whose session is lost while it commits stays in doubt "
                   "until an operator looks.");
  }
  const absl::StatusOr<WitnessTable> table = WitnessTable::OfSchema(resource.witness_schema());
  if (!table.ok()) return Error("witness", table.status().message(), "Correct witness_schema.");
  const absl::StatusOr<int> before = ReadWitnessVersion(session, *table);
  const absl::Status status = before.ok() ? InstallWitness(session, *table) : before.status();
  if (!status.ok()) {
    const std::string grant = MetadataOf(status)["grant"];
    return Error("witness", status.message(),
                 grant.empty() ? "Remove the cause and check again, or disable the witness of this resource."
                               : absl::StrCat("Run as an administrator: ", grant));
  }
  return Ok("witness",
            absl::StrCat("the table ", table->name(), *before == 0 ? " was created" : " is there", ", version ",
                         kWitnessVersion, "; the accounts that run branches need INSERT on it"));
}

v1::Finding CheckRecover(MariaDbSession* session) {
  const auto xids = session->Recover();
  if (!xids.ok()) return Error("xa_recover", xids.status().message(), "Give the account what XA RECOVER needs.");
  return Ok("xa_recover", absl::StrCat("XA RECOVER lists ", xids->size(), " prepared branches, whoever's"));
}

}  // namespace

v1::Finding JudgeServer(const ServerFacts& facts) {
  constexpr absl::string_view kCheck = "server";
  if (!absl::StrContains(facts.version, "MariaDB")) {
    return Error(kCheck, absl::StrCat("version ", facts.version, " is not MariaDB (it may be MySQL)"),
                 "Use MariaDB 10.5 or later; MySQL is not supported yet.");
  }
  const std::vector<absl::string_view> parts = absl::StrSplit(facts.version, absl::ByAnyChar(".-"));
  int major = 0;
  int minor = 0;
  if (parts.size() < 2 || !absl::SimpleAtoi(parts[0], &major) || !absl::SimpleAtoi(parts[1], &minor)) {
    return Error(kCheck, absl::StrCat("version ", facts.version, " cannot be read"), "Use MariaDB 10.5 or later.");
  }
  if (major < kOldestMajor || (major == kOldestMajor && minor < kOldestMinor)) {
    return Error(kCheck,
                 absl::StrCat("version ", facts.version, " rolls prepared branches back when their session ends"),
                 "Upgrade to MariaDB 10.5 or later.");
  }
  return Ok(kCheck, facts.version);
}

v1::Finding JudgeGalera(const ServerFacts& facts) {
  constexpr absl::string_view kCheck = "galera";
  if (facts.wsrep_on == "ON" || facts.wsrep_on == "1") {
    return Error(kCheck, "wsrep_on is ON: this server is a Galera node, and Galera refuses XA",
                 "Register a server that is not part of a Galera cluster.");
  }
  return Ok(kCheck, "not a Galera node");
}

v1::Finding JudgeEngine(const ServerFacts& facts) {
  constexpr absl::string_view kCheck = "engine";
  if (facts.innodb_support == "DEFAULT") return Ok(kCheck, "InnoDB is the default engine");
  if (facts.innodb_support == "YES") {
    return Warning(kCheck,
                   "InnoDB is there but not the default engine: a table made without ENGINE=InnoDB may be of an "
                   "engine whose writes no rollback undoes",
                   "Set default_storage_engine=InnoDB, and make the tables of branches with ENGINE=InnoDB.");
  }
  return Error(kCheck, "the server has no InnoDB", "Enable InnoDB: no other engine can prepare a branch.");
}

v1::Finding JudgeDurability(const ServerFacts& facts) {
  constexpr absl::string_view kCheck = "durability";
  std::string detail;
  std::string remedy;
  if (facts.innodb_flush_log_at_trx_commit != "1") {
    detail = absl::StrCat("innodb_flush_log_at_trx_commit is ", facts.innodb_flush_log_at_trx_commit,
                          ": a crash of the machine can lose branches that were prepared or committed");
    remedy = "SET GLOBAL innodb_flush_log_at_trx_commit = 1 (and in the configuration).";
  }
  if (facts.log_bin == "ON" && facts.sync_binlog != "1") {
    absl::StrAppend(&detail, detail.empty() ? "" : "; ", "the binary log is on and sync_binlog is ", facts.sync_binlog,
                    ": a crash of the machine can lose commits and make replicas differ");
    absl::StrAppend(&remedy, remedy.empty() ? "" : " ", "SET GLOBAL sync_binlog = 1 (and in the configuration).");
  }
  if (!detail.empty()) return Warning(kCheck, detail, remedy);
  return Ok(kCheck, "what is prepared or committed is forced to disk");
}

absl::StatusOr<ConnectOptions> ConnectOptionsOf(const v1::Resource& resource, absl::string_view password) {
  absl::StatusOr<Address> address = ParseAddress(resource.address());
  if (!address.ok()) return address.status();
  ConnectOptions options;
  options.address = *std::move(address);
  options.user = resource.user();
  options.password = std::string(password);
  options.connect_timeout = kConnectTimeout;
  options.read_timeout = kReadTimeout;
  options.lock_wait_timeout = kLockWaitTimeout;
  return options;
}

std::vector<v1::Finding> CheckResource(const v1::Resource& resource, absl::string_view password) {
  constexpr absl::string_view kReachable = "reachable";
  const absl::StatusOr<ConnectOptions> options = ConnectOptionsOf(resource, password);
  if (!options.ok()) return {Error(kReachable, options.status().message(), "Correct the address.")};
  const auto session = MariaDbSession::Connect(*options);
  if (!session.ok()) {
    return {Error(kReachable, session.status().message(),
                  "Check that the server runs and listens on this address, and the account and its password.")};
  }
  const absl::StatusOr<ServerFacts> facts = ReadFacts(session->get());
  if (!facts.ok()) return {Error(kReachable, facts.status().message(), "Check the server's log.")};
  std::vector<v1::Finding> findings = {
      Ok(kReachable, absl::StrCat("connected to ", resource.address(), " as ", resource.user())), JudgeServer(*facts),
      JudgeGalera(*facts), JudgeEngine(*facts)};
  // Nothing is made on a server that is of no use.
  if (IsUnfit(findings)) return findings;
  findings.push_back(CheckWitness(session->get(), resource));
  findings.push_back(CheckRecover(session->get()));
  findings.push_back(JudgeDurability(*facts));
  return findings;
}

bool IsUnfit(const std::vector<v1::Finding>& findings) {
  return std::any_of(findings.begin(), findings.end(),
                     [](const v1::Finding& finding) { return finding.severity() == v1::Finding::SEVERITY_ERROR; });
}

bool IsUnreachable(const std::vector<v1::Finding>& findings) {
  return !findings.empty() && findings[0].severity() == v1::Finding::SEVERITY_ERROR;
}

}  // namespace assent
