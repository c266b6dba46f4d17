"""Show money, coins, wallets and JSON in Django's admin, escaped and without inline styles."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from oscar.templatetags.currency_filters import currency as format_currency

from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.utils.blockchains import network_name, transaction_url
from oscar_bitsby.utils.money import plain_amount

#: JSON from outside can have any number of values. Further ones are not shown.
MAX_VALUES = 300


def money(amount: Any, currency: str) -> str:
    """Return an amount with its currency in the reader's format; without an amount, nothing."""
    return "" if amount is None else str(format_currency(amount, currency))


def coins(amount: Any, coin: str) -> str:
    """Return all digits of an amount with its coin, like "8.5 USDT", to be compared and copied."""
    return f"{plain_amount(amount)} {coin.upper()}".strip()


def long_text(text: Any) -> SafeString:
    """Return a hash or an address that may break anywhere, so that it fits a narrow screen."""
    return format_html('<span class="bitsby-long">{}</span>', text)


def transaction_link(blockchain: str, transaction_hash: str) -> str:
    """Return a transaction hash, linked to a block explorer if one is known."""
    url = transaction_url(blockchain, transaction_hash)
    if not url:
        return long_text(transaction_hash) if transaction_hash else ""
    link = '<a class="bitsby-long" href="{}" rel="noopener noreferrer" target="_blank">{}</a>'
    return format_html(link, url, transaction_hash)


def table(headers: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table; without rows, nothing."""
    titles = [str(title) for title in headers]
    # On a phone each cell stands below the other, with its title.
    body = format_html_join(
        "",
        "<tr>{}</tr>",
        (
            [format_html_join("", '<td data-label="{}">{}</td>', zip(titles, row, strict=True))]
            for row in rows
        ),
    )
    if not body:
        return ""
    head = format_html_join("", '<th scope="col">{}</th>', ([title] for title in titles))
    markup = '<table class="bitsby-table"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>'
    return format_html(markup, head, body)


def wallet_table(wallets: Any) -> str:
    """Return the wallets of an invoice: coin, network, address and the amount reserved there."""
    found = [one for one in wallets if isinstance(one, dict)] if isinstance(wallets, list) else []
    return table(
        (_("Coin"), _("Network"), _("Address"), _("Reserved amount")),
        (
            (
                (coin := str(one.get("cryptocurrency") or "")).upper(),
                network_name(str(one.get("blockchain") or ""), coin),
                long_text(one.get("address") or ""),
                one.get("amount") or _("unknown"),
            )
            for one in found
        ),
    )


def facts_table(value: Any) -> str:
    """Return a table with the names and values of decoded JSON; nested names are joined by dots."""
    facts = _flatten(value)
    rows = [(long_text(name), long_text(text)) for name, text in facts[:MAX_VALUES]]
    if len(facts) > MAX_VALUES:
        rows.append((long_text("…"), long_text("")))
    return table((_("Name"), _("Value")), rows)


def body_table(text: str) -> str:
    """Return the content of a delivery as a table, or as it is if it is not JSON."""
    try:
        # Numbers keep their digits.
        value = json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return long_text(text)
    return facts_table(value) or long_text(text)


def payment_status(payment: BitsbyPayment) -> str:
    """Return the state of a payment in a few words."""
    if payment.needs_review:
        return _("needs a decision: %s") % payment.review_text
    if payment.resolution:
        return payment.get_resolution_display()
    if payment.booked_at is not None:
        return _("booked")
    return _("of another project") if payment.is_foreign else _("not bound to an order")


def _flatten(value: Any) -> list[tuple[str, str]]:
    """Return the names and texts of up to one more than ``MAX_VALUES`` values."""
    facts: list[tuple[str, str]] = []
    # Not recursive: JSON can be nested deeper than Python's stack.
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting and len(facts) <= MAX_VALUES:
        name, value = waiting.pop()
        if isinstance(value, dict | list):
            items = value.items() if isinstance(value, dict) else enumerate(value, start=1)
            waiting.extend(reversed([(f"{name}.{key}".strip("."), one) for key, one in items]))
        else:
            facts.append((name, "" if value is None else str(value)))
    return facts
