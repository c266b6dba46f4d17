"""Real races: processes that start in the same moment, each with what it wants of one order."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from functools import partial

from django.db import connections
from django.urls import reverse
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.staff import binding, review
from tests.crash import audit, processes
from tests.crash.barrier import Meeting
from tests.crash.operations import bind_at_bitsby, invoiced, short
from tests.crash.runner import Finding, come_to_rest, in_shop
from tests.crash.shop import HOUR

Order = get_model("order", "Order")

RACES = {}

#: Statements of the held one after which the others begin at the latest.
MOST_SKIPPED = 25
#: What it is about to change, the held one has read or locked.
READ = r'FROM "order_order"|FOR UPDATE'
#: A pass has read all that speaks for giving an order up, last whether money waits for it.
DECIDED = r'FROM "oscar_bitsby_bitsbypayment" INNER JOIN "oscar_bitsby_bitsbyinvoice"'
#: It has begun to give back: goods or vouchers, whichever come first.
GAVE_BACK = r'UPDATE "(voucher_voucher|partner_stockrecord)"'


@dataclass
class Outcome:
    """What the rounds of a race gave."""

    operation: str
    rounds: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


class Race:
    """What all races share; a subclass with a ``name`` is one of them.

    ``jobs`` are the functions of a shop that run at once, each in a process of its own. ``held``
    has the numbers of those that are as slow as can be, one in each round, and the statement of
    theirs, inside a transaction, at which the others begin.
    """

    name = ""
    stage = "placed"
    #: The statuses that the order may end in.
    ends = (audit.PAID,)
    #: Staff gives the order a status of its own choice.
    staff_moves = False
    #: Something is given up in it, which may take more passes.
    is_slow = False
    jobs = ()
    held = ((0, READ),)

    def __init_subclass__(cls):
        if cls.name:
            RACES[cls.name] = cls()

    def prepare(self, shop):
        """Bring about the situation."""

    def after(self, shop):
        """Let time pass."""

    def expect(self, shop):
        """Return what is wrong beyond the audit."""
        status = shop.order().status
        return [] if status in self.ends else [f"the order is {status}, not {self.ends}"]


def run_race(runner, race, rounds):
    """Repeat a race, so often for each job that is held in it; return what came of it."""
    outcome = Outcome(race.name)
    for number in range(1, rounds * len(race.held) + 1):
        shop = run_round(runner, race, number)
        outcome.rounds += 1
        end = shop.notes.get("end", "?")
        outcome.ends[end] = outcome.ends.get(end, 0) + 1
        if shop.problems:
            outcome.findings.append(Finding(race.name, f"round {number}", shop.problems))
    return outcome


def has_row_locks():
    return connections["default"].vendor == "postgresql"


def run_round(runner, race, number):
    """Race once; return the shop at rest, with what is wrong about it."""
    runner.restore(race.stage)
    shop = replace(runner.shop, notes={}, problems=[], remarks=[])

    def prepare(shop):
        race.prepare(shop)
        if any(job in STAFFS for job in race.jobs):
            cookies = shop.staff_browser().cookies
            shop.notes["staff"] = {name: one.value for name, one in cookies.items()}

    shop = runner.step(shop, prepare)
    seed = f"{race.name} {number}"
    held, begin = race.held[(number - 1) % len(race.held)]
    skip = 0
    if number > len(race.held):
        # Anywhere else.
        begin, skip = "", random.Random(seed).randrange(MOST_SKIPPED)
    meeting = Meeting(
        race.jobs, held if has_row_locks() else None, begin=begin, skip=skip, seed=seed
    )
    ended = processes.at_once(
        [partial(in_shop, shop, job) for job in meeting.paced_jobs()],
        ready=connections["default"].ensure_connection,
    )
    problems = []
    for end in ended:
        problems += [end.value] if end.failed else end.value.problems

    def rest(shop):
        race.after(shop)
        shop.until_quiet()
        if race.is_slow:
            come_to_rest(shop)
        shop.problems += audit.audit(
            shop,
            staff_moved_orders=race.staff_moves,
            placed_meanwhile=place in race.jobs or place_other in race.jobs,
        )
        shop.problems += race.expect(shop)
        shop.notes["end"] = ", ".join(Order.objects.order_by("pk").values_list("status", flat=True))

    try:
        shop = runner.step(shop, rest)
    except RuntimeError as error:
        shop = replace(shop, problems=[f"not recovered: {error}"])
    shop.problems += problems
    return shop


# What people and machines do.


def refresh(shop):
    reconciliation.refresh(shop.invoice())


def make_pass(shop):
    shop.reconcile()


def deliver(shop):
    shop.deliver(shop.invoice())


def look(shop):
    shop.browser().get(signed_urls.order_url(shop.order()))


def click_pay(shop):
    shop.click_pay()


def place(shop, buyer=0):
    response = shop.place(buyer)
    if response.status_code != 302:
        shop.problems.append(f"the checkout answers {response.status_code}")


def place_other(shop):
    place(shop, 1)


def bind(shop, buyer=0, payment=0):
    # Staff has chosen the invoice on the page before.
    invoice = BitsbyInvoice.objects.filter(order=shop.order(buyer)).latest("pk")
    binding.bind(invoice, shop.notes["payments"][payment], shop.staff, "it was meant")


def accept(shop):
    review.accept(BitsbyPayment.objects.get().pk, shop.staff, "fine")


def bind_and_tell(shop):
    bind_at_bitsby(shop, shop.invoice(), shop.notes["payments"][0])
    deliver(shop)
    refresh(shop)


def cancel_in_dashboard(shop):
    set_status(shop, audit.CANCELLED)


def ship_in_dashboard(shop):
    set_status(shop, audit.PAID)


def set_status(shop, status):
    url = reverse("dashboard:order-detail", kwargs={"number": shop.order().number})
    data = {"order_action": "change_order_status", "new_status": status}
    answered(shop, at_desk(shop).post(url, data))


def write_note(shop):
    url = reverse("dashboard:order-detail", kwargs={"number": shop.order().number})
    data = {"order_action": "save_note", "message": "called the buyer", "note_type": "Info"}
    answered(shop, at_desk(shop).post(url, data))


def save_in_admin(shop):
    """Save the order's form as it was when staff opened it."""
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
    response = at_desk(shop).post(reverse("admin:order_order_change", args=[order.pk]), data)
    if response.status_code != 302:
        shop.problems.append(f"the admin answers {response.status_code} to saving an order")


