"""Requests of refunds: what can be refunded, for how many coins, and what is refused."""

from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction
from oscar.core.loading import get_model

from oscar_bitsby.choices import MailCode, RefundState
from oscar_bitsby.exceptions import RefundRefused
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund, BuyerMail
from oscar_bitsby.settlement import refunds
from tests.support.refunds import (
    book_payment,
    left_of,
    mails_of,
    new_hash,
    refused,
    request_refund,
    sent_refund,
    with_address,
)
from tests.support.settling import booked, pay_by_card, reload

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db


# What can be refunded


def test_booked_payment_can_be_refunded_at_its_fiat_value(payment):
    """What its coins were worth is what was booked, and none of it is surplus."""
    assert left_of(payment) == (10, 0, 10)
    assert refunds.refundable(payment, None).currency == "USD"


def test_open_and_sent_refunds_reduce_what_is_left_of_a_payment(payment, staff_user):
    """A sent refund counts, an open one counts already, and a cancelled one no longer."""
    sent_refund(staff_user, payment, "4.00")
    assert left_of(payment) == (6, 0, 6)
    open_one = request_refund(staff_user, payment, "1.50")
    assert left_of(payment) == (Decimal("4.50"), 0, Decimal("4.5"))

    refunds.cancel(open_one.pk, staff_user, "changed her mind")
    assert left_of(payment) == (6, 0, 6)


def test_surplus_is_what_is_held_above_the_total(order, invoice, staff_user):
    """Of 13 dollars for an order of 10, three are surplus until they are refunded."""
    payment = book_payment(invoice, "13.00000000")
    assert left_of(payment) == (13, 3, 13)

    request_refund(staff_user, payment, "3.00")
    assert left_of(payment) == (10, 0, 10)


def test_surplus_counts_the_money_of_other_sources(order, payment):
    """An order paid by card, too, holds its whole Bitsby payment as surplus."""
    pay_by_card(order)

    assert left_of(payment) == (10, 10, 10)


def test_surplus_is_at_most_what_is_left_of_the_payment(order, invoice_for, staff_user):
    """Of two payments each has at most its own value as surplus."""
    first = book_payment(invoice_for(order), "30.00000000")
    second = book_payment(invoice_for(order, "expired"), "4.00000000")

    assert left_of(first) == (30, 24, 30)
    assert left_of(second) == (4, 4, 4)
    # Once the surplus is refunded from one payment, the other one has none.
    request_refund(staff_user, first, "24.00")
    assert left_of(second) == (4, 0, 4)


def test_payment_is_refunded_at_most_as_far_as_the_order_holds_money(order, payment, staff_user):
    """A refund that staff booked by hand, or one of the whole order, is subtracted."""
    source = order.sources.get()
    source.refund(Decimal("7.00"), reference="by hand")
    assert left_of(payment) == (3, 0, 10)

    refunds.request_refund(
        user=staff_user,
        note="goodwill",
        order=order,
        amount=Decimal("2.00"),
        coin_amount=Decimal("2.1"),
        cryptocurrency="usdt",
        blockchain="tron",
    )
    assert left_of(payment) == (1, 0, 10)
    assert left_of(order=order) == (1, 0, None)


def test_money_of_other_sources_cannot_be_refunded_in_coins(order):
    """What was paid by card is not refunded through Bitsby."""
    order.sources.all().delete()
    pay_by_card(order)

    assert left_of(order=order) == (0, 0, None)


def test_unbooked_payment_can_be_refunded_in_its_coins(unbound, staff_user):
    """No value is known of it, and its coins are the limit."""
    assert left_of(unbound) == (None, 0, 8)

    sent_refund(staff_user, unbound, None, coin_amount=Decimal("7.5"))
    assert left_of(unbound) == (None, 0, Decimal("0.5"))


def test_payment_of_a_deleted_order_can_be_refunded_at_its_value(order, payment, staff_user):
    """Oscar deleted the ledger with the order, so nothing is booked."""
    order.delete()

    assert left_of(payment) == (10, 0, 10)
    refund = sent_refund(staff_user, payment)
    assert (refund.state, refund.is_booked) == (RefundState.SENT, False)


# Coins


