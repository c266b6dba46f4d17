"""System checks: each finds its mistake, names the remedy, and is silent about a right shop."""

from __future__ import annotations

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
from tests.bitsby import KEY

Order = get_model("order", "Order")


def found():
    return run_checks(tags=["oscar_bitsby"])


@pytest.fixture
def given(settings):
    """Return a function that changes single settings and returns what the checks say then."""

    def change(**values):
        settings.OSCAR_BITSBY = settings.OSCAR_BITSBY | values
        return found()

    return change


@pytest.fixture
def mounted(settings, monkeypatch):
    """Return a function that puts other URLs in the place of the shop's and runs the checks."""

    def mount(*patterns):
        module = types.ModuleType("tests.other_urls")
        module.urlpatterns = list(patterns)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        settings.ROOT_URLCONF = module.__name__
        return found()

    yield mount
    clear_url_caches()


def assert_one(messages, id, level, *, says, hint):
    """There is this one message, which says what is wrong, and whose hint names the remedy."""
    assert [message.id for message in messages] == [f"oscar_bitsby.{id}"]
    (message,) = messages
    assert message.level == level
    assert says in message.msg
    assert hint in message.hint
    assert KEY not in f"{message}"


def test_a_stock_shop_is_right():
    """Key and project in a stock shop are enough for no message at all."""
    assert found() == []


def test_the_checks_run_with_djangos(settings):
    """``manage.py check`` runs them, and an error stops it."""
    call_command("check")
    settings.OSCAR_BITSBY = settings.OSCAR_BITSBY | {"API_KEYS": "x"}
    with pytest.raises(SystemCheckError, match=r"oscar_bitsby\.E003"):
        call_command("check")


@pytest.mark.parametrize("value", [None, {}])
def test_w001_without_settings(settings, value):
    """A shop without ``OSCAR_BITSBY`` gets one warning and no more."""
    settings.OSCAR_BITSBY = value
    assert_one(found(), "W001", WARNING, says="not set", hint="Set OSCAR_BITSBY = {'API_KEY'")


def test_w001_without_the_setting_at_all(settings):
    """The same goes for a shop whose settings do not have the name."""
    del settings.OSCAR_BITSBY
    assert_one(found(), "W001", WARNING, says="not set", hint="INSTALLED_APPS")


@pytest.mark.parametrize("key", ["API_KEY", "PROJECT_ID"])
def test_e001_without_key_or_project(given, key):
    """A missing key or project is named."""
    assert_one(given(**{key: None}), "E001", ERROR, says=f"'{key}'", hint="documentation")


def test_e001_for_a_value_that_cannot_be_used(given):
    """A value of a wrong type is named by its key, and not repeated."""
    messages = given(TIMEOUT=f"soon {KEY}")
    assert_one(messages, "E001", ERROR, says="'TIMEOUT'", hint="table of settings")


@pytest.mark.parametrize("value", ["API_KEY", ["API_KEY"]])
def test_e001_for_settings_that_are_no_dict(settings, value):
    """Settings that are no dict are an error of their own."""
    settings.OSCAR_BITSBY = value
    assert_one(found(), "E001", ERROR, says="not a dict", hint="documentation")


@pytest.mark.parametrize("value", [True, 5, [{"API_KEY": "x"}]])
def test_e001_for_settings_that_are_not_even_a_list(settings, value):
    """What cannot be looked through is named too, and does not crash the checks."""
    settings.OSCAR_BITSBY = value
    assert_one(found(), "E001", ERROR, says="not a dict", hint="documentation")


@pytest.mark.parametrize("key", [f"{KEY} ", f" {KEY}", f"{KEY}\n", f"Token {KEY}", "ключ", "a\tb"])
def test_e002_for_a_key_with_other_characters(given, key):
    """A key that was copied with spaces, line ends or the word before it is found."""
    messages = given(API_KEY=key)
    assert_one(messages, "E002", ERROR, says="API_KEY", hint="without the word 'Token'")


@pytest.mark.parametrize("project", ["My project", "9deea1e2", 5])
def test_e002_for_a_project_that_is_no_uuid(given, project):
    """The project's name instead of its id is found."""
    messages = given(PROJECT_ID=project)
    assert_one(messages, "E002", ERROR, says="'PROJECT_ID'", hint="9deea1e2-0c08-41a3")


