"""BranchCore: one database's part of a global transaction, without the I/O of the application's statements."""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence

from assent._core.effects import Answer, Core
from assent._core.outcome import DbError, Outcome, Verb, XaResult, statement_error, verb_error
from assent._core.postgres import PostgresSession
from assent._core.session import Session, State, WitnessTable
from assent._core.sql import may_only_read
from assent.errors import (
    AssentError,
    BranchEnded,
    BranchPoisoned,
    DatabaseFailed,
    Reason,
    SessionHoldsBranch,
    SessionInTransaction,
    make_error,
)
from assent.v1 import coordinator_service_pb2 as pb
from assent.xid import Xid


def check_resource(name: object) -> None:
    """Raise INVALID_FIELD for what cannot be the name of a resource; which there are the coordinator knows."""
    if not isinstance(name, str) or not name:
        why = f"a branch needs the name of its resource, as it was registered, not {name!r}"
        raise make_error(Reason.INVALID_FIELD, why, {"field": "resource"})


class Stage(enum.Enum):
    """How far a branch has come."""

    IDLE = enum.auto()
    """No statement yet: the database knows nothing of it."""
    ACTIVE = enum.auto()
    PREPARED = enum.auto()
    ELSEWHERE = enum.auto()
    """PREPARE let go of it, and somebody else, the coordinator's recovery, has finished it."""
    IN_DOUBT = enum.auto()
    """The connection was lost with PREPARE or the finishing statement on its way."""
    FINISHED = enum.auto()
    """Proven finished, or ended without having written."""


