"""A shop in Django on the rig's servers: MariaDB (mysqlclient) and PostgreSQL (Psycopg 3)."""

import django
import pytest
from django.conf import settings
from django.db import connections, models

settings.configure(INSTALLED_APPS=[], USE_TZ=True, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField")
django.setup()


class Order(models.Model):
    what = models.CharField(max_length=40, unique=True)

    class Meta:
        app_label = "shop"
        db_table = "dj_order"


class Line(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE)
    pieces = models.IntegerField()

    class Meta:
        app_label = "shop"
        db_table = "dj_line"


def database(server, **more):
    place = {"HOST": "127.0.0.1", "PORT": server.port, "USER": server.user_name, "PASSWORD": server.password}
    engine = "postgresql" if server.database else "mysql"
    name = server.database or "bank"
    return {"ENGINE": f"django.db.backends.{engine}", "NAME": name, **place, **more}


@pytest.fixture(scope="module")
def _configured(the_rig):
    settings.DATABASES = {
        "default": {},
        "orders": database(the_rig.orders),
        "payments": database(the_rig.payments, CONN_HEALTH_CHECKS=True),
        "stock": database(the_rig.stock),
        "strict": database(the_rig.stock, OPTIONS={"isolation_level": 4}),
    }
    for alias in ("orders", "payments", "stock"):
        with connections[alias].schema_editor() as editor:
            for model in (Order, Line):
                editor.create_model(model)
    yield
    for alias in ("orders", "payments", "stock"):
        with connections[alias].schema_editor() as editor:
            for model in (Line, Order):
                editor.delete_model(model)
    connections.close_all()


@pytest.fixture(params=["payments", "stock"])
def second(request):
    return request.param


@pytest.fixture(autouse=True)
def _clean(rig, _configured):
    for alias in ("orders", "payments", "stock"):
        connections[alias].close()
        Line.objects.using(alias).all().delete()
        Order.objects.using(alias).all().delete()
    yield
    for alias in ("orders", "payments", "stock"):  # As Django knows it, whatever has happened.
        wrapper = connections[alias]
        assert wrapper.get_autocommit()
        assert not wrapper.in_atomic_block
        assert not {"create_cursor", "_commit", "_rollback", "_close", "_set_autocommit"} & set(vars(wrapper))
        Order.objects.using(alias).create(what="afterwards")
        assert names(rig, alias)[-1:] == ["afterwards"]


def names(rig, alias):
    """As others see it."""
    table = "public.dj_order" if alias == "stock" else "bank.dj_order"
    return [row[0] for row in rig.servers[alias].query(f"SELECT what FROM {table} ORDER BY id")]


def create(alias, what="laptop"):
    return Order.objects.using(alias).create(what=what)


def kill(rig, alias, number):
    rig.servers[alias].query(f"SELECT pg_terminate_backend({number})" if alias == "stock" else f"KILL {number}")


def number_of(alias):
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()" if alias == "stock" else "SELECT CONNECTION_ID()")
        return cursor.fetchone()[0]
