"""Payments that staff have to review, and the reasons."""

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import settlement
from oscar_bitsby.choices import InvoiceStatus, Resolution, ReviewReason
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.settlement import Action, ActionType, payments
from oscar_bitsby.staff import review
from tests.support import bitsby
from tests.support.invoices import expired_ago
from tests.support.settling import booked, pay_by_card, reasons, reload, status_of

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db


def reason():
    """Return the review reason of the only payment."""
    return BitsbyPayment.objects.get().review_reason


def attention_signal(sent_signals):
    """Return the first signal about a payment that needs attention."""
    return next(one for one in sent_signals if one.name == "payment_needs_attention")


# Reasons


@pytest.mark.parametrize(
    "wallet",
    [
        bitsby.wallet(id=str(bitsby.new_id()), cryptocurrency="eth", blockchain="ethereum"),
        bitsby.wallet(id="", cryptocurrency=""),
        None,
    ],
)
def test_payment_of_unknown_value_needs_review(order, invoice, settle, sent_signals, wallet):
    """A coin without a locked rate is flagged once; nothing is booked, and the invoice is paid."""
    payment = bitsby.transfer()
    for _ in range(3):
        settle(invoice, payment=payment, wallet=wallet)

    row = BitsbyPayment.objects.get()
    assert (row.review_reason, row.fiat_value, row.booked_at) == ("unknown_value", None, None)
    assert reasons(sent_signals) == ["unknown_value"]
    assert booked(order) == []
    assert status_of(order) == "Pending"
    invoice.refresh_from_db()
    assert invoice.status == "paid"


@pytest.mark.parametrize("amount", ["100000000000", "99999999999.99999999", "0.00000000"])
def test_amount_of_zero_or_too_large_for_oscar_needs_review(order, invoice, settle, amount):
    """A value of zero, or one that Oscar cannot store, is flagged and does not pay the order."""
    settle(invoice, payment=bitsby.transfer(amount))

    assert BitsbyPayment.objects.needs_review().get().review_reason == "unknown_value"
    assert (booked(order), status_of(order)) == ([], "Pending")


def test_late_payment_is_booked_and_the_order_stays_cancelled(
    place, invoice_for, settle, sent_signals
):
    """A payment of a cancelled order is booked and needs review; its stock was released."""
    order = place(status="Cancelled")
    invoice = invoice_for(order, **expired_ago(hours=2))
    payment = bitsby.transfer()
    for _ in range(3):
        settle(invoice, payment=payment)

    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert status_of(order) == "Cancelled"
    assert reason() == "late"
    assert reasons(sent_signals) == ["late"]


def test_second_payment_is_booked_and_flagged(order, invoice_for, settle, sent_signals):
    """Two invoices of an order that are both paid give two transactions and one flag."""
    first, second = bitsby.transfer(), bitsby.transfer()
    old = invoice_for(order, InvoiceStatus.EXPIRED)
    new = invoice_for(order)
    settle(new, payment=first)
    for _ in range(2):
        settle(old, payment=second)

    assert booked(order) == [(first["id"], Decimal(10)), (second["id"], Decimal(10))]
    assert order.sources.get().amount_debited == Decimal(20)
    assert order.payment_events.count() == 2
    assert reasons(sent_signals) == ["second"]
    assert BitsbyPayment.objects.get(bitsby_id=second["id"]).review_reason == "second"
    assert order.status_changes.count() == 1


def test_second_payment_of_the_same_invoice_is_booked_and_flagged(
    order, invoice, settle, sent_signals
):
    """One invoice to which two payments are bound gives two transactions and one flag."""
    settle(invoice, payment=bitsby.transfer())
    settle(invoice, payment=bitsby.transfer("3.00000000"))

    assert [amount for _, amount in booked(order)] == [Decimal(10), Decimal(3)]
    assert reasons(sent_signals) == ["second"]


