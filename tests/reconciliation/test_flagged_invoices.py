"""Runs refresh invoices that a delivery has flagged."""

import datetime as dt

import pytest
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.models import BitsbyInvoice
from tests.support import bitsby
from tests.support.settling import status_of

Order = get_model("order", "Order")

HOUR = dt.timedelta(hours=1)

pytestmark = pytest.mark.django_db


@pytest.fixture
def flagged(place, invoice_for):
    """Five flagged invoices, the one that was flagged last first."""
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


@pytest.mark.parametrize("is_known", [True, False])
def test_flag_is_cleared_by_one_refresh(flagged, fake, is_known):
    """An invoice that is unpaid, or unknown to Bitsby, is refreshed for its flag only once."""
    fake.invoices = [bitsby.invoice_item(invoice) for invoice in flagged if is_known]
    for _ in range(3):
        reconciliation.reconcile()

    assert len(fake.asked("/invoices/list")) == 5
    assert waiting() == set()
    assert set(Order.objects.values_list("status", flat=True)) == {"Pending"}


@pytest.mark.parametrize("has_payment", [True, False])
def test_paid_flagged_invoice_is_settled(flagged, fake, has_payment):
    """It is booked and counted; a payment missing from the answer is fetched from the list."""
    paid, payment = flagged[4], bitsby.transfer()
    fake.invoices = [bitsby.invoice_item(paid, "paid", payment=payment if has_payment else None)]
    payments = [bitsby.payment_item(payment, fake.invoices[0])]
    # The sync does not see the payment, so only the refresh can find it.
    fake.on(
        "/payments/list",
        lambda fields: bitsby.success(payments if "invoiceId" in fields else []),
    )

    report = reconciliation.reconcile()

    assert (report.booked, report.failures) == (1, 0)
    assert status_of(paid.order) == "Being processed"
    assert paid not in waiting()


def test_failing_flagged_invoice_is_logged_and_does_not_stop_the_run(
    flagged, place, invoice_for, fake, caplog, failing_save
):
    """The log names the flagged invoice that failed, and an overdue invoice still expires."""
    failing = flagged[4]
    overdue = invoice_for(place(), expires_at=timezone.now() - HOUR / 6)
    fake.invoices = [
        bitsby.invoice_item(failing, "paid", payment=bitsby.transfer()),
        bitsby.invoice_item(overdue, "expired"),
    ]
    failing_save(BitsbyInvoice, lambda row: row.pk == failing.pk)

    report = reconciliation.reconcile()

    overdue.refresh_from_db()
    assert (report.failures, overdue.status) == (1, "expired")
    assert f"could not process {failing.bitsby_id}" in caplog.messages


def test_dry_run_refreshes_no_flagged_invoice(flagged, fake):
    """Flags stay set for a run that is not a dry run."""
    reconciliation.reconcile(dry_run=True)

    assert fake.asked("/invoices/list") == []
    assert waiting() == set(flagged)