class BranchCore:
    """The state of a branch. One user at a time; branches of one transaction are independent until it ends."""

    def __init__(self, xid: Xid, resource: str, witness: WitnessTable | None, session: Session) -> None:
        self.xid = xid
        self.resource = resource
        self.witness = witness if session.engine == "mysql" else None
        self.session = session
        self._connection = session.wire.connection  # Its wrapper might let go of it.
        self.stage = Stage.IDLE
        self.poison: AssentError | None = None
        """The error that made it unable to commit."""
        self.unstarted: AssentError | None = None
        """While idle: the error of the last statement, which found nothing started to run in."""
        self.counts_as_written = False
        self.probed: bool | None = None
        """What its server said at the end when it was asked whether the branch has written."""
        self.voted = False
        """The coordinator may count on its vote: only the decision finishes it."""
        self.vote: pb.Vote | None = None
        self.told = False
        """The hooks know of its vote."""
        self.pid = os.getpid()
        self._was_in_transaction = session.wire.in_transaction()

    def _ids(self) -> dict[str, str]:
        return {"gtrid": self.xid.gtrid, "bqual": self.xid.bqual}

    def check_owner(self) -> None:
        """SESSION_HOLDS_BRANCH in a forked process: the connection, and what runs on it, is its parent's."""
        if self.pid != os.getpid():
            raise SessionHoldsBranch(
                f"branch '{self.xid.bqual}' of '{self.xid.gtrid}' belongs to process {self.pid}, and this one was "
                "forked off it: two processes must not speak on one connection. Connect anew here, and take part with "
                "client.join(gtrid)",
                metadata=self._ids(),
            )

    def check_usable(self) -> None:
        """Raise BRANCH_ENDED, BRANCH_POISONED or SESSION_HOLDS_BRANCH unless statements may run."""
        self.check_owner()
        if self.stage is not Stage.IDLE and self.stage is not Stage.ACTIVE:
            raise BranchEnded(
                f"branch '{self.xid.bqual}' of '{self.xid.gtrid}' has ended; begin a new global transaction",
                metadata=self._ids(),
            )
        if self.poison:
            error = BranchPoisoned(
                f"branch '{self.xid.bqual}' cannot commit any more after: {self.poison.message}; roll the global "
                "transaction back and begin a new one",
                metadata=self.poison.metadata | self._ids(),
            )
            raise error from self.poison
        if self.stage is Stage.IDLE and self.session.state is not State.NONE:
            self.unstarted = SessionHoldsBranch(
                "the session carries a branch already: a session runs one branch at a time, and must not be reused "
                "before that one is finished",
                metadata={"gtrid": self.session.xid.gtrid, "bqual": self.session.xid.bqual},
            )
            raise self.unstarted

    def note_sql(self, sql: str | bytes | None) -> None:
        """Take down what a started branch is about to run; None: nobody can see it."""
        self.probed = None
        if self.session.engine == "mysql":
            self.session.written = self.session.written or sql is None or not may_only_read(sql)
        elif sql is None:
            self.counts_as_written = True

    def start(self, sql: str | bytes | None) -> Core[None]:
        """Start it by itself. Raises what it could not be started for."""
        result = yield from self.session.start(self.xid, reads=sql is not None and may_only_read(sql))
        if error := self.take_start(result):
            raise error

    def start_statements(self, sql: str | bytes) -> list[str]:
        """Return what is to be sent in front of the first statement, in one message with it."""
        return self.session.start_statements(self.xid, reads=may_only_read(sql))

    def started(self, answer: Answer) -> AssentError | None:
        """Take the answer to `start_statements`."""
        return self.take_start(self.session.started(answer))

    def take_start(self, result: XaResult) -> AssentError | None:
        """Take the answer to START; return what it could not be started for."""
        if result.ok:
            self.stage = Stage.ACTIVE
            self.unstarted = None
            return None
        error = verb_error(Verb.START, result)
        if result.outcome is Outcome.OUTSIDE:
            # Nothing was started, so nothing is broken: the application may end its local transaction and try again.
            self.unstarted = error
        else:
            self.poison = error
        return error

    def after_success(self, tag: str) -> Core[None]:
        """Take a statement that succeeded. SESSION_RESET if it turns out not to have run in the branch."""
        error = yield from self.session.statement_done(tag)
        if not error.ok:
            self.poison = statement_error(error, "the statement failed")
            raise self.poison

    def after_failure(self, error: DbError, codes: Sequence[int], states: Sequence[str]) -> AssentError:
        """Take a statement that failed: it poisons the branch, unless the error is expected and the branch goes on."""
        self.session.statement_failed(error)
        failed = statement_error(error, "the statement failed")
        # A deadlock's victim and a lost connection are beyond any expectation: there is no branch left to go on with.
        goes_on = self.session.state is State.ACTIVE
        if not (goes_on and (error.code in codes or error.sqlstate in states)):
            self.poison = failed
        return failed

    def fail(self, why: BaseException) -> None:
        """Poison it for a reason of the application's. The coordinator stores no more of it than its kind."""
        if self.poison is None and isinstance(why, AssentError):
            self.poison = why
        elif self.poison is None:
            self.poison = DatabaseFailed(f"the branch was left by {type(why).__name__}")
            self.poison.__cause__ = why

    def forgive(self) -> bool:
        """Clear the poison, because ROLLBACK TO SAVEPOINT is next and undoes the statement behind it, and all after it.

        False: there is no branch left to go on with, and nothing has changed.
        """
        if self.stage is not Stage.ACTIVE or not self.session.revive():
            return False
        self.poison = None
        return True

    def interrupted(self, why: BaseException) -> None:
        """A statement was given up half-way (Ctrl-C, cancellation): the connection is out of step, and is closed."""
        self.session.shutdown()
        if self.poison is None:
            self.poison = statement_error(
                DbError(
                    -2, "", f"the statement was interrupted ({type(why).__name__}), and its connection closed", why
                ),
                "the statement failed",
            )

    def bypassed(self) -> AssentError | None:
        """Of a branch that has run nothing: return SESSION_IN_TRANSACTION if its connection has a transaction since.

        Then statements that were meant for the branch went to the connection itself, and nobody will commit them.
        """
        wire = self.session.wire
        if wire.lost or self._was_in_transaction is not False or not wire.in_transaction():
            return None
        return SessionInTransaction(
            f"branch '{self.xid.bqual}' on '{self.resource}' has run nothing, but a transaction has begun on its "
            "connection: run the statements with branch.execute or on branch.cursor(), not on the connection itself, "
            "and roll back what that has open",
            metadata=self._ids(),
        )

    def keep(self) -> Core[None]:
        """PostgreSQL: stand behind a savepoint, so that an expected error undoes the next statement alone."""
        assert isinstance(self.session, PostgresSession)
        error = yield from self.session.keep()
        if not error.ok:
            self.poison = statement_error(error, "the savepoint failed")
            raise self.poison

    def release(self, failed: bool) -> Core[None]:
        """PostgreSQL: the end of `keep`."""
        assert isinstance(self.session, PostgresSession)
        if self.session.lost:
            return
        yield from self.session.release(failed)
