"""Settling in detail: when an invoice ends, what a flag replaces, who is told what."""

from __future__ import annotations

import datetime as dt
import logging

import pytest
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import settlement, signals
from oscar_bitsby.choices import Resolution, ReviewReason
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.settlement import Action, ActionType, Outcome, service
from tests import bitsby

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db


@pytest.fixture
def settle(django_capture_on_commit_callbacks):
    """Return a function that settles what Bitsby says of an invoice, up to the commit."""

    def run(invoice, status="paid", payment=None, **values):
        remote = parsing.parse_invoice(
            bitsby.invoice_item(invoice, status, payment=payment, **values)
        )
        with django_capture_on_commit_callbacks(execute=True):
            return settlement.settle(invoice, remote)

    return run


@pytest.fixture
def heard():
    """Every signal of ours with its sender and what it carried."""
    received = []

    def listen(signal, sender, **payload):
        received.append((signal, sender, payload))

    ours = (signals.invoice_paid, signals.invoice_expired, signals.payment_needs_attention)
    for signal in ours:
        signal.connect(listen)
    yield received
    for signal in ours:
        signal.disconnect(listen)


@pytest.fixture
def stuck(settings):
    """A shop whose paid orders cannot be moved."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "ORDER_STATUS_PAID": "Complete"}


def as_now(row):
    return type(row).objects.get(pk=row.pk)


# The outcome


def test_an_outcome_tells_what_was_done():
    """``did`` knows the steps that were decided and no others; to wait is nothing final."""
    waits = Outcome((Action(ActionType.WAIT),), "unpaid")
    books = Outcome((Action(ActionType.MARK_PAID), Action(ActionType.BOOK)), "paid")

    assert [waits.did(ActionType.WAIT), waits.did(ActionType.BOOK), waits.is_final] == [
        True,
        False,
        False,
    ]
    assert [books.did(ActionType.BOOK), books.did(ActionType.WAIT), books.is_final] == [
        True,
        False,
        True,
    ]


# The end of an invoice


@pytest.mark.parametrize("word", ["canceled", "expired"])
def test_an_invoice_without_a_time_ends_when_that_is_heard(invoice, settle, word):
    """Where no time to pay is known, the end is the moment at which it was told."""
    BitsbyInvoice.objects.update(expires_at=None)
    before = timezone.now()

    settle(invoice, word)

    assert before <= as_now(invoice).ended_at <= timezone.now()


@pytest.mark.parametrize(
    ("word", "minutes"), [("canceled", -30), ("canceled", 30), ("expired", 30)]
)
def test_an_invoice_ends_no_later_than_it_is_told(invoice, settle, word, minutes):
    """Cancelled counts from when it is heard, and so does an end that comes before its time."""
    expires_at = timezone.now() + dt.timedelta(minutes=minutes)
    BitsbyInvoice.objects.update(expires_at=expires_at)
    before = timezone.now()

    settle(invoice, word)

    assert before <= as_now(invoice).ended_at <= timezone.now()


def test_a_paid_invoice_has_no_end(invoice, settle):
    """An invoice that is paid did not expire and was not cancelled."""
    settle(invoice, payment=bitsby.transfer())

    assert as_now(invoice).ended_at is None


# Paid without its payment


def test_paid_without_its_payment_is_shown_to_staff_once(invoice, settle, caplog):
    """The invoice says why its order is not paid; the log says so a single time."""
    for _ in range(3):
        settle(invoice)

    remote = "Bitsby calls it paid without naming the payment"
    assert as_now(invoice).failure == remote
    assert caplog.messages == [f"{remote}: order={invoice.order_number}"]


def test_a_dry_run_shows_nothing_to_staff(invoice, caplog):
    """Deciding alone leaves an invoice that is paid without its payment as it was."""
    remote = parsing.parse_invoice(bitsby.invoice_item(invoice, "paid"))

    settlement.settle(invoice, remote, dry_run=True)

    assert (as_now(invoice).failure, caplog.messages) == ("", [])


# Flags


def test_an_order_that_did_not_move_is_told_before_all_else(order, invoice, settle, stuck):
    """That the order is not paid although its money is there is what staff see, short or not."""
    settle(invoice, payment=bitsby.transfer("9.00000000"))

    assert BitsbyPayment.objects.get().review_reason == "status"


def test_a_new_reason_asks_staff_again(order, invoice, settle, stuck, django_user_model):
    """What staff decided about one reason says nothing about the next."""
    settle(invoice, payment=bitsby.transfer())
    BitsbyPayment.objects.update(resolved_at=timezone.now(), resolution=Resolution.ACCEPTED)

    service.flag_for_review(BitsbyPayment.objects.get(), ReviewReason.REBOUND, order)

    record = BitsbyPayment.objects.needs_review().get()
    assert (record.review_reason, record.resolution, record.resolved_at) == ("rebound", "", None)


def test_the_same_reason_does_not_ask_staff_again(order, invoice, settle):
    """What staff have dealt with stays dealt with, however often it is told."""
    payment = bitsby.transfer("9.00000000")
    settle(invoice, payment=payment)
    BitsbyPayment.objects.update(resolved_at=timezone.now(), resolution=Resolution.ACCEPTED)

    service.flag_for_review(BitsbyPayment.objects.get(), ReviewReason.SHORT, order)

    assert not BitsbyPayment.objects.needs_review().exists()
    assert BitsbyPayment.objects.get().resolution == Resolution.ACCEPTED


def test_a_flag_is_logged_with_all_that_is_needed_to_find_it(order, invoice, settle, caplog):
    """Payment, reason, order and invoice stand in one line."""
    payment = bitsby.transfer("9.00000000")
    settle(invoice, payment=payment)

    assert caplog.messages == [
        f"payment needs attention: payment={payment['id']} reason=short"
        f" order={order.number} invoice={invoice.bitsby_id}"
    ]


def test_a_flag_without_an_order_is_logged_as_well(caplog):
    """Money that is bound to nothing has no order's number."""
    payment = parsing.parse_payment(bitsby.payment_item())
    settlement.record_unbound(payment, reason="unmatched")

    assert caplog.messages == [
        f"payment needs attention: payment={payment.id} reason=unmatched order=None invoice=None"
    ]