@pytest.mark.parametrize(("refunded", "expected"), [(0, ["second"]), (10, [])])
def test_payment_after_another_source_paid_is_a_second_payment(
    order, invoice, settle, sent_signals, refunded, expected
):
    """If a card paid the order before, and was not refunded in full, the transfer is flagged."""
    pay_by_card(order, refunded)

    settle(invoice, payment=bitsby.transfer())

    assert reasons(sent_signals) == expected
    assert [amount for _, amount in booked(order)] == [Decimal(10)]
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
def test_payment_of_a_changed_invoice_is_not_booked(
    order, invoice, settle, cancel, sent_signals, move_time, values, is_paid
):
    """Another amount, currency or project: flagged, and the order neither paid nor cancelled."""
    payment = bitsby.transfer()
    for _ in range(3):
        settle(invoice, payment=payment, **values)

    row = BitsbyPayment.objects.get()
    assert (row.review_reason, row.invoice, row.booked_at) == ("mismatch", invoice, None)
    assert reasons(sent_signals) == ["mismatch"]
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
def test_different_spelling_is_no_mismatch(order, invoice, settle, values):
    """Upper case, or an answer without the project, does not prevent booking."""
    settle(invoice, payment=bitsby.transfer(), **values)

    assert status_of(order) == "Being processed"


def test_payment_of_a_deleted_order_needs_review(order, invoice, settle, sent_signals):
    """A payment whose order was deleted is flagged, and keeps the order's number."""
    number, payment = order.number, bitsby.transfer()
    order.delete()
    invoice.refresh_from_db()
    for _ in range(2):
        settle(invoice, payment=payment)

    row = BitsbyPayment.objects.get()
    assert (row.review_reason, row.booked_at) == ("order_gone", None)
    assert row.invoice.order_number == number
    assert reasons(sent_signals) == ["order_gone"]
    assert sent_signals[0].payload["order"] is None
    assert not Transaction.objects.exists()


@pytest.mark.parametrize("status", ["expired", "canceled"])
def test_payment_of_an_expired_invoice_needs_review(
    order, invoice, settle, cancel, sent_signals, move_time, status
):
    """It is flagged once, and the order is not cancelled."""
    payment = bitsby.transfer()
    for _ in range(3):
        settle(invoice, status, payment=payment)

    assert reason() == "not_paid"
    assert reasons(sent_signals) == ["not_paid"]
    assert booked(order) == []
    invoice.refresh_from_db()
    assert invoice.status == status
    move_time(days=2)
    assert not cancel(order)
    assert status_of(order) == "Pending"


def test_payment_of_an_expired_invoice_is_booked_once_the_invoice_is_paid(order, invoice, settle):
    """The flag is removed and the payment booked when Bitsby reports the invoice as paid."""
    payment = bitsby.transfer()
    settle(invoice, "expired", payment=payment)
    settle(invoice, "paid", payment=payment)

    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert reason() == ""
    assert status_of(order) == "Being processed"


def test_payment_of_an_expired_invoice_of_another_project_needs_review(
    order, invoice, settle, sent_signals
):
    """Staff see every payment, also one with two problems."""
    settle(invoice, "expired", payment=bitsby.transfer(), projectId=str(bitsby.new_id()))

    assert BitsbyPayment.objects.needs_review().count() == 1


@pytest.mark.parametrize(
    ("status", "payment"), [("unpaid", True), ("confirming", False), ("", False)]
)
def test_other_statuses_change_nothing(order, invoice, settle, sent_signals, status, payment):
    """Unless it is paid, expired or canceled, the remote invoice is fetched again later."""
    outcome = settle(invoice, status, payment=bitsby.transfer() if payment else None)

    assert not outcome.is_final
    assert outcome.actions == (Action(ActionType.WAIT),)
    invoice.refresh_from_db()
    assert (invoice.status, status_of(order), sent_signals) == ("unpaid", "Pending", [])
    assert booked(order) == []


