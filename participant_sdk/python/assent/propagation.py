"""Which metadata and headers carry a global transaction from one service to the next."""

from __future__ import annotations

from collections.abc import Mapping

from assent.xid import is_valid_id

GRPC_GTRID = "assent-gtrid"
"""The gRPC metadata key that holds the gtrid."""
GRPC_TRACEPARENT = "traceparent"
HTTP_GTRID = "Assent-Gtrid"
"""The HTTP header that holds the gtrid."""
HTTP_TRACEPARENT = "traceparent"


def headers_of(gtrid: str, traceparent: str = "") -> dict[str, str]:
    """Return the HTTP headers that ask the callee to take part in the transaction."""
    return {HTTP_GTRID: gtrid} | ({HTTP_TRACEPARENT: traceparent} if traceparent else {})


def gtrid_in(headers: Mapping[str, str]) -> str | None:
    """Return the gtrid that HTTP headers carry, for `client.join`; None if there is none or it is not one."""
    for name, value in headers.items():
        if name.lower() == HTTP_GTRID.lower():
            return value if is_valid_id(value) else None
    return None