def test_e003_for_unknown_keys(given):
    """Misspelt keys are named, and the hint has the right ones."""
    messages = given(API_KEYS="x", timeout=5)
    assert_one(messages, "E003", ERROR, says="API_KEYS, timeout", hint=", ".join(conf.DEFAULTS))


def test_e003_comes_with_other_errors(given):
    """A misspelt key is told beside what it leaves missing."""
    messages = given(API_KEY=None, API_KEYS="x")
    assert [message.id for message in messages] == ["oscar_bitsby.E003", "oscar_bitsby.E001"]


@pytest.mark.parametrize("hours", [0, 2, 24, "0.25", -1])
def test_e004_for_hours_that_bitsby_does_not_take(given, hours):
    """Only the five documented times to pay pass."""
    messages = given(TIME_TO_PAY=hours)
    assert_one(messages, "E004", ERROR, says=f"is {hours}", hint="0.5, 1, 3, 6 or 12")


@pytest.mark.parametrize("hours", [0.5, 1, 3, 6, 12, "0.50", 1.0])
def test_the_documented_times_pass(given, hours):
    """Each of the five is right in any spelling."""
    assert given(TIME_TO_PAY=hours) == []


@pytest.mark.parametrize(
    ("currencies", "says"), [(["USD", "GBP"], "GBP"), (["usd"], "usd"), ([], "CURRENCIES")]
)
def test_e005_for_currencies_that_bitsby_does_not_take(given, currencies, says):
    """Another currency, another spelling or none at all is found."""
    messages = given(CURRENCIES=currencies)
    assert_one(messages, "E005", ERROR, says=says, hint="USD, EUR and RUB")


@pytest.mark.parametrize(
    "key", ["ORDER_STATUS_PENDING", "ORDER_STATUS_PAID", "ORDER_STATUS_CANCELLED"]
)
def test_e006_for_a_status_that_the_pipeline_lacks(given, key):
    """A status that no order can have is named, with where to add it or name another."""
    messages = given(**{key: "Elsewhere"})
    assert_one(messages, "E006", ERROR, says="'Elsewhere'", hint=key)


def test_e006_for_a_shop_without_an_initial_status(settings, monkeypatch):
    """Where no order statuses are set, both settings are named, and no empty quotes."""
    del settings.OSCAR_INITIAL_ORDER_STATUS
    monkeypatch.setattr(Order, "pipeline", {})
    first, second = found()
    assert_one([first], "E006", ERROR, says="OSCAR_INITIAL_ORDER_STATUS", hint="'Pending'")
    assert_one(
        [second], "E006", ERROR, says="'Being processed', 'Cancelled'", hint="ORDER_STATUS_PAID"
    )
    assert "''" not in first.msg + second.msg


def test_a_shop_that_never_cancels_needs_no_status_for_it(given):
    """With ``CANCEL_AFTER`` None the cancelled status is not asked for."""
    assert given(CANCEL_AFTER=None, ORDER_STATUS_CANCELLED="Elsewhere") == []
    assert given(CANCEL_AFTER=timedelta(0), ORDER_STATUS_CANCELLED="Elsewhere") != []


@pytest.mark.parametrize(
    ("pipeline", "missing"),
    [
        ({"Pending": ("Cancelled",)}, "Being processed"),
        ({"Pending": ("Being processed",)}, "Cancelled"),
    ],
)
def test_e007_for_a_step_that_the_pipeline_forbids(monkeypatch, pipeline, missing):
    """A pipeline that does not let a pending order become paid or cancelled is found."""
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
    """An app that stands before Oscar's checkout cannot extend it."""
    configs = sorted(apps.get_app_configs(), key=lambda config: config.label != "oscar_bitsby")
    monkeypatch.setattr(apps, "get_app_configs", lambda: configs)
    assert_one(found(), "E008", ERROR, says="INSTALLED_APPS", hint="after Oscar's own apps")


def test_e009_for_urls_inside_i18n_patterns(mounted):
    """URLs with a language in front would make Bitsby's deliveries follow redirects."""
    shop = [pattern for pattern in stock.urlpatterns if "bitsby" not in str(pattern.pattern)]
    messages = mounted(*i18n_patterns(path("bitsby/", include("oscar_bitsby.urls"))), *shop)
    assert_one(messages, "E009", ERROR, says="i18n_patterns", hint="out of i18n_patterns")