def at_desk(shop):
    """Return the browser in which staff has logged in before."""
    browser = shop.browser()
    browser.cookies.load(shop.notes["staff"])
    return browser


def answered(shop, response):
    if response.status_code >= 400:
        shop.problems.append(f"the dashboard answers {response.status_code}")


STAFFS = (cancel_in_dashboard, ship_in_dashboard, write_note, save_in_admin)


# The races.


class Settling(Race):
    """Four workers hear of the same payment."""

    name = "settle x settle"
    jobs = (refresh, refresh, refresh, refresh)

    def prepare(self, shop):
        shop.pay(invoiced(shop))


class Passes(Settling):
    """Two passes, two deliveries and the buyer's page."""

    name = "reconcile x reconcile x webhook"
    jobs = (make_pass, make_pass, deliver, deliver, look)


class Cancelling(Race):
    """Late money is bound while passes give the order up."""

    name = "settle x cancel"
    ends = (audit.PAID, audit.CANCELLED)
    is_slow = True
    jobs = (bind_and_tell, make_pass, make_pass)
    held = ((1, DECIDED), (0, READ))

    def prepare(self, shop):
        shop.notes["payments"] = [short(shop, invoiced(shop))]
        shop.later(HOUR + 60)
        shop.reconcile()
        shop.later(HOUR + 60)


class CancellingBound(Cancelling):
    """The same, with money that is bound already when all of them begin."""

    name = "settle x settle x cancel"
    jobs = (refresh, deliver, make_pass, refresh)
    held = ((2, READ),)

    def prepare(self, shop):
        super().prepare(shop)
        bind_at_bitsby(shop, shop.invoice(), shop.notes["payments"][0])


class CancellingPaying(Cancelling):
    """The buyer comes back in the last second."""

    name = "pay x cancel"
    jobs = (click_pay, make_pass, click_pay)
    held = ((1, DECIDED), (0, READ))
    ends = (audit.CANCELLED,)

    def after(self, shop):
        for _ in range(2):
            shop.later(HOUR + 60)
            shop.until_quiet()


class Paying(Race):
    """Four clicks on "pay"."""

    name = "pay x pay"
    jobs = (click_pay, click_pay, click_pay, click_pay)
    made = 1

    def after(self, shop):
        page = shop.click_pay()
        made = len(shop.state()["invoices"])
        if made != self.made:
            shop.problems.append(f"{made} invoices were created, not {self.made}")
        shop.pay_page(page)


class PayingAgain(Paying):
    """Four clicks on "pay" when the first invoice ran out."""

    name = "pay x pay, first one expired"
    made = 2

    def prepare(self, shop):
        invoiced(shop)
        shop.later(HOUR + 60)


