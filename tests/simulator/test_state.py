from datetime import timedelta
from decimal import Decimal

import pytest

from oscar_bitsby.simulator.state import Clock, Refused, State
from oscar_bitsby.simulator.wallets import WALLETS
from tests.simulator.support import PROJECT

HOUR = Decimal("1")
USDT = WALLETS[0]


@pytest.fixture
def state():
    return State(Clock())


def make(state, amount="10", hours=HOUR):
    return state.create(PROJECT, Decimal(amount), "USD", hours)


def test_live_invoices_of_the_same_amount_reserve_different_amounts(state):
    """The amount identifies the invoice of a payment on every wallet."""
    invoices = [make(state) for _ in range(5)]
    for wallet in WALLETS:
        assert len({invoice.reserved[wallet.id] for invoice in invoices}) == 5


def test_closed_invoices_free_their_amounts(state):
    """The amount of a canceled or expired invoice is reserved again."""
    first = make(state)
    state.cancel(first.id)
    second = make(state)
    state.expire(second)
    assert make(state).reserved == second.reserved == first.reserved


@pytest.mark.parametrize(
    ("wallet", "change"),
    [(USDT, "0.00000001"), (USDT, "-0.000001"), (USDT, "1"), (WALLETS[3], "0")],
)
def test_other_amounts_and_wallets_stay_unbound(state, wallet, change):
    """A payment of the smallest difference, or in another coin, matches nothing."""
    invoice = make(state)
    payment = state.transfer(wallet, invoice.reserved[USDT.id] + Decimal(change))
    assert payment.invoice is None
    assert invoice.status == "unpaid"


def test_binding_to_a_closed_invoice_keeps_newer_reservations(state):
    """Binding to an expired invoice leaves a newer one of the same amount payable."""
    old = make(state)
    state.expire(old)
    new = make(state)
    payment = state.transfer(USDT, Decimal("3"))
    state.bind(old.id, payment.id)
    assert state.transfer(USDT, new.reserved[USDT.id]).invoice is new


def test_invoices_expire_when_their_time_is_up(state):
    """Only unpaid invoices expire when their time is up, and a second transfer is unbound."""
    unpaid, canceled, paid = make(state), make(state), make(state)
    state.cancel(canceled.id)
    state.transfer(USDT, paid.reserved[USDT.id])
    assert state.transfer(USDT, paid.reserved[USDT.id]).invoice is None
    state.clock.advance(3590)
    assert state.invoice(unpaid.id).status == "unpaid"
    state.clock.advance(10)
    assert state.invoice(unpaid.id).status == "expired"
    assert state.invoice(canceled.id).status == "canceled"
    assert state.invoice(paid.id).status == "paid"


def test_expiring_now_leaves_no_time(state):
    """An expired invoice has no time left; expiring it again changes nothing."""
    invoice = make(state)
    state.expire(invoice)
    ended = invoice.pay_until
    state.expire(invoice)
    assert invoice.pay_until == ended <= state.clock.now()


@pytest.mark.parametrize("close", ["none", "cancel", "expire"])
def test_bind_pays_whatever_is_not_paid(state, close):
    """Staff can bind to an unpaid, a canceled and an expired invoice."""
    invoice = make(state)
    if close == "cancel":
        state.cancel(invoice.id)
    elif close == "expire":
        state.expire(invoice)
    payment = state.transfer(USDT, Decimal("3"))
    state.bind(invoice.id, payment.id)
    assert invoice.status == "paid"
    assert invoice.payment is payment


def test_payment_and_invoice_are_bound_only_once(state):
    """A payment is bound once, an invoice paid once, and both must exist."""
    first, second = make(state), make(state)
    payment, spare = state.transfer(USDT, Decimal("3")), state.transfer(USDT, Decimal("4"))
    with pytest.raises(Refused, match="Payment not found"):
        state.bind(first.id, "no such payment")
    with pytest.raises(Refused, match="Invoice not found"):
        state.bind("no such invoice", payment.id)
    state.bind(first.id, payment.id)
    with pytest.raises(Refused, match="already bound"):
        state.bind(second.id, payment.id)
    with pytest.raises(Refused, match="already paid"):
        state.bind(first.id, spare.id)


def test_paid_invoices_are_reported():
    """The callback gets each invoice that becomes paid, by its amount or by binding."""
    reported = []
    state = State(Clock(), on_paid=lambda *paid: reported.append(paid))
    matched, bound = make(state), make(state)
    state.transfer(USDT, matched.reserved[USDT.id])
    state.bind(bound.id, state.transfer(USDT, Decimal("3")).id)
    assert reported == [(matched, matched.payment), (bound, bound.payment)]


def test_lists_are_newest_first(state):
    """Lists are ordered by time, also if the clock was set back in between."""
    first, second = make(state), make(state)
    state.clock.advance(-86400)
    old = make(state)
    assert state.invoices() == [second, first, old]
    early = state.transfer(USDT, Decimal("1"))
    state.clock.advance(86400)
    late = state.transfer(USDT, Decimal("1"))
    assert state.payments() == [late, early]


@pytest.mark.parametrize("seconds", [1e30, 1e12, -1e11, 2.3e11])
def test_the_clock_stays_within_the_calendar(seconds):
    """Moving the clock beyond what dates can hold is refused and moves nothing."""
    clock = Clock()
    with pytest.raises(Refused):
        clock.advance(seconds)
    assert clock.offset == timedelta()


def test_short_ids_are_never_given_twice(state, monkeypatch):
    """A short id that exists already is drawn again."""
    letters = iter("a" * 24 + "b" * 12)
    monkeypatch.setattr("secrets.choice", lambda alphabet: next(letters))
    assert [make(state).uid, make(state).uid] == ["a" * 12, "b" * 12]
