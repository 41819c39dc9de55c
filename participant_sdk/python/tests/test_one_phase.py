"""A sole participant of which only one branch has written: committed in one phase, and on record afterwards."""

import asyncio
import socket
import threading
import time

import aiomysql
import mariadb
import MySQLdb
import pymysql
import pytest
from conftest import take
from servers import needs_mariadb, wait_for

import assent
from assent import aio
from assent.v1 import global_pb2 as gpb

pytestmark = needs_mariadb

READ = "SELECT balance FROM bank.accounts WHERE id = 3"


def work(tx, pair):
    """Take one from orders, and read on payments."""
    tx.branch("orders", pair[0]).execute(take())
    tx.branch("payments", pair[1]).execute(READ)


def prepares(server):
    return int(server.query("SHOW GLOBAL STATUS LIKE 'Com_xa_prepare'")[0][1])


def record(client, gtrid):
    def found():
        try:
            return client.get_global(gtrid)
        except assent.GlobalNotFound:
            return None

    wait_for(found, "the record", 20)
    return found()


def expect_record(client, gtrid, outcome):
    response = record(client, gtrid)
    made = getattr(response, "global")
    assert response.outcome == outcome
    assert made.cause == gpb.DECISION_CAUSE_ONE_PHASE
    assert made.branches[0].one_phase
    # Unless a sweep came before the report.
    assert len(made.branches) == 1 or made.branches[1].state == gpb.Branch.STATE_READ_ONLY


def no_witness(rig, gtrid):
    return rig.orders.query("SELECT COUNT(*) FROM assent.witness WHERE gtrid = %s", (gtrid,)) == [(0,)]


def test_one_writer_is_committed_in_one_phase_and_recorded_afterwards(rig, client, pair):
    with client.transaction(sole_participant=True) as tx:
        work(tx, pair)
    assert client.flush(10)
    before, calls = prepares(rig.orders), client.calls_sent
    with client.transaction(sole_participant=True) as tx:
        work(tx, pair)
    assert tx.outcome is assent.TransactionOutcome.COMMITTED
    assert rig.taken("orders") == 2
    tx.commit()  # Repeated, it says the same.
    with pytest.raises(assent.GlobalCommitted):
        tx.rollback()
    assert client.flush(10)
    assert prepares(rig.orders) == before
    assert client.calls_sent - calls == 1, "only the report"
    expect_record(client, tx.gtrid, gpb.OUTCOME_COMMITTED)
    wait_for(lambda: no_witness(rig, tx.gtrid), "the sweep of its witness", 20)


@pytest.mark.parametrize("driver", ["mysqlclient", "mariadb", "one statement at a time"])
def test_with_every_driver(rig, client, driver):
    place = {"host": "127.0.0.1", "port": rig.orders.port, "user": "root", "password": rig.orders.password}
    connection = {
        "mysqlclient": lambda: MySQLdb.connect(autocommit=True, **place),
        "mariadb": lambda: mariadb.connect(autocommit=True, **place),
        "one statement at a time": lambda: pymysql.connect(autocommit=True, client_flag=0, **place),
    }[driver]()
    before = prepares(rig.orders)
    with client.transaction(sole_participant=True) as tx:
        tx.branch("orders", connection).execute(take())
    assert rig.taken("orders") == 1
    assert prepares(rig.orders) == before
    expect_record(client, tx.gtrid, gpb.OUTCOME_COMMITTED)
    connection.close()


@pytest.mark.parametrize("why", ["two writers", "the option", "a gtrid of one's own", "not alone"])
def test_what_means_two_phases(rig, client, pair, why):
    before = prepares(rig.orders)
    wanted = {"sole_participant": why != "not alone", "one_phase_commit": why != "the option"}
    if why == "a gtrid of one's own":
        other = client.transaction(sole_participant=True)
        other.close()
        wanted["gtrid"] = other.gtrid
    with client.transaction(**wanted) as tx:
        work(tx, pair)
        if why == "two writers":
            tx.branch("stock", rig.stock.connect()).execute(take())
    assert prepares(rig.orders) == before + 1
    assert getattr(client.get_global(tx.gtrid), "global").cause == gpb.DECISION_CAUSE_FINALIZE
    assert rig.taken("orders") == 1


