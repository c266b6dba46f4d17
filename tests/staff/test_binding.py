"""Binding by staff, step by step, in the admin's frame and in the dashboard's."""

import datetime as dt
import threading

import pytest
import requests
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.staff import binding
from tests.support import bitsby
from tests.support.concurrency import run_together
from tests.support.staff import (
    BIND,
    EVIL,
    MAY_BIND,
    Page,
    accept_bindings,
    add_unbound_payment,
    admin_log_of,
    assert_escaped,
    bind_url,
    bookings_of,
    cancel_unpaid_order,
    fetch_payments,
    log_in,
    message_after,
    reasons_to_review,
    receive_payment,
    status_of,
)

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db

LIST, PAYMENTS = "/invoices/list", "/payments/list"


@pytest.fixture
def url(interface, invoice):
    """The page that binds a payment to the order of ``invoice``."""
    return bind_url(interface, invoice.order)


def choose(client, url, **values):
    """Fetch the list, fill in its form as rendered, and return the page that comes next."""
    fields, _ = Page(fetch_payments(client, url)).form_with("payment_id")
    return client.post(url, fields | values)


def confirm(client, url, **values):
    """Choose, confirm with the form as rendered, and return what is then said."""
    fields = fields_to_confirm(client, url, **values)
    return message_after(client, client.post(url, fields))


def broken(fields):
    return requests.ConnectionError("cut off")


def payments_offered(page):
    """Return the ids of the payments that can be chosen."""
    return page.form_with("payment_id")[1]["payment"]


def fields_to_confirm(client, url, **values):
    """Choose a payment and return the fields of the form that confirms it."""
    return Page(choose(client, url, **values)).form_with("confirm")[0]


def assert_nothing_booked(order):
    """Assert that the order has no booking and is still pending."""
    assert bookings_of(order) == []
    assert status_of(order) == "Pending"


# The list


def test_list_shows_the_best_match_first_with_reasons(fake, invoice, staff, url):
    """Wallet, time and amount rank the payments; the value is at the locked rate."""
    half_an_hour_ago = timezone.now() - dt.timedelta(minutes=30)
    BitsbyInvoice.objects.filter(pk=invoice.pk).update(created_at=half_an_hour_ago)
    Order.objects.filter(pk=invoice.order.pk).update(date_placed=half_an_hour_ago)
    ether = bitsby.wallet(id="other", blockchain="ethereum", cryptocurrency="eth")
    other_wallet = bitsby.wallet(id="third", blockchain="bnbSmartChain")
    unknown = add_unbound_payment(fake, "0.00500000", wallet=ether)
    far_off = add_unbound_payment(fake, "2.50000000", wallet=other_wallet)
    likely = add_unbound_payment(fake, "9.90000000")
    fair = add_unbound_payment(fake, "8.00000000")
    old = add_unbound_payment(
        fake, transactionDatetime=bitsby.written(timezone.now() - dt.timedelta(hours=1))
    )

    page = Page(fetch_payments(staff, url))

    ranked = [likely, fair, unknown, far_off, old]
    assert payments_offered(page) == [item["id"] for item in ranked]
    rows = [row for row in page.rows() if invoice.uid in row and "than asked" in row]
    assert "$9.90" in rows[0]
    assert (
        "same wallet as reserved, inside the invoice&#x27;s time, 1.0 % less than asked" in rows[0]
    )
    assert "$8.00" in rows[1]
    assert "20.0 % less than asked" in rows[1]
    assert "$2.50" in rows[2]
    assert "same coin, another wallet" in rows[2]
    assert "75.0 % less than asked" in rows[2]
    assert "older than the invoice" in rows[3]
    unknown_row = next(row for row in page.rows() if "0.005 ETH (ethereum)" in row)
    assert "unknown" in unknown_row


