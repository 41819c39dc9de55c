"""The rig: two MariaDB servers, one PostgreSQL, one assentd, for all tests; every test gets fresh balances."""

import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
# What tests fork must not hang in gRPC's threads, which did not come along.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from servers import Assentd, MariaDb, Postgres, mysql_family, wait_for

import assent

# A shell starts what runs in the background with SIGINT ignored, and then Python leaves it so.
signal.signal(signal.SIGINT, signal.default_int_handler)

ACCOUNTS = 20


def pytest_configure(config):
    """End the servers also when the run is ended early (`timeout`, a supervisor)."""
    signal.signal(signal.SIGTERM, lambda number, frame: pytest.exit("terminated", returncode=143))


BALANCE = 1000


class Rig:
    """orders and payments are MariaDB (mysql_family), stock is PostgreSQL. Each has bank.accounts (id, balance)."""

    def __init__(self) -> None:
        self.orders = mysql_family().start()
        self.payments = mysql_family().start()
        self.stock = Postgres().start()
        self.coordinator = Assentd(extra=("--sweep-interval=1s",)).start()
        self.servers = {"orders": self.orders, "payments": self.payments, "stock": self.stock}
        for name, server in self.servers.items():
            sql = "CREATE SCHEMA bank" if server is self.stock else "CREATE DATABASE bank"
            server.query(sql)
            server.query(
                "CREATE TABLE bank.accounts (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL, "
                "CONSTRAINT balance_not_negative CHECK (balance >= 0))"
            )
            server.query("INSERT INTO bank.accounts VALUES " + ",".join(f"({i}, {BALANCE})" for i in range(ACCOUNTS)))
            self.coordinator.register(name, server)

    def reset(self) -> None:
        if self.coordinator.process.poll() is not None:
            self.coordinator.start()
        for server in self.servers.values():
            if server.process.poll() is not None:
                server.start()
            server.query(f"UPDATE bank.accounts SET balance = {BALANCE} WHERE balance <> {BALANCE}")
            server.query(f"DELETE FROM bank.accounts WHERE id >= {ACCOUNTS}")

    def taken(self, name: str, account: int = 1) -> int:
        rows = self.servers[name].query(f"SELECT balance FROM bank.accounts WHERE id = {account}")
        return BALANCE - rows[0][0]

    def nothing_prepared(self) -> bool:
        return not any(server.prepared() for server in self.servers.values())

    def destroy(self) -> None:
        for server in [self.coordinator, *self.servers.values()]:
            server.destroy()
        MariaDb.forget_templates()


@pytest.fixture(scope="session")
def the_rig():
    rig = Rig()
    yield rig
    rig.destroy()


@pytest.fixture
def rig(the_rig):
    """The rig, fresh; a test must leave nothing prepared (the coordinator may need some seconds)."""
    the_rig.reset()
    yield the_rig
    if the_rig.coordinator.process.poll() is not None:
        the_rig.coordinator.start()
    wait_for(the_rig.nothing_prepared, "the end of all prepared branches", 30)


@pytest.fixture
def client(rig):
    with assent.Client(rig.coordinator.address) as made:
        yield made


@pytest.fixture
def pair(rig):
    """A connection to orders and one to payments."""
    mine, yours = rig.orders.connect(), rig.payments.connect()
    yield mine, yours
    for connection in (mine, yours):
        if connection.open:
            connection.close()


def take(account: int = 1, amount: int = 1) -> str:
    """Take from an account."""
    return f"UPDATE bank.accounts SET balance = balance - {amount} WHERE id = {account}"
