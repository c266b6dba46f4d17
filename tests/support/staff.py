"""Staff in tests: log in, open pages, act on payments, and read what came of it."""

from __future__ import annotations

import datetime as dt
import re
import threading
from html.parser import HTMLParser

from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyPayment
from tests import bitsby

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")
User = get_user_model()

BIND = "/invoices/bindPayment"
CANCEL = "/invoices/cancel"
MAY_BIND = ("oscar_bitsby.bind_payment", "order.view_order")
PARTNER = "partner.dashboard_access"
INBOX, INVOICES = "oscar_bitsby:dashboard-inbox", "oscar_bitsby:dashboard-invoices"


class Page(HTMLParser):
    """What a browser makes of an answer: its text, its links and its forms."""

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
        """The fields of the form that has a field of that name, and its radios."""
        form = next(f for f in self.forms if name in f["fields"])
        return dict(form["fields"]), form["radios"]

    def rows(self):
        """The text of each row of the page's tables."""
        cells = re.findall(r"<tr>(.*?)</tr>", self.html, re.S)
        return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in cells]


def log_in(name, *permissions, is_staff=True, **options):
    """The browser of somebody who is logged in, with those permissions."""
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
    """What the shop says to its user after an answer, on the page that it leads to."""
    assert response.status_code == 302, response.status_code
    found = client.get(response["Location"].partition("#")[0])
    assert found.status_code == 200, (response["Location"], found.status_code)
    return Page(found).text


def bind_url(way, order):
    name = {"admin": "admin:oscar_bitsby_bind", "dashboard": "oscar_bitsby:dashboard-bind"}[way]
    return reverse(name, args=[order.pk])


def act_url(payment, action):
    return reverse("oscar_bitsby:dashboard-payment", args=[payment.pk, action])


def perform(client, payment, action, **values):
    """Open an action's page, fill in its form as rendered and send it; return what is then said."""
    url = act_url(payment, action)
    fields, _ = Page(client.get(url)).form_with("note")
    return message_after(client, client.post(url, fields | values))


def add_unbound_payment(fake, amount="8.00000000", **values):
    """Bitsby sees a transfer that it binds to nothing."""
    item = bitsby.payment_item(bitsby.transfer(amount), **values)
    fake.payments.append(item)
    return item


def receive_payment(fake, invoice=None, amount="8.00000000", wallet=None, **remote):
    """Bitsby sees a transfer, bound or not, and a pass takes it in; return its row."""
    wallet = wallet or bitsby.wallet()
    payment, item = bitsby.transfer(amount), None
    if invoice is not None:
        item = bitsby.invoice_item(invoice, "paid", payment=payment) | {"wallet": wallet} | remote
        fake.invoices = [one for one in fake.invoices if one["id"] != item["id"]] + [item]
    fake.payments.append(bitsby.payment_item(payment, item, wallet=wallet))
    reconciliation.reconcile()
    return BitsbyPayment.objects.get(bitsby_id=payment["id"])


def accept_bindings(fake, *invoices, before=lambda fields: None, answer=None):
    """Let Bitsby bind as it says it does; ``answer`` is what reaches the shop of its yes."""
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
    """The order's only invoice ran out long ago, and a pass cancels the order; the invoice."""
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
    return invoice


def bookings_of(order):
    """References and amounts of the order's transactions."""
    rows = Transaction.objects.filter(source__order=order).order_by("pk")
    return [(row.reference, str(row.amount)) for row in rows]


def status_of(order):
    return Order.objects.get(pk=order.pk).status


def admin_log_of(user):
    return list(
        LogEntry.objects.filter(user=user).order_by("pk").values_list("change_message", flat=True)
    )
