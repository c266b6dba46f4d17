"""Test secrets and permissions: the key is never shown, and pages open only for their users."""

import ast
import datetime as dt
import io
import json
import logging
import re
import signal
import socket
import sys
import traceback
from collections import Counter
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest
from django.core.management import call_command, get_commands
from django.core.management.base import CommandError
from django.test import Client, RequestFactory
from django.urls import resolve, reverse
from django.utils import timezone
from django.views.debug import ExceptionReporter
from oscar.core.loading import get_model

import oscar_bitsby
from oscar_bitsby import conf, exceptions, facade, urls
from oscar_bitsby.conf import Secret
from oscar_bitsby.exceptions import (
    BitsbyError,
    ConfigurationError,
    ConnectionFailed,
    GatewayError,
    HoldEnded,
    NotPayable,
    PaymentInProgress,
    PaymentPageRefused,
    PaymentPaused,
    Queued,
    RateLimited,
    RateLimitTimeout,
    RefundRefused,
    Refused,
    ReplyNotUnderstood,
)
from oscar_bitsby.gateway import factory
from oscar_bitsby.gateway.buyer_queue import Turn
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, QueuedBuyer, WebhookDelivery
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.settlement import refunds
from tests.fuzz.answers import URLS
from tests.support import bitsby
from tests.support.buyer_refunds import create_refund
from tests.support.http import texts_of_error
from tests.support.staff import (
    INBOX,
    INVOICES,
    MAY_BIND,
    PARTNER,
    act_url,
    bind_url,
    create_payments,
    log_in,
)

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db

ROOT = Path(oscar_bitsby.__file__).parent
KEY = bitsby.KEY


@pytest.fixture
def logged(caplog):
    """Collect all that the package and its dependencies log, at any level, with attributes."""
    texts = []

    def collect(record):
        texts.append(f"{record.getMessage()} {vars(record)!r}")
        if record.exc_info:
            error = traceback.TracebackException(*record.exc_info, capture_locals=True)
            texts.append("".join(error.format()))
        return True

    for name in ("", "oscar_bitsby", "urllib3", "requests", "django.request"):
        caplog.set_level(logging.DEBUG, name)
    caplog.handler.addFilter(collect)
    yield texts
    caplog.handler.removeFilter(collect)


def texts_with_key(texts):
    return [text[:300] for text in texts if KEY in text]


@pytest.fixture
def answer_with(fake):
    """Return a function that lets Bitsby give one answer to all requests of the shop."""

    def answer(echo):
        for path in ("list", "create", "cancel", "bindPayment"):
            fake.on(f"/invoices/{path}", echo)
        fake.on("/payments/list", echo)

    return answer


def buyer_urls(order):
    """Return the signed URLs of an order that accept GET."""
    order_url = signed_urls.order_url(order)
    return [order_url, f"{order_url}state/", signed_urls.pay_url(order)]


# Pages and log lines


@pytest.fixture
def problematic_orders(place, invoice_for):
    """Create orders whose pages send requests, with payments, deliveries and errors."""
    now = timezone.now()
    for status in ("unpaid", "expired", "creating"):
        order = place()
        row = invoice_for(order, status, failure="/invoices/list: Refused", expires_at=now)
        WebhookDelivery.objects.create(invoice=row, body="{}", outcome="asked", answered=503)
        bound = {"invoice": row, "review_reason": "short"} if status == "unpaid" else {}
        create_payments(1, **bound)


def own_pages():
    """Return the addresses of all pages of the package that accept GET, for every row."""
    pages = [reverse(INBOX), reverse(INVOICES)]
    pages += [
        f"{pages[0]}?show=done",
        f"{pages[0]}?show=dust",
        f"{pages[1]}?attention=on",
        "/bitsby/webhook/",
    ]
    for order in Order.objects.all():
        pages += buyer_urls(order)
        pages += [bind_url("dashboard", order), bind_url("admin", order)]
        pages.append(reverse("dashboard:order-detail", args=[order.number]))
        pages.append(reverse("admin:order_order_change", args=[order.pk]))
    for model in (BitsbyInvoice, BitsbyPayment, WebhookDelivery):
        name = f"admin:oscar_bitsby_{model._meta.model_name}"
        pages.append(reverse(f"{name}_changelist"))
        pages += [reverse(f"{name}_change", args=[row.pk]) for row in model.objects.all()]
    for payment in BitsbyPayment.objects.all():
        pages += [act_url(payment, one) for one in ("accept", "settle", "dismiss", "undo")]
    return pages


