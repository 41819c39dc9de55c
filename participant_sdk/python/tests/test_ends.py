"""What a block's end tells, and of what it must not say that it is proven."""

import threading

import aiomysql
import psycopg
import pytest
from conftest import take
from servers import wait_for

import assent
from assent import aio
from assent._core import two_phase
from assent._core.branch import BranchCore, Stage
from assent._core.effects import Answer, Exchange
from assent._core.mariadb import MariaDbSession
from assent._core.outcome import DbError
from assent.v1 import coordinator_service_pb2 as pb
from assent.xid import Xid


class FakeWire:
    """A connection that answers what it is told to."""

    engine, batches, connection = "mysql", True, None

    def __init__(self):
        self.lost = False

    def identity(self):
        return 1

    def in_transaction(self):
        return True

    def peer_has_closed(self):
        return False

    def shutdown(self):
        self.lost = True


def run(core, answer):
    """Run a generator of the core; `answer` says what its exchanges are answered."""
    try:
        effect = next(core)
        while True:
            assert isinstance(effect, Exchange)
            effect = core.send([answer(wire, list(statements)) for wire, statements in effect.batches])
    except StopIteration as end:
        return end.value


def test_an_answer_that_cannot_be_read_proves_nothing_of_a_prepare_that_was_sent():
    """A driver may say of it what sounds like an error of the server's, and close the connection."""
    session = MariaDbSession(FakeWire())
    branch = BranchCore(Xid("g", "b"), "orders", None, session)
    run(branch.start(None), lambda _, statements: Answer(rows=[None] * len(statements)))
    branch.note_sql(None)

    def garbled(wire, statements):
        assert statements[-1].startswith("XA PREPARE")
        wire.lost = True
        return Answer(error=DbError(0, "", "Packet sequence number wrong"))

    (vote,) = run(two_phase.prepare([branch]), garbled)
    assert vote.kind == pb.Vote(kind="VOTE_KIND_FAILED").kind
    assert not vote.rolled_back
    assert branch.stage is Stage.IN_DOUBT


@pytest.mark.parametrize("name", ["orders", "stock"])
def test_statements_that_went_to_the_connection_itself(rig, client, name):
    """The branch has run nothing; what the connection has open nobody would commit."""
    connection = rig.servers[name].connect(autocommit=False)
    unused = pytest.raises(assent.Aborted, match=r"run the statements with branch\.execute")
    with unused as told, client.transaction(sole_participant=True) as tx:
        tx.branch("payments", rig.payments.connect()).execute(take())
        with tx.branch(name, connection):
            connection.cursor().execute(take())
    assert isinstance(told.value.__cause__, assent.SessionInTransaction)
    assert tx.outcome is assent.TransactionOutcome.ROLLED_BACK
    connection.rollback()
    with client.transaction(sole_participant=True) as tx, tx.branch(name, connection) as branch:
        branch.execute(take())
    assert (rig.taken(name), rig.taken("payments")) == (1, 0)


async def test_the_same_with_asyncio(rig):
    connection = await aiomysql.connect(
        host="127.0.0.1", port=rig.orders.port, user="root", password=rig.orders.password, autocommit=False
    )
    async with aio.AsyncClient(rig.coordinator.address) as client:
        with pytest.raises(assent.Aborted, match=r"run the statements with branch\.execute"):
            async with client.transaction(sole_participant=True) as tx:
                await tx.branch("orders", connection)
                await (await connection.cursor()).execute(take())
    connection.close()


def test_what_the_connection_had_open_before_is_its_owners(rig, client):
    connection = rig.stock.connect(autocommit=False)
    connection.execute("SELECT 1")
    with client.transaction(sole_participant=True) as tx:
        tx.branch("stock", connection)
        tx.branch("payments", rig.payments.connect()).execute(take())
    assert rig.taken("payments") == 1


def test_an_exception_does_not_hide_that_it_may_be_committed(rig, client):
    connection = rig.stock.connect(autocommit=False)
    with pytest.raises(assent.OutcomeInDoubt, match="look at the rows") as told, client.transaction() as tx:
        tx.branch("stock", connection).start().execute(take())
        connection.commit()  # Somebody below the application's code.
        raise ValueError("out of stock")
    assert isinstance(told.value.__cause__, ValueError)
    assert tx.outcome is assent.TransactionOutcome.IN_DOUBT
    assert rig.taken("stock") == 1


async def test_an_exception_does_not_hide_it_with_asyncio(rig):
    connection = await psycopg.AsyncConnection.connect(rig.stock.conninfo)
    async with aio.AsyncClient(rig.coordinator.address) as client:
        with pytest.raises(assent.OutcomeInDoubt, match="look at the rows") as told:
            async with client.transaction() as tx:
                await (await (await tx.branch("stock", connection)).start()).execute(take())
                await connection.commit()
                raise ValueError("out of stock")
    assert isinstance(told.value.__cause__, ValueError)


