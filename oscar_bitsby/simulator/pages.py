"""The payment page, where a person plays the buyer: what it shows and what its buttons do."""

from collections.abc import Mapping
from html import escape
from urllib.parse import urlencode

from . import serializers
from .account import Account
from .answers import Answer, not_found_page, page, redirect
from .parameters import parse_crypto_amount
from .state import PAID, UNPAID, Invoice, Refused
from .wallets import WALLETS, WALLETS_BY_ID, Wallet

CHAINS = {
    "bnbSmartChain": "BNB Smart Chain",
    "ethereum": "Ethereum",
    "tron": "Tron",
    "bitcoin": "Bitcoin",
}

STATUS_TEXTS = {
    "unpaid": "Waiting for payment",
    "paid": "Paid",
    "expired": "Expired",
    "canceled": "Canceled",
}

BAD_AMOUNT = "Enter a positive amount such as 11.45, with at most 8 decimals."


def show(account: Account, uid: str, query: Mapping[str, str], *, viewed: bool) -> Answer:
    """Show the payment page; ``viewed`` counts it as a look by the buyer."""
    with account.state.lock:
        try:
            invoice = account.state.invoice_by_uid(uid)
        except Refused:
            return not_found_page()
        if viewed:
            invoice.views += 1
        return _render(account, invoice, _transfer_note(account, invoice, query.get("sent", "")))


def act(account: Account, uid: str, fields: Mapping[str, str]) -> Answer:
    """Do what a button of the payment page says and show the page again."""
    with account.state.lock:
        try:
            invoice = account.state.invoice_by_uid(uid)
        except Refused:
            return not_found_page()
        if fields.get("action") == "expire":
            try:
                account.state.expire(invoice)
            except Refused as refusal:
                return _render(account, invoice, _note(str(refusal), bad=True), status=409)
            return redirect(f"/invoices/pay/{uid}")
        wallet = WALLETS_BY_ID.get(fields.get("wallet", ""))
        if wallet is None or fields.get("action") not in ("exact", "other"):
            return _render(account, invoice, _note("Unknown button.", bad=True), status=400)
        amount = invoice.reserved[wallet.id]
        if fields["action"] == "other":
            typed = fields.get("amount", "").strip()
            try:
                amount = parse_crypto_amount(typed)
            except ValueError:
                note = _note(f"{BAD_AMOUNT} Nothing was sent.", bad=True)
                return _render(account, invoice, note, wrong=(wallet, typed), status=400)
        payment = account.state.transfer(wallet, amount)
        return redirect(f"/invoices/pay/{uid}?{urlencode({'sent': payment.id})}")


def _note(text: str, *, bad: bool = False) -> str:
    kind, role = ("note bad", "alert") if bad else ("note", "status")
    return f'<div class="{kind}" role="{role}">{escape(text)}</div>'


def _transfer_note(account: Account, invoice: Invoice, payment_id: str) -> str:
    try:
        payment = account.state.payment(payment_id)
    except Refused:
        return ""
    money = f"{serializers.crypto(payment.amount)} {payment.wallet.cryptocurrency}"
    if payment.invoice is invoice:
        return _note(f"{money} arrived and paid this invoice.")
    if payment.invoice is not None:
        return _note(f"{money} arrived and paid another invoice.", bad=True)
    return _note(
        f"{money} arrived but matches no invoice that waits for it: the payment stays unbound.",
        bad=True,
    )


def _render(
    account: Account,
    invoice: Invoice,
    note: str,
    *,
    wrong: tuple[Wallet, str] | None = None,
    status: int = 200,
) -> Answer:
    price = f"{serializers.fiat(invoice.amount)} {invoice.currency}"
    cards = "\n".join(
        _wallet_card(invoice, wallet, wrong[1] if wrong and wrong[0] is wallet else None)
        for wallet in WALLETS
    )
    wallets = f'<div class="grid">\n{cards}\n</div>'
    if invoice.status != UNPAID:
        opened = "" if invoice.status == PAID and not wrong else " open"
        wallets = f"""<details class="card"{opened}>
<summary>Send money all the same</summary>
<p class="soft">This invoice no longer waits for money: what arrives now stays unbound.</p>
{wallets}
</details>"""
    content = f"""{note}
<section class="card">
<p class="soft">{escape(serializers.PROJECT_NAME)}</p>
<h1>{escape(invoice.description or "Invoice")}</h1>
<p class="amount">{price}</p>
<p><span class="status {invoice.status}">{STATUS_TEXTS[invoice.status]}</span>
{_timing(account, invoice)}</p>
<p class="soft">Invoice <span class="mono">{invoice.uid}</span></p>
{_expire_form(invoice)}
</section>
{wallets}"""
    return page(f"{price}, {STATUS_TEXTS[invoice.status].lower()}", content, status)


def _timing(account: Account, invoice: Invoice) -> str:
    if invoice.status == UNPAID:
        left = max(0, int((invoice.pay_until - account.clock.now()).total_seconds()))
        minutes, seconds = divmod(left, 60)
        hours, minutes = divmod(minutes, 60)
        return (
            f"<span>Time left: <strong>{hours}:{minutes:02}:{seconds:02}</strong></span> "
            f'<span class="soft">until {serializers.stamp(invoice.pay_until)} UTC</span>'
        )
    if invoice.status == PAID and invoice.payment is not None:
        paid = invoice.payment
        return (
            f"with {serializers.crypto(paid.amount)} {paid.wallet.cryptocurrency} "
            f'<span class="soft">on {serializers.stamp(paid.seen)} UTC, transaction '
            f'<span class="mono">{escape(paid.hash)}</span></span>'
        )
    until = serializers.stamp(invoice.pay_until)
    return f'<span class="soft">it could be paid until {until} UTC</span>'


def _expire_form(invoice: Invoice) -> str:
    if invoice.status != UNPAID:
        return ""
    return """<form method="post">
<button class="bad" name="action" value="expire">Let it expire now</button>
</form>"""


def _wallet_card(invoice: Invoice, wallet: Wallet, wrong: str | None) -> str:
    coin, chain = wallet.cryptocurrency.upper(), CHAINS[wallet.blockchain]
    marked = "" if wrong is None else ' aria-invalid="true" autofocus'
    hidden = f'<input type="hidden" name="wallet" value="{wallet.id}">'
    return f"""<section class="card" aria-labelledby="name-{wallet.id}">
<h2 id="name-{wallet.id}">{coin} on {chain}</h2>
<p class="exact mono">{serializers.crypto(invoice.reserved[wallet.id])} {wallet.cryptocurrency}</p>
<p class="soft">to <span class="mono">{wallet.address}</span></p>
<form method="post">{hidden}
<button class="main" name="action" value="exact">Pay exactly</button>
</form>
<form method="post">{hidden}
<label for="amount-{wallet.id}">Another amount in {wallet.cryptocurrency}</label>
<div class="row"><input id="amount-{wallet.id}" name="amount" inputmode="decimal"
autocomplete="off" value="{escape(wrong or "")}"{marked}>
<button name="action" value="other">Pay another amount</button></div>
</form>
</section>"""
