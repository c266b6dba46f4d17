"""A buyer gives the address for a refund, on a phone, by the link in the e-mail."""

import re

import pytest
from django.core import mail
from django.utils import timezone

from oscar_bitsby.choices import MailCode
from oscar_bitsby.mails import outbox, sender
from oscar_bitsby.models import BitsbyRefund
from tests.browser.chromium import expect
from tests.support.buyer_refunds import ADDRESS, HASH, create_refund

PHONE = {"viewport": {"width": 390, "height": 844}}
#: An address on Bitcoin.
OTHER_CHAIN = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"


@pytest.fixture
def refund(order):
    """A refund whose buyer has just been asked for an address."""
    refund = create_refund(order)
    outbox.enqueue(MailCode.REFUND_REQUESTED, order, refund=refund)
    sender.send_pending()
    return refund


def link_in(message):
    """Return the link to the refund's page in an e-mail."""
    return re.search(r"http://\S+/bitsby/refunds/\S+/", message.body)[0]


@pytest.mark.parametrize("javascript", [True, False])
def test_buyer_corrects_an_address_and_later_sees_the_transaction(
    visitor, shop, refund, screenshot, javascript
):
    """The page keeps a wrong address, stores the right one, and works without JavaScript."""
    page = visitor(java_script_enabled=javascript, **PHONE)
    take = screenshot if javascript else lambda page, name: None
    page.goto(link_in(mail.outbox[-1]))
    take(page, "refund-asks-for-address")

    field = page.get_by_label("Your wallet address for USDT on Tron (TRC-20)")
    field.fill(OTHER_CHAIN)
    page.get_by_role("button", name="Save this address").click()
    expect(page.get_by_role("alert")).to_contain_text("This is a Bitcoin address.")
    expect(field).to_have_value(OTHER_CHAIN)
    expect(field).to_be_focused()
    take(page, "refund-wrong-address")

    field.fill(ADDRESS)
    page.keyboard.press("Enter")
    expect(page.get_by_text(ADDRESS)).to_be_visible()
    expect(field).to_have_count(0)
    take(page, "refund-address-given")

    BitsbyRefund.objects.update(state="sent", transaction_hash=HASH, closed_at=timezone.now())
    page.reload()
    expect(page.get_by_text(HASH)).to_be_visible()
    take(page, "refund-sent")


def test_order_page_leads_to_the_refund(page, shop, order, refund, screenshot):
    """The order's page has a button for the refund, and later its transaction."""
    page.goto(shop.page_of(order))
    screenshot(page, "order-refund-requested")
    page.get_by_role("link", name="Give your wallet address").click()
    expect(page.get_by_role("button", name="Save this address")).to_be_visible()

    BitsbyRefund.objects.update(state="sent", transaction_hash=HASH, closed_at=timezone.now())
    page.goto(shop.page_of(order))
    expect(page.get_by_text(HASH)).to_be_visible()
    screenshot(page, "order-refund-sent")


def test_replaced_link_says_what_to_do(page, refund, screenshot):
    """An old link leads to a page that says how to get a new one."""
    BitsbyRefund.objects.update(link_version=2)

    page.goto(link_in(mail.outbox[-1]))
    expect(page.get_by_text("ask the shop for a new link")).to_be_visible()
    screenshot(page, "refund-link-invalid")
