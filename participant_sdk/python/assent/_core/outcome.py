"""What a database's answer to a verb of two-phase commit proves, in words that are the same for every engine.

The same as resource_manager/xa_outcome.h and postgres_session.cc; docs/engines.md has the table.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from assent.errors import AssentError, Reason, make_error

SESSION_RESET_CODE = -1
"""In DbError.code: the connection is not the session any more that a branch was started on."""
CONNECTION_LOST_CODE = -2
"""In DbError.code: the connection is lost, where the driver has no number that says so."""


@dataclass(slots=True)
class DbError:
    """A database's own error, or one that was found before anything was sent (code 0 and a message).

    The message may quote row contents: it is for the application that asked, not for logs.
    """

    code: int = 0
    sqlstate: str = ""
    message: str = ""
    exception: BaseException | None = None

    @property
    def ok(self) -> bool:
        """Tell whether there is no error."""
        return self.code == 0 and not self.message


class Verb(enum.Enum):
    """The verbs of two-phase commit."""

    START = "XA START"
    END = "XA END"
    PREPARE = "XA PREPARE"
    COMMIT = "XA COMMIT"
    COMMIT_ONE_PHASE = "XA COMMIT ONE PHASE"
    ROLLBACK = "XA ROLLBACK"


class Outcome(enum.Enum):
    """What an answer proves; xa_outcome.h says more of each."""

    OK = enum.auto()
    ROLLED_BACK = enum.auto()
    UNKNOWN_XID = enum.auto()
    """After ROLLBACK: finished. After COMMIT it proves nothing."""
    DUPLICATE_XID = enum.auto()
    WRONG_STATE = enum.auto()
    OUTSIDE = enum.auto()
    INVALID = enum.auto()
    NOT_SUPPORTED = enum.auto()
    RETRY_LATER = enum.auto()
    CONNECTION_LOST = enum.auto()
    SESSION_RESET = enum.auto()
    ERROR = enum.auto()


class Step(enum.Enum):
    """The part of a batch that failed; what came before it was done, what comes after it did not run."""

    NONE = enum.auto()
    REFUSED = enum.auto()
    """Nothing was sent."""
    GUARD = enum.auto()
    START = enum.auto()
    WITNESS = enum.auto()
    END = enum.auto()
    PREPARE = enum.auto()
    COMMIT = enum.auto()
    ROLLBACK = enum.auto()


@dataclass(slots=True)
class XaResult:
    """The answer to a verb or a batch of verbs."""

    outcome: Outcome = Outcome.OK
    failed_step: Step = Step.NONE
    error: DbError | None = None
    sent: bool = True
    """False: the server certainly saw nothing of it."""

    @property
    def ok(self) -> bool:
        """Tell whether all of it was done."""
        return self.outcome is Outcome.OK

    @property
    def db_error(self) -> DbError:
        """The error; one that is ok if there is none."""
        return self.error or DbError()


# Connector's own, and the server's farewells (killed, shutdown).
_LOST_RANGES = (range(2000, 3000), range(5000, 5100), range(1152, 1162))
_LOST_CODES = frozenset({CONNECTION_LOST_CODE, 1053, 1184, 1927})


def is_connection_lost(code: int) -> bool:
    """Tell whether a connection cannot be used any more after this error."""
    return code in _LOST_CODES or any(code in codes for codes in _LOST_RANGES)


_MYSQL: dict[int, Outcome] = {
    1397: Outcome.UNKNOWN_XID,
    1440: Outcome.DUPLICATE_XID,
    1399: Outcome.WRONG_STATE,
    1400: Outcome.OUTSIDE,
    1398: Outcome.INVALID,
    1064: Outcome.INVALID,
    1235: Outcome.NOT_SUPPORTED,
}
_RB_CODES = frozenset({1402, 1613, 1614})
_INTERRUPTED = frozenset({1205, 1317, 1969})
_READ_ONLY_SERVER = 1290


def outcome_of(verb: Verb, code: int) -> Outcome:
    """Return what MariaDB's or MySQL's error number proves after the verb; 0 is OK."""
    if code == 0:
        return Outcome.OK
    if is_connection_lost(code):
        return Outcome.CONNECTION_LOST
    if code == SESSION_RESET_CODE:
        return Outcome.SESSION_RESET
    if code in _RB_CODES:
        # MySQL's word at XA END for what MariaDB calls a wrong state: the session still has the branch.
        return Outcome.WRONG_STATE if verb is Verb.END else Outcome.ROLLED_BACK
    if code in _MYSQL:
        return _MYSQL[code]
    finishes = verb in (Verb.COMMIT, Verb.ROLLBACK)
    if code == _READ_ONLY_SERVER:
        return Outcome.RETRY_LATER if finishes else Outcome.ERROR
    if code in _INTERRUPTED:  # Waiting for the commit lock ended without it.
        if finishes:
            return Outcome.RETRY_LATER
        return Outcome.ROLLED_BACK if verb in (Verb.PREPARE, Verb.COMMIT_ONE_PHASE) else Outcome.ERROR
    return Outcome.ERROR


_PG_LATER = frozenset({"55000", "25006", "57014", "55P03"})


def postgres_outcome_of(verb: Verb, error: DbError) -> Outcome:
    """Return what PostgreSQL's SQLSTATE proves after the verb."""
    if error.ok:
        return Outcome.OK
    if is_connection_lost(error.code):
        return Outcome.CONNECTION_LOST
    if error.code == SESSION_RESET_CODE:
        return Outcome.SESSION_RESET
    state = error.sqlstate
    if state == "25P02":
        return Outcome.WRONG_STATE
    if verb is Verb.PREPARE:  # Whatever it fails for, the transaction is rolled back.
        return Outcome.DUPLICATE_XID if state == "42710" else Outcome.ROLLED_BACK
    if verb not in (Verb.COMMIT, Verb.ROLLBACK):
        return Outcome.ERROR
    if state == "42704":
        return Outcome.UNKNOWN_XID
    if state == "25001":
        return Outcome.OUTSIDE
    return Outcome.RETRY_LATER if state in _PG_LATER or state.startswith("53") else Outcome.ERROR


