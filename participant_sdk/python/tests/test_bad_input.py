"""What must not go wrong quietly: each says what to do."""

import asyncio
import os
import threading
import time

import mariadb
import MySQLdb
import pymysql
import pytest
from conftest import take
from servers import free_port, wait_for

import assent
from assent import aio
from assent._core.session import WitnessTable
from assent.v1 import global_pb2 as gpb
from assent.xid import Xid


@pytest.mark.parametrize("connect", ["autocommit off", "BEGIN"])
def test_a_connection_in_a_transaction_is_refused_and_usable_afterwards(rig, client, connect):
    connection = rig.payments.connect(autocommit=connect == "BEGIN")
    with connection.cursor() as cursor:
        if connect == "BEGIN":
            cursor.execute("BEGIN")
        cursor.execute(take(5))
    with client.transaction(sole_participant=True) as tx:
        branch = tx.branch("payments", connection)
        with pytest.raises(assent.SessionInTransaction, match="commit, roll back"):
            branch.execute(take())
        connection.rollback()
        branch.execute(take())
    assert rig.taken("payments") == 1
    assert rig.taken("payments", 5) == 0
    connection.close()


def test_a_postgres_connection_in_a_transaction_is_refused(rig, client):
    connection = rig.stock.connect(autocommit=False)
    connection.execute("SELECT 1")
    with client.transaction(sole_participant=True) as tx:
        branch = tx.branch("stock", connection)
        with pytest.raises(assent.SessionInTransaction, match="commit, roll back"):
            branch.execute(take())
        connection.rollback()
        branch.execute(take())
    assert rig.taken("stock") == 1


def test_whoever_overlooks_a_refused_statement_is_not_told_committed(rig, client, pair):
    mine, yours = pair
    yours.begin()
    with client.transaction(sole_participant=True) as tx:
        tx.branch("orders", mine).execute(take())
        with pytest.raises(assent.SessionInTransaction):
            tx.branch("payments", yours).execute(take())
        yours.rollback()
        with pytest.raises(assent.TransactionRolledBack, match="commit, roll back"):
            tx.commit()
    assert rig.taken("orders") == 0


def test_a_connection_carries_one_branch_at_a_time(rig, client, pair):
    mine, yours = pair
    with client.transaction(sole_participant=True) as tx:
        tx.branch("orders", mine).execute(take())
        other = client.transaction(sole_participant=True)
        with pytest.raises(assent.SessionHoldsBranch):
            other.branch("orders", mine)
        with pytest.raises(assent.TransactionRolledBack):  # What was to be done there was not.
            other.commit()
        tx.branch("payments", yours).execute(take())
    assert rig.taken("orders") == rig.taken("payments") == 1


def test_the_wrong_server_is_refused(rig, client, pair):
    mine, _ = pair
    for sole in (True, False):
        with pytest.raises(assent.TransactionRolledBack), client.transaction(sole_participant=sole) as tx:
            tx.branch("orders", mine).execute(take())
            with pytest.raises(assent.WrongServer, match="the resource's own server"):
                tx.branch("payments", rig.orders.connect())
    assert rig.taken("orders") == 0


def test_an_account_that_may_not_leave_the_witness_is_told_its_grant(rig, client, pair):
    rig.payments.query("CREATE USER clerk IDENTIFIED BY 'clerk'")
    rig.payments.query("GRANT SELECT, UPDATE ON bank.* TO clerk")
    clerk = rig.payments.connect(user="clerk", password="clerk")
    try:
        with pytest.raises(assent.Aborted, match=r"GRANT INSERT ON `assent`\.`witness`"):  # noqa: SIM117
            with client.transaction(sole_participant=True) as tx:
                tx.branch("orders", pair[0]).execute(take())
                tx.branch("payments", clerk).execute(take())
    finally:
        clerk.close()
        rig.payments.query("DROP USER clerk")
    assert rig.taken("orders") + rig.taken("payments") == 0


