"""Delete what a busy shop no longer needs: old deliveries, mails, payments that are not its own.

What accounting needs is never touched: invoices, and payments that are booked, bound or open.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.db import models, router, transaction
from django.utils import timezone

from oscar_bitsby import conf
from oscar_bitsby.choices import MailCode, MailStatus, Resolution
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BuyerMail, WebhookDelivery
from oscar_bitsby.staff.binding import DAYS_BACK

#: Rows that one transaction deletes, so that nobody waits for long.
BATCH = 1000
#: Days that deliveries are kept where nobody says otherwise.
DELIVERY_DAYS = 90
#: The same for mails to buyers.
MAIL_DAYS = 180
#: Days beyond all looks: what is asked for around them on either side, and slow clocks.
MARGIN_DAYS = 7
#: A hundred years: more than that overflows what a date can be.
MAX_DAYS = 36500


class CannotPrune(ValueError):
    """What was asked for would delete too much; the message says why."""


@dataclass
class Pruned:
    """How many rows were deleted, or with a dry run would be."""

    deliveries: int = 0
    mails: int = 0
    foreign: int = 0
    dismissed: int = 0

    def __str__(self) -> str:
        return (
            f"{self.deliveries} deliveries, {self.mails} mails, {self.foreign} payments of other"
            f" projects, {self.dismissed} dismissed payments"
        )


def min_payment_days() -> int:
    """Return the age in days from which on no look at Bitsby takes a payment in again."""
    return max(conf.get().watch_days, DAYS_BACK) + MARGIN_DAYS


def prune(
    *,
    delivery_days: int = DELIVERY_DAYS,
    mail_days: int = MAIL_DAYS,
    dismissed_days: int | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Delete old rows in short transactions; safe beside everything else, and to break off.

    Args:
        delivery_days: age from which on deliveries go.
        mail_days: the same for what is noted of mails to buyers, which is what keeps them from
            being sent twice.
        dismissed_days: the same for payments that staff have dismissed; None keeps them all.
        dry_run: count, delete nothing.

    Raises:
        CannotPrune: an age is too small or too great.
        ConfigurationError: how long payments are watched cannot be told.
    """
    fewest = min_payment_days()
    _check_days("deliveries", delivery_days, 1, "the shop still works with today's")
    _check_days("mails", mail_days, fewest, "an older payment could be told of twice")
    if dismissed_days is not None:
        _check_days(
            "dismissed payments",
            dismissed_days,
            fewest,
            "a younger one would be found at Bitsby again and come back to the inbox",
        )
    now = timezone.now()
    old = _is_over(now - dt.timedelta(days=fewest))
    # By its index on received_at.
    deliveries = WebhookDelivery.objects.filter(
        received_at__lt=now - dt.timedelta(days=delivery_days)
    ).order_by("received_at", "pk")
    # Kept for good: the first mail of an order says in which language its buyer reads, and the one
    # that thanks keeps another from being sent. Kept for now: what staff decide of a payment in the
    # inbox may be told to its buyer, once.
    mails = (
        BuyerMail.objects.filter(
            created_at__lt=now - dt.timedelta(days=mail_days),
            status__in=(MailStatus.SENT, MailStatus.DROPPED, MailStatus.FAILED),
        )
        .exclude(code__in=(MailCode.PLACED, MailCode.PAID))
        .exclude(payment__in=BitsbyPayment.objects.needs_review())
    )
    foreign = BitsbyPayment.objects.filter(old, is_foreign=True, review_reason="", resolution="")
    pruned = Pruned(
        deliveries=_delete(deliveries, dry_run=dry_run),
        mails=_delete_walking(mails, dry_run=dry_run),
        foreign=_delete_walking(foreign, dry_run=dry_run),
    )
    if dismissed_days is not None:
        since = now - dt.timedelta(days=dismissed_days)
        dismissed = BitsbyPayment.objects.filter(
            old,
            _is_over(since),
            resolution=Resolution.DISMISSED,
            resolved_at__lt=since,
        )
        pruned.dismissed = _delete_walking(dismissed, dry_run=dry_run)
    return pruned


def _check_days(what: str, days: int, fewest: int, why: str) -> None:
    if days < fewest:
        raise CannotPrune(f"{what} must be at least {fewest} days old to be deleted: {why}")
    if days > MAX_DAYS:
        raise CannotPrune(f"{what}: {days} days are more than a hundred years")


def _is_over(moment: dt.datetime) -> models.Q:
    """Say of payments that they are older, and nothing to any invoice or to the books.

    One whose time on the chain Bitsby did not tell is kept: looks go by that time.
    """
    ours = BitsbyInvoice.objects.filter(bitsby_id=models.OuterRef("bound_to"))
    return models.Q(
        ~models.Exists(ours),
        transaction_at__lt=moment,
        seen_at__lt=moment,
        invoice__isnull=True,
        booked_at__isnull=True,
    )


def _delete(rows: models.QuerySet[WebhookDelivery], *, dry_run: bool) -> int:
    """Delete the rows, oldest first."""
    if dry_run:
        return rows.count()
    gone = 0
    while True:
        found = _delete_batch(rows)
        gone += len(found)
        if len(found) < BATCH:
            return gone


def _delete_walking(rows: models.QuerySet[Any], *, dry_run: bool) -> int:
    """Delete the rows along their primary keys, so that the table is read once and not per batch.

    No index of its own: it would cost every payment something, for what is done once a week.
    """
    if dry_run:
        return rows.count()
    gone, after = 0, 0
    while True:
        found = _delete_batch(rows.filter(pk__gt=after).order_by("pk"))
        gone += len(found)
        if len(found) < BATCH:
            return gone
        after = found[-1]


def _delete_batch(rows: models.QuerySet[Any]) -> list[int]:
    with transaction.atomic(using=router.db_for_write(rows.model)):
        # What somebody is just working with is locked: it is left to the next time.
        locked = rows.select_for_update(skip_locked=True)
        found = list(locked.values_list("pk", flat=True)[:BATCH])
        rows.model._default_manager.filter(pk__in=found).delete()
    return found
