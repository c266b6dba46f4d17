"""Ask Bitsby what became of invoices, one or many, and hand the answers to ``settlement``."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable

from django.utils import timezone

from oscar_bitsby import (
    communication,
    conf,
    endings,
    gateway,
    looks,
    payment_looks,
    settlement,
)
from oscar_bitsby.attempts import give_up_stale
from oscar_bitsby.client import BitsbyClient
from oscar_bitsby.clock import shared_now
from oscar_bitsby.exceptions import BitsbyError, NoSlot
from oscar_bitsby.looks import Report
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.passes import PassLost, one_at_a_time

logger = logging.getLogger("oscar_bitsby")

#: The same invoice is asked about at most once in this time because of what somebody sent.
ASK_AGAIN_AFTER = dt.timedelta(seconds=10)
#: Seconds that a page waits for an answer which it can do without.
GLANCE_TIMEOUT = 3.0
#: How often everything that is watched is looked at, as against the last days only.
FAR_LOOK_EVERY = dt.timedelta(hours=24)
#: How often a near look goes below what is known, and how far. The list goes by the time of the
#: transaction, and a payment that needed long to be confirmed appears below newer ones.
DEEP_LOOK_EVERY = dt.timedelta(hours=1)
CONFIRMED_WITHIN = dt.timedelta(hours=6)
#: Deliveries that a near look did not explain are asked about one by one, so many in a pass.
HINTS_PER_PASS = 3


def refresh(
    invoice: BitsbyInvoice, client: BitsbyClient | None = None
) -> settlement.Outcome | None:
    """Ask Bitsby about one invoice and settle what it says.

    Returns:
        what was done; None when Bitsby does not know the invoice or it has no id yet.

    Raises:
        GatewayError: Bitsby could not be asked; nothing was changed.
        RuntimeError: called inside a transaction.
    """
    if invoice.bitsby_id is None:
        return None
    client = client or gateway.for_background()
    told = looks.ask_about(client, invoice)
    return None if told is None else looks.settle_told(client, invoice, told)


def glance(invoice: BitsbyInvoice) -> bool:
    """Look at an invoice because its buyer does, if that costs nobody anything.

    Only a live invoice, at most once in ``ASK_AGAIN_AFTER``, and only when a slot is free at this
    moment. Never raises for Bitsby's sake.

    Returns:
        whether the invoice may have changed.
    """
    claim = _claim(invoice) if invoice.status == BitsbyInvoice.UNPAID else None
    if claim is None:
        return False
    try:
        client = gateway.if_free(timeout=GLANCE_TIMEOUT)
    except NoSlot:
        _unclaim(invoice, claim)
        return False
    except BitsbyError:
        return False
    try:
        refresh(invoice, client)
    except BitsbyError as error:
        logger.info("no look at invoice %s: %s", invoice.bitsby_id, error)
        return False
    except Exception:
        # A page that only wanted to look must not break over it.
        logger.exception("no look at invoice %s", invoice.bitsby_id)
        return False
    return True


def look_into_delivery(invoice: BitsbyInvoice) -> bool:
    """Look at an invoice because a delivery said so, and at all others that wait for a look.

    Sends at most one request, and none when no slot is free or the invoice was asked about just
    now; the delivery then stays noted for the next look.

    Returns:
        whether Bitsby was asked.

    Raises:
        GatewayError: Bitsby gave no answer that could be used.
    """
    _hint(invoice)
    return _look(invoice, gateway.if_free)


def look_into_hint(invoice: BitsbyInvoice) -> bool:
    """Look again at an invoice whose delivery is still noted, in line with other background work.

    For a worker that need not answer at once. Nothing is asked when the note is gone, nor when
    the invoice was asked about just now. The note stays until a look decides the matter, so that
    the next pass finds whatever is left.

    Returns:
        whether Bitsby was asked.

    Raises:
        GatewayError: Bitsby gave no answer that could be used.
        RuntimeError: called inside a transaction.
    """
    is_noted = BitsbyInvoice.objects.filter(pk=invoice.pk, hinted_at__isnull=False).exists()
    return is_noted and _look(invoice, gateway.for_background)


def may_be_asked_in(invoice: BitsbyInvoice) -> dt.timedelta:
    """Return how long it takes until somebody's word may have this invoice asked about again."""
    return max(invoice.checked_at + ASK_AGAIN_AFTER - shared_now(), dt.timedelta())


def _hint(invoice: BitsbyInvoice) -> None:
    rows = BitsbyInvoice.objects.filter(pk=invoice.pk, hinted_at=None)
    rows.update(hinted_at=shared_now())


def _look(invoice: BitsbyInvoice, make_client: Callable[[], BitsbyClient]) -> bool:
    """Ask about one invoice, or about all that wait for a look if there are others."""
    claim = _claim(invoice)
    if claim is None:
        return False
    # Those that are noted while Bitsby answers may have come too late for that answer.
    hinted = BitsbyInvoice.objects.filter(hinted_at__lte=claim).exclude(pk=invoice.pk)
    is_one_of_many = hinted.exists()
    client = None
    try:
        client = make_client()
        if is_one_of_many:
            payment_looks.take_in_first_page(client, _near_start())
            hinted.note_on(checked_at=shared_now())
        else:
            refresh(invoice, client)
    except NoSlot:
        if client is not None and client.requests:
            raise
        _unclaim(invoice, claim)
        return False
    return True


