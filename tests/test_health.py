"""The checks for django-health-check: each finds its problem, by the database alone."""

import asyncio
import datetime as dt
import re
from decimal import Decimal
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections
from django.test import RequestFactory
from django.utils import timezone
from health_check.views import HealthCheckView

import oscar_bitsby
from oscar_bitsby.choices import AuditState, ReviewReason
from oscar_bitsby.contrib import health
from oscar_bitsby.models import AuditRun, BitsbyPayment, GatewayState, QueuedBuyer
from tests.support import bitsby

pytestmark = pytest.mark.django_db

DAY = dt.timedelta(days=1)
CHECKS = ["BitsbyRuns", "BitsbyDecisions", "BitsbyBalance", "BitsbyAudit", "BitsbyQueue"]


@pytest.fixture(autouse=True)
def state():
    """A shop whose last run has just completed."""
    return GatewayState.objects.create(
        pk=GatewayState.SINGLETON_PK,
        last_run_at=timezone.now(),
        balance=Decimal("100.00"),
        balance_fetched_at=timezone.now(),
    )


def problem(check):
    """Return the text of what a check finds, or nothing."""
    error = check.find_problem()
    return str(error) if error is not None else ""


def add_audit(state, age=dt.timedelta()):
    now = timezone.now()
    AuditRun.objects.create(state=state, started_at=now - age, finished_at=now - age)


def test_view_shows_each_check_and_fails_if_one_does(django_assert_max_num_queries, state):
    """The view of the library runs all of them with few queries; one problem makes it fail."""
    checks = [f"oscar_bitsby.contrib.health.{name}" for name in CHECKS]
    view = HealthCheckView.as_view(checks=checks)

    def get():
        return async_to_sync(view)(RequestFactory().get("/health/?format=text"))

    with django_assert_max_num_queries(12):
        response = get()
    assert response.status_code == 200
    assert response.content.decode().count("OK") == len(CHECKS)

    GatewayState.objects.update(last_run_at=timezone.now() - DAY)
    response = get()
    assert response.status_code == 500
    assert "BitsbyRuns(): Unavailable: No run of bitsby_reconcile" in response.content.decode()


def test_overdue_runs_are_found(state):
    """A shop where no run has completed for long, or ever, is told."""
    assert problem(health.BitsbyRuns()) == ""
    GatewayState.objects.update(last_run_at=timezone.now() - dt.timedelta(minutes=16))
    assert "No run of bitsby_reconcile has completed since" in problem(health.BitsbyRuns())
    GatewayState.objects.all().delete()
    assert "has completed yet" in problem(health.BitsbyRuns())


def test_oldest_decision_counts_and_dust_does_not():
    """Only the age of the oldest payment that waits matters, and very small ones never."""
    old = {
        "amount": 1,
        "review_reason": ReviewReason.UNMATCHED,
        "seen_at": timezone.now() - 4 * DAY,
    }
    BitsbyPayment.objects.create(bitsby_id=bitsby.new_id(), is_dust=True, **old)
    BitsbyPayment.objects.create(bitsby_id=bitsby.new_id(), **{**old, "seen_at": timezone.now()})
    assert problem(health.BitsbyDecisions()) == ""
    BitsbyPayment.objects.create(bitsby_id=bitsby.new_id(), **old)
    assert "waited 4 days for a decision" in problem(health.BitsbyDecisions())
    assert problem(health.BitsbyDecisions(max_age=5 * DAY)) == ""


def test_balance_is_told_without_the_amount(configure):
    """A low balance and a debt are found; pages with the results may be public."""
    assert problem(health.BitsbyBalance()) == ""
    configure(BALANCE_MIN=200)
    low = problem(health.BitsbyBalance())
    assert "below BALANCE_MIN" in low
    assert "100" not in low
    GatewayState.objects.update(balance=Decimal("-7.77"))
    debt = problem(health.BitsbyBalance())
    assert "Unavailable: The balance at Bitsby is negative." in debt
    assert "23:50 UTC" in debt
    assert "7.77" not in debt


def test_last_finished_audit_counts():
    """Differences, an audit without a result and, with ``max_age``, an old or missing one."""
    assert problem(health.BitsbyAudit()) == ""
    assert "No audit has been finished" in problem(health.BitsbyAudit(max_age=7 * DAY))
    add_audit(AuditState.DIFFERENT)
    add_audit(AuditState.RUNNING)
    assert "found differences" in problem(health.BitsbyAudit())
    add_audit(AuditState.UNPROVED)
    assert "could not be completed" in problem(health.BitsbyAudit())
    add_audit(AuditState.PROVED, age=8 * DAY)
    assert problem(health.BitsbyAudit()) == ""
    assert "8 days old" in problem(health.BitsbyAudit(max_age=7 * DAY))


def test_long_queue_is_found():
    """Only buyers whose pages are expected back count."""
    now = timezone.now()
    for number, returns_at in enumerate([now, now, now - DAY]):
        QueuedBuyer.objects.create(key=str(number), returns_at=returns_at)
    assert problem(health.BitsbyQueue(max_length=2)) == ""
    assert "More than 1 buyer wait" in problem(health.BitsbyQueue(max_length=1))


@pytest.mark.django_db(transaction=True)
def test_check_runs_without_a_request(state):
    """The library's command awaits each check in an event loop of its own."""
    GatewayState.objects.update(last_run_at=timezone.now() - DAY)

    async def check():
        result = await health.BitsbyRuns().get_result()
        # That of the event loop's thread.
        await sync_to_async(connections.close_all)()
        return result

    result = asyncio.run(check())
    assert "No run of bitsby_reconcile" in str(result.error)


def test_app_does_not_import_the_library():
    """A shop without the extra starts: one module imports the library, and none imports it."""
    package = Path(oscar_bitsby.__file__).parent
    words = re.compile(r"\bhealth_check\b|\bcontrib(\.| import )health\b")
    found = [path for path in package.rglob("*.py") if words.search(path.read_text("utf-8"))]
    assert found == [Path(health.__file__)]
