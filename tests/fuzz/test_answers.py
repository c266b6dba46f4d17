"""Invalid API answers cause only documented errors, change no order, and cost little."""

import contextlib
import datetime as dt
import io
import itertools
import json
import logging
import tracemalloc
from decimal import Decimal
from urllib.parse import urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.exceptions import BitsbyError, GatewayError
from oscar_bitsby.gateway import client
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.reconciliation import payment_sync, refresh
from oscar_bitsby.staff import binding
from tests.fuzz.answers import OTHER_PROJECT, Answers, Bitsby
from tests.fuzz.deliveries import Delivery
from tests.fuzz.tools import ANSWERS, SEED, Gateway, Meter, open_shop, undone
from tests.support import bitsby
from tests.support.http import StubServer, assert_hidden, reply, serve
from tests.support.invoices import expired_ago
from tests.support.settling import status_of

Order = get_model("order", "Order")
Source = get_model("payment", "Source")
Transaction = get_model("payment", "Transaction")

STATUSES = ("unpaid", "paid", "expired", "canceled")

__all__ = ["serve"]


@pytest.fixture
def unexpected_errors(caplog):
    """Collect the errors that the package logs with a traceback: the unexpected ones."""
    errors = []

    def collect(record):
        if record.levelno >= logging.ERROR and record.exc_info:
            errors.append(repr(record.exc_info[1])[:200])
        return True

    logger = logging.getLogger("oscar_bitsby")
    caplog.set_level(logging.ERROR, logger.name)
    caplog.handler.addFilter(collect)
    yield errors
    caplog.handler.removeFilter(collect)


def methods(api):
    """Return a call of every method of the client. At most three pages of a list are read."""
    one = bitsby.new_id()
    return {
        "create": lambda: api.create_invoice(
            project_id=bitsby.PROJECT, amount=10, currency="USD", time_to_pay=Decimal(1)
        ),
        "cancel": lambda: api.cancel_invoice(one),
        "bind": lambda: api.bind_payment(one, one),
        "invoices": lambda: list(itertools.islice(api.invoice_pages(), 3)),
        "payments": lambda: list(itertools.islice(api.payment_pages(), 3)),
        "balances": api.balances,
        "tariffs": api.tariffs,
    }


class Row:
    """The attributes of an invoice from which an answer is made."""

    def __init__(self):
        now = timezone.now()
        self.bitsby_id, self.uid, self.project_id = bitsby.new_id(), "abc", bitsby.PROJECT
        self.created_at, self.expires_at, self.amount, self.currency = now, now, "10.00", "USD"


def test_client_raises_only_gateway_errors(monkeypatch, clock, unexpected_errors, capsys):
    """Every method returns or raises a ``GatewayError`` without the key, whatever the answer."""
    answers = Answers(SEED)
    truth = Bitsby(answers, [Row(), Row()], "paid")
    gateway = Gateway(monkeypatch, truth.answer)
    api = BitsbyClient(bitsby.KEY, tries=1)
    meter = Meter("API answers, read by the client")
    number = ANSWERS // 2

    while len(gateway.asked) < number:
        if len(gateway.asked) % 500 < 8 or not meter.started_with:
            meter.memory()
        truth.status = answers.random.choice(STATUSES)
        for name, call in methods(api).items():
            remote = len(truth.remote)
            try:
                with meter.one(name):
                    call()
                meter.answers["result"] += 1
            except GatewayError as error:
                meter.answers[type(error).__name__] += 1
                if len(str(error)) > 600 or len(error.body) > 500:
                    meter.wrong.append((name, "a long error"))
                if meter.kinds.total() % 20 == 0:
                    assert_hidden(error)
            except Exception as error:
                meter.wrong.append((name, repr(error)[:200], truth.remote[remote:][:1]))
        truth.remote.clear()
    meter.memory()

    with capsys.disabled():
        print(f"\n{meter}\n  {len(gateway.asked)} answers")
    meter.assert_bounded()
    assert unexpected_errors == []