def test_payment_after_the_invoices_time_is_offered_with_that_reason(
    fake, order, invoice_for, staff, interface
):
    """A late transfer is in the list, with the reason that it is late."""
    ago = timezone.now() - dt.timedelta(hours=1)
    placed_at = ago - dt.timedelta(hours=1)
    Order.objects.filter(pk=order.pk).update(date_placed=placed_at)
    invoice_for(order, "expired", created_at=placed_at, expires_at=ago, ended_at=ago)
    add_unbound_payment(fake)

    assert (
        "after the invoice's time" in Page(fetch_payments(staff, bind_url(interface, order))).text
    )


@pytest.mark.parametrize(
    "extra", [{}, {"invoice": None}, {"invoice": {}}], ids=["missing", "null", "empty"]
)
def test_each_shape_of_an_unbound_payment_can_be_bound(fake, invoice, staff, url, extra):
    """Without ``invoice``, with null, or with an empty one: all mean that it is bound to none."""
    item = add_unbound_payment(fake, **extra)
    accept_bindings(fake, invoice)

    assert payments_offered(Page(fetch_payments(staff, url))) == [item["id"]]
    assert "Bound and booked: 8.00 USD" in confirm(staff, url, payment=item["id"])
    assert bookings_of(invoice.order) == [(item["id"], "8.00")]


def test_bound_booked_and_dismissed_payments_are_not_offered(
    fake, place, invoice_for, staff, interface
):
    """Only payments that are not bound, booked or dismissed can be chosen."""
    order, other = place(), place()
    invoice_for(order)
    booked = receive_payment(fake, invoice_for(other))
    unknown_invoice = bitsby.invoice_item(
        other.bitsby_invoices.get(), "paid", id=str(bitsby.new_id()), uid="unknown"
    )
    bound = bitsby.payment_item(bitsby.transfer("7.00000000"), unknown_invoice)
    fake.payments.append(bound)
    dismissed = receive_payment(fake, amount="6.00000000")
    BitsbyPayment.objects.filter(pk=dismissed.pk).update(
        resolution="dismissed", resolved_at=timezone.now()
    )
    free = add_unbound_payment(fake, "5.00000000")

    page = Page(fetch_payments(staff, bind_url(interface, order)))

    assert payments_offered(page) == [free["id"]]
    assert str(booked.bitsby_id) not in page.html
    assert bound["id"] not in page.html


def test_list_is_read_over_several_pages(fake, staff, url):
    """A payment that is not on the first page of Bitsby's list is found too."""
    for number in range(60):
        add_unbound_payment(fake, f"{number + 100}.00000000")
    likely = add_unbound_payment(fake, "9.90000000")

    offered = payments_offered(Page(fetch_payments(staff, url)))

    assert len(offered) == 61
    assert offered[0] == likely["id"]


def test_list_reads_a_bounded_number_of_pages(fake, staff, url):
    """An account with very many payments costs a bounded number of requests."""
    for number in range(1, 401):
        add_unbound_payment(fake, f"{number}.50000000")

    response = fetch_payments(staff, url)

    assert "could not be fetched" not in Page(response).text
    assert len(fake.asked(PAYMENTS)) == binding.MAX_PAGES


def test_empty_list_shows_a_message_and_the_field_for_an_id(fake, invoice, staff, url):
    """Without unmatched payments the page says so and still accepts an id."""
    page = Page(fetch_payments(staff, url))

    assert "No unmatched payments are known since this order was placed." in page.text
    assert "payment_id" in page.form_with("payment_id")[0]
    assert invoice.uid in page.text
    assert "$10.00" in page.text


