"""The app of test_celery.py, in its workers and in the test. CELERY_TEST (environment) tells where everything is."""

import json
import os
import threading
import time

import psycopg
import pymysql
import sqlalchemy as sa
from celery import Celery
from celery.exceptions import Retry

import assent
import assent.celery
from assent.sqlalchemy import enlist

PLACES = json.loads(os.environ["CELERY_TEST"])

app = Celery("bank", broker=PLACES["redis"], backend=PLACES["redis"])
app.conf.update(
    result_chord_join_timeout=30,
    broker_transport_options={"visibility_timeout": PLACES["visibility_timeout"]},
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
)


class Killer(assent.Hooks):
    """Kills the process, once, at the moment that the running task has said."""

    at = threading.local()

    def _reach(self, moment, gtrid):
        if getattr(self.at, "moment", "") == moment:
            once(moment, lambda: os.kill(os.getpid(), 9), gtrid)

    def on_branch_prepared(self, gtrid, bqual, vote):
        self._reach("prepared", gtrid)

    def on_voted(self, gtrid):
        self._reach("voting", gtrid)


client = assent.Client(PLACES["assentd"], assent.ClientOptions(hooks=[Killer()]))
transactions = assent.celery.Transactions(app, client, patience=2)


def once(name, do, gtrid=""):
    """The first time, in any process, for the transaction."""
    mark = os.path.join(PLACES["folder"], f"{name}-{gtrid or assent.current_transaction().gtrid}")
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    do()
    return True


def connect(resource):
    if resource == "stock":
        return psycopg.connect(PLACES["stock"], autocommit=True)
    return pymysql.connect(host="127.0.0.1", port=PLACES[resource], user="root", password="secret", autocommit=True)


def take_from(resource, amount, account=1):
    branch = assent.current_transaction().branch(resource, connect(resource), release=lambda made: made.close())
    branch.execute(f"UPDATE bank.accounts SET balance = balance - {amount} WHERE id = {account}")


@transactions.task(bind=True)
def take(self, resource, amount=1, trouble="", account=1):
    """Take from an account."""
    Killer.at.moment = trouble
    if trouble == "killed before":
        once(trouble, lambda: os.kill(os.getpid(), 9))
    take_from(resource, amount, account)
    if trouble == "fails":
        raise ValueError("no such account")
    if trouble in ("retried", "retry swallowed") and self.request.retries == 0:
        try:
            self.retry(countdown=0)
        except Retry:
            if trouble == "retried":
                raise
    if trouble == "retry not thrown" and self.request.retries == 0:
        self.retry(countdown=0, throw=False)
    if trouble == "retried for ever":
        self.retry(countdown=0, max_retries=2, exc=ValueError("enough"))
    if trouble == "killed inside":
        once(trouble, lambda: os.kill(os.getpid(), 9))
    if trouble.startswith("slow"):
        time.sleep(float(trouble.split()[1]))
    return f"{resource} {amount}"


@transactions.task(autoretry_for=(assent.DatabaseFailed,), default_retry_delay=0)
def take_more_than_there_is_first(resource):
    """Fail in the database the first time; then do it with SQLAlchemy, and on two databases."""
    if once("first", lambda: None):
        take_from(resource, 1_000_000)
    tx = assent.current_transaction()
    for name in (resource, "orders"):
        engine = sa.create_engine("mysql+pymysql://", creator=lambda name=name: connect(name))
        with enlist(tx, name, engine) as connection:
            connection.exec_driver_sql("UPDATE bank.accounts SET balance = balance - 1 WHERE id = 1")


class Dying(assent.celery.PartTask):
    """Dies, the first time, after its vote and before the broker and the store of results hear of it."""

    abstract = True

    def __call__(self, *args, **kwargs):
        result = super().__call__(*args, **kwargs)
        mark = os.path.join(PLACES["folder"], f"died-{self.request.id}")
        if not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), 9)
        return result


@transactions.task(base=Dying)
def take_and_die(resource):
    """Take from account 1."""
    take_from(resource, 1)
    return "lost"


@app.task
def fail(kind):
    """Fail as a task does that runs a transaction of its own."""
    if kind == "in doubt":
        raise assent.OutcomeInDoubt("nobody knows", metadata={"gtrid": "py-1"})
    if kind == "refused by the transport":
        raise assent.FailedPrecondition("no", code=assent.errors.Code.FAILED_PRECONDITION)
    with client.transaction(sole_participant=True) as tx:
        tx.branch("orders", connect("orders")).execute("SELECT * FROM nowhere.nothing")
