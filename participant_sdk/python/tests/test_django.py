"""Django in branches: its ORM on two MariaDB servers (mysqlclient), and on PostgreSQL (Psycopg 3)."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.db import DatabaseError, IntegrityError, connections, transaction
from servers import wait_for
from shop import Line, Order, _clean, _configured, create, kill, names, number_of, second

import assent
from assent.django import atomic
from assent.v1 import global_pb2 as gpb


def test_commit_on_both(rig, client, second):
    done = []
    for number in (1, 2):
        with atomic(client, ["orders", second], sole_participant=number == 1) as tx:
            order = create("orders", f"laptop {number}")
            Line.objects.using("orders").create(order=order, pieces=number)
            create(second, f"money {number}")
            assert Order.objects.using(second).count() == number
            transaction.on_commit(lambda: done.append((names(rig, "orders"), names(rig, second))), using="orders")
            assert len(names(rig, "orders")) == len(names(rig, second)) == number - 1
            assert len(done) == number - 1
        assert tx.outcome is assent.TransactionOutcome.COMMITTED
        assert len(done) == number
    assert done[1] == (["laptop 1", "laptop 2"], ["money 1", "money 2"])


def test_resources_of_other_names_and_as_a_decorator(rig, client):
    @atomic(client, using="orders", resources={"orders": "payments"})
    def wrong():
        create("orders")

    with pytest.raises(assent.WrongServer):
        wrong()
    rig.coordinator.register("shop", rig.payments)

    @atomic(client, using=["orders", "payments"], resources={"payments": "payments"})
    def right():
        create("orders")
        create("payments")

    right()
    right_names = names(rig, "orders"), names(rig, "payments")
    assert right_names == (["laptop"], ["laptop"])


def test_an_exception_rolls_both_back(rig, client, second):
    done = []
    with pytest.raises(ZeroDivisionError), atomic(client, ["orders", second]):
        create("orders")
        create(second)
        transaction.on_commit(lambda: done.append(1), using=second)
        raise ZeroDivisionError
    assert names(rig, "orders") == names(rig, second) == done == []


def test_an_error_that_is_swallowed_still_rolls_both_back(rig, client, second):
    done = []
    with pytest.raises(assent.Aborted) as told, atomic(client, ["orders", second]):
        create("orders")
        create(second)
        transaction.on_commit(lambda: done.append(1), using="orders")
        with pytest.raises(IntegrityError):
            create(second)
        with pytest.raises((transaction.TransactionManagementError, assent.BranchPoisoned)):
            create(second, "more")
    assert told.value.metadata["sqlstate"] in ("23000", "23505")
    assert names(rig, "orders") == names(rig, second) == done == []


def test_savepoints(rig, client, second):
    done = []
    with atomic(client, ["orders", second]):
        create("orders")
        create(second)
        with transaction.atomic(using=second):
            create(second, "inner")
            transaction.on_commit(lambda: done.append("inner"), using=second)
            with pytest.raises(IntegrityError), transaction.atomic(using=second):
                transaction.on_commit(lambda: done.append("undone"), using=second)
                create(second, "undone")
                create(second)
        with pytest.raises(ZeroDivisionError), transaction.atomic(using="orders"):
            create("orders", "undone")
            raise ZeroDivisionError
        assert Order.objects.using(second).get_or_create(what="laptop")[1] is False
        assert Order.objects.using("orders").update_or_create(what="more")[1] is True
    assert names(rig, "orders") == ["laptop", "more"]
    assert names(rig, second) == ["laptop", "inner"]
    assert done == ["inner"]


def test_the_orm_at_large(rig, client, second):
    with atomic(client, ["orders", second]):
        Order.objects.using(second).bulk_create([Order(what=f"{number:03}") for number in range(250)])
        chosen = Order.objects.using(second).select_for_update().get(what="007")
        chosen.what = "seven"
        chosen.save(update_fields=["what"])
        assert sum(1 for _ in Order.objects.using(second).order_by("id").iterator(chunk_size=50)) == 250
        sid = transaction.savepoint(using=second)
        Order.objects.using(second).filter(what__lt="100").delete()
        transaction.savepoint_rollback(sid, using=second)
        Order.objects.using(second).filter(what__gte="200", what__lt="999").delete()
        create("orders")
    assert len(names(rig, second)) == 200
    assert "seven" in names(rig, second)


@pytest.mark.parametrize("how", ["set_rollback", "savepoint=False", "close"])
def test_where_django_rolls_back_in_silence_it_is_said(rig, client, second, how):
    done = []
    with pytest.raises(assent.Aborted), atomic(client, ["orders", second]):
        create("orders")
        create(second)
        transaction.on_commit(lambda: done.append(1), using="orders")
        if how == "set_rollback":
            transaction.set_rollback(True, using=second)
        elif how == "savepoint=False":
            with pytest.raises(ZeroDivisionError), transaction.atomic(using=second, savepoint=False):
                raise ZeroDivisionError
        else:
            connections[second].close()
            with pytest.raises(DatabaseError):
                create(second, "more")
    assert names(rig, "orders") == names(rig, second) == done == []


def test_what_would_end_the_branch_is_refused(rig, client, second):
    with atomic(client, ["orders", second]):
        create("orders")
        create(second)
        for call in (transaction.commit, transaction.rollback, lambda using: transaction.set_autocommit(True, using)):
            with pytest.raises(transaction.TransactionManagementError):
                call(using=second)
        with pytest.raises(RuntimeError, match="durable"), transaction.atomic(using=second, durable=True):
            pass
        with connections[second].cursor() as cursor, pytest.raises(assent.SessionHoldsBranch):
            cursor.execute("COMMIT")
        assert names(rig, second) == []
        create(second, "more")
    assert names(rig, second) == ["laptop", "more"]


def test_within_a_transaction_of_djangos_it_is_refused(rig, client, second):
    with transaction.atomic(using=second):
        create(second)
        with pytest.raises(assent.SessionInTransaction, match="outermost"), atomic(client, ["orders", second]):
            create("orders")
    with pytest.raises(assent.SessionInTransaction), atomic(client, ["orders"]), atomic(client, ["orders", second]):
        pass
    assert (names(rig, "orders"), names(rig, second)) == ([], ["laptop"])


def test_one_of_its_own_within_another_transaction_is_refused(rig, client, second):
    """It would commit by itself, although the outer one rolls back."""
    outer = atomic(client, ["orders"]), client.transaction()
    for block in outer:
        with pytest.raises(assent.SessionInTransaction, match="join="), block:
            with atomic(client, [second]):
                create(second)
    with pytest.raises(ZeroDivisionError), atomic(client, ["orders"]) as tx:
        create("orders")
        with atomic(client, [second], join=tx.gtrid):
            create(second)
        raise ZeroDivisionError
    assert names(rig, "orders") == names(rig, second) == []
    with atomic(client, ["orders"]) as tx:
        create("orders")
        with atomic(client, [second], join=tx.gtrid):
            create(second)
    assert names(rig, "orders") == names(rig, second) == ["laptop"]


def test_ddl_rolls_back(rig, client):
    with pytest.raises(assent.Aborted), atomic(client, ["orders", "payments"]):
        create("payments")
        with connections["orders"].cursor() as cursor, pytest.raises(DatabaseError):
            cursor.execute("CREATE TABLE bank.sneaky (id INT)")
    assert names(rig, "payments") == []


def test_an_alias_that_only_reads_is_not_prepared(client, second):
    with atomic(client, ["orders", second]) as tx:
        create("orders")
        assert not Order.objects.using(second).exists()
    assert client.flush(10)
    votes = {each.resource: each.vote for each in getattr(client.get_global(tx.gtrid), "global").branches}
    assert votes == {"orders": gpb.VOTE_KIND_PREPARED, second: gpb.VOTE_KIND_READ_ONLY}


def test_a_worker_joins(rig, client):
    with atomic(client, ["orders"]) as tx:
        create("orders")
        code = (
            "import sys; sys.path[:0] = ['tests']; import test_django as t, assent\n"
            f"t.settings.DATABASES = {settings.DATABASES!r}\n"
            f"with t.atomic(assent.Client({rig.coordinator.address!r}), 'payments', join={tx.gtrid!r}):\n"
            "    t.create('payments')\n"
            "    t.transaction.on_commit(lambda: print('done'), using='payments')\n"
        )
        worker = subprocess.Popen([sys.executable, "-c", code], cwd=HERE, stdout=subprocess.PIPE, text=True)
        wait_for(rig.payments.prepared, "the worker's vote")
    assert worker.communicate(timeout=30)[0] == "done\n"
    assert (names(rig, "orders"), names(rig, "payments")) == (["laptop"], ["laptop"])


def test_a_killed_connection_rolls_both_back(rig, client, second):
    with pytest.raises((assent.Aborted, assent.DatabaseUnreachable)), atomic(client, ["orders", second]):
        create("orders")
        create(second)
        kill(rig, second, number_of(second))
        create(second, "more")
    assert names(rig, "orders") == names(rig, second) == []


def test_a_server_that_closed_an_idle_connection(rig, client):
    kill(rig, "payments", number_of("payments"))
    connections["payments"].close_if_unusable_or_obsolete()  # As at the begin of a request.
    connections["payments"].health_check_done = False
    with atomic(client, ["orders", "payments"]):
        create("orders")
        create("payments")
    assert names(rig, "payments") == ["laptop"]


class AtVote(assent.Hooks):
    def __init__(self, do):
        self.do = do

    def on_voted(self, gtrid):
        self.do()


def test_in_doubt_no_callback_runs_and_the_connection_is_closed(rig):
    number, done = number_of("orders"), []
    hooks = [AtVote(lambda: kill(rig, "orders", number))]
    with assent.Client(rig.coordinator.address, assent.ClientOptions(hooks=hooks, decision_patience=1)) as client:
        with pytest.raises(assent.OutcomeInDoubt), atomic(client, ["orders"]):
            create("orders")
            transaction.on_commit(lambda: done.append(1), using="orders")
    wait_for(lambda: names(rig, "orders"), "the coordinator's COMMIT")
    assert done == []
    assert number_of("orders") != number


def test_a_callback_that_raises_comes_out_committed(rig, client):
    with pytest.raises(ZeroDivisionError), atomic(client, ["orders", "payments"]):
        create("orders")
        create("payments")
        transaction.on_commit(lambda: 1 / 0, using="orders")
    assert names(rig, "orders") == names(rig, "payments") == ["laptop"]


def test_an_isolation_level_that_would_not_reach_the_branch(client):
    with (
        pytest.raises(assent.InvalidRequest, match="default_transaction_isolation"),
        atomic(client, ["strict"], resources={"strict": "stock"}),
    ):
        pass
    connections["strict"].close()


def test_a_forked_process_leaves_it_alone(rig, client):
    with atomic(client, ["orders"]):
        create("orders")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                create("orders", "child")
            except assent.SessionHoldsBranch:
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
    assert names(rig, "orders") == ["laptop"]


HERE = Path(__file__).parents[1]
KILLED = """
import os, sys; sys.path[:0] = ["tests"]
import test_django as t, assent
class Killer(assent.Hooks):
    def __getattribute__(self, name):
        if name == sys.argv[1]:
            os.kill(os.getpid(), 9)
        return super().__getattribute__(name)
t.settings.DATABASES = eval(sys.argv[3])
client = assent.Client(sys.argv[2], assent.ClientOptions(hooks=[Killer()]))
with t.atomic(client, ["orders", "payments"], timeout=5):
    t.create("orders"); t.create("payments")
"""


@pytest.mark.parametrize("moment", ["on_voted", "on_decided"])
def test_killed(rig, moment):
    worker = subprocess.run(
        [sys.executable, "-c", KILLED, moment, rig.coordinator.address, repr(settings.DATABASES)], cwd=HERE, timeout=60
    )
    assert worker.returncode == -signal.SIGKILL
    wait_for(rig.nothing_prepared, "recovery", 40)
    assert names(rig, "orders") == names(rig, "payments") == (["laptop"] if moment == "on_decided" else [])


def test_without_the_library():
    told = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['django'] = None; import assent.django"],
        capture_output=True, text=True, cwd=HERE,
    )  # fmt: skip
    assert "pip install './participant_sdk/python[django]'" in told.stderr.splitlines()[-1]
