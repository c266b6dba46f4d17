"""Staff review and bind payments in Oscar's dashboard and in the Django admin."""

import re

import pytest
from django.core.management import call_command
from django.urls import reverse
from oscar.core.loading import get_model

from oscar_bitsby.gateway import factory
from oscar_bitsby.models import BitsbyPayment
from tests.browser.capture import overflow, small_targets
from tests.browser.chromium import expect

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

MAY_BIND = "oscar_bitsby.bind_payment"
MAY_SEE, MAY_CHANGE = "order.view_order", "order.change_order"
DASHBOARD, ADMIN = ".page-content", "#content-main"


@pytest.fixture
def order(shop, order):
    """A guest has bought and paid too little; a run has seen it."""
    shop.send_payment(amount="8.50000000")
    call_command("bitsby_reconcile")
    return order


@pytest.fixture
def cancelled_order(order, shop):
    """The order was cancelled, and its short payment is booked: it was bound at Bitsby."""
    payment = BitsbyPayment.objects.get()
    BitsbyPayment.objects.update(resolved_at=payment.seen_at)
    shop.cancel_order()
    BitsbyPayment.objects.update(resolved_at=None)
    assert Order.objects.get().status == "Cancelled"
    bind_at_bitsby(order)
    assert BitsbyPayment.objects.get().review_reasons == ["cancelled", "short"]
    return order


def bind_at_bitsby(order):
    """Bind the payment on Bitsby's own pages; a run sees it."""
    invoice, payment = order.bitsby_invoices.get(), BitsbyPayment.objects.get()
    factory.for_background().bind_payment(invoice.bitsby_id, payment.bitsby_id)
    call_command("bitsby_reconcile")


def open_inbox(page, shop):
    page.goto(shop.address(reverse("oscar_bitsby:dashboard-inbox")))
    return page


def bind_first(page, screenshot, name, within):
    """Fetch the payments, choose the likeliest one, read what will happen, confirm."""
    expect(page.get_by_role("heading", name="Unmatched payments")).to_be_visible()
    page.get_by_role("button", name="Fetch payments from Bitsby").click()
    expect(page.get_by_text("The list shows the payments that Bitsby reports now.")).to_be_visible()
    screenshot(page, f"{name}-list", within=within)
    page.get_by_label("8.5 USDT").check()
    page.get_by_label("Reason").fill("the buyer's mail")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", name="What will happen")).to_be_visible()
    screenshot(page, f"{name}-confirm", within=within)
    page.get_by_role("button", name="Bind this payment").click()
    expect(page.get_by_text("Bound and booked")).to_be_visible()


def is_paid_once(order):
    order.refresh_from_db()
    return order.status == "Being processed" and Transaction.objects.count() == 1


def test_binding_from_the_payments_to_review(order, shop, log_in_staff, screenshot):
    """The list names the order that the payment may be for; three clicks pay it.

    The permission to bind is enough: staff who may not see orders get the message on the list.
    """
    page = log_in_staff(MAY_BIND)
    page.goto(shop.address(reverse("dashboard:index")))
    page.get_by_role("button", name="Bitsby (1)").click()
    page.get_by_role("link", name="Payments to review").click()
    expect(page.get_by_text("May be for")).to_be_visible()
    screenshot(page, "inbox", within=DASHBOARD)

    page.get_by_role("link", name="Bind to this order").click()
    bind_first(page, screenshot, "bind-dashboard", DASHBOARD)

    assert is_paid_once(order)
    expect(page.get_by_text("The difference still waits in Payments to review")).to_be_visible()
    open_inbox(page, shop)
    page.get_by_role("link", name="Accept").click()
    page.get_by_role("button", name="Accept").click()
    expect(page.get_by_text("All payments are matched")).to_be_visible()
    screenshot(page, "inbox-empty", within=DASHBOARD)


def test_binding_from_the_orders_tab(order, shop, log_in_staff, screenshot):
    """The link to the order opens its Bitsby tab, which leads to binding and shows the result."""
    page = open_inbox(log_in_staff(MAY_BIND, MAY_SEE), shop)
    page.get_by_role("link", name=f"order {order.number}").click()
    expect(page.get_by_role("link", name="Bind a payment")).to_be_visible()
    screenshot(page, "order-tab", within="#bitsby", wide=True)

    page.get_by_role("link", name="Bind a payment").click()
    # Without a reason.
    page.get_by_label("8.5 USDT").check()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Bind this payment").click()

    expect(page.locator("#messages").get_by_text("Bound and booked")).to_be_visible()
    expect(page.locator("#bitsby")).to_contain_text(re.compile(r"Missing\s+\S*10\.00\s+\S*8\.50"))
    screenshot(page, "order-tab-bound", within="#bitsby", wide=True)
    assert is_paid_once(order)


