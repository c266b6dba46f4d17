"""The machine's goods, staff, clock and way to Bitsby."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone

from oscar_bitsby.accounting import ledger
from oscar_bitsby.gateway import rate_limit
from oscar_bitsby.gateway.transport import Transport
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, GatewayState, WebhookDelivery
from oscar_bitsby.orders import transitions
from tests.machine.common import STOCK, StockRecord
from tests.machine.shop import Shop


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
def wired(db, monkeypatch, product):
    """Give the machine its goods, its staff, its clock and its way to Bitsby."""
    real_now, real_give_back = timezone.now, transitions.release_order

    def give_back(order):
        real_give_back(order)
        try:
            Shop.running.given_back(order)
        except AssertionError as error:
            # A pass would log it and go on with the next order.
            Shop.running.wire.broken.append(repr(error))

    for kind in (BitsbyInvoice, BitsbyPayment, WebhookDelivery):
        for field in kind._meta.fields:
            if field.default is real_now:
                # Django keeps the function itself, which was there before the clock is moved.
                monkeypatch.setitem(field.__dict__, "_get_default", now)
    monkeypatch.setattr(timezone, "now", now)
    monkeypatch.setattr(rate_limit, "db_now", now)
    monkeypatch.setattr("oscar_bitsby.utils.clock._server_time", lambda alias: now())
    monkeypatch.setattr("oscar_bitsby.gateway.rate_limit.time", Time)
    monkeypatch.setattr("oscar_bitsby.gateway.client.time", Time)
    monkeypatch.setattr(transitions, "release_order", give_back)
    monkeypatch.setattr(Transport, "post", post)
    stock = product.stockrecords.get()
    StockRecord.objects.filter(pk=stock.pk).update(num_in_stock=STOCK)
    monkeypatch.setattr(Shop, "stock_pk", stock.pk)
    monkeypatch.setattr(Shop, "bitsby_type", ledger.source_type().pk)
    staff = get_user_model().objects.create(username="keeper", is_staff=True)
    monkeypatch.setattr(Shop, "staff", staff)
    GatewayState.objects.all().delete()


@pytest.fixture
def shop(wired):
    """A machine for a history that is told step by step."""
    shop = Shop()
    yield shop
    shop.close()