@pytest.mark.parametrize(
    ("coin", "coins", "value", "amount", "proposed"),
    [
        # 20 dollars were 0.0004 bitcoins when the invoice was created.
        ("btc", "0.00040000", "20.00", "20.00", "0.0004"),
        ("btc", "0.00040000", "20.00", "10.00", "0.0002"),
        # Rounded down to 8 decimals: 0.0000333333...
        ("btc", "0.00010000", "3.00", "1.00", "0.00003333"),
        ("eth", "0.00010000", "3.00", "2.00", "0.00006666"),
        # Stablecoins have 6 decimals on most chains.
        ("usdt", "10.00000199", "10.00", "10.00", "10.000001"),
        ("USDC", "10.00000000", "3.00", "1.00", "3.333333"),
        ("new", "123456789012.12345678", "9999999999.99", "9999999999.99", "123456789012.12345678"),
    ],
)
def test_coins_are_proposed_at_the_locked_rate(coin, coins, value, amount, proposed):
    """They are worth the amount at the invoice's rate, rounded down to the coin's decimals."""
    payment = BitsbyPayment(
        amount=Decimal(coins), fiat_value=Decimal(value), cryptocurrency=coin, currency="USD"
    )

    assert refunds.propose_coin_amount(payment, Decimal(amount)) == Decimal(proposed)


@pytest.mark.parametrize(
    ("coins", "value", "amount"), [("8", None, "1.00"), ("0.00000001", "10.00", "0.01")]
)
def test_no_coins_are_proposed_without_a_rate_or_below_the_smallest_unit(coins, value, amount):
    """Then staff enter them."""
    payment = BitsbyPayment(
        amount=Decimal(coins), fiat_value=value and Decimal(value), cryptocurrency="btc"
    )

    assert refunds.propose_coin_amount(payment, Decimal(amount)) is None


def test_staff_can_change_the_coins_and_both_amounts_are_stored(payment, staff_user):
    """The rate may have changed; what was proposed stays visible."""
    refund = reload(request_refund(staff_user, payment, coin_amount=Decimal("12.5")))

    assert (refund.coin_amount, refund.proposed_coin_amount) == (Decimal("12.5"), 10)


@pytest.mark.parametrize("coins", ["0", "-1", "NaN", "Infinity", "1e12", "0.1234567890123456789"])
def test_coins_must_be_a_positive_amount_that_can_be_stored(payment, staff_user, coins):
    """Zero, negative and unlimited amounts, and too many decimals, are refused."""
    message = refused(request_refund, staff_user, payment, coin_amount=Decimal(coins))

    assert message == "Enter an amount above zero with at most 18 decimals."


def test_shifted_decimal_point_of_the_coins_is_refused(payment, staff_user):
    """More than five times the proposed coins are a mistake; less is a new rate."""
    message = refused(request_refund, staff_user, payment, coin_amount=Decimal(100))
    assert message == "At most 50 of the coin can be sent. Check the decimal point."

    assert request_refund(staff_user, payment, coin_amount=Decimal(50)).coin_amount == 50


# Requesting


def test_request_records_who_what_and_why(order, payment, staff_user):
    """The refund has the payment's coin and chain, and waits for an address."""
    refund = reload(request_refund(staff_user, payment, "2.50", note="  one mug broke "))

    assert (refund.order, refund.order_number) == (order, order.number)
    assert refund.payment == payment
    assert refund.state == RefundState.REQUESTED
    assert (refund.amount, refund.currency) == (Decimal("2.50"), "USD")
    assert (refund.cryptocurrency, refund.blockchain) == ("usdt", "tron")
    assert refund.coin_amount == refund.proposed_coin_amount == Decimal("2.5")
    assert (refund.requested_by, refund.note) == (staff_user, "one mug broke")
    assert (refund.closed_at, refund.is_booked, refund.address) == (None, False, "")


def test_request_sends_a_signal_and_an_email(order, payment, staff_user, sent_signals, committed):
    """After commit ``refund_requested`` is sent, and the buyer is asked for an address."""
    sent_signals.clear()
    refund = committed(request_refund, staff_user, payment)

    ((name, sender, payload),) = sent_signals
    assert (name, sender) == ("refund_requested", BitsbyRefund)
    assert payload == {"refund": refund, "order": order}
    assert mails_of(order) == [MailCode.REFUND_REQUESTED]
    assert BuyerMail.objects.get(code=MailCode.REFUND_REQUESTED).refund == refund


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "Enter the amount to refund."),
        ("0.00", "above zero"),
        ("-1.00", "above zero"),
        ("1.001", "at most 2 decimals"),
        ("NaN", "above zero"),
        ("1e20", "above zero"),
        ("10.01", "At most 10.00 USD can still be refunded."),
    ],
)
def test_amount_of_booked_money_must_be_what_is_left_or_less(payment, staff_user, amount, text):
    """Nothing, zero, too many decimals and more than what was booked are refused."""
    assert text in refused(request_refund, staff_user, payment, amount)


