"""The buyer's pages of an order: pay, and where it stands. Asking Bitsby happens outside of any
transaction, and nothing here ends in an error page: the order is safe whatever Bitsby does."""

from __future__ import annotations

import logging
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache

from oscar_bitsby import conf
from oscar_bitsby.exceptions import (
    BitsbyError,
    ConfigurationError,
    GatewayError,
    NotPayable,
    PaymentInProgress,
    RateLimited,
)
from oscar_bitsby.facade import payment_page, start_payment
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.orders.payment_status import WAITING, get_payment_status
from oscar_bitsby.reconciliation import invoice_refresh

logger = logging.getLogger("oscar_bitsby")

#: Where the session says which order this browser has just placed or wants to pay.
SESSION_KEY = "oscar_bitsby_order"
#: Seconds until the page tries again by itself: a few at first, then longer, then no more.
RETRY_DELAYS = (3, 5, 8, 13, 20, 30, *[60] * 14)
#: Seconds until the page of a waiting order looks again.
RELOAD_AFTER = 15


class SeeOther(HttpResponseRedirect):
    """303: whatever the request was, the next one is a GET."""

    status_code = 303


@method_decorator([transaction.non_atomic_requests, never_cache], name="dispatch")
class OrderPageView(View):
    """What the pages of one order share: the signed token, and headers that keep it private."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response: HttpResponseBase
        try:
            response = super().dispatch(request, *args, **kwargs)
        except ConfigurationError as error:
            logger.error("page of an order not shown: %s", error)
            response = render(request, "oscar_bitsby/unavailable.html", status=503)
        # The address is the permission, so it must not travel to other sites or into indexes.
        response["Referrer-Policy"] = "same-origin"
        response["X-Robots-Tag"] = "noindex"
        return response


class PayView(OrderPageView):
    """Lead the buyer to the payment page.

    A POST, and a GET from the browser that has just placed the order, may create an invoice. Any
    other GET (a link checker, a preview, a crawler) only follows to what is there.
    """

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        number = signed_urls.order_number_from_token(token)
        if request.method == "GET" and request.session.get(SESSION_KEY) == number:
            return self._start(request, number)
        order = signed_urls.order_of(number)
        status = get_payment_status(order)
        live = status.invoice
        if status.state == WAITING and live is not None and live.fits(order):
            return self._redirect(live, order)
        return SeeOther(signed_urls.order_url(order))

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        return self._start(request, signed_urls.order_number_from_token(token))

    def _start(self, request: HttpRequest, number: str) -> HttpResponse:
        try:
            invoice = start_payment(number)
        except NotPayable:
            self._forget(request)
            return SeeOther(signed_urls.order_url(signed_urls.order_of(number)))
        except (PaymentInProgress, RateLimited) as error:
            logger.info("payment of order %s waits: %s", number, error)
            return self._try_again(request, signed_urls.order_of(number), "busy")
        except (GatewayError, ConfigurationError) as error:
            logger.warning("payment of order %s not started: %s", number, error)
            return self._try_again(request, signed_urls.order_of(number), "down")
        except Exception:
            # Of an order that is gone nothing is wrong but the link.
            order = signed_urls.order_of(number)
            logger.exception("payment of order %s not started", number)
            return self._try_again(request, order, "down")
        # From now on only a click creates another one: a reload must not.
        self._forget(request)
        return self._redirect(invoice, invoice.order)

    def _forget(self, request: HttpRequest) -> None:
        """Take the note away; a session without it is not written again."""
        if SESSION_KEY in request.session:
            del request.session[SESSION_KEY]

    def _redirect(self, invoice: BitsbyInvoice, order: Any) -> HttpResponse:
        try:
            return SeeOther(payment_page(invoice))
        except BitsbyError as error:
            logger.error("order %s: %s", order.number, error)
            return self._wait(self.request, order, "down")

    def _try_again(self, request: HttpRequest, order: Any, reason: str) -> HttpResponse:
        """Wait, by GETs that only this browser's own session may turn into an invoice."""
        request.session[SESSION_KEY] = order.number
        return self._wait(request, order, reason)

    def _wait(self, request: HttpRequest, order: Any, reason: str) -> HttpResponse:
        """Say that the order is safe, and try again: by itself, or by a click."""
        try:
            tries = max(0, int(request.GET.get("try", "0")[:3]))
        except ValueError:
            tries = 0
        delay = RETRY_DELAYS[tries] if tries < len(RETRY_DELAYS) else None
        context = {
            "order": order,
            "reason": reason,
            "delay": delay,
            "pay_url": signed_urls.pay_url(order),
            "order_url": signed_urls.order_url(order),
            "retry_url": f"{signed_urls.pay_url(order)}?try={tries + 1}",
        }
        return render(request, "oscar_bitsby/wait.html", context)


class OrderView(OrderPageView):
    """Where the order stands, with the one thing to do next."""

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        order = signed_urls.order_from_token(token)
        status = _refresh(order)
        context = {
            "order": order,
            "payment_status": status,
            "settings": conf.get(),
            "pay_url": signed_urls.pay_url(order),
            "state_url": signed_urls.state_url(order),
            "reorder_url": signed_urls.reorder_url(order),
            "shop_url": signed_urls.shop_url(order),
            "reload_after": None if status.is_final else RELOAD_AFTER,
        }
        return render(request, "oscar_bitsby/order.html", context)


class StateView(OrderPageView):
    """The same as JSON, for the page to renew itself."""

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        status = _refresh(signed_urls.order_from_token(token))
        return JsonResponse(
            {
                "state": status.state,
                "final": status.is_final,
                "version": status.version,
                "secondsLeft": status.seconds_left,
            }
        )


def _refresh(order: Any) -> Any:
    """Return the order's status, after a glance at Bitsby if that costs nobody anything."""
    status = get_payment_status(order)
    invoice = status.invoice
    if status.is_final or invoice is None or not invoice_refresh.refresh_if_idle(invoice):
        return status
    order.refresh_from_db()
    return get_payment_status(order)
