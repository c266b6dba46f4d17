"""Decisions by staff about payments to review: accept, reinstate, dismiss, undo."""

from decimal import Decimal
from functools import partial
from unittest.mock import Mock

import pytest
from django.urls import reverse
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation, signals
from oscar_bitsby.choices import InvoiceStatus, MailCode
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.reconciliation import refresh
from tests.support.concurrency import run_together
from tests.support.staff import (
    INBOX,
    MAY_BIND,
    Page,
    act_url,
    admin_log_of,
    bookings_of,
    log_in,
    message_after,
    order_tab,
    payment_card,
    perform,
    receive_payment,
    resolved,
    status_of,
)

Line = get_model("order", "Line")
Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db


def stock_of(product):
    return product.stockrecords.get().net_stock_level


# Accept


def test_accepting_a_short_payment_resolves_it_and_keeps_the_difference(short, staff):
    """A booked short payment is not booked again; the order's tab still shows what is missing."""
    order = short.invoice.order

    text = perform(staff, short, "accept", note="close enough")

    assert f"Accepted: 8.00 USD booked for order {order.number}." in text
    assert bookings_of(order) == [(str(short.bitsby_id), "8.00")]
    assert status_of(order) == "Being processed"
    assert resolved(short) == ("accepted", "staff")
    assert not BitsbyPayment.objects.needs_review().exists()
    (entry,) = admin_log_of(staff.user)
    assert "close enough" in entry
    tab = order_tab(staff, order)
    assert "Asked Received Missing $10.00 $8.00 $2.00" in tab.text


def test_accepting_a_mismatch_books_it_and_pays_the_order(mismatch, staff):
    """A payment that was not booked is booked once at its value, and its order is paid."""
    order = mismatch.invoice.order
    assert (bookings_of(order), status_of(order)) == ([], "Pending")

    text = perform(staff, mismatch, "accept", note="the amount is right")

    assert "Accepted: 8.00 USD" in text
    assert bookings_of(order) == [(str(mismatch.bitsby_id), "8.00")]
    assert order.sources.get().amount_debited == 8
    assert [event.event_type.code for event in order.payment_events.all()] == ["paid"]
    assert status_of(order) == "Being processed"
    assert resolved(mismatch) == ("accepted", "staff")
    mismatch.invoice.refresh_from_db()
    assert mismatch.invoice.status == InvoiceStatus.PAID


def test_accepted_payment_is_not_booked_again_by_a_run(fake, mismatch, staff):
    """A run that sees an accepted payment again changes nothing."""
    perform(staff, mismatch, "accept", note="fine")

    reconciliation.reconcile()
    fake.payments[0]["invoice"]["status"] = "paid"
    refresh(mismatch.invoice)

    assert bookings_of(mismatch.invoice.order) == [(str(mismatch.bitsby_id), "8.00")]
    assert not BitsbyPayment.objects.needs_review().exists()


def test_accepting_sends_invoice_paid(mismatch, staff, django_capture_on_commit_callbacks):
    """``invoice_paid`` is sent for a payment that is booked by accepting it."""
    listen = Mock(spec=[])
    signals.invoice_paid.connect(listen)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            staff.post(act_url(mismatch, "accept"), {"note": "fine"})
    finally:
        signals.invoice_paid.disconnect(listen)

    sent = listen.call_args.kwargs
    assert listen.call_count == 1
    expected = (BitsbyInvoice, mismatch.invoice, mismatch.invoice.order)
    assert (sent["sender"], sent["invoice"], sent["order"]) == expected


def test_unknown_value_must_be_entered_before_accepting(no_value, staff):
    """The form asks for the value; nothing is booked without it."""
    order = no_value.invoice.order
    url = act_url(no_value, "accept")
    page = Page(staff.get(url))
    assert "fiat_value" in page.form_with("note")[0]
    assert "Value in USD" in page.text

    assert "Enter the value of the payment" in message_after(staff, staff.post(url, {"note": "x"}))
    assert bookings_of(order) == []
    assert resolved(no_value) == ("", None)

    text = perform(staff, no_value, "accept", fiat_value=" 9.50 ", note="rate of the day")
    assert "Accepted: 9.50 USD" in text
    assert bookings_of(order) == [(str(no_value.bitsby_id), "9.50")]
    assert status_of(order) == "Being processed"


