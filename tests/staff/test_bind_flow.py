"""Who may do what: every action, for every kind of user."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.db import connections
from django.urls import reverse
from oscar.core.loading import get_model

from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from tests.support import bitsby
from tests.support.staff import (
    BIND,
    CANCEL,
    INBOX,
    INVOICES,
    MAY_BIND,
    PARTNER,
    Page,
    accept_bindings,
    act_url,
    add_unbound_payment,
    admin_log_of,
    bind_url,
    bookings_of,
    cancel_unpaid_order,
    log_in,
    message_after,
    perform,
    receive_payment,
    status_of,
)

Order = get_model("order", "Order")
Partner = get_model("partner", "Partner")
Transaction = get_model("payment", "Transaction")
User = get_user_model()

pytestmark = pytest.mark.django_db

# Who may do what

ACTIONS = ["accept", "settle", "dismiss", "undo"]


@pytest.fixture
def late(fake, order, invoice_for):
    """A payment of a cancelled order, which every action can be tried on."""
    payment = receive_payment(fake, cancel_unpaid_order(fake, order, invoice_for))
    assert payment.review_reason == "late"
    return payment


@pytest.fixture
def unpaid(place, invoice_for):
    """An invoice of another order, still to be paid."""
    return invoice_for(place())


@pytest.fixture
def ways(late, unpaid):
    """The URL of every action on payments and invoices."""
    return {
        "bind": bind_url("dashboard", unpaid.order),
        **{action: act_url(late, action) for action in ACTIONS},
        "refresh": reverse("oscar_bitsby:dashboard-invoice-refresh", args=[unpaid.pk]),
        "cancel": reverse("oscar_bitsby:dashboard-invoice-cancel", args=[unpaid.pk]),
    }


@pytest.fixture
def nothing_happens(fake, late, unpaid):
    """Check after the test that no row has changed and no API request was sent."""
    fake.requests.clear()

    def picture():
        return (
            list(BitsbyPayment.objects.order_by("pk").values()),
            list(BitsbyInvoice.objects.order_by("pk").values()),
            list(Order.objects.order_by("pk").values("pk", "status")),
            Transaction.objects.count(),
            LogEntry.objects.count(),
        )

    before = picture()
    yield
    assert picture() == before
    assert fake.requests == []


FORM = {"note": "mine", "fiat_value": "999", "confirm": "1"}


@pytest.mark.usefixtures("nothing_happens")
def test_an_anonymous_visitor_is_asked_to_log_in_everywhere(client, ways, unpaid):
    """Without a login every page and action leads to a login page and does nothing."""
    pages = [*ways.values(), reverse(INBOX), reverse(INVOICES)]
    for url in pages:
        for send in (client.get, client.post):
            response = send(url, FORM | {"payment_id": str(bitsby.new_id())})
            assert response.status_code == 302, url
            assert response["Location"].startswith(reverse("dashboard:login")), url
    url = bind_url("admin", unpaid.order)
    for send in (client.get, client.post):
        assert send(url, FORM)["Location"].startswith(reverse("admin:login"))


@pytest.mark.usefixtures("nothing_happens")
def test_a_customer_is_refused_everywhere(ways, unpaid):
    """A customer, even with the permission by mistake, gets no page and does nothing."""
    for client in (
        log_in("customer", is_staff=False),
        log_in("odd", "oscar_bitsby.bind_payment", is_staff=False),
    ):
        for url in [*ways.values(), reverse(INBOX), reverse(INVOICES)]:
            assert client.get(url).status_code == 403, url
            payment = str(bitsby.new_id())
            assert client.post(url, FORM | {"payment_id": payment}).status_code == 403, url
        url = bind_url("admin", unpaid.order)
        for send in (client.get, client.post):
            response = send(url, FORM)
            assert response.status_code == 302
            assert response["Location"].startswith(reverse("admin:login"))


@pytest.mark.usefixtures("nothing_happens")
@pytest.mark.parametrize("extra", [(), ("oscar_bitsby.bind_payment",)], ids=["plain", "permitted"])
@pytest.mark.parametrize("owns", [True, False], ids=["own order", "other's order"])
def test_a_partners_user_never_moves_money(ways, unpaid, late, product, extra, owns):
    """A partner's login, even with the permission, is refused at every action on any order."""
    partner = log_in("partner", PARTNER, *extra, is_staff=False)
    if owns:
        product.stockrecords.get().partner.users.add(partner.user)
    for name, url in ways.items():
        refused = {403} if owns or name != "bind" else {403, 404}
        shown = partner.get(url).status_code
        assert shown in (refused | {405} if name in ("refresh", "cancel") else refused), name
        sent = partner.post(url, FORM | {"payment_id": str(late.bitsby_id)}).status_code
        assert sent in refused, name
    response = partner.post(bind_url("admin", unpaid.order), FORM)
    assert response["Location"].startswith(reverse("admin:login"))


