"""Mail servers, and orders with invoices that e-mails are about."""

import datetime as dt

import pytest
from django.contrib.auth.models import Permission
from django.core import mail
from django.test import Client
from django.utils import timezone
from oscar.core.loading import get_model
from oscar.test import factories

from oscar_bitsby import reconciliation
from tests.support import bitsby
from tests.support.mails import expiring_in, paid_item
from tests.support.shopping import go_to_preview, place_order

Order = get_model("order", "Order")

BACKENDS = "tests.checkout.mail_backends"


@pytest.fixture
def mail_server(settings):
    """Return a function that sets the e-mail backend; without a name, one that works."""

    def change(name=None):
        locmem = "django.core.mail.backends.locmem.EmailBackend"
        settings.EMAIL_BACKEND = f"{BACKENDS}.{name}" if name else locmem

    return change


@pytest.fixture
def committed(django_capture_on_commit_callbacks):
    """Return a function that calls another one and runs its ``on_commit`` callbacks."""

    def call(function, *args, **values):
        with django_capture_on_commit_callbacks(execute=True):
            return function(*args, **values)

    return call


@pytest.fixture
def buy(fake, guest, product, committed):
    """Return a function that places an order, without going to the payment page."""

    def buy_as(client=guest, method="bitsby"):
        go_to_preview(client, product, method)
        committed(place_order, client)
        return Order.objects.latest("pk")

    return buy_as


@pytest.fixture
def buy_and_reconcile(buy):
    """Return a function that places an order, and reconciles to send its e-mail."""

    def buy_as(*arguments):
        order = buy(*arguments)
        assert mail.outbox == []
        reconciliation.reconcile()
        return order

    return buy_as


@pytest.fixture
def registered(country):
    """The browser of a registered buyer, ada@example.com."""
    user = factories.UserFactory(email="ada@example.com", username="ada")
    client = Client()
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def staff_user():
    user = factories.UserFactory(email="staff@example.com", username="staff", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="bind_payment"))
    return user


@pytest.fixture
def overdue_invoice(fake, order, invoice_for):
    """An invoice that expired a minute ago at Bitsby and is still unpaid in the database."""
    now = timezone.now()
    invoice = invoice_for(
        order, created_at=now - dt.timedelta(hours=1), expires_at=now - dt.timedelta(minutes=1)
    )
    fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    return invoice


@pytest.fixture
def long_invoice(order, invoice_for):
    """An invoice of twelve hours that expires in fifty minutes."""
    return invoice_for(order, **expiring_in(minutes=50, hours_in_total=12))


@pytest.fixture
def receive_payment(fake):
    """Return a function that lets Bitsby list the payment of an invoice, and reconciles."""

    def receive(invoice, amount="10.00000000"):
        fake.payments.insert(0, paid_item(invoice, amount))
        return reconciliation.reconcile()

    return receive
