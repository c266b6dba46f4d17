"""The warnings above the payments to review: what keeps payments from arriving or being booked."""

import datetime as dt
from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone

from oscar_bitsby.choices import AuditState, InvoiceStatus
from oscar_bitsby.models import AuditRun, GatewayState
from tests.support.staff import INBOX, log_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def state():
    """A shop whose last run has just completed."""
    now = timezone.now()
    pk = GatewayState.SINGLETON_PK
    return GatewayState.objects.create(pk=pk, last_run_at=now, balance_fetched_at=now)


def shown(browser):
    """Return the page, with its white space joined."""
    response = browser.get(reverse(INBOX))
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def test_shop_without_problems_shows_no_warning(staff, state):
    """A balance that is fine, and an audit without differences, are not mentioned."""
    GatewayState.objects.update(balance=Decimal("0.00"))
    AuditRun.objects.create(state=AuditState.PROVED, finished_at=timezone.now())
    assert 'role="alert"' not in shown(staff)


@pytest.mark.parametrize(
    ("amount", "look", "words"),
    [
        ("-3.50", "alert-danger", "The balance at Bitsby is -3.50 USD. If it is still negative"),
        ("4.00", "alert-warning", "The balance at Bitsby is 4.00 USD, less than BALANCE_MIN"),
    ],
)
def test_low_balance_is_shown_with_its_deadline(staff, state, configure, amount, look, words):
    """Staff read the balance, until when to top it up, and when it was checked."""
    configure(BALANCE_MIN=10)
    GatewayState.objects.update(balance=Decimal(amount))
    page = shown(staff)
    assert look in page
    assert words in page
    assert "23:50 UTC" in page
    assert "Top it up in your Bitsby account. Last checked: " in page


def test_money_is_not_shown_to_staff_without_a_permission(state):
    """Who may not see all amounts sees neither the balance nor the audit."""
    GatewayState.objects.update(balance=Decimal("-3.50"))
    AuditRun.objects.create(state=AuditState.DIFFERENT, finished_at=timezone.now())
    page = shown(log_in("clerk"))
    assert "balance" not in page
    assert "audit" not in page


def test_differences_of_the_last_audit_are_shown(staff, state):
    """An audit that found differences is shown until one finds none."""
    AuditRun.objects.create(state=AuditState.DIFFERENT, finished_at=timezone.now())
    AuditRun.objects.create(state=AuditState.RUNNING)
    assert "found differences between" in shown(staff)
    AuditRun.objects.create(state=AuditState.PROVED, finished_at=timezone.now())
    assert "found differences" not in shown(staff)


def test_refused_invoices_are_shown_until_one_is_created(staff, state, place, invoice_for):
    """After refusals of several orders staff read Bitsby's answer; a new invoice ends it."""
    now = timezone.now()
    failed = {"status": InvoiceStatus.EXPIRED, "bitsby_id": None, "failure": "Account blocked"}
    invoice_for(place(), **failed, ended_at=now)
    # One order alone may have a reason of its own.
    assert "creates no invoices" not in shown(staff)

    GatewayState.objects.update(creating_paused_until=now + dt.timedelta(seconds=10))
    page = shown(staff)
    assert "Bitsby refuses new invoices" in page
    assert "failed: Account blocked" in page

    invoice_for(place())
    assert "creates no invoices" not in shown(staff)
