"""The second of three services: pays orders in the transaction of its caller, and has the goods reserved in it, too.

payments_service.py ASSENTD PAYMENTS_PORT PASSWORD_FILE STOCK_SERVICE LISTEN
"""

import queue
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pymysql
from google.protobuf.wrappers_pb2 import StringValue

import assent
from assent.interceptors import ClientInterceptor, ServerInterceptor

THREADS = 4


def main(assentd: str, payments_port: str, password_file: str, stock_service: str, listen: str) -> None:
    password = Path(password_file).read_text().strip()

    def connect() -> Any:
        return pymysql.connect(
            host="127.0.0.1", port=int(payments_port), user="root", password=password, autocommit=True
        )

    pool: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def take() -> Any:
        try:
            connection = pool.get_nowait()
            connection.ping(reconnect=False)
        except (queue.Empty, pymysql.err.Error):
            return connect()
        return connection

    def give_back(connection: Any) -> None:
        if connection.open:
            pool.put(connection)

    stock = grpc.intercept_channel(grpc.insecure_channel(stock_service), ClientInterceptor()).unary_unary(
        "/chain.Stock/Reserve", StringValue.SerializeToString, StringValue.FromString
    )

    def pay(order: StringValue, context: grpc.ServicerContext) -> StringValue:
        tx = assent.current_transaction()
        if tx is None:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "an order is paid in a transaction only")
        branch = tx.branch("payments", take(), release=give_back)
        branch.execute("INSERT INTO chain.ledger VALUES (%s)", (int(order.value),))
        return stock(order, timeout=5)

    client = assent.Client(assentd)
    server = grpc.server(ThreadPoolExecutor(THREADS), interceptors=[ServerInterceptor(client)])
    method = grpc.unary_unary_rpc_method_handler(pay, StringValue.FromString, StringValue.SerializeToString)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("chain.Payments", {"Pay": method})])
    if not server.add_insecure_port(listen):
        sys.exit(f"cannot listen on {listen}")
    server.start()
    print("listening", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
