"""MariaDbSession: a connection to a MariaDB or MySQL server, and the branch that it runs.

The same protocol as resource_manager/mariadb_session*.cc and session_guard.h, but for one thing: Python's drivers do
not tell what the server's session tracker says, so a branch counts as one that has written unless all its statements
look like reads and the server's own counters of row changes have not moved since its start.
"""

from __future__ import annotations

import itertools
import os
import random

from assent._core.effects import Answer, Core, Wire
from assent._core.outcome import (
    SESSION_RESET_CODE,
    DbError,
    Outcome,
    Step,
    Verb,
    XaResult,
    outcome_of,
    statement_error,
)
from assent._core.session import Session, State, WitnessTable, witness_of
from assent.v1 import global_pb2 as gpb
from assent.xid import Xid, check_bqual, check_gtrid, xid_sql_literal

# MariaDB alone runs what is in /*M! */ and passes over the version comments of MySQL's releases (50700 to 99999).
# In one phase (_TWO_PHASES_COLUMN: not) a branch may be committed only where the server has nothing to agree on:
# neither with a binary log nor between two engines that can prepare.
_IDENTITY_SQL = (
    "SELECT CONCAT(@@hostname, ':', @@port), VERSION(), UNIX_TIMESTAMP() - VARIABLE_VALUE, CONNECTION_ID(),"
    "/*M! @@log_bin OR EXISTS (SELECT * FROM information_schema.ENGINES WHERE XA = 'YES' AND ENGINE <> 'InnoDB')*/"
    "/*!80000 1*/"
    "/*!80000 , (SELECT VARIABLE_VALUE FROM performance_schema.session_variables"
    " WHERE VARIABLE_NAME = 'xa_detach_on_prepare')*/"
    " FROM /*M! information_schema.GLOBAL_STATUS*/ /*!80000 performance_schema.global_status*/"
    " WHERE VARIABLE_NAME = 'UPTIME'"
)
_TWO_PHASES_COLUMN = 4
_DETACH_COLUMN = 5
# Rows that this session has asked the engines to change. Needs no privilege.
_CHANGES_SQL = (
    "SELECT CAST(SUM(VARIABLE_VALUE) AS CHAR)"
    " FROM /*M! information_schema.SESSION_STATUS*/ /*!80000 performance_schema.session_status*/"
    " WHERE VARIABLE_NAME IN ('HANDLER_WRITE', 'HANDLER_UPDATE', 'HANDLER_DELETE')"
)
_DEADLOCK = 1213
_AFTER = {
    Step.END: State.ENDED,
    Step.PREPARE: State.PREPARED,
    Step.COMMIT: State.NONE,
    Step.ROLLBACK: State.NONE,
}
"""The state of a branch after a step of its own; any other leaves it as it was, and comes before these."""
_OUT_OF_RANGE = 1690  # What the guard fails with; see session_guard.cc for why this one.
# Distinct for every branch of this process; far from those of others, which may share a proxy with it.
_marks = itertools.count(random.SystemRandom().getrandbits(62))


def _new_marks() -> None:
    global _marks
    _marks = itertools.count(random.SystemRandom().getrandbits(62))


os.register_at_fork(after_in_child=_new_marks)


def _text(cell: object) -> str:
    return cell.decode() if isinstance(cell, bytes | bytearray) else "" if cell is None else str(cell)


