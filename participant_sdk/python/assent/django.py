"""Django in branches: `atomic` over several databases, committed together or not at all.

    with assent.django.atomic(client, using=["orders", "payments"]):
        Order.objects.using("orders").create(what="laptop")
        Account.objects.using("payments").filter(id=1).update(balance=F("balance") - 800)
        transaction.on_commit(send_mail, using="orders")

Inside, every alias behaves as in Django's own `transaction.atomic(using=alias, durable=True)`: further `atomic` blocks
are savepoints, and rolling one back takes an error inside it back. Aliases that are not named in `using` are as
without it: what is written there commits by itself.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

from assent._extras import missing
from assent._savepoints import Guard, GuardedCursor, refuse_driver_isolation
from assent.client import Client, Transaction
from assent.errors import AssentError, Reason, SessionInTransaction, make_error
from assent.options import TransactionOutcome
from assent.propagation import current_transaction

try:
    from django.db import Error, connections, transaction
except ImportError as _error:
    raise missing(__name__, "Django", "django", _error) from _error

logger = logging.getLogger("assent")


@contextmanager
def atomic(
    client: Client,
    using: Sequence[str],
    resources: Mapping[str, str] | None = None,
    *,
    join: str = "",
    **options: Any,
) -> Iterator[Transaction]:
    """Run the block in one branch for each alias; at its end all of them commit, or none does.

    `resources`: on which resource an alias is; without an entry on that of its own name. `join`: the gtrid of another
    process's transaction to take part in (the end of the block prepares, votes and waits for the decision); else one is
    begun, with `options` as of `Client.transaction`. If `join` names the transaction whose block this is in, as in the
    handler of a call that carries one, that is used, and ends at the end of its own block: see `_within`.

    No exception means COMMITTED, and only then `on_commit` callbacks run: what one of them raises comes out although
    everything is committed. An exception rolls everything back. Where Django would quietly roll back at the end of the
    block (`set_rollback`, an error inside `atomic(savepoint=False)` that was swallowed, `close()`), all of it rolls
    back, and BRANCH_POISONED says so. Errors: SESSION_IN_TRANSACTION inside of another transaction's block, which would
    not take back what this one has committed, or if an alias is in an atomic block already (ATOMIC_REQUESTS, TestCase)
    or out of autocommit; INVALID_FIELD; those of `Client.transaction`,
    `Transaction.branch` and `Transaction.commit`.
    """
    aliases = [using] if isinstance(using, str) else list(dict.fromkeys(using))
    places = {alias: (resources or {}).get(alias, alias) for alias in aliases}
    current = current_transaction()
    if join and isinstance(current, Transaction) and current.gtrid == join:
        with _within(current, places):
            yield current
        return
    if current is not None:
        raise SessionInTransaction(
            f"this is inside the block of global transaction '{current.gtrid}', which would not take back what an "
            "assent.django.atomic of its own has committed: name all aliases in the outer one, or take part in it with "
            "join=assent.current_transaction().gtrid",
            metadata={"gtrid": current.gtrid},
        )
    for alias in aliases:
        _check_outside(alias)
    held: list[_Held] = []
    with client.join(join) if join else client.transaction(**options) as tx, ExitStack() as blocks:
        for alias, resource in places.items():
            held.append(_Held(tx, alias, resource))
            tx._at_end.callback(held[-1].let_go)
            blocks.enter_context(transaction.atomic(using=alias, durable=True))
        yield tx
    if tx.outcome is TransactionOutcome.COMMITTED:
        for each in held:
            each.run_callbacks()


_lent: WeakKeyDictionary[Transaction, dict[Any, _LentForBlocks]] = WeakKeyDictionary()
"""What transactions hold whose blocks are around `atomic`, by Django's connection object."""


@contextmanager
def _within(tx: Transaction, places: Mapping[str, str]) -> Iterator[None]:
    """Run the block in branches of a transaction that ends later than it, and perhaps on another thread.

    So its connections stay with it when the block ends: the aliases connect anew, unless another such block follows,
    which goes on in the same branches. They are closed when the transaction has ended. `on_commit` callbacks run then,
    on whichever thread learns of it, and what they raise is logged. What rolls the block back in Django's eyes (an
    exception above all) poisons the branches.
    """
    held = _lent.setdefault(tx, {})
    with ExitStack() as blocks:
        for alias, resource in places.items():
            wrapper = connections[alias]
            if wrapper.in_atomic_block or wrapper not in held:
                held[wrapper] = _hold(tx, alias, resource)
            blocks.enter_context(held[wrapper].lent())
            blocks.enter_context(transaction.atomic(using=alias, durable=True))
        yield


