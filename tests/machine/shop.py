"""The machine: what buyers, staff, Bitsby and strangers can do, and what must hold after each."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections import Counter
from contextlib import suppress
from decimal import Decimal

from django.db import connection, transaction
from django.test import RequestFactory
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from oscar.core.loading import get_class, get_model

from oscar_bitsby import binding, ledger, payment_looks, reconciliation, resolution, signals
from oscar_bitsby.exceptions import BitsbyError, GatewayError
from oscar_bitsby.facade import payment_page, start_payment
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.simulator.state import Refused
from oscar_bitsby.simulator.wallets import COINS, WALLETS
from oscar_bitsby.standing import standing_of
from oscar_bitsby.webhook import webhook
from tests import bitsby
from tests.machine import model
from tests.machine.world import PAGES, Clock, Quirks, open_account

EventHandler = get_class("order.processing", "EventHandler")
Order = get_model("order", "Order")
Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")
StockRecord = get_model("partner", "StockRecord")

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
#: Short ones are drawn more often: at the end of a long one little is left to happen.
WAITS = (
    *(2, 12, 12, 6 * MINUTE, 6 * MINUTE, 31 * MINUTE, 61 * MINUTE, 61 * MINUTE),
    *(2 * HOUR, 25 * HOUR, 6 * DAY, 40 * DAY),
)
FAULTS = (
    "lost",
    "done, lost",
    "done, slow",
    "html",
    "done, html",
    "refused",
    "frequent",
    "shape",
)
RUBBISH = (b"", b"[]", b"{", b'{"invoice": {"id": 5}}', b"\xff\x00")
#: A wallet whose reserved amounts are told apart in the coin's last digits, and one of another.
TRON = next(wallet for wallet in WALLETS if wallet.id == bitsby.TRON)
BITCOIN = next(wallet for wallet in WALLETS if wallet.cryptocurrency == "btc")
#: Of the one kind of goods; late orders may find none left.
STOCK = 4
#: An invoice or a project of somebody else.
STRANGER = "11111111-1111-4111-8111-111111111111"

pick = st.integers(0, 11)
#: What happened in all histories, for the summary.
counts = Counter()


class Errors(logging.Handler):
    """Collects what the app logs with a traceback: nothing here may fail inside of it."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.found = []

    def emit(self, record):
        if record.exc_info:
            self.found.append(self.format(record))


def has_tabs(shop):
    return bool(shop.tabs)


def has_deliveries(shop):
    return bool(shop.deliveries)


def has_payments(shop):
    return bool(shop.far.all_payments())


def has_few_payments(shop):
    return len(shop.far.all_payments()) < 20


def has_records(shop):
    return shop.records > 0


def has_stock(shop):
    return sum(shop.holds.values()) < STOCK


