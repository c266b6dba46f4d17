"""The operations that are killed, and what people do afterwards.

Each operation is a class: ``stage`` names the snapshot that it begins with, ``prepare`` brings
about its situation, ``act`` is killed (a run, unless the class says otherwise), ``after`` is what
happens when the shop runs again, and ``expect`` returns the problems that the audit does not know.
"""

from decimal import Decimal

from django.db import connections
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.facade import start_payment
from oscar_bitsby.gateway import factory
from oscar_bitsby.models import AuditedItem, BitsbyInvoice, BitsbyPayment
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.reconciliation import run
from oscar_bitsby.reconciliation.audit import audit as audit_books
from oscar_bitsby.staff import binding, review
from tests.crash import audit
from tests.crash.shop import ATTEMPT_SECONDS, HOLD, HOUR, KEPT
from tests.support import invariants

Order = get_model("order", "Order")
Source = get_model("payment", "Source")

OPERATIONS = {}


class Scenario:
    """Base of operations and races; the subclasses of these two are registered by their names."""

    registry = None
    stage = "placed"
    #: The number of orders, and the statuses that each of them may have at rest.
    orders = 1
    final_statuses = (audit.PAID,)

    def __init_subclass__(cls):
        cls.name = cls.__name__
        if Scenario not in cls.__bases__:
            cls.registry[cls.name] = cls()

    def prepare(self, shop):
        """Bring about the situation."""

    def after(self, shop):
        """Let people act and time pass; the runner reconciles afterwards."""

    def expect(self, shop):
        """Return the problems that the audit does not know."""
        orders = [shop.order(buyer) for buyer in range(self.orders)]
        statuses = [order and order.status for order in orders]
        if set(statuses) <= set(self.final_statuses):
            return []
        return [f"the orders are {statuses}, not {self.final_statuses}"]


class Operation(Scenario):
    """Base of all operations."""

    registry = OPERATIONS

    def act(self, shop):
        """Make a run, or what else the process does that is killed at some point."""
        reconciliation.reconcile()


def invoiced(shop, buyer=0):
    """Give a buyer's order a live invoice."""
    return start_payment(shop.order(buyer))


def short(shop, invoice, part=Decimal("0.8")):
    """Pay less than the invoice asks for, so that Bitsby does not bind the payment."""
    asked = next(one for one in shop.state()["invoices"] if one["id"] == str(invoice.bitsby_id))
    amount = Decimal(asked["wallets"][0]["amountCrypto"]) * part
    return shop.pay(invoice, amount=f"{amount:.8f}")["paymentId"]


def let_cancel(shop):
    """Let the order be cancelled as unpaid."""
    for seconds in (HOUR + 60, KEPT):
        shop.later(seconds)
        shop.reconcile()
    assert shop.order().status == audit.CANCELLED


def bind_at_bitsby(shop):
    """Bind the short payment on Bitsby's own pages; the shop is not informed."""
    factory.for_staff(5).bind_payment(shop.invoice().bitsby_id, shop.memo["payments"][0])


class AtomicRequests:
    """Runs each request in one transaction, as Oscar's own sandbox does."""

    def act(self, shop):
        connections.settings["default"]["ATOMIC_REQUESTS"] = True
        super().act(shop)


# Placing the order.


class Place(Operation):
    """The buyer's last click in the checkout; the buyer does not return."""

    stage = "checkout"
    final_statuses = (audit.CANCELLED, None)

    def act(self, shop):
        shop.place()

    def after(self, shop):
        # Right after the crash, before any run repairs anything.
        shop.problems += audit.orders(False)
        shop.problems += [*audit.baskets(), *audit.stock(), *audit.vouchers()]
        shop.later(HOLD)


class PlaceAgain(Place):
    """The same, but the buyer clicks again, gets the payment page and pays."""

    final_statuses = (audit.PAID,)

    def after(self, shop):
        was_placed = shop.order() is not None
        response = shop.place()
        page = response.get("Location", "")
        if page == "/checkout/" or (was_placed and "/bitsby/orders/" not in page):
            # The order was committed before its number was in the session.
            shop.observations.append("placed, but the second click does not lead to the order")
        if shop.order() is None:
            return
        # The buyer has the link of the order's page from the e-mail, from staff or from the click.
        page = shop.click_pay()
        if page:
            shop.pay_page(page)


class PlaceAtomic(AtomicRequests, Place):
    """The last click in a shop with ATOMIC_REQUESTS."""


# Starting a payment.


class Pay(Operation):
    """The click on "pay"; the buyer clicks again, at once and after a while, and pays."""

    def act(self, shop):
        shop.click_pay()

    def after(self, shop):
        page = shop.click_pay()
        if not page:
            shop.later(ATTEMPT_SECONDS)
            page = shop.click_pay()
        if not page:
            shop.problems.append("the buyer cannot pay, twenty seconds after the crash")
            return
        shop.check_asked(page)
        shop.pay_page(page)


class PayAbandoned(Pay):
    """The click on "pay"; the buyer does not return."""

    final_statuses = (audit.CANCELLED,)

    def after(self, shop):
        shop.later(HOUR + 60)
        shop.run_until_stable()
        shop.later(HOLD)


