"""Refunds: requested, given an address, sent; booked under the locks of settling.

The shop sends the coins with its own wallet: Bitsby has no call for it, and nobody verifies the
transaction hash. Every function is one transaction that locks the order, then the payment, then
the refund, then the order's sources. It raises ``RefundRefused`` with a message for the person when
it changes nothing, and ``RuntimeError`` inside another transaction. The caller has checked the
permission, and writes the admin log.
"""

import logging
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, router, transaction
from django.utils.translation import gettext as _

from oscar_bitsby import signals
from oscar_bitsby.accounting.addresses import check_address, check_transaction_hash
from oscar_bitsby.accounting.refundable import (
    Refundable,
    is_in_ledger,
    propose_coin_amount,
    refundable,
)
from oscar_bitsby.choices import AlertCode, MailCode, RefundState
from oscar_bitsby.exceptions import RefundRefused
from oscar_bitsby.mails import merchant_alerts, outbox
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund
from oscar_bitsby.settlement import cancellation
from oscar_bitsby.settlement import refund_checks as checks
from oscar_bitsby.settlement import refund_effects as effects
from oscar_bitsby.settlement.locks import lock_money, lock_refund
from oscar_bitsby.utils.clock import db_now

#: What pages call.
__all__ = [
    "Refundable",
    "cancel",
    "mark_sent",
    "propose_coin_amount",
    "refundable",
    "renew_link",
    "reopen",
    "request_refund",
    "set_address",
]

logger = logging.getLogger("oscar_bitsby")


def request_refund(
    *,
    user: Any,
    note: str,
    payment: BitsbyPayment | None = None,
    order: Any = None,
    amount: Decimal | None = None,
    coin_amount: Decimal | None = None,
    cryptocurrency: str = "",
    blockchain: str = "",
    newest_seen: int | None = None,
) -> BitsbyRefund:
    """Record a refund, and ask the buyer for an address by e-mail.

    Args:
        user: the member of staff who requests it.
        note: the reason.
        payment: the payment to refund; coin and chain are its own.
        order: needed without a payment; then coin and chain are needed too. With a payment that
            belongs to no order: the order whose buyer is asked for the address.
        amount: in the order's currency; needed if the money is booked.
        coin_amount: the coins to send; None takes the proposed amount.
        newest_seen: the primary key of the newest refund of the payment or order that the member
            of staff knew of, 0 for none. A second click must not make a second refund.
    """
    with lock_money(payment, order) as (order, payment):
        if payment is not None:
            cryptocurrency, blockchain = payment.cryptocurrency, payment.blockchain
            if payment.refunds.open().exists():
                raise RefundRefused(_open_refund())
        elif order is None:
            raise RefundRefused(_("Choose the payment or the order to refund."))
        cryptocurrency, blockchain = cryptocurrency.strip()[:64], blockchain.strip()[:64]
        if not cryptocurrency or not blockchain:
            raise RefundRefused(_("Enter the coin and the blockchain of the refund."))
        checks.check_newest(newest_seen, payment, order)
        left = refundable(payment, order)
        checks.check_left(payment, left)
        checks.check_amount(amount, payment, left)
        proposed = propose_coin_amount(payment, amount) if payment and amount else None
        coins = _coins_to_send(coin_amount, proposed, payment, left)
        refund = BitsbyRefund(
            order=order,
            order_number=str(order.number) if order is not None else "",
            payment=payment,
            amount=amount,
            currency=left.currency,
            cryptocurrency=cryptocurrency,
            blockchain=blockchain,
            coin_amount=coins,
            proposed_coin_amount=proposed,
            requested_at=db_now(),
            requested_by=user,
            note=note.strip(),
        )
        _save_unique(refund, _open_refund())
        _log("requested", refund, user)
        signals.send_after_commit(
            signals.refund_requested, BitsbyRefund, refund=refund, order=order
        )
        outbox.enqueue(MailCode.REFUND_REQUESTED, order, refund=refund)
    return refund


def set_address(
    refund_pk: Any, address: str, *, user: Any = None, link_version: int | None = None
) -> BitsbyRefund:
    """Store the address, once.

    Args:
        user: the member of staff who entered it, None the buyer.
        link_version: that of the buyer's link, which must still be the newest.
    """
    with lock_refund(refund_pk) as (order, payment, refund):
        if link_version not in (None, refund.link_version):
            raise RefundRefused(
                _("This link was replaced by a newer one. Open the newest e-mail about the refund.")
            )
        if refund.state == RefundState.ADDRESS_GIVEN:
            raise RefundRefused(
                _("An address was already given for this refund. To change it, ask the shop.")
                if user is None
                else _("An address was already given for this refund. Remove it first.")
            )
        checks.check_state(refund, RefundState.REQUESTED)
        text = check_address(refund.blockchain, refund.cryptocurrency, address)
        checks.check_own_wallets(text, order, payment, by_buyer=user is None)
        refund.address, refund.state = text, RefundState.ADDRESS_GIVEN
        refund.address_given_at, refund.address_given_by = db_now(), user
        refund.save(update_fields=["address", "state", "address_given_at", "address_given_by"])
        _log("address given", refund, user)
        merchant_alerts.enqueue(
            AlertCode.REFUND_ADDRESS,
            refund=refund,
            order_number=refund.order_number,
            occasion=str(refund.link_version),
        )
        outbox.enqueue(MailCode.REFUND_ADDRESS, order, refund=refund)
    return refund


