#include "participant_sdk/cpp/branch.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/fault_point.h"
#include "base/timestamp.h"

namespace assent {
namespace {

template <typename T>
bool Contains(const std::vector<T>& all, const T& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

}  // namespace

Branch::Branch(Xid xid, std::string resource, absl::optional<WitnessTable> witness, BranchSession* session)
    : xid_(std::move(xid)), resource_(std::move(resource)), witness_(std::move(witness)), session_(session) {}

absl::Status Branch::CheckUsable() const {
  if (stage_ != Stage::kIdle && stage_ != Stage::kActive) {
    return MakeError(
        Reason::BRANCH_ENDED,
        absl::StrCat("branch '", xid_.bqual, "' of '", xid_.gtrid, "' has ended; begin a new global transaction"),
        {{"gtrid", xid_.gtrid}, {"bqual", xid_.bqual}});
  }
  if (!poison_.ok()) {
    std::map<std::string, std::string> metadata = {{"gtrid", xid_.gtrid}, {"bqual", xid_.bqual}};
    metadata.merge(MetadataOf(poison_));
    return MakeError(Reason::BRANCH_POISONED,
                     absl::StrCat("branch '", xid_.bqual, "' cannot commit any more after: ", poison_.message(),
                                  "; roll the global transaction back and begin a new one"),
                     metadata);
  }
  return absl::OkStatus();
}

absl::Status Branch::Poison(absl::Status why) {
  poison_ = why;
  return why;
}

absl::StatusOr<QueryResult> Branch::Start(absl::string_view first_sql) {
  ASSENT_FAULT_POINT(kSdkStartBefore);
  StartResult started = session_->Start(xid_, first_sql);
  if (started.xa.ok()) {
    ASSENT_FAULT_POINT(kSdkStartOk);
    stage_ = Stage::kActive;
    unstarted_ = absl::OkStatus();
    return started.first ? *std::move(started.first) : QueryResult();
  }
  absl::Status status = StatusOf(XaVerb::kStart, started.xa.outcome, started.xa.error);
  if (started.xa.outcome != XaOutcome::kOutside) return Poison(std::move(status));
  // Nothing was started, so nothing is broken: the application may end its local transaction and try again.
  unstarted_ = status;
  return status;
}

absl::StatusOr<QueryResult> Branch::Execute(absl::string_view sql, const ExecuteOptions& options) {
  if (absl::Status status = CheckUsable(); !status.ok()) return status;
  const bool ready_for_errors = !options.expected_errors.empty() || !options.expected_sqlstates.empty();
  if (stage_ == Stage::kIdle && ready_for_errors) {
    // What undoes the statement alone must be inside the branch.
    if (absl::Status status = Start({}).status(); !status.ok()) return status;
  }
  absl::StatusOr<QueryResult> result = stage_ == Stage::kIdle ? Start(sql) : session_->Query(sql, ready_for_errors);
  if (!result.ok() || result->ok()) return result;
  absl::Status status = StatusOf(result->error, "the statement failed");
  // A deadlock's victim and a lost connection are beyond any expectation: there is no branch left to go on with.
  const bool branch_goes_on = session_->branch_state() == BranchState::kActive;
  const bool expected = Contains(options.expected_errors, result->error.code) ||
                        Contains(options.expected_sqlstates, result->error.sqlstate);
  return branch_goes_on && expected ? status : Poison(std::move(status));
}

template <typename Handle>
absl::Status Branch::RunWith(Handle* (BranchSession::*borrow)(), const std::function<absl::Status(Handle*)>& fn) {
  if (absl::Status status = CheckUsable(); !status.ok()) return status;
  if (stage_ == Stage::kIdle) {
    if ((session_->*borrow)() == nullptr) {
      unstarted_ =
          MakeError(Reason::INVALID_FIELD, "the session has no such handle: it is another engine's, or it is lost",
                    {{"field", "fn"}});
      return unstarted_;
    }
    if (absl::Status status = Start({}).status(); !status.ok()) return status;
  }
  counts_as_written_ = true;
  Handle* const handle = (session_->*borrow)();
  if (handle == nullptr) {
    const Reason reason = session_->was_reset() ? Reason::SESSION_RESET : Reason::DATABASE_UNREACHABLE;
    return Poison(MakeError(reason, "the connection was lost or taken away from the branch"));
  }
  absl::Status status = fn(handle);
  return status.ok() ? status : Poison(std::move(status));
}

absl::Status Branch::Run(const std::function<absl::Status(st_mysql*)>& fn) {
  return RunWith(&BranchSession::BorrowHandle, fn);
}

absl::Status Branch::Run(const std::function<absl::Status(pg_conn*)>& fn) {
  return RunWith(&BranchSession::BorrowPgHandle, fn);
}

}  // namespace assent
