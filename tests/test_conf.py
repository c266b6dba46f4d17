"""The settings: their defaults, what they take, and that a wrong one is named but never shown."""

import copy
import json
import pickle
from dataclasses import FrozenInstanceError, asdict, fields
from datetime import timedelta
from decimal import Decimal

import pytest

from oscar_bitsby import conf
from oscar_bitsby.conf import Alerts, Conf, Secret, Tolerance
from oscar_bitsby.exceptions import ConfigurationError
from tests.support.bitsby import KEY, PROJECT
from tests.support.http import assert_hidden

#: As the design names them, and what ``conf.get()`` makes of them and the test shop's settings.
DEFAULTS = {
    "API_KEY": (None, KEY),
    "PROJECT_ID": (None, PROJECT),
    "API_URL": ("https://api.bitsby.app", "https://api.bitsby.app"),
    "PAYMENT_HOSTS": (["dash.bitsby.app"], ("dash.bitsby.app",)),
    "PAYMENT_PAGE": ("hosted", "hosted"),
    "CSP_SOURCES": ([], ()),
    "TIME_TO_PAY": (1, Decimal(1)),
    "DESCRIPTION": ("Order {number}", "Order {number}"),
    "TIMEOUT": (10, 10.0),
    "CURRENCIES": (["USD", "EUR", "RUB"], ("USD", "EUR", "RUB")),
    "MIN_AMOUNT": (None, None),
    "MAX_AMOUNT": (None, None),
    "ORDER_STATUS_PENDING": (None, "Pending"),
    "ORDER_STATUS_PAID": ("Being processed", "Being processed"),
    "ORDER_STATUS_CANCELLED": ("Cancelled", "Cancelled"),
    "CANCEL_AFTER": (timedelta(hours=1), timedelta(hours=1)),
    "HOLD_ORDER_FOR": (timedelta(hours=24), timedelta(hours=24)),
    "MAX_PENDING_ORDERS": (5, 5),
    "WATCH_DAYS": (30, 30),
    "TOLERANCE": (0, Tolerance(Decimal(0), {})),
    "SHORT_PAYMENTS": ("review", "review"),
    "REFUND_ADDRESS_DAYS": (180, 180),
    "WEBHOOK_TOKEN": ("", ""),
    "ALERTS": ({}, "Alerts(mail=(), url=***, secret=***)"),
    "BALANCE_MIN": (None, None),
    "INVOICE_NUMBERS": ("", ""),
    "OTHER_METHODS": ([], ()),
    "EXTEND_CHECKOUT": (True, True),
    "CELERY": (False, False),
    "MAILS": (True, True),
}


def test_defaults_are_as_documented():
    """Each documented key has its documented default and a field, and there are no others."""
    assert {key: remote for key, (remote, _) in DEFAULTS.items()} == conf.DEFAULTS
    assert [field.name for field in fields(Conf)] == [key.lower() for key in conf.DEFAULTS]


@pytest.mark.parametrize("key", DEFAULTS)
def test_a_setting_that_is_left_out_has_its_default(key):
    """API key and project are the shop's; all other settings have their converted defaults."""
    value = getattr(conf.get(), key.lower())
    expected = DEFAULTS[key][1]
    if isinstance(value, Secret):
        value = value.reveal()
    assert (repr(value) if isinstance(value, Alerts) else value) == expected


@pytest.mark.parametrize(
    ("key", "value", "converted"),
    [
        ("PROJECT_ID", PROJECT.upper(), PROJECT),
        ("API_URL", "http://127.0.0.1:8001/", "http://127.0.0.1:8001"),
        ("PAYMENT_HOSTS", ("Pay.Example.COM", "b.example"), ("pay.example.com", "b.example")),
        ("TIME_TO_PAY", 0.5, Decimal("0.5")),
        ("TIME_TO_PAY", "12", Decimal(12)),
        ("TIMEOUT", 3, 3.0),
        ("TIMEOUT", "2.5", 2.5),
        ("CURRENCIES", ("EUR",), ("EUR",)),
        ("MIN_AMOUNT", 5, Decimal(5)),
        ("MIN_AMOUNT", 0.1, Decimal("0.1")),
        ("MAX_AMOUNT", "99.99", Decimal("99.99")),
        ("MAX_AMOUNT", {"USD": 5.5, "EUR": "6"}, {"USD": Decimal("5.5"), "EUR": Decimal(6)}),
        ("ORDER_STATUS_PENDING", "New", "New"),
        ("CANCEL_AFTER", None, None),
        ("CANCEL_AFTER", timedelta(days=1), timedelta(days=1)),
        ("HOLD_ORDER_FOR", None, None),
        ("HOLD_ORDER_FOR", timedelta(days=3), timedelta(days=3)),
        ("MAX_PENDING_ORDERS", None, None),
        ("MAX_PENDING_ORDERS", "7", 7),
        ("WATCH_DAYS", "7", 7),
        ("OTHER_METHODS", [["cod", "Cash"]], (("cod", "Cash"),)),
        ("EXTEND_CHECKOUT", False, False),
        ("MAILS", False, False),
    ],
)
def test_settings_are_converted(configure, key, value, converted):
    """Each setting is converted to one type."""
    configure(**{key: value})
    found = getattr(conf.get(), key.lower())
    assert (found, type(found)) == (converted, type(converted))


