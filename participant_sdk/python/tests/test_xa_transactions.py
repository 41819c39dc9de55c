"""The doorway for programs written for xa-transactions: its shapes, and what is not guessed."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pymysql
import pytest
from conftest import take
from servers import wait_for
from test_packaging import make_shop, run_twice

import assent
from assent.xa_transactions import Coordinator, Decision, MySQLXAAdapter, XAAdapter

HERE = Path(__file__).parents[1]


@pytest.fixture
def orders(rig, client):
    return XAAdapter(rig.orders.connect(), client, "orders")


@pytest.fixture(params=["payments", "stock"])
def second(request, rig, client):
    """An adapter to MariaDB, and to PostgreSQL, which xa-transactions has not."""
    made = XAAdapter(rig.servers[request.param].connect(), client, request.param)
    made.taken = lambda account=1: rig.taken(request.param, account)
    return made


@pytest.fixture
def coordinator(orders, client):
    return Coordinator(orders, client)


def run_both(coordinator, *adapters):
    """Everything but the decision."""
    gtrid = coordinator.create_global(expected_branches=len(adapters))
    for adapter, bqual in zip(adapters, coordinator.create_branches(gtrid, count=len(adapters)), strict=True):
        with adapter.branch_transaction(gtrid, bqual) as same:
            assert same is adapter
            adapter.execute(take())
        coordinator.mark_branch_prepared(gtrid, bqual)
    return gtrid


def test_the_example_of_its_readme(rig, tmp_path):
    make_shop(rig)
    program = [sys.executable, HERE / "examples/from_xa_transactions.py"]
    told = run_twice(rig, program, tmp_path, {"PYTHONPATH": str(HERE)})
    assert told[0] == "committed\n"
    assert told[1].startswith("rolled back: ")


def test_the_documentation_shows_the_example():
    shown = (HERE / "examples/from_xa_transactions.py").read_text().split("# [example]\n")[1].rstrip()
    text = (HERE.parents[1] / "docs/from-xa-transactions.md").read_text()
    assert f"```python\n{textwrap.dedent(shown)}\n```" in text


def test_nothing_is_visible_before_and_all_of_it_after(rig, coordinator, orders, second):
    for number in (1, 2):  # The connections are free again when finalize returns.
        gtrid = run_both(coordinator, orders, second)
        assert rig.taken("orders") == second.taken() == number - 1
        coordinator.finalize(gtrid, decision=Decision.COMMIT)
        assert rig.taken("orders") == second.taken() == number
        coordinator.finalize(gtrid, decision="COMMIT")
        with pytest.raises(assent.GlobalCommitted):
            coordinator.finalize(gtrid, decision="ROLLBACK")


def test_rollback(rig, coordinator, orders, second):
    gtrid = run_both(coordinator, orders, second)
    coordinator.finalize(gtrid, Decision.ROLLBACK, force=True)
    coordinator.finalize(gtrid, Decision.ROLLBACK)
    with pytest.raises(assent.TransactionRolledBack):
        coordinator.finalize(gtrid, Decision.COMMIT)
    assert rig.taken("orders") + second.taken() == 0
    wait_for(rig.nothing_prepared, "the rollback in the background")


def test_commit_comes_not_before_all_expected_branches(rig, coordinator, orders, second):
    gtrid = coordinator.create_global(expected_branches=2)
    first, other = coordinator.create_branches(gtrid)
    with orders.branch_transaction(gtrid, first):
        orders.execute(take())
    with pytest.raises(assent.BranchesNotPrepared, match="1 of 2"):
        coordinator.finalize(gtrid, "COMMIT")
    with pytest.raises(assent.InvalidRequest, match="forced"):
        coordinator.finalize(gtrid, "COMMIT", force=True)
    with pytest.raises(assent.NotFound):
        coordinator.mark_branch_prepared(gtrid, other)
    with second.branch_transaction(gtrid, other):
        second.execute(take())
        with pytest.raises(assent.BranchesNotPrepared):
            coordinator.mark_branch_prepared(gtrid, other)
        with pytest.raises(assent.BranchesNotPrepared):
            coordinator.finalize(gtrid, "COMMIT")
    coordinator.finalize(gtrid, "COMMIT")
    assert rig.taken("orders") == second.taken() == 1


def test_an_error_in_a_branch_rolls_everything_back(rig, coordinator, orders, second):
    gtrid = coordinator.create_global(expected_branches=2)
    first, other = coordinator.create_branches(gtrid)
    with orders.branch_transaction(gtrid, first):
        orders.execute(take())
    with pytest.raises(assent.DatabaseFailed), second.branch_transaction(gtrid, other):
        second.execute(take())
        second.execute("INSERT INTO bank.accounts VALUES (1, 0)")
    with pytest.raises(assent.Aborted):
        coordinator.finalize(gtrid, "COMMIT")
    assert rig.taken("orders") + second.taken() == 0


def test_an_error_that_is_swallowed_is_no_vote(rig, coordinator, orders):
    gtrid = coordinator.create_global(expected_branches=1)
    (bqual,) = coordinator.create_branches(gtrid)
    with pytest.raises(assent.Aborted), orders.branch_transaction(gtrid, bqual):
        orders.execute(take())
        with pytest.raises(assent.DatabaseFailed):
            orders.execute("INSERT INTO bank.accounts VALUES (1, 0)")
    assert rig.taken("orders") == 0


@pytest.mark.parametrize("decision", ["COMMIT", "ROLLBACK"])
def test_what_nobody_knows_is_no_success(coordinator, decision):
    for gtrid in ("py-01ARZ3NDEKTSV4RRFFQ69G5FAV", "py-c0ffee"):
        with pytest.raises(assent.GlobalNotFound):
            coordinator.finalize(gtrid, decision)
    with pytest.raises(assent.GlobalNotFound):
        coordinator.create_branches("py-01ARZ3NDEKTSV4RRFFQ69G5FAV", count=1)


def test_a_branch_that_somebody_rolled_back_by_hand_is_not_told_committed(rig, client, coordinator, orders):
    """That the server does not know an XID any more proves nothing."""
    payments = XAAdapter(rig.payments.connect(), client, "payments")
    gtrid = run_both(coordinator, orders, payments)
    held = rig.payments.query(
        "SELECT id FROM information_schema.PROCESSLIST WHERE user = 'root' AND id <> CONNECTION_ID()"
    )
    for (number,) in held:  # Its session lets go of it; then a hand rolls it back.
        rig.payments.query(f"KILL {number}")
    xid = f"X'{gtrid.encode().hex()}',X'{payments_bqual(client, gtrid).encode().hex()}',{0x41534E54}"
    wait_for(lambda: rolls_back(rig, xid), "the detached branch")
    with pytest.raises(assent.OutcomeInDoubt):
        coordinator.finalize(gtrid, "COMMIT")
    assert (rig.taken("orders"), rig.taken("payments")) == (1, 0)


def payments_bqual(client, gtrid):
    branches = getattr(client.get_global(gtrid), "global").branches
    return next(branch.bqual for branch in branches if branch.resource == "payments")


def rolls_back(rig, xid):
    try:
        rig.payments.query(f"XA ROLLBACK {xid}")
    except pymysql.err.MySQLError:
        return False
    return True


def test_one_connection_carries_one_branch_at_a_time(rig, coordinator, orders):
    gtrid = coordinator.create_global(expected_branches=2)
    first, other = coordinator.create_branches(gtrid)
    with orders.branch_transaction(gtrid, first):
        orders.execute(take())
    with pytest.raises(assent.SessionHoldsBranch), orders.branch_transaction(gtrid, other):
        pass
    with pytest.raises(assent.Aborted):
        coordinator.finalize(gtrid, "COMMIT")
    assert rig.taken("orders") == 0


def test_a_name_is_used_once(rig, coordinator, orders, second):
    gtrid = coordinator.create_global(expected_branches=2)
    first, other = coordinator.create_branches(gtrid)
    with orders.branch_transaction(gtrid, first):
        orders.execute(take())
    with pytest.raises(assent.AlreadyExists), second.branch_transaction(gtrid, first):
        pass
    with second.branch_transaction(gtrid, other):  # Nothing has changed.
        second.execute(take())
    coordinator.finalize(gtrid, "COMMIT")
    assert rig.taken("orders") == second.taken() == 1


def test_the_connection_itself_is_in_the_branch(rig, coordinator, orders):
    with pytest.raises(assent.BranchEnded, match="put it inside"):
        orders.execute(take())
    gtrid = coordinator.create_global(expected_branches=1)
    (bqual,) = coordinator.create_branches(gtrid)
    with pytest.raises(ZeroDivisionError), orders.branch_transaction(gtrid, bqual):
        orders.connection.cursor().execute(take())
        raise ZeroDivisionError
    assert rig.taken("orders") == 0


def test_bad_arguments(coordinator):
    with pytest.raises(assent.InvalidRequest):
        coordinator.create_global(expected_branches=0)
    gtrid = coordinator.create_global(expected_branches=2)
    for wrong in ({"count": 3}, {"bquals": ["a", "b", "c"]}, {"bquals": ["a b"]}):
        with pytest.raises(assent.InvalidRequest):
            coordinator.create_branches(gtrid, **wrong)
    assert coordinator.create_branches(gtrid, bquals=["a", "b"]) == ["a", "b"]
    with pytest.raises(assent.InvalidRequest):
        coordinator.finalize(gtrid, "UNKNOWN")
    coordinator.finalize(gtrid, "ROLLBACK")


def test_a_deadline_instead_of_gc(rig, client, coordinator, orders, second):
    assert MySQLXAAdapter is XAAdapter
    gtrid = coordinator.create_global(expected_branches=2, timeout=1)
    (first, _) = coordinator.create_branches(gtrid)
    with orders.branch_transaction(gtrid, first):
        orders.execute(take())
    wait_for(rig.nothing_prepared, "the deadline", 20)
    with pytest.raises(assent.TransactionRolledBack):
        coordinator.finalize(gtrid, "COMMIT")
    assert rig.taken("orders") == 0


WORKER = """
import os, sys; sys.path[:0] = ["tests"]
import assent, pymysql
from assent.xa_transactions import XAAdapter
address, port, gtrid, bqual = sys.argv[1:]
connection = pymysql.connect(host="127.0.0.1", port=int(port), user="root", password="secret")
adapter = XAAdapter(connection, assent.Client(address), "payments")
with adapter.branch_transaction(gtrid, bqual):
    adapter.execute("UPDATE bank.accounts SET balance = balance - 1 WHERE id = 1")
os.kill(os.getpid(), 9)
"""


def test_a_worker_that_dies_after_its_vote(rig, coordinator, orders):
    gtrid = coordinator.create_global(expected_branches=2)
    first, other = coordinator.create_branches(gtrid, count=2)
    with orders.branch_transaction(gtrid, first):
        orders.execute(take())
    place = [rig.coordinator.address, str(rig.payments.port), gtrid, other]
    worker = subprocess.run(
        [sys.executable, "-c", WORKER, *place], cwd=HERE, env=os.environ | {"PYTHONPATH": str(HERE)}
    )
    assert worker.returncode == -9
    assert len(rig.payments.prepared()) == 1
    assert coordinator.gc() >= 1
    begun = time.monotonic()
    coordinator.finalize(gtrid, "COMMIT")
    assert time.monotonic() - begun < 60
    assert rig.taken("orders") == rig.taken("payments") == 1
