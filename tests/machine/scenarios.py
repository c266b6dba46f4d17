"""Frequent sequences of steps as one rule each, so that much happens in a short history."""

from contextlib import suppress

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.simulator.state import Refused
from tests.machine.common import (
    DAY,
    HOUR,
    MINUTE,
    TRON,
    has_few_payments,
    has_opened_pages,
    has_stock,
    one,
    totals,
    wallets,
)
from tests.machine.fake_gateway import STRANGE_ANSWERS

#: How the shop learns of what happened at Bitsby.
NOTICES = ("delivery", "delivery", "twice", "forged", "run", "run", "page", "none")
notices = st.sampled_from(NOTICES)


class Scenarios:
    """Rules that consist of the other rules' steps."""

    def notify(self, how):
        """Let the shop learn of what happened, or not."""
        if how == "delivery":
            self.deliver_newest()
        elif how == "twice":
            self.deliver_newest()
            self.wait(12)
            self.deliver_newest()
        elif how == "forged":
            self.forge(len(self.invoices()) - 1, "known")
        elif how == "run":
            self.reconcile(False)
        elif how == "page":
            self.open_order_page(len(self.orders) - 1)

    def notify_and_decide(self, how, action):
        """Let the shop learn of what happened, and staff decide on it, or not."""
        self.notify(how)
        if action != "nothing":
            self.decide_all(action)

    def pay_newest(self, how, wallet, times=1):
        """Pay the newest payment page and return the payment; None when no page was opened."""
        if not self.opened_pages:
            return None
        self.pay(len(self.opened_pages) - 1, how, wallet, times)
        return self.remote.all_payments()[-1]

    def bind_newest(self, payment, who):
        """Let staff, the merchant or nobody bind a payment to the newest page's invoice.

        Staff may also ask for the rest in the same step.
        """
        if who in ("staff", "asking"):
            invoice = BitsbyInvoice.objects.get(bitsby_id=self.opened_pages[-1])
            self.bind_pair(invoice, payment, asks=who == "asking")
        elif who == "merchant":
            with suppress(Refused):
                self.remote.bind(self.opened_pages[-1], payment.id)

    @precondition(has_stock)
    @rule(
        total=totals,
        how=st.sampled_from(["exact", "exact", "exact", "short", "over"]),
        wallet=wallets,
        times=st.sampled_from([1, 1, 1, 2]),
        notify=notices,
    )
    def buy(self, total, how, wallet, times, notify):
        """A buyer orders and pays at once, once or twice, the right amount or another."""
        self.order_and_click(total, True)
        self.pay_newest(how, wallet, times)
        self.notify(notify)

    @precondition(has_opened_pages)
    @rule(
        seconds=st.sampled_from([61 * MINUTE, 61 * MINUTE, 3 * HOUR, 3 * HOUR]),
        is_noticed=st.sampled_from([True, True, False]),
        wallet=wallets,
        binds=st.sampled_from(["nobody", "nobody", "staff", "merchant"]),
        notify=notices,
        then=st.sampled_from(["nothing", "accept", "dismiss", "reinstate", "reinstate"]),
    )
    def pay_late(self, seconds, is_noticed, wallet, binds, notify, then):
        """An invoice expires, noticed or not, and its buyer pays it."""
        self.wait(seconds)
        if is_noticed:
            self.reconcile(False)
        payment = self.pay_newest("exact", wallet)
        self.bind_newest(payment, binds)
        self.notify_and_decide(notify, then)

    @precondition(has_opened_pages)
    @rule(wallet=wallets, seconds=st.sampled_from([12, 12, 61 * MINUTE]))
    def dismiss_and_bind(self, wallet, seconds):
        """Staff dismiss a payment on an ended invoice, and the merchant binds it later."""
        self.wait(61 * MINUTE)
        self.reconcile_undisturbed()
        payment = self.pay_newest("exact", wallet)
        self.reconcile_undisturbed()
        self.decide_all("dismiss")
        self.wait(seconds)
        self.bind_newest(payment, "merchant")
        self.reconcile_undisturbed()

    @precondition(has_opened_pages)
    @rule(
        how=st.sampled_from(["exact", "short", "round"]),
        wallet=wallets,
        seconds=st.sampled_from([3 * HOUR, 4 * DAY, 4 * DAY, 20 * DAY]),
    )
    def pay_and_miss_runs(self, how, wallet, seconds):
        """A buyer pays the right amount or another, and there is no run for a long time."""
        self.pay_newest(how, wallet)
        self.wait(seconds)
        self.reconcile_undisturbed()

    @precondition(has_stock)
    @rule(
        total=totals,
        what=st.sampled_from(["project", "amount", "currency"]),
        notify=notices,
        then=st.sampled_from(["nothing", "accept", "dismiss", "dismiss"]),
    )
    def pay_what_was_not_asked(self, total, what, notify, then):
        """Bitsby's invoice differs from what was asked for, and it is paid."""
        self.order_and_click(total, True)
        self.alter(len(self.invoices()) - 1, what)
        self.pay_newest("exact", TRON)
        self.notify_and_decide(notify, then)

    @precondition(has_opened_pages)
    @rule(
        how=st.sampled_from(["short", "short", "near", "over", "round", "dust"]),
        wallet=wallets,
        is_seen=st.sampled_from([True, True, False]),
        binds=st.sampled_from(["staff", "asking", "merchant"]),
        notify=notices,
        then=st.sampled_from(["nothing", "accept", "dismiss", "ask"]),
    )
    def pay_wrongly_and_bind(self, how, wallet, is_seen, binds, notify, then):
        """A buyer sends a wrong amount; staff bind it, or the merchant does at Bitsby."""
        payment = self.pay_newest(how, wallet)
        if is_seen:
            self.reconcile(False)
        self.bind_newest(payment, binds)
        self.notify_and_decide(notify, then)

    @precondition(has_stock)
    @rule(
        total=totals,
        why=st.sampled_from(["time", "total", "lost answer", "canceled"]),
        is_paid_first=st.sampled_from([False, False, True]),
        pays=st.sampled_from([(), (-1,), (-2,), (-2, -1)]),
        notify=notices,
    )
    def ask_twice(self, total, why, is_paid_first, pays, notify):
        """An order gets a second invoice, and its buyer pays either, both or none."""
        if why == "lost answer":
            self.trouble(["done, lost"])
        self.order_and_click(total, False)
        number = len(self.orders) - 1
        if is_paid_first:
            self.pay_newest("exact", TRON)
        if why == "time":
            self.wait(61 * MINUTE)
        elif why == "total":
            self.change_total(number, "12.34")
        elif why == "lost answer":
            self.wait(20)
        else:
            self.cancel_invoice(len(self.invoices()) - 1)
        self.click_pay(number, True)
        for age in pays:
            if len(self.opened_pages) >= -age:
                self.pay(len(self.opened_pages) + age, "exact", TRON, 1)
        self.notify(notify)

    @precondition(has_stock)
    @rule(
        total=totals,
        what=st.sampled_from(
            ["nothing", "nothing", "refused", "behind", "card", "strange", "paid"]
        ),
        skip=st.integers(0, 4),
        is_noticed=st.booleans(),
        runs=st.integers(1, 2),
    )
    def abandon_order(self, total, what, skip, is_noticed, runs):
        """A buyer orders and does not come back; the runs that should cancel may meet faults."""
        self.order_and_click(total, False)
        number = len(self.orders) - 1
        if what == "card":
            self.pay_by_card(number, False)
            self.click_pay(number, False)
        elif what == "strange":
            self.answer_strangely(len(self.invoices()) - 1, one(STRANGE_ANSWERS, skip))
        self.wait(61 * MINUTE)
        if is_noticed:
            self.reconcile(False)
        if what == "behind":
            self.lag(4)
        elif what == "refused":
            self.trouble(["none"] * skip + ["refused"])
        elif what == "paid":
            self.pay_newest("exact", TRON)
        self.wait(62 * MINUTE)
        for _ in range(runs):
            self.reconcile(False)
            self.wait(12)

    @precondition(has_stock)
    @rule(
        total=totals,
        binds=st.sampled_from(["asking", "asking", "nobody"]),
        pays=st.sampled_from(["exact", "exact", "short", "both", "nothing"]),
        notify=notices,
        seconds=st.sampled_from([12, 12, 26 * HOUR]),
        then=st.sampled_from(["nothing", "ask", "accept"]),
    )
    def ask_for_rest(self, total, binds, pays, notify, seconds, then):
        """A buyer sends too little, is asked for the rest by staff or a run, and pays it or not."""
        self.order_and_click(total, True)
        number, page = len(self.orders) - 1, len(self.opened_pages) - 1
        payment = self.pay_newest("short", TRON)
        self.reconcile_undisturbed()
        if payment is not None and self.payment_rows:
            self.bind_newest(payment, binds)
        self.click_pay(number, True)
        if pays == "both":
            # The first page still stands somewhere, and is paid in full after all.
            self.pay(page, "exact", TRON, 1)
        if pays != "nothing":
            self.pay_newest("short" if pays == "short" else "exact", TRON)
        self.notify(notify)
        self.wait(seconds)
        self.reconcile(False)
        if then != "nothing":
            self.decide_all(then)
            self.click_pay(number, True)

    @precondition(has_opened_pages)
    @rule(
        how=st.sampled_from(["over", "exact", "short"]),
        wallet=wallets,
        binds=st.sampled_from(["nobody", "staff"]),
        part=st.sampled_from(["all", "surplus", "half"]),
        sends=st.sampled_from([True, True, False]),
        cancels=st.booleans(),
        rebinds=st.sampled_from([False, False, True]),
        notify=notices,
    )
    def refund(self, how, wallet, binds, part, sends, cancels, rebinds, notify):
        """A payment is refunded, bound or not, and the merchant binds it at Bitsby afterwards."""
        payment = self.pay_newest(how, wallet)
        self.reconcile_undisturbed()
        if payment.invoice is None:
            self.bind_newest(payment, binds)
        row = BitsbyPayment.objects.filter(bitsby_id=payment.id).first()
        if row is None:
            return
        self.request_refund_of(row, part)
        open_one = row.refunds.open().first()
        if open_one is not None and sends:
            self.step_of_refund(open_one, "address")
            self.step_of_refund(open_one, "send", cancels_order=cancels)
        if rebinds:
            self.bind_newest(payment, "merchant")
        self.notify(notify)

    @precondition(has_stock)
    @rule(
        clicks=st.integers(1, 6),
        seconds=st.sampled_from([1, 5, 12, 25]),
        then=st.sampled_from([12, 12, 25 * HOUR]),
        fault=st.sampled_from(["none", "none", "lost", "refused"]),
    )
    def order_while_blocked(self, clicks, seconds, then, fault):
        """Buyers get no invoice and click again and again; background work goes on meanwhile."""
        self.block_account(HOUR)
        for _ in range(2):
            self.order_and_click("10.00", False)
        for click in range(clicks):
            self.click_pay(len(self.orders) - 1 - click % 2, False)
            self.wait(seconds)
        self.reconcile_undisturbed()
        self.wait(then)
        # The first run may have no successful answer.
        self.trouble([fault])
        self.reconcile(False)
        self.block_account(0)

    @precondition(has_few_payments)
    @rule(age=st.integers(0, 2), seconds=st.sampled_from([12, 12, HOUR, DAY, 6 * DAY]))
    def fill_pages(self, age, seconds):
        """Foreign payments fill several pages, read before and after a payment of ours."""
        for _ in range(12):
            self.receive_foreign_payments(1)
            self.clock.sleep(1)
        self.reconcile_undisturbed()
        self.wait(seconds)
        self.pay_as_asked(age, TRON)
        self.reconcile_undisturbed()
