"""Reinstating an order whose voucher or offer may be used up meanwhile."""

from decimal import Decimal
from functools import partial

import pytest
from django.db import transaction
from oscar.core.loading import get_model

from oscar_bitsby.orders import transitions
from oscar_bitsby.staff import review
from tests.support.concurrency import failures, run_together
from tests.support.ordering import create_site_offer, create_voucher, place_order
from tests.support.staff import (
    Page,
    act_url,
    cancel_unpaid_order,
    log_in,
    message_after,
    perform,
    receive_payment,
    resolved,
    status_of,
)

ConditionalOffer = get_model("offer", "ConditionalOffer")
Voucher = get_model("voucher", "Voucher")
VoucherApplication = get_model("voucher", "VoucherApplication")

WARNING = "These discounts of the order have been used up since it was cancelled:"
KEPT = "Used up meanwhile, but the order keeps the discounts that its buyer was promised:"
CHANGED = "A voucher or offer of this order has just been used up. Check it below."


def limit_applications():
    create_site_offer(max_global_applications=1)


pytestmark = pytest.mark.django_db
discounts = pytest.mark.parametrize(
    ("create", "name"), [(create_voucher, "ONCE"), (limit_applications, "Sale")]
)


@pytest.fixture
def place(product):
    """Return a function that places an order of a mug, with a voucher if given."""

    def run(voucher=None):
        if voucher is not None:
            voucher = Voucher.objects.get(pk=voucher.pk)
        return place_order({product: 1}, voucher)

    return run


@pytest.fixture
def pay_late(fake, place, invoice_for):
    """Return a function that places an order, lets a run cancel it, and receives its payment."""

    def run(voucher=None):
        order = place(voucher)
        assert order.total_incl_tax == Decimal("8.00")
        invoice = cancel_unpaid_order(fake, order, invoice_for)
        payment = receive_payment(fake, invoice, "10.00000000")
        assert payment.review_reason == "late"
        return payment

    return run


def uses():
    """Return how many orders vouchers and offers count."""
    assert VoucherApplication.objects.count() == sum(
        voucher.num_orders for voucher in Voucher.objects.all()
    )
    return ConditionalOffer.objects.get().num_orders


def notes_of(payment):
    return " ".join(note.message for note in payment.invoice.order.notes.all())


@discounts
def test_order_is_reinstated_with_its_discount(create, name, pay_late, place, staff):
    """Nobody is warned of a discount that is still available, and it is taken."""
    voucher = create()
    late = pay_late(voucher)
    assert uses() == 0
    assert WARNING not in Page(staff.get(act_url(late, "settle"))).text

    text = perform(staff, late, "settle", note="x")

    assert "is reinstated" in text
    assert KEPT not in text + notes_of(late)
    assert uses() == 1


@discounts
def test_staff_read_before_they_confirm_what_is_used_up(create, name, pay_late, place, staff):
    """The page names it with its value; message and note say that the order keeps it."""
    voucher = create()
    late = pay_late(voucher)
    place(voucher)

    page = Page(staff.get(act_url(late, "settle")))
    text = perform(staff, late, "settle", note="x")

    assert f"{WARNING} {name} ($2.00)" in page.text
    assert WARNING not in Page(staff.get(act_url(late, "dismiss"))).text
    assert f"Order {late.invoice.order.number} is reinstated" in text
    kept = f"{KEPT} {name} (2.00 USD)."
    assert kept in text
    assert kept in notes_of(late)
    assert status_of(late.invoice.order) == "Being processed"
    assert uses() == 2


@discounts
def test_staff_confirm_again_what_was_used_up_after_they_read(create, name, pay_late, place, staff):
    """The page comes back with the warning, and nothing is done before the second confirmation."""
    voucher = create()
    late = pay_late(voucher)
    place(voucher)

    page = Page(staff.post(act_url(late, "settle"), {"note": "x"}))

    assert CHANGED in page.text
    assert f"{name} ($2.00)" in page.text
    assert (status_of(late.invoice.order), resolved(late)) == ("Cancelled", ("", None))
    assert uses() == 1
    fields, _ = page.form_with("note")
    response = staff.post(act_url(late, "settle"), fields | {"note": "x"})
    assert "is reinstated" in message_after(staff, response)


