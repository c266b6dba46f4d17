"""The machine: a shop, what can be done to it, and what must hold after each step."""

from __future__ import annotations

import datetime as dt
import logging
from contextlib import suppress

from django.db import connection, transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from oscar_bitsby import reconciliation, signals
from oscar_bitsby.choices import InvoiceStatus, Resolution, ReviewReason
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.reconciliation import cursor
from tests import bitsby
from tests.machine import model
from tests.machine.buyer_rules import Buyers
from tests.machine.common import HOUR, Errors, Order, Source, StockRecord, counts, one, totals
from tests.machine.fake_gateway import Clock, Quirks, open_account
from tests.machine.gateway_rules import Outside
from tests.machine.scenarios import Stories
from tests.machine.staff_rules import Keepers


class Shop(Buyers, Outside, Keepers, Stories, RuleBasedStateMachine):
    """A shop with one kind of goods, in a transaction that is rolled back at the end."""

    #: The machine that runs, for what is patched to reach it.
    running = None
    #: Rows that ``wired`` makes once for all histories.
    stock_pk = bitsby_type = staff = None

    def __init__(self):
        super().__init__()
        self.outer = transaction.atomic()
        # As TestCase marks its own: what must not be inside a transaction may be inside this one.
        self.outer._from_testcase = True
        self.outer.__enter__()
        self.orders, self.holds, self.by_hand = [], {}, set()
        self.accepted, self.dismissed, self.altered = set(), set(), {}
        self.tabs, self.paid_signals = [], 0
        self.pass_began, self.records = None, 0
        self.has_written = True
        self.watch = connection.execute_wrapper(self._note_write)
        self.watch.__enter__()
        self.errors = Errors()
        logging.getLogger("oscar_bitsby").addHandler(self.errors)
        signals.invoice_paid.connect(self._hear_paid, weak=False)
        Shop.running = self
        self.open(Quirks())

    def open(self, quirks):
        """Begin with a new clock, and an account at a Bitsby with these quirks."""
        self.clock = Clock()
        self.wire, self.deliveries = open_account(self.clock, quirks)
        self.far = self.wire.books

    def teardown(self):
        try:
            if self.orders:
                self._recover()
        finally:
            self.close()

    def close(self):
        """Undo everything, in the database and elsewhere."""
        self.watch.__exit__(None, None, None)
        signals.invoice_paid.disconnect(self._hear_paid)
        logging.getLogger("oscar_bitsby").removeHandler(self.errors)
        Shop.running = None
        transaction.set_rollback(True)
        self.outer.__exit__(None, None, None)

    def _hear_paid(self, **kwargs):
        self.paid_signals += 1

    def _note_write(self, execute, sql, params, many, context):
        self.has_written |= sql.startswith(("INSERT", "UPDATE", "DELETE"))
        return execute(sql, params, many, context)

    def committed(self):
        """Do what the app wants done after a commit."""
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
        tells_binding=st.booleans(),
        unbound=st.sampled_from(["missing", "null", "empty"]),
        ends_count=st.booleans(),
        error_status=st.sampled_from([200, 400]),
        skew=st.sampled_from([0, 40, -40]),
        page_size=st.sampled_from([50, 10, 10]),
        total=totals,
    )
    def begin(self, total, **quirks):
        """Choose what the documentation does not say, and sell something."""
        self.open(Quirks(**quirks))
        self.order_and_click(total, False)

    # Passes

    @rule(dry_run=st.sampled_from([False, False, False, True]))
    def one_pass(self, dry_run):
        """The command makes a pass; what it looked for and did not find is no longer lost."""
        before = self._rows() if dry_run and not self.wire.meanwhile else None
        with suppress(BitsbyError):
            self._pass(dry_run)
        self.committed()
        if before is not None:
            assert self._rows() == before, "a dry run wrote something"

    @rule()
    def quiet_pass(self):
        """A pass that nothing disturbs, as most are."""
        self.wire.calm()
        self._pass(False)
        self.committed()

    def _pass(self, dry_run):
        counts["passes"] += 1
        disturbed, changes, now = self.wire.disturbed, self.far.count, self.clock.now()
        state = cursor.load()
        is_far = now - state.last_full_sync_at >= dt.timedelta(days=1)
        since = model.covered(is_far, now)
        outer, self.pass_began = self.pass_began, self.pass_began or now
        try:
            report = reconciliation.reconcile(dry_run=dry_run)
        finally:
            self.pass_began = outer
        assert report.failures == 0, self.errors.found
        if dry_run or report.skipped or self.wire.disturbed != disturbed or since is None:
            return
        # Days are asked for, with one more; and it may have become later on the way.
        first_day = (since + (self.clock.now() - now) + self.far.clock.skew).date()
        rows = model.Rows(self.bitsby_type)
        for payment in self.far.all_payments():
            if payment.seen.date() >= first_day and self.far.changed[payment.id] <= changes:
                model.check_found(payment, rows, bitsby.PROJECT)

    def _rows(self):
        kinds = (Order, BitsbyInvoice, BitsbyPayment, Source, StockRecord)
        return [list(kind.objects.order_by("pk").values()) for kind in kinds]

    # What holds

    @invariant()
    def holds_good(self):
        """Nothing is lost, nothing doubled, and nobody was harmed on the way."""
        counts["steps"] += 1
        assert not self.wire.broken, self.wire.broken[0]
        assert not self.errors.found, self.errors.found[0]
        if not self.has_written:
            # As it was when it was found good; what has changed at Bitsby alone breaks nothing.
            return
        self.has_written = False
        rows = model.Rows(self.bitsby_type)
        model.check_money(rows)
        model.check_rows(rows, self.far, self.accepted)
        model.check_asked(rows, self.wire.words, self.altered, self.accepted)
        model.check_orders(rows, self.by_hand)
        model.check_stock(rows, self.stock_pk, self.holds, self.by_hand)
        self.records = len(rows.payments)
        booked = [row for row in rows.payments.values() if row.booked_at]
        assert self.paid_signals == len(booked), "told of another number of payments"
        for row in booked:
            is_dismissed = row.pk in self.dismissed and row.resolution == Resolution.DISMISSED
            assert not is_dismissed, "booked although staff had dismissed it"

    def given_back(self, order):
        """Called when the app cancels an order, before its transaction ends."""
        assert order.pk in self.holds
        self.holds[order.pk] = False
        counts["orders cancelled"] += 1
        model.check_given_up(order)
        for row in order.bitsby_invoices.exclude(bitsby_id=None):
            remote = self.wire.remote.get(str(row.bitsby_id))
            assert remote is not None, "cancelled without asking"
            assert remote.at >= self.pass_began, "cancelled by an old answer"
            assert remote.status != "unpaid", "cancelled while an invoice can be paid"
            payment = self.far.invoice(str(row.bitsby_id)).payment
            if payment is not None and self.far.changed[payment.id] <= remote.as_of:
                record = BitsbyPayment.objects.filter(bitsby_id=payment.id).first()
                assert model.is_shown(record), "cancelled although money was bound to it"

    def _recover(self):
        """Let all trouble end and time go by: then nothing is open any more."""
        self.wire.calm()
        since = self.clock.now() - dt.timedelta(days=29)
        for seconds in (2 * HOUR, 25 * HOUR, 3 * HOUR):
            self.clock.sleep(seconds)
            self._pass(False)
            self.committed()
        self.holds_good()
        rows = model.Rows(self.bitsby_type)
        remote = {invoice.id: invoice.status for invoice in self.far.all_invoices()}
        altered = set()
        for row in rows.invoices.values():
            if self.altered.get(str(row.bitsby_id)) == "project":
                # No answer is about ours any more: it may wait for ever, for a person.
                altered.add(row.order_id)
                continue
            assert row.status != InvoiceStatus.CREATING, "an attempt without end"
            if row.status == InvoiceStatus.UNPAID:
                assert remote[str(row.bitsby_id)] == "unpaid", "an invoice without end"
        excepted = self.by_hand | altered
        left = model.orders_left_waiting(rows, excepted, since, self.clock.now())
        assert not left, f"orders that wait for ever: {left}"
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
        counts["payments at Bitsby"] += len(self.far.all_payments())
