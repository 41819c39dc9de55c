"""What signal handlers raise (Ctrl-C, a soft time limit) may come between any two steps of the main thread."""

import subprocess
import sys
from pathlib import Path

import pytest

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
reporter = CompletionReporter(lambda call: pb.CompletedResponse())

def work():
    for _ in range(50):
        reporter.report([pb.Completion(gtrid="g", bqual="b")], awaited=True)

while count < 200:
    count += interrupted(work, 1e-5, 3e-4)
    others(work)
    others(lambda: reporter.flush(20.0) or time.sleep(60))
"""


@pytest.mark.parametrize("what", [A_CALL, A_REPORT], ids=["a call", "a report"])
def test_an_interrupt_of_the_main_thread_hangs_no_other(rig, what):
    ran = subprocess.run(
        [sys.executable, "-c", INTERRUPT + what, rig.coordinator.address],
        capture_output=True, text=True, timeout=120, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stdout + ran.stderr
