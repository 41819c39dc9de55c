"""Two databases, atomic: an order on one, its payment on the other.

two_databases.py ASSENTD ORDERS_PORT PAYMENTS_PORT
"""

import os
import sys

import pymysql

import assent


def connect(port: str) -> "pymysql.Connection[pymysql.cursors.Cursor]":
    password = os.environ.get("SHOP_PASSWORD", "")
    return pymysql.connect(host="127.0.0.1", port=int(port), user="root", password=password, database="shop")


def main(assentd: str, orders_port: str, payments_port: str) -> None:
    # [ten lines]
    client = assent.Client(assentd)
    orders, payments = connect(orders_port), connect(payments_port)
    try:
        with client.transaction(sole_participant=True) as tx:
            tx.branch("orders", orders).execute("INSERT INTO orders VALUES (%s, %s, %s)", (1, "laptop", 800))
            tx.branch("payments", payments).execute("UPDATE accounts SET balance = balance - %s WHERE id = 1", (800,))
        print("committed")
    except assent.Aborted as why:
        print("rolled back, do it again if that helps:", why)
    # [ten lines]
    client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
