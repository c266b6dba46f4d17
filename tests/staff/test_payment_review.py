"""The list of payments to review, open and resolved."""

import datetime as dt
import re

import pytest
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
    assert_constant_queries,
    bind_url,
    bookings_of,
    create_payments,
    delete_order,
    log_in,
    payment_card,
    payment_cards,
    perform,
    receive_payment,
)

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db

ACTIONS = ["accept", "settle", "dismiss", "undo"]


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

    assert "9.9 USDT" in card.text
    assert "about $9.90" in card.text
    assert "Unmatched payment" in card.text
    assert bitsby.wallet()["address"] in card.text
    assert "tron" in card.text
    assert f"https://tronscan.org/#/transaction/{payment.hash}" in card.links
    assert f"May be for order {invoice.order_number}" in card.text
    assert "(Pending, $10.00)" in card.text
    assert "same wallet as reserved, inside the invoice's time, 1.0 % less than asked" in card.text
    bind = f"{bind_url('dashboard', invoice.order)}?payment={payment.bitsby_id}"
    assert bind in card.links
    assert actions_offered(card, payment) == ["dismiss"]


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
    own, right = invoice_for(place()), invoice_for(place())
    (payment,) = create_payments(
        1, amount=10, wallet_id=bitsby.TRON, invoice=own, review_reason="short"
    )
    own.order.delete()

    card = payment_card(staff, payment)

    assert f"May be for order {right.order_number}" in card.text
    page = reverse("dashboard:order-detail", args=[right.order_number])
    assert f"{page}#bitsby" in card.links
    assert "" not in card.links


def test_invoice_newer_than_the_payment_is_not_suggested(place, invoice_for, staff, monkeypatch):
    """Only the newest invoices are compared; if one may be missing, the list says so."""
    monkeypatch.setattr("oscar_bitsby.accounting.offers.MAX_INVOICES", 3)
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


WRONG_AMOUNT = "asked: $10.00, difference: "


@pytest.mark.parametrize(
    ("name", "texts", "actions"),
    [
        ("short", ["less than the order's total", f"{WRONG_AMOUNT}-$2.00"], ["accept", "dismiss"]),
        ("over", ["more than", f"{WRONG_AMOUNT}$2.50"], ["accept", "dismiss"]),
        (
            "late",
            ["arrived after the order was cancelled", "(Cancelled)"],
            ["accept", "settle", "dismiss"],
        ),
        (
            "mismatch",
            ["another amount, currency or project", "The payment is not booked."],
            ["accept", "dismiss"],
        ),
        ("no_value", ["8 ETH", "unknown value"], ["accept", "dismiss"]),
        ("unknown_invoice", ["invoice that this shop does not know", "9.9 USDT"], ["dismiss"]),
    ],
)
def test_payment_is_listed_with_its_reason_and_actions(request, staff, name, texts, actions):
    """Each payment to review has its reason, its order, whether it is booked, and its actions."""
    payment = request.getfixturevalue(name)

    card = payment_card(staff, payment)

    text = card.text.replace(" ,", ",")
    for expected in texts:
        assert expected in text
    assert actions_offered(card, payment) == actions
    is_booked = payment.booked_at is not None
    assert bool(re.search(r"(?<!not )\bbooked\b", text)) is is_booked
    assert ("difference" in text) is (payment.fiat_value is not None)
    if payment.invoice is not None:
        assert f"Order {payment.invoice.order_number}" in text


def primary_of(card):
    """Return the URLs of a card's main actions."""
    return re.findall(r'<a class="btn btn-primary[^"]*" href="([^"]+)"', card.html)


def refund_url(payment):
    return reverse("oscar_bitsby:dashboard-refund-payment", args=[payment.pk])


