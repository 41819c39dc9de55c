"""Does the steps of participant_sdk/scenarios.txt with the Python SDK; see scenario_runner.cc.

scenario_runner.py ASSENTD (RESOURCE ENGINE ADDRESS USER PASSWORD_FILE DATABASE)...
"""

import sys
from pathlib import Path
from typing import Any

import psycopg
import pymysql

import assent

FIELDS = 6


class Runner:
    def __init__(self, assentd: str, servers: dict[str, list[str]]) -> None:
        self.client = assent.Client(assentd, assent.ClientOptions(call_patience=2, decision_patience=2))
        self.servers = servers
        self.tx: Any = None

    def connect(self, resource: str) -> Any:
        # A resource that is not registered is on some server all the same.
        engine, address, user, password_file, database = self.servers.get(resource, next(iter(self.servers.values())))
        password, (host, port) = Path(password_file).read_text().strip(), address.rsplit(":", 1)
        if engine == "postgresql":
            return psycopg.connect(host=host, port=port, user=user, password=password, dbname=database, autocommit=True)
        return pymysql.connect(host=host, port=int(port), user=user, password=password, autocommit=True)

    def begin(self, options: list[str]) -> Any:
        given = dict(option.partition("=")[::2] for option in options)
        wanted: dict[str, Any] = {"sole_participant": "sole" in given, "gtrid": given.get("gtrid", "")}
        if "timeout" in given:
            wanted["timeout"] = int(given["timeout"]) / 1000
        if "expected" in given:
            wanted |= {
                "policy": assent.DecisionPolicy.WHEN_ALL_PREPARED,
                "expected_branches": int(given["expected"]),
            }
        if "resources" in given:
            wanted["resources"] = given["resources"].split(",")
        return self.client.begin(**wanted)

    def do(self, verb: str, rest: str) -> str:
        match verb:
            case "begin" | "join":
                if self.tx is not None:
                    self.tx.close()
                self.tx = self.begin(rest.split()) if verb == "begin" else self.client.join(rest)
                return self.tx.gtrid
            case "work":
                resource, sql = rest.split(" ", 1)
                self.tx.branch(resource, self.connect(resource)).execute(sql)
            case "outcome":
                return self.tx.outcome.name
            case "leave":
                self.tx.close()
            case _:
                getattr(self.tx, verb)()
        return ""


def main(assentd: str, *rest: str) -> None:
    servers = {rest[i]: list(rest[i + 1 : i + FIELDS]) for i in range(0, len(rest), FIELDS)}
    runner = Runner(assentd, servers)
    for line in sys.stdin:
        verb, _, arguments = line.strip().partition(" ")
        try:
            answer = f"OK {runner.do(verb, arguments)}"
        except assent.AssentError as error:
            answer = f"{error.code.name} {error.reason.name if error.reason else ''}"
        print(answer.strip(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
