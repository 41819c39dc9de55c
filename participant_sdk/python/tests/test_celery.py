"""Celery: groups of tasks that commit together, over a real broker (Redis) and real worker processes."""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from celery.exceptions import ChordError
from celery.signals import before_task_publish
from servers import Redis, wait_for

import assent
from assent.v1 import global_pb2 as gpb

TESTS = Path(__file__).parent
PATIENCE = 60


@pytest.fixture(scope="module")
def redis():
    server = Redis().start()
    yield server
    server.destroy()


@pytest.fixture(scope="module")
def bank(the_rig, redis, tmp_path_factory):
    """The app; its module needs to know where everything is when it is imported."""
    folder = tmp_path_factory.mktemp("celery")
    places = {
        "redis": redis.url,
        "assentd": the_rig.coordinator.address,
        "orders": the_rig.orders.port,
        "payments": the_rig.payments.port,
        "stock": the_rig.stock.conninfo,
        "folder": str(folder),
        "visibility_timeout": 3600,
    }
    os.environ["CELERY_TEST"] = json.dumps(places)
    yield importlib.import_module("celery_app")
    sys.modules["celery_app"].client.close()


def start_worker(folder, *more):
    log = open(folder / "worker.log", "ab")  # noqa: SIM115
    command = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--concurrency=3", "--loglevel=INFO",
               "--without-gossip", "--without-mingle", "--without-heartbeat", *more]  # fmt: skip
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": path})


@pytest.fixture(scope="module")
def _worker(bank, tmp_path_factory):
    folder = tmp_path_factory.mktemp("worker")
    worker = start_worker(folder)
    wait_for(lambda: " ready." in (folder / "worker.log").read_text(), "the worker")
    yield
    worker.terminate()
    assert worker.wait(60) == 0, (folder / "worker.log").read_text()[-3000:]


pytestmark = pytest.mark.usefixtures("_worker")


def end_of(started, rig):
    """Wait for the group's result, or its error, and for the end of everything prepared."""
    try:
        return started.result.get(timeout=PATIENCE)
    finally:
        wait_for(rig.nothing_prepared, "the end of all branches", 40)


def decision_on(bank, gtrid):
    return getattr(bank.client.get_global(gtrid), "global").decision


def test_a_group_commits(rig, bank):
    for times in (1, 2):
        tasks = [bank.take.s("orders"), bank.take.s("payments", amount=2), bank.take.s("stock", 3)]
        started = bank.transactions.start(tasks, resource="orders", timeout=60)
        assert end_of(started, rig) == ["orders 1", "payments 2", "stock 3"]
        assert decision_on(bank, started.gtrid) == gpb.DECISION_COMMIT
        taken = rig.taken("orders"), rig.taken("payments"), rig.taken("stock")
        assert taken == (times, 2 * times, 3 * times)


def test_many_tasks_and_one(rig, bank):
    for number in (1, 12):
        tasks = [bank.take.s(["orders", "payments", "stock"][each % 3], each + 1) for each in range(number)]
        names = [f"{task.args[0]} {task.args[1]}" for task in tasks]
        # Tasks of one resource take turns on the row, and hold it until the decision: each has a row of its own.
        for each, task in enumerate(tasks):
            task.kwargs["account"] = each + 1
        assert end_of(bank.transactions.start(tasks, resource="payments", timeout=30), rig) == names
    assert [rig.taken("orders", 1), rig.taken("payments", 2), rig.taken("stock", 12)] == [2, 2, 12]


@pytest.mark.parametrize("second", ["payments", "stock"])
@pytest.mark.parametrize("trouble", ["fails", "retried for ever"])
def test_a_task_that_fails_rolls_everything_back(rig, bank, second, trouble):
    started = bank.transactions.start([bank.take.s("orders"), bank.take.s(second, 1, trouble)], resource="orders")
    with pytest.raises((ChordError, ValueError, assent.Aborted), match=r"no such account|enough|ValueError"):
        end_of(started, rig)
    assert rig.taken("orders") + rig.taken(second) == 0
    assert decision_on(bank, started.gtrid) == gpb.DECISION_ROLLBACK


