"""Binding by staff, step by step, in the admin's frame and in the dashboard's."""

import datetime as dt
import threading

import pytest
import requests
from django.db import connections
from django.utils import timezone
from django.utils.html import escape
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.staff import binding
from tests.support import bitsby
from tests.support.staff import (
    BIND,
    MAY_BIND,
    Page,
    accept_bindings,
    add_unbound_payment,
    admin_log_of,
    bind_url,
    bookings_of,
    cancel_unpaid_order,
    log_in,
    message_after,
    receive_payment,
    status_of,
)

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db

LIST, PAYMENTS = "/invoices/list", "/payments/list"


@pytest.fixture(params=["admin", "dashboard"])
def way(request):
    return request.param


def choose(client, url, **values):
    """Open the list, fill in its form as rendered, and return the page that comes next."""
    fields, _ = Page(client.get(url)).form_with("payment_id")
    return client.post(url, fields | values)


def confirm(client, url, **values):
    """Choose, confirm with the form as rendered, and return what is then said."""
    fields, _ = Page(choose(client, url, **values)).form_with("confirm")
    return message_after(client, client.post(url, fields))


def broken(fields):
    return requests.ConnectionError("cut off")


# The list


def test_list_shows_the_best_match_first_with_reasons(fake, invoice, staff, way):
    """Wallet, time and amount rank the payments; the value is at the locked rate."""
    BitsbyInvoice.objects.filter(pk=invoice.pk).update(
        created_at=timezone.now() - dt.timedelta(minutes=30)
    )
    Order.objects.filter(pk=invoice.order.pk).update(
        date_placed=timezone.now() - dt.timedelta(minutes=30)
    )
    ether = bitsby.wallet(id="other", blockchain="ethereum", cryptocurrency="eth")
    elsewhere = bitsby.wallet(id="third", blockchain="bnbSmartChain")
    unknown = add_unbound_payment(fake, "0.00500000", wallet=ether)
    far_off = add_unbound_payment(fake, "2.50000000", wallet=elsewhere)
    likely = add_unbound_payment(fake, "9.90000000")
    fair = add_unbound_payment(fake, "8.00000000")
    old = add_unbound_payment(
        fake, transactionDatetime=bitsby.written(timezone.now() - dt.timedelta(hours=1))
    )

    page = Page(staff.get(bind_url(way, invoice.order)))

    _, radios = page.form_with("payment_id")
    wanted = [likely, fair, unknown, far_off, old]
    assert radios["payment"] == [item["id"] for item in wanted]
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
    strange = next(row for row in page.rows() if "0.005 eth (ethereum)" in row)
    assert "unknown" in strange


def test_a_payment_after_the_invoices_time_is_offered_with_that_reason(
    fake, order, invoice_for, staff, way
):
    """A late transfer is in the list, named as such."""
    ago = timezone.now() - dt.timedelta(hours=1)
    Order.objects.filter(pk=order.pk).update(date_placed=ago - dt.timedelta(hours=1))
    invoice_for(
        order, "expired", created_at=ago - dt.timedelta(hours=1), expires_at=ago, ended_at=ago
    )
    add_unbound_payment(fake)

    assert "after the invoice's time" in Page(staff.get(bind_url(way, order))).text


@pytest.mark.parametrize("shape", ["missing", "null", "empty"])
def test_each_shape_of_an_unbound_payment_can_be_bound(fake, invoice, staff, way, shape):
    """Without ``invoice``, with null, or with an empty one: all mean that it is bound to none."""
    extra = {"missing": {}, "null": {"invoice": None}, "empty": {"invoice": {}}}[shape]
    item = add_unbound_payment(fake, **extra)
    accept_bindings(fake, invoice)
    url = bind_url(way, invoice.order)

    assert Page(staff.get(url)).form_with("payment_id")[1]["payment"] == [item["id"]]
    assert "Bound and booked: 8.00 USD" in confirm(staff, url, payment=item["id"])
    assert bookings_of(invoice.order) == [(item["id"], "8.00")]


