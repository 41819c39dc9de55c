"""Calls of gRPC for the main thread, made on another one.

Python runs signal handlers on the main thread, between any two steps of whatever runs there. What one of them raises
(Ctrl-C, Celery's soft time limit) may come while gRPC holds a lock, of the channel or of the whole process, which then
stays taken for ever: every later call of every thread would hang, whatever its timeout. So the main thread makes no
calls: it waits for somebody who does, and can be interrupted in that without harm.
"""

from __future__ import annotations

import contextvars
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_Errand = tuple[Callable[[], Any], "queue.SimpleQueue[Any]"]


class _Deputy:
    """A thread that does one thing after the other. It shares nothing but queues, which no interrupt can break."""

    def __init__(self) -> None:
        self._errands: queue.SimpleQueue[_Errand | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="assent-calls", daemon=True).start()

    def do(self, work: Callable[[], T]) -> T:
        """Wait for what `work`, which must not raise, returns there."""
        answers: queue.SimpleQueue[T] = queue.SimpleQueue()
        self._errands.put((work, answers))
        return answers.get()

    def dismiss(self) -> None:
        """Let its thread end, once it has finished what it is about."""
        self._errands.put(None)

    def _run(self) -> None:
        while errand := self._errands.get():
            work, answers = errand
            answers.put(work())
            del errand, work, answers  # They would live until the next one.


_deputy: _Deputy | None = None


def do(work: Callable[[], T]) -> T:
    """Run `work`, which must not raise, in the caller's context: the main thread's on another thread.

    If what a signal handler raises ends the wait for it, it goes on there, to its end, and nobody is told.
    """
    global _deputy
    if threading.current_thread() is not threading.main_thread():
        return work()
    try:
        deputy = _deputy = _deputy or _Deputy()
    except RuntimeError:  # The process is about to end, and no thread can be started any more.
        return work()
    context = contextvars.copy_context()
    try:
        return deputy.do(lambda: context.run(work))
    except BaseException:
        _deputy = None  # It may be busy for long.
        deputy.dismiss()
        raise


def _forget() -> None:
    global _deputy
    _deputy = None


os.register_at_fork(after_in_child=_forget)
