"""Staff in tests: log in, open pages, act on payments, and read what came of it."""

import datetime as dt
import re
import threading
from html.parser import HTMLParser

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyPayment
from tests.support import bitsby

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")
User = get_user_model()

BIND = "/invoices/bindPayment"
CANCEL = "/invoices/cancel"
MAY_BIND = ("oscar_bitsby.bind_payment", "order.view_order")
PARTNER = "partner.dashboard_access"
EVIL = "<script>alert(1)</script>"
HOSTILE = dict.fromkeys(
    ("hash", "address", "blockchain", "cryptocurrency", "resolution_note"), EVIL
)
INBOX, INVOICES = "oscar_bitsby:dashboard-inbox", "oscar_bitsby:dashboard-invoices"


class Page(HTMLParser):
    """The text, links and forms of a response."""

    def __init__(self, response):
        super().__init__()
        self.html = response.content.decode()
        self.links, self.forms, self.words, self.tags = [], [], [], []
        self._hidden = ""
        self.feed(self.html)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        if tag in ("script", "style"):
            self._hidden = tag
        elif tag == "a":
            self.links.append(found.get("href"))
        elif tag == "form":
            self.forms.append({"action": found.get("action"), "fields": {}, "radios": {}})
        elif tag in ("input", "button") and self.forms and found.get("name"):
            form, name, value = self.forms[-1], found["name"], found.get("value", "")
            if found.get("type") == "radio":
                form["radios"].setdefault(name, []).append(value)
            else:
                form["fields"][name] = value

    def handle_endtag(self, tag):
        if tag == self._hidden:
            self._hidden = ""

    def handle_data(self, data):
        if not self._hidden:
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))

    def form_with(self, name):
        """Return the fields and radios of the form that has a field with this name."""
        form = next(f for f in self.forms if name in f["fields"])
        return dict(form["fields"]), form["radios"]

    def rows(self):
        """Return the text of each row of the page's tables."""
        cells = re.findall(r"<tr>(.*?)</tr>", self.html, re.S)
        return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in cells]


def log_in(name, *permissions, is_staff=True, **options):
    """Return the client of a new user who is logged in and has these permissions."""
    user = User.objects.create_user(name, f"{name}@example.com", "secret", is_staff=is_staff)
    for permission in permissions:
        app, code = permission.split(".")
        user.user_permissions.add(
            Permission.objects.get(content_type__app_label=app, codename=code)
        )
    client = Client(**options)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    client.user = user
    return client


def message_after(client, response):
    """Follow a redirect and return the text of the page, with the shop's message."""
    assert response.status_code == 302, response.status_code
    found = client.get(response["Location"].partition("#")[0])
    assert found.status_code == 200, (response["Location"], found.status_code)
    return Page(found).text


def bind_url(interface, order):
    """Return the URL that binds a payment to an order, in "admin" or "dashboard"."""
    names = {"admin": "admin:oscar_bitsby_bind", "dashboard": "oscar_bitsby:dashboard-bind"}
    return reverse(names[interface], args=[order.pk])


def fetch_payments(client, url):
    """Press the button of a binding page that fetches payments; return the page that follows."""
    fields, _ = Page(client.get(url)).form_with("fetch")
    response = client.post(url, fields)
    assert (response.status_code, response["Location"]) == (302, url)
    return client.get(url)


def order_url(order_number):
    """Return the URL of the dashboard's page of an order."""
    return reverse("dashboard:order-detail", args=[order_number])


def invoice_url(invoice, action):
    """Return the URL that refreshes or cancels an invoice."""
    return reverse(f"oscar_bitsby:dashboard-invoice-{action}", args=[invoice.pk])


def assert_escaped(response):
    """Assert that ``EVIL`` stands on a page as text and not as markup."""
    html = response.content.decode()
    assert EVIL not in html
    assert escape(EVIL)[:12] in html


def act_url(payment, action):
    return reverse("oscar_bitsby:dashboard-payment", args=[payment.pk, action])


def perform(client, payment, action, **values):
    """Open an action's page, send its form as rendered, and return the text of the next page."""
    url = act_url(payment, action)
    fields, _ = Page(client.get(url)).form_with("note")
    return message_after(client, client.post(url, fields | values))


def add_unbound_payment(fake, amount="8.00000000", **values):
    """Let Bitsby list a transfer that is bound to no invoice."""
    item = bitsby.payment_item(bitsby.transfer(amount), **values)
    fake.payments.append(item)
    return item


def receive_payment(fake, invoice=None, amount="8.00000000", wallet=None, **remote):
    """Let Bitsby list a transfer, bound or not, and a run store it; return its row."""
    wallet = wallet or bitsby.wallet()
    payment, item = bitsby.transfer(amount), None
    if invoice is not None:
        item = bitsby.invoice_item(invoice, "paid", payment=payment) | {"wallet": wallet} | remote
        fake.invoices = [one for one in fake.invoices if one["id"] != item["id"]] + [item]
    fake.payments.append(bitsby.payment_item(payment, item, wallet=wallet))
    reconciliation.reconcile()
    return BitsbyPayment.objects.get(bitsby_id=payment["id"])