class PayingSettled(Paying):
    """The buyer pays and clicks again while workers settle."""

    name = "pay x settle"
    jobs = (click_pay, refresh, make_pass, deliver)
    held = ((0, READ), (1, READ))

    def prepare(self, shop):
        shop.pay(invoiced(shop))

    def after(self, shop):
        if shop.click_pay():
            shop.problems.append("the buyer is asked to pay a paid order")


class Placing(Race):
    """Three clicks on "place order" in one browser; then nobody comes back."""

    name = "place x place"
    stage = "checkout"
    is_slow = True
    jobs = (place, place, place)
    ends = (audit.CANCELLED,)

    def after(self, shop):
        shop.later(2 * HOUR + 60)


class PlacingCancelling(Race):
    """An order is given up while another with the same goods and voucher is placed."""

    name = "place x cancel"
    is_slow = True
    jobs = (place_other, make_pass)
    held = ((0, READ), (1, DECIDED))
    ends = (audit.CANCELLED,)

    def prepare(self, shop):
        shop.later(2 * HOUR + 60)

    def after(self, shop):
        shop.later(2 * HOUR + 60)

    def expect(self, shop):
        statuses = list(Order.objects.values_list("status", flat=True))
        return [] if statuses == [audit.CANCELLED] * 2 else [f"the orders are {statuses}"]


class GivingBackPlacing(PlacingCancelling):
    """The same, in the moment when the first of what both orders use is given back."""

    name = "place x cancel, giving back"
    held = ((1, GAVE_BACK),)


class Binding(Race):
    """Three members of staff bind one payment to one invoice."""

    name = "bind x bind"
    jobs = (bind, bind, bind)

    def prepare(self, shop):
        shop.notes["payments"] = [short(shop, invoiced(shop))]
        shop.reconcile()


class BindingTwoPayments(Binding):
    """Two payments are bound to one invoice."""

    name = "bind x bind, two payments"
    jobs = (bind, lambda shop: bind(shop, payment=1), make_pass)

    def prepare(self, shop):
        invoice = invoiced(shop)
        shop.notes["payments"] = [short(shop, invoice), short(shop, invoice)]
        shop.reconcile()


class BindingTwoOrders(Binding):
    """One payment is bound to the invoices of two orders."""

    name = "bind x bind, two orders"
    stage = "two placed"
    jobs = (bind, lambda shop: bind(shop, buyer=1), make_pass)

    def prepare(self, shop):
        super().prepare(shop)
        invoiced(shop, 1)

    def expect(self, shop):
        statuses = sorted(Order.objects.values_list("status", flat=True))
        return [] if statuses == [audit.PAID, audit.PENDING] else [f"the orders are {statuses}"]


class Accepting(Binding):
    """Staff accepts a short payment while workers look at it again."""

    name = "accept x settle"
    jobs = (accept, accept, refresh, make_pass)

    def prepare(self, shop):
        super().prepare(shop)
        bind_at_bitsby(shop, shop.invoice(), shop.notes["payments"][0])
        shop.reconcile()


class StaffNotes(Settling):
    """Staff writes notes on the order while it is settled."""

    name = "settle x staff's note"
    jobs = (refresh, write_note, deliver, write_note)


class StaffShips(Settling):
    """Staff moves the order in the dashboard while it is settled."""

    name = "settle x staff moves"
    jobs = (refresh, ship_in_dashboard, deliver, cancel_in_dashboard)
    staff_moves = True
    ends = (audit.PAID, audit.CANCELLED)


class StaffSaves(Settling):
    """Staff saves the order's whole form in the admin while it is settled."""

    name = "settle x staff saves"
    jobs = (refresh, save_in_admin, deliver, make_pass)
    staff_moves = True
    ends = (audit.PAID, audit.PENDING)

    def after(self, shop):
        # Whatever status staff gave it: it is paid, and nobody asks for money or gives it up.
        if shop.click_pay():
            shop.problems.append("the buyer is asked to pay a paid order")
        shop.later(3 * HOUR)


class StaffCancels(Cancelling):
    """Staff cancels in the dashboard while a pass does, and late money comes."""

    name = "cancel x staff cancels"
    jobs = (make_pass, cancel_in_dashboard, bind_and_tell)
    held = ((0, DECIDED),)
    staff_moves = True


class Everything(Race):
    """All of them on one order."""

    name = "everything"
    ends = (audit.PAID,)
    jobs = (refresh, deliver, make_pass, click_pay, look, write_note, make_pass)

    def prepare(self, shop):
        shop.pay(invoiced(shop))
