"""Psycopg 3, sync and asyncio. The core's batches go over libpq itself, beside cursors and adaptation."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Sequence
from typing import Any

from assent._core.effects import Answer
from assent._core.outcome import CONNECTION_LOST_CODE, DbError
from assent._drivers.mysql_common import peer_has_closed, shut_down

# libpq's numbers.
_BAD = 1  # CONNECTION_BAD
_IDLE, _ACTIVE, _IN_TRANSACTION, _IN_ERROR = range(4)  # PGTransactionStatusType
_TUPLES_OK, _FATAL_ERROR, _BAD_RESPONSE = 2, 7, 5  # ExecStatusType
_LOOK = 0.1
"""Seconds after which a wait looks for Ctrl-C. The connection's own `wait` would then cancel, and go on waiting."""
_SQLSTATE, _MESSAGE = ord("C"), ord("M")  # PG_DIAG_…


def _stop_watching(fd: int) -> None:
    """Tell the running loop, if there is one: a task may wait for an answer there, and the number is soon another's."""
    with contextlib.suppress(RuntimeError, ValueError):
        loop = asyncio.get_running_loop()
        loop.remove_reader(fd)
        loop.remove_writer(fd)


class PostgresWire:
    """Both kinds of connection."""

    engine = "postgresql"
    batches = True
    merges = False
    sends_ahead = True

    def __init__(self, connection: Any) -> None:
        self._connection = weakref.ref(connection)
        self._lost = False
        self._sent = False

    @property
    def connection(self) -> Any:
        """See Wire."""
        return self._connection()

    @property
    def lost(self) -> bool:
        """See Wire."""
        return self._lost or self.connection.pgconn.status == _BAD

    def mark_lost(self) -> None:
        """See Wire."""
        self._lost = True

    def identity(self) -> object:
        """See Wire."""
        return None if self.lost else self.connection.pgconn.backend_pid

    def in_transaction(self) -> bool | None:
        """See Wire."""
        return self.connection.pgconn.transaction_status in (_ACTIVE, _IN_TRANSACTION, _IN_ERROR)

    def has_failed(self) -> bool:
        """See Wire."""
        return bool(self.connection.pgconn.transaction_status == _IN_ERROR)

    def peer_has_closed(self) -> bool:
        """See Wire."""
        return self.lost or peer_has_closed(self.connection.pgconn.socket)

    def shutdown(self) -> None:
        """See Wire."""
        if not self.lost:
            _stop_watching(self.connection.pgconn.socket)
            shut_down(self.connection.pgconn.socket)
        self._lost = True
        with contextlib.suppress(Exception):
            self.connection.pgconn.finish()

    def send(self, statements: Sequence[str]) -> None:
        """Send them as one message; what goes wrong is in the answer."""
        self._sent = False
        if self.lost:
            return
        try:
            self.connection.pgconn.send_query(";".join(statements).encode())
            self.connection.pgconn.flush()
            self._sent = True
        except Exception:
            self.shutdown()  # It may still be open: its end is to be the end of the branch.

    def receive(self) -> Answer:
        """Read all answers (sync)."""
        from psycopg import generators, waiting

        if not self._sent:
            return self._unsent()
        pgconn = self.connection.pgconn
        try:
            return self._answer(waiting.wait(generators.fetch_many(pgconn), pgconn.socket, _LOOK))
        except Exception as error:
            return self._broken(error)

    async def exchange(self, statements: Sequence[str]) -> Answer:
        """Send and read (asyncio)."""
        from psycopg import generators, waiting

        self.send(statements)
        if not self._sent:
            return self._unsent()
        pgconn = self.connection.pgconn
        try:
            return self._answer(await waiting.wait_async(generators.execute(pgconn), pgconn.socket, _LOOK))
        except Exception as error:
            return self._broken(error)

    def _unsent(self) -> Answer:
        self._lost = True
        return Answer(error=DbError(CONNECTION_LOST_CODE, "", "the connection to the database is lost"), sent=False)

    def _broken(self, error: Exception) -> Answer:
        """No error of the server's, which `_answer` finds in the results: the connection is out of step."""
        found = self.classify(error)
        found.code = CONNECTION_LOST_CODE
        self.shutdown()
        return Answer(error=found)

    def _answer(self, results: list[Any]) -> Answer:
        answer = Answer()
        for result in results:
            if result.status in (_FATAL_ERROR, _BAD_RESPONSE):
                state = (result.error_field(_SQLSTATE) or b"").decode()
                message = (result.error_field(_MESSAGE) or result.error_message or b"").decode("utf-8", "replace")
                code = 0
                # The server's farewell, or none.
                if self.lost or state.startswith(("57P", "08")) or not state:
                    self._lost = True
                    code = CONNECTION_LOST_CODE
                answer.error = DbError(code, state, message or "unknown error")
                break
            row = None
            if result.status == _TUPLES_OK and result.ntuples:
                row = tuple(
                    None if (cell := result.get_value(0, column)) is None else cell.decode()
                    for column in range(result.nfields)
                )
            answer.rows.append(row)
            answer.tags.append((result.command_status or b"").decode())
        return answer

    def classify(self, error: BaseException) -> DbError:
        """Return what an exception of the driver says, and take down the loss of the connection."""
        state = getattr(error, "sqlstate", None) or ""
        message = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
        self._lost = self.lost or state.startswith(("57P", "08"))
        code = CONNECTION_LOST_CODE if self._lost else 0
        return DbError(code, state, message or type(error).__name__, error)
