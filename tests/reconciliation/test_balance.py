"""The hourly check of the balance: one request, the last one, which nothing depends on."""

import datetime as dt
from decimal import Decimal

import pytest

from oscar_bitsby import reconciliation
from oscar_bitsby.gateway import balance
from oscar_bitsby.mails import merchant_alerts
from oscar_bitsby.models import GatewayState, MerchantAlert
from tests.support import bitsby
from tests.support.settling import status_of

pytestmark = pytest.mark.django_db

BALANCES = "/billing/balances"
#: 2026-12-02 is a Wednesday.
WEDNESDAY = dt.datetime(2026, 12, 2, 12, tzinfo=dt.timezone.utc)


@pytest.fixture(autouse=True)
def hourly(fake, monkeypatch):
    """The check is due every hour, as in a shop."""
    interval = dt.timedelta(hours=1)
    monkeypatch.setattr("oscar_bitsby.reconciliation.balance_guard.INTERVAL", interval)


@pytest.fixture
def remote(fake):
    """Return a function that sets the account's balance at Bitsby."""

    def be(internal):
        fake.on(BALANCES, bitsby.success({"internal": internal, "partner": "0.00"}))

    be("100.00")
    return be


def alerts():
    """Return the balances of the alerts and until when they warn, in their order."""
    found = MerchantAlert.objects.filter(code="low_balance").order_by("pk")
    return [(alert.details["balance"], alert.details["until"]) for alert in found]


def test_balance_is_fetched_once_an_hour_as_the_last_request(watched, fake, remote, move_time):
    """The first run stores it, the next one asks again only after an hour."""
    reconciliation.reconcile()
    assert [path for path, _ in fake.requests] == ["/payments/list", BALANCES]
    assert balance.last_known().amount == Decimal(100)

    remote("90.00")
    move_time(minutes=59)
    reconciliation.reconcile()
    assert len(fake.asked(BALANCES)) == 1
    move_time(minutes=1)
    report = reconciliation.reconcile()
    assert (len(fake.asked(BALANCES)), report.requests) == (2, 2)
    assert balance.last_known().amount == Decimal(90)


def test_shop_without_watched_invoices_sends_no_request(db, fake, remote):
    """A run with nothing to watch asks for nothing."""
    assert reconciliation.reconcile().requests == 0
    assert fake.requests == []


def test_dry_run_does_not_ask(watched, fake, remote):
    """A dry run stores nothing, so the balance would be of no use."""
    reconciliation.reconcile(dry_run=True)
    assert fake.asked(BALANCES) == []
    assert balance.last_known() is None


@pytest.mark.parametrize(
    "answer",
    [
        bitsby.error(f"{bitsby.KEY} is not allowed"),
        ConnectionError("away"),
        bitsby.success({"internal": "much", "partner": "0.00"}),
        # More digits than the column has.
        bitsby.success({"internal": "1" * 40, "partner": "0.00"}),
    ],
)
def test_failed_check_stops_nothing_and_waits_for_an_hour(
    order, paid_invoice, fake, answer, caplog, move_time
):
    """The run settles and succeeds, the log has the reason, and the next run does not ask again."""
    fake.on(BALANCES, answer)

    report = reconciliation.reconcile()

    assert (report.booked, report.failures, report.unanswered) == (1, 0, 0)
    assert status_of(order) == "Being processed"
    assert GatewayState.objects.get().last_run_at
    assert "the balance was not fetched" in caplog.text
    assert bitsby.KEY not in caplog.text
    assert balance.last_known() is None
    sent = len(fake.asked(BALANCES))
    move_time(minutes=10)
    reconciliation.reconcile()
    assert len(fake.asked(BALANCES)) == sent


def test_failed_check_keeps_the_last_known_balance(watched, fake, remote, move_time):
    """What is known stays known, with its time."""
    reconciliation.reconcile()
    before = balance.last_known()
    fake.on(BALANCES, bitsby.error("try later"))
    move_time(hours=1)
    reconciliation.reconcile()
    assert balance.last_known() == before


def test_low_balance_alerts_once_a_week_and_a_debt_once_a_day(
    watched, remote, configure, stop_time
):
    """Each alert has the balance and until when to top it up; a balance that is fine has none."""
    configure(BALANCE_MIN=10, ALERTS={"MAIL": ["shop@example.com"]}, WATCH_DAYS=60)
    hours = 0

    def run_after(more, internal):
        nonlocal hours
        hours += more
        stop_time(WEDNESDAY + dt.timedelta(hours=hours))
        remote(internal)
        reconciliation.reconcile()

    this_week, next_week = "2026-12-07 23:50 UTC", "2026-12-14 23:50 UTC"
    run_after(0, "10.00")
    assert alerts() == []
    run_after(1, "9.99")
    run_after(24, "8.00")
    assert alerts() == [("9.99", this_week)]
    run_after(1, "-1.00")
    run_after(1, "-2.00")
    assert alerts()[1:] == [("-1.00", this_week)]
    run_after(24, "-3.00")
    assert alerts()[2:] == [("-3.00", this_week)]
    run_after(24 * 4, "5.00")
    assert alerts()[3:] == [("5.00", next_week)]


def test_alert_is_written_with_the_balance_or_not_at_all(watched, remote, monkeypatch):
    """A process that dies between the two stores neither, so the next check alerts."""

    def die(*args, **kwargs):
        raise RuntimeError("killed")

    monkeypatch.setattr(merchant_alerts, "enqueue", die)
    remote("-1.00")
    reconciliation.reconcile()
    assert balance.last_known() is None
