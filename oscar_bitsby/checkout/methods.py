"""The payment methods that a basket is offered: Bitsby and the shop's own."""

import logging
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext_lazy as _

from oscar_bitsby import conf
from oscar_bitsby.conf import METHOD_CODE
from oscar_bitsby.exceptions import ConfigurationError
from oscar_bitsby.utils import requirements

logger = logging.getLogger("oscar_bitsby")


@dataclass(frozen=True)
class Method:
    """A payment method as buyers see it."""

    code: str
    label: Any
    help: Any = ""

    @property
    def is_bitsby(self) -> bool:
        return self.code == METHOD_CODE


LABEL = _("Cryptocurrency (Bitsby)")
#: By ``PAYMENT_PAGE``.
HELP = {
    conf.HOSTED: _(
        "Pay in the cryptocurrency of your choice on Bitsby's payment page, right after you place"
        " your order."
    ),
    conf.SHOP: _("Pay in the cryptocurrency of your choice, right after you place your order."),
}


def methods_for(currency: str, amount: Decimal) -> list[Method]:
    """Return the methods for a total of ``amount`` in ``currency``.

    With unusable settings, or where payments could not be processed, Bitsby is not offered: they
    never break the shop's checkout.
    """
    methods = [Method(code, label) for code, label in conf.other_methods() if code != METHOD_CODE]
    try:
        settings = conf.get()
        if settings.offers(currency, amount):
            requirements.ensure_met()
            methods.insert(0, Method(METHOD_CODE, LABEL, HELP.get(settings.payment_page, "")))
    except ConfigurationError as error:
        logger.error("Bitsby is not offered: %s", error)
    return methods
