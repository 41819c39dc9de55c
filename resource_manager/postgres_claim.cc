#include "resource_manager/postgres_claim.h"

#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/errors.h"

namespace assent {
namespace {

constexpr char kComment[] = "assent claim v1";
constexpr int kTries = 5;

// The error of a statement on the table: RESOURCE_UNFIT with the statements that help if a privilege is missing.
absl::Status Refused(PostgresSession* session, const DbError& error, absl::string_view doing) {
  if (error.sqlstate != "42501") return StatusOf(error, doing);
  const std::string user = QuoteIdentifier(session->facts().user);
  const std::string& name = session->facts().identity.name;
  const std::string grant =
      absl::StrCat("GRANT CREATE ON DATABASE ", QuoteIdentifier(name.substr(name.find('/') + 1)), " TO ", user,
                   "; and, if another account has made the schema assent: GRANT USAGE ON SCHEMA assent TO ", user,
                   "; GRANT SELECT, INSERT, UPDATE ON assent.claim TO ", user);
  return MakeError(Reason::RESOURCE_UNFIT, absl::StrCat(doing, " needs a privilege that is missing: ", grant),
                   {{"grant", grant}, {"sqlstate", error.sqlstate}});
}

// Whoever owns the table decides what runs when it is written (triggers, defaults), as the account that writes it: only
// this account and superusers may. OK also if there is none.
absl::Status CheckOwners(PostgresSession* session) {
  const QueryResult owners = session->Query(
      "SELECT r.rolname FROM pg_class c JOIN pg_namespace n ON n.oid=c.relnamespace JOIN pg_roles r ON r.oid IN "
      "(c.relowner,n.nspowner) WHERE n.nspname='assent' AND c.relname='claim' AND r.rolname<>current_user AND NOT "
      "r.rolsuper");
  if (!owners.ok()) return StatusOf(owners.error, "looking for the owner of the table assent.claim");
  if (owners.rows().empty()) return absl::OkStatus();
  const std::string user = QuoteIdentifier(session->facts().user);
  return MakeError(
      Reason::RESOURCE_UNFIT,
      absl::StrCat("the schema assent or its table claim belongs to the role ",
                   QuoteIdentifier(owners.rows()[0][0].value_or("")),
                   ", which could make anything run as this account: drop it, or, if it is what it should be, "
                   "ALTER SCHEMA assent OWNER TO ",
                   user, "; ALTER TABLE assent.claim OWNER TO ", user));
}

// Another coordinator makes the same thing at this moment.
bool IsRace(const DbError& error) {
  for (const char* state : {"23505", "42P06", "42P07", "XX000", "40P01"}) {
    if (error.sqlstate == state) return true;
  }
  return false;
}

std::string WhereIs(absl::string_view cluster) { return absl::StrCat(" WHERE cluster=", QuoteLiteral(cluster)); }

}  // namespace

absl::Status InstallPostgresClaims(PostgresSession* session) {
  const std::string create = absl::StrCat(
      "BEGIN;CREATE SCHEMA IF NOT EXISTS assent;CREATE TABLE assent.claim (cluster text PRIMARY KEY, store_id text NOT "
      "NULL, epoch int8 NOT NULL, updated timestamptz NOT NULL DEFAULT now());COMMENT ON TABLE assent.claim IS '",
      kComment, "';COMMIT");
  for (int i = 0; i < kTries; ++i) {
    const QueryResult there = session->Query(
        "SELECT obj_description(c.oid,'pg_class') FROM pg_class c JOIN pg_namespace n ON n.oid=c.relnamespace WHERE "
        "n.nspname='assent' AND c.relname='claim'");
    if (!there.ok()) return Refused(session, there.error, "looking for the table assent.claim");
    if (!there.rows().empty()) {
      if (there.rows()[0][0] != std::string(kComment)) {
        return MakeError(Reason::RESOURCE_UNFIT,
                         absl::StrCat("the table assent.claim is not one of this version of Assent: its comment is '",
                                      there.rows()[0][0].value_or(""), "' instead of '", kComment,
                                      "': upgrade Assent, or rename the table if it is not Assent's"));
      }
      if (absl::Status status = CheckOwners(session); !status.ok()) return status;
      // Statements that change nothing, to see whether the account may run them.
      const QueryResult used = session->Query(
          "SELECT epoch FROM assent.claim WHERE false;UPDATE assent.claim SET epoch=0 WHERE false;INSERT INTO "
          "assent.claim "
          "(cluster,store_id,epoch) SELECT '','',0 WHERE false");
      return used.ok() ? absl::OkStatus() : Refused(session, used.error, "using the table assent.claim");
    }
    const QueryResult made = session->Query(create);
    if (!made.ok()) {
      if (session->lost()) return StatusOf(made.error, "making the table assent.claim");
      session->Query("ROLLBACK");
      if (!IsRace(made.error)) return Refused(session, made.error, "making the table assent.claim");
    }
  }
  return MakeError(Reason::DATABASE_ERROR, "the table assent.claim is being made by somebody else: repeat");
}

absl::StatusOr<absl::optional<Claim>> ReadPostgresClaim(PostgresSession* session, absl::string_view cluster) {
  if (absl::Status status = CheckOwners(session); !status.ok()) return status;
  const QueryResult result = session->Query(absl::StrCat("SELECT store_id,epoch FROM assent.claim", WhereIs(cluster)));
  if (result.error.sqlstate == "42P01" || result.error.sqlstate == "3F000") return absl::optional<Claim>();
  if (!result.ok()) return Refused(session, result.error, "reading the claim");
  if (result.rows().empty()) return absl::optional<Claim>();
  const auto& row = result.rows()[0];
  Claim claim;
  if (!row[0] || !row[1] || !absl::SimpleAtoi(*row[1], &claim.epoch)) {
    return MakeError(Reason::DATABASE_ERROR, "the claim cannot be read");
  }
  claim.store_id = *row[0];
  return absl::optional<Claim>(claim);
}

absl::StatusOr<bool> WritePostgresClaim(PostgresSession* session, absl::string_view cluster,
                                        const absl::optional<Claim>& expected, const Claim& claim) {
  // One statement either way, so the check and the write are one.
  const std::string sql =
      expected ? absl::StrCat("UPDATE assent.claim SET store_id=", QuoteLiteral(claim.store_id), ",epoch=", claim.epoch,
                              ",updated=now()", WhereIs(cluster), " AND store_id=", QuoteLiteral(expected->store_id),
                              " AND epoch=", expected->epoch)
               : absl::StrCat("INSERT INTO assent.claim (cluster,store_id,epoch) VALUES (", QuoteLiteral(cluster), ",",
                              QuoteLiteral(claim.store_id), ",", claim.epoch, ") ON CONFLICT DO NOTHING");
  const QueryResult result = session->Query(sql);
  if (!result.ok()) return Refused(session, result.error, "writing the claim");
  return result.affected_rows() == 1;
}

}  // namespace assent
