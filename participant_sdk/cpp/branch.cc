#include "participant_sdk/cpp/branch.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/fault_point.h"
#include "base/timestamp.h"

namespace assent {
namespace {

bool Contains(const std::vector<int>& codes, int code) {
  return std::find(codes.begin(), codes.end(), code) != codes.end();
}

}  // namespace

Branch::Branch(Xid xid, std::string resource, absl::optional<WitnessTable> witness, MariaDbSession* session)
    : xid_(std::move(xid)), resource_(std::move(resource)), witness_(std::move(witness)), session_(session) {}

absl::Status Branch::CheckUsable() const {
  if (stage_ != Stage::kIdle && stage_ != Stage::kActive) {
    return MakeError(
        Reason::BRANCH_ENDED,
        absl::StrCat("branch '", xid_.bqual, "' of '", xid_.gtrid, "' has ended; begin a new global transaction"),
        {{"gtrid", xid_.gtrid}, {"bqual", xid_.bqual}});
  }
  if (!poison_.ok()) {
    return MakeError(Reason::BRANCH_POISONED,
                     absl::StrCat("branch '", xid_.bqual, "' cannot commit any more after: ", poison_.message(),
                                  "; roll the global transaction back and begin a new one"),
                     {{"gtrid", xid_.gtrid}, {"bqual", xid_.bqual}});
  }
  return absl::OkStatus();
}

absl::Status Branch::Poison(absl::Status why) {
  poison_ = why;
  return why;
}

v1::Session Branch::Describe(const MariaDbSession& session) {
  v1::Session described;
  if (!session.server()) return described;  // A connection id means nothing without its server.
  described.set_server(session.server()->host_and_port);
  described.set_connection_id(static_cast<int64_t>(session.connection_id()));
  SetTime(session.server()->start_time, described.mutable_server_start_time());
  return described;
}

absl::StatusOr<QueryResult> Branch::Start(absl::string_view first_sql) {
  ASSENT_FAULT_POINT(kSdkStartBefore);
  StartResult started = session_->Start(xid_, first_sql);
  if (started.xa.ok()) {
    ASSENT_FAULT_POINT(kSdkStartOk);
    stage_ = Stage::kActive;
    return started.first ? *std::move(started.first) : QueryResult();
  }
  absl::Status status = StatusOf(XaVerb::kStart, started.xa.outcome, started.xa.error);
  // Nothing was started, so nothing is broken: the application may end its local transaction and try again.
  return started.xa.outcome == XaOutcome::kOutside ? status : Poison(std::move(status));
}

absl::StatusOr<QueryResult> Branch::Execute(absl::string_view sql, const ExecuteOptions& options) {
  if (absl::Status status = CheckUsable(); !status.ok()) return status;
  absl::StatusOr<QueryResult> result = stage_ == Stage::kIdle ? Start(sql) : session_->Query(sql);
  if (!result.ok() || result->ok()) return result;
  absl::Status status = StatusOf(result->error, "the statement failed");
  // A deadlock's victim and a lost connection are beyond any expectation: there is no branch left to go on with.
  const bool branch_goes_on = session_->branch_state() == BranchState::kActive;
  if (branch_goes_on && Contains(options.expected_errors, result->error.code)) return status;
  return Poison(std::move(status));
}

absl::Status Branch::Run(const std::function<absl::Status(st_mysql*)>& fn) {
  if (absl::Status status = CheckUsable(); !status.ok()) return status;
  if (stage_ == Stage::kIdle) {
    if (absl::Status status = Start({}).status(); !status.ok()) return status;
  }
  counts_as_written_ = true;
  absl::Status status = fn(session_->BorrowHandle());
  return status.ok() ? status : Poison(std::move(status));
}

}  // namespace assent
