"""What both clients do around one statement of the application's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from assent._core.branch import BranchCore, Stage
from assent._core.effects import Answer
from assent._core.outcome import DbError
from assent.errors import AssentError


@dataclass(frozen=True, slots=True)
class Expected:
    """Database errors that the application is ready for: they are raised and do not poison the branch."""

    codes: Sequence[int] = ()
    """MariaDB, MySQL: error numbers, e.g. 1062, duplicate key."""
    sqlstates: Sequence[str] = ()
    """Every engine: e.g. "23505", unique_violation, on PostgreSQL; "23000" on MariaDB."""

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self.codes or self.sqlstates)


NOTHING_EXPECTED = Expected()


def prefix_of(branch: BranchCore, sql: Any, buffered: bool, expected: Expected) -> list[str]:
    """Return the statements that start the branch and can ride in one message with the first statement.

    Empty: it has been started, or must be by itself: its driver or cursor takes one statement at a time, the statement
    is not text, or what undoes it alone must be inside the branch.
    """
    wire = branch.session.wire
    if branch.stage is not Stage.IDLE or expected or not buffered or not isinstance(sql, str):
        return []
    if not getattr(wire, "merges", False) or branch.session.refuse_start(branch.xid):
        return []
    branch.session._notice_reset()
    return [] if branch.session.lost else branch.start_statements(sql)


def start_answer(done: int, first_rows: list[tuple[Any, ...] | None], error: DbError | None) -> Answer:
    """Return what the first results of a merged statement say of START."""
    rows = [*first_rows, *[None] * (done - len(first_rows))]
    return Answer(rows=rows[:done], error=error or DbError())


def driver_error(error: AssentError) -> BaseException:
    """Return what a cursor raises: the driver's own exception if there is one, as DB-API programs expect."""
    return error.__cause__ or error


def joined(statements: Iterable[str], sql: str) -> str:
    """Return one message of all of them."""
    return ";".join([*statements, sql])
