"""What the drivers of MariaDB and MySQL have in common."""

from __future__ import annotations

import os
import select
import socket
import weakref
from collections.abc import Callable
from typing import Any

from assent._core.outcome import CONNECTION_LOST_CODE, DbError, is_connection_lost

_OUT_OF_SYNC = 2014  # CR_COMMANDS_OUT_OF_SYNC.
_FIRST_OF_SERVER = 1000
"""The server's error numbers begin here."""
IN_TRANSACTION = 1  # SERVER_STATUS_IN_TRANS.

# Drivers that throw the SQLSTATE away. The numbers are the same for MariaDB and MySQL.
_SQLSTATES = {
    1022: "23000", 1040: "08004", 1044: "42000", 1045: "28000", 1046: "3D000", 1048: "23000", 1049: "42000",
    1050: "42S01", 1053: "08S01", 1054: "42S22", 1062: "23000", 1064: "42000", 1142: "42000", 1146: "42S02",
    1205: "HY000", 1213: "40001", 1227: "42000", 1235: "42000", 1264: "22003", 1290: "HY000", 1292: "22007",
    1317: "70100", 1364: "HY000", 1366: "22007", 1397: "XAE04", 1398: "XAE05", 1399: "XAE07", 1400: "XAE09",
    1401: "XAE03", 1402: "XA100", 1406: "22001", 1440: "XAE08", 1451: "23000", 1452: "23000", 1586: "23000",
    1613: "XA106", 1614: "XA102", 1690: "22003", 1927: "70100", 1969: "70100", 3819: "HY000", 4025: "23000",
}  # fmt: skip


def sqlstate_of(code: int) -> str:
    """Return the SQLSTATE of a server's error number; empty if it is not known here."""
    return "HY000" if 2000 <= code < 3000 else _SQLSTATES.get(code, "")


def classify(error: BaseException, sqlstate: str = "") -> DbError:
    """Return what an exception of such a driver says. One without a number is the loss of the connection."""
    arguments = error.args
    code = arguments[0] if arguments and isinstance(arguments[0], int) else getattr(error, "errno", 0) or 0
    message = str(arguments[1]) if len(arguments) > 1 else str(error)
    if code == _OUT_OF_SYNC:
        message += ". An earlier statement's results are unread: read all of them (nextset), or close its cursor"
    if isinstance(error, OSError) or (code == 0 and type(error).__name__ == "InterfaceError"):
        code = CONNECTION_LOST_CODE
    return DbError(code, sqlstate or sqlstate_of(code), message or type(error).__name__, error)


def means_lost(error: DbError) -> bool:
    """Tell whether the connection cannot be used after it."""
    return is_connection_lost(error.code)


def peer_has_closed(fd: int) -> bool:
    """Look, without waiting, whether the other side of a socket has closed it."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(fd, getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))


def shut_down(fd: int) -> None:
    """End the conversation on a socket, whoever else holds it."""
    try:
        with socket.socket(fileno=os.dup(fd)) as twin:
            twin.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # It has ended already.


class MySqlWire:
    """Base of these drivers' wires: what is known of the connection, whatever the driver."""

    engine = "mysql"
    batches = False
    merges = False
    """The application's own statements may be several in one message: START rides with the first of them."""
    sends_ahead = False
    """`send` does not wait for the answer."""

    def __init__(self, connection: Any) -> None:
        self._connection: Callable[[], Any] = weakref.ref(connection)
        self._lost = False

    @property
    def connection(self) -> Any:
        """See Wire."""
        return self._connection()

    @property
    def lost(self) -> bool:
        """See Wire."""
        return self._lost

    def mark_lost(self) -> None:
        """See Wire."""
        self._lost = True

    def has_failed(self) -> bool:
        """See Wire."""
        return False

    def in_transaction(self) -> bool | None:
        """See Wire."""
        return None

    def fileno(self) -> int:
        """Return the socket, or -1."""
        return -1

    def peer_has_closed(self) -> bool:
        """See Wire."""
        fd = self.fileno()
        return fd < 0 or peer_has_closed(fd)

    def shutdown(self) -> None:
        """See Wire."""
        fd = self.fileno()
        self._lost = True
        if fd >= 0:
            shut_down(fd)
        self.close()

    def close(self) -> None:
        """Let the driver know."""
        try:
            self.connection.close()
        except Exception:
            pass  # It knows.

    def sqlstate(self) -> str:
        """Return that of the last error, if the driver tells."""
        return ""

    def classify(self, error: BaseException) -> DbError:
        """Return what an exception of the driver says, and take down the loss of the connection."""
        found = classify(error, self.sqlstate())
        if not found.code and self.lost:
            found.code = CONNECTION_LOST_CODE
        if not self._lost and means_lost(found):
            # Some drivers leave it open after the server's farewell, and its owner would use it again.
            self.shutdown()
        return found

    def broken(self, error: BaseException) -> DbError:
        """Return what an exception in the middle of an exchange of the core's says.

        Only after the server's own word, which has a number, driver and server are in step. After anything else
        (packets out of order or cut short, text that cannot be decoded) nobody knows what belongs to which statement:
        the connection is lost, and what the batch has done unknown.
        """
        found = self.classify(error)
        if found.code < _FIRST_OF_SERVER:
            found.code = CONNECTION_LOST_CODE
            if not self._lost:
                self.shutdown()
        return found
