"""Several payments are dismissed for one reason, each by the rules of one."""

import re

import pytest
from django.urls import reverse
from django.utils import timezone

from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.staff import review
from oscar_bitsby.staff.dashboard import dismissal
from oscar_bitsby.staff.decision import ChangedMeanwhile
from tests.support import bitsby
from tests.support.staff import (
    INBOX,
    Page,
    act_url,
    admin_log_of,
    create_payments,
    log_in,
    message_after,
    perform,
    resolved,
)

pytestmark = pytest.mark.django_db

URL = reverse("oscar_bitsby:dashboard-dismiss")


def ids_of(payments):
    return [str(payment.bitsby_id) for payment in payments]


def confirm(client, page, **values):
    """Send the confirmation as rendered, with a reason; return what is then said."""
    ids = [value for name, value in hidden(page) if name == "payment"]
    return message_after(client, client.post(URL, {"payment": ids, "note": "spam"} | values))


def confirmation(client, payments):
    return Page(client.post(URL, {"payment": ids_of(payments)}))


def hidden(page):
    """Return the hidden fields of a page, also several of one name."""
    return re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.html)


def test_confirmation_shows_value_and_hash_and_decides_nothing(invoice, staff):
    """Each payment has its value, amount, reason and whole hash; nothing is done yet."""
    (estimated,) = create_payments(1, amount="9.5", wallet_id=bitsby.TRON, hash="a" * 64)
    (booked,) = create_payments(
        1, invoice=invoice, fiat_value=8, currency="USD", review_reason="short", hash="b" * 64
    )

    page = Page(staff.post(URL, {"payment": ids_of([estimated, booked])}))

    for text in ("about $9.50", "9.5 USDT", "a" * 64, "$8.00", "b" * 64, invoice.order_number):
        assert text in page.text
    assert "Dismiss 2 payments" in page.text
    assert BitsbyPayment.objects.needs_review().count() == 2


def test_chosen_payments_are_dismissed_with_one_reason_and_each_is_logged(staff):
    """Then the same list is shown again; what was not chosen stays."""
    payments = create_payments(3)
    page = Page(staff.post(URL, {"payment": ids_of(payments[:2])}))

    response = staff.post(
        f"{URL}?list=coin%3Dusdt%26sort%3Dage",
        {"payment": [value for name, value in hidden(page) if name == "payment"], "note": "spam"},
    )

    assert response["Location"] == f"{reverse(INBOX)}?coin=usdt&sort=age"
    assert "2 payments are dismissed." in message_after(staff, response)
    assert [resolved(payment) for payment in payments] == [("dismissed", "staff")] * 2 + [
        ("", None)
    ]
    assert len(admin_log_of(staff.user)) == 2


def test_payments_that_cannot_be_dismissed_are_named_with_the_reason(invoice, staff):
    """Before and after confirming: an open refund, a decision, and an order that would wait."""
    fine, refunding, decided, short = create_payments(4)
    BitsbyPayment.objects.filter(pk=short.pk).update(
        invoice=invoice, review_reason="short", booked_at=timezone.now(), fiat_value=8
    )
    invoice.order.sources.update(amount_debited=8)
    refunding.refunds.create(cryptocurrency="usdt", blockchain="tron", coin_amount=8)
    review.dismiss(decided.pk, staff.user, "earlier")
    everything = {"payment": ids_of([fine, refunding, decided, short])}

    page = Page(staff.post(URL, everything))
    text = message_after(staff, staff.post(URL, everything | {"note": "spam"}))

    assert "These payments cannot be dismissed" in page.text
    assert [value for name, value in hidden(page) if name == "payment"] == ids_of([fine])
    for said in (page.text, text):
        assert "A refund of this payment is open." in said
        assert "Already resolved: dismissed, by staff." in said
        assert f"Order {invoice.order_number} would wait with this money for ever." in said
        for payment in (refunding, decided, short):
            assert payment.hash in said
    assert "1 payment is dismissed." in text
    assert list(BitsbyPayment.objects.needs_review().order_by("pk")) == [refunding, short]
    decided.refresh_from_db()
    assert decided.resolution_note == "earlier"


