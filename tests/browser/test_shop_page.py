"""Buyers who pay on the shop's own page, on a phone and on a desktop."""

import io

import pytest
import zxingcpp
from django.core.management import call_command
from PIL import Image

from tests.browser import steps
from tests.browser.capture import FOLDER, overflow, small_targets
from tests.browser.chromium import expect
from tests.browser.steps import THANKS, expect_status
from tests.browser.test_access import COLLECT_VIOLATIONS, OURS, tab_to

PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True}
USDT, BITCOIN = "USDT on Tron (TRC-20)", "BTC on Bitcoin"


@pytest.fixture
def shop(shop, configure):
    configure(
        API_URL=shop.simulator.url,
        PAYMENT_HOSTS=["127.0.0.1"],
        PAYMENT_PAGE="shop",
        OTHER_METHODS=[("cod", "Pay on delivery")],
    )
    return shop


@pytest.fixture
def phone(visitor):
    """A page of a guest on a phone, whose clipboard can be read."""
    page = visitor(**PHONE)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    return page


def wallet(shop, coin, network):
    """Return what Bitsby has answered about a coin of the newest invoice."""
    (invoice,) = shop.simulator.control("state")["invoices"][:1]
    (found,) = (
        one
        for one in invoice["wallets"]
        if (one["cryptocurrency"], one["blockchain"]) == (coin, network)
    )
    return found


def scan(page):
    """Return what a phone's camera reads from the page's QR code."""
    image = Image.open(io.BytesIO(page.locator(".bitsby-qr").screenshot()))
    (found,) = zxingcpp.read_barcodes(image)
    return found.text


def pay(shop, read):
    """Send what a wallet has read: an address, and the amount in coins."""
    address, amount = read
    (wallet_id,) = {
        one["id"]
        for invoice in shop.simulator.control("state")["invoices"]
        for one in invoice["wallets"]
        if one["address"].lower() == address.lower() and one["amountCrypto"] == amount
    }
    shop.receive_payment(wallet=wallet_id, amount=amount)


def test_guest_pays_by_scanning_the_qr_code(phone, shop, product, screenshot):
    """The code has the address and the amount of Bitsby's answer; the page shows the payment."""
    steps.go_to_preview(phone, shop, product)
    screenshot(phone, "shop-page-preview", within=".shipping-payment")
    phone.get_by_role("button", name="Place order").click()
    expect_status(phone, "Waiting for your payment")
    screenshot(phone, "shop-page-coins")
    assert small_targets(phone, "[data-bitsby-order]") == []
    assert overflow(phone) == 0

    phone.get_by_role("link", name=BITCOIN).click()
    bitcoin = wallet(shop, "btc", "bitcoin")
    address, amount = bitcoin["address"], bitcoin["amountCrypto"]
    assert scan(phone) == f"bitcoin:{address.upper()}?amount={amount}"
    link = phone.get_by_role("link", name="Open in a wallet")
    assert link.get_attribute("href") == f"bitcoin:{address}?amount={amount}"
    screenshot(phone, "shop-page-bitcoin")
    assert small_targets(phone, "[data-bitsby-order]") == []

    phone.get_by_role("link", name=USDT).click()
    tron = wallet(shop, "usdt", "tron")
    assert scan(phone) == tron["address"]
    expect(phone.get_by_text("Send only USDT on Tron (TRC-20).")).to_be_visible()
    screenshot(phone, "shop-page-usdt")
    phone.evaluate("window.isSamePage = true")

    pay(shop, (scan(phone), phone.locator("#bitsby-amount").inner_text()))

    expect_status(phone, THANKS)
    assert phone.evaluate("window.isSamePage") is True
    assert tron["address"] not in phone.content()
    # The payment page was never opened.
    assert shop.simulator.control("state")["invoices"][0]["views"] == 0


def test_guest_pays_by_copying(phone, shop, order):
    """One tap copies the amount and one the address, to the byte; the coin is remembered."""
    phone.goto(shop.page_of(order))
    phone.get_by_role("link", name=BITCOIN).click()
    bitcoin = wallet(shop, "btc", "bitcoin")
    copied = []
    for name in ("Copy the address", "Copy the amount"):
        button = phone.get_by_role("button", name=name)
        button.tap()
        expect(phone.get_by_role("button", name="Copied")).to_be_visible()
        copied.append(phone.evaluate("navigator.clipboard.readText()"))
    assert copied == [bitcoin["address"], bitcoin["amountCrypto"]]

    pay(shop, copied)

    expect_status(phone, THANKS)
    phone.goto(shop.page_of(shop.sell(order.lines.get().product)))
    expect(phone.locator("#bitsby-address")).to_have_text(bitcoin["address"])


