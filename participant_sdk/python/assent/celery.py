"""Celery: a group of tasks, in any worker processes, whose work commits together or not at all.

    transactions = assent.celery.Transactions(app, client)

    @transactions.task()
    def pay(amount):
        tx = assent.current_transaction()
        tx.branch("payments", connect(), release=lambda c: c.close()).execute("UPDATE …", (amount,))

    started = transactions.start([reserve.s("laptop"), pay.s(800)], resource="orders", timeout=60)
    started.result.get()  # The tasks' results: committed. Any exception: see `Transactions.start`.

Each task votes before it returns, and its branches wait, prepared, in its worker for the decision; the callback of the
group's chord asks for COMMIT. A task that fails rolls everything back. Every task has a placeholder in the transaction
from the begin, which votes when the task has done its work, so nothing can commit before all of them have, whatever the
broker and the chord do. Of a message that is delivered twice one delivery does the work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from assent._core import claims
from assent._extras import missing
from assent.client import Client, Transaction
from assent.errors import (
    AlreadyExists,
    BranchesNotPrepared,
    Code,
    FailedPrecondition,
    GlobalCommitted,
    TransactionRolledBack,
    Unavailable,
)
from assent.propagation import (
    GRPC_GTRID,
    GRPC_TRACEPARENT,
    current_traceparent,
    current_transaction,
    with_traceparent,
)
from assent.v1 import global_pb2 as gpb

try:
    from celery import Celery, Task, chord
    from celery.exceptions import Ignore, Retry
    from celery.result import AsyncResult
    from celery.signals import worker_process_shutdown, worker_shutdown
except ImportError as _error:
    raise missing(__name__, "Celery 5", "celery", _error) from _error

logger = logging.getLogger("assent")

PLACEHOLDER = "assent-placeholder"
"""The message header that holds the task's placeholder, `bqual/resource`; GRPC_GTRID holds the gtrid."""
_FINALIZE = "assent.finalize"
_ROLL_BACK = "assent.roll_back"
_LOOK_AGAIN = 0.2


class Started(NamedTuple):
    """A group on its way."""

    gtrid: str
    result: AsyncResult
    """Of the chord's callback."""


