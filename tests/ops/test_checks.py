"""System checks: each finds its mistake and names the remedy; a correct shop gets no message."""

import importlib.machinery
import sys
import types
from datetime import timedelta

import pytest
from django.apps import apps
from django.conf.urls.i18n import i18n_patterns
from django.core.checks import ERROR, WARNING, run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections
from django.urls import clear_url_caches, get_script_prefix, include, path, set_script_prefix
from django.views.generic import View
from oscar.core.loading import get_model

from oscar_bitsby import conf
from tests import urls as stock
from tests.support.bitsby import KEY

Order = get_model("order", "Order")


def found():
    return run_checks(tags=["oscar_bitsby"])


@pytest.fixture
def given(settings):
    """Return a function that changes settings and returns the messages of the checks."""

    def change(**values):
        settings.OSCAR_BITSBY = settings.OSCAR_BITSBY | values
        return found()

    return change


@pytest.fixture
def mounted(settings, monkeypatch):
    """Return a function that replaces the shop's URLs and runs the checks."""

    def mount(*patterns):
        module = types.ModuleType("tests.other_urls")
        module.urlpatterns = list(patterns)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        settings.ROOT_URLCONF = module.__name__
        return found()

    yield mount
    clear_url_caches()


def assert_one(messages, id, level, *, says, hint):
    """Assert that there is only this message, and that its hint names the remedy."""
    assert [message.id for message in messages] == [f"oscar_bitsby.{id}"]
    (message,) = messages
    assert message.level == level
    assert says in message.msg
    assert hint in message.hint
    assert KEY not in f"{message}"


def test_stock_shop_gets_no_message():
    """API key and project are all that a stock shop needs."""
    assert found() == []


def test_checks_run_with_manage_py_check(settings):
    """``manage.py check`` runs the checks, and their errors make it fail."""
    call_command("check")
    settings.OSCAR_BITSBY = settings.OSCAR_BITSBY | {"API_KEYS": "x"}
    with pytest.raises(SystemCheckError, match=r"oscar_bitsby\.E003"):
        call_command("check")


@pytest.mark.parametrize("value", [None, {}])
def test_w001_without_settings(settings, value):
    """A shop with an empty ``OSCAR_BITSBY`` gets this warning only."""
    settings.OSCAR_BITSBY = value
    assert_one(found(), "W001", WARNING, says="not set", hint="Set OSCAR_BITSBY = {'API_KEY'")


def test_w001_without_the_setting_at_all(settings):
    """A shop without ``OSCAR_BITSBY`` gets this warning only."""
    del settings.OSCAR_BITSBY
    assert_one(found(), "W001", WARNING, says="not set", hint="INSTALLED_APPS")


@pytest.mark.parametrize("key", ["API_KEY", "PROJECT_ID"])
def test_e001_without_key_or_project(given, key):
    """A missing key or project is named."""
    assert_one(given(**{key: None}), "E001", ERROR, says=f"'{key}'", hint="documentation")


def test_e001_for_a_value_that_cannot_be_used(given):
    """A value of a wrong type is named by its key, and the value is not shown."""
    messages = given(TIMEOUT=f"soon {KEY}")
    assert_one(messages, "E001", ERROR, says="'TIMEOUT'", hint="table of settings")


@pytest.mark.parametrize("value", ["API_KEY", ["API_KEY"]])
def test_e001_for_settings_of_another_type(settings, value):
    """Settings that are not a dict are an error."""
    settings.OSCAR_BITSBY = value
    assert_one(found(), "E001", ERROR, says="not a dict", hint="documentation")


@pytest.mark.parametrize("value", [True, 5, [{"API_KEY": "x"}]])
def test_e001_for_settings_without_keys(settings, value):
    """Settings that cannot be searched for keys do not crash the checks."""
    settings.OSCAR_BITSBY = value
    assert_one(found(), "E001", ERROR, says="not a dict", hint="documentation")


@pytest.mark.parametrize("key", [f"{KEY} ", f" {KEY}", f"{KEY}\n", f"Token {KEY}", "ключ", "a\tb"])
def test_e002_for_a_key_with_other_characters(given, key):
    """A key that was copied with spaces, line ends or the word Token is found."""
    messages = given(API_KEY=key)
    assert_one(messages, "E002", ERROR, says="API_KEY", hint="without the word 'Token'")


@pytest.mark.parametrize("project", ["My project", "9deea1e2", 5])
def test_e002_for_a_project_that_is_not_a_uuid(given, project):
    """A project's name in the place of its id is found."""
    messages = given(PROJECT_ID=project)
    assert_one(messages, "E002", ERROR, says="'PROJECT_ID'", hint="9deea1e2-0c08-41a3")


