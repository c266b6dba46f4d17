"""From a payment of a wrong amount to an order that is right: buyers and staff in turn."""

import re

import pytest
from django.core import mail
from django.core.management import call_command
from django.urls import reverse
from oscar.core.loading import get_model

from oscar_bitsby.mails import sender
from oscar_bitsby.models import BitsbyInvoice, BitsbyRefund
from tests.browser.chromium import expect
from tests.browser.steps import THANKS, expect_payment_page, expect_status
from tests.support.refunds import ADDRESSES, new_hash
from tests.support.staff import bookings_of

Order = get_model("order", "Order")

PERMISSIONS = (
    "oscar_bitsby.bind_payment",
    "oscar_bitsby.refund_payment",
    "order.view_order",
    "order.change_order",
)
PHONE = {"width": 390, "height": 844}
DASHBOARD = ".page-content"


@pytest.fixture
def staff(log_in_staff, shop):
    """A member of staff on the payments to review."""
    page = log_in_staff(*PERMISSIONS)
    page.goto(shop.address(reverse("oscar_bitsby:dashboard-inbox")))
    return page


def send(shop, amount):
    """Let a payment of this amount arrive, and a run see it."""
    shop.send_payment(amount=amount)
    shop.move_time(seconds=15)
    call_command("bitsby_reconcile")


def last_link(path):
    """Send the waiting e-mails; return the link in the last one."""
    sender.send_pending()
    return re.search(rf"http://\S+/bitsby/{path}/[^/\s]+/", mail.outbox[-1].body)[0]


def bind(page, button):
    """Bind the payment that the list suggests."""
    page.get_by_role("link", name="Bind to this order").click()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", name="What will happen")).to_be_visible()
    page.get_by_role("button", name=button).click()


def test_buyer_pays_the_rest_that_staff_ask_for(shop, order, visitor, staff, screenshot):
    """60 percent arrive, staff ask for the rest, and the link in the mail pays it on a phone."""
    send(shop, "6.00000000")
    staff.reload()
    staff.get_by_role("link", name="Bind to this order").click()
    staff.get_by_role("button", name="Continue").click()
    screenshot(staff, "bind-short", within=DASHBOARD)
    staff.get_by_role("button", name="Bind and ask for the rest").click()
    assert bookings_of(order)[0][1] == "6.00"

    phone = visitor(viewport=PHONE)
    phone.goto(last_link("orders"))
    expect_status(phone, "US$6.00")
    expect_status(phone, "US$4.00")
    screenshot(phone, "order-rest")
    phone.get_by_role("button", name="Pay the missing US$4.00").click()
    expect_payment_page(phone, shop)
    phone.get_by_role("button", name="Pay exactly").first.click()
    shop.move_time(seconds=15)
    call_command("bitsby_reconcile")
    phone.goto(shop.page_of(order))

    expect_status(phone, THANKS)
    order.refresh_from_db()
    assert order.status == "Being processed"
    assert [amount for _, amount in bookings_of(order)] == ["6.00", "4.00"]
    assert list(BitsbyInvoice.objects.order_by("pk").values_list("amount", flat=True)) == [10, 4]


def test_surplus_goes_back_to_the_buyer(shop, order, visitor, staff, screenshot):
    """Staff bind and refund, the buyer gives an address, and Oscar's page shows the refund."""
    send(shop, "12.50000000")
    staff.reload()
    bind(staff, "Bind this payment")
    staff.goto(shop.address(reverse("oscar_bitsby:dashboard-inbox")))
    screenshot(staff, "inbox-over", within=DASHBOARD)
    staff.get_by_role("link", name="Refund the surplus").click()
    staff.get_by_role("button", name="Continue").click()
    staff.get_by_role("button", name="Request this refund").click()
    expect(staff.get_by_role("heading", name="Refund of 2.5 USDT")).to_be_visible()

    phone = visitor(viewport=PHONE)
    phone.goto(last_link("refunds"))
    screenshot(phone, "refund-buyer-asked")
    refund = BitsbyRefund.objects.get()
    phone.get_by_label(re.compile("Your wallet address")).fill(ADDRESSES[refund.blockchain])
    phone.get_by_role("button", name="Save this address").click()
    expect(phone.get_by_text("We'll email you when the refund has been sent")).to_be_visible()

    staff.reload()
    sent = new_hash(refund.blockchain)
    staff.get_by_label("Transaction hash").fill(sent)
    staff.get_by_role("button", name="Record as sent").click()
    expect(staff.get_by_role("link", name=sent)).to_be_visible()

    assert [amount for _, amount in bookings_of(order)] == ["12.50", "2.50"]
    staff.goto(shop.address(reverse("dashboard:order-detail", args=[order.number])))
    staff.get_by_role("link", name="Payment", exact=True).click()
    expect(staff.locator("#payment")).to_contain_text("refunded")
    expect(staff.locator("#payment")).to_contain_text(sent[:20])
    screenshot(staff, "order-refunded", within="#payment", wide=True)
    phone.reload()
    expect(phone.get_by_text("Your refund has been sent")).to_be_visible()


def test_small_difference_settles_by_itself(page, shop, order, configure):
    """Half a percent less is within the tolerance: the order is paid, and nobody has to act."""
    configure(TOLERANCE=1)
    send(shop, "9.95000000")

    page.goto(shop.page_of(order))

    expect_status(page, THANKS)
    assert [amount for _, amount in bookings_of(order)] == ["9.95"]
