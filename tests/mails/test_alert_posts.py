"""Alerts as signed POSTs: what is posted, to whom, how often, and what is never shown."""

import io
import json
import logging
import re
import socket
import sys

import pytest
import requests
from django.core.management import call_command
from django.utils import timezone
from standardwebhooks.webhooks import Webhook

from oscar_bitsby import conf, reconciliation
from oscar_bitsby.mails import alert_post, alert_sender
from oscar_bitsby.models import MerchantAlert
from tests.paths import ROOT
from tests.support.alerts import BY_POST, SECRET, URL, send
from tests.support.http import texts_of_error
from tests.support.mails import paid_item
from tests.support.staff import create_payments

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def alerts_by_post(configure):
    configure(ALERTS=BY_POST)


@pytest.fixture
def receiver(responses):
    """Return a function that sets the receiver's answer, and returns its list of requests."""
    received = []

    def answer(status=204, body="", **headers):
        def callback(request):
            received.append(request)
            if isinstance(body, BaseException):
                raise body
            return status, headers, body

        responses.remove("POST", URL)
        responses.add_callback("POST", URL, callback)
        return received

    return answer


def enqueue(number=1, **values):
    """Enqueue alerts about payments to review."""
    payments = create_payments(number, **values)
    return [
        MerchantAlert.objects.create(
            code="payment", key=f"p{payment.pk}", payment=payment, post_status="waiting"
        )
        for payment in payments
    ]


def states():
    return list(MerchantAlert.objects.order_by("pk").values_list("post_status", "post_tries"))


def test_payment_to_review_is_posted_with_a_valid_signature(fake, order, invoice, receiver):
    """The receiver verifies the body by the library, and gets the facts as texts."""
    received = receiver()
    fake.payments = [paid_item(invoice, "9.50000000")]

    reconciliation.reconcile()
    reconciliation.reconcile()

    (request,) = received
    body = Webhook(SECRET).verify(request.body, dict(request.headers))
    alert, data = MerchantAlert.objects.get(), body["data"]
    assert request.headers["webhook-id"] == data["id"] == str(alert.uid)
    assert body["type"] == "bitsby.payment"
    assert data["order_number"] == order.number
    assert (data["amount"], data["coin"]) == ("9.5", "USDT")
    assert (data["value"], data["currency"]) == ("9.50", "USD")
    assert data["url"].startswith("http://example.com/bitsby/dashboard/")
    assert (alert.mail_status, alert.post_status) == ("", "sent")


def test_body_is_as_documented():
    """The example in the documentation has exactly the keys of a POST."""
    text = (ROOT / "docs" / "operations.rst").read_text()
    example = json.loads(re.search(r"code-block:: json\n\n((?:    .*\n|\n)+)", text)[1])
    enqueue(fiat_value=8, currency="USD")
    body = json.loads(alert_sender.build_body(MerchantAlert.objects.get()))
    assert body.keys() == example.keys()
    assert body["data"].keys() == example["data"].keys()
    assert all(isinstance(value, str) for value in body["data"].values())


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (302, "", "HTTP 302"),
        (500, "oops", "HTTP 500"),
        (None, requests.ConnectionError(f"no route to {URL}"), "ConnectionError"),
    ],
)
def test_failed_post_is_tried_again(receiver, move_time, status, body, problem):
    """Any 2xx is a success; redirects are not followed, and the id stays the same."""
    received = receiver(status, body, Location="https://elsewhere.example.com/")
    enqueue()
    send(), send()
    assert states() == [("waiting", 1)]
    assert MerchantAlert.objects.get().error == problem
    receiver(299)
    move_time(minutes=6)
    send()
    assert states() == [("sent", 2)]
    first, second = (request.headers["webhook-id"] for request in received)
    assert first == second


def test_post_fails_after_five_tries_in_a_day(receiver, move_time):
    """The pauses grow, and the last try is within the day."""
    received = receiver(500)
    enqueue()
    for _ in range(24 * 4):
        send()
        move_time(minutes=15)
    assert len(received) == 5
    assert states() == [("failed", 5)]


def test_url_that_does_not_answer_costs_a_run_one_try(receiver):
    """The other alerts wait for the next run, which begins with them."""
    received = receiver(500)
    enqueue(3)
    send()
    assert len(received) == 1
    send()
    assert states() == [("waiting", 1), ("waiting", 1), ("waiting", 0)]


