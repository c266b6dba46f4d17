"""The state machine: a shop, the rules that act on it, and what must hold after each step."""

import datetime as dt
import logging
from contextlib import suppress
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from oscar_bitsby import reconciliation, signals
from oscar_bitsby.choices import InvoiceStatus, Resolution, ReviewReason
from oscar_bitsby.exceptions import UNUSABLE_ANSWERS, BitsbyError
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.reconciliation import cursor
from oscar_bitsby.simulator.control import read_state
from tests.machine import model
from tests.machine.buyer_rules import BuyerRules
from tests.machine.common import HOUR, Errors, Order, Source, StockRecord, counts, one, totals
from tests.machine.fake_gateway import Clock, Quirks, open_account
from tests.machine.gateway_rules import GatewayRules
from tests.machine.scenarios import Scenarios
from tests.machine.staff_rules import StaffRules
from tests.support import bitsby, invariants

DRY_RUN_WRITES = "a dry run wrote something"
RUN_FAILED = "a run failed"
SLOW_RUN = "a run had to wait too long for its requests"
RUN_ENDED = "an answer about one invoice ended a run"
UNSEEN_SILENCE = "an invoice without an answer is not shown to staff"
SIGNAL_COUNT = "invoice_paid was sent another number of times than payments were booked"
BOOKED_DISMISSED = "a payment was booked although staff had dismissed it"
CANCELLED_UNANSWERED = "an order was cancelled in a run without a successful answer"
CANCELLED_UNASKED = "an order was cancelled without asking about its invoices"
CANCELLED_BY_OLD_ANSWER = "an order was cancelled by an old answer"
CANCELLED_WHILE_UNPAID = "an order was cancelled while an invoice could be paid"
CANCELLED_WITH_BOUND_PAYMENT = "an order was cancelled although a payment was bound to it"
ENDLESS_ATTEMPT = "an attempt to create an invoice never ended"
ENDLESS_INVOICE = "an invoice stayed unpaid for ever"
ENDLESS_RESTS = "rests were asked for, and their payments not given to staff in time"
OVERDUE_ORDERS = "orders were not cancelled in time"

#: Of the slots, background work has one in five at least.
SECONDS_PER_REQUEST = 6


