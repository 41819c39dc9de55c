// Named places in the code at which a test can stop a process, to kill it or something else just there.
//
// ASSENT_FAULT_POINT(kSdkPrepareSent) is nothing in the product: not a branch, not a string (fault_point_test.cc
// looks). Only what the rule with_fault_points (base/fault_points.bzl) builds has them. There, a process whose
// environment holds
//
//   ASSENT_FAULT_POINT=<name>:<n>:<file>
//
// makes the file when one of its threads reaches that point for the n-th time, and that thread waits there until the
// file is gone. All other points, and all other times, are passed.
#ifndef ASSENT_BASE_FAULT_POINT_H_
#define ASSENT_BASE_FAULT_POINT_H_

#include <cstddef>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

// All of them: X(constant, name, where it is). The crash matrix (tests/recovery/crash_matrix.h) has a row for each.
#define ASSENT_FAULT_POINT_LIST(X)                                                                                     \
  X(kSdkStartBefore, "sdk.start.before", "before XA START is sent")                                                    \
  X(kSdkStartOk, "sdk.start.ok", "after XA START and the first statement")                                             \
  X(kSdkPrepareBefore, "sdk.prepare.before", "before XA PREPARE is sent")                                              \
  X(kSdkPrepareSent, "sdk.prepare.sent", "after XA PREPARE is sent, before its answer is read")                        \
  X(kSdkPrepareOk, "sdk.prepare.ok", "after XA PREPARE answered OK")                                                   \
  X(kSdkOnePhaseBefore, "sdk.onephase.before", "before XA COMMIT … ONE PHASE is sent")                                 \
  X(kSdkOnePhaseSent, "sdk.onephase.sent", "after it is sent, before its answer is read")                              \
  X(kSdkOnePhaseOk, "sdk.onephase.ok", "after it answered OK, before that is reported")                                \
  X(kSdkVoteBefore, "sdk.vote.before", "before the votes are sent")                                                    \
  X(kSdkFailBefore, "sdk.fail.before", "before a vote FAILED is sent")                                                 \
  X(kSdkFailOk, "sdk.fail.ok", "after a vote FAILED was answered")                                                     \
  X(kSdkFinishBefore, "sdk.finish.before", "after the decision, before XA COMMIT or ROLLBACK is sent")                 \
  X(kSdkFinishSent, "sdk.finish.sent", "after XA COMMIT or ROLLBACK is sent, before its answer is read")               \
  X(kSdkFinishOk, "sdk.finish.ok", "after XA COMMIT or ROLLBACK answered OK, before that is reported")                 \
  X(kSdkAbortBefore, "sdk.abort.before",                                                                               \
    "before a rollback without a decision (the application's, or a failed branch's) is sent")                          \
  X(kSdkAbortSent, "sdk.abort.sent", "after it is sent, before its answer is read")                                    \
  X(kSdkAbortOk, "sdk.abort.ok", "after it answered OK, before the coordinator knows")                                 \
  X(kSdkReportBefore, "sdk.report.before", "before Completed is sent")                                                 \
  X(kSdkReportOk, "sdk.report.ok", "after Completed was answered")                                                     \
  X(kCoordinatorCreateBefore, "coordinator.create.before", "before the new transaction is given to the store")         \
  X(kCoordinatorCreateStored, "coordinator.create.stored", "after it is stored, before CreateGlobal is answered")      \
  X(kCoordinatorBranchBefore, "coordinator.branch.before", "before a new branch is given to the store")                \
  X(kCoordinatorBranchStored, "coordinator.branch.stored", "after it is stored, before CreateBranches is answered")    \
  X(kCoordinatorVotesBefore, "coordinator.votes.before", "before votes are given to the store")                        \
  X(kCoordinatorVotesStored, "coordinator.votes.stored", "after they are stored, before anybody is told")              \
  X(kCoordinatorDecisionBefore, "coordinator.decision.before", "before the decision is given to the store")            \
  X(kCoordinatorDecisionStored, "coordinator.decision.stored", "after it is stored, before anybody is told")           \
  X(kCoordinatorCompletionBefore, "coordinator.completion.before", "before a completion is given to the store")        \
  X(kCoordinatorCompletionStored, "coordinator.completion.stored", "after it is stored, before Completed is answered") \
  X(kCoordinatorEvidenceBefore, "coordinator.evidence.before", "before recovery's finding is given to the store")      \
  X(kCoordinatorEvidenceStored, "coordinator.evidence.stored", "after it is stored")                                   \
  X(kStoreGroupBefore, "store.group.before", "before a group without a decision to COMMIT is committed")               \
  X(kStoreGroupCommitted, "store.group.committed", "after that, before anybody is told")                               \
  X(kStoreForcedBefore, "store.forced.before", "before a group with a decision to COMMIT is committed")                \
  X(kStoreForcedCommitted, "store.forced.committed", "after that, before anybody is told")                             \
  X(kRecoverySweepListed, "recovery.sweep.listed", "after a sweep found a stray branch, before it acts")               \
  X(kRecoveryTaken, "recovery.taken", "after a branch was taken up, before its database is looked at")                 \
  X(kRecoveryLooked, "recovery.looked", "after its database was looked at, before anything is done")                   \
  X(kRecoveryKilled, "recovery.killed", "after KILL of a session past its lease")                                      \
  X(kRecoveryActBefore, "recovery.act.before", "before recovery's XA COMMIT or ROLLBACK is sent")                      \
  X(kRecoveryActOk, "recovery.act.ok", "after it answered, before that is verified")                                   \
  X(kRecoveryForgetBefore, "recovery.forget.before", "before witnesses of finished transactions are deleted")          \
  X(kRecoveryForgetOk, "recovery.forget.ok", "after they were deleted")

namespace assent {

#define ASSENT_FAULT_POINT_CONSTANT(constant, name, where) constant,
enum class FaultPoint { kNone, ASSENT_FAULT_POINT_LIST(ASSENT_FAULT_POINT_CONSTANT) };
#undef ASSENT_FAULT_POINT_CONSTANT

#ifdef ASSENT_FAULT_POINTS
#define ASSENT_FAULT_POINT(point) ::assent::ReachFaultPoint(::assent::FaultPoint::point)
// `point` is an expression; kNone is no point.
#define ASSENT_FAULT_POINT_OF(point) ::assent::ReachFaultPoint(point)
// Thread-safe.
void ReachFaultPoint(FaultPoint point);
#else
#define ASSENT_FAULT_POINT(point) static_cast<void>(0)
#define ASSENT_FAULT_POINT_OF(point) static_cast<void>(0)
#endif

// What tests know of a point. Nothing of the product calls these.
struct FaultPointInfo {
  FaultPoint point;
  absl::string_view name;
  absl::string_view where;
};
#define ASSENT_FAULT_POINT_INFO(constant, name, where) {::assent::FaultPoint::constant, name, where},
inline absl::Span<const FaultPointInfo> AllFaultPoints() {
  static constexpr FaultPointInfo kAll[] = {ASSENT_FAULT_POINT_LIST(ASSENT_FAULT_POINT_INFO)};
  return kAll;
}
// `point` is not kNone.
inline const FaultPointInfo& InfoOf(FaultPoint point) { return AllFaultPoints()[static_cast<size_t>(point) - 1]; }
#undef ASSENT_FAULT_POINT_INFO

}  // namespace assent

#endif  // ASSENT_BASE_FAULT_POINT_H_
