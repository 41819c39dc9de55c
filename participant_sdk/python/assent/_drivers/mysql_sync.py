"""PyMySQL, mysqlclient, MariaDB Connector/Python, and whatever else speaks DB-API to such a server."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from assent._core.effects import Answer
from assent._drivers.mysql_common import IN_TRANSACTION, MySqlWire

_OK_BYTES = 7  # The shortest OK packet.
_MORE_RESULTS = 8  # SERVER_MORE_RESULTS_EXISTS.
_MULTI_STATEMENTS = 1 << 16  # The capability CLIENT_MULTI_STATEMENTS.


class DbApiWire(MySqlWire):
    """Over cursors alone: the server gets one statement at a time."""

    batches = True

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._due: Sequence[str] = ()

    def identity(self) -> object:
        """See Wire."""
        return id(self.connection)

    def send(self, statements: Sequence[str]) -> None:
        """Take down what `receive` is to run."""
        self._due = statements

    def receive(self) -> Answer:
        """Run it."""
        answer = Answer(sent=False)
        last = len(self._due) - 1
        try:
            cursor = self.connection.cursor()
            try:
                for index, statement in enumerate(self._due):
                    answer.sent = index == last  # It is the one that matters: PREPARE.
                    cursor.execute(statement)
                    answer.rows.append(cursor.fetchone() if cursor.description else None)
            except Exception as error:
                answer.error = self.broken(error)
            if not self.lost:
                cursor.close()  # It may read what is left; so never after an interrupt.
        except Exception as error:
            answer.error = self.broken(error)
        return answer


class MariaDbConnectorWire(DbApiWire):
    """MariaDB Connector/Python."""

    @property
    def lost(self) -> bool:
        """See Wire."""
        return self._lost or bool(self.connection._closed)  # `open` would ping.

    def identity(self) -> object:
        """See Wire."""
        return None if self.lost else self.connection.connection_id

    def in_transaction(self) -> bool | None:
        """See Wire."""
        return None if self.lost else bool(self.connection.server_status & IN_TRANSACTION)

    def fileno(self) -> int:
        """See Wire."""
        return -1 if self.lost else int(self.connection._get_socket())

    def classify(self, error: BaseException) -> Any:
        """Take the driver's own SQLSTATE."""
        found = super().classify(error)
        found.sqlstate = getattr(error, "sqlstate", "") or found.sqlstate
        return found


class MySqlClientWire(MySqlWire):
    """mysqlclient (MySQLdb)."""

    sends_ahead = True

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self.batches = self.merges = bool(connection.client_flag & _MULTI_STATEMENTS)
        self._send_error: BaseException | None = None

    @property
    def lost(self) -> bool:
        """See Wire."""
        return self._lost or not self._connection().open

    def identity(self) -> object:
        """See Wire."""
        connection = self._connection()
        return None if self._lost or not connection.open else connection.thread_id()

    def fileno(self) -> int:
        """See Wire."""
        return -1 if self.lost else self.connection.fileno()

    def sqlstate(self) -> str:
        """See MySqlWire."""
        try:
            state: str = self.connection.sqlstate()
        except Exception:
            return ""
        return "" if state == "00000" else state

    def send(self, statements: Sequence[str]) -> None:
        """Send them as one message; what goes wrong is in the answer."""
        self._send_error = None
        connection = self.connection
        try:
            # What the application has left unread of a CALL: the driver's own cursors pass over it, too.
            while connection.next_result() != -1:
                connection.store_result()
            connection.send_query(";".join(statements).encode())
        except Exception as error:
            self._send_error = error

    def receive(self) -> Answer:
        """Read all answers."""
        answer = Answer()
        connection = self.connection
        try:
            if self._send_error:
                answer.sent = False
                raise self._send_error
            connection.read_query_result()
            while True:
                result = connection.store_result()
                rows = result.fetch_row(1) if result else ()
                answer.rows.append(rows[0] if rows else None)
                if connection.next_result() == -1:
                    break
        except Exception as error:
            answer.error = self.broken(error)
        return answer


