"""Runs the core's generators, and does what they ask for, on the caller's thread."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from assent._coordinator import CoordinatorConnection
from assent._core.effects import Answer, Call, Core, Effect, Exchange, RenewReservation, Report, Sleep
from assent._core.reservation import Reservation
from assent._reporter import CompletionReporter

T = TypeVar("T")
logger = logging.getLogger("assent")

_pool_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def _threads() -> ThreadPoolExecutor:
    """For drivers that cannot send without waiting for the answer."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max_workers=32, thread_name_prefix="assent-branch")
        return _pool


def exchange(batches: Sequence[tuple[Any, Sequence[str]]]) -> list[Answer]:
    """Send to all, then read from all. If that is interrupted, all of these connections are closed: out of step."""
    try:
        for wire, statements in batches:
            wire.send(statements)
        blocking = [wire for wire, _ in batches if not wire.sends_ahead]
        if len(batches) == 1 or not blocking:
            return [wire.receive() for wire, _ in batches]
        elsewhere = {wire: _threads().submit(wire.receive) for wire in blocking[1:]}
        here = [blocking[0], *(wire for wire, _ in batches if wire.sends_ahead)]
        answers = {wire: wire.receive() for wire in here}
        answers |= {wire: future.result() for wire, future in elsewhere.items()}
        return [answers[wire] for wire, _ in batches]
    except BaseException:
        for wire, _ in batches:
            wire.shutdown()
        raise


class Runner:
    """Of one client. Thread-safe."""

    def __init__(
        self, connection: CoordinatorConnection, reporter: CompletionReporter, reservation: Reservation
    ) -> None:
        self._connection = connection
        self._reporter = reporter
        self._reservation = reservation
        self._renewing = threading.Lock()
        self._lock = threading.Lock()
        self._background: set[threading.Thread] = set()
        self._owner = os.getpid()

    def in_background(self, work: Callable[[], None]) -> None:
        """Run it on a thread of its own, which does not keep the process alive."""

        def run() -> None:
            try:
                work()
            except Exception:
                logger.exception("finishing branches in the background failed; they are left to the coordinator")
            finally:
                with self._lock:
                    self._background.discard(thread)

        thread = threading.Thread(target=run, name="assent-voted", daemon=True)
        with self._lock:
            if self._owner != os.getpid():  # A fork has none of its parent's threads.
                self._owner, self._background = os.getpid(), set()
            thread.start()
            self._background.add(thread)

    def wait_for_background(self, patience: float) -> None:
        """Wait until nothing runs there, that long at most."""
        give_up = time.monotonic() + patience
        with self._lock:
            running = list(self._background) if self._owner == os.getpid() else []
        for thread in running:
            thread.join(max(0.0, give_up - time.monotonic()))

    def run(self, core: Core[T]) -> T:
        """Run a piece of the protocol to its end."""
        try:
            effect = next(core)
            while True:
                try:
                    result = self._do(effect)
                except BaseException as error:
                    effect = core.throw(error)
                else:
                    effect = core.send(result)
        except StopIteration as end:
            value: T = end.value
            return value

    def _do(self, effect: Effect) -> Any:
        if isinstance(effect, Exchange):
            return exchange(effect.batches)
        if isinstance(effect, Call):
            return self._connection.call(effect)
        if isinstance(effect, Report):
            return self._reporter.report(effect.completions, effect.awaited)
        if isinstance(effect, RenewReservation):
            with self._renewing:
                if not self._reservation.is_current(effect.resource):
                    self.run(self._reservation.renew(effect.resource, effect.patience))
            return None
        assert isinstance(effect, Sleep)
        return time.sleep(effect.seconds)