@pytest.mark.usefixtures("nothing_happens")
def test_staff_without_the_permission_cannot_act(ways, unpaid, late):
    """Staff without ``bind_payment`` get 403 at every action, from the dashboard and the admin."""
    staff = log_in("viewer", "order.view_order", "order.change_order")
    ways["admin"] = bind_url("admin", unpaid.order)
    for name, url in ways.items():
        response = staff.post(url, FORM | {"payment_id": str(late.bitsby_id)})
        assert response.status_code == 403, name
        if name in (*ACTIONS, "admin", "bind"):
            assert staff.get(url).status_code == 403, name


def test_staff_without_the_permission_see_but_are_offered_nothing(late, unpaid):
    """The lists and the order's tab show no action."""
    staff = log_in("viewer", "order.view_order")

    inbox = staff.get(reverse(INBOX))
    tab = staff.get(reverse("dashboard:order-detail", args=[late.invoice.order_number]))
    unpaid_tab = staff.get(reverse("dashboard:order-detail", args=[unpaid.order_number]))
    invoices = staff.get(reverse(INVOICES))

    assert f"Order {late.invoice.order_number}" in Page(inbox).text
    assert "you need the permission" in Page(inbox).text
    assert late.hash in Page(tab).text
    assert unpaid.uid in Page(invoices).text
    for response in (inbox, tab, unpaid_tab, invoices):
        page = Page(response)
        targets = [*page.links, *(form["action"] for form in page.forms)]
        own = [url for url in targets if url and url.startswith("/bitsby/dashboard/")]
        acting = [url for url in own if re.search(r"/(payments|orders)/|refresh|cancel", url)]
        assert acting == []


def test_staff_who_may_not_open_orders_get_no_link_to_one(fake, ways, late, unpaid):
    """Oscar shows orders by a permission of its own: without it, each link leads to our list."""
    staff = log_in("cashier", "oscar_bitsby.bind_payment")
    fake.invoices.append(bitsby.invoice_item(unpaid))
    ours, other = (
        f"{reverse(INVOICES)}?q={invoice.order_number}" for invoice in (late.invoice, unpaid)
    )

    inbox = Page(staff.get(reverse(INBOX)))
    binding = Page(staff.get(bind_url("dashboard", unpaid.order)))
    listed = Page(staff.get(ours))
    refreshed = staff.post(ways["refresh"])

    assert ours in inbox.links
    assert other in binding.links
    assert refreshed["Location"] == other
    assert "Refreshed" in message_after(staff, refreshed)
    assert any(late.invoice.uid in row for row in listed.rows())
    numbers = (late.invoice.order_number, unpaid.order_number)
    for page in (inbox, binding, listed):
        for url in page.links:
            if any(number in str(url) for number in numbers):
                assert staff.get(url).status_code == 200, url