@pytest.mark.parametrize(
    "fiat_value",
    [
        *("NaN", "sNaN", "-NaN", "nan123", "Infinity", "-Infinity", "1e400", "1e-400"),
        *("-1", "0", "0.00", "0.001", "1000000000", "9" * 40, "9" * 5000),
        *(
            "abc",
            "9.5.0",
            "9 50",
            "1 23 456",
            "0.005",
            "1e1",
            "+7",
            "0x10",
            "--5",
            "\x00",
            "<b>5</b>",
            "$5",
        ),
    ],
)
def test_invalid_value_shows_a_message_and_books_nothing(no_value, staff, fiat_value):
    """NaN, infinities, zero, negative, huge and malformed values show a message."""
    response = staff.post(act_url(no_value, "accept"), {"fiat_value": fiat_value, "note": "x"})

    assert response.status_code == 200
    assert "The value is not a valid amount." in Page(response).text
    assert bookings_of(no_value.invoice.order) == []
    assert resolved(no_value) == ("", None)


@pytest.mark.parametrize(
    ("fiat_value", "cents"), [("7", "7.00"), ("9,5", "9.50"), ("9.05", "9.05")]
)
def test_value_is_booked_to_the_cent(no_value, staff, fiat_value, cents):
    """The booked value has cents, and all rows agree on it."""
    perform(staff, no_value, "accept", fiat_value=fiat_value, note="x")

    order = no_value.invoice.order
    no_value.refresh_from_db()
    assert bookings_of(order) == [(str(no_value.bitsby_id), cents)]
    assert no_value.fiat_value == order.sources.get().amount_debited == Decimal(cents)


def test_two_values_in_one_form_book_once(no_value, staff):
    """Two values in one form lead to one booking of one of them."""
    staff.post(act_url(no_value, "accept"), {"fiat_value": ["3.00", "4.00"], "note": "x"})

    (entry,) = bookings_of(no_value.invoice.order)
    assert entry[1] in ("3.00", "4.00")


@pytest.mark.parametrize("name", ["mismatch", "short"])
def test_known_value_cannot_be_overridden(request, name, staff):
    """A forged value is ignored if the value of the payment is known."""
    payment = request.getfixturevalue(name)
    url = act_url(payment, "accept")
    assert "fiat_value" not in Page(staff.get(url)).form_with("note")[0]

    staff.post(url, {"fiat_value": "999.00", "note": "x"})

    assert bookings_of(payment.invoice.order) == [(str(payment.bitsby_id), "8.00")]
    payment.refresh_from_db()
    assert payment.fiat_value == 8


def test_payment_of_no_order_cannot_be_accepted(unmatched, staff):
    """An unmatched payment must be bound first; the message says so."""
    text = perform(staff, unmatched, "accept", note="x", fiat_value="8")

    assert "Bind it to one first" in text
    assert resolved(unmatched) == ("", None)
    assert BitsbyPayment.objects.needs_review().count() == 1


def test_accepting_never_hides_that_the_order_is_still_unpaid(mismatch, staff, configure):
    """Where the pipeline forbids the paid status, a message says so, or the payment stays listed.

    The payment is booked but its order is not paid, and only staff can resolve that.
    """
    configure(ORDER_STATUS_PAID="Complete")

    text = perform(staff, mismatch, "accept", note="x")

    assert status_of(mismatch.invoice.order) == "Pending"
    assert BitsbyPayment.objects.needs_review().exists() or "status" in text


# Ask for the rest


def test_asking_for_the_rest_lets_the_order_wait_for_it(short, staff, monkeypatch):
    """The order is pending again, its buyer gets an e-mail, and the payment is decided about."""
    order = short.invoice.order
    pipeline = {**Order.pipeline, "Being processed": ("Pending",)}
    monkeypatch.setattr(Order, "pipeline", pipeline)
    assert act_url(short, "ask") in payment_card(staff, short).links

    text = perform(staff, short, "ask", note="the exchange took a fee")

    assert f"The buyer of order {order.number} is asked for the rest: 2.00 USD." in text
    assert resolved(short) == ("asked", "staff")
    assert status_of(order) == "Pending"
    assert bookings_of(order) == [(str(short.bitsby_id), "8.00")]
    assert order.bitsby_mails.filter(code=MailCode.REST).exists()
    (entry,) = admin_log_of(staff.user)
    assert "the exchange took a fee" in entry


