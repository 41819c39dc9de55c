"""SQLAlchemy in branches: Core and ORM, on MariaDB (PyMySQL) and PostgreSQL (Psycopg 3)."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from conftest import take
from servers import needs_mariadb, wait_for
from sqlalchemy import event, orm, pool

import assent
from assent.sqlalchemy import enlist, enlist_session
from assent.v1 import global_pb2 as gpb


class Base(orm.DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "sa_orders"
    __table_args__ = ({"schema": "bank"},)
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True, autoincrement=True)
    what: orm.Mapped[str] = orm.mapped_column(sa.String(20), unique=True)


class Payment(Base):
    __tablename__ = "sa_payments"
    __table_args__ = ({"schema": "bank"},)
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True, autoincrement=True)
    amount: orm.Mapped[int]


def url_of(rig, name):
    server = rig.servers[name]
    if name == "stock":
        return f"postgresql+psycopg://postgres:{server.password}@127.0.0.1:{server.port}/postgres"
    return f"mysql+pymysql://root:{server.password}@127.0.0.1:{server.port}/bank"


@pytest.fixture
def engines(rig):
    """Two databases: `orders` is MariaDB, the other, PostgreSQL."""
    made = {
        name: sa.create_engine(url_of(rig, name), pool_size=2, max_overflow=0, pool_timeout=1) for name in rig.servers
    }
    for engine in made.values():
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
    yield made
    assert [engine.pool.checkedout() for engine in made.values()] == [0, 0, 0], "a connection was kept"
    for engine in made.values():
        engine.dispose()


@pytest.fixture(params=["payments", "stock"])
def second(request):
    return request.param


def count(rig, name, table="sa_orders"):
    return rig.servers[name].query(f"SELECT COUNT(*) FROM bank.{table}")[0][0]


def both(rig, second, table="sa_orders"):
    return count(rig, "orders", table), count(rig, second, table)


def test_core_commits_on_both(rig, client, engines, second):
    for times in (1, 2):
        with client.transaction(sole_participant=True) as tx:
            with enlist(tx, "orders", engines["orders"]) as mine, enlist(tx, second, engines[second]) as yours:
                for connection in (mine, yours):
                    connection.execute(sa.insert(Order).values(what=f"laptop {times}"))
                    assert connection.scalar(sa.select(sa.func.count()).select_from(Order)) == times
            assert engines["orders"].pool.checkedout() == engines[second].pool.checkedout() == 1
            assert both(rig, second) == (times - 1, times - 1)
        assert tx.outcome is assent.TransactionOutcome.COMMITTED
        assert both(rig, second) == (times, times)
        assert engines["orders"].pool.checkedin() == engines[second].pool.checkedin() == 1
        with pytest.raises(sa.exc.ResourceClosedError):
            mine.execute(sa.select(Order.id))


def test_one_session_over_two_databases(rig, client, engines, second):
    where = {Order: "orders", Payment: second}
    used = {name: engines[name] for name in ("orders", second)}
    with client.transaction() as tx, enlist_session(tx, used, binds=where, expire_on_commit=False) as session:
        order = Order(what="laptop")
        session.add_all([order, Payment(amount=800)])
        session.flush()
        assert order.id
        order.what = "desktop"  # Flushed by the end of the block.
    assert rig.orders.query("SELECT what FROM bank.sa_orders") == [("desktop",)]
    assert (count(rig, second, "sa_payments"), count(rig, "orders", "sa_payments"), count(rig, second)) == (1, 0, 0)


def test_a_session_of_a_sessionmaker(rig, client, engines, second):
    class Mine(orm.Session):
        pass

    with client.transaction(sole_participant=True) as tx:
        with enlist_session(tx, {second: engines[second]}, factory=orm.sessionmaker(class_=Mine)) as session:
            assert isinstance(session, Mine)
            session.add(Order(what="laptop"))
        with enlist(tx, "orders", engines["orders"]) as connection, orm.Session(connection) as own:
            own.add(Order(what="laptop"))
            own.commit()  # Of a session that has joined somebody's transaction: it flushes.
            assert both(rig, second) == (0, 0)
    assert both(rig, second) == (1, 1)


@pytest.mark.parametrize("driver", ["mysql+mysqldb", pytest.param("mariadb+mariadbconnector", marks=needs_mariadb)])
def test_other_drivers(rig, client, engines, driver):
    engine = sa.create_engine(url_of(rig, "payments").replace("mysql+pymysql", driver))
    with client.transaction(sole_participant=True) as tx:
        with enlist(tx, "orders", engines["orders"]) as mine:
            mine.execute(sa.insert(Order), [{"what": "laptop"}, {"what": "desktop"}])
        with enlist_session(tx, {"payments": engine}) as session:
            session.add_all([Order(what="one"), Order(what="two")])
            with pytest.raises(sa.exc.IntegrityError), session.begin_nested():
                session.add(Order(what="one"))
            with pytest.raises(assent.SessionHoldsBranch):
                session.commit()
    assert both(rig, "payments") == (2, 2)
    assert engine.pool.checkedin() == 1
    engine.dispose()


def test_a_branch_that_only_reads_is_not_prepared(client, engines, second):
    with client.transaction() as tx:
        with enlist(tx, "orders", engines["orders"]) as mine:
            mine.execute(sa.insert(Order).values(what="laptop"))
        with enlist_session(tx, {second: engines[second]}) as session:
            assert session.scalars(sa.select(Order)).all() == []
    assert client.flush(10)
    votes = {each.resource: each.vote for each in getattr(client.get_global(tx.gtrid), "global").branches}
    assert votes == {"orders": gpb.VOTE_KIND_PREPARED, second: gpb.VOTE_KIND_READ_ONLY}


def test_an_exception_rolls_back_both(rig, client, engines, second):
    with pytest.raises(ZeroDivisionError), client.transaction() as tx:
        with enlist_session(tx, {"orders": engines["orders"]}) as mine:
            mine.add(Order(what="laptop"))
        with enlist_session(tx, {second: engines[second]}) as yours:
            yours.add(Order(what="laptop"))
            yours.flush()
            raise ZeroDivisionError
    assert tx.outcome is assent.TransactionOutcome.ROLLED_BACK
    assert both(rig, second) == (0, 0)


def test_whoever_swallows_the_exception_of_a_block_is_not_told_committed(rig, client, engines, second):
    with client.transaction() as tx:
        with enlist(tx, "orders", engines["orders"]) as mine:
            mine.execute(sa.insert(Order).values(what="laptop"))
        with pytest.raises(ZeroDivisionError), enlist_session(tx, {second: engines[second]}) as session:
            session.add(Order(what="laptop"))
            raise ZeroDivisionError
        with pytest.raises(assent.Aborted, match="ZeroDivisionError"):
            tx.commit()
    assert both(rig, second) == (0, 0)


def test_an_error_in_a_flush_poisons(rig, client, engines, second):
    with pytest.raises(assent.Aborted) as told, client.transaction(sole_participant=True) as tx:
        with enlist(tx, "orders", engines["orders"]) as mine:
            mine.execute(sa.insert(Order).values(what="laptop"))
        with enlist_session(tx, {second: engines[second]}) as session:
            session.add(Order(what="one"))
            session.flush()
            session.add(Order(what="one"))
            with pytest.raises(sa.exc.IntegrityError):
                session.flush()
            session.expunge_all()
            session.rollback()
            with pytest.raises(assent.BranchPoisoned):
                session.add(Order(what="two"))
                session.flush()
            session.rollback()
    assert told.value.metadata["sqlstate"] in ("23000", "23505")
    assert both(rig, second) == (0, 0)


def test_an_error_undone_to_a_savepoint_does_not_poison(rig, client, engines, second):
    with client.transaction(sole_participant=True) as tx:
        with enlist(tx, "orders", engines["orders"]) as mine:
            mine.execute(sa.insert(Order).values(what="laptop"))
            for _ in range(2):
                with pytest.raises(sa.exc.IntegrityError), mine.begin_nested():
                    mine.execute(sa.insert(Order).values(what="gone"))
                    mine.execute(sa.insert(Order).values(what="laptop"))
        with enlist_session(tx, {second: engines[second]}) as session:
            session.add(Order(what="one"))
            with session.begin_nested():
                session.add(Order(what="two"))
                with pytest.raises(sa.exc.IntegrityError), session.begin_nested():
                    session.add(Order(what="one"))
            session.add(Order(what="three"))
    assert rig.orders.query("SELECT what FROM bank.sa_orders") == [("laptop",)]
    assert rig.servers[second].query("SELECT what FROM bank.sa_orders ORDER BY id") == [("one",), ("two",), ("three",)]


def test_an_error_that_is_not_undone_poisons_in_spite_of_savepoints(rig, client, engines, second):
    with client.transaction(sole_participant=True) as tx:
        with enlist(tx, "orders", engines["orders"]) as mine:
            mine.execute(sa.insert(Order).values(what="laptop"))
        with enlist(tx, second, engines[second]) as yours:
            yours.execute(sa.insert(Order).values(what="one"))
            savepoint = yours.begin_nested()
            with pytest.raises(sa.exc.IntegrityError):
                yours.execute(sa.insert(Order).values(what="one"))
            with pytest.raises(assent.BranchPoisoned):  # RELEASE would keep what the error has left half done.
                savepoint.commit()
        with pytest.raises(assent.Aborted):
            tx.commit()
    assert both(rig, second) == (0, 0)


def test_a_savepoint_behind_the_error_does_not_take_it_back(rig, client, engines):
    with client.transaction(sole_participant=True) as tx:
        with enlist(tx, "orders", engines["orders"]) as mine:
            mine.exec_driver_sql("SAVEPOINT a")
            mine.exec_driver_sql("SAVEPOINT b")
            mine.exec_driver_sql("RELEASE SAVEPOINT b")
            with pytest.raises(sa.exc.ProgrammingError):
                mine.exec_driver_sql("SELECT * FROM bank.nowhere")
            with pytest.raises(assent.BranchPoisoned):
                mine.exec_driver_sql("ROLLBACK TO SAVEPOINT b")
            mine.exec_driver_sql("ROLLBACK TO SAVEPOINT a")
            mine.execute(sa.insert(Order).values(what="laptop"))
    assert count(rig, "orders") == 1


def test_a_lock_that_does_not_come_is_undone_by_a_savepoint(rig, client, engines, second):
    other = rig.servers[second].connect(autocommit=False)
    other.cursor().execute(take(2))
    patience = "SET LOCAL lock_timeout = '1s'" if second == "stock" else "SET SESSION innodb_lock_wait_timeout = 1"
    with client.transaction(sole_participant=True) as tx:
        with enlist(tx, second, engines[second]) as yours:
            yours.exec_driver_sql(patience)
            yours.exec_driver_sql(take(1))
            with pytest.raises(sa.exc.OperationalError, match=r"1205|lock timeout"), yours.begin_nested():
                yours.exec_driver_sql(take(3))
                yours.exec_driver_sql(take(2))
    other.rollback()
    other.close()
    assert [rig.taken(second, account) for account in (1, 2, 3)] == [1, 0, 0]


def test_a_deadlock_is_not_undone_by_a_savepoint(rig, client, engines):
    other = rig.orders.connect(autocommit=False)
    busy = f"SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = {other.thread_id()} AND INFO LIKE 'UPDATE%'"
    with other.cursor() as cursor:
        cursor.execute(take(2) + " OR id = 3")
        cursor.execute("UPDATE bank.accounts SET balance = balance WHERE id BETWEEN 4 AND 15")  # The heavier one wins.
    with client.transaction(sole_participant=True) as tx:
        with enlist(tx, "orders", engines["orders"]) as mine:
            mine.exec_driver_sql(take(1))
            savepoint = mine.begin_nested()
            pid = os.fork()
            if pid == 0:  # Waits for row 1, while `mine` asks for row 2.
                with other.cursor() as cursor:
                    cursor.execute(take(1))
                other._sock = other._rfile = None
                os._exit(0)
            wait_for(lambda: rig.orders.query(busy), "the wait")
            with pytest.raises(sa.exc.OperationalError, match="1213"):
                mine.exec_driver_sql(take(2))
            with pytest.raises(assent.BranchPoisoned):
                savepoint.rollback()
            os.waitpid(pid, 0)
        with pytest.raises(assent.Aborted):
            tx.commit()
    rig.orders.query(f"KILL {other.thread_id()}")
    wait_for(lambda: not rig.orders.query(busy.split(" AND")[0]), "its end")
    assert rig.taken("orders") == 0


COMMITS = {
    "connection.commit": lambda connection, session: connection.commit(),
    "connection.begin": lambda connection, session: connection.begin(),
    "transaction.commit": lambda connection, session: connection.get_transaction().commit(),
    "driver.commit": lambda connection, session: connection.connection.commit(),
    "detach": lambda connection, session: connection.detach(),
    "isolation_level": lambda connection, session: connection.execution_options(isolation_level="AUTOCOMMIT"),
    "begin_twophase": lambda connection, session: connection.begin_twophase(),
    "text COMMIT": lambda connection, session: connection.exec_driver_sql("/* bye */ commit"),
    "text START": lambda connection, session: connection.exec_driver_sql("-- hello\nSTART TRANSACTION"),
    "text BEGIN": lambda connection, session: connection.exec_driver_sql("BEGIN"),
    "session.commit": lambda connection, session: session.commit(),
    "session.begin": lambda connection, session: session.begin().__exit__(None, None, None),
}


@pytest.mark.parametrize("how", COMMITS)
def test_what_would_commit_is_refused_and_changes_nothing(rig, client, engines, second, how):
    with client.transaction(sole_participant=True) as tx:
        with enlist_session(tx, {second: engines[second]}) as session:
            if how != "session.begin":
                session.add(Order(what="one"))
                session.flush()
            with pytest.raises(assent.SessionHoldsBranch, match="ends with that transaction"):
                COMMITS[how](session.bind, session)
            assert count(rig, second) == 0
            session.add(Order(what="two"))
    assert count(rig, second) == (1 if how == "session.begin" else 2)


ROLLBACKS = {
    "connection.rollback": lambda connection, session: connection.rollback(),
    "driver.rollback": lambda connection, session: connection.connection.rollback(),
    "invalidate": lambda connection, session: connection.invalidate(),
    "session.rollback": lambda connection, session: session.rollback(),
}


@pytest.mark.parametrize("how", ROLLBACKS)
def test_a_rollback_sends_nothing_and_poisons(rig, client, engines, second, how):
    with client.transaction(sole_participant=True) as tx:
        with enlist(tx, "orders", engines["orders"]) as mine:
            mine.execute(sa.insert(Order).values(what="laptop"))
        with enlist_session(tx, {second: engines[second]}) as session:
            session.add(Order(what="one"))
            session.flush()
            ROLLBACKS[how](session.bind, session)
        with pytest.raises(assent.Aborted, match="can only be rolled back now"):
            tx.commit()
    assert both(rig, second) == (0, 0)


def test_the_text_rollback_poisons_too(rig, client, engines, second):
    with client.transaction(sole_participant=True) as tx:
        with enlist(tx, second, engines[second]) as yours:
            yours.execute(sa.insert(Order).values(what="one"))
            with pytest.raises(assent.SessionHoldsBranch):
                yours.exec_driver_sql("ROLLBACK")
        with pytest.raises(assent.Aborted):
            tx.commit()


def test_twophase_sessions_are_refused(client, engines, second):
    with pytest.raises(assent.InvalidRequest, match="twophase"), client.transaction() as tx:
        with enlist_session(tx, {second: engines[second]}, twophase=True):
            pass
    with pytest.raises(assent.SessionHoldsBranch), client.transaction() as tx:
        with enlist(tx, second, engines[second]) as yours, orm.Session(yours, twophase=True) as session:
            session.add(Order(what="one"))
            session.flush()


def test_nothing_of_sqlalchemys_own_reaches_the_server(rig, client, engines):
    engine = engines["orders"]
    with engine.connect() as first:  # The pool's one connection, set up.
        number = first.connection.driver_connection.thread_id()
    rig.orders.query("SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = 1")
    try:
        with client.transaction(sole_participant=True) as tx:
            with enlist(tx, "orders", engine) as connection, connection, orm.Session(connection) as session:
                session.add(Order(what="laptop"))
                session.commit()
            with engine.connect() as other:  # Another one: the branch's is not in the pool.
                assert other.connection.driver_connection.thread_id() != number
        with engine.connect():
            pass
    finally:
        rig.orders.query("SET GLOBAL general_log = 0; SET GLOBAL log_output = 'FILE'")
    log = "SELECT CAST(argument AS CHAR) FROM mysql.general_log WHERE command_type = 'Query' AND thread_id = "
    rows = rig.orders.query(f"{log}{number}")
    verbs = [" ".join(one.split()[:2]) for row in rows for one in row[0].split(";") if "@@hostname" not in one]
    begun, ended = verbs.index("XA START"), verbs.index("XA COMMIT")
    ours = ("SET @assent", "SELECT IF(@assent", "XA")
    inside = [verb for verb in verbs[begun:ended] if verb and not verb.startswith(ours)]
    assert inside == ["INSERT INTO", "INSERT INTO"]  # The order's, the witness.
    assert verbs[ended + 1 :] == ["ROLLBACK"]  # The pool resets what it gets back.


def test_a_killed_connection_rolls_back_and_leaves_the_pool(rig, client, engines, second):
    with pytest.raises(assent.Aborted), client.transaction(sole_participant=True) as tx:
        with enlist(tx, "orders", engines["orders"]) as mine:
            mine.execute(sa.insert(Order).values(what="laptop"))
        with enlist_session(tx, {second: engines[second]}) as session:
            session.add(Order(what="one"))
            session.flush()
            number = session.scalar(
                sa.text("SELECT pg_backend_pid()" if second == "stock" else "SELECT CONNECTION_ID()")
            )
            rig.servers[second].query(
                f"SELECT pg_terminate_backend({number})" if second == "stock" else f"KILL {number}"
            )
            session.add(Order(what="two"))
            with pytest.raises(assent.DatabaseUnreachable):
                session.flush()
    assert both(rig, second) == (0, 0)
    assert engines[second].pool.checkedout() == 0
    for _ in range(3):
        with client.transaction(sole_participant=True) as tx, enlist(tx, second, engines[second]) as yours:
            yours.execute(sa.insert(Order).values(what=tx.gtrid[-20:]))
    assert count(rig, second) == 3


class AtVote(assent.Hooks):
    def __init__(self, do):
        self.do = do

    def on_voted(self, gtrid):
        self.do()


def test_in_doubt_the_connection_is_invalidated(rig, engines):
    numbers = []
    hooks = AtVote(lambda: rig.orders.query(f"KILL {numbers[0]}"))
    options = assent.ClientOptions(hooks=[hooks], decision_patience=1)
    invalidated = []
    event.listen(engines["orders"], "invalidate", lambda *_: invalidated.append(1))
    with assent.Client(rig.coordinator.address, options) as client:
        begin = client.transaction
        with pytest.raises(assent.OutcomeInDoubt), begin(sole_participant=True, one_phase_commit=False) as tx:
            with enlist(tx, "orders", engines["orders"]) as mine:
                mine.execute(sa.insert(Order).values(what="laptop"))
                numbers.append(mine.connection.driver_connection.thread_id())
    assert invalidated == [1]
    wait_for(lambda: count(rig, "orders") == 1, "the coordinator's COMMIT")
    with engines["orders"].begin() as plain:
        assert plain.connection.driver_connection.thread_id() != numbers[0]


def test_the_wrong_engine_is_refused(rig, client, engines):
    for sole in (True, False):
        with pytest.raises(assent.Aborted), client.transaction(sole_participant=sole) as tx:
            with enlist(tx, "orders", engines["orders"]) as mine:
                mine.execute(sa.insert(Order).values(what="laptop"))
            with pytest.raises(assent.WrongServer), enlist(tx, "payments", engines["orders"]):
                pass
    assert count(rig, "orders") == 0
    with pytest.raises(assent.InvalidRequest, match="takes an Engine"), client.transaction() as tx:
        with engines["orders"].connect() as plain, enlist(tx, "orders", plain):
            pass


def test_a_pool_that_is_empty_or_has_no_server(rig, client, engines):
    single = sa.create_engine(url_of(rig, "orders"), pool_size=1, max_overflow=0, pool_timeout=0.2)
    nobody = sa.create_engine("mysql+pymysql://root@127.0.0.1:1/bank")
    for engine in (single, nobody):
        with single.connect(), client.transaction(sole_participant=True) as tx:
            with enlist(tx, "payments", engines["payments"]) as yours:
                yours.execute(sa.insert(Order).values(what="laptop"))
            with pytest.raises(assent.DatabaseUnreachable, match="no connection to resource"):
                with enlist(tx, "orders", engine):
                    pass
            with pytest.raises(assent.Aborted):
                tx.commit()
    single.dispose()
    assert count(rig, "payments") == 0


def test_ddl_in_a_branch_rolls_back(rig, client, engines):
    late = sa.Table("sa_late", sa.MetaData(), sa.Column("id", sa.Integer), schema="bank")
    with client.transaction(sole_participant=True) as tx:
        with enlist(tx, "orders", engines["orders"]) as mine:
            mine.execute(sa.insert(Order).values(what="laptop"))
            with pytest.raises(sa.exc.DBAPIError, match="1399"):
                late.create(mine)
        with pytest.raises(assent.Aborted):
            tx.commit()
    assert count(rig, "orders") == 0


@needs_mariadb
def test_a_compound_statement_is_no_begin(rig, client, engines):
    with client.transaction(sole_participant=True) as tx, enlist(tx, "orders", engines["orders"]) as mine:
        mine.exec_driver_sql(f"BEGIN NOT ATOMIC {take()}; {take(2)}; END")
    assert (rig.taken("orders"), rig.taken("orders", 2)) == (1, 1)


def test_isolation_levels(rig, client):
    mine = sa.create_engine(url_of(rig, "orders"), isolation_level="SERIALIZABLE")
    with client.transaction(sole_participant=True) as tx, enlist(tx, "orders", mine) as connection:
        assert connection.get_isolation_level() == "SERIALIZABLE"
    stock = sa.create_engine(url_of(rig, "stock"), isolation_level="SERIALIZABLE")
    with pytest.raises(assent.InvalidRequest, match="default_transaction_isolation"), client.transaction() as tx:
        with enlist(tx, "stock", stock):
            pass
    stock.dispose()
    options = {"options": "-c default_transaction_isolation=serializable"}
    for level in ({}, {"isolation_level": "AUTOCOMMIT"}):
        engine = sa.create_engine(url_of(rig, "stock"), connect_args=options, **level)
        with client.transaction(sole_participant=True) as tx, enlist(tx, "stock", engine) as connection:
            assert connection.scalar(sa.text("SHOW transaction_isolation")) == "serializable"
        engine.dispose()
    mine.dispose()


def test_events_pools_and_dispose(rig, client):
    """What users hang onto an engine runs, and in the branch; a pool that is disposed of keeps the branch alive."""
    engine = sa.create_engine(url_of(rig, "orders"), poolclass=pool.NullPool)
    seen = []
    event.listen(engine, "engine_connect", lambda connection: connection.exec_driver_sql("SELECT 1"))
    event.listen(engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    with client.transaction(sole_participant=True) as tx, enlist(tx, "orders", engine) as connection:
        connection.exec_driver_sql(take())
        engine.dispose()
        connection.exec_driver_sql(take())
    assert seen[0] == "SELECT 1"
    assert rig.taken("orders") == 2


def test_streamed_rows(rig, client, engines, second):
    with client.transaction(sole_participant=True) as tx, enlist(tx, second, engines[second]) as yours:
        rows = yours.execute(sa.text("SELECT id FROM bank.accounts ORDER BY id"), execution_options={"yield_per": 5})
        assert [row.id for row in rows] == list(range(20))
        yours.exec_driver_sql(take())
    assert rig.taken(second) == 1


def test_a_forked_process_leaves_the_pool_alone(rig, client, engines):
    with client.transaction(sole_participant=True) as tx, enlist(tx, "orders", engines["orders"]) as mine:
        mine.exec_driver_sql(take())
        child = os.fork()
        if child == 0:
            code = 1
            try:
                mine.exec_driver_sql(take())
            except assent.SessionHoldsBranch:
                code = 0
                tx.close()
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        mine.exec_driver_sql(take())
    assert rig.taken("orders") == 2


WORKER = """
import os, sys, sqlalchemy as sa, assent
from assent.sqlalchemy import enlist

