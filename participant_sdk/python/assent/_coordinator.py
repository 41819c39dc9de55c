"""CoordinatorConnection: calls to the coordinator over gRPC, repeated while it is away."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import grpc

from assent._core.calls import CHANNEL_OPTIONS, RESPONSES, SERVICE, CallLoop, Instances, is_wait_over, says_away
from assent._core.effects import Call
from assent.errors import CoordinatorUnreachable, from_rpc_error


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
                raise CoordinatorUnreachable("the client has been closed")
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
            method = self._method(attempt.instance, call.method)
            self.attempts += 1
            try:
                response = method(call.request, timeout=attempt.timeout, wait_for_ready=attempt.wait_for_ready)
            except grpc.RpcError as error:
                pause = loop.failed(from_rpc_error(error), time.monotonic())
            else:
                if says_away(response):
                    self.instances.leave(attempt.instance)
                return response
            if pause:
                time.sleep(pause)

    def close(self) -> None:
        """Close the channels, which ends the calls of other threads."""
        with self._lock:
            self._closed = True
            if self._owner == os.getpid():
                for channel in self._channels.values():
                    channel.close()
            self._channels = {}
            self._methods = {}