# Signals


def test_a_flag_is_announced_with_payment_reason_and_order(order, invoice, settle, heard):
    """A shop that listens for payments that need attention learns which, why, and of what order."""
    settle(invoice, payment=bitsby.transfer("9.00000000"))

    (found,) = [one for one in heard if one[0] is signals.payment_needs_attention]
    payload = {"payment": BitsbyPayment.objects.get(), "reason": "short", "order": order}
    assert found[1] is BitsbyPayment
    assert {name: found[2][name] for name in payload} == payload


@pytest.mark.parametrize(
    ("word", "signal"), [("paid", signals.invoice_paid), ("expired", signals.invoice_expired)]
)
def test_what_becomes_of_an_invoice_is_announced_by_its_class(
    order, invoice, settle, heard, word, signal
):
    """Listeners that connect for invoices alone hear it, with the invoice and its order."""
    settle(invoice, word, payment=bitsby.transfer() if word == "paid" else None)

    ((found, sender, payload),) = heard
    assert (found, sender) == (signal, BitsbyInvoice)
    assert (payload["invoice"], payload["order"]) == (invoice, order)


# Payments that are bound to nothing of ours


def test_another_projects_payment_is_remembered_with_what_it_is_bound_to(invoice):
    """Without a reason for staff it is somebody else's: kept, and in nobody's inbox."""
    remote = bitsby.invoice_item(
        invoice, "paid", id=str(bitsby.new_id()), projectId=str(bitsby.new_id())
    )
    payment = parsing.parse_payment(bitsby.payment_item(invoice=remote))

    record = settlement.record_unbound(payment)

    assert record == BitsbyPayment.objects.get()
    assert (record.is_foreign, record.review_reason) == (True, "")
    assert (str(record.bound_to), record.project_id) == (remote["id"], remote["projectId"])


def test_a_payment_that_staff_shall_see_is_nobody_elses():
    """With a reason it stands in the inbox and is not taken for another project's."""
    record = settlement.record_unbound(
        parsing.parse_payment(bitsby.payment_item()), reason="unmatched"
    )

    assert as_now(record).is_foreign is False
    assert list(BitsbyPayment.objects.needs_review()) == [record]


# What is logged of the way of an order


def test_the_way_to_a_paid_order_is_logged_step_by_step(order, invoice, settle, caplog):
    """Paid, booked, moved: three lines, each with the order, the invoice and what was changed."""
    payment = bitsby.transfer()
    with caplog.at_level(logging.INFO, "oscar_bitsby"):
        settle(invoice, payment=payment)

    what = f"order={order.number} invoice={invoice.bitsby_id}"
    assert caplog.messages[:3] == [
        f"invoice paid: {what} before=unpaid",
        f"payment booked: {what} payment={payment['id']} fiat_value=10.00",
        f"order paid: {what} status=Being processed",
    ]


# What the decision rests on


def test_what_is_owed_is_what_the_order_costs_now(order, invoice, settle):
    """An order that has become dearer since its invoice was made is paid short by that one."""
    Order.objects.filter(pk=order.pk).update(total_incl_tax=12)

    settle(invoice, payment=bitsby.transfer("10.00000000"))

    assert BitsbyPayment.objects.get().review_reason == "short"