def _claim(invoice: BitsbyInvoice) -> dt.datetime | None:
    """Take the right to ask about an invoice, which is there once in ``ASK_AGAIN_AFTER``.

    Before the slot is taken, since writing may wait for a row's lock and a slot does not keep.
    """
    now = shared_now()
    free = BitsbyInvoice.objects.filter(pk=invoice.pk, checked_at__lte=now - ASK_AGAIN_AFTER)
    return now if free.update(checked_at=now) else None


def _unclaim(invoice: BitsbyInvoice, claim: dt.datetime) -> None:
    """Give the right back, unused."""
    mine = BitsbyInvoice.objects.filter(pk=invoice.pk, checked_at=claim)
    mine.update(checked_at=invoice.checked_at)


def reconcile(
    *,
    dry_run: bool = False,
    progress: Callable[[str], None] = lambda text: None,
    client: BitsbyClient | None = None,
) -> Report:
    """Make one pass over everything that is watched, in bulk.

    A near look at the payments of the last days; once a day a far one over ``WATCH_DAYS``; the
    last word on invoices whose time is up; then orders that wait for no payment any more. Mails to
    buyers come last, and also where Bitsby could not be asked.

    Args:
        dry_run: ask, decide and report, but write nothing.
        progress: is told in a few words what is being done.
        client: another client than the one of the settings.

    Returns:
        what was found; ``stood_back`` when another pass is running.

    Raises:
        GatewayError: Bitsby could not be asked. What was settled until then stays settled.
    """
    settings = conf.get()
    client = client or gateway.for_background()
    report = Report(dry_run=dry_run)
    with one_at_a_time() as running:
        if running is None:
            report.stood_back = True
            logger.info("another pass is running; this one stands back")
            return report
        report.keep_alive = running.keep_alive
        try:
            _settle_all(settings, client, report, progress)
        except PassLost:
            raise
        except Exception:
            # Whatever it was, buyers wait for what was noted before.
            _send_mails(report, progress)
            raise
        finally:
            report.requests = client.requests
        if not dry_run:
            running.note_end()
        _send_mails(report, progress)
    return report


def _settle_all(
    settings: conf.Conf,
    client: BitsbyClient,
    report: Report,
    progress: Callable[[str], None],
) -> None:
    if not report.dry_run:
        give_up_stale(settings)
    _look_at_payments(settings, client, report, progress)
    _look_into_hints(client, report)
    endings.last_words(settings, client, report, progress)
    endings.cancel_orders(settings, client, report, progress)
    if not report.dry_run:
        # After the look: who has paid is not reminded.
        communication.note_reminders()


def _send_mails(report: Report, progress: Callable[[str], None]) -> None:
    if not report.dry_run:
        progress("mails")
        report.mails = communication.end_pass(report.keep_alive)


def _look_at_payments(
    settings: conf.Conf,
    client: BitsbyClient,
    report: Report,
    progress: Callable[[str], None],
) -> None:
    now = shared_now()
    far_start = now - dt.timedelta(days=settings.watch_days)
    began = payment_looks.began()
    if began is None or not BitsbyInvoice.objects.watched(far_start).exists():
        return
    state = payment_looks.shared_state()
    is_far = _is_due(state.far_look_at, FAR_LOOK_EVERY, now)
    is_deep = _is_due(state.deep_look_at, DEEP_LOOK_EVERY, now)
    start = max(far_start if is_far else _near_start(), began)
    progress("far look at payments" if is_far else "near look at payments")

    def note(pages: int, payments: int) -> None:
        report.keep_alive()
        progress(f"{payments} payments on {pages} pages")

    known = state.read_to - CONFIRMED_WITHIN if is_deep else state.read_to
    may_stop = state.newest_first and not is_far
    payment_looks.take_in_payments(
        client, report, start, stop_before=known if may_stop else None, note=note
    )
    if not report.dry_run:
        payment_looks.note_read_to(report)
        if is_far:
            payment_looks.note_far_look(now, report)
        elif is_deep:
            payment_looks.note_deep_look(now)


def _is_due(last: dt.datetime, every: dt.timedelta, now: dt.datetime) -> bool:
    """Tell whether something is to be done again; also when a clock was put back since."""
    return now - last >= every or last > now


def _near_start() -> dt.datetime:
    return timezone.now() - dt.timedelta(days=1)


def _look_into_hints(client: BitsbyClient, report: Report) -> None:
    """Ask about deliveries that could not be looked into when they came, and did not turn up."""
    if report.dry_run:
        return
    hinted = BitsbyInvoice.objects.filter(hinted_at__isnull=False).order_by("hinted_at")
    for invoice in hinted[:HINTS_PER_PASS]:
        told = looks.word_on(client, invoice)
        if told is not None:
            with report.failures_counted(invoice.bitsby_id):
                report.count(looks.settle_told(client, invoice, told))
        # If Bitsby does not call it paid, whoever sent that delivery was wrong.
        BitsbyInvoice.objects.filter(pk=invoice.pk).update(hinted_at=None)
