#include "participant_sdk/cpp/carry.h"

#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/errors.h"
#include "base/xid.h"

namespace assent {
namespace {

bool IsLowerHex(absl::string_view text, size_t digits) {
  return text.size() == digits &&
         std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f'); });
}

// version-trace-parent-flags, and more in later versions.
bool IsTraceparent(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '-');
  return parts.size() >= 4 && IsLowerHex(parts[0], 2) && IsLowerHex(parts[1], 32) && IsLowerHex(parts[2], 16) &&
         IsLowerHex(parts[3], 2);
}

absl::Status CheckJoinable(const GlobalTransaction& transaction) {
  if (!transaction.is_sole()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the call would carry global transaction '", transaction.gtrid(),
                   "', which was begun with sole_participant: nobody else can take part in it. Begin it without that"));
}

// Every value of the two names.
absl::StatusOr<Carried> Read(const std::vector<std::string>& gtrids, const std::vector<std::string>& traceparents) {
  if (gtrids.size() > 1) {
    return MakeError(Reason::INVALID_GTRID, absl::StrCat("the call carries ", gtrids.size(), " global transactions"));
  }
  Carried carried;
  if (!gtrids.empty()) {
    if (absl::Status status = ValidateGtrid(gtrids[0]); !status.ok()) return status;
    carried.gtrid = gtrids[0];
  }
  if (traceparents.size() == 1 && IsTraceparent(traceparents[0])) carried.traceparent = traceparents[0];
  return carried;
}

}  // namespace

absl::Status Carry(const GlobalTransaction& transaction, grpc::ClientContext* context, absl::string_view traceparent) {
  if (absl::Status status = CheckJoinable(transaction); !status.ok()) return status;
  context->AddMetadata(kGtridMetadata, transaction.gtrid());
  if (IsTraceparent(traceparent)) context->AddMetadata(kTraceparentMetadata, std::string(traceparent));
  return absl::OkStatus();
}

absl::StatusOr<Headers> HeadersOf(const GlobalTransaction& transaction, absl::string_view traceparent) {
  if (absl::Status status = CheckJoinable(transaction); !status.ok()) return status;
  Headers headers = {{kGtridHeader, transaction.gtrid()}};
  if (IsTraceparent(traceparent)) headers.emplace_back(kTraceparentMetadata, std::string(traceparent));
  return headers;
}

absl::StatusOr<Carried> CarriedBy(const grpc::ServerContextBase& context) {
  const auto values = [&context](const char* name) {
    std::vector<std::string> found;
    const auto range = context.client_metadata().equal_range(name);
    for (auto it = range.first; it != range.second; ++it) found.emplace_back(it->second.data(), it->second.size());
    return found;
  };
  return Read(values(kGtridMetadata), values(kTraceparentMetadata));
}

absl::StatusOr<Carried> CarriedBy(const Headers& headers) {
  const auto values = [&headers](absl::string_view name) {
    std::vector<std::string> found;
    for (const auto& [key, value] : headers) {
      if (absl::EqualsIgnoreCase(key, name)) found.push_back(value);
    }
    return found;
  };
  return Read(values(kGtridHeader), values(kTraceparentMetadata));
}

}  // namespace assent
