#include "participant_sdk/cpp/client.h"

#include <utility>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "base/xid.h"
#include "participant_sdk/cpp/global_transaction.h"

namespace assent {

Client::Client(const std::string& addresses, const ClientOptions& options)
    : state_(std::make_shared<ClientState>(addresses, options)) {}

Client::Client(const std::vector<std::string>& addresses, const ClientOptions& options)
    : Client(absl::StrJoin(addresses, ","), options) {}

absl::StatusOr<GlobalTransaction> Client::BeginAlone(const BeginOptions& options) {
  if (options.policy != v1::DECISION_POLICY_ON_FINALIZE || options.expected_branches != 0) {
    return MakeError(
        Reason::INVALID_FIELD,
        "sole_participant goes with the default policy and expected_branches only: it is the one who decides",
        {{"field", "sole_participant"}});
  }
  // (How long it may be at most, the coordinator says when it is asked.)
  if (options.timeout != absl::ZeroDuration() &&
      (options.timeout < absl::Milliseconds(1) || options.timeout == absl::InfiniteDuration())) {
    return MakeError(Reason::INVALID_TIMEOUT, "timeout must be at least 1ms, or zero for the coordinator's default",
                     {{"timeout", absl::FormatDuration(options.timeout)}});
  }
  if (!options.gtrid.empty() && (!BirthOf(options.gtrid) || !ValidateGtrid(options.gtrid).ok())) {
    return MakeError(
        Reason::INVALID_FIELD,
        "the gtrid of a sole participant must be <cluster>-<ULID>, made now and never used; or leave it empty",
        {{"field", "gtrid"}});
  }
  absl::StatusOr<std::string> gtrid = options.gtrid.empty()
                                          ? state_->reservation.TakeGtrid(absl::Now() + state_->options.call_patience)
                                          : options.gtrid;
  if (!gtrid.ok()) return gtrid.status();
  GlobalTransaction transaction(state_, *std::move(gtrid), options.policy, /*joined=*/false);
  // Of an id that is not the coordinator's own nobody knows here whether it is new.
  transaction.BecomeSole(options.timeout, options.one_phase_commit && options.gtrid.empty());
  return transaction;
}

absl::StatusOr<GlobalTransaction> Client::Begin(const BeginOptions& options) {
  if (options.sole_participant) return BeginAlone(options);
  v1::CreateGlobalRequest request;
  request.set_gtrid(options.gtrid);
  request.set_request_id(NewRequestId());
  if (options.timeout != absl::ZeroDuration()) SetDuration(options.timeout, request.mutable_timeout());
  request.set_policy(options.policy);
  request.set_expected_branches(options.expected_branches);
  for (const std::string& resource : options.resources) request.add_branches()->set_resource(resource);
  absl::StatusOr<v1::Global> global =
      state_->connection.CreateGlobal(request, absl::Now() + state_->options.call_patience);
  if (!global.ok()) return global.status();
  GlobalTransaction transaction(state_, global->gtrid(), global->policy(), /*joined=*/false);
  transaction.created_.assign(global->branches().begin(), global->branches().end());
  return transaction;
}

absl::StatusOr<GlobalTransaction> Client::Join(const std::string& gtrid) {
  if (absl::Status status = ValidateGtrid(gtrid); !status.ok()) return status;
  return GlobalTransaction(state_, gtrid, v1::DECISION_POLICY_UNSPECIFIED, /*joined=*/true);
}

bool Client::Flush(absl::Duration patience) { return state_->reporter.Flush(absl::Now() + patience); }

}  // namespace assent