def test_e009_for_urls_deep_inside_i18n_patterns(mounted):
    """They are found below another include too."""
    shop = [pattern for pattern in stock.urlpatterns if "bitsby" not in str(pattern.pattern)]
    deep = path("pay/", include([path("bitsby/", include("oscar_bitsby.urls"))]))
    plain = path("about/", View.as_view())
    messages = mounted(*i18n_patterns(plain, deep), *shop)
    assert_one(messages, "E009", ERROR, says="i18n_patterns", hint="out of i18n_patterns")


def test_a_shop_inside_i18n_patterns_is_right(mounted):
    """A shop in many languages is fine as long as the app's URLs stand outside."""
    shop = stock.urlpatterns[-1]
    messages = mounted(
        path("bitsby/", include("oscar_bitsby.urls")),
        *i18n_patterns(path("", include(shop.url_patterns))),
    )
    assert messages == []


@pytest.mark.parametrize("seconds", [0, 0.5, 61, -1, float("nan"), float("inf")])
def test_e010_for_a_timeout_out_of_reason(given, seconds):
    """A time-out that no buyer survives, or no answer, is found."""
    messages = given(TIMEOUT=seconds)
    assert_one(messages, "E010", ERROR, says="'TIMEOUT'", hint="10 is a good value")


@pytest.mark.parametrize("days", [0, -1, 0.5])
def test_e010_for_money_that_would_not_be_looked_for(given, days):
    """Less than a day of watching is found."""
    messages = given(WATCH_DAYS=days)
    assert_one(messages, "E010", ERROR, says="'WATCH_DAYS'", hint="30 is a good value")


@pytest.mark.parametrize(
    "methods", [[("bitsby", "Crypto")], [("cod", "Cash"), ("cod", "Cash again")]]
)
def test_e011_for_codes_that_are_taken(given, methods):
    """Bitsby's own code and doubles among the other methods are found."""
    messages = given(OTHER_METHODS=methods)
    assert_one(messages, "E011", ERROR, says="'OTHER_METHODS'", hint="each once")


def test_other_methods_pass(given):
    """Different codes are right."""
    assert given(OTHER_METHODS=[("cod", "Cash"), ("transfer", "Transfer")]) == []


@pytest.mark.parametrize("token", ["a/b", "with space", "é", "a?b", "a.b", "abc\n"])
def test_e012_for_a_token_that_cannot_stand_in_an_address(given, token):
    """Characters that an address would change are found, and the token is not shown."""
    messages = given(WEBHOOK_TOKEN=token)
    assert_one(messages, "E012", ERROR, says="'WEBHOOK_TOKEN'", hint="letters, digits")
    assert token not in messages[0].msg


def test_a_token_of_letters_and_digits_passes(given):
    """What ``secrets.token_urlsafe`` makes is right."""
    assert given(WEBHOOK_TOKEN="AZaz09_-") == []


@pytest.mark.parametrize("url", ["api.bitsby.app", "ftp://api.bitsby.app", "https://", "/api"])
def test_e013_for_an_api_without_an_address(given, url):
    """What cannot be asked over HTTP is found."""
    assert_one(given(API_URL=url), "E013", ERROR, says="'API_URL'", hint="Leave it out")


@pytest.mark.parametrize("hosts", [[], ["https://dash.bitsby.app"], ["dash.bitsby.app/invoices"]])
def test_e013_for_payment_hosts_that_match_nothing(given, hosts):
    """No hosts, or addresses in place of hosts, would let no buyer through."""
    messages = given(PAYMENT_HOSTS=hosts)
    assert_one(messages, "E013", ERROR, says="'PAYMENT_HOSTS'", hint="'dash.bitsby.app'")


def test_e014_without_the_apps_urls(mounted):
    """URLs that were not included are told, with the line to add."""
    messages = mounted(*(one for one in stock.urlpatterns if "bitsby" not in str(one.pattern)))
    assert_one(messages, "E014", ERROR, says="not included", hint="include('oscar_bitsby.urls')")