def reset(connection):
    """What a pool does on return: the server forgets the branch without a word."""
    connection._execute_command(0x1F, b"")  # COM_RESET_CONNECTION
    connection._read_packet()


def test_a_pool_that_resets_a_branch_is_noticed_at_the_next_statement(rig, client, pair):
    mine, yours = pair
    with pytest.raises(assent.OutcomeInDoubt, match="a pool must never do") as told:  # noqa: SIM117
        with client.transaction(sole_participant=True) as tx:
            tx.branch("orders", mine).execute(take())
            branch = tx.branch("payments", yours)
            branch.execute(take())
            reset(yours)
            with pytest.raises(assent.SessionReset):
                branch.execute(take(2))
            tx.commit()
    assert told.value.metadata["cause"] == "SESSION_RESET"
    assert rig.taken("orders") + rig.taken("payments") == 0
    assert not yours.open


def test_a_pool_that_resets_a_branch_is_noticed_before_it_is_prepared(rig, client, pair):
    mine, yours = pair
    with pytest.raises(assent.AssentError), client.transaction(sole_participant=True) as tx:
        tx.branch("orders", mine).execute(take())
        tx.branch("payments", yours).execute(take())
        reset(yours)
    assert tx.outcome is not assent.TransactionOutcome.COMMITTED
    assert rig.taken("orders") + rig.taken("payments") == 0
    assert rig.payments.query("SELECT COUNT(*) FROM assent.witness WHERE gtrid = %s", (tx.gtrid,)) == [(0,)]
    assert not yours.open


