"""A service that takes from an account on payments, sync and asyncio: what calls in tests carry transactions to.

As a program: services.py sync|aio PORT_FILE COORDINATOR PAYMENTS_PORT
"""

import asyncio
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiomysql
import grpc
import grpc.aio
import pymysql

import assent
from assent import aio, propagation
from assent.interceptors import AioServerInterceptor, ServerInterceptor

TAKE = "UPDATE bank.accounts SET balance = balance - 1 WHERE id = 1"
DUPLICATE = "INSERT INTO bank.accounts VALUES (1, 0)"
OPTIONS = assent.ClientOptions(decision_patience=2)


class Service:
    """What both have in common. `calls` counts what has reached the handler; `before_answer` runs at its end."""

    def __init__(self, coordinator, port):
        self.coordinator = coordinator
        self.connection = {"host": "127.0.0.1", "port": port, "user": "root", "password": "secret", "autocommit": True}
        self.calls = self.released = 0
        self.before_answer = lambda: None
        self.address = ""

    def release(self, connection):
        self.released += 1
        connection.close()

    def answer(self):
        self.before_answer()
        return propagation.current_traceparent().encode() or b"paid"

    def handlers(self):
        methods = {
            "Pay": grpc.unary_unary_rpc_method_handler(self.pay),
            "Blocking": grpc.unary_unary_rpc_method_handler(lambda request, context: b"blocking"),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch),
        }
        return [grpc.method_handlers_generic_handler("Payments", methods)]


class SyncService(Service):
    def start(self):
        self.client = assent.Client(self.coordinator, OPTIONS)
        self.server = grpc.server(ThreadPoolExecutor(8), self.handlers(), [ServerInterceptor(self.client)])
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def stop(self):
        self.server.stop(0).wait()
        self.client.close()

    def pay(self, request, context):
        self.calls += 1
        if tx := assent.current_transaction():
            connection = pymysql.connect(**self.connection)
            branch = tx.branch("payments", connection, release=self.release)
            branch.execute(TAKE)
            if request == b"duplicate":
                branch.execute(DUPLICATE)
        if request == b"slow":
            time.sleep(1)
        if request == b"raise":
            raise ZeroDivisionError
        if request == b"abort":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such account")
        if request == b"code":
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details("no such account")
        return self.answer()

    def watch(self, request, context):
        yield b"one"
        yield b"two"


class AioService(Service):
    """In a loop of its own, on a thread of its own."""

    def start(self):
        started = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve(started)))
        self.thread.start()
        started.wait()

    async def serve(self, started):
        self.loop, self.stopped = asyncio.get_running_loop(), asyncio.Event()
        async with aio.AsyncClient(self.coordinator, OPTIONS) as client:
            server = grpc.aio.server(ThreadPoolExecutor(1), self.handlers(), [AioServerInterceptor(client)])
            self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            await server.start()
            started.set()
            await self.stopped.wait()
            await server.stop(0)

    def stop(self):
        self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join()

    async def pay(self, request, context):
        self.calls += 1
        if tx := assent.current_transaction():
            connection = await aiomysql.connect(**self.connection)
            branch = await tx.branch("payments", connection, release=self.release)
            await branch.execute(TAKE)
            if request == b"duplicate":
                await branch.execute(DUPLICATE)
        if request == b"slow":
            await asyncio.sleep(60)
        if request == b"raise":
            raise ZeroDivisionError
        if request == b"abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such account")
        if request == b"code":
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details("no such account")
        return self.answer()

    async def watch(self, request, context):
        yield b"one"
        yield b"two"


KINDS = {"sync": SyncService, "aio": AioService}


def main(kind, port_file, coordinator, port):
    service = KINDS[kind](coordinator, int(port))
    service.start()
    Path(port_file + ".new").write_text(service.address)
    os.rename(port_file + ".new", port_file)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
