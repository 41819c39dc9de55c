"""The same transfer by each contender: one UPDATE on each of two MariaDB servers, atomically as far as it can."""

import argparse
import importlib.util
import random
import statistics
import sys
import threading
import time
import uuid

import mariadb
import MySQLdb
import pymysql
from servers import Assentd, MariaDb

import assent

NOT_DONE = {
    "raw": "no coordinator, no decision record, no recovery: a crash between the two commits leaves one of them",
    "raw, batched": "the same, with the statements sent as the SDK sends them",
    "assent": "(nothing left out: durable decision, witness, recovery, session checks)",
    "xa-transactions": "no round trip saved, nothing in parallel, 9 store commits; a restart between the two commits "
    "needs force=True; no witness; its gc fails on real timestamps",
}


def connector(driver):
    def connect(server, autocommit=True):
        options = {"host": "127.0.0.1", "port": server.port, "user": "root", "autocommit": autocommit}
        if driver == "mysqlclient":
            return MySQLdb.connect(password=server.password, **options)
        if driver == "mariadb":
            return mariadb.connect(password=server.password, **options)
        return pymysql.connect(
            password=server.password, client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS, **options
        )

    return connect


def statements(worker):
    rng = random.Random(worker)
    while True:
        row = rng.randrange(50) * 64 + worker
        yield f"UPDATE bank.accounts SET balance = balance + 1 WHERE id = {row}"


def raw(rig, worker):
    """XA as the manuals show it."""
    connections = [rig.connect(server) for server in rig.servers]
    cursors = [connection.cursor() for connection in connections]
    sql = statements(worker)

    def once():
        gtrid = uuid.uuid4().hex
        for number, cursor in enumerate(cursors):
            cursor.execute(f"XA START '{gtrid}','{number}'")
            cursor.execute(next(sql))
            cursor.execute(f"XA END '{gtrid}','{number}'")
        for number, cursor in enumerate(cursors):
            cursor.execute(f"XA PREPARE '{gtrid}','{number}'")
        for number, cursor in enumerate(cursors):
            cursor.execute(f"XA COMMIT '{gtrid}','{number}'")

    return once


def raw_batched(rig, worker):
    """The same in as few round trips as the SDK needs, and in parallel."""
    from assent._drivers.registry import session_of
    from assent._runner import exchange

    connections = [rig.connect(server) for server in rig.servers]
    wires = [session_of(connection, asynchronous=False)[0].wire for connection in connections]
    sql = statements(worker)

    def once():
        assert connections  # A wire does not keep its own alive.
        gtrid = uuid.uuid4().hex
        for number, wire in enumerate(wires):
            exchange([(wire, [f"XA START '{gtrid}','{number}'", next(sql)])])
        for verbs in (("END", "PREPARE"), ("COMMIT",)):
            answers = exchange(
                [(wire, [f"XA {verb} '{gtrid}','{number}'" for verb in verbs]) for number, wire in enumerate(wires)]
            )
            assert all(answer.error.ok for answer in answers)

    return once


def with_assent(rig, worker):
    connections = [rig.connect(server) for server in rig.servers]
    client = rig.client
    sql = statements(worker)

    def once():
        with client.transaction(sole_participant=True) as tx:
            tx.branch("orders", connections[0]).execute(next(sql))
            tx.branch("payments", connections[1]).execute(next(sql))

    return once


def with_peer(rig, worker):
    """One adapter speaks to one server: its coordinator's finalize is given one that knows both."""
    from xa_transactions import Coordinator, MySQLStore, XAAdapter

    adapters = [XAAdapter(rig.connect(server)) for server in rig.servers]

    class Both:
        def __init__(self):
            self.of = {}

        def xa_commit(self, xid, one_phase=False):
            self.of[xid.bqual].xa_commit(xid, one_phase)

        def xa_rollback(self, xid):
            self.of[xid.bqual].xa_rollback(xid)

    both = Both()
    coordinator = Coordinator(both, MySQLStore(rig.connect(rig.servers[0], autocommit=False)))
    sql = statements(worker)

    def once():
        gtrid = coordinator.create_global(expected_branches=2)
        bquals = coordinator.create_branches(gtrid, count=2)
        for adapter, bqual in zip(adapters, bquals, strict=True):
            both.of[bqual] = adapter
            with adapter.branch_transaction(gtrid, bqual):
                adapter.execute(next(sql)).close()
            coordinator.mark_branch_prepared(gtrid, bqual)
        coordinator.finalize(gtrid, decision="COMMIT")
        both.of.clear()

    return once


