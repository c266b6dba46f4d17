"""Who may move money."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.utils.translation import gettext as _

#: The permission that moves money; checked on the server for every way in.
BIND_PERMISSION = "oscar_bitsby.bind_payment"


def may_move_money(user: Any) -> bool:
    """Tell whether a user may bind, accept, dismiss and cancel: staff with the permission only."""
    return bool(user.is_active and user.is_staff and user.has_perm(BIND_PERMISSION))


def require_money_permission(user: Any) -> None:
    """Refuse everybody who may not move money.

    Raises:
        PermissionDenied: the user is not staff, or has not the permission.
    """
    if not may_move_money(user):
        raise PermissionDenied(_("You need the permission “Can bind Bitsby payments”."))
