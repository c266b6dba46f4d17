"""The steps of binding a payment by hand, for the admin and the dashboard."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from oscar_bitsby.accounting import ledger
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.reconciliation import cursor
from oscar_bitsby.staff import bind_summary, binding, candidates
from oscar_bitsby.staff.decision import ActionResult
from oscar_bitsby.staff.permissions import require_money_permission
from oscar_bitsby.staff.refund_forms import WIDE, reason_field
from oscar_bitsby.staff.refund_summary import customer_of


class BindForm(forms.Form):
    """A payment chosen from the list or by its typed id, and the reason."""

    payment = forms.UUIDField(required=False)
    payment_id = forms.CharField(
        label=gettext_lazy("Payment ID"),
        widget=forms.TextInput(attrs=WIDE),
        required=False,
        help_text=gettext_lazy("If the payment is not listed: the ID that Bitsby shows for it."),
    )
    invoice = forms.IntegerField(required=False, widget=forms.HiddenInput)
    note = reason_field(required=False)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        typed = (data.get("payment_id") or "").strip()
        if typed:
            try:
                data["chosen"] = UUID(typed)
            except ValueError:
                raise forms.ValidationError(
                    _(
                        "“%s” is not a payment ID. An ID looks like this:"
                        " f986ad8d-2298-473d-982a-efbc817b975d."
                    )
                    % typed[:60]
                ) from None
        elif data.get("payment"):
            data["chosen"] = data["payment"]
        elif not self.errors:
            raise forms.ValidationError(_("Choose a payment or enter its ID."))
        return data


def binding_error(order: Any) -> str:
    """Return why no payment can be bound to an order, or an empty string."""
    if _open_invoices(order).exists():
        return ""
    if order.bitsby_invoices.filter(bitsby_id__isnull=False).exists():
        text = _("Order %s is already paid: it has no open invoice.")
    else:
        text = _("Order %s has no Bitsby invoice to bind a payment to.")
    return str(text % order.number)


def should_offer_binding(order: Any) -> bool:
    """Tell whether pages offer to bind: an invoice is open, and the order's total is not held."""
    held = ledger.amount_held(order.sources.all())
    return _open_invoices(order).exists() and not 0 < order.total_incl_tax <= held


def _open_invoices(order: Any) -> Any:
    invoices = order.bitsby_invoices.filter(bitsby_id__isnull=False)
    return invoices.exclude(status=InvoiceStatus.PAID)


def bind_view(
    request: HttpRequest, order: Any, template: str, context: dict[str, Any], done: str
) -> HttpResponse:
    """Show the current step, or bind when the request confirms: choose, read, confirm.

    A GET shows what is known. Only a POST sends requests to Bitsby: to fetch payments, or to bind.
    ``?payment=`` with the id of a payment preselects it. The form confirms by ``confirm`` or, for a
    short payment whose buyer is asked for the rest, by ``ask``.

    Args:
        order: the order; the caller has checked that the user may see it.
        template: the page in the caller's frame.
        context: the context of that frame.
        done: the URL to redirect to after binding.

    Raises:
        PermissionDenied: the user may not move money.
    """
    require_money_permission(request.user)
    reason = binding_error(order)
    if reason:
        return redirect_with_message(request, ActionResult(False, reason), done)
    context = context | {"order": order}
    chosen = _uuid_or_none(request.GET.get("payment", ""))
    if request.method != "POST":
        return render(request, template, context | _list(order, BindForm(), chosen))
    if "fetch" in request.POST:
        return redirect_with_message(request, _fetch(order), request.get_full_path())
    form = BindForm(request.POST)
    if not form.is_valid():
        return render(request, template, context | _list(order, form, chosen))
    payment_id = form.cleaned_data["chosen"]
    confirmed = form.cleaned_data.get("invoice")
    found = _match_for(order, payment_id, confirmed)
    if found is None:
        return redirect_with_message(request, ActionResult(False, binding_error(order)), done)
    if "confirm" not in request.POST and "ask" not in request.POST:
        shown = {"found": found, "payment_id": payment_id, "form": form}
        return render(request, template, context | shown | _summary(order, found))
    if confirmed is not None and confirmed != found["invoice"].pk:
        # A second click, or a colleague was faster: binding now would use another invoice.
        text = _("This invoice is no longer open. Check the order before you try again.")
        return redirect_with_message(request, ActionResult(False, text), done)
    result = binding.bind(
        found["invoice"],
        payment_id,
        request.user,
        form.cleaned_data["note"],
        ask_for_rest="confirm" not in request.POST,
    )
    return redirect_with_message(request, result, done)


def _list(order: Any, form: BindForm, chosen: UUID | None) -> dict[str, Any]:
    """Return the context of the list of payments, with the chosen one on top."""
    matches = [
        {
            "match": match,
            "explorer": bind_summary.explorer_url(match.payment),
            "is_chosen": match.payment.bitsby_id == chosen,
        }
        for match in candidates.all_candidates(order, chosen)
    ]
    matches.sort(key=lambda row: not row["is_chosen"])
    return {"matches": matches, "last_fetched": cursor.last_fetched(), "form": form}


def _summary(order: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Return the context of the summary that is shown before the payment is bound."""
    payment, match = found["payment"], found["match"]
    return {
        "summary": {
            "coins": bind_summary.coins_of(payment) if payment is not None else "",
            "explorer": bind_summary.explorer_url(payment),
            "customer": customer_of(order),
            "difference": bind_summary.difference_of(match) if match is not None else "",
            "warnings": bind_summary.warnings_of(order, match),
            "effects": bind_summary.effects_of(order, match, found["invoice"]),
        }
    }


def _fetch(order: Any) -> ActionResult:
    problem = binding.refresh_payments(order)
    if not problem:
        return ActionResult(True, _("The list shows the payments that Bitsby reports now."))
    text = _(
        "The payments could not be fetched from Bitsby (%(problem)s). The list shows the payments"
        " that are already known."
    )
    return ActionResult(False, text % {"problem": problem})


def _match_for(order: Any, payment_id: UUID, invoice_pk: int | None) -> dict[str, Any] | None:
    """Return the invoice to bind to and how the payment matches; None if no invoice is open."""
    invoices = list(_open_invoices(order))
    if not invoices:
        return None
    invoices = [invoice for invoice in invoices if invoice.pk == invoice_pk] or invoices
    payment = BitsbyPayment.objects.filter(bitsby_id=payment_id).first()
    match = candidates.best_match(payment, invoices) if payment is not None else None
    return {
        "match": match,
        "payment": payment,
        "invoice": match.invoice if match else invoices[0],
    }


def _uuid_or_none(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def redirect_with_message(request: HttpRequest, result: ActionResult, url: str) -> HttpResponse:
    """Redirect to ``url``, where the page shows the result's message."""
    level = messages.SUCCESS if result.done else messages.ERROR
    messages.add_message(request, level, result.message)
    return redirect(url)