def test_e003_for_unknown_keys(given):
    """Misspelt keys are named, and the hint lists the valid ones."""
    messages = given(API_KEYS="x", timeout=5)
    assert_one(messages, "E003", ERROR, says="API_KEYS, timeout", hint=", ".join(conf.DEFAULTS))


def test_e003_comes_with_other_errors(given):
    """A misspelt key is reported together with the missing one."""
    messages = given(API_KEY=None, API_KEYS="x")
    assert [message.id for message in messages] == ["oscar_bitsby.E003", "oscar_bitsby.E001"]


@pytest.mark.parametrize("hours", [0, 2, 24, "0.25", -1])
def test_e004_for_an_invalid_time_to_pay(given, hours):
    """A time to pay that is not documented is found."""
    messages = given(TIME_TO_PAY=hours)
    assert_one(messages, "E004", ERROR, says=f"is {hours}", hint="0.5, 1, 3, 6 or 12")


@pytest.mark.parametrize("hours", [0.5, 1, 3, 6, 12, "0.50", 1.0])
def test_documented_times_to_pay_are_valid(given, hours):
    """Each documented time is valid, as any type of number."""
    assert given(TIME_TO_PAY=hours) == []


@pytest.mark.parametrize(
    ("currencies", "says"), [(["USD", "GBP"], "GBP"), (["usd"], "usd"), ([], "CURRENCIES")]
)
def test_e005_for_invalid_currencies(given, currencies, says):
    """An unknown currency, a wrong spelling and an empty list are found."""
    messages = given(CURRENCIES=currencies)
    assert_one(messages, "E005", ERROR, says=says, hint="USD, EUR and RUB")


@pytest.mark.parametrize(
    "key", ["ORDER_STATUS_PENDING", "ORDER_STATUS_PAID", "ORDER_STATUS_CANCELLED"]
)
def test_e006_for_a_status_missing_in_the_pipeline(given, key):
    """A status that the pipeline does not have is named, with the setting to change."""
    messages = given(**{key: "Elsewhere"})
    assert_one(messages, "E006", ERROR, says="'Elsewhere'", hint=key)


def test_e006_for_a_shop_without_an_initial_status(settings, monkeypatch):
    """Without any order statuses both settings are named, without empty quotes."""
    del settings.OSCAR_INITIAL_ORDER_STATUS
    monkeypatch.setattr(Order, "pipeline", {})
    first, second = found()
    assert_one([first], "E006", ERROR, says="OSCAR_INITIAL_ORDER_STATUS", hint="'Pending'")
    assert_one(
        [second], "E006", ERROR, says="'Being processed', 'Cancelled'", hint="ORDER_STATUS_PAID"
    )
    assert "''" not in first.msg + second.msg


def test_cancelled_status_is_optional_without_cancel_after(given):
    """With ``CANCEL_AFTER`` None the cancelled status is not checked."""
    assert given(CANCEL_AFTER=None, ORDER_STATUS_CANCELLED="Elsewhere") == []
    assert given(CANCEL_AFTER=timedelta(0), ORDER_STATUS_CANCELLED="Elsewhere") != []


@pytest.mark.parametrize(
    ("pipeline", "missing"),
    [
        ({"Pending": ("Cancelled",)}, "Being processed"),
        ({"Pending": ("Being processed",)}, "Cancelled"),
    ],
)
def test_e007_for_a_change_that_the_pipeline_forbids(monkeypatch, pipeline, missing):
    """A pipeline in which a pending order cannot become paid or cancelled is found."""
    monkeypatch.setattr(
        Order, "pipeline", {"Being processed": (), "Cancelled": (), "Complete": ()} | pipeline
    )
    assert_one(
        found(),
        "E007",
        ERROR,
        says=f"'Pending' to become {missing!r}",
        hint=f"Add {missing!r} to OSCAR_ORDER_STATUS_PIPELINE['Pending']",
    )


def test_e008_for_an_app_before_oscars(monkeypatch):
    """An app before Oscar's checkout in ``INSTALLED_APPS`` cannot extend it."""
    configs = sorted(apps.get_app_configs(), key=lambda config: config.label != "oscar_bitsby")
    monkeypatch.setattr(apps, "get_app_configs", lambda: configs)
    assert_one(found(), "E008", ERROR, says="INSTALLED_APPS", hint="after Oscar's own apps")


