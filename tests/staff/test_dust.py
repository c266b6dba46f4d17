"""Dust: transfers worth so little that no buyer can mean them, and that anybody can send."""

import datetime as dt

import pytest
from django.urls import reverse
from django.utils import timezone

from oscar_bitsby import reconciliation
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.orders import signed_urls
from tests.support import bitsby
from tests.support.staff import (
    INBOX,
    Page,
    act_url,
    add_unbound_payment,
    admin_log_of,
    assert_constant_queries,
    bind_url,
    bookings_of,
    create_payments,
    fetch_payments,
    log_in,
    message_after,
    payment_cards,
    perform,
    receive_payment,
    resolved,
    status_of,
)

pytestmark = pytest.mark.django_db

DUST = "0.00000100"
#: More payments than any list is read to.
MANY = 201
TAB = "?show=dust"


@pytest.fixture
def wrong_amount(fake, invoice):
    """A buyer's payment of too little, older than the payments that a test adds."""
    at = bitsby.written(timezone.now() - dt.timedelta(seconds=30))
    return add_unbound_payment(fake, "8.00000000", transactionDatetime=at)


@pytest.fixture(params=[DUST, "0.50000000"], ids=["dust", "small"])
def flood(request, fake, wrong_amount):
    """Many transfers after the buyer's payment; each is too small to be meant for the invoice."""
    for _ in range(MANY):
        add_unbound_payment(fake, request.param)
    reconciliation.reconcile()
    assert BitsbyPayment.objects.count() == MANY + 1


@pytest.fixture
def dust(invoice):
    """Three payments that are dust, the newest last."""
    return create_payments(3, amount=DUST, is_dust=True)


def listed(client, query=""):
    """Return the text of a tab of the payments to review."""
    return Page(client.get(reverse(INBOX) + query)).text


def dismiss(client, **values):
    """Choose payments on the tab, confirm with a reason; return what is then said."""
    fields, _ = Page(client.get(reverse(INBOX) + TAB)).form_with("listed")
    note = values.pop("note", "spam")
    chosen = {"csrfmiddlewaretoken": fields["csrfmiddlewaretoken"]} | values
    url = reverse("oscar_bitsby:dashboard-dismiss") + "?list=show%3Ddust"
    response = client.post(url, chosen)
    if response.status_code == 302:
        return message_after(client, response)
    response = client.post(url, chosen | {"note": note})
    return message_after(client, response) if response.status_code == 302 else Page(response).text


def ids_of(payments):
    return [str(payment.bitsby_id) for payment in payments]


# What it must not hide


@pytest.mark.usefixtures("flood")
def test_many_small_transfers_do_not_hide_a_wrong_amount_from_its_buyer(invoice, client):
    """The buyer's page says that a payment of a different amount was seen."""
    page = Page(client.get(signed_urls.order_url(invoice.order)))

    assert "We've seen a payment for a different amount." in page.text


@pytest.mark.usefixtures("flood")
def test_many_small_transfers_do_not_hide_a_wrong_amount_from_the_binding_page(
    wrong_amount, invoice, staff, interface
):
    """The payment that may be the buyer's is offered, and first."""
    page = Page(staff.get(bind_url(interface, invoice.order)))

    assert page.form_with("payment_id")[1]["payment"][0] == wrong_amount["id"]


def test_binding_page_offers_no_dust(fake, invoice, staff, interface):
    """Dust is not in the list; who knows its id can still bind it."""
    dust = receive_payment(fake, amount=DUST)
    url = bind_url(interface, invoice.order)

    page = Page(fetch_payments(staff, url))
    typed = Page(staff.post(url, {"payment_id": str(dust.bitsby_id)}))

    assert page.form_with("payment_id")[1] == {}
    assert "What will happen" in typed.text


def test_dust_is_listed_apart_and_not_counted(fake, wrong_amount, staff):
    """Open shows and the navigation counts only the payment that needs a person."""
    items = [add_unbound_payment(fake, DUST) for _ in range(3)]
    reconciliation.reconcile()

    inbox = staff.get(reverse(INBOX))
    text = listed(staff, TAB)

    (card,) = payment_cards(inbox)
    assert wrong_amount["hash"][:20] in card.text
    assert "Bitsby (1)" in Page(inbox).text
    for item in items:
        assert item["id"] in text
    assert "0.000001 USDT (tron)" in text
    assert wrong_amount["id"] not in text


# What is dust


@pytest.mark.parametrize(
    ("amount", "is_dust"), [("0", True), ("0.09999999", True), ("0.10000000", False)]
)
def test_payment_of_less_than_a_hundredth_of_the_smallest_invoice_is_dust(
    fake, place, invoice_for, amount, is_dust
):
    """The smallest invoice that the payment can be meant for counts, whatever its status."""
    large = bitsby.reserved("500.00")
    wallets = [{**wallet, "amount": wallet["amountCrypto"]} for wallet in large]
    invoice_for(place(), "expired")
    invoice_for(place("500.00"), wallets=wallets)

    assert receive_payment(fake, amount=amount).is_dust is is_dust


