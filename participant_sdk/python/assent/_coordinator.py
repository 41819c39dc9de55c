"""CoordinatorConnection: calls to the coordinator over gRPC, repeated while it is away."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from typing import Any

import grpc

from assent import _deputy
from assent._core.calls import (
    CHANNEL_OPTIONS,
    RESPONSES,
    SERVICE,
    Attempt,
    CallLoop,
    Instances,
    is_wait_over,
    says_away,
)
from assent._core.effects import Call
from assent.errors import CLIENT_CLOSED, CoordinatorUnreachable, from_rpc_error


class CoordinatorConnection:
    """Thread-safe. Connects at the first call, and anew in a forked process."""

    def __init__(self, addresses: str, credentials: grpc.ChannelCredentials | None) -> None:
        self.instances = Instances(addresses)
        self.attempts = 0
        """Made so far, answered or not; for metrics and benchmarks."""
        self._credentials = credentials
        self._lock = threading.Lock()
        self._channels: dict[int, grpc.Channel] = {}
        self._methods: dict[tuple[int, str], Any] = {}
        self._owner = os.getpid()
        self._closed = False

    def _method(self, instance: int, name: str) -> Any:
        if self._owner == os.getpid() and (method := self._methods.get((instance, name))):
            return method
        with self._lock:
            if self._closed:
                raise CoordinatorUnreachable(CLIENT_CLOSED)
            if self._owner != os.getpid():
                self._owner = os.getpid()
                self._channels = {}
                self._methods = {}
            channel = self._channels.get(instance)
            if channel is None:
                address = self.instances.addresses[instance]
                channel = (
                    grpc.secure_channel(address, self._credentials, CHANNEL_OPTIONS)
                    if self._credentials
                    else grpc.insecure_channel(address, CHANNEL_OPTIONS)
                )
                self._channels[instance] = channel
            request, response = RESPONSES[name]
            method = channel.unary_unary(
                SERVICE + name, request_serializer=request.SerializeToString, response_deserializer=response.FromString
            )
            self._methods[instance, name] = method
            return method

    def call(self, call: Call) -> Any:
        """See Call."""
        give_up = time.monotonic() + call.patience
        while True:
            response = self._call_once(call, give_up)
            over = not call.waits or is_wait_over(call.request.wait, response.status)
            if over or time.monotonic() >= give_up:
                return response

    def _call_once(self, call: Call, give_up: float) -> Any:
        loop = CallLoop(self.instances, give_up)
        while True:
            attempt = loop.next(time.monotonic())
            self.attempts += 1
            answer = _deputy.do(partial(self._make, call, attempt))
            if not isinstance(answer, Exception):
                if says_away(answer):
                    self.instances.leave(attempt.instance)
                return answer
            if not isinstance(answer, grpc.RpcError):
                raise answer
            if pause := loop.failed(from_rpc_error(answer), time.monotonic()):
                time.sleep(pause)

    def _make(self, call: Call, attempt: Attempt) -> Any:
        """Return the response, or the exception."""
        try:
            method = self._method(attempt.instance, call.method)
            return method(call.request, timeout=attempt.timeout, wait_for_ready=attempt.wait_for_ready)
        except Exception as error:
            return error

    def close(self) -> None:
        """Close the channels, which ends the calls of other threads."""
        with self._lock:
            self._closed = True
            if self._owner == os.getpid():
                for channel in self._channels.values():
                    channel.close()
            self._channels = {}
            self._methods = {}