@pytest.mark.parametrize("way", ["button", "action"])
def test_binding_from_the_admin(order, shop, log_in_staff, screenshot, way):
    """The order's screen has a button, the list an action; three clicks, and it is paid."""
    page = log_in_staff(MAY_BIND, MAY_SEE, MAY_CHANGE)
    if way == "button":
        page.goto(shop.address(reverse("admin:order_order_change", args=[order.pk])))
        page.get_by_role("link", name="Bind a Bitsby payment").click()
    else:
        page.goto(shop.address(reverse("admin:order_order_changelist")))
        page.locator("input.action-select").check()
        page.get_by_label("Action:").select_option(label="Bind a Bitsby payment")
        page.get_by_role("button", name="Go").click()

    bind_first(page, screenshot, "bind-admin", ADMIN)

    assert is_paid_once(order)


def test_dismissal_can_be_undone(order, shop, log_in_staff, screenshot):
    """Dismissing asks why, is listed under Resolved, and can be undone there."""
    page = open_inbox(log_in_staff(MAY_BIND), shop)
    page.get_by_role("link", name="Dismiss").click()
    screenshot(page, "dismiss", within=DASHBOARD)
    page.get_by_label("Reason").fill("refunded by hand")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_text("All payments are matched")).to_be_visible()

    page.get_by_role("link", name="Resolved").click()
    expect(page.get_by_text("refunded by hand")).to_be_visible()
    screenshot(page, "inbox-dealt-with", within=DASHBOARD)
    page.get_by_role("link", name="Undo").click()
    page.get_by_role("button", name="Undo").click()

    expect(page.get_by_text("The payment is in Payments to review again.")).to_be_visible()
    open_inbox(page, shop)
    expect(page.get_by_role("link", name="Bind to this order")).to_be_visible()


def dismiss_chosen(page, button, look=lambda: None):
    """Confirm the dismissal of the chosen payments with a reason."""
    page.get_by_role("button", name="Dismiss the chosen payments").click()
    expect(page.get_by_role("heading", name="Dismiss payments")).to_be_visible()
    look()
    page.get_by_label("Reason").fill("spam")
    page.get_by_role("button", name=button).click()


def test_very_small_payments_are_dismissed_together(order, shop, log_in_staff, screenshot):
    """They have a tab of their own, where the chosen ones are dismissed for one reason."""
    for _ in range(3):
        shop.send_payment(amount="0.00000100")
    call_command("bitsby_reconcile")
    page = log_in_staff(MAY_BIND)
    open_inbox(page, shop)
    expect(page.get_by_role("button", name="Bitsby (1)")).to_be_visible()
    page.get_by_role("link", name="Very small payments").click()
    screenshot(page, "inbox-dust", within=DASHBOARD)

    page.get_by_label("0.000001 USDT").first.check()
    dismiss_chosen(page, "Dismiss 1 payment")
    expect(page.get_by_text("1 payment is dismissed.")).to_be_visible()
    page.get_by_label("All payments on this page").check()
    dismiss_chosen(page, "Dismiss 2 payments", lambda: screenshot(page, "dismiss-several"))

    expect(page.get_by_text("2 payments are dismissed.")).to_be_visible()
    expect(page.get_by_text("There are no very small payments.")).to_be_visible()
    assert BitsbyPayment.objects.needs_review().count() == 1


def test_filters_and_sorting_find_a_payment(order, shop, log_in_staff, screenshot):
    """Staff find one of several payments, sort the list, dismiss one, and are where they were."""
    for amount in ("3.00000000", "4.00000000"):
        shop.send_payment(amount=amount)
    call_command("bitsby_reconcile")
    page = open_inbox(log_in_staff(MAY_BIND), shop)
    expect(page.get_by_role("heading", name="3 payments")).to_be_visible()
    page.get_by_label("Review reason").select_option(label="Unmatched payment")
    page.get_by_label("Coin").fill("usdt")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Transaction time").click()
    expect(page.get_by_role("columnheader", name="Transaction time")).to_have_attribute(
        "aria-sort", "descending"
    )
    screenshot(page, "inbox-filtered", within=DASHBOARD)
    # The narrowest window with a table, and not with cards.
    page.set_viewport_size({"width": 768, "height": 800})
    assert overflow(page) == 0

    page.get_by_label("Amount, hash").fill("4")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", name="1 payment")).to_be_visible()
    page.get_by_role("link", name="Dismiss").click()
    page.get_by_label("Reason").fill("not ours")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_text("No payments match these filters.")).to_be_visible()
    expect(page.get_by_label("Review reason")).to_have_value("unmatched")
    screenshot(page, "inbox-nothing-found", within=DASHBOARD)
    page.get_by_role("link", name="Resolved").click()
    expect(page.get_by_text("not ours")).to_be_visible()


SCROLLERS = """Array.from(document.querySelectorAll(".page-content *"))
.filter(one => one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 1
    && ["auto", "scroll"].includes(getComputedStyle(one).overflowX))
.map(one => one.outerHTML.slice(0, 90))"""


