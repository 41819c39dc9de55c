"""Transactions over processes in C++, Python and Go, each with its own SDK, while each of them is killed in turn.

Run by ./test, which says where the programs are.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import Assentd, MariaDb, Postgres, free_port, wait_for

from assent.v1 import coordinator_service_pb2 as cpb
from assent.v1 import coordinator_service_pb2_grpc as cgrpc
from assent.v1 import global_pb2 as gpb

HERE = Path(__file__).parent
ROUNDS = 3
OPEN = [gpb.Global.STATE_ACTIVE, gpb.Global.STATE_ONE_PHASE, gpb.Global.STATE_COMMITTING, gpb.Global.STATE_ROLLING_BACK]


class Service:
    """A process that prints `listening`, or any other that runs until it is told to stop."""

    def __init__(self, name: str, command: list[str], folder: Path) -> None:
        self.name, self.command, self.log = name, command, folder / f"{name}.log"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        begins = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        if self.name != "caller":
            wait_for(lambda: b"listening" in self.log.read_bytes()[begins:], self.name, 30)

    def kill9(self) -> None:
        self.process.kill()
        self.process.wait()


class Chain:
    """C++ takes the orders, Python has them paid, Go reserves the goods; and what they need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.databases = {"orders": MariaDb().start(), "payments": MariaDb().start(), "stock": Postgres().start()}
        self.coordinator = Assentd(cluster="chain", extra=("--sweep-interval=1s",)).start()
        for name, database in self.databases.items():
            database.query("CREATE SCHEMA chain")
            database.query("CREATE TABLE chain.ledger (id BIGINT PRIMARY KEY)")
            self.coordinator.register(name, database)
        payments, stock = self.databases["payments"], self.databases["stock"]
        self.journals: list[Path] = []
        self.addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        self.services = {
            "stock": Service(
                "stock",
                [os.environ["ASSENT_STOCK_SERVICE"], self.coordinator.address,
                 f"postgres://postgres:{stock.password}@127.0.0.1:{stock.port}/postgres", self.addresses[1]],
                folder,
            ),
            "payments": Service(
                "payments",
                [sys.executable, str(HERE / "payments_service.py"), self.coordinator.address, str(payments.port),
                 str(payments.password_file), self.addresses[1], self.addresses[0]],
                folder,
            ),
            "caller": Service("caller", [], folder),
        }  # fmt: skip
        for name in self.services:
            self.start(name)

    def start(self, name: str) -> None:
        if name == "caller":
            orders = self.databases["orders"]
            self.journals.append(self.folder / f"journal.{len(self.journals)}")
            self.services[name].command = [
                os.environ["ASSENT_CHAIN_CALLER"], self.coordinator.address, f"127.0.0.1:{orders.port}",
                str(orders.password_file), self.addresses[0], str(self.journals[-1]), str(len(self.journals) * 1000000),
            ]  # fmt: skip
        self.services[name].start()

    def told(self) -> dict[int, str]:
        lines = [line for journal in self.journals if journal.exists() for line in journal.read_text().splitlines()]
        return {int(line.split(" ")[0]): line.split(" ")[1] for line in lines}

    def await_commits(self, more: int) -> None:
        def committed() -> int:
            return sum(told == "COMMITTED" for told in self.told().values())

        goal = committed() + more
        wait_for(lambda: committed() >= goal, f"{more} more orders; the last: {self.last_lines()}", 60)

    def last_lines(self) -> str:
        return self.journals[-1].read_text()[-500:] if self.journals[-1].exists() else ""

    def unfinished(self) -> int:
        import grpc

        with grpc.insecure_channel(self.coordinator.address) as channel:
            listed = cgrpc.CoordinatorServiceStub(channel).ListGlobals(cpb.ListGlobalsRequest(states=OPEN), timeout=10)
        return len(listed.globals)

    def settle(self) -> dict[str, set[int]]:
        """End the orders, wait until everything is finished, and return who has which of them."""
        caller = self.services["caller"].process
        caller.send_signal(signal.SIGTERM)
        assert caller.wait(60) == 0
        wait_for(lambda: self.unfinished() == 0, "the end of all transactions", 60)
        wait_for(lambda: not any(each.prepared() for each in self.databases.values()), "the end of all branches", 60)
        return {
            name: {row[0] for row in database.query("SELECT id FROM chain.ledger")}
            for name, database in self.databases.items()
        }

    def destroy(self) -> None:
        for service in self.services.values():
            if service.process and service.process.poll() is None:
                service.kill9()
        for server in [self.coordinator, *self.databases.values()]:
            server.destroy()


@pytest.fixture
def chain(tmp_path):
    made = Chain(tmp_path)
    yield made
    made.destroy()


def check(told: dict[int, str], rows: dict[str, set[int]]) -> None:
    assert rows["orders"] == rows["payments"] == rows["stock"], "some orders are only half there"
    for number, outcome in told.items():
        if outcome != "IN_DOUBT":
            assert (number in rows["orders"]) == (outcome == "COMMITTED"), f"order {number} was told {outcome}"


def test_one_transaction_over_three_languages(chain):
    chain.await_commits(20)
    rows = chain.settle()
    check(chain.told(), rows)
    assert set(chain.told().values()) == {"COMMITTED"}, chain.last_lines()


def test_each_of_them_is_killed_in_turn(chain):
    for _ in range(ROUNDS):
        for victim in chain.services:
            chain.await_commits(5)
            chain.services[victim].kill9()
            time.sleep(0.1)
            chain.start(victim)
        for server in [chain.coordinator, *chain.databases.values()]:
            chain.await_commits(5)
            server.restart()
    chain.await_commits(5)
    rows = chain.settle()
    told = chain.told()
    check(told, rows)
    print(f"{len(rows['orders'])} orders committed, {list(told.values()).count('ROLLED_BACK')} told rolled back, "
          f"{list(told.values()).count('IN_DOUBT')} in doubt")  # fmt: skip


def test_the_bank_with_workers_of_three_languages_while_everything_is_killed():
    ended = subprocess.run(
        [os.environ["ASSENT_SOAK_DRIVER"], "bank", "--languages", "cpp,python,go", "--engines", "mariadb,postgresql",
         "--minutes", "0.4", "--workers", "6"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    last = re.search(r"^bank: (\d+) kills, (\d+) committed, 0 violations$", ended.stdout, re.MULTILINE)
    assert last, ended.stdout
    for language in ("cpp", "python", "go"):
        assert re.search(rf"^ +{language}: \d+ kills, [1-9]\d* told committed$", ended.stdout, re.MULTILINE), (
            ended.stdout
        )
