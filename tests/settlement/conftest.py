"""Fixtures of the tests of settling and cancelling."""

import datetime as dt

import pytest
from django.utils import timezone

from oscar_bitsby import settlement
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.gateway import parsing
from oscar_bitsby.settlement import cancellation
from tests.support import bitsby
from tests.support.refunds import book_payment, request_refund, unbound_payment
from tests.support.settling import OUR_SIGNALS, Sent


@pytest.fixture
def sent_signals():
    """Return all signals of the app in the order in which they are sent."""
    received, names = [], {signal: name for name, signal in OUR_SIGNALS.items()}

    def listen(signal, sender, **payload):
        received.append(Sent(names[signal], sender, payload))

    for signal in names:
        signal.connect(listen)
    yield received
    for signal in names:
        signal.disconnect(listen)


@pytest.fixture
def settle(django_capture_on_commit_callbacks):
    """Return a function that settles an answer about an invoice, including the commit."""

    def run(invoice, status="paid", payment=None, **values):
        remote = parsing.parse_invoice(
            bitsby.invoice_item(invoice, status, payment=payment, **values)
        )
        with django_capture_on_commit_callbacks(execute=True):
            return settlement.settle(invoice, remote)

    return run


@pytest.fixture
def record_unbound(django_capture_on_commit_callbacks):
    """Return a function that records a payment without an invoice, including the commit."""

    def run(payment=None, reason="unmatched"):
        remote = parsing.parse_payment(bitsby.payment_item(payment))
        with django_capture_on_commit_callbacks(execute=True):
            return settlement.record_unbound(remote, reason=reason)

    return run


@pytest.fixture
def staff_user(django_user_model):
    """A member of staff."""
    return django_user_model.objects.create_user("staff", "staff@example.com", "secret")


@pytest.fixture
def cancel(django_capture_on_commit_callbacks):
    """Return a function that tries to cancel an order, with an answer about its invoices."""

    def run(order, status="expired", **options):
        remote = {
            invoice.bitsby_id: parsing.parse_invoice(bitsby.invoice_item(invoice, status))
            for invoice in order.bitsby_invoices.exclude(bitsby_id=None)
        }
        with django_capture_on_commit_callbacks(execute=True):
            return cancellation.cancel_unpaid_order(order.pk, remote, **options)

    return run


@pytest.fixture
def expired(order, invoice_for):
    """An invoice of ``order`` that expired two hours ago: the order is due to cancel."""
    long_ago = timezone.now() - dt.timedelta(hours=2)
    return invoice_for(
        order, InvoiceStatus.EXPIRED, expires_at=long_ago, ended_at=long_ago, created_at=long_ago
    )


@pytest.fixture
def raising():
    """Return a function that connects a raising receiver to a signal."""
    connected = []

    def fail(**kwargs):
        raise RuntimeError("the shop's receiver is broken")

    def connect(signal):
        signal.connect(fail)
        connected.append(signal)

    yield connect
    for signal in connected:
        signal.disconnect(fail)


@pytest.fixture
def unpayable(configure):
    """A paid status that the pipeline does not allow."""
    configure(ORDER_STATUS_PAID="Complete")


@pytest.fixture
def payment(invoice):
    """A booked payment of 10 dollars for an order of 10 dollars."""
    return book_payment(invoice)


@pytest.fixture
def unbound(db):
    """A payment of 8 USDT that belongs to no order."""
    return unbound_payment()


@pytest.fixture
def refund(payment, staff_user):
    """A requested refund of 10 dollars."""
    return request_refund(staff_user, payment)


@pytest.fixture
def committed(django_capture_on_commit_callbacks):
    """Return a function that calls another one, including the commit."""

    def run(function, *args, **kwargs):
        with django_capture_on_commit_callbacks(execute=True):
            return function(*args, **kwargs)

    return run