def test_what_is_bound_booked_or_dismissed_is_not_offered(fake, place, invoice_for, staff, way):
    """Only payments that are not bound, booked or dismissed can be chosen."""
    order, other = place(), place()
    invoice_for(order)
    theirs = receive_payment(fake, invoice_for(other))
    stranger = bitsby.new_id()
    foreign = bitsby.invoice_item(
        other.bitsby_invoices.get(), "paid", id=str(stranger), uid="elsewhere"
    )
    elsewhere = bitsby.payment_item(bitsby.transfer("7.00000000"), foreign)
    fake.payments.append(elsewhere)
    dismissed = receive_payment(fake, amount="6.00000000")
    BitsbyPayment.objects.filter(pk=dismissed.pk).update(
        resolution="dismissed", resolved_at=timezone.now()
    )
    free = add_unbound_payment(fake, "5.00000000")

    page = Page(staff.get(bind_url(way, order)))

    assert page.form_with("payment_id")[1]["payment"] == [free["id"]]
    assert str(theirs.bitsby_id) not in page.html
    assert elsewhere["id"] not in page.html


def test_the_list_is_read_over_several_pages(fake, invoice, staff, way):
    """A payment that is not on the first page of Bitsby's list is found too."""
    for number in range(60):
        add_unbound_payment(fake, f"{number + 100}.00000000")
    likely = add_unbound_payment(fake, "9.90000000")

    page = Page(staff.get(bind_url(way, invoice.order)))

    radios = page.form_with("payment_id")[1]["payment"]
    assert len(radios) == 61
    assert radios[0] == likely["id"]


def test_list_reads_a_bounded_number_of_pages(fake, invoice, staff, way):
    """An account with very many payments costs a bounded number of requests."""
    for number in range(1, 401):
        add_unbound_payment(fake, f"{number}.50000000")

    response = staff.get(bind_url(way, invoice.order))

    assert "could not be fetched" not in Page(response).text
    assert len(fake.asked(PAYMENTS)) == binding.MAX_PAGES


def test_an_empty_list_says_so(fake, invoice, staff, way):
    """Without unmatched payments the page says so and still accepts an id."""
    page = Page(staff.get(bind_url(way, invoice.order)))

    assert "Bitsby has seen no unmatched payments since this order was placed." in page.text
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
        ("bitcoin", 'ab"><script>alert(1)</script>', None),
        ("bitcoin", "javascript:alert(1)", None),
    ],
)
def test_a_hash_is_linked_only_to_an_explorer_that_is_known(
    fake, invoice, staff, way, chain, digest, link
):
    """Known chains and plain hashes get a link; everything else is text, and never markup."""
    add_unbound_payment(fake, wallet=bitsby.wallet(blockchain=chain), hash=digest)

    page = Page(staff.get(bind_url(way, invoice.order)))

    outside = [url for url in page.links if url and "://" in url]
    explorers = [url for url in outside if "oscar" not in url and "localhost" not in url]
    assert [url for url in explorers if "/tx/" in url or "tronscan" in url] == [
        url for url in [link] if url
    ]
    assert "<script>alert(1)" not in page.html


def test_markup_from_bitsby_is_escaped(fake, invoice, staff, way):
    """Names, addresses and errors from outside do not become markup on any step."""
    evil = "<script>alert(1)</script>"
    BitsbyInvoice.objects.filter(pk=invoice.pk).update(uid=evil, failure=evil)
    item = add_unbound_payment(
        fake,
        wallet=bitsby.wallet(
            name=evil, blockchain=evil, cryptocurrency=evil, address=evil, id=evil
        ),
        hash=evil,
    )
    fake.on(BIND, bitsby.error(evil))
    fake.invoices.append(bitsby.invoice_item(invoice))
    url = bind_url(way, invoice.order)

    listed = staff.get(url)
    asked = choose(staff, url, payment=item["id"], note=evil)
    fields, _ = Page(asked).form_with("confirm")
    done = staff.post(url, fields, follow=True)
    for response in (listed, asked, done):
        html = response.content.decode()
        assert evil not in html
        assert escape(evil)[:12] in html
    assert fields["note"] == evil


# Seeing what will happen


