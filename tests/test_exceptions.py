"""The tree of errors: who catches what, and what each error says of itself."""

import inspect

import pytest
from oscar.apps.payment.exceptions import PaymentError

from oscar_bitsby import exceptions

TREE = {
    "BitsbyError": "PaymentError",
    "ConfigurationError": "BitsbyError",
    "NotPayable": "BitsbyError",
    "HoldEnded": "NotPayable",
    "PaymentInProgress": "BitsbyError",
    "PaymentPaused": "BitsbyError",
    "RefundRefused": "BitsbyError",
    "GatewayError": "BitsbyError",
    "ConnectionFailed": "GatewayError",
    "RateLimited": "GatewayError",
    "RateLimitTimeout": "RateLimited",
    "Queued": "RateLimitTimeout",
    "Refused": "GatewayError",
    "ReplyNotUnderstood": "GatewayError",
    "PaymentPageRefused": "ReplyNotUnderstood",
}
MAY_RETRY = {"ConnectionFailed", "RateLimited", "RateLimitTimeout", "Queued", "ReplyNotUnderstood"}


def errors():
    """Return the classes that the module defines."""
    return {
        name: found
        for name, found in vars(exceptions).items()
        if inspect.isclass(found) and found.__module__ == exceptions.__name__
    }


def test_tree_is_as_drawn():
    """Each error has the base class that the module's docstring shows, and Oscar can handle it."""
    assert {name: found.__bases__[0].__name__ for name, found in errors().items()} == TREE
    drawn = [line.strip("│├└─ ").split(" ")[0] for line in exceptions.__doc__.splitlines()]
    assert set(TREE) <= set(drawn)
    assert all(issubclass(found, PaymentError) for found in errors().values())


@pytest.mark.parametrize(
    "name", sorted(name for name in TREE if issubclass(errors()[name], exceptions.GatewayError))
)
def test_gateway_error_says_whether_a_retry_makes_sense(name):
    """``may_retry`` is true for failures that can pass by themselves, and for no others."""
    assert errors()[name]("text").may_retry is (name in MAY_RETRY)


def test_gateway_error_keeps_status_and_body():
    """Status and body of the answer are attributes; without an answer they are empty."""
    error = exceptions.Refused("no", status=403, body="<html>")
    assert (str(error), error.status, error.body) == ("no", 403, "<html>")
    error = exceptions.ConnectionFailed("nothing came")
    assert (error.status, error.body) == (None, "")