@pytest.mark.parametrize(
    ("chain", "digest", "link"),
    [
        ("tron", "ab12", "https://tronscan.org/#/transaction/ab12"),
        ("ethereum", "0xab12", "https://etherscan.io/tx/0xab12"),
        ("bnbSmartChain", "0xab12", "https://bscscan.com/tx/0xab12"),
        ("bitcoin", "ab12", "https://mempool.space/tx/ab12"),
        ("solana", "ab12", None),
        ("", "ab12", None),
        ("tron", "", None),
        ("tron", "ab12/../../evil", None),
        ("tron", "ab12?x=1", None),
        ("bitcoin", f'ab">{EVIL}', None),
        ("bitcoin", "javascript:alert(1)", None),
    ],
)
def test_hash_is_linked_only_to_a_known_explorer(fake, staff, url, chain, digest, link):
    """Known chains and plain hashes get a link; everything else is text, and never markup."""
    add_unbound_payment(fake, wallet=bitsby.wallet(blockchain=chain), hash=digest)

    page = Page(fetch_payments(staff, url))

    external = [found for found in page.links if found and "://" in found]
    explorers = [found for found in external if "/tx/" in found or "tronscan" in found]
    assert explorers == ([link] if link else [])
    assert EVIL not in page.html


def test_markup_from_bitsby_is_escaped(fake, invoice, staff, url):
    """Names, addresses and errors from outside do not become markup on any step."""
    BitsbyInvoice.objects.filter(pk=invoice.pk).update(uid=EVIL, failure=EVIL)
    wallet = dict.fromkeys(("name", "blockchain", "cryptocurrency", "address", "id"), EVIL)
    item = add_unbound_payment(fake, wallet=wallet, hash=EVIL)
    fake.on(BIND, bitsby.error(EVIL))
    fake.invoices.append(bitsby.invoice_item(invoice))

    assert_escaped(fetch_payments(staff, url))
    chosen = choose(staff, url, payment=item["id"], note=EVIL)
    assert_escaped(chosen)
    fields, _ = Page(chosen).form_with("confirm")
    assert fields["note"] == EVIL
    assert_escaped(staff.post(url, fields, follow=True))


# Seeing what will happen


def test_confirmation_page_names_the_effects_and_sends_no_request(
    fake, bindable, invoice, staff, url
):
    """The page names payment, invoice, order, value and difference, and sends no request."""
    fetch_payments(staff, url)
    fake.requests.clear()

    page = Page(staff.post(url, {"payment": bindable["id"], "note": "his mail"}))

    assert fake.requests == []
    order = invoice.order
    for text in (
        "What will happen",
        f"attaches the payment to invoice {invoice.uid} of order {order.number}",
        "Payment 8 USDT, Tron (TRC-20), ",
        f"Order {order.number} (Pending), ",
        f"Customer {order.email}",
        "Asked $10.00 Value $8.00 Difference -$2.00 (-20.0 %)",
        "$8.00 will be booked, and the order becomes paid if it is still pending, although $2.00 is"
        " missing.",
    ):
        assert text in page.text
    fields, _ = page.form_with("confirm")
    assert (fields["payment_id"], fields["note"]) == (bindable["id"], "his mail")
    assert bookings_of(order) == []
    assert admin_log_of(staff.user) == []


def test_unknown_payment_is_confirmed_without_a_value(fake, staff, url):
    """An id that the shop does not know may be typed; the page calls its value unknown."""
    typed = bitsby.new_id()

    page = Page(choose(staff, url, payment_id=f"  {str(typed).upper()} "))

    assert "The value of this payment is not known yet" in page.text
    assert str(typed) in page.text
    assert fake.asked(BIND) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        *(
            ({"payment_id": text}, "is not a payment ID")
            for text in (
                "rubbish",
                "'; drop table orders; --",
                "f986ad8d-2298-473d-982a-efbc817b975",
                EVIL,
                "x" * 5000,
            )
        ),
        ({"payment_id": "x", "confirm": "1"}, "is not a payment ID"),
        ({}, "Choose a payment"),
        ({"confirm": "1"}, "Choose a payment"),
        ({"payment_id": "   ", "confirm": "1"}, "Choose a payment"),
        ({"payment": "rubbish"}, ""),
        ({"payment": "rubbish", "confirm": "1"}, ""),
        ({"invoice": "x", "note": "y"}, ""),
    ],
)
def test_invalid_choice_shows_the_list_again_and_is_not_sent(fake, staff, url, values, message):
    """Without a valid payment id, the list is shown again with a message, never an error page."""
    item = add_unbound_payment(fake)
    fetch_payments(staff, url)

    response = staff.post(url, values)

    page = Page(response)
    assert response.status_code == 200
    assert "Invoices of this order" in page.text
    assert message in page.text
    assert payments_offered(page) == [item["id"]]
    assert EVIL not in page.html
    assert fake.asked(BIND) == []


