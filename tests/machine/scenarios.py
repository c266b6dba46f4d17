"""Ways that are often gone, each told in one step, so that much happens in a short history."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.simulator.state import Refused
from tests.machine.common import (
    DAY,
    HOUR,
    MINUTE,
    TRON,
    has_few_payments,
    has_stock,
    has_tabs,
    totals,
    wallets,
)

#: How the shop comes to know what happened at Bitsby.
NEWS = ("delivery", "delivery", "twice", "forged", "pass", "pass", "look", "none")
news = st.sampled_from(NEWS)


class Stories:
    """Rules that are made of the others' steps."""

    def hear(self, how):
        """Let the shop hear of what happened, or not."""
        if how == "delivery":
            self.deliver_newest()
        elif how == "twice":
            self.deliver_newest()
            self.wait(12)
            self.deliver_newest()
        elif how == "forged":
            self.forge(len(self.invoices()) - 1, "known")
        elif how == "pass":
            self.one_pass(False)
        elif how == "look":
            self.look_at_order(len(self.orders) - 1)

    def pay_newest(self, how, wallet, times=1):
        """Pay by the page that was shown last, and return the payment; None where none was."""
        if not self.tabs:
            return None
        self.pay(len(self.tabs) - 1, how, wallet, times)
        return self.far.all_payments()[-1]

    def have_bound(self, payment, who):
        """Let staff or the merchant bind a payment to the newest page's invoice, or nobody."""
        if who == "staff":
            self.bind_these(BitsbyInvoice.objects.get(bitsby_id=self.tabs[-1]), payment)
        elif who == "merchant":
            with suppress(Refused):
                self.far.bind(self.tabs[-1], payment.id)

    @precondition(has_stock)
    @rule(
        total=totals,
        how=st.sampled_from(["exact", "exact", "exact", "short", "over"]),
        wallet=wallets,
        times=st.sampled_from([1, 1, 1, 2]),
        hear=news,
    )
    def buy(self, total, how, wallet, times, hear):
        """A buyer orders and pays at once, rightly or not, once or twice."""
        self.order_and_click(total, True)
        self.pay_newest(how, wallet, times)
        self.hear(hear)

    @precondition(has_tabs)
    @rule(
        seconds=st.sampled_from([61 * MINUTE, 61 * MINUTE, 3 * HOUR, 3 * HOUR]),
        is_noticed=st.sampled_from([True, True, False]),
        wallet=wallets,
        binds=st.sampled_from(["nobody", "nobody", "staff", "merchant"]),
        hear=news,
        then=st.sampled_from(["nothing", "accept", "dismiss", "reinstate", "reinstate"]),
    )
    def pay_late(self, seconds, is_noticed, wallet, binds, hear, then):
        """An invoice's time goes by, noticed or not, and its buyer pays all the same."""
        self.wait(seconds)
        if is_noticed:
            self.one_pass(False)
        payment = self.pay_newest("exact", wallet)
        self.have_bound(payment, binds)
        self.hear(hear)
        if then != "nothing":
            self.clear_inbox(then)

    @precondition(has_tabs)
    @rule(wallet=wallets, seconds=st.sampled_from([12, 12, 61 * MINUTE]))
    def dismiss_and_bind(self, wallet, seconds):
        """Money on an ended invoice is dismissed by staff, and then counts at Bitsby after all."""
        self.wait(61 * MINUTE)
        self.quiet_pass()
        payment = self.pay_newest("exact", wallet)
        self.quiet_pass()
        self.clear_inbox("dismiss")
        self.wait(seconds)
        self.have_bound(payment, "merchant")
        self.quiet_pass()

    @precondition(has_tabs)
    @rule(
        how=st.sampled_from(["exact", "short", "round"]),
        wallet=wallets,
        seconds=st.sampled_from([3 * HOUR, 4 * DAY, 4 * DAY, 20 * DAY]),
    )
    def forget_the_passes(self, how, wallet, seconds):
        """A buyer pays, rightly or not, and for long no pass is made."""
        self.pay_newest(how, wallet)
        self.wait(seconds)
        self.quiet_pass()

    @precondition(has_stock)
    @rule(
        total=totals,
        what=st.sampled_from(["project", "amount", "currency"]),
        hear=news,
        then=st.sampled_from(["nothing", "accept", "dismiss", "dismiss"]),
    )
    def pay_what_was_not_asked(self, total, what, hear, then):
        """Bitsby has another invoice in its books than was asked for, and it is paid."""
        self.order_and_click(total, True)
        self.alter(len(self.invoices()) - 1, what)
        self.pay_newest("exact", TRON)
        self.hear(hear)
        if then != "nothing":
            self.clear_inbox(then)

    @precondition(has_tabs)
    @rule(
        how=st.sampled_from(["short", "short", "over", "round", "dust"]),
        wallet=wallets,
        is_seen=st.sampled_from([True, True, False]),
        binds=st.sampled_from(["staff", "merchant"]),
        hear=news,
        then=st.sampled_from(["nothing", "accept", "dismiss"]),
    )
    def pay_wrongly_and_have_it_bound(self, how, wallet, is_seen, binds, hear, then):
        """A buyer sends another amount; staff bind it, or the merchant does at Bitsby."""
        payment = self.pay_newest(how, wallet)
        if is_seen:
            self.one_pass(False)
        self.have_bound(payment, binds)
        self.hear(hear)
        if then != "nothing":
            self.clear_inbox(then)

    @precondition(has_stock)
    @rule(
        total=totals,
        why=st.sampled_from(["time", "total", "lost answer", "canceled"]),
        is_paid_first=st.sampled_from([False, False, True]),
        pays=st.sampled_from([(), (-1,), (-2,), (-2, -1)]),
        hear=news,
    )
    def ask_twice(self, total, why, is_paid_first, pays, hear):
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
            if len(self.tabs) >= -age:
                self.pay(len(self.tabs) + age, "exact", TRON, 1)
        self.hear(hear)

    @precondition(has_stock)
    @rule(
        total=totals,
        what=st.sampled_from(
            ["nothing", "nothing", "refused", "behind", "card", "altered", "paid"]
        ),
        skip=st.integers(0, 4),
        is_noticed=st.booleans(),
        passes=st.integers(1, 2),
    )
    def wait_for_nothing(self, total, what, skip, is_noticed, passes):
        """A buyer orders and comes no more, and the pass that should cancel may meet trouble."""
        self.order_and_click(total, False)
        number = len(self.orders) - 1
        if what == "card":
            self.pay_by_card(number, False)
            self.click_pay(number, False)
        self.wait(61 * MINUTE)
        if is_noticed:
            self.one_pass(False)
        if what == "behind":
            self.lag(4)
        elif what == "refused":
            self.trouble(["none"] * skip + ["refused"])
        elif what == "paid":
            self.pay_newest("exact", TRON)
        self.wait(62 * MINUTE)
        for _ in range(passes):
            self.one_pass(False)
            self.wait(12)

    @precondition(has_few_payments)
    @rule(age=st.integers(0, 2), seconds=st.sampled_from([12, 12, HOUR, DAY, 6 * DAY]))
    def crowd(self, age, seconds):
        """So many payments of others that a list has pages, read once and then again with news."""
        for _ in range(12):
            self.strangers(1)
            self.clock.sleep(1)
        self.quiet_pass()
        self.wait(seconds)
        self.pay_as_asked(age, TRON)
        self.quiet_pass()
