"""Single looks in detail: what a glance may cost, what it leaves behind, and what is logged."""

from __future__ import annotations

import datetime as dt
import logging

import pytest
from django.utils import timezone

from oscar_bitsby import gateway, reconciliation
from oscar_bitsby.models import EPOCH, BitsbyInvoice
from tests import bitsby

pytestmark = pytest.mark.django_db


def checked_at(invoice):
    return BitsbyInvoice.objects.get(pk=invoice.pk).checked_at


# Glances


def test_a_glance_that_asks_waits_for_nothing(invoice, fake, clock):
    """The one request of a glance is sent in the slot that was free."""
    fake.invoices = [bitsby.told(invoice)]

    assert reconciliation.glance(invoice) is True
    assert (len(fake.requests), clock.slept) == (1, 0)


def test_a_glance_waits_three_seconds_for_an_answer(invoice, fake, responses):
    """A page that can do without the answer does not wait for it as long as others."""
    reconciliation.glance(invoice)

    assert [call.request.req_kwargs["timeout"] for call in responses.calls] == [3]


@pytest.mark.parametrize("look", [reconciliation.glance, reconciliation.look_into_delivery])
def test_a_look_without_a_slot_takes_nothing_from_the_next(invoice_for, place, fake, look):
    """The right to ask is given back unused, to this invoice alone, as it was before."""
    now = timezone.now()
    before = now - dt.timedelta(minutes=1)
    invoice, other = invoice_for(place(), checked_at=before), invoice_for(place(), checked_at=now)
    gateway.if_free()

    assert look(invoice) is False
    assert (checked_at(invoice), checked_at(other)) == (before, now)
    assert fake.requests == []


@pytest.mark.parametrize("look", [reconciliation.glance, reconciliation.look_into_delivery])
def test_a_right_that_somebody_else_has_taken_meanwhile_stays_theirs(
    invoice_for, place, fake, look, monkeypatch, move_time
):
    """Who finds no slot does not give back what another process has claimed since."""
    invoice = invoice_for(place(), checked_at=EPOCH)
    real, later = gateway.if_free, timezone.now() + dt.timedelta(seconds=30)
    real()

    def overtaken(**options):
        BitsbyInvoice.objects.filter(pk=invoice.pk).update(checked_at=later)
        return real(**options)

    monkeypatch.setattr(gateway, "if_free", overtaken)

    assert look(invoice) is False
    assert checked_at(invoice) == later


@pytest.mark.parametrize("look", [reconciliation.glance, reconciliation.look_into_delivery])
def test_looks_without_a_slot_leave_looks_of_other_invoices_alone(
    invoice_for, place, fake, look, monkeypatch
):
    """Two invoices that are looked at in the same moment do not lose each other's claims."""
    now = timezone.now()
    monkeypatch.setattr("django.utils.timezone.now", lambda: now)
    invoice, other = invoice_for(place()), invoice_for(place(), checked_at=now)
    gateway.if_free()

    assert look(invoice) is False
    assert (checked_at(invoice), checked_at(other)) == (EPOCH, now)


@pytest.mark.parametrize("seconds", [9.999, 10])
def test_an_invoice_may_be_asked_about_again_after_ten_seconds(invoice, fake, clock, seconds):
    """Ten seconds after the last look the next one is due, and not a moment before."""
    fake.invoices = [bitsby.told(invoice)]
    now = timezone.now()
    BitsbyInvoice.objects.update(checked_at=now - dt.timedelta(seconds=seconds))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.utils.timezone.now", lambda: now)
        assert reconciliation.glance(invoice) is (seconds == 10)


def test_a_glance_of_a_shop_without_settings_changes_nothing(invoice, fake, settings):
    """A page goes on without a word when the settings cannot be used."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "API_KEY": ""}

    assert reconciliation.glance(invoice) is False
    assert fake.requests == []


def test_a_glance_in_vain_is_logged_with_its_reason(invoice, fake, caplog):
    """Operators find which invoice was not looked at, and why; it is no error."""
    fake.on("/invoices/list", bitsby.error("no"))
    with caplog.at_level(logging.INFO, "oscar_bitsby"):
        assert reconciliation.glance(invoice) is False

    assert caplog.messages == [f"no look at invoice {invoice.bitsby_id}: /invoices/list: no"]


def test_a_bug_of_ours_does_not_break_the_page_that_looks(invoice, fake, caplog, monkeypatch):
    """Whatever is wrong, the page goes on, and the log has the traceback and the invoice."""
    fake.invoices = [bitsby.told(invoice)]

    def fail(*args, **options):
        raise ZeroDivisionError

    monkeypatch.setattr("oscar_bitsby.settlement.settle", fail)

    assert reconciliation.glance(invoice) is False

    (record,) = caplog.records
    assert record.getMessage() == f"no look at invoice {invoice.bitsby_id}"
    assert record.exc_info[0] is ZeroDivisionError
