"""Settings and goods for walks through the checkout."""

import pytest
from django.db import connections
from oscar.core.loading import get_model
from oscar.test import factories

from tests.support.shopping import go_to_payment, go_to_preview

ConditionalOffer = get_model("offer", "ConditionalOffer")
Benefit = get_model("offer", "Benefit")
Condition = get_model("offer", "Condition")
Range = get_model("offer", "Range")


@pytest.fixture
def other_methods(configure):
    """The shop handles two methods itself, so that there is always a choice."""
    configure(OTHER_METHODS=[("cod", "Pay on delivery"), ("bill", "On account")])


@pytest.fixture(params=[False, True], ids=["autocommit", "ATOMIC_REQUESTS"])
def requests_atomic(request, monkeypatch):
    """Run the test with and without a transaction around each request."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", request.param)
    return request.param


@pytest.fixture
def voucher(db):
    """A voucher that takes everything off the total."""
    everything = Range.objects.create(name="all", includes_all_products=True)
    offer = ConditionalOffer.objects.create(
        name="All free",
        offer_type=ConditionalOffer.VOUCHER,
        condition=Condition.objects.create(range=everything, type=Condition.COUNT, value=1),
        benefit=Benefit.objects.create(range=everything, type=Benefit.PERCENTAGE, value=100),
    )
    voucher = factories.VoucherFactory(code="ALLFREE")
    voucher.offers.add(offer)
    return voucher


@pytest.fixture
def payment_client(guest, product):
    """The browser of a guest who is at the payment step, with one product."""
    go_to_payment(guest, product)
    return guest


@pytest.fixture
def preview_client(guest, product):
    """The browser of a guest who is at the preview, with one product to pay by Bitsby."""
    go_to_preview(guest, product)
    return guest
