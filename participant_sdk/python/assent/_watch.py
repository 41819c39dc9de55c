"""What hooks remember of transactions on their way."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

MOST = 10_000
"""A process that has more of them on their way has left most of them to others, and is not told how they ended."""


class Remembered(Generic[T]):
    """A value for each gtrid, the latest MOST of them. Thread-safe."""

    def __init__(self, make: Callable[[str], T], forget: Callable[[T], None] = lambda value: None) -> None:
        self._make = make
        self._forget = forget
        self._lock = threading.Lock()
        self._values: OrderedDict[str, T] = OrderedDict()

    def get(self, gtrid: str) -> T:
        """Return it; one is made at the first time."""
        dropped = None
        with self._lock:
            value = self._values.get(gtrid)
            if value is None:
                value = self._values[gtrid] = self._make(gtrid)
                if len(self._values) > MOST:
                    _, dropped = self._values.popitem(last=False)
        if dropped is not None:
            self._forget(dropped)
        return value

    def peek(self, gtrid: str) -> T | None:
        """Return it; None if there is none."""
        with self._lock:
            return self._values.get(gtrid)

    def drop(self, gtrid: str) -> None:
        """Forget it."""
        with self._lock:
            value = self._values.pop(gtrid, None)
        if value is not None:
            self._forget(value)
