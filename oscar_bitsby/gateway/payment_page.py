"""The payment page of an invoice: the address that a buyer may be redirected to."""

import re
from urllib.parse import urlsplit

from oscar_bitsby import conf
from oscar_bitsby.exceptions import PaymentPageRefused
from oscar_bitsby.models import BitsbyInvoice


def payment_page(invoice: BitsbyInvoice) -> str:
    """Return the address of the invoice's payment page at Bitsby.

    Raises:
        PaymentPageRefused: it leads to a host that is not in ``PAYMENT_HOSTS``, or is not https
            while the API is.
    """
    settings = conf.get()
    subject = f"invoice {invoice.bitsby_id}: its payment page is"
    try:
        parts = urlsplit(invoice.url)
    except ValueError:
        raise PaymentPageRefused(f"{subject} not an address") from None
    schemes = {"https", urlsplit(settings.api_url).scheme}
    host = (parts.hostname or "").lower()
    allowed = host in settings.payment_hosts or parts.netloc.lower() in settings.payment_hosts
    # Browsers and URL parsers interpret these differently.
    strange = re.search(r"[\x00-\x20\x7f\\]", invoice.url) or "@" in parts.netloc
    if parts.scheme in schemes and allowed and not strange:
        return invoice.url
    raise PaymentPageRefused(
        f"{subject} on {host[:100]!r}, which is not in OSCAR_BITSBY['PAYMENT_HOSTS']"
    )