def test_an_order_that_costs_nothing_any_more_is_overpaid(order, invoice, settle):
    """Money for an order without a price is too much of it, and no second payment."""
    Order.objects.filter(pk=order.pk).update(total_incl_tax=0)

    settle(invoice, payment=bitsby.transfer("10.00000000"))

    assert BitsbyPayment.objects.get().review_reason == "over"


def test_an_order_of_cents_may_be_paid_twice_as_well(place, invoice_for, settle):
    """However little was paid first, the next payment is the second one."""
    order = place("0.50")
    order.sources.update(amount_debited="0.50")

    settle(invoice_for(order), payment=bitsby.transfer("10.00000000"))

    assert BitsbyPayment.objects.get().review_reason == "second"


def test_a_payment_frees_its_own_order_only(order, invoice, invoice_for, place, settle):
    """Other orders go on waiting for their invoices when one is paid."""
    other = invoice_for(place())

    settle(invoice, payment=bitsby.transfer())

    assert (as_now(invoice).order_awaits_payment, as_now(other).order_awaits_payment) == (
        False,
        True,
    )


def test_an_order_that_did_not_move_is_announced_with_it(order, invoice, settle, heard, stuck):
    """Whoever hears that a status could not be changed learns of which order."""
    settle(invoice, payment=bitsby.transfer())

    (found,) = [one for one in heard if one[0] is signals.payment_needs_attention]
    assert (found[2]["reason"], found[2]["order"]) == ("status", order)


# What else is noted of an answer


@pytest.mark.parametrize(("remote", "kept"), [(3, 3), (0, 0), (None, 7)])
def test_the_views_of_the_page_are_kept_as_last_told(invoice, settle, remote, kept):
    """How often the page was seen is kept, and an answer without it takes nothing back."""
    BitsbyInvoice.objects.update(page_views=7)

    settle(invoice, "unpaid", views=remote)

    assert as_now(invoice).page_views == kept


def test_a_dry_run_keeps_no_views(invoice):
    """Deciding alone writes nothing, views neither."""
    remote = parsing.parse_invoice(bitsby.invoice_item(invoice, "unpaid", views=9))

    settlement.settle(invoice, remote, dry_run=True)

    assert as_now(invoice).page_views == 0


def test_views_that_are_told_again_are_not_written_again(
    invoice, settle, django_assert_max_num_queries
):
    """The tenth answer of the same kind costs no write of the invoice."""
    settle(invoice, "unpaid", views=3)

    with django_assert_max_num_queries(10) as queries:
        settle(invoice, "unpaid", views=3)
    assert not [one["sql"] for one in queries.captured_queries if one["sql"].startswith("UPDATE")]


def test_a_delivery_is_answered_by_a_decision_about_its_invoice(invoice_for, place, settle):
    """What is decided answers the delivery that asked, and not those of other invoices."""
    now = timezone.now()
    invoice, other = (
        invoice_for(place(), webhook_pending_since=now),
        invoice_for(place(), webhook_pending_since=now),
    )

    settle(invoice, "expired")

    assert (as_now(invoice).webhook_pending_since, as_now(other).webhook_pending_since) == (
        None,
        now,
    )


@pytest.mark.parametrize("word", ["unpaid", "paid", "confirming"])
def test_a_delivery_is_not_answered_by_waiting(invoice_for, place, settle, word):
    """Where nothing could be decided the delivery stays noted for the next look."""
    now = timezone.now()
    invoice = invoice_for(place(), webhook_pending_since=now)

    settle(invoice, word)

    assert as_now(invoice).webhook_pending_since == now


@pytest.mark.parametrize("word", ["unpaid", "confirming"])
def test_only_paid_without_a_payment_is_strange(invoice, settle, word, caplog):
    """An invoice that is not called paid needs no payment, and nothing is said of it."""
    settle(invoice, word)

    assert (as_now(invoice).failure, caplog.messages) == ("", [])


def test_paid_by_what_staff_have_dismissed_is_not_nameless(
    order, invoice, settle, django_user_model, caplog
):
    """A payment that staff have sent back is known by its name."""
    payment = bitsby.transfer()
    settle(invoice, payment=payment, wallet=None)
    BitsbyPayment.objects.update(resolved_at=timezone.now(), resolution=Resolution.DISMISSED)
    caplog.clear()

    outcome = settle(invoice, payment=payment, wallet=None)

    assert outcome.actions == (Action(ActionType.WAIT),)
    assert (as_now(invoice).failure, caplog.messages) == ("", [])


def test_an_outcome_tells_bitsbys_word(invoice, settle):
    """Whoever asked learns what was said as well as what was done."""
    assert settle(invoice, "expired").remote_status == "expired"
