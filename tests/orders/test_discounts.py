"""Vouchers and offers of an order that is cancelled and reopened."""

from decimal import Decimal

import pytest
from django.contrib.auth import get_user_model
from oscar.core.loading import get_model

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.orders import transitions
from oscar_bitsby.orders.transitions import UsedUpDiscount
from tests.support.ordering import create_site_offer, create_voucher, place_order

ConditionalOffer = get_model("offer", "ConditionalOffer")
Order = get_model("order", "Order")
Voucher = get_model("voucher", "Voucher")
VoucherApplication = get_model("voucher", "VoucherApplication")

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def pipeline(monkeypatch):
    """Let a cancelled order become pending again."""
    monkeypatch.setattr(Order, "pipeline", Order.pipeline | {"Cancelled": ("Pending",)})


@pytest.fixture
def user(db):
    """A customer with an account."""
    return get_user_model().objects.create_user("ada", "ada@example.com", "secret")


@pytest.fixture
def place(product, invoice_for):
    """Return a function that places an order of a mug, with an expired invoice."""

    def run(voucher=None, user=None):
        if voucher is not None:
            voucher = Voucher.objects.get(pk=voucher.pk)
        order = place_order({product: 1}, voucher, user)
        invoice_for(order, InvoiceStatus.EXPIRED)
        return order

    return run


def cancel(order):
    assert transitions.change_order_status(order, "Cancelled", "Not paid.")
    transitions.release_order(order)


def reopen(order):
    return transitions.reopen_order(order, "Pending", "Paid late.")


def counts():
    """Return what vouchers and offers count, and which orders use a voucher."""
    offers = ConditionalOffer.objects.order_by("pk")
    return {
        "vouchers": list(Voucher.objects.values_list("num_orders", "total_discount")),
        "uses": sorted(VoucherApplication.objects.values_list("order_id", "voucher_id", "user_id")),
        "offers": list(
            offers.values_list("num_applications", "num_orders", "total_discount", "status")
        ),
    }


def voucher_of_a_limited_offer():
    voucher = create_voucher()
    ConditionalOffer.objects.update(max_discount=1)
    return voucher


def limit_applications():
    create_site_offer(max_global_applications=1)


def limit_discount():
    create_site_offer(max_discount=Decimal("1.00"))


DISCOUNTS = [create_voucher, voucher_of_a_limited_offer, limit_applications, limit_discount]


# Releasing and taking again


@pytest.mark.parametrize("create", DISCOUNTS)
def test_cancelling_and_reopening_again_and_again_balances(create, place, user):
    """Each cancelling releases everything once, and each reopening takes everything once."""
    voucher = create()
    before = counts()
    order = place(voucher, user)
    assert order.total_incl_tax == Decimal("8.00")
    placed = counts()
    assert placed != before

    for _ in range(2):
        cancel(order)
        assert counts() == before
        assert reopen(order)
        assert counts() == placed


@pytest.mark.parametrize("create", [limit_applications, limit_discount])
def test_site_offer_of_a_cancelled_order_is_given_to_the_next_one(create, place):
    """An offer that reached its limit is open again, and again used up after the next order."""
    create()
    order = place()
    assert place().total_incl_tax == Decimal("10.00")

    cancel(order)

    assert [place().total_incl_tax for _ in range(2)] == [Decimal("8.00"), Decimal("10.00")]


def test_suspended_offer_stays_suspended(place):
    """Releasing does not offer again what staff have suspended."""
    offer = create_site_offer(max_global_applications=1)
    order = place()
    ConditionalOffer.objects.get(pk=offer.pk).suspend()

    cancel(order)

    assert counts()["offers"] == [(0, 0, 0, offer.SUSPENDED)]


@pytest.mark.parametrize("create", DISCOUNTS)
def test_order_that_was_put_back_by_hand_releases_its_discounts_once(create, place):
    """Discounts that the order did not take again are not released a second time."""
    voucher = create()
    order = place(voucher)
    cancel(order)
    ConditionalOffer.objects.update(num_applications=5, num_orders=5, total_discount=9)
    Voucher.objects.update(num_orders=5, total_discount=9)
    before = counts()
    order.set_status("Pending")

    cancel(order)

    assert counts() == before


@pytest.mark.parametrize("create", DISCOUNTS)
def test_discounts_that_were_not_released_are_not_taken_twice(create, place):
    """An order that staff cancelled in the dashboard still has its discounts."""
    order = place(create())
    placed = counts()
    order.set_status("Cancelled")

    assert transitions.used_up_discounts(order) == []
    assert reopen(order)

    assert counts() == placed


@pytest.mark.parametrize("create", DISCOUNTS)
def test_order_that_cannot_be_reopened_takes_no_discount(create, place, product):
    """Without stock, vouchers and offers stay released, and a later reopening takes them."""
    order = place(create())
    placed = counts()
    cancel(order)
    released = counts()
    product.stockrecords.update(num_in_stock=0)

    assert not reopen(order)
    assert counts() == released

    product.stockrecords.update(num_in_stock=5)
    assert reopen(order)
    assert counts() == placed