class Transactions:
    """The transactions of a Celery app, which must be made in every process that runs or starts its tasks.

    `client` may be made before workers are forked. `patience`: how long, in seconds, a delivery whose message was
    delivered before waits for the earlier one to have done the work; then it takes that for dead, and everything is
    rolled back.
    """

    def __init__(self, app: Celery, client: Client, *, patience: float = 10.0) -> None:
        self._app = app
        self._client = client
        self._patience = patience
        options = {"bind": True, "acks_late": True, "reject_on_worker_lost": True, "max_retries": None}
        self._finalize = app.task(name=_FINALIZE, default_retry_delay=1, **options)(_finalizer(client))
        self._roll_back = app.task(name=_ROLL_BACK, ignore_result=True, **options)(_roller_back(client))
        # A worker that goes gives what has voted the time to be finished on its connections.
        for signal in (worker_process_shutdown, worker_shutdown):
            signal.connect(self._close, weak=False)

    def task(self, **options: Any) -> Any:
        """Decorate as `app.task` does, for a task that runs in the transaction of the group that it is started in.

        Inside, `assent.current_transaction()` is that transaction; the task opens branches, does its work, and returns.
        An exception rolls everything back, but for `self.retry`: that undoes this attempt alone. A message that is
        delivered again (`acks_late`, which is on, and `reject_on_worker_lost`) does not do the work again: the task
        then returns the earlier delivery's result, or None if that was lost. A `base` must be derived from PartTask.
        """
        usual = {"base": PartTask, "acks_late": True, "reject_on_worker_lost": True}
        return self._app.task(transactions=self, **(usual | options))

    def start(self, tasks: Sequence[Any], *, resource: str, **options: Any) -> Started:
        """Begin a transaction and send the tasks, signatures of tasks of `task`, which commit together or not at all.

        `resource`: any that is registered, for the placeholders. `options` as of `Client.transaction`; with its
        `timeout` everything is rolled back unless all tasks have voted by then. There may be some 300 tasks.

        `started.result.get()` returns the list of the tasks' results: committed, proven on every branch. It raises
        `assent.OutcomeInDoubt` if nobody may say; any other exception, of a task or `celery.exceptions.ChordError`:
        rolled back. If it never comes, `client.get_global(started.gtrid)` tells. If `start` raises, nothing will be
        committed.
        """
        with self._client.transaction(resources=[resource] * len(tasks), **options) as tx:
            placeholders = [f"{made.bqual}/{made.resource}" for made in tx._core._created]
            header = [
                task.clone().set(headers=_headers(tx, placeholder))
                for task, placeholder in zip(tasks, placeholders, strict=True)
            ]
            callback = self._finalize.s(gtrid=tx.gtrid).on_error(self._roll_back.si(tx.gtrid))
            result = chord(header, app=self._app)(callback)
            tx.leave()
        return Started(tx.gtrid, result)

    def run(self, task: PartTask, gtrid: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run one delivery of a task's message."""
        owed, _, resource = task.request.headers[PLACEHOLDER].partition("/")
        attempt = f"{owed}.{task.request.retries}"
        traceparent = task.request.headers.get(GRPC_TRACEPARENT, "")
        with with_traceparent(traceparent), self._client.take_part(gtrid) as tx:
            try:
                tx._runner.run(claims.claim(tx._core, attempt, resource))
            except (AlreadyExists, GlobalCommitted):
                tx.leave()
            else:
                claims.owe(tx._core, owed)
                try:
                    result = task.run(*args, **kwargs)
                except Retry:
                    tx._end(claims.withdraw(tx._core, owed))
                    raise
                if task.request.get("assent_retries"):  # Its Retry was kept from us.
                    tx._end(claims.withdraw(tx._core, owed))
                return result
        return self._of_earlier(task, gtrid, owed, attempt)

    def _of_earlier(self, task: PartTask, gtrid: str, owed: str, attempt: str) -> Any:
        """What another delivery of the message has come to, or comes to soon."""
        give_up = time.monotonic() + self._patience
        while True:
            known = getattr(self._client.get_global(gtrid), "global")
            votes = {branch.bqual: branch.vote for branch in known.branches}
            if votes[owed] != gpb.VOTE_KIND_UNSPECIFIED:
                earlier = task.AsyncResult(task.request.id)
                return earlier.result if earlier.successful() else None
            if votes.get(attempt) == gpb.VOTE_KIND_READ_ONLY:
                raise Ignore  # It was retried, and that has a message of its own.
            if known.decision != gpb.DECISION_UNSPECIFIED or time.monotonic() > give_up:
                break
            time.sleep(_LOOK_AGAIN)
        why = f"task {task.name} was delivered twice, and its first delivery has not voted"
        with self._client.join(gtrid) as tx:
            tx.rollback(why)
        raise TransactionRolledBack(f"global transaction '{gtrid}' was rolled back: {why}", metadata={"gtrid": gtrid})

    def _close(self, **_: Any) -> None:
        self._client.close()


class PartTask(Task):  # type: ignore[misc]
    """Base of the tasks of `Transactions.task`."""

    abstract = True
    transactions: Transactions

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it in the message's transaction; called as a function, in the caller's."""
        gtrid = (self.request.headers or {}).get(GRPC_GTRID)
        if gtrid and not self.request.called_directly:
            return self.transactions.run(self, gtrid, args, kwargs)
        if current_transaction() is None:
            raise FailedPrecondition(
                f"task {self.name} runs in transactions only: start it with Transactions.start, or call it as a "
                "function in a transaction's block",
                code=Code.FAILED_PRECONDITION,
            )
        return self.run(*args, **kwargs)

    def retry(self, *args: Any, **kwargs: Any) -> Any:
        """See Task.retry. This attempt is undone, whatever the task does with what this raises."""
        self.request.assent_retries = True
        return super().retry(*args, **kwargs)


def _headers(tx: Transaction, placeholder: str) -> dict[str, str]:
    traceparent = current_traceparent()
    headers = {GRPC_GTRID: tx.gtrid, PLACEHOLDER: placeholder}
    return headers | ({GRPC_TRACEPARENT: traceparent} if traceparent else {})


def _finalizer(client: Client) -> Any:
    def finalize(self: Any, results: Any, gtrid: str) -> Any:
        """Commit. The transaction's deadline ends the repetitions."""
        try:
            with client.join(gtrid) as tx:
                tx.commit()
        except (BranchesNotPrepared, Unavailable) as error:
            raise self.retry(exc=error) from error
        return results

    return finalize


def _roller_back(client: Client) -> Any:
    def roll_back(self: Any, gtrid: str) -> None:
        """Roll back, unless COMMIT was decided: then what failed came after that."""
        try:
            with client.join(gtrid) as tx:
                tx.rollback("a task of the group failed")
        except GlobalCommitted:
            logger.info("gtrid=%s the callback of a committed group failed", gtrid)
        except Unavailable as error:
            raise self.retry(exc=error, countdown=1) from error

    return roll_back


__all__ = ["PartTask", "Started", "Transactions"]
