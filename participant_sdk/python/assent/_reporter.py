"""CompletionReporter: tells the coordinator how branches ended, in batches, on a thread of its own."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from assent import _deputy
from assent._core.effects import Call
from assent._core.reporting import ATTEMPT, FLUSH_PATIENCE, LINGER, MAX_WAITING, PAUSE, ReportQueue
from assent.errors import AssentError
from assent.v1 import coordinator_service_pb2 as pb

logger = logging.getLogger("assent")

_LOOK = 0.005
"""Seconds between two looks of `flush`."""


class _Bell:
    """An Event whose `ring` may be interrupted by what a signal handler raises: it leaves no lock taken behind it."""

    def __init__(self) -> None:
        self._rings: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        """Wake whoever waits, or comes to wait next."""
        if self._rings.empty():
            self._rings.put(None)

    def wait(self, seconds: float | None = None) -> None:
        """Wait until it rings, that long at most."""
        with suppress(queue.Empty):
            self._rings.get(timeout=seconds)

    def clear(self) -> None:
        """Forget what has rung."""
        with suppress(queue.Empty):
            while True:
                self._rings.get_nowait()


class CompletionReporter:
    """Thread-safe. A report that is lost (the process dies first) costs the coordinator a look at the database."""

    def __init__(self, call: Callable[[Call], Any]) -> None:
        self._call = call
        self._begin()

    def _begin(self) -> None:
        """Of this process: a fork has neither its parent's thread nor its reports."""
        self._owner = os.getpid()
        self._lock = threading.Lock()  # No Condition: what Ctrl-C interrupts in one may leave its lock taken.
        self._reported = _Bell()
        self._hurried = _Bell()
        self._queue = ReportQueue()
        self._stopping = False
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def _start(self) -> None:
        """Start the thread; not on the main thread, where what a signal handler raises would leave half a one."""
        with self._starting, suppress(RuntimeError):  # The process is about to end, and nobody reports any more.
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="assent-completions", daemon=True)
                thread.start()
                self._thread = thread

    def report(self, completions: Sequence[pb.Completion], awaited: bool) -> None:
        """Take them over; blocks only while MAX_WAITING wait already. `awaited`: see Report."""
        if self._owner != os.getpid():
            self._begin()
        while len(self._queue) >= MAX_WAITING:
            time.sleep(PAUSE)
        with self._lock:
            self._queue.add(completions, awaited)
        if self._thread is None:
            _deputy.do(self._start)
        self._reported.ring()
        if awaited:
            self._hurried.ring()

    def flush(self, patience: float) -> bool:
        """Wait until everything reported so far has been answered; False if it was not."""
        if self._owner != os.getpid():
            self._begin()
        give_up = time.monotonic() + patience
        with self._lock:
            goal = self._queue.hurry()
        if self._thread is None and goal:
            _deputy.do(self._start)
        self._reported.ring()  # Whoever reported may have been interrupted before he did.
        self._hurried.ring()
        while self._queue.answered < goal and time.monotonic() < give_up:
            time.sleep(_LOOK)
        return self._queue.answered >= goal

    def close(self) -> None:
        """Flush for some seconds, and end the thread."""
        if self._owner != os.getpid():
            return
        if not self.flush(FLUSH_PATIENCE):
            logger.warning("completions could not be reported; the coordinator will find them out at the databases")
        self._stopping = True
        self._reported.ring()
        if self._thread:
            self._thread.join(ATTEMPT + 1)

    def _run(self) -> None:
        while True:
            self._reported.wait()
            if self._queue.may_linger and not self._stopping:
                self._hurried.wait(LINGER)
            self._reported.clear()
            self._hurried.clear()
            while len(self._queue):
                if self._stopping:
                    return
                with self._lock:
                    batch = self._queue.batch()
                answer: pb.CompletedResponse | AssentError
                try:
                    answer = self._call(Call("Completed", batch, ATTEMPT))
                except AssentError as error:
                    answer = error
                except Exception:  # The channel was closed under it: the client is going away.
                    logger.debug("completions not reported", exc_info=True)
                    return
                with self._lock:
                    again = self._queue.take(batch, answer)
                if again:
                    time.sleep(PAUSE)
            if self._stopping:
                return
