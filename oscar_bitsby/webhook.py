"""The webhook: checks what came, records it, has the API asked, and answers. What the delivery
says beyond the invoice's id is never used."""

from __future__ import annotations

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

#: Bytes of a body that are read at most; a delivery has about one thousand.
MAX_BODY_BYTES = 64 * 1024
#: Headers that are not kept with a delivery, since they may hold somebody's secrets.
NOT_KEPT = {"cookie", "authorization", "proxy-authorization"}

# What staff read of a delivery.
ASKED = gettext_noop("asked")
NOT_ASKED = gettext_noop("not asked: no free slot, or asked just now")
SETTLED = gettext_noop("settled")


@csrf_exempt
@transaction.non_atomic_requests
@require_POST
def webhook(request: HttpRequest, token: str = "") -> HttpResponse:
    """Answer a delivery.

    200: the matter is settled, or there is nothing to do. 400: this is no delivery. 503: it could
    not be checked now, or Bitsby does not call the invoice paid yet, so it shall come again.
    """
    try:
        is_ours = conf.get().webhook_token.matches(token)
    except BitsbyError:
        # Without usable settings nothing can be checked; the money waits at Bitsby.
        return _answer(503, "not configured")
    if not is_ours:
        raise Http404("no webhook here")
    body = _read_body(request)
    invoice_id = None if body is None else _invoice_id(body)
    if body is None or invoice_id is None:
        return _answer(400, "not a delivery")
    try:
        return _process(request, body, invoice_id)
    except Exception:
        # Our own fault: Bitsby shall come again when it is mended.
        logger.exception("delivery not dealt with: invoice=%s", invoice_id)
        return _answer(503, "try again")


def _read_body(request: HttpRequest) -> bytes | None:
    try:
        if int(request.META.get("CONTENT_LENGTH") or 0) > MAX_BODY_BYTES:
            return None
        body = request.read(MAX_BODY_BYTES + 1)
    except (OSError, ValueError):
        return None
    return body if len(body) <= MAX_BODY_BYTES else None


def _invoice_id(body: bytes) -> UUID | None:
    try:
        data = json.loads(body)
        invoice = data.get("invoice")
        return parsing.parse_uuid(invoice.get("id"))
    except (ValueError, AttributeError, RecursionError):
        return None


def _process(request: HttpRequest, body: bytes, invoice_id: UUID) -> HttpResponse:
    invoices = BitsbyInvoice.objects.filter(bitsby_id=invoice_id)
    # Most deliveries are about one of these, and a whole row is much to read for them.
    status = invoices.values_list("status", flat=True).first()
    if status == InvoiceStatus.PAID:
        return _answer(200, "settled")
    invoice = invoices.first() if status is not None else None
    if invoice is None:
        return _answer(200, "unknown invoice")
    delivery = _record(request, body, invoice)
    try:
        asked = invoice_refresh.refresh_for_delivery(invoice)
        outcome = ASKED if asked else NOT_ASKED
    except BitsbyError as error:
        outcome = str(error)
    invoice.refresh_from_db(fields=["status", "webhook_pending_since", "last_refreshed_at"])
    is_paid = invoice.status == InvoiceStatus.PAID
    answered = 200 if is_paid else 503
    if is_paid:
        outcome = SETTLED
    if delivery is not None:
        delivery.answered, delivery.outcome = answered, outcome[:300]
        delivery.save(update_fields=["answered", "outcome"])
        # With the same claim as the row: of a flood one in a while is handed on.
        if invoice.webhook_pending_since is not None and conf.get().celery:
            _enqueue_task(invoice)
    return _answer(answered, "settled" if is_paid else "try again")


def _enqueue_task(invoice: BitsbyInvoice) -> None:
    """Have a worker look soon at what could not be settled now."""
    # Imported here, since only shops that say so have Celery.
    from oscar_bitsby import tasks

    delay = invoice_refresh.refresh_delay(invoice).total_seconds()
    transaction.on_commit(
        partial(tasks.queue_refresh, invoice, delay), using=router.db_for_write(BitsbyInvoice)
    )


def _record(request: HttpRequest, body: bytes, invoice: BitsbyInvoice) -> WebhookDelivery | None:
    """Keep the delivery, but of a flood only one in a while."""
    now = db_now()
    # Taken by one UPDATE, so that of deliveries which overlap only one is kept.
    due = BitsbyInvoice.objects.filter(
        pk=invoice.pk, last_delivery_stored_at__lte=now - invoice_refresh.REFRESH_INTERVAL
    )
    if not due.update(last_delivery_stored_at=now):
        return None
    delivery: WebhookDelivery = WebhookDelivery.objects.create(
        invoice=invoice,
        remote_address=str(request.META.get("REMOTE_ADDR", ""))[:64],
        headers=_headers_to_keep(request.headers),
        # PostgreSQL refuses NUL in texts.
        body=body.decode("utf-8", "replace").replace("\x00", ""),
    )
    return delivery


def _headers_to_keep(headers: Mapping[str, Any]) -> dict[str, str]:
    kept = [(name, value) for name, value in headers.items() if name.lower() not in NOT_KEPT]
    return {name[:60]: str(value).replace("\x00", "")[:200] for name, value in kept[:40]}


def _answer(status: int, text: str) -> HttpResponse:
    response = HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
    if status == 503:
        # Django would log it as an error with the path, which holds the token, and mail the
        # admins; here it is a word to Bitsby and nothing that is wrong.
        response._has_been_logged = True  # type: ignore[attr-defined]
        response["Retry-After"] = str(int(invoice_refresh.REFRESH_INTERVAL.total_seconds()))
    return response
