"""The deadline passes while a branch is being prepared, which a backup of its server holds up."""

import asyncio
import threading

import aiomysql
import pytest
from conftest import take
from servers import needs_mariadb, wait_for

import assent
from assent import aio
from assent.v1 import global_pb2 as gpb

TIMEOUT = 1.5


BACKUPS = {
    # What it holds up is the witness in front of XA PREPARE, in the same message.
    "WITNESS": (["FLUSH TABLES WITH READ LOCK"], "UNLOCK TABLES"),
    "XA PREPARE": ([f"BACKUP STAGE {stage}" for stage in ("START", "FLUSH", "BLOCK_DDL", "BLOCK_COMMIT")],
                   "BACKUP STAGE END"),
}  # fmt: skip


@pytest.fixture(params=["WITNESS", pytest.param("XA PREPARE", marks=needs_mariadb)])
def held(request, rig):
    """A function that begins a backup of payments, which ends when the deadline has passed."""
    begin, end = BACKUPS[request.param]
    backup = rig.payments.connect()
    threads, problems = [], []

    def waits():
        states = rig.payments.query(
            "SELECT INFO FROM information_schema.PROCESSLIST WHERE STATE REGEXP 'backup lock|read lock'"
        )
        return any(request.param in (info or "").upper() for (info,) in states)

    def release(is_over):
        try:
            wait_for(waits, "the wait for the backup", 10)
            assert not is_over()
            wait_for(is_over, "the deadline", 10)
            assert waits()
        except Exception as error:
            problems.append(error)
        finally:
            backup.query(end)

    def hold(is_over):
        for statement in begin:
            backup.query(statement)
        threads.append(threading.Thread(target=release, args=(is_over,)))
        threads[-1].start()

    yield hold
    for thread in threads:
        thread.join()
    backup.close()
    assert problems == []


def deadline_of(client, gtrid, is_sole):
    """A function that tells whether it has passed."""
    if is_sole:  # On record only from its decision on.
        passed = threading.Event()
        threading.Timer(TIMEOUT + 0.3, passed.set).start()
        return passed.is_set
    return lambda: getattr(client.get_global(gtrid), "global").decision == gpb.DECISION_ROLLBACK


def check(rig, told, tx):
    assert isinstance(told.value, assent.Aborted)
    assert "DEADLINE" in str(told.value.metadata) + str(told.value)
    assert tx.outcome is assent.TransactionOutcome.ROLLED_BACK
    assert rig.nothing_prepared()
    assert rig.taken("orders") == rig.taken("payments") == 0


@pytest.mark.parametrize("sole", [False, True])
def test_sync(rig, client, held, sole):
    connections = rig.orders.connect(), rig.payments.connect()
    with pytest.raises(assent.AssentError) as told, client.transaction(timeout=TIMEOUT, sole_participant=sole) as tx:
        tx.branch("orders", connections[0]).execute(take())
        tx.branch("payments", connections[1]).execute(take())
        held(deadline_of(client, tx.gtrid, sole))
    check(rig, told, tx)
    with client.transaction() as tx:  # The connections are as good as new.
        tx.branch("orders", connections[0]).execute(take())
        tx.branch("payments", connections[1]).execute(take())
    assert rig.taken("orders") == rig.taken("payments") == 1


@pytest.mark.parametrize("sole", [False, True])
async def test_aio(rig, client, held, sole):
    connections = [
        await aiomysql.connect(host="127.0.0.1", port=server.port, user="root", password=server.password)
        for server in (rig.orders, rig.payments)
    ]
    async with aio.AsyncClient(rig.coordinator.address) as async_client:
        with pytest.raises(assent.AssentError) as told:
            async with async_client.transaction(timeout=TIMEOUT, sole_participant=sole) as tx:
                await (await tx.branch("orders", connections[0])).execute(take())
                await (await tx.branch("payments", connections[1])).execute(take())
                await asyncio.to_thread(held, deadline_of(client, tx.gtrid, sole))
        check(rig, told, tx)
        async with async_client.transaction() as tx:
            await (await tx.branch("orders", connections[0])).execute(take())
            await (await tx.branch("payments", connections[1])).execute(take())
    assert rig.taken("orders") == rig.taken("payments") == 1
    for connection in connections:
        connection.close()