class Killer(assent.Hooks):
    def __getattribute__(self, name):
        if name == sys.argv[1]:
            os.kill(os.getpid(), 9)
        return super().__getattribute__(name)

client = assent.Client(sys.argv[2], assent.ClientOptions(hooks=[Killer()]))
with client.transaction(timeout=5) as tx:
    for resource, url in (("orders", sys.argv[3]), ("stock", sys.argv[4])):
        with enlist(tx, resource, sa.create_engine(url)) as connection:
            connection.exec_driver_sql(sys.argv[5])
"""


@pytest.mark.parametrize("moment", ["on_branch_prepared", "on_voted", "on_decided", "on_branch_finished"])
def test_killed(rig, moment):
    worker = subprocess.run(
        [sys.executable, "-c", WORKER, moment, rig.coordinator.address, url_of(rig, "orders"), url_of(rig, "stock"),
         take()], cwd=Path(__file__).parents[1], timeout=60,
    )  # fmt: skip
    assert worker.returncode == -signal.SIGKILL
    wait_for(rig.nothing_prepared, "recovery", 40)
    assert rig.taken("orders") == rig.taken("stock") == (moment in ("on_decided", "on_branch_finished"))


def test_without_the_library():
    told = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['sqlalchemy'] = None; import assent.sqlalchemy"],
        capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert "pip install './participant_sdk/python[sqlalchemy]'" in told.stderr.splitlines()[-1]
