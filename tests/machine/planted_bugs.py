"""Defects to be planted in the app; the machine must notice each of them."""

from __future__ import annotations

import datetime as dt

from django.db import transaction
from django.utils import timezone

from oscar_bitsby import facade, settlement, webhook
from oscar_bitsby.accounting import ledger
from oscar_bitsby.gateway import factory, transport
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.orders import transitions
from oscar_bitsby.reconciliation import expiry, payment_sync
from oscar_bitsby.reconciliation.report import RunReport
from oscar_bitsby.settlement import attempts, cancellation, service
from oscar_bitsby.staff import review


def books_twice(patch):
    """The second invoice's money is debited once more."""
    book = ledger.book_payment

    def book_twice(order, record):
        book(order, record)
        if record.review_reason == "" and order.bitsby_invoices.count() > 1:
            source = order.sources.get(source_type__code="bitsby")
            source.debit(record.fiat_value, reference=str(record.bitsby_id))

    patch(ledger, "book_payment", book_twice)


def forgets_that_it_booked(patch):
    """What was booked is not remembered as such."""
    book = ledger.book_payment

    def book_and_forget(order, record):
        book(order, record)
        BitsbyPayment.objects.filter(pk=record.pk).update(booked_at=None)

    patch(ledger, "book_payment", book_and_forget)


def books_what_was_asked(patch):
    """The ledger gets the asked amount and not the worth of what came."""
    patch(
        "oscar_bitsby.accounting.valuation.fiat_value_of", lambda payment, invoice: invoice.amount
    )
    patch(service, "worth_of", lambda payment, invoice: invoice.amount)


def ignores_the_project(patch):
    """An answer about another project is taken for one about ours."""
    facts = settlement.SettlementInput
    patch(service, "SettlementInput", lambda **known: facts(**{**known, "same_project": True}))


def ignores_the_amount(patch):
    """It does not matter which amount Bitsby thinks it was asked for."""
    facts = settlement.SettlementInput
    patch(service, "SettlementInput", lambda **known: facts(**{**known, "same_money": True}))


def books_what_was_dismissed(patch):
    """A payment that staff took out of the inbox is booked all the same."""
    facts = settlement.SettlementInput
    patch(service, "SettlementInput", lambda **known: facts(**{**known, "dismissed": False}))


def cancels_what_may_be_paid(patch):
    """An order is cancelled whatever Bitsby says of its invoices."""
    patch(cancellation, "_can_be_open", lambda *known: False)


def cancels_over_waiting_money(patch):
    """An order is cancelled while its money waits in the inbox."""
    patch(ledger, "has_unbooked_money", lambda order: False)


def sees_no_money(patch):
    """No source ever holds money."""
    patch(ledger, "has_money", lambda order: False)


def keeps_the_stock(patch):
    """A cancelled order gives nothing back."""
    patch(transitions, "release_order", lambda order: None)


def gives_stock_back_twice(patch):
    """A cancelled order gives back more than it held."""
    give_back = transitions.release_order

    def give_twice(order):
        lines = [(line.stockrecord, line.num_allocated) for line in order.lines.all()]
        give_back(order)
        for stock, number in lines:
            if number and stock.num_allocated >= number:
                type(stock).objects.filter(pk=stock.pk).update(
                    num_allocated=max(stock.num_allocated - 2 * number, 0)
                )

    patch(transitions, "release_order", give_twice)


def knows_it_all(patch):
    """A payment that was seen once is never looked at again."""
    patch(payment_sync, "_is_unchanged", lambda *known: True)


def believes_in_newest_first(patch):
    """Every list is taken for one with the newest first."""
    always = property(lambda report: True, lambda report, value: None)
    patch(RunReport, "lists_newest_first", always)
    patch(RunReport, "is_descending", always)


def looks_near_only(patch):
    """No far look is ever made again."""
    patch(payment_sync, "FULL_SYNC_INTERVAL", dt.timedelta(days=9999))


def trusts_deliveries(patch):
    """What a delivery says of an invoice is true."""

    def deal_with(request, body, invoice_id):
        BitsbyInvoice.objects.filter(bitsby_id=invoice_id).update(status="paid")
        return webhook._answer(200, "settled")

    patch(webhook, "_process", deal_with)


def is_content_with_any_delivery(patch):
    """A delivery is answered well whether or not it could be checked."""
    patch(webhook, "_process", lambda *known: webhook._answer(200, "settled"))


def ends_without_asking(patch):
    """An invoice whose time is up by our clock is expired."""

    def last_words(settings, client, report, progress):
        overdue = BitsbyInvoice.objects.filter(status="unpaid", expires_at__lte=timezone.now())
        overdue.update(status="expired", ended_at=timezone.now())

    patch(expiry, "expire_overdue", last_words)


def replaces_without_asking(patch):
    """An order gets its second invoice while the first may be paid."""

    def retire(invoice):
        BitsbyInvoice.objects.filter(pk=invoice.pk).update(
            status="canceled", ended_at=timezone.now(), failure="replaced by a newer invoice"
        )

    patch(facade, "_replace_invoice", retire)


def never_gives_up(patch):
    """An attempt whose answer was lost stays for ever."""
    patch(attempts, "expire_attempt", lambda *known: None)
    patch(facade, "give_up", lambda *known: None)


def does_not_wait(patch):
    """Requests are sent as they come."""
    patch(factory, "acquire", lambda *known, **choices: None)


def asks_inside_a_transaction(patch):
    """A request is sent, and its answer waited for, while a transaction is open."""
    post = transport.Transport.post

    def post_inside(*known):
        with transaction.atomic():
            return post(*known)

    patch(transport.Transport, "post", post_inside)


def writes_in_a_dry_run(patch):
    """A pass that shall write nothing writes."""
    settle = settlement.settle
    patch(service, "settle", lambda *known, dry_run=False: settle(*known))


def reopens_without_stock(patch):
    """An order that is settled again takes no stock."""
    patch(transitions, "_allocate_again", lambda line: None)


def dismisses_for_good(patch):
    """An order whose money was dismissed is held by it for ever."""
    patch(review, "_unblock_cancellation", lambda locked: False)


#: Noticed at once, so that the machine's notice is tested in every run.
QUICK = (does_not_wait, trusts_deliveries, ends_without_asking, keeps_the_stock)
OTHERS = (
    asks_inside_a_transaction,
    books_twice,
    books_what_was_asked,
    books_what_was_dismissed,
    cancels_over_waiting_money,
    cancels_what_may_be_paid,
    dismisses_for_good,
    forgets_that_it_booked,
    gives_stock_back_twice,
    ignores_the_amount,
    ignores_the_project,
    is_content_with_any_delivery,
    knows_it_all,
    looks_near_only,
    never_gives_up,
    reopens_without_stock,
    replaces_without_asking,
    sees_no_money,
    writes_in_a_dry_run,
)
