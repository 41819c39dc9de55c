"""Effects: what the generators of the core ask whoever runs them to do."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from assent._core.outcome import DbError
from assent.v1 import coordinator_service_pb2 as pb

T = TypeVar("T")


@dataclass(slots=True)
class Answer:
    """What a server answered to a batch of statements, which stops at the first error."""

    rows: list[tuple[Any, ...] | None] = field(default_factory=list)
    """For each statement that succeeded, in order, the first row of its answer; None if it has none."""
    tags: list[str] = field(default_factory=list)
    """PostgreSQL: the command tag of each statement that succeeded."""
    error: DbError = field(default_factory=DbError)
    """Of the statement that failed."""
    sent: bool = True
    """False: the server certainly saw nothing of it."""

    @property
    def done(self) -> int:
        """The number of statements that succeeded."""
        return len(self.rows)


class Wire(Protocol):
    """What the core may ask of a connection at once, without I/O (a look at its socket at most)."""

    engine: str
    """`mysql` (MariaDB, too) or `postgresql`."""
    batches: bool
    """Takes several statements at once, and stops at the first that fails."""

    @property
    def connection(self) -> Any:
        """The driver's; its session must not keep it alive, so whoever has a branch on it does (BranchCore)."""
        ...

    @property
    def lost(self) -> bool:
        """The connection cannot be used any more."""
        ...

    def mark_lost(self) -> None:
        """Take it for lost from now on, without touching it."""
        ...

    def identity(self) -> object:
        """Return what changes when the driver silently makes the connection anew."""
        ...

    def in_transaction(self) -> bool | None:
        """Tell what the server last said; None if the driver does not tell."""
        ...

    def has_failed(self) -> bool:
        """Tell whether the open transaction has failed (PostgreSQL)."""
        ...

    def peer_has_closed(self) -> bool:
        """Look whether the server has closed the connection, or has something to say that nobody asked for."""
        ...

    def shutdown(self) -> None:
        """Close the connection for good, without a farewell that could block; nobody can use it afterwards."""
        ...


@dataclass(slots=True)
class Exchange:
    """Send each batch on its connection, all of them before the first answer is awaited. Result: list of Answer."""

    batches: Sequence[tuple[Wire, Sequence[str]]]


@dataclass(slots=True)
class Call:
    """Call the coordinator until it answers or `patience` seconds have passed. Result: the response.

    Raises AssentError: the coordinator's own, or COORDINATOR_UNREACHABLE. With `waits` it goes on until what the
    request's `wait` asks for has come, or the patience has passed: then the result is what stands.
    """

    method: str
    request: Any
    patience: float
    waits: bool = False


@dataclass(slots=True)
class Sleep:
    """Wait that many seconds. Result: None."""

    seconds: float


@dataclass(slots=True)
class Report:
    """Tell the coordinator how branches ended, off the path. Result: None.

    `awaited`: somebody may wait for the coordinator to know it (APPLIED), so it goes at once.
    """

    completions: list[pb.Completion]
    awaited: bool


@dataclass(slots=True)
class RenewReservation:
    """Run `Reservation.renew(resource)` unless somebody else has made it needless meanwhile. Result: None."""

    resource: str
    patience: float


Effect = Exchange | Call | Sleep | Report | RenewReservation
Core = Generator[Effect, Any, T]
"""A piece of the protocol that results in T."""


def exchange(wire: Wire, statements: Sequence[str]) -> Core[Answer]:
    """Send a batch to one connection."""
    answers: list[Answer] = yield Exchange([(wire, statements)])
    return answers[0]


def in_parallel(pieces: Sequence[Core[T]]) -> Core[list[T]]:
    """Run pieces that only exchange, in step: what each wants to send next is sent together."""
    if len(pieces) == 1:
        return [(yield from pieces[0])]
    results: list[Any] = [None] * len(pieces)
    going: list[tuple[int, Core[T], Any]] = [(index, piece, None) for index, piece in enumerate(pieces)]
    while going:
        batches: list[tuple[Wire, Sequence[str]]] = []
        asked: list[tuple[int, Core[T], slice]] = []
        for index, piece, answers in going:
            try:
                effect = piece.send(answers)
            except StopIteration as end:
                results[index] = end.value
                continue
            assert isinstance(effect, Exchange)
            first = len(batches)
            batches += effect.batches
            asked.append((index, piece, slice(first, len(batches))))
        every = (yield Exchange(batches)) if asked else []
        going = [(index, piece, every[own]) for index, piece, own in asked]
    return results
