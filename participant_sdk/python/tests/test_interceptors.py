"""gRPC calls that carry a transaction, to a sync and to an asyncio server."""

import subprocess
import sys
from pathlib import Path

import grpc
import grpc.aio
import pytest
from conftest import take
from servers import wait_for
from services import KINDS

import assent
from assent import aio, propagation
from assent.errors import from_rpc_error
from assent.interceptors import AioClientInterceptor, ClientInterceptor

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(params=KINDS)
def service(request, rig):
    made = KINDS[request.param](rig.coordinator.address, rig.payments.port)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def channel(service):
    with grpc.insecure_channel(service.address) as channel:
        yield grpc.intercept_channel(channel, ClientInterceptor())


@pytest.fixture
def pay(channel):
    call = channel.unary_unary("/Payments/Pay")
    return lambda request=b"pay", timeout=30: call(request, timeout=timeout)


def told_by(call, *args, **kwargs) -> assent.AssentError:
    """Call, and return the error that crosses the wire."""
    with pytest.raises(grpc.RpcError) as failed:
        call(*args, **kwargs)
    return from_rpc_error(failed.value)


def expect_rolled_back(rig, tx):
    with pytest.raises(assent.TransactionRolledBack):
        tx.commit()
    assert rig.taken("orders") + rig.taken("payments") == 0


@pytest.fixture
def begun(rig, client):
    """A transaction with a branch of the caller's own."""
    with client.transaction() as tx:
        tx.branch("orders", rig.orders.connect()).execute(take())
        yield tx
        if not tx._core.concluded:
            tx.rollback()


def test_a_handler_runs_as_a_part_by_itself(rig, client, pay):
    with client.transaction() as tx, propagation.with_traceparent(TRACE):
        tx.branch("orders", rig.orders.connect()).execute(take())
        assert pay() == TRACE.encode()
        assert len(rig.payments.prepared()) == 1
    assert tx.outcome is assent.TransactionOutcome.COMMITTED
    assert rig.taken("orders") == rig.taken("payments") == 1
    assert pay() == b"paid"
    assert rig.taken("payments") == 1


def test_the_caller_changes_its_mind_after_the_answer(rig, begun, pay):
    pay()
    begun.rollback()
    wait_for(rig.nothing_prepared, "the rollback", 10)
    assert rig.taken("payments") == 0


@pytest.mark.parametrize("request_", [b"raise", b"abort", b"code"])
def test_a_handler_that_fails_takes_all_with_it(rig, begun, pay, request_):
    error = told_by(pay, request_)
    if request_ == b"raise":
        assert error.code is assent.Code.UNKNOWN
    else:
        assert (error.code, error.message) == (assent.Code.NOT_FOUND, "no such account")
    assert rig.nothing_prepared()
    expect_rolled_back(rig, begun)


def test_what_the_handlers_database_says_crosses_the_wire(rig, begun, pay):
    error = told_by(pay, b"duplicate")
    assert error.reason is assent.Reason.DATABASE_ERROR
    assert error.metadata["error_code"] == "1062"
    expect_rolled_back(rig, begun)


def test_a_vote_that_does_not_count(rig, begun, service, pay):
    service.before_answer = begun.rollback
    error = told_by(pay)
    assert isinstance(error, assent.TransactionRolledBack)
    assert error.metadata["gtrid"] == begun.gtrid
    assert rig.nothing_prepared()


def test_the_coordinator_is_away_at_the_vote(rig, begun, service, pay):
    service.before_answer = rig.coordinator.kill9
    assert told_by(pay).reason is assent.Reason.OUTCOME_IN_DOUBT
    rig.coordinator.start()
    begun.rollback()


def test_a_caller_that_does_not_wait(rig, begun, service, pay):
    assert told_by(pay, b"slow", timeout=0.5).code is assent.Code.DEADLINE_EXCEEDED
    begun.rollback()
    wait_for(lambda: service.released == 1, "the release of the connection", 10)
    assert rig.nothing_prepared()
    assert rig.taken("payments") == 0


