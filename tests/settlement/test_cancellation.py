"""Cancelling orders that are not paid."""

import datetime as dt
import logging
from decimal import Decimal

import pytest
from django.db import transaction
from django.utils import timezone
from oscar.apps.order.signals import order_status_changed

from oscar_bitsby.choices import InvoiceStatus, MailCode, Resolution, ReviewReason
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BuyerMail
from oscar_bitsby.settlement import cancellation
from oscar_bitsby.staff import review
from tests.support import bitsby
from tests.support.settling import pay_by_card, reload, status_of
from tests.support.unbound import receive

pytestmark = pytest.mark.django_db


def test_unpaid_order_is_cancelled_and_stock_released(order, expired, cancel, product, caplog):
    """Status, history, note, log, e-mail and stock show that the order is cancelled."""
    stock = product.stockrecords.get()
    assert stock.num_allocated == 1

    with caplog.at_level(logging.INFO, "oscar_bitsby"):
        assert cancel(order)

    stock.refresh_from_db()
    assert (status_of(order), stock.num_allocated) == ("Cancelled", 0)
    assert order.status_changes.get().new_status == "Cancelled"
    note = "Cancelled: Bitsby reports that none of its invoices is paid or can still be."
    assert order.notes.get().message == note
    assert caplog.messages == [f"order cancelled: order={order.number} invoice={expired.bitsby_id}"]
    assert BuyerMail.objects.get(code=MailCode.CANCELLED).order == order
    assert not BitsbyInvoice.objects.filter(order_awaits_payment=True).exists()


def test_cancelling_twice_releases_stock_once(order, expired, cancel, place, product):
    """The second call finds the order cancelled, and releases no stock of other orders."""
    place()
    assert cancel(order)
    assert not cancel(order)

    assert product.stockrecords.get().num_allocated == 1


@pytest.mark.parametrize("status", ["unpaid", "paid", "confirming", ""])
def test_order_whose_invoice_can_be_paid_is_not_cancelled(order, expired, cancel, status):
    """Only ``expired`` and ``canceled`` mean that an invoice cannot be paid."""
    assert not cancel(order, status)
    assert status_of(order) == "Pending"


def test_order_whose_invoice_is_unknown_to_bitsby_is_not_cancelled(order, expired):
    """An invoice that is missing in the answer may be paid."""
    assert not cancellation.cancel_unpaid_order(order.pk, {})
    assert status_of(order) == "Pending"


def test_every_invoice_of_the_order_must_be_expired_or_canceled(
    order, expired, invoice_for, cancel
):
    """One invoice that is missing in the answer prevents cancelling."""
    other = invoice_for(order, InvoiceStatus.CANCELED, ended_at=expired.ended_at)
    remote_invoices = {
        expired.bitsby_id: parsing.parse_invoice(bitsby.invoice_item(expired, "expired"))
    }
    assert not cancellation.cancel_unpaid_order(order.pk, remote_invoices)

    remote_invoices[other.bitsby_id] = parsing.parse_invoice(bitsby.invoice_item(other, "canceled"))
    assert cancellation.cancel_unpaid_order(order.pk, remote_invoices)


@pytest.mark.parametrize(
    "status", [InvoiceStatus.UNPAID, InvoiceStatus.CREATING, InvoiceStatus.PAID]
)
def test_order_with_another_live_or_paid_invoice_is_not_cancelled(
    order, expired, invoice_for, cancel, status
):
    """A live or paid invoice of ours prevents cancelling, even if it is expired at Bitsby."""
    invoice_for(order, status)

    assert not cancel(order)


@pytest.mark.parametrize("status", ["Being processed", "Complete", "Cancelled"])
def test_order_in_another_status_is_not_changed(place, invoice_for, cancel, product, status):
    """A status that staff set stays, and the order's stock is not released."""
    order = place(status=status)
    long_ago = timezone.now() - dt.timedelta(days=1)
    invoice = invoice_for(order, InvoiceStatus.EXPIRED, ended_at=long_ago)

    assert not cancel(order, dry_run=True)
    assert reload(invoice).order_awaits_payment
    assert not cancel(order)
    assert not reload(invoice).order_awaits_payment
    assert status_of(order) == status
    assert product.stockrecords.get().num_allocated == 1


