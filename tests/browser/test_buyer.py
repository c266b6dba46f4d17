"""The buyer's ways through the shop, to Bitsby and back."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from oscar.core.loading import get_model

from oscar_bitsby.buyer import views
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.gateway import factory
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from tests.browser import chromium
from tests.browser.chromium import expect
from tests.browser.ways import choose_bitsby, go_to_payment, go_to_preview, place_order, shows

Basket = get_model("basket", "Basket")
Order = get_model("order", "Order")


def test_a_guest_pays_exactly(page, shop, product, look):
    """From the product to the paid order, with a mouse, as the buyer sees it."""
    go_to_payment(page, shop, product)
    look(page, "payment-step")
    choose_bitsby(page)
    expect(page.get_by_text("Send exactly that amount.")).to_be_visible()
    look(page, "preview", within=".shipping-payment")

    place_order(page, shop)
    page.get_by_role("button", name="Pay exactly").first.click()
    expect(page.get_by_text("arrived and paid this invoice")).to_be_visible()
    shop.time_passes(seconds=15)

    page.goto(shop.mailed_link())
    shows(page, "Thank you, we've received your payment")
    expect(page.get_by_role("button", name="Pay")).to_have_count(0)
    look(page, "order-paid")
    assert Order.objects.get().status == "Being processed"

    page.get_by_role("link", name="View order details").click()
    page.get_by_label("Email address").fill("buyer@example.com")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("Thank you, we've received your payment")).to_be_visible()
    look(page, "guests-order", within=".alert", wide=True)
    page.goto(shop.address("/checkout/thank-you/"))
    expect(page.get_by_text("Thank you, we've received your payment")).to_be_visible()
    look(page, "thank-you", within=".alert", wide=True)


def test_a_registered_buyer_finds_the_payment_in_the_account(page, shop, product, look):
    """The account's page of the order leads to where the payment is, before it and after."""
    get_user_model().objects.create_user("buyer", "buyer@example.com", "open sesame")
    go_to_preview(page, shop, product, password="open sesame")
    place_order(page, shop)
    order = Order.objects.get()
    account = shop.address(f"/accounts/orders/{order.number}/")

    page.goto(account)
    look(page, "account-waiting", within=".alert", wide=True)
    page.get_by_role("link", name="Pay or check the payment status").click()
    shows(page, "Waiting for your payment")
    look(page, "order-waiting")
    page.get_by_role("button", name="Open the payment page").click()
    page.wait_for_url(shop.invoice().url)
    page.get_by_role("button", name="Pay exactly").first.click()
    shop.time_passes(seconds=15)
    call_command("bitsby_reconcile")

    page.goto(account)
    expect(page.get_by_text("Thank you, we've received your payment")).to_be_visible()
    look(page, "account-paid", within=".alert", wide=True)
    assert BitsbyInvoice.objects.count() == 1


def test_whoever_pays_too_little_is_told_to_do_nothing_more(page, shop, product, look):
    """The page asks whoever has paid not to pay again, and tells of no failure.

    When staff have bound the money, it says thank you.
    """
    go_to_preview(page, shop, product)
    place_order(page, shop)
    page.get_by_label("Another amount in usdt").first.fill("8.5")
    page.get_by_role("button", name="Pay another amount").first.click()
    expect(page.get_by_text("the payment stays unbound")).to_be_visible()
    shop.time_passes(seconds=15)
    call_command("bitsby_reconcile")
    page.goto(shop.mailed_link())

    # Bitsby does not say whose it is: until staff bind it, it may be somebody else's.
    shows(page, "Have you already paid?")
    shows(page, "please don't pay again: your money isn't lost")
    look(page, "order-possible-mismatch")
    payment = BitsbyPayment.objects.get()
    factory.for_background().bind_payment(shop.invoice().bitsby_id, payment.bitsby_id)
    shop.time_passes(seconds=15)
    page.reload()
    shows(page, "Thank you, we've received your payment")


def test_money_that_staff_must_look_at_is_not_asked_for_again(page, shop, product, look):
    """While the shop looks at a payment, its buyer is told not to pay, and has no button to."""
    order = shop.sold(product)
    BitsbyInvoice.objects.update(status=InvoiceStatus.PAID)

    page.goto(shop.page_of(order))

    shows(page, "We're reviewing your payment")
    shows(page, "Please don't pay again")
    expect(page.locator("[data-bitsby-next]").get_by_role("button")).to_have_count(0)
    look(page, "order-under-review")


