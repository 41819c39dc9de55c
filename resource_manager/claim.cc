#include "resource_manager/claim.h"

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "resource_manager/table_migration.h"

namespace assent {
namespace {

constexpr absl::string_view kKind = "assent claim";
constexpr absl::string_view kSchema = "assent";
constexpr absl::string_view kTable = "claim";
constexpr absl::string_view kQuotedTable = "`assent`.`claim`";

constexpr int kErDupEntry = 1062;
constexpr int kErNoSuchDatabase = 1049;
constexpr int kErNoSuchTable = 1146;

std::string Hex(absl::string_view bytes) { return absl::StrCat("X'", absl::BytesToHexString(bytes), "'"); }

std::string WhereIs(absl::string_view cluster) { return absl::StrCat(" WHERE cluster = ", Hex(cluster)); }

}  // namespace

absl::Status InstallClaims(MariaDbSession* session) {
  const std::string create = absl::StrCat(
      "CREATE DATABASE IF NOT EXISTS `", kSchema, "`;CREATE TABLE IF NOT EXISTS ", kQuotedTable,
      " (cluster VARBINARY(32) NOT NULL PRIMARY KEY, store_id VARBINARY(64) NOT NULL, epoch BIGINT NOT NULL,"
      " updated TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)) ENGINE=InnoDB"
      " COMMENT='",
      TableComment(kKind, 1), "'");
  const absl::Status made =
      BringUpToDate(session, KeptTable{std::string(kSchema), std::string(kTable), kKind, {create}});
  if (!made.ok()) return made;
  // Statements that find nothing, to see whether the account may run them.
  const std::string nobody = WhereIs("");
  for (const std::string& sql : {absl::StrCat("SELECT epoch FROM ", kQuotedTable, nobody),
                                 absl::StrCat("UPDATE ", kQuotedTable, " SET epoch = 0", nobody),
                                 absl::StrCat("INSERT INTO ", kQuotedTable,
                                              " (cluster, store_id, epoch) SELECT '', '', 0 FROM DUAL WHERE FALSE")}) {
    const QueryResult result = session->Query(sql);
    if (!result.ok()) return Refused(session, kSchema, result.error, "using the table assent.claim");
  }
  return absl::OkStatus();
}

absl::StatusOr<absl::optional<Claim>> ReadClaim(MariaDbSession* session, absl::string_view cluster) {
  const QueryResult result =
      session->Query(absl::StrCat("SELECT store_id, epoch FROM ", kQuotedTable, WhereIs(cluster)));
  if (result.error.code == kErNoSuchTable || result.error.code == kErNoSuchDatabase) {
    return absl::optional<Claim>();
  }
  // To an account that may not look, a table that is still to be made looks like one that is there.
  if (!result.ok()) return RefusedToMake(session, kSchema, result.error, "reading the claim");
  if (result.rows().empty()) return absl::optional<Claim>();
  const auto& row = result.rows()[0];
  Claim claim;
  if (row.size() != 2 || !row[0] || !row[1] || !absl::SimpleAtoi(*row[1], &claim.epoch)) {
    return MakeError(Reason::DATABASE_ERROR, "the claim cannot be read");
  }
  claim.store_id = *row[0];
  return absl::optional<Claim>(claim);
}

absl::StatusOr<bool> WriteClaim(MariaDbSession* session, absl::string_view cluster,
                                const absl::optional<Claim>& expected, const Claim& claim) {
  // One statement either way, so the check and the write are one.
  const std::string sql =
      expected ? absl::StrCat("UPDATE ", kQuotedTable, " SET store_id = ", Hex(claim.store_id),
                              ", epoch = ", claim.epoch, ", updated = NOW(6)", WhereIs(cluster),
                              " AND store_id = ", Hex(expected->store_id), " AND epoch = ", expected->epoch)
               : absl::StrCat("INSERT INTO ", kQuotedTable, " (cluster, store_id, epoch) VALUES (", Hex(cluster), ", ",
                              Hex(claim.store_id), ", ", claim.epoch, ")");
  const QueryResult result = session->Query(sql);
  if (result.error.code == kErDupEntry) return false;
  if (!result.ok()) return Refused(session, kSchema, result.error, "writing the claim");
  return result.affected_rows() == 1;
}

}  // namespace assent