def test_too_long_reason_shows_a_message(fake, staff, url):
    """A reason that is too long is refused with a message."""
    item = add_unbound_payment(fake)

    page = Page(staff.post(url, {"payment": item["id"], "note": "y" * 201}))

    assert "What will happen" not in page.text
    assert "at most 200 characters" in page.text


def test_invoice_of_another_order_is_ignored(
    fake, bindable, invoice, place, invoice_for, staff, url
):
    """A forged invoice in the form never binds a payment to another order than the page's."""
    other = invoice_for(place())
    accept_bindings(fake, other)

    staff.post(url, {"payment_id": bindable["id"], "invoice": other.pk, "confirm": "1"})

    assert fake.asked(BIND) == []
    assert bookings_of(other.order) == bookings_of(invoice.order) == []


def test_second_click_does_not_bind_to_another_invoice(
    fake, order, invoice_for, bindable, staff, url
):
    """When the confirmed invoice has been paid meanwhile, no other invoice is used."""
    first = invoice_for(order, "expired", ended_at=timezone.now())
    accept_bindings(fake, first)
    fields = {"payment_id": bindable["id"], "invoice": first.pk, "confirm": "1"}
    staff.post(url, fields)

    text = message_after(staff, staff.post(url, fields))

    assert [asked["invoiceId"] for asked in fake.asked(BIND)] == [str(first.bitsby_id)]
    assert "no longer open" in text
    assert bookings_of(order) == [(bindable["id"], "8.00")]


def test_payment_is_bound_to_the_invoice_that_matches_best(
    fake, order, invoice, invoice_for, staff, url
):
    """Of several invoices the payment goes to the one that was open when it was made."""
    ago = timezone.now() - dt.timedelta(hours=5)
    old = invoice_for(
        order, "expired", created_at=ago, expires_at=ago + dt.timedelta(hours=1), ended_at=ago
    )
    Order.objects.filter(pk=order.pk).update(date_placed=ago)
    at = bitsby.written(ago + dt.timedelta(minutes=30))
    item = add_unbound_payment(fake, transactionDatetime=at)
    accept_bindings(fake, old, invoice)

    assert "Bound and booked" in confirm(staff, url, payment=item["id"])

    assert [fields["invoiceId"] for fields in fake.asked(BIND)] == [str(old.bitsby_id)]


# Binding


def test_binding_books_the_payments_value_and_pays_the_order(fake, invoice, staff, url):
    """One request is sent, the invoice is fetched, and the payment is booked at its own value."""
    payment = receive_payment(fake, amount="8.00000000")
    assert payment.review_reason == "unmatched"
    item = fake.payments[0]
    accept_bindings(fake, invoice)

    text = confirm(staff, url, payment=item["id"], note="he wrote that it is his")

    order = invoice.order
    assert f"Bound and booked: 8.00 USD for order {order.number}." in text
    assert fake.asked(BIND) == [{"invoiceId": str(invoice.bitsby_id), "paymentId": item["id"]}]
    assert bookings_of(order) == [(item["id"], "8.00")]
    assert order.sources.get().amount_debited == 8
    assert status_of(order) == "Being processed"
    payment.refresh_from_db()
    assert (payment.resolution, payment.resolved_by) == ("", None)
    assert reasons_to_review() == ["short"]
    (entry,) = admin_log_of(staff.user)
    assert item["id"] in entry
    assert "he wrote that it is his" in entry
    invoice.refresh_from_db()
    assert invoice.status == "paid"

    reconciliation.reconcile()
    assert bookings_of(order) == [(item["id"], "8.00")]
    assert reasons_to_review() == ["short"]


