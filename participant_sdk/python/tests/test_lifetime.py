"""A connection that its owner lets go of is freed, whatever ran on it."""

import asyncio
import gc
import weakref

import aiomysql
import asyncmy
import mariadb
import MySQLdb
import psycopg
import pymysql
import pytest
from conftest import take

import assent
from assent import aio


def where(server):
    return {"host": "127.0.0.1", "port": server.port, "user": server.user_name, "password": server.password}


SYNC = {
    "pymysql": ("orders", lambda server: pymysql.connect(**where(server))),
    "mysqlclient": ("orders", lambda server: MySQLdb.connect(**where(server))),
    "mariadb": ("orders", lambda server: mariadb.connect(**where(server))),
    "psycopg": ("stock", lambda server: psycopg.connect(server.conninfo)),
}
ASYNC = {
    "aiomysql": ("orders", lambda server: aiomysql.connect(**where(server))),
    "asyncmy": ("orders", lambda server: asyncmy.connect(**where(server))),
    "psycopg": ("stock", lambda server: psycopg.AsyncConnection.connect(server.conninfo)),
}


def alive(references):
    gc.collect()
    return sum(reference() is not None for reference in references)


@pytest.mark.parametrize("outcome", ["commit", "rollback", "statement that fails"])
@pytest.mark.parametrize("driver", SYNC)
def test_closed_connections_are_freed(rig, client, driver, outcome):
    if driver == "mariadb" and outcome == "statement that fails":
        pytest.skip("the driver's own cursors keep what has failed, and so the connection")
    resource, connect = SYNC[driver]

    def use():
        connection = connect(rig.servers[resource])
        tx = client.transaction(sole_participant=True)
        branch = tx.branch(resource, connection)
        branch.execute(take())
        if outcome == "statement that fails":
            with pytest.raises(assent.DatabaseFailed):
                branch.execute("INSERT INTO bank.accounts VALUES (1, 0)")
        tx.commit() if outcome == "commit" else tx.rollback()
        tx.close()
        connection.close()
        return weakref.ref(connection)

    assert alive([use() for _ in range(5)]) == 0


@pytest.mark.parametrize("driver", SYNC)
def test_an_open_connection_is_freed_at_once(rig, client, driver):
    """By its last reference, like one that has never run a branch: no garbage collection closes it too late."""
    resource, connect = SYNC[driver]
    connection = connect(rig.servers[resource])
    with client.transaction(sole_participant=True) as tx:
        tx.branch(resource, connection).execute(take())
    last = weakref.ref(connection)
    del tx
    gc.disable()
    try:
        if driver == "psycopg":
            connection.close()  # Or it warns.
        del connection
        assert last() is None
    finally:
        gc.enable()


def test_a_branch_keeps_its_connection(rig, client):
    """Also if a wrapper, which its owner has dropped or let connect anew, was all that did."""

    class Wrapper:
        def __init__(self):
            self._con = rig.orders.connect()

        def cursor(self):
            return self._con.cursor()

    wrapper = Wrapper()
    with client.transaction(sole_participant=True) as tx:
        tx.branch("orders", wrapper).execute(take())
        del wrapper._con
        gc.collect()
    assert rig.taken("orders") == 1


@pytest.mark.parametrize("driver", ASYNC)
async def test_closed_async_connections_are_freed(rig, driver):
    resource, connect = ASYNC[driver]

    async def use(client):
        connection = await connect(rig.servers[resource])
        async with client.transaction(sole_participant=True) as tx:
            await (await tx.branch(resource, connection)).execute(take())
        if (closing := connection.close()) is not None:
            await closing
        return weakref.ref(connection)

    async with aio.AsyncClient(rig.coordinator.address) as client:
        used = [await use(client) for _ in range(5)]
        await asyncio.sleep(
            0.3
        )  # Psycopg's timers, though cancelled, keep the last block's context until they are due.
        assert alive(used) == 0
