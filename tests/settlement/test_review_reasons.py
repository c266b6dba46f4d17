"""Payments that staff have to review, and the reasons."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import settlement
from oscar_bitsby.choices import InvoiceStatus, Resolution, ReviewReason
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.settlement import Action, ActionType, service
from oscar_bitsby.staff import review
from tests import bitsby
from tests.support.settling import booked, reasons, reload, status_of

Order = get_model("order", "Order")
Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db


# Reasons


@pytest.mark.parametrize(
    "wallet",
    [
        bitsby.wallet(id=str(bitsby.new_id()), cryptocurrency="eth", blockchain="ethereum"),
        bitsby.wallet(id="", cryptocurrency=""),
        None,
    ],
)
def test_money_of_unknown_worth_is_kept_for_staff(order, invoice, settle, heard, wallet):
    """A coin without a locked rate is recorded and flagged; nothing is booked or cancelled."""
    payment = bitsby.transfer()
    for _ in range(3):
        settle(invoice, payment=payment, wallet=wallet)

    record = BitsbyPayment.objects.get()
    assert (record.review_reason, record.fiat_value, record.booked_at) == (
        "unknown_value",
        None,
        None,
    )
    assert reasons(heard) == ["unknown_value"]
    assert booked(order) == []
    assert status_of(order) == "Pending"
    invoice.refresh_from_db()
    assert invoice.status == "paid"


@pytest.mark.parametrize("amount", ["100000000000", "99999999999.99999999"])
def test_an_absurd_amount_is_kept_for_staff(order, invoice, settle, amount):
    """A worth that fits no column of Oscar's is flagged instead of failing for ever."""
    settle(invoice, payment=bitsby.transfer(amount))

    assert BitsbyPayment.objects.get().review_reason == "unknown_value"
    assert booked(order) == []


def test_late_money_is_booked_and_the_order_stays_cancelled(place, invoice_for, settle, heard):
    """Money on a cancelled order stands in the books and the inbox; the goods are gone."""
    order = place(status="Cancelled")
    invoice = invoice_for(order, InvoiceStatus.EXPIRED)
    payment = bitsby.transfer()
    for _ in range(3):
        settle(invoice, payment=payment)

    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert status_of(order) == "Cancelled"
    assert BitsbyPayment.objects.get().review_reason == "late"
    assert reasons(heard) == ["late"]


def test_a_second_payment_is_booked_and_flagged(order, invoice_for, settle, heard):
    """Two invoices of an order that are both paid give two transactions and one alarm."""
    first, second = bitsby.transfer(), bitsby.transfer()
    old = invoice_for(order, InvoiceStatus.EXPIRED)
    new = invoice_for(order)
    settle(new, payment=first)
    for _ in range(2):
        settle(old, payment=second)

    assert booked(order) == [(first["id"], Decimal(10)), (second["id"], Decimal(10))]
    assert order.sources.get().amount_debited == Decimal(20)
    assert order.payment_events.count() == 2
    assert reasons(heard) == ["second"]
    assert BitsbyPayment.objects.get(bitsby_id=second["id"]).review_reason == "second"
    assert order.status_changes.count() == 1


def test_a_second_payment_of_the_same_invoice_is_booked_and_flagged(order, invoice, settle, heard):
    """One invoice to which two payments are bound gives two transactions and one alarm."""
    settle(invoice, payment=bitsby.transfer())
    settle(invoice, payment=bitsby.transfer("3.00000000"))

    assert [amount for _, amount in booked(order)] == [Decimal(10), Decimal(3)]
    assert reasons(heard) == ["second"]


def test_money_for_an_order_that_another_source_paid_is_flagged(order, invoice, settle, heard):
    """A card that paid the order first makes the transfer a second payment."""
    card = SourceType.objects.create(name="Card", code="card")
    Source.objects.create(order=order, source_type=card, currency="USD", amount_debited=10)

    settle(invoice, payment=bitsby.transfer())

    assert reasons(heard) == ["second"]
    assert [amount for _, amount in booked(order)] == [Decimal(10)]


def test_another_source_that_gave_all_back_is_no_second_payment(order, invoice, settle, heard):
    """A card payment that was refunded in full does not make the transfer a second one."""
    card = SourceType.objects.create(name="Card", code="card")
    Source.objects.create(
        order=order, source_type=card, currency="USD", amount_debited=10, amount_refunded=10
    )

    settle(invoice, payment=bitsby.transfer())

    assert reasons(heard) == []
    assert status_of(order) == "Being processed"