def test_the_confirmation_says_what_will_happen_and_does_nothing(fake, invoice, staff, way):
    """The page names payment, invoice, order, value and difference, and sends no request."""
    item = add_unbound_payment(fake)
    accept_bindings(fake, invoice)
    url = bind_url(way, invoice.order)
    staff.get(url)
    fake.requests.clear()

    page = Page(staff.post(url, {"payment": item["id"], "note": "his mail"}))

    assert fake.requests == []
    assert "What will happen" in page.text
    assert (
        f"attaches payment {item['id']} to invoice {invoice.uid} of order {invoice.order_number}"
        in page.text
    )
    assert "The payment is worth $8.00" in page.text
    assert "asked for $10.00" in page.text
    assert "difference: -$2.00" in page.text
    assert "the order becomes paid" in page.text
    fields, _ = page.form_with("confirm")
    assert (fields["payment_id"], fields["note"]) == (item["id"], "his mail")
    assert bookings_of(invoice.order) == []
    assert admin_log_of(staff.user) == []


def test_unknown_payment_is_confirmed_without_a_value(fake, invoice, staff, way):
    """An id that the shop does not know may be typed; the page calls its value unknown."""
    url = bind_url(way, invoice.order)
    typed = bitsby.new_id()

    page = Page(choose(staff, url, payment_id=f"  {str(typed).upper()} "))

    assert "The value of this payment is not known yet" in page.text
    assert str(typed) in page.text
    assert fake.asked(BIND) == []


@pytest.mark.parametrize(
    "values",
    [
        {"payment_id": "rubbish"},
        {"payment_id": "'; drop table orders; --"},
        {"payment_id": "f986ad8d-2298-473d-982a-efbc817b975"},
        {"payment_id": "<script>alert(1)</script>"},
        {"payment_id": "x" * 5000},
        {"payment_id": "x", "confirm": "1"},
        {},
        {"confirm": "1"},
        {"payment_id": "   ", "confirm": "1"},
    ],
)
def test_invalid_payment_id_shows_a_message_and_is_not_sent(fake, invoice, staff, way, values):
    """Without a payment id that can be one, the list comes again with what is wrong."""
    item = add_unbound_payment(fake)
    url = bind_url(way, invoice.order)
    staff.get(url)

    response = staff.post(url, values)

    page = Page(response)
    assert response.status_code == 200
    wanted = "is not a payment ID" if values.get("payment_id", "").strip() else "Choose a payment"
    assert wanted in page.text
    assert page.form_with("payment_id")[1]["payment"] == [item["id"]]
    assert "<script>alert(1)" not in page.html
    assert fake.asked(BIND) == []


@pytest.mark.parametrize(
    "values",
    [{"payment": "rubbish"}, {"payment": "rubbish", "confirm": "1"}, {"invoice": "x", "note": "y"}],
)
def test_a_mangled_choice_binds_nothing(fake, invoice, staff, way, values):
    """A forged radio or hidden field leads back to the list, not to an error page."""
    url = bind_url(way, invoice.order)

    response = staff.post(url, values)

    assert response.status_code == 200
    assert "Invoices of this order" in Page(response).text
    assert fake.asked(BIND) == []


def test_too_long_reason_shows_a_message(fake, invoice, staff, way):
    """A reason that is too long is refused with a message."""
    item = add_unbound_payment(fake)
    url = bind_url(way, invoice.order)
    staff.get(url)

    page = Page(staff.post(url, {"payment": item["id"], "note": "y" * 201}))

    assert "What will happen" not in page.text
    assert "at most 200 characters" in page.text


def test_invoice_of_another_order_is_ignored(fake, place, invoice_for, staff, way):
    """A forged invoice in the form never binds a payment to another order than the page's."""
    mine, other = invoice_for(place()), invoice_for(place())
    item = add_unbound_payment(fake)
    accept_bindings(fake, mine, other)
    url = bind_url(way, mine.order)

    staff.post(url, {"payment_id": item["id"], "invoice": other.pk, "confirm": "1"})

    assert fake.asked(BIND) == []
    assert bookings_of(other.order) == bookings_of(mine.order) == []


