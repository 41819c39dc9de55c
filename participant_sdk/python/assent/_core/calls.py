"""When a call to the coordinator is repeated, where, and when it is given up: coordinator_connection.cc, without I/O.

Every call of the API is idempotent, so a repetition is always safe, at whichever instance of the coordinator: they
share what they know.
"""

from __future__ import annotations

import logging
import random
import threading
from dataclasses import dataclass
from typing import Any

from assent.errors import AssentError, Code, CoordinatorUnreachable, Reason, from_rpc_status, is_retryable, make_error
from assent.v1 import coordinator_service_pb2 as pb
from assent.v1 import global_pb2 as gpb

logger = logging.getLogger("assent")

ATTEMPT = 20.0
"""Seconds of one attempt; a waiting call answers well before (the server's limit for one wait is 60 s)."""
ATTEMPT_OF_SEVERAL = 2.0
"""The same if there is somebody else to ask: an instance that hangs is left after so long."""
_LAST_LOOK = 0.1
_FIRST_PAUSE = 0.01
_MAX_PAUSE = 1.0

_SCHEMES = frozenset({"dns", "ipv4", "ipv6", "unix", "passthrough", "xds"})

CHANNEL_OPTIONS = (
    # A restarting coordinator is away for a second: look for it often.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_retries", 0),  # CallLoop is the one that repeats.
    ("grpc.use_local_subchannel_pool", 1),
    # A connection that something in between has forgotten without a word is noticed, and made anew. No measuring of
    # bandwidth: while such a ping is out, which may be for a minute, that look would not be taken.
    ("grpc.keepalive_time_ms", 15000),
    ("grpc.keepalive_timeout_ms", 10000),
    ("grpc.http2.ping_timeout_ms", 10000),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_time_between_pings_ms", 15000),
)


def is_away(error: AssentError) -> bool:
    """Tell whether this instance does not answer, or has nothing to answer with: another one may."""
    return error.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED)


def says_away(response: Any) -> bool:
    """Tell whether the instance that answers has nothing to answer with: it then says so of each completion."""
    first = response.results[0] if isinstance(response, pb.CompletedResponse) and response.results else None
    return first is not None and first.HasField("error") and is_away(from_rpc_status(first.error))


def may_repeat(error: AssentError) -> bool:
    """An attempt that ran out of time, or that the transport cut off, says nothing about the call."""
    return is_retryable(error) or error.code in (Code.DEADLINE_EXCEEDED, Code.CANCELLED)


def is_wait_over(wait: pb.Wait, status: gpb.GlobalStatus) -> bool:
    """Tell whether what was waited for has come."""
    if wait == pb.WAIT_NONE:
        return True
    if wait == pb.WAIT_APPLIED:
        return status.outcome in (gpb.OUTCOME_COMMITTED, gpb.OUTCOME_ROLLED_BACK) or status.state in (
            gpb.Global.STATE_HEURISTIC,
            gpb.Global.STATE_HEURISTIC_CLOSED,
        )
    return status.decision != gpb.DECISION_UNSPECIFIED


def _is_address(address: str) -> bool:
    """Tell whether it is host:port, or of one of gRPC's schemes."""
    scheme, _, rest = address.partition(":")
    if scheme in _SCHEMES and rest and not rest.isdigit():  # Else a host of that name.
        return True
    host, _, port = address.rpartition(":")
    is_host = host.startswith("[") and host.endswith("]") if ":" in host else bool(host) and "/" not in host
    return is_host and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16


class Instances:
    """The instances of the coordinator, and the one that calls go to. Thread-safe."""

    def __init__(self, addresses: str) -> None:
        """Read them. INVALID_FIELD for what cannot be an address: the first call would wait for it in vain."""
        parts = [part.strip() for part in addresses.split(",")]
        self.addresses = list(dict.fromkeys(part for part in parts if part))
        bad = next((address for address in self.addresses if not _is_address(address)), "")
        if bad or not self.addresses:
            raise make_error(
                Reason.INVALID_FIELD,
                f"'{bad}' is no address of a coordinator: give host:port (an IPv6 address in brackets), or unix:path; "
                "several, separated by commas, for several instances",
                {"field": "addresses"},
            )
        self._lock = threading.Lock()
        self._current = random.SystemRandom().randrange(len(self.addresses))

    @property
    def current(self) -> int:
        """The index of the instance that the next call goes to."""
        return self._current

    def leave(self, instance: int) -> None:
        """From now on calls go to the next one, unless they have left this one already."""
        with self._lock:
            if self._current == instance:
                self._current = (instance + 1) % len(self.addresses)


@dataclass(slots=True)
class Attempt:
    """One attempt of a call."""

    instance: int
    timeout: float
    wait_for_ready: bool


_WORTH_A_WORD = 5.0
"""Whoever would wait longer is told so in the log."""


class CallLoop:
    """The attempts of one call."""

    def __init__(self, instances: Instances, give_up: float) -> None:
        self._instances = instances
        self._give_up = give_up
        self._alone = len(instances.addresses) == 1
        self._pause = _FIRST_PAUSE
        self._attempts = 0
        self._last_look = False
        self._instance = 0

    def next(self, now: float) -> Attempt:
        """Return what to do now."""
        self._attempts += 1
        self._instance = self._instances.current
        most = ATTEMPT if self._alone else ATTEMPT_OF_SEVERAL
        timeout = _LAST_LOOK if self._last_look else max(0.0, min(self._give_up - now, most))
        # A call that waits for the connection is made when it comes up; but only one that does not wait is told why
        # there is none, and can go elsewhere.
        return Attempt(self._instance, timeout, self._alone and not self._last_look)

    def failed(self, error: AssentError, now: float) -> float:
        """Return how long to pause before the next attempt; or raise what the caller is told."""
        if not may_repeat(error):
            raise error
        if is_away(error):
            self._instances.leave(self._instance)
        if self._attempts == 1 and self._give_up - now > _WORTH_A_WORD:
            logger.warning("the coordinator does not answer (%s); asking for %.0f s more", error, self._give_up - now)
        count = len(self._instances.addresses)
        # The others are asked at once; after that, half the pause to all of it, so that callers do not come together.
        wait = 0.0 if self._attempts < count else self._pause * random.uniform(0.5, 1.0)
        if now + wait >= self._give_up:
            if self._alone and error.code is Code.DEADLINE_EXCEEDED and not self._last_look:
                self._last_look = True
                return 0.0
            addresses = ",".join(self._instances.addresses)
            raise CoordinatorUnreachable(
                f"the coordinator at {addresses} does not answer: {error.message}; whether the call had its effect is "
                "not known",
                metadata={"address": addresses, "last_error": error.message},
            ) from error
        if wait:
            self._pause = min(self._pause * 2, _MAX_PAUSE / count)
        return wait


RESPONSES: dict[str, tuple[type[Any], type[Any]]] = {
    name: (getattr(pb, f"{name}Request"), getattr(pb, f"{name}Response"))
    for name in (
        "CreateGlobal",
        "CreateBranches",
        "Prepared",
        "Finalize",
        "Completed",
        "ReserveGtrids",
        "GetGlobal",
        "ListGlobals",
        "ListInDoubt",
        "Recover",
    )
}
SERVICE = "/assent.v1.CoordinatorService/"