def _hold(tx: Transaction, alias: str, resource: str) -> _LentForBlocks:
    """Open the branch; or see to it that nothing commits without what was to be done in it."""
    try:
        _check_outside(alias)
        return _LentForBlocks(tx, alias, resource)
    except Exception as error:
        why = f"no connection of alias '{alias}' could be had: {error}"
        refusal = error if isinstance(error, AssentError) else make_error(Reason.DATABASE_UNREACHABLE, why)
        tx._core.refuse(resource, refusal)
        raise


def _check_outside(alias: str) -> None:
    wrapper = connections[alias]
    wrapper.close_if_health_check_failed()
    if wrapper.in_atomic_block or not wrapper.get_autocommit():
        raise SessionInTransaction(
            f"the connection of alias '{alias}' is in a transaction of Django's: assent.django.atomic must be the "
            "outermost block, outside of transaction.atomic, ATOMIC_REQUESTS (transaction.non_atomic_requests) and "
            "TestCase (TransactionTestCase), and with AUTOCOMMIT on",
            metadata={"alias": alias},
        )


class _Held:
    """An alias whose connection runs a branch.

    The methods in which Django's DatabaseWrapper speaks to the driver are replaced on this one object until the
    transaction has ended: all of its own logic, and everybody who has hold of it, goes on as ever.
    """

    def __init__(self, tx: Transaction, alias: str, resource: str) -> None:
        self.wrapper = connections[alias]
        self._connection = self.wrapper.connection
        refuse_driver_isolation(self._connection, "default_transaction_isolation with OPTIONS['options']")
        self.guard = Guard(tx.branch(resource, self._connection))
        self._callbacks: list[Any] = []
        self._pid = os.getpid()
        self._replaced: list[str] = []
        self._replace()

    def _replace(self) -> None:
        create, close = self.wrapper.create_cursor, self.wrapper._close
        replaced = {
            "create_cursor": lambda name=None: self._cursor(create, name),
            "_close": lambda: self._close(close),
            "_commit": self._commit,
            "_rollback": lambda: self.guard.roll_back("rollback()"),
            "_set_autocommit": lambda autocommit: None,
        }
        vars(self.wrapper).update(replaced)
        self._replaced = list(replaced)

    def _restore(self) -> None:
        for name in self._replaced:
            delattr(self.wrapper, name)

    def _cursor(self, create: Callable[[str | None], Any], name: str | None) -> GuardedCursor:
        if self.wrapper.connection is not self._connection:
            raise self.guard.refusal("another connection for the alias, instead of the branch's,")
        return self.guard.cursor(create(name))

    def _commit(self) -> None:
        """The end of Django's outermost block: its callbacks must wait for the global one."""
        self._callbacks += self.wrapper.run_on_commit
        self.wrapper.run_on_commit = []

    def _close(self, close: Callable[[], None]) -> None:
        self.guard.roll_back("close()")
        close()

    def let_go(self) -> None:
        """The transaction has ended: the connection is Django's again, if its branch is finished."""
        self._restore()
        if self._pid == os.getpid() and not self.guard.branch._core.session.is_free:
            with suppress(Error):  # Some drivers complain that it is closed.
                self.wrapper.close()

    def run_callbacks(self) -> None:
        """Run what `on_commit` was given, as Django does."""
        self.wrapper.run_on_commit = self._callbacks
        self.wrapper.run_and_clear_commit_hooks()


class _LentForBlocks(_Held):
    """An alias whose connection is its branch's for longer than the block: see `_within`."""

    def __init__(self, tx: Transaction, alias: str, resource: str) -> None:
        super().__init__(tx, alias, resource)
        self._restore()
        self._thread = threading.get_ident()
        tx._at_end.callback(self._end, tx)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let Django use the connection in the block."""
        wrapper = self.wrapper
        own = None if wrapper.connection is self._connection else wrapper.connection
        wrapper.connection = self._connection
        self._replace()
        try:
            yield
        finally:
            self._restore()
            wrapper.connection = own

    def _end(self, tx: Transaction) -> None:
        """The transaction has ended: close the connection, and run the callbacks if they are to run."""
        _lent.pop(tx, None)
        if self._pid != os.getpid():
            return
        with suppress(Exception):  # Some drivers complain that it is closed.
            self._connection.close()
        if tx.outcome is not TransactionOutcome.COMMITTED or not self._callbacks:
            return
        for _, callback, *_ in self._callbacks:
            try:
                callback()
            except Exception:
                logger.exception("gtrid=%s an on_commit callback failed after COMMIT", tx.gtrid)
        if threading.get_ident() != self._thread:
            connections.close_all()  # Those that callbacks have opened on this thread, which is about to end.


__all__ = ["atomic"]
