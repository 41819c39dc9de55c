#include "participant_sdk/cpp/coordinator_connection.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <random>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/address.h"
#include "base/errors.h"
#include "base/grpc_status.h"

namespace assent {
namespace {

// One attempt of a call; a waiting call answers well before it (the server's limit for one wait is 60 s).
constexpr absl::Duration kAttempt = absl::Seconds(20);
// The same if there is somebody else to ask: an instance that hangs is left after so long.
constexpr absl::Duration kAttemptOfSeveral = absl::Seconds(2);
// After the last attempt, to learn why nobody answers.
constexpr absl::Duration kLastLook = absl::Milliseconds(100);
// A waiting call answers that long before its deadline.
constexpr absl::Duration kWorthAsking = absl::Milliseconds(60);
constexpr absl::Duration kFirstPause = absl::Milliseconds(10);
constexpr absl::Duration kMaxPause = absl::Seconds(1);

// Full jitter: between half the pause and all of it, so that callers do not come back together.
absl::Duration Jitter(absl::Duration pause) {
  thread_local std::minstd_rand random{std::random_device{}()};
  return pause * std::uniform_real_distribution<double>(0.5, 1.0)(random);
}

bool MayRepeat(const absl::Status& status) {
  // An attempt that ran out of time, or that the transport cut off, says nothing about the call.
  return IsRetryable(status) || absl::IsDeadlineExceeded(status) || absl::IsCancelled(status);
}

// Without blanks and doubles; what is left of nothing is an address that is none.
std::vector<std::string> Distinct(absl::string_view addresses) {
  std::vector<std::string> distinct;
  for (const absl::string_view part : absl::StrSplit(addresses, ',')) {
    std::string address(absl::StripAsciiWhitespace(part));
    const bool known = std::find(distinct.begin(), distinct.end(), address) != distinct.end();
    if (!address.empty() && !known) distinct.push_back(std::move(address));
  }
  if (distinct.empty()) distinct.emplace_back();
  return distinct;
}

bool IsAddress(const std::string& address) {
  if (absl::StartsWith(address, "unix:")) return true;
  const size_t scheme = address.find("://");
  if (scheme == std::string::npos) return ParseAddress(address).ok();
  static const auto* const kSchemes = new std::set<std::string>{"dns", "ipv4", "ipv6", "passthrough", "xds"};
  return kSchemes->count(address.substr(0, scheme)) != 0;
}

// This instance does not answer, or has nothing to answer with: another one may.
bool IsAway(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) || absl::IsCancelled(status);
}

// Between a call and its place on the stream.
#define ASSENT_STREAM_CALL(Name, field)                                                                    \
  void Put(const v1::Name##Request& request, v1::StreamCall* call) { *call->mutable_##field() = request; } \
  bool Take(v1::StreamAnswer* answer, v1::Name##Response* response) {                                      \
    if (answer->has_##field()) response->Swap(answer->mutable_##field());                                  \
    return answer->has_##field();                                                                          \
  }
ASSENT_STREAM_CALL(CreateGlobal, create_global)
ASSENT_STREAM_CALL(CreateBranches, create_branches)
ASSENT_STREAM_CALL(Prepared, prepared)
ASSENT_STREAM_CALL(Finalize, finalize)
ASSENT_STREAM_CALL(Completed, completed)
ASSENT_STREAM_CALL(ReserveGtrids, reserve_gtrids)
#undef ASSENT_STREAM_CALL

bool IsWaitOver(v1::Wait wait, const v1::GlobalStatus& status) {
  switch (wait) {
    case v1::WAIT_NONE: return true;
    case v1::WAIT_APPLIED:
      return status.outcome() == v1::OUTCOME_COMMITTED || status.outcome() == v1::OUTCOME_ROLLED_BACK ||
             status.state() == v1::Global::STATE_HEURISTIC || status.state() == v1::Global::STATE_HEURISTIC_CLOSED;
    default: return status.decision() != v1::DECISION_UNSPECIFIED;
  }
}

}  // namespace

struct CoordinatorConnection::Instance {
  std::string address;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::CoordinatorService::Stub> stub;
  std::unique_ptr<CallStream> stream;
  std::atomic<bool> has_stream{true};  // False: it was not offered, so calls go one by one.
};

absl::Status CheckCoordinatorAddresses(absl::string_view addresses) {
  const std::vector<std::string> distinct = Distinct(addresses);
  const auto bad = std::find_if_not(distinct.begin(), distinct.end(), IsAddress);
  if (bad == distinct.end()) return absl::OkStatus();
  return MakeError(Reason::INVALID_FIELD,
                   absl::StrCat("'", *bad,
                                "' cannot be the address of a coordinator, which is host:port (a port of 1 to "
                                "65535), [ipv6]:port, unix:PATH, or a target of gRPC's like dns:///host:port"),
                   {{"field", "addresses"}});
}

CoordinatorConnection::CoordinatorConnection(const std::string& addresses, const ClientOptions& options)
    : usable_(CheckCoordinatorAddresses(addresses)) {
  grpc::ChannelArguments arguments;
  // A restarting coordinator is away for a second: look for it often. MIN_RECONNECT_BACKOFF is how long an attempt may
  // take, and how long the next one waits at least: too little of it and a busy machine never gets a connection.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 250);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);  // The loop below is the one that repeats.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // A connection that something in between has forgotten without a word is noticed, and made anew. No measuring of
  // bandwidth: while such a ping is out that look would not be taken. Between calls nobody reads but gRPC's timer of
  // five seconds: an answer that has come is seen that much later, and must not be missed for it.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 15000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_MIN_SENT_PING_INTERVAL_WITHOUT_DATA_MS, 15000);
  const auto credentials = options.credentials ? options.credentials : grpc::InsecureChannelCredentials();
  for (const std::string& address : Distinct(addresses)) {
    auto instance = std::make_unique<Instance>();
    instance->address = address;
    instance->channel = grpc::CreateCustomChannel(address, credentials, arguments);
    instance->stub = v1::CoordinatorService::NewStub(instance->channel);
    instances_.push_back(std::move(instance));
  }
  for (const auto& instance : instances_) {
    // Waiting not only saves repetitions: gRPC brings a connection up while a call waits for it. Between calls that
    // fail at once nobody drives it but a timer of five seconds. But only a call that does not wait can go elsewhere.
    instance->stream = std::make_unique<CallStream>(instance->stub.get(), /*wait_for_ready=*/IsAlone());
    instance->has_stream = options.call_stream;
  }
  current_ = std::random_device()() % instances_.size();
}

CoordinatorConnection::~CoordinatorConnection() = default;

const std::string& CoordinatorConnection::current_address() const { return instances_[current_]->address; }

std::string CoordinatorConnection::AllAddresses() const {
  return absl::StrJoin(instances_, ",", [](std::string* out, const auto& one) { out->append(one->address); });
}

void CoordinatorConnection::LeaveInstance(size_t instance) {
  current_.compare_exchange_strong(instance, (instance + 1) % instances_.size());
}

void CoordinatorConnection::Pause(Instance* next, absl::Duration pause) {
  const absl::Time wake = absl::Now() + pause;
  if (instances_.size() > 1) {
    // gRPC brings a connection up only while somebody waits for it, or every five seconds.
    grpc_connectivity_state state = next->channel->GetState(/*try_to_connect=*/true);
    while (state != GRPC_CHANNEL_READY && next->channel->WaitForStateChange(state, absl::ToChronoTime(wake))) {
      state = next->channel->GetState(/*try_to_connect=*/true);
      if (state == GRPC_CHANNEL_READY) return;
    }
  }
  absl::SleepFor(wake - absl::Now());
}

template <typename Request, typename Response>
absl::Status CoordinatorConnection::Attempt(Instance* instance, Method<Request, Response> method,
                                            const Request& request, absl::Time deadline, bool wait_for_ready,
                                            Response* response) {
  ++attempts_;
  if (instance->has_stream && wait_for_ready == IsAlone() && request.ByteSizeLong() < CallStream::kMaxCallBytes) {
    auto call = std::make_unique<v1::StreamCall>();
    Put(request, call.get());
    absl::StatusOr<v1::StreamAnswer> answer = instance->stream->Call(std::move(call), deadline);
    if (answer.ok()) {
      if (answer->has_error()) return FromRpcStatus(answer->error());
      if (Take(&*answer, response)) return absl::OkStatus();
      return absl::InternalError("the coordinator answered another call than was made");
    }
    if (!absl::IsUnimplemented(answer.status())) return answer.status();
    instance->has_stream = false;
  }
  grpc::ClientContext context;
  context.set_wait_for_ready(wait_for_ready);
  context.set_deadline(absl::ToChronoTime(deadline));
  return FromGrpcStatus((instance->stub.get()->*method)(&context, request, response));
}

template <typename Request, typename Response>
absl::StatusOr<Response> CoordinatorConnection::Call(Method<Request, Response> method, const Request& request,
                                                     absl::Time give_up) {
  if (!usable_.ok()) return usable_;
  const bool alone = IsAlone();
  const int64_t count = static_cast<int64_t>(instances_.size());
  absl::Duration pause = kFirstPause;
  bool last_look = false;
  for (int64_t attempt = 1;; ++attempt) {
    const size_t current = current_;
    const absl::Time now = absl::Now();
    const absl::Duration most = alone ? kAttempt : kAttemptOfSeveral;
    const absl::Time deadline = last_look ? now + kLastLook : std::min(give_up, now + most);
    Response response;
    // Only a call that does not wait is told why there is no connection.
    const absl::Status status =
        Attempt(instances_[current].get(), method, request, deadline, alone && !last_look, &response);
    if (status.ok()) return response;
    if (!MayRepeat(status)) return status;
    if (IsAway(status)) LeaveInstance(current);
    // The others are asked at once.
    const absl::Duration wait = attempt < count ? absl::ZeroDuration() : Jitter(pause);
    if (absl::Now() + wait >= give_up) {
      if (alone && absl::IsDeadlineExceeded(status) && !last_look) {
        last_look = true;
        continue;
      }
      return MakeError(Reason::COORDINATOR_UNREACHABLE,
                       absl::StrCat("the coordinator at ", AllAddresses(), " does not answer: ", status.message(),
                                    "; whether the call had its effect is not known"),
                       {{"address", AllAddresses()}, {"last_error", std::string(status.message())}});
    }
    if (wait == absl::ZeroDuration()) continue;
    Pause(instances_[current_].get(), wait);
    pause = std::min(pause * 2, kMaxPause / count);
  }
}

template <typename Request, typename Response>
absl::StatusOr<v1::GlobalStatus> CoordinatorConnection::CallAndWait(Method<Request, Response> method,
                                                                    const Request& request, absl::Time give_up) {
  for (;;) {
    absl::StatusOr<Response> response = Call(method, request, give_up);
    if (!response.ok()) return response.status();
    // A call that has so little time left would learn no more than this one.
    if (IsWaitOver(request.wait(), response->status()) || absl::Now() + kWorthAsking >= give_up) {
      return response->status();
    }
  }
}

absl::StatusOr<v1::Global> CoordinatorConnection::CreateGlobal(const v1::CreateGlobalRequest& request,
                                                               absl::Time give_up) {
  absl::StatusOr<v1::CreateGlobalResponse> response =
      Call(&v1::CoordinatorService::Stub::CreateGlobal, request, give_up);
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_global());
}

absl::StatusOr<v1::CreateBranchesResponse> CoordinatorConnection::CreateBranches(
    const v1::CreateBranchesRequest& request, absl::Time give_up) {
  return Call(&v1::CoordinatorService::Stub::CreateBranches, request, give_up);
}

absl::StatusOr<v1::GlobalStatus> CoordinatorConnection::Prepared(const v1::PreparedRequest& request,
                                                                 absl::Time give_up) {
  return CallAndWait(&v1::CoordinatorService::Stub::Prepared, request, give_up);
}

absl::StatusOr<v1::GlobalStatus> CoordinatorConnection::Finalize(const v1::FinalizeRequest& request,
                                                                 absl::Time give_up) {
  return CallAndWait(&v1::CoordinatorService::Stub::Finalize, request, give_up);
}

absl::StatusOr<v1::ReserveGtridsResponse> CoordinatorConnection::ReserveGtrids(const v1::ReserveGtridsRequest& request,
                                                                               absl::Time give_up) {
  return Call(&v1::CoordinatorService::Stub::ReserveGtrids, request, give_up);
}

absl::StatusOr<v1::CompletedResponse> CoordinatorConnection::Completed(const v1::CompletedRequest& request,
                                                                       absl::Time give_up) {
  const size_t asked = current_;
  absl::StatusOr<v1::CompletedResponse> response = Call(&v1::CoordinatorService::Stub::Completed, request, give_up);
  // An instance that has lost its store says so of each.
  if (response.ok() && response->results_size() > 0 && response->results(0).has_error() &&
      IsAway(FromRpcStatus(response->results(0).error()))) {
    LeaveInstance(asked);
  }
  return response;
}

}  // namespace assent
