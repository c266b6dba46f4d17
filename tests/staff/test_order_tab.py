"""The Bitsby tab on the dashboard's page of an order."""

import re
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format

from oscar_bitsby import reconciliation
from oscar_bitsby.models import WebhookDelivery
from oscar_bitsby.orders import signed_urls
from tests.support import bitsby
from tests.support.buyer_refunds import create_refund
from tests.support.staff import (
    CANCEL,
    EVIL,
    INBOX,
    INVOICES,
    MAY_BIND,
    Page,
    admin_log_of,
    assert_constant_queries,
    bind_url,
    bookings_of,
    create_payments,
    delete_order,
    form_actions,
    invoice_url,
    log_in,
    message_after,
    order_tab,
    order_url,
    perform,
    receive_payment,
    status_of,
)

pytestmark = pytest.mark.django_db

LIST = "/invoices/list"


def test_tab_shows_the_whole_history_of_the_order(fake, order, invoice_for, staff):
    """The tab shows sums, invoices, payments, decisions, deliveries and the buyer's link."""
    old = invoice_for(order, "expired", uid="uid-old", failure="it did not last")
    newer = invoice_for(order, uid="uid-new")
    payment = receive_payment(fake, newer)
    WebhookDelivery.objects.create(invoice=newer, body="{}", answered=503, outcome="no slot free")
    perform(staff, payment, "accept", note="close enough")

    page = order_tab(staff, order)

    assert "#bitsby" in page.links
    assert "Asked Received Missing $10.00 $8.00 $2.00" in page.text
    assert "uid-old Copy expired it did not last $10.00" in page.text
    assert "uid-new Copy paid $10.00 $8.00" in page.text
    assert payment.hash in page.text
    assert "accepted as it is, staff" in page.text
    assert "close enough" in page.text
    assert "answered 503: no slot free" in page.text
    assert f'value="http://testserver{signed_urls.order_url(order)}"' in page.html
    assert bind_url("dashboard", order) in page.links
    assert len(form_actions(page, "/refresh/")) == 2
    assert old.uid in page.text


@pytest.mark.parametrize(
    ("amount", "has_open_invoice", "is_offered"),
    [
        (None, True, True),
        ("8.00000000", True, True),
        ("8.00000000", False, False),
        ("10.00000000", True, False),
        ("12.00000000", True, False),
    ],
    ids=["unpaid", "short", "short and no invoice open", "paid", "paid too much"],
)
def test_binding_is_offered_while_an_order_is_not_fully_paid(
    fake, order, invoice_for, amount, has_open_invoice, is_offered
):
    """The tab and the admin offer to bind while money is missing and an invoice is open."""
    staff = log_in("editor", *MAY_BIND, "order.change_order")
    if has_open_invoice:
        invoice_for(order, "expired")
    if amount:
        receive_payment(fake, invoice_for(order), amount)

    assert (bind_url("dashboard", order) in order_tab(staff, order).links) is is_offered
    change = Page(staff.get(reverse("admin:order_order_change", args=[order.pk])))
    assert (bind_url("admin", order) in change.links) is is_offered


def test_tab_shows_since_when_and_why_an_invoice_has_no_answer(fake, order, invoice_for, staff):
    """After an answer that cannot be used the tab says so, and no longer after the next one."""
    invoice = invoice_for(order, expires_at=timezone.now())
    fake.on(LIST, bitsby.error(f"Not found {EVIL}"))
    reconciliation.reconcile()

    page = order_tab(staff, order)
    invoice.refresh_from_db()
    since = date_format(timezone.localtime(invoice.unanswered_since), "DATETIME_FORMAT")
    assert f"No usable answer from Bitsby since {since}: /invoices/list: Not found" in page.text
    assert EVIL not in page.html

    fake.on(LIST, bitsby.success([bitsby.invoice_item(invoice)]))
    reconciliation.reconcile()
    assert "No usable answer" not in order_tab(staff, order).text


def test_link_for_the_buyer_opens_without_a_login(order, invoice, staff, client):
    """What staff copy into a mail is the buyer's page."""
    (link,) = re.findall(r'id="bitsby_link" readonly value="([^"]+)"', order_tab(staff, order).html)

    assert client.get(link.removeprefix("http://testserver")).status_code == 200


