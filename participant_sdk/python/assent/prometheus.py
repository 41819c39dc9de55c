"""Prometheus: metrics of the transactions of this process.

    client = assent.Client("assentd:7411", assent.ClientOptions(hooks=[assent.prometheus.Metrics()]))

Their names and meanings are in docs/python.md (a test compares the two). For a service of several processes there is
the library's multiprocess mode.
"""

from __future__ import annotations

import time

from assent._extras import missing
from assent._watch import Remembered
from assent.hooks import Hooks

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
except ImportError as _error:
    raise missing(__name__, "prometheus-client", "prometheus", _error) from _error

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)


class _Open:
    """A transaction on its way."""

    def __init__(self, gtrid: str) -> None:
        self.voted = 0.0
        self.decided = 0.0
        self.resources: dict[str, str] = {}


class Metrics(Hooks):
    """Counts and measures. One for a registry; it may be given to several clients."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._open = Remembered(_Open)

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"assent_client_{name}", meaning, labels, registry=registry)

        def seconds(name: str, meaning: str, *labels: str) -> Histogram:
            return Histogram(f"assent_client_{name}_seconds", meaning, labels, registry=registry, buckets=_BUCKETS)

        self._begun = counter("transactions_begun", "Transactions begun here.", "sole_participant")
        self._outcomes = counter("outcomes", "Transactions that ended for this process.", "outcome")
        self._seconds = seconds("transaction", "From begin or join to the outcome.", "outcome")
        self._decision = seconds("decision", "From the vote until the decision was known.")
        self._finish = seconds("finish", "From the decision until the branches were finished.")
        self._branches = counter("branches", "Branches that were opened.", "resource")
        self._votes = counter("votes", "Votes on branches.", "resource", "vote")
        self._finished = counter("finished", "Branches proven finished.", "resource", "result")

    def on_global_created(self, gtrid: str, sole_participant: bool) -> None:
        """See Hooks."""
        self._begun.labels(str(sole_participant).lower()).inc()

    def on_branch_created(self, gtrid: str, bqual: str, resource: str) -> None:
        """See Hooks."""
        self._open.get(gtrid).resources[bqual] = resource
        self._branches.labels(resource).inc()

    def on_branch_prepared(self, gtrid: str, bqual: str, vote: str) -> None:
        """See Hooks."""
        resource = self._resource_of(gtrid, bqual, ends=vote != "PREPARED")
        self._votes.labels(resource, vote.lower()).inc()

    def on_voted(self, gtrid: str) -> None:
        """See Hooks."""
        self._open.get(gtrid).voted = time.monotonic()

    def on_decided(self, gtrid: str, decision: str) -> None:
        """See Hooks."""
        found = self._open.get(gtrid)
        found.decided = time.monotonic()
        if found.voted:
            self._decision.observe(found.decided - found.voted)

    def on_branch_finished(self, gtrid: str, bqual: str, result: str) -> None:
        """See Hooks."""
        if resource := self._resource_of(gtrid, bqual, ends=True):  # Else nobody opened it.
            self._finished.labels(resource, result.lower()).inc()

    def on_outcome(self, gtrid: str, outcome: str, seconds: float) -> None:
        """See Hooks."""
        self._outcomes.labels(outcome.lower()).inc()
        self._seconds.labels(outcome.lower()).observe(seconds)
        found = self._open.peek(gtrid)
        if not found:
            return
        if found.decided:
            self._finish.observe(time.monotonic() - found.decided)
        if not found.resources or outcome == "IN_DOUBT":  # Else another part of it goes on in this process.
            self._open.drop(gtrid)

    def _resource_of(self, gtrid: str, bqual: str, ends: bool) -> str:
        found = self._open.peek(gtrid)
        if not found:
            return ""
        return found.resources.pop(bqual, "") if ends else found.resources.get(bqual, "")


__all__ = ["Metrics"]