def test_rest_that_cannot_be_asked_for_is_not_offered(short, staff):
    """Where the pipeline does not let the order wait again, the page says so and a POST fails."""
    url = act_url(short, "ask")
    reason = "The order's status, “Being processed”, cannot go back to “Pending”."

    assert url not in payment_card(staff, short).links
    page = Page(staff.get(url))
    assert reason in page.text
    assert [form for form in page.forms if "note" in form["fields"]] == []
    assert reason in message_after(staff, staff.post(url, {"note": "x"}))
    assert resolved(short) == ("", None)


# Reinstate


def test_reinstated_order_is_paid_and_its_stock_reserved(make_late, product, staff):
    """Where pipeline and stock allow it, the cancelled order becomes paid and holds its goods."""
    held = stock_of(product)
    late = make_late()
    order = late.invoice.order
    freed = stock_of(product)
    assert freed == held + 1

    text = perform(staff, late, "settle", note="she waited for the exchange")

    assert f"Order {order.number} is reinstated" in text
    assert status_of(order) == "Being processed"
    assert stock_of(product) == freed - 1
    line = order.lines.get()
    assert (line.num_allocated, line.allocation_cancelled) == (1, False)
    assert bookings_of(order) == [(str(late.bitsby_id), "10.00")]
    assert resolved(late) == ("reinstated", "staff")
    (entry,) = admin_log_of(staff.user)
    assert "she waited" in entry


def assert_refused(order, late, text):
    """Check that nothing was written: the order stays cancelled, the payment stays to review."""
    assert "cannot be reinstated" in text
    assert status_of(order) == "Cancelled"
    assert not [note for note in order.notes.all() if "she waited" in note.message]
    assert bookings_of(order) == [(str(late.bitsby_id), "10.00")]
    assert resolved(late) == ("", None)
    assert list(BitsbyPayment.objects.needs_review()) == [late]
    for line in order.lines.all():
        assert (line.num_allocated, line.allocation_cancelled) == (0, True)


@pytest.mark.usefixtures("forbid_reopening")
def test_reinstating_against_the_pipeline_is_an_error_that_keeps_the_row(late, product, staff):
    """The message names what the pipeline lacks, and nothing was written."""
    before = stock_of(product)

    text = message_after(staff, staff.post(act_url(late, "settle"), {"note": "she waited"}))

    assert_refused(late.invoice.order, late, text)
    assert "does not allow “Cancelled” to become “Being processed”" in text
    assert 'Add "Cancelled": ("Being processed",) to OSCAR_ORDER_STATUS_PIPELINE' in text
    assert stock_of(product) == before
    assert admin_log_of(staff.user) == []


@pytest.mark.usefixtures("forbid_reopening")
def test_reinstating_is_not_offered_where_the_pipeline_forbids_it(late, staff):
    """Neither the row nor the action's page has the button, and both say why."""
    card = payment_card(staff, late)
    page = Page(staff.get(act_url(late, "settle")))

    assert act_url(late, "settle") not in card.links
    for text in (card.text, page.text):
        assert "does not allow “Cancelled” to become “Being processed”" in text
    assert [form for form in page.forms if "note" in form["fields"]] == []


@pytest.mark.parametrize("has_record", [True, False], ids=["sold out", "no stock record"])
def test_reinstating_without_stock_is_an_error_that_keeps_the_row(late, product, staff, has_record):
    """Goods that were sold meanwhile, or are no longer sold, are not promised twice."""
    if has_record:
        product.stockrecords.update(num_in_stock=0, num_allocated=0)
    else:
        product.stockrecords.all().delete()

    text = perform(staff, late, "settle", note="she waited")

    assert_refused(late.invoice.order, late, text)
    assert f"not enough stock of “{product.title}”" in text
    if has_record:
        assert stock_of(product) == 0


