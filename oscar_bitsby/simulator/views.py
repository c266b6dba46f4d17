"""The HTTP side: the API, the commands of tests, and the pages that people open."""

import json
import socket
import time
from collections.abc import Callable

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseForbidden,
    HttpResponseRedirect,
    JsonResponse,
    UnreadablePostError,
)
from django.http.multipartparser import MultiPartParserError
from django.shortcuts import render
from django.views.decorators.http import require_POST

from . import api, serializers
from .account import Account
from .control import COMMANDS, Json, read_state
from .parameters import parse_crypto_amount
from .state import UNPAID, Invoice, Refused
from .wallets import WALLETS, WALLETS_BY_ID

# Pages show what buyers and shops wrote; nothing in them may run or load anything.
PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
}
FORM_TYPES = ("multipart/form-data", "application/x-www-form-urlencoded")
# The largest number of invoices and of payments on the overview.
MAX_SHOWN = 100
BAD_AMOUNT = "Enter a positive amount such as 11.45, with at most 8 decimals. Nothing was sent."


def refuse_other_sites(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Refuse forms of other sites, which any page open in the developer's browser could send."""

    def middleware(request: HttpRequest) -> HttpResponse:
        own = f"http://{request.headers.get('Host')}"
        if request.method == "POST" and request.headers.get("Origin", own) != own:
            response: HttpResponse = HttpResponseForbidden(
                "Requests from pages of other sites are refused.\n", content_type="text/plain"
            )
        else:
            response = get_response(request)
        response["X-Content-Type-Options"] = "nosniff"
        return response

    return middleware


def call_api(request: HttpRequest) -> HttpResponse:
    """Answer an API request, or do what a fault says that a test has set."""
    arrived = time.monotonic()
    account, path = _account(request), request.path_info
    if request.method != "POST":
        if path in api.ENDPOINTS:
            return JsonResponse(api.error("Use POST"), status=405)
        return _not_found(request)
    fields = _read_fields(request)
    authorized = account.authorizes(request.headers.get("Authorization", ""))
    accepted = account.traffic.admit(arrived, path, fields or {}, authorized)
    if not authorized:
        return JsonResponse(api.error(api.WRONG_TOKEN))
    if not accepted:
        return JsonResponse(api.error(api.TOO_FREQUENT))
    fault = account.traffic.next_fault(path)
    if fault is not None:
        if fault.kind in ("status", "body"):
            body = b"" if fault.http_status in (204, 304) else fault.body.encode()
            return HttpResponse(body, fault.content_type, fault.http_status)
        if fault.kind == "drop":
            return _hang_up(request)
        time.sleep(fault.seconds)
    if path not in api.ENDPOINTS:
        return JsonResponse(api.error("Unknown method"), status=404)
    if fields is None:
        return JsonResponse(api.error("Malformed form"))
    reply = api.answer(account, path, fields)
    if fault is not None and fault.kind == "drop_after":
        return _hang_up(request)
    return JsonResponse(reply)


def control(request: HttpRequest, command: str) -> JsonResponse:
    """Run a command of a test; answer 400 with the reason if that is not possible."""
    run = (COMMANDS if request.method == "POST" else {"state": read_state}).get(command)
    if run is None:
        return JsonResponse({"error": "Unknown command"}, status=404)
    try:
        data: Json = json.loads(request.body or b"{}")
        if not isinstance(data, dict):
            raise Refused("The body is a JSON object")
        return JsonResponse(run(_account(request), data))
    except (Refused, ValueError, OverflowError) as err:
        return JsonResponse({"error": str(err)}, status=400)


def overview(request: HttpRequest) -> HttpResponse:
    """Show the newest invoices and payments."""
    account = _account(request)
    with account.state.lock:
        invoices, payments = account.state.invoices(), account.state.payments()
        context = {
            "account": account,
            "now": account.clock.now(),
            "open_invoices": [one for one in invoices if one.status == UNPAID][:MAX_SHOWN],
            "invoices": invoices[:MAX_SHOWN],
            "invoice_count": len(invoices),
            "payments": payments[:MAX_SHOWN],
            "payment_count": len(payments),
            "max_shown": MAX_SHOWN,
        }
        return _page(request, "overview.html", context)


@require_POST
def switch_webhooks(request: HttpRequest) -> HttpResponse:
    """Turn webhooks on or off."""
    _account(request).webhooks.enabled = request.POST.get("enabled") == "1"
    return _redirect("/")


def payment_page(request: HttpRequest, uid: str) -> HttpResponse:
    """Show what to pay and count the view, or do what a button of the page says.

    With ``?wallet`` no view is counted: the buyer pays from a wallet and never opens this page.
    """
    account = _account(request)
    with account.state.lock:
        try:
            invoice = account.state.invoice_by_uid(uid)
        except Refused:
            return _not_found(request)
        if request.method == "POST":
            return _press_button(request, account, invoice)
        if request.method == "GET" and "wallet" not in request.GET:
            invoice.views += 1
        try:
            payment = account.state.payment(request.GET.get("sent", ""))
        except Refused:
            payment = None
        return _payment_page(request, invoice, {"sent": payment})


def _press_button(request: HttpRequest, account: Account, invoice: Invoice) -> HttpResponse:
    fields = _read_fields(request) or {}
    action, wallet = fields.get("action"), WALLETS_BY_ID.get(fields.get("wallet", ""))
    if action == "expire":
        try:
            account.state.expire(invoice)
        except Refused as refusal:
            return _payment_page(request, invoice, {"problem": str(refusal)}, 409)
        return _redirect(request.get_full_path())
    if wallet is None or action not in ("exact", "other"):
        return _payment_page(request, invoice, {"problem": "Unknown button."}, 400)
    amount = invoice.reserved[wallet.id]
    if action == "other":
        typed = fields.get("amount", "").strip()
        try:
            amount = parse_crypto_amount(typed)
        except ValueError:
            context = {"problem": BAD_AMOUNT, "wrong_wallet": wallet, "typed": typed}
            return _payment_page(request, invoice, context, 400)
    payment = account.state.transfer(wallet, amount)
    wallet_only = "wallet&" if "wallet" in request.GET else ""
    return _redirect(f"{request.path}?{wallet_only}sent={payment.id}")


def _payment_page(
    request: HttpRequest, invoice: Invoice, context: dict[str, object], status: int = 200
) -> HttpResponse:
    is_unpaid = invoice.status == UNPAID
    left = max(0, int((invoice.pay_until - _account(request).clock.now()).total_seconds()))
    minutes, seconds = divmod(left, 60)
    context |= {
        "invoice": invoice,
        "is_wallet": "wallet" in request.GET,
        "status_text": "Waiting for payment" if is_unpaid else invoice.status.capitalize(),
        "project_name": serializers.PROJECT_NAME,
        "time_left": f"{minutes // 60}:{minutes % 60:02}:{seconds:02}",
        "reserved": [(wallet, invoice.reserved[wallet.id]) for wallet in WALLETS],
    }
    return _page(request, "payment.html", context, status)


def _not_found(request: HttpRequest) -> HttpResponse:
    return _page(request, "not_found.html", {}, 404)


def _page(
    request: HttpRequest, template: str, context: dict[str, object], status: int = 200
) -> HttpResponse:
    response = render(request, template, context, status=status)
    for name, value in PAGE_HEADERS.items():
        response[name] = value
    return response


def _redirect(location: str) -> HttpResponse:
    """Send the browser on after a form, so that reloading does not post it again."""
    response = HttpResponseRedirect(location)
    response.status_code = 303
    return response


def _account(request: HttpRequest) -> Account:
    account: Account = request.META["simulator.account"]
    return account


def _read_fields(request: HttpRequest) -> dict[str, str] | None:
    """Return the fields of a form, or None if the body is no form or was cut off."""
    try:
        if len(request.body) < int(request.headers.get("Content-Length") or 0):
            return None
        if request.content_type in FORM_TYPES:
            return request.POST.dict()
    except (BadRequest, SuspiciousOperation, MultiPartParserError, UnreadablePostError):
        return None
    return None if request.body else {}


def _hang_up(request: HttpRequest) -> HttpResponse:
    """Close the connection without an answer, which no response can do."""
    request.META["simulator.connection"].shutdown(socket.SHUT_RDWR)
    return HttpResponse()
