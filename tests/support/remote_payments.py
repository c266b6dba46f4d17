"""A fake of the API's list of payments."""

import datetime as dt
import random

from django.utils import timezone

from tests.support import bitsby


class RemotePayments:
    """A list of payments that respects dates and pages.

    Attributes:
        order: newest, oldest or shuffled.
        failing: the offsets at which a request fails.
    """

    def __init__(self, fake, page_size=50, order="newest"):
        self.fake, self.page_size, self.order = fake, page_size, order
        self.items = []
        self.failing = set()
        fake.on("/payments/list", self.answer)

    def add(self, payment=None, invoice=None, at=None, **values):
        payment = {**(payment or bitsby.transfer())}
        payment["transactionDatetime"] = bitsby.written(at or timezone.now())
        self.items.append(bitsby.payment_item(payment, invoice, **values))
        return payment

    def add_unbound(self, count, newest=None):
        """Add unbound payments of the last hour, a second apart."""
        newest = newest or timezone.now()
        for number in range(count):
            self.add(at=newest - dt.timedelta(seconds=number))

    def bind(self, payment, invoice):
        item = next(item for item in self.items if item["id"] == payment["id"])
        item["invoice"] = invoice

    def answer(self, fields):
        if int(fields.get("offset", 0)) in self.failing:
            return bitsby.error("Something went wrong")
        items = sorted(self.items, key=lambda item: item["transactionDatetime"])
        if self.order == "newest":
            items.reverse()
        elif self.order == "shuffled":
            random.Random(7).shuffle(items)
        if "startDate" in fields:
            days = fields["startDate"], fields["endDate"]
            items = [i for i in items if days[0] <= i["transactionDatetime"][:10] <= days[1]]
        if "invoiceId" in fields:
            wanted = fields["invoiceId"]
            items = [i for i in items if (i.get("invoice") or {}).get("id") == wanted]
        start = int(fields.get("offset", 0))
        return bitsby.success(items[start : start + min(self.page_size, int(fields["limit"]))])

    @property
    def asked(self):
        return len(self.fake.asked("/payments/list"))
