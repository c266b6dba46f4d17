"""An unpaid order is held for ``HOLD_ORDER_FOR`` and no longer, whatever its buyer does."""

import datetime as dt

import pytest
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.choices import MailCode, MailStatus
from oscar_bitsby.exceptions import GatewayError, HoldEnded, NotPayable, PaymentPaused, Refused
from oscar_bitsby.facade import start_payment
from oscar_bitsby.models import BuyerMail
from oscar_bitsby.orders import signed_urls
from tests.support import bitsby
from tests.support.invoices import expired_ago
from tests.support.settling import status_of

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db

HOUR = dt.timedelta(hours=1)


def mails(code):
    """Return how many e-mails of a kind were sent or are to be sent."""
    return BuyerMail.objects.filter(code=code).exclude(status=MailStatus.DROPPED).count()


@pytest.fixture
def click_again(order, fake, move_time):
    """Return a function that clicks again before each cancellation, for so long at most.

    Bitsby creates each invoice, and lists it as expired when its time is over.
    """

    def click(**delta):
        end = timezone.now() + dt.timedelta(**delta)
        while status_of(order) == "Pending" and timezone.now() < end:
            try:
                invoice = start_payment(order.number)
            except NotPayable:
                pass
            else:
                fake.invoices.insert(0, bitsby.invoice_item(invoice, "expired"))
            move_time(minutes=61)
            reconciliation.reconcile()
            move_time(minutes=57)
            reconciliation.reconcile()
        return timezone.now() - order.date_placed

    return click


def test_buyer_who_clicks_again_for_89_days_holds_stock_for_a_day(order, click_again, product):
    """An order of a buyer who always requests a new invoice in time ends after its hold."""
    stock = product.stockrecords.get()
    assert stock.num_allocated == 1

    held_for = click_again(days=89)

    assert status_of(order) == "Cancelled"
    # The last invoice began before the end of the hold.
    assert 24 * HOUR <= held_for <= 26 * HOUR
    assert order.bitsby_invoices.count() <= 13
    stock.refresh_from_db()
    assert stock.num_allocated == 0
    assert mails(MailCode.EXPIRED) <= 2
    assert mails(MailCode.CANCELLED) == 1


def test_without_a_hold_the_order_lives_on_and_sends_two_expired_mails(
    order, click_again, configure
):
    """``None`` is no end, and yet the buyer gets two e-mails about expired invoices at most."""
    configure(HOLD_ORDER_FOR=None)

    click_again(days=3)

    assert status_of(order) == "Pending"
    assert order.bitsby_invoices.count() > 30
    assert mails(MailCode.EXPIRED) == 2


def test_no_invoice_is_created_after_the_hold(order, invoice_for, fake, move_time):
    """At the end of the hold, and not before, the attempt is refused without a request."""
    move_time(hours=23, minutes=59)
    start_payment(order.number).delete()
    fake.requests.clear()
    move_time(minutes=2)
    for values in (None, expired_ago(minutes=5)):
        if values:
            invoice_for(order, **values)
        with pytest.raises(HoldEnded) as caught:
            start_payment(order)
        assert isinstance(caught.value, NotPayable)

    assert fake.requests == []
    assert order.bitsby_invoices.count() == 1


@pytest.mark.parametrize(
    "values",
    [
        {"status": "creating", "bitsby_id": None, "uid": "", "expires_at": None},
        {"amount": 9},
        {"expires_at": timezone.now() + dt.timedelta(hours=20)},
        {"status": "expired", "bitsby_id": None, "uid": "", "ended_at": timezone.now() + 25 * HOUR},
    ],
    ids=["stale attempt", "another amount", "over", "failed attempt"],
)
def test_no_invoice_is_replaced_after_the_hold(order, invoice_for, fake, move_time, values):
    """A live invoice that can no longer be used, and a failed attempt, get no successor."""
    invoice_for(order, **({"expires_at": timezone.now() + 30 * HOUR} | values))
    move_time(hours=25)

    with pytest.raises(HoldEnded):
        start_payment(order)

    assert fake.requests == []
    assert order.bitsby_invoices.count() == 1


def test_live_invoice_can_be_paid_after_the_hold(order, invoice_for, fake, guest, move_time):
    """The hold ends no live invoice: its page says so, a click leads to it, and money settles."""
    invoice = invoice_for(order, expires_at=timezone.now() + 25 * HOUR)
    move_time(hours=24, minutes=30)
    fake.invoices = [bitsby.invoice_item(invoice)]

    assert start_payment(order) == invoice
    assert guest.post(signed_urls.pay_url(order))["Location"] == invoice.url
    assert "Waiting for your payment" in guest.get(signed_urls.order_url(order)).content.decode()
    fake.invoices.clear()
    fake.add_paid(invoice)
    reconciliation.reconcile()

    assert status_of(order) == "Being processed"