@pytest.mark.parametrize("refunded", [0, 4])
def test_order_paid_by_another_source_is_not_cancelled(order, expired, cancel, refunded):
    """Money of another source prevents cancelling unless all of it was refunded."""
    pay_by_card(order, refunded)

    assert not cancel(order, dry_run=True)
    assert reload(expired).order_awaits_payment
    assert not cancel(order)
    assert not reload(expired).order_awaits_payment
    assert status_of(order) == "Pending"


def test_partly_paid_order_is_not_cancelled(order, expired, cancel):
    """Any booked money prevents cancelling."""
    order.sources.update(amount_debited=Decimal("0.01"))

    assert not cancel(order)


def test_order_is_cancelled_at_its_deadline_and_not_before(order, invoice_for, cancel, stop_time):
    """``CANCEL_AFTER`` counts from the end of the last invoice, to the moment."""
    now = timezone.now()
    invoice_for(order, InvoiceStatus.EXPIRED, ended_at=now - dt.timedelta(hours=9))
    invoice = invoice_for(order, InvoiceStatus.EXPIRED, ended_at=now)

    stop_time(now + dt.timedelta(hours=1) - dt.timedelta(microseconds=1))
    assert not cancel(order)
    assert reload(invoice).order_awaits_payment
    stop_time(now + dt.timedelta(hours=1))
    assert cancel(order)


def test_order_without_an_invoice_is_cancelled_at_the_end_of_its_hold(
    order, cancel, stop_time, caplog
):
    """Without an invoice only ``HOLD_ORDER_FOR`` counts, and the note claims no answer."""
    stop_time(order.date_placed + dt.timedelta(hours=24) - dt.timedelta(microseconds=1))
    assert not cancel(order)
    stop_time(order.date_placed + dt.timedelta(hours=24))
    with caplog.at_level(logging.INFO, "oscar_bitsby"):
        assert cancel(order)

    assert f"order cancelled: order={order.number} invoice=None" in caplog.messages
    note = "Cancelled: it was not paid in time. It never had an invoice at Bitsby."
    assert order.notes.get().message == note


def test_newest_invoice_of_a_cancelled_order_is_logged(order, expired, invoice_for, cancel, caplog):
    """Of several invoices the log names the newest one."""
    newest = invoice_for(order, InvoiceStatus.CANCELED, ended_at=expired.ended_at)
    with caplog.at_level(logging.INFO, "oscar_bitsby"):
        assert cancel(order)

    assert caplog.messages == [f"order cancelled: order={order.number} invoice={newest.bitsby_id}"]


def test_cancelling_does_not_affect_other_orders(order, expired, cancel, place, invoice_for):
    """The invoices of other orders still await payment."""
    other = invoice_for(place(), InvoiceStatus.EXPIRED, ended_at=expired.ended_at)
    assert cancel(order)

    assert reload(other).order_awaits_payment


@pytest.mark.parametrize(("booked", "is_cancelled"), [(False, False), (True, True)])
def test_unbooked_payment_under_review_prevents_cancelling(
    order, expired, cancel, booked, is_cancelled
):
    """A payment that waits for a decision keeps the order, which still awaits payment."""
    BitsbyPayment.objects.create(
        bitsby_id=bitsby.new_id(),
        invoice=expired,
        amount=1,
        review_reason=ReviewReason.NOT_PAID,
        booked_at=timezone.now() if booked else None,
    )

    assert cancel(order) is is_cancelled
    assert reload(expired).order_awaits_payment is not is_cancelled


@pytest.mark.parametrize(
    ("project", "is_cancelled"), [("mine", True), (None, True), (str(bitsby.new_id()), False)]
)
def test_answer_about_another_project_does_not_cancel(order, expired, project, is_cancelled):
    """A remote invoice of another project says nothing about ours; one without a project does."""
    project = expired.project_id if project == "mine" else project
    item = bitsby.invoice_item(expired, "expired", projectId=project)
    remote_invoices = {expired.bitsby_id: parsing.parse_invoice(item)}

    assert cancellation.cancel_unpaid_order(order.pk, remote_invoices) is is_cancelled