@pytest.mark.parametrize(
    ("values", "is_paid"),
    [
        ({"amountFiat": "9.99"}, True),
        ({"amountFiat": "1.00"}, True),
        ({"amountFiat": "100.00"}, True),
        ({"currencyFiat": "RUB"}, True),
        ({"projectId": str(bitsby.new_id())}, False),
    ],
)
def test_an_invoice_that_is_not_what_was_asked_for_is_not_booked(
    order, invoice, settle, cancel, heard, move_time, values, is_paid
):
    """Amount, currency or project that differ: flagged, and the order neither paid nor lost."""
    payment = bitsby.transfer()
    for _ in range(3):
        settle(invoice, payment=payment, **values)

    record = BitsbyPayment.objects.get()
    assert (record.review_reason, record.invoice, record.booked_at) == ("mismatch", invoice, None)
    assert reasons(heard) == ["mismatch"]
    assert booked(order) == []
    assert order.sources.get().amount_debited == 0
    invoice.refresh_from_db()
    assert (invoice.status == "paid") == is_paid
    move_time(days=3)
    BitsbyInvoice.objects.update(status="expired", ended_at=timezone.now() - dt.timedelta(days=2))
    assert not cancel(order)
    assert status_of(order) == "Pending"


@pytest.mark.parametrize(
    "values", [{"projectId": bitsby.PROJECT.upper()}, {"currencyFiat": "usd"}, {"projectId": None}]
)
def test_the_same_thing_written_otherwise_is_no_mismatch(order, invoice, settle, values):
    """Case of letters, and a project that the answer leaves out, do not hold money up."""
    settle(invoice, payment=bitsby.transfer(), **values)

    assert status_of(order) == "Being processed"


def test_money_for_a_deleted_order_is_kept_for_staff(order, invoice, settle, heard):
    """A payment whose order is gone stands in the inbox with the order's number."""
    number, payment = order.number, bitsby.transfer()
    order.delete()
    invoice.refresh_from_db()
    for _ in range(2):
        settle(invoice, payment=payment)

    record = BitsbyPayment.objects.get()
    assert (record.review_reason, record.booked_at) == ("order_gone", None)
    assert record.invoice.order_number == number
    assert reasons(heard) == ["order_gone"]
    assert heard[0].payload["order"] is None
    assert not Transaction.objects.exists()


@pytest.mark.parametrize("word", ["expired", "canceled"])
def test_money_bound_to_an_ended_invoice_waits_for_staff(
    order, invoice, settle, cancel, heard, move_time, word
):
    """Such money is flagged once, and the order is not cancelled under it."""
    payment = bitsby.transfer()
    for _ in range(3):
        settle(invoice, word, payment=payment)

    assert BitsbyPayment.objects.get().review_reason == "not_paid"
    assert reasons(heard) == ["not_paid"]
    assert booked(order) == []
    invoice.refresh_from_db()
    assert invoice.status == word
    move_time(days=2)
    assert not cancel(order)
    assert status_of(order) == "Pending"


def test_money_on_an_ended_invoice_counts_once_bitsby_calls_it_paid(order, invoice, settle):
    """The flag goes and the money is booked when the invoice turns out to be paid."""
    payment = bitsby.transfer()
    settle(invoice, "expired", payment=payment)
    settle(invoice, "paid", payment=payment)

    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert BitsbyPayment.objects.get().review_reason == ""
    assert status_of(order) == "Being processed"


def test_money_on_an_ended_invoice_of_another_project_stands_in_the_inbox(
    order, invoice, settle, heard
):
    """Money is never just a row that nobody is shown, even where two things are strange."""
    settle(invoice, "expired", payment=bitsby.transfer(), projectId=str(bitsby.new_id()))

    assert BitsbyPayment.objects.needs_review().count() == 1


@pytest.mark.parametrize(
    ("word", "payment"), [("unpaid", True), ("confirming", False), ("", False)]
)
def test_a_word_that_promises_nothing_changes_nothing(order, invoice, settle, heard, word, payment):
    """What Bitsby does not call paid, expired or canceled is asked about again."""
    outcome = settle(invoice, word, payment=bitsby.transfer() if payment else None)

    assert not outcome.is_final
    assert outcome.actions == (Action(ActionType.WAIT),)
    invoice.refresh_from_db()
    assert (invoice.status, status_of(order), heard) == ("unpaid", "Pending", [])
    assert booked(order) == []


@pytest.mark.parametrize("word", ["confirming", "overpaid", ""])
def test_money_under_an_unknown_word_stands_in_the_inbox(order, invoice, settle, word):
    """A payment of an invoice whose word is not documented is shown to staff and not booked."""
    settle(invoice, word, payment=bitsby.transfer())

    assert BitsbyPayment.objects.needs_review().get().review_reason == "not_paid"
    assert (booked(order), status_of(order)) == ([], "Pending")


