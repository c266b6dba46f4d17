"""Buyers in a browser: through the checkout, to Bitsby and back."""

import datetime as dt
import re

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.urls import reverse
from oscar.core.loading import get_model

from oscar_bitsby.buyer import views
from oscar_bitsby.gateway import factory
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.settlement import attempts
from tests.browser import chromium, steps
from tests.browser.chromium import expect
from tests.browser.steps import THANKS, expect_status

Order = get_model("order", "Order")


def test_guest_pays_exact_amount(page, shop, product, screenshot):
    """From the product to the paid order, with a mouse, as the buyer sees it."""
    steps.go_to_payment(page, shop, product)
    screenshot(page, "payment-step")
    steps.choose_bitsby(page)
    expect(page.get_by_text("Please send exactly that amount.")).to_be_visible()
    screenshot(page, "preview", within=".shipping-payment")

    steps.place_order(page, shop)
    page.get_by_role("button", name="Pay exactly").first.click()
    expect(page.get_by_text("arrived and paid this invoice")).to_be_visible()
    shop.move_time(seconds=15)

    page.goto(shop.mailed_link())
    expect_status(page, THANKS)
    expect(page.get_by_role("button", name="Pay")).to_have_count(0)
    screenshot(page, "order-paid")
    order = Order.objects.get()
    assert order.status == "Being processed"

    page.get_by_role("link", name="Continue shopping").click()
    expect(page.get_by_role("heading", name="All products")).to_be_visible()
    page.goto(
        shop.address(reverse("customer:anon-order", args=[order.number, order.verification_hash()]))
    )
    page.get_by_label("Email address").fill("buyer@example.com")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text(THANKS)).to_be_visible()
    screenshot(page, "guests-order", within=".alert", wide=True)
    page.goto(shop.address("/checkout/thank-you/"))
    expect(page.get_by_text(THANKS)).to_be_visible()
    screenshot(page, "thank-you", within=".alert", wide=True)


def test_account_page_links_to_the_payment(page, shop, product, screenshot):
    """Before and after the payment, the order's page in the account links to the payment page."""
    get_user_model().objects.create_user("buyer", "buyer@example.com", "open sesame")
    steps.go_to_preview(page, shop, product, password="open sesame")
    steps.place_order(page, shop)
    order = Order.objects.get()
    account = shop.address(f"/accounts/orders/{order.number}/")

    page.goto(account)
    screenshot(page, "account-waiting", within=".alert", wide=True)
    page.get_by_role("link", name="Pay or check the payment status").click()
    expect_status(page, "Waiting for your payment")
    screenshot(page, "order-waiting")
    page.get_by_role("button", name="Open the payment page").click()
    page.wait_for_url(shop.invoice().url)
    page.get_by_role("button", name="Pay exactly").first.click()
    shop.move_time(seconds=15)
    call_command("bitsby_reconcile")

    page.goto(account)
    expect(page.get_by_text(THANKS)).to_be_visible()
    screenshot(page, "account-paid", within=".alert", wide=True)
    assert BitsbyInvoice.objects.count() == 1


def test_buyer_who_paid_too_little_is_asked_not_to_pay_again(page, shop, product, screenshot):
    """The page asks the buyer not to pay again and shows no failure.

    When staff have bound the payment, it says thank you.
    """
    steps.buy(page, shop, product)
    page.get_by_label("Another amount in usdt").first.fill("8.5")
    page.get_by_role("button", name="Pay another amount").first.click()
    expect(page.get_by_text("the payment stays unbound")).to_be_visible()
    shop.move_time(seconds=15)
    call_command("bitsby_reconcile")
    page.goto(shop.mailed_link())

    # Bitsby does not say whose payment it is: until staff bind it, it may be another buyer's.
    expect_status(page, "Have you already paid?")
    expect_status(page, "please don't pay again: your money isn't lost")
    screenshot(page, "order-possible-mismatch")
    payment = BitsbyPayment.objects.get()
    factory.for_background().bind_payment(shop.invoice().bitsby_id, payment.bitsby_id)
    shop.move_time(seconds=15)
    page.reload()
    expect_status(page, THANKS)


