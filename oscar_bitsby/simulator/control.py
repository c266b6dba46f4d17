"""Control for tests: look inside the simulator, play the buyer, move the clock, break things."""

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

MOST_SEEDED = 100_000


def read_state(account: Account, order: Json) -> Json:
    """Return everything that the account holds and that was sent and received."""
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


def _pay(account: Account, order: Json) -> Json:
    wallet = WALLETS_BY_ID.get(_text(order, "wallet", WALLETS[0].id))
    if wallet is None:
        raise Refused("Unknown wallet")
    with account.state.lock:
        invoice = _invoice(account, order)
        amount = invoice.reserved[wallet.id]
        if order.get("amount") is not None:
            fields = {"amount": _text(order, "amount", "")}
            amount = parameters.required(fields, "amount", parameters.parse_crypto_amount)
        payment = account.state.transfer(wallet, amount, _text(order, "hash", "") or None)
        return {"paymentId": payment.id, "bound": payment.invoice is not None}


def _expire(account: Account, order: Json) -> Json:
    with account.state.lock:
        invoice = _invoice(account, order)
        account.state.expire(invoice)
        return {"status": invoice.status}


def _advance(account: Account, order: Json) -> Json:
    account.clock.advance(_number(order, "seconds"))
    account.webhooks.wake()
    return {"now": serializers.stamp(account.clock.now())}


def _webhooks(account: Account, order: Json) -> Json:
    enabled, url = order.get("enabled", account.webhooks.enabled), order.get("url")
    if not isinstance(enabled, bool):
        raise Refused("enabled is true or false")
    if url is not None:
        account.webhooks.url = parse_webhook_url(_text(order, "url", ""))
    account.webhooks.enabled = enabled
    return {"enabled": enabled, "url": account.webhooks.url}


def _redeliver(account: Account, order: Json) -> Json:
    with account.state.lock:
        invoice = _invoice(account, order)
    # The shop may ask the API while it handles the delivery: no lock is held here.
    return {"status": account.webhooks.send_now(invoice.id)}


def _reset(account: Account, order: Json) -> Json:
    account.reset()
    return {}


def _seed(account: Account, order: Json) -> Json:
    count = order.get("invoices")
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MOST_SEEDED:
        raise Refused(f"invoices is a number from 0 to {MOST_SEEDED}")
    default = account.options.project_id or SEED_PROJECT_ID
    fields = {"projectId": _text(order, "projectId", default)}
    project_id = parameters.required(fields, "projectId", parameters.parse_uuid)
    with account.state.lock:
        made = [
            # A cent more each time: all amounts differ, as those of a busy shop mostly do.
            account.state.create(project_id, Decimal(1000 + n) / 100, "USD", Decimal("12"))
            for n in range(count)
        ]
    return {"ids": [invoice.id for invoice in made]}


def _faults(account: Account, order: Json) -> Json:
    raw = order.get("faults")
    if not isinstance(raw, list):
        raise Refused("faults is a list")
    faults = [Fault.from_json(one) for one in raw]
    account.traffic.set_faults(faults)
    return {"faults": len(faults)}


def _ratelimit(account: Account, order: Json) -> Json:
    seconds = _number(order, "seconds")
    if seconds < 0:
        raise Refused("seconds is zero or more")
    account.traffic.limit = seconds
    return {"seconds": seconds}


def _invoice(account: Account, order: Json) -> Invoice:
    if "invoiceId" in order:
        return account.state.invoice(_text(order, "invoiceId", ""))
    if "uid" in order:
        return account.state.invoice_by_uid(_text(order, "uid", ""))
    raise Refused("invoiceId or uid is missing")


def _text(order: Json, name: str, default: str) -> str:
    value = order.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise Refused(f"{name} is a string")
    return value


def _number(order: Json, name: str) -> float:
    value = order.get(name)
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
