"""Short payments: differences within the tolerance, asking for the rest, and refunded money."""

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone

from oscar_bitsby.accounting import ledger
from oscar_bitsby.choices import InvoiceStatus, MailCode, RefundState, Resolution, ReviewReason
from oscar_bitsby.exceptions import NotPayable
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund, BuyerMail
from oscar_bitsby.settlement import payments, rests, short_payments
from tests.support import bitsby
from tests.support.settling import booked, reasons, reload, status_of

pytestmark = pytest.mark.django_db


def payment():
    """Return the newest payment."""
    return BitsbyPayment.objects.latest("pk")


def mail_codes():
    return list(BuyerMail.objects.order_by("pk").values_list("code", flat=True))


@pytest.fixture
def asking(order, invoice_for):
    """An invoice of 10 dollars; if its payment is short, its buyer is asked for the rest."""
    return invoice_for(order, asks_for_rest=True)


@pytest.fixture
def asked(order, asking, settle):
    """A payment of 6 of 10 dollars whose buyer was asked for the rest."""
    settle(asking, payment=bitsby.transfer("6.00000000"))
    return payment()


@pytest.fixture
def short(order, invoice, settle):
    """A payment of 6 of 10 dollars that was bound as it is: the order is paid."""
    settle(invoice, payment=bitsby.transfer("6.00000000"))
    return payment()


@pytest.fixture
def two_way(order, monkeypatch):
    """A pipeline that lets a paid order wait for a payment again."""
    changed = order.pipeline | {"Being processed": ("Pending",)}
    monkeypatch.setattr(type(order), "pipeline", changed)


# Asking for the rest


def test_short_payment_is_booked_and_the_order_stays_pending(order, asking, settle, sent_signals):
    """The money is booked once, the payment is resolved as asked, and the buyer gets one mail."""
    transfer = bitsby.transfer("6.00000000")
    for _ in range(3):
        settle(asking, payment=transfer)

    row = payment()
    assert (row.resolution, row.review_reasons) == (Resolution.ASKED, [ReviewReason.SHORT])
    assert (row.resolved_at is not None, row.booked_at is not None) == (True, True)
    assert booked(order) == [(transfer["id"], Decimal(6))]
    assert (status_of(order), reload(asking).status) == ("Pending", "paid")
    assert ledger.amount_to_pay(order) == Decimal(4)
    assert reasons(sent_signals) == []
    assert mail_codes() == [MailCode.REST]
    assert "asked for the rest of 4.00 USD" in order.notes.get().message


def test_rest_that_arrives_pays_the_order(order, asked, invoice_for, settle, sent_signals):
    """The second payment completes the total: two transactions, and nothing to review."""
    rest = invoice_for(
        order, amount=Decimal(4), is_for_rest=True, wallets=bitsby.stored_wallets("4.00")
    )
    settle(rest, payment=bitsby.transfer("4.00000000"))

    assert [amount for _, amount in booked(order)] == [Decimal(6), Decimal(4)]
    assert status_of(order) == "Being processed"
    assert not BitsbyPayment.objects.needs_review().exists()
    assert mail_codes() == [MailCode.REST, MailCode.PAID]


def test_overpaid_rest_pays_the_order_and_needs_review(order, asked, invoice_for, settle):
    """Staff decide about the surplus."""
    rest = invoice_for(
        order, amount=Decimal(4), is_for_rest=True, wallets=bitsby.stored_wallets("4.00")
    )
    settle(rest, payment=bitsby.transfer("5.00000000"))

    assert status_of(order) == "Being processed"
    assert BitsbyPayment.objects.needs_review().get().review_reason == "over"


@pytest.mark.parametrize("obstacle", ["MIN_AMOUNT", "invoices"])
def test_rest_that_cannot_be_asked_for_is_for_staff(
    order, asking, invoice_for, settle, configure, obstacle
):
    """Below ``MIN_AMOUNT``, or after three invoices for rests, the order stays pending."""
    if obstacle == "MIN_AMOUNT":
        configure(MIN_AMOUNT=5)
    else:
        for _ in range(3):
            invoice_for(order, InvoiceStatus.EXPIRED, is_for_rest=True)

    settle(asking, payment=bitsby.transfer("6.00000000"))

    assert BitsbyPayment.objects.needs_review().get().review_reasons == ["short"]
    assert ([amount for _, amount in booked(order)], status_of(order)) == ([6], "Pending")
    assert mail_codes() == [MailCode.OTHER_AMOUNT]


