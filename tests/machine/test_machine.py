"""Random histories of buyers, staff, clocks, deliveries, runs and faults lose and double no money.

``HYPOTHESIS_PROFILE=nightly`` runs tens of thousands of steps.
"""

from decimal import Decimal

from oscar_bitsby.choices import ReviewReason
from oscar_bitsby.models import BitsbyPayment
from tests.machine.common import BITCOIN, MINUTE, TRON, counts
from tests.machine.fake_gateway import Quirks
from tests.machine.runner import PROFILE, PROFILES, run

#: Histories in which less than this happens prove too little.
FEWEST = {
    "ci": {
        "steps": 500,
        "bookings": 25,
        "bindings": 2,
        "orders cancelled": 15,
        "second invoices": 3,
        "second payments": 2,
        "late money": 2,
        "refunds: send": 3,
        "clicks: rest": 3,
    },
    "nightly": {
        "steps": 20_000,
        "bookings": 1000,
        "bindings": 100,
        "orders cancelled": 1000,
        "second invoices": 200,
        "second payments": 50,
        "late money": 100,
        "refunds: send": 100,
        "clicks: rest": 100,
    },
}


def test_no_history_loses_or_doubles_money(connected_app, capsys):
    """Whatever buyers, staff, Bitsby and the network do, every invariant holds."""
    run(**PROFILES[PROFILE])

    with capsys.disabled():
        found = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))
        print(f"\nmachine ({PROFILE}): {found}")
    for what, number in FEWEST[PROFILE].items():
        assert counts[what] >= number


def test_payment_on_an_invoice_whose_answer_was_lost_waits_for_review(shop):
    """A payment on an invoice of our project whose id the shop never got waits for review."""
    shop.place_order("10.00")
    shop.trouble(["done, lost"])
    shop.click_pay(0, opens=True)
    shop.wait(6 * MINUTE)
    shop.click_pay(0, opens=True)
    shop.pay(0, "round", TRON, 1)
    shop.reconcile_undisturbed()

    row = BitsbyPayment.objects.get()
    assert (row.review_reason, row.is_foreign) == (ReviewReason.UNKNOWN_INVOICE, False)


def is_booked(payment):
    return BitsbyPayment.objects.get(bitsby_id=payment.id).booked_at is not None


def test_payments_of_one_moment_do_not_hide_a_later_one(shop):
    """Payments that were all made in one moment say nothing about the order of the list."""
    shop.open(Quirks(order="oldest", page_size=10))
    shop.order_and_click("10.00", opens=True)
    for number in range(12):
        shop.remote.transfer(BITCOIN, Decimal(7 + number))
    shop.reconcile_undisturbed()
    shop.wait(12)
    payment = shop.pay_newest("exact", TRON)
    shop.reconcile_undisturbed()

    assert is_booked(payment)


def test_payment_that_is_bound_late_is_booked_by_the_next_overlap_sync(shop):
    """An incremental sync may stop above a payment that was bound late, an overlap sync not."""
    shop.open(Quirks(page_size=10))
    shop.order_and_click("10.00", opens=True)
    payment = shop.pay_newest("short", TRON)
    for _ in range(12):
        shop.receive_foreign_payments(1)
        shop.wait(1)
    shop.reconcile_undisturbed()
    shop.bind_newest(payment, "merchant")
    shop.wait(6 * MINUTE)
    shop.reconcile_undisturbed()
    assert not is_booked(payment)

    shop.wait(56 * MINUTE)
    shop.reconcile_undisturbed()

    assert is_booked(payment)