class Shop(RuleBasedStateMachine):
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
        self.accepted, self.tabs, self.paid_signals = set(), [], 0
        self.pass_began, self.records = None, 0
        self.errors = Errors()
        logging.getLogger("oscar_bitsby").addHandler(self.errors)
        signals.invoice_paid.connect(self._hear_paid, weak=False)
        Shop.running = self
        self._open(Quirks())

    def _open(self, quirks):
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
        signals.invoice_paid.disconnect(self._hear_paid)
        logging.getLogger("oscar_bitsby").removeHandler(self.errors)
        Shop.running = None
        transaction.set_rollback(True)
        self.outer.__exit__(None, None, None)

    def _hear_paid(self, **kwargs):
        self.paid_signals += 1

    # Small things

    def committed(self):
        """Do what the app wants done after a commit."""
        while connection.run_on_commit:
            _, callback, _ = connection.run_on_commit.pop(0)
            callback()

    def order(self, number):
        return Order.objects.get(pk=self.orders[number % len(self.orders)])

    @staticmethod
    def one(items, number):
        items = list(items)
        return items[number % len(items)] if items else None

    def invoice(self, number):
        return self.one(BitsbyInvoice.objects.order_by("pk"), number)

    def record(self, number):
        return self.one(BitsbyPayment.objects.order_by("pk"), number)

    # Buyers

    @initialize(
        order=st.sampled_from(["newest", "oldest", "shuffled"]),
        late=st.sampled_from(["unbound", "paid", "ended"]),
        binds_ended=st.booleans(),
        tells_binding=st.booleans(),
        unbound=st.sampled_from(["missing", "null", "empty"]),
        ends_count=st.booleans(),
        error_status=st.sampled_from([200, 400]),
        skew=st.sampled_from([0, 40, -40]),
        total=st.sampled_from(["10.00", "0.50", "99.99"]),
    )
    def begin(self, total, **quirks):
        """Choose what the documentation does not say, and sell something."""
        self._open(Quirks(**quirks))
        self.order_and_click(total, False)

    @precondition(has_stock)
    @rule(total=st.sampled_from(["10.00", "0.50", "99.99"]))
    def place_order(self, total):
        """A buyer orders, if there is stock; nothing is asked of Bitsby."""
        stock = StockRecord.objects.select_related("product", "partner").get(pk=self.stock_pk)
        if not stock.net_stock_level:
            return
        total = Decimal(total)
        order = Order.objects.create(
            number=f"{100001 + len(self.orders)}",
            currency="USD",
            total_incl_tax=total,
            total_excl_tax=total,
            status="Pending",
            guest_email="buyer@example.com",
            date_placed=self.clock.now(),
        )
        prices = ("line_price", "line_price_before_discounts", "unit_price")
        order.lines.create(
            partner=stock.partner,
            partner_name=stock.partner.name,
            partner_sku=stock.partner_sku,
            stockrecord=stock,
            product=stock.product,
            title="Mug",
            quantity=1,
            num_allocated=1,
            **{f"{price}_{tax}_tax": total for price in prices for tax in ("incl", "excl")},
        )
        stock.allocate(1)
        Source.objects.create(
            order=order,
            source_type=ledger.source_type(),
            currency="USD",
            amount_allocated=total,
        )
        self.orders.append(order.pk)
        self.holds[order.pk] = True

    @rule(number=pick, opens=st.booleans())
    def click_pay(self, number, opens):
        """A buyer clicks "pay", on a page of whatever age, and looks at the payment page or not."""
        order = self.order(number)
        had_money = model.held(order.pk) > 0
        try:
            invoice = start_payment(order)
        except BitsbyError as error:
            counts[f"clicks: {type(error).__name__}"] += 1
            return
        finally:
            self.committed()
        counts["clicks: led to a payment page"] += 1
        order.refresh_from_db()
        assert not had_money, "a paid order was asked to pay again"
        assert invoice.fits(order)
        assert payment_page(invoice).startswith(PAGES)
        told = self.far.invoice(str(invoice.bitsby_id))
        assert (told.amount, told.currency) == (invoice.amount, invoice.currency)
        told.views += opens
        self.tabs.append(told.id)

    @precondition(has_tabs)
    @rule(
        number=pick,
        how=st.sampled_from(["exact", "exact", "short", "over", "round", "dust"]),
        wallet=st.sampled_from([TRON, BITCOIN]),
        times=st.sampled_from([1, 1, 2]),
    )
    def pay(self, number, how, wallet, times):
        """A buyer sends coins by a payment page that was once shown, in time or not."""
        tab = self.one(self.tabs, number)
        if tab is None:
            return
        reserved = self.far.invoice(tab).reserved[wallet.id]
        step = COINS[wallet.cryptocurrency].step
        factor = {"short": Decimal("0.7"), "over": Decimal("1.25")}.get(how, Decimal(1))
        amount = (reserved * factor).quantize(step)
        if how == "round":
            # Without the last digits, which may be what another invoice reserved.
            amount = max(amount - step, step)
        elif how == "dust":
            amount = step
        for _ in range(times):
            self.far.transfer(wallet, amount)

    @precondition(has_stock)
    @rule(total=st.sampled_from(["10.00", "0.50", "99.99"]), opens=st.booleans())
    def order_and_click(self, total, opens):
        """A buyer orders and goes on to the payment page, as most do."""
        self.place_order(total)
        self.click_pay(len(self.orders) - 1, opens)

    @precondition(has_tabs)
    @rule(age=st.integers(0, 2), wallet=st.sampled_from([TRON, BITCOIN]))
    def pay_as_asked(self, age, wallet):
        """A buyer sends exactly what one of the newest pages asks for, as most do."""
        if age < len(self.tabs):
            self.pay(len(self.tabs) - 1 - age, "exact", wallet, 1)

    @rule(number=pick)
    def look_at_order(self, number):
        """A buyer looks where the order stands, which may look at Bitsby."""
        order = self.order(number)
        standing = standing_of(order)
        if standing.invoice is not None:
            reconciliation.glance(standing.invoice)
            self.committed()
        assert standing_of(Order.objects.get(pk=order.pk)).state

    @rule(number=pick, gives_back=st.booleans())
    def pay_by_card(self, number, gives_back):
        """Another source pays an order or gives all back; the shop's own code moves no status."""
        order = self.order(number)
        kind = SourceType.objects.get_or_create(code="card", defaults={"name": "Card"})[0]
        source = order.sources.filter(source_type=kind).first()
        if source is None:
            source = Source.objects.create(order=order, source_type=kind, currency="USD")
        if gives_back:
            source.refund(source.amount_debited - source.amount_refunded)
        else:
            source.debit(order.total_incl_tax)
        self.by_hand.add(order.pk)

    # Bitsby, others at Bitsby, the road

    @precondition(has_few_payments)
    @rule(count=st.sampled_from([1, 1, 1, 12]))
    def strangers(self, count):
        """Money arrives that nobody asked for, and money of the account's other project."""
        for number in range(count):
            self.far.transfer(BITCOIN, Decimal(7 + number))
        other = self.far.create(STRANGER, Decimal("5.00"), "USD", Decimal(1))
        self.far.transfer(TRON, other.reserved[TRON.id])

    @precondition(has_payments)
    @rule(number=pick, other=pick)
    def merchant_binds_at_bitsby(self, number, other):
        """The merchant binds a payment on Bitsby's own pages, to any invoice of the account."""
        payment = self.one(self.far.all_payments(), number)
        invoice = self.one(self.far.all_invoices(), other)
        if payment is None or invoice is None:
            return
        with suppress(Refused):
            self.far.bind(invoice.id, payment.id)

    @rule(seconds=st.sampled_from(WAITS))
    def wait(self, seconds):
        """Time goes by."""
        self.clock.sleep(seconds)

    @rule(faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=4))
    def trouble(self, faults):
        """The next requests fail."""
        self.wire.faults.extend(faults)

    @rule(lists=st.integers(1, 4))
    def lag(self, lists):
        """The next lists show what is true now, whenever they are asked for."""
        self.wire.lag(lists)

    @rule()
    def calm(self):
        """All trouble ends."""
        self.wire.calm()

    @rule(
        what=st.sampled_from(
            ["pay", "pay_click", "deliver", "bind", "pass", "staff", "status", "wait"]
        ),
        number=pick,
        is_before=st.booleans(),
    )
    def meanwhile(self, what, number, is_before):
        """While the next request is under way, another process or person does something."""
        actions = {
            "pay": lambda: self.pay(number, "exact", TRON, 1),
            "pay_click": lambda: self.click_pay(number, False),
            "deliver": lambda: self.deliver(number, 0),
            "bind": lambda: self.merchant_binds_at_bitsby(number, number),
            "pass": lambda: self.one_pass(False),
            "staff": lambda: self.decide(number, "accept"),
            "status": lambda: self.set_status(number, "Cancelled"),
            "wait": lambda: self.wait(6 * MINUTE),
        }
        self.wire.meanwhile.append((actions[what], is_before))

    # Deliveries

    @precondition(has_deliveries)
    @rule(number=pick, age=pick)
    def deliver(self, number, age):
        """A delivery comes: for the first time, again, late or out of order; others never do."""
        body = self.one(self.deliveries[::-1], age if number % 2 else number)
        if body is None:
            return
        answer = self._post(body)
        invoice = BitsbyInvoice.objects.filter(bitsby_id=body["invoice"]["id"]).first()
        if answer == 200 and invoice is not None:
            assert invoice.status == BitsbyInvoice.PAID, "a delivery was answered for nothing"

    @precondition(has_deliveries)
    @rule()
    def deliver_newest(self):
        """A delivery comes at once, as most do."""
        if self.deliveries:
            self.deliver(1, 0)

    @rule(number=pick, what=st.sampled_from(["known", "known", "unknown", "rubbish"]))
    def forge(self, number, what):
        """Somebody sends a delivery that Bitsby never sent, or what is none at all."""
        before = len(self.wire.sent)
        if what == "rubbish":
            assert self._post(self.one(RUBBISH, number)) == 400
            assert len(self.wire.sent) == before
            return
        invoice = self.invoice(number)
        is_known = what == "known" and invoice is not None and invoice.bitsby_id is not None
        key = str(invoice.bitsby_id) if is_known else STRANGER
        word = "paid" if number % 3 else "expired"
        payment, project = bitsby.transfer("10.00000000"), {"id": bitsby.PROJECT}
        answer = self._post(
            {"invoice": {"id": key, "status": word}, "payment": payment, "project": project}
        )
        if not is_known:
            assert answer == 200
            assert len(self.wire.sent) == before

    def _post(self, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = RequestFactory().post("/bitsby/webhook/", data, content_type="application/json")
        answer = webhook(request).status_code
        counts[f"deliveries answered {answer}"] += 1
        self.committed()
        assert answer in (200, 400, 503)
        return answer

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
        state = payment_looks.shared_state()
        is_far = now - state.far_look_at >= dt.timedelta(days=1)
        since = model.covered(is_far, now)
        outer, self.pass_began = self.pass_began, self.pass_began or now
        try:
            report = reconciliation.reconcile(dry_run=dry_run)
        finally:
            self.pass_began = outer
        assert report.failures == 0, self.errors.found
        if dry_run or report.stood_back or self.wire.disturbed != disturbed or since is None:
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

    # Staff

    @precondition(has_payments)
    @rule(number=pick, other=pick)
    def bind(self, number, other):
        """Staff bind a payment, of the list or typed by hand, to an invoice that is not paid."""
        open_ones = BitsbyInvoice.objects.filter(bitsby_id__isnull=False)
        open_ones = open_ones.exclude(status=BitsbyInvoice.PAID)
        invoice = self.one(open_ones.order_by("pk"), number)
        payment = self.one(self.far.all_payments(), other)
        if invoice is None or payment is None:
            return
        self.by_hand.add(invoice.order_id)
        result = binding.bind(invoice, payment.id, self.staff, "it is theirs")
        self.committed()
        if result.done:
            assert BitsbyPayment.objects.get(bitsby_id=payment.id).booked_at

    @rule(number=pick)
    def open_binding(self, number):
        """Staff open the page of payments that may be meant for an order."""
        order = self.order(number)
        binding.read_live(order)
        binding.candidates(order)
        self.committed()

    @precondition(has_records)
    @rule(number=pick, action=st.sampled_from(["accept", "dismiss", "undo", "settle_again"]))
    def decide(self, number, action):
        """Staff take a payment as it is, dismiss it, undo that, or bring its order back."""
        note = () if action == "undo" else ("fine",)
        self._decide(getattr(resolution, action), number, *note)

    def _decide(self, action, number, *note):
        record = self.record(number)
        if record is None:
            return
        order = record.invoice.order if record.invoice else None
        try:
            result = action(record.pk, self.staff, *note)
        except resolution.ChangedMeanwhile:
            return
        self.committed()
        if not result.done or order is None:
            return
        before = order.status
        order.refresh_from_db()
        if action is resolution.accept:
            self.by_hand.add(order.pk)
            self.accepted.add(record.invoice_id)
            assert order.status != "Pending"
        elif action is resolution.settle_again:
            self.by_hand.add(order.pk)
            if order.status != before:
                self.holds[order.pk] = True

    @rule(
        number=pick,
        status=st.sampled_from(["Pending", "Being processed", "Complete", "Cancelled"]),
    )
    def set_status(self, number, status):
        """Staff or a partner write the order's status by hand."""
        order = self.order(number)
        Order.objects.filter(pk=order.pk).update(status=status)
        self.by_hand.add(order.pk)

    @rule(number=pick)
    def cancel_order(self, number):
        """Staff cancel an order as Oscar does it, and give its stock back."""
        order = self.order(number)
        if order.status == "Pending":
            EventHandler().handle_order_status_change(order, "Cancelled")
            for line in order.lines.filter(num_allocated__gt=0):
                EventHandler().cancel_stock_allocations(order, [line], [line.num_allocated])
            self.by_hand.add(order.pk)
            self.holds[order.pk] = False

    @rule(number=pick, total=st.sampled_from(["10.00", "12.34"]))
    def change_total(self, number, total):
        """Staff change what an order costs."""
        Order.objects.filter(pk=self.order(number).pk).update(total_incl_tax=Decimal(total))

    @rule(number=pick)
    def refresh(self, number):
        """Staff ask about one invoice."""
        invoice = self.invoice(number)
        if invoice is None:
            return
        with suppress(GatewayError):
            reconciliation.refresh(invoice)
        self.committed()

    @rule(number=pick)
    def cancel_invoice(self, number):
        """Staff cancel an invoice at Bitsby."""
        invoice = self.invoice(number)
        if invoice is not None:
            binding.cancel_invoice(invoice, self.staff, "wrong")
            self.committed()

    # What holds

    @invariant()
    def holds_good(self):
        """Nothing is lost, nothing doubled, and nobody was harmed on the way."""
        counts["steps"] += 1
        assert not self.wire.broken, self.wire.broken[0]
        assert not self.errors.found, self.errors.found[0]
        rows = model.Rows(self.bitsby_type)
        model.check_money(rows)
        model.check_rows(rows, self.far, self.accepted)
        model.check_orders(rows, self.by_hand)
        model.check_stock(rows, self.stock_pk, self.holds, self.by_hand)
        self.records = len(rows.payments)
        booked = [row for row in rows.payments.values() if row.booked_at]
        assert self.paid_signals == len(booked), "told of another number of payments"

    def given_back(self, order):
        """Called when the app cancels an order, before its transaction ends."""
        assert order.pk in self.holds
        self.holds[order.pk] = False
        counts["orders cancelled"] += 1
        model.check_given_up(order)
        for row in order.bitsby_invoices.exclude(bitsby_id=None):
            at, as_of = self.wire.told.get(str(row.bitsby_id), (None, 0))
            assert at is not None, "cancelled without asking"
            assert at >= self.pass_began, "cancelled by an old answer"
            payment = self.far.invoice(str(row.bitsby_id)).payment
            if payment is not None and self.far.changed[payment.id] <= as_of:
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
        told = {invoice.id: invoice.status for invoice in self.far.all_invoices()}
        for row in rows.invoices.values():
            assert row.status != row.CREATING, "an attempt without end"
            if row.status == row.UNPAID:
                assert told[str(row.bitsby_id)] == "unpaid", "an invoice without end"
        left = model.orders_left_waiting(rows, self.by_hand, since, self.clock.now())
        assert not left, f"orders that wait for ever: {left}"
        for row in rows.payments.values():
            state = "booked" if row.booked_at else "foreign" if row.is_foreign else "not booked"
            counts[f"payments: {state} {row.attention} {row.resolution}".strip()] += 1
        counts["payments at Bitsby"] += len(self.far.all_payments())
