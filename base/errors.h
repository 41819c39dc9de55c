// Error reasons: the one list of everything that Assent's programs and libraries refuse, and why.
//
// An error travels as absl::Status inside a process and as grpc::Status with google.rpc details between processes
// (grpc_status.h); both carry the reason and the dynamic parts of the message. docs/errors.md documents every reason
// and errors_test.cc holds the two together. Decision: docs/decisions/0001-error-model.md.
#ifndef ASSENT_BASE_ERRORS_H_
#define ASSENT_BASE_ERRORS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"

namespace assent {

// X(reason, absl::StatusCode, Retry). Ordered by precedence: where several apply to one call, the first one is
// answered. (Fields of one message are looked at in their order, and so are the votes and branches of a call.)
#define ASSENT_ERROR_REASONS(X)                                      \
  /* Refused by looking at the request alone (IsRefusedByItself). */ \
  X(INVALID_GTRID, kInvalidArgument, kNever)                         \
  X(INVALID_TIMEOUT, kInvalidArgument, kNever)                       \
  X(TOO_MANY_BRANCHES, kInvalidArgument, kNever)                     \
  X(TOO_MANY_ITEMS, kInvalidArgument, kNever)                        \
  X(INVALID_BQUAL, kInvalidArgument, kNever)                         \
  X(INVALID_FIELD, kInvalidArgument, kNever)                         \
  X(INVALID_RESOURCE, kInvalidArgument, kNever)                      \
  X(INVALID_PAGE_SIZE, kInvalidArgument, kNever)                     \
  X(INVALID_PAGE_TOKEN, kInvalidArgument, kNever)                    \
  /* The registry of resources. */                                   \
  X(RESOURCE_NOT_FOUND, kNotFound, kNever)                           \
  X(RESOURCE_EXISTS, kAlreadyExists, kNever)                         \
  X(RESOURCE_IN_USE, kFailedPrecondition, kNever)                    \
  X(RESOURCE_UNREACHABLE, kUnavailable, kSameCall)                   \
  X(RESOURCE_UNFIT, kFailedPrecondition, kNever)                     \
  X(RESOURCE_CLAIMED, kFailedPrecondition, kNever)                   \
  X(RESOURCE_QUARANTINED, kFailedPrecondition, kNever)               \
  X(WRONG_SERVER, kFailedPrecondition, kNever)                       \
  /* Refused before the transaction is looked up. */                 \
  X(SHUTTING_DOWN, kUnavailable, kSameCall)                          \
  X(OVERLOADED, kUnavailable, kSameCall)                             \
  X(TOO_MANY_OPEN_GLOBALS, kResourceExhausted, kSameCall)            \
  /* Global transactions. */                                         \
  X(GLOBAL_NOT_FOUND, kNotFound, kNever)                             \
  X(REQUEST_ID_REUSED, kAlreadyExists, kNever)                       \
  X(GTRID_IN_USE, kAlreadyExists, kNever)                            \
  X(GLOBAL_ROLLED_BACK, kAborted, kWholeTransaction)                 \
  X(GLOBAL_COMMITTED, kFailedPrecondition, kNever)                   \
  X(GLOBAL_NOT_DECIDED, kFailedPrecondition, kNever)                 \
  X(BRANCH_NOT_FOUND, kNotFound, kNever)                             \
  X(BRANCH_EXISTS, kAlreadyExists, kNever)                           \
  X(VOTE_CHANGED, kFailedPrecondition, kNever)                       \
  X(COMPLETION_CHANGED, kFailedPrecondition, kNever)                 \
  X(BRANCHES_NOT_PREPARED, kFailedPrecondition, kNever)              \
  X(ETAG_MISMATCH, kAborted, kNever)                                 \
  X(RESOLUTION_REFUSED, kFailedPrecondition, kNever)                 \
  /* The coordinator's store. */                                     \
  X(STORE_UNAVAILABLE, kUnavailable, kSameCall)                      \
  X(STORE_FULL, kUnavailable, kSameCall)                             \
  X(STORE_LOCKED, kFailedPrecondition, kNever)                       \
  X(STORE_READ_ONLY, kFailedPrecondition, kNever)                    \
  X(STORE_CORRUPT, kDataLoss, kNever)                                \
  X(STORE_SCHEMA_NEWER, kFailedPrecondition, kNever)                 \
  X(STORE_OTHER_CLUSTER, kFailedPrecondition, kNever)                \
  X(STORE_UNFIT, kFailedPrecondition, kNever)                        \
  X(STORE_HALF_IMPORTED, kFailedPrecondition, kNever)                \
  X(STORE_NOT_SETTLED, kFailedPrecondition, kNever)                  \
  X(STORE_DIFFERS, kFailedPrecondition, kNever)                      \
  X(STORE_FILE_INVALID, kInvalidArgument, kNever)                    \
  X(INSTANCE_FENCED, kUnavailable, kSameCall)                        \
  /* The participant SDKs. */                                        \
  X(COORDINATOR_UNREACHABLE, kUnavailable, kSameCall)                \
  X(DATABASE_ERROR, kAborted, kWholeTransaction)                     \
  X(DATABASE_UNREACHABLE, kUnavailable, kWholeTransaction)           \
  X(SESSION_IN_TRANSACTION, kFailedPrecondition, kNever)             \
  X(SESSION_HOLDS_BRANCH, kFailedPrecondition, kNever)               \
  X(SESSION_RESET, kAborted, kWholeTransaction)                      \
  X(XA_NOT_SUPPORTED, kFailedPrecondition, kNever)                   \
  X(BRANCH_POISONED, kAborted, kWholeTransaction)                    \
  X(BRANCH_ENDED, kFailedPrecondition, kNever)                       \
  X(OUTCOME_IN_DOUBT, kUnknown, kNever)

enum class Reason {
#define ASSENT_REASON_ENUM(name, code, retry) name,
  ASSENT_ERROR_REASONS(ASSENT_REASON_ENUM)
#undef ASSENT_REASON_ENUM
};

// What repeating helps.
enum class Retry {
  kNever,             // The same call gets the same error.
  kSameCall,          // Repeat the call unchanged after a pause (the SDKs do); RetryInfo says how long.
  kWholeTransaction,  // Begin a new global transaction and do the work again.
};

constexpr absl::string_view kErrorDomain = "assent.v1";

struct ReasonInfo {
  Reason reason;
  absl::string_view name;
  absl::StatusCode code;
  Retry retry;
};

// Every reason in order of precedence.
const std::vector<ReasonInfo>& AllReasons();
const ReasonInfo& InfoOf(Reason reason);

// A status of the reason's code that carries the reason and `metadata`. `message` says what happened and what to do,
// for people. Never put secrets or row contents into either.
absl::Status MakeError(Reason reason, absl::string_view message,
                       const std::map<std::string, std::string>& metadata = {});

// The reason of a status made by MakeError (here or in another process); nullopt for OK and foreign errors.
absl::optional<Reason> ReasonOf(const absl::Status& status);
// The metadata of a status made by MakeError; empty for OK and foreign errors.
std::map<std::string, std::string> MetadataOf(const absl::Status& status);
// For logs and people: `CODE REASON: message`, without the payloads' bytes. "OK" if it is.
std::string ToText(const absl::Status& status);
// What repeating helps after this status: its reason's advice, but kNever instead of kWholeTransaction where the
// metadata says that the same work fails again (a key or data that does not fit, a right that is missing, …). Without a
// reason: kSameCall for UNAVAILABLE, else kNever. OK: kNever.
Retry RetryOf(const absl::Status& status);
// True if the request itself was refused, without a look at anything that is stored: no attempt of the same call is
// ever carried out.
bool IsRefusedByItself(Reason reason);
// True if repeating the very same call may help: UNAVAILABLE, or a reason whose advice is kSameCall.
bool IsRetryable(const absl::Status& status);

}  // namespace assent

#endif  // ASSENT_BASE_ERRORS_H_
