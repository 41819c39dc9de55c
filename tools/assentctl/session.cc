#include "tools/assentctl/session.h"

#include <google/protobuf/util/json_util.h>

#include <fstream>
#include <iostream>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "tools/assentctl/text.h"

namespace assent {
namespace {

absl::Status Invalid(absl::string_view field, absl::string_view text) {
  return MakeError(Reason::INVALID_FIELD, text, {{"field", std::string(field)}});
}

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  if (file) text << file.rdbuf();
  if (!file || text.str().empty()) {
    return Invalid("tls", absl::StrCat("cannot read ", path, " (or it is empty)"));
  }
  return text.str();
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials(const SessionOptions& options) {
  if (options.tls_cert.empty() != options.tls_key.empty())
    return Invalid("tls", "--tls-cert and --tls-key go together");
  if (options.tls_ca.empty()) {
    if (!options.tls_cert.empty()) return Invalid("tls", "--tls-cert needs --tls-ca");
    return grpc::InsecureChannelCredentials();
  }
  grpc::SslCredentialsOptions ssl;
  for (const auto& part :
       {std::make_pair(&options.tls_ca, &ssl.pem_root_certs), std::make_pair(&options.tls_cert, &ssl.pem_cert_chain),
        std::make_pair(&options.tls_key, &ssl.pem_private_key)}) {
    if (part.first->empty()) continue;
    absl::StatusOr<std::string> text = ReadPem(*part.first);
    if (!text.ok()) return text.status();
    *part.second = *std::move(text);
  }
  return grpc::SslCredentials(ssl);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Session>> Session::Open(const SessionOptions& options) {
  // What clients of the SDK are given; gRPC would look for a host of that name.
  if (absl::StrContains(options.address, ',') && !absl::StartsWith(options.address, "unix:")) {
    return Invalid("address", absl::StrCat("--address (ASSENTCTL_ADDRESS) takes one address, not '", options.address,
                                           "': any instance answers for all"));
  }
  absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> credentials = Credentials(options);
  if (!credentials.ok()) return credentials.status();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);  // A page of great transactions is longer than gRPC's default.
  return std::unique_ptr<Session>(
      new Session(options, grpc::CreateCustomChannel(options.address, *credentials, arguments)));
}

Session::Session(SessionOptions options, const std::shared_ptr<grpc::Channel>& channel)
    : options_(std::move(options)),
      coordinator_(v1::CoordinatorService::NewStub(channel)),
      resources_(v1::ResourceService::NewStub(channel)),
      health_(grpc::health::v1::Health::NewStub(channel)) {}

int Session::Fail(const absl::Status& status) const {
  if (IsUnreachable(status)) {
    Complain(absl::StrCat("the coordinator at ", options_.address, " does not answer: ", status.message(),
                          "; is assentd running there? (--address, ASSENTCTL_ADDRESS)"));
    return kExitUnreachable;
  }
  Complain(ToText(status));
  return absl::IsNotFound(status) ? kExitNotFound : kExitError;
}

bool IsUnreachable(const absl::Status& status) {
  return !ReasonOf(status) && (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status));
}

void Complain(absl::string_view text) { std::cerr << "assentctl: " << Escape(text) << std::endl; }

std::string ToJson(const google::protobuf::Message& message, bool compact) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = !compact;
  options.always_print_primitive_fields = true;
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(message, &text, options);
  // Only a message of a newer coordinator that holds an Any could bring this about.
  if (!status.ok()) Complain(status.ToString());
  return text;
}

void PrintJson(const google::protobuf::Message& message, bool compact) {
  std::cout << ToJson(message, compact) << (compact ? "\n" : "") << std::flush;
}

}  // namespace assent