def test_second_open_refund_of_a_payment_is_refused(payment, refund, staff_user):
    """The first one has to be sent or cancelled before."""
    message = refused(request_refund, staff_user, payment, "1.00")
    assert message == ("A refund of this payment is open. First send its coins or cancel it.")

    refunds.cancel(refund.pk, staff_user, "mistake")
    assert request_refund(staff_user, payment, "1.00").state == RefundState.REQUESTED


def test_database_allows_one_open_refund_of_a_payment(refund):
    """Even without the check, a second open refund cannot be stored."""
    refund.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        refund.save(force_insert=True)


def test_refunded_payment_cannot_be_refunded_again(payment, unbound, staff_user):
    """The message says that nothing is left, of booked money and of coins."""
    sent_refund(staff_user, payment)
    sent_refund(staff_user, unbound, None)

    for one, amount in ((payment, "1.00"), (unbound, None)):
        message = refused(request_refund, staff_user, one, amount)
        assert message.startswith("Nothing is left to refund")


def test_unbooked_payment_is_refunded_in_full_by_default(unbound, staff_user):
    """Without any amount all of its coins are sent back."""
    refund = request_refund(staff_user, unbound, None)

    assert (refund.amount, refund.coin_amount, refund.proposed_coin_amount) == (None, 8, None)
    assert (refund.order, refund.order_number) == (None, "")


def test_unbooked_payment_is_never_refunded_beyond_its_coins(unbound, staff_user):
    """The rate does not matter for money that was never booked."""
    message = refused(request_refund, staff_user, unbound, None, coin_amount=Decimal("8.1"))
    assert message.startswith("At most 8 of the coin can be sent.")

    sent_refund(staff_user, unbound, None, coin_amount=Decimal(3))
    message = refused(request_refund, staff_user, unbound, None, coin_amount=Decimal("5.1"))
    assert message.startswith("At most 5 of the coin can be sent.")


def test_payment_without_an_order_can_name_the_order_of_its_buyer(order, unbound, staff_user):
    """Then that buyer is asked for the address; the order's money is not touched."""
    refund = sent_refund(staff_user, unbound, None, order=order)

    assert (refund.order, refund.is_booked) == (order, False)
    assert mails_of(order) == [
        MailCode.REFUND_REQUESTED,
        MailCode.REFUND_ADDRESS,
        MailCode.REFUND_SENT,
    ]
    assert booked(order) == []


def test_payment_with_an_order_is_refunded_to_that_order(payment, order, place, staff_user):
    """Another order that staff name by mistake gets nothing."""
    assert request_refund(staff_user, payment, order=place()).order == order


def test_refund_without_a_payment_needs_order_coin_and_amounts(order, payment, staff_user):
    """Money of an order can be refunded in a coin that staff choose."""

    def request(**values):
        values = {"order": order, "amount": Decimal(5), "coin_amount": Decimal("0.0001")} | values
        coin = {"cryptocurrency": "btc", "blockchain": "bitcoin"} | values
        return refunds.request_refund(user=staff_user, note="", **coin)

    for values, text in (
        ({"order": None}, "Choose the payment or the order to refund."),
        ({"cryptocurrency": " "}, "Enter the coin and the blockchain of the refund."),
        ({"blockchain": ""}, "Enter the coin and the blockchain of the refund."),
        ({"coin_amount": None}, "no exchange rate is known"),
        ({"amount": None}, "Enter the amount to refund."),
        ({"amount": Decimal("10.01")}, "At most 10.00 USD can still be refunded."),
    ):
        assert text in refused(request, **values)

    refund = with_address(request())
    refund = refunds.mark_sent(refund.pk, new_hash("bitcoin"), staff_user)
    assert (refund.payment, refund.is_booked, refund.currency) == (None, True, "USD")
    assert order.sources.get().amount_refunded == 5


def test_payment_that_was_bound_meanwhile_is_not_refunded(
    order, invoice, unbound, staff_user, monkeypatch
):
    """If its order changes before it is locked, staff check it again."""
    queryset = type(Order._default_manager.all())
    lock = queryset.select_for_update

    def bind_before(self, **options):
        if self.model is Order:
            BitsbyPayment.objects.filter(pk=unbound.pk).update(invoice=invoice)
        return lock(self, **options)

    monkeypatch.setattr(queryset, "select_for_update", bind_before)
    with pytest.raises(RefundRefused, match="has just changed"):
        request_refund(staff_user, unbound, None)
    assert not BitsbyRefund.objects.exists()
