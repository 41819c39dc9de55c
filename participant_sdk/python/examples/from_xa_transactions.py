"""A program in the shapes of the package xa-transactions, over Assent.

from_xa_transactions.py ASSENTD ORDERS_PORT PAYMENTS_PORT
"""

import sys

import pymysql
from two_databases import connect

import assent
from assent.xa_transactions import Coordinator, XAAdapter


def main(assentd: str, orders_port: str, payments_port: str) -> None:
    # [example]
    store = assent.Client(assentd)  # was: MySQLStore(connection)
    orders = XAAdapter(connect(orders_port), store, "orders")  # was: XAAdapter(connection)
    payments = XAAdapter(connect(payments_port), store, "payments")
    coordinator = Coordinator(orders, store)

    gtrid = coordinator.create_global(expected_branches=2)
    bquals = coordinator.create_branches(gtrid, count=2)
    try:
        with orders.branch_transaction(gtrid, bquals[0]):
            orders.execute("INSERT INTO orders VALUES (%s, %s, %s)", (1, "laptop", 800))
        with payments.branch_transaction(gtrid, bquals[1]):
            payments.execute("UPDATE accounts SET balance = balance - %s WHERE id = 1", (800,))
        coordinator.finalize(gtrid, decision="COMMIT")
        print("committed")
    except (assent.Aborted, pymysql.Error) as why:
        print("rolled back:", why)
    # [example]
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
