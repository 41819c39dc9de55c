"""HTTP requests that carry a transaction, to a WSGI and to an ASGI application."""

import asyncio
import http.client
import threading
from contextvars import Context
from wsgiref.simple_server import WSGIRequestHandler, make_server

import aiomysql
import pytest
from conftest import take
from servers import wait_for

import assent
from assent import aio, propagation
from assent.middleware import AsgiMiddleware, WsgiMiddleware

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STATUSES = {"/pay": "200 OK", "/teapot": "418 I'm a Teapot"}


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


class Web:
    """An application that takes from an account on payments. `get` answers status, a header and the body."""

    def __init__(self, rig):
        self.rig = rig
        self.before_answer = lambda: None


class WsgiWeb(Web):
    def __enter__(self):
        self.client = assent.Client(self.rig.coordinator.address, assent.ClientOptions(decision_patience=2))
        application = WsgiMiddleware(self.client, self.application)
        self.server = make_server("127.0.0.1", 0, application, handler_class=Quiet)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        self.client.close()

    def application(self, environ, start_response):
        if tx := assent.current_transaction():
            connection = self.rig.payments.connect()
            tx.branch("payments", connection, release=lambda it: it.open and it.close()).execute(take())
        if environ["PATH_INFO"] == "/raise":
            raise ZeroDivisionError
        self.before_answer()
        write = start_response(STATUSES[environ["PATH_INFO"]], [("X-Trace", propagation.current_traceparent())])
        write(b"pa")
        yield b"id"

    def get(self, path, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=30)
        connection.putrequest("GET", path)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        answer = response.status, response.headers["X-Trace"], response.read()
        connection.close()
        return answer


class AsgiWeb(Web):
    """In a loop of its own, on a thread of its own; called as a server calls it."""

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.client = self.run(self.make_client())
        return self

    async def make_client(self):
        return aio.AsyncClient(self.rig.coordinator.address, assent.ClientOptions(decision_patience=2))

    def __exit__(self, *_):
        self.run(self.client.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def run(self, work):
        # A request does not come with the caller's context.
        return Context().run(asyncio.run_coroutine_threadsafe, work, self.loop).result(60)

    async def application(self, scope, receive, send):
        if tx := assent.current_transaction():
            connection = await aiomysql.connect(
                host="127.0.0.1", port=self.rig.payments.port, user="root", password=self.rig.payments.password
            )
            branch = await tx.branch("payments", connection, release=lambda it: it.close())
            await branch.execute(take())
        if scope["path"] == "/raise":
            raise ZeroDivisionError
        self.before_answer()
        trace = propagation.current_traceparent().encode()
        status = int(STATUSES[scope["path"]].split()[0])
        await send({"type": "http.response.start", "status": status, "headers": [(b"x-trace", trace)]})
        await send({"type": "http.response.body", "body": b"pa", "more_body": True})
        await send({"type": "http.response.body", "body": b"id"})

    def get(self, path, headers):
        scope = {"type": "http", "path": path, "headers": [(key.lower().encode(), it.encode()) for key, it in headers]}
        sent = []

        async def send(message):
            sent.append(message)

        try:
            self.run(AsgiMiddleware(self.client, self.application)(scope, None, send))
        except ZeroDivisionError:
            assert not sent
            return 500, None, b""
        trace = dict(sent[0]["headers"]).get(b"x-trace")
        return (
            sent[0]["status"],
            None if trace is None else trace.decode(),
            b"".join(message["body"] for message in sent[1:]),
        )


@pytest.fixture(params=[WsgiWeb, AsgiWeb])
def web(request, rig):
    with request.param(rig) as made:
        yield made


@pytest.fixture
def begun(rig, client):
    """A transaction with a branch of the caller's own."""
    with client.transaction() as tx:
        tx.branch("orders", rig.orders.connect()).execute(take())
        yield tx


def current():
    return list(propagation.current_headers().items())


def test_a_handler_runs_as_a_part_by_itself(rig, client, web):
    with client.transaction() as tx, propagation.with_traceparent(TRACE):
        tx.branch("orders", rig.orders.connect()).execute(take())
        assert web.get("/pay", current()) == (200, TRACE, b"paid")
        assert len(rig.payments.prepared()) == 1
    assert rig.taken("orders") == rig.taken("payments") == 1
    assert web.get("/pay", current()) == (200, "", b"paid")
    assert rig.taken("payments") == 1


def test_the_caller_changes_its_mind_after_the_answer(rig, begun, web):
    assert web.get("/pay", current())[0] == 200
    begun.rollback()
    wait_for(rig.nothing_prepared, "the rollback", 10)
    assert rig.taken("payments") == 0


@pytest.mark.parametrize(("path", "status"), [("/teapot", 418), ("/raise", 500)])
def test_a_handler_that_fails_takes_all_with_it(rig, begun, web, path, status, capfd):
    assert web.get(path, current())[0] == status
    assert rig.nothing_prepared()
    with pytest.raises(assent.TransactionRolledBack, match="the handler failed"):
        begun.commit()
    assert rig.taken("orders") + rig.taken("payments") == 0


def test_a_vote_that_does_not_count(rig, begun, web):
    web.before_answer = begun.rollback
    status, trace, body = web.get("/pay", current())
    assert (status, trace) == (409, None)
    assert b"GLOBAL_ROLLED_BACK" in body
    assert rig.nothing_prepared()


def test_the_coordinator_is_away_at_the_vote(rig, begun, web):
    web.before_answer = rig.coordinator.kill9
    status, _, body = web.get("/pay", current())
    assert status == 503
    assert b"OUTCOME_IN_DOUBT" in body
    rig.coordinator.start()
    begun.rollback()


@pytest.mark.parametrize("gtrids", [["no gtrid!"], [""], ["py-1", "py-1"]])
def test_bad_headers(rig, web, gtrids):
    status, trace, _ = web.get("/pay", [("Assent-Gtrid", gtrid) for gtrid in gtrids])
    assert (status, trace) == (400, None)


def test_a_sole_participants_transaction_cannot_be_passed_on(client):
    with client.transaction(sole_participant=True), pytest.raises(assent.FailedPrecondition, match="sole_participant"):
        propagation.current_headers()


async def test_what_is_no_http_request_is_left_alone(rig):
    seen = []

    async def application(scope, receive, send):
        seen.append(scope["type"])

    async with aio.AsyncClient(rig.coordinator.address) as client:
        middleware = AsgiMiddleware(client, application)
        await middleware({"type": "lifespan"}, None, None)
        await middleware({"type": "websocket", "headers": [(b"assent-gtrid", b"py-1")]}, None, None)
    assert seen == ["lifespan", "websocket"]