def test_a_partners_user_sees_only_what_concerns_own_orders(fake, place, invoice_for, product):
    """Invoices and payments of other partners' orders, and unmatched payments, stay hidden."""
    mine, other = invoice_for(place()), invoice_for(place())
    foreign_partner = Partner.objects.create(name="Other")
    other.order.lines.update(partner=foreign_partner)
    unmatched = receive_payment(fake, amount="3.00000000")
    my_short, their_short = receive_payment(fake, mine), receive_payment(fake, other)
    partner = log_in("partner", PARTNER, is_staff=False)
    product.stockrecords.get().partner.users.add(partner.user)

    for query in ("", "?show=done"):
        inbox = Page(partner.get(reverse(INBOX) + query)).text
        assert (my_short.hash[:20] in inbox) == (query == "")
        assert their_short.hash[:20] not in inbox
        assert unmatched.hash[:20] not in inbox
        assert other.order_number not in inbox
    for query in ("", f"?q={other.order_number}", f"?q={their_short.hash}", "?attention=on"):
        listed = Page(partner.get(reverse(INVOICES) + query))
        rows = " ".join(listed.rows())
        assert other.uid not in rows
        assert (mine.uid in rows) == (query in ("", "?attention=on"))
    own = partner.get(reverse("dashboard:order-detail", args=[mine.order_number]))
    assert my_short.hash in Page(own).text
    foreign = partner.get(reverse("dashboard:order-detail", args=[other.order_number]))
    assert foreign.status_code == 404


def test_a_partners_navigation_does_not_count_other_peoples_money(fake, place, invoice_for):
    """The number in the navigation is the shop's; a partner's user must not learn it."""
    invoice_for(place())
    receive_payment(fake, amount="3.00000000")
    partner = log_in("partner", PARTNER, is_staff=False)

    text = Page(partner.get(reverse(INBOX))).text

    assert "All payments are matched" in text
    assert "Bitsby (1)" not in text


def test_permission_is_checked_at_every_request(fake, late):
    """A logged-in user who loses the permission or the staff flag is refused."""
    staff = log_in("staff", *MAY_BIND)
    assert staff.get(act_url(late, "dismiss")).status_code == 200

    User.objects.filter(pk=staff.user.pk).update(is_staff=False)
    assert staff.post(act_url(late, "dismiss"), {"note": "gone"}).status_code == 403
    User.objects.filter(pk=staff.user.pk).update(is_staff=True, is_active=False)
    assert staff.post(act_url(late, "dismiss"), {"note": "gone"}).status_code == 302
    late.refresh_from_db()
    assert late.resolved_at is None


# How actions are sent


def test_get_requests_change_nothing(fake, late, unpaid):
    """A GET with all the answers in it changes nothing; POST-only addresses refuse it with 405."""
    staff = log_in("staff", *MAY_BIND)
    item = add_unbound_payment(fake)
    accept_bindings(fake, unpaid)
    query = FORM | {"payment_id": item["id"], "payment": item["id"]}

    for name in ("refresh", "cancel"):
        url = reverse(f"oscar_bitsby:dashboard-invoice-{name}", args=[unpaid.pk])
        assert staff.get(url).status_code == 405
        assert staff.head(url).status_code == 405
    for action in ACTIONS:
        assert staff.get(act_url(late, action), query).status_code == 200
        assert staff.put(act_url(late, action)).status_code == 405
    for way in ("admin", "dashboard"):
        assert staff.get(bind_url(way, unpaid.order), query).status_code == 200

    late.refresh_from_db()
    unpaid.refresh_from_db()
    assert late.resolved_at is None
    assert unpaid.status == "unpaid"
    assert fake.asked(BIND) == fake.asked(CANCEL) == []
    assert status_of(unpaid.order) == "Pending"
    assert admin_log_of(staff.user) == []


@pytest.mark.usefixtures("nothing_happens")
def test_actions_need_a_csrf_token(ways, unpaid, late):
    """A POST without the token of our own page is refused at every address."""
    staff = log_in("staff", *MAY_BIND, enforce_csrf_checks=True)
    ways["admin"] = bind_url("admin", unpaid.order)
    for name, url in ways.items():
        response = staff.post(url, FORM | {"payment_id": str(late.bitsby_id)})
        assert response.status_code == 403, name


