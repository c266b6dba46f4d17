"""Staff refund a surplus, in Oscar's dashboard and in the Django admin."""

import pytest
from django.urls import reverse

from oscar_bitsby.models import BitsbyRefund
from tests.browser.capture import small_targets
from tests.browser.chromium import expect
from tests.support.refunds import ADDRESSES, book_payment, new_hash
from tests.support.staff import bookings_of

PERMISSIONS = (
    "oscar_bitsby.refund_payment",
    "oscar_bitsby.bind_payment",
    "order.view_order",
    "order.change_order",
)
PARTS = {"dashboard": ".page-content", "admin": "#content-main"}


@pytest.fixture(params=["dashboard", "admin"])
def interface(request):
    """Where staff refund."""
    return request.param


@pytest.fixture
def over(shop, place, invoice_for):
    """An order of 10 dollars, for which 12.50 arrived."""
    return book_payment(invoice_for(place()), "12.50000000").invoice.order


@pytest.fixture
def screenshot(screenshot):
    """Take screenshots, and check that fingers can hit the dashboard's buttons and fields."""

    def take(page, name, part):
        screenshot(page, name, part)
        if part == PARTS["dashboard"]:
            before = page.viewport_size
            page.set_viewport_size({"width": 390, "height": 844})
            # Links within a text are as high as its lines.
            assert small_targets(page, links="a.btn") == [], name
            page.set_viewport_size(before)

    return take


def request_url(interface, order):
    if interface == "admin":
        return reverse("admin:oscar_bitsby_refund_request", args=[order.pk])
    return reverse("oscar_bitsby:dashboard-refund-order", args=[order.pk])


def test_staff_refund_a_surplus(shop, over, interface, log_in_staff, screenshot):
    """From the request to the hash, with the steps that the pages offer."""
    page, part = log_in_staff(*PERMISSIONS), PARTS[interface]
    address, sent = ADDRESSES["tron"], new_hash()

    page.goto(shop.address(request_url(interface, over)))
    expect(page.get_by_label("The surplus")).to_be_checked()
    page.get_by_label("Reason").fill("sent too much")
    screenshot(page, f"refund-1-request-{interface}", part)
    page.get_by_label("Amount in USD").fill("99")
    page.get_by_role("button", name="Continue").click()
    expect(
        page.get_by_text("At most 12.50 USD can still be refunded. Enter a smaller amount.")
    ).to_be_visible()
    screenshot(page, f"refund-2-too-much-{interface}", part)
    page.get_by_label("Amount in USD").fill("")
    page.get_by_role("button", name="Continue").click()
    screenshot(page, f"refund-3-confirm-{interface}", part)
    page.get_by_role("button", name="Request this refund").click()

    screenshot(page, f"refund-4-requested-{interface}", part)
    page.get_by_label("Address for USDT").fill(ADDRESSES["ethereum"])
    page.get_by_role("button", name="Save the address").click()
    expect(page.get_by_text("This is an Ethereum address.")).to_be_visible()
    screenshot(page, f"refund-5-wrong-address-{interface}", part)
    page.get_by_label("Address for USDT").fill(address)
    page.get_by_role("button", name="Save the address").click()

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the address").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == address
    screenshot(page, f"refund-6-address-given-{interface}", part)
    page.get_by_text("Cancel this refund").click()
    screenshot(page, f"refund-7-cancel-{interface}", part)
    page.get_by_label("Transaction hash").fill(sent)
    page.get_by_role("button", name="Record as sent").click()

    expect(page.get_by_role("link", name=sent)).to_be_visible()
    screenshot(page, f"refund-8-sent-{interface}", part)
    assert bookings_of(over)[1:] == [(sent, "2.50")]
    assert BitsbyRefund.objects.get().coin_amount == 2.5


def test_list_leads_to_the_next_step(shop, over, log_in_staff, screenshot, invoice_for):
    """Each open refund has a button for it, large enough for a finger."""
    page = log_in_staff(*PERMISSIONS)
    book_payment(invoice_for(over))
    page.goto(shop.address(request_url("dashboard", over)))
    expect(page.get_by_role("heading", name="Which payment do you refund?")).to_be_visible()
    screenshot(page, "refund-choice", PARTS["dashboard"])
    page.get_by_role("link", name="12.5 USDT").click()
    page.get_by_label("Amount in USD").fill("2.50")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Request this refund").click()

    page.goto(shop.address(reverse("oscar_bitsby:dashboard-refunds")))
    screenshot(page, "refund-list", PARTS["dashboard"])
    button = page.get_by_role("link", name="Wait for the address, or enter it")
    assert button.bounding_box()["height"] >= 44
    button.click()

    expect(page.get_by_role("heading", name="Refund of 2.5 USDT")).to_be_visible()
    for name in ("Save the address", "Send the buyer a new link"):
        assert page.get_by_role("button", name=name).bounding_box()["height"] >= 44
    page.get_by_text("Cancel this refund").click()
    page.locator("#id_cancel_note").fill("requested by mistake")
    page.get_by_role("button", name="Cancel the refund").click()
    expect(page.get_by_text("No coins were sent.")).to_be_visible()
    screenshot(page, "refund-cancelled", PARTS["dashboard"])
    page.goto(shop.address(reverse("oscar_bitsby:dashboard-refunds") + "?show=closed"))
    screenshot(page, "refund-list-closed", PARTS["dashboard"])
