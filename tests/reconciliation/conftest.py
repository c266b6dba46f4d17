"""Fixtures of a run: what the API lists, a watched invoice, and failing rows."""

import datetime as dt

import pytest
from django.db.models.signals import post_save
from django.utils import timezone

from tests.support.remote_payments import RemotePayments

HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


@pytest.fixture
def books(fake):
    return RemotePayments(fake)


@pytest.fixture
def watched(order, invoice_for):
    """A live invoice since yesterday, so that payments from then on are this shop's."""
    return invoice_for(order, created_at=timezone.now() - DAY, expires_at=timezone.now() + 2 * HOUR)


@pytest.fixture
def failing_save():
    """Return a function that makes saving one row fail, as a shop's broken receiver does."""
    connected = []

    def connect(model, matches):
        def fail(instance, **kwargs):
            if matches(instance):
                raise ValueError("the shop's receiver is broken")

        post_save.connect(fail, sender=model, weak=False)
        connected.append((model, fail))

    yield connect
    for model, fail in connected:
        post_save.disconnect(fail, sender=model)
