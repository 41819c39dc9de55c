"""SQLAlchemy 2 in branches: Core statements and ORM flushes on several databases, committed together or not at all.

    with client.transaction(sole_participant=True) as tx:
        with enlist(tx, "orders", orders_engine) as orders, enlist(tx, "payments", payments_engine) as payments:
            orders.execute(insert(order).values(id=1, what="laptop"))
            payments.execute(update(account).values(balance=account.c.balance - 800))

    with client.transaction() as tx, enlist_session(tx, {"orders": orders_engine}) as session:
        session.add(Order(id=1, what="laptop"))

While a branch holds the connection, SQLAlchemy's BEGIN, COMMIT and ROLLBACK do not reach the database: `commit()` and
`begin()` are refused (SESSION_HOLDS_BRANCH), `rollback()` poisons the branch, so that the whole transaction rolls back.
SAVEPOINTs (`begin_nested`) work, and rolling back to one takes an error behind it back. The pool gets the connection
when the transaction's block (or `Transaction.close`) has ended and the branch is finished; one that is not certainly
finished is invalidated.

SQLAlchemy's own two-phase transactions (`begin_twophase`, `Session(twophase=True)`) are refused in a branch: they have
nobody who remembers the decision between the two phases, and who finishes what a killed process has left prepared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn, TypeVar

from assent._extras import missing
from assent._savepoints import Guard, refuse_driver_isolation
from assent.client import Transaction
from assent.errors import AssentError, InvalidRequest, Reason, make_error

try:
    from sqlalchemy import event
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.engine.base import RootTransaction
    from sqlalchemy.orm import Session
    from sqlalchemy.pool import PoolProxiedConnection
except ImportError as _error:
    raise missing(__name__, "SQLAlchemy 2", "sqlalchemy", _error) from _error

S = TypeVar("S", bound=Session)


@contextmanager
def enlist(tx: Transaction, resource: str, engine: Engine) -> Iterator[BranchConnection]:
    """Open a branch on the resource over a connection of the engine's pool, and run the block's statements in it.

    The block must lie within the transaction's own. An exception that leaves it poisons the branch, as does any error
    of the database; at its end the Connection is closed, but the pool gets back what is under it only when the
    transaction has ended. Errors: those of `Transaction.branch`; DATABASE_UNREACHABLE if the pool has none to give;
    INVALID_FIELD for what is no Engine, or for an isolation level that would not reach the branch. After any of them
    the transaction rolls back, unless a branch on the resource is opened after all.
    """
    if not isinstance(engine, Engine):
        raise _invalid("engine", f"enlist takes an Engine, whose pool lends the branch a connection, not {engine!r}")
    lent = _lend(tx, resource, engine)
    try:
        connection = BranchConnection(engine, lent)
        how = "default_transaction_isolation and its like with connect_args={'options': '-c …'}"
        refuse_driver_isolation(lent.driver_connection, how)
    except BaseException as error:
        lent.guard.branch.fail(error)
        raise
    try:
        with lent.guard.branch:
            yield connection
    finally:
        connection._end()


@contextmanager
def enlist_session(
    tx: Transaction,
    engines: Mapping[str, Engine],
    *,
    binds: Mapping[Any, str] | None = None,
    factory: Callable[..., S] = Session,  # type: ignore[assignment]
    **options: Any,
) -> Iterator[S]:
    """Enlist an engine for each resource, and run an ORM session over them, which is flushed when the block ends.

    `binds` says which mapped class or table is on which resource, as `Session.binds`; without it there is one resource.
    `factory`: a Session class or a sessionmaker, which also gets `options`. `session.commit()` is refused: the
    transaction commits; flush what must be sent at once. A flush that fails poisons its branch, unless it runs in a
    `begin_nested` that is rolled back. What is loaded is detached at the end of the block. Errors: those of `enlist`.
    """
    with ExitStack() as stack:
        connections = {name: stack.enter_context(enlist(tx, name, engine)) for name, engine in engines.items()}
        if binds is None and len(connections) != 1:
            raise _invalid("binds", "say with binds which class is on which of the resources")
        only = next(iter(connections.values())) if binds is None else None
        places = {what: connections[name] for what, name in (binds or {}).items()}
        session = factory(bind=only, binds=places, **options)
        try:
            if session.twophase:
                raise _invalid("twophase", "Session(twophase=True) cannot run in branches: leave twophase out")
            _refuse_commit_of(session, next(iter(connections.values()))._guard)
            yield session
            session.flush()
        finally:
            session.close()


def _invalid(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, reason=Reason.INVALID_FIELD, metadata={"field": field})


def _refuse_commit_of(session: Session, guard: Guard) -> None:
    def refuse(session: Session) -> None:
        if not session.in_nested_transaction():  # Else it is the end of a SAVEPOINT.
            raise guard.refusal("session.commit()")

    event.listen(session, "before_commit", refuse)


def _lend(tx: Transaction, resource: str, engine: Engine) -> LentConnection:
    """Take a connection out of the pool, and open the branch on it."""
    try:
        pooled = engine.raw_connection()
    except Exception as error:
        unreachable = make_error(
            Reason.DATABASE_UNREACHABLE, f"no connection to resource '{resource}' could be had: {error}", cause=error
        )
        tx._core.refuse(resource, unreachable)
        raise unreachable from error
    try:
        branch = tx.branch(resource, pooled)
    except BaseException as error:
        pooled.close() if isinstance(error, AssentError) else pooled.invalidate(error)
        raise
    lent = LentConnection(pooled, Guard(branch))
    tx._at_end.callback(lent.give_back)
    return lent


class LentConnection(PoolProxiedConnection):
    """A connection of a pool's, while a branch has it."""

    def __init__(self, pooled: PoolProxiedConnection, guard: Guard) -> None:
        self.guard = guard
        self.dbapi_connection = pooled.dbapi_connection
        self.driver_connection = pooled.driver_connection
        self._pooled = pooled
        self._pid = os.getpid()

    def give_back(self) -> None:
        """The transaction has ended: back into the pool if the branch is finished, else not."""
        if self._pid != os.getpid():
            return  # A forked process: it is its parent's.
        if self.guard.branch._core.session.is_free:
            self._pooled.close()
        else:
            self._pooled.invalidate()

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Return a cursor whose statements run in the branch."""
        return self.guard.cursor(self._pooled.cursor(*args, **kwargs))

    def commit(self) -> NoReturn:
        """Refuse."""
        raise self.guard.refusal("commit()")

    def rollback(self) -> None:
        """Poison the branch."""
        self.guard.roll_back("rollback()")

    def close(self) -> None:
        """Nothing: the branch needs it until the transaction has ended."""

    def detach(self) -> NoReturn:
        """Refuse."""
        raise self.guard.refusal("detach()")

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:
        """Close the connection for real: the branch is lost, and its transaction cannot commit."""
        self.guard.roll_back("invalidate()")
        self.guard.branch._core.session.shutdown()

    @property
    def is_valid(self) -> bool:
        """See PoolProxiedConnection."""
        return self._pooled.is_valid

    @property
    def is_detached(self) -> bool:
        """See PoolProxiedConnection."""
        return self._pooled.is_detached

    @property
    def info(self) -> Any:
        """See PoolProxiedConnection."""
        return self._pooled.info

    @property
    def record_info(self) -> Any:
        """See PoolProxiedConnection."""
        return self._pooled.record_info

    def __getattr__(self, name: str) -> Any:
        """Return the driver's own."""
        return getattr(self._pooled, name)