def own_forms():
    """Return the address and fields of each POST, with valid fields where possible."""
    forms = [("/bitsby/webhook/", {})]
    for order in Order.objects.all():
        forms.append((signed_urls.pay_url(order), {}))
        chosen = {"payment_id": str(bitsby.new_id()), "confirm": "1"}
        for way in ("dashboard", "admin"):
            forms += [(bind_url(way, order), chosen), (bind_url(way, order), {"fetch": "1"})]
    for row in BitsbyInvoice.objects.all():
        for action in ("refresh", "cancel"):
            name = f"oscar_bitsby:dashboard-invoice-{action}"
            forms.append((reverse(name, args=[row.pk]), {}))
    for payment in BitsbyPayment.objects.all():
        forms.append((act_url(payment, "dismiss"), {"note": "seen"}))
    return forms


ECHOES = {
    "refusal": bitsby.error(f"Invalid token {KEY}"),
    "too frequent": bitsby.error(f"Requests too frequent for {KEY}"),
    "401": (401, {"X-Token": KEY}, f"<html>Token {KEY} is wrong"),
    "500": (500, {}, "x" * 480 + KEY),
    "no answer": ConnectionError(f"Authorization: Token {KEY}"),
    "redirect": (302, {"Location": f"https://evil.example.com/?{KEY}"}, KEY),
    "strange": bitsby.success(KEY),
}
ALL_ECHOES = {
    **ECHOES,
    "502": (502, {}, KEY),
    "shape": bitsby.success({"token": KEY, "id": KEY}),
}


@pytest.mark.parametrize("echo", ECHOES)
def test_pages_and_logs_do_not_contain_the_key(
    problematic_orders, fake, answer_with, deliver, logged, admin_client, echo
):
    """If Bitsby echoes the key, no page, message or log line contains it."""
    answer_with(ECHOES[echo])
    texts = []
    for url in own_pages():
        response = admin_client.get(url, follow=urlsplit(url).path != "/bitsby/webhook/")
        assert response.status_code < 500 or response.status_code == 503
        texts += [response.content.decode(), repr(response.headers)]
    for url, fields in own_forms():
        response = admin_client.post(url, fields, follow=True)
        texts += [response.content.decode(), repr(response.headers)]
    for row in BitsbyInvoice.objects.exclude(bitsby_id=None):
        texts.append(repr(deliver(row).content))
    # Open the pages again, because errors are stored now.
    texts += [
        admin_client.get(url).content.decode() for url in own_pages() if "admin/oscar_" in url
    ]
    assert len(texts) > 100
    assert fake.requests
    assert logged
    assert texts_with_key(texts) == []
    # The package responses is used only in tests. urllib3 and requests might log.
    assert texts_with_key(logged) == []


@pytest.mark.parametrize("echo", ECHOES)
def test_commands_do_not_print_the_key(problematic_orders, answer_with, logged, echo):
    """The output of management commands and system checks does not contain the key."""
    answer_with(ECHOES[echo])
    names = [name for name, app in get_commands().items() if app == "oscar_bitsby"]
    assert "bitsby_reconcile" in names
    out = io.StringIO()
    for name in [*names, "check"]:
        try:
            call_command(name, stdout=out, stderr=out)
        except (CommandError, SystemExit) as error:
            out.write(str(error))
    assert texts_with_key([out.getvalue(), *logged]) == []


def test_stored_rows_do_not_contain_the_key(problematic_orders, answer_with, admin_client):
    """The key is redacted in stored errors of attempts and deliveries."""
    answer_with(ECHOES["refusal"])
    for url, fields in own_forms():
        admin_client.post(url, fields)
    rows = [
        repr(list(model.objects.values()))
        for model in (BitsbyInvoice, BitsbyPayment, WebhookDelivery)
    ]
    assert "Invalid token ***" in "".join(rows)
    assert texts_with_key(rows) == []


def test_key_in_a_successful_answer_is_redacted(order, fake, admin_client):
    """A successful answer that repeats the key does not bring it into the database or a page."""
    fake.on("/invoices/create", bitsby.success(bitsby.created(token=KEY)))
    facade.start_payment(order)
    row = BitsbyInvoice.objects.get()
    page = admin_client.get(reverse("admin:oscar_bitsby_bitsbyinvoice_change", args=[row.pk]))
    assert texts_with_key([repr(row.reply), page.content.decode()]) == []


