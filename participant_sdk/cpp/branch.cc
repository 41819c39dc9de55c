#include "participant_sdk/cpp/branch.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errors.h"

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

absl::StatusOr<QueryResult> Branch::Execute(absl::string_view sql, const ExecuteOptions& options) {
  if (absl::Status status = CheckUsable(); !status.ok()) return status;
  QueryResult result;
  if (stage_ == Stage::kIdle) {
    StartResult started = session_->Start(xid_, sql);
    if (!started.xa.ok()) {
      absl::Status status = StatusOf(XaVerb::kStart, started.xa.outcome, started.xa.error);
      // Nothing was started, so nothing is broken: the application may end its local transaction and try again.
      if (started.xa.outcome == XaOutcome::kOutside) return status;
      return Poison(std::move(status));
    }
    stage_ = Stage::kActive;
    result = *std::move(started.first);
  } else {
    result = session_->Query(sql);
  }
  if (result.ok()) return result;
  absl::Status status = StatusOf(result.error, "the statement failed");
  // A deadlock's victim and a lost connection are beyond any expectation: there is no branch left to go on with.
  const bool branch_goes_on = session_->branch_state() == BranchState::kActive;
  if (branch_goes_on && Contains(options.expected_errors, result.error.code)) return status;
  return Poison(std::move(status));
}

absl::Status Branch::Run(const std::function<absl::Status(st_mysql*)>& fn) {
  if (absl::Status status = CheckUsable(); !status.ok()) return status;
  if (stage_ == Stage::kIdle) {
    // An empty statement starts the branch and nothing else.
    const StartResult started = session_->Start(xid_);
    if (!started.xa.ok()) {
      absl::Status status = StatusOf(XaVerb::kStart, started.xa.outcome, started.xa.error);
      return started.xa.outcome == XaOutcome::kOutside ? status : Poison(std::move(status));
    }
    stage_ = Stage::kActive;
  }
  counts_as_written_ = true;
  absl::Status status = fn(session_->BorrowHandle());
  return status.ok() ? status : Poison(std::move(status));
}

}  // namespace assent
