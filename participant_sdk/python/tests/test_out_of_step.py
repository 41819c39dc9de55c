"""Exchanges on a connection that is in the middle of something else, or gets out of step with its server."""

import asyncio
import struct

import aiomysql
import asyncmy
import mariadb
import MySQLdb
import psycopg
import pymysql
import pytest

import assent
from assent import aio
from assent._aio_runner import exchange
from assent._core.outcome import CONNECTION_LOST_CODE
from assent._drivers.mysql_async import AsyncMySqlWire, AsyncmyWire
from assent._drivers.mysql_sync import DbApiWire, MariaDbConnectorWire, MySqlClientWire, PyMySqlWire
from assent._drivers.postgres import PostgresWire


def where(server):
    return {"host": "127.0.0.1", "port": server.port, "user": server.user_name, "password": server.password}


SYNC = {
    "pymysql": lambda server: pymysql.connect(**where(server)),
    "mysqlclient": lambda server: MySQLdb.connect(**where(server)),
    "mariadb": lambda server: mariadb.connect(**where(server)),
}
ASYNC = {
    "aiomysql": lambda server: aiomysql.connect(**where(server)),
    "asyncmy": lambda server: asyncmy.connect(**where(server)),
}
PROCEDURE = """CREATE OR REPLACE PROCEDURE bank.take_some(how_much INT) BEGIN
    SELECT 1 UNION SELECT 2; UPDATE bank.accounts SET balance = balance - how_much WHERE id = 1; SELECT 3;
END"""


@pytest.mark.parametrize("how", ["callproc", "execute"])
@pytest.mark.parametrize("driver", SYNC)
def test_results_of_a_procedure_may_stay_unread(rig, client, driver, how):
    rig.orders.query(PROCEDURE)
    connection = SYNC[driver](rig.orders)
    connection.cursor().execute("USE bank")
    for times in (1, 2):
        with client.transaction(sole_participant=True) as tx:
            branch = tx.branch("orders", connection)
            if how == "callproc":
                cursor = branch.cursor()
                cursor.callproc("take_some", (1,))
            else:
                cursor = branch.execute("CALL bank.take_some(1)")
            assert cursor.fetchone() == (1,)
            if driver == "mariadb":
                cursor.close()  # Nobody else can read what is left.
        assert rig.taken("orders") == times
    with pytest.raises(ZeroDivisionError), client.transaction(sole_participant=True) as tx:
        tx.branch("orders", connection).execute("CALL bank.take_some(1)")
        raise ZeroDivisionError
    assert tx.outcome is assent.TransactionOutcome.ROLLED_BACK
    assert rig.taken("orders") == 2


def test_who_must_read_them_is_told_so(rig, client):
    """Where the driver keeps them to its cursor. (The connection is out of step, so it is closed.)"""
    rig.orders.query(PROCEDURE)
    connection = SYNC["mariadb"](rig.orders)
    with (
        pytest.raises(assent.Aborted, match="read all of them"),
        client.transaction(sole_participant=True) as tx,
    ):
        cursor = tx.branch("orders", connection).execute("CALL bank.take_some(1)")
        assert cursor.fetchone() == (1,)
    assert rig.taken("orders") == 0


@pytest.mark.parametrize("driver", ASYNC)
async def test_results_of_a_procedure_may_stay_unread_with_asyncio(rig, driver):
    rig.orders.query(PROCEDURE)
    connection = await ASYNC[driver](rig.orders)
    async with aio.AsyncClient(rig.coordinator.address) as client:
        for times in (1, 2):
            async with client.transaction(sole_participant=True) as tx:
                branch = await tx.branch("orders", connection)
                cursor = await branch.execute("CALL bank.take_some(1)")
                assert await cursor.fetchone() == (1,)
            assert rig.taken("orders") == times
    connection.close()


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


