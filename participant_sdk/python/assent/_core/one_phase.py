"""One phase for one writer: docs/decisions/0012-one-phase-commit.md."""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Callable, Sequence

from assent._core.branch import BranchCore, Stage
from assent._core.effects import Call, Core, Report, Sleep, in_parallel
from assent._core.outcome import Outcome, Step, Verb
from assent._core.reservation import AGE_HOLDS
from assent._core.two_phase import failed_by, find_active, has_written
from assent.errors import AssentError, from_rpc_status, is_retryable
from assent.v1 import coordinator_service_pb2 as pb
from assent.v1 import global_pb2 as gpb

logger = logging.getLogger("assent")

_TELL_PAUSE = 0.05
"""Between two reports of an answer that was lost."""


def only_writer(branches: Sequence[BranchCore]) -> Core[BranchCore | None]:
    """Return the branch that has written, or may have, if there is only one and it can be committed in one phase.

    None of the branches may have failed.
    """
    active = find_active(branches)
    if any(branch.poison or (branch.vote and branch.vote.kind != gpb.VOTE_KIND_READ_ONLY) for branch in branches):
        return None
    certain = [branch for branch in active if branch.counts_as_written or branch.session.written]
    if len(certain) > 1:
        return None
    wrote = yield from in_parallel([has_written(branch) for branch in active])
    writers = [branch for branch, has in zip(active, wrote, strict=True) if has]
    if len(writers) != 1 or not writers[0].witness or not writers[0].session.commits_in_one_phase:
        return None
    return writers[0]


class End(enum.Enum):
    """How a commit in one phase went."""

    COMMITTED = enum.auto()
    FAILED = enum.auto()
    """The branch has voted FAILED."""
    UNKNOWN = enum.auto()
    """Its database has done it or not, and its connection is closed."""


def commit(branch: BranchCore) -> Core[End]:
    """Commit what `only_writer` found. From now on nobody but its database may say that it was rolled back."""
    assert branch.witness is not None
    branch.stage = Stage.IN_DOUBT
    result = yield from branch.session.commit_one_phase(branch.xid, branch.witness)
    if result.ok:
        branch.stage = Stage.FINISHED
        branch.session.free()
        return End.COMMITTED
    lost = result.outcome is Outcome.CONNECTION_LOST and result.sent
    unclear = result.failed_step is Step.COMMIT and result.outcome is not Outcome.ROLLED_BACK
    if not lost and not unclear:
        branch.vote = yield from failed_by(branch, Verb.COMMIT_ONE_PHASE, result)
        return End.FAILED
    logger.warning(
        "gtrid=%s bqual=%s resource=%s one-phase commit in doubt: %s %s",
        *branch.xid,
        branch.resource,
        result.outcome.name,
        result.db_error.code,
    )
    branch.session.shutdown()
    return End.UNKNOWN


def ask_how_it_ended(make_report: Callable[[], pb.Completion], patience: float) -> Core[gpb.GlobalStatus]:
    """After UNKNOWN: have the coordinator look, and result in what it has seen. Raises why it did not.

    `make_report` makes the report anew, for its age must stay true.
    """
    give_up = time.monotonic() + patience
    while True:
        report = make_report()
        left = max(0.0, give_up - time.monotonic())
        try:
            told = yield Call("Completed", pb.CompletedRequest(completions=[report]), min(left, AGE_HOLDS))
            if not told.results[0].HasField("error"):
                break
            why = from_rpc_status(told.results[0].error)
        except AssentError as error:
            why = error
        if not is_retryable(why):
            raise why
        if time.monotonic() >= give_up:
            yield Report([report], awaited=True)  # Offered until it is taken.
            raise why
        yield Sleep(_TELL_PAUSE)
    request = pb.PreparedRequest(gtrid=report.gtrid, wait=pb.WAIT_APPLIED)
    response: pb.PreparedResponse = yield Call("Prepared", request, max(0.0, give_up - time.monotonic()), waits=True)
    return response.status
