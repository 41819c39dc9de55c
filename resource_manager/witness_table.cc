#include "resource_manager/witness_table.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "base/errors.h"

namespace assent {
namespace {

constexpr size_t kMaxIdentifierBytes = 64;
constexpr int kErDbAccessDenied = 1044;
constexpr int kErNoSuchDatabase = 1049;
constexpr int kErTableAccessDenied = 1142;
constexpr int kErColumnAccessDenied = 1143;
constexpr int kErNoSuchTable = 1146;

bool IsIdentifier(absl::string_view text) {
  return !text.empty() && text.size() <= kMaxIdentifierBytes && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '_' || c == '$' || c == '-';
  });
}

}  // namespace

Xid WitnessOf(const Xid& branch, bool one_phase) {
  return one_phase ? Xid{branch.gtrid, absl::StrCat(branch.bqual, "!")} : branch;
}

bool IsOnePhaseWitness(const Xid& witness) { return absl::EndsWith(witness.bqual, "!"); }

Xid BranchOfOnePhase(const Xid& witness) { return {witness.gtrid, std::string(absl::StripSuffix(witness.bqual, "!"))}; }

absl::StatusOr<WitnessTable> WitnessTable::Parse(absl::string_view name) {
  const size_t dot = name.find('.');
  if (dot == absl::string_view::npos || !IsIdentifier(name.substr(0, dot)) || !IsIdentifier(name.substr(dot + 1))) {
    return MakeError(Reason::INVALID_FIELD,
                     "witness_table must be schema.table, each part 1 to 64 bytes of [A-Za-z0-9_$-]",
                     {{"field", "witness_table"}});
  }
  return WitnessTable(name.substr(0, dot), name.substr(dot + 1));
}

absl::StatusOr<WitnessTable> WitnessTable::OfSchema(absl::string_view schema) {
  if (schema.empty()) schema = kDefaultWitnessSchema;
  if (!IsIdentifier(schema)) {
    return MakeError(Reason::INVALID_FIELD, "witness_schema must be 1 to 64 bytes of [A-Za-z0-9_$-]",
                     {{"field", "witness_schema"}});
  }
  return WitnessTable(schema, kWitnessTableName);
}

std::string WitnessTable::name() const { return absl::StrCat(schema_, ".", table_); }

std::string WitnessTable::quoted() const { return absl::StrCat("`", schema_, "`.`", table_, "`"); }

std::string WitnessTable::InsertSql(const Xid& xid) const {
  return InsertSql(xid, [](absl::string_view value) { return std::string(value); });
}

std::string WitnessTable::InsertSql(const Xid& xid, const std::function<std::string(absl::string_view)>& wrap) const {
  return absl::StrCat("INSERT INTO ", quoted(), " (gtrid, bqual) VALUES (X'", absl::BytesToHexString(xid.gtrid), "', ",
                      wrap(absl::StrCat("X'", absl::BytesToHexString(xid.bqual), "'")), ")");
}

std::string WitnessTable::InsertIgnoreSql(const Xid& xid) const {
  return absl::StrReplaceAll(InsertSql(xid), {{"INSERT INTO", "INSERT IGNORE INTO"}});
}

std::string WitnessTable::WhyRefused(int error_code) const {
  std::string why = "the witness row could not be written";
  switch (error_code) {
    case kErDbAccessDenied:
    case kErTableAccessDenied:
    case kErColumnAccessDenied:
      absl::StrAppend(&why, " (every account that runs branches needs it: GRANT INSERT ON ", quoted(), ")");
      break;
    case kErNoSuchDatabase:
    case kErNoSuchTable:
      absl::StrAppend(&why, " (its table is gone: assentctl resources register NAME --replace makes it)");
      break;
    default: break;
  }
  return why;
}

}  // namespace assent
