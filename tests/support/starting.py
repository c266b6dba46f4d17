"""Start payments, and inspect the requests, attempts and errors."""

from decimal import Decimal

import pytest

from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.facade import start_payment
from tests.support import bitsby


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


def start_listed(order, fake, status="unpaid", **values):
    """Start a payment, and let the API list its invoice with a status; return the invoice."""
    invoice = start_payment(order)
    fake.invoices = [bitsby.invoice_item(invoice, status, **values)]
    return invoice


def change_total(order, total="12.00"):
    """Change the total of the order in the database only."""
    type(order).objects.filter(pk=order.pk).update(total_incl_tax=Decimal(total))
