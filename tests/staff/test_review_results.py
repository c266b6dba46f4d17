"""What each decision by staff answers, stores, logs and sends, called without its page."""

from decimal import Decimal

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.utils import translation
from oscar.apps.order.exceptions import InvalidOrderStatus
from oscar.core.loading import get_model

from oscar_bitsby.choices import InvoiceStatus, MailCode
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BuyerMail
from oscar_bitsby.orders import transitions
from oscar_bitsby.staff import decision, review
from oscar_bitsby.staff.decision import ActionResult
from tests.support.staff import admin_log_of, bookings_of, receive_payment, resolved, status_of

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db

FORBIDDEN = "Change its status by hand, then dismiss the payment."


@pytest.fixture
def user(staff):
    """The member of staff who decides."""
    return staff.user


def mails(order):
    """Return how many e-mails about a received payment wait for an order."""
    return BuyerMail.objects.filter(order=order, code=MailCode.PAID).count()


def notes(order):
    """Return the texts of an order's notes."""
    return [note.message for note in order.notes.order_by("pk")]


def test_accept_books_logs_and_enqueues_an_email(mismatch, user, caplog):
    """Accepting answers with the booked value and clears what held the order back."""
    order, invoice = mismatch.invoice.order, mismatch.invoice
    BitsbyInvoice.objects.update(status=InvoiceStatus.EXPIRED, order_awaits_payment=True)
    before = mails(order)
    caplog.set_level("INFO", "oscar_bitsby")

    result = review.accept(mismatch.pk, user, " fine ")

    assert result == ActionResult(True, f"Accepted: 8.00 USD booked for order {order.number}.")
    assert resolved(mismatch) == ("accepted", "staff")
    assert mismatch.resolution_note == "fine"
    assert admin_log_of(user) == [f"Bitsby: {mismatch}: accepted as it is: fine"]
    assert notes(order)[-1] == f"Payment {mismatch} accepted by staff."
    assert mails(order) == before + 1
    invoice.refresh_from_db()
    assert (invoice.status, invoice.order_awaits_payment) == (InvoiceStatus.PAID, False)
    (line,) = [line for line in caplog.messages if line.startswith("payment accepted")]
    assert line == (
        f"payment accepted: order={order.number} invoice={invoice.bitsby_id}"
        f" payment={mismatch.bitsby_id} user={user.pk}"
    )


VALUE_MISSING = "Enter the value of the payment: no exchange rate was locked for it."
ORDER_MISSING = "This payment does not belong to an order yet. Bind it to one first."
NOT_BOOKED = "Only a booked payment can reinstate its order."
NOT_CANCELLED = "The order is not cancelled. Accept the payment instead."
REASON_MISSING = "Enter a reason: others may need it later."


@pytest.mark.parametrize(
    ("decide", "name", "arguments", "message"),
    [
        (review.accept, "no_value", ["x"], VALUE_MISSING),
        (review.accept, "unmatched", ["x", Decimal(8)], ORDER_MISSING),
        (review.reinstate, "unmatched", ["x"], NOT_BOOKED),
        (review.reinstate, "mismatch", ["x"], NOT_BOOKED),
        (review.reinstate, "short", ["x"], NOT_CANCELLED),
        (review.dismiss, "short", [" "], REASON_MISSING),
    ],
)
def test_refused_decision_changes_nothing(request, user, decide, name, arguments, message):
    """A decision that lacks something is refused with the reason."""
    payment = request.getfixturevalue(name)

    assert decide(payment.pk, user, *arguments) == ActionResult(False, message)

    assert resolved(payment) == ("", None)
    assert admin_log_of(user) == []


def test_accept_books_an_entered_value(no_value, user):
    """A value that staff enter is booked."""
    assert review.accept(no_value.pk, user, "x", Decimal("9.50")).done is True

    assert bookings_of(no_value.invoice.order) == [(str(no_value.bitsby_id), "9.50")]


@pytest.mark.parametrize("is_bound", [False, True])
def test_accept_needs_an_order(fake, invoice, mismatch, user, is_bound):
    """A payment that is not bound, or whose order was deleted, is not accepted."""
    payment = mismatch if is_bound else receive_payment(fake, amount="1.00000000")
    Order.objects.all().delete()

    assert review.accept(payment.pk, user, "x", Decimal(8)) == ActionResult(
        False, "This payment does not belong to an order yet. Bind it to one first."
    )