def test_e009_for_urls_inside_i18n_patterns(mounted):
    """URLs with a language prefix, which redirect webhook deliveries, are found."""
    shop = [pattern for pattern in stock.urlpatterns if "bitsby" not in str(pattern.pattern)]
    messages = mounted(*i18n_patterns(path("bitsby/", include("oscar_bitsby.urls"))), *shop)
    assert_one(messages, "E009", ERROR, says="i18n_patterns", hint="out of i18n_patterns")


def test_e009_for_nested_urls_inside_i18n_patterns(mounted):
    """URLs inside a nested include are found, too."""
    shop = [pattern for pattern in stock.urlpatterns if "bitsby" not in str(pattern.pattern)]
    deep = path("pay/", include([path("bitsby/", include("oscar_bitsby.urls"))]))
    plain = path("about/", View.as_view())
    messages = mounted(*i18n_patterns(plain, deep), *shop)
    assert_one(messages, "E009", ERROR, says="i18n_patterns", hint="out of i18n_patterns")


def test_shop_inside_i18n_patterns_is_valid(mounted):
    """The shop's URLs may be inside ``i18n_patterns`` if the app's URLs are outside."""
    shop = stock.urlpatterns[-1]
    messages = mounted(
        path("bitsby/", include("oscar_bitsby.urls")),
        *i18n_patterns(path("", include(shop.url_patterns))),
    )
    assert messages == []


@pytest.mark.parametrize("seconds", [0, 0.5, 61, -1, float("nan"), float("inf")])
def test_e010_for_an_invalid_timeout(given, seconds):
    """A timeout that is too short, too long or not a number is found."""
    messages = given(TIMEOUT=seconds)
    assert_one(messages, "E010", ERROR, says="'TIMEOUT'", hint="10 is a good value")


@pytest.mark.parametrize("days", [0, -1, 0.5])
def test_e010_for_too_few_watch_days(given, days):
    """``WATCH_DAYS`` below 1 is found."""
    messages = given(WATCH_DAYS=days)
    assert_one(messages, "E010", ERROR, says="'WATCH_DAYS'", hint="30 is a good value")


@pytest.mark.parametrize(
    "methods", [[("bitsby", "Crypto")], [("cod", "Cash"), ("cod", "Cash again")]]
)
def test_e011_for_duplicate_method_codes(given, methods):
    """Duplicate codes and the code of Bitsby in ``OTHER_METHODS`` are found."""
    messages = given(OTHER_METHODS=methods)
    assert_one(messages, "E011", ERROR, says="'OTHER_METHODS'", hint="each once")


def test_other_methods_with_different_codes_are_valid(given):
    """Methods with different codes get no message."""
    assert given(OTHER_METHODS=[("cod", "Cash"), ("transfer", "Transfer")]) == []


@pytest.mark.parametrize("token", ["a/b", "with space", "é", "a?b", "a.b", "abc\n"])
def test_e012_for_a_token_that_is_not_valid_in_a_url(given, token):
    """A token with characters that a URL would change is found and not shown."""
    messages = given(WEBHOOK_TOKEN=token)
    assert_one(messages, "E012", ERROR, says="'WEBHOOK_TOKEN'", hint="letters, digits")
    assert token not in messages[0].msg


def test_url_safe_token_is_valid(given):
    """A token of ``secrets.token_urlsafe`` gets no message."""
    assert given(WEBHOOK_TOKEN="AZaz09_-") == []


@pytest.mark.parametrize("url", ["api.bitsby.app", "ftp://api.bitsby.app", "https://", "/api"])
def test_e013_for_an_invalid_api_url(given, url):
    """An ``API_URL`` that is not an http or https URL is found."""
    assert_one(given(API_URL=url), "E013", ERROR, says="'API_URL'", hint="Remove it")


@pytest.mark.parametrize("hosts", [[], ["https://dash.bitsby.app"], ["dash.bitsby.app/invoices"]])
def test_e013_for_invalid_payment_hosts(given, hosts):
    """An empty list of hosts, and URLs in the place of host names, are found."""
    messages = given(PAYMENT_HOSTS=hosts)
    assert_one(messages, "E013", ERROR, says="'PAYMENT_HOSTS'", hint="'dash.bitsby.app'")


def test_e014_without_the_apps_urls(mounted):
    """URLs that are not included are reported with the line to add."""
    messages = mounted(*(one for one in stock.urlpatterns if "bitsby" not in str(one.pattern)))
    assert_one(messages, "E014", ERROR, says="not included", hint="include('oscar_bitsby.urls')")


