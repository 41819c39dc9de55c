"""Both phases over any number of branches of this process, in parallel: participant_sdk/cpp/two_phase.cc."""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Sequence

from assent._core.branch import BranchCore, Stage
from assent._core.effects import Core, Sleep, in_parallel
from assent._core.outcome import Outcome, Step, Verb, XaResult, statement_error, verb_error
from assent.v1 import coordinator_service_pb2 as pb
from assent.v1 import global_pb2 as gpb

logger = logging.getLogger("assent")

_MAX_FAILURE_BYTES = 1000
_RETRY_PAUSE = 0.1


def cut(text: str, most: int) -> str:
    """Return at most that many bytes of it."""
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def _make_vote(branch: BranchCore, kind: gpb.VoteKind) -> pb.Vote:
    vote = pb.Vote(bqual=branch.xid.bqual, kind=kind)
    if kind == gpb.VOTE_KIND_PREPARED:
        vote.session.CopyFrom(branch.session.describe())
        vote.witnessed = branch.witness is not None
    return vote


def make_completion(branch: BranchCore, result: pb.Completion.Result) -> pb.Completion:
    """Return the report of how a branch ended."""
    return pb.Completion(gtrid=branch.xid.gtrid, bqual=branch.xid.bqual, result=result)


def proves_rolled_back(outcome: Outcome, detaches: bool, prepare_was_sent: bool) -> bool:
    """Tell what a ROLLBACK's answer proves on the branch's own session. After a reset of the session: nothing. Pure."""
    if outcome in (Outcome.OK, Outcome.ROLLED_BACK):
        return True
    if outcome is Outcome.UNKNOWN_XID:
        # Once PREPARE has let go of it anybody may have finished it, and also have committed it.
        return not (prepare_was_sent and detaches)
    # The server rolls a branch back that was never prepared when it notices the end of its session.
    return outcome is Outcome.CONNECTION_LOST and not prepare_was_sent


def _proves_rolled_back(branch: BranchCore, result: XaResult, prepare_was_sent: bool) -> bool:
    return proves_rolled_back(result.outcome, branch.session.detaches, prepare_was_sent)


class Finished(enum.Enum):
    """What the answer to COMMIT or ROLLBACK proves on the session that prepared."""

    COMMITTED = enum.auto()
    ROLLED_BACK = enum.auto()
    REPEAT = enum.auto()
    """Not now (read-only, a backup lock); in doubt when the patience ends."""
    ELSEWHERE = enum.auto()
    """Somebody else, the coordinator's recovery, has finished it."""
    IN_DOUBT = enum.auto()


def finished_by(commit: bool, outcome: Outcome, detaches: bool) -> Finished:
    """Pure."""
    if commit and outcome is Outcome.OK:
        return Finished.COMMITTED
    # A branch that wrote answers 1402 only if somebody or something rolled it back.
    if commit and outcome is Outcome.ROLLED_BACK:
        return Finished.ROLLED_BACK
    if not commit and proves_rolled_back(outcome, detaches, prepare_was_sent=True):
        return Finished.ROLLED_BACK
    if outcome is Outcome.RETRY_LATER:
        return Finished.REPEAT
    return Finished.ELSEWHERE if outcome is Outcome.UNKNOWN_XID and detaches else Finished.IN_DOUBT


def _failed(branch: BranchCore, rolled_back: bool) -> pb.Vote:
    assert branch.poison is not None
    vote = _make_vote(branch, gpb.VOTE_KIND_FAILED)
    vote.rolled_back = rolled_back
    code = branch.poison.metadata.get("error_code", "")
    if code.isdigit():
        vote.failure.error_code = int(code)
    vote.failure.sqlstate = branch.poison.metadata.get("sqlstate", "")
    vote.failure.message = cut(branch.poison.message, _MAX_FAILURE_BYTES)
    branch.stage = Stage.FINISHED if rolled_back else Stage.IN_DOUBT
    return vote


