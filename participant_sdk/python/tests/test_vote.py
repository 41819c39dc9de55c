"""Vote, and take_part: a worker that answers before the decision, and what becomes of its branches afterwards."""

import threading
import time

import aiomysql
import asyncmy
import mariadb
import MySQLdb
import psycopg
import pytest
import sqlalchemy
from conftest import take
from servers import wait_for

import assent
from assent import aio
from assent import client as client_module
from assent._runner import Runner
from assent.sqlalchemy import enlist


@pytest.fixture
def worker(rig):
    """Another process's client, as far as the coordinator can see."""
    made = assent.Client(rig.coordinator.address)
    yield made
    made.close()


def connect_mysqlclient(server):
    return MySQLdb.connect(host="127.0.0.1", port=server.port, user="root", password=server.password)


def connect_mariadb(server):
    return mariadb.connect(host="127.0.0.1", port=server.port, user="root", password=server.password)


DRIVERS = {
    "pymysql": ("payments", lambda server: server.connect()),
    "mysqlclient": ("payments", connect_mysqlclient),
    "mariadb": ("payments", connect_mariadb),
    "psycopg": ("stock", lambda server: server.connect()),
}


@pytest.fixture(params=DRIVERS)
def part(request, rig, client, worker):
    """A transaction, and a part of it that has taken from an account on another server."""
    return Part(rig, client.transaction(), worker, *DRIVERS[request.param])


class Part:
    def __init__(self, rig, tx, worker, resource="payments", connect=DRIVERS["pymysql"][1]) -> None:
        self.resource = resource
        self.server = rig.servers[resource]
        self.connection = connect(self.server)
        self.freed = []
        self.begun = tx
        self.tx = worker.join(tx.gtrid)
        self.tx.branch(resource, self.connection, release=self.freed.append).execute(take())

    def is_open(self) -> bool:
        try:
            cursor = self.connection.cursor()
            cursor.execute("SELECT 1")
            return cursor.fetchone() == (1,)
        except Exception:
            return False

    def wait_until_free(self) -> None:
        wait_for(lambda: self.freed, "the release of the connection", 20)
        assert self.freed == [self.connection]


def test_a_vote_counts_and_the_branch_is_finished_on_its_connection(rig, client, part):
    with part.tx:
        part.tx.vote()
    assert len(part.server.prepared()) == 1
    assert not part.freed
    with part.begun as tx:
        tx.branch("orders", rig.orders.connect()).execute(take())
    part.wait_until_free()
    assert part.tx.outcome is assent.TransactionOutcome.COMMITTED
    assert rig.taken("orders") == rig.taken(part.resource) == 1
    with client.transaction(sole_participant=True) as again:
        again.branch(part.resource, part.connection).execute(take())
    assert rig.taken(part.resource) == 2


def test_the_initiator_rolls_back_after_the_vote(rig, part):
    part.tx.vote()
    with part.tx:  # Neither leaving the block nor close ends it: the background does.
        pass
    part.begun.rollback()
    part.wait_until_free()
    assert part.tx.outcome is assent.TransactionOutcome.ROLLED_BACK
    assert part.is_open()
    assert rig.nothing_prepared()
    assert rig.taken(part.resource) == 0


def test_a_vote_that_comes_too_late_does_not_count(rig, part):
    part.begun.rollback("too slow")
    with pytest.raises(assent.TransactionRolledBack, match="too slow"), part.tx:
        part.tx.vote()
    assert part.freed == [part.connection]
    assert rig.taken(part.resource) == 0


def test_a_poisoned_branch_does_not_vote(rig, part):
    with part.tx:
        with pytest.raises(assent.DatabaseFailed):
            part.tx.branch("orders", rig.orders.connect()).execute("INSERT INTO bank.accounts VALUES (1, 0)")
        with pytest.raises(assent.DatabaseFailed):
            part.tx.vote()
    with pytest.raises(assent.TransactionRolledBack):
        part.begun.commit()
    assert rig.nothing_prepared()


def test_the_last_vote_decides(rig, client, worker):
    tx = client.transaction(policy=assent.DecisionPolicy.WHEN_ALL_PREPARED, expected_branches=1)
    part = Part(rig, tx, worker)
    with part.tx:
        part.tx.vote()
        assert part.tx.outcome is assent.TransactionOutcome.COMMITTED
    assert part.freed == [part.connection]
    assert rig.taken("payments") == 1


def test_a_second_vote_asks_nobody_and_prepare_waits(rig, worker, part):
    part.tx.vote()
    asked = worker.calls_sent
    part.tx.vote()
    assert worker.calls_sent <= asked + 1  # The background's own.
    told = []
    waiting = threading.Thread(target=lambda: told.append(part.tx.prepare()))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    part.begun.commit()
    waiting.join(10)
    assert told == [None]
    part.wait_until_free()
    assert rig.taken(part.resource) == 1