def test_e015_for_celery_that_is_not_installed(given, monkeypatch):
    """``CELERY`` without an installed Celery is found."""
    monkeypatch.setitem(sys.modules, "celery", None)
    messages = given(CELERY=True)
    assert_one(messages, "E015", ERROR, says="not installed", hint="[celery]")
    assert given(CELERY=False) == []


def test_installed_celery_is_valid(given, monkeypatch):
    """An installed Celery is found without importing it."""
    celery = types.ModuleType("celery")
    celery.__spec__ = importlib.machinery.ModuleSpec("celery", None)
    monkeypatch.setitem(sys.modules, "celery", celery)
    assert given(CELERY=True) == []


class Replicas:
    """A router that reads from a replica, always or only outside of transactions."""

    def __init__(self, is_careful):
        self.is_careful = is_careful

    def db_for_read(self, model, **hints):
        may_be_behind = not (self.is_careful and connections["default"].in_atomic_block)
        return "copy" if may_be_behind else "default"

    def db_for_write(self, model, **hints):
        return "default"


def test_w005_for_reads_from_another_database(given, settings):
    """A router that reads from a replica inside transactions is reported with the remedy."""
    settings.DATABASE_ROUTERS = [Replicas(is_careful=False)]
    messages = given()
    assert_one(messages, "W005", WARNING, says="from the database 'copy'", hint="in_atomic_block")
    settings.DATABASE_ROUTERS = [Replicas(is_careful=True)]
    assert found() == []
    assert not connections["default"].in_atomic_block


@pytest.mark.parametrize(
    ("vendor", "level", "is_reported"),
    [
        ("postgresql", 3, True),
        ("postgresql", 4, True),
        ("postgresql", 2, False),
        ("postgresql", None, False),
        ("postgresql", "rubbish", False),
        ("mysql", "repeatable read", True),
        ("mysql", "read committed", False),
        ("sqlite", None, False),
    ],
)
def test_w006_for_an_isolation_level_with_snapshots(given, monkeypatch, vendor, level, is_reported):
    """Isolation levels that hide later commits are reported, and no others."""
    connection = connections["default"]
    monkeypatch.setattr(type(connection), "vendor", vendor)
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"isolation_level": level})
    messages = given()
    if is_reported:
        assert_one(
            messages,
            "W006",
            WARNING,
            says="committed meanwhile",
            hint="READ COMMITTED",
        )
    else:
        assert messages == []


def test_w002_for_an_unencrypted_key(given, settings):
    """An ``API_URL`` without https is a warning unless ``DEBUG`` is set."""
    messages = given(API_URL="http://127.0.0.1:8001")
    assert_one(messages, "W002", WARNING, says="unencrypted", hint="only for the simulator")
    settings.DEBUG = True
    assert found() == []


@pytest.mark.parametrize(
    ("name", "mixin"),
    [("payment-method", "PaymentMethodMixin"), ("preview", "PaymentDetailsMixin")],
)
def test_w003_for_a_custom_view(mounted, name, mixin):
    """A checkout view that the app cannot extend is reported with the mixin to add."""
    own = path(f"checkout/{name}/", View.as_view(), name=name)
    messages = mounted(
        path("", include(([own], "checkout"), namespace="checkout")), *stock.urlpatterns
    )
    named = [message for message in messages if message.id == "oscar_bitsby.W003"]
    assert_one(
        [one for one in named if f"checkout's {name} " in one.msg],
        "W003",
        WARNING,
        says="does not support Bitsby",
        hint=f"oscar_bitsby.checkout.mixins.{mixin}",
    )


def test_w003_without_a_checkout(mounted):
    """Without Oscar's checkout URLs both views are reported, and nothing crashes."""
    messages = mounted(path("bitsby/", include("oscar_bitsby.urls")))
    assert [message.id for message in messages] == ["oscar_bitsby.W003"] * 2


def test_several_mistakes_are_reported_at_once(given):
    """One mistake does not hide another."""
    messages = given(TIME_TO_PAY=2, CURRENCIES=["GBP"], TIMEOUT=0, PAYMENT_HOSTS=[])
    assert [message.id[-4:] for message in messages] == ["E004", "E005", "E010", "E013"]


def test_shop_with_a_script_name_is_valid(settings):
    """A shop with ``FORCE_SCRIPT_NAME`` gets no message."""
    settings.FORCE_SCRIPT_NAME = "/shop"
    before = get_script_prefix()
    set_script_prefix("/shop/")
    try:
        assert found() == []
    finally:
        set_script_prefix(before)