class PyMySqlWire(MySqlWire):
    """PyMySQL.

    It does not let applications send several statements at once unless they ask for that. The batches of the core
    travel at once all the same: the permission is given in front of them and taken away behind them in the same
    message, so that no statement of the application's ever runs with it.
    """

    batches = True
    sends_ahead = True
    _QUERY = 3
    _PERMIT = b"\x03\x00\x00\x00\x1b\x00\x00"  # COM_SET_OPTION, MYSQL_OPTION_MULTI_STATEMENTS_ON.
    _FORBID = b"\x03\x00\x00\x00\x1b\x01\x00"  # COM_SET_OPTION, MYSQL_OPTION_MULTI_STATEMENTS_OFF.

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self.merges = bool(connection.client_flag & _MULTI_STATEMENTS)
        self._send_error: BaseException | None = None
        self._permits = False

    @property
    def lost(self) -> bool:
        """See Wire."""
        return self._lost or self._connection()._sock is None

    def identity(self) -> object:
        """See Wire."""
        connection = self._connection()
        return None if self._lost or connection._sock is None else connection.server_thread_id[0]

    def in_transaction(self) -> bool | None:
        """See Wire."""
        return bool(self._connection().server_status & IN_TRANSACTION)

    def fileno(self) -> int:
        """See Wire."""
        return -1 if self.lost else self._connection()._sock.fileno()

    def close(self) -> None:
        """Without a farewell: the socket is shut already."""
        self.connection._force_close()

    def send(self, statements: Sequence[str]) -> None:
        """Send them as one message; what goes wrong is in the answer."""
        self._send_error = None
        self._permits = len(statements) > 1 and not self.merges
        sql = ";".join(statements).encode()
        connection = self.connection
        try:
            if self._permits:
                self._finish_earlier()
                query = struct.pack("<iB", len(sql) + 1, self._QUERY) + sql
                connection._write_bytes(self._PERMIT + query + self._FORBID)
            else:
                connection._execute_command(self._QUERY, sql)
        except Exception as error:
            self._send_error = error

    def _finish_earlier(self) -> None:
        """Read what the application has left unread, as the driver does before every statement."""
        connection = self.connection
        if connection._result is not None:
            if connection._result.unbuffered_active:
                connection._result._finish_unbuffered_query()
            while connection._result.has_next:
                connection.next_result()
            connection._result = None

    def receive(self) -> Answer:
        """Read all answers."""
        answer = Answer()
        try:
            if self._send_error:
                answer.sent = False
                raise self._send_error
            if self._permits:
                self._read_permission()
            try:
                self._read_results(answer)
            except Exception as error:
                answer.error = self.broken(error)
            self.connection._result = None  # Or the driver would wait for what has been read here.
            if self._permits and not self.lost:
                self._read_permission()
        except Exception as error:
            answer.error = self.broken(error)
        return answer

    def _read_permission(self) -> None:
        self.connection._next_seq_id = 1
        packet = self.connection._read_packet()
        # An EOF packet; its status is of no interest, and older servers answer OK.
        assert packet.is_eof_packet() or packet.is_ok_packet()

    def _read_results(self, answer: Answer) -> None:
        """The driver's own reader, but for the plain OK packets that nearly all answers are."""
        connection = self.connection
        connection._next_seq_id = 1
        connection._result = None
        more = True
        while more:
            ahead = connection._rfile.peek(4)
            if (
                len(ahead) >= 4 + ahead[0]
                and ahead[0] >= _OK_BYTES
                and not ahead[1]
                and ahead[2:5] == b"\0" + bytes((connection._next_seq_id, 0))
                and ahead[5] < 251
                and ahead[6] < 251
            ):
                # affected rows and insert id of one byte each, then the server's status.
                connection._rfile.read(4 + ahead[0])
                connection._next_seq_id = (connection._next_seq_id + 1) % 256
                status = ahead[7] | ahead[8] << 8
                connection.server_status = status
                answer.rows.append(None)
                more = bool(status & _MORE_RESULTS)
                continue
            connection._read_query_result()
            result = connection._result
            answer.rows.append(result.rows[0] if result.rows else None)
            more = result.has_next
