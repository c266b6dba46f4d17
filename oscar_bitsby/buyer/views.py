"""The buyer's pages of an order; a failure of Bitsby never leads to an error page."""

import logging
import math
from typing import Any

from django.db import transaction
from django.db.models import prefetch_related_objects
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache

from oscar_bitsby import conf
from oscar_bitsby.accounting import ledger
from oscar_bitsby.buyer.page_security import secure_page
from oscar_bitsby.buyer.pay_here import UNPAID, PayHere, pay_here, remember_coin
from oscar_bitsby.buyer.payment_options import log_unsound_wallets, payment_options
from oscar_bitsby.exceptions import (
    BitsbyError,
    ConfigurationError,
    GatewayError,
    NotPayable,
    PaymentInProgress,
    PaymentPaused,
    Queued,
    RateLimited,
)
from oscar_bitsby.facade import payment_page, seconds_until_retry, start_payment
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.orders.payment_status import (
    POSSIBLE_MISMATCH,
    WAITING,
    PaymentStatus,
    get_payment_status,
)
from oscar_bitsby.orders.refund_status import refunds_of
from oscar_bitsby.orders.signed_urls import order_of
from oscar_bitsby.reconciliation import invoice_refresh

logger = logging.getLogger("oscar_bitsby")

#: The session's key of the order that this browser has just placed or wants to pay.
SESSION_KEY = "oscar_bitsby_order"
#: Seconds until the page tries again by itself: where another request of the same order is being
#: answered, and where the shop's settings or code fail.
BUSY_DELAY, FAILED_DELAY = 3.0, 60.0
#: Seconds until the page of a waiting order reloads without JavaScript. With an address it gives
#: more time to select it.
RELOAD_AFTER, RELOAD_WITH_ADDRESS_AFTER = 15, 60


class SeeOther(HttpResponseRedirect):
    """303: the next request is a GET, also after a POST."""

    status_code = 303


