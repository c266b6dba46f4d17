from datetime import timedelta
from decimal import Decimal

import pytest

from oscar_bitsby.simulator.state import Clock, Ledger, Refused
from oscar_bitsby.simulator.wallets import WALLETS

from .conftest import PROJECT

HOUR = Decimal("1")
USDT = WALLETS[0]


@pytest.fixture
def ledger():
    return Ledger(Clock())


def make(ledger, amount="10", hours=HOUR):
    return ledger.create(PROJECT, Decimal(amount), "USD", hours)


def test_live_invoices_of_the_same_amount_reserve_different_amounts(ledger):
    """Whose payment it is can be told by its amount on every wallet."""
    invoices = [make(ledger) for _ in range(5)]
    for wallet in WALLETS:
        assert len({invoice.reserved[wallet.id] for invoice in invoices}) == 5


def test_closed_invoices_free_their_amounts(ledger):
    """The amount of a canceled or expired invoice is asked for again."""
    first = make(ledger)
    ledger.cancel(first.id)
    second = make(ledger)
    ledger.expire(second)
    assert make(ledger).reserved == second.reserved == first.reserved


def test_exact_amount_pays_the_invoice_that_waits_for_it(ledger):
    """A transfer is matched by wallet and exact amount."""
    first, second = make(ledger), make(ledger)
    payment = ledger.transfer(USDT, second.reserved[USDT.id])
    assert (first.status, second.status) == ("unpaid", "paid")
    assert payment.invoice is second
    assert second.payment is payment


@pytest.mark.parametrize("change", ["0.00000001", "-0.000001", "1"])
def test_other_amounts_stay_unbound(ledger, change):
    """The smallest difference is enough for a payment to match nothing."""
    invoice = make(ledger)
    payment = ledger.transfer(USDT, invoice.reserved[USDT.id] + Decimal(change))
    assert payment.invoice is None
    assert invoice.status == "unpaid"


def test_an_amount_counts_on_its_own_wallet_only(ledger):
    """The amount reserved in one coin pays nothing when it comes in another."""
    invoice = make(ledger)
    assert ledger.transfer(WALLETS[3], invoice.reserved[USDT.id]).invoice is None


def test_second_and_late_transfers_stay_unbound(ledger):
    """Only an unpaid invoice that has time left takes money by itself."""
    paid, late = make(ledger, "1"), make(ledger, "2")
    ledger.transfer(USDT, paid.reserved[USDT.id])
    assert ledger.transfer(USDT, paid.reserved[USDT.id]).invoice is None
    ledger.clock.advance(3600)
    assert ledger.transfer(USDT, late.reserved[USDT.id]).invoice is None
    assert late.status == "expired"


def test_a_closed_invoice_does_not_take_away_its_successors_reservation(ledger):
    """Binding to an expired invoice leaves a newer one of the same amount payable."""
    old = make(ledger)
    ledger.expire(old)
    new = make(ledger)
    payment = ledger.transfer(USDT, Decimal("3"))
    ledger.bind(old.id, payment.id)
    assert ledger.transfer(USDT, new.reserved[USDT.id]).invoice is new


def test_invoices_expire_when_their_time_is_up(ledger):
    """Time alone makes an unpaid invoice expired, and leaves the others."""
    unpaid, canceled = make(ledger), make(ledger)
    ledger.cancel(canceled.id)
    ledger.clock.advance(3590)
    assert ledger.invoice(unpaid.id).status == "unpaid"
    ledger.clock.advance(10)
    assert ledger.invoice(unpaid.id).status == "expired"
    assert ledger.invoice(canceled.id).status == "canceled"


def test_speed_shortens_the_time_to_pay():
    """A sped up hour is over sooner on the clock that everybody reads."""
    invoice = make(Ledger(Clock(), speed=60.0))
    assert invoice.pay_until - invoice.created == timedelta(minutes=1)


