"""The stage of an order, and the time at which it is cancelled."""

import datetime as dt
from types import SimpleNamespace

import pytest

from oscar_bitsby.orders.stage import OrderStage, cancellation_deadline, order_stage

PLACED = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
HOUR = dt.timedelta(hours=1)
SETTINGS = SimpleNamespace(
    order_status_pending="New", order_status_cancelled="Void", time_to_pay=3, cancel_after=HOUR
)


@pytest.mark.parametrize(
    ("status", "stage"),
    [("New", OrderStage.PENDING), ("Void", OrderStage.CANCELLED), ("Sent", OrderStage.OTHER)],
)
def test_stage_follows_the_statuses_of_the_settings(status, stage):
    """Every status that is neither the pending nor the cancelled one is another stage."""
    assert order_stage(SETTINGS, SimpleNamespace(status=status)) is stage


def test_deleted_order_is_gone():
    """Without an order the stage is GONE."""
    assert order_stage(SETTINGS, None) is OrderStage.GONE


@pytest.mark.parametrize(
    ("ended_after", "cancel_after", "deadline"),
    [
        ([5, 9, 7], HOUR, 10),
        ([5, None], HOUR, 6),
        ([5], None, 5),
        # Without an ended invoice the time to pay counts from placing the order.
        ([], HOUR, 4),
        ([None], HOUR, 4),
        ([], None, 3),
    ],
)
def test_deadline_is_cancel_after_the_last_invoice(ended_after, cancel_after, deadline):
    """The time to cancel counts from the end of the last invoice, else from the time to pay."""
    settings = SimpleNamespace(**(vars(SETTINGS) | {"cancel_after": cancel_after}))
    invoices = [
        SimpleNamespace(ended_at=None if hours is None else PLACED + hours * HOUR)
        for hours in ended_after
    ]

    found = cancellation_deadline(SimpleNamespace(date_placed=PLACED), invoices, settings)

    assert found == PLACED + deadline * HOUR
