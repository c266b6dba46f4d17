"""System checks of ``ALERTS``: each names its remedy, and none shows the URL or the secret."""

import importlib.util

import pytest
from django.core.checks import run_checks

from tests.support.alerts import BY_POST, MAIL, SECRET


@pytest.fixture
def check(configure):
    """Return a function that sets ``ALERTS`` and returns the messages of the checks."""

    def change(**values):
        configure(ALERTS=values)
        return run_checks(tags=["oscar_bitsby"])

    return change


@pytest.mark.parametrize(
    ("values", "says", "hint"),
    [
        ({"MAIL": ["owner"]}, "'owner'", "plain addresses"),
        ({"MAIL": ["a@example.com\nBcc: b@example.com"]}, "not an e-mail", "plain addresses"),
        (BY_POST | {"URL": "http://hooks.example.com/t0ken"}, "not an https URL", "https://"),
        (BY_POST | {"URL": "https://[t0ken"}, "not an https URL", "https://"),
        (BY_POST | {"SECRET": ""}, "no SECRET", "openssl rand -base64 32"),
        (BY_POST | {"SECRET": "t0ken, not base64"}, "not base64", "openssl rand -base64 32"),
        (BY_POST | {"SECRET": "dDBrZW4="}, "shorter than 24 bytes", "openssl rand -base64 32"),
    ],
)
def test_e018_for_alerts_that_could_not_be_sent(check, values, says, hint):
    """Each value that cannot work is one error."""
    (message,) = check(**values)
    assert message.id == "oscar_bitsby.E018"
    assert says in message.msg
    assert hint in message.hint
    assert "t0ken" not in message.msg + message.hint


def test_e019_for_missing_libraries(check, monkeypatch):
    """They are needed for a URL only."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *args: None if name == "standardwebhooks" else find(name, *args),
    )
    (message,) = check(**BY_POST)
    assert message.id == "oscar_bitsby.E019"
    assert "django-oscar-bitsby[alerts]" in message.hint
    assert check(MAIL=MAIL) == []


def test_valid_alerts_get_no_message(check):
    """Secrets may have the prefix of Standard Webhooks."""
    assert check(MAIL=MAIL, **BY_POST) == []
    assert check(**BY_POST | {"SECRET": f"whsec_{SECRET}"}) == []
