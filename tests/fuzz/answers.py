"""Corrupted API answers: documented bodies with random changes."""

import copy
import json
import random
import re

from tests.support import bitsby

OTHER_PROJECT = "11111111-2222-4333-8444-555555555555"
#: Values that the JSON encoder cannot write. A placeholder is replaced by them in the text.
RAW = (
    "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e-400", "0E+999999999", "1E-999999999",
    "1e99999999999999999999", "9" * 40, "9" * 5000, "-0", "-0.0", "0.1000000000000000000001",
    "01", "0x10", "undefined", "'x'", "1_000", "100000000000", "100000000000.01",
)  # fmt: skip
TEXTS = (
    "", " ", "0", "-1", "NaN", "1e400", "0E+999999999", "1E+11", "0.0000000000000000001",
    "9" * 64, "9" * 65, "x" * 3000, "\x00", "a\x00b", "\ud800", "\udfff\ud800", "💰", "ä", "\u202e",
    "null", "true", "paid", "PAID", "unpaid", "expired", "canceled", "confirming", "<b>x</b>",
    "{{ 7*7 }}", "%s%s%n", "' OR 1=1 --", "../../etc/passwd", "\r\nX-Evil: 1", "١٢٣", "1_000",
)  # fmt: skip
TIMES = (
    "0000-00-00 00:00:00", "0001-01-01 00:00:00", "1999-12-31 23:59:59", "2000-01-01 00:00:00",
    "2200-12-31 23:59:59", "2200-12-31T23:59:59-23:59", "2000-01-01T00:00:00+23:59", "9999-12-31",
    "2026-02-30 10:00:00", "2026-13-01", "1700000000", "2026-01-01T00:00:00Z", "yesterday",
    "2026-01-01 25:00:00", "2026-W01-1", "20260101T000000", "2026-01-01T00:00:00.000000001Z",
    "+2026-01-01", "2026-01-01 00:00:60", "Z", "z",
)  # fmt: skip
URLS = (
    "https://evil.example.com/", "http://dash.bitsby.app/", "//dash.bitsby.app/", "javascript:1",
    "https://dash.bitsby.app@evil.example.com/", "https://dash.bitsby.app.evil.example.com/",
    "https://evil.example.com\\@dash.bitsby.app/", "https:/dash.bitsby.app", "https://[::1", "/",
    "https://evil.example.com#dash.bitsby.app", "https://dash.bitsby.app:443/x", "data:text/html,x",
    "https://DASH.bitsby.app/x", "https://dash\u3002bitsby.app/",
    "https://dash.bitsby.app/" + "x" * 1900,
    "https://dash.bitsby.app/\r\nX-Evil: 1", "https://[dash.bitsby.app]/", "ftp://dash.bitsby.app/",
    "https://dash.bitsby.app%2eevil.example.com/", "https://dash.bitsby.app:99999/", "https://",
    "https://dash.bitsby.app\x00.evil.example.com/", "https://dash.bitsby.app?@evil.example.com/",
)  # fmt: skip
STATUSES = (
    100, 102, 200, 201, 204, 206, 226, 299, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403,
    404, 405, 408, 409, 410, 413, 418, 422, 429, 451, 499, 500, 501, 502, 503, 504, 511, 520, 599,
)  # fmt: skip
PAGES = (
    b"", b" ", b"<!doctype html><title>502</title>", b"<html>" + b"x" * 100_000, b"null", b"[]",
    b"{}", b'"success"', b"1", b"\xff\xfe\x00", b"\x00" * 1000, b"[" * 50_000, b'{"a":' * 30_000,
    b'{"result": "success"}', b'{"result": "error"}', b'{"result": "error", "data": null}',
    b'{"result": "error", "data": {"a": [1]}}', b'{"result": "success", "data": ' + b"[" * 900,
    b'{"result": "error", "data": "Requests too frequent"}', b'{"result": true, "data": []}',
    b'{"result": "error", "data": "' + b"x" * 100_000 + b'"}', b"success", b"%PDF-1.4",
)  # fmt: skip


#: Documented data that depends on no field of the request.
FIXED_DATA = {
    "/invoices/cancel": "Invoice canceled",
    "/invoices/bindPayment": "Invoice binded to payment",
    "/billing/balances": {"internal": "100.00", "partner": "-0.50"},
    "/billing/tarrifs": [{"id": bitsby.PROJECT, "name": "x", "payer": "seller", "rate": "1.00"}],
}


