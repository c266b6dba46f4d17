"""The machine's product, staff, clock and gateway."""

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone

from oscar_bitsby.accounting import ledger
from oscar_bitsby.gateway import buyer_queue, rate_limit
from oscar_bitsby.gateway.transport import Transport
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, GatewayState, WebhookDelivery
from oscar_bitsby.orders import transitions
from tests.machine.common import STOCK, Order, StockRecord
from tests.machine.shop_machine import Shop


class Time:
    """Stands in for the module ``time`` where the app waits."""

    @staticmethod
    def sleep(seconds):
        Shop.running.clock.sleep(seconds)

    @staticmethod
    def monotonic():
        return Shop.running.clock.monotonic()


def now():
    return Shop.running.clock.now()


def post(transport, path, fields):
    return Shop.running.wire.post(transport, path, fields)


@pytest.fixture
def connected_app(db, monkeypatch, product):
    """Connect the app to the machine that runs: its product, staff, clock and gateway."""
    real_now, real_release = timezone.now, transitions.release_order

    def release_order(order):
        real_release(order)
        try:
            Shop.running.on_released(order)
        except AssertionError as error:
            # A run would log it and go on with the next order.
            Shop.running.wire.broken.append(str(error))

    for kind in (BitsbyInvoice, BitsbyPayment, WebhookDelivery):
        for field in kind._meta.fields:
            if field.default is real_now:
                # The field has kept the function that was there before the clock was replaced.
                monkeypatch.setitem(field.__dict__, "_get_default", now)
    monkeypatch.setattr(timezone, "now", now)
    for module in (rate_limit, buyer_queue):
        monkeypatch.setattr(module, "db_now", now)
        monkeypatch.setattr(module, "time", Time)
    monkeypatch.setattr("oscar_bitsby.utils.clock._server_time", lambda alias: now())
    monkeypatch.setattr("oscar_bitsby.gateway.client.time", Time)
    monkeypatch.setattr(transitions, "release_order", release_order)
    monkeypatch.setattr(Transport, "post", post)
    # A cancelled order may be reinstated, and a paid one asked for the rest.
    back = {"Cancelled": ("Being processed",), "Being processed": ("Cancelled", "Pending")}
    pipeline = Order.pipeline | back
    monkeypatch.setattr(Order, "pipeline", pipeline)
    # Made before the histories, since each of these is rolled back.
    ledger.source_type()
    stock = product.stockrecords.get()
    StockRecord.objects.filter(pk=stock.pk).update(num_in_stock=STOCK)
    monkeypatch.setattr(Shop, "stock_pk", stock.pk)
    staff = get_user_model().objects.create(username="staff", is_staff=True)
    monkeypatch.setattr(Shop, "staff", staff)
    GatewayState.objects.all().delete()


@pytest.fixture
def shop(connected_app):
    """A machine for a history that a test writes out step by step."""
    shop = Shop()
    yield shop
    shop.close()
