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


def last_refreshed_at(invoice):
    return BitsbyInvoice.objects.get(pk=invoice.pk).last_refreshed_at


def test_refresh_settles_a_paid_invoice(order, invoice, fake):
    """One question about one invoice settles it."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]

    outcome = refresh(invoice)

    assert outcome.is_final
    assert status_of(order) == "Being processed"


def test_refresh_of_an_invoice_unknown_to_bitsby_changes_nothing(order, invoice, fake):
    """No answer about it is no outcome, even when the server answers with others."""
    other = bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer(), id=str(bitsby.new_id()))
    fake.on("/invoices/list", bitsby.success([other]))

    assert refresh(invoice) is None
    assert status_of(order) == "Pending"


def test_refresh_of_an_attempt_makes_no_request(order, invoice_for, fake):
    """An attempt that has no id at Bitsby cannot be asked about."""
    assert refresh(invoice_for(order, "creating", bitsby_id=None)) is None
    assert fake.requests == []


def test_refresh_fetches_a_payment_missing_from_the_invoice(order, invoice, fake):
    """Where the invoice does not name its payment, the list of payments does."""
    payment = bitsby.transfer()
    remote = bitsby.invoice_item(invoice, "paid")
    fake.invoices, fake.payments = [remote], [bitsby.payment_item(payment, remote)]

    refresh(invoice)

    assert Transaction.objects.get().reference == payment["id"]


def test_refresh_ignores_payments_of_other_invoices(order, invoice, fake):
    """A server that does not heed the filter cannot lend one invoice another's payment."""
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
    """A Bitsby that cannot be asked changes nothing."""
    fake.on("/invoices/list", answer)

    with pytest.raises(BitsbyError):
        refresh(invoice)
    assert status_of(order) == "Pending"


def test_opportunistic_refresh_happens_at_most_once_in_ten_seconds(invoice, fake, clock, move_time):
    """A buyer who reloads the page does not cost a request each time."""
    fake.invoices = [bitsby.invoice_item(invoice)]
    looked = []
    for _ in range(12):
        invoice.refresh_from_db()
        looked.append(invoice_refresh.refresh_if_idle(invoice))
        move_time(seconds=1)
        clock.sleep(1)

    assert len(fake.requests) == 2
    assert looked.count(True) == 2


def test_opportunistic_refresh_does_not_wait_and_never_raises(invoice, fake, clock):
    """Without a free slot, or without Bitsby, the buyer's page goes on at once."""
    fake.invoices = [bitsby.invoice_item(invoice)]
    refresh(invoice)
    slept = clock.slept
    assert invoice_refresh.refresh_if_idle(invoice) is False
    assert clock.slept == slept

    clock.sleep(2)
    fake.on("/invoices/list", ConnectionError("down"))
    assert invoice_refresh.refresh_if_idle(invoice) is False


@pytest.mark.parametrize("status", ["creating", "paid", "expired", "canceled"])
def test_opportunistic_refresh_is_for_open_invoices_only(order, invoice_for, fake, status):
    """What is settled or over costs no request."""
    assert invoice_refresh.refresh_if_idle(invoice_for(order, status)) is False
    assert fake.requests == []


def test_refresh_for_a_delivery_keeps_to_one_request_a_second(order, invoice, fake, clock):
    """A look whose answer lacks the payment does not send a second request at once."""
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
def test_refresh_inside_a_transaction_is_refused(invoice, fake, call):
    """A lock held while Bitsby answers would stop the shop: nothing is sent, it raises."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]

    with transaction.atomic(), pytest.raises(RuntimeError):
        call(invoice)

    assert fake.requests == []
    assert not Transaction.objects.exists()


def test_opportunistic_refresh_never_waits(invoice, fake, clock):
    """An opportunistic refresh sends its request only in a free slot."""
    fake.invoices = [bitsby.invoice_item(invoice)]

    assert invoice_refresh.refresh_if_idle(invoice) is True
    assert (len(fake.requests), clock.slept) == (1, 0)


def test_opportunistic_refresh_times_out_after_three_seconds(invoice, fake, responses):
    """A page that can do without the answer does not wait for it as long as others."""
    invoice_refresh.refresh_if_idle(invoice)

    assert [call.request.req_kwargs["timeout"] for call in responses.calls] == [3]


@pytest.mark.parametrize(
    "look", [invoice_refresh.refresh_if_idle, invoice_refresh.refresh_for_delivery]
)
def test_refresh_without_a_slot_does_not_delay_the_next_refresh(invoice_for, place, fake, look):
    """The right to ask is given back unused, to this invoice alone, as it was before."""
    now = timezone.now()
    before = now - dt.timedelta(minutes=1)
    invoice, other = (
        invoice_for(place(), last_refreshed_at=before),
        invoice_for(place(), last_refreshed_at=now),
    )
    factory.without_waiting()

    assert look(invoice) is False
    assert (last_refreshed_at(invoice), last_refreshed_at(other)) == (before, now)
    assert fake.requests == []


@pytest.mark.parametrize(
    "look", [invoice_refresh.refresh_if_idle, invoice_refresh.refresh_for_delivery]
)
def test_refresh_without_a_slot_keeps_a_concurrent_claim(
    invoice_for, place, fake, look, monkeypatch, move_time
):
    """Who finds no slot does not give back what another process has claimed since."""
    invoice = invoice_for(place(), last_refreshed_at=EPOCH)
    real, later = factory.without_waiting, timezone.now() + dt.timedelta(seconds=30)
    real()

    def overtaken(**options):
        BitsbyInvoice.objects.filter(pk=invoice.pk).update(last_refreshed_at=later)
        return real(**options)

    monkeypatch.setattr(factory, "without_waiting", overtaken)

    assert look(invoice) is False
    assert last_refreshed_at(invoice) == later


@pytest.mark.parametrize(
    "look", [invoice_refresh.refresh_if_idle, invoice_refresh.refresh_for_delivery]
)
def test_refresh_without_a_slot_leaves_other_invoices_alone(
    invoice_for, place, fake, look, monkeypatch
):
    """Concurrent refreshes of two invoices keep each other's claims."""
    now = timezone.now()
    monkeypatch.setattr("django.utils.timezone.now", lambda: now)
    invoice, other = invoice_for(place()), invoice_for(place(), last_refreshed_at=now)
    factory.without_waiting()

    assert look(invoice) is False
    assert (last_refreshed_at(invoice), last_refreshed_at(other)) == (EPOCH, now)


