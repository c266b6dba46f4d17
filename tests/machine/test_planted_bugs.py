"""The machine notices planted bugs, each by the invariant that it violates.

The quick ones are tested in every run, all of them with ``HYPOTHESIS_PROFILE=nightly``.
"""

from contextlib import suppress

import pytest
from hypothesis import Phase

from oscar_bitsby.choices import ReviewReason
from oscar_bitsby.exceptions import RefundRefused
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund
from oscar_bitsby.settlement import refunds
from tests.machine import model, pauses, shop_machine
from tests.machine.common import HOUR, MINUTE, TRON, counts
from tests.machine.fake_gateway import Quirks
from tests.machine.planted_bugs import (
    PLANTED_BUGS,
    asks_for_everything_again,
    assumes_newest_first,
    books_a_refund_twice,
    books_a_refunded_payment,
    cancels_without_an_answer,
    ends_the_run_at_one_answer,
    keeps_no_pause,
    never_expires_an_attempt,
    never_misses_a_rest,
    pauses_background_work,
    pauses_no_other_order,
    refunds_any_amount,
    reinstates_without_stock,
    stores_no_missing_answer,
    writes_in_a_dry_run,
)
from tests.machine.runner import PROFILE, run
from tests.support import invariants

#: Within this many steps a bug must be noticed.
MAX_STEPS = 3000
STEPS_EACH = 40
HISTORIES = {
    "max_examples": MAX_STEPS // STEPS_EACH,
    "stateful_step_count": STEPS_EACH,
    "start": 1,
    "report_multiple_bugs": False,
    "phases": [Phase.generate],
}
IS_NIGHTLY = PROFILE == "nightly"
PLANTED = [plant for plant in PLANTED_BUGS if plant.is_quick or IS_NIGHTLY]


@pytest.mark.parametrize("plant", PLANTED)
def test_planted_bug_is_noticed_by_its_invariant(plant, connected_app, monkeypatch, capsys):
    """The bug violates the invariant that it names; an error of another kind fails the test."""
    plant(monkeypatch.setattr)

    with pytest.raises(AssertionError, match=f"^({'|'.join(plant.messages)})") as found:
        run(**HISTORIES)

    with capsys.disabled():
        first_line = str(found.value).partition("\n")[0]
        print(f"\n{plant.__name__}: {first_line[:90]} ({counts['steps']} steps)")


@pytest.mark.skipif(not IS_NIGHTLY, reason="long; the machine's own test runs other histories")
def test_histories_hold_without_a_planted_bug(connected_app):
    """The same histories violate nothing without a bug."""
    run(**HISTORIES)


def fill_pages_oldest_first(shop):
    """Put a new payment at the end of a list that has several pages and the oldest first."""
    shop.open(Quirks(order="oldest", page_size=10))
    shop.order_and_click("10.00", opens=True)
    shop.fill_pages(age=0, seconds=12)


def reinstate_cancelled_order(shop):
    """Let an order be cancelled, paid late and reinstated."""
    shop.open(Quirks(late="paid"))
    shop.order_and_click("10.00", opens=True)
    for _ in range(2):
        shop.wait(62 * MINUTE)
        shop.reconcile_undisturbed()
    assert not any(shop.holds.values())
    shop.pay_newest("exact", TRON)
    shop.reconcile_undisturbed()
    shop.decide_all("reinstate")
    assert all(shop.holds.values())


def lose_the_answer_to_an_attempt(shop):
    """Let the answer to a request for an invoice be lost, and the buyer not return."""
    shop.trouble(["lost"])
    shop.order_and_click("10.00", opens=False)
    shop._recover()


def find_a_payment_in_a_dry_run(shop):
    """Let a dry run be the first that sees a payment."""
    shop.order_and_click("10.00", opens=True)
    shop.pay_newest("exact", TRON)
    shop.reconcile(dry_run=True)


def answer_an_overdue_invoice_strangely(shop):
    """Let an invoice expire and requests about it get an answer of no use."""
    shop.order_and_click("10.00", opens=True)
    shop.answer_strangely(0, "not found")
    shop.wait(61 * MINUTE)
    shop.reconcile_undisturbed()
    shop._recover()


def refuse_several_orders(shop):
    """Let Bitsby refuse two orders and a third buyer click, then one of the first again."""
    shop.order_and_click("10.00", opens=True)
    shop.block_account(HOUR)
    for _ in range(3):
        shop.order_and_click("10.00", opens=False)
    shop.reconcile_undisturbed()
    shop.wait(2)
    shop.click_pay(1, opens=False)


def refuse_one_order(shop):
    """Let Bitsby refuse an order whose buyer clicks again and again."""
    shop.block_account(HOUR)
    shop.order_and_click("10.00", opens=False)
    for _ in range(30):
        shop.click_pay(0, opens=False)
        shop.wait(2)


