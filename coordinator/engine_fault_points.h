// Which fault point a transition passes, by what it does.
#ifndef ASSENT_COORDINATOR_ENGINE_FAULT_POINTS_H_
#define ASSENT_COORDINATOR_ENGINE_FAULT_POINTS_H_

#include "assent/v1/global.pb.h"
#include "base/fault_point.h"

namespace assent {

// `next`: the record that the transition stores; its last history entry says what happened.
inline FaultPoint PointBeforeStoring(const v1::Global& next) {
  switch (next.history().rbegin()->event()) {
    case v1::HistoryEntry::EVENT_CREATED: return FaultPoint::kCoordinatorCreateBefore;
    case v1::HistoryEntry::EVENT_BRANCHES_ADDED: return FaultPoint::kCoordinatorBranchBefore;
    case v1::HistoryEntry::EVENT_VOTED: return FaultPoint::kCoordinatorVotesBefore;
    case v1::HistoryEntry::EVENT_DECIDED: return FaultPoint::kCoordinatorDecisionBefore;
    case v1::HistoryEntry::EVENT_COMPLETED: return FaultPoint::kCoordinatorCompletionBefore;
    case v1::HistoryEntry::EVENT_RECOVERED: return FaultPoint::kCoordinatorEvidenceBefore;
    default: return FaultPoint::kNone;
  }
}

inline FaultPoint PointOnceStored(const v1::Global& next) {
  switch (PointBeforeStoring(next)) {
    case FaultPoint::kCoordinatorCreateBefore: return FaultPoint::kCoordinatorCreateStored;
    case FaultPoint::kCoordinatorBranchBefore: return FaultPoint::kCoordinatorBranchStored;
    case FaultPoint::kCoordinatorVotesBefore: return FaultPoint::kCoordinatorVotesStored;
    case FaultPoint::kCoordinatorDecisionBefore: return FaultPoint::kCoordinatorDecisionStored;
    case FaultPoint::kCoordinatorCompletionBefore: return FaultPoint::kCoordinatorCompletionStored;
    case FaultPoint::kCoordinatorEvidenceBefore: return FaultPoint::kCoordinatorEvidenceStored;
    default: return FaultPoint::kNone;
  }
}

}  // namespace assent

#endif  // ASSENT_COORDINATOR_ENGINE_FAULT_POINTS_H_