def test_past_its_timeout_it_is_rolled_back(rig, client, pair):
    with pytest.raises(assent.TransactionRolledBack, match="timeout"):  # noqa: SIM117
        with client.transaction(sole_participant=True, timeout=0.3) as tx:
            work(tx, pair)
            time.sleep(0.4)
    assert getattr(client.get_global(tx.gtrid), "global").cause == gpb.DECISION_CAUSE_DEADLINE
    assert rig.taken("orders") == 0


def test_the_coordinator_need_not_be_there_and_the_report_is_as_old_as_its_transaction(rig, client, pair):
    with client.transaction(sole_participant=True) as tx:
        work(tx, pair)
    assert client.flush(10)
    begun = time.time()
    with client.transaction(sole_participant=True) as tx:
        work(tx, pair)
        rig.coordinator.kill9()
    assert rig.taken("orders") == 2
    time.sleep(3)
    rig.coordinator.start()
    assert client.flush(20)
    expect_record(client, tx.gtrid, gpb.OUTCOME_COMMITTED)
    assert getattr(client.get_global(tx.gtrid), "global").create_time.ToSeconds() <= begun + 1


def test_a_poisoned_writer_is_rolled_back(rig, client, pair):
    with pytest.raises(assent.Aborted), client.transaction(sole_participant=True) as tx:
        work(tx, pair)
        with pytest.raises(assent.DatabaseFailed):
            tx.branch("orders", rig.orders.connect()).execute("INSERT INTO bank.accounts VALUES (3, 0)")
    assert rig.taken("orders") == 0


def test_a_reader_that_is_lost_rolls_the_writer_back(rig, client, pair):
    with pytest.raises(assent.AssentError), client.transaction(sole_participant=True) as tx:
        work(tx, pair)
        # Under its own lock, so what the writer relied on may not hold any more: as with two phases.
        tx.branch("payments", rig.payments.connect()).execute(READ + " LOCK IN SHARE MODE")
        pair[1]._sock.shutdown(socket.SHUT_RDWR)
    assert tx.outcome is not assent.TransactionOutcome.COMMITTED
    assert rig.taken("orders") == 0


def test_a_connection_that_ended_before_it_was_sent_is_a_rollback(rig, client, pair):
    with pytest.raises(assent.Aborted), client.transaction(sole_participant=True) as tx:
        work(tx, pair)
        rig.orders.query(f"KILL {pair[0].thread_id()}")
        wait_for(lambda: rig.orders.query(f"SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = "
                                          f"{pair[0].thread_id()}") == [], "its end")  # fmt: skip
    assert tx.outcome is assent.TransactionOutcome.ROLLED_BACK
    assert rig.taken("orders") == 0


def test_a_missing_witness_table_is_a_rollback(rig, client, pair):
    rig.orders.query("RENAME TABLE assent.witness TO assent.hidden")
    try:
        with pytest.raises(assent.Aborted, match="--replace makes it"):  # noqa: SIM117
            with client.transaction(sole_participant=True) as tx:
                work(tx, pair)
    finally:
        rig.orders.query("RENAME TABLE assent.hidden TO assent.witness")
    assert rig.taken("orders") == 0


class Held:
    """Commits on another thread, while the server of orders cannot."""

    def __init__(self, rig, tx, connection):
        self.error = None
        self.rig = rig
        self.connection = connection
        self.socket = connection._sock
        self.backup = rig.orders.connect()
        self.backup.query("FLUSH TABLES WITH READ LOCK")
        self.thread = threading.Thread(target=self.commit, args=(tx,))
        self.thread.start()
        wait_for(lambda: rig.orders.query("SELECT 1 FROM information_schema.PROCESSLIST WHERE STATE REGEXP 'backup "
                                          "lock|read lock'"), "the wait for the lock")  # fmt: skip

    def commit(self, tx):
        try:
            tx.commit()
        except BaseException as error:
            self.error = error

    def lose_answer(self):
        """The server does not notice."""
        self.socket.shutdown(socket.SHUT_RD)
        time.sleep(0.3)

    def kill(self):
        number = self.connection.thread_id()
        self.rig.orders.query(f"KILL {number}")
        gone = f"SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = {number}"
        wait_for(lambda: not self.rig.orders.query(gone), "its end")

    def release(self):
        self.backup.query("UNLOCK TABLES")
        self.backup.close()
        self.thread.join()
        return self.error


