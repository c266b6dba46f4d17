"""Start payments, and inspect the requests, attempts and errors."""

import pytest

from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.facade import start_payment


def create_requests(fake):
    """Return the fields of each request that creates an invoice."""
    return fake.asked("/invoices/create")


def statuses(order):
    """Return the statuses of the order's invoices, oldest first."""
    return list(order.bitsby_invoices.order_by("pk").values_list("status", flat=True))


def refusal(order, error_class):
    """Check that ``start_payment`` raises exactly ``error_class``, and return the message."""
    with pytest.raises(BitsbyError) as caught:
        start_payment(order)
    assert type(caught.value) is error_class
    return str(caught.value)
