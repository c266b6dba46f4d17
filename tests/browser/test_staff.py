"""Staff's ways with money that needs a person, in Oscar's dashboard and in the Django admin."""

from __future__ import annotations

import re

import pytest
from django.core.management import call_command
from django.urls import reverse
from oscar.core.loading import get_model

from oscar_bitsby.gateway import factory
from oscar_bitsby.models import BitsbyPayment
from tests.browser.chromium import expect

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

MAY_BIND = "oscar_bitsby.bind_payment"
MAY_SEE, MAY_CHANGE = "order.view_order", "order.change_order"
DASHBOARD, ADMIN = ".page-content", "#content-main"


@pytest.fixture
def order(shop, product):
    """A guest has bought and sent too little; a pass has seen it."""
    order = shop.sold(product)
    shop.pays(amount="8.50000000")
    call_command("bitsby_reconcile")
    return order


@pytest.fixture
def late(order, shop, monkeypatch):
    """The order was cancelled, and its money is booked: bound at Bitsby by hand."""
    monkeypatch.setattr(Order, "pipeline", {**Order.pipeline, "Cancelled": ("Being processed",)})
    payment = BitsbyPayment.objects.get()
    shop.time_passes(hours=3)
    BitsbyPayment.objects.update(resolved_at=payment.seen_at)
    call_command("bitsby_reconcile")
    shop.time_passes(hours=3)
    call_command("bitsby_reconcile")
    BitsbyPayment.objects.update(resolved_at=None)
    assert Order.objects.get().status == "Cancelled"
    factory.for_background().bind_payment(order.bitsby_invoices.get().bitsby_id, payment.bitsby_id)
    call_command("bitsby_reconcile")
    assert BitsbyPayment.objects.get().review_reason == "late"
    return order


def inbox(page, shop):
    page.goto(shop.address(reverse("oscar_bitsby:dashboard-inbox")))


def order_tab(page, shop, order):
    page.goto(shop.address(reverse("dashboard:order-detail", args=[order.number])) + "#bitsby")


def bind_first(page, screenshot, name, within):
    """Choose the likeliest payment, read what will happen, confirm."""
    expect(
        page.get_by_role("heading", name="Payments that are bound to no invoice")
    ).to_be_visible()
    screenshot(page, f"{name}-list", within=within)
    page.get_by_label("8.5 usdt").check()
    page.get_by_label("Why").fill("the buyer's mail")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", name="What will happen")).to_be_visible()
    screenshot(page, f"{name}-confirm", within=within)
    page.get_by_role("button", name="Bind this payment").click()
    expect(page.get_by_text("Bound and booked")).to_be_visible()


def is_paid_once(order):
    order.refresh_from_db()
    return order.status == "Being processed" and Transaction.objects.count() == 1


def test_binding_from_the_inbox(order, shop, keeper, screenshot):
    """The inbox names the order that the money may be meant for; three clicks, and it is paid.

    The permission to bind is enough: who may not see orders is told in the inbox that it is done.
    """
    page = keeper(MAY_BIND)
    page.goto(shop.address(reverse("dashboard:index")))
    page.get_by_role("button", name="Bitsby (1)").click()
    page.get_by_role("link", name="Money inbox").click()
    expect(page.get_by_text("May be meant for")).to_be_visible()
    screenshot(page, "inbox", within=DASHBOARD)

    page.get_by_role("link", name="Bind to this order").click()
    bind_first(page, screenshot, "bind-dashboard", DASHBOARD)

    assert is_paid_once(order)
    inbox(page, shop)
    expect(page.get_by_text("Nothing to look at")).to_be_visible()
    screenshot(page, "inbox-empty", within=DASHBOARD)


def test_binding_from_the_orders_tab(order, shop, keeper, screenshot):
    """The link to the order opens its Bitsby tab, which leads to binding and says what came."""
    page = keeper(MAY_BIND, MAY_SEE)
    inbox(page, shop)
    page.get_by_role("link", name=f"order {order.number}").click()
    expect(page.get_by_role("link", name="Bind a payment")).to_be_visible()
    screenshot(page, "order-tab", within="#bitsby", wide=True)

    page.get_by_role("link", name="Bind a payment").click()
    page.get_by_label("8.5 usdt").check()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Bind this payment").click()

    expect(page.locator("#messages").get_by_text("Bound and booked")).to_be_visible()
    expect(page.locator("#bitsby")).to_contain_text(re.compile(r"received \S*8\.50"))
    screenshot(page, "order-tab-bound", within="#bitsby", wide=True)
    assert is_paid_once(order)


def test_binding_from_the_admins_button(order, shop, keeper, screenshot):
    """The order's screen in the Django admin has the button; three clicks, and it is paid."""
    page = keeper(MAY_BIND, MAY_SEE, MAY_CHANGE)
    page.goto(shop.address(reverse("admin:order_order_change", args=[order.pk])))
    page.get_by_role("link", name="Bind a Bitsby payment").click()

    bind_first(page, screenshot, "bind-admin", ADMIN)

    assert is_paid_once(order)


