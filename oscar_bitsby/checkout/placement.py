"""Placing an order that Bitsby will be asked about later: one order for one basket, whatever
clicks, mail servers and signal receivers do."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from oscar.core.loading import get_class, get_model

from oscar_bitsby import conf
from oscar_bitsby.accounting import ledger
from oscar_bitsby.choices import MailCode
from oscar_bitsby.mails import outbox
from oscar_bitsby.orders.signed_urls import pay_url

logger = logging.getLogger("oscar_bitsby")

Basket = get_model("basket", "Basket")
CheckoutSessionData = get_class("checkout.utils", "CheckoutSessionData")
Order = get_model("order", "Order")
Source = get_model("payment", "Source")


class BasketAlreadySubmitted(Exception):
    """The basket is being submitted, or was, by another request."""


class OrderPlacementMixin:
    """Goes in front of Oscar's ``PaymentDetailsView``.

    For an order that is paid by Bitsby, everything from freezing the basket to submitting it is
    one transaction: a process that dies in it leaves an open basket and no order. Mails and
    ``post_checkout`` come after it and cannot undo it. Other orders go the shop's own way.
    """

    request: Any
    checkout_session: Any
    _bitsby_phase = ""
    _bitsby_order: Any = None

    def submit(self, **submission: Any) -> HttpResponse:
        parent: Any = super()
        if not self.pays_by_bitsby(submission.get("order_total")):  # type: ignore[attr-defined]
            response: HttpResponse = parent.submit(**submission)
            return response
        basket = submission["basket"]
        self._bitsby_phase, self._bitsby_order = "placing", None
        try:
            with transaction.atomic():
                response = parent.submit(**submission)
        except BasketAlreadySubmitted:
            return self._go_to_order_of(basket)
        except Exception:
            # The transaction is undone: there is no order, and the basket is open as before.
            logger.exception("order not placed: basket=%s", basket.pk)
            return self._render_failure(submission)
        finally:
            self._bitsby_phase = ""
        if self._bitsby_order is None:
            return response
        return self.handle_successful_order(self._bitsby_order)

    def freeze_basket(self, basket: Any) -> None:
        parent: Any = super()
        if self._bitsby_phase != "placing":
            parent.freeze_basket(basket)
            return
        # Compare and set in one statement: of two clicks, one gets the basket. The other waits
        # here until the first is committed, and then finds its order.
        is_ours = Basket.objects.filter(pk=basket.pk, status__in=Basket.editable_statuses).update(
            status=Basket.FROZEN
        )
        if not is_ours:
            raise BasketAlreadySubmitted
        basket.status = Basket.FROZEN

    def handle_payment(self, order_number: str, total: Any, **kwargs: Any) -> None:
        parent: Any = super()
        if self._bitsby_phase != "placing":
            parent.handle_payment(order_number, total, **kwargs)
            return
        source = Source(
            source_type=ledger.source_type(),
            currency=total.currency,
            amount_allocated=total.incl_tax,
        )
        self.add_payment_source(source)  # type: ignore[attr-defined]

    def get_initial_order_status(self, basket: Any) -> Any:
        parent: Any = super()
        if self._bitsby_phase != "placing":
            return parent.get_initial_order_status(basket)
        return conf.get().order_status_pending

    def handle_order_placement(self, *args: Any, **kwargs: Any) -> HttpResponse:
        parent: Any = super()
        with transaction.atomic() if self._bitsby_phase == "placing" else nullcontext():
            response: HttpResponse = parent.handle_order_placement(*args, **kwargs)
        return response

    def place_order(self, *args: Any, **kwargs: Any) -> Any:
        parent: Any = super()
        if self._bitsby_phase != "placing":
            return parent.place_order(*args, **kwargs)
        try:
            return parent.place_order(*args, **kwargs)
        except Exception:
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
                self.save_payment_details(order)  # type: ignore[attr-defined]
            return order

    def handle_successful_order(self, order: Any) -> HttpResponse:
        parent: Any = super()
        if self._bitsby_phase == "placing":
            # Not yet: mails and receivers come when the order is committed.
            self._bitsby_order = order
            outbox.enqueue(MailCode.PLACED, order)
            return HttpResponse()
        if self._bitsby_order is None:
            response: HttpResponse = parent.handle_successful_order(order)
            return response
        self._bitsby_phase = "placed"
        url = pay_url(order)
        response = HttpResponseRedirect(url)
        # A second click may come while the mail is on its way: let it find the order.
        self.store_order_in_session(order)  # type: ignore[attr-defined]
        saved = None
        with log_and_continue("saving the session", order):
            saved = self._save_session_as_it_will_be()
        with log_and_continue("finishing the checkout", order):
            response = parent.handle_successful_order(order)
        self.checkout_session.flush()
        self.store_order_in_session(order)  # type: ignore[attr-defined]
        if dict(self.request.session.items()) == saved and self._browser_holds_the_key():
            # It stands there already.
            self.request.session.modified = False
        return response if getattr(response, "url", None) == url else HttpResponseRedirect(url)

    def _save_session_as_it_will_be(self) -> dict[str, Any]:
        """Save the session without what the checkout has gathered, and return what was saved.

        What was gathered stays here for the mail and for receivers, and goes in the end; if nothing
        else changes meanwhile, the session need not be written twice.
        """
        session, key = self.request.session, CheckoutSessionData.SESSION_KEY
        gathered = session.get(key, {})
        try:
            # Oscar leaves an empty one behind.
            session[key] = {}
            session.save()
            return copy.deepcopy(dict(session.items()))
        finally:
            session[key] = gathered

    def _browser_holds_the_key(self) -> bool:
        """Tell whether no cookie has to be sent; where it is the session itself, it always has."""
        cookie = self.request.COOKIES.get(settings.SESSION_COOKIE_NAME)
        return bool(cookie == self.request.session.session_key)

    def get_success_url(self) -> str:
        parent: Any = super()
        if self._bitsby_order is None:
            return str(parent.get_success_url())
        return pay_url(self._bitsby_order)

    def send_order_placed_email(self, order: Any) -> None:
        parent: Any = super()
        if self._bitsby_phase == "placed" and outbox.is_enabled():
            # Oscar's own says that the order "will be processed shortly", unpaid as it is. Ours is
            # noted; the next pass sends it, and knows then until when there is to be paid.
            return
        with self._shield("sending the mail", order):
            parent.send_order_placed_email(order)

    def send_signal(self, request: Any, response: Any, order: Any) -> None:
        parent: Any = super()
        with self._shield("sending post_checkout", order):
            parent.send_signal(request, response, order)

    def _shield(self, doing: str, order: Any) -> Any:
        return log_and_continue(doing, order) if self._bitsby_phase == "placed" else nullcontext()

    def _go_to_order_of(self, basket: Any) -> HttpResponse:
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
        self.store_order_in_session(order)  # type: ignore[attr-defined]
        return HttpResponseRedirect(pay_url(order))

    def _render_failure(self, submission: dict[str, Any]) -> HttpResponse:
        error = _(
            "Your order could not be placed, and nothing was charged. Your basket is unchanged."
            " Please try again, or contact us if the problem persists."
        )
        submission["basket"].status = Basket.OPEN
        response: HttpResponse = self.render_preview(  # type: ignore[attr-defined]
            self.request, error=error, **submission["payment_kwargs"]
        )
        return response


@contextmanager
def log_and_continue(doing: str, order: Any) -> Iterator[None]:
    """Log what fails in the block: the order is placed, and its buyer goes on."""
    in_request_transaction = transaction.get_connection().in_atomic_block
    try:
        # Inside a request's transaction a failed statement would spoil all of it.
        with transaction.atomic() if in_request_transaction else nullcontext():
            yield
    except Exception:
        logger.exception("%s failed: order=%s", doing, order.number)