def test_key_with_escaped_slashes_is_redacted(fake):
    """A key with a slash that is escaped as in PHP is redacted in the body of an error."""
    fake.on("/billing/balances", (200, {}, '{"result": "error", "data": "wrong: ab\\/cd\\/ef"}'))
    with pytest.raises(Refused) as caught:
        BitsbyClient("ab/cd/ef", tries=1).balances()
    assert "cd" not in caught.value.body


# Error reports


def reports(error):
    """Return Django's error pages for an error, and all that error trackers may collect."""
    request = RequestFactory().get("/checkout/", HTTP_COOKIE="a=b")
    texts = []
    for one in (None, request):
        reporter = ExceptionReporter(one, type(error), error, error.__traceback__)
        texts += [reporter.get_traceback_html(), reporter.get_traceback_text()]
    collected = traceback.TracebackException.from_exception(error, capture_locals=True)
    return [*texts, "".join(collected.format()), *texts_of_error(error)]


def raised(function, *args):
    with pytest.raises((Exception, SystemExit)) as caught:
        function(*args)
    return caught.value


def local_url(listener):
    """Bind a socket to a free port, and return its URL."""
    listener.bind(("127.0.0.1", 0))
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def unreachable(configure, *_):
    with socket.socket() as closed:
        configure(API_URL=local_url(closed))
    factory.for_background().balances()


def answered(name):
    """Return a cause: an answer, given by its name because its text contains the key."""

    def ask(configure, fake, order):
        fake.on("/invoices/create", ALL_ECHOES[name])
        facade.start_payment(order)

    return ask


def completed_order(configure, fake, order):
    Order.objects.filter(pk=order.pk).update(status="Complete")
    facade.start_payment(order)


def order_after_its_hold(configure, fake, order):
    Order.objects.filter(pk=order.pk).update(date_placed=timezone.now() - dt.timedelta(days=2))
    facade.start_payment(order)


def order_in_progress(configure, fake, order):
    BitsbyInvoice.objects.create(order=order, order_number=order.number, amount=1, currency="USD")
    facade.start_payment(order)


def page_elsewhere(configure, fake, order):
    facade.payment_page(BitsbyInvoice(url="https://evil.example.com/"))


def no_slot(configure, fake, order):
    fake.on("/billing/balances", bitsby.success({"internal": "1", "partner": "1"}))
    factory.for_background().balances()
    factory.without_waiting()


def not_the_next_buyer(configure, fake, order):
    factory.without_waiting()
    returns_at = timezone.now() + dt.timedelta(seconds=1)
    QueuedBuyer.objects.create(key="100001", returns_at=returns_at)
    factory.for_buyer(Turn("100002")).balances()


def refused_order(configure, fake, order):
    fake.on("/invoices/create", ALL_ECHOES["refusal"])
    raised(facade.start_payment, order)
    facade.start_payment(order)


def key_with_a_line_end(configure, fake, order):
    configure(API_KEY=KEY + "\n")
    factory.for_background().balances()


def configured(**values):
    """Return a cause: a client with these settings."""

    def use(configure, fake, order):
        configure(**values)
        factory.for_background().balances()

    return use


def unpaid_refund(configure, fake, order):
    refunds.request_refund(user=None, note="", order=order, cryptocurrency="btc", blockchain="new")


#: The class of each error that the package raises, and a function that causes it.
CAUSES = {
    "not configured": (ConfigurationError, configured(PROJECT_ID="")),
    "a value that cannot be used": (ConfigurationError, configured(TIMEOUT="soon")),
    "a key that cannot be sent": (ConfigurationError, key_with_a_line_end),
    "unreachable": (ConnectionFailed, unreachable),
    "broken off": (ConnectionFailed, answered("no answer")),
    "502": (ConnectionFailed, answered("502")),
    "too frequent": (RateLimited, answered("too frequent")),
    "no slot": (RateLimitTimeout, no_slot),
    "refused": (Refused, answered("refusal")),
    "401": (Refused, answered("401")),
    "not understood": (ReplyNotUnderstood, answered("500")),
    "another shape": (ReplyNotUnderstood, answered("shape")),
    "page elsewhere": (PaymentPageRefused, page_elsewhere),
    "not payable": (NotPayable, completed_order),
    "not held any more": (HoldEnded, order_after_its_hold),
    "in progress": (PaymentInProgress, order_in_progress),
    "not the next": (Queued, not_the_next_buyer),
    "refused a moment ago": (PaymentPaused, refused_order),
    "nothing to refund": (RefundRefused, unpaid_refund),
}


