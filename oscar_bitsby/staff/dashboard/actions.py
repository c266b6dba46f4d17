"""The actions of the dashboard: each is a POST and checks the permission to move money."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy
from django.views.generic import View

from oscar_bitsby import conf
from oscar_bitsby.accounting.matching import suggest_invoices
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.gateway import factory
from oscar_bitsby.gateway.parsing import strip_unstorable
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.orders.stage import OrderStage, order_stage
from oscar_bitsby.orders.transitions import UsedUpDiscount
from oscar_bitsby.reconciliation import invoice_refresh
from oscar_bitsby.settlement import short_payments
from oscar_bitsby.staff import bind_flow, bind_summary, binding, permissions, review
from oscar_bitsby.staff.dashboard.access import DashboardMixin, order_page
from oscar_bitsby.staff.dashboard.payment_filters import list_url
from oscar_bitsby.staff.dashboard.payment_value import PaymentValue
from oscar_bitsby.staff.decision import ActionResult
from oscar_bitsby.utils import i18n
from oscar_bitsby.utils.money import parse_typed_amount, to_cents


@dataclass(frozen=True)
class PaymentAction:
    """An action on a payment: its label, an explanation for staff, and its function."""

    label: Any
    explanation: Any
    do: Callable[[BitsbyPayment, Any, str, Decimal | None], ActionResult]
    needs_note: bool = False
    #: Returns why the action is not possible, or nothing.
    why_not: Callable[[BitsbyPayment], str] = lambda payment: ""


def _why_not_reinstate(payment: BitsbyPayment) -> str:
    order = payment.invoice.order if payment.invoice else None
    if order is None or order_stage(conf.get(), order) is not OrderStage.CANCELLED:
        return ""
    return review.why_not_reinstate(order)


ACTIONS = {
    "accept": PaymentAction(
        gettext_lazy("Accept"),
        gettext_lazy(
            "The payment is booked at its value if it is not booked yet. Its order becomes paid if"
            " it is still pending. The order's page keeps showing the difference. The buyer is told"
            " that the payment was received."
        ),
        lambda payment, user, note, fiat_value: review.accept(payment.pk, user, note, fiat_value),
    ),
    "ask": PaymentAction(
        gettext_lazy("Ask for the rest"),
        gettext_lazy(
            "The order waits for the rest: its buyer gets an e-mail with what was received, what is"
            " missing and a link to pay it. If the rest does not arrive in time, the payment is in"
            " Payments to review again."
        ),
        lambda payment, user, note, fiat_value: review.ask(payment.pk, user, note),
        why_not=short_payments.why_not_ask,
    ),
    "settle": PaymentAction(
        gettext_lazy("Reinstate"),
        gettext_lazy(
            "The cancelled order becomes paid and its stock is reserved. If there is not enough"
            " stock, nothing is changed and the payment stays in Payments to review."
        ),
        lambda payment, user, note, fiat_value: review.reinstate(payment.pk, user, note),
        why_not=_why_not_reinstate,
    ),
    "dismiss": PaymentAction(
        gettext_lazy("Dismiss"),
        gettext_lazy(
            "Dismissed payments leave Payments to review, for example because they are not for this"
            " shop. What is booked stays booked, and nothing is refunded. You can undo this."
        ),
        lambda payment, user, note, fiat_value: review.dismiss(payment.pk, user, note),
        needs_note=True,
    ),
    "undo": PaymentAction(
        pgettext_lazy("bitsby", "Undo"),
        gettext_lazy("The dismissal is undone: the payment is in Payments to review again."),
        lambda payment, user, note, fiat_value: review.undo(payment.pk, user),
    ),
}


class PaymentActionView(DashboardMixin, View):
    """Ask for confirmation of an action on a payment, then carry it out."""

    require_permission = staticmethod(permissions.require_money_permission)

    def get(self, request: HttpRequest, pk: int, action: str) -> HttpResponse:
        return self._ask(request, pk, action)

    def post(self, request: HttpRequest, pk: int, action: str) -> HttpResponse:
        chosen, payment = _find(pk, action)
        note = strip_unstorable(request.POST.get("note", ""))
        try:
            fiat_value = _parse_fiat_value(request.POST.get("fiat_value", ""))
        except ValueError:
            return self._ask(request, pk, action, _("The value is not a valid amount."))
        if chosen.needs_note and not note.strip():
            return self._ask(request, pk, action, _("Enter a reason: others may need it later."))
        if request.POST.get("seen") not in (None, " ".join(payment.review_reasons)):
            # For example, it was booked meanwhile, and what is to decide now is its surplus.
            text = _("This payment has just changed. Check it again.")
            return self._ask(request, pk, action, text)
        used_up = ", ".join(map(str, _used_up_discounts(payment, action)))
        if used_up and used_up != request.POST.get("used_up"):
            text = _("A voucher or offer of this order has just been used up. Check it below.")
            return self._ask(request, pk, action, text)
        try:
            result = chosen.do(payment, request.user, note, fiat_value)
        except BitsbyError as error:
            result = ActionResult(False, str(error))
        url = list_url(request.GET.get("list", ""))
        return bind_flow.redirect_with_message(request, result, url)

    def _ask(self, request: HttpRequest, pk: int, action: str, error: str = "") -> HttpResponse:
        chosen, payment = _find(pk, action)
        match = suggest_invoices([payment]).found.get(payment.pk)
        context = {"payment": payment, "action": chosen, "error": error}
        context["note"] = request.POST.get("note", "")
        context["value"] = PaymentValue.of(payment, match)
        context["explorer"] = bind_summary.explorer_url(payment)
        context["list_url"] = list_url(request.GET.get("list", ""))
        context["asks_fiat_value"] = action == "accept" and payment.fiat_value is None
        context["used_up"] = _used_up_discounts(payment, action)
        context["why_not"] = chosen.why_not(payment)
        return render(request, "oscar_bitsby/dashboard/payment_action.html", context)


def _used_up_discounts(payment: BitsbyPayment, action: str) -> list[UsedUpDiscount]:
    return review.used_up_discounts(payment) if action == "settle" else []


def _find(pk: int, action: str) -> tuple[PaymentAction, BitsbyPayment]:
    if action not in ACTIONS:
        raise Http404
    payments = BitsbyPayment.objects.select_related("invoice__order")
    payment: BitsbyPayment = get_object_or_404(payments, pk=pk)
    return ACTIONS[action], payment


def _parse_fiat_value(text: str) -> Decimal | None:
    if not text.strip():
        return None
    fiat_value = to_cents(parse_typed_amount(text, 2))
    if fiat_value >= 10**9:
        raise ValueError("out of range")
    return fiat_value


class InvoiceActionView(DashboardMixin, View):
    """Refresh or cancel an invoice."""

    require_permission = staticmethod(permissions.require_money_permission)
    http_method_names = ("post",)

    def post(self, request: HttpRequest, pk: int, action: str) -> HttpResponse:
        invoices = BitsbyInvoice.objects.select_related("order")
        invoice: BitsbyInvoice = get_object_or_404(invoices, pk=pk)
        if action == "cancel":
            note = strip_unstorable(request.POST.get("note", ""))
            result = binding.cancel_invoice(invoice, request.user, note)
        else:
            result = _refresh(invoice)
        if invoice.order is None:
            url = reverse("oscar_bitsby:dashboard-invoices")
        else:
            url = order_page(request.user, invoice.order_number)
        return bind_flow.redirect_with_message(request, result, url)


def _refresh(invoice: BitsbyInvoice) -> ActionResult:
    try:
        outcome = invoice_refresh.refresh(invoice, factory.for_staff(binding.STAFF_MAX_WAIT))
    except BitsbyError as error:
        problem = i18n.translate_stored(str(error))
        return ActionResult(False, _("Bitsby could not be reached: %s.") % problem)
    if outcome is None:
        return ActionResult(False, _("Bitsby does not know this invoice."))
    invoice.refresh_from_db()
    text = _("Refreshed. Invoice status: %s.")
    return ActionResult(True, text % invoice.get_status_display())