@pytest.mark.parametrize(
    ("resolution", "has_money", "is_cancelled"),
    [
        (Resolution.DISMISSED, False, True),
        (Resolution.DISMISSED, True, False),
        (Resolution.REFUNDED, False, True),
        (Resolution.ACCEPTED, False, False),
        ("", False, False),
    ],
)
def test_remote_invoice_is_paid_unless_its_payment_was_dismissed(
    order, expired, cancel, resolution, has_money, is_cancelled
):
    """An invoice that is paid at Bitsby keeps its order, except by money that staff refunded."""
    now = timezone.now()
    if has_money:
        order.sources.get().debit(Decimal(1), reference="x")
    BitsbyPayment.objects.create(
        bitsby_id=bitsby.new_id(),
        invoice=expired,
        amount=1,
        review_reason=ReviewReason.NOT_PAID if resolution else "",
        resolution=resolution,
        resolved_at=now if resolution else None,
        booked_at=now if has_money else None,
    )

    assert cancel(order, "paid") is is_cancelled


def test_cancel_after_zero_cancels_at_once(order, invoice_for, cancel, settings):
    """``timedelta(0)`` cancels as soon as the last invoice has expired."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "CANCEL_AFTER": dt.timedelta(0)}
    invoice_for(order, InvoiceStatus.EXPIRED, ended_at=timezone.now())

    assert cancel(order)


def test_cancel_after_none_cancels_at_the_end_of_the_hold(
    order, expired, cancel, settings, move_time
):
    """With ``CANCEL_AFTER`` None the order is kept for ``HOLD_ORDER_FOR``, and no longer."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "CANCEL_AFTER": None}
    move_time(hours=23, minutes=59)
    assert not cancel(order)
    move_time(minutes=1)

    assert cancel(order)


def test_without_cancel_after_and_hold_no_order_is_cancelled(
    order, expired, cancel, settings, move_time
):
    """With ``None`` for both only staff cancel orders."""
    no_end = {"CANCEL_AFTER": None, "HOLD_ORDER_FOR": None}
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, **no_end}
    move_time(days=300)

    assert not cancel(order)
    assert status_of(order) == "Pending"


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        ("/invoices/create: You have a debt of 100%", "You have a debt of 100%"),
        ("no answer came", "no answer came"),
        ("", "no answer came"),
    ],
)
def test_note_names_the_failure_of_the_last_attempt(
    order, invoice_for, cancel, move_time, failure, says
):
    """Of an order that never got an invoice the note says why, and not what Bitsby never said."""
    for text in ("an earlier failure", failure):
        invoice_for(
            order,
            InvoiceStatus.EXPIRED,
            bitsby_id=None,
            uid="",
            ended_at=timezone.now(),
            failure=text,
        )
    move_time(hours=23)
    assert not cancel(order)
    move_time(hours=1)

    assert cancel(order)
    note = order.notes.get().message
    assert "No invoice could be created for it at Bitsby." in note
    assert "The last attempt failed: " in note
    assert note.endswith(says)
    assert "reports" not in note


def test_attempt_without_an_answer_does_not_prevent_cancelling(order, expired, invoice_for, cancel):
    """No buyer has seen the invoice of an attempt without an answer, so it cannot be paid."""
    invoice_for(
        order,
        InvoiceStatus.EXPIRED,
        bitsby_id=None,
        uid="",
        ended_at=timezone.now() - dt.timedelta(hours=2),
    )

    assert cancel(order)
    assert "Bitsby reports" in order.notes.get().message