def test_a_second_click_does_not_bind_to_another_invoice(fake, order, invoice_for, staff, way):
    """When the confirmed invoice has been paid meanwhile, no other invoice is used."""
    first, second = invoice_for(order, "expired", ended_at=timezone.now()), invoice_for(order)
    item = add_unbound_payment(fake)
    accept_bindings(fake, first, second)
    fields = {"payment_id": item["id"], "invoice": first.pk, "confirm": "1"}
    staff.post(bind_url(way, order), fields)

    text = message_after(staff, staff.post(bind_url(way, order), fields))

    assert [asked["invoiceId"] for asked in fake.asked(BIND)] == [str(first.bitsby_id)]
    assert "no longer open" in text
    assert bookings_of(order) == [(item["id"], "8.00")]


def test_the_invoice_that_fits_best_is_taken(fake, order, invoice_for, staff, way):
    """Of several invoices the payment goes to the one in whose time it came."""
    ago = timezone.now() - dt.timedelta(hours=5)
    invoice_for(
        order, "expired", created_at=ago, expires_at=ago + dt.timedelta(hours=1), ended_at=ago
    )
    Order.objects.filter(pk=order.pk).update(date_placed=ago)
    newer = invoice_for(order)
    at = bitsby.written(ago + dt.timedelta(minutes=30))
    item = add_unbound_payment(fake, transactionDatetime=at)
    old = order.bitsby_invoices.exclude(pk=newer.pk).get()
    accept_bindings(fake, old, newer)

    assert "Bound and booked" in confirm(staff, bind_url(way, order), payment=item["id"])

    assert [fields["invoiceId"] for fields in fake.asked(BIND)] == [str(old.bitsby_id)]


# Binding


def test_binding_books_the_payments_value_and_pays_the_order(fake, invoice, staff, way):
    """One request is sent, the invoice is fetched, and the payment is booked at its own value."""
    payment = receive_payment(fake, amount="8.00000000")
    assert payment.review_reason == "unmatched"
    item = fake.payments[0]
    accept_bindings(fake, invoice)

    url = bind_url(way, invoice.order)
    text = confirm(staff, url, payment=item["id"], note="he wrote that it is his")

    order = invoice.order
    assert f"Bound and booked: 8.00 USD for order {order.number}." in text
    assert fake.asked(BIND) == [{"invoiceId": str(invoice.bitsby_id), "paymentId": item["id"]}]
    assert bookings_of(order) == [(item["id"], "8.00")]
    assert order.sources.get().amount_debited == 8
    assert status_of(order) == "Being processed"
    payment.refresh_from_db()
    assert (payment.resolution, payment.resolved_by) == ("bound", staff.user)
    assert payment.resolution_note == "he wrote that it is his"
    assert not BitsbyPayment.objects.needs_review().exists()
    (entry,) = admin_log_of(staff.user)
    assert item["id"] in entry
    assert "he wrote that it is his" in entry
    invoice.refresh_from_db()
    assert invoice.status == "paid"

    reconciliation.reconcile()
    assert bookings_of(order) == [(item["id"], "8.00")]
    assert not BitsbyPayment.objects.needs_review().exists()


def test_the_admin_log_of_the_order_says_who_bound_and_why(fake, invoice, way):
    """The order's history in the admin shows the binding, its maker and the reason."""
    staff = log_in("staff", *MAY_BIND, "order.change_order")
    item = add_unbound_payment(fake)
    accept_bindings(fake, invoice)
    confirm(staff, bind_url(way, invoice.order), payment=item["id"], note="his mail of Monday")

    history = Page(staff.get(f"/admin/order/order/{invoice.order.pk}/history/")).text

    assert "his mail of Monday" in history
    assert item["id"] in history
    assert "staff" in history


def test_typed_payment_id_is_bound(fake, invoice, staff, way):
    """A payment that the list does not show, because Bitsby's list failed, is bound by its id."""
    item = add_unbound_payment(fake, "12.00000000")
    accept_bindings(fake, invoice)
    answer, broke = fake.payments_list, {"on": True}
    fake.on(PAYMENTS, lambda fields: broken(fields) if broke["on"] else answer(fields))
    url = bind_url(way, invoice.order)

    text = confirm(staff, url, payment_id=item["id"])

    assert "Bound and booked: 12.00 USD" in text
    assert bookings_of(invoice.order) == [(item["id"], "12.00")]
    assert not BitsbyPayment.objects.needs_review().exists()