def test_reviewing_on_a_phone(order, shop, log_in_staff, screenshot):
    """At 390 px nothing scrolls sideways and everything can be hit, from the list to the result."""
    for amount in ("3.00000000", "0.00000100"):
        shop.send_payment(amount=amount)
    call_command("bitsby_reconcile")
    page = log_in_staff(MAY_BIND, MAY_SEE)
    page.set_viewport_size({"width": 390, "height": 844})

    def check(name):
        screenshot(page, name, within=DASHBOARD)
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate(SCROLLERS) == [], name
        assert small_targets(page) == [], name

    page.goto(shop.address(reverse("oscar_bitsby:dashboard-bind", args=[order.pk])))
    check("phone-bind")
    open_inbox(page, shop)
    check("phone-inbox")
    page.get_by_label("Choose 3 USDT").check()
    page.get_by_role("button", name="Dismiss the chosen payments").click()
    check("phone-dismiss-several")
    page.get_by_role("link", name="Back to payments to review").click()
    page.get_by_role("link", name="Dismiss").first.click()
    check("phone-dismiss")
    page.get_by_label("Reason").fill("not ours")
    page.get_by_role("button", name="Dismiss").click()
    for tab, name in (("Very small payments", "phone-dust"), ("Resolved", "phone-resolved")):
        page.get_by_role("link", name=tab).click()
        check(name)


def test_booked_payment_is_accepted(order, shop, log_in_staff, screenshot):
    """A bound payment of another amount stays to review until staff accept it."""
    shop.move_time(seconds=60)
    bind_at_bitsby(order)
    page = open_inbox(log_in_staff(MAY_BIND), shop)
    screenshot(page, "inbox-short", within=DASHBOARD)

    page.get_by_role("link", name="Accept").click()
    screenshot(page, "accept", within=DASHBOARD)
    page.get_by_role("button", name="Accept").click()

    expect(page.get_by_text("Accepted:")).to_be_visible()
    expect(page.get_by_text("All payments are matched")).to_be_visible()
    assert is_paid_once(order)


def test_payment_reinstates_a_cancelled_order(cancelled_order, shop, log_in_staff, screenshot):
    """The list gives both reasons; two clicks reinstate the order, and the amount is left."""
    page = open_inbox(log_in_staff(MAY_BIND), shop)
    rows = page.get_by_role("table")
    expect(rows.get_by_text("arrived in time, but the order is cancelled")).to_be_visible()
    expect(rows.get_by_text("less than the order's total")).to_be_visible()
    screenshot(page, "inbox-cancelled", within=DASHBOARD)

    page.get_by_role("link", name="Reinstate").click()
    screenshot(page, "settle-again", within=DASHBOARD)
    page.get_by_label("Reason").fill("the goods are here")
    page.get_by_role("button", name="Reinstate").click()

    expect(page.get_by_text("is reinstated: it is paid")).to_be_visible()
    expect(rows.get_by_text("less than the order's total")).to_be_visible()
    assert is_paid_once(cancelled_order)


def test_staff_without_the_permission_see_and_cannot(order, shop, log_in_staff, screenshot):
    """They see the payment and its order but no action; the URLs of actions are refused."""
    page = open_inbox(log_in_staff(MAY_SEE, MAY_CHANGE), shop)
    expect(page.get_by_text("you need the permission")).to_be_visible()
    expect(page.locator(".page-content").get_by_role("button")).to_have_text(["Search"])
    expect(page.get_by_role("link", name="Bind to this order")).to_have_count(0)
    expect(page.get_by_role("link", name="Dismiss")).to_have_count(0)
    screenshot(page, "inbox-without-permission", within=DASHBOARD)

    page.get_by_role("link", name=f"order {order.number}").click()
    expect(page.get_by_label("Link to the buyer's page of this order")).to_be_visible()
    expect(page.get_by_role("link", name="Bind a payment")).to_have_count(0)
    expect(page.locator("#bitsby form")).to_have_count(0)
    page.goto(shop.address(reverse("admin:order_order_change", args=[order.pk])))
    expect(page.get_by_role("link", name="History")).to_be_visible()
    expect(page.get_by_role("link", name="Bind a Bitsby payment")).to_have_count(0)
    page.goto(shop.address(reverse("admin:order_order_changelist")))
    expect(page.get_by_role("option", name="Bind a Bitsby payment")).to_have_count(0)
    for name in ("oscar_bitsby:dashboard-bind", "admin:oscar_bitsby_bind"):
        assert page.goto(shop.address(reverse(name, args=[order.pk]))).status == 403


def test_the_list_of_invoices(order, shop, log_in_staff, screenshot):
    """The invoices can be searched by order, and lead to it."""
    page = log_in_staff(MAY_SEE)
    page.goto(shop.address(reverse("oscar_bitsby:dashboard-invoices")))
    screenshot(page, "invoices", within=DASHBOARD)
    page.get_by_label("Order number, ID or hash").fill("nothing")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No invoices found.")).to_be_visible()
    page.get_by_label("Order number, ID or hash").fill(order.number)
    page.get_by_role("button", name="Search").click()

    page.get_by_role("link", name=order.number).click()

    expect(page.get_by_label("Link to the buyer's page of this order")).to_be_visible()
