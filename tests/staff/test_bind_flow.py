"""Who may do what: every action, for every kind of user."""

import re
from urllib.parse import urljoin

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.db import connections
from django.urls import reverse
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
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
    act_url,
    add_unbound_payment,
    admin_log_of,
    bind_url,
    bookings_of,
    fetch_payments,
    invoice_url,
    log_in,
    message_after,
    order_tab,
    order_url,
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

ACTIONS = ["accept", "ask", "settle", "dismiss", "undo"]


@pytest.fixture
def unpaid(place, invoice_for):
    """An invoice of another order, still to be paid."""
    return invoice_for(place())


@pytest.fixture
def action_urls(late, unpaid):
    """The URL of every action on payments and invoices."""
    return {
        "bind": bind_url("dashboard", unpaid.order),
        **{action: act_url(late, action) for action in ACTIONS},
        "refresh": invoice_url(unpaid, "refresh"),
        "cancel": invoice_url(unpaid, "cancel"),
    }


@pytest.fixture
def csrf_staff(db):
    """A browser of staff who may bind, with CSRF tokens enforced."""
    return log_in("staff", *MAY_BIND, enforce_csrf_checks=True)


@pytest.fixture
def atomic_requests(monkeypatch):
    """Let Django wrap each request in a transaction."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)


@pytest.fixture
def assert_unchanged(fake, late, unpaid):
    """Assert after the test that no row has changed and no API request was sent."""
    fake.requests.clear()

    def stored_rows():
        return (
            list(BitsbyPayment.objects.order_by("pk").values()),
            list(BitsbyInvoice.objects.order_by("pk").values()),
            list(Order.objects.order_by("pk").values("pk", "status")),
            Transaction.objects.count(),
            LogEntry.objects.count(),
        )

    before = stored_rows()
    yield
    assert stored_rows() == before
    assert fake.requests == []


FORM = {"note": "mine", "fiat_value": "999", "confirm": "1", "payment_id": str(bitsby.new_id())}


def assert_admin_asks_to_log_in(client, order):
    """Assert that the admin's binding page asks this user to log in."""
    for send in (client.get, client.post):
        response = send(bind_url("admin", order), FORM)
        assert response.status_code == 302
        assert response["Location"].startswith(reverse("admin:login"))


@pytest.mark.usefixtures("assert_unchanged")
def test_anonymous_visitor_is_asked_to_log_in_on_every_page(client, action_urls, unpaid):
    """Without a login every page and action leads to a login page and does nothing."""
    for url in [*action_urls.values(), reverse(INBOX), reverse(INVOICES)]:
        for send in (client.get, client.post):
            response = send(url, FORM)
            assert response.status_code == 302, url
            assert response["Location"].startswith(reverse("dashboard:login")), url
    assert_admin_asks_to_log_in(client, unpaid.order)


@pytest.mark.usefixtures("assert_unchanged")
@pytest.mark.parametrize("extra", [(), ("oscar_bitsby.bind_payment",)], ids=["plain", "permitted"])
def test_customer_is_refused_on_every_page(action_urls, unpaid, extra):
    """A customer, even with the permission by mistake, gets no page and does nothing."""
    client = log_in("customer", *extra, is_staff=False)
    for url in [*action_urls.values(), reverse(INBOX), reverse(INVOICES)]:
        assert client.get(url).status_code == 403, url
        assert client.post(url, FORM).status_code == 403, url
    assert_admin_asks_to_log_in(client, unpaid.order)