def test_typed_payment_id_overrides_the_chosen_one(fake, invoice, staff, way):
    """Who types an id means it, whatever the list had selected."""
    listed, typed = add_unbound_payment(fake, "3.00000000"), add_unbound_payment(fake, "9.00000000")
    accept_bindings(fake, invoice)

    url = bind_url(way, invoice.order)
    confirm(staff, url, payment=listed["id"], payment_id=typed["id"])

    assert [fields["paymentId"] for fields in fake.asked(BIND)] == [typed["id"]]


def test_binding_again_says_that_the_order_is_paid(fake, invoice, staff, way):
    """A second click on the same confirmation binds nothing more."""
    item = add_unbound_payment(fake)
    accept_bindings(fake, invoice)
    url = bind_url(way, invoice.order)
    fields, _ = Page(choose(staff, url, payment=item["id"])).form_with("confirm")

    assert "Bound and booked" in message_after(staff, staff.post(url, fields))
    assert "is already paid" in message_after(staff, staff.post(url, fields))

    assert len(fake.asked(BIND)) == 1
    assert bookings_of(invoice.order) == [(item["id"], "8.00")]


def test_an_order_that_cannot_be_bound_to_says_why(fake, place, invoice_for, staff, way):
    """No invoice, an attempt that never became one, and a paid one lead back with a message."""
    bare, failed, paid = place(), place(), place()
    invoice_for(failed, "creating", bitsby_id=None, uid="")
    invoice_for(paid, "paid")

    for order, text in ((bare, "has no Bitsby"), (failed, "has no Bitsby"), (paid, "is already")):
        for send in (staff.get, staff.post):
            answer = message_after(staff, send(bind_url(way, order)))
            assert f"Order {order.number} {text}" in answer
    assert fake.requests == []


def test_payment_bound_to_a_cancelled_order_stays_to_review(fake, order, invoice_for, staff, way):
    """A payment bound to a cancelled order is booked and stays to review as late."""
    invoice = cancel_unpaid_order(fake, order, invoice_for)
    item = add_unbound_payment(fake)
    accept_bindings(fake, invoice)

    confirm(staff, bind_url(way, order), payment_id=item["id"])

    assert bookings_of(order) == [(item["id"], "8.00")]
    assert status_of(order) == "Cancelled"
    waiting = BitsbyPayment.objects.needs_review().values_list("review_reason", flat=True)
    assert list(waiting) == ["late"]


def test_bound_second_payment_stays_to_review(fake, order, invoice_for, staff, way):
    """Two paid invoices of one order: both are booked, and the second waits for its refund."""
    ago = timezone.now() - dt.timedelta(minutes=10)
    first = invoice_for(order, "expired", expires_at=ago, ended_at=ago)
    receive_payment(fake, invoice_for(order), "10.00000000")
    item = add_unbound_payment(fake, "10.00000000")
    accept_bindings(fake, first)

    confirm(staff, bind_url(way, order), payment_id=item["id"])

    assert [amount for _, amount in bookings_of(order)] == ["10.00", "10.00"]
    waiting = BitsbyPayment.objects.needs_review().values_list("review_reason", flat=True)
    assert list(waiting) == ["second"]


