"""A branch under a framework that has transactions of its own: what both sides may do with the connection.

Shared by the integrations. A statement's error poisons the branch as always; but frameworks let programs go on after an
error if they roll back to a savepoint that was set before it, and that undoes all that the error could have left half
done: then the branch goes on, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from assent.client import Branch, BranchCursor
from assent.errors import AssentError, BranchPoisoned, InvalidRequest, Reason, SessionHoldsBranch

T = TypeVar("T")

_BLANK = r"(?:\s|--[^\n]*\n|/\*(?![!M]).*?\*/)*"
_SAVEPOINT = re.compile(
    rf"{_BLANK}(?:(?P<set>SAVEPOINT)|(?P<undo>ROLLBACK\s+TO(?:\s+SAVEPOINT)?)|RELEASE(?:\s+SAVEPOINT)?)\s+"
    r"(?P<name>\S+?)\s*;?\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
_ENDS = re.compile(
    rf"{_BLANK}(?P<verb>COMMIT|ROLLBACK|ABORT|BEGIN(?!\s+NOT\s+ATOMIC)|END|START\s+TRANSACTION|PREPARE\s+TRANSACTION|XA)\b",
    re.IGNORECASE | re.DOTALL,
)


class Guard:
    """Of one branch: makes the cursors that its framework gets, and knows its savepoints."""

    def __init__(self, branch: Branch) -> None:
        self.branch = branch
        self._names: list[str] = []
        self._undoable: tuple[int, AssentError] | None = None
        """The error that poisoned the branch, and how many savepoints were set then."""

    def refusal(self, what: str) -> SessionHoldsBranch:
        """Return the error of what must not be done to the connection of a branch."""
        gtrid, bqual = self.branch.xid
        return SessionHoldsBranch(
            f"{what} is refused: the connection runs branch '{bqual}' of global transaction '{gtrid}', which ends with "
            "that transaction and not before. Leave the transaction's block to commit; let an exception leave it, or "
            "call its rollback(), to roll back",
            metadata={"gtrid": gtrid, "bqual": bqual},
        )

    def roll_back(self, what: str) -> None:
        """Poison the branch because the framework or the application has called for a rollback; sends nothing."""
        if self.branch.poison is None:
            gtrid, bqual = self.branch.xid
            self.branch.fail(
                BranchPoisoned(
                    f"{what} was called on the connection of branch '{bqual}': the global transaction can only be "
                    "rolled back now",
                    metadata={"gtrid": gtrid, "bqual": bqual},
                )
            )

    def cursor(self, cursor: Any) -> GuardedCursor:
        """Return a cursor of the driver's whose statements run in the branch."""
        return GuardedCursor(self, cursor)

    def run(self, sql: Any, statement: Callable[[], T]) -> T:
        """Run a statement, which may be one on savepoints."""
        text = sql if isinstance(sql, str) else ""
        savepoint = _SAVEPOINT.match(text)
        if savepoint is None and (ends := _ENDS.match(text)):
            verb = ends["verb"].upper()
            if verb in ("ROLLBACK", "ABORT"):
                self.roll_back(f"the statement {verb}")
            raise self.refusal(f"the statement {verb}")
        taken_back = savepoint["name"] if savepoint and savepoint["undo"] else None
        if taken_back:
            self._take_back(taken_back)
        was_poisoned = self.branch.poison is not None
        try:
            result = statement()
        except BaseException:
            poison = self.branch.poison
            if poison and not was_poisoned and self._names and not taken_back:
                self._undoable = (len(self._names), poison)
            raise
        if savepoint:
            self._note(savepoint["name"], is_set=bool(savepoint["set"]), stays=bool(taken_back))
        return result

    def _index(self, name: str) -> int:
        """Of the latest of that name, as the databases count; -1: there is none."""
        return max((index for index, known in enumerate(self._names) if known == name), default=-1)

    def _take_back(self, name: str) -> None:
        if self._undoable is None or self.branch.poison is not self._undoable[1]:
            return
        if 0 <= self._index(name) < self._undoable[0] and self.branch._core.forgive():
            self._undoable = None

    def _note(self, name: str, is_set: bool, stays: bool) -> None:
        if is_set:
            self._names.append(name)
        elif (index := self._index(name)) >= 0:
            del self._names[index + stays :]


class GuardedCursor(BranchCursor):
    """See Guard. Also an error while rows are fetched poisons the branch."""

    def __init__(self, guard: Guard, cursor: Any) -> None:
        super().__init__(guard.branch, cursor)
        self._guard = guard

    def _run(self, sql: Any, call: Callable[[Any], T], buffered: bool) -> T:
        run = super()._run
        return self._guard.run(sql, lambda: run(sql, call, buffered))

    def _fetch(self, fetch: Callable[[], T]) -> T:
        try:
            return fetch()
        except StopIteration:
            raise
        except BaseException as error:
            self._branch.fail(error)
            raise

    def fetchone(self) -> Any:
        """See DB-API."""
        return self._fetch(self._cursor.fetchone)

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        """See DB-API."""
        return self._fetch(lambda: self._cursor.fetchmany(*args, **kwargs))

    def fetchall(self) -> Any:
        """See DB-API."""
        return self._fetch(self._cursor.fetchall)

    def nextset(self) -> Any:
        """See DB-API."""
        return self._fetch(self._cursor.nextset)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the rows."""
        rows = iter(self._cursor)
        while True:
            try:
                row = self._fetch(lambda: next(rows))
            except StopIteration:
                return
            yield row


def refuse_driver_isolation(connection: Any, how: str) -> None:
    """INVALID_FIELD if Psycopg is to set how transactions begin: it does in its own BEGIN, which a branch has not."""
    names = [
        name for name in ("isolation_level", "read_only", "deferrable") if getattr(connection, name, None) is not None
    ]
    if type(connection).__module__.partition(".")[0] == "psycopg" and names:
        raise InvalidRequest(
            f"{names[0]} is set on the connection, where only transactions that the driver itself begins have it, "
            f"and a branch would not: set {how}",
            reason=Reason.INVALID_FIELD,
            metadata={"field": names[0]},
        )