def test_the_pending_status_follows_oscars(settings):
    """``ORDER_STATUS_PENDING`` defaults to Oscar's initial status."""
    settings.OSCAR_INITIAL_ORDER_STATUS = "Received"
    assert conf.get().order_status_pending == "Received"


def test_settings_are_read_anew(configure):
    """A changed setting takes effect at once."""
    assert conf.get().timeout == 10
    configure(TIMEOUT=5)
    assert conf.get().timeout == 5


def test_the_shops_own_dict_is_not_touched(settings):
    """Defaults are added to a copy of the shop's dict."""
    before = dict(settings.OSCAR_BITSBY)
    conf.get()
    assert before == settings.OSCAR_BITSBY
    assert conf.DEFAULTS["ORDER_STATUS_PENDING"] is None


def test_settings_are_frozen():
    """The result of ``get`` cannot be changed."""
    with pytest.raises(FrozenInstanceError):
        conf.get().timeout = 1


def assert_no_settings(message):
    """Assert that the settings raise ``ConfigurationError`` and extend no checkout."""
    assert conf.other_methods() == ()
    assert not conf.extends_checkout()
    with pytest.raises(ConfigurationError, match=message):
        conf.get()


@pytest.mark.parametrize("value", [["API_KEY"], "API_KEY", 5, True, {1, 2}])
def test_settings_must_be_a_dict(settings, value):
    """Settings that are no dict raise ``ConfigurationError`` and extend no checkout."""
    settings.OSCAR_BITSBY = value
    assert_no_settings("is not a dict")


@pytest.mark.parametrize("value", [None, {}, [], "", 0, "deleted"])
def test_without_settings_the_app_is_not_configured(settings, value):
    """A shop with an empty ``OSCAR_BITSBY``, or without it, is not configured."""
    settings.OSCAR_BITSBY = value
    if value == "deleted":
        del settings.OSCAR_BITSBY
    assert not conf.is_configured()
    assert conf.raw() is None
    assert_no_settings("is not set")


@pytest.mark.parametrize("key", ["API_KEY", "PROJECT_ID"])
@pytest.mark.parametrize("value", [None, ""])
def test_key_and_project_must_be_set(configure, key, value):
    """The error names the setting that is missing."""
    configure(**{key: value})
    with pytest.raises(ConfigurationError, match=rf"^OSCAR_BITSBY\['{key}'\] is not set$"):
        conf.get()


class UnprintableValue:
    """A value that no converter accepts."""

    def __str__(self):
        raise TypeError(f"cannot be shown: {KEY}")


#: Values that each setting does not accept.
INVALID_VALUES = {
    "API_KEY": [UnprintableValue()],
    "PROJECT_ID": [UnprintableValue()],
    "API_URL": [UnprintableValue()],
    "PAYMENT_HOSTS": [KEY, None, 5],
    "TIME_TO_PAY": [KEY, None],
    "TIMEOUT": [KEY, None, [KEY]],
    "CURRENCIES": [KEY, None],
    "MIN_AMOUNT": [KEY, [5], float("nan")],
    "MAX_AMOUNT": [{"USD": KEY}, {"USD": None}, float("nan")],
    "CANCEL_AFTER": [KEY, 3600, 0],
    "HOLD_ORDER_FOR": [KEY, 3600, 0],
    "MAX_PENDING_ORDERS": [KEY, 0, -1, [5], float("inf")],
    "WATCH_DAYS": [KEY, None, float("inf"), float("nan")],
    "OTHER_METHODS": [KEY, [KEY], [("a", "b", "c")], [5], None],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in INVALID_VALUES.items() for value in values]
)
def test_invalid_value_is_named_and_not_shown(configure, key, value):
    """The error names the setting; neither its texts nor its frames show the value or the key."""
    configure(**{key: value})
    with pytest.raises(ConfigurationError, match=rf"^OSCAR_BITSBY\['{key}'\] ") as caught:
        conf.get()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert_hidden(caught.value)


@pytest.mark.parametrize("value", [None, 5, ["x"], [("a", "b", "c")], "cod"])
def test_invalid_other_methods_are_ignored(configure, value):
    """Invalid ``OTHER_METHODS`` give no methods and no error in the checkout."""
    configure(OTHER_METHODS=value)
    assert conf.other_methods() == ()


def test_checkout_works_with_other_invalid_settings(configure):
    """A mistake elsewhere keeps the shop's own methods and ``EXTEND_CHECKOUT``, on by default."""
    assert conf.extends_checkout()
    configure(API_KEY=None, TIMEOUT="soon", OTHER_METHODS=[("cod", "Cash on delivery")])
    assert conf.other_methods() == (("cod", "Cash on delivery"),)
    assert conf.extends_checkout()
    configure(EXTEND_CHECKOUT=False)
    assert not conf.extends_checkout()


