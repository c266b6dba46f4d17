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


def run_bitsby_checks():
    return run_checks(tags=["oscar_bitsby"])


@pytest.fixture
def check_settings(configure):
    """Return a function that changes settings and returns the messages of the checks."""

    def change(**values):
        configure(**values)
        return run_bitsby_checks()

    return change


@pytest.fixture
def check_urls(settings, monkeypatch):
    """Return a function that replaces the shop's URLs and returns the messages of the checks."""

    def replace(*patterns):
        module = types.ModuleType("tests.other_urls")
        module.urlpatterns = list(patterns)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        settings.ROOT_URLCONF = module.__name__
        return run_bitsby_checks()

    yield replace
    clear_url_caches()


#: The shop's URLs without the app's.
SHOP_URLS = [pattern for pattern in stock.urlpatterns if "bitsby" not in str(pattern.pattern)]
APP_URLS = path("bitsby/", include("oscar_bitsby.urls"))


def assert_one(messages, id, *, says, hint):
    """Assert that there is only this message, and that its hint names the remedy."""
    assert [message.id for message in messages] == [f"oscar_bitsby.{id}"]
    (message,) = messages
    assert message.level == {"E": ERROR, "W": WARNING}[id[0]]
    assert says in message.msg
    assert hint in message.hint
    assert KEY not in f"{message}"


def test_stock_shop_gets_no_message():
    """API key and project are all that a stock shop needs."""
    assert run_bitsby_checks() == []


def test_checks_run_with_manage_py_check(configure):
    """``manage.py check`` runs the checks, and their errors make it fail."""
    call_command("check")
    configure(API_KEYS="x")
    with pytest.raises(SystemCheckError, match=r"oscar_bitsby\.E003"):
        call_command("check")


@pytest.mark.parametrize(
    ("value", "id", "says", "hint"),
    [
        (None, "W001", "not set", "Set OSCAR_BITSBY = {'API_KEY'"),
        ({}, "W001", "not set", "Set OSCAR_BITSBY = {'API_KEY'"),
        *(
            (value, "E001", "not a dict", "documentation")
            for value in ("API_KEY", ["API_KEY"], True, 5, [{"API_KEY": "x"}])
        ),
    ],
)
def test_missing_settings_and_other_types_are_reported(settings, value, id, says, hint):
    """An empty ``OSCAR_BITSBY`` gets a warning, and one that is not a dict an error."""
    settings.OSCAR_BITSBY = value
    assert_one(run_bitsby_checks(), id, says=says, hint=hint)


def test_w001_without_the_setting_at_all(settings):
    """A shop without ``OSCAR_BITSBY`` gets this warning only."""
    del settings.OSCAR_BITSBY
    assert_one(run_bitsby_checks(), "W001", says="not set", hint="INSTALLED_APPS")


def each(key, values, *expected):
    """Return a case of ``INVALID_SETTINGS`` for each value of one setting."""
    return [({key: value}, *expected) for value in values]


