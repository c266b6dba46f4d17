"""What an answer changes on the invoice itself: status, end, page views, failure, webhook."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone

from oscar_bitsby import settlement
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import BitsbyInvoice
from tests import bitsby
from tests.support.settling import booked, reload, status_of

pytestmark = pytest.mark.django_db


# Status and end


def test_an_expired_invoice_ends_when_its_time_was_over(order, invoice, settle, heard, move_time):
    """The end is the time on the invoice, not when somebody noticed; the signal is sent once."""
    move_time(hours=5)
    for _ in range(3):
        settle(invoice, "expired")

    invoice.refresh_from_db()
    assert (invoice.status, invoice.ended_at) == ("expired", invoice.expires_at)
    assert [name for name, *_ in heard] == ["invoice_expired"]
    assert status_of(order) == "Pending"


def test_an_invoice_canceled_at_bitsby_is_canceled_here(order, invoice, settle):
    """Bitsby's word ``canceled`` ends the invoice and leaves the order pending."""
    settle(invoice, "canceled")

    invoice.refresh_from_db()
    assert (invoice.status, invoice.ended_at is None) == ("canceled", False)
    assert status_of(order) == "Pending"


def test_a_paid_invoice_never_ends(order, invoice, settle):
    """What Bitsby says later takes nothing back from a paid invoice."""
    payment = bitsby.transfer()
    settle(invoice, payment=payment)
    settle(invoice, "expired")
    settle(invoice, "canceled")
    settle(invoice, "unpaid")

    invoice.refresh_from_db()
    assert (invoice.status, status_of(order)) == ("paid", "Being processed")
    assert booked(order) == [(payment["id"], Decimal("10.00"))]


@pytest.mark.parametrize("word", ["canceled", "expired"])
def test_an_invoice_without_a_time_ends_when_that_is_heard(invoice, settle, word):
    """Where no time to pay is known, the end is the moment at which it was told."""
    BitsbyInvoice.objects.update(expires_at=None)
    before = timezone.now()

    settle(invoice, word)

    assert before <= reload(invoice).ended_at <= timezone.now()


@pytest.mark.parametrize(
    ("word", "minutes"), [("canceled", -30), ("canceled", 30), ("expired", 30)]
)
def test_an_invoice_ends_no_later_than_it_is_told(invoice, settle, word, minutes):
    """Cancelled counts from when it is heard, and so does an end that comes before its time."""
    expires_at = timezone.now() + dt.timedelta(minutes=minutes)
    BitsbyInvoice.objects.update(expires_at=expires_at)
    before = timezone.now()

    settle(invoice, word)

    assert before <= reload(invoice).ended_at <= timezone.now()


def test_a_paid_invoice_has_no_end(invoice, settle):
    """An invoice that is paid did not expire and was not cancelled."""
    settle(invoice, payment=bitsby.transfer())

    assert reload(invoice).ended_at is None


@pytest.mark.parametrize(
    ("word", "signal"), [("paid", "invoice_paid"), ("expired", "invoice_expired")]
)
def test_what_becomes_of_an_invoice_is_announced_by_its_class(
    order, invoice, settle, heard, word, signal
):
    """Listeners that connect for invoices alone hear it, with the invoice and its order."""
    settle(invoice, word, payment=bitsby.transfer() if word == "paid" else None)

    ((found, sender, payload),) = heard
    assert (found, sender) == (signal, BitsbyInvoice)
    assert (payload["invoice"], payload["order"]) == (invoice, order)


def test_a_payment_frees_its_own_order_only(order, invoice, invoice_for, place, settle):
    """Other orders go on waiting for their invoices when one is paid."""
    other = invoice_for(place())

    settle(invoice, payment=bitsby.transfer())

    assert (reload(invoice).order_awaits_payment, reload(other).order_awaits_payment) == (
        False,
        True,
    )


# Paid without its payment


def test_paid_without_its_payment_is_shown_to_staff_once(invoice, settle, caplog):
    """The invoice says why its order is not paid; the log says so a single time."""
    for _ in range(3):
        settle(invoice)

    remote = "Bitsby reports it as paid without naming the payment"
    assert reload(invoice).failure == remote
    assert caplog.messages == [f"{remote}: order={invoice.order_number}"]


def test_a_dry_run_shows_nothing_to_staff(invoice, caplog):
    """Deciding alone leaves an invoice that is paid without its payment as it was."""
    remote = parsing.parse_invoice(bitsby.invoice_item(invoice, "paid"))

    settlement.settle(invoice, remote, dry_run=True)

    assert (reload(invoice).failure, caplog.messages) == ("", [])


@pytest.mark.parametrize("word", ["unpaid", "confirming"])
def test_only_paid_without_a_payment_is_strange(invoice, settle, word, caplog):
    """An invoice that is not called paid needs no payment, and nothing is said of it."""
    settle(invoice, word)

    assert (reload(invoice).failure, caplog.messages) == ("", [])


# Page views


@pytest.mark.parametrize(("remote", "kept"), [(3, 3), (0, 0), (None, 7)])
def test_the_views_of_the_page_are_kept_as_last_told(invoice, settle, remote, kept):
    """How often the page was seen is kept, and an answer without it takes nothing back."""
    BitsbyInvoice.objects.update(page_views=7)

    settle(invoice, "unpaid", views=remote)

    assert reload(invoice).page_views == kept


def test_a_dry_run_keeps_no_views(invoice):
    """Deciding alone writes nothing, views neither."""
    remote = parsing.parse_invoice(bitsby.invoice_item(invoice, "unpaid", views=9))

    settlement.settle(invoice, remote, dry_run=True)

    assert reload(invoice).page_views == 0


def test_views_that_are_told_again_are_not_written_again(
    invoice, settle, django_assert_max_num_queries
):
    """The tenth answer of the same kind costs no write of the invoice."""
    settle(invoice, "unpaid", views=3)

    with django_assert_max_num_queries(10) as queries:
        settle(invoice, "unpaid", views=3)
    assert not [one["sql"] for one in queries.captured_queries if one["sql"].startswith("UPDATE")]


# Pending webhook deliveries


def test_a_delivery_is_answered_by_a_decision_about_its_invoice(invoice_for, place, settle):
    """What is decided answers the delivery that asked, and not those of other invoices."""
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


@pytest.mark.parametrize("word", ["unpaid", "paid", "confirming"])
def test_a_delivery_is_not_answered_by_waiting(invoice_for, place, settle, word):
    """Where nothing could be decided the delivery stays noted for the next look."""
    now = timezone.now()
    invoice = invoice_for(place(), webhook_pending_since=now)

    settle(invoice, word)

    assert reload(invoice).webhook_pending_since == now
