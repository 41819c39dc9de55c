"""Session: a connection of the application's and the branch that it runs, in the same words for every engine."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from assent._core.effects import Answer, Core, Wire, exchange
from assent._core.outcome import DbError, Outcome, Step, XaResult
from assent.errors import AssentError, Reason, make_error
from assent.v1 import global_pb2 as gpb
from assent.xid import Xid, check_bqual, check_gtrid


class State(enum.Enum):
    """Where the branch of a session stands."""

    NONE = enum.auto()
    ACTIVE = enum.auto()
    ENDED = enum.auto()
    """After XA END (not on PostgreSQL)."""
    ROLLBACK_ONLY = enum.auto()
    """The database has marked it (deadlock victim): only rollback is possible."""
    PREPARED = enum.auto()
    UNKNOWN = enum.auto()
    """The connection is lost."""


_IDENTIFIER = re.compile(r"[A-Za-z0-9_$-]{1,64}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class WitnessTable:
    """The name of a witness table, read once and then safe to put into SQL."""

    schema: str
    table: str

    @staticmethod
    @lru_cache(maxsize=64)
    def parse(name: str) -> WitnessTable:
        """Read `schema.table`; INVALID_FIELD."""
        schema, _, table = name.partition(".")
        if not (_IDENTIFIER.match(schema) and _IDENTIFIER.match(table)):
            raise make_error(
                Reason.INVALID_FIELD,
                "witness_table must be schema.table, each part 1 to 64 bytes of [A-Za-z0-9_$-]",
                {"field": "witness_table"},
            )
        return WitnessTable(schema, table)

    @property
    def name(self) -> str:
        """What `parse` reads."""
        return f"{self.schema}.{self.table}"

    def insert_sql(self, xid: Xid, checked: Callable[[str], str] = str) -> str:
        """Return the statement that leaves the witness of a valid xid. `checked` may put a condition around a value."""
        gtrid, bqual = f"X'{xid.gtrid.encode().hex()}'", f"X'{xid.bqual.encode().hex()}'"
        return f"INSERT INTO `{self.schema}`.`{self.table}` (gtrid, bqual) VALUES ({gtrid}, {checked(bqual)})"

    def why_refused(self, error_code: int) -> str:
        """Return what it means that the server refuses `insert_sql` with this code, and what to do if that is known."""
        why = "the witness row could not be written"
        if error_code in (1044, 1142, 1143):  # Access denied: to the database, the table, the column.
            why += f" (every account that runs branches needs it: GRANT INSERT ON `{self.schema}`.`{self.table}`)"
        elif error_code in (1049, 1146):  # No such database, no such table.
            why += " (its table is gone: assentctl resources register NAME --replace makes it)"
        return why


def witness_of(branch: Xid) -> Xid:
    """Return the ids of the row that a branch leaves which is committed in one phase: no bqual ends like that."""
    return Xid(branch.gtrid, branch.bqual + "!")


class Session:
    """Base of the engines' sessions. One user at a time.

    The generators yield nothing but Exchange, so that `in_parallel` takes them. While `holds_branch`, the connection
    must not be handed back, reset, reused or closed, except by `shutdown`.
    """

    engine = ""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.identity = wire.identity()
        self.xid = Xid("", "")
        self.was_reset = False
        """Somebody took the connection away from the branch; it is closed."""
        self.ran_outside = False
        """After `was_reset`: statements may have run outside of the branch, and committed by themselves."""
        self.written = False
        self.prepare_sent = False
        """PREPARE is on the wire, or was when the connection was lost."""
        self.commits_in_one_phase = False
        """An OK to `commit_one_phase` outlives a crash of the server."""
        self._state = State.NONE

    # What the engines fill in.

    def set_up(self) -> Core[None]:
        """Ask the server who it is. Raises AssentError."""
        raise NotImplementedError

    def describe(self) -> gpb.Session:
        """Return how the coordinator finds the session again; good until the next call."""
        raise NotImplementedError

    @property
    def detaches(self) -> bool:
        """Tell whether PREPARE lets go of the branch, so that any session may finish it."""
        raise NotImplementedError

    def start_statements(self, xid: Xid, reads: bool) -> list[str]:
        """Return what starts a branch. `reads`: the first statement is expected to write nothing."""
        raise NotImplementedError

    def started(self, answer: Answer) -> XaResult:
        """Take the answer to `start_statements`."""
        raise NotImplementedError

    def statement_done(self, tag: str) -> Core[DbError]:
        """Take note of a statement of the application's that succeeded; an error if it was not run in the branch."""
        raise NotImplementedError

    def statement_failed(self, error: DbError) -> None:
        """Take note of a statement of the application's that failed."""
        raise NotImplementedError

    def revive(self) -> bool:
        """Take the branch for active again if a ROLLBACK TO SAVEPOINT, which is next, can make it so; else False."""
        return self._state is State.ACTIVE and not self.lost

    def probe(self) -> Core[bool]:
        """Ask whether the branch may have written. False: it certainly has not, and needs no PREPARE."""
        raise NotImplementedError

    def prepare(self, xid: Xid, witness: WitnessTable | None) -> Core[XaResult]:
        """Leave the witness, end and prepare."""
        raise NotImplementedError

    def commit_one_phase(self, xid: Xid, witness: WitnessTable) -> Core[XaResult]:
        """Commit a branch that is not prepared, and leave its witness (`witness_of`) with it.

        CONNECTION_LOST with `sent`, and any other error than ROLLED_BACK of the step COMMIT, leave it committed or
        rolled back: once the session is gone, the witness tells. Only if `commits_in_one_phase`.
        """
        raise NotImplementedError

    def commit(self, xid: Xid) -> Core[XaResult]:
        """Commit the prepared branch."""
        raise NotImplementedError

    def rollback(self, xid: Xid) -> Core[XaResult]:
        """Roll back, in every state."""
        raise NotImplementedError

    def end_read_only(self, xid: Xid) -> Core[XaResult]:
        """End a branch that has written nothing. If the failed step is COMMIT, what it has read does not hold."""
        raise NotImplementedError

    # What they share.

    def start(self, xid: Xid, reads: bool = False) -> Core[XaResult]:
        """Start a branch."""
        if refusal := self.refuse_start(xid):
            return refusal
        answer = yield from self._exchange(self.start_statements(xid, reads))
        return self.started(answer)

    def refuse_start(self, xid: Xid) -> XaResult | None:
        """Return why a branch cannot start here; None if nothing is known against it."""
        if error := check_gtrid(xid.gtrid) or check_bqual(xid.bqual):
            return XaResult(Outcome.INVALID, Step.REFUSED, DbError(0, "", error.message), sent=False)
        return None

    @property
    def lost(self) -> bool:
        """Tell whether the connection cannot be used any more."""
        return self.wire.lost

    @property
    def state(self) -> State:
        """Where its branch stands."""
        if self._state is not State.NONE and self.lost:
            return State.UNKNOWN
        return self._state

    @property
    def is_free(self) -> bool:
        """Tell whether the connection works and has no branch: its owner may do with it what he likes."""
        return not self.lost and self._state is State.NONE

    def is_own(self, xid: Xid) -> bool:
        """Tell whether that is its branch."""
        return self._state is not State.NONE and self.xid == xid

    @property
    def is_detached(self) -> bool:
        """Tell whether there is a branch, and PREPARE has let go of it."""
        return self.state is State.PREPARED and self.detaches

    @property
    def holds_branch(self) -> bool:
        """Tell whether the connection must stay as it is."""
        return not self.lost and ((self._state is State.PREPARED and not self.detaches) or self.prepare_sent)

    def shutdown(self) -> None:
        """Close the connection for real: what it holds becomes detached, for the coordinator to finish."""
        self.wire.shutdown()

    def free(self) -> None:
        """Forget the branch: it is finished, by whomever."""
        self._state = State.NONE
        self.prepare_sent = False

    def _lost_error(self) -> DbError:
        raise NotImplementedError

    def _notice_reset(self) -> None:
        """Look, without asking the server, whether the connection was made anew."""
        if self.lost or self.wire.identity() == self.identity:
            return
        if self._state is State.NONE or self.is_detached:
            self.wire.mark_lost()
        else:
            self._mark_reset(ran_outside=False)

    def _mark_reset(self, ran_outside: bool) -> None:
        self.was_reset = True
        # A prepared branch refuses statements.
        self.ran_outside = ran_outside and self._state is not State.PREPARED
        self.wire.shutdown()

    def _exchange(self, statements: list[str]) -> Core[Answer]:
        """Send a batch, unless the connection was made anew."""
        self._notice_reset()
        return (yield from self._send(statements))

    def _send(self, statements: list[str]) -> Core[Answer]:
        """Send a batch; statement by statement where the connection takes no batches, until one fails."""
        if self.lost:
            return Answer(error=self._lost_error(), sent=False)
        if self.wire.batches or len(statements) == 1:
            return (yield from exchange(self.wire, statements))
        whole = Answer()
        for index, statement in enumerate(statements):
            answer = yield from exchange(self.wire, [statement])
            whole.rows += answer.rows
            whole.tags += answer.tags
            whole.error = answer.error
            # Of the last one, which is the one that matters: PREPARE.
            whole.sent = answer.sent and index == len(statements) - 1
            if not answer.error.ok:
                break
        return whole


def wrong_server(session: gpb.Session, resource: str, server: str, timeline: int) -> AssentError | None:
    """Return WRONG_SERVER if the session says that it is not on the server of the resource, or on an old timeline."""
    is_other = bool(server and session.server and session.server != server)
    is_old = session.timeline != 0 and session.timeline < timeline
    if not is_other and not is_old:
        return None
    if is_other:
        why = (
            f"the session is on the server {session.server}, but resource '{resource}' is {server}: the participant "
            "must connect to the resource's own server"
        )
    else:
        why = (
            f"the session is on timeline {session.timeline} of its server, but resource '{resource}' has been on "
            f"timeline {timeline} since a failover: the participant is on a server that was replaced, and must connect "
            "to the new one"
        )
    return make_error(
        Reason.WRONG_SERVER, why, {"resource": resource, "server": server, "session_server": session.server}
    )
