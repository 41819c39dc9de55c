"""participant_sdk/scenarios.txt with every SDK, alone and in pairs. Run by ./test, which says where all is."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import Assentd, MariaDb, wait_for

HERE = Path(__file__).parent
SCENARIOS = HERE.parent.parent / "participant_sdk" / "scenarios.txt"
BALANCE = 1000
RUNNERS = {
    "cpp": [os.environ["ASSENT_SCENARIO_RUNNER"]],
    "python": [sys.executable, str(HERE / "scenario_runner.py")],
    "go": [os.environ["ASSENT_SCENARIO_RUNNER_GO"]],
}
# Who `a` and `b` are: each with itself, and with another.
PAIRS = [("cpp", "cpp"), ("python", "python"), ("go", "go"), ("cpp", "python"), ("python", "go"), ("go", "cpp")]


def read_scenarios() -> dict[str, list[str]]:
    scenarios: dict[str, list[str]] = {}
    for line in SCENARIOS.read_text().splitlines():
        if line.startswith("== "):
            steps = scenarios[line[3:]] = []
        elif line and not line.startswith("#"):
            steps.append(line)
    return scenarios


class Rig:
    def __init__(self) -> None:
        self.databases = {"orders": MariaDb().start(), "payments": MariaDb().start()}
        self.coordinator = Assentd(cluster="lang", extra=("--sweep-interval=1s",)).start()
        for name, database in self.databases.items():
            database.query("CREATE DATABASE bank")
            database.query("CREATE TABLE bank.accounts (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL)")
            database.query(f"INSERT INTO bank.accounts VALUES (2, {BALANCE}), (3, {BALANCE})")
            self.coordinator.register(name, database)

    def arguments(self) -> list[str]:
        arguments = [self.coordinator.address]
        for name, database in self.databases.items():
            address = f"127.0.0.1:{database.port}"
            arguments += [name, "mariadb", address, "root", str(database.password_file), "bank"]
        return arguments

    def taken(self, name: str, account: str) -> int:
        # As soon as it is finished: whoever voted finishes in the background.
        wait_for(lambda: not any(each.prepared() for each in self.databases.values()), "the end of all branches", 30)
        return BALANCE - self.databases[name].query(f"SELECT balance FROM bank.accounts WHERE id = {account}")[0][0]

    def reset(self) -> None:
        if self.coordinator.process.poll() is not None:
            self.coordinator.start()
        for database in self.databases.values():
            database.query(f"UPDATE bank.accounts SET balance = {BALANCE}")

    def destroy(self) -> None:
        for server in [self.coordinator, *self.databases.values()]:
            server.destroy()


class Actor:
    def __init__(self, language: str, rig: Rig, log: Path) -> None:
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                [*RUNNERS[language], *rig.arguments()],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        self.gtrid = ""

    def ask(self, step: str) -> None:
        self.process.stdin.write(step + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.stdin.close()
        if self.process.wait(30) != 0:
            pytest.fail(f"{self.process.args[0]} ended with {self.process.returncode}")


@pytest.fixture(scope="module")
def the_rig():
    made = Rig()
    yield made
    made.destroy()


class Play:
    """One scenario with its actors."""

    def __init__(self, rig: Rig, languages: tuple[str, str], log: Path) -> None:
        self.rig, self.log = rig, log
        self.languages = dict(zip("ab", languages, strict=True))
        self.actors: dict[str, Actor] = {}

    def actor(self, name: str) -> Actor:
        if name not in self.actors:
            self.actors[name] = Actor(self.languages[name], self.rig, self.log)
        return self.actors[name]

    def step(self, line: str) -> None:
        step, _, expected = (part.strip() for part in line.partition("->"))
        who, _, what = step.partition(" ")
        if who == "sleep":
            time.sleep(int(what) / 1000)
        elif who == "kill":
            self.rig.coordinator.kill9()
        elif who == "start":
            self.rig.coordinator.start()
        elif who == "taken":
            name, account, amount = what.split()
            assert self.rig.taken(name, account) == int(amount), line
        else:
            self.ask(who, what, expected, line)

    def ask(self, who: str, what: str, expected: str, line: str) -> None:
        actor = self.actor(who)
        if what == "join a":
            what = f"join {self.actors['a'].gtrid}"
        verb, _, rest = what.partition(" ")
        resource, _, sql = rest.partition(" ")
        if sql.startswith("take "):
            what = f"work {resource} UPDATE bank.accounts SET balance = balance - 1 WHERE id = {sql[5:]}"
        if verb != "wait":
            actor.ask(what.removesuffix(" &"))
        if line.endswith(" &"):
            return
        answer = actor.answer()
        if verb == "outcome":
            assert answer == f"OK {expected}", line
        elif expected:
            assert answer == expected, line
        else:
            assert answer.split(" ")[0] == "OK", f"{line}: {answer}"
        if verb in ("begin", "join") and answer.startswith("OK "):
            actor.gtrid = answer[3:]

    def end(self) -> None:
        for actor in self.actors.values():
            actor.end()


def cases():
    for name, steps in read_scenarios().items():
        both = any(line.startswith("b ") for line in steps)
        for pair in PAIRS if both else PAIRS[:3]:
            yield pytest.param(steps, pair, id=f"{name}-{'-'.join(pair if both else pair[:1])}")


@pytest.mark.parametrize(("steps", "languages"), list(cases()))
def test_scenario(the_rig, steps, languages, tmp_path):
    the_rig.reset()
    play = Play(the_rig, languages, tmp_path / "log")
    try:
        for line in steps:
            play.step(line)
    except AssertionError:
        print((tmp_path / "log").read_text()[-3000:] if (tmp_path / "log").exists() else "")
        raise
    finally:
        play.end()
