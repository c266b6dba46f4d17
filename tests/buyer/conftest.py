"""Buyers who have just placed an order."""

import pytest
from oscar.core.loading import get_model

from tests.support.shopping import go_to_preview, place_order

Order = get_model("order", "Order")


@pytest.fixture
def buyer(guest, product):
    """The browser of a guest who has placed an order and not followed the redirect to pay it."""
    go_to_preview(guest, product)
    guest.pay_url = place_order(guest)["Location"]
    return guest


@pytest.fixture
def bought(buyer):
    """The order of ``buyer``."""
    return Order.objects.get()
