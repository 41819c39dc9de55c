// Session: one run of assentctl against one coordinator: connection, calls, output, exit code.
#ifndef ASSENT_TOOLS_ASSENTCTL_SESSION_H_
#define ASSENT_TOOLS_ASSENTCTL_SESSION_H_

#include <google/protobuf/message.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <iostream>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "assent/v1/coordinator_service.grpc.pb.h"
#include "assent/v1/resource_service.grpc.pb.h"
#include "base/grpc_status.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace assent {

// Documented in --help and docs/assentctl.md.
constexpr int kExitOk = 0;
constexpr int kExitError = 1;
constexpr int kExitUsage = 2;
constexpr int kExitNotFound = 3;
constexpr int kExitUnreachable = 4;

struct SessionOptions {
  std::string address = "127.0.0.1:7411";
  absl::Duration timeout = absl::Seconds(10);
  // For calls that ask databases; both are what --timeout says, if it is given.
  absl::Duration slow_timeout = absl::Minutes(2);
  // Paths of PEM files; TLS is used if a CA is given, and a client certificate shown if both others are.
  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  bool json = false;
};

// How long a call may take: the coordinator answers at once, or only when it has asked databases.
enum class Pace { kQuick, kSlow };

// Used by one thread.
class Session {
 public:
  // Connects at the first call. INVALID_FIELD if the TLS files do not fit together or cannot be read.
  static absl::StatusOr<std::unique_ptr<Session>> Open(const SessionOptions& options);

  const SessionOptions& options() const { return options_; }
  v1::CoordinatorService::StubInterface* coordinator() { return coordinator_.get(); }
  v1::ResourceService::StubInterface* resources() { return resources_.get(); }
  grpc::health::v1::Health::StubInterface* health() { return health_.get(); }

  // One call with the session's timeout. Errors are the coordinator's, or the transport's without a reason.
  template <typename Stub, typename Request, typename Response>
  absl::Status Call(Stub* stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response, Pace pace = Pace::kQuick) {
    const absl::Duration timeout = pace == Pace::kSlow ? options_.slow_timeout : options_.timeout;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoNanoseconds(timeout));
    return FromGrpcStatus((stub->*method)(&context, request, response));
  }

  // Says on standard error what went wrong, and answers the exit code for it.
  int Fail(const absl::Status& status) const;

 private:
  Session(SessionOptions options, const std::shared_ptr<grpc::Channel>& channel);

  const SessionOptions options_;
  const std::unique_ptr<v1::CoordinatorService::StubInterface> coordinator_;
  const std::unique_ptr<v1::ResourceService::StubInterface> resources_;
  const std::unique_ptr<grpc::health::v1::Health::StubInterface> health_;
};

// True if nobody answered: an error of the transport, not of the coordinator.
bool IsUnreachable(const absl::Status& status);
// "assentctl: ..." on standard error; escaped.
void Complain(absl::string_view text);
// Protobuf's JSON with every field; on one line if `compact`.
std::string ToJson(const google::protobuf::Message& message, bool compact = false);
// To standard output, one document.
void PrintJson(const google::protobuf::Message& message, bool compact = false);

// What a call answered: the message as JSON, or what `render` makes of it. The exit code.
template <typename Response, typename Render>
int Show(Session* session, const absl::Status& status, const Response& response, Render render) {
  if (!status.ok()) return session->Fail(status);
  if (session->options().json) {
    PrintJson(response);
  } else {
    std::cout << render(response) << std::flush;
  }
  return kExitOk;
}

}  // namespace assent

#endif  // ASSENT_TOOLS_ASSENTCTL_SESSION_H_