@pytest.mark.usefixtures("assert_unchanged")
@pytest.mark.parametrize("extra", [(), ("oscar_bitsby.bind_payment",)], ids=["plain", "permitted"])
@pytest.mark.parametrize("owns", [True, False], ids=["own order", "other's order"])
def test_partners_user_cannot_move_money(action_urls, unpaid, late, product, extra, owns):
    """A partner's login, even with the permission, is refused at every action on any order."""
    partner = log_in("partner", PARTNER, *extra, is_staff=False)
    if owns:
        product.stockrecords.get().partner.users.add(partner.user)
    for name, url in action_urls.items():
        refused = {403} if owns or name != "bind" else {403, 404}
        shown = partner.get(url).status_code
        assert shown in (refused | {405} if name in ("refresh", "cancel") else refused), name
        sent = partner.post(url, FORM | {"payment_id": str(late.bitsby_id)}).status_code
        assert sent in refused, name
    assert_admin_asks_to_log_in(partner, unpaid.order)


@pytest.mark.usefixtures("assert_unchanged")
def test_staff_without_the_permission_cannot_act(action_urls, unpaid, late):
    """Staff without ``bind_payment`` get 403 at every action, from the dashboard and the admin."""
    staff = log_in("viewer", "order.view_order", "order.change_order")
    action_urls["admin"] = bind_url("admin", unpaid.order)
    for name, url in action_urls.items():
        response = staff.post(url, FORM | {"payment_id": str(late.bitsby_id)})
        assert response.status_code == 403, name
        if name in (*ACTIONS, "admin", "bind"):
            assert staff.get(url).status_code == 403, name


def test_staff_without_the_permission_see_pages_without_actions(late, unpaid):
    """The lists and the order's tab show no action."""
    staff = log_in("viewer", "order.view_order")

    inbox = Page(staff.get(reverse(INBOX)))
    tab = order_tab(staff, late.invoice.order)
    invoices = Page(staff.get(reverse(INVOICES)))

    assert f"Order {late.invoice.order_number}" in inbox.text
    assert "you need the permission" in inbox.text
    assert late.hash in tab.text
    assert unpaid.uid in invoices.text
    for page in (inbox, tab, order_tab(staff, unpaid.order), invoices):
        targets = [*page.links, *(form["action"] for form in page.forms)]
        own = [url for url in targets if url and url.startswith("/bitsby/dashboard/")]
        acting = [url for url in own if re.search(r"/(payments|orders)/|refresh|cancel", url)]
        assert acting == []


def test_staff_who_may_not_open_orders_get_no_link_to_one(fake, late, unpaid):
    """Oscar shows orders by a permission of its own: without it, each link leads to our list."""
    staff = log_in("cashier", "oscar_bitsby.bind_payment")
    fake.invoices.append(bitsby.invoice_item(unpaid))
    ours, other = (
        f"{reverse(INVOICES)}?q={invoice.order_number}" for invoice in (late.invoice, unpaid)
    )

    inbox = Page(staff.get(reverse(INBOX)))
    binding = Page(staff.get(bind_url("dashboard", unpaid.order)))
    listed = Page(staff.get(ours))
    refreshed = staff.post(invoice_url(unpaid, "refresh"))

    assert ours in inbox.links
    assert other in binding.links
    assert refreshed["Location"] == other
    assert "Refreshed" in message_after(staff, refreshed)
    assert any(late.invoice.uid in row for row in listed.rows())
    numbers = (late.invoice.order_number, unpaid.order_number)
    pages = ((reverse(INBOX), inbox), (reverse(INBOX), binding), (reverse(INVOICES), listed))
    for base, page in pages:
        for link in page.links:
            if any(number in str(link) for number in numbers):
                response = staff.get(urljoin(base, link))
                assert response.status_code == 200, link
                # Some links start a download, which is closed once it is read.
                response.getvalue()


def test_partners_user_sees_only_payments_of_own_orders(fake, place, invoice_for, product):
    """Invoices and payments of other partners' orders, and unmatched payments, stay hidden."""
    mine, other = invoice_for(place()), invoice_for(place())
    other.order.lines.update(partner=Partner.objects.create(name="Other"))
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
    assert my_short.hash in order_tab(partner, mine.order).text
    assert partner.get(order_url(other.order_number)).status_code == 404


