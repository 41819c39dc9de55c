"""The sync client: Client, Transaction, Branch.

    client = assent.Client("assentd-1:7411,assentd-2:7411")
    with client.transaction(sole_participant=True) as tx:
        orders = tx.branch("orders", orders_connection)
        payments = tx.branch("payments", payments_connection)
        orders.execute("INSERT INTO orders VALUES (%s, %s)", (1, "laptop"))
        payments.execute("UPDATE accounts SET balance = balance - %s WHERE id = %s", (800, 1))

Leaving the block commits, on both servers or on none; an exception rolls back. There are three outcomes, and no fourth:
no exception (committed, proven on every branch), `Aborted` (rolled back: do it again) and `OutcomeInDoubt`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, TypeVar

from assent import propagation
from assent._coordinator import CoordinatorConnection
from assent._core import begin as begin_core
from assent._core.branch import BranchCore, Stage, check_resource
from assent._core.effects import Call, Core
from assent._core.outcome import DbError
from assent._core.reporting import FLUSH_PATIENCE
from assent._core.reservation import Reservation
from assent._core.session import Session
from assent._core.statement import NOTHING_EXPECTED, Expected, driver_error, joined, prefix_of, start_answer
from assent._core.transaction import TransactionCore
from assent._drivers import registry
from assent._reporter import CompletionReporter
from assent._runner import Runner
from assent.errors import AssentError, DatabaseFailed, SessionHoldsBranch
from assent.hooks import all_of
from assent.options import BeginOptions, ClientOptions, DecisionPolicy, TransactionOutcome
from assent.v1 import coordinator_service_pb2 as pb
from assent.xid import Xid, check_gtrid

T = TypeVar("T")
logger = logging.getLogger("assent")


class Client:
    """The way in. Thread-safe; one for a process is enough. Connects at the first call, also in a forked process.

    `addresses`: host:port of assentd, or of several instances that share a store, separated by commas. It begins with
    any of them, stays with the one that works, and goes on to the next when that does not answer.
    """

    def __init__(self, addresses: str | Sequence[str], options: ClientOptions | None = None) -> None:
        self.options = options or ClientOptions()
        text = addresses if isinstance(addresses, str) else ",".join(addresses)
        self._hooks = all_of(self.options.hooks)
        self._connection = CoordinatorConnection(text, self.options.credentials)
        self._reservation = Reservation()
        self._reporter = CompletionReporter(self._connection.call)
        self._runner = Runner(self._connection, self._reporter, self._reservation)

    def transaction(
        self,
        *,
        sole_participant: bool = False,
        one_phase_commit: bool = True,
        timeout: float = 0.0,
        gtrid: str = "",
        policy: DecisionPolicy = DecisionPolicy.ON_FINALIZE,
        expected_branches: int = 0,
        resources: Sequence[str] = (),
    ) -> Transaction:
        """Begin a global transaction; see BeginOptions for what the options promise.

        Errors: the coordinator's, COORDINATOR_UNREACHABLE after `options.call_patience`, INVALID_FIELD.
        """
        wanted = BeginOptions(
            sole_participant=sole_participant,
            one_phase_commit=one_phase_commit,
            timeout=timeout,
            gtrid=gtrid,
            policy=policy,
            expected_branches=expected_branches,
            resources=resources,
        )
        core = self._runner.run(begin_core.begin(self.options, self._hooks, self._reservation, wanted))
        return Transaction(core, self._runner)

    begin = transaction

    def join(self, gtrid: str) -> Transaction:
        """Take part in a transaction that another process began.

        Asks nobody: opening the first branch does. Leaving its block prepares, votes, and waits for the decision.
        """
        return Transaction(begin_core.join(self.options, self._hooks, self._reservation, gtrid), self._runner)

    def take_part(self, gtrid: str) -> Transaction:
        """Take part for the time of one handler, which a caller that carries a transaction waits for.

        Leaving the block votes as `Transaction.vote` does, if anything was done in it here, or tried. An exception that
        leaves it rolls the transaction back, and goes on as it was.
        """
        core = begin_core.take_part(self.options, self._hooks, self._reservation, gtrid)
        return Transaction(core, self._runner)

    def get_global(self, gtrid: str) -> pb.GetGlobalResponse:
        """Return a transaction with all its branches, as the coordinator knows it. GLOBAL_NOT_FOUND."""
        if error := check_gtrid(gtrid):
            raise error
        request = pb.GetGlobalRequest(gtrid=gtrid)
        response: pb.GetGlobalResponse = self._connection.call(Call("GetGlobal", request, self.options.call_patience))
        return response

    def flush(self, patience: float = 30.0) -> bool:
        """Wait until the coordinator has been told how all finished branches ended; False if it was not in time."""
        return self._reporter.flush(patience)

    @property
    def calls_sent(self) -> int:
        """Calls sent to the coordinator so far, repetitions included."""
        return self._connection.attempts

    @property
    def current_address(self) -> str:
        """The instance that the next call goes to."""
        return self._connection.instances.addresses[self._connection.instances.current]

    def close(self) -> None:
        """Disconnect. No transaction may be open.

        What `vote` has left to the background is waited for some seconds, and what is to be reported as long. Branches
        that still wait for their decision then are left to the coordinator, and their connections closed.
        """
        self._runner.wait_for_background(FLUSH_PATIENCE)
        self._reservation.close()
        self._reporter.close()
        self._connection.close()
        self._runner.wait_for_background(FLUSH_PATIENCE)  # To close their connections.

    def __enter__(self) -> Client:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


class Transaction:
    """A global transaction as one process sees it. One thread at a time; its branches may be used by several.

    As a context manager: inside the block it is `assent.current_transaction()`; leaving it commits (a joined one:
    prepares and votes); an exception rolls back and goes on as it was. If it turns out that it is not rolled back, the
    block is left by OutcomeInDoubt or GlobalCommitted, with that exception as its cause. Whatever happens, no
    connection is left with a prepared branch on it: what cannot be finished is closed and left to the coordinator.
    """

    def __init__(self, core: TransactionCore, runner: Runner) -> None:
        self._core = core
        self._runner = runner
        self._branches: list[Branch] = []
        self._ending = threading.Lock()
        self._outer: Any = None
        self._at_end = ExitStack()
        """What is to be done once it needs its connections no more."""

    @property
    def gtrid(self) -> str:
        """Its id; hand it to other processes for `Client.join`."""
        return self._core.gtrid

    @property
    def outcome(self) -> TransactionOutcome:
        """COMMITTED, ROLLED_BACK or IN_DOUBT as far as this process knows."""
        return self._core.outcome

    @property
    def is_sole(self) -> bool:
        """Tell whether it was begun with sole_participant, so that nobody can join it."""
        return self._core.is_sole

    def branch(self, resource: str, connection: Any, *, release: Callable[[Any], object] | None = None) -> Branch:
        """Make a branch on a registered resource that runs over `connection`, a DB-API connection to its server.

        No SQL is sent before the first statement. Until the transaction has ended the connection is its branch's: it
        must not be reset, given back to its pool or closed. When that is over `release` is called with it (after `vote`
        on another thread), or at once if this call fails. What could not be finished on it is closed by then.

        Errors: SESSION_HOLDS_BRANCH if it carries a branch already; WRONG_SERVER; BRANCH_ENDED once prepare, commit,
        vote or rollback was called; INVALID_FIELD for a driver that is not known; the coordinator's
        (RESOURCE_NOT_FOUND, GLOBAL_ROLLED_BACK, …). After an error it may be tried again; while a resource's last try
        has failed, commit and prepare roll back.
        """
        try:
            session = self._session_of(resource, connection)
            core = self._runner.run(self._core.open_branch(resource, session))
        except BaseException:
            if release:
                self._release(connection, release)
            raise
        if release:
            self._at_end.callback(self._release, connection, release)
        branch = Branch(core, self._runner, connection)
        self._branches.append(branch)
        return branch

    def _session_of(self, resource: str, connection: Any) -> Session:
        try:
            check_resource(resource)
            session, is_new = registry.session_of(connection, asynchronous=False)
            if is_new:
                try:
                    self._runner.run(session.set_up())
                except BaseException:
                    registry.forget(connection)
                    raise
        except AssentError as error:
            self._core.refuse(resource, error)
            raise
        return session

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Make sure that no other thread is in the middle of a statement."""
        taken: list[Branch] = []
        try:
            for branch in self._branches:
                branch._take()
                taken.append(branch)
            yield
        finally:
            for branch in taken:
                branch._lock.release()

    def _end(self, end: Core[bool | None]) -> None:
        """Run an end of it: one at a time."""
        with self._ending, self._exclusively():
            if self._runner.run(end):
                self._runner.in_background(self._finish_voted)
                self._core.hand_over()

    def commit(self) -> None:
        """Prepare this process's branches in parallel, ask for COMMIT, and commit them in parallel.

        Returns: committed, proven on every branch. BRANCHES_NOT_PREPARED if another process's branch has not voted yet:
        commit may be called again, as after OUTCOME_IN_DOUBT because the coordinator was away. Otherwise repeating it
        says the same. `Aborted`: rolled back. OUTCOME_IN_DOUBT: neither, as far as anybody may say.
        """
        self._end(self._core.commit())

    def prepare(self) -> None:
        """For a worker that joined: prepare, vote, wait for the decision, and finish on the same connections.

        Returns: decided COMMIT, and committed on every branch of this process.
        """
        self._end(self._core.prepare())

    def vote(self) -> None:
        """For a worker that must answer before the decision, like a handler of a call that carries the transaction.

        Prepares this process's branches and votes. Returns: the votes count, and the initiator may commit. The decision
        is awaited, and the branches finished on their connections, in the background; `prepare` waits for that and says
        how it ended. Errors as in `prepare`.
        """
        self._end(self._core.vote())

    def _finish_voted(self) -> None:
        try:
            verdict = self._runner.run(self._core.decision())
            with self._ending:
                self._runner.run(self._core.finish_voted(verdict))
        finally:
            self._core.abandon()
            self._let_go()

    def rollback(self, reason: str = "") -> None:
        """Roll this process's branches back at once and everybody else's through the coordinator.

        Returns: ROLLBACK is decided. GLOBAL_COMMITTED if COMMIT had been decided before: then they have been committed.
        """
        self._end(self._core.rollback(reason))

    def leave(self) -> None:
        """Leave it as it is: the end of the block neither commits nor rolls back.

        For an initiator whose workers decide by WHEN_ALL_PREPARED.
        """
        self._core.leave()

    def close(self) -> None:
        """End its scope: without a decision it is rolled back. Idempotent; never raises what rolling back met."""
        if self._core.is_handed_over:
            return  # The background ends it.
        try:
            self._runner.run(self._core.close())
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if self._core.is_over:
            self._at_end.pop_all().close()

    def _release(self, connection: Any, release: Callable[[Any], object]) -> None:
        try:
            release(connection)
        except Exception:
            logger.exception("gtrid=%s releasing a connection failed", self.gtrid)

    def __enter__(self) -> Transaction:
        """Return itself."""
        self._outer = propagation.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Commit or vote; after an exception roll back. Where that has not rolled it back this says so instead."""
        try:
            propagation.enter(self._outer)
            if error is None:
                self._end(self._core.leave_block())
            else:
                with self._ending:
                    self._runner.run(self._core.fail_block(error))
        finally:
            self.close()
        if isinstance(error, Exception) and self._core.untold:
            raise self._core.untold from error


class Branch:
    """One database's part of a global transaction, over a connection of the application's. One thread at a time.

    As a context manager: nothing happens at the end of the block (its transaction ends it), but an exception that
    leaves the block poisons the branch, so that it cannot commit.
    """

    def __init__(self, core: BranchCore, runner: Runner, connection: Any) -> None:
        self._core = core
        self._runner = runner
        self._connection = connection
        self._lock = threading.Lock()

    @property
    def xid(self) -> Xid:
        """Its name at the database."""
        return self._core.xid

    @property
    def resource(self) -> str:
        """Where it runs."""
        return self._core.resource

    @property
    def poison(self) -> AssentError | None:
        """The error that made it unable to commit."""
        return self._core.poison

    def execute(
        self,
        sql: Any,
        args: Any = None,
        *,
        expected_errors: Sequence[int] = (),
        expected_sqlstates: Sequence[str] = (),
    ) -> Any:
        """Run a statement inside the branch, and return a cursor with its result. The first one starts the branch.

        Any error poisons the branch, because MariaDB and MySQL would still prepare what is left of it after a lock wait
        timeout, a killed query or a duplicate key; unless it is among `expected_errors` (numbers) or
        `expected_sqlstates`: then it is raised all the same, the statement had no effect, and the branch goes on.
        Errors: DATABASE_ERROR (metadata error_code, sqlstate; `__cause__` is the driver's), DATABASE_UNREACHABLE,
        SESSION_IN_TRANSACTION (nothing was started; commit or roll back what the connection has open, and try again),
        SESSION_RESET, XA_NOT_SUPPORTED, BRANCH_POISONED, BRANCH_ENDED.
        """
        cursor = self._connection.cursor()
        expected = (
            Expected(expected_errors, expected_sqlstates) if expected_errors or expected_sqlstates else NOTHING_EXPECTED
        )
        self._run(cursor, sql, lambda text: cursor.execute(text, *_given(args)), expected)
        return cursor

    def cursor(self, *args: Any, **kwargs: Any) -> BranchCursor:
        """Return a cursor of the driver's whose statements run inside the branch, and raise the driver's exceptions."""
        return BranchCursor(self, self._connection.cursor(*args, **kwargs))

    def start(self) -> Any:
        """Start the branch, and return its connection for what needs it whole (an ORM, COPY, …).

        From here on the branch counts as one that has written. What fails on the connection does not poison the branch
        by itself: let the exception leave the branch's block, or the transaction's. Do not commit, roll back, reset or
        close the connection.
        """
        self._take()
        try:
            self._core.check_usable()
            if self._core.stage is Stage.IDLE:
                self._runner.run(self._core.start(None))
            self._core.note_sql(None)
            return self._connection
        finally:
            self._lock.release()

    def fail(self, why: BaseException) -> None:
        """Poison the branch: the transaction cannot commit any more."""
        self._core.fail(why)

    def _take(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise SessionHoldsBranch(
                f"branch '{self.xid.bqual}' of '{self.xid.gtrid}' is in use by another thread: a branch and its "
                "connection serve one at a time; wait for it, or give each thread a branch of its own",
                metadata={"gtrid": self.xid.gtrid, "bqual": self.xid.bqual},
            )

    def _run(self, cursor: Any, sql: Any, execute: Callable[[Any], T], expected: Expected, buffered: bool = True) -> T:
        """Run one statement. `sql` None: nobody can see what it is."""
        core = self._core
        self._take()
        try:
            core.check_usable()
            prefix = prefix_of(core, sql, buffered, expected)
            if prefix:
                return self._run_merged(cursor, sql, execute, prefix)
            if core.stage is Stage.IDLE:
                self._runner.run(core.start(sql if isinstance(sql, str | bytes) else None))
            core.note_sql(sql if isinstance(sql, str | bytes) else None)
            keeps = bool(expected) and core.session.engine == "postgresql"
            if keeps:
                self._runner.run(core.keep())
            try:
                result = execute(sql)
            except BaseException as error:
                self._failed(error, expected, keeps)
            if keeps:
                self._runner.run(core.release(failed=False))
            self._runner.run(core.after_success(getattr(cursor, "statusmessage", None) or ""))
            return result
        finally:
            self._lock.release()

    def _failed(self, error: BaseException, expected: Expected, keeps: bool) -> None:
        """Raise what the caller is told."""
        core = self._core
        if not is_database_error(error):
            # It may have come half-way through an answer: what is read next could be anything.
            core.interrupted(error)
            raise error
        found: DbError = core.session.wire.classify(error)  # type: ignore[attr-defined]
        if keeps:
            self._runner.run(core.release(failed=True))
        raise core.after_failure(found, expected.codes, expected.sqlstates) from error

    def _run_merged(self, cursor: Any, sql: str, execute: Callable[[str], T], prefix: list[str]) -> T:
        """Start the branch in the same message; the statement only runs if that succeeded."""
        core = self._core
        done = 0
        rows: list[tuple[Any, ...] | None] = []
        try:
            result = execute(joined(prefix, sql))
            for _ in prefix:
                rows.append(_first_row(cursor))
                done += 1
                if done == len(prefix):
                    core.started(start_answer(done, rows, None))
                cursor.nextset()
        except BaseException as error:
            if core.stage is not Stage.IDLE:
                core.note_sql(sql)
                self._failed(error, NOTHING_EXPECTED, keeps=False)
            if not is_database_error(error):
                core.interrupted(error)
                raise
            found: DbError = core.session.wire.classify(error)  # type: ignore[attr-defined]
            unstarted = core.started(start_answer(done, rows, found))
            assert unstarted is not None
            raise unstarted from error
        core.note_sql(sql)
        self._runner.run(core.after_success(""))
        return result

    def __enter__(self) -> Branch:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Poison the branch if an exception leaves the block."""
        if error is not None:
            self.fail(error)


class BranchCursor:
    """A cursor of the driver's whose statements run inside a branch. Everything else is the driver's own."""

    def __init__(self, branch: Branch, cursor: Any) -> None:
        self._branch = branch
        self._cursor = cursor
        self._buffered = not type(cursor).__name__.startswith("SS")

    def _run(self, sql: Any, call: Callable[[Any], T], buffered: bool) -> T:
        try:
            return self._branch._run(self._cursor, sql, call, NOTHING_EXPECTED, buffered)
        except DatabaseFailed as error:
            raise driver_error(error) from error

    def execute(self, sql: Any, args: Any = None, **kwargs: Any) -> Any:
        """See DB-API. The first one starts the branch."""
        result = self._run(sql, lambda text: self._cursor.execute(text, *_given(args), **kwargs), self._buffered)
        return self if result is self._cursor else self._cursor.rowcount

    def executemany(self, sql: Any, args: Any, **kwargs: Any) -> Any:
        """See DB-API."""
        return self._run(sql, lambda text: self._cursor.executemany(text, args, **kwargs), False)

    def callproc(self, name: str, args: Sequence[Any] = ()) -> Any:
        """See DB-API."""
        return self._run(None, lambda _: self._cursor.callproc(name, args), False)

    def __getattr__(self, name: str) -> Any:
        """Return the driver's own."""
        return getattr(self._cursor, name)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the rows."""
        return iter(self._cursor)

    def __enter__(self) -> BranchCursor:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the cursor."""
        self._cursor.close()


def _given(args: Any) -> tuple[Any, ...]:
    return () if args is None else (args,)


def _first_row(cursor: Any) -> tuple[Any, ...] | None:
    if not cursor.description:
        return None
    row = cursor.fetchone()
    return tuple(row.values()) if isinstance(row, dict) else row


def is_database_error(error: BaseException) -> bool:
    """Tell whether the driver says it, after which the connection is in step (or known to be lost)."""
    return any(kind.__name__ == "Error" for kind in type(error).__mro__)