ERRORS = [
    pymysql.err.InternalError("Packet sequence number wrong - got 3 expected 1"),
    struct.error("unpack requires a buffer of 2 bytes"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    AssertionError(),
    IndexError("index out of range"),
]


def breaking_sync(rig, monkeypatch, driver, error):
    """Return a wire whose next answer cannot be read, and a statement for it."""
    if driver == "psycopg":
        monkeypatch.setattr(psycopg.generators, "fetch_many", raising(error))
        connection = rig.stock.connect()
        return PostgresWire(connection), connection
    connection = SYNC[driver.partition(" ")[0]](rig.orders)
    if driver == "pymysql":
        wire = PyMySqlWire(connection)
        connection._read_query_result = raising(error)
    elif driver == "mysqlclient":
        wire = MySqlClientWire(connection)
        connection.read_query_result = raising(error)
    else:
        wire = (MariaDbConnectorWire if driver == "mariadb" else DbApiWire)(connection)
        cursor = connection.cursor()
        monkeypatch.setattr(mariadb.Cursor, "execute", raising(error))
        cursor.close()
    return wire, connection


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("driver", ["pymysql", "mysqlclient", "mariadb", "mariadb as any", "psycopg"])
def test_what_cannot_be_read_is_the_loss_of_the_connection(rig, monkeypatch, driver, error):
    """Also of the statement that was sent: nobody knows whether it has run."""
    wire, connection = breaking_sync(rig, monkeypatch, driver, error)
    wire.send(["SELECT 1"])
    answer = wire.receive()
    assert (answer.error.code, answer.sent, wire.lost) == (CONNECTION_LOST_CODE, True, True)
    monkeypatch.undo()
    with pytest.raises(Exception):  # noqa: B017, PT011 - every driver has one of its own.
        connection.cursor().execute("SELECT 1")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("driver", ["aiomysql", "asyncmy", "psycopg"])
async def test_what_cannot_be_read_is_the_loss_of_the_connection_with_asyncio(rig, monkeypatch, driver, error):
    if driver == "psycopg":
        connection = await psycopg.AsyncConnection.connect(rig.stock.conninfo)
        monkeypatch.setattr(psycopg.generators, "execute", raising(error))
        wire = PostgresWire(connection)
    else:
        connection = await ASYNC[driver](rig.orders)
        wire = (AsyncMySqlWire if driver == "aiomysql" else AsyncmyWire)(connection)
        kind = type(connection)
        monkeypatch.setattr(kind, "query", raising(error))
    answer = await wire.exchange(["SELECT 1"])
    assert (answer.error.code, answer.sent, wire.lost) == (CONNECTION_LOST_CODE, True, True)
    monkeypatch.undo()
    await asyncio.sleep(0)  # What was closed is told to the loop.


def test_the_servers_own_word_leaves_the_connection_as_it_is(rig):
    connection = SYNC["pymysql"](rig.orders)
    wire = PyMySqlWire(connection)
    wire.send(["SELECT 1", "SELECT * FROM nowhere.nothing"])
    answer = wire.receive()
    assert (answer.done, answer.error.code, wire.lost) == (1, 1146, False)
    with connection.cursor() as cursor:
        assert cursor.execute("SELECT 2") == 1
    wire.send(["SELECT 3", "SELECT 4"])
    assert wire.receive().rows == [(3,), (4,)]
    connection.close()


async def test_a_connection_that_is_closed_under_a_task_leaves_nothing_in_the_loop(rig):
    """Else whoever gets the number of its socket next could not be watched."""
    connection = await psycopg.AsyncConnection.connect(rig.stock.conninfo)
    waiting = asyncio.create_task(connection.execute("SELECT pg_sleep(5)"))
    await asyncio.sleep(0.2)
    number = connection.pgconn.socket
    PostgresWire(connection).shutdown()
    others = [await ASYNC["aiomysql"](rig.orders) for _ in range(3)]
    assert number in [AsyncMySqlWire(other).fileno() for other in others]
    with pytest.raises((psycopg.OperationalError, RuntimeError)):  # The latter is the loop's: the number is another's.
        await waiting
    for other in others:
        async with other.cursor() as cursor:
            await cursor.execute("SELECT 1")
        other.close()


async def test_an_exchange_that_is_cancelled_closes_when_all_have_ended():
    class SlowToEnd:
        ended = closed = False

        def __init__(self, rounds):
            self.rounds = rounds

        async def exchange(self, statements):
            try:
                await asyncio.sleep(60)
            finally:
                for _ in range(self.rounds):
                    await asyncio.sleep(0)
                self.ended = True

        def shutdown(self):
            assert self.ended
            self.closed = True

    wires = [SlowToEnd(0), SlowToEnd(20)]
    task = asyncio.create_task(exchange([(wire, ["SELECT 1"]) for wire in wires]))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [wire.closed for wire in wires] == [True, True]