def test_guest_pays_without_javascript(visitor, shop, product, screenshot):
    """Links choose the coin, everything can be read, and the page reloads by itself."""
    page = visitor(java_script_enabled=False)
    order = shop.sell(product)
    page.goto(shop.page_of(order))
    page.get_by_role("link", name=USDT).click()
    tron = wallet(shop, "usdt", "tron")
    expect(page.locator("#bitsby-address")).to_have_text(tron["address"])
    expect(page.get_by_role("button", name="Copy the address")).to_be_hidden()
    assert page.locator("noscript meta[http-equiv=refresh]").count() == 1

    pay(shop, (tron["address"], page.locator("#bitsby-amount").inner_text()))
    page.reload()

    expect_status(page, THANKS)


def test_expired_quote_shows_no_address_and_a_button_for_a_new_one(page, shop, order, screenshot):
    """The new quote is shown on the same page, in the same coin."""
    page.goto(shop.page_of(order))
    page.get_by_role("link", name=USDT).click()
    tron = wallet(shop, "usdt", "tron")
    shop.move_time(minutes=61)
    call_command("bitsby_reconcile")
    page.reload()
    expect_status(page, "The payment window has closed")
    assert tron["address"] not in page.content()
    screenshot(page, "shop-page-expired")

    page.get_by_role("button", name="Request a new quote").click()

    expect(page.locator("#bitsby-address")).to_be_visible()
    newest = wallet(shop, "usdt", "tron")
    expect(page.locator("#bitsby-amount")).to_have_text(newest["amountCrypto"])
    assert order.bitsby_invoices.count() == 2


def test_buyer_who_paid_too_little_sees_addresses_only_after_a_click(page, shop, order, screenshot):
    """The payment of another amount may be theirs: they must not pay again by mistake."""
    page.goto(shop.page_of(order))
    page.get_by_role("link", name=USDT).click()
    tron = wallet(shop, "usdt", "tron")
    shop.receive_payment(wallet=tron["id"], amount="8.5")
    call_command("bitsby_reconcile")
    page.reload()
    expect_status(page, "Have you already paid?")
    assert tron["address"] not in page.content()
    screenshot(page, "shop-page-possible-mismatch")

    page.get_by_role("button", name="Not paid yet? Pay now").click()

    expect(page.locator("#bitsby-address")).to_have_text(tron["address"])
    expect_status(page, "Have you already paid?")


def test_page_works_by_keyboard_and_breaks_no_policy(page, shop, order):
    """Tab reaches coins and buttons with a visible focus; our scripts violate nothing."""
    page.add_init_script(f'const OURS = "{OURS}";' + COLLECT_VIOLATIONS)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(shop.page_of(order))
    tab_to(page, BITCOIN, role="link")
    page.keyboard.press("Enter")
    expect(page.locator("#bitsby-address")).to_be_visible()
    tab_to(page, "Copy the address")
    tab_to(page, "Open in a wallet", role="link")

    assert [one for one in page.evaluate("violations") if one["isOurs"]] == []
    assert errors == []


def test_page_in_forced_colours_and_on_paper(visitor, shop, order):
    """The QR code stays black on white, and paper has the code, the amount and the address."""
    page = visitor(**PHONE, forced_colors="active", color_scheme="dark")
    page.goto(shop.page_of(order) + "?coin=btc-bitcoin")
    bitcoin = wallet(shop, "btc", "bitcoin")
    FOLDER.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=FOLDER / "contrast-shop-page-phone.png", full_page=True)
    assert scan(page).startswith("bitcoin:")
    button = page.get_by_role("button", name="Copy the address")
    assert button.evaluate("one => parseFloat(getComputedStyle(one).borderTopWidth)") > 0

    page.emulate_media(media="print", forced_colors="none")
    page.screenshot(path=FOLDER / "print-shop-page.png", full_page=True)
    assert scan(page) == f"bitcoin:{bitcoin['address'].upper()}?amount={bitcoin['amountCrypto']}"
    expect(page.locator("#bitsby-address")).to_be_visible()
    expect(page.get_by_role("button", name="Copy the address")).to_be_hidden()
