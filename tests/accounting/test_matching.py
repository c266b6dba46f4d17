"""Which invoice an unbound payment is suggested for, and how likely that is."""

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone

from oscar_bitsby.accounting import matching
from oscar_bitsby.choices import InvoiceStatus
from tests.support import bitsby
from tests.support.unbound import receive, wallets

pytestmark = pytest.mark.django_db

HOUR = dt.timedelta(hours=1)


def suggestion(payment):
    """Return what is suggested for a payment."""
    return matching.suggest_invoices([payment]).found.get(payment.pk)


def test_exact_amount_of_a_paid_invoice_is_a_second_payment(offer):
    """It is suggested for the order that was paid already, and not for one that deviates."""
    paid = offer("13.03", InvoiceStatus.PAID)
    offer("5.50")

    found = suggestion(receive("13.03"))

    assert found.invoice == paid
    assert found.is_second


def test_second_payment_comes_before_an_open_invoice_that_nearly_fits(offer):
    """Even an amount that deviates by 0.1 % only is no reason to bind a second payment."""
    paid = offer("10.00", InvoiceStatus.PAID)
    offer("10.01")

    found = suggestion(receive("10.00"))

    assert (found.invoice, found.is_second) == (paid, True)


@pytest.mark.parametrize(
    "values",
    [
        {"amount": Decimal("9.99")},
        {"wallet_id": str(bitsby.new_id())},
        {"wallet_id": "", "cryptocurrency": "eth"},
        {"transaction_at": timezone.now() - 2 * HOUR},
    ],
    ids=["another amount", "another wallet", "another coin", "before the invoice"],
)
def test_other_payments_do_not_match_a_paid_invoice(offer, values):
    """Only the same amount in the same wallet, after the invoice's creation, is a second one."""
    offer("10.00", InvoiceStatus.PAID)

    assert suggestion(receive(**({"amount": "10.00"} | values))) is None


def test_second_payment_without_a_wallet_is_found_by_its_coin(offer):
    """Where Bitsby names no wallet, the coin decides."""
    paid = offer("10.00", InvoiceStatus.PAID)

    found = suggestion(receive("10.00", wallet_id=""))

    assert (found.invoice, found.is_second) == (paid, True)


@pytest.mark.parametrize(
    ("amount", "is_likely"),
    [("5.00", True), ("4.99", False), ("15.00", True), ("15.01", False), ("23.69", False)],
)
def test_payment_is_likely_up_to_half_less_or_more(offer, amount, is_likely):
    """A larger deviation is shown, but not as likely."""
    offer("10.00")

    found = suggestion(receive(amount))

    assert found.is_likely is is_likely
    assert not found.is_second


def test_payment_of_a_coin_without_a_rate_is_not_likely(offer):
    """Without a rate its value is not known."""
    offer("10.00", wallets=wallets(None))

    assert not suggestion(receive("10.00")).is_likely


def test_closer_amount_wins_among_equal_scores(offer):
    """8 USDT are meant for the order of 9 dollars, even though that of 6.90 is newer."""
    right = offer("9.00")
    offer("6.90")

    assert suggestion(receive("8.00")).invoice == right


def test_likely_invoice_wins_against_one_with_more_in_common(offer):
    """The wallet says less than the amount."""
    other_wallet = [{**bitsby.wallet(id=str(bitsby.new_id())), "amount": "10.00"}]
    right = offer("10.00", wallets=other_wallet, expires_at=timezone.now() - HOUR / 2)
    offer("100.00")

    assert suggestion(receive("6.00")).invoice == right


def test_page_of_payments_needs_one_query_of_invoices(offer, django_assert_num_queries):
    """One for the invoices and one for the orders that are shown, however many payments."""
    offer("10.00")
    offer("20.00", InvoiceStatus.PAID)
    payments = [receive(amount) for amount in ("9.00", "20.00", "8.00", "11.00")]

    with django_assert_num_queries(2):
        found = matching.suggest_invoices(payments).found

    assert len(found) == len(payments)


def test_paid_invoices_do_not_displace_the_others(offer, monkeypatch):
    """Of both, so many are compared: the list says from when on it is complete."""
    monkeypatch.setattr("oscar_bitsby.accounting.offers.MAX_INVOICES", 2)
    right = offer("9.00")
    for amount in ("30.00", "40.00", "50.00"):
        offer(amount, InvoiceStatus.PAID)

    payment = receive("8.00")
    suggestions = matching.suggest_invoices([payment])

    assert suggestions.found[payment.pk].invoice == right
    assert not suggestions.is_exhaustive(payment)