@pytest.mark.parametrize("seconds", [9.999, 10])
def test_invoice_can_be_refreshed_again_after_ten_seconds(invoice, fake, clock, stop_time, seconds):
    """The next refresh is allowed ten seconds after the last one, not earlier."""
    fake.invoices = [bitsby.invoice_item(invoice)]
    now = timezone.now()
    BitsbyInvoice.objects.update(last_refreshed_at=now - dt.timedelta(seconds=seconds))
    stop_time(now)
    assert invoice_refresh.refresh_if_idle(invoice) is (seconds == 10)


def test_opportunistic_refresh_without_settings_changes_nothing(invoice, fake, settings):
    """A page works without a message when the settings are invalid."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "API_KEY": ""}

    assert invoice_refresh.refresh_if_idle(invoice) is False
    assert fake.requests == []


def test_failed_opportunistic_refresh_is_logged_with_its_reason(invoice, fake, caplog):
    """The log names the invoice and the reason, and does not call it an error."""
    fake.on("/invoices/list", bitsby.error("no"))
    with caplog.at_level(logging.INFO, "oscar_bitsby"):
        assert invoice_refresh.refresh_if_idle(invoice) is False

    assert caplog.messages == [f"invoice {invoice.bitsby_id} not refreshed: /invoices/list: no"]


def test_unexpected_error_in_opportunistic_refresh_does_not_break_the_page(
    invoice, fake, caplog, monkeypatch
):
    """Whatever is wrong, the page goes on, and the log has the traceback and the invoice."""
    fake.invoices = [bitsby.invoice_item(invoice)]

    def fail(*args, **options):
        raise ZeroDivisionError

    monkeypatch.setattr("oscar_bitsby.settlement.service.settle", fail)

    assert invoice_refresh.refresh_if_idle(invoice) is False

    (record,) = caplog.records
    assert record.getMessage() == f"invoice {invoice.bitsby_id} not refreshed"
    assert record.exc_info[0] is ZeroDivisionError


# Deliveries


def test_delivery_flags_only_its_own_invoice(invoice_for, place, fake):
    """A delivery that cannot be looked into is noted once, at its first time, and nowhere else."""
    first = timezone.now() - dt.timedelta(minutes=5)
    noted = invoice_for(place(), webhook_pending_since=first)
    fresh, other = invoice_for(place()), invoice_for(place())
    factory.without_waiting()
    for invoice in (noted, fresh):
        assert invoice_refresh.refresh_for_delivery(invoice) is False

    hints = dict(BitsbyInvoice.objects.values_list("pk", "webhook_pending_since"))
    assert hints[noted.pk] == first
    assert hints[fresh.pk] is not None
    assert hints[other.pk] is None


def test_second_delivery_within_ten_seconds_sends_no_request(invoice, fake):
    """The second look of a moment is none, and says so."""
    fake.invoices = [bitsby.invoice_item(invoice)]

    looks = [invoice_refresh.refresh_for_delivery(invoice) for _ in range(2)]

    assert looks == [True, False]
    assert len(fake.requests) == 1


def test_single_delivery_requests_its_invoice(invoice_for, place, fake):
    """Other invoices for which no delivery came are no reason to read the list of payments."""
    invoice, _ = invoice_for(place()), invoice_for(place())

    assert invoice_refresh.refresh_for_delivery(invoice) is True

    (question,) = fake.requests
    assert (question[0], question[1]["invoiceId"]) == ("/invoices/list", str(invoice.bitsby_id))


def test_delivery_syncs_all_flagged_invoices(invoice_for, place, fake):
    """The payments of the last day are asked for, and all that wait count as looked at now."""
    now = timezone.now()
    waiting = invoice_for(place(), webhook_pending_since=now)
    invoice, other = invoice_for(place()), invoice_for(place())

    assert invoice_refresh.refresh_for_delivery(invoice) is True

    (question,) = fake.requests
    # Two days more on both sides, since neither zone nor ends of these dates are known.
    days = (question[1]["startDate"], question[1]["endDate"])
    assert question[0] == "/payments/list"
    assert days == tuple((now + dt.timedelta(days=by)).date().isoformat() for by in (-3, 2))
    assert last_refreshed_at(waiting) >= now
    assert last_refreshed_at(invoice) >= now
    assert last_refreshed_at(other) == EPOCH


def test_worker_refreshes_only_the_invoice_of_its_delivery(invoice_for, place, fake):
    """When somebody has dealt with it already, another delivery that waits is not its business."""
    done, _waiting = (
        invoice_for(place()),
        invoice_for(place(), webhook_pending_since=timezone.now()),
    )

    assert invoice_refresh.refresh_flagged(done) is False

    assert fake.requests == []
