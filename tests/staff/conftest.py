"""Fixtures for the tests of staff: who acts, and the payments that need a decision."""

import pytest
from oscar.core.loading import get_model

from tests.support import bitsby
from tests.support.staff import (
    MAY_BIND,
    accept_bindings,
    add_unbound_payment,
    cancel_unpaid_order,
    log_in,
    receive_payment,
)

Order = get_model("order", "Order")

ETHER = {"id": "other", "cryptocurrency": "eth", "blockchain": "ethereum"}


@pytest.fixture
def staff(db):
    """The browser of a member of staff who may bind payments."""
    return log_in("staff", *MAY_BIND)


@pytest.fixture
def colleague(db):
    """The browser of another member of staff who may bind payments."""
    return log_in("colleague", *MAY_BIND)


@pytest.fixture(params=["admin", "dashboard"])
def interface(request):
    """Where staff bind: the admin and the dashboard."""
    return request.param


@pytest.fixture
def bindable(fake, invoice):
    """An unbound payment in Bitsby's list, which Bitsby binds to the invoice when asked."""
    item = add_unbound_payment(fake)
    accept_bindings(fake, invoice)
    return item


@pytest.fixture
def short(fake, invoice):
    """A bound payment of less than was asked; it is booked and its order is paid."""
    payment = receive_payment(fake, invoice)
    assert payment.review_reason == "short"
    return payment


@pytest.fixture
def mismatch(fake, invoice):
    """A payment of an invoice that at Bitsby asks for something else; not booked."""
    payment = receive_payment(fake, invoice, amountFiat="8.00")
    assert (payment.review_reason, payment.booked_at) == ("mismatch", None)
    return payment


@pytest.fixture
def no_value(fake, invoice):
    """A bound payment in a coin without a locked rate; not booked."""
    payment = receive_payment(fake, invoice, wallet=bitsby.wallet(**ETHER))
    assert (payment.review_reason, payment.booked_at) == ("unknown_value", None)
    return payment


@pytest.fixture
def unmatched(fake, invoice):
    """A payment that is bound to no invoice."""
    payment = receive_payment(fake)
    assert payment.review_reason == "unmatched"
    return payment


@pytest.fixture
def make_late(fake, order, invoice_for):
    """Return a function that receives a payment of the cancelled order."""

    def make(amount="10.00000000"):
        payment = receive_payment(fake, cancel_unpaid_order(fake, order, invoice_for), amount)
        assert payment.review_reason == "late"
        return payment

    return make


@pytest.fixture
def late(make_late):
    """A payment of a cancelled order; it is booked."""
    return make_late()


@pytest.fixture
def refunder(db):
    """The browser of a member of staff who may bind and refund payments."""
    return log_in("refunder", *MAY_BIND, "oscar_bitsby.refund_payment")


@pytest.fixture
def forbid_reopening(monkeypatch):
    """A shop whose pipeline keeps a cancelled order from becoming paid."""
    monkeypatch.setattr(Order, "pipeline", {**Order.pipeline, "Cancelled": ()})
