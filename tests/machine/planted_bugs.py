"""Bugs to be planted in the app; the machine must notice each of them by its invariant."""

import datetime as dt
from dataclasses import replace
from types import SimpleNamespace

from django.db import transaction
from django.utils import timezone

from oscar_bitsby import facade, webhook
from oscar_bitsby.accounting import ledger
from oscar_bitsby.gateway import buyer_queue, factory, rate_limit, transport
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, GatewayState
from oscar_bitsby.orders import transitions
from oscar_bitsby.reconciliation import expiry, invoice_refresh, payment_sync, report
from oscar_bitsby.reconciliation.report import RunReport
from oscar_bitsby.settlement import attempts, cancellation, payments, refund_checks, rests, service
from oscar_bitsby.staff import review
from tests.machine import buyer_rules, fake_gateway, gateway_rules, model, shop_machine
from tests.support import invariants

#: Functions that put a bug into the app with the ``setattr`` of pytest's ``monkeypatch``.
PLANTED_BUGS = []


def violates(*messages, is_quick=False):
    """Register the decorated function as a planted bug.

    Args:
        messages: the beginnings of the messages by which the machine must notice it.
        is_quick: it is noticed so soon that every run of the suite tests it.
    """

    def register(plant):
        plant.messages, plant.is_quick = messages, is_quick
        PLANTED_BUGS.append(plant)
        return plant

    return register


def _after(patch, module, name, then):
    """Let a function of the app do something more, with the same arguments."""
    real = getattr(module, name)

    def wrapped(*known):
        real(*known)
        then(*known)

    patch(module, name, wrapped)


@violates(invariants.BOOKED_TWICE)
def books_a_second_invoice_twice(patch):
    """The payment of an order's second invoice is debited twice."""

    def book_again(order, payment, sources):
        if order.bitsby_invoices.count() > 1:
            source = order.sources.get(source_type__code="bitsby")
            source.debit(payment.fiat_value, reference=str(payment.bitsby_id))

    _after(patch, ledger, "book_payment", book_again)


@violates(invariants.ROWS_AND_TRANSACTIONS)
def does_not_save_that_it_booked(patch):
    """A payment is booked and its row does not say so."""

    def forget(order, payment, sources):
        BitsbyPayment.objects.filter(pk=payment.pk).update(booked_at=None)

    _after(patch, ledger, "book_payment", forget)


@violates(invariants.FIAT_VALUE)
def books_the_asked_amount(patch):
    """The asked amount is booked instead of the payment's fiat value."""
    for module in (payments, service):
        patch(module, "fiat_value_of", lambda payment, invoice: invoice.amount)


def _with_input(patch, **forced):
    """Let settlement decide on an input in which some facts are forced."""
    real = service.SettlementInput
    patch(service, "SettlementInput", lambda **known: real(**{**known, **forced}))


@violates(model.BOOKED_ALTERED)
def ignores_the_project(patch):
    """An invoice of another project is taken for one of ours."""
    _with_input(patch, same_project=True)


@violates(model.BOOKED_ALTERED)
def ignores_the_amount(patch):
    """An invoice that asks for another amount is taken for the one that the shop created."""
    _with_input(patch, same_money=True)


@violates(shop_machine.BOOKED_DISMISSED, shop_machine.OVERDUE_ORDERS)
def books_a_dismissed_payment(patch):
    """A payment that staff dismissed counts as if it were not, and may be booked."""
    _with_input(patch, dismissed=False)


@violates(shop_machine.CANCELLED_WHILE_UNPAID, shop_machine.CANCELLED_BY_OLD_ANSWER)
def cancels_with_an_open_invoice(patch):
    """An order is cancelled whatever Bitsby answers about its invoices."""
    patch(cancellation, "_can_be_open", lambda *known: False)


@violates(model.CANCELLED_IN_REVIEW)
def cancels_while_a_payment_is_reviewed(patch):
    """An order is cancelled while its payment waits for review."""
    blind = SimpleNamespace(has_money=ledger.has_money, has_unbooked_money=lambda order: False)
    # Only here: the other users of the ledger see the payment.
    patch(cancellation, "ledger", blind)


@violates(model.CANCELLED_WITH_MONEY)
def sees_no_money(patch):
    """No source ever seems to hold money."""
    patch(ledger, "has_money", lambda order: False)


@violates(model.STOCK_NOT_RELEASED, is_quick=True)
def keeps_the_stock(patch):
    """A cancelled order does not release its stock."""
    patch(transitions, "release_order", lambda order: None)


@violates(invariants.STOCK_SUM)
def releases_stock_twice(patch):
    """A cancelled order releases more than it held."""
    release = transitions.release_order

    def release_twice(order):
        lines = [(line.stockrecord, line.num_allocated) for line in order.lines.all()]
        release(order)
        for stock, number in lines:
            if number and stock.num_allocated >= number:
                type(stock).objects.filter(pk=stock.pk).update(
                    num_allocated=max(stock.num_allocated - 2 * number, 0)
                )

    patch(transitions, "release_order", release_twice)


@violates(model.WRONG_INVOICE)
def never_reads_a_payment_again(patch):
    """A payment that was seen once is never read again."""
    patch(payment_sync, "_is_unchanged", lambda *known: True)


def assumes_newest_first(patch):
    """Every list is taken for one with the newest first.

    Random histories seldom show this, so it has a test of its own.
    """
    always = property(lambda report: True, lambda report, value: None)
    patch(RunReport, "lists_newest_first", always)
    patch(RunReport, "is_descending", always)