@pytest.mark.parametrize("mode", ["", "STRICT_ALL_TABLES", "ANSI_QUOTES,NO_UNSIGNED_SUBTRACTION"])
def test_the_witness_itself_asks_for_its_session(rig, mode):
    """In whatever sql_mode: outside of the branch it would be evidence of a commit that never was."""
    sql = WitnessTable("assent", "witness").insert_sql(Xid("py-guard", "b1"), lambda value: f"IF(@mark=5,{value},~0+1)")
    connection = rig.payments.connect(autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("SET sql_mode=%s", (mode,))
        for statement in ("SET @mark=NULL", "SET @mark=6"):
            cursor.execute(statement)
            with pytest.raises(pymysql.err.MySQLError) as refused:
                cursor.execute(sql)
            assert refused.value.args[0] == 1690
        cursor.execute("SET @mark=5")
        cursor.execute(sql)
        cursor.execute("SELECT gtrid, bqual FROM assent.witness WHERE gtrid = 'py-guard'")
        assert [tuple(map(bytes, row)) for row in cursor.fetchall()] == [(b"py-guard", b"b1")]
    connection.close()


def connect_mysqlclient(server):
    return MySQLdb.connect(host="127.0.0.1", port=server.port, user="root", password=server.password, autocommit=True)


def connect_mariadb(server):
    return mariadb.connect(host="127.0.0.1", port=server.port, user="root", password=server.password, autocommit=True)


@pytest.mark.parametrize("connect", [connect_mysqlclient, connect_mariadb])
def test_a_reset_leaves_no_witness_whatever_the_driver(rig, client, pair, connect):
    yours = connect(rig.payments)
    with pytest.raises(assent.AssentError), client.transaction(sole_participant=True) as tx:
        tx.branch("orders", pair[0]).execute(take())
        tx.branch("payments", yours).execute(take())
        yours.change_user("root", rig.payments.password, "bank")
    assert tx.outcome is not assent.TransactionOutcome.COMMITTED
    assert rig.taken("orders") + rig.taken("payments") == 0
    assert rig.payments.query("SELECT COUNT(*) FROM assent.witness WHERE gtrid = %s", (tx.gtrid,)) == [(0,)]


def test_ddl_in_a_branch_is_refused_and_rolls_back(rig, client, pair):
    mine, yours = pair
    with pytest.raises(assent.Aborted), client.transaction(sole_participant=True) as tx:
        tx.branch("orders", mine).execute(take())
        branch = tx.branch("payments", yours)
        branch.execute(take())
        with pytest.raises(assent.DatabaseFailed) as failed:
            branch.execute("CREATE TABLE bank.sneaky (id INT)")
        assert failed.value.metadata["error_code"] == "1399"
    assert rig.taken("orders") + rig.taken("payments") == 0


def test_commit_in_a_postgres_branch_is_told_and_left_in_doubt(rig, client, pair):
    mine, _ = pair
    connection = rig.stock.connect()
    with client.transaction(sole_participant=True) as tx:
        tx.branch("orders", mine).execute(take())
        branch = tx.branch("stock", connection)
        branch.execute(take())
        with pytest.raises(assent.SessionReset):
            branch.execute("COMMIT")
        with pytest.raises(assent.OutcomeInDoubt, match="look at the rows"):
            tx.commit()
    assert rig.taken("orders") == 0
    assert rig.taken("stock") == 1


def test_a_forked_process_leaves_its_parents_branch_alone(rig, client, pair):
    mine, yours = pair
    with client.transaction(sole_participant=True) as tx:
        tx.branch("orders", mine).execute(take())
        branch = tx.branch("payments", yours)
        branch.execute(take())
        child = os.fork()
        if child == 0:
            code = 1
            try:
                branch.execute(take(2))
            except assent.SessionHoldsBranch as refused:
                code = 0 if "client.join(gtrid)" in str(refused) else 2
                tx.close()
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
    assert rig.taken("orders") == rig.taken("payments") == 1
    assert rig.taken("payments", 2) == 0


def test_two_threads_on_one_branch_are_refused(rig, client, pair):
    mine, _ = pair
    with client.transaction(sole_participant=True) as tx:
        branch = tx.branch("orders", mine)
        branch.execute(take())
        sleeper = threading.Thread(target=lambda: branch.execute("SELECT SLEEP(0.5)"))
        sleeper.start()
        time.sleep(0.2)
        with pytest.raises(assent.SessionHoldsBranch, match="another thread"):
            branch.execute(take())
        with pytest.raises(assent.SessionHoldsBranch):
            tx.commit()
        sleeper.join()
    assert rig.taken("orders") == 1


def test_ctrl_c_in_a_statement_closes_its_connection(rig, client, pair):
    mine, yours = pair

    def interrupt():
        time.sleep(0.3)
        import _thread

        _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt), client.transaction(sole_participant=True) as tx:
        tx.branch("orders", mine).execute(take())
        branch = tx.branch("payments", yours)
        branch.execute(take())
        threading.Thread(target=interrupt).start()
        branch.execute("SELECT SLEEP(1)")
    assert not yours.open
    assert tx.outcome is assent.TransactionOutcome.ROLLED_BACK
    wait_for(lambda: rig.taken("orders") + rig.taken("payments") == 0, "the rollback")


@pytest.mark.parametrize("gtrid", ["", "x" * 65, "a b", "é", "a/b"])
def test_ids_are_checked_before_any_sql(client, gtrid):
    with pytest.raises(assent.InvalidRequest) as refused:
        client.join(gtrid)
    assert refused.value.reason is assent.Reason.INVALID_GTRID
    if gtrid:
        with pytest.raises(assent.InvalidRequest):
            client.transaction(gtrid=gtrid)


