"""What an answer changes on the invoice itself: status, end, page views, failure, webhook."""

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone

from oscar_bitsby import settlement
from oscar_bitsby.choices import MailCode
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import BitsbyInvoice, BuyerMail
from tests.support import bitsby
from tests.support.settling import booked, reload, status_of

pytestmark = pytest.mark.django_db


# Status and end


def test_expired_invoice_ends_at_its_expiry_time(order, invoice, settle, sent_signals, move_time):
    """The end is the expiry time, not the time of settling; signal and e-mail are sent once."""
    move_time(hours=5)
    for _ in range(3):
        settle(invoice, "expired")

    invoice.refresh_from_db()
    assert (invoice.status, invoice.ended_at) == ("expired", invoice.expires_at)
    assert [name for name, *_ in sent_signals] == ["invoice_expired"]
    assert BuyerMail.objects.get(code=MailCode.EXPIRED).invoice == invoice
    assert status_of(order) == "Pending"


def test_invoice_canceled_at_bitsby_is_canceled(order, invoice, settle):
    """A remote invoice that is canceled ends ours; the order stays pending."""
    settle(invoice, "canceled")

    invoice.refresh_from_db()
    assert (invoice.status, invoice.ended_at is None) == ("canceled", False)
    assert status_of(order) == "Pending"


def test_paid_invoice_stays_paid(order, invoice, settle):
    """No later answer changes a paid invoice."""
    payment = bitsby.transfer()
    settle(invoice, payment=payment)
    settle(invoice, "expired")
    settle(invoice, "canceled")
    settle(invoice, "unpaid")

    invoice.refresh_from_db()
    assert (invoice.status, status_of(order)) == ("paid", "Being processed")
    assert booked(order) == [(payment["id"], Decimal("10.00"))]


@pytest.mark.parametrize("status", ["canceled", "expired"])
def test_invoice_without_an_expiry_time_ends_now(invoice, settle, status):
    """Without an expiry time, the end is the time of settling."""
    BitsbyInvoice.objects.update(expires_at=None)
    before = timezone.now()

    settle(invoice, status)

    assert before <= reload(invoice).ended_at <= timezone.now()


@pytest.mark.parametrize(
    ("status", "minutes"), [("canceled", -30), ("canceled", 30), ("expired", 30)]
)
def test_invoice_ends_no_later_than_now(invoice, settle, status, minutes):
    """A canceled invoice, and one that expires early, end at the time of settling."""
    expires_at = timezone.now() + dt.timedelta(minutes=minutes)
    BitsbyInvoice.objects.update(expires_at=expires_at)
    before = timezone.now()

    settle(invoice, status)

    assert before <= reload(invoice).ended_at <= timezone.now()


def test_paid_invoice_has_no_end(invoice, settle):
    """A paid invoice did not expire and was not canceled."""
    settle(invoice, payment=bitsby.transfer())

    assert reload(invoice).ended_at is None


@pytest.mark.parametrize(
    ("status", "signal"), [("paid", "invoice_paid"), ("expired", "invoice_expired")]
)
def test_signals_are_sent_by_the_class_of_invoices(
    order, invoice, settle, sent_signals, status, signal
):
    """Receivers can connect with the sender; they get the invoice and its order."""
    settle(invoice, status, payment=bitsby.transfer() if status == "paid" else None)

    ((found, sender, payload),) = sent_signals
    assert (found, sender) == (signal, BitsbyInvoice)
    assert (payload["invoice"], payload["order"]) == (invoice, order)


def test_payment_affects_its_own_order_only(order, invoice, invoice_for, place, settle):
    """When an order is paid, other orders still await payment."""
    other = invoice_for(place())

    settle(invoice, payment=bitsby.transfer())

    assert (reload(invoice).order_awaits_payment, reload(other).order_awaits_payment) == (
        False,
        True,
    )


# Paid without its payment


def test_paid_without_its_payment_is_a_failure(invoice, settle, caplog):
    """The invoice has the failure, and it is logged once."""
    for _ in range(3):
        settle(invoice)

    remote = "Bitsby reports it as paid without naming the payment"
    assert reload(invoice).failure == remote
    assert caplog.messages == [f"{remote}: order={invoice.order_number}"]


def test_dry_run_writes_no_failure(invoice, caplog):
    """A dry run does not change an invoice that is paid without its payment."""
    remote = parsing.parse_invoice(bitsby.invoice_item(invoice, "paid"))

    settlement.settle(invoice, remote, dry_run=True)

    assert (reload(invoice).failure, caplog.messages) == ("", [])


@pytest.mark.parametrize("status", ["unpaid", "confirming"])
def test_unpaid_without_a_payment_is_no_failure(invoice, settle, status, caplog):
    """An invoice that is not paid needs no payment."""
    settle(invoice, status)

    assert (reload(invoice).failure, caplog.messages) == ("", [])


# Page views


@pytest.mark.parametrize(("remote", "kept"), [(3, 3), (0, 0), (None, 7)])
def test_page_views_are_those_of_the_last_answer(invoice, settle, remote, kept):
    """An answer without page views does not change them."""
    BitsbyInvoice.objects.update(page_views=7)

    settle(invoice, "unpaid", views=remote)

    assert reload(invoice).page_views == kept


def test_dry_run_writes_no_page_views(invoice):
    """A dry run does not write page views."""
    remote = parsing.parse_invoice(bitsby.invoice_item(invoice, "unpaid", views=9))

    settlement.settle(invoice, remote, dry_run=True)

    assert reload(invoice).page_views == 0


def test_unchanged_page_views_are_not_written(invoice, settle, django_assert_max_num_queries):
    """An answer without news updates nothing."""
    settle(invoice, "unpaid", views=3)

    with django_assert_max_num_queries(10) as queries:
        settle(invoice, "unpaid", views=3)
    assert not [one["sql"] for one in queries.captured_queries if one["sql"].startswith("UPDATE")]


# Pending webhook deliveries


def test_decision_clears_the_pending_webhook_of_its_invoice(invoice_for, place, settle):
    """The webhook delivery of this invoice is processed, those of other invoices are not."""
    now = timezone.now()
    invoice, other = (
        invoice_for(place(), webhook_pending_since=now),
        invoice_for(place(), webhook_pending_since=now),
    )

    settle(invoice, "expired")

    assert (reload(invoice).webhook_pending_since, reload(other).webhook_pending_since) == (
        None,
        now,
    )


@pytest.mark.parametrize("status", ["unpaid", "paid", "confirming"])
def test_waiting_keeps_the_webhook_pending(invoice_for, place, settle, status):
    """If there is nothing to do yet, the next run refreshes the invoice."""
    now = timezone.now()
    invoice = invoice_for(place(), webhook_pending_since=now)

    settle(invoice, status)

    assert reload(invoice).webhook_pending_since == now
