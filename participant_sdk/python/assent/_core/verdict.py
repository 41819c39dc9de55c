"""What the coordinator's answers say about the decision."""

from __future__ import annotations

from typing import NamedTuple

from assent.errors import AssentError, OutcomeInDoubt, Reason, TransactionRolledBack
from assent.v1 import global_pb2 as gpb


class Verdict(NamedTuple):
    """What the coordinator's answer to a vote or a Finalize says about the decision."""

    decision: gpb.Decision
    """UNSPECIFIED: not known."""
    why: AssentError | None = None
    """For ROLLBACK: the error that says why. For UNSPECIFIED: why it is not known."""
    branches: int = 0
    """Of the whole transaction; 0: not known."""


def verdict_of(answer: gpb.GlobalStatus | AssentError) -> Verdict:
    """Pure."""
    if isinstance(answer, AssentError):
        if answer.reason is Reason.GLOBAL_COMMITTED:
            return Verdict(gpb.DECISION_COMMIT, answer)
        if answer.reason is Reason.GLOBAL_ROLLED_BACK:
            return Verdict(gpb.DECISION_ROLLBACK, answer)
        if answer.reason is Reason.GLOBAL_NOT_FOUND:  # Presumed abort: without a record nothing was decided COMMIT.
            return Verdict(gpb.DECISION_ROLLBACK, TransactionRolledBack(answer.message, metadata=answer.metadata))
        return Verdict(gpb.DECISION_UNSPECIFIED, answer)
    if answer.decision == gpb.DECISION_ROLLBACK:
        cause = gpb.DecisionCause.Name(answer.cause)
        why: AssentError = TransactionRolledBack(
            f"global transaction '{answer.gtrid}' was rolled back: {answer.cause_detail or cause}",
            metadata={"gtrid": answer.gtrid, "cause": cause, "detail": answer.cause_detail},
        )
        return Verdict(gpb.DECISION_ROLLBACK, why, answer.branches)
    if answer.decision == gpb.DECISION_UNSPECIFIED:
        why = OutcomeInDoubt("no decision came in time", metadata={"gtrid": answer.gtrid})
        return Verdict(answer.decision, why, answer.branches)
    return Verdict(answer.decision, None, answer.branches)