def test_an_exception_does_not_hide_that_it_was_committed(rig, client):
    """The last vote decides, and the initiator fails after it."""
    options = {"policy": assent.DecisionPolicy.WHEN_ALL_PREPARED, "expected_branches": 1}
    with pytest.raises(assent.GlobalCommitted) as told, client.transaction(**options) as tx:
        with client.join(tx.gtrid) as worker:
            worker.branch("orders", rig.orders.connect()).execute(take())
        assert worker.outcome is assent.TransactionOutcome.COMMITTED
        raise ValueError("too late")
    assert isinstance(told.value.__cause__, ValueError)
    assert rig.taken("orders") == 1


def test_what_was_told_in_the_block_is_not_told_again(rig, client):
    with pytest.raises(ValueError, match="afterwards"), client.transaction(sole_participant=True) as tx:
        tx.branch("orders", rig.orders.connect()).execute(take())
        tx.commit()
        raise ValueError("afterwards")
    assert tx.outcome is assent.TransactionOutcome.COMMITTED


class Outcomes(assent.Hooks):
    def __init__(self):
        self.told = []

    def on_outcome(self, gtrid, outcome, seconds):
        self.told.append(outcome)


def test_ctrl_c_with_the_vote_out_is_in_doubt(rig, monkeypatch):
    """Whether the coordinator has got it nobody knows, so neither does `outcome` claim to."""
    outcomes = Outcomes()
    with assent.Client(rig.coordinator.address, assent.ClientOptions(hooks=[outcomes])) as client:
        connection = rig.orders.connect()
        call = client._connection.call

        def interrupted(what):
            if what.method == "Finalize":
                raise KeyboardInterrupt
            return call(what)

        with pytest.raises(KeyboardInterrupt), client.transaction(sole_participant=True) as tx:
            tx.branch("orders", connection).execute(take())
            tx.branch("payments", rig.payments.connect()).execute(take())
            monkeypatch.setattr(client._connection, "call", interrupted)
        assert tx.outcome is assent.TransactionOutcome.IN_DOUBT
        assert outcomes.told == ["IN_DOUBT"]
        assert not connection.open


def test_ctrl_c_at_the_very_end_leaves_no_branch_behind(rig, client, monkeypatch):
    from assent import propagation

    connection = rig.orders.connect()
    with pytest.raises(KeyboardInterrupt), client.transaction() as tx:
        tx.branch("orders", connection).execute(take())

        def interrupted(transaction):
            monkeypatch.undo()
            propagation.enter(transaction)
            raise KeyboardInterrupt

        monkeypatch.setattr(propagation, "enter", interrupted)
    assert assent.current_transaction() is None
    assert tx.outcome is not assent.TransactionOutcome.COMMITTED
    again = connection if connection.open else rig.orders.connect()
    with client.transaction(sole_participant=True) as tx:
        tx.branch("orders", again).execute(take())
    assert rig.taken("orders") == 1


def test_two_ends_at_once(rig, client):
    """Both say the same."""
    tx = client.begin(sole_participant=True)
    tx.branch("orders", rig.orders.connect()).execute(take())
    told = []

    def end():
        try:
            tx.commit()
            told.append("committed")
        except assent.AssentError as error:
            told.append(error)

    threads = [threading.Thread(target=end) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == ["committed", "committed"]
    tx.close()
    wait_for(lambda: rig.taken("orders") == 1, "the commit", 5)


@pytest.mark.parametrize("write", ["WITH w AS ({}) SELECT count(*) FROM w", "SELECT bank.far()"])
def test_a_foreign_table_is_no_way_around_the_decision(rig, client, write):
    """Its branch gets no transaction id; what it writes elsewhere must not be committed before the decision."""
    insert = "INSERT INTO bank.far SELECT 100 RETURNING id"
    rig.stock.query("CREATE EXTENSION IF NOT EXISTS postgres_fdw")
    rig.stock.query("DROP SERVER IF EXISTS far CASCADE")
    rig.stock.query(
        f"CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{rig.stock.port}')"
    )
    rig.stock.query(
        f"CREATE USER MAPPING FOR postgres SERVER far OPTIONS (user 'postgres', password '{rig.stock.password}')"
    )
    rig.stock.query("CREATE TABLE IF NOT EXISTS bank.near (id BIGINT)")
    rig.stock.query(
        "CREATE FOREIGN TABLE bank.far (id BIGINT) SERVER far OPTIONS (schema_name 'bank', table_name 'near')"
    )
    rig.stock.query(f"CREATE OR REPLACE FUNCTION bank.far() RETURNS BIGINT LANGUAGE sql AS '{insert}'")
    try:
        with pytest.raises(assent.Aborted, match="postgres_fdw"), client.transaction() as tx:
            tx.branch("stock", rig.stock.connect()).execute(write.format(insert))
            tx.branch("orders", rig.orders.connect()).execute(take())
        assert rig.taken("orders") == 0
        assert rig.stock.query("SELECT count(*) FROM bank.near") == [(0,)]
        with client.transaction() as tx:  # Reading one is no harm.
            tx.branch("stock", rig.stock.connect()).execute("SELECT count(*) FROM bank.near")
            tx.branch("orders", rig.orders.connect()).execute(take())
    finally:
        rig.stock.query("DROP SERVER far CASCADE")
    assert rig.taken("orders") == 1
