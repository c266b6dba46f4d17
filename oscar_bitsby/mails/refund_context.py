"""The context of e-mails about refunds, and whether such an e-mail is still true.

They do not depend on the order's payment status: a paid or cancelled order has refunds as well.
"""

from typing import Any

from django.contrib.sites.models import Site
from django.utils.translation import gettext_noop
from oscar.templatetags.url_tags import absolute_url

from oscar_bitsby.choices import MailCode, RefundState
from oscar_bitsby.mails import outbox
from oscar_bitsby.models import BuyerMail
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.orders.refund_status import RefundStatus

#: The state that a refund must have while an e-mail of a code is true.
VALID_STATES = {
    MailCode.REFUND_REQUESTED: RefundState.REQUESTED,
    MailCode.REFUND_ADDRESS: RefundState.ADDRESS_GIVEN,
    MailCode.REFUND_SENT: RefundState.SENT,
}

STATE_REASONS = {
    RefundState.REQUESTED: gettext_noop("the refund has no address"),
    RefundState.ADDRESS_GIVEN: gettext_noop("the refund has its address"),
    RefundState.SENT: gettext_noop("the refund was sent"),
    RefundState.CANCELLED: gettext_noop("the refund was cancelled"),
}


def skip_reason(mail: BuyerMail) -> str:
    """Return why an e-mail about a refund must not be sent (any more), or an empty text."""
    refund = mail.refund
    if refund is None:
        return gettext_noop("the refund was deleted")
    state = RefundState(refund.state)
    if state != VALID_STATES[MailCode(mail.code)]:
        return STATE_REASONS[state]
    if mail.key != outbox.mail_key(mail.code, mail.order, mail.invoice, mail.payment, refund):
        return gettext_noop("the refund has a newer link")
    return ""


def build_context(mail: BuyerMail) -> dict[str, Any]:
    """Return what the templates get in addition: nothing if the e-mail is not about a refund.

    ``refund_status`` is a ``RefundStatus``, ``refund_url`` the complete address of the page where
    the buyer gives the address, and ``days_valid`` for how many days it can be opened.
    """
    refund = mail.refund
    if refund is None:
        return {}
    domain = Site.objects.get_current().domain
    return {
        "refund": refund,
        "refund_status": RefundStatus(refund),
        "refund_url": absolute_url(domain, signed_urls.refund_url(refund)),
        "days_valid": signed_urls.REFUND_URL_MAX_AGE.days,
    }