@pytest.mark.parametrize("second", ["payments", "stock"])
@pytest.mark.parametrize("trouble", ["retried", "retry swallowed", "retry not thrown"])
def test_a_task_that_is_retried_writes_once(rig, bank, second, trouble):
    started = bank.transactions.start([bank.take.s("orders"), bank.take.s(second, 1, trouble)], resource=second)
    end_of(started, rig)
    assert (rig.taken("orders"), rig.taken(second)) == (1, 1)
    assert decision_on(bank, started.gtrid) == gpb.DECISION_COMMIT


def test_an_error_of_the_database_may_be_retried(rig, bank):
    started = bank.transactions.start([bank.take_more_than_there_is_first.s("payments")], resource="orders")
    end_of(started, rig)
    assert (rig.taken("orders"), rig.taken("payments")) == (1, 1)


def twice(**message):
    """Send each message of a group's tasks twice."""
    if not message["headers"]["task"].startswith("celery_app."):
        return
    from celery_app import app

    with app.producer_pool.acquire(block=True) as producer:
        producer.publish(message["body"], exchange="", routing_key="celery", headers=message["headers"],
                         serializer="json", **message["properties"])  # fmt: skip


@pytest.fixture
def _everything_twice():
    before_task_publish.connect(twice)
    yield
    before_task_publish.disconnect(twice)


@pytest.mark.usefixtures("_everything_twice")
@pytest.mark.parametrize("trouble", ["", "slow 0.5", "retried"])
def test_a_message_that_is_delivered_twice_writes_once(rig, bank, trouble):
    tasks = [bank.take.s("orders", 1, trouble), bank.take.s("payments", 1, trouble)]
    started = bank.transactions.start(tasks, resource="orders", timeout=60)
    end_of(started, rig)
    time.sleep(1)  # Whatever is delivered late.
    assert decision_on(bank, started.gtrid) == gpb.DECISION_COMMIT
    assert (rig.taken("orders"), rig.taken("payments")) == (1, 1)


@pytest.mark.usefixtures("_everything_twice")
def test_a_delivery_beside_a_slow_one_gives_up_and_rolls_back(rig, bank):
    """It cannot know whether the other one is alive; the other one's vote must count no more."""
    started = bank.transactions.start([bank.take.s("orders", 1, "slow 5")], resource="orders")
    with pytest.raises((ChordError, assent.AssentError)):
        end_of(started, rig)
    time.sleep(3)
    wait_for(rig.nothing_prepared, "the slow one's end", 40)
    assert rig.taken("orders") == 0
    assert decision_on(bank, started.gtrid) == gpb.DECISION_ROLLBACK


def test_a_worker_killed_before_the_work_rolls_back(rig, bank):
    """The second delivery takes the first, which has claimed the work, for alive, and then for dead."""
    tasks = [bank.take.s("orders"), bank.take.s("payments", 1, "killed before")]
    started = bank.transactions.start(tasks, resource="orders", timeout=60)
    with pytest.raises((ChordError, assent.Aborted), match="delivered twice"):
        end_of(started, rig)
    assert rig.taken("orders") + rig.taken("payments") == 0


@pytest.mark.parametrize("second", ["payments", "stock"])
@pytest.mark.parametrize("trouble", ["killed inside", "prepared", "voting"])
def test_a_worker_killed_in_the_middle_rolls_back(rig, bank, second, trouble):
    started = bank.transactions.start([bank.take.s("orders"), bank.take.s(second, 1, trouble)], resource="orders")
    with pytest.raises((ChordError, assent.AssentError)):
        end_of(started, rig)
    assert rig.taken("orders") + rig.taken(second) == 0
    assert decision_on(bank, started.gtrid) == gpb.DECISION_ROLLBACK