def accept_bindings(fake, *invoices, before=lambda fields: None, answer=None):
    """Let Bitsby bind payments; ``answer`` replaces the response to a successful request."""
    known = {one["id"] for one in fake.invoices}
    fake.invoices += [
        bitsby.invoice_item(one) for one in invoices if str(one.bitsby_id) not in known
    ]
    one_by_one = threading.Lock()

    def bind(fields):
        before(fields)
        with one_by_one:
            return attach(fields)

    def attach(fields):
        remote = next(one for one in fake.invoices if one["id"] == fields["invoiceId"])
        item = next((one for one in fake.payments if one["id"] == fields["paymentId"]), None)
        if item is None:
            return bitsby.error("Payment not found")
        if remote["status"] == "paid" or item.get("invoice"):
            return bitsby.error("Already bound")
        transfer = {k: item[k] for k in ("id", "amount", "hash", "transactionDatetime")}
        bound = {**remote, "status": "paid"}
        item["invoice"] = bound
        remote.update(bound | {"payment": transfer, "wallet": item["wallet"]})
        return answer or bitsby.success("Invoice binded to payment")

    fake.on(BIND, bind)


def cancel_unpaid_order(fake, order, invoice_for):
    """Let a run cancel an order whose only invoice expired long ago; return the invoice."""
    ago = timezone.now() - dt.timedelta(hours=3)
    invoice = invoice_for(
        order,
        InvoiceStatus.EXPIRED,
        created_at=ago - dt.timedelta(hours=1),
        expires_at=ago,
        ended_at=ago,
    )
    fake.invoices.append(bitsby.invoice_item(invoice, "expired"))
    reconciliation.reconcile()
    order.refresh_from_db()
    assert order.status == "Cancelled"
    # Whatever is paid from now on is paid after that.
    order.status_changes.update(date_created=ago + dt.timedelta(hours=1))
    return invoice


def bookings_of(order):
    """Return the references and amounts of an order's transactions."""
    rows = Transaction.objects.filter(source__order=order).order_by("pk")
    return [(row.reference, str(row.amount)) for row in rows]


def status_of(order):
    return Order.objects.get(pk=order.pk).status


def reasons_to_review():
    """Return the reasons of all payments that wait for a review."""
    return list(BitsbyPayment.objects.needs_review().values_list("review_reason", flat=True))


def delete_order(order):
    """Delete an order and its sources; its invoices and payments stay."""
    order.sources.all().delete()
    Order.objects.filter(pk=order.pk).delete()


def admin_log_of(user):
    """Return a user's entries in the admin log, oldest first."""
    # A shop without the admin, which also uses this module, cannot import it.
    from django.contrib.admin.models import LogEntry

    return list(
        LogEntry.objects.filter(user=user).order_by("pk").values_list("change_message", flat=True)
    )


def payment_cards(response):
    """Return the payments on a page of the list, each as a ``Page``."""
    parts = response.content.decode().split('<tr class="bitsby-payment">')[1:]
    return [Page(HttpResponse(part)) for part in parts]


def payment_card(client, payment, query=""):
    """Return a payment's card in the list of payments to review."""
    (found,) = [
        card
        for card in payment_cards(client.get(reverse(INBOX) + query))
        if payment.hash[:20] in card.text
    ]
    return found


def order_tab(client, order):
    """Return the dashboard's page of an order."""
    return Page(client.get(order_url(order.number)))


def form_actions(page, word):
    """Return the URLs of the page's forms that contain a word."""
    return [form["action"] for form in page.forms if form["action"] and word in form["action"]]


def create_payments(number, **values):
    """Create unmatched payments, the newest last."""
    now = timezone.now()
    return [
        BitsbyPayment.objects.create(
            **{
                "bitsby_id": bitsby.new_id(),
                "amount": 8,
                "cryptocurrency": "usdt",
                "blockchain": "tron",
                "hash": f"hash{count:04}",
                "transaction_at": now,
                "seen_at": now + dt.timedelta(seconds=count),
                "review_reason": "unmatched",
            }
            | values
        )
        for count in range(number)
    ]


def assert_constant_queries(client, url, create_rows, at_most=15):
    """Assert that a page costs no more queries with twenty rows than with five.

    Args:
        create_rows: a function that creates rows of the numbers in a range.
        at_most: the number of queries that the page may cost.

    Returns:
        The page with twenty rows.
    """
    create_rows(range(5))
    client.get(url)
    with CaptureQueriesContext(connection) as few:
        client.get(url)
    create_rows(range(5, 20))
    with CaptureQueriesContext(connection) as many:
        response = client.get(url)
    assert len(many) == len(few) <= at_most
    return response


def resolved(payment):
    """Return how a payment was resolved, and by whom."""
    payment.refresh_from_db()
    return (payment.resolution, getattr(payment.resolved_by, "username", None))