class MariaDbSession(Session):
    """See the module."""

    engine = "mysql"

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self._knows_detach = False
        self._detaches = False
        self._mark = 0
        self._literal = ""
        """The xid of its branch in SQL."""
        self._described = gpb.Session()
        """Empty if the server does not say who it is: a connection id means nothing without its server."""
        self._counts_reads = False
        self._changes: str | None = None

    def set_up(self) -> Core[None]:
        """Ask the server who it is. A server that does not say can still be used."""
        was_in_transaction = self.wire.in_transaction()
        answer = yield from self._exchange([_IDENTITY_SQL])
        if self.lost:
            raise statement_error(answer.error, "setting up the session")
        row = answer.rows[0] if answer.rows else None
        if row:
            self._described = gpb.Session(server=_text(row[0]), connection_id=int(_text(row[3])))
            self._described.server_start_time.seconds = int(float(_text(row[2])))
            self.commits_in_one_phase = _text(row[_TWO_PHASES_COLUMN]) == "0"
            if len(row) > _DETACH_COLUMN and row[_DETACH_COLUMN] is not None:
                self._knows_detach = True
                self._detaches = _text(row[_DETACH_COLUMN]) == "ON"
        if was_in_transaction is False and self.wire.in_transaction():
            yield from self._exchange(["ROLLBACK"])  # Autocommit is off, and the question has opened one.

    @property
    def detaches(self) -> bool:
        """As of the set-up, and then of the last PREPARE."""
        return self._detaches

    def describe(self) -> gpb.Session:
        """See Session."""
        if self._described.server:
            self._described.detached = self.is_detached
        return self._described

    # -- start and statements

    def start_statements(self, xid: Xid, reads: bool) -> list[str]:
        """The mark that the guard looks for, and XA START."""
        literal = xid_sql_literal(xid)
        if self._state is State.NONE or self.is_detached:
            self.xid, self._literal = xid, literal
        self._mark = next(_marks)
        self._counts_reads = reads
        statements = [f"SET @assent_branch={self._mark}", f"XA START {literal}"]
        if reads:
            statements.insert(1, _CHANGES_SQL)
        return statements

    def started(self, answer: Answer) -> XaResult:
        """Take the answer to `start_statements`."""
        if answer.done < (3 if self._counts_reads else 2):
            outcome = outcome_of(Verb.START, answer.error.code)
            if outcome is Outcome.OK:
                outcome = Outcome.ERROR
            return XaResult(outcome, Step.START, answer.error, answer.sent)
        counted = answer.rows[1] if self._counts_reads else None
        self._changes = _text(counted[0]) if counted else None
        self.written = False
        self.prepare_sent = False
        self._state = State.ACTIVE
        return XaResult()

    def statement_done(self, tag: str) -> Core[DbError]:
        """Inside a branch the server says IN_TRANS; else somebody has reset the connection, or ended the branch."""
        if self._state is not State.ACTIVE or self.wire.in_transaction() is not False:
            return DbError()
        answer = yield from self._exchange([self._guard_sql()])
        if answer.error.code == _OUT_OF_RANGE and not self.lost:
            self._mark_reset(ran_outside=True)
        return self._lost_error() if self.was_reset else DbError()

    def statement_failed(self, error: DbError) -> None:
        """A deadlock's victim is rolled back."""
        if error.code == _DEADLOCK and self._state is State.ACTIVE:
            self._state = State.ROLLBACK_ONLY

    def probe(self) -> Core[bool]:
        """Compare the counters with those at the start."""
        if self.written or self._changes is None or self._state is not State.ACTIVE:
            return True
        answer = yield from self._exchange([_CHANGES_SQL])
        row = answer.rows[0] if answer.error.ok and answer.rows else None
        return row is None or _text(row[0]) != self._changes

    # -- verbs

    def _checked(self, value: str) -> str:
        """Return an expression: the value on the session of the branch, and _OUT_OF_RANGE on any other."""
        return f"IF(@assent_branch={self._mark},{value},~0+1)"

    def _guard_sql(self, expression: str = "") -> str:
        if expression:
            return f"SELECT {self._checked(expression)}"
        return f"SET @assent_branch={self._checked(str(self._mark))}"

    def _lost_error(self) -> DbError:
        if not self.was_reset:
            return DbError(2013, "HY000", "the connection to the database is lost")
        return DbError(
            SESSION_RESET_CODE,
            "",
            "the connection was reset or given to another user while it held a branch; whoever lends the connection "
            "must not do that before the global transaction has ended. It is closed",
        )

    def _sql_of(self, step: Step, literal: str, xid: Xid, witness: WitnessTable | None, verb: Verb) -> str:
        if step is Step.GUARD:
            # The application may have changed it since the last look.
            asks = verb is Verb.PREPARE and self._knows_detach
            return self._guard_sql("@@session.xa_detach_on_prepare" if asks else "")
        if step is Step.WITNESS:
            assert witness is not None
            left = witness_of(xid) if verb is Verb.COMMIT_ONE_PHASE else xid
            return witness.insert_sql(left) if self._knows_detach else witness.insert_sql(left, self._checked)
        if step is Step.COMMIT and verb is Verb.COMMIT_ONE_PHASE:
            literal += " ONE PHASE"
        return f"XA {step.name} {literal}"

    def _xa(self, verb: Verb, xid: Xid, steps: list[Step], witness: WitnessTable | None = None) -> Core[XaResult]:
        self._notice_reset()
        literal = self._literal
        if self.is_own(xid):
            # The witness asks as well, but not what PREPARE will do. A branch that PREPARE has let go of is as good on
            # any session.
            asks = steps[0] is Step.WITNESS and not self._knows_detach
            if not asks and not self.is_detached:
                steps = [Step.GUARD, *steps]
        elif error := check_gtrid(xid.gtrid) or check_bqual(xid.bqual):
            return XaResult(Outcome.INVALID, Step.REFUSED, DbError(0, "", error.message), sent=False)
        else:
            literal = xid_sql_literal(xid)
        if verb in (Verb.PREPARE, Verb.COMMIT_ONE_PHASE) and not self.lost:
            if witness is not None and (refusal := self._refuse_witness(xid)):
                return refusal
            # What is written to a connection that the server has closed gets no answer, and nobody could know whether
            # it arrived. Looking first makes most of these cases certain.
            if self.wire.peer_has_closed():
                self.wire.shutdown()  # Its owner is to see it, too.
            self.prepare_sent = verb is Verb.PREPARE and not self.lost
        answer = yield from self._send([self._sql_of(step, literal, xid, witness, verb) for step in steps])
        return self._take(verb, xid, steps, answer)

    def _refuse_witness(self, xid: Xid) -> XaResult | None:
        """Outside of its branch the witness would be committed at once: evidence of a commit that never was."""
        active = self.is_own(xid) and self._state is State.ACTIVE
        if active and self.wire.in_transaction() is not False:
            return None
        why = (
            "the database has ended the branch's transaction, and rolled it back (a deadlock, of which a handler in a "
            "procedure has kept the error to itself)"
            if active
            else f"the branch is not active on this session but {self.state.name}"
        )
        return XaResult(Outcome.WRONG_STATE, Step.REFUSED, DbError(0, "", why), sent=False)

    def _take(self, verb: Verb, xid: Xid, steps: list[Step], answer: Answer) -> XaResult:
        done = min(answer.done, len(steps))
        if done and steps[0] is Step.GUARD and (row := answer.rows[0]):
            self._detaches = _text(row[0]) == "1"
        lost = self.lost
        if done and not lost and self.is_own(xid):
            self._state = _AFTER.get(steps[done - 1], self._state)
        if not lost or not answer.sent:
            self.prepare_sent = False
        if answer.error.ok:
            return XaResult()
        failed = steps[min(done, len(steps) - 1)]
        error = answer.error
        if failed is Step.WITNESS and (lost or error.code == _OUT_OF_RANGE):
            failed = Step.GUARD  # Its question.
        if failed is Step.GUARD and error.code == _OUT_OF_RANGE:
            self._mark_reset(ran_outside=True)
            self.prepare_sent = False
            error = self._lost_error()
        outcome = Outcome.ERROR if failed is Step.WITNESS else outcome_of(_verb_of(failed, verb), error.code)
        if outcome is Outcome.OK:  # An error without a number.
            outcome = Outcome.ERROR
        self._step_failed(failed, xid, outcome, error.code)
        return XaResult(outcome, failed, error, answer.sent)

    def _step_failed(self, step: Step, xid: Xid, outcome: Outcome, code: int) -> None:
        if not self.is_own(xid) or self.lost:
            return
        state = self._state
        if step is Step.WITNESS and code == _DEADLOCK:
            state = State.ROLLBACK_ONLY
        elif step is Step.END and state is State.ACTIVE and outcome is Outcome.WRONG_STATE:
            state = State.ROLLBACK_ONLY  # The database has marked it.
        elif step is Step.PREPARE and outcome is Outcome.ROLLED_BACK:
            state = State.NONE
        elif step is Step.PREPARE and outcome is Outcome.WRONG_STATE and state is State.ENDED:
            state = State.ROLLBACK_ONLY
        elif (
            step is Step.COMMIT
            and (outcome is Outcome.ROLLED_BACK or (outcome is Outcome.UNKNOWN_XID and self.is_detached))
        ) or (step is Step.ROLLBACK and outcome in (Outcome.ROLLED_BACK, Outcome.UNKNOWN_XID)):
            state = State.NONE
        self._state = state

    def prepare(self, xid: Xid, witness: WitnessTable | None) -> Core[XaResult]:
        """Witness row, XA END, XA PREPARE."""
        return (yield from self._xa(Verb.PREPARE, xid, self._ending(witness, Step.PREPARE), witness))

    def commit_one_phase(self, xid: Xid, witness: WitnessTable) -> Core[XaResult]:
        """Witness row, XA END, XA COMMIT … ONE PHASE."""
        return (yield from self._xa(Verb.COMMIT_ONE_PHASE, xid, self._ending(witness, Step.COMMIT), witness))

    def _ending(self, witness: WitnessTable | None, last: Step) -> list[Step]:
        return [
            *([Step.WITNESS] if witness else []),
            *([Step.END] if self._state is State.ACTIVE else []),
            last,
        ]

    def commit(self, xid: Xid) -> Core[XaResult]:
        """XA COMMIT."""
        return (yield from self._xa(Verb.COMMIT, xid, [Step.COMMIT]))

    def rollback(self, xid: Xid) -> Core[XaResult]:
        """XA ROLLBACK, with XA END first if the branch is active."""
        result = yield from self._rollback_once(xid)
        if self.lost or result.ok:
            return result
        if result.failed_step is Step.END:
            # The database had ended the branch already (a deadlock that a procedure's handler swallowed, for one).
            return (yield from self._xa(Verb.ROLLBACK, xid, [Step.ROLLBACK]))
        if result.failed_step is Step.GUARD:
            return (yield from self._rollback_once(xid))  # A KILL QUERY hit the question.
        if result.outcome is Outcome.WRONG_STATE and self._state is State.ROLLBACK_ONLY:
            # MySQL wants a deadlock's victim ended first, and answers even that with an error.
            yield from self._xa(Verb.END, xid, [Step.END])
            return (yield from self._xa(Verb.ROLLBACK, xid, [Step.ROLLBACK]))
        return result

    def _rollback_once(self, xid: Xid) -> Core[XaResult]:
        active = self.is_own(xid) and self._state is State.ACTIVE
        steps = [Step.END, Step.ROLLBACK] if active else [Step.ROLLBACK]
        return (yield from self._xa(Verb.ROLLBACK, xid, steps))

    def end_read_only(self, xid: Xid) -> Core[XaResult]:
        """Roll it back, which costs no write."""
        return (yield from self.rollback(xid))


def _verb_of(step: Step, verb: Verb) -> Verb:
    if step is Step.GUARD:
        # Whatever stopped there (KILL QUERY), the verb behind it did not run.
        return verb if verb in (Verb.COMMIT, Verb.ROLLBACK) else Verb.END
    return {Step.START: Verb.START, Step.END: Verb.END, Step.PREPARE: Verb.PREPARE}.get(step, verb)