def test_failed_attempts_are_no_invoices_for_rests(order, asking, invoice_for, settle):
    """Only invoices that Bitsby created count."""
    for _ in range(3):
        invoice_for(order, InvoiceStatus.EXPIRED, is_for_rest=True, bitsby_id=None)

    settle(asking, payment=bitsby.transfer("6.00000000"))

    assert payment().resolution == Resolution.ASKED


# Asking by staff


def test_staff_ask_for_the_rest_of_a_booked_payment(order, short, staff_user, two_way):
    """The order waits for a payment again, and the buyer gets the mail."""
    assert short_payments.why_not_ask(short) == ""

    short_payments.ask_for_rest(short.pk, staff_user, "called the buyer")

    row = reload(short)
    assert (row.resolution, row.resolved_by) == (Resolution.ASKED, staff_user)
    assert row.resolution_note == "called the buyer"
    assert status_of(order) == "Pending"
    assert BuyerMail.objects.filter(code=MailCode.REST, payment=short).count() == 1
    assert ledger.amount_to_pay(reload(order)) == Decimal(4)


def test_asking_twice_is_refused(order, short, staff_user, two_way):
    """Of two members of staff, the second gets a message, and the buyer one mail."""
    short_payments.ask_for_rest(short.pk, staff_user, "")

    with pytest.raises(NotPayable, match="in Payments to review"):
        short_payments.ask_for_rest(short.pk, staff_user, "")

    assert BuyerMail.objects.filter(code=MailCode.REST).count() == 1


def test_rest_can_be_asked_for_again_after_it_was_missing(order, asked, staff_user, move_time):
    """The buyer gets another mail, and the hold begins anew."""
    before = ledger.rest_asked_at(order)
    short_payments.flag_missing_rest(order.pk)
    move_time(hours=30)

    short_payments.ask_for_rest(asked.pk, staff_user, "")

    assert ledger.rest_asked_at(order) >= before + dt.timedelta(hours=30)
    assert mail_codes() == [MailCode.REST, MailCode.REST]


def test_rest_can_be_asked_for_again_after_two_payments(
    order, asked, invoice_for, settle, staff_user
):
    """Both payments wait for the same rest: one decision is about both."""
    second = invoice_for(order, asks_for_rest=True, is_for_rest=True, amount=Decimal(4))
    settle(second, payment=bitsby.transfer("2.00000000"))
    short_payments.flag_missing_rest(order.pk)
    assert BitsbyPayment.objects.needs_review().count() == 2

    short_payments.ask_for_rest(asked.pk, staff_user, "")

    assert not BitsbyPayment.objects.needs_review().exists()
    assert rests.amount_due(order, {InvoiceStatus.PAID}).amount == ledger.amount_to_pay(order)


def test_rest_is_not_asked_for_while_another_payment_needs_a_decision(
    order, invoice, invoice_for, settle
):
    """The other payment may be the rest: the buyer is not asked to pay it again."""
    settle(invoice, payment=bitsby.transfer(), amountFiat="99.00")
    settle(invoice_for(order, "expired", asks_for_rest=True), payment=bitsby.transfer("6.00000000"))

    assert payment().review_reasons == ["short"]
    assert (MailCode.REST in mail_codes(), status_of(order)) == (False, "Pending")


def refuse_pipeline(order, row, **fixtures):
    """The default pipeline of the tests has no way back."""
    type(order).objects.filter(pk=order.pk).update(status="Being processed")


def refuse_cancelled(order, row, **fixtures):
    type(order).objects.filter(pk=order.pk).update(status="Cancelled")


def refuse_other_payment(order, row, **fixtures):
    other = {"invoice": row.invoice, "bitsby_id": bitsby.new_id(), "amount": 1}
    BitsbyPayment.objects.create(review_reason=ReviewReason.MISMATCH, **other)


