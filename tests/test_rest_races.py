"""Races about the rest of an order: it is asked for once, and no decision hides the other."""

from decimal import Decimal

import pytest
from oscar.core.loading import get_model

from oscar_bitsby import settlement
from oscar_bitsby.choices import MailCode, Resolution
from oscar_bitsby.exceptions import NotPayable, PaymentInProgress
from oscar_bitsby.facade import start_payment
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import BitsbyPayment, BuyerMail
from oscar_bitsby.settlement import short_payments
from tests.support import bitsby
from tests.support.concurrency import failures, run_together
from tests.support.settling import booked, status_of

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db(transaction=True)

several_times = pytest.mark.parametrize("turn", range(4))


def pay(invoice, coins):
    """Return a function that settles an invoice as paid by so many coins."""
    payment = bitsby.transfer(coins)
    answer = parsing.parse_invoice(bitsby.invoice_item(invoice, "paid", payment=payment))
    return lambda: settlement.settle(invoice, answer)


@pytest.fixture
def staff_user(django_user_model):
    return django_user_model.objects.create_user("staff", "staff@example.com", "secret")


@pytest.fixture
def first(order, invoice_for):
    """An invoice whose short payment leads to a question for the rest."""
    return invoice_for(order, asks_for_rest=True)


@several_times
def test_concurrent_settlements_ask_for_the_rest_once(order, first, turn):
    """One transaction, one question and one mail."""
    job = pay(first, "6.00000000")

    results = run_together(*[job] * 4)

    assert failures(results) == []
    assert ([amount for _, amount in booked(order)], status_of(order)) == ([6], "Pending")
    assert BitsbyPayment.objects.get().resolution == Resolution.ASKED
    assert BuyerMail.objects.filter(code=MailCode.REST).count() == 1


@several_times
def test_two_members_of_staff_ask_once(order, invoice, staff_user, turn):
    """One of them is told that it is done."""
    pay(invoice, "6.00000000")()
    Order.objects.update(status="Pending")
    row = BitsbyPayment.objects.get()

    results = run_together(
        *[lambda: short_payments.ask_for_rest(row.pk, staff_user, "short")] * 3,
    )

    assert failures(results, NotPayable) == []
    assert sum(isinstance(result, NotPayable) for result in results) == 2
    assert BuyerMail.objects.filter(code=MailCode.REST).count() == 1


@several_times
def test_rest_that_arrives_while_it_is_flagged_as_missing_pays_the_order(
    order, first, invoice_for, turn
):
    """Whichever comes first, the order is paid and nothing is left to decide."""
    pay(first, "6.00000000")()
    rest = invoice_for(
        order, amount=Decimal(4), is_for_rest=True, wallets=bitsby.stored_wallets("4.00")
    )

    results = run_together(
        pay(rest, "4.00000000"), *[lambda: short_payments.flag_missing_rest(order.pk)] * 2
    )

    assert failures(results) == []
    assert [amount for _, amount in booked(order)] == [6, 4]
    assert status_of(order) == "Being processed"
    assert not BitsbyPayment.objects.needs_review().exists()


@several_times
def test_click_while_a_short_payment_is_settled_never_asks_for_more_than_is_due(
    order, first, fake, turn
):
    """The buyer gets an invoice for the rest, or is asked to try again."""
    fake.invoices = [bitsby.invoice_item(first)]

    results = run_together(pay(first, "6.00000000"), *[lambda: start_payment(order.number)] * 2)

    assert failures(results, NotPayable, PaymentInProgress) == []
    assert [amount for _, amount in booked(order)] == [6]
    later = order.bitsby_invoices.exclude(pk=first.pk)
    assert all(invoice.amount == Decimal(4) for invoice in later)
