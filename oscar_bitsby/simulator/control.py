"""The commands of tests: read the state, pay, move the clock, set faults."""

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from . import parameters, serializers
from .account import SEED_PROJECT_ID, Account
from .state import Invoice, Refused
from .traffic import Fault
from .wallets import WALLETS, WALLETS_BY_ID
from .webhooks import parse_webhook_url

Json = dict[str, Any]

MAX_SEEDED = 100_000


def read_state(account: Account, data: Json) -> Json:
    """Return everything that a test can see."""
    state, webhooks = account.state, account.webhooks
    with state.lock:
        return {
            "now": serializers.stamp(account.clock.now()),
            "webhooks": {"enabled": webhooks.enabled, "url": webhooks.url},
            "invoices": [
                {**serializers.listed_invoice(one), "wallets": serializers.reserved_wallets(one)}
                for one in state.invoices()
            ],
            "payments": [serializers.listed_payment(one) for one in state.payments()],
            "requests": account.traffic.requests(),
            "deliveries": webhooks.deliveries(),
        }


def _pay(account: Account, data: Json) -> Json:
    wallet = WALLETS_BY_ID.get(_text(data, "wallet", WALLETS[0].id))
    if wallet is None:
        raise Refused("Unknown wallet")
    with account.state.lock:
        invoice = _invoice(account, data)
        amount = invoice.reserved[wallet.id]
        if data.get("amount") is not None:
            fields = {"amount": _text(data, "amount", "")}
            amount = parameters.required(fields, "amount", parameters.parse_crypto_amount)
        payment = account.state.transfer(wallet, amount, _text(data, "hash", "") or None)
        return {"paymentId": payment.id, "bound": payment.invoice is not None}


def _expire(account: Account, data: Json) -> Json:
    with account.state.lock:
        invoice = _invoice(account, data)
        account.state.expire(invoice)
        return {"status": invoice.status}


def _advance(account: Account, data: Json) -> Json:
    account.clock.advance(_number(data, "seconds"))
    account.webhooks.wake()
    return {"now": serializers.stamp(account.clock.now())}


def _webhooks(account: Account, data: Json) -> Json:
    enabled, url = data.get("enabled", account.webhooks.enabled), data.get("url")
    if not isinstance(enabled, bool):
        raise Refused("enabled is true or false")
    if url is not None:
        account.webhooks.url = parse_webhook_url(_text(data, "url", ""))
    account.webhooks.enabled = enabled
    return {"enabled": enabled, "url": account.webhooks.url}


def _redeliver(account: Account, data: Json) -> Json:
    with account.state.lock:
        invoice = _invoice(account, data)
    # Without the lock: the shop may call the API while it handles the delivery.
    return {"status": account.webhooks.send_now(invoice.id)}


def _reset(account: Account, data: Json) -> Json:
    account.reset()
    return {}


def _seed(account: Account, data: Json) -> Json:
    count = data.get("invoices")
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MAX_SEEDED:
        raise Refused(f"invoices is a number from 0 to {MAX_SEEDED}")
    default = account.options.project_id or SEED_PROJECT_ID
    fields = {"projectId": _text(data, "projectId", default)}
    project_id = parameters.required(fields, "projectId", parameters.parse_uuid)
    with account.state.lock:
        made = [
            # All amounts differ, as most do in a busy shop.
            account.state.create(project_id, Decimal(1000 + n) / 100, "USD", Decimal("12"))
            for n in range(count)
        ]
    return {"ids": [invoice.id for invoice in made]}


def _faults(account: Account, data: Json) -> Json:
    raw = data.get("faults")
    if not isinstance(raw, list):
        raise Refused("faults is a list")
    faults = [Fault.from_json(one) for one in raw]
    account.traffic.set_faults(faults)
    return {"faults": len(faults)}


def _ratelimit(account: Account, data: Json) -> Json:
    seconds = _number(data, "seconds")
    if seconds < 0:
        raise Refused("seconds is zero or more")
    account.traffic.limit = seconds
    return {"seconds": seconds}


def _invoice(account: Account, data: Json) -> Invoice:
    if "invoiceId" in data:
        return account.state.invoice(_text(data, "invoiceId", ""))
    if "uid" in data:
        return account.state.invoice_by_uid(_text(data, "uid", ""))
    raise Refused("invoiceId or uid is missing")


def _text(data: Json, name: str, default: str) -> str:
    value = data.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise Refused(f"{name} is a string")
    return value


def _number(data: Json, name: str) -> float:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Refused(f"{name} is a number")
    return float(value)


COMMANDS: dict[str, Callable[[Account, Json], Json]] = {
    "pay": _pay,
    "expire": _expire,
    "advance": _advance,
    "webhooks": _webhooks,
    "redeliver": _redeliver,
    "reset": _reset,
    "seed": _seed,
    "faults": _faults,
    "ratelimit": _ratelimit,
}
