"""The documented endpoints of the API."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any, TypeVar

from . import parameters, serializers
from .account import Account
from .parameters import (
    optional,
    parse_count,
    parse_date,
    parse_integer,
    parse_status,
    parse_uuid,
    required,
)
from .state import PAID, Refused
from .wallets import in_usd

Fields = Mapping[str, str]
T = TypeVar("T")

TOO_FREQUENT = "Requests too frequent"
WRONG_TOKEN = "Invalid token"  # noqa: S105 - a message, not a token
DEFAULT_LIMIT = 10


def success(data: object) -> dict[str, Any]:
    """Return a successful reply."""
    return {"result": "success", "data": data}


def error(text: str) -> dict[str, Any]:
    """Return an error reply."""
    return {"result": "error", "data": text}


def answer(account: Account, path: str, fields: Fields) -> dict[str, Any]:
    """Run one of the ENDPOINTS and return its reply."""
    try:
        with account.state.lock:
            return success(ENDPOINTS[path](account, fields))
    except Refused as refusal:
        return error(str(refusal))


def _create_invoice(account: Account, fields: Fields) -> object:
    project_id = required(fields, "projectId", parse_uuid)
    _check_project(account, project_id)
    invoice = account.state.create(
        project_id=project_id,
        amount=required(fields, "amountFiat", parameters.parse_fiat_amount),
        currency=required(fields, "currencyFiat", parameters.parse_currency),
        hours=required(fields, "timeToPay", parameters.parse_hours),
        description=fields.get("description") or None,
        service_data=fields.get("serviceData") or None,
    )
    return serializers.created_invoice(invoice, account.page_url(invoice))


def _list_invoices(account: Account, fields: Fields) -> object:
    invoice_id = optional(fields, "invoiceId", parse_uuid)
    project_id = optional(fields, "projectId", parse_uuid)
    status = optional(fields, "status", parse_status)
    uid = fields.get("invoiceUid")
    in_period = _period(fields)
    if project_id is not None:
        _check_project(account, project_id)
    found = (
        serializers.listed_invoice(invoice)
        for invoice in account.state.invoices()
        if invoice_id in (None, invoice.id)
        and uid in (None, invoice.uid)
        and project_id in (None, invoice.project_id)
        and status in (None, invoice.status)
        and in_period(invoice.created)
    )
    return _page(account, fields, found)


def _cancel_invoice(account: Account, fields: Fields) -> object:
    account.state.cancel(required(fields, "invoiceId", parse_uuid))
    return "Invoice canceled"


def _bind_payment(account: Account, fields: Fields) -> object:
    account.state.bind(
        required(fields, "invoiceId", parse_uuid), required(fields, "paymentId", parse_uuid)
    )
    return "Invoice binded to payment"


def _list_payments(account: Account, fields: Fields) -> object:
    wallet_id = optional(fields, "walletId", parse_uuid)
    invoice_id = optional(fields, "invoiceId", parse_uuid)
    in_period = _period(fields)
    found = (
        serializers.listed_payment(payment)
        for payment in account.state.payments()
        if wallet_id in (None, payment.wallet.id)
        and (invoice_id is None or (payment.invoice and payment.invoice.id == invoice_id))
        and in_period(payment.seen)
    )
    return _page(account, fields, found)


def _balances(account: Account, fields: Fields) -> object:
    return {"internal": "100.00", "partner": "0.00"}


def _tariffs(account: Account, fields: Fields) -> object:
    turnover: Counter[str] = Counter()
    for invoice in account.state.invoices():
        age = account.clock.now() - invoice.created
        if invoice.status == PAID and age.days < 30:
            turnover[invoice.project_id] += _cents(in_usd(invoice.amount, invoice.currency))
    return [
        {
            "id": project_id,
            "name": serializers.PROJECT_NAME,
            "30dPayments": _dollars(turnover[project_id]),
            "payer": "seller",
            "rate": serializers.fiat(serializers.COMMISSION_PERCENT),
        }
        for project_id in account.projects()
    ]


def _history(account: Account, fields: Fields) -> object:
    top_up = {
        "datetime": "2024-01-01 00:00:00",
        "event": "deposit",
        "target": "internal",
        "amount": "100.00",
        "comment": "Invented by the simulator",
    }
    return _page(account, fields, [top_up])


def _statistics(account: Account, fields: Fields) -> object:
    in_period = _period(fields)
    invoices = [one for one in account.state.invoices() if in_period(one.created)]
    # The documentation does not name the keys of the four groups of sums; these names are ours.
    groups: dict[str, Counter[str]] = {
        name: Counter() for name in ("projects", "currencies", "months", "dates")
    }
    total = 0
    for invoice in invoices:
        cents = _cents(in_usd(invoice.amount, invoice.currency))
        total += cents
        groups["projects"][invoice.project_id] += cents
        groups["currencies"][invoice.currency] += cents
        groups["months"][f"{invoice.created:%Y-%m}"] += cents
        groups["dates"][f"{invoice.created:%Y-%m-%d}"] += cents
    sums = {
        name: {key: _dollars(cents) for key, cents in group.items()}
        for name, group in groups.items()
    }
    return {
        "invoicesTotalNum": len(invoices),
        "invoicesPaidNum": sum(invoice.status == PAID for invoice in invoices),
        "invoicesTotalUSD": _dollars(total),
        **sums,
    }


def _check_project(account: Account, project_id: str) -> None:
    if account.options.project_id not in (None, project_id):
        raise Refused("Project not found")


def _period(fields: Fields) -> Callable[[datetime], bool]:
    first = optional(fields, "startDate", parse_date) or date.min
    last = optional(fields, "endDate", parse_date) or date.max
    return lambda moment: first <= moment.date() <= last


def _page(account: Account, fields: Fields, items: Iterable[T]) -> list[T]:
    offset = optional(fields, "offset", parse_integer) or 0
    limit = optional(fields, "limit", parse_count) or DEFAULT_LIMIT
    return list(islice(items, offset, offset + min(limit, account.options.page_size)))


def _cents(amount: Decimal) -> int:
    return int(amount * 100)


def _dollars(cents: int) -> str:
    return serializers.fiat(Decimal(cents) / 100)


ENDPOINTS: dict[str, Callable[[Account, Fields], object]] = {
    "/invoices/create": _create_invoice,
    "/invoices/list": _list_invoices,
    "/invoices/cancel": _cancel_invoice,
    "/invoices/bindPayment": _bind_payment,
    "/payments/list": _list_payments,
    "/billing/balances": _balances,
    "/billing/tarrifs": _tariffs,
    "/billing/history": _history,
    "/statistics/invoices": _statistics,
}