@pytest.mark.parametrize("cancel_after", [dt.timedelta(days=9), None])
def test_next_run_cancels_when_the_last_invoice_has_ended(
    order, invoice_for, fake, configure, move_time, cancel_after
):
    """After the hold the run that expires the last invoice cancels, whatever ``CANCEL_AFTER``."""
    configure(CANCEL_AFTER=cancel_after)
    invoice = invoice_for(order, expires_at=timezone.now() + 25 * HOUR)
    fake.invoices = [bitsby.invoice_item(invoice, "unpaid")]
    move_time(hours=24, minutes=30)
    reconciliation.reconcile()
    assert status_of(order) == "Pending"

    move_time(minutes=31)
    fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    reconciliation.reconcile()

    assert status_of(order) == "Cancelled"
    assert "Bitsby reports" in order.notes.get().message
    assert mails(MailCode.CANCELLED) == 1


def test_order_that_is_paid_at_the_last_check_is_not_cancelled(order, invoice_for, fake, move_time):
    """The usual checks stand before the cancellation at the end of the hold."""
    invoice = invoice_for(order, expires_at=timezone.now() + HOUR)
    move_time(hours=25)
    fake.add_paid(invoice)

    reconciliation.reconcile()

    assert status_of(order) == "Being processed"


@pytest.mark.parametrize("has_invoice", [False, True])
def test_page_after_the_hold_offers_to_order_again(
    order, invoice_for, fake, guest, product, move_time, has_invoice
):
    """The pay view leads to the order's page, which says that it is over and how to order again."""
    if has_invoice:
        invoice_for(order, **expired_ago(minutes=30))
    before = guest.get(signed_urls.state_url(order)).json()
    move_time(hours=24)

    answer = guest.post(signed_urls.pay_url(order))

    assert (answer.status_code, answer["Location"]) == (303, signed_urls.order_url(order))
    page = guest.get(answer["Location"]).content.decode()
    assert "The time to pay this order is over" in page
    assert "you can order the same items again" in page
    assert f'action="{signed_urls.pay_url(order)}"' not in page
    assert f'action="{signed_urls.reorder_url(order)}"' in page
    # An open page learns of it.
    assert guest.get(signed_urls.state_url(order)).json()["version"] != before["version"]
    guest.post(signed_urls.reorder_url(order))
    (line,) = guest.get("/basket/").context["basket"].all_lines()
    assert line.product == product


def test_page_after_the_hold_with_a_possible_mismatch(order, invoice_for, fake, guest, move_time):
    """A buyer who may have paid a wrong amount is not told to order again without a warning."""
    fake.payments = [bitsby.payment_item(bitsby.transfer("8.00000000"))]
    invoice_for(order, expires_at=timezone.now() + HOUR)
    reconciliation.reconcile()
    move_time(hours=24)

    page = guest.get(signed_urls.order_url(order)).content.decode()

    assert "Have you already paid?" in page
    assert "please don&#x27;t pay again" in page or "please don't pay again" in page
    assert "you still can" not in page
    assert f'action="{signed_urls.pay_url(order)}"' not in page


def test_order_that_bitsby_never_accepted_is_cancelled_at_the_end_of_its_hold(
    order, fake, product, move_time
):
    """After a refusal the order is kept for the whole hold, and the note tells the refusal."""
    fake.on("/invoices/create", bitsby.error("You have a debt"))
    with pytest.raises(Refused):
        start_payment(order)
    for _ in range(11):
        move_time(hours=2)
        reconciliation.reconcile()
        assert status_of(order) == "Pending"
        with pytest.raises((Refused, PaymentPaused)):
            start_payment(order)
    move_time(hours=2)

    report = reconciliation.reconcile()

    assert (report.cancelled, status_of(order)) == (1, "Cancelled")
    assert product.stockrecords.get().num_allocated == 0
    note = order.notes.get().message
    assert "No invoice could be created for it at Bitsby." in note
    assert note.endswith("You have a debt")


@pytest.mark.parametrize(
    "answer", [bitsby.error("You are blocked"), (500, {}, "oops"), ConnectionError("down")], ids=str
)
@pytest.mark.parametrize("has_attempt", [False, True])
def test_no_order_is_cancelled_in_a_run_without_an_answer(
    order, invoice_for, fake, move_time, answer, has_attempt
):
    """While Bitsby answers nothing, orders without an invoice stay; the next good run cancels."""
    if has_attempt:
        ended = {"ended_at": timezone.now(), "failure": "down"}
        invoice_for(order, "expired", bitsby_id=None, uid="", expires_at=None, **ended)
    for path in ("/invoices/list", "/payments/list"):
        fake.on(path, answer)
    move_time(hours=25)
    for _ in range(2):
        with pytest.raises(GatewayError):
            reconciliation.reconcile()
    assert status_of(order) == "Pending"

    fake.on("/payments/list", fake.payments_list)
    move_time(minutes=11)

    assert reconciliation.reconcile().cancelled == 1