class Answers:
    """Corrupt answers at random.

    Args:
        seed: the same seed makes the same changes.
        foreign: every invoice in the answers is of another project, whatever else is changed.
    """

    def __init__(self, seed, foreign=False):
        self.random = random.Random(seed)
        self.foreign = foreign

    def scalar(self):
        roll = self.random.random()
        if roll < 0.35:
            return self.random.choice(TEXTS)
        if roll < 0.55:
            return f"@raw{self.random.randrange(len(RAW))}@"
        if roll < 0.7:
            return self.random.choice(TIMES)
        if roll < 0.8:
            return self.random.choice(URLS)
        return self.random.choice((None, True, False, 0, -1, 1, 0.5, 10**12, -(10**30)))

    def value(self, depth=0):
        roll = self.random.random()
        if roll < 0.7 or depth > 2:
            return self.scalar()
        if roll < 0.85:
            return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        names = ("id", "amount", "status", "url", "invoice", "wallet", "")
        return {
            self.random.choice(names): self.value(depth + 1)
            for _ in range(self.random.randrange(4))
        }

    def _places(self, data):
        """Return all pairs of a container in the data and a key in it."""
        found, left = [], [data]
        while left:
            one = left.pop()
            if isinstance(one, dict):
                found += [(one, key) for key in one]
                left += one.values()
            elif isinstance(one, list):
                found += [(one, index) for index in range(len(one))]
                left += one
        return found

    def corrupt(self, data):
        """Return a copy with a few changes: other, missing, extra and moved values."""
        data = copy.deepcopy(data)
        for _ in range(self.random.choice((0, 1, 1, 2, 3, 8))):
            places = self._places(data)
            if not places or self.random.random() < 0.03:
                data = self.value()
                continue
            holder, key = self.random.choice(places)
            roll = self.random.random()
            if roll < 0.15:
                del holder[key]
            elif roll < 0.25:
                holder[key] = [holder[key]]
            elif roll < 0.3:
                holder[key] = {"data": holder[key]}
            elif roll < 0.4 and isinstance(holder, list):
                holder.extend([copy.deepcopy(holder[key])] * self.random.choice((1, 2, 60)))
            elif roll < 0.45 and isinstance(holder, dict):
                holder[self.random.choice(("extra", "", "\x00", "payment", "x" * 500))] = (
                    self.value()
                )
            elif key == "url":
                holder[key] = self.random.choice(URLS)
            elif "atetime" in str(key):
                holder[key] = self.random.choice(TIMES)
            else:
                holder[key] = self.value()
        if self.foreign:
            self._make_foreign(data)
        return data

    def _make_foreign(self, data):
        for holder, _ in self._places(data):
            if isinstance(holder, dict) and {"status", "amountFiat", "projectId"} & set(holder):
                holder["projectId"] = OTHER_PROJECT

    def written(self, data):
        """Return the HTTP status and the body of a corrupted answer with that data."""
        status = 200 if self.random.random() < 0.8 else self.random.choice(STATUSES)
        if self.random.random() < 0.12:
            return status, self.random.choice(PAGES)
        result = "success" if self.random.random() < 0.93 else self.scalar()
        text = json.dumps({"result": result, "data": self.corrupt(data)}, ensure_ascii=True)
        text = re.sub(r'"@raw(\d+)@"', lambda found: RAW[int(found[1])], text)
        roll = self.random.random()
        body = text.encode()
        if roll < 0.04:
            body = body[: self.random.randrange(len(body))]
        elif roll < 0.06:
            body += b"x"
        elif roll < 0.08:
            body = text.encode(self.random.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-32")))
        elif roll < 0.1:
            body = body.replace(b'"', b"'")
        elif roll < 0.12:
            place = self.random.randrange(len(body))
            body = body[:place] + self.random.randbytes(3) + body[place:]
        return status, body


class Bitsby:
    """A fake of the API whose answers about some invoices are corrupted by ``answers``.

    Attributes:
        status: the status of all invoices.
        remote: the bodies that were sent.
    """

    def __init__(self, answers, invoices, status):
        self.answers, self.invoices, self.status = answers, invoices, status
        self.remote = []

    def documented(self, path, fields):
        """Return the data of a documented answer."""
        if path == "/invoices/create":
            return bitsby.created(fields["amountFiat"])
        if path in FIXED_DATA:
            return FIXED_DATA[path]
        is_paid = self.status == "paid"
        remote = [
            bitsby.invoice_item(row, self.status, bitsby.transfer() if is_paid else None)
            for row in self.invoices
            if row.bitsby_id
        ]
        if path == "/invoices/list":
            wanted = fields.get("invoiceId")
            return [item for item in remote if wanted in (None, item["id"])]
        return [bitsby.payment_item(item.get("payment"), item) for item in remote] + [
            bitsby.payment_item()
        ]

    def answer(self, path, fields):
        found = self.answers.written(self.documented(path, fields))
        self.remote.append(found[1])
        return found

    def said_paid(self, invoice):
        """Tell whether any answer can be read to call that invoice paid."""
        wanted = str(invoice.bitsby_id)
        for body in self.remote:
            try:
                left = [json.loads(body)]
            except (ValueError, RecursionError):
                continue
            while left:
                one = left.pop()
                if isinstance(one, list):
                    left += one
                elif isinstance(one, dict):
                    left += one.values()
                    is_paid = str(one.get("status")).lower() == "paid"
                    is_ours = one.get("projectId") in (None, "", invoice.project_id)
                    if one.get("id") == wanted and is_paid and is_ours:
                        return True
        return False