def test_accept_leaves_the_payment_to_review_when_the_order_cannot_become_paid(
    mismatch, user, configure, caplog
):
    """The payment is booked, and its review reason becomes the order's status."""
    configure(ORDER_STATUS_PAID="Complete")
    order = mismatch.invoice.order

    result = review.accept(mismatch.pk, user, "x")

    assert result == ActionResult(
        False,
        "The payment is booked, but the shop's status pipeline does not allow order"
        f" {order.number} to become paid. {FORBIDDEN}",
    )
    assert resolved(mismatch) == ("", None)
    assert (mismatch.review_reason, status_of(order)) == ("status", "Pending")
    assert f"reason=status order={order.number} " in caplog.messages[-1]
    assert len(bookings_of(order)) == 1


def test_reinstate_answers_logs_and_enqueues_an_email(late, user):
    """Reinstating answers with the order's number, adds a note and enqueues an e-mail."""
    order = late.invoice.order
    before = mails(order)

    result = review.reinstate(late.pk, user, "shipped")

    assert result == ActionResult(
        True, f"Order {order.number} is reinstated: it is paid, and its stock is reserved."
    )
    assert admin_log_of(user) == [f"Bitsby: {late}: order reinstated: shipped"]
    assert LogEntry.objects.get(user=user).get_edited_object() == order
    assert f"Reinstated by payment {late}." in notes(order)
    assert mails(order) == before + 1


@pytest.mark.usefixtures("forbid_reopening")
def test_refused_reinstatement_writes_nothing(late, user):
    """No note is added, no e-mail is enqueued and nothing is logged."""
    order = late.invoice.order
    before = (mails(order), notes(order))

    result = review.reinstate(late.pk, user, "shipped")

    assert result == ActionResult(
        False,
        "The order cannot be reinstated: the shop's status pipeline does not allow “Cancelled” to"
        ' become “Being processed”. Add "Cancelled": ("Being processed",) to'
        " OSCAR_ORDER_STATUS_PIPELINE, or refund the payment.",
    )
    assert resolved(late) == ("", None)
    assert (mails(order), notes(order)) == before
    assert admin_log_of(user) == []


def test_refusal_by_the_shops_own_handler_is_an_error(late, user, monkeypatch):
    """Where the pipeline allows it and the shop's code does not, nothing is written either."""

    def refuse(*args, **kwargs):
        raise InvalidOrderStatus("not today")

    monkeypatch.setattr(transitions.EventHandler, "handle_order_status_change", refuse)

    assert review.reinstate(late.pk, user, "x") == ActionResult(
        False, "The order cannot be reinstated: the shop's own code did not allow its status."
    )
    assert resolved(late) == ("", None)


def test_dismissing_an_unbooked_payment_lets_its_order_go_on(mismatch, user):
    """An invoice that was called paid by it is cancelled, and its order waits for payment."""
    order = mismatch.invoice.order
    BitsbyInvoice.objects.filter(pk=mismatch.invoice.pk).update(
        status=InvoiceStatus.PAID, ended_at=None, order_awaits_payment=False, failure=""
    )

    result = review.dismiss(mismatch.pk, user, "refunded")

    assert result == ActionResult(
        True,
        f"Dismissed. You can undo this under “Resolved”. Order {order.number} is still unpaid. Its"
        " buyer can pay again, or it is cancelled automatically.",
    )
    invoice = BitsbyInvoice.objects.get(pk=mismatch.invoice.pk)
    assert invoice.status == InvoiceStatus.CANCELED
    assert invoice.ended_at is not None
    assert (invoice.order_awaits_payment, invoice.failure) == (True, review.DISMISSED)
    assert review.DISMISSED == "its payment was dismissed by staff"
    (entry,) = LogEntry.objects.filter(user=user)
    assert entry.get_edited_object() == order


def test_dismissing_leaves_an_unpaid_invoice_open(mismatch, user):
    """Only an invoice that was called paid is cancelled."""
    BitsbyInvoice.objects.filter(pk=mismatch.invoice.pk).update(status=InvoiceStatus.UNPAID)

    assert "is still unpaid" in review.dismiss(mismatch.pk, user, "refunded").message

    invoice = BitsbyInvoice.objects.get(pk=mismatch.invoice.pk)
    assert (invoice.status, invoice.failure) == (InvoiceStatus.UNPAID, mismatch.invoice.failure)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("short", "Being processed"),
        ("unmatched", "Pending"),
        ("mismatch", "Being processed"),
        ("mismatch", None),
    ],
    ids=["booked", "no order", "not pending", "deleted order"],
)
def test_dismissing_changes_no_invoice_of_an_order_that_does_not_wait(request, name, status, user):
    """A booked payment, one without an order and one of a paid order change no invoices."""
    payment = request.getfixturevalue(name)
    if status is None:
        Order.objects.all().delete()
    else:
        Order.objects.update(status=status)
    before = list(BitsbyInvoice.objects.values())

    result = review.dismiss(payment.pk, user, "refunded")

    assert result == ActionResult(True, "Dismissed. You can undo this under “Resolved”.")
    assert list(BitsbyInvoice.objects.values()) == before


