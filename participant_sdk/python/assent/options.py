"""Options; the same names and defaults as in the C++ SDK (participant_sdk/cpp/options.h)."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc

from assent.hooks import Hooks
from assent.v1 import global_pb2 as gpb


class DecisionPolicy(enum.Enum):
    """When the decision is taken."""

    ON_FINALIZE = gpb.DECISION_POLICY_ON_FINALIZE
    """`commit` decides."""
    WHEN_ALL_PREPARED = gpb.DECISION_POLICY_WHEN_ALL_PREPARED
    """The last of `expected_branches` votes does."""


class TransactionOutcome(enum.Enum):
    """How a transaction ended, as far as this process knows."""

    UNSPECIFIED = gpb.OUTCOME_UNSPECIFIED
    """It has not been decided as far as this process knows."""
    COMMITTED = gpb.OUTCOME_COMMITTED
    ROLLED_BACK = gpb.OUTCOME_ROLLED_BACK
    IN_DOUBT = gpb.OUTCOME_IN_DOUBT


@dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """Of a client and all its transactions; durations in seconds."""

    credentials: grpc.ChannelCredentials | None = None
    """None: plaintext."""
    call_patience: float = 30.0
    """How long calls that may still be given up (before any branch is prepared) are repeated while the coordinator does
    not answer."""
    decision_patience: float = 300.0
    """How long to ask for a decision once branches are prepared. They hold their locks meanwhile; afterwards they are
    in doubt."""
    hooks: Sequence[Hooks] = ()


@dataclass(frozen=True, kw_only=True)
class BeginOptions:
    """Of one transaction; see BeginOptions of the C++ SDK for what each promises."""

    sole_participant: bool = False
    """Nobody else takes part: every branch is opened by this object. Begin and opening branches then ask nobody, and
    commit makes one call, which creates the transaction with its decision. Until then the coordinator knows nothing of
    it: nobody can join it, it is not listed, and if this process dies with a branch prepared, recovery rolls that back
    when it has seen it for the resource's orphan age. Not together with `policy` or `expected_branches`, and with a
    `gtrid` only if that is `<cluster>-<ULID>`, made now."""
    one_phase_commit: bool = True
    """A sole participant of which only one branch has written (on MariaDB without a binary log, with a witness, under a
    gtrid that the coordinator has made) commits that in one phase: one forced write at its database and none to wait
    for at the coordinator, which is told afterwards. If the answer is lost, or this process dies, the branch's witness
    is all that tells how it ended: commit asks the coordinator to look; and of a process that died, `get_global` may
    say GLOBAL_NOT_FOUND until a sweep of the resource has found the commit. `timeout` counts if it is given. False:
    always two phases, with the decision on record first."""
    timeout: float = 0.0
    """Seconds from begin to ROLLBACK if undecided; 0: the coordinator's default."""
    gtrid: str = ""
    """The caller's own id; empty: the coordinator makes one."""
    policy: DecisionPolicy = DecisionPolicy.ON_FINALIZE
    expected_branches: int = 0
    resources: Sequence[str] = field(default_factory=tuple)
    """Resources to create a branch on in the same round trip; opening those then costs none."""
