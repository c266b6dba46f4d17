"""Payment syncs: requested days, progress, lease, client and flagged invoices."""

import datetime as dt
import logging

import pytest

from oscar_bitsby import reconciliation
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.models import GatewayState
from oscar_bitsby.reconciliation import refresh
from tests.support import bitsby

pytestmark = pytest.mark.django_db

HOUR = dt.timedelta(hours=1)
SECOND = dt.timedelta(seconds=1)
DAY = dt.timedelta(days=1)
#: A day's noon, so that no test depends on the hour at which it runs.
NOON = dt.datetime(2026, 3, 15, 12, tzinfo=dt.timezone.utc)


@pytest.fixture
def set_time(stop_time):
    """Stop the shop's clock at ``NOON``, and return a function that sets it."""
    stop_time(NOON)
    return stop_time


@pytest.fixture
def watched(set_time, order, invoice_for):
    """A live invoice of forty days ago."""
    return invoice_for(order, created_at=NOON - 40 * DAY, expires_at=NOON + 40 * DAY)


def requested_days(fake):
    return [(one["startDate"], one["endDate"]) for one in fake.asked("/payments/list")]


def store_full_sync(last_full_sync_at, **values):
    GatewayState.ensure_exists()
    GatewayState.objects.update(last_full_sync_at=last_full_sync_at, **values)


def test_full_sync_covers_all_watched_invoices(watched, fake):
    """A full sync requests ``WATCH_DAYS`` and two days more, up to two days beyond today."""
    steps = []

    reconciliation.reconcile(progress=steps.append)

    assert requested_days(fake) == [("2026-02-11", "2026-03-17")]
    assert steps[0] == "full sync of payments"


def test_full_sync_starts_at_the_first_invoice_of_the_shop(set_time, order, invoice_for, fake):
    """A full sync starts two days before the first invoice less five minutes."""
    midnight = NOON.replace(hour=0) - 5 * DAY
    invoice_for(order, created_at=midnight + dt.timedelta(minutes=4), expires_at=NOON + DAY)

    reconciliation.reconcile()

    assert requested_days(fake) == [("2026-03-07", "2026-03-17")]


def test_incremental_sync_requests_the_last_day(watched, fake):
    """An incremental sync requests one day, and two more on both sides."""
    store_full_sync(NOON - HOUR)
    steps = []

    reconciliation.reconcile(progress=steps.append)

    assert requested_days(fake) == [("2026-03-12", "2026-03-17")]
    assert steps == ["incremental sync of payments", "0 payments on 1 page", "e-mails"]


@pytest.mark.parametrize(
    ("ago", "is_full"),
    [
        (24 * HOUR - dt.timedelta(seconds=1), False),
        (24 * HOUR, True),
        (dt.timedelta(), False),
        (-dt.timedelta(seconds=1), True),
    ],
)
def test_full_sync_is_due_after_a_day(watched, fake, ago, is_full):
    """A full sync follows a day after the last one, or if that is stored in the future."""
    store_full_sync(NOON - ago)
    steps = []

    reconciliation.reconcile(progress=steps.append)

    assert steps[0].startswith("full" if is_full else "incremental")
    stored = GatewayState.objects.get().last_full_sync_at
    assert stored == (NOON if is_full else NOON - ago)


def test_invoice_that_expired_long_ago_is_not_watched(
    set_time, order, invoice_for, fake, configure
):
    """An invoice causes requests until ``WATCH_DAYS`` after its end, and none afterwards."""
    configure(WATCH_DAYS=3)
    end = NOON - 3 * DAY
    invoice_for(order, "expired", created_at=end - HOUR, expires_at=end, ended_at=end)
    order.sources.all().delete()
    reconciliation.reconcile()
    assert len(requested_days(fake)) == 1

    set_time(NOON + dt.timedelta(seconds=1))
    reconciliation.reconcile()

    assert len(requested_days(fake)) == 1


@pytest.mark.parametrize(("last_full_sync_at", "pages"), [(NOON - HOUR, 1), (NOON - 25 * HOUR, 2)])
def test_only_incremental_sync_stops_at_known_payments(watched, fake, last_full_sync_at, pages):
    """A full sync reads the whole list, even if only its beginning is new."""
    fake.payments = [
        bitsby.payment_item(
            bitsby.transfer(transactionDatetime=bitsby.written(NOON - HOUR - number * SECOND))
        )
        for number in range(60)
    ]
    store_full_sync(NOON - 25 * HOUR)
    reconciliation.reconcile()
    fake.requests.clear()
    store_full_sync(last_full_sync_at, lists_newest_first=True)

    reconciliation.reconcile()

    assert len(requested_days(fake)) >= pages
    assert (len(requested_days(fake)) == 1) is (pages == 1)


def test_sync_stores_its_progress(watched, fake):
    """A sync stores the time of the newest payment, at which the next one may stop."""
    seen = NOON - 3 * HOUR
    fake.payments = [bitsby.payment_item(bitsby.transfer(transactionDatetime=bitsby.written(seen)))]
    store_full_sync(NOON - HOUR)

    reconciliation.reconcile()

    assert GatewayState.objects.get().sync_cursor == seen


def test_dry_run_stores_no_sync_progress(watched, fake):
    """A dry run stores neither the progress nor the time of a full sync."""
    store_full_sync(NOON - 25 * HOUR)
    fake.payments = [bitsby.payment_item(bitsby.transfer(transactionDatetime=bitsby.written(NOON)))]
    state = GatewayState.objects.values("last_full_sync_at", "sync_cursor", "lists_newest_first")
    before = state.get()

    reconciliation.reconcile(dry_run=True)

    assert state.get() == before


def test_run_renews_its_lease_with_each_page(watched, fake, set_time):
    """A run that reads many pages keeps its lease."""
    leases = []
    items = [bitsby.payment_item() for _ in range(120)]

    def answer(fields):
        set_time(NOON + dt.timedelta(seconds=10 * len(leases)))
        leases.append(GatewayState.objects.get().lease_until)
        return bitsby.success(fake._page(items, fields))

    fake.on("/payments/list", answer)

    reconciliation.reconcile()

    assert leases[0] < leases[2] < leases[3]


# The client and the lease


def test_run_uses_the_given_client(watched, fake, clock):
    """A run sends its requests through the given client."""
    client = BitsbyClient(bitsby.KEY)

    report = reconciliation.reconcile(client=client)

    assert report.requests == client.requests == len(fake.requests) == 1


def test_refresh_uses_the_given_client(invoice, fake):
    """``refresh`` sends its request through the given client."""
    fake.invoices = [bitsby.invoice_item(invoice)]
    client = BitsbyClient(bitsby.KEY)

    refresh(invoice, client)

    assert client.requests == len(fake.requests) == 1


def test_run_is_skipped_while_another_holds_the_lease(watched, other_run, fake, caplog):
    """A skipped run sends no request, keeps the lease, and says so in its report and the log."""
    with caplog.at_level(logging.INFO, "oscar_bitsby"):
        report = reconciliation.reconcile()

    assert report.skipped is True
    assert "skipped" in str(report)
    assert fake.requests == []
    assert GatewayState.objects.get().lease_token == "another"
    assert caplog.messages == ["another run is in progress; this one is skipped"]