def test_reinstating_reserves_all_lines_or_none(
    fake, order, invoice_for, product, make_late, staff
):
    """An order of two lines of which one is sold out reserves neither, and names only that one."""
    line = order.lines.get()
    Line.objects.filter(pk=line.pk).update(quantity=1)
    line.pk, line.quantity, line.title = None, 30, "Pile of mugs"
    line.num_allocated, line.allocation_cancelled = 0, True
    line.save()
    late = make_late()
    before = stock_of(product)

    text = perform(staff, late, "settle", note="she waited")

    assert_refused(order, late, text)
    assert "not enough stock of “Pile of mugs”." in text
    assert stock_of(product) == before


def test_payment_of_a_reinstated_order_stays_to_review_for_its_amount(make_late, staff):
    """Reinstating settles that it was late; staff still decide about what is missing."""
    late = make_late("8.00000000")
    assert late.review_reasons == ["late", "short"]

    text = perform(staff, late, "settle", note="x")

    assert "is reinstated" in text
    assert "Decide about the amount of the payment now." in text
    assert resolved(late) == ("", None)
    assert late.review_reasons == ["short"]
    assert status_of(late.invoice.order) == "Being processed"


def test_stock_that_was_not_released_is_not_reserved_twice(fake, order, invoice, product, staff):
    """An order that staff cancelled in the dashboard still holds its goods; they are kept."""
    order.set_status("Cancelled")
    before = stock_of(product)
    late = receive_payment(fake, invoice, "10.00000000")
    assert late.review_reason == "cancelled"

    assert "is reinstated" in perform(staff, late, "settle", note="x")

    assert status_of(order) == "Being processed"
    assert stock_of(product) == before


def test_only_a_booked_payment_reinstates_its_order(mismatch, unmatched, staff):
    """A payment that is not booked or has no order reinstates nothing."""
    for payment in (mismatch, unmatched):
        assert "Only a booked payment" in perform(staff, payment, "settle", note="x")
        assert resolved(payment) == ("", None)
    assert status_of(mismatch.invoice.order) == "Pending"


def test_only_a_cancelled_order_is_reinstated(short, staff):
    """Settling again is for cancelled orders; a forged request leaves a short payment waiting."""
    staff.post(act_url(short, "settle"), {"note": "x"})

    assert resolved(short)[0] != "reinstated"


def test_accepted_late_payment_does_not_change_its_order(late, staff):
    """Accepting a late payment resolves it; its order stays cancelled."""
    assert "Accepted: 10.00 USD" in perform(staff, late, "accept", note="goods were sent anyway")

    assert status_of(late.invoice.order) == "Cancelled"
    assert bookings_of(late.invoice.order) == [(str(late.bitsby_id), "10.00")]
    assert resolved(late) == ("accepted", "staff")


# Dismiss and undo


@pytest.mark.parametrize("note", ["", "   ", "\t\n"])
def test_dismissing_needs_a_reason(short, staff, note):
    """Without a reason the question comes back and the payment stays."""
    response = staff.post(act_url(short, "dismiss"), {"note": note})

    assert response.status_code == 200
    assert "Enter a reason" in Page(response).text
    assert resolved(short) == ("", None)
    assert BitsbyPayment.objects.needs_review().count() == 1


@pytest.mark.parametrize("name", ["short", "mismatch", "no_value"])
def test_dismissed_payment_is_not_listed_and_its_booking_stays(request, name, staff):
    """Dismissing changes no booking and no order; the list and the log show who and why."""
    payment = request.getfixturevalue(name)
    order = payment.invoice.order
    before = (bookings_of(order), status_of(order))

    text = perform(staff, payment, "dismiss", note="refunded from the hot wallet")

    assert "Dismissed" in text
    assert "All payments are matched" in text
    assert resolved(payment) == ("dismissed", "staff")
    assert (bookings_of(order), status_of(order)) == before
    done = Page(staff.get(reverse(INBOX) + "?show=done")).text
    assert "dismissed by staff" in done
    assert "refunded from the hot wallet" in done
    (entry,) = admin_log_of(staff.user)
    assert "refunded from the hot wallet" in entry


def test_dismissed_payment_stays_dismissed_after_a_run(unmatched, staff):
    """An unmatched payment that was dismissed does not come back with a run."""
    perform(staff, unmatched, "dismiss", note="not ours")

    reconciliation.reconcile()

    assert resolved(unmatched)[0] == "dismissed"
    assert not BitsbyPayment.objects.needs_review().exists()


