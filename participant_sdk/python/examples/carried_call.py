"""Two services, atomic: an order here, its payment in a gRPC service that takes part by itself.

carried_call.py ASSENTD ORDERS_PORT PAYMENTS_PORT
"""

import os
import queue
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pymysql

import assent
from assent.interceptors import ClientInterceptor, ServerInterceptor


def connect(port: str) -> Any:
    password = os.environ.get("SHOP_PASSWORD", "")
    return pymysql.connect(host="127.0.0.1", port=int(port), user="root", password=password, database="shop")


def serve(assentd: str, payments_port: str) -> tuple[grpc.Server, assent.Client, str]:
    pool: queue.SimpleQueue[Any] = queue.SimpleQueue()
    pool.put(connect(payments_port))

    def give_back(connection: Any) -> None:
        pool.put(connection if connection.open else connect(payments_port))

    # [service]
    def pay(request: bytes, context: grpc.ServicerContext) -> bytes:
        tx = assent.current_transaction()
        branch = tx.branch("payments", pool.get(), release=give_back)
        branch.execute("UPDATE accounts SET balance = balance - %s WHERE id = 1", (int(request),))
        return b"paid"

    client = assent.Client(assentd)
    server = grpc.server(ThreadPoolExecutor(), interceptors=[ServerInterceptor(client)])
    # [service]
    method = {"Pay": grpc.unary_unary_rpc_method_handler(pay)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Payments", method)])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    return server, client, address


def order(client: assent.Client, orders: Any, address: str) -> None:
    # [caller]
    channel = grpc.intercept_channel(grpc.insecure_channel(address), ClientInterceptor())
    pay = channel.unary_unary("/Payments/Pay")
    try:
        with client.transaction() as tx:
            tx.branch("orders", orders).execute("INSERT INTO orders VALUES (%s, %s, %s)", (1, "laptop", 800))
            pay(b"800")
        print("committed")
    except (assent.Aborted, grpc.RpcError) as why:
        print("rolled back:", why)
    # [caller]


def main(assentd: str, orders_port: str, payments_port: str) -> None:
    server, of_server, address = serve(assentd, payments_port)
    with assent.Client(assentd) as client:
        order(client, connect(orders_port), address)
    server.stop(None).wait()
    of_server.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