@pytest.mark.parametrize("way", ["admin", "dashboard"])
def test_binding_forms_carry_a_csrf_token(fake, invoice, way):
    """With CSRF enforced, each form of the binding works as it is rendered."""
    staff = log_in("staff", *MAY_BIND, enforce_csrf_checks=True)
    item = add_unbound_payment(fake)
    accept_bindings(fake, invoice)
    url = bind_url(way, invoice.order)

    fields, _ = Page(staff.get(url)).form_with("payment_id")
    fields, _ = Page(staff.post(url, fields | {"payment": item["id"]})).form_with("confirm")
    text = message_after(staff, staff.post(url, fields))

    assert "Bound and booked: 8.00 USD" in text
    assert bookings_of(invoice.order) == [(item["id"], "8.00")]


def test_other_forms_carry_a_csrf_token(fake, late, unpaid):
    """With CSRF enforced, an action's form and the order tab's buttons work as rendered."""
    staff = log_in("staff", *MAY_BIND, enforce_csrf_checks=True)
    assert "Dismissed" in perform(staff, late, "dismiss", note="refunded")

    fake.invoices.append(bitsby.invoice_item(unpaid, views=0))
    page = Page(staff.get(reverse("dashboard:order-detail", args=[unpaid.order_number])))
    buttons = [f for f in page.forms if f["action"] and "/bitsby/dashboard/" in f["action"]]
    assert len(buttons) == 2
    refresh = next(f for f in buttons if "refresh" in f["action"])
    answer = message_after(staff, staff.post(refresh["action"], refresh["fields"]))
    assert "Invoice status: waiting for payment." in answer


@pytest.mark.parametrize("way", ["admin", "dashboard"])
def test_binding_runs_outside_a_transaction(fake, invoice, way, monkeypatch):
    """Under ATOMIC_REQUESTS the list is read and a payment bound, with no transaction around."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    staff = log_in("staff", *MAY_BIND)
    item = add_unbound_payment(fake)
    accept_bindings(fake, invoice)
    url = bind_url(way, invoice.order)

    page = Page(staff.get(url))
    assert "could not be fetched" not in page.text
    assert page.form_with("payment_id")[1]["payment"] == [item["id"]]
    response = staff.post(url, {"payment_id": item["id"], "confirm": "1"})

    assert "Bound and booked" in message_after(staff, response)
    assert status_of(invoice.order) == "Being processed"


def test_other_actions_run_outside_a_transaction(fake, late, unpaid, monkeypatch):
    """Under ATOMIC_REQUESTS dismissing, undoing, settling, refreshing and cancelling work."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    staff = log_in("staff", *MAY_BIND)
    remote = bitsby.invoice_item(unpaid, views=0)
    fake.invoices.append(remote)
    fake.on(CANCEL, lambda fields: remote.update(status="canceled") or bitsby.success("canceled"))

    assert "Dismissed" in perform(staff, late, "dismiss", note="refunded")
    assert "in Payments to review again" in perform(staff, late, "undo")
    assert "Already resolved" not in perform(staff, late, "settle", note="shipped by hand")
    for name, text in (("refresh", "waiting for payment"), ("cancel", "is cancelled")):
        url = reverse(f"oscar_bitsby:dashboard-invoice-{name}", args=[unpaid.pk])
        assert text in message_after(staff, staff.post(url))
    unpaid.refresh_from_db()
    assert unpaid.status == "canceled"


@pytest.mark.parametrize("number", ["0", "999999", "9" * 30])
def test_missing_rows_are_not_found(number):
    """Actions on rows that do not exist, and actions that do not exist, are 404."""
    staff = log_in("staff", *MAY_BIND)
    base = reverse(INBOX)
    for path in (
        f"payments/{number}/accept/",
        f"payments/{number}/steal/",
        f"orders/{number}/bind/",
        f"invoices/{number}/cancel/",
        f"invoices/{number}/refresh/",
    ):
        assert staff.post(base + path, {"note": "x"}).status_code == 404, path
    assert staff.get(f"/admin/order/order/{number}/bitsby/").status_code == 404


def test_an_unknown_action_is_not_found(late):
    """A known payment with an unknown action is 404 for those who may act."""
    staff = log_in("staff", *MAY_BIND)
    assert staff.get(act_url(late, "steal")).status_code == 404
    assert staff.post(act_url(late, "steal"), {"note": "x"}).status_code == 404