@pytest.mark.parametrize(
    ("invoice_status", "order_status", "texts", "name"),
    [
        ("paid", "Pending", ["We're reviewing your payment", "Please don't pay again"], "review"),
        ("unpaid", "Complete", ["The shop is handling this order"], "other"),
    ],
)
def test_order_that_nobody_has_to_pay_has_no_pay_button(
    page, shop, order, screenshot, invoice_status, order_status, texts, name
):
    """While a payment is under review, or when staff handle the order, its page asks for none."""
    BitsbyInvoice.objects.update(status=invoice_status)
    Order.objects.update(status=order_status)

    page.goto(shop.page_of(order))

    for text in texts:
        expect_status(page, text)
    expect(page.locator("[data-bitsby-next]").get_by_role("button")).to_have_count(0)
    expect(page.get_by_role("button", name="Pay")).to_have_count(0)
    screenshot(page, f"order-{name}")


def test_unusable_settings_show_that_the_order_is_safe(page, shop, order, screenshot, configure):
    """When settings become unusable after the order, its page says that the order is safe."""
    configure(TIME_TO_PAY="soon")

    page.goto(shop.page_of(order))

    expect(page.get_by_role("heading", name="Your order is safe")).to_be_visible()
    screenshot(page, "unavailable")


def test_buyer_requests_new_quote_after_expiry(page, shop, product, screenshot):
    """After an hour the page says that the invoice has expired; a click creates one new invoice."""
    steps.buy(page, shop, product)
    first = page.url
    link = shop.mailed_link()
    shop.move_time(seconds=3700)
    page.goto(link)
    expect_status(page, "The payment window has closed")
    expect_status(page, "don't pay again")
    screenshot(page, "order-expired")

    page.get_by_role("button", name="Request a new quote").click()
    steps.expect_payment_page(page, shop)
    assert page.url != first
    page.get_by_role("button", name="Pay exactly").first.click()
    shop.move_time(seconds=15)
    page.goto(link)

    expect_status(page, THANKS)
    statuses = BitsbyInvoice.objects.order_by("pk").values_list("status", flat=True)
    assert list(statuses) == ["expired", "paid"]


