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

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from assent._extras import missing
from assent._savepoints import Guard, GuardedCursor, refuse_driver_isolation
from assent.client import Client, Transaction
from assent.errors import SessionInTransaction
from assent.options import TransactionOutcome

try:
    from django.db import Error, connections, transaction
except ImportError as _error:
    raise missing(__name__, "Django", "django", _error) from _error


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
    begun, with `options` as of `Client.transaction`.

    No exception means COMMITTED, and only then `on_commit` callbacks run: what one of them raises comes out although
    everything is committed. An exception rolls everything back. Where Django would quietly roll back at the end of the
    block (`set_rollback`, an error inside `atomic(savepoint=False)` that was swallowed, `close()`), all of it rolls
    back, and BRANCH_POISONED says so. Errors: SESSION_IN_TRANSACTION if an alias is in an atomic block already
    (ATOMIC_REQUESTS, TestCase) or out of autocommit; INVALID_FIELD; those of `Client.transaction`,
    `Transaction.branch` and `Transaction.commit`.
    """
    aliases = [using] if isinstance(using, str) else list(dict.fromkeys(using))
    for alias in aliases:
        _check_outside(alias)
    held: list[_Held] = []
    with client.join(join) if join else client.transaction(**options) as tx, ExitStack() as blocks:
        for alias in aliases:
            held.append(_Held(tx, alias, (resources or {}).get(alias, alias)))
            blocks.enter_context(transaction.atomic(using=alias, durable=True))
        yield tx
    if tx.outcome is TransactionOutcome.COMMITTED:
        for each in held:
            each.run_callbacks()


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
        create, close = self.wrapper.create_cursor, self.wrapper._close
        replaced = {
            "create_cursor": lambda name=None: self._cursor(create, name),
            "_close": lambda: self._close(close),
            "_commit": self._commit,
            "_rollback": lambda: self.guard.roll_back("rollback()"),
            "_set_autocommit": lambda autocommit: None,
        }
        vars(self.wrapper).update(replaced)
        tx._at_end.callback(self._let_go, replaced)

    def _cursor(self, create: Callable[[str | None], Any], name: str | None) -> GuardedCursor:
        if self.wrapper.connection is not self._connection:
            raise self.guard.refusal("another connection for the alias, instead of the branch's,")
        return self.guard.cursor(create(name))

    def _commit(self) -> None:
        """The end of Django's outermost block: its callbacks must wait for the global one."""
        self._callbacks, self.wrapper.run_on_commit = self.wrapper.run_on_commit, []

    def _close(self, close: Callable[[], None]) -> None:
        self.guard.roll_back("close()")
        close()

    def _let_go(self, replaced: Iterable[str]) -> None:
        """The transaction has ended: the connection is Django's again, if its branch is finished."""
        for name in replaced:
            delattr(self.wrapper, name)
        if self._pid == os.getpid() and not self.guard.branch._core.session.is_free:
            with suppress(Error):  # Some drivers complain that it is closed.
                self.wrapper.close()

    def run_callbacks(self) -> None:
        """Run what `on_commit` was given, as Django does."""
        self.wrapper.run_on_commit = self._callbacks
        self.wrapper.run_and_clear_commit_hooks()


__all__ = ["atomic"]