def test_payment_stays_to_review_when_the_order_cannot_become_paid(
    fake, invoice, staff, way, settings
):
    """Where the pipeline forbids the paid status, binding does not hide that from staff."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "ORDER_STATUS_PAID": "Complete"}
    item = add_unbound_payment(fake, "10.00000000")
    accept_bindings(fake, invoice)

    confirm(staff, bind_url(way, invoice.order), payment_id=item["id"])

    assert bookings_of(invoice.order) == [(item["id"], "10.00")]
    assert status_of(invoice.order) == "Pending"
    waiting = BitsbyPayment.objects.needs_review().values_list("review_reason", flat=True)
    assert list(waiting) == ["status"]


def test_bound_payment_of_unknown_value_stays_to_review(fake, invoice, staff, way):
    """Without a locked rate nothing is booked, and staff are sent to the payments to review."""
    item = add_unbound_payment(fake, wallet=bitsby.wallet(id="other", cryptocurrency="eth"))
    accept_bindings(fake, invoice)

    text = confirm(staff, bind_url(way, invoice.order), payment_id=item["id"])

    assert bookings_of(invoice.order) == []
    assert BitsbyPayment.objects.needs_review().get().review_reason == "unknown_value"
    assert "does not call the invoice paid" not in text
    assert "the next pass" not in text


def test_invoice_that_bitsby_never_created_cannot_be_bound_to(order, invoice_for, staff):
    """Binding to an invoice that Bitsby never created is refused without a request."""
    attempt = invoice_for(order, "creating", bitsby_id=None)

    result = binding.bind(attempt, bitsby.new_id(), staff.user)

    assert not result.done
    assert "never created at Bitsby" in result.message


# What can go wrong at Bitsby

SILENT = [broken, (500, {}, "<h1>Oops</h1>"), (200, {}, "{"), bitsby.error("Requests too frequent")]
SILENT_IDS = ["no connection", "error page", "half an answer", "too frequent"]


@pytest.mark.parametrize("answer", [*SILENT, bitsby.error("Blocked")], ids=[*SILENT_IDS, "no"])
def test_the_page_works_without_bitsbys_list(fake, invoice, staff, way, answer):
    """When the list cannot be fetched, a warning is shown above the known payments."""
    known = receive_payment(fake, amount="8.00000000")
    fake.on(PAYMENTS, answer)

    response = staff.get(bind_url(way, invoice.order))

    page = Page(response)
    assert response.status_code == 200
    assert "The payments could not be fetched from Bitsby" in page.text
    assert page.form_with("payment_id")[1]["payment"] == [str(known.bitsby_id)]


def test_a_refusal_is_shown_and_nothing_booked(fake, invoice, staff, way):
    """Bitsby's reason is shown, the order stays unpaid, and the admin log keeps the attempt."""
    payment = receive_payment(fake, amount="8.00000000")
    fake.invoices.append(bitsby.invoice_item(invoice))
    fake.on(BIND, bitsby.error("This payment is too old"))

    url = bind_url(way, invoice.order)
    text = confirm(staff, url, payment=str(payment.bitsby_id), note="try")

    assert "Bitsby refused" in text
    assert "This payment is too old" in text
    assert "Nothing was booked." in text
    assert bookings_of(invoice.order) == []
    assert status_of(invoice.order) == "Pending"
    payment.refresh_from_db()
    assert (payment.review_reason, payment.resolved_at) == ("unmatched", None)
    (entry,) = admin_log_of(staff.user)
    assert "too old" in entry


@pytest.mark.parametrize("answer", SILENT, ids=SILENT_IDS)
def test_binding_whose_response_is_lost_is_booked(fake, invoice, staff, way, answer):
    """When Bitsby bound but its answer did not arrive, the refresh finds the truth and books it."""
    item = add_unbound_payment(fake)
    lost = answer(None) if callable(answer) else answer
    accept_bindings(fake, invoice, answer=lost)

    text = confirm(staff, bind_url(way, invoice.order), payment=item["id"])

    assert "Bound and booked: 8.00 USD" in text
    assert bookings_of(invoice.order) == [(item["id"], "8.00")]
    assert status_of(invoice.order) == "Being processed"
    assert not BitsbyPayment.objects.needs_review().exists()


@pytest.mark.parametrize("answer", SILENT, ids=SILENT_IDS)
def test_binding_whose_request_is_lost_books_nothing(fake, invoice, staff, way, answer):
    """When the request never reached Bitsby, nothing is booked and the page says so."""
    item = add_unbound_payment(fake)
    fake.invoices.append(bitsby.invoice_item(invoice))
    fake.on(BIND, answer)

    text = confirm(staff, bind_url(way, invoice.order), payment=item["id"])

    assert "Bitsby did not answer" in text
    assert "Nothing was booked." in text
    assert bookings_of(invoice.order) == []
    assert status_of(invoice.order) == "Pending"
    assert len(fake.asked(BIND)) == 1