def test_run_posts_a_limited_number(receiver, monkeypatch):
    """Many alerts do not delay settling."""
    monkeypatch.setattr(alert_sender, "POSTS_PER_RUN", 2)
    received = receiver()
    enqueue(3)
    send()
    assert len(received) == 2
    send()
    assert len(received) == 3


def test_post_of_a_dead_process_is_repeated(receiver, move_time):
    """The receiver knows it by its id."""
    receiver(body=SystemExit("killed"))
    enqueue()
    with pytest.raises(SystemExit) as caught:
        send()
    assert [text for text in texts_of_error(caught.value) if "t0ken" in text] == []
    receiver()
    send()
    assert states() == [("sending", 1)]
    move_time(minutes=16)
    send()
    assert states() == [("sent", 2)]


def test_decided_payment_is_not_posted(receiver):
    """What staff decide before is left out."""
    received = receiver()
    (alert,) = enqueue()
    alert.payment.resolved_at = timezone.now()
    alert.payment.save()
    send()
    assert received == []
    assert states() == [("dropped", 0)]


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.7", "169.254.169.254", "100.64.0.1", "::1", "::ffff:192.168.0.1"),
        *("fd00::1", "fec0::1", "::127.0.0.1", "64:ff9b::7f00:1"),
    ],
)
def test_private_addresses_are_refused(monkeypatch, address):
    """Nothing is sent to a host that DNS places outside of the public internet."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = [(family, socket.SOCK_STREAM, 6, "", (address, 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    enqueue()
    send()
    assert MerchantAlert.objects.get().error == "the host of the URL has no public address"


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_connection_goes_to_the_address_that_was_checked(monkeypatch, address):
    """A second answer of DNS, which could name a private address, is not asked for."""
    connected = []
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def resolve(host, port, *args, **kwargs):
        assert host == address or not connected
        found = address if host == address or not resolved else "127.0.0.1"
        resolved.append(host)
        return [(family, socket.SOCK_STREAM, 6, "", (found, port))]

    def connect(self, target):
        connected.append(target[0])
        raise ConnectionRefusedError

    resolved = []
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", connect)
    enqueue()
    send()
    assert connected == [address]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"URL": URL.replace("https", "http")}, "InvalidSchema"),
        ({"SECRET": ""}, "EmptyWebhookSecretError"),
        ({"URL": "https://"}, "InvalidURL"),
    ],
)
def test_settings_that_checks_refuse_post_nothing(configure, responses, values, problem):
    """A shop that ignores its checks gets no alert, and its runs go on."""
    configure(ALERTS=BY_POST | values)
    enqueue()
    send()
    assert MerchantAlert.objects.get().error == problem
    assert len(responses.calls) == 0


def test_missing_libraries_do_not_fail_a_run(monkeypatch, fake):
    """Without the extra the alert waits, and says why."""
    monkeypatch.delitem(sys.modules, "oscar_bitsby.mails.alert_post", raising=False)
    monkeypatch.delattr("oscar_bitsby.mails.alert_post", raising=False)
    monkeypatch.setitem(sys.modules, "standardwebhooks.webhooks", None)
    enqueue()
    reconciliation.reconcile()
    assert MerchantAlert.objects.get().error == "ModuleNotFoundError"


def test_secret_and_url_are_never_shown(caplog, monkeypatch, admin_client):
    """Neither logs, of the libraries too, nor rows, checks, reprs and reports have them."""
    for name in ("", "urllib3", "requests_hardened"):
        caplog.set_level(logging.DEBUG, name)
    answers = iter([[(socket.AF_INET, 1, 6, "", ("10.0.0.7", 443))], OSError(f"no {URL}")])

    def resolve(*args, **kwargs):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    enqueue(2)
    send(), send()
    out = io.StringIO()
    call_command("check", stdout=out, stderr=out)
    alerts = conf.get().alerts
    shown = [
        caplog.text,
        out.getvalue(),
        repr(list(MerchantAlert.objects.values())),
        repr(conf.get()),
        repr(vars(alerts)),
    ]
    assert states() == [("waiting", 1)] * 2
    assert "could not be posted" in caplog.text
    for text in shown:
        for hidden in ("t0ken", "hooks.example", SECRET):
            assert hidden not in text, text


def test_logs_of_other_threads_are_kept(caplog):
    """Only the records of the POST itself are dropped."""
    with alert_post._no_logs_of_this_thread():
        logging.getLogger("urllib3.connectionpool").error("ours")
    logging.getLogger("urllib3.connectionpool").error("later")
    assert [record.message for record in caplog.records] == ["later"]
