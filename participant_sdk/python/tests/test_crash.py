"""kill -9 of a worker process at each moment: all or nothing, and nothing stays prepared."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import take
from servers import wait_for

WORKER = """
import os, sys, pymysql, psycopg, assent

class Killer(assent.Hooks):
    def __getattribute__(self, name):
        if name == sys.argv[1]:
            os.kill(os.getpid(), 9)
        return super().__getattribute__(name)

orders = pymysql.connect(host="127.0.0.1", port=int(sys.argv[3]), user="root", password="secret", autocommit=True)
stock = psycopg.connect(sys.argv[4], autocommit=True)
client = assent.Client(sys.argv[2], assent.ClientOptions(hooks=[Killer()]))
with client.transaction(sole_participant=sys.argv[5] == "sole", timeout=5) as tx:
    tx.branch("orders", orders).execute(sys.argv[6])
    tx.branch("stock", stock).execute(sys.argv[6])
"""

MOMENTS = ["on_branch_created", "on_branch_prepared", "on_voted", "on_decided", "on_branch_finished", "on_outcome"]


@pytest.mark.parametrize("sole", ["sole", "asked"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed(rig, moment, sole):
    worker = subprocess.run(
        [sys.executable, "-c", WORKER, moment, rig.coordinator.address, str(rig.orders.port), rig.stock.conninfo,
         sole, take()],
        cwd=Path(__file__).parents[1], timeout=60,
    )  # fmt: skip
    assert worker.returncode == -signal.SIGKILL
    wait_for(rig.nothing_prepared, "recovery", 40)
    taken = rig.taken("orders")
    assert taken == rig.taken("stock")
    if moment in ("on_branch_created", "on_branch_prepared", "on_voted"):
        assert taken == 0
    else:
        assert taken == 1