def test_admin_log_of_the_order_has_user_and_reason(bindable, invoice, url):
    """The order's history in the admin shows the payment, the user and the reason."""
    staff = log_in("staff", *MAY_BIND, "order.change_order")
    confirm(staff, url, payment=bindable["id"], note="his mail of Monday")

    history = Page(staff.get(f"/admin/order/order/{invoice.order.pk}/history/")).text

    assert "his mail of Monday" in history
    assert bindable["id"] in history
    assert "staff" in history


def test_typed_payment_id_is_bound(fake, invoice, staff, url):
    """A payment that the page does not list, because Bitsby's list failed, is bound by its id."""
    item = add_unbound_payment(fake, "12.00000000")
    accept_bindings(fake, invoice)
    fake.on(PAYMENTS, broken)

    text = confirm(staff, url, payment_id=item["id"])

    assert "Bound and booked: 12.00 USD" in text
    assert bookings_of(invoice.order) == [(item["id"], "12.00")]
    assert reasons_to_review() == ["over"]


def test_typed_payment_id_overrides_the_chosen_one(fake, bindable, staff, url):
    """A typed id is used, whatever the list had selected."""
    chosen = add_unbound_payment(fake, "3.00000000")

    confirm(staff, url, payment=chosen["id"], payment_id=bindable["id"])

    assert [fields["paymentId"] for fields in fake.asked(BIND)] == [bindable["id"]]


def test_binding_again_says_that_the_order_is_paid(fake, bindable, invoice, staff, url):
    """A second click on the same confirmation binds nothing more."""
    fields = fields_to_confirm(staff, url, payment=bindable["id"])

    assert "Bound and booked" in message_after(staff, staff.post(url, fields))
    assert "is already paid" in message_after(staff, staff.post(url, fields))

    assert len(fake.asked(BIND)) == 1
    assert bookings_of(invoice.order) == [(bindable["id"], "8.00")]


def test_order_that_cannot_be_bound_to_shows_the_reason(fake, place, invoice_for, staff, interface):
    """No invoice, an attempt that never became one, and a paid one lead back with a message."""
    bare, failed, paid = place(), place(), place()
    invoice_for(failed, "creating", bitsby_id=None, uid="")
    invoice_for(paid, "paid")

    for order, text in ((bare, "has no Bitsby"), (failed, "has no Bitsby"), (paid, "is already")):
        for send in (staff.get, staff.post):
            shown = message_after(staff, send(bind_url(interface, order)))
            assert f"Order {order.number} {text}" in shown
    assert fake.requests == []


def test_payment_bound_to_a_cancelled_order_stays_to_review(
    fake, order, invoice_for, staff, interface
):
    """A payment bound to a cancelled order is booked and stays to review as late."""
    invoice = cancel_unpaid_order(fake, order, invoice_for)
    item = add_unbound_payment(fake)
    accept_bindings(fake, invoice)

    confirm(staff, bind_url(interface, order), payment_id=item["id"])

    assert bookings_of(order) == [(item["id"], "8.00")]
    assert status_of(order) == "Cancelled"
    assert reasons_to_review() == ["late"]


def test_bound_second_payment_stays_to_review(fake, order, invoice, invoice_for, staff, url):
    """Two paid invoices of one order: both are booked, and the second waits for its refund."""
    ago = timezone.now() - dt.timedelta(minutes=10)
    first = invoice_for(order, "expired", expires_at=ago, ended_at=ago)
    receive_payment(fake, invoice, "10.00000000")
    item = add_unbound_payment(fake, "10.00000000")
    accept_bindings(fake, first)

    confirm(staff, url, payment_id=item["id"])

    assert [amount for _, amount in bookings_of(order)] == ["10.00", "10.00"]
    assert reasons_to_review() == ["second"]