def test_close_leaves_what_is_not_decided_to_the_coordinator(rig, worker, part, monkeypatch):
    monkeypatch.setattr(client_module, "FLUSH_PATIENCE", 0.5)
    part.tx.vote()
    part.tx.close()
    begun = time.monotonic()
    worker.close()
    assert time.monotonic() - begun < 5
    assert not part.is_open()
    assert part.freed == [part.connection]
    with pytest.raises(assent.CoordinatorUnreachable, match="closed"):
        worker.get_global(part.tx.gtrid)
    assert len(part.server.prepared()) == 1
    part.begun.commit()  # Recovery finishes it.
    assert rig.taken(part.resource) == 1


def test_close_waits_for_a_decision_that_comes_soon(rig, worker, part):
    part.tx.vote()
    deciding = threading.Timer(0.5, part.begun.commit)
    deciding.start()
    worker.close()
    assert part.freed == [part.connection]
    assert part.is_open()
    assert rig.taken(part.resource) == 1
    deciding.join()


def test_the_coordinator_is_away_at_the_vote(rig, client):
    with assent.Client(rig.coordinator.address, assent.ClientOptions(decision_patience=1)) as worker:
        part = Part(rig, client.transaction(), worker)
        rig.coordinator.kill9()
        with pytest.raises(assent.OutcomeInDoubt), part.tx:
            part.tx.vote()
        assert not part.is_open()
        assert part.freed == [part.connection]
        rig.coordinator.start()
    with pytest.raises(assent.BranchesNotPrepared):
        part.begun.commit()
    part.begun.rollback()


def test_the_coordinator_restarts_after_the_vote(rig, part):
    part.tx.vote()
    rig.coordinator.restart()
    part.begun.commit()
    part.wait_until_free()
    assert part.is_open()
    assert rig.taken(part.resource) == 1


def test_nobody_to_wait_for_the_decision(rig, part, monkeypatch):
    def no_more_threads(self, work):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Runner, "in_background", no_more_threads)
    with pytest.raises(RuntimeError), part.tx:
        part.tx.vote()
    assert part.freed == [part.connection]
    assert not part.is_open()
    part.begun.commit()  # The vote counts all the same.
    assert rig.taken(part.resource) == 1


def test_a_part_votes_when_its_block_ends(rig, client, worker):
    freed = []
    with client.transaction() as tx:
        assert assent.current_transaction() is tx
        connection = rig.payments.connect()
        with worker.take_part(tx.gtrid) as part:
            assert assent.current_transaction() is part
            part.branch("payments", connection, release=freed.append).execute(take())
        assert assent.current_transaction() is tx
        assert len(rig.payments.prepared()) == 1
    assert assent.current_transaction() is None
    assert rig.taken("payments") == 1
    wait_for(lambda: freed == [connection], "the release of the connection", 20)


def test_a_part_that_does_nothing_asks_nobody(client, worker):
    with client.transaction() as tx, worker.take_part(tx.gtrid):
        pass
    assert worker.calls_sent == 0
    assert tx.outcome is assent.TransactionOutcome.COMMITTED


def test_what_a_part_could_not_do_rolls_back(rig, client, worker):
    tx = client.transaction()
    with pytest.raises(assent.TransactionRolledBack, match="no branch could be opened"):  # noqa: SIM117
        with worker.take_part(tx.gtrid) as part:
            with pytest.raises(assent.ResourceNotFound):
                part.branch("nobody", rig.payments.connect())
    with pytest.raises(assent.TransactionRolledBack):
        tx.commit()


def test_a_part_that_fails_takes_all_with_it(rig, client, worker):
    tx = client.transaction()
    tx.branch("orders", rig.orders.connect()).execute(take())
    freed = []
    with pytest.raises(ZeroDivisionError), worker.take_part(tx.gtrid) as part:
        part.branch("payments", rig.payments.connect(), release=freed.append).execute(take())
        raise ZeroDivisionError
    assert len(freed) == 1
    with pytest.raises(assent.TransactionRolledBack, match="the handler failed: ZeroDivisionError"):
        tx.commit()
    assert rig.taken("orders") + rig.taken("payments") == 0


def test_a_part_that_rolls_back_by_itself_does_not_end_well(rig, client, worker):
    tx = client.transaction()
    freed = []
    with pytest.raises(assent.TransactionRolledBack, match="no stock"), worker.take_part(tx.gtrid) as part:
        part.branch("payments", rig.payments.connect(), release=freed.append).execute(take())
        part.rollback("no stock")
    assert len(freed) == 1
    with pytest.raises(assent.TransactionRolledBack, match="no stock"):
        tx.commit()


