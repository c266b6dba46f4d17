"""Test shops with several databases: transactions use the database of the app's tables."""

import pytest
from django.db import ConnectionHandler, connections, transaction
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import settlement
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.exceptions import NotPayable
from oscar_bitsby.facade import start_payment
from oscar_bitsby.gateway import parsing
from oscar_bitsby.gateway.rate_limit import acquire
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.settlement import cancellation
from oscar_bitsby.staff import review
from oscar_bitsby.utils.clock import db_now
from tests.support import bitsby

Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")

pytestmark = pytest.mark.django_db


class Router:
    """Route the app's tables to another database than Oscar's."""

    def db_for_write(self, model, **hints):
        return "elsewhere" if model._meta.app_label == "oscar_bitsby" else None

    db_for_read = db_for_write

    def allow_relation(self, *rows, **hints):
        return True


@pytest.fixture
def durable_aliases(settings, monkeypatch):
    """Return the databases of durable transactions, with the app's tables in another database.

    Both aliases are the same database, because the tests have only one.
    """
    aliases = []
    atomic = transaction.atomic

    def record(using=None, savepoint=True, durable=False):
        if durable:
            aliases.append(using)
        return atomic(using, savepoint, durable)

    connections["elsewhere"] = connections["default"]
    monkeypatch.setattr(transaction, "atomic", record)
    settings.DATABASE_ROUTERS = [Router()]
    yield aliases
    del connections["elsewhere"]


def test_slot_is_taken_in_the_database_of_its_row(durable_aliases):
    """The transaction is opened on the database that has the row."""
    acquire(0)

    assert set(durable_aliases) == {"elsewhere"}


def test_db_now_is_the_time_of_the_rows_database(durable_aliases, monkeypatch, real_time):
    """The time is that of the database that has the shared row."""
    used = []
    monkeypatch.setattr(
        "oscar_bitsby.utils.clock.connections",
        type("Connections", (), {"__getitem__": lambda self, name: used.append(name)})(),
    )

    with pytest.raises(AttributeError):
        db_now()

    assert used == ["elsewhere"]


def test_settling_locks_the_database_of_invoices(durable_aliases, order, invoice):
    """Invoices are locked in the database that stores them."""
    remote = parsing.parse_invoice(bitsby.invoice_item(invoice, "expired"))
    settlement.settle(invoice, remote)

    assert set(durable_aliases) == {"elsewhere"}


def test_cancelling_locks_the_database_of_invoices(durable_aliases, order):
    """An unpaid order is cancelled in a transaction of the database that stores the invoices."""
    cancellation.cancel_unpaid_order(order.pk, {})

    assert durable_aliases == ["elsewhere"]


def test_unbound_payments_are_written_in_the_database_of_payments(durable_aliases):
    """A payment without an invoice is written in one transaction of its database."""
    settlement.record_unbound(parsing.parse_payment(bitsby.payment_item()), reason="unmatched")

    assert set(durable_aliases) == {"elsewhere"}


def test_decisions_of_staff_lock_the_database_of_payments(durable_aliases, django_user_model):
    """Staff decide about a payment in one transaction of the database that stores it."""
    user = django_user_model.objects.create_user("staff", "staff@example.com", "secret")
    payment = BitsbyPayment.objects.create(bitsby_id=bitsby.new_id(), amount=1)

    assert not review.undo(payment.pk, user).done

    assert durable_aliases == ["elsewhere"]


def test_attempt_and_answer_are_committed_in_the_database_of_invoices(durable_aliases, order, fake):
    """The attempt and the answer are each committed in the database that stores the invoices."""
    start_payment(order)

    assert set(durable_aliases) == {"elsewhere"}
    assert len(durable_aliases) >= 2


class Replicas(Router):
    """Route reads of the app's tables to a replica."""

    def db_for_read(self, model, **hints):
        return "copy" if model._meta.app_label == "oscar_bitsby" else None


def test_bulk_updates_lock_invoices_in_the_database_for_writes(
    durable_aliases, invoice, settings, monkeypatch
):
    """A shop that reads from replicas opens the transaction on the database that has the locks."""
    used, atomic = [], transaction.atomic
    connections["copy"] = connections["default"]
    settings.DATABASE_ROUTERS = [Replicas()]
    monkeypatch.setattr(transaction, "atomic", lambda using: (used.append(using), atomic(using))[1])
    now = timezone.now()

    BitsbyInvoice.objects.filter(pk=invoice.pk).update_unlocked(last_refreshed_at=now)

    del connections["copy"]
    assert used == ["elsewhere"]
    assert BitsbyInvoice.objects.using("default").get().last_refreshed_at == now


class LaggingReplica:
    """Route every read to a replica, as the router in Django's documentation does."""

    def db_for_read(self, model, **hints):
        return "replica"

    def db_for_write(self, model, **hints):
        return "default"

    def allow_relation(self, *rows, **hints):
        return True


@pytest.fixture
def start_lag(settings):
    """Return a function after which reads go to an empty replica."""
    handler = ConnectionHandler(
        {"default": {}, "replica": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    )
    connections["replica"] = handler["replica"]

    def fall_behind():
        settings.DATABASE_ROUTERS = [LaggingReplica()]

    yield fall_behind
    handler["replica"].close()
    del connections["replica"]


def test_payability_is_not_read_from_a_replica(order, fake, start_lag):
    """Whether an order is payable is read from the database that holds its lock."""
    start_lag()

    invoice = start_payment(order.number)

    assert invoice.status == InvoiceStatus.UNPAID
    assert start_payment(order.number) == invoice


@pytest.mark.parametrize("known", ["a paid invoice", "a payment under review", "booked money"])
def test_lagging_replica_does_not_cause_a_second_payment(
    order, invoice_for, fake, start_lag, known
):
    """Even if a replica lags behind, the buyer of a paid order is not asked to pay again."""
    if known == "booked money":
        kind = SourceType.objects.create(code="other", name="Other")
        Source.objects.create(order=order, source_type=kind, amount_debited=1)
    else:
        status = InvoiceStatus.PAID if known == "a paid invoice" else InvoiceStatus.EXPIRED
        invoice = invoice_for(order, status)
        if known == "a payment under review":
            BitsbyPayment.objects.create(
                bitsby_id=bitsby.new_id(), invoice=invoice, amount=1, review_reason="mismatch"
            )
    start_lag()

    with pytest.raises(NotPayable):
        start_payment(order.number)

    assert fake.requests == []
