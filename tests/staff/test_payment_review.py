"""The list of payments to review, open and resolved."""

import datetime as dt
import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby.accounting import matching
from oscar_bitsby.accounting.matching import best_match
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from tests.support import bitsby
from tests.support.staff import (
    INBOX,
    INVOICES,
    MAY_BIND,
    Page,
    act_url,
    admin_log_of,
    bind_url,
    bookings_of,
    cancel_unpaid_order,
    create_payments,
    log_in,
    payment_card,
    payment_cards,
    perform,
    receive_payment,
)

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db


@pytest.fixture
def waiting(place, invoice_for):
    """An open invoice of another order, so that runs fetch payments at all."""
    return invoice_for(place("500.00"), wallets=[])


def test_unmatched_payment_is_listed_with_the_order_it_may_be_for(fake, invoice, staff):
    """Amount in coin and fiat, wallet, hash with explorer, suggested order, why, and what to do."""
    ago = timezone.now() - dt.timedelta(minutes=10)
    BitsbyInvoice.objects.filter(pk=invoice.pk).update(created_at=ago)
    payment = receive_payment(fake, amount="9.90000000")

    card = payment_card(staff, payment)

    assert "9.9 usdt" in card.text
    assert "about $9.90" in card.text
    assert "Unmatched payment" in card.text
    assert bitsby.wallet()["address"] in card.text
    assert "tron" in card.text
    assert f"https://tronscan.org/#/transaction/{payment.hash}" in card.links
    assert f"May be for order {invoice.order_number}" in card.text
    assert "(Pending, $10.00)" in card.text
    assert "same wallet as reserved, inside the invoice's time, 1.0 % less than asked" in card.text
    assert bind_url("dashboard", invoice.order) in card.links
    assert act_url(payment, "dismiss") in card.links
    assert act_url(payment, "accept") not in card.links
    assert act_url(payment, "settle") not in card.links
    assert act_url(payment, "undo") not in card.links


def test_unmatched_payment_without_a_matching_order_says_so(fake, waiting, staff):
    """No order is suggested, and the payment can be dismissed."""
    BitsbyInvoice.objects.update(created_at=timezone.now() - dt.timedelta(days=3))
    payment = receive_payment(fake)

    card = payment_card(staff, payment)

    assert "No order matches." in card.text
    assert "May be for" not in card.text
    assert act_url(payment, "dismiss") in card.links


def test_order_deleted_during_the_search_is_not_suggested(place, invoice_for, staff, monkeypatch):
    """An order may be deleted between comparing and reading; the list is still shown."""
    invoice_for(place())
    (payment,) = create_payments(1, amount=10, wallet_id=bitsby.TRON)
    assert "May be for" in payment_card(staff, payment).text

    def compare_and_delete(*compared):
        found = best_match(*compared)
        Order.objects.all().delete()
        return found

    monkeypatch.setattr(matching, "best_match", compare_and_delete)

    card = payment_card(staff, payment)

    assert "No order matches." in card.text


def test_payment_of_a_deleted_order_links_to_the_order_it_may_be_for(place, invoice_for, staff):
    """Every link of a row leads somewhere, also where the payment's own order is gone."""
    gone, right = invoice_for(place()), invoice_for(place())
    (payment,) = create_payments(
        1, amount=10, wallet_id=bitsby.TRON, invoice=gone, review_reason="short"
    )
    gone.order.delete()

    card = payment_card(staff, payment)

    assert f"May be for order {right.order_number}" in card.text
    page = reverse("dashboard:order-detail", args=[right.order_number])
    assert f"{page}#bitsby" in card.links
    assert "" not in card.links


def test_invoice_newer_than_the_payment_is_not_suggested(place, invoice_for, staff, monkeypatch):
    """Only the newest invoices are compared; if one may be missing, the list says so."""
    monkeypatch.setattr("oscar_bitsby.accounting.matching.MAX_INVOICES", 3)
    now = timezone.now()
    days_ago = now - dt.timedelta(days=10)
    (old,) = create_payments(1, amount=10, wallet_id=bitsby.TRON, transaction_at=days_ago)
    right = invoice_for(
        place(), "expired", created_at=days_ago - dt.timedelta(minutes=5), expires_at=days_ago
    )
    assert f"May be for order {right.order_number}" in payment_card(staff, old).text

    create_payments(1, amount=1, hash="another")
    for _ in range(3):
        invoice_for(place())

    text = payment_card(staff, old).text
    assert "May be for" not in text
    assert "No order matches among the newest 150 invoices." in text


