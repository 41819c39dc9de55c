#include "base/errors.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"

namespace assent {
namespace {

constexpr absl::string_view kErrorInfoUrl = "type.googleapis.com/google.rpc.ErrorInfo";

absl::optional<google::rpc::ErrorInfo> ErrorInfoOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kErrorInfoUrl);
  google::rpc::ErrorInfo info;
  if (!payload || !info.ParseFromString(std::string(*payload)) || info.domain() != kErrorDomain) return absl::nullopt;
  return info;
}

}  // namespace

const std::vector<ReasonInfo>& AllReasons() {
  static const auto* const kAll = new std::vector<ReasonInfo>{
#define ASSENT_REASON_INFO(name, code, retry) {Reason::name, #name, absl::StatusCode::code, Retry::retry},
      ASSENT_ERROR_REASONS(ASSENT_REASON_INFO)
#undef ASSENT_REASON_INFO
  };
  return *kAll;
}

const ReasonInfo& InfoOf(Reason reason) { return AllReasons()[static_cast<size_t>(reason)]; }

absl::Status MakeError(Reason reason, absl::string_view message, const std::map<std::string, std::string>& metadata) {
  const ReasonInfo& info = InfoOf(reason);
  google::rpc::ErrorInfo details;
  details.set_reason(std::string(info.name));
  details.set_domain(std::string(kErrorDomain));
  details.mutable_metadata()->insert(metadata.begin(), metadata.end());
  absl::Status status(info.code, message);
  status.SetPayload(kErrorInfoUrl, absl::Cord(details.SerializeAsString()));
  return status;
}

absl::optional<Reason> ReasonOf(const absl::Status& status) {
  const absl::optional<google::rpc::ErrorInfo> details = ErrorInfoOf(status);
  if (!details) return absl::nullopt;
  for (const ReasonInfo& info : AllReasons()) {
    if (info.name == details->reason()) return info.reason;
  }
  return absl::nullopt;
}

std::map<std::string, std::string> MetadataOf(const absl::Status& status) {
  const absl::optional<google::rpc::ErrorInfo> details = ErrorInfoOf(status);
  if (!details) return {};
  return {details->metadata().begin(), details->metadata().end()};
}

std::string ToText(const absl::Status& status) {
  if (status.ok()) return "OK";
  const absl::optional<Reason> reason = ReasonOf(status);
  return absl::StrCat(absl::StatusCodeToString(status.code()), reason ? " " : "", reason ? InfoOf(*reason).name : "",
                      ": ", status.message());
}

bool IsRefusedByItself(Reason reason) { return reason < Reason::RESOURCE_NOT_FOUND; }

bool IsRetryable(const absl::Status& status) {
  const absl::optional<Reason> reason = ReasonOf(status);
  return reason ? InfoOf(*reason).retry == Retry::kSameCall : absl::IsUnavailable(status);
}

}  // namespace assent
