"""Transactions over each driver, with real servers and a real coordinator."""

import mariadb
import MySQLdb
import pymysql
import pytest
from conftest import take

import assent
from assent.v1 import global_pb2 as gpb


def connect_pymysql(server):
    return server.connect()


def connect_pymysql_multi(server):
    return server.connect(client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS)


def connect_pymysql_no_autocommit(server):
    return server.connect(autocommit=False)


def connect_mysqlclient(server):
    return MySQLdb.connect(host="127.0.0.1", port=server.port, user="root", password=server.password)


def connect_mysqlclient_single(server):
    return MySQLdb.connect(
        host="127.0.0.1", port=server.port, user="root", password=server.password, multi_statements=False
    )


def connect_mariadb(server):
    return mariadb.connect(host="127.0.0.1", port=server.port, user="root", password=server.password)


def connect_postgres(server):
    return server.connect()


def connect_postgres_no_autocommit(server):
    return server.connect(autocommit=False)


MARIADB_DRIVERS = [
    connect_pymysql,
    connect_pymysql_multi,
    connect_pymysql_no_autocommit,
    connect_mysqlclient,
    connect_mysqlclient_single,
    connect_mariadb,
]
ALL_DRIVERS = [*MARIADB_DRIVERS, connect_postgres, connect_postgres_no_autocommit]


@pytest.fixture(params=ALL_DRIVERS, ids=lambda connect: connect.__name__.removeprefix("connect_"))
def second(request, rig):
    """A resource, and a way to connect to it with each driver; the first branch runs on orders with PyMySQL."""
    name = "stock" if "postgres" in request.param.__name__ else "payments"
    return name, lambda: request.param(rig.servers[name])


@pytest.fixture(params=[False, True], ids=["asked", "sole"])
def sole(request):
    return request.param


def test_commit(rig, client, second, sole):
    name, connect = second
    mine, yours = rig.orders.connect(), connect()
    for times in (1, 2, 3):
        with client.transaction(sole_participant=sole) as tx:
            with tx.branch("orders", mine) as branch:
                branch.execute(take())
                assert branch.execute("SELECT balance FROM bank.accounts WHERE id = %s", (1,)).fetchone() == (
                    1000 - times,
                )
            other = tx.branch(name, yours)
            with other.cursor() as cursor:
                cursor.execute("UPDATE bank.accounts SET balance = balance - %s WHERE id = %s", (1, 1))
                assert cursor.rowcount == 1
            assert rig.taken("orders") == times - 1
            assert rig.taken(name) == times - 1
        assert tx.outcome is assent.TransactionOutcome.COMMITTED
        assert rig.taken("orders") == times
        assert rig.taken(name) == times
    assert client.flush(10)
    known = client.get_global(tx.gtrid)
    assert known.outcome == gpb.OUTCOME_COMMITTED
    branches = getattr(known, "global").branches
    assert [branch.vote for branch in branches] == [gpb.VOTE_KIND_PREPARED] * 2
    assert all(branch.session.connection_id for branch in branches)
    mine.close()
    yours.close()


def test_an_exception_rolls_back_and_keeps_its_cause(rig, client, second, sole):
    name, connect = second
    mine, yours = rig.orders.connect(), connect()
    with pytest.raises(ZeroDivisionError), client.transaction(sole_participant=sole) as tx:
        tx.branch("orders", mine).execute(take())
        tx.branch(name, yours).execute(take())
        raise ZeroDivisionError
    assert tx.outcome is assent.TransactionOutcome.ROLLED_BACK
    assert rig.taken("orders") + rig.taken(name) == 0
    assert client.flush(10)
    assert client.get_global(tx.gtrid).outcome == gpb.OUTCOME_ROLLED_BACK
    # The connections are as good as new.
    with client.transaction(sole_participant=sole) as tx:
        tx.branch("orders", mine).execute(take())
        tx.branch(name, yours).execute(take())
    assert rig.taken("orders") + rig.taken(name) == 2


