"""Builders of the API's documented bodies, and a fake of the API for unit tests."""

import datetime as dt
import json
import re
import uuid
from decimal import Decimal
from email.parser import BytesParser

from django.utils import timezone

URL = "https://api.bitsby.app"
KEY = "5f2b9c1e-8d5c-4a6e-9f37-0c4f2d1b7a90"
PROJECT = "9deea1e2-0c08-41a3-bdc2-a34eada3892d"
TRON = "47aa71e2-07a0-482e-9172-7114d7376ba0"


def new_id():
    """Return a new id of an invoice, payment or project."""
    return uuid.uuid4()


def written(moment):
    """Return a moment in the API's format."""
    return moment.astimezone(dt.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def wallet(**values):
    """Return the wallet of a payment; ``values`` replace the defaults, in all builders."""
    return {
        "id": TRON,
        "name": "usdt-tron",
        "blockchain": "tron",
        "cryptocurrency": "usdt",
        "address": "TKbstUwMzLrfTAGL4erYb7gc7ghmHQ9zG7",
    } | values


def reserved(amount):
    """Return an invoice's two wallets, with the coins reserved for an amount in dollars."""
    bitcoin = {
        "id": "dee35e92-a2e2-4b12-be8c-e5505c62f1d6",
        "name": "btc",
        "blockchain": "bitcoin",
        "cryptocurrency": "btc",
        "address": "bc1qd9hs6dal8k2x0l8zhsgywqyvn9tpj3mrkk430t",
        "amountCrypto": f"{Decimal(amount) / 50000:.8f}",
    }
    return [wallet(amountCrypto=f"{Decimal(amount):.8f}"), bitcoin]


def stored_wallets(amount):
    """Return the same as an invoice's row stores them."""
    return [{**one, "amount": one["amountCrypto"]} for one in reserved(amount)]


def created(amount="10.00", **values):
    """Return the data of a successful ``invoices/create``."""
    uid = new_id().hex[:12]
    now = timezone.now()
    return {
        "id": str(new_id()),
        "uid": uid,
        "createDatetime": written(now),
        "timeToPayDatetime": written(now + dt.timedelta(hours=1)),
        "url": f"https://dash.bitsby.app/invoices/pay/{uid}",
        "wallets": reserved(amount),
    } | values


def transfer(amount="10.00000000", **values):
    """Return a payment, as ``invoices/list`` and webhook deliveries have it."""
    return {
        "id": str(new_id()),
        "amount": amount,
        "hash": new_id().hex * 2,
        "transactionDatetime": written(timezone.now()),
    } | values


def invoice_item(invoice, status="unpaid", payment=None, **values):
    """Return the item of ``invoices/list`` about an invoice of ours.

    Args:
        payment: the bound payment, made by ``transfer``.
    """
    item = {
        "id": str(invoice.bitsby_id),
        "uid": invoice.uid,
        "projectId": invoice.project_id,
        "createDatetime": written(invoice.created_at),
        "timeToPayDatetime": written(invoice.expires_at),
        "amountFiat": str(invoice.amount),
        "currencyFiat": invoice.currency,
        "description": None,
        "serviceData": None,
        "views": 1,
        "status": status,
    }
    if payment is not None:
        item |= {"payment": payment, "wallet": wallet()}
    return item | values


def payment_item(payment=None, invoice=None, **values):
    """Return an item of ``payments/list``.

    Args:
        payment: made by ``transfer``; a new one by default.
        invoice: the invoice that it is bound to, made by ``invoice_item``; none by default.
    """
    item = {**(payment or transfer()), "wallet": wallet()}
    if invoice is not None:
        item["invoice"] = {k: v for k, v in invoice.items() if k not in ("payment", "wallet")}
    return item | values


def success(data):
    """Return the body of a successful answer."""
    return {"result": "success", "data": data}


def error(text):
    """Return the body of an error."""
    return {"result": "error", "data": text}


def fields_of(request):
    """Return the fields of a request's multipart form, or none if its body is empty."""
    if not request.body:
        return {}
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    parts = BytesParser().parsebytes(head + request.body).get_payload()
    name = re.compile('name="([^"]+)"')
    return {
        name.search(part["Content-Disposition"])[1]: part.get_payload(decode=True).decode()
        for part in parts
    }


class FakeBitsby:
    """A fake of the API: answers with its lists of items, and keeps the requests.

    Attributes:
        invoices: the items of ``invoices/list``.
        payments: the items of ``payments/list``.
        requests: pairs of the path and the fields.
    """

    def __init__(self, responses):
        self.responses = responses
        self.requests = []
        self.invoices = []
        self.payments = []
        self.answers = {}
        for path in ("/invoices/list", "/payments/list", "/invoices/create"):
            self.on(path, getattr(self, path.strip("/").replace("/", "_")))

    def on(self, path, answer):
        """Answer requests to ``path`` with a body, or with the result of a function of the fields.

        The result may be a body, an exception to raise, or a status, headers and text.
        """

        def callback(request):
            fields = fields_of(request)
            self.requests.append((path, fields))
            found = answer(fields) if callable(answer) else answer
            if isinstance(found, Exception):
                raise found
            if isinstance(found, tuple):
                return found
            return 200, {}, json.dumps(found)

        self.responses.remove("POST", URL + path)
        self.responses.add_callback("POST", URL + path, callback)

    def add_paid(self, invoice):
        """List an invoice of ours as paid, and its payment; return the payment."""
        payment = transfer()
        remote = invoice_item(invoice, "paid", payment=payment)
        self.invoices.append(remote)
        self.payments.append(payment_item(payment, remote))
        return payment

    def asked(self, path):
        """Return the fields of every request to ``path``."""
        return [fields for asked, fields in self.requests if asked == path]

    def invoices_list(self, fields):
        items = self.invoices
        if "invoiceId" in fields:
            items = [item for item in items if item["id"] == fields["invoiceId"]]
        if "status" in fields:
            items = [item for item in items if item["status"] == fields["status"]]
        return success(self._page(items, fields))

    def payments_list(self, fields):
        items = self.payments
        if "invoiceId" in fields:
            wanted = fields["invoiceId"]
            items = [item for item in items if (item.get("invoice") or {}).get("id") == wanted]
        return success(self._page(items, fields))

    def invoices_create(self, fields):
        return success(created(fields["amountFiat"]))

    @staticmethod
    def _page(items, fields):
        offset = int(fields.get("offset", 0))
        return items[offset : offset + int(fields.get("limit", 10))]
