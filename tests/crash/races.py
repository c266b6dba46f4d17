"""Races: processes that start at the same moment and work on the same orders."""

import random
from dataclasses import replace
from functools import partial

from django.db import connections
from django.urls import reverse
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.staff import binding, review
from tests.crash import audit, processes
from tests.crash.barrier import Barrier
from tests.crash.operations import (
    Bind,
    CancelPaid,
    PayAfterExpiry,
    Scenario,
    SettleLate,
    bind_at_bitsby,
    invoiced,
    short,
)
from tests.crash.runner import Result, in_shop, wait_out_poll_backoff
from tests.crash.shop import HOLD, HOUR

Order = get_model("order", "Order")

RACES = {}

#: The most statements of the held process before the others begin.
MAX_SKIPPED = 25
#: The held process has read or locked what it is about to change.
READ = r'FROM "order_order"|FOR UPDATE'
#: A run has read everything that decides on a cancellation, payments in review last.
DECIDED = r'FROM "oscar_bitsby_bitsbypayment" INNER JOIN "oscar_bitsby_bitsbyinvoice"'
#: It has begun to release or to take again what an order holds: vouchers or stock.
TAKEN = RELEASED = r'UPDATE "(voucher_voucher|partner_stockrecord)"'


class Race(Scenario):
    """Base of all races.

    ``jobs`` are functions of a shop that run at once, each in a process of its own. ``held`` has
    the numbers of the jobs that are held back, one in each round, and the statement inside a
    transaction at which the others begin.
    """

    registry = RACES
    #: Staff sets the order's status by hand.
    staff_moves = False
    #: An order is cancelled in it, which may take more runs.
    is_slow = False
    jobs = ()
    held = ((0, READ),)


def run_race(runner, race, rounds):
    """Run a race ``rounds`` times for each job that is held back in it."""
    result = Result(race.name, points=rounds * len(race.held))
    for number in range(1, result.points + 1):
        result.add(f"round {number}", run_round(runner, race, number))
    return result


def has_row_locks():
    return connections["default"].vendor == "postgresql"


def run_round(runner, race, number):
    """Run one round; return the shop at rest, with its problems."""
    runner.restore(race.stage)
    shop = replace(runner.shop, memo={}, problems=[], observations=[])

    def prepare(shop):
        race.prepare(shop)
        if any(job in STAFF_JOBS for job in race.jobs):
            cookies = shop.staff_browser().cookies
            shop.memo["staff"] = {name: one.value for name, one in cookies.items()}

    shop = runner.step(shop, prepare)
    seed = f"{race.name} {number}"
    held, begin = race.held[(number - 1) % len(race.held)]
    skip = 0
    if number > len(race.held):
        # At any other statement.
        begin, skip = "", random.Random(seed).randrange(MAX_SKIPPED)
    barrier = Barrier(
        race.jobs, held if has_row_locks() else None, begin=begin, skip=skip, seed=seed
    )
    exits = processes.at_once(
        [partial(in_shop, shop, job) for job in barrier.paced_jobs()],
        ready=connections["default"].ensure_connection,
    )
    problems = []
    for one in exits:
        problems += [one.value] if one.failed else one.value.problems

    def rest(shop):
        race.after(shop)
        shop.run_until_stable()
        if race.is_slow:
            wait_out_poll_backoff(shop)
        shop.problems += audit.audit(
            shop,
            staff_moved_orders=race.staff_moves,
            placed_meanwhile=place in race.jobs or place_other in race.jobs,
        )
        shop.problems += race.expect(shop)
        statuses = Order.objects.order_by("pk").values_list("status", flat=True)
        shop.observations.append(f"orders at rest: {', '.join(statuses)}")

    try:
        shop = runner.step(shop, rest)
    except RuntimeError as error:
        shop = replace(shop, problems=[f"not recovered: {error}"])
    shop.problems += problems
    return shop


# What buyers, staff and processes do.


def refresh(shop):
    reconciliation.refresh(shop.invoice())


def reconcile(shop):
    shop.reconcile()


def deliver(shop):
    shop.deliver(shop.invoice())


def open_order_page(shop):
    shop.browser().get(signed_urls.order_url(shop.order()))


def click_pay(shop):
    shop.click_pay()


def place(shop, buyer=0):
    check_answer(shop, shop.place(buyer), 302)


def place_other(shop):
    place(shop, 1)