def test_one_payment_that_changes_meanwhile_does_not_stop_the_others(staff, monkeypatch):
    """Each is decided under its own locks; the one that changed is named."""
    payments = create_payments(2)
    dismiss = review.dismiss

    def change_first(pk, *args):
        if pk == payments[0].pk:
            raise ChangedMeanwhile("This payment has just changed. Check it again.")
        return dismiss(pk, *args)

    monkeypatch.setattr(dismissal.review, "dismiss", change_first)

    text = message_after(staff, staff.post(URL, {"payment": ids_of(payments), "note": "spam"}))

    assert "1 payment is dismissed." in text
    assert f"Not dismissed: 8 USDT ({payments[0].hash}). This payment has just changed." in text
    assert [resolved(payment)[0] for payment in payments] == ["", "dismissed"]


def test_missing_reason_asks_again_and_keeps_the_choice(staff):
    """Nothing is done, and the confirmation is shown with the message."""
    payments = create_payments(2)

    page = Page(staff.post(URL, {"payment": ids_of(payments), "note": " "}))

    assert "Enter a reason" in page.text
    assert "2 payments are dismissed." in confirm(staff, page)


def test_too_many_payments_at_once_are_refused(staff, monkeypatch):
    """Nothing is silently left out."""
    monkeypatch.setattr(dismissal, "MAX_DISMISSED", 1)
    payments = create_payments(2)

    text = message_after(staff, staff.post(URL, {"payment": ids_of(payments), "note": "spam"}))

    assert "Choose at most 1 payments." in text
    assert BitsbyPayment.objects.needs_review().count() == 2


def test_only_those_who_may_bind_get_boxes_and_dismiss(staff):
    """Others see the list without boxes or form, and the action is refused."""
    payments = create_payments(2)
    viewer = log_in("viewer", "order.view_order")

    assert 'name="payment"' in staff.get(reverse(INBOX)).content.decode()
    page = viewer.get(reverse(INBOX)).content.decode()

    assert 'name="payment"' not in page
    assert URL not in page
    assert viewer.post(URL, {"payment": ids_of(payments), "note": "x"}).status_code == 403
    assert BitsbyPayment.objects.needs_review().count() == 2


def test_resolved_payments_have_no_boxes(staff):
    """What is resolved cannot be chosen."""
    create_payments(1, resolved_at=timezone.now(), resolution="accepted")

    assert 'name="payment"' not in staff.get(reverse(INBOX) + "?show=done").content.decode()


def test_payment_that_is_booked_after_the_confirmation_is_not_dismissed(staff):
    """The person has not seen the surplus, which is to be refunded now."""
    payments = create_payments(2)
    seen = [value for name, value in hidden(confirmation(staff, payments)) if name == "seen"]
    BitsbyPayment.objects.filter(pk=payments[0].pk).update(
        review_reason="over", booked_at=timezone.now(), fiat_value=12
    )

    text = confirm(staff, confirmation(staff, payments), seen=seen)

    assert "This payment has just changed. Check it again." in text
    assert [resolved(payment)[0] for payment in payments] == ["", "dismissed"]


def test_reason_with_a_nul_is_stored_without_it(staff):
    """PostgreSQL refuses NUL in texts, which would stop the decision with an error."""
    (payment,) = create_payments(1)
    assert "1 payment is dismissed." in confirm(
        staff, confirmation(staff, [payment]), note="spa\x00m"
    )
    payment.refresh_from_db()
    assert payment.resolution_note == "spam"


def test_single_decision_about_what_has_changed_is_asked_again(staff):
    """Its page is shown with the new reason, and nothing is decided."""
    (payment,) = create_payments(1)

    page = Page(staff.post(act_url(payment, "dismiss"), {"note": "spam", "seen": "mismatch"}))

    assert "This payment has just changed. Check it again." in page.text
    assert resolved(payment)[0] == ""
    assert "Dismissed" in perform(staff, payment, "dismiss", note="spam")