def test_only_booked_money_counts_as_received(fake, invoice, staff):
    """A payment that is not booked is shown apart."""
    payment = receive_payment(fake, invoice, amountFiat="8.00")

    page = order_tab(staff, invoice.order)

    text = "Asked Received Not booked yet Missing $10.00 $0.00 $8.00 $10.00"
    assert text in page.text
    assert payment.hash in page.text


def test_order_without_an_invoice_shows_the_link_for_the_buyer(order, staff):
    """Before its first invoice an order has the tab already, with the link to send the buyer."""
    page = order_tab(staff, order)

    assert "#bitsby" in page.links
    assert signed_urls.order_url(order) in page.html


def test_refund_of_a_paid_order_is_not_missing(fake, invoice, refunder):
    """The buyer of an order that was paid owes nothing after a refund of a part."""
    receive_payment(fake, invoice, "10.00000000")
    invoice.order.sources.get().refund(Decimal("4.00"), reference="ab12")

    page = order_tab(refunder, invoice.order)

    assert "Asked Received Refunded Missing $10.00 $10.00 $4.00 –" in page.text


def test_tab_shows_refunds_and_what_is_left(fake, invoice, refunder, staff):
    """What was sent back counts as refunded, and each refund is linked for those who may refund."""
    payment = receive_payment(fake, invoice, "12.00000000")
    source = invoice.order.sources.get()
    source.refund(Decimal("2.00"), reference="ab12")
    refund = payment.refunds.create(
        order=invoice.order,
        state="sent",
        amount=2,
        currency="USD",
        cryptocurrency="usdt",
        blockchain="tron",
        coin_amount=2,
        transaction_hash="ab12",
    )
    url = reverse("oscar_bitsby:dashboard-refund", args=[refund.pk])

    page = order_tab(refunder, invoice.order)

    assert "Asked Received Refunded Missing $10.00 $12.00 $2.00 –" in page.text
    assert url in page.links
    assert "https://tronscan.org/#/transaction/ab12" in page.links
    assert reverse("oscar_bitsby:dashboard-refund-order", args=[invoice.order.pk]) in page.links
    read_only = order_tab(staff, invoice.order)
    assert "ab12" in read_only.text
    assert [link for link in read_only.links if link and "refund" in link] == []


def test_tab_shows_the_surplus_and_every_reason(fake, invoice, staff):
    """What is more than the total is named, and so are all reasons of a payment."""
    payment = receive_payment(fake, invoice, "12.00000000")
    payment.further_reasons = "late"
    payment.save()

    text = order_tab(staff, invoice.order).text

    assert "Asked Received Surplus $10.00 $12.00 $2.00" in text
    assert "more than the order's total" in text
    assert "arrived after the order was cancelled" in text


def test_refund_is_not_offered_while_the_order_holds_no_money(invoice, refunder):
    """Without money there is nothing to refund, and the tab says why."""
    page = order_tab(refunder, invoice.order)

    url = reverse("oscar_bitsby:dashboard-refund-order", args=[invoice.order.pk])
    assert url not in page.links
    assert "Nothing can be refunded: This order holds no money" in page.text


def test_refund_is_not_offered_while_that_of_the_only_payment_is_open(fake, invoice, refunder):
    """The page would refuse a second one, so the tab links the open one and says why."""
    payment = receive_payment(fake, invoice)
    refund = create_refund(invoice.order, payment=payment)

    page = order_tab(refunder, invoice.order)

    url = reverse("oscar_bitsby:dashboard-refund-order", args=[invoice.order.pk])
    assert url not in page.links
    assert "Nothing can be refunded: A refund of this payment is open." in page.text
    assert reverse("oscar_bitsby:dashboard-refund", args=[refund.pk]) in page.links


def test_tab_offers_the_unbound_payments_that_are_likely(fake, order, invoice_for, staff):
    """One of a similar amount is offered with a link that chooses it; another is not."""
    invoice_for(order)
    likely, other = receive_payment(fake), receive_payment(fake, amount="800.00000000")
    url = f"{bind_url('dashboard', order)}?payment="

    page = order_tab(staff, order)

    assert f"{url}{likely.bitsby_id}" in page.links
    assert f"{url}{other.bitsby_id}" not in page.links
    assert f"https://tronscan.org/#/transaction/{likely.hash}" in page.links
    viewer = order_tab(log_in("viewer", "order.view_order"), order)
    assert likely.hash not in viewer.text


