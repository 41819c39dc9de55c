"""Spans and metrics of real transactions."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import take
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from servers import wait_for

import assent
from assent import _watch, propagation
from assent.opentelemetry import Spans, carried
from assent.prometheus import Metrics

REMOTE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Watched:
    """A client with both, and what they tell."""

    def __init__(self, rig, *more, **options):
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")
        self.registry = CollectorRegistry()
        self.spans_hook = Spans(self.provider)
        self.metrics_hook = Metrics(self.registry)
        hooks = [self.spans_hook, self.metrics_hook, *more]
        self.client = assent.Client(rig.coordinator.address, assent.ClientOptions(hooks=hooks, **options))

    @property
    def spans(self):
        return {
            (each.name, each.attributes.get("assent.resource")): each for each in self.exporter.get_finished_spans()
        }

    def value(self, name, **labels):
        return self.registry.get_sample_value(f"assent_client_{name}", labels)

    def remembers_nothing(self):
        return not self.spans_hook._open._values and not self.metrics_hook._open._values


@pytest.fixture
def watched(rig):
    made = Watched(rig)
    yield made
    made.client.close()
    assert made.remembers_nothing()


def work(rig, tx):
    for resource in ("orders", "payments"):
        tx.branch(resource, rig.servers[resource].connect()).execute(take())


@pytest.mark.parametrize("sole", [True, False])
def test_commit(rig, watched, sole):
    with (
        watched.tracer.start_as_current_span("order") as order,
        watched.client.transaction(sole_participant=sole) as tx,
    ):
        work(rig, tx)
    root = watched.spans["assent.transaction", None]
    assert root.parent.span_id == order.get_span_context().span_id
    assert dict(root.attributes) == {
        "assent.gtrid": tx.gtrid,
        "assent.sole_participant": sole,
        "assent.outcome": "COMMITTED",
    }
    assert [event.name for event in root.events] == ["voted", "decided"]
    for resource in ("orders", "payments"):
        branch = watched.spans["assent.branch", resource]
        assert branch.parent.span_id == root.context.span_id
        assert branch.attributes["assent.vote"] == "PREPARED"
        assert branch.attributes["assent.result"] == "COMMITTED"
        assert root.start_time <= branch.start_time < branch.end_time <= root.end_time
        assert watched.value("branches_total", resource=resource) == 1
        assert watched.value("votes_total", resource=resource, vote="prepared") == 1
        assert watched.value("finished_total", resource=resource, result="committed") == 1
    assert watched.value("transactions_begun_total", sole_participant=str(sole).lower()) == 1
    assert watched.value("outcomes_total", outcome="committed") == 1
    assert 0 < watched.value("decision_seconds_sum") < watched.value("transaction_seconds_sum", outcome="committed")
    assert watched.value("finish_seconds_count") == 1


def test_rollback_and_readers(rig, watched):
    with pytest.raises(assent.Aborted), watched.client.transaction() as tx:
        tx.branch("stock", rig.stock.connect()).execute("SELECT 1")
        work(rig, tx)
        with pytest.raises(assent.DatabaseFailed):
            tx.branch("orders", rig.orders.connect()).execute("INSERT INTO bank.accounts VALUES (2, 1)")
    spans = watched.exporter.get_finished_spans()
    votes = [(each.attributes["assent.resource"], each.attributes.get("assent.vote")) for each in spans[:-1]]
    assert sorted(votes) == [
        ("orders", "FAILED"),
        ("orders", "PREPARED"),
        ("payments", "PREPARED"),
        ("stock", "READ_ONLY"),
    ]
    assert spans[-1].attributes["assent.outcome"] == "ROLLED_BACK"
    assert spans[-1].status.status_code is trace.StatusCode.UNSET
    assert watched.value("outcomes_total", outcome="rolled_back") == 1
    assert watched.value("votes_total", resource="stock", vote="read_only") == 1
    assert watched.value("votes_total", resource="orders", vote="failed") == 1
    assert watched.value("finished_total", resource="payments", result="rolled_back") == 1


def test_an_exception(rig, watched):
    with pytest.raises(ZeroDivisionError), watched.client.transaction(resources=["orders", "stock"]) as tx:
        work(rig, tx)
        raise ZeroDivisionError
    assert watched.spans["assent.transaction", None].attributes["assent.outcome"] == "ROLLED_BACK"
    assert watched.spans["assent.branch", "payments"].attributes["assent.result"] == "ROLLED_BACK"
    assert b'resource=""' not in generate_latest(watched.registry)


class AtVote(assent.Hooks):
    def __init__(self, do):
        self.do = do

    def on_voted(self, gtrid):
        self.do()


def test_in_doubt(rig):
    numbers = []
    watched = Watched(rig, AtVote(lambda: rig.orders.query(f"KILL {numbers[0]}")), decision_patience=1)
    begin = watched.client.transaction
    with pytest.raises(assent.OutcomeInDoubt), begin(sole_participant=True, one_phase_commit=False) as tx:
        connection = rig.orders.connect()
        numbers.append(connection.thread_id())
        tx.branch("orders", connection).execute(take())
    root = watched.spans["assent.transaction", None]
    assert root.attributes["assent.outcome"] == "IN_DOUBT"
    assert root.status.status_code is trace.StatusCode.ERROR
    assert "assent.result" not in watched.spans["assent.branch", "orders"].attributes
    assert watched.value("outcomes_total", outcome="in_doubt") == 1
    assert watched.remembers_nothing()
    watched.client.close()
    wait_for(lambda: rig.taken("orders") == 1, "the coordinator's COMMIT")


def test_two_parts_of_a_transaction_in_one_process(rig, watched):
    """As two handlers of one service have them: both end in the background, whichever is the first."""
    with assent.Client(rig.coordinator.address) as initiator, initiator.transaction() as tx:
        for resource in ("orders", "payments"):
            with propagation.with_traceparent(REMOTE), watched.client.take_part(tx.gtrid) as part:
                part.branch(resource, rig.servers[resource].connect(), release=lambda c: c.close()).execute(take())
        assert watched.exporter.get_finished_spans() == ()
    wait_for(lambda: len(watched.exporter.get_finished_spans()) == 3, "the spans")
    root = watched.spans["assent.transaction", None]
    assert (root.parent.span_id, root.context.trace_id) == (0xB7AD6B7169203331, 0x0AF7651916CD43DD8448EB211C80319C)
    assert {each.attributes.get("assent.result") for each in watched.exporter.get_finished_spans()} == {
        "COMMITTED",
        None,
    }
    wait_for(lambda: watched.value("outcomes_total", outcome="committed") == 2, "both outcomes")
    for resource in ("orders", "payments"):
        assert watched.value("finished_total", resource=resource, result="committed") == 1


def test_the_traceparent_that_calls_carry(watched):
    with watched.tracer.start_as_current_span("order") as order, carried():
        found = propagation.current_traceparent()
        ids = order.get_span_context()
        assert found.startswith(f"00-{ids.trace_id:032x}-{ids.span_id:016x}-0")
        with watched.client.transaction():
            assert propagation.current_headers()["traceparent"] == found
    with propagation.with_traceparent(REMOTE), carried():
        assert propagation.current_traceparent() == REMOTE


def test_what_never_ends_is_forgotten(monkeypatch, rig):
    monkeypatch.setattr(_watch, "MOST", 3)
    watched = Watched(rig)
    for number in range(10):
        watched.spans_hook.on_global_created(f"py-{number}", False)
        watched.metrics_hook.on_voted(f"py-{number}")
    assert len(watched.exporter.get_finished_spans()) == 7
    assert len(watched.spans_hook._open._values) == len(watched.metrics_hook._open._values) == 3


def test_the_documentation_names_every_metric():
    registry = CollectorRegistry()
    Metrics(registry)
    served = {each.name + ("_total" if each.type == "counter" else "") for each in registry.collect()}
    page = (Path(__file__).parents[3] / "docs/python.md").read_text()
    assert set(re.findall(r"\| `(assent_client_\w+)` \|", page)) == served


def test_an_exporter_that_fails_changes_nothing(rig):
    class Broken(Spans):
        def _begin(self, gtrid):
            raise RuntimeError("no exporter")

    with assent.Client(rig.coordinator.address, assent.ClientOptions(hooks=[Broken()])) as client:
        with client.transaction(sole_participant=True) as tx:
            work(rig, tx)
    assert rig.taken("orders") == rig.taken("payments") == 1


@pytest.mark.parametrize(
    ("module", "library"), [("opentelemetry", "opentelemetry"), ("prometheus", "prometheus_client")]
)
def test_without_the_library(module, library):
    told = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules['{library}'] = None; import assent.{module}"],
        capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert f"pip install './participant_sdk/python[{module}]'" in told.stderr.splitlines()[-1]