#: Changed settings, the id of the only message, and what its text and its hint contain.
INVALID_SETTINGS = [
    ({"API_KEY": None}, "E001", "'API_KEY'", "documentation"),
    ({"PROJECT_ID": None}, "E001", "'PROJECT_ID'", "documentation"),
    ({"TIMEOUT": f"soon {KEY}"}, "E001", "'TIMEOUT'", "table of settings"),
    *each(
        "API_KEY",
        [f"{KEY} ", f" {KEY}", f"{KEY}\n", f"Token {KEY}", "ключ", "a\tb"],
        *("E002", "API_KEY", "without the word 'Token'"),
    ),
    *each(
        "PROJECT_ID", ["My project", "9deea1e2", 5], "E002", "'PROJECT_ID'", "9deea1e2-0c08-41a3"
    ),
    ({"API_KEYS": "x", "timeout": 5}, "E003", "API_KEYS, timeout", ", ".join(conf.DEFAULTS)),
    *(
        ({"TIME_TO_PAY": hours}, "E004", f"is {hours}", "0.5, 1, 3, 6 or 12")
        for hours in (0, 2, 24, "0.25", -1)
    ),
    ({"CURRENCIES": ["USD", "GBP"]}, "E005", "GBP", "USD, EUR and RUB"),
    ({"CURRENCIES": ["usd"]}, "E005", "usd", "USD, EUR and RUB"),
    ({"CURRENCIES": []}, "E005", "CURRENCIES", "USD, EUR and RUB"),
    *(
        ({key: "Elsewhere"}, "E006", "'Elsewhere'", key)
        for key in ("ORDER_STATUS_PENDING", "ORDER_STATUS_PAID", "ORDER_STATUS_CANCELLED")
    ),
    *each(
        "TIMEOUT",
        [0, 0.5, 61, -1, float("nan"), float("inf")],
        *("E010", "'TIMEOUT'", "10 is a good value"),
    ),
    *each("WATCH_DAYS", [0, -1, 0.5], "E010", "'WATCH_DAYS'", "30 is a good value"),
    *each(
        "TOLERANCE",
        [-1, 5.01, "Infinity", {"PERCENT": 6}, {"PERCENT": 1, "EUR": -2}],
        *("E010", "'TOLERANCE'", "{'PERCENT': 1, 'EUR': 2}"),
    ),
    ({"TOLERANCE": {"PERCENT": 1, "GBP": 2}}, "E010", "GBP", "USD, EUR and RUB"),
    ({"TOLERANCE": {"EUR": 2}}, "E001", "'TOLERANCE'", "table of settings"),
    *each("SHORT_PAYMENTS", ["accept", "", "ASK"], "E010", "'SHORT_PAYMENTS'", "'review'"),
    *each("PAYMENT_PAGE", ["bitsby", "", "Shop"], "E010", "'PAYMENT_PAGE'", "'shop'"),
    *each(
        "CSP_SOURCES",
        [[source] for source in ("cdn.example", "https://a.example/x", "*", "'unsafe-inline'")]
        + [["https://a.example; script-src *"], ["https://a.example https://b.example"], [""]],
        *("E010", "'CSP_SOURCES'", "https://cdn.example.com"),
    ),
    *each(
        "INVOICE_NUMBERS",
        ["nowhere.numbers", "numbers", "oscar_bitsby.conf.METHOD_CODE"],
        *("E010", "'INVOICE_NUMBERS'", "dotted path"),
    ),
    *each("REFUND_ADDRESS_DAYS", [0, -1], "E010", "'REFUND_ADDRESS_DAYS'", "180 is a good value"),
    *each(
        "OTHER_METHODS",
        [[("bitsby", "Crypto")], [("cod", "Cash"), ("cod", "Cash again")]],
        *("E011", "'OTHER_METHODS'", "each once"),
    ),
    *each(
        "API_URL",
        ["api.bitsby.app", "ftp://api.bitsby.app", "https://", "/api"],
        *("E013", "'API_URL'", "Remove it"),
    ),
    *each(
        "PAYMENT_HOSTS",
        [[], ["https://dash.bitsby.app"], ["dash.bitsby.app/invoices"]],
        *("E013", "'PAYMENT_HOSTS'", "'dash.bitsby.app'"),
    ),
]


@pytest.mark.parametrize(("values", "id", "says", "hint"), INVALID_SETTINGS, ids=str)
def test_invalid_setting_is_reported_with_its_remedy(check_settings, values, id, says, hint):
    """An invalid setting gets one message, which names it and shows no key."""
    assert_one(check_settings(**values), id, says=says, hint=hint)


def test_e003_comes_with_other_errors(check_settings):
    """A misspelt key is reported together with the missing one."""
    messages = check_settings(API_KEY=None, API_KEYS="x")
    assert [message.id for message in messages] == ["oscar_bitsby.E003", "oscar_bitsby.E001"]


@pytest.mark.parametrize(
    "values",
    [
        *({"TIME_TO_PAY": hours} for hours in (0.5, 1, 3, 6, 12, "0.50", 1.0)),
        {"OTHER_METHODS": [("cod", "Cash"), ("transfer", "Transfer")]},
        {"WEBHOOK_TOKEN": "AZaz09_-"},
        {
            "PAYMENT_PAGE": "shop",
            "CSP_SOURCES": ["https://cdn.example.com", "https://a-b.example:8443"],
        },
    ],
    ids=str,
)
def test_valid_settings_get_no_message(check_settings, values):
    """Documented times of any type, different codes, URL-safe tokens and origins are valid."""
    assert check_settings(**values) == []


