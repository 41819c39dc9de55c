"""What signal handlers raise (Ctrl-C, a soft time limit) may come between any two steps of the main thread."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pymysql
import pytest
from conftest import take
from servers import wait_for

import assent

INTERRUPT = """
import os, random, signal, sys, threading, time
import assent
from assent._reporter import CompletionReporter
from assent.v1 import coordinator_service_pb2 as pb

class Stop(BaseException):
    pass

def stop(number, frame):
    if armed:
        raise Stop

def interrupted(work, soon, latest):
    "Tell whether the work was interrupted, somewhere in its first moments."
    global armed
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, random.uniform(soon, latest))
        work()
        armed = False
        return False
    except Stop:
        armed = False
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)

def others(work):
    "Do it on another thread, which must come to an end."
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(30)
    if thread.is_alive():
        print("another thread hangs", flush=True)
        os._exit(1)

armed, count = False, 0
signal.signal(signal.SIGALRM, stop)
random.seed(1)
"""
A_CALL = """
client = assent.Client(sys.argv[1], assent.ClientOptions(call_patience=20.0))

def work():
    with client.transaction():
        pass

work()
while count < 400:
    count += interrupted(work, 1e-5, 1e-3)
    others(work)
client.close()
"""
A_REPORT = """
def work():
    for _ in range(50):
        reporter.report([pb.Completion(gtrid="g", bqual="b")], awaited=True)

while count < 200:
    reporter = CompletionReporter(lambda call: pb.CompletedResponse())  # The first report also starts its thread.
    count += interrupted(work, 1e-5, 3e-4)
    others(work)
    others(lambda: reporter.flush(20.0) or time.sleep(60))
    others(reporter.close)
"""


@pytest.mark.parametrize("what", [A_CALL, A_REPORT], ids=["a call", "a report"])
def test_an_interrupt_of_the_main_thread_hangs_no_other(rig, what):
    ran = subprocess.run(
        [sys.executable, "-c", INTERRUPT + what, rig.coordinator.address],
        capture_output=True, text=True, timeout=120, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stdout + ran.stderr


@contextlib.contextmanager
def after(seconds, work):
    timer = threading.Timer(seconds, work)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("kind", ["pymysql", "pymysql, several statements", "psycopg"])
def test_ctrl_c_while_prepare_waits(rig, client, kind):
    """It comes out at once and as itself; what is out of step is closed, and nothing more is read from it."""
    if kind == "psycopg":
        resource, yours = "stock", rig.stock.connect()
        backend = yours.info.backend_pid
        hold, let_go = (lambda: os.kill(backend, signal.SIGSTOP)), (lambda: os.kill(backend, signal.SIGCONT))
    else:
        flags = pymysql.constants.CLIENT.MULTI_STATEMENTS if "several" in kind else 0
        resource, yours = "payments", rig.payments.connect(client_flag=flags)
        lock = rig.payments.connect().cursor()
        hold, let_go = (lambda: lock.execute("FLUSH TABLES WITH READ LOCK")), (lambda: lock.execute("UNLOCK TABLES"))
    with after(6, let_go):
        with pytest.raises(KeyboardInterrupt), client.transaction() as tx:
            tx.branch("orders", rig.orders.connect()).execute(take())
            tx.branch(resource, yours).execute(take())
            hold()
            began = time.monotonic()
            threading.Timer(1, ctrl_c).start()
        assert 0.9 < time.monotonic() - began < 3
        assert yours.closed if kind == "psycopg" else not yours.open
        let_go()
    assert tx.outcome is not assent.TransactionOutcome.COMMITTED
    wait_for(rig.nothing_prepared, "the end of all branches", 40)
    assert rig.taken("orders") + rig.taken(resource) == 0
