"""The database of a shop for P7: a year of orders, invoices, payments and deliveries."""

import datetime as dt
import json
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.utils import timezone

from bench import rows
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, GatewayState
from oscar_bitsby.models.invoice import email_keys
from oscar_bitsby.staff.pagination import MAX_COUNT

#: How many invoices have a rare status and a rare currency: the oldest ones.
RARE_COUNT = 5
UNBOUND_COUNT = 60
#: The address that twenty invoices have.
EMAIL = "buyer@example.com"


def furnish(size: int) -> None:
    """Fill this process's database, and print as JSON the values that URLs of pages need."""
    apart = f"interval '{365 * 86400 / size} seconds'"
    since = f"({size} - n) * {apart}"
    rows.add_orders(
        size,
        status="CASE WHEN (n - 1) % 10 < 7 THEN 'Being processed' ELSE 'Cancelled' END",
        date_placed=f"now() - {since}",
    )
    recent = min(size, 1_000)
    rows.add_lines_and_sources(recent, order=f"{size - recent} + n")
    rows.add_invoices(
        size,
        status=f"CASE WHEN n <= {RARE_COUNT} THEN 'canceled' WHEN (n - 1) % 10 < 7 THEN 'paid'"
        " ELSE 'expired' END",
        currency=f"CASE WHEN n <= {RARE_COUNT} THEN 'EUR' ELSE 'USD' END",
        created_at=f"now() - {since}",
        expires_at=f"now() - {since} + interval '1 hour'",
        ended_at=f"CASE WHEN (n - 1) % 10 >= 7 THEN now() - {since} + interval '1 hour' END",
        order_awaits_payment="false",
        email_key=f"CASE WHEN n % {size // 20} = 1 THEN '{email_keys(EMAIL)[0]}'"
        " ELSE md5(n::text) || md5('e' || n) END",
        amount="10 + n % 400 / 100.0",
    )
    _add_payments(size * 7 // 10, size, apart)
    rows.add_deliveries(size)
    GatewayState.ensure_exists()
    with connection.cursor() as cursor:
        # Autovacuum does this later in a real shop. Without it, the first requests would be slower.
        cursor.execute("VACUUM ANALYZE")
    print(json.dumps(_url_values(size)))


def _add_payments(count: int, size: int, apart: str) -> None:
    invoice = "((n - 1) / 7 * 10 + (n - 1) % 7 + 1)"
    table = BitsbyInvoice._meta.db_table
    staff = get_user_model().objects.get().pk
    needs_review = 40 if size <= 1_000 else 2_000
    step = max(2, count // needs_review)
    rows.add_payments(
        count,
        invoice_id=invoice,
        bound_to=f'(SELECT i.bitsby_id FROM "{table}" i WHERE i.id = {invoice})',
        transaction_at=f"now() - ({size} - {invoice}) * {apart}",
        seen_at=f"now() - ({size} - {invoice}) * {apart}",
        # One of `step` payments needs review, the next one is resolved.
        review_reason=f"CASE WHEN n % {step} < 2 THEN 'short' ELSE '' END",
        resolved_at=f"CASE WHEN n % {step} = 1 THEN now() - n * interval '1 second' END",
        resolution=f"CASE WHEN n % {step} = 1 THEN 'accepted' ELSE '' END",
        resolved_by_id=f"CASE WHEN n % {step} = 1 THEN {staff} END",
    )
    unbound = {
        "invoice_id": "NULL::bigint",
        "bound_to": "NULL::uuid",
        "fiat_value": "NULL::numeric",
        "booked_at": "NULL::timestamptz",
        "review_reason": "'unmatched'",
        "transaction_at": "now() - n * interval '40 minutes'",
        "seen_at": "now() - n * interval '40 minutes'",
    }
    rows.add_payments(UNBOUND_COUNT, id=f"{count} + n", hash="md5('unbound' || n)", **unbound)
    dust = {"amount": "0.000001", "is_dust": "true", "hash": "md5('dust' || n)"}
    rows.add_payments(needs_review, id=f"{count + UNBOUND_COUNT} + n", **(unbound | dust))


def _url_values(size: int) -> dict[str, str]:
    client = Client()
    client.force_login(get_user_model().objects.get())
    middle: Any = BitsbyInvoice.objects.get(pk=size // 20 * 10 + 1)
    payment = BitsbyPayment.objects.filter(invoice=middle).get()
    # It expired recently, so staff would bind payments to it.
    last = BitsbyInvoice.objects.filter(status=InvoiceStatus.EXPIRED).latest("pk")
    day = timezone.localdate(middle.created_at)
    return {
        "session": client.cookies["sessionid"].value,
        "number": middle.order_number,
        # The beginning of eleven numbers or, in the large shop, of many old ones.
        "begin": middle.order_number[: max(3, len(middle.order_number) - 4)],
        "end": last.order_number[-3:],
        "email": EMAIL,
        "uid": middle.uid,
        "pk": str(middle.pk),
        "bitsby_id": str(middle.bitsby_id),
        "hash": payment.hash,
        "day": f"date_from={day}&date_to={day + dt.timedelta(days=1)}",
        # A complete one: one of twelve has a twelfth of all rows.
        "month": f"{day.replace(day=1) - dt.timedelta(days=1):%Y-%m}",
        "admin_day": urlencode(
            {
                "created_at__gte": f"{day} 00:00:00+00:00",
                "created_at__lt": f"{day + dt.timedelta(days=2)} 00:00:00+00:00",
            }
        ),
        "order": str(last.order_id),
        "bind": f"/dashboard/orders/{last.order_id}/bind/",
        # The admin shows fifty on a page and counts no further than MAX_COUNT.
        "last": str((min(size, MAX_COUNT) - 1) // 50 + 1),
        "recent": last.order_number,
    }
