"""Sent refunds: what is booked, which hash is refused, and what becomes of payment and order."""

from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction
from oscar.core.loading import get_model

from oscar_bitsby.accounting import ledger
from oscar_bitsby.choices import MailCode, RefundState, Resolution
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund, BuyerMail
from oscar_bitsby.settlement import refunds
from tests.support.refunds import (
    book_payment,
    mails_of,
    new_hash,
    refused,
    request_refund,
    sent_refund,
    unbound_payment,
    with_address,
)
from tests.support.settling import booked, reload, status_of

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db


# Sending


def test_sent_refund_is_booked_by_its_hash(order, payment, staff_user):
    """Money out is a transaction whose reference is the transaction hash."""
    refund = sent_refund(staff_user, payment, "4.00")

    assert (refund.state, refund.is_booked) == (RefundState.SENT, True)
    assert refund.closed_by == staff_user
    assert refund.closed_at is not None
    assert booked(order)[1:] == [(refund.transaction_hash, Decimal("4.00"))]
    source = order.sources.get()
    assert source.transactions.order_by("pk").last().txn_type == "Refund"
    assert (source.amount_debited, source.amount_refunded) == (10, 4)


def test_partial_refund_covers_no_lines_and_the_last_one_all(order, payment, staff_user):
    """Each refund is an event; the one that returns the last money is about the lines."""
    sent_refund(staff_user, payment, "4.00")
    sent_refund(staff_user, payment, "6.00")

    first, second = order.payment_events.filter(event_type__code="refunded").order_by("pk")
    assert (first.amount, first.lines.count()) == (4, 0)
    assert (second.amount, second.lines.count()) == (6, 1)
    assert second.line_quantities.get().quantity == order.lines.get().quantity


def test_refund_of_a_surplus_covers_no_lines(order, invoice, staff_user):
    """The order is still paid in full."""
    payment = book_payment(invoice, "13.00000000")
    sent_refund(staff_user, payment, "3.00")

    event = order.payment_events.get(event_type__code="refunded")
    assert (event.amount, event.lines.count()) == (3, 0)
    assert status_of(order) == "Being processed"


def test_lines_are_refunded_once(order, invoice_for, staff_user):
    """An order that was paid and refunded twice has two events, one of them about its lines."""
    for status in ("unpaid", "expired"):
        sent_refund(staff_user, book_payment(invoice_for(order, status)))

    events = order.payment_events.filter(event_type__code="refunded").order_by("pk")
    assert [event.lines.count() for event in events] == [1, 0]
    assert order.sources.get().amount_refunded == 20


def test_long_hash_fits_oscars_ledger(order, staff_user):
    """Of a hash that is longer than Oscar's columns, the ledger has the beginning."""
    payment = unbound_payment(
        blockchain="new", fiat_value=10, invoice=None, booked_at=None, currency="USD"
    )
    order.sources.get().debit(Decimal(10), reference="other")
    refund = refunds.request_refund(
        user=staff_user,
        note="",
        order=order,
        amount=Decimal(10),
        coin_amount=payment.amount,
        cryptocurrency="new",
        blockchain="new",
    )
    refunds.set_address(refund.pk, "some-address")
    refund = refunds.mark_sent(refund.pk, "a" * 200, staff_user)

    assert refund.transaction_hash == "a" * 200
    assert booked(order)[-1] == ("a" * 128, 10)


def test_failing_event_handler_does_not_undo_a_refund(
    order, payment, staff_user, monkeypatch, caplog
):
    """The coins are sent, whatever the shop's code does; the failure is logged."""

    def fail(*args, **kwargs):
        raise ValueError("the shop's handler is broken")

    monkeypatch.setattr(ledger.EventHandler, "handle_payment_event", fail)
    refund = sent_refund(staff_user, payment)

    assert reload(refund).is_booked
    assert order.sources.get().amount_refunded == 10
    assert f"payment event not created: order={order.number}" in caplog.messages


