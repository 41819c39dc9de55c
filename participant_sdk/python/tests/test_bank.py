"""The bank with Python's workers: random transfers, some made to fail, workers killed; the books must balance."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import wait_for

HERE = Path(__file__).parents[1]
ACCOUNTS, BALANCE = 40, 1000


@pytest.fixture
def _accounts_as_before(rig):
    yield
    for server in rig.servers.values():  # As the other tests want it.
        server.query("DROP TABLE IF EXISTS bank.ledger")
        server.query("DELETE FROM bank.accounts")
        server.query(f"INSERT INTO bank.accounts VALUES {','.join(f'({i}, 1000)' for i in range(20))}")


@pytest.mark.usefixtures("_accounts_as_before")
@pytest.mark.parametrize("second", ["payments", "stock"])
def test_the_books_balance(rig, second, tmp_path):
    places = [("orders", rig.orders), (second, rig.servers[second])]
    config = tmp_path / "bank.conf"
    lines = [rig.coordinator.address, str(ACCOUNTS), str(BALANCE)]
    for number, (name, server) in enumerate(places):
        engine = "ENGINE_POSTGRESQL" if name == "stock" else "ENGINE_MARIADB"
        lines += [name, server.address, server.user_name, str(server.password_file), engine, server.database]
        server.query("DROP TABLE IF EXISTS bank.ledger")
        server.query("DELETE FROM bank.accounts")
        server.query("CREATE TABLE bank.ledger (transfer BIGINT NOT NULL, account BIGINT NOT NULL, amount BIGINT NOT "
                     "NULL, gtrid VARCHAR(64) NOT NULL, PRIMARY KEY (transfer, account))")  # fmt: skip
        rows = ",".join(f"({account}, {BALANCE})" for account in range(number, ACCOUNTS, 2))
        server.query(f"INSERT INTO bank.accounts VALUES {rows}")
    config.write_text("\n".join(lines) + "\n")
    workers = []

    def start(number):
        first = number * 1_000_000
        workers.append(
            subprocess.Popen(
                [sys.executable, HERE / "examples/bank_worker.py", config, tmp_path / f"journal.{number}", str(first),
                 str(first + 999_999), str(number)], cwd=HERE, env={"PYTHONPATH": str(HERE)},
            )
        )  # fmt: skip

    for number in range(3):
        start(number)
    for round_ in range(3):
        time.sleep(2)
        workers[round_].kill()
        start(3 + round_)
        if round_ == 1:
            rig.coordinator.restart()
    for number in range(3, 6):  # By then it knows what SIGTERM means.
        wait_for((tmp_path / f"journal.{number}").exists, "the worker")
    time.sleep(1)
    for worker in workers[3:]:
        worker.send_signal(signal.SIGTERM)
    assert [worker.wait(60) for worker in workers[3:]] == [0, 0, 0]
    for worker in workers[:3]:
        worker.wait()
    wait_for(rig.nothing_prepared, "recovery", 40)
    check(places, tmp_path)


def check(places, folder):
    halves = [
        {transfer: (amount, gtrid) for transfer, amount, gtrid in
         server.query("SELECT transfer, amount, gtrid FROM bank.ledger")} for _, server in places
    ]  # fmt: skip
    told = [line.split(" ", 3) for path in folder.glob("journal.*") for line in path.read_text().splitlines()]
    odd = halves[0].keys() ^ halves[1].keys()
    assert not [line for line in told if int(line[0]) in odd], "a transfer has one half"
    assert not odd
    assert all(halves[0][each][0] == -halves[1][each][0] for each in halves[0])
    total = sum(int(server.query("SELECT SUM(balance) FROM bank.accounts")[0][0]) for _, server in places)
    assert total == ACCOUNTS * BALANCE
    kinds = {kind for _, kind, *_ in told}
    assert {"COMMITTED", "ROLLED_BACK"} <= kinds
    for transfer, kind, gtrid, *why in told:
        if kind == "COMMITTED":
            assert halves[0][int(transfer)][1] == gtrid
        elif kind == "ROLLED_BACK":
            assert int(transfer) not in halves[0], why
    assert len(told) > 50