def has_written(branch: BranchCore) -> Core[bool]:
    """Tell whether it may have. Its server is asked once at most."""
    if branch.counts_as_written or branch.session.written:
        return True
    if branch.probed is None:
        branch.probed = yield from branch.session.probe()
    return branch.probed


def _prepare_one(branch: BranchCore) -> Core[pb.Vote]:
    session = branch.session
    if branch.poison:
        result = yield from session.rollback(branch.xid)
        return _failed(branch, _proves_rolled_back(branch, result, session.prepare_sent))
    if not (yield from has_written(branch)):
        result = yield from session.end_read_only(branch.xid)
        if result.failed_step is Step.COMMIT or session.was_reset:
            branch.poison = statement_error(result.db_error, "ending the branch, which has only read")
            result = yield from session.rollback(branch.xid)
            return _failed(branch, _proves_rolled_back(branch, result, False))
        # It wrote nothing: even if the session broke there is nothing that could be kept or lost.
        branch.stage = Stage.FINISHED
        return _make_vote(branch, gpb.VOTE_KIND_READ_ONLY)
    result = yield from session.prepare(branch.xid, branch.witness)
    if result.ok:
        branch.stage = Stage.PREPARED
        return _make_vote(branch, gpb.VOTE_KIND_PREPARED)
    return (yield from failed_by(branch, Verb.PREPARE, result))


def failed_by(branch: BranchCore, verb: Verb, result: XaResult) -> Core[pb.Vote]:
    """Vote FAILED, because of what the verb that was to end the branch's work has answered. Rolls back."""
    session = branch.session
    branch.poison = verb_error(verb, result)
    if result.failed_step is Step.WITNESS:
        assert branch.witness is not None
        branch.poison = statement_error(result.db_error, branch.witness.why_refused(result.db_error.code))
    # If the verb never reached the server, the end of the session was the end of the branch.
    if result.outcome is Outcome.CONNECTION_LOST:
        return _failed(branch, rolled_back=not result.sent)
    # Its database rolls it back with the reset, or, behind a proxy, with the end of its session: not proven here.
    if result.outcome is Outcome.SESSION_RESET:
        return _failed(branch, rolled_back=False)
    # An error that was not the server's word, and has cost the connection, may have come behind it.
    may_be_prepared = session.prepare_sent
    rolled_back = yield from session.rollback(branch.xid)
    return _failed(branch, _proves_rolled_back(branch, rolled_back, may_be_prepared))


def find_active(branches: Sequence[BranchCore]) -> list[BranchCore]:
    """Return those that run at their databases and have not voted. The vote of those that never began is known."""
    active = []
    for branch in branches:
        if branch.vote:
            continue
        if branch.stage is not Stage.IDLE:
            active.append(branch)
            continue
        branch.poison = branch.poison or branch.unstarted or branch.bypassed()  # What was asked of it was not done.
        if branch.poison:
            branch.vote = _failed(branch, rolled_back=True)  # There never was a branch.
        else:
            branch.stage = Stage.FINISHED
            branch.vote = _make_vote(branch, gpb.VOTE_KIND_READ_ONLY)
    return active


def prepare(branches: Sequence[BranchCore]) -> Core[list[pb.Vote]]:
    """Phase one.

    Every branch that has not voted yet is prepared, or ended if it wrote nothing (READ_ONLY), or rolled back if it is
    poisoned or PREPARE fails (FAILED). Results in one vote for each branch, in order, old ones included.
    """
    if active := find_active(branches):
        votes = yield from in_parallel([_prepare_one(branch) for branch in active])
        for branch, vote in zip(active, votes, strict=True):
            branch.vote = vote
    return [branch.vote for branch in branches if branch.vote]


def mark_voted(branches: Sequence[BranchCore]) -> list[BranchCore]:
    """From now on only the decision may finish these; return those of which that was not so yet."""
    fresh = [branch for branch in branches if not branch.voted]
    for branch in fresh:
        branch.voted = True
    return fresh


def awaits_decision(branches: Sequence[BranchCore]) -> bool:
    """Tell whether some branch is prepared and its vote is out."""
    return any(branch.stage is Stage.PREPARED and branch.voted for branch in branches)