@pytest.mark.parametrize("make", [assent.Client, assent.aio.AsyncClient])
def test_what_cannot_be_an_address_is_refused_at_once(make):
    """The first call would wait for it in vain, or be told of it in gRPC's words."""
    bad = [
        "nohost",
        "http://host:1",
        "host:",
        ":7411",
        "host:0",
        "host:65536",
        "host:port",
        "::1:7411",
        "unix:",
        "a/b:1",
    ]
    for address in ["", " , ", *bad, "good:1,nohost", ["good:1", "nohost"]]:
        with pytest.raises(assent.InvalidRequest, match="host:port") as refused:
            make(address)
        assert refused.value.reason is assent.Reason.INVALID_FIELD
        assert refused.value.metadata == {"field": "addresses"}
    good = ["host:7411", "10.0.0.1:1", "[::1]:65535", "unix:/run/assentd", "unix:///run/assentd", "dns:///host:7411",
            "dns://8.8.8.8/host:7411", "ipv4:10.0.0.1:7411", "ipv6:[::1]:7411", "passthrough:///host:1", "xds:///assentd",
            "dns:7411"]  # fmt: skip
    make(good)
    make(" host:1 ,, other:2,")


@pytest.mark.parametrize(
    ("gtrid", "reason"),
    [
        ("py-of-the-callers-choice", assent.Reason.GLOBAL_NOT_FOUND),
        ("py-01ARZ3NDEKTSV4RRFFQ69G5FAV", assent.Reason.OUTCOME_IN_DOUBT),  # Older than the store.
        ("other-01ARZ3NDEKTSV4RRFFQ69G5FAV", assent.Reason.INVALID_GTRID),  # Its own cluster may have committed it.
    ],
)
def test_a_gtrid_of_nobody(client, pair, gtrid, reason):
    with client.join(gtrid) as tx:
        with pytest.raises(assent.AssentError) as refused:
            tx.branch("orders", pair[0])
        assert refused.value.reason is reason
        tx.leave()


def test_a_resource_that_is_not_registered(rig, client, pair):
    for sole in (True, False):
        with pytest.raises(assent.Aborted), client.transaction(sole_participant=sole) as tx:
            tx.branch("orders", pair[0]).execute(take())
            with pytest.raises(assent.ResourceNotFound):
                tx.branch("nowhere", pair[1])
    assert rig.taken("orders") == 0


def test_the_coordinator_absent_at_begin():
    options = assent.ClientOptions(call_patience=0.5)
    with assent.Client(f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}", options) as client:
        for sole in (False, True):
            begun = time.monotonic()
            with pytest.raises(assent.CoordinatorUnreachable, match="does not answer"):
                client.transaction(sole_participant=sole)
            assert time.monotonic() - begun < 5


@pytest.mark.parametrize("sole", [False, True])
def test_the_coordinator_dies_before_the_vote_and_comes_back(rig, client, pair, sole):
    with client.transaction(sole_participant=sole) as tx:
        tx.branch("orders", pair[0]).execute(take())
        tx.branch("payments", pair[1]).execute(take())
        rig.coordinator.kill9()
        threading.Timer(1.0, rig.coordinator.start).start()
    assert rig.taken("orders") == rig.taken("payments") == 1


def test_the_coordinator_stays_away_at_the_decision(rig, pair):
    options = assent.ClientOptions(decision_patience=0.5, call_patience=0.5)
    with assent.Client(rig.coordinator.address, options) as client, client.transaction() as tx:
        tx.branch("orders", pair[0]).execute(take())
        tx.branch("payments", pair[1]).execute(take())
        rig.coordinator.kill9()
        with pytest.raises(assent.OutcomeInDoubt, match="assentctl globals get"):
            tx.commit()
        assert tx.outcome is assent.TransactionOutcome.IN_DOUBT
        rig.coordinator.start()
        tx.commit()
    assert rig.taken("orders") == rig.taken("payments") == 1


def test_in_doubt_at_the_end_of_the_block_leaves_nothing_on_the_connections(rig, pair):
    options = assent.ClientOptions(decision_patience=0.3, call_patience=0.3)
    with assent.Client(rig.coordinator.address, options) as client:
        with pytest.raises(assent.OutcomeInDoubt), client.transaction(timeout=3) as tx:
            tx.branch("orders", pair[0]).execute(take())
            tx.branch("payments", pair[1]).execute(take())
            rig.coordinator.kill9()
        assert not pair[0].open
        assert not pair[1].open
        rig.coordinator.start()
    wait_for(rig.nothing_prepared, "recovery", 40)
    assert rig.taken("orders") == rig.taken("payments")