@violates(model.LOST_PAYMENT)
def makes_no_full_sync(patch):
    """After the first full sync no other one is made."""
    patch(payment_sync, "FULL_SYNC_INTERVAL", dt.timedelta(days=9999))


@violates(invariants.PAID_HERE_ONLY, is_quick=True)
def trusts_deliveries(patch):
    """An invoice becomes paid because a delivery says so."""

    def process(request, body, invoice_id):
        BitsbyInvoice.objects.filter(bitsby_id=invoice_id).update(status="paid")
        return webhook._answer(200, "settled")

    patch(webhook, "_process", process)


@violates(gateway_rules.CONFIRMED_UNPAID)
def confirms_every_delivery(patch):
    """A delivery is answered with 200 whether or not it could be checked."""
    patch(webhook, "_process", lambda *known: webhook._answer(200, "settled"))


@violates(model.ENDED_UNASKED, is_quick=True)
def expires_without_asking(patch):
    """An invoice expires by the shop's clock alone."""

    def expire_overdue(*known):
        overdue = BitsbyInvoice.objects.filter(status="unpaid", expires_at__lte=timezone.now())
        overdue.update(status="expired", ended_at=timezone.now())

    patch(expiry, "expire_overdue", expire_overdue)


@violates(buyer_rules.REPLACED_UNASKED)
def replaces_without_asking(patch):
    """An order gets its second invoice while the first may be paid."""

    def replace_invoice(invoice, client):
        BitsbyInvoice.objects.filter(pk=invoice.pk).update(
            status="canceled", ended_at=timezone.now(), failure="replaced by a newer invoice"
        )

    patch(facade, "_replace_invoice", replace_invoice)


@violates(fake_gateway.TOO_SOON, is_quick=True)
def ignores_the_rate_limit(patch):
    """Requests are sent without waiting for a slot."""
    patch(factory, "acquire", lambda *known, **choices: None)
    patch(buyer_queue.Turn, "take", lambda turn: None)


@violates(fake_gateway.IN_TRANSACTION)
def asks_inside_a_transaction(patch):
    """A request is sent, and its answer awaited, while a transaction is open."""
    post = transport.Transport.post

    def post_inside(*known):
        with transaction.atomic():
            return post(*known)

    patch(transport.Transport, "post", post_inside)


@violates(shop_machine.RUN_ENDED)
def ends_the_run_at_one_answer(patch):
    """An answer about one invoice that cannot be used ends the run."""
    patch(report, "UNUSABLE_ANSWERS", ())


def stores_no_missing_answer(patch):
    """Staff do not learn that an invoice has no answer. This has a test of its own."""
    patch(invoice_refresh, "_record_no_answer", lambda *known: None)


# Random histories seldom show these six, or show something else first: each has its own test.


def never_expires_an_attempt(patch):
    """An attempt whose answer was lost stays for ever."""
    patch(attempts, "expire_attempt", lambda *known: None)


def writes_in_a_dry_run(patch):
    """A dry run settles."""
    settle = service.settle
    patch(service, "settle", lambda *known, dry_run=False: settle(*known))


def keeps_no_pause(patch):
    """An order may be asked for again at once after a failed attempt."""
    patch(attempts, "pause_end", lambda history: None)


def pauses_no_other_order(patch):
    """Failed attempts of several orders do not pause the others."""
    patch(attempts, "pause_all_orders", lambda refusal="": None)


def pauses_background_work(patch):
    """While no order may be asked for, runs wait, too."""
    acquire = factory.acquire

    def acquire_after_pause(max_wait):
        now = timezone.now()
        end = GatewayState.row().get().creating_paused_until
        rate_limit.time.sleep(max((end - now).total_seconds(), 0))
        acquire(max_wait)

    patch(factory, "acquire", acquire_after_pause)


def cancels_without_an_answer(patch):
    """An order that never got an invoice is cancelled though Bitsby has answered nothing."""
    patch(expiry, "next", lambda pages: None, raising=False)


# So do these, about refunds and rests.


def books_a_refunded_payment(patch):
    """A payment that is refunded counts as any other when it is bound."""
    _with_input(patch, refunded=False)


def books_a_refund_twice(patch):
    """A refund that was sent is taken from the ledger twice."""
    book = ledger.book_refund

    def book_twice(order, refund, sources):
        book(order, refund, sources)
        source = order.sources.get(source_type__code="bitsby")
        source.refund(refund.amount, reference=refund.transaction_hash)

    patch(ledger, "book_refund", book_twice)


def asks_for_everything_again(patch):
    """A buyer who was asked for the rest is led to an invoice for the whole total."""
    amount_due = rests.amount_due

    def whole_total(order, statuses):
        due = amount_due(order, statuses)
        return due and replace(due, amount=order.total_incl_tax)

    patch(rests, "amount_due", whole_total)


def refunds_any_amount(patch):
    """Staff may refund more than came in."""
    patch(refund_checks, "check_amount", lambda *known: None)
    patch(refund_checks, "check_left", lambda *known: None)


def never_misses_a_rest(patch):
    """A payment whose rest does not arrive is never given back to staff."""
    patch(expiry, "flag_missing_rests", lambda run: None)


def reinstates_without_stock(patch):
    """A reinstated order takes no stock. It has a test of its own, too."""
    patch(transitions, "_allocate_again", lambda line: None)


@violates(shop_machine.OVERDUE_ORDERS)
def keeps_an_order_after_dismissal(patch):
    """An order whose payment was dismissed is never cancelled."""
    patch(review, "await_payment_again", lambda order, failure: False)