def test_sent_refund_sends_a_signal_and_an_email(
    order, payment, staff_user, sent_signals, committed
):
    """After commit ``refund_sent`` is sent, and the buyer is told."""
    refund = with_address(request_refund(staff_user, payment))
    sent_signals.clear()
    refund = committed(refunds.mark_sent, refund.pk, new_hash(), staff_user)

    ((name, sender, payload),) = sent_signals
    assert (name, sender) == ("refund_sent", BitsbyRefund)
    assert payload == {"refund": refund, "order": order}
    assert payload["refund"].is_booked
    assert mails_of(order)[-1] == MailCode.REFUND_SENT


def test_refund_of_unbooked_money_has_no_ledger_entry(unbound, staff_user):
    """It is recorded with its hash and its coins, and the payment is resolved."""
    refund = reload(sent_refund(staff_user, unbound, None, note="not ours"))

    assert (refund.state, refund.is_booked) == (RefundState.SENT, False)
    after = reload(unbound)
    assert (after.resolution, after.resolved_by) == (Resolution.REFUNDED, staff_user)
    assert after.resolution_note == "not ours"
    assert after.booked_at is None
    assert after not in BitsbyPayment.objects.needs_review()


def test_refund_of_unbooked_money_of_an_order_has_no_ledger_entry(order, invoice, staff_user):
    """What was not booked, as for a mismatch, is not refunded in the ledger either."""
    payment = unbound_payment(
        invoice=invoice, review_reason="mismatch", fiat_value=8, currency="USD"
    )
    refund = sent_refund(staff_user, payment, "8.00")

    assert (refund.order, refund.is_booked) == (order, False)
    assert booked(order) == []


def test_decisions_on_the_payment_are_kept(payment, staff_user, django_user_model):
    """A payment that is not open for review is not resolved again."""
    other = django_user_model.objects.create_user("other")
    BitsbyPayment.objects.update(
        review_reason="over",
        resolution="accepted",
        resolved_at=payment.booked_at,
        resolved_by=other,
    )
    sent_refund(staff_user, payment)

    after = reload(payment)
    assert (after.resolution, after.resolved_by) == (Resolution.ACCEPTED, other)


def test_sending_needs_an_address_and_happens_once(order, refund, staff_user):
    """Before the address, and after it was sent, the step is refused."""
    assert "waiting for an address" in refused(refunds.mark_sent, refund.pk, new_hash(), staff_user)
    with_address(refund)
    refunds.mark_sent(refund.pk, new_hash(), staff_user, "sent from the cold wallet")

    assert reload(refund).note == "sent twice\nsent from the cold wallet"
    assert "the refund is “sent”" in refused(refunds.mark_sent, refund.pk, new_hash(), staff_user)
    assert order.sources.get().amount_refunded == 10


def test_hash_of_another_refund_is_refused(payment, unbound, staff_user):
    """One transaction sends the coins of one refund, in any case of the letters."""
    used = sent_refund(staff_user, payment).transaction_hash
    refund = with_address(request_refund(staff_user, unbound, None))

    for text in (used, used.upper()):
        message = refused(refunds.mark_sent, refund.pk, text, staff_user)
        assert message.startswith("This transaction hash was already entered for another refund.")


def test_hash_of_a_refund_can_occur_on_another_chain(payment, staff_user):
    """Hashes are unique on their own chain only."""
    used = sent_refund(staff_user, payment).transaction_hash
    other = unbound_payment(blockchain="bitcoin", cryptocurrency="btc")
    refund = with_address(request_refund(staff_user, other, None))

    assert refunds.mark_sent(refund.pk, used, staff_user).state == RefundState.SENT


def test_database_allows_a_hash_once_on_a_chain(payment, unbound, staff_user):
    """Even without the check, it cannot be stored twice."""
    used = sent_refund(staff_user, payment).transaction_hash
    refund = request_refund(staff_user, unbound, None)
    with pytest.raises(IntegrityError), transaction.atomic():
        BitsbyRefund.objects.filter(pk=refund.pk).update(transaction_hash=used)