def test_second_payment_for_a_paid_order_is_to_be_refunded_not_bound(
    fake, place, invoice_for, refunder
):
    """It repeats a paid order's amount: no other order is suggested, and refunding comes first."""
    hour_ago = timezone.now() - dt.timedelta(hours=1)
    paid = invoice_for(place(), created_at=hour_ago)
    receive_payment(fake, paid, "10.00000000")
    invoice_for(place("4.00"), created_at=hour_ago)
    second = receive_payment(fake, amount="10.00000000")

    card = payment_card(refunder, second)

    assert f"Looks like a second payment for order {paid.order_number}" in card.text
    assert primary_of(card) == [f"{refund_url(second)}?order={paid.order_id}"]
    assert not [url for url in card.links if "/bind/" in url]


@pytest.mark.parametrize("amount", ["4.00000000", "16.00000000"])
def test_order_that_is_not_likely_has_no_primary_button(fake, invoice, refunder, amount):
    """A payment that differs by more than half is not called likely, and binding is not urged."""
    payment = receive_payment(fake, amount=amount)

    card = payment_card(refunder, payment)

    assert primary_of(card) == []
    assert "(not likely)" in card.text
    assert "Find out whose payment it is." in card.text


def test_link_to_bind_names_the_payment(fake, invoice, staff):
    """The main action of a likely payment leads to its order's page, with the payment chosen."""
    payment = receive_payment(fake, amount="9.00000000")

    (url,) = primary_of(payment_card(staff, payment))

    assert url == f"{bind_url('dashboard', invoice.order)}?payment={payment.bitsby_id}"


@pytest.mark.parametrize(
    ("name", "label"),
    [("over", "Refund the surplus"), ("second", "Refund"), ("rest_missing", "Refund")],
)
def test_refund_is_the_main_action_where_money_goes_back(request, refunder, staff, name, label):
    """It is offered to those who may refund only; for the others it is no link."""
    payment = request.getfixturevalue("short")
    BitsbyPayment.objects.filter(pk=payment.pk).update(review_reason=name)

    card = payment_card(refunder, payment)

    assert primary_of(card) == [refund_url(payment)]
    assert label in card.text
    assert refund_url(payment) not in payment_card(staff, payment).links


def test_every_reason_of_a_payment_is_shown(short, staff):
    """A payment that is late and short says both."""
    BitsbyPayment.objects.update(review_reason="late", further_reasons="short")

    text = payment_card(staff, short).text

    assert "arrived after the order was cancelled" in text
    assert "less than the order's total" in text


def test_payment_with_an_open_refund_leads_to_it(short, refunder):
    """Nothing else can be decided until the refund is finished or cancelled."""
    refund = short.refunds.create(cryptocurrency="usdt", blockchain="tron", coin_amount=8)

    card = payment_card(refunder, short)

    assert primary_of(card) == [reverse("oscar_bitsby:dashboard-refund", args=[refund.pk])]
    assert "Wait for the address, or enter it" in card.text
    assert actions_offered(card, short) == []


def test_payment_with_a_refund_to_be_sent_says_so(short, refunder):
    """Once the address is known, the coins wait to be sent."""
    short.refunds.create(
        cryptocurrency="usdt", blockchain="tron", coin_amount=8, state="address_given"
    )

    assert "Send the coins and enter the transaction hash" in payment_card(refunder, short).text


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


@pytest.fixture
def over(fake, invoice):
    """A bound payment of more than was asked; it is booked and its order is paid."""
    return receive_payment(fake, invoice, "12.5")


@pytest.fixture
def unknown_invoice(fake, place, invoice_for):
    """A payment bound to an unknown invoice, and an open invoice that it would match."""
    ago = timezone.now() - dt.timedelta(minutes=10)
    invoice = invoice_for(place(), created_at=ago)
    remote = bitsby.invoice_item(invoice, "paid", id=str(bitsby.new_id()), uid="unknown")
    item = bitsby.payment_item(bitsby.transfer("9.90000000"), remote)
    fake.payments.append(item)
    receive_payment(fake, amount="1.00000000")
    payment = BitsbyPayment.objects.get(bitsby_id=item["id"])
    assert payment.review_reason == "unknown_invoice"
    return payment


def actions_offered(card, payment):
    """Return the actions on a payment that its card links to."""
    paths = [url.partition("?")[0] for url in card.links]
    return [action for action in ACTIONS if act_url(payment, action) in paths]


