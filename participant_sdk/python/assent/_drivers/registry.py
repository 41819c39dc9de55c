"""Which wire a connection gets, and the session that lives as long as it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from assent._core.mariadb import MariaDbSession
from assent._core.postgres import PostgresSession
from assent._core.session import Session, State
from assent._drivers.mysql_async import AsyncMySqlWire, AsyncmyWire
from assent._drivers.mysql_sync import DbApiWire, MariaDbConnectorWire, MySqlClientWire, PyMySqlWire
from assent._drivers.postgres import PostgresWire
from assent.errors import InvalidRequest, Reason

_SYNC: dict[str, Callable[[Any], Any]] = {
    "pymysql": PyMySqlWire,
    "MySQLdb": MySqlClientWire,
    "mariadb": MariaDbConnectorWire,
    "mysql": DbApiWire,  # mysql.connector
    "psycopg": PostgresWire,
}
_ASYNC: dict[str, Callable[[Any], Any]] = {
    "aiomysql": AsyncMySqlWire,
    "asyncmy": AsyncmyWire,
    "psycopg": PostgresWire,
}

_KEPT_AS = "_assent_session"
"""The attribute of the connection that holds its session, which in turn knows the connection weakly."""
_lock = threading.Lock()


def unwrap(connection: Any) -> Any:
    """Return the driver's own connection: pools and SQLAlchemy hand out wrappers."""
    for _ in range(4):  # Pools within pools.
        for name in ("driver_connection", "dbapi_connection", "_con"):
            inner = getattr(connection, name, None)
            if inner is not None and inner is not connection:
                connection = inner
                break
        else:
            break
    return connection


def _wire_of(connection: Any, asynchronous: bool) -> Any:
    kinds = _ASYNC if asynchronous else _SYNC
    for kind in type(connection).__mro__:
        package = kind.__module__.partition(".")[0]
        if package == "psycopg" and ("Async" in kind.__name__) is not asynchronous:
            break
        if package in kinds:
            if not hasattr(connection, "cursor"):
                break  # A cursor.
            return kinds[package](connection)
    known = ", ".join(sorted(kinds))
    raise InvalidRequest(
        f"an object of {type(connection).__module__}.{type(connection).__qualname__} cannot run a branch of "
        f"{'an asyncio' if asynchronous else 'a sync'} client: give it a connection (no cursor) of one of {known}",
        reason=Reason.INVALID_FIELD,
        metadata={"field": "connection"},
    )


def session_of(connection: Any, asynchronous: bool) -> tuple[Session, bool]:
    """Return the connection's session, and whether it is new and must be set up."""
    connection = unwrap(connection)
    with _lock:
        session: Session | None = getattr(connection, "__dict__", {}).get(_KEPT_AS)  # Not through a wrapper.
        usable = session is not None and not session.lost
        if session and usable and (session.wire.identity() == session.identity or session.state is not State.NONE):
            return session, False
        wire = _wire_of(connection, asynchronous)
        session = PostgresSession(wire) if wire.engine == "postgresql" else MariaDbSession(wire)
        vars(connection)[_KEPT_AS] = session
        return session, True


def forget(connection: Any) -> None:
    """Its session could not be set up: whoever comes next tries again."""
    with _lock:
        vars(unwrap(connection)).pop(_KEPT_AS, None)