@pytest.mark.parametrize("is_lost", [False, True], ids=["answered", "answer lost"])
def test_binding_is_booked_by_the_next_run_when_the_refresh_fails(
    fake, invoice, staff, way, is_lost
):
    """Nothing is booked now, the page says so, and a run books the payment once."""
    item = add_unbound_payment(fake)
    accept_bindings(fake, invoice, answer=broken(None) if is_lost else None)
    url = bind_url(way, invoice.order)
    fields, _ = Page(choose(staff, url, payment=item["id"])).form_with("confirm")
    fake.on(LIST, broken)

    text = message_after(staff, staff.post(url, fields))

    if is_lost:
        assert "Bitsby did not answer" in text
    else:
        assert "its result could not be fetched" in text
    assert bookings_of(invoice.order) == []
    assert status_of(invoice.order) == "Pending"

    fake.on(LIST, fake.invoices_list)
    reconciliation.reconcile()
    reconciliation.reconcile()
    assert bookings_of(invoice.order) == [(item["id"], "8.00")]
    assert status_of(invoice.order) == "Being processed"


def test_confirmed_binding_is_not_booked_before_the_list_shows_it(fake, invoice, staff, way):
    """A binding that Bitsby confirms is booked only once the list shows the invoice as paid."""
    item = add_unbound_payment(fake)
    fake.invoices.append(bitsby.invoice_item(invoice))
    fake.on(BIND, bitsby.success("Invoice binded to payment"))

    text = confirm(staff, bind_url(way, invoice.order), payment=item["id"])

    assert "does not show the invoice as paid by this payment yet" in text
    assert bookings_of(invoice.order) == []
    assert status_of(invoice.order) == "Pending"


def test_confirmed_binding_of_an_unlisted_invoice_books_nothing(fake, invoice, staff, way):
    """A yes about an invoice that the list does not show is not believed."""
    item = add_unbound_payment(fake)
    fake.on(BIND, bitsby.success("Invoice binded to payment"))

    confirm(staff, bind_url(way, invoice.order), payment=item["id"])

    assert bookings_of(invoice.order) == []


def test_payment_found_by_the_refresh_is_reported(fake, invoice, staff, way):
    """When Bitsby refuses because the buyer's own payment came first, that one is booked.

    The answer then does not claim that nothing was booked.
    """
    item = add_unbound_payment(fake)
    url = bind_url(way, invoice.order)
    fields, _ = Page(choose(staff, url, payment=item["id"])).form_with("confirm")
    own = bitsby.transfer("10.00000000")
    fake.invoices.append(bitsby.invoice_item(invoice, "paid", payment=own))
    fake.on(BIND, bitsby.error("Invoice is already paid"))

    text = message_after(staff, staff.post(url, fields))

    assert bookings_of(invoice.order) == [(own["id"], "10.00")]
    assert "Bitsby refused" in text
    assert "Nothing was booked" not in text


# Two at once


@pytest.mark.django_db(transaction=True)
def test_concurrent_bindings_book_once(fake, invoice, way):
    """Of simultaneous clicks one books the payment, and everyone gets a result."""
    clients = [log_in(name, *MAY_BIND) for name in ("ann", "ben")]
    item = add_unbound_payment(fake)
    url = bind_url(way, invoice.order)
    confirmations = [
        Page(choose(client, url, payment=item["id"])).form_with("confirm")[0] for client in clients
    ]
    # Both requests are at Bitsby at the same time; it binds the first and refuses the second.
    together, answers = threading.Barrier(2, timeout=30), {}
    accept_bindings(fake, invoice, before=lambda fields: together.wait())

    def click(client, fields):
        try:
            answers[client.user.username] = client.post(url, fields)
        finally:
            connections.close_all()

    threads = [
        threading.Thread(target=click, args=pair)
        for pair in zip(clients, confirmations, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(fake.asked(BIND)) == 2
    assert bookings_of(invoice.order) == [(item["id"], "8.00")]
    assert invoice.order.sources.get().amount_debited == 8
    assert status_of(invoice.order) == "Being processed"
    assert invoice.order.payment_events.count() == 1
    for client in clients:
        assert "Bound and booked: 8.00 USD" in message_after(client, answers[client.user.username])
        assert len(admin_log_of(client.user)) == 1
    payment = BitsbyPayment.objects.get()
    assert payment.resolution == "bound"