def test_dismissing_what_an_invoice_was_called_paid_by_frees_its_order(
    order, invoice, settle, django_user_model
):
    """Money sent back by hand leaves an order that can be paid again, not one stuck for good."""
    staff = django_user_model.objects.create_user("staff", "staff@example.com", "secret")
    payment = bitsby.transfer()
    settle(invoice, payment=payment, amountFiat="99.00")

    review.dismiss(BitsbyPayment.objects.get().pk, staff, "sent back")
    settle(invoice, payment=payment, amountFiat="99.00")

    invoice.refresh_from_db()
    assert (invoice.status, invoice.order_awaits_payment) == ("canceled", True)
    assert BitsbyPayment.objects.needs_review().count() == 0


def test_an_order_is_not_paid_by_nothing(order, invoice, settle):
    """A payment of zero, or worth less than a cent, is for a person to look at."""
    settle(invoice, payment=bitsby.transfer("0.00000000"))

    assert status_of(order) == "Pending"
    assert BitsbyPayment.objects.needs_review().get().review_reason == "unknown_value"


def test_two_payments_that_make_up_the_total_need_nobody(order, invoice_for, settle):
    """The rest that a buyer sends after a short payment is no second payment."""
    settle(invoice_for(order, "expired"), payment=bitsby.transfer("6.00000000"))
    settle(invoice_for(order), payment=bitsby.transfer("4.00000000"))

    assert [row.review_reason for row in BitsbyPayment.objects.order_by("pk")] == ["short", ""]


def test_paid_without_its_payment_waits(order, invoice, settle):
    """Without the payment's id nothing can be booked just once, so nothing is."""
    outcome = settle(invoice, "paid")

    assert not outcome.is_final
    invoice.refresh_from_db()
    assert (invoice.status, status_of(order)) == ("unpaid", "Pending")


def test_a_payment_that_is_booked_elsewhere_does_not_leave_an_order_waiting_unseen(
    place, invoice_for, settle
):
    """An invoice called paid by a payment that another order already has is shown to staff."""
    payment = bitsby.transfer()
    one, other = place(), place()
    settle(invoice_for(one), payment=payment)
    settle(invoice_for(other), payment=payment)

    assert Transaction.objects.count() == 1
    assert status_of(other) == "Pending"
    assert BitsbyPayment.objects.needs_review().count() == 1


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


# Flagging a payment


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


def test_a_flag_is_announced_with_payment_reason_and_order(order, invoice, settle, heard):
    """A shop that listens for payments that need attention learns which, why, and of what order."""
    settle(invoice, payment=bitsby.transfer("9.00000000"))

    (found,) = [one for one in heard if one.name == "payment_needs_attention"]
    payload = {"payment": BitsbyPayment.objects.get(), "reason": "short", "order": order}
    assert found.sender is BitsbyPayment
    assert {name: found.payload[name] for name in payload} == payload


def test_an_order_that_did_not_move_is_announced_with_it(order, invoice, settle, heard, stuck):
    """Whoever hears that a status could not be changed learns of which order."""
    settle(invoice, payment=bitsby.transfer())

    (found,) = [one for one in heard if one.name == "payment_needs_attention"]
    assert (found.payload["reason"], found.payload["order"]) == ("status", order)


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
    assert (reload(invoice).failure, caplog.messages) == ("", [])


# Payments that are bound to no invoice of ours


def test_an_unbound_payment_is_kept_and_announced_once(heard, django_capture_on_commit_callbacks):
    """``keep`` records a payment that fits nothing, and sends its signal a single time."""
    payment = parsing.parse_payment(bitsby.payment_item())
    for _ in range(3):
        with django_capture_on_commit_callbacks(execute=True):
            settlement.record_unbound(payment, reason="unmatched")

    record = BitsbyPayment.objects.get()
    assert (record.bitsby_id, record.review_reason) == (payment.id, "unmatched")
    assert reasons(heard) == ["unmatched"]
    assert heard[0].payload["payment"] == record


def test_a_booked_payment_is_not_flagged_when_it_is_told_unbound(
    order, invoice, settle, heard, django_capture_on_commit_callbacks
):
    """Money in the books stays as it is, even if Bitsby later shows it without its invoice."""
    payment = bitsby.transfer()
    settle(invoice, payment=payment)
    with django_capture_on_commit_callbacks(execute=True):
        settlement.record_unbound(
            parsing.parse_payment(bitsby.payment_item(payment)), reason="unmatched"
        )

    record = BitsbyPayment.objects.get()
    assert (record.review_reason, record.invoice) == ("", invoice)
    assert reasons(heard) == []


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

    assert reload(record).is_foreign is False
    assert list(BitsbyPayment.objects.needs_review()) == [record]
