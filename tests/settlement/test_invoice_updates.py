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
    """No later answer changes a paid invoice, which has no end."""
    payment = bitsby.transfer()
    settle(invoice, payment=payment)
    settle(invoice, "expired")
    settle(invoice, "canceled")
    settle(invoice, "unpaid")

    invoice.refresh_from_db()
    assert (invoice.status, status_of(order)) == ("paid", "Being processed")
    assert invoice.ended_at is None
    assert booked(order) == [(payment["id"], Decimal("10.00"))]


@pytest.mark.parametrize(
    ("status", "minutes"),
    [("canceled", None), ("expired", None), ("canceled", -30), ("canceled", 30), ("expired", 30)],
)
def test_invoice_ends_no_later_than_now(invoice, settle, status, minutes):
    """A canceled invoice, and one that expires early or at no time, end when they are settled."""
    before = timezone.now()
    expires_at = None if minutes is None else before + dt.timedelta(minutes=minutes)
    BitsbyInvoice.objects.update(expires_at=expires_at)

    settle(invoice, status)

    assert before <= reload(invoice).ended_at <= timezone.now()


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

    assert not reload(invoice).order_awaits_payment
    assert reload(other).order_awaits_payment


# Paid without its payment


def test_paid_without_its_payment_is_a_failure(invoice, settle, caplog):
    """The invoice has the failure, and it is logged once."""
    for _ in range(3):
        settle(invoice)

    failure = "Bitsby reports it as paid without naming the payment"
    assert reload(invoice).failure == failure
    assert caplog.messages == [f"{failure}: order={invoice.order_number}"]


@pytest.mark.parametrize("status", ["paid", "unpaid"])
def test_dry_run_writes_neither_failure_nor_page_views(invoice, caplog, status):
    """A dry run does not change an invoice, also if it is paid without its payment."""
    remote = parsing.parse_invoice(bitsby.invoice_item(invoice, status, views=9))

    settlement.settle(invoice, remote, dry_run=True)

    assert (reload(invoice).failure, reload(invoice).page_views) == ("", 0)
    assert caplog.messages == []


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


def test_unchanged_page_views_are_not_written(invoice, settle, django_assert_max_num_queries):
    """An answer without news updates nothing."""
    settle(invoice, "unpaid", views=3)

    with django_assert_max_num_queries(10) as queries:
        settle(invoice, "unpaid", views=3)
    assert not [one["sql"] for one in queries.captured_queries if one["sql"].startswith("UPDATE")]


# Pending webhook deliveries


@pytest.mark.parametrize(
    ("status", "is_pending"),
    [("expired", False), ("unpaid", True), ("paid", True), ("confirming", True)],
)
def test_webhook_is_pending_until_there_is_a_decision(
    invoice_for, place, settle, status, is_pending
):
    """A decision clears the webhook delivery of its invoice only; waiting keeps it."""
    now = timezone.now()
    invoice = invoice_for(place(), webhook_pending_since=now)
    other = invoice_for(place(), webhook_pending_since=now)

    settle(invoice, status)

    assert reload(invoice).webhook_pending_since == (now if is_pending else None)
    assert reload(other).webhook_pending_since == now
