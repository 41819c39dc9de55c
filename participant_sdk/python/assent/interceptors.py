"""gRPC interceptors: a call carries the current transaction, and the callee's handler runs as a part of it by itself.

    channel = grpc.intercept_channel(grpc.insecure_channel("payments:80"), ClientInterceptor())
    server = grpc.server(threads, interceptors=[ServerInterceptor(client)])

The Aio ones are the same for grpc.aio. Unary calls can carry a transaction; streaming ones never take it along.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import grpc
import grpc.aio

from assent.aio import AsyncClient
from assent.client import Client
from assent.errors import RPC_STATUS_KEY, AssentError, to_rpc_status
from assent.propagation import GRPC_GTRID, GRPC_TRACEPARENT, ErrorAnswered, carried_by, the_only, with_traceparent

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}

_MAKERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class _Details(NamedTuple):
    """A grpc.ClientCallDetails."""

    method: str
    timeout: float | None
    metadata: Iterable[tuple[str, str | bytes]]
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: Any


def _metadata_for(method: str | bytes) -> list[tuple[str, str]]:
    name = method.decode() if isinstance(method, bytes) else method
    gtrid, traceparent = carried_by(name)
    return [(key, value) for key, value in ((GRPC_GTRID, gtrid), (GRPC_TRACEPARENT, traceparent)) if value]


class ClientInterceptor(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Passes on `assent.current_transaction()` and its traceparent.

    `assent.FailedPrecondition`, and nothing is sent, if the transaction was begun with sole_participant.
    """

    def intercept_unary_unary(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        """See grpc.UnaryUnaryClientInterceptor."""
        details = client_call_details
        carrying = _Details(
            details.method,
            details.timeout,
            [*(details.metadata or ()), *_metadata_for(details.method)],
            details.credentials,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )
        return continuation(carrying, request)


class AioClientInterceptor(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """See ClientInterceptor."""

    async def intercept_unary_unary(
        self, continuation: Callable[..., Awaitable[Any]], client_call_details: Any, request: Any
    ) -> Any:
        """See grpc.aio.UnaryUnaryClientInterceptor."""
        details = client_call_details
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *_metadata_for(details.method))
        return await continuation(details._replace(metadata=metadata), request)


class _Carried(NamedTuple):
    """What came with a call."""

    gtrids: list[str]
    traceparent: str


def _carried_in(metadata: Iterable[tuple[str, Any]] | None) -> _Carried:
    pairs = list(metadata or ())
    traceparents = [value for key, value in pairs if key == GRPC_TRACEPARENT]
    return _Carried(
        [value for key, value in pairs if key == GRPC_GTRID], traceparents[0] if len(traceparents) == 1 else ""
    )


def _is_streaming(handler: Any) -> bool:
    return bool(handler.request_streaming or handler.response_streaming)


def _instead_of(handler: Any, behavior: Callable[..., Any]) -> Any:
    make = _MAKERS[bool(handler.request_streaming), bool(handler.response_streaming)]
    return make(behavior, handler.request_deserializer, handler.response_serializer)


def _answers_error(context: Any) -> bool:
    return context.code() not in (None, 0, grpc.StatusCode.OK)


def _status_of(error: AssentError, context: Any) -> tuple[grpc.StatusCode, str, tuple[Any, ...]]:
    """Return what to abort with: code, details and trailing metadata."""
    details = (RPC_STATUS_KEY, to_rpc_status(error).SerializeToString())
    return _STATUS_CODES[int(error.code)], error.message, (*(context.trailing_metadata() or ()), details)


class ServerInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]
    """Makes a handler that is called with a transaction a part of it.

    It finds the transaction with `assent.current_transaction()`, and opens its branches as ever. When it returns they
    are prepared and voted for before the answer leaves, and finished in the background once it is decided; if the vote
    does not count the answer is that error (ABORTED: rolled back). If it raises, aborts or sets a code, the transaction
    is rolled back; an AssentError is answered with its code and reason. Calls without one are left alone.
    INVALID_ARGUMENT if what came is no gtrid, or more than one; UNIMPLEMENTED if the method streams.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """See grpc.ServerInterceptor."""
        handler = continuation(handler_call_details)
        carried = _carried_in(handler_call_details.invocation_metadata)
        if handler is None or not any(carried):
            return handler
        if _is_streaming(handler):
            return _instead_of(handler, _refuse) if carried.gtrids else handler

        def handle(request: Any, context: Any) -> Any:
            with with_traceparent(carried.traceparent):
                if not carried.gtrids:
                    return handler.unary_unary(request, context)
                return self._as_part(carried, handler.unary_unary, request, context)

        return _instead_of(handler, handle)

    def _as_part(self, carried: _Carried, behavior: Callable[[Any, Any], Any], request: Any, context: Any) -> Any:
        answer = None
        try:
            with self._client.take_part(the_only(carried.gtrids, "the call")):
                answer = behavior(request, context)
                if _answers_error(context):
                    raise ErrorAnswered
        except ErrorAnswered:
            pass
        except AssentError as error:
            code, details, trailing = _status_of(error, context)
            context.set_trailing_metadata(trailing)
            context.abort(code, details)
        return answer


_REFUSAL = "streaming methods and blocking handlers of an asyncio server cannot take part in a global transaction"


def _refuse(_: Any, context: Any) -> None:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, _REFUSAL)


class AioServerInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """See ServerInterceptor. UNIMPLEMENTED also for a handler that is not `async`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """See grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        carried = _carried_in(handler_call_details.invocation_metadata)
        if handler is None or not any(carried):
            return handler
        if _is_streaming(handler) or not inspect.iscoroutinefunction(handler.unary_unary):
            return _instead_of(handler, _refuse_async) if carried.gtrids else handler

        async def handle(request: Any, context: Any) -> Any:
            with with_traceparent(carried.traceparent):
                if not carried.gtrids:
                    return await handler.unary_unary(request, context)
                return await self._as_part(carried, handler.unary_unary, request, context)

        return _instead_of(handler, handle)

    async def _as_part(
        self, carried: _Carried, behavior: Callable[[Any, Any], Awaitable[Any]], request: Any, context: Any
    ) -> Any:
        answer = None
        try:
            async with self._client.take_part(the_only(carried.gtrids, "the call")):
                answer = await behavior(request, context)
                if _answers_error(context):
                    raise ErrorAnswered
        except ErrorAnswered:
            pass
        except AssentError as error:
            await context.abort(*_status_of(error, context))
        return answer


async def _refuse_async(_: Any, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, _REFUSAL)
