"""What buyers do: order, click "pay", pay right or wrong amounts, open pages, pay by card."""

from decimal import Decimal

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from oscar_bitsby.accounting import ledger
from oscar_bitsby.choices import Resolution
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.facade import payment_page, start_payment
from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.orders.payment_status import get_payment_status
from oscar_bitsby.reconciliation import invoice_refresh
from oscar_bitsby.simulator.state import PAID
from oscar_bitsby.simulator.wallets import COINS
from tests.machine import model
from tests.machine.common import (
    Order,
    Source,
    SourceType,
    StockRecord,
    counts,
    has_opened_pages,
    has_stock,
    one,
    pick,
    totals,
    wallets,
)
from tests.machine.fake_gateway import PAGES
from tests.support import invariants

PAID_ASKED_AGAIN = "a paid order was asked to pay again"
#: Invoices for the rest of one order.
MAX_RESTS = 3
TOO_MANY_RESTS = "an order has more than three invoices for its rest"
WRONG_INVOICE = "a buyer was led to an invoice that does not fit the order"
WRONG_PAGE = "a buyer was led to another site than Bitsby's"
REPLACED_UNASKED = "an invoice was replaced without asking about it"
REPLACED_BY_OLD_ANSWER = "an invoice was replaced by an old answer"
REPLACED_PAID = "a paid invoice was replaced"


class BuyerRules:
    """The rules of buyers."""

    @precondition(has_stock)
    @rule(total=totals)
    def place_order(self, total):
        """A buyer places an order, if there is stock; Bitsby is not asked."""
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
        """A buyer clicks "pay" on the page of any order, and opens the payment page or not."""
        order = self.order(number)
        had_money, clicked_at, disturbed = (
            model.amount_held(order.pk) > 0,
            self.clock.now(),
            self.wire.disturbed,
        )
        # What counts is decided when the click comes, whatever is booked while Bitsby answers.
        owed = invariants.owed(order)
        live = [row.bitsby_id for row in order.bitsby_invoices.live() if row.bitsby_id]
        paid = [
            key
            for key in live
            if self.remote.invoice(str(key)).status == PAID and str(key) not in self.wire.strange
        ]
        try:
            invoice = start_payment(order)
        except BitsbyError as error:
            counts[f"clicks: {type(error).__name__}"] += 1
            return
        finally:
            self.run_commit_hooks()
        order.refresh_from_db()
        asked = BitsbyPayment.objects.filter(
            invoice__order=order, resolution=Resolution.ASKED, booked_at__isnull=False
        )
        assert not had_money or asked.exists(), PAID_ASKED_AGAIN
        assert invoice.amount <= owed, invariants.ASKED_TOO_MUCH
        assert invoice.fits(order, owed), WRONG_INVOICE
        counts["clicks: rest"] += had_money
        rests = order.bitsby_invoices.filter(is_for_rest=True, bitsby_id__isnull=False)
        assert rests.count() <= MAX_RESTS, TOO_MANY_RESTS
        assert payment_page(invoice).startswith(PAGES), WRONG_PAGE
        remote = self.remote.invoice(str(invoice.bitsby_id))
        if remote.id not in self.altered:
            asked_for = (remote.amount, remote.currency)
            assert asked_for == (invoice.amount, invoice.currency), WRONG_INVOICE
        if invoice.bitsby_id in live:
            counts["clicks: led to the same payment page"] += 1
        else:
            counts["clicks: led to a new payment page"] += 1
            for key in live:
                asked = self.wire.asked.get(str(key))
                assert asked is not None, REPLACED_UNASKED
                assert asked >= clicked_at, REPLACED_BY_OLD_ANSWER
            assert not paid or self.wire.disturbed != disturbed, REPLACED_PAID
        remote.views += opens
        self.opened_pages.append(remote.id)

    @precondition(has_opened_pages)
    @rule(
        number=pick,
        how=st.sampled_from(["exact", "exact", "short", "near", "over", "round", "dust"]),
        wallet=wallets,
        times=st.sampled_from([1, 1, 2]),
    )
    def pay(self, number, how, wallet, times):
        """A buyer sends coins to a payment page that was opened before, in time or not."""
        invoice_id = one(self.opened_pages, number)
        if invoice_id is None:
            return
        reserved = self.remote.invoice(invoice_id).reserved[wallet.id]
        step = COINS[wallet.cryptocurrency].step
        factors = {"short": Decimal("0.7"), "near": Decimal("0.98"), "over": Decimal("1.25")}
        factor = factors.get(how, Decimal(1))
        amount = (reserved * factor).quantize(step)
        if how == "round":
            # Without the last digits, and so perhaps the amount that another invoice reserved.
            amount = max(amount - step, step)
        elif how == "dust":
            amount = step
        for _ in range(times):
            self.remote.transfer(wallet, amount)

    @precondition(has_stock)
    @rule(total=totals, opens=st.booleans())
    def order_and_click(self, total, opens):
        """A buyer places an order and goes on to the payment page, as most do."""
        self.place_order(total)
        self.click_pay(len(self.orders) - 1, opens)

    @precondition(has_opened_pages)
    @rule(age=st.integers(0, 2), wallet=wallets)
    def pay_as_asked(self, age, wallet):
        """A buyer sends the exact amount of one of the newest payment pages, as most do."""
        if age < len(self.opened_pages):
            self.pay(len(self.opened_pages) - 1 - age, "exact", wallet, 1)

    @rule(number=pick)
    def open_order_page(self, number):
        """A buyer opens the order's page, which may ask Bitsby."""
        order = self.order(number)
        status = get_payment_status(order)
        if status.invoice is not None:
            invoice_refresh.refresh_if_idle(status.invoice)
            self.run_commit_hooks()
        assert get_payment_status(Order.objects.get(pk=order.pk)).state, "an order has no state"

    @rule(number=pick, refunds=st.booleans())
    def pay_by_card(self, number, refunds):
        """Another source pays an order or refunds it; the shop does not change the status."""
        order = self.order(number)
        kind = SourceType.objects.get_or_create(code="card", defaults={"name": "Card"})[0]
        source = order.sources.filter(source_type=kind).first()
        if source is None:
            source = Source.objects.create(order=order, source_type=kind, currency="USD")
        if refunds:
            source.refund(source.amount_debited - source.amount_refunded)
        else:
            source.debit(order.total_incl_tax)
        self.by_hand.add(order.pk)
