#include "resource_manager/xa_outcome.h"

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/errors.h"

namespace assent {
namespace {

// MariaDB's and MySQL's error numbers; named as in its mysqld_error.h.
constexpr int kErParseError = 1064;
constexpr int kErLockWaitTimeout = 1205;
constexpr int kErNotSupportedYet = 1235;
constexpr int kErOptionPreventsStatement = 1290;
constexpr int kErQueryInterrupted = 1317;
constexpr int kErXaerNota = 1397;
constexpr int kErXaerInval = 1398;
constexpr int kErXaerRmfail = 1399;
constexpr int kErXaerOutside = 1400;
constexpr int kErXaRbRollback = 1402;
constexpr int kErXaerDupid = 1440;
constexpr int kErXaRbTimeout = 1613;
constexpr int kErXaRbDeadlock = 1614;
constexpr int kErStatementTimeout = 1969;

bool FinishesPrepared(XaVerb verb) { return verb == XaVerb::kCommit || verb == XaVerb::kRollback; }

}  // namespace

XaOutcome OutcomeOf(XaVerb verb, int code) {
  if (code == 0) return XaOutcome::kOk;
  if (IsConnectionLost(code)) return XaOutcome::kConnectionLost;
  if (code == kSessionResetCode) return XaOutcome::kSessionReset;
  switch (code) {
    case kErXaRbRollback:
    case kErXaRbTimeout:
    case kErXaRbDeadlock:
      // MySQL's word at XA END for what MariaDB calls a wrong state: the session still has the branch, to roll back.
      return verb == XaVerb::kEnd ? XaOutcome::kWrongState : XaOutcome::kRolledBack;
    case kErXaerNota: return XaOutcome::kUnknownXid;
    case kErXaerDupid: return XaOutcome::kDuplicateXid;
    case kErXaerRmfail: return XaOutcome::kWrongState;
    case kErXaerOutside: return XaOutcome::kOutside;
    case kErXaerInval:
    case kErParseError: return XaOutcome::kInvalid;
    case kErNotSupportedYet: return XaOutcome::kNotSupported;
    case kErOptionPreventsStatement: return FinishesPrepared(verb) ? XaOutcome::kRetryLater : XaOutcome::kError;
    case kErLockWaitTimeout:
    case kErQueryInterrupted:
    case kErStatementTimeout:
      // Waiting for the commit lock (a backup, FLUSH TABLES WITH READ LOCK) ended without it.
      if (FinishesPrepared(verb)) return XaOutcome::kRetryLater;
      if (verb == XaVerb::kPrepare || verb == XaVerb::kCommitOnePhase) return XaOutcome::kRolledBack;
      return XaOutcome::kError;
    default: return XaOutcome::kError;
  }
}

absl::string_view ToString(XaVerb verb) {
  switch (verb) {
    case XaVerb::kStart: return "XA START";
    case XaVerb::kEnd: return "XA END";
    case XaVerb::kPrepare: return "XA PREPARE";
    case XaVerb::kCommit: return "XA COMMIT";
    case XaVerb::kCommitOnePhase: return "XA COMMIT ONE PHASE";
    case XaVerb::kRollback: return "XA ROLLBACK";
    case XaVerb::kRecover: return "XA RECOVER";
  }
  return "?";
}

absl::string_view ToString(XaOutcome outcome) {
  switch (outcome) {
    case XaOutcome::kOk: return "OK";
    case XaOutcome::kRolledBack: return "ROLLED_BACK";
    case XaOutcome::kUnknownXid: return "UNKNOWN_XID";
    case XaOutcome::kDuplicateXid: return "DUPLICATE_XID";
    case XaOutcome::kWrongState: return "WRONG_STATE";
    case XaOutcome::kOutside: return "OUTSIDE";
    case XaOutcome::kInvalid: return "INVALID";
    case XaOutcome::kNotSupported: return "NOT_SUPPORTED";
    case XaOutcome::kRetryLater: return "RETRY_LATER";
    case XaOutcome::kSessionReset: return "SESSION_RESET";
    case XaOutcome::kConnectionLost: return "CONNECTION_LOST";
    case XaOutcome::kError: return "ERROR";
  }
  return "?";
}

absl::Status StatusOf(XaVerb verb, XaOutcome outcome, const DbError& error) {
  if (outcome == XaOutcome::kOk) return absl::OkStatus();
  std::map<std::string, std::string> metadata = MetadataOf(error);
  metadata["outcome"] = std::string(ToString(outcome));
  switch (outcome) {
    case XaOutcome::kOutside:
      return MakeError(Reason::SESSION_IN_TRANSACTION,
                       absl::StrCat(Describe(ToString(verb), error),
                                    ". The session has a transaction or table locks of its own: commit, roll back or "
                                    "UNLOCK TABLES before a branch starts on it, or use another session"),
                       metadata);
    case XaOutcome::kNotSupported:
      return MakeError(
          Reason::XA_NOT_SUPPORTED,
          absl::StrCat(Describe(ToString(verb), error), ". This server cannot run XA branches (Galera cannot)"),
          metadata);
    case XaOutcome::kSessionReset: return MakeError(Reason::SESSION_RESET, Describe(ToString(verb), error), metadata);
    case XaOutcome::kConnectionLost:
      return MakeError(Reason::DATABASE_UNREACHABLE, Describe(ToString(verb), error), metadata);
    default: return MakeError(Reason::DATABASE_ERROR, Describe(ToString(verb), error), metadata);
  }
}

}  // namespace assent
