"""Insert orders, invoices and payments by the thousand; the database generates them."""

import json

from oscar.core.loading import get_model

from bench.databases import fill
from oscar_bitsby.accounting import ledger
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, WebhookDelivery
from tests.support.bitsby import PROJECT, reserved

Order = get_model("order", "Order")
Line = get_model("order", "Line")
Source = get_model("payment", "Source")
Product = get_model("catalogue", "Product")

WALLETS = json.dumps([{**one, "amount": one["amountCrypto"]} for one in reserved("10.00")])
WALLET = reserved("10.00")[0]


def add_orders(count: int, **expressions: str) -> None:
    """Insert pending orders of ten dollars; their keys ``n`` are 1 to ``count``."""
    zero = dict.fromkeys(("shipping_incl_tax", "shipping_excl_tax"), "0")
    columns = {
        "id": "n",
        "number": "'B' || n",
        "currency": "'USD'",
        "total_incl_tax": "10",
        "total_excl_tax": "10",
        "status": "'Pending'",
        "guest_email": "'buyer@example.com'",
        "date_placed": "now() - n * interval '1 second'",
        **zero,
    }
    fill(Order, count, **(columns | expressions))


def add_lines_and_sources(count: int, order: str = "n") -> None:
    """Insert the lines and sources that the checkout creates, for the orders 1 to ``count``."""
    product = Product.objects.get()
    stock = product.stockrecords.get()
    prices = ("line_price_incl_tax", "line_price_excl_tax", "unit_price_incl_tax")
    prices += ("line_price_before_discounts_incl_tax", "line_price_before_discounts_excl_tax")
    fill(
        Line,
        count,
        order_id=order,
        partner_id=str(stock.partner_id),
        stockrecord_id=str(stock.pk),
        product_id=str(product.pk),
        title="'Mug'",
        status="'Pending'",
        num_allocated="1",
        **dict.fromkeys(prices, "10"),
    )
    kind = str(ledger.source_type().pk)
    fill(
        Source, count, order_id=order, source_type_id=kind, currency="'USD'", amount_allocated="10"
    )


def add_invoices(count: int, **expressions: str) -> None:
    """Insert an unpaid invoice, due in 50 minutes, for each of the orders 1 to ``count``."""
    columns = {
        "id": "n",
        "order_id": "n",
        "order_number": "'B' || n",
        "amount": "10",
        "currency": "'USD'",
        "status": "'unpaid'",
        "project_id": f"'{PROJECT}'",
        "bitsby_id": "gen_random_uuid()",
        "uid": "substr(md5(n::text), 1, 12)",
        "url": "'https://dash.bitsby.app/invoices/pay/' || n",
        "wallets": f"'{WALLETS}'::jsonb",
        "created_at": "now() - interval '10 minutes'",
        "expires_at": "now() + interval '50 minutes'",
    }
    fill(BitsbyInvoice, count, **(columns | expressions))


def add_payments(count: int, **expressions: str) -> None:
    """Insert booked payments for the invoices 1 to ``count``, a second apart, newest first."""
    columns = {
        "id": "n",
        "bitsby_id": "gen_random_uuid()",
        "invoice_id": "n",
        "bound_to": f'(SELECT i.bitsby_id FROM "{BitsbyInvoice._meta.db_table}" i WHERE i.id = n)',
        "project_id": f"'{PROJECT}'",
        "amount": "10",
        "fiat_value": "10",
        "currency": "'USD'",
        "cryptocurrency": f"'{WALLET['cryptocurrency']}'",
        "blockchain": f"'{WALLET['blockchain']}'",
        "wallet_id": f"'{WALLET['id']}'",
        "address": f"'{WALLET['address']}'",
        "hash": "md5(n::text) || md5('x' || n)",
        "transaction_at": "date_trunc('second', now()) - n * interval '1 second'",
        "seen_at": "now() - n * interval '1 second'",
        "booked_at": "now() - n * interval '1 second'",
    }
    fill(BitsbyPayment, count, **(columns | expressions))


def add_deliveries(count: int) -> None:
    """Insert a webhook delivery for each of the invoices 1 to ``count``."""
    fill(
        WebhookDelivery,
        count,
        invoice_id="n",
        received_at="now() - n * interval '1 second'",
        body="'{}'",
        answered="200",
        outcome="'settled'",
    )
