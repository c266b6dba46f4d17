"""How invoices, payments, wallets and webhook deliveries are written as JSON."""

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from .state import Invoice, Payment
from .wallets import CENT, WALLETS, Wallet, in_usd, worth

Json = dict[str, Any]

PROJECT_NAME = "Simulated project"
COMMISSION_PERCENT = Decimal("1")


def stamp(moment: datetime) -> str:
    """Write a time as replies do: UTC without a zone."""
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def fiat(amount: Decimal) -> str:
    """Write an amount of fiat money with 2 decimals."""
    return f"{amount:.2f}"


def crypto(amount: Decimal) -> str:
    """Write an amount of a coin with 8 decimals."""
    return f"{amount:.8f}"


def wallet(one: Wallet) -> Json:
    """Write a wallet as lists and deliveries show it."""
    return {
        "id": one.id,
        "name": one.name,
        "blockchain": one.blockchain,
        "cryptocurrency": one.cryptocurrency,
        "address": one.address,
    }


def reserved_wallets(invoice: Invoice) -> list[Json]:
    """Write all wallets with the amounts that an invoice reserves on them."""
    return [{**wallet(one), "amountCrypto": crypto(invoice.reserved[one.id])} for one in WALLETS]


def created_invoice(invoice: Invoice, url: str) -> Json:
    """Write the answer to the creation of an invoice."""
    return {
        "id": invoice.id,
        "uid": invoice.uid,
        "createDatetime": stamp(invoice.created),
        "timeToPayDatetime": stamp(invoice.pay_until),
        "url": url,
        "wallets": reserved_wallets(invoice),
    }


def invoice_fields(invoice: Invoice) -> Json:
    """Write an invoice without its payment, as the list of payments shows it."""
    usd = in_usd(invoice.amount, invoice.currency)
    commission = (usd * COMMISSION_PERCENT / 100).quantize(CENT, ROUND_HALF_UP)
    return {
        "id": invoice.id,
        "uid": invoice.uid,
        "projectId": invoice.project_id,
        "createDatetime": stamp(invoice.created),
        "timeToPayDatetime": stamp(invoice.pay_until),
        "commissionFiatUSD": fiat(commission),
        "amountFiatUSD": fiat(usd),
        "amountFiat": fiat(invoice.amount),
        "currencyFiat": invoice.currency,
        "description": invoice.description,
        "serviceData": invoice.service_data,
        "views": invoice.views,
        "status": invoice.status,
    }


def listed_invoice(invoice: Invoice) -> Json:
    """Write an item of the list of invoices; only a paid one has a payment and a wallet."""
    item = invoice_fields(invoice)
    if invoice.payment is not None:
        item["payment"] = payment_fields(invoice.payment)
        item["wallet"] = wallet(invoice.payment.wallet)
    return item


def payment_fields(payment: Payment) -> Json:
    """Write a payment without its invoice and wallet."""
    return {
        "id": payment.id,
        "amount": crypto(payment.amount),
        "hash": payment.hash,
        "transactionDatetime": stamp(payment.seen),
    }


def listed_payment(payment: Payment) -> Json:
    """Write an item of the list of payments; an unbound one has no invoice key."""
    item = payment_fields(payment)
    if payment.invoice is not None:
        item["invoice"] = invoice_fields(payment.invoice)
    item["wallet"] = wallet(payment.wallet)
    return item


def delivery(invoice: Invoice, payment: Payment) -> Json:
    """Write the body of the webhook for an invoice that became paid."""
    shown: Json = {}
    for name, value in invoice_fields(invoice).items():
        if name not in ("projectId", "views"):
            shown[name] = value
        if name == "amountFiat":
            shown["calcAmountFiat"] = fiat(worth(payment.amount, payment.wallet, invoice.currency))
    return {
        "wallet": wallet(payment.wallet),
        "project": {
            "id": invoice.project_id,
            "name": PROJECT_NAME,
            "commissionPayer": "seller",
            "commissionRate": str(COMMISSION_PERCENT),
        },
        "invoice": shown,
        "payment": payment_fields(payment),
    }