@pytest.mark.parametrize("name", CAUSES)
def test_error_reports_do_not_contain_the_key(name, configure, fake, order):
    """Error reports with local variables of our errors and causes do not contain the key."""
    error_class, cause = CAUSES[name]
    error = raised(cause, configure, fake, order)
    assert type(error) is error_class
    assert texts_with_key(reports(error)) == []


def test_every_error_of_the_package_is_tested():
    """An error that is added to the package is added to ``CAUSES``."""
    errors = {one for one in vars(exceptions).values() if isinstance(one, type)}
    ours = {one for one in errors if issubclass(one, BitsbyError)}
    assert ours - {BitsbyError, GatewayError} == {kind for kind, _ in CAUSES.values()}


class Bug(Exception):
    """An error that the package does not expect."""


@pytest.mark.parametrize(
    "place_of_bug",
    [
        "oscar_bitsby.gateway.parsing.parse_created",
        "oscar_bitsby.settlement.attempts.save_created",
        "oscar_bitsby.gateway.buyer_queue.take",
        "oscar_bitsby.gateway.transport.json.loads",
        "oscar_bitsby.gateway.factory.BitsbyClient",
        "oscar_bitsby.conf.Conf",
    ],
)
def test_unexpected_error_does_not_show_the_key(place_of_bug, fake, order, monkeypatch):
    """Local variables of our frames in the traceback of an unexpected error have no key."""
    monkeypatch.setattr(place_of_bug, Mock(side_effect=Bug))
    error = raised(facade.start_payment, order)
    assert isinstance(error, Bug)
    assert texts_with_key(reports(error)) == []


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals")
def test_system_exit_does_not_show_the_key(configure, order):
    """The report of a worker that is stopped by ``SystemExit`` does not contain the key."""
    with socket.socket() as silent:
        configure(API_URL=local_url(silent))
        silent.listen()
        before = signal.signal(signal.SIGALRM, lambda *_: sys.exit(1))
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        try:
            error = raised(facade.start_payment, order)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert isinstance(error, SystemExit)
    assert texts_with_key(reports(error)) == []


# repr


def test_repr_does_not_contain_the_key():
    """Objects that hold the key, and their parts, do not print it."""
    api = factory.for_background()
    session = api._transport._session
    texts = []
    for one in (api, api._transport, session, session.auth, conf.get(), conf.get().api_key):
        texts += [repr(one), str(one), format(one), repr(getattr(one, "__dict__", ""))]
    assert texts_with_key(texts) == []
    assert repr(Secret(KEY)) == "***"


# Links


def test_signed_url_opens_only_its_own_order(place, invoice_for, fake):
    """No page of one order's signed URL shows or changes another order."""
    mine, other = place("10.00"), place("77.77")
    theirs = invoice_for(other, uid="their-uid", url="https://dash.bitsby.app/invoices/pay/theirs")
    client = Client()
    for url in buyer_urls(mine):
        for response in (client.get(url, follow=False), client.post(url)):
            text = response.content.decode() + repr(response.headers)
            for secret in (other.number, "their-uid", "pay/theirs", str(theirs.bitsby_id), "77.77"):
                assert secret not in text
    assert other.bitsby_invoices.count() == 1
    token, other_token = (signed_urls.sign_order_number(one.number) for one in (mine, other))
    assert signed_urls.order_from_token(token) == mine
    assert signed_urls.order_from_token(other_token) == other
    # The token of one order does not open the objects of the other.
    mixed = token.split(":")[0] + ":" + other_token.split(":")[1]
    for name in ("order", "pay", "state"):
        assert client.get(reverse(f"oscar_bitsby:{name}", args=[mixed])).status_code == 404


def test_pages_of_a_signed_url_contain_no_personal_data(order, country, invoice_for, fake):
    """The pages show the order and the amount, but no address, e-mail address or key."""
    address = get_model("order", "ShippingAddress").objects.create(
        first_name="Ada", last_name="Lovelace", line1="12 Secret Road", line4="Berlin",
        postcode="10999", phone_number="+4930123456", country=country,
    )  # fmt: skip
    Order.objects.filter(pk=order.pk).update(
        guest_email="ada@secret.example.com", shipping_address=address
    )
    private = ("secret.example.com", "Lovelace", "Secret Road", "10999", "4930123456")
    for status in ("unpaid", "expired", "paid"):
        BitsbyInvoice.objects.all().delete()
        invoice_for(order, status)
        for url in buyer_urls(order)[:2]:
            text = Client().get(url).content.decode()
            for secret in (*private, KEY, bitsby.PROJECT):
                assert secret not in text