class Shop(BuyerRules, GatewayRules, StaffRules, Scenarios, RuleBasedStateMachine):
    """A shop with one product, in a transaction that is rolled back at the end."""

    #: The machine that runs, so that patched functions can reach it.
    running = None
    #: Rows that the fixture ``connected_app`` makes once for all histories.
    stock_pk = staff = None

    def __init__(self):
        super().__init__()
        self.outer = transaction.atomic()
        # As TestCase marks its own: durable transactions may be opened inside this one.
        self.outer._from_testcase = True
        self.outer.__enter__()
        self.orders, self.holds, self.by_hand = [], {}, set()
        self.accepted, self.dismissed, self.altered = set(), set(), {}
        self.opened_pages, self.paid_signals = [], 0
        self.run_began, self.payment_rows, self.refund_rows = None, 0, 0
        #: Staff cancel an order at this moment, whatever the app would do.
        self.staff_cancels = False
        self.has_written = True
        self.write_watch = connection.execute_wrapper(self._on_statement)
        self.write_watch.__enter__()
        self.errors = Errors()
        logging.getLogger("oscar_bitsby").addHandler(self.errors)
        signals.invoice_paid.connect(self._on_paid, weak=False)
        self.settings = settings.OSCAR_BITSBY
        Shop.running = self
        self.open(Quirks())

    def open(self, quirks):
        """Begin with a new clock, and an account at a Bitsby with these quirks."""
        self.clock = Clock()
        self.wire, self.deliveries = open_account(self.clock, quirks)
        self.remote = self.wire.books

    def teardown(self):
        try:
            if self.orders:
                self._recover()
        finally:
            self.close()

    def close(self):
        """Undo everything, in the database and elsewhere."""
        self.write_watch.__exit__(None, None, None)
        signals.invoice_paid.disconnect(self._on_paid)
        logging.getLogger("oscar_bitsby").removeHandler(self.errors)
        Shop.running = None
        settings.OSCAR_BITSBY = self.settings
        transaction.set_rollback(True)
        self.outer.__exit__(None, None, None)

    def _on_paid(self, **kwargs):
        self.paid_signals += 1

    def _on_statement(self, execute, sql, params, many, context):
        self.has_written |= sql.startswith(("INSERT", "UPDATE", "DELETE"))
        return execute(sql, params, many, context)

    def run_commit_hooks(self):
        """Run what the app has registered for after the commit."""
        while connection.run_on_commit:
            _, callback, _ = connection.run_on_commit.pop(0)
            callback()

    def order(self, number):
        return Order.objects.get(pk=self.orders[number % len(self.orders)])

    def invoices(self):
        return BitsbyInvoice.objects.order_by("pk")

    def invoice(self, number):
        return one(self.invoices(), number)

    @initialize(
        order=st.sampled_from(["newest", "oldest", "shuffled"]),
        late=st.sampled_from(["unbound", "paid", "ended"]),
        binds_ended=st.booleans(),
        delivers_bindings=st.booleans(),
        unbound=st.sampled_from(["missing", "null", "empty"]),
        includes_end_dates=st.booleans(),
        error_status=st.sampled_from([200, 400]),
        skew=st.sampled_from([0, 40, -40]),
        page_size=st.sampled_from([50, 10, 10]),
        rules=st.sampled_from([{}, {}, {"TOLERANCE": 5}, {"SHORT_PAYMENTS": "ask"}]),
        total=totals,
    )
    def begin(self, total, rules, **quirks):
        """Choose what the documentation leaves open and the shop's rules, and sell something."""
        self.open(Quirks(**quirks))
        settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, **rules}
        self.order_and_click(total, False)

    # Runs

    @rule(dry_run=st.sampled_from([False, False, False, True]))
    def reconcile(self, dry_run):
        """The command makes a run, which finds every payment in the days that it syncs."""
        before = self._all_rows() if dry_run and not self.wire.meanwhile else None
        with suppress(BitsbyError):
            self._reconcile(dry_run)
        if before is not None:
            assert self._all_rows() == before, DRY_RUN_WRITES

    @rule()
    def reconcile_undisturbed(self):
        """The command makes a run without faults, as most are."""
        self.wire.calm()
        began, number = self.clock.monotonic(), len(self.wire.sent)
        self._reconcile()
        allowed = SECONDS_PER_REQUEST * (len(self.wire.sent) - number)
        assert self.clock.monotonic() - began <= allowed, SLOW_RUN

    def _reconcile(self, dry_run=False):
        counts["runs"] += 1
        disturbed, changes, now = self.wire.disturbed, self.remote.count, self.clock.now()
        state = cursor.load()
        is_full = now - state.last_full_sync_at >= dt.timedelta(days=1)
        since = model.first_covered_moment(is_full, now)
        stops_at = None if is_full else model.early_stop(state, now)
        known = set(BitsbyPayment.objects.values_list("bitsby_id", flat=True))
        outer, self.run_began = self.run_began, self.run_began or now
        try:
            report = reconciliation.reconcile(dry_run=dry_run)
        except UNUSABLE_ANSWERS as error:
            if self.wire.disturbed == disturbed:
                raise AssertionError(f"{RUN_ENDED}: {error}") from error
            raise
        finally:
            self.run_began = outer
            self.run_commit_hooks()
        assert not self.wire.broken, self.wire.broken[0]
        assert report.failures == 0, f"{RUN_FAILED}: {self.errors.found}"
        if dry_run or report.skipped or self.wire.disturbed != disturbed or since is None:
            return
        # The filter has whole days and a margin, and the clock may have moved during the run.
        first_day = (since + (self.clock.now() - now) + self.remote.clock.skew).date()
        rows = invariants.Rows()
        for payment in self.remote.all_payments():
            if payment.seen.date() < first_day or self.remote.changed[payment.id] > changes:
                continue
            if stops_at is not None and payment.seen < stops_at and UUID(payment.id) in known:
                # Recorded before and perhaps bound since: the next overlap or full sync finds it.
                continue
            model.check_found(payment, rows, bitsby.PROJECT)

    def _all_rows(self):
        kinds = (Order, BitsbyInvoice, BitsbyPayment, Source, StockRecord)
        return [list(kind.objects.order_by("pk").values()) for kind in kinds]

    # What holds

    @invariant()
    def check(self):
        """No payment is lost or booked twice, and no rule of the gateway was broken on the way."""
        counts["steps"] += 1
        assert not self.wire.broken, self.wire.broken[0]
        assert not self.errors.found, self.errors.found[0]
        if not self.has_written:
            # Nothing was written since the last check. Changes at Bitsby alone break nothing.
            return
        self.has_written = False
        rows = invariants.Rows()
        remote = invariants.Remote(read_state(self.wire.account, {}))
        for problem in invariants.check_books(rows, remote, self.accepted):
            raise AssertionError(problem)
        model.check_asked(rows, self.wire.statuses, self.altered, self.accepted)
        model.check_orders(rows, self.by_hand)
        model.check_holds(rows, self.holds, self.by_hand)
        self.payment_rows, self.refund_rows = len(rows.payments), len(rows.refunds)
        booked = [row for row in rows.payments.values() if row.booked_at]
        assert self.paid_signals == len(booked), SIGNAL_COUNT
        for row in booked:
            is_dismissed = row.pk in self.dismissed and row.resolution == Resolution.DISMISSED
            assert not is_dismissed, BOOKED_DISMISSED

    def on_released(self, order):
        """Check that the app may cancel an order; called before its transaction is committed."""
        assert order.pk in self.holds
        self.holds[order.pk] = False
        if self.staff_cancels:
            return
        counts["orders cancelled"] += 1
        model.check_cancelled(order)
        answered_at = self.wire.succeeded_at
        assert answered_at is not None, CANCELLED_UNANSWERED
        assert answered_at >= self.run_began, CANCELLED_UNANSWERED
        for row in order.bitsby_invoices.exclude(bitsby_id=None):
            answer = self.wire.answers.get(str(row.bitsby_id))
            assert answer is not None, CANCELLED_UNASKED
            assert answer.at >= self.run_began, CANCELLED_BY_OLD_ANSWER
            assert answer.status != "unpaid", CANCELLED_WHILE_UNPAID
            payment = self.remote.invoice(str(row.bitsby_id)).payment
            if payment is not None and self.remote.changed[payment.id] <= answer.as_of:
                payment_row = BitsbyPayment.objects.filter(bitsby_id=payment.id).first()
                assert invariants.is_shown(payment_row), CANCELLED_WITH_BOUND_PAYMENT

    def _recover(self):
        """End all faults and let time pass; then no invoice and no order may be left open.

        Strange answers about single invoices go on, and only these and their orders stay open.
        """
        self.wire.calm()
        began = self.clock.now()
        # An unmatched payment may keep an order for a day after its hold.
        for seconds in (2 * HOUR, 25 * HOUR, 25 * HOUR, 3 * HOUR):
            self.clock.sleep(seconds)
            self._reconcile()
        self.check()
        rows = invariants.Rows()
        statuses = {invoice.id: invoice.status for invoice in self.remote.all_invoices()}
        excepted = set(self.by_hand)
        for row in rows.invoices.values():
            if self.altered.get(str(row.bitsby_id)) == "project":
                # No answer is about ours any more: it may wait for ever, for a person.
                excepted.add(row.order_id)
                continue
            assert row.status != InvoiceStatus.CREATING, ENDLESS_ATTEMPT
            if str(row.bitsby_id) in self.wire.strange:
                # It may wait for ever, too, if no list names it.
                excepted.add(row.order_id)
                is_overdue = row.status == InvoiceStatus.UNPAID and row.is_over(began)
                assert row.unanswered_since or not is_overdue, UNSEEN_SILENCE
                continue
            if row.status == InvoiceStatus.UNPAID:
                assert statuses[str(row.bitsby_id)] == "unpaid", ENDLESS_INVOICE
        since = began - dt.timedelta(days=29)
        overdue = model.overdue_orders(rows, excepted, since, self.clock.now())
        assert not overdue, f"{OVERDUE_ORDERS}: {overdue}"
        rests = model.endless_rests(rows, excepted - self.by_hand, began)
        assert not rests, f"{ENDLESS_RESTS}: {rests}"
        self._count(rows)

    def _count(self, rows):
        for row in rows.payments.values():
            state = "booked" if row.booked_at else "foreign" if row.is_foreign else "not booked"
            counts[f"payments: {state} {row.review_reason} {row.resolution}".strip()] += 1
            counts["bookings"] += row.booked_at is not None
            counts["late money"] += row.review_reason in (ReviewReason.LATE, ReviewReason.NOT_PAID)
            counts["second payments"] += row.review_reason == ReviewReason.SECOND
        asked = [row.order_id for row in rows.invoices.values() if row.bitsby_id]
        counts["second invoices"] += len(asked) - len(set(asked))
        counts["payments at Bitsby"] += len(self.remote.all_payments())