@pytest.mark.parametrize("written", ["lower", "upper", "bare"])
def test_hash_of_a_payment_that_came_in_is_refused(staff_user, written):
    """A refund is another transaction than the payment, however Bitsby writes its hash."""
    known = new_hash("ethereum")
    stored = {"lower": known, "upper": f"0x{known[2:].upper()}", "bare": known[2:]}[written]
    payment = unbound_payment(blockchain="ethereum", hash=stored)
    refund = with_address(request_refund(staff_user, payment, None))

    message = refused(refunds.mark_sent, refund.pk, known, staff_user)
    assert message.startswith("This is the transaction of a payment that the shop received.")


@pytest.mark.parametrize("text", ["", "abc", "<script>", "f" * 63])
def test_bad_hash_is_refused(refund, staff_user, text):
    """The refund can still be sent with the right one."""
    with_address(refund)
    refused(refunds.mark_sent, refund.pk, text, staff_user)

    assert refunds.mark_sent(refund.pk, new_hash(), staff_user).state == RefundState.SENT


def test_refund_is_never_booked_beyond_what_the_order_holds(order, refund, staff_user):
    """Money that was refunded by hand meanwhile is not refunded twice in the ledger."""
    with_address(refund)
    order.sources.get().refund(Decimal("0.01"), reference="by hand")

    message = refused(refunds.mark_sent, refund.pk, new_hash(), staff_user)
    assert message.startswith("The order holds less than this refund")
    refunds.cancel(refund.pk, staff_user, "it was the one by hand")


def test_payment_booked_after_the_request_needs_an_amount(order, invoice, staff_user):
    """A refund of coins only cannot be booked; staff request another one."""
    payment = unbound_payment(invoice=invoice, review_reason="mismatch")
    refund = with_address(request_refund(staff_user, payment, None))
    BitsbyPayment.objects.update(fiat_value=8, booked_at=payment.seen_at, currency="USD")

    message = refused(refunds.mark_sent, refund.pk, new_hash(), staff_user)
    assert message.startswith("The payment was booked after this refund was requested.")


# Cancelling the order


def test_order_keeps_its_status_unless_staff_cancel_it(order, product, payment, staff_user):
    """A refund changes neither the order's status nor its stock."""
    sent_refund(staff_user, payment)

    assert status_of(order) == "Being processed"
    assert product.stockrecords.get().num_allocated == 1


def test_order_can_be_cancelled_with_its_refund(order, product, refund, staff_user):
    """In the same step its stock is released, and a note says why."""
    with_address(refund)
    refunds.mark_sent(refund.pk, new_hash(), staff_user, cancel_order=True)

    assert status_of(order) == "Cancelled"
    assert product.stockrecords.get().num_allocated == 0
    assert order.notes.order_by("pk").last().message == "Cancelled: 10 USDT refunded."
    assert not order.bitsby_invoices.filter(order_awaits_payment=True).exists()
    assert MailCode.CANCELLED not in BuyerMail.objects.values_list("code", flat=True)


def test_refund_is_not_recorded_if_its_order_cannot_be_cancelled(order, refund, staff_user):
    """Where the pipeline forbids it, staff repeat the step without cancelling."""
    Order.objects.update(status="Complete")
    with_address(refund)
    used = new_hash()

    message = refused(refunds.mark_sent, refund.pk, used, staff_user, cancel_order=True)
    assert f"does not allow order {order.number} to be cancelled" in message
    assert refunds.mark_sent(refund.pk, used, staff_user).is_booked


def test_cancelled_order_stays_cancelled(order, product, refund, staff_user):
    """Cancelling it once more changes nothing, and its refund is recorded."""
    Order.objects.update(status="Cancelled")
    with_address(refund)

    assert refunds.mark_sent(refund.pk, new_hash(), staff_user, cancel_order=True).is_booked
    assert not order.notes.filter(message__startswith="Cancelled").exists()


def test_deleted_order_cannot_be_cancelled(order, refund, staff_user):
    """Staff repeat the step without it."""
    with_address(refund)
    order.delete()

    message = refused(refunds.mark_sent, refund.pk, new_hash(), staff_user, cancel_order=True)
    assert message.startswith("The order was deleted.")
