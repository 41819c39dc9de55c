"""The shapes of the package xa-transactions over Assent, for programs that were written for it.

    store = assent.Client("assentd:7411")
    orders, payments = XAAdapter(orders_connection, store, "orders"), XAAdapter(payments_connection, store, "payments")
    coordinator = Coordinator(orders, store)
    gtrid = coordinator.create_global(expected_branches=2)
    for adapter, bqual in zip((orders, payments), coordinator.create_branches(gtrid, count=2)):
        with adapter.branch_transaction(gtrid, bqual):
            adapter.execute("INSERT INTO …")
    coordinator.finalize(gtrid, decision="COMMIT")

The store is the coordinator's daemon, and an adapter is told on which registered resource its connection is. Nothing is
guessed: COMMIT has proof of every branch, or raises. docs/from-xa-transactions.md says what differs.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any

from assent._core import claims
from assent._core.effects import Call
from assent.client import Branch, Client
from assent.errors import AssentError, BranchEnded, BranchesNotPrepared, Reason, make_error
from assent.v1 import coordinator_service_pb2 as pb
from assent.v1 import global_pb2 as gpb
from assent.xid import check_bqual


class Decision(str, Enum):
    """What `Coordinator.finalize` can be asked for; the strings do as well."""

    COMMIT = "COMMIT"
    ROLLBACK = "ROLLBACK"


class XAAdapter:
    """A connection of the application's to one registered resource. One branch at a time, until that is decided."""

    def __init__(self, connection: Any, store: Client, resource: str) -> None:
        self.connection = connection
        self._store = store
        self._resource = resource
        self._branch: Branch | None = None

    @contextmanager
    def branch_transaction(self, gtrid: str, bqual: str) -> Iterator[XAAdapter]:
        """Run the block in a branch of that name, in whichever process; what runs on `connection` is in it, too.

        At the end of the block it is prepared and its vote counts. It is finished on this connection, in the
        background, once it is decided; until then the connection must be left alone. An exception that leaves the block
        rolls the whole transaction back, and goes on as it was. Errors: those of `Transaction.branch`, `Branch.start`
        and `Transaction.vote`; BRANCH_EXISTS if the name was used before, which changes nothing.
        """
        if error := check_bqual(bqual):
            raise error
        tx = self._store.take_part(gtrid)
        tx._runner.run(claims.claim(tx._core, bqual, self._resource))
        with tx:
            self._branch = tx.branch(self._resource, self.connection)
            try:
                self._branch.start()
                yield self
            finally:
                self._branch = None

    def execute(self, sql: str, params: Any = None) -> Any:
        """Run a statement in the branch of the block, and return a cursor with its result. See `Branch.execute`."""
        if self._branch is None:
            raise BranchEnded("execute outside of branch_transaction would be committed at once: put it inside")
        return self._branch.execute(sql, params)


MySQLXAAdapter = XAAdapter


class Coordinator:
    """Begins transactions and asks for their decisions, in whichever process.

    `adapter` is there for the shape: nothing is sent over it, and None will do. Every branch is finished on the
    connection that prepared it, or by assentd if that is gone.
    """

    def __init__(self, adapter: XAAdapter | None, store: Client) -> None:
        self.adapter = adapter
        self.store = store

    def create_global(self, expected_branches: int, gtrid: str | None = None, *, timeout: float = 0.0) -> str:
        """Begin a transaction and return its gtrid. It can only commit with so many branches, all prepared.

        Undecided after `timeout` seconds (0: the coordinator's default) it is rolled back. A `gtrid` of your own must
        begin with the coordinator's cluster. Errors: those of `Client.transaction`.
        """
        if expected_branches < 1:
            raise _invalid("expected_branches", f"expected_branches is {expected_branches}; it must be 1 or more")
        tx = self.store.transaction(gtrid=gtrid or "", expected_branches=expected_branches, timeout=timeout)
        tx.leave()
        return tx.gtrid

    def create_branches(self, gtrid: str, count: int | None = None, bquals: Sequence[str] | None = None) -> list[str]:
        """Return names for branches: `bquals`, or `count` new ones (None: as many as are expected).

        A branch itself comes to be where it runs, since only its adapter knows on which resource. GLOBAL_NOT_FOUND;
        INVALID_FIELD if they are more than expected.
        """
        expected = getattr(self.store.get_global(gtrid), "global").expected_branches
        if bquals is None:
            wanted = expected if count is None else count
            bquals = [f"b{number}-{uuid.uuid4().hex[:12]}" for number in range(1, wanted + 1)]
        if len(bquals) > expected:
            raise _invalid("count", f"{len(bquals)} branches are more than the {expected} that are expected")
        for bqual in bquals:
            if error := check_bqual(bqual):
                raise error
        return list(bquals)

    def mark_branch_prepared(self, gtrid: str, bqual: str, duration_ms: float = 0.0) -> None:
        """Check that the branch has voted, which leaving its block did. BRANCH_NOT_FOUND, BRANCHES_NOT_PREPARED."""
        known = getattr(self.store.get_global(gtrid), "global")
        vote = next((branch.vote for branch in known.branches if branch.bqual == bqual), None)
        if vote is None:
            raise make_error(Reason.BRANCH_NOT_FOUND, f"no branch '{bqual}' has begun in '{gtrid}'", {"gtrid": gtrid})
        if vote not in (gpb.VOTE_KIND_PREPARED, gpb.VOTE_KIND_READ_ONLY):
            raise BranchesNotPrepared(f"branch '{bqual}' has not been prepared", metadata={"missing": bqual})

    def finalize(self, gtrid: str, decision: str, force: bool = False) -> None:
        """Ask for the decision. Returns: COMMIT, proven on every branch; or ROLLBACK. It may be repeated.

        BRANCHES_NOT_PREPARED if COMMIT comes before all expected branches are prepared: nothing is decided, ask again.
        `Aborted`: rolled back. GLOBAL_COMMITTED: too late for ROLLBACK. GLOBAL_NOT_FOUND: of no such transaction
        anything is known, also not that it was rolled back. OUTCOME_IN_DOUBT: ask again. ROLLBACK needs no `force`;
        COMMIT with it is refused (INVALID_FIELD).
        """
        if decision not in ("COMMIT", "ROLLBACK"):
            raise _invalid("decision", "decision must be COMMIT or ROLLBACK")
        if force and decision == "COMMIT":
            raise _invalid("force", "COMMIT cannot be forced: what is not prepared everywhere would be half done")
        self.store.get_global(gtrid)
        with self.store.join(gtrid) as tx:
            tx.commit() if decision == "COMMIT" else tx.rollback()

    def gc(self) -> int:
        """Have the coordinator look at its servers now; return how many of its branches it found prepared there.

        It does that all the time by itself, and finishes what it finds: nothing depends on this.
        """
        call = Call("Recover", pb.RecoverRequest(), self.store.options.call_patience)
        response: pb.RecoverResponse = self.store._connection.call(call)
        kinds = (pb.XidReport.KIND_OURS, pb.XidReport.KIND_ORPHAN)
        return sum(xid.kind in kinds for report in response.resources for xid in report.xids)


def _invalid(field: str, message: str) -> AssentError:
    return make_error(Reason.INVALID_FIELD, message, {"field": field})


__all__ = ["Coordinator", "Decision", "MySQLXAAdapter", "XAAdapter"]
