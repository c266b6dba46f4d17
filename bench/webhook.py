"""P3: the webhook, compared to a bare view and to webhooks of other projects, in one server."""

import hashlib
import hmac
import json
import statistics
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db import connection

from bench import load, rows
from bench.databases import fill
from bench.report import Row, spread
from bench.servers import gunicorn
from oscar_bitsby.models import BitsbyInvoice

SECRET = "whsec_made_up"
#: Requests to each contender before the measurement.
WARM_UP = 50


@dataclass(frozen=True)
class Contender:
    """A webhook, a request that it accepts, and the expected status."""

    name: str
    message: bytes
    status: int = 200


def measure(key: str, quick: bool) -> list[Row]:
    """Send the same number of requests to each in turn, several times."""
    count = 2_000 if quick else 100_000
    # Runs are short, so that other load on the machine affects all contenders alike.
    requests, rounds = (50, 4) if quick else (100, 20)
    contenders = _prepare(count)
    runs: dict[str, list[float]] = {one.name: [] for one in contenders}
    with gunicorn(connection.settings_dict["NAME"], "peers") as server:
        for one in contenders:
            load.throughput(server.port, [one.message] * WARM_UP, one.status)
        for number in range(rounds):
            # Start with another one each time, so that the order is not always the same.
            turn = number % len(contenders)
            for one in [*contenders[turn:], *contenders[:turn]]:
                rate = load.throughput(server.port, [one.message] * requests, one.status)
                runs[one.name].append(rate)
    return _rows(runs, count, requests)


def _rows(runs: Mapping[str, Sequence[float]], count: int, requests: int) -> list[Row]:
    how = (
        f"requests a second, {requests:,} in each run by 4 clients, one server with all projects"
        f" installed and the same middleware; tables of {count:,} rows. Bare: one SELECT"
        " of one column by a unique id; the body is not read. dj-stripe: a signed event that it"
        " has stored before, with the endpoint's UUID and the default verify_signature."
        " django-payments: the Stripe provider's static callback with a"
        " checkout.session.completed of a confirmed payment (its signature check is off, which"
        " favours it: it does not work with the stripe that dj-stripe needs), and the dummy"
        " provider's callback of a confirmed one; the model is BasePayment's own, whose token has"
        " no index."
        f" Medians: {', '.join(f'{k} {statistics.median(v):.0f}/s' for k, v in runs.items())}."
    )

    def ratio(ours: str, other: str) -> list[float]:
        return [a / b for a, b in zip(runs[ours], runs[other], strict=True)]

    found = []
    for ours in ("settled", "unknown"):
        values = ratio(ours, "bare")
        met = statistics.median(values) >= 0.8
        text = spread(values)
        found.append(Row("P3", f"webhook, {ours} invoice ÷ bare view", "≥ 0.8", text, met, how))
    for peer in runs:
        if peer in ("settled", "unknown", "bare"):
            continue
        values = ratio("settled", peer)
        met = statistics.median(values) >= 2
        work = f"webhook, settled invoice ÷ {peer}"
        found.append(Row("P3", work, "≥ 2", spread(values), met, how))
    return found


def _prepare(count: int) -> list[Contender]:
    """Fill the tables of all contenders, and return the contenders with their requests."""
    rows.add_orders(count, status="'Being processed'")
    rows.add_invoices(count, status="'paid'", order_awaits_payment="false")
    settled = BitsbyInvoice.objects.order_by("?")[0]
    return [
        Contender("bare", _bare(settled.bitsby_id)),
        Contender("settled", _ours(settled.bitsby_id)),
        Contender("unknown", _ours(uuid.uuid4())),
        _dj_stripe(count),
        *_django_payments(count),
    ]


def _bare(invoice_id: uuid.UUID | None) -> bytes:
    return load.request("POST", f"/bare/{invoice_id}/", body=_delivery(invoice_id), headers=JSON)


def _ours(invoice_id: uuid.UUID | None) -> bytes:
    return load.request("POST", "/bitsby/webhook/", body=_delivery(invoice_id), headers=JSON)


JSON = {"Content-Type": "application/json"}


def _delivery(invoice_id: uuid.UUID | None) -> bytes:
    """Return a delivery of the documented shape for an invoice."""
    with open("tests/payloads/webhook_paid.json", encoding="utf-8") as file:
        body = json.load(file)
    body["invoice"]["id"] = str(invoice_id)
    return json.dumps(body).encode()


def _signed(body: bytes) -> dict[str, str]:
    """Return headers with Stripe's signature; a time in the future passes each tolerance."""
    at = int(time.time()) + 3_000
    digest = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return {**JSON, "Stripe-Signature": f"t={at},v1={digest}"}


def _dj_stripe(count: int) -> Contender:
    from djstripe.models import Event, WebhookEndpoint

    endpoint = WebhookEndpoint.objects.create(
        id="we_bench",
        secret=SECRET,
        livemode=False,
        url="https://shop.example.com/stripe/webhook/",
        status="enabled",
        enabled_events=["*"],
        api_version="",
        djstripe_validation_method="verify_signature",
    )
    fill(
        Event,
        count,
        id="'evt_' || n",
        type="'payment_intent.succeeded'",
        livemode="false",
        data="'{}'",
        djstripe_created="now()",
        djstripe_updated="now()",
    )
    body = {
        "id": "evt_1",
        "object": "event",
        "api_version": "2020-08-27",
        "created": int(time.time()),
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": "payment_intent.succeeded",
        "data": {"object": {"id": "pi_1", "object": "payment_intent", "amount": 1000}},
    }
    text = json.dumps(body).encode()
    path = f"/stripe/webhook/{endpoint.djstripe_uuid}/"
    return Contender("dj-stripe", load.request("POST", path, body=text, headers=_signed(text)))


def _django_payments(count: int) -> list[Contender]:
    from bench.peers.models import Payment

    fill(
        Payment,
        count,
        variant="'stripe'",
        status="'confirmed'",
        currency="'USD'",
        total="10",
        captured_amount="10",
        token="gen_random_uuid()::text",
        created="now()",
        modified="now()",
    )
    real, dummy = Payment.objects.order_by("?")[:2]
    Payment.objects.filter(pk=dummy.pk).update(variant="default")
    session = {
        "id": "cs_1",
        "object": "checkout.session",
        "client_reference_id": real.token,
        "status": "complete",
        "payment_status": "paid",
    }
    event = {
        "id": "evt_1",
        "object": "event",
        "type": "checkout.session.completed",
        "data": {"object": session},
    }
    text = json.dumps(event).encode()
    return [
        Contender(
            "django-payments (Stripe)",
            load.request("POST", "/payments/process/stripe/", body=text, headers=JSON),
        ),
        Contender(
            "django-payments (dummy)",
            load.request("POST", f"/payments/process/{dummy.token}/", headers=JSON),
            302,
        ),
    ]