@pytest.mark.parametrize("second", ["payments", "stock"])
def test_a_worker_killed_after_its_vote_is_no_loss(rig, bank, second):
    tasks = [bank.take.s("orders"), bank.take_and_die.s(second)]
    started = bank.transactions.start(tasks, resource="orders", timeout=60)
    assert end_of(started, rig) == ["orders 1", None]
    assert (rig.taken("orders"), rig.taken(second)) == (1, 1)
    assert decision_on(bank, started.gtrid) == gpb.DECISION_COMMIT


def test_a_callback_that_comes_too_early_commits_nothing(rig, bank):
    tasks = [bank.take.s("orders"), bank.take.s("payments", 1, "slow 2")]
    started = bank.transactions.start(tasks, resource="orders", timeout=60)
    early = bank.app.tasks["assent.finalize"].apply_async(args=[["early"], started.gtrid])
    late = bank.app.tasks["assent.finalize"].apply_async(args=[["late"], started.gtrid], countdown=4)
    time.sleep(1)
    assert decision_on(bank, started.gtrid) == gpb.DECISION_UNSPECIFIED
    assert rig.taken("orders") == 0
    assert end_of(started, rig) == ["orders 1", "payments 1"]
    assert (early.get(timeout=20), late.get(timeout=20)) == (["early"], ["late"])
    assert (rig.taken("orders"), rig.taken("payments")) == (1, 1)


def test_a_task_that_nobody_runs_rolls_back_at_the_deadline(rig, bank):
    tasks = [bank.take.s("orders"), bank.take.s("payments").set(queue="nobodys")]
    started = bank.transactions.start(tasks, resource="orders", timeout=3)
    wait_for(lambda: decision_on(bank, started.gtrid) == gpb.DECISION_ROLLBACK, "the deadline", 30)
    wait_for(rig.nothing_prepared, "the end of all branches", 40)
    assert rig.taken("orders") == 0


def test_a_start_that_fails_commits_nothing(rig, bank):
    with pytest.raises(assent.ResourceNotFound):
        bank.transactions.start([bank.take.s("orders")], resource="nowhere")
    with pytest.raises(Exception, match="not JSON serializable"):
        bank.transactions.start([bank.take.s("orders"), bank.take.s("payments", object())], resource="orders")
    time.sleep(1)
    assert rig.taken("orders") == 0


def test_no_tasks_and_too_many(rig, bank):
    assert end_of(bank.transactions.start([], resource="orders"), rig) == []
    with pytest.raises(assent.InvalidRequest) as refused:
        bank.transactions.start([bank.take.s("orders")] * 1001, resource="orders")
    assert refused.value.reason is assent.Reason.TOO_MANY_BRANCHES


def test_outside_of_a_group(rig, bank):
    with pytest.raises(assent.FailedPrecondition, match=r"Transactions\.start"):
        bank.take("orders")
    with pytest.raises(assent.FailedPrecondition):
        bank.take.delay("orders").get(timeout=PATIENCE)
    with bank.client.transaction(sole_participant=True):
        bank.take("orders")
        bank.take("payments", 2)
    assert (rig.taken("orders"), rig.taken("payments")) == (1, 2)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_that_is_told_to_stop_finishes_what_it_has_voted(rig, bank, tmp_path, pool):
    """No recovery is needed: its branches are finished on their own connections."""
    worker = start_worker(tmp_path, "-Q", "leaving", f"--pool={pool}")
    wait_for(lambda: " ready." in (tmp_path / "worker.log").read_text(), "the worker")
    tasks = [bank.take.s("orders").set(queue="leaving"), bank.take.s("payments", 1, "slow 3")]
    started = bank.transactions.start(tasks, resource="orders", timeout=60)
    wait_for(rig.orders.prepared, "the vote")
    worker.terminate()
    end_of(started, rig)
    assert worker.wait(30) == 0, (tmp_path / "worker.log").read_text()[-3000:]
    assert (rig.taken("orders"), rig.taken("payments")) == (1, 1)


def test_without_the_library():
    told = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['celery'] = None; import assent.celery"],
        capture_output=True, text=True, cwd=TESTS.parent,
    )  # fmt: skip
    assert "pip install './participant_sdk/python[celery]'" in told.stderr.splitlines()[-1]
