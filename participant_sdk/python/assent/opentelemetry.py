"""OpenTelemetry: spans of global transactions and their branches.

    client = assent.Client("assentd:7411", assent.ClientOptions(hooks=[assent.opentelemetry.Spans()]))

    with tracer.start_as_current_span("order"), assent.opentelemetry.carried(), client.transaction() as tx:
        ...  # calls that carry the transaction carry the span's traceparent, too

A span `assent.transaction` reaches from where this process begins or joins a transaction to where it knows the outcome
(after `vote` that is when its branches are finished); its children `assent.branch` from the opening of a branch to its
proven end. Both are children of the current span; without one, of the traceparent that came with the transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from assent._extras import missing
from assent._watch import Remembered
from assent.hooks import Hooks
from assent.propagation import HTTP_TRACEPARENT, current_traceparent, with_traceparent

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as _error:
    raise missing(__name__, "OpenTelemetry's API", "opentelemetry", _error) from _error


@contextmanager
def carried() -> Iterator[None]:
    """Let calls in the block that carry a transaction carry the current span's traceparent; without one, as before."""
    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    with with_traceparent(headers.get(HTTP_TRACEPARENT, "")):
        yield


def _parent() -> Any:
    """The current context, or that of the traceparent which came with the transaction."""
    if trace.get_current_span().get_span_context().is_valid:
        return None
    return TraceContextTextMapPropagator().extract({HTTP_TRACEPARENT: current_traceparent()})


class _Open:
    """A transaction on its way in this process, perhaps in several parts."""

    def __init__(self, span: trace.Span) -> None:
        self.span = span
        self.branches: dict[str, trace.Span] = {}

    def end_branch(self, bqual: str, **attributes: str) -> None:
        if span := self.branches.pop(bqual, None):
            span.set_attributes({f"assent.{name}": value for name, value in attributes.items()})
            span.end()

    def end(self) -> None:
        for bqual in list(self.branches):
            self.end_branch(bqual)
        self.span.end()


class Spans(Hooks):
    """Makes the spans, with the global tracer provider unless another is given.

    Attributes: `assent.gtrid`, `assent.sole_participant`, `assent.outcome`; `assent.bqual`, `assent.resource`,
    `assent.vote`, `assent.result`. Events: `voted`, `decided`. The status is ERROR when the outcome is IN_DOUBT; a
    rollback is none.
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("assent", tracer_provider=tracer_provider)
        self._open: Remembered[_Open] = Remembered(self._begin, _Open.end)

    def _begin(self, gtrid: str) -> _Open:
        span = self._tracer.start_span("assent.transaction", context=_parent(), attributes={"assent.gtrid": gtrid})
        return _Open(span)

    def on_global_created(self, gtrid: str, sole_participant: bool) -> None:
        """See Hooks."""
        self._open.get(gtrid).span.set_attribute("assent.sole_participant", sole_participant)

    def on_branch_created(self, gtrid: str, bqual: str, resource: str) -> None:
        """See Hooks."""
        found = self._open.get(gtrid)
        attributes = {"assent.gtrid": gtrid, "assent.bqual": bqual, "assent.resource": resource}
        context = trace.set_span_in_context(found.span)
        found.branches[bqual] = self._tracer.start_span("assent.branch", context=context, attributes=attributes)

    def on_branch_prepared(self, gtrid: str, bqual: str, vote: str) -> None:
        """See Hooks."""
        if not (found := self._open.peek(gtrid)):
            return
        if vote != "PREPARED":  # It has ended.
            found.end_branch(bqual, vote=vote)
        elif span := found.branches.get(bqual):
            span.set_attribute("assent.vote", vote)
            span.add_event("prepared")

    def on_voted(self, gtrid: str) -> None:
        """See Hooks."""
        if found := self._open.peek(gtrid):
            found.span.add_event("voted")

    def on_decided(self, gtrid: str, decision: str) -> None:
        """See Hooks."""
        if found := self._open.peek(gtrid):
            found.span.add_event("decided", {"assent.decision": decision})

    def on_branch_finished(self, gtrid: str, bqual: str, result: str) -> None:
        """See Hooks."""
        if found := self._open.peek(gtrid):
            found.end_branch(bqual, result=result)

    def on_outcome(self, gtrid: str, outcome: str, seconds: float) -> None:
        """See Hooks."""
        found = self._open.peek(gtrid)
        if not found:
            return
        found.span.set_attribute("assent.outcome", outcome)
        if outcome == "IN_DOUBT":
            found.span.set_status(trace.StatusCode.ERROR, "in doubt")
        elif found.branches:
            return  # Another part of the same transaction goes on in this process.
        self._open.drop(gtrid)


__all__ = ["Spans", "carried"]