def refuse_refund(order, row, **fixtures):
    BitsbyRefund.objects.create(payment=row, order=order, coin_amount=1)


def refuse_paid(order, row, **fixtures):
    order.sources.update(amount_debited=10)


def refuse_small(order, row, *, configure, **fixtures):
    configure(MIN_AMOUNT=5)


def refuse_unbooked(order, row, **fixtures):
    BitsbyPayment.objects.filter(pk=row.pk).update(booked_at=None)


def refuse_unbound(order, row, **fixtures):
    BitsbyPayment.objects.filter(pk=row.pk).update(invoice=None)


@pytest.mark.parametrize(
    ("refuse", "says"),
    [
        (refuse_pipeline, "cannot go back to “Pending”"),
        (refuse_cancelled, "cannot go back to “Pending”"),
        (refuse_other_payment, "Another payment of this order"),
        (refuse_refund, "refund of this payment is open"),
        (refuse_paid, "Nothing is missing"),
        (refuse_small, "see MIN_AMOUNT"),
        (refuse_unbooked, "once the payment is booked"),
        (refuse_unbound, "once the payment is booked"),
    ],
)
def test_staff_learn_why_the_rest_cannot_be_asked_for(
    order, short, staff_user, configure, refuse, says
):
    """The message says why, and nothing changes."""
    type(order).objects.filter(pk=order.pk).update(status="Pending")
    refuse(order, short, configure=configure)

    with pytest.raises(NotPayable, match=says):
        short_payments.ask_for_rest(short.pk, staff_user, "")

    assert says in short_payments.why_not_ask(reload(short))
    assert reload(short).resolved_at is None
    assert MailCode.REST not in mail_codes()


# A rest that is missing


def test_missing_rest_needs_review_once(order, asked, sent_signals):
    """The payment is in the payments to review, and the buyer is asked for nothing any more."""
    assert short_payments.flag_missing_rest(order.pk)
    assert not short_payments.flag_missing_rest(order.pk)

    assert BitsbyPayment.objects.needs_review().get().review_reasons == ["rest_missing"]
    assert ledger.rest_asked_at(order) is None


def test_rest_of_a_paid_order_is_not_missing(order, asked):
    """Staff or another source paid it: nothing is flagged."""
    order.set_status("Being processed")

    assert not short_payments.flag_missing_rest(order.pk)
    assert not BitsbyPayment.objects.needs_review().exists()


def test_rest_that_arrives_after_it_was_missed_closes_the_review(order, asked, invoice_for, settle):
    """Late money on the invoice for the rest pays the order, and staff have nothing to decide."""
    short_payments.flag_missing_rest(order.pk)
    rest = invoice_for(order, "expired", amount=Decimal(4), wallets=bitsby.stored_wallets("4.00"))

    settle(rest, payment=bitsby.transfer("4.00000000"))

    assert status_of(order) == "Being processed"
    assert not BitsbyPayment.objects.needs_review().exists()


# Tolerance


@pytest.mark.parametrize(
    ("coins", "words"),
    [("9.95000000", "0.05 USD less than"), ("10.05000000", "0.05 USD more than")],
)
def test_difference_within_the_tolerance_settles_the_order(
    order, invoice, settle, configure, sent_signals, caplog, coins, words
):
    """It is booked at its value, needs no review, and the difference stays visible."""
    caplog.set_level("INFO")
    configure(TOLERANCE=1)

    settle(invoice, payment=bitsby.transfer(coins))

    row = payment()
    assert (status_of(order), row.review_reason) == ("Being processed", "")
    assert (row.resolution, row.resolved_at is not None) == (Resolution.TOLERATED, True)
    assert words in row.resolution_note
    assert booked(order)[0][1] == Decimal(coins).quantize(Decimal("0.01"))
    assert reasons(sent_signals) == []
    assert mail_codes() == [MailCode.PAID]
    assert "difference tolerated" in caplog.text


