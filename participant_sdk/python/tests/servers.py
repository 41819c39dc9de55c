"""Private servers in a temporary folder: MariaDB, PostgreSQL, assentd. Started and ended by pid."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import ClassVar

import grpc
import pymysql
import pytest

from assent.v1 import resource_service_pb2 as rpb
from assent.v1 import resource_service_pb2_grpc as rgrpc

BIN = Path(os.environ.get("ASSENT_BIN_DIR", "/usr/local/bin"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, what: str, seconds: float = 60.0) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"{what} did not come in {seconds} s")
        time.sleep(0.02)


class Server:
    """A process; `command` starts it, `answers` tells when it is up."""

    def __init__(self, name: str, user: int | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"assent-py-{name}-"))
        self.folder.chmod(0o755)
        self.user = user if os.geteuid() == 0 else None
        self.process: subprocess.Popen | None = None
        self.port = free_port()

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> "Server":
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=self.user, start_new_session=True
            )

        def up() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.command()[0]} ended: {self.log_tail()}")
            return self.answers()

        wait_for(up, self.command()[0])
        return self

    def log_tail(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill9(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def restart(self) -> None:
        self.kill9()
        # PostgreSQL's children outlive it for a moment, and it does not start beside them.
        for left in reversed(range(50)):
            try:
                self.start()
                return
            except RuntimeError:
                if not left:
                    raise
                time.sleep(0.1)

    def destroy(self) -> None:
        self.kill9()
        shutil.rmtree(self.folder, ignore_errors=True)


class MariaDb(Server):
    _templates: ClassVar[dict[type, Path]] = {}
    engine = rpb.Resource.ENGINE_MARIADB
    database = ""
    user_name = "root"
    password = "secret"

    def __init__(self) -> None:
        super().__init__("mariadb")
        self.account = pwd.getpwuid(os.geteuid()).pw_name
        shutil.copytree(self._made(), self.folder / "data")
        (self.folder / "init.sql").write_text(
            "".join(self.account_sql(f"root@'{host}'") for host in ("localhost", "127.0.0.1"))
        )
        self.password_file = self.folder / "password"
        self.password_file.write_text(self.password + "\n")

    def account_sql(self, account: str) -> str:
        return (
            f"CREATE OR REPLACE USER {account} IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO {account} WITH GRANT OPTION;\n"
        )

    def install_command(self, folder: Path) -> list[str]:
        return [
            "mariadb-install-db", "--no-defaults", f"--datadir={folder}/data", f"--tmpdir={folder}",
            f"--user={self.account}", "--auth-root-authentication-method=normal", "--skip-test-db",
            "--skip-name-resolve", "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=16M",
        ]  # fmt: skip

    def _made(self) -> Path:
        if type(self) not in MariaDb._templates:
            folder = Path(tempfile.mkdtemp(prefix="assent-py-template-"))
            subprocess.run(self.install_command(folder), check=True, capture_output=True)
            (folder / "data/auto.cnf").unlink(missing_ok=True)  # A MySQL server's name for itself.
            MariaDb._templates[type(self)] = folder / "data"
        return MariaDb._templates[type(self)]

    @classmethod
    def forget_templates(cls) -> None:
        for data in cls._templates.values():
            shutil.rmtree(data.parent, ignore_errors=True)

    @property
    def socket(self) -> str:
        return f"{self.folder}/sock"

    @property
    def address(self) -> str:
        return f"unix:{self.socket}"

    program = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
    own_options: tuple[str, ...] = ("--performance-schema=OFF", "--innodb-log-file-size=32M")

    def command(self) -> list[str]:
        return [
            self.program, "--no-defaults", f"--user={self.account}",
            f"--datadir={self.folder}/data", f"--tmpdir={self.folder}", f"--socket={self.socket}",
            f"--pid-file={self.folder}/pid", f"--init-file={self.folder}/init.sql", "--bind-address=127.0.0.1",
            f"--port={self.port}", "--skip-name-resolve", "--innodb-buffer-pool-size=48M", "--max-connections=300",
            "--innodb-buffer-pool-dump-at-shutdown=OFF", "--innodb-buffer-pool-load-at-startup=OFF",
            *self.own_options,
        ]  # fmt: skip

    def answers(self) -> bool:
        try:
            self.connect().close()
        except pymysql.err.OperationalError:
            return False
        return True

    def connect(self, **options):
        options = {"autocommit": True, "user": "root", "password": self.password} | options
        return pymysql.connect(host="127.0.0.1", port=self.port, **options)

    def query(self, sql: str, args=None) -> list[tuple]:
        connection = self.connect(client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, args)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def prepared(self) -> list[str]:
        return [row[3] for row in self.query("XA RECOVER")]


class MySql(MariaDb):
    """The mysqld of ASSENT_TEST_MYSQLD."""

    engine = rpb.Resource.ENGINE_MYSQL
    program = os.environ.get("ASSENT_TEST_MYSQLD", "")
    own_options = (
        "--mysqlx=OFF",
        "--secure-file-priv=NULL",
        "--loose-innodb-redo-log-capacity=32M",
        "--log-bin-trust-function-creators=ON",
    )

    def account_sql(self, account: str) -> str:
        return (
            f"SET sql_log_bin = 0;\nCREATE USER IF NOT EXISTS {account};\n"
            f"ALTER USER {account} IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO {account} WITH GRANT OPTION;\n"
        )

    def install_command(self, folder: Path) -> list[str]:
        return [
            self.program, "--no-defaults", "--initialize-insecure", f"--datadir={folder}/data",
            f"--tmpdir={folder}", f"--user={self.account}", "--secure-file-priv=NULL", "--innodb-buffer-pool-size=16M",
        ]  # fmt: skip


ON_MYSQL = os.environ.get("ASSENT_TEST_ENGINE") == "mysql"
needs_mariadb = pytest.mark.skipif(ON_MYSQL, reason="about MariaDB alone")


def mysql_family() -> MariaDb:
    """MariaDB, or with ASSENT_TEST_ENGINE=mysql MySQL: what most tests run on."""
    return MySql() if ON_MYSQL else MariaDb()


class Postgres(Server):
    engine = rpb.Resource.ENGINE_POSTGRESQL
    database = "postgres"
    user_name = "postgres"
    password = "secret"

    def __init__(self, settings: tuple[str, ...] = ()) -> None:
        nobody = pwd.getpwnam("nobody").pw_uid
        super().__init__("postgres", user=nobody)
        self.settings = settings
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        self.bin = folders[-1] if folders else Path(shutil.which("postgres")).parent
        self.password_file = self.folder / "password"
        self.password_file.write_text(self.password + "\n")
        if self.user is not None:
            os.chown(self.folder, nobody, -1)
            os.chown(self.password_file, nobody, -1)
        subprocess.run(
            [self.bin / "initdb", f"--pgdata={self.folder}/data", "--username=postgres", "--auth=scram-sha-256",
             f"--pwfile={self.password_file}", "--no-locale", "--encoding=UTF8", "--no-sync", "--no-instructions"],
            check=True, capture_output=True, user=self.user, cwd=self.folder,
        )  # fmt: skip

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        settings = [
            "listen_addresses=127.0.0.1",
            "max_prepared_transactions=100",
            "shared_buffers=32MB",
            *self.settings,
        ]
        options = [part for setting in settings for part in ("-c", setting)]
        return [str(self.bin / "postgres"), "-D", f"{self.folder}/data", "-k", str(self.folder), "-p", str(self.port),
                *options]  # fmt: skip

    def connect(self, **options):
        import psycopg

        options = {"autocommit": True} | options
        return psycopg.connect(self.conninfo, **options)

    @property
    def conninfo(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres password={self.password} dbname=postgres"

    def answers(self) -> bool:
        import psycopg

        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def query(self, sql: str, args=None) -> list[tuple]:
        with self.connect() as connection:
            cursor = connection.execute(sql, args)
            return cursor.fetchall() if cursor.description else []

    def prepared(self) -> list[str]:
        return [row[0] for row in self.query("SELECT gid FROM pg_prepared_xacts")]


class Assentd(Server):
    def __init__(self, cluster: str = "py", extra: tuple[str, ...] = ()) -> None:
        super().__init__("assentd")
        self.cluster = cluster
        self.extra = extra

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [str(BIN / "assentd"), f"--listen={self.address}", f"--store={self.folder}/assent.db",
                f"--cluster={self.cluster}", f"--port-file={self.folder}/port", *self.extra]  # fmt: skip

    def start(self) -> "Assentd":
        (self.folder / "port").unlink(missing_ok=True)
        super().start()
        return self

    def answers(self) -> bool:
        return (self.folder / "port").exists()

    def register(self, name: str, server: MariaDb | Postgres, **fields) -> None:
        resource = rpb.Resource(
            name=name, engine=server.engine, address=server.address, user=server.user_name, database=server.database,
            password_file=str(server.password_file), **fields,
        )  # fmt: skip
        resource.orphan_age.seconds = 2
        with grpc.insecure_channel(self.address) as channel:
            rgrpc.ResourceServiceStub(channel).RegisterResource(
                rpb.RegisterResourceRequest(resource=resource, replace=True), timeout=30, wait_for_ready=True
            )


class Redis(Server):
    """Nothing of it is kept."""

    def __init__(self) -> None:
        super().__init__("redis")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        program = shutil.which("redis-server") or "/usr/bin/redis-server"
        place = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        return [program, *place, "--save", "", "--appendonly", "no"]

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                probe.sendall(b"PING\r\n")
                return probe.recv(5) == b"+PONG"
        except OSError:
            return False


def end(server: Server) -> None:
    """Gently, for what must write on its way out."""
    server.signal(signal.SIGTERM)
    server.process.wait(30)