def test_payment_stays_to_review_when_the_order_cannot_become_paid(
    bindable, invoice, staff, url, configure
):
    """Where the pipeline forbids the paid status, binding does not hide that from staff."""
    configure(ORDER_STATUS_PAID="Complete")

    confirm(staff, url, payment_id=bindable["id"])

    assert bookings_of(invoice.order) == [(bindable["id"], "8.00")]
    assert status_of(invoice.order) == "Pending"
    assert reasons_to_review() == ["status"]


def test_bound_payment_of_unknown_value_stays_to_review(fake, invoice, staff, url):
    """Without a locked rate nothing is booked, and staff are sent to the payments to review."""
    item = add_unbound_payment(fake, wallet=bitsby.wallet(id="other", cryptocurrency="eth"))
    accept_bindings(fake, invoice)

    text = confirm(staff, url, payment_id=item["id"])

    assert bookings_of(invoice.order) == []
    assert reasons_to_review() == ["unknown_value"]
    assert "does not call the invoice paid" not in text
    assert "the next pass" not in text


def test_invoice_that_bitsby_never_created_cannot_be_bound_to(order, invoice_for, staff):
    """Binding to an invoice that Bitsby never created is refused without a request."""
    attempt = invoice_for(order, "creating", bitsby_id=None)

    result = binding.bind(attempt, bitsby.new_id(), staff.user)

    assert not result.done
    assert "never created at Bitsby" in result.message


# Errors at Bitsby

FAILURES = {
    "no connection": broken,
    "error page": (500, {}, "<h1>Oops</h1>"),
    "half an answer": (200, {}, "{"),
    "too frequent": bitsby.error("Requests too frequent"),
}


@pytest.mark.parametrize(
    "answer", [*FAILURES.values(), bitsby.error("Blocked")], ids=[*FAILURES, "refused"]
)
def test_page_works_without_bitsbys_list(fake, staff, url, answer):
    """When the list cannot be fetched, a warning is shown above the known payments."""
    known = receive_payment(fake, amount="8.00000000")
    fake.on(PAYMENTS, answer)

    response = fetch_payments(staff, url)

    page = Page(response)
    assert response.status_code == 200
    assert "The payments could not be fetched from Bitsby" in page.text
    assert payments_offered(page) == [str(known.bitsby_id)]


def test_refusal_is_shown_and_nothing_booked(fake, invoice, staff, url):
    """Bitsby's reason is shown, the order stays unpaid, and the admin log keeps the attempt."""
    payment = receive_payment(fake, amount="8.00000000")
    fake.invoices.append(bitsby.invoice_item(invoice))
    fake.on(BIND, bitsby.error("This payment is too old"))

    text = confirm(staff, url, payment=str(payment.bitsby_id), note="try")

    assert "Bitsby refused" in text
    assert "This payment is too old" in text
    assert "Nothing was booked." in text
    assert_nothing_booked(invoice.order)
    payment.refresh_from_db()
    assert (payment.review_reason, payment.resolved_at) == ("unmatched", None)
    (entry,) = admin_log_of(staff.user)
    assert "too old" in entry


@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES)
def test_binding_whose_response_is_lost_is_booked(fake, invoice, staff, url, answer):
    """When Bitsby bound but its answer did not arrive, the refresh finds the payment, booked."""
    item = add_unbound_payment(fake)
    lost = answer(None) if callable(answer) else answer
    accept_bindings(fake, invoice, answer=lost)

    text = confirm(staff, url, payment=item["id"])

    assert "Bound and booked: 8.00 USD" in text
    assert bookings_of(invoice.order) == [(item["id"], "8.00")]
    assert status_of(invoice.order) == "Being processed"
    assert reasons_to_review() == ["short"]