@pytest.mark.parametrize(
    ("amount", "words", "difference"),
    [("8.00000000", "less than the order's total", "-$2.00"), ("12.5", "more than", "$2.50")],
)
def test_wrong_amount_is_listed_with_its_difference(
    fake, invoice, staff, amount, words, difference
):
    """A short or excess payment is booked, and its order and difference are shown."""
    payment = receive_payment(fake, invoice, amount)

    card = payment_card(staff, payment)

    assert words in card.text
    assert "booked" in card.text
    assert f"Order {invoice.order_number}" in card.text
    assert f"asked: $10.00 , difference: {difference}" in card.text.replace("$10.00,", "$10.00 ,")
    assert act_url(payment, "accept") in card.links
    assert act_url(payment, "dismiss") in card.links
    assert act_url(payment, "settle") not in card.links


def test_late_payment_offers_to_reinstate_its_order(fake, order, invoice_for, staff):
    """The payment of a cancelled order can be reinstated, accepted and dismissed."""
    payment = receive_payment(fake, cancel_unpaid_order(fake, order, invoice_for), "10.00000000")

    card = payment_card(staff, payment)

    assert "arrived after the order was cancelled" in card.text
    assert "(Cancelled)" in card.text
    for action in ("settle", "accept", "dismiss"):
        assert act_url(payment, action) in card.links


def test_second_payment_is_listed(fake, order, invoice_for, staff):
    """Two paid invoices of one order: both are booked, and the second is a refund to make."""
    first = invoice_for(order, "expired")
    receive_payment(fake, invoice_for(order), "10.00000000")
    invoice_for(order)
    second = receive_payment(fake, first, "10.00000000")

    assert [amount for _, amount in bookings_of(order)] == ["10.00", "10.00"]
    (card,) = payment_cards(staff.get(reverse(INBOX)))
    assert second.hash[:20] in card.text
    assert "the order was already paid" in card.text


def test_payment_of_a_mismatched_invoice_is_listed(fake, invoice, staff):
    """The payment of a mismatched invoice is not booked, and the reason is shown."""
    payment = receive_payment(fake, invoice, amountFiat="1.00")

    card = payment_card(staff, payment)

    assert "another amount, currency or project" in card.text
    assert "The payment is not booked." in card.text
    assert not re.search(r"(?<!not )\bbooked\b", card.text)
    assert act_url(payment, "accept") in card.links


@pytest.fixture
def elsewhere(fake, place, invoice_for):
    """A payment bound to an unknown invoice, and an open invoice that it would match."""
    ago = timezone.now() - dt.timedelta(minutes=10)
    invoice = invoice_for(place(), created_at=ago)
    stranger = bitsby.invoice_item(invoice, "paid", id=str(bitsby.new_id()), uid="elsewhere")
    item = bitsby.payment_item(bitsby.transfer("9.90000000"), stranger)
    fake.payments.append(item)
    receive_payment(fake, amount="1.00000000")
    payment = BitsbyPayment.objects.get(bitsby_id=item["id"])
    assert payment.review_reason == "unknown_invoice"
    return payment


def test_payment_of_an_unknown_invoice_is_listed(elsewhere, staff):
    """A payment bound to an unknown invoice is listed and can be dismissed."""
    card = payment_card(staff, elsewhere)

    assert "invoice that this shop does not know" in card.text
    assert "9.9 usdt" in card.text
    assert act_url(elsewhere, "dismiss") in card.links


def test_payment_bound_elsewhere_cannot_be_bound(elsewhere, staff):
    """Bitsby would refuse it and the binding page does not list it: the row has no such button."""
    card = payment_card(staff, elsewhere)

    assert [url for url in card.links if url and url.endswith("/bind/")] == []


def test_payment_of_unknown_value_is_listed(fake, invoice, staff):
    """A coin without a locked rate shows no value."""
    ether = bitsby.wallet(id="other", cryptocurrency="eth", blockchain="ethereum")
    payment = receive_payment(fake, invoice, "0.00500000", wallet=ether)

    card = payment_card(staff, payment)

    assert "0.005 eth" in card.text
    assert "unknown value" in card.text
    assert "difference" not in card.text
    assert act_url(payment, "accept") in card.links


def test_payment_of_a_deleted_order_stays_listed(fake, invoice, staff):
    """After its order was deleted, a payment is still listed and can be dismissed."""
    payment = receive_payment(fake, invoice)
    number = invoice.order_number
    invoice.order.sources.all().delete()
    Order.objects.filter(pk=invoice.order.pk).delete()

    card = payment_card(staff, payment)
    assert "less than the order's total" in card.text
    assert act_url(payment, "accept") not in card.links
    listed = " ".join(Page(staff.get(reverse(INVOICES))).rows())
    assert f"{number} (deleted)" in listed

    assert "does not belong to an order" in perform(staff, payment, "accept", note="x")
    assert "Dismissed" in perform(staff, payment, "dismiss", note="refunded")
    assert len(admin_log_of(staff.user)) == 1


