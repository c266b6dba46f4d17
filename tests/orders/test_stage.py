"""The stage of an order, and the times at which its hold ends and it is cancelled."""

import datetime as dt
from types import SimpleNamespace

import pytest

from oscar_bitsby.orders.stage import (
    OrderStage,
    cancellation_deadline,
    hold_deadline,
    order_stage,
)

PLACED = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
HOUR = dt.timedelta(hours=1)
SETTINGS = SimpleNamespace(
    order_status_pending="New",
    order_status_cancelled="Void",
    cancel_after=HOUR,
    hold_order_for=24 * HOUR,
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
    ("ended_after", "cancel_after", "hold", "deadline"),
    [
        ([5, 9, 7], 1, 24, 10),
        ([5, None], 1, 24, 6),
        ([5], 0, 24, 5),
        ([5, 9, 7], 1, None, 10),
        # The hold ends first.
        ([5, 9, 7], 1, 9.5, 9.5),
        ([5], None, 24, 24),
        ([5], None, None, None),
    ],
)
def test_deadline_is_cancel_after_the_last_invoice_or_the_end_of_the_hold(
    ended_after, cancel_after, hold, deadline
):
    """The earlier of both counts, and None is no end."""
    assert deadline_of(ended_after, cancel_after, hold) == deadline


@pytest.mark.parametrize("ended_after", [[], [None], [2, 3]])
@pytest.mark.parametrize("hold", [24, None])
def test_order_that_never_got_an_invoice_is_kept_until_the_end_of_its_hold(ended_after, hold):
    """Failed attempts, and none at all, leave the order for the whole hold."""
    assert deadline_of(ended_after, 1, hold, bitsby_id=None) == hold


@pytest.mark.parametrize(
    ("ended_after", "cancel_after", "hold", "expected"),
    [
        # The hold begins anew, at ten hours, whatever became of the invoices.
        ([], 1, 24, 34),
        ([3, 12], 1, 24, 34),
        ([3], None, 24, 34),
        # Without a hold only the invoices count that ended since.
        ([3], 1, None, None),
        ([3, 12], 1, None, 13),
        ([3, 12], None, None, None),
    ],
)
def test_rest_is_missing_after_a_hold_of_its_own(ended_after, cancel_after, hold, expected):
    """After the rest was asked for, its buyer has the whole hold again."""
    assert deadline_of(ended_after, cancel_after, hold, rest_asked_after=10) == expected


def deadline_of(ended_after, cancel_after, hold, bitsby_id="an id", rest_asked_after=None):
    """Return the deadline in hours after placing the order."""
    values = {
        "cancel_after": None if cancel_after is None else cancel_after * HOUR,
        "hold_order_for": None if hold is None else hold * HOUR,
    }
    invoices = [
        SimpleNamespace(
            bitsby_id=bitsby_id, ended_at=None if hours is None else PLACED + hours * HOUR
        )
        for hours in ended_after
    ]
    settings, order = (
        SimpleNamespace(**(vars(SETTINGS) | values)),
        SimpleNamespace(date_placed=PLACED),
    )
    asked_at = None if rest_asked_after is None else PLACED + rest_asked_after * HOUR
    found = cancellation_deadline(order, invoices, settings, asked_at)
    begin = asked_at or PLACED
    assert hold_deadline(order, settings, asked_at) == (
        None if hold is None else begin + hold * HOUR
    )
    return None if found is None else (found - PLACED) / HOUR
