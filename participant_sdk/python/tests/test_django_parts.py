"""Django inside the block of a transaction that ends later than `atomic`: handlers of calls that carry one."""

import threading
import time

import pytest
from django.db import connections, transaction
from servers import wait_for
from shop import _clean, _configured, create, kill, names, number_of, second

import assent
from assent.django import atomic


@pytest.fixture
def worker(rig):
    """The handler's client."""
    with assent.Client(rig.coordinator.address, assent.ClientOptions(decision_patience=20)) as made:
        yield made


def test_a_handler_votes_and_does_not_wait_for_the_decision(rig, client, worker, second):
    done = []
    with client.transaction() as tx:
        tx.branch("orders", rig.orders.connect(database="bank")).execute(
            "INSERT INTO dj_order (what) VALUES ('laptop')"
        )
        begun = time.monotonic()
        with worker.take_part(tx.gtrid) as part:
            with atomic(worker, [second], join=tx.gtrid) as own:
                assert own is part
                create(second)
                transaction.on_commit(lambda: done.append(names(rig, second)), using=second)
            assert not rig.servers[second].prepared()
        assert time.monotonic() - begun < 5
        assert len(rig.servers[second].prepared()) == 1
        assert names(rig, second) == done == []
        create(second, "afterwards, by itself")  # The thread's next request, while nothing is decided.
    wait_for(lambda: done, "the callback")
    assert names(rig, "orders") == ["laptop"]
    assert sorted(done[0]) == ["afterwards, by itself", "laptop"]


def test_the_initiator_rolls_back(rig, client, worker, second):
    done, number = [], 0
    tx = client.transaction()
    with worker.take_part(tx.gtrid), atomic(worker, [second], join=tx.gtrid):
        create(second)
        number = number_of(second)
        transaction.on_commit(lambda: done.append(1), using=second)
    tx.rollback()
    worker.close()  # Waits for the background.
    assert names(rig, second) == done == []
    who = "SELECT pid FROM pg_stat_activity" if second == "stock" else "SELECT ID FROM information_schema.PROCESSLIST"
    wait_for(lambda: (number,) not in rig.servers[second].query(who), "the end of the branch's connection")


def test_blocks_of_one_handler_share_their_branch(rig, client, worker, second):
    with client.transaction() as tx, worker.take_part(tx.gtrid) as part:
        for number in range(3):
            with atomic(worker, [second], join=tx.gtrid):
                create(second, f"laptop {number}")
                assert len(seen(second)) == number + 1
            assert len(seen(second)) == 0  # By itself, on another connection.
        assert len(part._branches) == 1
    wait_for(lambda: len(names(rig, second)) == 3, "the commit in the background")


def seen(alias):
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT what FROM dj_order")
        return cursor.fetchall()


def quietly(alias):
    transaction.set_rollback(True, using=alias)


def loudly(alias):
    raise ZeroDivisionError


@pytest.mark.parametrize("fail", [quietly, loudly])
def test_what_fails_in_the_block_rolls_all_back_although_the_handler_goes_on(rig, client, worker, second, fail):
    tx = client.transaction()
    with pytest.raises(assent.Aborted), worker.take_part(tx.gtrid):
        try:
            with atomic(worker, [second], join=tx.gtrid):
                create(second)
                fail(second)
        except ZeroDivisionError:
            pass
    with pytest.raises(assent.Aborted):
        tx.commit()
    assert names(rig, second) == []


def test_a_block_that_could_not_begin_rolls_all_back(rig, client, worker):
    tx = client.transaction()
    with (
        pytest.raises(assent.Aborted, match="outermost block"),
        worker.take_part(tx.gtrid),
        transaction.atomic(using="payments"),
        pytest.raises(assent.SessionInTransaction),
        atomic(worker, ["payments"], join=tx.gtrid),
    ):
        pass
    with pytest.raises(assent.Aborted):
        tx.commit()


def test_a_block_in_a_block_is_refused(rig, client, worker, second):
    tx = client.transaction()
    with pytest.raises(assent.Aborted), worker.take_part(tx.gtrid), atomic(worker, [second], join=tx.gtrid):
        create(second)
        with pytest.raises(assent.SessionInTransaction), atomic(worker, [second], join=tx.gtrid):
            pass
        create(second, "more")
    with pytest.raises(assent.Aborted):
        tx.commit()
    assert names(rig, second) == []


def test_the_connection_is_killed_before_the_vote(rig, client, worker, second):
    tx = client.transaction()
    with (
        pytest.raises((assent.Aborted, assent.DatabaseUnreachable)),
        worker.take_part(tx.gtrid),
        atomic(worker, [second], join=tx.gtrid),
    ):
        create(second)
        kill(rig, second, number_of(second))
    with pytest.raises(assent.Aborted):
        tx.commit()
    assert names(rig, second) == []


def test_inside_ones_own_transaction(rig, client, second):
    done = []
    with client.transaction() as tx:
        with atomic(client, ["orders", second], join=tx.gtrid):
            create("orders")
            create(second)
            transaction.on_commit(lambda: done.append(threading.get_ident()), using="orders")
            transaction.on_commit(lambda: 1 / 0, using="orders")  # It is logged: nobody waits for it.
            transaction.on_commit(lambda: done.append(2), using="orders")
        assert names(rig, "orders") == names(rig, second) == done == []
    assert names(rig, "orders") == names(rig, second) == ["laptop"]
    assert done == [threading.get_ident(), 2]