def test_payments_of_other_projects_are_not_listed(fake, waiting, staff):
    """Payments of another project are neither listed nor counted."""
    foreign = bitsby.invoice_item(
        waiting, "paid", id=str(bitsby.new_id()), projectId=str(bitsby.new_id())
    )
    fake.payments.append(bitsby.payment_item(bitsby.transfer("7.77000000"), foreign))
    receive_payment(fake, waiting, "500.00000000", wallet=bitsby.wallet())

    response = staff.get(reverse(INBOX))

    assert "7.77" not in Page(response).text
    assert BitsbyPayment.objects.filter(is_foreign=True).count() == 1
    done = staff.get(reverse(INBOX) + "?show=done")
    assert "7.77" not in Page(done).text


def test_matched_payment_is_not_listed(fake, invoice, staff):
    """The list is empty when all payments match their orders."""
    receive_payment(fake, invoice, "10.00000000")

    text = Page(staff.get(reverse(INBOX))).text

    assert "All payments are matched" in text
    assert "Bitsby (" not in text


def test_resolved_payments_have_their_own_tab(fake, waiting, staff):
    """How, by whom, when and why; the newest decision first; only dismissals can be undone."""
    first, second = (
        receive_payment(fake, amount="1.00000000"),
        receive_payment(fake, amount="2.00000000"),
    )
    perform(staff, first, "dismiss", note="not ours")
    perform(staff, second, "dismiss", note="sent back")

    response = staff.get(reverse(INBOX) + "?show=done")

    texts = [card.text for card in payment_cards(response)]
    assert [second.hash[:20] in texts[0], first.hash[:20] in texts[1]] == [True, True]
    assert "dismissed by staff" in texts[1]
    assert "not ours" in texts[1]
    assert act_url(first, "undo") in payment_cards(response)[1].links
    assert act_url(first, "dismiss") not in payment_cards(response)[1].links
    assert "All payments are matched" in Page(staff.get(reverse(INBOX))).text


def test_decision_of_a_deleted_user_is_shown(fake, waiting, staff):
    """A decision of a deleted user is shown without the word None."""
    payment = receive_payment(fake)
    leaver = log_in("leaver", *MAY_BIND)
    perform(leaver, payment, "dismiss", note="not ours")
    leaver.user.delete()

    card = payment_card(staff, payment, "?show=done")

    assert "dismissed" in card.text
    assert "None" not in card.text


def test_list_of_payments_has_pages(staff):
    """More rows than fit are paged, none is lost and none shown twice."""
    wanted = create_payments(60)

    seen = []
    for number in (1, 2, 3):
        response = staff.get(reverse(INBOX), {"page": number})
        seen += re.findall(r"hash\d{4}", " ".join(card.text for card in payment_cards(response)))
        assert f"Page {number} of 3" in Page(response).text

    assert seen == [row.hash for row in reversed(wanted)]
    assert "?page=2" in Page(staff.get(reverse(INBOX))).links


@pytest.mark.parametrize("query", ["", "?show=done"], ids=["waiting", "done"])
def test_payments_of_the_same_moment_have_a_fixed_order(staff, query):
    """Ties are broken by the key, so that no row falls between two pages of PostgreSQL's."""
    response = staff.get(reverse(INBOX) + query)

    order = response.context["paginator"].object_list.query.order_by
    assert order[-1] in ("pk", "-pk", "id", "-id")


@pytest.mark.parametrize("done", ["", "?show=done"], ids=["waiting", "done"])
def test_list_of_payments_needs_a_constant_number_of_queries(
    place, invoice_for, staff, done, django_assert_max_num_queries
):
    """Twenty rows cost no more queries than five, and not more than fifteen."""
    colleagues = [log_in(f"c{number}").user for number in range(3)]

    def add(number):
        for count in range(number):
            invoice = invoice_for(place(), "paid")
            kinds = [
                {"invoice": invoice, "fiat_value": 8, "currency": "USD", "review_reason": "short"},
                {},
            ]
            for values in kinds:
                resolved = {
                    "resolved_at": timezone.now(),
                    "resolution": "dismissed",
                    "resolved_by": colleagues[count % 3],
                }
                create_payments(1, **values, **(resolved if done else {}))
            invoice_for(place())

    add(3)
    staff.get(reverse(INBOX) + done)
    with CaptureQueriesContext(connection) as few:
        assert len(payment_cards(staff.get(reverse(INBOX) + done))) == 6
    add(7)
    with django_assert_max_num_queries(15) as many:
        assert len(payment_cards(staff.get(reverse(INBOX) + done))) == 20
    assert len(many) == len(few)


def test_confirmation_names_the_payment_and_the_effect(fake, invoice, staff):
    """The page names the payment, its order and what will happen."""
    payment = receive_payment(fake, invoice)
    for action, words in (
        ("accept", "Its order becomes paid"),
        ("settle", "note is added to the order"),
        ("dismiss", "leaves Payments to review"),
        ("undo", "in Payments to review again"),
    ):
        page = Page(staff.get(act_url(payment, action)))
        assert "8 usdt ($8.00)" in page.text
        assert f"order {invoice.order_number} (Being processed)" in page.text
        assert words in page.text
        assert reverse(INBOX) in page.links
