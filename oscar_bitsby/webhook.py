"""The webhook: store a delivery and refresh its invoice. All facts but its id come from the API."""

import json
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

from django.db import router, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.translation import gettext_noop
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from oscar_bitsby import conf
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import BitsbyInvoice, WebhookDelivery
from oscar_bitsby.reconciliation import invoice_refresh
from oscar_bitsby.utils.clock import db_now

logger = logging.getLogger("oscar_bitsby")

#: Larger bodies are refused; a delivery has about one thousand bytes.
MAX_BODY_BYTES = 64 * 1024
#: Headers that are not stored, because they may contain secrets.
UNSTORED_HEADERS = {"cookie", "authorization", "proxy-authorization"}
SETTLED = gettext_noop("settled")


@csrf_exempt
@transaction.non_atomic_requests
@require_POST
def webhook(request: HttpRequest, token: str = "") -> HttpResponse:
    """Answer a delivery.

    200: the invoice is settled, or there is nothing to do. 400: the body is not a delivery. 503:
    the invoice could not be checked now or is not paid yet, so Bitsby should send it again.
    """
    try:
        is_ours = conf.get().webhook_token.matches(token)
    except BitsbyError:
        # Without usable settings nothing can be checked; no money is lost.
        return _answer(503, "not configured")
    if not is_ours:
        raise Http404("no webhook here")
    delivery = _read(request)
    if delivery is None:
        return _answer(400, "not a delivery")
    body, invoice_id = delivery
    try:
        return _process(request, body, invoice_id)
    except Exception:
        # A bug of ours: answer 503, so that Bitsby sends the delivery again.
        logger.exception("delivery not processed: invoice=%s", invoice_id)
        return _answer(503, "try again")


def _read(request: HttpRequest) -> tuple[bytes, UUID] | None:
    """Return the body and the invoice's id; None if the body is not a delivery."""
    try:
        if int(request.META.get("CONTENT_LENGTH") or 0) > MAX_BODY_BYTES:
            return None
        body = request.read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            return None
        return body, parsing.parse_uuid(json.loads(body).get("invoice").get("id"))
    except (OSError, ValueError, AttributeError, RecursionError):
        return None


def _process(request: HttpRequest, body: bytes, invoice_id: UUID) -> HttpResponse:
    invoices = BitsbyInvoice.objects.filter(bitsby_id=invoice_id)
    # Most deliveries end here, so do not read the whole row yet.
    found = invoices.values_list("status", "newest_delivery_failed").first()
    # Staff would take a failure for the result, so the delivery that settles it is stored, too.
    status, follows_failure = found or (None, False)
    if status == InvoiceStatus.PAID and not follows_failure:
        return _answer(200, "settled")
    invoice = invoices.first() if status is not None else None
    if invoice is None:
        return _answer(200, "unknown invoice")
    if status == InvoiceStatus.PAID:
        _store_settled(request, body, invoice)
        return _answer(200, "settled")
    delivery = _record(request, body, invoice)
    try:
        if invoice_refresh.refresh_for_delivery(invoice):
            outcome = gettext_noop("asked")
        else:
            outcome = gettext_noop("not asked: no free slot, or just fetched")
    except BitsbyError as error:
        outcome = str(error)
    invoice.refresh_from_db(fields=["status", "webhook_pending_since", "last_refreshed_at"])
    answered = 503
    if invoice.status == InvoiceStatus.PAID:
        answered, outcome = 200, SETTLED
        if delivery is None and follows_failure:
            _store_settled(request, body, invoice)
    if delivery is not None:
        delivery.answered, delivery.outcome = answered, outcome[:300]
        delivery.save(update_fields=["answered", "outcome"])
        is_failure = answered != 200
        if invoice.newest_delivery_failed != is_failure:
            invoices.update(newest_delivery_failed=is_failure)
        # Only a stored delivery queues a task, so that a flood queues few.
        if invoice.webhook_pending_since is not None and conf.get().celery:
            _enqueue_task(invoice)
    return _answer(answered, "settled" if answered == 200 else "try again")


def _enqueue_task(invoice: BitsbyInvoice) -> None:
    """Queue a refresh for what could not be settled now."""
    # Imported here, because only shops that configure it have Celery.
    from oscar_bitsby import tasks

    delay = invoice_refresh.refresh_delay(invoice).total_seconds()
    transaction.on_commit(
        partial(tasks.queue_refresh, invoice, delay), using=router.db_for_write(BitsbyInvoice)
    )


def _record(request: HttpRequest, body: bytes, invoice: BitsbyInvoice) -> WebhookDelivery | None:
    """Store the delivery, at most one per invoice in ``REFRESH_INTERVAL``."""
    now = db_now()
    # One UPDATE decides, so that only one of several concurrent deliveries is stored.
    due = BitsbyInvoice.objects.filter(
        pk=invoice.pk, last_delivery_stored_at__lte=now - invoice_refresh.REFRESH_INTERVAL
    )
    if not due.update(last_delivery_stored_at=now):
        return None
    return _store(request, body, invoice)


def _store_settled(request: HttpRequest, body: bytes, invoice: BitsbyInvoice) -> None:
    """Store a delivery that follows a failure, so that a flood of them stores one."""
    failed = BitsbyInvoice.objects.filter(pk=invoice.pk, newest_delivery_failed=True)
    with transaction.atomic(using=router.db_for_write(BitsbyInvoice)):
        # One UPDATE decides, so that only one of several concurrent deliveries is stored.
        if failed.update(newest_delivery_failed=False, last_delivery_stored_at=db_now()):
            _store(request, body, invoice, answered=200, outcome=SETTLED)


def _store(
    request: HttpRequest, body: bytes, invoice: BitsbyInvoice, **answer: Any
) -> WebhookDelivery:
    return WebhookDelivery.objects.create(
        invoice=invoice,
        remote_address=str(request.META.get("REMOTE_ADDR", ""))[:64],
        headers=_storable_headers(request.headers),
        # PostgreSQL refuses NUL in texts.
        body=body.decode("utf-8", "replace").replace("\x00", ""),
        **answer,
    )


def _storable_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    kept = [name for name in headers if name.lower() not in UNSTORED_HEADERS]
    return {name[:60]: str(headers[name]).replace("\x00", "")[:200] for name in kept[:40]}


def _answer(status: int, text: str) -> HttpResponse:
    response = HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
    if status == 503:
        # Django would log an error with the path, which contains the token, and mail the admins.
        # This answer is an ordinary one.
        response._has_been_logged = True  # type: ignore[attr-defined]
        response["Retry-After"] = str(int(invoice_refresh.REFRESH_INTERVAL.total_seconds()))
    return response