@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES)
def test_binding_whose_request_is_lost_books_nothing(fake, bindable, invoice, staff, url, answer):
    """When the request never reached Bitsby, nothing is booked and the page says so."""
    fake.on(BIND, answer)

    text = confirm(staff, url, payment=bindable["id"])

    assert "Bitsby did not answer" in text
    assert "Nothing was booked." in text
    assert_nothing_booked(invoice.order)
    assert len(fake.asked(BIND)) == 1


@pytest.mark.parametrize(
    ("answer", "text"),
    [(None, "its result could not be fetched"), (broken(None), "Bitsby did not answer")],
    ids=["answered", "answer lost"],
)
def test_binding_is_booked_by_the_next_run_when_the_refresh_fails(
    fake, invoice, staff, url, answer, text
):
    """Nothing is booked now, the page says so, and a run books the payment once."""
    item = add_unbound_payment(fake)
    accept_bindings(fake, invoice, answer=answer)
    fields = fields_to_confirm(staff, url, payment=item["id"])
    fake.on(LIST, broken)

    assert text in message_after(staff, staff.post(url, fields))
    assert_nothing_booked(invoice.order)

    fake.on(LIST, fake.invoices_list)
    reconciliation.reconcile()
    reconciliation.reconcile()
    assert bookings_of(invoice.order) == [(item["id"], "8.00")]
    assert status_of(invoice.order) == "Being processed"


@pytest.mark.parametrize("is_listed", [True, False], ids=["unpaid", "not listed"])
def test_confirmed_binding_is_not_booked_before_the_list_shows_it(
    fake, invoice, staff, url, is_listed
):
    """A binding that Bitsby confirms is booked only once the list shows the invoice as paid."""
    item = add_unbound_payment(fake)
    fake.invoices = [bitsby.invoice_item(invoice)] if is_listed else []
    fake.on(BIND, bitsby.success("Invoice binded to payment"))

    text = confirm(staff, url, payment=item["id"])

    if is_listed:
        assert "does not show the invoice as paid by this payment yet" in text
    assert_nothing_booked(invoice.order)


def test_payment_found_by_the_refresh_is_reported(fake, invoice, staff, url):
    """When Bitsby refuses because the buyer's own payment came first, that one is booked.

    The message then does not claim that nothing was booked.
    """
    item = add_unbound_payment(fake)
    fields = fields_to_confirm(staff, url, payment=item["id"])
    own = bitsby.transfer("10.00000000")
    fake.invoices.append(bitsby.invoice_item(invoice, "paid", payment=own))
    fake.on(BIND, bitsby.error("Invoice is already paid"))

    text = message_after(staff, staff.post(url, fields))

    assert bookings_of(invoice.order) == [(own["id"], "10.00")]
    assert "Bitsby refused" in text
    assert "Nothing was booked" not in text


# Concurrent bindings
@pytest.mark.django_db(transaction=True)
def test_concurrent_bindings_book_once(fake, invoice, url):
    """Of simultaneous clicks one books the payment, and everyone gets a result."""
    clients = [log_in(name, *MAY_BIND) for name in ("ann", "ben")]
    item = add_unbound_payment(fake)
    fields = [fields_to_confirm(client, url, payment=item["id"]) for client in clients]
    # Both requests are at Bitsby at the same time; it binds the first and refuses the second.
    barrier = threading.Barrier(2, timeout=30)
    accept_bindings(fake, invoice, before=lambda fields: barrier.wait())

    responses = run_together(
        lambda: clients[0].post(url, fields[0]), lambda: clients[1].post(url, fields[1])
    )

    assert len(fake.asked(BIND)) == 2
    assert bookings_of(invoice.order) == [(item["id"], "8.00")]
    assert invoice.order.sources.get().amount_debited == 8
    assert status_of(invoice.order) == "Being processed"
    assert invoice.order.payment_events.count() == 1
    for client, response in zip(clients, responses, strict=True):
        assert "Bound and booked: 8.00 USD" in message_after(client, response)
        assert len(admin_log_of(client.user)) == 1
    assert reasons_to_review() == ["short"]
