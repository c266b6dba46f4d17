"""One signed POST to the URL of ``ALERTS``, as Standard Webhooks describe it.

Needs the libraries of the extra ``alerts``. The URL may contain a token: like the secret, it is
never shown, so errors have neither the texts nor the frames of ``requests``, which contain it.
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from ipaddress import ip_address, ip_network
from typing import Any

import requests_hardened
from django.utils.translation import gettext_noop
from requests_hardened.ip_filter import InvalidIPAddress
from requests_hardened.ip_filter_adapter import IPFilterAdapter
from standardwebhooks.webhooks import Webhook

from oscar_bitsby import __version__
from oscar_bitsby.conf import Alerts
from oscar_bitsby.gateway.adapter import DeadlineAdapter

#: For a whole request, in seconds. Only resolving the host's name may take longer.
TIMEOUT = 5.0

#: They log the host and the path of each request.
_LOGGERS = ("urllib3.connection", "urllib3.connectionpool", "requests_hardened.ip_filter")


#: All public addresses of IPv6. ``is_global`` is also true of site-local ones and of those that
#: contain one of IPv4.
_IPV6_UNICAST = ip_network("2000::/3")


class _HttpsFilter(IPFilterAdapter):  # type: ignore[misc]  # it has no types
    def __init__(self) -> None:
        super().__init__(is_https_proto=True)

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        """Return what names the connection, whose host has been resolved to an address.

        The address that is checked is the one that is connected to: DNS is not asked again.
        """
        host_params, pool_kwargs = super().build_connection_pool_key_attributes(*args, **kwargs)
        address = ip_address(host_params["host"].strip("[]"))
        is_unicast = address.version == 4 or address in _IPV6_UNICAST
        if not (address.is_global and is_unicast):
            raise InvalidIPAddress(address)
        return host_params, pool_kwargs


class _Adapter(DeadlineAdapter, _HttpsFilter):
    """Connects to public addresses only, whatever DNS answers, and ends when the time is up."""


def post(alerts: Alerts, uid: str, body: str) -> str:
    """Post a JSON text; return what went wrong, or an empty text after an answer of 2xx.

    Args:
        alerts: the URL and the secret.
        uid: names the alert; the same in each try.
    """
    # The error is raised here, where no variable holds the request.
    result = _try(alerts, uid, body)
    if isinstance(result, BaseException):
        raise result
    return result


def _try(alerts: Alerts, uid: str, body: str) -> str | BaseException:
    try:
        headers = _sign(alerts, uid, body)
        with _no_logs_of_this_thread():
            status = _exchange(alerts, headers, body.encode())
    except InvalidIPAddress:
        return gettext_noop("the host of the URL has no public address")
    except BaseException as error:
        if not isinstance(error, Exception):
            # The process is being stopped: go on with that, without the frames below.
            error.__context__ = error.__cause__ = None
            return error.with_traceback(None)
        return type(error).__name__
    return "" if 200 <= status < 300 else f"HTTP {status}"


def _sign(alerts: Alerts, uid: str, body: str) -> dict[str, str]:
    now = datetime.now(timezone.utc)
    return {
        "Content-Type": "application/json",
        "User-Agent": f"django-oscar-bitsby/{__version__}",
        "webhook-id": uid,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(alerts.secret.reveal()).sign(uid, now, body),
    }


def _exchange(alerts: Alerts, headers: Mapping[str, str], body: bytes) -> int:
    """Return the status of the answer, whose body is not read."""
    config = requests_hardened.Config(
        ip_filter_enable=True,
        ip_filter_allow_loopback_ips=False,
        never_redirect=True,
        default_timeout=(TIMEOUT, TIMEOUT),
    )
    adapter = _Adapter()
    with requests_hardened.HTTPSession(config) as session:
        # No other scheme has an adapter, so it is refused.
        session.adapters.clear()
        session.mount("https://", adapter)
        with (
            adapter.interrupted_after(TIMEOUT),
            session.post(
                alerts.url.reveal(),
                data=body,
                headers=headers,
                timeout=TIMEOUT,
                stream=True,
            ) as response,
        ):
            return int(response.status_code)


@contextmanager
def _no_logs_of_this_thread() -> Iterator[None]:
    thread = threading.get_ident()

    def is_of_others(record: Any) -> bool:
        return threading.get_ident() != thread

    with ExitStack() as stack:
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            logger.addFilter(is_of_others)
            stack.callback(logger.removeFilter, is_of_others)
        yield
