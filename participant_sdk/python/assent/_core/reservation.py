"""Reservation: ids for transactions that are begun without asking, and the terms on which their branches run."""

from __future__ import annotations

import os
import threading
import time

from assent._core.effects import Call, Core, RenewReservation
from assent.errors import AssentError, ResourceNotFound
from assent.v1 import coordinator_service_pb2 as pb
from assent.xid import gtrid_of_block

AGE_HOLDS = 1.0
"""Seconds for which the age of a transaction that its participant began without asking is good enough."""


class Reservation:
    """Thread-safe. Both are good for some seconds; then the next who needs them asks again.

    `try_…` ask nobody. Only one may run `renew` at a time, which is up to the client.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._block = ""
        self._next = 0
        self._count = 0
        self._owner = 0
        self._until = 0.0
        self._terms: dict[str, pb.BranchTerms] = {}
        self.is_closed = False

    def close(self) -> None:
        """The client is closed: nothing can be asked any more."""
        self.is_closed = True

    def _is_valid(self) -> bool:
        # A forked process must not hand out its parent's ids again.
        return self._next < self._count and self._owner == os.getpid() and time.monotonic() < self._until

    def try_gtrid(self) -> str | None:
        """Return an id that nobody else has; None: ask for more."""
        with self._lock:
            if not self._is_valid():
                return None
            self._next += 1
            return gtrid_of_block(self._block, self._next - 1)

    def try_terms(self, resource: str) -> pb.BranchTerms | None:
        """Return the terms of a resource; None: ask for them."""
        with self._lock:
            return self._terms.get(resource) if self._is_valid() else None

    def is_current(self, resource: str) -> bool:
        """Tell whether nobody needs to ask, for ids or for the terms of that resource (empty: of none)."""
        with self._lock:
            return self._is_valid() and (not resource or resource in self._terms)

    def forget(self) -> None:
        """Something was refused on these terms: nothing that was answered before is used again."""
        with self._lock:
            self._until = 0.0

    def renew(self, resource: str, patience: float) -> Core[None]:
        """Ask for all resources known so far, and one more if it is not empty."""
        with self._lock:
            names = set(self._terms)
        asked = time.monotonic()
        try:
            response = yield Call("ReserveGtrids", _request(names | {resource}), patience)
        except AssentError:
            if not names - {resource}:
                raise
            # One that was used before may be what is refused now; it is asked for again by whoever needs it.
            response = yield Call("ReserveGtrids", _request({resource}), patience)
        with self._lock:
            self._terms = {terms.resource: terms for terms in response.terms}
            self._block = response.prefix
            self._next = 0
            self._count = response.count
            self._owner = os.getpid()
            self._until = asked + response.lifetime.ToMicroseconds() / 1e6


def _request(resources: set[str]) -> pb.ReserveGtridsRequest:
    return pb.ReserveGtridsRequest(resources=sorted(resources - {""}))


def take_gtrid(reservation: Reservation, patience: float) -> Core[str]:
    """Return an id that nobody else has, also not a process that was forked off."""
    while (gtrid := reservation.try_gtrid()) is None:
        yield RenewReservation("", patience)
    return gtrid


def terms_of(reservation: Reservation, resource: str, patience: float) -> Core[pb.BranchTerms]:
    """Return the terms of a resource. RESOURCE_NOT_FOUND, RESOURCE_QUARANTINED."""
    for _ in range(3):  # They may pass, or be refused among others', between answer and use.
        if terms := reservation.try_terms(resource):
            return terms
        yield RenewReservation(resource, patience)
    if terms := reservation.try_terms(resource):
        return terms
    raise ResourceNotFound("the coordinator did not answer the terms of the resource", metadata={"resource": resource})