def state_of(order):
    """Return everything about an order in Oscar's tables that an answer could change."""
    return (
        Order.objects.filter(pk=order.pk).values_list().get(),
        list(order.sources.values_list()),
        list(Transaction.objects.filter(source__order=order).values_list("pk")),
        order.payment_events.count(),
        order.notes.count(),
        order.status_changes.count(),
        list(order.lines.order_by("pk").values_list("num_allocated", flat=True)),
    )


class EntryPoints:
    """All entry points by which an answer comes into the shop, with their possible results."""

    def __init__(self, shop, invoice, new_order, user):
        self.shop, self.invoice, self.new_order, self.user = shop, invoice, new_order, user
        self.order = invoice.order
        self.by_name = {
            "pay": self.pay,
            "order page": lambda: self.page(signed_urls.order_url(self.order), {200}),
            "state": lambda: self.page(signed_urls.order_url(self.order) + "state/", {200}),
            "webhook": self.webhook,
            "reconcile": self.reconcile,
            "bind": lambda: str(binding.bind(invoice, bitsby.new_id(), user).done),
            "cancel": lambda: str(binding.cancel_invoice(invoice, user).done),
            "staff reads payments": lambda: binding.refresh_payments(self.order) and "problem",
        }

    def page(self, path, allowed, **values):
        environ = Delivery(path, allowed, "", **{"method": "GET", **values}).as_environ()
        status, headers, _ = self.shop.answer(environ)
        assert status in allowed, status
        return f"{status}", headers

    def pay(self):
        # With a CSRF token, as the form would send it.
        status, headers = self.page(
            signed_urls.pay_url(self.new_order),
            {200, 303},
            method="POST",
            environ={"HTTP_COOKIE": "csrftoken=" + "a" * 32, "HTTP_X_CSRFTOKEN": "a" * 32},
        )
        if status == "303":
            location = headers["Location"]
            parts = urlsplit(location)
            is_allowed = (parts.scheme, parts.hostname) == ("https", "dash.bitsby.app")
            assert is_allowed or location == signed_urls.order_url(self.new_order), location
        return status

    def webhook(self):
        body = json.dumps({"invoice": {"id": str(self.invoice.bitsby_id)}}).encode()
        return self.page("/bitsby/webhook/", {200, 503}, method="POST", body=body)[0]

    def reconcile(self):
        try:
            return f"failures: {reconciliation.reconcile().failures}"
        except BitsbyError as error:
            return type(error).__name__


@pytest.fixture
def entry_points(db, place, invoice_for):
    """The entry points, for an unpaid invoice and an order without one."""
    user = get_user_model().objects.create_user("staff", "staff@example.com", "x", is_staff=True)
    with open_shop() as shop:
        yield EntryPoints(shop, invoice_for(place()), place("20.00"), user)


