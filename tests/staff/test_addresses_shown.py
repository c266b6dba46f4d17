"""Cancelling an invoice whose addresses the shop's own page may have shown.

Bitsby would cancel it, since its own page was not opened.
"""

import pytest

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.reconciliation import invoice_refresh
from oscar_bitsby.staff.binding import cancel_invoice
from tests.support import bitsby
from tests.support.concurrency import failures, run_together
from tests.support.staff import CANCEL, form_actions, invoice_url, message_after, order_tab


@pytest.fixture
def remote(fake, invoice):
    """The invoice at Bitsby, where nobody has opened its page."""
    item = bitsby.invoice_item(invoice, views=0)
    fake.invoices.append(item)
    return item


@pytest.mark.django_db
def test_invoice_whose_addresses_were_shown_is_not_cancelled(fake, invoice, remote, staff):
    """Bitsby is not asked, and staff see why."""
    assert BitsbyInvoice.objects.get().show_addresses()

    shown = order_tab(staff, invoice.order)
    assert form_actions(shown, "/cancel/") == []
    assert "the buyer has seen its addresses" in shown.text
    # A form from before the buyer opened the page.
    response = staff.post(invoice_url(invoice, "cancel"))

    assert "the buyer has seen its addresses and may be paying now" in message_after(
        staff, response
    )
    assert fake.asked(CANCEL) == []
    invoice.refresh_from_db()
    assert invoice.status == "unpaid"


@pytest.mark.django_db
def test_no_addresses_are_shown_while_an_invoice_is_being_cancelled(fake, invoice, remote, staff):
    """From before the request until its result is known, the buyer gets no address."""
    shown = []
    row = BitsbyInvoice.objects.get()
    fake.on(CANCEL, lambda fields: shown.append(row.show_addresses()) or bitsby.error("no"))

    cancel_invoice(invoice, staff.user)

    assert shown == [False]


@pytest.mark.django_db
def test_addresses_are_shown_again_after_bitsby_refused_to_cancel(fake, invoice, remote, staff):
    """A refused request has no effect: the buyer can pay."""
    fake.on(CANCEL, bitsby.error("not possible"))

    assert not cancel_invoice(invoice, staff.user).done

    assert BitsbyInvoice.objects.get().show_addresses()


@pytest.mark.django_db
def test_lost_answer_to_cancelling_hides_the_addresses_until_a_later_answer(
    fake, invoice, remote, staff, move_time
):
    """Bitsby may still cancel it: only an answer a minute later says that it did not."""
    fake.on(CANCEL, (502, {}, ""))
    cancel_invoice(invoice, staff.user)
    assert not BitsbyInvoice.objects.get().show_addresses()

    move_time(seconds=30)
    invoice_refresh.refresh(invoice)
    assert not BitsbyInvoice.objects.get().show_addresses()

    move_time(seconds=45)
    invoice_refresh.refresh(invoice)
    assert BitsbyInvoice.objects.get().show_addresses()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", range(6))
def test_page_and_staff_at_the_same_moment_do_not_contradict(fake, invoice, remote, staff, turn):
    """Either the buyer sees the addresses, or the invoice is cancelled."""
    fake.on(CANCEL, lambda fields: remote.update(status="canceled") or bitsby.success("canceled"))
    page, other = BitsbyInvoice.objects.get(), BitsbyInvoice.objects.get()

    results = run_together(page.show_addresses, lambda: cancel_invoice(other, staff.user).done)

    assert failures(results) == []
    is_shown, is_cancelled = results
    assert is_shown is not is_cancelled
    row = BitsbyInvoice.objects.get()
    assert (row.status == InvoiceStatus.CANCELED) is is_cancelled
    assert (row.addresses_shown_at is not None) is is_shown
