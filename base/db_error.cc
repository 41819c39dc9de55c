#include "base/db_error.h"

#include "absl/strings/str_cat.h"
#include "base/errors.h"

namespace assent {
namespace {

// MariaDB's error numbers; named as in its mysqld_error.h.
constexpr int kErServerShutdown = 1053;
constexpr int kErNetFirst =
    1152;  // ER_NEW_ABORTING_CONNECTION, ER_NET_PACKETS_OUT_OF_ORDER, … ER_NET_WRITE_INTERRUPTED
constexpr int kErNetLast = 1161;
constexpr int kErNewAbortingConnection = 1184;
constexpr int kErConnectionKilled = 1927;

// Connector/C's own errors: 2000… as every client of this protocol has them, 5000… its additions.
constexpr int kClientErrorFirst = 2000;
constexpr int kClientErrorLast = 2999;
constexpr int kConnectorErrorFirst = 5000;
constexpr int kConnectorErrorLast = 5099;

}  // namespace

bool IsConnectionLost(int code) {
  return code == kConnectionLostCode || (code >= kClientErrorFirst && code <= kClientErrorLast) ||
         (code >= kConnectorErrorFirst && code <= kConnectorErrorLast) || (code >= kErNetFirst && code <= kErNetLast) ||
         code == kErServerShutdown || code == kErNewAbortingConnection || code == kErConnectionKilled;
}

std::string Describe(absl::string_view doing, const DbError& error) {
  if (error.code > 0) {
    return absl::StrCat(doing, ": the database answers ", error.code, " (", error.sqlstate, "): ", error.message);
  }
  if (error.sqlstate.empty()) return absl::StrCat(doing, ": ", error.message);
  return absl::StrCat(doing, ": the database answers ", error.sqlstate, ": ", error.message);
}

std::map<std::string, std::string> MetadataOf(const DbError& error) {
  std::map<std::string, std::string> metadata;
  if (error.code > 0) metadata["error_code"] = absl::StrCat(error.code);
  if (!error.sqlstate.empty()) metadata["sqlstate"] = error.sqlstate;
  return metadata;
}

absl::Status StatusOf(const DbError& error, absl::string_view doing) {
  if (error.ok()) return absl::OkStatus();
  const Reason reason = IsConnectionLost(error.code)      ? Reason::DATABASE_UNREACHABLE
                        : error.code == kSessionResetCode ? Reason::SESSION_RESET
                                                          : Reason::DATABASE_ERROR;
  return MakeError(reason, Describe(doing, error), MetadataOf(error));
}

}  // namespace assent
