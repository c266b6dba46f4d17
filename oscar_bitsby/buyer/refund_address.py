"""The page where a buyer gives the address for a refund, and sees what became of it."""

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _

from oscar_bitsby import conf
from oscar_bitsby.buyer.views import OrderPageView, SeeOther
from oscar_bitsby.exceptions import RefundRefused
from oscar_bitsby.models import BitsbyRefund
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.orders.refund_status import RefundStatus
from oscar_bitsby.settlement import refunds


class RefundAddressForm(forms.Form):
    """One text. Settlement checks whether it is an address on the refund's blockchain."""

    address = forms.CharField(
        error_messages={
            "required": _("Paste the address that we should send your refund to."),
            "null_characters_not_allowed": _(
                "This is not an address. Copy only the address from the wallet."
            ),
        },
    )


class RefundAddressView(OrderPageView):
    """Ask for the address once; afterwards show it and, when the refund was sent, the transaction.

    Only a POST changes something, since mail programs and link checkers open the links in e-mails.
    """

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        try:
            refund = signed_urls.refund_from_token(token)
        except Http404 as error:
            return _show_invalid_link(request, error)
        return _show(request, refund, RefundAddressForm())

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        try:
            refund = signed_urls.refund_from_token(token)
        except Http404 as error:
            return _show_invalid_link(request, error)
        form = RefundAddressForm(request.POST)
        if RefundStatus(refund).needs_address and form.is_valid():
            try:
                refunds.set_address(
                    refund.pk, form.cleaned_data["address"], link_version=refund.link_version
                )
            except RefundRefused as error:
                form.add_error("address", str(error))
                # Another request may have set it meanwhile, or staff may have cancelled the refund.
                refund.refresh_from_db()
            else:
                return SeeOther(request.path)
        if RefundStatus(refund).needs_address:
            return _show(request, refund, form)
        if refund.address and refund.address == form.data.get("address", "").strip():
            # The second click on the button.
            return SeeOther(request.path)
        return _show(request, refund, form, was_refused=True)


def _show(
    request: HttpRequest,
    refund: BitsbyRefund,
    form: RefundAddressForm,
    *,
    was_refused: bool = False,
) -> HttpResponse:
    """Show the page; ``was_refused`` means that an address came too late to be stored."""
    context = {
        "refund": refund,
        "refund_status": RefundStatus(refund),
        "form": form,
        "was_refused": was_refused,
        "is_mailed": bool(conf.get().mails and refund.order and refund.order.email),
    }
    return render(request, "oscar_bitsby/refund.html", context, status=409 if was_refused else 200)


def _show_invalid_link(request: HttpRequest, error: Http404) -> HttpResponse:
    """Say what to do. No link to the order's page: it would make an expired link valid again."""
    status = 410 if isinstance(error, signed_urls.LinkExpired) else 404
    return render(request, "oscar_bitsby/refund_link_invalid.html", status=status)