def describe(doing: str, error: DbError) -> str:
    """Return the error in one sentence that begins with what was being done."""
    if error.code > 0:
        return f"{doing}: the database answers {error.code} ({error.sqlstate}): {error.message}"
    if not error.sqlstate:
        return f"{doing}: {error.message}"
    return f"{doing}: the database answers {error.sqlstate}: {error.message}"


def metadata_of(error: DbError) -> dict[str, str]:
    """Return `error_code` and `sqlstate`, as far as they are the database's."""
    metadata = {}
    if error.code > 0:
        metadata["error_code"] = str(error.code)
    if error.sqlstate:
        metadata["sqlstate"] = error.sqlstate
    return metadata


def statement_error(error: DbError, doing: str) -> AssentError:
    """Return the error of a statement: DATABASE_UNREACHABLE, SESSION_RESET or DATABASE_ERROR."""
    reason = Reason.DATABASE_ERROR
    if is_connection_lost(error.code):
        reason = Reason.DATABASE_UNREACHABLE
    elif error.code == SESSION_RESET_CODE:
        reason = Reason.SESSION_RESET
    return make_error(reason, describe(doing, error) + _hint_at(error), metadata_of(error), error.exception)


def _hint_at(error: DbError) -> str:
    """What to do about errors that people meet when they are new to branches."""
    if error.code == 1399:
        return (
            ". A branch refuses BEGIN, COMMIT, ROLLBACK and every statement with an implicit commit (DDL): leave it "
            "out of the branch"
        )
    return ". Leave it out of the branch, or do it on another connection" if error.sqlstate == "0A000" else ""


def verb_error(verb: Verb, result: XaResult) -> AssentError:
    """Return the error of a verb, with the more precise reasons where there are some; metadata also `outcome`."""
    error = result.db_error
    metadata = metadata_of(error) | {"outcome": result.outcome.name}
    text = describe(verb.value, error)
    reason = {
        Outcome.OUTSIDE: Reason.SESSION_IN_TRANSACTION,
        Outcome.NOT_SUPPORTED: Reason.XA_NOT_SUPPORTED,
        Outcome.SESSION_RESET: Reason.SESSION_RESET,
        Outcome.CONNECTION_LOST: Reason.DATABASE_UNREACHABLE,
    }.get(result.outcome, Reason.DATABASE_ERROR)
    if result.outcome is Outcome.OUTSIDE:
        text += (
            ". The session has a transaction or table locks of its own: commit, roll back or UNLOCK TABLES before a "
            "branch starts on it, or use another session. (With autocommit off every statement, also a SELECT, opens "
            "one: switch it on, or commit first)"
        )
    if result.outcome is Outcome.NOT_SUPPORTED:
        text += ". This server cannot run XA branches (Galera cannot)"
    return make_error(reason, text, metadata, error.exception)