def bind(shop, buyer=0, payment=0):
    # Staff has chosen the invoice on the page before.
    invoice = BitsbyInvoice.objects.filter(order=shop.order(buyer)).latest("pk")
    binding.bind(invoice, shop.memo["payments"][payment], shop.staff, "it was meant")


def accept(shop):
    review.accept(BitsbyPayment.objects.get().pk, shop.staff, "fine")


def reinstate(shop):
    # A shop whose pipeline lets a cancelled order be paid.
    Order.pipeline = Order.pipeline | {audit.CANCELLED: (audit.PAID,)}
    review.reinstate(BitsbyPayment.objects.get().pk, shop.staff, "paid late")


def bind_and_deliver(shop):
    bind_at_bitsby(shop)
    deliver(shop)
    refresh(shop)


def cancel_in_dashboard(shop):
    act_in_dashboard(shop, "change_order_status", new_status=audit.CANCELLED)


def ship_in_dashboard(shop):
    act_in_dashboard(shop, "change_order_status", new_status=audit.PAID)


def write_note(shop):
    act_in_dashboard(shop, "save_note", message="called the buyer", note_type="Info")


def act_in_dashboard(shop, action, **data):
    url = reverse("dashboard:order-detail", kwargs={"number": shop.order().number})
    response = staff_browser_of(shop).post(url, {"order_action": action, **data})
    check_answer(shop, response, 200, 302)


def save_in_admin(shop):
    """Save the order's form with the values of the moment when staff opened it."""
    order = shop.order()
    data = {
        "site": order.site_id,
        "currency": order.currency,
        "shipping_method": order.shipping_method,
        "shipping_code": order.shipping_code,
        "shipping_address": order.shipping_address_id,
        "status": audit.PENDING,
        "guest_email": "other@example.com",
        "date_placed_0": order.date_placed.date(),
        "date_placed_1": order.date_placed.strftime("%H:%M:%S"),
        "lines-TOTAL_FORMS": 0,
        "lines-INITIAL_FORMS": 0,
    }
    url = reverse("admin:order_order_change", args=[order.pk])
    check_answer(shop, staff_browser_of(shop).post(url, data), 302)


def staff_browser_of(shop):
    """Return the browser in which staff is logged in."""
    browser = shop.browser()
    browser.cookies.load(shop.memo["staff"])
    return browser


def check_answer(shop, response, *expected):
    if response.status_code not in expected:
        path = response.request["PATH_INFO"]
        shop.problems.append(f"the shop answers {response.status_code} to a POST to {path}")


STAFF_JOBS = (cancel_in_dashboard, ship_in_dashboard, write_note, save_in_admin)


# The races.


class SettleSettle(Race):
    """Four workers refresh the same invoice."""

    jobs = (refresh, refresh, refresh, refresh)

    def prepare(self, shop):
        shop.pay(invoiced(shop))


class SettleRunsDeliveries(SettleSettle):
    """Two runs, two deliveries and the buyer's page."""

    jobs = (reconcile, reconcile, deliver, deliver, open_order_page)


class CancelSettle(Race):
    """A late payment is bound while runs cancel the order."""

    final_statuses = (audit.PAID, audit.CANCELLED)
    is_slow = True
    jobs = (bind_and_deliver, reconcile, reconcile)
    held = ((1, DECIDED), (0, READ))
    prepare = CancelPaid.prepare


class CancelBound(CancelSettle):
    """The same, with a payment that is bound before all of them begin."""

    jobs = (refresh, deliver, reconcile, refresh)
    held = ((2, READ),)

    def prepare(self, shop):
        super().prepare(shop)
        bind_at_bitsby(shop)


class CancelPay(CancelSettle):
    """The buyer returns at the moment of the cancellation."""

    jobs = (click_pay, reconcile, click_pay)
    held = ((1, DECIDED), (0, READ))
    final_statuses = (audit.CANCELLED,)

    def after(self, shop):
        for _ in range(2):
            shop.later(HOUR + 60)
            shop.run_until_stable()


class PayPay(Race):
    """Four clicks on "pay"."""

    jobs = (click_pay, click_pay, click_pay, click_pay)
    made = 1

    def after(self, shop):
        page = shop.click_pay()
        made = len(shop.state()["invoices"])
        if made != self.made:
            shop.problems.append(f"{made} invoices were created, not {self.made}")
        shop.pay_page(page)


