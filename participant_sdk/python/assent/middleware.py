"""WSGI and ASGI middleware: the handler of a request that carries a transaction runs as a part of it by itself.

    application = WsgiMiddleware(client, application)
    application = AsgiMiddleware(async_client, application)

The caller sends `assent.propagation.current_headers()` along. What answers requests without the header is left alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from assent.aio import AsyncClient
from assent.client import Client
from assent.errors import AssentError, Code
from assent.propagation import HTTP_GTRID, HTTP_TRACEPARENT, ErrorAnswered, the_only, with_traceparent

_TEXT = "text/plain; charset=utf-8"
_STATUS = {
    Code.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    Code.ABORTED: HTTPStatus.CONFLICT,
    Code.FAILED_PRECONDITION: HTTPStatus.CONFLICT,
    Code.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.UNKNOWN: HTTPStatus.SERVICE_UNAVAILABLE,
}


def _status_of(error: AssentError) -> HTTPStatus:
    return _STATUS.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)


def _environ_name(header: str) -> str:
    return "HTTP_" + header.upper().replace("-", "_")


class WsgiMiddleware:
    """Makes a WSGI application that is called with a transaction a part of it.

    It finds the transaction with `assent.current_transaction()`, and opens its branches as ever. Its answer is kept
    until its end. If the status is below 400 the branches are prepared and voted for before the answer leaves, and
    finished in the background once it is decided; if the vote does not count the answer is 409 (rolled back) or 503.
    Else, or if it raises, the transaction is rolled back. 400 if what came is no gtrid, or more than one.
    """

    def __init__(self, client: Client, application: Callable[..., Iterable[bytes]]) -> None:
        self._client = client
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """See PEP 3333."""
        gtrid = environ.get(_environ_name(HTTP_GTRID))
        with with_traceparent(environ.get(_environ_name(HTTP_TRACEPARENT), "")):
            if gtrid is None:
                return self._application(environ, start_response)
            return self._as_part(gtrid, environ, start_response)

    def _as_part(self, gtrid: str, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer = _KeptAnswer()
        try:
            with self._client.take_part(gtrid):
                answer.take(self._application(environ, answer.start))
                if answer.code >= HTTPStatus.BAD_REQUEST:
                    raise ErrorAnswered
        except ErrorAnswered:
            pass
        except AssentError as error:
            status = _status_of(error)
            start_response(f"{status.value} {status.phrase}", [("Content-Type", _TEXT)])
            return [str(error).encode()]
        start_response(answer.status, answer.headers)
        return [bytes(answer.body)]


class _KeptAnswer:
    """Holds a WSGI answer back until the vote counts."""

    def __init__(self) -> None:
        self.status = "500 Internal Server Error"  # Of who answers nothing.
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()

    @property
    def code(self) -> int:
        return int(self.status.split(" ", 1)[0])

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        """Be the application's start_response."""
        self.status, self.headers = status, headers
        return self.body.extend

    def take(self, result: Iterable[bytes]) -> None:
        """Take what the application returns, to its end."""
        try:
            for part in result:
                self.body += part
        finally:
            if close := getattr(result, "close", None):
                close()


class AsgiMiddleware:
    """See WsgiMiddleware; for HTTP requests to an ASGI 3 application. Its tasks after the answer keep that waiting."""

    def __init__(self, client: AsyncClient, application: Callable[..., Awaitable[None]]) -> None:
        self._client = client
        self._application = application

    async def __call__(
        self, scope: Mapping[str, Any], receive: Callable[..., Any], send: Callable[..., Awaitable[None]]
    ) -> None:
        """See the ASGI specification."""
        is_http = scope["type"] == "http"
        gtrids = _headers_in(scope, HTTP_GTRID) if is_http else []
        traceparents = _headers_in(scope, HTTP_TRACEPARENT) if is_http else []
        with with_traceparent(traceparents[0] if len(traceparents) == 1 else ""):
            if gtrids:
                await self._as_part(gtrids, scope, receive, send)
            else:
                await self._application(scope, receive, send)

    async def _as_part(
        self,
        gtrids: list[str],
        scope: Mapping[str, Any],
        receive: Callable[..., Any],
        send: Callable[..., Awaitable[None]],
    ) -> None:
        kept: list[Mapping[str, Any]] = []

        async def keep(message: Mapping[str, Any]) -> None:
            kept.append(message)

        try:
            async with self._client.take_part(the_only(gtrids, "the request")):
                await self._application(scope, receive, keep)
                statuses = (message["status"] for message in kept if message["type"] == "http.response.start")
                if next(statuses, HTTPStatus.INTERNAL_SERVER_ERROR) >= HTTPStatus.BAD_REQUEST:
                    raise ErrorAnswered
        except ErrorAnswered:
            pass
        except AssentError as error:
            headers = [(b"content-type", _TEXT.encode())]
            kept = [
                {"type": "http.response.start", "status": _status_of(error).value, "headers": headers},
                {"type": "http.response.body", "body": str(error).encode()},
            ]
        for message in kept:
            await send(message)


def _headers_in(scope: Mapping[str, Any], name: str) -> list[str]:
    wanted = name.lower().encode()
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == wanted]
