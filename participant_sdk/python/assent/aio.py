"""The asyncio client: AsyncClient, AsyncTransaction, AsyncBranch. The same as assent.client, with `await`.

    async with client.transaction(sole_participant=True) as tx:
        orders = await tx.branch("orders", orders_connection)
        await orders.execute("INSERT INTO orders VALUES (%s, %s)", (1, "laptop"))

Connections of aiomysql, asyncmy and psycopg (AsyncConnection). Cancellation is safe at every await: a connection that
was in the middle of an exchange is closed, because what it would read next could be anything; leaving the transaction's
block then rolls back, or, once a vote is out, leaves the branches to the coordinator. A call that is cancelled while it
waits for the coordinator may be made again (`commit` after a timeout around `commit`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, TypeVar

from assent import propagation
from assent._aio_runner import AsyncRunner
from assent._core import begin as begin_core
from assent._core.branch import BranchCore, Stage, check_resource
from assent._core.effects import Call, Core
from assent._core.outcome import DbError
from assent._core.reservation import Reservation
from assent._core.session import Session
from assent._core.statement import NOTHING_EXPECTED, Expected, driver_error, joined, prefix_of, start_answer
from assent._core.transaction import TransactionCore
from assent._drivers import registry
from assent.client import _first_row, _given, is_database_error
from assent.errors import AssentError, DatabaseFailed, SessionHoldsBranch
from assent.hooks import all_of
from assent.options import BeginOptions, ClientOptions, DecisionPolicy, TransactionOutcome
from assent.v1 import coordinator_service_pb2 as pb
from assent.xid import Xid, check_gtrid

T = TypeVar("T")
logger = logging.getLogger("assent")


class AsyncClient:
    """The way in. Belongs to the event loop that first uses it; see Client."""

    def __init__(self, addresses: str | Sequence[str], options: ClientOptions | None = None) -> None:
        self.options = options or ClientOptions()
        self._hooks = all_of(self.options.hooks)
        self._reservation = Reservation()
        text = addresses if isinstance(addresses, str) else ",".join(addresses)
        self._runner = AsyncRunner(text, self.options.credentials, self._reservation)

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
    ) -> _Beginning:
        """Begin a global transaction: `async with client.transaction() as tx`, or `tx = await client.transaction()`."""
        wanted = BeginOptions(
            sole_participant=sole_participant,
            one_phase_commit=one_phase_commit,
            timeout=timeout,
            gtrid=gtrid,
            policy=policy,
            expected_branches=expected_branches,
            resources=resources,
        )
        return _Beginning(self, wanted)

    begin = transaction

    def join(self, gtrid: str) -> AsyncTransaction:
        """See Client.join."""
        return AsyncTransaction(begin_core.join(self.options, self._hooks, self._reservation, gtrid), self._runner)

    def take_part(self, gtrid: str) -> AsyncTransaction:
        """See Client.take_part."""
        core = begin_core.take_part(self.options, self._hooks, self._reservation, gtrid)
        return AsyncTransaction(core, self._runner)

    async def get_global(self, gtrid: str) -> pb.GetGlobalResponse:
        """See Client.get_global."""
        if error := check_gtrid(gtrid):
            raise error
        call = Call("GetGlobal", pb.GetGlobalRequest(gtrid=gtrid), self.options.call_patience)
        response: pb.GetGlobalResponse = await self._runner.call(call)
        return response

    async def flush(self, patience: float = 30.0) -> bool:
        """See Client.flush."""
        return await self._runner.flush(patience)

    @property
    def calls_sent(self) -> int:
        """See Client.calls_sent."""
        return self._runner.calls_sent

    async def close(self) -> None:
        """See Client.close."""
        await self._runner.close()

    async def __aenter__(self) -> AsyncClient:
        """Return itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()