@pytest.mark.parametrize("status", ["confirming", "overpaid", ""])
def test_payment_under_an_undocumented_status_needs_review(order, invoice, settle, status):
    """A payment of an invoice with an undocumented status is flagged and not booked."""
    settle(invoice, status, payment=bitsby.transfer())

    assert BitsbyPayment.objects.needs_review().get().review_reason == "not_paid"
    assert (booked(order), status_of(order)) == ([], "Pending")


def test_order_can_be_paid_again_after_its_payment_was_dismissed(invoice, settle, staff_user):
    """After a refund by hand, the invoice is canceled and its order awaits payment."""
    payment = bitsby.transfer()
    settle(invoice, payment=payment, amountFiat="99.00")

    review.dismiss(BitsbyPayment.objects.get().pk, staff_user, "sent back")
    settle(invoice, payment=payment, amountFiat="99.00")

    invoice.refresh_from_db()
    assert (invoice.status, invoice.order_awaits_payment) == ("canceled", True)
    assert BitsbyPayment.objects.needs_review().count() == 0


def test_two_payments_that_make_up_the_total_need_no_second_review(order, invoice_for, settle):
    """The rest that a buyer sends after a short payment is no second payment."""
    settle(invoice_for(order, "expired"), payment=bitsby.transfer("6.00000000"))
    settle(invoice_for(order), payment=bitsby.transfer("4.00000000"))

    assert [row.review_reason for row in BitsbyPayment.objects.order_by("pk")] == ["short", ""]


def test_paid_invoice_without_its_payment_waits(order, invoice, settle):
    """Without the payment's id it could be booked twice, so it is not booked."""
    outcome = settle(invoice, "paid")

    assert not outcome.is_final
    invoice.refresh_from_db()
    assert (invoice.status, status_of(order)) == ("unpaid", "Pending")


def test_payment_booked_for_another_order_needs_review(place, invoice_for, settle):
    """If an invoice is paid by a payment that is booked for another order, it is flagged."""
    payment = bitsby.transfer()
    one, other = place(), place()
    settle(invoice_for(one), payment=payment)
    settle(invoice_for(other), payment=payment)

    assert Transaction.objects.count() == 1
    assert status_of(other) == "Pending"
    assert BitsbyPayment.objects.needs_review().count() == 1


@pytest.mark.parametrize(("total", "expected"), [(12, "short"), (0, "over")])
def test_payment_is_compared_with_the_current_total(order, invoice, settle, total, expected):
    """If the total was changed after the invoice was created, its amount is wrong.

    A payment of an order with a total of zero is too much, and no second payment.
    """
    Order.objects.filter(pk=order.pk).update(total_incl_tax=total)

    settle(invoice, payment=bitsby.transfer("10.00000000"))

    assert reason() == expected


def test_second_payment_of_a_small_order_is_flagged_as_second(place, invoice_for, settle):
    """Less than one unit of currency also pays an order."""
    order = place("0.50")
    order.sources.update(amount_debited="0.50")

    settle(invoice_for(order), payment=bitsby.transfer("10.00000000"))

    assert reason() == "second"


# Flagging a payment


def test_unchanged_order_status_is_flagged_before_other_reasons(
    order, invoice, settle, sent_signals, unpayable
):
    """Staff first see that the order's status was not changed, even if the payment is short."""
    settle(invoice, payment=bitsby.transfer("9.00000000"))

    assert BitsbyPayment.objects.get().review_reasons == ["status", "short"]
    assert reasons(sent_signals) == ["status", "short"]
    payload = attention_signal(sent_signals).payload
    assert (payload["reason"], payload["order"]) == ("status", order)


def test_new_reason_needs_a_new_decision(order, invoice, settle, unpayable):
    """A decision about one reason does not count for the next one."""
    settle(invoice, payment=bitsby.transfer())
    BitsbyPayment.objects.update(resolved_at=timezone.now(), resolution=Resolution.ACCEPTED)

    payments.flag_for_review(BitsbyPayment.objects.get(), ReviewReason.REBOUND, order)

    row = BitsbyPayment.objects.needs_review().get()
    assert (row.review_reason, row.resolution, row.resolved_at) == ("rebound", "", None)


