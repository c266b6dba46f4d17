"""Fixtures of runs: the API's list of payments, a watched invoice, and rows that fail."""

import datetime as dt

import pytest
from django.db.models.signals import post_save
from django.utils import timezone

from tests.support.remote_payments import RemotePayments

HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


@pytest.fixture
def books(fake):
    """The API's list of payments, newest first."""
    return RemotePayments(fake)


@pytest.fixture
def watched(order, invoice_for):
    """A live invoice since yesterday; earlier payments are ignored."""
    return invoice_for(order, created_at=timezone.now() - DAY, expires_at=timezone.now() + 2 * HOUR)


@pytest.fixture
def failing_save():
    """Return a function that makes saving matching rows fail, as a raising receiver does."""
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