def test_payment_in_a_coin_that_no_invoice_reserved_is_not_dust(fake, invoice):
    """Without a rate nobody knows what it is worth."""
    ether = bitsby.wallet(id="other", cryptocurrency="eth")

    assert not receive_payment(fake, amount=DUST, wallet=ether).is_dust


@pytest.mark.parametrize("wallets", [None, []], ids=["long ago", "other coin"])
def test_older_invoices_tell_what_is_dust_in_a_quiet_shop(fake, place, invoice_for, wallets):
    """Without a recent invoice in its coin, a payment is compared with older ones."""
    long_ago = timezone.now() - dt.timedelta(days=20)
    invoice_for(place(), created_at=long_ago, expires_at=long_ago)
    if wallets is not None:
        invoice_for(place(), wallets=wallets)

    assert receive_payment(fake, amount=DUST).is_dust


def test_dust_that_is_bound_is_settled_as_usual(fake, invoice, staff):
    """Once bound at Bitsby it is booked, and needs a decision like any other short payment."""
    fake.invoices.append(bitsby.invoice_item(invoice))
    dust = receive_payment(fake, amount="0.09000000")
    assert dust.is_dust
    item = next(one for one in fake.payments if one["id"] == str(dust.bitsby_id))
    transfer = {name: item[name] for name in ("id", "amount", "hash", "transactionDatetime")}
    fake.invoices[0] = bitsby.invoice_item(invoice, "paid", payment=transfer)
    item["invoice"] = bitsby.invoice_item(invoice, "paid")

    reconciliation.reconcile()

    dust.refresh_from_db()
    assert (dust.is_dust, dust.review_reason) == (False, "short")
    assert bookings_of(invoice.order) == [(item["id"], "0.09")]
    assert status_of(invoice.order) == "Being processed"
    assert "Bitsby (1)" in listed(staff)
    assert item["id"] not in listed(staff, TAB)


# Dismissing it


def test_several_are_dismissed_at_once_and_each_is_logged(dust, staff):
    """The chosen ones leave the list, each with an entry in the admin log; the others stay."""
    text = dismiss(staff, payment=ids_of(dust[:2]), note="spam of Monday")

    assert "2 payments are dismissed." in text
    assert [resolved(payment) for payment in dust] == [("dismissed", "staff")] * 2 + [("", None)]
    assert len(admin_log_of(staff.user)) == 2
    assert all("spam of Monday" in entry for entry in admin_log_of(staff.user))
    assert ids_of(dust)[2] in text
    assert "The payment is in Payments to review again." in perform(staff, dust[0], "undo")
    assert ids_of(dust)[0] in listed(staff, TAB)


def test_one_box_dismisses_the_whole_page(dust, staff):
    """With it, everything that the page listed is dismissed, and nothing that came later."""
    later = create_payments(1, amount=DUST, is_dust=True)

    text = dismiss(staff, all="1", listed=ids_of(dust))

    assert "3 payments are dismissed." in text
    assert list(BitsbyPayment.objects.needs_review()) == later


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"note": " "}, "Enter a reason"),
        ({"payment": []}, "Choose at least one payment."),
        ({"payment": ["rubbish", "9" * 40]}, "Choose at least one payment."),
        ({"payment": [str(bitsby.new_id())]}, "Some of the chosen payments no longer exist"),
    ],
    ids=["no reason", "nothing chosen", "not an id", "unknown"],
)
def test_incomplete_form_dismisses_nothing(dust, staff, values, text):
    """Without a reason or a payment nothing happens, and the page says why."""
    assert text in dismiss(staff, **{"payment": ids_of(dust), **values})

    assert BitsbyPayment.objects.needs_review().count() == 3
    assert admin_log_of(staff.user) == []


def test_staff_without_the_permission_see_dust_and_cannot_dismiss_it(dust):
    """They see the list without boxes, and the action is refused."""
    viewer = log_in("viewer", "order.view_order")

    page = Page(viewer.get(reverse(INBOX) + TAB))
    refused = viewer.post(
        reverse("oscar_bitsby:dashboard-dismiss"), {"payment": ids_of(dust), "note": "spam"}
    )

    assert ids_of(dust)[0] in page.text
    assert not any("payment" in form["fields"] for form in page.forms)
    assert refused.status_code == 403
    assert BitsbyPayment.objects.needs_review().count() == 3


def test_one_is_dismissed_as_any_payment(dust, staff):
    """The page of one action works for dust, too."""
    assert staff.get(act_url(dust[0], "dismiss")).status_code == 200
    assert "Dismissed" in perform(staff, dust[0], "dismiss", note="spam")


def test_tab_without_dust_says_so(staff):
    """There is a message and no form."""
    assert "There are no very small payments." in listed(staff, TAB)


def test_tab_needs_a_constant_number_of_queries(invoice, staff):
    """Twenty rows cost no more queries than five, and not more than fifteen."""

    def create_rows(numbers):
        create_payments(len(numbers), amount=DUST, is_dust=True)

    response = assert_constant_queries(staff, reverse(INBOX) + TAB, create_rows)

    assert len(Page(response).rows()) == 21
    assert BitsbyInvoice.objects.count() == 1