def abandon_an_order_while_bitsby_is_down(shop):
    """Let the hold of an order without an invoice end while Bitsby answers nothing."""
    shop.block_account(HOUR)
    shop.order_and_click("10.00", opens=False)
    shop.wait(25 * HOUR)
    shop.trouble(["lost"] * 9)
    shop.reconcile(dry_run=False)
    assert all(shop.holds.values())
    shop.reconcile_undisturbed()
    assert not any(shop.holds.values())


def receive(shop, how, binds="nobody"):
    """Let a buyer pay a wrong amount, and staff bind it or not; return the payment."""
    shop.order_and_click("10.00", opens=True)
    payment = shop.pay_newest(how, TRON)
    shop.reconcile_undisturbed()
    shop.bind_newest(payment, binds)
    shop.reconcile_undisturbed()
    return payment


def bind_a_refunded_payment(shop):
    """Let the merchant bind a payment at Bitsby whose refund was requested before."""
    payment = receive(shop, "short")
    shop.request_refund_of(BitsbyPayment.objects.get(), "all")
    shop.bind_newest(payment, "merchant")
    shop.reconcile_undisturbed()
    shop.check()
    assert BitsbyPayment.objects.get().review_reason == ReviewReason.REBOUND


def refund_a_surplus(shop):
    """Let staff refund what a buyer has paid too much, and everything after that."""
    receive(shop, "over", "staff")
    for part in ("surplus", "all"):
        shop.request_refund_of(BitsbyPayment.objects.get(), part)
        for step in ("address", "send"):
            shop.step_of_refund(BitsbyRefund.objects.open().get(), step)
    shop.check()
    assert model.amount_held(shop.orders[0]) == 0


def refund_more_than_came_in(shop):
    """Let staff try to refund more than came in, with an amount of their own."""
    receive(shop, "short", "staff")
    payment = BitsbyPayment.objects.get()
    with suppress(RefundRefused):
        refunds.request_refund(
            user=shop.staff, note="more", payment=payment, amount=payment.fiat_value + 1
        )


def ask_and_pay_the_rest(shop):
    """Let staff ask a buyer for the rest, who pays it."""
    receive(shop, "short", "asking")
    shop.click_pay(0, opens=True)
    shop.pay_newest("exact", TRON)
    shop.reconcile_undisturbed()
    assert model.amount_held(shop.orders[0]) == 10


def ask_and_wait(shop):
    """Let staff ask a buyer for the rest, who does not return."""
    receive(shop, "short", "asking")
    shop._recover()


#: Histories with the bug that each of them shows, and the invariant that the bug violates.
WRITTEN_OUT = [
    (fill_pages_oldest_first, assumes_newest_first, model.LOST_PAYMENT),
    (reinstate_cancelled_order, reinstates_without_stock, model.LINES_AND_HOLDS),
    (lose_the_answer_to_an_attempt, never_expires_an_attempt, shop_machine.ENDLESS_ATTEMPT),
    (find_a_payment_in_a_dry_run, writes_in_a_dry_run, shop_machine.DRY_RUN_WRITES),
    (answer_an_overdue_invoice_strangely, ends_the_run_at_one_answer, shop_machine.RUN_ENDED),
    (answer_an_overdue_invoice_strangely, stores_no_missing_answer, shop_machine.UNSEEN_SILENCE),
    (bind_a_refunded_payment, books_a_refunded_payment, invariants.BOOKED_AFTER_REFUND),
    (refund_a_surplus, books_a_refund_twice, invariants.REFUNDS_AND_TRANSACTIONS),
    (refund_more_than_came_in, refunds_any_amount, invariants.REFUNDED_TOO_MUCH),
    (ask_and_pay_the_rest, asks_for_everything_again, invariants.ASKED_TOO_MUCH),
    (ask_and_wait, never_misses_a_rest, shop_machine.ENDLESS_RESTS),
    (refuse_one_order, keeps_no_pause, pauses.SENT_IN_PAUSE),
    (refuse_several_orders, pauses_no_other_order, pauses.SENT_IN_SHARED_PAUSE),
    (refuse_several_orders, pauses_background_work, shop_machine.SLOW_RUN),
    (
        abandon_an_order_while_bitsby_is_down,
        cancels_without_an_answer,
        shop_machine.CANCELLED_UNANSWERED,
    ),
]


@pytest.mark.parametrize(("history", "plant", "message"), WRITTEN_OUT)
def test_bug_that_is_seldom_shown_is_noticed_in_its_history(
    shop, monkeypatch, balance_is_fresh, history, plant, message
):
    """A bug that random histories seldom show violates its invariant in a history for it.

    Without the hourly request for the balance, whose time would hide a run that is too slow.
    """
    plant(monkeypatch.setattr)

    with pytest.raises(AssertionError, match=f"^{message}"):
        play(history, shop)


@pytest.mark.parametrize("history", [history for history, _, _ in WRITTEN_OUT])
def test_history_holds_without_its_bug(shop, history):
    """The same history violates nothing without the bug."""
    play(history, shop)


def play(history, shop):
    history(shop)
    shop.check()
