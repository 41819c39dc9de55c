// How a call carries the global transaction from one service to the next: under which names, and what may be passed on.
// The same in every language (vectors.json beside the SDKs).
//
// The caller: `if (absl::Status status = Carry(transaction, &context); !status.ok()) …` before its gRPC call, or
// HeadersOf for any other protocol. The callee: callee.h, which makes the handler a part of what CarriedBy finds.
// (gRPC's own interceptors are experimental in C++, and see neither the handler's work nor its sessions.)
#ifndef ASSENT_PARTICIPANT_SDK_CPP_CARRY_H_
#define ASSENT_PARTICIPANT_SDK_CPP_CARRY_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "participant_sdk/cpp/global_transaction.h"

namespace grpc {
class ClientContext;
class ServerContextBase;
}  // namespace grpc

namespace assent {

constexpr char kGtridMetadata[] = "assent-gtrid";
constexpr char kTraceparentMetadata[] = "traceparent";  // W3C Trace Context; the same in HTTP.
constexpr char kGtridHeader[] = "Assent-Gtrid";

// What a call carries.
struct Carried {
  std::string gtrid;        // Valid; empty: no transaction.
  std::string traceparent;  // Well-formed; empty: none.
};

using Headers = std::vector<std::pair<std::string, std::string>>;

// Puts the transaction, and `traceparent` if it is one, into the metadata of a call that is about to be made.
// FAILED_PRECONDITION, and the context is as it was, if the transaction was begun as sole_participant:
// nobody could join it.
absl::Status Carry(const GlobalTransaction& transaction, grpc::ClientContext* context,
                   absl::string_view traceparent = "");
// The same as HTTP headers.
absl::StatusOr<Headers> HeadersOf(const GlobalTransaction& transaction, absl::string_view traceparent = "");

// What came. INVALID_GTRID for more than one gtrid, or one that is none. A traceparent that is none is left out.
absl::StatusOr<Carried> CarriedBy(const grpc::ServerContextBase& context);
// The names in any case, as HTTP has them.
absl::StatusOr<Carried> CarriedBy(const Headers& headers);

}  // namespace assent

#endif  // ASSENT_PARTICIPANT_SDK_CPP_CARRY_H_
