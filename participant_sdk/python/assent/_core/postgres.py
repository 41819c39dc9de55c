"""PostgresSession: a connection to a PostgreSQL server, and the branch that it runs.

The same protocol as resource_manager/postgres_session.cc: an ordinary transaction until PREPARE TRANSACTION, which lets
go of it. No witness row: pg_xact_status of the transaction id that `describe` tells is the evidence.
"""

from __future__ import annotations

from assent._core.effects import Answer, Core, Wire
from assent._core.outcome import (
    SESSION_RESET_CODE,
    DbError,
    Outcome,
    Step,
    Verb,
    XaResult,
    postgres_outcome_of,
    statement_error,
)
from assent._core.session import Session, State, WitnessTable
from assent.v1 import global_pb2 as gpb
from assent.xid import FORMAT_ID, Xid, branch_lock_of, check_bqual, check_gtrid, gid_of

# A parameter that no server has: to ask for it is an error that nothing else raises.
_REFUSAL = "assent.not_in_this_branch"
# Set with SET LOCAL, so it ends with the transaction.
_BRANCH_PARAMETER = "assent.branch"
SAVEPOINT = "assent_keep"

# Of the WAL that the server writes; 0: it writes none, being in recovery.
_TIMELINE_SQL = (
    "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 0 ELSE ('x'||pg_catalog.substr(pg_catalog.pg_walfile_name("
    "pg_catalog.pg_current_wal_lsn()),1,8))::bit(32)::int8 END"
)
_FACTS_SQL = (
    "SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()),current_database(),"
    "(extract(epoch from pg_postmaster_start_time())*1000000)::int8,"
    "pg_backend_pid(),(SELECT (extract(epoch from backend_start)*1000000)::int8 FROM "
    f"pg_stat_get_activity(pg_backend_pid())),current_setting('max_prepared_transactions')::int8,({_TIMELINE_SQL})"
)
# Not empty if the transaction has an id, which whatever writes or locks rows gets; or if it has written a foreign
# table, for which the other server's transaction gets one. (Nobody else's locks are looked at where there is no such
# table.)
_HAS_WRITTEN_SQL = (
    "COALESCE(pg_catalog.pg_current_xact_id_if_assigned()::text,"
    "CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_foreign_table) THEN "
    "(SELECT 'foreign' FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_class AS c ON c.oid=l.relation "
    "WHERE l.pid=pg_catalog.pg_backend_pid() AND l.mode='RowExclusiveLock' AND c.relkind='f' LIMIT 1) END,'')"
)
_START_RESULTS = 2  # BEGIN, and its guard.
_READS = (
    "SELECT", "FETCH", "MOVE", "SET", "SHOW", "BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK", "DECLARE", "CLOSE",
    "EXPLAIN", "LOCK", "PREPARE", "DEALLOCATE", "DISCARD", "DO", "CALL",
)  # fmt: skip


def _writes(tag: str) -> bool:
    """Tell whether that is the tag of a command that has changed rows, or anything else than rows."""
    return bool(tag) and not tag.startswith(_READS) and not tag.endswith(" 0")


def _advice_on(error: DbError) -> str:
    if error.sqlstate == "53200" and "prepared transactions" in error.message:
        return ": raise max_prepared_transactions (with max_connections it is usually safe) and restart the server"
    if error.sqlstate == "0A000":
        return ": leave it out of the branch, or do it on another session"
    return ""


def _is_refusal(error: DbError) -> bool:
    return error.sqlstate == "42704" and _REFUSAL in error.message