def test_time_runs_out_and_the_buyer_pays_with_a_new_amount(page, shop, product, look):
    """After the hour the page says so without blame; a click leads to a new invoice, once."""
    go_to_preview(page, shop, product)
    place_order(page, shop)
    first = page.url
    link = shop.mailed_link()
    shop.time_passes(seconds=3700)
    page.goto(link)
    shows(page, "The payment window has closed")
    shows(page, "don't pay again")
    look(page, "order-expired")

    page.get_by_role("button", name="Request a new quote").click()
    page.wait_for_url(f"{shop.simulator.url}/invoices/pay/*")
    assert page.url != first
    page.get_by_role("button", name="Pay exactly").first.click()
    shop.time_passes(seconds=15)
    page.goto(link)

    shows(page, "Thank you, we've received your payment")
    statuses = BitsbyInvoice.objects.order_by("pk").values_list("status", flat=True)
    assert list(statuses) == ["expired", "paid"]


def test_the_mails_link_opens_on_another_device(page, visitor, shop, product):
    """The tab is closed; a phone that was never in the shop shows the order and pays it."""
    go_to_preview(page, shop, product)
    place_order(page, shop)
    invoice_url = page.url
    page.close()

    phone = visitor(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    phone.goto(shop.mailed_link())
    shows(phone, "Waiting for your payment")
    phone.get_by_role("button", name="Open the payment page").tap()

    phone.wait_for_url(invoice_url)
    assert BitsbyInvoice.objects.count() == 1


def test_a_double_click_places_one_order(page, shop, product):
    """Two clicks on Place order make one order with one invoice, and lead to its payment page."""
    go_to_preview(page, shop, product)

    page.get_by_role("button", name="Place order").dblclick()
    page.wait_for_url(f"{shop.simulator.url}/invoices/pay/*")

    assert page.url == BitsbyInvoice.objects.get().url
    assert Order.objects.count() == 1


@pytest.mark.parametrize("remembers", [True, False], ids=["from memory", "asked anew"])
def test_back_from_bitsby_finds_the_order(playwright, visitor, shop, product, remembers):
    """The back button shows the order, not the checkout's last step or an empty basket."""
    # Playwright turns off that browsers keep the pages behind them in memory; buyers' do not.
    keeping = ["--disable-back-forward-cache"] if remembers else []
    browser = chromium.launch(playwright, ignore_default_args=keeping)
    try:
        page = visitor(browser)
        go_to_preview(page, shop, product)
        place_order(page, shop)

        # Playwright would wait for a load that does not happen where a page comes from memory.
        page.evaluate("history.back()")

        page.wait_for_url(shop.page_of(Order.objects.get()))
        shows(page, "Waiting for your payment")
        page.get_by_role("button", name="Open the payment page").click()
        page.wait_for_url(shop.invoice().url)
        assert Order.objects.count() == 1
        assert BitsbyInvoice.objects.count() == 1
    finally:
        browser.close()


def test_a_preview_from_memory_is_asked_for_anew(page, shop, product):
    """Where a browser keeps the page all the same, it is loaded again instead of being shown."""
    go_to_preview(page, shop, product)
    # Deferred scripts have run by then.
    page.wait_for_load_state()

    with page.expect_navigation(url=shop.address("/checkout/preview/")):
        page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")


def test_bitsby_is_down_and_comes_back(page, shop, product, look, monkeypatch):
    """The order is safe, the buyer is told so, and the page goes on by itself when Bitsby does."""
    monkeypatch.setattr(views, "RETRY_DELAYS", (60,))
    go_to_preview(page, shop, product)
    shop.breaks(kind="status", status=500)
    page.get_by_role("button", name="Place order").click()
    expect(page.get_by_text("Your order is safe, and nothing has been charged.")).to_be_visible()
    look(page, "wait-down")
    page.get_by_role("link", name="View your order").click()
    shows(page, "This order hasn't been paid yet")
    look(page, "order-new")

    shop.time_passes(seconds=30)
    monkeypatch.setattr(views, "RETRY_DELAYS", (1,) * 9)
    page.get_by_role("button", name="Pay now").click()
    expect(page.get_by_text("We try again in 1 second")).to_be_visible()
    shop.breaks()
    shop.time_passes(seconds=30)

    page.wait_for_url(f"{shop.simulator.url}/invoices/pay/*")
    assert Order.objects.count() == 1


@pytest.mark.parametrize("way", ["a click", "by itself"])
def test_back_after_waiting_for_bitsby_finds_the_order(page, shop, product, monkeypatch, way):
    """However the page that waited went on to Bitsby, the back button does not lead there again."""
    monkeypatch.setattr(views, "RETRY_DELAYS", (600,) if way == "a click" else (1,) * 9)
    shop.breaks(kind="status", status=500)
    go_to_preview(page, shop, product)
    page.get_by_role("button", name="Place order").click()
    expect(page.get_by_role("button", name="Try now")).to_be_visible()
    shop.breaks()
    shop.time_passes(seconds=30)
    if way == "a click":
        page.get_by_role("button", name="Try now").click()
    page.wait_for_url(f"{shop.simulator.url}/invoices/pay/*")

    page.go_back()

    page.wait_for_url(shop.page_of(Order.objects.get()))
    shows(page, "Waiting for your payment")


def test_a_click_is_not_broken_off_by_the_page_that_tries_again(page, shop, product):
    """While a click is on its way, however long that takes, the page does not try by itself."""
    page.clock.install()
    shop.breaks(kind="status", status=500)
    go_to_preview(page, shop, product)
    page.get_by_role("button", name="Place order").click()
    expect(page.get_by_role("button", name="Try now")).to_be_visible()
    page.wait_for_load_state()
    # Stands for a click that is never answered.
    page.evaluate("addEventListener('submit', (event) => event.preventDefault())")
    asked = []
    page.on("request", lambda request: asked.append(request.url))

    page.get_by_role("button", name="Try now").click()
    page.clock.run_for(60_000)
    page.wait_for_load_state("networkidle")

    assert asked == []


def test_a_cancelled_order_can_be_ordered_again(page, shop, product, look):
    """The page says not to pay any more, and a click brings the goods back into the basket."""
    order = shop.sold(product)
    shop.time_passes(seconds=3700)
    call_command("bitsby_reconcile")
    shop.time_passes(seconds=7200)
    call_command("bitsby_reconcile")
    page.goto(shop.page_of(order))
    shows(page, "This order has been cancelled")
    look(page, "order-cancelled")

    page.get_by_role("button", name="Order again").click()

    page.wait_for_url(shop.address("/basket/"))
    expect(page.get_by_text("Your basket holds what can be had")).to_be_visible()
    expect(page.get_by_role("link", name="Proceed to checkout")).to_be_visible()


def test_an_order_that_the_shop_deals_with_asks_for_no_money(page, shop, product, look):
    """Where staff took the order on by hand, its page says so and has no button to pay."""
    order = shop.sold(product)
    Order.objects.filter(pk=order.pk).update(status="Complete")

    page.goto(shop.page_of(order))

    shows(page, "The shop is handling this order")
    expect(page.get_by_role("button", name="Pay")).to_have_count(0)
    look(page, "order-other")


def test_a_shop_without_its_key_keeps_the_buyer_calm(page, shop, product, look, settings):
    """Settings that were broken after the order: its page says that the order is safe."""
    order = shop.sold(product)
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "TIME_TO_PAY": "soon"}

    page.goto(shop.page_of(order))

    expect(page.get_by_role("heading", name="Your order is safe")).to_be_visible()
    look(page, "unavailable")


def test_everything_works_without_javascript(visitor, shop, product, look, monkeypatch):
    """From the basket to Bitsby and to the paid order, whose page renews itself by reloading."""
    monkeypatch.setattr(views, "RELOAD_AFTER", 1)
    page = visitor(java_script_enabled=False)
    go_to_preview(page, shop, product)
    place_order(page, shop)
    page.goto(shop.mailed_link())
    shows(page, "Waiting for your payment")

    shop.pays()
    shop.time_passes(seconds=15)

    shows(page, "Thank you, we've received your payment")