def test_binding_from_the_admins_list(order, shop, keeper, screenshot):
    """The list of orders has the action; it leads to the page of the one that was ticked."""
    page = keeper(MAY_BIND, MAY_SEE, MAY_CHANGE)
    page.goto(shop.address(reverse("admin:order_order_changelist")))
    page.locator("input.action-select").check()
    page.get_by_label("Action:").select_option(label="Bind a Bitsby payment")
    page.get_by_role("button", name="Go").click()

    page.get_by_label("8.5 usdt").check()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Bind this payment").click()

    expect(page.get_by_text("Bound and booked")).to_be_visible()
    assert is_paid_once(order)


def test_what_is_dismissed_can_be_brought_back(order, shop, keeper, screenshot):
    """Dismissing asks why, is told under Dealt with, and can be undone there."""
    page = keeper(MAY_BIND)
    inbox(page, shop)
    page.get_by_role("link", name="Dismiss").click()
    screenshot(page, "dismiss", within=DASHBOARD)
    page.get_by_label("Why").fill("refunded by hand")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_text("Nothing to look at")).to_be_visible()

    page.get_by_role("link", name="Dealt with").click()
    expect(page.get_by_text("refunded by hand")).to_be_visible()
    screenshot(page, "inbox-dealt-with", within=DASHBOARD)
    page.get_by_role("link", name="Undo the dismissal").click()
    page.get_by_role("button", name="Undo the dismissal").click()

    expect(page.get_by_text("The payment is in the inbox again.")).to_be_visible()
    inbox(page, shop)
    expect(page.get_by_role("link", name="Bind to this order")).to_be_visible()


def test_money_that_is_booked_is_accepted_as_it_is(order, shop, keeper, screenshot):
    """A bound payment of another amount stays flagged until somebody accepts the difference."""
    payment = BitsbyPayment.objects.get()
    factory.for_background().bind_payment(order.bitsby_invoices.get().bitsby_id, payment.bitsby_id)
    shop.time_passes(seconds=60)
    call_command("bitsby_reconcile")
    page = keeper(MAY_BIND)
    inbox(page, shop)
    screenshot(page, "inbox-short", within=DASHBOARD)

    page.get_by_role("link", name="Accept as it is").click()
    screenshot(page, "accept", within=DASHBOARD)
    page.get_by_role("button", name="Accept as it is").click()

    expect(page.get_by_text("Accepted:")).to_be_visible()
    expect(page.get_by_text("Nothing to look at")).to_be_visible()
    assert is_paid_once(order)


def test_late_money_settles_a_cancelled_order_again(late, shop, keeper, screenshot):
    """The inbox says that it came after the order was cancelled; two clicks make it paid."""
    page = keeper(MAY_BIND)
    inbox(page, shop)
    expect(page.get_by_text("came after the order was cancelled")).to_be_visible()
    screenshot(page, "inbox-late", within=DASHBOARD)

    page.get_by_role("link", name="Settle the order again").click()
    screenshot(page, "settle-again", within=DASHBOARD)
    page.get_by_label("Why").fill("the goods are here")
    page.get_by_role("button", name="Settle the order again").click()

    expect(page.get_by_text("is paid again, and its stock is taken.")).to_be_visible()
    assert is_paid_once(late)


def test_staff_without_the_permission_see_and_cannot(order, shop, keeper, screenshot):
    """They find the money and its order, and no button anywhere moves it; addresses are refused."""
    page = keeper(MAY_SEE, MAY_CHANGE)
    inbox(page, shop)
    expect(page.get_by_text("acting on it needs the permission")).to_be_visible()
    expect(page.locator(".page-content").get_by_role("button")).to_have_count(0)
    expect(page.get_by_role("link", name="Bind to this order")).to_have_count(0)
    expect(page.get_by_role("link", name="Dismiss")).to_have_count(0)
    screenshot(page, "inbox-without-permission", within=DASHBOARD)

    page.get_by_role("link", name=f"order {order.number}").click()
    expect(page.get_by_label("The buyer's page of this order")).to_be_visible()
    expect(page.get_by_role("link", name="Bind a payment")).to_have_count(0)
    expect(page.locator("#bitsby").get_by_role("button")).to_have_count(0)
    page.goto(shop.address(reverse("admin:order_order_change", args=[order.pk])))
    expect(page.get_by_role("link", name="History")).to_be_visible()
    expect(page.get_by_role("link", name="Bind a Bitsby payment")).to_have_count(0)
    page.goto(shop.address(reverse("admin:order_order_changelist")))
    expect(page.get_by_role("option", name="Bind a Bitsby payment")).to_have_count(0)
    for name in ("oscar_bitsby:dashboard-bind", "admin:oscar_bitsby_bind"):
        assert page.goto(shop.address(reverse(name, args=[order.pk]))).status == 403


def test_the_list_of_invoices(order, shop, keeper, screenshot):
    """The invoices can be searched by order, and lead to it."""
    page = keeper(MAY_SEE)
    page.goto(shop.address(reverse("oscar_bitsby:dashboard-invoices")))
    screenshot(page, "invoices", within=DASHBOARD)
    page.get_by_label("Order, id or hash").fill("nothing")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No invoice fits.")).to_be_visible()
    page.get_by_label("Order, id or hash").fill(order.number)
    page.get_by_role("button", name="Search").click()

    page.get_by_role("link", name=order.number).click()

    expect(page.get_by_label("The buyer's page of this order")).to_be_visible()