def test_partners_navigation_has_no_number_of_payments(fake, place, invoice_for):
    """The number in the navigation is the shop's; a partner's user must not learn it."""
    invoice_for(place())
    receive_payment(fake, amount="3.00000000")
    partner = log_in("partner", PARTNER, is_staff=False)

    text = Page(partner.get(reverse(INBOX))).text

    assert "All payments are matched" in text
    assert "Bitsby (1)" not in text


def test_permission_is_checked_at_every_request(staff, late):
    """A logged-in user who loses the permission or the staff flag is refused."""
    url = act_url(late, "dismiss")
    assert staff.get(url).status_code == 200

    User.objects.filter(pk=staff.user.pk).update(is_staff=False)
    assert staff.post(url, {"note": "gone"}).status_code == 403
    User.objects.filter(pk=staff.user.pk).update(is_staff=True, is_active=False)
    assert staff.post(url, {"note": "gone"}).status_code == 302
    late.refresh_from_db()
    assert late.resolved_at is None


# How actions are sent


@pytest.mark.usefixtures("assert_unchanged")
def test_get_requests_change_nothing(staff, late, unpaid):
    """A GET with all the fields in it changes nothing; POST-only URLs refuse it with 405."""
    for name in ("refresh", "cancel"):
        url = invoice_url(unpaid, name)
        assert staff.get(url).status_code == 405
        assert staff.head(url).status_code == 405
    for action in ACTIONS:
        assert staff.get(act_url(late, action), FORM).status_code == 200
        assert staff.put(act_url(late, action)).status_code == 405


def test_get_of_the_binding_page_binds_nothing(fake, bindable, invoice, staff, interface):
    """A GET with all the fields of the confirmation binds nothing."""
    fields = FORM | {"payment_id": bindable["id"], "payment": bindable["id"]}

    assert staff.get(bind_url(interface, invoice.order), fields).status_code == 200

    assert fake.asked(BIND) == []
    assert status_of(invoice.order) == "Pending"
    assert admin_log_of(staff.user) == []


@pytest.mark.usefixtures("assert_unchanged")
def test_get_of_the_binding_page_sends_no_request_and_writes_nothing(fake, unpaid, staff):
    """Reading the list asks Bitsby nothing and stores nothing, even with the button's field."""
    add_unbound_payment(fake)
    for way in ("admin", "dashboard"):
        url = bind_url(way, unpaid.order)
        assert staff.get(url).status_code == 200
        assert staff.get(url, {"fetch": "1"}).status_code == 200
        assert staff.head(url).status_code == 200


def test_button_fetches_the_payments_and_returns_to_the_list(fake, bindable, invoice, csrf_staff):
    """The POST redirects to the page, whose list then has the payment and when it was fetched."""
    url = bind_url("dashboard", invoice.order)
    before = Page(csrf_staff.get(url))
    assert "Not fetched from Bitsby yet." in before.text
    assert before.form_with("payment_id")[1] == {}

    page = Page(fetch_payments(csrf_staff, url))

    assert page.form_with("payment_id")[1]["payment"] == [bindable["id"]]
    assert "The list shows the payments that Bitsby reports now." in page.text
    assert "Last fetched from Bitsby: " in page.text
    fake.requests.clear()
    assert bindable["id"] in Page(csrf_staff.get(url)).html
    assert fake.requests == []


def test_binding_page_says_when_a_run_has_fetched_the_payments(fake, invoice, staff, interface):
    """What a run has fetched counts, too."""
    url = bind_url(interface, invoice.order)
    reconciliation.reconcile()

    assert "Last fetched from Bitsby: " in Page(staff.get(url)).text


def test_failed_fetch_does_not_count_as_fetched(fake, invoice, staff, interface):
    """The page says why, shows what is known, and does not call it fetched."""
    fake.on("/payments/list", bitsby.error("Blocked"))

    text = Page(fetch_payments(staff, bind_url(interface, invoice.order))).text

    assert "The payments could not be fetched from Bitsby" in text
    assert "Blocked" in text
    assert "Not fetched from Bitsby yet." in text


