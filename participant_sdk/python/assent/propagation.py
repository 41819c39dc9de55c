"""Which metadata and headers carry a global transaction from one service to the next."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from assent.errors import Code, FailedPrecondition, InvalidRequest
from assent.xid import is_valid_id

GRPC_GTRID = "assent-gtrid"
"""The gRPC metadata key that holds the gtrid."""
GRPC_TRACEPARENT = "traceparent"
HTTP_GTRID = "Assent-Gtrid"
"""The HTTP header that holds the gtrid."""
HTTP_TRACEPARENT = "traceparent"

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?\Z", re.ASCII)

_transaction: ContextVar[Any] = ContextVar("assent.transaction", default=None)
_traceparent: ContextVar[str] = ContextVar("assent.traceparent", default="")


def current_transaction() -> Any:
    """Return the Transaction, or with asyncio the AsyncTransaction, whose block this is; None if there is none.

    Tasks inherit it; threads that you start do not, unless they run in `contextvars.copy_context()`.
    """
    return _transaction.get()


def enter(transaction: Any) -> Any:
    """Make it the current one; return the one before."""
    before = _transaction.get()
    _transaction.set(transaction)
    return before


def current_traceparent() -> str:
    """Return the W3C traceparent that calls take along; empty if there is none."""
    return _traceparent.get()


@contextmanager
def with_traceparent(traceparent: str) -> Iterator[None]:
    """Let calls in the block take it along. One that is none is left out."""
    before = _traceparent.get()
    _traceparent.set(traceparent if _TRACEPARENT.match(traceparent) else before)
    try:
        yield
    finally:
        _traceparent.set(before)


def headers_of(gtrid: str, traceparent: str = "") -> dict[str, str]:
    """Return the HTTP headers that ask the callee to take part in the transaction."""
    return {HTTP_GTRID: gtrid} | ({HTTP_TRACEPARENT: traceparent} if traceparent else {})


def current_headers() -> dict[str, str]:
    """Return the HTTP headers that pass on the current transaction and its traceparent; empty if there are none.

    FAILED_PRECONDITION if the transaction was begun with sole_participant: nobody could join it.
    """
    gtrid, traceparent = carried_by("the request")
    if gtrid:
        return headers_of(gtrid, traceparent)
    return {HTTP_TRACEPARENT: traceparent} if traceparent else {}


def carried_by(call: str) -> tuple[str, str]:
    """Return the gtrid and the traceparent that a call made now takes along, each empty if there is none."""
    transaction = current_transaction()
    if transaction is None:
        return "", current_traceparent()
    if transaction.is_sole:
        raise FailedPrecondition(
            f"{call} would carry global transaction '{transaction.gtrid}', which was begun with sole_participant: "
            "nobody else can take part in it. Begin it without that",
            metadata={"gtrid": transaction.gtrid},
            code=Code.FAILED_PRECONDITION,
        )
    return transaction.gtrid, current_traceparent()


def gtrid_in(headers: Mapping[str, str]) -> str | None:
    """Return the gtrid that HTTP headers carry, for `client.join`; None if there is none or it is not one."""
    for name, value in headers.items():
        if name.lower() == HTTP_GTRID.lower():
            return value if is_valid_id(value) else None
    return None


def the_only(gtrids: Sequence[str], carrier: str) -> str:
    """Return the one that a call or a request carries. INVALID_ARGUMENT if it carries more."""
    if len(gtrids) > 1:
        raise InvalidRequest(f"{carrier} carries {len(gtrids)} global transactions", code=Code.INVALID_ARGUMENT)
    return gtrids[0]


class ErrorAnswered(Exception):
    """A handler answered an error without raising one: raised in the block of its part, and caught around it."""
