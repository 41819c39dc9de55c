"""How transactions begin: participant_sdk/cpp/client.cc."""

from __future__ import annotations

from assent._core.effects import Call, Core
from assent._core.reservation import Reservation, take_gtrid
from assent._core.transaction import TransactionCore
from assent.errors import InvalidRequest, Reason
from assent.hooks import Hooks
from assent.options import BeginOptions, ClientOptions, DecisionPolicy
from assent.v1 import coordinator_service_pb2 as pb
from assent.xid import birth_of, check_gtrid, new_request_id

_MIN_TIMEOUT = 0.001
_MAX_TIMEOUT = 315_576_000_000.0
"""Of a google.protobuf.Duration, in seconds; how long it may be at most, the coordinator says when it is asked."""


def begin(
    options: ClientOptions, hooks: Hooks, reservation: Reservation, wanted: BeginOptions
) -> Core[TransactionCore]:
    """Begin a transaction.

    Errors: the coordinator's, COORDINATOR_UNREACHABLE after the patience, INVALID_FIELD, INVALID_TIMEOUT.
    """
    if wanted.timeout and not _MIN_TIMEOUT <= wanted.timeout <= _MAX_TIMEOUT:  # NaN is neither.
        raise InvalidRequest(
            "timeout must be at least 1 ms, or zero for the coordinator's default",
            reason=Reason.INVALID_TIMEOUT,
            metadata={"timeout": f"{wanted.timeout}s"},
        )
    if wanted.sole_participant:
        return (yield from _begin_alone(options, hooks, reservation, wanted))
    request = pb.CreateGlobalRequest(
        gtrid=wanted.gtrid,
        request_id=new_request_id(),
        policy=wanted.policy.value,
        expected_branches=wanted.expected_branches,
        branches=[pb.BranchSpec(resource=resource) for resource in wanted.resources],
    )
    if wanted.timeout:
        request.timeout.FromMicroseconds(int(wanted.timeout * 1e6))
    response: pb.CreateGlobalResponse = yield Call("CreateGlobal", request, options.call_patience)
    made = getattr(response, "global")  # A keyword.
    return TransactionCore(options, hooks, reservation, made.gtrid, policy=made.policy, created=list(made.branches))


def _begin_alone(
    options: ClientOptions, hooks: Hooks, reservation: Reservation, wanted: BeginOptions
) -> Core[TransactionCore]:
    if wanted.policy is not DecisionPolicy.ON_FINALIZE or wanted.expected_branches:
        raise InvalidRequest(
            "sole_participant goes with the default policy and expected_branches only: it is the one who decides",
            reason=Reason.INVALID_FIELD,
            metadata={"field": "sole_participant"},
        )
    gtrid = wanted.gtrid
    if gtrid and (birth_of(gtrid) is None or check_gtrid(gtrid)):
        raise InvalidRequest(
            "the gtrid of a sole participant must be <cluster>-<ULID>, made now and never used; or leave it empty",
            reason=Reason.INVALID_FIELD,
            metadata={"field": "gtrid"},
        )
    if not gtrid:
        gtrid = yield from take_gtrid(reservation, options.call_patience)
    return TransactionCore(
        options,
        hooks,
        reservation,
        gtrid,
        policy=wanted.policy.value,
        sole=True,
        one_phase_commit=wanted.one_phase_commit and not wanted.gtrid,
        timeout=wanted.timeout,
    )


def join(options: ClientOptions, hooks: Hooks, reservation: Reservation, gtrid: str) -> TransactionCore:
    """Take part in a transaction that another process began. Asks nobody. INVALID_GTRID."""
    if error := check_gtrid(gtrid):
        raise error
    return TransactionCore(options, hooks, reservation, gtrid, joined=True)


def take_part(options: ClientOptions, hooks: Hooks, reservation: Reservation, gtrid: str) -> TransactionCore:
    """Join for the time of one handler. INVALID_GTRID."""
    core = join(options, hooks, reservation, gtrid)
    core.is_part = True
    return core