def test_pages_of_a_signed_url_are_not_cached_or_indexed(order, invoice, fake):
    """A signed URL is not stored, not indexed and not sent to other sites."""
    for url in buyer_urls(order):
        headers = Client().get(url).headers
        assert "no-store" in headers["Cache-Control"]
        assert "private" in headers["Cache-Control"]
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["X-Robots-Tag"] == "noindex"


def test_webhook_response_sets_no_cookie_and_repeats_nothing(invoice, fake, deliver):
    """The responses set no cookies and repeat nothing of the request."""
    accepted = json.dumps({"invoice": {"id": str(invoice.bitsby_id)}, "x": "<script>"})
    for text in (accepted, "<script>"):
        response = deliver(body=text)
        assert response["Content-Type"] == "text/plain; charset=utf-8"
        assert not response.cookies
        assert b"script" not in response.content


# Redirects


def click_pay(fake, order, url):
    """Click "pay" when Bitsby answers with this address of the payment page."""
    fake.on("/invoices/create", bitsby.success(bitsby.created(url=url)))
    return Client().post(signed_urls.pay_url(order))


@pytest.mark.parametrize("url", URLS)
def test_buyer_is_redirected_to_allowed_hosts_only(order, fake, url):
    """If the address in an answer is not on an allowed host, the buyer is not redirected."""
    response = click_pay(fake, order, url)
    assert response.status_code in (200, 303)
    if response.status_code == 303:
        parts = urlsplit(response["Location"])
        assert (parts.scheme, parts.hostname) == ("https", "dash.bitsby.app")
        assert "@" not in parts.netloc


@pytest.mark.parametrize("start", ["\x01", "\x0b", "\x1f", "\u00a0", "\ufeff"], ids=ascii)
def test_payment_page_with_leading_whitespace_is_refused(order, fake, start):
    """Python strips such characters, but browsers would read a path of the shop."""
    url = f"{start}https://dash.bitsby.app/invoices/pay/abc"
    assert click_pay(fake, order, url).status_code == 200


def test_request_parameters_cannot_change_the_redirect(order, invoice, fake):
    """No parameter of a request redirects to another site."""
    evil = "https://evil.example.com/"
    fields = dict.fromkeys(("next", "url", "return", "redirect", "return_url"), evil)
    for url in (signed_urls.pay_url(order), signed_urls.order_url(order)):
        for response in (Client().get(url, fields), Client().post(url, fields)):
            assert "evil.example.com" not in response.headers.get("Location", "")
            assert f'href="{evil}' not in response.content.decode()


# The webhook's token


def test_token_is_compared_in_constant_time(configure, invoice, monkeypatch, fake, deliver):
    """The token of a request is compared with ``constant_time_compare`` only."""
    configure(WEBHOOK_TOKEN="right-token")
    compared = []
    monkeypatch.setattr(
        conf, "constant_time_compare", lambda one, two: compared.append({one, two}) or False
    )
    for token in ("right-token", "wrong"):
        path = reverse("oscar_bitsby:webhook", args=[token])
        assert deliver(invoice, path=path).status_code == 404
    assert compared == [{"right-token"}, {"right-token", "wrong"}]


def sources():
    found = [path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] != "simulator"]
    assert len(found) > 30
    return found


def test_revealed_secrets_are_not_compared_with_operators():
    """The package does not use ``==``, ``in`` or similar operators on a revealed secret."""
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                assert "reveal" not in ast.dump(node), (path, node.lineno)


def test_secrets_are_revealed_only_in_known_places():
    """A new place that reveals a secret must be added here after a check of its frames."""
    found = {path.name: path.read_text().count(".reveal()") for path in sources()}
    assert +Counter(found) == {
        "transport.py": 2,
        "settings_checks.py": 2,
        "alert_checks.py": 2,
        "alert_post.py": 2,
    }


# Permissions