def run(entry_points, monkeypatch, unexpected_errors, meter, number, foreign):
    """Use random entry points with corrupted answers, and roll back each one."""
    answers = Answers(SEED + foreign, foreign)
    truth = Bitsby(answers, [entry_points.invoice, BitsbyInvoice()], "unpaid")
    gateway = Gateway(monkeypatch, truth.answer)
    before, new_before = state_of(entry_points.order), state_of(entry_points.new_order)
    for count in itertools.count():
        if len(gateway.asked) >= number:
            break
        if count % 100 == min(99, number // 4):
            meter.memory()
        truth.status = answers.random.choice(STATUSES)
        name = answers.random.choice(list(entry_points.by_name))
        truth.remote.clear()
        with undone():
            if answers.random.random() < 0.3:
                past = timezone.now() - dt.timedelta(minutes=5)
                BitsbyInvoice.objects.update(expires_at=past)
            entry_points.invoice.refresh_from_db()
            try:
                with meter.one(name):
                    result = entry_points.by_name[name]()
                meter.answers[result[0] if isinstance(result, tuple) else result] += 1
            except Exception as error:
                meter.wrong.append((count, name, repr(error)[:300]))
            after = state_of(entry_points.order)
            if after != before and (foreign or not truth.said_paid(entry_points.invoice)):
                meter.wrong.append((count, name, "the order changed", truth.remote[:2]))
            if state_of(entry_points.new_order) != new_before:
                meter.wrong.append((count, name, "the other order changed", truth.remote[:2]))
            for amount in Transaction.objects.values_list("amount", flat=True):
                if not 0 <= amount < 10**10:
                    meter.wrong.append((count, name, "an absurd amount", amount))
        if unexpected_errors:
            meter.wrong += [(count, name, one, truth.remote[-1][:300]) for one in unexpected_errors]
            unexpected_errors.clear()
    meter.memory()
    return gateway


@pytest.mark.parametrize("foreign", [False, True], ids=["own project", "another project"])
def test_corrupted_answers_cause_no_error_page_and_change_no_order(
    entry_points, monkeypatch, unexpected_errors, clock, capsys, foreign
):
    """Pages, webhook, runs and staff actions answer as promised; an order changes only when an
    answer about its own invoice and project says paid."""
    meter = Meter(f"answers{' from another project' if foreign else ''} into the shop")

    gateway = run(entry_points, monkeypatch, unexpected_errors, meter, ANSWERS // 4, foreign)

    with capsys.disabled():
        print(f"\n{meter}\n  {len(gateway.asked)} answers")
    meter.assert_bounded()


@pytest.mark.django_db
def test_some_corrupted_answers_still_settle(entry_points, monkeypatch, unexpected_errors, clock):
    """Some corrupted answers are valid enough to settle, so that the test above is not empty."""
    answers, settled = Answers(SEED + 7), 0
    truth = Bitsby(answers, [entry_points.invoice], "paid")
    Gateway(monkeypatch, truth.answer)
    for _ in range(60):
        with undone():
            entry_points.invoice.refresh_from_db()
            entry_points.webhook()
            settled += status_of(entry_points.order) == "Being processed"
    assert settled > 10


# Lists


def item(number):
    return bitsby.payment_item(bitsby.transfer(id=f"00000000-0000-4000-8000-{number:012}"))


class Lists:
    """A fake of the API whose list of payments is a function of offset and limit."""

    def __init__(self, monkeypatch, page):
        def answer(path, fields):
            items = page(int(fields["offset"]), int(fields["limit"]))
            return 200, json.dumps(bitsby.success(items)).encode()

        self.gateway = Gateway(monkeypatch, answer)
        self.api = BitsbyClient(bitsby.KEY, tries=1)

    @property
    def requests(self):
        return len(self.gateway.asked)


def test_endless_list_is_read_up_to_max_pages(monkeypatch, clock):
    """A list is read for ``MAX_PAGES`` pages at most, with little memory."""
    monkeypatch.setattr(client, "MAX_PAGES", 100)
    lists = Lists(monkeypatch, lambda offset, limit: [item(offset + n) for n in range(limit)])
    tracemalloc.start()
    try:
        read = sum(len(page.items) for page in lists.api.payment_pages())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (read, lists.requests) == (5000, 100)
    assert peak < 16 * 1024 * 1024


@pytest.mark.parametrize(("size", "number"), [(50, 1), (10, 1), (60, 1), (500, 1), (50, 3)])
def test_repeated_page_ends_the_list(monkeypatch, clock, size, number):
    """A server that ignores the offset, or repeats its pages in turns, is noticed at once."""
    pages = [[item(page * size + n) for n in range(size)] for page in range(number)]
    turns = itertools.cycle(pages)
    lists = Lists(monkeypatch, lambda offset, limit: next(turns))
    assert sum(len(page.items) for page in lists.api.payment_pages()) == size * number
    assert lists.requests == number + 1


def test_repeated_unreadable_page_ends_the_list(monkeypatch, clock):
    """An unreadable page that repeats ends the list after a few requests."""
    monkeypatch.setattr(client, "MAX_PAGES", 100)
    lists = Lists(monkeypatch, lambda offset, limit: [{"id": n} for n in range(50)])
    list(lists.api.payment_pages())
    assert lists.requests < 10


@pytest.mark.django_db
def test_huge_page_is_imported_at_a_bounded_cost(monkeypatch, clock, invoice, unexpected_errors):
    """A page with ten times the requested number of payments is imported at a bounded cost."""
    lists = Lists(monkeypatch, lambda offset, limit: [item(n) for n in range(500)] * (not offset))
    meter = Meter("huge pages")
    with meter.one("500 payments"):
        payment_sync.sync_first_page(lists.api)
    assert BitsbyPayment.objects.count() == 500
    meter.assert_bounded()
    assert unexpected_errors == []


# The other project


@pytest.mark.django_db
@pytest.mark.parametrize("status", STATUSES)
def test_answer_about_another_project_changes_nothing(fake, invoice, order, status):
    """An answer about the id in another project changes neither order nor invoice."""
    before = state_of(order)
    payment = bitsby.transfer() if status == "paid" else None
    fake.invoices = [bitsby.invoice_item(invoice, status, payment=payment, projectId=OTHER_PROJECT)]
    refresh(invoice)
    invoice.refresh_from_db()
    assert invoice.status == InvoiceStatus.UNPAID
    assert state_of(order) == before


@pytest.mark.django_db
def test_answer_about_another_project_cancels_no_order(fake, order, invoice_for, move_time):
    """An order is not cancelled when only another project's answer calls its invoice expired."""
    invoice = invoice_for(order, **expired_ago(hours=5) | {"status": "canceled"})
    fake.invoices = [bitsby.invoice_item(invoice, "expired", projectId=OTHER_PROJECT)]
    reconciliation.reconcile()
    assert status_of(order) == "Pending"


# Over real HTTP


def strange_http(answers, data):
    """Return an answer whose HTTP framing may be corrupted as well as its body."""
    status, body = answers.written(data)
    status = max(status, 200)
    rubbish = answers.random.randbytes(200) + b"\r\n\r\n"
    headers = b"HTTP/1.1 %d \r\n" % status + b"a: b\r\n" * 200
    return answers.random.choice(
        [
            reply(body, status, Content_Length=str(len(body) + 7)),
            reply(body, status, Content_Length="many"),
            reply(body, status, Transfer_Encoding="chunked", Content_Length=None),
            reply(body, status, Content_Encoding="gzip"),
            reply(body, 307, Location="http://127.0.0.1:9/elsewhere"),
            reply(body, status, Content_Type="text/html; charset=no-such"),
            lambda handler: handler.wfile.write(rubbish),
            lambda handler: handler.wfile.write(headers),
        ]
    )


def test_strange_http_ends_in_documented_errors(serve, clock, capsys):
    """Broken lengths, chunks, encodings and redirects over real sockets cause documented errors."""
    answers = Answers(SEED + 3)
    truth = Bitsby(answers, [Row()], "unpaid")
    meter = Meter("answers over real HTTP")

    def answer(handler):
        strange_http(answers, truth.documented(handler.path, {"amountFiat": "10"}))(handler)
        handler.close_connection = True

    server: StubServer = serve(answer)
    api = BitsbyClient(bitsby.KEY, api_url=server.url, timeout=2, tries=1)
    calls = (api.balances, api.tariffs, lambda: next(api.invoice_pages(), None))
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        for call in itertools.islice(itertools.cycle(calls), max(60, ANSWERS // 20)):
            try:
                with meter.one("HTTP"):
                    call()
                meter.answers["result"] += 1
            except GatewayError as error:
                meter.answers[type(error).__name__] += 1
                assert_hidden(error)
            except Exception as error:
                meter.wrong.append(repr(error)[:300])
    with capsys.disabled():
        print(f"\n{meter}")
    meter.assert_bounded()
