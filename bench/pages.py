"""The pages that staff use, and their URLs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Page:
    """A page: its name and its URL for given values. No page sends a request to Bitsby."""

    name: str
    url: Callable[[Mapping[str, str]], str]
    #: The page exists without the app, too.
    is_extended: bool = False


ADMIN_INVOICES = "/admin/oscar_bitsby/bitsbyinvoice/"
ADMIN_PAYMENTS = "/admin/oscar_bitsby/bitsbypayment/"
ADMIN_DELIVERIES = "/admin/oscar_bitsby/webhookdelivery/"
INVOICES = "/bitsby/dashboard/invoices/"
PAGES = [
    Page("dashboard: payments to review", lambda values: "/bitsby/dashboard/"),
    Page("dashboard: payments to review, last page", lambda values: "/bitsby/dashboard/?page=last"),
    Page("dashboard: payments by reason", lambda values: "/bitsby/dashboard/?reason=short"),
    Page(
        "dashboard: payments by coin and age",
        lambda values: "/bitsby/dashboard/?coin=usdt&age=older",
    ),
    Page("dashboard: payments by order", lambda values: "/bitsby/dashboard/?order=B"),
    Page("dashboard: payments by customer", lambda values: "/bitsby/dashboard/?customer=buyer"),
    Page(
        "dashboard: payments by unknown customer",
        lambda values: "/bitsby/dashboard/?customer=nobody",
    ),
    Page("dashboard: payments by text", lambda values: "/bitsby/dashboard/?q=TKbst"),
    Page("dashboard: payments by value", lambda values: "/bitsby/dashboard/?sort=value"),
    Page("dashboard: payments by time", lambda values: "/bitsby/dashboard/?sort=time"),
    Page(
        "dashboard: resolved payments by text",
        lambda values: "/bitsby/dashboard/?show=done&q=TKbst",
    ),
    Page("dashboard: very small payments", lambda values: "/bitsby/dashboard/?show=dust"),
    Page("dashboard: resolved payments", lambda values: "/bitsby/dashboard/?show=done"),
    Page("dashboard: invoices", lambda values: INVOICES),
    Page("dashboard: invoices, page 40", lambda values: f"{INVOICES}?page=40"),
    Page("dashboard: invoices, last page", lambda values: f"{INVOICES}?page=last"),
    Page("dashboard: invoices by status", lambda values: f"{INVOICES}?status=paid"),
    Page("dashboard: invoices by rare status", lambda values: f"{INVOICES}?status=canceled"),
    Page("dashboard: invoices by currency", lambda values: f"{INVOICES}?currency=USD"),
    Page("dashboard: invoices by rare currency", lambda values: f"{INVOICES}?currency=EUR"),
    Page("dashboard: invoices of a day", lambda values: f"{INVOICES}?{values['day']}"),
    Page("dashboard: invoices with payments to review", lambda values: f"{INVOICES}?attention=on"),
    *(
        Page(
            f"dashboard: invoices by {column}, {way}, {page}",
            # Bound now: each page has its own URL.
            lambda values, column=column, way=way, page=page: (  # type: ignore[misc]
                f"{INVOICES}?sort={column}&dir={way}&page={page}"
            ),
        )
        for column in ("number", "asked", "created")
        for way in ("asc", "desc")
        for page in ("1", "last")
    ),
    Page(
        "dashboard: invoices by status and amount",
        lambda values: f"{INVOICES}?status=canceled&sort=asked",
    ),
    Page("dashboard: search part of new numbers", lambda values: f"{INVOICES}?q={values['end']}"),
    Page("dashboard: search part of old numbers", lambda values: f"{INVOICES}?q={values['begin']}"),
    Page(
        "dashboard: search part, by status",
        lambda values: f"{INVOICES}?q={values['begin']}&status=paid&sort=number",
    ),
    Page("dashboard: search e-mail", lambda values: f"{INVOICES}?email={values['email']}"),
    Page("dashboard: search account", lambda values: f"{INVOICES}?email=staff@example.com"),
    Page("dashboard: search order number", lambda values: f"{INVOICES}?q={values['number']}"),
    Page("dashboard: search Bitsby id", lambda values: f"{INVOICES}?q={values['bitsby_id']}"),
    Page("dashboard: search hash", lambda values: f"{INVOICES}?q={values['hash']}"),
    Page("dashboard: search without a result", lambda values: f"{INVOICES}?q=nowhere"),
    Page(
        "dashboard: overview of a month",
        lambda values: f"/bitsby/dashboard/overview/?month={values['month']}",
    ),
    Page("dashboard: bind a payment", lambda values: f"/bitsby{values['bind']}"),
    Page(
        "dashboard: order with the Bitsby tab",
        lambda values: f"/dashboard/orders/{values['recent']}/",
        is_extended=True,
    ),
    Page("admin: invoices", lambda values: f"{ADMIN_INVOICES}"),
    Page("admin: invoices, last page", lambda values: f"{ADMIN_INVOICES}?p={values['last']}"),
    Page("admin: invoices by status", lambda values: f"{ADMIN_INVOICES}?status__exact=paid"),
    Page("admin: invoices of a day", lambda values: f"{ADMIN_INVOICES}?{values['admin_day']}"),
    Page("admin: invoices, search", lambda values: f"{ADMIN_INVOICES}?q={values['number']}"),
    Page("admin: invoices, search id", lambda values: f"{ADMIN_INVOICES}?q={values['uid']}"),
    Page("admin: invoices, by date", lambda values: f"{ADMIN_INVOICES}?o=4"),
    Page("admin: one invoice", lambda values: f"{ADMIN_INVOICES}{values['pk']}/change/"),
    Page("admin: payments", lambda values: f"{ADMIN_PAYMENTS}"),
    Page(
        "admin: payments by reason", lambda values: f"{ADMIN_PAYMENTS}?review_reason__exact=short"
    ),
    Page("admin: payments, search", lambda values: f"{ADMIN_PAYMENTS}?q={values['number']}"),
    Page("admin: payments, search hash", lambda values: f"{ADMIN_PAYMENTS}?q={values['hash']}"),
    Page("admin: deliveries", lambda values: f"{ADMIN_DELIVERIES}"),
    Page("admin: deliveries, search", lambda values: f"{ADMIN_DELIVERIES}?q={values['number']}"),
    Page(
        "admin: order with the button",
        lambda values: f"/admin/order/order/{values['order']}/change/",
        is_extended=True,
    ),
    Page(
        "admin: bind a payment",
        lambda values: f"/admin/order/order/{values['order']}/bitsby/",
    ),
]