class BranchTransaction(RootTransaction):
    """What SQLAlchemy takes for the transaction of a connection that runs a branch. Sends nothing."""

    connection: BranchConnection

    def _connection_begin_impl(self) -> None:
        pass

    def _connection_rollback_impl(self) -> None:
        self.connection._guard.roll_back("rollback()")

    def _connection_commit_impl(self) -> None:
        raise self.connection._guard.refusal("commit()")

    def commit(self) -> NoReturn:
        """Refuse, and stay as it is."""
        raise self.connection._guard.refusal("commit()")

    def prepare(self) -> NoReturn:
        """Refuse: it is no two-phase transaction of SQLAlchemy's."""
        raise self.connection._guard.refusal("prepare()")


class BranchConnection(Connection):
    """A Connection whose statements run in a branch. From its begin to its end it is in a transaction, the branch's."""

    def __init__(self, engine: Engine, lent: LentConnection) -> None:
        self._lent = lent
        self._guard = lent.guard
        # It must never connect anew: what runs there would not be in the branch.
        super().__init__(engine, connection=lent, _allow_revalidate=False)
        if self._transaction is None:  # Else a listener to engine_connect has run something.
            self.begin()

    def _end(self) -> None:
        """Take no more statements. What is open in SQLAlchemy's eyes is left to the branch."""
        self._transaction = self._nested_transaction = None
        super().close()

    def close(self) -> None:
        """Nothing: the connection is the branch's. Makes `with connection:` harmless."""

    def begin(self) -> RootTransaction:
        """For SQLAlchemy itself; else refuse: there is a transaction, the branch's."""
        if self._transaction is not None:
            raise self._guard.refusal("begin()")
        self._transaction = BranchTransaction(self)
        return self._transaction

    def begin_twophase(self, xid: Any | None = None) -> NoReturn:
        """Refuse: see the module."""
        raise self._guard.refusal("a two-phase transaction of SQLAlchemy's (begin_twophase, twophase=True)")

    def commit(self) -> NoReturn:
        """Refuse, and stay as it is."""
        raise self._guard.refusal("commit()")

    def detach(self) -> NoReturn:
        """Refuse."""
        raise self._guard.refusal("detach()")

    def invalidate(self, exception: BaseException | None = None) -> None:
        """Close the connection for real: the branch is lost, and its transaction cannot commit."""
        self._lent.invalidate(exception)

    def execution_options(self, **opt: Any) -> Connection:
        """Refuse `isolation_level`, which a branch has from its begin on; see Connection."""
        if "isolation_level" in opt:
            raise self._guard.refusal("isolation_level")
        return super().execution_options(**opt)


__all__ = ["BranchConnection", "enlist", "enlist_session"]