class _Beginning:
    """A transaction that begins when it is awaited or entered."""

    def __init__(self, client: AsyncClient, wanted: BeginOptions) -> None:
        self._client = client
        self._wanted = wanted
        self._begun: AsyncTransaction | None = None

    async def _begin(self) -> AsyncTransaction:
        client = self._client
        core = await client._runner.run(
            begin_core.begin(client.options, client._hooks, client._reservation, self._wanted)
        )
        return AsyncTransaction(core, client._runner)

    def __await__(self) -> Generator[Any, Any, AsyncTransaction]:
        """Begin."""
        return self._begin().__await__()

    async def __aenter__(self) -> AsyncTransaction:
        """Begin."""
        self._begun = await self._begin()
        return await self._begun.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it as AsyncTransaction does."""
        assert self._begun is not None
        await self._begun.__aexit__(kind, error, traceback)


class AsyncTransaction:
    """See Transaction. One task at a time; its branches may be used by several."""

    def __init__(self, core: TransactionCore, runner: AsyncRunner) -> None:
        self._core = core
        self._runner = runner
        self._branches: list[AsyncBranch] = []
        self._ending = asyncio.Lock()
        self._outer: Any = None
        self._at_end = AsyncExitStack()
        """See Transaction."""

    @property
    def gtrid(self) -> str:
        """See Transaction.gtrid."""
        return self._core.gtrid

    @property
    def outcome(self) -> TransactionOutcome:
        """See Transaction.outcome."""
        return self._core.outcome

    @property
    def is_sole(self) -> bool:
        """See Transaction.is_sole."""
        return self._core.is_sole

    async def branch(
        self, resource: str, connection: Any, *, release: Callable[[Any], object] | None = None
    ) -> AsyncBranch:
        """See Transaction.branch. What `release` returns is awaited if it can be."""
        try:
            session = await self._session_of(resource, connection)
            core = await self._runner.run(self._core.open_branch(resource, session))
        except BaseException:
            if release:
                await self._release(connection, release)
            raise
        if release:
            self._at_end.push_async_callback(self._release, connection, release)
        branch = AsyncBranch(core, self._runner, connection)
        self._branches.append(branch)
        return branch

    async def _session_of(self, resource: str, connection: Any) -> Session:
        try:
            check_resource(resource)
            session, is_new = registry.session_of(connection, asynchronous=True)
            if is_new:
                try:
                    await self._runner.run(session.set_up())
                except BaseException:
                    registry.forget(connection)
                    raise
        except AssentError as error:
            self._core.refuse(resource, error)
            raise
        return session

    @asynccontextmanager
    async def _exclusively(self) -> AsyncIterator[None]:
        taken: list[AsyncBranch] = []
        try:
            for branch in self._branches:
                branch._take()
                taken.append(branch)
            yield
        finally:
            for branch in taken:
                branch._busy = False

    async def _end(self, end: Core[bool | None]) -> None:
        """Run an end of it: one at a time."""
        async with self._ending, self._exclusively():
            if await self._runner.run(end):
                self._runner.in_background(self._finish_voted())
                self._core.hand_over()

    async def commit(self) -> None:
        """See Transaction.commit."""
        await self._end(self._core.commit())

    async def prepare(self) -> None:
        """See Transaction.prepare."""
        await self._end(self._core.prepare())

    async def vote(self) -> None:
        """See Transaction.vote. The background is a task of the client's."""
        await self._end(self._core.vote())

    async def _finish_voted(self) -> None:
        try:
            verdict = await self._runner.run(self._core.decision())
            async with self._ending:
                await self._runner.run(self._core.finish_voted(verdict))
        finally:
            self._core.abandon()
            await self._let_go()

    async def rollback(self, reason: str = "") -> None:
        """See Transaction.rollback."""
        await self._end(self._core.rollback(reason))

    def leave(self) -> None:
        """See Transaction.leave."""
        self._core.leave()

    async def close(self) -> None:
        """See Transaction.close. If it is cancelled, what is not finished is closed and left to the coordinator."""
        if self._core.is_handed_over:
            return
        try:
            await self._runner.run(self._core.close())
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        if self._core.is_over:
            await self._at_end.pop_all().aclose()

    async def _release(self, connection: Any, release: Callable[[Any], object]) -> None:
        try:
            await _await(release(connection))
        except Exception:
            logger.exception("gtrid=%s releasing a connection failed", self.gtrid)

    async def __aenter__(self) -> AsyncTransaction:
        """Return itself."""
        self._outer = propagation.enter(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """See Transaction."""
        try:
            propagation.enter(self._outer)
            if error is None:
                await self._end(self._core.leave_block())
            else:
                async with self._ending:
                    await self._runner.run(self._core.fail_block(error))
        finally:
            await self.close()
        if isinstance(error, Exception) and self._core.untold:
            raise self._core.untold from error


class AsyncBranch:
    """See Branch. One task at a time."""

    def __init__(self, core: BranchCore, runner: AsyncRunner, connection: Any) -> None:
        self._core = core
        self._runner = runner
        self._connection = connection
        self._busy = False

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

    async def execute(
        self,
        sql: Any,
        args: Any = None,
        *,
        expected_errors: Sequence[int] = (),
        expected_sqlstates: Sequence[str] = (),
    ) -> Any:
        """See Branch.execute. Returns a cursor of the driver's with the result."""
        cursor = await _cursor(self._connection)
        expected = Expected(expected_errors, expected_sqlstates)
        await self._run(cursor, sql, lambda text: cursor.execute(text, *_given(args)), expected)
        return cursor

    async def cursor(self, *args: Any, **kwargs: Any) -> AsyncBranchCursor:
        """See Branch.cursor."""
        return AsyncBranchCursor(self, await _cursor(self._connection, *args, **kwargs))

    async def start(self) -> Any:
        """See Branch.start."""
        self._take()
        try:
            self._core.check_usable()
            if self._core.stage is Stage.IDLE:
                await self._runner.run(self._core.start(None))
            self._core.note_sql(None)
            return self._connection
        finally:
            self._busy = False

    def fail(self, why: BaseException) -> None:
        """See Branch.fail."""
        self._core.fail(why)

    def _take(self) -> None:
        if self._busy:
            raise SessionHoldsBranch(
                f"branch '{self.xid.bqual}' of '{self.xid.gtrid}' is in use by another task: a branch and its "
                "connection serve one at a time; wait for it, or give each task a branch of its own",
                metadata={"gtrid": self.xid.gtrid, "bqual": self.xid.bqual},
            )
        self._busy = True

    async def _run(
        self, cursor: Any, sql: Any, execute: Callable[[Any], Awaitable[T]], expected: Expected, buffered: bool = True
    ) -> T:
        core = self._core
        run = self._runner.run
        self._take()
        try:
            core.check_usable()
            prefix = prefix_of(core, sql, buffered, expected)
            if prefix:
                return await self._run_merged(cursor, sql, execute, prefix)
            text = sql if isinstance(sql, str | bytes) else None
            if core.stage is Stage.IDLE:
                await run(core.start(text))
            core.note_sql(text)
            keeps = bool(expected) and core.session.engine == "postgresql"
            if keeps:
                await run(core.keep())
            try:
                result = await execute(sql)
            except BaseException as error:
                await self._failed(error, expected, keeps)
            if keeps:
                await run(core.release(failed=False))
            await run(core.after_success(getattr(cursor, "statusmessage", None) or ""))
            return result
        finally:
            self._busy = False

    async def _failed(self, error: BaseException, expected: Expected, keeps: bool) -> None:
        core = self._core
        if not is_database_error(error):
            core.interrupted(error)
            raise error
        found: DbError = core.session.wire.classify(error)  # type: ignore[attr-defined]
        if keeps:
            await self._runner.run(core.release(failed=True))
        raise core.after_failure(found, expected.codes, expected.sqlstates) from error

    async def _run_merged(self, cursor: Any, sql: str, execute: Callable[[str], Awaitable[T]], prefix: list[str]) -> T:
        core = self._core
        done = 0
        rows: list[tuple[Any, ...] | None] = []
        try:
            result = await execute(joined(prefix, sql))
            for _ in prefix:
                rows.append(await _first_row_of(cursor))
                done += 1
                if done == len(prefix):
                    core.started(start_answer(done, rows, None))
                await cursor.nextset()
        except BaseException as error:
            if core.stage is not Stage.IDLE:
                core.note_sql(sql)
                await self._failed(error, NOTHING_EXPECTED, keeps=False)
            if not is_database_error(error):
                core.interrupted(error)
                raise
            found: DbError = core.session.wire.classify(error)  # type: ignore[attr-defined]
            unstarted = core.started(start_answer(done, rows, found))
            assert unstarted is not None
            raise unstarted from error
        core.note_sql(sql)
        await self._runner.run(core.after_success(""))
        return result

    async def __aenter__(self) -> AsyncBranch:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Poison the branch if an exception leaves the block."""
        if error is not None:
            self.fail(error)


class AsyncBranchCursor:
    """See BranchCursor."""

    def __init__(self, branch: AsyncBranch, cursor: Any) -> None:
        self._branch = branch
        self._cursor = cursor
        self._buffered = not type(cursor).__name__.startswith("SS")

    async def execute(self, sql: Any, args: Any = None, **kwargs: Any) -> Any:
        """See BranchCursor.execute."""
        try:
            result = await self._branch._run(
                self._cursor,
                sql,
                lambda text: self._cursor.execute(text, *_given(args), **kwargs),
                NOTHING_EXPECTED,
                self._buffered,
            )
        except DatabaseFailed as error:
            raise driver_error(error) from error
        return self if result is self._cursor else self._cursor.rowcount

    async def executemany(self, sql: Any, args: Any) -> Any:
        """See BranchCursor.executemany."""
        try:
            return await self._branch._run(
                self._cursor, sql, lambda text: self._cursor.executemany(text, args), NOTHING_EXPECTED, False
            )
        except DatabaseFailed as error:
            raise driver_error(error) from error

    def __getattr__(self, name: str) -> Any:
        """Return the driver's own."""
        return getattr(self._cursor, name)

    async def __aenter__(self) -> AsyncBranchCursor:
        """Return itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the cursor."""
        await _await(self._cursor.close())


async def _await(value: Any) -> Any:
    return await value if asyncio.iscoroutine(value) or hasattr(value, "__await__") else value


async def _cursor(connection: Any, *args: Any, **kwargs: Any) -> Any:
    return await _await(connection.cursor(*args, **kwargs))


class _Row:
    """A cursor's row that has been fetched, for _first_row."""

    def __init__(self, description: Any, row: Any) -> None:
        self.description = description
        self._row = row

    def fetchone(self) -> Any:
        return self._row


async def _first_row_of(cursor: Any) -> tuple[Any, ...] | None:
    row = await _await(cursor.fetchone()) if cursor.description else None
    return None if row is None else _first_row(_Row(cursor.description, row))