@pytest.mark.usefixtures("assert_unchanged")
def test_actions_need_a_csrf_token(action_urls, unpaid, late, csrf_staff):
    """A POST without the token of our own page is refused at every URL."""
    action_urls["admin"] = bind_url("admin", unpaid.order)
    for name, url in action_urls.items():
        response = csrf_staff.post(url, FORM | {"payment_id": str(late.bitsby_id)})
        assert response.status_code == 403, name


def test_binding_forms_contain_a_csrf_token(bindable, invoice, csrf_staff, interface):
    """With CSRF enforced, each form of the binding works as it is rendered."""
    url = bind_url(interface, invoice.order)

    fields, _ = Page(fetch_payments(csrf_staff, url)).form_with("payment_id")
    chosen = csrf_staff.post(url, fields | {"payment": bindable["id"]})
    fields, _ = Page(chosen).form_with("confirm")
    text = message_after(csrf_staff, csrf_staff.post(url, fields))

    assert "Bound and booked: 8.00 USD" in text
    assert bookings_of(invoice.order) == [(bindable["id"], "8.00")]


def test_other_forms_contain_a_csrf_token(fake, late, unpaid, csrf_staff):
    """With CSRF enforced, an action's form and the order tab's buttons work as rendered."""
    assert "Dismissed" in perform(csrf_staff, late, "dismiss", note="refunded")

    fake.invoices.append(bitsby.invoice_item(unpaid, views=0))
    page = order_tab(csrf_staff, unpaid.order)
    buttons = [f for f in page.forms if f["action"] and "/bitsby/dashboard/" in f["action"]]
    assert len(buttons) == 2
    refresh = next(f for f in buttons if "refresh" in f["action"])
    text = message_after(csrf_staff, csrf_staff.post(refresh["action"], refresh["fields"]))
    assert "Invoice status: waiting for payment." in text


@pytest.mark.usefixtures("atomic_requests")
def test_binding_runs_outside_a_transaction(bindable, invoice, staff, interface):
    """Under ATOMIC_REQUESTS the list is read and a payment bound, with no transaction around."""
    url = bind_url(interface, invoice.order)

    page = Page(fetch_payments(staff, url))
    assert "could not be fetched" not in page.text
    assert page.form_with("payment_id")[1]["payment"] == [bindable["id"]]
    response = staff.post(url, {"payment_id": bindable["id"], "confirm": "1"})

    assert "Bound and booked" in message_after(staff, response)
    assert status_of(invoice.order) == "Being processed"


@pytest.mark.usefixtures("atomic_requests")
def test_other_actions_run_outside_a_transaction(fake, late, unpaid, staff):
    """Under ATOMIC_REQUESTS dismissing, undoing, settling, refreshing and cancelling work."""
    remote = bitsby.invoice_item(unpaid, views=0)
    fake.invoices.append(remote)
    fake.on(CANCEL, lambda fields: remote.update(status="canceled") or bitsby.success("canceled"))

    assert "Dismissed" in perform(staff, late, "dismiss", note="refunded")
    assert "in Payments to review again" in perform(staff, late, "undo")
    assert "Already resolved" not in perform(staff, late, "settle", note="shipped by hand")
    for name, text in (("refresh", "waiting for payment"), ("cancel", "is cancelled")):
        assert text in message_after(staff, staff.post(invoice_url(unpaid, name)))
    unpaid.refresh_from_db()
    assert unpaid.status == "canceled"


@pytest.mark.parametrize("number", ["0", "999999", "9" * 30])
def test_missing_rows_are_not_found(staff, number):
    """Actions on rows that do not exist, and actions that do not exist, are 404."""
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


def test_unknown_action_is_not_found(staff, late):
    """A known payment with an unknown action is 404 for those who may act."""
    assert staff.get(act_url(late, "steal")).status_code == 404
    assert staff.post(act_url(late, "steal"), {"note": "x"}).status_code == 404