def test_pipeline_that_forbids_cancelling_keeps_order_and_stock(
    order, expired, cancel, settings, product
):
    """If the pipeline does not allow cancelling, nothing is changed."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "ORDER_STATUS_CANCELLED": "Complete"}

    assert not cancel(order)
    assert status_of(order) == "Pending"
    assert product.stockrecords.get().num_allocated == 1
    assert reload(expired).order_awaits_payment
    assert not BuyerMail.objects.exists()


def test_raising_receiver_does_not_prevent_cancelling(order, expired, cancel, raising, product):
    """The order is cancelled and its stock released although ``order_status_changed`` raises."""
    raising(order_status_changed)

    assert cancel(order)
    assert status_of(order) == "Cancelled"
    assert product.stockrecords.get().num_allocated == 0


def test_dry_run_does_not_cancel(order, expired, cancel, product):
    """A dry run returns that the order would be cancelled, and changes nothing."""
    assert cancel(order, dry_run=True)

    assert status_of(order) == "Pending"
    assert product.stockrecords.get().num_allocated == 1
    assert reload(expired).order_awaits_payment
    assert not BuyerMail.objects.exists()


def test_dry_run_does_not_promise_what_is_not_due(order, expired, cancel):
    """A dry run returns False for an order that would not be cancelled."""
    assert cancel(order, "unpaid", dry_run=True) is False


def test_deleted_order_is_not_cancelled(order, expired):
    """An order that is deleted after the API request raises no error."""
    pk = order.pk
    order.delete()

    assert cancellation.cancel_unpaid_order(pk, {}) is False


def test_dismissed_payment_no_longer_prevents_cancelling(
    order, expired, settle, cancel, staff_user
):
    """After staff have dismissed its payment, the unpaid order can be cancelled."""
    settle(expired, "expired", payment=bitsby.transfer())
    assert not cancel(order)

    assert review.dismiss(BitsbyPayment.objects.get().pk, staff_user, "refunded by hand").done

    assert cancel(order)
    assert status_of(order) == "Cancelled"


@pytest.mark.django_db(transaction=True)
def test_cancelling_inside_a_transaction_is_refused(order, expired):
    """An outer transaction could roll back cancelling, so it raises and changes nothing."""
    with transaction.atomic(), pytest.raises(RuntimeError):
        cancellation.cancel_unpaid_order(order.pk, {})

    assert status_of(order) == "Pending"


# An unbound payment that may be for the order


@pytest.fixture
def overdue(offer):
    """An invoice of 14 dollars whose order is due to cancel."""
    now = timezone.now()
    end = now - dt.timedelta(hours=1)
    return offer("14.00", created_at=end - dt.timedelta(hours=1), expires_at=end, ended_at=end)


def receive_in_time(invoice, amount):
    """Store an unbound payment that was made while an invoice could be paid."""
    return receive(amount, transaction_at=invoice.expires_at)


def test_likely_payment_keeps_its_order(overdue, cancel, move_time, product):
    """An order of 14 dollars for which 10 have arrived is kept until staff decide."""
    receive_in_time(overdue, "10.00")

    assert not cancel(overdue.order, dry_run=True)
    assert not cancel(overdue.order)
    assert (status_of(overdue.order), product.stockrecords.get().num_allocated) == ("Pending", 1)
    # The next run checks it again.
    assert reload(overdue).order_awaits_payment


def test_order_is_cancelled_after_its_likely_payment_was_dismissed(overdue, cancel, staff_user):
    """Dismissing is the decision that the payment is not for this order."""
    payment = receive_in_time(overdue, "10.00")
    assert not cancel(overdue.order)
    assert review.dismiss(payment.pk, staff_user, "another shop's").done

    assert cancel(overdue.order)


@pytest.mark.parametrize("amount", ["6.99", "21.01"])
def test_payment_that_is_not_likely_keeps_no_order(overdue, cancel, amount):
    """Less than half or more than half as much again is hardly meant for it."""
    receive_in_time(overdue, amount)

    assert cancel(overdue.order)


def test_payment_that_fits_another_order_better_keeps_only_that_one(overdue, offer, cancel):
    """Of two orders that it may be for, the best match is kept."""
    times = {name: getattr(overdue, name) for name in ("created_at", "expires_at", "ended_at")}
    nearer = offer("11.00", **times)
    receive_in_time(overdue, "10.00")

    assert cancel(overdue.order)
    assert not cancel(nearer.order)


def test_undecided_payment_keeps_its_order_for_a_day_after_the_hold(
    overdue, cancel, stop_time, caplog
):
    """Then the note, the mail and the log tell what is known."""
    receive_in_time(overdue, "10.00")
    end = overdue.order.date_placed + dt.timedelta(hours=24 + 24)

    stop_time(end - dt.timedelta(microseconds=1))
    assert not cancel(overdue.order)
    stop_time(end)
    assert cancel(overdue.order)

    note = overdue.order.notes.get().message
    assert "A payment of another amount has been seen" in note
    assert "10 USDT" in note
    assert BuyerMail.objects.get(code=MailCode.CANCELLED).order == overdue.order


def test_without_a_hold_a_likely_payment_keeps_its_order_until_staff_decide(
    overdue, cancel, configure, move_time
):
    """With ``HOLD_ORDER_FOR`` None there is no end."""
    configure(HOLD_ORDER_FOR=None)
    receive_in_time(overdue, "10.00")
    move_time(days=300)

    assert not cancel(overdue.order)
