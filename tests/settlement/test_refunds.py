"""The way of a refund: its address, given and removed, its end, and what is logged."""

import logging

import pytest
from oscar.core.loading import get_model

from oscar_bitsby.choices import MailCode, RefundState
from oscar_bitsby.settlement import refunds
from tests.support import bitsby
from tests.support.refunds import (
    ADDRESSES,
    left_of,
    mails_of,
    new_hash,
    refused,
    request_refund,
    unbound_payment,
    with_address,
)
from tests.support.settling import reload

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db


# The address


def test_buyer_gives_an_address_once(order, refund):
    """It is stored with its time, and the buyer is told by e-mail."""
    after = reload(refunds.set_address(refund.pk, f" {ADDRESSES['tron']} "))

    assert after.address == ADDRESSES["tron"]
    assert (after.state, after.address_given_by) == (RefundState.ADDRESS_GIVEN, None)
    assert after.address_given_at >= after.requested_at
    assert mails_of(order) == [MailCode.REFUND_REQUESTED, MailCode.REFUND_ADDRESS]
    assert refused(refunds.set_address, refund.pk, "T9yD14Nj9j7xAB4dbGeiX9h8unkKHxuWwb") == (
        "An address was already given for this refund. To change it, ask the shop."
    )


def test_staff_enter_an_address_that_they_were_told(refund, staff_user):
    """Who entered it is stored; a second one needs the first one removed."""
    refund = refunds.set_address(refund.pk, ADDRESSES["tron"], user=staff_user)

    assert refund.address_given_by == staff_user
    message = refused(refunds.set_address, refund.pk, ADDRESSES["tron"], user=staff_user)
    assert message == "An address was already given for this refund. Remove it first."


@pytest.mark.parametrize("address", ["", "<b>", ADDRESSES["ethereum"], "x" * 201])
def test_bad_address_is_refused_and_can_be_corrected(refund, address):
    """The refund still waits for an address."""
    refused(refunds.set_address, refund.pk, address)

    assert with_address(refund).state == RefundState.ADDRESS_GIVEN


def test_receiving_wallets_of_the_shop_are_refused(order, invoice_for, place, refund, staff_user):
    """Wallets of invoices and payments, this one's, the order's and others, are the shop's own."""
    others = {
        "of its payment": bitsby.wallet()["address"],
        "of another invoice of its order": "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
        "of another order": "TLa2f6VPqDgRE67v1736s7bJ8Ray5wYjU7",
        "of another payment": "TPYmHEhy5n8TCEfYGqW2rPxsghSfzghPDn",
    }
    invoice_for(order, "expired", wallets=[{"address": list(others.values())[1]}])
    invoice_for(place(), wallets=[{"name": "no address"}, {"address": list(others.values())[2]}])
    unbound_payment(address=list(others.values())[3])

    for whose, address in others.items():
        message = refused(refunds.set_address, refund.pk, address)
        assert message == (
            "This is an address of the shop. Enter an address from your own wallet."
        ), whose
        message = refused(refunds.set_address, refund.pk, address, user=staff_user)
        assert message == "This is an address of the shop. Enter an address of the buyer.", whose


@pytest.mark.parametrize("where", ["invoice", "payment"])
def test_receiving_wallets_are_known_in_any_case(invoice_for, place, staff_user, where):
    """On chains of Ethereum's type, case does not make another address."""
    own = ADDRESSES["ethereum"]
    payment = unbound_payment(blockchain="ethereum", address=own if where == "payment" else "")
    if where == "invoice":
        invoice_for(place(), wallets=[{"address": own.lower()}])
    refund = request_refund(staff_user, payment, None)

    for address in (own, own.lower(), f"0x{own[2:].upper()}"):
        assert "address of the shop" in refused(refunds.set_address, refund.pk, address)


