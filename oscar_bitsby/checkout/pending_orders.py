"""``MAX_PENDING_ORDERS``: the unpaid orders that one account, guest e-mail or session may have."""

from dataclasses import dataclass
from typing import Any

from django.db import connections, router
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import conf
from oscar_bitsby.orders.signed_urls import order_url

Order = get_model("order", "Order")
Source = get_model("payment", "Source")

#: The session's key of the orders that this browser has placed; the oldest are forgotten.
SESSION_KEY = "oscar_bitsby_orders"
MAX_REMEMBERED = 100


class PendingLimitReached(Exception):
    """The buyer has as many unpaid orders as ``MAX_PENDING_ORDERS`` allows."""


@dataclass(frozen=True)
class PendingOrders:
    """The unpaid orders of a buyer.

    Attributes:
        own: those of the account or of this session. The page shows no others, because anyone can
            type another person's e-mail address.
        limit: ``MAX_PENDING_ORDERS``.
        email_reached_limit: whether the typed e-mail address has as many as that.
    """

    own: list[Any]
    limit: int
    email_reached_limit: bool

    @property
    def own_reached_limit(self) -> bool:
        return len(self.own) >= self.limit

    @property
    def is_limit_reached(self) -> bool:
        return self.own_reached_limit or self.email_reached_limit

    def links(self) -> list[dict[str, Any]]:
        """Return the buyer's own orders with the URLs of their pages."""
        return [{"order": order, "url": order_url(order)} for order in self.own]


def find_pending_orders(request: HttpRequest, email: str | None) -> PendingOrders | None:
    """Return the unpaid orders of the buyer who sends a request; None if there is no limit.

    Args:
        email: the address that a guest has typed. For an account it is ignored.
    """
    settings = conf.get()
    limit = settings.max_pending_orders
    if limit is None:
        return None
    unpaid = _unpaid_orders(settings)
    is_own = Q(pk__in=request.session.get(SESSION_KEY, []))
    email_reached_limit = False
    if request.user.is_authenticated:
        is_own |= Q(user=request.user.pk)
    elif email:
        rows = unpaid.filter(guest_email__iexact=email)
        if settings.hold_order_for is not None:
            # Oscar indexes no e-mail address. Older orders are about to be cancelled.
            rows = rows.filter(date_placed__gt=timezone.now() - settings.hold_order_for)
        email_reached_limit = rows[:limit].count() >= limit
    own = list(unpaid.filter(is_own).order_by("-pk")[:MAX_REMEMBERED])
    return PendingOrders(own, limit, email_reached_limit)


def _unpaid_orders(settings: conf.Conf) -> QuerySet[Any]:
    unpaid = Source.objects.filter(
        order=OuterRef("pk"), source_type__code=conf.METHOD_CODE, amount_debited=0
    )
    rows: QuerySet[Any] = Order._default_manager.filter(
        Exists(unpaid), status=settings.order_status_pending
    )
    return rows


def check_pending_orders(request: HttpRequest, email: str | None) -> None:
    """Check the limit once more, in the transaction that places the order.

    Raises:
        PendingLimitReached: the buyer has placed others meanwhile, in other windows for example.
    """
    if conf.get().max_pending_orders is None:
        return
    user_pk = request.user.pk
    connection = connections[router.db_for_write(Order)]
    # Orders that are placed at the same moment are counted, too. SQLite has one writer anyway.
    if connection.vendor == "postgresql":
        buyer = f"oscar_bitsby:{(email or '').lower() if user_pk is None else user_pk}"
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [buyer])
    pending = find_pending_orders(request, email)
    if pending is not None and pending.is_limit_reached:
        raise PendingLimitReached


def remember_order(request: HttpRequest, order: Any) -> None:
    """Remember in the session that this browser has placed an order."""
    others = [pk for pk in request.session.get(SESSION_KEY, []) if pk != order.pk]
    request.session[SESSION_KEY] = [*others, order.pk][-MAX_REMEMBERED:]
