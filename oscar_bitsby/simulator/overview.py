"""The front page: all invoices and payments at a glance, and the switch for webhooks."""

from collections.abc import Mapping
from html import escape

from . import serializers
from .account import Account
from .answers import Answer, page, redirect
from .state import Invoice, Payment

SHOWN = 100


def show(account: Account) -> Answer:
    """Show the newest invoices and payments."""
    with account.state.lock:
        now = serializers.stamp(account.clock.now())
        invoices, payments = account.state.invoices(), account.state.payments()
        content = f"""<section class="card">
<h1>Bitsby simulator</h1>
<p class="soft">It answers the API at <span class="mono">{account.base_url}</span>.
Its clock shows {now} UTC.</p>
{_webhooks(account)}
</section>
{_invoices(invoices)}
{_payments(payments)}"""
    return page("Invoices and payments", content)


def switch_webhooks(account: Account, fields: Mapping[str, str]) -> Answer:
    """Turn webhooks on or off, as the button says."""
    account.webhooks.enabled = fields.get("enabled") == "1"
    return redirect("/")


def _webhooks(account: Account) -> str:
    webhooks = account.webhooks
    state, button, value = ("on", "off", "0") if webhooks.enabled else ("off", "on", "1")
    if webhooks.url:
        where = f'Deliveries go to <span class="mono">{escape(webhooks.url)}</span>.'
    else:
        where = "No address is set: start with <code>--webhook-url</code> to get deliveries."
    return f"""<p>Webhooks are <strong>{state}</strong>. {where}</p>
<form method="post" action="/webhooks">
<button name="enabled" value="{value}">Turn webhooks {button}</button>
</form>"""


def _invoices(invoices: list[Invoice]) -> str:
    rows = [
        f"""<tr><td><a class="mono" href="/invoices/pay/{one.uid}">{one.uid}</a></td>
<td><span class="status {one.status}">{one.status}</span></td>
<td>{serializers.fiat(one.amount)} {one.currency}</td>
<td class="text">{escape(one.description or "")}</td>
<td class="mono text">{escape(one.service_data or "")}</td>
<td>{serializers.stamp(one.created)}</td><td>{one.views}</td></tr>"""
        for one in invoices[:SHOWN]
    ]
    heads = ("Invoice", "Status", "Amount", "Description", "Service data", "Created", "Views")
    return _table("Invoices", len(invoices), heads, rows)


def _payments(payments: list[Payment]) -> str:
    rows = [
        f"""<tr><td>{serializers.crypto(one.amount)} {one.wallet.cryptocurrency}</td>
<td>{one.wallet.name}</td>
<td>{_bound_to(one)}</td>
<td>{serializers.stamp(one.seen)}</td>
<td class="mono">{one.id}</td></tr>"""
        for one in payments[:SHOWN]
    ]
    return _table("Payments", len(payments), ("Amount", "Wallet", "Invoice", "Seen", "Id"), rows)


def _bound_to(payment: Payment) -> str:
    if payment.invoice is None:
        return '<span class="status">unbound</span>'
    uid = payment.invoice.uid
    return f'<a class="mono" href="/invoices/pay/{uid}">{uid}</a>'


def _table(title: str, count: int, heads: tuple[str, ...], rows: list[str]) -> str:
    if not rows:
        body = '<p class="soft">None yet.</p>'
    else:
        head = "".join(f'<th scope="col">{text}</th>' for text in heads)
        body = f"""<div class="scroll" tabindex="0" role="region" aria-label="{title}"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{"".join(rows)}
</tbody></table></div>"""
    more = f'<p class="soft">The newest {SHOWN} are shown.</p>' if count > SHOWN else ""
    return f'<section class="card"><h2>{title} ({count})</h2>\n{body}{more}</section>'