class PayByRedirect(Pay):
    """The redirect to the payment page: the GET of the browser that has just placed the order."""

    def act(self, shop):
        shop.browser().get(signed_urls.pay_url(shop.order()))


class PayAtomic(AtomicRequests, Pay):
    """The click on "pay" in a shop with ATOMIC_REQUESTS."""


class PayAfterExpiry(Pay):
    """Paying again when the first invoice has expired without a run."""

    def prepare(self, shop):
        invoiced(shop)
        shop.later(HOUR + 60)


class PayAfterChange(Pay):
    """Paying again when staff has changed the total; the buyer then pays the old invoice."""

    def prepare(self, shop):
        shop.memo["old"] = invoiced(shop).pk
        Order.objects.filter(pk=shop.order().pk).update(total_incl_tax=Decimal("12.50"))
        Source.objects.filter(order=shop.order()).update(amount_allocated=Decimal("12.50"))

    def after(self, shop):
        shop.pay(BitsbyInvoice.objects.get(pk=shop.memo["old"]))
        shop.run_until_stable()
        if shop.click_pay():
            shop.problems.append("the buyer is asked to pay a paid order")


class PayBoth(PayAfterChange):
    """The same, but the buyer pays the old invoice and the new one."""

    def after(self, shop):
        Pay.after(self, shop)
        shop.pay(BitsbyInvoice.objects.get(pk=shop.memo["old"]))


# Settling.


class SettleByRun(Operation):
    """A run that finds the payment."""

    def prepare(self, shop):
        shop.pay(invoiced(shop))


class SettleByDelivery(SettleByRun):
    """A webhook delivery that makes the shop refresh; it comes again."""

    def act(self, shop):
        shop.deliver(shop.invoice())

    def after(self, shop):
        shop.later(60)
        if shop.deliver(shop.invoice()) != 200:
            shop.problems.append("the delivery that comes again a minute later does not settle")


class SettleByLostDelivery(SettleByDelivery):
    """A webhook delivery that makes the shop refresh, and never comes again."""

    after = Operation.after


class SettleByPage(SettleByRun):
    """The buyer opens the order's page, which asks Bitsby."""

    def act(self, shop):
        shop.browser().get(signed_urls.order_url(shop.order()))


class SettleBurst(Operation):
    """A delivery while another one waits for a refresh: one request settles both."""

    stage = "two placed"
    orders = 2

    def prepare(self, shop):
        for buyer in (0, 1):
            shop.pay(invoiced(shop, buyer))
        run.BitsbyInvoice.objects.filter(pk=shop.invoice(1).pk).update(
            webhook_pending_since="2026-01-01T00:00Z"
        )

    def act(self, shop):
        shop.deliver(shop.invoice(0))


class SettleTwoByRun(SettleBurst):
    """A run that finds the payments of two orders, and an unmatched one."""

    def prepare(self, shop):
        super().prepare(shop)
        short(shop, shop.invoice(1))

    act = Operation.act


class SettleByPages(Operation):
    """A run that finds the payment on the second page of a list, below unmatched ones."""

    def prepare(self, shop):
        invoice = invoiced(shop)
        for _ in range(3):
            short(shop, invoice)
        # A sync of a list that is known to be newest first stops early.
        shop.reconcile()
        shop.later(2)
        shop.pay(invoice)
        for _ in range(10):
            shop.later(2)
            short(shop, invoice)


class SettleSecond(PayAfterChange):
    """A run that finds two payments of one order."""

    def prepare(self, shop):
        super().prepare(shop)
        for invoice in (shop.invoice(), invoiced(shop)):
            shop.pay(invoice)

    act = Operation.act
    after = Operation.after

    def expect(self, shop):
        flags = set(BitsbyPayment.objects.values_list("review_reason", flat=True))
        wrong = [] if "second" in flags else [f"no second payment to review: {flags}"]
        return super().expect(shop) + wrong


class SettleLate(Operation):
    """A run that finds a payment of an order that was cancelled before."""

    final_statuses = (audit.CANCELLED,)

    def prepare(self, shop):
        shop.memo["payments"] = [short(shop, invoiced(shop))]
        let_cancel(shop)
        bind_at_bitsby(shop)


class SettleUnbound(Operation):
    """A run that finds a payment of a wrong amount."""

    final_statuses = (audit.PENDING,)

    def prepare(self, shop):
        short(shop, invoiced(shop))


# Expiring and cancelling.


class Expire(Operation):
    """A run that expires an invoice; the buyer pays again."""

    prepare = PayAfterExpiry.prepare
    after = Pay.after


class ExpireAbandoned(Expire):
    """A run that expires an invoice; the buyer does not return."""

    final_statuses = (audit.CANCELLED,)

    def after(self, shop):
        shop.later(HOUR + 60)


class Cancel(Expire):
    """A run that cancels an unpaid order."""

    final_statuses = (audit.CANCELLED,)

    def prepare(self, shop):
        super().prepare(shop)
        shop.reconcile()
        shop.later(HOUR + 60)

    after = Operation.after


