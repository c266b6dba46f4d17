"""Payment syncs: requested days, progress, lease, client and flagged invoices."""

import datetime as dt
import logging

import pytest

from oscar_bitsby import reconciliation
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.models import GatewayState
from oscar_bitsby.reconciliation import refresh
from oscar_bitsby.reconciliation.lease import LEASE_DURATION
from tests.support import bitsby

pytestmark = pytest.mark.django_db

HOUR = dt.timedelta(hours=1)
SECOND = dt.timedelta(seconds=1)
DAY = dt.timedelta(days=1)
#: A day's noon, so that no test depends on the hour at which it runs.
NOON = dt.datetime(2026, 3, 15, 12, tzinfo=dt.timezone.utc)


@pytest.fixture
def at(stop_time):
    """Stop the shop's clock at ``NOON``, and return a way to set it."""
    stop_time(NOON)
    return stop_time


@pytest.fixture
def watched(at, order, invoice_for):
    """A live invoice of forty days ago."""
    return invoice_for(order, created_at=NOON - 40 * DAY, expires_at=NOON + 40 * DAY)


def days_asked(fake):
    return [(one["startDate"], one["endDate"]) for one in fake.asked("/payments/list")]


def look_at(last_full_sync_at, **values):
    GatewayState.ensure_exists()
    GatewayState.objects.update(last_full_sync_at=last_full_sync_at, **values)


# Near and far


def test_full_sync_covers_all_watched_invoices(watched, fake):
    """``WATCH_DAYS`` and two days more are asked for, up to two days beyond today."""
    words = []

    reconciliation.reconcile(progress=words.append)

    assert days_asked(fake) == [("2026-02-11", "2026-03-17")]
    assert words[0] == "full sync of payments"


def test_full_sync_starts_at_the_first_invoice_of_the_shop(at, order, invoice_for, fake):
    """What was before the first invoice, less five minutes, is not asked for, but two days more."""
    midnight = NOON.replace(hour=0) - 5 * DAY
    invoice_for(order, created_at=midnight + dt.timedelta(minutes=4), expires_at=NOON + DAY)

    reconciliation.reconcile()

    assert days_asked(fake) == [("2026-03-07", "2026-03-17")]


def test_incremental_sync_requests_the_last_day(watched, fake):
    """A day, and two more on both sides."""
    look_at(NOON - HOUR)
    words = []

    reconciliation.reconcile(progress=words.append)

    assert days_asked(fake) == [("2026-03-12", "2026-03-17")]
    assert words == ["incremental sync of payments", "0 payments on 1 pages", "e-mails"]


@pytest.mark.parametrize(
    ("ago", "is_far"),
    [
        (24 * HOUR - dt.timedelta(seconds=1), False),
        (24 * HOUR, True),
        (dt.timedelta(), False),
        (-dt.timedelta(seconds=1), True),
    ],
)
def test_full_sync_is_due_after_a_day(watched, fake, ago, is_far):
    """A day after the last one, or when that was noted by a clock that was ahead."""
    look_at(NOON - ago)
    words = []

    reconciliation.reconcile(progress=words.append)

    assert words[0].startswith("full" if is_far else "incremental")
    noted = GatewayState.objects.get().last_full_sync_at
    assert noted == (NOON if is_far else NOON - ago)


def test_invoice_that_expired_long_ago_is_not_watched(at, order, invoice_for, fake, settings):
    """``WATCH_DAYS`` after its end an invoice costs no request, until then it does."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "WATCH_DAYS": 3}
    end = NOON - 3 * DAY
    invoice_for(order, "expired", created_at=end - HOUR, expires_at=end, ended_at=end)
    order.sources.all().delete()
    reconciliation.reconcile()
    assert len(days_asked(fake)) == 1

    at(NOON + dt.timedelta(seconds=1))
    reconciliation.reconcile()

    assert len(days_asked(fake)) == 1


@pytest.mark.parametrize(("last_full_sync_at", "pages"), [(NOON - HOUR, 1), (NOON - 25 * HOUR, 2)])
def test_only_incremental_sync_stops_at_known_payments(watched, fake, last_full_sync_at, pages):
    """A full sync reads the whole list, even if only its beginning is new."""
    fake.payments = [
        bitsby.payment_item(
            bitsby.transfer(transactionDatetime=bitsby.written(NOON - HOUR - number * SECOND))
        )
        for number in range(60)
    ]
    look_at(NOON - 25 * HOUR)
    reconciliation.reconcile()
    fake.requests.clear()
    look_at(last_full_sync_at, lists_newest_first=True)

    reconciliation.reconcile()

    assert len(days_asked(fake)) >= pages
    assert (len(days_asked(fake)) == 1) is (pages == 1)


def test_sync_stores_its_progress(watched, fake):
    """The next incremental sync may stop where this one began."""
    seen = NOON - 3 * HOUR
    fake.payments = [bitsby.payment_item(bitsby.transfer(transactionDatetime=bitsby.written(seen)))]
    look_at(NOON - HOUR)

    reconciliation.reconcile()

    assert GatewayState.objects.get().sync_cursor == seen


def test_dry_run_stores_no_sync_progress(watched, fake):
    """A dry run stores neither the progress nor the time of a full sync."""
    look_at(NOON - 25 * HOUR)
    fake.payments = [bitsby.payment_item(bitsby.transfer(transactionDatetime=bitsby.written(NOON)))]
    before = GatewayState.objects.values(
        "last_full_sync_at", "sync_cursor", "lists_newest_first"
    ).get()

    reconciliation.reconcile(dry_run=True)

    assert (
        GatewayState.objects.values("last_full_sync_at", "sync_cursor", "lists_newest_first").get()
        == before
    )


def test_run_renews_its_lease_with_each_page(watched, fake, at):
    """A run that reads many pages keeps its lease."""
    leases = []
    items = [bitsby.payment_item() for _ in range(120)]

    def answer(fields):
        at(NOON + dt.timedelta(seconds=10 * len(leases)))
        leases.append(GatewayState.objects.get().lease_until)
        return bitsby.success(fake._page(items, fields))

    fake.on("/payments/list", answer)

    reconciliation.reconcile()

    assert leases[0] < leases[2] < leases[3]


# Whose client


def test_run_uses_the_given_client(watched, fake, clock):
    """A run sends its requests through the given client."""
    client = BitsbyClient(bitsby.KEY)

    report = reconciliation.reconcile(client=client)

    assert report.requests == client.requests == len(fake.requests) == 1


def test_refresh_uses_the_given_client(invoice, fake):
    """``refresh`` asks with another client than the shop's own where there is one."""
    fake.invoices = [bitsby.invoice_item(invoice)]
    client = BitsbyClient(bitsby.KEY)

    refresh(invoice, client)

    assert client.requests == len(fake.requests) == 1


def test_skipped_run_is_logged(watched, fake, caplog):
    """The log says that a run was skipped because another one was running."""
    GatewayState.ensure_exists()
    GatewayState.objects.update(lease_until=NOON + LEASE_DURATION, lease_token="another")
    with caplog.at_level(logging.INFO, "oscar_bitsby"):
        report = reconciliation.reconcile()

    assert report.skipped is True
    assert caplog.messages == ["another run is in progress; this one is skipped"]
