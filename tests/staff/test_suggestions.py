"""What the list of payments to review suggests for an unbound payment."""

import pytest
from django.urls import reverse

from oscar_bitsby.choices import InvoiceStatus
from tests.support.staff import INBOX, bind_url, payment_card
from tests.support.unbound import receive

pytestmark = pytest.mark.django_db


@pytest.fixture
def cancelled(offer):
    """The invoice of a cancelled order of 5.50 dollars."""
    invoice = offer("5.50")
    invoice.order.set_status("Cancelled")
    return invoice


def test_second_payment_is_suggested_for_a_refund(offer, cancelled, staff):
    """Identical to a paid order's amount, it is offered for no other order."""
    paid = offer("13.03", InvoiceStatus.PAID)

    card = payment_card(staff, receive("13.03"))

    assert f"Looks like a second payment for order {paid.order_number}" in card.text
    assert "The buyer has probably paid twice" in card.text
    assert cancelled.order_number not in card.text
    assert not [link for link in card.links if link and "/bind/" in link]


@pytest.mark.parametrize(("amount", "is_primary"), [("8.25", True), ("13.03", False)])
def test_only_a_likely_match_has_a_primary_button(cancelled, staff, amount, is_primary):
    """A payment that deviates by 136.9 % can be bound, but nothing invites to it."""
    payment = receive(amount)

    card = payment_card(staff, payment)
    html = staff.get(reverse(INBOX)).content.decode()

    url = bind_url("dashboard", cancelled.order)
    (link,) = [part for part in html.split("<a ") if f'href="{url}' in part]
    assert ("btn-primary" in link) is is_primary
    assert ("not likely" in card.text) is not is_primary
