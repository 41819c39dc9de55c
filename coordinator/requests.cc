#include "coordinator/requests.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "base/xid.h"
#include "resource_manager/session_server.h"

namespace assent {
namespace {

constexpr size_t kMaxRequestIdBytes = 36;
constexpr size_t kMaxReasonBytes = 1000;
constexpr size_t kMaxServerBytes = 255;
constexpr absl::Duration kMinTimeout = absl::Milliseconds(1);
constexpr absl::Duration kMaxLag = absl::Minutes(5);

absl::Status InvalidField(absl::string_view field, absl::string_view problem) {
  return MakeError(Reason::INVALID_FIELD, absl::StrCat(field, " ", problem), {{"field", std::string(field)}});
}

absl::Status ValidateRequestId(absl::string_view request_id) {
  if (request_id.size() <= kMaxRequestIdBytes &&
      std::all_of(request_id.begin(), request_id.end(), absl::ascii_isprint)) {
    return absl::OkStatus();
  }
  return InvalidField("request_id", "must be at most 36 printable ASCII characters");
}

absl::Status ValidateCount(int count, absl::string_view field) {
  if (count <= kMaxItemsPerCall) return absl::OkStatus();
  return MakeError(Reason::TOO_MANY_ITEMS,
                   absl::StrCat(count, " ", field, " in one call; at most ", kMaxItemsPerCall, " are accepted"),
                   {{"field", std::string(field)}, {"limit", absl::StrCat(kMaxItemsPerCall)}});
}

// Compares seconds first: an absurd value must not overflow on the way.
template <typename Message>
absl::StatusOr<absl::Duration> Timeout(const Message& message, const RequestLimits& limits) {
  if (!message.has_timeout()) return limits.default_timeout;
  const google::protobuf::Duration& asked = message.timeout();
  const absl::Duration timeout = GetDuration(asked);
  if (asked.nanos() <= -1000000000 || asked.nanos() >= 1000000000 || timeout < kMinTimeout ||
      timeout > limits.max_timeout) {
    return MakeError(Reason::INVALID_TIMEOUT,
                     absl::StrCat("timeout ", absl::FormatDuration(timeout), " is out of range; it must be 1ms to ",
                                  absl::FormatDuration(limits.max_timeout)),
                     {{"timeout", absl::FormatDuration(timeout)}, {"max", absl::FormatDuration(limits.max_timeout)}});
  }
  return timeout;
}

absl::Status ValidateSession(const v1::Session& session, absl::string_view field) {
  if (session.server().size() > kMaxServerBytes) return InvalidField(field, "has a server of more than 255 bytes");
  if (session.connection_id() < 0) return InvalidField(field, "has a negative connection_id");
  return absl::OkStatus();
}

absl::Status ValidateSpecs(const google::protobuf::RepeatedPtrField<v1::BranchSpec>& specs) {
  if (specs.size() > kMaxBranches) {
    return MakeError(Reason::TOO_MANY_BRANCHES, absl::StrCat(specs.size(), " branches; the limit is ", kMaxBranches),
                     {{"branches", absl::StrCat(specs.size())}, {"limit", absl::StrCat(kMaxBranches)}});
  }
  for (const v1::BranchSpec& spec : specs) {
    if (!spec.bqual().empty()) {
      if (absl::Status status = ValidateBqual(spec.bqual()); !status.ok()) return status;
    }
    if (absl::Status status = ValidateSession(spec.session(), "branches.session"); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// What a branch on the resource has to be like.
v1::BranchTerms TermsOf(const v1::Resource& resource) {
  v1::BranchTerms terms;
  terms.set_resource(resource.name());
  terms.set_server(resource.server());
  terms.set_timeline(resource.timeline());
  if (resource.witness() == v1::WITNESS_ENABLED) {
    terms.set_witness_table(absl::StrCat(resource.witness_schema(), ".witness"));
  }
  return terms;
}

// Adds the branch that was asked for on the terms that count now; or says why there can be none.
absl::Status AddBranch(const v1::BranchSpec& spec, ResourceRegistry* registry, Request* out) {
  NewBranch branch;
  branch.bqual = spec.bqual();
  branch.resource = spec.resource();
  branch.witness_table = spec.witness_table();
  if (spec.has_session()) branch.session = spec.session();
  absl::StatusOr<ResourcePtr> resource = registry->FindUsable(spec.resource());
  absl::Status status = resource.status();
  if (status.ok()) {
    const v1::BranchTerms terms = TermsOf(**resource);
    status = CheckServer(spec.session(), spec.resource(), terms.server(), terms.timeline());
    branch.server = terms.server();
    branch.timeline = terms.timeline();
    branch.witness_table = terms.witness_table();
    out->pinned.push_back(*std::move(resource));
  }
  out->event.branches.push_back(std::move(branch));
  return status;
}

absl::Status AddBranches(const google::protobuf::RepeatedPtrField<v1::BranchSpec>& specs, ResourceRegistry* registry,
                         Request* out) {
  if (absl::Status status = ValidateSpecs(specs); !status.ok()) return status;
  for (const v1::BranchSpec& spec : specs) {
    if (!spec.witness_table().empty()) return InvalidField("branches.witness_table", "belongs to Finalize.create only");
    if (absl::Status status = AddBranch(spec, registry, out); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// The whole transaction that a Finalize, or the report of a one-phase commit, brings with it. Only what can be refused
// by looking at the request alone is.
absl::Status AddWhole(const v1::NewGlobal& whole, const RequestLimits& limits, ResourceRegistry* registry,
                      Request* out) {
  Event* const event = &out->event;
  if (absl::Status status = ValidateSpecs(whole.branches()); !status.ok()) return status;
  const absl::StatusOr<absl::Duration> timeout = Timeout(whole, limits);
  event->problem.Update(timeout.status());
  const absl::optional<absl::Time> birth = BirthOf(event->gtrid);
  if (!birth) {
    return MakeError(Reason::INVALID_GTRID, "only a gtrid of ReserveGtrids can be created by Finalize or Completed",
                     {{"problem", "not reserved"}});
  }
  event->creates = true;
  event->policy = v1::DECISION_POLICY_ON_FINALIZE;
  event->timeout = timeout.value_or(limits.default_timeout);
  // Nothing is older than its gtrid, give or take the lag of clocks. One from the future tells nothing: a clock has
  // been set back since.
  const absl::Duration oldest = (*birth > event->now ? limits.max_timeout : event->now - *birth) + kMaxLag;
  event->age = std::min(oldest, std::max(absl::ZeroDuration(), GetDuration(whole.age())));
  event->born = *birth > event->now + kMaxLag ? absl::InfinitePast() : *birth;
  for (const v1::BranchSpec& spec : whole.branches()) {
    if (spec.bqual().empty()) return InvalidField("create.branches.bqual", "is required");
    event->problem.Update(AddBranch(spec, registry, out));
    NewBranch& added = event->branches.back();
    // Where it really ran, wherever the resource is by now.
    if (!spec.session().server().empty()) added.server = spec.session().server();
    if (added.witness_table == spec.witness_table()) continue;
    event->problem.Update(
        MakeError(Reason::RESOURCE_UNFIT,
                  absl::StrCat("the witness table of resource '", spec.resource(), "' is '", added.witness_table,
                               "' by now, and branch '", spec.bqual(), "' was run with '", spec.witness_table(), "'")));
    added.witness_table = spec.witness_table();
  }
  event->must_be_first = true;
  return absl::OkStatus();
}

absl::Status AddVotes(const google::protobuf::RepeatedPtrField<v1::Vote>& votes, Event* event) {
  if (absl::Status status = ValidateCount(votes.size(), "votes"); !status.ok()) return status;
  for (const v1::Vote& vote : votes) {
    if (absl::Status status = ValidateBqual(vote.bqual()); !status.ok()) return status;
    if (vote.kind() == v1::VOTE_KIND_UNSPECIFIED || !v1::VoteKind_IsValid(vote.kind())) {
      return InvalidField("votes.kind", "must be PREPARED, READ_ONLY or FAILED");
    }
    if (vote.kind() != v1::VOTE_KIND_FAILED && (vote.has_failure() || vote.rolled_back())) {
      return InvalidField("votes.failure", "and votes.rolled_back belong to a FAILED vote only");
    }
    if (absl::Status status = ValidateSession(vote.session(), "votes.session"); !status.ok()) return status;
    if (vote.failure().sqlstate().size() > 5) return InvalidField("votes.failure.sqlstate", "has five characters");
    event->votes.push_back(vote);
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Wait> WaitOr(v1::Wait asked, v1::Wait default_wait) {
  if (!v1::Wait_IsValid(asked)) return InvalidField("wait", "has an unknown value");
  return asked == v1::WAIT_UNSPECIFIED ? default_wait : asked;
}

Request Begin(EventKind kind, const std::string& gtrid, absl::Time now, const std::string& actor) {
  Request request;
  request.event.kind = kind;
  request.event.gtrid = gtrid;
  request.event.now = now;
  request.event.actor = actor;
  return request;
}

}  // namespace

absl::Status ValidateOwnGtrid(absl::string_view gtrid, absl::string_view cluster) {
  if (absl::Status status = ValidateGtrid(gtrid); !status.ok()) return status;
  if (HasClusterPrefix(gtrid, cluster)) return absl::OkStatus();
  return MakeError(Reason::INVALID_GTRID,
                   absl::StrCat("global transaction '", gtrid, "' is not of this cluster, '", cluster,
                                "', whose gtrids begin with '", cluster,
                                "-': how it ended is for the coordinator of its own cluster to say; ask that one"),
                   {{"gtrid", std::string(gtrid)}, {"problem", "prefix"}, {"prefix", absl::StrCat(cluster, "-")}});
}

absl::StatusOr<Request> ToRequest(const v1::CreateGlobalRequest& message, const RequestLimits& limits,
                                  ResourceRegistry* registry, absl::Time now, const std::string& actor) {
  if (!message.gtrid().empty()) {
    if (absl::Status status = ValidateGtrid(message.gtrid()); !status.ok()) return status;
    if (!HasClusterPrefix(message.gtrid(), limits.cluster)) {
      return MakeError(Reason::INVALID_GTRID,
                       absl::StrCat("a gtrid of your own must begin with '", limits.cluster,
                                    "-': the prefix is how recovery knows this cluster's branches from others'"),
                       {{"problem", "prefix"}, {"prefix", absl::StrCat(limits.cluster, "-")}});
    }
  }
  if (absl::Status status = ValidateRequestId(message.request_id()); !status.ok()) return status;
  absl::StatusOr<absl::Duration> timeout = Timeout(message, limits);
  if (!timeout.ok()) return timeout.status();
  if (!v1::DecisionPolicy_IsValid(message.policy())) return InvalidField("policy", "has an unknown value");
  if (message.expected_branches() < 0 || message.expected_branches() > kMaxBranches) {
    return InvalidField("expected_branches", absl::StrCat("must be 0 to ", kMaxBranches));
  }
  const bool when_all_prepared = message.policy() == v1::DECISION_POLICY_WHEN_ALL_PREPARED;
  if (when_all_prepared && message.expected_branches() == 0) {
    return InvalidField("expected_branches", "is required with DECISION_POLICY_WHEN_ALL_PREPARED");
  }
  Request request =
      Begin(EventKind::kCreate, message.gtrid().empty() ? NewGtrid(limits.cluster, now) : message.gtrid(), now, actor);
  request.event.request_id = message.request_id();
  request.event.brings_gtrid = !message.gtrid().empty();
  request.event.timeout = *timeout;
  request.event.policy = when_all_prepared ? message.policy() : v1::DECISION_POLICY_ON_FINALIZE;
  request.event.expected_branches = message.expected_branches();
  if (absl::Status status = AddBranches(message.branches(), registry, &request); !status.ok()) return status;
  return request;
}

absl::StatusOr<Request> ToRequest(const v1::CreateBranchesRequest& message, const RequestLimits& limits,
                                  ResourceRegistry* registry, absl::Time now, const std::string& actor) {
  if (absl::Status status = ValidateOwnGtrid(message.gtrid(), limits.cluster); !status.ok()) return status;
  if (absl::Status status = ValidateRequestId(message.request_id()); !status.ok()) return status;
  if (message.branches().empty()) return InvalidField("branches", "is empty");
  Request request = Begin(EventKind::kAddBranches, message.gtrid(), now, actor);
  request.event.request_id = message.request_id();
  if (absl::Status status = AddBranches(message.branches(), registry, &request); !status.ok()) return status;
  const bool chosen_by_us = std::any_of(request.event.branches.begin(), request.event.branches.end(),
                                        [](const NewBranch& branch) { return branch.bqual.empty(); });
  if (chosen_by_us && request.event.request_id.empty()) request.event.request_id = NewRequestId();
  return request;
}

absl::StatusOr<Request> ToRequest(const v1::PreparedRequest& message, const RequestLimits& limits, absl::Time now,
                                  const std::string& actor) {
  if (absl::Status status = ValidateOwnGtrid(message.gtrid(), limits.cluster); !status.ok()) return status;
  Request request = Begin(EventKind::kVote, message.gtrid(), now, actor);
  if (absl::Status status = AddVotes(message.votes(), &request.event); !status.ok()) return status;
  absl::StatusOr<v1::Wait> wait = WaitOr(message.wait(), v1::WAIT_DECIDED);
  if (!wait.ok()) return wait.status();
  request.wait = *wait;
  return request;
}

absl::StatusOr<Request> ToRequest(const v1::FinalizeRequest& message, const RequestLimits& limits,
                                  ResourceRegistry* registry, absl::Time now, const std::string& actor) {
  if (absl::Status status = ValidateOwnGtrid(message.gtrid(), limits.cluster); !status.ok()) return status;
  if (message.decision() != v1::DECISION_COMMIT && message.decision() != v1::DECISION_ROLLBACK) {
    return InvalidField("decision", "must be COMMIT or ROLLBACK");
  }
  if (message.reason().size() > kMaxReasonBytes) return InvalidField("reason", "is longer than 1,000 bytes");
  Request request = Begin(EventKind::kFinalize, message.gtrid(), now, actor);
  if (absl::Status status = AddVotes(message.votes(), &request.event); !status.ok()) return status;
  absl::StatusOr<v1::Wait> wait = WaitOr(message.wait(), v1::WAIT_APPLIED);
  if (!wait.ok()) return wait.status();
  request.wait = *wait;
  request.event.decision = message.decision();
  request.event.reason = message.reason();
  if (message.has_create()) {
    if (absl::Status status = AddWhole(message.create(), limits, registry, &request); !status.ok()) return status;
  }
  return request;
}

absl::StatusOr<Request> ToRequest(const v1::Completion& message, const RequestLimits& limits,
                                  ResourceRegistry* registry, absl::Time now, const std::string& actor) {
  if (absl::Status status = ValidateOwnGtrid(message.gtrid(), limits.cluster); !status.ok()) return status;
  if (absl::Status status = ValidateBqual(message.bqual()); !status.ok()) return status;
  if (message.result() == v1::Completion::RESULT_UNSPECIFIED || !v1::Completion::Result_IsValid(message.result())) {
    return InvalidField("completions.result", "must be COMMITTED or ROLLED_BACK, or UNKNOWN with `create`");
  }
  Request request = Begin(EventKind::kComplete, message.gtrid(), now, actor);
  request.event.bqual = message.bqual();
  request.event.result = message.result();
  if (message.result() ==
      (message.has_create() ? v1::Completion::RESULT_ROLLED_BACK : v1::Completion::RESULT_UNKNOWN)) {
    return InvalidField("completions.create", "goes with COMMITTED and UNKNOWN, and UNKNOWN needs it");
  }
  if (message.has_create()) {
    if (message.bqual().size() >= kMaxIdBytes) {
      return MakeError(Reason::INVALID_BQUAL,
                       "the bqual of a branch that is committed in one phase has at most 63 bytes",
                       {{"bqual", message.bqual()}});
    }
    if (absl::Status status = AddWhole(message.create(), limits, registry, &request); !status.ok()) return status;
    // What is proven may always be put down.
    if (message.result() == v1::Completion::RESULT_COMMITTED) request.event.must_be_first = false;
  }
  return request;
}

absl::StatusOr<Request> ToRequest(const v1::ResolveBranchRequest& message, const RequestLimits& limits, absl::Time now,
                                  const std::string& actor) {
  if (absl::Status status = ValidateOwnGtrid(message.gtrid(), limits.cluster); !status.ok()) return status;
  if (absl::Status status = ValidateBqual(message.bqual()); !status.ok()) return status;
  if (message.resolution() == v1::RESOLUTION_UNSPECIFIED || !v1::Resolution_IsValid(message.resolution())) {
    return InvalidField("resolution", "must be COMMITTED, ROLLED_BACK or ACKNOWLEDGED");
  }
  if (message.reason().empty() || message.reason().size() > kMaxReasonBytes) {
    return InvalidField("reason", "must say in 1 to 1,000 bytes why, and on what grounds");
  }
  if (message.etag().empty()) return InvalidField("etag", "is required: GetGlobal answers it with what you looked at");
  Request request = Begin(EventKind::kResolve, message.gtrid(), now, actor);
  request.event.bqual = message.bqual();
  request.event.resolution = message.resolution();
  request.event.reason = message.reason();
  request.event.etag = message.etag();
  return request;
}

absl::Time Births::Next(absl::Time now, absl::Time horizon) {
  MutexLock lock(&mutex_);
  first_ = std::min(first_, horizon);
  const bool moves = horizon > first_ || horizon > now;
  const absl::Duration needed = horizon + (moves ? kBirthMargin : absl::ZeroDuration()) - now;
  ahead_ = needed > absl::ZeroDuration() ? std::max(ahead_, needed) : absl::ZeroDuration();
  return now + ahead_;
}

absl::StatusOr<v1::ReserveGtridsResponse> Reserve(const v1::ReserveGtridsRequest& message, const RequestLimits& limits,
                                                  ResourceRegistry* registry, absl::Time birth) {
  if (absl::Status status = ValidateCount(message.resources_size(), "resources"); !status.ok()) return status;
  v1::ReserveGtridsResponse response;
  for (const std::string& name : message.resources()) {
    absl::StatusOr<ResourcePtr> resource = registry->FindUsable(name);
    if (!resource.ok()) return resource.status();
    *response.add_terms() = TermsOf(**resource);
  }
  response.set_prefix(NewGtridBlock(limits.cluster, birth));
  response.set_count(kGtridBlockSize);
  SetDuration(kReservationLifetime, response.mutable_lifetime());
  return response;
}

absl::StatusOr<int> PageSize(int asked) {
  if (asked < 0) return MakeError(Reason::INVALID_PAGE_SIZE, "page_size must not be negative");
  return asked == 0 ? 100 : std::min(asked, 1000);
}

}  // namespace assent