def test_a_failed_statement_poisons_and_commit_says_why(rig, client, second, sole):
    name, connect = second
    with client.transaction(sole_participant=sole) as tx:
        tx.branch("orders", rig.orders.connect()).execute(take())
        branch = tx.branch(name, connect())
        branch.execute(take())
        with pytest.raises(assent.DatabaseFailed) as failed:
            branch.execute("INSERT INTO bank.accounts VALUES (1, 0)")
        assert failed.value.metadata["sqlstate"] in ("23000", "23505")
        assert failed.value.__cause__ is not None
        with pytest.raises(assent.BranchPoisoned):
            branch.execute(take())
        with pytest.raises(assent.Aborted) as told:
            tx.commit()
        assert told.value is failed.value
        assert tx.outcome is assent.TransactionOutcome.ROLLED_BACK
        with pytest.raises(assent.Aborted):
            tx.commit()
    assert rig.taken("orders") + rig.taken(name) == 0
    assert client.flush(10)
    known = getattr(client.get_global(tx.gtrid), "global")
    assert known.cause == gpb.DECISION_CAUSE_BRANCH_FAILED
    failures = [branch.failure for branch in known.branches if branch.vote == gpb.VOTE_KIND_FAILED]
    assert failures[0].sqlstate in ("23000", "23505")


def test_a_failed_first_statement_poisons(rig, client, second):
    name, connect = second
    with pytest.raises(assent.Aborted), client.transaction(sole_participant=True) as tx:
        tx.branch("orders", rig.orders.connect()).execute(take())
        branch = tx.branch(name, connect())
        with pytest.raises(assent.DatabaseFailed):
            branch.execute("INSERT INTO bank.accounts VALUES (1, 0)")
    assert rig.taken("orders") == 0


def test_an_expected_error_does_not_poison(rig, client, second):
    name, connect = second
    with client.transaction(sole_participant=True) as tx:
        tx.branch("orders", rig.orders.connect()).execute(take())
        branch = tx.branch(name, connect())
        for _ in range(2):
            with pytest.raises(assent.DatabaseFailed):
                branch.execute(
                    "INSERT INTO bank.accounts VALUES (1, 0)", expected_errors=[1062], expected_sqlstates=["23505"]
                )
        branch.execute(take(2))
    assert rig.taken("orders") == 1
    assert rig.taken(name, 2) == 1


def test_a_branch_that_only_reads_is_never_prepared(rig, client, second, sole):
    name, connect = second
    yours = connect()
    with client.transaction(sole_participant=sole, one_phase_commit=False) as tx:
        tx.branch("orders", rig.orders.connect()).execute(take())
        row = tx.branch(name, yours).execute("SELECT balance FROM bank.accounts WHERE id = 1").fetchone()
        assert row == (1000,)
    assert client.flush(10)
    known = client.get_global(tx.gtrid)
    assert known.outcome == gpb.OUTCOME_COMMITTED
    votes = {branch.resource: branch.vote for branch in getattr(known, "global").branches}
    assert votes == {"orders": gpb.VOTE_KIND_PREPARED, name: gpb.VOTE_KIND_READ_ONLY}
    with client.transaction(sole_participant=sole) as tx:
        tx.branch(name, yours).execute(take())
    assert rig.taken(name) == 1


def test_a_function_that_writes_is_seen(rig, client, second):
    name, connect = second
    server = rig.servers[name]
    server.query("DROP FUNCTION IF EXISTS bank.sly")
    if name == "stock":
        server.query(
            "CREATE FUNCTION bank.sly() RETURNS BIGINT LANGUAGE sql AS "
            "'UPDATE bank.accounts SET balance = balance - 1 WHERE id = 3 RETURNING balance'"
        )
    else:
        server.query(
            "CREATE FUNCTION bank.sly() RETURNS BIGINT MODIFIES SQL DATA BEGIN "
            "UPDATE bank.accounts SET balance = balance - 1 WHERE id = 3; RETURN 1; END"
        )
    with client.transaction(sole_participant=True) as tx:
        tx.branch("orders", rig.orders.connect()).execute(take())
        tx.branch(name, connect()).execute("SELECT bank.sly()")
    assert rig.taken(name, 3) == 1
    assert rig.taken("orders") == 1