@pytest.mark.parametrize("gtrids", [["no gtrid!"], ["x" * 65], ["py-1", "py-1"]])
def test_bad_metadata(service, channel, gtrids):
    metadata = [("assent-gtrid", gtrid) for gtrid in gtrids]
    error = told_by(channel.unary_unary("/Payments/Pay"), b"pay", metadata=metadata)
    assert error.code is assent.Code.INVALID_ARGUMENT
    assert error.reason is (assent.Reason.INVALID_GTRID if len(gtrids) == 1 else None)
    assert service.calls == 0


def test_a_sole_participants_transaction_is_not_sent(client, service, pay):
    with client.transaction(sole_participant=True), pytest.raises(assent.FailedPrecondition, match="sole_participant"):
        pay()
    assert service.calls == 0


def test_a_transaction_of_nobody(service, channel):
    error = told_by(channel.unary_unary("/Payments/Pay"), b"pay", metadata=[("assent-gtrid", "py-nobody")])
    assert error.reason is assent.Reason.GLOBAL_NOT_FOUND


def test_a_streaming_method_cannot_take_part(service, channel):
    watch = channel.unary_stream("/Payments/Watch")
    assert list(watch(b"")) == [b"one", b"two"]
    error = told_by(lambda: list(watch(b"", metadata=[("assent-gtrid", "py-1")])))
    assert error.code is assent.Code.UNIMPLEMENTED


@pytest.mark.parametrize("service", ["aio"], indirect=True)
def test_a_blocking_handler_of_an_asyncio_server_cannot_take_part(service, channel):
    blocking = channel.unary_unary("/Payments/Blocking")
    assert blocking(b"") == b"blocking"
    assert told_by(blocking, b"", metadata=[("assent-gtrid", "py-1")]).code is assent.Code.UNIMPLEMENTED


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("commits", [True, False])
def test_the_service_is_killed_after_its_vote(rig, client, kind, commits, tmp_path):
    port_file = tmp_path / "address"
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("services.py"), kind, port_file, rig.coordinator.address,
         str(rig.payments.port)]
    )  # fmt: skip
    try:
        wait_for(port_file.exists, "the service", 30)
        with (
            client.transaction() as tx,
            grpc.insecure_channel(port_file.read_text()) as plain,
        ):
            tx.branch("orders", rig.orders.connect()).execute(take())
            grpc.intercept_channel(plain, ClientInterceptor()).unary_unary("/Payments/Pay")(b"pay", timeout=30)
            process.kill()
            process.wait()
            if not commits:
                tx.rollback()
    finally:
        process.kill()
        process.wait()
    wait_for(rig.nothing_prepared, "recovery", 40)
    assert rig.taken("orders") == rig.taken("payments") == commits


async def test_an_asyncio_caller(rig, service):
    async with (
        aio.AsyncClient(rig.coordinator.address) as client,
        grpc.aio.insecure_channel(service.address, interceptors=[AioClientInterceptor()]) as channel,
    ):
        pay = channel.unary_unary("/Payments/Pay")
        with propagation.with_traceparent(TRACE):
            async with client.transaction() as tx:
                assert await pay(b"pay", timeout=30) == TRACE.encode()
        assert tx.outcome is assent.TransactionOutcome.COMMITTED
        assert rig.taken("payments") == 1
        with pytest.raises(grpc.RpcError) as failed:
            async with client.transaction() as tx:
                await pay(b"raise", timeout=30)
        assert from_rpc_error(failed.value).code is assent.Code.UNKNOWN
        assert tx.outcome is assent.TransactionOutcome.ROLLED_BACK
        calls = service.calls
        with pytest.raises(assent.FailedPrecondition, match="sole_participant"):
            async with client.transaction(sole_participant=True):
                await pay(b"pay", timeout=30)
        assert service.calls == calls
        assert await pay(b"pay", timeout=30) == b"paid"
    assert rig.taken("payments") == 1