def test_e006_for_a_shop_without_an_initial_status(settings, monkeypatch):
    """Without any order statuses both settings are named, without empty quotes."""
    del settings.OSCAR_INITIAL_ORDER_STATUS
    monkeypatch.setattr(Order, "pipeline", {})
    first, second = run_bitsby_checks()
    assert_one([first], "E006", says="OSCAR_INITIAL_ORDER_STATUS", hint="'Pending'")
    assert_one([second], "E006", says="'Being processed', 'Cancelled'", hint="ORDER_STATUS_PAID")
    assert "''" not in first.msg + second.msg


@pytest.mark.parametrize(
    ("cancel_after", "hold", "is_checked"),
    [(None, None, False), (timedelta(0), None, True), (None, timedelta(days=1), True)],
)
def test_cancelled_status_is_optional_where_nothing_is_cancelled(
    check_settings, cancel_after, hold, is_checked
):
    """With ``CANCEL_AFTER`` and ``HOLD_ORDER_FOR`` None the cancelled status is not checked."""
    times = {"CANCEL_AFTER": cancel_after, "HOLD_ORDER_FOR": hold}
    assert bool(check_settings(**times, ORDER_STATUS_CANCELLED="Elsewhere")) is is_checked


@pytest.mark.parametrize("hours", [0, 2.9])
def test_w008_for_a_hold_that_is_shorter_than_the_time_to_pay(check_settings, hours):
    """A hold shorter than ``TIME_TO_PAY`` gets a warning, and a longer one or None does not."""
    messages = check_settings(TIME_TO_PAY=3, HOLD_ORDER_FOR=timedelta(hours=hours))
    assert_one(messages, "W008", says="'HOLD_ORDER_FOR'", hint="timedelta(hours=24)")
    for hold in (timedelta(hours=3), None):
        assert check_settings(HOLD_ORDER_FOR=hold) == []


@pytest.mark.parametrize("least", [-1, "Infinity"])
def test_w010_for_a_minimum_that_no_balance_can_have(check_settings, least):
    """``BALANCE_MIN`` is zero, a positive number or None; a text is an error as in other keys."""
    assert_one(check_settings(BALANCE_MIN=least), "W010", says="'BALANCE_MIN'", hint="None")
    assert check_settings(BALANCE_MIN=0) == []
    messages = check_settings(BALANCE_MIN="much")
    assert_one(messages, "E001", says="OSCAR_BITSBY['BALANCE_MIN'] cannot be used", hint="")


@pytest.mark.parametrize(
    ("allowed", "missing"), [("Cancelled", "Being processed"), ("Being processed", "Cancelled")]
)
def test_e007_for_a_change_that_the_pipeline_forbids(monkeypatch, allowed, missing):
    """A pipeline in which a pending order cannot become paid or cancelled is found."""
    pipeline = {**Order.pipeline, "Pending": (allowed,)}
    monkeypatch.setattr(Order, "pipeline", pipeline)
    assert_one(
        run_bitsby_checks(),
        "E007",
        says=f"'Pending' to become {missing!r}",
        hint=f"Add {missing!r} to OSCAR_ORDER_STATUS_PIPELINE['Pending']",
    )


def test_w009_for_a_pipeline_in_which_no_cancelled_order_can_be_reinstated(monkeypatch):
    """The hint has the line of the pipeline that is missing."""
    monkeypatch.setattr(Order, "pipeline", {**Order.pipeline, "Cancelled": ()})
    assert_one(
        run_bitsby_checks(),
        "W009",
        says="'Cancelled' to become 'Being processed'",
        hint='Add "Cancelled": ("Being processed",) to OSCAR_ORDER_STATUS_PIPELINE.',
    )


def test_e008_for_an_app_before_oscars(monkeypatch):
    """An app before Oscar's checkout in ``INSTALLED_APPS`` cannot extend it."""
    configs = sorted(apps.get_app_configs(), key=lambda config: config.label != "oscar_bitsby")
    monkeypatch.setattr(apps, "get_app_configs", lambda: configs)
    assert_one(run_bitsby_checks(), "E008", says="INSTALLED_APPS", hint="after Oscar's own apps")