@pytest.mark.parametrize(
    ("limits", "currency", "amount", "offered"),
    [
        ({}, "USD", "0.01", True),
        ({}, "RUB", "1000000", True),
        ({}, "USD", "0", False),
        ({}, "USD", "-1", False),
        ({}, "GBP", "10", False),
        ({}, "usd", "10", False),
        ({"CURRENCIES": ["EUR"]}, "EUR", "10", True),
        ({"CURRENCIES": ["EUR"]}, "USD", "10", False),
        ({"MIN_AMOUNT": 5}, "USD", "4.99", False),
        ({"MIN_AMOUNT": 5}, "USD", "5.00", True),
        ({"MAX_AMOUNT": "100"}, "EUR", "100.00", True),
        ({"MAX_AMOUNT": "100"}, "EUR", "100.01", False),
        ({"MIN_AMOUNT": 5, "MAX_AMOUNT": 10}, "USD", "7", True),
        ({"MIN_AMOUNT": {"USD": 5}}, "USD", "4", False),
        ({"MIN_AMOUNT": {"USD": 5}}, "USD", "5", True),
        ({"MIN_AMOUNT": {"USD": 5}}, "EUR", "4", True),
        ({"MAX_AMOUNT": {"USD": 5, "EUR": 6}}, "EUR", "6", True),
        ({"MAX_AMOUNT": {"USD": 5, "EUR": 6}}, "USD", "6", False),
        ({"MAX_AMOUNT": {"EUR": 6}}, "USD", "7", True),
        ({"MAX_AMOUNT": 0}, "USD", "1", False),
        ({"MAX_AMOUNT": float("inf")}, "USD", "1000000", True),
    ],
)
def test_bitsby_is_offered_within_the_shops_limits(configure, limits, currency, amount, offered):
    """Bitsby is offered for listed currencies within the limits, which are inclusive."""
    configure(**limits)
    assert conf.get().offers(currency, Decimal(amount)) is offered


# Secrets


def test_settings_do_not_show_key_and_token(configure):
    """``repr`` and ``str`` of the settings and their values show ``***`` for secrets."""
    configure(WEBHOOK_TOKEN="token-of-the-webhook")
    found = conf.get()
    for text in (repr(found), str(found), repr(vars(found)), f"{found.api_key}"):
        assert KEY not in text
        assert "token-of-the-webhook" not in text
    assert "***" in repr(found)


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        "{}".format,
        "{0!s:>10}".format,
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
        lambda secret: repr([secret]),
        lambda secret: json.dumps(secret, default=str),
        lambda secret: ascii(secret),
    ],
)
def test_a_secret_is_not_shown(show):
    """Neither printing nor formatting a secret shows its text, nor a dict in error reports."""
    assert not hasattr(Secret("hush"), "__dict__")
    assert "hush" not in show(Secret("hush"))
    assert "***" in show(Secret("hush"))


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_secret_cannot_be_serialised(copied):
    """Copying or pickling a secret, as caches and queues do, is an error."""
    with pytest.raises(TypeError, match="cannot be serialised"):
        copied(Secret("hush"))


def test_settings_cannot_be_converted_to_a_dict():
    """``asdict`` of the settings is an error, because it copies the secrets."""
    with pytest.raises(TypeError, match="cannot be serialised"):
        asdict(conf.get())


def test_secret_reveals_and_redacts_its_text():
    """Revealing returns the text, redacting replaces it everywhere, and an empty one is false."""
    assert Secret("hush").reveal() == "hush"
    assert Secret("hush").redact("a hush, ahush") == "a ***, a***"
    assert Secret("").redact("abc") == "abc"
    assert Secret("x")
    assert not Secret("")
    assert not conf.get().webhook_token


@pytest.mark.parametrize(
    ("text", "same"), [("hush", True), ("hus", False), ("", False), ("hush ", False), ("é", False)]
)
def test_a_secret_is_compared(text, same):
    """Only the same text matches."""
    assert Secret("hush").matches(text) is same


@pytest.mark.parametrize(
    ("setting", "amount", "currency", "expected"),
    [
        (0, 100, "USD", "0"),
        (1, 100, "USD", "1"),
        ("0.5", 100, "USD", "0.5"),
        ({"PERCENT": 1, "EUR": 2}, 100, "EUR", "1"),
        ({"PERCENT": 1, "EUR": 2}, 1000, "EUR", "2"),
        ({"PERCENT": 1, "EUR": 2}, 1000, "USD", "10"),
    ],
)
def test_tolerance_is_a_share_with_a_cap_by_currency(
    configure, setting, amount, currency, expected
):
    """The smaller of the two counts; without a cap, the share."""
    configure(TOLERANCE=setting)

    assert conf.get().tolerance.of(Decimal(amount), currency) == Decimal(expected)