def test_link_in_email_opens_on_another_device(page, visitor, shop, product):
    """On a phone without a session in the shop, the link shows the order and pays it."""
    steps.buy(page, shop, product)
    invoice_url = page.url
    page.close()

    phone = visitor(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    phone.goto(shop.mailed_link())
    expect_status(phone, "Waiting for your payment")
    phone.get_by_role("button", name="Open the payment page").tap()

    phone.wait_for_url(invoice_url)
    assert BitsbyInvoice.objects.count() == 1


def test_double_click_places_one_order(page, shop, product):
    """Two clicks on Place order make one order with one invoice, and lead to its payment page."""
    steps.go_to_preview(page, shop, product)

    page.get_by_role("button", name="Place order").dblclick()
    steps.expect_payment_page(page, shop)

    assert page.url == BitsbyInvoice.objects.get().url
    assert Order.objects.count() == 1


@pytest.mark.parametrize("has_cache", [True, False], ids=["from cache", "reloaded"])
def test_back_button_from_bitsby_shows_the_order(playwright, visitor, shop, product, has_cache):
    """The back button shows the order, not the checkout's last step or an empty basket."""
    # Playwright switches the back/forward cache off, which buyers' browsers have.
    keeping = ["--disable-back-forward-cache"] if has_cache else []
    browser = chromium.launch(playwright, ignore_default_args=keeping)
    try:
        page = visitor(browser)
        steps.buy(page, shop, product)

        # Playwright would wait for a load event, which a page from the cache does not have.
        page.evaluate("history.back()")

        page.wait_for_url(shop.page_of(Order.objects.get()))
        expect_status(page, "Waiting for your payment")
        page.get_by_role("button", name="Open the payment page").click()
        page.wait_for_url(shop.invoice().url)
        assert Order.objects.count() == 1
        assert BitsbyInvoice.objects.count() == 1
    finally:
        browser.close()


def test_preview_from_browser_cache_is_reloaded(page, shop, product):
    """A browser that restores the preview from its cache reloads it."""
    steps.go_to_preview(page, shop, product)
    # Deferred scripts have run by then.
    page.wait_for_load_state()

    with page.expect_navigation(url=shop.address("/checkout/preview/")):
        page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")


def test_waiting_page_continues_when_bitsby_is_back(page, shop, product, screenshot, monkeypatch):
    """The page says that the order is safe, and continues by itself when Bitsby works again."""
    steps.go_to_preview(page, shop, product)
    shop.stop_gateway()
    page.get_by_role("button", name="Place order").click()
    expect(page.get_by_text("Your order is safe, and nothing has been charged.")).to_be_visible()
    screenshot(page, "wait-down")
    page.get_by_role("link", name="View your order").click()
    expect_status(page, "This order hasn't been paid yet")
    screenshot(page, "order-new")

    monkeypatch.setattr(attempts, "FIRST_PAUSE", dt.timedelta(seconds=3))
    shop.move_time(seconds=30)
    page.get_by_role("button", name="Pay now").click()
    expect(page.get_by_text("We'll try again in 6 seconds")).to_be_visible()
    shop.restart_gateway()

    steps.expect_payment_page(page, shop)
    assert Order.objects.count() == 1


@pytest.mark.parametrize("way", ["a click", "by itself"])
def test_back_button_after_waiting_page_shows_the_order(page, shop, product, monkeypatch, way):
    """After a click or a retry of the waiting page, the back button does not lead there again."""
    pause = dt.timedelta(seconds=600 if way == "a click" else 5)
    monkeypatch.setattr(attempts, "FIRST_PAUSE", pause)
    steps.place_order_while_bitsby_is_down(page, shop, product)
    shop.restart_gateway()
    if way == "a click":
        shop.move_time(seconds=600)
        page.get_by_role("button", name="Try now").click()
    steps.expect_payment_page(page, shop)

    page.go_back()

    page.wait_for_url(shop.page_of(Order.objects.get()))
    expect_status(page, "Waiting for your payment")


def test_click_survives_the_retrying_page(page, shop, product):
    """While the request of a click is running, the page does not retry by itself."""
    page.clock.install()
    steps.place_order_while_bitsby_is_down(page, shop, product)
    page.wait_for_load_state()
    # Simulates a click without a response.
    page.evaluate("addEventListener('submit', (event) => event.preventDefault())")
    asked = []
    page.on("request", lambda request: asked.append(request.url))

    page.get_by_role("button", name="Try now").click()
    page.clock.run_for(60_000)
    page.wait_for_load_state("networkidle")

    assert asked == []


def test_cancelled_order_can_be_ordered_again(page, shop, order, screenshot):
    """The page asks the buyer not to pay, and a click puts the items into the basket."""
    shop.cancel_order()
    page.goto(shop.page_of(order))
    expect_status(page, "This order has been cancelled")
    screenshot(page, "order-cancelled")

    page.get_by_role("button", name="Order again").click()

    page.wait_for_url(shop.address("/basket/"))
    expect(page.get_by_text("are now in your basket")).to_be_visible()
    expect(page.get_by_role("link", name="Proceed to checkout")).to_be_visible()


def test_payment_works_without_javascript(visitor, shop, product, screenshot, monkeypatch):
    """From the basket to the paid order; the order's page updates by reloading."""
    monkeypatch.setattr(views, "RELOAD_AFTER", 1)
    page = visitor(java_script_enabled=False)
    steps.buy(page, shop, product)
    page.goto(shop.mailed_link())
    expect_status(page, "Waiting for your payment")

    shop.receive_payment()

    expect_status(page, THANKS)


def test_buyer_after_the_end_of_the_hold_can_only_order_again(page, shop, order, screenshot):
    """A day after placing, the page of an unpaid order offers the same order again, no payment."""
    shop.move_time(hours=25)
    page.goto(shop.page_of(order))

    expect(page.get_by_role("button", name="Order again")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Pay|quote"))).to_have_count(0)
    screenshot(page, "order-hold-ended")


def test_buyer_with_too_many_unpaid_orders_gets_links_to_them(
    page, shop, product, screenshot, configure
):
    """The payment step names the reason and leads to the order that is still to be paid."""
    configure(MAX_PENDING_ORDERS=1, OTHER_METHODS=[("cod", "Pay on delivery")])
    steps.buy(page, shop, product)

    steps.go_to_payment(page, shop, product)

    expect(page.get_by_text("You have too many unpaid orders")).to_be_visible()
    screenshot(page, "payment-step-pending")
    page.get_by_role("link", name=re.compile("Order .*: pay")).click()
    expect_status(page, "Waiting for your payment")
