"""System checks: what is wrong with the shop, and how to fix it."""

import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Warning
from django.urls import (
    NoReverseMatch,
    Resolver404,
    URLResolver,
    get_resolver,
    get_script_prefix,
    resolve,
    reverse,
)
from django.urls.resolvers import LocalePrefixPattern
from oscar.core.loading import get_model

from oscar_bitsby import conf
from oscar_bitsby.exceptions import ConfigurationError
from oscar_bitsby.ops import settings_checks
from oscar_bitsby.ops.alert_checks import check_alerts
from oscar_bitsby.ops.database_checks import check_databases


def check_bitsby(**kwargs: Any) -> list[CheckMessage]:
    """Run all checks of the app; without valid settings, skip the checks that need them."""
    return [*_check_order_of_apps(), *_check_settings()]


#: Django's SMTP backends, which have no timeout unless one is set.
SMTP = "django.core.mail.backends.smtp."


def check_mail_server(**kwargs: Any) -> list[CheckMessage]:
    """Warn of a mail server without a timeout, which could block a run."""
    given = conf.raw()
    sends = isinstance(given, Mapping) and (given.get("MAILS", True) or given.get("ALERTS"))
    # From Django 6.1 on, a shop can use MAILERS instead.
    mailers = getattr(django_settings, "MAILERS", None)
    if mailers is None:
        backend, timeout = django_settings.EMAIL_BACKEND, django_settings.EMAIL_TIMEOUT
        name, remedy = "EMAIL_TIMEOUT", "Set EMAIL_TIMEOUT = 10."
    else:
        mailer = mailers.get("default", {})
        backend = mailer.get("BACKEND", SMTP)
        timeout = mailer.get("OPTIONS", {}).get("timeout")
        name, remedy = "MAILERS' timeout", "Set MAILERS['default']['OPTIONS'] = {'timeout': 10, …}."
    if not (sends and backend.startswith(SMTP) and timeout is None):
        return []
    return [
        Warning(
            f"{name} is not set: a mail server that does not answer would block"
            " bitsby_reconcile, which settles payments.",
            hint=remedy,
            id="oscar_bitsby.W004",
        )
    ]


def _check_order_of_apps() -> Iterator[CheckMessage]:
    labels = [config.label for config in apps.get_app_configs()]
    if "checkout" in labels and labels.index("oscar_bitsby") < labels.index("checkout"):
        yield Error(
            "oscar_bitsby comes before Oscar's checkout in INSTALLED_APPS, so it cannot"
            " extend the checkout.",
            hint="Put 'oscar_bitsby' after Oscar's own apps and the shop's forks of them.",
            id="oscar_bitsby.E008",
        )


def _check_settings() -> Iterator[CheckMessage]:
    if not conf.is_configured():
        yield Warning(
            "OSCAR_BITSBY is not set, so no crypto payments are offered.",
            hint="Set OSCAR_BITSBY = {'API_KEY': ..., 'PROJECT_ID': ...} with the values from"
            " your Bitsby account, or remove oscar_bitsby from INSTALLED_APPS.",
            id="oscar_bitsby.W001",
        )
        return
    yield from settings_checks.check_keys()
    try:
        settings = conf.get()
    except ConfigurationError as error:
        yield Error(
            f"{error}.",
            hint="See the table of settings in the documentation for valid values.",
            id="oscar_bitsby.E001",
        )
        return
    yield from settings_checks.check_credentials(settings)
    yield from settings_checks.check_values(settings)
    yield from settings_checks.check_addresses(settings)
    yield from settings_checks.check_default_currency(settings)
    yield from check_alerts(settings)
    yield from _check_time_zones()
    yield from _check_statuses(settings)
    yield from _check_urls()
    yield from _check_hook()
    yield from _check_celery(settings)
    yield from check_databases()


def _check_time_zones() -> Iterator[CheckMessage]:
    if not django_settings.USE_TZ:
        yield Error(
            "USE_TZ is False: moments without a time zone cannot be compared with Bitsby's, so"
            " Bitsby is not offered.",
            hint="Set USE_TZ = True, Django's default.",
            id="oscar_bitsby.E017",
        )