def test_deleted_voucher_and_offer_do_not_prevent_reopening(place):
    """An order whose voucher and offers no longer exist is reopened."""
    orders = [place(create_voucher())]
    ConditionalOffer.objects.all().delete()
    Voucher.objects.all().delete()
    create_site_offer()
    orders.append(place())
    for order in orders:
        cancel(order)
    ConditionalOffer.objects.all().delete()

    assert [transitions.used_up_discounts(order) for order in orders] == [[], []]
    assert [reopen(order) for order in orders] == [True, True]


def test_use_of_a_voucher_belongs_to_the_customer_again(place, user):
    """A voucher once per customer is used again by the customer of the reopened order."""
    voucher = create_voucher(Voucher.ONCE_PER_CUSTOMER)
    order = place(voucher, user)
    cancel(order)
    assert voucher.is_available_to_user(user)[0]

    assert reopen(order)

    assert not voucher.is_available_to_user(user)[0]


def test_discount_without_a_frequency_is_taken_without_an_application(place):
    """A missing frequency counts as zero."""
    create_site_offer()
    order = place()
    order.discounts.update(frequency=None)
    cancel(order)
    before = ConditionalOffer.objects.get()

    assert reopen(order)

    offer = ConditionalOffer.objects.get()
    assert offer.num_applications == before.num_applications
    assert (offer.num_orders, offer.total_discount) == (1, Decimal("2.00"))


# Used up meanwhile


@pytest.mark.parametrize(
    ("create", "name"),
    [
        (create_voucher, "ONCE"),
        (lambda: create_voucher(Voucher.ONCE_PER_CUSTOMER), "ONCE"),
        (voucher_of_a_limited_offer, "ONCE"),
        (limit_applications, "Sale"),
        (limit_discount, "Sale"),
    ],
    ids=["single use", "once per customer", "voucher's offer", "applications", "discount"],
)
def test_used_up_discount_is_named_and_counted_beyond_its_limit(create, name, place, user):
    """The order is reopened all the same, and cancelling it again releases its use only."""
    voucher = create()
    order = place(voucher, user)
    placed = counts()
    cancel(order)
    assert transitions.used_up_discounts(order) == []
    other = place(voucher, user)
    taken = counts()

    assert transitions.used_up_discounts(order, lock=True) == [
        UsedUpDiscount(name, Decimal("2.00"), "USD")
    ]
    assert str(transitions.used_up_discounts(order)[0]) == f"{name} (2.00 USD)"
    assert reopen(order)

    both = counts()
    assert both["offers"][0][:3] == (2, 2, Decimal("4.00"))
    if voucher:
        assert both["vouchers"] == [(2, Decimal("4.00"))]
        users = {(order.pk, voucher.pk, user.pk), (other.pk, voucher.pk, user.pk)}
        assert set(both["uses"]) == users
    assert transitions.used_up_discounts(order) == []
    cancel(order)
    assert counts() == taken
    assert reopen(order)
    cancel(other)
    assert counts() == placed


def test_voucher_that_others_can_still_use_is_not_used_up(place, user):
    """A voucher for many orders, or used by another customer, is not reported."""
    voucher = create_voucher(Voucher.MULTI_USE)
    order = place(voucher, user)
    cancel(order)
    place(voucher, user)
    assert transitions.used_up_discounts(order) == []
    VoucherApplication.objects.all().delete()

    Voucher.objects.update(usage=Voucher.ONCE_PER_CUSTOMER)
    other = get_user_model().objects.create_user("bob", "bob@example.com", "secret")
    place(voucher, other)

    assert transitions.used_up_discounts(order) == []


def test_voucher_of_a_deleted_account_is_not_used_up(place, user):
    """Nobody has used the voucher instead of a customer whose account was deleted."""
    order = place(create_voucher(Voucher.ONCE_PER_CUSTOMER), user)
    cancel(order)
    user.delete()
    order.refresh_from_db()

    assert transitions.used_up_discounts(order) == []
    assert reopen(order)
    assert VoucherApplication.objects.get().user is None


@pytest.mark.parametrize(
    ("limits", "is_used_up"),
    [
        ({"max_global_applications": 3}, False),
        ({"max_global_applications": 2}, True),
        ({"max_discount": Decimal("2.01")}, False),
        ({"max_discount": Decimal("2.00")}, True),
        ({}, False),
    ],
)
def test_offer_is_used_up_when_it_cannot_be_applied_as_often_again(limits, is_used_up, place):
    """An order that got an offer twice needs two applications, and any discount left."""
    create_site_offer(**limits)
    order = place()
    order.discounts.update(frequency=2)
    cancel(order)
    place()

    assert bool(transitions.used_up_discounts(order)) is is_used_up