def test_hash_of_a_payment_is_linked_can_be_copied_and_leads_to_the_decision(fake, invoice, staff):
    """The whole hash is text, with a button for scripts; a payment to review links its list."""
    payment = receive_payment(fake, invoice)

    page = order_tab(staff, invoice.order)

    assert f"https://tronscan.org/#/transaction/{payment.hash}" in page.links
    assert f">{payment.hash}</a>" in page.html
    assert f'data-bitsby-copy="bitsby_hash_{payment.pk}"' in page.html
    assert f"{reverse(INBOX)}?order={invoice.order_number}" in page.links


def test_newest_delivery_comes_first(invoice, staff):
    """After a redelivery that was answered 200, the failure before it is among the earlier ones."""
    for answered, outcome in ((503, "no slot free"), (200, "settled")):
        WebhookDelivery.objects.create(
            invoice=invoice, body="{}", answered=answered, outcome=outcome
        )

    text = order_tab(staff, invoice.order).text

    assert (
        text.index("answered 200: settled")
        < text.index("Earlier webhook deliveries")
        < text.index("answered 503: no slot free")
    )


def test_order_of_another_method_has_no_tab(order, staff):
    """An order that is not paid through Bitsby shows Oscar's page as it is."""
    order.sources.all().delete()

    page = order_tab(staff, order)

    assert "#bitsby" not in page.links
    assert order.number in page.text


def test_tab_needs_a_constant_number_of_queries(order, invoice_for, staff):
    """Twenty invoices cost no more queries than five, and our tab adds few to Oscar's page."""
    colleagues = [log_in(f"c{number}").user for number in range(3)]
    url = order_url(order.number)

    def create_rows(numbers):
        for number in numbers:
            invoice = invoice_for(order, "expired")
            create_payments(
                1,
                invoice=invoice,
                fiat_value=8,
                currency="USD",
                resolved_at=timezone.now(),
                resolved_by=colleagues[number % 3],
            )
            WebhookDelivery.objects.create(invoice=invoice, body="{}", answered=200)

    staff.get(url)
    with CaptureQueriesContext(connection) as bare:
        staff.get(url)

    response = assert_constant_queries(staff, url, create_rows, at_most=len(bare) + 15)

    assert response.content.count(b"answered 200") == 20


def test_refresh_fetches_and_settles_the_invoice(fake, invoice, staff):
    """One invoice is fetched, its payment is booked, and its status is shown."""
    payment = bitsby.transfer("10.00000000")
    fake.invoices.append(bitsby.invoice_item(invoice, "paid", payment=payment))
    (url,) = form_actions(order_tab(staff, invoice.order), "/refresh/")

    text = message_after(staff, staff.post(url))

    assert "Refreshed. Invoice status: paid." in text
    assert bookings_of(invoice.order) == [(payment["id"], "10.00")]
    assert status_of(invoice.order) == "Being processed"
    assert [fields["invoiceId"] for fields in fake.asked(LIST)] == [str(invoice.bitsby_id)]
    assert "Invoice status: paid." in message_after(staff, staff.post(url))
    assert bookings_of(invoice.order) == [(payment["id"], "10.00")]


def test_failed_refresh_shows_a_message(fake, invoice, staff):
    """No answer, a refusal and an unknown invoice show a message and change nothing."""
    (url,) = form_actions(order_tab(staff, invoice.order), "/refresh/")

    assert "Bitsby does not know this invoice." in message_after(staff, staff.post(url))
    fake.on(LIST, bitsby.error(f"Blocked {EVIL}"))
    response = staff.post(url, follow=True)
    assert "Bitsby could not be reached" in Page(response).text
    assert EVIL not in response.content.decode()
    fake.on(LIST, (500, {}, "<h1>Oops</h1>"))
    assert "Bitsby could not be reached" in message_after(staff, staff.post(url))
    invoice.refresh_from_db()
    assert invoice.status == "unpaid"


def test_cancelling_is_offered_only_while_bitsby_allows_it(place, invoice_for, staff):
    """Unpaid and never opened: a button; opened, over, paid, ended or never created: none."""
    unopened = invoice_for(place())
    offered = form_actions(order_tab(staff, unopened.order), "/cancel/")
    assert offered == [invoice_url(unopened, "cancel")]
    for values in (
        {"page_views": 1},
        {"expires_at": timezone.now()},
        {"status": "paid"},
        {"status": "expired"},
        {"status": "canceled"},
        {"status": "creating", "bitsby_id": None},
    ):
        invoice = invoice_for(place(), **values)
        assert form_actions(order_tab(staff, invoice.order), "/cancel/") == [], values


