"""Check who may move money."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.utils.translation import gettext as _

#: Allows to bind, accept, reinstate, dismiss and cancel; every view checks it.
BIND_PERMISSION = "oscar_bitsby.bind_payment"

#: Allows to request, send and cancel refunds.
REFUND_PERMISSION = "oscar_bitsby.refund_payment"


def may_refund(user: Any) -> bool:
    """Return whether a user may refund money: active staff with the permission."""
    return bool(user.is_active and user.is_staff and user.has_perm(REFUND_PERMISSION))


def require_refund_permission(user: Any) -> None:
    """Raise ``PermissionDenied`` unless a user may refund money."""
    if not may_refund(user):
        raise PermissionDenied(_("You need the permission “Can refund Bitsby payments”."))


def may_move_money(user: Any) -> bool:
    """Return whether a user may move money: active staff with the permission."""
    return bool(user.is_active and user.is_staff and user.has_perm(BIND_PERMISSION))


def require_money_permission(user: Any) -> None:
    """Raise ``PermissionDenied`` unless a user may move money."""
    if not may_move_money(user):
        raise PermissionDenied(_("You need the permission “Can bind Bitsby payments”."))
