"""The pages of refunds, for the admin and the dashboard: request one, and carry it out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _

from oscar_bitsby.exceptions import RefundRefused
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund
from oscar_bitsby.settlement import refunds
from oscar_bitsby.staff import refund_forms, refund_summary
from oscar_bitsby.staff.bind_flow import redirect_with_message
from oscar_bitsby.staff.bind_summary import explorer_url
from oscar_bitsby.staff.decision import ActionResult, log_admin_entry
from oscar_bitsby.staff.permissions import require_refund_permission
from oscar_bitsby.staff.refund_subject import (
    RefundSubject,
    open_refund,
    payments_of,
    refund_error,
    reserved_coins,
)
from oscar_bitsby.utils.blockchains import network_name
from oscar_bitsby.utils.money import plain_amount


@dataclass(frozen=True)
class Frame:
    """Where the pages are shown: in the dashboard or in the admin.

    ``refund_url`` and ``payment_url`` return the URL of a refund's page, and of the page that
    requests the refund of a payment. ``back`` is the page that staff came from.
    """

    request_template: str
    page_template: str
    refund_url: Callable[[BitsbyRefund], str]
    payment_url: Callable[[BitsbyPayment], str]
    back: str
    context: dict[str, Any] = field(default_factory=dict)


def refunds_of(order: Any, url: Callable[[BitsbyRefund], str]) -> list[dict[str, Any]]:
    """Return the rows of an order's refunds for its page, newest first; ``url`` links each.

    Each has ``url``, ``state``, ``badge`` (a class), ``amount`` and ``currency``, ``coins`` and
    ``network`` (texts), ``next_step``, ``explorer`` (a URL or empty) and ``refund``.
    """
    rows = order.bitsby_refunds.select_related("order__user").order_by("-pk")
    return [refund_summary.row_of(row, url(row)) for row in rows]


def dashboard_url(refund: BitsbyRefund) -> str:
    """Return the URL of a refund's page in the dashboard."""
    return reverse("oscar_bitsby:dashboard-refund", args=[refund.pk])


def request_view(
    request: HttpRequest,
    frame: Frame,
    *,
    order: Any = None,
    payment: BitsbyPayment | None = None,
) -> HttpResponse:
    """Show the current step of a request, or request the refund when it is confirmed.

    Args:
        order: the order, if no payment was chosen; with a payment that is bound to no order, the
            one whose buyer is asked for the address. The caller has checked that the user may see
            it.
        payment: the payment to refund; its order is that of its invoice, if it has one.

    Raises:
        PermissionDenied: the user may not refund.
    """
    require_refund_permission(request.user)
    context = {"frame": frame, **frame.context}
    if payment is None:
        payments = list(payments_of(order))
        choice = [row for row in payments if refund_error(row, order) == ""]
        if len(choice) > 1:
            rows = [(row, frame.payment_url(row), explorer_url(row)) for row in choice]
            return render(
                request, frame.request_template, context | {"choice": rows, "order": order}
            )
        # One whose refund is open leads to the page of that refund.
        others = [row for row in payments if open_refund(row) is not None] or payments
        payment = next(iter(choice or others), None)
    elif payment.invoice is not None:
        order = payment.invoice.order
    problem = refund_error(payment, order)
    if problem:
        open_one = open_refund(payment) if payment is not None else None
        url = frame.refund_url(open_one) if open_one is not None else frame.back
        return redirect_with_message(request, ActionResult(False, problem), url)
    coins = {} if payment is not None else reserved_coins(order)
    left = refunds.refundable(payment, order)
    return _request_step(request, frame, RefundSubject(payment, order, left, coins))


def _request_step(request: HttpRequest, frame: Frame, subject: RefundSubject) -> HttpResponse:
    labels = [
        (key, f"{coin['cryptocurrency'].upper()}, {_network(coin)}")
        for key, coin in subject.coins.items()
    ]
    data = request.POST if request.method == "POST" else None
    form = refund_forms.RefundForm(
        data, left=subject.left, coins=labels, initial={"seen": subject.newest()}
    )
    if form.is_valid():
        proposed = subject.propose(form.cleaned_data["amount"], form.cleaned_data["coin"])
        chosen = form.cleaned_data["coin_amount"] or proposed
        if chosen is None:
            text = _("Enter how many coins to send: no exchange rate is known.")
            form.add_error("coin_amount", text)
        elif "change" in request.POST:
            # Empty again if it was only proposed, so that it follows another amount.
            if chosen == proposed:
                form.data = {**request.POST.dict(), "coin_amount": ""}
        elif "confirm" not in request.POST:
            shown = _confirmation(form, subject, chosen, proposed)
            return render(
                request, frame.request_template, _context(frame, subject, form) | {"ask": shown}
            )
        else:
            return _request(request, frame, subject, form, chosen)
    return render(request, frame.request_template, _context(frame, subject, form))


