"""Refreshes of one invoice: their requests, claims, flags and log messages."""

import datetime as dt
import logging

import pytest
from django.db import transaction
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.exceptions import BitsbyError, RateLimitTimeout
from oscar_bitsby.gateway import factory
from oscar_bitsby.models import EPOCH, BitsbyInvoice
from oscar_bitsby.reconciliation import invoice_refresh, refresh
from tests.support import bitsby
from tests.support.settling import status_of

Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db


#: Both refreshes that do not wait for a slot.
for_pages_and_deliveries = pytest.mark.parametrize(
    "refresh_at_once", [invoice_refresh.refresh_if_idle, invoice_refresh.refresh_for_delivery]
)


def last_refreshed_at(invoice):
    return BitsbyInvoice.objects.get(pk=invoice.pk).last_refreshed_at


def test_refresh_settles_a_paid_invoice(order, paid_invoice):
    """A refresh of a paid invoice settles it."""
    outcome = refresh(paid_invoice)

    assert outcome.is_final
    assert status_of(order) == "Being processed"


def test_refresh_of_an_invoice_unknown_to_bitsby_changes_nothing(order, invoice, fake):
    """Without an answer about the invoice nothing changes, even if others are answered."""
    other = bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer(), id=str(bitsby.new_id()))
    fake.on("/invoices/list", bitsby.success([other]))

    assert refresh(invoice) is None
    assert status_of(order) == "Pending"


def test_refresh_of_an_attempt_makes_no_request(order, invoice_for, fake):
    """An attempt without an id at Bitsby is not fetched."""
    assert refresh(invoice_for(order, "creating", bitsby_id=None)) is None
    assert fake.requests == []


def test_refresh_fetches_a_payment_missing_from_the_invoice(order, invoice, fake):
    """A payment that the paid invoice lacks is fetched from the list of payments."""
    payment = bitsby.transfer()
    remote = bitsby.invoice_item(invoice, "paid")
    fake.invoices, fake.payments = [remote], [bitsby.payment_item(payment, remote)]

    refresh(invoice)

    assert Transaction.objects.get().reference == payment["id"]


def test_refresh_ignores_payments_of_other_invoices(order, invoice, fake):
    """If the server ignores the filter, payments of other invoices are not booked."""
    other = bitsby.invoice_item(invoice, "paid", id=str(bitsby.new_id()))
    fake.invoices = [bitsby.invoice_item(invoice, "paid")]
    fake.on(
        "/payments/list",
        bitsby.success([bitsby.payment_item(invoice=other), bitsby.payment_item()]),
    )

    refresh(invoice)

    assert not Transaction.objects.exists()
    assert status_of(order) == "Pending"


@pytest.mark.parametrize("answer", [bitsby.error("no"), ConnectionError("down"), (500, {}, "")])
def test_failed_refresh_raises_bitsby_error_and_changes_nothing(order, invoice, fake, answer):
    """A failing API raises ``BitsbyError`` and changes no order."""
    fake.on("/invoices/list", answer)

    with pytest.raises(BitsbyError):
        refresh(invoice)
    assert status_of(order) == "Pending"


@pytest.mark.parametrize("status", ["creating", "paid", "expired", "canceled"])
def test_opportunistic_refresh_is_for_open_invoices_only(order, invoice_for, fake, status):
    """An invoice that is not unpaid is not refreshed for a page."""
    assert invoice_refresh.refresh_if_idle(invoice_for(order, status)) is False
    assert fake.requests == []


def test_refresh_for_a_delivery_keeps_to_one_request_a_second(order, invoice, fake, clock):
    """If the answer lacks the payment, no second request follows; the next run settles it."""
    payment, remote = bitsby.transfer(), bitsby.invoice_item(invoice, "paid")
    fake.invoices, fake.payments = [remote], [bitsby.payment_item(payment, remote)]

    with pytest.raises(RateLimitTimeout):
        invoice_refresh.refresh_for_delivery(invoice)

    assert len(fake.requests) == 1
    assert clock.slept == 0
    reconciliation.reconcile()
    assert status_of(order) == "Being processed"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("call", [refresh, invoice_refresh.refresh_for_delivery])