def roll_back_unvoted(branches: Sequence[BranchCore]) -> Core[list[pb.Completion]]:
    """Roll back every branch whose vote is not out, whatever it has done; results in what is proven.

    No decision to COMMIT can exist without that vote.
    """
    opened = []
    completions = []
    for branch in branches:
        if branch.voted:
            continue
        if branch.stage is Stage.IDLE:
            branch.stage = Stage.FINISHED
            completions.append(make_completion(branch, pb.Completion.RESULT_ROLLED_BACK))
        elif branch.stage in (Stage.ACTIVE, Stage.PREPARED):
            opened.append(branch)
    if opened:
        was_prepared = [branch.stage is Stage.PREPARED or branch.session.prepare_sent for branch in opened]
        results = yield from in_parallel([branch.session.rollback(branch.xid) for branch in opened])
        for branch, prepared, result in zip(opened, was_prepared, results, strict=True):
            if _proves_rolled_back(branch, result, prepared):
                branch.stage = Stage.FINISHED
                completions.append(make_completion(branch, pb.Completion.RESULT_ROLLED_BACK))
            else:
                branch.stage = Stage.IN_DOUBT
    return completions


_RESULTS = {
    Finished.COMMITTED: pb.Completion.RESULT_COMMITTED,
    Finished.ROLLED_BACK: pb.Completion.RESULT_ROLLED_BACK,
}


def finish(branches: Sequence[BranchCore], decision: gpb.Decision, patience: float) -> Core[list[pb.Completion]]:
    """Phase two.

    Finishes every prepared branch on the session that prepared it, and results in what is proven. What the database
    cannot do right now (read-only, backup lock) is repeated until `patience` seconds have passed. A branch whose answer
    was lost stays in doubt and is not in the list.
    """
    commit = decision == gpb.DECISION_COMMIT
    give_up = time.monotonic() + patience
    opened = [branch for branch in branches if branch.stage is Stage.PREPARED]
    completions = []
    while opened:
        pieces = [
            branch.session.commit(branch.xid) if commit else branch.session.rollback(branch.xid) for branch in opened
        ]
        results = yield from in_parallel(pieces)
        again = []
        for branch, result in zip(opened, results, strict=True):
            found = finished_by(commit, result.outcome, branch.session.detaches)
            if proven := _RESULTS.get(found):
                completions.append(make_completion(branch, proven))
                branch.stage = Stage.FINISHED
                branch.session.free()
            elif found is Finished.REPEAT and time.monotonic() < give_up:
                again.append(branch)
            elif found is Finished.ELSEWHERE:
                branch.stage = Stage.ELSEWHERE
                branch.session.free()
            else:
                logger.warning(
                    "gtrid=%s bqual=%s resource=%s %s in doubt: %s %s",
                    *branch.xid,
                    branch.resource,
                    "commit" if commit else "rollback",
                    result.outcome.name,
                    result.db_error.code,
                )
                branch.stage = Stage.IN_DOUBT
        opened = again
        if opened:
            yield Sleep(_RETRY_PAUSE)
    return completions


def all_finished(branches: Sequence[BranchCore]) -> bool:
    """Tell whether every branch is finished, by whomever."""
    return all(branch.stage in (Stage.FINISHED, Stage.ELSEWHERE) for branch in branches)


def any_elsewhere(branches: Sequence[BranchCore]) -> bool:
    """Tell whether some branch was finished by somebody else, so that how it ended is not proven here."""
    return any(branch.stage is Stage.ELSEWHERE for branch in branches)


def abandon(branches: Sequence[BranchCore]) -> None:
    """Close the connections of branches that are not finished: they become detached, for the coordinator to finish."""
    for branch in branches:
        if branch.stage in (Stage.FINISHED, Stage.ELSEWHERE, Stage.IDLE):
            continue
        logger.warning(
            "gtrid=%s bqual=%s resource=%s left to the coordinator; its connection is closed",
            *branch.xid,
            branch.resource,
        )
        branch.session.shutdown()
