"""Runs refresh invoices that a delivery has flagged."""

import datetime as dt

import pytest
from django.utils import timezone

from oscar_bitsby import reconciliation
from oscar_bitsby.models import BitsbyInvoice
from tests.support import bitsby
from tests.support.settling import status_of

HOUR = dt.timedelta(hours=1)

pytestmark = pytest.mark.django_db


def test_flagged_invoice_is_refreshed(order, invoice, books):
    """A delivery that found no free slot is dealt with by the next pass."""
    BitsbyInvoice.objects.update(webhook_pending_since=timezone.now())
    books.fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]

    reconciliation.reconcile()

    assert status_of(order) == "Being processed"
    invoice.refresh_from_db()
    assert invoice.webhook_pending_since is None


def test_wrong_delivery_causes_one_request(order, invoice, books):
    """An invoice that Bitsby calls unpaid is not asked about in every further pass."""
    BitsbyInvoice.objects.update(webhook_pending_since=timezone.now())
    books.fake.invoices = [bitsby.invoice_item(invoice)]
    for _ in range(4):
        reconciliation.reconcile()

    assert len(books.fake.asked("/invoices/list")) == 1
    assert status_of(order) == "Pending"


def test_flood_of_wrong_deliveries_causes_few_requests_in_a_run(place, invoice_for, books):
    """Noted deliveries are asked about a few at a time."""
    for _ in range(30):
        invoice_for(place(), webhook_pending_since=timezone.now())
    books.fake.invoices = [bitsby.invoice_item(row) for row in BitsbyInvoice.objects.all()]

    report = reconciliation.reconcile()

    assert report.requests <= 5


@pytest.fixture
def flagged(place, invoice_for):
    """Five invoices whose deliveries were noted, the last one first."""
    return [
        invoice_for(place(), webhook_pending_since=timezone.now() - number * HOUR)
        for number in range(5)
    ]


def waiting():
    return set(BitsbyInvoice.objects.filter(webhook_pending_since__isnull=False))


def test_three_oldest_flagged_invoices_are_refreshed_first(flagged, fake):
    """A run refreshes three flagged invoices and leaves the others for the next run."""
    fake.invoices = [bitsby.invoice_item(invoice) for invoice in flagged]

    reconciliation.reconcile()

    asked = [fields["invoiceId"] for fields in fake.asked("/invoices/list")]
    assert asked == [str(invoice.bitsby_id) for invoice in flagged[:1:-1]]
    assert waiting() == set(flagged[:2])


def test_flag_of_an_invoice_unknown_to_bitsby_is_cleared(flagged, fake):
    """An invoice without a word is not asked about in each further pass."""
    for _ in range(3):
        reconciliation.reconcile()

    assert len(fake.asked("/invoices/list")) == 5
    assert waiting() == set()


def test_results_of_flagged_invoices_are_counted(flagged, fake):
    """What is booked because a delivery was noted stands in the report."""
    paid = flagged[4]
    fake.invoices = [bitsby.invoice_item(paid, "paid", payment=bitsby.transfer())]

    report = reconciliation.reconcile()

    assert (report.booked, report.failures) == (1, 0)


def test_failure_of_a_flagged_invoice_is_logged_with_its_invoice(
    flagged, fake, caplog, monkeypatch
):
    """Operators find the invoice, and the others are dealt with."""
    fake.invoices = [bitsby.invoice_item(flagged[4], "paid", payment=bitsby.transfer())]

    def fail(*args, **options):
        raise ZeroDivisionError

    monkeypatch.setattr("oscar_bitsby.settlement.service.settle", fail)

    report = reconciliation.reconcile()

    assert report.failures == 1
    assert f"could not process {flagged[4].bitsby_id}" in caplog.messages


def test_dry_run_refreshes_no_flagged_invoice(flagged, fake):
    """Flags stay set for a run that is not a dry run."""
    reconciliation.reconcile(dry_run=True)

    assert fake.asked("/invoices/list") == []
    assert waiting() == set(flagged)


def test_flagged_invoice_reported_without_its_payment_is_settled(flagged, fake):
    """The list of payments is asked for the payment that Bitsby's word on the invoice lacks."""
    remote, payment = bitsby.invoice_item(flagged[4], "paid"), bitsby.transfer()
    fake.invoices, fake.payments = [remote], [bitsby.payment_item(payment, remote)]
    # Too old for the near look, so that the payment is found by the delivery alone.
    fake.on(
        "/payments/list",
        lambda fields: bitsby.success(fake.payments if "invoiceId" in fields else []),
    )

    report = reconciliation.reconcile()

    assert (report.booked, report.failures) == (1, 0)