def test_a_part_that_changes_its_mind_after_its_vote(rig, client, worker):
    tx = client.transaction()
    freed = []
    with pytest.raises(ZeroDivisionError), worker.take_part(tx.gtrid) as part:
        part.branch("payments", rig.payments.connect(), release=freed.append).execute(take())
        part.vote()
        raise ZeroDivisionError
    with pytest.raises(assent.TransactionRolledBack, match="the handler failed: ZeroDivisionError"):
        tx.commit()
    wait_for(lambda: freed, "the release of the connection", 20)
    assert rig.taken("payments") == 0


def test_a_connection_that_gets_no_branch_is_released_at_once(rig, client):
    freed = []
    connection = rig.payments.connect()
    with client.transaction() as tx:
        with pytest.raises(assent.ResourceNotFound):
            tx.branch("nobody", connection, release=freed.append)
        assert freed == [connection]
        tx.branch("payments", connection)
        tx.rollback()
    assert freed == [connection]


def test_a_release_that_fails_harms_nobody(rig, client, worker):
    def fail(connection):
        raise ZeroDivisionError

    with client.transaction() as tx, worker.take_part(tx.gtrid) as part:
        part.branch("payments", rig.payments.connect(), release=fail).execute(take())
    assert rig.taken("payments") == 1


@pytest.fixture(params=["aiomysql", "asyncmy", "psycopg"])
async def second(request, rig):
    """A resource, and a connection to it."""
    name = "stock" if request.param == "psycopg" else "payments"
    server = rig.servers[name]
    if request.param == "psycopg":
        connection = await psycopg.AsyncConnection.connect(server.conninfo, autocommit=True)
    else:
        connect = aiomysql.connect if request.param == "aiomysql" else asyncmy.connect
        connection = await connect(host="127.0.0.1", port=server.port, user="root", password=server.password)
    yield name, connection
    if (closing := connection.close()) is not None:
        await closing


@pytest.fixture
async def async_worker(rig):
    async with aio.AsyncClient(rig.coordinator.address) as made:
        yield made


@pytest.mark.parametrize("commits", [True, False])
async def test_async_parts(rig, async_worker, second, commits):
    name, connection = second
    freed = []

    async def release(it):
        freed.append(it)

    async with aio.AsyncClient(rig.coordinator.address) as client:
        tx = await client.transaction()
        async with async_worker.take_part(tx.gtrid) as part:
            assert assent.current_transaction() is part
            await (await part.branch(name, connection, release=release)).execute(take())
        assert assent.current_transaction() is None
        assert len(rig.servers[name].prepared()) == 1
        assert not freed
        await (tx.commit() if commits else tx.rollback())
        await async_worker.close()  # Waits for the background.
    assert freed == [connection]
    assert rig.nothing_prepared()
    assert rig.taken(name) == commits
    assert part.outcome.name == ("COMMITTED" if commits else "ROLLED_BACK")


async def test_an_async_part_that_fails(rig, async_worker, second):
    name, connection = second
    async with aio.AsyncClient(rig.coordinator.address) as client:
        tx = await client.transaction()
        with pytest.raises(ZeroDivisionError):
            async with async_worker.take_part(tx.gtrid) as part:
                await (await part.branch(name, connection)).execute(take())
                raise ZeroDivisionError
        with pytest.raises(assent.TransactionRolledBack, match="the handler failed: ZeroDivisionError"):
            await tx.commit()
    assert rig.taken(name) == 0


async def test_async_close_leaves_what_is_not_decided_to_the_coordinator(rig, second, monkeypatch):
    monkeypatch.setattr("assent._aio_runner.FLUSH_PATIENCE", 0.5)
    name, connection = second
    freed = []
    async with aio.AsyncClient(rig.coordinator.address) as client:
        tx = await client.transaction()
        async with aio.AsyncClient(rig.coordinator.address) as worker, worker.take_part(tx.gtrid) as part:
            await (await part.branch(name, connection, release=freed.append)).execute(take())
        assert freed == [connection]
        assert len(rig.servers[name].prepared()) == 1
        await tx.commit()
    assert rig.taken(name) == 1


def test_a_pool_gets_its_connection_back_after_the_decision(rig, client, worker):
    engine = sqlalchemy.create_engine(
        f"mysql+pymysql://root:{rig.payments.password}@127.0.0.1:{rig.payments.port}/bank", pool_size=1, max_overflow=0
    )
    with client.transaction() as tx:
        with worker.take_part(tx.gtrid) as part, enlist(part, "payments", engine) as connection:
            connection.exec_driver_sql(take())
        assert engine.pool.checkedout() == 1
    wait_for(lambda: engine.pool.checkedout() == 0, "the return of the connection", 20)
    assert engine.pool.checkedin() == 1
    assert rig.taken("payments") == 1
    engine.dispose()