def test_undo_puts_the_payment_back(short, user):
    """Undoing clears the decision and is logged on the order."""
    review.dismiss(short.pk, user, "x")

    result = review.undo(short.pk, user)

    assert result == ActionResult(True, "The payment is in Payments to review again.")
    short.refresh_from_db()
    assert (short.resolved_at, short.resolution) == (None, "")
    assert admin_log_of(user)[-1] == f"Bitsby: {short}: Dismissal undone"
    last = LogEntry.objects.filter(user=user).order_by("pk").last()
    assert last.get_edited_object() == short.invoice.order
    assert review.undo(short.pk, user) == ActionResult(
        False, "Only a dismissal can be undone, and this payment is not dismissed."
    )


@pytest.mark.parametrize("remover", ["", "deleted"])
def test_second_decision_names_the_first(short, user, colleague, remover):
    """The message has the decision and its author, also when that user was deleted."""
    review.accept(short.pk, colleague.user, "x")
    if remover:
        colleague.user.delete()

    by = "a former user" if remover else "colleague"
    for decide in (review.accept, review.reinstate, review.dismiss):
        assert decide(short.pk, user, "y") == ActionResult(
            False, f"Already resolved: accepted as it is, by {by}."
        )


def test_matched_payment_was_resolved_by_the_app(fake, invoice, user):
    """A payment that never needed a decision is called settled by the app."""
    payment = receive_payment(fake, invoice, "10.00000000")

    for decide in (review.accept, review.reinstate, review.dismiss):
        assert decide(payment.pk, user, "y") == ActionResult(
            False, "Already resolved: settled, by the app."
        )
    with translation.override("de"):
        assert "abgeschlossen" in review.accept(payment.pk, user, "y").message


REFUNDING = "A refund of this payment is open. First send its coins or cancel it."


@pytest.mark.parametrize("decide", [review.accept, review.ask, review.reinstate, review.dismiss])
def test_payment_with_an_open_refund_is_not_decided_about(short, user, decide):
    """What is being sent back is neither kept nor forgotten; a cancelled refund is no obstacle."""
    refund = short.refunds.create(cryptocurrency="usdt", blockchain="tron", coin_amount=8)

    assert decide(short.pk, user, "x") == ActionResult(False, REFUNDING)

    assert resolved(short) == ("", None)
    refund.state = "cancelled"
    refund.save()
    assert decide(short.pk, user, "x") != ActionResult(False, REFUNDING)


def test_refunded_payment_is_not_booked_afterwards(mismatch, user):
    """A payment that was sent back before it was booked cannot be accepted."""
    mismatch.refunds.create(
        cryptocurrency="usdt", blockchain="tron", coin_amount=8, state="sent", transaction_hash="ab"
    )

    assert review.accept(mismatch.pk, user, "x") == ActionResult(
        False, "The payment was refunded, so it cannot be booked. Dismiss it."
    )
    assert bookings_of(mismatch.invoice.order) == []


def test_log_entry_without_an_order_is_on_the_payment(unmatched, user):
    """Without an order the entry belongs to the payment, and its name fits the column."""
    unmatched.cryptocurrency = "x" * 300

    entry = decision.log_admin_entry(user, None, unmatched, "why")

    assert entry.content_type == ContentType.objects.get_for_model(unmatched)
    assert (entry.object_id, entry.user, entry.action_flag) == (str(unmatched.pk), user, CHANGE)
    assert entry.object_repr == str(unmatched)[:200]
    assert entry.change_message == f"Bitsby: {unmatched}: why"


def test_payment_that_was_bound_to_another_invoice_meanwhile_is_not_decided_on(
    mismatch, invoice_for, place, user, monkeypatch
):
    """A decision about a payment whose invoice changed before it was locked is refused."""
    lock, other = decision.lock_order_and_invoice, invoice_for(place())

    def bind_and_lock(*keys):
        BitsbyPayment.objects.update(invoice=other)
        return lock(*keys)

    monkeypatch.setattr(decision, "lock_order_and_invoice", bind_and_lock)

    message = r"^This payment has just changed\. Check it again\.$"
    with pytest.raises(decision.ChangedMeanwhile, match=message):
        review.accept(mismatch.pk, user, "x")
