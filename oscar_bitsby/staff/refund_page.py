"""The page of one refund: how far it is, and the next step of staff."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from oscar_bitsby.choices import RefundState
from oscar_bitsby.exceptions import RefundRefused
from oscar_bitsby.models import BitsbyRefund
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.settlement import refunds
from oscar_bitsby.staff import refund_forms, refund_summary
from oscar_bitsby.staff.bind_flow import redirect_with_message
from oscar_bitsby.staff.bind_summary import explorer_url
from oscar_bitsby.staff.decision import ActionResult
from oscar_bitsby.staff.permissions import require_refund_permission
from oscar_bitsby.staff.refund_flow import Frame, log_step
from oscar_bitsby.utils.blockchains import network_name
from oscar_bitsby.utils.money import plain_amount
from oscar_bitsby.utils.qr import qr_code


@dataclass(frozen=True)
class Step:
    """One action on a refund: its form, its function, what is logged and what is said."""

    states: tuple[RefundState, ...]
    form: type[forms.Form]
    do: Callable[[int, Any, dict[str, Any]], BitsbyRefund]
    logged: Any
    done: Any
    #: Added if the buyer gets an e-mail.
    mailed: Any = ""


REQUESTED, GIVEN = RefundState.REQUESTED, RefundState.ADDRESS_GIVEN

STEPS = {
    "address": Step(
        (REQUESTED,),
        refund_forms.AddressForm,
        lambda pk, user, data: refunds.set_address(pk, data["address"], user=user),
        gettext_lazy("address entered"),
        gettext_lazy("The address is saved. Send the coins, then enter the transaction hash."),
        gettext_lazy("The buyer gets the address by e-mail, to check it."),
    ),
    "renew": Step(
        (REQUESTED,),
        forms.Form,
        lambda pk, user, data: refunds.renew_link(pk, user),
        gettext_lazy("link for the address renewed"),
        gettext_lazy("A new link was made. Earlier links are no longer valid."),
        gettext_lazy("The buyer gets it by e-mail."),
    ),
    "reopen": Step(
        (GIVEN,),
        refund_forms.ReasonForm,
        lambda pk, user, data: refunds.reopen(pk, user, data["note"]),
        gettext_lazy("address removed"),
        gettext_lazy("The address is removed. Another one is needed."),
        gettext_lazy("The buyer is asked for it by e-mail."),
    ),
    "sent": Step(
        (GIVEN,),
        refund_forms.SentForm,
        lambda pk, user, data: refunds.mark_sent(
            pk, data["transaction_hash"], user, data["note"], cancel_order=data["cancel_order"]
        ),
        gettext_lazy("sent"),
        gettext_lazy("The refund is recorded as sent."),
        gettext_lazy("The buyer gets an e-mail with the transaction hash."),
    ),
    "cancel": Step(
        (REQUESTED, GIVEN),
        refund_forms.ReasonForm,
        lambda pk, user, data: refunds.cancel(pk, user, data["note"]),
        gettext_lazy("refund cancelled"),
        gettext_lazy("The refund is cancelled. The money can be refunded again."),
    ),
}


def refund_view(request: HttpRequest, frame: Frame, refund: BitsbyRefund) -> HttpResponse:
    """Show a refund, or carry out the step that the request posts.

    Args:
        refund: the caller has checked that the user may see it.

    Raises:
        PermissionDenied: the user may not refund.
    """
    require_refund_permission(request.user)
    if request.method != "POST":
        return _render(request, frame, refund)
    name = request.POST.get("action", "")
    step = STEPS.get(name)
    if step is None:
        text = _("Nothing was done: the request named no step. Use the buttons of this page.")
        return redirect_with_message(request, ActionResult(False, text), request.path)
    form = step.form(request.POST, auto_id=f"id_{name}_%s")
    if form.is_valid():
        try:
            refund = step.do(refund.pk, request.user, form.cleaned_data)
        except RefundRefused as error:
            form.add_error(None, str(error))
        else:
            log_step(request, refund, str(step.logged), form.cleaned_data.get("note", ""))
            mailed = str(step.mailed) if refund_summary.is_mailed(refund.order) else ""
            text = f"{step.done} {mailed}".strip()
            return redirect_with_message(request, ActionResult(True, text), request.path)
    # It may have changed since the page was shown.
    refund.refresh_from_db()
    return _render(request, frame, refund, {name: form})


def _render(
    request: HttpRequest,
    frame: Frame,
    refund: BitsbyRefund,
    sent: dict[str, forms.Form] | None = None,
) -> HttpResponse:
    sent = sent or {}
    state = RefundState(refund.state)
    offered = {
        name: sent.get(name) or step.form(auto_id=f"id_{name}_%s")
        for name, step in STEPS.items()
        if state in step.states
    }
    # The form of a step that is no longer possible is shown as what it said.
    lost = [form for name, form in sent.items() if name not in offered]
    payment = refund.payment
    context = {
        **frame.context,
        "frame": frame,
        "refund": refund,
        "order": refund.order,
        "payment": payment,
        "explorer": explorer_url(payment),
        "row": refund_summary.row_of(refund, request.path),
        "steps": refund_summary.steps_of(refund),
        "forms": offered,
        "lost": lost,
        "coin": refund.cryptocurrency.upper(),
        "network": network_name(refund.blockchain, refund.cryptocurrency),
        "coin_amount": plain_amount(refund.coin_amount),
        "proposed": plain_amount(refund.proposed_coin_amount),
        "can_cancel_order": refund_summary.can_cancel_order(refund.order),
        "is_mailed": refund_summary.is_mailed(refund.order),
        "address_link": (
            request.build_absolute_uri(signed_urls.refund_url(refund)) if state is REQUESTED else ""
        ),
        "was_erased": state is RefundState.SENT and not refund.address,
        "qr": qr_code(refund.address) if state is GIVEN else "",
    }
    return render(request, frame.page_template, context)