def _context(frame: Frame, subject: RefundSubject, form: forms.Form) -> dict[str, Any]:
    payment, left = subject.payment, subject.left
    return frame.context | {
        "frame": frame,
        "form": form,
        "payment": payment,
        "coin": payment.cryptocurrency.upper() if payment is not None else "",
        "network": (
            network_name(payment.blockchain, payment.cryptocurrency) if payment is not None else ""
        ),
        "order": subject.order,
        "customer": refund_summary.customer_of(subject.order),
        "is_mailed": refund_summary.is_mailed(subject.order),
        "explorer": explorer_url(payment),
        "left": left,
        "left_coins": plain_amount(left.coin_amount),
        "proposed_full": plain_amount(subject.propose(left.amount)),
        "proposed_surplus": plain_amount(subject.propose(left.surplus)) if left.surplus > 0 else "",
        "earlier": refund_summary.earlier_refunds(payment, subject.order),
    }


def _network(coin: dict[str, Any]) -> str:
    return network_name(coin["blockchain"], coin["cryptocurrency"])


def _confirmation(
    form: refund_forms.RefundForm, subject: RefundSubject, chosen: Decimal, proposed: Decimal | None
) -> dict[str, Any]:
    """Return what the step of confirming shows and sends again."""
    coin = subject.coins.get(form.cleaned_data["coin"]) or {
        "cryptocurrency": getattr(subject.payment, "cryptocurrency", ""),
        "blockchain": getattr(subject.payment, "blockchain", ""),
    }
    deviation = round((chosen / proposed - 1) * 100, 1) if proposed else None
    return {
        "coin": coin["cryptocurrency"].upper(),
        "network": _network(coin),
        "key": form.cleaned_data["coin"],
        "amount": form.cleaned_data["amount"],
        "coin_amount": plain_amount(chosen),
        "proposed": plain_amount(proposed),
        "deviation": deviation,
        "is_far_off": deviation is not None and abs(deviation) > 5,
        "note": form.cleaned_data["note"],
        "seen": form.cleaned_data["seen"],
    }


def _request(
    request: HttpRequest,
    frame: Frame,
    subject: RefundSubject,
    form: refund_forms.RefundForm,
    coin_amount: Decimal,
) -> HttpResponse:
    data = form.cleaned_data
    newest = subject.newest()
    if data["seen"] is not None and data["seen"] != newest:
        # A second click, or a colleague was faster: another refund would be paid twice.
        url = frame.refund_url(BitsbyRefund.objects.get(pk=newest)) if newest else frame.back
        text = _(
            "A refund was requested in the meantime, perhaps by a second click. No"
            " second refund was requested."
        )
        return redirect_with_message(request, ActionResult(False, text), url)
    coin = subject.coins.get(data["coin"], {})
    try:
        refund = refunds.request_refund(
            user=request.user,
            note=data["note"],
            payment=subject.payment,
            order=subject.order,
            amount=data["amount"],
            coin_amount=coin_amount,
            cryptocurrency=coin.get("cryptocurrency", ""),
            blockchain=coin.get("blockchain", ""),
            newest_seen=data["seen"],
        )
    except RefundRefused as error:
        form.add_error(None, str(error))
        return render(request, frame.request_template, _context(frame, subject, form))
    log_step(request, refund, _("refund requested"), data["note"])
    if refund_summary.is_mailed(refund.order):
        text = _("The refund is requested. The buyer gets an e-mail that asks for an address.")
    else:
        text = _("The refund is requested. No e-mail is sent: find out the address and enter it.")
    return redirect_with_message(request, ActionResult(True, text), frame.refund_url(refund))


def log_step(request: HttpRequest, refund: BitsbyRefund, what: str, note: str = "") -> None:
    """Log a step of a refund in the admin log, if the shop has it."""
    # Never the address: it is erased after some time, and the log is not.
    log_admin_entry(request.user, refund.order, refund, f"{what}: {note}".strip(" :"))
