// The XA verbs of a MariaDbSession: what is sent, and what an answer means for the branch.
#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "resource_manager/mariadb_session.h"

namespace assent {
namespace {

using Step = XaResult::Step;

constexpr int kErLockDeadlock = 1213;

// The statement of one step of a batch that is the same on every session.
std::string SqlOf(Step step, XaVerb verb, const std::string& literal) {
  switch (step) {
    case Step::kStart: return absl::StrCat("XA START ", literal);
    case Step::kEnd: return absl::StrCat("XA END ", literal);
    case Step::kPrepare: return absl::StrCat("XA PREPARE ", literal);
    case Step::kCommit: return absl::StrCat("XA COMMIT ", literal, verb == XaVerb::kCommitOnePhase ? " ONE PHASE" : "");
    case Step::kRollback: return absl::StrCat("XA ROLLBACK ", literal);
    case Step::kNone:
    case Step::kGuard:
    case Step::kWitness:
    case Step::kRefused: break;
  }
  LOG(FATAL) << "not a step: " << ToString(step);
  return "";
}

XaVerb VerbOf(Step step, XaVerb verb) {
  switch (step) {
    case Step::kStart: return XaVerb::kStart;
    case Step::kEnd: return XaVerb::kEnd;
    case Step::kPrepare: return XaVerb::kPrepare;
    // Whatever stopped there (KILL QUERY), the verb behind it did not run: the branch may be asked again to finish, and
    // is not rolled back by a PREPARE that was not reached.
    case Step::kGuard: return verb == XaVerb::kCommit || verb == XaVerb::kRollback ? verb : XaVerb::kEnd;
    default: return verb;
  }
}

DbError CheckXid(const Xid& xid) {
  for (const absl::Status& status : {ValidateGtrid(xid.gtrid), ValidateBqual(xid.bqual)}) {
    if (!status.ok()) return DbError{0, "", std::string(status.message())};
  }
  return DbError{};
}

}  // namespace

void MariaDbSession::SendStart(const Xid& xid, absl::string_view first_sql) {
  due_xid_ = xid;
  with_first_ = !first_sql.empty();
  const DbError refusal = CheckXid(xid);
  if (!refusal.ok()) return Refuse(Due::kStart, refusal);
  NoticeReset();
  std::string sql = absl::StrCat("XA START ", XidSqlLiteral(xid), with_first_ ? ";" : "", first_sql);
  due_before_first_ = 1;
  // If there is a branch already, START must fail, and that branch keep what is known of it, and its mark.
  if ((branch_state_ == BranchState::kNone || is_detached()) && !lost()) {
    // A report on the new branch may come with the very answer to XA START.
    written_ = reported_clean_ = reported_unsafe_ = borrowed_ = false;
    guard_.Arm(connection_->handle());
    sql = absl::StrCat(guard_.MarkSql(), ";", sql);
    ++due_before_first_;
  }
  Send(Due::kStart, sql);
}

StartResult MariaDbSession::ReceiveStart() {
  const bool refused = refusal_.has_value();
  QueryResult batch = ReceiveBatch(Due::kStart);
  StartResult result;
  if (batch.results.size() < due_before_first_) {
    result.xa.outcome = refused ? XaOutcome::kInvalid : OutcomeOf(XaVerb::kStart, batch.error.code);
    result.xa.failed_step = refused ? Step::kRefused : Step::kStart;
    result.xa.error = std::move(batch.error);
    result.xa.branch = branch_state_;
    return result;
  }
  branch_xid_ = due_xid_;
  branch_state_ = lost() ? BranchState::kUnknown : BranchState::kActive;
  if (with_first_) {
    if (batch.error.code == kErLockDeadlock) branch_state_ = BranchState::kRollbackOnly;
    batch.results.erase(batch.results.begin(), batch.results.begin() + due_before_first_);
    result.first = std::move(batch);
  }
  result.xa.branch = branch_state_;
  return result;
}

std::string MariaDbSession::CheckSql(XaVerb verb) const {
  // The application may have changed it since the last look.
  if (verb == XaVerb::kPrepare && knows_detach_) return guard_.CheckSql("@@session.xa_detach_on_prepare");
  return guard_.CheckSql();
}

std::string MariaDbSession::WitnessSql(const WitnessTable& witness, const Xid& xid) const {
  const Xid id = WitnessOf(xid, due_verb_ == XaVerb::kCommitOnePhase);
  return due_steps_[0] == Step::kGuard
             ? witness.InsertSql(id)
             : witness.InsertSql(id, [this](absl::string_view value) { return guard_.Checked(value); });
}

void MariaDbSession::SendXa(XaVerb verb, const Xid& xid, const WitnessTable* witness, std::vector<Step> steps) {
  due_verb_ = verb;
  due_xid_ = xid;
  due_steps_ = std::move(steps);
  refusal_outcome_ = XaOutcome::kInvalid;
  // The witness asks as well; but not what PREPARE will do.
  const bool asks = due_steps_[0] == Step::kWitness && !knows_detach_;
  // A branch that PREPARE has let go of is as good on any session.
  if (IsOwn(xid) && !is_detached() && !asks) due_steps_.insert(due_steps_.begin(), Step::kGuard);
  NoticeReset();
  DbError refusal = CheckXid(xid);
  if (refusal.ok() && verb == XaVerb::kCommitOnePhase && xid.bqual.size() >= kMaxIdBytes) {
    refusal = DbError{0, "", "the bqual of a branch that is committed in one phase has at most 63 bytes"};
  }
  if (!refusal.ok()) return Refuse(Due::kXa, refusal);
  if (witness != nullptr && !(IsOwn(xid) && branch_state_ == BranchState::kActive && connection_->InTransaction())) {
    // Outside of its branch the witness would be committed at once: evidence of a commit that never was.
    if (lost()) return Send(Due::kXa, "");
    refusal_outcome_ = XaOutcome::kWrongState;
    const BranchState state = IsOwn(xid) ? branch_state_ : BranchState::kNone;
    return Refuse(Due::kXa,
                  DbError{0, "",
                          state == BranchState::kActive
                              ? "the database has ended the branch's transaction, and rolled it back (a deadlock, of "
                                "which a handler in a procedure has kept the error to itself)"
                              : absl::StrCat("the branch is not active on this session but ", ToString(state))});
  }
  const std::string literal = XidSqlLiteral(xid);
  std::string sql;
  for (const Step step : due_steps_) {
    absl::StrAppend(&sql, sql.empty() ? "" : ";",
                    step == Step::kGuard     ? CheckSql(verb)
                    : step == Step::kWitness ? WitnessSql(*witness, xid)
                                             : SqlOf(step, verb, literal));
  }
  // A PREPARE that is written to a connection that the server has closed gets no answer, and nobody could know whether
  // it arrived. Looking first makes most of these cases certain.
  if ((verb == XaVerb::kPrepare || verb == XaVerb::kCommitOnePhase) && !lost() && connection_->PeerHasClosed()) {
    connection_->MarkLost();
  }
  prepare_sent_ = verb == XaVerb::kPrepare && !lost();
  Send(Due::kXa, sql);
}

void MariaDbSession::SendEnd(const Xid& xid) { SendXa(XaVerb::kEnd, xid, nullptr, {Step::kEnd}); }

void MariaDbSession::SendPrepare(const Xid& xid, const WitnessTable* witness) {
  std::vector<Step> steps;
  if (witness != nullptr) steps.push_back(Step::kWitness);
  if (branch_state_ == BranchState::kActive) steps.push_back(Step::kEnd);
  steps.push_back(Step::kPrepare);
  SendXa(XaVerb::kPrepare, xid, witness, std::move(steps));
}

void MariaDbSession::SendCommitOnePhase(const Xid& xid, const WitnessTable* witness) {
  std::vector<Step> steps;
  if (witness != nullptr) steps.push_back(Step::kWitness);
  if (branch_state_ == BranchState::kActive) steps.push_back(Step::kEnd);
  steps.push_back(Step::kCommit);
  SendXa(XaVerb::kCommitOnePhase, xid, witness, std::move(steps));
}

void MariaDbSession::SendCommit(const Xid& xid) { SendXa(XaVerb::kCommit, xid, nullptr, {Step::kCommit}); }

void MariaDbSession::SendRollback(const Xid& xid) {
  if (IsOwn(xid) && branch_state_ == BranchState::kActive) {
    SendXa(XaVerb::kRollback, xid, nullptr, {Step::kEnd, Step::kRollback});
  } else {
    SendXa(XaVerb::kRollback, xid, nullptr, {Step::kRollback});
  }
}

XaResult MariaDbSession::Receive() {
  XaResult result = ReceiveXa();
  if (due_verb_ == XaVerb::kRollback && result.failed_step == Step::kEnd && !lost()) {
    // The database had ended the branch already (a deadlock that a procedure's handler swallowed, for one).
    SendXa(XaVerb::kRollback, due_xid_, nullptr, {Step::kRollback});
    result = ReceiveXa();
  } else if (due_verb_ == XaVerb::kRollback && result.failed_step == Step::kGuard && !lost()) {
    SendRollback(due_xid_);  // A KILL QUERY hit the question.
    result = ReceiveXa();
  } else if (due_verb_ == XaVerb::kRollback && result.outcome == XaOutcome::kWrongState &&
             branch_state_ == BranchState::kRollbackOnly && !lost()) {
    // MySQL wants a deadlock's victim ended first, and answers even that with an error.
    const Xid xid = due_xid_;
    SendEnd(xid);
    ReceiveXa();
    SendXa(XaVerb::kRollback, xid, nullptr, {Step::kRollback});
    result = ReceiveXa();
  }
  return result;
}

XaResult MariaDbSession::ReceiveXa() {
  const bool refused = refusal_.has_value();
  QueryResult batch = ReceiveBatch(Due::kXa);
  prepare_sent_ = false;
  XaResult result;
  if (refused) {
    result.outcome = refusal_outcome_;
    result.failed_step = Step::kRefused;
  } else {
    const size_t done = std::min(batch.results.size(), due_steps_.size());
    if (done > 0 && due_steps_[0] == Step::kGuard && batch.results[0].rows.size() == 1) {
      detaches_ = batch.results[0].rows[0][0] == std::string("1");
    }
    for (size_t i = 0; i < done; ++i) StepDone(due_steps_[i]);
    if (!batch.error.ok()) {
      result.failed_step = due_steps_[std::min(done, due_steps_.size() - 1)];
      if (result.failed_step == due_steps_[0] && SessionGuard::IsRefusal(batch.error.code)) {
        result.failed_step = Step::kGuard;
        MarkReset(/*in_time=*/false);
        batch.error = LostError();
      }
      if (result.failed_step == Step::kWitness) {
        result.outcome = IsConnectionLost(batch.error.code) ? XaOutcome::kConnectionLost : XaOutcome::kError;
      } else {
        result.outcome = OutcomeOf(VerbOf(result.failed_step, due_verb_), batch.error.code);
      }
      StepFailed(result.failed_step, result.outcome, batch.error.code);
    }
  }
  result.error = std::move(batch.error);
  result.branch = branch_state_;
  result.sent = sent_;
  return result;
}

void MariaDbSession::StepDone(Step step) {
  if (!IsOwn(due_xid_) || lost()) return;
  switch (step) {
    case Step::kEnd: branch_state_ = BranchState::kEnded; break;
    case Step::kPrepare: branch_state_ = BranchState::kPrepared; break;
    case Step::kCommit:
    case Step::kRollback: branch_state_ = BranchState::kNone; break;
    case Step::kNone:
    case Step::kRefused:
    case Step::kGuard:
    case Step::kStart:
    case Step::kWitness: break;
  }
}

void MariaDbSession::StepFailed(Step step, XaOutcome outcome, int code) {
  if (!IsOwn(due_xid_) || lost()) return;
  switch (step) {
    case Step::kWitness:
      if (code == kErLockDeadlock) branch_state_ = BranchState::kRollbackOnly;
      break;
    case Step::kEnd:
      // An active branch that cannot be ended has been marked by the database.
      if (branch_state_ == BranchState::kActive && outcome == XaOutcome::kWrongState) {
        branch_state_ = BranchState::kRollbackOnly;
      }
      break;
    case Step::kPrepare:
      if (outcome == XaOutcome::kRolledBack) branch_state_ = BranchState::kNone;
      if (outcome == XaOutcome::kWrongState && branch_state_ == BranchState::kEnded) {
        branch_state_ = BranchState::kRollbackOnly;
      }
      break;
    case Step::kCommit:
      if (outcome == XaOutcome::kRolledBack || (outcome == XaOutcome::kUnknownXid && is_detached())) {
        branch_state_ = BranchState::kNone;
      }
      break;
    case Step::kRollback:
      if (outcome == XaOutcome::kRolledBack || outcome == XaOutcome::kUnknownXid) branch_state_ = BranchState::kNone;
      break;
    case Step::kNone:
    case Step::kRefused:
    case Step::kGuard:
    case Step::kStart: break;
  }
}

XaResult MariaDbSession::End(const Xid& xid) {
  SendEnd(xid);
  return Receive();
}

XaResult MariaDbSession::CommitOnePhase(const Xid& xid, const WitnessTable* witness) {
  SendCommitOnePhase(xid, witness);
  return Receive();
}

}  // namespace assent
