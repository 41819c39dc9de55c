#include "resource_manager/postgres_check.h"

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "resource_manager/finding.h"
#include "resource_manager/postgres_claim.h"
#include "resource_manager/postgres_session.h"

namespace assent {
namespace {

constexpr int64_t kOldestVersion = 140000;
constexpr absl::Duration kLongPrepared = absl::Minutes(10);
constexpr int kFullPercent = 80;

constexpr absl::string_view kServerSql =
    "SELECT current_setting('server_version_num')::int8,current_setting('server_version'),pg_is_in_recovery(),"
    "pg_has_role(current_user,'pg_read_all_stats','USAGE'),pg_has_role(current_user,'pg_signal_backend','USAGE'),"
    "(SELECT count(*) FROM pg_stat_activity WHERE backend_type IS NULL OR backend_type='client backend'),"
    "(SELECT count(*) FROM pg_prepared_xacts),"
    "(SELECT count(*) FROM pg_prepared_xacts WHERE database=current_database()),"
    "COALESCE((SELECT extract(epoch from now()-min(prepared)) FROM pg_prepared_xacts)::int8,0)";

// As the server has them for a session that sets none: this one has set some.
absl::StatusOr<PostgresServer> ReadServer(PostgresSession* session) {
  const QueryResult result =
      session->Query(absl::StrCat(kServerSql, ";SELECT name,COALESCE(reset_val,setting) FROM pg_settings"));
  if (!result.ok()) return StatusOf(result.error, "reading what the server says about itself");
  PostgresServer server;
  const auto& row = result.results[0].rows[0];
  server.version_number = NumberIn(row[0]);
  server.version = row[1].value_or("");
  server.in_recovery = row[2] == std::string("t");
  server.sees_sessions = row[3] == std::string("t");
  server.ends_sessions = row[4] == std::string("t");
  server.connections = NumberIn(row[5]);
  server.prepared = NumberIn(row[6]);
  server.prepared_here = NumberIn(row[7]);
  server.oldest_prepared = absl::Seconds(NumberIn(row[8]));
  for (const auto& setting : result.results[1].rows) server.settings[setting[0].value_or("")] = setting[1].value_or("");
  const PostgresFacts& facts = session->facts();
  server.user = facts.user;
  server.database = facts.identity.name.substr(facts.identity.name.find('/') + 1);
  server.is_superuser = facts.is_superuser;
  server.behind_a_pooler = session->behind_a_pooler();
  const absl::Time before = absl::Now();
  const QueryResult clock = session->Query("SELECT (extract(epoch from clock_timestamp())*1000000)::int8");
  const absl::Time after = absl::Now();
  if (!clock.ok()) return StatusOf(clock.error, "reading the server's clock");
  server.clock_error = (after - before) / 2;
  server.clock_offset = absl::FromUnixMicros(NumberIn(clock.rows()[0][0])) - (before + server.clock_error);
  return server;
}

v1::Finding CheckClaim(PostgresSession* session, const std::function<absl::Status()>& install) {
  constexpr absl::string_view kCheck = "claim";
  absl::Status status = install ? install() : absl::OkStatus();
  // Reading somebody's claim shows that the table may be used; "" is nobody's.
  if (status.ok()) status = ReadPostgresClaim(session, "").status();
  if (status.ok()) return OkFinding(kCheck, "Assent's claim on the database can be kept there");
  const std::string grant = MetadataOf(status)["grant"];
  if (grant.empty()) return ErrorFinding(kCheck, status.message(), "Do what the message says, then register it again.");
  return ErrorFinding(kCheck, absl::StripSuffix(status.message(), absl::StrCat(": ", grant)),
                      absl::StrCat("Run as an administrator: ", grant, ";"));
}

}  // namespace

std::string PostgresServer::Setting(const std::string& name) const {
  const auto found = settings.find(name);
  return found == settings.end() ? std::string() : found->second;
}

int64_t PostgresServer::Number(const std::string& name) const { return NumberIn(Setting(name)); }

v1::Finding JudgePostgresVersion(const PostgresServer& server) {
  const std::string detail = absl::StrCat("PostgreSQL ", server.version, ", database ", server.database);
  if (server.version_number >= kOldestVersion) return OkFinding("server", detail);
  return ErrorFinding("server", absl::StrCat(detail, ": too old"), "Upgrade the server to PostgreSQL 14 or later.");
}

v1::Finding JudgeStandby(const PostgresServer& server) {
  if (!server.in_recovery) return OkFinding("standby", "not a standby");
  return ErrorFinding(
      "standby", "this server is a standby (or still recovering): nothing can be written, prepared or finished there",
      "Register the primary (an address that follows it), or promote this server: SELECT pg_promote();");
}

v1::Finding JudgePreparing(const PostgresServer& server) {
  constexpr absl::string_view kCheck = "prepared";
  const int64_t most = server.Number("max_prepared_transactions");
  const int64_t connections = server.Number("max_connections");
  const std::string remedy =
      absl::StrCat("ALTER SYSTEM SET max_prepared_transactions = ", connections, "; and restart the server.");
  if (most == 0) {
    return ErrorFinding(kCheck, "max_prepared_transactions is 0: the server prepares no transactions", remedy);
  }
  const std::string detail = absl::StrCat("max_prepared_transactions is ", most, ", max_connections ", connections);
  if (most >= connections) return OkFinding(kCheck, detail);
  return WarningFinding(
      kCheck, absl::StrCat(detail, ": with more branches at once than that, PREPARE fails and they roll back"), remedy);
}

v1::Finding JudgePreparedXacts(const PostgresServer& server, const v1::Resource& resource) {
  constexpr absl::string_view kCheck = "pg_prepared_xacts";
  const std::string listed =
      absl::StrCat("pg_prepared_xacts lists ", server.prepared, " prepared transactions, whoever's (",
                   server.prepared_here, " in this database)");
  if (server.prepared == 0) return OkFinding(kCheck, listed);
  const std::string detail = absl::StrCat(listed, ", the oldest for ", absl::FormatDuration(server.oldest_prepared));
  if (server.oldest_prepared < kLongPrepared) return OkFinding(kCheck, detail);
  return WarningFinding(
      kCheck,
      absl::StrCat(detail, ": their locks stay, and VACUUM cannot clean up behind them, until somebody finishes them"),
      absl::StrCat("assentctl recover --resource ", resource.name(),
                   " --dry-run  # whose they are. Those of others are for their owners to finish: SELECT * FROM "
                   "pg_prepared_xacts;"));
}

v1::Finding JudgePostgresPrivileges(const PostgresServer& server, const v1::Resource& resource) {
  constexpr absl::string_view kCheck = "privileges";
  if (server.is_superuser) return OkFinding(kCheck, "a superuser: all that taking branches over needs");
  const std::string to = absl::StrCat(" TO ", QuoteIdentifier(server.user), ";");
  Risks risks(kCheck);
  risks.Add(
      absl::StrCat("the account is no superuser: it finishes what it prepared itself, and what roles prepared that "
                   "it is a member of (PostgreSQL lets nobody else)"),
      absl::StrCat("Run as an administrator, for each role that runs branches: GRANT <role>", to));
  if (!server.sees_sessions) {
    risks.Add("it does not see when other roles' sessions began, and may take a new session for an old one",
              absl::StrCat("GRANT pg_read_all_stats", to));
  }
  if (!server.ends_sessions && resource.kill_after_lease() != v1::KILL_AFTER_LEASE_DISABLED) {
    risks.Add(
        "it may not end other roles' sessions: a branch that is not prepared and whose session lives on past its "
        "lease stays in doubt",
        absl::StrCat("GRANT pg_signal_backend", to));
  }
  return risks.Judge("");
}

v1::Finding JudgePostgresDurability(const PostgresServer& server) {
  Risks risks("durability");
  for (const char* setting : {"fsync", "full_page_writes"}) {
    if (server.Setting(setting) != "off") continue;
    risks.Add(absl::StrCat(setting,
                           " is off: a crash of the machine can lose branches that were prepared or committed, or "
                           "all of the data"),
              absl::StrCat("ALTER SYSTEM SET ", setting, " = on; SELECT pg_reload_conf();"));
  }
  return risks.Judge("what is prepared or committed is forced to disk");
}

v1::Finding JudgePostgresTimeouts(const PostgresServer& server) {
  Risks risks("timeouts");
  for (const char* setting : {"idle_session_timeout", "idle_in_transaction_session_timeout"}) {
    const int64_t ms = server.Number(setting);
    if (ms == 0 || ms >= 60000) continue;
    risks.Add(absl::StrCat(setting, " is ", absl::FormatDuration(absl::Milliseconds(ms)),
                           ": the server ends sessions of participants while their branches wait for the others"),
              absl::StrCat("ALTER SYSTEM SET ", setting, " = '5min'; SELECT pg_reload_conf();"));
  }
  return risks.Judge("no session is ended early");
}

v1::Finding JudgePostgresConnections(const PostgresServer& server) {
  const int64_t most = server.Number("max_connections") - server.Number("superuser_reserved_connections");
  const std::string detail = absl::StrCat(server.connections, " of ", most, " connections are taken");
  if (server.connections * 100 < most * kFullPercent) return OkFinding("connections", detail);
  return WarningFinding("connections",
                        absl::StrCat(detail, ": without a free one the coordinator can finish nothing there"),
                        absl::StrCat("ALTER SYSTEM SET max_connections = ", 2 * server.Number("max_connections"),
                                     "; and restart the server, or put a pooler in front of the applications."));
}

v1::Finding JudgePooler(const PostgresServer& server) {
  if (!server.behind_a_pooler) return OkFinding("pooler", "connected to the server itself");
  return WarningFinding(
      "pooler",
      "a pooler is in between: with pool_mode=session it does no harm; in any other mode participants "
      "are refused, and recovery may fail",
      "Let the coordinator connect to the server itself, and set pool_mode = session for participants.");
}

std::vector<v1::Finding> CheckPostgres(const v1::Resource& resource, const ConnectOptions& options,
                                       const std::function<absl::Status()>& install) {
  constexpr absl::string_view kReachable = "reachable";
  const auto session = PostgresSession::ConnectForCoordinator(options);
  if (!session.ok()) {
    return {
        ErrorFinding(kReachable, session.status().message(),
                     "Check that the server runs and listens on this address, the account, its password, the database "
                     "and pg_hba.conf.")};
  }
  const absl::StatusOr<PostgresServer> server = ReadServer(session->get());
  if (!server.ok()) return {ErrorFinding(kReachable, server.status().message(), "Check the server's log.")};
  std::vector<v1::Finding> findings = {
      OkFinding(kReachable, absl::StrCat("connected to ", resource.address(), " as ", resource.user())),
      JudgePostgresVersion(*server), JudgeStandby(*server), JudgePreparing(*server)};
  // Nothing is made in a database that is of no use.
  for (const v1::Finding& finding : findings) {
    if (finding.severity() == v1::Finding::SEVERITY_ERROR) return findings;
  }
  findings.push_back(CheckClaim(session->get(), install));
  findings.push_back(JudgePreparedXacts(*server, resource));
  findings.push_back(JudgePostgresPrivileges(*server, resource));
  findings.push_back(JudgePostgresDurability(*server));
  findings.push_back(JudgePostgresTimeouts(*server));
  findings.push_back(JudgePostgresConnections(*server));
  findings.push_back(JudgePooler(*server));
  findings.push_back(ClockFinding(server->clock_offset, server->clock_error));
  return findings;
}

}  // namespace assent
