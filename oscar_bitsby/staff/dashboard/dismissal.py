"""Dismiss several payments for one reason: ask for confirmation, then decide about each."""

from collections import defaultdict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.generic import View

from oscar_bitsby.accounting.matching import suggest_invoices
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.gateway.parsing import strip_unstorable
from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.staff import bind_flow, bind_summary, decision, permissions, review
from oscar_bitsby.staff.dashboard.access import DashboardMixin
from oscar_bitsby.staff.dashboard.payment_filters import list_url
from oscar_bitsby.staff.dashboard.payment_rows import REFUND_ADVICE, open_refunds
from oscar_bitsby.staff.dashboard.payment_value import PaymentValue
from oscar_bitsby.staff.decision import ActionResult

#: Payments that one request dismisses at most; a page lists no more of them.
MAX_DISMISSED = 100
UNKNOWN = gettext_lazy("Some of the chosen payments no longer exist, so they were not dismissed.")


class DismissView(DashboardMixin, View):
    """Dismiss the chosen payments: the list posts them, the confirmation also posts a reason."""

    require_permission = staticmethod(permissions.require_money_permission)
    http_method_names = ("post",)

    def post(self, request: HttpRequest) -> HttpResponse:
        back = list_url(request.GET.get("list", ""))
        # A page has each of its payments as "listed", so that all can be chosen by one box.
        texts = request.POST.getlist("listed" if "all" in request.POST else "payment")
        ids = {payment_id for payment_id in map(_parse_uuid, texts) if payment_id}
        if problem := _why_not_any(ids):
            return bind_flow.redirect_with_message(request, ActionResult(False, problem), back)
        if "note" not in request.POST:
            return _confirm(request, ids, back)
        note = strip_unstorable(request.POST["note"])
        if not note.strip():
            return _confirm(request, ids, back, _("Enter a reason: others may need it later."))
        seen = dict(text.partition(" ")[::2] for text in request.POST.getlist("seen"))
        for result in dismiss_all(ids, request.user, note, seen):
            level = messages.SUCCESS if result.done else messages.ERROR
            messages.add_message(request, level, result.message)
        return redirect(back)


def _parse_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _why_not_any(ids: set[UUID]) -> str:
    if not ids:
        return _("Choose at least one payment.")
    if len(ids) > MAX_DISMISSED:
        return _("Choose at most %(count)d payments.") % {"count": MAX_DISMISSED}
    return ""


def _confirm(request: HttpRequest, ids: set[UUID], back: str, error: str = "") -> HttpResponse:
    """Show the value and the hash of each payment, and the payments that cannot be dismissed."""
    rows = BitsbyPayment.objects.select_related("invoice__order", "resolved_by")
    payments = list(rows.defer("invoice__reply", "invoice__wallets").filter(bitsby_id__in=ids))
    payments.sort(key=lambda payment: (payment.seen_at, payment.pk), reverse=True)
    suggested, refunds = suggest_invoices(payments), open_refunds(payments)
    listed = [
        {
            "payment": payment,
            "value": PaymentValue.of(payment, suggested.found.get(payment.pk)),
            "explorer": bind_summary.explorer_url(payment),
            "why_not": _why_not(payment, has_refund=payment.pk in refunds),
        }
        for payment in payments
    ]
    context = {
        "rows": [row for row in listed if not row["why_not"]],
        "refused": [row for row in listed if row["why_not"]],
        "errors": [text for text in (error, UNKNOWN if len(payments) < len(ids) else "") if text],
        "list_url": back,
    }
    return render(request, "oscar_bitsby/dashboard/dismiss.html", context)


def _why_not(payment: BitsbyPayment, has_refund: bool) -> str:
    """Return why it cannot be dismissed, as far as that is known without a lock; or nothing."""
    if payment.resolved_at is not None or not payment.review_reason:
        refused = decision.refusal(payment)
        return refused.message if refused else ""
    order = payment.invoice.order if payment.invoice else None
    return str(REFUND_ADVICE) if has_refund else review.why_not_dismiss(order, payment)


def dismiss_all(
    ids: set[UUID], user: Any, note: str, seen: Mapping[str, str] = MappingProxyType({})
) -> list[ActionResult]:
    """Dismiss payments, each under its own locks and by the rules of ``review.dismiss``.

    Args:
        ids: Bitsby's ids of the payments.
        user: who decides.
        note: the reason, which is stored with each.
        seen: the review reasons that were confirmed, joined by spaces, by Bitsby's ids.

    Returns:
        One result for all that are dismissed, and one for each reason why others are not, which
        names them.
    """
    payments = list(BitsbyPayment.objects.filter(bitsby_id__in=ids).order_by("pk"))
    done, refused = 0, defaultdict(list)
    for payment in payments:
        try:
            result = review.dismiss(payment.pk, user, note, seen.get(str(payment.bitsby_id)))
        except BitsbyError as error:
            result = ActionResult(False, str(error))
        except BitsbyPayment.DoesNotExist:
            result = ActionResult(False, _("It was deleted."))
        if result.done:
            done += 1
        else:
            refused[result.message].append(f"{payment} ({payment.hash[:12]})")
    results = []
    if done:
        text = ngettext(
            "%(count)d payment is dismissed. You can undo this under “Resolved”.",
            "%(count)d payments are dismissed. You can undo this under “Resolved”.",
            done,
        )
        results.append(ActionResult(True, text % {"count": done}))
    for reason, names in refused.items():
        words = {"payments": ", ".join(names), "reason": reason}
        results.append(ActionResult(False, _("Not dismissed: %(payments)s. %(reason)s") % words))
    if len(payments) < len(ids):
        results.append(ActionResult(False, str(UNKNOWN)))
    return results