@discounts
def test_discount_that_is_free_again_is_taken_without_a_note(create, name, pay_late, place, staff):
    """What was used up when staff read the page, and is no longer, needs no confirmation."""
    voucher = create()
    late = pay_late(voucher)
    other = place(voucher)
    fields, _ = Page(staff.get(act_url(late, "settle"))).form_with("note")
    assert fields["used_up"] == f"{name} (2.00 USD)"
    transitions.release_order(other)
    uses_before = uses()

    text = message_after(staff, staff.post(act_url(late, "settle"), fields | {"note": "x"}))

    assert "is reinstated" in text
    assert KEPT not in text + notes_of(late)
    assert uses() == uses_before + 1


@discounts
def test_double_click_reads_that_the_payment_is_resolved(create, name, pay_late, place, staff):
    """A form that is sent twice is not asked to confirm again, and takes nothing twice."""
    voucher = create()
    late = pay_late(voucher)
    place(voucher)
    fields, _ = Page(staff.get(act_url(late, "settle"))).form_with("note")

    texts = [
        message_after(staff, staff.post(act_url(late, "settle"), fields | {"note": "x"}))
        for _ in range(2)
    ]

    assert "is reinstated" in texts[0]
    assert "Already resolved" in texts[1]
    assert uses() == 2


def test_warning_is_hidden_for_payments_without_a_cancelled_order(short, unmatched, staff):
    """A payment without an order or of a paid order has no discount to take again."""
    for payment in (short, unmatched):
        page = staff.get(act_url(payment, "settle"))
        assert page.status_code == 200
        assert WARNING not in Page(page).text


def test_order_that_stays_cancelled_takes_no_discount(pay_late, place, product, staff):
    """Without stock no voucher is used, and no note is written."""
    voucher = create_voucher()
    late = pay_late(voucher)
    place(voucher)
    product.stockrecords.update(num_in_stock=0)

    text = perform(staff, late, "settle", note="x")

    assert "not enough stock" in text
    assert KEPT not in text + notes_of(late)
    assert uses() == 1


# Concurrency


@pytest.mark.django_db(transaction=True)
@discounts
def test_of_two_orders_reinstated_at_once_one_is_told(create, name, pay_late):
    """One voucher or offer is left for two orders: exactly one note says that it is used up."""
    voucher = create()
    payments = [pay_late(voucher), pay_late(voucher)]
    users = [log_in("ann").user, log_in("ben").user]

    results = run_together(
        *[
            partial(review.reinstate, payment.pk, user, "x")
            for payment, user in zip(payments, users, strict=True)
        ]
    )

    assert not failures(results)
    assert all("is reinstated" in result.message for result in results)
    for told in ([KEPT in r.message for r in results], [KEPT in notes_of(p) for p in payments]):
        assert sorted(told) == [False, True]
    assert uses() == 2


@pytest.mark.django_db(transaction=True)
def test_voucher_that_is_used_while_its_order_is_reinstated(pay_late, place, staff):
    """Either the new order is refused the voucher, or the note says that it is used up."""
    voucher = create_voucher()
    late = pay_late(voucher)

    def place_other():
        with transaction.atomic():
            return place(voucher)

    result, placed = run_together(partial(review.reinstate, late.pk, staff.user, "x"), place_other)

    assert not failures([result])
    assert not failures([placed], ValueError)
    has_discount = not isinstance(placed, Exception) and placed.discounts.exists()
    assert (KEPT in notes_of(late)) == has_discount
    assert VoucherApplication.objects.count() == 1 + has_discount
