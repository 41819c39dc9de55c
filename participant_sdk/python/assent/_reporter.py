"""CompletionReporter: tells the coordinator how branches ended, in batches, on a thread of its own."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from assent._core.effects import Call
from assent._core.reporting import ATTEMPT, FLUSH_PATIENCE, LINGER, MAX_WAITING, PAUSE, ReportQueue
from assent.errors import AssentError
from assent.v1 import coordinator_service_pb2 as pb

logger = logging.getLogger("assent")


class CompletionReporter:
    """Thread-safe. A report that is lost (the process dies first) costs the coordinator a look at the database."""

    def __init__(self, call: Callable[[Call], Any]) -> None:
        self._call = call
        self._begin()

    def _begin(self) -> None:
        """Of this process: a fork has neither its parent's thread nor its reports."""
        self._owner = os.getpid()
        self._changed = threading.Condition()
        self._queue = ReportQueue()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def report(self, completions: Sequence[pb.Completion], awaited: bool) -> None:
        """Take them over; blocks only while MAX_WAITING wait already. `awaited`: see Report."""
        if self._owner != os.getpid():
            self._begin()
        with self._changed:
            while len(self._queue) >= MAX_WAITING:
                self._changed.wait()
            was_empty = not len(self._queue)
            self._queue.add(completions, awaited)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="assent-completions", daemon=True)
                self._thread.start()
            if was_empty or awaited:
                self._changed.notify_all()

    def flush(self, patience: float) -> bool:
        """Wait until everything reported so far has been answered; False if it was not."""
        if self._owner != os.getpid():
            self._begin()
        give_up = time.monotonic() + patience
        with self._changed:
            goal = self._queue.hurry()
            self._changed.notify_all()
            while self._queue.answered < goal and time.monotonic() < give_up:
                self._changed.wait(give_up - time.monotonic())
            return self._queue.answered >= goal

    def close(self) -> None:
        """Flush for some seconds, and end the thread."""
        if self._owner != os.getpid():
            return
        if not self.flush(FLUSH_PATIENCE):
            logger.warning("completions could not be reported; the coordinator will find them out at the databases")
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread:
            self._thread.join(ATTEMPT + 1)

    def _run(self) -> None:
        changed = self._changed
        while True:
            with changed:
                while not len(self._queue) and not self._stopping:
                    changed.wait()
                if self._stopping:
                    return
                if self._queue.may_linger:
                    changed.wait(LINGER)
                batch = self._queue.batch()
            answer: pb.CompletedResponse | AssentError
            try:
                answer = self._call(Call("Completed", batch, ATTEMPT))
            except AssentError as error:
                answer = error
            except Exception:  # The channel was closed under it: the client is going away.
                logger.debug("completions not reported", exc_info=True)
                return
            with changed:
                again = self._queue.take(batch, answer)
                changed.notify_all()
            if again:
                time.sleep(PAUSE)