def test_a_deadline_that_passes(rig, client, pair):
    for sole in (False, True):
        with pytest.raises(assent.TransactionRolledBack), client.transaction(timeout=0.05, sole_participant=sole) as tx:
            tx.branch("orders", pair[0]).execute(take())
            tx.branch("payments", pair[1]).execute(take())
            time.sleep(0.1)
    assert rig.taken("orders") + rig.taken("payments") == 0


def test_a_killed_database_session_rolls_back(rig, client, pair):
    with pytest.raises((assent.Aborted, assent.Unavailable)), client.transaction(sole_participant=True) as tx:
        tx.branch("orders", pair[0]).execute(take())
        tx.branch("payments", pair[1]).execute(take())
        rig.payments.query(f"KILL {pair[1].thread_id()}")
        time.sleep(0.2)
    assert tx.outcome is assent.TransactionOutcome.ROLLED_BACK
    assert rig.taken("orders") + rig.taken("payments") == 0


def test_a_silent_reconnect_is_noticed(rig, client, pair):
    mine, yours = pair
    with pytest.raises(assent.Aborted) as told, client.transaction(sole_participant=True) as tx:
        tx.branch("orders", mine).execute(take())
        tx.branch("payments", yours).execute(take())
        yours.close()
        yours.connect()
    assert told.value.reason is assent.Reason.SESSION_RESET
    assert rig.taken("orders") + rig.taken("payments") == 0


