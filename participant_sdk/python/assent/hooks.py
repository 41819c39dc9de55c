"""Hooks: what happens to global transactions in this process, as it happens.

Derive from `Hooks`, override what you want to know, and give an instance to the client. Hooks run on the caller's
thread (or its event loop; after `vote` on a thread of the client's): they must be quick, must not wait, and cannot
change anything. What one raises is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

logger = logging.getLogger("assent")


class Hooks:
    """Does nothing; derive from it."""

    def on_global_created(self, gtrid: str, sole_participant: bool) -> None:
        """A transaction has begun here. A sole participant's is on record only from its decision on."""

    def on_branch_created(self, gtrid: str, bqual: str, resource: str) -> None:
        """A branch was opened. Nothing has been sent to its database."""

    def on_branch_prepared(self, gtrid: str, bqual: str, vote: str) -> None:
        """A branch is ready to vote PREPARED, READ_ONLY or FAILED."""

    def on_voted(self, gtrid: str) -> None:
        """This process's votes, and perhaps the wish to commit, are about to be sent."""

    def on_decided(self, gtrid: str, decision: str) -> None:
        """This process has learnt the decision, COMMIT or ROLLBACK."""

    def on_branch_finished(self, gtrid: str, bqual: str, result: str) -> None:
        """A branch is proven COMMITTED or ROLLED_BACK on its own connection."""

    def on_outcome(self, gtrid: str, outcome: str, seconds: float) -> None:
        """It has ended for this process: COMMITTED, ROLLED_BACK or IN_DOUBT, so long after its begin."""


def all_of(hooks: Sequence[Hooks]) -> Hooks:
    """Return what calls all of them."""
    return HookList(list(hooks)) if hooks else Hooks()


class HookList(Hooks):
    """Calls several, and keeps their exceptions from the transaction."""

    def __init__(self, hooks: list[Hooks]) -> None:
        self._hooks = hooks

    def _each(self, call: Callable[[Hooks], None]) -> None:
        for hooks in self._hooks:
            try:
                call(hooks)
            except Exception:
                logger.exception("a hook failed")

    def __getattribute__(self, name: str) -> Any:
        """Turn every `on_…` into a call of all."""
        if not name.startswith("on_"):
            return super().__getattribute__(name)
        return lambda *args: self._each(lambda hooks: getattr(hooks, name)(*args))
