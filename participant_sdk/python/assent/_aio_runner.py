"""Runs the core's generators, and does what they ask for, in the client's event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import grpc
import grpc.aio

from assent._core.calls import CHANNEL_OPTIONS, RESPONSES, SERVICE, CallLoop, Instances, is_wait_over, says_away
from assent._core.effects import Answer, Call, Core, Effect, Exchange, RenewReservation, Report, Sleep
from assent._core.reporting import ATTEMPT, FLUSH_PATIENCE, LINGER, MAX_WAITING, PAUSE, ReportQueue
from assent._core.reservation import Reservation
from assent.errors import AssentError, SessionHoldsBranch, from_rpc_error
from assent.v1 import coordinator_service_pb2 as pb

T = TypeVar("T")
logger = logging.getLogger("assent")


async def exchange(batches: Sequence[tuple[Any, Sequence[str]]]) -> list[Answer]:
    """Send to all and read from all, at once. If that is cancelled, all of these connections are closed."""
    try:
        if len(batches) == 1:
            wire, statements = batches[0]
            return [await wire.exchange(statements)]
        # All of them end before any is closed: a loop must not watch what is closed, also when it is cancelled.
        answers: list[Any] = await asyncio.gather(
            *(wire.exchange(statements) for wire, statements in batches), return_exceptions=True
        )
        if failed := next((answer for answer in answers if isinstance(answer, BaseException)), None):
            raise failed
        return answers
    except BaseException:
        for wire, _ in batches:
            wire.shutdown()
        raise


class AsyncRunner:
    """Of one client, with its connection to the coordinator and what is to be reported there."""

    def __init__(self, addresses: str, credentials: grpc.ChannelCredentials | None, reservation: Reservation) -> None:
        self.calls_sent = 0
        self._instances = Instances(addresses)
        self._credentials = credentials
        self._reservation = reservation
        self._renewing = asyncio.Lock()
        self._channels: dict[int, Any] = {}
        self._methods: dict[tuple[int, str], Any] = {}
        self._queue = ReportQueue()
        self._reported = asyncio.Event()
        self._hurried = asyncio.Event()
        self._reporter: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._owner = os.getpid()

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it as a task of its own."""
        task = asyncio.create_task(work, name="assent-voted")
        self._background.add(task)  # The loop alone would let go of it.
        task.add_done_callback(self._background.discard)

    async def run(self, core: Core[T]) -> T:
        """Run a piece of the protocol to its end."""
        try:
            effect = next(core)
            while True:
                try:
                    result = await self._do(effect)
                except BaseException as error:
                    effect = core.throw(error)
                else:
                    effect = core.send(result)
        except StopIteration as end:
            value: T = end.value
            return value

    async def _do(self, effect: Effect) -> Any:
        if isinstance(effect, Exchange):
            return await exchange(effect.batches)
        if isinstance(effect, Call):
            return await self.call(effect)
        if isinstance(effect, Report):
            return await self._report(effect.completions, effect.awaited)
        if isinstance(effect, RenewReservation):
            async with self._renewing:
                if not self._reservation.is_current(effect.resource):
                    await self.run(self._reservation.renew(effect.resource, effect.patience))
            return None
        assert isinstance(effect, Sleep)
        return await asyncio.sleep(effect.seconds)

    def _method(self, instance: int, name: str) -> Any:
        if self._owner != os.getpid():
            raise SessionHoldsBranch(
                f"this asyncio client belongs to process {self._owner}, and this one was forked off it: "
                "make a client of its own here"
            )
        if method := self._methods.get((instance, name)):
            return method
        channel = self._channels.get(instance)
        if channel is None:
            address = self._instances.addresses[instance]
            channel = (
                grpc.aio.secure_channel(address, self._credentials, CHANNEL_OPTIONS)
                if self._credentials
                else grpc.aio.insecure_channel(address, CHANNEL_OPTIONS)
            )
            self._channels[instance] = channel
        request, response = RESPONSES[name]
        method = channel.unary_unary(
            SERVICE + name, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        self._methods[instance, name] = method
        return method

    async def call(self, call: Call) -> Any:
        """See Call."""
        give_up = time.monotonic() + call.patience
        while True:
            response = await self._call_once(call, give_up)
            over = not call.waits or is_wait_over(call.request.wait, response.status)
            if over or time.monotonic() >= give_up:
                return response

    async def _call_once(self, call: Call, give_up: float) -> Any:
        loop = CallLoop(self._instances, give_up)
        while True:
            attempt = loop.next(time.monotonic())
            method = self._method(attempt.instance, call.method)
            self.calls_sent += 1
            try:
                response = await method(call.request, timeout=attempt.timeout, wait_for_ready=attempt.wait_for_ready)
            except grpc.RpcError as error:
                pause = loop.failed(from_rpc_error(error), time.monotonic())
            else:
                if says_away(response):
                    self._instances.leave(attempt.instance)
                return response
            if pause:
                await asyncio.sleep(pause)

    async def _report(self, completions: list[pb.Completion], awaited: bool) -> None:
        while len(self._queue) >= MAX_WAITING:
            await asyncio.sleep(PAUSE)
        self._queue.add(completions, awaited)
        self._reported.set()
        if awaited:
            self._hurried.set()
        if self._reporter is None or self._reporter.done():
            self._reporter = asyncio.create_task(self._report_all(), name="assent-completions")

    async def _report_all(self) -> None:
        while True:
            await self._reported.wait()
            if self._queue.may_linger:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._hurried.wait(), LINGER)
            self._reported.clear()
            self._hurried.clear()
            while len(self._queue):
                batch = self._queue.batch()
                answer: pb.CompletedResponse | AssentError
                try:
                    answer = await self.call(Call("Completed", batch, ATTEMPT))
                except AssentError as error:
                    answer = error
                if self._queue.take(batch, answer):
                    await asyncio.sleep(PAUSE)

    async def flush(self, patience: float) -> bool:
        """Wait until everything reported so far has been answered; False if it was not."""
        give_up = time.monotonic() + patience
        goal = self._queue.hurry()
        self._hurried.set()
        while self._queue.answered < goal and time.monotonic() < give_up:
            await asyncio.sleep(LINGER)
        return self._queue.answered >= goal

    async def close(self) -> None:
        """Wait some seconds for what runs in the background, flush as long, and disconnect."""
        if running := list(self._background):
            await asyncio.wait(running, timeout=FLUSH_PATIENCE)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        if not await self.flush(FLUSH_PATIENCE):
            logger.warning("completions could not be reported; the coordinator will find them out at the databases")
        if self._reporter:
            self._reporter.cancel()
        for channel in self._channels.values():
            await channel.close()
        self._channels, self._methods = {}, {}