@pytest.fixture
def cancellable(fake, invoice):
    """The item of an invoice that Bitsby cancels when asked."""
    remote = bitsby.invoice_item(invoice, views=0)
    fake.invoices.append(remote)
    fake.on(CANCEL, lambda fields: remote.update(status="canceled") or bitsby.success("canceled"))
    return remote


def cancel(staff, invoice, **fields):
    """Click on the button of the order's tab that cancels its invoice; return the response."""
    (url,) = form_actions(order_tab(staff, invoice.order), "/cancel/")
    return staff.post(url, fields)


@pytest.mark.usefixtures("cancellable")
def test_cancelled_invoice_is_fetched_again_and_logged(fake, invoice, staff):
    """The list shows the cancellation; invoice, message and admin log do so, too."""
    response = cancel(staff, invoice, note="he asked me to")

    assert "The invoice is cancelled." in message_after(staff, response)
    invoice.refresh_from_db()
    assert invoice.status == "canceled"
    assert status_of(invoice.order) == "Pending"
    (entry,) = admin_log_of(staff.user)
    assert "he asked me to" in entry
    again = staff.post(invoice_url(invoice, "cancel"))
    assert "Only an unpaid invoice" in message_after(staff, again)
    assert len(fake.asked(CANCEL)) == 1


@pytest.mark.parametrize(
    ("paths", "answer", "views", "text"),
    [
        ([CANCEL], bitsby.error(f"Has views {EVIL}"), 1, f"Has views {EVIL}"),
        ([CANCEL], (500, {}, "<h1>Oops</h1>"), 0, "was not cancelled"),
        ([CANCEL, LIST], (503, {}, ""), 0, "was not cancelled"),
        ([CANCEL], bitsby.success("Invoice canceled"), 0, "does not show it as cancelled"),
    ],
    ids=["refused", "no answer", "Bitsby down", "not cancelled in the list"],
)
def test_failed_cancellation_shows_a_message(fake, invoice, staff, paths, answer, views, text):
    """Only the status in the list counts: the invoice stays open and the page says why."""
    fake.invoices.append(bitsby.invoice_item(invoice, views=views))
    for path in paths:
        fake.on(path, answer)

    shown = message_after(staff, cancel(staff, invoice))

    assert "The invoice was not cancelled" in shown
    assert text in shown
    invoice.refresh_from_db()
    assert invoice.status == "unpaid"
    assert (form_actions(order_tab(staff, invoice.order), "/cancel/") == []) == bool(views)


def test_cancellation_whose_response_is_lost_is_found_by_the_refresh(
    fake, cancellable, invoice, staff
):
    """When Bitsby cancelled but its answer was lost, the list shows it."""
    fake.on(CANCEL, lambda fields: cancellable.update(status="canceled") or (502, {}, ""))

    assert "The invoice is cancelled." in message_after(staff, cancel(staff, invoice))


def test_cancelling_an_invoice_paid_meanwhile_books_the_payment(fake, invoice, staff):
    """The cancellation fails, and the payment is booked."""
    payment = bitsby.transfer("10.00000000")
    fake.invoices.append(bitsby.invoice_item(invoice, "paid", payment=payment))
    fake.on(CANCEL, bitsby.error("Only an unpaid invoice can be canceled"))

    assert "The invoice was not cancelled" in message_after(staff, cancel(staff, invoice))

    assert bookings_of(invoice.order) == [(payment["id"], "10.00")]


@pytest.mark.usefixtures("cancellable")
def test_invoice_of_a_deleted_order_can_be_refreshed_and_cancelled(invoice, staff):
    """Without an order, the actions lead back to the list of invoices."""
    delete_order(invoice.order)

    for name, text in (("refresh", "waiting for payment"), ("cancel", "is cancelled")):
        response = staff.post(invoice_url(invoice, name))
        assert response["Location"].startswith(reverse(INVOICES))
        assert text in message_after(staff, response)
    assert len(admin_log_of(staff.user)) == 1
