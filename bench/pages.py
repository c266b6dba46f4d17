"""The pages that staff use, and their addresses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Page:
    """A page: its name, its address by the facts of a database, and whether it asks Bitsby."""

    name: str
    address: Callable[[Mapping[str, str]], str]
    asks: bool = False
    #: Oscar or Django has the page without the app too.
    is_theirs: bool = False


RECORDS = "/admin/oscar_bitsby/bitsbyinvoice/"
PAYMENTS = "/admin/oscar_bitsby/bitsbypayment/"
DELIVERIES = "/admin/oscar_bitsby/webhookdelivery/"
INVOICES = "/bitsby/dashboard/invoices/"
PAGES = [
    Page("dashboard: payments to review", lambda facts: "/bitsby/dashboard/"),
    Page("dashboard: payments to review, last page", lambda facts: "/bitsby/dashboard/?page=last"),
    Page("dashboard: resolved payments", lambda facts: "/bitsby/dashboard/?show=done"),
    Page("dashboard: invoices", lambda facts: INVOICES),
    Page("dashboard: invoices, page 40", lambda facts: f"{INVOICES}?page=40"),
    Page("dashboard: invoices, last page", lambda facts: f"{INVOICES}?page=last"),
    Page("dashboard: invoices by status", lambda facts: f"{INVOICES}?status=paid"),
    Page("dashboard: invoices by rare status", lambda facts: f"{INVOICES}?status=canceled"),
    Page("dashboard: invoices by currency", lambda facts: f"{INVOICES}?currency=USD"),
    Page("dashboard: invoices by rare currency", lambda facts: f"{INVOICES}?currency=EUR"),
    Page("dashboard: invoices of a day", lambda facts: f"{INVOICES}?{facts['day']}"),
    Page("dashboard: invoices, attention", lambda facts: f"{INVOICES}?attention=on"),
    Page("dashboard: search order number", lambda facts: f"{INVOICES}?q={facts['number']}"),
    Page("dashboard: search Bitsby id", lambda facts: f"{INVOICES}?q={facts['bitsby_id']}"),
    Page("dashboard: search hash", lambda facts: f"{INVOICES}?q={facts['hash']}"),
    Page("dashboard: search nothing found", lambda facts: f"{INVOICES}?q=nowhere"),
    Page("dashboard: bind a payment", lambda facts: f"/bitsby{facts['bind']}", asks=True),
    Page(
        "dashboard: order with our tab",
        lambda facts: f"/dashboard/orders/{facts['recent']}/",
        is_theirs=True,
    ),
    Page("admin: invoices", lambda facts: f"{RECORDS}"),
    Page("admin: invoices, last page", lambda facts: f"{RECORDS}?p={facts['last']}"),
    Page("admin: invoices by status", lambda facts: f"{RECORDS}?status__exact=paid"),
    Page("admin: invoices of a day", lambda facts: f"{RECORDS}?{facts['admin_day']}"),
    Page("admin: invoices, search", lambda facts: f"{RECORDS}?q={facts['number']}"),
    Page("admin: invoices, search id", lambda facts: f"{RECORDS}?q={facts['uid']}"),
    Page("admin: invoices, by date", lambda facts: f"{RECORDS}?o=5"),
    Page("admin: one invoice", lambda facts: f"{RECORDS}{facts['pk']}/change/"),
    Page("admin: payments", lambda facts: f"{PAYMENTS}"),
    Page("admin: payments by reason", lambda facts: f"{PAYMENTS}?review_reason__exact=short"),
    Page("admin: payments, search", lambda facts: f"{PAYMENTS}?q={facts['number']}"),
    Page("admin: payments, search hash", lambda facts: f"{PAYMENTS}?q={facts['hash']}"),
    Page("admin: deliveries", lambda facts: f"{DELIVERIES}"),
    Page("admin: deliveries, search", lambda facts: f"{DELIVERIES}?q={facts['number']}"),
    Page(
        "admin: order with the button",
        lambda facts: f"/admin/order/order/{facts['order']}/change/",
        is_theirs=True,
    ),
    Page(
        "admin: bind a payment",
        lambda facts: f"/admin/order/order/{facts['order']}/bitsby/",
        asks=True,
    ),
]