@pytest.mark.parametrize(
    "patterns",
    [[APP_URLS], [path("about/", View.as_view()), path("pay/", include([APP_URLS]))]],
    ids=["direct", "nested"],
)
def test_e009_for_urls_inside_i18n_patterns(check_urls, patterns):
    """URLs with a language prefix, which redirect webhook deliveries, are found in any depth."""
    messages = check_urls(*i18n_patterns(*patterns), *SHOP_URLS)
    assert_one(messages, "E009", says="i18n_patterns", hint="out of i18n_patterns")


def test_shop_inside_i18n_patterns_is_valid(check_urls):
    """The shop's URLs may be inside ``i18n_patterns`` if the app's URLs are outside."""
    shop = stock.urlpatterns[-1]
    assert check_urls(APP_URLS, *i18n_patterns(path("", include(shop.url_patterns)))) == []


@pytest.mark.parametrize("token", ["a/b", "with space", "é", "a?b", "a.b", "abc\n"])
def test_e012_for_a_token_that_is_not_valid_in_a_url(check_settings, token):
    """A token with characters that a URL would change is found and not shown."""
    messages = check_settings(WEBHOOK_TOKEN=token)
    assert_one(messages, "E012", says="'WEBHOOK_TOKEN'", hint="letters, digits")
    assert token not in messages[0].msg


def test_e014_without_the_apps_urls(check_urls):
    """URLs that are not included are reported with the line to add."""
    messages = check_urls(*SHOP_URLS)
    assert_one(messages, "E014", says="not included", hint="include('oscar_bitsby.urls')")


def test_e015_for_celery_that_is_not_installed(check_settings, monkeypatch):
    """``CELERY`` without an installed Celery is found."""
    monkeypatch.setitem(sys.modules, "celery", None)
    messages = check_settings(CELERY=True)
    assert_one(messages, "E015", says="not installed", hint="[celery]")
    assert check_settings(CELERY=False) == []


def test_installed_celery_is_valid(check_settings, monkeypatch):
    """An installed Celery is found without importing it."""
    celery = types.ModuleType("celery")
    celery.__spec__ = importlib.machinery.ModuleSpec("celery", None)
    monkeypatch.setitem(sys.modules, "celery", celery)
    assert check_settings(CELERY=True) == []


class Replicas:
    """A router that reads from a replica, always or only outside of transactions."""

    def __init__(self, is_careful):
        self.is_careful = is_careful

    def db_for_read(self, model, **hints):
        may_be_behind = not (self.is_careful and connections["default"].in_atomic_block)
        return "copy" if may_be_behind else "default"

    def db_for_write(self, model, **hints):
        return "default"


def test_w005_for_reads_from_another_database(check_settings, settings):
    """A router that reads from a replica inside transactions is reported with the remedy."""
    settings.DATABASE_ROUTERS = [Replicas(is_careful=False)]
    messages = check_settings()
    assert_one(messages, "W005", says="from the database 'copy'", hint="in_atomic_block")
    settings.DATABASE_ROUTERS = [Replicas(is_careful=True)]
    assert run_bitsby_checks() == []
    assert not connections["default"].in_atomic_block


@pytest.mark.parametrize(
    ("vendor", "level", "is_reported"),
    [
        ("postgresql", 3, True),
        ("postgresql", 4, True),
        ("postgresql", 2, False),
        ("postgresql", None, False),
        ("postgresql", "rubbish", False),
        ("sqlite", None, False),
        ("sqlite", "EXCLUSIVE", False),
    ],
)
def test_w006_for_an_isolation_level_with_snapshots(monkeypatch, vendor, level, is_reported):
    """Isolation levels that hide later commits are reported, and no others."""
    connection = connections["default"]
    monkeypatch.setattr(type(connection), "vendor", vendor)
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"isolation_level": level})
    messages = run_bitsby_checks()
    if is_reported:
        assert_one(messages, "W006", says="committed meanwhile", hint="READ COMMITTED")
    else:
        assert messages == []


@pytest.mark.parametrize("vendor", ["mysql", "oracle", "microsoft", "cockroachdb"])
def test_e016_for_an_unsupported_database(monkeypatch, vendor):
    """A database without the needed locks is an error, which other findings do not add to."""
    connection = connections["default"]
    monkeypatch.setattr(type(connection), "vendor", vendor)
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"isolation_level": "snapshot"})
    messages = run_bitsby_checks()
    assert_one(messages, "E016", says=f"{vendor} is not supported", hint="Use PostgreSQL")