def test_dismissal_can_be_undone(unmatched, staff, colleague):
    """The payment is listed again with all its actions, and the log shows both steps."""
    perform(staff, unmatched, "dismiss", note="not ours")
    done = Page(colleague.get(reverse(INBOX) + "?show=done"))
    assert any(url and url.startswith(act_url(unmatched, "undo")) for url in done.links)

    assert "in Payments to review again" in perform(colleague, unmatched, "undo")

    assert act_url(unmatched, "dismiss") in Page(staff.get(reverse(INBOX))).links
    assert "No payments have been resolved" in Page(staff.get(reverse(INBOX) + "?show=done")).text
    assert len(admin_log_of(staff.user)) == len(admin_log_of(colleague.user)) == 1


def test_only_a_dismissal_is_undone(short, staff):
    """An accepted payment cannot be undone; the message says so."""
    perform(staff, short, "accept", note="fine")
    done = Page(staff.get(reverse(INBOX) + "?show=done"))
    assert not any(url and url.startswith(act_url(short, "undo")) for url in done.links)

    assert "Only a dismissal can be undone" in perform(staff, short, "undo")

    assert resolved(short) == ("accepted", "staff")


def test_very_long_reason_is_truncated(short, staff):
    """A reason longer than the field is cut and never an error."""
    response = staff.post(act_url(short, "dismiss"), {"note": "ü" * 5000})

    assert response.status_code == 302
    short.refresh_from_db()
    assert short.resolution_note == "ü" * 300


# Second and concurrent decisions


@pytest.mark.parametrize(
    ("first", "decision"),
    [("accept", "accepted as it is"), ("settle", "order reinstated"), ("dismiss", "dismissed")],
)
@pytest.mark.parametrize("second", ["accept", "settle", "dismiss"])
def test_second_decision_changes_nothing_and_names_the_first(
    late, product, staff, colleague, first, decision, second
):
    """A second decision about a resolved payment changes nothing."""
    perform(staff, late, first, note="first")
    order = late.invoice.order
    before = (status_of(order), stock_of(product), bookings_of(order), order.notes.count())

    text = perform(colleague, late, second, note="second")

    assert f"Already resolved: {decision}, by staff." in text
    assert resolved(late) == (
        {"settle": "reinstated"}.get(first, first.rstrip("e") + "ed"),
        "staff",
    )
    assert (status_of(order), stock_of(product), bookings_of(order), order.notes.count()) == before
    assert admin_log_of(colleague.user) == []


def test_undo_is_idempotent(short, staff, colleague):
    """A second undo shows a message and changes nothing."""
    perform(staff, short, "dismiss", note="refunded")
    perform(staff, short, "undo")

    assert "Only a dismissal can be undone" in perform(colleague, short, "undo")

    assert BitsbyPayment.objects.needs_review().count() == 1


def test_matched_payment_cannot_be_decided_on(fake, invoice, staff):
    """An exact payment that was settled by itself cannot be accepted, settled or dismissed."""
    payment = receive_payment(fake, invoice, "10.00000000")
    assert payment.review_reason == ""

    for action in ("accept", "settle", "dismiss"):
        assert "Already resolved: settled, by the app." in perform(staff, payment, action, note="x")
    assert resolved(payment) == ("", None)
    assert bookings_of(invoice.order) == [(str(payment.bitsby_id), "10.00")]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("action", ["accept", "settle", "dismiss"])
def test_concurrent_decisions_are_carried_out_once(request, action, product):
    """One decision is carried out once; the others read that it was."""
    payment = request.getfixturevalue("mismatch" if action == "accept" else "late")
    before = stock_of(product)
    clients = [log_in(one, *MAY_BIND) for one in ("ann", "ben", "cem")]
    url, fields = act_url(payment, action), {"note": "mine"}

    responses = run_together(*[partial(client.post, url, fields) for client in clients])

    texts = [message_after(*pair) for pair in zip(clients, responses, strict=True)]
    assert sum("Already resolved" in text for text in texts) == len(clients) - 1
    assert sum(len(admin_log_of(client.user)) for client in clients) == 1
    order = payment.invoice.order
    assert len(bookings_of(order)) == 1
    assert order.payment_events.count() == 1
    assert stock_of(product) == (before - 1 if action == "settle" else before)
