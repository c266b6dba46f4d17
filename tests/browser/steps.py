"""Steps through the shop in a browser."""

import re

from tests.browser.chromium import expect

ADDRESS = {
    "First name": "Ada",
    "Last name": "Buyer",
    "First line of address": "1 Road",
    "City": "Berlin",
    "Post/Zip-code": "10115",
}
STATE = "[data-bitsby-status]"
THANKS = "Thank you, we've received your payment"


def go_to_payment(page, shop, product, password=None):
    """From the product to the payment step, as a guest or with a password."""
    page.goto(shop.address(product.get_absolute_url()))
    page.get_by_role("button", name=re.compile("Add to (basket|cart)")).click()
    page.goto(shop.address("/basket/"))
    page.get_by_role("link", name="Proceed to checkout").click()
    page.get_by_label("Email address").fill("buyer@example.com")
    if password is None:
        page.get_by_label("I am a new customer and want to checkout as a guest").check()
        # Oscar's form requires a password of guests too until a script removes the field. One
        # evaluation fills it, because that script may run between finding and filling.
        page.locator("input[type=password]").evaluate("(field) => { field.value = 'none'; }")
    else:
        page.get_by_label("I am a returning customer, and my password is").check()
        page.locator("input[type=password]").fill(password)
    page.get_by_role("button", name="Continue").click()
    for label, text in ADDRESS.items():
        page.get_by_label(label).fill(text)
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", name="Payment", exact=True)).to_be_visible()


def choose_bitsby(page):
    """From the payment step to the preview."""
    page.get_by_label("Cryptocurrency").check()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("button", name="Place order")).to_be_visible()


def go_to_preview(page, shop, product, password=None):
    go_to_payment(page, shop, product, password)
    choose_bitsby(page)


def place_order(page, shop):
    """From the preview to Bitsby's page."""
    page.get_by_role("button", name="Place order").click()
    expect_payment_page(page, shop)


def buy(page, shop, product):
    """From the product to Bitsby's page, as a guest."""
    go_to_preview(page, shop, product)
    place_order(page, shop)


def place_order_while_bitsby_is_down(page, shop, product):
    """From the product to the page that retries."""
    shop.stop_gateway()
    go_to_preview(page, shop, product)
    page.get_by_role("button", name="Place order").click()
    expect(page.get_by_role("button", name="Try now")).to_be_visible()


def expect_payment_page(page, shop):
    page.wait_for_url(f"{shop.simulator.url}/invoices/pay/*")


def expect_status(page, text):
    """Expect a text in the status on the order's page, which screen readers announce."""
    expect(page.locator(STATE)).to_contain_text(text)