def test_same_reason_needs_no_new_decision(order, invoice, settle):
    """A decision stays, however often the payment is settled again."""
    payment = bitsby.transfer("9.00000000")
    settle(invoice, payment=payment)
    BitsbyPayment.objects.update(resolved_at=timezone.now(), resolution=Resolution.ACCEPTED)

    payments.flag_for_review(BitsbyPayment.objects.get(), ReviewReason.SHORT, order)

    assert not BitsbyPayment.objects.needs_review().exists()
    assert BitsbyPayment.objects.get().resolution == Resolution.ACCEPTED


@pytest.mark.parametrize("is_bound", [True, False])
def test_flag_is_logged_with_payment_reason_order_and_invoice(
    order, invoice, settle, record_unbound, caplog, is_bound
):
    """One log line has all that operators search for, also for an unbound payment."""
    payment = bitsby.transfer("9.00000000")
    if is_bound:
        settle(invoice, payment=payment)
        details = f"reason=short order={order.number} invoice={invoice.bitsby_id}"
    else:
        record_unbound(payment)
        details = "reason=unmatched order=None invoice=None"

    assert caplog.messages == [f"payment needs attention: payment={payment['id']} {details}"]


def test_flag_sends_a_signal_with_payment_reason_and_order(order, invoice, settle, sent_signals):
    """The signal names the payment, the reason and the order."""
    settle(invoice, payment=bitsby.transfer("9.00000000"))

    found = attention_signal(sent_signals)
    payload = {"payment": BitsbyPayment.objects.get(), "reason": "short", "order": order}
    assert found.sender is BitsbyPayment
    assert {name: found.payload[name] for name in payload} == payload


def test_dismissed_payment_is_not_a_missing_payment(invoice, settle, caplog):
    """After staff dismissed its payment, the invoice is not marked as paid without a payment."""
    payment = bitsby.transfer()
    settle(invoice, payment=payment, wallet=None)
    BitsbyPayment.objects.update(resolved_at=timezone.now(), resolution=Resolution.DISMISSED)
    caplog.clear()

    outcome = settle(invoice, payment=payment, wallet=None)

    assert outcome.actions == (Action(ActionType.WAIT),)
    assert (reload(invoice).failure, caplog.messages) == ("", [])


# Unbound payments


def test_unbound_payment_is_recorded_and_flagged_once(sent_signals, record_unbound):
    """An unmatched payment is recorded, not foreign, and its signal is sent once."""
    payment = bitsby.transfer()
    for _ in range(3):
        record_unbound(payment)

    row = BitsbyPayment.objects.needs_review().get()
    assert (str(row.bitsby_id), row.review_reason) == (payment["id"], "unmatched")
    assert row.is_foreign is False
    assert reasons(sent_signals) == ["unmatched"]
    assert sent_signals[0].payload["payment"] == row


def test_booked_payment_is_not_flagged_when_it_is_reported_unbound(
    invoice, settle, sent_signals, record_unbound
):
    """A booked payment stays as it is if Bitsby later reports it without its invoice."""
    payment = bitsby.transfer()
    settle(invoice, payment=payment)
    record_unbound(payment)

    row = BitsbyPayment.objects.get()
    assert (row.review_reason, row.invoice) == ("", invoice)
    assert reasons(sent_signals) == []


def test_payment_of_another_project_is_recorded_without_review(invoice):
    """Without a reason it is foreign: recorded with its binding, and not to be reviewed."""
    remote = bitsby.invoice_item(
        invoice, "paid", id=str(bitsby.new_id()), projectId=str(bitsby.new_id())
    )
    payment = parsing.parse_payment(bitsby.payment_item(invoice=remote))

    row = settlement.record_unbound(payment)

    assert row == BitsbyPayment.objects.get()
    assert (row.is_foreign, row.review_reason) == (True, "")
    assert (str(row.bound_to), row.project_id) == (remote["id"], remote["projectId"])