#: Statuses of a page that accepts the user. A refusal is a redirect to the login, 403, 404 or 405.
OPEN = {200, 302, 303, 400, 503}
#: Users of the dashboard. Only reviewers have the permission to bind, only refunders to refund.
DASHBOARD_USERS = ("partner", "staff", "reviewer", "refunder")
ALL_USERS = ("anonymous", "customer", *DASHBOARD_USERS)
TABLE = {
    # name of the URL: (users who may GET, users who may POST)
    "webhook": ((), ALL_USERS),
    "order": (ALL_USERS, ()),
    "pay": (ALL_USERS, ALL_USERS),
    "state": (ALL_USERS, ()),
    "again": ((), ALL_USERS),
    "refund": (ALL_USERS, ALL_USERS),
    "dashboard-inbox": (DASHBOARD_USERS, ()),
    "dashboard-invoices": (DASHBOARD_USERS, ()),
    "dashboard-invoices-download": (("reviewer", "refunder"), ()),
    "dashboard-export": (("reviewer", "refunder"), ()),
    "dashboard-overview": (("reviewer", "refunder"), ()),
    "dashboard-invoice-refresh": ((), ("reviewer",)),
    "dashboard-invoice-cancel": ((), ("reviewer",)),
    "dashboard-bind": (("reviewer",), ("reviewer",)),
    "dashboard-payment": (("reviewer",), ("reviewer",)),
    "dashboard-dismiss": ((), ("reviewer",)),
    "dashboard-refunds": (("refunder",), ()),
    "dashboard-refund": (("refunder",), ("refunder",)),
    "dashboard-refund-order": (("refunder",), ("refunder",)),
    "dashboard-refund-payment": (("refunder",), ("refunder",)),
}


@pytest.fixture
def client_of_each_user(db):
    """Return a client for each kind of user."""
    return {
        "anonymous": Client(),
        "customer": log_in("customer", is_staff=False),
        "partner": log_in("partner", PARTNER, is_staff=False),
        "staff": log_in("staff"),
        "refunder": log_in("refunder", "oscar_bitsby.refund_payment"),
        "reviewer": log_in("reviewer", *MAY_BIND),
    }


def test_table_of_permissions_has_every_page():
    """A page that is added to the package is added to the table as well."""
    assert {pattern.name for pattern in urls.urlpatterns} == set(TABLE)


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("name", TABLE)
def test_pages_open_only_with_the_listed_permissions(
    client_of_each_user, order, invoice, fake, name, method
):
    """Each page and action accepts the users of the table and refuses all others."""
    (payment,) = create_payments(1)
    refund = create_refund(order)
    args = {
        **dict.fromkeys(
            (
                "webhook",
                "dashboard-inbox",
                "dashboard-invoices",
                "dashboard-invoices-download",
                "dashboard-export",
                "dashboard-overview",
                "dashboard-dismiss",
                "dashboard-refunds",
            ),
            (),
        ),
        "refund": [resolve(signed_urls.refund_url(refund)).kwargs["token"]],
        "dashboard-refund": [refund.pk],
        "dashboard-refund-order": [order.pk],
        "dashboard-refund-payment": [payment.pk],
        "dashboard-bind": [order.pk],
        "dashboard-payment": [payment.pk, "dismiss"],
        "dashboard-invoice-refresh": [invoice.pk],
        "dashboard-invoice-cancel": [invoice.pk],
    }
    url = reverse(
        f"oscar_bitsby:{name}", args=args.get(name, [signed_urls.sign_order_number(order.number)])
    )
    allowed = TABLE[name][method == "post"]
    for user, client in client_of_each_user.items():
        fake.requests.clear()
        response = getattr(client, method)(url, {"note": "x"} if method == "post" else {})
        status = response.status_code
        is_login = status == 302 and "login" in response["Location"]
        if user in allowed:
            assert status in OPEN, (user, status)
            assert not is_login, user
        else:
            assert is_login or status in (403, 404, 405), (user, status)
            assert fake.requests == []
            payment.refresh_from_db()
            assert payment.resolved_at is None


# The documentation


SECURITY = Path(__file__).parent.parent / "docs" / "security.rst"


def test_every_test_named_in_the_documentation_exists():
    """Each test that docs/security.rst names exists in the named file."""
    named = re.findall(r"`tests/([\w/]+\.py)::(\w+)`", SECURITY.read_text())
    assert len(named) > 25
    for file, name in named:
        text = (Path(__file__).parent / file).read_text()
        assert re.search(rf"^\s*def {name}\(", text, re.M), f"{file} has no {name}"


def test_every_row_of_the_table_of_threats_is_complete():
    """Each threat has a measure and a test."""
    table = SECURITY.read_text().split(".. list-table::")[1].split("\n\n", 2)[1]
    rows = table.split("* - ")[2:]
    assert len(rows) > 15
    for row in rows:
        cells = [cell.strip() for cell in row.split("\n     - ")]
        assert len(cells) == 3, row
        assert all(cells), row
        assert "``tests/" in cells[2], row