def _check_statuses(settings: conf.Conf) -> Iterator[CheckMessage]:
    pipeline = get_model("order", "Order").pipeline
    pending, paid = settings.order_status_pending, settings.order_status_paid
    statuses = [pending, paid]
    if settings.cancel_after is not None or settings.hold_order_for is not None:
        statuses.append(settings.order_status_cancelled)
    missing = [status for status in statuses if status not in pipeline]
    if pending in missing and not pending:
        yield Error(
            "OSCAR_INITIAL_ORDER_STATUS is not set, so orders would have no status.",
            hint="Set it to a status of OSCAR_ORDER_STATUS_PIPELINE, such as 'Pending', or set"
            " ORDER_STATUS_PENDING of OSCAR_BITSBY.",
            id="oscar_bitsby.E006",
        )
    named = [status for status in missing if status]
    if named:
        yield Error(
            f"OSCAR_ORDER_STATUS_PIPELINE does not have: {', '.join(map(repr, named))}.",
            hint="Add them there, or set the shop's own statuses as ORDER_STATUS_PENDING,"
            " ORDER_STATUS_PAID and ORDER_STATUS_CANCELLED of OSCAR_BITSBY.",
            id="oscar_bitsby.E006",
        )
    if missing:
        return
    for status in statuses[1:]:
        if status not in pipeline[pending]:
            yield Error(
                f"OSCAR_ORDER_STATUS_PIPELINE does not allow {pending!r} to become {status!r}.",
                hint=f"Add {status!r} to OSCAR_ORDER_STATUS_PIPELINE[{pending!r}].",
                id="oscar_bitsby.E007",
            )
    cancelled = settings.order_status_cancelled
    if cancelled in pipeline and paid not in pipeline[cancelled]:
        yield Warning(
            f"OSCAR_ORDER_STATUS_PIPELINE does not allow {cancelled!r} to become {paid!r}: a"
            " cancelled order cannot be reinstated when its payment arrives late.",
            hint=f'Add "{cancelled}": ("{paid}",) to OSCAR_ORDER_STATUS_PIPELINE.',
            id="oscar_bitsby.W009",
        )


def _check_urls() -> Iterator[CheckMessage]:
    try:
        reverse("oscar_bitsby:webhook")
    except NoReverseMatch:
        yield Error(
            "The app's URLs are not included, so orders cannot be paid.",
            hint="Add path('bitsby/', include('oscar_bitsby.urls')) to the root URLs, outside"
            " i18n_patterns.",
            id="oscar_bitsby.E014",
        )
        return
    for pattern in get_resolver().url_patterns:
        if isinstance(pattern.pattern, LocalePrefixPattern) and _has_our_urls(pattern):
            yield Error(
                "The app's URLs are inside i18n_patterns: webhook deliveries would be redirected"
                " and lose their body.",
                hint="Move path('bitsby/', include('oscar_bitsby.urls')) out of i18n_patterns.",
                id="oscar_bitsby.E009",
            )


def _has_our_urls(pattern: Any) -> bool:
    if not isinstance(pattern, URLResolver):
        return False
    return pattern.app_name == "oscar_bitsby" or any(map(_has_our_urls, pattern.url_patterns))


def _check_hook() -> Iterator[CheckMessage]:
    from oscar_bitsby.checkout.mixins import PaymentDetailsMixin, PaymentMethodMixin

    for name, mixin in (("payment-method", PaymentMethodMixin), ("preview", PaymentDetailsMixin)):
        try:
            # reverse() adds the prefix of FORCE_SCRIPT_NAME, which resolve() does not accept.
            address = "/" + reverse(f"checkout:{name}").removeprefix(get_script_prefix())
            view = getattr(resolve(address).func, "view_class", None)
        except (NoReverseMatch, Resolver404):
            view = None
        if view is None or not issubclass(view, mixin):
            yield Warning(
                f"The checkout's {name} view does not support Bitsby, so Bitsby is not offered: the"
                " shop uses a view class of its own, which the app cannot extend.",
                hint=f"Add oscar_bitsby.checkout.mixins.{mixin.__name__} as the first base class"
                " of the shop's view.",
                id="oscar_bitsby.W003",
            )


def _check_celery(settings: conf.Conf) -> Iterator[CheckMessage]:
    if settings.celery and importlib.util.find_spec("celery") is None:
        yield Error(
            "OSCAR_BITSBY['CELERY'] is set, but Celery is not installed, so workers cannot process"
            " webhook deliveries.",
            hint="Run pip install 'django-oscar-bitsby[celery]', or remove CELERY.",
            id="oscar_bitsby.E015",
        )


def register_checks() -> None:
    """Register the checks with Django, once at startup."""
    checks.register(check_bitsby, "oscar_bitsby")
    checks.register(check_mail_server, "oscar_bitsby", deploy=True)