@pytest.mark.parametrize("elsewhere", ["oscar_bitsby", "order"])
def test_e016_for_one_of_two_databases(check_settings, settings, elsewhere):
    """An unsupported database is found whether it has the invoices or Oscar's orders."""

    class Router:
        def db_for_write(self, model, **hints):
            return "elsewhere" if model._meta.app_label == elsewhere else None

        db_for_read = db_for_write

    settings.DATABASE_ROUTERS = [Router()]
    connections["elsewhere"] = types.SimpleNamespace(vendor="mysql")
    try:
        messages = check_settings()
    finally:
        del connections["elsewhere"]
    assert_one(messages, "E016", says="mysql is not supported", hint="Use PostgreSQL")


def test_e017_for_a_shop_without_time_zones(check_settings, settings):
    """``USE_TZ = False``, with which no run completes, is an error."""
    settings.USE_TZ = False
    assert_one(check_settings(), "E017", says="USE_TZ is False", hint="Set USE_TZ = True")


def test_w007_for_a_default_currency_without_a_method(check_settings, settings):
    """A default currency for which no payment method is offered is a warning."""
    settings.OSCAR_DEFAULT_CURRENCY = "GBP"
    messages = check_settings()
    assert_one(messages, "W007", says="is 'GBP'", hint="one of USD, EUR, RUB, or list")
    messages = check_settings(CURRENCIES=["EUR"])
    assert_one(messages, "W007", says="cannot be ordered", hint="to one of EUR")
    assert check_settings(OTHER_METHODS=[("cod", "Pay on delivery")]) == []


def test_default_currency_of_bitsby_is_valid(check_settings, settings):
    """A default currency that Bitsby is offered for, or none, gets no message."""
    settings.OSCAR_DEFAULT_CURRENCY = "RUB"
    assert check_settings(CURRENCIES=["RUB"]) == []
    del settings.OSCAR_DEFAULT_CURRENCY
    assert run_bitsby_checks() == []


def test_w002_for_an_unencrypted_key(check_settings, settings):
    """An ``API_URL`` without https is a warning unless ``DEBUG`` is set."""
    messages = check_settings(API_URL="http://127.0.0.1:8001")
    assert_one(messages, "W002", says="unencrypted", hint="only for the simulator")
    settings.DEBUG = True
    assert run_bitsby_checks() == []


@pytest.mark.parametrize(
    ("name", "mixin"),
    [("payment-method", "PaymentMethodMixin"), ("preview", "PaymentDetailsMixin")],
)
def test_w003_for_a_custom_view(check_urls, name, mixin):
    """A checkout view that the app cannot extend is reported with the mixin to add."""
    own = path(f"checkout/{name}/", View.as_view(), name=name)
    messages = check_urls(
        path("", include(([own], "checkout"), namespace="checkout")), *stock.urlpatterns
    )
    assert_one(
        [
            message
            for message in messages
            if message.id == "oscar_bitsby.W003" and f"checkout's {name} " in message.msg
        ],
        "W003",
        says="does not support Bitsby",
        hint=f"oscar_bitsby.checkout.mixins.{mixin}",
    )


def test_w003_without_a_checkout(check_urls):
    """Without Oscar's checkout URLs both views are reported, and nothing crashes."""
    messages = check_urls(APP_URLS)
    assert [message.id for message in messages] == ["oscar_bitsby.W003"] * 2


def test_several_mistakes_are_reported_at_once(check_settings):
    """One mistake does not hide another."""
    messages = check_settings(TIME_TO_PAY=2, CURRENCIES=["GBP"], TIMEOUT=0, PAYMENT_HOSTS=[])
    assert [message.id[-4:] for message in messages] == ["E004", "E005", "E010", "E013"]


def test_shop_with_a_script_name_is_valid(settings):
    """A shop with ``FORCE_SCRIPT_NAME`` gets no message."""
    settings.FORCE_SCRIPT_NAME = "/shop"
    before = get_script_prefix()
    set_script_prefix("/shop/")
    try:
        assert run_bitsby_checks() == []
    finally:
        set_script_prefix(before)
