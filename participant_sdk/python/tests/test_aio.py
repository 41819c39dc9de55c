"""The asyncio client over each driver; cancellation at every await."""

import asyncio

import aiomysql
import asyncmy
import psycopg
import pytest
from conftest import take

import assent
from assent import aio
from assent.v1 import global_pb2 as gpb

OPEN = []


def opened(connection):
    OPEN.append(connection)
    return connection


@pytest.fixture(autouse=True)
async def _close_connections():
    yield
    while OPEN:
        closing = OPEN.pop().close()
        if closing is not None:
            await closing


async def connect_aiomysql(server):
    return opened(
        await aiomysql.connect(
            host="127.0.0.1", port=server.port, user="root", password=server.password, autocommit=True
        )
    )


async def connect_asyncmy(server):
    return opened(
        await asyncmy.connect(
            host="127.0.0.1", port=server.port, user="root", password=server.password, autocommit=True
        )
    )


async def connect_postgres(server):
    return opened(await psycopg.AsyncConnection.connect(server.conninfo, autocommit=True))


@pytest.fixture(params=[connect_aiomysql, connect_asyncmy, connect_postgres], ids=lambda it: it.__name__[8:])
def second(request, rig):
    name = "stock" if request.param is connect_postgres else "payments"
    return name, lambda: request.param(rig.servers[name])


@pytest.fixture
async def client(rig):
    async with aio.AsyncClient(rig.coordinator.address) as made:
        yield made


@pytest.mark.parametrize("sole", [False, True])
async def test_commit(rig, client, second, sole):
    name, connect = second
    mine, yours = await connect_aiomysql(rig.orders), await connect()
    for times in (1, 2, 3):
        async with client.transaction(sole_participant=sole) as tx:
            await (await tx.branch("orders", mine)).execute(take())
            branch = await tx.branch(name, yours)
            async with await branch.cursor() as cursor:
                await cursor.execute(take())
                assert cursor.rowcount == 1
            row = await (await branch.execute("SELECT balance FROM bank.accounts WHERE id = 1")).fetchone()
            assert row == (1000 - times,)
        assert tx.outcome is assent.TransactionOutcome.COMMITTED
        assert rig.taken("orders") == rig.taken(name) == times
    assert await client.flush(10)
    assert (await client.get_global(tx.gtrid)).outcome == gpb.OUTCOME_COMMITTED


async def test_failures_roll_back(rig, client, second):
    name, connect = second
    mine, yours = await connect_aiomysql(rig.orders), await connect()
    with pytest.raises(ZeroDivisionError):
        async with client.transaction() as tx:
            await (await tx.branch("orders", mine)).execute(take())
            raise ZeroDivisionError
    with pytest.raises(assent.DatabaseFailed):
        async with client.transaction(sole_participant=True) as tx:
            await (await tx.branch("orders", mine)).execute(take())
            await (await tx.branch(name, yours)).execute("INSERT INTO bank.accounts VALUES (1, 0)")
    assert tx.outcome is assent.TransactionOutcome.ROLLED_BACK
    async with client.transaction(sole_participant=True) as tx:
        branch = await tx.branch(name, yours)
        with pytest.raises(assent.DatabaseFailed):
            await branch.execute(
                "INSERT INTO bank.accounts VALUES (1, 0)", expected_errors=[1062], expected_sqlstates=["23505"]
            )
        await branch.execute(take(2))
    assert rig.taken("orders") == 0
    assert rig.taken(name, 2) == 1


async def test_a_reader_is_never_prepared(rig, client, second):
    name, connect = second
    async with client.transaction(sole_participant=True, one_phase_commit=False) as tx:
        await (await tx.branch("orders", await connect_asyncmy(rig.orders))).execute(take())
        await (await tx.branch(name, await connect())).execute("SELECT balance FROM bank.accounts WHERE id = 1")
    assert await client.flush(10)
    votes = {each.resource: each.vote for each in getattr(await client.get_global(tx.gtrid), "global").branches}
    assert votes == {"orders": gpb.VOTE_KIND_PREPARED, name: gpb.VOTE_KIND_READ_ONLY}


async def test_cancelled_at_every_await(rig, client, second):
    """Whenever it comes: all or nothing, and nobody is told COMMITTED who is not."""
    name, connect = second

    async def work(mine, yours):
        async with client.transaction(sole_participant=True) as tx:
            await (await tx.branch("orders", mine)).execute(take())
            await (await tx.branch(name, yours)).execute(take())
        return tx

    steps = 0
    committed = 0
    while True:
        mine, yours = await connect_aiomysql(rig.orders), await connect()
        task = asyncio.ensure_future(work(mine, yours))
        for _ in range(steps):
            await asyncio.sleep(0)
            if task.done():
                break
            # Let exactly one of the loop's turns pass, or wait for the other side.
            await asyncio.sleep(0.0003)
        if task.done():
            task.result()
            committed += 1
            break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        steps += 1
        assert steps < 200
    for _ in range(100):
        if rig.nothing_prepared() and rig.taken("orders") == rig.taken(name) >= committed:
            break
        await asyncio.sleep(0.2)
    assert rig.taken("orders") == rig.taken(name) >= committed
    assert steps > 3