def reopen(refund_pk: Any, user: Any, note: str) -> BitsbyRefund:
    """Remove the address, and ask the buyer again by a new link; earlier links become invalid.

    A reason is required.
    """
    checks.check_reason(note)
    with lock_refund(refund_pk) as (order, _payment, refund):
        checks.check_state(refund, RefundState.ADDRESS_GIVEN)
        refund.address, refund.state = "", RefundState.REQUESTED
        refund.address_given_at = refund.address_given_by = None
        refund.link_version += 1
        _add_note(refund, note)
        refund.save()
        _log("reopened", refund, user)
        outbox.enqueue(MailCode.REFUND_REQUESTED, order, refund=refund)
    return refund


def renew_link(refund_pk: Any, user: Any) -> BitsbyRefund:
    """Send the buyer a new link for the address; earlier links become invalid."""
    with lock_refund(refund_pk) as (order, _payment, refund):
        checks.check_state(refund, RefundState.REQUESTED)
        refund.link_version += 1
        refund.save(update_fields=["link_version"])
        _log("link renewed", refund, user)
        outbox.enqueue(MailCode.REFUND_REQUESTED, order, refund=refund)
    return refund


def mark_sent(
    refund_pk: Any, transaction_hash: str, user: Any, note: str = "", *, cancel_order: bool = False
) -> BitsbyRefund:
    """Record that the coins were sent, and book it in Oscar's ledger if the money was booked.

    Args:
        cancel_order: also cancel the order, and release its stock and vouchers. Where the shop's
            status pipeline forbids it, nothing is recorded: staff repeat the step without it.
    """
    with lock_refund(refund_pk, lock_invoices=True) as (order, payment, refund):
        checks.check_state(refund, RefundState.ADDRESS_GIVEN)
        refund.transaction_hash = check_transaction_hash(refund.blockchain, transaction_hash)
        checks.check_new_hash(refund)
        refund.state, refund.closed_at, refund.closed_by = RefundState.SENT, db_now(), user
        _add_note(refund, note)
        _save_unique(refund, checks.known_hash())
        if payment is None or is_in_ledger(payment):
            effects.book(refund, order)
        if payment is not None and payment.needs_review:
            effects.resolve(payment, user, note or refund.note)
        if cancel_order:
            effects.cancel_order(order, refund)
        else:
            cancellation.await_payment_again(order, cancellation.SENT_BACK)
        _log("sent", refund, user, amount=refund.amount, is_booked=refund.is_booked)
        signals.send_after_commit(signals.refund_sent, BitsbyRefund, refund=refund, order=order)
        outbox.enqueue(MailCode.REFUND_SENT, order, refund=refund)
    return refund


def cancel(refund_pk: Any, user: Any, note: str) -> BitsbyRefund:
    """Cancel a refund that was not sent; a reason is required."""
    checks.check_reason(note)
    with lock_refund(refund_pk) as (_order, _payment, refund):
        checks.check_state(refund, RefundState.REQUESTED, RefundState.ADDRESS_GIVEN)
        refund.state, refund.closed_at, refund.closed_by = RefundState.CANCELLED, db_now(), user
        _add_note(refund, note)
        refund.save()
        _log("cancelled", refund, user)
    return refund


def _coins_to_send(
    coins: Decimal | None,
    proposed: Decimal | None,
    payment: BitsbyPayment | None,
    left: Refundable,
) -> Decimal:
    """Return the coins that staff entered or, without them, those proposed or left."""
    if coins is None:
        coins = proposed
        if coins is None and payment is not None and not is_in_ledger(payment):
            coins = left.coin_amount
    return checks.check_coins(coins, proposed, payment, left)


def _open_refund() -> str:
    return _("A refund of this payment is open. First send its coins or cancel it.")


def _save_unique(refund: BitsbyRefund, message: str) -> None:
    """Save a refund; refuse it if another process has just saved a conflicting one."""
    try:
        with transaction.atomic(using=router.db_for_write(BitsbyRefund)):
            refund.save()
    except IntegrityError:
        raise RefundRefused(message) from None


def _add_note(refund: BitsbyRefund, note: str) -> None:
    refund.note = "\n".join(text for text in (refund.note, note.strip()) if text)


def _log(what: str, refund: BitsbyRefund, user: Any, **details: Any) -> None:
    """Log a step as ``log_change`` does; the address is never logged."""
    extra = "".join(f" {name}={value}" for name, value in details.items())
    logger.info(
        "refund %s: order=%s refund=%s payment=%s user=%s%s",
        what,
        refund.order_number,
        refund.pk,
        refund.payment.bitsby_id if refund.payment else None,
        user.pk if user is not None else None,
        extra,
    )