def test_cap_by_currency_limits_the_tolerance(order, invoice, settle, configure):
    """One percent of ten dollars is more than a cap of five cents allows."""
    configure(TOLERANCE={"PERCENT": 1, "USD": "0.04"})

    settle(invoice, payment=bitsby.transfer("9.95000000"))

    assert payment().review_reasons == ["short"]


# Times by the chain


def test_payment_in_time_is_not_late(place, invoice_for, settle):
    """The chain's time counts, not when it was bound; the shortfall is not hidden."""
    order = place(status="Cancelled")
    invoice = invoice_for(order, "expired")

    settle(invoice, payment=bitsby.transfer("6.00000000"))

    assert payment().review_reasons == ["cancelled", "short"]
    assert mail_codes() == [MailCode.OTHER_AMOUNT]


@pytest.mark.parametrize(("at", "expected"), [(-90, "cancelled"), (-30, "late"), (None, "late")])
def test_payment_after_the_invoice_is_late_only_after_the_cancellation(
    order, invoice_for, settle, at, expected
):
    """Minutes from now: the invoice expired two hours ago, the order was cancelled one hour ago."""
    now = timezone.now()
    past = now - dt.timedelta(hours=2)
    invoice = invoice_for(order, "expired", expires_at=past, created_at=past)
    order.set_status("Cancelled")
    order.status_changes.update(date_created=now - dt.timedelta(hours=1))
    moment = None if at is None else bitsby.written(now + dt.timedelta(minutes=at))

    settle(invoice, payment=bitsby.transfer(transactionDatetime=moment))

    assert payment().review_reasons == [expected]


# Several reasons


def test_reasons_of_a_resolved_payment_are_not_kept(order, short, staff_user):
    """A new reason needs a decision about that reason only."""
    payments.flag_for_review(short, ReviewReason.SECOND, order)
    assert short.review_reasons == ["short", "second"]
    BitsbyPayment.objects.update(resolved_at=timezone.now(), resolution=Resolution.ACCEPTED)

    row = reload(short)
    payments.flag_for_review(row, ReviewReason.SECOND, order)
    assert (row.review_reasons, row.resolution) == (["short", "second"], Resolution.ACCEPTED)
    payments.flag_for_review(row, ReviewReason.REBOUND, order)
    assert (row.review_reasons, row.resolution) == (["rebound"], "")


def test_booking_clears_all_reasons(order, invoice, settle):
    """What staff saw before Bitsby called the invoice paid is out of date."""
    transfer = bitsby.transfer()
    settle(invoice, "expired", payment=transfer)
    BitsbyPayment.objects.update(further_reasons="second")

    settle(invoice, "paid", payment=transfer)

    assert reload(payment()).review_reasons == []


def test_changed_answer_replaces_the_reason_that_the_invoice_is_not_paid(order, invoice, settle):
    """Bitsby calls it paid now, of another amount."""
    transfer = bitsby.transfer()
    settle(invoice, "expired", payment=transfer)

    settle(invoice, "paid", payment=transfer, amountFiat="99.00")

    assert payment().review_reasons == ["mismatch"]


# Refunded money


@pytest.mark.parametrize("state", [RefundState.REQUESTED, RefundState.SENT])
def test_refunded_money_does_not_pay_an_order(order, invoice, settle, record_unbound, state):
    """A payment that the shop has sent back, or will, is flagged and never booked."""
    transfer = bitsby.transfer()
    record_unbound(transfer)
    BitsbyRefund.objects.create(payment=payment(), coin_amount=10, state=state)

    for _ in range(2):
        settle(invoice, payment=transfer)

    assert BitsbyPayment.objects.needs_review().get().review_reasons == ["rebound"]
    assert (booked(order), status_of(order)) == ([], "Pending")


def test_cancelled_refund_does_not_prevent_booking(order, invoice, settle, record_unbound):
    """Nothing was sent back."""
    transfer = bitsby.transfer()
    record_unbound(transfer)
    BitsbyRefund.objects.create(payment=payment(), coin_amount=10, state=RefundState.CANCELLED)

    settle(invoice, payment=transfer)

    assert status_of(order) == "Being processed"