def test_refresh_inside_a_transaction_is_refused(paid_invoice, fake, call):
    """A refresh inside a transaction raises before it sends a request."""
    with transaction.atomic(), pytest.raises(RuntimeError):
        call(paid_invoice)

    assert fake.requests == []
    assert not Transaction.objects.exists()


def test_opportunistic_refresh_times_out_after_three_seconds(invoice, fake, responses):
    """An opportunistic refresh has a time-out of three seconds."""
    invoice_refresh.refresh_if_idle(invoice)

    assert [call.request.req_kwargs["timeout"] for call in responses.calls] == [3]


@for_pages_and_deliveries
def test_refresh_without_a_slot_does_not_delay_the_next_refresh(
    invoice_for, place, fake, clock, refresh_at_once
):
    """Without a slot it does not wait, and the time of the last refresh stays as it was."""
    now = timezone.now()
    before = now - dt.timedelta(minutes=1)
    invoice = invoice_for(place(), last_refreshed_at=before)
    other = invoice_for(place(), last_refreshed_at=now)
    factory.without_waiting()

    assert refresh_at_once(invoice) is False
    assert (last_refreshed_at(invoice), last_refreshed_at(other)) == (before, now)
    assert (fake.requests, clock.slept) == ([], 0)


@for_pages_and_deliveries
def test_refresh_without_a_slot_keeps_a_concurrent_claim(
    invoice_for, place, fake, refresh_at_once, monkeypatch, move_time
):
    """Without a slot a refresh does not reset the claim that another process has made since."""
    invoice = invoice_for(place(), last_refreshed_at=EPOCH)
    real, later = factory.without_waiting, timezone.now() + dt.timedelta(seconds=30)
    real()

    def overtaken(**options):
        BitsbyInvoice.objects.filter(pk=invoice.pk).update(last_refreshed_at=later)
        return real(**options)

    monkeypatch.setattr(factory, "without_waiting", overtaken)

    assert refresh_at_once(invoice) is False
    assert last_refreshed_at(invoice) == later


@for_pages_and_deliveries
def test_refresh_without_a_slot_leaves_other_invoices_alone(
    invoice_for, place, fake, refresh_at_once, monkeypatch
):
    """Concurrent refreshes of two invoices keep each other's claims."""
    now = timezone.now()
    monkeypatch.setattr("django.utils.timezone.now", lambda: now)
    invoice, other = invoice_for(place()), invoice_for(place(), last_refreshed_at=now)
    factory.without_waiting()

    assert refresh_at_once(invoice) is False
    assert (last_refreshed_at(invoice), last_refreshed_at(other)) == (EPOCH, now)


@pytest.mark.parametrize("seconds", [9.999, 10])
def test_invoice_can_be_refreshed_again_after_ten_seconds(
    unpaid_invoice, fake, clock, stop_time, seconds
):
    """A page refreshes an invoice ten seconds after the last refresh and not earlier."""
    now = timezone.now()
    BitsbyInvoice.objects.update(last_refreshed_at=now - dt.timedelta(seconds=seconds))
    stop_time(now)
    assert invoice_refresh.refresh_if_idle(unpaid_invoice) is (seconds == 10)
    assert (len(fake.requests), clock.slept) == (int(seconds == 10), 0)


def test_opportunistic_refresh_without_settings_changes_nothing(invoice, fake, configure):
    """With invalid settings a page's refresh returns False and sends no request."""
    configure(API_KEY="")

    assert invoice_refresh.refresh_if_idle(invoice) is False
    assert fake.requests == []