def test_many_processes(rig, client, pair):
    """One begins, two join; the last vote decides."""
    tx = client.transaction(policy=assent.DecisionPolicy.WHEN_ALL_PREPARED, expected_branches=2)
    tx.leave()

    def work(resource, connection):
        with assent.Client(rig.coordinator.address) as own, own.join(tx.gtrid) as joined:
            joined.branch(resource, connection).execute(take())

    threads = [threading.Thread(target=work, args=pair_) for pair_ in zip(("orders", "payments"), pair, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tx.close()
    assert rig.taken("orders") == rig.taken("payments") == 1
    wait_for(lambda: client.get_global(tx.gtrid).outcome == gpb.OUTCOME_COMMITTED, "the completions")


def test_a_worker_that_fails_takes_all_with_it(rig, client, pair):
    with pytest.raises(assent.TransactionRolledBack), client.transaction() as tx:
        tx.branch("orders", pair[0]).execute(take())
        with pytest.raises(ZeroDivisionError), client.join(tx.gtrid) as joined:
            joined.branch("payments", pair[1]).execute(take())
            raise ZeroDivisionError
    assert rig.taken("orders") + rig.taken("payments") == 0


def test_commit_may_be_called_again_when_a_vote_was_missing(rig, client, pair):
    with client.transaction() as tx:
        tx.branch("orders", pair[0]).execute(take())
        joined = client.join(tx.gtrid)
        joined.branch("payments", pair[1]).execute(take())
        with pytest.raises(assent.BranchesNotPrepared):
            tx.commit()
        worker = threading.Thread(target=joined.prepare)
        worker.start()
        wait_for(lambda: rig.payments.prepared(), "the worker's PREPARE")
        time.sleep(0.2)
        tx.commit()
        worker.join()
        joined.close()
    assert rig.taken("orders") == rig.taken("payments") == 1


async def test_a_commit_that_timed_out_may_be_asked_again(rig):
    import asyncmy

    connections = [
        await asyncmy.connect(
            host="127.0.0.1", port=server.port, user="root", password=server.password, autocommit=True
        )
        for server in (rig.orders, rig.payments)
    ]
    async with aio.AsyncClient(rig.coordinator.address) as client, client.transaction() as tx:
        await (await tx.branch("orders", connections[0])).execute(take())
        await (await tx.branch("payments", connections[1])).execute(take())
        rig.coordinator.kill9()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(tx.commit(), 0.5)
        rig.coordinator.start()
        await tx.commit()
    assert rig.taken("orders") == rig.taken("payments") == 1
    for connection in connections:
        connection.close()


def test_what_is_no_connection_is_refused(client):
    with pytest.raises(assent.InvalidRequest, match="pymysql"), client.transaction(sole_participant=True) as tx:
        tx.branch("orders", object())


@pytest.mark.parametrize("connect", [lambda rig: rig.orders.connect(), lambda rig: rig.stock.connect()])
def test_a_cursor_is_no_connection(rig, client, connect):
    with pytest.raises(assent.InvalidRequest, match="no cursor"), client.transaction(sole_participant=True) as tx:
        tx.branch("orders", connect(rig).cursor())


@pytest.mark.parametrize("sole", [True, False])
@pytest.mark.parametrize("resource", [None, "", 5])
def test_a_resource_without_a_name(rig, client, pair, resource, sole):
    refused = pytest.raises(assent.InvalidRequest, match="name of its resource")
    with refused, client.transaction(sole_participant=sole) as tx:
        tx.branch(resource, pair[0])


@pytest.mark.parametrize("gtrid", [None, 5, b"py-1"])
def test_a_gtrid_that_is_no_text(client, gtrid):
    for call in (client.join, client.take_part, client.get_global):
        with pytest.raises(assent.InvalidRequest, match="is no str") as refused:
            call(gtrid)
        assert refused.value.reason is assent.Reason.INVALID_GTRID


def test_ssl_and_unbuffered_cursors_are_the_drivers_own(rig, client):
    connection = rig.orders.connect()
    with client.transaction(sole_participant=True) as tx:
        branch = tx.branch("orders", connection)
        with branch.cursor(pymysql.cursors.DictCursor) as cursor:
            cursor.execute("SELECT balance FROM bank.accounts WHERE id = 1")
            assert cursor.fetchone() == {"balance": 1000}
        with branch.cursor(pymysql.cursors.SSCursor) as cursor:
            cursor.execute("SELECT id FROM bank.accounts")
            assert len(list(cursor)) == 20
        branch.execute(take())
    assert rig.taken("orders") == 1
    connection.close()


@pytest.mark.parametrize("sole", [False, True])
def test_a_dead_connection_is_no_reason_to_commit_without_its_branch(rig, client, pair, sole):
    rig.payments.query(f"KILL {pair[1].thread_id()}")
    time.sleep(0.2)
    with pytest.raises(assent.TransactionRolledBack), client.transaction(sole_participant=sole) as tx:
        tx.branch("orders", pair[0]).execute(take())
        with pytest.raises(assent.DatabaseUnreachable):
            tx.branch("payments", pair[1]).execute(take())
    assert not pair[1].open
    assert rig.taken("orders") == 0


@pytest.mark.parametrize("sole", [True, False])
def test_a_client_that_was_closed_before_the_commit(rig, pair, sole):
    """Nothing is prepared that nobody could decide, and nobody waits."""
    client = assent.Client(rig.coordinator.address)
    begun = time.monotonic()
    with pytest.raises(assent.CoordinatorUnreachable, match="the client has been closed"):  # noqa: SIM117
        with client.transaction(sole_participant=sole) as tx:
            tx.branch("orders", pair[0]).execute(take())
            tx.branch("payments", pair[1]).execute(take())
            client.close()
    assert time.monotonic() - begun < 10
    assert rig.nothing_prepared()
    assert rig.taken("orders") + rig.taken("payments") == 0


def test_ddl_in_a_branch_says_what_to_do(rig, client, pair):
    tx = client.transaction(sole_participant=True)
    branch = tx.branch("orders", pair[0])
    branch.execute(take())
    with pytest.raises(assent.DatabaseFailed, match="leave it out of the branch"):
        branch.execute("CREATE TABLE bank.other (id INT)")
    tx.close()
