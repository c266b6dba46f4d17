"""The headers of a page that shows addresses to pay to."""

from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.http import HttpResponse

from oscar_bitsby import conf


def secure_page(response: HttpResponse, settings: conf.Conf) -> None:
    """Let the page load only the shop's own files, and no other site frame it.

    An inline script could replace an address, wherever it came from.
    """
    response["Content-Security-Policy"] = content_security_policy(settings)
    response["X-Frame-Options"] = "DENY"


def content_security_policy(settings: conf.Conf) -> str:
    """Return the value of the header ``Content-Security-Policy``."""
    own = [_origin(django_settings.STATIC_URL), _origin(django_settings.MEDIA_URL)]
    sources = " ".join(dict.fromkeys(["'self'", *filter(None, own), *settings.csp_sources]))
    # Browsers apply form-action to redirects, too: the pay button may lead to Bitsby's page. A
    # host without a port would mean the usual port only.
    hosts = [host if ":" in host else f"{host}:*" for host in settings.payment_hosts]
    directives = {
        "default-src": sources,
        # Bootstrap's style sheet contains images.
        "img-src": f"{sources} data:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": " ".join(["'self'", *hosts]),
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def _origin(url: str | None) -> str:
    """Return the origin of an absolute URL, without a scheme if it has none; else nothing."""
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme and parts.netloc else parts.netloc