class PostgresSession(Session):
    """See the module."""

    engine = "postgresql"

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self._server = ""
        self._start_us = 0
        self._session_us = 0
        self._pid = 0
        self._max_prepared = 0
        self._timeline = 0
        self._transaction_id = 0

    def set_up(self) -> Core[None]:
        """Ask the server who it is."""
        was_in_transaction = self.wire.in_transaction()
        answer = yield from self._exchange([_FACTS_SQL])
        row = answer.rows[0] if answer.error.ok and answer.rows else None
        if row is None:
            raise statement_error(answer.error, "setting up the session")
        self._server = f"{row[0]}/{row[1]}"
        self._start_us, self._pid, self._session_us = int(row[2]), int(row[3]), int(row[4])
        self._max_prepared, self._timeline = int(row[5]), int(row[6])
        if was_in_transaction is False and self.wire.in_transaction():
            yield from self._exchange(["ROLLBACK"])

    @property
    def detaches(self) -> bool:
        """Always."""
        return True

    def describe(self) -> gpb.Session:
        """Once the branch is prepared also what proves how it ends."""
        described = gpb.Session(server=self._server, connection_id=self._pid)
        described.server_start_time.FromMicroseconds(self._start_us)
        described.session_start_time.FromMicroseconds(self._session_us)
        if self._state is State.PREPARED:
            described.detached = True
            described.transaction_id = self._transaction_id
            described.timeline = self._timeline
        return described

    # -- start and statements

    def refuse_start(self, xid: Xid) -> XaResult | None:
        """Also within a transaction, and if the server prepares none."""
        if refusal := super().refuse_start(xid):
            return refusal
        if self.lost:
            return None
        if self.wire.in_transaction():
            error = DbError(0, "25001", "there is a transaction in progress")
            return XaResult(Outcome.OUTSIDE, Step.REFUSED, error, sent=False)
        if self._max_prepared == 0:
            error = DbError(
                0,
                "55000",
                "prepared transactions are disabled: set max_prepared_transactions (to max_connections or more) in "
                "postgresql.conf and restart the server",
            )
            return XaResult(Outcome.NOT_SUPPORTED, Step.REFUSED, error, sent=False)
        return None

    def start_statements(self, xid: Xid, reads: bool) -> list[str]:
        """BEGIN, the guard's mark, and the lock that says who runs the branch."""
        self.xid = xid
        return [
            "BEGIN",
            f"SELECT CASE WHEN pg_catalog.pg_backend_pid()={self._pid} THEN pg_catalog.set_config("
            f"'{_BRANCH_PARAMETER}','{gid_of(xid)}',true) ELSE pg_catalog.current_setting('{_REFUSAL}') END,"
            f"pg_catalog.pg_advisory_xact_lock_shared({FORMAT_ID},{branch_lock_of(xid)})",
        ]

    def start(self, xid: Xid, reads: bool = False) -> Core[XaResult]:
        """Start a branch; what was begun without one is rolled back."""
        result = yield from super().start(xid, reads)
        if not result.ok and result.sent and not self.lost and self.wire.in_transaction():
            yield from self._exchange(["ROLLBACK"])
        return result

    def started(self, answer: Answer) -> XaResult:
        """Take the answer to `start_statements`."""
        if answer.done < _START_RESULTS:
            outcome = postgres_outcome_of(Verb.START, answer.error)
            error = answer.error
            if _is_refusal(error):
                outcome = Outcome.SESSION_RESET
                error = DbError(
                    SESSION_RESET_CODE,
                    "",
                    "the connection leads to another server process than before: something hands its statements out "
                    "to several (pgbouncer with pool_mode transaction or statement). Use session pooling, or connect "
                    "to the server itself",
                )
            return XaResult(outcome, Step.START, error, answer.sent)
        self._state = State.ACTIVE
        self.written = False
        self.prepare_sent = False
        self._transaction_id = 0
        return XaResult()

    def statement_done(self, tag: str) -> Core[DbError]:
        """Take down what the tag tells, and whether the transaction is still there."""
        yield from ()
        if self._state is not State.ACTIVE or self.lost:
            return self._lost_error() if self.was_reset else DbError()
        self.written = self.written or _writes(tag)
        if tag in ("COMMIT", "PREPARE TRANSACTION") or not self.wire.in_transaction():
            self._mark_reset(ran_outside=True)
            return self._lost_error()
        if self.wire.has_failed():
            self._state = State.ROLLBACK_ONLY
        return DbError()

    def statement_failed(self, error: DbError) -> None:
        """Any error fails the transaction, unless a savepoint was rolled back to."""
        if self._state is State.ACTIVE and not self.lost and self.wire.has_failed():
            self._state = State.ROLLBACK_ONLY

    def revive(self) -> bool:
        """A failed transaction comes back, unless it was ended."""
        if self._state is State.ROLLBACK_ONLY and not self.lost and self.wire.in_transaction():
            self._state = State.ACTIVE
        return super().revive()

    def keep(self) -> Core[DbError]:
        """Set the savepoint in front of a statement whose error is expected."""
        return (yield from self._exchange([f"SAVEPOINT {SAVEPOINT}"])).error

    def release(self, failed: bool) -> Core[DbError]:
        """Let go of the savepoint behind that statement; undo it if it failed."""
        statements = [f"ROLLBACK TO SAVEPOINT {SAVEPOINT}"] if failed else []
        return (yield from self._exchange([*statements, f"RELEASE SAVEPOINT {SAVEPOINT}"])).error

    def probe(self) -> Core[bool]:
        """See _HAS_WRITTEN_SQL."""
        if self.written or self._state is not State.ACTIVE:
            return True
        answer = yield from self._exchange([self._guard_sql(_HAS_WRITTEN_SQL)])
        if _is_refusal(answer.error) and not self.lost:
            self._mark_reset(ran_outside=True)
        row = answer.rows[0] if answer.error.ok and answer.rows else None
        return row is None or row[0] != ""

    # -- verbs

    def _guard_sql(self, column: str) -> str:
        return (
            f"SELECT CASE WHEN pg_catalog.pg_backend_pid()={self._pid} AND pg_catalog.current_setting("
            f"'{_BRANCH_PARAMETER}',true)='{gid_of(self.xid)}' THEN {column} "
            f"ELSE pg_catalog.current_setting('{_REFUSAL}') END"
        )

    def _lost_error(self) -> DbError:
        if not self.was_reset:
            return DbError(-2, "", "the connection to the database is lost")
        return DbError(
            SESSION_RESET_CODE,
            "",
            "the transaction of the branch was ended beside it, by COMMIT or ROLLBACK in a statement or by whoever "
            "lends the connection: they are for the global transaction to order. The connection is closed",
        )

    def _xa(self, verb: Verb, xid: Xid, statements: list[str], guarded: bool) -> Core[XaResult]:
        if error := check_gtrid(xid.gtrid) or check_bqual(xid.bqual):
            return XaResult(Outcome.INVALID, Step.REFUSED, DbError(0, "", error.message), sent=False)
        answer = yield from self._exchange(statements)
        if not self.lost or not answer.sent:
            self.prepare_sent = False
        result = XaResult(sent=answer.sent)
        if answer.error.ok:
            if verb is Verb.PREPARE and answer.tags[-1] != "PREPARE TRANSACTION":
                # PostgreSQL's answer to PREPARE TRANSACTION of a failed transaction: it is rolled back.
                error_ = DbError(0, "25P02", "the transaction had failed, and was rolled back instead of prepared")
                result = XaResult(Outcome.ROLLED_BACK, Step.PREPARE, error_)
        else:
            in_guard = guarded and answer.done == 0
            result.error = answer.error
            result.outcome = postgres_outcome_of(verb, answer.error)
            result.failed_step = Step.GUARD if in_guard else _STEPS[verb]
            if in_guard and _is_refusal(answer.error) and not self.lost:
                self._mark_reset(ran_outside=True)
                result.error, result.outcome = self._lost_error(), Outcome.SESSION_RESET
            elif in_guard and not self.lost:
                result.outcome = Outcome.WRONG_STATE
            result.error.message += _advice_on(result.error)
        self._note(verb, xid, result, answer)
        return result

    def _note(self, verb: Verb, xid: Xid, result: XaResult, answer: Answer) -> None:
        if not self.is_own(xid) or self.lost:
            return
        if verb is Verb.PREPARE:
            self._state = State.PREPARED if result.ok else State.ROLLBACK_ONLY
            if result.ok:
                self._transaction_id = int((answer.rows[0] or ("0",))[0])
                if len(answer.rows) > _START_RESULTS:
                    self._timeline = int((answer.rows[1] or ("0",))[0])
        elif result.ok or result.outcome is Outcome.UNKNOWN_XID:
            self._state = State.NONE
        elif verb is Verb.END:
            self._state = State.ROLLBACK_ONLY

    def prepare(self, xid: Xid, witness: WitnessTable | None) -> Core[XaResult]:
        """Ask for the transaction's id, and prepare it."""
        if not self.lost and not (self.is_own(xid) and self._state is State.ACTIVE):
            error = DbError(0, "", f"the branch is not active on this session but {self.state.name}")
            return XaResult(Outcome.WRONG_STATE, Step.REFUSED, error, sent=False)
        # See MariaDbSession._xa.
        if not self.lost and self.wire.peer_has_closed():
            self.wire.shutdown()  # Its owner is to see it, too.
        self.prepare_sent = not self.lost
        statements = [self._guard_sql("pg_catalog.pg_current_xact_id()::text")]
        if self._timeline == 0:  # The session is of a standby's time.
            statements.append(_TIMELINE_SQL)
        statements.append(f"PREPARE TRANSACTION '{gid_of(xid)}'")
        return (yield from self._xa(Verb.PREPARE, xid, statements, guarded=True))

    def commit(self, xid: Xid) -> Core[XaResult]:
        """COMMIT PREPARED."""
        if not self.lost and self._state is not State.NONE and not (self.is_own(xid) and self.is_detached):
            error = DbError(0, "", f"the session has a branch that is {self.state.name}")
            return XaResult(Outcome.WRONG_STATE, Step.REFUSED, error, sent=False)
        return (yield from self._xa(Verb.COMMIT, xid, [f"COMMIT PREPARED '{gid_of(xid)}'"], guarded=False))

    def rollback(self, xid: Xid) -> Core[XaResult]:
        """ROLLBACK, or ROLLBACK PREPARED."""
        if self.lost or not self.is_own(xid) or self._state is State.PREPARED:
            return (yield from self._xa(Verb.ROLLBACK, xid, [f"ROLLBACK PREPARED '{gid_of(xid)}'"], guarded=False))
        if not self.wire.in_transaction():
            if self._state is State.ROLLBACK_ONLY:  # Already: by the failure of PREPARE.
                self._state = State.NONE
                return XaResult()
            self._mark_reset(ran_outside=True)
        if self._state is not State.ACTIVE:
            return (yield from self._xa(Verb.ROLLBACK, xid, ["ROLLBACK"], guarded=False))
        result = yield from self._xa(Verb.ROLLBACK, xid, [self._guard_sql("''"), "ROLLBACK"], guarded=True)
        if result.failed_step is Step.GUARD and result.outcome is Outcome.WRONG_STATE and not self.lost:
            # Cancelled, or the transaction had failed unseen: without the question then.
            self._state = State.ROLLBACK_ONLY
            return (yield from self._xa(Verb.ROLLBACK, xid, ["ROLLBACK"], guarded=False))
        return result

    def end_read_only(self, xid: Xid) -> Core[XaResult]:
        """Not ROLLBACK: under SERIALIZABLE what a transaction has read counts for others only if it commits."""
        if self.lost or not self.is_own(xid) or self._state is not State.ACTIVE:
            return (yield from self.rollback(xid))
        return (yield from self._xa(Verb.END, xid, [self._guard_sql("''"), "COMMIT"], guarded=True))


_STEPS = {Verb.PREPARE: Step.PREPARE, Verb.ROLLBACK: Step.ROLLBACK, Verb.COMMIT: Step.COMMIT, Verb.END: Step.COMMIT}
