"""Wheel and sdist, installed into clean environments; the example of the README runs there."""

import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, HERE], check=True,
                   capture_output=True)  # fmt: skip
    return folder


def test_the_wheel_is_pure_and_typed(built):
    (wheel,) = built.glob("*.whl")
    assert re.fullmatch(r"assent_sdk-[\d.]+-py3-none-any\.whl", wheel.name)
    names = zipfile.ZipFile(wheel).namelist()
    assert "assent/py.typed" in names
    assert "assent/v1/global_pb2.py" in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "examples"))]


def test_every_module_that_needs_a_library_has_an_extra(built):
    (wheel,) = built.glob("*.whl")
    package = zipfile.ZipFile(wheel)
    modules = {name.removeprefix("assent/").removesuffix(".py") for name in package.namelist()}
    (metadata,) = [name for name in package.namelist() if name.endswith("/METADATA")]
    extras = set(re.findall(r"^Provides-Extra: (\S+)$", package.read(metadata).decode(), re.MULTILINE))
    assert extras == {"celery", "django", "opentelemetry", "prometheus", "sqlalchemy"}
    assert extras <= modules


@pytest.mark.parametrize("page", [HERE / "README.md", HERE.parents[1] / "README.md"])
def test_the_readme_shows_the_example(page):
    example = (HERE / "examples/two_databases.py").read_text()
    ten_lines = example.split("# [ten lines]\n")[1].rstrip()
    shown = "\n".join(line.removeprefix("    ") for line in ten_lines.splitlines())
    assert f"```python\n{shown}\n```" in page.read_text()
    assert len(shown.splitlines()) <= 10


@pytest.mark.parametrize("part", ["service", "caller"])
def test_the_documentation_shows_the_carried_call(part):
    shown = (HERE / "examples/carried_call.py").read_text().split(f"# [{part}]\n")[1].rstrip()
    assert f"```python\n{textwrap.dedent(shown)}\n```" in (HERE.parents[1] / "docs/python.md").read_text()


def make_shop(rig):
    """As the README says."""
    statements = re.findall(r"```sql\n(.*?)```", (HERE / "README.md").read_text(), re.DOTALL)
    for server, sql in zip((rig.orders, rig.payments), statements, strict=True):
        server.query("DROP DATABASE IF EXISTS shop")
        for statement in filter(str.strip, sql.split(";")):
            server.query(statement)


def run_twice(rig, program, folder, environment=None):
    """Return what it says. The second time the money is not enough (and the order's id is taken)."""
    told = []
    for _ in range(2):
        run = subprocess.run(
            [*program, rig.coordinator.address, str(rig.orders.port), str(rig.payments.port)],
            capture_output=True, text=True, cwd=folder, env={"SHOP_PASSWORD": "secret"} | (environment or {}),
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        told.append(run.stdout)
        rig.orders.query("UPDATE shop.orders SET id = 2 WHERE id = 1")
    assert rig.orders.query("SELECT COUNT(*) FROM shop.orders") == [(1,)]
    assert rig.payments.query("SELECT balance FROM shop.accounts") == [(200,)]
    return told


@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_installed_into_a_clean_environment_the_example_is_atomic(rig, built, kind, tmp_path):
    (package,) = built.glob(kind)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", package, "pymysql"], check=True, capture_output=True)
    make_shop(rig)
    told = run_twice(rig, [python, HERE / "examples/two_databases.py"], tmp_path)
    assert told[0] == "committed\n"
    assert re.match("rolled back", told[1])


def test_the_carried_call_is_atomic(rig, tmp_path):
    make_shop(rig)
    environment = {"PYTHONPATH": str(HERE)}
    told = run_twice(rig, [sys.executable, HERE / "examples/carried_call.py"], tmp_path, environment)
    assert told[0] == "committed\n"
    assert re.match(r"rolled back: .*CONSTRAINT", told[1], re.DOTALL)