def test_reopened_refund_asks_for_another_address(order, refund, staff_user):
    """The address is removed, earlier links become invalid, and the buyer is asked again."""
    with_address(refund)
    after = reload(refunds.reopen(refund.pk, staff_user, "wrong exchange"))

    assert (after.state, after.address) == (RefundState.REQUESTED, "")
    assert (after.address_given_at, after.address_given_by) == (None, None)
    assert after.link_version == refund.link_version + 1
    assert after.note == "sent twice\nwrong exchange"
    with_address(refund)
    assert mails_of(order) == [MailCode.REFUND_REQUESTED, MailCode.REFUND_ADDRESS] * 2


def test_reopening_needs_an_address_and_a_reason(refund, staff_user):
    """Without an address there is nothing to remove."""
    assert "waiting for an address" in refused(refunds.reopen, refund.pk, staff_user, "why")
    with_address(refund)
    assert "Enter a reason" in refused(refunds.reopen, refund.pk, staff_user, " ")


def test_renewed_link_is_mailed_and_replaces_earlier_ones(order, refund, staff_user):
    """Each link has a number of its own, and each is mailed."""
    for version in (2, 3):
        assert reload(refunds.renew_link(refund.pk, staff_user)).link_version == version

    assert mails_of(order) == [MailCode.REFUND_REQUESTED] * 3
    with_address(refund)
    assert "to be sent" in refused(refunds.renew_link, refund.pk, staff_user)


# Cancelling the refund


@pytest.mark.parametrize("is_given", [False, True])
def test_refund_that_is_not_sent_can_be_cancelled(payment, refund, staff_user, is_given):
    """The reason is kept, the money can be refunded again, and the address stays until erased."""
    if is_given:
        with_address(refund)
    after = reload(refunds.cancel(refund.pk, staff_user, "wants the mug"))

    assert (after.state, after.closed_by) == (RefundState.CANCELLED, staff_user)
    assert after.closed_at is not None
    assert after.note == "sent twice\nwants the mug"
    assert left_of(payment) == (10, 0, 10)


def test_cancelling_a_refund_needs_a_reason(refund, staff_user):
    """Others may need it later."""
    assert "Enter a reason" in refused(refunds.cancel, refund.pk, staff_user, "  ")


@pytest.mark.parametrize("state", [RefundState.SENT, RefundState.CANCELLED])
def test_closed_refund_cannot_be_changed(refund, staff_user, state):
    """No step goes on with a refund that was sent or cancelled."""
    with_address(refund)
    if state == RefundState.SENT:
        refunds.mark_sent(refund.pk, new_hash(), staff_user)
    else:
        refunds.cancel(refund.pk, staff_user, "mistake")

    for step, values in (
        (refunds.set_address, (ADDRESSES["tron"],)),
        (refunds.reopen, (staff_user, "why")),
        (refunds.renew_link, (staff_user,)),
        (refunds.mark_sent, (new_hash(), staff_user)),
        (refunds.cancel, (staff_user, "why")),
    ):
        assert f"the refund is “{state.label}”" in refused(step, refund.pk, *values)


def test_refund_that_does_not_exist_is_refused(db, staff_user):
    """A stale link leads to a message and not to an error."""
    message = refused(refunds.cancel, 0, staff_user, "why")
    assert message == "This refund does not exist."


# Logs


def test_steps_are_logged_without_the_address(payment, refund, staff_user, caplog):
    """Each step names order, refund, payment and user; an address is never logged."""
    caplog.set_level(logging.INFO, "oscar_bitsby")
    with_address(refund)
    refunds.reopen(refund.pk, staff_user, "why")
    refunds.renew_link(refund.pk, staff_user)
    refunds.set_address(refund.pk, ADDRESSES["tron"], user=staff_user)
    refunds.mark_sent(refund.pk, new_hash(), staff_user)

    ids = f"order={refund.order_number} refund={refund.pk} payment={payment.bitsby_id}"
    by_staff = f"{ids} user={staff_user.pk}"
    assert caplog.messages == [
        f"refund address given: {ids} user=None",
        f"refund reopened: {by_staff}",
        f"refund link renewed: {by_staff}",
        f"refund address given: {by_staff}",
        f"refund sent: {by_staff} amount=10.00 is_booked=True",
    ]
    assert ADDRESSES["tron"] not in caplog.text