def test_payment_of_an_unknown_invoice_cannot_be_bound(unknown_invoice, staff):
    """Bitsby would refuse it, and the binding page does not list it: there is no such link."""
    card = payment_card(staff, unknown_invoice)

    assert [url for url in card.links if url and url.endswith("/bind/")] == []


def test_payment_of_a_deleted_order_stays_listed(short, staff):
    """After its order was deleted, a payment is still listed and can be dismissed."""
    delete_order(short.invoice.order)

    card = payment_card(staff, short)
    assert "less than the order's total" in card.text
    assert act_url(short, "accept") not in card.links
    listed = " ".join(Page(staff.get(reverse(INVOICES))).rows())
    assert f"{short.invoice.order_number} (deleted)" in listed

    assert "does not belong to an order" in perform(staff, short, "accept", note="x")
    assert "Dismissed" in perform(staff, short, "dismiss", note="refunded")
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
    first, second = (receive_payment(fake, amount=amount) for amount in ("1.0000", "2.0000"))
    perform(staff, first, "dismiss", note="not ours")
    perform(staff, second, "dismiss", note="sent back")

    newest, oldest = payment_cards(staff.get(reverse(INBOX) + "?show=done"))

    assert second.hash[:20] in newest.text
    assert first.hash[:20] in oldest.text
    assert "dismissed by staff" in oldest.text
    assert "not ours" in oldest.text
    assert actions_offered(oldest, first) == ["undo"]
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
    payments = create_payments(60)

    seen = []
    for number in (1, 2, 3):
        response = staff.get(reverse(INBOX), {"page": number})
        seen += re.findall(r"hash\d{4}", " ".join(card.text for card in payment_cards(response)))
        assert f"Page {number} of 3" in Page(response).text

    assert seen == [row.hash for row in reversed(payments)]
    assert "?page=2" in Page(staff.get(reverse(INBOX))).links


@pytest.mark.parametrize("query", ["", "?show=done"], ids=["waiting", "done"])
def test_payments_of_the_same_moment_have_a_fixed_order(staff, query):
    """Ties are broken by the key, so that no row falls between two pages of PostgreSQL's."""
    response = staff.get(reverse(INBOX) + query)

    order = response.context["paginator"].object_list.query.order_by
    assert order[-1] in ("pk", "-pk", "id", "-id")


@pytest.mark.parametrize("query", ["", "?show=done"], ids=["waiting", "done"])
def test_list_of_payments_needs_a_constant_number_of_queries(place, invoice_for, staff, query):
    """Twenty rows cost no more queries than five, and not more than fifteen."""
    colleagues = [log_in(f"c{number}").user for number in range(3)]

    def create_rows(numbers):
        for number in numbers:
            resolved = {
                "resolved_at": timezone.now(),
                "resolution": "dismissed",
                "resolved_by": colleagues[number % 3],
            }
            bound = {
                "invoice": invoice_for(place(), "paid"),
                "fiat_value": 8,
                "currency": "USD",
                "review_reason": "short",
            }
            (payment,) = create_payments(
                1, **(bound if number % 2 else {}), **(resolved if query else {})
            )
            if number % 3:
                payment.refunds.create(cryptocurrency="usdt", blockchain="tron", coin_amount=1)
            invoice_for(place())

    response = assert_constant_queries(staff, reverse(INBOX) + query, create_rows)

    assert len(payment_cards(response)) == 20


@pytest.mark.parametrize(
    ("action", "effect"),
    [
        ("accept", "Its order becomes paid"),
        ("settle", "cancelled order becomes paid"),
        ("dismiss", "leave Payments to review"),
        ("undo", "in Payments to review again"),
    ],
)
def test_confirmation_names_the_payment_and_the_effect(short, staff, action, effect):
    """The page names the payment, its order and what will happen."""
    page = Page(staff.get(act_url(short, action)))

    assert "8 USDT ($8.00)" in page.text
    assert f"order {short.invoice.order_number} (Being processed)" in page.text
    assert effect in page.text
    assert reverse(INBOX) in page.links