@pytest.mark.parametrize("answer", [bitsby.error("no"), ConnectionError("down")])
def test_failed_opportunistic_refresh_is_logged_with_its_reason(invoice, fake, caplog, answer):
    """The log names the invoice and the reason, and the page goes on."""
    fake.on("/invoices/list", answer)
    with caplog.at_level(logging.INFO, "oscar_bitsby"):
        assert invoice_refresh.refresh_if_idle(invoice) is False

    (message,) = caplog.messages
    assert message.startswith(f"invoice {invoice.bitsby_id} not refreshed: /invoices/list: ")
    assert isinstance(answer, Exception) or message.endswith(": no")


def test_unexpected_error_in_opportunistic_refresh_does_not_break_the_page(
    unpaid_invoice, caplog, monkeypatch
):
    """The page goes on, and the log has the traceback and the invoice."""

    def fail(*args, **options):
        raise ZeroDivisionError

    monkeypatch.setattr("oscar_bitsby.settlement.service.settle", fail)

    assert invoice_refresh.refresh_if_idle(unpaid_invoice) is False

    (record,) = caplog.records
    assert record.getMessage() == f"invoice {unpaid_invoice.bitsby_id} not refreshed"
    assert record.exc_info[0] is ZeroDivisionError


def test_delivery_flags_only_its_own_invoice(invoice_for, place, fake):
    """A delivery without a slot flags its invoice alone, and keeps the time of an earlier flag."""
    first = timezone.now() - dt.timedelta(minutes=5)
    flagged = invoice_for(place(), webhook_pending_since=first)
    fresh, other = invoice_for(place()), invoice_for(place())
    factory.without_waiting()
    for invoice in (flagged, fresh):
        assert invoice_refresh.refresh_for_delivery(invoice) is False

    flags = dict(BitsbyInvoice.objects.values_list("pk", "webhook_pending_since"))
    assert flags[flagged.pk] == first
    assert flags[fresh.pk] is not None
    assert flags[other.pk] is None


def test_second_delivery_within_ten_seconds_sends_no_request(unpaid_invoice, fake):
    """Within ten seconds a second delivery returns False and sends no request."""
    results = [invoice_refresh.refresh_for_delivery(unpaid_invoice) for _ in range(2)]

    assert results == [True, False]
    assert len(fake.requests) == 1


def test_single_delivery_requests_its_invoice(invoice_for, place, fake):
    """If no other invoice is flagged, only the invoice of the delivery is fetched."""
    invoice, _ = invoice_for(place()), invoice_for(place())

    assert invoice_refresh.refresh_for_delivery(invoice) is True

    ((path, fields),) = fake.requests
    assert (path, fields["invoiceId"]) == ("/invoices/list", str(invoice.bitsby_id))


def test_delivery_syncs_all_flagged_invoices(invoice_for, place, fake):
    """If others are flagged, the payments of the last day are synced and all count as refreshed."""
    now = timezone.now()
    waiting = invoice_for(place(), webhook_pending_since=now)
    invoice, other = invoice_for(place()), invoice_for(place())

    assert invoice_refresh.refresh_for_delivery(invoice) is True

    ((path, fields),) = fake.requests
    # Two days more on both sides, since neither zone nor ends of these dates are known.
    days = (fields["startDate"], fields["endDate"])
    assert path == "/payments/list"
    assert days == tuple((now + dt.timedelta(days=by)).date().isoformat() for by in (-3, 2))
    assert last_refreshed_at(waiting) >= now
    assert last_refreshed_at(invoice) >= now
    assert last_refreshed_at(other) == EPOCH


def test_worker_refreshes_only_the_invoice_of_its_delivery(invoice_for, place, fake):
    """A task whose invoice is no longer flagged sends no request for another flagged one."""
    refreshed = invoice_for(place())
    invoice_for(place(), webhook_pending_since=timezone.now())

    assert invoice_refresh.refresh_flagged(refreshed) is False

    assert fake.requests == []
