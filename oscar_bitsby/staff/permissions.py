"""Check who may see money and who may move it."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.utils.translation import gettext as _

#: Allows to bind, accept, reinstate, dismiss and cancel; every view checks it.
BIND_PERMISSION = "oscar_bitsby.bind_payment"

#: Allows to request, send and cancel refunds.
REFUND_PERMISSION = "oscar_bitsby.refund_payment"

#: Each of these allows to see all amounts: export, overview and results of audits.
SEE_PERMISSIONS = (BIND_PERMISSION, REFUND_PERMISSION, "oscar_bitsby.view_bitsbypayment")


def may_see_money(user: Any) -> bool:
    """Return whether a user may see all amounts: active staff with one of the permissions.

    Users of a partner, who are not staff, may not: the amounts are those of all partners.
    """
    return _is_staff_with(user, *SEE_PERMISSIONS)


def require_see_permission(user: Any) -> None:
    """Raise ``PermissionDenied`` unless a user may see all amounts."""
    if not may_see_money(user):
        raise PermissionDenied(_("You need the permission “Can view Bitsby payment”."))


def may_refund(user: Any) -> bool:
    """Return whether a user may refund money: active staff with the permission."""
    return _is_staff_with(user, REFUND_PERMISSION)


def require_refund_permission(user: Any) -> None:
    """Raise ``PermissionDenied`` unless a user may refund money."""
    if not may_refund(user):
        raise PermissionDenied(_("You need the permission “Can refund Bitsby payments”."))


def may_move_money(user: Any) -> bool:
    """Return whether a user may move money: active staff with the permission."""
    return _is_staff_with(user, BIND_PERMISSION)


def require_money_permission(user: Any) -> None:
    """Raise ``PermissionDenied`` unless a user may move money."""
    if not may_move_money(user):
        raise PermissionDenied(_("You need the permission “Can bind Bitsby payments”."))


def _is_staff_with(user: Any, *any_of: str) -> bool:
    return bool(user.is_active and user.is_staff and any(map(user.has_perm, any_of)))