class PayPayExpired(PayPay):
    """Four clicks on "pay" when the first invoice has expired."""

    made = 2
    prepare = PayAfterExpiry.prepare


class PaySettle(SettleSettle):
    """The buyer pays and clicks again while workers settle."""

    jobs = (click_pay, refresh, reconcile, deliver)
    held = ((0, READ), (1, READ))

    def after(self, shop):
        if shop.click_pay():
            shop.problems.append("the buyer is asked to pay a paid order")


class PlacePlace(Race):
    """Three clicks on "place order" in one browser; the buyer does not return."""

    stage = "checkout"
    is_slow = True
    jobs = (place, place, place)
    final_statuses = (audit.CANCELLED,)

    def after(self, shop):
        shop.later(HOLD)


class PlaceCancel(PlacePlace):
    """An order is cancelled while another with the same products and voucher is placed."""

    stage = "placed"
    orders = 2
    jobs = (place_other, reconcile)
    held = ((0, READ), (1, DECIDED))
    prepare = PlacePlace.after


class PlaceRelease(PlaceCancel):
    """The same, from the moment when the first voucher or stock of both orders is released."""

    held = ((1, RELEASED),)


class ReinstatePlace(Race):
    """Staff reinstate an order while another with the same products and vouchers is placed."""

    stage = "placed"
    orders = 2
    staff_moves = True
    jobs = (reinstate, place_other)
    held = ((0, READ), (0, TAKEN), (1, READ))
    final_statuses = (audit.PAID, audit.CANCELLED)

    def prepare(self, shop):
        SettleLate.prepare(self, shop)
        shop.reconcile()

    def after(self, shop):
        shop.later(HOLD)


class BindBind(Race):
    """Three members of staff bind one payment to one invoice."""

    jobs = (bind, bind, bind)
    prepare = Bind.prepare


class BindTwoPayments(BindBind):
    """Two payments are bound to one invoice."""

    jobs = (bind, lambda shop: bind(shop, payment=1), reconcile)

    def prepare(self, shop):
        invoice = invoiced(shop)
        shop.memo["payments"] = [short(shop, invoice), short(shop, invoice)]
        shop.reconcile()


class BindTwoOrders(BindBind):
    """One payment is bound to the invoices of two orders."""

    stage = "two placed"
    jobs = (bind, lambda shop: bind(shop, buyer=1), reconcile)

    def prepare(self, shop):
        super().prepare(shop)
        invoiced(shop, 1)

    def expect(self, shop):
        statuses = sorted(Order.objects.values_list("status", flat=True))
        return [] if statuses == [audit.PAID, audit.PENDING] else [f"the orders are {statuses}"]


class AcceptSettle(BindBind):
    """Staff accepts a short payment while workers refresh it."""

    jobs = (accept, accept, refresh, reconcile)

    def prepare(self, shop):
        super().prepare(shop)
        bind_at_bitsby(shop)
        shop.reconcile()


class SettleNote(SettleSettle):
    """Staff writes notes on the order while it is settled."""

    jobs = (refresh, write_note, deliver, write_note)


class SettleStaffMoves(SettleSettle):
    """Staff moves the order in the dashboard while it is settled."""

    jobs = (refresh, ship_in_dashboard, deliver, cancel_in_dashboard)
    staff_moves = True
    final_statuses = (audit.PAID, audit.CANCELLED)


class SettleStaffSaves(SettleSettle):
    """Staff saves the order's whole form in the admin while it is settled."""

    jobs = (refresh, save_in_admin, deliver, reconcile)
    staff_moves = True
    final_statuses = (audit.PAID, audit.PENDING)

    def after(self, shop):
        # Whatever its status, it is paid: no click leads to a payment, and no run cancels it.
        if shop.click_pay():
            shop.problems.append("the buyer is asked to pay a paid order")
        shop.later(3 * HOUR)


class CancelStaffCancels(CancelSettle):
    """Staff cancels in the dashboard while a run does, and a late payment arrives."""

    jobs = (reconcile, cancel_in_dashboard, bind_and_deliver)
    held = ((0, DECIDED),)
    staff_moves = True


class BuyerStaffDeliveriesRuns(SettleSettle):
    """Buyer, staff, deliveries and runs at once on one order."""

    jobs = (refresh, deliver, reconcile, click_pay, open_order_page, write_note, reconcile)
