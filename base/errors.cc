#include "base/errors.h"

#include <set>

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

absl::optional<Reason> ReasonNamed(absl::string_view name) {
  for (const ReasonInfo& info : AllReasons()) {
    if (info.name == name) return info.reason;
  }
  return absl::nullopt;
}

std::string ValueOf(const std::map<std::string, std::string>& metadata, const char* key) {
  const auto it = metadata.find(key);
  return it == metadata.end() ? "" : it->second;
}

// True if the same work in a new transaction would get the same error, as far as the metadata tells.
bool MeetsItAgain(const std::map<std::string, std::string>& metadata) {
  // Classes of SQLSTATE: a feature that is not there, data or a key that does not fit, an account that may not, a
  // database or schema that is not there, a statement that is wrong.
  static const auto* const kLasting = new std::set<std::string>{"0A", "22", "23", "28", "3D", "3F", "42"};
  // What MariaDB and MySQL answer to DDL, BEGIN, … in a branch; after a verb, which has an outcome, it means something
  // else.
  constexpr absl::string_view kRefusedInABranch = "1399";
  const std::string state = ValueOf(metadata, "sqlstate");
  if (state.size() == 5 && kLasting->count(state.substr(0, 2)) != 0) return true;
  if (ValueOf(metadata, "error_code") == kRefusedInABranch && metadata.count("outcome") == 0) return true;
  const absl::optional<Reason> because = ReasonNamed(ValueOf(metadata, "because"));
  return because && InfoOf(*because).retry == Retry::kNever;
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
  return details ? ReasonNamed(details->reason()) : absl::nullopt;
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

Retry RetryOf(const absl::Status& status) {
  const absl::optional<Reason> reason = ReasonOf(status);
  if (!reason) return absl::IsUnavailable(status) ? Retry::kSameCall : Retry::kNever;
  const Retry advice = InfoOf(*reason).retry;
  return advice == Retry::kWholeTransaction && MeetsItAgain(MetadataOf(status)) ? Retry::kNever : advice;
}

bool IsRetryable(const absl::Status& status) { return RetryOf(status) == Retry::kSameCall; }

}  // namespace assent