def test_e015_for_celery_that_is_not_installed(given, monkeypatch):
    """A shop that wants its deliveries handed to workers, and has no Celery, is told."""
    monkeypatch.setitem(sys.modules, "celery", None)
    messages = given(CELERY=True)
    assert_one(messages, "E015", ERROR, says="not installed", hint="[celery]")
    assert given(CELERY=False) == []


def test_celery_that_is_installed_is_right(given, monkeypatch):
    """With Celery there the setting gives no message, and Celery is not imported for that."""
    celery = types.ModuleType("celery")
    celery.__spec__ = importlib.machinery.ModuleSpec("celery", None)
    monkeypatch.setitem(sys.modules, "celery", celery)
    assert given(CELERY=True) == []


class Replicas:
    """Reads from a copy of the database, always or only outside of transactions."""

    def __init__(self, is_careful):
        self.is_careful = is_careful

    def db_for_read(self, model, **hints):
        may_be_behind = not (self.is_careful and connections["default"].in_atomic_block)
        return "copy" if may_be_behind else "default"

    def db_for_write(self, model, **hints):
        return "default"


def test_w005_for_reads_from_another_database(given, settings):
    """A router that lets decisions be taken by a copy is told, with what to do about it."""
    settings.DATABASE_ROUTERS = [Replicas(is_careful=False)]
    messages = given()
    assert_one(messages, "W005", WARNING, says="from the database 'copy'", hint="in_atomic_block")
    settings.DATABASE_ROUTERS = [Replicas(is_careful=True)]
    assert found() == []
    assert not connections["default"].in_atomic_block


@pytest.mark.parametrize(
    ("vendor", "level", "is_told"),
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
def test_w006_for_an_isolation_level_that_shows_the_past(
    given, monkeypatch, vendor, level, is_told
):
    """A level that keeps showing what was true before a lock is told, and no other."""
    connection = connections["default"]
    monkeypatch.setattr(type(connection), "vendor", vendor)
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"isolation_level": level})
    messages = given()
    if is_told:
        assert_one(messages, "W006", WARNING, says="was true before", hint="READ COMMITTED")
    else:
        assert messages == []


def test_w002_for_a_key_in_the_clear(given, settings):
    """An API address without https is a warning, except where the shop is only developed."""
    messages = given(API_URL="http://127.0.0.1:8001")
    assert_one(messages, "W002", WARNING, says="in the clear", hint="only for the simulator")
    settings.DEBUG = True
    assert found() == []


@pytest.mark.parametrize(
    ("name", "mixin"),
    [("payment-method", "PaymentMethodMixin"), ("preview", "PaymentDetailsMixin")],
)
def test_w003_for_a_view_of_the_shops_own(mounted, name, mixin):
    """A checkout view that the app cannot reach is told, with the mixin that it lacks."""
    own = path(f"checkout/{name}/", View.as_view(), name=name)
    messages = mounted(
        path("", include(([own], "checkout"), namespace="checkout")), *stock.urlpatterns
    )
    named = [message for message in messages if message.id == "oscar_bitsby.W003"]
    assert_one(
        [one for one in named if f"checkout's {name} " in one.msg],
        "W003",
        WARNING,
        says="does not know Bitsby",
        hint=f"oscar_bitsby.checkout.mixins.{mixin}",
    )


def test_w003_without_a_checkout(mounted):
    """A shop without Oscar's checkout URLs is told for both views, and nothing crashes."""
    messages = mounted(path("bitsby/", include("oscar_bitsby.urls")))
    assert [message.id for message in messages] == ["oscar_bitsby.W003"] * 2


def test_several_mistakes_are_told_at_once(given):
    """Checks do not hide each other, so that a shop is mended in one go."""
    messages = given(TIME_TO_PAY=2, CURRENCIES=["GBP"], TIMEOUT=0, PAYMENT_HOSTS=[])
    assert [message.id[-4:] for message in messages] == ["E004", "E005", "E010", "E013"]


def test_a_shop_below_a_prefix_is_right(settings):
    """``FORCE_SCRIPT_NAME``, as in a shop that is mounted at /shop, gives no message."""
    settings.FORCE_SCRIPT_NAME = "/shop"
    before = get_script_prefix()
    set_script_prefix("/shop/")
    try:
        assert found() == []
    finally:
        set_script_prefix(before)