def test_a_lost_answer_is_asked_for_and_may_mean_committed(rig, client, pair):
    tx = client.transaction(sole_participant=True)
    work(tx, pair)
    held = Held(rig, tx, pair[0])
    held.lose_answer()
    assert held.release() is None
    assert tx.outcome is assent.TransactionOutcome.COMMITTED
    assert rig.taken("orders") == 1
    expect_record(client, tx.gtrid, gpb.OUTCOME_COMMITTED)
    assert not pair[0].open
    tx.close()


def test_a_lost_answer_is_asked_for_and_may_mean_rolled_back(rig, client, pair):
    tx = client.transaction(sole_participant=True)
    work(tx, pair)
    held = Held(rig, tx, pair[0])
    held.kill()
    assert isinstance(held.release(), assent.Aborted)
    assert tx.outcome is assent.TransactionOutcome.ROLLED_BACK
    assert rig.taken("orders") == 0
    tx.rollback()  # It is.


def test_a_lost_answer_without_a_coordinator_is_in_doubt_until_there_is_one(rig, pair):
    with assent.Client(rig.coordinator.address, assent.ClientOptions(decision_patience=1)) as client:
        tx = client.transaction(sole_participant=True)
        work(tx, pair)
        held = Held(rig, tx, pair[0])
        rig.coordinator.kill9()
        held.lose_answer()
        error = held.release()
        assert isinstance(error, assent.OutcomeInDoubt)
        assert "the answer of its database was lost" in str(error)
        with pytest.raises(assent.OutcomeInDoubt):  # Nobody may roll it back any more.
            tx.rollback()
        with pytest.raises(assent.OutcomeInDoubt):
            tx.vote()
        rig.coordinator.start()
        for _ in range(30):
            try:
                tx.commit()
                break
            except assent.OutcomeInDoubt:
                pass
        assert tx.outcome is assent.TransactionOutcome.COMMITTED
        expect_record(client, tx.gtrid, gpb.OUTCOME_COMMITTED)


def test_leaving_its_scope_in_doubt_has_the_coordinator_look(rig, pair):
    with assent.Client(rig.coordinator.address, assent.ClientOptions(decision_patience=1)) as client:
        tx = client.transaction(sole_participant=True)
        work(tx, pair)
        held = Held(rig, tx, pair[0])
        rig.coordinator.kill9()
        held.lose_answer()
        held.release()
        tx.close()
        rig.coordinator.start()
        expect_record(client, tx.gtrid, gpb.OUTCOME_COMMITTED)
    assert rig.taken("orders") == 1


def test_asyncio_and_a_cancellation_while_it_commits(rig):
    async def run():
        async with aio.AsyncClient(rig.coordinator.address) as client:
            connection = await aiomysql.connect(
                host="127.0.0.1", port=rig.orders.port, user="root", password=rig.orders.password, autocommit=True
            )
            before = prepares(rig.orders)
            async with await client.transaction(sole_participant=True) as tx:
                await (await tx.branch("orders", connection)).execute(take())
            assert prepares(rig.orders) == before
            assert rig.taken("orders") == 1
            tx = await client.transaction(sole_participant=True)
            await (await tx.branch("orders", connection)).execute(take())
            backup = rig.orders.connect()
            backup.query("FLUSH TABLES WITH READ LOCK")
            task = asyncio.create_task(tx.commit())
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await tx.close()
            assert tx.outcome is assent.TransactionOutcome.IN_DOUBT
            backup.query("UNLOCK TABLES")
            backup.close()
            return tx.gtrid

    gtrid = asyncio.run(run())
    with assent.Client(rig.coordinator.address) as client:
        wait_for(lambda: record(client, gtrid).outcome != gpb.OUTCOME_IN_DOUBT, "its end", 30)
        committed = record(client, gtrid).outcome == gpb.OUTCOME_COMMITTED
    assert rig.taken("orders") == 1 + committed