class Rig:
    def __init__(self, driver, peer):
        self.connect = connector(driver)
        self.servers = [MariaDb().start(), MariaDb().start()]
        self.coordinator = Assentd(extra=("--log-level=error",)).start()
        for name, server in zip(("orders", "payments"), self.servers, strict=True):
            server.query("CREATE DATABASE bank")
            server.query("CREATE TABLE bank.accounts (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL)")
            server.query("INSERT INTO bank.accounts SELECT seq, 0 FROM (SELECT 1) one, "
                         "(SELECT @n := @n + 1 AS seq FROM information_schema.COLUMNS a, "
                         "information_schema.COLUMNS b, (SELECT @n := -1) zero LIMIT 3200) numbers")  # fmt: skip
            self.coordinator.register(name, server)
        self.client = assent.Client(self.coordinator.address)
        if peer:
            from xa_transactions import MySQLStore

            server = self.servers[0]
            server.query("CREATE DATABASE IF NOT EXISTS peer")
            self.plain_connect = self.connect
            self.connect = lambda where, autocommit=True: self._use(self.plain_connect(where, autocommit), where)
            MySQLStore(self.connect(server, autocommit=False)).ensure_schema()

    def _use(self, connection, where):
        if where is self.servers[0]:
            connection.select_db("peer")
        return connection

    def destroy(self):
        self.client.close()
        for server in [self.coordinator, *self.servers]:
            server.destroy()


def measure(rig, contender, workers, seconds):
    """Return transactions a second and sorted latencies, of a window in which all workers run."""
    starting, stop = threading.Barrier(workers + 1), threading.Event()
    latencies: list[list[float]] = [[] for _ in range(workers)]
    errors = []

    def work(number):
        try:
            once = contender(rig, number)
            for _ in range(5):
                once()
            starting.wait()
            while not stop.is_set():
                begun = time.perf_counter()
                once()
                latencies[number].append(time.perf_counter() - begun)
        except Exception as error:
            errors.append(error)
            starting.abort()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    begun = time.perf_counter()
    try:
        starting.wait()
        begun = time.perf_counter()
        time.sleep(seconds)
    except threading.BrokenBarrierError:
        pass  # `errors` says why.
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    rig.client.flush(10)
    every = sorted(latency for each in latencies for latency in each)
    return len(every) / (time.perf_counter() - begun), every


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--workers", default="1,16")
    parser.add_argument("--driver", choices=["pymysql", "mysqlclient", "mariadb"], default="pymysql")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", help="folder of a checkout of xa_transactions")
    options = parser.parse_args()
    contenders = {"raw": raw, "raw, batched": raw_batched, "assent": with_assent}
    if options.peer:
        sys.path.insert(0, options.peer)
        sys.modules["django"] = None  # It wants Django's settings if it can import Django.
        if importlib.util.find_spec("xa_transactions") is None:  # Before any server is there to be left behind.
            parser.error(f"there is no package xa_transactions in {options.peer}")
        contenders["xa-transactions"] = with_peer
    rig = Rig(options.driver, bool(options.peer))
    try:
        for workers in map(int, options.workers.split(",")):
            results = {name: [] for name in contenders}
            for _ in range(options.rounds):  # Alternating: whatever else the machine does meets all of them.
                for name, contender in contenders.items():
                    results[name].append(measure(rig, contender, workers, options.seconds))
            report(options.driver, workers, results)
    finally:
        rig.destroy()
    print("\nWhat each of them does not do:")
    for name in contenders:
        print(f"  {name}: {NOT_DONE[name]}")


def report(driver, workers, results):
    rates = {name: statistics.median(rate for rate, _ in rounds) for name, rounds in results.items()}
    print(f"\n{driver}, {workers} worker(s), two MariaDB servers; medians of {len(results['raw'])} alternating rounds")
    print(f"{'':18}{'tx/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'time/raw':>10}{'assent is':>11}")
    for name, rounds in results.items():
        every = sorted(latency for _, latencies in rounds for latency in latencies)
        p50, p99 = (every[int(len(every) * part)] * 1000 for part in (0.5, 0.99))
        faster = f"{rates['assent'] / rates[name]:.2f}x"
        print(f"{name:18}{rates[name]:9.0f}{p50:9.2f}{p99:9.2f}{rates['raw'] / rates[name]:10.2f}{faster:>11}")


if __name__ == "__main__":
    main()
