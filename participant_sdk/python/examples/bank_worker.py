"""A worker of the bank (tests/bank): makes transfers until SIGTERM, for soak tests with workers of several languages.

bank_worker.py BANK.CONF JOURNAL FIRST_ID LAST_ID SEED

Does what tests/bank's Teller does: money from an account on one server to one on the other, every other transfer as a
sole participant, a tenth of them made to fail half-way; each told outcome is one line of the journal.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql

import assent

FAILURES = ["rollback", "duplicate key", "overdraft", "leave scope", "lose session"]
LOCK_WAIT_SECONDS = 30
ABSURD_AMOUNT = 1_000_000_000


@dataclass
class Server:
    resource: str
    address: str
    user: str
    password: str
    engine: str
    database: str

    def connect(self) -> Any:
        """Connect, with the bank's patience for locks."""
        host, _, port = self.address.rpartition(":")
        if self.engine == "ENGINE_POSTGRESQL":
            import psycopg

            if host == "unix":  # /folder/.s.PGSQL.5432
                host, _, port = port.rpartition("/.s.PGSQL.")
            return psycopg.connect(
                host=host, port=port, user=self.user, password=self.password, dbname=self.database, autocommit=True,
                options=f"-c lock_timeout={LOCK_WAIT_SECONDS}s",
            )  # fmt: skip
        where: dict[str, Any] = {"host": host, "port": int(port)} if host != "unix" else {"unix_socket": port}
        return pymysql.connect(
            user=self.user, password=self.password, autocommit=True, **where,
            client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS,
            init_command=f"SET SESSION innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS}",
        )  # fmt: skip

    def is_lost(self, connection: Any) -> bool:
        return bool(connection.closed) if self.engine == "ENGINE_POSTGRESQL" else not connection.open

    def kill(self, connection: Any) -> None:
        """End the server's side of a connection, and wait until it is gone."""
        postgres = self.engine == "ENGINE_POSTGRESQL"
        number = connection.pgconn.backend_pid if postgres else connection.thread_id()
        kill = f"SELECT pg_terminate_backend({number})" if postgres else f"KILL {number}"
        alive = (
            f"SELECT 1 FROM pg_stat_activity WHERE pid = {number}"
            if postgres
            else f"SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = {number}"
        )
        admin = self.connect()
        cursor = admin.cursor()
        cursor.execute(kill)
        while True:
            cursor.execute(alive)
            if not cursor.fetchall():
                break
            time.sleep(0.002)
        admin.close()


@dataclass
class Transfer:
    id: int
    source: int
    target: int
    amount: int
    failure: str = ""


def load(path: str) -> tuple[str, int, list[Server]]:
    """Return the coordinator, the number of accounts and both servers."""
    lines = Path(path).read_text().split("\n")
    coordinator, accounts = lines[0], int(lines[1])
    servers = []
    for start in (3, 9):
        resource, address, user, password_file, engine, database = lines[start : start + 6]
        servers.append(Server(resource, address, user, Path(password_file).read_text().rstrip(), engine, database))
    return coordinator, accounts, servers


class Teller:
    """Makes transfers, one at a time, over one connection per server."""

    def __init__(self, client: assent.Client, servers: list[Server]) -> None:
        self.client = client
        self.servers = servers
        self.connections: list[Any] = [None, None]

    def transfer(self, wanted: Transfer) -> tuple[str, str, str]:
        """Return what its caller is told, the gtrid and why."""
        gtrid = ""
        try:
            for number, server in enumerate(self.servers):
                if self.connections[number] is None or server.is_lost(self.connections[number]):
                    self.connections[number] = None
                    self.connections[number] = server.connect()
            sole = wanted.id % 2 == 0
            resources = () if sole else [server.resource for server in self.servers]
            tx = self.client.transaction(sole_participant=sole, resources=resources)
        except Exception as error:
            return "ROLLED_BACK", gtrid, str(error)
        gtrid = tx.gtrid
        try:
            if wanted.failure == "leave scope":
                self.part(wanted, 0, tx)
                return "ROLLED_BACK", gtrid, "left its scope"
            self.work(wanted, tx)
        except assent.Aborted as error:
            return "ROLLED_BACK", gtrid, str(error)
        except Exception as error:
            return "IN_DOUBT", gtrid, str(error)
        finally:
            tx.close()
        return "COMMITTED", gtrid, ""

    def work(self, wanted: Transfer, tx: assent.Transaction) -> None:
        """Always in the same order of servers, and one row on each: so transfers cannot deadlock across servers."""
        try:
            self.part(wanted, 0, tx)
            if wanted.failure != "rollback":
                self.part(wanted, 1, tx, wanted.failure)
        except assent.AssentError:
            pass  # Commit says what comes of it: a branch that is poisoned cannot commit.
        else:
            if wanted.failure == "rollback":
                tx.rollback("the application changed its mind")
                raise assent.TransactionRolledBack("rollback was called")
        tx.commit()

    def part(self, wanted: Transfer, number: int, tx: assent.Transaction, failure: str = "") -> None:
        """One server's part of the transfer, or what makes it fail there."""
        takes = wanted.source % 2 == number
        account = wanted.source if takes else wanted.target
        amount = -ABSURD_AMOUNT if failure == "overdraft" else -wanted.amount if takes else wanted.amount
        branch = tx.branch(self.servers[number].resource, self.connections[number])
        branch.execute("UPDATE bank.accounts SET balance = balance + (%s) WHERE id = %s", (amount, account))
        for _ in range(2 if failure == "duplicate key" else 1):
            branch.execute("INSERT INTO bank.ledger VALUES (%s, %s, %s, %s)", (wanted.id, account, amount, tx.gtrid))
        if failure == "lose session":
            self.servers[number].kill(self.connections[number])


def run(path: str, journal_path: str, first: int, last: int, seed: int, stopped: Callable[[], bool]) -> bool:
    """Make random transfers; True if the coordinator knows how all of them ended."""
    coordinator, accounts, servers = load(path)
    journal = os.open(journal_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    chance = random.Random(seed)
    client = assent.Client(coordinator)
    teller = Teller(client, servers)
    for number in range(first, last + 1):
        if stopped():
            break
        source, target = chance.randrange(accounts // 2) * 2, chance.randrange(accounts // 2) * 2 + 1
        if chance.random() < 0.5:
            source, target = target, source
        failure = chance.choice(FAILURES) if chance.random() < 0.1 else ""
        told, gtrid, why = teller.transfer(Transfer(number, source, target, 1 + chance.randrange(20), failure))
        line = f"{number} {told} {gtrid or '-'} {' '.join(why.split())}" + "\n"
        os.write(journal, line.encode("utf-8", "replace"))
        if not gtrid:
            time.sleep(0.02)  # Something is away: it is not asked without a pause.
    flushed = client.flush(30)
    client.close()
    return flushed


def main() -> int:
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    path, journal, first, last, seed = sys.argv[1:]
    return 0 if run(path, journal, int(first), int(last), int(seed), lambda: bool(stop)) else 1


if __name__ == "__main__":
    sys.exit(main())