# API requests must not be sent inside a transaction.
@method_decorator([transaction.non_atomic_requests, never_cache], name="dispatch")
class OrderPageView(View):
    """What the pages of one order share: the signed token, and headers that keep it private."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response: HttpResponseBase
        try:
            response = super().dispatch(request, *args, **kwargs)
        except ConfigurationError as error:
            logger.error("an order's page could not be shown: %s", error)
            response = render(request, "oscar_bitsby/unavailable.html", status=503)
        # The URL grants access, so other sites and search engines must not learn it.
        response["Referrer-Policy"] = "same-origin"
        response["X-Robots-Tag"] = "noindex"
        return response


class PayView(OrderPageView):
    """Redirect the buyer to where the order is paid: Bitsby's page, or the order's page.

    A POST, and a GET from the browser that has just placed the order, may create an invoice. Any
    other GET (a link checker, a preview, a crawler) only redirects to an existing invoice or to
    the order's page.
    """

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        number = signed_urls.order_number_from_token(token)
        if request.method == "GET" and request.session.get(SESSION_KEY) == number:
            return self._start(request, number)
        order = order_of(number)
        status = get_payment_status(order)
        live = status.invoice
        # A live invoice may ask for an earlier total, or for more than the rest.
        if status.state == WAITING and live is not None and live.fits(order, status.to_pay):
            return self._redirect(live, order)
        return SeeOther(signed_urls.order_url(order))

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        return self._start(request, signed_urls.order_number_from_token(token))

    def _start(self, request: HttpRequest, number: str) -> HttpResponse:
        try:
            invoice = start_payment(number)
        except NotPayable:
            self._forget(request)
            return SeeOther(signed_urls.order_url(order_of(number)))
        except Queued as error:
            return self._try_again(request, order_of(number), error.seconds, queued=error)
        except (PaymentInProgress, RateLimited) as error:
            logger.info("payment of order %s has to wait: %s", number, error)
            return self._try_again(request, order_of(number), BUSY_DELAY, busy=True)
        except (PaymentPaused, GatewayError) as error:
            logger.warning("payment of order %s not started: %s", number, error)
            order = order_of(number)
            return self._try_again(request, order, seconds_until_retry(order))
        except Exception as error:
            # Raises 404 when the order was deleted meanwhile: then only the link is wrong.
            order = order_of(number)
            log = logger.warning if isinstance(error, ConfigurationError) else logger.exception
            log("payment of order %s not started: %s", number, error)
            return self._try_again(request, order, FAILED_DELAY)
        # From now on only a click may create another invoice: a reload must not.
        self._forget(request)
        return self._redirect(invoice, invoice.order)

    def _forget(self, request: HttpRequest) -> None:
        """Remove the order from the session; a session without it is not written again."""
        if SESSION_KEY in request.session:
            del request.session[SESSION_KEY]

    def _redirect(self, invoice: BitsbyInvoice, order: Any) -> HttpResponse:
        in_shop = conf.get().pays_in_shop
        if in_shop:
            log_unsound_wallets(invoice)
        if in_shop and payment_options(invoice):
            # The buyer has just been asked whether the payment of another amount is theirs.
            said_unpaid = get_payment_status(order).state == POSSIBLE_MISMATCH
            query = f"?{UNPAID}=1" if said_unpaid else ""
            return SeeOther(signed_urls.order_url(order) + query)
        try:
            return SeeOther(payment_page(invoice))
        except BitsbyError as error:
            logger.error("order %s: %s", order.number, error)
            return self._wait(self.request, order, FAILED_DELAY)

    def _try_again(
        self, request: HttpRequest, order: Any, delay: float, **reason: Any
    ) -> HttpResponse:
        """Let this browser try again by GET: its session may create the invoice."""
        request.session[SESSION_KEY] = order.number
        return self._wait(request, order, delay, **reason)

    def _wait(
        self,
        request: HttpRequest,
        order: Any,
        delay: float,
        *,
        queued: Queued | None = None,
        busy: bool = False,
    ) -> HttpResponse:
        """Show that the order is safe. The page tries again by itself, or by a click."""
        wait = queued.wait if queued else delay
        context = {
            "order": order,
            "has_money": ledger.has_money(order),
            "queued": queued,
            "busy": busy,
            "seconds": math.ceil(wait),
            "minutes": math.ceil(wait / 60),
            # A text: some languages would write a number with a comma.
            "delay": f"{delay:.2f}",
            "refresh_after": max(1, int(delay)),
            "pay_url": signed_urls.pay_url(order),
            "order_url": signed_urls.order_url(order),
        }
        return render(request, "oscar_bitsby/wait.html", context)


class OrderView(OrderPageView):
    """The order's page: its payment status and the next step."""

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        order = signed_urls.order_from_token(token)
        # For the status, too.
        prefetch_related_objects([order], "bitsby_refunds")
        status, settings = _refresh(order), conf.get()
        shown = pay_here(request, order, status)
        context = {
            "order": order,
            "payment_status": status,
            "settings": settings,
            "payment_options": shown.options,
            "chosen_option": shown.chosen,
            "hosted_url": shown.hosted_url,
            "is_withheld": shown.is_withheld,
            "pay_url": signed_urls.pay_url(order),
            "state_url": signed_urls.state_url(order),
            "reorder_url": signed_urls.reorder_url(order),
            "shop_url": signed_urls.shop_url(order),
            "home_url": signed_urls.home_url(),
            "refunds": refunds_of(order),
            "reload_after": _reload_after(status, shown),
        }
        response = render(request, "oscar_bitsby/order.html", context)
        if settings.pays_in_shop:
            remember_coin(request, response, shown)
            secure_page(response, settings)
        return response


class StateView(OrderPageView):
    """The payment status as JSON, with which the order's page updates itself."""

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


def _reload_after(status: PaymentStatus, shown: PayHere) -> int | None:
    """Return the seconds until the page reloads without JavaScript; None for a final status."""
    if status.is_final:
        return None
    if shown.chosen is None or status.seconds_left is None:
        return RELOAD_AFTER
    # The address disappears when the time to pay is over.
    return min(RELOAD_WITH_ADDRESS_AFTER, status.seconds_left + 1)


def _refresh(order: Any) -> PaymentStatus:
    """Return the order's payment status, after an opportunistic refresh of its invoice."""
    status = get_payment_status(order)
    invoice = status.invoice
    if status.is_final or invoice is None or not invoice_refresh.refresh_if_idle(invoice):
        return status
    order.refresh_from_db()
    return get_payment_status(order)
