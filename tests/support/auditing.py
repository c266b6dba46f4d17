"""Audits for tests: a shop whose books equal Bitsby's lists, and what an audit finds in it."""

import datetime as dt
from types import SimpleNamespace

from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby.choices import Resolution, ReviewReason
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import BitsbyPayment, GatewayState
from oscar_bitsby.reconciliation.audit import audit
from oscar_bitsby.settlement import settle
from oscar_bitsby.utils.clock import db_now
from tests.support import bitsby
from tests.support.refunds import sent_refund, unbound_payment

Source = get_model("payment", "Source")
Transaction = get_model("payment", "Transaction")
HOUR = dt.timedelta(hours=1)


def run_audit(*days):
    """Audit; return the kinds of the differences, all differences, and the result."""
    found = []
    result = audit(*days, report=found.append)
    kinds = sorted(one.kind.value for one in found)
    return SimpleNamespace(kinds=kinds, differences=found, result=result)


def finish_run():
    """Record that a run has just been completed."""
    GatewayState.ensure_exists()
    GatewayState.objects.update(last_run_at=db_now())


def fill_shop(fake, place, invoice_for, user):
    """Store payments of each state with their ledger, and list the same at Bitsby.

    Returns:
        the booked payment, the waiting one, and the refund of another booked one.
    """
    past = timezone.now().replace(microsecond=0) - 3 * HOUR
    for _ in range(2):
        invoice = invoice_for(place("10.00"), created_at=past, expires_at=past + 5 * HOUR)
        _list_paid(fake, invoice, past + HOUR)
    booked, refunded = BitsbyPayment.objects.order_by("pk")
    refund = sent_refund(user, refunded)
    waiting = unbound_payment(
        "8", review_reason=ReviewReason.UNMATCHED, wallet_id=bitsby.TRON, transaction_at=past + HOUR
    )
    dismissed = unbound_payment(
        "7",
        review_reason=ReviewReason.UNMATCHED,
        resolution=Resolution.DISMISSED,
        resolved_at=past + 2 * HOUR,
        wallet_id=bitsby.TRON,
        transaction_at=past + HOUR,
    )
    for payment in (waiting, dismissed):
        fake.payments.append(listed(payment))
    foreign = {**bitsby.invoice_item(invoice), "id": str(bitsby.new_id())}
    foreign["projectId"] = str(bitsby.new_id())
    fake.invoices.append(foreign)
    fake.payments.append(bitsby.payment_item(bitsby.transfer("55"), foreign))
    BitsbyPayment.objects.update(seen_at=past + HOUR)
    return booked, waiting, refund


def listed(payment):
    """Return the item of ``payments/list`` about an unbound payment of ours."""
    return bitsby.payment_item(
        bitsby.transfer(
            f"{payment.amount:.8f}",
            id=str(payment.bitsby_id),
            hash=payment.hash,
            transactionDatetime=bitsby.written(payment.transaction_at),
        )
    )


def _list_paid(fake, invoice, at):
    payment = bitsby.transfer(transactionDatetime=bitsby.written(at))
    remote = bitsby.invoice_item(invoice, "paid", payment=payment)
    fake.invoices.append(remote)
    fake.payments.append(bitsby.payment_item(payment, remote))
    settle(invoice, parsing.parse_invoice(remote))
