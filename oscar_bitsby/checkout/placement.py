"""Place an order that is paid by Bitsby later, exactly one for each basket."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from oscar.core.loading import get_model

from oscar_bitsby import conf
from oscar_bitsby.accounting import ledger
from oscar_bitsby.buyer.views import SESSION_KEY
from oscar_bitsby.checkout.pending_orders import (
    PendingLimitReached,
    check_pending_orders,
    remember_order,
)
from oscar_bitsby.choices import MailCode
from oscar_bitsby.mails import outbox
from oscar_bitsby.orders.signed_urls import pay_url
from oscar_bitsby.utils.patching import AnyBase

logger = logging.getLogger("oscar_bitsby")

Basket = get_model("basket", "Basket")
Order = get_model("order", "Order")
Source = get_model("payment", "Source")


class BasketAlreadySubmitted(Exception):
    """Another request is submitting this basket, or has submitted it."""


@dataclass
class Placement:
    """The placing of one order that is to be paid by Bitsby.

    ``order`` is set when the order is written, ``is_committed`` after the transaction.
    """

    order: Any = None
    is_committed: bool = False


class OrderPlacementMixin(AnyBase):  # type: ignore[misc]
    """Goes in front of Oscar's ``PaymentDetailsView``.

    For an order that is paid by Bitsby, everything from freezing the basket to submitting it is
    one transaction: a process that dies in it leaves an open basket and no order. E-mails and
    ``post_checkout`` follow the commit and cannot undo it. Other orders take the shop's own way:
    they have no ``Placement``.
    """

    _placement: Placement | None = None

    def submit(self, **submission: Any) -> HttpResponse:
        response: HttpResponse
        if not self.pays_by_bitsby(submission.get("order_total")):
            response = super().submit(**submission)
            return response
        basket = submission["basket"]
        placement = self._placement = Placement()
        try:
            with transaction.atomic():
                response = super().submit(**submission)
        except BasketAlreadySubmitted:
            return self._redirect_to_order_of(basket)
        except PendingLimitReached:
            # The payment step says why.
            return redirect("checkout:payment-method")
        except Exception:
            # The transaction is rolled back: there is no order, and the basket is open as before.
            logger.exception("order not placed: basket=%s", basket.pk)
            return self._render_failure(submission)
        if placement.order is None:
            # Oscar has caught the failure, and its response gives the reason.
            return response
        placement.is_committed = True
        return self.handle_successful_order(placement.order)

    def freeze_basket(self, basket: Any) -> None:
        if self._placement is None:
            super().freeze_basket(basket)
            return
        # One statement compares and sets: of two clicks, one gets the basket. The other waits here
        # until the first is committed, and then finds its order.
        is_ours = Basket.objects.filter(pk=basket.pk, status__in=Basket.editable_statuses).update(
            status=Basket.FROZEN
        )
        if not is_ours:
            raise BasketAlreadySubmitted
        # The offer was made before: other windows may have placed orders since.
        check_pending_orders(self.request, self.checkout_session.get_guest_email())
        basket.status = Basket.FROZEN

    def handle_payment(self, order_number: str, total: Any, **kwargs: Any) -> None:
        if self._placement is None:
            super().handle_payment(order_number, total, **kwargs)
            return
        # The source allocates the whole total and has received nothing.
        self.add_payment_source(
            Source(
                source_type=ledger.source_type(),
                currency=total.currency,
                amount_allocated=total.incl_tax,
            )
        )

    def get_initial_order_status(self, basket: Any) -> Any:
        if self._placement is None:
            return super().get_initial_order_status(basket)
        return conf.get().order_status_pending

    def handle_order_placement(self, *args: Any, **kwargs: Any) -> HttpResponse:
        # Oscar catches what fails here, after the savepoint has undone it.
        with nullcontext() if self._placement is None else transaction.atomic():
            response: HttpResponse = super().handle_order_placement(*args, **kwargs)
        return response

    def place_order(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().place_order(*args, **kwargs)
        except Exception:
            if self._placement is None:
                raise
            # Oscar sends order_placed when the order is written, and its receivers may raise. The
            # payment's source is then still missing.
            number = kwargs.get("order_number") or (args[0] if args else None)
            basket = kwargs.get("basket") or args[2]
            order = Order._default_manager.filter(number=number, basket=basket).first()
            if order is None:
                # Nothing was written, or the number is another buyer's.
                raise
            logger.exception("a receiver of order_placed failed: order=%s", number)
            if not order.sources.exists():
                self.save_payment_details(order)
            return order

    def handle_successful_order(self, order: Any) -> HttpResponse:
        """Finish the checkout; called within the transaction and once more after its commit."""
        response: HttpResponse
        if self._placement is None:
            response = super().handle_successful_order(order)
            return response
        if not self._placement.is_committed:
            self._placement.order = order
            outbox.enqueue(MailCode.PLACED, order)
            return HttpResponse()
        url = pay_url(order)
        response = HttpResponseRedirect(url)
        self.store_order_in_session(order)
        if not conf.get().mails:
            # Oscar's own e-mail may take long. A second click meanwhile finds the order.
            with log_and_continue("saving the session", order):
                self.request.session.save()
        with log_and_continue("finishing the checkout", order):
            response = super().handle_successful_order(order)
        self.checkout_session.flush()
        self.store_order_in_session(order)
        return response if getattr(response, "url", None) == url else HttpResponseRedirect(url)

    def store_order_in_session(self, order: Any) -> None:
        """Let this browser, and no link checker, create the order's invoice by a GET."""
        self.request.session["checkout_order_id"] = order.pk
        self.request.session[SESSION_KEY] = str(order.number)
        remember_order(self.request, order)

    def get_success_url(self) -> str:
        if self._placement is None or self._placement.order is None:
            return str(super().get_success_url())
        return pay_url(self._placement.order)

    def send_order_placed_email(self, order: Any) -> None:
        if self._placement is None:
            super().send_order_placed_email(order)
        elif not conf.get().mails:
            with log_and_continue("sending the e-mail", order):
                super().send_order_placed_email(order)
        # Otherwise the app's own e-mail is in the outbox. Oscar's says that the order "will be
        # processed shortly", which is wrong while it is unpaid.

    def send_signal(self, request: Any, response: Any, order: Any) -> None:
        if self._placement is None:
            super().send_signal(request, response, order)
            return
        with log_and_continue("sending post_checkout", order):
            super().send_signal(request, response, order)

    def _redirect_to_order_of(self, basket: Any) -> HttpResponse:
        order = Order._default_manager.filter(basket=basket).first()
        if order is None:
            messages.warning(
                self.request,
                _(
                    "An order for this basket is already being placed. Please wait a moment, then"
                    " reload this page."
                ),
            )
            return redirect("basket:summary")
        self.store_order_in_session(order)
        return HttpResponseRedirect(pay_url(order))

    def _render_failure(self, submission: dict[str, Any]) -> HttpResponse:
        error = _(
            "Your order could not be placed, and nothing was charged. Your basket is unchanged."
            " Please try again, or contact us if the problem persists."
        )
        submission["basket"].status = Basket.OPEN
        response: HttpResponse = self.render_preview(
            self.request, error=error, **submission["payment_kwargs"]
        )
        return response


@contextmanager
def log_and_continue(doing: str, order: Any) -> Iterator[None]:
    """Log an error of the block instead of raising it: the order stands, its buyer can pay."""
    in_request_transaction = transaction.get_connection().in_atomic_block
    try:
        # Inside a request's transaction, a failed statement would make all of it fail.
        with transaction.atomic() if in_request_transaction else nullcontext():
            yield
    except Exception:
        logger.exception("%s failed: order=%s", doing, order.number)