def test_expiring_now_leaves_no_time(ledger):
    """An invoice made to expire shows no time to pay in the future; again changes nothing."""
    invoice = make(ledger)
    ledger.expire(invoice)
    ended = invoice.pay_until
    ledger.expire(invoice)
    assert invoice.pay_until == ended <= ledger.clock.now()


def test_a_paid_invoice_does_not_expire(ledger):
    """What is paid stays paid."""
    invoice = make(ledger)
    ledger.transfer(USDT, invoice.reserved[USDT.id])
    with pytest.raises(Refused, match="paid"):
        ledger.expire(invoice)
    ledger.clock.advance(7200)
    assert ledger.invoice(invoice.id).status == "paid"


def test_cancel_only_unpaid_and_unseen(ledger):
    """An invoice that a buyer has looked at, or that is not unpaid, cannot be canceled."""
    seen = make(ledger)
    seen.views = 1
    with pytest.raises(Refused, match="viewed"):
        ledger.cancel(seen.id)
    seen.views = 0
    ledger.cancel(seen.id)
    with pytest.raises(Refused, match="Only an unpaid"):
        ledger.cancel(seen.id)


@pytest.mark.parametrize("close", ["none", "cancel", "expire"])
def test_bind_pays_whatever_is_not_paid(ledger, close):
    """Staff can bind to an unpaid, a canceled and an expired invoice."""
    invoice = make(ledger)
    if close == "cancel":
        ledger.cancel(invoice.id)
    elif close == "expire":
        ledger.expire(invoice)
    payment = ledger.transfer(USDT, Decimal("3"))
    ledger.bind(invoice.id, payment.id)
    assert invoice.status == "paid"
    assert invoice.payment is payment


def test_bind_refusals(ledger):
    """A payment is bound once, an invoice paid once, and both must exist."""
    first, second = make(ledger), make(ledger)
    payment, spare = ledger.transfer(USDT, Decimal("3")), ledger.transfer(USDT, Decimal("4"))
    with pytest.raises(Refused, match="Payment not found"):
        ledger.bind(first.id, "no such payment")
    with pytest.raises(Refused, match="Invoice not found"):
        ledger.bind("no such invoice", payment.id)
    ledger.bind(first.id, payment.id)
    with pytest.raises(Refused, match="already bound"):
        ledger.bind(second.id, payment.id)
    with pytest.raises(Refused, match="already paid"):
        ledger.bind(first.id, spare.id)


def test_the_ledger_tells_of_paid_invoices():
    """Whoever listens hears of each invoice that becomes paid, matched or bound."""
    heard = []
    ledger = Ledger(Clock(), on_paid=lambda *paid: heard.append(paid))
    matched, bound = make(ledger), make(ledger)
    ledger.transfer(USDT, matched.reserved[USDT.id])
    ledger.bind(bound.id, ledger.transfer(USDT, Decimal("3")).id)
    assert heard == [(matched, matched.payment), (bound, bound.payment)]


def test_lists_are_newest_first(ledger):
    """Lists go by time of creation, also when the clock was set back in between."""
    first, second = make(ledger), make(ledger)
    ledger.clock.advance(-86400)
    old = make(ledger)
    assert ledger.invoices() == [second, first, old]
    early = ledger.transfer(USDT, Decimal("1"))
    ledger.clock.advance(86400)
    late = ledger.transfer(USDT, Decimal("1"))
    assert ledger.payments() == [late, early]


@pytest.mark.parametrize("seconds", [1e30, 1e12, -1e11, 2.3e11])
def test_the_clock_stays_within_the_calendar(seconds):
    """Moving the clock beyond what dates can hold is refused and moves nothing."""
    clock = Clock()
    with pytest.raises(Refused):
        clock.advance(seconds)
    assert clock.offset == timedelta()


def test_short_ids_are_never_given_twice(ledger, monkeypatch):
    """A short id that exists already is drawn again."""
    letters = iter("a" * 24 + "b" * 12)
    monkeypatch.setattr("secrets.choice", lambda alphabet: next(letters))
    assert [make(ledger).uid, make(ledger).uid] == ["a" * 12, "b" * 12]