class CancelLongAgo(Cancel):
    """The first run after a long time: it expires and cancels."""

    def prepare(self, shop):
        Expire.prepare(self, shop)
        # No run has expired the invoice yet; its order counts from the end of its payment window.
        shop.later(5 * HOUR)


class CancelUnstarted(Cancel):
    """A run that cancels an order whose buyer never came to the payment page."""

    def prepare(self, shop):
        shop.later(HOLD)


class CancelPaid(Cancel):
    """A run that cancels an order; before the next run its late payment is bound at Bitsby."""

    final_statuses = (audit.CANCELLED, audit.PAID)

    def prepare(self, shop):
        shop.memo["payments"] = [short(shop, invoiced(shop))]
        shop.later(HOUR + 60)
        shop.reconcile()
        shop.later(KEPT)

    def after(self, shop):
        bind_at_bitsby(shop)


class CancelTwo(ExpireAbandoned):
    """A run that cancels two orders, which share a voucher and products."""

    stage = "two placed"
    orders = 2

    def prepare(self, shop):
        for buyer in (0, 1):
            invoiced(shop, buyer)
        # The first run may expire the invoices only.
        shop.later(2 * HOUR + 120)


class CancelInvoice(Operation):
    """Staff cancels an invoice at Bitsby; the buyer pays by another."""

    def prepare(self, shop):
        invoiced(shop)

    def act(self, shop):
        binding.cancel_invoice(shop.invoice(), shop.staff)

    def after(self, shop):
        invoice = shop.invoice()
        remote = invariants.Remote(shop.state()).invoices[str(invoice.bitsby_id)]
        if invoice.show_addresses() and remote["status"] == "canceled":
            shop.problems.append("the buyer is shown the addresses of a canceled invoice")
        # Before the next run, a click would lead to the canceled invoice's page.
        shop.run_until_stable()
        Pay.after(self, shop)


# Binding and other decisions of staff.


class Bind(Operation):
    """Staff binds a payment of a wrong amount, and does it again after the crash."""

    def prepare(self, shop):
        shop.memo["payments"] = [short(shop, invoiced(shop))]
        shop.reconcile()

    def act(self, shop):
        binding.bind(shop.invoice(), shop.memo["payments"][0], shop.staff, "it was meant")

    after = act


class BindLeft(Bind):
    """Staff binds a payment of a wrong amount, and does nothing after the crash."""

    final_statuses = (audit.PAID, audit.PENDING)

    after = Operation.after

    def expect(self, shop):
        bound = [item for item in shop.state()["payments"] if item.get("invoice")]
        expected = audit.PAID if bound else audit.PENDING
        found = shop.order().status
        return [] if found == expected else [f"bound={bool(bound)}, and the order is {found}"]


class BindLate(Bind):
    """Staff binds a payment to the invoice of an order that was cancelled."""

    final_statuses = (audit.CANCELLED,)

    def prepare(self, shop):
        super().prepare(shop)
        let_cancel(shop)


class BindByForm(Bind):
    """The same with the dashboard's form, with its session and log entry."""

    def act(self, shop):
        order = shop.order()
        shop.staff_browser().post(
            f"/bitsby/dashboard/orders/{order.pk}/bind/",
            {
                "invoice": shop.invoice().pk,
                "payment": shop.memo["payments"][0],
                "payment_id": "",
                "note": "it was meant",
                "confirm": "on",
            },
        )

    after = Bind.act


class AcceptBound(Bind):
    """Staff accepts a payment that was bound at Bitsby, and does it again after the crash."""

    def prepare(self, shop):
        super().prepare(shop)
        bind_at_bitsby(shop)
        shop.reconcile()

    def act(self, shop):
        review.accept(BitsbyPayment.objects.get().pk, shop.staff, "fine")

    after = act


# Receiving a delivery with a false status.


class DeliverForged(Operation):
    """A delivery for an unpaid invoice; then it is paid, and the real delivery comes."""

    def prepare(self, shop):
        invoiced(shop)

    def act(self, shop):
        shop.deliver(shop.invoice())

    def after(self, shop):
        shop.run_until_stable()
        shop.later(60)
        shop.pay(shop.invoice())
        if shop.deliver(shop.invoice()) != 200:
            shop.problems.append("the real delivery does not settle")


class DeliverForgedOnly(DeliverForged):
    """A delivery for an invoice that is never paid."""

    final_statuses = (audit.CANCELLED,)
    after = PayAbandoned.after


# Proving.


class AuditBooks(Operation):
    """An audit of two pages of payments; the next one goes on, or begins anew."""

    def prepare(self, shop):
        invoice = invoiced(shop)
        shop.pay(invoice)
        for _ in range(10):
            short(shop, invoice)
        shop.reconcile()

    def act(self, shop):
        audit_books()

    def after(self, shop):
        result = audit_books()
        if result.state != "proved" or result.run.payments_read != 11:
            shop.problems.append(f"the audit after the crash: {result}, {result.unproved}")
        if AuditedItem.objects.exists():
            shop.problems.append("what the killed audit had read was not deleted")
